// Small random models by every table of functions and several numbers of threads: prompts in pieces, batches and single
// tokens give the same bits as scalar code reading token by token. Made to run under sanitizers, without Python.
// Prints the tables it compared; exits with 1 at a difference.
#include <cstdio>
#include <cstdlib>
#include <random>

#include "../model.h"

using namespace unmul;

namespace {

// No size is a multiple of a vector, a tile or five: every row ends in padding.
constexpr Shape kShapes[] = {{2, 70, 70, 131, 203, 1e-6f, false, false}, {2, 70, 140, 131, 203, 1e-6f, true, true}};
constexpr int kSequences = 3, kTokens = 37;

using Floats = std::vector<float>;

std::mt19937 random_bits(1);

Floats normals(size_t size, float mean, float deviation) {
    std::normal_distribution<float> draw(mean, deviation);
    Floats values(size);
    for (float& value : values) value = draw(random_bits);
    return values;
}

void set_projection(Model& model, int layer, const char* name) {
    Projection& projection = model.projection(layer, name);
    std::vector<uint8_t> packed(size_t(projection.weight.rows) * ((projection.weight.columns + 4) / 5));
    for (uint8_t& byte : packed) byte = uint8_t(random_bits() % 243);
    projection.weight.scale = 0.05f;
    if (!fill_from_trits(projection.weight, packed.data(), model.pool())) std::abort();
    const Floats gain = normals(projection.weight.columns, 1, 0.2f);
    model.set_vector(layer, name, gain.data(), gain.size());
}

void set_vector(Model& model, int layer, const char* name, int size, float mean, float deviation) {
    const Floats values = normals(size, mean, deviation);
    model.set_vector(layer, name, values.data(), values.size());
}

// The same weights whatever the table and the threads.
void fill(Model& model) {
    random_bits.seed(2);
    const Shape& shape = model.shape();
    for (int layer = 0; layer < shape.layers; ++layer) {
        for (const char* name : {"i", "f", "g", "o", "gate", "up", "down"}) set_projection(model, layer, name);
        for (const char* name : {"attn_norm", "mlp_norm"}) set_vector(model, layer, name, shape.width, 1, 0.2f);
        set_vector(model, layer, "g_norm", shape.mixer, 1, 0.2f);
        set_vector(model, layer, "bound", shape.mixer, 0.3f, 0.05f);
    }
    set_projection(model, shape.layers, "head");
    set_vector(model, shape.layers, "norm", shape.width, 1, 0.2f);
}

// Logits [S, T, V] after every token of every sequence, and the states [S, L, E] at the end.
struct Outcome {
    explicit Outcome(const Shape& shape)
        : logits(size_t(kSequences) * kTokens * shape.vocabulary),
          states(kSequences, Floats(size_t(shape.layers) * shape.mixer)) {}
    bool operator==(const Outcome&) const = default;
    float* after(int sequence, int token) {
        return logits.data() + logits.size() / kSequences * sequence + logits.size() / (kSequences * kTokens) * token;
    }
    Floats logits;
    std::vector<Floats> states;
};

const float* embedding(const Model& model, const Floats& x, int sequence, int token) {
    return x.data() + (size_t(sequence) * kTokens + token) * model.shape().width;
}

// Each sequence alone, in pieces of at most `piece` tokens.
Outcome in_pieces(Model& model, const Floats& x, int piece) {
    Outcome outcome(model.shape());
    for (int s = 0; s < kSequences; ++s)
        for (int t = 0; t < kTokens; t += piece) {
            const int count = std::min(piece, kTokens - t);
            model.forward(embedding(model, x, s, t), count, {outcome.states[s].data()}, outcome.after(s, t), count);
        }
    return outcome;
}

// All sequences together, a token of each at a time.
Outcome in_batch(Model& model, const Floats& x) {
    const int width = model.shape().width, vocabulary = model.shape().vocabulary;
    Outcome outcome(model.shape());
    std::vector<float*> states;
    for (Floats& state : outcome.states) states.push_back(state.data());
    Floats row(size_t(kSequences) * width), logits(size_t(kSequences) * vocabulary);
    for (int t = 0; t < kTokens; ++t) {
        for (int s = 0; s < kSequences; ++s)
            std::copy_n(embedding(model, x, s, t), width, row.begin() + size_t(s) * width);
        model.forward(row.data(), kSequences, states, logits.data(), kSequences);
        for (int s = 0; s < kSequences; ++s)
            std::copy_n(logits.begin() + size_t(s) * vocabulary, vocabulary, outcome.after(s, t));
    }
    return outcome;
}

void require(bool same, const Model& model, int threads, const char* what) {
    if (same) return;
    std::printf("%s, %d threads, token mixer of %d: %s differs\n", model.kernels().name, threads, model.shape().mixer, what);
    std::exit(1);
}

// Every number of threads against what scalar code found.
void compare(const Shape& shape, const Kernels& kernels, const Floats& x, const Outcome& expected) {
    for (int threads : {1, 2, 3, 5}) {
        Model model(shape, kernels, threads);
        fill(model);
        require(in_pieces(model, x, 1) == expected, model, threads, "decode");
        require(in_pieces(model, x, 16) == expected, model, threads, "a prompt in pieces");
        require(in_pieces(model, x, kTokens) == expected, model, threads, "a prompt");
        require(in_batch(model, x) == expected, model, threads, "a batch");
    }
}

}  // namespace

int main() {
    for (const Shape& shape : kShapes) {
        const Floats x = normals(size_t(kSequences) * kTokens * shape.width, 0, 1);
        Model plain(shape, *usable_kernels().front(), 1);
        fill(plain);
        const Outcome expected = in_pieces(plain, x, 1);
        for (const Kernels* kernels : usable_kernels()) compare(shape, *kernels, x, expected);
    }
    for (const Kernels* kernels : usable_kernels()) std::printf("%s\n", kernels->name);
}
