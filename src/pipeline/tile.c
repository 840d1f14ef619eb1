/* SPDX-License-Identifier: MIT */
#include "pipeline/tile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/least.h"
#include "base/status.h"
#include "os/host.h"

/* ---- memory ---- */

static size_t stage_bytes(size_t memory_bytes)
{
    return memory_bytes / 16 < TP_STAGE_BEST ? memory_bytes / 16 : TP_STAGE_BEST;
}

static size_t stage_alloc(size_t memory_bytes)
{
    return tp_stage_alloc_bytes(stage_bytes(memory_bytes)) / 64 * 64;
}

size_t tp_tile_room_bytes(size_t memory_bytes)
{
    return memory_bytes - 2 * stage_alloc(memory_bytes);
}

bool tp_tile_init(struct tp_tile *tile, size_t memory_bytes)
{
    size_t alloc = stage_alloc(memory_bytes);
    *tile = (struct tp_tile){.memory = tp_host_alloc_aligned(memory_bytes), .memory_bytes = memory_bytes};
    tile->seen = calloc(TP_BAND_CHUNKS_MAX, sizeof *tile->seen);
    tile->bounds = calloc(TP_BAND_CHUNKS_MAX, sizeof *tile->bounds);
    if (!tile->memory || !tile->seen || !tile->bounds)
        return false;
    tile->stage = (struct tp_stage){
        .source = tile->memory, .result = tile->memory + alloc, .size_bytes = stage_bytes(memory_bytes)};
    tile->bytes = tile->memory + 2 * alloc;
    tile->size_bytes = tp_tile_room_bytes(memory_bytes);
    return true;
}

void tp_tile_release(struct tp_tile *tile)
{
    tp_host_free_aligned(tile->memory, tile->memory_bytes);
    free(tile->seen);
    free(tile->bounds);
    *tile = (struct tp_tile){.memory = NULL};
}

bool tp_array_is_pieced(const struct tp_array *array)
{
    return array->elem_count > 0 && (array->piece_count != 1 || array->pieces[0].axis_count > 0 || array->has_holes);
}

uint64_t tp_tile_memory_wanted(const struct tp_plan *plan)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < plan->array_count; i++) { /* asked before there are extents */
        const struct tp_array *a = &plan->arrays[i];
        unsigned item = tp_array_item_bytes(a);
        if (tp_array_is_pieced(a))
            largest = tp_larger(largest, tp_smaller(a->elem_count, TP_BLOCK_BYTES / item) * item);
    }
    if (largest == 0)
        return 0;
    uint64_t wanted = TP_TILE_MEMORY_MIN + largest + largest / 4; /* room for the stages */
    return tp_smaller(wanted, TP_TILE_MEMORY_BEST);
}

/* ---- whether it pays ---- */

#define RUN_LONG 4096u /* bytes that are read at once as well without a tile */
#define ROW_MIN 64u    /* shorter ones are dear to copy row by row, whatever their order */

static bool has_packed_codes(const struct tp_array *a)
{
    for (uint32_t i = 0; i < a->piece_count; i++)
        if (tp_dtype_bits((enum tp_dtype)a->pieces[i].source_dtype) < 8 || a->pieces[i].op == TP_OP_UNPACK_F4)
            return true;
    return tp_dtype_bits((enum tp_dtype)a->dtype) < 8;
}

static bool has_short_runs(const struct tp_array *a)
{
    for (uint32_t i = 0; i < a->piece_count; i++)
        if (a->pieces[i].run_elems < RUN_LONG * 8 / tp_dtype_bits((enum tp_dtype)a->pieces[i].source_dtype))
            return true;
    return false;
}

/* Rows of one chunk are as good as a tile if they are long, or at least come in the order of the source. */
static bool has_good_rows(const struct tp_gather *g)
{
    unsigned outer = g->loop_count;
    uint64_t row = 1, bits = tp_dtype_bits((enum tp_dtype)g->piece->source_dtype);
    if (outer == 0)
        return true;
    if (g->loops[outer - 1].stride == 1)
        row = g->loops[--outer].count;
    if (outer == 0 || row * bits / 8 >= RUN_LONG)
        return true;
    bool falls = g->loops[outer - 1].stride >= row;
    for (unsigned i = 1; i < outer; i++)
        falls = falls && g->loops[i - 1].stride > g->loops[i].stride;
    return falls && row * bits / 8 >= ROW_MIN;
}

bool tp_array_is_scattered(const struct tp_array *array)
{
    return tp_array_is_pieced(array) && !has_packed_codes(array) &&
           (array->has_holes || array->grid || has_short_runs(array));
}

