/* SPDX-License-Identifier: MIT */
/* A map's JSON. Which members an object has is a table; a member that is in none, or twice, ends the reading: an error of
 * typing must not be silent. Each rule is made as soon as its object is whole. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "map/parse.h"
#include "tensorport/text.h"

#define STRING_MAX ((size_t)16 << 10)
#define CONSTANTS_MAX 4096u
#define ARCHITECTURES_MAX 64u

/* What the file says, before it is believed. */
struct draft_map {
    uint64_t version;
    const char *name, *description, *sep;
    const char *architectures[ARCHITECTURES_MAX];
    uint32_t architecture_count;
    struct tp_dim dims[TP_MAP_DIMS_MAX];
    uint32_t dim_count;
    int cast, unmatched, order; /* rows of the words of each */
    struct tp_map_decode decode;
    struct tp_map_output output;
};

struct draft_const {
    struct tp_draft_text to, value, dtype;
    struct tp_draft_list shape;
    uint64_t begin;
};

struct parser {
    struct tp_map *map;
    struct tp_json *json;
    struct tp_rule_maker maker; /* arena, error, and where in the text it is */
    struct draft_map draft;
    struct tp_draft_rule rule;
    struct draft_const constant;
    struct tp_rule *rules;
    struct tp_rule_const *constants;
    size_t rule_capacity, constant_capacity;
    uint64_t line_offset; /* of the beginning of ... */
    uint32_t line;        /* ... this line */
};

struct member {
    const char *key;
    enum tp_status (*read)(struct parser *p, const struct member *member, void *into);
    size_t offset;            /* of what it fills in */
    const char *const *words; /* of read_choice */
};

/* ---- tokens ---- */

static enum tp_status next(struct parser *p, struct tp_json_token *token)
{
    enum tp_status status = tp_json_next(p->json, token, p->maker.err);
    p->maker.offset = status ? tp_json_offset(p->json) : token->offset;
    return status;
}

static enum tp_status fail_type(struct parser *p, const struct tp_json_token *token, const char *expected,
                                const char *key)
{
    return tp_fail(p->maker.err, TP_ERR_FORMAT, "'%s' is %s, expected %s", key, tp_json_type_name(token->type),
                   expected);
}

static enum tp_status expect(struct parser *p, enum tp_json_type type, const char *key, struct tp_json_token *token)
{
    enum tp_status status = next(p, token);
    return status || token->type == type ? status : fail_type(p, token, tp_json_type_name(type), key);
}

static enum tp_status copy_text(struct parser *p, const char **out, const struct tp_json_token *token, const char *key)
{
    if (token->has_nul)
        return tp_fail(p->maker.err, TP_ERR_FORMAT, "'%s' has a NUL character in it", key);
    *out = tp_arena_strndup(p->maker.arena, token->text, token->len);
    return *out ? TP_OK : tp_fail_nomem(p->maker.err);
}

static enum tp_status keep_text(struct parser *p, struct tp_draft_text *out, const struct tp_json_token *token,
                                const char *key)
{
    *out = (struct tp_draft_text){.len = token->len, .offset = token->offset};
    return copy_text(p, &out->text, token, key);
}

/* ---- kinds of members ---- */

static enum tp_status read_cstring(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_STRING, member->key, &token);
    return status ? status : copy_text(p, (const char **)into, &token, member->key);
}

static enum tp_status read_text(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_STRING, member->key, &token);
    return status ? status : keep_text(p, into, &token, member->key);
}

static enum tp_status read_uint(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_UINT, member->key, &token);
    if (!status)
        *(uint64_t *)into = token.uint_value;
    return status;
}

static enum tp_status read_truth(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    if (status)
        return status;
    *(bool *)into = token.type == TP_JSON_TRUE;
    return token.type == TP_JSON_TRUE || token.type == TP_JSON_FALSE
               ? TP_OK
               : fail_type(p, &token, "true or false", member->key);
}

