// A behavioural model of DDR3, x16, eight banks: what a part returns, and the first rule of its data sheet that was
// broken. Times are those of MT41K256M16 at DDR3-1600; its clock may stop for nothing, and bursts are of eight words.
// A tick is half a cycle of its clock: strobe and data move with ticks, a byte at a time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

namespace ddr3 {

constexpr int kBanks = 8, kColumnBits = 10, kBurst = 8, kBytes = 2, kModes = 4;
constexpr double kActive = 35, kRowCycle = 48.75, kRefresh = 260, kPrecharge = 13.75, kActivate = 13.75;  // ns
constexpr double kFourBanks = 40, kWriteRecovery = 15, kTurn = 7.5, kMode = 15, kClockEnable = 270;
constexpr double kRefreshInterval = 64e6 / 8192 * 1.001;  // a little more: LiteDRAM's is whole cycles, rounded up
constexpr int kPostponedRefreshes = 8;
constexpr int kTurnCycles = 4, kModeToMode = 4, kModeCycles = 12, kColumnToColumn = 4, kCalibration = 512, kLock = 512;

struct Pins {
    bool clk = false, cke = false, ras = false, cas = false, we = false;  // commands high when active
    unsigned ba = 0, a = 0, dm = 0, dq = 0, dqs = 0;
    unsigned dq_driven = 0, dqs_driven = 0;  // by the controller, a bit of each pin
};

struct Answer {
    unsigned dq, dqs;
};

class Part {
public:
    explicit Part(double clock_mhz) : cycle_(1000 / clock_mhz) {}

    // One tick: what the controller's pins show in it; what the part's show in the next.
    Answer tick(const Pins& pins) {
        for (auto& write : writes_) take(write, pins);
        while (!writes_.empty() && now_ >= writes_.front().first + kBurst) writes_.pop_front();
        if (pins.clk && !before_.clk) clock(pins);
        before_ = pins;
        ++now_;
        return answer(pins);
    }

    void delay(unsigned byte, unsigned ticks) { delays_[byte] = int(ticks); }

    const std::string& fault() const { return fault_; }

private:
    struct Bank {
        bool open = false;
        unsigned row = 0;
        int64_t activated = kNever, precharged = kNever, read = kNever, written = kNever;  // written: its last word
    };
    struct Burst {
        int64_t first;  // the tick of its first word
        uint16_t* words;
        int start;
    };

    static constexpr int64_t kNever = -(int64_t(1) << 40);
    static constexpr int kLost = 8;  // ticks of delay of a byte that does not answer

    double since(int64_t tick) const { return double(now_ - tick) * cycle_ / 2 + 1e-6; }
    bool cycles_since(int64_t tick, int cycles) const { return now_ - tick >= 2 * cycles; }

    bool turned(int64_t tick) const { return since(tick) >= kTurn && cycles_since(tick, kTurnCycles); }

    void broken(const char* rule) {
        if (fault_.empty()) fault_ = std::string(rule) + " in tick " + std::to_string(now_);
    }

    void require(bool kept, const char* rule) {
        if (!kept) broken(rule);
    }

    void clock(const Pins& pins) {
        if (pins.cke && !enabled_) wake();
        enabled_ = pins.cke;
        const int command = pins.ras | pins.cas << 1 | pins.we << 2;
        if (!enabled_ || command == 0) return;
        if (command == 0b111) return set_mode(pins);
        if (command == 0b100) return calibrate();
        // A controller that was not told that its part has not started may close and refresh it.
        if (!started() && (command == 0b101 || command == 0b011)) return;
        require(started(), "a command before the modes and the calibration");
        require(since(mode_set_) >= kMode && cycles_since(mode_set_, kModeCycles), "tMOD: too soon after a mode");
        require(cycles_since(calibrated_, kCalibration), "tZQinit: a command during the calibration");
        require(since(refreshed_) >= kRefresh, "tRFC: a command too soon after a refresh");
        const double due = since(calibrated_) / kRefreshInterval;
        require(!served_ || refreshes_ + kPostponedRefreshes >= due, "tREFI: too few refreshes");
        obey(command, pins);
    }

    void obey(int command, const Pins& pins) {
        switch (command) {
            case 0b001: return activate(pins);
            case 0b010: return read(pins);
            case 0b110: return write(pins);
            case 0b101: return precharge(pins);
            case 0b011: return refresh();
            default: return broken("a command that is not modelled");
        }
    }

    bool started() const { return modes_set_ == (1 << kModes) - 1 && calibrated_ != kNever; }

    void wake() {
        woken_ = now_;
        modes_set_ = 0;
        calibrated_ = kNever;
    }

