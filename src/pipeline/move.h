/* SPDX-License-Identifier: MIT */
/* Moving blocks: made from the source and written; or read back and checked; or made again and compared. One walk over
 * the tasks, three things to do at each block. Memory: two buffers a worker, and a tile where pieces are scattered,
 * whatever the model's size.
 *
 * A block is made whole by one worker, in order and in pieces that stay in its cache: read, cast, hash, write. Groups
 * of blocks may be spread (pipeline/spread.h). */
#ifndef TP_PIPELINE_MOVE_H
#define TP_PIPELINE_MOVE_H

#include "codec/digest.h"
#include "format/format.h"
#include "kernels/kernels.h"
#include "pipeline/journal.h"
#include "pipeline/pool.h"
#include "pipeline/tile.h"

/* A block that is not what it should be. */
struct tp_mismatch {
    uint32_t extent;
    bool is_value;       /* differs from the source; else from the digest */
    uint64_t block;      /* within the extent */
    uint64_t elem;       /* is_value: the first element of the array that differs */
    uint64_t elem_count; /* is_value: how many of the block differ */
};

struct tp_budget {
    unsigned workers;
    size_t piece_bytes;   /* made at a time */
    size_t buffer_bytes;  /* written at a time; a multiple of 64 KiB */
    size_t scratch_bytes; /* of a worker that decodes */
    size_t tile_bytes;    /* of a worker that gathers */
};

enum tp_move_mode { TP_MOVE_WRITE, TP_MOVE_CHECK, TP_MOVE_COMPARE };

struct tp_move {
    enum tp_move_mode mode;
    const struct tp_plan *plan;
    const struct tp_kernels *kernels;
    const struct tp_checkpoint *source; /* WRITE, COMPARE */
    const struct tp_format *format;     /* WRITE */
    const char *folder;                 /* WRITE: where the files are, made and sized before */
    const struct tp_checkpoint *output; /* CHECK, COMPARE: file indices as in the plan */
    const uint32_t *output_tensor;      /* COMPARE: by array, the output's tensor to read; NULL: the extents' bytes */
    struct tp_digest *digests;          /* block_count; written by WRITE, expected by the others (NULL: not known) */
    struct tp_result *results;          /* result_count; WRITE */
    struct tp_journal *journal;         /* WRITE: told of finished blocks; or NULL */
    const struct tp_claims *claims;     /* WRITE: what an earlier run says it has finished; or NULL */
    atomic_uint_least64_t kept_bytes;   /* WRITE: of claims that held */
    bool saturate, stop_at_overflow;
    struct tp_budget budget;
    tp_progress_fn progress;
    void *progress_user;
    /* CHECK, COMPARE: what was found, unordered; the caller frees. */
    struct tp_mismatch *mismatches;
    size_t mismatch_count, mismatch_capacity;
    pthread_mutex_t lock; /* over results and mismatches; set up by tp_move_run */
};

enum tp_status tp_move_run(struct tp_move *move, struct tp_error *err);

/* What a worker wants a scratch for. */
struct tp_scratch_wish {
    bool decodes;
    uint64_t chunks_bytes; /* tp_chunk_reader_wants, of all that reads chunks */
    uint64_t tile_bytes;   /* tp_tile_memory_wanted */
};
/* Fit workers, their buffers and their scratch under a budget for the peak RSS beside the tables. TP_ERR_NOMEM with the
 * smallest budget that would do when it is too small even for one worker. */
enum tp_status tp_budget_plan(struct tp_budget *budget, unsigned wanted_workers, uint64_t max_memory_bytes,
                              struct tp_scratch_wish wish, struct tp_error *err);

#endif
