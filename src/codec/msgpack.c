/* SPDX-License-Identifier: MIT */
/* MessagePack headers, written in their smallest form and read in any. */
#include "codec/msgpack.h"

#include <string.h>

#include "base/compiler.h"
#include "base/endian.h"

void tp_mp_raw(struct tp_mp *w, const void *bytes, size_t len)
{
    if (w->dst && w->used <= w->capacity && len <= w->capacity - w->used && len > 0)
        memcpy(w->dst + w->used, bytes, len);
    w->used += len;
}

/* A type byte and a big-endian number of `bytes` bytes. */
static void put(struct tp_mp *w, uint8_t type, uint64_t value, unsigned bytes)
{
    uint8_t header[TP_MP_HEADER_MAX];
    header[0] = type;
    tp_store_be(header + 1, value, bytes);
    tp_mp_raw(w, header, 1 + bytes);
}

void tp_mp_uint(struct tp_mp *w, uint64_t value)
{
    if (value < 0x80)
        put(w, (uint8_t)value, 0, 0);
    else if (value <= UINT8_MAX)
        put(w, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put(w, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put(w, 0xce, value, 4);
    else
        put(w, 0xcf, value, 8);
}

void tp_mp_bool(struct tp_mp *w, bool value)
{
    put(w, value ? 0xc3 : 0xc2, 0, 0);
}

void tp_mp_map(struct tp_mp *w, uint32_t count)
{
    if (count < 16)
        put(w, (uint8_t)(0x80 | count), 0, 0);
    else if (count <= UINT16_MAX)
        put(w, 0xde, count, 2);
    else
        put(w, 0xdf, count, 4);
}

void tp_mp_array(struct tp_mp *w, uint32_t count)
{
    if (count < 16)
        put(w, (uint8_t)(0x90 | count), 0, 0);
    else if (count <= UINT16_MAX)
        put(w, 0xdc, count, 2);
    else
        put(w, 0xdd, count, 4);
}

void tp_mp_str(struct tp_mp *w, const char *text, size_t len)
{
    if (len < 32)
        put(w, (uint8_t)(0xa0 | len), 0, 0);
    else if (len <= UINT8_MAX)
        put(w, 0xd9, len, 1);
    else if (len <= UINT16_MAX)
        put(w, 0xda, len, 2);
    else
        put(w, 0xdb, len, 4);
    tp_mp_raw(w, text, len);
}

void tp_mp_bin_header(struct tp_mp *w, uint32_t len)
{
    if (len <= UINT8_MAX)
        put(w, 0xc4, len, 1);
    else if (len <= UINT16_MAX)
        put(w, 0xc5, len, 2);
    else
        put(w, 0xc6, len, 4);
}

void tp_mp_ext_header(struct tp_mp *w, uint8_t code, uint32_t len)
{
    static const uint8_t fixed[17] = {[1] = 0xd4, [2] = 0xd5, [4] = 0xd6, [8] = 0xd7, [16] = 0xd8};
    if (len <= 16 && fixed[len])
        put(w, fixed[len], 0, 0);
    else if (len <= UINT8_MAX)
        put(w, 0xc7, len, 1);
    else if (len <= UINT16_MAX)
        put(w, 0xc8, len, 2);
    else
        put(w, 0xc9, len, 4);
    tp_mp_raw(w, &code, 1);
}

/* First bytes 0xc0 to 0xdf: what follows them. `len_bytes` is the width of the length (or of the value), `fixed` a
 * length that is not written; an extension has its code after the length. */
static const struct {
    uint8_t type, len_bytes, fixed;
} wide[32] = {
    [0x00] = {TP_MP_NIL, 0, 0},  [0x01] = {TP_MP_INVALID, 0, 0}, [0x02] = {TP_MP_BOOL, 0, 0},
    [0x03] = {TP_MP_BOOL, 0, 0}, [0x04] = {TP_MP_BIN, 1, 0},     [0x05] = {TP_MP_BIN, 2, 0},
    [0x06] = {TP_MP_BIN, 4, 0},  [0x07] = {TP_MP_EXT, 1, 0},     [0x08] = {TP_MP_EXT, 2, 0},
    [0x09] = {TP_MP_EXT, 4, 0},  [0x0a] = {TP_MP_FLOAT, 4, 0},   [0x0b] = {TP_MP_FLOAT, 8, 0},
    [0x0c] = {TP_MP_UINT, 1, 0}, [0x0d] = {TP_MP_UINT, 2, 0},    [0x0e] = {TP_MP_UINT, 4, 0},
    [0x0f] = {TP_MP_UINT, 8, 0}, [0x10] = {TP_MP_INT, 1, 0},     [0x11] = {TP_MP_INT, 2, 0},
    [0x12] = {TP_MP_INT, 4, 0},  [0x13] = {TP_MP_INT, 8, 0},     [0x14] = {TP_MP_EXT, 0, 1},
    [0x15] = {TP_MP_EXT, 0, 2},  [0x16] = {TP_MP_EXT, 0, 4},     [0x17] = {TP_MP_EXT, 0, 8},
    [0x18] = {TP_MP_EXT, 0, 16}, [0x19] = {TP_MP_STR, 1, 0},     [0x1a] = {TP_MP_STR, 2, 0},
    [0x1b] = {TP_MP_STR, 4, 0},  [0x1c] = {TP_MP_ARRAY, 2, 0},   [0x1d] = {TP_MP_ARRAY, 4, 0},
    [0x1e] = {TP_MP_MAP, 2, 0},  [0x1f] = {TP_MP_MAP, 4, 0},
};

static bool decode_wide(struct tp_mp_item *item, const uint8_t *src, size_t len)
{
    unsigned row = src[0] - 0xc0u;
    unsigned bytes = wide[row].len_bytes;
    bool ext = wide[row].type == TP_MP_EXT;
    item->type = (enum tp_mp_type)wide[row].type;
    item->header_len = (uint8_t)(1 + bytes + ext);
    if (len < item->header_len)
        return false;
    item->value = bytes ? tp_load_be(src + 1, bytes) : wide[row].fixed;
    if (item->type == TP_MP_BOOL)
        item->value = src[0] & 1;
    if (ext)
        item->ext_code = src[1 + bytes];
    return true;
}

bool tp_mp_decode(struct tp_mp_item *item, const uint8_t *src, size_t len)
{
    *item = (struct tp_mp_item){.type = TP_MP_INVALID, .header_len = 1};
    if (len == 0)
        return false;
    uint8_t b = src[0];
    if (b >= 0xc0 && b < 0xe0)
        return decode_wide(item, src, len);
    if (b < 0x80) {
        item->type = TP_MP_UINT;
        item->value = b;
    } else if (b < 0x90) {
        item->type = TP_MP_MAP;
        item->value = b & 0x0fu;
    } else if (b < 0xa0) {
        item->type = TP_MP_ARRAY;
        item->value = b & 0x0fu;
    } else if (b < 0xc0) {
        item->type = TP_MP_STR;
        item->value = b & 0x1fu;
    } else {
        item->type = TP_MP_INT;
        item->value = b;
    }
    return true;
}
