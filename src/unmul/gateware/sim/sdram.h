// A behavioural model of SDRAM, x16, four banks of 8192 rows of 512 words: what a part returns, and the first rule of
// its data sheet that was broken. Times are those of MT48LC16M16A2-75; IS42S16160G-7 and W9825G6KH-6 ask for no more.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace sdram {

constexpr int kBanks = 4, kRowBits = 13, kColumnBits = 9;
constexpr double kPowerUp = 100e3, kRefreshWindow = 64e6 / 8192;  // nanoseconds, as all that follow
constexpr double kActive = 44, kRowCycle = 66, kRefresh = 66, kPrecharge = 20, kActivate = 20, kOtherBank = 15;
constexpr double kWriteRecovery = 15, kShortestCycle = 7.5, kShortestCycleAtLatency2 = 10;
constexpr int kModeCycles = 2, kFirstRefreshes = 8, kPostponedRefreshes = 8;

struct Pins {
    bool ras = false, cas = false, we = false;  // high when active
    unsigned ba = 0, a = 0;
    uint16_t dq = 0;
    bool driven = false;  // dq, by the controller
};

class Part {
public:
    explicit Part(double clock_mhz) : cycle_(1000 / clock_mhz), words_(size_t(kBanks) << (kRowBits + kColumnBits)) {
        uint16_t noise = 1;
        for (auto& word : words_) word = noise = uint16_t(noise * 25173 + 13849);
    }

    // One cycle: what stands on dq at its end, if the part drives it.
    uint16_t clock(const Pins& pins) {
        const uint16_t dq = answer(pins.driven);
        obey(pins);
        ++now_;
        const double due = started_ ? since(started_at_) / kRefreshWindow : 0;
        require(refreshes_ + kPostponedRefreshes >= due, "tREF: too few refreshes");
        return dq;
    }

    const std::string& fault() const { return fault_; }

private:
    struct Bank {
        bool open = false;
        unsigned row = 0;
        int64_t activated = kNever, precharged = kNever, written = kNever;
    };
    struct Word {
        int64_t due;
        uint16_t value;
    };

    static constexpr int64_t kNever = -(int64_t(1) << 40);

    double since(int64_t cycle) const { return double(now_ - cycle) * cycle_ + 1e-6; }

    void broken(const char* rule) {
        if (fault_.empty()) fault_ = std::string(rule) + " in cycle " + std::to_string(now_);
    }

    void require(bool kept, const char* rule) {
        if (!kept) broken(rule);
    }

    void obey(const Pins& pins) {
        const int command = pins.ras | pins.cas << 1 | pins.we << 2;
        if (command == 0) return;
        require(since(0) >= kPowerUp, "a command before power-up is over");
        require(now_ - mode_set_ >= kModeCycles, "tMRD: a command too soon after the mode");
        require(since(refreshed_) >= kRefresh, "tRFC: a command too soon after a refresh");
        switch (command) {
            case 0b001: return activate(pins);
            case 0b010: return read(pins);
            case 0b110: return write(pins);
            case 0b101: return precharge(pins);
            case 0b011: return refresh();
            case 0b111: return set_mode(pins);
            default: return broken("a command that is not modelled");
        }
    }

    void activate(const Pins& pins) {
        Bank& bank = banks_[pins.ba];
        require(mode_set_ != kNever, "a bank is opened before the mode is set");
        require(!bank.open, "an open bank is opened");
        require(since(bank.precharged) >= kPrecharge, "tRP: opened too soon after a precharge");
        require(since(bank.activated) >= kRowCycle, "tRC: opened too soon after it was opened");
        for (const Bank& other : banks_) require(since(other.activated) >= kOtherBank, "tRRD: two opened at once");
        bank.open = true;
        bank.row = pins.a;
        bank.activated = now_;
    }

