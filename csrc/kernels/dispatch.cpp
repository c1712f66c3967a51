#include "kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace unmul {

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvxVnni;
extern const Kernels kAvx512Vnni;
#elif defined(__aarch64__)
extern const Kernels kNeonDotprod;
#endif

namespace {

std::vector<const Kernels*> detect() {
    std::vector<const Kernels*> usable{&kScalar};
#if defined(__x86_64__)
    // The compiler's own detection: CPUID feature bits, and XCR0 for the registers that the system saves.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) usable.push_back(&kAvx2);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni")) usable.push_back(&kAvxVnni);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        usable.push_back(&kAvx512Vnni);
#elif defined(__aarch64__) && defined(__linux__)
    constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
    if (getauxval(AT_HWCAP) & kDotProduct) usable.push_back(&kNeonDotprod);
#elif defined(__aarch64__)
    usable.push_back(&kNeonDotprod);  // every Apple processor since M1 has it
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