/* One of some words: its number. */
static enum tp_status read_choice(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    char list[128] = "", shown[64];
    enum tp_status status = expect(p, TP_JSON_STRING, member->key, &token);
    if (status)
        return status;
    size_t used = 0;
    for (int i = 0; member->words[i]; i++) {
        if (!token.has_nul && strcmp(member->words[i], token.text) == 0) {
            *(int *)into = i;
            return TP_OK;
        }
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", member->words[i]);
    }
    return tp_fail(p->maker.err, TP_ERR_FORMAT, "'%s' is '%s', not one of %s", member->key,
                   tp_text_printable(shown, sizeof shown, token.text, token.len), list);
}

/* A string, or a number as it is written. */
static enum tp_status keep_expr(struct parser *p, struct tp_draft_text *out, const struct tp_json_token *token,
                                const char *key)
{
    if (token->type != TP_JSON_STRING && token->type != TP_JSON_UINT && token->type != TP_JSON_NUMBER)
        return fail_type(p, token, "a number or an expression in a string", key);
    return keep_text(p, out, token, key);
}

static enum tp_status read_expr(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    return status ? status : keep_expr(p, into, &token, member->key);
}

static enum tp_status add_to_list(struct parser *p, struct tp_draft_list *list, const struct tp_json_token *token,
                                  const char *key, bool is_expr)
{
    if (list->count == TP_MAP_SOURCES_MAX)
        return tp_fail(p->maker.err, TP_ERR_LIMIT, "'%s' has more than %u items", key, TP_MAP_SOURCES_MAX);
    struct tp_draft_text *item = &list->items[list->count++];
    if (is_expr)
        return keep_expr(p, item, token, key);
    return token->type == TP_JSON_STRING ? keep_text(p, item, token, key) : fail_type(p, token, "strings", key);
}

/* The rest of a list whose first token has been read. */
static enum tp_status read_list(struct parser *p, struct tp_draft_list *list, const char *key, bool is_expr)
{
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    while (!status && token.type != TP_JSON_ARRAY_END) {
        status = add_to_list(p, list, &token, key, is_expr);
        if (!status)
            status = next(p, &token);
    }
    return status;
}

/* A name, or a list of names. */
static enum tp_status read_names(struct parser *p, const struct member *member, void *into)
{
    struct tp_draft_list *list = into;
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    if (status)
        return status;
    list->is_given = true;
    list->offset = token.offset;
    if (token.type == TP_JSON_STRING)
        return add_to_list(p, list, &token, member->key, false);
    if (token.type != TP_JSON_ARRAY_BEGIN)
        return fail_type(p, &token, "a string or a list of strings", member->key);
    status = read_list(p, list, member->key, false);
    if (!status && list->count == 0)
        status = tp_fail(p->maker.err, TP_ERR_FORMAT, "'%s' is an empty list", member->key);
    return status;
}

static enum tp_status read_exprs(struct parser *p, const struct member *member, void *into)
{
    struct tp_draft_list *list = into;
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_ARRAY_BEGIN, member->key, &token);
    list->is_given = true;
    list->offset = token.offset;
    return status ? status : read_list(p, list, member->key, true);
}

/* ---- objects ---- */

/* `what` with an article: "a rule". */
static enum tp_status fail_unknown(struct parser *p, const struct tp_json_token *key, const char *what,
                                   const struct member *members, size_t count)
{
    char shown[64], list[400] = "";
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", members[i].key);
    enum tp_status status = tp_fail(p->maker.err, TP_ERR_FORMAT, "%s has no member '%s'", what,
                                    tp_text_printable(shown, sizeof shown, key->text, key->len));
    return tp_err_hint(p->maker.err, status, "%s has: %s", what, list);
}

/* The members of an object whose first token has been read. `seen`, if not NULL: bit i for member i. */
static enum tp_status read_members(struct parser *p, const char *what, const struct member *members, size_t count,
                                   void *into, uint32_t *seen)
{
    uint32_t found = 0;
    for (;;) {
        struct tp_json_token key;
        enum tp_status status = next(p, &key);
        if (seen)
            *seen = found;
        if (status || key.type == TP_JSON_OBJECT_END)
            return status;
        size_t i = 0;
        while (i < count && (key.has_nul || strcmp(members[i].key, key.text) != 0))
            i++;
        if (i == count)
            return fail_unknown(p, &key, what, members, count);
        if (found >> i & 1u)
            return tp_fail(p->maker.err, TP_ERR_FORMAT, "%s has '%s' twice", what, members[i].key);
        found |= UINT32_C(1) << i;
        status = members[i].read(p, &members[i], (char *)into + members[i].offset);
        if (status)
            return status;
    }
}

