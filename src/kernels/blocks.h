/* SPDX-License-Identifier: MIT */
/* How a CPU level casts: block by block, each block small enough to stay in the L1 cache.
 *
 * A level's own code is only loops without branches: `convert` and `scan` look at the values' extremes as they go, and
 * two are rarely called, `examine` (exact counts) and `replace` (other values in some places). This part knows what to
 * call when: the extremes tell whether a block held anything but ordinary values. */
#ifndef TP_KERNELS_BLOCKS_H
#define TP_KERNELS_BLOCKS_H

#include "kernels/tally.h"
#include "os/float_mode.h"

/* `convert`, `scan` and `replace` are given this many values or more, so that they can take a rest that is shorter than
 * a step by going back: the last step ends with the last value and overlaps the one before. */
#define TP_RUN 32u
#define TP_KERNEL_BLOCK_BYTES 16384u /* of the source */

/* The bits of a block's values, read as integers: of signed ones the largest is the largest positive value (below 0 if
 * there is none), of unsigned ones the largest is the most negative (its top bit clear if there is none). */
struct tp_extremes {
    int64_t max_s;
    uint64_t max_u;
    uint64_t min_odd; /* smallest of 2 m - 1 for magnitudes m, so that zeros come last; where nothing can become zero
                         it is not looked for and UINT64_MAX */
};

/* Magnitudes of the source at which a cast changes its nature. */
struct tp_limits {
    uint64_t infinity;
    uint64_t overflow_from; /* the smallest that becomes infinite; `infinity` if no finite value does */
    uint64_t flush_to;      /* the largest that becomes zero */
};

/* What stands for some values of the source; the sign stays. */
struct tp_replacement {
    uint64_t infinity;
    uint64_t overflow_from, overflow_by; /* from there on, finite ones */
    uint64_t nan_above, nan_by;          /* above that */
};

/* For one width of value, 16, 32 or 64 bits. */
struct tp_lane_ops {
    void (*scan)(const void *src, size_t n, struct tp_extremes *out);
    void (*examine)(const void *src, size_t n, const struct tp_limits *limits, struct tp_tally *tally); /* any n */
    /* dst = kept, but where the value of `judged` is to be replaced. dst may be kept. */
    void (*replace)(void *dst, const void *judged, const void *kept, size_t n, const struct tp_replacement *by);
};

struct tp_cast_recipe {
    const struct tp_lane_ops *lanes;
    /* Right for every value but: overflow always gives infinity, and a NaN must be as `replace` leaves it, with
     * nothing in its mantissa but the quiet bit, if the target is BF16. */
    void (*convert)(void *dst, const void *src, size_t n, struct tp_extremes *out);
    enum tp_float_kind from, to;
};

void tp_cast_in_blocks(const struct tp_cast_recipe *recipe, void *dst, const void *src, size_t n, bool saturate,
                       struct tp_stats *stats);
void tp_measure_in_blocks(const struct tp_lane_ops *lanes, enum tp_float_kind kind, const void *src, size_t n,
                          struct tp_stats *stats);

/* -- A level's functions from its own steps, through the lists of each.h -- */

/* convert_f64_f32 and so on, from step_f64_f32(dst, src), ..., which take TP_STEP values. */
#define TP_DEFINE_CONVERT(from, to, FROM, TO, from_bits, to_bits, flushes)                           \
    static void convert_##from##_##to(void *dst, const void *src, size_t n, struct tp_extremes *out) \
    {                                                                                                \
        _Static_assert(TP_STEP <= TP_RUN, "a run holds at least one step");                          \
        struct seen_##from_bits seen = seen_none_##from_bits();                                      \
        uint8_t *d = dst;                                                                            \
        const uint8_t *s = src;                                                                      \
        const size_t last = n - TP_STEP;                                                             \
        for (size_t i = 0; i < last; i += TP_STEP) {                                                 \
            see_##from_bits(&seen, s + i * (from_bits / 8), TP_STEP, flushes);                       \
            step_##from##_##to(d + i * (to_bits / 8), s + i * (from_bits / 8));                      \
        }                                                                                            \
        see_##from_bits(&seen, s + last * (from_bits / 8), TP_STEP, flushes);                        \
        step_##from##_##to(d + last * (to_bits / 8), s + last * (from_bits / 8));                    \
        extremes_##from_bits(&seen, flushes, out);                                                   \
    }

/* cast_f64_f32, ... */
#define TP_DEFINE_CAST(from, to, FROM, TO, from_bits, to_bits, flushes)                                            \
    static void cast_##from##_##to(void *dst, const void *src, size_t n, bool saturate, struct tp_stats *stats)    \
    {                                                                                                              \
        static const struct tp_cast_recipe recipe = {&lane_ops_##from_bits, convert_##from##_##to, TP_KIND_##FROM, \
                                                     TP_KIND_##TO};                                                \
        const uint64_t mode = tp_float_mode_plain();                                                               \
        tp_cast_in_blocks(&recipe, dst, src, n, saturate, stats);                                                  \
        tp_float_mode_restore(mode);                                                                               \
    }

/* measure_f64, ... */
#define TP_DEFINE_MEASURE(kind, KIND, bits)                                       \
    static void measure_##kind(const void *src, size_t n, struct tp_stats *stats) \
    {                                                                             \
        tp_measure_in_blocks(&lane_ops_##bits, TP_KIND_##KIND, src, n, stats);    \
    }

#endif
