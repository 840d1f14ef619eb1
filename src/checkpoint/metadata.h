/* SPDX-License-Identifier: MIT */
/* __metadata__ of safetensors files, united: a copy of the checkpoint says what its sources said. Only strings are
 * kept, in the order in which they were first met. */
#ifndef TP_CHECKPOINT_METADATA_H
#define TP_CHECKPOINT_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "checkpoint/name_index.h"

#define TP_METADATA_MAX_BYTES ((size_t)1 << 20) /* kept of all files together; what is beyond is counted */

struct tp_metadata_item {
    const char *key, *value; /* in the arena; no NUL inside */
    size_t key_len, value_len;
};

struct tp_metadata { /* {0} is empty and ready */
    struct tp_metadata_item *items;
    size_t count, capacity;
    size_t used_bytes;
    struct tp_name_index keys;
    uint64_t conflict_count; /* values that differ from an earlier file's, and were not taken */
    const char *conflict_file;
    uint32_t conflict_item;
    uint64_t dropped_count; /* values too large to keep */
};

/* Keep one pair of the file called `file_name` (which must outlive *m), unless an earlier file has the key. False: no
 * memory. */
bool tp_metadata_add(struct tp_metadata *m, struct tp_arena *arena, const struct tp_metadata_item *item,
                     const char *file_name);
void tp_metadata_release(struct tp_metadata *m);

#endif
