/* SPDX-License-Identifier: MIT */
#include "pipeline/move.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/least.h"
#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "os/file.h"
#include "os/host.h"
#include "pipeline/make.h"
#include "plan/piece.h"

#define LINE ((size_t)64)                  /* of the processor's cache */
#define BEYOND (TP_FRAME_MAX_BYTES + LINE) /* room behind a buffer's end, for what does not end with it */

struct worker {
    struct tp_move *move;
    struct tp_pool *pool;
    struct tp_hasher *hasher;
    struct tp_maker maker;         /* its `seen` is of the block in work */
    uint8_t *out;                  /* buffer_bytes and BEYOND */
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

static void keep_result(struct worker *w, const struct tp_array *a)
{
    struct tp_move *m = w->move;
    if (a->result == TP_NONE || !m->results)
        return;
    pthread_mutex_lock(&m->lock);
    tp_result_merge(&m->results[a->result], &w->maker.seen);
    pthread_mutex_unlock(&m->lock);
}

struct span { /* of a block */
    const struct tp_out_extent *extent;
    const struct tp_array *array;
    uint64_t first_elem; /* within the extent */
    uint64_t elem_count, offset_bytes;
};

static struct span block_span(const struct tp_plan *plan, const struct tp_out_extent *e, uint64_t block)
{
    const struct tp_array *a = &plan->arrays[e->array];
    uint64_t step = TP_BLOCK_BYTES / tp_array_item_bytes(a);
    uint64_t first = block * step;
    uint64_t rest = e->elem_count - first;
    return (struct span){e, a, first, rest < step ? rest : step, e->offset_bytes + block * TP_BLOCK_BYTES};
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

/* ---- the journal ---- */

static enum tp_status note_finished(struct worker *w, uint64_t block, struct tp_error *err)
{
    const struct tp_move *m = w->move;
    bool overflowed =
        m->stop_at_overflow && w->maker.seen.stats.overflow_count > 0; /* to be made again, in another way */
    if (!m->journal || overflowed)
        return TP_OK;
    if (!tp_array_grow(&w->finished, &w->finished_capacity, w->finished_count + 1, sizeof *w->finished))
        return tp_fail_nomem(err);
    w->finished[w->finished_count++] = (struct tp_block_record){.block = block,
                                                                .digest = m->digests[block],
                                                                .stats = w->maker.seen.stats,
                                                                .odd_bool_count = w->maker.seen.odd_bool_count};
    return TP_OK;
}

/* Write what is made, then tell the journal of the blocks that are whole. */
static enum tp_status settle(struct worker *w, struct tp_error *err)
{
    enum tp_status st = flush(w, true, err);
    if (!st && w->finished_count > 0)
        st = tp_journal_append(w->move->journal, w->finished, w->finished_count, err);
    w->finished_count = 0;
    return st;
}

static void place(struct worker *w, uint64_t offset)
{
    w->base = offset - offset % w->move->budget.buffer_bytes;
    w->begin = w->fill = (size_t)(offset - w->base);
}

/* Does the file hold what the journal says of this block? Then it is done. */
static enum tp_status try_claim(struct worker *w, const struct span *s, uint64_t block, bool *done,
                                struct tp_error *err)
{
    struct tp_move *m = w->move;
    const struct tp_block_record *claim = tp_claims_find(m->claims, block);
    uint64_t size = s->elem_count * tp_array_item_bytes(s->array), at = 0;
    *done = false;
    if (!claim)
        return TP_OK;
    tp_hasher_reset(w->hasher);
    for (; at < size && !tp_pool_stopped(w->pool); at += m->budget.piece_bytes) {
        size_t n = size - at < m->budget.piece_bytes ? (size_t)(size - at) : m->budget.piece_bytes;
        enum tp_status st = tp_file_read_at(w->fd, w->maker.in, n, s->offset_bytes + at, w->path, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->maker.in, n);
    }
    struct tp_digest found = tp_hasher_digest(w->hasher);
    if (at < size || memcmp(&found, &claim->digest, sizeof found) != 0)
        return TP_OK;
    enum tp_status st = flush(w, true, err);
    if (st)
        return st;
    place(w, s->offset_bytes + size);
    m->digests[block] = claim->digest;
    w->maker.seen = (struct tp_result){claim->stats, claim->odd_bool_count};
    keep_result(w, s->array);
    tp_pool_count(w->pool, size);
    atomic_fetch_add(&m->kept_bytes, size);
    *done = true;
    return TP_OK;
}

/* Overflow was found somewhere: nothing is written any more, but every array that narrows is still counted. */
static enum tp_status scan_block(struct worker *w, const struct span *s, uint64_t done, struct tp_error *err)
{
    const struct tp_array *a = s->array;
    bool casts = false;
    for (uint32_t i = 0; i < a->piece_count; i++)
        casts |= a->pieces[i].op == TP_OP_CAST;
    if (!casts)
        return TP_OK;
    while (done < s->elem_count && !tp_pool_stopped(w->pool)) {
        uint64_t limit = tp_maker_limit(&w->maker, a, w->move->budget.buffer_bytes);
        uint64_t n = s->elem_count - done < limit ? s->elem_count - done : limit;
        enum tp_status st = tp_make(&w->maker, s->extent, s->first_elem + done, n, w->out, err);
        if (st)
            return st;
        tp_pool_count(w->pool, n * tp_array_item_bytes(a));
        done += n;
    }
    keep_result(w, a);
    return TP_OK;
}

/* Bytes that lie elsewhere: whole buffers of them are written from there. */
static enum tp_status append(struct worker *w, const uint8_t *bytes, size_t size, struct tp_error *err)
{
    size_t whole = w->move->budget.buffer_bytes;
    enum tp_status st = TP_OK;
    while (size > 0 && !st) {
        size_t n = size < whole - w->fill ? size : whole - w->fill;
        if (n == whole) {
            st = tp_file_write_at(w->fd, bytes, n, w->base, w->path, err);
            tp_pool_count(w->pool, n);
            w->base += n;
        } else {
            memcpy(w->out + w->fill, bytes, n);
            w->fill += n;
            st = flush(w, false, err);
        }
        bytes += n;
        size -= n;
    }
    return st;
}

/* Some of *count elements: as many as the buffer has room for. *count of them it were. */
static enum tp_status write_elems(struct worker *w, const struct tp_out_extent *e, uint64_t at, uint64_t *count,
                                  struct tp_error *err)
{
    const struct tp_array *a = &w->move->plan->arrays[e->array];
    unsigned item = tp_array_item_bytes(a);
    size_t room = w->move->budget.buffer_bytes - w->fill;
    uint64_t limit = tp_maker_limit(&w->maker, a, room), whole = (room + item - 1) / item;
    const uint8_t *made;
    *count = tp_smaller(*count, whole);
    enum tp_status st = tp_make_in_tile(&w->maker, e, at, count, &made, err);
    if (!st && made) {
        tp_hasher_update(w->hasher, made, (size_t)*count * item);
        return append(w, made, (size_t)*count * item, err);
    }
    *count = tp_smaller(*count, limit);
    st = st ? st : tp_make(&w->maker, e, at, *count, w->out + w->fill, err);
    if (st)
        return st;
    tp_hasher_update(w->hasher, w->out + w->fill, (size_t)*count * item);
    w->fill += (size_t)*count * item;
    return flush(w, false, err);
}

static enum tp_status write_block(struct worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct span s = block_span(m->plan, e, block);
    uint64_t number = e->first_block + block;
    bool done_before = false;
    enum tp_status before = try_claim(w, &s, number, &done_before, err);
    if (before || done_before)
        return before;
    tp_maker_begin(&w->maker);
    tp_hasher_reset(w->hasher);
    for (uint64_t done = 0; done < s.elem_count;) {
        if (tp_pool_stopped(w->pool))
            return TP_OK;
        if (atomic_load_explicit(&w->pool->scan, memory_order_relaxed)) {
            enum tp_status st = settle(w, err); /* the buffer is wanted for scanning */
            return st ? st : scan_block(w, &s, done, err);
        }
        uint64_t n = s.elem_count - done;
        enum tp_status st = write_elems(w, e, s.first_elem + done, &n, err);
        if (st)
            return st;
        done += n;
        if (m->stop_at_overflow && w->maker.seen.stats.overflow_count > 0)
            atomic_store(&w->pool->scan, true);
    }
    m->digests[number] = tp_hasher_digest(w->hasher);
    keep_result(w, s.array);
    return note_finished(w, number, err);
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
    if (!m->digests || m->plan->files[e->file].is_linked || m->output_tensor)
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
        enum tp_status st = tp_checkpoint_read_at(m->output, e->file, w->maker.in, n, s.offset_bytes + done, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->maker.in, n);
        tp_pool_count(w->pool, n);
        done += n;
    }
    return check_digest(w, e, block, err);
}

/* Elements of the output, from a span's done-th on, into w->in. */
static enum tp_status read_model(struct worker *w, const struct span *s, uint64_t done, uint64_t count,
                                 struct tp_error *err)
{
    const struct tp_move *m = w->move;
    unsigned item = tp_array_item_bytes(s->array);
    if (!m->output_tensor)
        return tp_checkpoint_read_at(m->output, s->extent->file, w->maker.in, (size_t)(count * item),
                                     s->offset_bytes + done * item, err);
    const struct tp_tensor *t = tp_checkpoint_tensor(m->output, m->output_tensor[s->extent->array]);
    uint64_t first = s->extent->first_elem + s->first_elem + done;
    return t->chunks ? tp_chunks_read(w->model, m->output, t, first, count, w->maker.in, err)
                     : tp_tensor_read(m->output, t, first, count, w->maker.in, err);
}

/* Which element of the array is a span's n-th. */
static uint64_t array_elem(const struct span *s, uint64_t n)
{
    uint64_t at = s->first_elem + n;
    return s->array->grid ? tp_chunk_elem(s->array, s->extent->leaf, at) : s->extent->first_elem + at;
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
    tp_maker_begin(&w->maker);
    tp_hasher_reset(w->hasher);
    for (uint64_t done = 0; done < s.elem_count;) {
        if (tp_pool_stopped(w->pool))
            return TP_OK;
        uint64_t limit = tp_maker_limit(&w->maker, s.array, m->budget.buffer_bytes), first = 0;
        uint64_t n = s.elem_count - done < limit ? s.elem_count - done : limit;
        size_t bytes = (size_t)(n * item);
        enum tp_status st = tp_make(&w->maker, e, s.first_elem + done, n, w->out, err);
        if (!st)
            st = read_model(w, &s, done, n, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->maker.in, bytes);
        if (memcmp(w->maker.in, w->out, bytes) != 0) {
            uint64_t differ = count_different(w->maker.in, w->out, n, item, &first);
            if (found.elem_count == 0)
                found.elem = array_elem(&s, done + first);
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
    w->finished_count = 0;
    place(w, task_offset(w->move, t));
    return open_file(w, t->file, err);
}

static enum tp_status end_task(struct worker *w, const struct tp_task *t, struct tp_error *err)
{
    if (w->move->mode != TP_MOVE_WRITE || atomic_load(&w->pool->scan))
        return TP_OK;
    if (tp_pool_stopped(w->pool))
        return settle(w, err);
    uint32_t extent_count = w->move->plan->files[t->file].extent_count;
    enum tp_status st = t->end_k == extent_count ? write_frame(w, t->file, extent_count, err) : TP_OK;
    return st ? st : settle(w, err);
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
    if (st && m->mode == TP_MOVE_WRITE && w->finished_count > 0) {
        struct tp_error second; /* of two errors the first one tells more */
        (void)settle(w, &second);
    }
    return st ? st : end_task(w, t, err);
}

/* ---- workers and their memory ---- */

static void free_worker(struct worker *w)
{
    if (!w)
        return;
    tp_fd_close(w->fd);
    tp_hasher_free(w->hasher);
    tp_host_free_aligned(w->out, w->move->budget.buffer_bytes + BEYOND);
    tp_chunk_reader_free(w->model);
    tp_maker_release(&w->maker);
    free(w->finished);
    free(w->path);
    free(w);
}

static bool is_stopped(void *user)
{
    const struct worker *w = user;
    return tp_pool_stopped(w->pool);
}

/* What decodes, what reads chunks of the source and what reads those of the output share the scratch. */
static bool make_maker(struct worker *w)
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

static struct worker *new_worker(struct tp_move *move)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->move = move;
    w->fd = -1;
    w->hasher = tp_hasher_new(move->kernels);
    w->out = tp_host_alloc_aligned(move->budget.buffer_bytes + BEYOND);
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
    enum tp_status st = tp_tasks_build(&list, move->plan, move->budget.workers, move->mode == TP_MOVE_COMPARE, err);
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
