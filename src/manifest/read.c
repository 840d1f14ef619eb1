/* SPDX-License-Identifier: MIT */
/* Reading manifest.json. It may come from anywhere: every number is checked, unknown keys are skipped, and nothing is
 * believed about the data files (job/verify.c compares with what they really hold). */
#include "manifest/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "os/file.h"
#include "os/tree.h"
#include "tensorport/text.h"

struct reader {
    struct tp_manifest *m;
    struct tp_json *json;
    struct tp_error *err;
};

/* A handler reads the value of one key. `target` is what the enclosing object fills. */
typedef enum tp_status (*value_fn)(struct reader *r, void *target, const char *key);
struct field {
    const char *key;
    value_fn read;
    bool required;
};

static enum tp_status expect(struct reader *r, enum tp_json_type type, const char *what, struct tp_json_token *t)
{
    return tp_json_expect(r->json, type, what, t, r->err);
}

/* The members of an object whose '{' was read: known keys to their handlers, each at most once; others are skipped. */
static enum tp_status read_fields(struct reader *r, const struct field *fields, size_t count, void *target,
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

/* Call `item` for each object of an array of objects. */
static enum tp_status read_objects(struct reader *r, const char *what, enum tp_status (*item)(struct reader *r))
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, what, &t);
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

static enum tp_status read_uint(struct reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_UINT, key, &t);
    if (!st)
        *(uint64_t *)target = t.uint_value;
    return st;
}

static enum tp_status read_digest(struct reader *r, struct tp_digest *digest, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_STRING, key, &t);
    if (!st && !tp_digest_parse(digest, t.text, t.len))
        st = tp_fail(r->err, TP_ERR_FORMAT, "'%s' is not a digest of 32 hexadecimal digits", key);
    return st;
}

static enum tp_status read_text(struct reader *r, const char **text, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_STRING, key, &t);
    if (!st && t.has_nul)
        st = tp_fail(r->err, TP_ERR_FORMAT, "NUL in '%s'", key);
    if (!st) {
        *text = tp_arena_strndup(&r->m->arena, t.text, t.len);
        st = *text ? TP_OK : tp_fail_nomem(r->err);
    }
    return st;
}

/* The name of a file in the folder; only where a layout has folders, below it. */
static enum tp_status read_file_name(struct reader *r, const char **name, const char *key, bool has_folders)
{
    enum tp_status st = read_text(r, name, key);
    if (st || (tp_tree_is_name(*name) && !strchr(*name, '\\') && (has_folders || !strchr(*name, '/'))))
        return st;
    char shown[128];
    return tp_fail(r->err, TP_ERR_FORMAT, "'%s' is not the name of a file in this folder",
                   tp_text_printable(shown, sizeof shown, *name, strlen(*name)));
}

static bool is_orbax(const struct reader *r)
{
    return r->m->layout && strcmp(r->m->layout, "orbax") == 0;
}

/* ---- head ---- */

static enum tp_status read_format(struct reader *r, void *target, const char *key)
{
    (void)target;
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_STRING, key, &t);
    if (!st && (t.len != 10 || memcmp(t.text, "tensorport", 10) != 0))
        st = tp_fail(r->err, TP_ERR_FORMAT, "this manifest.json was not written by TensorPort");
    return st;
}

static enum tp_status read_version(struct reader *r, void *target, const char *key)
{
    (void)target;
    uint64_t version = 0;
    enum tp_status st = read_uint(r, &version, key);
    if (!st && version != TP_MANIFEST_VERSION)
        st = tp_fail(r->err, TP_ERR_UNSUPPORTED, "manifest version %" PRIu64 ", this program reads %u", version,
                     TP_MANIFEST_VERSION);
    return st;
}

static enum tp_status read_layout(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_text(r, &r->m->layout, key);
}

static enum tp_status read_tool(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_text(r, &r->m->tool, key);
}

