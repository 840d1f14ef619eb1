/* SPDX-License-Identifier: MIT */
/* How scales lie over codes: one for all, for a row, for a run of a row, for a block, and the shapes in which the
 * packages write each. config.json decides, the shape must then fit; where it says nothing, the shape has to speak for
 * itself, and where it allows several ways, the shape tells which.
 *
 * From top to bottom: the choice, what config.json says, the readings, the refusals. */
#include "quant/scale_grid.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/describe.h"

#define BLOCK_USUAL 128u

enum layout { TENSOR = 1, CHANNEL = 2, GROUP = 4, BLOCK = 8, COLUMN = 16, ANY = 31 };

struct question {
    const struct tp_decoded *d;
    const struct tp_tensor *codes, *scales;
    uint64_t rows, columns; /* of one matrix: the last two dimensions */
    uint64_t block_rows, block_columns;
    uint64_t group_size; /* 0: config.json does not say */
    unsigned allowed;    /* layouts that do not contradict config.json */
    bool blocks_first;   /* names or config.json say that these are blocks */
};

/* What `reading` makes of the shapes: its layouts, and the grid; 0 if it makes nothing of them. */
typedef unsigned (*reading_fn)(struct tp_scale_grid *grid, const struct question *q);

static unsigned read_columns(struct tp_scale_grid *grid, const struct question *q);
static unsigned read_named_blocks(struct tp_scale_grid *grid, const struct question *q);
static unsigned read_leading(struct tp_scale_grid *grid, const struct question *q);
static unsigned read_groups(struct tp_scale_grid *grid, const struct question *q);
static unsigned read_blocks(struct tp_scale_grid *grid, const struct question *q);
static void ask(struct question *q, const struct tp_decoded *d, const struct tp_tensor *scales,
                const struct tp_quant_way *way);
static enum tp_status refuse(const struct question *q, struct tp_error *err);
static enum tp_status refuse_choice(const struct question *q, struct tp_error *err);

/* The first that fits wins. */
static const reading_fn readings[] = {read_columns, read_named_blocks, read_leading, read_groups, read_blocks};

static bool read_any(struct tp_scale_grid *grid, const struct question *q)
{
    for (size_t i = 0; i < TP_COUNT_OF(readings); i++)
        if ((readings[i](grid, q) & q->allowed) != 0)
            return true;
    return false;
}

static bool same_grid(const struct tp_scale_grid *a, const struct tp_scale_grid *b)
{
    return a->rows == b->rows && a->columns == b->columns && a->block_rows == b->block_rows &&
           a->block_columns == b->block_columns && a->grid_rows == b->grid_rows && a->grid_columns == b->grid_columns;
}

enum tp_status tp_scale_grid_find(struct tp_scale_grid *grid, const struct tp_decoded *d,
                                  const struct tp_tensor *scales, struct tp_error *err)
{
    struct question q, asked = {.allowed = 0};
    struct tp_scale_grid found;
    bool fits = false;
    for (size_t i = 0; i <= d->ck->quant.other_count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(&d->ck->quant, i);
        ask(&q, d, scales, &way);
        const unsigned before = asked.allowed;
        if (before == 0)
            asked = q;
        asked.allowed = before | q.allowed;
        if (!read_any(&found, &q))
            continue;
        if (fits && !same_grid(&found, grid) && scales->elem_count != 1)
            return refuse_choice(&q, err);
        *grid = found;
        fits = true;
    }
    if (asked.allowed == 0) { /* nothing is said of such weights: they were asked for by name */
        asked.allowed = ANY;
        fits = read_any(grid, &asked);
    }
    return fits ? TP_OK : refuse(&asked, err);
}

/* ---- what config.json and names say ---- */

/* modelopt; it writes some of them in lower case */
static const struct {
    const char *algo;
    enum layout layout;
} algos[] = {
    {"fp8", TENSOR},
    {"fp8_per_channel_per_token", CHANNEL},
    {"fp8_pb_wo", BLOCK},
    {"w8a8_sq_per_channel", CHANNEL},
};

/* compressed-tensors */
static const struct {
    const char *strategy;
    unsigned layouts;
} strategies[] = {
    {"tensor", TENSOR},
    {"channel", CHANNEL | COLUMN},
    {"group", GROUP},
    {"block", BLOCK},
};
/* Of one code a byte; the rest are not of this kind at all. */
static const struct {
    const char *format, *scheme; /* NULL: either */
} formats[] = {
    {"float-quantized", "fp8"}, {"int-quantized", "int8"}, {"naive-quantized", NULL},
    {"mixed-precision", NULL},  {"dense", NULL},
};

static const struct {
    const char *method;
    unsigned with_block_size, without;
} methods[] = {
    {"fp8", BLOCK, ANY},
    {"blockwise_int8", BLOCK, ANY},
    {"fbgemm_fp8", CHANNEL | COLUMN, CHANNEL | COLUMN},
};

static bool same_but_for_case(const char *text, const char *lower)
{
    for (; *text && *lower; text++, lower++)
        if ((*text >= 'A' && *text <= 'Z' ? *text - 'A' + 'a' : *text) != *lower)
            return false;
    return *text == *lower;
}

