/* SPDX-License-Identifier: MIT */
/* Bands: chunks of one array that lie one behind the other in a file and together are one larger box, its bytes in the
 * order of theirs: as many as TP_BAND_BYTES hold, a power of two, from a multiple of that on. What a chunk is read from
 * in short runs may be long runs for a band. */
#ifndef TP_PIPELINE_BAND_H
#define TP_PIPELINE_BAND_H

#include "plan/plan.h"

#define TP_BAND_CHUNKS_MAX 64u

/* How many extents, from this one on, are the rest of its band, of at most `room` elements: 1 or more. */
uint32_t tp_band_chunks(const struct tp_plan *plan, const struct tp_out_extent *extent, uint64_t room);
/* Whether the extent before it, in the file, belongs to the same band. */
bool tp_band_goes_on(const struct tp_plan *plan, const struct tp_out_extent *extent);

/* Where in the order of a chunk's bytes the axis stands along which a band goes: the slowest one along which a chunk
 * has more than one index. The array has a grid and an axis. */
unsigned tp_band_level(const struct tp_array *array);

#endif
