/* SPDX-License-Identifier: MIT */
/* The thread's floating-point mode. A program that links us may run with subnormals flushed (FTZ, DAZ, as -ffast-math
 * sets them) or with another rounding; a cast must not notice. */
#ifndef TP_OS_FLOAT_MODE_H
#define TP_OS_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

#define TP_MXCSR_PLAIN 0x1f80u /* round to nearest, keep subnormals, no traps */
#define TP_MXCSR_FLAGS 0x003fu /* what happened so far: not part of the mode */

/* Switch to IEEE's defaults; returns what tp_float_mode_restore needs. Costs next to nothing when nothing changes. */
static inline uint64_t tp_float_mode_plain(void)
{
    const unsigned saved = _mm_getcsr();
    if ((saved & ~TP_MXCSR_FLAGS) != TP_MXCSR_PLAIN)
        _mm_setcsr(TP_MXCSR_PLAIN);
    __asm__ volatile("" ::: "memory"); /* no value is loaded, so none converted, before the switch */
    return saved;
}

static inline void tp_float_mode_restore(uint64_t saved)
{
    __asm__ volatile("" ::: "memory");
    if (((unsigned)saved & ~TP_MXCSR_FLAGS) != TP_MXCSR_PLAIN)
        _mm_setcsr((unsigned)saved);
}

#elif defined(__aarch64__)

static inline uint64_t tp_float_mode_plain(void)
{
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved)::"memory");
    if (saved != 0)
        __asm__ volatile("msr fpcr, %0" ::"r"(UINT64_C(0)) : "memory");
    return saved;
}

static inline void tp_float_mode_restore(uint64_t saved)
{
    if (saved != 0)
        __asm__ volatile("msr fpcr, %0" ::"r"(saved) : "memory");
    else
        __asm__ volatile("" ::: "memory");
}

#endif
#endif
