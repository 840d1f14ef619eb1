/* SPDX-License-Identifier: MIT */
/* pytreedef.json, byte for byte as jax's save() writes it: the tree's structure in base64, then what each leaf is. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "codec/base64.h"
#include "codec/treedef.h"
#include "format/jax_pytree.h"

/* ---- the structure ---- */

/* A node that is still open: its children are the last ones of `children`. */
struct level {
    size_t first_child;
    enum tp_treedef_kind kind;
};

struct builder {
    struct tp_treedef_builder out;
    struct tp_treedef_child *children; /* of all open nodes, one behind the other */
    size_t child_count;
    struct level levels[TP_TREE_DEPTH_MAX + 1];
    size_t key_at[TP_TREE_DEPTH_MAX + 1]; /* where the key of each level begins in the path of the leaf at hand */
    unsigned depth;                       /* open nodes */
};

static void add_child(struct builder *b, const struct tp_array *a, size_t key_at, uint32_t node)
{
    b->children[b->child_count++] =
        (struct tp_treedef_child){a->path + key_at, (uint32_t)tp_key_length(a, key_at), node};
}

/* All the node's children are there, up to those of `last`. */
static uint32_t close_node(struct builder *b, const struct tp_array *last)
{
    struct level level = b->levels[--b->depth];
    uint32_t node =
        tp_treedef_add(&b->out, level.kind, b->children + level.first_child, b->child_count - level.first_child);
    b->child_count = level.first_child;
    if (b->depth > 0)
        add_child(b, last, b->key_at[b->depth - 1], node);
    return node;
}

/* How many keys two paths begin with alike; not the last one of either, which is a leaf's. */
static unsigned shared_keys(const struct tp_array *a, const struct tp_array *b)
{
    unsigned count = 0;
    for (size_t i = 0; i < a->path_len && i < b->path_len && a->path[i] == b->path[i]; i++)
        count += a->path[i] == '\0';
    return count;
}

static void add_leaf(struct builder *b, const struct tp_leaf *leaf, const struct tp_leaf *before)
{
    const struct tp_array *a = leaf->array;
    unsigned shared = before ? shared_keys(before->array, a) : 0;
    while (before && b->depth > shared + 1)
        close_node(b, before->array);
    unsigned key = 0;
    for (size_t at = 0; at <= a->path_len && key < TP_TREE_DEPTH_MAX; at += tp_key_length(a, at) + 1, key++) {
        b->key_at[key] = at;
        if (key == b->depth)
            b->levels[b->depth++] =
                (struct level){b->child_count, tp_leaf_is_list(leaf, key) ? TP_TREEDEF_LIST : TP_TREEDEF_DICT};
    }
    add_child(b, a, b->key_at[key - 1], tp_treedef_add(&b->out, TP_TREEDEF_LEAF, NULL, 0));
}

/* A child of an open node stands in the place of the leaves below it, so there are never more than leaves. */
static enum tp_status build_nested(struct builder *b, const struct tp_plan *plan, bool wants_lists, uint32_t *root,
                                   struct tp_error *err)
{
    struct tp_key_tree tree;
    enum tp_status st = tp_key_tree_build(&tree, plan, wants_lists, false, err);
    if (!st) {
        tp_key_tree_sort_dicts(&tree);
        for (size_t i = 0; i < tree.count; i++)
            add_leaf(b, &tree.leaves[i], i ? &tree.leaves[i - 1] : NULL);
        while (b->depth > 0)
            *root = close_node(b, tree.leaves[tree.count - 1].array);
    }
    tp_key_tree_release(&tree);
    return st;
}

static uint32_t build_ordered(struct builder *b, const struct tp_plan *plan)
{
    for (size_t i = 0; i < plan->array_count; i++)
        add_child(b, &plan->arrays[i], 0, tp_treedef_add(&b->out, TP_TREEDEF_LEAF, NULL, 0));
    return tp_treedef_add(&b->out, TP_TREEDEF_CUSTOM, b->children, b->child_count);
}

/* ---- text ---- */

#define PART_BYTES ((size_t)3 << 10) /* a multiple of 3, so that parts of base64 can be joined */

static enum tp_status write_base64(const uint8_t *bytes, size_t len, tp_json_write_fn write, void *user,
                                   struct tp_error *err)
{
    char text[PART_BYTES / 3 * 4];
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < len && !st; i += PART_BYTES) {
        size_t part = len - i < PART_BYTES ? len - i : PART_BYTES;
        st = write(user, text, tp_base64_encode(text, bytes + i, part), err);
    }
    return st;
}

static enum tp_status write_text(const char *text, tp_json_write_fn write, void *user, struct tp_error *err)
{
    return write(user, text, strlen(text), err);
}

/* "Array(float32[4, 3])" */
static enum tp_status write_leaf(const struct tp_array *a, bool is_first, tp_json_write_fn write, void *user,
                                 struct tp_error *err)
{
    char text[64 + TP_ZARR_RANK_MAX * 22];
    size_t used = (size_t)snprintf(text, sizeof text, "%s\n    \"Array(%s[", is_first ? "" : ",",
                                   tp_zarr_dtype_name(3, (enum tp_dtype)a->dtype));
    for (unsigned d = 0; d < a->rank; d++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIu64, d ? ", " : "", a->shape[d]);
    used += (size_t)snprintf(text + used, sizeof text - used, "])\"");
    return write(user, text, used, err);
}

static enum tp_status write_leaves(const struct tp_plan *plan, tp_json_write_fn write, void *user, struct tp_error *err)
{
    const struct tp_store *store = plan->leaves;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < plan->array_count && !st; i++)
        st = write_leaf(&plan->arrays[store->by_number[i]], i == 0, write, user, err);
    return st;
}

enum tp_status tp_jax_write_tree(const struct tp_plan *plan, bool wants_lists, tp_json_write_fn write, void *user,
                                 struct tp_error *err)
{
    struct builder *b = calloc(1, sizeof *b);
    const uint8_t *bytes = NULL;
    size_t len = 0;
    uint32_t root = 0;
    if (b)
        b->children = malloc((plan->array_count + 1) * sizeof *b->children);
    enum tp_status st = b && b->children ? TP_OK : tp_fail_nomem(err);
    if (!st && plan->ordered)
        root = build_ordered(b, plan);
    else if (!st)
        st = build_nested(b, plan, wants_lists, &root, err);
    if (!st)
        st = tp_treedef_finish(&b->out, root, &bytes, &len, err);
    if (!st)
        st = write_text("{\n  \"__jax_pytreedef_repr\": \"", write, user, err);
    if (!st)
        st = write_base64(bytes, len, write, user, err);
    if (!st)
        st = write_text("\",\n  \"__jax_leaf_ids\": [", write, user, err);
    if (!st)
        st = write_leaves(plan, write, user, err);
    if (!st)
        st = write_text("\n  ]\n}", write, user, err);
    if (b) {
        tp_treedef_release(&b->out);
        free(b->children);
    }
    free(b);
    return st;
}
