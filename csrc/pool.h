// A fixed set of threads that run one function together and meet at barriers: they spin a little, then sleep.
#pragma once

#include <cstdint>
#include <functional>

#if !defined(__wasm__)
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>
#endif

namespace unmul {

struct Range {
    int first, last;
};

class Pool {
public:
    explicit Pool(int threads);  // the caller of run() is one of them
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // What this machine runs at once.
    static int most_threads();

    // Runs task(thread) on every thread, thread 0 being the caller; returns when all have ended.
    void run(const std::function<void(int)>& task);

    // Inside a task: returns when every thread has arrived; their writes are visible after.
    void barrier();

    // The part of `count` units that belongs to a thread: fixed, so that no result depends on timing.
    Range share(int count, int thread) const {
        return {int(int64_t(count) * thread / threads_), int(int64_t(count) * (thread + 1) / threads_)};
    }

private:
    const int threads_;
#if !defined(__wasm__)
    void work(int thread);

    const std::function<void(int)>* task_ = nullptr;
    bool stop_ = false;
    // Each counter on a cache line of its own: threads spin on them.
    alignas(64) std::atomic<uint32_t> task_round_{0};
    alignas(64) std::atomic<uint32_t> barrier_round_{0};
    alignas(64) std::atomic<int> arrived_{0};
    std::vector<std::thread> workers_;
#endif
};

#if defined(__wasm__)
// A page's WebAssembly has one thread: pool_alone.cpp.
struct Mutex {};
struct Turn {
    explicit Turn(Mutex&) {}
};
#else
using Mutex = std::mutex;
using Turn = std::lock_guard<std::mutex>;
#endif

}  // namespace unmul
