/* SPDX-License-Identifier: MIT */
/* The scalar definition of what 8-bit and 4-bit codes stand for (scalar.c), by name: a CPU level calls it for the codes
 * that it has no fast way for, and for what is shorter than one of its steps. */
#ifndef TP_KERNELS_SMALL_FLOATS_H
#define TP_KERNELS_SMALL_FLOATS_H

#include "kernels/kernels.h"

#include <string.h>

void tp_f8_to_f32_scalar(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale);
void tp_f4_to_f32_scalar(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero);
void tp_mxfp4_to_f32_scalar(float *dst, const uint8_t *codes, const uint8_t *exponents, size_t blocks,
                            bool positive_zero);

/* Finite and of a magnitude below the limit: by its bits, whatever the CPU makes of subnormals. */
static inline bool tp_is_below(float value, float limit)
{
    uint32_t value_bits, limit_bits;
    memcpy(&value_bits, &value, sizeof value_bits);
    memcpy(&limit_bits, &limit, sizeof limit_bits);
    return (value_bits & 0x7fffffff) < limit_bits;
}

/* The F32 that an E8M0 exponent other than 255 stands for. */
static inline uint32_t tp_e8m0_bits(uint8_t exponent)
{
    return exponent > 0 ? (uint32_t)exponent << 23 : 0x00400000;
}

#endif
