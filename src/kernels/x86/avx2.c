/* SPDX-License-Identifier: MIT */
/* AVX2 with F16C: sixteen 16-bit values at a time. Built with -mavx2 -mf16c -mbmi2. Nothing but tp_kernels_init_avx2
 * is visible outside, and nothing is inline without being static: of two such bodies the linker keeps one, and could
 * give AVX2 code to everyone. */
#include "kernels/blocks.h"
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/xxh3.h"

#include <immintrin.h>
#include <math.h>
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

/* -- Small floats, thirty-two codes a step -- */

/* An E4M3 or E5M2 code is an F16 but for its bias: its bits move, and the factor makes up for the bias. Codes whose
 * exponent means something else there (infinity, NaN) are left to the definition, and so are E5M2FNUZ, whose exponents
 * F16 has not got, and scales that leave no room for the factor. */
static inline bool f8_is_special(__m256i codes, enum tp_f8_kind kind)
{
    const __m256i magnitudes = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
    const __m256i special = kind == TP_F8_KIND_E4M3   ? _mm256_cmpeq_epi8(magnitudes, _mm256_set1_epi8(0x7f))
                            : kind == TP_F8_KIND_E5M2 ? _mm256_cmpgt_epi8(magnitudes, _mm256_set1_epi8(0x7b))
                                                      : _mm256_cmpeq_epi8(codes, _mm256_set1_epi8(-0x80));
    return !_mm256_testz_si256(special, special);
}

static inline void step_f8(float *dst, const uint8_t *src, enum tp_f8_kind kind, float scale, __m256 factor)
{
    if (f8_is_special(load(src), kind)) {
        tp_f8_to_f32_scalar(dst, src, 32, kind, scale);
        return;
    }
    for (unsigned i = 0; i < 32; i += 16) {
        __m256i x = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(src + i))), 8);
        if (kind != TP_F8_KIND_E5M2) /* one more bit of exponent; the sign is doubled on the way */
            x = _mm256_and_si256(_mm256_srai_epi16(x, 1), set1_16(0xbfff));
        const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(x));
        const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1));
        _mm256_storeu_ps(dst + i, _mm256_mul_ps(low, factor));
        _mm256_storeu_ps(dst + i + 8, _mm256_mul_ps(high, factor));
    }
}

static inline void run_f8(float *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, float scale, float factor)
{
    const __m256 factors = _mm256_set1_ps(factor);
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

/* -- 8-bit floats rounded to BF16 on the way, thirty-two a step -- */

struct f8_seen {
    __m256 min, max;
};

/* Zero, or so far from the ends of F32 that no product overflows, is subnormal, or is rounded to either. */
static inline bool is_modest(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    return bits == 0 || (bits >= 0x0d800000 && bits <= 0x71800000); /* 2^-100 to 2^100 */
}

/* Eight products, rounded in their upper halves. */
static inline __m256i round_f8(struct f8_seen *seen, __m128i f16, __m256 factor)
{
    const __m256 product = _mm256_mul_ps(_mm256_cvtph_ps(f16), factor);
    seen->min = _mm256_min_ps(seen->min, product);
    seen->max = _mm256_max_ps(seen->max, product);
    return round_to_bf16(product);
}

/* As step_f8, sixteen codes. Those of even number go to the first lane and the others to the second, each as the upper
 * byte of a word: so one shift and one blend bring the results together. */
static inline void round_f8_16(uint8_t *dst, struct f8_seen *seen, const uint8_t *src, enum tp_f8_kind kind,
                               __m256 factor)
{
    const __m256i spread = _mm256_setr_epi8(-1, 0, -1, 2, -1, 4, -1, 6, -1, 8, -1, 10, -1, 12, -1, 14, /* */
                                            -1, 1, -1, 3, -1, 5, -1, 7, -1, 9, -1, 11, -1, 13, -1, 15);
    __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)src));
    x = _mm256_shuffle_epi8(x, spread);
    if (kind != TP_F8_KIND_E5M2)
        x = _mm256_and_si256(_mm256_srai_epi16(x, 1), set1_16(0xbfff));
    const __m256i even = round_f8(seen, _mm256_castsi256_si128(x), factor);
    const __m256i odd = round_f8(seen, _mm256_extracti128_si256(x, 1), factor);
    store(dst, _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa));
}

