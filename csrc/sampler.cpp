#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace unmul {
namespace {

struct Candidate {
    float logit;
    int id;
    double weight;
};

bool ranks_before(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

bool lower_id(const Candidate& a, const Candidate& b) { return a.id < b.id; }

int greedy(const float* logits, size_t size) { return int(std::max_element(logits, logits + size) - logits); }

double total(const std::vector<Candidate>& kept) {
    double mass = 0;
    for (const Candidate& token : kept) mass += token.weight;
    return mass;
}

void keep_top_k(std::vector<Candidate>& kept, size_t k) {
    if (k == 0 || k >= kept.size()) return;
    std::nth_element(kept.begin(), kept.begin() + k - 1, kept.end(), ranks_before);
    kept.resize(k);
    std::sort(kept.begin(), kept.end(), lower_id);
}

// Sorts the front in growing steps until it weighs enough: usually a few dozen of thousands of tokens.
void keep_nucleus(std::vector<Candidate>& kept, double enough) {
    double mass = 0;
    size_t sorted = 0;
    for (size_t step = 64; sorted < kept.size(); step *= 4) {
        const size_t next = std::min(kept.size(), sorted + step);
        std::partial_sort(kept.begin() + sorted, kept.begin() + next, kept.end(), ranks_before);
        for (; sorted < next; ++sorted) {
            mass += kept[sorted].weight;
            if (mass >= enough) {
                kept.resize(sorted + 1);
                break;
            }
        }
        if (mass >= enough) break;
    }
    std::sort(kept.begin(), kept.end(), lower_id);
}

int draw(const std::vector<Candidate>& kept, double uniform) {
    const double target = uniform * total(kept);
    double mass = 0;
    for (const Candidate& token : kept) {
        mass += token.weight;
        if (mass > target) return token.id;
    }
    return kept.back().id;
}

}  // namespace

double SplitMix64::uniform() {
    uint64_t word = state_ += 0x9E3779B97F4A7C15;
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9;
    word = (word ^ word >> 27) * 0x94D049BB133111EB;
    return double((word ^ word >> 31) >> 11) * 0x1p-53;
}

int sample(const float* logits, size_t size, const SamplingRule& rule, double uniform) {
    if (!std::all_of(logits, logits + size, [](float logit) { return std::isfinite(logit); })) return -1;
    const int best = greedy(logits, size);
    if (rule.temperature == 0) return best;
    std::vector<Candidate> kept(size);
    for (size_t id = 0; id < size; ++id) kept[id] = {logits[id], int(id), 0};
    keep_top_k(kept, size_t(rule.top_k));
    const double largest = logits[best];
    for (Candidate& token : kept) token.weight = std::exp((double(token.logit) - largest) / rule.temperature);
    if (rule.top_p < 1) keep_nucleus(kept, rule.top_p * total(kept));
    return draw(kept, uniform);
}

}  // namespace unmul
