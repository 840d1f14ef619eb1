/* SPDX-License-Identifier: MIT */
/* Numbers at any alignment: safetensors is little-endian, MessagePack big-endian. */
#ifndef TP_BASE_ENDIAN_H
#define TP_BASE_ENDIAN_H

#include <stdint.h>

static inline uint64_t tp_load_le(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static inline uint64_t tp_load_be(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static inline void tp_store_be(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

#endif
