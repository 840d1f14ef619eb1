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

/* A tensor may only be left out for another one that is written. */
static enum tp_status check_sames(struct tp_map_work *w)
{
    struct tp_map_result *result = w->result;
    bool *is_written = calloc(w->question->source_count + 1, sizeof *is_written);
    if (!is_written)
        return tp_fail_nomem(w->err);
    for (size_t i = 0; i < result->target_count; i++)
        for (uint32_t k = 0; k < result->targets[i].piece_count; k++)
            is_written[result->targets[i].pieces[k].source] = true;
    for (size_t i = 0; i < result->same_count; i++) {
        const struct tp_map_same *same = &w->sames[i];
        char source[TP_SHOWN_TEXT], other[TP_SHOWN_TEXT];
        if (is_written[same->other])
            continue;
        size_t at =
            tp_findings_at(&w->findings, "E13", same->rule, 0, NULL, "\"same_as\" a tensor that is not written itself");
        tp_findings_add(&w->findings, at, "%s and %s", tp_shown_source(source, &w->question->sources[same->source]),
                        tp_shown_source(other, &w->question->sources[same->other]));
    }
    free(is_written);
    return TP_OK;
}

static uint64_t volume_of(const struct tp_map_source *source)
{
    uint64_t volume = 1;
    for (unsigned i = 0; i < source->rank; i++)
        volume *= source->shape[i];
    return volume;
}

static uint64_t elements_of(const struct tp_map_piece *piece)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < piece->axis_count; i++)
        count *= piece->axes[i].count;
    return count;
}

/* W04: of a source that goes somewhere, a part that goes nowhere. */
static enum tp_status check_whole(struct tp_map_work *w)
{
    const struct tp_map_result *result = w->result;
    uint64_t *moved = calloc(w->question->source_count + 1, sizeof *moved);
    if (!moved)
        return tp_fail_nomem(w->err);
    for (size_t i = 0; i < result->target_count; i++)
        for (uint32_t k = 0; k < result->targets[i].piece_count; k++)
            moved[result->targets[i].pieces[k].source] += elements_of(&result->targets[i].pieces[k]);
    for (size_t i = 0; i < w->question->source_count; i++) {
        const struct tp_map_source *source = &w->question->sources[i];
        char shown[TP_SHOWN_TEXT];
        if (moved[i] == 0 || moved[i] >= volume_of(source))
            continue;
        size_t at = tp_findings_at(&w->findings, "W04", TP_MAP_NONE, 0, NULL, "a part goes nowhere");
        tp_findings_add(&w->findings, at, "%" PRIu64 " elements of %s", volume_of(source) - moved[i],
                        tp_shown_source(shown, source));
    }
    free(moved);
    return TP_OK;
}

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

/* From here on targets are arrays. */
static enum tp_status part_nones(struct tp_map_work *w)
{
    struct tp_map_result *r = w->result;
    size_t kept = 0;
    r->nones = tp_arena_alloc(&r->arena, (w->map->const_count + 1) * sizeof *r->nones);
    if (!r->nones)
        return tp_fail_nomem(w->err);
    for (size_t i = 0; i < r->target_count; i++)
        if (r->targets[i].is_none)
            r->nones[r->none_count++] = r->targets[i];
        else
            r->targets[kept++] = r->targets[i];
    r->target_count = kept;
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
    if (!st && !w->map->is_inverse)
        st = tp_check_complete(w);
    if (!st) {
        tp_check_tree(w);
        st = part_nones(w);
    }
    if (!st && w->question->expected &&
        !tp_findings_has_error(&w->findings)) /* else targets are missing for other reasons */
        st = tp_compare_expected(w);
    if (!st && w->map->order_by_rules)
        st = tp_order_by_rules(w);
    if (!st && !tp_findings_has_error(&w->findings)) /* else targets are missing for other reasons */
        st = check_sames(w);
    if (!st && !w->map->is_inverse && !tp_findings_has_error(&w->findings))
        st = check_whole(w);
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
