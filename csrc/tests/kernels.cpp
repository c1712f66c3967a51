// Every table of functions that this CPU can run against plain loops and the scalar table, to the bit, on random data:
// for machines that the Python tests do not reach. Prints the tables it compared; exits with 1 at a difference.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "../arena.h"
#include "../kernels/kernels.h"

#ifdef UNMUL_ONLY  // one table, whatever the dispatcher thinks of this CPU
namespace unmul {
extern const Kernels kScalar, UNMUL_ONLY;
const std::vector<const Kernels*>& usable_kernels() {
    static const std::vector<const Kernels*> tables{&kScalar, &UNMUL_ONLY};
    return tables;
}
}  // namespace unmul
#endif

using namespace unmul;

namespace {

std::mt19937 random_bits(1);

int below(int limit) { return int(random_bits() % unsigned(limit)); }

void require(bool same, const char* table, const char* what, int size) {
    if (same) return;
    std::printf("%s: %s differs at size %d\n", table, what, size);
    std::exit(1);
}

struct Floats {
    explicit Floats(int size) : arena(Arena::rounded(size * sizeof(float))), at(arena.take<float>(size)) {
        for (int k = 0; k < size; ++k) at[k] = float(below(20001) - 10000) / 1000;
    }
    Arena arena;
    float* at;
};

// A random matrix in the engine's layout, and its codes.
struct Weights {
    Weights(int rows, int columns) : codes(size_t(rows) * columns) {
        matrix.rows = rows;
        matrix.columns = columns;
        arena = Arena(matrix.bytes());
        matrix.tiles = arena.take<uint8_t>(matrix.bytes());
        const int row_bytes = (columns + 4) / 5;
        std::vector<uint8_t> packed(size_t(rows) * row_bytes);
        for (int n = 0; n < rows; ++n)
            for (int k = columns - 1; k >= 0; --k) {
                const int code = below(3);
                codes[size_t(n) * columns + k] = code - 1;
                uint8_t& byte = packed[size_t(n) * row_bytes + k / 5];
                byte = uint8_t(3 * byte + code);
            }
        Pool alone(1);
        require(fill_from_trits(matrix, packed.data(), alone), "layout", "packed byte", columns);
    }
    std::vector<int> codes;
    Matrix matrix;
    Arena arena;
};

void check_product(const Kernels& kernels, const Weights& weights, int tokens) {
    const Matrix& w = weights.matrix;
    const int stride = w.padded_columns(), width = w.panels() * kTileRows;
    Arena arena(size_t(tokens) * stride + Arena::rounded(tokens * 4) + size_t(tokens) * width * 4);
    const Activations x{arena.take<int8_t>(size_t(tokens) * stride), nullptr, arena.take<int32_t>(tokens), stride,
                        kernels.grouping};
    int32_t* out = arena.take<int32_t>(size_t(tokens) * width);
    std::vector<int32_t> expected(size_t(tokens) * w.rows);
    std::vector<int8_t> row(stride);
    for (int t = 0; t < tokens; ++t) {
        for (int k = 0; k < w.columns; ++k) {
            row[k] = int8_t(below(256) - 128);
            x.sum[t] += row[k];
            for (int n = 0; n < w.rows; ++n) expected[t * w.rows + n] += row[k] * weights.codes[size_t(n) * w.columns + k];
        }
        x.place(t, tokens, row.data());
    }
    kernels.product(w, x, tokens, {0, w.panels()}, out, width);
    for (int t = 0; t < tokens; ++t)
        require(!std::memcmp(out + size_t(t) * width, &expected[t * w.rows], w.rows * 4), kernels.name, "product", tokens);
}

// All float functions of a table one after another on the same data: the bytes that they leave.
std::vector<char> floats(const Kernels& kernels, int size) {
    random_bits.seed(size);
    Floats x(size), gain(size), n(size), gate(size), up(size), i(size), f(size), h(size), bound(size), residual(size);
    Arena arena(size);
    auto* q = arena.take<int8_t>(size);
    const float r = kernels.inverse_rms(x.at, size, size - 3, 1e-6f);
    const float largest = kernels.normalise(x.at, r, gain.at, size, n.at);
    const Quantised done = kernels.quantise(n.at, largest, size, q);
    kernels.exponential(x.at, x.at, size);
    const auto whole = [&](Floats& buffer) {
        for (int k = 0; k < size; ++k) reinterpret_cast<int32_t*>(buffer.at)[k] = below(20001) - 10000;
        return reinterpret_cast<int32_t*>(buffer.at);
    };
    const Range all{0, size};
    kernels.swiglu(whole(gate), whole(up), 3e-4f, all);
    kernels.recur({1, size, all, whole(i), whole(f), &r, &r, bound.at, h.at});
    kernels.multiply(n.at, i.at, size);
    kernels.add_scaled(residual.at, whole(up), 3e-4f, all);
    kernels.dequantise(whole(f), r, all);
    std::vector<char> bytes(reinterpret_cast<const char*>(&done), reinterpret_cast<const char*>(&done + 1));
    for (const Floats* each : {&x, &n, &gate, &i, &f, &h, &residual})
        bytes.insert(bytes.end(), reinterpret_cast<char*>(each->at), reinterpret_cast<char*>(each->at + size));
    bytes.insert(bytes.end(), reinterpret_cast<char*>(q), reinterpret_cast<char*>(q + size));
    return bytes;
}

}  // namespace

int main() {
    const Kernels& scalar = *usable_kernels().front();
    for (const Kernels* kernels : usable_kernels()) {
        for (const auto& [rows, columns] : {std::pair{1, 1}, {17, 63}, {33, 65}, {48, 321}, {50, 1000}, {131, 2049}}) {
            const Weights weights(rows, columns);
            for (int tokens : {1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 23, 32, 41, 129, 150}) check_product(*kernels, weights, tokens);
        }
        for (int size : {64, 320, 1024}) require(floats(*kernels, size) == floats(scalar, size), kernels->name, "a float", size);
        std::printf("%s\n", kernels->name);
    }
}
