/* SPDX-License-Identifier: MIT */
#include "pipeline/move.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "os/file.h"
#include "os/host.h"
#include "plan/piece.h"

#define LINE ((size_t)64)                  /* of the processor's cache */
#define BEYOND (TP_FRAME_MAX_BYTES + LINE) /* room behind a buffer's end, for what does not end with it */

struct worker {
    struct tp_move *move;
    struct tp_pool *pool;
    struct tp_hasher *hasher;
    struct tp_reader_state reader; /* its scratch is for decoding */
    uint8_t *in;                   /* piece_bytes and a line */
    uint8_t *out;                  /* buffer_bytes and BEYOND */
    struct tp_result seen;         /* of the block in work */
    /* WRITE: out[begin, fill) goes to file offset base + begin; base is a multiple of buffer_bytes */
    int fd;
    uint32_t file;
    char *path;
    uint64_t base;
    size_t begin, fill;
};

static const uint8_t kind_of[TP_DTYPE_COUNT] = {
    [TP_F64] = TP_KIND_F64, [TP_F32] = TP_KIND_F32, [TP_F16] = TP_KIND_F16, [TP_BF16] = TP_KIND_BF16};

/* ---- making elements ---- */

/* Elements that fit the buffers: `room` bytes of destination, and the source's side in `in`. */
static uint64_t piece_limit(const struct worker *w, const struct tp_array *a, size_t room)
{
    unsigned item = tp_array_item_bytes(a);
    uint64_t piece = w->move->budget.piece_bytes;
    uint64_t limit = room < piece ? (room + item - 1) / item : piece / item; /* the last may reach beyond the buffer */
    if (a->op == TP_OP_CAST) {
        uint64_t in_limit = piece * 8 / tp_dtype_bits((enum tp_dtype)a->source_dtype);
        limit = limit < in_limit ? limit : in_limit;
    }
    return a->op == TP_OP_UNPACK_F4 ? (limit + 1) & ~(uint64_t)1 : limit;
}

/* The kernel copies twice as fast between addresses that are alike in a cache line: where a source's byte lies in its
 * file is where it is put in the buffer. */
static size_t source_shift(const struct tp_logical *l, uint64_t first)
{
    if (l->decoded)
        return 0;
    uint64_t offset = l->tensor->extents[0].offset_bytes + first * tp_dtype_bits((enum tp_dtype)l->tensor->dtype) / 8;
    return (size_t)(offset % LINE);
}

static enum tp_status make_run(struct worker *w, const struct tp_array *a, const struct tp_run *run, uint8_t *dst,
                               struct tp_error *err)
{
    const struct tp_move *m = w->move;
    const struct tp_kernels *k = m->kernels;
    const struct tp_logical *l = &m->plan->logicals[run->logical];
    uint8_t *in = w->in + source_shift(l, run->src_elem);
    bool is_odd = l->decoded && a->source_dtype == TP_F32 &&
                  (uintptr_t)dst % sizeof(float) != 0; /* payloads begin at any byte, floats do not */
    uint8_t *target = a->op == TP_OP_COPY && !is_odd ? dst : in;
    enum tp_status st = TP_OK;
    if (a->op == TP_OP_CAST &&
        tp_logical_read_cast(&w->reader, l, run->src_elem, run->elem_count, (enum tp_dtype)a->dtype, dst, m->saturate,
                             &w->seen.stats, &st, err))
        return st;
    st = tp_logical_read(&w->reader, l, run->src_elem, run->elem_count, target, err);
    if (st)
        return st;
    size_t n = (size_t)run->elem_count;
    if (a->op == TP_OP_COPY && is_odd)
        memcpy(dst, in, n * tp_array_item_bytes(a));
    if (a->op == TP_OP_CAST)
        k->cast[kind_of[a->source_dtype]][kind_of[a->dtype]](dst, in, n, m->saturate, &w->seen.stats);
    else if (a->op == TP_OP_UNPACK_F4)
        k->unpack_f4(dst, in, n / 2);
    else if (a->result != TP_NONE && a->source_dtype == TP_BOOL)
        w->seen.odd_bool_count += k->count_not_bool(dst, n);
    else if (a->result != TP_NONE)
        k->measure[kind_of[a->source_dtype]](dst, n, &w->seen.stats);
    return TP_OK;
}

