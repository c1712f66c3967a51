// The rule of engine/sampler.py by a team of blocks, with weights in fixed point, whose sums depend on no order.
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

constexpr int kBucketBits = 8, kBuckets = 1 << kBucketBits;
// A sum of weights in shared memory is kept in pieces, each of which a vocabulary cannot overflow: atomics of 32 bits are fast.
constexpr int kPieceBits = 32 - bits_of(kVocabulary);
constexpr int kPieces = ceil_div(63 - bits_of(kVocabulary), kPieceBits);
constexpr int kTeamSums = 3 * kBuckets;  // of the round at work, the one before and the one to come

// What a block of a team keeps in shared memory.
struct Tally {
    uint32_t piece[kPieces][kBuckets];
    uint64_t partial[kWarps];
    uint64_t below, at;
    uint32_t bucket;
};

// The key that a search has found, and what the values below it and at it sum to.
struct Found {
    uint32_t key;
    uint64_t below, at;
};

// Blocks that search the vocabulary for one text together, each in its own part of it.
class Team {
public:
    UNMUL_DEVICE Team(uint64_t* sums, uint32_t* counter, Tally& own, int rank, int size)
        : sums_(sums), own_(own), barrier_(counter, size), rank_(rank), first_(part(rank, size)), last_(part(rank + 1, size)) {}

    // Calls apply(id) for this thread's tokens, the same ones each time.
    template <class Apply>
    UNMUL_DEVICE void each(Apply apply) const {
        for (int id = first_ + threadIdx.x; id < last_; id += kThreads) apply(id);
    }

    template <class Value>
    UNMUL_DEVICE uint64_t total(Value value) {
        uint64_t sum = 0;
        each([&](int id) { sum += value(id); });
        sum = warp_sum(sum);
        if (lane_index() == 0 && sum > 0) atomicAdd(sums(), sum);
        meet();
        sum = *sums();
        ++round_;
        return sum;
    }

    // The least key at which the sum of the values up to it is enough; a sum of 0 is not, that of all is. A byte of the
    // key a round.
    template <int Bits, class Key, class Value, class Enough>
    UNMUL_DEVICE Found least(Key key, Value value, Enough enough) {
        Found found{0, 0, 0};
#pragma unroll 1
        for (int shift = ceil_div(Bits, kBucketBits) * kBucketBits - kBucketBits; shift >= 0; shift -= kBucketBits) {
            clear();
            each([&](int id) {
                const uint32_t of = key(id), upper = uint32_t(uint64_t(of) >> (shift + kBucketBits));
                if (upper == found.key) add(of >> shift & (kBuckets - 1), value(id));
            });
            publish();
            found = choose(found, enough);
            ++round_;
        }
        return found;
    }

private:
    UNMUL_DEVICE static int part(int rank, int size) { return int(int64_t(kVocabulary) * rank / size); }
    UNMUL_DEVICE uint64_t* sums(int rounds = 0) const { return sums_ + (round_ + rounds) % 3 * kBuckets; }

