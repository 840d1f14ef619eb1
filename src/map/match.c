/* SPDX-License-Identifier: MIT */
/* Sources x rules. Most pairs are told apart by the first and the last bytes of a name. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"
#include "tensorport/checkpoint.h"

/* One name of a rule's `from`, with the literals at its ends. */
struct entry {
    const struct tp_name_pattern *pattern;
    const char *prefix, *suffix;
    uint32_t prefix_len, suffix_len, rule, from;
    const char *fault; /* why none of its names can be read, or NULL */
};

struct name_row {
    const char *text;
    uint32_t len, source;
};

struct matching {
    struct tp_map_work *w;
    struct entry *entries;
    size_t entry_count;
    struct name_row *names; /* sorted; only where a rule asks for other sources */
};

/* What has become of one source so far. */
struct meeting {
    uint32_t source, rule; /* the first rule without "also", or TP_MAP_NONE */
    bool is_used, is_dropped, is_placed;
};

/* ---- the table ---- */

static const struct tp_token *literal_at(const struct tp_name_pattern *p, uint32_t at)
{
    return p->count > 0 && p->tokens[at].kind == TP_TOKEN_LITERAL ? &p->tokens[at] : NULL;
}

static void add_entry(struct matching *m, uint32_t rule, uint32_t from)
{
    const struct tp_name_pattern *p = &m->w->map->rules[rule].sources[from].from;
    const struct tp_token *first = literal_at(p, 0), *last = p->count > 0 ? literal_at(p, p->count - 1) : NULL;
    char missing[256];
    const char *fault = NULL;
    if (!tp_pattern_check(p, &m->w->scope, missing)) {
        fault = tp_arena_strndup(&m->w->scratch, missing, strlen(missing));
        m->w->findings.out_of_memory |= !fault;
    }
    m->entries[m->entry_count++] = (struct entry){.pattern = p,
                                                  .prefix = first ? first->text : "",
                                                  .suffix = last ? last->text : "",
                                                  .prefix_len = first ? first->text_len : 0,
                                                  .suffix_len = last ? last->text_len : 0,
                                                  .rule = rule,
                                                  .from = from,
                                                  .fault = fault};
}

static int by_name(const void *a, const void *b)
{
    const struct name_row *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : x->len < y->len ? -1 : x->len > y->len;
}

static bool asks_for_names(const struct tp_map *map)
{
    for (uint32_t i = 0; i < map->rule_count; i++)
        if (map->rules[i].if_missing || map->rules[i].same_as)
            return true;
    return false;
}

bool tp_takes_part(const struct tp_map_work *w, const struct tp_expr *only_if)
{
    double value;
    return !only_if || (tp_expr_evaluate(&value, only_if, &w->scope, NULL) && value != 0);
}

static enum tp_status make_tables(struct matching *m)
{
    struct tp_map_work *w = m->w;
    size_t sources = w->question->source_count, names = 0;
    for (uint32_t i = 0; i < w->map->rule_count; i++)
        names += w->map->rules[i].source_count;
    m->entries = tp_arena_alloc(&w->scratch, names * sizeof *m->entries);
    if (!m->entries)
        return tp_fail_nomem(w->err);
    for (uint32_t i = 0; i < w->map->rule_count; i++) {
        w->rulings[i].is_off = !tp_takes_part(w, w->map->rules[i].only_if);
        for (uint32_t k = 0; k < w->map->rules[i].source_count && !w->rulings[i].is_off; k++)
            add_entry(m, i, k);
    }
    if (!asks_for_names(w->map) || sources == 0)
        return TP_OK;
    m->names = tp_arena_alloc(&w->scratch, sources * sizeof *m->names);
    if (!m->names)
        return tp_fail_nomem(w->err);
    for (size_t i = 0; i < sources; i++)
        m->names[i] = (struct name_row){w->question->sources[i].name, w->question->sources[i].name_len, (uint32_t)i};
    qsort(m->names, sources, sizeof *m->names, by_name);
    return TP_OK;
}

/* ---- other sources that a rule speaks of ---- */

/* The source of that name, or TP_MAP_NONE. */
static uint32_t find_source(const struct matching *m, const struct tp_name_pattern *pattern,
                            const struct tp_captured *captured, char *name)
{
    struct name_row key = {.text = name};
    size_t len = tp_pattern_format(pattern, &m->w->scope, captured, name, TP_NAME_MAX_BYTES + 1);
    if (len == SIZE_MAX || !m->names)
        return TP_MAP_NONE;
    key.len = (uint32_t)len;
    const struct name_row *row = bsearch(&key, m->names, m->w->question->source_count, sizeof *m->names, by_name);
    return row ? row->source : TP_MAP_NONE;
}

static bool is_same_kind(const struct tp_map_source *a, const struct tp_map_source *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
}

