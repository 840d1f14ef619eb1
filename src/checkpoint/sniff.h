/* SPDX-License-Identifier: MIT */
/* What a file that is no safetensors file seems to be. Only asked after its framing was found wrong: any first bytes
 * may begin a valid file. */
#ifndef TP_CHECKPOINT_SNIFF_H
#define TP_CHECKPOINT_SNIFF_H

#include <stdbool.h>
#include <stddef.h>

#define TP_SNIFF_BYTES 256u

struct tp_sniff {
    const char *is;   /* "a Git LFS pointer, not the file itself" */
    const char *hint; /* what to do, or "" */
};
/* From its first bytes; NULL: nothing known. */
const struct tp_sniff *tp_sniff(const unsigned char *head, size_t len);
bool tp_sniff_is_lfs(const struct tp_sniff *sniff);

#endif
