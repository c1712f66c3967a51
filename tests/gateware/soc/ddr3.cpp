// The model of DDR3 alone, as plain C functions for ctypes.
#include "ddr3.h"

#include <memory>

namespace {

struct Bench {
    // A cycle of the part's clock with a command, bits (ras, cas, we), at its rise.
    void cycle(unsigned command = 0, unsigned ba = 0, unsigned a = 0) {
        ddr3::Pins pins;
        pins.cke = cke;
        part.tick(pins);
        pins.clk = true;
        pins.ras = command & 1, pins.cas = command >> 1 & 1, pins.we = command >> 2 & 1;
        pins.ba = ba, pins.a = a;
        part.tick(pins);
    }

    ddr3::Part part{600};
    bool cke = false;
};

}  // namespace

extern "C" {

Bench* part_new() { return std::make_unique<Bench>().release(); }
void part_delete(Bench* bench) { delete bench; }
const char* part_fault(const Bench* bench) { return bench->part.fault().c_str(); }
void part_enable(Bench* bench) { bench->cke = true; }

void part_give(Bench* bench, unsigned command, unsigned ba, unsigned a, unsigned rest) {
    bench->cycle(command, ba, a);
    for (unsigned cycle = 0; cycle < rest; ++cycle) bench->cycle();
}

// A write with its data, `late` ticks after they are due.
void part_write(Bench* bench, unsigned ba, unsigned a, const uint16_t* words, int late) {
    bench->cycle(0b110, ba, a);
    for (int tick = 1; tick < 22; ++tick) {
        const int at = tick - 10 - late;  // of the strobe's edges; a word stands for the tick before its own
        ddr3::Pins pins;
        pins.cke = true;
        pins.clk = tick % 2 == 0;
        pins.dqs_driven = at >= -2 && at < ddr3::kBurst ? 3 : 0;
        pins.dqs = at >= 0 && at % 2 == 0 ? 3 : 0;
        pins.dq_driven = at >= -1 && at < ddr3::kBurst - 1 ? 0xffff : 0;
        if (pins.dq_driven) pins.dq = words[at + 1];
        bench->part.tick(pins);
    }
    bench->cycle();
}

// A read, six cycles of latency; its words, each byte as late as it was told to be.
void part_read(Bench* bench, unsigned ba, unsigned a, uint16_t* words, const unsigned* late) {
    for (unsigned byte = 0; byte < ddr3::kBytes; ++byte) bench->part.delay(byte, late[byte]);
    bench->cycle(0b010, ba, a);
    for (unsigned at = 0; at < ddr3::kBurst; ++at) words[at] = 0;
    for (unsigned tick = 1; tick < 40; ++tick) {
        ddr3::Pins pins;
        pins.cke = true;
        pins.clk = tick % 2 == 0;
        const auto answer = bench->part.tick(pins);  // what stands on the pins in the next tick
        for (unsigned byte = 0; byte < ddr3::kBytes; ++byte) {
            const unsigned at = tick + 1 - 12 - late[byte];
            if (at < ddr3::kBurst) words[at] = uint16_t(words[at] | (answer.dq & 0xffu << 8 * byte));
        }
    }
    bench->cycle();
}

}  // extern "C"
