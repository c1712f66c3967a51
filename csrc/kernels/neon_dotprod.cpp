// Same contract as scalar.cpp, on 128-bit registers with sdot (s8 x s8, int32 sums, no saturation): codes 0..2 are
// positive bytes, so only crumb 3, whose place is the sign bit, must be shifted before it is used.
#include <arm_neon.h>

#include "kernels.h"

#define UNMUL_WIDTH 4

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

#include "sdot_one.h"

constexpr int kBlockTokens = 4;
constexpr int kBlockPanels = 1;

// T tokens: crumbs are shifted down once and used T times.
template <int T, int P>
void block(const uint8_t* tile, size_t, const int8_t* q, int step, int columns, const int32_t* sum, int32_t* out,
           int stride) {
    static_assert(P == 1);
    int32x4_t total[T][kQuarters];
    for (int t = 0; t < T; ++t)
        for (int32x4_t& part : total[t]) part = vdupq_n_s32(-sum[t]);
    for (int k = 0; k < columns; k += kTileColumns, tile += kTileBytes) {
        prefetch(tile);
        uint8x16_t weights[kQuarters];
        for (int part = 0; part < kQuarters; ++part) weights[part] = quarter(tile, part);
        for (int c = 0; c < 4; ++c, q += 4 * step) {
            int8x16_t x[T];
            for (int t = 0; t < T; ++t)
                x[t] = vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const int32_t*>(q) + t));
            for (int part = 0; part < kQuarters; ++part) {
                const int8x16_t crumb = masked(weights[part], 0x03);
                weights[part] = vshrq_n_u8(weights[part], 2);
                for (int t = 0; t < T; ++t) total[t][part] = vdotq_s32(total[t][part], crumb, x[t]);
            }
        }
    }
    for (int t = 0; t < T; ++t)
        for (int part = 0; part < kQuarters; ++part) vst1q_s32(out + size_t(t) * stride + 4 * part, total[t][part]);
}

#include "blocks.h"

}  // namespace

extern const Kernels kNeonDotprod;
const Kernels kNeonDotprod = table("neon_dotprod", {8, 4}, product);

}  // namespace unmul
