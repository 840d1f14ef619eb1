/* SPDX-License-Identifier: MIT */
/* Whole numbers with a zero point and a scale; affine.h says what.
 *
 * From top to bottom: decoding, the tile that an element lies in, its loading, what prepare proves. */
#include "quant/affine.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/status.h"
#include "checkpoint/describe.h"

#define CHUNK 512u
/* Where rows are cut: whole words, whatever the number of bits and of fields in a word (10, 6, 5, 4). */
#define COLUMN_STEP 480u
#define COLUMNS_MAX (COLUMN_STEP * 8192u)

/* ---- decoding ---- */

static void unpack_fields(uint8_t *codes, const uint32_t *words, uint64_t first, size_t n, const struct tp_affine *a,
                          unsigned shift)
{
    const uint32_t *w = words + first / a->word_fields, mask = (1u << a->bits) - 1;
    unsigned field = (unsigned)(first % a->word_fields);
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)(*w >> (shift + field * a->bits) & mask);
        if (++field == a->word_fields) {
            field = 0;
            w++;
        }
    }
}

static void unpack(uint8_t *codes, const uint32_t *words, uint64_t first, size_t n, const struct tp_affine *a,
                   unsigned shift)
{
    if (a->word_fields > 0) {
        unpack_fields(codes, words, first, n, a, shift);
        return;
    }
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)tp_affine_field(words, (first + i) * a->bits, a->bits);
}

/* Codes of columns [column, column + n), one row's scales and zero points from group 0 of the tile on. */
static void multiply(float *dst, const uint8_t *codes, size_t n, uint64_t column, uint64_t group_size,
                     const float *scales, const int16_t *zeros)
{
    const uint64_t left_of_group = group_size - column % group_size;
    size_t run = left_of_group < n ? (size_t)left_of_group : n;
    for (size_t done = 0; done < n; done += run, scales++, zeros++) {
        run = done == 0 ? run : group_size < n - done ? (size_t)group_size : n - done;
        const float scale = *scales;
        const int zero = *zeros;
        for (size_t i = done; i < done + run; i++)
            dst[i] = (float)(codes[i] - zero) * scale;
    }
}

static void multiply_scattered(float *dst, const uint8_t *codes, size_t n, const uint32_t *order, const float *scales,
                               const int16_t *zeros)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)(codes[i] - zeros[order[i]]) * scales[order[i]];
}

/* A run of one row, all within the tile. */
static void decode_run(float *dst, const struct tp_affine *a, const struct tp_affine_tile *t, uint64_t row,
                       uint64_t column, uint64_t count)
{
    const unsigned share = a->layout->row_share;
    const uint64_t below = row - t->row;
    const uint32_t *words = t->words + below / share * t->row_words;
    const float *scales = t->scales + below * t->groups;
    const int16_t *zeros = t->zeros + below * t->groups;
    uint8_t codes[CHUNK];
    for (uint64_t done = 0; done < count; done += CHUNK) {
        const size_t n = count - done < CHUNK ? (size_t)(count - done) : CHUNK;
        const uint64_t at = column + done;
        unpack(codes, words, at - t->column, n, a, a->layout->shifts[row % share]);
        if (t->order) {
            multiply_scattered(dst + done, codes, n, t->order + (at - t->column), scales, zeros);
        } else {
            const uint64_t group = at / a->group_size - t->group;
            multiply(dst + done, codes, n, at, a->group_size, scales + group, zeros + group);
        }
    }
}

/* Round to the dtype of the scales, as the packages do, and back. */
static void round_first(const struct tp_kernels *kernels, enum tp_dtype dtype, float *values, uint64_t count)
{
    uint16_t rounded[CHUNK];
    struct tp_stats ignored;
    const enum tp_float_kind kind = dtype == TP_F16 ? TP_KIND_F16 : TP_KIND_BF16;
    if (dtype != TP_F16 && dtype != TP_BF16)
        return;
    tp_stats_init(&ignored);
    for (uint64_t done = 0; done < count; done += CHUNK) {
        const size_t n = count - done < CHUNK ? (size_t)(count - done) : CHUNK;
        kernels->cast[TP_KIND_F32][kind](rounded, values + done, n, false, &ignored);
        kernels->cast[kind][TP_KIND_F32](values + done, rounded, n, false, &ignored);
    }
}

/* ---- the tile that an element lies in ---- */

