#include "pool.h"

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace unmul {
namespace {

// About 50 microseconds: longer than a barrier inside a token, shorter than a pause that a person notices.
constexpr int kSpins = 3000;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Returns when value differs from seen.
void await_change(const std::atomic<uint32_t>& value, uint32_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
        if (value.load(std::memory_order_acquire) != seen) return;
        relax();
    }
    value.wait(seen, std::memory_order_acquire);
}

}  // namespace

Pool::Pool(int threads) : threads_(threads) {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

Pool::~Pool() {
    stop_ = true;
    task_round_.fetch_add(1, std::memory_order_release);
    task_round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

int Pool::most_threads() { return int(std::max(1u, std::thread::hardware_concurrency())); }

void Pool::run(const std::function<void(int)>& task) {
    task_ = &task;
    task_round_.fetch_add(1, std::memory_order_release);
    task_round_.notify_all();
    task(0);
    barrier();
}

void Pool::work(int thread) {
    for (uint32_t seen = 0;; ++seen) {
        await_change(task_round_, seen);
        if (stop_) return;
        (*task_)(thread);
        barrier();
    }
}

void Pool::barrier() {
    const uint32_t round = barrier_round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads_) return await_change(barrier_round_, round);
    arrived_.store(0, std::memory_order_relaxed);
    barrier_round_.fetch_add(1, std::memory_order_release);
    barrier_round_.notify_all();
}

}  // namespace unmul
