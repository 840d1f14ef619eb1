/* SPDX-License-Identifier: MIT */
/* The loops of a piece with the names that the rule gives its axes. What is shown must be what is done: the loops are
 * drawn up from the rule, and only believed if they are, normalised, those of the piece. */
#include <stdlib.h>
#include <string.h>

#include "job/mapping.h"

/* An axis of one side, with its size and how far its elements lie apart. */
struct placed {
    const char *name;
    uint64_t size, stride;
};

struct side {
    struct placed axes[TP_MAP_AXES_MAX];
    uint32_t count;
};

static struct placed *find(struct side *side, const char *name)
{
    for (uint32_t i = 0; i < side->count; i++)
        if (strcmp(side->axes[i].name, name) == 0)
            return &side->axes[i];
    return NULL;
}

/* A whole number that a map states; 0: none. */
static uint64_t whole(const struct tp_mapping *m, const struct tp_expr *expr)
{
    const struct tp_expr_scope scope = {m->applied, m->mapped.config};
    char missing[256];
    double value;
    if (!expr || !tp_expr_evaluate(&value, expr, &scope, missing) || !(value >= 1 && value < 0x1p53))
        return 0;
    return (uint64_t)value;
}

static uint64_t dim_of(const struct tp_mapping *m, const char *name)
{
    for (uint32_t i = 0; i < m->applied->dim_count; i++)
        if (strcmp(m->applied->dims[i].name, name) == 0)
            return whole(m, m->applied->dims[i].size);
    return 0;
}

/* Sizes known so far (0: not), then of each group the one that is missing, then strides. False: not to be known. */
static bool settle(struct side *side, const struct tp_axes_side *said, const uint64_t *shape, unsigned rank)
{
    uint64_t stride = 1;
    if (said->group_count != rank)
        return false;
    for (uint32_t g = said->group_count; g-- > 0;) {
        struct placed *axes = &side->axes[said->groups[g].first], *unknown = NULL;
        uint64_t known = 1;
        for (uint32_t i = 0; i < said->groups[g].count; i++) {
            if (axes[i].size == 0 && unknown)
                return false;
            if (axes[i].size == 0)
                unknown = &axes[i];
            else
                known *= axes[i].size;
        }
        if (unknown)
            unknown->size = known ? shape[g] / known : 0;
        for (uint32_t i = said->groups[g].count; i-- > 0; stride *= axes[i].size)
            axes[i].stride = stride;
    }
    side->count = said->axis_count;
    return true;
}

static bool place_left(const struct tp_mapping *m, struct side *left, const struct tp_rule *rule,
                       const struct tp_axes_side *said, const struct tp_map_source *s)
{
    bool splits = rule->split && !rule->split_sizes;
    for (uint32_t i = 0; i < said->axis_count; i++) {
        const struct tp_named_axis *axis = &said->axes[i];
        uint64_t size = axis->size ? axis->size : dim_of(m, axis->name);
        if (size == 0 && splits && strcmp(axis->name, rule->split) == 0)
            size = rule->to_count;
        left->axes[i] = (struct placed){axis->name, size, 0};
    }
    return settle(left, said, s->shape, s->rank);
}

/* On the right an axis has the size it has on the left, unless something makes it larger or smaller. */
static bool place_right(struct side *right, struct side *left, const struct tp_rule *rule,
                        const struct tp_map_target *t)
{
    const struct tp_axes_side *said = &rule->right;
    for (uint32_t i = 0; i < said->axis_count; i++) {
        const char *name = said->axes[i].name;
        const struct placed *same = find(left, name);
        bool changes = (rule->cat && strcmp(name, rule->cat) == 0) || (rule->split && strcmp(name, rule->split) == 0);
        for (uint32_t k = 0; k < rule->pad_count; k++)
            changes = changes || strcmp(name, rule->pads[k].axis) == 0;
        right->axes[i] = (struct placed){name, changes ? 0 : same ? same->size : said->axes[i].size, 0};
    }
    return settle(right, said, t->shape, t->rank);
}

static int by_target(const void *a, const void *b)
{
    const struct tp_mapping_loop *x = a, *y = b;
    return (x->target_step < y->target_step) - (x->target_step > y->target_step);
}

/* Every axis that is on both sides is a loop. */
static uint32_t draw(struct tp_mapping_loop *loops, struct side *left, struct side *right)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < left->count; i++) {
        const struct placed *from = &left->axes[i], *to = find(right, from->name);
        if (to)
            loops[count++] = (struct tp_mapping_loop){from->name, from->size < to->size ? from->size : to->size,
                                                      from->stride, to->stride};
    }
    qsort(loops, count, sizeof *loops, by_target);
    return count;
}

static bool is_same_copy(const struct tp_mapping_loop *loops, uint32_t count, const struct tp_map_piece *piece)
{
    struct tp_axis axes[TP_MAP_AXES_MAX + TP_RANK_MAX];
    for (uint32_t i = 0; i < count; i++)
        axes[i] = (struct tp_axis){loops[i].count, loops[i].source_step, loops[i].target_step};
    count = tp_axes_normalise(axes, count);
    for (uint32_t i = 0; i < count && count == piece->axis_count; i++)
        if (axes[i].count != piece->axes[i].count || axes[i].src_stride != piece->axes[i].src_stride ||
            axes[i].dst_stride != piece->axes[i].dst_stride)
            return false;
    return count == piece->axis_count;
}

static uint32_t unnamed(struct tp_mapping *m, const struct tp_map_piece *piece)
{
    uint32_t count = piece->axis_count;
    if (count > TP_MAP_AXES_MAX + TP_RANK_MAX)
        count = TP_MAP_AXES_MAX + TP_RANK_MAX;
    for (uint32_t i = 0; i < count; i++)
        m->loops[i] =
            (struct tp_mapping_loop){"", piece->axes[i].count, piece->axes[i].src_stride, piece->axes[i].dst_stride};
    return count;
}

uint32_t tp_mapping_loops(struct tp_mapping *m, const struct tp_map_target *t, const struct tp_map_piece *piece)
{
    struct side left = {.count = 0}, right = {.count = 0};
    struct tp_captured captured = {.value = {0}};
    uint32_t source;
    if (!tp_mapping_match(m, piece, &source, &captured))
        return unnamed(m, piece);
    const struct tp_rule *rule = &m->applied->rules[piece->rule];
    const struct tp_axes_side *said = &rule->sources[source].left;
    if (!rule->has_axes || !place_left(m, &left, rule, said, &m->mapped.sources[piece->source]) ||
        !place_right(&right, &left, rule, t))
        return unnamed(m, piece);
    uint32_t count = draw(m->loops, &left, &right);
    return is_same_copy(m->loops, count, piece) ? count : unnamed(m, piece);
}
