/* SPDX-License-Identifier: MIT */
/* What is counted while values pass, in integers: the same on every CPU and in every floating-point mode. */
#ifndef TP_KERNELS_TALLY_H
#define TP_KERNELS_TALLY_H

#include "kernels/kernels.h"

/* How the bits of one kind of float are laid out: sign, then exponent, then `mantissa_bits`. */
struct tp_float_layout {
    unsigned size_bytes;
    unsigned mantissa_bits;
    unsigned bias;
};
static const struct tp_float_layout tp_float_layouts[TP_KIND_COUNT] = {
    [TP_KIND_F64] = {8, 52, 1023},
    [TP_KIND_F32] = {4, 23, 127},
    [TP_KIND_F16] = {2, 10, 15},
    [TP_KIND_BF16] = {2, 7, 127},
};

/* The bits of a float without its sign (its magnitude) order like its absolute value, NaNs beyond infinity. */
static inline uint64_t tp_magnitude_mask(enum tp_float_kind kind)
{
    return UINT64_MAX >> (65 - 8 * tp_float_layouts[kind].size_bytes);
}

static inline uint64_t tp_infinity_bits(enum tp_float_kind kind)
{
    const uint64_t mask = tp_magnitude_mask(kind);
    return mask >> tp_float_layouts[kind].mantissa_bits << tp_float_layouts[kind].mantissa_bits;
}

/* A key is a signed integer that orders as the values do: the magnitude m, or -1 - m for a negative value. Two
 * values share the number zero: 0 is +0 and -1 is -0. */
struct tp_tally {
    int64_t min_key, max_key; /* of the finite values; min > max while there was none */
    uint64_t nan_count, inf_count, overflow_count, flushed_count;
};
#define TP_TALLY_INIT                              \
    {                                              \
        .min_key = INT64_MAX, .max_key = INT64_MIN \
    }

static inline int64_t tp_key(uint64_t magnitude, bool negative)
{
    return (int64_t)(magnitude ^ (0 - (uint64_t)negative)); /* signs are random: no branch */
}

static inline void tp_tally_keys(struct tp_tally *t, int64_t min_key, int64_t max_key)
{
    t->min_key = min_key < t->min_key ? min_key : t->min_key;
    t->max_key = max_key > t->max_key ? max_key : t->max_key;
}

/* Add a tally of values of `kind` to `stats`. */
void tp_tally_finish(const struct tp_tally *t, enum tp_float_kind kind, struct tp_stats *stats);

#endif
