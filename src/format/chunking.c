/* SPDX-License-Identifier: MIT */
#include "format/chunking.h"

#define MIB ((uint64_t)1 << 20)
#define WHOLE_BELOW (2 * MIB)
#define PARTS 16u /* so that as many hosts can read apart */

static uint64_t power_at_most(uint64_t n)
{
    uint64_t power = 1;
    while (power <= n / 2)
        power *= 2;
    return power;
}

static uint64_t power_at_least(uint64_t n)
{
    uint64_t power = power_at_most(n);
    return power < n && power <= UINT64_MAX / 2 ? power * 2 : power;
}

uint64_t tp_chunk_parts(uint64_t size_bytes, uint64_t chunk_bytes)
{
    uint64_t most = chunk_bytes ? chunk_bytes : TP_CHUNK_BYTES_DEFAULT;
    uint64_t fewest = power_at_least(size_bytes / most + (size_bytes % most != 0));
    uint64_t wanted = size_bytes < WHOLE_BELOW ? 1 : power_at_most(size_bytes / MIB < PARTS ? size_bytes / MIB : PARTS);
    return fewest > wanted ? fewest : wanted;
}

void tp_chunk_shape(uint64_t *chunk, const uint64_t *shape, unsigned rank, unsigned item_bytes, uint64_t chunk_bytes)
{
    uint64_t size = item_bytes;
    for (unsigned d = 0; d < rank; d++) {
        chunk[d] = shape[d] ? shape[d] : 1;
        size *= shape[d];
    }
    uint64_t parts = tp_chunk_parts(size, chunk_bytes);
    for (unsigned d = 0; d < rank && parts > 1; d++) {
        for (; parts > 1 && chunk[d] % 2 == 0; parts /= 2)
            chunk[d] /= 2;
    }
}
