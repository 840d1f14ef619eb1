/* SPDX-License-Identifier: MIT */
/* What an Orbax checkpoint holds, as its _METADATA tells: the leaves of the tree and how their arrays are stored. */
#ifndef TP_CHECKPOINT_ORBAX_TREE_H
#define TP_CHECKPOINT_ORBAX_TREE_H

#include "checkpoint/checkpoint.h"
#include "codec/zarr.h"

/* An array of the tree, and what its zarr metadata says, packed: there may be a million of them. */
struct tp_orbax_array {
    const char *name; /* keys joined by '.', in ck->arena */
    const char *key;  /* its folder, or the prefix of its keys, in the store: the name, or a number */
    uint16_t name_len, key_len;
    bool is_known;      /* its metadata was found; what follows is filled in */
    bool is_plain_type; /* value_type is one that is always an array; else it may have none */
    uint8_t version, rank, dtype, separator;
    bool has_c_prefix, is_sharded, index_at_start, index_has_crc;
    struct tp_chunks *chunks;       /* of inner chunks, where there are shards; its shape follows that of the array */
    const uint64_t *shape, *object; /* `object`: of a chunk as stored, or a shard */
    struct tp_extent *extents;      /* one a chunk */
    uint32_t extent_count;
    const char *type; /* value_type, printable, of those that are not plain; of JAX what the leaf is said to be */
};

struct tp_orbax_tree {
    struct tp_orbax_array *arrays;
    size_t count, capacity;
    struct tp_name_index keys; /* of arrays */
    const char *described_in;  /* the file that this was read from */
    int use_ocdbt;             /* -1 not said */
    bool use_zarr3;
    bool stores_all;        /* a chunk that is not there is missing, not full of zeros */
    size_t skipped_count;   /* leaves that are no arrays */
    struct tp_list skipped; /* the first of them, printable: "'a.b' (string)" */
};

/* Read _METADATA of ck->folder. Names are kept in ck->arena. Two arrays of one joined name are refused. */
enum tp_status tp_orbax_tree_read(struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err);
void tp_orbax_tree_release(struct tp_orbax_tree *tree);
/* One more array, unless there is one of this key: then *is_new is false. */
enum tp_status tp_orbax_tree_add(struct tp_orbax_tree *tree, const struct tp_orbax_array *array, bool *is_new,
                                 struct tp_error *err);
/* NULL: there is none of this key. */
struct tp_orbax_array *tp_orbax_tree_find(struct tp_orbax_tree *tree, const char *key, size_t len);

#endif
