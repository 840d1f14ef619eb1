/* SPDX-License-Identifier: MIT */
#include "pipeline/band.h"

#include "base/least.h"
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

/* Where a chunk stands along the axis of its band. */
struct place {
    uint64_t at, length; /* of how many that are whole */
    uint32_t step;       /* from one number to the next */
    uint32_t most;       /* in a band: they begin at multiples of it */
};

/* False: it is in no band. */
static bool find_place(struct place *place, const struct tp_plan *plan, const struct tp_out_extent *extent)
{
    const struct tp_array *a = &plan->arrays[extent->array];
    if (!a->grid || a->rank == 0 || 2 * extent->size_bytes > TP_BAND_BYTES)
        return false;
    unsigned axis = axis_at(a->grid, tp_band_level(a));
    uint64_t apart = 1;
    for (unsigned d = axis + 1; d < a->rank; d++)
        apart *= a->shape[d] / a->grid->chunk[d] + (a->shape[d] % a->grid->chunk[d] != 0);
    place->length = a->shape[axis] / a->grid->chunk[axis]; /* one that reaches beyond the array is none of a band */
    place->at = extent->leaf / apart % (place->length + (a->shape[axis] % a->grid->chunk[axis] != 0));
    place->step = (uint32_t)apart;
    place->most = 2;
    while (place->most < TP_BAND_CHUNKS_MAX && 2 * place->most * extent->size_bytes <= TP_BAND_BYTES)
        place->most *= 2;
    return place->at < place->length;
}

static bool follows(const struct tp_out_extent *extent, uint32_t step)
{
    const struct tp_out_extent *before = extent - 1;
    return extent->array == before->array && extent->leaf == before->leaf + step &&
           extent->offset_bytes == before->offset_bytes + before->size_bytes;
}

uint32_t tp_band_chunks(const struct tp_plan *plan, const struct tp_out_extent *extent, uint64_t room)
{
    const struct tp_out_file *file = &plan->files[extent->file];
    uint32_t left = file->extent_count - (uint32_t)(extent - &plan->extents[file->first_extent]), count = 1;
    struct place place;
    if (!find_place(&place, plan, extent))
        return 1;
    uint64_t end = tp_smaller(place.at / place.most * place.most + place.most, place.length);
    while (count < left && place.at + count < end && (count + 1) * extent->elem_count <= room &&
           follows(extent + count, place.step))
        count++;
    return count;
}

bool tp_band_goes_on(const struct tp_plan *plan, const struct tp_out_extent *extent)
{
    struct place place;
    return extent > &plan->extents[plan->files[extent->file].first_extent] && find_place(&place, plan, extent) &&
           place.at % place.most != 0 && follows(extent, place.step);
}
