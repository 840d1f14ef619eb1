/* SPDX-License-Identifier: MIT */
/* Arrays as a map says: its targets become arrays, its strided copies pieces. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "dtype/constant.h"
#include "plan/builder.h"
#include "plan/mapped.h"
#include "tensorport/text.h"

/* ---- what does not fit ---- */

/* All findings at once, as far as a message goes. */
static enum tp_status refuse_findings(const struct tp_plan_builder *b, const struct tp_map_result *result)
{
    char text[2600];
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < result->error_count && used < sizeof text - 1; i++) {
        int n = snprintf(text + used, sizeof text - used, "\n%s %s", result->errors[i].code, result->errors[i].text);
        used += n > 0 ? (size_t)n : 0;
    }
    tp_fail(b->err, TP_ERR_FORMAT, "the map does not fit this checkpoint (%zu error%s):%s", result->error_count,
            result->error_count == 1 ? "" : "s", text);
    tp_err_path(b->err, TP_ERR_FORMAT, tp_checkpoint_path(b->source));
    return tp_err_hint(b->err, TP_ERR_FORMAT, "tensorport map check shows all of it; nothing was written");
}

/* Worth saying while converting: not that a map of a whole family has rules for parts that this model lacks (W01), and
 * of the way back (W02) only there. `map check` says all. */
static bool is_news(const struct tp_plan_builder *b, const char *code)
{
    bool is_of_family = tp_map_architecture(b->options->map, 0) != NULL;
    if (strcmp(code, "W01") == 0)
        return !is_of_family && !b->options->reverse;
    return strcmp(code, "W02") != 0 || b->options->reverse;
}

static enum tp_status note_warnings(const struct tp_plan_builder *b, const struct tp_map_result *result)
{
    for (size_t i = 0; i < result->warning_count; i++)
        if (is_news(b, result->warnings[i].code) &&
            !tp_list_add(&b->plan->notes, "%s %s", result->warnings[i].code, result->warnings[i].text))
            return tp_fail_nomem(b->err);
    return TP_OK;
}

/* Never a silent loss: what the map drops is counted, and the first ones named. */
static enum tp_status note_dropped(const struct tp_plan_builder *b, const struct tp_map_result *result)
{
    struct tp_name_list names = {.count = 0};
    char shown[TP_NAME_TEXT];
    for (size_t i = 0; i < result->dropped_count; i++) {
        const struct tp_logical *l = &b->plan->logicals[result->dropped[i]];
        tp_name_list_add(&names, tp_describe_name(shown, tp_logical_name(l), tp_logical_name_len(l)));
    }
    for (size_t i = 0; i < result->same_count; i++) {
        const struct tp_logical *l = &b->plan->logicals[result->sames[i].source];
        tp_name_list_add(&names, tp_describe_name(shown, tp_logical_name(l), tp_logical_name_len(l)));
    }
    bool ok = names.count == 0 || tp_list_add(&b->plan->notes, "%zu tensor%s left out by the map: %s", names.count,
                                              names.count == 1 ? "" : "s", tp_name_list_text(&names));
    return ok ? TP_OK : tp_fail_nomem(b->err);
}

/* ---- one array ---- */

/* The innermost loop of a piece is its run, where it is dense on both sides. */
static void set_loops(struct tp_piece *piece, const struct tp_map_piece *from)
{
    const struct tp_axis *last = from->axis_count ? &from->axes[from->axis_count - 1] : NULL;
    bool is_run = last && last->src_stride == 1 && last->dst_stride == 1;
    piece->axes = from->axes;
    piece->axis_count = from->axis_count - is_run;
    piece->run_elems = is_run ? last->count : 1;
    piece->src_first = from->src_first;
    piece->dst_first = from->dst_first;
}

static void set_arithmetic(const struct tp_plan_builder *b, const struct tp_map_arithmetic *arithmetic,
                           const struct tp_logical *l, const struct tp_array *a, struct tp_piece *piece)
{
    if (!arithmetic->multiplies && !arithmetic->adds)
        return;
    piece->arithmetic = arithmetic;
    piece->math_dtype = arithmetic->cast_first ? a->dtype : l->decoded ? (uint8_t)tp_model_dtype(b->source) : l->dtype;
}

