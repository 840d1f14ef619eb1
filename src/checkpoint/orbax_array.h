/* SPDX-License-Identifier: MIT */
/* One array of an Orbax checkpoint: from its zarr metadata and the places of its stored objects to a tensor. */
#ifndef TP_CHECKPOINT_ORBAX_ARRAY_H
#define TP_CHECKPOINT_ORBAX_ARRAY_H

#include "checkpoint/orbax_tree.h"

#define TP_ORBAX_CHUNKS_MAX ((uint64_t)1 << 23)   /* of all arrays together */
#define TP_ORBAX_SPARE_CHUNKS ((uint64_t)1 << 20) /* as many more may be declared than are stored */

/* Read its metadata, ".zarray" or "zarr.json". */
enum tp_status tp_orbax_array_describe(struct tp_orbax_array *a, struct tp_checkpoint *ck, unsigned version,
                                       const char *text, size_t len, struct tp_error *err);

/* The grid of stored objects again, for keys and shards; values that only the reading of chunks needs are left out. */
void tp_orbax_array_zarr(const struct tp_orbax_array *a, struct tp_zarr *zarr);

/* How many chunks may still be declared: what a file only claims is not allocated. */
struct tp_orbax_budget {
    uint64_t chunks;  /* in all */
    uint64_t objects; /* chunks or shards: about as many as there are */
};
/* A table of its chunks, all absent. */
enum tp_status tp_orbax_array_begin(struct tp_orbax_array *a, struct tp_checkpoint *ck, struct tp_orbax_budget *budget,
                                    struct tp_error *err);

/* Where a stored object lies: a range of a file of ck, or of ck->memory (TP_FILE_MEMORY). */
struct tp_orbax_value {
    uint64_t offset, size;
    uint32_t file;
};
/* Its object at `index` of the grid, a chunk or a shard of chunks. Proves that it lies in its file and has the length
 * that its shape says. `zarr` is what tp_orbax_array_zarr said. */
enum tp_status tp_orbax_array_put(struct tp_orbax_array *a, const struct tp_zarr *zarr, struct tp_checkpoint *ck,
                                  const uint64_t *index, const struct tp_orbax_value *value, struct tp_error *err);

/* All that is stored has been put: add the tensor. `stores_all`: a chunk that is absent is an error. */
enum tp_status tp_orbax_array_finish(struct tp_orbax_array *a, struct tp_checkpoint *ck, bool stores_all,
                                     struct tp_error *err);

#endif
