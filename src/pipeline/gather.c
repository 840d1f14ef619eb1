/* SPDX-License-Identifier: MIT */
#include "pipeline/gather.h"

#include "base/least.h"
#include "base/status.h"
#include "pipeline/strided.h"

/* A part of a cut that fits a stage. In the stage elements lie in the order of the source, in rows of the innermost
 * loop. */
struct block {
    uint64_t src_first, position;
    uint64_t count[TP_GATHER_LOOPS_MAX]; /* of each loop */
    uint64_t row, rows;                  /* elements of one, and how many */
};

struct job {
    const struct tp_gathering *g;
    struct tp_axis *loops; /* by source stride, largest first; at least one */
    unsigned loop_count;
    uint64_t most[TP_GATHER_LOOPS_MAX]; /* steps of each loop in a block */
    unsigned item, result_item;         /* bytes of a value as read and as written */
    uint8_t *dst;
    size_t pitch, result_pitch; /* of rows in the stage */
};

/* ---- the order of loops ---- */

/* One that stays where it is (stride 0) comes first: what is inside it is read again. */
static bool comes_before(const struct tp_axis *a, const struct tp_axis *b)
{
    uint64_t first = a->src_stride - 1, second = b->src_stride - 1; /* 0 wraps to the largest */
    return first != second ? first > second : a->dst_stride > b->dst_stride;
}

static void sort_loops(struct tp_axis *loops, unsigned count)
{
    for (unsigned i = 1; i < count; i++)
        for (unsigned j = i; j > 0 && comes_before(&loops[j], &loops[j - 1]); j--) {
            struct tp_axis swap = loops[j];
            loops[j] = loops[j - 1];
            loops[j - 1] = swap;
        }
}

/* Loops that continue each other on both sides become one. */
static unsigned join_loops(struct tp_axis *loops, unsigned count)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        struct tp_axis *outer = kept ? &loops[kept - 1] : NULL;
        if (outer && outer->src_stride == loops[i].src_stride * loops[i].count &&
            outer->dst_stride == loops[i].dst_stride * loops[i].count)
            *outer = (struct tp_axis){outer->count * loops[i].count, loops[i].src_stride, loops[i].dst_stride};
        else
            loops[kept++] = loops[i];
    }
    return kept;
}

/* ---- the shape of blocks ---- */

#define READ_LONG 4096u  /* bytes: a system call costs about as much as copying this */
#define READ_BEST 16384u /* bytes */
#define READ_GAP 8192u   /* as much is copied in the time of a call */
#define LINE 64u         /* of the cache: shorter runs in the target are several times slower */

/* Let a loop take up to `want` steps in a block of at most `room` elements. */
static void widen(struct job *j, unsigned loop, uint64_t want, uint64_t room)
{
    uint64_t others = 1;
    for (unsigned i = 0; i < j->loop_count; i++)
        others *= i == loop ? 1 : j->most[i];
    uint64_t steps = tp_smaller(tp_smaller(want, room / others), j->loops[loop].count);
    if (steps > j->most[loop])
        j->most[loop] = steps;
}

/* As many parts as it takes, but of about one size; where it matters to the cache, of whole lines. */
static void even_out(struct job *j, unsigned loop, uint64_t line)
{
    uint64_t count = j->loops[loop].count, most = j->most[loop];
    uint64_t even = tp_parts(count, tp_parts(count, most));
    uint64_t lines = tp_parts(even, line) * line;
    j->most[loop] = lines <= most ? lines : even;
}

/* Widen the loops that together are one run of the source, until it has `want` elements. */
static void widen_reads(struct job *j, unsigned first, uint64_t want, uint64_t room)
{
    uint64_t run = j->loops[j->loop_count - 1].src_stride;
    for (unsigned i = j->loop_count; i-- > first && j->loops[i].src_stride == run && run < want;) {
        widen(j, i, tp_parts(want, run), room);
        if (j->most[i] < j->loops[i].count)
            return;
        run *= j->loops[i].count;
    }
}

