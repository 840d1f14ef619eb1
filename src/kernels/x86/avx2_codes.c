/* SPDX-License-Identifier: MIT */
/* AVX2, the part that moves codes and does not calculate: MXFP4, and transposition. Built as avx2.c is, and by its
 * rules: nothing is inline without being static. */
#include "kernels/small_floats.h"
#include "kernels/transpose_walk.h"

#include <immintrin.h>

static inline __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

static inline void store(uint8_t *p, __m256i v)
{
    _mm256_storeu_si256((void *)p, v);
}

/* -- MXFP4, thirty-two codes a step, as integers: to the code's BF16 the exponent is added -- */

/* The sixteen E2M1 as BF16 less 127 of exponent: all but the zeros are to get an exponent. */
static inline __m256i mxfp4_codes(bool positive_zero)
{
    return _mm256_setr_epi16(0, -0x80, 0, 0x40, 0x80, 0xc0, 0x100, 0x140, positive_zero ? 0 : -0x8000, 0x7f80, -0x8000,
                             -0x7fc0, -0x7f80, -0x7f40, -0x7f00, -0x7ec0);
}

/* Of each word of the table the lower byte, and the upper one; in either lane all sixteen. */
static inline __m256i lower_bytes(__m256i table)
{
    const __m256i x = _mm256_and_si256(table, _mm256_set1_epi16(0xff));
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(x, x), 0x88);
}

static inline __m256i upper_bytes(__m256i table)
{
    const __m256i x = _mm256_srli_epi16(table, 8);
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(x, x), 0x88);
}

/* One block. The bytes are spread such that looked-up halves, put together within lanes, are in order. */
static inline void step_mxfp4(uint8_t *dst, __m128i bytes, __m256i table)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11, /* */
                                            4, 4, 5, 5, 6, 6, 7, 7, 12, 12, 13, 13, 14, 14, 15, 15);
    const __m256i pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
    const __m256i codes = _mm256_or_si256(_mm256_and_si256(pairs, _mm256_set1_epi16(0x000f)),
                                          _mm256_and_si256(_mm256_srli_epi16(pairs, 4), _mm256_set1_epi16(0x0f00)));
    const __m256i lower = _mm256_shuffle_epi8(lower_bytes(table), codes);
    const __m256i upper = _mm256_shuffle_epi8(upper_bytes(table), codes);
    store(dst, _mm256_unpacklo_epi8(lower, upper));
    store(dst + 32, _mm256_unpackhi_epi8(lower, upper));
}

static void mxfp4_to_bf16(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t blocks, bool positive_zero)
{
    const __m256i values = mxfp4_codes(positive_zero);
    const __m256i takes_exponent = _mm256_setr_epi16(0, -1, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, -1, -1, -1, -1);
    uint8_t *d = dst;
    for (size_t b = 0; b < blocks; b++, d += 64, codes += 16) {
        const __m256i exponent = _mm256_and_si256(takes_exponent, _mm256_set1_epi16((int16_t)(exponents[b] << 7)));
        if (exponents[b] < TP_MXFP4_PLAIN_MIN || exponents[b] > TP_MXFP4_PLAIN_MAX)
            tp_mxfp4_to_bf16_scalar(d, codes, exponents + b, 1, positive_zero);
        else
            step_mxfp4(d, _mm_loadu_si128((const void *)codes), _mm256_add_epi16(values, exponent));
    }
}

struct mxfp4_tables {
    __m256i lower, upper, takes_exponent; /* of each code */
};

/* False, and nothing done, if some exponent is not plain. `shift`: of words, to bring the nibbles down. */
static inline bool step_mxfp4_each(uint8_t *dst, const uint8_t *codes, const uint8_t *exponents, __m128i shift,
                                   struct mxfp4_tables tables)
{
    const __m256i e = _mm256_permute4x64_epi64(load(exponents), 0xd8); /* unpacking works by 128-bit halves */
    const __m256i odd = _mm256_or_si256(_mm256_subs_epu8(e, _mm256_set1_epi8((char)TP_MXFP4_PLAIN_MAX)),
                                        _mm256_subs_epu8(_mm256_set1_epi8(TP_MXFP4_PLAIN_MIN), e));
    if (!_mm256_testz_si256(odd, odd))
        return false;
    const __m256i bytes = _mm256_permute4x64_epi64(load(codes), 0xd8);
    const __m256i nibbles = _mm256_and_si256(_mm256_srl_epi16(bytes, shift), _mm256_set1_epi8(15));
    const __m256i lower = _mm256_shuffle_epi8(tables.lower, nibbles);
    const __m256i upper = _mm256_shuffle_epi8(tables.upper, nibbles);
    const __m256i added = _mm256_and_si256(_mm256_shuffle_epi8(tables.takes_exponent, nibbles), e);
    const __m256i zero = _mm256_setzero_si256();
    store(dst, _mm256_add_epi16(_mm256_unpacklo_epi8(lower, upper),
                                _mm256_srli_epi16(_mm256_unpacklo_epi8(zero, added), 1)));
    store(dst + 32, _mm256_add_epi16(_mm256_unpackhi_epi8(lower, upper),
                                     _mm256_srli_epi16(_mm256_unpackhi_epi8(zero, added), 1)));
    return true;
}

