/* SPDX-License-Identifier: MIT */
#include "checkpoint/key_set.h"

#include <stdlib.h>

static struct tp_name key_of(const void *table, uint32_t id)
{
    const struct tp_key_set *set = table;
    return set->keys[id];
}

bool tp_key_set_add(struct tp_key_set *set, const char *key, size_t len, bool *is_new)
{
    uint32_t found = TP_NAME_NONE;
    char *copy = tp_arena_strndup(&set->arena, key, len);
    if (!copy || !tp_array_grow(&set->keys, &set->capacity, set->count + 1, sizeof *set->keys))
        return false;
    set->keys[set->count] = (struct tp_name){copy, len};
    if (!tp_name_index_add(&set->index, key_of, set, (uint32_t)set->count, &found))
        return false;
    *is_new = found == TP_NAME_NONE;
    set->count += *is_new;
    return true;
}

void tp_key_set_clear(struct tp_key_set *set)
{
    if (set->count == 0)
        return;
    tp_name_index_clear(&set->index);
    tp_arena_release(&set->arena);
    set->count = 0;
}

void tp_key_set_release(struct tp_key_set *set)
{
    tp_name_index_release(&set->index);
    tp_arena_release(&set->arena);
    free(set->keys);
    *set = (struct tp_key_set){0};
}