/* One of a table of names; `name_of` gives NULL beyond the last. */
#define READ_CHOICE(function, type, member, name_of)                                                 \
    static enum tp_status function(struct reader *r, void *target, const char *key)                  \
    {                                                                                                \
        (void)target;                                                                                \
        struct tp_json_token t;                                                                      \
        enum tp_status st = expect(r, TP_JSON_STRING, key, &t);                                      \
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

static enum tp_status read_bool(struct reader *r, void *target, const char *key)
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

static enum tp_status read_shard_size(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_uint(r, &r->m->options.shard_size_bytes, key);
}

static enum tp_status read_globs(struct reader *r, struct tp_glob_list *globs, const char *key)
{
    struct tp_json_token t;
    const char **items = NULL;
    size_t count = 0, capacity = 0;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
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

static enum tp_status read_keep_dtype(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_globs(r, &r->m->options.keep_dtype, key);
}

static enum tp_status read_include(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_globs(r, &r->m->options.include, key);
}

static enum tp_status read_exclude(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_globs(r, &r->m->options.exclude, key);
}

static enum tp_status read_scheme(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_text(r, &r->m->options.dequantize_scheme, key);
}

/* A flag of r->m->options. */
#define READ_FLAG(function, member)                                                 \
    static enum tp_status function(struct reader *r, void *target, const char *key) \
    {                                                                               \
        (void)target;                                                               \
        return read_bool(r, &r->m->options.member, key);                            \
    }
static enum tp_status read_wrap(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_text(r, &r->m->options.wrap, key);
}

READ_FLAG(read_compat, compat)
READ_FLAG(read_ignore_index, ignore_index)
READ_FLAG(read_mxfp4_out_in, mxfp4_out_in)
READ_FLAG(read_mxfp4_positive_zero, mxfp4_positive_zero)
READ_FLAG(read_f16_first, decode_f16_first)
READ_FLAG(read_nan_scales, nan_scales)

static enum tp_status read_dequantize(struct reader *r, void *target, const char *key)
{
    static const struct field fields[] = {{"scheme", read_scheme, false},
                                          {"mxfp4_out_in", read_mxfp4_out_in, true},
                                          {"mxfp4_positive_zero", read_mxfp4_positive_zero, true},
                                          {"decode_f16_first", read_f16_first, true},
                                          {"nan_scales", read_nan_scales, true}};
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    r->m->options.dequantize = true;
    return st ? st : read_fields(r, fields, TP_COUNT_OF(fields), target, key);
}

static enum tp_status read_in_place(struct reader *r, void *target, const char *key)
{
    (void)target;
    bool in_place = false;
    enum tp_status st = read_bool(r, &in_place, key);
    r->m->options.orbax.link = in_place ? TP_LINK_IN_PLACE : TP_LINK_AUTO;
    return st;
}

/* Of these only what job/outdir.c must know. */
static enum tp_status read_orbax(struct reader *r, void *target, const char *key)
{
    static const struct field fields[] = {{"in_place", read_in_place, false}};
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : read_fields(r, fields, TP_COUNT_OF(fields), target, key);
}

static const struct field option_fields[] = {
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
    {"orbax", read_orbax, false},
};

static enum tp_status read_options(struct reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : read_fields(r, option_fields, TP_COUNT_OF(option_fields), target, key);
}

/* ---- source ---- */

static enum tp_status read_source_name(struct reader *r, void *target, const char *key)
{
    return read_file_name(r, &((struct tp_manifest_source *)target)->name, key, true);
}

static enum tp_status read_source_size(struct reader *r, void *target, const char *key)
{
    return read_uint(r, &((struct tp_manifest_source *)target)->size_bytes, key);
}

static enum tp_status read_header_size(struct reader *r, void *target, const char *key)
{
    return read_uint(r, &((struct tp_manifest_source *)target)->header_bytes, key);
}

static enum tp_status read_header_digest(struct reader *r, void *target, const char *key)
{
    return read_digest(r, &((struct tp_manifest_source *)target)->print.header, key);
}

static enum tp_status read_sample_digest(struct reader *r, void *target, const char *key)
{
    return read_digest(r, &((struct tp_manifest_source *)target)->print.sample, key);
}

static enum tp_status read_source_file(struct reader *r)
{
    static const struct field fields[] = {{"name", read_source_name, true},
                                          {"size", read_source_size, true},
                                          {"header_size", read_header_size, true},
                                          {"header_xxh3", read_header_digest, true},
                                          {"sample_xxh3", read_sample_digest, true}};
    struct tp_manifest_source file = {.name = NULL};
    struct tp_manifest *m = r->m;
    enum tp_status st = read_fields(r, fields, TP_COUNT_OF(fields), &file, "source.files");
    if (st)
        return st;
    if (file.header_bytes > file.size_bytes)
        return tp_fail(r->err, TP_ERR_FORMAT, "'header_size' is %" PRIu64 ", the file has %" PRIu64 " bytes",
                       file.header_bytes, file.size_bytes);
    if (!tp_array_grow(&m->sources, &m->source_capacity, m->source_count + 1, sizeof *m->sources))
        return tp_fail_nomem(r->err);
    m->sources[m->source_count++] = file;
    return TP_OK;
}

static enum tp_status read_source_files(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_objects(r, key, read_source_file);
}

static enum tp_status read_source(struct reader *r, void *target, const char *key)
{
    static const struct field fields[] = {{"files", read_source_files, true}};
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : read_fields(r, fields, TP_COUNT_OF(fields), target, key);
}

/* ---- files ---- */

static enum tp_status read_name(struct reader *r, void *target, const char *key)
{
    return read_file_name(r, &((struct tp_manifest_file *)target)->name, key, is_orbax(r));
}

static enum tp_status read_size(struct reader *r, void *target, const char *key)
{
    return read_uint(r, &((struct tp_manifest_file *)target)->size_bytes, key);
}

static enum tp_status read_framing(struct reader *r, void *target, const char *key)
{
    ((struct tp_manifest_file *)target)->has_framing = true;
    return read_digest(r, &((struct tp_manifest_file *)target)->framing, key);
}

static enum tp_status read_link_source(struct reader *r, void *target, const char *key)
{
    uint64_t source = 0;
    enum tp_status st = read_uint(r, &source, key);
    if (!st && source >= r->m->source_count)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'source' is %" PRIu64 ", there are %zu", source, r->m->source_count);
    ((struct tp_manifest_file *)target)->source = (uint32_t)source;
    return st;
}

static enum tp_status read_sha256(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_file *file = target;
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_STRING, key, &t);
    if (!st && t.len != TP_SHA256_HEX - 1)
        return tp_fail(r->err, TP_ERR_FORMAT, "'sha256' is not 64 hexadecimal digits");
    if (!st)
        memcpy(file->sha256, t.text, TP_SHA256_HEX - 1);
    return st;
}

static enum tp_status read_file(struct reader *r)
{
    static const struct field fields[] = {{"name", read_name, true},
                                          {"size", read_size, true},
                                          {"framing_xxh3", read_framing, false},
                                          {"source", read_link_source, false},
                                          {"sha256", read_sha256, false}};
    struct tp_manifest *m = r->m;
    if (m->file_count >= TP_FILES_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "more than %u files", TP_FILES_MAX);
    if (!tp_array_grow(&m->files, &m->file_capacity, m->file_count + 1, sizeof *m->files))
        return tp_fail_nomem(r->err);
    struct tp_manifest_file *file = &m->files[m->file_count++];
    *file = (struct tp_manifest_file){.source = TP_NONE};
    enum tp_status st = read_fields(r, fields, TP_COUNT_OF(fields), file, "files");
    if (st)
        return st;
    if (file->source == TP_NONE && !file->has_framing)
        return tp_fail(r->err, TP_ERR_FORMAT, "'framing_xxh3' is missing in files");
    if (file->source != TP_NONE && file->size_bytes != m->sources[file->source].size_bytes)
        return tp_fail(r->err, TP_ERR_FORMAT, "a linked file of %" PRIu64 " bytes, its source has %" PRIu64,
                       file->size_bytes, m->sources[file->source].size_bytes);
    return TP_OK;
}

static enum tp_status read_files(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_objects(r, key, read_file);
}

static enum tp_status read_side_name(struct reader *r, void *target, const char *key)
{
    return read_file_name(r, &((struct tp_side_file *)target)->name, key, is_orbax(r));
}

static enum tp_status read_side_size(struct reader *r, void *target, const char *key)
{
    return read_uint(r, &((struct tp_side_file *)target)->size_bytes, key);
}

static enum tp_status read_side_digest(struct reader *r, void *target, const char *key)
{
    return read_digest(r, &((struct tp_side_file *)target)->digest, key);
}

static enum tp_status read_side_file(struct reader *r)
{
    static const struct field fields[] = {
        {"name", read_side_name, true}, {"size", read_side_size, true}, {"xxh3", read_side_digest, true}};
    struct tp_manifest *m = r->m;
    if (!tp_array_grow(&m->side_files, &m->side_capacity, m->side_count + 1, sizeof *m->side_files))
        return tp_fail_nomem(r->err);
    m->side_files[m->side_count] = (struct tp_side_file){.name = NULL};
    return read_fields(r, fields, TP_COUNT_OF(fields), &m->side_files[m->side_count++], "side_files");
}

static enum tp_status read_side_files(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_objects(r, key, read_side_file);
}

/* ---- arrays ---- */

static enum tp_status read_path(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    char path[TP_NAME_MAX_BYTES];
    size_t used = 0, keys = 0;
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    for (; !st; keys++) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_STRING || t.has_nul || t.len + used + (keys > 0) > sizeof path)
            return tp_fail(r->err, TP_ERR_FORMAT, "'path' must be a list of keys, together at most %u bytes",
                           TP_NAME_MAX_BYTES);
        if (keys > 0)
            path[used++] = '\0';
        memcpy(path + used, t.text, t.len);
        used += t.len;
    }
    if (st)
        return st;
    if (keys == 0)
        return tp_fail(r->err, TP_ERR_FORMAT, "'path' is empty");
    a->path = tp_arena_strndup(&r->m->arena, path, used);
    a->path_len = (uint16_t)used;
    return a->path ? TP_OK : tp_fail_nomem(r->err);
}

