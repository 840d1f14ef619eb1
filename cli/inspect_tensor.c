/* SPDX-License-Identifier: MIT */
/* tensorport inspect --tensor: one tensor, read once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "inspect.h"
#include "json.h"
#include "line.h"
#include "nearest.h"
#include "print.h"
#include "survey.h"
#include "text.h"

enum { ENDS = 6 }; /* values shown from each end; even, since two F4 share a byte */

/* What could be learnt of the values; a dtype may have no meaning as numbers here (F6). */
struct values {
    struct tp_tensor_summary summary;
    bool summarised;
    double first[ENDS], last[ENDS];
    unsigned first_count, last_count;
};

static int say_missing(const struct inspect_args *args, const struct tp_checkpoint *ck, const struct weights *weights)
{
    struct nearest near;
    nearest_init(&near, args->tensor);
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(ck); i++)
        nearest_consider(&near, tp_checkpoint_tensor(ck, i)->name);
    for (size_t i = 0; i < weights->count; i++)
        if (!tp_checkpoint_find(ck, weights->rows[i].name))
            nearest_consider(&near, weights->rows[i].name);
    print_error_line("%s: no tensor '%s'%s", text_name(args->path).s, text_name(args->tensor).s,
                     near.best[0] ? "; the nearest:" : "; --all lists what there is");
    for (size_t i = 0; i < NEAREST_MAX && near.best[i]; i++)
        fprintf(stderr, "  %s\n", text_name(near.best[i]).s);
    return EXIT_INPUT;
}

static enum tp_status read_some(const struct tp_checkpoint *ck, const struct tp_tensor *tensor, uint64_t first,
                                unsigned count, double *values, unsigned *got, struct tp_error *err)
{
    unsigned char bytes[ENDS * 8];
    enum tp_status status = tp_tensor_read(ck, tensor, first, count, bytes, err);
    if (status == TP_OK && tp_dtype_to_f64(values, bytes, count, (enum tp_dtype)tensor->dtype))
        *got = count;
    return status;
}

/* The last values begin where the first ones end, if the tensor is short, and at an even place. */
static enum tp_status values_read(const struct tp_checkpoint *ck, const struct tp_tensor *tensor, struct values *v,
                                  struct tp_error *err)
{
    uint64_t n = tensor->elem_count;
    unsigned count = n < ENDS ? (unsigned)n : ENDS;
    uint64_t last = n > 2 * ENDS ? (n - ENDS) & ~(uint64_t)1 : count;
    enum tp_status status;
    memset(v, 0, sizeof *v);
    status = tp_tensor_summarise(ck, tensor, &v->summary, err);
    v->summarised = status == TP_OK;
    if (status == TP_OK || status == TP_ERR_UNSUPPORTED)
        status = count ? read_some(ck, tensor, 0, count, v->first, &v->first_count, err) : TP_OK;
    if (status == TP_OK && n > last)
        status =
            read_some(ck, tensor, last, (unsigned)(n - last < ENDS ? n - last : ENDS), v->last, &v->last_count, err);
    return status;
}

/* ---- words ---- */

static unsigned digits_of(enum tp_dtype dtype)
{
    return dtype == TP_F64 ? 17 : tp_dtype_class(dtype) == TP_CLASS_INT ? 20 : 6;
}

static void say_row(const char *label, const char *text)
{
    struct line l;
    line_init(&l);
    line_add(&l, "  %-14s  %s", label, text);
    line_end(&l);
}

static void say_ends(const char *label, const double *values, unsigned count, enum tp_dtype dtype)
{
    if (count == 0)
        return;
    struct line l;
    line_init(&l);
    line_add(&l, "  %-14s ", label);
    for (unsigned i = 0; i < count; i++)
        line_add(&l, " %s", text_value(values[i], digits_of(dtype)).s);
    line_end_words(&l);
}

/* Of chunks: they may stand in the metadata, or nowhere. */
static const char *place_name(const struct tp_checkpoint *ck, const struct tp_extent *e)
{
    const struct tp_file_info *file = tp_checkpoint_file(ck, e->file);
    return file ? file->name : e->file == TP_FILE_MEMORY ? "(in the metadata)" : "(not stored)";
}

