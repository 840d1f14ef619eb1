/* SPDX-License-Identifier: MIT */
/* The element types of safetensors, in the order of its reference writer, and what NumPy and JAX call them. */
#ifndef TENSORPORT_DTYPE_H
#define TENSORPORT_DTYPE_H

#include <stdbool.h>

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum tp_dtype {
    TP_BOOL = 0,
    TP_F4, /* e2m1, two a byte, low nibble first; as stored in safetensors */
    TP_F6_E2M3,
    TP_F6_E3M2,
    TP_U8,
    TP_I8,
    TP_F8_E5M2,
    TP_F8_E4M3,
    TP_F8_E8M0,
    TP_F8_E4M3FNUZ,
    TP_F8_E5M2FNUZ,
    TP_I16,
    TP_U16,
    TP_F16,
    TP_BF16,
    TP_I32,
    TP_U32,
    TP_F32,
    TP_C64,
    TP_F64,
    TP_I64,
    TP_U64,
    TP_F4_UNPACKED, /* e2m1, one a byte in its low nibble: how NumPy holds float4_e2m1fn. Never in safetensors */
    TP_DTYPE_COUNT,
    TP_DTYPE_NONE = 255
};

enum tp_dtype_class { TP_CLASS_BOOL, TP_CLASS_INT, TP_CLASS_FLOAT, TP_CLASS_SMALL_FLOAT, TP_CLASS_COMPLEX };

/* "BF16", or NULL for a dtype that safetensors has not. */
TP_API const char *tp_dtype_name(enum tp_dtype dtype);
/* NumPy / ml_dtypes name, "bfloat16". F6 has one too, though it is never written. */
TP_API const char *tp_dtype_numpy_name(enum tp_dtype dtype);
/* Bits of one element as stored: 4, 6, 8, 16, 32 or 64. */
TP_API unsigned tp_dtype_bits(enum tp_dtype dtype);
/* FLOAT are the four that --precision casts (F64, F32, F16, BF16); SMALL_FLOAT the 4- to 8-bit ones, kept as they are.
 */
TP_API enum tp_dtype_class tp_dtype_class(enum tp_dtype dtype);
/* Exact, case-sensitive; TP_DTYPE_NONE if unknown. */
TP_API enum tp_dtype tp_dtype_from_name(const char *name, size_t len);
TP_API enum tp_dtype tp_dtype_from_numpy_name(const char *name, size_t len);
/* Values of `n` elements as doubles (exact for every dtype but I64/U64 beyond 2^53; complex: the real part).
 * `src` holds tp_dtype_bits * n / 8 bytes; false for F6, which has no documented bit order. */
TP_API bool tp_dtype_to_f64(double *dst, const void *src, size_t n, enum tp_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