/* Its size: the same for a tensor and a size of scratch, but for what is cut off at the edges. */
struct tile_size {
    uint64_t rows, columns;
    size_t stage_bytes, order_bytes;
};

static uint64_t groups_within(const struct tp_affine *a, uint64_t columns)
{
    return a->order || columns == a->columns ? a->groups : columns / a->group_size + 2;
}

/* Words, scales and zero points of `row_share` rows. Small numbers: columns <= COLUMNS_MAX. */
static uint64_t bytes_of_rows(const struct tp_affine *a, uint64_t columns)
{
    return tp_affine_words(columns, a->bits, a->word_fields) * sizeof(uint32_t) +
           a->layout->row_share * groups_within(a, columns) * (sizeof(float) + sizeof(int16_t));
}

/* Whole rows if at least some fit, else parts of one, so that what is read next is loaded next. */
static struct tile_size choose_size(const struct tp_affine *a, size_t scratch_bytes)
{
    const size_t useful = a->layout->useful_bytes;
    const size_t bytes = useful > 0 && useful < scratch_bytes ? useful : scratch_bytes;
    struct tile_size s = {.columns = a->columns < COLUMNS_MAX ? a->columns : COLUMNS_MAX,
                          .stage_bytes = bytes / 8 / 64 * 64};
    const uint64_t room = bytes - s.stage_bytes;
    for (;;) {
        s.order_bytes = a->order ? (size_t)s.columns * sizeof(uint32_t) : 0;
        if ((bytes_of_rows(a, s.columns) + s.order_bytes <= room &&
             groups_within(a, s.columns) * 2 * sizeof(uint32_t) <= s.stage_bytes) ||
            s.columns <= COLUMN_STEP)
            break;
        s.columns = s.columns / 2 < COLUMN_STEP ? COLUMN_STEP : s.columns / 2 / COLUMN_STEP * COLUMN_STEP;
    }
    uint64_t shares = s.columns == a->columns ? (room - s.order_bytes) / bytes_of_rows(a, s.columns) : 1;
    const uint64_t staged = s.stage_bytes / sizeof(uint32_t) / a->layout->row_share;
    shares = shares < staged ? shares : staged;
    s.rows = (shares > 32 ? shares / 32 * 32 : shares) * a->layout->row_share;
    return s;
}

/* The tile around an element, with the places of its parts in the scratch. */
static void place(struct tp_affine_tile *t, const struct tp_affine *a, struct tile_size s, uint8_t *bytes, uint64_t row,
                  uint64_t column)
{
    *t = (struct tp_affine_tile){.row = row / s.rows * s.rows, .column = column / s.columns * s.columns};
    t->rows = a->rows - t->row < s.rows ? a->rows - t->row : s.rows;
    t->columns = a->columns - t->column < s.columns ? a->columns - t->column : s.columns;
    t->row_words = tp_affine_words(t->columns, a->bits, a->word_fields);
    t->group = 0;
    t->groups = a->groups;
    if (!a->order) {
        t->group = t->column / a->group_size;
        t->groups = (t->column + t->columns - 1) / a->group_size - t->group + 1;
    }
    t->stage = bytes;
    t->stage_words = s.stage_bytes / sizeof(uint32_t);
    bytes += s.stage_bytes;
    if (a->order)
        t->order = (void *)bytes;
    bytes += s.order_bytes;
    t->words = (void *)bytes;
    bytes += t->rows / a->layout->row_share * t->row_words * sizeof(uint32_t);
    t->scales = (void *)bytes;
    t->zeros = (void *)(bytes + t->rows * t->groups * sizeof(float));
}

/* ---- loading ---- */

/* `count` <= CHUNK whole numbers, I32 or I64. */
static enum tp_status read_indices(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t first, size_t count,
                                   int64_t *dst, struct tp_error *err)
{
    uint8_t bytes[CHUNK * sizeof(int64_t)];
    const unsigned size = t->dtype == TP_I64 ? 8 : 4;
    enum tp_status status = tp_tensor_read(d->ck, t, first, count, bytes, err);
    for (size_t i = 0; !status && i < count; i++) {
        const uint64_t v = tp_load_le(bytes + i * size, size);
        dst[i] = size == 8 ? (int64_t)v : (int32_t)(uint32_t)v;
    }
    return status;
}

static enum tp_status refuse_group(const struct tp_decoded *d, const struct tp_affine *a, const struct tp_tensor *order,
                                   uint64_t column, int64_t group, struct tp_error *err)
{
    return tp_decoded_refuse(d, order, err, "column %" PRIu64 " is said to be of group %" PRId64 ", there are %" PRIu64,
                             column, group, a->groups);
}

