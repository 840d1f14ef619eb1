/* SPDX-License-Identifier: MIT */
/* How large the chunks of an array are that we write ourselves. A function of the array alone, never of memory or
 * workers: chunks are part of the output. */
#ifndef TP_FORMAT_CHUNKING_H
#define TP_FORMAT_CHUNKING_H

#include <stdint.h>

#include "plan/plan.h"

#define TP_CHUNK_BYTES_DEFAULT ((uint64_t)32 << 20)

/* Into how many parts, a power of two, `size_bytes` should be cut: 1 below 2 MiB; else 16, less where parts would fall
 * below 1 MiB, more where they would be above `chunk_bytes` (0: the default). */
uint64_t tp_chunk_parts(uint64_t size_bytes, uint64_t chunk_bytes);

/* The chunk of an array that lies row-major: cut along its first axis as far as powers of two divide it, then along the
 * next; the chunk always divides the shape (where that is 0, the chunk is 1). What no power of two divides stays
 * larger.
 */
void tp_chunk_shape(uint64_t *chunk, const uint64_t *shape, unsigned rank, unsigned item_bytes, uint64_t chunk_bytes);

/* The chunk of an array as its pieces make it. One that is not whole (below 2 MiB) spans no two pieces along an axis on
 * which they are stacked, so an axis made by stacking has chunks of 1. One that is physically transposed is cut into
 * bands of up to TP_BAND_BYTES that are long runs in the source, and these (in_bands) into chunks of 512 KiB or more,
 * near-square over the two axes that trade places; all others are cut as tp_chunk_shape does. Returns the axis along
 * which a band goes, else the last one, or 0. Rank at most TP_GRID_RANK_MAX. */
unsigned tp_chunk_array(uint64_t *chunk, const struct tp_array *array, uint64_t chunk_bytes, bool in_bands);

#endif
