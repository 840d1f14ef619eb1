/* SPDX-License-Identifier: MIT */
/* A growing list of owned strings: notes, differences. */
#ifndef TP_BASE_LIST_H
#define TP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

struct tp_list { /* {0} is empty and ready */
    char **items;
    size_t count, capacity;
};

bool tp_list_add(struct tp_list *list, const char *fmt, ...) TP_PRINTF(2, 3); /* false: no memory */
void tp_list_release(struct tp_list *list);

#endif
