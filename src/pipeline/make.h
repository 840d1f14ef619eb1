/* SPDX-License-Identifier: MIT */
/* Making elements of extents from the source: row by row straight to where they are wanted, or from a tile. */
#ifndef TP_PIPELINE_MAKE_H
#define TP_PIPELINE_MAKE_H

#include "pipeline/tile.h"

/* One worker's. */
struct tp_maker {
    const struct tp_plan *plan;
    const struct tp_kernels *kernels;
    bool saturate;
    struct tp_reader_state reader; /* with a scratch where something decodes, chunks where the source has such */
    uint8_t *in;                   /* piece_bytes and a line, for who has a use for it between two calls */
    size_t piece_bytes;            /* of source or result that are made at a time: they stay in a core's cache */
    struct tp_result seen;         /* counted since tp_maker_begin */
    struct tp_tile tile;           /* where the plan has a use for it */
    struct tp_gather gather;       /* of the chunk in work, */
    uint32_t gathered;             /* extent, or TP_NONE */
    bool has_gather;               /* or the chunk is of several pieces */
    bool (*is_stopped)(void *user);
    void *user;
};

struct tp_maker_sizes {
    size_t piece_bytes, scratch_bytes, chunk_bytes, tile_bytes; /* chunk_bytes: of the reader of stored chunks */
};

/* False: no memory; then, and at the end, tp_maker_release. `source`: what the plan's logical tensors lie in. */
bool tp_maker_init(struct tp_maker *maker, const struct tp_plan *plan, const struct tp_checkpoint *source,
                   const struct tp_kernels *kernels, struct tp_maker_sizes sizes);
void tp_maker_release(struct tp_maker *maker);

/* Before each block: nothing is counted yet. */
void tp_maker_begin(struct tp_maker *maker);

/* How many elements to ask for at a time, of those that fit `room_bytes` of destination; the last of them may reach
 * beyond it. */
uint64_t tp_maker_limit(const struct tp_maker *maker, const struct tp_array *array, size_t room_bytes);

/* If the extent is made through a tile: *made is where its elements from the at-th on lie, *count of them or fewer,
 * until the next call. Else NULL. */
enum tp_status tp_make_in_tile(struct tp_maker *maker, const struct tp_out_extent *extent, uint64_t at, uint64_t *count,
                               const uint8_t **made, struct tp_error *err);
/* Make a box of an array, see tp_tile_make_box: *made has it until the next call. `seen`, `bounds` as in tp_gathering.
 */
enum tp_status tp_make_box(struct tp_maker *maker, const struct tp_array *array, const struct tp_view *box,
                           struct tp_result *seen, const uint64_t *bounds, unsigned bound_count, const uint8_t **made,
                           struct tp_error *err);
/* Make `count` elements of an extent, from the at-th on, at dst. They lie in one block. */
enum tp_status tp_make(struct tp_maker *maker, const struct tp_out_extent *extent, uint64_t at, uint64_t count,
                       uint8_t *dst, struct tp_error *err);

#endif
