/* SPDX-License-Identifier: MIT */
/* The places of a target that several sources share: indices that captures give, and which name of a list it is. Each
 * place is to be taken once. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map/work.h"
#include "tensorport/checkpoint.h"

#define GAPS_SHOWN 8u
#define NAMES_SHOWN 3u
#define LIST_AXIS TP_MAP_NONE /* "axis" of the coordinate that counts the names of `from` */

struct coordinate {
    uint32_t axis; /* of the right side, or LIST_AXIS */
    uint64_t size;
};

struct place {
    uint64_t key; /* its coordinates as one number */
    uint32_t placement;
};

struct places {
    struct tp_gather *g;
    struct coordinate coordinates[TP_MAP_AXES_MAX + 1];
    uint32_t count;
    uint64_t total; /* UINT64_MAX: more than can be counted */
    struct place *rows;
};

static uint64_t index_of(const struct places *s, const struct coordinate *c, uint32_t placement)
{
    const struct tp_placement *p = &s->g->placements[placement];
    /* rules that share a target agree in roles, but each has its own row for a capture */
    return c->axis == LIST_AXIS ? p->from : p->values[s->g->w->rulings[p->rule].right[c->axis].capture];
}

/* ---- how many there are ---- */

/* "dims" may say how long a stack is: nothing may lie beyond. */
static bool beyond(const struct places *s, uint32_t placement, uint32_t axis, uint64_t index)
{
    struct tp_map_work *w = s->g->w;
    char source[TP_SHOWN_TEXT];
    const struct tp_right_axis *right = &s->g->ruling->right[axis];
    const char *name = s->g->rule->right.axes[axis].name;
    size_t at = tp_findings_at(&w->findings, "E06", s->g->rule_number, UINT64_MAX / 2 + axis, NULL,
                               "the stack '%.60s' has %" PRIu64 " places (%.120s)", name, right->size,
                               right->origin ? right->origin : "its name");
    tp_findings_add(&w->findings, at, "%s has '%.60s' %" PRIu64,
                    tp_shown_source(source, &w->question->sources[s->g->placements[placement].source]), name, index);
    return false;
}

static bool measure_stack(struct places *s, uint32_t axis)
{
    const struct tp_right_axis *right = &s->g->ruling->right[axis];
    struct coordinate *c = &s->coordinates[s->count++];
    *c = (struct coordinate){axis, right->is_known ? right->size : 0};
    for (uint32_t i = 0; i < s->g->count; i++) {
        uint64_t index = index_of(s, c, i);
        if (right->is_known && index >= right->size)
            return beyond(s, i, axis, index);
        c->size = index >= c->size ? index + 1 : c->size;
    }
    s->g->natural[axis] = c->size;
    return true;
}

static bool find_coordinates(struct places *s)
{
    const struct tp_gather *g = s->g;
    for (uint32_t a = 0; a < g->rule->right.axis_count; a++)
        if (g->ruling->right[a].role == TP_RIGHT_CAPTURE && !measure_stack(s, a))
            return false;
    if (g->rule->stack || g->rule->cat)
        s->coordinates[s->count++] = (struct coordinate){LIST_AXIS, g->rule->source_count};
    s->total = 1;
    for (uint32_t i = 0; i < s->count; i++)
        if (TP_MUL_OVERFLOW(s->total, s->coordinates[i].size, &s->total))
            s->total = UINT64_MAX;
    return true;
}

/* ---- each of them once ---- */

static int by_key(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->placement < y->placement ? -1 : x->placement > y->placement;
}

/* "l = 3, e = 5" */
static void show_place(const struct places *s, uint32_t placement, char *dst, size_t cap)
{
    size_t used = 0;
    dst[0] = '\0';
    for (uint32_t i = 0; i < s->count && used < cap - 1; i++) {
        const struct coordinate *c = &s->coordinates[i];
        if (c->axis == LIST_AXIS)
            continue;
        int n = snprintf(dst + used, cap - used, "%s%.60s = %" PRIu64, used ? ", " : " at ",
                         s->g->rule->right.axes[c->axis].name, index_of(s, c, placement));
        used += n > 0 ? (size_t)n : 0;
    }
}

