/* SPDX-License-Identifier: MIT */
#include "pipeline/make.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/least.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "os/host.h"
#include "pipeline/restore.h"
#include "plan/piece.h"

#define LINE ((size_t)64) /* of the processor's cache */

/* ---- memory ---- */

static bool has_grids(const struct tp_plan *plan)
{
    for (size_t i = 0; i < plan->array_count; i++)
        if (plan->arrays[i].grid)
            return true;
    return false;
}

static bool has_pieced_arrays(const struct tp_plan *plan)
{
    for (size_t i = 0; i < plan->array_count; i++)
        if (tp_array_is_pieced(&plan->arrays[i]))
            return true;
    return false;
}

bool tp_maker_init(struct tp_maker *maker, const struct tp_plan *plan, const struct tp_checkpoint *source,
                   const struct tp_kernels *kernels, struct tp_maker_sizes sizes)
{
    *maker = (struct tp_maker){.plan = plan,
                               .kernels = kernels,
                               .reader = {.ck = source, .kernels = kernels},
                               .piece_bytes = sizes.piece_bytes,
                               .gathered = TP_NONE};
    struct tp_reader_state *reader = &maker->reader;
    bool ok = (maker->in = tp_host_alloc_aligned(sizes.piece_bytes + LINE)) != NULL;
    tp_maker_begin(maker);
    if (ok && plan->decoded_count > 0) {
        reader->scratch.size_bytes =
            sizes.scratch_bytes > TP_SCRATCH_MIN_BYTES ? sizes.scratch_bytes : TP_SCRATCH_MIN_BYTES;
        ok = (reader->scratch.bytes = tp_host_alloc_aligned(reader->scratch.size_bytes)) != NULL;
    }
    if (ok && plan->chunked_count > 0)
        ok = (reader->chunks = tp_chunk_reader_new(sizes.chunk_bytes)) != NULL;
    if (ok && has_grids(plan))
        ok = (reader->window = malloc(TP_ROWS_WINDOW_BYTES)) != NULL;
    if (ok && sizes.tile_bytes > 0 && has_pieced_arrays(plan))
        ok = tp_tile_init(&maker->tile, sizes.tile_bytes);
    return ok;
}

void tp_maker_release(struct tp_maker *maker)
{
    tp_tile_release(&maker->tile);
    free(maker->reader.window);
    tp_chunk_reader_free(maker->reader.chunks);
    tp_host_free_aligned(maker->reader.scratch.bytes, maker->reader.scratch.size_bytes);
    tp_host_free_aligned(maker->in, maker->piece_bytes + LINE);
}

void tp_maker_begin(struct tp_maker *maker)
{
    tp_result_init(&maker->seen);
    if (maker->tile.extent_count < 2) /* what a tile holds is counted where it was made; of a band, where it is used */
        maker->tile.extent = NULL;
}

/* ---- rows ---- */

/* Rows of contiguous elements of one logical tensor, each `stride` behind the one before. */
struct rows {
    const struct tp_piece *piece;
    uint64_t first, elem_count, stride, row_count;
};

uint64_t tp_maker_limit(const struct tp_maker *maker, const struct tp_array *a, size_t room)
{
    unsigned item = tp_array_item_bytes(a), widest = 0;
    uint64_t piece = maker->piece_bytes;
    uint64_t limit = room < piece ? (room + item - 1) / item : piece / item;
    for (uint32_t i = 0; i < a->piece_count; i++) {
        unsigned bits = tp_dtype_bits((enum tp_dtype)a->pieces[i].source_dtype);
        widest = a->pieces[i].op == TP_OP_CAST && bits > widest ? bits : widest;
    }
    return widest > 0 ? tp_smaller(limit, piece * 8 / widest) : limit;
}

/* The kernel copies twice as fast between addresses that are alike in a cache line: where a source's byte lies in its
 * file is where it is put in the buffer. */
static size_t source_shift(const struct tp_logical *l, uint64_t first)
{
    if (l->decoded || l->tensor->chunks)
        return 0;
    uint64_t offset = l->tensor->extents[0].offset_bytes + first * tp_dtype_bits((enum tp_dtype)l->tensor->dtype) / 8;
    return (size_t)(offset % LINE);
}

/* Two codes share a byte, and a row may begin and end at either: what lies beside it is read with it. */
static enum tp_status unpack_rows(struct tp_maker *m, const struct tp_logical *l, const struct rows *r, uint8_t *dst,
                                  struct tp_error *err)
{
    bool is_dense = r->stride == r->elem_count;
    uint64_t rows = is_dense ? 1 : r->row_count, count = is_dense ? r->elem_count * r->row_count : r->elem_count;
    for (uint64_t i = 0, first = r->first; i < rows; i++, first += r->stride, dst += count) {
        uint64_t low = first / 2 * 2, high = (first + count + 1) / 2 * 2;
        enum tp_status st = tp_logical_read(&m->reader, l, low, high - low, m->in, err);
        if (st)
            return st;
        tp_values_unpack_f4(m->kernels, dst, m->in, (unsigned)(first - low), (size_t)count);
    }
    return TP_OK;
}