struct f8_rounding {
    enum tp_f8_kind kind;
    bool saturate;
    struct tp_stats *stats;
    struct f8_seen seen;
};

/* Any codes and any scale. */
static void round_f8_slowly(const struct f8_rounding *r, uint8_t *dst, const uint8_t *src, size_t n, float scale)
{
    float values[512];
    for (size_t i = 0; i < n; i += 512) {
        const size_t count = n - i < 512 ? n - i : 512;
        f8_to_f32(values, src + i, count, r->kind, scale);
        cast_f32_bf16(dst + 2 * i, values, count, r->saturate, r->stats);
    }
}

/* Up to n values, n a multiple of 32: how many it was until a step met special codes. (A loop that calls nothing: the
 * constants and what was seen stay in registers.) */
__attribute__((always_inline)) static inline size_t round_f8_run(struct f8_seen *all, uint8_t *dst, const uint8_t *src,
                                                                 size_t n, enum tp_f8_kind kind, __m256 factor)
{
    struct f8_seen seen = *all;
    size_t i = 0;
    for (; i < n && !f8_is_special(load(src + i), kind); i += 32) {
        round_f8_16(dst + 2 * i, &seen, src + i, kind, factor);
        round_f8_16(dst + 2 * i + 32, &seen, src + i + 16, kind, factor);
    }
    *all = seen;
    return i;
}

static size_t round_f8_some(struct f8_rounding *r, uint8_t *dst, const uint8_t *src, size_t n, float scale)
{
    switch (r->kind) {
    case TP_F8_KIND_E4M3:
        return round_f8_run(&r->seen, dst, src, n, TP_F8_KIND_E4M3, _mm256_set1_ps(scale * 0x1p8f));
    case TP_F8_KIND_E5M2:
        return round_f8_run(&r->seen, dst, src, n, TP_F8_KIND_E5M2, _mm256_set1_ps(scale));
    default:
        return round_f8_run(&r->seen, dst, src, n, TP_F8_KIND_E4M3FNUZ, _mm256_set1_ps(scale * 0x1p7f));
    }
}

static void round_f8_group(struct f8_rounding *r, uint8_t *dst, const uint8_t *src, size_t n, float scale)
{
    const size_t whole = is_modest(scale) && r->kind != TP_F8_KIND_E5M2FNUZ ? n - n % 32 : 0;
    for (size_t i = 0; i < n;) {
        const size_t done = i < whole ? round_f8_some(r, dst + 2 * i, src + i, whole - i, scale) : 0;
        i += done;
        const size_t slow = i < whole ? 32 : n - i;
        if (slow > 0)
            round_f8_slowly(r, dst + 2 * i, src + i, slow, scale);
        i += slow;
    }
}

/* What the steps have seen, all of it finite; the minimum is above the maximum if there was none. */
static void tell_f8_seen(const struct f8_seen *seen, struct tp_stats *stats)
{
    struct tp_tally tally = TP_TALLY_INIT;
    uint32_t bits[16];
    _mm256_storeu_ps((void *)bits, seen->min);
    _mm256_storeu_ps((void *)(bits + 8), seen->max);
    for (unsigned i = 0; i < 16; i++) {
        const int64_t key = tp_key(bits[i] & 0x7fffffff, bits[i] >> 31);
        if ((bits[i] & 0x7fffffff) != 0x7f800000)
            tp_tally_keys(&tally, key, key);
    }
    tp_tally_finish(&tally, TP_KIND_F32, stats);
}

static void f8_to_bf16(void *dst, const uint8_t *src, size_t n, enum tp_f8_kind kind, const float *scales, size_t group,
                       bool saturate, struct tp_stats *stats)
{
    struct f8_rounding r = {kind, saturate, stats, {_mm256_set1_ps(INFINITY), _mm256_set1_ps(-INFINITY)}};
    const uint64_t mode = tp_float_mode_plain();
    uint8_t *d = dst;
    for (size_t i = 0, left = 0; i < n; i += left) {
        left = n - i < group ? n - i : group;
        round_f8_group(&r, d + 2 * i, src + i, left, scales[i / group]);
    }
    tell_f8_seen(&r.seen, stats);
    tp_float_mode_restore(mode);
}

