/* SPDX-License-Identifier: MIT */
/* A map's `same_as`: a tensor may be left out only if another one holds the same bytes. */
#ifndef TP_JOB_SAMES_H
#define TP_JOB_SAMES_H

#include "job/conversion.h"

/* Read both of each pair and compare, before anything is written. The first element that differs is TP_ERR_FORMAT
 * (E13). */
enum tp_status tp_sames_check(const struct tp_conversion *cv, struct tp_error *err);

#endif