bool tp_tile_pays(struct tp_tile *tile, const struct tp_array *array, const struct tp_gather *gather)
{
    if (tile->judged != array) {
        tile->judged = array;
        tile->is_scattered = tp_array_is_scattered(array);
    }
    return tile->is_scattered && !(gather && has_good_rows(gather));
}

/* ---- which range ---- */

#define STEPS_EVEN 64u /* along the axis that is cut: the source's runs are then whole lines of the cache */

/* Where a tile that begins at `at` ends: as far as there is room, but parts of about one size; behind a whole row (one
 * index of the slowest axis of which an index fits), and where more rows follow, behind an even number of them. */
static uint64_t choose_end(const struct tp_view *view, uint64_t at, uint64_t limit, uint64_t room)
{
    unsigned k = 0;
    if (view->rank == 0)
        return limit;
    while (k + 1 < view->rank && view->volume[k] > room)
        k++;
    uint64_t row = view->volume[k], run = row * view->length[k], run_begin = at / run * run;
    uint64_t end = tp_smaller(limit, run_begin + run);
    if (end - at <= room)
        return end;
    uint64_t parts = (end - at + room - 1) / room, even = at + (end - at + parts - 1) / parts;
    uint64_t rows = (even - run_begin + row - 1) / row, more = (rows + STEPS_EVEN - 1) / STEPS_EVEN * STEPS_EVEN;
    uint64_t candidates[] = {run_begin + more * row, run_begin + (more - STEPS_EVEN) * row, run_begin + rows * row,
                             run_begin + (rows - 1) * row};
    for (unsigned i = 0; i < 4; i++)
        if (candidates[i] > at && candidates[i] <= end && candidates[i] - at <= room)
            return candidates[i];
    return even;
}

/* ---- making one ---- */

struct making {
    struct tp_tile *tile;
    const struct tp_tile_job *job;
    const struct tp_array *array;
    struct tp_view view;
    uint64_t low, high; /* the array's elements that the tile has lie in [low, high] */
    uint64_t made;
};

static void fill(uint8_t *dst, uint64_t count, unsigned item, uint64_t value)
{
    uint8_t element[16] = {0};
    for (unsigned i = 0; i < sizeof value; i++)
        element[i] = (uint8_t)(value >> 8 * i);
    if (value == 0)
        memset(dst, 0, (size_t)count * item);
    for (uint64_t i = 0; i < count && value != 0; i++)
        memcpy(dst + i * item, element, item);
}

/* The first and the last element of the array, row-major, that the boxes hold. */
static void find_bounds(struct making *m)
{
    struct tp_box_walk walk;
    struct tp_range_box box;
    m->low = UINT64_MAX;
    m->high = 0;
    tp_box_walk_begin(&walk, &m->view, m->tile->first, m->tile->end);
    while (tp_box_walk_next(&walk, &box)) {
        uint64_t low = 0, high = 0;
        for (unsigned d = 0; d < m->view.rank; d++) {
            low = low * m->view.shape[d] + box.low[d];
            high = high * m->view.shape[d] + box.high[d] - 1;
        }
        m->low = tp_smaller(low, m->low);
        m->high = tp_larger(high, m->high);
    }
}

static enum tp_status gather_piece(struct making *m, const struct tp_piece *piece, struct tp_error *err)
{
    const struct tp_tile_job *job = m->job;
    struct tp_stepped stepped;
    struct tp_box_walk boxes;
    struct tp_range_box box;
    struct tp_gathering g = {.reader = job->reader,
                             .logical = &job->plan->logicals[piece->logical],
                             .stage = m->tile->stage,
                             .seen = job->seen,
                             .bounds = job->bounds,
                             .bound_count = job->bound_count,
                             .is_stopped = job->is_stopped,
                             .user = job->user};
    enum tp_status st = tp_values_of(&g.values, m->array, piece, job->kernels, job->saturate, err);
    if (st)
        return st;
    g.stage.raw = job->raw;
    g.stage.raw_bytes = job->raw_bytes;
    if (!tp_stepped_of_piece(&stepped, &m->view, piece))
        return tp_fail(err, TP_ERR_BUG, "a piece that begins at element %" PRIu64 " has loops that do not nest",
                       piece->dst_first);
    tp_box_walk_begin(&boxes, &m->view, m->tile->first, m->tile->end);
    while (!st && tp_box_walk_next(&boxes, &box)) {
        struct tp_cut_walk cuts;
        struct tp_cut cut;
        tp_cut_walk_begin(&cuts, &m->view, &stepped, &box);
        while (!st && tp_cut_walk_next(&cuts, &cut)) {
            m->made += cut.elem_count;
            cut.position -= m->tile->first;
            st = tp_gather(&g, &cut, m->tile->bytes, err);
        }
    }
    return st;
}

