// One table of functions per instruction set; the machine's best is chosen at run time by what its CPU reports.
//
// All integers are exact, and all float functions do the same operations in the same order on 16 lanes, whatever the
// width of the registers: every table gives the same bits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../activations.h"
#include "../layout.h"
#include "../pool.h"

namespace unmul {

constexpr int kLanes = 16;             // float functions take sizes that are multiples of it
constexpr int kPrefetchBytes = 8192;       // ahead of the weights being read: a few times the latency of memory
constexpr float kSmallestMaximum = 1e-5f;  // of |n|, so that zeros do not divide by zero

struct Quantised {
    float scale;
    int32_t sum;
};

// The recurrence of T tokens of one sequence over the columns of one thread. Rows of all matrices are `stride` apart.
struct Recurrence {
    int tokens, stride;
    Range columns;
    int32_t* i;             // [T] in: i_proj's integers; out: h as float, or SiLU(h)
    const int32_t* f;       // [T] f_proj's integers
    const float* i_factor;  // [T] m / s
    const float* f_factor;  // [T]
    const float* bound;     // lower bound of the forget gate
    float* h;               // the state, advanced in place
    bool activated;         // whether SiLU(h) is wanted
};

struct Kernels {
    const char* name;

    // Of the activations that product() takes.
    Grouping grouping;

    // out[t, n] = sum over k of q[t, k] C[n, k], exactly, for the rows of panels [first, last).
    void (*product)(const Matrix&, const Activations&, int tokens, Range panels, int32_t* out, int stride);

    // 1 / sqrt(mean of x^2 over `size` values + eps), the mean in float64; x is padded with zeros.
    float (*inverse_rms)(const float* x, int padded_size, int size, float eps);

    // out = x * factor * gain; returns the largest |out|, NaN if there is one. out may be x.
    float (*normalise)(const float* x, float factor, const float* gain, int padded_size, float* out);

    // q = rint(n * s), s = 127 * (1 / max(largest, 1e-5)), halves to even.
    Quantised (*quantise)(const float* n, float largest, int padded_size, int8_t* q);

    void (*recur)(const Recurrence&);

    // y *= x
    void (*multiply)(float* y, const float* x, int padded_size);

    // gate = SiLU(gate * factor) * (up * factor), from integers to float in place.
    void (*swiglu)(int32_t* gate, const int32_t* up, float factor, Range columns);

    // x += y * factor
    void (*add_scaled)(float* x, const int32_t* y, float factor, Range columns);

    // y *= factor, from integers to float in place.
    void (*dequantise)(int32_t* y, float factor, Range columns);

    // y = SiLU(y * factor), from integers to float in place.
    void (*activate)(int32_t* y, float factor, Range columns);

    // y = exp(x), relative error below 2e-7 between -87 and 88 and clamped there: for tests of the gates' one ingredient.
    void (*exponential)(const float* x, float* y, int padded_size);

    // Reads whole cache lines and does no more with them than a machine must: the ceiling of what reads weights.
    int32_t (*read)(const uint8_t* from, size_t bytes);
};

// The tables that were compiled in and that this CPU can run, slowest first; scalar is always the first.
const std::vector<const Kernels*>& usable_kernels();

// A table by name, or nullptr.
const Kernels* find_kernels(const std::string& name);

}  // namespace unmul
