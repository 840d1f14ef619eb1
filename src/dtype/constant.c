/* SPDX-License-Identifier: MIT */
#include "dtype/constant.h"

#include <math.h>
#include <string.h>

static double decode(uint32_t code, enum tp_dtype dtype)
{
    double value;
    uint8_t bytes[2] = {(uint8_t)code, (uint8_t)(code >> 8)};
    tp_dtype_to_f64(&value, bytes, 1, dtype);
    return value;
}

/* Codes of positive finite values rise with them: the last one at or below the magnitude, then the nearer of it and the
 * next one. */
static bool encode_small(uint64_t *bits, double value, enum tp_dtype dtype, unsigned width)
{
    uint32_t sign = 1u << (width - 1), low = 0, high = sign - 1;
    double magnitude = fabs(value);
    while (!isfinite(decode(high, dtype)))
        high--; /* infinity and NaN are the last codes */
    if (magnitude > decode(high, dtype))
        return false;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (decode(middle, dtype) <= magnitude)
            low = middle;
        else
            high = middle - 1;
    }
    double below = magnitude - decode(low, dtype);
    double above = below > 0 ? decode(low + 1, dtype) - magnitude : HUGE_VAL;
    low += above < below || (above == below && low % 2 != 0);
    *bits = low | (signbit(value) && low ? sign : 0);
    return true;
}

static bool encode_wide(uint64_t *bits, double value, enum tp_dtype dtype)
{
    float single = (float)value;
    uint32_t low;
    if (dtype == TP_F64) {
        memcpy(bits, &value, sizeof value);
        return true;
    }
    memcpy(&low, &single, sizeof low);
    *bits = low;
    return isfinite(single);
}

static bool encode_integer(uint64_t *bits, double value, enum tp_dtype dtype)
{
    unsigned width = tp_dtype_bits(dtype);
    bool is_signed = tp_dtype_name(dtype)[0] == 'I';
    double limit = ldexp(1, (int)width - is_signed), least = is_signed ? -limit : 0;
    double most = dtype == TP_BOOL ? 2 : limit;
    if (value != floor(value) || value < least || value >= most)
        return false;
    *bits = value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value;
    *bits &= width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
    return true;
}

bool tp_dtype_encode(uint64_t *bits, double value, enum tp_dtype dtype)
{
    unsigned width = tp_dtype_bits(dtype);
    *bits = 0;
    if (!isfinite(value) || width < 8)
        return false;
    switch (tp_dtype_class(dtype)) {
    case TP_CLASS_FLOAT:
    case TP_CLASS_SMALL_FLOAT:
        return width <= 16 ? dtype != TP_F8_E8M0 && encode_small(bits, value, dtype, width)
                           : encode_wide(bits, value, dtype);
    case TP_CLASS_COMPLEX:
        return false;
    default:
        return encode_integer(bits, value, dtype);
    }
}
