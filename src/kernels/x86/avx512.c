/* SPDX-License-Identifier: MIT */
/* AVX-512 (F, BW, DQ, VL, CD): thirty-two 16-bit values at a time. Built with just those flags and the AVX2 level's.
 * Nothing but tp_kernels_init_avx512 is visible outside, and nothing is inline without being static. VCVTNEPS2BF16 is
 * never used: it turns subnormals into zero. */
#include "kernels/blocks.h"
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/xxh3.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

/* -- Statistics: the vocabulary of lanes.inc.h -- */

typedef __m512i vec;
typedef uint64_t counter; /* comparisons give bit masks, whose ones are counted at once */

static inline vec load(const uint8_t *p)
{
    return _mm512_loadu_si512((const void *)p);
}

static inline void store(uint8_t *p, vec v)
{
    _mm512_storeu_si512((void *)p, v);
}

static inline counter count_none(void)
{
    return 0;
}

#define bit_and(a, b) _mm512_and_si512(a, b)
#define bit_or(a, b) _mm512_or_si512(a, b)
#define bit_andnot(a, b) _mm512_andnot_si512(a, b)

#define LANES_16 32u
#define LANES_32 16u
#define LANES_64 8u
#define set1_16(bits) _mm512_set1_epi16((int16_t)(bits))
#define set1_32(bits) _mm512_set1_epi32((int32_t)(bits))
#define set1_64(bits) _mm512_set1_epi64((int64_t)(bits))

#define odd_16(x) _mm512_sub_epi16(_mm512_add_epi16(x, x), set1_16(1))
#define odd_32(x) _mm512_sub_epi32(_mm512_add_epi32(x, x), set1_32(1))
#define odd_64(x) _mm512_sub_epi64(_mm512_add_epi64(x, x), set1_64(1))

#define min_s_16(a, b) _mm512_min_epi16(a, b)
#define max_s_16(a, b) _mm512_max_epi16(a, b)
#define min_u_16(a, b) _mm512_min_epu16(a, b)
#define max_u_16(a, b) _mm512_max_epu16(a, b)
#define min_s_32(a, b) _mm512_min_epi32(a, b)
#define max_s_32(a, b) _mm512_max_epi32(a, b)
#define min_u_32(a, b) _mm512_min_epu32(a, b)
#define max_u_32(a, b) _mm512_max_epu32(a, b)
#define min_s_64(a, b) _mm512_min_epi64(a, b)
#define max_s_64(a, b) _mm512_max_epi64(a, b)
#define min_u_64(a, b) _mm512_min_epu64(a, b)
#define max_u_64(a, b) _mm512_max_epu64(a, b)

#define mask_16 __mmask32
#define mask_32 __mmask16
#define mask_64 __mmask8
#define gt_16(a, b) _mm512_cmpgt_epi16_mask(a, b)
#define gt_32(a, b) _mm512_cmpgt_epi32_mask(a, b)
#define gt_64(a, b) _mm512_cmpgt_epi64_mask(a, b)
#define eq_16(a, b) _mm512_cmpeq_epi16_mask(a, b)
#define eq_32(a, b) _mm512_cmpeq_epi32_mask(a, b)
#define eq_64(a, b) _mm512_cmpeq_epi64_mask(a, b)
#define select_16(mask, yes, no) _mm512_mask_blend_epi16(mask, no, yes)
#define select_32(mask, yes, no) _mm512_mask_blend_epi32(mask, no, yes)
#define select_64(mask, yes, no) _mm512_mask_blend_epi64(mask, no, yes)

/* The key of a negative value: all bits but the sign flipped. */
static inline vec key_16(vec x)
{
    return _mm512_xor_si512(x, _mm512_srli_epi16(_mm512_srai_epi16(x, 15), 1));
}

static inline vec key_32(vec x)
{
    return _mm512_xor_si512(x, _mm512_srli_epi32(_mm512_srai_epi32(x, 31), 1));
}

static inline vec key_64(vec x)
{
    return _mm512_xor_si512(x, _mm512_srli_epi64(_mm512_srai_epi64(x, 63), 1));
}

static inline counter count_any(counter c, uint32_t mask)
{
    return c + (unsigned)_mm_popcnt_u32(mask);
}
#define count_16 count_any
#define count_32 count_any
#define count_64 count_any
#define total_16(c) (c)
#define total_32(c) (c)
#define total_64(c) (c)

/* Turn the vector by half its length, a quarter, ... until every lane holds the result. */
#define DEFINE_FOLD(op, bits, lane_type, result_type)                                \
    static inline result_type fold_##op##_##bits(vec v)                              \
    {                                                                                \
        v = op##_##bits(v, _mm512_shuffle_i64x2(v, v, 0x4e));                        \
        v = op##_##bits(v, _mm512_shuffle_i64x2(v, v, 0xb1));                        \
        v = op##_##bits(v, _mm512_alignr_epi8(v, v, 8));                             \
        if (bits < 64)                                                               \
            v = op##_##bits(v, _mm512_alignr_epi8(v, v, 4));                         \
        if (bits < 32)                                                               \
            v = op##_##bits(v, _mm512_alignr_epi8(v, v, 2));                         \
        return (result_type)(lane_type)_mm_cvtsi128_si64(_mm512_castsi512_si128(v)); \
    }
