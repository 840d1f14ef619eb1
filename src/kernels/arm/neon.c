/* SPDX-License-Identifier: MIT */
/* AArch64's vectors: eight 16-bit values at a time. They are part of the architecture, so there are no flags; the
 * digest is NEON code at the scalar level already. */
#include "kernels/blocks.h"
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/transpose_walk.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

/* -- Statistics: the vocabulary of lanes.inc.h. A vec is bytes, reinterpreted where the width matters -- */

typedef uint8x16_t vec;
typedef uint8x16_t counter;

static inline vec load(const uint8_t *p)
{
    return vld1q_u8(p);
}

static inline void store(uint8_t *p, vec v)
{
    vst1q_u8(p, v);
}

static inline counter count_none(void)
{
    return vdupq_n_u8(0);
}

#define bit_and(a, b) vandq_u8(a, b)
#define bit_or(a, b) vorrq_u8(a, b)
#define bit_andnot(a, b) vbicq_u8(b, a)

#define LANES_16 8u
#define LANES_32 4u
#define LANES_64 2u
#define mask_16 uint8x16_t
#define mask_32 uint8x16_t
#define mask_64 uint8x16_t

static inline vec select_any(uint8x16_t mask, vec yes, vec no)
{
    return vbslq_u8(mask, yes, no);
}
#define select_16 select_any
#define select_32 select_any
#define select_64 select_any

/* name_bits(a, b) by the intrinsic `by` on lanes of type `in`, giving lanes of type `out`. */
#define BINARY(name, bits, by, in, out)                                                                   \
    static inline vec name##_##bits(vec a, vec b)                                                         \
    {                                                                                                     \
        return vreinterpretq_u8_##out(by##_##in(vreinterpretq_##in##_u8(a), vreinterpretq_##in##_u8(b))); \
    }
BINARY(min_s, 16, vminq, s16, s16)
BINARY(max_s, 16, vmaxq, s16, s16)
BINARY(min_u, 16, vminq, u16, u16)
BINARY(max_u, 16, vmaxq, u16, u16)
BINARY(min_s, 32, vminq, s32, s32)
BINARY(max_s, 32, vmaxq, s32, s32)
BINARY(min_u, 32, vminq, u32, u32)
BINARY(max_u, 32, vmaxq, u32, u32)
BINARY(gt, 16, vcgtq, s16, u16)
BINARY(gt, 32, vcgtq, s32, u32)
BINARY(gt, 64, vcgtq, s64, u64)
BINARY(gt_u, 64, vcgtq, u64, u64)
BINARY(eq, 16, vceqq, s16, u16)
BINARY(eq, 32, vceqq, s32, u32)
BINARY(eq, 64, vceqq, s64, u64)
BINARY(count, 16, vsubq, u16, u16) /* a mask's lanes are 0 or -1 */
BINARY(count, 32, vsubq, u32, u32)
BINARY(count, 64, vsubq, u64, u64)

/* There is no 64-bit minimum. */
#define min_s_64(a, b) select_any(gt_64(a, b), b, a)
#define max_s_64(a, b) select_any(gt_64(a, b), a, b)
#define min_u_64(a, b) select_any(gt_u_64(a, b), b, a)
#define max_u_64(a, b) select_any(gt_u_64(a, b), a, b)

static inline uint64_t total_16(counter c)
{
    return vaddlvq_u16(vreinterpretq_u16_u8(c));
}

static inline uint64_t total_32(counter c)
{
    return vaddlvq_u32(vreinterpretq_u32_u8(c));
}

static inline uint64_t total_64(counter c)
{
    return vaddvq_u64(vreinterpretq_u64_u8(c));
}

