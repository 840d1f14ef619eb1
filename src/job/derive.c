/* SPDX-License-Identifier: MIT */
#include "job/derive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"

static enum tp_status differ(struct tp_derive *d, const struct tp_tensor *t, const char *file, const char *what)
{
    char name[TP_NAME_TEXT], text[1024];
    tp_describe_name(name, t->name, t->name_len);
    snprintf(text, sizeof text, "%s%sarray '%s' %s", file, *file ? ": " : "", name, what);
    return d->differ(d->user, text);
}

/* How bytes of dtype `from` become `to`; false when no conversion of ours does that. */
static bool find_op(enum tp_dtype from, enum tp_dtype to, struct tp_array *a, struct tp_logical *l)
{
    a->source_dtype = (uint8_t)from;
    a->op = TP_OP_COPY;
    l->dtype = (uint8_t)from;
    if (from == to)
        return true;
    if (tp_dtype_class(from) == TP_CLASS_FLOAT && tp_dtype_class(to) == TP_CLASS_FLOAT) {
        a->op = TP_OP_CAST;
        return to != TP_F64;
    }
    if (from == TP_F4 && to == TP_F4_UNPACKED) {
        a->op = TP_OP_UNPACK_F4;
        return true;
    }
    l->dtype = TP_U8; /* --compat: bytes under another name */
    return to == TP_U8 && tp_dtype_class(from) == TP_CLASS_SMALL_FLOAT;
}

/* `flat`: only a manifest would know more than the number of elements. */
static bool same_shape(const struct tp_array *model, const struct tp_tensor *source, bool halved, bool flat)
{
    if (flat && model->elem_count == source->elem_count)
        return true;
    if (model->rank != source->rank)
        return false;
    for (unsigned i = 0; i < source->rank; i++) {
        uint64_t expected = halved && i + 1u == source->rank ? source->shape[i] / 2 : source->shape[i];
        if (model->shape[i] != expected)
            return false;
    }
    return true;
}

/* --compat: the manifest must say what the bytes are. */
static bool same_view(enum tp_dtype view, enum tp_dtype from, enum tp_dtype to)
{
    if (to != TP_U8 || from == TP_U8)
        return view == TP_DTYPE_NONE;
    return view != TP_DTYPE_NONE && strcmp(tp_dtype_numpy_name(view), tp_dtype_numpy_name(from)) == 0;
}

/* The array of one model tensor: its piece is the whole source tensor of its name. */
static enum tp_status derive_array(struct tp_derive *d, struct tp_array *a, const struct tp_tensor *model, bool *known,
                                   struct tp_error *err)
{
    char what[512], s1[TP_SHAPE_TEXT], s2[TP_SHAPE_TEXT];
    const char *file = tp_checkpoint_file(d->model, model->extents[0].file)->name;
    const struct tp_tensor *source = tp_checkpoint_find(d->source, model->name);
    struct tp_logical *l = &d->plan->logicals[d->plan->logical_count];
    *known = false;
    if (!source)
        return differ(d, model, file, "is not in the source");
    *l = (struct tp_logical){.tensor = source};
    if (!find_op((enum tp_dtype)source->dtype, (enum tp_dtype)model->dtype, a, l)) {
        snprintf(what, sizeof what, "is %s, which %s in the source cannot become",
                 tp_dtype_numpy_name((enum tp_dtype)model->dtype),
                 source->dtype == TP_F4_UNPACKED ? "float4_e2m1fn" : tp_dtype_name((enum tp_dtype)source->dtype));
        return differ(d, model, file, what);
    }
    bool flat = !d->options && model->rank == 1 && model->extent_count > 1;
    if (!same_shape(a, source, source->dtype == TP_F4 && model->dtype == TP_U8, flat)) {
        snprintf(what, sizeof what, "has shape %s, the source has %s", tp_describe_shape(s1, a->shape, a->rank),
                 tp_describe_shape(s2, source->shape, source->rank));
        return differ(d, model, file, what);
    }
    if (d->options && !same_view((enum tp_dtype)a->view, (enum tp_dtype)source->dtype, (enum tp_dtype)model->dtype)) {
        snprintf(what, sizeof what, "is a view of %s in the source, manifest.json says %s",
                 tp_dtype_numpy_name((enum tp_dtype)source->dtype),
                 a->view == TP_DTYPE_NONE ? "nothing" : tp_dtype_numpy_name((enum tp_dtype)a->view));
        return differ(d, model, file, what);
    }
    struct tp_piece *piece = tp_arena_alloc(&d->plan->arena, sizeof *piece);
    if (!piece)
        return tp_fail_nomem(err);
    *piece = (struct tp_piece){.logical = (uint32_t)d->plan->logical_count++, .run_elems = a->elem_count};
    a->pieces = piece;
    a->piece_count = 1;
    *known = true;
    return TP_OK;
}

