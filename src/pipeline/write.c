/* SPDX-License-Identifier: MIT */
/* Writing blocks: in order, through a buffer, and what of it is finished into the journal. */
#include <stdlib.h>
#include <string.h>

#include "base/least.h"
#include "base/status.h"
#include "os/file.h"
#include "pipeline/worker.h"

void tp_write_keep_result(struct tp_worker *w, const struct tp_array *a)
{
    struct tp_move *m = w->move;
    if (a->result == TP_NONE || !m->results)
        return;
    pthread_mutex_lock(&m->lock);
    tp_result_merge(&m->results[a->result], &w->maker.seen);
    pthread_mutex_unlock(&m->lock);
}

struct tp_span tp_block_span(const struct tp_plan *plan, const struct tp_out_extent *e, uint64_t block)
{
    const struct tp_array *a = &plan->arrays[e->array];
    uint64_t step = TP_BLOCK_BYTES / tp_array_item_bytes(a);
    uint64_t first = block * step;
    uint64_t rest = e->elem_count - first;
    return (struct tp_span){e, a, first, rest < step ? rest : step, e->offset_bytes + block * TP_BLOCK_BYTES};
}

/* ---- the buffer ---- */

/* Write a whole buffer, or at the end what is there. A buffer covers an aligned range of the file: writes that are as
 * large and as aligned as a folio of the page cache get one folio, and odd ones many small ones. */
static enum tp_status flush(struct tp_worker *w, bool all, struct tp_error *err)
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
enum tp_status tp_write_frame(struct tp_worker *w, uint32_t file, uint32_t k, struct tp_error *err)
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

static enum tp_status note_finished(struct tp_worker *w, uint64_t block, struct tp_error *err)
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

enum tp_status tp_write_settle(struct tp_worker *w, struct tp_error *err)
{
    enum tp_status st = flush(w, true, err);
    if (!st && w->finished_count > 0)
        st = tp_journal_append(w->move->journal, w->finished, w->finished_count, err);
    w->finished_count = 0;
    return st;
}

static void place(struct tp_worker *w, uint64_t offset)
{
    w->base = offset - offset % w->move->budget.buffer_bytes;
    w->begin = w->fill = (size_t)(offset - w->base);
}

enum tp_status tp_write_go_to(struct tp_worker *w, uint64_t offset, struct tp_error *err)
{
    enum tp_status st = flush(w, true, err);
    if (!st)
        place(w, offset);
    return st;
}

enum tp_status tp_write_finish(struct tp_worker *w, const struct tp_array *a, uint64_t block, struct tp_error *err)
{
    tp_write_keep_result(w, a);
    return note_finished(w, block, err);
}

/* ---- what an earlier run has finished ---- */

enum tp_status tp_write_claim_holds(struct tp_worker *w, const struct tp_span *s, uint64_t block, bool *holds,
                                    struct tp_error *err)
{
    const struct tp_move *m = w->move;
    const struct tp_block_record *claim = tp_claims_find(m->claims, block);
    uint64_t size = s->elem_count * tp_array_item_bytes(s->array), at = 0;
    *holds = false;
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
    *holds = at >= size && memcmp(&found, &claim->digest, sizeof found) == 0;
    return TP_OK;
}

enum tp_status tp_write_keep_claim(struct tp_worker *w, const struct tp_span *s, uint64_t block, struct tp_error *err)
{
    struct tp_move *m = w->move;
    const struct tp_block_record *claim = tp_claims_find(m->claims, block);
    uint64_t size = s->elem_count * tp_array_item_bytes(s->array);
    enum tp_status st = tp_write_go_to(w, s->offset_bytes + size, err);
    if (st)
        return st;
    m->digests[block] = claim->digest;
    w->maker.seen = (struct tp_result){claim->stats, claim->odd_bool_count};
    tp_write_keep_result(w, s->array);
    tp_pool_count(w->pool, size);
    atomic_fetch_add(&m->kept_bytes, size);
    return TP_OK;
}

