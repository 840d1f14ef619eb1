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

/* ---- arrays made of pieces ---- */

#define PIECES_MAX 6u

/* Every piece a tensor of its own, stacked along `stacked` (or -1: there is one). `stride`: of each axis in it. */
struct made {
    uint64_t shape[4];
    unsigned rank, item;
    int stacked;
    uint64_t span; /* of a piece along that axis */
    uint64_t stride[4];
    uint64_t chunk_bytes;
    uint64_t chunk[4];
};

static void make_array(struct tp_array *a, struct tp_piece *pieces, struct tp_axis (*axes)[4], const struct made *m)
{
    static const enum tp_dtype dtypes[] = {[1] = TP_U8, [2] = TP_BF16, [4] = TP_F32};
    uint64_t flat[4], volume = 1;
    for (unsigned d = m->rank; d-- > 0; volume *= m->shape[d])
        flat[d] = volume;
    *a = (struct tp_array){.shape = m->shape,
                           .rank = (uint8_t)m->rank,
                           .dtype = (uint8_t)dtypes[m->item],
                           .elem_count = volume,
                           .pieces = pieces,
                           .piece_count = m->stacked < 0 ? 1 : (uint32_t)(m->shape[m->stacked] / m->span)};
    assert_true(a->piece_count <= PIECES_MAX);
    for (uint32_t p = 0; p < a->piece_count; p++) {
        pieces[p] = (struct tp_piece){.logical = p, .run_elems = 1, .axes = axes[p], .axis_count = m->rank};
        for (unsigned d = 0; d < m->rank; d++)
            axes[p][d] = (struct tp_axis){(int)d == m->stacked ? m->span : m->shape[d], m->stride[d], flat[d]};
        if (m->stacked >= 0)
            pieces[p].dst_first = p * m->span * flat[m->stacked];
    }
}

static void check_made(const struct made *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tp_piece pieces[PIECES_MAX];
        struct tp_axis axes[PIECES_MAX][4];
        struct tp_array a;
        uint64_t chunk[4] = {0};
        make_array(&a, pieces, axes, &cases[i]);
        tp_chunk_array(chunk, &a, cases[i].chunk_bytes, true);
        for (unsigned d = 0; d < cases[i].rank; d++)
            if (chunk[d] != cases[i].chunk[d] || cases[i].shape[d] % chunk[d])
                fail_msg("case %zu, axis %u: %llu, expected %llu", i, d, (unsigned long long)chunk[d],
                         (unsigned long long)cases[i].chunk[d]);
    }
}

static void no_chunk_spans_two_pieces_of_a_stack(void **state)
{
    (void)state;
    static const struct made cases[] = {
        {{6, 4096, 4096}, 3, 2, 0, 1, {0, 4096, 1}, 0, {1, 256, 4096}}, /* layers: each cut as if it were alone */
        {{4096, 6, 4096}, 3, 2, 1, 1, {4096, 0, 1}, 0, {256, 1, 4096}}, /* in the middle, as MaxText scans */
        {{6, 1024, 512}, 3, 2, 0, 1, {0, 512, 1}, 0, {1, 1024, 512}},   /* 1 MiB each */
        {{6, 4096}, 2, 2, 0, 1, {0, 1}, 0, {6, 4096}},                  /* norms: 48 KiB in all, one chunk */
        {{6, 524288}, 2, 1, 0, 1, {0, 1}, 0, {1, 524288}},              /* 3 MiB in all: half a MiB each */
        {{6144, 4096}, 2, 2, 0, 1024, {4096, 1}, 0, {128, 4096}},       /* stacked and merged: 8 MiB each, in 8 */
        {{6, 4096, 4096}, 3, 2, 0, 6, {16777216, 4096, 1}, 0, {3, 512, 4096}}, /* one piece is no stack: 16 parts */
    };
    check_made(cases, TP_COUNT_OF(cases));
}

