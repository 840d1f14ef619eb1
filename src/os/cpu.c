/* SPDX-License-Identifier: MIT */
/* What the CPU can do and, which is not the same, what the operating system lets programs use: registers that it
 * does not save at a task switch must not be touched, whatever CPUID says. */
#include "os/host.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* CPUID leaf 1, ECX */
#define ECX1_FMA (1u << 12)
#define ECX1_POPCNT (1u << 23)
#define ECX1_OSXSAVE (1u << 27) /* XGETBV may be used */
#define ECX1_AVX (1u << 28)
#define ECX1_F16C (1u << 29)
#define ECX1_AVX2_LEVEL (ECX1_FMA | ECX1_POPCNT | ECX1_OSXSAVE | ECX1_AVX | ECX1_F16C)

/* CPUID leaf 7, sub-leaf 0, EBX */
#define EBX7_AVX2 (1u << 5)
#define EBX7_BMI2 (1u << 8)
#define EBX7_AVX512F (1u << 16)
#define EBX7_AVX512DQ (1u << 17)
#define EBX7_AVX512CD (1u << 28)
#define EBX7_AVX512BW (1u << 30)
#define EBX7_AVX512VL (1u << 31)
#define EBX7_AVX2_LEVEL (EBX7_AVX2 | EBX7_BMI2)
#define EBX7_AVX512_LEVEL (EBX7_AVX512F | EBX7_AVX512DQ | EBX7_AVX512CD | EBX7_AVX512BW | EBX7_AVX512VL)

/* XCR0: register sets that the system saves */
#define XCR0_AVX 0x06u    /* XMM, YMM */
#define XCR0_AVX512 0xe6u /* ... and masks, upper halves of ZMM, ZMM16 to 31 */

static bool has_all(unsigned value, unsigned bits)
{
    return (value & bits) == bits;
}

static unsigned xcr0_low(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

void tp_host_cpu_features(struct tp_cpu_features *out)
{
    unsigned eax, ebx, ecx, edx, ebx7;
    *out = (struct tp_cpu_features){.neon = false};
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !has_all(ecx, ECX1_AVX2_LEVEL))
        return;
    const unsigned saved_by_os = xcr0_low();
    if (!has_all(saved_by_os, XCR0_AVX) || !__get_cpuid_count(7, 0, &eax, &ebx7, &ecx, &edx))
        return;
    out->avx2 = has_all(ebx7, EBX7_AVX2_LEVEL);
    out->avx512 = out->avx2 && has_all(ebx7, EBX7_AVX512_LEVEL) && has_all(saved_by_os, XCR0_AVX512);
}

#else

void tp_host_cpu_features(struct tp_cpu_features *out)
{
    *out = (struct tp_cpu_features){.neon = false};
#if defined(__aarch64__)
    out->neon = true; /* part of the architecture */
#endif
}

#endif