/* The objects of a list, which `each` reads. */
static enum tp_status read_objects(struct parser *p, const char *key,
                                   enum tp_status (*each)(struct parser *p, uint64_t begin, void *into), void *into)
{
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_ARRAY_BEGIN, key, &token);
    if (!status)
        status = next(p, &token);
    while (!status && token.type != TP_JSON_ARRAY_END) {
        status = token.type == TP_JSON_OBJECT_BEGIN ? each(p, token.offset, into)
                                                    : fail_type(p, &token, "a list of objects", key);
        if (!status)
            status = next(p, &token);
    }
    return status;
}

/* ---- rules ---- */

static enum tp_status fail_missing(struct parser *p, uint64_t begin, const char *what, const char *key)
{
    p->maker.offset = begin;
    return tp_fail(p->maker.err, TP_ERR_FORMAT, "%s needs '%s'", what, key);
}

/* "x", or {"axis": "x", "sizes": [...]} */
static enum tp_status read_split(struct parser *p, const struct member *member, void *into)
{
    static const struct member members[] = {
        {.key = "axis", .read = read_text, .offset = offsetof(struct tp_draft_rule, split)},
        {.key = "sizes", .read = read_exprs, .offset = offsetof(struct tp_draft_rule, split_sizes)},
    };
    struct tp_draft_rule *rule = into;
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    if (status)
        return status;
    if (token.type == TP_JSON_STRING)
        return keep_text(p, &rule->split, &token, member->key);
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return fail_type(p, &token, "a string or an object", member->key);
    status = read_members(p, "a 'split'", members, TP_COUNT_OF(members), into, NULL);
    if (status)
        return status;
    return rule->split.text ? TP_OK : fail_missing(p, token.offset, "a 'split'", "axis");
}

/* An expression, or {"by": expression, "in": "bf16"} */
static enum tp_status read_mul(struct parser *p, const struct member *member, void *into)
{
    static const struct member members[] = {
        {.key = "by", .read = read_expr, .offset = offsetof(struct tp_draft_rule, mul)},
        {.key = "in", .read = read_text, .offset = offsetof(struct tp_draft_rule, mul_in)},
    };
    struct tp_draft_rule *rule = into;
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    if (status)
        return status;
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return keep_expr(p, &rule->mul, &token, member->key);
    status = read_members(p, "a 'mul'", members, TP_COUNT_OF(members), into, NULL);
    if (status)
        return status;
    return rule->mul.text ? TP_OK : fail_missing(p, token.offset, "a 'mul'", "by");
}

static enum tp_status read_piece(struct parser *p, uint64_t begin, void *into)
{
    static const struct member members[] = {
        {.key = "from", .read = read_text, .offset = offsetof(struct tp_draft_piece, from)},
        {.key = "take", .read = read_text, .offset = offsetof(struct tp_draft_piece, take)},
        {.key = "axes", .read = read_text, .offset = offsetof(struct tp_draft_piece, axes)},
    };
    struct tp_draft_rule *rule = into;
    if (rule->piece_count == TP_MAP_SOURCES_MAX)
        return tp_fail(p->maker.err, TP_ERR_LIMIT, "'pieces' has more than %u items", TP_MAP_SOURCES_MAX);
    struct tp_draft_piece *piece = &rule->pieces[rule->piece_count++];
    enum tp_status status = read_members(p, "a piece", members, TP_COUNT_OF(members), piece, NULL);
    if (status)
        return status;
    return piece->from.text ? TP_OK : fail_missing(p, begin, "a piece", "from");
}

static enum tp_status read_pieces(struct parser *p, const struct member *member, void *into)
{
    struct tp_draft_rule *rule = into;
    enum tp_status status = read_objects(p, member->key, read_piece, rule);
    rule->has_pieces = true;
    rule->pieces_offset = p->maker.offset;
    if (!status && rule->piece_count == 0)
        status = tp_fail(p->maker.err, TP_ERR_FORMAT, "'pieces' is an empty list");
    return status;
}

