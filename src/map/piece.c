/* SPDX-License-Identifier: MIT */
/* From the axes of a source and of its target to the loops of a copy. Sizes are checked: all products stay below 2^60.
 */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"

/* A target with its strides, and the piece being made. */
struct weaving {
    const struct tp_gather *g;
    uint64_t stride[TP_MAP_AXES_MAX]; /* of the right axes, in elements of the target */
    struct tp_axis loops[TP_MAP_AXES_MAX];
    uint32_t loop_count;
    struct tp_map_piece piece;
    bool is_empty;
};

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* An index along a right axis that one source stands at. */
static void stand_at(struct weaving *v, uint32_t axis, uint64_t index)
{
    if (index >= v->g->size[axis])
        v->is_empty = true; /* cropped away */
    else
        v->piece.dst_first += index * v->stride[axis];
}

static void walk(struct weaving *v, uint32_t axis, uint64_t count, uint64_t src_stride)
{
    v->is_empty |= count == 0;
    v->loops[v->loop_count++] = (struct tp_axis){count, src_stride, v->stride[axis]};
}

/* An axis of the source that is one of the target, or a range of it on either side. */
static void place_axis(struct weaving *v, const struct tp_placement *p, uint32_t axis, uint64_t size, uint64_t stride)
{
    const struct tp_ruling *ruling = &v->g->w->rulings[p->rule];
    const struct tp_rule *rule = &v->g->w->map->rules[p->rule];
    uint64_t room = v->g->size[axis], count = size;
    bool is_split = rule->split && strcmp(rule->split, rule->right.axes[axis].name) == 0;
    if (is_split && ruling->split_sizes) {
        for (uint32_t i = 0; i < p->to; i++)
            v->piece.src_first += ruling->split_sizes[i] * stride;
        count = ruling->split_sizes[p->to];
    }
    if (ruling->right[axis].role == TP_RIGHT_CAT) {
        uint64_t first = v->g->cat_first[p->from];
        room = room > first ? room - first : 0;
        v->piece.dst_first += room ? first * v->stride[axis] : 0;
    }
    walk(v, axis, lower(count, room), stride);
}

static void place_left(struct weaving *v, const struct tp_placement *p, const uint64_t *sizes)
{
    const struct tp_ruling *ruling = &v->g->w->rulings[p->rule];
    const struct tp_axes_side *side = &v->g->w->map->rules[p->rule].sources[p->from].left;
    uint64_t stride = 1;
    for (uint32_t a = side->axis_count; a-- > 0; stride *= sizes[a]) {
        const struct tp_left_axis *left = &ruling->left[p->from][a];
        switch ((enum tp_left_role)left->role) {
        case TP_LEFT_PLACED:
            place_axis(v, p, left->right, sizes[a], stride);
            break;
        case TP_LEFT_SPLIT:
            v->piece.src_first += p->to * stride;
            break;
        case TP_LEFT_UNSTACK:
            v->piece.src_first += p->values[left->capture] * stride;
            break;
        case TP_LEFT_DROPPED:
            break;
        }
    }
    if (side->group_count > 0) { /* stride is now what the rows taken hold */
        uint64_t row = 1;
        const struct tp_map_source *s = &v->g->w->question->sources[p->source];
        for (unsigned i = 1; i < s->rank; i++)
            row *= s->shape[i];
        v->piece.src_first += ruling->takes[p->from].low * row;
    }
}

static void place_right(struct weaving *v, const struct tp_placement *p)
{
    const struct tp_ruling *ruling = &v->g->w->rulings[p->rule];
    const struct tp_axes_side *side = &v->g->w->map->rules[p->rule].right;
    for (uint32_t a = 0; a < side->axis_count; a++) {
        if (ruling->right[a].role == TP_RIGHT_CAPTURE)
            stand_at(v, a, p->values[ruling->right[a].capture]);
        else if (ruling->right[a].role == TP_RIGHT_LIST)
            stand_at(v, a, p->from);
    }
}

