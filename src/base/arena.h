/* SPDX-License-Identifier: MIT */
/* Memory that is given back all at once. Pointers stay valid until tp_arena_release; large tables grow by
 * tp_array_grow instead. Not thread-safe. */
#ifndef TP_BASE_ARENA_H
#define TP_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct tp_arena_chunk;
struct tp_arena { /* {0} is empty and ready */
    struct tp_arena_chunk *head;
};

void *tp_arena_alloc(struct tp_arena *arena, size_t size_bytes);              /* 8-byte aligned; NULL: no memory */
char *tp_arena_strndup(struct tp_arena *arena, const char *text, size_t len); /* terminated, packed (no alignment) */
void tp_arena_release(struct tp_arena *arena);
/* Everything of `from` now lives as long as `into`; `from` is empty. */
void tp_arena_join(struct tp_arena *into, struct tp_arena *from);

/* Make room for `needed` elements of `elem_size` in *items (malloc'd, *capacity elements). False: no memory, nothing
 * changed. Grows by half, so that a table of n costs O(n). */
bool tp_array_grow(void *items_ptr, size_t *capacity, size_t needed, size_t elem_size);

#endif
