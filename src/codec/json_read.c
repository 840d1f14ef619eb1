/* SPDX-License-Identifier: MIT */
/* The strict pull reader of json.h: RFC 8259 and nothing more, in one window of 64 KiB and one string.
 *
 * From top to bottom: opening, errors, the window, strings, numbers and words, the state machine, conveniences. */
#include "codec/json.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/utf8.h"

#define WINDOW_BYTES ((size_t)64 << 10)
#define DEPTH_MAX 127u /* what the reference of safetensors accepts */
#define NUMBER_MAX 256u

enum state {
    WANT_VALUE,
    WANT_VALUE_OR_END, /* just after '[' */
    WANT_KEY_OR_END,   /* just after '{' */
    WANT_COMMA_OR_END,
    WANT_NOTHING /* the value is complete */
};

struct tp_json {
    tp_json_read_fn read; /* NULL: all text is in the window */
    void *user;
    const char *what;
    size_t string_max;
    bool cut_strings, constants;

    char *buffer; /* WINDOW_BYTES, NULL when reading from memory */
    const char *cursor, *end;
    uint64_t end_offset; /* of `end` in the text */
    bool last;           /* there is no text beyond `end` */

    enum state state;
    unsigned depth;
    bool in_object[DEPTH_MAX + 1];

    char *text; /* the current string or number */
    size_t text_len, text_capacity;
    uint64_t text_at; /* where it begins */
    uint64_t full_len;
    bool has_nul, cut;
};

/* ---- opening ---- */

static enum tp_status open_reader(struct tp_json **out, tp_json_read_fn read, void *user, const char *what,
                                  size_t string_max, struct tp_error *err)
{
    struct tp_json *json = calloc(1, sizeof *json);
    if (!json)
        return tp_fail_nomem(err);
    json->read = read;
    json->user = user;
    json->what = what;
    json->string_max = string_max;
    if (read) {
        json->buffer = malloc(WINDOW_BYTES);
        json->cursor = json->end = json->buffer;
        if (!json->buffer) {
            tp_json_close(json);
            return tp_fail_nomem(err);
        }
    }
    *out = json;
    return TP_OK;
}

enum tp_status tp_json_open(struct tp_json **out, tp_json_read_fn read, void *user, const char *what, size_t string_max,
                            struct tp_error *err)
{
    return open_reader(out, read, user, what, string_max, err);
}

enum tp_status tp_json_open_text(struct tp_json **out, const char *text, size_t len, const char *what,
                                 size_t string_max, struct tp_error *err)
{
    enum tp_status status = open_reader(out, NULL, NULL, what, string_max, err);
    if (!status) {
        (*out)->cursor = text;
        (*out)->end = text + len;
        (*out)->end_offset = len;
        (*out)->last = true;
    }
    return status;
}

void tp_json_close(struct tp_json *json)
{
    if (json) {
        free(json->buffer);
        free(json->text);
    }
    free(json);
}

void tp_json_cut_strings(struct tp_json *json)
{
    json->cut_strings = true;
}

void tp_json_allow_constants(struct tp_json *json)
{
    json->constants = true;
}

void tp_json_set_string_max(struct tp_json *json, size_t string_max)
{
    json->string_max = string_max;
}

/* ---- errors ---- */

static uint64_t offset_of(const struct tp_json *json)
{
    return json->end_offset - (uint64_t)(json->end - json->cursor);
}

uint64_t tp_json_offset(const struct tp_json *json)
{
    return offset_of(json);
}

static enum tp_status fail_at(const struct tp_json *json, uint64_t offset, const char *fact, struct tp_error *err)
{
    return tp_fail(err, TP_ERR_FORMAT, "the %s is not valid JSON: %s at byte %" PRIu64, json->what, fact, offset);
}

