/* SPDX-License-Identifier: MIT */
/* Whole numbers with a zero point and a scale: what pack-quantized, GPTQ and AWQ have in common.
 *
 *     value[row, column] = (code[row, column] - zero[row, group]) * scale[row, group]
 *
 * A scheme proves its tensors to fit each other and says where codes, scales and zero points lie; here they are loaded
 * tile by tile into a worker's scratch, row by row of the result whatever the order on disk, and multiplied. Codes and
 * zero points have 8 bits at most and scales at most 11 significant ones (F32: 24, one rounding), so that the products
 * are exact. */
#ifndef TP_QUANT_AFFINE_H
#define TP_QUANT_AFFINE_H

#include "quant/decode.h"

/* Of groups whose columns are scattered: all of a row are held at once. */
#define TP_AFFINE_SCATTERED_MAX 16384u

/* A part of the result, and what is needed to decode it. */
struct tp_affine_tile {
    uint64_t row, rows, column, columns;
    uint64_t group, groups; /* the first whose factors are here, and how many: the stride of scales and zeros */
    uint64_t row_words;     /* of the codes of one row (or of row_share rows) in this tile */
    uint32_t *words;        /* [rows / row_share][row_words] */
    float *scales;          /* [rows][groups] */
    int16_t *zeros;         /* [rows][groups] */
    uint32_t *order;        /* [columns]: the group of each; NULL: as they come */
    void *stage;            /* room for a loader */
    size_t stage_words;     /* at least `rows`, and 2 * groups */
};

/* Where things lie on disk. Each fills in the tile's own part. */
struct tp_affine_layout {
    enum tp_status (*load_words)(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err);
    enum tp_status (*load_scales)(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err);
    /* NULL zero point tensor: not called, all are tp_affine.zero */
    enum tp_status (*load_zeros)(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err);
    size_t useful_bytes; /* of scratch; 0: the more the better */
    bool rounds_first;   /* the packages round to the scales' dtype (--decode-f16-first) */
    uint8_t row_share;   /* rows of the result that lie in the same words */
    uint8_t shifts[8];   /* [row % row_share]: of the row's first field in its words */
};

/* Begins tp_decoded.params of these schemes. */
struct tp_affine {
    const struct tp_affine_layout *layout;
    const struct tp_tensor *scales, *zeros, *order; /* zeros and order: or NULL */
    uint64_t rows, columns;                         /* of the result; stacked matrices lie below each other */
    uint64_t groups, group_size;                    /* group_size: where order is NULL */
    unsigned bits;
    unsigned word_fields; /* codes of one row in a word; 0: without gaps, some cross from one into the next */
    bool has_order;       /* a tensor says which column is of which group; group_size need not */
    int16_t zero;         /* where there are no zero points */
};

/* tp_scheme.decode of these schemes. */
enum tp_status tp_affine_decode(const struct tp_decoded *d, struct tp_scratch *scratch,
                                const struct tp_kernels *kernels, uint64_t first, uint64_t count, float *dst,
                                struct tp_error *err);

/* ---- for prepare ---- */

/* Fields of `bits` bits in a word where none crosses; 0 where they are packed without gaps and do not divide it. */
unsigned tp_affine_word_fields(unsigned bits);
/* 32-bit words that `count` fields take; cannot overflow for bits <= 8. */
uint64_t tp_affine_words(uint64_t count, unsigned bits, unsigned word_fields);

/* Have `check` prove the members of d by each way of quantising that config.json allows. What it fills in, `size` bytes
 * that begin with a struct tp_affine, must come to the same for all ways that fit; if none does, or they differ, the
 * weight is refused. */
#define TP_AFFINE_PARAMS_MAX 256u
typedef enum tp_status (*tp_affine_check)(const struct tp_decoded *d, void *params, const struct tp_quant_way *way,
                                          struct tp_error *err);
enum tp_status tp_affine_check_ways(const struct tp_decoded *d, void *params, size_t size, tp_affine_check check,
                                    struct tp_error *err);

/* Refuse a member of another dtype than these (a scheme that was asked for by name may meet any); NULL is fine. */
#define TP_AFFINE_FLOATS (1u << TP_F32 | 1u << TP_F16 | 1u << TP_BF16)
#define TP_AFFINE_INDICES (1u << TP_I32 | 1u << TP_I64)
enum tp_status tp_affine_expect_dtype(const struct tp_decoded *d, const struct tp_tensor *t, const char *what,
                                      uint32_t dtypes, struct tp_error *err);
/* Codes are I32 and not empty; there are scales, and they are floats. */
enum tp_status tp_affine_expect_codes(const struct tp_decoded *d, const struct tp_tensor *scales, unsigned rank_max,
                                      struct tp_error *err);

/* Refuse a member whose shape is not this one; a dimension of 0 is refused in any case. */
enum tp_status tp_affine_expect_shape(const struct tp_decoded *d, const struct tp_tensor *t, const char *what,
                                      const uint64_t *shape, unsigned rank, struct tp_error *err);

/* How many columns share a scale: group_size as config.json declares it (0: not said, or the whole row) and the number
 * of scales in a row must agree. `partial`: the last group may be smaller. */
enum tp_status tp_affine_set_groups(const struct tp_decoded *d, struct tp_affine *a, uint64_t declared, uint64_t groups,
                                    bool partial, struct tp_error *err);

/* Read the groups of the columns (g_idx) once and prove them; fills in a->order unless it says only what group_size
 * says. `unset`: where one may be -1, which means that it says nothing at all. `even`: every group has group_size
 * columns. */
enum tp_status tp_affine_set_order(const struct tp_decoded *d, struct tp_affine *a, const struct tp_tensor *order,
                                   bool unset, bool even, struct tp_error *err);

/* ---- for loaders ---- */

/* A block of a matrix of words (I32); the matrix may be stacked. */
enum tp_status tp_affine_read_words(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t row, uint64_t rows,
                                    uint64_t column, uint64_t columns, uint32_t *dst, struct tp_error *err);
/* The same of scales; NaN and infinities are refused, unless an option allows them. */
enum tp_status tp_affine_read_scales(const struct tp_decoded *d, uint64_t row, uint64_t rows, uint64_t column,
                                     uint64_t columns, float *dst, struct tp_error *err);
/* Words `row` to `row + row_words` of `columns` columns, each column's in a row. Through the stage. */
enum tp_status tp_affine_load_transposed(const struct tp_decoded *d, const struct tp_affine_tile *tile, uint64_t row,
                                         uint64_t column, uint64_t columns, struct tp_error *err);
/* load_scales where scales are [groups, rows]. */
enum tp_status tp_affine_load_transposed_scales(const struct tp_decoded *d, const struct tp_affine_tile *tile,
                                                struct tp_error *err);

/* The field that begins at bit `at` of a stream of words. */
static inline unsigned tp_affine_field(const uint32_t *words, uint64_t at, unsigned bits)
{
    const uint32_t *w = words + at / 32;
    const unsigned shift = at % 32;
    uint32_t v = w[0] >> shift;
    if (shift + bits > 32)
        v |= w[1] << (32 - shift);
    return v & ((1u << bits) - 1);
}

#endif
