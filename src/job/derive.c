/* SPDX-License-Identifier: MIT */
#include "job/derive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "checkpoint/name_index.h"
#include "job/original.h"
#include "job/sames.h"

/* What the source would become: with a manifest what it was made into, else the source's tensors as they are. Arrays
 * are looked up by their keys joined with dots, which is what a reader of the output calls them. */
struct expected {
    struct tp_plan plan;
    const char **joined; /* one an array, in the plan's arena */
    struct tp_name_index names;
};

static struct tp_name name_of(const void *table, uint32_t id)
{
    const struct expected *x = table;
    return (struct tp_name){x->joined[id], x->plan.arrays[id].path_len};
}

/* A path of one key is its own name. */
static const char *joined_keys(struct expected *x, const struct tp_array *a)
{
    if (!memchr(a->path, '\0', a->path_len))
        return a->path;
    char *joined = tp_arena_alloc(&x->plan.arena, a->path_len + 1u);
    if (joined)
        tp_path_join_keys(joined, a->path, a->path_len, '.');
    return joined;
}

static enum tp_status index_names(struct expected *x, struct tp_error *err)
{
    uint32_t found;
    x->joined = malloc((x->plan.array_count + 1) * sizeof *x->joined);
    bool ok = x->joined != NULL;
    for (uint32_t i = 0; i < x->plan.array_count && ok; i++) {
        const struct tp_array *a = &x->plan.arrays[i];
        ok = (x->joined[i] = joined_keys(x, a)) != NULL && tp_name_index_add(&x->names, name_of, x, i, &found);
    }
    return ok ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status differ(struct tp_derive *d, const char *name, size_t name_len, const char *file, const char *what)
{
    char shown[TP_NAME_TEXT], text[1024];
    tp_describe_name(shown, name, name_len);
    snprintf(text, sizeof text, "%s%sarray '%s' %s", file, *file ? ": " : "", shown, what);
    return d->differ(d->user, text);
}

/* How elements of dtype `from` become `to`; false when no conversion of ours does that. */
static bool find_op(enum tp_dtype from, enum tp_dtype to, struct tp_piece *piece, struct tp_logical *l)
{
    piece->source_dtype = (uint8_t)from;
    piece->op = TP_OP_COPY;
    l->dtype = (uint8_t)from;
    if (from == to) {
        if (tp_dtype_bits(from) < 8)
            l->dtype = TP_U8; /* packed codes that stay packed are counted in bytes */
        return true;
    }
    if (tp_dtype_class(from) == TP_CLASS_FLOAT && tp_dtype_class(to) == TP_CLASS_FLOAT) {
        piece->op = TP_OP_CAST;
        return to != TP_F64;
    }
    if (from == TP_F4 && to == TP_F4_UNPACKED) {
        piece->op = TP_OP_UNPACK_F4;
        return true;
    }
    l->dtype = TP_U8; /* --compat: bytes under another name */
    return to == TP_U8 && tp_dtype_class(from) == TP_CLASS_SMALL_FLOAT;
}

/* `flat`: only a manifest would know more than the number of elements. */
static bool same_shape(const struct tp_array *model, const struct tp_array *expected, bool flat)
{
    if (flat && model->elem_count == expected->elem_count)
        return true;
    if (model->rank != expected->rank)
        return false;
    for (unsigned i = 0; i < model->rank; i++)
        if (model->shape[i] != expected->shape[i])
            return false;
    return true;
}

/* --compat: the manifest must say what the bytes are. */
static bool same_view(const struct tp_array *model, const struct tp_array *expected)
{
    if (expected->view == TP_DTYPE_NONE || model->view == TP_DTYPE_NONE)
        return expected->view == model->view;
    return strcmp(tp_dtype_numpy_name((enum tp_dtype)model->view),
                  tp_dtype_numpy_name((enum tp_dtype)expected->view)) == 0;
}

static enum tp_status differ_shape(struct tp_derive *d, const struct tp_tensor *model, const char *file,
                                   const struct tp_array *a, const struct tp_array *expected)
{
    char what[512], s1[TP_SHAPE_TEXT], s2[TP_SHAPE_TEXT];
    snprintf(what, sizeof what, "has shape %s, the source %s %s", tp_describe_shape(s1, a->shape, a->rank),
             d->options && d->options->map ? "makes it" : "has",
             tp_describe_shape(s2, expected->shape, expected->rank));
    return differ(d, model->name, model->name_len, file, what);
}

/* Made as the manifest's options say: dtype, view and shape are what they make, and so are the pieces. */
static enum tp_status take_made(struct tp_derive *d, const struct tp_array *expected, struct tp_array *a,
                                const struct tp_tensor *model, const char *file, bool *known)
{
    char what[512];
    if (model->dtype != expected->dtype) {
        snprintf(what, sizeof what, "is %s, the conversion that manifest.json records makes it %s",
                 tp_dtype_numpy_name((enum tp_dtype)model->dtype), tp_dtype_numpy_name((enum tp_dtype)expected->dtype));
        return differ(d, model->name, model->name_len, file, what);
    }
    if (!same_shape(a, expected, false))
        return differ_shape(d, model, file, a, expected);
    if (!same_view(a, expected)) {
        snprintf(what, sizeof what, "is a view of %s in the source, manifest.json says %s",
                 tp_dtype_numpy_name(tp_array_source_dtype(expected)),
                 a->view == TP_DTYPE_NONE ? "nothing" : tp_dtype_numpy_name((enum tp_dtype)a->view));
        return differ(d, model->name, model->name_len, file, what);
    }
    a->pieces = expected->pieces;
    a->piece_count = expected->piece_count;
    a->restore = expected->restore;
    a->has_holes = expected->has_holes;
    a->fill = expected->fill;
    *known = true;
    return TP_OK;
}

/* Made by others: the source's tensor of this name, under any dtype that it can be brought to. */
static enum tp_status take_cast(struct tp_derive *d, struct tp_plan *from, const struct tp_array *expected,
                                struct tp_array *a, const struct tp_tensor *model, const char *file, bool *known,
                                struct tp_error *err)
{
    char what[512];
    struct tp_piece made = expected->pieces[0];
    struct tp_logical *l = &from->logicals[made.logical];
    enum tp_dtype source = (enum tp_dtype)l->tensor->dtype, to = (enum tp_dtype)model->dtype;
    made.run_elems = a->elem_count;
    if (!find_op(source, to, &made, l)) {
        snprintf(what, sizeof what, "is %s, which %s in the source cannot become", tp_dtype_numpy_name(to),
                 tp_dtype_numpy_name(source));
        return differ(d, model->name, model->name_len, file, what);
    }
    struct tp_array as_source = {.shape = tp_logical_shape(l), .rank = tp_logical_rank(l)};
    as_source.elem_count = tp_logical_elem_count(l);
    if (!same_shape(a, &as_source, model->rank == 1 && model->extent_count > 1))
        return differ_shape(d, model, file, a, &as_source);
    struct tp_piece *piece = tp_arena_alloc(&d->plan->arena, sizeof *piece);
    if (!piece)
        return tp_fail_nomem(err);
    *piece = made;
    a->pieces = piece;
    a->piece_count = 1;
    *known = true;
    return TP_OK;
}

/* The array of one model tensor: what makes the expected array of its name makes it. */
static enum tp_status derive_array(struct tp_derive *d, struct expected *x, struct tp_array *a,
                                   const struct tp_tensor *model, bool *known, struct tp_error *err)
{
    const char *file = tp_checkpoint_tensor_file(d->model, model);
    uint32_t found = tp_name_index_find(&x->names, name_of, x, model->name, model->name_len);
    *known = false;
    if (found == TP_NAME_NONE)
        return differ(d, model->name, model->name_len, file, "is not in the source");
    const struct tp_array *expected = &x->plan.arrays[found];
    return d->options ? take_made(d, expected, a, model, file, known)
                      : take_cast(d, &x->plan, expected, a, model, file, known, err);
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
            if (plan->arrays[e.array].piece_count > 0 || plan->arrays[e.array].has_holes)
                plan->extents[kept++] = e;
        }
        file->first_extent = first;
        file->extent_count = (uint32_t)kept - first;
    }
    plan->extent_count = kept;
}

