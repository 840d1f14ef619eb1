/* SPDX-License-Identifier: MIT */
#include "format/chunking.h"

#include "plan/box.h"

#define MIB ((uint64_t)1 << 20)
#define WHOLE_BELOW (2 * MIB)
#define PARTS 16u                             /* so that as many hosts can read apart */
#define BAND_CHUNK_BYTES (MIB / 2)            /* at least, of those in a band */
#define SOURCE_RUN_BYTES ((uint64_t)16 << 10) /* longer ones are not read much faster */
#define RUN_BYTES ((uint64_t)256)             /* shorter ones are not made for the sake of small chunks */

static uint64_t power_at_most(uint64_t n)
{
    uint64_t power = 1;
    while (power <= n / 2)
        power *= 2;
    return power;
}

static uint64_t power_at_least(uint64_t n)
{
    uint64_t power = power_at_most(n);
    return power < n && power <= UINT64_MAX / 2 ? power * 2 : power;
}

uint64_t tp_chunk_parts(uint64_t size_bytes, uint64_t chunk_bytes)
{
    uint64_t most = chunk_bytes ? chunk_bytes : TP_CHUNK_BYTES_DEFAULT;
    uint64_t fewest = power_at_least(size_bytes / most + (size_bytes % most != 0));
    uint64_t wanted = size_bytes < WHOLE_BELOW ? 1 : power_at_most(size_bytes / MIB < PARTS ? size_bytes / MIB : PARTS);
    return fewest > wanted ? fewest : wanted;
}

static uint64_t volume_of(const uint64_t *lengths, unsigned count)
{
    uint64_t volume = 1;
    for (unsigned d = 0; d < count; d++)
        volume *= lengths[d];
    return volume;
}

/* Along the first axis as far as powers of two divide it, then along the next. */
static void cut(uint64_t *chunk, unsigned rank, uint64_t parts)
{
    for (unsigned d = 0; d < rank && parts > 1; d++)
        for (; parts > 1 && chunk[d] % 2 == 0; parts /= 2)
            chunk[d] /= 2;
}

void tp_chunk_shape(uint64_t *chunk, const uint64_t *shape, unsigned rank, unsigned item_bytes, uint64_t chunk_bytes)
{
    uint64_t size = item_bytes * volume_of(shape, rank);
    for (unsigned d = 0; d < rank; d++)
        chunk[d] = shape[d] ? shape[d] : 1;
    cut(chunk, rank, tp_chunk_parts(size, chunk_bytes));
}

/* ---- stacks ---- */

/* Along each axis the length of a piece, where all are alike and more than one stands there; else the axis's. False:
 * the array is not made of boxes. */
static bool find_slot(uint64_t *slot, const struct tp_array *a)
{
    struct tp_box box;
    bool differs[TP_GRID_RANK_MAX] = {false};
    for (uint32_t i = 0; i < a->piece_count; i++) {
        if (!tp_box_of_piece(&box, a, &a->pieces[i]))
            return false;
        for (unsigned d = 0; d < a->rank; d++) {
            slot[d] = i == 0 ? box.span[d] : slot[d];
            differs[d] = differs[d] || slot[d] != box.span[d] || box.origin[d] % box.span[d] != 0;
        }
    }
    for (unsigned d = 0; d < a->rank; d++)
        if (a->piece_count < 2 || differs[d] || a->shape[d] % slot[d] != 0)
            slot[d] = a->shape[d];
    return true;
}

/* ---- transposed arrays ---- */

/* Neighbouring axes that lie in the source as in the array: one axis, as far as order goes. */
struct group {
    unsigned first, end;
};

static uint64_t length_of(const uint64_t *chunk, struct group g)
{
    return volume_of(chunk + g.first, g.end - g.first);
}

/* In the source, from one index of an axis to the next; the axis is longer than 1. */
static uint64_t inner_stride(const struct tp_box *box, unsigned d)
{
    return box->loops[box->first[d]].stride;
}

/* ... and from its first index to where the next axis outside of it would go on. */
static uint64_t outer_stride(const struct tp_box *box, unsigned d)
{
    const struct tp_loop *loop = &box->loops[box->first[d + 1] - 1];
    return loop->count * loop->stride;
}

/* The axis that is the fastest in the source. False: the piece is a single element. */
static bool find_fastest(unsigned *fastest, const struct tp_box *box, unsigned rank)
{
    uint64_t least = UINT64_MAX;
    for (unsigned d = 0; d < rank; d++)
        for (unsigned i = box->first[d]; i < box->first[d + 1]; i++)
            if (box->loops[i].stride > 0 && box->loops[i].stride <= least) {
                least = box->loops[i].stride;
                *fastest = d;
            }
    return least != UINT64_MAX;
}

