/* SPDX-License-Identifier: MIT */
/* A set of keys seen so far in one JSON object, for refusing duplicates. */
#ifndef TP_CHECKPOINT_KEY_SET_H
#define TP_CHECKPOINT_KEY_SET_H

#include "base/arena.h"
#include "checkpoint/name_index.h"

struct tp_key_set { /* {0} is empty and ready */
    struct tp_name_index index;
    struct tp_name *keys;
    size_t count, capacity;
    struct tp_arena arena;
};

/* *is_new: the key was not there. False: no memory. */
bool tp_key_set_add(struct tp_key_set *set, const char *key, size_t len, bool *is_new);
void tp_key_set_clear(struct tp_key_set *set);
void tp_key_set_release(struct tp_key_set *set);

#endif
