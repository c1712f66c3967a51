// Quantised activations as the kernels of several tokens read them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unmul {

// How tokens stand together: up to `tokens` of them form a group, and in a group, runs of `run` bytes (columns) of all
// its tokens lie side by side, so that a kernel reads one stream in order. Each kernel table has its own.
struct Grouping {
    int tokens, run;
};

// T tokens, zeros beyond the columns; per token sum(q), and the factor m / s that turns integer products with the
// projection it was made for into floats. The last group may be smaller; a single token is a plain row.
struct Activations {
    int8_t* q = nullptr;
    float* factor = nullptr;
    int32_t* sum = nullptr;
    int stride = 0;  // bytes of a token
    Grouping grouping{};

    // Tokens in the group of token t.
    int group(int t, int tokens) const {
        const int rest = tokens - t / grouping.tokens * grouping.tokens;
        return rest < grouping.tokens ? rest : grouping.tokens;
    }
    // The first run of token t; the next one is group(t) runs further.
    int8_t* token(int t) const {
        return q + size_t(t / grouping.tokens * grouping.tokens) * stride + size_t(t % grouping.tokens) * grouping.run;
    }
    // Takes the codes of token t, a plain row of `stride` bytes, to their places among `tokens` tokens.
    void place(int t, int tokens, const int8_t* row) const;
};

}  // namespace unmul
