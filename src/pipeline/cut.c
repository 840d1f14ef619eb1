/* SPDX-License-Identifier: MIT */
#include "pipeline/cut.h"

#include "base/compiler.h"
#include "base/least.h"
#include "pipeline/band.h"

/* ---- views ---- */

static void set_volumes(struct tp_view *view)
{
    uint64_t volume = 1;
    for (unsigned k = view->rank; k-- > 0;) {
        view->volume[k] = view->stride[view->order[k]] = volume;
        volume *= view->length[k];
    }
}

void tp_view_of_chunks(struct tp_view *view, const struct tp_array *array, uint64_t number, uint32_t chunks)
{
    const struct tp_grid *grid = array->grid;
    *view = (struct tp_view){.rank = array->rank};
    tp_grid_corner(array, number, view->corner);
    for (unsigned k = 0; k < array->rank; k++) {
        view->shape[k] = array->shape[k];
        view->order[k] = grid->order ? grid->order[k] : (uint8_t)k;
        view->length[k] = grid->chunk[view->order[k]];
    }
    if (chunks > 1)
        view->length[tp_band_level(array)] *= chunks;
    set_volumes(view);
}

void tp_view_flat(struct tp_view *view, const struct tp_array *array)
{
    *view = (struct tp_view){
        .rank = 1, .shape = {array->elem_count}, .stride = {1}, .length = {array->elem_count}, .volume = {1}};
}

void tp_view_of_array(struct tp_view *view, const struct tp_array *array)
{
    uint64_t product = 1;
    for (unsigned d = 0; d < array->rank; d++)
        if (TP_MUL_OVERFLOW(product, array->shape[d], &product))
            product = 0;
    if (array->rank > TP_GRID_RANK_MAX || product != array->elem_count) {
        tp_view_flat(view, array);
        return;
    }
    *view = (struct tp_view){.rank = array->rank};
    for (unsigned d = 0; d < array->rank; d++) {
        view->shape[d] = view->length[d] = array->shape[d];
        view->order[d] = (uint8_t)d;
    }
    set_volumes(view);
}

/* ---- numbers of mixed radix: a range of them, part by part ---- */

/* Of [from, to) the longest part that begins with it and is whole steps of one digit, faster digits running through.
 * `radix` is fastest first. Returns the steps of digit *level. */
static uint64_t first_part(const uint64_t *radix, unsigned digits, uint64_t from, uint64_t to, unsigned *level)
{
    uint64_t volume = 1;
    unsigned i = 0;
    for (; i + 1 < digits; i++) {
        uint64_t next = volume * radix[i];
        if (from % next != 0 || to - from < next)
            break;
        volume = next;
    }
    *level = i;
    return digits ? tp_smaller(radix[i] - from / volume % radix[i], (to - from) / volume) : 1;
}

/* ---- a range of positions as boxes ---- */

void tp_box_walk_begin(struct tp_box_walk *walk, const struct tp_view *view, uint64_t first, uint64_t end)
{
    uint64_t last = end - 1;
    unsigned level = 0;
    while (level + 1 < view->rank && first / view->volume[level] == last / view->volume[level])
        level++;
    uint64_t volume = view->rank ? view->volume[level] : 1, length = view->rank ? view->length[level] : 1;
    *walk = (struct tp_box_walk){.view = view, .first = first, .level = level};
    walk->first_row = first / volume % length;
    walk->last_row = last / volume % length;
    walk->head = first % volume;
    walk->tail = last % volume + 1;
    walk->cuts[1] = tp_smaller(walk->head, walk->tail);
    walk->cuts[2] = tp_larger(walk->head, walk->tail);
    walk->cuts[3] = volume;
}

/* What lies inside one index of the walk's axis, from `at` on. */
static void next_inside(struct tp_box_walk *walk, struct tp_range_box *box)
{
    const struct tp_view *v = walk->view;
    uint64_t radix[TP_GRID_RANK_MAX] = {0}, end = walk->cuts[walk->part + 1];
    unsigned digits = v->rank - 1 - walk->level, level;
    for (unsigned i = 0; i < digits; i++)
        radix[i] = v->length[v->rank - 1 - i];
    uint64_t steps = first_part(radix, digits, walk->at, end, &level);
    for (unsigned i = 0; i < digits; i++) {
        unsigned k = v->rank - 1 - i, axis = v->order[k];
        uint64_t digit = i < level ? 0 : walk->at / v->volume[k] % v->length[k];
        box->low[axis] = v->corner[axis] + digit;
        box->high[axis] = box->low[axis] + (i < level ? v->length[k] : i == level ? steps : 1);
    }
    walk->at += digits ? steps * v->volume[v->rank - 1 - level] : 1;
}

