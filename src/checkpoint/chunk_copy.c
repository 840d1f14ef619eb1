/* SPDX-License-Identifier: MIT */
#include "checkpoint/chunk_copy.h"

#include <string.h>

#define GAP_BYTES 4096u           /* reading so much for nothing costs less than another read */
#define RUN_BYTES ((size_t)16384) /* a run so long is worth a read of its own, without a copy */

void tp_box_add(struct tp_box *box, uint64_t count, uint64_t src, uint64_t dst)
{
    struct tp_box_loop *outer = box->loop_count > 0 ? &box->loops[box->loop_count - 1] : NULL;
    if (count == 1)
        return;
    if (outer && outer->src == count * src && outer->dst == count * dst)
        *outer = (struct tp_box_loop){outer->count * count, src, dst};
    else
        box->loops[box->loop_count++] = (struct tp_box_loop){count, src, dst};
}

/* ---- in memory ---- */

/* A line of single elements: fixed sizes, so that each is one move. */
static void copy_line(uint8_t *dst, const uint8_t *src, const struct tp_box_loop *line, unsigned item_bytes)
{
    const uint64_t n = line->count, s = line->src, d = line->dst;
#define LINE(bytes)                                  \
    case bytes:                                      \
        for (uint64_t i = 0; i < n; i++)             \
            memcpy(dst + i * d, src + i * s, bytes); \
        break
    switch (item_bytes) {
        LINE(1);
        LINE(2);
        LINE(4);
        LINE(8);
        LINE(16);
    }
#undef LINE
}

/* The loops by their steps in dst, the longest outermost: memory is written in its order. Few, and nearly sorted. */
static void sort_for_dst(struct tp_box *sorted, const struct tp_box *box)
{
    struct tp_box_loop loops[TP_RANK_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < box->loop_count; i++) {
        unsigned k = n++;
        for (; k > 0 && loops[k - 1].dst < box->loops[i].dst; k--)
            loops[k] = loops[k - 1];
        loops[k] = box->loops[i];
    }
    *sorted = (struct tp_box){.item_bytes = box->item_bytes};
    for (unsigned i = 0; i < n; i++)
        tp_box_add(sorted, loops[i].count, loops[i].src, loops[i].dst);
}

/* Step to the next point of the outer `n` loops; false after the last. The offsets follow. */
static bool step(const struct tp_box_loop *loops, unsigned n, uint64_t *at, uint64_t *src, uint64_t *dst)
{
    for (unsigned i = n; i-- > 0;) {
        *src += loops[i].src;
        *dst += loops[i].dst;
        if (++at[i] < loops[i].count)
            return true;
        *src -= loops[i].src * loops[i].count;
        *dst -= loops[i].dst * loops[i].count;
        at[i] = 0;
    }
    return false;
}

void tp_box_copy(uint8_t *dst, const uint8_t *src, const struct tp_box *box)
{
    static const struct tp_box_loop once = {1, 0, 0};
    struct tp_box sorted;
    uint64_t at[TP_RANK_MAX] = {0}, from = 0, to = 0;
    sort_for_dst(&sorted, box);
    unsigned outer = sorted.loop_count > 0 ? sorted.loop_count - 1 : 0;
    const struct tp_box_loop *line = sorted.loop_count > 0 ? &sorted.loops[outer] : &once;
    bool is_run = line->src == box->item_bytes && line->dst == box->item_bytes;
    do {
        if (is_run)
            memcpy(dst + to, src + from, (size_t)line->count * box->item_bytes);
        else
            copy_line(dst + to, src + from, line, box->item_bytes);
    } while (step(sorted.loops, outer, at, &from, &to));
}

void tp_box_fill(uint8_t *dst, const uint8_t *item, const struct tp_box *box)
{
    struct tp_box still = *box;
    for (unsigned i = 0; i < still.loop_count; i++)
        still.loops[i].src = 0;
    tp_box_copy(dst, item, &still);
}

/* ---- from a chunk ---- */

/* How a box is read: its inner loops, from number `inner` on, by one read of `span` bytes; the loop around them in
 * batches of as many steps as the bounce buffer holds. */
struct fetch {
    const struct tp_box *box;
    uint8_t *dst, *bounce;
    tp_box_read_fn read;
    void *user;
    unsigned inner;
    uint64_t span;
    uint64_t batch; /* steps of loop inner - 1 at a time */
    bool is_dense;  /* these are read together, gaps and all */
};

