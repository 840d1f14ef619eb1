/* SPDX-License-Identifier: MIT */
#include "checkpoint/chunk_stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "codec/unzstd.h"

#define INPUT_BYTES ((size_t)64 << 10)
#define WASTE_BYTES ((size_t)64 << 10)
#define PADDING_MAX ((uint64_t)16 << 20)

struct tp_chunk_stream {
    const struct tp_extent *extent; /* NULL: free to be used for another chunk */
    struct tp_unzstd *zstd;         /* made when the first compressed chunk comes */
    uint64_t taken;                 /* stored bytes that are in `input`, or were */
    uint64_t given;                 /* bytes of elements, so far */
    uint64_t used_at;
    uint32_t crc; /* of the bytes taken */
    bool at_end;  /* the zstd frame is complete */
    size_t have, used;
    uint8_t input[INPUT_BYTES];
};

/* ---- one stream ---- */

static const struct tp_extent *extent_of(const struct tp_chunk *c)
{
    return &c->tensor->extents[c->number];
}

static uint64_t payload_bytes(const struct tp_chunk *c)
{
    return extent_of(c)->size_bytes - (c->tensor->chunks->has_crc ? 4 : 0);
}

enum tp_status tp_chunk_read_stored(const struct tp_chunk *c, void *dst, size_t len, uint64_t offset,
                                    struct tp_error *err)
{
    const struct tp_extent *e = extent_of(c);
    if (e->file != TP_FILE_MEMORY)
        return tp_checkpoint_read_at(c->ck, e->file, dst, len, e->offset_bytes + offset, err);
    memcpy(dst, c->ck->memory + e->offset_bytes + offset, len);
    return TP_OK;
}

static enum tp_status bad(const struct tp_chunk *c, struct tp_error *err, const char *what)
{
    uint32_t file = extent_of(c)->file;
    enum tp_status status =
        tp_fail(err, TP_ERR_FORMAT, "chunk %" PRIu32 " of %" PRIu32 " %s", c->number, c->tensor->extent_count, what);
    return file == TP_FILE_MEMORY ? status : tp_err_path(err, status, tp_checkpoint_file_path(c->ck, file));
}

static enum tp_status fill(struct tp_chunk_stream *s, const struct tp_chunk *c, struct tp_error *err)
{
    uint64_t left = payload_bytes(c) - s->taken;
    if (s->used < s->have || left == 0)
        return TP_OK;
    size_t len = left < INPUT_BYTES ? (size_t)left : INPUT_BYTES;
    enum tp_status status = tp_chunk_read_stored(c, s->input, len, s->taken, err);
    if (status)
        return status;
    if (c->tensor->chunks->has_crc)
        s->crc = tp_crc32c(s->crc, s->input, len);
    s->used = 0;
    s->have = len;
    s->taken += len;
    return TP_OK;
}

/* Some of the next `len` bytes of elements; *got is 0 only where the stream ends. */
static enum tp_status decode(struct tp_chunk_stream *s, const struct tp_chunk *c, uint8_t *dst, size_t len, size_t *got,
                             struct tp_error *err)
{
    enum tp_status status = TP_OK;
    for (*got = 0; *got == 0 && !s->at_end && !status;) {
        status = fill(s, c, err);
        size_t ready = s->have - s->used, used = ready < len ? ready : len;
        if (status)
            return status;
        if (c->tensor->chunks->codec == TP_CHUNK_STORED) {
            memcpy(dst, s->input + s->used, used);
            *got = used;
            s->at_end = used == 0;
        } else {
            struct tp_error why = {.code = TP_OK};
            status = tp_unzstd_next(s->zstd, dst, len, got, s->input + s->used, ready, &used, &s->at_end, &why);
            if (status == TP_ERR_FORMAT)
                bad(c, err, "is no zstd stream: its bytes are damaged");
            else if (status)
                tp_fail(err, status, "%s", why.message);
            if (!status && ready == 0 && *got == 0 && !s->at_end)
                return bad(c, err, "ends within its zstd stream: bytes are missing");
        }
        s->used += used;
    }
    s->given += *got;
    return status;
}

static enum tp_status read_on(struct tp_chunk_stream *s, const struct tp_chunk *c, uint8_t *dst, size_t len,
                              struct tp_error *err)
{
    enum tp_status status = TP_OK;
    while (!status && len > 0) {
        size_t got;
        status = decode(s, c, dst, len, &got, err);
        if (!status && got == 0)
            return bad(c, err, "decodes to fewer bytes than its shape says");
        dst += got;
        len -= got;
    }
    return status;
}

static enum tp_status skip_to(struct tp_chunk_stream *s, const struct tp_chunk *c, uint64_t offset, uint8_t *waste,
                              struct tp_error *err)
{
    enum tp_status status = TP_OK;
    while (!status && s->given < offset) {
        uint64_t left = offset - s->given;
        status = read_on(s, c, waste, left < WASTE_BYTES ? (size_t)left : WASTE_BYTES, err);
    }
    return status;
}