static enum tp_status read_dtype(struct reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_STRING, key, &t);
    if (st)
        return st;
    enum tp_dtype dtype = tp_dtype_from_numpy_name(t.text, t.len);
    bool packs = r->m->layout && strcmp(r->m->layout, "safetensors") == 0;
    if (dtype == TP_F4 || dtype == TP_F4_UNPACKED) /* one name for both; in files of arrays it is always one a byte */
        dtype = packs ? TP_F4 : TP_F4_UNPACKED;
    if (dtype == TP_DTYPE_NONE || (tp_dtype_bits(dtype) % 8 != 0 && !packs))
        return tp_fail(r->err, TP_ERR_FORMAT, "unknown dtype");
    ((struct tp_manifest_array *)target)->dtype = (uint8_t)dtype;
    return TP_OK;
}

static enum tp_status read_view(struct reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_STRING, key, &t);
    enum tp_dtype view = st ? TP_DTYPE_NONE : tp_dtype_from_numpy_name(t.text, t.len);
    if (!st && view == TP_DTYPE_NONE)
        st = tp_fail(r->err, TP_ERR_FORMAT, "unknown dtype in 'view'");
    ((struct tp_manifest_array *)target)->view = (uint8_t)view;
    return st;
}

/* A list of sizes, kept in the arena, and their product. */
static enum tp_status read_sizes(struct reader *r, const uint64_t **sizes, unsigned *rank, uint64_t *product,
                                 const char *key)
{
    uint64_t found[TP_RANK_MAX];
    struct tp_json_token t;
    *product = 1;
    *rank = 0;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_UINT || *rank == TP_RANK_MAX || TP_MUL_OVERFLOW(*product, t.uint_value, product) ||
            *product > INT64_MAX / 8)
            return tp_fail(r->err, TP_ERR_FORMAT, "'%s' must be a list of at most %u sizes", key, TP_RANK_MAX);
        found[(*rank)++] = t.uint_value;
    }
    if (st)
        return st;
    uint64_t *kept = tp_arena_alloc(&r->m->arena, *rank * sizeof *kept);
    if (!kept)
        return tp_fail_nomem(r->err);
    memcpy(kept, found, *rank * sizeof *kept);
    *sizes = kept;
    return TP_OK;
}

