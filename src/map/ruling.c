/* SPDX-License-Identifier: MIT */
/* What a rule's sides mean, and its numbers. Roles are a matter of the map alone; numbers need a config. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "dtype/constant.h"
#include "map/side.h"
#include "map/work.h"

#define MISSING_TEXT 256

/* ---- roles ---- */

static const char hint_sides[] =
    "Each axis of the left stands on the right or is taken apart by \"split\" or a capture "
    "of \"to\"; each of the right comes from the left, a capture of \"from\", \"stack\" or "
    "\"cat\". Only a 1 may stand alone.";

static void add_side_fault(struct tp_map_work *w, uint32_t rule, const char *axis, const char *fault)
{
    char shown[TP_SHOWN_TEXT], text[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E09", rule, 0, hint_sides, "the sides of \"axes\" do not fit in %s",
                               tp_shown_rule(text, &w->map->rules[rule]));
    tp_findings_add(&w->findings, at, "'%s' %s", tp_shown_name(shown, axis, strlen(axis)), fault);
}

static bool is_named(const char *wanted, const struct tp_named_axis *axis)
{
    return wanted && strcmp(wanted, axis->name) == 0;
}

static bool is_one(const struct tp_named_axis *axis)
{
    return axis->size == 1;
}

/* NULL, or what is wrong with the axis. */
static const char *left_role(struct tp_left_axis *left, const struct tp_rule *rule, const struct tp_named_axis *axis)
{
    uint32_t right = tp_axes_find(&rule->right, axis->name);
    *left = (struct tp_left_axis){.size = axis->size, .is_known = axis->size > 0};
    if (right != TP_MAP_NONE) {
        left->role = TP_LEFT_PLACED;
        left->right = (uint8_t)right;
        bool is_capture = axis->capture != TP_MAP_NONE && rule->captures[axis->capture].in_from;
        return is_capture ? "is an axis of the left and a capture of \"from\" as well" : NULL;
    }
    if (is_named(rule->split, axis) && !rule->split_sizes) {
        left->role = TP_LEFT_SPLIT;
        return NULL;
    }
    if (axis->capture != TP_MAP_NONE) {
        const struct tp_capture *c = &rule->captures[axis->capture];
        left->role = TP_LEFT_UNSTACK;
        left->capture = (uint8_t)axis->capture;
        return c->in_from  ? "is an axis of the left and a capture of \"from\" as well"
               : !c->in_to ? "stands on the left only"
                           : NULL;
    }
    left->role = TP_LEFT_DROPPED;
    return is_one(axis) ? NULL : "stands on the left only";
}

static const char *right_role(struct tp_right_axis *right, const struct tp_rule *rule, const struct tp_named_axis *axis)
{
    *right = (struct tp_right_axis){.size = axis->size, .is_known = axis->size > 0};
    bool is_left = rule->source_count > 0;
    for (uint32_t i = 0; i < rule->source_count; i++)
        is_left &= tp_axes_find(&rule->sources[i].left, axis->name) != TP_MAP_NONE;
    if (is_left) {
        right->role = is_named(rule->cat, axis) ? TP_RIGHT_CAT : TP_RIGHT_PLACED;
        return NULL;
    }
    if (is_named(rule->stack, axis)) {
        right->role = TP_RIGHT_LIST;
        return NULL;
    }
    if (axis->capture != TP_MAP_NONE) {
        const struct tp_capture *c = &rule->captures[axis->capture];
        right->role = TP_RIGHT_CAPTURE;
        right->capture = (uint8_t)axis->capture;
        return !c->in_from ? "stands on the right only"
               : c->in_to  ? "is stacked, but \"to\" has it too: there is one target for each of its values"
                           : NULL;
    }
    right->role = TP_RIGHT_INSERTED;
    return is_one(axis) ? NULL : "stands on the right only, or is missing on the left of some source";
}

static enum tp_status set_roles(struct tp_map_work *w, uint32_t number)
{
    const struct tp_rule *rule = &w->map->rules[number];
    struct tp_ruling *ruling = &w->rulings[number];
    ruling->left = tp_arena_alloc(&w->scratch, rule->source_count * sizeof *ruling->left);
    ruling->right = tp_arena_alloc(&w->scratch, rule->right.axis_count * sizeof *ruling->right);
    if (!ruling->left || !ruling->right)
        return tp_fail_nomem(w->err);
    for (uint32_t i = 0; i < rule->source_count; i++) {
        const struct tp_axes_side *side = &rule->sources[i].left;
        ruling->left[i] = tp_arena_alloc(&w->scratch, side->axis_count * sizeof **ruling->left);
        if (!ruling->left[i])
            return tp_fail_nomem(w->err);
        for (uint32_t a = 0; a < side->axis_count; a++) {
            const char *fault = left_role(&ruling->left[i][a], rule, &side->axes[a]);
            if (fault)
                add_side_fault(w, number, side->axes[a].name, fault);
            ruling->state = fault ? TP_RULING_BROKEN : ruling->state;
        }
    }
    for (uint32_t a = 0; a < rule->right.axis_count; a++) {
        const char *fault = right_role(&ruling->right[a], rule, &rule->right.axes[a]);
        if (fault)
            add_side_fault(w, number, rule->right.axes[a].name, fault);
        ruling->state = fault ? TP_RULING_BROKEN : ruling->state;
    }
    return TP_OK;
}

