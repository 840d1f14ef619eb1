/* SPDX-License-Identifier: MIT */
/* Groups of blocks that are spread (pipeline/spread.h). What the second pass reads must be what the first one wrote: of
 * everything that is written in a chunk a hash that knows its place is added up, and again when it is read. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/least.h"
#include "base/status.h"
#include "os/file.h"
#include "pipeline/worker.h"

#define PIECE ((size_t)128 << 10)

struct group {
    struct tp_worker *w;
    const struct tp_out_extent *e;
    const struct tp_array *a;
    const struct tp_spread *s;
    uint64_t block, block_count; /* of the extent */
    uint64_t first, end;         /* positions in the array */
    struct tp_spread_rows part;
    uint64_t finished_count;                         /* writing: blocks of the group */
    struct tp_result seen[TP_SPREAD_BLOCKS_MAX + 2]; /* before the group, of each block, behind */
    struct tp_mismatch found[TP_SPREAD_BLOCKS_MAX];  /* comparing */
    struct tp_hasher *hasher;                        /* writing: of what is written at once; */
    uint64_t *sums;                                  /* by chunk of the part */
    uint64_t early_bytes;                            /* of the first pass, that count as progress before the second */
};

static void begin(struct group *g, struct tp_worker *w, const struct tp_out_extent *e, const struct tp_spread *s,
                  uint64_t block, uint64_t end)
{
    *g = (struct group){.w = w,
                        .e = e,
                        .a = &w->move->plan->arrays[e->array],
                        .s = s,
                        .block = block,
                        .block_count = end - block,
                        .first = e->first_elem + block * s->block_elems,
                        .end = e->first_elem + tp_smaller(end * s->block_elems, e->elem_count)};
    for (unsigned i = 0; i < g->block_count + 2; i++)
        tp_result_init(&g->seen[i]);
    tp_maker_begin(&w->maker);
}

/* Which of the group's blocks has a position; where that one ends; the file's byte. */
static uint64_t block_of(const struct group *g, uint64_t position)
{
    return (position - g->first) / g->s->block_elems;
}
static uint64_t block_end(const struct group *g, uint64_t block)
{
    return tp_smaller(g->first + (block + 1) * g->s->block_elems, g->end);
}
static uint64_t offset_of(const struct group *g, uint64_t position)
{
    return g->e->offset_bytes + (position - g->e->first_elem) * g->s->item;
}

static bool scans(const struct group *g)
{
    return atomic_load_explicit(&g->w->pool->scan, memory_order_relaxed);
}
static bool is_stopped(const struct group *g)
{
    return tp_pool_stopped(g->w->pool);
}

/* ---- tile by tile ---- */

static enum tp_status make_tile(struct group *g, const struct tp_spread_tile *t, const uint8_t **made,
                                struct tp_error *err)
{
    uint64_t bounds[TP_SPREAD_BLOCKS_MAX + 1];
    for (unsigned i = 0; i <= g->block_count; i++)
        bounds[i] = tp_spread_place(g->s, &g->part, t, i == 0 ? g->first : block_end(g, i - 1));
    return tp_make_box(&g->w->maker, g->a, &t->box, g->seen, bounds, (unsigned)g->block_count + 1, made, err);
}

typedef enum tp_status (*use_fn)(struct group *g, const struct tp_spread_tile *tile, const uint8_t *made,
                                 struct tp_error *err);

/* All tiles of a part. Stops early, without an error, where the job is stopped. */
static enum tp_status make_part(struct group *g, use_fn use, struct tp_error *err)
{
    const uint8_t *made;
    enum tp_status st = TP_OK;
    for (uint64_t column = 0; !st && !is_stopped(g) && column < g->s->row;) {
        struct tp_spread_tile tile = tp_spread_tile(g->s, &g->part, column);
        st = make_tile(g, &tile, &made, err);
        if (!st)
            st = use(g, &tile, made, err);
        column = tile.end;
    }
    return st;
}

/* ---- the first pass ---- */

/* What is written at once of a tile, or read again: the columns [column, end) of a chunk. */
struct slot {
    uint64_t first; /* the first of its elements in the chunk; */
    uint64_t offset;
    size_t size;
};

