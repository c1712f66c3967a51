// Same contract as scalar.cpp, on 256-bit registers with vpmaddubsw, whose int16 sums must never saturate:
// codes are 0..2 and |q| <= 128, so two products add up to -512..508, and the loops below flush in time.
#include <immintrin.h>

#include <cstring>

#include "kernels.h"

#define UNMUL_WIDTH 8

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

constexpr int kHalf = kTileBytes / 2;  // a register holds 8 rows of a tile

UNMUL_INLINE __m256i broadcast_four(const int8_t* q) {
    int32_t word;
    memcpy(&word, q, sizeof word);
    return _mm256_set1_epi32(word);
}

UNMUL_INLINE __m256i widen(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// One token: crumbs 1 and 3 are masked where they stand in their nibble, four times too large: -4096..4064 a tile,
// so eight tiles just fit int16. They are divided exactly at the end.
constexpr int kTilesOfOne = 8;

void panel_of_one(const uint8_t* tile, const int8_t* q, int columns, int32_t sum, int32_t* out) {
    const __m256i low = _mm256_set1_epi8(0x03), high = _mm256_set1_epi8(0x0c);
    __m256i ones[2] = {}, fours[2] = {};
    for (int tiles = columns / kTileColumns; tiles > 0; tiles -= kTilesOfOne) {
        __m256i one[2] = {}, four[2] = {};
        for (int n = tiles < kTilesOfOne ? tiles : kTilesOfOne; n > 0; --n, tile += kTileBytes, q += kTileColumns) {
            prefetch(tile);
            const __m256i x[4] = {broadcast_four(q), broadcast_four(q + 4), broadcast_four(q + 8),
                                  broadcast_four(q + 12)};
            for (int half = 0; half < 2; ++half) {
                const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(tile + half * kHalf));
                const __m256i b = _mm256_srli_epi16(a, 4);
                one[half] = _mm256_add_epi16(one[half],
                                             _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(a, low), x[0]),
                                                              _mm256_maddubs_epi16(_mm256_and_si256(b, low), x[2])));
                four[half] = _mm256_add_epi16(four[half],
                                              _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(a, high), x[1]),
                                                               _mm256_maddubs_epi16(_mm256_and_si256(b, high), x[3])));
            }
        }
        for (int half = 0; half < 2; ++half) {
            ones[half] = _mm256_add_epi32(ones[half], widen(one[half]));
            fours[half] = _mm256_add_epi32(fours[half], widen(four[half]));
        }
    }
    for (int half = 0; half < 2; ++half) {
        const __m256i total = _mm256_add_epi32(ones[half], _mm256_srai_epi32(fours[half], 2));
        _mm256_store_si256(reinterpret_cast<__m256i*>(out) + half, _mm256_sub_epi32(total, _mm256_set1_epi32(sum)));
    }
}

constexpr int kBlockTokens = 4;
constexpr int kBlockPanels = 1;

// T tokens: crumbs are shifted down once and used T times: -2048..2032 a tile, so sixteen tiles just fit int16.
constexpr int kTilesOfMany = 16;

template <int T, int P>
void block(const uint8_t* tile, size_t, const int8_t* q, int step, int columns, const int32_t* sum, int32_t* out,
           int stride) {
    static_assert(P == 1);
    const __m256i mask = _mm256_set1_epi8(0x03);
    __m256i total[T][2];
    for (int t = 0; t < T; ++t) total[t][0] = total[t][1] = _mm256_set1_epi32(-sum[t]);
    for (int tiles = columns / kTileColumns; tiles > 0; tiles -= kTilesOfMany) {
        __m256i part[T][2] = {};
        for (int n = tiles < kTilesOfMany ? tiles : kTilesOfMany; n > 0; --n, tile += kTileBytes) {
            prefetch(tile);
            const __m256i weights[2] = {_mm256_load_si256(reinterpret_cast<const __m256i*>(tile)),
                                        _mm256_load_si256(reinterpret_cast<const __m256i*>(tile + kHalf))};
            for (int c = 0; c < 4; ++c, q += 4 * step) {
                const __m256i crumb[2] = {_mm256_and_si256(_mm256_srli_epi16(weights[0], 2 * c), mask),
                                          _mm256_and_si256(_mm256_srli_epi16(weights[1], 2 * c), mask)};
                for (int t = 0; t < T; ++t) {
                    const __m256i x = broadcast_four(q + 4 * t);
                    for (int half = 0; half < 2; ++half)
                        part[t][half] = _mm256_add_epi16(part[t][half], _mm256_maddubs_epi16(crumb[half], x));
                }
            }
        }
        for (int t = 0; t < T; ++t)
            for (int half = 0; half < 2; ++half)
                total[t][half] = _mm256_add_epi32(total[t][half], widen(part[t][half]));
    }
    for (int t = 0; t < T; ++t)
        for (int half = 0; half < 2; ++half)
            _mm256_store_si256(reinterpret_cast<__m256i*>(out + size_t(t) * stride) + half, total[t][half]);
}

#include "blocks.h"

}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = table("avx2", {8, 4}, product);

}  // namespace unmul
