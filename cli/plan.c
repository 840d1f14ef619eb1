/* SPDX-License-Identifier: MIT */
/* tensorport convert --dry-run: the plan, on stdout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "json.h"
#include "line.h"
#include "print.h"
#include "survey.h"
#include "text.h"

enum { NAME_WIDTH_MAX = 60, SHAPE_WIDTH_MAX = 24, DTYPE_WIDTH_MIN = 20, DTYPE_WIDTH_MAX = 28, SIZE_WIDTH = 7 };

/* A conversion as it is printed. */
struct plan {
    struct tp_conversion *cv;
    struct tp_plan_totals totals;
    struct tp_plan_file *files;
    uint64_t decoded_parameters;
};

/* Wide enough for most rows; longer names push their row to the right. */
struct widths {
    size_t name, dtype, shape, file;
};

static size_t wider(size_t width, const char *text, size_t most)
{
    size_t columns = text_columns(text);
    return columns > width && columns <= most ? columns : width;
}

/* "BF16 -> float16"; one name where nothing changes. */
static void dtype_text(char *dst, size_t cap, const struct tp_plan_array *array)
{
    const char *from = array->scheme ? array->scheme : survey_dtype_name(array->source_dtype);
    bool same = !array->scheme && array->dtype == array->source_dtype &&
                strcmp(array->numpy_name, tp_dtype_numpy_name(array->source_dtype)) == 0;
    snprintf(dst, cap, "%s%s%s", from, same ? "" : " -> ", same ? "" : array->numpy_name);
}

static void widths_measure(struct widths *w, const struct plan *plan)
{
    char dtype[64];
    *w = (struct widths){.name = 5, .dtype = DTYPE_WIDTH_MIN, .shape = 5, .file = 4};
    for (uint32_t i = 0; i < plan->totals.array_count; i++) {
        struct tp_plan_array array;
        tp_conversion_array(plan->cv, i, &array);
        dtype_text(dtype, sizeof dtype, &array);
        w->name = wider(w->name, text_name(array.name).s, NAME_WIDTH_MAX);
        w->dtype = wider(w->dtype, dtype, DTYPE_WIDTH_MAX);
        w->shape = wider(w->shape, text_shape(array.shape, array.rank).s, SHAPE_WIDTH_MAX);
    }
    for (uint32_t i = 0; i < plan->totals.file_count; i++)
        w->file = wider(w->file, plan->files[i].name, NAME_WIDTH_MAX);
}

static void say_array(struct line *l, const struct plan *plan, const struct tp_plan_array *array,
                      const struct widths *w)
{
    char dtype[64];
    dtype_text(dtype, sizeof dtype, array);
    line_cell(l, text_name(array->name).s, w->name);
    line_cell(l, dtype, w->dtype);
    line_cell(l, text_shape(array->shape, array->rank).s, w->shape);
    line_add(l, "%*s  %s", SIZE_WIDTH, text_size(array->size_bytes).s, plan->files[array->first_file].name);
    if (array->last_file != array->first_file)
        line_add(l, " to %s, %u parts", plan->files[array->last_file].name, array->part_count);
    line_end(l);
}

static void say_totals(struct line *l, const struct plan *plan)
{
    const struct tp_plan_totals *t = &plan->totals;
    uint32_t kept = t->group_count;
    line_add(l, "arrays  %s (%s cast, %s of them to a narrower dtype), %s parameters", text_count(t->array_count).s,
             text_count(t->cast_count).s, text_count(t->narrowed_count).s, text_about(t->parameter_count).s);
    line_end_words(l);
    if (kept) {
        line_add(l, "        %s quantised group%s pass%s through untouched", text_count(kept).s, text_s(kept),
                 kept == 1 ? "es" : "");
        line_end_words(l);
    }
    if (t->decoded_count) {
        line_add(l, "        %s quantised weight%s decoded, %s parameters", text_count(t->decoded_count).s,
                 text_s(t->decoded_count), text_about(plan->decoded_parameters).s);
        line_end_words(l);
    }
    line_add(l, "disk    %s read, %s in %s file%s written, %s free%s", text_size(t->source_bytes).s,
             text_size(t->output_bytes).s, text_count(t->file_count).s, text_s(t->file_count),
             text_size(t->free_bytes).s, t->free_bytes < t->output_bytes ? ": not enough" : "");
    line_end_words(l);
    line_add(l, "memory  %s, %u worker%s", text_size(t->memory_bytes).s, t->workers, text_s(t->workers));
    line_end_words(l);
    line_add(l, "nothing was written (--dry-run)");
    line_end_words(l);
}

