/* SPDX-License-Identifier: MIT */
/* A map applied to the names, dtypes and shapes of a source: docs/mapping.md, as steps. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"

/* ---- W02: what cannot be undone, or was not ---- */

static const char *const reasons[TP_INEXACT_COUNT] = {
    [TP_INEXACT_MUL] = "\"mul\" by no power of two",  [TP_INEXACT_ADD] = "\"add\" in 16 bits",
    [TP_INEXACT_PAD] = "\"pad\" that cuts off",       [TP_INEXACT_DROP] = "\"drop\"",
    [TP_INEXACT_DTYPE] = "\"dtype\" that holds less",
};

static void add_inexact(struct tp_map_work *w, uint32_t rule)
{
    char text[TP_SHOWN_TEXT];
    for (unsigned i = 0; i < TP_INEXACT_COUNT; i++) {
        uint32_t count = w->rulings[rule].inexact[i];
        if (count == 0)
            continue;
        size_t at = tp_findings_at(&w->findings, "W02", rule, 0, NULL, "cannot be undone exactly, %s",
                                   tp_shown_rule(text, &w->map->rules[rule]));
        tp_findings_add(&w->findings, at, "%s (%" PRIu32 " tensor%s)", reasons[i], count, count == 1 ? "" : "s");
    }
}

/* Of an inverse: rules of the map that only take away, and those whose targets are now left out. */
static void add_lost(struct tp_map_work *w, uint32_t rule)
{
    char text[TP_SHOWN_TEXT];
    const struct tp_rule *r = &w->map->rules[rule];
    uint32_t count = w->rulings[rule].inexact[TP_INEXACT_DROP];
    if (r->line == 0 || r->no_way_back || (count == 0 && r->source_count > 0))
        return; /* a constant; an error already; or another rule has taken its targets back */
    size_t at = tp_findings_at(&w->findings, "W02", rule, 0, NULL, "has no way back, %s", tp_shown_rule(text, r));
    if (count > 0)
        tp_findings_add(&w->findings, at, "%" PRIu32 " tensor%s left out", count, count == 1 ? "" : "s");
}

static void add_warnings(struct tp_map_work *w)
{
    for (uint32_t i = 0; i < w->map->rule_count; i++) {
        if (w->rulings[i].is_off)
            continue;
        if (w->map->is_inverse && w->map->rules[i].drop)
            add_lost(w, i);
        else
            add_inexact(w, i);
    }
}

/* ---- the steps ---- */

static enum tp_status keep_sames(struct tp_map_work *w)
{
    struct tp_map_result *result = w->result;
    size_t bytes = result->same_count * sizeof *result->sames;
    result->sames = tp_arena_alloc(&result->arena, bytes);
    if (!result->sames)
        return tp_fail_nomem(w->err);
    if (bytes > 0)
        memcpy(result->sames, w->sames, bytes);
    return TP_OK;
}

static enum tp_status apply(struct tp_map_work *w)
{
    enum tp_status st = tp_rulings_make(w);
    if (!st)
        st = tp_match_sources(w);
    if (!st)
        st = tp_place_constants(w);
    if (!st)
        st = tp_collect_targets(w);
    if (!st)
        tp_check_tree(w);
    if (!st && w->question->expected &&
        !tp_findings_has_error(&w->findings)) /* else targets are missing for other reasons */
        st = tp_compare_expected(w);
    if (!st && w->map->order_by_rules)
        st = tp_order_by_rules(w);
    if (!st)
        st = keep_sames(w);
    if (st)
        return st;
    add_warnings(w);
    return tp_findings_finish(&w->findings, w->result) ? TP_OK : tp_fail_nomem(w->err);
}

enum tp_status tp_map_apply(struct tp_map_result *result, const struct tp_map_question *question, struct tp_error *err)
{
    *result = (struct tp_map_result){.targets = NULL};
    if (question->source_count >= TP_MAP_CONSTANT)
        return tp_fail(err, TP_ERR_LIMIT, "too many tensors for a map");
    struct tp_map_work w = {.question = question,
                            .map = question->map,
                            .scope = {question->map, question->config},
                            .result = result,
                            .findings = {.map = question->map, .arena = &result->arena},
                            .err = err};
    enum tp_status st = apply(&w);
    tp_findings_release(&w.findings);
    tp_arena_release(&w.scratch);
    free(w.placements);
    free(w.sames);
    return st;
}

void tp_map_result_release(struct tp_map_result *result)
{
    tp_arena_release(&result->arena);
    *result = (struct tp_map_result){.targets = NULL};
}
