/* SPDX-License-Identifier: MIT */
/* What a map makes of a checkpoint, to be looked at: the rows of `tensorport map check` and `explain`. */
#include "job/mapping.h"

#include "job/sames.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/tree_file.h"
#include "plan/plan.h"

/* ---- making ---- */

/* Weights that cannot be decoded because parts of them are missing are a fault of the checkpoint, like any other that a
 * map finds. */
static void refuse(struct tp_mapping *m, const char *code, const struct tp_error *why)
{
    m->refused_code = code;
    snprintf(m->refused, sizeof m->refused, "%s%s%s", why->tensor, *why->tensor ? ": " : "", why->message);
}

/* The one thing that values tell: what is left out for being the same as something. */
static enum tp_status check_sames(struct tp_mapping *m, struct tp_error *err)
{
    const struct tp_map_result *r = &m->mapped.result;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < r->same_count && r->error_count == 0 && !m->refused_code && !st; i++) {
        struct tp_error why = {.code = TP_OK};
        struct tp_same same = {r->sames[i].source, r->sames[i].other};
        st = tp_sames_check(m->logicals, &same, 1, m->ck, &why);
        if (st == TP_ERR_FORMAT) {
            refuse(m, "E13", &why);
            st = TP_OK;
        } else if (st && err) {
            *err = why;
        }
    }
    return st;
}

static enum tp_status list_sources(struct tp_mapping *m, const struct tp_convert_options *options, struct tp_error *err)
{
    struct tp_error why = {.code = TP_OK};
    enum tp_status st = tp_logicals_build(&m->logicals, &m->logical_count, &m->arena, &m->notes, m->ck, options, &why);
    if (st == TP_ERR_FORMAT) {
        refuse(m, "E12", &why);
        return TP_OK;
    }
    if (st && err)
        *err = why;
    return st;
}

static enum tp_status make(struct tp_mapping *m, const struct tp_mapping_options *wish, struct tp_error *err)
{
    struct tp_convert_options options = {.map = m->map, .reverse = wish->reverse, .precision = TP_PRECISION_KEEP};
    enum tp_status st = tp_convert_options_take_map(&options, 0, err);
    options = tp_mapped_options(&options, m->ck);
    if (!st && wish->against)
        st = tp_tree_file_read(&m->expected, &m->expected_count, &m->arena, wish->against, err);
    if (!st)
        st = list_sources(m, &options, err);
    if (!st && !m->refused_code)
        st = tp_mapped_make(&m->mapped, m->ck, m->logicals, m->logical_count, &options, m->expected, m->expected_count,
                            err);
    if (!st)
        st = check_sames(m, err);
    m->applied = wish->reverse ? m->mapped.inverse : m->map;
    return st;
}

enum tp_status tp_mapping_make(struct tp_mapping **out, const struct tp_map *map, const struct tp_checkpoint *ck,
                               const struct tp_mapping_options *options, struct tp_error *err)
{
    struct tp_mapping *m = calloc(1, sizeof *m);
    if (!m)
        return tp_fail_nomem(err);
    m->map = map;
    m->ck = ck;
    enum tp_status st = make(m, options ? options : &(struct tp_mapping_options){.reverse = false}, err);
    if (st) {
        tp_mapping_free(m);
        return st;
    }
    *out = m;
    return TP_OK;
}

void tp_mapping_free(struct tp_mapping *m)
{
    if (!m)
        return;
    tp_mapped_release(&m->mapped);
    free(m->logicals);
    free(m->expected);
    tp_list_release(&m->notes);
    tp_arena_release(&m->arena);
    free(m);
}

/* ---- findings ---- */

uint32_t tp_mapping_finding_count(const struct tp_mapping *m)
{
    return (m->refused_code ? 1u : 0u) + (uint32_t)m->mapped.result.error_count +
           (uint32_t)m->mapped.result.warning_count;
}

