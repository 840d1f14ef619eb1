/* SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 << 10)

struct tp_arena_chunk {
    struct tp_arena_chunk *next;
    size_t used, capacity;
    unsigned char bytes[];
};

static void *take(struct tp_arena *arena, size_t size, size_t align)
{
    struct tp_arena_chunk *c = arena->head;
    if (c) {
        size_t start = (c->used + align - 1) & ~(align - 1);
        if (start <= c->capacity && size <= c->capacity - start) {
            c->used = start + size;
            return c->bytes + start;
        }
    }
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t capacity = size > CHUNK_BYTES / 4 ? size : CHUNK_BYTES - sizeof *c;
    c = malloc(sizeof *c + capacity);
    if (!c)
        return NULL;
    c->capacity = capacity;
    c->used = size;
    if (arena->head && capacity == size) { /* a big one: keep filling the current chunk afterwards */
        c->next = arena->head->next;
        arena->head->next = c;
    } else {
        c->next = arena->head;
        arena->head = c;
    }
    return c->bytes;
}

void *tp_arena_alloc(struct tp_arena *arena, size_t size_bytes)
{
    return take(arena, size_bytes ? size_bytes : 1, 8);
}

char *tp_arena_strndup(struct tp_arena *arena, const char *text, size_t len)
{
    char *copy = take(arena, len + 1, 1);
    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

void tp_arena_release(struct tp_arena *arena)
{
    while (arena->head) {
        struct tp_arena_chunk *next = arena->head->next;
        free(arena->head);
        arena->head = next;
    }
}

void tp_arena_join(struct tp_arena *into, struct tp_arena *from)
{
    struct tp_arena_chunk **end = &from->head;
    while (*end)
        end = &(*end)->next;
    *end = into->head;
    into->head = from->head;
    from->head = NULL;
}

bool tp_array_grow(void *items_ptr, size_t *capacity, size_t needed, size_t elem_size)
{
    if (needed <= *capacity)
        return true;
    size_t wanted = *capacity + *capacity / 2;
    if (wanted < needed)
        wanted = needed;
    if (wanted < 16)
        wanted = 16;
    if (wanted > SIZE_MAX / elem_size)
        return false;
    void *items;
    memcpy(&items, items_ptr, sizeof items);
    void *grown = realloc(items, wanted * elem_size);
    if (!grown)
        return false;
    memcpy(items_ptr, &grown, sizeof grown);
    *capacity = wanted;
    return true;
}
