// The file's bytes, five trits each, to tiles: the twin of layout.py.
#include "primitives.cuh"

constexpr int kPackThreads = 256;
constexpr int kTileRows = 16, kTileColumns = 128, kTileWords = 128;
constexpr int kTritsPerByte = 5, kValidBytes = 243;

struct Matrix {
    const uint8_t* trits;  // [rows, ceil(columns / 5)]
    uint32_t* words;       // [panels, tiles, 128], of which every step-th panel is written, from the first
    uint32_t* damaged;     // set where a byte is no group of five trits
    int rows, columns, first, step;
};

UNMUL_DEVICE uint32_t stored_code(const Matrix& m, int row, int column) {
    if (row >= m.rows || column >= m.columns) return 1;
    const int width = (m.columns + kTritsPerByte - 1) / kTritsPerByte;
    uint32_t byte = m.trits[int64_t(row) * width + column / kTritsPerByte];
    if (byte >= kValidBytes) atomicOr(m.damaged, 1u);
    for (int k = column % kTritsPerByte; k > 0; --k) byte /= 3;
    return byte % 3;
}

UNMUL_KERNEL(kPackThreads) pack(const Matrix m) {
    const int tiles = (m.columns + kTileColumns - 1) / kTileColumns, panels = (m.rows + kTileRows - 1) / kTileRows;
    const int64_t index = int64_t(blockIdx.x) * kPackThreads + threadIdx.x;
    const int place = int(index % kTileWords), lane = place / 4, which = place % 4;
    const int64_t tile = index / kTileWords;
    const int panel = int(tile / tiles);
    if (panel >= panels) return;
    const int row = panel * kTileRows + lane / 4;
    const int column = int(tile % tiles) * kTileColumns + 64 * (which / 2) + 16 * (lane % 4) + 8 * (which % 2);
    uint32_t word = 0;
    for (int crumb = 0; crumb < 4; ++crumb)
        for (int byte = 0; byte < 4; ++byte)
            word |= stored_code(m, row + 8 * (crumb % 2), column + 4 * (crumb / 2) + byte) << (8 * byte + 2 * crumb);
    m.words[((int64_t(m.first) + int64_t(panel) * m.step) * tiles + tile % tiles) * kTileWords + place] = word;
}