static bool ends_with(const struct tp_tensor *t, const char *suffix)
{
    size_t len = strlen(suffix);
    return t->name_len >= len && memcmp(t->name + t->name_len - len, suffix, len) == 0;
}

/* 0: this way speaks of other weights. */
static unsigned layouts_of_strategy(const struct tp_quant_way *way, const char *scheme)
{
    bool is_ours = !way->format;
    for (size_t i = 0; !is_ours && i < TP_COUNT_OF(formats); i++)
        is_ours = strcmp(way->format, formats[i].format) == 0 &&
                  (!formats[i].scheme || strcmp(scheme, formats[i].scheme) == 0);
    for (size_t i = 0; is_ours && way->strategy && i < TP_COUNT_OF(strategies); i++)
        if (strcmp(way->strategy, strategies[i].strategy) == 0)
            return strategies[i].layouts;
    return is_ours ? ANY : 0;
}

static unsigned allowed_layouts(const struct tp_checkpoint *ck, const struct tp_quant_way *way, const char *scheme)
{
    for (size_t i = 0; way->algo && i < TP_COUNT_OF(algos); i++)
        if (same_but_for_case(way->algo, algos[i].algo))
            return algos[i].layout;
    if (way->algo)
        return ck->quant.other_count > 0 ? 0 : ANY;
    for (size_t i = 0; ck->facts.quant_method && i < TP_COUNT_OF(methods); i++)
        if (strcmp(ck->facts.quant_method, methods[i].method) == 0)
            return way->block_rows ? methods[i].with_block_size : methods[i].without;
    return layouts_of_strategy(way, scheme);
}

static void ask(struct question *q, const struct tp_decoded *d, const struct tp_tensor *scales,
                const struct tp_quant_way *facts)
{
    const struct tp_tensor *codes = d->codes;
    *q = (struct question){.d = d,
                           .codes = codes,
                           .scales = scales,
                           .rows = codes->rank > 1 ? codes->shape[codes->rank - 2] : 1,
                           .columns = codes->rank > 0 ? codes->shape[codes->rank - 1] : 1,
                           .block_rows = facts->block_rows ? facts->block_rows : BLOCK_USUAL,
                           .block_columns = facts->block_columns ? facts->block_columns : BLOCK_USUAL,
                           .group_size = facts->group_size,
                           .allowed = allowed_layouts(d->ck, facts, d->scheme->name)};
    q->blocks_first =
        facts->block_rows || q->allowed == BLOCK || ends_with(scales, "_scale_inv") || ends_with(scales, ".scale");
}

/* ---- the readings ---- */

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Do both begin with the same `count` dimensions? */
static bool lead_alike(const struct tp_tensor *a, const struct tp_tensor *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return true;
}

/* Experts of Llama 4, X and X_scale: a matrix is [in, out] and has a scale for each column. Those of down_proj are
 * written [E, out, 1], as if the matrix were transposed; that one is square in some models, so it goes before
 * read_leading. */
static unsigned read_columns(struct tp_scale_grid *grid, const struct question *q)
{
    const uint64_t *shape = q->scales->shape;
    if (q->codes->rank != 3 || q->scales->rank != 3 || shape[0] != q->codes->shape[0] ||
        !ends_with(q->scales, "_scale") || ends_with(q->codes, ".weight"))
        return 0;
    if (!(shape[1] == 1 && shape[2] == q->columns) && !(shape[1] == q->columns && shape[2] == 1))
        return 0;
    *grid = (struct tp_scale_grid){q->rows, q->columns, q->rows, 1, 1, q->columns};
    return COLUMN;
}

/* The scales' shape, without ones at its end, is how the codes' begins: [], [1], [out], [out, 1], [E, 1, 1], [E, out,
 * 1]. Each has all that follows. */
static unsigned read_leading(struct tp_scale_grid *grid, const struct question *q)
{
    unsigned rank = q->scales->rank;
    while (rank > 0 && q->scales->shape[rank - 1] == 1)
        rank--;
    if (rank > 0 && (rank >= q->codes->rank || !lead_alike(q->scales, q->codes, rank)))
        return 0;
    uint64_t count = q->scales->elem_count, each = count ? q->codes->elem_count / count : 0;
    *grid = (struct tp_scale_grid){count, each, 1, each, count, 1};
    return (rank + 2u <= q->codes->rank || rank == 0 ? TENSOR : 0u) | (each == q->columns ? CHANNEL : 0u);
}

/* [out, in / group] */
static unsigned read_groups(struct tp_scale_grid *grid, const struct question *q)
{
    unsigned rank = q->codes->rank;
    if (rank < 2 || q->scales->rank != rank || !lead_alike(q->scales, q->codes, rank - 1))
        return 0;
    uint64_t count = q->scales->shape[rank - 1];
    if (count == 0 || q->columns == 0 || q->columns % count != 0 ||
        (q->group_size && q->columns / count != q->group_size))
        return 0;
    uint64_t rows = q->codes->elem_count / q->columns;
    *grid = (struct tp_scale_grid){rows, q->columns, 1, q->columns / count, rows, count};
    return GROUP;
}

