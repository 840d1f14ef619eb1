/* SPDX-License-Identifier: MIT */
/* Which grids can be had without copying, and where their chunks lie: every chunk is compared with looking each of its
 * elements up by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/piece.h"
#include "plan/refer.h"
#include "refer_rows.h"

struct fixture {
    struct row_source source;
    struct tp_plan plan;
    struct tp_piece pieces[4];
    struct tp_array array;
    struct tp_refer_grid found;
    struct tp_grid grid;
};

static void set_up(struct fixture *f, const struct row *r)
{
    row_source_init(&f->source, "model.safetensors");
    f->plan = (struct tp_plan){.logicals = f->source.logicals, .logical_count = ROW_TENSORS, .source = &f->source.ck};
    f->array = row_array(r, f->pieces);
}

static const struct row *row_named(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    fail_msg("no row %s", name);
    return NULL;
}

/* The k-th element of a chunk's bytes, by its number in the array. */
static uint64_t elem_of(const struct fixture *f, uint64_t number, uint64_t k)
{
    uint64_t corner[TP_GRID_RANK_MAX], flat = 0;
    tp_grid_corner(&f->array, number, corner);
    for (unsigned i = f->array.rank; i-- > 0;) {
        unsigned d = f->grid.order[i];
        corner[d] += k % f->grid.chunk[d];
        k /= f->grid.chunk[d];
    }
    for (unsigned d = 0; d < f->array.rank; d++)
        flat = flat * f->array.shape[d] + corner[d];
    return flat;
}

static uint64_t place_of(const struct fixture *f, uint64_t elem)
{
    struct tp_run run;
    assert_true(tp_array_run_at(&f->array, elem, 1, &run));
    return f->source.extents[run.piece->logical].offset_bytes + 4 * run.src_elem;
}

/* How many chunks are references, all of them right. */
static uint64_t check_chunks(struct fixture *f)
{
    uint64_t referred = 0;
    f->grid = (struct tp_grid){f->found.chunk, f->found.order, 0};
    f->array.grid = &f->grid;
    for (uint64_t n = 0, count = tp_grid_chunk_count(&f->array); n < count; n++) {
        struct tp_reference ref;
        if (!tp_refer_chunk(&ref, &f->plan, &f->array, n))
            continue;
        referred++;
        assert_int_equal(ref.file, 0);
        assert_int_equal(ref.size_bytes, 4 * f->found.chunk_elems);
        for (uint64_t k = 0; k < f->found.chunk_elems; k++)
            assert_int_equal(place_of(f, elem_of(f, n, k)), ref.offset_bytes + 4 * k);
    }
    return referred;
}

static void check_row(struct fixture *f, const struct row *r, bool any_order)
{
    const uint64_t *chunk = any_order ? r->chunk_any : r->chunk;
    if (!tp_refer_find(&f->found, &f->plan, &f->array, any_order))
        fail_msg("%s: no grid", r->name);
    for (unsigned d = 0; d < r->rank; d++) {
        if (f->found.chunk[d] != chunk[d])
            fail_msg("%s%s: chunk of axis %u is %llu, expected %llu", r->name, any_order ? " (any order)" : "", d,
                     (unsigned long long)f->found.chunk[d], (unsigned long long)chunk[d]);
        if (any_order && f->found.order[d] != r->order_any[d])
            fail_msg("%s: order[%u] is %u, expected %u", r->name, d, f->found.order[d], r->order_any[d]);
    }
    if (!any_order) {
        assert_int_equal(f->found.is_row_major, r->order == 'C');
        assert_int_equal(f->found.is_reversed, r->order == 'F');
    }
    uint64_t referred = check_chunks(f);
    assert_int_equal(referred, tp_grid_chunk_count(&f->array));
}

static void every_transform_without_arithmetic_is_referred_to(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct fixture f;
        set_up(&f, &rows[i]);
        check_row(&f, &rows[i], false);
        f.array.grid = NULL;
        check_row(&f, &rows[i], true);
    }
}