bool tp_box_walk_next(struct tp_box_walk *walk, struct tp_range_box *box)
{
    const struct tp_view *v = walk->view;
    for (; walk->part < 3; walk->at = walk->cuts[++walk->part]) {
        uint64_t low = walk->first_row + (walk->at < walk->head), high = walk->last_row + (walk->at < walk->tail);
        if (walk->at == walk->cuts[walk->part + 1] || low >= high)
            continue;
        for (unsigned k = 0; k < walk->level; k++) {
            unsigned axis = v->order[k];
            box->low[axis] = v->corner[axis] + walk->first / v->volume[k] % v->length[k];
            box->high[axis] = box->low[axis] + 1;
        }
        if (v->rank == 0) {
            walk->part = 3;
            return true;
        }
        unsigned axis = v->order[walk->level];
        box->low[axis] = v->corner[axis] + low;
        box->high[axis] = v->corner[axis] + high;
        next_inside(walk, box);
        return true;
    }
    return false;
}

/* ---- a piece along the axes ---- */

/* Loops come from the inside of the array, so axes are filled from the last to the first. */
struct stepper {
    struct tp_stepped *stepped;
    const uint64_t *shape;
    uint64_t stride[TP_GRID_RANK_MAX]; /* of the array, row-major */
    uint64_t reach;                    /* along the axis in work: the last index that its steps lead to */
    unsigned axis, count;
};

static void close_axis(struct stepper *s)
{
    s->stepped->first[s->axis] = (uint8_t)s->count;
    s->axis--;
    s->reach = 0;
}

static bool add_step(struct stepper *s, uint64_t count, uint64_t indices, uint64_t src_stride)
{
    if (s->count == TP_GATHER_LOOPS_MAX)
        return false;
    s->stepped->steps[s->count++] = (struct tp_step){count, indices, src_stride};
    s->reach += (count - 1) * indices;
    return true;
}

/* One loop of a piece, cut at the borders of axes. A step leads beyond all that the steps inside it reach, and a loop
 * that goes on in the next axis has run through this one. */
static bool add_loop(struct stepper *s, struct tp_axis loop)
{
    while (loop.count > 1) {
        while (s->axis > 0 && loop.dst_stride >= s->stride[s->axis - 1])
            close_axis(s);
        uint64_t length = s->shape[s->axis], indices = loop.dst_stride / s->stride[s->axis];
        uint64_t begin = s->stepped->origin[s->axis] + s->reach;
        if (loop.dst_stride % s->stride[s->axis] != 0 || indices <= s->reach || begin >= length)
            return false;
        if (loop.count - 1 <= (length - 1 - begin) / indices)
            return add_step(s, loop.count, indices, loop.src_stride);
        uint64_t through = length / indices;
        if (s->axis == 0 || length % indices != 0 || begin >= indices || loop.count % through != 0 ||
            !add_step(s, through, indices, loop.src_stride))
            return false;
        loop = (struct tp_axis){loop.count / through, loop.src_stride * through, loop.dst_stride * through};
    }
    return true;
}

/* Steps stand axis by axis from the last one to the first: turn that round. */
static void reverse_axes(struct tp_stepped *stepped, unsigned rank, unsigned count)
{
    struct tp_step sorted[TP_GATHER_LOOPS_MAX];
    unsigned at = 0;
    for (unsigned d = 0; d < rank; d++) {
        unsigned begin = d + 1 < rank ? stepped->first[d + 1] : 0, end = stepped->first[d];
        stepped->first[d] = (uint8_t)at;
        for (unsigned i = begin; i < end; i++)
            sorted[at++] = stepped->steps[i];
    }
    stepped->first[rank] = (uint8_t)at;
    for (unsigned i = 0; i < count; i++)
        stepped->steps[i] = sorted[i];
}