static bool has_pad(const struct tp_draft_rule *rule, const struct tp_json_token *key)
{
    for (uint32_t i = 0; i < rule->pad_count; i++)
        if (rule->pads[i].axis.len == key->len && memcmp(rule->pads[i].axis.text, key->text, key->len) == 0)
            return true;
    return false;
}

/* {"v": "vocab_padded"} */
static enum tp_status read_pads(struct parser *p, const struct member *member, void *into)
{
    struct tp_draft_rule *rule = into;
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_OBJECT_BEGIN, member->key, &token);
    rule->pads_offset = token.offset;
    if (!status)
        status = next(p, &token);
    while (!status && token.type != TP_JSON_OBJECT_END) {
        if (rule->pad_count == TP_MAP_AXES_MAX)
            return tp_fail(p->maker.err, TP_ERR_LIMIT, "'pad' has more than %u axes", TP_MAP_AXES_MAX);
        if (has_pad(rule, &token))
            return tp_fail(p->maker.err, TP_ERR_FORMAT, "'pad' has an axis twice");
        struct tp_draft_pad *pad = &rule->pads[rule->pad_count++];
        status = keep_text(p, &pad->axis, &token, member->key);
        if (!status)
            status = next(p, &token);
        if (!status)
            status = keep_expr(p, &pad->size, &token, member->key);
        if (!status)
            status = next(p, &token);
    }
    return status;
}

#define RULE(member) offsetof(struct tp_draft_rule, member)

static const struct member rule_members[] = {
    {.key = "from", .read = read_names, .offset = RULE(from)},
    {.key = "to", .read = read_names, .offset = RULE(to)},
    {.key = "axes", .read = read_text, .offset = RULE(axes)},
    {.key = "split", .read = read_split},
    {.key = "stack", .read = read_text, .offset = RULE(stack)},
    {.key = "cat", .read = read_text, .offset = RULE(cat)},
    {.key = "pieces", .read = read_pieces},
    {.key = "mul", .read = read_mul},
    {.key = "add", .read = read_expr, .offset = RULE(add)},
    {.key = "pad", .read = read_pads},
    {.key = "dtype", .read = read_text, .offset = RULE(dtype)},
    {.key = "also", .read = read_truth, .offset = RULE(also)},
    {.key = "if", .read = read_expr, .offset = RULE(only_if)},
    {.key = "if_missing", .read = read_text, .offset = RULE(if_missing)},
    {.key = "same_as", .read = read_text, .offset = RULE(same_as)},
    {.key = "drop", .read = read_truth, .offset = RULE(drop)},
};

/* Offsets are asked for as the text is read on; one that lies before is counted from the start. */
static uint32_t line_of(struct parser *p, uint64_t offset)
{
    if (offset < p->line_offset) {
        p->line_offset = 0;
        p->line = 1;
    }
    for (; p->line_offset < offset && p->line_offset < p->map->text_len; p->line_offset++)
        p->line += p->map->text[p->line_offset] == '\n';
    return p->line;
}

/* A rule on one line. Blanks within strings are touched too: it is for people. */
static const char *one_line(struct parser *p, uint64_t begin, uint64_t end)
{
    char line[512];
    size_t used = 0;
    for (uint64_t i = begin; i < end && used + 1 < sizeof line; i++) {
        char c = p->map->text[i];
        bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
        if (!blank || line[used - 1] != ' ')
            line[used++] = blank ? ' ' : c;
    }
    char shown[201];
    tp_text_printable(shown, sizeof shown, line, used);
    return tp_arena_strndup(p->maker.arena, shown, strlen(shown));
}