/* Make elements [first, first + count) of an array at dst. */
static enum tp_status make(struct worker *w, const struct tp_array *a, uint64_t first, uint64_t count, uint8_t *dst,
                           struct tp_error *err)
{
    while (count > 0) {
        struct tp_run run;
        if (!tp_array_run_at(a, first, count, &run))
            return tp_fail(err, TP_ERR_BUG, "no piece holds element %" PRIu64, first);
        enum tp_status st = make_run(w, a, &run, dst, err);
        if (st)
            return st;
        dst += run.elem_count * tp_array_item_bytes(a);
        first += run.elem_count;
        count -= run.elem_count;
    }
    return TP_OK;
}

static void keep_result(struct worker *w, const struct tp_array *a)
{
    struct tp_move *m = w->move;
    if (a->result == TP_NONE || !m->results)
        return;
    pthread_mutex_lock(&m->lock);
    tp_stats_merge(&m->results[a->result].stats, &w->seen.stats);
    m->results[a->result].odd_bool_count += w->seen.odd_bool_count;
    pthread_mutex_unlock(&m->lock);
}

static void clear_seen(struct worker *w)
{
    tp_stats_init(&w->seen.stats);
    w->seen.odd_bool_count = 0;
}

struct span { /* of a block */
    const struct tp_array *array;
    uint64_t first_elem, elem_count, offset_bytes;
};

static struct span block_span(const struct tp_plan *plan, const struct tp_out_extent *e, uint64_t block)
{
    const struct tp_array *a = &plan->arrays[e->array];
    uint64_t step = TP_BLOCK_BYTES / tp_array_item_bytes(a);
    uint64_t first = block * step;
    uint64_t rest = e->elem_count - first;
    return (struct span){a, e->first_elem + first, rest < step ? rest : step, e->offset_bytes + block * TP_BLOCK_BYTES};
}

/* ---- writing ---- */

/* Write a whole buffer, or at the end what is there. A buffer covers an aligned range of the file: writes that are as
 * large and as aligned as a folio of the page cache get one folio, and odd ones many small ones. */
static enum tp_status flush(struct worker *w, bool all, struct tp_error *err)
{
    size_t end = all ? w->fill : w->move->budget.buffer_bytes; /* every append is followed by a flush: never more */
    if (w->fill < end || end <= w->begin)
        return TP_OK;
    enum tp_status st = tp_file_write_at(w->fd, w->out + w->begin, end - w->begin, w->base + w->begin, w->path, err);
    if (st)
        return st;
    tp_pool_count(w->pool, end - w->begin);
    memmove(w->out, w->out + end, w->fill - end);
    w->base += end;
    w->begin = 0;
    w->fill -= end;
    return TP_OK;
}

/* A frame may be larger than the buffer (the header of a safetensors file): a little at a time, into the room that the
 * buffer has beyond its end. */
static enum tp_status write_frame(struct worker *w, uint32_t file, uint32_t k, struct tp_error *err)
{
    const struct tp_move *m = w->move;
    for (size_t offset = 0;;) {
        size_t size = m->format->frame(m->plan, file, k, offset, w->out + w->fill, TP_FRAME_MAX_BYTES);
        if (size == 0)
            return TP_OK;
        w->fill += size;
        offset += size;
        enum tp_status st = flush(w, false, err);
        if (st)
            return st;
    }
}

/* Overflow was found somewhere: nothing is written any more, but every array that narrows is still counted. */
static enum tp_status scan_block(struct worker *w, const struct span *s, uint64_t done, struct tp_error *err)
{
    const struct tp_array *a = s->array;
    if (a->op != TP_OP_CAST)
        return TP_OK;
    while (done < s->elem_count && !tp_pool_stopped(w->pool)) {
        uint64_t limit = piece_limit(w, a, w->move->budget.buffer_bytes);
        uint64_t n = s->elem_count - done < limit ? s->elem_count - done : limit;
        enum tp_status st = make(w, a, s->first_elem + done, n, w->out, err);
        if (st)
            return st;
        tp_pool_count(w->pool, n * tp_array_item_bytes(a));
        done += n;
    }
    keep_result(w, a);
    return TP_OK;
}

