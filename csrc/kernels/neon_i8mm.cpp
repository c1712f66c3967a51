// Same contract as scalar.cpp, on 128-bit registers with smmla (2 x 8 by 8 x 2 bytes, int32 sums, no saturation) for several
// tokens: twice the products an instruction of sdot, which serves one token.
#include <arm_neon.h>

#include "kernels.h"

#define UNMUL_WIDTH 4

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

#include "sdot_one.h"

constexpr int kRun = 8;  // columns of a token in an operand
constexpr int kPairs = kTileRows / 2;

// Two crumbs of a tile, eight columns of 16 rows, as operands of two rows each.
struct Operands {
    int8x16_t rows[kPairs];
};

UNMUL_INLINE Operands operands(const uint8x16_t (&weights)[kQuarters], int shift) {
    const auto crumb = [&](int part, int by) {
        return vreinterpretq_s32_s8(masked(vshlq_u8(weights[part], vdupq_n_s8(int8_t(-by))), 0x03));
    };
    Operands result;
    for (int part = 0; part < kQuarters; ++part) {
        const int32x4_t low = crumb(part, shift), high = crumb(part, shift + 2);
        result.rows[2 * part] = vreinterpretq_s8_s32(vzip1q_s32(low, high));
        result.rows[2 * part + 1] = vreinterpretq_s8_s32(vzip2q_s32(low, high));
    }
    return result;
}

// Eight columns of two tokens; the second of a lone one is zero.
UNMUL_INLINE int8x16_t pair_of_tokens(const int8_t* q, bool both) {
    return both ? vld1q_s8(q) : vcombine_s8(vld1_s8(q), vdup_n_s8(0));
}

constexpr int kBlockTokens = 4;  // a whole group
constexpr int kBlockPanels = 1;

// T tokens: sums of two rows and two tokens stand together, [r0t0, r0t1, r1t0, r1t1].
template <int T, int P>
void block(const uint8_t* tile, size_t, const int8_t* q, int, int columns, const int32_t* sum, int32_t* out, int stride) {
    static_assert(P == 1);
    int32x4_t total[(T + 1) / 2][kPairs] = {};
    for (int k = 0; k < columns; k += kTileColumns, tile += kTileBytes) {
        prefetch(tile);
        uint8x16_t weights[kQuarters];
        for (int part = 0; part < kQuarters; ++part) weights[part] = quarter(tile, part);
        for (int shift = 0; shift < 8; shift += 4, q += T * kRun) {
            const Operands crumbs = operands(weights, shift);
            for (int t = 0; t < T; t += 2) {
                const int8x16_t x = pair_of_tokens(q + t * kRun, t + 1 < T);
                for (int pair = 0; pair < kPairs; ++pair)
                    total[t / 2][pair] = vmmlaq_s32(total[t / 2][pair], crumbs.rows[pair], x);
            }
        }
    }
    for (int t = 0; t < T; ++t)
        for (int part = 0; part < kQuarters; ++part) {
            const int32x4_t first = total[t / 2][2 * part], second = total[t / 2][2 * part + 1];
            const int32x4_t rows = t % 2 ? vuzp2q_s32(first, second) : vuzp1q_s32(first, second);
            vst1q_s32(out + size_t(t) * stride + 4 * part, vsubq_s32(rows, vdupq_n_s32(sum[t])));
        }
}

#include "blocks.h"

}  // namespace

extern const Kernels kNeonI8mm;
const Kernels kNeonI8mm = table("neon_i8mm", {kBlockTokens, kRun}, product);

}  // namespace unmul