/* Axes around `d`, inwards and outwards, as long as each continues the one inside it. */
static struct group group_of(const struct tp_box *box, unsigned rank, unsigned d)
{
    struct group g = {d, d + 1};
    uint64_t inner = inner_stride(box, d), outer = outer_stride(box, d);
    for (; g.end < rank && (box->span[g.end] == 1 || outer_stride(box, g.end) == inner); g.end++)
        inner = box->span[g.end] > 1 ? inner_stride(box, g.end) : inner;
    for (; g.first > 0 && (box->span[g.first - 1] == 1 || inner_stride(box, g.first - 1) == outer); g.first--)
        outer = box->span[g.first - 1] > 1 ? outer_stride(box, g.first - 1) : outer;
    return g;
}

/* The axes that trade places: those that are the fastest in the array, and those that are in the source. */
static bool find_traded(struct group *array_side, struct group *source_side, const struct tp_array *a)
{
    struct tp_box box;
    unsigned fastest = 0, last = a->rank;
    if (a->piece_count == 0 || !tp_box_of_piece(&box, a, &a->pieces[0]) || !find_fastest(&fastest, &box, a->rank))
        return false;
    while (last > 0 && box.span[last - 1] == 1)
        last--;
    *array_side = group_of(&box, a->rank, last - 1);
    *source_side = group_of(&box, a->rank, fastest);
    return array_side->first != source_side->first;
}

/* Halve the first of some axes that can be. */
static bool halve(uint64_t *chunk, unsigned first, unsigned end)
{
    for (unsigned d = first; d < end; d++)
        if (chunk[d] % 2 == 0) {
            chunk[d] /= 2;
            return true;
        }
    return false;
}

/* The axes outside of both groups first. Then `y`, those that are the fastest in the source, as far as reads stay long;
 * then `x`, or the other of both where one cannot be halved. */
static void cut_transposed(uint64_t *chunk, unsigned rank, struct group x, struct group y, unsigned item_bytes,
                           uint64_t chunk_bytes)
{
    uint64_t most = chunk_bytes ? chunk_bytes : TP_CHUNK_BYTES_DEFAULT;
    uint64_t wanted = most < TP_BAND_BYTES ? most : TP_BAND_BYTES;
    for (unsigned d = 0; d < rank; d++) {
        bool is_traded = (d >= x.first && d < x.end) || (d >= y.first && d < y.end);
        while (!is_traded && volume_of(chunk, rank) * item_bytes > wanted && halve(chunk, d, d + 1))
            ;
    }
    for (;;) {
        uint64_t size = volume_of(chunk, rank) * item_bytes;
        struct group better = length_of(chunk, y) * item_bytes > SOURCE_RUN_BYTES ? y : x;
        struct group other = better.first == x.first ? y : x;
        bool can_halve = length_of(chunk, better) * item_bytes >= 2 * RUN_BYTES;
        if (size <= wanted)
            return;
        if (can_halve && halve(chunk, better.first, better.end))
            continue;
        bool other_too = length_of(chunk, other) * item_bytes >= 2 * RUN_BYTES || size > most;
        if (other_too && halve(chunk, other.first, other.end))
            continue;
        if (size <= most || !halve(chunk, better.first, better.end))
            return;
    }
}

/* Into chunks that are near-square, which can be read by shards of either axis. They follow each other along the
 * slowest axis, so that a band of them is bytes in one order; that axis, if it is one of `y`. */
static unsigned cut_band(uint64_t *chunk, unsigned rank, struct group x, struct group y, unsigned item_bytes)
{
    unsigned d = 0;
    while (d + 1 < rank && chunk[d] == 1)
        d++;
    if (d < y.first || d >= y.end)
        return rank - 1;
    while (volume_of(chunk, rank) * item_bytes >= 2 * BAND_CHUNK_BYTES && length_of(chunk, y) > length_of(chunk, x) &&
           chunk[d] % 2 == 0 && chunk[d] > 2) /* with one index alone another axis would be the slowest */
        chunk[d] /= 2;
    return d;
}

/* ---- an array ---- */

unsigned tp_chunk_array(uint64_t *chunk, const struct tp_array *a, uint64_t chunk_bytes, bool in_bands)
{
    unsigned item_bytes = tp_array_item_bytes(a);
    uint64_t size = item_bytes * a->elem_count, slot[TP_GRID_RANK_MAX];
    struct group array_side, source_side;
    if (tp_chunk_parts(size, chunk_bytes) == 1 || !find_slot(slot, a)) {
        tp_chunk_shape(chunk, a->shape, a->rank, item_bytes, chunk_bytes);
        return a->rank ? a->rank - 1u : 0;
    }
    for (unsigned d = 0; d < a->rank; d++)
        chunk[d] = slot[d];
    if (!find_traded(&array_side, &source_side, a)) {
        cut(chunk, a->rank, tp_chunk_parts(item_bytes * volume_of(slot, a->rank), chunk_bytes));
        return a->rank - 1u;
    }
    cut_transposed(chunk, a->rank, array_side, source_side, item_bytes, chunk_bytes);
    return in_bands ? cut_band(chunk, a->rank, array_side, source_side, item_bytes) : a->rank - 1u;
}
