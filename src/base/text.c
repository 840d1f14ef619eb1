/* SPDX-License-Identifier: MIT */
/* Names from files are hostile until shown otherwise: escaped for terminals and for JSON. Also the one
 * UTF-8 decoder of the library. */
#include "base/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tensorport/text.h"

size_t tp_utf8_decode(const char *text, size_t len, uint32_t *code_point)
{
    const unsigned char *p = (const unsigned char *)text;
    if (len == 0)
        return 0;
    if (p[0] < 0x80) {
        *code_point = p[0];
        return 1;
    }
    unsigned extra = p[0] >= 0xc2 && p[0] < 0xe0   ? 1u
                     : p[0] >= 0xe0 && p[0] < 0xf0 ? 2u
                     : p[0] >= 0xf0 && p[0] < 0xf5 ? 3u
                                                   : 0u;
    if (extra == 0 || len <= extra)
        return 0;
    uint32_t c = p[0] & (0x3fu >> extra);
    for (unsigned i = 1; i <= extra; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    static const uint32_t smallest[4] = {0, 0x80, 0x800, 0x10000};
    if (c < smallest[extra] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *code_point = c;
    return extra + 1;
}

/* Code points that move the cursor, change direction or cannot be seen. */
static bool unprintable(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xe0000 && c < 0xe0080);
}

char *tp_text_printable(char *dst, size_t cap, const char *text, size_t len)
{
    size_t used = 0;
    size_t cut = 0; /* where "..." may go */
    for (size_t i = 0; i < len;) {
        char escape[16];
        const char *piece = text + i;
        uint32_t c = 0;
        size_t step = tp_utf8_decode(text + i, len - i, &c);
        size_t piece_len = step;
        if (step == 0 || c < 0x80 ? step == 0 || unprintable(c) : false) {
            piece_len = (size_t)snprintf(escape, sizeof escape, "\\x%02x", (unsigned)(unsigned char)text[i]);
            piece = escape;
            step = 1;
        } else if (unprintable(c)) {
            piece_len = (size_t)snprintf(escape, sizeof escape, "\\u{%04x}", (unsigned)c);
            piece = escape;
        }
        if (used + piece_len >= cap) {
            memcpy(dst + cut, "...", 4);
            return dst;
        }
        memcpy(dst + used, piece, piece_len);
        used += piece_len;
        if (used + 4 <= cap)
            cut = used;
        i += step;
    }
    dst[used] = '\0';
    return dst;
}

size_t tp_text_json(char *dst, size_t cap, const char *text, size_t len)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char piece[8];
        size_t n = 1;
        piece[0] = (char)c;
        if (c == '"' || c == '\\') {
            piece[0] = '\\';
            piece[1] = (char)c;
            n = 2;
        } else if (c < 0x20 || c == 0x7f) {
            n = (size_t)snprintf(piece, sizeof piece, "\\u%04x", c);
        }
        if (used + n < cap)
            memcpy(dst + used, piece, n);
        used += n;
    }
    if (cap > 0)
        dst[used < cap ? used : cap - 1] = '\0';
    return used;
}