static void transposed_arrays_are_cut_near_square_in_bands(void **state)
{
    (void)state;
    static const struct made cases[] = {
        {{32768, 16384}, 2, 2, -1, 0, {1, 32768}, 0, {2048, 128}}, /* 1 GiB: bands of 8192 rows, reads of 16 KiB */
        {{4096, 11008}, 2, 2, -1, 0, {1, 4096}, 0, {2048, 172}},   /* 86 MiB: bands of whole rows */
        {{2048, 2048}, 2, 2, -1, 0, {1, 2048}, 0, {512, 512}},     /* 8 MiB */
        {{512, 512}, 2, 2, -1, 0, {1, 512}, 0, {512, 512}},        /* below 2 MiB, too */
        {{768, 50257}, 2, 4, -1, 0, {1, 768}, 0, {96, 50257}},     /* only one can be halved: not above 32 MiB */
        {{50257, 769}, 2, 4, -1, 0, {1, 50257}, 0, {50257, 769}},  /* none can */
        {{4096, 32, 128}, 3, 2, -1, 0, {1, 524288, 4096}, 0, {1024, 2, 128}},  /* heads go on where the last one ends */
        {{32, 128, 4096}, 3, 2, -1, 0, {128, 1, 4096}, 0, {8, 128, 256}},      /* likewise in the source */
        {{64, 2048, 2048}, 3, 2, -1, 0, {4194304, 1, 2048}, 0, {1, 512, 512}}, /* experts: none has of two */
        {{6, 4096, 4096}, 3, 2, 0, 1, {0, 1, 4096}, 0, {1, 1024, 256}},        /* a stack of them */
        {{4096, 6, 4096}, 3, 2, 1, 1, {1, 0, 4096}, 0, {1024, 1, 256}},        /* with the layers in the middle */
        {{4096, 4096}, 2, 2, -1, 0, {1, 4096}, MIB, {2048, 128}},              /* --chunk-bytes */
        {{4096, 1, 4096}, 3, 2, -1, 0, {1, 0, 4096}, 0, {1024, 1, 256}},       /* an axis of one index is no matter */
        {{4096, 4096}, 2, 2, -1, 0, {4096, 1}, 0, {256, 4096}},                /* not transposed at all */
    };
    check_made(cases, TP_COUNT_OF(cases));
}

static void a_band_goes_along_the_axis_that_is_read_together(void **state)
{
    (void)state;
    static const struct {
        struct made made;
        bool in_bands;
        unsigned across;
    } cases[] = {
        {{{4096, 4096}, 2, 2, -1, 0, {1, 4096}, 0, {1024, 256}}, true, 0},
        {{{4096, 4096}, 2, 2, -1, 0, {1, 4096}, 0, {4096, 256}}, false, 1}, /* chunks that are files stay whole bands */
        {{{6, 4096, 4096}, 3, 2, 0, 1, {0, 1, 4096}, 0, {1, 1024, 256}}, true, 1},
        {{{4096, 4096}, 2, 2, -1, 0, {4096, 1}, 0, {256, 4096}}, true, 1}, /* as it lies in the source */
        {{{512, 512}, 2, 2, -1, 0, {1, 512}, 0, {512, 512}}, true, 1},     /* one chunk */
    };
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct tp_piece pieces[PIECES_MAX];
        struct tp_axis axes[PIECES_MAX][4];
        struct tp_array a;
        uint64_t chunk[4] = {0};
        make_array(&a, pieces, axes, &cases[i].made);
        assert_int_equal(tp_chunk_array(chunk, &a, 0, cases[i].in_bands), cases[i].across);
        assert_memory_equal(chunk, cases[i].made.chunk, a.rank * sizeof *chunk);
    }
}

static void loops_within_an_axis_do_not_transpose(void **state)
{
    (void)state;
    static const uint64_t shape[2] = {4096, 4096}; /* halves of the last axis become pairs: "(f 2)" to "(2 f)" */
    const struct tp_axis axes[] = {{4096, 4096, 4096}, {2, 1, 2048}, {2048, 2, 1}};
    const struct tp_piece piece = {.run_elems = 1, .axes = axes, .axis_count = 3};
    const struct tp_array a = {
        .shape = shape, .rank = 2, .dtype = TP_BF16, .elem_count = 4096 * 4096, .pieces = &piece, .piece_count = 1};
    uint64_t chunk[2];
    tp_chunk_array(chunk, &a, 0, true);
    assert_int_equal(chunk[0], 256);
    assert_int_equal(chunk[1], 4096);
}

static void a_constant_is_cut_as_any_array(void **state)
{
    (void)state;
    static const uint64_t shape[2] = {4096, 4096};
    const struct tp_array a = {.shape = shape, .rank = 2, .dtype = TP_BF16, .elem_count = 4096 * 4096};
    uint64_t chunk[2];
    tp_chunk_array(chunk, &a, 0, true);
    assert_int_equal(chunk[0], 256);
    assert_int_equal(chunk[1], 4096);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_of_1_to_32_mib),
        cmocka_unit_test(chunks_are_cut_along_the_first_axes),
        cmocka_unit_test(no_chunk_spans_two_pieces_of_a_stack),
        cmocka_unit_test(transposed_arrays_are_cut_near_square_in_bands),
        cmocka_unit_test(a_band_goes_along_the_axis_that_is_read_together),
        cmocka_unit_test(loops_within_an_axis_do_not_transpose),
        cmocka_unit_test(a_constant_is_cut_as_any_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
