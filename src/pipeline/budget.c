/* SPDX-License-Identifier: MIT */
/* Fitting workers, their buffers and their scratch under a budget for the peak RSS. */
#include <inttypes.h>

#include "base/least.h"
#include "base/status.h"
#include "os/host.h"
#include "pipeline/move.h"

/* Measured: code, libraries, stacks and the C library's own pools, with a margin. */
#define FIXED_BYTES ((uint64_t)12 << 20)
#define WORKER_BYTES ((uint64_t)512 << 10) /* stack and hash state, beside the buffers */
#define SCRATCH_BEST ((uint64_t)12 << 20)  /* a whole expert's codes */
#define PIECE_MIN ((uint64_t)64 << 10)
#define PIECE_BEST ((uint64_t)256 << 10) /* source and result of a piece stay in the cache of a core */
#define BUFFER_MIN ((uint64_t)128 << 10)
#define BUFFER_BEST ((uint64_t)512 << 10) /* larger writes are sometimes faster, and sometimes several times slower */

/* What is left of a worker's share goes to the scratch and to tiles; where both want more, each has its half. */
static void share_rest(struct tp_budget *budget, uint64_t rest, uint64_t scratch_more, uint64_t tile_more)
{
    uint64_t scratch = tp_smaller(scratch_more, rest - tp_smaller(tile_more, rest / 2));
    budget->scratch_bytes += (size_t)scratch;
    budget->tile_bytes += (size_t)(tp_smaller(tile_more, rest - scratch) & ~UINT64_C(4095));
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

enum tp_status tp_budget_plan(struct tp_budget *budget, unsigned wanted_workers, uint64_t max_memory_bytes,
                              struct tp_scratch_wish wish, struct tp_error *err)
{
    bool needs_scratch = wish.decodes || wish.chunks_bytes > 0;
    uint64_t scratch_best = (wish.decodes ? SCRATCH_BEST : 0) + wish.chunks_bytes;
    uint64_t tile_best = tp_smaller(wish.tile_bytes, TP_TILE_MEMORY_BEST);
    unsigned count = wanted_workers ? wanted_workers : tp_host_cpu_count();
    count = count > 1024 ? 1024 : count;
    uint64_t allowed = max_memory_bytes ? max_memory_bytes : (uint64_t)count * ((uint64_t)32 << 20);
    uint64_t scratch_min = needs_scratch ? TP_SCRATCH_MIN_BYTES : 0,
             tile_min = tp_smaller(tile_best, TP_TILE_MEMORY_MIN);
    uint64_t worker_min = WORKER_BYTES + PIECE_MIN + BUFFER_MIN + scratch_min + tile_min;
    uint64_t least = FIXED_BYTES + worker_min;
    if (allowed < least) {
        tp_fail(err, TP_ERR_NOMEM, "--max-memory allows %" PRIu64 " bytes, one worker needs %" PRIu64, allowed, least);
        return tp_err_hint(err, TP_ERR_NOMEM, "allow %" PRIu64 " MiB or more", (least >> 20) + 1);
    }
    uint64_t most = (allowed - FIXED_BYTES) / worker_min;
    count = count > most ? (unsigned)most : count;
    if (wish.chunks_bytes > 0) { /* a chunk that is decoded twice costs more than a worker brings */
        most = (allowed - FIXED_BYTES) / (worker_min + PIECE_BEST + BUFFER_BEST + scratch_best);
        count = most < 1 ? 1 : count > most ? (unsigned)most : count;
    }
    uint64_t room = (allowed - FIXED_BYTES) / count - WORKER_BYTES - scratch_min - tile_min;
    uint64_t piece = room >= BUFFER_MIN + PIECE_BEST ? PIECE_BEST : PIECE_MIN;
    uint64_t buffer = tp_smaller((room - piece) & ~((UINT64_C(64) << 10) - 1), BUFFER_BEST);
    *budget = (struct tp_budget){.workers = count,
                                 .piece_bytes = (size_t)piece,
                                 .buffer_bytes = (size_t)buffer,
                                 .scratch_bytes = (size_t)scratch_min,
                                 .tile_bytes = (size_t)tile_min};
    share_rest(budget, room - piece - buffer, less(scratch_best, scratch_min), less(tile_best, tile_min));
    return TP_OK;
}
