/* SPDX-License-Identifier: MIT */
#include "apply.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "map/rule.h"

#define SOURCES_MAX 96u
#define RANK_MAX 8u
#define ELEMS_MAX 4096u /* of a target that is looked at element by element */

/* Sources in the making. */
struct sources {
    struct tp_map_source items[SOURCES_MAX];
    char names[SOURCES_MAX][256];
    uint64_t shapes[SOURCES_MAX][RANK_MAX];
    size_t count;
};

/* ---- sources that rules describe ---- */

static uint64_t axis_size(const struct tp_named_axis *axis, const struct tp_expr_scope *scope)
{
    uint64_t size = axis->size;
    for (uint32_t i = 0; i < scope->map->dim_count && size == 0; i++)
        if (strcmp(scope->map->dims[i].name, axis->name) == 0 &&
            !tp_expr_evaluate_whole(&size, scope->map->dims[i].size, scope, 1, NULL))
            size = 0;
    return size ? size : 2 + (uint64_t)(unsigned char)axis->name[0] % 3;
}

static bool is_known(const struct sources *s, const char *name, size_t len)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].name_len == len && memcmp(s->items[i].name, name, len) == 0)
            return true;
    return false;
}

static void add_source(struct sources *s, const struct tp_rule_source *source, const struct tp_expr_scope *scope,
                       const struct tp_captured *captured)
{
    const struct tp_axes_side *left = &source->left;
    char *name = s->names[s->count];
    size_t len = tp_pattern_format(&source->from, scope, captured, name, sizeof s->names[0]);
    if (len == SIZE_MAX || len == 0 || left->group_count > RANK_MAX || is_known(s, name, len))
        return;
    uint64_t *shape = s->shapes[s->count];
    for (uint32_t g = 0; g < left->group_count; g++) {
        shape[g] = 1;
        for (uint32_t i = 0; i < left->groups[g].count; i++)
            shape[g] *= axis_size(&left->axes[left->groups[g].first + i], scope) & 0xffff;
    }
    s->items[s->count++] = (struct tp_map_source){.name = name,
                                                  .file = "model.safetensors",
                                                  .shape = shape,
                                                  .name_len = (uint16_t)len,
                                                  .rank = (uint8_t)left->group_count,
                                                  .dtype = TP_BF16};
}

/* For each pattern the names of the first few numbers, or words. */
static void add_sources(struct sources *s, const struct tp_rule *rule, const struct tp_expr_scope *scope)
{
    for (uint32_t i = 0; i < rule->source_count; i++)
        for (uint64_t first = 0; first < 3; first++)
            for (uint64_t rest = 0; rest < 2 && s->count < SOURCES_MAX; rest++) {
                struct tp_captured captured;
                for (uint32_t c = 0; c < TP_MAP_CAPTURES_MAX; c++)
                    captured.value[c] = c == 0 ? first : rest;
                if (tp_pattern_check(&rule->sources[i].from, scope, NULL))
                    add_source(s, &rule->sources[i], scope, &captured);
            }
}

/* ---- what the result promises ---- */

static uint64_t volume_of(const uint64_t *shape, unsigned rank)
{
    uint64_t volume = 1;
    for (unsigned i = 0; i < rank; i++)
        volume *= shape[i];
    return volume;
}

/* Every element of a piece, by counting through its loops: where it comes from is in the source, where it goes is in
 * the target, and nothing else goes there. */
static uint64_t walk_piece(const struct tp_map_piece *piece, uint64_t source_volume, uint64_t volume, uint8_t *taken)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < piece->axis_count; i++)
        count *= piece->axes[i].count;
    FUZZ_CHECK(count <= volume);
    for (uint64_t n = 0; n < count; n++) {
        uint64_t rest = n, from = piece->src_first, to = piece->dst_first;
        for (uint32_t i = piece->axis_count; i-- > 0; rest /= piece->axes[i].count) {
            from += rest % piece->axes[i].count * piece->axes[i].src_stride;
            to += rest % piece->axes[i].count * piece->axes[i].dst_stride;
        }
        FUZZ_CHECK(from < source_volume && to < volume && !taken[to]);
        taken[to] = 1;
    }
    return count;
}

