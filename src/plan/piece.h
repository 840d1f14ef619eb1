/* SPDX-License-Identifier: MIT */
/* Walking the runs of pieces: which contiguous elements of which logical tensor make a range of an array. */
#ifndef TP_PLAN_PIECE_H
#define TP_PLAN_PIECE_H

#include "plan/plan.h"

struct tp_run {
    uint32_t logical;
    uint64_t src_elem; /* in the logical tensor */
    uint64_t elem_count;
};

/* The run that begins at element `dst_elem` of the array: at most `limit` elements of it. Pieces are disjoint in
 * dst order, so a range of an array is walked by asking again behind each run. False when no piece holds dst_elem,
 * which a finished plan never has. */
bool tp_array_run_at(const struct tp_array *array, uint64_t dst_elem, uint64_t limit, struct tp_run *run);

#endif
