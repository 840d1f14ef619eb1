/* SPDX-License-Identifier: MIT */
#ifndef TP_BASE_UTF8_H
#define TP_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decode one code point of strict UTF-8 (no overlong forms, no surrogates). Returns the bytes it took, 0 if the text
 * is not UTF-8 or is empty. */
size_t tp_utf8_decode(const char *text, size_t len, uint32_t *code_point);

#endif
