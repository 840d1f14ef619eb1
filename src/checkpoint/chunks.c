/* SPDX-License-Identifier: MIT */
/* A flat range of a chunked tensor: cut into boxes, each box into its parts in single chunks, each part fetched.
 *
 * Where a chunk's bytes do not run as the tensor's elements do (other orders of axes, narrow chunks), a short range
 * would touch much and use little; then a longer range, the tile, is gathered at once and handed out piece by piece. */
#include "checkpoint/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/chunk_copy.h"
#include "checkpoint/chunk_stream.h"

#define MEMORY_MIN ((size_t)1 << 20)
#define BOUNCE_MAX ((size_t)1 << 20)
#define TILES_WANTED ((size_t)16 << 20)
#define RUN_MIN 4096u /* bytes that lie together in a chunk and in the tensor: shorter runs are gathered in tiles */

struct tp_chunk_reader {
    struct tp_chunk_streams streams;
    uint8_t *bounce, *tile; /* malloc'd when they are needed first */
    size_t memory_bytes, bounce_bytes, tile_bytes;
    bool has_tiles; /* ranges follow each other: what lies ahead will be asked for */
    const struct tp_tensor *tile_of;
    uint64_t tile_first, tile_count; /* the elements in it */
};

static void reader_init(struct tp_chunk_reader *r, size_t memory_bytes)
{
    size_t memory = memory_bytes > MEMORY_MIN ? memory_bytes : MEMORY_MIN;
    *r = (struct tp_chunk_reader){.memory_bytes = memory,
                                  .bounce_bytes = memory / 8 < BOUNCE_MAX ? memory / 8 : BOUNCE_MAX};
    r->streams.budget_bytes = memory - r->bounce_bytes;
}

struct tp_chunk_reader *tp_chunk_reader_new(size_t memory_bytes)
{
    struct tp_chunk_reader *r = malloc(sizeof *r);
    if (r) {
        reader_init(r, memory_bytes);
        r->has_tiles = true;
    }
    return r;
}

static void reader_release(struct tp_chunk_reader *r)
{
    tp_chunk_streams_release(&r->streams);
    free(r->bounce);
    free(r->tile);
}

void tp_chunk_reader_free(struct tp_chunk_reader *r)
{
    if (r)
        reader_release(r);
    free(r);
}

/* ---- the tensor's grid ---- */

struct grid {
    struct tp_chunk_reader *reader;
    const struct tp_checkpoint *ck;
    const struct tp_tensor *t;
    unsigned rank, item_bytes;
    uint64_t stride[TP_RANK_MAX];       /* elements of the tensor from one step along an axis to the next */
    uint64_t chunk_stride[TP_RANK_MAX]; /* ... of a chunk's bytes */
    uint64_t chunk_count[TP_RANK_MAX];  /* chunks along an axis */
    uint64_t volume;                    /* elements of a chunk */
    unsigned first_axis;                /* the slowest along which a chunk is longer than 1; rank: none is */
    bool is_row_major;                  /* a chunk's bytes run as the tensor's elements do */
};

static unsigned axis_at(const struct tp_chunks *chunks, unsigned i)
{
    return chunks->order ? chunks->order[i] : i;
}

static void grid_init(struct grid *g, struct tp_chunk_reader *r, const struct tp_checkpoint *ck,
                      const struct tp_tensor *t)
{
    const struct tp_chunks *chunks = t->chunks;
    uint64_t stride = 1;
    unsigned below = TP_RANK_MAX;
    *g = (struct grid){.reader = r, .ck = ck, .t = t, .rank = t->rank, .volume = 1, .is_row_major = true};
    g->item_bytes = tp_dtype_bits((enum tp_dtype)t->dtype) / 8;
    g->first_axis = g->rank;
    for (unsigned i = g->rank; i-- > 0;) {
        g->stride[i] = stride;
        stride *= t->shape[i];
        g->chunk_count[i] = t->shape[i] / chunks->shape[i] + (t->shape[i] % chunks->shape[i] != 0);
        if (chunks->shape[i] > 1)
            g->first_axis = i;
    }
    for (unsigned i = g->rank; i-- > 0;) { /* from the fastest axis of the bytes to the slowest */
        unsigned axis = axis_at(chunks, i);
        g->chunk_stride[axis] = g->volume;
        g->volume *= chunks->shape[axis];
        if (chunks->shape[axis] == 1)
            continue;
        g->is_row_major = g->is_row_major && axis < below;
        below = axis;
    }
}