#define DEFINE_FOLDS(bits)                             \
    DEFINE_FOLD(min_s, bits, int##bits##_t, int64_t)   \
    DEFINE_FOLD(max_s, bits, int##bits##_t, int64_t)   \
    DEFINE_FOLD(min_u, bits, uint##bits##_t, uint64_t) \
    DEFINE_FOLD(max_u, bits, uint##bits##_t, uint64_t)
DEFINE_FOLDS(16)
DEFINE_FOLDS(32)
DEFINE_FOLDS(64)

#define TP_BITS 16
#include "kernels/lanes.inc.h"
#define TP_BITS 32
#include "kernels/lanes.inc.h"
#define TP_BITS 64
#include "kernels/lanes.inc.h"

/* -- Conversions, thirty-two values a step -- */

static inline __m512 load_f32(const uint8_t *p)
{
    return _mm512_loadu_ps((const void *)p);
}

static inline void store_f32(uint8_t *p, __m512 v)
{
    _mm512_storeu_ps((void *)p, v);
}

static inline __m512 join_f32(__m256 low, __m256 high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

/* Sixteen f64 as f32. */
static inline __m512 f32_from_f64(const uint8_t *p)
{
    const __m256 low = _mm512_cvtpd_ps(_mm512_loadu_pd((const void *)p));
    const __m256 high = _mm512_cvtpd_ps(_mm512_loadu_pd((const void *)(p + 64)));
    return join_f32(low, high);
}

/* Eight f64 as f32, "rounded to odd": the bits that f32 has no room for are summed up in its last bit. Rounding that
 * to f16, which has 13 bits less, is then the same as rounding the f64 once. */
static inline __m256 f32_odd_from_f64(const uint8_t *p)
{
    const __m512i lost = _mm512_set1_epi64(0x1fffffff); /* bits; adding this to them carries if any is set */
    const __m512i x = load(p);
    const __m512i sticky = _mm512_add_epi64(_mm512_and_si512(x, lost), lost);
    const __m512i odd = _mm512_andnot_si512(lost, _mm512_or_si512(x, sticky));
    return _mm512_cvtpd_ps(_mm512_castsi512_pd(odd));
}

/* The upper halves of the results are sixteen f32 rounded to bf16, ties to even. NaNs are plain (see blocks.h). */
static inline __m512i round_to_bf16(__m512 v)
{
    const __m512i x = _mm512_castps_si512(v);
    const __m512i is_odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
    return _mm512_add_epi32(x, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
}

static inline void store_bf16(uint8_t *d, __m512 a, __m512 b)
{
    const __m512i upper_halves =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, /* of b */
                         31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);     /* of a */
    store(d, _mm512_permutex2var_epi16(round_to_bf16(a), upper_halves, round_to_bf16(b)));
}

static inline void store_f16(uint8_t *d, __m512 v)
{
    _mm256_storeu_si256((void *)d, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline __m512 f32_from_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

static inline __m512i f32_from_bf16(const uint8_t *p)
{
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16);
}

static inline void step_f64_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_f64(s));
    store_f32(d + 64, f32_from_f64(s + 128));
}

static inline void step_f64_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, join_f32(f32_odd_from_f64(s), f32_odd_from_f64(s + 64)));
    store_f16(d + 32, join_f32(f32_odd_from_f64(s + 128), f32_odd_from_f64(s + 192)));
}

static inline void step_f64_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, f32_from_f64(s), f32_from_f64(s + 128));
}

static inline void step_f32_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, load_f32(s));
    store_f16(d + 32, load_f32(s + 64));
}

static inline void step_f32_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, load_f32(s), load_f32(s + 64));
}

static inline void step_f16_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_f16(s));
    store_f32(d + 64, f32_from_f16(s + 32));
}

static inline void step_f16_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, f32_from_f16(s), f32_from_f16(s + 32));
}

static inline void step_bf16_f32(uint8_t *d, const uint8_t *s)
{
    store(d, f32_from_bf16(s));
    store(d + 64, f32_from_bf16(s + 32));
}

static inline void step_bf16_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, _mm512_castsi512_ps(f32_from_bf16(s)));
    store_f16(d + 32, _mm512_castsi512_ps(f32_from_bf16(s + 32)));
}

#define TP_STEP 32u
TP_EACH_CAST(TP_DEFINE_CONVERT)
TP_EACH_CAST(TP_DEFINE_CAST)
TP_EACH_KIND(TP_DEFINE_MEASURE)

/* -- The rest -- */

