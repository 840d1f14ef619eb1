/* SPDX-License-Identifier: MIT */
/* The way back. A rule's sides change places; what stacks takes apart, what splits joins. Each rule of the map has one
 * at the same number in the inverse, so that messages name the rule that somebody wrote; a rule without a way back
 * becomes one that drops its targets. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/side.h"

struct inverting {
    const struct tp_map *map;
    struct tp_map *inverse;
    struct tp_error *err;
};

static void *take(struct inverting *v, size_t count, size_t size)
{
    void *rows = tp_arena_alloc(&v->inverse->arena, count * size);
    if (rows)
        memset(rows, 0, count * size);
    return rows;
}

/* ---- names: a path's keys are joined by '.', an index of a list stands bare ---- */

/* A byte of a literal, or a whole token. */
struct element {
    const struct tp_token *token;
    char c;
};

struct element_list {
    struct element *items;
    size_t count;
};

/* Literal text with '.' where the separator was. */
static const char *join_keys(struct inverting *v, const char *text)
{
    const char *sep = v->map->sep, *found;
    size_t sep_len = strlen(sep), len = 0;
    char *joined = tp_arena_strndup(&v->inverse->arena, text, strlen(text));
    if (!joined || sep_len == 0)
        return joined;
    for (; (found = strstr(text, sep)); text = found + sep_len) {
        memcpy(joined + len, text, (size_t)(found - text));
        len += (size_t)(found - text);
        joined[len++] = '.';
    }
    memcpy(joined + len, text, strlen(text) + 1);
    return joined;
}

static bool starts_with(const struct element_list *list, size_t at, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at + i >= list->count || list->items[at + i].token || list->items[at + i].c != text[i])
            return false;
    return true;
}

static bool is_digit(const struct element *e)
{
    return !e->token && e->c >= '0' && e->c <= '9';
}

/* "[{l}]" or "[7]" as a whole key. */
static bool is_list_key(const struct element_list *list, size_t begin, size_t end)
{
    if (end - begin < 3 || !starts_with(list, begin, "[", 1) || !starts_with(list, end - 1, "]", 1))
        return false;
    const struct tp_token *only = end - begin == 3 ? list->items[begin + 1].token : NULL;
    if (only)
        return only->kind == TP_TOKEN_INDEX || only->kind == TP_TOKEN_SPLIT;
    for (size_t i = begin + 1; i < end - 1; i++)
        if (!is_digit(&list->items[i]))
            return false;
    return end - begin <= 9 && (end - begin == 3 || list->items[begin + 1].c != '0');
}

static bool spell(struct inverting *v, const struct tp_name_pattern *p, struct element_list *list)
{
    size_t count = 0;
    for (uint32_t i = 0; i < p->count; i++)
        count += p->tokens[i].kind == TP_TOKEN_LITERAL ? p->tokens[i].text_len : 1;
    list->items = take(v, count, sizeof *list->items);
    for (uint32_t i = 0; i < p->count && list->items; i++) {
        const struct tp_token *t = &p->tokens[i];
        if (t->kind != TP_TOKEN_LITERAL)
            list->items[list->count++] = (struct element){t, 0};
        for (uint32_t k = 0; t->kind == TP_TOKEN_LITERAL && k < t->text_len; k++)
            list->items[list->count++] = (struct element){NULL, t->text[k]};
    }
    return list->items != NULL;
}

/* Keys without their brackets, '.' between them. Nothing becomes longer, so this is done in place. */
static void rewrite_keys(struct element_list *list, const char *sep)
{
    size_t sep_len = strlen(sep), used = 0;
    for (size_t begin = 0; sep_len > 0 && begin <= list->count;) {
        size_t end = begin;
        while (end < list->count && !starts_with(list, end, sep, sep_len))
            end++;
        size_t bracket = is_list_key(list, begin, end), next = end < list->count ? end + sep_len : end + 1;
        for (size_t i = begin + bracket; i < end - bracket; i++)
            list->items[used++] = list->items[i];
        if (end < list->count)
            list->items[used++] = (struct element){NULL, '.'};
        begin = next;
    }
    list->count = sep_len > 0 ? used : list->count;
}

/* What a capture's value was bounded by where the map reads it: else two rules could claim one name on the way back. */
static const struct tp_expr *limit_of(const struct tp_rule *rule, uint32_t capture)
{
    for (uint32_t i = 0; i < rule->source_count; i++) {
        for (uint32_t k = 0; k < rule->sources[i].from.count; k++) {
            const struct tp_token *t = &rule->sources[i].from.tokens[k];
            if (t->kind == TP_TOKEN_INDEX && t->capture == capture && t->limit)
                return t->limit;
            if (t->kind == TP_TOKEN_SPLIT && t->second == capture)
                return t->factor;
        }
    }
    return NULL;
}

