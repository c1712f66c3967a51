#include "layout.h"

#include <array>
#include <atomic>
#include <cstring>
#include <vector>

#include "pool.h"

namespace unmul {
namespace {

constexpr int kTritsPerByte = 5;
constexpr int kValidBytes = 243;
constexpr uint8_t kZeroCode = 1;
constexpr int kSlack = 8;  // a byte's digits are stored eight bytes at a time

using Digits = std::array<uint64_t, 256>;

// Byte -> its five base-3 digits, lowest first, one per byte of a word.
constexpr Digits make_digits() {
    Digits table{};
    for (int byte = 0; byte < 256; ++byte)
        for (int digit = 0, rest = byte; digit < kTritsPerByte; ++digit, rest /= 3)
            table[byte] |= uint64_t(rest % 3) << (8 * digit);
    return table;
}
constexpr Digits kDigits = make_digits();

// One row of the file -> one byte per weight, padded with the code 0.
bool unpack_row(const uint8_t* packed, int columns, uint8_t* codes, int capacity) {
    bool valid = true;
    const int bytes = padded(columns, kTritsPerByte) / kTritsPerByte;
    for (int k = 0; k < bytes; ++k) {
        valid &= packed[k] < kValidBytes;
        std::memcpy(codes + k * kTritsPerByte, &kDigits[packed[k]], sizeof(uint64_t));
    }
    std::memset(codes + columns, kZeroCode, capacity - columns);
    return valid;
}

uint32_t four_codes(const uint8_t* codes) {
    uint32_t word;
    std::memcpy(&word, codes, sizeof word);
    return word;
}

// 16 rows of one byte per weight -> a panel of tiles.
void fold_panel(const uint8_t* codes, int capacity, int columns, uint8_t* panel) {
    for (int k = 0; k < columns; k += kTileColumns)
        for (int row = 0; row < kTileRows; ++row, panel += sizeof(uint32_t)) {
            const uint8_t* from = codes + size_t(row) * capacity + k;
            const uint32_t word = four_codes(from) | four_codes(from + 4) << 2 | four_codes(from + 8) << 4 |
                                  four_codes(from + 12) << 6;
            std::memcpy(panel, &word, sizeof word);
        }
}

}  // namespace

bool fill_from_trits(const Matrix& matrix, const uint8_t* packed, Pool& pool) {
    const int capacity = matrix.padded_columns() + kSlack;
    const size_t row_bytes = padded(matrix.columns, kTritsPerByte) / kTritsPerByte;
    std::atomic<bool> valid{true};
    pool.run([&](int thread) {
        std::vector<uint8_t> codes(size_t(kTileRows) * capacity);
        const Range panels = pool.share(matrix.panels(), thread);
        for (int panel = panels.first; panel < panels.last; ++panel) {
            for (int row = 0; row < kTileRows; ++row) {
                const int source = panel * kTileRows + row;
                uint8_t* target = codes.data() + size_t(row) * capacity;
                if (source >= matrix.rows)
                    std::memset(target, kZeroCode, capacity);
                else if (!unpack_row(packed + source * row_bytes, matrix.columns, target, capacity))
                    valid.store(false, std::memory_order_relaxed);
            }
            fold_panel(codes.data(), capacity, matrix.padded_columns(), matrix.tiles + panel * matrix.panel_bytes());
        }
    });
    return valid;
}

}  // namespace unmul
