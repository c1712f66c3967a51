// The engine as Python sees it (unmul.engine._native). Shapes and types are checked here, meanings in engine/cpu.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <stdexcept>

#include "model.h"
#include "sampler.h"

namespace nb = nanobind;
using namespace unmul;

namespace {

template <class T, class... Traits>
using Array = nb::ndarray<T, nb::device::cpu, nb::c_contig, Traits...>;
template <class T>
using Vector = Array<T, nb::ndim<1>>;
template <class T>
using Table = Array<T, nb::ndim<2>>;

using ReleaseGil = nb::call_guard<nb::gil_scoped_release>;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

const Kernels& kernels_named(const std::string& isa) {
    const Kernels* kernels = find_kernels(isa);
    require(kernels, "unknown instruction set");
    return *kernels;
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->name);
    return names;
}

void fill(const Matrix& matrix, const Table<const uint8_t>& packed, Pool& pool) {
    require(packed.shape(0) == size_t(matrix.rows) && packed.shape(1) == size_t((matrix.columns + 4) / 5),
            "packed weights have another shape");
    require(matrix.columns <= kMaxColumns, "more columns than an int32 sum can hold");
    require(fill_from_trits(matrix, packed.data(), pool), "a byte of packed weights is not five ternary digits");
}

// q [T, K] as activations, padded with zeros, and their sums.
struct Input {
    Input(const Table<const int8_t>& q, const Matrix& matrix, const Kernels& kernels)
        : tokens(int(q.shape(0))), arena(size(tokens, matrix.padded_columns())) {
        require(q.shape(1) == size_t(matrix.columns), "activations have another width");
        const int stride = matrix.padded_columns();
        activations = {arena.take<int8_t>(size_t(tokens) * stride), nullptr, arena.take<int32_t>(tokens), stride,
                       kernels.grouping};
        std::vector<int8_t> row(stride);
        for (int t = 0; t < tokens; ++t) {
            std::copy_n(q.data() + size_t(t) * matrix.columns, matrix.columns, row.begin());
            activations.place(t, tokens, row.data());
            activations.sum[t] = std::accumulate(row.begin(), row.end(), int32_t(0));
        }
    }
    static size_t size(int tokens, int stride) { return size_t(tokens) * stride + Arena::rounded(tokens * sizeof(int32_t)); }

    int tokens;
    Arena arena;
    Activations activations;
};

// out [T, at least N rounded up to 16], as the kernels write it: rows 64-byte aligned.
void product(const Matrix& matrix, const Kernels& kernels, Pool& pool, const Table<const int8_t>& q, Table<int32_t>& out) {
    const Input input(q, matrix, kernels);
    require(out.shape(0) == size_t(input.tokens) && out.shape(1) >= size_t(matrix.panels()) * kTileRows &&
                out.shape(1) % kTileRows == 0 && reinterpret_cast<uintptr_t>(out.data()) % 64 == 0,
            "the output must be 64-byte aligned, [T, rows rounded up to 16]");
    pool.run([&](int thread) {
        kernels.product(matrix, input.activations, input.tokens, pool.share(matrix.panels(), thread), out.data(),
                        int(out.shape(1)));
    });
}

// A single projection, for tests and the self-test: the same layout and kernels as in a model.
class LoneMatrix {
public:
    LoneMatrix(const Table<const uint8_t>& packed, int columns) {
        require(columns > 0 && columns <= kMaxColumns, "columns out of range");
        matrix_.rows = int(packed.shape(0));
        matrix_.columns = columns;
        arena_ = Arena(matrix_.bytes());
        matrix_.tiles = arena_.take<uint8_t>(matrix_.bytes());
        Pool alone(1);
        fill(matrix_, packed, alone);
    }
    void product(const std::string& isa, Table<const int8_t> q, Table<int32_t> out) {
        Pool alone(1);
        ::product(matrix_, kernels_named(isa), alone, q, out);
    }

private:
    Matrix matrix_;
    Arena arena_;
};

// Rows of floats are copied to aligned, zero-padded memory, as the kernels want them.
struct Row {
    explicit Row(const Vector<const float>& x)
        : size(padded(int(x.shape(0)), kColumnPadding)), arena(2 * size * sizeof(float)) {
        in = arena.take<float>(size);
        out = arena.take<float>(size);
        std::memcpy(in, x.data(), x.shape(0) * sizeof(float));
    }
    int size;
    Arena arena;
    float *in, *out;
};

float quantise(const std::string& isa, Vector<const float> x, Vector<int8_t> q) {
    require(q.shape(0) == x.shape(0), "activations have another width");
    const Kernels& kernels = kernels_named(isa);
    Row row(x), ones(x);
    std::fill(ones.in, ones.in + x.shape(0), 1.0f);
    const float largest = kernels.normalise(row.in, 1.0f, ones.in, row.size, row.out);
    auto* codes = reinterpret_cast<int8_t*>(row.in);
    const Quantised result = kernels.quantise(row.out, largest, row.size, codes);
    std::memcpy(q.data(), codes, q.shape(0));
    return result.scale;
}

