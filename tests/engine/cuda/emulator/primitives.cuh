// The primitives of engine/cuda/primitives.cuh on a CPU: every thread of a grid is a fibre, which gives way where the GPU
// would wait. Copies are done at once, so only their order is tested, not what happens while they are on their way.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdlib>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define UNMUL_DEVICE inline
#define UNMUL_KERNEL(threads) void

struct uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct Index { unsigned x = 0, y = 0, z = 0; };

namespace emulator {

constexpr int kLanes = 32;
constexpr size_t kStack = 64 << 10;

// A point where so many fibres meet; it may be used again at once.
struct Meeting {
    int expected = 0, arrived = 0;
    uint32_t round = 0;
};

struct Warp {
    Meeting meeting;
    alignas(16) unsigned char slot[kLanes][32];
};

struct Block {
    Meeting meeting;
    std::vector<Warp> warps;
    std::vector<char> memory;
    int any[2] = {};
};

struct Fibre {
    ucontext_t context;
    Block* block = nullptr;
    Index thread, index;
    const volatile uint32_t* word = nullptr;  // waits until it is no longer below the goal
    uint32_t goal = 0;
    bool ended = false;
};

inline Fibre* current = nullptr;
inline Index grid_size;
inline ucontext_t scheduler;
inline std::function<void()> body;

inline void wait_for(const volatile uint32_t* word, uint32_t goal) {
    if (*word >= goal) return;
    current->word = word;
    current->goal = goal;
    swapcontext(&current->context, &scheduler);
}

inline void meet(Meeting& meeting) {
    const uint32_t next = meeting.round + 1;
    if (++meeting.arrived < meeting.expected) return wait_for(&meeting.round, next);
    meeting.arrived = 0;
    meeting.round = next;
}

inline Warp& warp() { return current->block->warps[current->thread.x / kLanes]; }

// Every lane shows a value, then read(lane) gives those of all.
template <class T, class Function>
void exchange(const T& mine, Function read) {
    static_assert(sizeof(T) <= sizeof Warp::slot[0]);
    Warp& w = warp();
    std::memcpy(w.slot[current->thread.x % kLanes], &mine, sizeof mine);
    meet(w.meeting);
    read([&](int lane) {
        T value;
        std::memcpy(&value, w.slot[lane], sizeof value);
        return value;
    });
    meet(w.meeting);
}

inline void start() {
    body();
    current->ended = true;
    swapcontext(&current->context, &scheduler);
}

inline char* stack(size_t index) {
    static std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() <= index) stacks.emplace_back(new char[kStack]);
    return stacks[index].get();
}

inline void begin(Fibre& fibre, size_t index) {
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = stack(index);
    fibre.context.uc_stack.ss_size = kStack;
    makecontext(&fibre.context, start, 0);
}

inline void begin(Block& block, int threads, size_t shared) {
    block.meeting.expected = threads;
    block.warps.resize(threads / kLanes);
    for (Warp& warp : block.warps) warp.meeting.expected = kLanes;
    block.memory.assign(shared + 128, char(0xa5));  // nobody may count on what stands there
}

// Lets every fibre go on until all have ended; false if they wait for each other.
inline bool finish(std::vector<Fibre>& fibres) {
    for (size_t left = fibres.size(), moved = 1; left > 0;) {
        if (moved == 0) return false;
        moved = 0;
        static uint32_t order = 1;
        order = order * 1664525u + 1013904223u;  // blocks go on in another order each time
        const size_t start = order % fibres.size();
        for (size_t k = 0; k < fibres.size(); ++k) {
            Fibre& fibre = fibres[(start + (order >> 31 ? k : fibres.size() - k)) % fibres.size()];
            if (fibre.ended || (fibre.word && *fibre.word < fibre.goal)) continue;
            fibre.word = nullptr;
            current = &fibre;
            swapcontext(&scheduler, &fibre.context);
            left -= fibre.ended;
            ++moved;
        }
    }
    return true;
}

// Runs kernel() in every thread: all blocks together, or one after another.
inline bool run(Index grid, int threads, size_t shared, bool together, std::function<void()> kernel) {
    grid_size = grid;
    body = std::move(kernel);
    const size_t count = size_t(grid.x) * grid.y * grid.z, at_once = together ? count : 1;
    for (size_t first = 0; first < count; first += at_once) {
        std::vector<Block> blocks(at_once);
        std::vector<Fibre> fibres(at_once * threads);
        for (size_t b = 0; b < at_once; ++b) {
            begin(blocks[b], threads, shared);
            for (int t = 0; t < threads; ++t) {
                Fibre& fibre = fibres[b * threads + t];
                const unsigned index = unsigned(first + b);
                fibre.block = &blocks[b];
                fibre.thread = {unsigned(t), 0, 0};
                fibre.index = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
                begin(fibre, b * threads + t);
            }
        }
        if (!finish(fibres)) return false;
    }
    return true;
}

}  // namespace emulator

