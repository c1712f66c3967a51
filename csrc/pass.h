// One chunk of tokens through all layers, as every thread of the pool runs it.
//
// A thread owns the same slice of columns in every matrix of a layer, so gates, recurrence, SwiGLU and residuals need
// no barrier after their product. What needs whole rows (norms, quantisation) waits for one: four barriers a layer.
// With one token each thread prepares the row for itself, which is cheaper than a barrier; with several they share
// the tokens out, and four more barriers follow.
#pragma once

#include "model.h"
#include "profile.h"

namespace unmul {

// Equally many tokens of each sequence, one sequence after another: a prompt is one of T tokens, a step is B of one.
struct Chunk {
    const float* x;  // [T, D] embeddings
    int tokens;
    const std::vector<float*>& states;  // of each sequence, [L, E]
    float* logits;  // [rows, V] after the last `rows` tokens
    int rows;
};

// Memory for the activations of up to `tokens` tokens; D, E and I are padded, rows beyond the true size stay zero.
class Workspace {
public:
    Workspace(const Shape& shape, const Kernels& kernels, int tokens, int threads);

    // The quantised input of product `index` (0..2): a thread's own for one token, else the shared one.
    const Activations& input(int index, int count, int thread) const {
        return count == 1 ? own_[thread].input[index] : shared_[index];
    }
    float* normed(int thread, int which) const { return own_[thread].normed[which]; }

    int tokens;                            // capacity
    int width, mixer, hidden, vocabulary;  // padded
    float* x;                              // [T, D] the residual stream
    int32_t *i, *f, *g;                    // [T, E] products; f again takes those of o_proj and down_proj, [T, D]
    int32_t *gate, *up;                    // [T, I]
    int32_t* logits;                       // [kHeadTokens, V]
    float* h;                              // [E] the state of the layer at work

private:
    struct Own {
        Activations input[3];
        float* normed[2];  // [max(E, I)]
    };
    size_t bytes(int threads) const;
    Activations activations(int count);

    const Grouping grouping_;
    int stride_;  // of quantised rows: max(E, I)
    Arena arena_;
    Activations shared_[3];
    std::vector<Own> own_;
};

class Pass {
public:
    Pass(Model& model, Workspace& workspace, const Chunk& chunk, int thread, Stopwatch& watch);
    void run();

private:
    void enter();
    void mix_tokens(int index);
    void mix_channels(const Layer& layer);
    void predict(int first_row, int count);

    // Calls prepare(t) for the tokens of this thread, or in each thread if there is one only, then makes them visible.
    template <class Function>
    void each_token(int count, Function prepare);
    // The input of a projection: norm with the BitLinear's own gain, quantised; returns the scale.
    float quantise(const float* x, float inverse_rms, const Projection& to, int index, int count, int t);
    // 1 / rms of x, then x times it and the gain into row: the norms that are not a BitLinear's own.
    void normalise(const float* x, int size, const float* gain, float* row);
    // out = input C^T over this thread's panels.
    void product(const Projection& by, int index, int count, int32_t* out, int stride, Phase phase = kProducts);
    void recur(int index);
    void add_residual(const Projection& from);
    void barrier();
    Range columns_of(const Projection& projection) const;

    Model& model_;
    const Kernels& kernels_;
    Workspace& space_;
    const Chunk& chunk_;
    const int thread_;
    Stopwatch& watch_;
};

}  // namespace unmul
