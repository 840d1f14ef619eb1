/* SPDX-License-Identifier: MIT */
/* What is wrong, or worth knowing, about a map and its sources: many tensors with one fault are one finding. */
#ifndef TP_MAP_FINDINGS_H
#define TP_MAP_FINDINGS_H

#include "base/compiler.h"
#include "map/rule.h"

#define TP_FINDING_ITEMS 20u /* named; the rest is counted */
#define TP_SHOWN_TEXT 320u   /* a name, a path, a tensor in a message; longer ones end in "..." */

struct tp_finding_group {
    const char *code, *head, *hint;
    const char **items;
    uint64_t topic; /* which fault of the rule */
    uint32_t rule, count, number;
};

/* Remembers that memory ran out; ask once, at the end. */
struct tp_findings { /* zero but for map and arena is empty and ready */
    const struct tp_map *map;
    struct tp_arena *arena; /* of texts */
    struct tp_finding_group *groups;
    size_t count, capacity;
    bool out_of_memory;
};

/* The finding of this code, rule (or TP_MAP_NONE) and topic; `fmt` is its head where it is new, `hint` (a literal, or
 * NULL) its last line. Returns its number. */
size_t tp_findings_at(struct tp_findings *f, const char *code, uint32_t rule, uint64_t topic, const char *hint,
                      const char *fmt, ...) TP_PRINTF(6, 7);
/* One more case of it. */
void tp_findings_add(struct tp_findings *f, size_t at, const char *fmt, ...) TP_PRINTF(3, 4);
/* False: enough are named, another one is only counted. */
bool tp_findings_names_more(const struct tp_findings *f, size_t at);
bool tp_findings_has_error(const struct tp_findings *f);
/* Errors and warnings into result->arena, by code and rule. False: no memory. */
bool tp_findings_finish(struct tp_findings *f, struct tp_map_result *result);
void tp_findings_release(struct tp_findings *f);

/* Texts for messages, into dst of TP_SHOWN_TEXT bytes, which they return. */
char *tp_shown_name(char *dst, const char *name, size_t len);
char *tp_shown_source(char *dst, const struct tp_map_source *source); /* "a.weight F32[2,3]" */
char *tp_shown_path(char *dst, const struct tp_map *map, const char *path, size_t len);
char *tp_shown_shape(char *dst, unsigned dtype, const uint64_t *shape, unsigned rank); /* "F32[2,3]" */
char *tp_shown_side(char *dst, const struct tp_axes_side *side);                       /* "(n h) d" */
char *tp_shown_group(char *dst, const struct tp_axes_side *side, uint32_t group);      /* "(n h)" */
char *tp_shown_rule(char *dst, const struct tp_rule *rule);                            /* its JSON */

#endif
