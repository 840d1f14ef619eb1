/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "pipeline/worker.h"
#include "plan/piece.h"

enum tp_status tp_compare_note(struct tp_worker *w, struct tp_mismatch mismatch, struct tp_error *err)
{
    struct tp_move *m = w->move;
    pthread_mutex_lock(&m->lock);
    bool ok = tp_array_grow(&m->mismatches, &m->mismatch_capacity, m->mismatch_count + 1, sizeof *m->mismatches);
    if (ok)
        m->mismatches[m->mismatch_count++] = mismatch;
    pthread_mutex_unlock(&m->lock);
    return ok ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status check_digest(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block,
                                   struct tp_error *err)
{
    struct tp_move *m = w->move;
    if (!m->digests || m->plan->files[e->file].is_linked || m->output_tensor)
        return TP_OK;
    struct tp_digest found = tp_hasher_digest(w->hasher);
    if (memcmp(&found, &m->digests[e->first_block + block], sizeof found) == 0)
        return TP_OK;
    return tp_compare_note(w, (struct tp_mismatch){.extent = (uint32_t)(e - m->plan->extents), .block = block}, err);
}

/* `counts`: as progress. */
static enum tp_status check_bytes(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block, bool counts,
                                  struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct tp_span s = tp_block_span(m->plan, e, block);
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
        tp_pool_count(w->pool, counts ? n : 0);
        done += n;
    }
    return check_digest(w, e, block, err);
}

enum tp_status tp_check_block(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block, struct tp_error *err)
{
    return check_bytes(w, e, block, true, err);
}

enum tp_status tp_compare_digest(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block,
                                 struct tp_error *err)
{
    return w->move->digests ? check_bytes(w, e, block, false, err) : TP_OK;
}

enum tp_status tp_compare_read(struct tp_worker *w, const struct tp_span *s, uint64_t done, uint64_t count,
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
static uint64_t array_elem(const struct tp_span *s, uint64_t n)
{
    uint64_t at = s->first_elem + n;
    return s->array->grid ? tp_chunk_elem(s->array, s->extent->leaf, at) : s->extent->first_elem + at;
}

uint64_t tp_count_different(const uint8_t *a, const uint8_t *b, uint64_t n, unsigned item, uint64_t *first)
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

enum tp_status tp_compare_block(struct tp_worker *w, const struct tp_out_extent *e, uint64_t block,
                                struct tp_error *err)
{
    struct tp_move *m = w->move;
    struct tp_span s = tp_block_span(m->plan, e, block);
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
            st = tp_compare_read(w, &s, done, n, err);
        if (st)
            return st;
        tp_hasher_update(w->hasher, w->maker.in, bytes);
        if (memcmp(w->maker.in, w->out, bytes) != 0) {
            uint64_t differ = tp_count_different(w->maker.in, w->out, n, item, &first);
            if (found.elem_count == 0)
                found.elem = array_elem(&s, done + first);
            found.elem_count += differ;
        }
        tp_pool_count(w->pool, bytes);
        done += n;
    }
    enum tp_status st = found.elem_count ? tp_compare_note(w, found, err) : TP_OK;
    return st ? st : check_digest(w, e, block, err);
}
