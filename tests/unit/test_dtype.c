/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <string.h>

#include "tensorport/dtype.h"

/* zlib's CRC-32, bit by bit. */
static uint32_t crc32(uint32_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* CRC over all codes of a dtype as little-endian float32, NaN as 7fc00000. */
static uint32_t crc_of_codes(enum tp_dtype dtype)
{
    unsigned bytes = tp_dtype_bits(dtype) / 8;
    uint32_t crc = 0;
    for (uint32_t code = 0; code < 1u << 8 * bytes; code++) {
        unsigned char stored[2] = {(unsigned char)code, (unsigned char)(code >> 8)};
        double value;
        assert_true(tp_dtype_to_f64(&value, stored, 1, dtype));
        float single = (float)value;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        if (isnan(value))
            bits = 0x7fc00000;
        assert_true(isnan(value) || (double)single == value);
        unsigned char le[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                               (unsigned char)(bits >> 24)};
        crc = crc32(crc, le, sizeof le);
    }
    return crc;
}

static void every_code_of_the_small_floats_has_the_value_of_ml_dtypes(void **state)
{
    (void)state;
    assert_int_equal(crc_of_codes(TP_F8_E4M3), 0x2fdee9ac);
    assert_int_equal(crc_of_codes(TP_F8_E5M2), 0x3d83fd11);
    assert_int_equal(crc_of_codes(TP_F8_E4M3FNUZ), 0xf2dfa052);
    assert_int_equal(crc_of_codes(TP_F8_E5M2FNUZ), 0x09c70b84);
    assert_int_equal(crc_of_codes(TP_F8_E8M0), 0x719979ba);
    assert_int_equal(crc_of_codes(TP_F16), 0x3020c7a7);
    assert_int_equal(crc_of_codes(TP_BF16), 0x28c5ed34);
}

static void f4_is_packed_low_nibble_first(void **state)
{
    (void)state;
    static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    static const unsigned char packed[8] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
    double values[16], one;
    assert_true(tp_dtype_to_f64(values, packed, 16, TP_F4));
    for (unsigned i = 0; i < 16; i++) {
        unsigned char code = (unsigned char)i;
        assert_true(values[i] == (i < 8 ? e2m1[i] : -e2m1[i - 8]));
        assert_true(signbit(values[i]) == (i < 8 ? signbit(0.0) : signbit(-1.0)));
        assert_true(tp_dtype_to_f64(&one, &code, 1, TP_F4_UNPACKED));
        assert_true(one == values[i]);
    }
}

static void integers_and_wide_floats_are_read_at_any_alignment(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {0x99, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x80, 0x02};
    static const unsigned char floats[] = {0, 0, 0, 0xc0, 0x3f, 0, 0, 0x20, 0xc0, 0, 0, 0, 0, 0, 0, 0xf8, 0xbf};
    static const struct {
        enum tp_dtype dtype;
        double value;
    } rows[] = {{TP_U8, 255},
                {TP_I8, -1},
                {TP_BOOL, 1},
                {TP_U16, 65535},
                {TP_I16, -1},
                {TP_U32, 4294967295.0},
                {TP_I32, -1},
                {TP_I64, 9223372036854775807.0},
                {TP_U64, 9223372036854775807.0}};
    double value, two[2];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(tp_dtype_to_f64(&value, bytes + 1, 1, rows[i].dtype));
        assert_true(value == rows[i].value);
    }
    assert_true(tp_dtype_to_f64(&value, bytes + 9, 1, TP_I8) && value == -128);
    assert_true(tp_dtype_to_f64(&value, bytes + 10, 1, TP_BOOL) && value == 1);
    assert_true(tp_dtype_to_f64(two, floats + 1, 2, TP_F32) && two[0] == 1.5 && two[1] == -2.5);
    assert_true(tp_dtype_to_f64(&value, floats + 1, 1, TP_C64) && value == 1.5);
    assert_true(tp_dtype_to_f64(&value, floats + 9, 1, TP_F64) && value == -1.5);
}

static void f6_has_no_values(void **state)
{
    (void)state;
    double value = 0;
    assert_false(tp_dtype_to_f64(&value, "", 0, TP_F6_E2M3));
    assert_false(tp_dtype_to_f64(&value, "", 0, TP_F6_E3M2));
    assert_false(tp_dtype_to_f64(&value, "", 0, TP_DTYPE_NONE));
}

static void names_lead_to_their_dtypes_and_back(void **state)
{
    (void)state;
    for (int i = 0; i < TP_DTYPE_COUNT; i++) {
        enum tp_dtype dtype = (enum tp_dtype)i;
        const char *name = tp_dtype_name(dtype), *numpy = tp_dtype_numpy_name(dtype);
        if (dtype == TP_F4_UNPACKED)
            assert_null(name);
        else
            assert_int_equal(tp_dtype_from_name(name, strlen(name)), dtype);
        enum tp_dtype back = tp_dtype_from_numpy_name(numpy, strlen(numpy));
        assert_int_equal(back, dtype == TP_F4 ? TP_F4_UNPACKED : dtype); /* NumPy has one code a byte */
    }
    static const char *const unknown[] = {"f32", "F32 ", "float32", "", "F8_E4M3FN", "C128", "I4", "F"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_int_equal(tp_dtype_from_name(unknown[i], strlen(unknown[i])), TP_DTYPE_NONE);
    assert_int_equal(tp_dtype_from_name("F32x", 3), TP_F32);
    assert_int_equal(tp_dtype_from_numpy_name("float8_e4m3", 11), TP_DTYPE_NONE); /* the IEEE-like one is another */
}

static void sizes_and_classes_are_those_of_the_format(void **state)
{
    (void)state;
    assert_int_equal(tp_dtype_bits(TP_F4), 4);
    assert_int_equal(tp_dtype_bits(TP_F6_E2M3), 6);
    assert_int_equal(tp_dtype_bits(TP_F4_UNPACKED), 8);
    assert_int_equal(tp_dtype_bits(TP_BF16), 16);
    assert_int_equal(tp_dtype_bits(TP_C64), 64);
    assert_int_equal(tp_dtype_bits(TP_DTYPE_NONE), 0);
    assert_int_equal(tp_dtype_class(TP_F64), TP_CLASS_FLOAT);
    assert_int_equal(tp_dtype_class(TP_BF16), TP_CLASS_FLOAT);
    assert_int_equal(tp_dtype_class(TP_F8_E8M0), TP_CLASS_SMALL_FLOAT);
    assert_int_equal(tp_dtype_class(TP_BOOL), TP_CLASS_BOOL);
    assert_int_equal(tp_dtype_class(TP_U64), TP_CLASS_INT);
    assert_int_equal(tp_dtype_class(TP_C64), TP_CLASS_COMPLEX);
    assert_null(tp_dtype_name(TP_DTYPE_NONE));
    assert_null(tp_dtype_numpy_name((enum tp_dtype)99));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_of_the_small_floats_has_the_value_of_ml_dtypes),
        cmocka_unit_test(f4_is_packed_low_nibble_first),
        cmocka_unit_test(integers_and_wide_floats_are_read_at_any_alignment),
        cmocka_unit_test(f6_has_no_values),
        cmocka_unit_test(names_lead_to_their_dtypes_and_back),
        cmocka_unit_test(sizes_and_classes_are_those_of_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
