/* SPDX-License-Identifier: MIT */
/* Tasks: consecutive blocks of one file, small enough that all workers stay busy, large enough that neighbouring small
 * arrays share a write. Bands and groups of blocks that are spread are never cut. How a plan is cut into tasks never
 * changes a byte of the result. */
#ifndef TP_PIPELINE_TASK_H
#define TP_PIPELINE_TASK_H

#include "plan/plan.h"

/* From block `first_block` of the file's extent `first_k` up to, not including, block `end_block` of extent `end_k`. An
 * extent's framing goes with its block 0; end_k == extent_count means that the task also owns what follows the last. */
struct tp_task {
    uint32_t file;
    uint32_t first_k, end_k;
    uint64_t first_block, end_block;
    uint64_t cost; /* bytes, or what takes as long */
};

struct tp_task_list {
    struct tp_task *tasks; /* in the order of files; in one, the large ones first, else in that of offsets */
    uint32_t *file_first;  /* file_count + 1 entries: the tasks of file f are [file_first[f], file_first[f + 1]) */
    size_t count;
    uint32_t file_count;
};

/* `linked`: the extents in linked files too. `tile_bytes`: as in tp_spread_plan, 0 where nothing is spread. */
enum tp_status tp_tasks_build(struct tp_task_list *list, const struct tp_plan *plan, unsigned workers, bool linked,
                              size_t tile_bytes, struct tp_error *err);
void tp_tasks_release(struct tp_task_list *list);

#endif
