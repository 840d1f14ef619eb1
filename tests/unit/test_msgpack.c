/* SPDX-License-Identifier: MIT */
#include "fixture.h"

#include "base/compiler.h"
#include "codec/msgpack.h"

static void check_bytes(const struct tp_mp *w, const char *hex)
{
    uint8_t expected[64];
    size_t len = from_hex(expected, hex);
    assert_int_equal(w->used, len);
    assert_memory_equal(w->dst, expected, len);
}

static void headers_have_their_smallest_form(void **state)
{
    (void)state;
    uint8_t buffer[64];
    static const struct {
        uint64_t value;
        const char *hex;
    } uints[] = {{0, "00"},
                 {127, "7f"},
                 {128, "cc80"},
                 {255, "ccff"},
                 {256, "cd0100"},
                 {65535, "cdffff"},
                 {65536, "ce00010000"},
                 {UINT32_MAX, "ceffffffff"},
                 {UINT64_C(1) << 32, "cf0000000100000000"}};
    for (size_t i = 0; i < TP_COUNT_OF(uints); i++) {
        struct tp_mp w = {buffer, sizeof buffer, 0};
        tp_mp_uint(&w, uints[i].value);
        check_bytes(&w, uints[i].hex);
    }
    static const struct {
        uint32_t count;
        const char *map, *array, *ext;
    } counts[] = {{0, "80", "90", "c70001"},
                  {1, "81", "91", "d401"},
                  {2, "82", "92", "d501"},
                  {3, "83", "93", "c70301"},
                  {4, "84", "94", "d601"},
                  {8, "88", "98", "d701"},
                  {15, "8f", "9f", "c70f01"},
                  {16, "de0010", "dc0010", "d801"},
                  {17, "de0011", "dc0011", "c71101"},
                  {255, "de00ff", "dc00ff", "c7ff01"},
                  {256, "de0100", "dc0100", "c8010001"},
                  {65535, "deffff", "dcffff", "c8ffff01"},
                  {65536, "df00010000", "dd00010000", "c90001000001"}};
    for (size_t i = 0; i < TP_COUNT_OF(counts); i++) {
        struct tp_mp w = {buffer, sizeof buffer, 0};
        tp_mp_map(&w, counts[i].count);
        check_bytes(&w, counts[i].map);
        w.used = 0;
        tp_mp_array(&w, counts[i].count);
        check_bytes(&w, counts[i].array);
        w.used = 0;
        tp_mp_ext_header(&w, TP_MP_EXT_NDARRAY, counts[i].count);
        check_bytes(&w, counts[i].ext);
    }
}

static void counting_gives_the_length_of_writing(void **state)
{
    (void)state;
    static char text[70000];
    uint8_t *buffer = malloc(sizeof text + 16);
    memset(text, 'x', sizeof text);
    for (size_t len = 0; len < sizeof text; len = len < 300 ? len + 1 : len * 2) {
        struct tp_mp count = {.dst = NULL}, w = {buffer, sizeof text + 16, 0};
        tp_mp_str(&count, text, len);
        tp_mp_str(&w, text, len);
        assert_int_equal(count.used, w.used);
    }
    free(buffer);
}

static void a_full_buffer_is_not_written_beyond(void **state)
{
    (void)state;
    uint8_t buffer[4] = {1, 2, 3, 0xee};
    struct tp_mp w = {buffer, 3, 0};
    tp_mp_uint(&w, 65536);
    assert_int_equal(w.used, 5);
    tp_mp_uint(&w, 1);
    assert_int_equal(buffer[3], 0xee);
}

static void every_first_byte_decodes_or_is_refused(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 256; b++) {
        uint8_t bytes[TP_MP_HEADER_MAX] = {(uint8_t)b, 0, 0, 0, 0, 0, 0, 1, 7};
        struct tp_mp_item item;
        assert_true(tp_mp_decode(&item, bytes, sizeof bytes));
        assert_int_equal(item.type == TP_MP_INVALID, b == 0xc1);
        assert_in_range(item.header_len, 1, TP_MP_HEADER_MAX);
        for (size_t len = 0; len < item.header_len; len++) {
            struct tp_mp_item cut;
            assert_false(tp_mp_decode(&cut, bytes, len));
        }
    }
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    uint8_t buffer[16];
    static const uint32_t counts[] = {0, 1, 15, 16, 255, 256, 65535, 65536, UINT32_MAX};
    for (size_t i = 0; i < TP_COUNT_OF(counts); i++) {
        struct tp_mp_item item;
        struct tp_mp w = {buffer, sizeof buffer, 0};
        tp_mp_map(&w, counts[i]);
        assert_true(tp_mp_decode(&item, buffer, w.used));
        assert_true(item.type == TP_MP_MAP && item.value == counts[i] && item.header_len == w.used);
        w.used = 0;
        tp_mp_ext_header(&w, 3, counts[i]);
        assert_true(tp_mp_decode(&item, buffer, w.used));
        assert_true(item.type == TP_MP_EXT && item.value == counts[i] && item.ext_code == 3 &&
                    item.header_len == w.used);
        w.used = 0;
        tp_mp_bin_header(&w, counts[i]);
        assert_true(tp_mp_decode(&item, buffer, w.used));
        assert_true(item.type == TP_MP_BIN && item.value == counts[i] && item.header_len == w.used);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_have_their_smallest_form),
        cmocka_unit_test(counting_gives_the_length_of_writing),
        cmocka_unit_test(a_full_buffer_is_not_written_beyond),
        cmocka_unit_test(every_first_byte_decodes_or_is_refused),
        cmocka_unit_test(what_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