/* The bytes are compared before anything is written; what headers say is compared here: E13. */
static enum tp_status take_same(struct matching *m, uint32_t source, uint32_t rule, const struct tp_captured *captured)
{
    struct tp_map_work *w = m->w;
    char name[TP_NAME_MAX_BYTES + 1], a[TP_SHOWN_TEXT], b[TP_SHOWN_TEXT];
    const struct tp_map_source *sources = w->question->sources;
    uint32_t other = find_source(m, w->map->rules[rule].same_as, captured, name);
    if (other != TP_MAP_NONE && is_same_kind(&sources[source], &sources[other])) {
        if (!tp_array_grow(&w->sames, &w->same_capacity, w->result->same_count + 1, sizeof *w->sames))
            return tp_fail_nomem(w->err);
        w->sames[w->result->same_count++] = (struct tp_map_same){source, other, rule};
        return TP_OK;
    }
    size_t at = tp_findings_at(&w->findings, "E13", rule, 0, NULL, "\"same_as\" does not hold");
    tp_shown_source(a, &sources[source]);
    if (other == TP_MAP_NONE)
        tp_findings_add(&w->findings, at, "%s: there is no %s", a, tp_shown_name(b, name, strlen(name)));
    else
        tp_findings_add(&w->findings, at, "%s is not %s", a, tp_shown_source(b, &sources[other]));
    return TP_OK;
}

/* ---- one source ---- */

static void add_conflict(struct tp_map_work *w, const struct meeting *met, uint32_t rule)
{
    char first[TP_SHOWN_TEXT], second[TP_SHOWN_TEXT], source[TP_SHOWN_TEXT];
    const struct tp_rule *other = &w->map->rules[rule];
    size_t at = tp_findings_at(&w->findings, "E02", met->rule, rule,
                               "If one of them shall use what the other uses too, give it \"also\": true.",
                               "%s matches the same tensors as rule %" PRIu32 " (line %" PRIu32 "), %s",
                               tp_shown_rule(first, &w->map->rules[met->rule]), rule + 1, other->line,
                               tp_shown_rule(second, other));
    tp_findings_add(&w->findings, at, "%s", tp_shown_source(source, &w->question->sources[met->source]));
}

/* To leave out what the rule has made would lose it. */
static void add_no_way_back(struct tp_map_work *w, uint32_t rule)
{
    char shown[TP_SHOWN_TEXT];
    if (w->rulings[rule].inexact[TP_INEXACT_DROP] > 0)
        return; /* said */
    size_t at = tp_findings_at(&w->findings, "E07", rule, 2, NULL, "what it takes to go back is not known, %s",
                               tp_shown_rule(shown, &w->map->rules[rule]));
    tp_findings_add(&w->findings, at, "%s", w->map->rules[rule].no_way_back);
}

/* An entry whose name fits. */
static enum tp_status take(struct matching *m, const struct entry *e, const struct tp_captured *captured,
                           struct meeting *met)
{
    struct tp_map_work *w = m->w;
    const struct tp_rule *rule = &w->map->rules[e->rule];
    char name[TP_NAME_MAX_BYTES + 1];
    w->rulings[e->rule].is_met = true;
    enum tp_status st = tp_ruling_settle(w, e->rule);
    if (st)
        return st;
    if (w->rulings[e->rule].state == TP_RULING_BROKEN) {
        met->is_used = met->is_placed = true;
        return TP_OK;
    }
    if (rule->if_missing && find_source(m, rule->if_missing, captured, name) != TP_MAP_NONE)
        return TP_OK;
    met->is_used = true;
    if (!rule->also && met->rule != TP_MAP_NONE && met->rule != e->rule) {
        add_conflict(w, met, e->rule);
        return TP_OK;
    }
    met->rule = rule->also ? met->rule : e->rule;
    if (rule->no_way_back)
        add_no_way_back(w, e->rule);
    if (rule->drop) {
        met->is_dropped = true;
        w->rulings[e->rule].inexact[TP_INEXACT_DROP]++;
        return TP_OK;
    }
    met->is_placed = true;
    return rule->same_as ? take_same(m, met->source, e->rule, captured)
                         : tp_place_source(w, met->source, e->rule, e->from, captured);
}

static bool may_fit(const struct entry *e, const struct tp_map_source *s)
{
    return s->name_len >= e->suffix_len &&
           memcmp(s->name + s->name_len - e->suffix_len, e->suffix, e->suffix_len) == 0 &&
           s->name_len >= e->prefix_len && memcmp(s->name, e->prefix, e->prefix_len) == 0;
}

