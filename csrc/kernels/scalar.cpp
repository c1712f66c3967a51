// The reference: the layout read weight by weight. The fast files are compared with this one to the bit.
#include "kernels.h"

#define UNMUL_WIDTH 4

namespace unmul {
namespace {

#include "lanes.h"

#include "elementwise.h"

// One row against one token: sum of (code + 1) q over the columns.
int32_t dot(const uint8_t* row_of_tiles, const int8_t* q, int step, int columns) {
    int32_t total = 0;
    for (int tile = 0; tile < columns / kTileColumns; ++tile, row_of_tiles += kTileBytes)
        for (int crumb = 0; crumb < 4; ++crumb, q += 4 * step)
            for (int j = 0; j < 4; ++j) total += (row_of_tiles[j] >> (2 * crumb) & 3) * q[j];
    return total;
}

void product(const Matrix& w, const Activations& x, int tokens, Range panels, int32_t* out, int stride) {
    for (int n = panels.first * kTileRows; n < panels.last * kTileRows; ++n)
        for (int t = 0; t < tokens; ++t) {
            const uint8_t* row = w.panel(n / kTileRows) + 4 * (n % kTileRows);
            out[size_t(t) * stride + n] = dot(row, x.token(t), x.group(t, tokens), w.padded_columns()) - x.sum[t];
        }
}

}  // namespace

extern const Kernels kScalar;
const Kernels kScalar = table("scalar", {8, 4}, product);

}  // namespace unmul
