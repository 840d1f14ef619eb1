/* SPDX-License-Identifier: MIT */
/* The definition of multiplying and adding: one value after the other. The CPU calculates, in its plain mode; what
 * CPUs do differently, the bits of a NaN, is done in integers, and so is the rounding to 16 bits. */
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/values.h"
#include "os/float_mode.h"

/* What came of x: a NaN has x's sign, and if x is one, its payload too. */
static inline uint32_t settle_f32(uint32_t x, float result)
{
    uint32_t bits;
    memcpy(&bits, &result, sizeof bits);
    if ((bits & 0x7fffffff) <= 0x7f800000)
        return bits;
    return (x & 0x80000000) | 0x7fc00000 | ((x & 0x7fffffff) > 0x7f800000 ? x & 0x003fffff : 0);
}

static inline uint64_t settle_f64(uint64_t x, double result)
{
    const uint64_t sign = UINT64_C(1) << 63, infinity = UINT64_C(0x7ff) << 52, quiet = UINT64_C(1) << 51;
    uint64_t bits;
    memcpy(&bits, &result, sizeof bits);
    if ((bits & ~sign) <= infinity)
        return bits;
    return (x & sign) | infinity | quiet | ((x & ~sign) > infinity ? x & (quiet - 1) : 0);
}

static inline uint32_t calculate_f32(uint32_t x, uint32_t operand, bool adds)
{
    float a, b;
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &operand, sizeof b);
    return settle_f32(x, adds ? a + b : a * b);
}

static inline uint64_t calculate_f64(uint64_t x, uint64_t operand, bool adds)
{
    double a, b;
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &operand, sizeof b);
    return settle_f64(x, adds ? a + b : a * b);
}

/* The operand as bits, made from its bits: no mode of the CPU is asked. */
#define OPERAND_32(bits) f32_from_f64(bits)
#define OPERAND_64(bits) (bits)
#define f32_from_f32(x) (x)
#define f64_from_f64(x) (x)

/* `wide`: the kind that is calculated in, of wide_bits. */
#define DEFINE_ARITHMETIC(kind, KIND, bits, wide, WIDE, wide_bits)                                                    \
    static void calculate_in_##kind(bool adds, void *dst, const void *src, size_t n, uint64_t operand_f64,            \
                                    bool saturate, struct tp_stats *stats)                                            \
    {                                                                                                                 \
        const uint##wide_bits##_t operand = OPERAND_##wide_bits(operand_f64);                                         \
        const uint64_t wide_mask = tp_magnitude_mask(TP_KIND_##WIDE), mask = tp_magnitude_mask(TP_KIND_##KIND);       \
        const uint64_t infinity = tp_infinity_bits(TP_KIND_##KIND);                                                   \
        uint8_t *d = dst;                                                                                             \
        const uint8_t *s = src;                                                                                       \
        for (size_t i = 0; i < n; i++) {                                                                              \
            uint##bits##_t x;                                                                                         \
            memcpy(&x, s + i * sizeof x, sizeof x);                                                                   \
            const uint##wide_bits##_t unrounded = calculate_##wide(wide##_from_##kind(x), operand, adds);             \
            uint##bits##_t result = kind##_from_##wide(unrounded);                                                    \
            const bool is_zero = adds ? (unrounded & wide_mask) == 0 : (x & mask) == 0 || (operand & wide_mask) == 0; \
            stats->flushed_count += (result & mask) == 0 && !is_zero;                                                 \
            if ((result & mask) == infinity && (x & mask) < infinity) {                                               \
                stats->overflow_count++;                                                                              \
                result = (uint##bits##_t)(saturate ? result - 1 : result);                                            \
            }                                                                                                         \
            memcpy(d + i * sizeof result, &result, sizeof result);                                                    \
        }                                                                                                             \
    }
DEFINE_ARITHMETIC(f64, F64, 64, f64, F64, 64)
DEFINE_ARITHMETIC(f32, F32, 32, f32, F32, 32)
DEFINE_ARITHMETIC(f16, F16, 16, f32, F32, 32)
DEFINE_ARITHMETIC(bf16, BF16, 16, f32, F32, 32)

void tp_arithmetic_scalar(enum tp_float_kind kind, bool adds, void *dst, const void *src, size_t n, double operand,
                          bool saturate, struct tp_stats *stats)
{
    uint64_t operand_bits;
    memcpy(&operand_bits, &operand, sizeof operand_bits);
    const uint64_t mode = tp_float_mode_plain();
    switch (kind) {
    case TP_KIND_F64:
        calculate_in_f64(adds, dst, src, n, operand_bits, saturate, stats);
        break;
    case TP_KIND_F32:
        calculate_in_f32(adds, dst, src, n, operand_bits, saturate, stats);
        break;
    case TP_KIND_F16:
        calculate_in_f16(adds, dst, src, n, operand_bits, saturate, stats);
        break;
    default:
        calculate_in_bf16(adds, dst, src, n, operand_bits, saturate, stats);
        break;
    }
    tp_float_mode_restore(mode);
}

#define DEFINE_SLOTS(kind, KIND, bits)                                                               \
    static void multiply_##kind(void *dst, const void *src, size_t n, double operand, bool saturate, \
                                struct tp_stats *stats)                                              \
    {                                                                                                \
        tp_arithmetic_scalar(TP_KIND_##KIND, false, dst, src, n, operand, saturate, stats);          \
    }                                                                                                \
    static void add_##kind(void *dst, const void *src, size_t n, double operand, bool saturate,      \
                           struct tp_stats *stats)                                                   \
    {                                                                                                \
        tp_arithmetic_scalar(TP_KIND_##KIND, true, dst, src, n, operand, saturate, stats);           \
    }
TP_EACH_KIND(DEFINE_SLOTS)

void tp_kernels_init_scalar_arithmetic(struct tp_kernels *k)
{
    TP_EACH_KIND(TP_FILL_ARITHMETIC)
}