/* Bytes that lie together both in a row-major chunk and in the tensor. */
static uint64_t run_bytes(const struct grid *g)
{
    uint64_t elems = 1;
    for (unsigned i = g->rank; i-- > 0;) {
        elems *= g->t->chunks->shape[i] < g->t->shape[i] ? g->t->chunks->shape[i] : g->t->shape[i];
        if (g->t->chunks->shape[i] < g->t->shape[i])
            break;
    }
    return elems * g->item_bytes;
}

static bool is_stream(const struct tp_chunks *chunks)
{
    return chunks->codec != TP_CHUNK_STORED || chunks->has_crc;
}

/* Chunks that a reader who goes forward has begun and not finished. */
static uint64_t open_chunk_count(const struct grid *g)
{
    uint64_t count = 1;
    for (unsigned i = g->first_axis + 1; i < g->rank; i++)
        count *= g->chunk_count[i];
    return count;
}

static bool wants_tile(const struct grid *g)
{
    if (!g->reader->has_tiles)
        return false;
    if (!g->is_row_major)
        return true;
    if (is_stream(g->t->chunks))
        return open_chunk_count(g) > tp_chunk_streams_room(&g->reader->streams);
    uint64_t run = run_bytes(g);
    return run < RUN_MIN && run < g->volume * g->item_bytes;
}

size_t tp_chunk_reader_wants(const struct tp_checkpoint *ck)
{
    uint64_t streams = 0;
    bool has_chunks = false, has_tiles = false;
    struct tp_chunk_reader r;
    struct grid g;
    reader_init(&r, 0);
    for (size_t i = 0; i < ck->tensor_count; i++) {
        if (!ck->tensors[i].chunks)
            continue;
        has_chunks = true;
        grid_init(&g, &r, ck, &ck->tensors[i]);
        uint64_t open = is_stream(g.t->chunks) ? open_chunk_count(&g) : 0;
        streams = open > streams ? open : streams;
        has_tiles = has_tiles || !g.is_row_major;
    }
    streams = streams < TP_CHUNK_STREAMS_MAX ? streams : TP_CHUNK_STREAMS_MAX;
    size_t for_streams = BOUNCE_MAX + (size_t)streams * TP_CHUNK_STREAM_BYTES;
    return !has_chunks ? 0 : has_tiles && for_streams < TILES_WANTED ? TILES_WANTED : for_streams;
}

/* ---- one chunk ---- */

static enum tp_status read_chunk(void *user, void *dst, size_t len, uint64_t offset, struct tp_error *err)
{
    void *const *both = user;
    const struct tp_chunk *chunk = both[0];
    struct grid *g = both[1];
    return is_stream(chunk->tensor->chunks) ? tp_chunk_streams_read(&g->reader->streams, chunk, dst, len, offset, err)
                                            : tp_chunk_read_stored(chunk, dst, len, offset, err);
}

struct span { /* of a box, or of its part in a chunk, along one axis */
    uint64_t first, count;
};

/* Where the last element of a chunk that the tensor has lies in its bytes: what is behind it is padding. */
static uint64_t needed_bytes(const struct grid *g, const uint64_t *at)
{
    uint64_t last = 0;
    for (unsigned i = 0; i < g->rank; i++) {
        uint64_t length = g->t->chunks->shape[i], left = g->t->shape[i] - at[i] * length;
        last += ((left < length ? left : length) - 1) * g->chunk_stride[i];
    }
    return (last + 1) * g->item_bytes;
}

/* The part of a box that lies in the chunk at place `at` of the grid. dst is where element `base` of the tensor goes.
 */
