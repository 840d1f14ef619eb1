/* SPDX-License-Identifier: MIT */
/* One source that meets a rule: the sizes of its axes, and the paths that it goes to. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "map/side.h"
#include "map/work.h"
#include "tensorport/checkpoint.h"

static bool has_failed(struct tp_map_work *w, uint32_t rule)
{
    w->rulings[rule].has_failed = true;
    return false;
}

/* ---- sizes: E05, E06 ---- */

/* One dimension of a source, as its group of axes. */
struct dimension {
    const struct tp_placement *p;
    const struct tp_axes_side *side;
    const struct tp_left_axis *left;
    uint32_t number;
    uint64_t size;
};

/* "n = 64 (num_attention_heads), 2" */
static void show_known(char *dst, size_t cap, const struct dimension *d)
{
    const struct tp_axis_group *g = &d->side->groups[d->number];
    size_t used = 0;
    dst[0] = '\0';
    for (uint32_t a = g->first; a < g->first + g->count && used < cap - 1; a++) {
        const struct tp_left_axis *left = &d->left[a];
        if (!left->is_known || !left->origin)
            continue;
        int n = snprintf(dst + used, cap - used, "%s%.60s = %" PRIu64 " (%.120s)", used ? ", " : ": ",
                         d->side->axes[a].name, left->size, left->origin);
        used += n > 0 ? (size_t)n : 0;
    }
}

/* `expected`: the product of what is known of the group. */
static bool size_fault(struct tp_map_work *w, const struct dimension *d, uint64_t expected, bool is_divisor)
{
    char group[TP_SHOWN_TEXT], known[512], source[TP_SHOWN_TEXT];
    show_known(known, sizeof known, d);
    size_t at = tp_findings_at(&w->findings, "E06", d->p->rule, (uint64_t)d->p->from << 8 | d->number, NULL,
                               "\"%s\" does not fit the source%s", tp_shown_group(group, d->side, d->number), known);
    tp_findings_add(&w->findings, at, "%s: dimension %" PRIu32 " is %" PRIu64 ", expected %s%" PRIu64,
                    tp_shown_source(source, &w->question->sources[d->p->source]), d->number, d->size,
                    is_divisor ? "a multiple of " : "", expected);
    return has_failed(w, d->p->rule);
}

/* Sizes of the axes of one dimension: what is known must fit, one may be found from the shape. */
static bool solve_group(struct tp_map_work *w, const struct dimension *d, uint64_t *sizes)
{
    const struct tp_axis_group *g = &d->side->groups[d->number];
    uint64_t known = 1;
    uint32_t unknown = TP_MAP_NONE;
    for (uint32_t a = g->first; a < g->first + g->count; a++) {
        sizes[a] = d->left[a].size;
        if (!d->left[a].is_known)
            unknown = a;
        else if (TP_MUL_OVERFLOW(known, sizes[a], &known))
            return size_fault(w, d, UINT64_MAX, unknown != TP_MAP_NONE);
    }
    if (unknown == TP_MAP_NONE)
        return known == d->size || size_fault(w, d, known, false);
    if (d->size % known != 0) /* known sizes are at least 1 */
        return size_fault(w, d, known, true);
    sizes[unknown] = d->size / known;
    return true;
}

/* The rows that a piece takes; the source's own first dimension otherwise. */
static bool taken_rows(struct tp_map_work *w, const struct tp_placement *p, uint64_t *rows)
{
    const struct tp_take *take = &w->rulings[p->rule].takes[p->from];
    const struct tp_map_source *s = &w->question->sources[p->source];
    char source[TP_SHOWN_TEXT];
    uint64_t high = take->has_high ? take->high : *rows;
    if (take->low <= high && high <= *rows) {
        *rows = high - take->low;
        return true;
    }
    size_t at =
        tp_findings_at(&w->findings, "E06", p->rule, UINT64_MAX - 1 - p->from, NULL, "\"take\" goes beyond the source");
    tp_findings_add(&w->findings, at, "%s: rows %" PRIu64 ":%" PRIu64, tp_shown_source(source, s), take->low, high);
    return has_failed(w, p->rule);
}