/* All elements have been had: the stream must end here, and be what was written. */
static enum tp_status prove_end(struct tp_chunk_stream *s, const struct tp_chunk *c, uint8_t *waste,
                                struct tp_error *err)
{
    uint8_t stored[4];
    size_t got = 0;
    enum tp_status status = skip_to(s, c, c->volume_bytes, waste, err);
    if (!status)
        status = decode(s, c, waste, 1, &got, err);
    if (!status && got > 0)
        return bad(c, err, "decodes to more bytes than its shape says");
    if (!status && (s->used < s->have || s->taken < payload_bytes(c)))
        return bad(c, err, "has bytes behind the end of its zstd stream");
    if (status || !c->tensor->chunks->has_crc)
        return status;
    status = tp_chunk_read_stored(c, stored, sizeof stored, s->taken, err);
    if (!status && tp_load_le(stored, 4) != s->crc)
        status = bad(c, err, "is damaged: its CRC-32C differs");
    return status;
}

/* ---- all of them ---- */

static size_t bytes_of(const struct tp_chunk_stream *s)
{
    return sizeof *s + tp_unzstd_bytes(s->zstd);
}

static void stream_free(struct tp_chunk_stream *s)
{
    tp_unzstd_free(s->zstd);
    free(s);
}

void tp_chunk_streams_release(struct tp_chunk_streams *streams)
{
    for (size_t i = 0; i < streams->count; i++)
        stream_free(streams->items[i]);
    free(streams->items);
    free(streams->waste);
    *streams = (struct tp_chunk_streams){.budget_bytes = streams->budget_bytes};
}

size_t tp_chunk_streams_bytes_each(const struct tp_chunk_streams *streams)
{
    return streams->largest_bytes > 0 ? streams->largest_bytes : TP_CHUNK_STREAM_BYTES;
}

size_t tp_chunk_streams_room(const struct tp_chunk_streams *streams)
{
    size_t room = streams->budget_bytes / tp_chunk_streams_bytes_each(streams);
    return room < 1 ? 1 : room < TP_CHUNK_STREAMS_MAX ? room : TP_CHUNK_STREAMS_MAX;
}

static struct tp_chunk_stream *oldest(const struct tp_chunk_streams *streams)
{
    struct tp_chunk_stream *best = streams->items[0];
    for (size_t i = 1; i < streams->count; i++)
        if (streams->items[i]->used_at < best->used_at)
            best = streams->items[i];
    return best;
}

void tp_chunk_streams_trim(struct tp_chunk_streams *streams, size_t count)
{
    for (; streams->count > count; streams->count--) {
        struct tp_chunk_stream *s = oldest(streams), **place = streams->items;
        while (*place != s)
            place++;
        *place = streams->items[streams->count - 1];
        stream_free(s);
    }
}

/* A stream for another chunk: a new one while there is room, else the one that was not used for longest. */
static struct tp_chunk_stream *take(struct tp_chunk_streams *streams)
{
    size_t room = tp_chunk_streams_room(streams);
    for (size_t i = 0; i < streams->count; i++)
        if (!streams->items[i]->extent)
            return streams->items[i];
    tp_chunk_streams_trim(streams, room); /* they may have turned out to be larger than was thought */
    if (streams->count == room)
        return oldest(streams);
    if (!tp_array_grow(&streams->items, &streams->capacity, streams->count + 1, sizeof *streams->items))
        return NULL;
    struct tp_chunk_stream *s = malloc(sizeof *s);
    if (s) {
        s->zstd = NULL;
        streams->items[streams->count++] = s;
    }
    return s;
}

/* Begin a chunk again, or another one. False: no memory. */
static bool restart(struct tp_chunk_stream *s, const struct tp_chunk *c)
{
    if (c->tensor->chunks->codec == TP_CHUNK_ZSTD && s->zstd)
        tp_unzstd_restart(s->zstd);
    else if (c->tensor->chunks->codec == TP_CHUNK_ZSTD && !(s->zstd = tp_unzstd_new()))
        return false;
    s->extent = extent_of(c);
    s->taken = s->given = 0;
    s->have = s->used = 0;
    s->crc = 0;
    s->at_end = false;
    return true;
}

/* The stream of this chunk, at or before `offset`; NULL: no memory. */
static struct tp_chunk_stream *find(struct tp_chunk_streams *streams, const struct tp_chunk *c, uint64_t offset)
{
    struct tp_chunk_stream *s = NULL;
    if (!streams->waste && !(streams->waste = malloc(WASTE_BYTES)))
        return NULL;
    for (size_t i = 0; !s && i < streams->count; i++)
        if (streams->items[i]->extent == extent_of(c))
            s = streams->items[i];
    if (s && s->given <= offset)
        return s;
    if (!s)
        s = take(streams);
    return s && restart(s, c) ? s : NULL;
}

enum tp_status tp_chunk_streams_read(struct tp_chunk_streams *streams, const struct tp_chunk *c, void *dst, size_t len,
                                     uint64_t offset, struct tp_error *err)
{
    struct tp_chunk_stream *s = find(streams, c, offset);
    if (!s)
        return tp_fail_nomem(err);
    s->used_at = ++streams->clock;
    enum tp_status status = skip_to(s, c, offset, streams->waste, err);
    if (!status)
        status = read_on(s, c, dst, len, err);
    bool is_last = !status && s->given >= c->needed_bytes;
    if (is_last && c->volume_bytes - s->given < PADDING_MAX)
        status = prove_end(s, c, streams->waste, err);
    size_t bytes = bytes_of(s);
    streams->largest_bytes = bytes > streams->largest_bytes ? bytes : streams->largest_bytes;
    if (status || is_last)
        s->extent = NULL;
    return status;
}
