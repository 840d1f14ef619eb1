/* SPDX-License-Identifier: MIT */
/* The tree that targets make: leaves are no nodes, lists have all their items. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"

struct level {    /* the node that is open at one level */
    size_t first; /* a target below it */
    size_t start; /* of its keys in that target's path */
    uint64_t count, highest;
    bool is_list;
};

#define LEVELS 64u /* lists do not lie deeper */

static bool is_below(const struct tp_map_target *leaf, const struct tp_map_target *node)
{
    return node->path_len > leaf->path_len && memcmp(node->path, leaf->path, leaf->path_len) == 0 &&
           node->path[leaf->path_len] == '\0';
}

static void add_two_natures(struct tp_map_work *w, const struct tp_map_target *a, const struct tp_map_target *b,
                            uint64_t topic, const char *head)
{
    char x[TP_SHOWN_TEXT], y[TP_SHOWN_TEXT];
    size_t at = tp_findings_at(&w->findings, "E10", TP_MAP_NONE, topic, NULL, "%s", head);
    tp_findings_add(&w->findings, at, "%s and %s", tp_shown_path(x, w->map, a->path, a->path_len),
                    tp_shown_path(y, w->map, b->path, b->path_len));
}

static void close_list(struct tp_map_work *w, const struct level *l)
{
    if (!l->is_list || l->count == l->highest + 1)
        return;
    char path[TP_SHOWN_TEXT];
    const struct tp_map_target *t = &w->result->targets[l->first];
    size_t at = tp_findings_at(&w->findings, "E04", TP_MAP_NONE, 1, NULL, "lists with missing items");
    tp_findings_add(&w->findings, at, "%s has %" PRIu64 " of the items 0..%" PRIu64,
                    tp_shown_path(path, w->map, t->path, l->start ? l->start - 1 : 0), l->count, l->highest);
}

/* A key at a level: the first of a new node, or one more of the open one. */
static void meet_key(struct tp_map_work *w, struct level *l, size_t target, size_t start, unsigned depth, bool is_new)
{
    const struct tp_map_target *t = &w->result->targets[target];
    bool is_list = t->list_levels >> depth & 1;
    uint64_t index = is_list ? strtoull(t->path + start, NULL, 10) : 0;
    if (is_new) {
        close_list(w, l);
        *l = (struct level){target, start, 0, 0, is_list};
    } else if (is_list != l->is_list) {
        add_two_natures(w, &w->result->targets[l->first], t, 2, "a node is both a list and a dict");
        l->is_list = false;
    }
    l->count++;
    l->highest = index > l->highest ? index : l->highest;
}

/* Walks the sorted paths: a key is new where it or one above it differs from the last path. */
static void check_lists(struct tp_map_work *w)
{
    struct level levels[LEVELS] = {{0}};
    for (size_t i = 0; i < w->result->target_count; i++) {
        const struct tp_map_target *t = &w->result->targets[i], *last = i > 0 ? t - 1 : NULL;
        bool differs = !last, is_new = !last;
        for (size_t start = 0, depth = 0; start <= t->path_len && depth < LEVELS; depth++) {
            size_t len = strlen(t->path + start);
            bool had = last && !differs && start <= last->path_len;
            differs = !had || strcmp(t->path + start, last->path + start) != 0;
            if (differs)
                meet_key(w, &levels[depth], i, start, (unsigned)depth, is_new);
            is_new |= differs; /* nodes below a new key are new */
            start += len + 1;
        }
    }
    for (unsigned d = 0; d < LEVELS; d++)
        close_list(w, &levels[d]);
}

void tp_check_tree(struct tp_map_work *w)
{
    bool has_lists = false;
    for (size_t i = 0; i < w->result->target_count; i++) {
        const struct tp_map_target *t = &w->result->targets[i];
        has_lists |= t->list_levels != 0;
        if (i > 0 && is_below(t - 1, t))
            add_two_natures(w, t - 1, t, 0, "a target is both a leaf and a node");
    }
    if (has_lists && !tp_findings_has_error(&w->findings)) /* else items are missing because of other faults */
        check_lists(w);
}
