// Same contract as scalar.cpp, on WebAssembly's 128-bit registers. Where the browser has relaxed SIMD, with its dot product
// of bytes: codes are 7-bit numbers and two products never pass 2^15, so every browser gives the same bits. Elsewhere
// products are added up in int16: -1024..1016 a tile, so sixteen tiles just fit.
#include <wasm_simd128.h>

#include "kernels.h"

#define UNMUL_WIDTH 4

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

constexpr int kQuarters = kTileBytes / 16;  // a register holds 4 rows of a tile
constexpr int kTilesOfSum = 16;

// Sums of products of 16 codes with four activations, by row.
struct Sum {
#if defined(__wasm_relaxed_simd__)
    v128_t rows;

    void add(v128_t codes, v128_t q) { rows = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(q, codes, rows); }
    v128_t total() const { return rows; }
#else
    v128_t low, high;  // int16, four for each row

    void add(v128_t codes, v128_t q) {
        low = wasm_i16x8_add(low, wasm_i16x8_extmul_low_i8x16(codes, q));
        high = wasm_i16x8_add(high, wasm_i16x8_extmul_high_i8x16(codes, q));
    }
    v128_t total() const {
        const v128_t first = wasm_i32x4_extadd_pairwise_i16x8(low), last = wasm_i32x4_extadd_pairwise_i16x8(high);
        return wasm_i32x4_add(wasm_i32x4_shuffle(first, last, 0, 2, 4, 6), wasm_i32x4_shuffle(first, last, 1, 3, 5, 7));
    }
#endif
};

constexpr int kBlockTokens = 2;
constexpr int kBlockPanels = 1;

// T tokens: crumbs are shifted down once and used T times.
template <int T, int P>
void block(const uint8_t* tile, size_t, const int8_t* q, int step, int columns, const int32_t* sum, int32_t* out,
           int stride) {
    static_assert(P == 1);
    v128_t total[T][kQuarters];
    for (int t = 0; t < T; ++t)
        for (v128_t& part : total[t]) part = wasm_i32x4_splat(-sum[t]);
    for (int tiles = columns / kTileColumns; tiles > 0; tiles -= kTilesOfSum) {
        Sum sums[T][kQuarters] = {};
        for (int n = tiles < kTilesOfSum ? tiles : kTilesOfSum; n > 0; --n, tile += kTileBytes) {
            v128_t weights[kQuarters];
            for (int part = 0; part < kQuarters; ++part) weights[part] = wasm_v128_load(tile + 16 * part);
            for (int c = 0; c < 4; ++c, q += 4 * step)
                for (int part = 0; part < kQuarters; ++part) {
                    const v128_t codes = wasm_v128_and(wasm_u32x4_shr(weights[part], 2 * c), wasm_i8x16_splat(3));
                    for (int t = 0; t < T; ++t) sums[t][part].add(codes, wasm_v128_load32_splat(q + 4 * t));
                }
        }
        for (int t = 0; t < T; ++t)
            for (int part = 0; part < kQuarters; ++part)
                total[t][part] = wasm_i32x4_add(total[t][part], sums[t][part].total());
    }
    for (int t = 0; t < T; ++t)
        for (int part = 0; part < kQuarters; ++part) wasm_v128_store(out + size_t(t) * stride + 4 * part, total[t][part]);
}

void panel_of_one(const uint8_t* tile, const int8_t* q, int columns, int32_t sum, int32_t* out) {
    block<1, 1>(tile, 0, q, 1, columns, &sum, out, 0);
}

#include "blocks.h"

}  // namespace

extern const Kernels kWasmSimd;
#if defined(__wasm_relaxed_simd__)
const Kernels kWasmSimd = table("wasm_relaxed_simd", {8, 4}, product);
#else
const Kernels kWasmSimd = table("wasm_simd", {8, 4}, product);
#endif

}  // namespace unmul
