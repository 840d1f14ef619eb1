/* SPDX-License-Identifier: MIT */
/* The small files that make a folder of weights a model. */
#ifndef TP_JOB_SIDEFILES_H
#define TP_JOB_SIDEFILES_H

#include "checkpoint/checkpoint.h"
#include "manifest/manifest.h"

struct tp_side_list {           /* {0} is empty and ready */
    struct tp_side_file *items; /* names in the arena */
    size_t count, capacity;
    struct tp_arena arena;
};
enum tp_status tp_side_add(struct tp_side_list *list, const char *name, uint64_t size_bytes,
                           const struct tp_digest *digest, struct tp_error *err);
void tp_side_release(struct tp_side_list *list);

/* Names (and sizes, without digests) of the side files beside the weights of `ck`. `decoded`: what says how it was
 * quantised is kept under another name (config.original.json), and config.json goes without. */
enum tp_status tp_side_find(struct tp_side_list *list, const struct tp_checkpoint *ck, bool decoded,
                            struct tp_error *err);
/* Copy those files into `folder`, and fill in their digests. */
enum tp_status tp_side_copy(struct tp_side_list *list, const struct tp_checkpoint *ck, const char *folder,
                            const struct tp_kernels *kernels, bool sync, struct tp_error *err);

#endif