static bool join_words(struct inverting *v, struct tp_words *words)
{
    const char **items = take(v, words->count, sizeof *items);
    for (uint32_t i = 0; i < words->count && items; i++) {
        items[i] = join_keys(v, words->items[i]);
        if (!items[i])
            return false;
    }
    words->items = items;
    return items != NULL;
}

/* Tokens of what is spelled out. */
static bool tokenise(struct inverting *v, const struct tp_rule *rule, const struct element_list *list,
                     struct tp_name_pattern *out)
{
    struct tp_token *tokens = take(v, list->count, sizeof *tokens);
    char *text = take(v, list->count, 1);
    bool ok = tokens && text;
    uint32_t count = 0;
    for (size_t i = 0; i < list->count && ok; i++) {
        const struct element *e = &list->items[i];
        struct tp_token *last = count > 0 ? &tokens[count - 1] : NULL;
        text[i] = e->c;
        if (!e->token && last && last->kind == TP_TOKEN_LITERAL) {
            last->text_len++;
        } else if (!e->token) {
            tokens[count++] = (struct tp_token){.kind = TP_TOKEN_LITERAL, .text = text + i, .text_len = 1};
        } else {
            tokens[count] = *e->token;
            if (e->token->kind == TP_TOKEN_WORD)
                ok = join_words(v, &tokens[count].words);
            else if (e->token->kind == TP_TOKEN_INDEX && !e->token->limit)
                tokens[count].limit = limit_of(rule, e->token->capture);
            count++;
        }
    }
    out->tokens = tokens;
    out->count = count;
    return ok;
}

/* A target's name as our readers give it. */
static bool read_back(struct inverting *v, const struct tp_rule *rule, const struct tp_name_pattern *to,
                      struct tp_name_pattern *from)
{
    struct element_list list = {0};
    from->text = to->text;
    if (!spell(v, to, &list))
        return false;
    rewrite_keys(&list, v->map->sep);
    return tokenise(v, rule, &list, from);
}

/* A source's name, to be written: optional text is there. */
static bool write_back(struct inverting *v, const struct tp_name_pattern *from, struct tp_name_pattern *to)
{
    struct tp_token *tokens = take(v, from->count, sizeof *tokens);
    for (uint32_t i = 0; i < from->count && tokens; i++) {
        tokens[i] = from->tokens[i];
        if (tokens[i].kind == TP_TOKEN_OPTIONAL)
            tokens[i].kind = TP_TOKEN_LITERAL;
    }
    *to = (struct tp_name_pattern){tokens, from->count, from->text};
    return tokens != NULL;
}

/* ---- rules ---- */

/* Every capture of `from` must be found again: in `to`, or as the index of a stack. */
static bool keeps_captures(const struct tp_rule *rule)
{
    for (uint32_t i = 0; i < rule->capture_count; i++) {
        const struct tp_capture *c = &rule->captures[i];
        if (c->in_from && !c->in_to && (c->is_word || tp_axes_find(&rule->right, c->name) == TP_MAP_NONE))
            return false;
    }
    return true;
}

/* Copies of what another rule brings back, and what was taken away on purpose. */
static bool is_needless(const struct tp_rule *rule)
{
    return rule->drop || rule->same_as || rule->also || rule->if_missing;
}

/* How long the parts of `cat` are says "dims", or nothing does. */
static const struct tp_expr *part_size(const struct tp_map *map, const struct tp_rule *rule)
{
    for (uint32_t i = 0; i < map->dim_count; i++)
        if (strcmp(map->dims[i].name, rule->cat) == 0)
            return map->dims[i].size;
    return NULL;
}

/* An axis of each source that is one of each target. */
static bool stays_whole(const struct tp_rule *rule, const char *axis)
{
    return tp_axes_find(&rule->sources[0].left, axis) != TP_MAP_NONE &&
           !(rule->split && strcmp(rule->split, axis) == 0) && !(rule->cat && strcmp(rule->cat, axis) == 0);
}

/* NULL, or why the rule cannot be gone back. */
static const char *why_not_back(const struct tp_map *map, const struct tp_rule *rule)
{
    if (!keeps_captures(rule))
        return "\"to\" and the stacked axes do not tell all captures of \"from\"";
    for (uint32_t i = 0; i < rule->source_count; i++) {
        const struct tp_rule_source *s = &rule->sources[i];
        if (s->take_low || s->take_high)
            return "\"take\" uses some rows of a source only";
        if (!tp_sides_equal(&s->left, &rule->sources[0].left))
            return "each of \"pieces\" has axes of its own";
    }
    if (rule->cat && rule->source_count > 1 && !part_size(map, rule))
        return "the sizes of the parts of the \"cat\" axis are not known; where they are the same, name it in \"dims\"";
    for (uint32_t i = 0; i < rule->pad_count; i++)
        if (!stays_whole(rule, rule->pads[i].axis))
            return "an axis is padded that is stacked, split or joined";
    return NULL;
}

