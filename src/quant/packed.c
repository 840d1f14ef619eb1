/* SPDX-License-Identifier: MIT */
/* compressed-tensors `pack-quantized`: whole numbers of 1 to 8 bits, packed along the inputs.
 *
 *     weight_packed I32 [out, words]    weight_scale [out, groups], or one    weight_shape [2] = out, in
 *     weight_zero_point I32 [words of out, groups], packed along the outputs; or one a scale, unpacked
 *     weight_g_idx I32 [in]
 *
 * Stacked matrices have one more dimension in front of each. Codes and packed zero points are stored with
 * 2^(bits-1) added, so that it cancels. Until version 0.17 a word held 32 / bits whole fields, since then (3, 5, 6 and
 * 7 bits) fields cross words: only the number of words tells. */
#include "quant/affine.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/endian.h"
#include "base/status.h"
#include "quant/schemes.h"
#include "tensorport/text.h"

/* Ways to pack, as a set. */
enum { DENSE = 1, WHOLE_FIELDS = 2 };

struct packed {
    struct tp_affine affine;
    uint64_t slice_rows; /* outputs of one matrix */
    uint64_t zero_words; /* rows of packed zero points of one matrix; 0: they are not packed */
    bool scale_each_row; /* else one for each of scale_count matrices, or for all */
    uint64_t scale_count;
};

/* ---- loading ---- */

static enum tp_status load_words(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const struct tp_affine *a = d->params;
    const uint64_t column = a->word_fields > 0 ? tile->column / a->word_fields : tile->column / 32 * a->bits;
    return tp_affine_read_words(d, d->codes, tile->row, tile->rows, column, tile->row_words, tile->words, err);
}

/* Which scale a whole matrix has. */
static uint64_t scale_of_row(const struct packed *p, uint64_t row)
{
    return p->scale_count == 1 ? 0 : row / p->slice_rows;
}

static enum tp_status load_scales(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const struct packed *p = d->params;
    if (p->scale_each_row)
        return tp_affine_read_scales(d, tile->row, tile->rows, tile->group, tile->groups, tile->scales, err);
    for (uint64_t r = 0; r < tile->rows; r++) {
        const uint64_t scale = scale_of_row(p, tile->row + r);
        if (r > 0 && scale == scale_of_row(p, tile->row + r - 1)) {
            tile->scales[r] = tile->scales[r - 1];
            continue;
        }
        enum tp_status status = tp_affine_read_scales(d, scale, 1, 0, 1, &tile->scales[r], err);
        if (status)
            return status;
    }
    return TP_OK;
}

/* The word of a column that a row's field begins in, and where in it. */
static uint64_t word_of_row(const struct packed *p, uint64_t row, unsigned *shift)
{
    const unsigned bits = p->affine.bits, fields = p->affine.word_fields;
    *shift = fields > 0 ? (unsigned)(row % fields) * bits : (unsigned)(row % 32) * bits % 32;
    return fields > 0 ? row / fields : row / 32 * bits + row % 32 * bits / 32;
}

/* A row of zero points lies in one row of words, or across two: both are kept in the stage for the rows that follow. */
static enum tp_status load_packed_zeros(const struct tp_decoded *d, const struct tp_affine_tile *tile,
                                        struct tp_error *err)
{
    const struct packed *p = d->params;
    const unsigned bits = p->affine.bits, mask = (1u << bits) - 1;
    uint32_t *low = tile->stage, *high = low + tile->groups;
    uint64_t low_row = UINT64_MAX, high_row = UINT64_MAX;
    for (uint64_t r = 0; r < tile->rows; r++) {
        const uint64_t matrix = (tile->row + r) / p->slice_rows, row = (tile->row + r) % p->slice_rows;
        unsigned shift;
        const uint64_t at = matrix * p->zero_words + word_of_row(p, row, &shift);
        const bool crosses = shift + bits > 32;
        enum tp_status status = TP_OK;
        if (at != low_row)
            status = tp_affine_read_words(d, p->affine.zeros, at, 1, tile->group, tile->groups, low, err);
        if (!status && crosses && at + 1 != high_row)
            status = tp_affine_read_words(d, p->affine.zeros, at + 1, 1, tile->group, tile->groups, high, err);
        if (status)
            return status;
        low_row = at;
        high_row = crosses ? at + 1 : high_row;
        for (uint64_t g = 0; g < tile->groups; g++) {
            const uint32_t field = low[g] >> shift | (crosses ? high[g] << (32 - shift) : 0);
            tile->zeros[r * tile->groups + g] = (int16_t)(field & mask);
        }
    }
    return TP_OK;
}

