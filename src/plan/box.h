/* SPDX-License-Identifier: MIT */
/* Boxes: a piece seen along the axes of its array, and the loops that gather one chunk of it. */
#ifndef TP_PLAN_BOX_H
#define TP_PLAN_BOX_H

#include "plan/plan.h"

#define TP_GRID_RANK_MAX 32u    /* of arrays that have a grid: zarr in TensorStore has no more axes */
#define TP_GATHER_LOOPS_MAX 96u /* an axis each, and one for every cut of a piece's loop within an axis */

struct tp_loop {
    uint64_t count, stride; /* in elements of the logical tensor; a stride of 0 repeats */
};

/* One chunk's elements: src_first, inside loops, outermost first, in the order of the chunk's bytes. Loops that
 * continue each other are one: a chunk that lies in one run is a single loop of stride 1 (of one element: no loop). */
struct tp_gather {
    const struct tp_piece *piece;
    uint64_t src_first;
    uint32_t logical;
    uint32_t loop_count;
    struct tp_loop loops[TP_GATHER_LOOPS_MAX];
};

/* Chunk `number` of an array (row-major over the grid; without a grid the whole array is chunk 0). False: it is not
 * inside one piece, or cuts through that piece's loops; then its elements have to be looked up run by run. */
bool tp_box_gather(struct tp_gather *gather, const struct tp_array *array, uint64_t number);

/* Where a piece lies in its array, and how it steps through the source along each axis: loops [first[d], first[d + 1])
 * belong to axis d, innermost first; their counts multiplied are span[d]. */
struct tp_box {
    uint64_t origin[TP_GRID_RANK_MAX], span[TP_GRID_RANK_MAX];
    uint8_t first[TP_GRID_RANK_MAX + 1];
    struct tp_loop loops[TP_GATHER_LOOPS_MAX];
};

/* False: not a box of this array, or more axes or loops than fit. The array has elements. */
bool tp_box_of_piece(struct tp_box *box, const struct tp_array *array, const struct tp_piece *piece);

/* The piece that holds the element at `index` if the array is a stack of pieces of one shape; of other arrays some
 * piece, or NULL: the caller has to look. There is at least one piece, and no more axes than TP_GRID_RANK_MAX. */
const struct tp_piece *tp_piece_guess(const struct tp_array *array, const uint64_t *index);

/* How many chunks the grid has, and the first corner of one. */
uint64_t tp_grid_chunk_count(const struct tp_array *array);
void tp_grid_corner(const struct tp_array *array, uint64_t number, uint64_t *corner);
/* The number of the i-th chunk as they lie in a file: neighbours along grid->across follow each other. Chunks divide
 * the array. */
uint64_t tp_grid_placed(const struct tp_array *array, uint64_t i);

#endif
