/* SPDX-License-Identifier: MIT */
/* The way back of a map, element by element: the original where it is still the same, else calculated. */
#ifndef TP_PIPELINE_RESTORE_H
#define TP_PIPELINE_RESTORE_H

#include "kernels/kernels.h"
#include "plan/plan.h"

/* What the model holds for elements [first, first + count) of an array with `restore` is at dst, and becomes what it
 * was made of. `room`: memory to work in. */
enum tp_status tp_restore_elements(const struct tp_kernels *kernels, const struct tp_array *array, uint64_t first,
                                   uint64_t count, uint8_t *dst, uint8_t *room, size_t room_bytes,
                                   struct tp_error *err);

#endif
