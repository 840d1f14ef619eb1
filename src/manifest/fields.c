/* SPDX-License-Identifier: MIT */
#include "manifest/fields.h"

#include <string.h>

#include "base/status.h"
#include "os/tree.h"
#include "tensorport/text.h"

enum tp_status tp_fields_expect(struct tp_manifest_reader *r, enum tp_json_type type, const char *what,
                                struct tp_json_token *t)
{
    return tp_json_expect(r->json, type, what, t, r->err);
}

enum tp_status tp_fields_read(struct tp_manifest_reader *r, const struct tp_field *fields, size_t count, void *target,
                              const char *what)
{
    uint32_t seen = 0;
    for (;;) {
        struct tp_json_token t;
        enum tp_status st = tp_json_next(r->json, &t, r->err);
        if (st)
            return st;
        if (t.type == TP_JSON_OBJECT_END)
            break;
        size_t i = 0;
        while (i < count && (strlen(fields[i].key) != t.len || memcmp(fields[i].key, t.text, t.len) != 0))
            i++;
        if (i == count) {
            st = tp_json_next(r->json, &t, r->err);
            if (!st)
                st = tp_json_skip(r->json, &t, r->err);
        } else if (seen & (1u << i)) {
            return tp_fail(r->err, TP_ERR_FORMAT, "'%s' twice in %s", fields[i].key, what);
        } else {
            seen |= 1u << i;
            st = fields[i].read(r, target, fields[i].key);
        }
        if (st)
            return st;
    }
    for (size_t i = 0; i < count; i++)
        if (fields[i].required && !(seen & (1u << i)))
            return tp_fail(r->err, TP_ERR_FORMAT, "'%s' is missing in %s", fields[i].key, what);
    return TP_OK;
}

enum tp_status tp_fields_objects(struct tp_manifest_reader *r, const char *what,
                                 enum tp_status (*item)(struct tp_manifest_reader *r))
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, what, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (!st && t.type == TP_JSON_ARRAY_END)
            return TP_OK;
        if (!st && t.type != TP_JSON_OBJECT_BEGIN)
            st = tp_fail(r->err, TP_ERR_FORMAT, "expected objects in '%s', found %s", what, tp_json_type_name(t.type));
        if (!st)
            st = item(r);
    }
    return st;
}

enum tp_status tp_fields_uint(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_UINT, key, &t);
    if (!st)
        *(uint64_t *)target = t.uint_value;
    return st;
}

enum tp_status tp_fields_digest(struct tp_manifest_reader *r, struct tp_digest *digest, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    if (!st && !tp_digest_parse(digest, t.text, t.len))
        st = tp_fail(r->err, TP_ERR_FORMAT, "'%s' is not a digest of 32 hexadecimal digits", key);
    return st;
}

enum tp_status tp_fields_text(struct tp_manifest_reader *r, const char **text, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    if (!st && t.has_nul)
        st = tp_fail(r->err, TP_ERR_FORMAT, "NUL in '%s'", key);
    if (!st) {
        *text = tp_arena_strndup(&r->m->arena, t.text, t.len);
        st = *text ? TP_OK : tp_fail_nomem(r->err);
    }
    return st;
}

enum tp_status tp_fields_file_name(struct tp_manifest_reader *r, const char **name, const char *key, bool has_folders)
{
    enum tp_status st = tp_fields_text(r, name, key);
    if (st || (tp_tree_is_name(*name) && !strchr(*name, '\\') && (has_folders || !strchr(*name, '/'))))
        return st;
    char shown[128];
    return tp_fail(r->err, TP_ERR_FORMAT, "'%s' is not the name of a file in this folder",
                   tp_text_printable(shown, sizeof shown, *name, strlen(*name)));
}

enum tp_status tp_fields_bool(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_json_next(r->json, &t, r->err);
    if (!st && t.type != TP_JSON_TRUE && t.type != TP_JSON_FALSE)
        st =
            tp_fail(r->err, TP_ERR_FORMAT, "expected true or false for '%s', found %s", key, tp_json_type_name(t.type));
    if (!st)
        *(bool *)target = t.type == TP_JSON_TRUE;
    return st;
}

bool tp_manifest_has_folders(const struct tp_manifest_reader *r)
{
    return r->m->layout && (strcmp(r->m->layout, "orbax") == 0 || strcmp(r->m->layout, "jax-pytree") == 0);
}