static enum tp_status read_rule(struct parser *p, uint64_t begin, void *into)
{
    (void)into;
    uint32_t count = p->map->rule_count;
    if (count == TP_MAP_RULES_MAX)
        return tp_fail(p->maker.err, TP_ERR_LIMIT, "more than %u rules", TP_MAP_RULES_MAX);
    if (!tp_array_grow(&p->rules, &p->rule_capacity, count + 1u, sizeof *p->rules))
        return tp_fail_nomem(p->maker.err);
    memset(&p->rule, 0, sizeof p->rule);
    p->rule.begin = begin;
    enum tp_status status =
        read_members(p, "a rule", rule_members, TP_COUNT_OF(rule_members), &p->rule, NULL);
    if (status)
        return status;
    uint64_t end = tp_json_offset(p->json);
    status = tp_rule_make(&p->rules[count], &p->rule, &p->maker);
    if (status)
        return status;
    p->rules[count].line = line_of(p, begin);
    p->rules[count].text = one_line(p, begin, end);
    p->map->rule_count++;
    return p->rules[count].text ? TP_OK : tp_fail_nomem(p->maker.err);
}

static enum tp_status read_rules(struct parser *p, const struct member *member, void *into)
{
    return read_objects(p, member->key, read_rule, into);
}

/* ---- constants ---- */

static enum tp_status make_const(struct parser *p, struct tp_rule_const *out, const struct draft_const *draft)
{
    struct tp_capture_table captures = {.token_count = p->maker.token_count};
    uint32_t mentioned;
    p->maker.offset = draft->to.offset;
    enum tp_status status = tp_pattern_parse(&out->to, &mentioned, &captures, TP_NAME_TO, p->maker.arena,
                                             draft->to.text, draft->to.len, p->maker.err);
    p->maker.token_count = captures.token_count;
    if (!status && mentioned)
        status = tp_fail(p->maker.err, TP_ERR_FORMAT, "the name of a constant has no captures");
    if (!status)
        status = tp_draft_dtype(&out->dtype, &draft->dtype, &p->maker);
    if (!status)
        status = tp_draft_expr(&out->value, &draft->value, &p->maker);
    const struct tp_expr **shape = tp_arena_alloc(p->maker.arena, draft->shape.count * sizeof *shape);
    if (!status && !shape)
        status = tp_fail_nomem(p->maker.err);
    for (uint32_t d = 0; !status && d < draft->shape.count; d++)
        status = tp_draft_expr(&shape[d], &draft->shape.items[d], &p->maker);
    out->shape = shape;
    out->rank = draft->shape.count;
    return status;
}

static enum tp_status read_const(struct parser *p, uint64_t begin, void *into)
{
    static const struct member members[] = {
        {.key = "to", .read = read_text, .offset = offsetof(struct draft_const, to)},
        {.key = "value", .read = read_expr, .offset = offsetof(struct draft_const, value)},
        {.key = "dtype", .read = read_text, .offset = offsetof(struct draft_const, dtype)},
        {.key = "shape", .read = read_exprs, .offset = offsetof(struct draft_const, shape)},
    };
    (void)into;
    struct draft_const *draft = &p->constant;
    uint32_t count = p->map->const_count, seen = 0;
    if (count == CONSTANTS_MAX)
        return tp_fail(p->maker.err, TP_ERR_LIMIT, "more than %u constants", CONSTANTS_MAX);
    if (!tp_array_grow(&p->constants, &p->constant_capacity, count + 1u, sizeof *p->constants))
        return tp_fail_nomem(p->maker.err);
    memset(draft, 0, sizeof *draft);
    enum tp_status status = read_members(p, "a constant", members, TP_COUNT_OF(members), draft, &seen);
    for (size_t i = 0; !status && i < 3; i++)
        if (!(seen >> i & 1u))
            status = fail_missing(p, begin, "a constant", members[i].key);
    if (!status)
        status = make_const(p, &p->constants[count], draft);
    if (!status)
        p->map->const_count++;
    return status;
}

static enum tp_status read_constants(struct parser *p, const struct member *member, void *into)
{
    return read_objects(p, member->key, read_const, into);
}

/* ---- what stands at the top ---- */

