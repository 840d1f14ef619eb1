/* SPDX-License-Identifier: MIT */
#include "manifest/listed.h"

#include <stdlib.h>
#include <string.h>

bool tp_listed_add(struct tp_listed *listed, const char *name)
{
    if (!tp_array_grow(&listed->names, &listed->capacity, listed->count + 1, sizeof *listed->names))
        return false;
    listed->names[listed->count++] = name;
    return true;
}

bool tp_listed_add_all(struct tp_listed *listed, const struct tp_manifest *m)
{
    bool ok = true;
    for (size_t i = 0; i < m->file_count && ok; i++)
        ok = tp_listed_add(listed, m->files[i].name);
    for (size_t i = 0; i < m->side_count && ok; i++)
        ok = tp_listed_add(listed, m->side_files[i].name);
    return ok;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void tp_listed_sort(struct tp_listed *listed)
{
    if (listed->count > 0)
        qsort(listed->names, listed->count, sizeof *listed->names, compare);
}

bool tp_listed_has(const struct tp_listed *listed, const char *name)
{
    return listed->count > 0 && bsearch(&name, listed->names, listed->count, sizeof name, compare);
}

bool tp_listed_has_below(const struct tp_listed *listed, const char *folder)
{
    size_t low = 0, high = listed->count, len = strlen(folder);
    while (low < high) { /* the first name that is not before "folder/" */
        size_t middle = low + (high - low) / 2;
        const char *name = listed->names[middle];
        int c = strncmp(name, folder, len);
        if (c < 0 || (c == 0 && name[len] < '/'))
            low = middle + 1;
        else
            high = middle;
    }
    return low < listed->count && strncmp(listed->names[low], folder, len) == 0 && listed->names[low][len] == '/';
}

void tp_listed_release(struct tp_listed *listed)
{
    free(listed->names);
    *listed = (struct tp_listed){.count = 0};
}