/* `count` zero points that lie as scales do; signed, so that what the codes have added is added here. */
static enum tp_status read_plain_zeros(const struct tp_decoded *d, const struct packed *p, uint64_t first,
                                       uint64_t count, float *stage, int16_t *dst, struct tp_error *err)
{
    const struct tp_tensor *t = p->affine.zeros;
    const int added = 1 << (p->affine.bits - 1);
    enum tp_status status = tp_tensor_read_f32(d->ck, t, first, count, stage, err);
    for (uint64_t i = 0; !status && i < count; i++) {
        if (!(fabsf(stage[i]) <= 256) || stage[i] != (float)(int)stage[i])
            return tp_decoded_refuse(d, t, err, "zero point %" PRIu64 " is %g, not a whole number of %u bits",
                                     first + i, (double)stage[i], p->affine.bits);
        dst[i] = (int16_t)((int)stage[i] + added);
    }
    return status;
}

static enum tp_status load_plain_zeros(const struct tp_decoded *d, const struct tp_affine_tile *tile,
                                       struct tp_error *err)
{
    const struct packed *p = d->params;
    const bool whole = p->scale_each_row && tile->groups == p->affine.groups;
    const uint64_t at_once = whole ? tile->stage_words / tile->groups : 1;
    for (uint64_t done = 0, n; done < tile->rows; done += n) {
        const uint64_t row = tile->row + done;
        const uint64_t first = p->scale_each_row ? row * p->affine.groups + tile->group : scale_of_row(p, row);
        n = tile->rows - done < at_once ? tile->rows - done : at_once;
        enum tp_status status =
            read_plain_zeros(d, p, first, n * tile->groups, tile->stage, tile->zeros + done * tile->groups, err);
        if (status)
            return status;
    }
    return TP_OK;
}

static enum tp_status load_zeros(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const struct packed *p = d->params;
    return p->zero_words > 0 ? load_packed_zeros(d, tile, err) : load_plain_zeros(d, tile, err);
}

static const struct tp_affine_layout layout = {
    .load_words = load_words,
    .load_scales = load_scales,
    .load_zeros = load_zeros,
    .useful_bytes = TP_SCRATCH_MIN_BYTES, /* rows lie one after the other: more would only leave the cache */
    .row_share = 1,
};

/* ---- shape ---- */

/* One element of weight_shape. */
static enum tp_status read_dimension(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t index,
                                     uint64_t *dimension, struct tp_error *err)
{
    uint8_t bytes[8];
    const unsigned size = t->dtype == TP_I64 ? 8 : 4;
    enum tp_status status = tp_tensor_read(d->ck, t, index, 1, bytes, err);
    if (status)
        return status;
    *dimension = tp_load_le(bytes, size);
    if (*dimension == 0 || *dimension >> (8 * size - 1) != 0)
        return tp_decoded_refuse(d, t, err, "dimension %" PRIu64 " of the weight is zero or negative", index);
    return TP_OK;
}

/* weight_shape: its last two numbers are out and in; the dimension in front, if it is there, is that of the codes. */
static enum tp_status read_shape(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t *columns,
                                 struct tp_error *err)
{
    const struct tp_tensor *codes = d->codes;
    enum tp_status status = tp_affine_expect_dtype(d, t, "shapes", TP_AFFINE_INDICES, err);
    if (status)
        return status;
    if (t->elem_count != codes->rank && t->elem_count != 2)
        return tp_decoded_refuse(d, t, err, "the weight's shape has %" PRIu64 " dimensions, its codes have %u",
                                 t->elem_count, codes->rank);
    const uint64_t count = t->elem_count;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t found;
        const uint64_t *stored = &codes->shape[codes->rank - count + i];
        status = read_dimension(d, t, i, &found, err);
        if (status)
            return status;
        if (i == count - 1)
            *columns = found;
        else if (found != *stored)
            return tp_decoded_refuse(d, t, err,
                                     "dimension %" PRIu64 " of the weight is %" PRIu64 ", of its codes %" PRIu64, i,
                                     found, *stored);
    }
    return TP_OK;
}

static enum tp_status find_columns(const struct tp_decoded *d, struct packed *p, uint64_t group_size,
                                   struct tp_error *err)
{
    const struct tp_tensor *shape = tp_decoded_member(d, ".weight_shape"), *scales = p->affine.scales;
    if (shape)
        return read_shape(d, shape, &p->affine.columns, err);
    if (group_size == 0 || scales->rank != d->codes->rank ||
        TP_MUL_OVERFLOW(scales->shape[scales->rank - 1], group_size, &p->affine.columns) || p->affine.columns == 0)
        return tp_decoded_refuse(d, scales, err, "weight_shape is missing, and no group_size tells the inputs");
    return TP_OK;
}

