/* SPDX-License-Identifier: MIT */
/* What config.json says about quantisation, before anything is decoded. */
#ifndef TP_QUANT_REFUSE_H
#define TP_QUANT_REFUSE_H

#include "checkpoint/checkpoint.h"

/* Refuses, by name and with a hint: methods, formats and versions that cannot be decoded or are not known
 * (TP_ERR_UNSUPPORTED), and a config that contradicts the groups that were found (TP_ERR_FORMAT). A config that says
 * nothing of quantisation contradicts nobody. */
enum tp_status tp_quant_check_method(const struct tp_checkpoint *ck, struct tp_error *err);

#endif
