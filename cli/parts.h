/* SPDX-License-Identifier: MIT */
/* The parts of a model, read from its tensors' names: a hundred layers fold into one row. */
#ifndef CLI_PARTS_H
#define CLI_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include <tensorport/tensorport.h>

/* "model.layers.0..23", with its "self_attn", "mlp.experts", ... below it; or "lm_head" without any. */
struct part {
    char *name;
    uint64_t tensor_count, bytes;
    size_t first_child, child_count; /* in parts.rows; a child has none */
    bool child;
};

struct parts {
    struct part *rows; /* a parent, then its children; both by bytes, most first */
    size_t count;
};

/* False: out of memory. */
bool parts_take(struct parts *parts, const struct tp_checkpoint *ck);
void parts_release(struct parts *parts);

#endif
