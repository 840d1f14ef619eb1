/* SPDX-License-Identifier: MIT */
/* The layout of Orbax checkpoints, of plans made by hand. That Orbax reads them is tests/e2e/test_orbax_layout.py's. */
#define LAYOUT_FORMAT tp_format_orbax
#include "layout.h"

#include "format/orbax.h"

/* ---- tests ---- */

/* The node and manifest of a reference overlay: one F32 [2, 3] at byte 72 of model.safetensors. */
static void a_reference_overlay_comes_out_byte_for_byte(void **state)
{
    (void)state;
    static const char node_hex[] = "0cdb20ded3000000000000000000000111006d6f64656c2e7361666574656e736f7273020209"
                                   "03772f2e7a6172726179302e3095011800010048"
                                   "7b226368756e6b73223a5b322c335d2c22636f6d70726573736f72223a6e756c6c2c2264696d656e736"
                                   "96f6e5f736570617261746f72223a"
                                   "222e222c226474797065223a223c6634222c2266696c6c5f76616c7565223a6e756c6c2c2266696c746"
                                   "57273223a6e756c6c2c226f726465"
                                   "72223a2243222c227368617065223a5b322c335d2c227a6172725f666f726d6174223a327d8e4efc7e";
    static const uint64_t shape[] = {2, 3};
    struct fixture *f = new_fixture(1);
    uint8_t expected[400];
    size_t len, expected_len = from_hex(expected, node_hex);
    add_array(f, "w", false, TP_F32, shape, 2, 0, 72);
    f->options.orbax.zero_copy = true;
    lay_out(f);
    check_plan(&f->plan);
    assert_int_equal(f->plan.file_count, 1);
    assert_true(f->plan.files[0].is_linked);
    char *node = small_file(f, f->plan.small_files[0].name, &len);
    assert_int_equal(len, expected_len);
    assert_memory_equal(node, expected, len);
    free(node);
    uint8_t *manifest = (uint8_t *)small_file(f, "manifest.ocdbt", &len);
    static const char head[] = "0cdb3a2a64000000000000000000", commit[] = "00002a36fe9c9717";
    assert_int_equal(len, 100);
    from_hex(expected, head);
    assert_memory_equal(manifest, expected, 14);
    assert_memory_equal(manifest + 42, f->plan.small_files[0].name, 34); /* "d/" and the digest of the node ... */
    uint8_t uuid[16];
    from_hex(uuid, f->plan.small_files[0].name + 2);
    assert_memory_equal(manifest + 14, uuid, 16); /* ... which is the uuid too */
    from_hex(expected, commit);
    assert_memory_equal(manifest + 87, expected, 8);
    free(manifest);
    free_fixture(f);
}

static void chunks_fill_data_files_of_512_mib(void **state)
{
    (void)state;
    static const uint64_t norm[] = {4096}, square[] = {4096, 4096}, vocabulary[] = {128256, 4096}, empty[] = {0, 4},
                          prime[] = {700000033}, huge[] = {1310720, 1024};
    struct fixture *f = new_fixture(40);
    char names[40][16];
    for (unsigned i = 0; i < 30; i++) {
        snprintf(names[i], sizeof names[i], "layer.%u", i);
        add_array(f, names[i], true, TP_BF16, i % 3 ? square : norm, i % 3 ? 2 : 1, 0, 0);
    }
    add_array(f, "vocabulary", false, TP_BF16, vocabulary, 2, 0, 0);
    add_array(f, "empty", false, TP_BF16, empty, 2, 0, 0);
    add_array(f, "prime", false, TP_U8, prime, 1, 0, 0); /* cannot be cut: a file of its own */
    add_array(f, "number", false, TP_F64, NULL, 0, 0, 0);
    add_array(f, "huge", false, TP_F32, huge, 2, 0, 0); /* 5 GiB */
    lay_out(f);
    check_plan(&f->plan);
    assert_int_equal(tp_grid_chunk_count(&f->plan.arrays[1]), 16);
    assert_null(f->plan.arrays[0].grid);
    assert_int_equal(f->plan.arrays[31].first_extent, TP_NONE);
    const struct tp_out_file *own = &f->plan.files[f->plan.extents[f->plan.arrays[32].first_extent].file];
    assert_int_equal(own->extent_count, 1);
    assert_int_equal(own->size_bytes, prime[0]);
    char last[64];
    snprintf(last, sizeof last, "d/data-%05zu-of-%05zu", f->plan.file_count, f->plan.file_count);
    assert_string_equal(f->plan.files[f->plan.file_count - 1].name, last);
    assert_string_equal(f->plan.files[0].name + 12, last + 12);
    free_fixture(f);
}

