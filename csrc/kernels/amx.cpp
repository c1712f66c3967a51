// Same contract as scalar.cpp, on the tile registers of AMX for several tokens (s8 activations x u8 weights, int32 sums, no
// saturation). One token is bound by memory, and a plain row to every table: it goes to avx512vnni.cpp.
//
// A tile register holds 64 columns of 16 tokens, or of 16 rows of weights in words of four columns: one crumb of a tile
// of the layout is such a word of all rows. Weights are unpacked into the first-level cache, a strip of columns at a time.
#include <immintrin.h>

#include <cstring>

#include "kernels.h"

#define UNMUL_WIDTH 16

namespace unmul {

extern const Kernels kAvx512Vnni;

namespace {

#include "lanes.h"

#include "elementwise.h"

constexpr int kRegisterRows = 16;
constexpr int kRegisterColumns = 64;
constexpr int kRegisterBytes = 1024;
constexpr int kRegisterSums = kRegisterBytes / sizeof(int32_t);
constexpr int kStripBytes = 8 * kRegisterBytes;  // a sixth of the cache: larger strips were slower, smaller ones too
constexpr int kSlabTokens = 128;                 // whose sums lie beside the strip

// In assembly, because GCC 12's intrinsics do not say which memory they read: it took a configuration away as unused.
template <int N>
UNMUL_INLINE void load_register(const void* from) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(size_t(64)), "i"(N) : "memory");
}

template <int N>
UNMUL_INLINE void store_register(void* to) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(size_t(64)), "i"(N) : "memory");
}

template <int Sums, int Tokens, int Weights>
UNMUL_INLINE void multiply_registers() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sums), "i"(Tokens), "i"(Weights));
}

// Calls f with a Constant<0> to a Constant<N - 1>: the numbers of registers are part of the instruction.
template <int I>
struct Constant {
    static constexpr int value = I;
};

template <int N, int I = 0, class Function>
UNMUL_INLINE void repeat(Function f) {
    if constexpr (I < N) {
        f(Constant<I>{});
        repeat<N, I + 1>(f);
    }
}

// What a thread keeps in the first-level cache: sums of a slab [groups, panels, 16 tokens, 16 rows], and weights of a strip,
// one byte each [panels, columns / 64, a register].
struct alignas(64) Cache {
    int32_t sums[2 * kSlabTokens * kTileRows];
    uint8_t weights[kStripBytes];
    int even = 0, odd = 0;  // rows that the registers are configured for
};

// Rows in use of the registers: 0 to 3 are sums and 4 and 5 activations, odd ones of the second group of a pair; 6 and 7
// are weights.
void configure(Cache& cache, int even, int odd) {
    if (cache.even == even && cache.odd == odd) return;
    struct alignas(64) {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {};
    } config;
    for (int n = 0; n < 6; ++n) config.rows[n] = uint8_t(n % 2 ? odd : even);
    config.rows[6] = config.rows[7] = kRegisterRows;
    asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
    cache.even = even;
    cache.odd = odd;
}

UNMUL_INLINE void unpack(const uint8_t* tile, int columns, uint8_t* to) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    for (int k = 0; k < columns; k += kTileColumns, tile += kTileBytes) {
        prefetch(tile);
        __m512i weights = _mm512_load_si512(tile);
        for (int c = 0; c < 4; ++c, to += kTileBytes) {
            _mm512_store_si512(to, _mm512_and_si512(weights, mask));
            weights = _mm512_srli_epi16(weights, 2);
        }
    }
}

