// The sampling rule of unmul/engine/sampler.py, for large vocabularies: no full sort where a partial one does.
#pragma once

#include <cstddef>

namespace unmul {

struct SamplingRule {
    double temperature;
    int top_k;
    double top_p;
};

// The next token, or -1 if a logit is NaN or infinite. uniform is in [0, 1).
int sample(const float* logits, size_t size, const SamplingRule& rule, double uniform);

}  // namespace unmul
