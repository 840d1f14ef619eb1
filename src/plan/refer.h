/* SPDX-License-Identifier: MIT */
/* Can an array's chunks be had from the source's own files, as they lie there? A chunk can where it is one run of one
 * plainly stored tensor and needs no arithmetic, and where the format can say the order of its bytes. */
#ifndef TP_PLAN_REFER_H
#define TP_PLAN_REFER_H

#include "plan/box.h"

struct tp_refer_grid {
    uint64_t chunk[TP_GRID_RANK_MAX];
    uint8_t order[TP_GRID_RANK_MAX]; /* as tp_grid.order: axes from the slowest to the fastest in a chunk's bytes */
    bool is_row_major;               /* `order` is that of the axes */
    bool is_reversed;                /* ... or its reverse (zarr v2: "F"). Neither: only zarr v3 can say it */
    uint64_t chunk_elems;            /* volume of a chunk */
    bool is_part; /* a chunk is less than some source tensor: it would be one of many small references */
};

/* The grid of the largest chunks that are each one run of the source (those that pieces with arithmetic make are cut
 * like the others, and so lie within one piece). `any_order`: axes may stand in any order in the bytes; else row-major
 * or reversed, with smaller chunks where need be. False: there is none, no piece is plain. The array has elements. */
bool tp_refer_find(struct tp_refer_grid *grid, const struct tp_plan *plan, const struct tp_array *array,
                   bool any_order);

/* Cut the chunks further, into `parts` each (a power of two), as far as their bytes stay runs of the source. */
void tp_refer_split(struct tp_refer_grid *grid, unsigned rank, uint64_t parts);

/* Where a chunk of the array's grid lies in the source. False: it has to be made, its piece needs arithmetic. */
struct tp_reference {
    uint32_t file; /* of plan->source */
    uint64_t offset_bytes, size_bytes;
};
bool tp_refer_chunk(struct tp_reference *reference, const struct tp_plan *plan, const struct tp_array *array,
                    uint64_t number);

#endif