static void say_places(const struct tp_checkpoint *ck, const struct tp_tensor *tensor)
{
    struct line l;
    line_init(&l);
    for (uint32_t i = 0; i < tensor->extent_count; i++) {
        const struct tp_extent *e = &tensor->extents[i];
        line_add(&l, "  %-14s  %s, %s bytes from %s", i ? "" : "file", text_name(place_name(ck, e)).s,
                 text_count(e->size_bytes).s, text_count(e->offset_bytes).s);
        if (tensor->extent_count > 1)
            line_add(&l, ", elements from %s", text_count(e->first_elem).s);
        line_end_words(&l);
    }
}

static void say_summary(const struct tp_tensor_summary *s, enum tp_dtype dtype)
{
    unsigned digits = digits_of(dtype);
    if (s->min <= s->max) {
        say_row("minimum", text_value(s->min, digits).s);
        say_row("maximum", text_value(s->max, digits).s);
        say_row("mean magnitude", text_value(s->mean_magnitude, 6).s);
    } else {
        say_row("minimum", "there is no finite value");
    }
    say_row("NaN", text_count(s->nan_count).s);
    say_row("Inf", text_count(s->inf_count).s);
    say_row("zeros", text_count(s->zero_count).s);
}

/* All that belongs together. */
static void say_members(const struct tp_checkpoint *ck, const struct weight *weight)
{
    for (uint32_t i = 0; i < weight->group->member_count; i++) {
        struct line l;
        const struct tp_tensor *t = tp_checkpoint_tensor(ck, weight->members[i]);
        line_init(&l);
        line_add(&l, "  %-14s  %s  %s %s", i ? "" : "made of", text_name(t->name).s,
                 survey_dtype_name((enum tp_dtype)t->dtype), text_shape(t->shape, t->rank).s);
        line_end(&l);
    }
}

static void say_weight(const struct tp_checkpoint *ck, const struct weight *weight)
{
    struct line l;
    line_init(&l);
    line_add(&l, "%s  %s", text_name(weight->name).s, weight->group->scheme);
    if (!weight->refused)
        line_add(&l, ", decodes to %s", text_shape(weight->shape, weight->rank).s);
    line_end(&l);
    line_add(&l, "  %-14s  %s, in %s of %u tensor%s", "parameters", text_count(weight->parameters).s,
             text_size(weight->group->size_bytes).s, (unsigned)weight->group->member_count,
             text_s(weight->group->member_count));
    line_end(&l);
    if (weight->refused)
        inspect_say_refused("  --dequantize refuses it: ", weight->refused);
    say_members(ck, weight);
}

/* The weight that a tensor is a part of. */
static void say_whole(const struct tp_checkpoint *ck, const struct weight *weight)
{
    const struct tp_group *group = weight->group;
    struct line l;
    line_init(&l);
    line_add(&l, "  %-14s  %s, with %s: %s tensors, %s parameters", "part of", group->scheme, text_name(group->name).s,
             text_count(group->member_count).s, text_count(weight->parameters).s);
    line_end_words(&l);
    if (weight->refused) {
        inspect_say_refused("  --dequantize refuses it: ", weight->refused);
    } else {
        line_add(&l, "  %-14s  %s  %s", "decodes to", text_name(weight->name).s,
                 text_shape(weight->shape, weight->rank).s);
        line_end(&l);
    }
    say_members(ck, weight);
}

static void say_tensor(const struct tp_checkpoint *ck, const struct tp_tensor *tensor, const struct weight *weight,
                       const struct values *v)
{
    enum tp_dtype dtype = (enum tp_dtype)tensor->dtype;
    struct line l;
    line_init(&l);
    line_add(&l, "%s  %s %s", text_name(tensor->name).s, survey_dtype_name(dtype),
             text_shape(tensor->shape, tensor->rank).s);
    line_end(&l);
    line_add(&l, "  %-14s  %s, %s", "elements", text_count(tensor->elem_count).s, text_size(tensor->size_bytes).s);
    line_end(&l);
    say_places(ck, tensor);
    if (weight)
        say_whole(ck, weight);
    if (v->summarised && tensor->elem_count)
        say_summary(&v->summary, dtype);
    say_ends("first", v->first, v->first_count, dtype);
    say_ends("last", v->last, v->last_count, dtype);
}