/* Reads want long runs of the source, writes long runs of the target: a block has something of both. `first`: of the
 * loops that move in the source. */
static void choose_shape(struct job *j, unsigned first, uint64_t room)
{
    unsigned reads = j->loop_count - 1, writes = reads;
    for (unsigned i = first; i < j->loop_count; i++)
        writes = j->loops[i].dst_stride < j->loops[writes].dst_stride ? i : writes;
    widen_reads(j, first, READ_LONG / j->item, room);
    widen(j, writes, LINE / j->result_item, room);
    widen_reads(j, first, READ_BEST / j->item, room);
    widen(j, writes, UINT64_MAX, room);
    for (unsigned i = j->loop_count; i-- > first;)
        widen(j, i, UINT64_MAX, room);
    for (unsigned i = first; i < j->loop_count; i++)
        even_out(j, i, i == reads ? LINE / j->item : i == writes ? LINE / j->result_item : 1);
}

static void choose_blocks(struct job *j)
{
    unsigned widest = j->item > j->result_item ? j->item : j->result_item, first = 0;
    uint64_t room = j->g->stage.size_bytes / widest;
    bool is_stream = !j->g->logical->decoded && j->g->logical->tensor->chunks;
    room = room ? room : 1;
    for (unsigned i = 0; i < j->loop_count; i++) {
        j->most[i] = 1;
        first += j->loops[i].src_stride == 0;
    }
    if (first == j->loop_count)
        return;
    if (!is_stream)
        choose_shape(j, first, room);
    for (unsigned i = j->loop_count; is_stream && i-- > first;) { /* read forward: blocks are runs of it */
        widen(j, i, UINT64_MAX, room);
        if (j->most[i] < j->loops[i].count)
            break;
    }
}

/* ---- reading a block ---- */

/* How a block is read: all of the loops from `inside` on at once, and `group` steps of the one before. */
struct reads {
    unsigned inside;
    uint64_t group;
    uint64_t span, group_span; /* elements of the source from the first to the last */
    bool has_gaps;
};

/* Reading what lies between is cheaper than another call, unless it is much, or what is wanted is long. */
static struct reads plan_reads(const struct job *j, const struct block *b)
{
    struct reads r = {.inside = j->loop_count, .group = 1, .span = 1};
    uint64_t raw_elems = j->g->stage.raw_bytes / j->item;
    for (; r.inside > 0; r.inside--) {
        const struct tp_axis *loop = &j->loops[r.inside - 1];
        uint64_t count = b->count[r.inside - 1];
        if (count == 1)
            continue;
        if (loop->src_stride < r.span)
            break;
        uint64_t gap = loop->src_stride - r.span;
        bool is_dense = gap < READ_GAP / j->item && (gap == 0 || r.span * j->item < READ_LONG);
        bool has_gaps = r.has_gaps || gap > 0;
        uint64_t span = (count - 1) * loop->src_stride + r.span;
        if (!is_dense || (has_gaps && r.span > raw_elems))
            break;
        if (has_gaps && span > raw_elems) {
            r.group = (raw_elems - r.span) / loop->src_stride + 1;
            r.has_gaps = r.has_gaps || (gap > 0 && r.group > 1);
            break;
        }
        r.has_gaps = has_gaps;
        r.span = span;
    }
    r.group_span = r.span + (r.group > 1 ? (r.group - 1) * j->loops[r.inside - 1].src_stride : 0);
    return r;
}

/* Bytes in the stage from one step of each loop to the next. */
static void stage_strides(const struct job *j, const struct block *b, size_t item, size_t pitch, size_t *strides)
{
    unsigned last = j->loop_count - 1;
    strides[last] = item;
    for (unsigned i = last; i-- > 0;)
        strides[i] = i + 1 == last ? pitch : strides[i + 1] * (size_t)b->count[i + 1];
}