static void mxfp4_each_to_bf16(void *dst, const uint8_t *codes, const uint8_t *exponents, size_t n, bool high_nibbles,
                               bool positive_zero)
{
    const __m256i table = mxfp4_codes(positive_zero);
    const __m256i takes_exponent =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, -1, -1, -1, -1));
    const struct mxfp4_tables tables = {lower_bytes(table), upper_bytes(table), takes_exponent};
    const __m128i shift = _mm_cvtsi32_si128(high_nibbles ? 4 : 0);
    uint8_t *d = dst;
    size_t i = 0;
    for (; n - i >= 32; i += 32)
        if (!step_mxfp4_each(d + 2 * i, codes + i, exponents + i, shift, tables))
            tp_mxfp4_each_to_bf16_scalar(d + 2 * i, codes + i, exponents + i, 32, high_nibbles, positive_zero);
    tp_mxfp4_each_to_bf16_scalar(d + 2 * i, codes + i, exponents + i, n - i, high_nibbles, positive_zero);
}

/* -- Transposition -- */

/* Of each vector the lower lane is of one row and the upper lane of another, half the rows further on. To interleave
 * the first half of the vectors with the second, as often as it takes to halve their number to one, is to transpose. */
static inline __m256i load_lanes(const uint8_t *low, const uint8_t *high)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)low)),
                                   _mm_loadu_si128((const void *)high), 1);
}

/* gcc would keep the vectors in memory; clang needs no word. */
#if defined(__clang__)
#define UNROLLED
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

/* Vectors are as many as items in a lane: twice as many rows become a whole vector of each column. */
#define VECTORS(item) (16u / (item))
#define INTERLEAVE(to, from, item, bits)                                                 \
    UNROLLED                                                                             \
    for (size_t i = 0; i < VECTORS(item) / 2; i++) {                                     \
        to[2 * i] = _mm256_unpacklo_epi##bits(from[i], from[i + VECTORS(item) / 2]);     \
        to[2 * i + 1] = _mm256_unpackhi_epi##bits(from[i], from[i + VECTORS(item) / 2]); \
    }

#define DEFINE_TRANSPOSE(item, bits)                                                                     \
    static inline void step_transpose_##item(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, \
                                             size_t offset)                                              \
    {                                                                                                    \
        __m256i a[VECTORS(item)], b[VECTORS(item)];                                                      \
        UNROLLED                                                                                         \
        for (size_t i = 0; i < VECTORS(item); i++)                                                       \
            a[i] = load_lanes(rows[i] + offset, rows[i + VECTORS(item)] + offset);                       \
        INTERLEAVE(b, a, item, bits)                                                                     \
        if ((item) < 8)                                                                                  \
            INTERLEAVE(a, b, item, bits)                                                                 \
        if ((item) < 4)                                                                                  \
            INTERLEAVE(b, a, item, bits)                                                                 \
        if ((item) < 2)                                                                                  \
            INTERLEAVE(a, b, item, bits)                                                                 \
        const __m256i *columns = (item) == 1 || (item) == 4 ? a : b;                                     \
        UNROLLED                                                                                         \
        for (size_t k = 0; k < VECTORS(item); k++)                                                       \
            store(dst + k * dst_pitch, columns[k]);                                                      \
    }                                                                                                    \
    TP_DEFINE_TRANSPOSE_WALK(item, 2 * VECTORS(item), VECTORS(item))
DEFINE_TRANSPOSE(1, 8)
DEFINE_TRANSPOSE(2, 16)
DEFINE_TRANSPOSE(4, 32)
DEFINE_TRANSPOSE(8, 64)

void tp_kernels_init_avx2_codes(struct tp_kernels *k)
{
    k->mxfp4_to_bf16 = mxfp4_to_bf16;
    k->mxfp4_each_to_bf16 = mxfp4_each_to_bf16;
    k->transpose[0] = transpose_1;
    k->transpose[1] = transpose_2;
    k->transpose[2] = transpose_4;
    k->transpose[3] = transpose_8;
}