/* "expected X, found what is at the cursor" */
static enum tp_status fail_expected(const struct tp_json *json, const char *expected, struct tp_error *err)
{
    char fact[128];
    unsigned char c = json->cursor < json->end ? (unsigned char)*json->cursor : 0;
    if (json->cursor == json->end)
        snprintf(fact, sizeof fact, "expected %s, found the end", expected);
    else if (c > 0x20 && c < 0x7f)
        snprintf(fact, sizeof fact, "expected %s, found '%c'", expected, c);
    else
        snprintf(fact, sizeof fact, "expected %s, found byte 0x%02x", expected, c);
    return fail_at(json, offset_of(json), fact, err);
}

/* ---- the window ---- */

/* Have at least `count` bytes at the cursor, or all that is left of the text. */
static enum tp_status fill(struct tp_json *json, size_t count, struct tp_error *err)
{
    while (!json->last && (size_t)(json->end - json->cursor) < count) {
        size_t kept = (size_t)(json->end - json->cursor);
        memmove(json->buffer, json->cursor, kept);
        size_t got = 0;
        enum tp_status status = json->read(json->user, json->buffer + kept, WINDOW_BYTES - kept, &got, err);
        if (status)
            return status;
        json->cursor = json->buffer;
        json->end = json->buffer + kept + got;
        json->end_offset += got;
        json->last = got == 0;
    }
    return TP_OK;
}

static bool at(const struct tp_json *json, char c)
{
    return json->cursor < json->end && *json->cursor == c;
}

static enum tp_status skip_blanks(struct tp_json *json, struct tp_error *err)
{
    for (;;) {
        while (json->cursor < json->end &&
               (*json->cursor == ' ' || *json->cursor == '\n' || *json->cursor == '\t' || *json->cursor == '\r'))
            json->cursor++;
        if (json->cursor < json->end || json->last)
            return TP_OK;
        enum tp_status status = fill(json, 1, err);
        if (status)
            return status;
    }
}

/* ---- strings ---- */

static enum tp_status append(struct tp_json *json, const char *piece, size_t len, struct tp_error *err)
{
    json->full_len += len;
    if (json->cut)
        return TP_OK;
    if (len > json->string_max - json->text_len) {
        if (!json->cut_strings)
            return tp_fail(err, TP_ERR_LIMIT, "the %s has a string longer than %zu bytes at byte %" PRIu64, json->what,
                           json->string_max, json->text_at);
        json->cut = true;
        if ((unsigned char)*piece < 0x80) /* plain ASCII may be split; a code point may not */
            len = json->string_max - json->text_len;
        else
            return TP_OK;
    }
    if (!tp_array_grow(&json->text, &json->text_capacity, json->text_len + len + 1, 1))
        return tp_fail_nomem(err);
    memcpy(json->text + json->text_len, piece, len);
    json->text_len += len;
    return TP_OK;
}

static size_t encode_utf8(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t extra = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[4] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = extra; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[extra] | c);
    return extra + 1;
}

/* Four hex digits at `p`; UINT32_MAX if they are not. */
static uint32_t hex4(const char *p)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return UINT32_MAX;
        value = value << 4 | digit;
    }
    return value;
}

/* After the backslash of \uXXXX, possibly a pair of surrogates. */
static enum tp_status read_unicode_escape(struct tp_json *json, struct tp_error *err)
{
    enum tp_status status = fill(json, 11, err); /* uXXXX\uXXXX */
    if (status)
        return status;
    size_t left = (size_t)(json->end - json->cursor);
    uint64_t offset = offset_of(json) - 1;
    uint32_t c = left >= 5 ? hex4(json->cursor + 1) : UINT32_MAX;
    size_t used = 5;
    if (c == UINT32_MAX)
        return fail_at(json, offset, "expected four hexadecimal digits after \\u", err);
    if (c >= 0xd800 && c < 0xe000) {
        uint32_t low = left >= 11 && json->cursor[5] == '\\' && json->cursor[6] == 'u' ? hex4(json->cursor + 7) : 0;
        if (c >= 0xdc00 || low < 0xdc00 || low >= 0xe000)
            return fail_at(json, offset, "half of a surrogate pair", err);
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        used = 11;
    }
    json->cursor += used;
    json->has_nul |= c == 0;
    char utf8[4];
    return append(json, utf8, encode_utf8(utf8, c), err);
}