/* Arrays that cannot be made are not compared: their extents leave the plan, in place, the files' ranges with them. */
static void drop_unknown(struct tp_plan *plan)
{
    size_t kept = 0;
    for (size_t f = 0; f < plan->file_count; f++) {
        struct tp_out_file *file = &plan->files[f];
        uint32_t first = (uint32_t)kept;
        for (uint32_t k = 0; k < file->extent_count; k++) {
            struct tp_out_extent e = plan->extents[file->first_extent + k];
            if (plan->arrays[e.array].piece_count > 0)
                plan->extents[kept++] = e;
        }
        file->first_extent = first;
        file->extent_count = (uint32_t)kept - first;
    }
    plan->extent_count = kept;
}

/* Every tensor of the source that the conversion would take must be there, in the dtype it would get. */
static enum tp_status check_expected(struct tp_derive *d, const struct tp_plan *expected)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < expected->array_count && !st; i++) {
        const struct tp_array *a = &expected->arrays[i];
        const struct tp_tensor *source = expected->logicals[a->pieces[0].logical].tensor;
        const struct tp_tensor *model = tp_checkpoint_find(d->model, source->name);
        char what[256];
        if (!model) {
            st = differ(d, source, "", "is missing: the source has it");
        } else if (d->options && model->dtype != a->dtype) {
            snprintf(what, sizeof what, "is %s, the conversion that manifest.json records makes it %s",
                     tp_dtype_numpy_name((enum tp_dtype)model->dtype), tp_dtype_numpy_name((enum tp_dtype)a->dtype));
            st = differ(d, model, tp_checkpoint_file(d->model, model->extents[0].file)->name, what);
        }
    }
    return st;
}

static enum tp_status check_all_there(struct tp_derive *d, struct tp_error *err)
{
    static const struct tp_convert_options everything = {.precision = TP_PRECISION_KEEP};
    struct tp_plan expected;
    struct tp_error why;
    enum tp_status st = tp_plan_build(&expected, d->source, d->options ? d->options : &everything, &why);
    if (st == TP_ERR_NOMEM)
        return tp_fail_nomem(err);
    if (st) {
        char text[1024];
        snprintf(text, sizeof text, "the options that manifest.json records do not fit this source: %.900s",
                 why.message);
        return d->differ(d->user, text);
    }
    st = check_expected(d, &expected);
    tp_plan_release(&expected);
    return st;
}

enum tp_status tp_derive(struct tp_derive *d, struct tp_error *err)
{
    struct tp_plan *plan = d->plan;
    plan->logicals = malloc((plan->array_count + 1) * sizeof *plan->logicals);
    enum tp_status st = plan->logicals ? TP_OK : tp_fail_nomem(err);
    for (size_t i = 0; i < plan->array_count && !st; i++) {
        bool known;
        st = derive_array(d, &plan->arrays[i], tp_checkpoint_tensor(d->model, d->array_tensor[i]), &known, err);
        if (!st && !known)
            plan->arrays[i].piece_count = 0;
    }
    drop_unknown(plan);
    return st ? st : check_all_there(d, err);
}
