/* SPDX-License-Identifier: MIT */
#include "plan/box.h"

#include <string.h>

/* Elements from one index of an axis to the next. */
static void flat_strides(const struct tp_array *a, uint64_t *strides)
{
    uint64_t stride = 1;
    for (unsigned d = a->rank; d-- > 0;) {
        strides[d] = stride;
        stride *= a->shape[d];
    }
}

/* ---- a piece along the axes ---- */

/* Loops come from the inside of the array, so axes are filled from the last to the first, and the box is built upside
 * down: axis d's loops stand at [first[d + 1], first[d]) until the end. */
struct cutter {
    struct tp_box *box;
    const struct tp_array *array;
    uint64_t strides[TP_GRID_RANK_MAX];
    unsigned axis; /* that is being filled */
    unsigned count;
};

static bool add_level(struct cutter *c, uint64_t count, uint64_t src_stride)
{
    if (c->count == TP_GATHER_LOOPS_MAX)
        return false;
    c->box->loops[c->count++] = (struct tp_loop){count, src_stride};
    c->box->span[c->axis] *= count;
    return true;
}

/* All further loops belong to axes before this one. */
static void close_axis(struct cutter *c)
{
    c->box->first[c->axis] = (uint8_t)c->count;
    c->axis--;
}

/* Cut one loop of a piece at the borders of axes. Along an axis a box is dense: each loop goes on where the one inside
 * it ends. One that reaches beyond an axis covers it whole. */
static bool cut_loop(struct cutter *c, struct tp_axis loop)
{
    while (loop.count > 1) {
        while (c->axis > 0 && loop.dst_stride >= c->strides[c->axis - 1])
            close_axis(c);
        uint64_t inside = c->box->span[c->axis];
        if (loop.dst_stride != c->strides[c->axis] * inside)
            return false;
        uint64_t room = c->array->shape[c->axis] / inside;
        if (loop.count <= room)
            return add_level(c, loop.count, loop.src_stride);
        if (c->axis == 0 || loop.count % room != 0 || room * inside != c->array->shape[c->axis] ||
            !add_level(c, room, loop.src_stride))
            return false;
        loop.count /= room;
        loop.dst_stride *= room;
        loop.src_stride *= room;
    }
    return true;
}

static void reverse_loops(struct tp_box *box, unsigned rank, unsigned count)
{
    struct tp_loop sorted[TP_GATHER_LOOPS_MAX];
    unsigned at = 0;
    for (unsigned d = 0; d < rank; d++) {
        unsigned begin = d + 1 < rank ? box->first[d + 1] : 0, end = box->first[d];
        box->first[d] = (uint8_t)at;
        for (unsigned i = begin; i < end; i++)
            sorted[at++] = box->loops[i];
    }
    box->first[rank] = (uint8_t)at;
    memcpy(box->loops, sorted, count * sizeof *sorted);
}

bool tp_box_of_piece(struct tp_box *box, const struct tp_array *array, const struct tp_piece *piece)
{
    struct cutter c = {.box = box, .array = array};
    if (array->rank > TP_GRID_RANK_MAX)
        return false;
    flat_strides(array, c.strides);
    for (unsigned d = 0; d < array->rank; d++) {
        box->origin[d] = piece->dst_first / c.strides[d] % array->shape[d];
        box->span[d] = 1;
    }
    box->first[0] = 0;
    if (array->rank == 0)
        return true;
    c.axis = array->rank - 1u;
    bool fits = cut_loop(&c, (struct tp_axis){piece->run_elems, 1, 1});
    for (uint32_t i = piece->axis_count; i-- > 0 && fits;)
        fits = cut_loop(&c, piece->axes[i]);
    while (c.axis > 0)
        close_axis(&c);
    box->first[0] = (uint8_t)c.count;
    for (unsigned d = 0; d < array->rank && fits; d++)
        fits = box->span[d] <= array->shape[d] - box->origin[d];
    reverse_loops(box, array->rank, c.count);
    return fits;
}

/* ---- chunks ---- */

static uint64_t chunk_length(const struct tp_array *a, unsigned axis)
{
    return a->grid ? a->grid->chunk[axis] : a->shape[axis];
}

uint64_t tp_grid_chunk_count(const struct tp_array *array)
{
    uint64_t count = 1;
    if (array->elem_count == 0)
        return 0;
    for (unsigned d = 0; d < array->rank; d++)
        count *= array->shape[d] / chunk_length(array, d);
    return count;
}

uint64_t tp_grid_placed(const struct tp_array *array, uint64_t i)
{
    uint64_t length = 1, apart = 1; /* chunks along that axis, and from one to the next of them */
    for (unsigned d = array->rank; array->grid && d-- > array->grid->across;) {
        apart *= length;
        length = array->shape[d] / array->grid->chunk[d];
    }
    uint64_t inside = i / length % apart, outside = i / length - inside;
    return outside * length + i % length * apart + inside;
}

void tp_grid_corner(const struct tp_array *array, uint64_t number, uint64_t *corner)
{
    for (unsigned d = array->rank; d-- > 0;) {
        uint64_t length = chunk_length(array, d), along = array->shape[d] / length;
        corner[d] = number % along * length;
        number /= along;
    }
}

