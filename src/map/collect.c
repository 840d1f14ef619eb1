/* SPDX-License-Identifier: MIT */
/* Placements of one path become one target. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "dtype/constant.h"
#include "map/side.h"
#include "map/work.h"

/* ---- one path after the other ---- */

static int compare_paths(const struct tp_placement *x, const struct tp_placement *y)
{
    int order = memcmp(x->path, y->path, x->path_len < y->path_len ? x->path_len : y->path_len);
    return order ? order : (x->path_len > y->path_len) - (x->path_len < y->path_len);
}

static int by_path(const void *a, const void *b)
{
    const struct tp_placement *x = a, *y = b;
    int order = compare_paths(x, y);
    if (order == 0)
        order = (x->rule > y->rule) - (x->rule < y->rule);
    if (order == 0)
        order = (x->source > y->source) - (x->source < y->source);
    if (order == 0)
        order = (x->from > y->from) - (x->from < y->from);
    return order ? order : (x->to > y->to) - (x->to < y->to);
}

static size_t group_end(const struct tp_map_work *w, size_t first)
{
    size_t end = first + 1;
    while (end < w->placement_count && compare_paths(&w->placements[end], &w->placements[first]) == 0)
        end++;
    return end;
}

/* ---- E03: several that may not share a path ---- */

static void show_origin(const struct tp_map_work *w, const struct tp_placement *p, char *dst)
{
    const struct tp_map_source *s = &w->question->sources[p->source];
    if (p->rule == TP_MAP_CONSTANT)
        memcpy(dst, "a constant", sizeof "a constant");
    else
        tp_shown_name(dst, s->name, s->name_len);
}

static bool add_clash(struct tp_map_work *w, const struct tp_placement *x, const struct tp_placement *y)
{
    char a[TP_SHOWN_TEXT], b[TP_SHOWN_TEXT], path[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E03", TP_MAP_NONE, 0, NULL,
                               "two rules for one target, which may only be if they see it alike: the same right side, "
                               "numbers and dtype");
    show_origin(w, x, a);
    show_origin(w, y, b);
    tp_findings_add(&w->findings, at, "%s: %s and %s", tp_shown_path(path, w->map, x->path, x->path_len), a, b);
    return false;
}

/* Two rules may fill one target (some layers each), if they see it alike. */
static bool same_view(const struct tp_map_work *w, uint32_t x, uint32_t y)
{
    const struct tp_rule *a = &w->map->rules[x], *b = &w->map->rules[y];
    const struct tp_ruling *c = &w->rulings[x], *d = &w->rulings[y];
    if (!a->has_axes || !b->has_axes || a->stack || b->stack || a->cat || b->cat || a->pad_count || b->pad_count ||
        a->dtype != b->dtype || !tp_sides_equal(&a->right, &b->right))
        return false;
    for (uint32_t i = 0; i < a->right.axis_count; i++)
        if (c->right[i].role != d->right[i].role)
            return false;
    return c->arithmetic.factor == d->arithmetic.factor && c->arithmetic.addend == d->arithmetic.addend;
}

static bool may_share(struct tp_map_work *w, const struct tp_placement *p, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        bool is_same = p[i].rule == p[0].rule && tp_placement_has_rule(&p[i]);
        if (!is_same &&
            !(tp_placement_has_rule(&p[i]) && tp_placement_has_rule(&p[0]) && same_view(w, p[0].rule, p[i].rule)))
            return add_clash(w, &p[0], &p[i]);
    }
    return true;
}

/* ---- sizes of the axes: E08, E06 ---- */

static bool size_clash(struct tp_gather *g, uint32_t axis, uint64_t size, size_t owner, uint64_t other_size,
                       size_t other)
{
    struct tp_map_work *w = g->w;
    char path[TP_SHOWN_TEXT], a[TP_SHOWN_TEXT], b[TP_SHOWN_TEXT];
    const struct tp_placement *p = g->placements;
    size_t at = tp_findings_at(&w->findings, "E08", g->rule_number, 0, NULL, "sizes differ within one target");
    tp_findings_add(&w->findings, at, "%s: '%.60s' is %" PRIu64 " in %s, but %" PRIu64 " in %s",
                    tp_shown_path(path, w->map, p->path, p->path_len), g->rule->right.axes[axis].name, size,
                    tp_shown_source(a, &w->question->sources[p[owner].source]), other_size,
                    tp_shown_source(b, &w->question->sources[p[other].source]));
    return false;
}

