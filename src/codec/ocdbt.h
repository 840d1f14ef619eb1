/* SPDX-License-Identifier: MIT */
/* OCDBT, the key-value database that Orbax keeps its arrays in: one manifest and a B+tree of nodes, whose values are
 * either in the node or a range of bytes of any file beside the manifest. docs/formats/orbax.md has the bytes.
 *
 * The writer makes one version: a leaf, or above TP_OCDBT_NODE_ENTRIES keys an interior root over as many leaves as it
 * takes, all in one file. It pulls keys and values from its caller, column by column, and keeps none of them.
 * The reader is for files that anyone may have written: strict, bounded in memory and in depth, never recursive. */
#ifndef TP_CODEC_OCDBT_H
#define TP_CODEC_OCDBT_H

#include "codec/json.h" /* tp_json_write_fn: where bytes go */

#define TP_OCDBT_MANIFEST_NAME "manifest.ocdbt"
#define TP_OCDBT_NODE_ENTRIES ((uint64_t)1 << 20) /* TensorStore reads no more of them in one node */
#define TP_OCDBT_KEY_MAX 65535u                   /* bytes of a key; of a path too */
#define TP_OCDBT_INLINE_MAX ((size_t)1 << 20)     /* bytes of a value in the node */
#define TP_OCDBT_HEIGHT_MAX 16u                   /* what we read; 2^20 entries a node make 2 or 3 enough */
#define TP_OCDBT_NODE_MAX ((size_t)256 << 20)     /* bytes of a node, decompressed too; likewise of a manifest */
#define TP_OCDBT_TREE_MAX ((uint64_t)8 << 30)     /* bytes of all nodes, decompressed */

/* ---- writing ---- */

struct tp_ocdbt_value {
    /* Inline: `size` bytes, at most TP_OCDBT_INLINE_MAX, valid until the next call. NULL: the value is in a file. */
    const void *bytes;
    uint64_t size;
    uint32_t file; /* number in tp_ocdbt_source.files */
    uint64_t offset;
};

/* What is to be written. Entries are asked for several times each, in ascending order, and must be the same each time;
 * nothing is kept between calls. */
struct tp_ocdbt_source {
    void *user;
    uint64_t count; /* at least 1 */
    /* The i-th key in ascending bytewise order, none twice; valid until the next call of any function here. */
    const char *(*key)(void *user, uint64_t i, size_t *len);
    void (*value)(void *user, uint64_t i, struct tp_ocdbt_value *value);
    /* Paths of the data files, relative to the manifest's folder, '/' between folders: ascending bytewise, none twice,
     * and such as tp_ocdbt_path_is_safe allows. */
    const char *const *files;
    uint32_t file_count;
    uint64_t leaf_entries; /* most entries of a leaf; 0: TP_OCDBT_NODE_ENTRIES */
};

/* The tree that the nodes form, as the manifest tells it. */
struct tp_ocdbt_tree {
    uint64_t file_bytes;     /* of the file of nodes */
    uint64_t offset, length; /* of the root in it */
    uint64_t key_count;
    uint64_t node_bytes;     /* of all nodes */
    uint64_t indirect_bytes; /* of values outside the nodes */
    uint8_t height;          /* 0: the root is a leaf */
};

/* What tp_ocdbt_write_nodes will write. `node_file` is the path of the file of nodes relative to the manifest's folder;
 * only its length matters here. TP_ERR_USAGE where keys, values or paths break the rules above (messages name the
 * key), TP_ERR_LIMIT for a node beyond TP_OCDBT_NODE_MAX or more than 2^20 leaves. */
enum tp_status tp_ocdbt_measure(struct tp_ocdbt_tree *tree, const struct tp_ocdbt_source *source, const char *node_file,
                                struct tp_error *err);
/* Exactly tree->file_bytes bytes. The name of the file is part of an interior root and of nothing else: whoever names
 * the file by its content writes it twice, first with another name of the same length. */
