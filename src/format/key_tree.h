/* SPDX-License-Identifier: MIT */
/* The tree of keys that a plan's arrays are the leaves of, and which of its levels are lists. */
#ifndef TP_FORMAT_KEY_TREE_H
#define TP_FORMAT_KEY_TREE_H

#include "plan/plan.h"

struct tp_leaf {
    const struct tp_array *array;
    bool is_none;                           /* of the plan's nones: an entry without an array */
    uint64_t lists[TP_TREE_DEPTH_MAX / 64]; /* bit d: key d is the index of a list */
};

struct tp_key_tree {
    struct tp_leaf *leaves;
    size_t count;
};

/* Leaves, with `wants_nones` also the plan's nones, sorted key by key: numbers first, in their order, then all other
 * keys bytewise. Lists are the levels that arrays say are some (tp_array.list_levels) and, with `wants_lists`, all
 * whose keys are 0, 1 ... n - 1. TP_ERR_UNSUPPORTED: the keys of a level that should be a list are others. */
enum tp_status tp_key_tree_build(struct tp_key_tree *tree, const struct tp_plan *plan, bool wants_lists,
                                 bool wants_nones, struct tp_error *err);
/* As JAX lists the leaves: numbers first in lists only, all keys of dicts bytewise. */
void tp_key_tree_sort_dicts(struct tp_key_tree *tree);
void tp_key_tree_release(struct tp_key_tree *tree);

bool tp_leaf_is_list(const struct tp_leaf *leaf, unsigned depth);
/* Bytes of the key that begins at byte `at` of a path; the next one begins behind the byte after it. */
size_t tp_key_length(const struct tp_array *array, size_t at);

#endif
