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

static bool is_made(const struct tp_plan *plan, const struct tp_logical *l)
{
    for (size_t i = 0; i < plan->array_count; i++)
        if (plan->arrays[i].path_len == tp_logical_name_len(l) &&
            memcmp(plan->arrays[i].path, tp_logical_name(l), plan->arrays[i].path_len) == 0)
            return true;
    return false;
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

static enum tp_status add_one(struct original *o, uint32_t source)
{
    const struct tp_logical *l = &o->logicals[source];
    if (is_made(o->plan, l))
        return TP_OK;
    if (!l->decoded && is_plain(l->tensor))
        return add_array(o, l);
    o->skipped_count++;
    return TP_OK;
}

/* What rules drop, and what was left out for being the same as something. */
static enum tp_status add_dropped(struct original *o)
{
    const struct tp_map_result *r = &o->mapped.result;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < r->dropped_count && !st; i++)
        st = add_one(o, r->dropped[i]);
    for (size_t i = 0; i < r->same_count && !st; i++)
        st = add_one(o, r->sames[i].source);
    return st;
}

/* ---- */

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

static const uint8_t dtype_of_precision[] = {[TP_PRECISION_FLOAT16] = TP_F16,
                                             [TP_PRECISION_FLOAT32] = TP_F32,
                                             [TP_PRECISION_BFLOAT16] = TP_BF16,
                                             [TP_PRECISION_KEEP] = TP_DTYPE_NONE};

enum tp_status tp_original_use(struct tp_plan *plan, const struct tp_checkpoint *original,
                               const struct tp_convert_options *options, struct tp_error *err)
{
    struct original o = {.plan = plan, .ck = original, .err = err};
    bool is_choice = options->include.count > 0 || options->exclude.count > 0; /* then nothing more is wanted */
    o.precision = (enum tp_dtype)dtype_of_precision[options->precision];
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
