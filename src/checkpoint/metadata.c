/* SPDX-License-Identifier: MIT */
#include "checkpoint/metadata.h"

#include <stdlib.h>
#include <string.h>

#define ITEM_COST 64u /* of a pair beside its text: the row, the index */

static struct tp_name key_of(const void *table, uint32_t id)
{
    const struct tp_metadata *m = table;
    return (struct tp_name){m->items[id].key, m->items[id].key_len};
}

static void note_conflict(struct tp_metadata *m, uint32_t id, const struct tp_metadata_item *item,
                          const char *file_name)
{
    const struct tp_metadata_item *kept = &m->items[id];
    if (kept->value_len == item->value_len && memcmp(kept->value, item->value, item->value_len) == 0)
        return;
    if (m->conflict_count++ == 0) {
        m->conflict_item = id;
        m->conflict_file = file_name;
    }
}

bool tp_metadata_add(struct tp_metadata *m, struct tp_arena *arena, const struct tp_metadata_item *item,
                     const char *file_name)
{
    uint32_t id = tp_name_index_find(&m->keys, key_of, m, item->key, item->key_len);
    if (id != TP_NAME_NONE) {
        note_conflict(m, id, item, file_name);
        return true;
    }
    size_t cost = item->key_len + item->value_len + ITEM_COST; /* each is at most TP_METADATA_MAX_BYTES */
    if (cost > TP_METADATA_MAX_BYTES - m->used_bytes) {
        m->dropped_count++;
        return true;
    }
    if (!tp_array_grow(&m->items, &m->capacity, m->count + 1, sizeof *m->items))
        return false;
    struct tp_metadata_item *kept = &m->items[m->count];
    *kept = *item;
    kept->key = tp_arena_strndup(arena, item->key, item->key_len);
    kept->value = tp_arena_strndup(arena, item->value, item->value_len);
    uint32_t found;
    if (!kept->key || !kept->value || !tp_name_index_add(&m->keys, key_of, m, (uint32_t)m->count, &found))
        return false;
    m->count++;
    m->used_bytes += cost;
    return true;
}

void tp_metadata_release(struct tp_metadata *m)
{
    tp_name_index_release(&m->keys);
    free(m->items);
    *m = (struct tp_metadata){.count = 0};
}
