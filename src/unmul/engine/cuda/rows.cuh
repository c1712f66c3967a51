// The rows that products read: each of the five inputs, from what the phase before it left.
#pragma once

#include "numerics.cuh"

template <int P>
UNMUL_DEVICE Target<P> target(const Quantised& to, int stride, int token, const float (&scale)[P]) {
    Target<P> row;
#pragma unroll
    for (int p = 0; p < P; ++p) {
        row.q[p] = to.q + (int64_t(p) * to.tokens + token) * stride;
        row.factor[p] = to.factor + p * to.tokens + token;
        row.sum[p] = to.sum + p * to.tokens + token;
        row.scale[p] = scale[p];
    }
    return row;
}

UNMUL_DEVICE float embedding(const Model& model, int id, int column) {
    const int64_t at = int64_t(id) * kWidth + column;
    if (UNMUL_INT8_EMBEDDINGS) return float(static_cast<const int8_t*>(model.embeddings)[at]) * model.embedding_scales[id];
    return widen(static_cast<const uint16_t*>(model.embeddings)[at]);
}

// A row of the embedding table.
UNMUL_DEVICE void embed(Share<kWidth>& x, const Model& model, int id) {
#pragma unroll
    for (int g = 0; g < Share<kWidth>::kGroups; ++g) {
        float v[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const int column = Share<kWidth>::column(g) + k;
            v[k] = column < kWidth ? embedding(model, id, column) : 0.0f;
        }
        x.group[g] = {v[0], v[1], v[2], v[3]};
    }
}

// Gains are constant, so they are loaded before a barrier is waited for; then apply() prepares row after row.

// i, f and g read the same normed row through gains of their own.
struct MixInRow {
    GainShare<kWidth> norm, gain[3];
    float scale[3];

    UNMUL_DEVICE MixInRow(const Model& model, int layer) {
        norm.load(model.gains + gain_offset(layer, kAttnNorm));
#pragma unroll
        for (int p = 0; p < 3; ++p) gain[p].load(model.gains + gain_offset(layer, kGainI + p));
#pragma unroll
        for (int p = 0; p < 3; ++p) scale[p] = model.scales[layer * kLayerScales + kScaleI + p];
    }
    UNMUL_DEVICE void apply(Share<kWidth>& x, const Quantised& to, int stride, int token, Scratch& scratch) const {
        normalise(x, inverse_rms(x, kEps, scratch.squares[0]), norm);
        quantise(x, gain, target(to, stride, token, scale), scratch);
    }
};

// One projection of a row that is normed first: gate and up, head; the head's layer is the number of layers.
struct NormedRow {
    GainShare<kWidth> norm, gain[1];
    float scale[1];

    UNMUL_DEVICE NormedRow(const Model& model, int layer, int product) {
        const int first = product == kChannelIn ? kMlpNorm : 0;  // its own follows
        norm.load(model.gains + gain_offset(layer, first));
        gain[0].load(model.gains + gain_offset(layer, first + 1));
        scale[0] = model.scales[layer * kLayerScales + (product == kChannelIn ? kScaleGate : 0)];
    }
    UNMUL_DEVICE void apply(Share<kWidth>& x, const Quantised& to, int stride, int token, Scratch& scratch) const {
        normalise(x, inverse_rms(x, kEps, scratch.squares[0]), norm);
        quantise(x, gain, target(to, stride, token, scale), scratch);
    }
};

// o reads the gate, normed, times SiLU of the state.
struct MixOutRow {
    GainShare<kMixer> norm, gain[1];
    float scale[1];

    UNMUL_DEVICE MixOutRow(const Model& model, int layer) : scale{model.scales[layer * kLayerScales + kScaleO]} {
        norm.load(model.gains + gain_offset(layer, kGNorm));
        gain[0].load(model.gains + gain_offset(layer, kGainO));
    }
    UNMUL_DEVICE void apply(Share<kMixer>& gate, const Share<kMixer>& hidden, const Quantised& to, int stride, int token,
                            Scratch& scratch) const {
        normalise(gate, inverse_rms(gate, kEps, scratch.squares[0]), norm);
#pragma unroll
        for (int g = 0; g < Share<kMixer>::kGroups; ++g) gate.group[g] = gate.group[g] * hidden.group[g];
        quantise(gate, gain, target(to, stride, token, scale), scratch);
    }
};

struct ChannelOutRow {
    GainShare<kHidden> gain[1];
    float scale[1];

    UNMUL_DEVICE ChannelOutRow(const Model& model, int layer) : scale{model.scales[layer * kLayerScales + kScaleDown]} {
        gain[0].load(model.gains + gain_offset(layer, kGainDown));
    }
    UNMUL_DEVICE void apply(const Share<kHidden>& z, const Quantised& to, int stride, int token, Scratch& scratch) const {
        quantise(z, gain, target(to, stride, token, scale), scratch);
    }
};
