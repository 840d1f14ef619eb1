/* SPDX-License-Identifier: MIT */
/* Spreads: where tiles of elements that follow each other in the output would be read in runs that are too short, a
 * group of blocks of one extent is made together, in two passes over its own place in the file. The group is rows of
 * the array, and a tile all of its rows, but of each only some columns: wide in the source. The place is cut into
 * chunks of some rows; what a tile has of a chunk is written there behind what the tiles before it have:
 *
 *     chunk of rows r, r + 1 in three tiles, first pass   r:a r+1:a   r:b r+1:b   r:c r+1:c
 *                                            second pass  r:a r:b r:c   r+1:a r+1:b r+1:c
 *
 * A chunk fits in memory, so it can be read and put in order. Both passes read and write in long runs, and what that
 * costs does not depend on how many layers are stacked. */
#ifndef TP_PIPELINE_SPREAD_H
#define TP_PIPELINE_SPREAD_H

#include "pipeline/cut.h"

#define TP_SPREAD_BLOCKS_MAX 62u /* in a group */
#define TP_SPREAD_LINE 64u       /* of the cache: memory for a chunk has one more, see its second pass */

/* How an extent is spread. Positions are those of the array's elements. */
struct tp_spread {
    struct tp_view view;        /* of the array */
    unsigned level;             /* a row is one index along this axis, by speed: */
    uint64_t row;               /* so many positions, */
    uint64_t width, turn;       /* of which a tile has `width`, but none across a multiple of `turn` */
    uint64_t chunk_rows;        /* of a chunk, which fits in a worker's tile */
    uint64_t block_count;       /* in a group; groups begin at its multiples */
    uint64_t block_elems, item; /* of a whole block; bytes of an element */
};

/* False: it is better made in order. `tile_bytes`: memory that a worker has for tiles. */
bool tp_spread_plan(struct tp_spread *spread, const struct tp_plan *plan, const struct tp_out_extent *extent,
                    size_t tile_bytes);

/* Positions [first, end) and the rows that they touch, all inside one index of the axes before the rows'. */
struct tp_spread_rows {
    uint64_t first, end, row, row_count;
};
/* The rows of a group come in parts where an outer axis steps: the one that begins at `first`. */
struct tp_spread_rows tp_spread_part(const struct tp_spread *spread, uint64_t first, uint64_t end);
uint64_t tp_spread_chunk_count(const struct tp_spread *spread, const struct tp_spread_rows *part);
struct tp_spread_rows tp_spread_chunk(const struct tp_spread *spread, const struct tp_spread_rows *part, uint64_t k);

/* Columns [column, end) of rows. `box`: all of those rows, also where the first and the last one are not whole. */
struct tp_spread_tile {
    uint64_t column, end;
    struct tp_view box;
};
/* Where the tile ends that begins at a column, or has it: there the next one begins, until that is spread->row. */
uint64_t tp_spread_column_end(const struct tp_spread *spread, uint64_t column);
struct tp_spread_tile tp_spread_tile(const struct tp_spread *spread, const struct tp_spread_rows *part,
                                     uint64_t column);

/* How many of a chunk's (or a part's) positions lie in columns before this one. */
uint64_t tp_spread_before(const struct tp_spread *spread, const struct tp_spread_rows *rows, uint64_t column);
/* Where a position of a chunk lies after the first pass, counted from its first. */
uint64_t tp_spread_index(const struct tp_spread *spread, const struct tp_spread_rows *chunk, uint64_t position);
/* Where in a tile of these rows the first position that it has from `position` on lies. */
uint64_t tp_spread_place(const struct tp_spread *spread, const struct tp_spread_rows *rows,
                         const struct tp_spread_tile *tile, uint64_t position);

#endif
