/* SPDX-License-Identifier: MIT */
/* transpose_ITEM of a CPU level, of its step_transpose_ITEM(dst, dst_pitch, rows, offset), which does `step_rows` rows
 * and `step` columns from a byte of each row on. */
#ifndef TP_KERNELS_TRANSPOSE_WALK_H
#define TP_KERNELS_TRANSPOSE_WALK_H

#include "kernels/small_floats.h"

/* A line of the cache (64 bytes) of each row at a time; the last steps overlap those before. */
#define TP_DEFINE_TRANSPOSE_WALK(item, step_rows, step)                                                        \
    static void transpose_##item(uint8_t *dst, size_t dst_pitch, const uint8_t *const *rows, size_t row_count, \
                                 size_t columns)                                                               \
    {                                                                                                          \
        const size_t line = 64 / (item);                                                                       \
        if (row_count < (step_rows) || columns < (step)) {                                                     \
            tp_transpose_##item##_scalar(dst, dst_pitch, rows, row_count, columns);                            \
            return;                                                                                            \
        }                                                                                                      \
        for (size_t first = 0; first < columns; first += line)                                                 \
            for (size_t i = 0; i < row_count; i += (step_rows)) {                                              \
                const size_t row = i < row_count - (step_rows) ? i : row_count - (step_rows);                  \
                for (size_t k = first; k < first + line && k < columns; k += (step)) {                         \
                    const size_t column = k < columns - (step) ? k : columns - (step);                         \
                    step_transpose_##item(dst + column * dst_pitch + row * (item), dst_pitch, rows + row,      \
                                          column * (item));                                                    \
                }                                                                                              \
            }                                                                                                  \
    }

#endif
