/* SPDX-License-Identifier: MIT */
/* The small pieces that OCDBT's reader files share: a cursor over bytes that may lie, the envelope around manifests and
 * nodes, the table of files in both. */
#ifndef TP_CODEC_OCDBT_WIRE_H
#define TP_CODEC_OCDBT_WIRE_H

#include <string.h>

#include "base/endian.h"
#include "codec/ocdbt.h"

#define TP_OCDBT_MAGIC_MANIFEST 0x0cdb3a2au
#define TP_OCDBT_MAGIC_NODE 0x0cdb20deu
#define TP_OCDBT_ENVELOPE_BYTES 18u            /* around an uncompressed body */
#define TP_OCDBT_END_MAX ((uint64_t)INT64_MAX) /* of a range in a file */

/* ---- cursor ---- */

/* Remembers that it ran out, or met what is no number, and gives zeros from then on: ask once, at the end. */
struct tp_wire {
    const uint8_t *at, *end;
    bool bad;
};

static inline size_t tp_wire_left(const struct tp_wire *w)
{
    return (size_t)(w->end - w->at);
}

static inline const uint8_t *tp_wire_take(struct tp_wire *w, uint64_t len)
{
    const uint8_t *p = w->at;
    if (len > tp_wire_left(w)) {
        w->bad = true;
        w->at = w->end;
        return NULL;
    }
    w->at += len;
    return p;
}

static inline uint64_t tp_wire_le(struct tp_wire *w, unsigned bytes)
{
    const uint8_t *p = tp_wire_take(w, bytes);
    return p ? tp_load_le(p, bytes) : 0;
}

/* LEB128, at most 64 bits. */
static inline uint64_t tp_wire_uint(struct tp_wire *w)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (w->at == w->end)
            break;
        const uint8_t byte = *w->at++;
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7fu) << shift;
        if (byte < 0x80)
            return value;
    }
    w->bad = true;
    w->at = w->end;
    return 0;
}

/* Pass over `count` numbers; the column that they were, to be read by a cursor of its own. */
static inline struct tp_wire tp_wire_column(struct tp_wire *w, uint64_t count)
{
    struct tp_wire column = *w;
    for (uint64_t i = 0; i < count && !w->bad; i++)
        tp_wire_uint(w);
    column.end = w->at;
    return column;
}

/* ---- envelope ---- */

struct tp_ocdbt_body {
    const uint8_t *bytes; /* in the envelope, or `owned` */
    size_t len;
    uint8_t *owned; /* malloc'd when it was compressed, or NULL */
};
/* Check the envelope of `bytes`, which `what` names in messages, and decompress. `bytes` must outlive the body. */
enum tp_status tp_ocdbt_unwrap(struct tp_ocdbt_body *body, const uint8_t *bytes, size_t len, uint32_t magic,
                               const char *what, struct tp_error *err);

/* ---- table of files ---- */

struct tp_ocdbt_file {
    const char *path; /* terminated, safe; or empty: a reference to nothing */
    size_t len;
    size_t base_len; /* what the tables of nodes in this file inherit */
};
struct tp_ocdbt_files {
    struct tp_ocdbt_file *items;
    size_t count;
    char *text;
};
/* The table at the cursor; `base` precedes every path. */
enum tp_status tp_ocdbt_files_read(struct tp_ocdbt_files *files, struct tp_wire *w, const char *base, size_t base_len,
                                   const char *what, struct tp_error *err);
void tp_ocdbt_files_release(struct tp_ocdbt_files *files);

#endif
