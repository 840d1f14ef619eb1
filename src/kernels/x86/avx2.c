/* SPDX-License-Identifier: MIT */
/* AVX2 with F16C: sixteen 16-bit values at a time. Built with -mavx2 -mf16c -mbmi2. Nothing but tp_kernels_init_avx2
 * is visible outside, and nothing is inline without being static: of two such bodies the linker keeps one, and could
 * give AVX2 code to everyone. */
#include "kernels/blocks.h"
#include "kernels/each.h"
#include "kernels/xxh3.h"

#include <immintrin.h>
#include <string.h>

/* -- Statistics: the vocabulary of lanes.inc.h -- */

typedef __m256i vec;
typedef __m256i counter;

static inline vec load(const uint8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

static inline void store(uint8_t *p, vec v)
{
    _mm256_storeu_si256((void *)p, v);
}

static inline counter count_none(void)
{
    return _mm256_setzero_si256();
}

#define bit_and(a, b) _mm256_and_si256(a, b)
#define bit_or(a, b) _mm256_or_si256(a, b)
#define bit_andnot(a, b) _mm256_andnot_si256(a, b)

#define LANES_16 16u
#define LANES_32 8u
#define LANES_64 4u
#define set1_16(bits) _mm256_set1_epi16((int16_t)(bits))
#define set1_32(bits) _mm256_set1_epi32((int32_t)(bits))
#define set1_64(bits) _mm256_set1_epi64x((int64_t)(bits))

#define odd_16(x) _mm256_sub_epi16(_mm256_add_epi16(x, x), set1_16(1))
#define odd_32(x) _mm256_sub_epi32(_mm256_add_epi32(x, x), set1_32(1))
#define odd_64(x) _mm256_sub_epi64(_mm256_add_epi64(x, x), set1_64(1))

#define min_s_16(a, b) _mm256_min_epi16(a, b)
#define max_s_16(a, b) _mm256_max_epi16(a, b)
#define min_u_16(a, b) _mm256_min_epu16(a, b)
#define max_u_16(a, b) _mm256_max_epu16(a, b)
#define min_s_32(a, b) _mm256_min_epi32(a, b)
#define max_s_32(a, b) _mm256_max_epi32(a, b)
#define min_u_32(a, b) _mm256_min_epu32(a, b)
#define max_u_32(a, b) _mm256_max_epu32(a, b)

/* Masks are all ones or all zeros a lane. */
#define mask_16 __m256i
#define mask_32 __m256i
#define mask_64 __m256i
#define gt_16(a, b) _mm256_cmpgt_epi16(a, b)
#define gt_32(a, b) _mm256_cmpgt_epi32(a, b)
#define gt_64(a, b) _mm256_cmpgt_epi64(a, b)
#define eq_16(a, b) _mm256_cmpeq_epi16(a, b)
#define eq_32(a, b) _mm256_cmpeq_epi32(a, b)
#define eq_64(a, b) _mm256_cmpeq_epi64(a, b)

static inline vec select_any(__m256i m, vec yes, vec no)
{
    return _mm256_blendv_epi8(no, yes, m);
}
#define select_16 select_any
#define select_32 select_any
#define select_64 select_any

/* There is no 64-bit minimum. Signed comparison orders unsigned integers whose top bit is flipped. */
static inline vec min_s_64(vec a, vec b)
{
    return select_any(gt_64(a, b), b, a);
}

static inline vec max_s_64(vec a, vec b)
{
    return select_any(gt_64(a, b), a, b);
}

static inline vec flip_top_64(vec v)
{
    return _mm256_xor_si256(v, set1_64(INT64_MIN));
}

static inline vec min_u_64(vec a, vec b)
{
    return select_any(gt_64(flip_top_64(a), flip_top_64(b)), b, a);
}

static inline vec max_u_64(vec a, vec b)
{
    return select_any(gt_64(flip_top_64(a), flip_top_64(b)), a, b);
}

/* The key of a negative value: all bits but the sign flipped. */
#define DEFINE_KEY(bits)                                                                                \
    static inline vec key_##bits(vec x)                                                                 \
    {                                                                                                   \
        const vec negative = gt_##bits(_mm256_setzero_si256(), x);                                      \
        return _mm256_xor_si256(x, _mm256_and_si256(negative, set1_##bits(UINT64_MAX >> (65 - bits)))); \
    }
DEFINE_KEY(16)
DEFINE_KEY(32)
DEFINE_KEY(64)

#define count_16(c, m) _mm256_sub_epi16(c, m)
#define count_32(c, m) _mm256_sub_epi32(c, m)
#define count_64(c, m) _mm256_sub_epi64(c, m)

static inline uint64_t total_64(counter c)
{
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
    return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

static inline uint64_t total_32(counter c)
{
    const __m256i low = _mm256_set1_epi64x(UINT32_MAX);
    return total_64(_mm256_add_epi64(_mm256_and_si256(c, low), _mm256_srli_epi64(c, 32)));
}

static inline uint64_t total_16(counter c)
{
    return total_32(_mm256_madd_epi16(c, _mm256_set1_epi16(1)));
}

/* Turn the vector by half its length, a quarter, ... until every lane holds the result. */
#define DEFINE_FOLD(op, bits, lane_type, result_type)                                \
    static inline result_type fold_##op##_##bits(vec v)                              \
    {                                                                                \
        v = op##_##bits(v, _mm256_permute2x128_si256(v, v, 1));                      \
        v = op##_##bits(v, _mm256_alignr_epi8(v, v, 8));                             \
        if (bits < 64)                                                               \
            v = op##_##bits(v, _mm256_alignr_epi8(v, v, 4));                         \
        if (bits < 32)                                                               \
            v = op##_##bits(v, _mm256_alignr_epi8(v, v, 2));                         \
        return (result_type)(lane_type)_mm_cvtsi128_si64(_mm256_castsi256_si128(v)); \
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

/* -- Conversions, sixteen values a step -- */

static inline __m256 load_f32(const uint8_t *p)
{
    return _mm256_loadu_ps((const void *)p);
}

static inline void store_f32(uint8_t *p, __m256 v)
{
    _mm256_storeu_ps((void *)p, v);
}

/* Eight f64 as f32. */
static inline __m256 f32_from_f64(const uint8_t *p)
{
    const __m128 low = _mm256_cvtpd_ps(_mm256_loadu_pd((const void *)p));
    const __m128 high = _mm256_cvtpd_ps(_mm256_loadu_pd((const void *)(p + 32)));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

/* Four f64 as f32, "rounded to odd": the bits that f32 has no room for are summed up in its last bit. Rounding that
 * to f16, which has 13 bits less, is then the same as rounding the f64 once. */
static inline __m128 f32_odd_from_f64(const uint8_t *p)
{
    const __m256i lost = _mm256_set1_epi64x(0x1fffffff); /* bits; adding this to them carries if any is set */
    const __m256i x = load(p);
    const __m256i sticky = _mm256_add_epi64(_mm256_and_si256(x, lost), lost);
    const __m256i odd = _mm256_andnot_si256(lost, _mm256_or_si256(x, sticky));
    return _mm256_cvtpd_ps(_mm256_castsi256_pd(odd));
}

/* The upper halves of the results are eight f32 rounded to bf16, ties to even. NaNs are plain (see blocks.h). */
static inline __m256i round_to_bf16(__m256 v)
{
    const __m256i x = _mm256_castps_si256(v);
    const __m256i is_odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(x, _mm256_add_epi32(is_odd, _mm256_set1_epi32(0x7fff)));
}

static inline void store_bf16(uint8_t *d, __m256 a, __m256 b)
{
    const __m256i low = _mm256_srli_epi32(round_to_bf16(a), 16), high = _mm256_srli_epi32(round_to_bf16(b), 16);
    store(d, _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8)); /* packus works by 128-bit halves */
}

static inline void store_f16(uint8_t *d, __m256 v)
{
    _mm_storeu_si128((void *)d, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline __m256 f32_from_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

static inline __m256i f32_from_bf16(const uint8_t *p)
{
    return _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16);
}

static inline void step_f64_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_f64(s));
    store_f32(d + 32, f32_from_f64(s + 64));
}

static inline void step_f64_f16(uint8_t *d, const uint8_t *s)
{
    const __m128 a = f32_odd_from_f64(s), b = f32_odd_from_f64(s + 32);
    const __m128 c = f32_odd_from_f64(s + 64), e = f32_odd_from_f64(s + 96);
    store_f16(d, _mm256_insertf128_ps(_mm256_castps128_ps256(a), b, 1));
    store_f16(d + 16, _mm256_insertf128_ps(_mm256_castps128_ps256(c), e, 1));
}

static inline void step_f64_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, f32_from_f64(s), f32_from_f64(s + 64));
}

static inline void step_f32_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, load_f32(s));
    store_f16(d + 16, load_f32(s + 32));
}

