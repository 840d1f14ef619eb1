/* SPDX-License-Identifier: MIT */
/* Members of JSON objects by tables. One that is in none, or twice, ends the reading: an error of typing must not be
 * silent. */
#include "map/members.h"

#include <stdio.h>
#include <string.h>

#include "tensorport/text.h"

/* ---- tokens ---- */

enum tp_status tp_read_next(struct tp_map_reader *r, struct tp_json_token *token)
{
    enum tp_status status = tp_json_next(r->json, token, r->err);
    r->offset = status ? tp_json_offset(r->json) : token->offset;
    return status;
}

enum tp_status tp_read_wrong_type(struct tp_map_reader *r, const struct tp_json_token *token, const char *expected,
                                  const char *key)
{
    return tp_fail(r->err, TP_ERR_FORMAT, "'%s' is %s, expected %s", key, tp_json_type_name(token->type), expected);
}

enum tp_status tp_read_expect(struct tp_map_reader *r, enum tp_json_type type, const char *key,
                              struct tp_json_token *token)
{
    enum tp_status status = tp_read_next(r, token);
    return status || token->type == type ? status : tp_read_wrong_type(r, token, tp_json_type_name(type), key);
}

enum tp_status tp_read_copy(struct tp_map_reader *r, const char **out, const struct tp_json_token *token,
                            const char *key)
{
    if (token->has_nul)
        return tp_fail(r->err, TP_ERR_FORMAT, "'%s' has a NUL character in it", key);
    *out = tp_arena_strndup(r->arena, token->text, token->len);
    return *out ? TP_OK : tp_fail_nomem(r->err);
}

enum tp_status tp_read_keep(struct tp_map_reader *r, struct tp_draft_text *out, const struct tp_json_token *token,
                            const char *key)
{
    *out = (struct tp_draft_text){.len = token->len, .offset = token->offset};
    return tp_read_copy(r, &out->text, token, key);
}

/* ---- kinds of members ---- */

enum tp_status tp_member_cstring(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_STRING, member->key, &token);
    return status ? status : tp_read_copy(r, (const char **)into, &token, member->key);
}

enum tp_status tp_member_text(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_STRING, member->key, &token);
    return status ? status : tp_read_keep(r, into, &token, member->key);
}

enum tp_status tp_member_uint(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_UINT, member->key, &token);
    if (!status)
        *(uint64_t *)into = token.uint_value;
    return status;
}

enum tp_status tp_member_truth(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    *(bool *)into = token.type == TP_JSON_TRUE;
    return token.type == TP_JSON_TRUE || token.type == TP_JSON_FALSE
               ? TP_OK
               : tp_read_wrong_type(r, &token, "true or false", member->key);
}

enum tp_status tp_member_choice(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    char list[128] = "", shown[64];
    enum tp_status status = tp_read_expect(r, TP_JSON_STRING, member->key, &token);
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
    return tp_fail(r->err, TP_ERR_FORMAT, "'%s' is '%s', not one of %s", member->key,
                   tp_text_printable(shown, sizeof shown, token.text, token.len), list);
}

enum tp_status tp_read_keep_expr(struct tp_map_reader *r, struct tp_draft_text *out, const struct tp_json_token *token,
                                 const char *key)
{
    if (token->type != TP_JSON_STRING && token->type != TP_JSON_UINT && token->type != TP_JSON_NUMBER)
        return tp_read_wrong_type(r, token, "a number or an expression in a string", key);
    return tp_read_keep(r, out, token, key);
}

enum tp_status tp_member_expr(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    return status ? status : tp_read_keep_expr(r, into, &token, member->key);
}

static enum tp_status add_to_list(struct tp_map_reader *r, struct tp_draft_list *list,
                                  const struct tp_json_token *token, const char *key, bool is_expr)
{
    if (list->count == TP_MAP_SOURCES_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "'%s' has more than %u items", key, TP_MAP_SOURCES_MAX);
    struct tp_draft_text *item = &list->items[list->count++];
    if (is_expr)
        return tp_read_keep_expr(r, item, token, key);
    return token->type == TP_JSON_STRING ? tp_read_keep(r, item, token, key)
                                         : tp_read_wrong_type(r, token, "strings", key);
}

