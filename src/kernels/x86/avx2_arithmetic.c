/* SPDX-License-Identifier: MIT */
/* AVX2: multiplying and adding, eight values at a time. Built as avx2.c is, and by its rules: nothing is inline without
 * being static. A step that meets anything but ordinary values (NaN, infinity, what overflows or becomes zero) is left
 * to the definition. */
#include "kernels/each.h"
#include "kernels/small_floats.h"
#include "kernels/values.h"
#include "os/float_mode.h"

#include <immintrin.h>

#define STEP 8u

/* Magnitudes of a float32 result that the kind has not got: from `overflow_from` on, and up to `flush_to`. */
struct limits {
    __m256i below_overflow, above_flush;
};

static inline __m256 load_f32(const uint8_t *p)
{
    return _mm256_loadu_ps((const void *)p);
}

static inline __m256 load_f16(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

static inline __m256 load_bf16(const uint8_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}

static inline void store_f32(uint8_t *p, __m256 v)
{
    _mm256_storeu_ps((void *)p, v);
}

static inline void store_f16(uint8_t *p, __m256 v)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* To the nearest, ties to even; no NaN comes here. */
static inline void store_bf16(uint8_t *p, __m256 v)
{
    const __m256i x = _mm256_castps_si256(v), is_odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(x, _mm256_add_epi32(is_odd, _mm256_set1_epi32(0x7fff)));
    const __m256i upper = _mm256_srli_epi32(rounded, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08); /* by 128-bit halves */
    _mm_storeu_si128((void *)p, _mm256_castsi256_si128(packed));
}

static inline bool is_ordinary(__m256 x, __m256 result, bool adds, const struct limits *limits)
{
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(result), _mm256_set1_epi32(INT32_MAX));
    const __m256 zeros = _mm256_cmp_ps(adds ? result : x, _mm256_setzero_ps(), _CMP_EQ_OQ); /* as they should be */
    const __m256i large = _mm256_cmpgt_epi32(magnitude, limits->below_overflow);
    const __m256i small = _mm256_cmpgt_epi32(limits->above_flush, magnitude);
    const __m256i odd = _mm256_or_si256(large, _mm256_andnot_si256(_mm256_castps_si256(zeros), small));
    return _mm256_testz_si256(odd, odd);
}

#define DEFINE_CALCULATE(kind, KIND, bits, overflow_from, flush_to)                                             \
    static inline void calculate_##kind(bool adds, uint8_t *d, const uint8_t *s, size_t n, double operand,      \
                                        bool saturate, struct tp_stats *stats)                                  \
    {                                                                                                           \
        const struct limits limits = {_mm256_set1_epi32((overflow_from)-1), _mm256_set1_epi32((flush_to) + 1)}; \
        uint64_t operand_f64;                                                                                   \
        memcpy(&operand_f64, &operand, sizeof operand_f64);                                                     \
        const __m256 c = _mm256_castsi256_ps(_mm256_set1_epi32((int32_t)f32_from_f64(operand_f64)));            \
        const uint64_t mode = tp_float_mode_plain();                                                            \
        size_t i = 0;                                                                                           \
        for (; n - i >= STEP; i += STEP, d += STEP * (bits) / 8, s += STEP * (bits) / 8) {                      \
            const __m256 x = load_##kind(s), result = adds ? _mm256_add_ps(x, c) : _mm256_mul_ps(x, c);         \
            if (is_ordinary(x, result, adds, &limits))                                                          \
                store_##kind(d, result);                                                                        \
            else                                                                                                \
                tp_arithmetic_scalar(TP_KIND_##KIND, adds, d, s, STEP, operand, saturate, stats);               \
        }                                                                                                       \
        tp_float_mode_restore(mode);                                                                            \
        tp_arithmetic_scalar(TP_KIND_##KIND, adds, d, s, n - i, operand, saturate, stats);                      \
    }                                                                                                           \
    static void multiply_##kind(void *dst, const void *src, size_t n, double operand, bool saturate,            \
                                struct tp_stats *stats)                                                         \
    {                                                                                                           \
        calculate_##kind(false, dst, src, n, operand, saturate, stats);                                         \
    }                                                                                                           \
    static void add_##kind(void *dst, const void *src, size_t n, double operand, bool saturate,                 \
                           struct tp_stats *stats)                                                              \
    {                                                                                                           \
        calculate_##kind(true, dst, src, n, operand, saturate, stats);                                          \
    }
DEFINE_CALCULATE(f32, F32, 32, 0x7f800000, 0)
DEFINE_CALCULATE(f16, F16, 16, 0x477ff000, 0x33000000)
DEFINE_CALCULATE(bf16, BF16, 16, 0x7f7f8000, 0x00008000)

void tp_kernels_init_avx2_arithmetic(struct tp_kernels *k)
{
    TP_FILL_ARITHMETIC(f32, F32, 32)
    TP_FILL_ARITHMETIC(f16, F16, 16)
    TP_FILL_ARITHMETIC(bf16, BF16, 16)
}
