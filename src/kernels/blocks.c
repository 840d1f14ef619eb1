/* SPDX-License-Identifier: MIT */
/* The part of a cast that is the same at every CPU level; see blocks.h. */
#include "kernels/blocks.h"

#include <string.h>

/* From the rule of rounding (docs/numerics.md). F64 to BF16 goes through F32, so its limits are the F64 values that
 * F32 rounds to BF16's. A pair that is not here widens: nothing overflows, nothing but zero becomes zero. */
static const struct {
    uint64_t overflow_from, flush_to;
} cast_limits[TP_KIND_COUNT][TP_KIND_COUNT] = {
    [TP_KIND_F64][TP_KIND_F32] = {0x47effffff0000000, 0x3690000000000000},
    [TP_KIND_F64][TP_KIND_F16] = {0x40effe0000000000, 0x3e60000000000000},
    [TP_KIND_F64][TP_KIND_BF16] = {0x47efeffff0000000, 0x3790001000000000},
    [TP_KIND_F32][TP_KIND_F16] = {0x477ff000, 0x33000000},
    [TP_KIND_F32][TP_KIND_BF16] = {0x7f7f8000, 0x00008000},
    [TP_KIND_BF16][TP_KIND_F16] = {0x4780, 0x3300},
};

static struct tp_limits limits_of(enum tp_float_kind from, enum tp_float_kind to)
{
    const uint64_t infinity = tp_infinity_bits(from);
    const uint64_t overflow_from = cast_limits[from][to].overflow_from;
    return (struct tp_limits){
        .infinity = infinity,
        .overflow_from = overflow_from ? overflow_from : infinity,
        .flush_to = cast_limits[from][to].flush_to,
    };
}

/* Two comparisons a vector tell whether all values are finite and fit, and which are the smallest and the largest,
 * provided that there are values of both signs; a third one tells whether some may become zero. If they do not tell,
 * every value is examined. */
static void tally_block(const struct tp_lane_ops *lanes, const void *src, size_t n, const struct tp_extremes *e,
                        uint64_t magnitude_mask, const struct tp_limits *limits, struct tp_tally *found)
{
    const uint64_t largest_negative = e->max_u & magnitude_mask, largest_positive = (uint64_t)e->max_s;
    const bool both_signs = e->max_u > magnitude_mask && e->max_s >= 0;
    const bool all_fit = largest_negative < limits->overflow_from && largest_positive < limits->overflow_from;
    if (both_signs && all_fit && e->min_odd >= 2 * limits->flush_to)
        tp_tally_keys(found, tp_key(largest_negative, true), e->max_s);
    else
        lanes->examine(src, n, limits, found);
}

static void tally_add(struct tp_tally *into, const struct tp_tally *found)
{
    tp_tally_keys(into, found->min_key, found->max_key);
    into->nan_count += found->nan_count;
    into->inf_count += found->inf_count;
    into->overflow_count += found->overflow_count;
    into->flushed_count += found->flushed_count;
}

/* `count` values and the same again and again, up to TP_RUN of them. */
static void pad(void *dst, const void *src, size_t count, size_t size_bytes)
{
    uint8_t *d = dst;
    const size_t want = TP_RUN * size_bytes;
    size_t have = count * size_bytes;
    memcpy(d, src, have);
    while (have < want) {
        const size_t step = have < want - have ? have : want - have;
        memcpy(d + have, d, step);
        have += step;
    }
}

/* BF16 has no value that rounds to F16's largest: there the result is replaced, which has the same width. All other
 * sources are replaced before the cast. */
static bool replaces_results(const struct tp_cast_recipe *recipe)
{
    return tp_float_layouts[recipe->from].mantissa_bits < tp_float_layouts[recipe->to].mantissa_bits;
}