static void keys_stand_in_the_database_as_they_are_sorted(void **state)
{
    (void)state;
    static const uint64_t shape[] = {24, 130}, one[] = {2};
    for (unsigned version = 2; version <= 3; version++) {
        struct fixture *f = new_fixture(8);
        add_array(f, "m", false, TP_U8, shape, 2, 0, 0);
        add_array(f, "m-", false, TP_U8, one, 1, 0, 0); /* '-' comes before '/', '0' behind it */
        add_array(f, "m0", false, TP_U8, one, 1, 0, 0);
        add_array(f, "a/b", false, TP_U8, one, 1, 0, 0);
        add_array(f, "a-b", false, TP_U8, one, 1, 0, 0);
        f->options.orbax.chunk_bytes = 1;
        f->options.orbax.zarr3 = version == 3;
        lay_out(f); /* the writer itself refuses keys out of order */
        check_plan(&f->plan);
        const struct tp_store *store = f->plan.leaves;
        assert_int_equal(store->version, version);
        assert_int_equal(store->entry_count, f->plan.extent_count + 5);
        free_fixture(f);
    }
}

static void references_come_last_and_sorted_and_may_share_bytes(void **state)
{
    (void)state;
    static const uint64_t shape[] = {4, 8}, empty[] = {0};
    struct fixture *f = new_fixture(8);
    add_array(f, "z", false, TP_F32, shape, 2, 2, 500);
    add_array(f, "tied", false, TP_F32, shape, 2, 1, 100);
    add_array(f, "cast", false, TP_F32, shape, 2, 1, 0);
    f->pieces[2].op = TP_OP_CAST;
    add_array(f, "also_tied", false, TP_F32, shape, 2, 1, 100);
    add_array(f, "before", false, TP_F32, shape, 2, 1, 20);
    add_array(f, "empty", false, TP_F32, empty, 1, 1, 20);
    f->options.orbax.zero_copy = true;
    f->options.orbax.item = "items";
    lay_out(f);
    check_plan(&f->plan);
    assert_int_equal(f->plan.file_count, 3);
    assert_string_equal(f->plan.files[0].name, "items/d/data-00001-of-00001");
    assert_string_equal(f->plan.files[1].name, "items/b.safetensors");
    assert_string_equal(f->plan.files[2].name, "items/a.safetensors");
    assert_int_equal(f->plan.files[2].source_file, 2);
    assert_int_equal(f->plan.files[1].extent_count, 3);
    assert_int_equal(f->plan.extents[1].array, 4);
    assert_int_equal(f->plan.extents[2].array, 1);
    assert_int_equal(f->plan.extents[3].array, 3);
    assert_int_equal(f->plan.block_count, 1);
    free_fixture(f);
}

static void every_layout_has_its_small_files_in_their_order(void **state)
{
    (void)state;
    static const uint64_t shape[] = {2};
    static const struct {
        struct tp_orbax_options options;
        const char *names[7];
        size_t count;
        const char *handlers;
    } cases[] = {
        {{0},
         {"d/*", "manifest.ocdbt", "_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"},
         5,
         "{\"item_handlers\":\"orbax.checkpoint._src.handlers.standard_checkpoint_handler."
         "StandardCheckpointHandler\","},
        {{.has_step = true},
         {"default/d/*", "default/manifest.ocdbt", "default/_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"},
         5,
         "{\"item_handlers\":{\"default\":\"orbax.checkpoint._src.handlers.standard_checkpoint_handler."},
        {{.item = "items"},
         {"items/d/*", "items/manifest.ocdbt", "items/_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"},
         5,
         "{\"item_handlers\":{\"items\":\"orbax.checkpoint._src.handlers.pytree_checkpoint_handler."},
        {{.layout = TP_ORBAX_V1},
         {"state/d/*", "state/manifest.ocdbt", "state/_METADATA", "_CHECKPOINT_METADATA", "orbax.checkpoint",
          "commit_success.txt"},
         6,
         "{\"item_handlers\":{\"state\":\"orbax.checkpoint.experimental.v1._src.handlers.pytree_handler."},
        {{.no_ocdbt = true},
         {"a.b/.zarray", "c/.zarray", "_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"},
         5,
         "{\"item_handlers\":\"orbax.checkpoint._src."},
        {{.no_ocdbt = true, .zarr3 = true},
         {"a.b/zarr.json", "c/zarr.json", "_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"},
         5,
         "{\"item_handlers\":\"orbax.checkpoint._src."},
    };
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct fixture *f = new_fixture(2);
        add_array(f, "a/b", false, TP_I16, shape, 1, 0, 0);
        add_array(f, "c", false, TP_I16, shape, 1, 0, 0);
        f->options.orbax = cases[i].options;
        lay_out(f);
        check_plan(&f->plan);
        expect_small_files(f, cases[i].names, cases[i].count);
        char *handlers = small_file(f, "_CHECKPOINT_METADATA", NULL);
        assert_memory_equal(handlers, cases[i].handlers, strlen(cases[i].handlers));
        free(handlers);
        if (cases[i].options.no_ocdbt)
            assert_string_equal(f->plan.files[1].name, cases[i].options.zarr3 ? "c/c/0" : "c/0");
        free_fixture(f);
    }
}

