/* SPDX-License-Identifier: MIT */
/* Zarr arrays in an OCDBT database whose values lie in data files of ours, or, with --zero-copy, in the source's own
 * files beside them: what the formats orbax and jax-pytree have in common. store.c places chunks, store_grid.c cuts
 * arrays into them, store_nodes.c writes the database. docs/formats/orbax.md has the bytes. */
#ifndef TP_FORMAT_STORE_H
#define TP_FORMAT_STORE_H

#include "codec/ocdbt.h"
#include "codec/zarr.h"
#include "format/format.h"

/* A key of the database: an array's metadata, or a chunk of it. */
struct tp_store_entry {
    uint32_t array;
    uint32_t extent; /* TP_NONE: the metadata */
};

/* What a layout keeps, plan->leaves: all that it points at lies in plan->arena. */
struct tp_store {
    /* what its format wants of it */
    const char *folder; /* where in the output the arrays lie: "", or "default/" */
    size_t folder_len;
    unsigned version;                    /* of zarr: 2 or 3; 0: tp_store_lay_out chooses */
    bool has_database;                   /* OCDBT; else plain zarr files */
    const uint32_t *numbers, *by_number; /* by array: its number, and the other way round. NULL: arrays have names */
    bool (*can_link)(const char *name);  /* a source's file of this name can lie in the folder and be referred to */
    /* the database */
    const struct tp_store_entry *entries; /* in the order of keys */
    size_t entry_count;
    const char *const *file_paths; /* of data and linked files below the folder, sorted */
    const uint32_t *file_rank;     /* by number in the plan: where in file_paths */
    uint32_t file_count;
    const char *node_path;   /* of the file of nodes, below the folder: named by its content */
    struct tp_digest digest; /* of that content */
    struct tp_ocdbt_tree tree;
};

/* Why no store can hold the array, or NULL. */
const char *tp_store_fault(const struct tp_array *array);
/* Place all arrays: fills in the plan's files, extents and blocks, and the store's database. What is decided against
 * the options, and what only newer readers read, is noted in the plan. TP_ERR_UNSUPPORTED: an array would lie inside
 * another, or a source's file cannot be linked; TP_ERR_LIMIT: too many chunks or files. */
enum tp_status tp_store_lay_out(struct tp_store *store, struct tp_plan *plan, const struct tp_convert_options *options,
                                struct tp_error *err);
/* For struct tp_format: zeros between the chunks. */
size_t tp_store_frame(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap);

/* "folder/" .. `name`, in the plan's arena; NULL: no memory. */
const char *tp_store_path(const struct tp_store *store, struct tp_plan *plan, const char *name);
/* What the keys of an array begin with, without the '/' behind it: its name or its number. Its length; `dst` has room
 * for TP_NAME_MAX_BYTES + 1. */
size_t tp_store_array_key(const struct tp_store *store, const struct tp_plan *plan, uint32_t array, char *dst);
/* Metadata of an array as zarr has it. */
void tp_store_zarr(const struct tp_store *store, struct tp_zarr *zarr, const struct tp_array *array);

/* Small files of the database. */
enum tp_status tp_store_write_nodes(const struct tp_plan *plan, tp_json_write_fn write, void *user,
                                    struct tp_error *err);
enum tp_status tp_store_write_manifest(const struct tp_plan *plan, int64_t time_ns, tp_json_write_fn write, void *user,
                                       struct tp_error *err);

/* ---- between the files of the store ---- */

/* Sets the grid of every array that is not one row-major chunk, whether it refers to the source where its chunks can
 * (one bool an array), and the version of zarr that can say them all. */
enum tp_status tp_store_choose_grids(struct tp_store *store, bool *refers, struct tp_plan *plan,
                                     const struct tp_convert_options *options, struct tp_error *err);

/* Fill in all of *store that is about the database, from the plan's arrays, extents and files. `by_chunk[first[a] +
 * n]` is the extent of array a's chunk n. */
enum tp_status tp_store_plan_nodes(struct tp_store *store, struct tp_plan *plan,
                                   const struct tp_convert_options *options, const uint32_t *first,
                                   const uint32_t *by_chunk, struct tp_error *err);

#endif
