/* SPDX-License-Identifier: MIT */
/* _METADATA, token by token: {"tree_metadata": {ANY: {"key_metadata": [{"key", "key_type"}], "value_metadata":
 * {"value_type", "skip_deserialize"}}}, "use_ocdbt", "use_zarr3", "store_array_data_equal_to_fill_value"}. The outer
 * key is Python's spelling of the path and is not looked at, as Orbax does not. */
#include "checkpoint/orbax_tree.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/json_file.h"
#include "tensorport/text.h"

#define METADATA_MAX_BYTES ((uint64_t)1 << 30) /* 300 bytes a leaf; it is never held whole */
#define SKIPPED_SHOWN 8u

enum value_kind { VALUE_ARRAY, VALUE_EMPTY, VALUE_TEXT, VALUE_OTHER };

static const struct {
    const char *type;
    enum value_kind kind;
} value_types[] = {
    {"np.ndarray", VALUE_ARRAY}, {"jax.Array", VALUE_ARRAY},  {"scalar", VALUE_ARRAY},
    {"string", VALUE_TEXT}, /* in _strings.json */
    {"None", VALUE_EMPTY},       {"Dict", VALUE_EMPTY},       {"List", VALUE_EMPTY},
    {"Tuple", VALUE_EMPTY},      {"NamedTuple", VALUE_EMPTY},
};

struct reader {
    struct tp_orbax_tree *tree;
    struct tp_checkpoint *ck;
    struct tp_json *json;
    struct tp_error *err;
    /* the leaf at hand */
    char name[TP_NAME_MAX_BYTES + 1];
    size_t name_len;
    unsigned depth; /* keys in it */
    bool has_keys, has_value, is_skipped;
    char type[64];
};

static bool is(const struct tp_json_token *token, const char *text)
{
    return token->len == strlen(text) && memcmp(token->text, text, token->len) == 0;
}

static struct tp_name key_of(const void *table, uint32_t id)
{
    const struct tp_orbax_array *a = (const struct tp_orbax_array *)table + id;
    return (struct tp_name){a->key, a->key_len};
}

static enum tp_status bad(struct reader *r, const char *what)
{
    tp_fail(r->err, TP_ERR_FORMAT, "%s", what);
    return r->name_len > 0 ? tp_err_tensor(r->err, TP_ERR_FORMAT, r->name, r->name_len) : TP_ERR_FORMAT;
}

/* ---- members of objects ---- */

struct member {
    const char *key;
    enum tp_status (*read)(struct reader *r);
    bool is_required;
};

/* An object whose '{' has been read: each member that is known at most once, the others stepped over. */
static enum tp_status read_members(struct reader *r, const struct member *members, size_t count, const char *where)
{
    struct tp_json_token token;
    unsigned seen = 0;
    enum tp_status st;
    while (!(st = tp_json_next(r->json, &token, r->err)) && token.type != TP_JSON_OBJECT_END) {
        size_t i = 0;
        while (i < count && !is(&token, members[i].key))
            i++;
        if (i < count && seen & 1u << i)
            return tp_fail(r->err, TP_ERR_FORMAT, "%s: '%s' occurs twice", where, members[i].key);
        seen |= i < count ? 1u << i : 0;
        if (i < count)
            st = members[i].read(r);
        else if (!(st = tp_json_next(r->json, &token, r->err)))
            st = tp_json_skip(r->json, &token, r->err);
        if (st)
            return st;
    }
    for (size_t i = 0; !st && i < count; i++)
        if (members[i].is_required && !(seen & 1u << i))
            return tp_fail(r->err, TP_ERR_FORMAT, "%s: '%s' is missing", where, members[i].key);
    return st;
}

static enum tp_status read_truth(struct reader *r, const char *what, int *value)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_next(r->json, &token, r->err);
    if (st || token.type == TP_JSON_NULL)
        return st;
    if (token.type != TP_JSON_TRUE && token.type != TP_JSON_FALSE)
        return tp_fail(r->err, TP_ERR_FORMAT, "expected true or false for '%s', found %s", what,
                       tp_json_type_name(token.type));
    *value = token.type == TP_JSON_TRUE;
    return TP_OK;
}

/* ---- a leaf ---- */