/* Proved once by prepare, and again because a file can change. */
static enum tp_status load_order(const struct tp_decoded *d, const struct tp_affine *a, const struct tp_affine_tile *t,
                                 struct tp_error *err)
{
    int64_t groups[CHUNK];
    for (uint64_t done = 0; done < t->columns; done += CHUNK) {
        const size_t n = t->columns - done < CHUNK ? (size_t)(t->columns - done) : CHUNK;
        enum tp_status status = read_indices(d, a->order, t->column + done, n, groups, err);
        if (status)
            return status;
        for (size_t i = 0; i < n; i++) {
            if (groups[i] < 0 || (uint64_t)groups[i] >= a->groups)
                return refuse_group(d, a, a->order, t->column + done + i, groups[i], err);
            t->order[done + i] = (uint32_t)groups[i];
        }
    }
    return TP_OK;
}

static enum tp_status load(const struct tp_decoded *d, const struct tp_affine *a, const struct tp_affine_tile *t,
                           struct tp_error *err)
{
    enum tp_status status = a->order ? load_order(d, a, t, err) : TP_OK;
    if (!status)
        status = a->layout->load_words(d, t, err);
    if (!status)
        status = a->layout->load_scales(d, t, err);
    if (!status && a->zeros)
        return a->layout->load_zeros(d, t, err);
    for (uint64_t i = 0; !status && i < t->rows * t->groups; i++)
        t->zeros[i] = a->zero;
    return status;
}

enum tp_status tp_affine_decode(const struct tp_decoded *d, struct tp_scratch *scratch,
                                const struct tp_kernels *kernels, uint64_t first, uint64_t count, float *dst,
                                struct tp_error *err)
{
    const struct tp_affine *a = d->params;
    if (scratch->size_bytes < TP_SCRATCH_MIN_BYTES)
        return tp_fail(err, TP_ERR_BUG, "a scratch of %zu bytes", scratch->size_bytes);
    const struct tile_size size = choose_size(a, scratch->size_bytes);
    const uint64_t across = (a->columns - 1) / size.columns + 1;
    for (uint64_t done = 0, n; done < count; done += n) {
        struct tp_affine_tile tile;
        const uint64_t row = (first + done) / a->columns, column = (first + done) % a->columns;
        const uint64_t key = row / size.rows * across + column / size.columns;
        place(&tile, a, size, scratch->bytes, row, column);
        if (scratch->owner != d || scratch->key != key) {
            scratch->owner = NULL; /* nobody's, should loading fail */
            enum tp_status status = load(d, a, &tile, err);
            if (status)
                return status;
            scratch->owner = d;
            scratch->key = key;
        }
        n = tile.column + tile.columns - column;
        n = n < count - done ? n : count - done;
        decode_run(dst + done, a, &tile, row, column, n);
    }
    if (d->options.f16_first && a->layout->rounds_first)
        round_first(kernels, (enum tp_dtype)a->scales->dtype, dst, count);
    return TP_OK;
}

/* ---- for loaders ---- */

static uint64_t row_length(const struct tp_tensor *t)
{
    return t->rank > 0 ? t->shape[t->rank - 1] : 1;
}

enum tp_status tp_affine_read_words(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t row, uint64_t rows,
                                    uint64_t column, uint64_t columns, uint32_t *dst, struct tp_error *err)
{
    const uint64_t length = row_length(t);
    if (columns == length)
        return tp_tensor_read(d->ck, t, row * length, rows * length, dst, err);
    enum tp_status status = TP_OK;
    for (uint64_t r = 0; !status && r < rows; r++)
        status = tp_tensor_read(d->ck, t, (row + r) * length + column, columns, dst + r * columns, err);
    return status;
}

static enum tp_status read_scale_run(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t first,
                                     uint64_t count, float *dst, struct tp_error *err)
{
    enum tp_status status = tp_decoded_read_scales(d, t, first, count, dst, err);
    for (uint64_t i = 0; !status && !d->options.nan_scales && i < count; i++)
        if (!isfinite(dst[i]))
            return tp_decoded_refuse(d, t, err, "scale %" PRIu64 " is %s", first + i,
                                     isnan(dst[i]) ? "not a number" : "infinite");
    return status;
}

