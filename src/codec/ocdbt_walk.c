/* SPDX-License-Identifier: MIT */
/* The way through a tree of OCDBT nodes, left to right. One node a level is open; a child must be one lower than its
 * parent, so the way is finite whatever the references say, and the totals bound how long it can be. */
#include <inttypes.h>
#include <stdlib.h>

#include "codec/ocdbt_node.h"
#include "tensorport/text.h"

#define HELD_MAX (2 * TP_OCDBT_NODE_MAX) /* bytes of the nodes that are open at once */
#define NO_FILE UINT64_MAX

struct level {
    struct tp_ocdbt_node node;
    struct tp_ocdbt_file self; /* where the node lies: in the parent's table, or the manifest's */
    uint64_t expected, seen;   /* keys below */
    uint64_t *numbers;         /* of a leaf: what visitor.file said, or NO_FILE; one a row of node.files */
    size_t held_bytes;
};

struct walk {
    const struct tp_ocdbt_visitor *visitor;
    struct tp_error *err;
    struct level levels[TP_OCDBT_HEIGHT_MAX + 1];
    unsigned open;       /* levels in use, the root first */
    uint64_t total, max; /* keys visited, allowed */
    uint64_t tree_bytes; /* of all nodes so far */
    size_t held_bytes;   /* of those that are open */
    char *last;          /* the last key of the leaf before */
    size_t last_len;
    bool has_last;
};

static void close_level(struct walk *walk)
{
    struct level *level = &walk->levels[--walk->open];
    walk->held_bytes -= level->held_bytes;
    tp_ocdbt_node_release(&level->node);
    free(level->numbers);
    level->numbers = NULL;
}

/* ---- opening ---- */

static enum tp_status read_node(struct walk *walk, const struct tp_ocdbt_file *self, uint64_t offset, uint64_t length,
                                uint8_t **memory)
{
    if (length > TP_OCDBT_NODE_MAX)
        return tp_fail(walk->err, TP_ERR_LIMIT,
                       "OCDBT node at byte %" PRIu64 ": it has %" PRIu64 " bytes, more than %zu", offset, length,
                       TP_OCDBT_NODE_MAX);
    *memory = malloc(length > 0 ? (size_t)length : 1);
    if (!*memory)
        return tp_fail_nomem(walk->err);
    enum tp_status status =
        walk->visitor->read(walk->visitor->user, self->path, offset, *memory, (size_t)length, walk->err);
    if (status)
        free(*memory);
    return status;
}

static enum tp_status count_bytes(struct walk *walk, struct level *level)
{
    level->held_bytes = level->node.body.len;
    walk->held_bytes += level->held_bytes;
    walk->tree_bytes += level->held_bytes;
    if (walk->held_bytes > HELD_MAX || walk->tree_bytes > TP_OCDBT_TREE_MAX)
        return tp_fail(walk->err, TP_ERR_LIMIT, "%s: the tree is larger than what is read", level->node.what);
    return TP_OK;
}

static enum tp_status prepare_numbers(struct walk *walk, struct level *level)
{
    const size_t count = level->node.files.count;
    if (level->node.height > 0 || count == 0)
        return TP_OK;
    level->numbers = malloc(count * sizeof *level->numbers);
    if (!level->numbers)
        return tp_fail_nomem(walk->err);
    for (size_t i = 0; i < count; i++)
        level->numbers[i] = NO_FILE;
    return TP_OK;
}

/* The node at a range of a file becomes the innermost open one. */
static enum tp_status open_level(struct walk *walk, uint8_t height, const struct tp_ocdbt_file *self, uint64_t offset,
                                 uint64_t length, const char *outer, size_t outer_len, uint64_t key_count)
{
    struct level *level = &walk->levels[walk->open];
    uint8_t *memory = NULL;
    enum tp_status status = read_node(walk, self, offset, length, &memory);
    if (status)
        return status;
    *level = (struct level){.self = *self, .expected = key_count};
    status =
        tp_ocdbt_node_open(&level->node, memory, (size_t)length, offset, height, outer, outer_len, self, walk->err);
    if (status)
        return walk->err && !walk->err->path[0] ? tp_err_path(walk->err, status, self->path) : status;
    walk->open++;
    status = count_bytes(walk, level);
    return status ? status : prepare_numbers(walk, level);
}

/* ---- keys ---- */

