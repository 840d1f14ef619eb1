/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <string.h>

#include "map/parse.h"

static const char config_text[] =
    "{\"hidden_size\": 4096, \"num_attention_heads\": 32, \"rms_norm_eps\": 1e-06, \"tied\": true, \"untied\": false,"
    " \"hidden_size_list\": [1, 2], \"rope\": {\"factor\": 8.0, \"deep\": {\"er\": 3}}, \"head_dim\": null,"
    " \"text_config\": {\"hidden_size\": 1, \"vision\": 7, \"rope\": {\"theta\": 10000}}, \"zero\": 0, \"twice\": 1,"
    " \"a.b\": 9, \"infinite\": Infinity, \"twice\": 2, \"model_type\": \"llama\"}";

/* An arena, a config and a map of dims for one test. */
struct stage {
    struct tp_arena arena;
    struct tp_config_numbers *config;
    struct tp_dim dims[TP_MAP_DIMS_MAX];
    struct tp_map map;
    struct tp_expr_scope scope;
};

static int set_up(void **state)
{
    static struct stage stage;
    memset(&stage, 0, sizeof stage);
    struct tp_error err;
    assert_int_equal(tp_config_numbers_read(&stage.config, config_text, strlen(config_text), &err), TP_OK);
    stage.map.dims = stage.dims;
    stage.scope = (struct tp_expr_scope){&stage.map, stage.config};
    *state = &stage;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *s = *state;
    tp_config_numbers_free(s->config);
    tp_arena_release(&s->arena);
    return 0;
}

static const struct tp_expr *expr_of(struct stage *s, const char *text)
{
    const struct tp_expr *expr = NULL;
    struct tp_error err = {.code = TP_OK};
    if (tp_expr_parse(&expr, &s->arena, text, strlen(text), &err))
        fail_msg("%s", err.message);
    return expr;
}

static void add_dim(struct stage *s, const char *name, const char *size)
{
    s->dims[s->map.dim_count++] = (struct tp_dim){name, expr_of(s, size)};
}

static void must_be(struct stage *s, const char *text, double expected)
{
    char missing[256] = "";
    double value = -12345;
    if (!tp_expr_evaluate(&value, expr_of(s, text), &s->scope, missing))
        fail_msg("%s: %s", text, missing);
    if (value != expected)
        fail_msg("%s: %.17g, not %.17g", text, value, expected);
}

static void must_be_missing(struct stage *s, const char *text, const char *words)
{
    char missing[256] = "";
    double value;
    if (tp_expr_evaluate(&value, expr_of(s, text), &s->scope, missing))
        fail_msg("%s: %.17g", text, value);
    assert_string_equal(missing, words);
    assert_false(tp_expr_evaluate(&value, expr_of(s, text), &s->scope, NULL));
}

static void operators_bind_as_in_arithmetic(void **state)
{
    struct stage *s = *state;
    must_be(s, "1+2*3", 7);
    must_be(s, "(1+2)*3", 9);
    must_be(s, "2-3-4", -5);
    must_be(s, "2-(3-4)", 3);
    must_be(s, "16/4/2", 2);
    must_be(s, "16/(4/2)", 8);
    must_be(s, "-2*3", -6);
    must_be(s, "2*-3", -6);
    must_be(s, "--2", 2);
    must_be(s, "-(1+2)", -3);
    must_be(s, "1 - -1", 2);
    must_be(s, "sqrt(16)", 4);
    must_be(s, "sqrt ( 9 ) * 2", 6);
    must_be(s, "-sqrt(sqrt(16))", -2);
    must_be(s, "1/sqrt(64)", 0.125);
    must_be(s, "sqrt(9)+sqrt(16)", 7);
    must_be(s, "  ( ( 1 ) )  ", 1);
    must_be(s, "1|2", 1);
    must_be(s, "1+1|5", 2);
    must_be(s, "hidden_size*0.5", 2048);
}

static void decimals_are_the_nearest_doubles(void **state)
{
    struct stage *s = *state;
    must_be(s, "0.1", 0.1);
    must_be(s, "1e-6", 1e-6);
    must_be(s, "2.5E+2", 250);
    must_be(s, "0.08838834764831844055", 0.08838834764831844055);
    must_be(s, "9007199254740993", 9007199254740992.0);
    must_be(s, "123456789012345678901234567890", 123456789012345678901234567890.0);
}

