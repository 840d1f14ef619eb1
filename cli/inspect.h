/* SPDX-License-Identifier: MIT */
/* What the files of tensorport inspect share. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include <stdbool.h>

#include <tensorport/tensorport.h>

#include "weights.h"

enum { INSPECT_NAME_WIDTH_MAX = 60 };

struct inspect_args {
    const char *path;
    const char *tensor;
    bool all, ignore_index, json, help;
};

/* One tensor: where it lies, its statistics, its first and last values; or the parts of a quantised one. Returns the
 * exit code. */
int inspect_tensor(const struct inspect_args *args, const struct tp_checkpoint *ck);

/* A table of the weights that groups of tensors encode; folded unless all are wanted. */
void inspect_say_weights(struct weights *weights, bool all);
/* "LABEL reason", in one paragraph. */
void inspect_say_refused(const char *label, const char *why);

/* The name of the file that a tensor begins in, "-" if it has no bytes anywhere. */
const char *inspect_file_of(const struct tp_checkpoint *ck, const struct tp_tensor *tensor);

#endif
