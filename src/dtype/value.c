/* SPDX-License-Identifier: MIT */
/* The values that stored elements stand for, as doubles. Every binary float up to 16 bits is a row of parameters;
 * the definitions are IEEE 754, the OCP 8-bit and microscaling specifications, and ml_dtypes for the FNUZ kinds. */
#include <math.h>
#include <string.h>

#include "base/endian.h"
#include "tensorport/dtype.h"

/* What the codes of the largest exponent, and the code of minus zero, mean. */
enum special {
    NOT_A_FORMAT, /* not in this table */
    IEEE,         /* largest exponent: infinity, or NaN if the mantissa is not zero */
    FN,           /* finite, but for all ones: NaN */
    FNUZ,         /* finite; no minus zero: its code is the only NaN */
    FINITE,       /* neither NaN nor infinity */
    SCALE         /* no sign, no mantissa, no zero: a power of two; all ones: NaN */
};

struct small_float {
    uint8_t exponent_bits, mantissa_bits;
    uint8_t bias;
    uint8_t special;
};

static const struct small_float small_floats[TP_DTYPE_COUNT] = {
    [TP_F4] = {2, 1, 1, FINITE},         [TP_F4_UNPACKED] = {2, 1, 1, FINITE}, [TP_F8_E5M2] = {5, 2, 15, IEEE},
    [TP_F8_E4M3] = {4, 3, 7, FN},        [TP_F8_E8M0] = {8, 0, 127, SCALE},    [TP_F8_E4M3FNUZ] = {4, 3, 8, FNUZ},
    [TP_F8_E5M2FNUZ] = {5, 2, 16, FNUZ}, [TP_F16] = {5, 10, 15, IEEE},         [TP_BF16] = {8, 7, 127, IEEE},
};

static double from_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 2^power as a double; every power asked for is that of a normal double. */
static double power_of_two(int power)
{
    return from_bits((uint64_t)(power + 1023) << 52);
}

static double decode(const struct small_float *f, uint32_t code)
{
    uint32_t mantissa_mask = (1u << f->mantissa_bits) - 1;
    uint32_t exponent_mask = (1u << f->exponent_bits) - 1;
    uint32_t mantissa = code & mantissa_mask;
    uint32_t exponent = code >> f->mantissa_bits & exponent_mask;
    bool negative = (code >> (f->mantissa_bits + f->exponent_bits) & 1) != 0;
    bool top = exponent == exponent_mask;

    if (f->special == SCALE)
        return top ? (double)NAN : power_of_two((int)exponent - f->bias);
    if (top && (f->special == IEEE ? mantissa != 0 : f->special == FN && mantissa == mantissa_mask))
        return (double)NAN;
    if (f->special == FNUZ && negative && exponent == 0 && mantissa == 0)
        return (double)NAN;
    double magnitude = top && f->special == IEEE ? (double)INFINITY
                       : exponent == 0           ? (double)mantissa * power_of_two(1 - f->bias - f->mantissa_bits)
                                                 : (double)(mantissa | 1u << f->mantissa_bits) *
                                             power_of_two((int)exponent - f->bias - f->mantissa_bits);
    return negative ? -magnitude : magnitude;
}

/* As doubles; `bytes` is the size of an element. */
static void small_to_f64(double *dst, const uint8_t *src, size_t n, unsigned bytes, const struct small_float *f)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = decode(f, (uint32_t)tp_load_le(src + i * bytes, bytes));
}

static void packed_f4_to_f64(double *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = decode(&small_floats[TP_F4], (uint32_t)src[i / 2] >> (i % 2 * 4) & 15u);
}

static double wide_value(const uint8_t *p, enum tp_dtype dtype)
{
    float single;
    uint32_t low = (uint32_t)tp_load_le(p, 4);
    switch (dtype) {
    case TP_F32:
    case TP_C64: /* the real part comes first */
        memcpy(&single, &low, sizeof single);
        return (double)single;
    case TP_I32:
        return (double)(int32_t)low;
    case TP_U32:
        return (double)low;
    case TP_F64:
        return from_bits(tp_load_le(p, 8));
    case TP_I64:
        return (double)(int64_t)tp_load_le(p, 8);
    case TP_U64:
    default:
        return (double)tp_load_le(p, 8);
    }
}

static double narrow_int_value(const uint8_t *p, enum tp_dtype dtype)
{
    switch (dtype) {
    case TP_BOOL:
        return p[0] != 0;
    case TP_U8:
        return p[0];
    case TP_I8:
        return (int8_t)p[0];
    case TP_I16:
        return (int16_t)tp_load_le(p, 2);
    case TP_U16:
    default:
        return (double)tp_load_le(p, 2);
    }
}

bool tp_dtype_to_f64(double *dst, const void *src, size_t n, enum tp_dtype dtype)
{
    const uint8_t *p = src;
    unsigned bits = tp_dtype_bits(dtype);
    if (bits == 0 || bits == 6) /* packed F6 has no documented bit order */
        return false;
    unsigned bytes = bits / 8;
    if (bits == 4)
        packed_f4_to_f64(dst, p, n);
    else if (small_floats[dtype].special != NOT_A_FORMAT)
        small_to_f64(dst, p, n, bytes, &small_floats[dtype]);
    else
        for (size_t i = 0; i < n; i++)
            dst[i] = bits >= 32 ? wide_value(p + i * bytes, dtype) : narrow_int_value(p + i * bytes, dtype);
    return true;
}
