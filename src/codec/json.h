/* SPDX-License-Identifier: MIT */
/* JSON, strictly (RFC 8259, UTF-8, no duplicate checks here), pulled token by token in bounded memory.
 *
 * The reader takes text from a callback in pieces, so that a 100 MB header needs 64 KiB. It accepts what the
 * table in docs/formats/safetensors.md says; every refusal names the byte where it happened. Nesting of 128
 * levels is refused; nothing recurses. */
#ifndef TP_CODEC_JSON_H
#define TP_CODEC_JSON_H

#include <stdbool.h>

#include "base/status.h"

enum tp_json_type {
    TP_JSON_END, /* of the text: one whole value and only blanks were seen */
    TP_JSON_OBJECT_BEGIN,
    TP_JSON_OBJECT_END,
    TP_JSON_ARRAY_BEGIN,
    TP_JSON_ARRAY_END,
    TP_JSON_KEY,    /* text, len: unescaped; a value follows */
    TP_JSON_STRING, /* text, len */
    TP_JSON_UINT,   /* uint_value: plain decimal digits only, at most 2^63 - 1 */
    TP_JSON_NUMBER, /* any other valid JSON number: text, len as written; number_value (finite, see
                     * tp_json_allow_constants) */
    TP_JSON_TRUE,
    TP_JSON_FALSE,
    TP_JSON_NULL
};

struct tp_json_token {
    enum tp_json_type type;
    const char *text; /* valid until the next call; may hold NUL (from \u0000) */
    size_t len;
    uint64_t uint_value;
    double number_value;
    uint64_t offset;   /* of the token's first byte in the text */
    uint64_t full_len; /* of a string before it was cut; else len */
    bool has_nul;      /* text contains a NUL byte */
    bool cut;          /* a string longer than string_max, see tp_json_cut_strings */
};

/* Give up to `cap` further bytes of text in dst; *got == 0 means the end. */
typedef enum tp_status (*tp_json_read_fn)(void *user, char *dst, size_t cap, size_t *got, struct tp_error *err);

struct tp_json; /* opaque */

/* `what` is the word used in messages: "header", "index". Strings longer than `string_max` bytes (unescaped) are
 * refused with TP_ERR_LIMIT; numbers longer than 256 bytes with TP_ERR_FORMAT. */
enum tp_status tp_json_open(struct tp_json **out, tp_json_read_fn read, void *user, const char *what, size_t string_max,
                            struct tp_error *err);
/* From memory; `text` must outlive the reader. */
enum tp_status tp_json_open_text(struct tp_json **out, const char *text, size_t len, const char *what,
                                 size_t string_max, struct tp_error *err);
void tp_json_close(struct tp_json *json);
/* From now on strings longer than string_max are validated, cut at string_max and marked, not refused. */
void tp_json_cut_strings(struct tp_json *json);
/* From now on NaN, Infinity and -Infinity, which Python's json writes, are numbers too. */
void tp_json_allow_constants(struct tp_json *json);
/* Another string_max, for the tokens that follow. */
void tp_json_set_string_max(struct tp_json *json, size_t string_max);

enum tp_status tp_json_next(struct tp_json *json, struct tp_json_token *token, struct tp_error *err);
/* Next token, which must be of `type`; else TP_ERR_FORMAT "expected a string for 'dtype', found an object". */
enum tp_status tp_json_expect(struct tp_json *json, enum tp_json_type type, const char *what,
                              struct tp_json_token *token, struct tp_error *err);
/* Skip the rest of the value whose first token is `first` (nothing for scalars). Strings inside may have any length. */
enum tp_status tp_json_skip(struct tp_json *json, const struct tp_json_token *first, struct tp_error *err);
/* Where reading stands: behind the last token, or at what could not be read. */
uint64_t tp_json_offset(const struct tp_json *json);
/* "an object", "a string", ... for messages. */
const char *tp_json_type_name(enum tp_json_type type);

/* The writer: compact JSON into a growing buffer that is handed to `write` whenever it is full. Remembers the first
 * error; ask once, at finish. Commas and colons are its business. */
typedef enum tp_status (*tp_json_write_fn)(void *user, const char *text, size_t len, struct tp_error *err);
struct tp_json_writer {
    tp_json_write_fn write;
    void *user;
    struct tp_error *err;
    enum tp_status status;
    size_t used;
    bool comma;        /* a comma is due before the next key or value */
    const char *space; /* blanks that are due, after the comma; or NULL */
    char buffer[1 << 14];
};
void tp_json_writer_init(struct tp_json_writer *w, tp_json_write_fn write, void *user, struct tp_error *err);
void tp_json_begin_object(struct tp_json_writer *w);
void tp_json_end_object(struct tp_json_writer *w);
void tp_json_begin_array(struct tp_json_writer *w);
void tp_json_end_array(struct tp_json_writer *w);
void tp_json_key(struct tp_json_writer *w, const char *key);
void tp_json_key_len(struct tp_json_writer *w, const char *key, size_t len);
void tp_json_string(struct tp_json_writer *w, const char *text, size_t len);
void tp_json_cstring(struct tp_json_writer *w, const char *text);
void tp_json_uint(struct tp_json_writer *w, uint64_t value);
/* The shortest decimal that reads back as the same double; NaN and infinities are not JSON: null. */
void tp_json_double(struct tp_json_writer *w, double value);
void tp_json_bool(struct tp_json_writer *w, bool value);
void tp_json_null(struct tp_json_writer *w);
void tp_json_raw(struct tp_json_writer *w, const char *text); /* a value that is to be spelled just so: 0.0 */
void tp_json_newline(struct tp_json_writer *w);               /* for readable places between members */
/* Any blanks before the next key, value or closing bracket; `blanks` is a literal. */
void tp_json_space(struct tp_json_writer *w, const char *blanks);
enum tp_status tp_json_writer_finish(struct tp_json_writer *w);

#endif
