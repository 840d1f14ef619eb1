/* SPDX-License-Identifier: MIT */
/* What a map says of its target's loader, beside what the user says. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */
#include "map/map.h"
#include "tensorport/convert.h"

static struct tp_map *map_with(const char *output)
{
    char text[1024];
    struct tp_map *map = NULL;
    struct tp_error err;
    snprintf(text, sizeof text, "{\"tensorport_map\": 1, \"rules\": []%s%s}", *output ? ", \"output\": " : "", output);
    assert_int_equal(tp_map_parse(&map, text, strlen(text), NULL, &err), TP_OK);
    return map;
}

static const char maxtext[] = "{\"format\": \"orbax\", \"precision\": \"bfloat16\", \"step\": 7, \"item\": \"items\","
                              " \"wrap\": \"params\", \"tree\": \"nested\", \"oversize\": \"own-shard\","
                              " \"orbax_layout\": \"v1\", \"zarr3\": true}";

static void all_of_it_holds_where_the_user_said_nothing(void **state)
{
    (void)state;
    struct tp_convert_options o = {.map = map_with(maxtext)};
    assert_int_equal(tp_convert_options_take_map(&o, 0, NULL), TP_OK);
    assert_int_equal(o.format, TP_OUTPUT_ORBAX);
    assert_int_equal(o.precision, TP_PRECISION_BFLOAT16);
    assert_int_equal(o.tree, TP_TREE_NESTED);
    assert_int_equal(o.oversize, TP_OVERSIZE_SPLIT); /* Orbax has no such choice */
    assert_int_equal(o.orbax.layout, TP_ORBAX_V1);
    assert_true(o.orbax.has_step && o.orbax.zarr3);
    assert_int_equal(o.orbax.step, 7);
    assert_string_equal(o.orbax.item, "items");
    assert_string_equal(o.wrap, "params");
    tp_map_free((struct tp_map *)(uintptr_t)o.map);
}

static void what_the_user_said_stays(void **state)
{
    (void)state;
    struct tp_convert_options o = {.map = map_with(maxtext),
                                   .format = TP_OUTPUT_ORBAX,
                                   .precision = TP_PRECISION_FLOAT32,
                                   .tree = TP_TREE_LISTS,
                                   .wrap = "mine",
                                   .orbax = {.item = "own"}};
    unsigned given = TP_GIVEN_PRECISION | TP_GIVEN_TREE | TP_GIVEN_WRAP | TP_GIVEN_STEP | TP_GIVEN_ITEM |
                     TP_GIVEN_ORBAX_LAYOUT | TP_GIVEN_ZARR3;
    assert_int_equal(tp_convert_options_take_map(&o, given, NULL), TP_OK);
    assert_int_equal(o.precision, TP_PRECISION_FLOAT32);
    assert_int_equal(o.tree, TP_TREE_LISTS);
    assert_string_equal(o.wrap, "mine");
    assert_string_equal(o.orbax.item, "own");
    assert_false(o.orbax.has_step || o.orbax.zarr3);
    assert_int_equal(o.orbax.layout, TP_ORBAX_V0);
    tp_map_free((struct tp_map *)(uintptr_t)o.map);
}

static void another_format_takes_only_what_it_knows(void **state)
{
    (void)state;
    struct tp_convert_options o = {.map = map_with(maxtext), .format = TP_OUTPUT_SAFETENSORS};
    assert_int_equal(tp_convert_options_take_map(&o, TP_GIVEN_FORMAT, NULL), TP_OK);
    assert_int_equal(o.format, TP_OUTPUT_SAFETENSORS);
    assert_int_equal(o.precision, TP_PRECISION_BFLOAT16);
    assert_int_equal(o.oversize, TP_OVERSIZE_OWN_SHARD);
    assert_null(o.wrap);
    assert_null(o.orbax.item);
    assert_false(o.orbax.has_step || o.orbax.zarr3);
    tp_map_free((struct tp_map *)(uintptr_t)o.map);
}

static void without_a_word_of_precision_values_stay_as_they_are(void **state)
{
    (void)state;
    struct tp_convert_options o = {.map = map_with("")};
    assert_int_equal(tp_convert_options_take_map(&o, 0, NULL), TP_OK);
    assert_int_equal(o.format, TP_OUTPUT_FLAX_MSGPACK);
    assert_int_equal(o.precision, TP_PRECISION_KEEP);
    assert_null(o.wrap);
    tp_map_free((struct tp_map *)(uintptr_t)o.map);
}

static void the_way_back_writes_safetensors(void **state)
{
    (void)state;
    struct tp_convert_options o = {.map = map_with(maxtext), .reverse = true};
    assert_int_equal(tp_convert_options_take_map(&o, 0, NULL), TP_OK);
    assert_int_equal(o.format, TP_OUTPUT_SAFETENSORS);
    assert_int_equal(o.precision, TP_PRECISION_KEEP);
    assert_false(o.orbax.has_step);
    o.format = TP_OUTPUT_FLAX_MSGPACK;
    assert_int_equal(tp_convert_options_take_map(&o, TP_GIVEN_FORMAT, NULL), TP_OK);
    assert_int_equal(o.format, TP_OUTPUT_FLAX_MSGPACK);
    tp_map_free((struct tp_map *)(uintptr_t)o.map);
}

static void without_a_map_nothing_changes(void **state)
{
    (void)state;
    struct tp_convert_options o = {.reverse = true};
    assert_int_equal(tp_convert_options_take_map(&o, 0, NULL), TP_OK);
    assert_int_equal(o.format, TP_OUTPUT_FLAX_MSGPACK);
    assert_int_equal(o.precision, TP_PRECISION_FLOAT16);
}

static void words_that_there_are_not_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{\"format\": \"pickle\"}", "\"output\": there is no format 'pickle'"},
        {"{\"precision\": \"auto\"}", "\"output\": there is no precision 'auto'"},
        {"{\"tree\": \"deep\"}", "\"output\": there is no tree 'deep'"},
        {"{\"oversize\": \"\"}", "\"output\": there is no oversize ''"},
        {"{\"orbax_layout\": \"v\\u001b\"}", "\"output\": there is no orbax_layout 'v\\x1b'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tp_error err;
        struct tp_convert_options o = {.map = map_with(rows[i][0])};
        assert_int_equal(tp_convert_options_take_map(&o, 0x1ff, &err), TP_ERR_FORMAT); /* even if nobody would use it */
        assert_string_equal(err.message, rows[i][1]);
        tp_map_free((struct tp_map *)(uintptr_t)o.map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_holds_where_the_user_said_nothing),
        cmocka_unit_test(what_the_user_said_stays),
        cmocka_unit_test(another_format_takes_only_what_it_knows),
        cmocka_unit_test(without_a_word_of_precision_values_stay_as_they_are),
        cmocka_unit_test(the_way_back_writes_safetensors),
        cmocka_unit_test(without_a_map_nothing_changes),
        cmocka_unit_test(words_that_there_are_not_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
