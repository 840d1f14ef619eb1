/* SPDX-License-Identifier: MIT */
/* The layout of JAX's directories, of plans made by hand. That JAX reads them is tests/e2e/test_jax_pytree.py's. */
#define LAYOUT_FORMAT tp_format_jax_pytree
#include "layout.h"

#include "format/jax_pytree.h"

static void leaves_are_numbered_as_jax_visits_them(void **state)
{
    (void)state;
    static const uint64_t shape[] = {2};
    static const struct {
        const char *path;
        uint32_t nested, lists;
    } cases[] = {
        {"z", 14, 14},        {"layers/10/w", 3, 11}, {"layers/2/w", 5, 3},  {"layers/0/w", 1, 1},
        {"layers/1/w", 2, 2}, {"layers/3/w", 6, 4},   {"layers/4/w", 7, 5},  {"layers/5/w", 8, 6},
        {"layers/6/w", 9, 7}, {"layers/7/w", 10, 8},  {"layers/8/w", 11, 9}, {"layers/9/w", 12, 10},
        {"a", 0, 0},          {"layers/11/w", 4, 12}, {"norm", 13, 13},
    };
    for (unsigned lists = 0; lists < 3; lists++) { /* 2: as a map says */
        struct fixture *f = new_fixture(TP_COUNT_OF(cases));
        for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
            add_array(f, cases[i].path, false, TP_F32, shape, 1, 0, 0)->list_levels =
                lists == 2 && strchr(cases[i].path, '/') ? 2 : 0;
        f->options.tree = lists == 1 ? TP_TREE_LISTS : TP_TREE_NESTED;
        lay_out(f); /* the writer of the database refuses keys out of order: "10/" comes before "2/" */
        check_plan(&f->plan);
        const struct tp_store *store = f->plan.leaves;
        for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
            assert_int_equal(store->numbers[i], lists ? cases[i].lists : cases[i].nested);
            assert_int_equal(store->by_number[store->numbers[i]], i);
        }
        free_fixture(f);
    }
}

static void every_layout_has_its_small_files_in_their_order(void **state)
{
    (void)state;
    static const char *const names[] = {"array_store/d/*", "array_store/manifest.ocdbt", "pytreedef.json"};
    static const uint64_t shape[] = {2};
    for (unsigned zero_copy = 0; zero_copy < 2; zero_copy++) {
        struct fixture *f = new_fixture(1);
        add_array(f, "w", false, TP_F32, shape, 1, 0, 0);
        f->options.orbax.zero_copy = zero_copy;
        lay_out(f);
        check_plan(&f->plan);
        expect_small_files(f, names, TP_COUNT_OF(names));
        assert_string_equal(f->plan.files[0].name,
                            zero_copy ? "array_store/model.safetensors" : "array_store/d/data-00001-of-00001");
        free_fixture(f);
    }
}

static void expect_tree(struct fixture *f, const char *structure, const char *leaves)
{
    char expected[2048];
    size_t len;
    snprintf(expected, sizeof expected, "{\n  \"__jax_pytreedef_repr\": \"%s\",\n  \"__jax_leaf_ids\": [\n%s\n  ]\n}",
             structure, leaves);
    lay_out(f);
    char *text = small_file(f, "pytreedef.json", &len);
    assert_int_equal(len, strlen(text));
    assert_string_equal(text, expected);
    free(text);
}

static void the_tree_is_the_text_that_jax_writes(void **state)
{
    (void)state;
    static const uint64_t matrix[] = {4, 3}, empty[] = {3, 0};
    struct fixture *f = new_fixture(3);
    add_array(f, "a", false, TP_BF16, matrix, 2, 0, 0);
    expect_tree(f, "EAAAAAAACgAQAA8ACAAEAAoAAAAMAAAAGAAAAAAAAAQBAAAABAAAAAEAAABhAAAAAQAAAAgAAAAEAAQABAAAAA==",
                "    \"Array(bfloat16[4, 3])\"");
    free_fixture(f);
    f = new_fixture(3);
    f->plan.ordered = true;
    add_array(f, "weights.layers[0].attn.q", true, TP_F16, NULL, 0, 0, 0);
    add_array(f, "a", true, TP_F32, empty, 2, 0, 0);
    expect_tree(
        f,
        "FAAAAAAADgAUABMADAAAAAgABAAOAAAAEAAAADQAAABMAAAAAAAABSEAAABbIndlaWdodHMubGF5ZXJzWzBdLmF0dG4ucSIsICJhIl0A"
        "AAAXAAAAY29sbGVjdGlvbnMuT3JkZXJlZERpY3QAAgAAABAAAAAEAAAA/P///wQABAAEAAAA",
        "    \"Array(float16[])\",\n    \"Array(float32[3, 0])\"");
    free_fixture(f);
    f = new_fixture(3);
    add_array(f, "0", false, TP_U8, matrix, 1, 0, 0);
    add_array(f, "1", false, TP_F8_E4M3, matrix, 1, 0, 0);
    f->options.tree = TP_TREE_LISTS;
    expect_tree(f, "DAAAAAgADAALAAQACAAAAAgAAAAAAAADAgAAABAAAAAEAAAA/P///wQABAAEAAAA",
                "    \"Array(uint8[4])\",\n    \"Array(float8_e4m3fn[4])\"");
    free_fixture(f);
}

static void an_ordered_tree_keeps_the_plans_order(void **state)
{
    (void)state;
    static const char *const names[] = {"w.layers[2].q", "w.layers[10].q", "w.layers[0].q", "b", "a"};
    static const uint64_t shape[] = {2};
    struct fixture *f = new_fixture(TP_COUNT_OF(names));
    f->plan.ordered = true;
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        add_array(f, names[i], true, TP_F32, shape, 1, 0, 0);
    lay_out(f);
    check_plan(&f->plan);
    const struct tp_store *store = f->plan.leaves;
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        assert_int_equal(store->numbers[i], i);
    free_fixture(f);
}

