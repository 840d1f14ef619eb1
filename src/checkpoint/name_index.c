/* SPDX-License-Identifier: MIT */
#include "checkpoint/name_index.h"

#include <stdlib.h>
#include <string.h>

#include "codec/digest.h"
#include "os/host.h"

#define SMALL_SLOT_COUNT 64u

static uint32_t hash_of(const struct tp_name_index *index, struct tp_name name)
{
    return (uint32_t)tp_hash_bytes(name.text, name.len, index->seed);
}

/* The slot that holds `name`, or the free one where it belongs. */
static struct tp_name_slot *probe(const struct tp_name_index *index, tp_name_of_fn name_of, const void *table,
                                  struct tp_name name, uint32_t hash)
{
    size_t mask = index->slot_count - 1;
    size_t i = hash & mask;
    for (; index->slots[i].id; i = (i + 1) & mask) {
        if (index->slots[i].hash != hash)
            continue;
        struct tp_name other = name_of(table, index->slots[i].id - 1);
        if (other.len == name.len && memcmp(other.text, name.text, name.len) == 0)
            break;
    }
    return &index->slots[i];
}

static bool grow(struct tp_name_index *index)
{
    struct tp_name_index bigger = {.slot_count = index->slot_count ? 2 * index->slot_count : 16, .count = index->count};
    bigger.seed = index->slot_count ? index->seed : tp_host_random();
    bigger.slots = calloc(bigger.slot_count, sizeof *bigger.slots);
    if (!bigger.slots)
        return false;
    size_t mask = bigger.slot_count - 1;
    for (size_t i = 0; i < index->slot_count; i++) {
        if (!index->slots[i].id)
            continue;
        size_t to = index->slots[i].hash & mask;
        while (bigger.slots[to].id)
            to = (to + 1) & mask;
        bigger.slots[to] = index->slots[i];
    }
    free(index->slots);
    *index = bigger;
    return true;
}

uint32_t tp_name_index_find(const struct tp_name_index *index, tp_name_of_fn name_of, const void *table,
                            const char *name, size_t len)
{
    struct tp_name wanted = {name, len};
    if (index->count == 0)
        return TP_NAME_NONE;
    uint32_t id = probe(index, name_of, table, wanted, hash_of(index, wanted))->id;
    return id ? id - 1 : TP_NAME_NONE;
}

bool tp_name_index_add(struct tp_name_index *index, tp_name_of_fn name_of, const void *table, uint32_t id,
                       uint32_t *found)
{
    if (index->count + 1 > index->slot_count / 4 * 3 && !grow(index))
        return false;
    struct tp_name name = name_of(table, id);
    uint32_t hash = hash_of(index, name);
    struct tp_name_slot *slot = probe(index, name_of, table, name, hash);
    *found = slot->id ? slot->id - 1 : TP_NAME_NONE;
    if (!slot->id) {
        *slot = (struct tp_name_slot){.id = id + 1, .hash = hash};
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