#define threadIdx (emulator::current->thread)
#define blockIdx (emulator::current->index)
#define gridDim (emulator::grid_size)

template <class T>
T min(T a, T b) { return b < a ? b : a; }
template <class T>
T max(T a, T b) { return a < b ? b : a; }

inline int32_t __float_as_int(float value) { int32_t bits; std::memcpy(&bits, &value, 4); return bits; }
inline float __int_as_float(int32_t bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline uint64_t __double2ull_rn(double value) { return uint64_t(std::llrint(value)); }
inline uint64_t __double2ull_ru(double value) { return uint64_t(std::ceil(value)); }

template <class T, class U>
T atomicAdd(T* at, U value) { const T before = *at; *at += value; return before; }
template <class T>
T atomicMax(T* at, T value) { const T before = *at; *at = max(before, value); return before; }
template <class T>
T atomicOr(T* at, T value) { const T before = *at; *at |= value; return before; }

inline char* shared_memory() {
    char* memory = emulator::current->block->memory.data();
    return memory + (128 - reinterpret_cast<uintptr_t>(memory) % 128) % 128;
}

inline void multiply_add(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    struct Operands { uint32_t a[4], b[2]; };
    const Operands mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const int own = threadIdx.x % 32;
    emulator::exchange(mine, [&](auto lane) {
        for (int e = 0; e < 4; ++e) {
            const int row = own / 4 + 8 * (e / 2), column = own % 4 * 2 + e % 2;
            for (int k = 0; k < 32; ++k) {
                const uint32_t left = lane(row % 8 * 4 + k % 16 / 4).a[row / 8 + 2 * (k / 16)];
                const uint32_t right = lane(column * 4 + k % 16 / 4).b[k / 16];
                c[e] += int8_t(left >> 8 * (k % 4)) * int8_t(right >> 8 * (k % 4));
            }
        }
    });
}

inline void copy_async(void* shared, const void* global) { std::memcpy(shared, global, 16); }
inline void commit_copies() {}
template <int Pending>
void wait_copies() {}
inline void prefetch(const void*) {}
inline float load_now(const float* global) { return *global; }

inline void send_timed(uint64_t* to, float value, uint32_t time) {
    *to = uint64_t(time) << 32 | uint32_t(__float_as_int(value));
}

template <int RowStep, int Step, int R, int G>
struct TimedRows {
    void receive(float4 (&values)[R][G], const uint64_t* from, int wanted, uint32_t time) {
        for (int n = 0; n < R * G; ++n) {
            float v[4] = {};
            for (int k = 0; k < 4 && n % G * Step + k < wanted; ++k) {
                const uint64_t* word = from + n / G * RowStep + n % G * Step + k;
                emulator::wait_for(reinterpret_cast<const uint32_t*>(word) + 1, time);
                if (*word >> 32 != time) std::abort();  // written over before it was read
                v[k] = __int_as_float(int32_t(*word));
            }
            values[n / G][n % G] = {v[0], v[1], v[2], v[3]};
        }
    }
};

inline uint32_t warp_max(uint32_t value) {
    emulator::exchange(uint32_t(value), [&](auto lane) {
        for (int k = 0; k < 32; ++k) value = max(value, lane(k));
    });
    return value;
}

template <class T>
T warp_sum(T value) {
    emulator::exchange(T(value), [&](auto lane) {
        T sums[32];
        for (int k = 0; k < 32; ++k) sums[k] = lane(k);
        for (int width = 16; width > 0; width /= 2)
            for (int k = 0; k < width; ++k) sums[k] += sums[k + width];  // what each lane of a butterfly gets
        value = sums[0];
    });
    return value;
}

inline uint64_t warp_prefix(uint64_t value) {
    emulator::exchange(uint64_t(value), [&](auto lane) {
        value = 0;
        for (unsigned k = 0; k <= threadIdx.x % 32; ++k) value += lane(k);
    });
    return value;
}

inline void block_barrier() { emulator::meet(emulator::current->block->meeting); }

inline bool block_any(bool of_thread) {
    emulator::Block& block = *emulator::current->block;
    block_barrier();
    block.any[0] = 0;
    block_barrier();
    block.any[0] |= of_thread;
    block_barrier();
    return block.any[0];
}

class Barrier {
public:
    Barrier(uint32_t* counter, int blocks) : counter_(counter), blocks_(blocks) {}
    void arrive() {
        block_barrier();
        goal_ += blocks_;
        if (threadIdx.x == 0) ++counter_[0];
    }
    void wait() {
        if (threadIdx.x == 0) emulator::wait_for(counter_, goal_);
        block_barrier();
    }
    void leave() {
        block_barrier();
        if (threadIdx.x == 0 && ++counter_[1] == blocks_) counter_[0] = counter_[1] = 0;
    }

private:
    uint32_t* counter_;
    uint32_t blocks_, goal_ = 0;
};