static bool is_near(uint64_t step_bytes, uint64_t span)
{
    return step_bytes - span <= (span > GAP_BYTES ? span : GAP_BYTES);
}

/* In the source's bytes a loop's step is never shorter than what the loops inside it span: axes of a chunk do not
 * overlap. */
static void plan(struct fetch *f, size_t bounce_bytes)
{
    f->inner = f->box->loop_count;
    f->span = f->box->item_bytes;
    while (f->inner > 0) {
        const struct tp_box_loop *l = &f->box->loops[f->inner - 1];
        f->is_dense = is_near(l->src, f->span);
        if (!f->is_dense || l->count - 1 > (bounce_bytes - f->span) / l->src)
            break;
        f->span += (l->count - 1) * l->src;
        f->inner--;
    }
    if (f->inner == 0)
        return;
    const struct tp_box_loop *l = &f->box->loops[f->inner - 1];
    f->batch = f->is_dense ? 1 + (bounce_bytes - f->span) / l->src : bounce_bytes / f->span;
    f->batch = f->batch < l->count ? f->batch : l->count;
}

/* `n` steps of the batched loop from byte `src` on, to byte `dst`. */
static enum tp_status fetch_batch(const struct fetch *f, uint64_t n, uint64_t src, uint64_t dst, struct tp_error *err)
{
    const struct tp_box_loop *l = &f->box->loops[f->inner - 1];
    enum tp_status status = TP_OK;
    struct tp_box box = {.item_bytes = f->box->item_bytes};
    if (f->is_dense)
        status = f->read(f->user, f->bounce, (size_t)((n - 1) * l->src + f->span), src, err);
    for (uint64_t i = 0; !f->is_dense && !status && i < n; i++)
        status = f->read(f->user, f->bounce + i * f->span, (size_t)f->span, src + i * l->src, err);
    if (status)
        return status;
    tp_box_add(&box, n, f->is_dense ? l->src : f->span, l->dst);
    for (unsigned i = f->inner; i < f->box->loop_count; i++)
        tp_box_add(&box, f->box->loops[i].count, f->box->loops[i].src, f->box->loops[i].dst);
    tp_box_copy(f->dst + dst, f->bounce, &box);
    return TP_OK;
}

static enum tp_status fetch_batches(const struct fetch *f, uint64_t first, struct tp_error *err)
{
    const struct tp_box_loop *l = &f->box->loops[f->inner - 1];
    uint64_t at[TP_RANK_MAX] = {0}, src = first, dst = 0;
    enum tp_status status = TP_OK;
    do {
        for (uint64_t i = 0; !status && i < l->count; i += f->batch) {
            uint64_t n = l->count - i < f->batch ? l->count - i : f->batch;
            status = fetch_batch(f, n, src + i * l->src, dst + i * l->dst, err);
        }
    } while (!status && step(f->box->loops, f->inner - 1, at, &src, &dst));
    return status;
}

/* Long runs, contiguous on both sides: no copy. */
static enum tp_status fetch_runs(const struct fetch *f, uint64_t first, struct tp_error *err)
{
    const struct tp_box *box = f->box;
    uint64_t at[TP_RANK_MAX] = {0}, src = first, dst = 0;
    uint64_t run_bytes = box->loops[box->loop_count - 1].count * box->item_bytes;
    enum tp_status status;
    do
        status = f->read(f->user, f->dst + dst, (size_t)run_bytes, src, err);
    while (!status && step(box->loops, box->loop_count - 1, at, &src, &dst));
    return status;
}

enum tp_status tp_box_fetch(uint8_t *dst, const struct tp_box *box, uint64_t first, uint8_t *bounce,
                            size_t bounce_bytes, tp_box_read_fn read, void *user, struct tp_error *err)
{
    struct fetch f = {.box = box, .dst = dst, .bounce = bounce, .read = read, .user = user};
    const struct tp_box_loop *last = box->loop_count > 0 ? &box->loops[box->loop_count - 1] : NULL;
    if (!last)
        return read(user, dst, box->item_bytes, first, err);
    if (last->src == box->item_bytes && last->dst == box->item_bytes && last->count * box->item_bytes >= RUN_BYTES)
        return fetch_runs(&f, first, err);
    plan(&f, bounce_bytes);
    if (f.inner > 0)
        return fetch_batches(&f, first, err);
    enum tp_status status = read(user, bounce, (size_t)f.span, first, err);
    if (!status)
        tp_box_copy(dst, bounce, box);
    return status;
}
