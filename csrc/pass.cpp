#include "pass.h"

#include <algorithm>
#include <cstring>

namespace unmul {
namespace {

constexpr float kBitLinearEps = 1e-6f;
constexpr int kHeadTokens = 16;  // logits are wide: a few tokens of integers at a time

float* as_floats(int32_t* buffer) { return reinterpret_cast<float*>(buffer); }

}  // namespace

Workspace::Workspace(const Shape& shape, int capacity, int threads)
    : tokens(capacity),
      width(padded(shape.width, kColumnPadding)),
      hidden(padded(shape.hidden, kColumnPadding)),
      vocabulary(padded(shape.vocabulary, kColumnPadding)),
      stride_(std::max(width, hidden)),
      arena_(bytes(threads)),
      own_(threads) {
    x = arena_.take<float>(size_t(tokens) * width);
    for (int32_t** buffer : {&i, &f, &g}) *buffer = arena_.take<int32_t>(size_t(tokens) * width);
    for (int32_t** buffer : {&gate, &up}) *buffer = arena_.take<int32_t>(size_t(tokens) * hidden);
    logits = arena_.take<int32_t>(size_t(std::min(tokens, kHeadTokens)) * vocabulary);
    h = arena_.take<float>(width);
    for (Activations& input : shared_) input = activations(tokens);
    for (Own& own : own_) {
        for (Activations& input : own.input) input = activations(1);
        for (float*& row : own.normed) row = arena_.take<float>(stride_);
    }
}

size_t Workspace::bytes(int threads) const {
    const size_t rows = size_t(tokens) * (4 * width + 2 * hidden) + size_t(std::min(tokens, kHeadTokens)) * vocabulary;
    const auto inputs = [&](size_t count) { return 3 * (count * stride_ + 2 * Arena::rounded(count * sizeof(float))); };
    return (rows + width) * sizeof(float) + inputs(tokens) + threads * (inputs(1) + 2 * stride_ * sizeof(float));
}

Activations Workspace::activations(int count) {
    return {arena_.take<int8_t>(size_t(count) * stride_), arena_.take<float>(count), arena_.take<int32_t>(count), stride_};
}

Pass::Pass(Model& model, Workspace& workspace, const Chunk& chunk, int thread)
    : model_(model), kernels_(model.kernels()), space_(workspace), chunk_(chunk), thread_(thread) {}

void Pass::run() {
    enter();
    for (int l = 0; l < model_.shape().layers; ++l) {
        mix_tokens(model_.layer(l), chunk_.state + size_t(l) * model_.shape().width);
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
    model_.pool().barrier();
}

void Pass::mix_tokens(const Layer& layer, float* state) {
    const int width = model_.shape().width, tokens = chunk_.tokens;
    float* row = space_.normed(thread_, 0);
    each_token(tokens, [&](int t) {
        const float* x = space_.x + size_t(t) * space_.width;
        const float r = kernels_.inverse_rms(x, space_.width, width, model_.shape().eps);
        kernels_.normalise(x, r, layer.attn_norm, space_.width, row);
        const float shared = kernels_.inverse_rms(row, space_.width, width, kBitLinearEps);
        quantise(row, shared, layer.i, 0, tokens, t);
        quantise(row, shared, layer.f, 1, tokens, t);
        quantise(row, shared, layer.g, 2, tokens, t);
    });
    product(layer.i, 0, tokens, space_.i, space_.width);
    product(layer.f, 1, tokens, space_.f, space_.width);
    product(layer.g, 2, tokens, space_.g, space_.width);
    recur(layer, state);
    model_.pool().barrier();
    each_token(tokens, [&](int t) {
        const float* g = as_floats(space_.g) + size_t(t) * space_.width;
        const float r = kernels_.inverse_rms(g, space_.width, width, model_.shape().eps);
        kernels_.normalise(g, r, layer.g_norm, space_.width, row);
        kernels_.multiply(row, as_floats(space_.i) + size_t(t) * space_.width, space_.width);
        quantise(row, kernels_.inverse_rms(row, space_.width, width, kBitLinearEps), layer.o, 0, tokens, t);
    });
    add_residual(layer.o);
}

void Pass::mix_channels(const Layer& layer) {
    const int width = model_.shape().width, hidden = model_.shape().hidden, tokens = chunk_.tokens;
    float* row = space_.normed(thread_, 0);
    each_token(tokens, [&](int t) {
        const float* x = space_.x + size_t(t) * space_.width;
        const float r = kernels_.inverse_rms(x, space_.width, width, model_.shape().eps);
        kernels_.normalise(x, r, layer.mlp_norm, space_.width, row);
        quantise(row, kernels_.inverse_rms(row, space_.width, width, kBitLinearEps), layer.gate, 0, tokens, t);
    });
    product(layer.gate, 0, tokens, space_.gate, space_.hidden);
    product(layer.up, 0, tokens, space_.up, space_.hidden);
    for (int t = 0; t < tokens; ++t) {
        const size_t at = size_t(t) * space_.hidden;
        kernels_.swiglu(space_.gate + at, space_.up + at, factor(layer.gate, 0, tokens, t),
                        factor(layer.up, 0, tokens, t), columns_of(layer.gate));
    }
    model_.pool().barrier();
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
        const float* x = space_.x + size_t(chunk_.tokens - chunk_.rows + first_row + t) * space_.width;
        const float r = kernels_.inverse_rms(x, space_.width, width, model_.shape().eps);
        kernels_.normalise(x, r, model_.norm(), space_.width, row);
        quantise(row, kernels_.inverse_rms(row, space_.width, width, kBitLinearEps), model_.head(), 0, count, t);
    });
    product(model_.head(), 0, count, space_.logits, space_.vocabulary);
    const Range columns = columns_of(model_.head());
    const int last = std::min(columns.last, vocabulary);
    for (int t = 0; t < count; ++t) {
        int32_t* logits = space_.logits + size_t(t) * space_.vocabulary;
        kernels_.dequantise(logits, factor(model_.head(), 0, count, t), columns);
        float* out = chunk_.logits + size_t(first_row + t) * vocabulary;
        if (columns.first < last)
            std::memcpy(out + columns.first, logits + columns.first, (last - columns.first) * sizeof(float));
    }
    model_.pool().barrier();
}

