/* SPDX-License-Identifier: MIT */
#ifndef TP_KERNELS_TRANSPOSE_H
#define TP_KERNELS_TRANSPOSE_H

#include "kernels/kernels.h"

#define TP_TRANSPOSE_ROWS 256u /* that a list on the stack has room for */

/* struct tp_kernels' transpose of items of 1 << log_item bytes, the rows src_pitch bytes apart. */
static inline void tp_transpose_matrix(const struct tp_kernels *kernels, unsigned log_item, uint8_t *dst,
                                       size_t dst_pitch, const uint8_t *src, size_t src_pitch, size_t row_count,
                                       size_t columns)
{
    const uint8_t *rows[TP_TRANSPOSE_ROWS];
    for (size_t first = 0, n; first < row_count; first += n) {
        n = row_count - first < TP_TRANSPOSE_ROWS ? row_count - first : TP_TRANSPOSE_ROWS;
        for (size_t i = 0; i < n; i++)
            rows[i] = src + (first + i) * src_pitch;
        kernels->transpose[log_item](dst + (first << log_item), dst_pitch, rows, n, columns);
    }
}

#endif
