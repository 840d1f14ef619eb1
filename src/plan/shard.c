/* SPDX-License-Identifier: MIT */
#include "plan/shard.h"

/* Fill files in order; a new one when the next item does not fit, or when either side wants to be alone. */
static uint32_t assign_greedily(struct tp_shard_item *items, size_t count, uint64_t room)
{
    uint32_t file = 0;
    uint64_t used = 0;
    for (size_t i = 0; i < count; i++) {
        bool apart = i > 0 && (items[i].alone || items[i].apart || items[i - 1].alone);
        if (i > 0 && (apart || items[i].bytes > room - used)) {
            file++;
            used = 0;
        }
        items[i].file = file;
        used = items[i].alone ? 0 : used + items[i].bytes;
    }
    return file + 1;
}

uint32_t tp_shard_assign(struct tp_shard_item *items, size_t count, uint64_t limit_bytes, uint64_t overhead_bytes)
{
    uint64_t high = limit_bytes > overhead_bytes ? limit_bytes - overhead_bytes : 0;
    uint32_t files = assign_greedily(items, count, high);
    if (files == 1)
        return files;
    /* The smallest room that needs no more files spreads the bytes most evenly. */
    uint64_t low = 0;
    for (size_t i = 0; i < count; i++)
        if (!items[i].alone && items[i].bytes > low)
            low = items[i].bytes;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (assign_greedily(items, count, middle) <= files)
            high = middle;
        else
            low = middle + 1;
    }
    return assign_greedily(items, count, high);
}