static enum tp_status read_part(struct grid *g, const uint64_t *at, const struct span *box, uint64_t base, uint8_t *dst,
                                struct tp_error *err)
{
    const struct tp_chunks *chunks = g->t->chunks;
    struct tp_box part = {.item_bytes = g->item_bytes};
    uint64_t number = 0, src = 0, to = 0;
    struct span spans[TP_RANK_MAX];
    for (unsigned i = 0; i < g->rank; i++) {
        uint64_t begin = at[i] * chunks->shape[i], left = g->t->shape[i] - begin;
        uint64_t end = begin + (left < chunks->shape[i] ? left : chunks->shape[i]);
        uint64_t first = box[i].first > begin ? box[i].first : begin, last = box[i].first + box[i].count;
        spans[i] = (struct span){first, (last < end ? last : end) - first};
        number = number * g->chunk_count[i] + at[i];
        src += (first - begin) * g->chunk_stride[i];
        to += first * g->stride[i];
    }
    for (unsigned i = 0; i < g->rank; i++) {
        unsigned axis = axis_at(chunks, i);
        tp_box_add(&part, spans[axis].count, g->chunk_stride[axis] * g->item_bytes, g->stride[axis] * g->item_bytes);
    }
    dst += (to - base) * g->item_bytes;
    if (g->t->extents[number].file == TP_FILE_ABSENT) {
        tp_box_fill(dst, chunks->fill, &part);
        return TP_OK;
    }
    struct tp_chunk chunk = {g->ck, g->t, (uint32_t)number, g->volume * g->item_bytes,
                             is_stream(chunks) ? needed_bytes(g, at) : 0};
    void *user[] = {&chunk, g};
    return tp_box_fetch(dst, &part, src * g->item_bytes, g->reader->bounce, g->reader->bounce_bytes, read_chunk, user,
                        err);
}

/* ---- one range ---- */

/* A box, chunk by chunk. */
static enum tp_status read_box(struct grid *g, const struct span *box, uint64_t base, uint8_t *dst,
                               struct tp_error *err)
{
    uint64_t low[TP_RANK_MAX], high[TP_RANK_MAX], at[TP_RANK_MAX];
    for (unsigned i = 0; i < g->rank; i++) {
        low[i] = at[i] = box[i].first / g->t->chunks->shape[i];
        high[i] = (box[i].first + box[i].count - 1) / g->t->chunks->shape[i];
    }
    for (;;) {
        enum tp_status status = read_part(g, at, box, base, dst, err);
        if (status)
            return status;
        unsigned i = g->rank;
        while (i > 0 && at[i - 1] == high[i - 1]) {
            i--;
            at[i] = low[i];
        }
        if (i == 0)
            return TP_OK;
        at[i - 1]++;
    }
}

/* The longest box that begins at element `first` and is a flat range of at most `count`: whole inner axes, some steps
 * along one, one step of those outside. Returns its elements. */
static uint64_t next_box(const struct grid *g, uint64_t first, uint64_t count, struct span *box)
{
    unsigned axis = g->rank > 0 ? g->rank - 1 : 0;
    for (unsigned i = 0; i < g->rank; i++)
        box[i] = (struct span){first / g->stride[i] % g->t->shape[i], 1};
    if (g->rank == 0)
        return 1;
    while (axis > 0 && box[axis].first == 0 && g->stride[axis - 1] <= count)
        axis--;
    uint64_t steps = count / g->stride[axis], left = g->t->shape[axis] - box[axis].first;
    box[axis].count = steps < left ? steps : left;
    for (unsigned i = axis + 1; i < g->rank; i++)
        box[i].count = g->t->shape[i];
    return box[axis].count * g->stride[axis];
}

static enum tp_status read_range(struct grid *g, uint64_t first, uint64_t count, uint8_t *dst, struct tp_error *err)
{
    struct span box[TP_RANK_MAX];
    uint64_t base = first;
    enum tp_status status = TP_OK;
    if (!g->reader->bounce && !(g->reader->bounce = malloc(g->reader->bounce_bytes)))
        return tp_fail_nomem(err);
    while (!status && count > 0) {
        uint64_t n = next_box(g, first, count, box);
        status = read_box(g, box, base, dst, err);
        first += n;
        count -= n;
    }
    return status;
}

/* ---- tiles ---- */

