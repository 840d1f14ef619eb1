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

#endif
