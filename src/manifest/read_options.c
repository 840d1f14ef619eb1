/* SPDX-License-Identifier: MIT */
/* The "options" of a manifest: those that shaped the bytes, for deriving them again. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "manifest/fields.h"

/* One of a table of names; `name_of` gives NULL beyond the last. */
#define READ_CHOICE(function, type, member, name_of)                                                 \
    static enum tp_status function(struct tp_manifest_reader *r, void *target, const char *key)      \
    {                                                                                                \
        (void)target;                                                                                \
        struct tp_json_token t;                                                                      \
        enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);                            \
        if (st)                                                                                      \
            return st;                                                                               \
        for (int i = 0; name_of((type)i); i++) {                                                     \
            if (strlen(name_of((type)i)) == t.len && memcmp(name_of((type)i), t.text, t.len) == 0) { \
                r->m->options.member = (type)i;                                                      \
                return TP_OK;                                                                        \
            }                                                                                        \
        }                                                                                            \
        return tp_fail(r->err, TP_ERR_FORMAT, "unknown value of '%s'", key);                         \
    }
READ_CHOICE(read_tree, enum tp_tree, tree, tp_tree_name)
READ_CHOICE(read_precision, enum tp_precision, precision, tp_precision_name)
READ_CHOICE(read_overflow, enum tp_overflow, on_overflow, tp_overflow_name)
READ_CHOICE(read_oversize, enum tp_oversize, oversize, tp_oversize_name)

/* Kept among the options, though it stands beside them. */
enum tp_status tp_manifest_read_tree(struct tp_manifest_reader *r, void *target, const char *key)
{
    return read_tree(r, target, key);
}

static enum tp_status read_shard_size(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_uint(r, &r->m->options.shard_size_bytes, key);
}

static enum tp_status read_globs(struct tp_manifest_reader *r, struct tp_glob_list *globs, const char *key)
{
    struct tp_json_token t;
    const char **items = NULL;
    size_t count = 0, capacity = 0;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_STRING || t.has_nul)
            st = tp_fail(r->err, TP_ERR_FORMAT, "expected strings in '%s'", key);
        else if (!tp_array_grow(&items, &capacity, count + 1, sizeof *items) ||
                 !(items[count++] = tp_arena_strndup(&r->m->arena, t.text, t.len)))
            st = tp_fail_nomem(r->err);
    }
    const char **kept = st ? NULL : tp_arena_alloc(&r->m->arena, count * sizeof *kept);
    if (!st && !kept)
        st = tp_fail_nomem(r->err);
    if (!st && count > 0)
        memcpy(kept, items, count * sizeof *kept);
    free(items);
    if (!st)
        *globs = (struct tp_glob_list){kept, count};
    return st;
}

static enum tp_status read_keep_dtype(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return read_globs(r, &r->m->options.keep_dtype, key);
}

static enum tp_status read_include(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return read_globs(r, &r->m->options.include, key);
}

static enum tp_status read_exclude(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return read_globs(r, &r->m->options.exclude, key);
}

static enum tp_status read_scheme(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_text(r, &r->m->options.dequantize_scheme, key);
}

/* A flag of r->m->options. */
#define READ_FLAG(function, member)                                                             \
    static enum tp_status function(struct tp_manifest_reader *r, void *target, const char *key) \
    {                                                                                           \
        (void)target;                                                                           \
        return tp_fields_bool(r, &r->m->options.member, key);                                   \
    }
static enum tp_status read_wrap(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_text(r, &r->m->options.wrap, key);
}

/* The text of a map, which is longer than any name. */
static enum tp_status read_map(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    struct tp_json_token t;
    tp_json_set_string_max(r->json, TP_MAP_TEXT_MAX);
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    tp_json_set_string_max(r->json, TP_NAME_MAX_BYTES);
    if (!st && r->m->map)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'%s' stands twice", key);
    if (!st)
        st = tp_map_parse(&r->m->map, t.text, t.len, NULL, r->err);
    r->m->options.map = r->m->map;
    return st;
}

/* That there was one is all that is known of it. */
static enum tp_status read_original(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    bool was_given = false;
    enum tp_status st = tp_fields_bool(r, &was_given, key);
    r->m->options.original = was_given ? "" : NULL;
    return st;
}

READ_FLAG(read_reverse, reverse)
READ_FLAG(read_compat, compat)
READ_FLAG(read_ignore_index, ignore_index)
READ_FLAG(read_mxfp4_out_in, mxfp4_out_in)
READ_FLAG(read_mxfp4_positive_zero, mxfp4_positive_zero)
READ_FLAG(read_f16_first, decode_f16_first)
READ_FLAG(read_nan_scales, nan_scales)

static enum tp_status read_dequantize(struct tp_manifest_reader *r, void *target, const char *key)
{
    static const struct tp_field fields[] = {{"scheme", read_scheme, false},
                                             {"mxfp4_out_in", read_mxfp4_out_in, true},
                                             {"mxfp4_positive_zero", read_mxfp4_positive_zero, true},
                                             {"decode_f16_first", read_f16_first, true},
                                             {"nan_scales", read_nan_scales, true}};
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    r->m->options.dequantize = true;
    return st ? st : tp_fields_read(r, fields, TP_COUNT_OF(fields), target, key);
}

static enum tp_status read_in_place(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    bool in_place = false;
    enum tp_status st = tp_fields_bool(r, &in_place, key);
    r->m->options.orbax.link = in_place ? TP_LINK_IN_PLACE : TP_LINK_AUTO;
    return st;
}

/* Of these only what job/outdir.c must know. */
static enum tp_status read_orbax(struct tp_manifest_reader *r, void *target, const char *key)
{
    static const struct tp_field fields[] = {{"in_place", read_in_place, false}};
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : tp_fields_read(r, fields, TP_COUNT_OF(fields), target, key);
}

static const struct tp_field option_fields[] = {
    {"precision", read_precision, true},
    {"on_overflow", read_overflow, true},
    {"oversize", read_oversize, true},
    {"shard_size", read_shard_size, true},
    {"compat", read_compat, true},
    {"ignore_index", read_ignore_index, true},
    {"keep_dtype", read_keep_dtype, true},
    {"include", read_include, true},
    {"exclude", read_exclude, true},
    {"dequantize", read_dequantize, false},
    {"wrap", read_wrap, false},
    {"map", read_map, false},
    {"reverse", read_reverse, false},
    {"original", read_original, false},
    {"orbax", read_orbax, false},
};

enum tp_status tp_manifest_read_options(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : tp_fields_read(r, option_fields, TP_COUNT_OF(option_fields), target, key);
}
