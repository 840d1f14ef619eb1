/* SPDX-License-Identifier: MIT */
/* The quantised weights of a checkpoint: what each group of tensors would be decoded to, and what it consists of. */
#ifndef CLI_WEIGHTS_H
#define CLI_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include <tensorport/tensorport.h>

#include "json.h"

struct weight {
    const struct tp_group *group;
    char *name;      /* of the decoded tensor; where it is refused, the stem of its parts' names */
    char *refused;   /* why it cannot be decoded, or NULL; then there is no shape */
    uint64_t *shape; /* as --dequantize gives it */
    uint64_t parameters;
    uint64_t count;          /* weights that this row stands for: 1, but after folding */
    const uint32_t *members; /* group->member_count tensors, in source order; the first weight's, after folding */
    unsigned rank;
};

struct weights {
    struct weight *rows; /* by group, until they are folded */
    size_t count;
    char *refused; /* why config.json lets none be decoded, or NULL */
    uint32_t *members;
};

/* False: out of memory. To be released either way. */
bool weights_take(struct weights *w, const struct tp_checkpoint *ck);
void weights_release(struct weights *w);

/* By the decoded tensor's name, or that of one that is refused; NULL: there is none. */
const struct weight *weights_find(const struct weights *w, const char *name);

/* Weights that differ in numbers within their names alone (layers, experts) become one row, the numbers '*'. */
void weights_fold(struct weights *w);

/* An object: what --json says of one. */
void weight_json(struct json *j, const char *key, const struct tp_checkpoint *ck, const struct weight *weight);

#endif