static void say_plan(const struct plan *plan)
{
    struct widths w;
    struct line l;
    widths_measure(&w, plan);
    line_init(&l);
    line_cell(&l, "array", w.name);
    line_cell(&l, "dtype", w.dtype);
    line_cell(&l, "shape", w.shape);
    line_add(&l, "%*s  file", SIZE_WIDTH, "size");
    line_end(&l);
    for (uint32_t i = 0; i < plan->totals.array_count; i++) {
        struct tp_plan_array array;
        tp_conversion_array(plan->cv, i, &array);
        say_array(&l, plan, &array, &w);
    }
    putchar('\n');
    line_cell(&l, "file", w.file);
    line_add(&l, "%*s  arrays", SIZE_WIDTH, "size");
    line_end(&l);
    for (uint32_t i = 0; i < plan->totals.file_count; i++) {
        const struct tp_plan_file *file = &plan->files[i];
        line_cell(&l, file->name, w.file);
        line_add(&l, "%*s  %s", SIZE_WIDTH, text_size(file->size_bytes).s, text_count(file->array_count).s);
        line_end(&l);
    }
    putchar('\n');
    say_totals(&l, plan);
}

/* ---- --json ---- */

static void json_array(struct json *j, const struct plan *plan, const struct tp_plan_array *array)
{
    json_open(j, NULL, '{');
    json_text(j, "name", array->name);
    json_text(j, "source_dtype", array->scheme ? array->scheme : survey_dtype_name(array->source_dtype));
    json_text(j, "dtype", array->numpy_name);
    json_text(j, "scheme", array->scheme);
    json_shape(j, "shape", array->shape, array->rank);
    json_count(j, "bytes", array->size_bytes);
    json_text(j, "first_file", plan->files[array->first_file].name);
    json_text(j, "last_file", plan->files[array->last_file].name);
    json_count(j, "parts", array->part_count);
    json_close(j, '}');
}

static void json_totals(struct json *j, const struct plan *plan)
{
    const struct tp_plan_totals *t = &plan->totals;
    json_open(j, "totals", '{');
    json_count(j, "arrays", t->array_count);
    json_count(j, "files", t->file_count);
    json_count(j, "parameters", t->parameter_count);
    json_count(j, "source_bytes", t->source_bytes);
    json_count(j, "output_bytes", t->output_bytes);
    json_count(j, "free_bytes", t->free_bytes);
    json_count(j, "memory_bytes", t->memory_bytes);
    json_count(j, "workers", t->workers);
    json_count(j, "cast", t->cast_count);
    json_count(j, "narrowed", t->narrowed_count);
    json_count(j, "groups", t->group_count);
    json_count(j, "decoded", t->decoded_count);
    json_count(j, "decoded_parameters", plan->decoded_parameters);
    json_close(j, '}');
}

static void json_plan(const struct convert_args *args, const struct plan *plan)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_text(&j, "tensorport", tp_version());
    json_text(&j, "input", args->input);
    json_text(&j, "output", args->output);
    json_bool(&j, "dry_run", true);
    json_totals(&j, plan);
    json_open(&j, "files", '[');
    for (uint32_t i = 0; i < plan->totals.file_count; i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", plan->files[i].name);
        json_count(&j, "bytes", plan->files[i].size_bytes);
        json_count(&j, "arrays", plan->files[i].array_count);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_open(&j, "arrays", '[');
    for (uint32_t i = 0; i < plan->totals.array_count; i++) {
        struct tp_plan_array array;
        tp_conversion_array(plan->cv, i, &array);
        json_array(&j, plan, &array);
    }
    json_close(&j, ']');
    json_close(&j, '}');
    putchar('\n');
}

static uint64_t count_decoded(struct tp_conversion *cv, uint64_t arrays)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < arrays; i++) {
        struct tp_plan_array array;
        uint64_t count = 1;
        tp_conversion_array(cv, i, &array);
        for (unsigned axis = 0; axis < array.rank; axis++)
            count *= array.shape[axis];
        all += array.scheme ? count : 0;
    }
    return all;
}

int plan_print(const struct convert_args *args, struct tp_conversion *cv)
{
    struct plan plan = {.cv = cv};
    tp_conversion_totals(cv, &plan.totals);
    plan.files = calloc((size_t)plan.totals.file_count + 1, sizeof *plan.files);
    if (!plan.files)
        return print_out_of_memory();
    for (uint32_t i = 0; i < plan.totals.file_count; i++)
        tp_conversion_file(cv, i, &plan.files[i]);
    plan.decoded_parameters = count_decoded(cv, plan.totals.array_count);
    if (args->json)
        json_plan(args, &plan);
    else if (!args->quiet)
        say_plan(&plan);
    free(plan.files);
    return 0;
}
