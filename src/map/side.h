/* SPDX-License-Identifier: MIT */
/* Looking into one side of "axes". */
#ifndef TP_MAP_SIDE_H
#define TP_MAP_SIDE_H

#include "map/rule.h"

/* The axis of that name, or TP_MAP_NONE. */
uint32_t tp_axes_find(const struct tp_axes_side *side, const char *name);
/* The same axes in the same groups? */
bool tp_sides_equal(const struct tp_axes_side *a, const struct tp_axes_side *b);

#endif
