/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "plan/piece.h"
#include "plan/shard.h"

static void globs_are_bytewise_and_stars_cross_dots(void **state)
{
    (void)state;
    static const struct {
        const char *glob, *text;
        bool match;
    } cases[] = {
        {"*", "", true},
        {"*", "model.layers.0.weight", true},
        {"model.*.weight", "model.layers.0.mlp.weight", true},
        {"model.*.weight", "model.layers.0.mlp.bias", false},
        {"*bias", "a.bias", true},
        {"*bias", "a.bias.x", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"layers.[0-3].*", "layers.2.w", true},
        {"layers.[0-3].*", "layers.4.w", false},
        {"layers.[!0-3].*", "layers.4.w", true},
        {"[]]", "]", true},
        {"[", "[", true},
        {"a\\*b", "a*b", true},
        {"a\\*b", "axb", false},
        {"\xc3\xa9*", "\xc3\xa9-name", true},
        {"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
        {"", "", true},
        {"", "a", false},
    };
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        if (tp_glob_match(cases[i].glob, cases[i].text) != cases[i].match)
            fail_msg("'%s' on '%s' should%s match", cases[i].glob, cases[i].text, cases[i].match ? "" : " not");
}

static void paths_are_ordered_key_by_key(void **state)
{
    (void)state;
    /* as strings with dots, "a-b" would come before "a.b"; as keys, "a" comes before "a-b" */
    assert_true(tp_path_compare("a\0b", 3, "a-b", 3) < 0);
    assert_true(tp_path_compare("10", 2, "9", 1) < 0);
    assert_true(tp_path_compare("a", 1, "a\0b", 3) < 0);
    assert_int_equal(tp_path_compare("a\0b", 3, "a\0b", 3), 0);
    char joined[8];
    tp_path_join_keys(joined, "a\0b\0c", 5, '/');
    assert_string_equal(joined, "a/b/c");
}

static void no_file_is_above_the_limit_and_none_could_be_saved(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 2000; round++) {
        struct tp_shard_item items[40];
        size_t count = (size_t)rand() % 40 + 1;
        uint64_t limit = 100, overhead = 5;
        for (size_t i = 0; i < count; i++) {
            items[i] = (struct tp_shard_item){
                .bytes = (uint64_t)rand() % 95 + 1, .alone = rand() % 20 == 0, .apart = rand() % 10 == 0};
            if (items[i].alone)
                items[i].bytes += 200;
        }
        uint32_t files = tp_shard_assign(items, count, limit, overhead);
        uint64_t used[41] = {0};
        uint32_t inside[41] = {0};
        for (size_t i = 0; i < count; i++) {
            assert_true(items[i].file < files);
            assert_true(i == 0 ? items[i].file == 0 : items[i].file - items[i - 1].file <= 1);
            assert_false(i > 0 && items[i].apart && items[i].file == items[i - 1].file);
            used[items[i].file] += items[i].bytes;
            inside[items[i].file]++;
        }
        for (size_t i = 0; i < count; i++) {
            assert_true(!items[i].alone || inside[items[i].file] == 1);
            assert_true(items[i].alone || used[items[i].file] <= limit - overhead);
        }
        /* in order, filling greedily is the fewest: count again the plain way */
        uint32_t fewest = 1;
        uint64_t fill = 0;
        for (size_t i = 0; i < count; i++) {
            bool cut = i > 0 && (items[i].alone || items[i].apart || items[i - 1].alone ||
                                 fill + items[i].bytes > limit - overhead);
            fewest += cut;
            fill = cut || i == 0 ? items[i].bytes : fill + items[i].bytes;
        }
        assert_int_equal(files, fewest);
    }
}

static void files_are_balanced(void **state)
{
    (void)state;
    struct tp_shard_item items[12];
    for (size_t i = 0; i < 12; i++)
        items[i] = (struct tp_shard_item){.bytes = 10};
    assert_int_equal(tp_shard_assign(items, 12, 115, 5), 2); /* 11 fit in one, but 6 and 6 are better than 11 and 1 */
    assert_int_equal(items[5].file, 0);
    assert_int_equal(items[6].file, 1);
}

/* Walk an array by runs and look each element up in the source. */
static void walk(const struct tp_array *a, const uint32_t *const *sources, uint32_t *out, uint64_t limit)
{
    for (uint64_t at = 0; at < a->elem_count;) {
        struct tp_run run;
        assert_true(tp_array_run_at(a, at, limit, &run));
        assert_true(run.elem_count > 0 && run.elem_count <= limit);
        memcpy(out + at, sources[run.piece->logical] + run.src_elem, run.elem_count * sizeof *out);
        at += run.elem_count;
    }
}

