// One token on 128-bit registers with sdot. Included as lanes.h is, by the kernel files for NEON.

constexpr int kQuarters = kTileBytes / 16;  // a register holds 4 rows of a tile

UNMUL_INLINE uint8x16_t quarter(const uint8_t* tile, int index) { return vld1q_u8(tile + 16 * index); }

UNMUL_INLINE int8x16_t masked(uint8x16_t weights, int mask) {
    return vreinterpretq_s8_u8(vandq_u8(weights, vdupq_n_u8(uint8_t(mask))));
}

// One token: crumbs 1 and 2 are masked where they stand, four and sixteen times too large, and divided exactly at the end.
void panel_of_one(const uint8_t* tile, const int8_t* q, int columns, int32_t sum, int32_t* out) {
    int32x4_t ones[kQuarters] = {}, fours[kQuarters] = {}, sixteens[kQuarters] = {};
    for (int k = 0; k < columns; k += kTileColumns, tile += kTileBytes) {
        prefetch(tile);
        const int8x16_t x = vld1q_s8(q + k);
        for (int part = 0; part < kQuarters; ++part) {
            const uint8x16_t weights = quarter(tile, part);
            ones[part] = vdotq_laneq_s32(ones[part], masked(weights, 0x03), x, 0);
            fours[part] = vdotq_laneq_s32(fours[part], masked(weights, 0x0c), x, 1);
            sixteens[part] = vdotq_laneq_s32(sixteens[part], masked(weights, 0x30), x, 2);
            ones[part] = vdotq_laneq_s32(ones[part], vreinterpretq_s8_u8(vshrq_n_u8(weights, 6)), x, 3);
        }
    }
    for (int part = 0; part < kQuarters; ++part) {
        const int32x4_t larger = vaddq_s32(vshrq_n_s32(fours[part], 2), vshrq_n_s32(sixteens[part], 4));
        vst1q_s32(out + 4 * part, vsubq_s32(vaddq_s32(ones[part], larger), vdupq_n_s32(sum)));
    }
}