static enum tp_status read_architectures(struct parser *p, const struct member *member, void *into)
{
    struct draft_map *draft = into;
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_ARRAY_BEGIN, member->key, &token);
    if (!status)
        status = next(p, &token);
    while (!status && token.type != TP_JSON_ARRAY_END) {
        if (token.type != TP_JSON_STRING)
            return fail_type(p, &token, "a list of strings", member->key);
        if (draft->architecture_count == ARCHITECTURES_MAX)
            return tp_fail(p->maker.err, TP_ERR_LIMIT, "more than %u architectures", ARCHITECTURES_MAX);
        status = copy_text(p, &draft->architectures[draft->architecture_count++], &token, member->key);
        if (!status)
            status = next(p, &token);
    }
    return status;
}

static enum tp_status read_dim(struct parser *p, const struct tp_json_token *key, struct draft_map *draft)
{
    char shown[64];
    struct tp_draft_text size;
    struct tp_json_token token;
    tp_text_printable(shown, sizeof shown, key->text, key->len);
    if (key->len == 0 || tp_identifier_length(key->text, key->len) != key->len)
        return tp_fail(p->maker.err, TP_ERR_FORMAT, "the dim '%s': a name has letters, digits and '_'", shown);
    if (draft->dim_count == TP_MAP_DIMS_MAX)
        return tp_fail(p->maker.err, TP_ERR_LIMIT, "more than %u dims", TP_MAP_DIMS_MAX);
    struct tp_dim *dim = &draft->dims[draft->dim_count];
    enum tp_status status = copy_text(p, &dim->name, key, "dims");
    for (uint32_t i = 0; !status && i < draft->dim_count; i++)
        if (strcmp(draft->dims[i].name, dim->name) == 0)
            return tp_fail(p->maker.err, TP_ERR_FORMAT, "the dim '%s' stands twice", shown);
    if (!status)
        status = next(p, &token);
    if (!status)
        status = keep_expr(p, &size, &token, shown);
    draft->dim_count += !status;
    return status ? status : tp_draft_expr(&dim->size, &size, &p->maker);
}

static bool needs(const struct tp_dim *dim, const struct tp_dim *other)
{
    const char *name;
    for (uint32_t i = 0; (name = tp_expr_name(dim->size, i)) != NULL; i++)
        if (strcmp(name, other->name) == 0)
            return true;
    return false;
}

static bool needs_any(const struct draft_map *draft, uint32_t dim, const bool *open)
{
    for (uint32_t i = 0; i < draft->dim_count; i++)
        if (open[i] && needs(&draft->dims[dim], &draft->dims[i]))
            return true;
    return false;
}

/* Close what needs nothing open, until nothing changes. */
static enum tp_status check_circles(struct parser *p, const struct draft_map *draft)
{
    bool open[TP_MAP_DIMS_MAX];
    uint32_t left = draft->dim_count, before = left + 1;
    memset(open, true, sizeof open);
    while (left < before) {
        before = left;
        for (uint32_t i = 0; i < draft->dim_count; i++)
            if (open[i] && !needs_any(draft, i, open)) {
                open[i] = false;
                left--;
            }
    }
    for (uint32_t i = 0; i < draft->dim_count; i++)
        if (open[i])
            return tp_fail(p->maker.err, TP_ERR_FORMAT, "the dim '%.64s' needs itself, by way of '%s'",
                           draft->dims[i].name, tp_expr_text(draft->dims[i].size));
    return TP_OK;
}

static enum tp_status read_dims(struct parser *p, const struct member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_OBJECT_BEGIN, member->key, &token);
    uint64_t begin = token.offset;
    if (!status)
        status = next(p, &token);
    while (!status && token.type != TP_JSON_OBJECT_END) {
        status = read_dim(p, &token, into);
        if (!status)
            status = next(p, &token);
    }
    if (status)
        return status;
    p->maker.offset = begin;
    return check_circles(p, into);
}

/* "mxfp4", or {"scheme": "mxfp4", "positive_zero": true} */
static enum tp_status read_decode(struct parser *p, const struct member *member, void *into)
{
    static const struct member members[] = {
        {.key = "scheme", .read = read_cstring, .offset = offsetof(struct tp_map_decode, scheme)},
        {.key = "positive_zero", .read = read_truth, .offset = offsetof(struct tp_map_decode, positive_zero)},
    };
    struct tp_map_decode *decode = into;
    struct tp_json_token token;
    enum tp_status status = next(p, &token);
    if (status)
        return status;
    if (token.type == TP_JSON_STRING)
        return copy_text(p, &decode->scheme, &token, member->key);
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return fail_type(p, &token, "a string or an object", member->key);
    return read_members(p, "'decode'", members, TP_COUNT_OF(members), decode, NULL);
}

