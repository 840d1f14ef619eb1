/* SPDX-License-Identifier: MIT */
#include "checkpoint/name_index.h"

#include <stdlib.h>
#include <string.h>

#include "codec/digest.h"
#include "os/host.h"

#define SMALL_SLOT_COUNT 64u

/* The slot that holds `name`, or the free one where it belongs. */
static size_t probe(const struct tp_name_index *index, tp_name_of_fn name_of, const void *table, struct tp_name name)
{
    size_t mask = index->slot_count - 1;
    size_t i = (size_t)tp_hash_bytes(name.text, name.len, index->seed) & mask;
    for (; index->slots[i]; i = (i + 1) & mask) {
        struct tp_name other = name_of(table, index->slots[i] - 1);
        if (other.len == name.len && memcmp(other.text, name.text, name.len) == 0)
            break;
    }
    return i;
}

static bool grow(struct tp_name_index *index, tp_name_of_fn name_of, const void *table)
{
    struct tp_name_index bigger = {.slot_count = index->slot_count ? 2 * index->slot_count : 16, .count = index->count};
    bigger.seed = index->slot_count ? index->seed : tp_host_random();
    bigger.slots = calloc(bigger.slot_count, sizeof *bigger.slots);
    if (!bigger.slots)
        return false;
    for (size_t i = 0; i < index->slot_count; i++)
        if (index->slots[i])
            bigger.slots[probe(&bigger, name_of, table, name_of(table, index->slots[i] - 1))] = index->slots[i];
    free(index->slots);
    *index = bigger;
    return true;
}

uint32_t tp_name_index_find(const struct tp_name_index *index, tp_name_of_fn name_of, const void *table,
                            const char *name, size_t len)
{
    if (index->count == 0)
        return TP_NAME_NONE;
    uint32_t slot = index->slots[probe(index, name_of, table, (struct tp_name){name, len})];
    return slot ? slot - 1 : TP_NAME_NONE;
}

bool tp_name_index_add(struct tp_name_index *index, tp_name_of_fn name_of, const void *table, uint32_t id,
                       uint32_t *found)
{
    if (index->count + 1 > index->slot_count / 4 * 3 && !grow(index, name_of, table))
        return false;
    size_t i = probe(index, name_of, table, name_of(table, id));
    *found = index->slots[i] ? index->slots[i] - 1 : TP_NAME_NONE;
    if (!index->slots[i]) {
        index->slots[i] = id + 1;
        index->count++;
    }
    return true;
}

void tp_name_index_clear(struct tp_name_index *index)
{
    if (index->slot_count > SMALL_SLOT_COUNT) /* one large use must not make every later clearing large */
        tp_name_index_release(index);
    else if (index->count > 0)
        memset(index->slots, 0, index->slot_count * sizeof *index->slots);
    index->count = 0;
}

void tp_name_index_release(struct tp_name_index *index)
{
    free(index->slots);
    *index = (struct tp_name_index){0};
}
