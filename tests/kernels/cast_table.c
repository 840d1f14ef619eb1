/* SPDX-License-Identifier: MIT */
/* A kernel as a filter, for tests/e2e/test_numerics.py.
 *
 *   cast_table FROM TO LEVEL SATURATE < values > cast     FROM, TO: f64 f32 f16 bf16, TO also "measure"
 *                                                         LEVEL: scalar, avx2, ..., best; SATURATE: 0 or 1
 *
 * Raw little-endian values. One line on stderr: min max nan inf overflow flushed, the first two in hexadecimal. Ends
 * with 3 if this CPU has not got the level, with 2 if the arguments make no sense. */
#include "kernels/kernels.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} kinds[TP_KIND_COUNT] = {
    [TP_KIND_F64] = {"f64", 8},
    [TP_KIND_F32] = {"f32", 4},
    [TP_KIND_F16] = {"f16", 2},
    [TP_KIND_BF16] = {"bf16", 2},
};

static unsigned kind_named(const char *name)
{
    unsigned kind = 0;
    while (kind < TP_KIND_COUNT && strcmp(kinds[kind].name, name) != 0)
        kind++;
    return kind;
}

/* All of stdin, in malloc'd memory; NULL: no memory. */
static uint8_t *read_all(size_t *size)
{
    size_t capacity = 1u << 20;
    uint8_t *bytes = malloc(capacity);
    *size = 0;
    while (bytes) {
        const size_t got = fread(bytes + *size, 1, capacity - *size, stdin);
        *size += got;
        if (got == 0)
            return bytes;
        if (*size < capacity)
            continue;
        capacity *= 2;
        uint8_t *bigger = realloc(bytes, capacity);
        if (!bigger)
            free(bytes);
        bytes = bigger;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct tp_kernels k;
    struct tp_stats stats;
    const unsigned from = argc == 5 ? kind_named(argv[1]) : TP_KIND_COUNT;
    const unsigned to = argc == 5 ? kind_named(argv[2]) : TP_KIND_COUNT;
    const bool measure = argc == 5 && strcmp(argv[2], "measure") == 0;
    if (from == TP_KIND_COUNT || (to == TP_KIND_COUNT && !measure)) {
        fprintf(stderr, "usage: cast_table FROM TO|measure LEVEL SATURATE\n");
        return 2;
    }
    if (!tp_kernels_init(&k, strcmp(argv[3], "best") == 0 ? NULL : argv[3]))
        return 3;
    if (!measure && !k.cast[from][to])
        return 2;

    size_t size;
    uint8_t *source = read_all(&size);
    const size_t n = size / kinds[from].bytes;
    uint8_t *target = malloc(n * sizeof(double) + 1);
    if (!source || !target)
        return 1;
    tp_stats_init(&stats);
    if (measure)
        k.measure[from](source, n, &stats);
    else
        k.cast[from][to](target, source, n, argv[4][0] == '1', &stats);
    const size_t out_bytes = measure ? 0 : n * kinds[to].bytes;
    const bool written = fwrite(target, 1, out_bytes, stdout) == out_bytes;
    fprintf(stderr, "%a %a %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", stats.min, stats.max, stats.nan_count,
            stats.inf_count, stats.overflow_count, stats.flushed_count);
    free(source);
    free(target);
    return !written;
}
