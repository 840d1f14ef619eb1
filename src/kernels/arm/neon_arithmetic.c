/* SPDX-License-Identifier: MIT */
/* AArch64: multiplying and adding, four values at a time. A step that meets anything but ordinary values (NaN,
 * infinity, what overflows or becomes zero) is left to the definition. */
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/values.h"
#include "os/float_mode.h"

#include <arm_neon.h>

#define STEP 4u

/* Magnitudes of a float32 result that the kind has not got: from `overflow_from` on, and up to `flush_to`. */
struct limits {
    uint32x4_t overflow_from, flush_to;
};

static inline float32x4_t load_f32(const uint8_t *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}

static inline float32x4_t load_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

static inline float32x4_t load_bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

static inline void store_f32(uint8_t *p, float32x4_t v)
{
    vst1q_u8(p, vreinterpretq_u8_f32(v));
}

static inline void store_f16(uint8_t *p, float32x4_t v)
{
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v)));
}

/* To the nearest, ties to even; no NaN comes here. */
static inline void store_bf16(uint8_t *p, float32x4_t v)
{
    const uint32x4_t x = vreinterpretq_u32_f32(v), is_odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
    vst1_u8(p, vreinterpret_u8_u16(vshrn_n_u32(vaddq_u32(x, vaddq_u32(is_odd, vdupq_n_u32(0x7fff))), 16)));
}

static inline bool is_ordinary(float32x4_t x, float32x4_t result, bool adds, const struct limits *limits)
{
    const uint32x4_t magnitude = vandq_u32(vreinterpretq_u32_f32(result), vdupq_n_u32(INT32_MAX));
    const uint32x4_t zeros = vceqzq_f32(adds ? result : x); /* as they should be */
    const uint32x4_t large = vcgeq_u32(magnitude, limits->overflow_from);
    const uint32x4_t small = vcleq_u32(magnitude, limits->flush_to);
    return vmaxvq_u32(vorrq_u32(large, vbicq_u32(small, zeros))) == 0;
}

#define DEFINE_CALCULATE(kind, KIND, bits, overflow_from, flush_to)                                        \
    static inline void calculate_##kind(bool adds, uint8_t *d, const uint8_t *s, size_t n, double operand, \
                                        bool saturate, struct tp_stats *stats)                             \
    {                                                                                                      \
        const struct limits limits = {vdupq_n_u32(overflow_from), vdupq_n_u32(flush_to)};                  \
        uint64_t operand_f64;                                                                              \
        memcpy(&operand_f64, &operand, sizeof operand_f64);                                                \
        const float32x4_t c = vreinterpretq_f32_u32(vdupq_n_u32(f32_from_f64(operand_f64)));               \
        const uint64_t mode = tp_float_mode_plain();                                                       \
        size_t i = 0;                                                                                      \
        for (; n - i >= STEP; i += STEP, d += STEP * (bits) / 8, s += STEP * (bits) / 8) {                 \
            const float32x4_t x = load_##kind(s), result = adds ? vaddq_f32(x, c) : vmulq_f32(x, c);       \
            if (is_ordinary(x, result, adds, &limits))                                                     \
                store_##kind(d, result);                                                                   \
            else                                                                                           \
                tp_arithmetic_scalar(TP_KIND_##KIND, adds, d, s, STEP, operand, saturate, stats);          \
        }                                                                                                  \
        tp_float_mode_restore(mode);                                                                       \
        tp_arithmetic_scalar(TP_KIND_##KIND, adds, d, s, n - i, operand, saturate, stats);                 \
    }                                                                                                      \
    static void multiply_##kind(void *dst, const void *src, size_t n, double operand, bool saturate,       \
                                struct tp_stats *stats)                                                    \
    {                                                                                                      \
        calculate_##kind(false, dst, src, n, operand, saturate, stats);                                    \
    }                                                                                                      \
    static void add_##kind(void *dst, const void *src, size_t n, double operand, bool saturate,            \
                           struct tp_stats *stats)                                                         \
    {                                                                                                      \
        calculate_##kind(true, dst, src, n, operand, saturate, stats);                                     \
    }
DEFINE_CALCULATE(f32, F32, 32, 0x7f800000, 0)
DEFINE_CALCULATE(f16, F16, 16, 0x477ff000, 0x33000000)
DEFINE_CALCULATE(bf16, BF16, 16, 0x7f7f8000, 0x00008000)

void tp_kernels_init_neon_arithmetic(struct tp_kernels *k)
{
    TP_FILL_ARITHMETIC(f32, F32, 32)
    TP_FILL_ARITHMETIC(f16, F16, 16)
    TP_FILL_ARITHMETIC(bf16, BF16, 16)
}