static void the_tree_has_lists_where_keys_count_from_zero(void **state)
{
    (void)state;
    static const uint64_t shape[] = {1};
    static const char *const paths[] = {"x/10/w", "x/0/w", "x/2/w", "x/1/w", "x/3/w", "x/4/w", "x/5/w",
                                        "x/6/w",  "x/7/w", "x/8/w", "x/9/w", "x/9/v", "y/1",   "y/2",
                                        "z/00",   "z/1",   "u/0",   "u/1/0", "u/1/1", "t/0",   "t/a"};
    static const struct {
        const char *tuple, *key_metadata; /* the types of its keys */
    } expected[] = {
        {"('x', '10', 'w')",
         "[{\"key\":\"x\",\"key_type\":2},{\"key\":\"10\",\"key_type\":1},{\"key\":\"w\",\"key_type\":2}]"},
        {"('y', '1')", "[{\"key\":\"y\",\"key_type\":2},{\"key\":\"1\",\"key_type\":2}]"},
        {"('z', '1')", "[{\"key\":\"z\",\"key_type\":2},{\"key\":\"1\",\"key_type\":2}]"},
        {"('u', '0')", "[{\"key\":\"u\",\"key_type\":2},{\"key\":\"0\",\"key_type\":1}]"},
        {"('u', '1', '1')",
         "[{\"key\":\"u\",\"key_type\":2},{\"key\":\"1\",\"key_type\":1},{\"key\":\"1\",\"key_type\":1}]"},
        {"('t', '0')", "[{\"key\":\"t\",\"key_type\":2},{\"key\":\"0\",\"key_type\":2}]"},
    };
    struct fixture *f = new_fixture(TP_COUNT_OF(paths));
    for (size_t i = 0; i < TP_COUNT_OF(paths); i++)
        add_array(f, paths[i], false, TP_U8, shape, 1, 0, 0);
    f->options.tree = TP_TREE_LISTS;
    lay_out(f);
    char *tree = small_file(f, "_METADATA", NULL);
    for (size_t i = 0; i < TP_COUNT_OF(expected); i++) {
        char entry[300];
        snprintf(entry, sizeof entry, "\"%s\":{\"key_metadata\":%s,", expected[i].tuple, expected[i].key_metadata);
        if (!strstr(tree, entry))
            fail_msg("no %s in %s", entry, tree);
    }
    assert_true(strstr(tree, "('x', '9', 'w')") < strstr(tree, "('x', '10', 'w')")); /* in the order of the list */
    free(tree);
    f->options.tree = TP_TREE_NESTED;
    tree = small_file(f, "_METADATA", NULL);
    assert_null(strstr(tree, "\"key_type\":1"));
    free(tree);
    free_fixture(f);
}