static void add_shared_place(const struct places *s, uint32_t first, uint32_t second)
{
    struct tp_map_work *w = s->g->w;
    char a[TP_SHOWN_TEXT], b[TP_SHOWN_TEXT], file_a[TP_SHOWN_TEXT], file_b[TP_SHOWN_TEXT], path[TP_SHOWN_TEXT],
        where[TP_SHOWN_TEXT];
    const struct tp_placement *p = s->g->placements;
    const struct tp_map_source *x = &w->question->sources[p[first].source];
    const struct tp_map_source *y = &w->question->sources[p[second].source];
    size_t at = tp_findings_at(&w->findings, "E03", s->g->rule_number, 0, NULL, "two sources for one place");
    if (!tp_findings_names_more(&w->findings, at)) {
        tp_findings_add(&w->findings, at, " ");
        return;
    }
    show_place(s, first, where, sizeof where);
    tp_findings_add(&w->findings, at, "%s%s: %s (%s) and %s (%s)",
                    tp_shown_path(path, w->map, p[first].path, p[first].path_len), where,
                    tp_shown_name(a, x->name, x->name_len), tp_shown_name(file_a, x->file, strlen(x->file)),
                    tp_shown_name(b, y->name, y->name_len), tp_shown_name(file_b, y->file, strlen(y->file)));
}

static void make_rows(struct places *s)
{
    for (uint32_t i = 0; i < s->g->count; i++) {
        uint64_t key = 0;
        for (uint32_t c = 0; c < s->count; c++)
            key = key * s->coordinates[c].size + index_of(s, &s->coordinates[c], i);
        s->rows[i] = (struct place){key, i};
    }
    qsort(s->rows, s->g->count, sizeof *s->rows, by_key);
}

/* How many places are taken, or 0: one of them twice. */
static uint64_t count_taken(const struct places *s)
{
    bool is_shared = false;
    for (size_t i = 1; i < s->g->count; i++) {
        if (s->rows[i].key == s->rows[i - 1].key) {
            add_shared_place(s, s->rows[i - 1].placement, s->rows[i].placement);
            is_shared = true;
        }
    }
    return is_shared ? 0 : s->g->count;
}

/* ---- holes: E04 ---- */

/* Indices of one coordinate that no source has: "l = 7, 9..11 of 0..23". */
static size_t show_gaps(struct places *s, const struct coordinate *c, char *dst, size_t cap)
{
    size_t used = 0;
    uint64_t next = 0; /* the smallest index not yet seen */
    uint32_t gaps = 0;
    for (uint32_t i = 0; i < s->g->count; i++)
        s->rows[i] = (struct place){index_of(s, c, i), i};
    qsort(s->rows, s->g->count, sizeof *s->rows, by_key);
    dst[0] = '\0';
    for (size_t i = 0; i <= s->g->count && used < cap - 1; i++) {
        uint64_t seen = i < s->g->count ? s->rows[i].key : c->size;
        if (seen > next && gaps++ < GAPS_SHOWN) {
            int n = snprintf(dst + used, cap - used, "%s%" PRIu64, used ? ", " : "", next);
            used += n > 0 ? (size_t)n : 0;
            if (seen > next + 1 && used < cap - 1) {
                n = snprintf(dst + used, cap - used, "..%" PRIu64, seen - 1);
                used += n > 0 ? (size_t)n : 0;
            }
        }
        next = seen + 1 > next ? seen + 1 : next;
    }
    if (gaps > GAPS_SHOWN && used < cap - 1)
        snprintf(dst + used, cap - used, ", ...");
    return gaps;
}