/* set1, 2 x - 1, and the key: of a negative value all bits but the sign flipped. */
#define DEFINE_SET1_AND_KEY(bits, last_bit)                                                                   \
    static inline vec set1_##bits(uint64_t value)                                                             \
    {                                                                                                         \
        return vreinterpretq_u8_u##bits(vdupq_n_u##bits((uint##bits##_t)value));                              \
    }                                                                                                         \
    static inline vec odd_##bits(vec x)                                                                       \
    {                                                                                                         \
        const uint##bits##_lanes v = vreinterpretq_u##bits##_u8(x);                                           \
        return vreinterpretq_u8_u##bits(vsubq_u##bits(vaddq_u##bits(v, v), vdupq_n_u##bits(1)));              \
    }                                                                                                         \
    static inline vec key_##bits(vec x)                                                                       \
    {                                                                                                         \
        const int##bits##_lanes signs = vshrq_n_s##bits(vreinterpretq_s##bits##_u8(x), last_bit);             \
        return veorq_u8(x, bit_and(vreinterpretq_u8_s##bits(signs), set1_##bits(UINT64_MAX >> (65 - bits)))); \
    }
typedef uint16x8_t uint16_lanes;
typedef uint32x4_t uint32_lanes;
typedef uint64x2_t uint64_lanes;
typedef int16x8_t int16_lanes;
typedef int32x4_t int32_lanes;
typedef int64x2_t int64_lanes;
DEFINE_SET1_AND_KEY(16, 15)
DEFINE_SET1_AND_KEY(32, 31)
DEFINE_SET1_AND_KEY(64, 63)

#define DEFINE_FOLD(op, bits, by, lanes, result_type)       \
    static inline result_type fold_##op##_##bits(vec v)     \
    {                                                       \
        return by##_##lanes(vreinterpretq_##lanes##_u8(v)); \
    }
DEFINE_FOLD(min_s, 16, vminvq, s16, int64_t)
DEFINE_FOLD(max_s, 16, vmaxvq, s16, int64_t)
DEFINE_FOLD(min_u, 16, vminvq, u16, uint64_t)
DEFINE_FOLD(max_u, 16, vmaxvq, u16, uint64_t)
DEFINE_FOLD(min_s, 32, vminvq, s32, int64_t)
DEFINE_FOLD(max_s, 32, vmaxvq, s32, int64_t)
DEFINE_FOLD(min_u, 32, vminvq, u32, uint64_t)
DEFINE_FOLD(max_u, 32, vmaxvq, u32, uint64_t)

#define DEFINE_FOLD_64(op, lanes, result_type)                                                   \
    static inline result_type fold_##op##_64(vec v)                                              \
    {                                                                                            \
        return vgetq_lane_##lanes(vreinterpretq_##lanes##_u8(op##_64(v, vextq_u8(v, v, 8))), 0); \
    }
DEFINE_FOLD_64(min_s, s64, int64_t)
DEFINE_FOLD_64(max_s, s64, int64_t)
DEFINE_FOLD_64(min_u, u64, uint64_t)
DEFINE_FOLD_64(max_u, u64, uint64_t)

#define TP_BITS 16
#include "kernels/lanes.inc.h"
#define TP_BITS 32
#include "kernels/lanes.inc.h"
#define TP_BITS 64
#include "kernels/lanes.inc.h"

/* -- Conversions, eight values a step -- */

static inline float32x4_t load_f32(const uint8_t *p)
{
    return vreinterpretq_f32_u8(load(p));
}

static inline void store_f32(uint8_t *p, float32x4_t v)
{
    store(p, vreinterpretq_u8_f32(v));
}

static inline float64x2_t load_f64(const uint8_t *p)
{
    return vreinterpretq_f64_u8(load(p));
}

/* Four f64 as f32. */
static inline float32x4_t f32_from_f64(const uint8_t *p)
{
    return vcombine_f32(vcvt_f32_f64(load_f64(p)), vcvt_f32_f64(load_f64(p + 16)));
}

/* ... "rounded to odd": what is lost sets the last bit. Rounding that to f16 is the same as rounding the f64 once. */
static inline float32x4_t f32_odd_from_f64(const uint8_t *p)
{
    return vcombine_f32(vcvtx_f32_f64(load_f64(p)), vcvtx_f32_f64(load_f64(p + 16)));
}

/* The upper halves of the results are four f32 rounded to bf16, ties to even. NaNs are plain (see blocks.h). */
static inline uint16x8_t round_to_bf16(float32x4_t v)
{
    const uint32x4_t x = vreinterpretq_u32_f32(v);
    const uint32x4_t is_odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
    return vreinterpretq_u16_u32(vaddq_u32(x, vaddq_u32(is_odd, vdupq_n_u32(0x7fff))));
}

static inline void store_bf16(uint8_t *d, float32x4_t a, float32x4_t b)
{
    store(d, vreinterpretq_u8_u16(vuzp2q_u16(round_to_bf16(a), round_to_bf16(b))));
}

static inline void store_f16(uint8_t *d, float32x4_t v)
{
    vst1_u8(d, vreinterpret_u8_f16(vcvt_f16_f32(v)));
}

static inline float32x4_t f32_from_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

static inline float32x4_t f32_from_bf16(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

static inline void step_f64_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_f64(s));
    store_f32(d + 16, f32_from_f64(s + 32));
}

static inline void step_f64_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, f32_odd_from_f64(s));
    store_f16(d + 8, f32_odd_from_f64(s + 32));
}

