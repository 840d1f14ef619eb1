/* SPDX-License-Identifier: MIT */
#include "map/stride.h"

#include <stddef.h>

#include "base/compiler.h"

/* Does the outer loop go on, on both sides, where the inner one ends? */
static bool continues(const struct tp_axis *outer, const struct tp_axis *inner)
{
    uint64_t src, dst;
    return !TP_MUL_OVERFLOW(inner->count, inner->src_stride, &src) && src == outer->src_stride &&
           !TP_MUL_OVERFLOW(inner->count, inner->dst_stride, &dst) && dst == outer->dst_stride;
}

uint32_t tp_axes_normalise(struct tp_axis *axes, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) { /* insertion: loops are few, and mostly in order */
        struct tp_axis axis = axes[i];
        if (axis.count == 1)
            continue;
        uint32_t at = kept++;
        for (; at > 0 && axes[at - 1].dst_stride < axis.dst_stride; at--)
            axes[at] = axes[at - 1];
        axes[at] = axis;
    }
    uint32_t merged = 0;
    for (uint32_t i = 0; i < kept; i++) {
        struct tp_axis *outer = merged > 0 ? &axes[merged - 1] : NULL;
        uint64_t steps;
        if (outer && continues(outer, &axes[i]) && !TP_MUL_OVERFLOW(outer->count, axes[i].count, &steps))
            *outer = (struct tp_axis){steps, axes[i].src_stride, axes[i].dst_stride};
        else
            axes[merged++] = axes[i];
    }
    return merged;
}