enum tp_status tp_ocdbt_write_nodes(const struct tp_ocdbt_source *source, const char *node_file, tp_json_write_fn write,
                                    void *user, struct tp_error *err);
/* The bytes of manifest.ocdbt: uncompressed nodes, one version, generation 1. */
enum tp_status tp_ocdbt_write_manifest(const struct tp_ocdbt_tree *tree, const char *node_file, const uint8_t uuid[16],
                                       uint64_t commit_time_ns, tp_json_write_fn write, void *user,
                                       struct tp_error *err);
/* How many bytes that will be. */
uint64_t tp_ocdbt_manifest_bytes(const struct tp_ocdbt_tree *tree, const char *node_file);

/* A path may name a file at or below the manifest's folder: relative; no part empty, "." or ".."; no NUL, no
 * backslash; not ending in ".__lock"; 1 to TP_OCDBT_KEY_MAX bytes. */
bool tp_ocdbt_path_is_safe(const char *path, size_t len);

/* ---- reading ---- */

/* The newest version of a database: where its root lies. */
struct tp_ocdbt_manifest {
    uint8_t uuid[16];
    uint64_t generation;     /* from 1 */
    uint64_t version_count;  /* that the manifest lists itself */
    bool is_empty;           /* a version without any key: no root */
    uint8_t height;          /* of the root */
    char *path;              /* malloc'd: the root's file, relative to the manifest's folder */
    size_t base_len;         /* what nodes below inherit: paths in the root's table begin with path[0, base_len) */
    uint64_t offset, length; /* of the root */
    uint64_t key_count, node_bytes, indirect_bytes;
    uint64_t commit_time_ns;
};
/* `bytes` is the whole of manifest.ocdbt (read no more than TP_OCDBT_NODE_MAX). TP_ERR_FORMAT: malformed;
 * TP_ERR_UNSUPPORTED: manifests in numbered files, unknown versions or compression; TP_ERR_LIMIT. */
enum tp_status tp_ocdbt_manifest_read(struct tp_ocdbt_manifest *manifest, const uint8_t *bytes, size_t len,
                                      struct tp_error *err);
void tp_ocdbt_manifest_release(struct tp_ocdbt_manifest *manifest);

struct tp_ocdbt_entry {
    const char *key; /* whole, terminated (and may hold NUL itself); valid during the call, as `bytes` */
    size_t key_len;
    const uint8_t *bytes; /* inline value; NULL: it lies in a file */
    uint64_t size;
    const char *path; /* of the file, terminated, safe (see above) */
    uint32_t file;    /* what visitor.file made of it */
    uint64_t offset;  /* offset + size is below 2^63; nothing else is known of the range */
};

/* How a walk asks and tells. An error that a function returns ends the walk and is returned. */
struct tp_ocdbt_visitor {
    void *user;
    /* Exactly `len` bytes of a file of nodes to dst. `path` is safe; `len` at most TP_OCDBT_NODE_MAX. */
    enum tp_status (*read)(void *user, const char *path, uint64_t offset, void *dst, size_t len, struct tp_error *err);
    /* A data file's number, any that the caller likes. Asked once a node for every file that the node's values use. */
    enum tp_status (*file)(void *user, const char *path, uint32_t *number, struct tp_error *err);
    /* Every key, in strictly ascending order. */
    enum tp_status (*entry)(void *user, const struct tp_ocdbt_entry *entry, struct tp_error *err);
};

/* Visit every entry of the newest version. Proven on the way: envelopes and checksums of all nodes, heights that fall
 * by one a level (so no cycle), keys in order and within the bounds of their parents, as many of them as the manifest
 * and the parents say. More than `max_entries` keys are TP_ERR_LIMIT, as is anything beyond the limits above. */
enum tp_status tp_ocdbt_walk(const struct tp_ocdbt_manifest *manifest, uint64_t max_entries,
                             const struct tp_ocdbt_visitor *visitor, struct tp_error *err);

#endif
