/* SPDX-License-Identifier: MIT */
/* MessagePack as Flax writes it: every header in its smallest form, big-endian lengths.
 *
 * The writer appends to a caller's buffer and only counts when there is none, so that one function gives both the
 * bytes of a header and their number. The format: docs/formats/flax-msgpack.md. */
#ifndef TP_CODEC_MSGPACK_H
#define TP_CODEC_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TP_MP_EXT_NDARRAY 1u /* Flax's extension codes */
#define TP_MP_EXT_SCALAR 3u

struct tp_mp {
    uint8_t *dst; /* NULL: count only */
    size_t capacity;
    size_t used; /* grows beyond capacity when the buffer is too small: nothing is written there */
};

void tp_mp_raw(struct tp_mp *w, const void *bytes, size_t len);
void tp_mp_uint(struct tp_mp *w, uint64_t value);
void tp_mp_bool(struct tp_mp *w, bool value);
void tp_mp_map(struct tp_mp *w, uint32_t count);
void tp_mp_array(struct tp_mp *w, uint32_t count);
void tp_mp_str(struct tp_mp *w, const char *text, size_t len);
void tp_mp_bin_header(struct tp_mp *w, uint32_t len);
void tp_mp_ext_header(struct tp_mp *w, uint8_t code, uint32_t len);

/* One item of a MessagePack stream, its length fields widened, its payload not yet read. */
enum tp_mp_type {
    TP_MP_NIL,
    TP_MP_BOOL,
    TP_MP_UINT,
    TP_MP_INT,
    TP_MP_FLOAT,
    TP_MP_STR,
    TP_MP_BIN,
    TP_MP_EXT,
    TP_MP_ARRAY,
    TP_MP_MAP,
    TP_MP_INVALID
};
struct tp_mp_item {
    enum tp_mp_type type;
    uint8_t ext_code;
    uint8_t header_len; /* bytes of the header: 1 to 9; the payload (STR, BIN, EXT) follows it */
    uint64_t value;     /* UINT, BOOL: the value. STR, BIN, EXT: payload bytes. ARRAY, MAP: count */
};
#define TP_MP_HEADER_MAX 9u
/* Decode the header at `src` (`len` bytes are there). False when more bytes are needed than are there; an invalid first
 * byte gives TP_MP_INVALID. */
bool tp_mp_decode(struct tp_mp_item *item, const uint8_t *src, size_t len);

#endif