/* ---- --json ---- */

static void json_values(struct json *j, const char *key, const double *values, unsigned count)
{
    json_open(j, key, '[');
    for (unsigned i = 0; i < count; i++)
        json_number(j, NULL, values[i]);
    json_close(j, ']');
}

static void json_summary(struct json *j, const struct tp_tensor_summary *s)
{
    bool finite = s->min <= s->max;
    json_number(j, "min", finite ? s->min : NAN);
    json_number(j, "max", finite ? s->max : NAN);
    json_number(j, "mean_magnitude", finite ? s->mean_magnitude : NAN);
    json_count(j, "nan", s->nan_count);
    json_count(j, "inf", s->inf_count);
    json_count(j, "zeros", s->zero_count);
}

static void json_logical(const struct tp_checkpoint *ck, const struct weight *weight)
{
    struct json j = {.out = stdout};
    weight_json(&j, NULL, ck, weight);
    putchar('\n');
}

static void json_tensor(const struct tp_checkpoint *ck, const struct tp_tensor *tensor, const struct weight *weight,
                        const struct values *v)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_text(&j, "name", tensor->name);
    json_text(&j, "dtype", survey_dtype_name((enum tp_dtype)tensor->dtype));
    json_shape(&j, "shape", tensor->shape, tensor->rank);
    json_count(&j, "elements", tensor->elem_count);
    json_count(&j, "bytes", tensor->size_bytes);
    json_text(&j, "group", weight ? weight->group->scheme : NULL);
    if (weight)
        weight_json(&j, "weight", ck, weight);
    else
        json_null(&j, "weight");
    json_open(&j, "extents", '[');
    for (uint32_t i = 0; i < tensor->extent_count; i++) {
        const struct tp_extent *e = &tensor->extents[i];
        json_open(&j, NULL, '{');
        json_text(&j, "file", place_name(ck, e));
        json_count(&j, "offset", e->offset_bytes);
        json_count(&j, "length", e->size_bytes);
        json_count(&j, "first_element", e->first_elem);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    if (v->summarised)
        json_summary(&j, &v->summary);
    json_values(&j, "first", v->first, v->first_count);
    json_values(&j, "last", v->last, v->last_count);
    json_close(&j, '}');
    putchar('\n');
}

/* A tensor of the files. */
static int show_tensor(const struct inspect_args *args, const struct tp_checkpoint *ck, const struct tp_tensor *tensor,
                       const struct weights *weights)
{
    const struct weight *weight = tensor->group == TP_NO_GROUP ? NULL : &weights->rows[tensor->group];
    struct values values;
    struct tp_error err;
    if (values_read(ck, tensor, &values, &err) != TP_OK)
        return print_error(&err);
    if (args->json)
        json_tensor(ck, tensor, weight, &values);
    else
        say_tensor(ck, tensor, weight, &values);
    return 0;
}

/* One that only decoding would make. */
static int show_weight(const struct inspect_args *args, const struct tp_checkpoint *ck, const struct weights *weights)
{
    const struct weight *weight = weights_find(weights, args->tensor);
    if (!weight)
        return say_missing(args, ck, weights);
    if (args->json)
        json_logical(ck, weight);
    else
        say_weight(ck, weight);
    return 0;
}

int inspect_tensor(const struct inspect_args *args, const struct tp_checkpoint *ck)
{
    const struct tp_tensor *tensor = tp_checkpoint_find(ck, args->tensor);
    struct weights weights;
    int code;
    if (!weights_take(&weights, ck))
        code = print_out_of_memory();
    else if (tensor)
        code = show_tensor(args, ck, tensor, &weights);
    else
        code = show_weight(args, ck, &weights);
    weights_release(&weights);
    return code;
}