static enum tp_status write_block(struct worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct span s = block_span(m->plan, e, block);
    unsigned item = tp_array_item_bytes(s.array);
    clear_seen(w);
    tp_hasher_reset(w->hasher);
    for (uint64_t done = 0; done < s.elem_count;) {
        if (tp_pool_stopped(w->pool))
            return TP_OK;
        if (atomic_load_explicit(&w->pool->scan, memory_order_relaxed))
            return scan_block(w, &s, done, err);
        uint64_t limit = piece_limit(w, s.array, m->budget.buffer_bytes - w->fill);
        uint64_t n = s.elem_count - done < limit ? s.elem_count - done : limit;
        enum tp_status st = make(w, s.array, s.first_elem + done, n, w->out + w->fill, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->out + w->fill, (size_t)(n * item));
        w->fill += (size_t)(n * item);
        done += n;
        st = flush(w, false, err);
        if (st)
            return st;
        if (m->stop_at_overflow && w->seen.stats.overflow_count > 0)
            atomic_store(&w->pool->scan, true);
    }
    m->digests[e->first_block + block] = tp_hasher_digest(w->hasher);
    keep_result(w, s.array);
    return TP_OK;
}

static enum tp_status open_file(struct worker *w, uint32_t file, struct tp_error *err)
{
    if (w->fd >= 0 && w->file == file)
        return TP_OK;
    tp_fd_close(w->fd);
    free(w->path);
    w->fd = -1;
    w->file = file;
    w->path = tp_path_join(w->move->folder, w->move->plan->files[file].name);
    return w->path ? tp_file_open_write(&w->fd, w->path, err) : tp_fail_nomem(err);
}

/* The file offset at which a task begins: its first block, or the framing in front of it. */
static uint64_t task_offset(const struct tp_move *m, const struct tp_task *t)
{
    const struct tp_out_file *out = &m->plan->files[t->file];
    if (out->extent_count == 0)
        return 0;
    const struct tp_out_extent *e = &m->plan->extents[out->first_extent + t->first_k];
    if (t->first_block > 0)
        return e->offset_bytes + t->first_block * TP_BLOCK_BYTES;
    return t->first_k == 0 ? 0 : (e - 1)->offset_bytes + (e - 1)->size_bytes;
}

/* ---- checking ---- */

static enum tp_status add_mismatch(struct tp_move *m, struct tp_mismatch mismatch, struct tp_error *err)
{
    pthread_mutex_lock(&m->lock);
    bool ok = tp_array_grow(&m->mismatches, &m->mismatch_capacity, m->mismatch_count + 1, sizeof *m->mismatches);
    if (ok)
        m->mismatches[m->mismatch_count++] = mismatch;
    pthread_mutex_unlock(&m->lock);
    return ok ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status check_digest(struct worker *w, const struct tp_out_extent *e, uint64_t block,
                                   struct tp_error *err)
{
    struct tp_move *m = w->move;
    if (!m->digests)
        return TP_OK;
    struct tp_digest found = tp_hasher_digest(w->hasher);
    if (memcmp(&found, &m->digests[e->first_block + block], sizeof found) == 0)
        return TP_OK;
    return add_mismatch(m, (struct tp_mismatch){.extent = (uint32_t)(e - m->plan->extents), .block = block}, err);
}

static enum tp_status check_block(struct worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct span s = block_span(m->plan, e, block);
    uint64_t size = s.elem_count * tp_array_item_bytes(s.array);
    tp_hasher_reset(w->hasher);
    for (uint64_t done = 0; done < size;) {
        if (tp_pool_stopped(w->pool))
            return TP_OK;
        size_t n = size - done < m->budget.piece_bytes ? (size_t)(size - done) : m->budget.piece_bytes;
        enum tp_status st = tp_checkpoint_read_at(m->output, e->file, w->in, n, s.offset_bytes + done, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->in, n);
        tp_pool_count(w->pool, n);
        done += n;
    }
    return check_digest(w, e, block, err);
}

/* Count the elements that differ; *first is the index of the first one. */
static uint64_t count_different(const uint8_t *a, const uint8_t *b, uint64_t n, unsigned item, uint64_t *first)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (memcmp(a + i * item, b + i * item, item) == 0)
            continue;
        if (count++ == 0)
            *first = i;
    }
    return count;
}

