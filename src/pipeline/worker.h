/* SPDX-License-Identifier: MIT */
/* A worker of tp_move_run, and what it can do with a block. */
#ifndef TP_PIPELINE_WORKER_H
#define TP_PIPELINE_WORKER_H

#include "pipeline/make.h"
#include "pipeline/move.h"
#include "pipeline/spread.h"

#define TP_LINE_BYTES ((size_t)64) /* of the processor's cache */
#define TP_BEYOND_BYTES \
    (TP_FRAME_MAX_BYTES + TP_LINE_BYTES) /* room behind a buffer's end, for what does not end with it */

struct tp_worker {
    struct tp_move *move;
    struct tp_pool *pool;
    struct tp_hasher *hasher;
    struct tp_maker maker;         /* its `seen` is of the block in work */
    uint8_t *out;                  /* buffer_bytes and TP_BEYOND_BYTES */
    struct tp_chunk_reader *model; /* COMPARE by tensors: reads the output's */
    /* WRITE: out[begin, fill) goes to file offset base + begin; base is a multiple of buffer_bytes */
    int fd;
    uint32_t file;
    char *path;
    uint64_t base;
    size_t begin, fill;
    struct tp_block_record *finished; /* of this task, not yet in the journal */
    size_t finished_count, finished_capacity;
};

struct tp_span { /* of a block */
    const struct tp_out_extent *extent;
    const struct tp_array *array;
    uint64_t first_elem; /* within the extent */
    uint64_t elem_count, offset_bytes;
};
struct tp_span tp_block_span(const struct tp_plan *plan, const struct tp_out_extent *extent, uint64_t block);

/* ---- write.c ---- */

enum tp_status tp_write_begin(struct tp_worker *worker, const struct tp_task *task, struct tp_error *err);
/* The framing in front of a file's extent `k`; behind the last one where k is their number. */
enum tp_status tp_write_frame(struct tp_worker *worker, uint32_t file, uint32_t k, struct tp_error *err);
enum tp_status tp_write_block(struct tp_worker *worker, const struct tp_out_extent *extent, uint64_t block,
                              struct tp_error *err);
/* Bytes that lie elsewhere, to where the worker is in its file. */
enum tp_status tp_write_append(struct tp_worker *worker, const uint8_t *bytes, size_t size, struct tp_error *err);
/* Write what is made, and go on at another offset. */
enum tp_status tp_write_go_to(struct tp_worker *worker, uint64_t offset, struct tp_error *err);
/* Write what is made, then tell the journal of the blocks that are whole. */
enum tp_status tp_write_settle(struct tp_worker *worker, struct tp_error *err);
/* A block is made (its bytes may wait in the buffer) and its digest known; worker->maker.seen is what was seen. */
enum tp_status tp_write_finish(struct tp_worker *worker, const struct tp_array *array, uint64_t block,
                               struct tp_error *err);
void tp_write_keep_result(struct tp_worker *worker, const struct tp_array *array); /* that alone */
bool tp_array_casts(const struct tp_array *array);                                 /* so that there may be overflow */
/* Whether the file has what the journal says of a block (by number in the plan); then it can be kept. */
enum tp_status tp_write_claim_holds(struct tp_worker *worker, const struct tp_span *span, uint64_t block, bool *holds,
                                    struct tp_error *err);
enum tp_status tp_write_keep_claim(struct tp_worker *worker, const struct tp_span *span, uint64_t block,
                                   struct tp_error *err);
/* After the last block of a task, or after `status`, which is then returned. */
enum tp_status tp_write_end(struct tp_worker *worker, const struct tp_task *task, enum tp_status status,
                            struct tp_error *err);

/* ---- check.c ---- */

/* The blocks of an output, against their digests; against what the source makes of them. */
enum tp_status tp_check_block(struct tp_worker *worker, const struct tp_out_extent *extent, uint64_t block,
                              struct tp_error *err);
enum tp_status tp_compare_block(struct tp_worker *worker, const struct tp_out_extent *extent, uint64_t block,
                                struct tp_error *err);
/* `count` elements of the output, from a span's at-th on, into worker->maker.in. */
enum tp_status tp_compare_read(struct tp_worker *worker, const struct tp_span *span, uint64_t at, uint64_t count,
                               struct tp_error *err);
/* Of n elements of `item` bytes how many differ; *first is the index of the first one. */
uint64_t tp_count_different(const uint8_t *a, const uint8_t *b, uint64_t n, unsigned item, uint64_t *first);
enum tp_status tp_compare_note(struct tp_worker *worker, struct tp_mismatch mismatch, struct tp_error *err);
/* The output's bytes of a block against their digest, where it is known. */
enum tp_status tp_compare_digest(struct tp_worker *worker, const struct tp_out_extent *extent, uint64_t block,
                                 struct tp_error *err);

/* ---- group.c: blocks [block, end) of an extent, together ---- */

enum tp_status tp_write_group(struct tp_worker *worker, const struct tp_out_extent *extent,
                              const struct tp_spread *spread, uint64_t block, uint64_t end, struct tp_error *err);
enum tp_status tp_compare_group(struct tp_worker *worker, const struct tp_out_extent *extent,
                                const struct tp_spread *spread, uint64_t block, uint64_t end, struct tp_error *err);

#endif
