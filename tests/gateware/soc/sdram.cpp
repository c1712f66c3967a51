// The verilated SDRAM controller before the model of the part, and the part alone, as plain C functions for ctypes.
#include "sdram.h"

#include <memory>

#include "Vcore.h"
#include "verilated.h"

struct Bench {
    explicit Bench(double clock_mhz) : pads(clock_mhz) {
        controller.rst = 1;
        pads.cycle(controller);
        controller.rst = 0;
    }

    VerilatedContext context;
    Vcore controller{&context};
    sdram::Pads pads;
};

extern "C" {

Bench* bench_new(double clock_mhz) { return std::make_unique<Bench>(clock_mhz).release(); }
void bench_delete(Bench* bench) { delete bench; }
const char* bench_fault(const Bench* bench) { return bench->pads.part.fault().c_str(); }

// Offers requests one after the other, each with a chance of pace / 256 a cycle, until all are taken and the reads
// among them answered; returns the cycles that it took.
uint64_t bench_run(Bench* bench, const uint64_t* requests, size_t count, uint32_t pace, uint16_t* answers,
                   size_t reads) {
    auto& controller = bench->controller;
    uint32_t random = 1;
    uint64_t cycles = 0;
    size_t taken = 0, answered = 0;
    for (; (taken < count || answered < reads) && cycles < 100 * count + 100'000; ++cycles) {
        random = random * 1664525 + 1013904223;
        const bool offers = taken < count && random >> 24 < pace;
        controller.memory_requests_valid = controller.memory_requests_valid || offers;
        if (taken < count) controller.memory_requests_payload = requests[taken];
        controller.eval();
        const bool takes = controller.memory_requests_valid && controller.memory_requests_ready;
        if (controller.memory_data_valid && answered < reads) answers[answered++] = controller.memory_data;
        bench->pads.cycle(controller);
        if (takes) controller.memory_requests_valid = 0;
        taken += takes;
    }
    return cycles;
}

sdram::Part* part_new(double clock_mhz) { return std::make_unique<sdram::Part>(clock_mhz).release(); }
void part_delete(sdram::Part* part) { delete part; }
const char* part_fault(const sdram::Part* part) { return part->fault().c_str(); }

// A command, bits (ras, cas, we), then so many cycles without one; what stood on dq at the end of the last.
uint32_t part_clock(sdram::Part* part, uint32_t command, uint32_t ba, uint32_t a, uint32_t dq, int driven,
                    uint32_t rest) {
    const bool ras = command & 1, cas = command & 2, we = command & 4;
    uint32_t found = part->clock({ras, cas, we, ba, a, uint16_t(dq), driven != 0});
    for (uint32_t cycle = 0; cycle < rest; ++cycle) found = part->clock({});
    return found;
}

}  // extern "C"