static enum tp_status compare_block(struct worker *w, const struct tp_out_extent *e, uint64_t block,
                                    struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct span s = block_span(m->plan, e, block);
    unsigned item = tp_array_item_bytes(s.array);
    struct tp_mismatch found = {.extent = (uint32_t)(e - m->plan->extents), .is_value = true, .block = block};
    clear_seen(w);
    tp_hasher_reset(w->hasher);
    for (uint64_t done = 0; done < s.elem_count;) {
        if (tp_pool_stopped(w->pool))
            return TP_OK;
        uint64_t limit = piece_limit(w, s.array, m->budget.buffer_bytes), first = 0;
        uint64_t n = s.elem_count - done < limit ? s.elem_count - done : limit;
        size_t bytes = (size_t)(n * item);
        enum tp_status st = make(w, s.array, s.first_elem + done, n, w->out, err);
        if (!st)
            st = tp_checkpoint_read_at(m->output, e->file, w->in, bytes, s.offset_bytes + done * item, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->in, bytes);
        if (memcmp(w->in, w->out, bytes) != 0) {
            uint64_t differ = count_different(w->in, w->out, n, item, &first);
            if (found.elem_count == 0)
                found.elem = s.first_elem + done + first;
            found.elem_count += differ;
        }
        tp_pool_count(w->pool, bytes);
        done += n;
    }
    enum tp_status st = found.elem_count ? add_mismatch(m, found, err) : TP_OK;
    return st ? st : check_digest(w, e, block, err);
}

/* ---- the walk ---- */

static enum tp_status do_block(struct worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    switch (w->move->mode) {
    case TP_MOVE_WRITE:
        return write_block(w, e, block, err);
    case TP_MOVE_CHECK:
        return check_block(w, e, block, err);
    case TP_MOVE_COMPARE:
        return compare_block(w, e, block, err);
    }
    return tp_fail(err, TP_ERR_BUG, "unknown mode");
}

static enum tp_status begin_task(struct worker *w, const struct tp_task *t, struct tp_error *err)
{
    if (w->move->mode != TP_MOVE_WRITE)
        return TP_OK;
    uint64_t offset = task_offset(w->move, t);
    w->base = offset - offset % w->move->budget.buffer_bytes;
    w->begin = w->fill = (size_t)(offset - w->base);
    return open_file(w, t->file, err);
}

static enum tp_status end_task(struct worker *w, const struct tp_task *t, struct tp_error *err)
{
    if (w->move->mode != TP_MOVE_WRITE || atomic_load(&w->pool->scan) || tp_pool_stopped(w->pool))
        return TP_OK;
    uint32_t extent_count = w->move->plan->files[t->file].extent_count;
    enum tp_status st = t->end_k == extent_count ? write_frame(w, t->file, extent_count, err) : TP_OK;
    return st ? st : flush(w, true, err);
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
    struct worker *w = state;
    w->pool = pool;
    const struct tp_out_file *out = &m->plan->files[t->file];
    enum tp_status st = begin_task(w, t, err);
    for (uint32_t k = t->first_k; k <= t->end_k && k < out->extent_count && !st; k++) {
        const struct tp_out_extent *e = &m->plan->extents[out->first_extent + k];
        uint64_t block = k == t->first_k ? t->first_block : 0;
        uint64_t end = k == t->end_k ? t->end_block : tp_extent_block_count(e);
        if (k == t->end_k && end == 0)
            break;
        if (m->mode == TP_MOVE_WRITE && block == 0 && !atomic_load_explicit(&pool->scan, memory_order_relaxed))
            st = write_frame(w, t->file, k, err);
        for (; block < end && !st; block++)
            st = do_block(w, e, block, err);
        if (st && st != TP_ERR_CANCELLED)
            name_array(m, e, err);
    }
    return st ? st : end_task(w, t, err);
}

/* ---- workers and their memory ---- */

