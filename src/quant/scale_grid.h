/* SPDX-License-Identifier: MIT */
/* Which scale belongs to which code, whatever shape the scales are written in. */
#ifndef TP_QUANT_SCALE_GRID_H
#define TP_QUANT_SCALE_GRID_H

#include "quant/decode.h"

/* The codes as matrices, one after the other, each with a grid of scales of its own; the grids too follow one another.
 */
struct tp_scale_grid {
    uint64_t rows, columns;             /* of one matrix */
    uint64_t block_rows, block_columns; /* the codes that share a scale; blocks at the edges may be smaller */
    uint64_t grid_rows, grid_columns;   /* scales of one matrix */
};

/* The grid that config.json names, or else the only one that the shapes of d->codes and `scales` allow. Refuses shapes
 * that do not fit, and those that contradict config.json. Afterwards every code has a scale, and every scale a code. */
enum tp_status tp_scale_grid_find(struct tp_scale_grid *grid, const struct tp_decoded *d,
                                  const struct tp_tensor *scales, struct tp_error *err);

/* The scale of the first column of row `row`, counted through all matrices. */
static inline uint64_t tp_scale_grid_row(const struct tp_scale_grid *grid, uint64_t row)
{
    uint64_t matrix = row / grid->rows, row_within = row % grid->rows;
    return (matrix * grid->grid_rows + row_within / grid->block_rows) * grid->grid_columns;
}

#endif