static inline void step_f64_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, f32_from_f64(s), f32_from_f64(s + 32));
}

static inline void step_f32_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, load_f32(s));
    store_f16(d + 8, load_f32(s + 16));
}

static inline void step_f32_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, load_f32(s), load_f32(s + 16));
}

static inline void step_f16_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_f16(s));
    store_f32(d + 16, f32_from_f16(s + 8));
}

static inline void step_f16_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, f32_from_f16(s), f32_from_f16(s + 8));
}

static inline void step_bf16_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_bf16(s));
    store_f32(d + 16, f32_from_bf16(s + 8));
}

static inline void step_bf16_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, f32_from_bf16(s));
    store_f16(d + 8, f32_from_bf16(s + 8));
}

#define TP_STEP 8u
TP_EACH_CAST(TP_DEFINE_CONVERT)
TP_EACH_CAST(TP_DEFINE_CAST)
TP_EACH_KIND(TP_DEFINE_MEASURE)

/* -- The rest -- */

static void unpack_f4(uint8_t *dst, const uint8_t *src, size_t n)
{
    size_t i = 0;
    for (; n - i >= 16; i += 16) {
        const uint8x16_t x = vld1q_u8(src + i);
        const uint8x16x2_t pair = {{vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8(x, 4)}};
        vst2q_u8(dst + 2 * i, pair);
    }
    for (; i < n; i++) {
        dst[2 * i] = src[i] & 15;
        dst[2 * i + 1] = src[i] >> 4;
    }
}

static uint64_t count_not_bool(const uint8_t *src, size_t n)
{
    uint64_t count = 0;
    size_t i = 0;
    for (; n - i >= 16; i += 16)
        count += vaddvq_u8(vshrq_n_u8(vcgtq_u8(vld1q_u8(src + i), vdupq_n_u8(1)), 7));
    for (; i < n; i++)
        count += src[i] > 1;
    return count;
}

/* -- Small floats, sixteen codes a step -- */

/* An E4M3 or E5M2 code is an F16 but for its bias: its bits move, and the factor makes up for the bias. Codes whose
 * exponent means something else there (infinity, NaN) are left to the definition, and so are E5M2FNUZ, whose exponents
 * F16 has not got, and scales that leave no room for the factor. */
