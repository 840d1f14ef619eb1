/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "codec/crc32c.h"

static void sums_are_those_of_rfc_3720(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    for (unsigned i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(tp_crc32c(0, "", 0), 0);
    assert_int_equal(tp_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(tp_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(tp_crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(tp_crc32c(0, up, 32), 0x46dd794e);
    assert_int_equal(tp_crc32c(0, down, 32), 0x113fdb5c);
}

static uint32_t bit_by_bit(const uint8_t *bytes, size_t len)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < len; i++) {
        c ^= bytes[i];
        for (unsigned k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
    }
    return ~c;
}

static void any_start_length_and_split_gives_the_sum_of_the_definition(void **state)
{
    (void)state;
    uint8_t bytes[64];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (size_t start = 0; start < 9; start++)
        for (size_t len = 0; start + len <= sizeof bytes; len++) {
            const uint32_t sum = bit_by_bit(bytes + start, len);
            for (size_t split = 0; split <= len; split++)
                assert_int_equal(tp_crc32c(tp_crc32c(0, bytes + start, split), bytes + start + split, len - split),
                                 sum);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_rfc_3720),
        cmocka_unit_test(any_start_length_and_split_gives_the_sum_of_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
