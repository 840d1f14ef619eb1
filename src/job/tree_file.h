/* SPDX-License-Identifier: MIT */
/* tree.json: what a target's model wants, as tensorport.tree_json writes it (docs/mapping.md):
 *
 *     {"params/dense/kernel": {"shape": [3, 4], "dtype": "float32"}, ...}
 *
 * Keys are the path's keys joined by '/'. "dtype" (NumPy's name) may be missing: then any will do. */
#ifndef TP_JOB_TREE_FILE_H
#define TP_JOB_TREE_FILE_H

#include "base/arena.h"
#include "map/map.h"

#define TP_TREE_FILE_MAX ((uint64_t)64 << 20) /* bytes */

/* Leaves in the file's order, in a malloc'd table; their texts in `arena`. Fails with FORMAT, LIMIT, IO, NOMEM. */
enum tp_status tp_tree_file_read(struct tp_map_expected **out, size_t *count, struct tp_arena *arena, const char *path,
                                 struct tp_error *err);

#endif
