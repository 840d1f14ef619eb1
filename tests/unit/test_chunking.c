/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "format/chunking.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static void parts_are_of_1_to_32_mib(void **state)
{
    (void)state;
    static const struct {
        uint64_t size, chunk_bytes, parts;
    } cases[] = {
        {0, 0, 1},
        {1, 0, 1},
        {2 * MIB - 1, 0, 1},
        {2 * MIB, 0, 2},
        {3 * MIB, 0, 2},
        {4 * MIB, 0, 4},
        {16 * MIB - 1, 0, 8},
        {16 * MIB, 0, 16},
        {64 * MIB, 0, 16},
        {512 * MIB, 0, 16},
        {512 * MIB + 1, 0, 32},
        {5 * GIB, 0, 256},
        {5 * GIB, 5 * GIB, 16},
        {64 * MIB, MIB, 64},
        {MIB, 256 * KIB, 4}, /* a smaller --chunk-bytes cuts small arrays too */
        {24, 8, 4},
        {24, 24, 1},
        {UINT64_MAX, 1, (uint64_t)1 << 63},
    };
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        if (tp_chunk_parts(cases[i].size, cases[i].chunk_bytes) != cases[i].parts)
            fail_msg("%llu bytes in chunks of %llu: %llu parts, expected %llu", (unsigned long long)cases[i].size,
                     (unsigned long long)cases[i].chunk_bytes,
                     (unsigned long long)tp_chunk_parts(cases[i].size, cases[i].chunk_bytes),
                     (unsigned long long)cases[i].parts);
}

static void chunks_are_cut_along_the_first_axes(void **state)
{
    (void)state;
    static const struct {
        uint64_t shape[4];
        unsigned rank, item;
        uint64_t chunk_bytes;
        uint64_t chunk[4];
    } cases[] = {
        {{0}, 0, 4, 0, {0}},                              /* rank 0: nothing to cut */
        {{4096}, 1, 2, 0, {4096}},                        /* a norm */
        {{4096, 4096}, 2, 2, 0, {256, 4096}},             /* 32 MiB: 16 parts of 2 MiB */
        {{32768, 8192}, 2, 2, 0, {2048, 8192}},           /* 512 MiB: 16 parts of 32 MiB */
        {{128256, 4096}, 2, 2, 0, {4008, 4096}},          /* 1002 MiB: 32 parts */
        {{50257, 768}, 2, 4, 0, {50257, 48}},             /* an odd vocabulary: the next axis */
        {{151666, 1024}, 2, 2, 0, {75833, 128}},          /* one factor of two, then the next */
        {{50257, 769}, 2, 4, 0, {50257, 769}},            /* nothing divides: one chunk */
        {{1048583}, 1, 4, 0, {1048583}},                  /* a prime */
        {{0, 4096}, 2, 2, 0, {1, 4096}},                  /* no elements */
        {{3, 0, 2}, 3, 4, 0, {3, 1, 2}},                  /* likewise */
        {{1, 1, 4096, 4096}, 4, 2, 0, {1, 1, 256, 4096}}, /* axes of one index are passed over */
        {{2, 3, 1024, 1024}, 4, 4, 0, {1, 3, 128, 1024}}, /* 24 MiB: 16 parts, 2 x 8 */
        {{1310720, 1024}, 2, 4, 0, {5120, 1024}},         /* 5 GiB: 256 parts of 20 MiB */
        {{5368709120}, 1, 1, 0, {20971520}},              /* likewise, in one axis */
        {{4096, 4096}, 2, 2, 64 * MIB, {256, 4096}},      /* larger ones are not asked for */
        {{4096, 4096}, 2, 2, 256 * KIB, {32, 4096}},      /* 128 parts */
        {{6, 4}, 2, 4, 16, {3, 1}},                       /* 96 bytes in 8 parts: 2 x 4 */
        {{2, 2}, 2, 4, 1, {1, 1}},                        /* never less than an element */
    };
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        uint64_t chunk[4] = {0};
        tp_chunk_shape(chunk, cases[i].shape, cases[i].rank, cases[i].item, cases[i].chunk_bytes);
        for (unsigned d = 0; d < cases[i].rank; d++)
            if (chunk[d] != cases[i].chunk[d] || (cases[i].shape[d] && cases[i].shape[d] % chunk[d]))
                fail_msg("case %zu, axis %u: %llu, expected %llu", i, d, (unsigned long long)chunk[d],
                         (unsigned long long)cases[i].chunk[d]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_of_1_to_32_mib),
        cmocka_unit_test(chunks_are_cut_along_the_first_axes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