/* Sizes that one source gives; all that come after must agree. `owners`: 1 + who gave a size of `cat`. */
static bool take_sizes(struct tp_gather *g, size_t number, const uint64_t *sizes, size_t *owners)
{
    const struct tp_placement *p = &g->placements[number];
    const struct tp_rule *rule = &g->w->map->rules[p->rule];
    const struct tp_ruling *ruling = &g->w->rulings[p->rule];
    for (uint32_t a = 0; a < rule->sources[p->from].left.axis_count; a++) {
        const struct tp_left_axis *left = &ruling->left[p->from][a];
        if (left->role != TP_LEFT_PLACED)
            continue;
        uint32_t axis = left->right;
        bool is_split = ruling->split_sizes && strcmp(rule->split, rule->right.axes[axis].name) == 0;
        uint64_t size = is_split ? ruling->split_sizes[p->to] : sizes[a];
        bool is_cat = ruling->right[axis].role == TP_RIGHT_CAT;
        uint64_t *kept = is_cat ? &g->cat_size[p->from] : &g->natural[axis];
        size_t owner = !is_cat ? 0 : owners[p->from] ? owners[p->from] - 1 : number;
        if (owner == number)
            *kept = size;
        if (is_cat)
            owners[p->from] = owner + 1;
        if (*kept != size)
            return size_clash(g, axis, *kept, owner, size, number);
    }
    return true;
}

static bool too_large(const struct tp_gather *g)
{
    char path[TP_SHOWN_TEXT];
    struct tp_map_work *w = g->w;
    size_t at = tp_findings_at(&w->findings, "E06", g->rule_number, UINT64_MAX - 1001, NULL,
                               "a target of more than 2^60 elements");
    tp_findings_add(&w->findings, at, "%s", tp_shown_path(path, w->map, g->placements->path, g->placements->path_len));
    return false;
}

static bool sum_cat(struct tp_gather *g)
{
    for (uint32_t a = 0; a < g->rule->right.axis_count; a++) {
        if (g->ruling->right[a].role != TP_RIGHT_CAT)
            continue;
        g->natural[a] = 0;
        for (uint32_t i = 0; i < g->rule->source_count; i++) {
            g->cat_first[i] = g->natural[a];
            if (TP_ADD_OVERFLOW(g->natural[a], g->cat_size[i], &g->natural[a]))
                return too_large(g);
        }
    }
    return true;
}

/* After padding. The flags of the target follow. */
static void pad_sizes(struct tp_gather *g, struct tp_map_target *target)
{
    bool is_cropped = false;
    for (uint32_t a = 0; a < g->rule->right.axis_count; a++) {
        const struct tp_right_axis *right = &g->ruling->right[a];
        if (right->role == TP_RIGHT_LIST || right->role == TP_RIGHT_INSERTED)
            g->natural[a] = right->size;
        g->size[a] = right->is_padded ? right->pad : g->natural[a];
        target->has_holes |= g->size[a] > g->natural[a];
        is_cropped |= g->size[a] < g->natural[a];
    }
    /* what an inverse adds, its map had cut off */
    g->ruling->inexact[TP_INEXACT_PAD] += g->rule->inverts ? target->has_holes : is_cropped;
}

/* False: beyond 2^60. */
static bool multiply(uint64_t *product, const uint64_t *sizes, uint32_t count)
{
    bool fits = true;
    *product = 1;
    for (uint32_t i = 0; i < count; i++)
        if (sizes[i] == 0)
            *product = 0;
    for (uint32_t i = 0; i<count && * product> 0 && fits; i++)
        fits = !TP_MUL_OVERFLOW(*product, sizes[i], product) && *product <= TP_MAP_ELEMS_MAX;
    return fits;
}

static bool set_shape(struct tp_gather *g, struct tp_map_target *target)
{
    const struct tp_axes_side *side = &g->rule->right;
    uint64_t *shape = tp_arena_alloc(&g->w->result->arena, side->group_count * sizeof *shape);
    if (!shape) {
        g->w->findings.out_of_memory = true;
        return false;
    }
    target->shape = shape;
    target->rank = (uint8_t)side->group_count;
    for (uint32_t i = 0; i < side->group_count; i++)
        if (!multiply(&shape[i], &g->size[side->groups[i].first], side->groups[i].count))
            return too_large(g);
    bool fits = multiply(&g->elem_count, g->size, side->axis_count);
    target->has_holes &= g->elem_count > 0;
    return fits || too_large(g);
}

static bool set_sizes(struct tp_gather *g, struct tp_map_target *target)
{
    size_t owners[TP_MAP_SOURCES_MAX] = {0};
    uint64_t sizes[TP_MAP_AXES_MAX];
    bool ok = tp_gather_places(g);
    for (size_t i = 0; i < g->count && ok; i++)
        ok = tp_place_sizes(g->w, &g->placements[i], sizes) && take_sizes(g, i, sizes, owners);
    if (!ok || !sum_cat(g))
        return false;
    pad_sizes(g, target);
    return set_shape(g, target);
}

/* ---- dtypes: E11 ---- */

