/* SPDX-License-Identifier: MIT */
/* Folding names. Each name is cut into three: what stands before its first number, the number, and the module after
 * it ("model.layers" 7 "self_attn"); a name without a number has the first part alone. Sorting by (first, module)
 * brings together what one row will count, and one pass makes the rows. */
#include "parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct span {
    const char *at;
    size_t len;
};

struct cut {
    struct span stem, module; /* both may be empty */
    uint64_t number;
    bool numbered;
    uint64_t bytes;
};

/* ---- cutting ---- */

static size_t component_len(const char *name)
{
    return strcspn(name, ".");
}

static bool number_parse(const char *name, size_t len, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < len; i++) {
        if (name[i] < '0' || name[i] > '9' || len > 9)
            return false;
        *number = *number * 10 + (uint64_t)(name[i] - '0');
    }
    return len > 0;
}

/* The first component of what follows the number; as far as "experts", where that comes later. The tensor's own name
 * ("weight") is no module. */
static struct span module_of(const char *rest)
{
    struct span module = {rest, 0};
    const char *experts = strstr(rest, "experts.");
    size_t len = component_len(rest);
    if (rest[len] != '\0')
        module.len = len;
    if (experts && experts > rest && experts[-1] == '.')
        module.len = (size_t)(experts - rest) + strlen("experts");
    return module;
}

/* Without a number: the module, two components at most. */
static struct span plain_stem(const char *name)
{
    struct span stem = {name, component_len(name)};
    if (name[stem.len] == '\0')
        return stem;
    size_t second = component_len(name + stem.len + 1);
    if (name[stem.len + 1 + second] != '\0')
        stem.len += 1 + second;
    return stem;
}

static void name_cut(struct cut *cut, const struct tp_tensor *tensor)
{
    const char *at = tensor->name;
    memset(cut, 0, sizeof *cut);
    cut->bytes = tensor->size_bytes;
    for (;;) {
        size_t len = component_len(at);
        if (at[len] == '\0')
            break;
        if (number_parse(at, len, &cut->number)) {
            cut->stem = (struct span){tensor->name, at > tensor->name ? (size_t)(at - 1 - tensor->name) : 0};
            cut->module = module_of(at + len + 1);
            cut->numbered = true;
            return;
        }
        at += len + 1;
    }
    cut->stem = plain_stem(tensor->name);
}

/* ---- sorting ---- */

static int span_compare(struct span a, struct span b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.at, b.at, shorter) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int stem_compare(const struct cut *a, const struct cut *b)
{
    int order = span_compare(a->stem, b->stem);
    return order ? order : (int)a->numbered - (int)b->numbered;
}

static int by_stem_and_number(const void *a_, const void *b_)
{
    const struct cut *a = a_;
    const struct cut *b = b_;
    int order = stem_compare(a, b);
    return order ? order : a->number < b->number ? -1 : a->number > b->number;
}

static int by_module(const void *a_, const void *b_)
{
    const struct cut *a = a_;
    const struct cut *b = b_;
    return span_compare(a->module, b->module);
}

static int by_bytes(const void *a_, const void *b_)
{
    const struct part *a = a_;
    const struct part *b = b_;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    return strcmp(a->name, b->name);
}

/* ---- rows ---- */

/* "model.layers.0..23", with the count of numbers where some are missing; `cuts` are sorted by number. */
static char *numbered_name(const struct cut *cuts, size_t count)
{
    uint64_t different = 1;
    for (size_t i = 1; i < count; i++)
        different += cuts[i].number != cuts[i - 1].number;
    uint64_t first = cuts[0].number;
    uint64_t last = cuts[count - 1].number;
    size_t cap = cuts[0].stem.len + 80;
    char *name = malloc(cap);
    if (!name)
        return NULL;
    const char *dot = cuts[0].stem.len ? "." : "";
    size_t used = (size_t)snprintf(name, cap, "%.*s%s%" PRIu64, (int)cuts[0].stem.len, cuts[0].stem.at, dot, first);
    if (last > first)
        used += (size_t)snprintf(name + used, cap - used, "..%" PRIu64, last);
    if (different < last - first + 1)
        snprintf(name + used, cap - used, " (%" PRIu64 " of them)", different);
    return name;
}