static enum tp_status read_shape(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    unsigned rank;
    enum tp_status st = read_sizes(r, &a->shape, &rank, &a->elem_count, key);
    a->rank = (uint8_t)rank;
    return st;
}

static enum tp_status read_bound(struct reader *r, double *bound, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_json_next(r->json, &t, r->err);
    if (st || t.type == TP_JSON_NULL)
        return st;
    if (t.type != TP_JSON_UINT && t.type != TP_JSON_NUMBER)
        return tp_fail(r->err, TP_ERR_FORMAT, "expected a number or null for '%s', found %s", key,
                       tp_json_type_name(t.type));
    *bound = t.type == TP_JSON_UINT ? (double)t.uint_value : t.number_value;
    return TP_OK;
}

static enum tp_status read_min(struct reader *r, void *target, const char *key)
{
    return read_bound(r, &((struct tp_manifest_array *)target)->min, key);
}

static enum tp_status read_max(struct reader *r, void *target, const char *key)
{
    return read_bound(r, &((struct tp_manifest_array *)target)->max, key);
}

static enum tp_status read_stats(struct reader *r, void *target, const char *key)
{
    static const struct field fields[] = {{"min", read_min, false}, {"max", read_max, false}};
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : read_fields(r, fields, TP_COUNT_OF(fields), target, key);
}