static struct slot slot_of(const struct group *g, const struct tp_spread_rows *chunk, uint64_t column, uint64_t end)
{
    uint64_t first = tp_spread_before(g->s, chunk, column), behind = tp_spread_before(g->s, chunk, end);
    return (struct slot){first, offset_of(g, chunk->first + first), (size_t)((behind - first) * g->s->item)};
}

/* The hash of what g->hasher has seen of a slot. */
static uint64_t slot_sum(const struct group *g, const struct slot *slot)
{
    uint64_t hash;
    struct tp_digest digest = tp_hasher_digest(g->hasher);
    memcpy(&hash, digest.bytes, sizeof hash);
    return hash * (2 * slot->offset + 1);
}

static void look_for_overflow(struct group *g)
{
    for (uint64_t i = 0; i < g->block_count && g->w->move->stop_at_overflow; i++)
        if (g->seen[i + 1].stats.overflow_count > 0)
            atomic_store(&g->w->pool->scan, true);
}

/* Half of what is written counts as progress now. */
static void count_early(struct group *g, size_t size)
{
    g->early_bytes += size / 2;
    tp_pool_count(g->w->pool, size / 2);
}

/* A tile's positions that are the group's own. */
static uint64_t elems_of(const struct group *g, const struct tp_spread_tile *t)
{
    return tp_spread_before(g->s, &g->part, t->end) - tp_spread_before(g->s, &g->part, t->column);
}

static enum tp_status write_tile(struct group *g, const struct tp_spread_tile *t, const uint8_t *made,
                                 struct tp_error *err)
{
    const struct tp_spread *s = g->s;
    uint64_t chunk_count = tp_spread_chunk_count(s, &g->part);
    enum tp_status st = TP_OK;
    look_for_overflow(g);
    if (scans(g)) /* nothing is written any more, only counted */
        tp_pool_count(g->w->pool, elems_of(g, t) * s->item);
    for (uint64_t k = 0; k < chunk_count && !st && !scans(g) && !is_stopped(g); k++) {
        struct tp_spread_rows chunk = tp_spread_chunk(s, &g->part, k);
        struct slot slot = slot_of(g, &chunk, t->column, t->end);
        const uint8_t *bytes = made + tp_spread_place(s, &g->part, t, chunk.first) * s->item;
        tp_hasher_reset(g->hasher);
        tp_hasher_update(g->hasher, bytes, slot.size);
        g->sums[k] += slot_sum(g, &slot);
        count_early(g, slot.size);
        st = tp_file_write_at(g->w->fd, bytes, slot.size, slot.offset, g->w->path, err);
    }
    return st;
}

/* ---- the second pass ---- */

/* `count` elements from position `at` on are in order at `bytes`: to the file, and to the digests of their blocks. */
static enum tp_status put(struct group *g, uint64_t at, uint64_t count, const uint8_t *bytes, struct tp_error *err)
{
    struct tp_worker *w = g->w;
    enum tp_status st = TP_OK;
    for (uint64_t n; count > 0 && !st; at += n, count -= n, bytes += n * g->s->item) {
        uint64_t block = block_of(g, at), number = g->e->first_block + g->block + block;
        n = tp_smaller(count, block_end(g, block) - at);
        size_t size = (size_t)(n * g->s->item);
        tp_hasher_update(w->hasher, bytes, size);
        st = tp_write_append(w, bytes, size, err);
        if (st || at + n < block_end(g, block))
            continue;
        w->move->digests[number] = tp_hasher_digest(w->hasher);
        tp_hasher_reset(w->hasher);
        w->maker.seen = g->seen[block + 1];
        g->finished_count++;
        st = tp_write_finish(w, g->a, number, err);
    }
    return st;
}

/* As it is read, in pieces that are then in the cache, it is hashed. */
static enum tp_status read_slot(struct group *g, const struct slot *slot, uint8_t *to, struct tp_error *err)
{
    tp_hasher_reset(g->hasher);
    for (size_t at = 0, n; at < slot->size; at += n) {
        n = slot->size - at < PIECE ? slot->size - at : PIECE;
        enum tp_status st = tp_file_read_at(g->w->fd, to + at, n, slot->offset + at, g->w->path, err);
        if (st)
            return st;
        tp_hasher_update(g->hasher, to + at, n);
    }
    return TP_OK;
}