/* Bytes are moved as they are where the array counts bytes: F4 and F6, and views of them. */
static enum tp_status set_bytes(const struct tp_plan_builder *b, struct tp_array *a, struct tp_piece *piece,
                                struct tp_logical *l)
{
    bool is_view = a->view != TP_DTYPE_NONE;
    if (!is_view && tp_dtype_bits((enum tp_dtype)a->dtype) >= 8)
        return TP_OK;
    l->dtype = TP_U8;
    if (tp_dtype_bits((enum tp_dtype)piece->source_dtype) < 8)
        piece->run_elems = a->elem_count = l->tensor->size_bytes;
    return a->view == TP_F4 ? tp_halve_last_axis(b, a) : TP_OK;
}

static enum tp_status add_pieces(struct tp_plan_builder *b, const struct tp_map_target *t, struct tp_array *a)
{
    struct tp_plan *plan = b->plan;
    struct tp_piece *pieces = tp_arena_alloc(&plan->arena, t->piece_count * sizeof *pieces);
    struct tp_map_arithmetic *arithmetic = tp_arena_alloc(&plan->arena, sizeof *arithmetic);
    if (!pieces || !arithmetic)
        return tp_fail_nomem(b->err);
    *arithmetic = t->arithmetic;
    a->pieces = pieces;
    a->piece_count = t->piece_count;
    a->group = tp_logical_group(&plan->logicals[t->pieces[0].source]);
    for (uint32_t i = 0; i < t->piece_count; i++) {
        struct tp_logical *l = &plan->logicals[t->pieces[i].source];
        pieces[i] = (struct tp_piece){.logical = t->pieces[i].source};
        set_loops(&pieces[i], &t->pieces[i]);
        tp_choose_dtype(b, l, (enum tp_dtype)t->dtype, a, &pieces[i]);
        set_arithmetic(b, arithmetic, l, a, &pieces[i]);
    }
    return set_bytes(b, a, &pieces[0], &plan->logicals[t->pieces[0].source]);
}

static enum tp_status set_constant(const struct tp_plan_builder *b, const struct tp_map_target *t, struct tp_array *a)
{
    a->dtype = t->dtype;
    if (tp_dtype_encode(&a->fill, t->value, (enum tp_dtype)t->dtype))
        return TP_OK;
    return tp_fail(b->err, TP_ERR_UNSUPPORTED, "the map's constant %.17g is no value of %s", t->value,
                   tp_dtype_numpy_name((enum tp_dtype)t->dtype));
}

/* The map's path, under the keys that wrap the tree. */
static enum tp_status set_path(const struct tp_plan_builder *b, const struct tp_map_target *t, struct tp_array *a)
{
    const char *wrap = b->options->wrap;
    size_t wrap_len = wrap ? strlen(wrap) + 1 : 0;
    a->path = t->path;
    a->path_len = t->path_len;
    a->list_levels = t->list_levels;
    if (!wrap)
        return TP_OK;
    if (wrap_len + t->path_len > TP_NAME_MAX_BYTES)
        return tp_fail(b->err, TP_ERR_LIMIT, "with --wrap a path has more than %u bytes", TP_NAME_MAX_BYTES);
    char *path = tp_arena_alloc(&b->plan->arena, wrap_len + t->path_len + 1u);
    if (!path)
        return tp_fail_nomem(b->err);
    unsigned depth = 1;
    for (size_t i = 0; i < wrap_len; i++) {
        path[i] = wrap[i] == '/' ? '\0' : wrap[i];
        depth += wrap[i] == '/';
    }
    memcpy(path + wrap_len, t->path, t->path_len + 1u);
    a->path = path;
    a->path_len = (uint16_t)(wrap_len + t->path_len);
    a->list_levels = depth < 64 ? t->list_levels << depth : 0;
    return TP_OK;
}

