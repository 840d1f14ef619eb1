/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

/* ---- the reader ---- */

struct pieces { /* text handed out `step` bytes at a time */
    const char *text;
    size_t len, at, step;
};

static enum tp_status next_piece(void *user, char *dst, size_t cap, size_t *got, struct tp_error *err)
{
    struct pieces *p = user;
    (void)err;
    size_t n = p->len - p->at;
    n = n < p->step ? n : p->step;
    n = n < cap ? n : cap;
    memcpy(dst, p->text + p->at, n);
    p->at += n;
    *got = n;
    return TP_OK;
}

/* Pull everything; the tokens as one line of text go to `out`. */
static enum tp_status drain(struct tp_json *json, char *out, size_t cap, struct tp_error *err)
{
    static const char marks[] = "e{}[]kstntfz"; /* in the order of enum tp_json_type */
    struct tp_json_token t;
    size_t used = 0;
    enum tp_status status;
    while (!(status = tp_json_next(json, &t, err))) {
        if (out && used + t.len + 32 < cap) {
            char mark = t.type == TP_JSON_UINT ? 'u' : t.type == TP_JSON_NUMBER ? 'n' : marks[t.type];
            used += (size_t)snprintf(out + used, cap - used, "%c", mark);
            if (t.type == TP_JSON_KEY || t.type == TP_JSON_STRING || t.type == TP_JSON_NUMBER)
                used += (size_t)snprintf(out + used, cap - used, "<%s>", t.text);
            if (t.type == TP_JSON_UINT)
                used += (size_t)snprintf(out + used, cap - used, "<%llu>", (unsigned long long)t.uint_value);
        }
        if (t.type == TP_JSON_END)
            break;
    }
    return status;
}

static enum tp_status read_text(const char *text, size_t len, char *out, size_t cap, struct tp_error *err)
{
    struct tp_json *json;
    assert_int_equal(tp_json_open_text(&json, text, len, "text", 4096, err), TP_OK);
    enum tp_status status = drain(json, out, cap, err);
    tp_json_close(json);
    return status;
}

static enum tp_status read_pieces(const char *text, size_t len, size_t step, char *out, size_t cap,
                                  struct tp_error *err)
{
    struct pieces p = {text, len, 0, step};
    struct tp_json *json;
    assert_int_equal(tp_json_open(&json, next_piece, &p, "text", 4096, err), TP_OK);
    enum tp_status status = drain(json, out, cap, err);
    tp_json_close(json);
    return status;
}

static void valid_text_gives_its_tokens(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{}", "{}e"},
        {" [ ] ", "[]e"},
        {"\t\r\n{\"a\" : 1 , \"b\":[true,false,null,\"x\"]}\n", "{k<a>u<1>k<b>[tfzs<x>]}e"},
        {"0", "u<0>e"},
        {"-0", "n<-0>e"},
        {"1.50e+2", "n<1.50e+2>e"},
        {"9223372036854775807", "u<9223372036854775807>e"},
        {"9223372036854775808", "n<9223372036854775808>e"},
        {"18446744073709551616", "n<18446744073709551616>e"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s<\"\\/\b\f\n\r\t>e"},
        {"\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00\"", "s<A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80>e"},
        {"\"\x7f\xc3\xa9\xf4\x8f\xbf\xbf\"", "s<\x7f\xc3\xa9\xf4\x8f\xbf\xbf>e"},
        {"[[],{},[{}]]", "[[]{}[{}]]e"},
        {"\"\"", "s<>e"},
        {"{\"\":{\"\":\"\"}}", "{k<>{k<>s<>}}e"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char out[512] = "";
        struct tp_error err = {.code = TP_OK};
        assert_int_equal(read_text(rows[i][0], strlen(rows[i][0]), out, sizeof out, &err), TP_OK);
        assert_string_equal(out, rows[i][1]);
        for (size_t step = 1; step < 9; step++) { /* whatever the pieces, the tokens are the same */
            assert_int_equal(read_pieces(rows[i][0], strlen(rows[i][0]), step, out, sizeof out, &err), TP_OK);
            assert_string_equal(out, rows[i][1]);
        }
    }
}