enum tp_status tp_rulings_make(struct tp_map_work *w)
{
    uint32_t count = w->map->rule_count;
    w->rulings = tp_arena_alloc(&w->scratch, count * sizeof *w->rulings);
    if (!w->rulings)
        return tp_fail_nomem(w->err);
    memset(w->rulings, 0, count * sizeof *w->rulings);
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < count && !st; i++)
        if (w->map->rules[i].has_axes)
            st = set_roles(w, i);
    return st;
}

/* ---- numbers: E07 where there is none ---- */

static const char hint_number[] =
    "A name is one of \"dims\" or a number of config.json, which lies beside the checkpoint.";

static bool no_number(struct tp_map_work *w, uint32_t rule, const char *what)
{
    size_t at = tp_findings_at(&w->findings, "E07", rule, 0, hint_number, "a size or number is not known");
    tp_findings_add(&w->findings, at, "%s", what);
    return false;
}

static bool whole(struct tp_map_work *w, uint32_t rule, const struct tp_expr *expr, uint64_t least, uint64_t *value)
{
    char missing[MISSING_TEXT];
    if (!tp_expr_evaluate_whole(value, expr, &w->scope, least, missing))
        return no_number(w, rule, missing);
    return *value <= TP_MAP_ELEMS_MAX || no_number(w, rule, "a size has more than 2^60 elements");
}

/* An axis named in "dims" has that size. */
static const struct tp_expr *dim_of(const struct tp_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->dim_count; i++)
        if (strcmp(map->dims[i].name, name) == 0)
            return map->dims[i].size;
    return NULL;
}

static const struct tp_rule_pad *pad_of(const struct tp_rule *rule, const char *name)
{
    for (uint32_t i = 0; i < rule->pad_count; i++)
        if (strcmp(rule->pads[i].axis, name) == 0)
            return &rule->pads[i];
    return NULL;
}