static bool is_inside(const struct tp_box *box, const struct tp_array *a, const uint64_t *corner)
{
    for (unsigned d = 0; d < a->rank; d++)
        if (corner[d] < box->origin[d] || corner[d] - box->origin[d] > box->span[d] ||
            chunk_length(a, d) > box->span[d] - (corner[d] - box->origin[d]))
            return false;
    return true;
}

/* The last element of the array that a piece can hold. */
static uint64_t piece_end(const struct tp_piece *p)
{
    uint64_t last = p->dst_first + p->run_elems - 1;
    for (uint32_t i = 0; i < p->axis_count; i++)
        last += (p->axes[i].count - 1) * p->axes[i].dst_stride;
    return last;
}

/* How many pieces, in the order of dst_first, begin at or before an element. */
static uint32_t count_begun(const struct tp_array *a, uint64_t elem)
{
    uint32_t low = 0, high = a->piece_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (a->pieces[middle].dst_first <= elem)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Arrays of thousands of pieces are stacks: the pieces' origins are a grid, and the one that holds an index is, axis by
 * axis, the last that begins at or before it. */
const struct tp_piece *tp_piece_guess(const struct tp_array *a, const uint64_t *index)
{
    uint64_t strides[TP_GRID_RANK_MAX], origin = 0;
    const struct tp_piece *piece = a->pieces;
    flat_strides(a, strides);
    for (unsigned d = 0; d < a->rank; d++) {
        uint32_t begun = count_begun(a, origin + index[d] * strides[d] + strides[d] - 1);
        if (begun == 0)
            return NULL;
        piece = &a->pieces[begun - 1];
        uint64_t found = piece->dst_first / strides[d] * strides[d];
        if (found < origin)
            return NULL;
        origin = found;
    }
    return piece;
}

static const struct tp_piece *find_piece(struct tp_box *box, const struct tp_array *a, const uint64_t *corner)
{
    uint64_t strides[TP_GRID_RANK_MAX], elem = 0;
    const struct tp_piece *guess = a->piece_count ? tp_piece_guess(a, corner) : NULL;
    if (guess && tp_box_of_piece(box, a, guess) && is_inside(box, a, corner))
        return guess;
    flat_strides(a, strides);
    for (unsigned d = 0; d < a->rank; d++)
        elem += corner[d] * strides[d];
    for (uint32_t i = count_begun(a, elem); i-- > 0;) {
        const struct tp_piece *p = &a->pieces[i];
        if (p != guess && piece_end(p) >= elem && tp_box_of_piece(box, a, p) && is_inside(box, a, corner))
            return p;
    }
    return NULL;
}

/* Loops are found from the inside out; one that goes on where the last one ends becomes part of it. */
static bool push_loop(struct tp_gather *g, uint64_t count, uint64_t stride)
{
    struct tp_loop *inner = g->loop_count ? &g->loops[g->loop_count - 1] : NULL;
    if (inner && stride == inner->count * inner->stride) {
        inner->count *= count;
        return true;
    }
    if (g->loop_count == TP_GATHER_LOOPS_MAX)
        return false;
    g->loops[g->loop_count++] = (struct tp_loop){count, stride};
    return true;
}

/* Indices [start, start + length) of one axis of a piece: whole inner loops, then a part of one, then single steps. */
static bool push_axis(struct tp_gather *g, const struct tp_loop *loops, unsigned count, uint64_t start, uint64_t length)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t step = start % loops[i].count, taken = length;
        if (length > loops[i].count - step) {
            taken = loops[i].count;
            if (step != 0 || length % taken != 0)
                return false;
        }
        g->src_first += step * loops[i].stride;
        if (taken > 1 && !push_loop(g, taken, loops[i].stride))
            return false;
        start /= loops[i].count;
        length /= taken;
    }
    return true;
}

bool tp_box_gather(struct tp_gather *gather, const struct tp_array *array, uint64_t number)
{
    struct tp_box box;
    uint64_t corner[TP_GRID_RANK_MAX];
    if (array->rank > TP_GRID_RANK_MAX || array->elem_count == 0)
        return false;
    tp_grid_corner(array, number, corner);
    const struct tp_piece *p = find_piece(&box, array, corner);
    if (!p)
        return false;
    gather->piece = p;
    gather->logical = p->logical;
    gather->src_first = p->src_first;
    gather->loop_count = 0;
    for (unsigned k = array->rank; k-- > 0;) {
        unsigned d = array->grid && array->grid->order ? array->grid->order[k] : k;
        if (!push_axis(gather, box.loops + box.first[d], (unsigned)(box.first[d + 1] - box.first[d]),
                       corner[d] - box.origin[d], chunk_length(array, d)))
            return false;
    }
    for (unsigned i = 0, j = gather->loop_count; i + 1 < j; i++) {
        struct tp_loop outer = gather->loops[--j];
        gather->loops[j] = gather->loops[i];
        gather->loops[i] = outer;
    }
    return true;
}
