/* SPDX-License-Identifier: MIT */
/* The loops of struct tp_lane_ops for one width of value, written once for every CPU level. No include guard: a level
 * includes it with TP_BITS 16, 32 and 64 after defining
 *
 *   vec, load, store, bit_and, bit_or, bit_andnot(a, b) = ~a & b
 *   counter, count_none()
 *
 * and with the width as suffix (min_s_16, ...)
 *
 *   LANES                           values in a vec
 *   set1(bits)
 *   min_s, max_s, min_u, max_u      of signed and of unsigned integers
 *   mask, gt(a, b), eq(a, b)        gt compares signed integers
 *   select(mask, yes, no)
 *   key(x)                          tp_key of each value
 *   odd(x)                          2 x - 1
 *   count(counter, mask), total(counter)
 *   fold_min_s, fold_max_s, fold_min_u, fold_max_u     over the lanes of one vec
 *
 * All arithmetic is on integers: no rounding mode and no NaN can disturb it. */
#define TP_PASTE_(a, b) a##_##b
#define TP_PASTE(a, b) TP_PASTE_(a, b)
#define L(name) TP_PASTE(name, TP_BITS)
#define TP_LANE_BYTES (TP_BITS / 8)
#define TP_LANE_MASK (UINT64_MAX >> (65 - TP_BITS)) /* the magnitude's bits */

/* The extremes so far, lane by lane. */
struct L(seen) {
    vec max_s, max_u, min_odd;
};

static inline struct L(seen) L(seen_none)(void)
{
    return (struct L(seen)){L(set1)(TP_LANE_MASK + 1), L(set1)(0), L(set1)(UINT64_MAX)};
}

/* Look at `count` values, a multiple of LANES that the compiler knows. */
static inline void L(see)(struct L(seen) * seen, const uint8_t *p, size_t count, bool small)
{
    for (size_t i = 0; i < count; i += L(LANES)) {
        const vec x = load(p + i * TP_LANE_BYTES);
        seen->max_s = L(max_s)(seen->max_s, x);
        seen->max_u = L(max_u)(seen->max_u, x);
        if (small)
            seen->min_odd = L(min_u)(seen->min_odd, L(odd)(x));
    }
}

static inline void L(extremes)(const struct L(seen) * seen, bool small, struct tp_extremes *out)
{
    out->max_s = L(fold_max_s)(seen->max_s);
    out->max_u = L(fold_max_u)(seen->max_u);
    out->min_odd = small ? L(fold_min_u)(seen->min_odd) : UINT64_MAX;
}

static void L(scan)(const void *src, size_t n, struct tp_extremes *out)
{
    struct L(seen) seen = L(seen_none)();
    const uint8_t *p = src;
    const size_t last = n - TP_RUN;
    for (size_t i = 0; i < last; i += TP_RUN)
        L(see)(&seen, p + i * TP_LANE_BYTES, TP_RUN, false);
    L(see)(&seen, p + last * TP_LANE_BYTES, TP_RUN, false);
    L(extremes)(&seen, false, out);
}

static inline uint64_t L(lane_at)(const uint8_t *p)
{
    uint64_t bits = 0; /* little-endian, like every CPU that has a level of its own */
    memcpy(&bits, p, TP_LANE_BYTES);
    return bits;
}

static void L(examine_rest)(const uint8_t *p, size_t n, const struct tp_limits *limits, struct tp_tally *tally)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = L(lane_at)(p + i * TP_LANE_BYTES);
        const uint64_t magnitude = bits & TP_LANE_MASK;
        const int64_t key = tp_key(magnitude, bits > TP_LANE_MASK);
        tally->nan_count += magnitude > limits->infinity;
        tally->inf_count += magnitude == limits->infinity;
        tally->overflow_count += magnitude >= limits->overflow_from && magnitude < limits->infinity;
        tally->flushed_count += magnitude > 0 && magnitude <= limits->flush_to;
        if (magnitude < limits->infinity)
            tp_tally_keys(tally, key, key);
    }
}

static void L(examine)(const void *src, size_t n, const struct tp_limits *limits, struct tp_tally *tally)
{
    const vec magnitude_mask = L(set1)(TP_LANE_MASK), zero = L(set1)(0);
    const vec infinity = L(set1)(limits->infinity);
    const vec below_overflow = L(set1)(limits->overflow_from - 1), above_flush = L(set1)(limits->flush_to + 1);
    const vec largest_key = L(set1)(TP_LANE_MASK), smallest_key = L(set1)(TP_LANE_MASK + 1);
    counter nans = count_none(), infs = nans, large = nans, small = nans, zeros = nans;
    vec min_key = largest_key, max_key = smallest_key;
    const uint8_t *p = src;
    size_t i = 0;
    for (; n - i >= L(LANES); i += L(LANES)) {
        const vec x = load(p + i * TP_LANE_BYTES);
        const vec magnitude = bit_and(x, magnitude_mask);
        const L(mask) finite = L(gt)(infinity, magnitude);
        nans = L(count)(nans, L(gt)(magnitude, infinity));
        infs = L(count)(infs, L(eq)(magnitude, infinity));
        large = L(count)(large, L(gt)(magnitude, below_overflow));
        small = L(count)(small, L(gt)(above_flush, magnitude));
        zeros = L(count)(zeros, L(eq)(magnitude, zero));
        min_key = L(min_s)(min_key, L(select)(finite, L(key)(x), largest_key));
        max_key = L(max_s)(max_key, L(select)(finite, L(key)(x), smallest_key));
    }
    const uint64_t nan_count = L(total)(nans), inf_count = L(total)(infs);
    tally->nan_count += nan_count;
    tally->inf_count += inf_count;
    tally->overflow_count += L(total)(large) - nan_count - inf_count;
    tally->flushed_count += L(total)(small) - L(total)(zeros);
    const int64_t lo = L(fold_min_s)(min_key), hi = L(fold_max_s)(max_key);
    if (lo <= hi)
        tp_tally_keys(tally, lo, hi);
    L(examine_rest)(p + i * TP_LANE_BYTES, n - i, limits, tally);
}

static void L(replace)(void *dst, const void *judged, const void *kept, size_t n, const struct tp_replacement *by)
{
    const vec magnitude_mask = L(set1)(TP_LANE_MASK), infinity = L(set1)(by->infinity);
    const vec below_overflow = L(set1)(by->overflow_from - 1), overflow_by = L(set1)(by->overflow_by);
    const vec nan_above = L(set1)(by->nan_above), nan_by = L(set1)(by->nan_by);
    uint8_t *d = dst;
    const uint8_t *j = judged, *k = kept;
    const size_t last = n - L(LANES);
    for (size_t i = 0;; i = i + L(LANES) < last ? i + L(LANES) : last) {
        const vec x = load(j + i * TP_LANE_BYTES), keep = load(k + i * TP_LANE_BYTES);
        const vec magnitude = bit_and(x, magnitude_mask), sign = bit_andnot(magnitude_mask, x);
        vec result = L(select)(L(gt)(magnitude, below_overflow), bit_or(sign, overflow_by), keep);
        result = L(select)(L(gt)(infinity, magnitude), result, keep);
        result = L(select)(L(gt)(magnitude, nan_above), bit_or(sign, nan_by), result);
        store(d + i * TP_LANE_BYTES, result);
        if (i == last)
            break;
    }
}

static const struct tp_lane_ops L(lane_ops) = {L(scan), L(examine), L(replace)};

#undef TP_LANE_MASK
#undef TP_LANE_BYTES
#undef L
#undef TP_PASTE
#undef TP_PASTE_
#undef TP_BITS
