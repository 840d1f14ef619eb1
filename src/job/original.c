/* SPDX-License-Identifier: MIT */
#include "job/original.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "plan/builder.h"
#include "plan/mapped.h"

/* What the original is to the map: its logical tensors, and which of them the map dropped. */
struct original {
    struct tp_plan *plan;
    const struct tp_checkpoint *ck;
    struct tp_logical *logicals;
    size_t count;
    struct tp_mapped mapped;
    size_t restored_count, other_count, added_count, skipped_count;
    enum tp_dtype precision; /* that floats become, or TP_DTYPE_NONE */
    struct tp_error *err;
};

static enum tp_status apply_map(struct original *o, const struct tp_convert_options *options)
{
    struct tp_convert_options there = *options;
    struct tp_list notes = {.count = 0};
    there.reverse = false;
    there = tp_mapped_options(&there, o->ck);
    enum tp_status st = tp_logicals_build(&o->logicals, &o->count, &o->plan->arena, &notes, o->ck, &there, o->err);
    tp_list_release(&notes);
    if (!st)
        st = tp_mapped_make(&o->mapped, o->ck, o->logicals, o->count, &there, NULL, 0, o->err);
    if (st || o->mapped.result.error_count == 0)
        return st;
    tp_fail(o->err, TP_ERR_FORMAT, "the map does not fit the original: %s %s", o->mapped.result.errors[0].code,
            o->mapped.result.errors[0].text);
    return tp_err_path(o->err, TP_ERR_FORMAT, tp_checkpoint_path(o->ck));
}

/* ---- values ---- */

static bool is_plain(const struct tp_tensor *t)
{
    return !t->chunks && t->group == TP_NO_GROUP && tp_dtype_bits((enum tp_dtype)t->dtype) >= 8;
}

/* The original of an array: a plain tensor of its name, dtype and shape. */
static const struct tp_tensor *find_original(const struct original *o, const struct tp_array *a)
{
    const struct tp_tensor *t = tp_checkpoint_find(o->ck, a->path);
    bool fits = t && is_plain(t) && t->dtype == a->dtype && t->rank == a->rank && strlen(a->path) == a->path_len &&
                memcmp(t->shape, a->shape, a->rank * sizeof *a->shape) == 0;
    for (uint32_t i = 0; i < a->piece_count && fits; i++)
        fits = a->pieces[i].source_dtype == a->dtype && a->pieces[i].arithmetic != NULL;
    return fits ? t : NULL;
}

static enum tp_status restore_array(struct original *o, struct tp_array *a)
{
    const struct tp_tensor *t = find_original(o, a);
    o->other_count += t == NULL;
    if (!t)
        return TP_OK;
    struct tp_restore *restore = tp_arena_alloc(&o->plan->arena, sizeof *restore);
    struct tp_piece *moved = tp_arena_alloc(&o->plan->arena, a->piece_count * sizeof *moved);
    if (!restore || !moved)
        return tp_fail_nomem(o->err);
    *restore = (struct tp_restore){.original = {.tensor = t, .ck = o->ck, .dtype = t->dtype},
                                   .back = *a->pieces[0].arithmetic};
    memcpy(moved, a->pieces, a->piece_count * sizeof *moved);
    for (uint32_t i = 0; i < a->piece_count; i++)
        moved[i].arithmetic = NULL;
    a->pieces = moved;
    a->restore = restore;
    o->restored_count++;
    return TP_OK;
}

/* ---- tensors that the map left out ---- */

static int compare_name(const void *key, const void *item)
{
    const struct tp_logical *l = key;
    const struct tp_array *a = *(const struct tp_array *const *)item;
    return tp_path_compare(tp_logical_name(l), tp_logical_name_len(l), a->path, a->path_len);
}