static enum tp_status read_key(struct reader *r)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_STRING, "a key of the tree", &token, r->err);
    size_t dot = r->depth > 0 ? 1 : 0;
    if (st)
        return st;
    if (token.has_nul)
        return bad(r, "a key of the tree contains a NUL character");
    if (token.cut || r->name_len + dot + token.len > TP_NAME_MAX_BYTES)
        return tp_fail(r->err, TP_ERR_LIMIT, "a path in the tree is longer than %u bytes", TP_NAME_MAX_BYTES);
    if (dot)
        r->name[r->name_len++] = '.';
    memcpy(r->name + r->name_len, token.text, token.len);
    r->name_len += token.len;
    r->depth++;
    return TP_OK;
}

static enum tp_status read_key_type(struct reader *r)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_UINT, "key_type", &token, r->err);
    if (!st && token.uint_value != 1 && token.uint_value != 2)
        st = tp_fail(r->err, TP_ERR_UNSUPPORTED, "key_type %" PRIu64 " is not known: 1 is a list, 2 a dict",
                     token.uint_value);
    return st;
}

static enum tp_status read_keys(struct reader *r)
{
    static const struct member members[] = {{"key", read_key, true}, {"key_type", read_key_type, true}};
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_ARRAY_BEGIN, "key_metadata", &token, r->err);
    r->has_keys = true;
    while (!st && !(st = tp_json_next(r->json, &token, r->err)) && token.type != TP_JSON_ARRAY_END)
        st = token.type == TP_JSON_OBJECT_BEGIN ? read_members(r, members, TP_COUNT_OF(members), "key_metadata")
                                                : bad(r, "key_metadata holds something that is no object");
    return st;
}

static enum tp_status read_type(struct reader *r)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_STRING, "value_type", &token, r->err);
    if (!st)
        tp_text_printable(r->type, sizeof r->type, token.text, token.len);
    return st;
}

static enum tp_status read_skipped(struct reader *r)
{
    int skip = 0;
    enum tp_status st = read_truth(r, "skip_deserialize", &skip);
    r->is_skipped = skip == 1;
    return st;
}

static enum tp_status read_value(struct reader *r)
{
    static const struct member members[] = {{"value_type", read_type, true}, {"skip_deserialize", read_skipped, false}};
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_OBJECT_BEGIN, "value_metadata", &token, r->err);
    r->has_value = true;
    return st ? st : read_members(r, members, TP_COUNT_OF(members), "value_metadata");
}

static enum value_kind kind_of(const struct reader *r)
{
    for (size_t i = 0; i < TP_COUNT_OF(value_types); i++)
        if (strcmp(r->type, value_types[i].type) == 0)
            return r->is_skipped ? VALUE_EMPTY : value_types[i].kind;
    return r->is_skipped ? VALUE_EMPTY : VALUE_OTHER;
}

static enum tp_status skip_leaf(struct reader *r)
{
    char shown[TP_NAME_TEXT];
    if (r->tree->skipped_count++ >= SKIPPED_SHOWN)
        return TP_OK;
    tp_describe_name(shown, r->name, r->name_len);
    return tp_list_add(&r->tree->skipped, "'%s' (%s)", shown, r->type) ? TP_OK : tp_fail_nomem(r->err);
}

static enum tp_status add_array(struct reader *r, bool is_plain_type)
{
    bool is_new = false;
    const char *name = tp_arena_strndup(&r->ck->arena, r->name, r->name_len);
    const char *type = is_plain_type ? "" : tp_arena_strndup(&r->ck->arena, r->type, strlen(r->type));
    if (!name || !type)
        return tp_fail_nomem(r->err);
    const struct tp_orbax_array array = {.name = name,
                                         .name_len = (uint16_t)r->name_len,
                                         .key = name,
                                         .key_len = (uint16_t)r->name_len,
                                         .is_plain_type = is_plain_type,
                                         .type = type};
    enum tp_status st = tp_orbax_tree_add(r->tree, &array, &is_new, r->err);
    return st || is_new ? st : bad(r, "two arrays have this name, once their keys are joined by dots");
}

