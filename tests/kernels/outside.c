/* SPDX-License-Identifier: MIT */
/* The definition against the outside: agreement between levels alone would not show that all of them are wrong. */
#include "harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* CRC-32 of the little-endian results, as JAX gives them on a CPU with F16C. 16-bit kinds: all inputs in order;
 * f32: i * 65537 for i from 0 to 65535. */
static const struct {
    unsigned from, to;
    uint32_t crc;
} jax_tables[] = {
    {TP_KIND_BF16, TP_KIND_F16, 0x6df63edd}, {TP_KIND_F16, TP_KIND_F32, 0x4e646bca},
    {TP_KIND_F16, TP_KIND_BF16, 0x3b01b24a}, {TP_KIND_BF16, TP_KIND_F32, 0x093b1249},
    {TP_KIND_F32, TP_KIND_F16, 0x7f394274},  {TP_KIND_F32, TP_KIND_BF16, 0xcac8e95c},
};

static void test_jax_tables(const struct tp_kernels *k)
{
    static uint32_t sources[65536];
    static uint8_t targets[sizeof sources];
    for (size_t t = 0; t < COUNT_OF(jax_tables); t++) {
        const unsigned from = jax_tables[t].from, to = jax_tables[t].to;
        struct tp_stats stats;
        tp_stats_init(&stats);
        char name[32], what[64];
        for (uint32_t i = 0; i < 65536; i++) {
            const uint32_t bits = from == TP_KIND_F32 ? i * 65537u : i;
            memcpy((uint8_t *)sources + i * kinds[from].bytes, &bits, kinds[from].bytes);
        }
        k->cast[from][to](targets, sources, 65536, false, &stats);
        (void)snprintf(what, sizeof what, "%s: the table is JAX's", pair_name(name, from, to));
        report(crc32_of(targets, 65536u * kinds[to].bytes) == jax_tables[t].crc, tp_level_name(k->level), what);
    }
}

