/* SPDX-License-Identifier: MIT */
/* What happens to values between a source and the output: arithmetic, a cast, unpacking, or nothing; and what is
 * counted on the way. */
#ifndef TP_PIPELINE_VALUES_H
#define TP_PIPELINE_VALUES_H

#include "kernels/kernels.h"
#include "plan/plan.h"

/* What was seen of an array's source values (arrays whose `result` is not TP_NONE). Overflow and flushed say what
 * became of them. */
struct tp_result {
    struct tp_stats stats;
    uint64_t odd_bool_count; /* BOOL bytes other than 0 and 1 */
};

void tp_result_init(struct tp_result *result);
void tp_result_merge(struct tp_result *into, const struct tp_result *more);

struct tp_values {
    const struct tp_kernels *kernels;
    const struct tp_map_arithmetic *arithmetic; /* or NULL */
    uint8_t from, math, to, op;                 /* enum tp_dtype (math: what arithmetic rounds to), enum tp_op */
    bool saturate, counts;
};

/* Of one piece. Fails with BUG: arithmetic that no kernel does, since a plan asks for none. */
enum tp_status tp_values_of(struct tp_values *values, const struct tp_array *array, const struct tp_piece *piece,
                            const struct tp_kernels *kernels, bool saturate, struct tp_error *err);

/* n values as read, at src, to dst; src is changed where that is easier. dst is src, or apart from it; where the op is
 * a cast, apart. */
void tp_values_make(const struct tp_values *values, void *dst, void *src, size_t n, struct tp_result *seen);

/* n codes of F4 behind the `skip` first, which are none or one, to one a byte. */
void tp_values_unpack_f4(const struct tp_kernels *kernels, uint8_t *dst, const uint8_t *src, unsigned skip, size_t n);

#endif
