/* SPDX-License-Identifier: MIT */
/* The definition: one value after the other, in integers. What is right is what this file does; the other levels are
 * compared with it bit by bit, and it with NumPy, ml_dtypes and JAX (tests/e2e/test_numerics.py). The rule in words is
 * docs/numerics.md. */
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/values.h"
#include "kernels/xxh3.h"

#include <string.h>

/* -- Many values -- */

/* Count a source value; true if it is finite. */
static inline bool tally_source(struct tp_tally *tally, uint64_t bits, enum tp_float_kind kind)
{
    const uint64_t magnitude = bits & tp_magnitude_mask(kind), infinity = tp_infinity_bits(kind);
    tally->nan_count += magnitude > infinity;
    tally->inf_count += magnitude == infinity;
    if (magnitude >= infinity)
        return false;
    const int64_t key = tp_key(magnitude, bits != magnitude);
    tp_tally_keys(tally, key, key);
    return true;
}

/* Count what became of it; the value to be stored. */
static inline uint64_t tally_result(struct tp_tally *tally, bool source_is_zero, uint64_t result,
                                    enum tp_float_kind kind, bool saturate)
{
    const uint64_t magnitude = result & tp_magnitude_mask(kind);
    tally->flushed_count += magnitude == 0 && !source_is_zero;
    if (magnitude < tp_infinity_bits(kind))
        return result;
    tally->overflow_count++;
    return saturate ? result - 1 : result; /* the largest finite value stands just below infinity */
}