/* The rest of a list whose first token has been read. */
static enum tp_status read_list(struct tp_map_reader *r, struct tp_draft_list *list, const char *key, bool is_expr)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    while (!status && token.type != TP_JSON_ARRAY_END) {
        status = add_to_list(r, list, &token, key, is_expr);
        if (!status)
            status = tp_read_next(r, &token);
    }
    return status;
}

enum tp_status tp_member_names(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_draft_list *list = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_next(r, &token);
    if (status)
        return status;
    list->is_given = true;
    list->offset = token.offset;
    if (token.type == TP_JSON_STRING)
        return add_to_list(r, list, &token, member->key, false);
    if (token.type != TP_JSON_ARRAY_BEGIN)
        return tp_read_wrong_type(r, &token, "a string or a list of strings", member->key);
    status = read_list(r, list, member->key, false);
    if (!status && list->count == 0)
        status = tp_fail(r->err, TP_ERR_FORMAT, "'%s' is an empty list", member->key);
    return status;
}

enum tp_status tp_member_exprs(struct tp_map_reader *r, const struct tp_member *member, void *into)
{
    struct tp_draft_list *list = into;
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_ARRAY_BEGIN, member->key, &token);
    list->is_given = true;
    list->offset = token.offset;
    return status ? status : read_list(r, list, member->key, true);
}

/* ---- objects ---- */

static enum tp_status fail_unknown(struct tp_map_reader *r, const struct tp_json_token *key, const char *what,
                                   const struct tp_member *members, size_t count)
{
    char shown[64], list[400] = "";
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", members[i].key);
    enum tp_status status = tp_fail(r->err, TP_ERR_FORMAT, "%s has no member '%s'", what,
                                    tp_text_printable(shown, sizeof shown, key->text, key->len));
    return tp_err_hint(r->err, status, "%s has: %s", what, list);
}

enum tp_status tp_read_members(struct tp_map_reader *r, const char *what, const struct tp_member *members, size_t count,
                               void *into, uint32_t *seen)
{
    uint32_t found = 0;
    for (;;) {
        struct tp_json_token key;
        enum tp_status status = tp_read_next(r, &key);
        if (seen)
            *seen = found;
        if (status || key.type == TP_JSON_OBJECT_END)
            return status;
        size_t i = 0;
        while (i < count && (key.has_nul || strcmp(members[i].key, key.text) != 0))
            i++;
        if (i == count)
            return fail_unknown(r, &key, what, members, count);
        if (found >> i & 1u)
            return tp_fail(r->err, TP_ERR_FORMAT, "%s has '%s' twice", what, members[i].key);
        found |= UINT32_C(1) << i;
        status = members[i].read(r, &members[i], (char *)into + members[i].offset);
        if (status)
            return status;
    }
}

enum tp_status tp_read_objects(struct tp_map_reader *r, const char *key,
                               enum tp_status (*each)(struct tp_map_reader *r, uint64_t begin, void *into), void *into)
{
    struct tp_json_token token;
    enum tp_status status = tp_read_expect(r, TP_JSON_ARRAY_BEGIN, key, &token);
    if (!status)
        status = tp_read_next(r, &token);
    while (!status && token.type != TP_JSON_ARRAY_END) {
        status = token.type == TP_JSON_OBJECT_BEGIN ? each(r, token.offset, into)
                                                    : tp_read_wrong_type(r, &token, "a list of objects", key);
        if (!status)
            status = tp_read_next(r, &token);
    }
    return status;
}

enum tp_status tp_read_missing(struct tp_map_reader *r, uint64_t begin, const char *what, const char *key)
{
    r->offset = begin;
    return tp_fail(r->err, TP_ERR_FORMAT, "%s needs '%s'", what, key);
}
