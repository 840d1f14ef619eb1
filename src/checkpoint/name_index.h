/* SPDX-License-Identifier: MIT */
/* From a name to its number: open addressing over numbers and half a hash, eleven to twenty-one bytes a name. The names
 * themselves stay where they are; the index asks for one by number when the halves agree. Its seed is random, so that
 * nobody can choose names that collide. */
#ifndef TP_CHECKPOINT_NAME_INDEX_H
#define TP_CHECKPOINT_NAME_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TP_NAME_NONE UINT32_MAX

struct tp_name {
    const char *text;
    size_t len;
};
/* The name of number `id` in the caller's table. */
typedef struct tp_name (*tp_name_of_fn)(const void *table, uint32_t id);

struct tp_name_slot {
    uint32_t id;   /* + 1; 0: free */
    uint32_t hash; /* the lower half: saves nearly every look at another's name, and all of them when growing */
};

struct tp_name_index { /* all zero is empty and ready */
    struct tp_name_slot *slots;
    size_t slot_count; /* a power of two, at most 2^32 */
    size_t count;
    uint64_t seed;
};

/* The number of `name`, or TP_NAME_NONE. */
uint32_t tp_name_index_find(const struct tp_name_index *index, tp_name_of_fn name_of, const void *table,
                            const char *name, size_t len);
/* Add number `id`, whose name is in the table already. *found: the number that has this name already (then nothing
 * is added), or TP_NAME_NONE. False: no memory. */
bool tp_name_index_add(struct tp_name_index *index, tp_name_of_fn name_of, const void *table, uint32_t id,
                       uint32_t *found);
void tp_name_index_clear(struct tp_name_index *index);
void tp_name_index_release(struct tp_name_index *index);

#endif
