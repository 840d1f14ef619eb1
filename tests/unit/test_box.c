/* SPDX-License-Identifier: MIT */
/* Boxes of arrays, against looking every element up by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/box.h"
#include "plan/piece.h"

#define LEVELS 12

static unsigned pick(unsigned low, unsigned high)
{
    return low + (unsigned)rand() % (high - low + 1);
}

/* ---- random arrays: boxes beside each other along one axis, each with strides of its own ---- */

struct array {
    struct tp_array a;
    uint64_t shape[4];
    struct tp_piece pieces[3];
    struct tp_axis axes[3][LEVELS];
    struct tp_grid grid;
    uint64_t chunk[4];
    uint8_t order[4];
};

/* A box's span along each axis in factors, each a loop; sources lie in a random order of the loops, some with gaps. */
static void make_piece(struct array *x, unsigned p, const uint64_t *span, uint64_t dst_first)
{
    struct tp_axis loops[LEVELS];
    unsigned count = 0, rank = x->a.rank;
    for (unsigned d = 0; d < rank; d++) {
        uint64_t flat = 1, left = span[d];
        for (unsigned e = d + 1; e < rank; e++)
            flat *= x->shape[e];
        for (uint64_t inner = left; left > 1; left /= loops[count - 1].count) { /* outermost first */
            uint64_t factor = left % 2 == 0 && pick(0, 1) ? 2 : left % 3 == 0 && pick(0, 1) ? 3 : left;
            inner /= factor;
            loops[count++] = (struct tp_axis){factor, 0, flat * inner};
        }
    }
    unsigned order[LEVELS];
    for (unsigned i = 0; i < count; i++)
        order[i] = count - 1 - i;
    for (unsigned i = count; i > 1 && pick(0, 2) > 0; i--) {
        unsigned j = pick(0, i - 1), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    uint64_t stride = pick(0, 9) == 0 ? 2 : 1;
    for (unsigned i = 0; i < count; i++) {
        bool repeats = pick(0, 19) == 0;
        loops[order[i]].src_stride = repeats ? 0 : stride;
        stride *= repeats ? 1 : loops[order[i]].count;
        stride += pick(0, 9) == 0;
    }
    struct tp_piece *piece = &x->pieces[p];
    *piece = (struct tp_piece){
        .logical = p, .src_first = pick(0, 5), .dst_first = dst_first, .run_elems = 1, .axes = x->axes[p]};
    while (count > 0 && loops[count - 1].src_stride == piece->run_elems &&
           loops[count - 1].dst_stride == piece->run_elems)
        piece->run_elems *= loops[--count].count;
    for (unsigned i = 0; i < count; i++) { /* merged where both sides allow, as a plan does */
        struct tp_axis *last = piece->axis_count ? &x->axes[p][piece->axis_count - 1] : NULL;
        if (last && last->src_stride == loops[i].src_stride * loops[i].count &&
            last->dst_stride == loops[i].dst_stride * loops[i].count) {
            *last = (struct tp_axis){last->count * loops[i].count, loops[i].src_stride, loops[i].dst_stride};
        } else {
            x->axes[p][piece->axis_count++] = loops[i];
        }
    }
}

static void make_array(struct array *x)
{
    uint64_t span[3][4];
    *x = (struct array){.a = {.rank = (uint8_t)pick(1, 4), .elem_count = 1, .piece_count = pick(1, 3)}};
    unsigned rank = x->a.rank, along = pick(0, rank - 1);
    for (unsigned d = 0; d < rank; d++) {
        for (unsigned p = 0; p < x->a.piece_count; p++) {
            span[p][d] = p > 0 && d != along ? span[0][d] : pick(1, 8);
            x->shape[d] = d == along ? x->shape[d] + span[p][d] : span[p][d];
        }
        x->a.elem_count *= x->shape[d];
    }
    uint64_t flat = 1, at = 0;
    for (unsigned e = along + 1; e < rank; e++)
        flat *= x->shape[e];
    x->a.shape = x->shape;
    x->a.pieces = x->pieces;
    for (unsigned p = 0; p < x->a.piece_count; p++) {
        make_piece(x, p, span[p], at * flat);
        at += span[p][along];
    }
}

static void make_grid(struct array *x)
{
    for (unsigned d = 0; d < x->a.rank; d++) {
        do
            x->chunk[d] = pick(1, (unsigned)x->shape[d]);
        while (x->shape[d] % x->chunk[d] != 0);
        x->order[d] = (uint8_t)d;
    }
    for (unsigned i = x->a.rank; i > 1; i--) {
        unsigned j = pick(0, i - 1);
        uint8_t swap = x->order[i - 1];
        x->order[i - 1] = x->order[j];
        x->order[j] = swap;
    }
    x->grid = (struct tp_grid){x->chunk, pick(0, 1) ? x->order : NULL, 0};
    x->a.grid = &x->grid;
}

/* The k-th element of a chunk's bytes: its flat number in the array. */
static uint64_t elem_of(const struct array *x, const uint64_t *corner, uint64_t k)
{
    uint64_t index[4], flat = 0;
    for (unsigned i = x->a.rank; i-- > 0;) {
        unsigned d = x->grid.order ? x->order[i] : i;
        index[d] = corner[d] + k % x->chunk[d];
        k /= x->chunk[d];
    }
    for (unsigned d = 0; d < x->a.rank; d++)
        flat = flat * x->shape[d] + index[d];
    return flat;
}

static uint64_t gathered(const struct tp_gather *g, uint64_t k)
{
    uint64_t src = g->src_first;
    for (uint32_t i = g->loop_count; i-- > 0;) {
        src += k % g->loops[i].count * g->loops[i].stride;
        k /= g->loops[i].count;
    }
    return src;
}

static void check_chunk(const struct array *x, uint64_t number, const struct tp_gather *g)
{
    uint64_t corner[TP_GRID_RANK_MAX], volume = 1, product = 1;
    tp_grid_corner(&x->a, number, corner);
    for (unsigned d = 0; d < x->a.rank; d++)
        volume *= x->chunk[d];
    for (uint32_t i = 0; i < g->loop_count; i++) {
        assert_true(g->loops[i].count > 1);
        assert_true(i == 0 || g->loops[i - 1].stride != g->loops[i].count * g->loops[i].stride); /* merged */
        product *= g->loops[i].count;
    }
    assert_int_equal(product, volume);
    for (uint64_t k = 0; k < volume; k++) {
        struct tp_run run;
        assert_true(tp_array_run_at(&x->a, elem_of(x, corner, k), 1, &run));
        assert_ptr_equal(run.piece, g->piece);
        assert_int_equal(g->logical, g->piece->logical);
        assert_int_equal(run.src_elem, gathered(g, k));
    }
}

static void random_chunks_gather_what_single_elements_say(void **state)
{
    (void)state;
    unsigned said = 0, asked = 0;
    srand(7);
    for (int round = 0; round < 6000; round++) {
        struct array x;
        make_array(&x);
        make_grid(&x);
        for (uint64_t n = 0, count = tp_grid_chunk_count(&x.a); n < count; n++) {
            struct tp_gather g;
            bool whole = tp_box_gather(&g, &x.a, n);
            asked++;
            said += whole;
            if (whole)
                check_chunk(&x, n, &g);
        }
    }
    assert_true(said > asked / 2);
}

/* Chunks that end where loops do are always found: one element, and, of an array of one piece, all of it. */
static void chunks_of_one_element_and_whole_pieces_are_always_gathered(void **state)
{
    (void)state;
    srand(8);
    for (int round = 0; round < 3000; round++) {
        struct array x;
        struct tp_gather g;
        make_array(&x);
        make_grid(&x);
        memcpy(x.chunk, x.shape, sizeof x.chunk);
        if (x.a.piece_count == 1) {
            assert_true(tp_box_gather(&g, &x.a, 0));
            check_chunk(&x, 0, &g);
        }
        for (unsigned d = 0; d < 4; d++)
            x.chunk[d] = 1;
        for (uint64_t n = 0; n < x.a.elem_count; n++) {
            assert_true(tp_box_gather(&g, &x.a, n));
            assert_int_equal(g.loop_count, 0);
            check_chunk(&x, n, &g);
        }
    }
}

static void a_straight_copy_is_one_loop(void **state)
{
    (void)state;
    static const uint64_t shape[] = {6, 1, 4, 5}, chunk[] = {3, 1, 4, 5};
    static const struct tp_piece piece = {.src_first = 9, .run_elems = 120};
    static const struct tp_grid grid = {chunk, NULL, 0};
    struct tp_array a = {.shape = shape, .rank = 4, .elem_count = 120, .pieces = &piece, .piece_count = 1};
    struct tp_gather g;
    assert_true(tp_box_gather(&g, &a, 0)); /* without a grid: all of it */
    assert_int_equal(g.loop_count, 1);
    assert_int_equal(g.loops[0].count, 120);
    assert_int_equal(g.loops[0].stride, 1);
    a.grid = &grid;
    assert_int_equal(tp_grid_chunk_count(&a), 2);
    assert_true(tp_box_gather(&g, &a, 1));
    assert_int_equal(g.src_first, 69);
    assert_int_equal(g.loop_count, 1);
    assert_int_equal(g.loops[0].count, 60);
}

static void a_number_is_a_chunk_without_loops(void **state)
{
    (void)state;
    static const struct tp_piece piece = {.src_first = 3, .run_elems = 1, .logical = 5};
    struct tp_array a = {.elem_count = 1, .pieces = &piece, .piece_count = 1};
    struct tp_gather g;
    assert_int_equal(tp_grid_chunk_count(&a), 1);
    assert_true(tp_box_gather(&g, &a, 0));
    assert_int_equal(g.loop_count, 0);
    assert_int_equal(g.src_first, 3);
    assert_int_equal(g.logical, 5);
}

static void what_is_no_box_is_said_so(void **state)
{
    (void)state;
    static const uint64_t shape[] = {3, 4}, empty[] = {0, 4};
    static const struct tp_axis gaps = {2, 4, 8};
    static const struct tp_piece ragged = {.run_elems = 5}, shifted = {.run_elems = 4, .dst_first = 2},
                                 apart = {.run_elems = 4, .axes = &gaps, .axis_count = 1};
    struct tp_array a = {.shape = shape, .rank = 2, .elem_count = 12, .piece_count = 1};
    const struct tp_piece *pieces[] = {&ragged, &shifted, &apart};
    struct tp_gather g;
    struct tp_box box;
    for (unsigned i = 0; i < 3; i++) {
        a.pieces = pieces[i];
        assert_false(tp_box_of_piece(&box, &a, pieces[i]));
        assert_false(tp_box_gather(&g, &a, 0));
    }
    a = (struct tp_array){.shape = empty, .rank = 2, .pieces = &ragged, .piece_count = 1};
    assert_int_equal(tp_grid_chunk_count(&a), 0);
    assert_false(tp_box_gather(&g, &a, 0));
}

/* Of so many pieces none is looked for one by one: stacks along inner axes, and slices of one axis that alternate. */
static void each_of_many_pieces_is_found(void **state)
{
    (void)state;
    enum { OUTER = 5, FIRST = 12, SECOND = 9, INNER = 4, STACK = FIRST * SECOND };
    static const uint64_t stacked[] = {OUTER, FIRST, SECOND, INNER}, merged[] = {OUTER, STACK * INNER};
    struct tp_piece pieces[STACK];
    struct tp_axis axes[STACK][2];
    for (unsigned i = 0; i < STACK; i++) {
        axes[i][0] = (struct tp_axis){OUTER, INNER, STACK * INNER};
        axes[i][1] = (struct tp_axis){INNER, 1, STACK};
        pieces[i] = (struct tp_piece){
            .logical = i, .axes = axes[i], .axis_count = 1, .run_elems = INNER, .dst_first = i * (uint64_t)INNER};
    }
    struct tp_array a = {.shape = stacked, .rank = 4, .elem_count = OUTER * STACK * INNER};
    struct tp_run run;
    a.pieces = pieces;
    a.piece_count = STACK;
    for (uint64_t e = 0; e < a.elem_count; e++) {
        assert_true(tp_array_run_at(&a, e, 100, &run));
        assert_int_equal(run.piece->logical, e / INNER % STACK);
        assert_int_equal(run.src_elem, e / (STACK * INNER) * INNER + e % INNER);
        assert_int_equal(run.elem_count, INNER - e % INNER);
    }
    for (unsigned i = 0; i < STACK; i++) { /* the stack inside its merged axis */
        pieces[i].dst_first = i;
        pieces[i].axis_count = 2;
        pieces[i].run_elems = 1;
    }
    a.shape = merged;
    a.rank = 2;
    for (uint64_t e = 0; e < a.elem_count; e++) {
        assert_true(tp_array_run_at(&a, e, 100, &run));
        assert_int_equal(run.piece->logical, e % STACK);
        assert_int_equal(run.src_elem, e / STACK);
        assert_int_equal(run.elem_count, 1);
    }
    assert_false(tp_array_run_at(&a, a.elem_count, 1, &run));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_chunks_gather_what_single_elements_say),
        cmocka_unit_test(chunks_of_one_element_and_whole_pieces_are_always_gathered),
        cmocka_unit_test(a_straight_copy_is_one_loop),
        cmocka_unit_test(a_number_is_a_chunk_without_loops),
        cmocka_unit_test(what_is_no_box_is_said_so),
        cmocka_unit_test(each_of_many_pieces_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
