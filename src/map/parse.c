/* SPDX-License-Identifier: MIT */
/* A map: its JSON, read from the top. Each rule is made as soon as its object is whole. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map/draft.h"
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
    struct tp_draft_text to, value, dtype, only_if;
    struct tp_draft_list shape;
    bool is_none;
};

struct parser {
    struct tp_map *map;
    struct tp_map_reader reader;
    struct draft_map draft;
    struct tp_draft_rule rule;
    struct draft_const constant;
    struct tp_rule *rules;
    struct tp_rule_const *constants;
    size_t rule_capacity, constant_capacity;
    uint64_t line_offset; /* of the beginning of ... */
    uint32_t line;        /* ... this line */
};

/* ---- rules ---- */

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
    return tp_arena_strndup(p->reader.arena, shown, strlen(shown));
}

static enum tp_status read_rule(struct tp_map_reader *r, uint64_t begin, void *into)
{
    struct parser *p = into;
    uint32_t count = p->map->rule_count;
    if (count == TP_MAP_RULES_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "more than %u rules", TP_MAP_RULES_MAX);
    if (!tp_array_grow(&p->rules, &p->rule_capacity, count + 1u, sizeof *p->rules))
        return tp_fail_nomem(r->err);
    memset(&p->rule, 0, sizeof p->rule);
    p->rule.begin = begin;
    enum tp_status status = tp_draft_read(r, &p->rule);
    if (status)
        return status;
    uint64_t end = tp_json_offset(r->json);
    status = tp_rule_make(&p->rules[count], &p->rule, r);
    if (status)
        return status;
    p->rules[count].line = line_of(p, begin);
    p->rules[count].text = one_line(p, begin, end);
    p->map->rule_count++;
    return p->rules[count].text ? TP_OK : tp_fail_nomem(r->err);
}

static enum tp_status read_rules(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    return tp_read_objects(r, member->key, read_rule, into);
}

/* ---- constants ---- */

static enum tp_status make_const(struct parser *p, struct tp_rule_const *out, const struct draft_const *draft)
{
    struct tp_capture_table captures = {.token_count = p->reader.token_count};
    uint32_t mentioned;
    *out = (struct tp_rule_const){.value = NULL};
    p->reader.offset = draft->to.offset;
    enum tp_status status = tp_pattern_parse(&out->to, &mentioned, &captures, TP_NAME_TO, p->reader.arena,
                                             draft->to.text, draft->to.len, p->reader.err);
    p->reader.token_count = captures.token_count;
    if (!status && mentioned)
        status = tp_fail(p->reader.err, TP_ERR_FORMAT, "the name of a constant has no captures");
    if (!status && draft->only_if.text)
        status = tp_draft_expr(&out->only_if, &draft->only_if, &p->reader);
    if (status || draft->is_none)
        return status;
    status = tp_draft_dtype(&out->dtype, &draft->dtype, &p->reader);
    if (!status)
        status = tp_draft_expr(&out->value, &draft->value, &p->reader);
    const struct tp_expr **shape = tp_arena_alloc(p->reader.arena, draft->shape.count * sizeof *shape);
    if (!status && !shape)
        status = tp_fail_nomem(p->reader.err);
    for (uint32_t d = 0; !status && d < draft->shape.count; d++)
        status = tp_draft_expr(&shape[d], &draft->shape.items[d], &p->reader);
    out->shape = shape;
    out->rank = draft->shape.count;
    return status;
}

/* null, or an expression */
static enum tp_status read_value(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct draft_const *draft = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    draft->is_none = token.type == TP_JSON_NULL;
    return draft->is_none ? TP_OK : tp_read_keep_expr(r, &draft->value, &token, member->key);
}

/* Of the members that were seen, by the bits of their numbers: those of no array have a name, and are null. */
static enum tp_status check_const(struct tp_map_reader *r, uint64_t begin, const struct tp_member *members,
                                  const struct draft_const *draft, uint32_t seen)
{
    unsigned count = draft->is_none ? 2 : 3;
    for (unsigned i = 0; i < count; i++)
        if (!(seen >> i & 1u))
            return tp_read_missing(r, begin, "a constant", members[i].key);
    if (draft->is_none && seen >> 2 & 3u) {
        r->offset = begin;
        return tp_fail(r->err, TP_ERR_FORMAT, "a constant whose value is null has neither 'dtype' nor 'shape'");
    }
    return TP_OK;
}

