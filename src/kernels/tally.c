/* SPDX-License-Identifier: MIT */
/* Statistics: from integer keys to doubles, and merging. Doubles are compared by their keys too, so that a caller
 * who runs with subnormals switched off (DAZ) gets the same answer. */
#include "kernels/tally.h"

#include <math.h>
#include <string.h>

void tp_stats_init(struct tp_stats *stats)
{
    *stats = (struct tp_stats){.min = INFINITY, .max = -INFINITY};
}

static int64_t key_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return tp_key(bits & (UINT64_MAX >> 1), bits >> 63);
}

static void merge_range(struct tp_stats *into, double min, double max)
{
    if (key_of_double(min) < key_of_double(into->min))
        into->min = min;
    if (key_of_double(max) > key_of_double(into->max))
        into->max = max;
}

void tp_stats_merge(struct tp_stats *into, const struct tp_stats *from)
{
    merge_range(into, from->min, from->max);
    into->nan_count += from->nan_count;
    into->inf_count += from->inf_count;
    into->overflow_count += from->overflow_count;
    into->flushed_count += from->flushed_count;
}

/* The value of a finite magnitude, exact for every kind. */
static double magnitude_value(uint64_t magnitude, enum tp_float_kind kind)
{
    static const double smallest[TP_KIND_COUNT] = {
        [TP_KIND_F32] = 0x1p-149, [TP_KIND_F16] = 0x1p-24, [TP_KIND_BF16] = 0x1p-133};
    const struct tp_float_layout *from = &tp_float_layouts[kind];
    const struct tp_float_layout *to = &tp_float_layouts[TP_KIND_F64];
    if (kind != TP_KIND_F64 && magnitude >> from->mantissa_bits == 0)
        return (double)magnitude * smallest[kind];

    const uint64_t rebias = to->bias - from->bias;
    const uint64_t bits = (magnitude << (to->mantissa_bits - from->mantissa_bits)) + (rebias << to->mantissa_bits);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double key_value(int64_t key, enum tp_float_kind kind)
{
    const double value = magnitude_value((uint64_t)(key < 0 ? -1 - key : key), kind);
    return key < -1 ? -value : value; /* -1 is -0, which counts as 0 */
}

void tp_tally_finish(const struct tp_tally *t, enum tp_float_kind kind, struct tp_stats *stats)
{
    if (t->min_key <= t->max_key)
        merge_range(stats, key_value(t->min_key, kind), key_value(t->max_key, kind));
    stats->nan_count += t->nan_count;
    stats->inf_count += t->inf_count;
    stats->overflow_count += t->overflow_count;
    stats->flushed_count += t->flushed_count;
}