static enum tp_status make_rows(struct tp_maker *m, const struct tp_array *a, const struct rows *r, uint8_t *dst,
                                struct tp_error *err)
{
    const struct tp_piece *p = r->piece;
    const struct tp_logical *l = &m->plan->logicals[p->logical];
    uint8_t *in = m->in + source_shift(l, r->first);
    size_t n = (size_t)(r->elem_count * r->row_count);
    bool is_odd = l->decoded && p->source_dtype == TP_F32 &&
                  (uintptr_t)dst % sizeof(float) != 0; /* payloads begin at any byte, floats do not */
    uint8_t *target = p->op == TP_OP_COPY && !is_odd ? dst : in;
    struct tp_values values;
    if (p->op == TP_OP_UNPACK_F4)
        return unpack_rows(m, l, r, dst, err);
    enum tp_status st = tp_values_of(&values, a, p, m->kernels, m->saturate, err);
    if (st)
        return st;
    if (p->op == TP_OP_CAST && !p->arithmetic && (r->row_count == 1 || r->stride == r->elem_count) &&
        tp_logical_read_cast(&m->reader, l, r->first, n, (enum tp_dtype)a->dtype, dst, m->saturate, &m->seen.stats, &st,
                             err))
        return st;
    st = tp_logical_read_rows(&m->reader, l, r->first, r->elem_count, r->stride, r->row_count, target, err);
    if (!st)
        tp_values_make(&values, dst, target, n, &m->seen);
    return st;
}

/* What of a chunk begins at its element `at`, in the order of its bytes: at most `limit` elements. */
static struct rows chunk_rows(const struct tp_gather *g, uint64_t at, uint64_t limit)
{
    unsigned inner = g->loop_count;
    uint64_t row = 1, rest = at, index = 0;
    if (inner > 0 && g->loops[inner - 1].stride == 1)
        row = g->loops[--inner].count;
    struct rows r = {.piece = g->piece, .first = g->src_first + rest % row, .row_count = 1};
    uint64_t skip = rest % row;
    rest /= row;
    for (unsigned i = inner; i-- > 0; rest /= g->loops[i].count) {
        r.first += rest % g->loops[i].count * g->loops[i].stride;
        if (i + 1 == inner)
            index = rest % g->loops[i].count;
    }
    r.elem_count = r.stride = row - skip < limit ? row - skip : limit;
    if (skip == 0 && inner > 0 && limit >= 2 * row) { /* whole rows, as many as the innermost loop still has */
        uint64_t left = g->loops[inner - 1].count - index;
        r.stride = g->loops[inner - 1].stride;
        r.row_count = left < limit / row ? left : limit / row;
    }
    return r;
}

/* The next elements of an extent that needs no tile, from the at-th on. */
static enum tp_status next_rows(const struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, uint64_t limit,
                                struct rows *rows, struct tp_error *err)
{
    const struct tp_array *a = &m->plan->arrays[e->array];
    struct tp_run run;
    if (a->grid && m->has_gather) {
        *rows = chunk_rows(&m->gather, at, limit);
        return TP_OK;
    }
    if (a->grid || !tp_array_run_at(a, e->first_elem + at, limit, &run))
        return tp_fail(err, TP_ERR_BUG, "no piece holds element %" PRIu64, e->first_elem + at);
    *rows = (struct rows){run.piece, run.src_elem, run.elem_count, run.elem_count, 1};
    return TP_OK;
}

/* ---- tiles ---- */

/* Whether an extent is made through a tile. */
static bool is_tiled(struct tp_maker *m, const struct tp_out_extent *e)
{
    const struct tp_array *a = &m->plan->arrays[e->array];
    uint32_t number = (uint32_t)(e - m->plan->extents);
    if (a->grid && m->gathered != number) {
        m->has_gather = tp_box_gather(&m->gather, a, e->leaf);
        m->gathered = number;
    }
    return m->tile.memory && tp_tile_pays(&m->tile, a, a->grid && m->has_gather ? &m->gather : NULL);
}

/* How many extents a tile that begins with this one should have: those of a band, if one piece holds all of it. */
static uint32_t band_of(struct tp_maker *m, const struct tp_out_extent *e)
{
    const struct tp_array *a = &m->plan->arrays[e->array];
    struct tp_gather last;
    if (!a->grid || !m->has_gather)
        return 1;
    uint32_t count = tp_band_chunks(m->plan, e, m->tile.size_bytes / tp_array_item_bytes(a));
    if (count == 1 || (tp_box_gather(&last, a, e[count - 1].leaf) && last.piece == m->gather.piece))
        return count;
    return 1;
}

