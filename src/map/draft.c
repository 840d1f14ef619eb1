/* SPDX-License-Identifier: MIT */
/* A rule's JSON, as it is written: which members there are, and of what types. */
#include <stddef.h>
#include <string.h>

#include "map/draft.h"

/* "x", or {"axis": "x", "sizes": [...]} */
static enum tp_status read_split(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    static const struct tp_member members[] = {
        {.key = "axis", .read = tp_member_text, .offset = offsetof(struct tp_draft_rule, split)},
        {.key = "sizes", .read = tp_member_exprs, .offset = offsetof(struct tp_draft_rule, split_sizes)},
    };
    struct tp_draft_rule *rule = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    if (token.type == TP_JSON_STRING)
        return tp_read_keep(r, &rule->split, &token, member->key);
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return tp_read_wrong_type(r, &token, "a string or an object", member->key);
    status = tp_read_members(r, "a 'split'", members, TP_COUNT_OF(members), into, NULL);
    if (status)
        return status;
    return rule->split.text ? TP_OK : tp_read_missing(r, token.offset, "a 'split'", "axis");
}

/* An expression, or {"by": expression, "in": "bf16"} */
static enum tp_status read_mul(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    static const struct tp_member members[] = {
        {.key = "by", .read = tp_member_expr, .offset = offsetof(struct tp_draft_rule, mul)},
        {.key = "in", .read = tp_member_text, .offset = offsetof(struct tp_draft_rule, mul_in)},
    };
    struct tp_draft_rule *rule = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    if (token.type != TP_JSON_OBJECT_BEGIN)
        return tp_read_keep_expr(r, &rule->mul, &token, member->key);
    status = tp_read_members(r, "a 'mul'", members, TP_COUNT_OF(members), into, NULL);
    if (status)
        return status;
    return rule->mul.text ? TP_OK : tp_read_missing(r, token.offset, "a 'mul'", "by");
}

static enum tp_status read_piece(struct tp_map_reader *r, uint64_t begin, void *into)
{
    static const struct tp_member members[] = {
        {.key = "from", .read = tp_member_text, .offset = offsetof(struct tp_draft_piece, from)},
        {.key = "take", .read = tp_member_text, .offset = offsetof(struct tp_draft_piece, take)},
        {.key = "axes", .read = tp_member_text, .offset = offsetof(struct tp_draft_piece, axes)},
    };
    struct tp_draft_rule *rule = into;
    if (rule->piece_count == TP_MAP_SOURCES_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "'pieces' has more than %u items", TP_MAP_SOURCES_MAX);
    struct tp_draft_piece *piece = &rule->pieces[rule->piece_count++];
    enum tp_status status = tp_read_members(r, "a piece", members, TP_COUNT_OF(members), piece, NULL);
    if (status)
        return status;
    return piece->from.text ? TP_OK : tp_read_missing(r, begin, "a piece", "from");
}

static enum tp_status read_pieces(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_draft_rule *rule = into;
    rule->has_pieces = true;
    rule->pieces_offset = r->offset;
    enum tp_status status = tp_read_objects(r, member->key, read_piece, rule);
    if (!status && rule->piece_count == 0)
        status = tp_fail(r->err, TP_ERR_FORMAT, "'pieces' is an empty list");
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
static enum tp_status read_pads(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_draft_rule *rule = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_OBJECT_BEGIN, member->key, &token);
    rule->pads_offset = token.offset;
    if (!status)
        status = tp_read_next(r, &token);
    while (!status && token.type != TP_JSON_OBJECT_END) {
        if (rule->pad_count == TP_MAP_AXES_MAX)
            return tp_fail(r->err, TP_ERR_LIMIT, "'pad' has more than %u axes", TP_MAP_AXES_MAX);
        if (has_pad(rule, &token))
            return tp_fail(r->err, TP_ERR_FORMAT, "'pad' has an axis twice");
        struct tp_draft_pad *pad = &rule->pads[rule->pad_count++];
        status = tp_read_keep(r, &pad->axis, &token, member->key);
        if (!status)
            status = tp_read_next(r, &token);
        if (!status)
            status = tp_read_keep_expr(r, &pad->size, &token, member->key);
        if (!status)
            status = tp_read_next(r, &token);
    }
    return status;
}

#define RULE(member) offsetof(struct tp_draft_rule, member)

static const struct tp_member rule_members[] = {
    {.key = "from", .read = tp_member_names, .offset = RULE(from)},
    {.key = "to", .read = tp_member_names, .offset = RULE(to)},
    {.key = "axes", .read = tp_member_text, .offset = RULE(axes)},
    {.key = "split", .read = read_split},
    {.key = "stack", .read = tp_member_text, .offset = RULE(stack)},
    {.key = "cat", .read = tp_member_text, .offset = RULE(cat)},
    {.key = "pieces", .read = read_pieces},
    {.key = "mul", .read = read_mul},
    {.key = "add", .read = tp_member_expr, .offset = RULE(add)},
    {.key = "pad", .read = read_pads},
    {.key = "dtype", .read = tp_member_text, .offset = RULE(dtype)},
    {.key = "also", .read = tp_member_truth, .offset = RULE(also)},
    {.key = "if", .read = tp_member_expr, .offset = RULE(only_if)},
    {.key = "if_missing", .read = tp_member_text, .offset = RULE(if_missing)},
    {.key = "same_as", .read = tp_member_text, .offset = RULE(same_as)},
    {.key = "drop", .read = tp_member_truth, .offset = RULE(drop)},
};

enum tp_status tp_draft_read(struct tp_map_reader *r, struct tp_draft_rule *draft)
{
    return tp_read_members(r, "a rule", rule_members, TP_COUNT_OF(rule_members), draft, NULL);
}
