/* SPDX-License-Identifier: MIT */
/* What the files of tensorport inspect share. */
#ifndef CLI_INSPECT_H
#define CLI_INSPECT_H

#include <stdbool.h>

#include <tensorport/tensorport.h>

struct inspect_args {
    const char *path;
    const char *tensor;
    bool all, ignore_index, json, help;
};

/* One tensor: where it lies, its statistics, its first and last values. Returns the exit code. */
int inspect_tensor(const struct inspect_args *args, const struct tp_checkpoint *ck);

/* The name of the file that a tensor begins in, "-" if it has no bytes anywhere. */
const char *inspect_file_of(const struct tp_checkpoint *ck, const struct tp_tensor *tensor);

#endif
