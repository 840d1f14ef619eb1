/* SPDX-License-Identifier: MIT */
/* libzstd, and nothing of it that trusts a frame: its streaming decoder with its own limit of windows, output that
 * grows as bytes come and not as a header promises. */
#include "codec/unzstd.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

struct tp_unzstd {
    ZSTD_DCtx *context;
};

struct tp_unzstd *tp_unzstd_new(void)
{
    struct tp_unzstd *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->context = ZSTD_createDCtx();
    if (stream->context &&
        !ZSTD_isError(ZSTD_DCtx_setParameter(stream->context, ZSTD_d_windowLogMax, TP_UNZSTD_WINDOW_LOG_MAX)))
        return stream;
    tp_unzstd_free(stream);
    return NULL;
}

void tp_unzstd_free(struct tp_unzstd *stream)
{
    if (!stream)
        return;
    ZSTD_freeDCtx(stream->context);
    free(stream);
}

size_t tp_unzstd_bytes(const struct tp_unzstd *stream)
{
    return stream ? sizeof *stream + ZSTD_sizeof_DCtx(stream->context) : 0;
}

void tp_unzstd_restart(struct tp_unzstd *stream)
{
    ZSTD_DCtx_reset(stream->context, ZSTD_reset_session_only);
}

static enum tp_status fail(size_t code, struct tp_error *err)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
        return tp_fail_nomem(err);
    case ZSTD_error_frameParameter_windowTooLarge:
        return tp_fail(err, TP_ERR_LIMIT, "zstd: the window is larger than %u MiB",
                       1u << (TP_UNZSTD_WINDOW_LOG_MAX - 20u));
    default:
        return tp_fail(err, TP_ERR_FORMAT, "zstd: %s", ZSTD_getErrorName(code));
    }
}

enum tp_status tp_unzstd_next(struct tp_unzstd *stream, void *dst, size_t dst_len, size_t *dst_used, const void *src,
                              size_t src_len, size_t *src_used, bool *at_end, struct tp_error *err)
{
    ZSTD_outBuffer out = {dst, dst_len, 0};
    ZSTD_inBuffer in = {src, src_len, 0};
    size_t left = 1;
    do {
        const size_t before = in.pos + out.pos;
        left = ZSTD_decompressStream(stream->context, &out, &in);
        if (ZSTD_isError(left))
            return fail(left, err);
        if (left == 0 || in.pos + out.pos == before)
            break;
    } while (in.pos < in.size && out.pos < out.size);
    *dst_used = out.pos;
    *src_used = in.pos;
    *at_end = left == 0;
    return TP_OK;
}

struct text { /* that grows to one byte more than it may have */
    uint8_t *bytes;
    size_t len, capacity, limit;
};

static enum tp_status grow(struct text *text, const char *what, struct tp_error *err)
{
    if (text->len > text->limit)
        return tp_fail(err, TP_ERR_LIMIT, "%s: it decompresses to more than %zu bytes", what, text->limit);
    size_t wanted = text->capacity ? 2 * text->capacity : 1 << 16;
    if (wanted > text->limit)
        wanted = text->limit + 1;
    uint8_t *bytes = realloc(text->bytes, wanted);
    if (!bytes)
        return tp_fail_nomem(err);
    text->bytes = bytes;
    text->capacity = wanted;
    return TP_OK;
}

/* To the end of src, which must be the end of a frame. */
static enum tp_status drain(struct tp_unzstd *stream, struct text *text, const uint8_t *src, size_t len,
                            const char *what, struct tp_error *err)
{
    bool at_end = false;
    for (size_t at = 0; at < len || !at_end;) {
        size_t got = 0, used = 0;
        enum tp_status status = text->len == text->capacity ? grow(text, what, err) : TP_OK;
        if (!status)
            status = tp_unzstd_next(stream, text->bytes + text->len, text->capacity - text->len, &got, src + at,
                                    len - at, &used, &at_end, err);
        if (status)
            return status;
        text->len += got;
        at += used;
        if (at == len && !at_end && text->len < text->capacity)
            return tp_fail(err, TP_ERR_FORMAT, "%s: the zstd stream is cut short", what);
    }
    return text->len > text->limit ? grow(text, what, err) : TP_OK;
}

enum tp_status tp_unzstd_all(uint8_t **out, size_t *out_len, const uint8_t *src, size_t len, size_t limit,
                             const char *what, struct tp_error *err)
{
    struct text text = {.limit = limit};
    struct tp_unzstd *stream = tp_unzstd_new();
    enum tp_status status = stream ? drain(stream, &text, src, len, what, err) : tp_fail_nomem(err);
    tp_unzstd_free(stream);
    if (status) {
        free(text.bytes);
        return status;
    }
    *out = text.bytes;
    *out_len = text.len;
    return TP_OK;
}
