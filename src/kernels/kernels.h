/* SPDX-License-Identifier: MIT */
/* The inner loops: casts with statistics, digests, bit unpacking.
 *
 * A kernel is (dst, src, n): any n including 0, any alignment, no allocation, no failure. scalar.c is the
 * definition; each CPU level overwrites the slots it improves and gives the same bytes and the same statistics
 * for every input, NaN and subnormals included (tests/kernels proves it). The rule of the casts is written in
 * docs/numerics.md. */
#ifndef TP_KERNELS_KERNELS_H
#define TP_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of the source's values. Kernels add to it: start with tp_stats_init. -0 counts as 0, so min and max are never -0. */
struct tp_stats {
    double min, max; /* of the finite values; min > max (+Inf, -Inf) when there was none */
    uint64_t nan_count, inf_count;
    uint64_t overflow_count; /* finite values whose cast is infinite (or was saturated) */
    uint64_t flushed_count;  /* non-zero values whose cast is zero */
};
void tp_stats_init(struct tp_stats *stats);
void tp_stats_merge(struct tp_stats *into, const struct tp_stats *from);

/* The float types that are cast; index of the tables below. */
enum tp_float_kind { TP_KIND_F64, TP_KIND_F32, TP_KIND_F16, TP_KIND_BF16, TP_KIND_COUNT };

/* Cast n values. dst and src do not overlap. `saturate`: finite values beyond the target become its largest finite
 * value with their sign (an infinity stays one). */
typedef void (*tp_cast_fn)(void *dst, const void *src, size_t n, bool saturate, struct tp_stats *stats);
/* Statistics alone, for values that are copied. overflow and flushed are left alone. */
typedef void (*tp_measure_fn)(const void *src, size_t n, struct tp_stats *stats);

/* x times, or plus, one operand: both as float32, the result rounded to float32 and then as the casts round to the kind
 * of the values (F64: in float64, rounded once). dst may be src. A NaN stays one as in the casts; one that arises has
 * the sign of the value and no payload. Counted are overflow (a finite value whose result is infinite; `saturate` as in
 * the casts) and flushed (a result that is not zero before it is rounded). */
typedef void (*tp_arithmetic_fn)(void *dst, const void *src, size_t n, double operand, bool saturate,
                                 struct tp_stats *stats);

#define TP_TRANSPOSE_COUNT 4u
typedef void (*tp_transpose_fn)(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count,
                                size_t columns);

enum tp_f8_kind { TP_F8_KIND_E4M3, TP_F8_KIND_E5M2, TP_F8_KIND_E4M3FNUZ, TP_F8_KIND_E5M2FNUZ, TP_F8_KIND_COUNT };

enum tp_level { TP_LEVEL_SCALAR, TP_LEVEL_NEON, TP_LEVEL_AVX2, TP_LEVEL_AVX512, TP_LEVEL_COUNT };

struct tp_kernels {
    enum tp_level level;
    /* cast[from][to]; NULL on the diagonal and for to == F64 (nothing is cast to f64). */
    tp_cast_fn cast[TP_KIND_COUNT][TP_KIND_COUNT];
    tp_measure_fn measure[TP_KIND_COUNT];
    /* n bytes of packed e2m1 (low nibble first) to 2 n bytes, one code in the low nibble of each. */
    void (*unpack_f4)(uint8_t *dst, const uint8_t *src, size_t n);
    /* n 8-bit floats as float32, each times `scale` (one rounding); NaN codes become a quiet NaN of their sign. `kind`
     * is one of enum tp_f8_kind. scale 1 gives the exact values. */
    void (*f8_to_f32)(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale);
    /* n 8-bit floats, number i times scales[i / group], as f8_to_f32 and then the cast to BF16 give them, which also
     * says what `saturate` and the statistics (of the float32 values) are. */
    void (*f8_to_bf16)(void *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, const float *scales, size_t group,
                       bool saturate, struct tp_stats *stats);
    /* n values of two e2m1 codes a byte, low nibble first, each times `scale`; n is even. `positive_zero`: code 8 is
     * +0. */
    void (*f4_to_f32)(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero);
    /* MXFP4 as BF16, which holds every such value: `blocks` of 32 values, 16 bytes of codes and one E8M0 exponent each.
     * Exponent 255 gives 32 NaN, each with the sign of its code. */
    void (*mxfp4_to_bf16)(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t blocks, bool positive_zero);
    /* n such values with an exponent each; the code is the low or the high nibble of its byte. */
    void (*mxfp4_each_to_bf16)(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t n, bool high_nibbles,
                               bool positive_zero);
    /* Items of 1, 2, 4 and 8 bytes, in this order: item k of rows[i], which has `columns` of them, to
     * dst + k * dst_pitch + i * item. The pitch is in bytes. kernels/transpose.h has it for rows that are alike apart.
     */
    tp_transpose_fn transpose[TP_TRANSPOSE_COUNT];
    /* Arithmetic, by the kind of the values; see tp_arithmetic_fn. */
    tp_arithmetic_fn multiply[TP_KIND_COUNT], add[TP_KIND_COUNT];
    /* How many of n bytes are neither 0 nor 1. */
    uint64_t (*count_not_bool)(const uint8_t *src, size_t n);
    /* XXH3-128 streaming update; `state` is an XXH3_state_t (see codec/digest.h). */
    void (*xxh3_update)(void *state, const void *src, size_t n);
};

/* The best table for this CPU, or for a lower level by name ("scalar", "neon", "avx2", "avx512"; NULL: the best).
 * False if the name is unknown or the CPU has not got it. No globals: the caller holds the table. */
bool tp_kernels_init(struct tp_kernels *k, const char *wanted);
const char *tp_level_name(enum tp_level level);

/* One function a level; each overwrites what it improves. Only tp_kernels_init and the tests call them. */
void tp_kernels_init_scalar(struct tp_kernels *k);
void tp_kernels_init_avx2(struct tp_kernels *k);
void tp_kernels_init_avx512(struct tp_kernels *k);
void tp_kernels_init_neon(struct tp_kernels *k);

#endif
