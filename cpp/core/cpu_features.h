// The features of the CPU by which the dispatcher chooses an instruction set. (__builtin_cpu_supports would not do: it
// is always false with zig's runtime library.)
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastconv {

#if defined(__x86_64__)
/// A feature is true if the CPU has it and the operating system saves the registers that it needs.
struct CpuFeatures {
    bool fma = false, avx2 = false;
    bool avx512f = false, avx512dq = false, avx512bw = false, avx512vl = false;
};

inline CpuFeatures cpu_features() {
    CpuFeatures features;
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) return features;
    unsigned saved = 0, upper = 0; // bit 1: xmm, bit 2: ymm, bits 5 to 7: what AVX-512 adds
    __asm__("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
    constexpr unsigned avx = 0x06, avx512 = 0xE6;
    if ((saved & avx) != avx) return features;
    features.fma = ecx & bit_FMA;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return features;
    features.avx2 = ebx & bit_AVX2;
    if ((saved & avx512) != avx512) return features;
    features.avx512f = ebx & bit_AVX512F;
    features.avx512dq = ebx & bit_AVX512DQ;
    features.avx512bw = ebx & bit_AVX512BW;
    features.avx512vl = ebx & bit_AVX512VL;
    return features;
}
#endif

} // namespace fastconv
