// The in-memory layout of ternary weights, the only one: see docs/engine.md.
//
// A tile is 64 bytes: 16 rows x 16 columns, two bits a weight. Dword r of a tile belongs to row r; its byte j holds
// in crumb c (bits 2c, 2c+1) the weight of column 4c + j, stored as code + 1 (0, 1 or 2). A panel is the tiles of
// 16 rows one after another. Rows are padded to 16 and columns to 64 with the code 0, which adds nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unmul {

class Pool;

constexpr int kTileRows = 16;
constexpr int kTileColumns = 16;
constexpr int kTileBytes = 64;
// A cache line of int8 activations, and the depth of one AMX tile: no kernel needs a remainder loop.
constexpr int kColumnPadding = 64;
// 128 * 128 * columns / 4 must stay below 2^31: the largest sum that a crumb's accumulator can meet.
constexpr int kMaxColumns = 1 << 18;

constexpr int padded(int size, int multiple) { return (size + multiple - 1) / multiple * multiple; }

// N rows x K columns of ternary weights with their one scale.
struct Matrix {
    uint8_t* tiles = nullptr;
    int rows = 0;
    int columns = 0;
    float scale = 0;

    int panels() const { return padded(rows, kTileRows) / kTileRows; }
    int padded_columns() const { return padded(columns, kColumnPadding); }
    size_t panel_bytes() const { return size_t(padded_columns()) / kTileColumns * kTileBytes; }
    size_t bytes() const { return panels() * panel_bytes(); }
    const uint8_t* panel(int index) const { return tiles + index * panel_bytes(); }
};

// Fills matrix.tiles from the file's bytes, five base-3 digits (code + 1) each, rows of ceil(K/5) bytes.
// Returns false if a byte is not a group of five digits (243 or more).
bool fill_from_trits(const Matrix& matrix, const uint8_t* packed, Pool& pool);

}  // namespace unmul