/* False: nothing of the source is left in the target. */
static bool weave(struct weaving *v, const struct tp_placement *p)
{
    uint64_t sizes[TP_MAP_AXES_MAX];
    v->piece = (struct tp_map_piece){.source = p->source, .rule = p->rule};
    v->loop_count = 0;
    v->is_empty = false;
    const struct tp_map_source *s = &v->g->w->question->sources[p->source];
    for (unsigned i = 0; i < s->rank; i++)
        v->is_empty |= s->shape[i] == 0; /* other sizes could pass any product */
    if (v->is_empty || v->g->elem_count == 0 || !tp_place_sizes(v->g->w, p, sizes))
        return false;
    place_right(v, p);
    place_left(v, p, sizes);
    if (v->is_empty)
        return false;
    v->piece.axis_count = tp_axes_normalise(v->loops, v->loop_count);
    return true;
}

/* Pieces of a stack have the same loops, as a rule: one copy is enough. */
static bool keep_loops(struct weaving *v, const struct tp_map_piece *last)
{
    size_t bytes = v->piece.axis_count * sizeof *v->loops;
    if (last && last->axis_count == v->piece.axis_count && bytes > 0 && memcmp(last->axes, v->loops, bytes) == 0) {
        v->piece.axes = last->axes;
        return true;
    }
    struct tp_axis *axes = tp_arena_alloc(&v->g->w->result->arena, bytes);
    if (axes && bytes > 0)
        memcpy(axes, v->loops, bytes);
    v->piece.axes = axes;
    return axes != NULL;
}

static int by_place(const void *a, const void *b)
{
    const struct tp_map_piece *x = a, *y = b;
    return x->dst_first < y->dst_first ? -1 : x->dst_first > y->dst_first;
}

static uint64_t volume(const struct tp_map_piece *piece)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < piece->axis_count; i++)
        count *= piece->axes[i].count;
    return count;
}

/* The promise of the pieces: together they are the target, or less where it is padded. */
static enum tp_status check_sum(const struct tp_gather *g, const struct tp_map_target *target)
{
    uint64_t sum = 0;
    char path[TP_SHOWN_TEXT];
    for (uint32_t i = 0; i < target->piece_count; i++)
        sum += volume(&target->pieces[i]);
    if (target->has_holes ? sum < g->elem_count : sum == g->elem_count)
        return TP_OK;
    return tp_fail(g->w->err, TP_ERR_BUG, "the pieces of %s do not make up the whole",
                   tp_shown_path(path, g->w->map, target->path, target->path_len));
}

/* What tells the source of a target that has no elements of it. */
static bool add_empty_piece(struct weaving *v, const struct tp_placement *p)
{
    v->piece = (struct tp_map_piece){.source = p->source, .rule = p->rule, .axis_count = 1};
    v->loops[0] = (struct tp_axis){0, 1, 1};
    return keep_loops(v, NULL);
}

static void set_strides(struct weaving *v)
{
    uint64_t stride = 1;
    for (uint32_t a = v->g->rule->right.axis_count; a-- > 0 && v->g->elem_count > 0; stride *= v->g->size[a])
        v->stride[a] = stride;
}

enum tp_status tp_gather_pieces(const struct tp_gather *g, struct tp_map_target *target)
{
    struct weaving v = {.g = g};
    struct tp_map_piece *pieces = tp_arena_alloc(&g->w->result->arena, g->count * sizeof *pieces);
    if (!pieces)
        return tp_fail_nomem(g->w->err);
    set_strides(&v);
    target->pieces = pieces;
    for (size_t i = 0; i < g->count; i++) {
        if (!weave(&v, &g->placements[i]))
            continue;
        if (!keep_loops(&v, target->piece_count ? &pieces[target->piece_count - 1] : NULL))
            return tp_fail_nomem(g->w->err);
        pieces[target->piece_count++] = v.piece;
    }
    qsort(pieces, target->piece_count, sizeof *pieces, by_place);
    enum tp_status st = check_sum(g, target);
    if (st || target->piece_count > 0)
        return st;
    if (!add_empty_piece(&v, &g->placements[0]))
        return tp_fail_nomem(g->w->err);
    pieces[target->piece_count++] = v.piece;
    return TP_OK;
}
