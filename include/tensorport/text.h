/* SPDX-License-Identifier: MIT */
/* Text that comes from files (tensor names, paths) and must not reach a terminal or a JSON file raw. */
#ifndef TENSORPORT_TEXT_H
#define TENSORPORT_TEXT_H

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Write `len` bytes of `text` to `dst` for a terminal: control characters, DEL, C1 controls, bidirectional
 * overrides and invalid UTF-8 become \xNN or \u{NNNN}; what does not fit is cut and ends in "...".
 * `dst` is always terminated. Returns `dst`. `cap` must be at least 4. */
TP_API char *tp_text_printable(char *dst, size_t cap, const char *text, size_t len);

/* Write `len` bytes of UTF-8 `text` as the inside of a JSON string (without the quotes), ASCII controls
 * escaped, everything else as it is. Returns the number of bytes needed, terminator excluded; writes nothing
 * beyond `cap`. 6 * len + 1 bytes are always enough. */
TP_API size_t tp_text_json(char *dst, size_t cap, const char *text, size_t len);

#ifdef __cplusplus
}
#endif
#endif
