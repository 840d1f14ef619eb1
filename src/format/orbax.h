/* SPDX-License-Identifier: MIT */
/* What the files of the Orbax format share. orbax.c lays out, orbax_check.c refuses, orbax_grid.c cuts arrays into
 * chunks, orbax_nodes.c writes the database, orbax_json.c the metadata. docs/formats/orbax.md has the bytes. */
#ifndef TP_FORMAT_ORBAX_H
#define TP_FORMAT_ORBAX_H

#include "codec/ocdbt.h"
#include "codec/zarr.h"
#include "format/format.h"

/* A key of the database: an array's metadata, or a chunk of it. */
struct tp_orbax_entry {
    uint32_t array;
    uint32_t extent; /* TP_NONE: the metadata */
};

/* What a layout keeps, plan->leaves: all that it points at lies in plan->arena. */
struct tp_orbax {
    const char *folder; /* where in the output the arrays lie: "", or an item's "default/" */
    size_t folder_len;
    unsigned version;  /* of zarr: 2 or 3 */
    bool has_database; /* OCDBT; else plain zarr files */
    /* the database */
    const struct tp_orbax_entry *entries; /* in the order of keys */
    size_t entry_count;
    const char *const *file_paths; /* of data and linked files below the folder, sorted */
    const uint32_t *file_rank;     /* by number in the plan: where in file_paths */
    uint32_t file_count;
    const char *node_path;   /* of the file of nodes, below the folder: named by its content */
    struct tp_digest digest; /* of that content */
    struct tp_ocdbt_tree tree;
};

/* The folder's name within the output, or NULL: the output itself. */
const char *tp_orbax_item(const struct tp_orbax_options *options);

/* Everything that Orbax or TensorStore could not hold or read, by name, all at once. */
enum tp_status tp_orbax_check(const struct tp_plan *plan, const struct tp_convert_options *options,
                              struct tp_error *err);
/* A source's file of this name can lie beside ours and be referred to. */
bool tp_orbax_can_link(const char *name);

/* Sets the grid of every array that is not one row-major chunk, whether it refers to the source where its chunks can
 * (one bool an array), and the version of zarr that can say them all. What is decided against the options is noted in
 * the plan. */
enum tp_status tp_orbax_choose_grids(unsigned *version, bool *refers, struct tp_plan *plan,
                                     const struct tp_convert_options *options, struct tp_error *err);

/* Metadata of an array as zarr has it. */
void tp_orbax_zarr(struct tp_zarr *zarr, const struct tp_array *array, unsigned version);

/* Fill in all of *orbax that is about the database, from the plan's arrays, extents and files. `by_number[first[a] +
 * n]` is the extent of array a's chunk n. TP_ERR_UNSUPPORTED: an array would lie inside another. */
enum tp_status tp_orbax_nodes_plan(struct tp_orbax *orbax, struct tp_plan *plan,
                                   const struct tp_convert_options *options, const uint32_t *first,
                                   const uint32_t *by_number, struct tp_error *err);
enum tp_status tp_orbax_write_nodes(const struct tp_plan *plan, tp_json_write_fn write, void *user,
                                    struct tp_error *err);
enum tp_status tp_orbax_write_manifest(const struct tp_plan *plan, int64_t time_ns, tp_json_write_fn write, void *user,
                                       struct tp_error *err);

/* _METADATA: the tree of keys, and what the checkpoint was made of. */
enum tp_status tp_orbax_write_tree(const struct tp_plan *plan, const struct tp_format_facts *facts,
                                   tp_json_write_fn write, void *user, struct tp_error *err);
/* _CHECKPOINT_METADATA: who restores it. */
enum tp_status tp_orbax_write_handlers(const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                       struct tp_error *err);

#endif
