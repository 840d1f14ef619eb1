/* SPDX-License-Identifier: MIT */
#ifndef TP_BASE_LEAST_H
#define TP_BASE_LEAST_H

#include <stdint.h>

static inline uint64_t tp_smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t tp_larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* How many parts of such a size a whole has, the last one perhaps smaller. */
static inline uint64_t tp_parts(uint64_t whole, uint64_t part)
{
    return whole / part + (whole % part != 0);
}

#endif
