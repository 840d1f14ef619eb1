/* SPDX-License-Identifier: MIT */
/* Nodes. Body: u8 height, table of files, n, then columns:
 *   keys    prefix_len[1..n-1], suffix_len[n], (inner: common_len[n],) suffixes
 *   leaf    value_len[n], u8 kind[n], file[k], offset[k] of the k values in files, the inline values
 *   inner   file[n], offset[n], length[n], key_count[n], node_bytes[n], indirect_bytes[n]
 */
#include "codec/ocdbt_node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tensorport/text.h"

enum { KIND_INLINE, KIND_FILE };

void tp_ocdbt_node_release(struct tp_ocdbt_node *node)
{
    tp_ocdbt_files_release(&node->files);
    free(node->body.owned);
    free(node->memory);
    free(node->key);
    node->body.owned = NULL;
    node->memory = NULL;
    node->key = NULL;
}

static enum tp_status malformed(const struct tp_ocdbt_node *node, struct tp_error *err, const char *part)
{
    return tp_fail(err, TP_ERR_FORMAT, "%s: malformed %s", node->what, part);
}

static uint64_t sum(struct tp_wire column, uint64_t count)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t value = tp_wire_uint(&column);
        total = value > UINT64_MAX - total ? UINT64_MAX : total + value;
    }
    return total;
}

static enum tp_status open_keys(struct tp_ocdbt_node *node, struct tp_wire *w, struct tp_error *err)
{
    node->prefix = tp_wire_column(w, node->count - 1);
    node->suffix = tp_wire_column(w, node->count);
    if (node->height > 0)
        node->common = tp_wire_column(w, node->count);
    node->text = *w;
    tp_wire_take(w, w->bad ? 0 : sum(node->suffix, node->count));
    return w->bad ? malformed(node, err, "keys") : TP_OK;
}

static enum tp_status open_leaf(struct tp_ocdbt_node *node, struct tp_wire *w, struct tp_error *err)
{
    node->length = tp_wire_column(w, node->count);
    const uint8_t *kinds = tp_wire_take(w, node->count);
    if (!kinds)
        return malformed(node, err, "values");
    node->kind = (struct tp_wire){kinds, kinds + node->count, false};
    uint64_t in_files = 0, inline_bytes = 0;
    struct tp_wire length = node->length;
    for (uint64_t i = 0; i < node->count; i++) {
        const uint64_t len = tp_wire_uint(&length);
        if (kinds[i] > KIND_FILE || (kinds[i] == KIND_INLINE && len > TP_OCDBT_INLINE_MAX))
            return malformed(node, err, "values");
        in_files += kinds[i] == KIND_FILE;
        inline_bytes += kinds[i] == KIND_INLINE ? len : 0;
    }
    node->file = tp_wire_column(w, in_files);
    node->offset = tp_wire_column(w, in_files);
    node->inlined = *w;
    tp_wire_take(w, inline_bytes);
    return w->bad ? malformed(node, err, "values") : TP_OK;
}

static enum tp_status open_inner(struct tp_ocdbt_node *node, struct tp_wire *w, struct tp_error *err)
{
    node->file = tp_wire_column(w, node->count);
    node->offset = tp_wire_column(w, node->count);
    node->length = tp_wire_column(w, node->count);
    node->keys = tp_wire_column(w, node->count);
    tp_wire_column(w, node->count); /* bytes of nodes, and of values in files: nothing depends on them */
    tp_wire_column(w, node->count);
    return w->bad ? malformed(node, err, "references") : TP_OK;
}

static enum tp_status open_body(struct tp_ocdbt_node *node, const struct tp_ocdbt_file *self, struct tp_error *err)
{
    struct tp_wire w = {node->body.bytes, node->body.bytes + node->body.len, false};
    const uint8_t height = (uint8_t)tp_wire_le(&w, 1);
    if (!w.bad && height != node->height)
        return tp_fail(err, TP_ERR_FORMAT, "%s: it has height %u, expected %u", node->what, height, node->height);
    enum tp_status status = tp_ocdbt_files_read(&node->files, &w, self->path, self->base_len, node->what, err);
    if (status)
        return status;
    node->count = tp_wire_uint(&w);
    if (w.bad || node->count == 0 || node->count > TP_OCDBT_NODE_ENTRIES)
        return malformed(node, err, "number of entries");
    status = open_keys(node, &w, err);
    if (!status)
        status = node->height > 0 ? open_inner(node, &w, err) : open_leaf(node, &w, err);
    if (!status && tp_wire_left(&w) > 0)
        status = tp_fail(err, TP_ERR_FORMAT, "%s: %zu bytes after its end", node->what, tp_wire_left(&w));
    return status;
}