static bool differs(struct tp_gather *g, size_t other)
{
    char path[TP_SHOWN_TEXT], a[TP_SHOWN_TEXT], b[TP_SHOWN_TEXT];
    struct tp_map_work *w = g->w;
    const struct tp_placement *p = g->placements;
    size_t at =
        tp_findings_at(&w->findings, "E11", g->rule_number, 0, "Give the rule a \"dtype\", or choose a --precision.",
                       "the sources of one target differ in dtype");
    tp_findings_add(&w->findings, at, "%s: %s and %s", tp_shown_path(path, w->map, p->path, p->path_len),
                    tp_shown_source(a, &w->question->sources[p->source]),
                    tp_shown_source(b, &w->question->sources[p[other].source]));
    return false;
}

static bool check_dtypes(struct tp_gather *g, const struct tp_map_target *target)
{
    const struct tp_map_source *sources = g->w->question->sources;
    uint8_t first = sources[g->placements[0].source].dtype;
    bool has_one = target->dtype != TP_DTYPE_NONE || g->w->question->precision != TP_DTYPE_NONE;
    for (size_t i = 1; i < g->count; i++) {
        uint8_t dtype = sources[g->placements[i].source].dtype;
        if (dtype != first && !(has_one && tp_is_float(dtype) && tp_is_float(first)))
            return differs(g, i);
    }
    return true;
}

/* ---- W02 ---- */

static bool is_power_of_two(double x)
{
    int exponent;
    return fabs(frexp(x, &exponent)) == 0.5;
}

/* Does `to` hold all values of `from`? */
static bool is_lossless(unsigned from, unsigned to)
{
    return from == to || to == TP_F64 || (to == TP_F32 && from != TP_F64);
}

static void count_inexact(struct tp_gather *g, const struct tp_map_target *target)
{
    const struct tp_map_arithmetic *math = &target->arithmetic;
    uint8_t precision = g->w->question->precision;
    uint8_t wanted = target->dtype != TP_DTYPE_NONE ? target->dtype : precision;
    uint32_t *inexact = g->ruling->inexact;
    for (size_t i = 0; i < g->count; i++) {
        uint8_t dtype = g->w->question->sources[g->placements[i].source].dtype;
        uint8_t at = math->cast_first && wanted != TP_DTYPE_NONE ? wanted : dtype;
        inexact[TP_INEXACT_MUL] += math->multiplies && !is_power_of_two(math->factor);
        inexact[TP_INEXACT_ADD] += math->adds && (at == TP_F16 || at == TP_BF16);
        inexact[TP_INEXACT_DTYPE] += target->dtype != TP_DTYPE_NONE && !is_lossless(dtype, target->dtype);
    }
}

/* ---- targets ---- */

static enum tp_status gather(struct tp_gather *g, struct tp_map_target *target, bool *is_whole)
{
    target->arithmetic = g->ruling->arithmetic;
    target->dtype = g->rule->dtype;
    *is_whole = set_sizes(g, target) && check_dtypes(g, target);
    if (!*is_whole)
        return TP_OK;
    count_inexact(g, target);
    return tp_gather_pieces(g, target);
}

/* A source moved as it is: one loop over all of it. */
static enum tp_status move_unchanged(struct tp_gather *g, struct tp_map_target *target, bool *is_whole)
{
    struct tp_map_work *w = g->w;
    const struct tp_placement *p = g->placements;
    const struct tp_map_source *s = &w->question->sources[p->source];
    struct tp_map_piece *piece = tp_arena_alloc(&w->result->arena, sizeof *piece);
    struct tp_axis *loop = tp_arena_alloc(&w->result->arena, sizeof *loop);
    uint64_t *shape = tp_arena_alloc(&w->result->arena, s->rank * sizeof *shape);
    if (!piece || !loop || !shape)
        return tp_fail_nomem(w->err);
    if (s->rank > 0)
        memcpy(shape, s->shape, s->rank * sizeof *shape);
    *loop = (struct tp_axis){1, 1, 1};
    multiply(&loop->count, shape, s->rank); /* fits: looked at when it was placed */
    *piece = (struct tp_map_piece){.source = p->source, .rule = p->rule, .axis_count = loop->count != 1, .axes = loop};
    target->shape = shape;
    target->rank = s->rank;
    target->pieces = piece;
    target->piece_count = 1;
    if (!tp_placement_has_rule(p))
        return TP_OK;
    target->arithmetic = g->ruling->arithmetic;
    target->dtype = g->rule->dtype;
    *is_whole = tp_gather_places(g) && check_dtypes(g, target);
    if (*is_whole)
        count_inexact(g, target);
    return TP_OK;
}

static bool constant_fault(struct tp_map_work *w, const struct tp_placement *p, const char *code, const char *fault)
{
    char path[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, code, TP_MAP_NONE, 2, NULL, "a constant is not what it says");
    tp_findings_add(&w->findings, at, "%s: %s", tp_shown_path(path, w->map, p->path, p->path_len), fault);
    return false;
}