static void invalid_text_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned at;
    } rows[] = {
        {"", 0},
        {"  ", 2},
        {"{", 1},
        {"[", 1},
        {"]", 0},
        {"}", 0},
        {"[1", 2},
        {"[1,", 3},
        {"[1,]", 3},
        {"[,1]", 1},
        {"[1 2]", 3},
        {"[1}", 2},
        {"{\"a\"}", 4},
        {"{\"a\":}", 5},
        {"{\"a\" 1}", 5},
        {"{\"a\":1,}", 7},
        {"{1:2}", 1},
        {"{a:1}", 1},
        {"{'a':1}", 1},
        {"tru", 0},
        {"nul", 0},
        {"True", 0},
        {"NaN", 0},
        {"Infinity", 0},
        {"-", 0},
        {"+1", 0},
        {"01", 1},
        {"1.", 0},
        {".5", 0},
        {"1e", 0},
        {"1e+", 0},
        {"0x10", 1},
        {"--1", 0},
        {"1e400", 0},
        {"-1e400", 0},
        {"\"", 1},
        {"\"a", 2},
        {"\"\\x41\"", 2},
        {"\"\\u12\"", 1},
        {"\"\\u12g4\"", 1},
        {"\"\\ud800\"", 1},
        {"\"\\udc00\"", 1},
        {"\"\\ud800\\u0041\"", 1},
        {"\"\\", 2},
        {"\"\n\"", 1},
        {"\"\x01\"", 1},
        {"\"\xff\"", 1},
        {"\"\xc0\x80\"", 1},
        {"\"\xed\xa0\x80\"", 1},
        {"\"\xf4\x90\x80\x80\"", 1},
        {"\"\xc3\"", 1},
        {"\"a\xe2\x82\"", 2},
        {"\xef\xbb\xbf{}", 0},
        {"{}x", 2},
        {"{}{}", 2},
        {"1 2", 2},
        {"{}\v", 2},
        {"/**/{}", 0},
        {"\"a\" \"b\"", 4},
        {"\xa0{}", 0},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char place[32];
        struct tp_error err = {.code = TP_OK};
        snprintf(place, sizeof place, "at byte %u", rows[i].at);
        if (read_text(rows[i].text, strlen(rows[i].text), NULL, 0, &err) != TP_ERR_FORMAT ||
            strcmp(err.message + strlen(err.message) - strlen(place), place) != 0)
            fail_msg("'%s': %s, expected '... %s'", rows[i].text, err.message, place);
        char first[256];
        snprintf(first, sizeof first, "%.200s", err.message);
        for (size_t step = 1; step < 5; step++) {
            assert_int_equal(read_pieces(rows[i].text, strlen(rows[i].text), step, NULL, 0, &err), TP_ERR_FORMAT);
            assert_string_equal(err.message, first);
        }
    }
}

static void pythons_constants_are_numbers_where_that_is_asked_for(void **state)
{
    static const struct {
        const char *text;
        double value; /* 0: refused */
    } cases[] = {{"NaN", NAN},
                 {"Infinity", INFINITY},
                 {"-Infinity", -INFINITY},
                 {"-NaN", 0},
                 {"nan", 0},
                 {"NaN1", 0},
                 {"Infinit", 0},
                 {"+Infinity", 0},
                 {"inf", 0},
                 {"-Inf", 0},
                 {"[1e999]", 0},
                 {"N", 0},
                 {"-", 0},
                 {"1.5", 1.5},
                 {"-I", 0}};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct tp_json *json;
        struct tp_json_token t, end;
        assert_int_equal(tp_json_open_text(&json, cases[i].text, strlen(cases[i].text), "text", 64, NULL), TP_OK);
        tp_json_allow_constants(json);
        enum tp_status status = tp_json_next(json, &t, NULL);
        if (cases[i].value != 0) {
            assert_int_equal(status, TP_OK);
            assert_int_equal(t.type, TP_JSON_NUMBER);
            assert_string_equal(t.text, cases[i].text);
            assert_true(isnan(cases[i].value) ? isnan(t.number_value) : t.number_value == cases[i].value);
        }
        while (!status && t.type != TP_JSON_END && !(status = tp_json_next(json, &end, NULL)))
            t = end;
        assert_int_equal(status, cases[i].value != 0 ? TP_OK : TP_ERR_FORMAT);
        tp_json_close(json);
    }
}

static void a_text_may_be_null_bytes(void **state)
{
    (void)state;
    struct tp_error err = {.code = TP_OK};
    assert_int_equal(read_text("{}\0", 3, NULL, 0, &err), TP_ERR_FORMAT);
    assert_int_equal(read_text("\0{}", 3, NULL, 0, &err), TP_ERR_FORMAT);
    assert_int_equal(read_text("\"\0\"", 3, NULL, 0, &err), TP_ERR_FORMAT);
}