/* Values at which something happens. `kind` of happening: overflow, flush or neither. */
static const struct {
    unsigned from, to;
    uint64_t source, result;
    char happens; /* 'o'verflow, 'f'lush, 'n'an, 'i'nf, ' ' */
} landmarks[] = {
    {TP_KIND_F32, TP_KIND_F16, 0x477fefff, 0x7bff, ' '}, /* 65519.996 */
    {TP_KIND_F32, TP_KIND_F16, 0x477ff000, 0x7c00, 'o'}, /* 65520 */
    {TP_KIND_F32, TP_KIND_F16, 0xc77ff000, 0xfc00, 'o'},
    {TP_KIND_F32, TP_KIND_F16, 0x33000000, 0x0000, 'f'}, /* 2^-25, a tie */
    {TP_KIND_F32, TP_KIND_F16, 0x33000001, 0x0001, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x33c00000, 0x0002, ' '}, /* 1.5 steps, a tie */
    {TP_KIND_F32, TP_KIND_F16, 0x387ff000, 0x0400, ' '}, /* a subnormal rounded up to the smallest normal */
    {TP_KIND_F32, TP_KIND_F16, 0x3f801000, 0x3c00, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x3f801001, 0x3c01, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x3f803000, 0x3c02, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x7f800001, 0x7e00, 'n'},
    {TP_KIND_F32, TP_KIND_F16, 0xffc12345, 0xfe09, 'n'},
    {TP_KIND_F32, TP_KIND_BF16, 0x7f7f7fff, 0x7f7f, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x7f7f8000, 0x7f80, 'o'},
    {TP_KIND_F32, TP_KIND_BF16, 0x00008000, 0x0000, 'f'},
    {TP_KIND_F32, TP_KIND_BF16, 0x00008001, 0x0001, ' '}, /* a subnormal stays */
    {TP_KIND_F32, TP_KIND_BF16, 0x80000000, 0x8000, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x3f808000, 0x3f80, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x3f818000, 0x3f82, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x7fffffff, 0x7fc0, 'n'},
    {TP_KIND_F32, TP_KIND_BF16, 0xff800001, 0xffc0, 'n'},
    {TP_KIND_BF16, TP_KIND_F16, 0x477f, 0x7bf8, ' '},
    {TP_KIND_BF16, TP_KIND_F16, 0x4780, 0x7c00, 'o'},
    {TP_KIND_BF16, TP_KIND_F16, 0x3300, 0x0000, 'f'},
    {TP_KIND_BF16, TP_KIND_F16, 0xff80, 0xfc00, 'i'},
    {TP_KIND_F16, TP_KIND_BF16, 0x7bff, 0x4780, ' '},
    {TP_KIND_F16, TP_KIND_F32, 0x0001, 0x33800000, ' '},
    {TP_KIND_F16, TP_KIND_F32, 0x7c01, 0x7fc02000, 'n'},
    {TP_KIND_BF16, TP_KIND_F32, 0x7f81, 0x7f810000, 'n'},
    {TP_KIND_F64, TP_KIND_F32, 0x47efffffefffffff, 0x7f7fffff, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x47effffff0000000, 0x7f800000, 'o'},
    {TP_KIND_F64, TP_KIND_F32, 0x3690000000000000, 0x00000000, 'f'}, /* 2^-150 */
    {TP_KIND_F64, TP_KIND_F32, 0x3690000000000001, 0x00000001, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x3ff0000010000000, 0x3f800000, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x3ff0000030000000, 0x3f800002, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x7ff0000000000001, 0x7fc00000, 'n'},
    {TP_KIND_F64, TP_KIND_F32, 0x0000000000000001, 0x00000000, 'f'},
    {TP_KIND_F64, TP_KIND_F16, 0x40effdffffffffff, 0x7bff, ' '},
    {TP_KIND_F64, TP_KIND_F16, 0x40effe0000000000, 0x7c00, 'o'},
    {TP_KIND_F64, TP_KIND_F16, 0x3ff0020000000001, 0x3c01, ' '}, /* just above a tie: through f32 it would be one */
    {TP_KIND_F64, TP_KIND_F16, 0x3e60000000000000, 0x0000, 'f'},
    {TP_KIND_F64, TP_KIND_F16, 0x3e60000000000001, 0x0001, ' '},
    {TP_KIND_F64, TP_KIND_BF16, 0x3ff0100000001000, 0x3f80, ' '}, /* through f32: the tie goes to even */
    {TP_KIND_F64, TP_KIND_BF16, 0x47efeffff0000000, 0x7f80, 'o'},
    {TP_KIND_F64, TP_KIND_BF16, 0x47efefffefffffff, 0x7f7f, ' '},
    {TP_KIND_F64, TP_KIND_BF16, 0x3790001000000000, 0x0000, 'f'},
    {TP_KIND_F64, TP_KIND_BF16, 0x3790001000000001, 0x0001, ' '},
};

static void test_landmarks(const struct tp_kernels *k)
{
    bool good = true;
    for (size_t i = 0; i < COUNT_OF(landmarks); i++) {
        const unsigned from = landmarks[i].from, to = landmarks[i].to;
        const char happens = landmarks[i].happens;
        struct tp_stats stats;
        tp_stats_init(&stats);
        uint64_t result = 0, saturated = 0;
        k->cast[from][to](&result, &landmarks[i].source, 1, false, &stats);
        const bool counted = stats.overflow_count == (happens == 'o') && stats.flushed_count == (happens == 'f') &&
                             stats.nan_count == (happens == 'n') && stats.inf_count == (happens == 'i');
        k->cast[from][to](&saturated, &landmarks[i].source, 1, true, &stats);
        if (result != landmarks[i].result || saturated != landmarks[i].result - (happens == 'o') || !counted) {
            char name[32];
            printf("# %s: %" PRIx64 " became %" PRIx64 " (saturated %" PRIx64 "), expected %" PRIx64 "%s\n",
                   pair_name(name, from, to), landmarks[i].source, result, saturated, landmarks[i].result,
                   counted ? "" : "; miscounted");
            good = false;
        }
    }
    report(good, tp_level_name(k->level), "casts and counts at the values where something happens");
}

void test_outside(const struct tp_kernels *k)
{
    test_jax_tables(k);
    test_landmarks(k);
}