static enum tp_status read_chunk(struct group *g, const struct tp_spread_rows *chunk, uint8_t *bytes, uint64_t sum,
                                 struct tp_error *err)
{
    uint64_t found = 0;
    for (uint64_t column = 0, next; column < g->s->row; column = next) {
        next = tp_spread_column_end(g->s, column);
        struct slot slot = slot_of(g, chunk, column, next);
        enum tp_status st = read_slot(g, &slot, bytes + slot.first * g->s->item, err);
        if (st)
            return st;
        found += slot_sum(g, &slot);
    }
    if (found == sum)
        return TP_OK;
    tp_fail(err, TP_ERR_IO, "bytes %" PRIu64 " to %" PRIu64 " are not what was written there a moment ago",
            offset_of(g, chunk->first), offset_of(g, chunk->end));
    return tp_err_path(err, TP_ERR_IO, g->w->path);
}

/* Row by row what each slot has of it. */
static enum tp_status order_chunk(struct group *g, const struct tp_spread_rows *chunk, const uint8_t *bytes,
                                  struct tp_error *err)
{
    const struct tp_spread *s = g->s;
    enum tp_status st = TP_OK;
    for (uint64_t at = chunk->first, n; at < chunk->end && !st; at += n) {
        uint64_t column = at % s->row, end = tp_spread_column_end(s, column);
        n = tp_smaller(end - column, chunk->end - at);
        st = put(g, at, n, bytes + tp_spread_index(s, chunk, at) * s->item, err);
    }
    return st;
}

/* The second pass counts in whole. */
static void take_back(struct group *g, uint64_t bytes)
{
    g->early_bytes -= bytes;
    tp_pool_count(g->w->pool, UINT64_C(0) - bytes); /* modulo 2^64 */
}

static enum tp_status order_part(struct group *g, struct tp_error *err)
{
    uint64_t chunk_count = tp_spread_chunk_count(g->s, &g->part), early = g->early_bytes / chunk_count;
    enum tp_status st = TP_OK;
    for (uint64_t k = 0; k < chunk_count && !st && !is_stopped(g) && !scans(g); k++) {
        struct tp_spread_rows chunk = tp_spread_chunk(g->s, &g->part, k);
        /* The kernel copies twice as fast between addresses that are alike in a line of the cache. */
        uint8_t *bytes = g->w->maker.tile.bytes + offset_of(g, chunk.first) % TP_SPREAD_LINE;
        st = read_chunk(g, &chunk, bytes, g->sums[k], err);
        st = st ? st : order_chunk(g, &chunk, bytes, err);
        take_back(g, k + 1 < chunk_count ? early : g->early_bytes);
    }
    return st;
}

/* ---- writing ---- */

static enum tp_status write_part(struct group *g, struct tp_error *err)
{
    g->early_bytes = 0;
    g->sums = calloc((size_t)tp_spread_chunk_count(g->s, &g->part), sizeof *g->sums);
    enum tp_status st = g->sums ? make_part(g, write_tile, err) : tp_fail_nomem(err);
    if (!st && !is_stopped(g) && !scans(g))
        st = order_part(g, err);
    if (scans(g)) /* what was written before counts in whole: it is not done again */
        tp_pool_count(g->w->pool, g->early_bytes);
    else
        take_back(g, g->early_bytes); /* of what was stopped */
    free(g->sums);
    return st;
}

static enum tp_status write_parts(struct group *g, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    tp_hasher_reset(g->w->hasher);
    for (uint64_t at = g->first; at < g->end && !st && !is_stopped(g); at = g->part.end) {
        g->part = tp_spread_part(g->s, at, g->end);
        st = write_part(g, err);
    }
    for (uint64_t i = g->finished_count; i < g->block_count && scans(g);
         i++) { /* nothing is written any more, only counted */
        g->w->maker.seen = g->seen[i + 1];
        tp_write_keep_result(g->w, g->a);
    }
    return st;
}

