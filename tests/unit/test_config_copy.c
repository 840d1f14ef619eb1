/* SPDX-License-Identifier: MIT */
/* config.json without quantization_config. Expected texts are what Python's json.dump(indent=2) writes. */
#include "fixture.h"

#include "job/config_copy.h"

struct setup {
    struct scratch s;
    struct tp_kernels kernels;
};

static int make(void **state)
{
    static struct setup setup;
    scratch_make(&setup.s);
    assert_true(tp_kernels_init(&setup.kernels, "scalar"));
    *state = &setup;
    return 0;
}

static int drop(void **state)
{
    remove_tree(((struct setup *)*state)->s.path);
    return 0;
}

/* malloc'd copy of `len` bytes of text; the digest of the text file must be of just these bytes. */
static char *copy_of(struct setup *t, const char *text, size_t len, bool *changed, size_t *copied)
{
    struct tp_text_file out;
    struct tp_digest digest, expected;
    write_file(t->s.path, "config.json", text, len);
    assert_int_equal(tp_text_file_open(&out, t->s.path, "copy.json", &t->kernels, NULL), TP_OK);
    assert_int_equal(tp_config_copy(scratch_at(&t->s, "config.json"), &out, changed, NULL), TP_OK);
    assert_int_equal(tp_text_file_close(&out, TP_OK, false, &digest, NULL), TP_OK);
    char *copy = read_file(t->s.path, "copy.json", copied);
    struct tp_hasher *hasher = tp_hasher_new(&t->kernels);
    tp_hasher_reset(hasher);
    tp_hasher_update(hasher, copy, *copied);
    expected = tp_hasher_digest(hasher);
    assert_memory_equal(&digest, &expected, sizeof digest);
    tp_hasher_free(hasher);
    unlink(scratch_at(&t->s, "copy.json"));
    return copy;
}

static void expect_change(struct setup *t, const char *text, const char *expected)
{
    bool changed = false;
    size_t len;
    char *copy = copy_of(t, text, strlen(text), &changed, &len);
    assert_string_equal(copy, expected);
    assert_true(changed);
    free(copy);
}

static void expect_same(struct setup *t, const char *text, size_t len)
{
    bool changed = true;
    size_t copied;
    char *copy = copy_of(t, text, len, &changed, &copied);
    assert_int_equal(copied, len);
    assert_memory_equal(copy, text, len);
    assert_false(changed);
    free(copy);
}

static void what_quantisation_says_is_left_out(void **state)
{
    expect_change(*state, "{\"a\":1,\"quantization_config\":{\"bits\":4,\"x\":[{\"}\":\"]\"}]},\"b\":[]}",
                  "{\n  \"a\": 1,\n  \"b\": []\n}");
    expect_change(*state, "{\"quantization_config\":null,\"a\":1}\n", "{\n  \"a\": 1\n}\n");
    expect_change(*state, "{\"a\":1,\"compression_config\":7}", "{\n  \"a\": 1\n}");
    expect_change(*state, "{\"quantization_config\":{}}", "{}");
    expect_change(*state, "{\"quant\\u0069zation_config\":{},\"quantization_config\":1}", "{}");
}

static void under_text_config_it_is_left_out_too(void **state)
{
    expect_change(*state,
                  "{\"text_config\":{\"quantization_config\":{\"bits\":4},\"n\":{\"quantization_config\":1},"
                  "\"compression_config\":[]},\"vision_config\":{\"quantization_config\":2},\"quantization_config\":3}",
                  "{\n  \"text_config\": {\n    \"n\": {\n      \"quantization_config\": 1\n    }\n  },\n"
                  "  \"vision_config\": {\n    \"quantization_config\": 2\n  }\n}");
    expect_change(*state, "{\"text_config\":{\"quantization_config\":{}}}", "{\n  \"text_config\": {}\n}");
    expect_change(*state, "{\"text_config\":[{\"quantization_config\":1}],\"compression_config\":0}",
                  "{\n  \"text_config\": [\n    {\n      \"quantization_config\": 1\n    }\n  ]\n}");
}

static void what_deepseek_v4_and_mlx_say_of_codes_is_left_out_too(void **state)
{
    expect_change(*state, "{\"expert_dtype\":\"fp4\",\"a\":1,\"quantization_config\":{\"expert_dtype\":\"fp4\"}}",
                  "{\n  \"a\": 1\n}");
    expect_change(*state,
                  "{\"quantization\":{\"group_size\":64,\"bits\":4,\"lm_head\":false},\"vision\":{\"quantization\":1},"
                  "\"text_config\":{\"quantization\":{\"bits\":4},\"expert_dtype\":\"fp8\",\"b\":2}}",
                  "{\n  \"vision\": {\n    \"quantization\": 1\n  },\n  \"text_config\": {\n    \"b\": 2\n  }\n}");
}

static void pythons_constants_are_copied_as_they_are(void **state)
{
    expect_change(*state,
                  "{\"a\":NaN,\"quantization_config\":{\"damp\":Infinity,\"x\":[NaN]},\"b\":[Infinity,-Infinity,1]}",
                  "{\n  \"a\": NaN,\n  \"b\": [\n    Infinity,\n    -Infinity,\n    1\n  ]\n}");
    expect_change(*state, "{\"quantization_config\":NaN}", "{}");
}

