/* SPDX-License-Identifier: MIT */
/* A map and a checkpoint together, from the inside. */
#ifndef TP_JOB_MAPPING_H
#define TP_JOB_MAPPING_H

#include "base/list.h"
#include "map/rule.h"
#include "plan/mapped.h"
#include "tensorport/checkpoint.h"
#include "tensorport/map.h"

struct tp_mapping {
    const struct tp_map *map;     /* as it was given */
    const struct tp_map *applied; /* it, or its inverse */
    const struct tp_checkpoint *ck;
    struct tp_arena arena; /* decoders, what tree.json says */
    struct tp_list notes;
    struct tp_logical *logicals; /* one a source of `mapped` */
    size_t logical_count;
    struct tp_map_expected *expected;
    size_t expected_count;
    struct tp_mapped mapped;
    const char *refused_code; /* E12, E13: what more than names and shapes told; or NULL */
    char refused[4096];       /* why */

    /* what the last call gave away */
    char path[TP_NAME_MAX_BYTES + 1];
    char slot[512], captures[1024];
    struct tp_mapping_loop loops[TP_MAP_AXES_MAX + TP_RANK_MAX];
};

/* Which source of the rule a tensor is, and what the rule reads in its name. False: none (kept as it is). */
bool tp_mapping_match(const struct tp_mapping *m, const struct tp_map_piece *piece, uint32_t *source,
                      struct tp_captured *captured);
/* Loops of a piece, with the rule's names of axes where they are the same copy, into m->loops; returns their number. */
uint32_t tp_mapping_loops(struct tp_mapping *m, const struct tp_map_target *target, const struct tp_map_piece *piece);

#endif
