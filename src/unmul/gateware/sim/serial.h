// A verilated board at the other end of a serial line, as plain C functions for ctypes. Whoever includes this has said
// what is behind the board's pins as Pads: reset(top), cycle(top), start, microseconds until it hears, and fault().
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>

#include "Vcore.h"
#include "verilated.h"

namespace {

constexpr int kBits = 10;      // of a byte, with start and stop

struct Board {
    Board(double clock_mhz, unsigned divisor) : pads(clock_mhz), divisor(divisor) {
        top.rx = 1;
        pads.reset(top);
        while (double(cycles) < Pads::kStart * clock_mhz) cycle();
    }

    void cycle() {
        pads.cycle(top);
        ++cycles;
        listen();
    }

    void hold(bool level, unsigned bits) {
        top.rx = level;
        for (unsigned cycle_of_bits = 0; cycle_of_bits < bits * divisor; ++cycle_of_bits) cycle();
    }

    void send(uint8_t byte) {
        hold(false, 1);
        for (int bit = 0; bit < 8; ++bit) hold(byte >> bit & 1, 1);
        hold(true, 1);
    }

    // Samples the board's line in the middle of each bit.
    void listen() {
        if (left == 0) {
            if (top.tx) return;
            left = kBits;
            wait = divisor / 2;
        }
        if (wait-- > 0) return;
        wait = divisor - 1;
        bits = uint16_t(bits >> 1 | top.tx << (kBits - 1));
        if (--left == 0) received.push_back(uint8_t(bits >> 1));
    }

    VerilatedContext context;
    Vcore top{&context};
    Pads pads;
    unsigned divisor;
    int left = 0;
    unsigned wait = 0;
    uint16_t bits = 0;
    uint64_t cycles = 0;
    std::deque<uint8_t> received;
};

}  // namespace

extern "C" {

Board* board_new(double clock_mhz, unsigned divisor) { return std::make_unique<Board>(clock_mhz, divisor).release(); }
void board_delete(Board* board) { delete board; }
const char* board_fault(const Board* board) { return board->pads.fault().c_str(); }
uint64_t board_cycles(const Board* board) { return board->cycles; }

void board_write(Board* board, const uint8_t* content, size_t size) {
    for (size_t at = 0; at < size; ++at) board->send(content[at]);
}

void board_break(Board* board) {
    board->hold(false, 2 * kBits);
    board->hold(true, 2 * kBits);
}

// Waits for so many bytes, `limit` cycles at the longest; returns how many have come.
size_t board_read(Board* board, uint8_t* content, size_t size, uint64_t limit) {
    const uint64_t end = board->cycles + limit;
    while (board->received.size() < size && board->cycles < end) board->cycle();
    const size_t found = std::min(size, board->received.size());
    std::copy_n(board->received.begin(), found, content);
    board->received.erase(board->received.begin(), board->received.begin() + long(found));
    return found;
}

}  // extern "C"
