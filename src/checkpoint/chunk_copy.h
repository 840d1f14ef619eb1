/* SPDX-License-Identifier: MIT */
/* Boxes of elements that lie strided on both sides, and how to fetch one from a chunk with few reads. */
#ifndef TP_CHECKPOINT_CHUNK_COPY_H
#define TP_CHECKPOINT_CHUNK_COPY_H

#include "base/status.h"
#include "tensorport/checkpoint.h"

/* One loop over a box: `count` steps, each so many bytes on in the source and in the destination. */
struct tp_box_loop {
    uint64_t count, src, dst;
};

/* A box: loops from the slowest to the fastest in the source's bytes, around one element. */
struct tp_box {
    struct tp_box_loop loops[TP_RANK_MAX];
    unsigned loop_count;
    unsigned item_bytes;
};

/* Add a loop inside all others; a count of 1 is no loop, and one that goes on where its outer neighbour's steps begin
 * becomes one with it. */
void tp_box_add(struct tp_box *box, uint64_t count, uint64_t src, uint64_t dst);

void tp_box_copy(uint8_t *dst, const uint8_t *src, const struct tp_box *box);
/* The same element everywhere; the source's strides do not matter. */
void tp_box_fill(uint8_t *dst, const uint8_t *item, const struct tp_box *box);

/* `len` bytes from `offset` of what a chunk decodes to. Within one tp_box_fetch offsets never fall. */
typedef enum tp_status (*tp_box_read_fn)(void *user, void *dst, size_t len, uint64_t offset, struct tp_error *err);

/* Copy a box that begins at byte `first` of the source by way of `bounce` (at least 64 KiB): near neighbours are read
 * together with what lies between them, far ones one by one, and long runs go straight to dst. */
enum tp_status tp_box_fetch(uint8_t *dst, const struct tp_box *box, uint64_t first, uint8_t *bounce,
                            size_t bounce_bytes, tp_box_read_fn read, void *user, struct tp_error *err);

#endif