static void a_straight_piece_is_one_run(void **state)
{
    (void)state;
    struct tp_piece piece = {.run_elems = 10};
    struct tp_array a = {.pieces = &piece, .piece_count = 1, .elem_count = 10};
    struct tp_run run;
    assert_true(tp_array_run_at(&a, 3, 100, &run));
    assert_int_equal(run.src_elem, 3);
    assert_int_equal(run.elem_count, 7);
    assert_false(tp_array_run_at(&a, 10, 1, &run));
}

static void strided_pieces_transpose_stack_and_interleave(void **state)
{
    (void)state;
    enum { R = 3, C = 5 };
    uint32_t x[R * C], y[R * C], out[2 * R * C];
    for (uint32_t i = 0; i < R * C; i++) {
        x[i] = i;
        y[i] = 100 + i;
    }
    const uint32_t *sources[] = {x, y};
    /* [2, C, R]: two matrices, transposed and stacked */
    struct tp_axis transpose[] = {{C, 1, R}, {R, C, 1}};
    struct tp_piece stacked[] = {
        {.logical = 0, .axis_count = 2, .axes = transpose, .run_elems = 1},
        {.logical = 1, .axis_count = 2, .axes = transpose, .dst_first = R * C, .run_elems = 1}};
    struct tp_array a = {.pieces = stacked, .piece_count = 2, .elem_count = 2 * R * C};
    walk(&a, sources, out, 4);
    for (uint32_t m = 0; m < 2; m++)
        for (uint32_t c = 0; c < C; c++)
            for (uint32_t r = 0; r < R; r++)
                assert_int_equal(out[m * R * C + c * R + r], sources[m][r * C + c]);
    /* [R, 2, C]: rows in turn; a piece's runs have gaps that the other fills */
    struct tp_axis rows[] = {{R, C, 2 * C}};
    struct tp_piece interleaved[] = {{.logical = 0, .axis_count = 1, .axes = rows, .run_elems = C},
                                     {.logical = 1, .axis_count = 1, .axes = rows, .dst_first = C, .run_elems = C}};
    a = (struct tp_array){.pieces = interleaved, .piece_count = 2, .elem_count = 2 * R * C};
    walk(&a, sources, out, 3);
    for (uint32_t r = 0; r < R; r++)
        for (uint32_t m = 0; m < 2; m++)
            for (uint32_t c = 0; c < C; c++)
                assert_int_equal(out[(r * 2 + m) * C + c], sources[m][r * C + c]);
}

static void names_that_decoding_would_give_twice_are_refused(void **state)
{
    static const char header[] = "{\"w_blocks\":{\"dtype\":\"U8\",\"shape\":[1,1,1,16],\"data_offsets\":[0,16]},"
                                 "\"w_scales\":{\"dtype\":\"U8\",\"shape\":[1,1,1],\"data_offsets\":[16,17]},"
                                 "\"w\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[17,20]}}";
    (void)state;
    struct scratch s;
    scratch_make(&s);
    scratch_safetensors(&s, "model.safetensors", header, 20, "", 0);
    for (int i = 0; i < 4; i++) {
        struct tp_conversion *cv = NULL;
        struct tp_error err = {.code = TP_OK};
        struct tp_convert_options options = {.input = s.path, .output = scratch_at(&s, "out"), .dequantize = i < 2};
        options.format = i % 2 ? TP_OUTPUT_SAFETENSORS : TP_OUTPUT_FLAX_MSGPACK;
        assert_int_equal(tp_conversion_prepare(&cv, &options, &err), i < 2 ? TP_ERR_UNSUPPORTED : TP_OK);
        if (i < 2) {
            assert_non_null(strstr(err.message, "'w_blocks'"));
            assert_non_null(strstr(err.message, "'w'"));
        }
        tp_conversion_free(cv);
    }
    scratch_remove(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_are_bytewise_and_stars_cross_dots),
        cmocka_unit_test(paths_are_ordered_key_by_key),
        cmocka_unit_test(no_file_is_above_the_limit_and_none_could_be_saved),
        cmocka_unit_test(files_are_balanced),
        cmocka_unit_test(a_straight_piece_is_one_run),
        cmocka_unit_test(strided_pieces_transpose_stack_and_interleave),
        cmocka_unit_test(names_that_decoding_would_give_twice_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