enum tp_status tp_ocdbt_node_open(struct tp_ocdbt_node *node, uint8_t *memory, size_t len, uint64_t offset,
                                  uint8_t height, const char *outer, size_t outer_len, const struct tp_ocdbt_file *self,
                                  struct tp_error *err)
{
    *node = (struct tp_ocdbt_node){.memory = memory, .height = height, .outer_len = outer_len, .key_len = outer_len};
    snprintf(node->what, sizeof node->what, "OCDBT node at byte %" PRIu64, offset);
    enum tp_status status = tp_ocdbt_unwrap(&node->body, memory, len, TP_OCDBT_MAGIC_NODE, node->what, err);
    if (!status && node->body.owned) {
        free(node->memory);
        node->memory = NULL;
    }
    node->key = status ? NULL : malloc(TP_OCDBT_KEY_MAX + 1);
    if (!status && !node->key)
        status = tp_fail_nomem(err);
    if (!status)
        memcpy(node->key, outer, outer_len);
    if (!status)
        status = open_body(node, self, err);
    if (status)
        tp_ocdbt_node_release(node);
    return status;
}

/* The next key, in place of the one before: greater than that one, and no longer than a key may be. */
static enum tp_status next_key(struct tp_ocdbt_node *node, struct tp_error *err)
{
    const uint64_t prefix = node->next > 0 ? tp_wire_uint(&node->prefix) : 0, suffix = tp_wire_uint(&node->suffix);
    const size_t old = node->key_len - node->outer_len;
    if (prefix > old || suffix > TP_OCDBT_KEY_MAX || node->outer_len + prefix + suffix > TP_OCDBT_KEY_MAX)
        return tp_fail(err, TP_ERR_FORMAT, "%s: key %" PRIu64 " has impossible lengths", node->what, node->next);
    const uint8_t *text = tp_wire_take(&node->text, suffix);
    char *tail = node->key + node->outer_len + prefix;
    const size_t tail_len = old - (size_t)prefix, len = (size_t)suffix;
    if (node->next > 0) {
        const int order = memcmp(tail, text, tail_len < len ? tail_len : len);
        if (order > 0 || (order == 0 && tail_len >= len)) {
            char shown[128];
            return tp_fail(err, TP_ERR_FORMAT, "%s: the key after '%s' is not greater", node->what,
                           tp_text_printable(shown, sizeof shown, node->key, node->key_len));
        }
    }
    memcpy(tail, text, len);
    tail[len] = '\0';
    node->key_len = node->outer_len + (size_t)prefix + len;
    return TP_OK;
}

static enum tp_status bad_entry(const struct tp_ocdbt_node *node, struct tp_error *err, const char *fault)
{
    char shown[128];
    return tp_fail(err, TP_ERR_FORMAT, "%s: the value of '%s' %s", node->what,
                   tp_text_printable(shown, sizeof shown, node->key, node->key_len), fault);
}

static enum tp_status next_range(struct tp_ocdbt_node *node, struct tp_ocdbt_item *item, struct tp_error *err)
{
    const uint64_t file = tp_wire_uint(&node->file);
    item->offset = tp_wire_uint(&node->offset);
    if (file >= node->files.count || node->files.items[file].len == 0)
        return bad_entry(node, err, "lies in a file that is not in the node's table");
    if (item->offset > TP_OCDBT_END_MAX || item->length > TP_OCDBT_END_MAX - item->offset)
        return bad_entry(node, err, "lies beyond the end of any file");
    item->file = (uint32_t)file;
    return TP_OK;
}

enum tp_status tp_ocdbt_node_next(struct tp_ocdbt_node *node, struct tp_ocdbt_item *item, struct tp_error *err)
{
    *item = (struct tp_ocdbt_item){0};
    enum tp_status status = next_key(node, err);
    if (status)
        return status;
    node->next++;
    item->length = tp_wire_uint(&node->length);
    if (node->height == 0 && *tp_wire_take(&node->kind, 1) == KIND_INLINE) {
        item->bytes = tp_wire_take(&node->inlined, item->length);
        return TP_OK;
    }
    if (node->height > 0) {
        item->key_count = tp_wire_uint(&node->keys);
        const uint64_t common = tp_wire_uint(&node->common);
        if (common > node->key_len - node->outer_len)
            return bad_entry(node, err, "is a node whose keys lack more than the whole key");
        item->common_len = (size_t)common;
    }
    return next_range(node, item, err);
}
