/* SPDX-License-Identifier: MIT */
/* The kernel test's values: tables that hold every hard case, and pools like real tensors. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 0x9e3779b97f4a7c15;

uint64_t random_u64(void)
{
    random_state += 0x9e3779b97f4a7c15;
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

size_t random_below(size_t limit)
{
    return (size_t)(random_u64() % limit);
}

const struct kind kinds[TP_KIND_COUNT] = {
    [TP_KIND_F64] = {"f64", 8, 52, 11},
    [TP_KIND_F32] = {"f32", 4, 23, 8},
    [TP_KIND_F16] = {"f16", 2, 10, 5},
    [TP_KIND_BF16] = {"bf16", 2, 7, 8},
};

const char *pair_name(char name[32], unsigned from, unsigned to)
{
    (void)snprintf(name, 32, "%s -> %s", kinds[from].name, kinds[to].name);
    return name;
}

uint64_t value_at(const uint8_t *p, size_t i, unsigned bytes)
{
    uint64_t bits = 0;
    memcpy(&bits, p + i * bytes, bytes);
    return bits;
}

struct table tables[TP_KIND_COUNT];
uint8_t *pools[TP_KIND_COUNT][FLAVOUR_COUNT];

static void table_add(struct table *t, uint64_t bits, unsigned bytes)
{
    memcpy(t->bytes + t->count++ * bytes, &bits, bytes);
}

/* Mantissas with a tie, or its neighbours, `drop` bits from the right. */
static size_t mantissas_around(uint64_t *out, unsigned drop, uint64_t mask)
{
    const uint64_t half = UINT64_C(1) << (drop - 1), unit = UINT64_C(1) << drop;
    const uint64_t near[] = {0, 1, UINT64_MAX, half >> 1, UINT64_C(0) - (half >> 1), UINT64_C(1) << (drop / 2)};
    const uint64_t above[] = {0, unit, unit * 2, mask & ~(unit - 1), (mask & ~(unit - 1)) - unit};
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(near); i++)
        for (size_t j = 0; j < COUNT_OF(above); j++) {
            out[count++] = (above[j] + half + near[i]) & mask;
            out[count++] = (above[j] + near[i]) & mask;
        }
    return count;
}

static void table_fill(struct table *t, unsigned kind)
{
    static const unsigned drops[] = {42, 29, 45, 13, 16, 3, 10, 24, 36}; /* differences between mantissas, and more */
    const struct kind *k = &kinds[kind];
    const uint64_t mask = (UINT64_C(1) << k->mantissa_bits) - 1;
    const size_t random_count = 1u << 16;
    uint64_t mantissas[COUNT_OF(drops) * 60];
    size_t mantissa_count = 0;
    for (size_t i = 0; i < COUNT_OF(drops); i++)
        if (drops[i] < k->mantissa_bits)
            mantissa_count += mantissas_around(mantissas + mantissa_count, drops[i], mask);

    t->bytes = must(malloc((random_count + (mantissa_count << (k->exponent_bits + 1))) * k->bytes));
    t->count = 0;
    if (k->bytes == 2) {
        for (uint64_t bits = 0; bits < 65536; bits++)
            table_add(t, bits, k->bytes);
        return;
    }
    for (uint64_t high = 0; high < UINT64_C(1) << (k->exponent_bits + 1); high++) /* sign and exponent */
        for (size_t i = 0; i < mantissa_count; i++)
            table_add(t, high << k->mantissa_bits | mantissas[i], k->bytes);
    for (size_t i = 0; i < random_count; i++)
        table_add(t, random_u64() >> (64 - 8 * k->bytes), k->bytes);
}

uint64_t flavoured(unsigned kind, enum flavour flavour)
{
    const struct kind *k = &kinds[kind];
    const uint64_t sign = UINT64_C(1) << (k->mantissa_bits + k->exponent_bits);
    const uint64_t mantissa = random_u64() & ((UINT64_C(1) << k->mantissa_bits) - 1);
    const uint64_t bias = (UINT64_C(1) << (k->exponent_bits - 1)) - 1;
    const uint64_t infinity = (2 * bias + 1) << k->mantissa_bits;
    const uint64_t either_sign = random_u64() & sign;
    const uint64_t ordinary = (bias - 1 - random_below(10)) << k->mantissa_bits | mantissa;
    switch (flavour) {
    case ORDINARY:
        return either_sign | ordinary;
    case POSITIVE:
        return ordinary;
    case NEGATIVE:
        return sign | ordinary;
    case SPRINKLED:
        return random_below(16) ? either_sign | ordinary
                                : value_at(tables[kind].bytes, random_below(tables[kind].count), k->bytes);
    case HARD:
        return value_at(tables[kind].bytes, random_below(tables[kind].count), k->bytes);
    case ZEROS:
        return either_sign;
    case INFINITIES:
        return either_sign | infinity;
    default:
        return either_sign | infinity | mantissa | 1;
    }
}

void inputs_init(void)
{
    for (unsigned kind = 0; kind < TP_KIND_COUNT; kind++) {
        table_fill(&tables[kind], kind);
        for (unsigned flavour = 0; flavour < FLAVOUR_COUNT; flavour++) {
            struct table pool = {must(malloc((size_t)POOL_VALUES * kinds[kind].bytes)), 0};
            while (pool.count < POOL_VALUES)
                table_add(&pool, flavoured(kind, (enum flavour)flavour), kinds[kind].bytes);
            pools[kind][flavour] = pool.bytes;
        }
    }
}