/* Whether an earlier run has finished all of it; then it is kept. */
static enum tp_status keep_claims(struct group *g, bool *kept, struct tp_error *err)
{
    const struct tp_plan *plan = g->w->move->plan;
    uint64_t first = g->e->first_block + g->block;
    enum tp_status st = TP_OK;
    *kept = false;
    for (uint64_t i = 0; i < g->block_count; i++)
        if (!tp_claims_find(g->w->move->claims, first + i))
            return TP_OK;
    for (uint64_t i = 0; i < g->block_count; i++) {
        struct tp_span span = tp_block_span(plan, g->e, g->block + i);
        st = tp_write_claim_holds(g->w, &span, first + i, kept, err);
        if (st || !*kept)
            return st;
    }
    for (uint64_t i = 0; i < g->block_count && !st; i++) {
        struct tp_span span = tp_block_span(plan, g->e, g->block + i);
        st = tp_write_keep_claim(g->w, &span, first + i, err);
    }
    return st;
}

enum tp_status tp_write_group(struct tp_worker *w, const struct tp_out_extent *e, const struct tp_spread *s,
                              uint64_t block, uint64_t end, struct tp_error *err)
{
    struct group g;
    bool kept = false;
    begin(&g, w, e, s, block, end);
    enum tp_status st = TP_OK;
    if (scans(&g) && !tp_array_casts(g.a))
        return TP_OK;
    if (!scans(&g)) {
        st = tp_write_go_to(w, offset_of(&g, g.first), err);
        st = st ? st : keep_claims(&g, &kept, err);
    }
    if (st || kept)
        return st;
    g.hasher = tp_hasher_new(w->move->kernels);
    st = g.hasher ? write_parts(&g, err) : tp_fail_nomem(err);
    tp_hasher_free(g.hasher);
    return st;
}

/* ---- comparing ---- */

static enum tp_status compare_run(struct group *g, uint64_t position, uint64_t count, const uint8_t *made,
                                  struct tp_error *err)
{
    struct tp_worker *w = g->w;
    uint64_t block = block_of(g, position), first = 0;
    struct tp_mismatch *found = &g->found[block];
    struct tp_span span = tp_block_span(w->move->plan, g->e, g->block + block);
    size_t size = (size_t)(count * g->s->item);
    enum tp_status st = tp_compare_read(w, &span, position - g->first - block * g->s->block_elems, count, err);
    tp_pool_count(w->pool, size);
    if (st || memcmp(w->maker.in, made, size) == 0)
        return st;
    uint64_t differ = tp_count_different(w->maker.in, made, count, (unsigned)g->s->item, &first);
    found->elem = found->elem_count == 0 ? position + first : tp_smaller(found->elem, position + first);
    found->elem_count += differ;
    return TP_OK;
}

/* Row by row, as much of one as there is memory to read. */
static enum tp_status compare_tile(struct group *g, const struct tp_spread_tile *t, const uint8_t *made,
                                   struct tp_error *err)
{
    const struct tp_spread *s = g->s;
    uint64_t most = g->w->move->budget.piece_bytes / s->item;
    enum tp_status st = TP_OK;
    for (uint64_t row = g->part.row; row < g->part.row + g->part.row_count && !st && !is_stopped(g); row++) {
        uint64_t at = tp_larger(row * s->row + t->column, g->first), end = tp_smaller(row * s->row + t->end, g->end);
        for (uint64_t n; at < end && !st; at += n) {
            n = tp_smaller(tp_smaller(end, block_end(g, block_of(g, at))) - at, most);
            st = compare_run(g, at, n, made + tp_spread_place(s, &g->part, t, at) * s->item, err);
        }
    }
    return st;
}

enum tp_status tp_compare_group(struct tp_worker *w, const struct tp_out_extent *e, const struct tp_spread *s,
                                uint64_t block, uint64_t end, struct tp_error *err)
{
    struct group g;
    enum tp_status st = TP_OK;
    begin(&g, w, e, s, block, end);
    for (uint64_t i = 0; i < g.block_count; i++)
        g.found[i] = (struct tp_mismatch){
            .extent = (uint32_t)(e - w->move->plan->extents), .is_value = true, .block = block + i};
    for (uint64_t at = g.first; at < g.end && !st && !is_stopped(&g); at = g.part.end) {
        g.part = tp_spread_part(s, at, g.end);
        st = make_part(&g, compare_tile, err);
    }
    for (uint64_t i = 0; i < g.block_count && !st && !is_stopped(&g); i++) {
        if (g.found[i].elem_count > 0)
            st = tp_compare_note(w, g.found[i], err);
        st = st ? st : tp_compare_digest(w, e, block + i, err);
    }
    return st;
}
