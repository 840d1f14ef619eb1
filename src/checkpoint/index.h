/* SPDX-License-Identifier: MIT */
/* model.safetensors.index.json: which file each tensor is to be taken from. A convention of the Hub. */
#ifndef TP_CHECKPOINT_INDEX_H
#define TP_CHECKPOINT_INDEX_H

#include "checkpoint/checkpoint.h"

struct tp_weight_entry {
    const char *name;
    uint32_t file; /* number in tp_weight_map.files */
    uint16_t name_len;
    bool seen; /* the file has it */
};

enum tp_total_size { TP_TOTAL_ABSENT, TP_TOTAL_KNOWN, TP_TOTAL_BAD };

struct tp_weight_map { /* {0} is empty */
    struct tp_weight_entry *entries;
    size_t entry_count, entry_capacity;
    struct tp_name_index entry_names;
    const char **files; /* sorted bytewise */
    size_t file_count, file_capacity;
    struct tp_name_index file_names;
    enum tp_total_size total; /* metadata.total_size, often wrong: never more than a note */
    uint64_t total_bytes;
};

/* Read and prove the index: an object with an object `weight_map`, no tensor twice, plain file names. Names are kept in
 * `arena`. The caller releases *map also after a failure. */
enum tp_status tp_weight_map_read(struct tp_weight_map *map, struct tp_arena *arena, const char *path,
                                  struct tp_error *err);
void tp_weight_map_release(struct tp_weight_map *map);

/* The entry of a name, or NULL. */
struct tp_weight_entry *tp_weight_map_find(struct tp_weight_map *map, const char *name, size_t len);

#endif
