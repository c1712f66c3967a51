// The packed model in memory and its forward pass: embedded tokens and state in, logits and state out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arena.h"
#include "kernels/kernels.h"
#include "layout.h"
#include "pool.h"
#include "profile.h"

namespace unmul {

struct Shape {
    int layers, width;
    int mixer;  // width of the token mixer and of its state: a multiple of width
    int hidden, vocabulary;
    float eps;         // of the block's own norms; a BitLinear's is fixed
    bool shared_norm;  // i, f and g have equal gains: one quantised input serves them
    bool state_norm;   // the output gate is norm(h) SiLU(g) instead of norm(g) SiLU(h)
};

// A projection: its norm's gain [K] and its weights. gate and up share one input, so one gain.
struct Projection {
    Matrix weight;
    float* gain = nullptr;
};

struct Layer {
    Projection i, f, g, o, gate, up, down;
    float *attn_norm, *g_norm, *mlp_norm, *bound;
};

class Workspace;

class Model {
public:
    Model(const Shape& shape, const Kernels& kernels, int threads);
    ~Model();

    const Shape& shape() const { return shape_; }
    const Kernels& kernels() const { return kernels_; }
    Pool& pool() { return pool_; }
    size_t weight_bytes() const { return tiles_.size(); }  // read for every token
    const Layer& layer(int index) const { return layers_.at(index); }
    const Projection& head() const { return head_; }
    const float* norm() const { return norm_; }

    // By name, the layer number beyond the last for what stands after the layers. Throw Error.
    Projection& projection(int layer, const std::string& name);
    void set_vector(int layer, const std::string& name, const float* values, size_t size);

    // Reads the embeddings x [T, D] of equally many tokens of each sequence, one sequence after another; their states
    // [L, E] are advanced in place; logits [rows, V] are those after the last `rows` tokens. Memory grows with T: long
    // prompts come in chunks.
    void forward(const float* x, int tokens, const std::vector<float*>& states, float* logits, int rows);

    // Begins or ends the measurement of phases; beginning forgets what was measured.
    void profile(bool on);
    // Seconds in a phase, the mean of all threads.
    double seconds(Phase phase) const;

    // Bytes a second at which these threads read all weights and do nothing else: the median pass of so many seconds.
    double read_bandwidth(double seconds);

private:
    struct Vector {
        float* values;
        int size;
    };
    Vector vector(int layer, const std::string& name);
    void plan_layer(Layer& layer);

    Shape shape_;
    const Kernels& kernels_;
    Pool pool_;
    Arena tiles_, vectors_;
    std::vector<Layer> layers_;
    Projection head_;
    float* norm_ = nullptr;
    std::vector<Stopwatch> watches_;        // of each thread
    std::unique_ptr<Workspace> workspace_;  // for the longest chunk so far
};

}  // namespace unmul
