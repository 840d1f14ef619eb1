/* SPDX-License-Identifier: MIT */
#include "job/tree_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/json_file.h"
#include "tensorport/checkpoint.h"

struct reader {
    struct tp_json *json;
    struct tp_arena *arena;
    struct tp_map_expected *leaves;
    size_t count, capacity;
    struct tp_error *err;
};

static bool text_is(const struct tp_json_token *token, const char *text)
{
    return token->len == strlen(text) && memcmp(token->text, text, token->len) == 0;
}

static enum tp_status refuse(const struct reader *r, const char *leaf, const char *what)
{
    char shown[TP_NAME_TEXT];
    return tp_fail(r->err, TP_ERR_FORMAT, "leaf '%s' %s", tp_describe_name(shown, leaf, strlen(leaf)), what);
}

static enum tp_status read_shape(struct reader *r, struct tp_map_expected *leaf)
{
    uint64_t shape[TP_RANK_MAX];
    unsigned rank = 0;
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_ARRAY_BEGIN, "'shape'", &token, r->err);
    while (!st) {
        st = tp_json_next(r->json, &token, r->err);
        if (st || token.type == TP_JSON_ARRAY_END)
            break;
        if (token.type != TP_JSON_UINT)
            return refuse(r, leaf->path, "has a shape that is no list of whole numbers");
        if (rank == TP_RANK_MAX)
            return refuse(r, leaf->path, "has more axes than any tensor that is read");
        shape[rank++] = token.uint_value;
    }
    uint64_t *kept = st ? NULL : tp_arena_alloc(r->arena, (rank + 1u) * sizeof *kept);
    if (!kept)
        return st ? st : tp_fail_nomem(r->err);
    memcpy(kept, shape, rank * sizeof *kept);
    leaf->shape = kept;
    leaf->rank = (uint8_t)rank;
    return TP_OK;
}

static enum tp_status read_dtype(struct reader *r, struct tp_map_expected *leaf)
{
    struct tp_json_token token;
    char shown[TP_NAME_TEXT];
    enum tp_status st = tp_json_expect(r->json, TP_JSON_STRING, "'dtype'", &token, r->err);
    if (st)
        return st;
    leaf->dtype = (uint8_t)tp_dtype_from_numpy_name(token.text, token.len);
    if (leaf->dtype != TP_DTYPE_NONE)
        return TP_OK;
    return tp_fail(r->err, TP_ERR_FORMAT, "there is no dtype '%s'; NumPy's names are meant: float32, bfloat16, ...",
                   tp_describe_name(shown, token.text, token.len));
}

/* {"shape": [...], "dtype": "..."}: other members belong to whoever wrote them. */
static enum tp_status read_leaf(struct reader *r, struct tp_map_expected *leaf)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_OBJECT_BEGIN, "a leaf", &token, r->err);
    while (!st) {
        st = tp_json_next(r->json, &token, r->err);
        if (st || token.type == TP_JSON_OBJECT_END)
            break;
        if (text_is(&token, "shape")) {
            st = read_shape(r, leaf);
        } else if (text_is(&token, "dtype")) {
            st = read_dtype(r, leaf);
        } else {
            st = tp_json_next(r->json, &token, r->err);
            if (!st)
                st = tp_json_skip(r->json, &token, r->err);
        }
    }
    return !st && !leaf->shape ? refuse(r, leaf->path, "has no \"shape\"") : st;
}

static enum tp_status begin_leaf(struct reader *r, const struct tp_json_token *key)
{
    if (key->cut || key->has_nul)
        return tp_fail(r->err, TP_ERR_FORMAT, "the path at byte %" PRIu64 " is too long, or holds NUL", key->offset);
    if (!tp_array_grow(&r->leaves, &r->capacity, r->count + 1, sizeof *r->leaves))
        return tp_fail_nomem(r->err);
    struct tp_map_expected *leaf = &r->leaves[r->count++];
    *leaf = (struct tp_map_expected){.dtype = TP_DTYPE_NONE};
    leaf->path = tp_arena_strndup(r->arena, key->text, key->len);
    return leaf->path ? read_leaf(r, leaf) : tp_fail_nomem(r->err);
}

static enum tp_status read_all(struct reader *r)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(r->json, TP_JSON_OBJECT_BEGIN, "the tree", &token, r->err);
    while (!st) {
        st = tp_json_next(r->json, &token, r->err);
        if (st || token.type == TP_JSON_OBJECT_END)
            break;
        st = begin_leaf(r, &token);
    }
    return st ? st : tp_json_next(r->json, &token, r->err); /* nothing behind it */
}

/* Of one path twice neither could be believed. */
static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum tp_status check_distinct(const struct reader *r)
{
    enum tp_status st = TP_OK;
    const char **paths = malloc((r->count + 1) * sizeof *paths);
    if (!paths)
        return tp_fail_nomem(r->err);
    for (size_t i = 0; i < r->count; i++)
        paths[i] = r->leaves[i].path;
    qsort(paths, r->count, sizeof *paths, by_path);
    for (size_t i = 1; i < r->count && !st; i++)
        if (strcmp(paths[i - 1], paths[i]) == 0)
            st = refuse(r, paths[i], "is there twice");
    free(paths);
    return st;
}

enum tp_status tp_tree_file_read(struct tp_map_expected **out, size_t *count, struct tp_arena *arena, const char *path,
                                 struct tp_error *err)
{
    struct tp_json_file file = {.fd = -1};
    struct reader r = {.arena = arena, .err = err};
    enum tp_status st = tp_json_file_open(&file, path, "tree", TP_TREE_FILE_MAX, err);
    r.json = file.json;
    if (!st)
        st = read_all(&r);
    if (!st)
        st = check_distinct(&r);
    tp_json_file_close(&file);
    if (st) {
        free(r.leaves);
        return tp_err_path(err, st, path);
    }
    *out = r.leaves;
    *count = r.count;
    return TP_OK;
}