static enum tp_status read_extent_file(struct reader *r, void *target, const char *key)
{
    uint64_t file = 0;
    enum tp_status st = read_uint(r, &file, key);
    if (!st && file >= r->m->file_count)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'file' is %" PRIu64 ", there are %zu (listed before the arrays)", file,
                     r->m->file_count);
    ((struct tp_manifest_extent *)target)->file = (uint32_t)file;
    return st;
}

static enum tp_status read_extent_offset(struct reader *r, void *target, const char *key)
{
    return read_uint(r, &((struct tp_manifest_extent *)target)->offset_bytes, key);
}

static enum tp_status read_extent_length(struct reader *r, void *target, const char *key)
{
    return read_uint(r, &((struct tp_manifest_extent *)target)->length_bytes, key);
}

static enum tp_status read_extent_elements(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_extent *e = target;
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    if (!st)
        st = read_uint(r, &e->first_elem, key);
    if (!st)
        st = read_uint(r, &e->end_elem, key);
    return st ? st : expect(r, TP_JSON_ARRAY_END, key, &t);
}

static enum tp_status read_extent_digests(struct reader *r, void *target, const char *key)
{
    struct tp_manifest *m = r->m;
    struct tp_manifest_extent *e = target;
    struct tp_json_token t;
    e->first_digest = m->digest_count;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (!tp_array_grow(&m->digests, &m->digest_capacity, m->digest_count + 1, sizeof *m->digests))
            return tp_fail_nomem(r->err);
        if (t.type != TP_JSON_STRING || !tp_digest_parse(&m->digests[m->digest_count], t.text, t.len))
            return tp_fail(r->err, TP_ERR_FORMAT, "'%s' must be a list of digests of 32 hexadecimal digits", key);
        m->digest_count++;
        e->digest_count++;
    }
    return st;
}

static enum tp_status read_extent(struct reader *r)
{
    static const struct field fields[] = {{"file", read_extent_file, true},
                                          {"offset", read_extent_offset, true},
                                          {"length", read_extent_length, true},
                                          {"elements", read_extent_elements, false},
                                          {"xxh3", read_extent_digests, false}};
    struct tp_manifest *m = r->m;
    if (!tp_array_grow(&m->extents, &m->extent_capacity, m->extent_count + 1, sizeof *m->extents))
        return tp_fail_nomem(r->err);
    m->extents[m->extent_count] = (struct tp_manifest_extent){.first_elem = UINT64_MAX};
    return read_fields(r, fields, TP_COUNT_OF(fields), &m->extents[m->extent_count++], "extents");
}

static enum tp_status read_extents(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    a->first_extent = (uint32_t)r->m->extent_count;
    enum tp_status st = read_objects(r, key, read_extent);
    a->extent_count = (uint32_t)(r->m->extent_count - a->first_extent);
    return st;
}

static enum tp_status read_chunk(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    uint64_t elem_count;
    unsigned rank;
    enum tp_status st = read_sizes(r, &a->chunk, &rank, &elem_count, key);
    if (!st && rank != a->rank)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'chunk' has %u axes, 'shape' before it %u", rank, (unsigned)a->rank);
    for (unsigned i = 0; !st && i < rank; i++)
        if (a->chunk[i] == 0)
            st = tp_fail(r->err, TP_ERR_FORMAT, "'chunk' has a size of 0");
    return st;
}