static void show_missing(struct places *s, char *dst, size_t cap)
{
    size_t used = 0;
    dst[0] = '\0';
    for (uint32_t i = 0; i < s->count && used < cap - 1; i++) {
        const struct coordinate *c = &s->coordinates[i];
        char gaps[256];
        if (!show_gaps(s, c, gaps, sizeof gaps))
            continue;
        const char *name = c->axis == LIST_AXIS ? "the list \"from\"" : s->g->rule->right.axes[c->axis].name;
        int n =
            snprintf(dst + used, cap - used, "%s%.60s = %s of 0..%" PRIu64, used ? "; " : "", name, gaps, c->size - 1);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used == 0) /* each index has some source, but not each combination */
        snprintf(dst, cap, "%" PRIu64 " of %s%" PRIu64 " places", s->total - s->g->count,
                 s->total == UINT64_MAX ? "more than " : "", s->total);
}

/* The source that this place wants. */
static void add_wanted(const struct places *s, uint64_t key, char *dst, size_t cap)
{
    struct tp_gather *g = s->g;
    struct tp_captured captured = {{0}};
    uint32_t from = g->placements[0].from;
    char name[TP_NAME_MAX_BYTES + 1], shown[TP_SHOWN_TEXT];
    for (uint32_t i = 0; i < g->rule->capture_count; i++)
        captured.value[i] = g->placements[0].values[i];
    for (uint32_t i = s->count; i-- > 0; key /= s->coordinates[i].size) {
        const struct coordinate *c = &s->coordinates[i];
        uint64_t index = key % c->size;
        if (c->axis == LIST_AXIS)
            from = (uint32_t)index;
        else
            captured.value[g->ruling->right[c->axis].capture] = index;
    }
    size_t len = tp_pattern_format(&g->rule->sources[from].from, &g->w->scope, &captured, name, sizeof name);
    size_t used = strlen(dst);
    if (len != SIZE_MAX)
        snprintf(dst + used, cap - used, "%s%s", used ? ", " : "", tp_shown_name(shown, name, len));
}

static bool add_holes(struct places *s)
{
    struct tp_map_work *w = s->g->w;
    char missing[1024], wanted[NAMES_SHOWN * (TP_SHOWN_TEXT + 2)] = "", path[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E04", s->g->rule_number, 0, NULL, "sources are missing");
    if (!tp_findings_names_more(&w->findings, at)) {
        tp_findings_add(&w->findings, at, " ");
        return false;
    }
    uint64_t next = 0;
    uint32_t names = 0;
    for (size_t i = 0; i <= s->g->count && s->total != UINT64_MAX && names < NAMES_SHOWN; i++) {
        uint64_t taken = i < s->g->count ? s->rows[i].key : s->total;
        for (; next < taken && names < NAMES_SHOWN; next++, names++)
            add_wanted(s, next, wanted, sizeof wanted);
        next = taken + 1;
    }
    show_missing(s, missing, sizeof missing); /* sorts the rows anew */
    tp_findings_add(&w->findings, at, "%s lacks %s%s%s",
                    tp_shown_path(path, w->map, s->g->placements[0].path, s->g->placements[0].path_len), missing,
                    wanted[0] ? "; there is no " : "", wanted);
    return false;
}

static bool check_rows(struct places *s)
{
    make_rows(s);
    uint64_t taken = s->total == UINT64_MAX ? s->g->count : count_taken(s); /* numbers that wrap cannot be compared */
    if (taken > 0 && taken != s->total && !s->g->ruling->has_failed)
        add_holes(s);
    return taken == s->total;
}

bool tp_gather_places(struct tp_gather *g)
{
    struct places s = {.g = g};
    if (!find_coordinates(&s))
        return false;
    if (g->count == 1 && s.total == 1)
        return true;
    s.rows = malloc(g->count * sizeof *s.rows);
    if (!s.rows) {
        g->w->findings.out_of_memory = true;
        return false;
    }
    bool ok = check_rows(&s);
    free(s.rows);
    return ok;
}
