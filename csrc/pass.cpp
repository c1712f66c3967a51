#include "pass.h"

#include <algorithm>
#include <cstring>

namespace unmul {
namespace {

constexpr float kBitLinearEps = 1e-6f;
constexpr int kHeadTokens = 64;  // logits are wide: only so many tokens of integers at a time

float* as_floats(int32_t* buffer) { return reinterpret_cast<float*>(buffer); }

}  // namespace

Workspace::Workspace(const Shape& shape, const Kernels& kernels, int capacity, int threads)
    : tokens(capacity),
      width(padded(shape.width, kColumnPadding)),
      mixer(padded(shape.mixer, kColumnPadding)),
      hidden(padded(shape.hidden, kColumnPadding)),
      vocabulary(padded(shape.vocabulary, kColumnPadding)),
      grouping_(kernels.grouping),
      stride_(std::max(mixer, hidden)),
      arena_(bytes(threads)),
      own_(threads) {
    x = arena_.take<float>(size_t(tokens) * width);
    for (int32_t** buffer : {&i, &f, &g}) *buffer = arena_.take<int32_t>(size_t(tokens) * mixer);
    for (int32_t** buffer : {&gate, &up}) *buffer = arena_.take<int32_t>(size_t(tokens) * hidden);
    logits = arena_.take<int32_t>(size_t(std::min(tokens, kHeadTokens)) * vocabulary);
    h = arena_.take<float>(mixer);
    for (Activations& input : shared_) input = activations(tokens);
    for (Own& own : own_) {
        for (Activations& input : own.input) input = activations(1);
        for (float*& row : own.normed) row = arena_.take<float>(stride_);
    }
}

size_t Workspace::bytes(int threads) const {
    const size_t rows = size_t(tokens) * (width + 3 * mixer + 2 * hidden) + size_t(std::min(tokens, kHeadTokens)) * vocabulary;
    const auto inputs = [&](size_t count) { return 3 * (count * stride_ + 2 * Arena::rounded(count * sizeof(float))); };
    return (rows + mixer) * sizeof(float) + inputs(tokens) + threads * (inputs(1) + 2 * stride_ * sizeof(float));
}

Activations Workspace::activations(int count) {
    return {arena_.take<int8_t>(size_t(count) * stride_), arena_.take<float>(count), arena_.take<int32_t>(count), stride_,
            grouping_};
}

Pass::Pass(Model& model, Workspace& workspace, const Chunk& chunk, int thread, Stopwatch& watch)
    : model_(model), kernels_(model.kernels()), space_(workspace), chunk_(chunk), thread_(thread), watch_(watch) {}

void Pass::run() {
    watch_.start();
    enter();
    for (int l = 0; l < model_.shape().layers; ++l) {
        mix_tokens(l);
        mix_channels(model_.layer(l));
    }
    for (int row = 0; row < chunk_.rows; row += kHeadTokens) predict(row, std::min(kHeadTokens, chunk_.rows - row));
}

// The rows of x take their padded places.
void Pass::enter() {
    const int width = model_.shape().width;
    const Range columns = model_.pool().share(width, thread_);
    for (int t = 0; t < chunk_.tokens; ++t) {
        const float* row = chunk_.x + size_t(t) * width;
        std::copy(row + columns.first, row + columns.last, space_.x + size_t(t) * space_.width + columns.first);
    }
    watch_.lap(kEmbeddings);
    barrier();
}

void Pass::mix_tokens(int index) {
    const Layer& layer = model_.layer(index);
    const Shape& shape = model_.shape();
    const int width = shape.width, tokens = chunk_.tokens;
    float* row = space_.normed(thread_, 0);
    each_token(tokens, [&](int t) {
        normalise(space_.x + size_t(t) * space_.width, width, layer.attn_norm, row);
        const float shared = kernels_.inverse_rms(row, space_.width, width, kBitLinearEps);
        const float scale = quantise(row, shared, layer.i, 0, tokens, t);
        if (shape.shared_norm) {  // the same integers: only the factors differ
            space_.input(1, tokens, thread_).factor[t] = layer.f.weight.scale / scale;
            space_.input(2, tokens, thread_).factor[t] = layer.g.weight.scale / scale;
        } else {
            quantise(row, shared, layer.f, 1, tokens, t);
            quantise(row, shared, layer.g, 2, tokens, t);
        }
    });
    product(layer.i, 0, tokens, space_.i, space_.mixer);
    product(layer.f, shape.shared_norm ? 0 : 1, tokens, space_.f, space_.mixer);
    product(layer.g, shape.shared_norm ? 0 : 2, tokens, space_.g, space_.mixer);
    recur(index);
    barrier();
    const float *h = as_floats(space_.i), *g = as_floats(space_.g);  // one of them has passed SiLU
    each_token(tokens, [&](int t) {
        const size_t at = size_t(t) * space_.mixer;
        normalise((shape.state_norm ? h : g) + at, shape.mixer, layer.g_norm, row);
        kernels_.multiply(row, (shape.state_norm ? g : h) + at, space_.mixer);
        watch_.lap(kGates);
        quantise(row, kernels_.inverse_rms(row, space_.mixer, shape.mixer, kBitLinearEps), layer.o, 0, tokens, t);
    });
    add_residual(layer.o);
}

void Pass::mix_channels(const Layer& layer) {
    const int width = model_.shape().width, hidden = model_.shape().hidden, tokens = chunk_.tokens;
    float* row = space_.normed(thread_, 0);
    each_token(tokens, [&](int t) {
        normalise(space_.x + size_t(t) * space_.width, width, layer.mlp_norm, row);
        quantise(row, kernels_.inverse_rms(row, space_.width, width, kBitLinearEps), layer.gate, 0, tokens, t);
    });
    product(layer.gate, 0, tokens, space_.gate, space_.hidden);
    product(layer.up, 0, tokens, space_.up, space_.hidden);
    const float* factor = space_.input(0, tokens, thread_).factor;
    for (int t = 0; t < tokens; ++t) {
        const size_t at = size_t(t) * space_.hidden;
        kernels_.swiglu(space_.gate + at, space_.up + at, factor[t], columns_of(layer.gate));
    }
    watch_.lap(kGates);
    barrier();
    each_token(tokens, [&](int t) {
        const float* z = as_floats(space_.gate) + size_t(t) * space_.hidden;
        quantise(z, kernels_.inverse_rms(z, space_.hidden, hidden, kBitLinearEps), layer.down, 0, tokens, t);
    });
    add_residual(layer.down);
}

void Pass::predict(int first_row, int count) {
    const int width = model_.shape().width, vocabulary = model_.shape().vocabulary;
    float* row = space_.normed(thread_, 0);
    each_token(count, [&](int t) {
        normalise(space_.x + size_t(chunk_.tokens - chunk_.rows + first_row + t) * space_.width, width, model_.norm(), row);
        quantise(row, kernels_.inverse_rms(row, space_.width, width, kBitLinearEps), model_.head(), 0, count, t);
    });
    product(model_.head(), 0, count, space_.logits, space_.vocabulary, kHead);
    const Range columns = columns_of(model_.head());
    const float* factor = space_.input(0, count, thread_).factor;
    const int last = std::min(columns.last, vocabulary);
    for (int t = 0; t < count; ++t) {
        int32_t* logits = space_.logits + size_t(t) * space_.vocabulary;
        kernels_.dequantise(logits, factor[t], columns);
        float* out = chunk_.logits + size_t(first_row + t) * vocabulary;
        if (columns.first < last)
            std::memcpy(out + columns.first, logits + columns.first, (last - columns.first) * sizeof(float));
    }
    watch_.lap(kHead);
    barrier();
}

template <class Function>
void Pass::each_token(int count, Function prepare) {
    if (count == 1) return prepare(0);
    const Range mine = model_.pool().share(count, thread_);
    for (int t = mine.first; t < mine.last; ++t) prepare(t);
    barrier();
}

void Pass::normalise(const float* x, int size, const float* gain, float* row) {
    const int capacity = padded(size, kColumnPadding);
    kernels_.normalise(x, kernels_.inverse_rms(x, capacity, size, model_.shape().eps), gain, capacity, row);
    watch_.lap(kNorms);
}

float Pass::quantise(const float* x, float inverse_rms, const Projection& to, int index, int count, int t) {
    const Activations& input = space_.input(index, count, thread_);
    const int columns = to.weight.padded_columns();
    float* n = space_.normed(thread_, 1);
    const float largest = kernels_.normalise(x, inverse_rms, to.gain, columns, n);
    watch_.lap(kNorms);
    int8_t* row = space_.input(index, 1, thread_).q;
    const Quantised result = kernels_.quantise(n, largest, columns, row);
    if (count > 1) input.place(t, count, row);
    input.factor[t] = to.weight.scale / result.scale;
    input.sum[t] = result.sum;
    watch_.lap(kQuantise);
    return result.scale;
}

void Pass::product(const Projection& by, int index, int count, int32_t* out, int stride, Phase phase) {
    const Range panels = model_.pool().share(by.weight.panels(), thread_);
    kernels_.product(by.weight, space_.input(index, count, thread_), count, panels, out, stride);
    watch_.lap(phase);
}

void Pass::recur(int index) {
    const Layer& layer = model_.layer(index);
    const int mixer = model_.shape().mixer, tokens = chunk_.tokens, length = tokens / int(chunk_.states.size());
    const bool state_norm = model_.shape().state_norm;
    const Range columns = columns_of(layer.i);
    const int first = std::min(columns.first, mixer), last = std::min(columns.last, mixer);
    const float* i_factor = space_.input(0, tokens, thread_).factor;
    const float* f_factor = space_.input(1, tokens, thread_).factor;
    const float* g_factor = space_.input(2, tokens, thread_).factor;
    for (int t = 0; t < tokens; ++t)
        (state_norm ? kernels_.activate : kernels_.dequantise)(space_.g + size_t(t) * space_.mixer, g_factor[t], columns);
    for (int t = 0; t < tokens; t += length) {
        float* state = chunk_.states[t / length] + size_t(index) * mixer;
        const size_t at = size_t(t) * space_.mixer;
        std::copy(state + first, state + last, space_.h + first);
        kernels_.recur({length, space_.mixer, columns, space_.i + at, space_.f + at, i_factor + t, f_factor + t,
                        layer.bound, space_.h, !state_norm});
        std::copy(space_.h + first, space_.h + last, state + first);
    }
    watch_.lap(kScan);
}

void Pass::add_residual(const Projection& from) {
    const int tokens = chunk_.tokens;
    product(from, 0, tokens, space_.f, space_.width);
    const float* factor = space_.input(0, tokens, thread_).factor;
    for (int t = 0; t < tokens; ++t) {
        const size_t at = size_t(t) * space_.width;
        kernels_.add_scaled(space_.x + at, space_.f + at, factor[t], columns_of(from));
    }
    watch_.lap(kProducts);
    barrier();
}

void Pass::barrier() {
    model_.pool().barrier();
    watch_.lap(kBarriers);
}

Range Pass::columns_of(const Projection& projection) const {
    const Range panels = model_.pool().share(projection.weight.panels(), thread_);
    return {panels.first * kTileRows, panels.last * kTileRows};
}

}  // namespace unmul