/* ---- bits and packing ---- */

/* As tp_affine.word_fields. */
static unsigned fields_of(unsigned way, unsigned bits)
{
    return way == DENSE ? tp_affine_word_fields(bits) : 32 / bits;
}

/* Both ways put the fields in the same places. */
static bool is_same_in_both(uint64_t count, unsigned bits)
{
    return 32 % bits == 0 || count <= 32 / bits;
}

/* The ways in which `count` fields take this many words. */
static unsigned ways_that_fit(uint64_t count, unsigned bits, uint64_t words)
{
    unsigned ways = 0;
    for (unsigned way = DENSE; way <= WHOLE_FIELDS; way++)
        if (tp_affine_words(count, bits, fields_of(way, bits)) == words)
            ways |= way;
    return ways;
}

/* As declared; undeclared, the one number of bits that the codes' rows allow. */
static enum tp_status find_bits(const struct tp_decoded *d, struct tp_affine *a, uint64_t declared,
                                struct tp_error *err)
{
    const uint64_t words = d->codes->shape[d->codes->rank - 1];
    unsigned fits = 0;
    if (declared > 8) {
        enum tp_status status =
            tp_fail(err, TP_ERR_UNSUPPORTED, "packed codes of %" PRIu64 " bits cannot be decoded", declared);
        return tp_err_tensor(err, status, d->codes->name, d->codes->name_len);
    }
    for (unsigned bits = 1; bits <= 8; bits++)
        if (declared == bits || (declared == 0 && ways_that_fit(a->columns, bits, words))) {
            a->bits = bits;
            fits++;
        }
    if (fits == 1)
        return TP_OK;
    return tp_decoded_refuse(d, a->scales, err,
                             "config.json does not say how many bits a code has (num_bits), and %" PRIu64
                             " words for %" PRIu64 " inputs do not either",
                             words, a->columns);
}

/* Codes and zero points are packed in the same way; where both ways fit one of them, the other tells. */
static enum tp_status find_packing(const struct tp_decoded *d, struct packed *p, struct tp_error *err)
{
    struct tp_affine *a = &p->affine;
    const unsigned bits = a->bits;
    const uint64_t words = d->codes->shape[d->codes->rank - 1];
    const unsigned of_codes = ways_that_fit(a->columns, bits, words);
    const unsigned of_zeros =
        p->zero_words > 0 ? ways_that_fit(p->slice_rows, bits, p->zero_words) : DENSE | WHOLE_FIELDS;
    if (of_codes == 0)
        return tp_decoded_refuse(d, tp_decoded_member(d, ".weight_shape"), err,
                                 "%" PRIu64 " inputs of %u bits need %" PRIu64 " words (before version 0.18: %" PRIu64
                                 "), not %" PRIu64,
                                 a->columns, bits, tp_affine_words(a->columns, bits, fields_of(DENSE, bits)),
                                 tp_affine_words(a->columns, bits, fields_of(WHOLE_FIELDS, bits)), words);
    if ((of_codes & of_zeros) == 0)
        return tp_decoded_refuse(d, a->zeros, err,
                                 "codes (%" PRIu64 " words for %" PRIu64 " inputs of %u bits) and zero points (%" PRIu64
                                 " words for %" PRIu64 " outputs) are packed in different ways",
                                 words, a->columns, bits, p->zero_words, p->slice_rows);
    if ((of_codes & of_zeros) == (DENSE | WHOLE_FIELDS) &&
        !(is_same_in_both(a->columns, bits) && (p->zero_words == 0 || is_same_in_both(p->slice_rows, bits))))
        return tp_decoded_refuse(d, a->zeros, err,
                                 "%" PRIu64 " words for %" PRIu64
                                 " inputs of %u bits: nothing tells which version of compressed-tensors packed them",
                                 words, a->columns, bits);
    a->word_fields = fields_of(of_codes & of_zeros & DENSE ? DENSE : WHOLE_FIELDS, bits);
    return TP_OK;
}

/* ---- scales and zero points ---- */

/* [.., out, groups]; or one for each matrix, or one. */
static enum tp_status check_scales(const struct tp_decoded *d, struct packed *p, uint64_t group_size,
                                   struct tp_error *err)
{
    const struct tp_tensor *codes = d->codes, *t = p->affine.scales;
    const unsigned rank = codes->rank;
    uint64_t shape[3];
    memcpy(shape, codes->shape, rank * sizeof *shape);
    p->scale_each_row = t->rank == rank && memcmp(t->shape, shape, (rank - 1) * sizeof *shape) == 0;
    p->scale_count = t->elem_count;
    if (p->scale_each_row)
        return tp_affine_set_groups(d, &p->affine, group_size, t->shape[rank - 1], false, err);
    shape[rank - 1] = t->rank > 0 ? t->shape[t->rank - 1] : 0;
    if (p->scale_count != 1 && (rank != 3 || p->scale_count != shape[0] || shape[2] != 1))
        return tp_affine_expect_shape(d, t, "scales", shape, rank, err);
    return tp_affine_set_groups(d, &p->affine, group_size, 1, false, err);
}