static enum tp_status make_constant(struct tp_map_work *w, const struct tp_placement *p, struct tp_map_target *target,
                                    bool *is_whole)
{
    const struct tp_rule_const *c = &w->map->constants[p->source];
    target->is_constant = true;
    target->is_none = c->value == NULL;
    if (target->is_none)
        return TP_OK;
    uint64_t *shape = tp_arena_alloc(&w->result->arena, c->rank * sizeof *shape), count, bits;
    char missing[256];
    if (!shape)
        return tp_fail_nomem(w->err);
    for (uint32_t i = 0; i < c->rank && *is_whole; i++)
        if (!tp_expr_evaluate_whole(&shape[i], c->shape[i], &w->scope, 1, missing))
            *is_whole = constant_fault(w, p, "E07", missing);
    if (*is_whole && !tp_expr_evaluate(&target->value, c->value, &w->scope, missing))
        *is_whole = constant_fault(w, p, "E07", missing);
    if (*is_whole && !multiply(&count, shape, c->rank))
        *is_whole = constant_fault(w, p, "E06", "more than 2^60 elements");
    if (*is_whole && !tp_dtype_encode(&bits, target->value, (enum tp_dtype)c->dtype))
        *is_whole = constant_fault(w, p, "E11", "the dtype has no such value");
    target->dtype = c->dtype;
    target->shape = shape;
    target->rank = (uint8_t)c->rank;
    return TP_OK;
}

/* "l, e" */
static bool set_slot(struct tp_gather *g, struct tp_map_target *target)
{
    char text[TP_SHOWN_TEXT] = "";
    size_t used = 0;
    for (uint32_t a = 0; a < g->rule->right.axis_count; a++) {
        uint8_t role = g->ruling->right[a].role;
        size_t len = strlen(g->rule->right.axes[a].name);
        if ((role != TP_RIGHT_CAPTURE && role != TP_RIGHT_LIST) || used + len + 3 > sizeof text)
            continue;
        memcpy(text + used, ", ", used ? 2 : 0);
        used += used ? 2 : 0;
        memcpy(text + used, g->rule->right.axes[a].name, len);
        used += len;
    }
    target->slot = used ? tp_arena_strndup(&g->w->result->arena, text, used) : NULL;
    return !used || target->slot;
}

static enum tp_status make_target(struct tp_map_work *w, size_t first, size_t end, struct tp_map_target *target,
                                  bool *is_whole)
{
    const struct tp_placement *p = &w->placements[first];
    bool has_rule = tp_placement_has_rule(p);
    struct tp_gather g = {.w = w,
                          .placements = p,
                          .count = end - first,
                          .rule = has_rule ? &w->map->rules[p->rule] : NULL,
                          .ruling = has_rule ? &w->rulings[p->rule] : NULL,
                          .rule_number = p->rule};
    *target = (struct tp_map_target){.list_levels = p->list_levels,
                                     .rule = has_rule ? p->rule : TP_MAP_NONE,
                                     .path = tp_arena_strndup(&w->result->arena, p->path, p->path_len),
                                     .path_len = p->path_len,
                                     .arithmetic = {.factor = 1},
                                     .dtype = TP_DTYPE_NONE};
    if (!target->path)
        return tp_fail_nomem(w->err);
    *is_whole = may_share(w, p, g.count);
    if (!*is_whole)
        return TP_OK;
    if (p->rule == TP_MAP_CONSTANT)
        return make_constant(w, p, target, is_whole);
    if (!has_rule || !g.rule->has_axes)
        return move_unchanged(&g, target, is_whole);
    return set_slot(&g, target) ? gather(&g, target, is_whole) : tp_fail_nomem(w->err);
}

enum tp_status tp_collect_targets(struct tp_map_work *w)
{
    if (w->placement_count > 0)
        qsort(w->placements, w->placement_count, sizeof *w->placements, by_path);
    size_t count = 0;
    for (size_t i = 0; i < w->placement_count; i = group_end(w, i))
        count++;
    w->result->targets = tp_arena_alloc(&w->result->arena, count * sizeof *w->result->targets);
    w->firsts = tp_arena_alloc(&w->scratch, count * sizeof *w->firsts);
    if (!w->result->targets || !w->firsts)
        return tp_fail_nomem(w->err);
    enum tp_status st = TP_OK;
    for (size_t i = 0, end; i < w->placement_count && !st; i = end) {
        bool is_whole = true;
        end = group_end(w, i);
        st = make_target(w, i, end, &w->result->targets[w->result->target_count], &is_whole);
        w->firsts[w->result->target_count] = (uint32_t)i;
        w->result->target_count += is_whole;
    }
    return st;
}
