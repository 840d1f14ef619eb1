/* SPDX-License-Identifier: MIT */
#include "format/key_tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"

size_t tp_key_length(const struct tp_array *a, size_t at)
{
    const char *end = memchr(a->path + at, '\0', a->path_len - at);
    return end ? (size_t)(end - a->path) - at : a->path_len - at;
}

bool tp_leaf_is_list(const struct tp_leaf *leaf, unsigned depth)
{
    return depth < TP_TREE_DEPTH_MAX && leaf->lists[depth / 64] >> depth % 64 & 1;
}

/* ---- order ---- */

/* 0, 1, 2 ... as a list counts: no leading zeros. */
static bool is_index(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (key[i] < '0' || key[i] > '9')
            return false;
    return len > 0 && (len == 1 || key[0] != '0');
}

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* Numbers first, in their order; then all others, bytewise. */
static int compare_numbers_first(const char *a, size_t a_len, const char *b, size_t b_len)
{
    bool a_counts = is_index(a, a_len), b_counts = is_index(b, b_len);
    if (a_counts != b_counts)
        return a_counts ? -1 : 1;
    if (a_counts && a_len != b_len)
        return a_len < b_len ? -1 : 1;
    return compare_bytes(a, a_len, b, b_len);
}

static int compare_leaves(const struct tp_leaf *x, const struct tp_leaf *y, bool dicts_bytewise)
{
    const struct tp_array *a = x->array, *b = y->array;
    unsigned depth = 0;
    for (size_t i = 0, j = 0; i <= a->path_len && j <= b->path_len; depth++) {
        size_t a_len = tp_key_length(a, i), b_len = tp_key_length(b, j);
        int order = dicts_bytewise && !tp_leaf_is_list(x, depth)
                        ? compare_bytes(a->path + i, a_len, b->path + j, b_len)
                        : compare_numbers_first(a->path + i, a_len, b->path + j, b_len);
        if (order)
            return order;
        i += a_len + 1;
        j += b_len + 1;
    }
    return (a->path_len > b->path_len) - (a->path_len < b->path_len);
}

static int by_numbers_first(const void *a, const void *b)
{
    return compare_leaves(a, b, false);
}

static int by_kind_of_level(const void *a, const void *b)
{
    return compare_leaves(a, b, true);
}

/* ---- lists ---- */

static bool says_list(const struct tp_array *a, unsigned depth)
{
    return depth < 64 && a->list_levels >> depth & 1;
}

/* The keys at byte `at` of all leaves that share the path before it, from the i-th on. */
struct level {
    bool counts; /* they are 0, 1 ... n - 1 */
    bool said;   /* one says that this is a list */
};

static struct level look_at_level(const struct tp_key_tree *t, size_t i, size_t at, unsigned depth)
{
    const struct tp_array *start = t->leaves[i].array, *last = NULL;
    struct level level = {.counts = true};
    size_t last_len = 0;
    uint64_t next = 0;
    for (; i < t->count; i++) {
        const struct tp_array *a = t->leaves[i].array;
        if (a->path_len < at || memcmp(a->path, start->path, at) != 0)
            break;
        level.said = level.said || says_list(a, depth);
        size_t len = tp_key_length(a, at);
        if (last && len == last_len && memcmp(a->path + at, last->path + at, len) == 0)
            continue;
        level.counts =
            level.counts && is_index(a->path + at, len) && len <= 9 && strtoull(a->path + at, NULL, 10) == next++;
        last = a;
        last_len = len;
    }
    return level;
}

/* Levels that the leaf before did not pass through are looked at; what is known of the others holds here too. False: a
 * level that should be a list is none. */
static bool mark_lists(struct tp_key_tree *t, size_t i, bool wants_lists)
{
    struct tp_leaf *leaf = &t->leaves[i], *before = i ? &t->leaves[i - 1] : NULL;
    const struct tp_array *a = leaf->array;
    size_t shared = 0;
    while (before && shared < a->path_len && shared < before->array->path_len &&
           a->path[shared] == before->array->path[shared])
        shared++;
    unsigned depth = 0;
    bool is_sound = true;
    for (size_t at = 0; at <= a->path_len && depth < TP_TREE_DEPTH_MAX; at += tp_key_length(a, at) + 1, depth++) {
        bool is_list = before && tp_leaf_is_list(before, depth);
        if (!before || at > shared) {
            struct level level = look_at_level(t, i, at, depth);
            is_list = level.counts && (level.said || wants_lists);
            is_sound = is_sound && (level.counts || !level.said);
        }
        leaf->lists[depth / 64] |= (uint64_t)is_list << depth % 64;
    }
    return is_sound;
}

static enum tp_status mark_all(struct tp_key_tree *t, bool wants_lists, struct tp_error *err)
{
    struct tp_name_list bad = {.count = 0};
    for (size_t i = 0; i < t->count; i++) {
        char name[TP_NAME_MAX_BYTES + 1];
        if (mark_lists(t, i, wants_lists))
            continue;
        tp_path_join_keys(name, t->leaves[i].array->path, t->leaves[i].array->path_len, '.');
        tp_name_list_add(&bad, name);
    }
    return bad.count == 0
               ? TP_OK
               : tp_fail(err, TP_ERR_UNSUPPORTED, "the keys of a list must be 0, 1 and so on without a gap, but at %s",
                         tp_name_list_text(&bad));
}

/* ---- the whole ---- */

enum tp_status tp_key_tree_build(struct tp_key_tree *tree, const struct tp_plan *plan, bool wants_lists,
                                 bool wants_nones, struct tp_error *err)
{
    bool has_lists = wants_lists;
    size_t arrays = plan->array_count, count = arrays + (wants_nones ? plan->none_count : 0);
    *tree = (struct tp_key_tree){.leaves = calloc(count + 1, sizeof *tree->leaves), .count = count};
    if (!tree->leaves)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < count; i++) {
        const struct tp_array *a = i < arrays ? &plan->arrays[i] : &plan->nones[i - arrays];
        tree->leaves[i] = (struct tp_leaf){.array = a, .is_none = i >= arrays};
        has_lists = has_lists || a->list_levels;
    }
    qsort(tree->leaves, tree->count, sizeof *tree->leaves, by_numbers_first);
    return has_lists ? mark_all(tree, wants_lists, err) : TP_OK;
}

void tp_key_tree_sort_dicts(struct tp_key_tree *tree)
{
    if (tree->count > 0)
        qsort(tree->leaves, tree->count, sizeof *tree->leaves, by_kind_of_level);
}

void tp_key_tree_release(struct tp_key_tree *tree)
{
    free(tree->leaves);
    *tree = (struct tp_key_tree){.count = 0};
}