static bool swap_axes(struct inverting *v, const struct tp_rule *rule, struct tp_rule *back)
{
    back->right = rule->sources[0].left;
    back->split = rule->stack;
    if (rule->split_sizes) {
        back->cat = rule->split;
        back->cat_sizes = rule->split_sizes;
    } else {
        back->stack = rule->split;
    }
    if (!rule->cat || rule->source_count == 1)
        return true;
    const struct tp_expr **sizes = take(v, rule->source_count, sizeof *sizes);
    for (uint32_t i = 0; i < rule->source_count && sizes; i++)
        sizes[i] = part_size(v->map, rule);
    back->split = rule->cat;
    back->split_sizes = sizes;
    return sizes != NULL;
}

/* Targets as sources, with the target's side on the left where there is a way back. */
static bool swap_sources(struct inverting *v, const struct tp_rule *rule, struct tp_rule *back)
{
    struct tp_rule_source *sources = take(v, rule->to_count, sizeof *sources);
    back->sources = sources;
    back->source_count = rule->to_count;
    for (uint32_t i = 0; i < rule->to_count && sources; i++) {
        if (!read_back(v, rule, &rule->to[i], &sources[i].from))
            return false;
        if (!back->drop)
            sources[i].left = rule->right;
    }
    return sources != NULL;
}

static bool swap_targets(struct inverting *v, const struct tp_rule *rule, struct tp_rule *back)
{
    struct tp_name_pattern *to = take(v, rule->source_count, sizeof *to);
    back->to = to;
    back->to_count = rule->source_count;
    for (uint32_t i = 0; i < rule->source_count && to; i++)
        if (!write_back(v, &rule->sources[i].from, &to[i]))
            return false;
    return to != NULL;
}

static bool invert_rule(struct inverting *v, const struct tp_rule *rule, struct tp_rule *back)
{
    *back = *rule;
    back->inverts = true;
    back->also = false;
    back->if_missing = back->same_as = NULL;
    back->split = back->stack = back->cat = NULL;
    back->split_sizes = NULL;
    back->dtype = TP_DTYPE_NONE;
    back->to = NULL;
    back->to_count = 0;
    back->no_way_back = is_needless(rule) ? NULL : why_not_back(v->map, rule);
    back->drop = is_needless(rule) || back->no_way_back;
    for (uint32_t i = 0; i < rule->capture_count; i++) {
        back->captures[i].in_from = rule->captures[i].in_to;
        back->captures[i].in_to = rule->captures[i].in_from;
    }
    if (!swap_sources(v, rule, back))
        return false;
    if (back->drop) { /* nothing of it counts */
        back->has_axes = false;
        back->right = (struct tp_axes_side){0};
        back->mul = back->add = NULL;
        back->pad_count = 0;
        return true;
    }
    return swap_axes(v, rule, back) && swap_targets(v, rule, back);
}

/* Constants are not of the source: they are dropped, which is no loss. */
static bool invert_constant(struct inverting *v, const struct tp_rule_const *c, struct tp_rule *back)
{
    const struct tp_rule none = {0};
    struct tp_rule_source *source = take(v, 1, sizeof *source);
    *back =
        (struct tp_rule){.sources = source, .source_count = 1, .drop = true, .dtype = TP_DTYPE_NONE, .text = "const"};
    return source && read_back(v, &none, &c->to, &source->from);
}

static bool invert_all(struct inverting *v)
{
    const struct tp_map *map = v->map;
    struct tp_rule *rules = take(v, map->rule_count + map->const_count, sizeof *rules);
    bool ok = rules != NULL;
    for (uint32_t i = 0; i < map->rule_count && ok; i++)
        ok = invert_rule(v, &map->rules[i], &rules[i]);
    for (uint32_t i = 0; i < map->const_count && ok; i++)
        ok = invert_constant(v, &map->constants[i], &rules[map->rule_count + i]);
    v->inverse->rules = rules;
    v->inverse->rule_count = map->rule_count + map->const_count;
    return ok;
}

enum tp_status tp_map_invert(struct tp_map **out, const struct tp_map *map, struct tp_error *err)
{
    *out = NULL;
    struct tp_map *inverse = malloc(sizeof *inverse);
    if (!inverse)
        return tp_fail_nomem(err);
    *inverse = (struct tp_map){.name = map->name,
                               .description = map->description,
                               .text = map->text,
                               .text_len = map->text_len,
                               .dims = map->dims,
                               .dim_count = map->dim_count,
                               .sep = "",
                               .decode = {.scheme = "none"},
                               .cast_first = !map->cast_first, /* the steps in the opposite order */
                               .unmatched = map->unmatched,
                               .is_inverse = true};
    struct inverting v = {map, inverse, err};
    if (!invert_all(&v)) {
        tp_map_release(inverse);
        return tp_fail_nomem(err);
    }
    *out = inverse;
    return TP_OK;
}