/* The last element of the array that a piece may hold. */
static uint64_t last_elem(const struct tp_piece *piece)
{
    uint64_t last = piece->dst_first + piece->run_elems - 1;
    for (uint32_t i = 0; i < piece->axis_count; i++)
        last += (piece->axes[i].count - 1) * piece->axes[i].dst_stride;
    return last;
}

/* Pieces are in the order of their first elements: those from the cursor to the last that begins within the bounds. */
static enum tp_status gather_pieces(struct making *m, struct tp_error *err)
{
    struct tp_tile *t = m->tile;
    const struct tp_array *a = m->array;
    enum tp_status st = TP_OK;
    if (m->low < t->seen_from)
        t->cursor = 0;
    t->seen_from = m->low;
    while (t->cursor < a->piece_count && last_elem(&a->pieces[t->cursor]) < m->low)
        t->cursor++;
    for (uint32_t i = t->cursor; i < a->piece_count && a->pieces[i].dst_first <= m->high && !st; i++)
        if (last_elem(&a->pieces[i]) >= m->low)
            st = gather_piece(m, &a->pieces[i], err);
    return st;
}

bool tp_view_fits(const struct tp_view *view, const struct tp_array *a)
{
    struct tp_stepped stepped;
    for (uint32_t i = 0; i < a->piece_count; i++)
        if (!tp_stepped_of_piece(&stepped, view, &a->pieces[i]))
            return false;
    return true;
}

static void see_array(struct tp_tile *t, const struct tp_array *a)
{
    struct tp_view view;
    if (t->array == a)
        return;
    t->array = a;
    t->seen_from = t->cursor = 0;
    if (a->grid)
        return;
    tp_view_of_array(&view, a);
    t->is_flat = !tp_view_fits(&view, a);
}

static void set_view(struct making *m, const struct tp_out_extent *e)
{
    see_array(m->tile, m->array);
    if (m->array->grid)
        tp_view_of_chunks(&m->view, m->array, e->leaf, m->tile->extent_count);
    else if (m->tile->is_flat)
        tp_view_flat(&m->view, m->array);
    else
        tp_view_of_array(&m->view, m->array);
}

/* Of a band each extent is counted apart. */
static void count_apart(struct tp_tile *t, struct tp_tile_job *job, uint64_t extent_elems)
{
    job->seen = t->seen;
    job->bounds = t->bounds;
    job->bound_count = job->extent_count - 1;
    for (uint32_t i = 0; i < job->extent_count; i++) {
        tp_result_init(&t->seen[i]);
        t->bounds[i] = (i + 1) * extent_elems;
    }
}

/* What the view has at the tile's positions [first, end). */
static enum tp_status make_all(struct making *m, struct tp_error *err)
{
    const struct tp_array *a = m->array;
    uint64_t count = m->tile->end - m->tile->first;
    bool has_holes = a->has_holes && !m->job->gather;
    if (has_holes)
        fill(m->tile->bytes, count, tp_array_item_bytes(a), a->fill);
    find_bounds(m);
    enum tp_status st = m->job->gather ? gather_piece(m, m->job->gather->piece, err) : gather_pieces(m, err);
    if (!st && m->made != count && !has_holes)
        st = tp_fail(err, TP_ERR_BUG, "pieces hold %" PRIu64 " of %" PRIu64 " elements from %" PRIu64, m->made, count,
                     m->low);
    if (st)
        m->tile->end = m->tile->first;
    return st;
}

enum tp_status tp_tile_make(struct tp_tile *tile, const struct tp_tile_job *job, const struct tp_out_extent *extent,
                            uint64_t at, uint64_t limit, struct tp_error *err)
{
    struct tp_tile_job own = *job;
    struct making m = {.tile = tile, .job = &own, .array = &job->plan->arrays[extent->array]};
    tile->extent = extent;
    tile->extent_count = job->extent_count;
    if (job->extent_count > 1)
        count_apart(tile, &own, extent->elem_count);
    uint64_t begin = tp_tile_position(tile, m.array, extent, 0), room = tile->size_bytes / tp_array_item_bytes(m.array);
    set_view(&m, extent);
    tile->first = begin + at;
    tile->end = choose_end(&m.view, begin + at, begin + limit, room);
    return make_all(&m, err);
}

enum tp_status tp_tile_make_box(struct tp_tile *tile, const struct tp_tile_job *job, const struct tp_array *array,
                                const struct tp_view *box, struct tp_error *err)
{
    struct making m = {.tile = tile, .job = job, .array = array, .view = *box};
    see_array(tile, array);
    tile->extent = NULL; /* nobody finds elements in it by number */
    tile->first = 0;
    tile->end = box->rank ? box->volume[0] * box->length[0] : 1;
    return make_all(&m, err);
}