/* Everything that the conversion would make must be there. */
static enum tp_status check_all_there(struct tp_derive *d, const struct expected *x)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < x->plan.array_count && !st; i++)
        if (!tp_checkpoint_find(d->model, x->joined[i]))
            st = differ(d, x->joined[i], x->plan.arrays[i].path_len, "", "is missing: the source has it");
    return st;
}

static enum tp_status derive_all(struct tp_derive *d, struct expected *x, struct tp_error *err)
{
    struct tp_plan *plan = d->plan;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < plan->array_count && !st; i++) {
        bool known;
        const struct tp_tensor *model = tp_checkpoint_tensor(d->model, d->array_tensor[i]);
        st = derive_array(d, x, &plan->arrays[i], model, &known, err);
        if (!st && !known) {
            plan->arrays[i].piece_count = 0;
            plan->arrays[i].has_holes = false;
        }
    }
    drop_unknown(plan);
    return st ? st : check_all_there(d, x);
}

/* The logical tensors that pieces now mean, and the decoders behind them, are the expected plan's: they move over. */
static void take_logicals(struct tp_plan *plan, struct tp_plan *from)
{
    plan->logicals = from->logicals;
    plan->logical_count = from->logical_count;
    plan->decoded_count = from->decoded_count;
    plan->chunked_count = from->chunked_count;
    from->logicals = NULL;
    from->logical_count = 0;
    tp_arena_join(&plan->arena, &from->arena);
}

