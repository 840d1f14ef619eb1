/* SPDX-License-Identifier: MIT */
/* How JAX writes down the structure of a tree (jax.experimental.array_serialization.pytree_serialization): a flatbuffer
 * with one type of table, without an identifier or a version. docs/formats/jax.md has the bytes.
 *
 * The writer makes exactly the bytes that JAX makes for the same tree. It fills its buffer from the end, as FlatBuffers
 * does, so children come before their parents, and a node is known by its distance from the end.
 * The reader is for bytes that anyone may have written: strict, bounded in memory and in depth, never recursive. */
#ifndef TP_CODEC_TREEDEF_H
#define TP_CODEC_TREEDEF_H

#include <stdbool.h>

#include "base/status.h"

enum tp_treedef_kind {
    TP_TREEDEF_LEAF, /* None too: only the list of leaves tells them apart */
    TP_TREEDEF_NONE, /* never written by JAX */
    TP_TREEDEF_TUPLE,
    TP_TREEDEF_LIST,
    TP_TREEDEF_DICT,
    TP_TREEDEF_CUSTOM /* a registered type; we write OrderedDict */
};

#define TP_TREEDEF_ORDERED_DICT "collections.OrderedDict"
#define TP_TREEDEF_BYTES_MAX ((size_t)1 << 30) /* of a buffer that is written; offsets have 32 bits */
#define TP_TREEDEF_DEPTH_MAX 1000u             /* nodes above a leaf; Python recurses and gives up before */

/* ---- writing ---- */

struct tp_treedef_vtable {
    uint32_t at;
    uint16_t count, words[7];
};

/* {0} is empty and ready. Remembers its first failure: ask tp_treedef_finish. */
struct tp_treedef_builder {
    uint8_t *bytes; /* the last `used` of `capacity` are filled */
    size_t capacity, used;
    struct tp_treedef_vtable vtables[32]; /* of our kinds there are a dozen */
    size_t vtable_count;
    bool no_memory, too_large;
};

/* A node below another. */
struct tp_treedef_child {
    const char *key; /* of dicts: UTF-8 */
    uint32_t key_len;
    uint32_t node; /* what tp_treedef_add said; overwritten */
};

/* Add a node: a LEAF, LIST or DICT (keys in ascending bytewise order), or CUSTOM for an OrderedDict (in any order). All
 * its children have been added. */
uint32_t tp_treedef_add(struct tp_treedef_builder *b, enum tp_treedef_kind kind, struct tp_treedef_child *children,
                        size_t count);
/* The whole buffer, which stays the builder's. TP_ERR_NOMEM; TP_ERR_LIMIT beyond TP_TREEDEF_BYTES_MAX. */
enum tp_status tp_treedef_finish(struct tp_treedef_builder *b, uint32_t root, const uint8_t **bytes, size_t *len,
                                 struct tp_error *err);
void tp_treedef_release(struct tp_treedef_builder *b);

/* ---- reading ---- */

struct tp_treedef_visitor {
    void *user;
    /* Each leaf in the order of JAX (dicts by sorted keys): its keys joined by '.', those of lists and tuples as
     * numbers; of a tree that is one leaf "". Terminated, valid during the call. An error ends the walk. */
    enum tp_status (*leaf)(void *user, const char *name, size_t len, struct tp_error *err);
};

/* TP_ERR_FORMAT: malformed, also keys that are no UTF-8, hold NUL or stand twice in a dict; TP_ERR_LIMIT: too deep, a
 * name longer than TP_NAME_MAX_BYTES, or more nodes than fit (nodes that several parents share, again and again). */
enum tp_status tp_treedef_read(const uint8_t *bytes, size_t len, const struct tp_treedef_visitor *visitor,
                               struct tp_error *err);

#endif