static void lists_are_also_what_a_map_says(void **state)
{
    (void)state;
    static const uint64_t shape[] = {1};
    static const char *const paths[] = {"x/0/w", "x/1/w", "y/0", "y/1"};
    struct fixture *f = new_fixture(TP_COUNT_OF(paths));
    for (size_t i = 0; i < TP_COUNT_OF(paths); i++)
        add_array(f, paths[i], false, TP_U8, shape, 1, 0, 0)->list_levels = paths[i][0] == 'x' ? 2 : 0;
    lay_out(f);
    char *tree = small_file(f, "_METADATA", NULL);
    assert_non_null(strstr(tree, "[{\"key\":\"x\",\"key_type\":2},{\"key\":\"1\",\"key_type\":1},"
                                 "{\"key\":\"w\",\"key_type\":2}]"));
    assert_non_null(strstr(tree, "[{\"key\":\"y\",\"key_type\":2},{\"key\":\"1\",\"key_type\":2}]"));
    free(tree);
    free_fixture(f);
    f = new_fixture(TP_COUNT_OF(paths));
    add_array(f, "x/1/w", false, TP_U8, shape, 1, 0, 0)->list_levels = 2;
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED),
                        "the keys of a list must be 0, 1 and so on without a gap, but at x.1.w");
    free_fixture(f);
}

static void tuples_are_quoted_as_python_does(void **state)
{
    (void)state;
    static const uint64_t shape[] = {1};
    static const struct {
        const char *name, *json;
    } cases[] = {
        {"plain", "\"('plain',)\":"},
        {"it's", "\"(\\\"it's\\\",)\":"},
        {"a'b\"c", "\"('a\\\\'b\\\"c',)\":"},
        {"back\\slash", "\"('back\\\\\\\\slash',)\":"},
        {"a\nb\x01", "\"('a\\\\nb\\\\x01',)\":"},
        {"caf\xc3\xa9", "\"('caf\xc3\xa9',)\":"},
    };
    struct fixture *f = new_fixture(TP_COUNT_OF(cases));
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        add_array(f, cases[i].name, true, TP_U8, shape, 1, 0, 0);
    lay_out(f);
    char *tree = small_file(f, "_METADATA", NULL);
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        if (!strstr(tree, cases[i].json))
            fail_msg("no %s in %s", cases[i].json, tree);
    free(tree);
    free_fixture(f);
}

static void small_pieces_of_large_tensors_are_copied_and_named(void **state)
{
    (void)state;
    static const uint64_t row[] = {16, 1024}, norm[] = {64};
    static const struct {
        uint64_t min_chunk, referred;
    } cases[] = {{0, 2}, {64 * KIB, 3}, {64 * KIB + 1, 2}, {1, 3}};
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct fixture *f = new_fixture(3);
        add_array(f, "part", false, TP_F32, row, 2, 0, 0); /* 64 KiB of 1 MiB */
        f->tensors[0].size_bytes = MIB;
        add_array(f, "whole", false, TP_F32, row, 2, 0, 0);
        add_array(f, "norm", false, TP_F32, norm, 1, 0, 0);
        f->options.orbax.zero_copy = true;
        f->options.orbax.min_chunk_bytes = cases[i].min_chunk;
        lay_out(f);
        check_plan(&f->plan);
        uint64_t referred = f->plan.files[f->plan.file_count - 1].extent_count;
        assert_int_equal(referred, cases[i].referred);
        assert_int_equal(f->plan.notes.count, cases[i].referred == 2);
        if (cases[i].referred == 2)
            assert_non_null(strstr(f->plan.notes.items[0], "part"));
        free_fixture(f);
    }
}

static void an_order_that_only_zarr3_says_makes_all_of_it_zarr3(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        struct fixture *f = new_fixture(TP_COUNT_OF(rows));
        struct tp_piece pieces[4];
        f->plan.logicals = f->rows.logicals;
        f->plan.arrays[0] = row_array(&rows[round ? 8 : 6], pieces); /* permute; transpose */
        f->plan.arrays[0].path = "w";
        f->plan.arrays[0].path_len = 1;
        f->plan.array_count = 1;
        f->options.orbax.zero_copy = true;
        f->options.orbax.min_chunk_bytes = 1;
        lay_out(f);
        check_plan(&f->plan);
        char *tree = small_file(f, "_METADATA", NULL);
        assert_non_null(strstr(tree, round ? "\"use_zarr3\":true" : "\"use_zarr3\":false"));
        free(tree);
        assert_int_equal(f->plan.notes.count, round);
        assert_int_equal(f->plan.extent_count, 1);
        assert_non_null(f->plan.arrays[0].grid->order);
        free_fixture(f);
    }
}

