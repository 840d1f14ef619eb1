/* SPDX-License-Identifier: MIT */
#include "pipeline/move.h"

#include <stdlib.h>

#include "base/least.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "os/file.h"
#include "os/host.h"
#include "pipeline/worker.h"

static enum tp_status do_block(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    switch (w->move->mode) {
    case TP_MOVE_WRITE:
        return tp_write_block(w, e, block, err);
    case TP_MOVE_CHECK:
        return tp_check_block(w, e, block, err);
    case TP_MOVE_COMPARE:
        return tp_compare_block(w, e, block, err);
    }
    return tp_fail(err, TP_ERR_BUG, "unknown mode");
}

/* Memory that is for tiles, where blocks are made at all and may be made in any order. */
static size_t spread_bytes(const struct tp_move *m)
{
    return m->mode == TP_MOVE_CHECK || m->output_tensor ? 0 : m->budget.tile_bytes;
}

static enum tp_status do_blocks(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block, uint64_t end,
                                struct tp_error *err)
{
    const struct tp_move *m = w->move;
    struct tp_spread spread;
    bool is_spread = tp_spread_plan(&spread, m->plan, e, spread_bytes(m));
    enum tp_status st = TP_OK;
    for (uint64_t next; block < end && !st; block = next) {
        next = is_spread ? tp_smaller(block + spread.block_count, end) : block + 1;
        if (!is_spread)
            st = do_block(w, e, block, err);
        else if (m->mode == TP_MOVE_WRITE)
            st = tp_write_group(w, e, &spread, block, next, err);
        else
            st = tp_compare_group(w, e, &spread, block, next, err);
    }
    return st;
}

static void name_array(const struct tp_move *m, const struct tp_out_extent *e, struct tp_error *err)
{
    char name[TP_NAME_MAX_BYTES + 1];
    const struct tp_array *a = &m->plan->arrays[e->array];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    tp_err_tensor(err, err->code, name, a->path_len);
}

static enum tp_status run_task(struct tp_pool *pool, void *job, void *state, const struct tp_task *t,
                               struct tp_error *err)
{
    struct tp_move *m = job;
    struct tp_worker *w = state;
    w->pool = pool;
    const struct tp_out_file *out = &m->plan->files[t->file];
    enum tp_status st = m->mode == TP_MOVE_WRITE ? tp_write_begin(w, t, err) : TP_OK;
    for (uint32_t k = t->first_k; k <= t->end_k && k < out->extent_count && !st; k++) {
        const struct tp_out_extent *e = &m->plan->extents[out->first_extent + k];
        uint64_t block = k == t->first_k ? t->first_block : 0;
        uint64_t end = k == t->end_k ? t->end_block : tp_extent_block_count(e);
        if (k == t->end_k && end == 0)
            break;
        if (m->mode == TP_MOVE_WRITE && block == 0 && !atomic_load_explicit(&pool->scan, memory_order_relaxed))
            st = tp_write_frame(w, t->file, k, err);
        st = st ? st : do_blocks(w, e, block, end, err);
        if (st && st != TP_ERR_CANCELLED)
            name_array(m, e, err);
    }
    return m->mode == TP_MOVE_WRITE ? tp_write_end(w, t, st, err) : st;
}

/* ---- workers and their memory ---- */

static void free_worker(struct tp_worker *w)
{
    if (!w)
        return;
    tp_fd_close(w->fd);
    tp_hasher_free(w->hasher);
    tp_host_free_aligned(w->out, w->move->budget.buffer_bytes + TP_BEYOND_BYTES);
    tp_chunk_reader_free(w->model);
    tp_maker_release(&w->maker);
    free(w->finished);
    free(w->path);
    free(w);
}

static bool is_stopped(void *user)
{
    const struct tp_worker *w = user;
    return tp_pool_stopped(w->pool);
}

/* What decodes, what reads chunks of the source and what reads those of the output share the scratch. */
static bool make_maker(struct tp_worker *w)
{
    const struct tp_move *m = w->move;
    bool by_tensor = m->output_tensor != NULL;
    unsigned users = (unsigned)(m->plan->decoded_count > 0) + (m->plan->chunked_count > 0) + by_tensor;
    size_t share = users ? m->budget.scratch_bytes / users : 0;
    struct tp_maker_sizes sizes = {m->budget.piece_bytes, share, share, m->budget.tile_bytes};
    bool ok = tp_maker_init(&w->maker, m->plan, m->source, m->kernels, sizes);
    w->maker.saturate = m->saturate;
    w->maker.is_stopped = is_stopped;
    w->maker.user = w;
    if (ok && by_tensor)
        ok = (w->model = tp_chunk_reader_new(share)) != NULL;
    return ok;
}

static struct tp_worker *new_worker(struct tp_move *move)
{
    struct tp_worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->move = move;
    w->fd = -1;
    w->hasher = tp_hasher_new(move->kernels);
    w->out = tp_host_alloc_aligned(move->budget.buffer_bytes + TP_BEYOND_BYTES);
    if (w->hasher && w->out && make_maker(w))
        return w;
    free_worker(w);
    return NULL;
}

static const char *file_name(void *job, uint32_t file)
{
    const struct tp_move *m = job;
    return file < m->plan->file_count ? m->plan->files[file].name : "";
}

static uint64_t total_bytes(const struct tp_move *m)
{
    uint64_t total = m->plan->payload_bytes;
    if (m->mode == TP_MOVE_WRITE) {
        total = 0;
        for (size_t f = 0; f < m->plan->file_count; f++)
            total += m->plan->files[f].is_linked ? 0 : m->plan->files[f].size_bytes;
    } else if (m->mode == TP_MOVE_CHECK) {
        for (size_t i = 0; i < m->plan->extent_count; i++)
            if (m->plan->files[m->plan->extents[i].file].is_linked)
                total -= m->plan->extents[i].size_bytes;
    }
    return total;
}

enum tp_status tp_move_run(struct tp_move *move, struct tp_error *err)
{
    static const enum tp_phase phase_of[] = {TP_PHASE_CONVERT, TP_PHASE_VERIFY, TP_PHASE_COMPARE};
    struct tp_task_list list;
    enum tp_status st =
        tp_tasks_build(&list, move->plan, move->budget.workers, move->mode == TP_MOVE_COMPARE, spread_bytes(move), err);
    if (st)
        return st;
    unsigned workers = move->budget.workers < list.count ? move->budget.workers : (unsigned)list.count;
    void **states = calloc(move->budget.workers, sizeof *states);
    bool ok = states != NULL;
    for (unsigned i = 0; ok && i < workers; i++)
        ok = (states[i] = new_worker(move)) != NULL;
    pthread_mutex_init(&move->lock, NULL);
    struct tp_pool_config config = {.workers = workers,
                                    .worker_states = states,
                                    .run = run_task,
                                    .job = move,
                                    .progress = move->progress,
                                    .progress_user = move->progress_user,
                                    .phase = phase_of[move->mode],
                                    .total_bytes = total_bytes(move),
                                    .file_name = file_name};
    if (!ok)
        st = tp_fail_nomem(err);
    else if (workers > 0)
        st = tp_pool_run(&config, &list, err);
    pthread_mutex_destroy(&move->lock);
    for (unsigned i = 0; states && i < workers; i++)
        free_worker(states[i]);
    free(states);
    tp_tasks_release(&list);
    return st;
}
