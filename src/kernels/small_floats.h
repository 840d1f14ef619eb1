/* SPDX-License-Identifier: MIT */
/* Parts of the scalar definition by name: a CPU level calls them for the codes or values that it has no fast way for,
 * and for what is shorter than one of its steps. What codes stand for is in scalar.c, arithmetic in arithmetic.c. */
#ifndef TP_KERNELS_SMALL_FLOATS_H
#define TP_KERNELS_SMALL_FLOATS_H

#include "kernels/kernels.h"

#include <string.h>

void tp_f8_to_f32_scalar(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale);
void tp_f4_to_f32_scalar(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero);
void tp_mxfp4_to_bf16_scalar(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t blocks,
                             bool positive_zero);
void tp_mxfp4_each_to_bf16_scalar(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t n,
                                  bool high_nibbles, bool positive_zero);
void tp_transpose_1_scalar(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count,
                           size_t columns);
void tp_transpose_2_scalar(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count,
                           size_t columns);
void tp_transpose_4_scalar(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count,
                           size_t columns);
void tp_transpose_8_scalar(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count,
                           size_t columns);
/* The arithmetic of one kind, `adds` or else multiplies: struct tp_kernels says what it does. */
void tp_arithmetic_scalar(enum tp_float_kind kind, bool adds, void *dst, const void *src, size_t n, double operand,
                          bool saturate, struct tp_stats *stats);

/* The slots of files that are not a level's main one, which calls these. */
void tp_kernels_init_scalar_arithmetic(struct tp_kernels *k);
void tp_kernels_init_avx2_codes(struct tp_kernels *k);
void tp_kernels_init_avx2_arithmetic(struct tp_kernels *k);
void tp_kernels_init_neon_arithmetic(struct tp_kernels *k);

/* Finite and of a magnitude below the limit: by its bits, whatever the CPU makes of subnormals. */
static inline bool tp_is_below(float value, float limit)
{
    uint32_t value_bits, limit_bits;
    memcpy(&value_bits, &value, sizeof value_bits);
    memcpy(&limit_bits, &limit, sizeof limit_bits);
    return (value_bits & 0x7fffffff) < limit_bits;
}

/* E8M0 exponents with which every E2M1 is a normal BF16: its bits are those of the code plus an exponent. */
#define TP_MXFP4_PLAIN_MIN 2u
#define TP_MXFP4_PLAIN_MAX 252u

#endif
