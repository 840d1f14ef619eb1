/* SPDX-License-Identifier: MIT */
/* The way back of a map, with the checkpoint that its input was once made of: what the way back cannot give exactly, or
 * not at all, is taken from there. */
#ifndef TP_JOB_ORIGINAL_H
#define TP_JOB_ORIGINAL_H

#include "plan/plan.h"

/* `plan`: of options->reverse, before its layout. Arrays whose values are calculated get `restore`, and those tensors
 * of the original that the map dropped become arrays; what was done is in plan->notes. `original` must outlive the
 * plan. Reads headers only. */
enum tp_status tp_original_use(struct tp_plan *plan, const struct tp_checkpoint *original,
                               const struct tp_convert_options *options, struct tp_error *err);

#endif