static void add_unreadable(struct tp_map_work *w, const struct entry *e)
{
    struct tp_ruling *ruling = &w->rulings[e->rule];
    size_t at =
        tp_findings_at(&w->findings, "E07", e->rule, 1, NULL, "the numbers in %s are not known", e->pattern->text);
    if (!ruling->is_met || ruling->state != TP_RULING_BROKEN)
        tp_findings_add(&w->findings, at, "%s", e->fault);
    ruling->is_met = true;
    ruling->state = TP_RULING_BROKEN;
}

/* The rules that drop for want of a way back (of an inverse) come after all others. */
static enum tp_status meet(struct matching *m, struct meeting *met, bool gives_way)
{
    struct tp_map_work *w = m->w;
    const struct tp_map_source *s = &w->question->sources[met->source];
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < m->entry_count && !st; i++) {
        const struct entry *e = &m->entries[i];
        if (!may_fit(e, s) || gives_way != (w->map->is_inverse && w->map->rules[e->rule].drop))
            continue;
        struct tp_captured captured = {{0}};
        if (e->fault) {
            add_unreadable(w, e);
            met->is_used = met->is_placed = true;
        } else if (tp_pattern_match(e->pattern, &w->scope, s->name, s->name_len, &captured)) {
            st = take(m, e, &captured, met);
        }
    }
    return st;
}

/* ---- what no rule matches ---- */

static void add_unmatched(struct matching *m, uint32_t source)
{
    struct tp_map_work *w = m->w;
    const struct tp_map_source *s = &w->question->sources[source];
    bool is_error = w->map->unmatched == TP_UNMATCHED_ERROR;
    char shown[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(
        &w->findings, is_error ? "E01" : "W03", TP_MAP_NONE, 0,
        is_error ? "Write a rule for them, one with \"drop\": true, or say what becomes of all such with \"unmatched\"."
                 : NULL,
        is_error ? "no rule matches" : "no rule matches, left out");
    const struct entry *nearest = NULL;
    size_t best = 0;
    for (size_t i = 0; i < m->entry_count && tp_findings_names_more(&w->findings, at); i++) {
        size_t likeness = tp_pattern_likeness(m->entries[i].pattern, s->name, s->name_len);
        nearest = likeness > best ? &m->entries[i] : nearest;
        best = likeness > best ? likeness : best;
    }
    tp_shown_source(shown, s);
    if (nearest)
        tp_findings_add(&w->findings, at, "%s; the nearest is rule %" PRIu32 " (line %" PRIu32 "), from %.300s", shown,
                        nearest->rule + 1, w->map->rules[nearest->rule].line, nearest->pattern->text);
    else
        tp_findings_add(&w->findings, at, "%s", shown);
}

static enum tp_status leave(struct matching *m, uint32_t source)
{
    struct tp_map_work *w = m->w;
    switch (w->map->unmatched) {
    case TP_UNMATCHED_KEEP:
        return tp_place_kept(w, source);
    case TP_UNMATCHED_DROP:
        w->result->dropped[w->result->dropped_count++] = source;
        return TP_OK;
    case TP_UNMATCHED_ERROR:
    case TP_UNMATCHED_WARN:
        break;
    }
    add_unmatched(m, source);
    return TP_OK;
}

static enum tp_status match_source(struct matching *m, uint32_t source)
{
    struct tp_map_work *w = m->w;
    struct meeting met = {.source = source, .rule = TP_MAP_NONE};
    enum tp_status st = meet(m, &met, false);
    if (!st && w->map->is_inverse && !met.is_used)
        st = meet(m, &met, true);
    if (st)
        return st;
    if (!met.is_used)
        return leave(m, source);
    if (met.is_dropped && !met.is_placed)
        w->result->dropped[w->result->dropped_count++] = source;
    return TP_OK;
}

static void add_idle_rules(struct tp_map_work *w)
{
    for (uint32_t i = 0; i < w->map->rule_count; i++) {
        char shown[TP_SHOWN_TEXT];
        const struct tp_rule *rule = &w->map->rules[i];
        if (w->rulings[i].is_met || w->rulings[i].is_off || (w->map->is_inverse && rule->drop))
            continue;
        size_t at = tp_findings_at(&w->findings, "W01", TP_MAP_NONE, 0, NULL, "rules that match no tensor");
        tp_findings_add(&w->findings, at, "rule %" PRIu32 " (line %" PRIu32 "), %s", i + 1, rule->line,
                        tp_shown_rule(shown, rule));
    }
}

enum tp_status tp_match_sources(struct tp_map_work *w)
{
    struct matching m = {.w = w};
    w->result->dropped = tp_arena_alloc(&w->result->arena, w->question->source_count * sizeof *w->result->dropped);
    enum tp_status st = w->result->dropped ? make_tables(&m) : tp_fail_nomem(w->err);
    for (size_t i = 0; i < w->question->source_count && !st; i++)
        st = match_source(&m, (uint32_t)i);
    if (!st)
        add_idle_rules(w);
    return st;
}