static enum tp_status add_array(struct original *o, const struct tp_logical *l)
{
    struct tp_plan *plan = o->plan;
    bool casts = tp_dtype_class((enum tp_dtype)l->dtype) == TP_CLASS_FLOAT && o->precision != TP_DTYPE_NONE &&
                 o->precision != (enum tp_dtype)l->dtype;
    enum tp_dtype dtype = casts ? o->precision : (enum tp_dtype)l->dtype;
    struct tp_array *arrays = realloc(plan->arrays, (plan->array_count + 1) * sizeof *arrays);
    plan->arrays = arrays ? arrays : plan->arrays;
    struct tp_logical *logicals = realloc(plan->logicals, (plan->logical_count + 1) * sizeof *logicals);
    plan->logicals = logicals ? logicals : plan->logicals;
    struct tp_piece *piece = tp_arena_alloc(&plan->arena, sizeof *piece);
    if (!arrays || !logicals || !piece)
        return tp_fail_nomem(o->err);
    *piece = (struct tp_piece){.logical = (uint32_t)plan->logical_count,
                               .run_elems = l->tensor->elem_count,
                               .source_dtype = l->dtype,
                               .op = casts ? TP_OP_CAST : TP_OP_COPY};
    logicals[plan->logical_count] = *l;
    logicals[plan->logical_count++].ck = o->ck;
    arrays[plan->array_count++] = (struct tp_array){.path = l->tensor->name,
                                                    .path_len = l->tensor->name_len,
                                                    .shape = l->tensor->shape,
                                                    .rank = l->tensor->rank,
                                                    .dtype = (uint8_t)dtype,
                                                    .elem_count = l->tensor->elem_count,
                                                    .pieces = piece,
                                                    .piece_count = 1,
                                                    .first_extent = TP_NONE,
                                                    .result = TP_NONE,
                                                    .group = TP_NO_GROUP,
                                                    .view = TP_DTYPE_NONE};
    tp_plan_count_array(plan, &arrays[plan->array_count - 1]);
    plan->read_bytes += l->tensor->size_bytes;
    o->added_count++;
    return TP_OK;
}

/* Sources that nothing of the plan has the name of, into `left` (room for all); how many. */
static size_t left_out(const struct original *o, const struct tp_array *const *sorted, uint32_t *left)
{
    const struct tp_map_result *r = &o->mapped.result;
    size_t count = 0;
    for (size_t i = 0; i < r->dropped_count + r->same_count; i++) {
        uint32_t source = i < r->dropped_count ? r->dropped[i] : r->sames[i - r->dropped_count].source;
        if (!bsearch(&o->logicals[source], sorted, o->plan->array_count, sizeof *sorted, compare_name))
            left[count++] = source;
    }
    return count;
}

/* What rules drop, and what was left out for being the same as something. */
static enum tp_status add_dropped(struct original *o)
{
    const struct tp_map_result *r = &o->mapped.result;
    const struct tp_array **sorted = tp_plan_sorted(o->plan);
    uint32_t *left = malloc((r->dropped_count + r->same_count + 1) * sizeof *left);
    enum tp_status st = sorted && left ? TP_OK : tp_fail_nomem(o->err);
    for (size_t i = 0, count = st ? 0 : left_out(o, sorted, left); i < count && !st; i++) {
        const struct tp_logical *l = &o->logicals[left[i]];
        bool is_ours = !l->decoded && is_plain(l->tensor);
        o->skipped_count += !is_ours;
        st = is_ours ? add_array(o, l) : TP_OK;
    }
    free(left);
    free(sorted);
    return st;
}

static enum tp_status note(struct original *o)
{
    struct tp_list *notes = &o->plan->notes;
    bool ok = true;
    if (o->restored_count > 0)
        ok = tp_list_add(notes, "%zu arrays: values that are what their originals became are the originals",
                         o->restored_count);
    if (o->other_count > 0)
        ok = ok && tp_list_add(notes, "%zu arrays: calculated back, their originals have another dtype or shape",
                               o->other_count);
    if (o->added_count > 0)
        ok =
            ok && tp_list_add(notes, "%zu tensors that the map leaves out are taken from the original", o->added_count);
    if (o->skipped_count > 0)
        ok = ok && tp_list_add(notes, "%zu quantised tensors that the map leaves out stay left out", o->skipped_count);
    return ok ? TP_OK : tp_fail_nomem(o->err);
}

enum tp_status tp_original_use(struct tp_plan *plan, const struct tp_checkpoint *original,
                               const struct tp_convert_options *options, struct tp_error *err)
{
    struct original o = {.plan = plan, .ck = original, .err = err};
    bool is_choice = options->include.count > 0 || options->exclude.count > 0; /* then nothing more is wanted */
    o.precision = tp_precision_dtype(options->precision);
    enum tp_status st = apply_map(&o, options);
    for (size_t i = 0; i < plan->array_count && !st; i++)
        if (plan->arrays[i].piece_count > 0 && plan->arrays[i].pieces[0].arithmetic)
            st = restore_array(&o, &plan->arrays[i]);
    if (!st && !is_choice)
        st = add_dropped(&o);
    if (!st)
        st = note(&o);
    tp_mapped_release(&o.mapped);
    free(o.logicals);
    return st;
}
