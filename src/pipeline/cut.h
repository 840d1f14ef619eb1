/* SPDX-License-Identifier: MIT */
/* Cutting pieces: what of a piece lies in a part of an extent's bytes, as loops.
 *
 * The elements of an extent have positions, from 0 in the order of its bytes: of a chunk by the order of its axes, of a
 * flat range as they are numbered in the array. A range of positions is cut into boxes of the array, and each box
 * into what a piece has there. */
#ifndef TP_PIPELINE_CUT_H
#define TP_PIPELINE_CUT_H

#include "plan/box.h"

/* How the positions of an extent lie in its array. */
struct tp_view {
    unsigned rank;
    uint64_t shape[TP_GRID_RANK_MAX];  /* of the array */
    uint64_t corner[TP_GRID_RANK_MAX]; /* the first index along each axis */
    uint64_t stride[TP_GRID_RANK_MAX]; /* along each axis, in positions */
    uint8_t order[TP_GRID_RANK_MAX];   /* the axes, from the slowest to the fastest */
    uint64_t length[TP_GRID_RANK_MAX]; /* along those, in this order; */
    uint64_t volume[TP_GRID_RANK_MAX]; /* positions from one index to the next */
};

/* The positions of a chunk, or of a band of `chunks` (pipeline/band.h), begin at its corner; those of a flat range at
 * the array's element 0. An array whose shape does not count its elements is one axis. */
void tp_view_of_chunks(struct tp_view *view, const struct tp_array *array, uint64_t number, uint32_t chunks);
void tp_view_of_array(struct tp_view *view, const struct tp_array *array);
/* All of it as one axis: pieces of a flat range that fit no other view. */
void tp_view_flat(struct tp_view *view, const struct tp_array *array);

/* Indices [low, high) along each axis of the array. */
struct tp_range_box {
    uint64_t low[TP_GRID_RANK_MAX], high[TP_GRID_RANK_MAX];
};

/* Walks positions [first, end), not empty, box by box. The axes that the range crosses slowly are cut last, so that
 * boxes are long along them: what is read together stays together. */
struct tp_box_walk {
    const struct tp_view *view;
    unsigned level;               /* the range goes along this axis (by speed), those before it stand still; */
    uint64_t first;               /* its first position */
    uint64_t first_row, last_row; /* along that axis; */
    uint64_t head, tail;          /* where in the first it begins and in the last it ends */
    uint64_t cuts[4];             /* of one row: parts of which the same rows are in the range */
    uint64_t at;
    unsigned part;
};
void tp_box_walk_begin(struct tp_box_walk *walk, const struct tp_view *view, uint64_t first, uint64_t end);
bool tp_box_walk_next(struct tp_box_walk *walk, struct tp_range_box *box);

/* One loop of a piece along one axis. */
struct tp_step {
    uint64_t count, indices, src_stride; /* indices of the axis from one step to the next */
};

/* A piece along the axes of a view: steps [first[d], first[d + 1]) belong to axis d, innermost first. Unlike in a
 * tp_box they may leave gaps. */
struct tp_stepped {
    uint64_t origin[TP_GRID_RANK_MAX];
    uint8_t first[TP_GRID_RANK_MAX + 1];
    struct tp_step steps[TP_GATHER_LOOPS_MAX];
    uint64_t src_first;
};
/* False: its loops do not lie along the axes, or do not nest. */
bool tp_stepped_of_piece(struct tp_stepped *stepped, const struct tp_view *view, const struct tp_piece *piece);

/* Elements of a source and where they go: loops in no order; strides of the target are in positions. */
struct tp_cut {
    uint64_t src_first, position, elem_count;
    uint32_t loop_count;
    struct tp_axis loops[TP_GATHER_LOOPS_MAX];
};

/* Walks what a piece has in a box, cut by cut: often one. */
struct tp_cut_walk {
    const struct tp_view *view;
    const struct tp_stepped *stepped;
    uint64_t from[TP_GRID_RANK_MAX], to[TP_GRID_RANK_MAX]; /* the piece's own numbers along each axis */
    uint64_t at[TP_GRID_RANK_MAX];
    bool is_over;
};
void tp_cut_walk_begin(struct tp_cut_walk *walk, const struct tp_view *view, const struct tp_stepped *stepped,
                       const struct tp_range_box *box);
bool tp_cut_walk_next(struct tp_cut_walk *walk, struct tp_cut *cut);

#endif
