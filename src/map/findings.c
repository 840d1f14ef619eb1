/* SPDX-License-Identifier: MIT */
#include "map/findings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorport/text.h"

#define ITEM_TEXT 2048u /* the longest head or item */

/* ---- collecting ---- */

/* The text in the arena; NULL and a mark: no memory. */
static const char *keep_text(struct tp_findings *f, const char *fmt, va_list args) TP_PRINTF(2, 0);
static const char *keep_text(struct tp_findings *f, const char *fmt, va_list args)
{
    char text[ITEM_TEXT];
    vsnprintf(text, sizeof text, fmt, args);
    const char *kept = tp_arena_strndup(f->arena, text, strlen(text));
    f->out_of_memory |= !kept;
    return kept;
}

static size_t find(const struct tp_findings *f, const char *code, uint32_t rule, uint64_t topic)
{
    for (size_t i = f->count; i-- > 0;) { /* faults come in runs: the last one is the likeliest */
        const struct tp_finding_group *g = &f->groups[i];
        if (g->rule == rule && g->topic == topic && strcmp(g->code, code) == 0)
            return i;
    }
    return f->count;
}

size_t tp_findings_at(struct tp_findings *f, const char *code, uint32_t rule, uint64_t topic, const char *hint,
                      const char *fmt, ...)
{
    size_t at = find(f, code, rule, topic);
    if (at < f->count)
        return at;
    const char **items = tp_arena_alloc(f->arena, TP_FINDING_ITEMS * sizeof *items);
    if (!items || !tp_array_grow(&f->groups, &f->capacity, f->count + 1, sizeof *f->groups)) {
        f->out_of_memory = true;
        return SIZE_MAX;
    }
    va_list args;
    va_start(args, fmt);
    const char *head = keep_text(f, fmt, args);
    va_end(args);
    f->groups[at] = (struct tp_finding_group){
        .code = code, .head = head, .hint = hint, .items = items, .topic = topic, .rule = rule, .number = (uint32_t)at};
    f->count++;
    return at;
}

bool tp_findings_names_more(const struct tp_findings *f, size_t at)
{
    return at < f->count && f->groups[at].count < TP_FINDING_ITEMS;
}

void tp_findings_add(struct tp_findings *f, size_t at, const char *fmt, ...)
{
    if (at >= f->count)
        return;
    struct tp_finding_group *g = &f->groups[at];
    if (g->count < TP_FINDING_ITEMS) {
        va_list args;
        va_start(args, fmt);
        g->items[g->count] = keep_text(f, fmt, args);
        va_end(args);
    }
    g->count++;
}

bool tp_findings_has_error(const struct tp_findings *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->groups[i].code[0] == 'E')
            return true;
    return false;
}

void tp_findings_release(struct tp_findings *f)
{
    free(f->groups);
    f->groups = NULL;
    f->count = f->capacity = 0;
}

/* ---- handing over ---- */

static int by_code(const void *a, const void *b)
{
    const struct tp_finding_group *x = a, *y = b;
    int order = strcmp(x->code, y->code);
    if (order == 0)
        order = x->rule < y->rule ? -1 : x->rule > y->rule;
    return order ? order : x->number < y->number ? -1 : x->number > y->number;
}

/* Appends, or (dst NULL) only counts. */
static size_t put(char *dst, size_t at, const char *text)
{
    size_t len = strlen(text);
    if (dst)
        memcpy(dst + at, text, len);
    return at + len;
}

/* "head: the one case", or "head:" and a line a case; then how many more, and what to do. */
static size_t lay_out(char *dst, const struct tp_finding_group *g, const char *lead)
{
    uint32_t named = g->count < TP_FINDING_ITEMS ? g->count : TP_FINDING_ITEMS;
    size_t at = put(dst, put(dst, 0, lead), g->head);
    at = put(dst, at, named == 0 ? "" : named == 1 ? ": " : ":");
    for (uint32_t i = 0; i < named; i++)
        at = put(dst, put(dst, at, named == 1 ? "" : "\n  "), g->items[i]);
    char more[64];
    snprintf(more, sizeof more, "\n  and %" PRIu32 " more", g->count - named);
    at = put(dst, at, g->count > named ? more : "");
    return g->hint ? put(dst, put(dst, at, "\n"), g->hint) : at;
}

