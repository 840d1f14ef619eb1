/* SPDX-License-Identifier: MIT */
/* What a conversion did to the values, in rows. */
#ifndef TP_JOB_REPORT_H
#define TP_JOB_REPORT_H

#include "pipeline/move.h"

/* One row a pair of dtypes that was cast, then one a scheme that was decoded; malloc'd. */
enum tp_status tp_report_casts(struct tp_cast_row **rows, size_t *count, const struct tp_plan *plan,
                               const struct tp_result *results, struct tp_error *err);
/* Counts, casts, values that did not fit, notes. */
enum tp_status tp_report_fill(struct tp_convert_report *report, const struct tp_plan *plan,
                              const struct tp_checkpoint *source, const struct tp_result *results,
                              struct tp_error *err);

#endif
