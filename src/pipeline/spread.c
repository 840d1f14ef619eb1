/* SPDX-License-Identifier: MIT */
#include "pipeline/spread.h"

#include "base/least.h"
#include "checkpoint/checkpoint.h"
#include "pipeline/tile.h"

/* ---- what a shape costs ---- */

/* In 1/1024 of the time in which a byte is copied, for every byte that is made. Measured with bench/bench.py --maps. */
#define CALL (UINT64_C(8192) * 1024) /* one read or write, for as many bytes as it has */
#define SECOND_PASS UINT64_C(2048)   /* read, put in order, written once more */
#define IDLE UINT64_C(3072)          /* workers at the end, if a group is all there is: it is one worker's */
#define NEVER UINT64_MAX

#define MEETING 2048u /* bytes: rows that are a multiple of it apart meet in a few lines of the cache */
#define TILE_BEST ((uint64_t)16 << 20) /* in both passes; more leaves the cache that cores share */

static const struct tp_axis *loop_that_steps(const struct tp_cut *cut, uint64_t src_stride)
{
    for (unsigned i = 0; i < cut->loop_count; i++)
        if (cut->loops[i].src_stride == src_stride)
            return &cut->loops[i];
    return NULL;
}

/* Bytes that follow each other in the source, of what a box of such lengths (slowest axis first) takes from a piece. */
static uint64_t source_run(const struct tp_view *view, const struct tp_piece *piece, const uint64_t *length)
{
    struct tp_stepped stepped;
    struct tp_range_box range;
    struct tp_cut_walk walk;
    struct tp_cut cut;
    uint64_t run = 1;
    if (!tp_stepped_of_piece(&stepped, view, piece))
        return 0;
    for (unsigned k = 0; k < view->rank; k++) {
        unsigned axis = view->order[k];
        range.low[axis] = stepped.origin[axis];
        range.high[axis] = tp_smaller(view->length[k], range.low[axis] + length[k]);
    }
    tp_cut_walk_begin(&walk, view, &stepped, &range);
    if (!tp_cut_walk_next(&walk, &cut))
        return 0;
    for (const struct tp_axis *loop; (loop = loop_that_steps(&cut, run)) != NULL;)
        run *= loop->count;
    return run * tp_dtype_bits((enum tp_dtype)piece->source_dtype) / 8;
}

/* A tile of consecutive elements: whole indices of the slowest axis of which one fits, as many as there is room for. */
static uint64_t cost_in_order(const struct tp_view *view, const struct tp_piece *piece, uint64_t room)
{
    uint64_t length[TP_GRID_RANK_MAX];
    unsigned k = 0;
    while (k + 1 < view->rank && view->volume[k] > room)
        k++;
    for (unsigned i = 0; i < view->rank; i++)
        length[i] = i < k ? 1 : i > k ? view->length[i] : tp_smaller(view->length[i], room / view->volume[i]);
    uint64_t run = source_run(view, piece, length);
    return run ? CALL / run : 0;
}

/* ---- shapes ---- */

/* The part of a row that a tile of so many rows has room for: indices of one axis, parts of about one size. `length`:
 * of that tile. False: not a single position. */
static bool choose_width(struct tp_spread *s, uint64_t room, uint64_t rows, uint64_t *length)
{
    const struct tp_view *v = &s->view;
    uint64_t most = room / rows;
    unsigned j = s->level + 1;
    if (most == 0)
        return false;
    while (v->volume[j] > most)
        j++;
    uint64_t parts = tp_parts(v->length[j], tp_smaller(v->length[j], most / v->volume[j]));
    uint64_t steps = tp_parts(v->length[j], parts);
    if (steps * v->volume[j] * s->item % MEETING == 0)
        steps = tp_parts(v->length[j], parts + 1);
    s->width = steps * v->volume[j];
    s->turn = v->length[j] * v->volume[j];
    for (unsigned i = 0; i < v->rank; i++)
        length[i] = i == s->level ? rows : i < j ? 1 : i > j ? v->length[i] : steps;
    return true;
}

/* What a group of so many blocks costs with rows along `level`; *s has its shape then. */
static uint64_t try_shape(struct tp_spread *s, const struct tp_plan *plan, const struct tp_piece *piece, uint64_t room)
{
    uint64_t length[TP_GRID_RANK_MAX], tile = tp_smaller(room, TILE_BEST / s->item);
    const struct tp_view *v = &s->view;
    s->row = v->volume[s->level];
    uint64_t rows = tp_smaller(s->block_count * s->block_elems / s->row + 2, v->length[s->level]);
    if (s->row > room || !choose_width(s, tile, rows, length))
        return NEVER;
    s->chunk_rows = tp_larger(tile / s->row, 1);
    uint64_t run = source_run(v, piece, length), slot = s->chunk_rows * s->width * s->item;
    return run == 0 ? NEVER : CALL / run + CALL / slot + SECOND_PASS + IDLE * s->block_count / plan->block_count;
}

static bool reads_chunks(const struct tp_plan *plan, const struct tp_array *a)
{
    for (uint32_t i = 0; i < a->piece_count; i++) {
        const struct tp_logical *l = &plan->logicals[a->pieces[i].logical];
        if (!l->decoded && l->tensor->chunks)
            return true;
    }
    return false;
}

