/* SPDX-License-Identifier: MIT */
/* A map and the logical tensors of a checkpoint together. */
#ifndef TP_PLAN_MAPPED_H
#define TP_PLAN_MAPPED_H

#include "map/map.h"
#include "quant/logical.h"

struct tp_mapped {
    struct tp_map_result result;   /* sources are numbers of logicals */
    struct tp_map_source *sources; /* one a logical */
    struct tp_config_numbers *config;
    struct tp_map *inverse;
};

/* The options with what the map wants decoded: `dequantize` is on where the checkpoint has such weights. */
struct tp_convert_options tp_mapped_options(const struct tp_convert_options *options, const struct tp_checkpoint *ck);

/* Apply options->map (its inverse with options->reverse). What does not fit is in mapped->result.errors. `precision`:
 * as in tp_map_question. Reads config.json. The caller releases *mapped either way. */
enum tp_status tp_mapped_make(struct tp_mapped *mapped, const struct tp_checkpoint *ck,
                              const struct tp_logical *logicals, size_t count, const struct tp_convert_options *options,
                              const struct tp_map_expected *expected, size_t expected_count, struct tp_error *err);
void tp_mapped_release(struct tp_mapped *mapped);

#endif
