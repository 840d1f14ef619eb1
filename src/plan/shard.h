/* SPDX-License-Identifier: MIT */
/* Cutting a sequence of items into files of bounded size: greedy, in order, then balanced. */
#ifndef TP_PLAN_SHARD_H
#define TP_PLAN_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tp_shard_item {
    uint64_t bytes; /* of the item in a file, framing included */
    bool alone;     /* must have a file of its own, and may be larger than the limit */
    bool apart;     /* must not share a file with the item before it */
    uint32_t file;  /* result */
};

/* Assign files to `items`, in order, none above `limit_bytes` (of which `overhead_bytes` are taken by each file
 * itself); the caller has made sure that every item that is not alone fits. As few files as possible, then as equal as
 * possible. Returns their number, at least 1. */
uint32_t tp_shard_assign(struct tp_shard_item *items, size_t count, uint64_t limit_bytes, uint64_t overhead_bytes);

#endif
