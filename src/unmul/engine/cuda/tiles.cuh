// Products of packed weights and quantised rows on tensor cores: exact, in int32.
//
// A weight is stored as code + 1 (0, 1, 2), so a product is sum((code + 1) q), from which sum(q) is taken once at the end.
#pragma once

#include "numerics.cuh"

// Crumb c of a word is one register of the 16 x 32 operand: see layout.py.
UNMUL_DEVICE void unpack(uint32_t word, uint32_t (&a)[4]) {
#pragma unroll
    for (int c = 0; c < 4; ++c) a[c] = word >> 2 * c & 0x03030303u;
}

// Sums of a panel of 16 rows for 8 tokens a group.
template <int Groups>
class TileSums {
public:
    // Adds weights rows^T of a tile. row points at the first token of this lane and at the first column of the tile that
    // stands beside the lane's own weights: 16 bytes of each half.
    UNMUL_DEVICE void multiply(uint4 weights, const int8_t* row, int stride) {
        const uint32_t words[4] = {weights.x, weights.y, weights.z, weights.w};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            int32_t(&sums)[Groups][4] = sums_[half % kChains];
            uint4 q[Groups];
#pragma unroll
            for (int t = 0; t < Groups; ++t) q[t] = *reinterpret_cast<const uint4*>(row + 8 * t * stride + 64 * half);
            uint32_t a[4];
            unpack(words[2 * half], a);
#pragma unroll
            for (int t = 0; t < Groups; ++t) multiply_add(sums[t], a, q[t].x, q[t].y);
            unpack(words[2 * half + 1], a);
#pragma unroll
            for (int t = 0; t < Groups; ++t) multiply_add(sums[t], a, q[t].z, q[t].w);
        }
    }
    UNMUL_DEVICE int32_t get(int group, int e) const {
        return kChains == 1 ? sums_[0][group][e] : sums_[0][group][e] + sums_[kChains - 1][group][e];
    }

private:
    static constexpr int kChains = Groups == 1 ? 2 : 1;  // with one group, each product would wait for the one before
    int32_t sums_[kChains][Groups][4] = {};
};

// The lane's place in a 16 x 8 block of sums: element e is row lane_row(e), token lane_token(e).
UNMUL_DEVICE int lane_row(int e) { return lane_index() / 4 + 8 * (e / 2); }
UNMUL_DEVICE int lane_token(int e) { return lane_index() % 4 * 2 + e % 2; }
