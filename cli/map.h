/* SPDX-License-Identifier: MIT */
/* What the commands that take a map share. */
#ifndef CLI_MAP_H
#define CLI_MAP_H

#include <stdbool.h>

#include <tensorport/tensorport.h>

#include "option.h"

extern const struct command command_map_list, command_map_show, command_map_check, command_map_explain;

/* A preset or file by --map, or the target's map for this checkpoint by --target; one of them is given. Returns 0, or
 * the exit code after saying what is wrong. */
int map_choose(struct tp_map **map, const char *name, const char *target, const struct tp_checkpoint *ck);

/* A checkpoint, a map, and what the one makes of the other. */
struct map_view {
    struct tp_checkpoint *ck;
    struct tp_map *map;
    struct tp_mapping *mapping;
    uint32_t error_count, warning_count;
};
struct map_wish {
    const char *input, *map, *target, *against;
    bool reverse, ignore_index;
};
/* Returns 0, or the exit code after saying what is wrong. The caller releases *view either way. */
int map_view_open(struct map_view *view, const struct map_wish *wish);
void map_view_release(struct map_view *view);

/* "maxtext/llama: 2 errors, 1 warning; nothing can be converted with it", and all of them; on stdout. */
void map_say_errors(const struct map_view *view);
/* Those that are errors, or those that are none. */
void map_say_findings(const struct map_view *view, bool errors);

/* "rule 4 (line 12)", as findings say it; "-" of a tensor that no rule took. */
struct map_rule_text {
    char s[48];
};
struct map_rule_text map_rule_name(const struct map_view *view, uint32_t rule);

#endif
