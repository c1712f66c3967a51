// The rule of engine/sampler.py by one block, with weights in fixed point, whose sums depend on no order.
//
// A borderline that no other weight comes near to within 2^-30 of the total falls as it does there.
#pragma once

#include "numerics.cuh"

// How the next token of a text is chosen: engine/sampler.py says what each field does.
struct Choice {
    double temperature, top_p;
    uint64_t random;  // the generator's state before the first token
    int32_t top_k;
};

UNMUL_DEVICE constexpr int bits_of(int n) {
    int bits = 0;
    for (; n > 0; n /= 2) ++bits;
    return bits;
}
constexpr double kOne = double(1ull << (62 - bits_of(kVocabulary)));  // the sum over a vocabulary fits 63 bits
constexpr uint32_t kNotFinite = 0xffffffffu;

// Logits order as these numbers do; what is not finite comes first.
UNMUL_DEVICE uint32_t order_of(float logit) {
    const uint32_t bits = uint32_t(__float_as_int(logit + 0.0f));  // -0 becomes 0
    if ((bits & 0x7f800000u) == 0x7f800000u) return kNotFinite;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
UNMUL_DEVICE float logit_of(uint32_t order) { return __int_as_float(int32_t(order >> 31 ? order & 0x7fffffffu : ~order)); }

// Tokens by falling logit, and equal logits by rising id.
UNMUL_DEVICE uint64_t rank_key(float logit, int id) { return uint64_t(order_of(logit)) << 32 | (0xffffffffu - id); }
UNMUL_DEVICE int32_t token_of(uint64_t key) { return int32_t(0xffffffffu - uint32_t(key)); }
UNMUL_DEVICE bool is_finite(uint64_t key) { return uint32_t(key >> 32) != kNotFinite; }

// Number `count` (from 0) in [0, 1) of a SplitMix64.
UNMUL_DEVICE double uniform(uint64_t state, int count) {
    uint64_t word = state + (uint64_t(count) + 1) * 0x9E3779B97F4A7C15ull;
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9ull;
    word = (word ^ word >> 27) * 0x94D049BB133111EBull;
    return double((word ^ word >> 31) >> 11) * 0x1p-53;
}

// The sum of value(id, order) over the vocabulary, the same in every thread.
template <class Value>
UNMUL_DEVICE uint64_t total(const float* logits, uint64_t (&partial)[kWarps], Value value) {
    uint64_t sum = 0;
#pragma unroll 16
    for (int id = threadIdx.x; id < kVocabulary; id += kThreads) sum += value(id, order_of(logits[id]));
    sum = warp_sum(sum);
    block_barrier();  // the sums before have been read
    if (lane_index() == 0) partial[warp_index()] = sum;
    block_barrier();
    sum = 0;
    for (uint64_t part : partial) sum += part;
    return sum;
}

// The least number in (none, all] that is enough; enough(all) holds.
template <class Enough>
UNMUL_DEVICE uint32_t least(uint32_t none, uint32_t all, Enough enough) {
    while (all - none > 1) {
        const uint32_t middle = none + (all - none) / 2;
        (enough(middle) ? all : none) = middle;
    }
    return all;
}

// A beginning of the rank: all tokens above an order, and of those at it the ids below a border.
struct Cut {
    uint32_t order, ids;
    UNMUL_DEVICE bool keeps(int id, uint32_t at) const { return at > order || (at == order && uint32_t(id) < ids); }
};

// The shortest beginning of the rank whose values reach a goal of at least 1.
template <class Value>
UNMUL_DEVICE Cut shortest(const float* logits, uint64_t (&partial)[kWarps], uint64_t goal, Value value) {
    const auto above = [&](uint32_t border) {  // of the tokens at and above it
        return total(logits, partial, [&](int id, uint32_t at) { return at >= border ? value(id) : uint64_t(0); });
    };
    // Orders are taken from above, so that "least" finds the highest border that is enough.
    const uint32_t order = ~least(0u, ~0u, [&](uint32_t border) { return above(~border) >= goal; });
    const auto one = [&](int, uint32_t at) { return uint64_t(at == order); };
    if (total(logits, partial, one) == 1) return {order, uint32_t(kVocabulary)};
    const uint64_t rest = goal - above(order + 1);
    const uint32_t ids = least(0, kVocabulary, [&](uint32_t border) {
        const auto tied = [&](int id, uint32_t at) { return at == order && uint32_t(id) < border ? value(id) : uint64_t(0); };
        return total(logits, partial, tied) >= rest;
    });
    return {order, ids};
}

// Draws the next token of one text from its logits [V]; the largest of them is known. weights [V] is working memory.
UNMUL_DEVICE void draw(const float* logits, uint64_t* weights, uint64_t largest, const Choice& choice, int count,
                       int32_t* next, uint64_t (&partial)[kWarps]) {
    const double top = logit_of(uint32_t(largest >> 32));
    for (int id = threadIdx.x; id < kVocabulary; id += kThreads)
        weights[id] = __double2ull_rn(exp((double(logits[id]) - top) / choice.temperature) * kOne);
    block_barrier();
    const auto weight = [&](int id) { return weights[id]; };
    Cut cut{0, uint32_t(kVocabulary)};
    if (choice.top_k > 0 && choice.top_k < kVocabulary)
        cut = shortest(logits, partial, choice.top_k, [](int) { return uint64_t(1); });
    const auto kept = [&](int id, uint32_t at) { return cut.keeps(id, at) ? weights[id] : uint64_t(0); };
    uint64_t mass = total(logits, partial, kept);
    if (choice.top_p < 1) {
        cut = shortest(logits, partial, __double2ull_ru(choice.top_p * double(mass)), weight);
        mass = total(logits, partial, kept);
    }
    const double target = uniform(choice.random, count) * double(mass);
    const uint32_t border = least(0, kVocabulary, [&](uint32_t ids) {
        const auto below = [&](int id, uint32_t at) { return uint32_t(id) < ids ? kept(id, at) : uint64_t(0); };
        return double(total(logits, partial, below)) > target;
    });
    if (threadIdx.x == 0) *next = int32_t(border) - 1;
}