static void check_target(const struct tp_map_target *t, const struct tp_map_source *sources, size_t source_count)
{
    static uint8_t taken[ELEMS_MAX];
    uint64_t volume = volume_of(t->shape, t->rank), covered = 0;
    FUZZ_CHECK(t->path_len > 0 && t->path[t->path_len] == '\0');
    FUZZ_CHECK(t->is_constant == (t->piece_count == 0));
    for (uint32_t i = 0; i < t->piece_count; i++) {
        FUZZ_CHECK(t->pieces[i].source < source_count);
        FUZZ_CHECK(i == 0 || t->pieces[i].dst_first >= t->pieces[i - 1].dst_first);
    }
    if (volume > ELEMS_MAX || t->is_constant)
        return;
    memset(taken, 0, sizeof taken);
    for (uint32_t i = 0; i < t->piece_count; i++) {
        const struct tp_map_source *s = &sources[t->pieces[i].source];
        covered += walk_piece(&t->pieces[i], volume_of(s->shape, s->rank), volume, taken);
    }
    FUZZ_CHECK(covered == volume || t->has_holes);
}

static void check_findings(const struct tp_map_finding *findings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        FUZZ_CHECK(strlen(findings[i].code) == 3 && findings[i].text[0]);
        fuzz_check_printable(findings[i].text, true);
    }
}

/* False: it does not fit, or there was more than is made. */
static bool apply(struct tp_map_result *result, const struct tp_map *map, const struct tp_config_numbers *config,
                  const struct tp_map_source *sources, size_t count)
{
    struct tp_error err = {.code = TP_OK};
    struct tp_map_question question = {
        .map = map, .config = config, .sources = sources, .source_count = count, .precision = TP_DTYPE_NONE};
    enum tp_status status = tp_map_apply(result, &question, &err);
    if (status) {
        FUZZ_CHECK(status == TP_ERR_LIMIT);
        fuzz_check_error(status, &err);
        return false;
    }
    check_findings(result->errors, result->error_count);
    check_findings(result->warnings, result->warning_count);
    for (size_t i = 0; i < result->target_count && result->error_count == 0; i++)
        check_target(&result->targets[i], sources, count);
    return result->error_count == 0;
}

/* What came out, under the names that a reader gives. */
static void apply_back(const struct tp_map *map, const struct tp_config_numbers *config,
                       const struct tp_map_result *there)
{
    struct tp_map *inverse = NULL;
    struct tp_map_result back = {.target_count = 0};
    struct tp_error err = {.code = TP_OK};
    FUZZ_CHECK(tp_map_invert(&inverse, map, &err) == TP_OK);
    struct tp_map_source *sources = calloc(there->target_count + 1, sizeof *sources);
    char **names = calloc(there->target_count + 1, sizeof *names);
    FUZZ_CHECK(sources && names);
    for (size_t i = 0; i < there->target_count; i++) {
        const struct tp_map_target *t = &there->targets[i];
        FUZZ_CHECK((names[i] = malloc(t->path_len + 1u)) != NULL);
        memcpy(names[i], t->path, t->path_len + 1u);
        for (size_t k = 0; k < t->path_len; k++)
            names[i][k] = names[i][k] ? names[i][k] : '.';
        sources[i] = (struct tp_map_source){.name = names[i],
                                            .name_len = t->path_len,
                                            .file = "",
                                            .shape = t->shape,
                                            .rank = t->rank,
                                            .dtype = TP_BF16};
    }
    (void)apply(&back, inverse, config, sources, there->target_count);
    for (size_t i = 0; i < there->target_count; i++)
        free(names[i]);
    free(names);
    free(sources);
    tp_map_result_release(&back);
    tp_map_release(inverse);
}

void fuzz_apply_map(const struct tp_map *map, const struct tp_config_numbers *config)
{
    static struct sources s;
    struct tp_expr_scope scope = {map, config};
    struct tp_map_result there = {.target_count = 0};
    s.count = 0;
    for (uint32_t i = 0; i < map->rule_count && s.count < SOURCES_MAX; i++)
        add_sources(&s, &map->rules[i], &scope);
    if (apply(&there, map, config, s.items, s.count))
        apply_back(map, config, &there);
    tp_map_result_release(&there);
}
