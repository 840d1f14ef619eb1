/* SPDX-License-Identifier: MIT */
/* Multiplying and adding, for any level: against the rule of kernels.h written down a second time, with the C library's
 * arithmetic, over every 16-bit value and the special ones of wider kinds. */
#include "harness.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 64u

/* ---- the rule ---- */

static double decoded(const struct kind *kind, uint64_t bits)
{
    const uint64_t one = UINT64_C(1) << kind->mantissa_bits, mantissa = bits & (one - 1);
    const uint64_t top = (UINT64_C(1) << kind->exponent_bits) - 1, exponent = bits >> kind->mantissa_bits & top;
    const int bias = (int)(top >> 1), shift = (int)kind->mantissa_bits;
    double value = exponent ? ldexp((double)(one | mantissa), (int)exponent - bias - shift)
                            : ldexp((double)mantissa, 1 - bias - shift);
    if (exponent == top)
        value = mantissa ? (double)NAN : (double)INFINITY;
    return bits >> (8 * kind->bytes - 1) ? -value : value;
}

/* To the nearest value of a kind, ties to even. */
static double rounded(const struct kind *kind, double value)
{
    const int largest = 1 << (kind->exponent_bits - 1);
    int exponent;
    if (value == 0 || !isfinite(value))
        return value;
    (void)frexp(value, &exponent);
    const int lowest = 3 - largest, shift = (exponent < lowest ? lowest : exponent) - 1 - (int)kind->mantissa_bits;
    const double result = ldexp(nearbyint(ldexp(value, -shift)), shift);
    return fabs(result) >= ldexp(1, largest) ? copysign(INFINITY, value) : result;
}

static uint64_t encoded(const struct kind *kind, double value)
{
    const int bias = (1 << (kind->exponent_bits - 1)) - 1;
    const uint64_t sign = (uint64_t)(signbit(value) != 0) << (8 * kind->bytes - 1);
    const double magnitude = fabs(value);
    int exponent;
    if (isinf(value))
        return sign | (uint64_t)(2 * bias + 1) << kind->mantissa_bits;
    (void)frexp(magnitude, &exponent);
    exponent += bias - 1;
    if (magnitude == 0 || exponent < 1)
        return sign | (uint64_t)ldexp(magnitude, bias - 1 + (int)kind->mantissa_bits);
    const uint64_t one = UINT64_C(1) << kind->mantissa_bits;
    const uint64_t whole = (uint64_t)ldexp(magnitude, bias + (int)kind->mantissa_bits - exponent);
    return sign | (uint64_t)exponent << kind->mantissa_bits | (whole & (one - 1));
}

static uint64_t nan_of(unsigned number, uint64_t x, bool x_is_nan)
{
    const struct kind *kind = &kinds[number];
    const uint64_t one = UINT64_C(1) << kind->mantissa_bits,
                   infinity = ((UINT64_C(1) << kind->exponent_bits) - 1) * one;
    const uint64_t sign = x >> (8 * kind->bytes - 1) << (8 * kind->bytes - 1);
    const bool keeps = x_is_nan && number != TP_KIND_BF16; /* which has no payload */
    return sign | infinity | one / 2 | (keeps ? x & (one / 2 - 1) : 0);
}

/* What becomes of x; `stats` as far as arithmetic counts. */
static uint64_t expected_of(unsigned number, bool adds, uint64_t x_bits, double operand, bool saturate,
                            struct tp_stats *stats)
{
    const struct kind *kind = &kinds[number];
    const bool is_wide = number == TP_KIND_F64;
    const double x = decoded(kind, x_bits), c = is_wide ? operand : rounded(&kinds[TP_KIND_F32], operand);
    const double exact = adds ? x + c : x * c; /* or rounded so late that a second rounding does no harm */
    const double first = is_wide ? exact : rounded(&kinds[TP_KIND_F32], exact), result = rounded(kind, first);
    if (isnan(result))
        return nan_of(number, x_bits, isnan(x));
    stats->flushed_count += result == 0 && (adds ? first != 0 : x != 0 && c != 0);
    const bool overflows = isinf(result) && isfinite(x);
    stats->overflow_count += overflows;
    return encoded(kind, result) - (overflows && saturate);
}

/* ---- calls ---- */

struct call {
    const struct tp_kernels *k;
    unsigned kind;
    bool adds, saturate, in_place, strange_mode;
    double operand;
};

