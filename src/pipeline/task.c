/* SPDX-License-Identifier: MIT */
#include "pipeline/task.h"

#include <stdlib.h>

#include "base/status.h"
#include "pipeline/band.h"
#include "pipeline/spread.h"

#define EXTENT_COST ((uint64_t)32 << 10) /* an array's own cost, in bytes that take as long */
#define TASK_MIN ((uint64_t)1 << 20)
#define TASK_LARGE (2 * TP_BLOCK_BYTES) /* only groups are */

static bool add_task(struct tp_task_list *list, size_t *capacity, struct tp_task task)
{
    if (!tp_array_grow(&list->tasks, capacity, list->count + 1, sizeof *list->tasks))
        return false;
    list->tasks[list->count++] = task;
    return true;
}

/* Cut one file wherever `target` is reached, but no band and no group: what is made together is one worker's. */
static bool cut_file(struct tp_task_list *list, size_t *capacity, const struct tp_plan *plan, uint32_t file,
                     uint64_t target, size_t tile_bytes)
{
    const struct tp_out_file *out = &plan->files[file];
    struct tp_task task = {.file = file};
    uint64_t cost = 0;
    for (uint32_t k = 0; k < out->extent_count; k++) {
        const struct tp_out_extent *e = &plan->extents[out->first_extent + k];
        uint64_t blocks = tp_extent_block_count(e);
        struct tp_spread spread = {.block_count = 1};
        bool in_band = tp_band_goes_on(plan, e);
        uint64_t group = tile_bytes && tp_spread_plan(&spread, plan, e, tile_bytes) ? spread.block_count : 1;
        cost += EXTENT_COST;
        for (uint64_t b = 0; b < blocks; b++) {
            uint64_t rest = e->size_bytes - b * TP_BLOCK_BYTES;
            uint64_t size = rest < TP_BLOCK_BYTES ? rest : TP_BLOCK_BYTES;
            bool empty = task.first_k == k && task.first_block == b;
            if (!empty && !(b == 0 && in_band) && b % group == 0 && cost + size > target && cost > target / 2) {
                task.end_k = k;
                task.end_block = b;
                task.cost = cost;
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
    task.cost = cost;
    return add_task(list, capacity, task);
}

static int compare(const void *left, const void *right)
{
    const struct tp_task *a = left, *b = right;
    bool a_large = a->cost >= TASK_LARGE, b_large = b->cost >= TASK_LARGE;
    if (a_large != b_large || (a_large && a->cost != b->cost))
        return a->cost > b->cost ? -1 : 1;
    if (a->first_k != b->first_k)
        return a->first_k < b->first_k ? -1 : 1;
    return a->first_block < b->first_block ? -1 : a->first_block > b->first_block;
}

/* A large one at the end would keep one worker busy alone. */
static void put_large_ones_first(struct tp_task_list *list, size_t first)
{
    if (list->count > first + 1)
        qsort(list->tasks + first, list->count - first, sizeof *list->tasks, compare);
}

enum tp_status tp_tasks_build(struct tp_task_list *list, const struct tp_plan *plan, unsigned workers, bool linked,
                              size_t tile_bytes, struct tp_error *err)
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
        ok = (plan->files[f].is_linked && !linked) || cut_file(list, &capacity, plan, f, target, tile_bytes);
        if (ok)
            put_large_ones_first(list, list->file_first[f]);
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
