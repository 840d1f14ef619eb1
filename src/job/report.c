/* SPDX-License-Identifier: MIT */
#include "job/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "tensorport/text.h"

/* The row of an array, a new one when it is the first of its kind; NULL: no memory. */
static struct tp_cast_row *row_of(struct tp_cast_row **rows, size_t *count, size_t *capacity, const struct tp_array *a,
                                  const char *scheme)
{
    for (size_t i = 0; i < *count; i++)
        if ((*rows)[i].scheme == scheme && (*rows)[i].from == tp_array_source_dtype(a) && (*rows)[i].to == a->dtype)
            return &(*rows)[i];
    if (!tp_array_grow(rows, capacity, *count + 1, sizeof **rows))
        return NULL;
    (*rows)[*count] =
        (struct tp_cast_row){.scheme = scheme, .from = tp_array_source_dtype(a), .to = (enum tp_dtype)a->dtype};
    return &(*rows)[(*count)++];
}

/* Casts before decodings, then in the order of dtypes. */
static int compare_casts(const void *a, const void *b)
{
    const struct tp_cast_row *x = a, *y = b;
    if (!x->scheme != !y->scheme)
        return x->scheme ? 1 : -1;
    int order = x->scheme ? strcmp(x->scheme, y->scheme) : 0;
    order = order ? order : (x->from > y->from) - (x->from < y->from);
    return order ? order : (x->to > y->to) - (x->to < y->to);
}

enum tp_status tp_report_casts(struct tp_cast_row **rows, size_t *count, const struct tp_plan *plan,
                               const struct tp_result *results, struct tp_error *err)
{
    size_t capacity = 0;
    *rows = NULL;
    *count = 0;
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        const struct tp_decoded *d = tp_array_decoded(plan, a);
        if (tp_array_op(a) != TP_OP_CAST && !d)
            continue;
        struct tp_cast_row *row = row_of(rows, count, &capacity, a, d ? d->scheme->name : NULL);
        if (!row)
            return tp_fail_nomem(err);
        row->array_count++;
        row->value_count += a->elem_count;
        row->overflow_count += results[a->result].stats.overflow_count;
        row->flushed_count += results[a->result].stats.flushed_count;
    }
    if (*count)
        qsort(*rows, *count, sizeof **rows, compare_casts);
    return TP_OK;
}

/* ---- arrays with values that did not fit ---- */

/* Most overflows first, then most flushed; then in the order of names, so that the list is the same every time. */
static int compare_rows(const void *a, const void *b)
{
    const struct tp_value_row *x = a, *y = b;
    if (x->overflow_count != y->overflow_count)
        return x->overflow_count < y->overflow_count ? 1 : -1;
    if (x->flushed_count != y->flushed_count)
        return x->flushed_count < y->flushed_count ? 1 : -1;
    return strcmp(x->name, y->name);
}

static bool fill_row(struct tp_value_row *row, const struct tp_array *a, const struct tp_stats *s)
{
    char name[TP_NAME_MAX_BYTES + 1], shown[1024];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    tp_text_printable(shown, sizeof shown, name, a->path_len);
    size_t shape_bytes = a->rank * sizeof *a->shape, name_bytes = strlen(shown) + 1;
    unsigned char *memory = malloc(shape_bytes + name_bytes); /* shape first: it wants the alignment */
    if (!memory)
        return false;
    if (shape_bytes)
        memcpy(memory, a->shape, shape_bytes);
    memcpy(memory + shape_bytes, shown, name_bytes);
    *row = (struct tp_value_row){.name = (char *)memory + shape_bytes,
                                 .from = tp_array_source_dtype(a),
                                 .to = (enum tp_dtype)a->dtype,
                                 .overflow_count = s->overflow_count,
                                 .flushed_count = s->flushed_count,
                                 .min = s->min,
                                 .max = s->max,
                                 .shape = (const uint64_t *)(void *)memory,
                                 .rank = a->rank};
    return true;
}

static enum tp_status fill_values(struct tp_convert_report *report, const struct tp_plan *plan,
                                  const struct tp_result *results, struct tp_error *err)
{
    size_t capacity = 0;
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        const struct tp_stats *s = tp_array_op(a) == TP_OP_CAST ? &results[a->result].stats : NULL;
        if (!s || (s->overflow_count == 0 && s->flushed_count == 0))
            continue;
        if (!tp_array_grow(&report->values, &capacity, report->value_count + 1, sizeof *report->values) ||
            !fill_row(&report->values[report->value_count], a, s))
            return tp_fail_nomem(err);
        report->value_count++;
    }
    if (report->value_count)
        qsort(report->values, report->value_count, sizeof *report->values, compare_rows);
    return TP_OK;
}

/* ---- notes ---- */