static char *span_copy(struct span span, const char *otherwise)
{
    size_t len = span.len ? span.len : strlen(otherwise);
    char *copy = malloc(len + 1);
    if (copy) {
        memcpy(copy, span.len ? span.at : otherwise, len);
        copy[len] = '\0';
    }
    return copy;
}

static struct part part_sum(char *name, const struct cut *cuts, size_t count)
{
    struct part part = {.name = name, .tensor_count = count};
    for (size_t i = 0; i < count; i++)
        part.bytes += cuts[i].bytes;
    return part;
}

/* How many of `cuts` are alike at the front. */
static size_t run_length(const struct cut *cuts, size_t count, int (*compare)(const struct cut *, const struct cut *))
{
    size_t n = 1;
    while (n < count && compare(cuts, cuts + n) == 0)
        n++;
    return n;
}

static int module_compare(const struct cut *a, const struct cut *b)
{
    return by_module(a, b);
}

static bool add_children(struct parts *parts, struct part *parent, struct cut *cuts, size_t count)
{
    qsort(cuts, count, sizeof *cuts, by_module);
    parent->first_child = parts->count;
    for (size_t i = 0; i < count;) {
        size_t n = run_length(cuts + i, count - i, module_compare);
        char *name = span_copy(cuts[i].module, "(no module)");
        if (!name)
            return false;
        parts->rows[parts->count] = part_sum(name, cuts + i, n);
        parts->rows[parts->count++].child = true;
        i += n;
    }
    parent->child_count = parts->count - parent->first_child;
    qsort(parts->rows + parent->first_child, parent->child_count, sizeof *parts->rows, by_bytes);
    return true;
}

/* Parents are gathered apart, ordered, and put in front; a child knows its place by its parent's first_child. */
static bool fold(struct parts *parts, struct part *parents, size_t *parent_count, struct cut *cuts, size_t count)
{
    for (size_t i = 0; i < count;) {
        size_t n = run_length(cuts + i, count - i, stem_compare);
        bool numbered = cuts[i].numbered;
        char *name = numbered ? numbered_name(cuts + i, n) : span_copy(cuts[i].stem, "(no name)");
        if (!name)
            return false;
        struct part *parent = &parents[(*parent_count)++];
        *parent = part_sum(name, cuts + i, n);
        if (numbered && !add_children(parts, parent, cuts + i, n))
            return false;
        i += n;
    }
    qsort(parents, *parent_count, sizeof *parents, by_bytes);
    return true;
}

/* Each parent in front of its children. The names of the parents move over. */
static bool interleave(struct parts *parts, const struct part *parents, size_t parent_count)
{
    struct part *rows = calloc(parts->count + parent_count + 1, sizeof *rows);
    size_t used = 0;
    if (!rows)
        return false;
    for (size_t i = 0; i < parent_count; i++) {
        rows[used] = parents[i];
        rows[used].first_child = used + 1;
        memcpy(rows + used + 1, parts->rows + parents[i].first_child, parents[i].child_count * sizeof *rows);
        used += 1 + parents[i].child_count;
    }
    free(parts->rows);
    *parts = (struct parts){.rows = rows, .count = used};
    return true;
}

bool parts_take(struct parts *parts, const struct tp_checkpoint *ck)
{
    size_t count = tp_checkpoint_tensor_count(ck);
    size_t parent_count = 0;
    struct cut *cuts = calloc(count + 1, sizeof *cuts);
    struct part *parents = calloc(count + 1, sizeof *parents);
    memset(parts, 0, sizeof *parts);
    parts->rows = calloc(count + 1, sizeof *parts->rows);
    bool done = cuts && parents && parts->rows;
    for (size_t i = 0; done && i < count; i++)
        name_cut(&cuts[i], tp_checkpoint_tensor(ck, (uint32_t)i));
    if (done)
        qsort(cuts, count, sizeof *cuts, by_stem_and_number);
    done = done && fold(parts, parents, &parent_count, cuts, count) && interleave(parts, parents, parent_count);
    for (size_t i = 0; !done && i < parent_count; i++)
        free(parents[i].name);
    free(parents);
    free(cuts);
    if (!done)
        parts_release(parts);
    return done;
}

void parts_release(struct parts *parts)
{
    for (size_t i = 0; i < parts->count; i++)
        free(parts->rows[i].name);
    free(parts->rows);
    memset(parts, 0, sizeof *parts);
}