/* Measured: code, libraries, stacks and the C library's own pools, with a margin. */
#define FIXED_BYTES ((uint64_t)12 << 20)
#define WORKER_BYTES ((uint64_t)512 << 10) /* stack and hash state, beside the buffers */
#define SCRATCH_BEST ((uint64_t)12 << 20)  /* a whole expert's codes */
#define PIECE_MIN ((uint64_t)64 << 10)
#define PIECE_BEST ((uint64_t)256 << 10) /* source and result of a piece stay in the cache of a core */
#define BUFFER_MIN ((uint64_t)128 << 10)
#define BUFFER_BEST ((uint64_t)512 << 10) /* larger writes are sometimes faster, and sometimes several times slower */

enum tp_status tp_budget_plan(struct tp_budget *budget, unsigned wanted_workers, uint64_t max_memory_bytes,
                              bool decodes, struct tp_error *err)
{
    unsigned count = wanted_workers ? wanted_workers : tp_host_cpu_count();
    count = count > 1024 ? 1024 : count;
    uint64_t allowed = max_memory_bytes ? max_memory_bytes : (uint64_t)count * ((uint64_t)32 << 20);
    uint64_t scratch_min = decodes ? TP_SCRATCH_MIN_BYTES : 0;
    uint64_t worker_min = WORKER_BYTES + PIECE_MIN + BUFFER_MIN + scratch_min;
    uint64_t least = FIXED_BYTES + worker_min;
    if (allowed < least) {
        tp_fail(err, TP_ERR_NOMEM, "--max-memory allows %" PRIu64 " bytes, one worker needs %" PRIu64, allowed, least);
        return tp_err_hint(err, TP_ERR_NOMEM, "allow %" PRIu64 " MiB or more", (least >> 20) + 1);
    }
    uint64_t most = (allowed - FIXED_BYTES) / worker_min;
    count = count > most ? (unsigned)most : count;
    uint64_t room = (allowed - FIXED_BYTES) / count - WORKER_BYTES - scratch_min;
    uint64_t piece = room >= BUFFER_MIN + PIECE_BEST ? PIECE_BEST : PIECE_MIN;
    uint64_t buffer = (room - piece) & ~((UINT64_C(64) << 10) - 1);
    buffer = buffer > BUFFER_BEST ? BUFFER_BEST : buffer;
    uint64_t scratch = scratch_min + (room - piece - buffer);
    *budget = (struct tp_budget){.workers = count,
                                 .piece_bytes = (size_t)piece,
                                 .buffer_bytes = (size_t)buffer,
                                 .scratch_bytes = (size_t)(!decodes                 ? 0
                                                           : scratch > SCRATCH_BEST ? SCRATCH_BEST
                                                                                    : scratch)};
    return TP_OK;
}

static void free_worker(struct worker *w)
{
    if (!w)
        return;
    tp_fd_close(w->fd);
    tp_hasher_free(w->hasher);
    tp_host_free_aligned(w->in, w->move->budget.piece_bytes + LINE);
    tp_host_free_aligned(w->out, w->move->budget.buffer_bytes + BEYOND);
    tp_host_free_aligned(w->reader.scratch.bytes, w->reader.scratch.size_bytes);
    free(w->path);
    free(w);
}

static struct worker *new_worker(struct tp_move *move)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->move = move;
    w->fd = -1;
    w->hasher = tp_hasher_new(move->kernels);
    w->in = tp_host_alloc_aligned(move->budget.piece_bytes + LINE);
    w->out = tp_host_alloc_aligned(move->budget.buffer_bytes + BEYOND);
    w->reader = (struct tp_reader_state){.ck = move->source, .kernels = move->kernels};
    w->reader.scratch.size_bytes = move->plan->decoded_count ? move->budget.scratch_bytes : 0;
    if (w->reader.scratch.size_bytes)
        w->reader.scratch.bytes = tp_host_alloc_aligned(w->reader.scratch.size_bytes);
    bool has_scratch = w->reader.scratch.bytes || w->reader.scratch.size_bytes == 0;
    if (w->hasher && w->in && w->out && has_scratch)
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
            total += m->plan->files[f].size_bytes;
    }
    return total;
}

enum tp_status tp_move_run(struct tp_move *move, struct tp_error *err)
{
    static const enum tp_phase phase_of[] = {TP_PHASE_CONVERT, TP_PHASE_VERIFY, TP_PHASE_COMPARE};
    struct tp_task_list list;
    enum tp_status st = tp_tasks_build(&list, move->plan, move->budget.workers, err);
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
