/* SPDX-License-Identifier: MIT */
#include "pipeline/band.h"

#include "plan/box.h"

static unsigned axis_at(const struct tp_grid *grid, unsigned level)
{
    return grid->order ? grid->order[level] : level;
}

unsigned tp_band_level(const struct tp_array *array)
{
    unsigned level = 0;
    while (level + 1 < array->rank && array->grid->chunk[axis_at(array->grid, level)] == 1)
        level++;
    return level;
}

/* Chunks along an axis from this one on, and how far apart their numbers are. */
static uint64_t chunks_along(const struct tp_array *a, unsigned axis, uint64_t number, uint32_t *step)
{
    uint64_t apart = 1;
    for (unsigned d = axis + 1; d < a->rank; d++)
        apart *= a->shape[d] / a->grid->chunk[d] + (a->shape[d] % a->grid->chunk[d] != 0);
    *step = (uint32_t)apart;
    uint64_t length = a->shape[axis] / a->grid->chunk[axis]; /* one that reaches beyond the array is none of a band */
    uint64_t at = number / apart % (length + (a->shape[axis] % a->grid->chunk[axis] != 0));
    return at < length ? length - at : 0;
}

uint32_t tp_band_chunks(const struct tp_plan *plan, const struct tp_out_extent *extent, uint64_t room)
{
    const struct tp_array *a = &plan->arrays[extent->array];
    const struct tp_out_file *file = &plan->files[extent->file];
    if (!a->grid || a->rank == 0 || extent->size_bytes > TP_BLOCK_BYTES)
        return 1;
    uint32_t step, left = file->extent_count - (uint32_t)(extent - &plan->extents[file->first_extent]), count = 1;
    uint64_t most = chunks_along(a, axis_at(a->grid, tp_band_level(a)), extent->leaf, &step);
    most = most < TP_BAND_CHUNKS_MAX ? most : TP_BAND_CHUNKS_MAX;
    for (; count < most && count < left && (count + 1) * extent->elem_count <= room; count++) {
        const struct tp_out_extent *last = &extent[count - 1], *next = &extent[count];
        if (next->array != extent->array || next->leaf != last->leaf + step ||
            next->offset_bytes != last->offset_bytes + last->size_bytes)
            break;
    }
    return count;
}