static enum tp_status read_step(struct parser *p, const struct member *member, void *into)
{
    struct tp_map_output *output = into;
    output->has_step = true;
    return read_uint(p, member, &output->step);
}

#define OUTPUT(member) offsetof(struct tp_map_output, member)

static enum tp_status read_output(struct parser *p, const struct member *member, void *into)
{
    static const struct member members[] = {
        {.key = "format", .read = read_cstring, .offset = OUTPUT(format)},
        {.key = "precision", .read = read_cstring, .offset = OUTPUT(precision)},
        {.key = "item", .read = read_cstring, .offset = OUTPUT(item)},
        {.key = "wrap", .read = read_cstring, .offset = OUTPUT(wrap)},
        {.key = "oversize", .read = read_cstring, .offset = OUTPUT(oversize)},
        {.key = "tree", .read = read_cstring, .offset = OUTPUT(tree)},
        {.key = "prefix", .read = read_cstring, .offset = OUTPUT(prefix)},
        {.key = "orbax_layout", .read = read_cstring, .offset = OUTPUT(orbax_layout)},
        {.key = "step", .read = read_step},
        {.key = "zarr3", .read = read_truth, .offset = OUTPUT(zarr3)},
    };
    struct tp_json_token token;
    enum tp_status status = expect(p, TP_JSON_OBJECT_BEGIN, member->key, &token);
    return status ? status : read_members(p, "'output'", members, TP_COUNT_OF(members), into, NULL);
}

#define MAP(member) offsetof(struct draft_map, member)

static const char *const cast_words[] = {"last", "first", NULL};
static const char *const order_words[] = {"sorted", "rules", NULL};
static const char *const unmatched_words[] = {
    [TP_UNMATCHED_ERROR] = "error", [TP_UNMATCHED_WARN] = "warn", [TP_UNMATCHED_KEEP] = "keep",
    [TP_UNMATCHED_DROP] = "drop",   NULL,
};

static const struct member map_members[] = {
    {.key = "tensorport_map", .read = read_uint, .offset = MAP(version)},
    {.key = "rules", .read = read_rules},
    {.key = "name", .read = read_cstring, .offset = MAP(name)},
    {.key = "description", .read = read_cstring, .offset = MAP(description)},
    {.key = "architectures", .read = read_architectures},
    {.key = "dims", .read = read_dims},
    {.key = "decode", .read = read_decode, .offset = MAP(decode)},
    {.key = "sep", .read = read_cstring, .offset = MAP(sep)},
    {.key = "cast", .read = read_choice, .offset = MAP(cast), .words = cast_words},
    {.key = "unmatched", .read = read_choice, .offset = MAP(unmatched), .words = unmatched_words},
    {.key = "order", .read = read_choice, .offset = MAP(order), .words = order_words},
    {.key = "output", .read = read_output, .offset = MAP(output)},
    {.key = "const", .read = read_constants},
};

/* The first two members of the table must be there. */
static enum tp_status read_map(struct parser *p)
{
    struct tp_json_token token;
    uint32_t seen = 0;
    enum tp_status status = next(p, &token);
    if (status)
        return status;
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return fail_type(p, &token, "an object", "the map");
    uint64_t begin = token.offset;
    status = read_members(p, "a map", map_members, TP_COUNT_OF(map_members), &p->draft, &seen);
    if (!status)
        status = next(p, &token); /* nothing behind it */
    for (size_t i = 0; !status && i < 2; i++)
        if (!(seen >> i & 1u))
            status = fail_missing(p, begin, "a map", map_members[i].key);
    if (!status && p->draft.version != 1) {
        p->maker.offset = begin;
        status = tp_fail(p->maker.err, TP_ERR_FORMAT, "'tensorport_map' is %" PRIu64 "; this version reads 1",
                         p->draft.version);
    }
    return status;
}

/* ---- the whole ---- */

