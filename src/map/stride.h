/* SPDX-License-Identifier: MIT */
/* The algebra of axes: everything a map does to the places of elements is one strided copy. */
#ifndef TP_MAP_STRIDE_H
#define TP_MAP_STRIDE_H

#include <stdbool.h>
#include <stdint.h>

/* One loop of a copy: `count` steps, each `src_stride` elements on in the source and `dst_stride` in the target. */
struct tp_axis {
    uint64_t count, src_stride, dst_stride;
};

/* Put loops into the order of the target (largest dst_stride first), drop those of one step, and make one of two that
 * continue each other on both sides. Returns how many are left. */
uint32_t tp_axes_normalise(struct tp_axis *axes, uint32_t count);

#endif
