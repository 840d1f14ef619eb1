/* SPDX-License-Identifier: MIT */
/* A map's `same_as`: a tensor may be left out only if another one holds the same bytes. */
#ifndef TP_JOB_SAMES_H
#define TP_JOB_SAMES_H

#include "plan/plan.h"

/* Read both of each pair, numbers of `logicals`, and compare, before anything is written. The first element that
 * differs is TP_ERR_FORMAT (E13). */
enum tp_status tp_sames_check(const struct tp_logical *logicals, const struct tp_same *sames, size_t count,
                              const struct tp_checkpoint *ck, struct tp_error *err);

#endif
