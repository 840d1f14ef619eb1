/* SPDX-License-Identifier: MIT */
/* One value cast, in integers: the heart of the definition (scalar.c, arithmetic.c). */
#ifndef TP_KERNELS_VALUES_H
#define TP_KERNELS_VALUES_H

#include "kernels/tally.h"

/* v / 2^shift, rounded to the nearest integer, ties to the even one; 0 < shift < 64. */
static inline uint64_t shift_to_even(uint64_t v, unsigned shift)
{
    const uint64_t below_half = (UINT64_C(1) << (shift - 1)) - 1;
    return (v + below_half + (v >> shift & 1)) >> shift;
}

/* Round a float to a layout with a shorter mantissa and the same or a smaller range of exponents. A NaN keeps the top
 * of its payload and becomes quiet. */
static inline uint64_t narrow(uint64_t bits, enum tp_float_kind from_kind, enum tp_float_kind to_kind)
{
    const struct tp_float_layout from = tp_float_layouts[from_kind], to = tp_float_layouts[to_kind];
    const uint64_t to_infinity = tp_infinity_bits(to_kind);
    const uint64_t sign = bits >> (8 * from.size_bytes - 1) << (8 * to.size_bytes - 1);
    const uint64_t magnitude = bits & tp_magnitude_mask(from_kind);
    const uint64_t one = UINT64_C(1) << from.mantissa_bits;
    const uint64_t mantissa = magnitude & (one - 1), exponent = magnitude >> from.mantissa_bits;
    const unsigned drop = from.mantissa_bits - to.mantissa_bits, rebias = from.bias - to.bias;

    if (magnitude > tp_infinity_bits(from_kind))
        return sign | to_infinity | UINT64_C(1) << (to.mantissa_bits - 1) | mantissa >> drop;
    uint64_t result;
    if (rebias == 0 || exponent > rebias) {
        result = shift_to_even(magnitude - rebias * one, drop); /* a carry rightly raises the exponent */
    } else { /* subnormal or zero in the target: the leading one is written out */
        const uint64_t shift = drop + 1 + rebias - exponent;
        result = shift < 64 ? shift_to_even(one | mantissa, (unsigned)shift) : 0;
    }
    return sign | (result < to_infinity ? result : to_infinity);
}

static inline uint32_t f32_from_f64(uint64_t x)
{
    return (uint32_t)narrow(x, TP_KIND_F64, TP_KIND_F32);
}

static inline uint16_t f16_from_f64(uint64_t x)
{
    return (uint16_t)narrow(x, TP_KIND_F64, TP_KIND_F16);
}

static inline uint16_t f16_from_f32(uint32_t x)
{
    return (uint16_t)narrow(x, TP_KIND_F32, TP_KIND_F16);
}

/* A NaN loses its payload, as in ml_dtypes and JAX. */
static inline uint16_t bf16_from_f32(uint32_t x)
{
    if ((x & 0x7fffffff) > 0x7f800000)
        return (uint16_t)((x >> 16 & 0x8000) | 0x7fc0);
    return (uint16_t)narrow(x, TP_KIND_F32, TP_KIND_BF16);
}

/* Rounds twice, as NumPy and JAX do. */
static inline uint16_t bf16_from_f64(uint64_t x)
{
    return bf16_from_f32(f32_from_f64(x));
}

static inline uint32_t f32_from_f16(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16;
    uint32_t magnitude = x & 0x7fff, exponent = 127 - 14; /* of the smallest normal value */
    if (magnitude > 0x7c00)
        return sign | 0x7fc00000 | (magnitude & 0x3ff) << 13;
    if (magnitude == 0x7c00)
        return sign | 0x7f800000;
    if (magnitude >= 0x400)
        return sign | ((magnitude << 13) + ((uint32_t)(127 - 15) << 23));
    if (magnitude == 0)
        return sign;
    for (; magnitude < 0x400; magnitude <<= 1)
        exponent--;
    return sign | exponent << 23 | (magnitude & 0x3ff) << 13;
}

/* The bits move, a signalling NaN stays one. */
static inline uint32_t f32_from_bf16(uint16_t x)
{
    return (uint32_t)x << 16;
}

static inline uint16_t bf16_from_f16(uint16_t x)
{
    return bf16_from_f32(f32_from_f16(x));
}

static inline uint16_t f16_from_bf16(uint16_t x)
{
    return f16_from_f32(f32_from_bf16(x));
}

#endif