/* Whether `convert` alone is not right for a block, and what makes it so. */
static bool replacement_of(struct tp_replacement *by, const struct tp_cast_recipe *recipe,
                           const struct tp_limits *limits, bool saturate, const struct tp_tally *found)
{
    const uint64_t quiet_bit = UINT64_C(1) << (tp_float_layouts[recipe->from].mantissa_bits - 1);
    const bool plain_nan = recipe->to == TP_KIND_BF16;
    by->infinity = limits->infinity;
    by->overflow_from = saturate ? limits->overflow_from : limits->infinity;
    by->overflow_by = (replaces_results(recipe) ? tp_infinity_bits(recipe->to) : limits->overflow_from) - 1;
    by->nan_above = plain_nan ? limits->infinity : tp_magnitude_mask(recipe->from);
    by->nan_by = limits->infinity | quiet_bit;
    return (saturate && found->overflow_count > 0) || (plain_nan && found->nan_count > 0);
}

struct cast {
    const struct tp_cast_recipe *recipe;
    struct tp_limits limits;
    bool saturate;
    struct tp_tally tally; /* so far */
};

/* `n` values, TP_RUN or more, of which the first `count` are to be tallied (the rest repeat them). */
static void cast_run(struct cast *c, void *dst, const void *src, size_t n, size_t count)
{
    const struct tp_cast_recipe *recipe = c->recipe;
    struct tp_tally found = TP_TALLY_INIT;
    struct tp_extremes extremes;
    struct tp_replacement by;
    recipe->convert(dst, src, n, &extremes);
    tally_block(recipe->lanes, src, count, &extremes, tp_magnitude_mask(recipe->from), &c->limits, &found);
    if (replacement_of(&by, recipe, &c->limits, c->saturate, &found)) {
        uint64_t replaced[TP_KERNEL_BLOCK_BYTES / sizeof(uint64_t)];
        if (replaces_results(recipe)) {
            recipe->lanes->replace(dst, src, dst, n, &by);
        } else {
            recipe->lanes->replace(replaced, src, src, n, &by);
            recipe->convert(dst, replaced, n, &extremes);
        }
    }
    tally_add(&c->tally, &found);
}

static void cast_short(struct cast *c, void *dst, const void *src, size_t n)
{
    uint64_t padded[TP_RUN], result[TP_RUN];
    pad(padded, src, n, tp_float_layouts[c->recipe->from].size_bytes);
    cast_run(c, result, padded, TP_RUN, n);
    memcpy(dst, result, n * tp_float_layouts[c->recipe->to].size_bytes);
}

void tp_cast_in_blocks(const struct tp_cast_recipe *recipe, void *dst, const void *src, size_t n, bool saturate,
                       struct tp_stats *stats)
{
    const size_t from_bytes = tp_float_layouts[recipe->from].size_bytes;
    const size_t to_bytes = tp_float_layouts[recipe->to].size_bytes;
    const size_t block = TP_KERNEL_BLOCK_BYTES / from_bytes;
    struct cast c = {recipe, limits_of(recipe->from, recipe->to), saturate, TP_TALLY_INIT};
    uint8_t *d = dst;
    const uint8_t *s = src;
    for (size_t i = 0; i < n; i += block) {
        const size_t count = n - i < block ? n - i : block;
        if (count < TP_RUN)
            cast_short(&c, d + i * to_bytes, s + i * from_bytes, count);
        else
            cast_run(&c, d + i * to_bytes, s + i * from_bytes, count, count);
    }
    tp_tally_finish(&c.tally, recipe->from, stats);
}

void tp_measure_in_blocks(const struct tp_lane_ops *lanes, enum tp_float_kind kind, const void *src, size_t n,
                          struct tp_stats *stats)
{
    const size_t size_bytes = tp_float_layouts[kind].size_bytes;
    const size_t block = TP_KERNEL_BLOCK_BYTES / size_bytes;
    const struct tp_limits limits = {tp_infinity_bits(kind), tp_infinity_bits(kind), 0};
    struct tp_tally tally = TP_TALLY_INIT;
    const uint8_t *s = src;
    for (size_t i = 0; i < n; i += block) {
        const size_t count = n - i < block ? n - i : block;
        struct tp_extremes extremes = {.max_s = -1}; /* of a short rest nothing is known */
        struct tp_tally found = TP_TALLY_INIT;
        if (count >= TP_RUN)
            lanes->scan(s + i * size_bytes, count, &extremes);
        tally_block(lanes, s + i * size_bytes, count, &extremes, tp_magnitude_mask(kind), &limits, &found);
        tally_add(&tally, &found);
    }
    tp_tally_finish(&tally, kind, stats);
}