static void names_are_paths_in_the_config(void **state)
{
    struct stage *s = *state;
    must_be(s, "hidden_size", 4096); /* the top comes before text_config */
    must_be(s, "text_config.hidden_size", 1);
    must_be(s, "vision", 7);
    must_be(s, "rope.factor", 8);
    must_be(s, "rope.theta", 10000);
    must_be(s, "rope.deep.er", 3);
    must_be(s, "tied + untied", 1);
    must_be(s, "twice", 2); /* as in Python, the last one */
    must_be(s, "rms_norm_eps", 1e-6);
    must_be(s, "a.b | 5", 5); /* a key with a dot is no path */
    must_be(s, "hidden_size_list | 5", 5);
    must_be(s, "model_type | head_dim | 5", 5);
    must_be(s, "sqrt | 6", 6);
}

static void the_first_that_exists_is_taken(void **state)
{
    struct stage *s = *state;
    must_be(s, "head_dim | hidden_size / num_attention_heads", 128);
    must_be(s, "hidden_size | head_dim", 4096);
    must_be(s, "a | b | c | 4", 4);
    must_be(s, "a + 1 | 3", 3);
    must_be(s, "(a | 3) + 1", 4);
    must_be(s, "sqrt(a) | 2", 2);
    must_be(s, "-a | 2", 2);
    must_be(s, "2 | 1/0", 2);                                   /* not asked */
    must_be_missing(s, "1/0 | 2", "'1/0 | 2' divides by zero"); /* there, but wrong */
}

static void dims_are_found_in_any_order(void **state)
{
    struct stage *s = *state;
    add_dim(s, "q", "n * h");
    add_dim(s, "h", "head_dim | hidden_size / n");
    add_dim(s, "n", "num_attention_heads");
    add_dim(s, "hidden_size_of_mine", "3");
    add_dim(s, "vision", "1"); /* a dim comes before the config */
    must_be(s, "q", 4096);
    must_be(s, "q / h + n", 64);
    must_be(s, "vision", 1);
}

static void a_chain_of_dims_that_each_ask_twice_is_short_work(void **state)
{
    struct stage *s = *state;
    char names[TP_MAP_DIMS_MAX][8], sizes[TP_MAP_DIMS_MAX][32];
    for (unsigned i = 0; i < TP_MAP_DIMS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "d%u", i);
        snprintf(sizes[i], sizeof sizes[i], "(d%u + d%u) / 2", i + 1, i + 1);
        add_dim(s, names[i], i + 1 < TP_MAP_DIMS_MAX ? sizes[i] : "5");
    }
    must_be(s, "d0", 5);
}

static void what_has_no_value_is_named(void **state)
{
    struct stage *s = *state;
    add_dim(s, "a", "b + 1");
    add_dim(s, "b", "2 * a");
    add_dim(s, "c", "unknown * 2");
    must_be_missing(s, "1 + nothing", "'nothing' is neither a dim of the map nor a number in config.json");
    must_be_missing(s, "c", "'unknown' is neither a dim of the map nor a number in config.json");
    must_be_missing(s, "a | 3", "the dim 'a' needs itself");
    must_be_missing(s, "1 / zero", "'1 / zero' divides by zero");
    must_be_missing(s, "sqrt(-1)", "'sqrt(-1)' takes the square root of a negative number");
    must_be_missing(s, "1e300 * 1e300", "'1e300 * 1e300' is out of range");
    must_be_missing(s, "infinite", "'infinite' is out of range");
    s->scope.config = NULL;
    must_be_missing(s, "hidden_size", "'hidden_size' is not a dim of the map, and there is no config.json");
}

static void whole_numbers_are_whole(void **state)
{
    struct stage *s = *state;
    char missing[256];
    uint64_t value;
    assert_true(tp_expr_evaluate_whole(&value, expr_of(s, "hidden_size/32"), &s->scope, 1, missing));
    assert_int_equal(value, 128);
    assert_true(tp_expr_evaluate_whole(&value, expr_of(s, "0"), &s->scope, 0, missing));
    assert_false(tp_expr_evaluate_whole(&value, expr_of(s, "0"), &s->scope, 1, missing));
    assert_string_equal(missing, "'0' is 0, not a whole number from 1 on");
    assert_false(tp_expr_evaluate_whole(&value, expr_of(s, "5/2"), &s->scope, 1, missing));
    assert_string_equal(missing, "'5/2' is 2.5, not a whole number from 1 on");
    assert_false(tp_expr_evaluate_whole(&value, expr_of(s, "1e16"), &s->scope, 1, NULL));
    assert_false(tp_expr_evaluate_whole(&value, expr_of(s, "0-1"), &s->scope, 0, missing));
    assert_string_equal(missing, "'0-1' is -1, not a whole number from 0 on");
    assert_false(tp_expr_evaluate_whole(&value, expr_of(s, "nothing"), &s->scope, 0, missing));
}