static void a_layer_that_needs_a_cast_does_not_keep_the_others_from_the_source(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, row_named("stack_1"));
    f.pieces[0].op = TP_OP_CAST; /* the first one: the order comes from those that are plain */
    assert_true(tp_refer_find(&f.found, &f.plan, &f.array, false));
    assert_int_equal(f.found.chunk[1], 1);
    assert_int_equal(check_chunks(&f), 2);
    struct tp_gather g;
    assert_true(tp_box_gather(&g, &f.array, 0));
    assert_int_equal(g.piece->op, TP_OP_CAST);
}

static void what_is_not_plain_is_not_referred_to(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, row_named("rename"));
    static const struct tp_decoded *const decoded = (const struct tp_decoded *)&rows; /* only compared with NULL */
    static const struct tp_chunks *const chunks = (const struct tp_chunks *)&rows;
    f.pieces[0].op = TP_OP_CAST;
    assert_false(tp_refer_find(&f.found, &f.plan, &f.array, true));
    f.pieces[0].op = TP_OP_COPY;
    f.source.logicals[0].decoded = decoded;
    assert_false(tp_refer_find(&f.found, &f.plan, &f.array, true));
    f.source.logicals[0].decoded = NULL;
    f.source.tensors[0].chunks = chunks;
    assert_false(tp_refer_find(&f.found, &f.plan, &f.array, true));
    f.source.tensors[0].chunks = NULL;
    f.source.tensors[0].extent_count = 2;
    assert_false(tp_refer_find(&f.found, &f.plan, &f.array, true));
    f.source.tensors[0].extent_count = 1;
    f.source.extents[0].file = TP_FILE_MEMORY;
    assert_false(tp_refer_find(&f.found, &f.plan, &f.array, true));
    f.source.extents[0].file = 0;
    assert_true(tp_refer_find(&f.found, &f.plan, &f.array, true));
}

static void a_chunk_knows_whether_it_is_a_part_of_its_tensor(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        bool is_part;
    } cases[] = {{"rename", false}, {"stack_2", false}, {"scan_transposed", false}, {"row_split", true},
                 {"concat", true},  {"q_proj", true},   {"strided_columns", true}};
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct fixture f;
        set_up(&f, row_named(cases[i].row));
        assert_true(tp_refer_find(&f.found, &f.plan, &f.array, false));
        assert_int_equal(f.found.is_part, cases[i].is_part);
    }
}

static void chunks_are_cut_as_far_as_they_stay_runs(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        uint64_t parts, chunk[4];
    } cases[] = {
        {"rename", 2, {3, 4}},        {"rename", 4, {3, 4}},     {"reshape", 2, {3, 8}},      {"transpose", 2, {4, 3}},
        {"reverse", 2, {4, 3, 1}},    {"reverse", 4, {4, 3, 1}}, {"stack_1", 2, {3, 1, 4}},   {"ones", 2, {1, 3, 1, 4}},
        {"interleaved_q", 8, {1, 1}}, {"concat", 4, {1, 2}},     {"column_slice", 2, {1, 1}}, {"number", 16, {0}},
    };
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct fixture f;
        const struct row *r = row_named(cases[i].row);
        set_up(&f, r);
        assert_true(tp_refer_find(&f.found, &f.plan, &f.array, false));
        tp_refer_split(&f.found, r->rank, cases[i].parts);
        for (unsigned d = 0; d < r->rank; d++)
            if (f.found.chunk[d] != cases[i].chunk[d])
                fail_msg("%s in %llu: chunk of axis %u is %llu", r->name, (unsigned long long)cases[i].parts, d,
                         (unsigned long long)f.found.chunk[d]);
        uint64_t referred = check_chunks(&f);
        assert_int_equal(referred, tp_grid_chunk_count(&f.array));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_transform_without_arithmetic_is_referred_to),
        cmocka_unit_test(a_layer_that_needs_a_cast_does_not_keep_the_others_from_the_source),
        cmocka_unit_test(what_is_not_plain_is_not_referred_to),
        cmocka_unit_test(a_chunk_knows_whether_it_is_a_part_of_its_tensor),
        cmocka_unit_test(chunks_are_cut_as_far_as_they_stay_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
