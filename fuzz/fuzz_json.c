/* SPDX-License-Identifier: MIT */
/* The JSON reader. What it makes of a text does not depend on the pieces that the text comes in, and what it accepts
 * means the same after it was written and read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "fuzz.h"

struct text {
    char *bytes;
    size_t len, capacity;
};

struct pieces {
    const uint8_t *at;
    size_t left, piece;
};

static enum tp_status give_piece(void *user, char *dst, size_t cap, size_t *got, struct tp_error *err)
{
    struct pieces *p = user;
    (void)err;
    *got = p->left < p->piece ? p->left : p->piece;
    *got = *got < cap ? *got : cap;
    if (*got > 0)
        memcpy(dst, p->at, *got);
    p->at += *got;
    p->left -= *got;
    return TP_OK;
}

static enum tp_status append(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    struct text *t = user;
    (void)err;
    FUZZ_CHECK(tp_array_grow(&t->bytes, &t->capacity, t->len + len + 1, 1));
    memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
    return TP_OK;
}

/* One token to the writer; values of numbers, not their spelling. */
static void emit(struct tp_json_writer *w, const struct tp_json_token *t)
{
    switch (t->type) {
    case TP_JSON_OBJECT_BEGIN:
        tp_json_begin_object(w);
        break;
    case TP_JSON_OBJECT_END:
        tp_json_end_object(w);
        break;
    case TP_JSON_ARRAY_BEGIN:
        tp_json_begin_array(w);
        break;
    case TP_JSON_ARRAY_END:
        tp_json_end_array(w);
        break;
    case TP_JSON_KEY:
        tp_json_key_len(w, t->text, t->len);
        break;
    case TP_JSON_STRING:
        tp_json_string(w, t->text, t->len);
        break;
    case TP_JSON_UINT:
        tp_json_uint(w, t->uint_value);
        break;
    case TP_JSON_NUMBER:
        tp_json_double(w, t->number_value);
        break;
    case TP_JSON_TRUE:
    case TP_JSON_FALSE:
        tp_json_bool(w, t->type == TP_JSON_TRUE);
        break;
    case TP_JSON_NULL:
        tp_json_null(w);
        break;
    case TP_JSON_END:
        break;
    }
}

static void check_token(const struct tp_json_token *t, size_t string_max)
{
    bool has_text = t->type == TP_JSON_KEY || t->type == TP_JSON_STRING || t->type == TP_JSON_NUMBER;
    if (!has_text)
        return;
    FUZZ_CHECK(t->text[t->len] == '\0' && t->len <= t->full_len);
    FUZZ_CHECK(t->type == TP_JSON_NUMBER || t->len <= string_max);
    FUZZ_CHECK(t->has_nul || t->cut || strlen(t->text) == t->len);
    FUZZ_CHECK(t->cut || t->full_len == t->len);
}

/* Read all of it and write it again. */
static enum tp_status rewrite(struct tp_json *json, size_t string_max, struct text *out, struct tp_error *err)
{
    static struct tp_json_writer w;
    struct tp_json_token token = {.type = TP_JSON_NULL};
    enum tp_status status = TP_OK;
    tp_json_writer_init(&w, append, out, err);
    do {
        status = tp_json_next(json, &token, err);
        if (!status) {
            check_token(&token, string_max);
            emit(&w, &token);
        }
    } while (!status && token.type != TP_JSON_END);
    tp_json_close(json);
    FUZZ_CHECK(tp_json_writer_finish(&w) == TP_OK);
    return status;
}

/* How a text is read. */
struct mode {
    size_t string_max;
    bool cut, constants;
};

static enum tp_status rewrite_as(struct tp_json *json, struct mode mode, struct text *out, struct tp_error *err)
{
    if (mode.cut)
        tp_json_cut_strings(json);
    if (mode.constants)
        tp_json_allow_constants(json);
    return rewrite(json, mode.string_max, out, err);
}

static enum tp_status rewrite_text(const void *bytes, size_t len, struct mode mode, struct text *out,
                                   struct tp_error *err)
{
    struct tp_json *json = NULL;
    FUZZ_CHECK(tp_json_open_text(&json, bytes, len, "text", mode.string_max, err) == TP_OK);
    return rewrite_as(json, mode, out, err);
}

static void check_pieces(struct pieces pieces, struct mode mode, enum tp_status wanted_status,
                         const struct text *wanted, const struct tp_error *wanted_err)
{
    struct tp_error err = {.code = TP_OK};
    struct text out = {0};
    struct tp_json *json = NULL;
    FUZZ_CHECK(tp_json_open(&json, give_piece, &pieces, "text", mode.string_max, &err) == TP_OK);
    enum tp_status status = rewrite_as(json, mode, &out, &err);
    FUZZ_CHECK(status == wanted_status && out.len == wanted->len);
    FUZZ_CHECK(out.len == 0 || memcmp(out.bytes, wanted->bytes, out.len) == 0);
    FUZZ_CHECK_SAYS(strcmp(err.message, wanted_err->message) == 0, err.message);
    free(out.bytes);
}

static void check_skip(const uint8_t *text, size_t len, bool constants)
{
    struct tp_error err = {.code = TP_OK};
    struct tp_json *json = NULL;
    struct tp_json_token token = {.type = TP_JSON_NULL};
    FUZZ_CHECK(tp_json_open_text(&json, (const char *)text, len, "text", 16, &err) == TP_OK);
    tp_json_cut_strings(json);
    if (constants)
        tp_json_allow_constants(json);
    FUZZ_CHECK(tp_json_next(json, &token, &err) == TP_OK && tp_json_skip(json, &token, &err) == TP_OK);
    FUZZ_CHECK(tp_json_next(json, &token, &err) == TP_OK && token.type == TP_JSON_END);
    tp_json_close(json);
}

/* The first two bytes: how the text is read, and the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t string_maxima[] = {4096, 8, 1, 64};
    struct fuzz_bytes in = {data, size};
    struct tp_error err = {.code = TP_OK};
    struct text once = {0}, twice = {0};
    size_t choice = fuzz_choice(&in, 16), piece = (size_t)fuzz_number(&in, 1) + 1;
    struct mode mode = {string_maxima[choice % 4], choice & 4, choice & 8};
    enum tp_status status = rewrite_text(in.at, in.left, mode, &once, &err);
    check_pieces((struct pieces){in.at, in.left, piece}, mode, status, &once, &err);
    if (status) {
        fuzz_check_error(status, &err);
    } else {
        enum tp_status again =
            rewrite_text(once.bytes, once.len, (struct mode){mode.string_max, false, false}, &twice, &err);
        FUZZ_CHECK_SAYS(again == TP_OK, err.message);
        FUZZ_CHECK(once.len == twice.len && memcmp(once.bytes, twice.bytes, once.len) == 0);
        check_skip(in.at, in.left, mode.constants);
    }
    free(once.bytes);
    free(twice.bytes);
    return 0;
}
