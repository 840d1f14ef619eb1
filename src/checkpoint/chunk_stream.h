/* SPDX-License-Identifier: MIT */
/* Chunks that can only be read from their beginning: compressed ones, and those with a checksum. A few of them stay
 * open where reading stopped, the least recently used give way. */
#ifndef TP_CHECKPOINT_CHUNK_STREAM_H
#define TP_CHECKPOINT_CHUNK_STREAM_H

#include "checkpoint/chunks.h"

#define TP_CHUNK_STREAMS_MAX 64u
#define TP_CHUNK_STREAM_BYTES ((size_t)1280 << 10) /* Orbax's own compression has windows of 512 KiB */

struct tp_chunk_stream; /* opaque */

struct tp_chunk_streams { /* {.budget_bytes = ...} is empty and ready */
    struct tp_chunk_stream **items;
    size_t count, capacity;
    size_t budget_bytes;  /* what all of them may take; one is always allowed */
    size_t largest_bytes; /* the most that one has taken so far */
    uint8_t *waste;       /* where skipped bytes go */
    uint64_t clock;
};
void tp_chunk_streams_release(struct tp_chunk_streams *streams);
/* What one takes: a guess until the first was seen. */
size_t tp_chunk_streams_bytes_each(const struct tp_chunk_streams *streams);
/* As many can stay open side by side. */
size_t tp_chunk_streams_room(const struct tp_chunk_streams *streams);
/* Close those that were not used for longest, until `count` are left. */
void tp_chunk_streams_trim(struct tp_chunk_streams *streams, size_t count);

/* One chunk of a tensor. */
struct tp_chunk {
    const struct tp_checkpoint *ck;
    const struct tp_tensor *tensor;
    uint32_t number;
    uint64_t volume_bytes; /* of its elements */
    uint64_t needed_bytes; /* nobody asks for what lies beyond: padding */
};
/* `len` bytes from `offset` of the elements; fast where offsets rise. When the last needed byte has been read the chunk
 * is read to its end (where less than 16 MiB of padding are left), and both its length and its checksum are proven. */
enum tp_status tp_chunk_streams_read(struct tp_chunk_streams *streams, const struct tp_chunk *chunk, void *dst,
                                     size_t len, uint64_t offset, struct tp_error *err);

/* The stored bytes of a chunk as they are, checksum included: [offset, offset + len) of them. */
enum tp_status tp_chunk_read_stored(const struct tp_chunk *chunk, void *dst, size_t len, uint64_t offset,
                                    struct tp_error *err);

#endif