static enum tp_status read_order(struct reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    uint8_t order[TP_RANK_MAX];
    unsigned rank = 0;
    uint64_t seen = 0;
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_UINT || rank == a->rank || t.uint_value >= a->rank || (seen >> t.uint_value & 1))
            return tp_fail(r->err, TP_ERR_FORMAT, "'order' must list each axis of 'shape' once");
        seen |= UINT64_C(1) << t.uint_value;
        order[rank++] = (uint8_t)t.uint_value;
    }
    if (!st && rank != a->rank)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'order' must list each axis of 'shape' once");
    if (st || rank == 0)
        return st;
    uint8_t *kept = tp_arena_alloc(&r->m->arena, rank);
    if (!kept)
        return tp_fail_nomem(r->err);
    memcpy(kept, order, rank);
    a->order = kept;
    return TP_OK;
}

/* One extent, whatever it holds: its length, its place, its digests. `bytes`: what it must have. */
static enum tp_status check_extent(struct reader *r, const struct tp_manifest_extent *e, uint64_t bytes)
{
    const struct tp_manifest_file *file = &r->m->files[e->file];
    uint64_t blocks = file->source != TP_NONE ? 0 : (e->length_bytes + TP_BLOCK_BYTES - 1) / TP_BLOCK_BYTES;
    if (e->length_bytes != bytes)
        return tp_fail(r->err, TP_ERR_FORMAT, "an extent of %" PRIu64 " bytes holds elements of %" PRIu64,
                       e->length_bytes, bytes);
    if (e->offset_bytes > file->size_bytes || e->length_bytes > file->size_bytes - e->offset_bytes)
        return tp_fail(r->err, TP_ERR_FORMAT,
                       "an extent of %" PRIu64 " bytes at %" PRIu64 " is outside its file of %" PRIu64, e->length_bytes,
                       e->offset_bytes, file->size_bytes);
    if (e->digest_count != blocks)
        return tp_fail(r->err, TP_ERR_FORMAT, "%u digests for %" PRIu64 " blocks", e->digest_count, blocks);
    return TP_OK;
}

/* Chunks: one extent each, row-major over the grid. */
static enum tp_status check_chunks(struct reader *r, const struct tp_manifest_array *a)
{
    uint64_t chunks = 1, elems = 1, bytes;
    bool fits = true;
    for (unsigned i = 0; i < a->rank; i++) {
        uint64_t along = a->shape[i] / a->chunk[i] + (a->shape[i] % a->chunk[i] != 0);
        fits = fits && !TP_MUL_OVERFLOW(chunks, along, &chunks) && !TP_MUL_OVERFLOW(elems, a->chunk[i], &elems);
    }
    fits = fits && !TP_MUL_OVERFLOW(elems, (uint64_t)tp_dtype_bits((enum tp_dtype)a->dtype) / 8, &bytes);
    if (!fits || chunks != a->extent_count)
        return tp_fail(r->err, TP_ERR_FORMAT, "%" PRIu32 " extents are not the chunks of its shape", a->extent_count);
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < a->extent_count && !st; i++)
        st = check_extent(r, &r->m->extents[a->first_extent + i], bytes);
    return st;
}

/* The extents tile the array in element order, lie in their files, and have the digests their length needs. */
static enum tp_status check_extents(struct reader *r, const struct tp_manifest_array *a)
{
    struct tp_manifest *m = r->m;
    uint64_t next = 0, bits = tp_dtype_bits((enum tp_dtype)a->dtype);
    if (a->chunk)
        return check_chunks(r, a);
    for (uint32_t i = 0; i < a->extent_count; i++) {
        struct tp_manifest_extent *e = &m->extents[a->first_extent + i];
        if (e->first_elem == UINT64_MAX) {
            e->first_elem = 0;
            e->end_elem = a->elem_count;
        }
        if (e->first_elem != next || e->end_elem < next || e->end_elem > a->elem_count)
            return tp_fail(r->err, TP_ERR_FORMAT, "extents do not follow each other at element %" PRIu64, next);
        uint64_t elems = e->end_elem - e->first_elem;
        enum tp_status st = check_extent(r, e, bits < 8 ? (elems * bits + 7) / 8 : elems * (bits / 8));
        if (st)
            return st;
        next = e->end_elem;
    }
    if (next != a->elem_count || (a->extent_count == 0 && !is_orbax(r)))
        return tp_fail(r->err, TP_ERR_FORMAT, "extents end at element %" PRIu64 " of %" PRIu64, next, a->elem_count);
    return TP_OK;
}