    void set_mode(const Pins& pins) {
        require(since(woken_) >= kClockEnable, "tXPR: a mode too soon after the clock was enabled");
        require(cycles_since(mode_set_, kModeToMode), "tMRD: a mode too soon after another");
        require(pins.ba < kModes, "there is no such mode");
        for (const Bank& bank : banks_) require(!bank.open, "a mode is set while a bank is open");
        modes_set_ |= 1 << pins.ba;
        mode_set_ = now_;
        if (pins.ba == 0) {
            require((pins.a & 3) == 0, "bursts of other than eight words are not modelled");
            latency_ = 4 + int(pins.a >> 4 & 7);
            require((pins.a >> 2 & 1) == 0 && latency_ > 4, "a CAS latency that is not modelled");
            if (pins.a >> 8 & 1) locking_ = now_;
        }
        if (pins.ba == 1) require((pins.a & 1) == 0 && (pins.a >> 3 & 3) == 0, "a latency that is not modelled");
        if (pins.ba == 2) write_latency_ = 5 + int(pins.a >> 3 & 7);
    }

    void calibrate() {
        require(modes_set_ == (1 << kModes) - 1, "the calibration comes before a mode");
        calibrated_ = now_;
        refreshes_ = 0;
        served_ = false;
    }

    void activate(const Pins& pins) {
        Bank& bank = banks_[pins.ba];
        require(!bank.open, "an open bank is opened");
        require(since(bank.precharged) >= kPrecharge, "tRP: opened too soon after a precharge");
        require(since(bank.activated) >= kRowCycle, "tRC: opened too soon after it was opened");
        for (const Bank& other : banks_) {
            require(turned(other.activated), "tRRD: two opened at once");
        }
        require(since(activated_[0]) >= kFourBanks, "tFAW: five opened at once");
        for (int at = 0; at < 3; ++at) activated_[at] = activated_[at + 1];
        activated_[3] = bank.activated = now_;
        bank.open = true;
        bank.row = pins.a;
    }

    // The burst of a column command whose first word is due in so many cycles.
    Burst column(const Pins& pins, int latency) {
        const Bank& bank = banks_[pins.ba];
        require(bank.open, "a word of a closed bank");
        require(since(bank.activated) >= kActivate, "tRCD: a word too soon after its bank was opened");
        require(cycles_since(column_, kColumnToColumn), "tCCD: two bursts at once");
        column_ = now_;
        auto& page = pages_[pins.ba << 16 | bank.row];
        if (page.empty()) page.assign(size_t(1) << kColumnBits, uint16_t(noise()));
        const unsigned at = pins.a & ((1u << kColumnBits) - 1);
        return {now_ + 2 * latency, &page[at & ~7u], int(at & 7)};
    }

    void read(const Pins& pins) {
        require(cycles_since(locking_, kLock), "tDLLK: a read before the DLL has locked");
        for (const Bank& bank : banks_) {
            require(turned(bank.written), "tWTR: a read too soon after a write");
        }
        const Burst burst = column(pins, latency_);
        require(burst.start == 0, "bursts that begin at other than their first word are not modelled");
        Reply reply{burst.first, {}};
        for (int at = 0; at < kBurst; ++at) reply.words[size_t(at)] = burst.words[at];
        replies_.push_back(reply);
        Bank& bank = banks_[pins.ba];
        bank.read = now_;
        if (pins.a >> 10 & 1) close(bank, now_ + 2 * kTurnCycles);
    }

    void write(const Pins& pins) {
        const Burst burst = column(pins, write_latency_);
        require(burst.start == 0, "bursts that begin at other than their first word are not modelled");
        writes_.push_back(burst);
        Bank& bank = banks_[pins.ba];
        bank.written = burst.first + kBurst;
        if (pins.a >> 10 & 1) close(bank, bank.written + ticks(kWriteRecovery));
    }

    int64_t ticks(double nanoseconds) const { return int64_t(nanoseconds * 2 / cycle_ + 0.999); }

    // Close a bank, at once or by itself as soon as it may.
    void close(Bank& bank, int64_t when) {
        const int64_t may = bank.activated + ticks(kActive);
        bank.precharged = when > may ? when : may;
        bank.open = false;
    }

    void precharge(const Pins& pins) {
        for (unsigned at = 0; at < kBanks; ++at) {
            Bank& bank = banks_[at];
            if ((!(pins.a >> 10 & 1) && at != pins.ba) || !bank.open) continue;
            require(since(bank.activated) >= kActive, "tRAS: closed too soon after it was opened");
            require(since(bank.written) >= kWriteRecovery, "tWR: closed too soon after a write");
            require(cycles_since(bank.read, kTurnCycles), "tRTP: closed too soon after a read");
            close(bank, now_);
        }
    }