#define DEFINE_CAST(from, to, FROM, TO, from_bits, to_bits, flushes)                                            \
    static void cast_##from##_##to(void *dst, const void *src, size_t n, bool saturate, struct tp_stats *stats) \
    {                                                                                                           \
        struct tp_tally tally = TP_TALLY_INIT;                                                                  \
        uint8_t *d = dst;                                                                                       \
        const uint8_t *s = src;                                                                                 \
        for (size_t i = 0; i < n; i++) {                                                                        \
            uint##from_bits##_t value;                                                                          \
            memcpy(&value, s + i * sizeof value, sizeof value);                                                 \
            uint##to_bits##_t result = to##_from_##from(value);                                                 \
            const bool is_zero = (value & tp_magnitude_mask(TP_KIND_##FROM)) == 0;                              \
            if (tally_source(&tally, value, TP_KIND_##FROM))                                                    \
                result = (uint##to_bits##_t)tally_result(&tally, is_zero, result, TP_KIND_##TO, saturate);      \
            memcpy(d + i * sizeof result, &result, sizeof result);                                              \
        }                                                                                                       \
        tp_tally_finish(&tally, TP_KIND_##FROM, stats);                                                         \
    }
TP_EACH_CAST(DEFINE_CAST)

#define DEFINE_MEASURE(kind, KIND, bits)                                          \
    static void measure_##kind(const void *src, size_t n, struct tp_stats *stats) \
    {                                                                             \
        struct tp_tally tally = TP_TALLY_INIT;                                    \
        const uint8_t *s = src;                                                   \
        for (size_t i = 0; i < n; i++) {                                          \
            uint##bits##_t value;                                                 \
            memcpy(&value, s + i * sizeof value, sizeof value);                   \
            (void)tally_source(&tally, value, TP_KIND_##KIND);                    \
        }                                                                         \
        tp_tally_finish(&tally, TP_KIND_##KIND, stats);                           \
    }
TP_EACH_KIND(DEFINE_MEASURE)

static void unpack_f4(uint8_t *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dst[2 * i] = src[i] & 15;
        dst[2 * i + 1] = src[i] >> 4;
    }
}

static uint64_t count_not_bool(const uint8_t *src, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += src[i] > 1;
    return count;
}

/* -- Small floats: what a code stands for, times a scale -- */

/* The bits of a small float's magnitude as f64: every such value is a normal f64 (or zero). */
static inline uint64_t f64_from_small(uint32_t magnitude, unsigned mantissa_bits, unsigned bias)
{
    uint64_t exponent = 1023 - bias + (magnitude >> mantissa_bits);
    uint64_t mantissa = magnitude & ((1u << mantissa_bits) - 1);
    if (magnitude >> mantissa_bits == 0) {
        if (mantissa == 0)
            return 0;
        for (exponent++; mantissa >> mantissa_bits == 0; mantissa <<= 1)
            exponent--;
        mantissa &= (1u << mantissa_bits) - 1;
    }
    return exponent << 52 | mantissa << (52 - mantissa_bits);
}

#define F64_INFINITY UINT64_C(0x7ff0000000000000)
#define F64_QUIET_NAN UINT64_C(0x7ff8000000000000)
#define F64_SIGN (UINT64_C(1) << 63)

/* Not by the CPU, which may have been told to read subnormals as zero. */
static inline uint64_t f64_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint64_t sign = (uint64_t)(bits >> 31) << 63;
    if ((bits & 0x7fffffff) > 0x7f800000)
        return sign | F64_QUIET_NAN;
    if ((bits & 0x7fffffff) == 0x7f800000)
        return sign | F64_INFINITY;
    return sign | f64_from_small(bits & 0x7fffffff, 23, 127);
}

/* The product rounded once to f32. That of two f32 is exact as f64, so no rounding mode matters. A NaN, wherever it
 * comes from, gets the sign of the code: what a CPU makes of it differs. */
static inline uint32_t scaled(uint64_t code_bits, uint64_t scale_bits)
{
    double code, scale, product;
    memcpy(&code, &code_bits, sizeof code);
    memcpy(&scale, &scale_bits, sizeof scale);
    product = code * scale;
    uint64_t bits;
    memcpy(&bits, &product, sizeof bits);
    if ((bits & ~F64_SIGN) > F64_INFINITY)
        return (uint32_t)(code_bits >> 32 & 0x80000000) | 0x7fc00000;
    return f32_from_f64(bits);
}

/* From `infinite_from` on, magnitudes are infinite, or NaN above it; FNUZ kinds have no -0, its code is their NaN. */
static const struct {
    unsigned mantissa_bits, bias;
    uint32_t infinite_from;
    bool is_fnuz;
} f8_kinds[TP_F8_KIND_COUNT] = {
    [TP_F8_KIND_E4M3] = {3, 7, 0x7e, false}, /* has no infinity: 0x7e is its largest value */
    [TP_F8_KIND_E5M2] = {2, 15, 0x7c, false},
    [TP_F8_KIND_E4M3FNUZ] = {3, 8, 0x7f, true},
    [TP_F8_KIND_E5M2FNUZ] = {2, 16, 0x7f, true},
};

static inline uint64_t f64_from_f8(uint8_t code, enum tp_f8_kind kind)
{
    const uint64_t sign = (uint64_t)(code >> 7) << 63;
    const uint32_t magnitude = code & 0x7f;
    if (magnitude > f8_kinds[kind].infinite_from || (f8_kinds[kind].is_fnuz && code == 0x80))
        return sign | F64_QUIET_NAN;
    if (magnitude == f8_kinds[kind].infinite_from && kind == TP_F8_KIND_E5M2)
        return sign | F64_INFINITY;
    return sign | f64_from_small(magnitude, f8_kinds[kind].mantissa_bits, f8_kinds[kind].bias);
}

#define TABLE_PAYS 512u /* values */

void tp_f8_to_f32_scalar(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale)
{
    const uint64_t scale_bits = f64_from_f32(scale);
    uint32_t table[256];
    for (unsigned code = 0; n >= TABLE_PAYS && code < 256; code++)
        table[code] = scaled(f64_from_f8((uint8_t)code, kind), scale_bits);
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = n >= TABLE_PAYS ? table[src[i]] : scaled(f64_from_f8(src[i], kind), scale_bits);
        memcpy(dst + i, &bits, sizeof bits);
    }
}

static void f8_to_bf16(void *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, const float *scales, size_t group,
                       bool saturate, struct tp_stats *stats)
{
    float values[1024];
    uint8_t *d = dst;
    for (size_t i = 0; i < n;) {
        const size_t rest = n - i, left = group - i % group, most = sizeof values / sizeof *values;
        const size_t in_group = left < rest ? left : rest, count = in_group < most ? in_group : most;
        tp_f8_to_f32_scalar(values, src + i, count, kind, scales[i / group]);
        cast_f32_bf16(d + 2 * i, values, count, saturate, stats);
        i += count;
    }
}

/* Two codes a byte, low nibble first. */
static inline void look_up_f4(float *dst, const uint8_t *src, size_t n, const uint32_t table[16])
{
    for (size_t i = 0; i < n; i++)
        memcpy(dst + i, &table[src[i / 2] >> (i % 2 * 4) & 15], sizeof *table);
}

static inline uint64_t f64_from_f4(uint32_t code, bool positive_zero)
{
    const uint64_t sign = code == 8 && positive_zero ? 0 : (uint64_t)(code >> 3) << 63;
    return sign | f64_from_small(code & 7, 1, 1);
}

void tp_f4_to_f32_scalar(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero)
{
    const uint64_t scale_bits = f64_from_f32(scale);
    uint32_t table[16];
    for (uint32_t code = 0; code < 16; code++)
        table[code] = scaled(f64_from_f4(code, positive_zero), scale_bits);
    look_up_f4(dst, src, n, table);
}

/* Two bits of a value and an exponent within F32's range: BF16 is exact, subnormals included. */
static uint16_t bf16_from_mxfp4(uint32_t code, uint8_t exponent, bool positive_zero)
{
    const uint64_t scale_bits = exponent == 0xff ? F64_QUIET_NAN : (uint64_t)(1023 - 127 + exponent) << 52;
    return (uint16_t)(scaled(f64_from_f4(code, positive_zero), scale_bits) >> 16);
}

void tp_mxfp4_to_bf16_scalar(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t blocks,
                             bool positive_zero)
{
    uint8_t *d = dst;
    for (size_t b = 0; b < blocks; b++) {
        uint16_t table[16];
        for (uint32_t code = 0; code < 16; code++)
            table[code] = bf16_from_mxfp4(code, exponents[b], positive_zero);
        for (size_t i = 0; i < 32; i++, d += sizeof *table)
            memcpy(d, &table[codes[16 * b + i / 2] >> (i % 2 * 4) & 15], sizeof *table);
    }
}

void tp_mxfp4_each_to_bf16_scalar(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t n,
                                  bool high_nibbles, bool positive_zero)
{
    static const uint16_t magnitudes[8] = {0, 0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040, 0x4080, 0x40c0};
    uint8_t *d = dst;
    for (size_t i = 0; i < n; i++, d += sizeof *magnitudes) {
        const uint32_t code = codes[i] >> (high_nibbles ? 4 : 0) & 15, magnitude = magnitudes[code & 7];
        const bool is_plain = magnitude > 0 && exponents[i] >= TP_MXFP4_PLAIN_MIN && exponents[i] <= TP_MXFP4_PLAIN_MAX;
        const uint16_t value =
            is_plain ? (uint16_t)((code >> 3) << 15 | (magnitude + ((uint32_t)exponents[i] << 7) - (127u << 7)))
                     : bf16_from_mxfp4(code, exponents[i], positive_zero);
        memcpy(d, &value, sizeof value);
    }
}

#define DEFINE_TRANSPOSE(item)                                                                                      \
    void tp_transpose_##item##_scalar(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count, \
                                      size_t columns)                                                               \
    {                                                                                                               \
        for (size_t k = 0; k < columns; k++)                                                                        \
            for (size_t i = 0; i < row_count; i++)                                                                  \
                memcpy(dst + k * dst_pitch + i * (item), rows[i] + k * (item), item);                               \
    }
DEFINE_TRANSPOSE(1)
DEFINE_TRANSPOSE(2)
DEFINE_TRANSPOSE(4)
DEFINE_TRANSPOSE(8)

void tp_kernels_init_scalar(struct tp_kernels *k)
{
    *k = (struct tp_kernels){.level = TP_LEVEL_SCALAR};
    TP_EACH_CAST(TP_FILL_CAST)
    TP_EACH_KIND(TP_FILL_MEASURE)
    k->unpack_f4 = unpack_f4;
    k->f8_to_f32 = tp_f8_to_f32_scalar;
    k->f8_to_bf16 = f8_to_bf16;
    k->f4_to_f32 = tp_f4_to_f32_scalar;
    k->mxfp4_to_bf16 = tp_mxfp4_to_bf16_scalar;
    k->mxfp4_each_to_bf16 = tp_mxfp4_each_to_bf16_scalar;
    k->transpose[0] = tp_transpose_1_scalar;
    k->transpose[1] = tp_transpose_2_scalar;
    k->transpose[2] = tp_transpose_4_scalar;
    k->transpose[3] = tp_transpose_8_scalar;
    tp_kernels_init_scalar_arithmetic(k);
    k->count_not_bool = count_not_bool;
    k->xxh3_update = tp_xxh3_update;
}