enum tp_status tp_affine_read_scales(const struct tp_decoded *d, uint64_t row, uint64_t rows, uint64_t column,
                                     uint64_t columns, float *dst, struct tp_error *err)
{
    const struct tp_tensor *t = ((const struct tp_affine *)d->params)->scales;
    const uint64_t length = row_length(t);
    if (columns == length)
        return read_scale_run(d, t, row * length, rows * length, dst, err);
    enum tp_status status = TP_OK;
    for (uint64_t r = 0; !status && r < rows; r++)
        status = read_scale_run(d, t, (row + r) * length + column, columns, dst + r * columns, err);
    return status;
}

/* What is read of each row of a matrix of which `columns` columns are wanted: short rows whole, since a read more costs
 * more than some bytes more. */
struct span {
    uint64_t first, count, skip;
};

static struct span choose_span(const struct tp_tensor *t, const struct tp_affine_tile *tile, uint64_t column,
                               uint64_t columns)
{
    const uint64_t length = row_length(t);
    if (length <= tile->stage_words && (length <= 1024 || length / 2 <= columns))
        return (struct span){.count = length, .skip = column};
    return (struct span){.first = column, .count = columns};
}

enum tp_status tp_affine_load_transposed(const struct tp_decoded *d, const struct tp_affine_tile *tile, uint64_t row,
                                         uint64_t column, uint64_t columns, struct tp_error *err)
{
    uint32_t *stage = tile->stage;
    const struct span span = choose_span(d->codes, tile, column, columns);
    const uint64_t at_once = tile->stage_words / span.count;
    for (uint64_t done = 0, n; done < tile->row_words; done += n) {
        n = tile->row_words - done < at_once ? tile->row_words - done : at_once;
        enum tp_status status = tp_affine_read_words(d, d->codes, row + done, n, span.first, span.count, stage, err);
        if (status)
            return status;
        for (uint64_t c = 0; c < columns; c++)
            for (uint64_t r = 0; r < n; r++)
                tile->words[c * tile->row_words + done + r] = stage[r * span.count + span.skip + c];
    }
    return TP_OK;
}

enum tp_status tp_affine_load_transposed_scales(const struct tp_decoded *d, const struct tp_affine_tile *tile,
                                                struct tp_error *err)
{
    const struct tp_affine *a = d->params;
    float *stage = tile->stage;
    const struct span span = choose_span(a->scales, tile, tile->row, tile->rows);
    const uint64_t at_once = tile->stage_words / span.count;
    for (uint64_t done = 0, n; done < tile->groups; done += n) {
        n = tile->groups - done < at_once ? tile->groups - done : at_once;
        enum tp_status status = tp_affine_read_scales(d, tile->group + done, n, span.first, span.count, stage, err);
        if (status)
            return status;
        for (uint64_t r = 0; r < tile->rows; r++)
            for (uint64_t g = 0; g < n; g++)
                tile->scales[r * tile->groups + done + g] = stage[g * span.count + span.skip + r];
    }
    return TP_OK;
}

/* ---- what prepare proves ---- */

unsigned tp_affine_word_fields(unsigned bits)
{
    return 32 % bits == 0 ? 32 / bits : 0;
}

uint64_t tp_affine_words(uint64_t count, unsigned bits, unsigned word_fields)
{
    if (word_fields > 0)
        return count / word_fields + (count % word_fields != 0);
    return count / 32 * bits + (count % 32 * bits + 31) / 32;
}

/* ---- the ways that config.json allows ---- */

union params {
    struct tp_affine affine;
    uint64_t bytes[TP_AFFINE_PARAMS_MAX / sizeof(uint64_t)];
};

/* Do both decode to the same? */
static bool is_same(const struct tp_affine *a, const struct tp_affine *b)
{
    return a->bits == b->bits && a->word_fields == b->word_fields && a->rows == b->rows && a->columns == b->columns &&
           a->zero == b->zero && (a->group_size == b->group_size || (a->has_order && b->has_order));
}

/* "4 bits, groups of 128; 8 bits, whole rows; ..." */
static const char *describe_ways(char *text, size_t size, const struct tp_quant_facts *facts)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i <= facts->other_count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(facts, i);
        char group[48] = "whole rows";
        if (way.group_size > 0)
            snprintf(group, sizeof group, "groups of %" PRIu64, way.group_size);
        int len = i == 6 ? snprintf(text + used, size - used, "; ...")
                         : snprintf(text + used, size - used, "%s%" PRIu64 " bits, %s", i ? "; " : "", way.bits, group);
        if (len < 0 || (size_t)len >= size - used || i == 6)
            break;
        used += (size_t)len;
    }
    return text;
}

