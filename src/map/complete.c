/* SPDX-License-Identifier: MIT */
/* Captures whose number "dims" says: what a rule takes for one index it takes for all. (Stacks see to themselves.) */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"

/* The placements of one rule, sorted so that those that differ in nothing but the capture stand together. */
struct run {
    const struct tp_map_work *w;
    const struct tp_placement **rows;
    size_t count;
    uint32_t rule, capture;
    uint64_t wanted;
};

static const struct tp_expr *dim_named(const struct tp_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->dim_count; i++)
        if (strcmp(map->dims[i].name, name) == 0)
            return map->dims[i].size;
    return NULL;
}

/* {l+3} and {l<3} are a part of what is there on purpose. */
static bool is_whole_range(const struct tp_rule *rule, uint32_t capture)
{
    for (uint32_t s = 0; s < rule->source_count; s++)
        for (uint32_t i = 0; i < rule->sources[s].from.count; i++) {
            const struct tp_token *t = &rule->sources[s].from.tokens[i];
            bool is_it = t->capture == capture && (t->kind == TP_TOKEN_INDEX || t->kind == TP_TOKEN_SPLIT);
            if (is_it && (t->offset || t->limit))
                return false;
        }
    return true;
}

static bool is_stacked(const struct tp_map_work *w, uint32_t rule, uint32_t capture)
{
    const struct tp_ruling *ruling = &w->rulings[rule];
    for (uint32_t a = 0; a < w->map->rules[rule].right.axis_count; a++)
        if (ruling->right[a].role == TP_RIGHT_CAPTURE && ruling->right[a].capture == capture)
            return true;
    return false;
}

/* What stands in both but the capture: -1, 0, 1. */
static int compare_rest(const struct tp_placement *a, const struct tp_placement *b, const struct tp_rule *rule,
                        uint32_t capture)
{
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    for (uint32_t c = 0; c < rule->capture_count; c++)
        if (c != capture && rule->captures[c].in_from && a->values[c] != b->values[c])
            return a->values[c] < b->values[c] ? -1 : 1;
    return 0;
}

/* A merge sort, since qsort could not be told of the capture. */
static void merge(const struct tp_placement **to, const struct tp_placement **from, size_t low, size_t middle,
                  size_t high, const struct run *r)
{
    const struct tp_rule *rule = &r->w->map->rules[r->rule];
    size_t a = low, b = middle;
    for (size_t i = low; i < high; i++) {
        bool take_a = a < middle;
        if (take_a && b < high) {
            int order = compare_rest(from[a], from[b], rule, r->capture);
            take_a = order < 0 || (order == 0 && from[a]->values[r->capture] <= from[b]->values[r->capture]);
        }
        to[i] = take_a ? from[a++] : from[b++];
    }
}

static void sort_rows(struct run *r, const struct tp_placement **room)
{
    for (size_t width = 1; width < r->count; width *= 2) {
        for (size_t low = 0; low < r->count; low += 2 * width) {
            size_t middle = low + width < r->count ? low + width : r->count;
            size_t high = low + 2 * width < r->count ? low + 2 * width : r->count;
            merge(room, r->rows, low, middle, high, r);
        }
        memcpy(r->rows, room, r->count * sizeof *room);
    }
}

/* Rows [begin, end) differ in the capture alone: say which index is missing first. */
static void check_run(struct tp_map_work *w, const struct run *r, size_t begin, size_t end)
{
    char source[TP_SHOWN_TEXT];
    const struct tp_rule *rule = &w->map->rules[r->rule];
    const char *name = rule->captures[r->capture].name;
    uint64_t next = 0, count = 0;
    for (size_t i = begin; i < end; i++) {
        uint64_t value = r->rows[i]->values[r->capture];
        if (i > begin && value == r->rows[i - 1]->values[r->capture])
            continue;
        next += value == next;
        count++;
    }
    if (count == r->wanted && next == r->wanted)
        return;
    size_t at = tp_findings_at(&w->findings, "E04", r->rule, UINT64_MAX / 4 + r->capture, NULL,
                               "\"dims\" says that {%.60s} is 0 to %" PRIu64 ", but there are %" PRIu64, name,
                               r->wanted - 1, count);
    if (next < r->wanted)
        tp_findings_add(&w->findings, at, "%.60s = %" PRIu64 " is missing beside %s", name, next,
                        tp_shown_source(source, &w->question->sources[r->rows[begin]->source]));
    else
        tp_findings_add(&w->findings, at, "there is more than 0 to %" PRIu64 " of %s", r->wanted - 1,
                        tp_shown_source(source, &w->question->sources[r->rows[begin]->source]));
}

static void check_rows(struct tp_map_work *w, const struct run *r)
{
    const struct tp_rule *rule = &w->map->rules[r->rule];
    for (size_t begin = 0, end; begin < r->count; begin = end) {
        for (end = begin + 1; end < r->count; end++)
            if (compare_rest(r->rows[begin], r->rows[end], rule, r->capture) != 0)
                break;
        check_run(w, r, begin, end);
    }
}

static size_t rows_of(const struct tp_map_work *w, uint32_t rule, const struct tp_placement **rows)
{
    size_t count = 0;
    for (size_t i = 0; i < w->placement_count; i++)
        if (w->placements[i].rule == rule)
            rows[count++] = &w->placements[i];
    return count;
}

enum tp_status tp_check_complete(struct tp_map_work *w)
{
    const struct tp_placement **rows = malloc((w->placement_count + 1) * sizeof *rows);
    const struct tp_placement **room = malloc((w->placement_count + 1) * sizeof *room);
    bool ok = rows && room;
    for (uint32_t i = 0; ok && i < w->map->rule_count; i++) {
        const struct tp_rule *rule = &w->map->rules[i];
        for (uint32_t c = 0; c < rule->capture_count; c++) {
            const struct tp_expr *dim = dim_named(w->map, rule->captures[c].name);
            struct run r = {.w = w, .rows = rows, .rule = i, .capture = c};
            if (!dim || rule->captures[c].is_word || !rule->captures[c].in_from || is_stacked(w, i, c) ||
                !is_whole_range(rule, c) || !tp_expr_evaluate_whole(&r.wanted, dim, &w->scope, 1, NULL))
                continue;
            r.count = rows_of(w, i, rows);
            sort_rows(&r, room);
            check_rows(w, &r);
        }
    }
    free(room);
    free(rows);
    return ok ? TP_OK : tp_fail_nomem(w->err);
}
