/* SPDX-License-Identifier: MIT */
/* What the parts of planning share: the table in work, and offenders gathered for one message. */
#ifndef TP_PLAN_BUILDER_H
#define TP_PLAN_BUILDER_H

#include "plan/plan.h"

struct tp_plan_builder {
    struct tp_plan *plan;
    const struct tp_checkpoint *source;
    const struct tp_convert_options *options;
    struct tp_plan_traits traits;
    struct tp_logical *all; /* what there is to choose from */
    size_t count;
    bool *selected; /* by index in `all` */
    struct tp_error *err;
};

/* Names of offenders for one message: the first 20, then a count. */
struct tp_offenders {
    char text[2400];
    size_t used, count;
};
void tp_offend(struct tp_offenders *o, const char *name, size_t len, const char *why);
enum tp_status tp_offenders_refuse(const struct tp_plan_builder *b, const struct tp_offenders *o, enum tp_status code,
                                   const char *what);

/* What becomes of a logical tensor: the array's dtype, and how it gets there. `rule_dtype`: what a map says, or
 * TP_DTYPE_NONE. */
void tp_choose_dtype(const struct tp_plan_builder *b, const struct tp_logical *l, enum tp_dtype rule_dtype,
                     struct tp_array *a, struct tp_piece *piece);
/* The array is complete but for its place: count it, and note whether its values are. */
void tp_plan_count_array(struct tp_plan *plan, struct tp_array *a);

/* Arrays as options->map says, from plan->logicals (from_map.c). */
enum tp_status tp_plan_add_mapped(struct tp_plan_builder *b);

/* The shape of bytes that hold two codes each. The rank is 1 or more. */
enum tp_status tp_halve_last_axis(const struct tp_plan_builder *b, struct tp_array *array);

#endif