/* `steps` of the loop before those that are inside, from element `first` of the source on, to their place at `to`. */
static enum tp_status read_once(const struct job *j, const struct block *b, const struct reads *r, uint64_t first,
                                uint64_t steps, uint8_t *to, const size_t *strides, struct tp_error *err)
{
    const struct tp_gathering *g = j->g;
    struct tp_stride copy[TP_STRIDED_LOOPS_MAX];
    unsigned count = 0;
    if (!r->has_gaps)
        return tp_logical_read(g->reader, g->logical, first, r->span, to, err);
    uint64_t span = r->span + (steps > 1 ? (steps - 1) * j->loops[r->inside - 1].src_stride : 0);
    enum tp_status st = tp_logical_read(g->reader, g->logical, first, span, g->stage.raw, err);
    if (st)
        return st;
    for (unsigned i = r->inside - (steps > 1); i < j->loop_count; i++)
        copy[count++] = (struct tp_stride){(size_t)(i < r->inside ? steps : b->count[i]),
                                           (size_t)j->loops[i].src_stride * j->item, strides[i]};
    tp_strided_copy(g->values.kernels, to, g->stage.raw, copy, count, j->item);
    return TP_OK;
}

static enum tp_status read_block(struct job *j, const struct block *b, struct tp_error *err)
{
    struct reads r = plan_reads(j, b);
    uint64_t at[TP_GATHER_LOOPS_MAX] = {0}, src = b->src_first;
    size_t strides[TP_GATHER_LOOPS_MAX];
    uint8_t *to = j->g->stage.source;
    stage_strides(j, b, j->item, j->pitch, strides);
    for (;;) {
        unsigned i = r.inside; /* steps of loop i - 1 are taken, then of those before it */
        uint64_t steps = i > 0 ? tp_smaller(r.group, b->count[i - 1] - at[i - 1]) : 1;
        enum tp_status st = read_once(j, b, &r, src, steps, to, strides, err);
        if (st)
            return st;
        for (; i > 0; i--, steps = 1) {
            const struct tp_axis *loop = &j->loops[i - 1];
            at[i - 1] += steps;
            src += steps * loop->src_stride;
            to += steps * strides[i - 1];
            if (at[i - 1] < b->count[i - 1])
                break;
            src -= at[i - 1] * loop->src_stride;
            to -= at[i - 1] * strides[i - 1];
            at[i - 1] = 0;
        }
        if (i == 0)
            return TP_OK;
    }
}

/* ---- one block ---- */

/* Rows that are a power of two apart meet in a few lines of the cache. */
static size_t pitch_of(size_t row_bytes, bool may_pad)
{
    return may_pad && row_bytes >= 512 && row_bytes % 512 == 0 ? row_bytes + 64 : row_bytes;
}

static void set_pitches(struct job *j, const struct block *b)
{
    unsigned last = j->loop_count - 1;
    bool continues = last > 0 && j->loops[last].src_stride * b->count[last] == j->loops[last - 1].src_stride;
    bool may_pad = b->rows > 1 && !continues; /* rows that lie together are read at once */
    j->pitch = pitch_of((size_t)b->row * j->item, may_pad);
    j->result_pitch = pitch_of((size_t)b->row * j->result_item, may_pad);
}