    // The word of a column command.
    uint16_t& column(const Pins& pins) {
        const Bank& bank = banks_[pins.ba];
        require(bank.open, "a word of a closed bank");
        require(since(bank.activated) >= kActivate, "tRCD: a word too soon after its bank was opened");
        require(!(pins.a & 1 << 10), "automatic precharge is not modelled");
        const size_t page = size_t(pins.ba) << kRowBits | bank.row;
        return words_[page << kColumnBits | (pins.a & ((1u << kColumnBits) - 1))];
    }

    void read(const Pins& pins) { answers_.push_back({now_ + latency_, column(pins)}); }

    void write(const Pins& pins) {
        require(pins.driven, "a write without data");
        column(pins) = pins.dq;
        banks_[pins.ba].written = now_;
    }

    void precharge(const Pins& pins) {
        for (unsigned at = 0; at < kBanks; ++at) {
            if (!(pins.a & 1 << 10) && at != pins.ba) continue;
            Bank& bank = banks_[at];
            if (bank.open) require(since(bank.activated) >= kActive, "tRAS: closed too soon after it was opened");
            require(since(bank.written) >= kWriteRecovery, "tWR: closed too soon after a write");
            if (bank.open) bank.precharged = now_;
            bank.open = false;
        }
        precharged_ = now_;
    }

    void refresh() {
        for (const Bank& bank : banks_) require(!bank.open, "a refresh while a bank is open");
        require(since(precharged_) >= kPrecharge, "tRP: a refresh too soon after a precharge");
        refreshed_ = now_;
        ++refreshes_;
    }

    void set_mode(const Pins& pins) {
        for (const Bank& bank : banks_) require(!bank.open, "the mode is set while a bank is open");
        require(started_ || refreshes_ >= kFirstRefreshes, "the mode is set before eight refreshes");
        require((pins.a & 0b1111) == 0, "bursts of more than one word are not modelled");
        latency_ = pins.a >> 4 & 0b111;
        require(latency_ == 2 || latency_ == 3, "CAS latency is neither 2 nor 3");
        require(cycle_ >= (latency_ == 2 ? kShortestCycleAtLatency2 : kShortestCycle), "the clock is too fast");
        mode_set_ = started_at_ = now_;
        started_ = true;
        refreshes_ = 0;
    }

    // The part drives dq from before the cycle of its word until after it: the controller keeps a cycle away.
    uint16_t answer(bool driven) {
        const bool soon = !answers_.empty() && answers_.front().due <= now_ + 1;
        if (driven) require(!soon && answered_ < now_ - 1, "both sides drive the data pins");
        if (answers_.empty() || answers_.front().due != now_) return uint16_t(now_ * 40503);
        const uint16_t value = answers_.front().value;
        answers_.pop_front();
        answered_ = now_;
        return value;
    }

    double cycle_;
    std::vector<uint16_t> words_;
    std::array<Bank, kBanks> banks_;
    std::deque<Word> answers_;
    int latency_ = 0, refreshes_ = 0;
    bool started_ = false;
    int64_t now_ = 0, started_at_ = 0;
    int64_t refreshed_ = kNever, precharged_ = kNever, answered_ = kNever, mode_set_ = kNever;
    std::string fault_;
};

// The registers at the pads of a verilated controller, one on each way, with the part behind them.
class Pads {
public:
    static constexpr double kStart = 250;

    explicit Pads(double clock_mhz) : part(clock_mhz) {}

    const std::string& fault() const { return part.fault(); }

    template <class Design>
    void reset(Design& design) {
        design.rst = 1;
        cycle(design);
        design.rst = 0;
    }

    // One cycle of a verilated design that has the controller's pins.
    template <class Design>
    void cycle(Design& design) {
        design.clk = 0;
        design.eval();
        const uint16_t dq = part.clock(pins_);
        pins_ = {bool(design.pins_ras), bool(design.pins_cas), bool(design.pins_we), design.pins_ba,
                 design.pins_a,         design.pins_dq_o,      bool(design.pins_dq_oe)};
        design.clk = 1;
        design.eval();
        design.pins_dq_i = dq;
    }

    Part part;

private:
    Pins pins_;
};

}  // namespace sdram