/* [.., ceil(out / rows of a block), ceil(in / columns of a block)]; of modelopt [nb_out, 1, nb_in, 1], and [] for one
 * block. */
static unsigned read_blocks(struct tp_scale_grid *grid, const struct question *q)
{
    const struct tp_tensor *s = q->scales;
    unsigned rank = q->codes->rank;
    if (rank < 2)
        return 0;
    uint64_t down = ceil_div(q->rows, q->block_rows), across = ceil_div(q->columns, q->block_columns);
    bool plain = s->rank == rank && lead_alike(s, q->codes, rank - 2) && s->shape[rank - 2] == down &&
                 s->shape[rank - 1] == across;
    bool with_ones = rank == 2 && s->rank == 4 && s->shape[0] == down && s->shape[1] == 1 && s->shape[2] == across &&
                     s->shape[3] == 1;
    bool one = rank == 2 && s->elem_count == 1 && down == 1 && across == 1;
    /* transformers 4.57 lost the dimension of a single row or column of blocks */
    bool squeezed = rank == 2 && q->blocks_first && s->rank == 1 && (down == 1 || across == 1) &&
                    s->shape[0] == (down == 1 ? across : down);
    if (!plain && !with_ones && !one && !squeezed)
        return 0;
    *grid = (struct tp_scale_grid){q->rows, q->columns, q->block_rows, q->block_columns, down, across};
    return BLOCK;
}

static unsigned read_named_blocks(struct tp_scale_grid *grid, const struct question *q)
{
    return q->blocks_first ? read_blocks(grid, q) : 0;
}

/* ---- refusals ---- */

struct wish { /* "[5, 3] for blocks of 128 x 128 or ..." */
    char text[400];
    size_t used;
};

static void wish_add(struct wish *w, const char *text)
{
    int len = snprintf(w->text + w->used, sizeof w->text - w->used, "%s%s", w->used > 0 ? ", or " : "", text);
    w->used += len > 0 && (size_t)len < sizeof w->text - w->used ? (size_t)len : 0;
}

static void wish_add_blocks(struct wish *w, const struct question *q)
{
    char text[160];
    snprintf(text, sizeof text, "[%s%" PRIu64 ", %" PRIu64 "] for blocks of %" PRIu64 " x %" PRIu64,
             q->codes->rank > 2 ? ".., " : "", ceil_div(q->rows, q->block_rows), ceil_div(q->columns, q->block_columns),
             q->block_rows, q->block_columns);
    wish_add(w, text);
}

static void wish_add_groups(struct wish *w, const struct question *q)
{
    char text[160];
    if (q->group_size)
        snprintf(text, sizeof text, "[.., %" PRIu64 "] for groups of %" PRIu64, q->columns / q->group_size,
                 q->group_size);
    else
        snprintf(text, sizeof text, "[.., n] for n equal groups of %" PRIu64 " columns", q->columns);
    wish_add(w, text);
}

static void wish_add_rows(struct wish *w, const struct question *q)
{
    char text[160];
    snprintf(text, sizeof text, "[%s%" PRIu64 ", 1] for rows", q->codes->rank > 2 ? ".., " : "", q->rows);
    wish_add(w, text);
}

static enum tp_status refuse_choice(const struct question *q, struct tp_error *err)
{
    char has[TP_SHAPE_TEXT], codes[TP_SHAPE_TEXT];
    return tp_decoded_refuse(q->d, q->scales, err,
                             "scales of shape %s fit codes of shape %s in more than one of the %zu ways of quantising "
                             "that config.json allows",
                             tp_describe_shape(has, q->scales->shape, q->scales->rank),
                             tp_describe_shape(codes, q->codes->shape, q->codes->rank),
                             q->d->ck->quant.other_count + 1);
}

static enum tp_status refuse(const struct question *q, struct tp_error *err)
{
    char has[TP_SHAPE_TEXT], codes[TP_SHAPE_TEXT];
    struct wish w = {.used = 0};
    tp_describe_shape(has, q->scales->shape, q->scales->rank);
    tp_describe_shape(codes, q->codes->shape, q->codes->rank);
    if (q->scales->rank == 1 && q->codes->rank == 2 && q->scales->shape[0] > 1 && q->scales->shape[0] <= 8 &&
        (q->allowed & TENSOR) != 0)
        return tp_decoded_refuse(q->d, q->scales, err,
                                 "%" PRIu64 " scales for codes of shape %s: one for each of the modules fused in it, "
                                 "but which rows are whose is not said",
                                 q->scales->shape[0], codes);
    if (q->allowed & TENSOR)
        wish_add(&w, "[] for all");
    if (q->allowed & CHANNEL)
        wish_add_rows(&w, q);
    if (q->allowed & GROUP && q->codes->rank > 1)
        wish_add_groups(&w, q);
    if (q->allowed & BLOCK && q->codes->rank > 1)
        wish_add_blocks(&w, q);
    return tp_decoded_refuse(q->d, q->scales, err, "scales of shape %s do not fit codes of shape %s, which need %s%s",
                             has, codes, w.text, q->allowed == ANY ? "" : " (so says config.json)");
}