/* E2M1 as the upper half of an F32, that is, as BF16: a table for either byte. */
struct f4_tables {
    __m256i upper, lower;
};

static inline struct f4_tables f4_tables_make(bool positive_zero)
{
    const char zero = positive_zero ? 0 : -0x80;
    const __m128i upper = _mm_setr_epi8(0, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40, zero, -0x41, -0x41, -0x41, -0x40,
                                        -0x40, -0x40, -0x40);
    const __m128i lower =
        _mm_setr_epi8(0, 0, -0x80, -0x40, 0, 0x40, -0x80, -0x40, 0, 0, -0x80, -0x40, 0, 0x40, -0x80, -0x40);
    return (struct f4_tables){_mm256_broadcastsi128_si256(upper), _mm256_broadcastsi128_si256(lower)};
}

/* Values of 16 bytes (or 8) in both lanes. The bytes are spread such that interleaving within lanes, twice, brings
 * neighbours together: values 0 to 3 and 8 to 11 ... in the first lane, 4 to 7 and 12 to 15 ... in the second. */
static inline void step_f4(float *dst, __m128i bytes, bool all_16, struct f4_tables tables, __m256 factor)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13, /* */
                                            2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15);
    const __m256i pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
    const __m256i codes = _mm256_or_si256(_mm256_and_si256(pairs, set1_16(0x000f)),
                                          _mm256_and_si256(_mm256_srli_epi16(pairs, 4), set1_16(0x0f00)));
    const __m256i upper = _mm256_shuffle_epi8(tables.upper, codes), lower = _mm256_shuffle_epi8(tables.lower, codes);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i halves[2] = {_mm256_unpacklo_epi8(lower, upper), _mm256_unpackhi_epi8(lower, upper)};
    for (unsigned i = 0; i < (all_16 ? 2 : 1); i++) {
        const __m256 a = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, halves[i]));
        const __m256 b = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, halves[i]));
        _mm256_storeu_ps(dst + 16 * i, _mm256_mul_ps(a, factor));
        _mm256_storeu_ps(dst + 16 * i + 8, _mm256_mul_ps(b, factor));
    }
}

static inline void step_f4_of_16(float *dst, const uint8_t *src, struct f4_tables tables, __m256 factor)
{
    step_f4(dst, _mm_loadl_epi64((const void *)src), false, tables, factor);
}

static void f4_to_f32(float *dst, const uint8_t *src, size_t n, float scale, bool positive_zero)
{
    if (n < 16 || !tp_is_below(scale, INFINITY)) {
        tp_f4_to_f32_scalar(dst, src, n, scale, positive_zero);
        return;
    }
    const uint64_t mode = tp_float_mode_plain();
    const struct f4_tables tables = f4_tables_make(positive_zero);
    const __m256 factor = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; n - i >= 32; i += 32)
        step_f4(dst + i, _mm_loadu_si128((const void *)(src + i / 2)), true, tables, factor);
    if (n - i >= 16)
        step_f4_of_16(dst + i, src + i / 2, tables, factor);
    if (n % 16 > 0) /* overlaps the step before */
        step_f4_of_16(dst + n - 16, src + n / 2 - 8, tables, factor);
    tp_float_mode_restore(mode);
}

void tp_kernels_init_avx2(struct tp_kernels *k)
{
    k->level = TP_LEVEL_AVX2;
    TP_EACH_CAST(TP_FILL_CAST)
    TP_EACH_KIND(TP_FILL_MEASURE)
    k->unpack_f4 = unpack_f4;
    k->f8_to_f32 = f8_to_f32;
    k->f8_to_bf16 = f8_to_bf16;
    k->f4_to_f32 = f4_to_f32;
    tp_kernels_init_avx2_codes(k);
    tp_kernels_init_avx2_arithmetic(k);
    k->count_not_bool = count_not_bool;
    k->xxh3_update = tp_xxh3_update;
}