/* A size that is known in two ways must be the same: E06. */
static bool agrees(struct tp_map_work *w, uint32_t rule, const char *axis, uint64_t expected, uint64_t found)
{
    if (expected == found)
        return true;
    char shown[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E06", rule, UINT64_MAX, NULL, "a size is not that of the rule's lists");
    tp_findings_add(&w->findings, at, "'%s' is %" PRIu64 ", the rule has %" PRIu64,
                    tp_shown_name(shown, axis, strlen(axis)), expected, found);
    return false;
}

static bool set_split_sizes(struct tp_map_work *w, uint32_t number, uint64_t *total)
{
    const struct tp_rule *rule = &w->map->rules[number];
    uint64_t *sizes = tp_arena_alloc(&w->scratch, rule->to_count * sizeof *sizes);
    *total = 0;
    if (!sizes) {
        w->findings.out_of_memory = true;
        return false;
    }
    for (uint32_t i = 0; i < rule->to_count; i++) {
        if (!whole(w, number, rule->split_sizes[i], 1, &sizes[i]))
            return false;
        *total += sizes[i]; /* 64 numbers of at most 2^60 could pass 2^64: checked at each step */
        if (*total > TP_MAP_ELEMS_MAX)
            return no_number(w, number, "the sizes of \"split\" have more than 2^60 elements together");
    }
    w->rulings[number].split_sizes = sizes;
    return true;
}

static void set_known(struct tp_left_axis *left, uint64_t size, const char *origin)
{
    left->size = size;
    left->origin = origin;
    left->is_known = true;
}

/* From "dims", or of an inverse what the axis was padded to. */
static bool settle_left(struct tp_map_work *w, uint32_t number, const struct tp_named_axis *axis,
                        struct tp_left_axis *left)
{
    const struct tp_rule *rule = &w->map->rules[number];
    const struct tp_rule_pad *pad = rule->inverts ? pad_of(rule, axis->name) : NULL;
    const struct tp_expr *expr = left->is_known ? NULL : pad ? pad->size : dim_of(w->map, axis->name);
    bool is_joined = rule->inverts && rule->split_sizes && is_named(rule->split, axis); /* "dims" has that of a part */
    uint64_t size = 0;
    if (!expr || is_joined)
        return true;
    if (!whole(w, number, expr, 1, &size))
        return false;
    set_known(left, size, tp_expr_text(expr));
    return true;
}

/* What lists say: as many targets as the axis is long, sizes that make up its whole. */
static bool settle_split(struct tp_map_work *w, uint32_t number, uint64_t total, uint32_t from)
{
    const struct tp_rule *rule = &w->map->rules[number];
    const struct tp_axes_side *side = &rule->sources[from].left;
    uint32_t at = rule->split ? tp_axes_find(side, rule->split) : TP_MAP_NONE;
    uint64_t size = rule->split_sizes ? total : rule->to_count;
    if (at == TP_MAP_NONE)
        return true;
    struct tp_left_axis *left = &w->rulings[number].left[from][at];
    if (left->is_known)
        return agrees(w, number, side->axes[at].name, left->size, size);
    set_known(left, size, rule->split_sizes ? "sizes of \"split\"" : "length of \"to\"");
    return true;
}

/* Of an inverse: a source of "cat" was a range of known size. */
static bool settle_cat(struct tp_map_work *w, uint32_t number, uint32_t from)
{
    const struct tp_rule *rule = &w->map->rules[number];
    uint32_t at = rule->cat_sizes ? tp_axes_find(&rule->sources[from].left, rule->cat) : TP_MAP_NONE;
    uint64_t size = 0;
    if (at == TP_MAP_NONE)
        return true;
    if (!whole(w, number, rule->cat_sizes[from], 1, &size))
        return false;
    set_known(&w->rulings[number].left[from][at], size, tp_expr_text(rule->cat_sizes[from]));
    return true;
}

/* In each group one size at most is left to be found from a shape. */
static bool check_unknowns(struct tp_map_work *w, uint32_t number, uint32_t from)
{
    const struct tp_axes_side *side = &w->map->rules[number].sources[from].left;
    const struct tp_left_axis *left = w->rulings[number].left[from];
    for (uint32_t i = 0; i < side->group_count; i++) {
        const struct tp_axis_group *g = &side->groups[i];
        uint32_t unknown = 0;
        for (uint32_t a = g->first; a < g->first + g->count; a++)
            unknown += !left[a].is_known;
        if (unknown > 1) {
            char shown[TP_SHOWN_TEXT], what[TP_SHOWN_TEXT + 160];
            snprintf(what, sizeof what,
                     "\"%s\": a shape tells one size of a group, %" PRIu32 " are missing; give the others in \"dims\"",
                     tp_shown_group(shown, side, i), unknown);
            return no_number(w, number, what);
        }
    }
    return true;
}

static bool settle_take(struct tp_map_work *w, uint32_t number, uint32_t from)
{
    const struct tp_rule_source *source = &w->map->rules[number].sources[from];
    struct tp_take *take = &w->rulings[number].takes[from];
    *take = (struct tp_take){.has_high = source->take_high};
    return (!source->take_low || whole(w, number, source->take_low, 0, &take->low)) &&
           (!source->take_high || whole(w, number, source->take_high, 0, &take->high));
}

static bool settle_source(struct tp_map_work *w, uint32_t number, uint64_t split_total, uint32_t from)
{
    const struct tp_axes_side *side = &w->map->rules[number].sources[from].left;
    bool ok = settle_take(w, number, from) && settle_cat(w, number, from);
    for (uint32_t a = 0; a < side->axis_count && ok; a++)
        ok = settle_left(w, number, &side->axes[a], &w->rulings[number].left[from][a]);
    return ok && settle_split(w, number, split_total, from) && check_unknowns(w, number, from);
}

/* ---- the right side ---- */

/* Stacked axes may be named in "dims"; those of a list are as long as it is. */
static bool settle_stack(struct tp_map_work *w, uint32_t number, const struct tp_named_axis *axis,
                         struct tp_right_axis *right)
{
    const struct tp_expr *expr = right->is_known ? NULL : dim_of(w->map, axis->name);
    if (expr && !whole(w, number, expr, 1, &right->size))
        return false;
    right->origin = expr ? tp_expr_text(expr) : NULL;
    right->is_known |= expr != NULL;
    if (right->role != TP_RIGHT_LIST)
        return true;
    uint64_t count = w->map->rules[number].source_count;
    if (right->is_known && !agrees(w, number, axis->name, right->size, count))
        return false;
    right->size = count;
    right->is_known = true;
    return true;
}

/* Of an inverse: back to the size that "dims" says. Where it says none, the axis stays as it is. */
static bool settle_pad(struct tp_map_work *w, uint32_t number, const struct tp_named_axis *axis,
                       struct tp_right_axis *right)
{
    const struct tp_rule *rule = &w->map->rules[number];
    const struct tp_rule_pad *pad = pad_of(rule, axis->name);
    const struct tp_expr *size = pad && rule->inverts ? dim_of(w->map, axis->name) : pad ? pad->size : NULL;
    right->is_padded = size != NULL;
    if (!size || !whole(w, number, size, 1, &right->pad))
        return !size;
    return right->pad <= TP_MAP_PAD_MAX || no_number(w, number, "\"pad\" to more than 4,294,967,296");
}

static bool settle_right(struct tp_map_work *w, uint32_t number)
{
    const struct tp_axes_side *side = &w->map->rules[number].right;
    bool ok = true;
    for (uint32_t a = 0; a < side->axis_count && ok; a++) {
        struct tp_right_axis *right = &w->rulings[number].right[a];
        if (right->role == TP_RIGHT_CAPTURE || right->role == TP_RIGHT_LIST)
            ok = settle_stack(w, number, &side->axes[a], right);
        ok = ok && settle_pad(w, number, &side->axes[a], right);
    }
    return ok;
}

/* ---- arithmetic ---- */

/* In that dtype. Fails where it has no such number. */
static bool round_factor(double *value, enum tp_float_round round)
{
    static const enum tp_dtype dtypes[] = {TP_F32, TP_BF16, TP_F16};
    uint64_t bits = 0;
    if (round == TP_ROUND_F32)
        return true; /* the pipeline rounds to the dtype it computes in, which for float64 is no rounding */
    double near = round == TP_ROUND_BF16 ? (double)(float)*value : *value; /* as JAX makes a bfloat16 of a number */
    return tp_dtype_encode(&bits, near, dtypes[round]) && tp_dtype_to_f64(value, &bits, 1, dtypes[round]);
}

static bool number_of(struct tp_map_work *w, uint32_t rule, const struct tp_expr *expr, double *value)
{
    char missing[MISSING_TEXT];
    if (!tp_expr_evaluate(value, expr, &w->scope, missing))
        return no_number(w, rule, missing);
    return fabs(*value) <= (double)FLT_MAX || no_number(w, rule, "a number of \"mul\" or \"add\" is no float32");
}

/* "mul" and "add", or both undone. */
static bool settle_arithmetic(struct tp_map_work *w, uint32_t number)
{
    const struct tp_rule *rule = &w->map->rules[number];
    double factor = 1, addend = 0;
    if ((rule->mul && !number_of(w, number, rule->mul, &factor)) ||
        (rule->add && !number_of(w, number, rule->add, &addend)))
        return false;
    if (!round_factor(&factor, rule->mul_round))
        return no_number(w, number, "the factor of \"mul\" is no number of the dtype it is rounded to");
    double did_factor = rule->inverts ? factor : 1, did_addend = rule->inverts ? addend : 0;
    if (rule->inverts) { /* (y - a) / f, as one product and one sum */
        if (factor == 0)
            return no_number(w, number, "\"mul\" by 0 cannot be undone");
        factor = 1 / factor;
        addend = -addend * factor;
    }
    w->rulings[number].arithmetic = (struct tp_map_arithmetic){.multiplies = factor != 1,
                                                               .adds = addend != 0,
                                                               .cast_first = w->map->cast_first,
                                                               .factor = factor,
                                                               .addend = addend,
                                                               .undone_factor = did_factor,
                                                               .undone_addend = did_addend};
    return true;
}

/* ---- all of it ---- */

static bool check_names(struct tp_map_work *w, uint32_t number)
{
    const struct tp_rule *rule = &w->map->rules[number];
    char missing[MISSING_TEXT];
    bool ok = (!rule->if_missing || tp_pattern_check(rule->if_missing, &w->scope, missing)) &&
              (!rule->same_as || tp_pattern_check(rule->same_as, &w->scope, missing));
    for (uint32_t i = 0; i < rule->to_count && ok; i++)
        ok = tp_pattern_check(&rule->to[i], &w->scope, missing);
    return ok || no_number(w, number, missing);
}

enum tp_status tp_ruling_settle(struct tp_map_work *w, uint32_t number)
{
    const struct tp_rule *rule = &w->map->rules[number];
    struct tp_ruling *ruling = &w->rulings[number];
    if (ruling->state != TP_RULING_NEW)
        return TP_OK;
    uint64_t split_total = 0;
    ruling->takes = tp_arena_alloc(&w->scratch, rule->source_count * sizeof *ruling->takes);
    if (!ruling->takes)
        return tp_fail_nomem(w->err);
    bool ok = check_names(w, number) && settle_arithmetic(w, number);
    if (rule->has_axes) {
        ok = ok && (!rule->split_sizes || set_split_sizes(w, number, &split_total));
        for (uint32_t i = 0; i < rule->source_count && ok; i++)
            ok = settle_source(w, number, split_total, i);
        ok = ok && settle_right(w, number);
    }
    ruling->state = ok ? TP_RULING_READY : TP_RULING_BROKEN;
    return TP_OK;
}