static void unpack_f4(uint8_t *dst, const uint8_t *src, size_t n)
{
    const __m512i nibbles = _mm512_set1_epi8(0x0f);
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        const __m512i x = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(src + i)));        /* 00HL a word */
        store(dst + 2 * i, _mm512_and_si512(_mm512_or_si512(x, _mm512_slli_epi16(x, 4)), nibbles)); /* 0H0L */
    }
    for (; i < n; i++) {
        dst[2 * i] = src[i] & 15;
        dst[2 * i + 1] = src[i] >> 4;
    }
}

static uint64_t count_not_bool(const uint8_t *src, size_t n)
{
    const __m512i one = _mm512_set1_epi8(1);
    uint64_t count = 0;
    size_t i = 0;
    for (; n - i >= 64; i += 64)
        count += (uint64_t)_mm_popcnt_u64(_mm512_cmpgt_epu8_mask(load(src + i), one));
    for (; i < n; i++)
        count += src[i] > 1;
    return count;
}

/* -- Small floats -- */

/* An E4M3 or E5M2 code is an F16 but for its bias: its bits move, and the factor makes up for the bias. Codes whose
 * exponent means something else there (infinity, NaN) are left to the definition, and so are E5M2FNUZ, whose exponents
 * F16 has not got, and scales that leave no room for the factor. Thirty-two codes a step. */
static inline void step_f8(float *dst, const uint8_t *src, enum tp_f8_kind kind, float scale, __m512 factor)
{
    const __m256i codes = _mm256_loadu_si256((const void *)src);
    const __m256i magnitudes = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
    const __mmask32 special = kind == TP_F8_KIND_E4M3   ? _mm256_cmpeq_epi8_mask(magnitudes, _mm256_set1_epi8(0x7f))
                              : kind == TP_F8_KIND_E5M2 ? _mm256_cmpgt_epi8_mask(magnitudes, _mm256_set1_epi8(0x7b))
                                                        : _mm256_cmpeq_epi8_mask(codes, _mm256_set1_epi8(-0x80));
    if (special != 0) {
        tp_f8_to_f32_scalar(dst, src, 32, kind, scale);
        return;
    }
    __m512i x = _mm512_slli_epi16(_mm512_cvtepu8_epi16(codes), 8);
    if (kind != TP_F8_KIND_E5M2) /* one more bit of exponent; the sign is doubled on the way */
        x = _mm512_and_si512(_mm512_srai_epi16(x, 1), set1_16(0xbfff));
    const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(x));
    const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1));
    _mm512_storeu_ps(dst, _mm512_mul_ps(low, factor));
    _mm512_storeu_ps(dst + 16, _mm512_mul_ps(high, factor));
}

static inline void run_f8(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale, float factor)
{
    const __m512 factors = _mm512_set1_ps(factor);
    for (size_t i = 0; i < n - 32; i += 32)
        step_f8(dst + i, src + i, kind, scale, factors);
    step_f8(dst + n - 32, src + n - 32, kind, scale, factors); /* the last step overlaps the one before */
}

static void f8_to_f32(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale)
{
    if (n < 32 || kind == TP_F8_KIND_E5M2FNUZ || !tp_is_below(scale, 0x1p119f)) {
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

/* What each of the sixteen codes stands for: one vector. */
static inline __m512 f4_table(bool positive_zero, float scale)
{
    const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, positive_zero ? 0.0f : -0.0f,
                                         -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
    return _mm512_mul_ps(values, _mm512_set1_ps(scale));
}

/* Sixteen values of eight bytes. Each byte becomes a pair of numbers whose last four bits are its nibbles; the look-up
 * does not see the others. */
static inline void step_f4(float *dst, const uint8_t *src, __m512 table)
{
    const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const void *)src));
    const __m512i codes = _mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28));
    _mm512_storeu_ps(dst, _mm512_permutexvar_ps(codes, table));
}

static void f4_to_f32(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero)
{
    if (n < 16 || !tp_is_below(scale, INFINITY)) {
        tp_f4_to_f32_scalar(dst, src, n, scale, positive_zero);
        return;
    }
    const volatile float kept = scale; /* not to be multiplied before the mode is plain */
    const uint64_t mode = tp_float_mode_plain();
    const __m512 table = f4_table(positive_zero, kept);
    for (size_t i = 0; i < n - 16; i += 16)
        step_f4(dst + i, src + i / 2, table);
    step_f4(dst + n - 16, src + n / 2 - 8, table); /* the last step overlaps the one before */
    tp_float_mode_restore(mode);
}

void tp_kernels_init_avx512(struct tp_kernels *k)
{
    k->level = TP_LEVEL_AVX512;
    TP_EACH_CAST(TP_FILL_CAST)
    TP_EACH_KIND(TP_FILL_MEASURE)
    k->unpack_f4 = unpack_f4;
    k->f8_to_f32 = f8_to_f32;
    k->f4_to_f32 = f4_to_f32;
    k->count_not_bool = count_not_bool;
    k->xxh3_update = tp_xxh3_update;
}
