/* SPDX-License-Identifier: MIT */
/* XXH3-128, compiled into the file that includes this with that file's CPU flags (the library that distributions
 * ship is the SSE2 build). The state is the same at every level: any of them may continue what another began. */
#ifndef TP_KERNELS_XXH3_H
#define TP_KERNELS_XXH3_H

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline void tp_xxh3_update(void *state, const void *src, size_t n)
{
    (void)XXH3_128bits_update(state, src, n);
}

#endif