static void what_is_no_expression_is_refused_with_the_place(void **state)
{
    struct stage *s = *state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "the expression '' ends where a number, a name, '-' or '(' is expected"},
        {"1+", "the expression '1+' ends where a number, a name, '-' or '(' is expected"},
        {"1 2", "the expression '1 2' has '2' at character 3, where an operator is expected"},
        {"2h", "the expression '2h' has 'h' at character 2, where an operator is expected"},
        {"1.", "the expression '1.' has '.' at character 2, where an operator is expected"},
        {"a.", "the expression 'a.' has '.' at character 2, where an operator is expected"},
        {"a..b", "the expression 'a..b' has '.' at character 2, where an operator is expected"},
        {"*2", "the expression '*2' has '*' at character 1, where a number, a name, '-' or '(' is expected"},
        {"1||2", "the expression '1||2' has '|' at character 3, where a number, a name, '-' or '(' is expected"},
        {"(1", "the expression '(1' ends where ')' is expected"},
        {"1)", "the expression '1)' has ')' at character 2, where an operator is expected"},
        {"()", "the expression '()' has ')' at character 2, where a number, a name, '-' or '(' is expected"},
        {"sqrt()", "the expression 'sqrt()' has ')' at character 6, where a number, a name, '-' or '(' is expected"},
        {"007", "the expression '007' has '0' at character 1, where a number within the range of doubles and without "
                "leading zeros is expected"},
        {"1e999", "the expression '1e999' has '1' at character 1, where a number within the range of doubles and "
                  "without leading zeros is expected"},
        {"1e", "the expression '1e' has 'e' at character 2, where an operator is expected"},
        {"1\t", "the expression '1\\x09' has '\\x09' at character 2, where an operator is expected"},
        {"a\xc3\xa9", "the expression 'a\xc3\xa9' has '\\xc3' at character 2, where an operator is expected"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        const struct tp_expr *expr;
        struct tp_error err = {.code = TP_OK};
        assert_int_equal(tp_expr_parse(&expr, &s->arena, rows[i].text, strlen(rows[i].text), &err), TP_ERR_FORMAT);
        assert_string_equal(err.message, rows[i].message);
    }
}

static void long_and_deep_ones_are_refused(void **state)
{
    struct stage *s = *state;
    const struct tp_expr *expr;
    struct tp_error err;
    char text[512] = "1";
    for (unsigned i = 1; i < 32; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "+1");
    must_be(s, text, 32);
    snprintf(text + strlen(text), sizeof text - strlen(text), "+1");
    assert_int_equal(tp_expr_parse(&expr, &s->arena, text, strlen(text), &err), TP_ERR_LIMIT);
    must_be(s, "1-(1-(1-(1-(1-(1-(1-1))))))", 0);
    static const char deep[] = "1-(1-(1-(1-(1-(1-(1-(1-1)))))))";
    assert_int_equal(tp_expr_parse(&expr, &s->arena, deep, strlen(deep), &err), TP_ERR_LIMIT);
    assert_string_equal(err.message, "the expression '1-(1-(1-(1-(1-(1-(1-(1-1)))))))' is too long: at most 64 parts, "
                                     "of which at most 8 wait for others");
    memset(text, '(', sizeof text);
    assert_int_equal(tp_expr_parse(&expr, &s->arena, text, sizeof text, &err), TP_ERR_LIMIT);
    memset(text, '-', sizeof text);
    assert_int_equal(tp_expr_parse(&expr, &s->arena, text, sizeof text, &err), TP_ERR_LIMIT);
}

/* ---- config.json ---- */

static void a_config_that_is_no_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "[]", "1", "{", "{\"a\": }", "{} {}", "{\"a\": 1,}", "null"};
    for (size_t i = 0; i < TP_COUNT_OF(texts); i++) {
        struct tp_config_numbers *numbers;
        struct tp_error err = {.code = TP_OK};
        assert_int_equal(tp_config_numbers_read(&numbers, texts[i], strlen(texts[i]), &err), TP_ERR_FORMAT);
        assert_null(numbers);
        assert_int_equal(err.code, TP_ERR_FORMAT);
    }
}