bool tp_array_casts(const struct tp_array *a)
{
    bool casts = false;
    for (uint32_t i = 0; i < a->piece_count; i++)
        casts |= a->pieces[i].op == TP_OP_CAST;
    return casts;
}

/* Overflow was found somewhere: nothing is written any more, but every array that narrows is still counted. */
static enum tp_status scan_block(struct tp_worker *w, const struct tp_span *s, uint64_t done, struct tp_error *err)
{
    const struct tp_array *a = s->array;
    if (!tp_array_casts(a))
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
    tp_write_keep_result(w, a);
    return TP_OK;
}

/* Whole buffers are written from where they are. */
enum tp_status tp_write_append(struct tp_worker *w, const uint8_t *bytes, size_t size, struct tp_error *err)
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
static enum tp_status write_elems(struct tp_worker *w, const struct tp_out_extent *e, uint64_t at, uint64_t *count,
                                  struct tp_error *err)
{
    const struct tp_array *a = &w->move->plan->arrays[e->array];
    unsigned item = tp_array_item_bytes(a);
    size_t room = w->move->budget.buffer_bytes - w->fill;
    uint64_t in_tile = tp_smaller(*count, (room + item - 1) / item);
    const uint8_t *made;
    enum tp_status st = tp_make_in_tile(&w->maker, e, at, &in_tile, &made, err);
    if (!st && made) {
        *count = in_tile;
        tp_hasher_update(w->hasher, made, (size_t)in_tile * item);
        return tp_write_append(w, made, (size_t)in_tile * item, err);
    }
    *count = tp_smaller(*count, tp_maker_limit(&w->maker, a, room));
    st = st ? st : tp_make(&w->maker, e, at, *count, w->out + w->fill, err);
    if (st)
        return st;
    tp_hasher_update(w->hasher, w->out + w->fill, (size_t)*count * item);
    w->fill += (size_t)*count * item;
    return flush(w, false, err);
}

enum tp_status tp_write_block(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct tp_span s = tp_block_span(m->plan, e, block);
    uint64_t number = e->first_block + block;
    bool holds = false;
    enum tp_status before = tp_write_claim_holds(w, &s, number, &holds, err);
    if (before || holds)
        return before ? before : tp_write_keep_claim(w, &s, number, err);
    tp_maker_begin(&w->maker);
    tp_hasher_reset(w->hasher);
    for (uint64_t done = 0; done < s.elem_count;) {
        if (tp_pool_stopped(w->pool))
            return TP_OK;
        if (atomic_load_explicit(&w->pool->scan, memory_order_relaxed)) {
            enum tp_status st = tp_write_settle(w, err); /* the buffer is wanted for scanning */
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
    return tp_write_finish(w, s.array, number, err);
}

static enum tp_status open_file(struct tp_worker *w, uint32_t file, struct tp_error *err)
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

/* ---- tasks ---- */

enum tp_status tp_write_begin(struct tp_worker *w, const struct tp_task *t, struct tp_error *err)
{
    w->finished_count = 0;
    place(w, task_offset(w->move, t));
    return open_file(w, t->file, err);
}

static enum tp_status end_well(struct tp_worker *w, const struct tp_task *t, struct tp_error *err)
{
    uint32_t extent_count = w->move->plan->files[t->file].extent_count;
    enum tp_status st = TP_OK;
    if (atomic_load(&w->pool->scan))
        return TP_OK;
    if (t->end_k == extent_count && !tp_pool_stopped(w->pool))
        st = tp_write_frame(w, t->file, extent_count, err);
    return st ? st : tp_write_settle(w, err);
}

enum tp_status tp_write_end(struct tp_worker *w, const struct tp_task *t, enum tp_status st, struct tp_error *err)
{
    struct tp_error second; /* of two errors the first one tells more */
    if (st == TP_OK)
        return end_well(w, t, err);
    if (w->finished_count > 0)
        (void)tp_write_settle(w, &second);
    return st;
}