static void what_orbax_cannot_hold_is_refused_by_name_all_at_once(void **state)
{
    (void)state;
    static uint64_t ones[33];
    static const uint64_t shape[] = {2};
    for (unsigned i = 0; i < 33; i++)
        ones[i] = 1;
    struct fixture *f = new_fixture(8);
    add_array(f, "good", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "many axes", true, TP_F32, ones, 33, 0, 0);
    add_array(f, "32 axes", true, TP_F32, ones, 32, 0, 0);
    add_array(f, "folder/", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "packed", true, TP_F4, shape, 1, 0, 0);
    const char *message = refusal(f, TP_ERR_UNSUPPORTED);
    assert_string_equal(message, "4 arrays cannot be held by an Orbax checkpoint: 'many axes' (more than 32 axes), "
                                 "'folder/' (ends in '/'), '' (empty), 'packed' (TensorStore has no such dtype)");
    free_fixture(f);

    static const char *const plain[] = {"a/b", "..", "_METADATA", "x.__lock", "back\\slash", "d"};
    f = new_fixture(8);
    for (size_t i = 0; i < TP_COUNT_OF(plain); i++)
        add_array(f, plain[i], true, TP_F32, shape, 1, 0, 0);
    f->options.orbax.no_ocdbt = true;
    message = refusal(f, TP_ERR_UNSUPPORTED);
    assert_memory_equal(message, "6 arrays cannot", 15);
    f->options.orbax.no_ocdbt = false;
    lay_out(f);
    free_fixture(f);
}

static void arrays_inside_or_upon_each_other_are_refused(void **state)
{
    (void)state;
    static const uint64_t shape[] = {2};
    struct fixture *f = new_fixture(8);
    add_array(f, "a/0", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "a", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "a-", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "b.c", true, TP_F32, shape, 1, 0, 0);
    add_array(f, "b/c", false, TP_F32, shape, 1, 0, 0);
    assert_string_equal(refusal(f, TP_ERR_UNSUPPORTED), "2 arrays would lie inside or upon others: a/0, b.c");
    free_fixture(f);
}

static void options_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    static const char *const items[] = {"", "a/b", "..", "d", "_METADATA"};
    struct fixture *f = new_fixture(1);
    f->options.orbax.no_ocdbt = f->options.orbax.zero_copy = true;
    refusal(f, TP_ERR_USAGE);
    f->options.orbax.no_ocdbt = false;
    for (size_t i = 0; i < TP_COUNT_OF(items); i++) {
        f->options.orbax.item = items[i];
        refusal(f, TP_ERR_USAGE);
    }
    free_fixture(f);
    static const uint64_t shape[] = {2};
    f = new_fixture(1);
    add_array(f, "w", false, TP_F32, shape, 1, 0, 0);
    f->files[0].name = "d/data-00001-of-00001";
    f->options.orbax.zero_copy = true;
    refusal(f, TP_ERR_UNSUPPORTED);
    free_fixture(f);
}

static void a_checkpoint_without_arrays_is_refused(void **state)
{
    (void)state;
    struct fixture *f = new_fixture(1);
    refusal(f, TP_ERR_UNSUPPORTED);
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
    lay_out(f);
    check_plan(&f->plan);
    assert_int_equal(f->plan.file_count, 3);
    f->options.tree = TP_TREE_LISTS;
    free(small_file(f, "_METADATA", NULL));
    free(small_file(f, f->plan.small_files[0].name, NULL));
    free(names);
    free_fixture(f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reference_overlay_comes_out_byte_for_byte),
        cmocka_unit_test(chunks_fill_data_files_of_512_mib),
        cmocka_unit_test(keys_stand_in_the_database_as_they_are_sorted),
        cmocka_unit_test(references_come_last_and_sorted_and_may_share_bytes),
        cmocka_unit_test(every_layout_has_its_small_files_in_their_order),
        cmocka_unit_test(the_tree_has_lists_where_keys_count_from_zero),
        cmocka_unit_test(lists_are_also_what_a_map_says),
        cmocka_unit_test(tuples_are_quoted_as_python_does),
        cmocka_unit_test(small_pieces_of_large_tensors_are_copied_and_named),
        cmocka_unit_test(an_order_that_only_zarr3_says_makes_all_of_it_zarr3),
        cmocka_unit_test(what_orbax_cannot_hold_is_refused_by_name_all_at_once),
        cmocka_unit_test(arrays_inside_or_upon_each_other_are_refused),
        cmocka_unit_test(options_that_contradict_each_other_are_refused),
        cmocka_unit_test(a_checkpoint_without_arrays_is_refused),
        cmocka_unit_test(fifty_thousand_tensors_are_laid_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