template <class Function>
void Pass::each_token(int count, Function prepare) {
    if (count == 1) return prepare(0);
    const Range mine = model_.pool().share(count, thread_);
    for (int t = mine.first; t < mine.last; ++t) prepare(t);
    model_.pool().barrier();
}

void Pass::quantise(const float* x, float inverse_rms, const Projection& to, int index, int count, int t) {
    const Activations& input = space_.input(index, count, thread_);
    const int columns = to.weight.padded_columns();
    float* n = space_.normed(thread_, 1);
    const float largest = kernels_.normalise(x, inverse_rms, to.gain, columns, n);
    const Quantised result = kernels_.quantise(n, largest, columns, input.q + size_t(t) * input.stride);
    input.scale[t] = result.scale;
    input.sum[t] = result.sum;
}

void Pass::product(const Projection& by, int index, int count, int32_t* out, int stride) {
    const Range panels = model_.pool().share(by.weight.panels(), thread_);
    kernels_.product(by.weight, space_.input(index, count, thread_), count, panels, out, stride);
}

void Pass::recur(const Layer& layer, float* state) {
    const Range columns = columns_of(layer.i);
    const int first = std::min(columns.first, model_.shape().width), last = std::min(columns.last, model_.shape().width);
    float* i_factor = space_.normed(thread_, 0);
    float* f_factor = space_.normed(thread_, 1);
    for (int t = 0; t < chunk_.tokens; ++t) {
        i_factor[t] = factor(layer.i, 0, chunk_.tokens, t);
        f_factor[t] = factor(layer.f, 1, chunk_.tokens, t);
        kernels_.dequantise(space_.g + size_t(t) * space_.width, factor(layer.g, 2, chunk_.tokens, t), columns);
    }
    std::copy(state + first, state + last, space_.h + first);
    kernels_.recur({chunk_.tokens, space_.width, columns, space_.i, space_.f, i_factor, f_factor, layer.bound, space_.h});
    std::copy(space_.h + first, space_.h + last, state + first);
}

void Pass::add_residual(const Projection& from) {
    const int tokens = chunk_.tokens;
    product(from, 0, tokens, space_.f, space_.width);
    for (int t = 0; t < tokens; ++t) {
        const size_t at = size_t(t) * space_.width;
        kernels_.add_scaled(space_.x + at, space_.f + at, factor(from, 0, tokens, t), columns_of(from));
    }
    model_.pool().barrier();
}

Range Pass::columns_of(const Projection& projection) const {
    const Range panels = model_.pool().share(projection.weight.panels(), thread_);
    return {panels.first * kTileRows, panels.last * kTileRows};
}

float Pass::factor(const Projection& projection, int index, int count, int t) const {
    return projection.weight.scale / space_.input(index, count, thread_).scale[t];
}

}  // namespace unmul