static bool is_right(const struct call *c, const uint8_t *values, size_t n, size_t offset)
{
    const unsigned item = kinds[c->kind].bytes;
    const size_t bytes = n * item;
    uint8_t *target = must(malloc(bytes + offset + 2 * GUARD)), *at = target + GUARD + offset;
    uint8_t *source = must(malloc(bytes + 1));
    struct tp_stats want, got;
    tp_stats_init(&want);
    got = want;
    memset(target, 0xa5, bytes + offset + 2 * GUARD);
    memcpy(source, values, bytes);
    if (c->in_place)
        memcpy(at, values, bytes);
    const tp_arithmetic_fn run = (c->adds ? c->k->add : c->k->multiply)[c->kind];
    if (c->strange_mode)
        float_mode_set(true);
    run(at, c->in_place ? at : source, n, c->operand, c->saturate, &got);
    bool good = !c->strange_mode || float_mode_is_strange();
    if (c->strange_mode)
        float_mode_set(false);
    for (size_t i = 0; i < n && good; i++) {
        const uint64_t x = value_at(values, i, item), have = value_at(at, i, item);
        const uint64_t wanted = expected_of(c->kind, c->adds, x, c->operand, c->saturate, &want);
        good = have == wanted;
        if (!good)
            printf("# %s, %s %a: value %zu of %zu, %" PRIx64 ", became %" PRIx64 ", expected %" PRIx64 "\n",
                   kinds[c->kind].name, c->adds ? "plus" : "times", c->operand, i, n, x, have, wanted);
    }
    for (size_t i = 0; i < GUARD && good; i++)
        good = target[i] == 0xa5 && at[bytes + i] == 0xa5;
    if (good && (got.overflow_count != want.overflow_count || got.flushed_count != want.flushed_count)) {
        printf("# %s, %s %a: overflow %" PRIu64 ", flushed %" PRIu64 ", expected %" PRIu64 ", %" PRIu64 "\n",
               kinds[c->kind].name, c->adds ? "plus" : "times", c->operand, got.overflow_count, got.flushed_count,
               want.overflow_count, want.flushed_count);
        good = false;
    }
    good = good && got.nan_count == 0 && got.inf_count == 0 && got.min > got.max; /* counted by others */
    free(target);
    free(source);
    return good;
}

static const double operands[] = {0.08838834764831845,
                                  0.5,
                                  3,
                                  -1.25,
                                  1,
                                  0,
                                  -0.0,
                                  0.1,
                                  1e-6,
                                  -1e-40,
                                  65504,
                                  -3e38,
                                  1e300,
                                  -INFINITY,
                                  INFINITY,
                                  1e-9,
                                  0x1p-24,
                                  0x1p-133,
                                  -0x1p-25,
                                  0x1p120,
                                  53.0659966468637};

static bool tables_are_right(const struct tp_kernels *k, unsigned kind, bool adds)
{
    const bool is_small = kinds[kind].bytes == 2;
    const size_t most = is_small ? tables[kind].count : 20000;
    bool good = true;
    for (size_t i = 0; i < COUNT_OF(operands) && good; i++)
        for (unsigned round = 0; round < 2 && good; round++) {
            const size_t n = tables[kind].count < most ? tables[kind].count : most;
            const size_t first = random_below(tables[kind].count - n + 1);
            const struct call c = {k, kind, adds, round == 1, round == 1, i % 3 == 0, operands[i]};
            good = is_right(&c, tables[kind].bytes + first * kinds[kind].bytes, n, i);
        }
    return good;
}

static bool lengths_are_right(const struct tp_kernels *k, unsigned kind, bool adds)
{
    bool good = true;
    for (size_t n = 0; n < 70 && good; n++)
        for (unsigned flavour = 0; flavour < FLAVOUR_COUNT && good; flavour++) {
            const struct call c = {
                k, kind, adds, n % 3 == 0, n % 2 == 0, n % 5 == 0, operands[random_below(COUNT_OF(operands))]};
            const size_t first = random_below(POOL_VALUES - n);
            good = is_right(&c, pools[kind][flavour] + first * kinds[kind].bytes, n, random_below(64));
        }
    return good;
}

void test_arithmetic(const struct tp_kernels *k)
{
    char what[64];
    for (unsigned kind = 0; kind < TP_KIND_COUNT; kind++)
        for (unsigned adds = 0; adds < 2; adds++) {
            (void)snprintf(what, sizeof what, "%s %s a number: by the rule", kinds[kind].name, adds ? "plus" : "times");
            report(tables_are_right(k, kind, adds) && lengths_are_right(k, kind, adds), tp_level_name(k->level), what);
        }
}
