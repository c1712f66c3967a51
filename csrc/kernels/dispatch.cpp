#include "kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace unmul {

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvxVnni;
extern const Kernels kAvx512Vnni;
extern const Kernels kAmx;
#elif defined(__aarch64__)
extern const Kernels kNeonDotprod;
extern const Kernels kNeonI8mm;
#elif defined(__wasm__)
extern const Kernels kWasmSimd;
#endif

namespace {

#if defined(__x86_64__)
// The system saves the tile registers of a process only once it has asked; it may refuse.
bool may_use_tiles() {
#if defined(__linux__)
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}
#endif

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
    if (usable.back() == &kAvx512Vnni && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
        may_use_tiles())
        usable.push_back(&kAmx);
#elif defined(__aarch64__) && defined(__linux__)
    constexpr unsigned long kDotProduct = 1ul << 20, kMatrixMultiply = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
    if (getauxval(AT_HWCAP) & kDotProduct) {
        usable.push_back(&kNeonDotprod);
        if (getauxval(AT_HWCAP2) & kMatrixMultiply) usable.push_back(&kNeonI8mm);
    }
#elif defined(__aarch64__)
    usable.push_back(&kNeonDotprod);  // every Apple processor since M1 has it
#elif defined(__wasm__)
    usable.push_back(&kWasmSimd);  // the module would not have started without it
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
