/* SPDX-License-Identifier: MIT */
/* config.json without what it says of quantisation: walked once to see that it is valid and that there is something to
 * leave out, and once more to write. Scalars are copied from the file, not from the tokens, so that they stay as they
 * were written. */
#include "job/config_copy.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/json_file.h"
#include "os/file.h"
#include "tensorport/checkpoint.h"

#define WINDOW_BYTES ((size_t)16 << 10)

/* Of DeepSeek-V4, and of MLX. */
static const char *const left_out[] = {"quantization_config", "compression_config", "expert_dtype", "quantization"};

struct copier {
    const char *path;
    int fd;
    uint64_t size_bytes;
    struct tp_json *json;
    struct tp_text_file *out; /* NULL: a rehearsal, nothing is written */
    struct tp_error *err;
    enum tp_status status; /* of reading and writing text: the first failure */
    bool removed;

    unsigned depth;
    bool first;   /* in the innermost list or object nothing has been written yet */
    bool in_text; /* in the object under text_config, at any depth */

    char window[WINDOW_BYTES]; /* of the source, for the text of strings */
    uint64_t window_at;
    size_t window_len;
    char buffer[WINDOW_BYTES]; /* of the copy */
    size_t used;
};

/* ---- text ---- */

static void flush(struct copier *c)
{
    if (c->out && !c->status && c->used > 0)
        c->status = tp_text_file_write(c->out, c->buffer, c->used, c->err);
    c->used = 0;
}

static void put(struct copier *c, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (c->used == sizeof c->buffer)
            flush(c);
        c->buffer[c->used++] = text[i];
    }
}

static void put_newline(struct copier *c)
{
    put(c, "\n", 1);
    for (unsigned i = 0; i < c->depth; i++)
        put(c, "  ", 2);
}

/* Before a key, or a value of a list. */
static void put_separator(struct copier *c)
{
    if (c->depth == 0)
        return;
    put(c, ",", c->first ? 0 : 1);
    put_newline(c);
}

static char byte_at(struct copier *c, uint64_t offset)
{
    if (offset >= c->window_at && offset - c->window_at < c->window_len)
        return c->window[offset - c->window_at];
    if (c->status || offset >= c->size_bytes)
        return '"'; /* ends the string that is being copied */
    uint64_t left = c->size_bytes - offset;
    c->window_at = offset;
    c->window_len = left < sizeof c->window ? (size_t)left : sizeof c->window;
    c->status = tp_file_read_at(c->fd, c->window, c->window_len, offset, c->path, c->err);
    return c->status ? '"' : c->window[0];
}

/* The string whose opening quote is at `offset`, escapes and all. */
static void put_string(struct copier *c, uint64_t offset)
{
    bool escaped = false;
    put(c, "\"", 1);
    for (;;) {
        char text = byte_at(c, ++offset);
        put(c, &text, 1);
        if (text == '"' && (!escaped || c->status))
            return;
        escaped = text == '\\' && !escaped;
    }
}

/* ---- tokens ---- */

static bool key_is(const struct tp_json_token *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->text, text, key->len) == 0;
}

static bool is_left_out(const struct copier *c, const struct tp_json_token *key)
{
    if (c->depth != 1 && !(c->depth == 2 && c->in_text))
        return false;
    for (size_t i = 0; i < TP_COUNT_OF(left_out); i++)
        if (key_is(key, left_out[i]))
            return true;
    return false;
}

static void put_begin(struct copier *c, const struct tp_json_token *token)
{
    put(c, token->type == TP_JSON_OBJECT_BEGIN ? "{" : "[", 1);
    c->depth++;
    c->first = true;
}

static void put_end(struct copier *c, const struct tp_json_token *token)
{
    c->depth--;
    c->in_text = c->in_text && c->depth > 1;
    if (!c->first)
        put_newline(c);
    put(c, token->type == TP_JSON_OBJECT_END ? "}" : "]", 1);
    c->first = false;
}