void exponential(const std::string& isa, Vector<const float> x, Vector<float> y) {
    require(y.shape(0) == x.shape(0), "the output has another length");
    Row row(x);
    kernels_named(isa).exponential(row.in, row.out, row.size);
    std::memcpy(y.data(), row.out, y.shape(0) * sizeof(float));
}

void set_projection(Model& model, int layer, const std::string& name, Table<const uint8_t> packed, float scale) {
    Projection& projection = model.projection(layer, name);
    projection.weight.scale = scale;
    fill(projection.weight, packed, model.pool());
}

void set_vector(Model& model, int layer, const std::string& name, Vector<const float> values) {
    model.set_vector(layer, name, values.data(), values.shape(0));
}

void model_product(Model& model, int layer, const std::string& name, Table<const int8_t> q, Table<int32_t> out) {
    product(model.projection(layer, name).weight, model.kernels(), model.pool(), q, out);
}

void forward(Model& model, Table<const float> x, std::vector<Table<float>> states, Table<float> logits) {
    const size_t tokens = x.shape(0), rows = logits.shape(0);
    const Shape& shape = model.shape();
    require(tokens > 0 && x.shape(1) == size_t(shape.width), "embeddings have another shape");
    require(rows <= tokens && logits.shape(1) == size_t(shape.vocabulary), "logits have another shape");
    require(!states.empty() && tokens % states.size() == 0, "the sequences are not equally long");
    std::vector<float*> pointers;
    for (const Table<float>& state : states) {
        require(state.shape(0) == size_t(shape.layers) && state.shape(1) == size_t(shape.mixer), "state has another shape");
        pointers.push_back(state.data());
    }
    nb::gil_scoped_release released;
    model.forward(x.data(), int(tokens), pointers, logits.data(), int(rows));
}

std::map<std::string, double> phases(const Model& model) {
    std::map<std::string, double> seconds;
    for (int phase = 0; phase < kPhases; ++phase) seconds[kPhaseNames[phase]] = model.seconds(Phase(phase));
    return seconds;
}

int sample_token(Vector<const float> logits, double temperature, int top_k, double top_p, double uniform) {
    require(logits.shape(0) > 0, "no logits");
    return sample(logits.data(), logits.shape(0), {temperature, top_k, top_p}, uniform);
}

Model* make_model(const std::string& isa, int threads, int layers, int width, int mixer, int hidden, int vocabulary,
                  float eps, bool shared_norm, bool state_norm) {
    require(threads > 0 && layers > 0 && width > 0 && hidden > 0 && vocabulary > 0, "sizes must be positive");
    require(mixer >= width && mixer % width == 0, "mixer must be a multiple of width");
    require(mixer <= kMaxColumns && hidden <= kMaxColumns, "more columns than an int32 sum can hold");
    return new Model({layers, width, mixer, hidden, vocabulary, eps, shared_norm, state_norm}, kernels_named(isa), threads);
}

}  // namespace

NB_MODULE(_native, module) {
    using nb::arg;
    module.def("instruction_sets", &instruction_sets);
    module.def("sample", &sample_token, arg("logits"), arg("temperature"), arg("top_k"), arg("top_p"), arg("uniform"),
               ReleaseGil());
    module.def("quantise", &quantise, arg("isa"), arg("x"), arg("q").noconvert());
    module.def("exponential", &exponential, arg("isa"), arg("x"), arg("y").noconvert());
    nb::class_<LoneMatrix>(module, "Matrix")
        .def(nb::init<const Table<const uint8_t>&, int>(), arg("packed"), arg("columns"))
        .def("product", &LoneMatrix::product, arg("isa"), arg("q"), arg("out").noconvert());
    nb::class_<Model>(module, "Model")
        .def(nb::new_(&make_model), arg("isa"), nb::kw_only(), arg("threads"), arg("layers"), arg("width"),
             arg("mixer"), arg("hidden"), arg("vocabulary"), arg("eps"), arg("shared_norm"), arg("state_norm"))
        .def_prop_ro("weight_bytes", &Model::weight_bytes)
        .def("set_projection", &set_projection, arg("layer"), arg("name"), arg("packed"), arg("scale"), ReleaseGil())
        .def("set_vector", &set_vector, arg("layer"), arg("name"), arg("values"))
        .def("product", &model_product, arg("layer"), arg("name"), arg("q"), arg("out").noconvert(), ReleaseGil())
        .def("forward", &forward, arg("x"), arg("states").noconvert(), arg("logits").noconvert())
        .def("profile", &Model::profile, arg("on"))
        .def("phases", &phases)
        .def("read_bandwidth", &Model::read_bandwidth, arg("seconds"), ReleaseGil());
}
