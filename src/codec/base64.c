/* SPDX-License-Identifier: MIT */
#include "codec/base64.h"

#define NOT_A_DIGIT 64u

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t tp_base64_encode(char *dst, const uint8_t *bytes, size_t len)
{
    char *const start = dst;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)bytes[i + 2] : 0;
        *dst++ = digits[group >> 18];
        *dst++ = digits[group >> 12 & 63];
        *dst++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *dst++ = left > 2 ? digits[group & 63] : '=';
    }
    return (size_t)(dst - start);
}

static uint32_t digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : NOT_A_DIGIT;
}

/* `group` holds so many digits, and padding followed: the bytes they are. */
static bool end_group(uint8_t **dst, uint32_t group, unsigned digit_count, unsigned padding)
{
    if (digit_count == 0 && padding == 0)
        return true;
    if (digit_count < 2 || digit_count + padding != 4)
        return false;
    *(*dst)++ = (uint8_t)(digit_count == 2 ? group >> 4 : group >> 10);
    if (digit_count == 3)
        *(*dst)++ = (uint8_t)(group >> 2);
    return true;
}

bool tp_base64_decode(uint8_t *dst, size_t *dst_len, const char *text, size_t len)
{
    uint8_t *const start = dst;
    uint32_t group = 0;
    unsigned digit_count = 0, padding = 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t value = digit_value(text[i]);
        if (text[i] == '\n' || text[i] == '\r')
            continue;
        if (text[i] == '=' && ++padding <= 2)
            continue;
        if (value == NOT_A_DIGIT || padding > 0)
            return false;
        group = group << 6 | value;
        if (++digit_count < 4)
            continue;
        *dst++ = (uint8_t)(group >> 16);
        *dst++ = (uint8_t)(group >> 8);
        *dst++ = (uint8_t)group;
        group = digit_count = 0;
    }
    if (!end_group(&dst, group, digit_count, padding))
        return false;
    *dst_len = (size_t)(dst - start);
    return true;
}
