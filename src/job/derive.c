/* SPDX-License-Identifier: MIT */
#include "job/derive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "checkpoint/name_index.h"

/* What the source would become: with a manifest what it was made into, else the source's tensors as they are. Arrays
 * are looked up by their keys joined with dots, which are the names of the logical tensors. */
struct expected {
    struct tp_plan plan;
    struct tp_name_index names;
};

static struct tp_name name_of(const void *table, uint32_t id)
{
    const struct tp_logical *l = &((const struct tp_plan *)table)->logicals[id];
    return (struct tp_name){tp_logical_name(l), tp_logical_name_len(l)};
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
static bool same_shape(const struct tp_array *model, const struct tp_logical *source, bool halved, bool flat)
{
    const uint64_t *shape = tp_logical_shape(source);
    unsigned rank = tp_logical_rank(source);
    if (flat && model->elem_count == tp_logical_elem_count(source))
        return true;
    if (model->rank != rank)
        return false;
    for (unsigned i = 0; i < rank; i++) {
        uint64_t expected = halved && i + 1u == rank ? shape[i] / 2 : shape[i];
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

/* How much of an array's name are the keys that wrap the tree; more than there is when they are not there. */
static size_t wrap_len(const struct tp_derive *d, const char *name, size_t name_len)
{
    const char *wrap = d->options ? d->options->wrap : NULL;
    size_t len = wrap ? strlen(wrap) : 0;
    if (!wrap)
        return 0;
    if (name_len <= len || name[len] != '.')
        return SIZE_MAX;
    for (size_t i = 0; i < len; i++)
        if (name[i] != (wrap[i] == '/' ? '.' : wrap[i]))
            return SIZE_MAX;
    return len + 1;
}

/* The array of one model tensor: its piece is the whole logical tensor of its name. */
static enum tp_status derive_array(struct tp_derive *d, const struct expected *x, struct tp_array *a,
                                   const struct tp_tensor *model, bool *known, struct tp_error *err)
{
    char what[512], s1[TP_SHAPE_TEXT], s2[TP_SHAPE_TEXT];
    const char *file = tp_checkpoint_tensor_file(d->model, model);
    size_t skip = wrap_len(d, model->name, model->name_len);
    uint32_t found = skip > model->name_len
                         ? TP_NAME_NONE
                         : tp_name_index_find(&x->names, name_of, &x->plan, model->name + skip, model->name_len - skip);
    struct tp_logical *l = &d->plan->logicals[d->plan->logical_count];
    *known = false;
    if (found == TP_NAME_NONE)
        return differ(d, model->name, model->name_len, file, "is not in the source");
    *l = x->plan.logicals[found];
    enum tp_dtype from = (enum tp_dtype)(l->decoded ? l->dtype : l->tensor->dtype), to = (enum tp_dtype)model->dtype;
    if (d->options && model->dtype != x->plan.arrays[found].dtype) {
        snprintf(what, sizeof what, "is %s, the conversion that manifest.json records makes it %s",
                 tp_dtype_numpy_name(to), tp_dtype_numpy_name((enum tp_dtype)x->plan.arrays[found].dtype));
        return differ(d, model->name, model->name_len, file, what);
    }
    struct tp_piece made = {.logical = (uint32_t)d->plan->logical_count, .run_elems = a->elem_count};
    if (!find_op(from, to, &made, l)) {
        snprintf(what, sizeof what, "is %s, which %s in the source cannot become", tp_dtype_numpy_name(to),
                 tp_dtype_numpy_name(from));
        return differ(d, model->name, model->name_len, file, what);
    }
    bool flat = !d->options && model->rank == 1 && model->extent_count > 1;
    if (!same_shape(a, l, from == TP_F4 && to == TP_U8, flat)) {
        snprintf(what, sizeof what, "has shape %s, the source has %s", tp_describe_shape(s1, a->shape, a->rank),
                 tp_describe_shape(s2, tp_logical_shape(l), tp_logical_rank(l)));
        return differ(d, model->name, model->name_len, file, what);
    }
    if (d->options && !same_view((enum tp_dtype)a->view, from, to)) {
        snprintf(what, sizeof what, "is a view of %s in the source, manifest.json says %s", tp_dtype_numpy_name(from),
                 a->view == TP_DTYPE_NONE ? "nothing" : tp_dtype_numpy_name((enum tp_dtype)a->view));
        return differ(d, model->name, model->name_len, file, what);
    }
    struct tp_piece *piece = tp_arena_alloc(&d->plan->arena, sizeof *piece);
    if (!piece)
        return tp_fail_nomem(err);
    *piece = made;
    d->plan->logical_count++;
    a->pieces = piece;
    a->piece_count = 1;
    d->plan->decoded_count += l->decoded != NULL;
    d->plan->chunked_count += l->tensor->chunks != NULL;
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

/* Everything that the conversion would make must be there. */
static enum tp_status check_all_there(struct tp_derive *d, const struct expected *x)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < x->plan.logical_count && !st; i++) {
        const struct tp_logical *l = &x->plan.logicals[i];
        char name[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(name, x->plan.arrays[i].path, x->plan.arrays[i].path_len, '.');
        if (!tp_checkpoint_find(d->model, name))
            st = differ(d, tp_logical_name(l), tp_logical_name_len(l), "", "is missing: the source has it");
    }
    return st;
}

static enum tp_status derive_all(struct tp_derive *d, const struct expected *x, struct tp_error *err)
{
    struct tp_plan *plan = d->plan;
    plan->logicals = malloc((plan->array_count + 1) * sizeof *plan->logicals);
    enum tp_status st = plan->logicals ? TP_OK : tp_fail_nomem(err);
    for (size_t i = 0; i < plan->array_count && !st; i++) {
        bool known;
        const struct tp_tensor *model = tp_checkpoint_tensor(d->model, d->array_tensor[i]);
        st = derive_array(d, x, &plan->arrays[i], model, &known, err);
        if (!st && !known)
            plan->arrays[i].piece_count = 0;
    }
    drop_unknown(plan);
    return st ? st : check_all_there(d, x);
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

enum tp_status tp_derive(struct tp_derive *d, struct tp_error *err)
{
    static const struct tp_convert_options as_they_are = {.precision = TP_PRECISION_KEEP};
    struct expected x = {.plan = {.array_count = 0}};
    struct tp_error why;
    enum tp_status st = tp_plan_build(&x.plan, d->source, d->options ? d->options : &as_they_are, d->traits, &why);
    if (st == TP_ERR_NOMEM || st == TP_ERR_IO) {
        if (err)
            *err = why;
        return st;
    }
    if (st)
        return say_unfit(d, &why);
    uint32_t found;
    bool ok = true;
    for (uint32_t i = 0; i < x.plan.logical_count && ok; i++)
        ok = tp_name_index_add(&x.names, name_of, &x.plan, i, &found);
    st = ok ? derive_all(d, &x, err) : tp_fail_nomem(err);
    tp_name_index_release(&x.names);
    /* The decoders that d->plan now points at live in the expected plan's arena: it moves over. */
    tp_arena_join(&d->plan->arena, &x.plan.arena);
    tp_plan_release(&x.plan);
    return st;
}