static enum tp_status check_zeros(const struct tp_decoded *d, struct packed *p, struct tp_error *err)
{
    const struct tp_tensor *codes = d->codes, *t = p->affine.zeros, *scales = p->affine.scales;
    const unsigned rank = codes->rank;
    if (!t)
        return TP_OK;
    const bool is_packed = p->scale_each_row && t->dtype == TP_I32 && t->rank == rank &&
                           (rank == 2 || t->shape[0] == codes->shape[0]) && t->shape[rank - 1] == p->affine.groups &&
                           ways_that_fit(p->slice_rows, p->affine.bits, t->shape[rank - 2]) != 0;
    p->zero_words = is_packed ? t->shape[rank - 2] : 0;
    if (is_packed)
        return TP_OK;
    enum tp_status status =
        tp_affine_expect_dtype(d, t, "zero points", TP_AFFINE_FLOATS | 1u << TP_I8 | 1u << TP_I32, err);
    return status ? status : tp_affine_expect_shape(d, t, "zero points (unpacked)", scales->shape, scales->rank, err);
}

/* ---- all of it ---- */

/* A group of several has no format of its own where config.json gives all of them one word. */
static bool may_be_packed(const char *format)
{
    return !format || strcmp(format, "pack-quantized") == 0 || strcmp(format, "mixed-precision") == 0;
}

static enum tp_status check_codes(const struct tp_decoded *d, struct packed *p, const struct tp_quant_way *way,
                                  struct tp_error *err)
{
    const struct tp_tensor *codes = d->codes;
    const char *format = way->format;
    if (!may_be_packed(format)) {
        char text[128];
        tp_text_printable(text, sizeof text, format, strlen(format));
        return tp_decoded_refuse(d, NULL, err, "the tensors look like pack-quantized, config.json says %s", text);
    }
    enum tp_status status = tp_affine_expect_codes(d, p->affine.scales, 3, err);
    if (status)
        return status;
    p->slice_rows = codes->shape[codes->rank - 2];
    p->affine.rows = codes->elem_count / codes->shape[codes->rank - 1];
    return find_columns(d, p, way->group_size, err);
}

/* Where the strategy says that a row has one scale, it has no groups. */
static uint64_t group_size_of(const struct tp_quant_way *way, uint64_t columns)
{
    const char *strategy = way->strategy ? way->strategy : "";
    return strcmp(strategy, "channel") == 0 || strcmp(strategy, "tensor") == 0 ? columns : way->group_size;
}

static enum tp_status check_members(const struct tp_decoded *d, void *params, const struct tp_quant_way *way,
                                    struct tp_error *err)
{
    struct packed *p = params;
    const struct tp_tensor *order = tp_decoded_member(d, ".weight_g_idx");
    enum tp_status status = check_codes(d, p, way, err);
    if (!status)
        status = find_bits(d, &p->affine, way->bits, err);
    if (!status)
        status = check_scales(d, p, group_size_of(way, p->affine.columns), err);
    if (!status)
        status = check_zeros(d, p, err);
    if (!status)
        status = find_packing(d, p, err);
    if (!status)
        p->affine.zero = (int16_t)(1 << (p->affine.bits - 1));
    return !status && order ? tp_affine_set_order(d, &p->affine, order, true, true, err) : status;
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    struct packed *p = tp_arena_alloc(arena, sizeof *p);
    uint64_t shape[3];
    if (!p)
        return tp_fail_nomem(err);
    *p = (struct packed){.affine = {.layout = &layout,
                                    .scales = tp_decoded_member(d, ".weight_scale"),
                                    .zeros = tp_decoded_member(d, ".weight_zero_point")}};
    d->params = p;
    enum tp_status status = tp_affine_check_ways(d, p, sizeof *p, check_members, err);
    if (status)
        return status;
    memcpy(shape, d->codes->shape, d->codes->rank * sizeof *shape);
    shape[d->codes->rank - 1] = p->affine.columns;
    status = tp_decoded_set_name(d, arena, ".weight", err);
    return status ? status : tp_decoded_set_shape(d, arena, shape, d->codes->rank, err);
}

const struct tp_scheme tp_scheme_pack_quantized = {
    .name = "pack-quantized", .prepare = prepare, .decode = tp_affine_decode};