static bool rank_fault(struct tp_map_work *w, const struct tp_placement *p, const struct tp_axes_side *side)
{
    char shown[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E05", p->rule, p->from, NULL,
                               "\"%s\" has %" PRIu32 " dimension%s, the source has not", tp_shown_side(shown, side),
                               side->group_count, side->group_count == 1 ? "" : "s");
    tp_findings_add(&w->findings, at, "%s", tp_shown_source(shown, &w->question->sources[p->source]));
    return has_failed(w, p->rule);
}

bool tp_place_sizes(struct tp_map_work *w, const struct tp_placement *p, uint64_t *sizes)
{
    const struct tp_axes_side *side = &w->map->rules[p->rule].sources[p->from].left;
    const struct tp_map_source *s = &w->question->sources[p->source];
    if (s->rank != side->group_count)
        return rank_fault(w, p, side);
    bool ok = true;
    for (uint32_t i = 0; i < side->group_count && ok; i++) {
        struct dimension d = {p, side, w->rulings[p->rule].left[p->from], i, s->shape[i]};
        ok = (i > 0 || taken_rows(w, p, &d.size)) && solve_group(w, &d, sizes);
    }
    return ok;
}

/* Offsets are computed without checks later on: the whole source stays below 2^60 elements. */
static bool is_countable(struct tp_map_work *w, uint32_t source, uint32_t rule)
{
    const struct tp_map_source *s = &w->question->sources[source];
    uint64_t count = 1;
    bool fits = true, is_empty = false;
    for (unsigned i = 0; i < s->rank; i++) {
        is_empty |= s->shape[i] == 0;
        fits = fits && !TP_MUL_OVERFLOW(count, s->shape[i], &count) && count <= TP_MAP_ELEMS_MAX;
    }
    if (fits || is_empty)
        return true;
    char shown[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E06", rule, UINT64_MAX - 1000, NULL, "more than 2^60 elements");
    tp_findings_add(&w->findings, at, "%s", tp_shown_source(shown, s));
    return rule == TP_MAP_NONE ? false : has_failed(w, rule);
}

/* ---- dtypes: E11 ---- */

bool tp_is_float(unsigned dtype)
{
    return dtype < TP_DTYPE_COUNT && tp_dtype_class((enum tp_dtype)dtype) == TP_CLASS_FLOAT;
}

/* Codes have no elements that could be put elsewhere. */
static bool is_unchanged(const struct tp_rule *rule)
{
    return !rule->has_axes || (rule->source_count == 1 && rule->to_count == 1 && rule->pad_count == 0 &&
                               tp_sides_equal(&rule->sources[0].left, &rule->right) && !rule->sources[0].take_low &&
                               !rule->sources[0].take_high);
}

static bool check_dtype(struct tp_map_work *w, uint32_t source, uint32_t number)
{
    static const struct {
        const char *head, *hint;
    } faults[] = {{"\"mul\" and \"add\" are for float64, float32, float16 and bfloat16", NULL},
                  {"\"dtype\" casts float64, float32, float16 and bfloat16 to one another only", NULL},
                  {"packed codes and quantised groups can only be moved whole", "Decode them with \"decode\"."}};
    const struct tp_map_source *s = &w->question->sources[source];
    const struct tp_rule *rule = &w->map->rules[number];
    struct tp_ruling *ruling = &w->rulings[number];
    bool is_math = ruling->arithmetic.multiplies || ruling->arithmetic.adds;
    bool is_cast = rule->dtype != TP_DTYPE_NONE && rule->dtype != s->dtype;
    unsigned fault = s->is_packed && (is_math || is_cast || !is_unchanged(rule))       ? 2
                     : is_math && !tp_is_float(s->dtype)                               ? 0
                     : is_cast && !(tp_is_float(s->dtype) && tp_is_float(rule->dtype)) ? 1
                                                                                       : 3;
    if (fault == 3)
        return true;
    char shown[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E11", number, fault + 1, faults[fault].hint, "%s", faults[fault].head);
    if (ruling->last_refused != source + 1) /* the pieces of a rule may use one source several times */
        tp_findings_add(&w->findings, at, "%s", tp_shown_source(shown, s));
    ruling->last_refused = source + 1;
    return has_failed(w, number);
}

/* ---- paths ---- */

/* "[7]" as a whole key is 7, the index of a list. */
static bool is_list_index(const char *key, size_t len)
{
    if (len < 3 || len > 9 || key[0] != '[' || key[len - 1] != ']' || (key[1] == '0' && len > 3))
        return false;
    for (size_t i = 1; i < len - 1; i++)
        if (key[i] < '0' || key[i] > '9')
            return false;
    return true;
}

static bool path_fault(struct tp_map_work *w, uint32_t rule, const char *name, size_t len, const char *fault)
{
    char shown[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E10", rule, 1, NULL, "this is no path of a tree");
    tp_findings_add(&w->findings, at, "'%s' %s", tp_shown_name(shown, name, len), fault);
    return false;
}

/* Cut at the separator, in place: '\0' between keys, brackets of lists gone. */
static bool cut_keys(struct tp_map_work *w, struct tp_placement *p, char *name, size_t len)
{
    const char *sep = w->map->sep;
    size_t sep_len = strlen(sep), used = 0;
    char path[TP_NAME_MAX_BYTES + 1];
    for (size_t i = 0, depth = 0; i <= len; depth++) {
        const char *end = sep_len > 0 ? strstr(name + i, sep) : NULL;
        size_t key_len = end ? (size_t)(end - name) - i : len - i;
        bool is_list = sep_len > 0 && is_list_index(name + i, key_len);
        if (key_len == 0)
            return path_fault(w, p->rule, name, len, "has an empty key");
        if (is_list && depth >= 64)
            return path_fault(w, p->rule, name, len, "has a list below 64 levels");
        p->list_levels |= is_list ? UINT64_C(1) << depth : 0;
        if (used > 0)
            path[used++] = '\0';
        memcpy(path + used, name + i + is_list, key_len - 2u * is_list);
        used += key_len - 2u * is_list;
        i += key_len + (end ? sep_len : 1); /* beyond the end where there is no separator */
    }
    char *kept = tp_arena_alloc(&w->scratch, used + 1);
    if (!kept) {
        w->findings.out_of_memory = true;
        return false;
    }
    memcpy(kept, path, used);
    kept[used] = '\0';
    p->path = kept;
    p->path_len = (uint16_t)used;
    return true;
}

static enum tp_status add_placement(struct tp_map_work *w, const struct tp_placement *p)
{
    if (w->placement_count >= TP_MAP_PLACEMENTS_MAX)
        return tp_fail(w->err, TP_ERR_LIMIT, "the map makes more than %u pieces", TP_MAP_PLACEMENTS_MAX);
    if (!tp_array_grow(&w->placements, &w->placement_capacity, w->placement_count + 1, sizeof *w->placements))
        return tp_fail_nomem(w->err);
    w->placements[w->placement_count++] = *p;
    return TP_OK;
}

static enum tp_status fail_long_path(struct tp_map_work *w, const char *pattern)
{
    return tp_fail(w->err, TP_ERR_LIMIT, "the map's path %.400s becomes longer than %u bytes", pattern,
                   TP_NAME_MAX_BYTES);
}

/* One target of the source: number `to` of the rule's. */
static enum tp_status place_at(struct tp_map_work *w, struct tp_placement p, uint32_t to,
                               const struct tp_captured *captured)
{
    const struct tp_rule *rule = &w->map->rules[p.rule];
    char name[TP_NAME_MAX_BYTES + 1];
    size_t len = tp_pattern_format(&rule->to[to], &w->scope, captured, name, sizeof name);
    if (len == SIZE_MAX)
        return fail_long_path(w, rule->to[to].text);
    uint32_t *values = tp_arena_alloc(&w->scratch, rule->capture_count * sizeof *values);
    if (!values)
        return tp_fail_nomem(w->err);
    for (uint32_t i = 0; i < rule->capture_count; i++)
        values[i] = (uint32_t)captured->value[i]; /* below 2^20, and words */
    p.values = values;
    p.to = (uint8_t)to;
    return cut_keys(w, &p, name, len) ? add_placement(w, &p) : TP_OK;
}

/* ---- axes that become targets ---- */

struct unstacking {
    uint8_t capture[TP_MAP_AXES_MAX];
    uint64_t size[TP_MAP_AXES_MAX];
    uint32_t count;
    uint64_t total;
};

static enum tp_status find_unstacked(struct tp_map_work *w, const struct tp_placement *p, const uint64_t *sizes,
                                     struct unstacking *u)
{
    uint32_t axis_count = w->map->rules[p->rule].sources[p->from].left.axis_count;
    const struct tp_left_axis *left = w->rulings[p->rule].left[p->from];
    u->count = 0;
    u->total = 1;
    for (uint32_t a = 0; a < axis_count; a++) {
        if (left[a].role != TP_LEFT_UNSTACK)
            continue;
        u->capture[u->count] = left[a].capture;
        u->size[u->count++] = sizes[a];
        if (TP_MUL_OVERFLOW(u->total, sizes[a], &u->total) || sizes[a] > TP_MAP_UNSTACKED_MAX)
            u->total = UINT64_MAX;
    }
    if (u->count == 0)
        return TP_OK;
    if (u->total > TP_MAP_UNSTACKED_MAX - w->unstacked) {
        char shown[TP_SHOWN_TEXT];
        return tp_fail(w->err, TP_ERR_LIMIT, "%s is taken apart into too many tensors; all together may be %u",
                       tp_shown_source(shown, &w->question->sources[p->source]), TP_MAP_UNSTACKED_MAX);
    }
    w->unstacked += u->total;
    return TP_OK;
}

static enum tp_status place_everywhere(struct tp_map_work *w, const struct tp_placement *p, const struct unstacking *u,
                                       struct tp_captured *captured)
{
    uint32_t to_count = w->map->rules[p->rule].to_count;
    enum tp_status st = TP_OK;
    for (uint64_t n = 0; n < u->total && !st; n++) {
        uint64_t rest = n;
        for (uint32_t i = u->count; i-- > 0; rest /= u->size[i])
            captured->value[u->capture[i]] = rest % u->size[i];
        for (uint32_t to = 0; to < to_count && !st; to++)
            st = place_at(w, *p, to, captured);
    }
    return st;
}

enum tp_status tp_place_source(struct tp_map_work *w, uint32_t source, uint32_t rule, uint32_t from,
                               const struct tp_captured *captured)
{
    struct tp_placement p = {.source = source, .rule = rule, .from = (uint8_t)from};
    struct tp_captured all = *captured;
    struct unstacking u = {.total = 1};
    uint64_t sizes[TP_MAP_AXES_MAX];
    if (!is_countable(w, source, rule) || !check_dtype(w, source, rule))
        return TP_OK;
    if (w->map->rules[rule].has_axes) {
        if (!tp_place_sizes(w, &p, sizes))
            return TP_OK;
        enum tp_status st = find_unstacked(w, &p, sizes, &u);
        if (st)
            return st;
    }
    return place_everywhere(w, &p, &u, &all);
}

/* ---- without a rule ---- */

enum tp_status tp_place_kept(struct tp_map_work *w, uint32_t source)
{
    const struct tp_map_source *s = &w->question->sources[source];
    struct tp_placement p = {.path = s->name, .path_len = s->name_len, .source = source, .rule = TP_MAP_NONE};
    return is_countable(w, source, TP_MAP_NONE) ? add_placement(w, &p) : TP_OK;
}

enum tp_status tp_place_constants(struct tp_map_work *w)
{
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < w->map->const_count && !st; i++) {
        const struct tp_name_pattern *to = &w->map->constants[i].to;
        if (!tp_takes_part(w, w->map->constants[i].only_if))
            continue;
        struct tp_placement p = {.source = i, .rule = TP_MAP_CONSTANT};
        struct tp_captured none = {{0}};
        char name[TP_NAME_MAX_BYTES + 1];
        size_t len = tp_pattern_format(to, &w->scope, &none, name, sizeof name);
        if (len == SIZE_MAX)
            return fail_long_path(w, to->text);
        if (cut_keys(w, &p, name, len))
            st = add_placement(w, &p);
    }
    return st;
}