// Sums of G groups x P panels += activations x weights over a strip; a group's next register of activations lies `step`
// bytes on.
template <int G, int P>
void multiply(const int8_t* (&q)[G], const size_t (&step)[G], const uint8_t* weights, int columns, int32_t* sums) {
    const auto each_sum = [&](auto f) {
        repeat<G>([&](auto g) { repeat<P>([&](auto p) { f(g, p, sums + (g.value * P + p.value) * kRegisterSums); }); });
    };
    each_sum([](auto g, auto p, int32_t* at) { load_register<decltype(p)::value * G + decltype(g)::value>(at); });
    for (int k = 0; k < columns; k += kRegisterColumns, weights += kRegisterBytes) {
        repeat<G>([&](auto g) {
            load_register<4 + decltype(g)::value>(q[g.value]);
            q[g.value] += step[g.value];
        });
        repeat<P>([&](auto p) {
            constexpr int kP = decltype(p)::value;
            load_register<6 + kP % 2>(weights + size_t(kP) * columns * kTileRows);
            repeat<G>([](auto g) {
                constexpr int kG = decltype(g)::value;
                multiply_registers<kP * G + kG, 4 + kG, 6 + kP % 2>();
            });
        });
    }
    each_sum([](auto g, auto p, int32_t* at) { store_register<decltype(p)::value * G + decltype(g)::value>(at); });
}

// One product of `count` tokens from `first` on, of all tokens of x, with P panels.
template <int P>
struct Slab {
    const Matrix& w;
    const Activations& x;
    int all, first, count, panel;
    Cache& cache;

    static constexpr int kColumns = kStripBytes / (P * kTileRows);  // of a strip

    int32_t* sums(int t, int p) const {
        return cache.sums + (t / kRegisterRows * P + p) * kRegisterSums + t % kRegisterRows * kTileRows;
    }

    template <int G>
    void multiply_groups(int t, int k, int columns) const {
        const int8_t* q[G];
        size_t step[G];
        int rows[G];
        for (int g = 0; g < G; ++g) {
            rows[g] = x.group(first + t + g * kRegisterRows, all);
            q[g] = x.token(first + t + g * kRegisterRows) + size_t(k) * rows[g];
            step[g] = size_t(rows[g]) * kRegisterColumns;
        }
        configure(cache, rows[0], rows[G - 1]);
        multiply<G, P>(q, step, cache.weights, columns, sums(t, 0));
    }

    void run(int32_t* out, int stride) const {
        for (int t = 0; t < count; ++t)
            for (int p = 0; p < P; ++p) _mm512_store_si512(sums(t, p), _mm512_set1_epi32(-x.sum[first + t]));
        for (int k = 0; k < w.padded_columns(); k += kColumns) {
            const int rest = w.padded_columns() - k, columns = rest < kColumns ? rest : kColumns;
            for (int p = 0; p < P; ++p)
                unpack(w.panel(panel + p) + k / kTileColumns * kTileBytes, columns, cache.weights + p * columns * kTileRows);
            int t = 0;
            if constexpr (P <= 2)  // four sums in all
                for (; t + kRegisterRows < count; t += 2 * kRegisterRows) multiply_groups<2>(t, k, columns);
            for (; t < count; t += kRegisterRows) multiply_groups<1>(t, k, columns);
        }
        for (int t = 0; t < count; ++t)
            for (int p = 0; p < P; ++p)
                _mm512_store_si512(out + size_t(first + t) * stride + (panel + p) * kTileRows, _mm512_load_si512(sums(t, p)));
    }
};

template <int P>
void all_panels(const Matrix& w, const Activations& x, int all, int first, int count, Range panels, Cache& cache,
                int32_t* out, int stride) {
    int panel = panels.first;
    for (; panel + P <= panels.last; panel += P) Slab<P>{w, x, all, first, count, panel, cache}.run(out, stride);
    for (; panel < panels.last; ++panel) Slab<1>{w, x, all, first, count, panel, cache}.run(out, stride);
}

void product(const Matrix& w, const Activations& x, int tokens, Range panels, int32_t* out, int stride) {
    if (tokens == 1) return kAvx512Vnni.product(w, x, tokens, panels, out, stride);
    Cache cache;
    for (int first = 0; first < tokens; first += kSlabTokens) {
        const int rest = tokens - first, count = rest < kSlabTokens ? rest : kSlabTokens;
        if (count <= kRegisterRows)
            all_panels<4>(w, x, tokens, first, count, panels, cache, out, stride);
        else
            all_panels<2>(w, x, tokens, first, count, panels, cache, out, stride);
    }
    asm volatile("tilerelease");  // registers in use would make every switch of threads dearer
}

}  // namespace

extern const Kernels kAmx;
const Kernels kAmx = table("amx", {kRegisterRows, kRegisterColumns}, product);

}  // namespace unmul