static int compare_keys(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* A node's first key comes after every key visited, and not before what its parent says of it; an inner node's further
 * keys come after every key visited too, since those lie below its children so far. */
static enum tp_status check_bounds(struct walk *walk, const struct level *level)
{
    const struct tp_ocdbt_node *node = &level->node;
    const bool is_first = node->next == 1;
    bool good = true;
    if (walk->has_last && (is_first || node->height > 0))
        good = compare_keys(walk->last, walk->last_len, node->key, node->key_len) < 0;
    if (good && is_first && level > walk->levels)
        good = compare_keys(level[-1].node.key, level[-1].node.key_len, node->key, node->key_len) <= 0;
    if (good)
        return TP_OK;
    char shown[128];
    return tp_fail(walk->err, TP_ERR_FORMAT, "%s: its key '%s' does not belong there", node->what,
                   tp_text_printable(shown, sizeof shown, node->key, node->key_len));
}

static void remember_last(struct walk *walk, const struct tp_ocdbt_node *leaf)
{
    memcpy(walk->last, leaf->key, leaf->key_len);
    walk->last_len = leaf->key_len;
    walk->has_last = true;
}

/* ---- the walk ---- */

static enum tp_status number_of(struct walk *walk, struct level *leaf, uint32_t row, uint32_t *number)
{
    if (leaf->numbers[row] == NO_FILE) {
        enum tp_status status =
            walk->visitor->file(walk->visitor->user, leaf->node.files.items[row].path, number, walk->err);
        if (status)
            return status;
        leaf->numbers[row] = *number;
    }
    *number = (uint32_t)leaf->numbers[row];
    return TP_OK;
}

static enum tp_status visit_entry(struct walk *walk, struct level *leaf, const struct tp_ocdbt_item *item)
{
    struct tp_ocdbt_entry entry = {
        .key = leaf->node.key,
        .key_len = leaf->node.key_len,
        .bytes = item->bytes,
        .size = item->length,
        .offset = item->offset,
    };
    if (++walk->total > walk->max)
        return tp_fail(walk->err, TP_ERR_LIMIT, "%s: the tree has more than %" PRIu64 " keys", leaf->node.what,
                       walk->max);
    leaf->seen++;
    if (!item->bytes) {
        entry.path = leaf->node.files.items[item->file].path;
        enum tp_status status = number_of(walk, leaf, item->file, &entry.file);
        if (status)
            return status;
    }
    return walk->visitor->entry(walk->visitor->user, &entry, walk->err);
}

static enum tp_status step(struct walk *walk)
{
    struct level *level = &walk->levels[walk->open - 1];
    struct tp_ocdbt_item item;
    enum tp_status status = tp_ocdbt_node_next(&level->node, &item, walk->err);
    if (!status)
        status = check_bounds(walk, level);
    if (status)
        return status;
    if (level->node.height == 0)
        return visit_entry(walk, level, &item);
    return open_level(walk, (uint8_t)(level->node.height - 1), &level->node.files.items[item.file], item.offset,
                      item.length, level->node.key, level->node.outer_len + item.common_len, item.key_count);
}

/* A level whose entries are all visited. */
static enum tp_status leave(struct walk *walk)
{
    struct level *level = &walk->levels[walk->open - 1];
    if (level->seen != level->expected)
        return tp_fail(walk->err, TP_ERR_FORMAT, "%s: %" PRIu64 " keys in it and below, expected %" PRIu64,
                       level->node.what, level->seen, level->expected);
    if (level->node.height == 0)
        remember_last(walk, &level->node);
    if (level > walk->levels)
        level[-1].seen += level->seen;
    close_level(walk);
    return TP_OK;
}

enum tp_status tp_ocdbt_walk(const struct tp_ocdbt_manifest *m, uint64_t max_entries,
                             const struct tp_ocdbt_visitor *visitor, struct tp_error *err)
{
    if (m->is_empty)
        return TP_OK;
    if (m->key_count > max_entries)
        return tp_fail(err, TP_ERR_LIMIT, "%s: it has %" PRIu64 " keys, more than %" PRIu64, TP_OCDBT_MANIFEST_NAME,
                       m->key_count, max_entries);
    struct walk *walk = calloc(1, sizeof *walk);
    char *last = malloc(TP_OCDBT_KEY_MAX + 1);
    if (!walk || !last) {
        free(walk);
        free(last);
        return tp_fail_nomem(err);
    }
    walk->visitor = visitor;
    walk->err = err;
    walk->max = max_entries;
    walk->last = last;
    const struct tp_ocdbt_file self = {m->path, strlen(m->path), m->base_len};
    enum tp_status status = open_level(walk, m->height, &self, m->offset, m->length, "", 0, m->key_count);
    while (!status && walk->open > 0) {
        const struct tp_ocdbt_node *node = &walk->levels[walk->open - 1].node;
        status = node->next < node->count ? step(walk) : leave(walk);
    }
    while (walk->open > 0)
        close_level(walk);
    free(last);
    free(walk);
    return status;
}