static inline void step_f32_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, load_f32(s), load_f32(s + 32));
}

static inline void step_f16_f32(uint8_t *d, const uint8_t *s)
{
    store_f32(d, f32_from_f16(s));
    store_f32(d + 32, f32_from_f16(s + 16));
}

static inline void step_f16_bf16(uint8_t *d, const uint8_t *s)
{
    store_bf16(d, f32_from_f16(s), f32_from_f16(s + 16));
}

static inline void step_bf16_f32(uint8_t *d, const uint8_t *s)
{
    store(d, f32_from_bf16(s));
    store(d + 32, f32_from_bf16(s + 16));
}

static inline void step_bf16_f16(uint8_t *d, const uint8_t *s)
{
    store_f16(d, _mm256_castsi256_ps(f32_from_bf16(s)));
    store_f16(d + 16, _mm256_castsi256_ps(f32_from_bf16(s + 16)));
}

#define TP_STEP 16u
TP_EACH_CAST(TP_DEFINE_CONVERT)
TP_EACH_CAST(TP_DEFINE_CAST)
TP_EACH_KIND(TP_DEFINE_MEASURE)

/* -- The rest -- */

static void unpack_f4(uint8_t *dst, const uint8_t *src, size_t n)
{
    const __m256i nibbles = _mm256_set1_epi8(0x0f);
    size_t i = 0;
    for (; n - i >= 16; i += 16) {
        const __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(src + i)));           /* 00HL a word */
        store(dst + 2 * i, _mm256_and_si256(_mm256_or_si256(x, _mm256_slli_epi16(x, 4)), nibbles)); /* 0H0L */
    }
    for (; i < n; i++) {
        dst[2 * i] = src[i] & 15;
        dst[2 * i + 1] = src[i] >> 4;
    }
}

static uint64_t count_not_bool(const uint8_t *src, size_t n)
{
    const __m256i one = _mm256_set1_epi8(1);
    __m256i sums = _mm256_setzero_si256();
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        const __m256i above = _mm256_min_epu8(_mm256_subs_epu8(load(src + i), one), one); /* 1 if the byte is > 1 */
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(above, _mm256_setzero_si256()));
    }
    uint64_t count = total_64(sums);
    for (; i < n; i++)
        count += src[i] > 1;
    return count;
}

void tp_kernels_init_avx2(struct tp_kernels *k)
{
    k->level = TP_LEVEL_AVX2;
    TP_EACH_CAST(TP_FILL_CAST)
    TP_EACH_KIND(TP_FILL_MEASURE)
    k->unpack_f4 = unpack_f4;
    k->count_not_bool = count_not_bool;
    k->xxh3_update = tp_xxh3_update;
}
