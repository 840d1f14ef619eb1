/* SPDX-License-Identifier: MIT */
/* One node of OCDBT's B+tree, entry by entry. Its fields are stored as columns: each is read by a cursor of its own, so
 * that nothing but the current key is ever copied. */
#ifndef TP_CODEC_OCDBT_NODE_H
#define TP_CODEC_OCDBT_NODE_H

#include "codec/ocdbt_wire.h"

struct tp_ocdbt_item {
    const uint8_t *bytes; /* of a leaf: inline value, or NULL */
    uint32_t file;        /* else the row of node->files */
    uint64_t offset, length;
    size_t common_len;  /* of an inner node: the child's keys lack so many bytes of this one's */
    uint64_t key_count; /* likewise: below the child */
};

struct tp_ocdbt_node {
    uint8_t *memory; /* malloc'd: the node as stored, or NULL when the body is not in it */
    struct tp_ocdbt_body body;
    struct tp_ocdbt_files files;
    uint8_t height; /* 0: a leaf */
    uint64_t count, next;
    struct tp_wire prefix, suffix, text; /* keys */
    struct tp_wire file, offset, length; /* of a leaf only those of values in files; length: of all */
    struct tp_wire kind, inlined;        /* leaf */
    struct tp_wire common, keys;         /* inner node */
    char *key;      /* TP_OCDBT_KEY_MAX + 1 bytes: the whole key of the entry that tp_ocdbt_node_next gave */
    size_t key_len; /* of which the first `outer_len` bytes are not in the node */
    size_t outer_len;
    char what[64]; /* "node at byte 4711", for messages */
};

/* Take over `memory` (malloc'd, `len` bytes), prove the columns to be whole, and get ready for the first entry. `outer`
 * begins all keys, `base` all paths. On failure the node is released. */
enum tp_status tp_ocdbt_node_open(struct tp_ocdbt_node *node, uint8_t *memory, size_t len, uint64_t offset,
                                  uint8_t height, const char *outer, size_t outer_len, const struct tp_ocdbt_file *self,
                                  struct tp_error *err);
void tp_ocdbt_node_release(struct tp_ocdbt_node *node);

/* Only while node->next < node->count. */
enum tp_status tp_ocdbt_node_next(struct tp_ocdbt_node *node, struct tp_ocdbt_item *item, struct tp_error *err);

#endif
