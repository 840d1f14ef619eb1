/* SPDX-License-Identifier: MIT */
/* One row a dtype. The order is the enum's, which is the order of safetensors' reference writer. */
#include "tensorport/dtype.h"

#include <string.h>

static const struct {
    const char *name;       /* safetensors */
    const char *numpy_name; /* NumPy or ml_dtypes */
    uint8_t bits;
    uint8_t class;
} table[TP_DTYPE_COUNT] = {
    [TP_BOOL] = {"BOOL", "bool", 8, TP_CLASS_BOOL},
    [TP_F4] = {"F4", "float4_e2m1fn", 4, TP_CLASS_SMALL_FLOAT},
    [TP_F6_E2M3] = {"F6_E2M3", "float6_e2m3fn", 6, TP_CLASS_SMALL_FLOAT},
    [TP_F6_E3M2] = {"F6_E3M2", "float6_e3m2fn", 6, TP_CLASS_SMALL_FLOAT},
    [TP_U8] = {"U8", "uint8", 8, TP_CLASS_INT},
    [TP_I8] = {"I8", "int8", 8, TP_CLASS_INT},
    [TP_F8_E5M2] = {"F8_E5M2", "float8_e5m2", 8, TP_CLASS_SMALL_FLOAT},
    [TP_F8_E4M3] = {"F8_E4M3", "float8_e4m3fn", 8, TP_CLASS_SMALL_FLOAT}, /* not ml_dtypes' IEEE-like float8_e4m3 */
    [TP_F8_E8M0] = {"F8_E8M0", "float8_e8m0fnu", 8, TP_CLASS_SMALL_FLOAT},
    [TP_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", "float8_e4m3fnuz", 8, TP_CLASS_SMALL_FLOAT},
    [TP_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", "float8_e5m2fnuz", 8, TP_CLASS_SMALL_FLOAT},
    [TP_I16] = {"I16", "int16", 16, TP_CLASS_INT},
    [TP_U16] = {"U16", "uint16", 16, TP_CLASS_INT},
    [TP_F16] = {"F16", "float16", 16, TP_CLASS_FLOAT},
    [TP_BF16] = {"BF16", "bfloat16", 16, TP_CLASS_FLOAT},
    [TP_I32] = {"I32", "int32", 32, TP_CLASS_INT},
    [TP_U32] = {"U32", "uint32", 32, TP_CLASS_INT},
    [TP_F32] = {"F32", "float32", 32, TP_CLASS_FLOAT},
    [TP_C64] = {"C64", "complex64", 64, TP_CLASS_COMPLEX},
    [TP_F64] = {"F64", "float64", 64, TP_CLASS_FLOAT},
    [TP_I64] = {"I64", "int64", 64, TP_CLASS_INT},
    [TP_U64] = {"U64", "uint64", 64, TP_CLASS_INT},
    [TP_F4_UNPACKED] = {NULL, "float4_e2m1fn", 8, TP_CLASS_SMALL_FLOAT},
};

static bool known(enum tp_dtype dtype)
{
    return (unsigned)dtype < TP_DTYPE_COUNT;
}

static bool same(const char *a, const char *b, size_t b_len)
{
    return a && strlen(a) == b_len && memcmp(a, b, b_len) == 0;
}

const char *tp_dtype_name(enum tp_dtype dtype)
{
    return known(dtype) ? table[dtype].name : NULL;
}

const char *tp_dtype_numpy_name(enum tp_dtype dtype)
{
    return known(dtype) ? table[dtype].numpy_name : NULL;
}

unsigned tp_dtype_bits(enum tp_dtype dtype)
{
    return known(dtype) ? table[dtype].bits : 0;
}

enum tp_dtype_class tp_dtype_class(enum tp_dtype dtype)
{
    return known(dtype) ? (enum tp_dtype_class)table[dtype].class : TP_CLASS_INT;
}

enum tp_dtype tp_dtype_from_name(const char *name, size_t len)
{
    for (int i = 0; i < TP_DTYPE_COUNT; i++)
        if (same(table[i].name, name, len))
            return (enum tp_dtype)i;
    return TP_DTYPE_NONE;
}

enum tp_dtype tp_dtype_from_numpy_name(const char *name, size_t len)
{
    for (int i = TP_DTYPE_COUNT; i-- > 0;) /* from the end: NumPy holds float4_e2m1fn unpacked */
        if (same(table[i].numpy_name, name, len))
            return (enum tp_dtype)i;
    return TP_DTYPE_NONE;
}