static void an_escaped_nul_is_told(void **state)
{
    (void)state;
    struct tp_json *json;
    struct tp_json_token t;
    assert_int_equal(tp_json_open_text(&json, "\"a\\u0000b\"", 10, "text", 99, NULL), TP_OK);
    assert_int_equal(tp_json_next(json, &t, NULL), TP_OK);
    assert_true(t.has_nul);
    assert_int_equal(t.len, 3);
    assert_memory_equal(t.text, "a\0b", 4);
    tp_json_close(json);
}

static void nesting_ends_at_127_levels(void **state)
{
    (void)state;
    char text[512];
    for (size_t depth = 120; depth < 140; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(read_text(text, 2 * depth, NULL, 0, NULL), depth <= 127 ? TP_OK : TP_ERR_FORMAT);
    }
    size_t million = 1000000;
    char *deep = malloc(million);
    memset(deep, '[', million);
    assert_int_equal(read_text(deep, million, NULL, 0, NULL), TP_ERR_FORMAT);
    free(deep);
}

static void strings_have_a_limit_and_may_be_cut(void **state)
{
    (void)state;
    /* 4 bytes are kept; a code point is never split */
    static const char *const rows[][2] = {{"\"abcd\"", "abcd"},
                                          {"\"abcde\"", "abcd"},
                                          {"\"abc\xc3\xa9\"", "abc"},
                                          {"\"ab\xc3\xa9x\"", "ab\xc3\xa9"},
                                          {"\"\\u20acab\"", "\xe2\x82\xac"
                                                            "a"}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_json *json;
        struct tp_json_token t;
        struct tp_error err = {.code = TP_OK};
        size_t len = strlen(rows[i][0]);
        bool cut = i > 0;
        assert_int_equal(tp_json_open_text(&json, rows[i][0], len, "text", 4, &err), TP_OK);
        assert_int_equal(tp_json_next(json, &t, &err), cut ? TP_ERR_LIMIT : TP_OK);
        tp_json_close(json);
        assert_int_equal(tp_json_open_text(&json, rows[i][0], len, "text", 4, &err), TP_OK);
        tp_json_cut_strings(json);
        assert_int_equal(tp_json_next(json, &t, &err), TP_OK);
        assert_int_equal(t.cut, cut);
        assert_string_equal(t.text, rows[i][1]);
        assert_int_equal(tp_json_next(json, &t, &err), TP_OK);
        tp_json_close(json);
    }
}

static void a_cut_string_keeps_whole_code_points_and_its_length(void **state)
{
    (void)state;
    struct tp_json *json;
    struct tp_json_token t;
    const char text[] = "\"abc\xc3\xa9 and more\"";
    assert_int_equal(tp_json_open_text(&json, text, strlen(text), "text", 4, NULL), TP_OK);
    tp_json_cut_strings(json);
    assert_int_equal(tp_json_next(json, &t, NULL), TP_OK);
    assert_string_equal(t.text, "abc");
    assert_int_equal(t.full_len, strlen(text) - 2);
    tp_json_close(json);
}

static void text_larger_than_the_window_is_read_whole(void **state)
{
    (void)state;
    size_t count = 30000; /* some 1.5 MB: every kind of token meets the edge of a window somewhere */
    char *text = malloc(count * 64), *end = text;
    *end++ = '[';
    for (size_t i = 0; i < count; i++)
        end += snprintf(end, 64, "%s{\"k\\u00e9y\":\"v\xc3\xa9\xe2\x82\xac%zu\",\"n\":[%zu,-1.5e3,true,null]}",
                        i ? "," : "", i, i);
    *end++ = ']';
    struct pieces p = {text, (size_t)(end - text), 0, 10007};
    struct tp_json *json;
    struct tp_json_token t;
    struct tp_error err = {.code = TP_OK};
    size_t keys = 0;
    uint64_t sum = 0;
    assert_int_equal(tp_json_open(&json, next_piece, &p, "text", 64, &err), TP_OK);
    do {
        assert_int_equal(tp_json_next(json, &t, &err), TP_OK);
        if (t.type == TP_JSON_KEY)
            assert_memory_equal(text + t.offset, "\"", 1);
        keys += t.type == TP_JSON_KEY;
        sum += t.type == TP_JSON_UINT ? t.uint_value : 0;
    } while (t.type != TP_JSON_END);
    assert_int_equal(keys, 2 * count);
    assert_int_equal(sum, count * (count - 1) / 2);
    tp_json_close(json);
    free(text);
}