static void put_value(struct copier *c, const struct tp_json_token *token)
{
    switch (token->type) {
    case TP_JSON_OBJECT_BEGIN:
    case TP_JSON_ARRAY_BEGIN:
        put_begin(c, token);
        return;
    case TP_JSON_STRING:
        put_string(c, token->offset);
        break;
    case TP_JSON_TRUE:
    case TP_JSON_FALSE:
    case TP_JSON_NULL:
        put(c, tp_json_type_name(token->type), strlen(tp_json_type_name(token->type)));
        break;
    default:
        put(c, token->text, token->len);
        break;
    }
    c->first = false;
}

/* A key, and its value as far as one token goes. */
static enum tp_status copy_member(struct copier *c, struct tp_json_token *token, struct tp_error *err)
{
    bool remove = is_left_out(c, token), is_text = c->depth == 1 && key_is(token, "text_config");
    if (!remove) {
        put_separator(c);
        put_string(c, token->offset);
        put(c, ": ", 2);
    }
    enum tp_status status = tp_json_next(c->json, token, err);
    if (status)
        return status;
    if (remove) {
        c->removed = true;
        return tp_json_skip(c->json, token, err);
    }
    put_value(c, token);
    c->in_text = c->in_text || (is_text && token->type == TP_JSON_OBJECT_BEGIN);
    return TP_OK;
}

/* All of the text, or all up to the first thing that is wrong with it. */
static enum tp_status walk(struct copier *c, struct tp_text_file *out, struct tp_error *err)
{
    struct tp_json_token token;
    struct tp_json_file file;
    enum tp_status status = tp_json_file_part(&file, c->fd, c->path, 0, c->size_bytes, "config.json", err);
    c->json = file.json;
    if (!status)
        tp_json_allow_constants(c->json);
    c->out = out;
    c->depth = 0;
    c->used = 0;
    c->first = true;
    c->in_text = false;
    while (!status && !c->status) {
        status = tp_json_next(c->json, &token, err);
        if (status || token.type == TP_JSON_END)
            break;
        if (token.type == TP_JSON_KEY) {
            status = copy_member(c, &token, err);
        } else if (token.type == TP_JSON_OBJECT_END || token.type == TP_JSON_ARRAY_END) {
            put_end(c, &token);
        } else {
            put_separator(c);
            put_value(c, &token);
        }
    }
    tp_json_file_close(&file);
    return status ? status : c->status;
}

/* ---- the copy ---- */

static void copy_bytes(struct copier *c, struct tp_text_file *out)
{
    for (uint64_t at = 0; at < c->size_bytes && !c->status;) {
        uint64_t left = c->size_bytes - at;
        size_t n = left < sizeof c->window ? (size_t)left : sizeof c->window;
        c->status = tp_file_read_at(c->fd, c->window, n, at, c->path, c->err);
        if (!c->status)
            c->status = tp_text_file_write(out, c->window, n, c->err);
        at += n;
    }
}

static enum tp_status copy(struct copier *c, struct tp_text_file *out, bool *changed)
{
    struct tp_error why = {.code = TP_OK};
    enum tp_status status = c->size_bytes > TP_HEADER_MAX_BYTES ? TP_ERR_LIMIT : walk(c, NULL, &why);
    if (!c->status && (status == TP_ERR_NOMEM || status == TP_ERR_IO)) { /* then nobody knows what it says */
        if (c->err)
            *c->err = why;
        c->status = status;
    }
    if (c->status)
        return c->status;
    *changed = !status && c->removed;
    if (!*changed) {
        copy_bytes(c, out);
        return c->status;
    }
    status = walk(c, out, c->err);
    if (!status && byte_at(c, c->size_bytes - 1) == '\n') /* as the source ends */
        put(c, "\n", 1);
    if (!status)
        flush(c);
    return status ? status : c->status;
}

enum tp_status tp_config_copy(const char *from_path, struct tp_text_file *out, bool *changed, struct tp_error *err)
{
    struct tp_file_id id;
    struct copier *c = calloc(1, sizeof *c);
    if (!c)
        return tp_fail_nomem(err);
    c->path = from_path;
    c->err = err;
    c->fd = -1;
    enum tp_status status = tp_file_open_read(&c->fd, from_path, &id, err);
    if (!status) {
        c->size_bytes = id.size_bytes;
        status = copy(c, out, changed);
    }
    tp_fd_close(c->fd);
    free(c);
    return status;
}