static bool note_groups(struct tp_list *notes, const struct tp_plan *plan, const struct tp_checkpoint *source)
{
    const char *scheme = NULL;
    uint32_t groups = 0, members = 0;
    bool ok = true;
    uint32_t count = tp_checkpoint_group_count(source);
    bool *present = calloc((size_t)count + 1, sizeof *present);
    if (!present)
        return false;
    for (size_t i = 0; i < plan->array_count; i++)
        if (plan->arrays[i].group != TP_NO_GROUP)
            present[plan->arrays[i].group] = true;
    for (uint32_t g = 0; g <= count && ok; g++) { /* groups of one scheme stand together, or make a line more */
        const struct tp_group *group = g < count ? tp_checkpoint_group(source, g) : NULL;
        if (scheme && (!group || strcmp(group->scheme, scheme) != 0)) {
            ok = groups == 0 || tp_list_add(notes,
                                            "%" PRIu32 " quantised weights (%s, %" PRIu32
                                            " tensors) kept as codes and scales, undecoded",
                                            groups, scheme, members);
            groups = members = 0;
        }
        if (group && present[g]) {
            groups++;
            members += group->member_count;
        }
        scheme = group ? group->scheme : NULL;
    }
    free(present);
    return ok;
}

static bool note_bools(struct tp_list *notes, const struct tp_plan *plan, const struct tp_result *results)
{
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        if (tp_array_source_dtype(a) != TP_BOOL || results[a->result].odd_bool_count == 0)
            continue;
        char name[TP_NAME_MAX_BYTES + 1], shown[256];
        tp_path_join_keys(name, a->path, a->path_len, '.');
        if (!tp_list_add(notes, "warning: '%s': %" PRIu64 " BOOL bytes are neither 0 nor 1 (copied as they are)",
                         tp_text_printable(shown, sizeof shown, name, a->path_len), results[a->result].odd_bool_count))
            return false;
    }
    return true;
}

/* NaN codes, and with --nan-scales NaN scales, make NaN values: nobody meant them. */
static bool note_nans(struct tp_list *notes, const struct tp_plan *plan, const struct tp_result *results)
{
    uint64_t values = 0;
    struct tp_name_list names = {.count = 0};
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        char name[TP_NAME_MAX_BYTES + 1], shown[TP_NAME_TEXT];
        if (a->result == TP_NONE || !tp_array_decoded(plan, a) || results[a->result].stats.nan_count == 0)
            continue;
        tp_path_join_keys(name, a->path, a->path_len, '.');
        values += results[a->result].stats.nan_count;
        tp_name_list_add(&names, tp_describe_name(shown, name, a->path_len));
    }
    return values == 0 || tp_list_add(notes, "warning: %" PRIu64 " values of %zu decoded weights are NaN: %s", values,
                                      names.count, tp_name_list_text(&names));
}

static bool note_views(struct tp_list *notes, const struct tp_plan *plan)
{
    uint32_t count[TP_DTYPE_COUNT] = {0};
    for (size_t i = 0; i < plan->array_count; i++)
        if (plan->arrays[i].view != TP_DTYPE_NONE)
            count[plan->arrays[i].view]++;
    for (size_t d = 0; d < TP_DTYPE_COUNT; d++)
        if (count[d] && !tp_list_add(notes, "%" PRIu32 " %s arrays stored as uint8 (--compat)", count[d],
                                     tp_dtype_numpy_name((enum tp_dtype)d)))
            return false;
    return true;
}

static enum tp_status fill_notes(struct tp_convert_report *report, const struct tp_plan *plan,
                                 const struct tp_checkpoint *source, const struct tp_result *results,
                                 struct tp_error *err)
{
    struct tp_list notes = {0};
    bool ok = true;
    for (size_t i = 0; i < plan->notes.count && ok; i++)
        ok = tp_list_add(&notes, "%s", plan->notes.items[i]);
    ok = ok && note_groups(&notes, plan, source) && note_views(&notes, plan) && note_nans(&notes, plan, results) &&
         note_bools(&notes, plan, results);
    report->notes = notes.items;
    report->note_count = notes.count;
    return ok ? TP_OK : tp_fail_nomem(err);
}

enum tp_status tp_report_fill(struct tp_convert_report *report, const struct tp_plan *plan,
                              const struct tp_checkpoint *source, const struct tp_result *results, struct tp_error *err)
{
    report->array_count = (uint32_t)plan->array_count;
    report->file_count = (uint32_t)plan->file_count;
    report->parameter_count = plan->parameter_count;
    report->read_bytes = plan->read_bytes > report->referred_bytes ? plan->read_bytes - report->referred_bytes : 0;
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        report->dtype_count[a->dtype]++;
        report->dtype_bytes[a->dtype] += a->elem_count * tp_array_item_bytes(a);
    }
    enum tp_status st = tp_report_casts(&report->casts, &report->cast_count, plan, results, err);
    if (!st)
        st = fill_values(report, plan, results, err);
    return st ? st : fill_notes(report, plan, source, results, err);
}

void tp_convert_report_release(struct tp_convert_report *report)
{
    for (size_t i = 0; i < report->value_count; i++) /* a row's memory begins with its shape */
        free((void *)(uintptr_t)report->values[i].shape);
    free(report->values);
    free(report->casts);
    struct tp_list notes = {.items = report->notes, .count = report->note_count};
    tp_list_release(&notes);
    *report = (struct tp_convert_report){.array_count = 0};
}