    void refresh() {
        for (const Bank& bank : banks_) {
            require(!bank.open, "a refresh while a bank is open");
            require(since(bank.precharged) >= kPrecharge, "tRP: a refresh too soon after a precharge");
        }
        // Until the controller refreshes, the host trains the pins, with rows that it has just written.
        if (!served_) calibrated_ = now_ - 2 * int64_t(kCalibration);
        served_ = true;
        refreshed_ = now_;
        ++refreshes_;
    }

    // A word of a write, as the strobe's edge finds it: what stood on the pins until then.
    void take(const Burst& write, const Pins& pins) {
        const int64_t at = now_ - write.first;
        if (at == -1) require(pins.dqs_driven == 3 && pins.dqs == 0, "tWPRE: no preamble before a write's data");
        if (at < 0 || at >= kBurst) return;
        const unsigned edge = at % 2 ? 0 : 3;
        const bool moves = pins.dqs == edge && before_.dqs == (edge ^ 3);
        require(pins.dqs_driven == 3 && moves, "tDQSS: no strobe where its data are");
        require(before_.dq_driven == 0xffff, "a strobe without data");
        for (unsigned byte = 0; byte < kBytes; ++byte) {
            const uint16_t mask = uint16_t(before_.dm >> byte & 1 ? 0 : 0xff << 8 * byte);
            write.words[at] = uint16_t((write.words[at] & ~mask) | (before_.dq & mask));
        }
    }

    // What the part's pins show now: each byte's strobe low, then with the words of a burst; other data are noise.
    Answer answer(const Pins& pins) {
        Answer shown{noise(), 0};
        while (!replies_.empty() && now_ > replies_.front().first + kBurst + kLost) replies_.pop_front();
        for (const Reply& reply : replies_) {
            for (unsigned byte = 0; byte < kBytes; ++byte) {
                const int64_t at = now_ - reply.first - delays_[byte];
                if (at < -2 || at >= kBurst || delays_[byte] >= kLost) continue;
                if (at < 0 && was_sent(byte, now_ - 1)) continue;
                require(!(pins.dq_driven | pins.dqs_driven), "both sides drive the data pins");
                const unsigned mask = 0xffu << 8 * byte;
                shown.dqs = (shown.dqs & ~(1u << byte)) | unsigned(at >= 0 && at % 2 == 0) << byte;
                if (at >= 0) shown.dq = (shown.dq & ~mask) | (reply.words[size_t(at)] & mask);
            }
        }
        return shown;
    }

    struct Reply {
        int64_t first;
        std::array<uint16_t, kBurst> words;
    };

    // Whether a byte showed a word in a tick: bursts that follow each other have no preamble between them.
    bool was_sent(unsigned byte, int64_t tick) const {
        for (const Reply& reply : replies_) {
            const int64_t at = tick - reply.first - delays_[byte];
            if (at >= 0 && at < kBurst) return true;
        }
        return false;
    }

    unsigned noise() {
        random_ = random_ * 1664525 + 1013904223;
        return random_ >> 16;
    }

    double cycle_;
    std::unordered_map<unsigned, std::vector<uint16_t>> pages_;
    std::array<Bank, kBanks> banks_;
    std::array<int, kBytes> delays_{};
    std::array<int64_t, 4> activated_{kNever, kNever, kNever, kNever};
    std::deque<Burst> writes_;
    std::deque<Reply> replies_;
    Pins before_;
    bool enabled_ = false, served_ = false;
    int latency_ = 0, write_latency_ = 0, modes_set_ = 0, refreshes_ = 0;
    uint32_t random_ = 1;
    int64_t now_ = 0, woken_ = 0;
    int64_t mode_set_ = kNever, calibrated_ = kNever, locking_ = kNever, refreshed_ = kNever, column_ = kNever;
    std::string fault_;
};

// The pins of a verilated design whose PLL's model makes the clock of the part out of the crystal's.
class Pads {
public:
    static constexpr double kStart = 600;

    explicit Pads(double clock_mhz) : part(2 * clock_mhz) {}

    const std::string& fault() const { return part.fault(); }

    template <class Design>
    void reset(Design&) {}

    // One cycle of a verilated design: four ticks.
    template <class Design>
    void cycle(Design& design) {
        for (int tick = 0; tick < 4; ++tick) {
            design.ddr3_dq = answer_.dq;
            design.ddr3_dqs = answer_.dqs;
            design.clk100 = tick % 2 == 0;
            design.eval();
            answer_ = part.tick({
                bool(design.ddr3_clk), bool(design.ddr3_clk_en), !design.ddr3_ras, !design.ddr3_cas, !design.ddr3_we,
                design.ddr3_ba, design.ddr3_a, design.ddr3_dm, design.ddr3_dq__out, design.ddr3_dqs__out,
                design.ddr3_dq__en, design.ddr3_dqs__en,
            });
        }
    }

    Part part;

private:
    Answer answer_{};
};

}  // namespace ddr3
