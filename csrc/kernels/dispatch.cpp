#include "kernels.h"

namespace unmul {

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512Vnni;
#endif

namespace {

std::vector<const Kernels*> detect() {
    std::vector<const Kernels*> usable{&kScalar};
#if defined(__x86_64__)
    // The compiler's own detection: CPUID feature bits, and XCR0 for the registers that the system saves.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) usable.push_back(&kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        usable.push_back(&kAvx512Vnni);
#endif
    return usable;
}

}  // namespace

const std::vector<const Kernels*>& usable_kernels() {
    static const std::vector<const Kernels*> usable = detect();
    return usable;
}

const Kernels* find_kernels(const std::string& name) {
    for (const Kernels* kernels : usable_kernels())
        if (name == kernels->name) return kernels;
    return nullptr;
}

}  // namespace unmul
