// What a block of the decode kernel holds, its share of the work, and the stream of its weights.
#pragma once

#include "rows.cuh"
#include "sample.cuh"
#include "tiles.cuh"

constexpr int kGroups = UNMUL_GROUPS;
constexpr bool kFused = UNMUL_FUSED;
constexpr int kDepth = UNMUL_DEPTH;
constexpr int kSequences = kFused ? 2 : 8 * kGroups;  // capacity
constexpr int kColumns = 8 * kGroups;                 // of a row of sums
constexpr int kMostPanels = 3;                        // of a unit
constexpr int kRoundPanels = 64 / kGroups;            // panels whose sums stand in shared memory at once
constexpr int kSharedStride = 64;                     // beside a row, so that two tokens' columns lie in other banks
constexpr int kSharedRow = kInputRow + 3 * kSharedStride;

struct Call {
    const int32_t* ids;     // [B] the first tokens to read
    int32_t* written;       // [count, B] tokens that were chosen; -1 where logits were not finite
    float* states;          // [B, L, E]
    const Choice* choices;  // [B], or null: only logits are wanted, after one token
    int batch, count, end;  // end: the token that ends a text, or -1
    uint32_t time;          // of the first product; later ones count on
};

struct Shared {
    uint4 ring[kWarps][kDepth][32];
    int32_t sums[kRoundPanels * kTileRows * kColumns];
    int32_t first[kProducts], last[kProducts];  // this block's units of each product
    uint64_t best[kColumns];
    Tally tally;
    Scratch scratch;
    int32_t token[kColumns];
    int32_t active[kColumns];
    float factor[3 * kSequences];
    int32_t sum[3 * kSequences];
    alignas(16) int8_t q[kFused ? kSequences * kSharedRow : 16];
};

static_assert(sizeof(Shared) <= UNMUL_SHARED, "decode.py counts less");

UNMUL_DEVICE constexpr int round_units(int product) { return kRoundPanels / units_of(product).panels; }

// Border of this block's units of a product. Blocks take turns at being the first, so that none always has the odd unit.
UNMUL_DEVICE int unit_border(int product, int step) {
    const int turn = product == kMixIn ? 0 : product == kChannelIn ? 1 : product == kHead ? 3 : 2;
    const int rank = (blockIdx.x + turn * (gridDim.x / 4)) % gridDim.x;
    return int(int64_t(units_of(product).count) * (rank + step) / gridDim.x);
}

// Border of this warp's part of the tiles of a round.
UNMUL_DEVICE int warp_border(int tiles, int step) { return tiles * (warp_index() + step) / kWarps; }

// The tiles of this warp in the order of their use, asked for ahead. A lane reads back only what it copied itself.
class WeightStream {
public:
    UNMUL_DEVICE WeightStream(const uint4* weights, Shared& shared, int tokens)
        : weights_(weights + lane_index()), shared_(shared), ring_(&shared.ring[warp_index()][0][lane_index()]),
          tokens_(tokens) {
        enter_product();
        refill();
        fill();
    }
    UNMUL_DEVICE uint4 next() {
        wait_copies<kDepth - 1 - kMostFree>();
        const uint4 tile = ring_[used_ * 32];
        used_ = (used_ + 1) % kDepth;
        if (++free_ > kMostFree) ask();
        return tile;
    }
    // Asks for what will stand in the place of used tiles. Called when the block has arrived at a barrier: before, the
    // arrival would wait for these copies.
    UNMUL_DEVICE void fill() {
#pragma unroll 1
        while (free_ > 0) ask();
    }

private:
    static constexpr int kMostFree = kDepth / 2;

    UNMUL_DEVICE void ask() {
        if (left_ > 0) {
            copy_async(ring_ + asked_ * 32, at_);
            at_ += 32;
            if (--left_ == 0) refill();
        }
        commit_copies();
        asked_ = (asked_ + 1) % kDepth;
        --free_;
    }
    UNMUL_DEVICE void enter_product() {
        unit_ = shared_.first[product_];
        last_ = shared_.last[product_];
    }
    // The next round that has tiles for this warp.
    UNMUL_DEVICE void refill() {
        while (left_ == 0 && tokens_ > 0) {
            if (unit_ >= last_) {
                next_product();
                continue;
            }
            const Units units = units_of(product_);
            const int taken = min(round_units(product_), last_ - unit_);
            const int tiles = taken * units.unit_tiles(), begin = warp_border(tiles, 0);
            left_ = warp_border(tiles, 1) - begin;
            at_ = weights_ + (first_tile(layer_, product_) + int64_t(unit_) * units.unit_tiles() + begin) * 32;
            unit_ += taken;
        }
    }
    UNMUL_DEVICE void next_product() {
        if (product_ == kHead) {
            product_ = kMixIn;
            layer_ = 0;
            --tokens_;
        } else if (product_ == kChannelOut) {
            product_ = ++layer_ == kLayers ? int(kHead) : int(kMixIn);
        } else {
            ++product_;
        }
        enter_product();
    }

    const uint4* const weights_;
    const Shared& shared_;
    uint4* const ring_;
    const uint4* at_ = nullptr;
    int left_ = 0, used_ = 0, asked_ = 0, free_ = kDepth, tokens_, layer_ = 0, product_ = kMixIn, unit_, last_;
};
