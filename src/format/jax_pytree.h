/* SPDX-License-Identifier: MIT */
/* What the files of the format jax-pytree share: jax_pytree.c lays out (with store.h), jax_treedef.c writes the tree.
 * docs/formats/jax.md has the bytes. */
#ifndef TP_FORMAT_JAX_PYTREE_H
#define TP_FORMAT_JAX_PYTREE_H

#include "format/key_tree.h"
#include "format/store.h"

#define TP_JAX_TREE_NAME "pytreedef.json"
#define TP_JAX_STORE_NAME "array_store"

/* pytreedef.json of a plan whose store has numbered its leaves. */
enum tp_status tp_jax_write_tree(const struct tp_plan *plan, bool wants_lists, tp_json_write_fn write, void *user,
                                 struct tp_error *err);

#endif
