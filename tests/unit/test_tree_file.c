/* SPDX-License-Identifier: MIT */
/* tree.json, which anybody may have written. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "job/tree_file.h"
#include "scratch.h"

struct tree {
    struct tp_arena arena;
    struct tp_map_expected *leaves;
    size_t count;
};

static enum tp_status read_text(struct tree *tree, const char *text, struct tp_error *err)
{
    struct scratch s;
    scratch_make(&s);
    scratch_put(&s, "tree.json", text, strlen(text), 0);
    *tree = (struct tree){.count = 0};
    enum tp_status status =
        tp_tree_file_read(&tree->leaves, &tree->count, &tree->arena, scratch_at(&s, "tree.json"), err);
    scratch_remove(&s);
    return status;
}

static void release(struct tree *tree)
{
    free(tree->leaves);
    tp_arena_release(&tree->arena);
}

static void leaves_have_paths_shapes_and_dtypes(void **state)
{
    (void)state;
    struct tree t;
    assert_int_equal(read_text(&t,
                               "{\"a/b\": {\"shape\": [2, 3], \"dtype\": \"bfloat16\"},\n"
                               " \"c\": {\"sharding\": [{\"x\": null}], \"shape\": []}}",
                               NULL),
                     TP_OK);
    assert_int_equal(t.count, 2);
    assert_string_equal(t.leaves[0].path, "a/b");
    assert_int_equal(t.leaves[0].rank, 2);
    assert_int_equal(t.leaves[0].shape[1], 3);
    assert_int_equal(t.leaves[0].dtype, TP_BF16);
    assert_string_equal(t.leaves[1].path, "c");
    assert_int_equal(t.leaves[1].rank, 0);
    assert_int_equal(t.leaves[1].dtype, TP_DTYPE_NONE);
    release(&t);
    assert_int_equal(read_text(&t, "{}", NULL), TP_OK);
    assert_int_equal(t.count, 0);
    release(&t);
}

static void what_is_no_tree_is_refused(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {"[]", "found a list"},
        {"{} {}", ""},
        {"{\"a\": 3}", "a leaf"},
        {"{\"a\": {}}", "leaf 'a' has no \"shape\""},
        {"{\"a\": {\"dtype\": \"float32\"}}", "leaf 'a' has no \"shape\""},
        {"{\"a\": {\"shape\": 3}}", "'shape'"},
        {"{\"a\": {\"shape\": [3.5]}}", "leaf 'a' has a shape that is no list of whole numbers"},
        {"{\"a\": {\"shape\": [-1]}}", "leaf 'a' has a shape that is no list of whole numbers"},
        {"{\"a\": {\"shape\": [[]]}}", "leaf 'a' has a shape that is no list of whole numbers"},
        {"{\"a\": {\"shape\": [], \"dtype\": \"f\\u001b\"}}", "there is no dtype 'f\\x1b'"},
        {"{\"a\": {\"shape\": [], \"dtype\": null}}", "'dtype'"},
        {"{\"a\": {\"shape\": []}, \"a\": {\"shape\": []}}", "leaf 'a' is there twice"},
        {"{\"a\\u0000b\": {\"shape\": []}}", "holds NUL"},
        {"{\"a\": {\"shape\": [", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tree t;
        struct tp_error err;
        assert_int_equal(read_text(&t, rows[i][0], &err), TP_ERR_FORMAT);
        if (!strstr(err.message, rows[i][1]))
            fail_msg("%s: '%s' does not say '%s'", rows[i][0], err.message, rows[i][1]);
        assert_non_null(strstr(err.path, "tree.json"));
        assert_null(t.leaves);
        tp_arena_release(&t.arena);
    }
}

static void shapes_have_at_most_as_many_axes_as_tensors(void **state)
{
    (void)state;
    char text[512] = "{\"a\": {\"shape\": [1";
    struct tree t;
    struct tp_error err;
    for (int i = 1; i < 64; i++)
        memcpy(text + strlen(text), ",1", 3);
    size_t full = strlen(text);
    memcpy(text + full, "]}}", 4);
    assert_int_equal(read_text(&t, text, &err), TP_OK);
    assert_int_equal(t.leaves[0].rank, 64);
    release(&t);
    memcpy(text + full, ",1]}}", 6);
    assert_int_equal(read_text(&t, text, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "leaf 'a' has more axes than any tensor that is read");
    tp_arena_release(&t.arena);
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct tree t = {.count = 0};
    struct tp_error err;
    assert_int_equal(tp_tree_file_read(&t.leaves, &t.count, &t.arena, "/nowhere/tree.json", &err), TP_ERR_FORMAT);
    assert_string_equal(err.path, "/nowhere/tree.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_have_paths_shapes_and_dtypes),
        cmocka_unit_test(what_is_no_tree_is_refused),
        cmocka_unit_test(shapes_have_at_most_as_many_axes_as_tensors),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
