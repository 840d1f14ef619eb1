/* SPDX-License-Identifier: MIT */
#include "pipeline/restore.h"

#include <string.h>

#include "pipeline/values.h"

/* Values of the array's dtype, calculated with where they are. */
static void calculate(const struct tp_kernels *kernels, const struct tp_map_arithmetic *arithmetic, uint8_t dtype,
                      void *values, size_t n)
{
    struct tp_result ignored;
    struct tp_values v = {
        .kernels = kernels, .arithmetic = arithmetic, .from = dtype, .math = dtype, .to = dtype, .op = TP_OP_COPY};
    tp_result_init(&ignored);
    tp_values_make(&v, values, values, n, &ignored);
}

/* dst: what the model holds. */
static void choose(uint8_t *dst, const uint8_t *original, const uint8_t *became, const uint8_t *back, size_t n,
                   unsigned item)
{
    for (size_t i = 0; i < n; i++) {
        bool is_same = memcmp(dst + i * item, became + i * item, item) == 0;
        memcpy(dst + i * item, (is_same ? original : back) + i * item, item);
    }
}

enum tp_status tp_restore_elements(const struct tp_kernels *kernels, const struct tp_array *array, uint64_t first,
                                   uint64_t count, uint8_t *dst, uint8_t *room, size_t room_bytes, struct tp_error *err)
{
    const struct tp_restore *restore = array->restore;
    const struct tp_map_arithmetic *back = &restore->back;
    struct tp_map_arithmetic forward = {.multiplies = back->undone_factor != 1,
                                        .adds = back->undone_addend != 0,
                                        .factor = back->undone_factor,
                                        .addend = back->undone_addend};
    struct tp_reader_state reader = {.ck = restore->original.ck, .kernels = kernels};
    unsigned item = tp_array_item_bytes(array);
    size_t part = room_bytes / (3u * item) & ~(size_t)63, bytes = part * item;
    uint8_t *original = room, *became = room + bytes, *calculated = room + 2 * bytes;
    while (count > 0) {
        size_t n = count < part ? (size_t)count : part;
        enum tp_status st = tp_logical_read(&reader, &restore->original, first, n, original, err);
        if (st)
            return st;
        memcpy(became, original, n * item);
        calculate(kernels, &forward, array->dtype, became, n);
        memcpy(calculated, dst, n * item);
        calculate(kernels, back, array->dtype, calculated, n);
        choose(dst, original, became, calculated, n, item);
        dst += n * item;
        first += n;
        count -= n;
    }
    return TP_OK;
}