static void no_config_has_no_numbers(void **state)
{
    (void)state;
    struct tp_config_numbers *numbers;
    double value;
    assert_int_equal(tp_config_numbers_read(&numbers, NULL, 0, NULL), TP_OK);
    assert_false(tp_config_numbers_find(numbers, "a", &value));
    tp_config_numbers_free(numbers);
}

/* label2id of an ImageNet model has 21,000 rows. */
static void long_tables_do_not_hide_settings(void **state)
{
    (void)state;
    static char text[1 << 20];
    size_t used = 0;
    struct tp_config_numbers *numbers;
    struct tp_error err;
    double value;
    used += (size_t)snprintf(text + used, sizeof text - used, "{\"first\": 1, \"label2id\": {");
    for (unsigned i = 0; i < 21000; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\"n%u\": %u", i ? ", " : "", i, i);
    used += (size_t)snprintf(text + used, sizeof text - used, "}, \"last\": 2}");
    assert_int_equal(tp_config_numbers_read(&numbers, text, used, &err), TP_OK);
    assert_true(tp_config_numbers_find(numbers, "last", &value) && value == 2);
    assert_true(tp_config_numbers_find(numbers, "label2id.n255", &value) && value == 255);
    assert_false(tp_config_numbers_find(numbers, "label2id.n256", &value));
    tp_config_numbers_free(numbers);
}

static void more_numbers_than_a_config_has_are_refused(void **state)
{
    (void)state;
    static char text[1 << 18];
    size_t used = 0;
    struct tp_config_numbers *numbers;
    struct tp_error err;
    used = (size_t)snprintf(text, sizeof text, "{");
    for (unsigned object = 0; object <= 16; object++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\"o%u\": {", object ? "," : "", object);
        for (unsigned i = 0; i < 256; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s\"a%u\": 1", i ? "," : "", i);
        used += (size_t)snprintf(text + used, sizeof text - used, "}");
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "}");
    assert_int_equal(tp_config_numbers_read(&numbers, text, used, &err), TP_ERR_LIMIT);
    assert_string_equal(err.message, "config.json has more than 4096 numbers");
}

static void deep_nesting_and_long_keys_are_passed_over(void **state)
{
    (void)state;
    char text[2048];
    struct tp_config_numbers *numbers;
    struct tp_error err;
    double value;
    size_t used = (size_t)snprintf(text, sizeof text, "{\"before\": 1, ");
    for (unsigned i = 0; i < 100; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\"a\": {");
    used += (size_t)snprintf(text + used, sizeof text - used, "\"b\": 1");
    for (unsigned i = 0; i < 100; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "}");
    used += (size_t)snprintf(text + used, sizeof text - used, ", \"");
    memset(text + used, 'k', 600);
    used += 600;
    used += (size_t)snprintf(text + used, sizeof text - used, "\": 5, \"\": 6, \"after\": 2}");
    assert_int_equal(tp_config_numbers_read(&numbers, text, used, &err), TP_OK);
    assert_true(tp_config_numbers_find(numbers, "before", &value) && value == 1);
    assert_true(tp_config_numbers_find(numbers, "after", &value) && value == 2);
    assert_false(tp_config_numbers_find(numbers, "b", &value));
    assert_false(tp_config_numbers_find(numbers, "", &value));
    tp_config_numbers_free(numbers);
}

int main(void)
{
#define STAGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        STAGED(operators_bind_as_in_arithmetic),
        STAGED(decimals_are_the_nearest_doubles),
        STAGED(names_are_paths_in_the_config),
        STAGED(the_first_that_exists_is_taken),
        STAGED(dims_are_found_in_any_order),
        STAGED(a_chain_of_dims_that_each_ask_twice_is_short_work),
        STAGED(what_has_no_value_is_named),
        STAGED(whole_numbers_are_whole),
        STAGED(what_is_no_expression_is_refused_with_the_place),
        STAGED(long_and_deep_ones_are_refused),
        cmocka_unit_test(a_config_that_is_no_object_is_refused),
        cmocka_unit_test(no_config_has_no_numbers),
        cmocka_unit_test(long_tables_do_not_hide_settings),
        cmocka_unit_test(more_numbers_than_a_config_has_are_refused),
        cmocka_unit_test(deep_nesting_and_long_keys_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