static void *copy_table(struct parser *p, const void *rows, size_t count, size_t size)
{
    void *copy = tp_arena_alloc(p->maker.arena, count * size);
    if (copy && count > 0)
        memcpy(copy, rows, count * size);
    return copy;
}

static enum tp_status keep_map(struct parser *p)
{
    struct tp_map *map = p->map;
    const struct draft_map *draft = &p->draft;
    map->name = draft->name ? draft->name : "";
    map->description = draft->description ? draft->description : "";
    map->sep = draft->sep ? draft->sep : "/";
    map->decode = draft->decode;
    if (!map->decode.scheme)
        map->decode.scheme = "any";
    map->cast_first = draft->cast == 1;
    map->order_by_rules = draft->order == 1;
    map->unmatched = (enum tp_map_unmatched)draft->unmatched;
    map->output = draft->output;
    map->architectures = copy_table(p, draft->architectures, draft->architecture_count, sizeof *map->architectures);
    map->architecture_count = draft->architecture_count;
    map->dims = copy_table(p, draft->dims, draft->dim_count, sizeof *map->dims);
    map->dim_count = draft->dim_count;
    map->rules = copy_table(p, p->rules, map->rule_count, sizeof *map->rules);
    map->constants = copy_table(p, p->constants, map->const_count, sizeof *map->constants);
    return map->architectures && map->dims && map->rules && map->constants ? TP_OK : tp_fail_nomem(p->maker.err);
}

/* "line 12: ..." */
static enum tp_status add_line(struct parser *p, enum tp_status status)
{
    struct tp_error *err = p->maker.err;
    char prefix[32];
    if (!err || (status != TP_ERR_FORMAT && status != TP_ERR_LIMIT))
        return status;
    size_t len = (size_t)snprintf(prefix, sizeof prefix, "line %u: ", line_of(p, p->maker.offset));
    memmove(err->message + len, err->message, sizeof err->message - len);
    memcpy(err->message, prefix, len);
    err->message[sizeof err->message - 1] = '\0';
    return status;
}

static enum tp_status parse(struct parser *p)
{
    struct tp_map *map = p->map;
    enum tp_status status = tp_json_open_text(&p->json, map->text, map->text_len, "map", STRING_MAX, p->maker.err);
    if (!status)
        status = read_map(p);
    if (!status)
        status = keep_map(p);
    tp_json_close(p->json);
    free(p->rules);
    free(p->constants);
    return add_line(p, status);
}

/* A parser is too large for the stack of a thread. */
static enum tp_status parse_into(struct tp_map *map, struct tp_error *err)
{
    struct parser *p = calloc(1, sizeof *p);
    if (!p)
        return tp_fail_nomem(err);
    p->map = map;
    p->maker = (struct tp_rule_maker){.arena = &map->arena, .err = err};
    p->line = 1;
    enum tp_status status = parse(p);
    free(p);
    return status;
}

enum tp_status tp_map_parse(struct tp_map **out, const char *text, size_t len, const char *path, struct tp_error *err)
{
    *out = NULL;
    if (len > TP_MAP_TEXT_MAX)
        return tp_err_path(err, tp_fail(err, TP_ERR_LIMIT, "a map of %zu bytes; at most %zu", len, TP_MAP_TEXT_MAX),
                           path ? path : "");
    struct tp_map *map = calloc(1, sizeof *map);
    if (!map)
        return tp_fail_nomem(err);
    map->text = tp_arena_strndup(&map->arena, text, len);
    map->text_len = len;
    enum tp_status status = map->text ? parse_into(map, err) : tp_fail_nomem(err);
    if (status) {
        tp_map_release(map);
        return path ? tp_err_path(err, status, path) : status;
    }
    *out = map;
    return TP_OK;
}

void tp_map_release(struct tp_map *map)
{
    if (map)
        tp_arena_release(&map->arena);
    free(map);
}

const struct tp_map_decode *tp_map_decode_of(const struct tp_map *map)
{
    return &map->decode;
}

const struct tp_map_output *tp_map_output_of(const struct tp_map *map)
{
    return &map->output;
}

bool tp_map_orders_by_rules(const struct tp_map *map)
{
    return map->order_by_rules;
}