static enum tp_status refuse_ways(const struct tp_decoded *d, const struct tp_affine *a, const char *what,
                                  struct tp_error *err)
{
    char ways[384], shape[TP_SHAPE_TEXT];
    const struct tp_quant_facts *facts = &d->ck->quant;
    return tp_decoded_refuse(d, a->scales, err,
                             "codes of shape %s and their scales fit %s of the %zu ways of quantising that config.json "
                             "allows (%s)",
                             tp_describe_shape(shape, d->codes->shape, d->codes->rank), what, facts->other_count + 1,
                             describe_ways(ways, sizeof ways, facts));
}

enum tp_status tp_affine_check_ways(const struct tp_decoded *d, void *params, size_t size, tp_affine_check check,
                                    struct tp_error *err)
{
    const struct tp_quant_facts *facts = &d->ck->quant;
    union params found = {.bytes = {0}}, trial;
    size_t fitting = 0;
    if (size > sizeof trial)
        return tp_fail(err, TP_ERR_BUG, "params of %zu bytes", size);
    if (facts->other_count == 0) {
        const struct tp_quant_way only = tp_quant_way_at(facts, 0);
        return check(d, params, &only, err);
    }
    for (size_t i = 0; i <= facts->other_count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(facts, i);
        struct tp_error why = {.code = TP_OK};
        memcpy(&trial, params, size);
        const enum tp_status status = check(d, &trial, &way, &why);
        if (status == TP_ERR_FORMAT || status == TP_ERR_UNSUPPORTED || status == TP_ERR_LIMIT)
            continue;
        if (status) {
            if (err)
                *err = why;
            return status;
        }
        if (fitting++ > 0 && !is_same(&found.affine, &trial.affine))
            return refuse_ways(d, &trial.affine, "more than one", err);
        memcpy(&found, &trial, size);
    }
    if (fitting == 0)
        return refuse_ways(d, params, "none", err);
    memcpy(params, &found, size);
    return TP_OK;
}

enum tp_status tp_affine_expect_dtype(const struct tp_decoded *d, const struct tp_tensor *t, const char *what,
                                      uint32_t dtypes, struct tp_error *err)
{
    if (!t || (1u << t->dtype & dtypes) != 0)
        return TP_OK;
    return tp_decoded_refuse(d, t, err, "%s of dtype %s are not of scheme %s", what,
                             tp_dtype_name((enum tp_dtype)t->dtype), d->scheme->name);
}

enum tp_status tp_affine_expect_codes(const struct tp_decoded *d, const struct tp_tensor *scales, unsigned rank_max,
                                      struct tp_error *err)
{
    char shape[TP_SHAPE_TEXT];
    const struct tp_tensor *codes = d->codes;
    enum tp_status status = tp_affine_expect_dtype(d, codes, "codes", 1u << TP_I32, err);
    if (!status && (codes->rank < 2 || codes->rank > rank_max || codes->elem_count == 0))
        return tp_decoded_refuse(d, NULL, err, "codes of shape %s are not of scheme %s",
                                 tp_describe_shape(shape, codes->shape, codes->rank), d->scheme->name);
    if (!status && !scales)
        return tp_decoded_refuse(d, NULL, err, "the scales of scheme %s are missing", d->scheme->name);
    return status ? status : tp_affine_expect_dtype(d, scales, "scales", TP_AFFINE_FLOATS, err);
}

enum tp_status tp_affine_expect_shape(const struct tp_decoded *d, const struct tp_tensor *t, const char *what,
                                      const uint64_t *shape, unsigned rank, struct tp_error *err)
{
    char found[TP_SHAPE_TEXT], wanted[TP_SHAPE_TEXT];
    bool same = t->rank == rank;
    for (unsigned i = 0; same && i < rank; i++)
        same = t->shape[i] == shape[i] && shape[i] > 0;
    if (same)
        return TP_OK;
    return tp_decoded_refuse(d, t, err, "the %s should have shape %s, not %s", what,
                             tp_describe_shape(wanted, shape, rank), tp_describe_shape(found, t->shape, t->rank));
}