static void skipping_leaves_the_reader_behind_the_value(void **state)
{
    (void)state;
    const char text[] = "{\"a\":{\"b\":[1,{\"c\":\"a string beyond the limit\"}]},\"d\":7}";
    struct tp_json *json;
    struct tp_json_token t;
    assert_int_equal(tp_json_open_text(&json, text, strlen(text), "text", 8, NULL), TP_OK);
    assert_int_equal(tp_json_expect(json, TP_JSON_OBJECT_BEGIN, "it", &t, NULL), TP_OK);
    assert_int_equal(tp_json_expect(json, TP_JSON_KEY, "it", &t, NULL), TP_OK);
    assert_int_equal(tp_json_next(json, &t, NULL), TP_OK);
    assert_int_equal(tp_json_skip(json, &t, NULL), TP_OK);
    assert_int_equal(tp_json_expect(json, TP_JSON_KEY, "it", &t, NULL), TP_OK);
    assert_string_equal(t.text, "d");
    assert_int_equal(tp_json_expect(json, TP_JSON_UINT, "it", &t, NULL), TP_OK);
    assert_int_equal(tp_json_skip(json, &t, NULL), TP_OK);
    assert_int_equal(tp_json_expect(json, TP_JSON_OBJECT_END, "it", &t, NULL), TP_OK);
    assert_int_equal(tp_json_expect(json, TP_JSON_END, "it", &t, NULL), TP_OK);
    tp_json_close(json);
}

static void an_unexpected_type_is_told_in_words(void **state)
{
    (void)state;
    struct tp_json *json;
    struct tp_json_token t;
    struct tp_error err = {.code = TP_OK};
    assert_int_equal(tp_json_open_text(&json, "[{}]", 4, "text", 8, NULL), TP_OK);
    assert_int_equal(tp_json_next(json, &t, &err), TP_OK);
    assert_int_equal(tp_json_expect(json, TP_JSON_STRING, "'dtype'", &t, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "expected a string for 'dtype', found an object");
    tp_json_close(json);
}

/* ---- the writer ---- */

static enum tp_status collect(void *user, const char *text, size_t len, struct tp_error *err)
{
    (void)err;
    char **end = user;
    memcpy(*end, text, len);
    *end += len;
    **end = '\0';
    return TP_OK;
}

static void the_writer_places_commas_and_lines(void **state)
{
    (void)state;
    static struct tp_json_writer w;
    char out[512], *end = out;
    tp_json_writer_init(&w, collect, &end, NULL);
    tp_json_begin_object(&w);
    tp_json_key(&w, "a\"\n");
    tp_json_begin_array(&w);
    tp_json_newline(&w);
    tp_json_uint(&w, UINT64_MAX);
    tp_json_newline(&w);
    tp_json_cstring(&w, "\xc3\xa9\x1b");
    tp_json_begin_object(&w);
    tp_json_end_object(&w);
    tp_json_newline(&w);
    tp_json_end_array(&w);
    tp_json_key_len(&w, "bcd", 1);
    tp_json_bool(&w, true);
    tp_json_key(&w, "c");
    tp_json_null(&w);
    tp_json_end_object(&w);
    tp_json_newline(&w);
    assert_int_equal(tp_json_writer_finish(&w), TP_OK);
    assert_string_equal(
        out, "{\"a\\\"\\u000a\":[\n18446744073709551615,\n\"\xc3\xa9\\u001b\",{}\n],\"b\":true,\"c\":null}\n");
}

static void print_double(char *text, double value)
{
    static struct tp_json_writer w;
    char *end = text;
    tp_json_writer_init(&w, collect, &end, NULL);
    tp_json_double(&w, value);
    assert_int_equal(tp_json_writer_finish(&w), TP_OK);
}

static void doubles_are_written_as_short_as_they_read_back(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0, "0"},
                {-0.0, "-0"},
                {1, "1"},
                {0.1, "0.1"},
                {5e-324, "5e-324"},
                {1e22, "1e+22"},
                {123456789, "123456789"},
                {-65504, "-65504"},
                {1.7976931348623157e308, "1.7976931348623157e+308"},
                {0.30000000000000004, "0.30000000000000004"},
                {1.0 / 3, "0.3333333333333333"},
                {(double)NAN, "null"},
                {(double)INFINITY, "null"},
                {9007199254740993.0, "9007199254740992"}};
    char text[64];
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        print_double(text, rows[i].value);
        assert_string_equal(text, rows[i].text);
    }
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        double value;
        memcpy(&value, &random, sizeof value);
        if (i % 2)
            value = (double)(float)value; /* what statistics mostly are */
        if (!isfinite(value))
            continue;
        print_double(text, value);
        assert_true(strtod(text, NULL) == value);
        char shorter[64];
        for (int digits = 1; digits < 17; digits++) {
            snprintf(shorter, sizeof shorter, "%.*g", digits, value);
            if (strtod(shorter, NULL) == value) {
                assert_string_equal(text, shorter);
                break;
            }
        }
    }
}

