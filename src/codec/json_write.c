/* SPDX-License-Identifier: MIT */
/* The compact writer of json.h. It keeps one fact, whether a comma is due; the caller keeps the nesting right. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "tensorport/text.h"

static void flush(struct tp_json_writer *w)
{
    if (!w->status && w->used > 0)
        w->status = w->write(w->user, w->buffer, w->used, w->err);
    w->used = 0;
}

static void emit(struct tp_json_writer *w, const char *text, size_t len)
{
    while (len > 0) {
        size_t room = sizeof w->buffer - w->used;
        size_t piece = len < room ? len : room;
        memcpy(w->buffer + w->used, text, piece);
        w->used += piece;
        text += piece;
        len -= piece;
        if (w->used == sizeof w->buffer)
            flush(w);
    }
}

/* What is due before the next key, value or closing bracket. */
static void emit_due(struct tp_json_writer *w, bool closing)
{
    if (w->comma && !closing)
        emit(w, ",", 1);
    if (w->space)
        emit(w, w->space, strlen(w->space));
    w->comma = false;
    w->space = NULL;
}

static void begin(struct tp_json_writer *w, const char *bracket)
{
    emit_due(w, false);
    emit(w, bracket, 1);
}

static void end(struct tp_json_writer *w, const char *bracket)
{
    emit_due(w, true);
    emit(w, bracket, 1);
    w->comma = true;
}

static void value(struct tp_json_writer *w, const char *text, size_t len)
{
    emit_due(w, false);
    emit(w, text, len);
    w->comma = true;
}

static void quoted(struct tp_json_writer *w, const char *text, size_t len)
{
    char escaped[6 * 256 + 1];
    emit_due(w, false);
    emit(w, "\"", 1);
    for (size_t done = 0; done < len;) {
        size_t piece = len - done < 256 ? len - done : 256;
        emit(w, escaped, tp_text_json(escaped, sizeof escaped, text + done, piece));
        done += piece;
    }
    emit(w, "\"", 1);
}

void tp_json_writer_init(struct tp_json_writer *w, tp_json_write_fn write, void *user, struct tp_error *err)
{
    w->write = write;
    w->user = user;
    w->err = err;
    w->status = TP_OK;
    w->used = 0;
    w->comma = false;
    w->space = NULL;
}

void tp_json_begin_object(struct tp_json_writer *w)
{
    begin(w, "{");
}

void tp_json_end_object(struct tp_json_writer *w)
{
    end(w, "}");
}

void tp_json_begin_array(struct tp_json_writer *w)
{
    begin(w, "[");
}

void tp_json_end_array(struct tp_json_writer *w)
{
    end(w, "]");
}

void tp_json_key_len(struct tp_json_writer *w, const char *key, size_t len)
{
    quoted(w, key, len);
    emit(w, ":", 1);
}

void tp_json_key(struct tp_json_writer *w, const char *key)
{
    tp_json_key_len(w, key, strlen(key));
}

void tp_json_string(struct tp_json_writer *w, const char *text, size_t len)
{
    quoted(w, text, len);
    w->comma = true;
}

void tp_json_cstring(struct tp_json_writer *w, const char *text)
{
    tp_json_string(w, text, strlen(text));
}

void tp_json_uint(struct tp_json_writer *w, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    value(w, digits + at, sizeof digits - at);
}

static bool reads_back(char *text, size_t cap, double number, int precision)
{
    snprintf(text, cap, "%.*g", precision, number);
    return strtod(text, NULL) == number;
}

/* The fewest digits that read back as the same double; 17 always do. Few values need fewer than 15, and if p digits
 * are enough then so are p + 1. */
static void shortest(char *text, size_t cap, double number)
{
    int low = 1, high = 17;
    if (reads_back(text, cap, number, 15))
        high = 15;
    else
        low = 16;
    while (low < high) {
        int middle = (low + high) / 2;
        if (reads_back(text, cap, number, middle))
            high = middle;
        else
            low = middle + 1;
    }
    if (!reads_back(text, cap, number, high))
        snprintf(text, cap, "%.17g", number);
}

void tp_json_double(struct tp_json_writer *w, double number)
{
    if (!isfinite(number)) {
        tp_json_null(w);
        return;
    }
    char text[64];
    shortest(text, sizeof text, number);
    const char *point = localeconv()->decimal_point; /* printf follows the locale; JSON does not */
    char *found = strstr(text, point);
    if (found && strcmp(point, ".") != 0) {
        *found = '.';
        memmove(found + 1, found + strlen(point), strlen(found + strlen(point)) + 1);
    }
    value(w, text, strlen(text));
}

void tp_json_bool(struct tp_json_writer *w, bool truth)
{
    value(w, truth ? "true" : "false", truth ? 4 : 5);
}

void tp_json_raw(struct tp_json_writer *w, const char *text)
{
    value(w, text, strlen(text));
}

void tp_json_null(struct tp_json_writer *w)
{
    value(w, "null", 4);
}

void tp_json_newline(struct tp_json_writer *w)
{
    w->space = "\n";
}

void tp_json_space(struct tp_json_writer *w, const char *blanks)
{
    w->space = blanks;
}

enum tp_status tp_json_writer_finish(struct tp_json_writer *w)
{
    if (w->space)
        emit(w, w->space, strlen(w->space));
    w->space = NULL;
    flush(w);
    return w->status;
}
