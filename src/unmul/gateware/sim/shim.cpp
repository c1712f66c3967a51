// The core behind a memory model, as plain C functions for ctypes. DEVICE is the header that has the simulator's Core.
// The memory answers in order, `latency` cycles after a request at the earliest, and at most `rate` words a cycle; in a
// share `stalls` of the cycles, drawn at random, it takes no request, and as independently gives no word.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include DEVICE

namespace {

constexpr int kRegisters = 8;

// In the order of core.EVENTS.
enum Event { kCycles, kTaken, kStarved, kUnit, kRegister, kQueue, kStream, kNorm, kRow, kWords, kEvents };

struct Request {
    uint64_t due;
    uint32_t address;
};

struct Simulation {
    Core core;
    std::vector<uint8_t> image;
    size_t port_bytes = 0;
    double rate = 1, credit = 0, stalls = 0;
    uint64_t latency = 0, now = 0;
    std::minstd_rand chance;
    std::deque<Request> requests;
    std::vector<int32_t> logits;
    std::vector<int32_t> registers[kRegisters];
    uint64_t events[kEvents] = {};

    // One cycle; whether the core says that the token is done.
    bool cycle() {
        answer();
        fall();
        watch();
        const bool done = core.done;
        rise();
        return done;
    }

    void tick() {
        fall();
        rise();
    }

    void fall() {
        core.clk = 0;
        core.eval();
    }

    void rise() {
        core.clk = 1;
        core.eval();
        ++now;
    }

    bool willing() { return stalls == 0 || chance() >= stalls * chance.max(); }

    void answer() {
        core.address_ready = willing();
        credit = std::min(credit + rate, 1 + rate);
        core.data_valid = !requests.empty() && requests.front().due <= now && credit >= 1 && willing();
        if (!core.data_valid) return;
        const size_t start = size_t(requests.front().address) * port_bytes;
        if (start + port_bytes <= image.size()) core.put_data(image.data() + start, port_bytes);
        requests.pop_front();
        credit -= 1;
        ++events[kWords];
    }

    void watch() {
        if (core.address_valid && core.address_ready) requests.push_back({now + latency, core.address});
        if (core.logit_valid) logits.push_back(int32_t(core.logit));
        store(core.stream_write, core.stream_vd, core.stream_index, core.stream_element);
        store(core.norm_write, core.norm_vd, core.norm_index, core.norm_element);
        store(core.row_write, core.row_vd, core.row_index, core.row_element);
        ++events[kCycles];
        events[kTaken] += core.taken;
        events[kStarved] += core.starved;
        events[kUnit] += core.waits_for_unit;
        events[kRegister] += core.waits_for_register;
        events[kQueue] += core.waits_for_queue;
        events[kStream] += core.stream_busy;
        events[kNorm] += core.norm_busy;
        events[kRow] += core.row_busy;
    }

    void store(bool write, unsigned vd, unsigned index, uint32_t element) {
        if (!write) return;
        if (registers[vd].size() <= index) registers[vd].resize(index + 1);
        registers[vd][index] = int32_t(element);
    }
};

}  // namespace

extern "C" {

Simulation* simulation_new(const uint8_t* image, size_t bytes, size_t port_bytes, double rate, uint64_t latency,
                           double stalls) {
    auto simulation = std::make_unique<Simulation>();
    simulation->image.assign(image, image + bytes);
    simulation->port_bytes = port_bytes;
    simulation->rate = rate;
    simulation->latency = latency;
    simulation->stalls = stalls;
    simulation->core.rst = 1;
    simulation->tick();
    simulation->core.rst = 0;
    simulation->tick();  // the reset comes out of a register
    return simulation.release();
}

void simulation_delete(Simulation* simulation) { delete simulation; }

void simulation_program(Simulation* simulation, const uint64_t* words, size_t count) {
    simulation->core.program_write = 1;
    for (size_t at = 0; at < count; ++at) {
        simulation->core.program_address = at;
        simulation->core.program_data = words[at];
        simulation->tick();
    }
    simulation->core.program_write = 0;
}

void simulation_write_state(Simulation* simulation, const int32_t* values, size_t count) {
    simulation->core.state_write = 1;
    for (size_t at = 0; at < count; ++at) {
        simulation->core.state_address = at;
        simulation->core.state_write_data = values[at];
        simulation->tick();
    }
    simulation->core.state_write = 0;
}

void simulation_read_state(Simulation* simulation, int32_t* values, size_t count) {
    for (size_t at = 0; at < count; ++at) {
        simulation->core.state_address = at;
        simulation->tick();
        simulation->tick();  // block RAM and its output register
        values[at] = int32_t(simulation->core.state_read_data);
    }
}

// Runs one token; returns its cycles, or 0 when it has not ended after `limit` of them.
uint64_t simulation_token(Simulation* simulation, uint32_t token, int first, int prefill, uint64_t limit) {
    auto& core = simulation->core;
    const uint64_t begin = simulation->now;
    simulation->logits.clear();
    core.token = token;
    core.first = first;
    core.prefill = prefill;
    core.start = 1;
    bool done = false;
    while (!done && simulation->now - begin < limit) {
        done = simulation->cycle();
        core.start = 0;
    }
    return done ? simulation->now - begin : 0;
}

uint32_t simulation_next_token(const Simulation* simulation) { return simulation->core.next_token; }
uint32_t simulation_saturations(const Simulation* simulation) { return simulation->core.saturations; }
const uint64_t* simulation_events(const Simulation* simulation) { return simulation->events; }

size_t simulation_logits(const Simulation* simulation, const int32_t** values) {
    *values = simulation->logits.data();
    return simulation->logits.size();
}

size_t simulation_register(const Simulation* simulation, int number, const int32_t** values) {
    *values = simulation->registers[number].data();
    return simulation->registers[number].size();
}

}  // extern "C"
