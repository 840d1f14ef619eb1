/* SPDX-License-Identifier: MIT */
/* How fast the kernels are, beside memcpy, at each CPU level.
 *
 *   PROGRAM=bench/bench_kernels.c sh tests/kernels/build.sh /tmp/bench_kernels && taskset -c 0 /tmp/bench_kernels
 *
 * Best of many, GB/s (1e9): bytes written, and bytes read and written. "L2" repeats one call of 65,536 values; "DRAM"
 * is one call on buffers far larger than any cache, and "/ memcpy" what it writes beside what memcpy writes; "tiny" is
 * nanoseconds a call of 16 values. The values are like weights: both signs, magnitudes from 2^-14 to 1, nothing that
 * overflows. */
#define _POSIX_C_SOURCE 200809L
#include "kernels/each.h"
#include "kernels/kernels.h"
#include "kernels/transpose.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define L2_VALUES 65536u
#define TINY_VALUES 16u
#define DRAM_BYTES (256u << 20) /* of the larger of source and target */

static uint8_t *source, *target, *exponents;
static float *scales;
static XXH3_state_t *digest_state;

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* -- What is measured: a row each -- */

struct row {
    const char *name;
    unsigned from_bytes, to_bytes; /* of one value; to_bytes 0: nothing is written */
    enum { CAST, MEASURE, UNPACK, F8, F8_BF16, F4, MXFP4, MXFP4_EACH, TRANSPOSE, MULTIPLY, COUNT, DIGEST, COPY } what;
    enum tp_float_kind from, to;
};

#define CAST_ROW(from, to, FROM, TO, from_bits, to_bits, flushes) \
    {#from " -> " #to, from_bits / 8, to_bits / 8, CAST, TP_KIND_##FROM, TP_KIND_##TO},
#define MEASURE_ROW(kind, KIND, bits) {"measure " #kind, bits / 8, 0, MEASURE, TP_KIND_##KIND, TP_KIND_##KIND},
static const struct row rows[] = {
    {"memcpy", 2, 2, COPY, TP_KIND_F16, TP_KIND_F16},
    TP_EACH_CAST(CAST_ROW) TP_EACH_KIND(MEASURE_ROW){"unpack f4", 1, 2, UNPACK, TP_KIND_F16, TP_KIND_F16},
    {"e4m3 -> f32", 1, 4, F8, TP_KIND_F16, TP_KIND_F32},
    {"e4m3 -> bf16", 1, 2, F8_BF16, TP_KIND_F16, TP_KIND_BF16}, /* 128 to a scale */
    {"f4 -> f32", 1, 8, F4, TP_KIND_F16, TP_KIND_F32},          /* two values each, as in unpacking */
    {"mxfp4 -> bf16", 1, 4, MXFP4, TP_KIND_F16, TP_KIND_BF16},
    {"mxfp4 turned", 1, 2, MXFP4_EACH, TP_KIND_F16, TP_KIND_BF16}, /* an exponent each */
    {"transpose 2", 2, 2, TRANSPOSE, TP_KIND_BF16, TP_KIND_BF16},  /* 256 rows */
    {"transpose 4", 4, 4, TRANSPOSE, TP_KIND_F32, TP_KIND_F32},
    {"bf16 * number", 2, 2, MULTIPLY, TP_KIND_BF16, TP_KIND_BF16},
    {"f16 * number", 2, 2, MULTIPLY, TP_KIND_F16, TP_KIND_F16},
    {"f32 * number", 4, 4, MULTIPLY, TP_KIND_F32, TP_KIND_F32},
    {"count not bool", 1, 0, COUNT, TP_KIND_F16, TP_KIND_F16},
    {"xxh3 128", 2, 0, DIGEST, TP_KIND_F16, TP_KIND_F16},
};

static void transpose(const struct tp_kernels *k, unsigned item, size_t n)
{
    const size_t row_count = n < 256 ? 4 : 256, columns = n / row_count;
    tp_transpose_matrix(k, item == 2 ? 1 : 2, target, row_count * item, source, columns * item, row_count, columns);
}

/* Returns something that depends on the result, so that it is not left out. */
static uint64_t call(const struct tp_kernels *k, const struct row *row, size_t n)
{
    struct tp_stats stats;
    tp_stats_init(&stats);
    switch (row->what) {
    case CAST:
        k->cast[row->from][row->to](target, source, n, false, &stats);
        break;
    case MEASURE:
        k->measure[row->from](source, n, &stats);
        break;
    case UNPACK:
        k->unpack_f4(target, source, n);
        break;
    case F8:
        k->f8_to_f32((void *)target, source, n, TP_F8_KIND_E4M3, 0.0002f);
        break;
    case F8_BF16:
        k->f8_to_bf16(target, source, n, TP_F8_KIND_E4M3, scales, 128, false, &stats);
        break;
    case F4:
        k->f4_to_f32((void *)target, source, 2 * n, 0.0002f, false);
        break;
    case MXFP4:
        k->mxfp4_to_bf16(target, source, exponents, n / 16, false);
        break;
    case MXFP4_EACH:
        k->mxfp4_each_to_bf16(target, source, exponents, n, false, false);
        break;
    case TRANSPOSE:
        transpose(k, row->from_bytes, n);
        break;
    case MULTIPLY:
        k->multiply[row->from](target, source, n, 0.7, false, &stats);
        break;
    case COUNT:
        return k->count_not_bool(source, n);
    case DIGEST:
        k->xxh3_update(digest_state, source, n * row->from_bytes);
        break;
    case COPY:
        memcpy(target, source, n * row->from_bytes);
        break;
    }
    return stats.nan_count;
}

static void fill(const struct row *row, size_t n)
{
    const unsigned exponent_bits = row->from == TP_KIND_F64 ? 11 : row->from == TP_KIND_F16 ? 5 : 8;
    const unsigned bits = 8 * row->from_bytes;
    const uint64_t bias = (UINT64_C(1) << (exponent_bits - 1)) - 1;
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t value = state >> (64 - bits);
        if (bits >= 16) { /* sign, an exponent at random, mantissa */
            const unsigned mantissa_bits = bits - 1 - exponent_bits;
            const uint64_t sign = value >> (bits - 1) << (bits - 1);
            const uint64_t mantissa = value & ((UINT64_C(1) << mantissa_bits) - 1);
            value = sign | (bias - 1 - (state >> 20) % 14) << mantissa_bits | mantissa;
        }
        if (row->what == F8 || row->what == F8_BF16)
            value = value % 127 | (value & 128); /* no NaN */
        memcpy(source + i * row->from_bytes, &value, row->from_bytes);
    }
}