static inline void step_f8(float *dst, const uint8_t *src, enum tp_f8_kind kind, float scale, float factor)
{
    const uint8x16_t codes = vld1q_u8(src), magnitudes = vandq_u8(codes, vdupq_n_u8(0x7f));
    const uint8x16_t special = kind == TP_F8_KIND_E4M3   ? vceqq_u8(magnitudes, vdupq_n_u8(0x7f))
                               : kind == TP_F8_KIND_E5M2 ? vcgtq_u8(magnitudes, vdupq_n_u8(0x7b))
                                                         : vceqq_u8(codes, vdupq_n_u8(0x80));
    if (vmaxvq_u8(special) != 0) {
        tp_f8_to_f32_scalar(dst, src, 16, kind, scale);
        return;
    }
    uint16x8_t halves[2] = {vshll_n_u8(vget_low_u8(codes), 8), vshll_n_u8(vget_high_u8(codes), 8)};
    for (unsigned i = 0; i < 2; i++) {
        uint16x8_t x = halves[i];
        if (kind != TP_F8_KIND_E5M2) /* one more bit of exponent; the sign is doubled on the way */
            x = vandq_u16(vreinterpretq_u16_s16(vshrq_n_s16(vreinterpretq_s16_u16(x), 1)), vdupq_n_u16(0xbfff));
        const float16x8_t value = vreinterpretq_f16_u16(x);
        vst1q_f32(dst + 8 * i, vmulq_n_f32(vcvt_f32_f16(vget_low_f16(value)), factor));
        vst1q_f32(dst + 8 * i + 4, vmulq_n_f32(vcvt_high_f32_f16(value), factor));
    }
}

static inline void run_f8(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale, float factor)
{
    for (size_t i = 0; i < n - 16; i += 16)
        step_f8(dst + i, src + i, kind, scale, factor);
    step_f8(dst + n - 16, src + n - 16, kind, scale, factor); /* the last step overlaps the one before */
}

static void f8_to_f32(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale)
{
    if (n < 16 || kind == TP_F8_KIND_E5M2FNUZ || !tp_is_below(scale, 0x1p119f)) {
        tp_f8_to_f32_scalar(dst, src, n, kind, scale);
        return;
    }
    const volatile float kept = scale; /* not to be multiplied before the mode is plain */
    const uint64_t mode = tp_float_mode_plain();
    if (kind == TP_F8_KIND_E4M3)
        run_f8(dst, src, n, TP_F8_KIND_E4M3, scale, kept * 0x1p8f);
    else if (kind == TP_F8_KIND_E5M2)
        run_f8(dst, src, n, TP_F8_KIND_E5M2, scale, kept);
    else
        run_f8(dst, src, n, TP_F8_KIND_E4M3FNUZ, scale, kept * 0x1p7f);
    tp_float_mode_restore(mode);
}

static void f8_to_bf16(void *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, const float *scales, size_t group,
                       bool saturate, struct tp_stats *stats)
{
    float values[1024];
    uint8_t *d = dst;
    for (size_t i = 0; i < n;) {
        const size_t rest = n - i, left = group - i % group, most = sizeof values / sizeof *values;
        const size_t in_group = left < rest ? left : rest, count = in_group < most ? in_group : most;
        f8_to_f32(values, src + i, count, kind, scales[i / group]);
        cast_f32_bf16(d + 2 * i, values, count, saturate, stats);
        i += count;
    }
}

/* E2M1 as the upper half of an F32, that is, as BF16: a table for either byte. */
struct f4_tables {
    uint8x16_t upper, lower;
};

static inline struct f4_tables f4_tables_make(bool positive_zero)
{
    static const uint8_t lower[16] = {0, 0, 0x80, 0xc0, 0, 0x40, 0x80, 0xc0, 0, 0, 0x80, 0xc0, 0, 0x40, 0x80, 0xc0};
    const uint8_t zero = positive_zero ? 0 : 0x80;
    const uint8_t upper[16] = {0,    0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                               zero, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
    return (struct f4_tables){vld1q_u8(upper), vld1q_u8(lower)};
}

static inline void step_f4(float *dst, const uint8_t *src, struct f4_tables tables, float factor)
{
    const uint8x8_t bytes = vld1_u8(src), low = vand_u8(bytes, vdup_n_u8(15)), high = vshr_n_u8(bytes, 4);
    const uint8x16_t codes = vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
    const uint8x16_t upper = vqtbl1q_u8(tables.upper, codes), lower = vqtbl1q_u8(tables.lower, codes);
    const uint16x8_t halves[2] = {vreinterpretq_u16_u8(vzip1q_u8(lower, upper)),
                                  vreinterpretq_u16_u8(vzip2q_u8(lower, upper))};
    for (unsigned i = 0; i < 2; i++) {
        const float32x4_t a = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves[i]), 16));
        const float32x4_t b = vreinterpretq_f32_u32(vshll_high_n_u16(halves[i], 16));
        vst1q_f32(dst + 8 * i, vmulq_n_f32(a, factor));
        vst1q_f32(dst + 8 * i + 4, vmulq_n_f32(b, factor));
    }
}