static struct tp_tile_job tile_job(struct tp_maker *m)
{
    return (struct tp_tile_job){.plan = m->plan,
                                .kernels = m->kernels,
                                .reader = &m->reader,
                                .extent_count = 1,
                                .seen = &m->seen,
                                .saturate = m->saturate,
                                .raw = m->in,
                                .raw_bytes = m->piece_bytes,
                                .is_stopped = m->is_stopped,
                                .user = m->user};
}

static enum tp_status make_tile(struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, struct tp_error *err)
{
    const struct tp_array *a = &m->plan->arrays[e->array];
    uint64_t step = TP_BLOCK_BYTES / tp_array_item_bytes(a), limit = (at / step + 1) * step;
    struct tp_tile_job job = tile_job(m);
    job.gather = a->grid && m->has_gather ? &m->gather : NULL;
    job.extent_count = at == 0 ? band_of(m, e) : 1;
    limit = job.extent_count > 1 ? job.extent_count * e->elem_count : tp_smaller(limit, e->elem_count);
    return tp_tile_make(&m->tile, &job, e, at, limit, err);
}

enum tp_status tp_make_box(struct tp_maker *m, const struct tp_array *a, const struct tp_view *box,
                           struct tp_result *seen, const uint64_t *bounds, unsigned bound_count, const uint8_t **made,
                           struct tp_error *err)
{
    struct tp_tile_job job = tile_job(m);
    job.seen = seen;
    job.bounds = bounds;
    job.bound_count = bound_count;
    *made = m->tile.bytes;
    return tp_tile_make_box(&m->tile, &job, a, box, err);
}

/* *made: where elements lie, or NULL, where no tile is used. */
static enum tp_status find_in_tile(struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, uint64_t *count,
                                   const uint8_t **made, struct tp_error *err)
{
    const struct tp_array *a = &m->plan->arrays[e->array];
    const struct tp_tile *t = &m->tile;
    *made = NULL;
    if (!is_tiled(m, e))
        return TP_OK;
    uint64_t position = tp_tile_has(t, e) ? tp_tile_position(t, a, e, at) : UINT64_MAX;
    if (position < t->first || position >= t->end) {
        enum tp_status st = make_tile(m, e, at, err);
        if (st)
            return st;
        position = tp_tile_position(t, a, e, at);
    }
    if (t->extent_count > 1 && at == 0)
        tp_result_merge(&m->seen, &t->seen[e - t->extent]);
    *count = tp_smaller(*count, t->end - position);
    *made = t->bytes + (position - t->first) * tp_array_item_bytes(a);
    return TP_OK;
}

static enum tp_status make_next_rows(struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, uint64_t *count,
                                     uint8_t *dst, struct tp_error *err)
{
    struct rows rows = {.piece = NULL};
    enum tp_status st = next_rows(m, e, at, *count, &rows, err);
    if (st)
        return st;
    *count = rows.elem_count * rows.row_count;
    return make_rows(m, &m->plan->arrays[e->array], &rows, dst, err);
}

static enum tp_status move_elements(struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, uint64_t count,
                                    uint8_t *dst, struct tp_error *err)
{
    unsigned item = tp_array_item_bytes(&m->plan->arrays[e->array]);
    for (uint64_t n; count > 0; dst += n * item, at += n, count -= n) {
        const uint8_t *made;
        n = count;
        enum tp_status st = find_in_tile(m, e, at, &n, &made, err);
        if (!st && made)
            memcpy(dst, made, (size_t)n * item);
        else if (!st)
            st = make_next_rows(m, e, at, &n, dst, err);
        if (st)
            return st;
    }
    return TP_OK;
}

/* ---- either way ---- */

enum tp_status tp_make(struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, uint64_t count, uint8_t *dst,
                       struct tp_error *err)
{
    const struct tp_array *a = &m->plan->arrays[e->array];
    enum tp_status st = move_elements(m, e, at, count, dst, err);
    if (!st && a->restore)
        st = tp_restore_elements(m->kernels, a, e->first_elem + at, count, dst, m->in, m->piece_bytes, err);
    return st;
}

enum tp_status tp_make_in_tile(struct tp_maker *m, const struct tp_out_extent *e, uint64_t at, uint64_t *count,
                               const uint8_t **made, struct tp_error *err)
{
    *made = NULL;
    return m->plan->arrays[e->array].restore ? TP_OK : find_in_tile(m, e, at, count, made, err);
}
