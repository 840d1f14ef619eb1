/* SPDX-License-Identifier: MIT */
/* manifest.ocdbt. Body: uuid, configuration, table of files, versions as columns (generation, u8 height, file, offset,
 * length, key_count, node_bytes, indirect_bytes, u64 time), references to nodes of older versions as columns. The
 * newest version is the last; a root that is nothing has offset and length 2^64 - 1. */
#include <inttypes.h>
#include <stdlib.h>

#include "codec/ocdbt_wire.h"

#define WHAT TP_OCDBT_MANIFEST_NAME
#define ARITY_LOG2_MAX 16u
#define OLDER_MAX 64u /* references to older versions: one a level of their tree */

static enum tp_status malformed(struct tp_error *err, const char *part)
{
    return tp_fail(err, TP_ERR_FORMAT, WHAT ": malformed %s", part);
}

/* *versions_max: how many versions a manifest lists itself. */
static enum tp_status read_config(struct tp_ocdbt_manifest *m, struct tp_wire *w, uint64_t *versions_max,
                                  struct tp_error *err)
{
    const uint8_t *uuid = tp_wire_take(w, sizeof m->uuid);
    if (uuid)
        memcpy(m->uuid, uuid, sizeof m->uuid);
    const uint64_t kind = tp_wire_uint(w);
    if (!w->bad && kind != 0)
        return tp_fail(err, TP_ERR_UNSUPPORTED, WHAT ": manifest kind %" PRIu64 "%s, only 0 (single) is read", kind,
                       kind == 1 ? " (numbered files)" : "");
    tp_wire_uint(w); /* two sizes that guide writers: inline values, nodes */
    tp_wire_uint(w);
    const uint64_t arity_log2 = tp_wire_le(w, 1), compression = tp_wire_uint(w);
    if (compression > 1)
        return tp_fail(err, TP_ERR_UNSUPPORTED, WHAT ": compression method %" PRIu64 " is not known", compression);
    if (compression == 1)
        tp_wire_le(w, 4); /* its level */
    if (w->bad || arity_log2 == 0 || arity_log2 > ARITY_LOG2_MAX)
        return malformed(err, "configuration");
    *versions_max = (uint64_t)1 << arity_log2;
    return TP_OK;
}

/* The last of `count` numbers. */
static uint64_t last_uint(struct tp_wire *w, uint64_t count)
{
    uint64_t value = 0;
    for (uint64_t i = 0; i < count; i++)
        value = tp_wire_uint(w);
    return value;
}

static bool ascending(struct tp_wire *w, uint64_t count, uint64_t *last)
{
    *last = 0;
    bool good = true;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t value = tp_wire_uint(w);
        good = good && value > *last;
        *last = value;
    }
    return good;
}

static enum tp_status set_root(struct tp_ocdbt_manifest *m, const struct tp_ocdbt_files *files, uint64_t file,
                               struct tp_error *err)
{
    if (m->offset == UINT64_MAX && m->length == UINT64_MAX) {
        m->is_empty = true;
        return m->height > 0 || m->key_count > 0 ? malformed(err, "version without a root") : TP_OK;
    }
    if (file >= files->count || files->items[file].len == 0)
        return malformed(err, "reference to the root's file");
    if (m->offset > TP_OCDBT_END_MAX || m->length > TP_OCDBT_END_MAX - m->offset)
        return malformed(err, "range of the root");
    if (m->length > TP_OCDBT_NODE_MAX || m->height > TP_OCDBT_HEIGHT_MAX)
        return tp_fail(err, TP_ERR_LIMIT, WHAT ": a root of %" PRIu64 " bytes and height %u, more than %zu or %u",
                       m->length, m->height, TP_OCDBT_NODE_MAX, TP_OCDBT_HEIGHT_MAX);
    const struct tp_ocdbt_file *f = &files->items[file];
    m->path = malloc(f->len + 1);
    if (!m->path)
        return tp_fail_nomem(err);
    memcpy(m->path, f->path, f->len + 1);
    m->base_len = f->base_len;
    return TP_OK;
}

static enum tp_status read_versions(struct tp_ocdbt_manifest *m, struct tp_wire *w, const struct tp_ocdbt_files *files,
                                    uint64_t versions_max, struct tp_error *err)
{
    const uint64_t n = m->version_count = tp_wire_uint(w);
    if (w->bad || n == 0 || n > versions_max)
        return malformed(err, "number of versions");
    if (!ascending(w, n, &m->generation))
        return malformed(err, "order of versions");
    const uint8_t *heights = tp_wire_take(w, n);
    m->height = heights ? heights[n - 1] : 0;
    const uint64_t file = last_uint(w, n);
    m->offset = last_uint(w, n);
    m->length = last_uint(w, n);
    m->key_count = last_uint(w, n);
    m->node_bytes = last_uint(w, n);
    m->indirect_bytes = last_uint(w, n);
    tp_wire_take(w, 8 * (n - 1));
    m->commit_time_ns = tp_wire_le(w, 8);
    return w->bad ? malformed(err, "versions") : set_root(m, files, file, err);
}

/* References to nodes that list older versions: passed over, but what they are made of must be there. */
static enum tp_status skip_older(const struct tp_ocdbt_manifest *m, struct tp_wire *w, struct tp_error *err)
{
    const uint64_t n = tp_wire_uint(w);
    uint64_t generation;
    if (w->bad || n > OLDER_MAX || !ascending(w, n, &generation) || generation >= m->generation)
        return malformed(err, "references to older versions");
    for (unsigned column = 0; column < 4; column++) /* file, offset, length, number of generations */
        last_uint(w, n);
    tp_wire_take(w, (8 + 1) * n); /* times, heights */
    if (w->bad)
        return malformed(err, "references to older versions");
    if (tp_wire_left(w) > 0)
        return tp_fail(err, TP_ERR_FORMAT, WHAT ": %zu bytes after its end", tp_wire_left(w));
    return TP_OK;
}

enum tp_status tp_ocdbt_manifest_read(struct tp_ocdbt_manifest *m, const uint8_t *bytes, size_t len,
                                      struct tp_error *err)
{
    *m = (struct tp_ocdbt_manifest){0};
    struct tp_ocdbt_body body;
    struct tp_ocdbt_files files = {0};
    uint64_t versions_max = 0;
    enum tp_status status = tp_ocdbt_unwrap(&body, bytes, len, TP_OCDBT_MAGIC_MANIFEST, WHAT, err);
    struct tp_wire w = {body.bytes, status ? body.bytes : body.bytes + body.len, false};
    if (!status)
        status = read_config(m, &w, &versions_max, err);
    if (!status)
        status = tp_ocdbt_files_read(&files, &w, "", 0, WHAT, err);
    if (!status)
        status = read_versions(m, &w, &files, versions_max, err);
    if (!status)
        status = skip_older(m, &w, err);
    tp_ocdbt_files_release(&files);
    free(body.owned);
    if (status)
        tp_ocdbt_manifest_release(m);
    return status;
}

void tp_ocdbt_manifest_release(struct tp_ocdbt_manifest *m)
{
    free(m->path);
    *m = (struct tp_ocdbt_manifest){0};
}
