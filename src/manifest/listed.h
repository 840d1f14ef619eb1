/* SPDX-License-Identifier: MIT */
/* Which names do these manifests list? A sorted table, so that folders of many files are looked through quickly. */
#ifndef TP_MANIFEST_LISTED_H
#define TP_MANIFEST_LISTED_H

#include "manifest/manifest.h"

struct tp_listed { /* {0} is empty and ready; the names stay the manifests' */
    const char **names;
    size_t count, capacity;
};

bool tp_listed_add(struct tp_listed *listed, const char *name);                /* false: no memory */
bool tp_listed_add_all(struct tp_listed *listed, const struct tp_manifest *m); /* its data and side files, not itself */
void tp_listed_sort(struct tp_listed *listed);                                 /* once, before it is asked */
bool tp_listed_has(const struct tp_listed *listed, const char *name);
bool tp_listed_has_below(const struct tp_listed *listed, const char *folder); /* a name that begins with "folder/" */
void tp_listed_release(struct tp_listed *listed);

#endif
