/* SPDX-License-Identifier: MIT */
/* Reading Flax MessagePack files: ours, and what flax.serialization wrote (docs/formats/flax-msgpack.md).
 *
 * The files are parsed whole, in 64 KiB windows that skip the payloads; a manifest is not believed, not even looked at.
 */
#ifndef TP_CHECKPOINT_FLAX_H
#define TP_CHECKPOINT_FLAX_H

#include "checkpoint/checkpoint.h"
#include "codec/digest.h"

/* Something about one file (or one array) that is not as it must be. */
struct tp_flax_problem {
    char *file;    /* or "" */
    char *message; /* printable */
};
struct tp_flax_problems {
    struct tp_flax_problem *items;
    size_t count, capacity;
};
void tp_flax_problems_release(struct tp_flax_problems *problems);

#define TP_FLAX_NO_FILE UINT32_MAX
struct tp_flax_input {
    const char *const *names; /* within the checkpoint's folder */
    size_t name_count;
    struct tp_flax_problems
        *problems; /* a file that cannot be parsed is a line there and is left out; NULL: the first is the error */
    struct tp_digest *framing; /* NULL, or name_count: digests of the bytes that are not payload */
    uint32_t *file_of; /* NULL, or name_count: the file's number in the checkpoint, TP_FLAX_NO_FILE: not parsed */
};
/* Parse the files into an empty checkpoint; tp_checkpoint_finish is the caller's. */
enum tp_status tp_flax_read(struct tp_checkpoint *ck, const struct tp_flax_input *input, struct tp_error *err);

#endif
