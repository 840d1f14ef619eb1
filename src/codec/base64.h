/* SPDX-License-Identifier: MIT */
/* Base64 with the standard alphabet and padding (RFC 4648, section 4). */
#ifndef TP_CODEC_BASE64_H
#define TP_CODEC_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Four characters for every three bytes, the last ones padded with '='; not terminated. Returns how many. Texts of
 * parts can be joined where every part but the last has a multiple of three bytes. */
size_t tp_base64_encode(char *dst, const uint8_t *bytes, size_t len);

/* The bytes of a text, at most three for every four characters; `dst` may be where `text` is. Line ends are stepped
 * over, everything else that is not as the encoder writes it is refused: other characters, padding that is missing or
 * not at the end. False: not base64. */
bool tp_base64_decode(uint8_t *dst, size_t *dst_len, const char *text, size_t len);

#endif