static enum tp_status read_array(struct reader *r)
{
    static const struct field fields[] = {{"path", read_path, true},    {"dtype", read_dtype, true},
                                          {"shape", read_shape, true},  {"view", read_view, false},
                                          {"chunk", read_chunk, false}, {"order", read_order, false},
                                          {"stats", read_stats, false}, {"extents", read_extents, true}};
    struct tp_manifest *m = r->m;
    struct tp_manifest_array a = {.min = INFINITY, .max = -INFINITY, .view = TP_DTYPE_NONE};
    enum tp_status st = read_fields(r, fields, TP_COUNT_OF(fields), &a, "arrays");
    if (!st)
        st = check_extents(r, &a);
    if (!st && !tp_array_grow(&m->arrays, &m->array_capacity, m->array_count + 1, sizeof *m->arrays))
        st = tp_fail_nomem(r->err);
    if (!st)
        m->arrays[m->array_count++] = a;
    else if (st == TP_ERR_FORMAT && a.path) {
        char name[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(name, a.path, a.path_len, '/');
        tp_err_tensor(r->err, st, name, a.path_len);
    }
    return st;
}

static enum tp_status read_arrays(struct reader *r, void *target, const char *key)
{
    (void)target;
    return read_objects(r, key, read_array);
}

/* ---- the whole ---- */

static const struct field manifest_fields[] = {
    {"format", read_format, true}, {"version", read_version, true}, {"tool", read_tool, false},
    {"layout", read_layout, true}, {"tree", read_tree, true},       {"options", read_options, true},
    {"source", read_source, true}, {"files", read_files, true},     {"side_files", read_side_files, true},
    {"arrays", read_arrays, true},
};

struct file_text {
    int fd;
    const char *path;
    uint64_t at, size;
};

static enum tp_status read_more(void *user, char *dst, size_t cap, size_t *got, struct tp_error *err)
{
    struct file_text *f = user;
    uint64_t rest = f->size - f->at;
    *got = rest < cap ? (size_t)rest : cap;
    enum tp_status st = tp_file_read_at(f->fd, dst, *got, f->at, f->path, err);
    f->at += *got;
    return st;
}

static enum tp_status read_manifest(struct reader *r)
{
    struct tp_json_token t;
    enum tp_status st = expect(r, TP_JSON_OBJECT_BEGIN, "manifest", &t);
    if (!st)
        st = read_fields(r, manifest_fields, TP_COUNT_OF(manifest_fields), r->m, "the manifest");
    return st ? st : expect(r, TP_JSON_END, "end of the manifest", &t);
}

enum tp_status tp_manifest_read(struct tp_manifest *m, const char *path, struct tp_error *err)
{
    *m = (struct tp_manifest){.file_count = 0};
    struct file_text text = {.fd = -1, .path = path};
    struct tp_file_id id;
    struct reader r = {.m = m, .err = err};
    enum tp_status st = tp_file_open_read(&text.fd, path, &id, err);
    if (!st) {
        text.size = id.size_bytes;
        st = tp_json_open(&r.json, read_more, &text, "manifest", TP_NAME_MAX_BYTES, err);
    }
    if (!st)
        st = read_manifest(&r);
    if (st)
        tp_err_path(err, st, path);
    tp_json_close(r.json);
    tp_fd_close(text.fd);
    if (st)
        tp_manifest_release(m);
    return st;
}

void tp_manifest_release(struct tp_manifest *m)
{
    free(m->files);
    free(m->side_files);
    free(m->arrays);
    free(m->extents);
    free(m->digests);
    free(m->sources);
    tp_arena_release(&m->arena);
    *m = (struct tp_manifest){.file_count = 0};
}
