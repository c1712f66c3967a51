// The most int8 operations a second (a multiply-add is two) that AVX-512 VNNI gives on this machine: vpdpbusd on
// registers only, sixteen sums apart so that its latency does not show. The ceiling of prefill and of large batches.
//
//     g++ -O2 -std=c++20 -pthread benchmarks/decode/peak.cpp -o peak && ./peak 2
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

constexpr long kRounds = 20'000'000;
constexpr double kOperations = 16 * 64 * 2;  // a round
constexpr int kRuns = 5;

#define UNMUL_FOUR(a, b, c, d)                                                               \
    "vpdpbusd %%zmm30, %%zmm31, %%zmm" #a "\n vpdpbusd %%zmm30, %%zmm31, %%zmm" #b "\n" \
    "vpdpbusd %%zmm30, %%zmm31, %%zmm" #c "\n vpdpbusd %%zmm30, %%zmm31, %%zmm" #d "\n"

void work() {
    long rounds = kRounds;
    asm volatile("1:\n" UNMUL_FOUR(0, 1, 2, 3) UNMUL_FOUR(4, 5, 6, 7) UNMUL_FOUR(8, 9, 10, 11) UNMUL_FOUR(12, 13, 14, 15)
                 "dec %0\n jnz 1b\n"
                 : "+r"(rounds)
                 :
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                   "xmm12", "xmm13", "xmm14", "xmm15", "cc");
}

int main(int count, char** words) {
    const int threads = count > 1 ? std::max(1, std::atoi(words[1])) : 1;
    std::vector<double> rates;
    for (int run = 0; run < kRuns; ++run) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> workers;
        for (int thread = 0; thread < threads; ++thread) workers.emplace_back(work);
        for (std::thread& worker : workers) worker.join();
        const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
        rates.push_back(threads * kRounds * kOperations / spent.count() / 1e9);
    }
    std::sort(rates.begin(), rates.end());
    std::printf("%d threads: %.0f Gop/s [%.0f, %.0f]\n", threads, rates[kRuns / 2], rates.front(), rates.back());
}
