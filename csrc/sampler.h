// The sampling rule of unmul/engine/sampler.py, for large vocabularies: no full sort where a partial one does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unmul {

struct SamplingRule {
    double temperature;
    int top_k;
    double top_p;
};

// Small random generator with 64 bits of state (Steele, Lea, Flood, OOPSLA 2014), as engine/sampler.py has it.
class SplitMix64 {
public:
    explicit SplitMix64(uint64_t seed) : state_(seed) {}
    double uniform();  // the next number in [0, 1)

private:
    uint64_t state_;
};

// The next token, or -1 if a logit is NaN or infinite. uniform is in [0, 1).
int sample(const float* logits, size_t size, const SamplingRule& rule, double uniform);

}  // namespace unmul