/* Arrays that can be spread: row-major, made of one run after the other from sources that can be read anywhere. */
static bool can_be_spread(const struct tp_plan *plan, const struct tp_array *a)
{
    return !a->grid && !a->restore && a->piece_count > 0 && tp_array_is_scattered(a) && !reads_chunks(plan, a);
}

bool tp_spread_plan(struct tp_spread *spread, const struct tp_plan *plan, const struct tp_out_extent *e,
                    size_t tile_bytes)
{
    const struct tp_array *a = &plan->arrays[e->array];
    struct tp_spread s = {.item = tp_array_item_bytes(a)};
    uint64_t room = tile_bytes ? (tp_tile_room_bytes(tile_bytes) - TP_SPREAD_LINE) / s.item : 0;
    if (room == 0 || e->elem_count <= room || !can_be_spread(plan, a))
        return false;
    tp_view_of_array(&s.view, a);
    s.block_elems = TP_BLOCK_BYTES / s.item;
    uint64_t most = tp_smaller(tp_extent_block_count(e), TP_SPREAD_BLOCKS_MAX);
    uint64_t in_order = cost_in_order(&s.view, &a->pieces[0], room), best = in_order;
    for (s.level = 0; in_order > SECOND_PASS && s.level + 1 < s.view.rank; s.level++)
        for (s.block_count = 1; s.block_count <= most; s.block_count++) {
            uint64_t cost = try_shape(&s, plan, &a->pieces[0], room);
            if (cost < best) {
                best = cost;
                *spread = s;
            }
        }
    return best < in_order && tp_view_fits(&s.view, a);
}

/* ---- rows and tiles ---- */

static struct tp_spread_rows rows_of(const struct tp_spread *s, uint64_t first, uint64_t end)
{
    return (struct tp_spread_rows){first, end, first / s->row, tp_parts(end, s->row) - first / s->row};
}

struct tp_spread_rows tp_spread_part(const struct tp_spread *s, uint64_t first, uint64_t end)
{
    uint64_t whole = s->row * s->view.length[s->level];
    return rows_of(s, first, tp_smaller(end, first / whole * whole + whole));
}

uint64_t tp_spread_chunk_count(const struct tp_spread *s, const struct tp_spread_rows *part)
{
    return tp_parts(part->row_count, s->chunk_rows);
}

struct tp_spread_rows tp_spread_chunk(const struct tp_spread *s, const struct tp_spread_rows *part, uint64_t k)
{
    uint64_t first = (part->row + k * s->chunk_rows) * s->row;
    return rows_of(s, tp_larger(first, part->first), tp_smaller(first + s->chunk_rows * s->row, part->end));
}

/* Where the tile begins that has a column. */
static uint64_t column_begin(const struct tp_spread *s, uint64_t column)
{
    uint64_t turn = column / s->turn * s->turn;
    return turn + (column - turn) / s->width * s->width;
}

uint64_t tp_spread_column_end(const struct tp_spread *s, uint64_t column)
{
    return tp_smaller(column_begin(s, column) + s->width, column / s->turn * s->turn + s->turn);
}

struct tp_spread_tile tp_spread_tile(const struct tp_spread *s, const struct tp_spread_rows *part, uint64_t column)
{
    struct tp_spread_tile t = {column, tp_spread_column_end(s, column), s->view};
    uint64_t first = part->row * s->row + column, width = t.end - column, volume = 1;
    for (unsigned k = t.box.rank; k-- > 0;) {
        unsigned axis = t.box.order[k];
        uint64_t here = tp_larger(tp_smaller(width / s->view.volume[k], s->view.length[k]), 1);
        t.box.corner[axis] = first / s->view.volume[k] % s->view.length[k];
        t.box.length[k] = k < s->level ? 1 : k == s->level ? part->row_count : here;
        t.box.volume[k] = t.box.stride[axis] = volume;
        volume *= t.box.length[k];
    }
    return t;
}

uint64_t tp_spread_before(const struct tp_spread *s, const struct tp_spread_rows *r, uint64_t column)
{
    uint64_t head = r->first - r->row * s->row, tail = r->end - (r->row + r->row_count - 1) * s->row;
    return r->row_count * column - tp_smaller(column, head) - (column - tp_smaller(column, tail));
}

uint64_t tp_spread_index(const struct tp_spread *s, const struct tp_spread_rows *r, uint64_t position)
{
    uint64_t column = position % s->row, end = tp_spread_column_end(s, column), head = r->first - r->row * s->row;
    uint64_t begin = column_begin(s, column);
    uint64_t missing = tp_smaller(end, head) - tp_smaller(begin, head); /* of the first row */
    return tp_spread_before(s, r, begin) + (position / s->row - r->row) * (end - begin) + (column - begin) - missing;
}

uint64_t tp_spread_place(const struct tp_spread *s, const struct tp_spread_rows *r, const struct tp_spread_tile *t,
                         uint64_t position)
{
    uint64_t row = position / s->row, column = position % s->row, width = t->end - t->column;
    if (row < r->row)
        return 0;
    if (row >= r->row + r->row_count)
        return r->row_count * width;
    return (row - r->row) * width + (column < t->column ? 0 : tp_smaller(column - t->column, width));
}