static enum tp_status read_leaf(struct reader *r)
{
    static const struct member members[] = {{"key_metadata", read_keys, true}, {"value_metadata", read_value, true}};
    struct tp_json_token token;
    r->name_len = 0;
    r->depth = 0;
    r->is_skipped = false;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_OBJECT_BEGIN, "a leaf of the tree", &token, r->err);
    if (!st)
        st = read_members(r, members, TP_COUNT_OF(members), "a leaf of the tree");
    if (st)
        return st;
    r->name[r->name_len] = '\0';
    enum value_kind kind = kind_of(r);
    st = kind == VALUE_ARRAY || kind == VALUE_OTHER ? add_array(r, kind == VALUE_ARRAY) : skip_leaf(r);
    r->name_len = 0;
    return st;
}

/* ---- the whole ---- */

static enum tp_status read_tree(struct reader *r)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_OBJECT_BEGIN, "tree_metadata", &token, r->err);
    while (!st && !(st = tp_json_next(r->json, &token, r->err)) && token.type != TP_JSON_OBJECT_END)
        st = read_leaf(r);
    return st;
}

static enum tp_status read_ocdbt(struct reader *r)
{
    return read_truth(r, "use_ocdbt", &r->tree->use_ocdbt);
}

static enum tp_status read_zarr3(struct reader *r)
{
    int value = 0;
    enum tp_status st = read_truth(r, "use_zarr3", &value);
    r->tree->use_zarr3 = value == 1;
    return st;
}

static enum tp_status read_stores_all(struct reader *r)
{
    int value = 0;
    enum tp_status st = read_truth(r, "store_array_data_equal_to_fill_value", &value);
    r->tree->stores_all = value == 1;
    return st;
}

static enum tp_status read_top(struct reader *r)
{
    static const struct member members[] = {{"tree_metadata", read_tree, true},
                                            {"use_ocdbt", read_ocdbt, false},
                                            {"use_zarr3", read_zarr3, false},
                                            {"store_array_data_equal_to_fill_value", read_stores_all, false}};
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_OBJECT_BEGIN, "_METADATA", &token, r->err);
    if (!st)
        st = read_members(r, members, TP_COUNT_OF(members), "_METADATA");
    return st ? st : tp_json_next(r->json, &token, r->err); /* the end, or a complaint about what follows */
}

enum tp_status tp_orbax_tree_read(struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err)
{
    struct tp_json_file file = {.fd = -1};
    struct reader *r = calloc(1, sizeof *r);
    char *path = tp_path_join(ck->folder, "_METADATA");
    enum tp_status st = r && path ? TP_OK : tp_fail_nomem(err);
    *tree = (struct tp_orbax_tree){.use_ocdbt = -1, .described_in = "_METADATA"};
    if (!st) {
        *r = (struct reader){.tree = tree, .ck = ck, .err = err};
        st = tp_json_file_open(&file, path, "_METADATA", METADATA_MAX_BYTES, err);
    }
    if (!st) {
        r->json = file.json;
        st = read_top(r);
    }
    if (st && path)
        tp_err_path(err, st, path);
    tp_json_file_close(&file);
    free(path);
    free(r);
    return st;
}

void tp_orbax_tree_release(struct tp_orbax_tree *tree)
{
    tp_name_index_release(&tree->keys);
    tp_list_release(&tree->skipped);
    free(tree->arrays);
    *tree = (struct tp_orbax_tree){.use_ocdbt = -1};
}

enum tp_status tp_orbax_tree_add(struct tp_orbax_tree *tree, const struct tp_orbax_array *array, bool *is_new,
                                 struct tp_error *err)
{
    uint32_t found;
    if (tree->count >= UINT32_MAX - 2)
        return tp_fail(err, TP_ERR_LIMIT, "more than 2^32 - 3 arrays");
    if (!tp_array_grow(&tree->arrays, &tree->capacity, tree->count + 1, sizeof *tree->arrays))
        return tp_fail_nomem(err);
    tree->arrays[tree->count] = *array;
    if (!tp_name_index_add(&tree->keys, key_of, tree->arrays, (uint32_t)tree->count, &found))
        return tp_fail_nomem(err);
    *is_new = found == TP_NAME_NONE;
    tree->count += *is_new;
    return TP_OK;
}

struct tp_orbax_array *tp_orbax_tree_find(struct tp_orbax_tree *tree, const char *key, size_t len)
{
    uint32_t id = tp_name_index_find(&tree->keys, key_of, tree->arrays, key, len);
    return id == TP_NAME_NONE ? NULL : &tree->arrays[id];
}
