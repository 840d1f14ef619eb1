/* SPDX-License-Identifier: MIT */
#include "pipeline/task.h"

#include <stdlib.h>

#include "base/status.h"
#include "pipeline/band.h"

#define EXTENT_COST ((uint64_t)32 << 10) /* an array's own cost, in bytes that take as long */
#define TASK_MIN ((uint64_t)1 << 20)

static bool add_task(struct tp_task_list *list, size_t *capacity, struct tp_task task)
{
    if (!tp_array_grow(&list->tasks, capacity, list->count + 1, sizeof *list->tasks))
        return false;
    list->tasks[list->count++] = task;
    return true;
}

/* Cut one file wherever `target` is reached, but no band: what is made together is one worker's. */
static bool cut_file(struct tp_task_list *list, size_t *capacity, const struct tp_plan *plan, uint32_t file,
                     uint64_t target)
{
    const struct tp_out_file *out = &plan->files[file];
    struct tp_task task = {.file = file};
    uint64_t cost = 0;
    for (uint32_t k = 0; k < out->extent_count; k++) {
        const struct tp_out_extent *e = &plan->extents[out->first_extent + k];
        uint64_t blocks = tp_extent_block_count(e);
        bool in_band = tp_band_goes_on(plan, e);
        cost += EXTENT_COST;
        for (uint64_t b = 0; b < blocks; b++) {
            uint64_t rest = e->size_bytes - b * TP_BLOCK_BYTES;
            uint64_t size = rest < TP_BLOCK_BYTES ? rest : TP_BLOCK_BYTES;
            bool empty = task.first_k == k && task.first_block == b;
            if (!empty && !(b == 0 && in_band) && cost + size > target && cost > target / 2) {
                task.end_k = k;
                task.end_block = b;
                if (!add_task(list, capacity, task))
                    return false;
                task = (struct tp_task){.file = file, .first_k = k, .first_block = b};
                cost = 0;
            }
            cost += size;
        }
    }
    task.end_k = out->extent_count;
    task.end_block = 0;
    return add_task(list, capacity, task);
}

enum tp_status tp_tasks_build(struct tp_task_list *list, const struct tp_plan *plan, unsigned workers, bool linked,
                              struct tp_error *err)
{
    *list = (struct tp_task_list){.file_count = (uint32_t)plan->file_count};
    uint64_t total = plan->payload_bytes + plan->extent_count * EXTENT_COST;
    uint64_t target = total / ((uint64_t)workers * 8);
    target = target < TASK_MIN ? TASK_MIN : target > TP_BLOCK_BYTES ? TP_BLOCK_BYTES : target;
    size_t capacity = 0;
    list->file_first = malloc((plan->file_count + 1) * sizeof *list->file_first);
    bool ok = list->file_first != NULL;
    for (uint32_t f = 0; ok && f < plan->file_count; f++) {
        list->file_first[f] = (uint32_t)list->count;
        ok = (plan->files[f].is_linked && !linked) || cut_file(list, &capacity, plan, f, target);
    }
    if (!ok) {
        tp_tasks_release(list);
        return tp_fail_nomem(err);
    }
    list->file_first[plan->file_count] = (uint32_t)list->count;
    return TP_OK;
}

void tp_tasks_release(struct tp_task_list *list)
{
    free(list->tasks);
    free(list->file_first);
    *list = (struct tp_task_list){.count = 0};
}
