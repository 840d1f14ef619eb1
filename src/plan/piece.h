/* SPDX-License-Identifier: MIT */
/* Walking the runs of pieces: which contiguous elements of which logical tensor make a range of an array. */
#ifndef TP_PLAN_PIECE_H
#define TP_PLAN_PIECE_H

#include "plan/plan.h"

struct tp_run {
    const struct tp_piece *piece;
    uint64_t src_elem; /* in the piece's logical tensor */
    uint64_t elem_count;
};

/* The run that begins at element `dst_elem` of the array: at most `limit` elements of it. Pieces are disjoint in
 * dst order, so a range of an array is walked by asking again behind each run. False when no piece holds dst_elem,
 * which a finished plan never has. */
bool tp_array_run_at(const struct tp_array *array, uint64_t dst_elem, uint64_t limit, struct tp_run *run);

/* Which element of the array is the at-th in the bytes of a chunk. */
uint64_t tp_chunk_elem(const struct tp_array *array, uint64_t number, uint64_t at);

#endif