static enum tp_status read_const(struct tp_map_reader *r, uint64_t begin, void *into)
{
    static const struct tp_member members[] = {
        {.key = "to", .read = tp_member_text, .offset = offsetof(struct draft_const, to)},
        {.key = "value", .read = read_value},
        {.key = "dtype", .read = tp_member_text, .offset = offsetof(struct draft_const, dtype)},
        {.key = "shape", .read = tp_member_exprs, .offset = offsetof(struct draft_const, shape)},
        {.key = "if", .read = tp_member_expr, .offset = offsetof(struct draft_const, only_if)},
    };
    struct parser *p = into;
    struct draft_const *draft = &p->constant;
    uint32_t count = p->map->const_count, seen = 0;
    if (count == CONSTANTS_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "more than %u constants", CONSTANTS_MAX);
    if (!tp_array_grow(&p->constants, &p->constant_capacity, count + 1u, sizeof *p->constants))
        return tp_fail_nomem(r->err);
    memset(draft, 0, sizeof *draft);
    enum tp_status status = tp_read_members(r, "a constant", members, TP_COUNT_OF(members), draft, &seen);
    if (!status)
        status = check_const(r, begin, members, draft, seen);
    if (!status)
        status = make_const(p, &p->constants[count], draft);
    if (!status)
        p->map->const_count++;
    return status;
}

static enum tp_status read_constants(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    return tp_read_objects(r, member->key, read_const, into);
}

/* ---- what stands at the top ---- */

static enum tp_status read_architectures(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct draft_map *draft = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_ARRAY_BEGIN, member->key, &token);
    if (!status)
        status = tp_read_next(r, &token);
    while (!status && token.type != TP_JSON_ARRAY_END) {
        if (token.type != TP_JSON_STRING)
            return tp_read_wrong_type(r, &token, "a list of strings", member->key);
        if (draft->architecture_count == ARCHITECTURES_MAX)
            return tp_fail(r->err, TP_ERR_LIMIT, "more than %u architectures", ARCHITECTURES_MAX);
        status = tp_read_copy(r, &draft->architectures[draft->architecture_count++], &token, member->key);
        if (!status)
            status = tp_read_next(r, &token);
    }
    return status;
}

static enum tp_status read_dim(struct tp_map_reader *r, const struct tp_json_token *key, struct draft_map *draft)
{
    char shown[64];
    struct tp_draft_text size;
    struct tp_json_token token;
    tp_text_printable(shown, sizeof shown, key->text, key->len);
    if (key->len == 0 || tp_identifier_length(key->text, key->len) != key->len)
        return tp_fail(r->err, TP_ERR_FORMAT, "the dim '%s': a name has letters, digits and '_'", shown);
    if (draft->dim_count == TP_MAP_DIMS_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "more than %u dims", TP_MAP_DIMS_MAX);
    struct tp_dim *dim = &draft->dims[draft->dim_count];
    enum tp_status status = tp_read_copy(r, &dim->name, key, "dims");
    for (uint32_t i = 0; !status && i < draft->dim_count; i++)
        if (strcmp(draft->dims[i].name, dim->name) == 0)
            return tp_fail(r->err, TP_ERR_FORMAT, "the dim '%s' stands twice", shown);
    if (!status)
        status = tp_read_next(r, &token);
    if (!status)
        status = tp_read_keep_expr(r, &size, &token, shown);
    draft->dim_count += !status;
    return status ? status : tp_draft_expr(&dim->size, &size, r);
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
static enum tp_status check_circles(struct tp_map_reader *r, const struct draft_map *draft)
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
            return tp_fail(r->err, TP_ERR_FORMAT, "the dim '%.64s' needs itself, by way of '%s'", draft->dims[i].name,
                           tp_expr_text(draft->dims[i].size));
    return TP_OK;
}

static enum tp_status read_dims(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_OBJECT_BEGIN, member->key, &token);
    uint64_t begin = token.offset;
    if (!status)
        status = tp_read_next(r, &token);
    while (!status && token.type != TP_JSON_OBJECT_END) {
        status = read_dim(r, &token, into);
        if (!status)
            status = tp_read_next(r, &token);
    }
    if (status)
        return status;
    r->offset = begin;
    return check_circles(r, into);
}

/* "mxfp4", or {"scheme": "mxfp4", "positive_zero": true} */
static enum tp_status read_decode(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    static const struct tp_member members[] = {
        {.key = "scheme", .read = tp_member_cstring, .offset = offsetof(struct tp_map_decode, scheme)},
        {.key = "positive_zero", .read = tp_member_truth, .offset = offsetof(struct tp_map_decode, positive_zero)},
    };
    struct tp_map_decode *decode = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    if (token.type == TP_JSON_STRING)
        return tp_read_copy(r, &decode->scheme, &token, member->key);
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return tp_read_wrong_type(r, &token, "a string or an object", member->key);
    return tp_read_members(r, "'decode'", members, TP_COUNT_OF(members), decode, NULL);
}

static enum tp_status read_step(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_map_output *output = into;
    output->has_step = true;
    return tp_member_uint(r, member, &output->step);
}

#define OUTPUT(member) offsetof(struct tp_map_output, member)