static void what_jax_cannot_hold_is_refused_by_name_all_at_once(void **state)
{
    (void)state;
    static const uint64_t shape[33] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                       1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct fixture *f = new_fixture(4);
    add_array(f, "fine", false, TP_F32, shape, 32, 0, 0);
    add_array(f, "deep", false, TP_F32, shape, 33, 0, 0);
    add_array(f, "six", false, TP_F6_E2M3, shape, 1, 0, 0);
    add_array(f, "latin\xe9", false, TP_F32, shape, 1, 0, 0);
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED),
                        "3 arrays cannot be held by a directory of JAX: 'deep' (more than 32 axes), 'six' (TensorStore "
                        "has no such dtype), 'latin\\xe9' (not UTF-8)");
    free_fixture(f);

    f = new_fixture(4);
    add_array(f, "a.b", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "a/b", false, TP_F32, shape, 1, 0, 0);
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED), "1 arrays have the name of another: a.b");
    free_fixture(f);

    f = new_fixture(4);
    f->plan.ordered = true;
    add_array(f, "a/b", false, TP_F32, shape, 1, 0, 0);
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED),
                        "1 arrays cannot be held by a directory of JAX: 'a.b' (several keys, where leaves have an "
                        "order of their own and one key each)");
    free_fixture(f);

    f = new_fixture(4);
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED), "there are no tensors");
    free_fixture(f);
}

static void a_list_with_a_gap_is_refused(void **state)
{
    (void)state;
    static const uint64_t shape[] = {2};
    static const char *const paths[] = {"layers/0/w", "layers/2/w", "x/0", "x/norm", "y/0"};
    struct fixture *f = new_fixture(TP_COUNT_OF(paths));
    for (size_t i = 0; i < TP_COUNT_OF(paths); i++)
        add_array(f, paths[i], false, TP_F32, shape, 1, 0, 0)->list_levels = i == 3 ? 0 : 2;
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED),
                        "the keys of a list must be 0, 1 and so on without a gap, but at layers.0.w, x.0");
    free_fixture(f);
}

static void files_that_would_lie_upon_ours_are_not_referred_to(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum tp_status status;
    } cases[] = {
        {"manifest.ocdbt", TP_ERR_UNSUPPORTED},
        {"d/data-00001-of-00001", TP_ERR_UNSUPPORTED},
        {"sub/model.safetensors", TP_OK},
        {"_METADATA", TP_OK}, /* which means nothing to JAX */
    };
    static const uint64_t shape[] = {2};
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct fixture *f = new_fixture(1);
        add_array(f, "w", false, TP_F32, shape, 1, 0, 0);
        f->files[0].name = cases[i].name;
        f->options.orbax.zero_copy = true;
        assert_int_equal(format->layout(&f->plan, &f->options, &f->err), cases[i].status);
        free_fixture(f);
    }
    struct fixture *f = new_fixture(1);
    add_array(f, "w", false, TP_F32, shape, 1, 0, 0);
    f->options.orbax.zero_copy = true;
    f->options.orbax.link = TP_LINK_IN_PLACE;
    refusal(f, TP_ERR_USAGE);
    free_fixture(f);
}

static void what_readers_cut_or_do_not_know_is_noted(void **state)
{
    (void)state;
    static const uint64_t shape[] = {2};
    struct fixture *f = new_fixture(4);
    add_array(f, "i", false, TP_I64, shape, 1, 0, 0);
    add_array(f, "d", false, TP_F64, shape, 1, 0, 0);
    add_array(f, "e", false, TP_F8_E8M0, shape, 1, 0, 0);
    add_array(f, "w", false, TP_F32, shape, 1, 0, 0);
    lay_out(f);
    assert_int_equal(f->plan.notes.count, 2);
    assert_non_null(strstr(f->plan.notes.items[0], "float8_e8m0fnu (of 1): without TensorStore 0.1.86"));
    assert_string_equal(f->plan.notes.items[1],
                        "2 arrays have 64-bit numbers, which JAX cuts to 32 bits without a word "
                        "unless jax_enable_x64 is set: i, d");
    free_fixture(f);
}

static void fifty_thousand_tensors_are_laid_out(void **state)
{
    (void)state;
    static const uint64_t shape[] = {64, 64};
    enum { COUNT = 50000 };
    struct fixture *f = new_fixture(COUNT);
    char(*names)[48] = calloc(COUNT, sizeof *names);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "model/layers/%u/experts/%u/w", i / 100, i % 100);
        add_array(f, names[i], false, TP_BF16, shape, 2, i % 3, 8192 * (uint64_t)i);
    }
    f->options.orbax.zero_copy = true;
    f->options.tree = TP_TREE_LISTS;
    lay_out(f);
    check_plan(&f->plan);
    free(small_file(f, "pytreedef.json", NULL));
    free(small_file(f, f->plan.small_files[0].name, NULL));
    free(names);
    free_fixture(f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_are_numbered_as_jax_visits_them),
        cmocka_unit_test(every_layout_has_its_small_files_in_their_order),
        cmocka_unit_test(the_tree_is_the_text_that_jax_writes),
        cmocka_unit_test(an_ordered_tree_keeps_the_plans_order),
        cmocka_unit_test(what_jax_cannot_hold_is_refused_by_name_all_at_once),
        cmocka_unit_test(a_list_with_a_gap_is_refused),
        cmocka_unit_test(files_that_would_lie_upon_ours_are_not_referred_to),
        cmocka_unit_test(what_readers_cut_or_do_not_know_is_noted),
        cmocka_unit_test(fifty_thousand_tensors_are_laid_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
