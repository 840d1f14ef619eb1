/* SPDX-License-Identifier: MIT */
#ifndef TP_CHECKPOINT_SAFETENSORS_H
#define TP_CHECKPOINT_SAFETENSORS_H

#include "checkpoint/index.h"

/* Read and prove the header of file number `file` of `ck`, and add its tensors. With a weight map only those that it
 * lists for this file (its file number `map_file`) are added, and marked as seen; the others are proved all the same,
 * counted and noted. `map` may be NULL. */
enum tp_status tp_safetensors_read_file(struct tp_checkpoint *ck, uint32_t file, struct tp_weight_map *map,
                                        uint32_t map_file, struct tp_error *err);

#endif