/* Options that do not fit the source are a finding; no array can be derived then. */
static enum tp_status say_unfit(struct tp_derive *d, const struct tp_error *why)
{
    char text[1400];
    snprintf(text, sizeof text, "the options that manifest.json records do not fit this source: %s%s%.900s",
             why->tensor, why->tensor[0] ? ": " : "", why->message);
    for (size_t f = 0; f < d->plan->file_count; f++)
        d->plan->files[f].extent_count = 0;
    d->plan->extent_count = 0;
    return d->differ(d->user, text);
}

/* What the map left out for being the same as something must still be. */
static enum tp_status check_sames(struct tp_derive *d, const struct expected *x, struct tp_error *err)
{
    struct tp_error why;
    char text[1400];
    enum tp_status st = tp_sames_check(x->plan.logicals, x->plan.sames, x->plan.same_count, d->source, &why);
    if (st == TP_ERR_FORMAT) {
        snprintf(text, sizeof text, "%s%s%.1000s", why.tensor, why.tensor[0] ? ": " : "", why.message);
        return d->differ(d->user, text);
    }
    if (st && err)
        *err = why;
    return st;
}

enum tp_status tp_derive(struct tp_derive *d, struct tp_error *err)
{
    static const struct tp_convert_options as_they_are = {.precision = TP_PRECISION_KEEP};
    struct expected x = {.plan = {.array_count = 0}};
    struct tp_error why;
    enum tp_status st = tp_plan_build(&x.plan, d->source, d->options ? d->options : &as_they_are, d->traits, &why);
    if (!st && d->original && (st = tp_original_use(&x.plan, d->original, d->options, &why)) != TP_OK)
        tp_plan_release(&x.plan);
    if (st == TP_ERR_NOMEM || st == TP_ERR_IO) {
        if (err)
            *err = why;
        return st;
    }
    if (st)
        return say_unfit(d, &why);
    st = check_sames(d, &x, err);
    if (!st)
        st = index_names(&x, err);
    if (!st)
        st = derive_all(d, &x, err);
    tp_name_index_release(&x.names);
    free(x.joined);
    take_logicals(d->plan, &x.plan);
    tp_plan_release(&x.plan);
    return st;
}
