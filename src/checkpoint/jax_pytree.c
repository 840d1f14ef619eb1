/* SPDX-License-Identifier: MIT */
/* Reading the directories of jax.experimental.array_serialization.pytree_serialization (docs/formats/jax.md), ours and
 * JAX's own: pytreedef.json has the tree and says what each leaf is, array_store/ is a database of the leaves by
 * number, which the files of Orbax's reader read. A chunk that is not there is zeros. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/json_file.h"
#include "checkpoint/orbax_store.h"
#include "codec/base64.h"
#include "codec/ocdbt.h"
#include "codec/treedef.h"
#include "tensorport/text.h"

#define TREE_NAME "pytreedef.json"
#define STORE_NAME "array_store"
#define TREE_MAX_BYTES ((uint64_t)256 << 20) /* 75 bytes a leaf, and its name */

struct reader {
    struct tp_checkpoint *ck;
    struct tp_error *err;
    struct tp_orbax_tree tree;
    uint8_t *structure;
    size_t structure_len;
    const char **leaves; /* what each is said to be, printable; NULL: None */
    size_t leaf_count, leaf_capacity, next_leaf;
    bool has_structure, has_leaves;
};

/* ---- pytreedef.json ---- */

static bool is(const struct tp_json_token *token, const char *text)
{
    return token->len == strlen(text) && memcmp(token->text, text, token->len) == 0;
}

static enum tp_status read_structure(struct reader *r, struct tp_json *json)
{
    struct tp_json_token token;
    tp_json_set_string_max(json, (size_t)TREE_MAX_BYTES);
    enum tp_status st = tp_json_expect(json, TP_JSON_STRING, "__jax_pytreedef_repr", &token, r->err);
    tp_json_set_string_max(json, TP_NAME_MAX_BYTES);
    if (st)
        return st;
    if (r->has_structure)
        return tp_fail(r->err, TP_ERR_FORMAT, "'__jax_pytreedef_repr' occurs twice");
    r->has_structure = true;
    r->structure = malloc(token.len / 4 * 3 + 3);
    if (!r->structure)
        return tp_fail_nomem(r->err);
    return tp_base64_decode(r->structure, &r->structure_len, token.text, token.len)
               ? TP_OK
               : tp_fail(r->err, TP_ERR_FORMAT, "'__jax_pytreedef_repr' is not base64");
}

static enum tp_status add_leaf_text(struct reader *r, const struct tp_json_token *token)
{
    char text[1024];
    if (token->type != TP_JSON_STRING && token->type != TP_JSON_NULL)
        return tp_fail(r->err, TP_ERR_FORMAT, "expected a text or null for a leaf, found %s",
                       tp_json_type_name(token->type));
    if (!tp_array_grow(&r->leaves, &r->leaf_capacity, r->leaf_count + 1, sizeof *r->leaves))
        return tp_fail_nomem(r->err);
    const char **leaf = &r->leaves[r->leaf_count++];
    *leaf = NULL;
    if (token->type == TP_JSON_NULL)
        return TP_OK;
    tp_text_printable(text, sizeof text, token->text, token->len);
    *leaf = tp_arena_strndup(&r->ck->arena, text, strlen(text));
    return *leaf ? TP_OK : tp_fail_nomem(r->err);
}

static enum tp_status read_leaves(struct reader *r, struct tp_json *json)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(json, TP_JSON_ARRAY_BEGIN, "__jax_leaf_ids", &token, r->err);
    if (!st && r->has_leaves)
        return tp_fail(r->err, TP_ERR_FORMAT, "'__jax_leaf_ids' occurs twice");
    r->has_leaves = true;
    while (!st && !(st = tp_json_next(json, &token, r->err)) && token.type != TP_JSON_ARRAY_END)
        st = add_leaf_text(r, &token);
    return st;
}

static enum tp_status read_members(struct reader *r, struct tp_json *json)
{
    struct tp_json_token token;
    enum tp_status st = tp_json_expect(json, TP_JSON_OBJECT_BEGIN, TREE_NAME, &token, r->err);
    while (!st && !(st = tp_json_next(json, &token, r->err)) && token.type != TP_JSON_OBJECT_END) {
        if (is(&token, "__jax_pytreedef_repr"))
            st = read_structure(r, json);
        else if (is(&token, "__jax_leaf_ids"))
            st = read_leaves(r, json);
        else if (!(st = tp_json_next(json, &token, r->err)))
            st = tp_json_skip(json, &token, r->err);
    }
    if (!st)
        st = tp_json_next(json, &token, r->err); /* the end, or a complaint about what follows */
    if (!st && !(r->has_structure && r->has_leaves))
        st = tp_fail(r->err, TP_ERR_FORMAT, "'%s' is missing",
                     r->has_structure ? "__jax_leaf_ids" : "__jax_pytreedef_repr");
    return st;
}

/* ---- the tree ---- */

static enum tp_status see_leaf(void *user, const char *name, size_t len, struct tp_error *err)
{
    struct reader *r = user;
    struct tp_orbax_array array = {.is_plain_type = true, .name_len = (uint16_t)len};
    char number[24];
    bool is_new;
    if (r->next_leaf == r->leaf_count)
        return tp_fail(err, TP_ERR_FORMAT, "the tree has more leaves than the %zu of '__jax_leaf_ids'", r->leaf_count);
    array.type = r->leaves[r->next_leaf];
    array.key_len = (uint16_t)snprintf(number, sizeof number, "%zu", r->next_leaf++);
    if (!array.type)
        return TP_OK;
    array.name = tp_arena_strndup(&r->ck->arena, name, len);
    array.key = tp_arena_strndup(&r->ck->arena, number, array.key_len);
    return array.name && array.key ? tp_orbax_tree_add(&r->tree, &array, &is_new, err) : tp_fail_nomem(err);
}

