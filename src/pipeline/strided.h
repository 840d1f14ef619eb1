/* SPDX-License-Identifier: MIT */
/* Copying items between two layouts in memory. */
#ifndef TP_PIPELINE_STRIDED_H
#define TP_PIPELINE_STRIDED_H

#include "kernels/kernels.h"

#define TP_STRIDED_LOOPS_MAX 128u

/* One loop of a copy, and how many bytes its steps are apart on either side. */
struct tp_stride {
    size_t count, src, dst;
};

/* Items of any size, inside at most TP_STRIDED_LOOPS_MAX loops in any order, none of which counts to 0; `loops` is
 * changed. Fast where both sides have neighbours, in the same loop or in two (a transposition). */
void tp_strided_copy(const struct tp_kernels *kernels, uint8_t *dst, const uint8_t *src, struct tp_stride *loops,
                     unsigned loop_count, size_t item_bytes);

#endif