static const char *render(const struct tp_findings *f, const struct tp_finding_group *g)
{
    char lead[64] = "";
    if (g->rule < f->map->rule_count)
        snprintf(lead, sizeof lead, "rule %" PRIu32 " (line %" PRIu32 "): ", g->rule + 1, f->map->rules[g->rule].line);
    size_t len = lay_out(NULL, g, lead);
    char *text = tp_arena_alloc(f->arena, len + 1);
    if (text) {
        lay_out(text, g, lead);
        text[len] = '\0';
    }
    return text;
}

bool tp_findings_finish(struct tp_findings *f, struct tp_map_result *result)
{
    result->errors = tp_arena_alloc(&result->arena, (f->count + 1) * sizeof *result->errors);
    result->warnings = tp_arena_alloc(&result->arena, (f->count + 1) * sizeof *result->warnings);
    if (f->out_of_memory || !result->errors || !result->warnings)
        return false;
    if (f->count > 0)
        qsort(f->groups, f->count, sizeof *f->groups, by_code);
    for (size_t i = 0; i < f->count; i++) {
        const struct tp_finding_group *g = &f->groups[i];
        struct tp_map_finding finding = {g->code, render(f, g)};
        if (!finding.text)
            return false;
        if (g->code[0] == 'E')
            result->errors[result->error_count++] = finding;
        else
            result->warnings[result->warning_count++] = finding;
    }
    return true;
}

/* ---- texts ---- */

char *tp_shown_name(char *dst, const char *name, size_t len)
{
    return tp_text_printable(dst, TP_SHOWN_TEXT, name, len);
}

/* What does not fit is cut and ends in "...". */
static void append(char *dst, const char *text)
{
    size_t used = strlen(dst), len = strlen(text);
    if (used + len < TP_SHOWN_TEXT - 4)
        memcpy(dst + used, text, len + 1);
    else if (used < TP_SHOWN_TEXT - 4)
        memcpy(dst + used, "...", 4);
}

char *tp_shown_shape(char *dst, unsigned dtype, const uint64_t *shape, unsigned rank)
{
    const char *name = tp_dtype_name((enum tp_dtype)dtype);
    snprintf(dst, TP_SHOWN_TEXT, "%s[", name ? name : "?");
    for (unsigned i = 0; i < rank; i++) {
        char number[24];
        if (strlen(dst) > TP_SHOWN_TEXT - 48) {
            append(dst, ",...");
            break;
        }
        snprintf(number, sizeof number, "%s%" PRIu64, i ? "," : "", shape[i]);
        append(dst, number);
    }
    append(dst, "]");
    return dst;
}

char *tp_shown_source(char *dst, const struct tp_map_source *source)
{
    char shape[TP_SHOWN_TEXT];
    tp_shown_shape(shape, source->dtype, source->shape, source->rank);
    tp_text_printable(dst, TP_SHOWN_TEXT / 2, source->name, source->name_len);
    append(dst, " ");
    append(dst, shape);
    return dst;
}

char *tp_shown_path(char *dst, const struct tp_map *map, const char *path, size_t len)
{
    const char *sep = map->sep[0] ? map->sep : "/";
    dst[0] = '\0';
    for (size_t i = 0; i < len;) {
        const char *end = memchr(path + i, '\0', len - i);
        size_t key = end ? (size_t)(end - path) - i : len - i;
        char shown[TP_SHOWN_TEXT];
        tp_shown_name(shown, path + i, key);
        append(dst, shown);
        i += key + 1;
        if (i <= len && end)
            append(dst, sep);
    }
    return dst;
}

char *tp_shown_group(char *dst, const struct tp_axes_side *side, uint32_t group)
{
    const struct tp_axis_group *g = &side->groups[group];
    dst[0] = '\0';
    append(dst, g->count == 1 ? "" : "(");
    for (uint32_t i = 0; i < g->count; i++) {
        append(dst, i ? " " : "");
        append(dst, side->axes[g->first + i].name);
    }
    append(dst, g->count == 1 ? "" : ")");
    return dst;
}

char *tp_shown_side(char *dst, const struct tp_axes_side *side)
{
    dst[0] = '\0';
    for (uint32_t i = 0; i < side->group_count; i++) {
        char group[TP_SHOWN_TEXT];
        append(dst, i ? " " : "");
        append(dst, tp_shown_group(group, side, i));
    }
    return dst;
}

char *tp_shown_rule(char *dst, const struct tp_rule *rule)
{
    return tp_shown_name(dst, rule->text, strlen(rule->text));
}
