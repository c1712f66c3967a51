// What only a GPU has: tensor cores, asynchronous copies, warps, the barrier of a grid. sm_80 and later.
// tests/engine/cuda/emulator/primitives.cuh defines the same names for a CPU.
#pragma once

using int8_t = signed char;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;

#define UNMUL_DEVICE __device__ __forceinline__
#define UNMUL_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)

constexpr uint32_t kAllLanes = 0xffffffffu;

UNMUL_DEVICE char* shared_memory() {
    extern __shared__ __align__(128) char memory[];
    return memory;
}

// c += a b: 16 rows x 32 columns of a (row by row), 32 x 8 of b (column by column), int8 into int32.
UNMUL_DEVICE void multiply_add(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes from global to shared memory, past the first-level cache.
UNMUL_DEVICE void copy_async(void* shared, const void* global) {
    const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
UNMUL_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Pending>
UNMUL_DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

UNMUL_DEVICE void prefetch(const void* global) { asm volatile("prefetch.global.L1 [%0];" ::"l"(global)); }

// A load that stays where it is written, so that several are on their way at once.
UNMUL_DEVICE float load_now(const float* global) {
    float value;
    asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(global));
    return value;
}

// A value and the time of its product in one word: who reads the time has the value, so no fence is needed.
UNMUL_DEVICE void send_timed(uint64_t* to, float value, uint32_t time) {
    const uint64_t word = uint64_t(time) << 32 | uint32_t(__float_as_int(value));
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}

// Two words at a distance that the instruction itself holds.
template <int Words>
UNMUL_DEVICE void load_timed(const uint64_t* from, uint64_t& first, uint64_t& second) {
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0,%1}, [%2+%3];" : "=l"(first), "=l"(second) : "l"(from), "n"(8 * Words));
}

// values[r][g] = four words at from + r RowStep + g Step, once all carry this time. Only `wanted` words of a row are waited
// for, counted from from[0] on; what is beyond them is 0.
template <int RowStep, int Step, int R, int G>
class TimedRows {
public:
    UNMUL_DEVICE void receive(float4 (&values)[R][G], const uint64_t* from, int wanted, uint32_t time) {
        do load<0>(from, wanted);
        while (missing(wanted, time));
#pragma unroll
        for (int n = 0; n < R * G; ++n) {
            float v[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) v[k] = n % G * Step + k < wanted ? __int_as_float(int32_t(words_[n][k])) : 0.0f;
            values[n / G][n % G] = {v[0], v[1], v[2], v[3]};
        }
    }

private:
    template <int N>
    UNMUL_DEVICE void load(const uint64_t* from, int wanted) {
        if constexpr (N < R * G) {
            if (N % G * Step < wanted) {
                load_timed<N / G * RowStep + N % G * Step>(from, words_[N][0], words_[N][1]);
                load_timed<N / G * RowStep + N % G * Step + 2>(from, words_[N][2], words_[N][3]);
            }
            load<N + 1>(from, wanted);
        }
    }
    UNMUL_DEVICE bool missing(int wanted, uint32_t time) const {
        bool any = false;
#pragma unroll
        for (int n = 0; n < R * G; ++n)
#pragma unroll
            for (int k = 0; k < 4; ++k) any |= n % G * Step + k < wanted && uint32_t(words_[n][k] >> 32) != time;
        return any;
    }
    uint64_t words_[R * G][4];
};

UNMUL_DEVICE uint32_t warp_max(uint32_t value) { return __reduce_max_sync(kAllLanes, value); }
UNMUL_DEVICE int32_t warp_sum(int32_t value) { return __reduce_add_sync(kAllLanes, value); }
template <class T>
UNMUL_DEVICE T warp_sum(T value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
    return value;
}

// The sum of the values of the lanes up to this one.
UNMUL_DEVICE uint64_t warp_prefix(uint64_t value) {
    for (int lanes = 1; lanes < 32; lanes *= 2) {
        const uint64_t below = __shfl_up_sync(kAllLanes, value, lanes);
        if (threadIdx.x % 32 >= lanes) value += below;
    }
    return value;
}

UNMUL_DEVICE void block_barrier() { __syncthreads(); }
UNMUL_DEVICE bool block_any(bool of_thread) { return __syncthreads_or(of_thread); }

// So many blocks wait for each other; all of them must be on the GPU at once (a cooperative launch). What a block wrote
// before arrive() is seen by every block after wait(). counter[0] counts arrivals, counter[1] departures; both end at zero.
class Barrier {
public:
    UNMUL_DEVICE Barrier(uint32_t* counter, int blocks) : counter_(counter), blocks_(blocks) {}

    UNMUL_DEVICE void arrive() {
        block_barrier();
        goal_ += blocks_;
        if (threadIdx.x == 0) asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter_) : "memory");
    }
    UNMUL_DEVICE void wait() {
        if (threadIdx.x == 0) {
            uint32_t seen;
            do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter_) : "memory");
            while (seen < goal_);
        }
        block_barrier();
    }
    // The last block to leave makes the counters ready for the next launch.
    UNMUL_DEVICE void leave() {
        block_barrier();
        if (threadIdx.x == 0 && atomicInc(counter_ + 1, blocks_ - 1) == blocks_ - 1) counter_[0] = 0;
    }

private:
    uint32_t* counter_;
    uint32_t blocks_, goal_ = 0;
};
