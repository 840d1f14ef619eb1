/* SPDX-License-Identifier: MIT */
#include "base/list.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

bool tp_list_add(struct tp_list *list, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    char *text = len < 0 ? NULL : malloc((size_t)len + 1);
    bool ok = text && tp_array_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items);
    if (ok) {
        vsnprintf(text, (size_t)len + 1, fmt, again);
        list->items[list->count++] = text;
    } else {
        free(text);
    }
    va_end(again);
    va_end(args);
    return ok;
}

void tp_list_release(struct tp_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct tp_list){0};
}