static enum tp_status read_tree(struct reader *r, const char *folder)
{
    const struct tp_treedef_visitor visitor = {r, see_leaf};
    struct tp_json_file file = {.fd = -1};
    char *path = tp_path_join(folder, TREE_NAME);
    enum tp_status st =
        path ? tp_json_file_open(&file, path, TREE_NAME, TREE_MAX_BYTES, r->err) : tp_fail_nomem(r->err);
    if (!st)
        st = read_members(r, file.json);
    tp_json_file_close(&file);
    if (!st)
        st = tp_treedef_read(r->structure, r->structure_len, &visitor, r->err);
    if (!st && r->next_leaf != r->leaf_count)
        st = tp_fail(r->err, TP_ERR_FORMAT, "the tree has %zu leaves, '__jax_leaf_ids' %zu", r->next_leaf,
                     r->leaf_count);
    if (st && path)
        tp_err_path(r->err, st, path);
    free(path);
    return st;
}

/* ---- the arrays ---- */

/* What jax writes of an array: "Array(float32[4, 3])". */
static void describe_leaf(char *text, size_t cap, const struct tp_orbax_array *a)
{
    size_t used = (size_t)snprintf(text, cap, "Array(%s[", tp_zarr_dtype_name(3, (enum tp_dtype)a->dtype));
    for (unsigned d = 0; d < a->rank; d++)
        used += (size_t)snprintf(text + used, cap - used, "%s%" PRIu64, d ? ", " : "", a->shape[d]);
    snprintf(text + used, cap - used, "])");
}

/* JAX believes the store, and so do we; but somebody may have changed one of them. */
static enum tp_status note_differences(const struct reader *r)
{
    struct tp_name_list names = {.count = 0};
    for (size_t i = 0; i < r->tree.count; i++) {
        const struct tp_orbax_array *a = &r->tree.arrays[i];
        char text[64 + TP_ZARR_RANK_MAX * 22], shown[TP_NAME_TEXT];
        describe_leaf(text, sizeof text, a);
        if (strcmp(text, a->type) != 0)
            tp_name_list_add(&names, tp_describe_name(shown, a->name, a->name_len));
    }
    return names.count == 0 ? TP_OK
                            : tp_checkpoint_note_add(r->ck, r->err,
                                                     "%zu arrays have another dtype or shape in the store, which is "
                                                     "read, than " TREE_NAME " says: %s",
                                                     names.count, tp_name_list_text(&names));
}

static enum tp_status finish_arrays(struct reader *r)
{
    uint32_t file = 0;
    /* Empty arrays lie nowhere, but every tensor has a file. */
    enum tp_status st =
        r->ck->file_count == 0 ? tp_checkpoint_add_file(r->ck, TP_OCDBT_MANIFEST_NAME, &file, r->err) : TP_OK;
    for (size_t i = 0; i < r->tree.count && !st; i++) {
        struct tp_orbax_array *a = &r->tree.arrays[i];
        if (a->is_known) {
            st = tp_orbax_array_finish(a, r->ck, false, r->err);
            continue;
        }
        tp_fail(r->err, TP_ERR_FORMAT, "is in " TREE_NAME " as leaf %s, but " STORE_NAME " has no such array", a->key);
        tp_err_hint(r->err, TP_ERR_FORMAT, "the checkpoint is incomplete: write or copy it again");
        st = tp_err_tensor(r->err, TP_ERR_FORMAT, a->name, a->name_len);
    }
    return st ? st : note_differences(r);
}

/* ---- as one of the readers ---- */

static bool recognise(const struct tp_place *place)
{
    return place->is_folder && tp_place_has(place, TREE_NAME) && !tp_place_has(place, "_METADATA");
}

/* Files are named from array_store/ on, where references lead; config.json lies beside the tree. */
static enum tp_status enter_store(struct reader *r)
{
    struct tp_checkpoint *ck = r->ck;
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *store = tp_path_join(ck->folder, STORE_NAME);
    enum tp_status st = store ? tp_path_kind_of(&kind, store, r->err) : tp_fail_nomem(r->err);
    if (!st && kind != TP_PATH_FOLDER) {
        tp_fail(r->err, TP_ERR_FORMAT, TREE_NAME " lists %zu arrays, but there is no folder " STORE_NAME " with them",
                r->tree.count);
        tp_err_hint(r->err, TP_ERR_FORMAT, "the checkpoint is incomplete: write or copy it again");
        st = tp_err_path(r->err, TP_ERR_FORMAT, ck->folder);
    }
    if (!st) {
        ck->side_folder = ck->folder;
        ck->folder = store;
        store = NULL;
    }
    free(store);
    return st;
}

static enum tp_status open_place(struct tp_checkpoint *ck, const struct tp_place *place,
                                 const struct tp_open_options *options, struct tp_error *err)
{
    struct reader r = {.ck = ck, .err = err, .tree = {.use_ocdbt = 1, .use_zarr3 = true, .described_in = TREE_NAME}};
    (void)options;
    enum tp_status st = read_tree(&r, place->path);
    if (!st && r.tree.count > 0)
        st = enter_store(&r);
    if (!st && r.tree.count > 0)
        st = tp_orbax_read_ocdbt(&r.tree, ck, err);
    if (!st && r.tree.count > 0)
        st = finish_arrays(&r);
    tp_orbax_tree_release(&r.tree);
    free(r.structure);
    free(r.leaves);
    if (st && err && !err->path[0])
        tp_err_path(err, st, ck->folder);
    return st;
}

const struct tp_reader tp_reader_jax_pytree = {.format = "jax-pytree", .recognise = recognise, .open = open_place};