static enum tp_status read_escape(struct tp_json *json, struct tp_error *err)
{
    enum tp_status status = fill(json, 2, err);
    if (status)
        return status;
    json->cursor++; /* the backslash */
    if (at(json, 'u'))
        return read_unicode_escape(json, err);
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *name = json->cursor < json->end && *json->cursor ? strchr(names, *json->cursor) : NULL;
    if (!name)
        return fail_expected(json, "one of \"\\/bfnrtu after a backslash", err);
    json->cursor++;
    return append(json, &values[name - names], 1, err);
}

static enum tp_status read_code_point(struct tp_json *json, struct tp_error *err)
{
    enum tp_status status = fill(json, 4, err);
    if (status)
        return status;
    uint32_t c;
    size_t len = tp_utf8_decode(json->cursor, (size_t)(json->end - json->cursor), &c);
    if (len == 0)
        return fail_expected(json, "UTF-8 text", err);
    status = append(json, json->cursor, len, err);
    json->cursor += len;
    return status;
}

/* A run of ASCII that stands for itself. */
static enum tp_status read_plain(struct tp_json *json, struct tp_error *err)
{
    const char *p = json->cursor;
    while (p < json->end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
        p++;
    enum tp_status status = append(json, json->cursor, (size_t)(p - json->cursor), err);
    json->cursor = p;
    return status;
}

/* The cursor is at the opening quote; afterwards it is behind the closing one. */
static enum tp_status read_string(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    json->text_len = 0;
    json->text_at = token->offset;
    json->full_len = 0;
    json->has_nul = json->cut = false;
    enum tp_status status = append(json, "", 0, err); /* so that there is room for the terminator */
    json->cursor++;
    while (!status && !(status = fill(json, 1, err)) && !at(json, '"')) {
        unsigned char c = json->cursor < json->end ? (unsigned char)*json->cursor : 0;
        status = json->cursor == json->end ? fail_expected(json, "'\"' to end the string", err)
                 : c < 0x20                ? fail_expected(json, "no control character in a string", err)
                 : c == '\\'               ? read_escape(json, err)
                 : c >= 0x80               ? read_code_point(json, err)
                                           : read_plain(json, err);
    }
    if (status)
        return status;
    json->cursor++;
    json->text[json->text_len] = '\0';
    token->text = json->text;
    token->len = json->text_len;
    token->full_len = json->full_len;
    token->has_nul = json->has_nul;
    token->cut = json->cut;
    return TP_OK;
}

/* ---- numbers and words ---- */

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

/* The end of the longest number that `p`, a terminated text, begins with; NULL if it begins with none. */
static const char *number_end(const char *p, bool *plain)
{
    const char *start = p;
    p += *p == '-';
    const char *digits = p;
    p = *p == '0' ? p + 1 : skip_digits(p);
    if (p == digits)
        return NULL;
    *plain = digits == start;
    if (*p == '.') {
        *plain = false;
        const char *fraction = ++p;
        p = skip_digits(p);
        if (p == fraction)
            return NULL;
    }
    if (*p == 'e' || *p == 'E') {
        *plain = false;
        p++;
        p += *p == '+' || *p == '-';
        const char *exponent = p;
        p = skip_digits(p);
        if (p == exponent)
            return NULL;
    }
    return p;
}

/* The end of the constant that `p` begins with, or NULL. */
static const char *constant_end(const char *p)
{
    static const char *const constants[] = {"NaN", "Infinity", "-Infinity"}; /* strtod knows them, too */
    for (size_t i = 0; i < TP_COUNT_OF(constants); i++)
        if (strncmp(p, constants[i], strlen(constants[i])) == 0)
            return p + strlen(constants[i]);
    return NULL;
}

/* strtod follows the locale; JSON does not. */
static double to_double(const char *text)
{
    char local[NUMBER_MAX + 16];
    const char *point = localeconv()->decimal_point;
    const char *dot = strchr(text, '.');
    if (!dot || strcmp(point, ".") == 0 || strlen(point) > 8)
        return strtod(text, NULL);
    snprintf(local, sizeof local, "%.*s%s%s", (int)(dot - text), text, point, dot + 1);
    return strtod(local, NULL);
}

/* Plain digits up to 2^63 - 1. */
static bool to_uint(const char *text, uint64_t *value)
{
    uint64_t v = 0;
    for (; *text; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (v > (INT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *value = v;
    return true;
}

static enum tp_status read_number(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    char digits[NUMBER_MAX + 2];
    enum tp_status status = fill(json, NUMBER_MAX + 1, err);
    if (status)
        return status;
    size_t left = (size_t)(json->end - json->cursor);
    size_t len = left < NUMBER_MAX + 1 ? left : NUMBER_MAX + 1;
    memcpy(digits, json->cursor, len);
    digits[len] = '\0';

    bool plain = false;
    const char *end = json->constants ? constant_end(digits) : NULL;
    bool constant = end != NULL;
    if (!constant)
        end = number_end(digits, &plain);
    if (!end)
        return fail_expected(json, "a value", err);
    len = (size_t)(end - digits);
    if (len > NUMBER_MAX)
        return fail_at(json, token->offset, "a number of more than 256 characters", err);
    digits[len] = '\0';
    token->type = plain && to_uint(digits, &token->uint_value) ? TP_JSON_UINT : TP_JSON_NUMBER;
    token->number_value = token->type == TP_JSON_UINT ? (double)token->uint_value : to_double(digits);
    if (!constant && !isfinite(token->number_value))
        return fail_at(json, token->offset, "a number out of range", err);
    json->cursor += len;
    if (!tp_array_grow(&json->text, &json->text_capacity, len + 1, 1))
        return tp_fail_nomem(err);
    memcpy(json->text, digits, len + 1);
    token->text = json->text;
    token->len = len;
    token->full_len = len;
    return TP_OK;
}

static enum tp_status read_word(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    static const struct {
        const char *word;
        enum tp_json_type type;
    } words[] = {{"true", TP_JSON_TRUE}, {"false", TP_JSON_FALSE}, {"null", TP_JSON_NULL}};
    enum tp_status status = fill(json, 5, err);
    if (status)
        return status;
    for (size_t i = 0; i < TP_COUNT_OF(words); i++) {
        size_t len = strlen(words[i].word);
        if ((size_t)(json->end - json->cursor) >= len && memcmp(json->cursor, words[i].word, len) == 0) {
            json->cursor += len;
            token->type = words[i].type;
            return TP_OK;
        }
    }
    return fail_expected(json, "a value", err);
}

/* ---- the state machine ---- */

static enum tp_status begin(struct tp_json *json, struct tp_json_token *token, bool object, struct tp_error *err)
{
    if (json->depth == DEPTH_MAX)
        return fail_at(json, token->offset, "nesting of 128 levels", err);
    json->in_object[++json->depth] = object;
    json->cursor++;
    json->state = object ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
    token->type = object ? TP_JSON_OBJECT_BEGIN : TP_JSON_ARRAY_BEGIN;
    return TP_OK;
}

static enum tp_status finish(struct tp_json *json, struct tp_json_token *token)
{
    token->type = json->in_object[json->depth] ? TP_JSON_OBJECT_END : TP_JSON_ARRAY_END;
    json->depth--;
    json->cursor++;
    json->state = json->depth > 0 ? WANT_COMMA_OR_END : WANT_NOTHING;
    return TP_OK;
}

static enum tp_status read_value(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    if (at(json, '{') || at(json, '['))
        return begin(json, token, *json->cursor == '{', err);
    json->state = json->depth > 0 ? WANT_COMMA_OR_END : WANT_NOTHING;
    if (at(json, '"')) {
        token->type = TP_JSON_STRING;
        return read_string(json, token, err);
    }
    char c = json->cursor < json->end ? *json->cursor : '\0';
    bool is_constant = json->constants && (c == 'N' || c == 'I');
    return c == '-' || (c >= '0' && c <= '9') || is_constant ? read_number(json, token, err)
                                                             : read_word(json, token, err);
}

static enum tp_status read_key(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    if (!at(json, '"'))
        return fail_expected(json, "a key in double quotes", err);
    token->type = TP_JSON_KEY;
    enum tp_status status = read_string(json, token, err);
    if (!status)
        status = skip_blanks(json, err);
    if (!status && !at(json, ':'))
        status = fail_expected(json, "':'", err);
    if (!status) {
        json->cursor++;
        json->state = WANT_VALUE;
    }
    return status;
}

/* Past the comma, if there is one. */
static enum tp_status read_comma(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    if (!at(json, ','))
        return fail_expected(json, json->in_object[json->depth] ? "',' or '}'" : "',' or ']'", err);
    json->cursor++;
    enum tp_status status = skip_blanks(json, err);
    token->offset = offset_of(json);
    return status;
}

enum tp_status tp_json_next(struct tp_json *json, struct tp_json_token *token, struct tp_error *err)
{
    *token = (struct tp_json_token){.type = TP_JSON_END};
    enum tp_status status = skip_blanks(json, err);
    if (status)
        return status;
    token->offset = offset_of(json);
    bool in_object = json->depth > 0 && json->in_object[json->depth];
    if (json->state == WANT_NOTHING)
        return json->cursor == json->end ? TP_OK : fail_expected(json, "nothing after the value", err);
    if (json->state != WANT_VALUE && at(json, in_object ? '}' : ']'))
        return finish(json, token);
    if (json->state == WANT_COMMA_OR_END) {
        status = read_comma(json, token, err);
        if (status)
            return status;
        return in_object ? read_key(json, token, err) : read_value(json, token, err);
    }
    return json->state == WANT_KEY_OR_END ? read_key(json, token, err) : read_value(json, token, err);
}

/* ---- conveniences ---- */

const char *tp_json_type_name(enum tp_json_type type)
{
    static const char *const names[] = {
        [TP_JSON_END] = "the end",
        [TP_JSON_OBJECT_BEGIN] = "an object",
        [TP_JSON_OBJECT_END] = "the end of an object",
        [TP_JSON_ARRAY_BEGIN] = "a list",
        [TP_JSON_ARRAY_END] = "the end of a list",
        [TP_JSON_KEY] = "a key",
        [TP_JSON_STRING] = "a string",
        [TP_JSON_UINT] = "a whole number",
        [TP_JSON_NUMBER] = "a number",
        [TP_JSON_TRUE] = "true",
        [TP_JSON_FALSE] = "false",
        [TP_JSON_NULL] = "null",
    };
    return (unsigned)type < TP_COUNT_OF(names) ? names[type] : "nothing";
}

enum tp_status tp_json_expect(struct tp_json *json, enum tp_json_type type, const char *what,
                              struct tp_json_token *token, struct tp_error *err)
{
    enum tp_status status = tp_json_next(json, token, err);
    if (status || token->type == type)
        return status;
    if (type == TP_JSON_UINT && token->type == TP_JSON_NUMBER)
        return tp_fail(err, TP_ERR_FORMAT, "expected a whole number from 0 to 2^63-1 for %s, found %.64s%s", what,
                       token->text, token->len > 64 ? "..." : "");
    return tp_fail(err, TP_ERR_FORMAT, "expected %s for %s, found %s", tp_json_type_name(type), what,
                   tp_json_type_name(token->type));
}

enum tp_status tp_json_skip(struct tp_json *json, const struct tp_json_token *first, struct tp_error *err)
{
    if (first->type != TP_JSON_OBJECT_BEGIN && first->type != TP_JSON_ARRAY_BEGIN)
        return TP_OK;
    unsigned outside = json->depth - 1;
    bool cut_strings = json->cut_strings;
    json->cut_strings = true;
    struct tp_json_token token;
    enum tp_status status = TP_OK;
    while (!status && json->depth > outside)
        status = tp_json_next(json, &token, err);
    json->cut_strings = cut_strings;
    return status;
}