static enum tp_status read_output(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    static const struct tp_member members[] = {
        {.key = "format", .read = tp_member_cstring, .offset = OUTPUT(format)},
        {.key = "precision", .read = tp_member_cstring, .offset = OUTPUT(precision)},
        {.key = "item", .read = tp_member_cstring, .offset = OUTPUT(item)},
        {.key = "wrap", .read = tp_member_cstring, .offset = OUTPUT(wrap)},
        {.key = "oversize", .read = tp_member_cstring, .offset = OUTPUT(oversize)},
        {.key = "tree", .read = tp_member_cstring, .offset = OUTPUT(tree)},
        {.key = "prefix", .read = tp_member_cstring, .offset = OUTPUT(prefix)},
        {.key = "orbax_layout", .read = tp_member_cstring, .offset = OUTPUT(orbax_layout)},
        {.key = "step", .read = read_step},
        {.key = "zarr3", .read = tp_member_truth, .offset = OUTPUT(zarr3)},
    };
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_OBJECT_BEGIN, member->key, &token);
    return status ? status : tp_read_members(r, "'output'", members, TP_COUNT_OF(members), into, NULL);
}

#define MAP(member) offsetof(struct parser, draft.member)

static const char *const cast_words[] = {"last", "first", NULL};
static const char *const order_words[] = {"sorted", "rules", NULL};
static const char *const unmatched_words[] = {
    [TP_UNMATCHED_ERROR] = "error",
    [TP_UNMATCHED_WARN] = "warn",
    [TP_UNMATCHED_KEEP] = "keep",
    [TP_UNMATCHED_DROP] = "drop",
    NULL,
};

static const struct tp_member map_members[] = {
    {.key = "tensorport_map", .read = tp_member_uint, .offset = MAP(version)},
    {.key = "rules", .read = read_rules},
    {.key = "name", .read = tp_member_cstring, .offset = MAP(name)},
    {.key = "description", .read = tp_member_cstring, .offset = MAP(description)},
    {.key = "architectures", .read = read_architectures, .offset = offsetof(struct parser, draft)},
    {.key = "dims", .read = read_dims, .offset = offsetof(struct parser, draft)},
    {.key = "decode", .read = read_decode, .offset = MAP(decode)},
    {.key = "sep", .read = tp_member_cstring, .offset = MAP(sep)},
    {.key = "cast", .read = tp_member_choice, .offset = MAP(cast), .words = cast_words},
    {.key = "unmatched", .read = tp_member_choice, .offset = MAP(unmatched), .words = unmatched_words},
    {.key = "order", .read = tp_member_choice, .offset = MAP(order), .words = order_words},
    {.key = "output", .read = read_output, .offset = MAP(output)},
    {.key = "const", .read = read_constants},
};

/* The first two members of the table must be there. */
static enum tp_status read_map(struct parser *p)
{
    struct tp_map_reader *r = &p->reader;
    struct tp_json_token token;
    uint32_t seen = 0;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return tp_read_wrong_type(r, &token, "an object", "the map");
    uint64_t begin = token.offset;
    status = tp_read_members(r, "a map", map_members, TP_COUNT_OF(map_members), p, &seen);
    if (!status)
        status = tp_read_next(r, &token); /* nothing behind it */
    for (size_t i = 0; !status && i < 2; i++)
        if (!(seen >> i & 1u))
            status = tp_read_missing(r, begin, "a map", map_members[i].key);
    if (!status && p->draft.version != 1) {
        r->offset = begin;
        status =
            tp_fail(r->err, TP_ERR_FORMAT, "'tensorport_map' is %" PRIu64 "; this version reads 1", p->draft.version);
    }
    return status;
}

/* ---- the whole ---- */

static void *copy_table(struct parser *p, const void *rows, size_t count, size_t size)
{
    void *copy = tp_arena_alloc(p->reader.arena, count * size);
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
    return map->architectures && map->dims && map->rules && map->constants ? TP_OK : tp_fail_nomem(p->reader.err);
}

/* "line 12: ..." */
static enum tp_status add_line(struct parser *p, enum tp_status status)
{
    struct tp_error *err = p->reader.err;
    char prefix[32];
    if (!err || (status != TP_ERR_FORMAT && status != TP_ERR_LIMIT))
        return status;
    size_t len = (size_t)snprintf(prefix, sizeof prefix, "line %u: ", line_of(p, p->reader.offset));
    memmove(err->message + len, err->message, sizeof err->message - len);
    memcpy(err->message, prefix, len);
    err->message[sizeof err->message - 1] = '\0';
    return status;
}

static enum tp_status parse(struct parser *p)
{
    struct tp_map *map = p->map;
    enum tp_status status =
        tp_json_open_text(&p->reader.json, map->text, map->text_len, "map", STRING_MAX, p->reader.err);
    if (!status)
        status = read_map(p);
    if (!status)
        status = keep_map(p);
    tp_json_close(p->reader.json);
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
    p->reader = (struct tp_map_reader){.arena = &map->arena, .err = err};
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