static void the_rest_keeps_its_order_and_its_text(void **state)
{
    expect_change(
        *state,
        " {\"z\" :1e-06, \"quantization_config\":0,\n\"a\":-0.0,\"big\":123456789012345678901234567890,\"f\":1.0000,"
        "\"e\":1E+2,\"s\":\"\\u00e9\\/\\\\\\\"\xc3\xa9\",\"\\\"k\\\\\":[1,[],{},[[true]],null,false,\"\"]}\r\n \n",
        "{\n  \"z\": 1e-06,\n  \"a\": -0.0,\n  \"big\": 123456789012345678901234567890,\n  \"f\": 1.0000,\n"
        "  \"e\": 1E+2,\n  \"s\": \"\\u00e9\\/\\\\\\\"\xc3\xa9\",\n  \"\\\"k\\\\\": [\n    1,\n    [],\n    {},\n"
        "    [\n      [\n        true\n      ]\n    ],\n    null,\n    false,\n    \"\"\n  ]\n}\n");
}

static void a_config_without_quantisation_is_copied_byte_for_byte(void **state)
{
    static const char *const texts[] = {"{ \"a\":1 ,\"b\":[ ]}\n\n", "{\"a\":{\"quantization_config\":1}}", "[]", "7",
                                        "\"quantization_config\"",   "[{\"quantization_config\":1}]"};
    for (size_t i = 0; i < TP_COUNT_OF(texts); i++)
        expect_same(*state, texts[i], strlen(texts[i]));
}

static void a_malformed_config_is_copied_byte_for_byte(void **state)
{
    static const char *const texts[] = {"",
                                        "{\"quantization_config\":{\"bits\":4}",
                                        "{\"quantization_config\":{}} x",
                                        "{\"quantization_config\":{},}",
                                        "{\"quantization_config\":nan}",
                                        "{\"quantization_config\":-NaN}",
                                        "{\"quantization_config\":1,\"s\":\"\\ud800\"}",
                                        "\xef\xbb\xbf{\"quantization_config\":1}",
                                        "{\"quantization_config\":1,\"s\":\"\xff\"}"};
    for (size_t i = 0; i < TP_COUNT_OF(texts); i++)
        expect_same(*state, texts[i], strlen(texts[i]));
    expect_same(*state, "{\"quantization_config\":1}\0", 26);
    char deep[400];
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    expect_same(*state, deep, sizeof deep);
}

/* Longer than every window: strings beyond what the reader keeps, and many members. */
static void a_large_config_is_copied_whole(void **state)
{
    enum { LONG = 100000, MANY = 20000 };
    size_t cap = 2 * LONG + MANY * 40, in = 0, out = 0;
    char *text = malloc(cap), *expected = malloc(cap);
    in += (size_t)snprintf(text, cap, "{\"template\":\"");
    out += (size_t)snprintf(expected, cap, "{\n  \"template\": \"");
    for (size_t i = 0; i < LONG; i += 2) {
        memcpy(text + in + i, i % 7 == 0 ? "\\\"" : "ab", 2);
        memcpy(expected + out + i, i % 7 == 0 ? "\\\"" : "ab", 2);
    }
    in += LONG;
    out += LONG;
    in += (size_t)snprintf(text + in, cap - in, "\",\"list\":[");
    out += (size_t)snprintf(expected + out, cap - out, "\",\n  \"list\": [\n");
    for (int i = 0; i < MANY; i++) {
        in += (size_t)snprintf(text + in, cap - in, "%s%d.50", i > 0 ? "," : "", i);
        out += (size_t)snprintf(expected + out, cap - out, "%s    %d.50", i > 0 ? ",\n" : "", i);
    }
    snprintf(text + in, cap - in, "],\"quantization_config\":{\"a\":[1,2,3]}}");
    snprintf(expected + out, cap - out, "\n  ]\n}");
    expect_change(*state, text, expected);
    free(text);
    free(expected);
}

static void a_missing_config_is_an_error(void **state)
{
    struct setup *t = *state;
    struct tp_text_file out;
    struct tp_error err = {.code = TP_OK};
    bool changed;
    assert_int_equal(tp_text_file_open(&out, t->s.path, "copy.json", &t->kernels, NULL), TP_OK);
    assert_int_equal(tp_config_copy(scratch_at(&t->s, "none.json"), &out, &changed, &err), TP_ERR_FORMAT);
    assert_non_null(strstr(err.path, "none.json"));
    assert_int_equal(tp_text_file_close(&out, TP_OK, false, NULL, NULL), TP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_quantisation_says_is_left_out),
        cmocka_unit_test(under_text_config_it_is_left_out_too),
        cmocka_unit_test(what_deepseek_v4_and_mlx_say_of_codes_is_left_out_too),
        cmocka_unit_test(pythons_constants_are_copied_as_they_are),
        cmocka_unit_test(the_rest_keeps_its_order_and_its_text),
        cmocka_unit_test(a_config_without_quantisation_is_copied_byte_for_byte),
        cmocka_unit_test(a_malformed_config_is_copied_byte_for_byte),
        cmocka_unit_test(a_large_config_is_copied_whole),
        cmocka_unit_test(a_missing_config_is_an_error),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