/* Seconds a call, the best of `rounds` groups of `calls`. */
static double best_s(const struct tp_kernels *k, const struct row *row, size_t n, unsigned rounds, unsigned calls)
{
    double best = 1e9;
    uint64_t sum = call(k, row, n);
    for (unsigned round = 0; round < rounds; round++) {
        const double start = now_s();
        for (unsigned i = 0; i < calls; i++)
            sum += call(k, row, n);
        const double each = (now_s() - start) / calls;
        best = each < best ? each : best;
    }
    return sum == UINT64_MAX ? 0 : best;
}

/* The first row is memcpy, whose rate goes to *copied. */
static void print_row(const struct tp_kernels *k, const struct row *row, bool with_dram, double *copied)
{
    const unsigned wider = row->to_bytes > row->from_bytes ? row->to_bytes : row->from_bytes;
    const size_t dram_values = DRAM_BYTES / wider;
    fill(row, with_dram ? dram_values : L2_VALUES);
    const double l2 = L2_VALUES / best_s(k, row, L2_VALUES, 40, 20) / 1e9;
    const double tiny = best_s(k, row, TINY_VALUES, 40, 1000) * 1e9;
    printf("%-8s %-15s %7.1f %7.1f", row->what == COPY ? "libc" : tp_level_name(k->level), row->name,
           l2 * row->to_bytes, l2 * (row->from_bytes + row->to_bytes));
    if (with_dram) {
        const double dram = (double)dram_values / best_s(k, row, dram_values, 4, 1) / 1e9;
        *copied = row->what == COPY ? dram * row->to_bytes : *copied;
        printf(" %8.1f %7.1f %8.2f", dram * row->to_bytes, dram * (row->from_bytes + row->to_bytes),
               dram * row->to_bytes / *copied);
    }
    printf(" %8.1f\n", tiny);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    const char *only = argc > 1 + quick ? argv[1 + quick] : NULL; /* a level */
    source = malloc(DRAM_BYTES);
    target = malloc(DRAM_BYTES);
    digest_state = XXH3_createState();
    exponents = malloc(DRAM_BYTES / 2);
    scales = malloc(DRAM_BYTES / 2 / 128 * sizeof *scales);
    if (!source || !target || !exponents || !scales || !digest_state)
        return 1;
    memset(target, 1, DRAM_BYTES);
    memset(exponents, 120, DRAM_BYTES / 2);
    for (size_t i = 0; i < DRAM_BYTES / 2 / 128; i++)
        scales[i] = 0.0002f;
    (void)XXH3_128bits_reset(digest_state);

    printf("%-24s %7s %7s%s %8s\n", "GB/s", "L2 out", "in+out", quick ? "" : " DRAM out  in+out / memcpy", "tiny ns");
    double copied = 1;
    for (unsigned level = 0; level < TP_LEVEL_COUNT; level++) {
        struct tp_kernels k;
        const char *name = tp_level_name((enum tp_level)level);
        if ((only && strcmp(only, name) != 0) || !tp_kernels_init(&k, name))
            continue;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            print_row(&k, &rows[i], !quick, &copied);
    }
    XXH3_freeState(digest_state);
    free(source);
    free(target);
    free(exponents);
    free(scales);
    return 0;
}
