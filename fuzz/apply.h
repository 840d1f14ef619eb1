/* SPDX-License-Identifier: MIT */
/* Applying a map to sources that its own rules describe, and what the result promises. */
#ifndef TP_FUZZ_APPLY_H
#define TP_FUZZ_APPLY_H

#include "map/map.h"

/* There and, from what came out, back. */
void fuzz_apply_map(const struct tp_map *map, const struct tp_config_numbers *config);

#endif
