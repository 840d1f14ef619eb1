/* SPDX-License-Identifier: MIT */
/* Tensors that are stored in chunks: boxes of one shape, each its own run of bytes somewhere, perhaps compressed,
 * perhaps with its axes in another order (zarr). Reading is by flat, row-major ranges as everywhere, in bounded memory:
 * a compressed chunk is never held whole, it is decoded as a stream. */
#ifndef TP_CHECKPOINT_CHUNKS_H
#define TP_CHECKPOINT_CHUNKS_H

#include "checkpoint/checkpoint.h"

enum tp_chunk_codec { TP_CHUNK_STORED, TP_CHUNK_ZSTD };

struct tp_chunks {
    const uint64_t *shape; /* of one chunk: rank numbers, each at least 1; the last along an axis may reach beyond */
    const uint8_t *order;  /* rank axes, from the slowest to the fastest in a chunk's bytes; NULL: row-major */
    uint8_t codec;         /* enum tp_chunk_codec */
    bool has_crc;          /* the last four stored bytes of a chunk are the CRC-32C of those before (zarr3's crc32c) */
    uint8_t fill[16];      /* an element of a chunk that is not stored (TP_FILE_ABSENT) */
};

/* What one thread keeps between reads of chunked tensors: open streams, a tile of gathered elements. It must not
 * outlive the checkpoint that it reads. */
struct tp_chunk_reader;
/* `memory_bytes`: what it may hold at most, but never less than it needs to work (about 1 MiB, and the window of one
 * zstd stream, which is at most 128 MiB and in what Orbax writes 512 KiB). NULL: no memory. */
struct tp_chunk_reader *tp_chunk_reader_new(size_t memory_bytes);
/* What makes reading forward as fast as it gets; 0: no tensor has chunks. With less, compressed chunks that lie side by
 * side are decoded more than once, and so are the pages of those in another order of axes read. */
size_t tp_chunk_reader_wants(const struct tp_checkpoint *ck);
void tp_chunk_reader_free(struct tp_chunk_reader *reader); /* NULL is fine */

/* Elements [first, first + count) of a chunked tensor, row-major, to dst. Fast where the calls of one reader go
 * forward: a compressed chunk is decoded once by a reader that asks for it in order, and from its beginning again by
 * one that goes back. `reader` NULL: one is made for this call. TP_ERR_FORMAT: a stream that does not decode, a chunk
 * that is shorter or longer than its shape says, a CRC that differs. The last two are known once the chunk's last
 * element has been read; before that its bytes are given out unproven. */
enum tp_status tp_chunks_read(struct tp_chunk_reader *reader, const struct tp_checkpoint *ck,
                              const struct tp_tensor *tensor, uint64_t first, uint64_t count, void *dst,
                              struct tp_error *err);

#endif
