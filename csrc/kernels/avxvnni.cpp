// Same contract as scalar.cpp, on 256-bit registers with vpdpbusd (u8 weights x s8 activations, int32 sums, no saturation).
#include <immintrin.h>

#include <cstring>

#include "kernels.h"

#define UNMUL_WIDTH 8

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

constexpr int kHalf = kTileBytes / 2;  // a register holds 8 rows of a tile

// The same instruction has a second encoding, under which tests run this file on CPUs that only have AVX-512.
UNMUL_INLINE __m256i multiply_add(__m256i total, __m256i weights, __m256i q) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(total, weights, q);
#else
    return _mm256_dpbusd_epi32(total, weights, q);
#endif
}

UNMUL_INLINE __m256i broadcast_four(const int8_t* q) {
    int32_t word;
    memcpy(&word, q, sizeof word);
    return _mm256_set1_epi32(word);
}

UNMUL_INLINE __m256i load_half(const uint8_t* tile, int half) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(tile + half * kHalf));
}

// One token: crumb c is masked where it stands, 4^c times too large; four sums are kept apart and divided at the end.
void panel_of_one(const uint8_t* tile, const int8_t* q, int columns, int32_t sum, int32_t* out) {
    const __m256i mask[4] = {_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c), _mm256_set1_epi8(0x30),
                             _mm256_set1_epi8(char(0xc0))};
    __m256i total[2][4] = {};
    for (int k = 0; k < columns; k += kTileColumns, tile += kTileBytes, q += kTileColumns) {
        prefetch(tile);
        const __m256i weights[2] = {load_half(tile, 0), load_half(tile, 1)};
        for (int c = 0; c < 4; ++c) {
            const __m256i x = broadcast_four(q + 4 * c);
            for (int half = 0; half < 2; ++half)
                total[half][c] = multiply_add(total[half][c], _mm256_and_si256(weights[half], mask[c]), x);
        }
    }
    for (int half = 0; half < 2; ++half) {
        __m256i result = _mm256_set1_epi32(-sum);
        for (int c = 0; c < 4; ++c) result = _mm256_add_epi32(result, _mm256_srai_epi32(total[half][c], 2 * c));
        _mm256_store_si256(reinterpret_cast<__m256i*>(out) + half, result);
    }
}

constexpr int kBlockTokens = 4;
constexpr int kBlockPanels = 1;

// T tokens: crumbs are shifted down once and used T times.
template <int T, int P>
void block(const uint8_t* tile, size_t, const int8_t* q, int step, int columns, const int32_t* sum, int32_t* out,
           int stride) {
    static_assert(P == 1);
    const __m256i mask = _mm256_set1_epi8(0x03);
    __m256i total[T][2];
    for (int t = 0; t < T; ++t) total[t][0] = total[t][1] = _mm256_set1_epi32(-sum[t]);
    for (int k = 0; k < columns; k += kTileColumns, tile += kTileBytes) {
        prefetch(tile);
        __m256i weights[2] = {load_half(tile, 0), load_half(tile, 1)};
        for (int c = 0; c < 4; ++c, q += 4 * step) {
            const __m256i crumb[2] = {_mm256_and_si256(weights[0], mask), _mm256_and_si256(weights[1], mask)};
            for (__m256i& half : weights) half = _mm256_srli_epi16(half, 2);
            for (int t = 0; t < T; ++t) {
                const __m256i x = broadcast_four(q + 4 * t);
                for (int half = 0; half < 2; ++half) total[t][half] = multiply_add(total[t][half], crumb[half], x);
            }
        }
    }
    for (int t = 0; t < T; ++t)
        for (int half = 0; half < 2; ++half)
            _mm256_store_si256(reinterpret_cast<__m256i*>(out + size_t(t) * stride) + half, total[t][half]);
}

#include "blocks.h"

}  // namespace

extern const Kernels kAvxVnni;
const Kernels kAvxVnni = table("avxvnni", {8, 4}, product);

}  // namespace unmul