static unsigned part_of(const struct tp_gathering *g, uint64_t position)
{
    unsigned low = 0, high = g->bound_count; /* in [low, high] */
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (g->bounds[middle] <= position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* One row, what lies in each part apart. */
static void make_row(const struct job *j, uint8_t *result, uint8_t *source, uint64_t position, uint64_t count)
{
    const struct tp_gathering *g = j->g;
    uint64_t step = j->loops[j->loop_count - 1].dst_stride;
    for (uint64_t n; count > 0; count -= n) {
        unsigned part = part_of(g, position);
        bool is_last = part == g->bound_count || step == 0;
        n = is_last ? count : tp_smaller(count, tp_parts(g->bounds[part] - position, step));
        tp_values_make(&g->values, result, source, (size_t)n, &g->seen[part]);
        result += n * j->result_item;
        source += n * j->item;
        position += n * step;
    }
}

static void make_parts(const struct job *j, const struct block *b, uint8_t *result)
{
    uint64_t at[TP_GATHER_LOOPS_MAX] = {0}, position = b->position;
    for (uint64_t row = 0; row < b->rows; row++) {
        make_row(j, result + row * j->result_pitch, j->g->stage.source + row * j->pitch, position, b->row);
        for (unsigned i = j->loop_count - 1; i-- > 0;) {
            position += j->loops[i].dst_stride;
            if (++at[i] < b->count[i])
                break;
            position -= at[i] * j->loops[i].dst_stride;
            at[i] = 0;
        }
    }
}

static const uint8_t *make_values(const struct job *j, const struct block *b)
{
    const struct tp_gathering *g = j->g;
    bool stays = g->values.from == g->values.to;
    uint8_t *result = stays ? g->stage.source : g->stage.result;
    bool is_whole = j->pitch == b->row * j->item && j->result_pitch == b->row * j->result_item;
    uint64_t calls = is_whole ? 1 : b->rows, n = is_whole ? b->rows * b->row : b->row;
    if (g->bound_count > 0) {
        make_parts(j, b, result);
        return result;
    }
    for (uint64_t i = 0; i < calls; i++)
        tp_values_make(&g->values, result + i * j->result_pitch, g->stage.source + i * j->pitch, (size_t)n, g->seen);
    return result;
}

static enum tp_status do_block(struct job *j, struct block *b, struct tp_error *err)
{
    unsigned last = j->loop_count - 1;
    struct tp_stride copy[TP_STRIDED_LOOPS_MAX];
    size_t strides[TP_GATHER_LOOPS_MAX];
    b->row = b->count[last];
    b->rows = 1;
    for (unsigned i = 0; i < last; i++)
        b->rows *= b->count[i];
    set_pitches(j, b);
    enum tp_status st = read_block(j, b, err);
    if (st)
        return st;
    const uint8_t *result = make_values(j, b);
    stage_strides(j, b, j->result_item, j->result_pitch, strides);
    for (unsigned i = 0; i < j->loop_count; i++)
        copy[i] = (struct tp_stride){(size_t)b->count[i], strides[i], (size_t)j->loops[i].dst_stride * j->result_item};
    tp_strided_copy(j->g->values.kernels, j->dst + b->position * j->result_item, result, copy, j->loop_count,
                    j->result_item);
    return TP_OK;
}

enum tp_status tp_gather(const struct tp_gathering *g, struct tp_cut *cut, uint8_t *dst, struct tp_error *err)
{
    struct job j = {.g = g, .loops = cut->loops, .dst = dst};
    struct block b = {.src_first = cut->src_first, .position = cut->position};
    uint64_t at[TP_GATHER_LOOPS_MAX] = {0};
    j.item = tp_dtype_bits((enum tp_dtype)g->values.from) / 8;
    j.result_item = tp_dtype_bits((enum tp_dtype)g->values.to) / 8;
    sort_loops(cut->loops, cut->loop_count);
    j.loop_count = join_loops(cut->loops, cut->loop_count);
    if (j.loop_count == 0)
        cut->loops[j.loop_count++] = (struct tp_axis){1, 1, 1};
    choose_blocks(&j);
    for (;;) {
        unsigned i = j.loop_count;
        for (unsigned k = 0; k < j.loop_count; k++)
            b.count[k] = tp_smaller(j.most[k], j.loops[k].count - at[k]);
        enum tp_status st = g->is_stopped(g->user) ? tp_fail(err, TP_ERR_CANCELLED, "cancelled") : TP_OK;
        if (!st)
            st = do_block(&j, &b, err);
        if (st)
            return st;
        for (; i > 0; i--) {
            const struct tp_axis *loop = &j.loops[i - 1];
            uint64_t steps = b.count[i - 1];
            at[i - 1] += steps;
            b.src_first += steps * loop->src_stride;
            b.position += steps * loop->dst_stride;
            if (at[i - 1] < loop->count)
                break;
            b.src_first -= at[i - 1] * loop->src_stride;
            b.position -= at[i - 1] * loop->dst_stride;
            at[i - 1] = 0;
        }
        if (i == 0)
            return TP_OK;
    }
}
