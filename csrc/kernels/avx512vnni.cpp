// Same contract as scalar.cpp, on 512-bit registers with vpdpbusd (u8 weights x s8 activations, int32 sums, no saturation).
#include <immintrin.h>

#include <cstring>

#include "kernels.h"

#define UNMUL_WIDTH 16

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

UNMUL_INLINE __m512i broadcast_four(const int8_t* q) {
    int32_t word;
    memcpy(&word, q, sizeof word);
    return _mm512_set1_epi32(word);
}

// One token: a crumb is masked where it stands, so its sum is 4^c times too large; four accumulators keep them apart
// and are divided exactly at the end. A second set of four hides the latency of vpdpbusd.
void panel_of_one(const uint8_t* tile, const int8_t* q, int columns, int32_t sum, int32_t* out) {
    const __m512i mask[4] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0c), _mm512_set1_epi8(0x30),
                             _mm512_set1_epi8(char(0xc0))};
    __m512i total[2][4] = {};
    for (int k = 0; k < columns; k += 2 * kTileColumns) {
        for (int half = 0; half < 2; ++half) prefetch(tile + half * kTileBytes);
        for (int half = 0; half < 2; ++half, tile += kTileBytes, q += kTileColumns) {
            const __m512i weights = _mm512_load_si512(tile);
            for (int c = 0; c < 4; ++c)
                total[half][c] = _mm512_dpbusd_epi32(total[half][c], _mm512_and_si512(weights, mask[c]),
                                                     broadcast_four(q + 4 * c));
        }
    }
    __m512i result = _mm512_set1_epi32(-sum);
    for (int c = 0; c < 4; ++c)
        result = _mm512_add_epi32(result, _mm512_srai_epi32(_mm512_add_epi32(total[0][c], total[1][c]), 2 * c));
    _mm512_store_si512(out, result);
}

// T tokens, a whole group, x P panels: crumbs are shifted down once and used T times. Weights are read seldom here, and a
// prefetch makes GCC spill accumulators.
template <int T, int P>
void block(const uint8_t* tiles, size_t panel_bytes, const int8_t* q, int, int columns, const int32_t* sum, int32_t* out,
           int stride) {
    const __m512i mask = _mm512_set1_epi8(0x03);
    __m512i total[T][P];
    for (int t = 0; t < T; ++t)
        for (int p = 0; p < P; ++p) total[t][p] = _mm512_set1_epi32(-sum[t]);
    for (int k = 0; k < columns; k += kTileColumns, tiles += kTileBytes) {
        __m512i weights[P];
        for (int p = 0; p < P; ++p) {
            weights[p] = _mm512_load_si512(tiles + p * panel_bytes);
        }
        for (int c = 0; c < 4; ++c, q += 4 * T) {
            __m512i crumb[P];
            for (int p = 0; p < P; ++p) {
                crumb[p] = _mm512_and_si512(weights[p], mask);
                weights[p] = _mm512_srli_epi32(weights[p], 2);
            }
            for (int t = 0; t < T; ++t) {
                const __m512i x = broadcast_four(q + 4 * t);
                for (int p = 0; p < P; ++p) total[t][p] = _mm512_dpbusd_epi32(total[t][p], crumb[p], x);
            }
        }
    }
    for (int t = 0; t < T; ++t)
        for (int p = 0; p < P; ++p) _mm512_store_si512(out + size_t(t) * stride + p * kTileRows, total[t][p]);
}

constexpr int kBlockTokens = 8;  // a whole group
constexpr int kBlockPanels = 2;

#include "blocks.h"

}  // namespace

extern const Kernels kAvx512Vnni;
const Kernels kAvx512Vnni = table("avx512vnni", {kBlockTokens, 4}, product);

}  // namespace unmul