void tp_mapping_finding_at(const struct tp_mapping *m, uint32_t index, struct tp_mapping_finding *out)
{
    const struct tp_map_result *r = &m->mapped.result;
    if (m->refused_code && index-- == 0) {
        *out = (struct tp_mapping_finding){m->refused_code, m->refused, true};
        return;
    }
    bool is_error = index < r->error_count;
    const struct tp_map_finding *f = is_error ? &r->errors[index] : &r->warnings[index - r->error_count];
    *out = (struct tp_mapping_finding){f->code, f->text, is_error};
}

/* ---- targets ---- */

uint32_t tp_mapping_target_count(const struct tp_mapping *m)
{
    return m->mapped.result.error_count || m->refused_code ? 0 : (uint32_t)m->mapped.result.target_count;
}

/* An inverse's rules are those of the map, less some: the place of the same one. */
static uint32_t given_rule(const struct tp_mapping *m, uint32_t rule)
{
    if (m->applied == m->map || rule == TP_MAP_NONE)
        return rule;
    const struct tp_rule *r = &m->applied->rules[rule];
    for (uint32_t i = 0; i < m->map->rule_count; i++)
        if (m->map->rules[i].line == r->line && strcmp(m->map->rules[i].text, r->text) == 0)
            return i;
    return TP_MAP_NONE;
}

static enum tp_dtype source_dtype(const struct tp_mapping *m, uint32_t source)
{
    const struct tp_logical *l = &m->logicals[source];
    return l->decoded ? tp_model_dtype(m->ck) : (enum tp_dtype)l->dtype;
}

static enum tp_dtype target_dtype(const struct tp_mapping *m, const struct tp_map_target *t)
{
    if (t->dtype != TP_DTYPE_NONE || t->piece_count == 0)
        return (enum tp_dtype)t->dtype;
    return source_dtype(m, t->pieces[0].source);
}

static uint64_t size_of(const uint64_t *shape, unsigned rank, enum tp_dtype dtype)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < rank; i++)
        count *= shape[i];
    return tp_dtype_bits(dtype) < 8 ? (count * tp_dtype_bits(dtype) + 7) / 8 : count * (tp_dtype_bits(dtype) / 8);
}

void tp_mapping_target_at(struct tp_mapping *m, uint32_t index, struct tp_mapping_target *out)
{
    const struct tp_map_target *t = &m->mapped.result.targets[index];
    enum tp_dtype dtype = target_dtype(m, t);
    tp_path_join_keys(m->path, t->path, t->path_len, '/');
    *out = (struct tp_mapping_target){.path = m->path,
                                      .shape = t->shape,
                                      .rank = t->rank,
                                      .dtype = dtype,
                                      .rule = t->is_constant ? TP_MAP_NONE : given_rule(m, t->rule),
                                      .source_count = t->piece_count,
                                      .size_bytes = size_of(t->shape, t->rank, dtype)};
}

/* ---- sources ---- */

bool tp_mapping_match(const struct tp_mapping *m, const struct tp_map_piece *piece, uint32_t *source,
                      struct tp_captured *captured)
{
    const struct tp_map_source *s = &m->mapped.sources[piece->source];
    if (piece->rule == TP_MAP_NONE)
        return false;
    const struct tp_rule *rule = &m->applied->rules[piece->rule];
    const struct tp_expr_scope scope = {m->applied, m->mapped.config};
    for (*source = 0; *source < rule->source_count; (*source)++)
        if (tp_pattern_match(&rule->sources[*source].from, &scope, s->name, s->name_len, captured))
            return true;
    return false;
}

static size_t append(char *dst, size_t cap, size_t used, const char *name, uint64_t value)
{
    int len = snprintf(dst + used, cap - used, "%s%s = %" PRIu64, used ? ", " : "", name, value);
    return len > 0 && (size_t)len < cap - used ? used + (size_t)len : used;
}

