#include "kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
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
// CPUID's feature bits, together with XCR0 for the registers that the system saves. The compilers' own detection needs a
// library that Clang on Windows does not link.
struct Features {
    Features() {
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        constexpr unsigned kOsxsave = 1u << 27;
        if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & kOsxsave)) return;
        const unsigned saved = saved_registers();
        if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return;
        const auto has = [](unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; };
        constexpr unsigned kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
        avx2 = has(saved, 0x06) && has(ebx, 1u << 5);
        avx512vnni = has(saved, 0xe6) && has(ebx, kAvx512) && has(ecx, 1u << 11);
        amx = has(saved, 0x60000) && has(edx, 1u << 24 | 1u << 25);  // TILE, INT8
        avxvnni = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && has(eax, 1u << 4);
    }

    static unsigned saved_registers() {
        unsigned low, high;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return low;
    }

    bool avx2 = false, avxvnni = false, avx512vnni = false, amx = false;
};

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
    const Features cpu;
    if (cpu.avx2) usable.push_back(&kAvx2);
    if (cpu.avx2 && cpu.avxvnni) usable.push_back(&kAvxVnni);
    if (cpu.avx512vnni) usable.push_back(&kAvx512Vnni);
    if (cpu.avx512vnni && cpu.amx && may_use_tiles()) usable.push_back(&kAmx);
#elif defined(__aarch64__) && defined(__linux__)
    constexpr unsigned long kDotProduct = 1ul << 20, kMatrixMultiply = 1ul << 13;  // HWCAP_ASIMDDP, HWCAP2_I8MM
    if (getauxval(AT_HWCAP) & kDotProduct) {
        usable.push_back(&kNeonDotprod);
        if (getauxval(AT_HWCAP2) & kMatrixMultiply) usable.push_back(&kNeonI8mm);
    }
#elif defined(__aarch64__) && defined(__APPLE__)
    usable.push_back(&kNeonDotprod);  // every processor of a Mac since M1 has it
    int has_matrix_multiply = 0;      // since M2
    size_t size = sizeof has_matrix_multiply;
    const char* name = "hw.optional.arm.FEAT_I8MM";
    if (sysctlbyname(name, &has_matrix_multiply, &size, nullptr, 0) == 0 && has_matrix_multiply)
        usable.push_back(&kNeonI8mm);
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
