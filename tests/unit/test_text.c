/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "base/utf8.h"
#include "tensorport/text.h"

static const char *shown(const char *text)
{
    static char out[256];
    return tp_text_printable(out, sizeof out, text, strlen(text));
}

static void what_could_move_the_cursor_is_escaped(void **state)
{
    (void)state;
    assert_string_equal(shown("model.layers.0"), "model.layers.0");
    assert_string_equal(shown("a\x1b[31mb\x07\n\t\r\x7f"), "a\\x1b[31mb\\x07\\x0a\\x09\\x0d\\x7f");
    assert_string_equal(shown("\xc2\x85\xc2\x9b"), "\\u{0085}\\u{009b}"); /* C1 */
    assert_string_equal(shown("a\xe2\x80\xae"
                              "b\xe2\x81\xa6"
                              "c"),
                        "a\\u{202e}b\\u{2066}c");                                 /* bidi */
    assert_string_equal(shown("\xef\xbb\xbf\xe2\x80\x8b"), "\\u{feff}\\u{200b}"); /* invisible */
    assert_string_equal(shown("caf\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80"),
                        "caf\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x98\x80");
}

static void what_is_not_utf8_is_escaped_byte_by_byte(void **state)
{
    (void)state;
    assert_string_equal(shown("\xff\xfe"), "\\xff\\xfe");
    assert_string_equal(shown("\xc0\x80"), "\\xc0\\x80");
    assert_string_equal(shown("\xed\xa0\x80"), "\\xed\\xa0\\x80");
    assert_string_equal(shown("a\xe2\x82"), "a\\xe2\\x82");
    assert_string_equal(shown("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
    char out[16];
    assert_string_equal(tp_text_printable(out, sizeof out, "a\0b", 3), "a\\x00b");
}

static void what_does_not_fit_ends_in_dots(void **state)
{
    (void)state;
    char out[64];
    static const char text[] = "ab\xc3\xa9\x1b"
                               "cdefgh";
    for (size_t cap = 4; cap < sizeof out; cap++) {
        memset(out, 'X', sizeof out);
        tp_text_printable(out, cap, text, strlen(text));
        size_t len = strlen(out);
        assert_true(len < cap);
        assert_true(cap == sizeof out || out[cap] == 'X');
        uint32_t c;
        for (size_t i = 0, step; i < len; i += step)
            assert_true((step = tp_utf8_decode(out + i, len - i, &c)) > 0); /* never half a code point */
        if (cap <= 14)
            assert_string_equal(out + len - 3, "...");
        else
            assert_string_equal(out, "ab\xc3\xa9\\x1bcdefgh");
    }
}

static void the_inside_of_a_json_string_is_escaped(void **state)
{
    (void)state;
    char out[64];
    assert_int_equal(tp_text_json(out, sizeof out, "a\"\\\n\x01\x7f\xc3\xa9", 8), 25);
    assert_string_equal(out, "a\\\"\\\\\\u000a\\u0001\\u007f\xc3\xa9");
    assert_int_equal(tp_text_json(out, 4, "abcdefgh", 8), 8); /* what is needed, whatever fits */
    assert_int_equal(tp_text_json(NULL, 0, "\n\n", 2), 12);
}

static void utf8_is_decoded_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        uint32_t c;
    } rows[] = {{"a", 1, 'a'},
                {"\xc2\x80", 2, 0x80},
                {"\xdf\xbf", 2, 0x7ff},
                {"\xe0\xa0\x80", 3, 0x800},
                {"\xed\x9f\xbf", 3, 0xd7ff},
                {"\xee\x80\x80", 3, 0xe000},
                {"\xef\xbf\xbf", 3, 0xffff},
                {"\xf0\x90\x80\x80", 4, 0x10000},
                {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
                {"\xc1\xbf", 0, 0},
                {"\xe0\x9f\xbf", 0, 0},
                {"\xed\xa0\x80", 0, 0},
                {"\xed\xbf\xbf", 0, 0},
                {"\xf0\x8f\xbf\xbf", 0, 0},
                {"\xf4\x90\x80\x80", 0, 0},
                {"\xf5\x80\x80\x80", 0, 0},
                {"\x80", 0, 0},
                {"\xfe", 0, 0},
                {"\xc3", 0, 0},
                {"\xc3"
                 "a",
                 0, 0},
                {"\xf0\x9f\x98", 0, 0},
                {"", 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t c = 0;
        assert_int_equal(tp_utf8_decode(rows[i].text, strlen(rows[i].text), &c), rows[i].len);
        if (rows[i].len > 0)
            assert_int_equal(c, rows[i].c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_could_move_the_cursor_is_escaped),
        cmocka_unit_test(what_is_not_utf8_is_escaped_byte_by_byte),
        cmocka_unit_test(what_does_not_fit_ends_in_dots),
        cmocka_unit_test(the_inside_of_a_json_string_is_escaped),
        cmocka_unit_test(utf8_is_decoded_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
