// What one product leaves for the next: rows of activations, from every block to every block.
//
// Fused, a value stands in one word with the time of its product, and readers ask until it has come: they wait for what
// they read and for nothing else, with no arrival, no fence and one way through the second-level cache in place of three.
// A row is written again two products later at the earliest, by blocks that have waited for all that its readers make of it.
// Otherwise rows are floats behind a barrier of the grid.
#pragma once

#include "stream.cuh"

enum Row { kRowX, kRowGate, kRowState, kRowWide, kRows };  // the residual stream; inputs of o; input of down
constexpr int kTimedRow = greater(kWidthPadded, greater(kMixerPadded, kHiddenPadded));

class Exchange {
public:
    UNMUL_DEVICE Exchange(const Workspace& space, uint32_t time) : space_(space), barrier_(space.barrier, gridDim.x), time_(time) {}

    // A product begins: what the one before has sent may be received. Not called before the first of a token.
    UNMUL_DEVICE void begin() {
        if (!kFused) barrier_.wait();
    }
    UNMUL_DEVICE void end() {
        if (kFused) ++time_;
        else barrier_.arrive();
    }
    // All blocks are here, and see what each has written.
    UNMUL_DEVICE void meet() {
        barrier_.arrive();
        barrier_.wait();
    }
    UNMUL_DEVICE void leave() { barrier_.leave(); }

    UNMUL_DEVICE void send(Row row, int b, int channel, float value) {
        if (kFused) send_timed(timed(row, b) + channel, value, time_);
        else plain(row, b)[channel] = value;
    }
    // What this block has sent before.
    UNMUL_DEVICE float sent(Row row, int b, int channel) const {
        return kFused ? __int_as_float(int32_t(timed(row, b)[channel])) : plain(row, b)[channel];
    }
    UNMUL_DEVICE void touch(Row row, int b, int channel) const {
        if (kFused) prefetch(timed(row, b) + channel);
        else prefetch(plain(row, b) + channel);
    }
    // Rows that stand one after another, from the first on.
    template <int Columns, int R>
    UNMUL_DEVICE void receive(Share<Columns> (&to)[R], Row first, int b) const {
        if constexpr (kFused) {
            constexpr int kGroups = Share<Columns>::kGroups;
            const int column = Share<Columns>::column(0);
            float4 values[R][kGroups];
            TimedRows<kSequences * kTimedRow, 4 * kThreads, R, kGroups>().receive(
                values, timed(first, b) + column, Columns - column, time_ - 1);
#pragma unroll
            for (int n = 0; n < R * kGroups; ++n) to[n / kGroups].group[n % kGroups] = values[n / kGroups][n % kGroups];
        } else {
#pragma unroll
            for (int r = 0; r < R; ++r) to[r].load(plain(Row(first + r), b));
        }
    }

private:
    UNMUL_DEVICE uint64_t* timed(Row row, int b) const { return space_.timed + (row * kSequences + b) * kTimedRow; }
    UNMUL_DEVICE float* plain(Row row, int b) const {
        if (row == kRowWide) return space_.wide + b * kHiddenPadded;
        if (row == kRowX) return space_.x + b * kWidthPadded;
        return (row == kRowGate ? space_.gate : space_.hidden) + b * kMixerPadded;
    }

    const Workspace& space_;
    Barrier barrier_;
    uint32_t time_;  // of the product at work
};