static void the_locale_does_not_matter(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "cs_CZ.UTF-8", "nl_NL.UTF-8"};
    for (size_t i = 0; i < TP_COUNT_OF(names) && strcmp(localeconv()->decimal_point, ",") != 0; i++)
        setlocale(LC_NUMERIC, names[i]);
    char text[64]; /* where none of them is installed this still tests "C" */
    print_double(text, 0.5);
    assert_string_equal(text, "0.5");
    struct tp_json *json;
    struct tp_json_token t;
    assert_int_equal(tp_json_open_text(&json, "2.5e1", 5, "text", 8, NULL), TP_OK);
    assert_int_equal(tp_json_next(json, &t, NULL), TP_OK);
    assert_true(t.number_value == 25.0);
    tp_json_close(json);
    setlocale(LC_NUMERIC, "C");
}

static enum tp_status refuse(void *user, const char *text, size_t len, struct tp_error *err)
{
    (void)text;
    (void)len;
    (void)err;
    ++*(int *)user;
    return TP_ERR_SPACE;
}

static void the_first_failure_of_writing_is_kept(void **state)
{
    (void)state;
    static struct tp_json_writer w;
    static char text[100000];
    int calls = 0;
    memset(text, 'x', sizeof text);
    tp_json_writer_init(&w, refuse, &calls, NULL);
    tp_json_string(&w, text, sizeof text);
    tp_json_string(&w, text, sizeof text);
    assert_int_equal(tp_json_writer_finish(&w), TP_ERR_SPACE);
    assert_int_equal(calls, 1);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    static struct tp_json_writer w;
    static char text[70000], out[500000];
    char *end = out;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 127 + 1); /* every ASCII character */
    tp_json_writer_init(&w, collect, &end, NULL);
    tp_json_string(&w, text, sizeof text);
    assert_int_equal(tp_json_writer_finish(&w), TP_OK);
    struct tp_json *json;
    struct tp_json_token t;
    assert_int_equal(tp_json_open_text(&json, out, (size_t)(end - out), "text", sizeof text, NULL), TP_OK);
    assert_int_equal(tp_json_next(json, &t, NULL), TP_OK);
    assert_int_equal(t.len, sizeof text);
    assert_memory_equal(t.text, text, sizeof text);
    tp_json_close(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_text_gives_its_tokens),
        cmocka_unit_test(invalid_text_is_refused_with_its_place),
        cmocka_unit_test(pythons_constants_are_numbers_where_that_is_asked_for),
        cmocka_unit_test(a_text_may_be_null_bytes),
        cmocka_unit_test(an_escaped_nul_is_told),
        cmocka_unit_test(nesting_ends_at_127_levels),
        cmocka_unit_test(strings_have_a_limit_and_may_be_cut),
        cmocka_unit_test(a_cut_string_keeps_whole_code_points_and_its_length),
        cmocka_unit_test(text_larger_than_the_window_is_read_whole),
        cmocka_unit_test(skipping_leaves_the_reader_behind_the_value),
        cmocka_unit_test(an_unexpected_type_is_told_in_words),
        cmocka_unit_test(the_writer_places_commas_and_lines),
        cmocka_unit_test(doubles_are_written_as_short_as_they_read_back),
        cmocka_unit_test(the_locale_does_not_matter),
        cmocka_unit_test(the_first_failure_of_writing_is_kept),
        cmocka_unit_test(what_is_written_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