bool tp_stepped_of_piece(struct tp_stepped *stepped, const struct tp_view *view, const struct tp_piece *piece)
{
    struct stepper s = {.stepped = stepped, .shape = view->shape};
    uint64_t stride = 1;
    stepped->src_first = piece->src_first;
    stepped->first[0] = 0;
    if (view->rank == 0)
        return piece->run_elems == 1 && piece->axis_count == 0;
    for (unsigned d = view->rank; d-- > 0; stride *= view->shape[d]) {
        s.stride[d] = stride;
        stepped->origin[d] = piece->dst_first / stride % view->shape[d];
    }
    s.axis = view->rank - 1;
    bool fits = add_loop(&s, (struct tp_axis){piece->run_elems, 1, 1});
    for (uint32_t i = piece->axis_count; i-- > 0 && fits;)
        fits = add_loop(&s, piece->axes[i]);
    while (s.axis > 0)
        close_axis(&s);
    stepped->first[0] = (uint8_t)s.count;
    reverse_axes(stepped, view->rank, s.count);
    return fits;
}

/* ---- what a piece has in a box ---- */

/* How many elements a piece has along an axis before the index, counted from its first. */
static uint64_t count_before(const struct tp_step *steps, unsigned count, uint64_t index)
{
    uint64_t volume = 1, before = 0;
    for (unsigned i = 0; i < count; i++)
        volume *= steps[i].count;
    for (unsigned i = count; i-- > 0;) {
        volume /= steps[i].count;
        uint64_t digit = index / steps[i].indices;
        if (digit >= steps[i].count)
            return before + steps[i].count * volume;
        before += digit * volume;
        index -= digit * steps[i].indices;
    }
    return before + (index > 0);
}

void tp_cut_walk_begin(struct tp_cut_walk *walk, const struct tp_view *view, const struct tp_stepped *stepped,
                       const struct tp_range_box *box)
{
    *walk = (struct tp_cut_walk){.view = view, .stepped = stepped};
    for (unsigned d = 0; d < view->rank; d++) {
        const struct tp_step *steps = stepped->steps + stepped->first[d];
        unsigned count = (unsigned)(stepped->first[d + 1] - stepped->first[d]);
        uint64_t origin = stepped->origin[d];
        walk->from[d] = box->low[d] > origin ? count_before(steps, count, box->low[d] - origin) : 0;
        walk->to[d] = box->high[d] > origin ? count_before(steps, count, box->high[d] - origin) : 0;
        walk->at[d] = walk->from[d];
        walk->is_over = walk->is_over || walk->from[d] >= walk->to[d];
    }
}

/* Steps along one axis, from the walk's place on; returns how many of the piece's own numbers they take. */
static uint64_t cut_axis(const struct tp_cut_walk *walk, unsigned d, struct tp_cut *cut)
{
    const struct tp_stepped *p = walk->stepped;
    const struct tp_step *steps = p->steps + p->first[d];
    unsigned count = (unsigned)(p->first[d + 1] - p->first[d]), level;
    uint64_t radix[TP_GATHER_LOOPS_MAX], number = walk->at[d], index = p->origin[d] - walk->view->corner[d], volume = 1;
    for (unsigned i = 0; i < count; i++)
        radix[i] = steps[i].count;
    uint64_t taken = first_part(radix, count, walk->at[d], walk->to[d], &level);
    for (unsigned i = 0; i < count; i++) {
        uint64_t digit = number % radix[i], steps_here = i < level ? radix[i] : i == level ? taken : 1;
        index += digit * steps[i].indices;
        cut->src_first += digit * steps[i].src_stride;
        number /= radix[i];
        if (steps_here > 1)
            cut->loops[cut->loop_count++] =
                (struct tp_axis){steps_here, steps[i].src_stride, steps[i].indices * walk->view->stride[d]};
        volume *= steps_here;
    }
    cut->position += index * walk->view->stride[d];
    cut->elem_count *= volume;
    return volume;
}

bool tp_cut_walk_next(struct tp_cut_walk *walk, struct tp_cut *cut)
{
    uint64_t taken[TP_GRID_RANK_MAX];
    if (walk->is_over)
        return false;
    cut->src_first = walk->stepped->src_first;
    cut->position = 0;
    cut->elem_count = 1;
    cut->loop_count = 0;
    for (unsigned d = 0; d < walk->view->rank; d++)
        taken[d] = cut_axis(walk, d, cut);
    unsigned d = walk->view->rank;
    while (d > 0 && (walk->at[d - 1] += taken[d - 1]) == walk->to[d - 1]) {
        d--;
        walk->at[d] = walk->from[d];
    }
    walk->is_over = d == 0;
    return true;
}