static void drop_tile(struct tp_chunk_reader *r)
{
    free(r->tile);
    r->tile = NULL;
    r->tile_of = NULL;
}

/* Streams and tile share the memory. A tile is filled chunk by chunk, one stream at a time. */
static void plan_tile(const struct grid *g)
{
    struct tp_chunk_reader *r = g->reader;
    size_t all = r->memory_bytes - r->bounce_bytes, tile_bytes = all;
    if (is_stream(g->t->chunks)) {
        size_t stream_bytes = tp_chunk_streams_bytes_each(&r->streams);
        tile_bytes = stream_bytes < all / 2 ? all - stream_bytes : all / 2;
        tp_chunk_streams_trim(&r->streams, 1);
    } else {
        tp_chunk_streams_trim(&r->streams, 0);
    }
    if (tile_bytes != r->tile_bytes)
        drop_tile(r);
    r->tile_bytes = tile_bytes;
}

/* Where a tile that begins at `first` should end: where chunks end, if at all within reach, so that none is read twice.
 */
static uint64_t tile_end(const struct grid *g, uint64_t first)
{
    uint64_t most = g->reader->tile_bytes / g->item_bytes, left = g->t->elem_count - first;
    if (most >= left)
        return g->t->elem_count;
    uint64_t end = first + most;
    if (g->first_axis == g->rank)
        return end;
    unsigned axis = g->first_axis;
    uint64_t shape = g->t->shape[axis], chunk = g->t->chunks->shape[axis];
    uint64_t layer = g->stride[axis] * shape, rows = g->stride[axis] * (chunk < shape ? chunk : shape);
    uint64_t edge = end - end % layer % rows;
    return edge > first ? edge : end;
}

static enum tp_status gather_tile(struct grid *g, uint64_t first, struct tp_error *err)
{
    struct tp_chunk_reader *r = g->reader;
    if (!r->tile && !(r->tile = malloc(r->tile_bytes)))
        return tp_fail_nomem(err);
    r->tile_of = NULL; /* until it is whole */
    uint64_t count = tile_end(g, first) - first;
    enum tp_status status = read_range(g, first, count, r->tile, err);
    if (status)
        return status;
    r->tile_of = g->t;
    r->tile_first = first;
    r->tile_count = count;
    return TP_OK;
}

static enum tp_status read_tiles(struct grid *g, uint64_t first, uint64_t count, uint8_t *dst, struct tp_error *err)
{
    struct tp_chunk_reader *r = g->reader;
    enum tp_status status = TP_OK;
    plan_tile(g);
    while (!status && count > 0) {
        bool has = r->tile_of == g->t && first >= r->tile_first && first - r->tile_first < r->tile_count;
        if (!has && count >= r->tile_bytes / g->item_bytes) /* dst is the larger tile */
            return read_range(g, first, count, dst, err);
        if (!has)
            status = gather_tile(g, first, err);
        if (status)
            break;
        uint64_t skip = first - r->tile_first;
        uint64_t n = r->tile_count - skip < count ? r->tile_count - skip : count;
        memcpy(dst, r->tile + skip * g->item_bytes, (size_t)n * g->item_bytes);
        dst += n * g->item_bytes;
        first += n;
        count -= n;
    }
    return status;
}

enum tp_status tp_chunks_read(struct tp_chunk_reader *reader, const struct tp_checkpoint *ck,
                              const struct tp_tensor *tensor, uint64_t first, uint64_t count, void *dst,
                              struct tp_error *err)
{
    struct tp_chunk_reader own;
    struct grid g;
    if (count == 0)
        return TP_OK;
    if (!reader)
        reader_init(&own, 0);
    grid_init(&g, reader ? reader : &own, ck, tensor);
    bool by_tiles = wants_tile(&g);
    if (!by_tiles && is_stream(tensor->chunks))
        drop_tile(g.reader);
    enum tp_status status = by_tiles ? read_tiles(&g, first, count, dst, err) : read_range(&g, first, count, dst, err);
    if (!reader)
        reader_release(&own);
    return status ? tp_err_tensor(err, status, tensor->name, tensor->name_len) : TP_OK;
}
