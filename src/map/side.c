/* SPDX-License-Identifier: MIT */
#include "map/side.h"

#include <string.h>

uint32_t tp_axes_find(const struct tp_axes_side *side, const char *name)
{
    for (uint32_t i = 0; i < side->axis_count; i++)
        if (strcmp(side->axes[i].name, name) == 0)
            return i;
    return TP_MAP_NONE;
}

bool tp_sides_equal(const struct tp_axes_side *a, const struct tp_axes_side *b)
{
    if (a->axis_count != b->axis_count || a->group_count != b->group_count)
        return false;
    for (uint32_t i = 0; i < a->axis_count; i++)
        if (strcmp(a->axes[i].name, b->axes[i].name) != 0)
            return false;
    for (uint32_t i = 0; i < a->group_count; i++)
        if (a->groups[i].count != b->groups[i].count)
            return false;
    return true;
}
