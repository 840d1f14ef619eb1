/* SPDX-License-Identifier: MIT */
/* Numbers, booleans, "NaN", "Infinity", "-Infinity", "0x" and the bits in hexadecimal; of complex numbers two of them.
 */
#include "codec/zarr_fill.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static enum tp_status take(struct tp_zarr_fill *fill, const struct tp_json_token *t, struct tp_error *err)
{
    const bool has_text = t->type == TP_JSON_STRING || t->type == TP_JSON_NUMBER || t->type == TP_JSON_UINT;
    if ((!has_text && t->type != TP_JSON_TRUE && t->type != TP_JSON_FALSE) || fill->count == 2 ||
        (t->type == TP_JSON_STRING && (t->len >= TP_ZARR_FILL_TEXT || t->has_nul)))
        return tp_fail(err, TP_ERR_UNSUPPORTED, "zarr metadata: a fill_value of this kind is not read");
    fill->parts[fill->count].type = t->type;
    fill->parts[fill->count].number = t->type == TP_JSON_UINT ? (double)t->uint_value : t->number_value;
    if (t->type != TP_JSON_TRUE && t->type != TP_JSON_FALSE && t->len < TP_ZARR_FILL_TEXT) {
        memcpy(fill->parts[fill->count].text, t->text, t->len);
        fill->parts[fill->count].text[t->len] = '\0';
    }
    fill->count++;
    return TP_OK;
}

enum tp_status tp_zarr_fill_read(struct tp_zarr_fill *fill, struct tp_json *json, struct tp_error *err)
{
    struct tp_json_token t;
    *fill = (struct tp_zarr_fill){0};
    enum tp_status status = tp_json_next(json, &t, err);
    if (status || t.type == TP_JSON_NULL)
        return status;
    if (t.type != TP_JSON_ARRAY_BEGIN)
        return take(fill, &t, err);
    while (!(status = tp_json_next(json, &t, err)) && t.type != TP_JSON_ARRAY_END)
        if ((status = take(fill, &t, err)))
            return status;
    if (!status && fill->count != 2)
        return tp_fail(err, TP_ERR_FORMAT, "zarr metadata: a list as fill_value must have 2 numbers");
    return status;
}

/* ---- bytes ---- */

static void store(uint8_t *dst, uint64_t bits, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++, bits >>= 8)
        dst[i] = (uint8_t)bits;
}

static bool integer(uint8_t *dst, const char *text, unsigned bytes, bool is_signed)
{
    char *end = NULL;
    errno = 0;
    if (text[0] == '-' && is_signed) {
        const long long value = strtoll(text, &end, 10);
        store(dst, (uint64_t)value, bytes);
        return !errno && *end == '\0' && value >= INT64_MIN >> (64 - 8 * bytes);
    }
    const unsigned long long value = strtoull(text, &end, 10);
    store(dst, value, bytes);
    const uint64_t max = UINT64_MAX >> (64 - 8 * bytes) >> (is_signed ? 1 : 0);
    return !errno && text[0] >= '0' && text[0] <= '9' && *end == '\0' && value <= max;
}

/* The NaN that others write: quiet, no payload. */
static uint64_t nan_bits(enum tp_dtype dtype)
{
    switch (dtype) {
    case TP_F64:
        return UINT64_C(0x7ff8000000000000);
    case TP_F32:
        return 0x7fc00000;
    case TP_F16:
        return 0x7e00;
    case TP_BF16:
        return 0x7fc0;
    case TP_F8_E4M3:
        return 0x7f;
    case TP_F8_E5M2:
        return 0x7e;
    case TP_F8_E8M0:
        return 0xff;
    case TP_F8_E4M3FNUZ:
    case TP_F8_E5M2FNUZ:
        return 0x80;
    default:
        return 0; /* float4: it has none */
    }
}

/* The code of a float of at most 16 bits whose value is nearest: all are tried. Of +0 and -0 the one that is meant. */
static uint64_t nearest(double value, enum tp_dtype dtype)
{
    const unsigned bytes = tp_dtype_bits(dtype) < 16 ? 1 : 2, bits = dtype == TP_F4_UNPACKED ? 4 : 8 * bytes;
    uint64_t best = 0;
    double least = INFINITY;
    for (uint64_t code = 0; code < (uint64_t)1 << bits; code++) {
        uint8_t stored[2];
        double held;
        store(stored, code, bytes);
        if (!tp_dtype_to_f64(&held, stored, 1, dtype) || isnan(held))
            continue;
        if (held == value && !signbit(held) == !signbit(value))
            return code;
        if (fabs(held - value) < least) {
            least = fabs(held - value);
            best = code;
        }
    }
    return best;
}

static uint64_t float_bits(double value, enum tp_dtype dtype)
{
    uint64_t bits = 0;
    uint32_t bits32 = 0;
    const float single = dtype == TP_F32 ? (float)value : 0;
    if (isnan(value))
        return nan_bits(dtype);
    if (value == 0 && !signbit(value))
        return 0;
    if (dtype == TP_F32) {
        memcpy(&bits32, &single, sizeof bits32);
        return bits32;
    }
    if (dtype != TP_F64)
        return nearest(value, dtype);
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static bool hexadecimal(uint8_t *dst, const char *digits, unsigned bytes)
{
    char *end = NULL;
    if (strlen(digits) != 2 * (size_t)bytes || strspn(digits, "0123456789abcdefABCDEF") != 2 * (size_t)bytes)
        return false;
    store(dst, strtoull(digits, &end, 16), bytes);
    return true;
}

static bool floating(uint8_t *dst, const struct tp_zarr_fill *fill, unsigned part, enum tp_dtype dtype)
{
    const char *text = fill->parts[part].text;
    const unsigned bytes = tp_dtype_bits(dtype) < 8 ? 1 : tp_dtype_bits(dtype) / 8;
    double value = fill->parts[part].number;
    if (fill->parts[part].type == TP_JSON_STRING) {
        if (strncmp(text, "0x", 2) == 0)
            return hexadecimal(dst, text + 2, bytes);
        const bool is_infinite = strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0;
        if (!is_infinite && strcmp(text, "NaN") != 0)
            return false;
        value = !is_infinite ? (double)NAN : text[0] == '-' ? -(double)INFINITY : (double)INFINITY;
    } else if (fill->parts[part].type != TP_JSON_UINT && fill->parts[part].type != TP_JSON_NUMBER) {
        return false;
    }
    store(dst, float_bits(value, dtype), bytes);
    return true;
}

bool tp_zarr_fill_bytes(uint8_t dst[16], const struct tp_zarr_fill *fill, enum tp_dtype dtype)
{
    memset(dst, 0, 16);
    if (fill->count == 0)
        return true;
    const enum tp_json_type type = fill->parts[0].type;
    const bool is_signed = dtype == TP_I8 || dtype == TP_I16 || dtype == TP_I32 || dtype == TP_I64;
    if ((fill->count == 2) != (dtype == TP_C64))
        return false;
    switch (tp_dtype_class(dtype)) {
    case TP_CLASS_BOOL:
        dst[0] = type == TP_JSON_TRUE;
        return type == TP_JSON_TRUE || type == TP_JSON_FALSE;
    case TP_CLASS_INT:
        return (type == TP_JSON_UINT || type == TP_JSON_NUMBER) &&
               integer(dst, fill->parts[0].text, tp_dtype_bits(dtype) / 8, is_signed);
    case TP_CLASS_COMPLEX:
        return floating(dst, fill, 0, TP_F32) && floating(dst + 4, fill, 1, TP_F32);
    default:
        return floating(dst, fill, 0, dtype);
    }
}
