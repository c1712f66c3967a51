// Where the time of a pass goes: always compiled in, off until asked for.
#pragma once

#include <chrono>

namespace unmul {

enum Phase { kEmbeddings, kNorms, kQuantise, kProducts, kGates, kScan, kHead, kBarriers, kPhases };
constexpr const char* kPhaseNames[kPhases] = {"embeddings", "norms", "quantise", "products",
                                              "gates",      "scan",  "head",     "barriers"};

// One per thread, on cache lines of its own. Every moment between start() and the last lap belongs to one phase.
class alignas(64) Stopwatch {
public:
    // Turned on, it begins at zero; turned off, it keeps what it measured.
    void turn(bool on) {
        if (on) *this = {};
        on_ = on;
    }

    void start() {
        if (on_) last_ = Clock::now();
    }

    // The time since the last lap was the phase's.
    void lap(Phase phase) {
        if (!on_) return;
        const Clock::time_point now = Clock::now();
        seconds_[phase] += std::chrono::duration<double>(now - last_).count();
        last_ = now;
    }

    double seconds(Phase phase) const { return seconds_[phase]; }

private:
    using Clock = std::chrono::steady_clock;
    bool on_ = false;
    Clock::time_point last_{};
    double seconds_[kPhases] = {};
};

}  // namespace unmul
