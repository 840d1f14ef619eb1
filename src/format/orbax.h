/* SPDX-License-Identifier: MIT */
/* What the files of the Orbax format share. orbax.c lays out (with store.h), orbax_check.c refuses, orbax_json.c writes
 * the metadata. docs/formats/orbax.md has the bytes. */
#ifndef TP_FORMAT_ORBAX_H
#define TP_FORMAT_ORBAX_H

#include "format/store.h"

/* The folder's name within the output, or NULL: the output itself. */
const char *tp_orbax_item(const struct tp_orbax_options *options);

/* Everything that Orbax or TensorStore could not hold or read, by name, all at once. */
enum tp_status tp_orbax_check(const struct tp_plan *plan, const struct tp_convert_options *options,
                              struct tp_error *err);
/* A source's file of this name can lie beside ours and be referred to. */
bool tp_orbax_can_link(const char *name);

/* _METADATA: the tree of keys, and what the checkpoint was made of. */
enum tp_status tp_orbax_write_tree(const struct tp_plan *plan, const struct tp_format_facts *facts,
                                   tp_json_write_fn write, void *user, struct tp_error *err);
/* _CHECKPOINT_METADATA: who restores it. */
enum tp_status tp_orbax_write_handlers(const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                       struct tp_error *err);

#endif
