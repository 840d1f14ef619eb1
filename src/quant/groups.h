/* SPDX-License-Identifier: MIT */
/* Recognising the tensors that together encode one (struct tp_group). */
#ifndef TP_QUANT_GROUPS_H
#define TP_QUANT_GROUPS_H

#include "checkpoint/checkpoint.h"

/* Fill in ck->groups and each tensor's `group`, from names, dtypes and shapes and from what config.json says about
 * bits, and where those leave rows of packed codes open, from weight_shape. Tensors are sorted and indexed by name.
 * Codes without scales are noted. Fails only for want of memory. */
enum tp_status tp_groups_find(struct tp_checkpoint *ck, struct tp_error *err);

#endif