static enum tp_status add_target(struct tp_plan_builder *b, const struct tp_map_target *t)
{
    struct tp_plan *plan = b->plan;
    struct tp_array *a = &plan->arrays[plan->array_count];
    *a = (struct tp_array){.shape = t->shape,
                           .rank = t->rank,
                           .elem_count = 1,
                           .first_extent = TP_NONE,
                           .result = TP_NONE,
                           .group = TP_NO_GROUP,
                           .view = TP_DTYPE_NONE,
                           .has_holes = t->has_holes || t->is_constant};
    for (unsigned i = 0; i < t->rank; i++)
        a->elem_count *= t->shape[i];
    enum tp_status st = t->piece_count > 0 ? add_pieces(b, t, a) : set_constant(b, t, a);
    if (!st)
        st = set_path(b, t, a);
    if (st)
        return st;
    plan->array_count++;
    tp_plan_count_array(plan, a);
    return TP_OK;
}

/* ---- all of them ---- */

static enum tp_status add_targets(struct tp_plan_builder *b, const struct tp_map_result *result)
{
    struct tp_plan *plan = b->plan;
    bool *read = calloc(plan->logical_count + 1, sizeof *read);
    plan->arrays = malloc((result->target_count + 1) * sizeof *plan->arrays);
    enum tp_status st = read && plan->arrays ? TP_OK : tp_fail_nomem(b->err);
    for (size_t i = 0; i < result->target_count && !st; i++) {
        st = add_target(b, &result->targets[i]);
        for (uint32_t k = 0; k < result->targets[i].piece_count; k++)
            read[result->targets[i].pieces[k].source] = true;
    }
    for (size_t i = 0; i < plan->logical_count && !st; i++)
        plan->read_bytes += read[i] ? tp_logical_source_bytes(&plan->logicals[i]) : 0;
    free(read);
    return st;
}

static enum tp_status add_nones(struct tp_plan_builder *b, const struct tp_map_result *result)
{
    struct tp_plan *plan = b->plan;
    enum tp_status st = TP_OK;
    plan->nones = tp_arena_alloc(&plan->arena, (result->none_count + 1) * sizeof *plan->nones);
    if (!plan->nones)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i < result->none_count && !st; i++) {
        struct tp_array *none = &plan->nones[plan->none_count];
        *none = (struct tp_array){.first_extent = TP_NONE, .result = TP_NONE, .group = TP_NO_GROUP};
        st = set_path(b, &result->nones[i], none);
        plan->none_count += !st;
    }
    return st;
}

static enum tp_status add_sames(struct tp_plan_builder *b, const struct tp_map_result *result)
{
    struct tp_plan *plan = b->plan;
    plan->sames = tp_arena_alloc(&plan->arena, (result->same_count + 1) * sizeof *plan->sames);
    if (!plan->sames)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i < result->same_count; i++)
        plan->sames[plan->same_count++] = (struct tp_same){result->sames[i].source, result->sames[i].other};
    return TP_OK;
}

enum tp_status tp_plan_add_mapped(struct tp_plan_builder *b)
{
    struct tp_plan *plan = b->plan;
    struct tp_mapped mapped;
    enum tp_status st =
        tp_mapped_make(&mapped, b->source, plan->logicals, plan->logical_count, b->options, NULL, 0, b->err);
    if (!st && mapped.result.error_count > 0)
        st = refuse_findings(b, &mapped.result);
    if (!st)
        st = note_warnings(b, &mapped.result);
    if (!st)
        st = note_dropped(b, &mapped.result);
    plan->ordered = !st && !b->options->reverse && tp_map_orders_by_rules(b->options->map);
    if (!st)
        st = add_targets(b, &mapped.result);
    if (!st)
        st = add_nones(b, &mapped.result);
    if (!st)
        st = add_sames(b, &mapped.result);
    /* Shapes, paths and loops live in the result's arena: it moves over. */
    tp_arena_join(&plan->arena, &mapped.result.arena);
    tp_mapped_release(&mapped);
    return st;
}