/* "l = 3": of the stack axes, which index this source is. */
static void describe_slot(struct tp_mapping *m, const struct tp_map_piece *piece)
{
    struct tp_captured captured = {.value = {0}};
    uint32_t source;
    size_t used = 0;
    *m->slot = '\0';
    if (!tp_mapping_match(m, piece, &source, &captured))
        return;
    const struct tp_rule *rule = &m->applied->rules[piece->rule];
    for (uint32_t i = 0; i < rule->right.axis_count; i++) {
        const struct tp_named_axis *axis = &rule->right.axes[i];
        if (rule->stack && strcmp(axis->name, rule->stack) == 0)
            used = append(m->slot, sizeof m->slot, used, axis->name, source);
        else if (axis->capture != TP_MAP_NONE && !rule->captures[axis->capture].in_to)
            used = append(m->slot, sizeof m->slot, used, axis->name, captured.value[axis->capture]);
    }
}

void tp_mapping_source_at(struct tp_mapping *m, uint32_t target, uint32_t index, struct tp_mapping_source *out)
{
    const struct tp_map_piece *piece = &m->mapped.result.targets[target].pieces[index];
    const struct tp_map_source *s = &m->mapped.sources[piece->source];
    describe_slot(m, piece);
    *out = (struct tp_mapping_source){
        .name = s->name, .shape = s->shape, .rank = s->rank, .dtype = source_dtype(m, piece->source), .slot = m->slot};
}

/* What a word capture's number stands for in the pattern that was matched. */
static const char *word_of(const struct tp_name_pattern *pattern, uint32_t capture, uint64_t value)
{
    for (uint32_t i = 0; i < pattern->count; i++)
        if (pattern->tokens[i].kind == TP_TOKEN_WORD && pattern->tokens[i].capture == capture)
            return pattern->tokens[i].words.items[value];
    return "";
}

static void describe_captures(struct tp_mapping *m, const struct tp_map_piece *piece)
{
    struct tp_captured captured = {.value = {0}};
    uint32_t source;
    size_t used = 0;
    *m->captures = '\0';
    if (!tp_mapping_match(m, piece, &source, &captured))
        return;
    const struct tp_rule *rule = &m->applied->rules[piece->rule];
    for (uint32_t i = 0; i < rule->capture_count; i++) {
        const struct tp_capture *c = &rule->captures[i];
        char *end = m->captures + used;
        size_t room = sizeof m->captures - used;
        if (!c->in_from)
            continue;
        if (!c->is_word) {
            used = append(m->captures, sizeof m->captures, used, c->name, captured.value[i]);
            continue;
        }
        int len = snprintf(end, room, "%s%s = %s", used ? ", " : "", c->name,
                           word_of(&rule->sources[source].from, i, captured.value[i]));
        used += len > 0 && (size_t)len < room ? (size_t)len : 0;
    }
}

void tp_mapping_way_at(struct tp_mapping *m, uint32_t target, uint32_t index, struct tp_mapping_way *out)
{
    const struct tp_map_target *t = &m->mapped.result.targets[target];
    const struct tp_map_piece *piece = &t->pieces[index];
    describe_captures(m, piece);
    uint32_t loops = tp_mapping_loops(m, t, piece);
    *out = (struct tp_mapping_way){.captures = m->captures,
                                   .loops = m->loops,
                                   .loop_count = loops,
                                   .source_first = piece->src_first,
                                   .target_first = piece->dst_first,
                                   .multiplies = t->arithmetic.multiplies,
                                   .adds = t->arithmetic.adds,
                                   .factor = t->arithmetic.factor,
                                   .addend = t->arithmetic.addend};
}

/* ---- dropped ---- */

uint32_t tp_mapping_dropped_count(const struct tp_mapping *m)
{
    return (uint32_t)(m->mapped.result.dropped_count + m->mapped.result.same_count);
}

const char *tp_mapping_dropped(const struct tp_mapping *m, uint32_t index)
{
    const struct tp_map_result *r = &m->mapped.result;
    return m->mapped.sources[index < r->dropped_count ? r->dropped[index] : r->sames[index - r->dropped_count].source]
        .name;
}