enum tp_status tp_affine_set_groups(const struct tp_decoded *d, struct tp_affine *a, uint64_t declared, uint64_t groups,
                                    bool partial, struct tp_error *err)
{
    if (groups == 0 || groups > a->columns)
        return tp_decoded_refuse(d, a->scales, err, "%" PRIu64 " groups of %" PRIu64 " inputs", groups, a->columns);
    a->groups = groups;
    a->group_size = declared;
    if (declared == 0) { /* not said, or the whole row: then as many as it takes */
        a->group_size = a->columns / groups;
        if (a->columns % groups != 0)
            return tp_decoded_refuse(d, a->scales, err,
                                     "%" PRIu64 " groups of %" PRIu64 " inputs, and config.json has no group_size",
                                     groups, a->columns);
    } else if (declared >= a->columns) {
        a->group_size = a->columns;
    }
    const uint64_t expected = a->columns / a->group_size + (a->columns % a->group_size != 0);
    if (expected != groups)
        return tp_decoded_refuse(d, a->scales, err,
                                 "%" PRIu64 " inputs in groups of %" PRIu64 " (config.json) need %" PRIu64
                                 " scales in a row, not %" PRIu64,
                                 a->columns, declared, expected, groups);
    if (!partial && a->columns % a->group_size != 0)
        return tp_decoded_refuse(d, a->scales, err, "%" PRIu64 " inputs are not a multiple of the group_size %" PRIu64,
                                 a->columns, a->group_size);
    return TP_OK;
}

struct order_facts {
    bool is_unset, is_plain; /* one is -1; all are as without it */
};

static enum tp_status scan_order(const struct tp_decoded *d, const struct tp_affine *a, const struct tp_tensor *order,
                                 bool unset, struct order_facts *facts, uint64_t *counts, struct tp_error *err)
{
    int64_t groups[CHUNK];
    *facts = (struct order_facts){.is_plain = true};
    for (uint64_t done = 0; done < a->columns; done += CHUNK) {
        const size_t n = a->columns - done < CHUNK ? (size_t)(a->columns - done) : CHUNK;
        enum tp_status status = read_indices(d, order, done, n, groups, err);
        if (status)
            return status;
        for (size_t i = 0; i < n; i++) {
            if (unset && groups[i] == -1) {
                facts->is_unset = true;
                continue;
            }
            if (groups[i] < 0 || (uint64_t)groups[i] >= a->groups)
                return refuse_group(d, a, order, done + i, groups[i], err);
            if ((uint64_t)groups[i] != (done + i) / a->group_size)
                facts->is_plain = false;
            if (counts)
                counts[groups[i]]++;
        }
    }
    return TP_OK;
}

/* No group may have more or fewer columns than the others. */
static enum tp_status check_even(const struct tp_decoded *d, const struct tp_affine *a, const struct tp_tensor *order,
                                 struct tp_error *err)
{
    struct order_facts facts;
    uint64_t *counts = calloc((size_t)a->groups, sizeof *counts); /* at most TP_AFFINE_SCATTERED_MAX */
    enum tp_status status = counts ? scan_order(d, a, order, false, &facts, counts, err) : tp_fail_nomem(err);
    for (uint64_t g = 0; !status && g < a->groups; g++)
        if (counts[g] != a->group_size)
            status = tp_decoded_refuse(d, order, err, "group %" PRIu64 " has %" PRIu64 " columns, not %" PRIu64, g,
                                       counts[g], a->group_size);
    free(counts);
    return status;
}

enum tp_status tp_affine_set_order(const struct tp_decoded *d, struct tp_affine *a, const struct tp_tensor *order,
                                   bool unset, bool even, struct tp_error *err)
{
    struct order_facts facts;
    enum tp_status status = tp_affine_expect_dtype(d, order, "groups of the inputs", TP_AFFINE_INDICES, err);
    if (!status)
        status = tp_affine_expect_shape(d, order, "groups of the inputs", &a->columns, 1, err);
    if (!status)
        status = scan_order(d, a, order, unset, &facts, NULL, err);
    if (status || facts.is_unset)
        return status;
    a->has_order = true;
    if (facts.is_plain)
        return TP_OK;
    if (a->groups > TP_AFFINE_SCATTERED_MAX) {
        status = tp_decoded_refuse(d, order, err, "%" PRIu64 " groups in any order; up to %u can be decoded", a->groups,
                                   TP_AFFINE_SCATTERED_MAX);
        if (err)
            err->code = TP_ERR_LIMIT;
        return TP_ERR_LIMIT;
    }
    a->order = order;
    return even ? check_even(d, a, order, err) : TP_OK;
}