    UNMUL_DEVICE void clear() {
        for (int k = threadIdx.x; k < kPieces * kBuckets; k += kThreads) own_.piece[k / kBuckets][k % kBuckets] = 0;
        block_barrier();
    }
    UNMUL_DEVICE void add(uint32_t bucket, uint64_t value) {
#pragma unroll
        for (int p = 0; p < kPieces; ++p, value >>= kPieceBits)
            if (value) atomicAdd(&own_.piece[p][bucket], uint32_t(value) & ((1u << kPieceBits) - 1));
    }
    UNMUL_DEVICE void publish() {
        block_barrier();
        if (threadIdx.x < kBuckets) {
            uint64_t sum = 0;
#pragma unroll
            for (int p = 0; p < kPieces; ++p) sum += uint64_t(own_.piece[p][threadIdx.x]) << p * kPieceBits;
            if (sum > 0) atomicAdd(sums() + threadIdx.x, sum);
        }
        meet();
    }
    // All have added. The sums of the next round become zero: whoever is here has seen all blocks leave the last one's.
    UNMUL_DEVICE void meet() {
        if (rank_ == 0 && threadIdx.x < kBuckets) sums(1)[threadIdx.x] = 0;
        barrier_.arrive();
        barrier_.wait();
    }
    // The bucket in which the sum becomes enough.
    template <class Enough>
    UNMUL_DEVICE Found choose(const Found& before, Enough enough) {
        const uint64_t mine = threadIdx.x < kBuckets ? sums()[threadIdx.x] : 0;
        const uint64_t prefix = warp_prefix(mine);
        if (lane_index() == 31) own_.partial[warp_index()] = prefix;
        block_barrier();
        uint64_t below = before.below + prefix - mine;
        for (int warp = 0; warp < warp_index(); ++warp) below += own_.partial[warp];
        if (enough(below + mine) && !enough(below)) {
            own_.bucket = threadIdx.x;
            own_.below = below;
            own_.at = mine;
        }
        block_barrier();
        return {before.key << kBucketBits | own_.bucket, own_.below, own_.at};
    }

    uint64_t* const sums_;
    Tally& own_;
    Barrier barrier_;
    const int rank_, first_, last_;
    int round_ = 0;
};

// A beginning of the rank: all tokens above an order, and of those at it the ids below a border.
struct Cut {
    uint32_t order, ids;
    UNMUL_DEVICE bool keeps(int id, uint32_t at) const { return at > order || (at == order && uint32_t(id) < ids); }
};

// Draws the next tokens of one text after another from their logits [V]. weights [V] is working memory.
class Draw {
public:
    UNMUL_DEVICE Draw(Team& team, const float* logits, uint64_t* weights) : team_(team), logits_(logits), weights_(weights) {}

    UNMUL_DEVICE int32_t operator()(uint64_t largest, const Choice& choice, int count) {
        const double top = logit_of(uint32_t(largest >> 32));
        team_.each([&](int id) {
            weights_[id] = __double2ull_rn(exp((double(logits_[id]) - top) / choice.temperature) * kOne);
        });
        if (choice.top_k > 0 && choice.top_k < kVocabulary) shorten(choice.top_k, [](int) { return uint64_t(1); });
        uint64_t mass = team_.total([&](int id) { return kept(id); });
        if (choice.top_p < 1) mass = shorten(__double2ull_ru(choice.top_p * double(mass)), [&](int id) { return weights_[id]; });
        const double target = uniform(choice.random, count) * double(mass);
        const auto enough = [&](uint64_t sum) { return double(sum) > target || sum == mass; };
        return least_id([&](int id) { return kept(id); }, enough).key;
    }

private:
    // Keeps the shortest beginning of what is kept whose values reach a goal of at least 1, and returns their sum.
    template <class Value>
    UNMUL_DEVICE uint64_t shorten(uint64_t goal, Value value) {
        const auto falling = [&](int id) { return ~order(id); };
        const Found last = team_.template least<32>(falling, value, [&](uint64_t sum) { return sum >= goal; });
        const uint32_t at = ~last.key;
        const auto tied = [&](int id) { return order(id) == at ? value(id) : uint64_t(0); };
        const Found id = least_id(tied, [&](uint64_t sum) { return last.below + sum >= goal; });
        cut_ = {at, id.key + 1};
        return last.below + id.below + id.at;
    }
    template <class Value, class Enough>
    UNMUL_DEVICE Found least_id(Value value, Enough enough) {
        return team_.template least<bits_of(kVocabulary)>([](int id) { return uint32_t(id); }, value, enough);
    }
    UNMUL_DEVICE uint32_t order(int id) const { return order_of(logits_[id]); }
    UNMUL_DEVICE uint64_t kept(int id) const { return cut_.keeps(id, order(id)) ? weights_[id] : uint64_t(0); }

    Team& team_;
    const float* logits_;
    uint64_t* weights_;
    Cut cut_{0, uint32_t(kVocabulary)};
};
