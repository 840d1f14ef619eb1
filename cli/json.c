/* SPDX-License-Identifier: MIT */
/* Writing JSON to a stream. */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "text.h"

static void put_char(FILE *out, uint32_t c)
{
    if (c == '"' || c == '\\')
        fprintf(out, "\\%c", (char)c);
    else if (c >= 0x20 && c < 0x7f)
        putc((int)c, out);
    else if (c < 0x10000)
        fprintf(out, "\\u%04x", (unsigned)c);
    else
        fprintf(out, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)), (unsigned)(0xdc00 + (c & 0x3ff)));
}

static void put_string(FILE *out, const char *text)
{
    putc('"', out);
    while (*text) {
        uint32_t c = 0xfffd;
        size_t step = text_utf8_next(text, &c);
        put_char(out, step ? c : 0xfffd);
        text += step ? step : 1;
    }
    putc('"', out);
}

/* What stands before any value. */
static void begin_item(struct json *j, const char *key)
{
    if (j->comma)
        fputs(", ", j->out);
    if (key) {
        put_string(j->out, key);
        fputs(": ", j->out);
    }
    j->comma = true;
}

void json_open(struct json *j, const char *key, char bracket)
{
    begin_item(j, key);
    putc(bracket, j->out);
    j->comma = false;
}

void json_close(struct json *j, char bracket)
{
    putc(bracket, j->out);
    j->comma = true;
}

void json_text(struct json *j, const char *key, const char *text)
{
    begin_item(j, key);
    if (text)
        put_string(j->out, text);
    else
        fputs("null", j->out);
}

void json_count(struct json *j, const char *key, uint64_t count)
{
    begin_item(j, key);
    fprintf(j->out, "%" PRIu64, count);
}

void json_integer(struct json *j, const char *key, int64_t value)
{
    begin_item(j, key);
    fprintf(j->out, "%" PRId64, value);
}

void json_number(struct json *j, const char *key, double value)
{
    begin_item(j, key);
    char text[32] = "null";
    for (int digits = 15; isfinite(value) && digits <= 17; digits++) { /* the fewest that give the same number back */
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, j->out);
}

void json_bool(struct json *j, const char *key, bool value)
{
    begin_item(j, key);
    fputs(value ? "true" : "false", j->out);
}

void json_null(struct json *j, const char *key)
{
    begin_item(j, key);
    fputs("null", j->out);
}

void json_shape(struct json *j, const char *key, const uint64_t *shape, unsigned rank)
{
    json_open(j, key, '[');
    for (unsigned i = 0; i < rank; i++)
        json_count(j, NULL, shape[i]);
    json_close(j, ']');
}