static void f4_to_f32(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero)
{
    if (n < 16 || !tp_is_below(scale, INFINITY)) {
        tp_f4_to_f32_scalar(dst, src, n, scale, positive_zero);
        return;
    }
    const uint64_t mode = tp_float_mode_plain();
    const struct f4_tables tables = f4_tables_make(positive_zero);
    for (size_t i = 0; i < n - 16; i += 16)
        step_f4(dst + i, src + i / 2, tables, scale);
    step_f4(dst + n - 16, src + n / 2 - 8, tables, scale); /* the last step overlaps the one before */
    tp_float_mode_restore(mode);
}

/* -- MXFP4, as integers: to the code's BF16 the exponent is added -- */

/* Each code as BF16 less 127 of exponent, a byte each; and whether it is to get an exponent: all but the zeros. */
struct mxfp4_tables {
    uint8x16_t lower, upper, takes_exponent;
};

static inline struct mxfp4_tables mxfp4_tables_make(bool positive_zero)
{
    static const uint8_t lower[16] = {0, 0x80, 0, 0x40, 0x80, 0xc0, 0, 0x40, 0, 0x80, 0, 0x40, 0x80, 0xc0, 0, 0x40};
    static const uint8_t takes[16] = {0, 255, 255, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255, 255};
    const uint8_t zero = positive_zero ? 0 : 0x80;
    const uint8_t upper[16] = {0, 0xff, 0, 0, 0, 0, 1, 1, zero, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x81, 0x81};
    return (struct mxfp4_tables){vld1q_u8(lower), vld1q_u8(upper), vld1q_u8(takes)};
}

/* Sixteen values from a code a byte, their exponents plain. */
static inline void step_mxfp4(uint8_t *dst, uint8x16_t codes, uint8x16_t exponents, struct mxfp4_tables tables)
{
    const uint8x16_t lower = vqtbl1q_u8(tables.lower, codes), upper = vqtbl1q_u8(tables.upper, codes);
    const uint8x16_t added = vandq_u8(vqtbl1q_u8(tables.takes_exponent, codes), exponents);
    const uint16x8_t low = vshll_n_u8(vget_low_u8(added), 7), high = vshll_n_u8(vget_high_u8(added), 7);
    store(dst, vreinterpretq_u8_u16(vaddq_u16(vreinterpretq_u16_u8(vzip1q_u8(lower, upper)), low)));
    store(dst + 16, vreinterpretq_u8_u16(vaddq_u16(vreinterpretq_u16_u8(vzip2q_u8(lower, upper)), high)));
}

static void mxfp4_to_bf16(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t blocks, bool positive_zero)
{
    const struct mxfp4_tables tables = mxfp4_tables_make(positive_zero);
    uint8_t *d = dst;
    for (size_t b = 0; b < blocks; b++, d += 64, codes += 16) {
        const uint8x16_t bytes = load(codes), low = vandq_u8(bytes, vdupq_n_u8(15)), high = vshrq_n_u8(bytes, 4);
        const uint8x16_t exponent = vdupq_n_u8(exponents[b]);
        if (exponents[b] < TP_MXFP4_PLAIN_MIN || exponents[b] > TP_MXFP4_PLAIN_MAX) {
            tp_mxfp4_to_bf16_scalar(d, codes, exponents + b, 1, positive_zero);
            continue;
        }
        step_mxfp4(d, vzip1q_u8(low, high), exponent, tables);
        step_mxfp4(d + 32, vzip2q_u8(low, high), exponent, tables);
    }
}

