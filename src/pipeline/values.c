/* SPDX-License-Identifier: MIT */
#include "pipeline/values.h"

#include <string.h>

#include "base/status.h"

static const uint8_t kind_of[TP_DTYPE_COUNT] = {
    [TP_F64] = TP_KIND_F64, [TP_F32] = TP_KIND_F32, [TP_F16] = TP_KIND_F16, [TP_BF16] = TP_KIND_BF16};

void tp_result_init(struct tp_result *result)
{
    tp_stats_init(&result->stats);
    result->odd_bool_count = 0;
}

void tp_result_merge(struct tp_result *into, const struct tp_result *more)
{
    tp_stats_merge(&into->stats, &more->stats);
    into->odd_bool_count += more->odd_bool_count;
}

static bool is_float(enum tp_dtype dtype)
{
    return dtype == TP_F64 || dtype == TP_F32 || dtype == TP_F16 || dtype == TP_BF16;
}

static bool can_cast(const struct tp_kernels *k, enum tp_dtype from, enum tp_dtype to)
{
    return is_float(from) && is_float(to) && (from == to || k->cast[kind_of[from]][kind_of[to]]);
}

enum tp_status tp_values_of(struct tp_values *values, const struct tp_array *array, const struct tp_piece *piece,
                            const struct tp_kernels *kernels, bool saturate, struct tp_error *err)
{
    enum tp_dtype from = (enum tp_dtype)piece->source_dtype, math = (enum tp_dtype)piece->math_dtype;
    enum tp_dtype to = (enum tp_dtype)array->dtype;
    *values = (struct tp_values){.kernels = kernels,
                                 .arithmetic = piece->arithmetic,
                                 .from = piece->source_dtype,
                                 .math = piece->math_dtype,
                                 .to = array->dtype,
                                 .op = piece->op,
                                 .saturate = saturate,
                                 .counts = array->result != TP_NONE};
    if (piece->arithmetic && (!can_cast(kernels, from, math) || !can_cast(kernels, math, to)))
        return tp_fail(err, TP_ERR_BUG, "arithmetic in %s, from %s to %s", tp_dtype_name(math), tp_dtype_name(from),
                       tp_dtype_name(to));
    return TP_OK;
}

/* ---- arithmetic ---- */

#define PART 1024u /* values: as many as lie on the stack between two casts */

static void calculate(const struct tp_values *v, void *values, size_t n, struct tp_stats *became)
{
    const struct tp_map_arithmetic *a = v->arithmetic;
    const struct tp_kernels *k = v->kernels;
    if (a->multiplies)
        k->multiply[kind_of[v->math]](values, values, n, a->factor, v->saturate, became);
    if (a->adds)
        k->add[kind_of[v->math]](values, values, n, a->addend, v->saturate, became);
}

static void cast(const struct tp_values *v, uint8_t from, uint8_t to, void *dst, const void *src, size_t n,
                 struct tp_stats *became)
{
    v->kernels->cast[kind_of[from]][kind_of[to]](dst, src, n, v->saturate, became);
}

static void cast_twice(const struct tp_values *v, uint8_t *dst, const uint8_t *src, size_t n, struct tp_stats *became)
{
    uint64_t part[PART];
    unsigned from_bytes = tp_dtype_bits((enum tp_dtype)v->from) / 8, to_bytes = tp_dtype_bits((enum tp_dtype)v->to) / 8;
    for (size_t i = 0; i < n; i += PART) {
        size_t count = n - i < PART ? n - i : PART;
        cast(v, v->from, v->math, part, src + i * from_bytes, count, became);
        calculate(v, part, count, became);
        cast(v, v->math, v->to, dst + i * to_bytes, part, count, became);
    }
}

/* What the source held is measured before anything is done to it. */
static void make_by_arithmetic(const struct tp_values *v, void *dst, void *src, size_t n, struct tp_stats *seen)
{
    struct tp_stats became;
    tp_stats_init(&became);
    v->kernels->measure[kind_of[v->from]](src, n, seen);
    if (v->math != v->from && v->math != v->to) {
        cast_twice(v, dst, src, n, &became);
    } else if (v->math == v->from) {
        calculate(v, src, n, &became);
        if (v->math != v->to)
            cast(v, v->math, v->to, dst, src, n, &became);
        else if (dst != src)
            memcpy(dst, src, n * tp_dtype_bits((enum tp_dtype)v->to) / 8);
    } else {
        cast(v, v->from, v->math, dst, src, n, &became);
        calculate(v, dst, n, &became);
    }
    seen->overflow_count += became.overflow_count;
    seen->flushed_count += became.flushed_count;
}

/* ---- */

void tp_values_make(const struct tp_values *v, void *dst, void *src, size_t n, struct tp_result *seen)
{
    const struct tp_kernels *k = v->kernels;
    unsigned bits = tp_dtype_bits((enum tp_dtype)v->to);
    if (v->arithmetic) {
        make_by_arithmetic(v, dst, src, n, &seen->stats);
    } else if (v->op == TP_OP_CAST) {
        k->cast[kind_of[v->from]][kind_of[v->to]](dst, src, n, v->saturate, &seen->stats);
    } else {
        if (dst != src)
            memcpy(dst, src, bits < 8 ? n : n * bits / 8); /* F4 and F6 as they are count the bytes of their codes */
        if (v->counts && v->from == TP_BOOL)
            seen->odd_bool_count += k->count_not_bool(dst, n);
        else if (v->counts)
            k->measure[kind_of[v->from]](dst, n, &seen->stats);
    }
}

void tp_values_unpack_f4(const struct tp_kernels *k, uint8_t *dst, const uint8_t *src, unsigned skip, size_t n)
{
    uint8_t pair[2];
    if (n > 0 && skip > 0) {
        k->unpack_f4(pair, src++, 1);
        *dst++ = pair[1];
        n--;
    }
    k->unpack_f4(dst, src, n / 2);
    if (n % 2) {
        k->unpack_f4(pair, src + n / 2, 1);
        dst[n - 1] = pair[0];
    }
}