static void mxfp4_each_to_bf16(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t n, bool high_nibbles,
                               bool positive_zero)
{
    const struct mxfp4_tables tables = mxfp4_tables_make(positive_zero);
    const int8x16_t shift = vdupq_n_s8(high_nibbles ? -4 : 0);
    uint8_t *d = dst;
    size_t i = 0;
    for (; n - i >= 16; i += 16) {
        const uint8x16_t nibbles = vandq_u8(vshlq_u8(load(codes + i), shift), vdupq_n_u8(15)), e = load(exponents + i);
        if (vminvq_u8(e) < TP_MXFP4_PLAIN_MIN || vmaxvq_u8(e) > TP_MXFP4_PLAIN_MAX)
            tp_mxfp4_each_to_bf16_scalar(d + 2 * i, codes + i, exponents + i, 16, high_nibbles, positive_zero);
        else
            step_mxfp4(d + 2 * i, nibbles, e, tables);
    }
    tp_mxfp4_each_to_bf16_scalar(d + 2 * i, codes + i, exponents + i, n - i, high_nibbles, positive_zero);
}

/* -- Transposition -- */

/* As many rows and columns as a vector has items. To interleave the first half of the vectors with the second, as often
 * as it takes to halve their number to one, is to transpose. */
#define VECTORS(item) (16u / (item))
#define ZIP(which, bits, a, b) \
    vreinterpretq_u8_u##bits(vzip##which##q_u##bits(vreinterpretq_u##bits##_u8(a), vreinterpretq_u##bits##_u8(b)))
#define INTERLEAVE(to, from, item, bits)                                    \
    for (size_t i = 0; i < VECTORS(item) / 2; i++) {                        \
        to[2 * i] = ZIP(1, bits, from[i], from[i + VECTORS(item) / 2]);     \
        to[2 * i + 1] = ZIP(2, bits, from[i], from[i + VECTORS(item) / 2]); \
    }
#define vreinterpretq_u8_u8(v) (v)

#define DEFINE_TRANSPOSE(item, bits)                                                                     \
    static inline void step_transpose_##item(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, \
                                             size_t offset)                                              \
    {                                                                                                    \
        uint8x16_t a[VECTORS(item)], b[VECTORS(item)];                                                   \
        for (size_t i = 0; i < VECTORS(item); i++)                                                       \
            a[i] = load(rows[i] + offset);                                                               \
        INTERLEAVE(b, a, item, bits)                                                                     \
        if ((item) < 8)                                                                                  \
            INTERLEAVE(a, b, item, bits)                                                                 \
        if ((item) < 4)                                                                                  \
            INTERLEAVE(b, a, item, bits)                                                                 \
        if ((item) < 2)                                                                                  \
            INTERLEAVE(a, b, item, bits)                                                                 \
        const uint8x16_t *columns = (item) == 1 || (item) == 4 ? a : b;                                  \
        for (size_t k = 0; k < VECTORS(item); k++)                                                       \
            store(dst + k * dst_pitch, columns[k]);                                                      \
    }                                                                                                    \
    TP_DEFINE_TRANSPOSE_WALK(item, VECTORS(item), VECTORS(item))
DEFINE_TRANSPOSE(1, 8)
DEFINE_TRANSPOSE(2, 16)
DEFINE_TRANSPOSE(4, 32)
DEFINE_TRANSPOSE(8, 64)

void tp_kernels_init_neon(struct tp_kernels *k)
{
    k->level = TP_LEVEL_NEON;
    TP_EACH_CAST(TP_FILL_CAST)
    TP_EACH_KIND(TP_FILL_MEASURE)
    k->unpack_f4 = unpack_f4;
    k->f8_to_f32 = f8_to_f32;
    k->f8_to_bf16 = f8_to_bf16;
    k->f4_to_f32 = f4_to_f32;
    k->mxfp4_to_bf16 = mxfp4_to_bf16;
    k->mxfp4_each_to_bf16 = mxfp4_each_to_bf16;
    k->transpose[0] = transpose_1;
    k->transpose[1] = transpose_2;
    k->transpose[2] = transpose_4;
    k->transpose[3] = transpose_8;
    tp_kernels_init_neon_arithmetic(k);
    k->count_not_bool = count_not_bool;
}
