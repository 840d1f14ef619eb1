/* SPDX-License-Identifier: MIT */
/* OCDBT: what manifests and nodes have in common. Envelope: u32 big-endian magic, u64 length of it all, version,
 * compression, body, u32 CRC-32C over all before it. Table of files: columns of prefix, suffix and base lengths, then
 * the suffixes. */
#include "codec/ocdbt_wire.h"

#include <inttypes.h>
#include <stdlib.h>

#include "codec/crc32c.h"
#include "codec/unzstd.h"
#include "tensorport/text.h"

#define PATHS_MAX ((size_t)64 << 20) /* bytes of the paths of one table */
#define FILES_MAX ((uint64_t)1 << 20)

/* ---- envelope ---- */

enum { COMPRESSION_NONE, COMPRESSION_ZSTD };

static enum tp_status check_envelope(const uint8_t *bytes, size_t len, uint32_t magic, const char *what,
                                     struct tp_error *err)
{
    if (len < TP_OCDBT_ENVELOPE_BYTES)
        return tp_fail(err, TP_ERR_FORMAT, "%s: %zu bytes are too few for one", what, len);
    const uint64_t found = tp_load_be(bytes, 4), length = tp_load_le(bytes + 4, 8);
    if (found != magic)
        return tp_fail(err, TP_ERR_FORMAT, "%s: it begins with %08" PRIx64 ", expected %08" PRIx32, what, found, magic);
    if (length != len)
        return tp_fail(err, TP_ERR_FORMAT, "%s: it says that it has %" PRIu64 " bytes, found %zu", what, length, len);
    const uint32_t stored = (uint32_t)tp_load_le(bytes + len - 4, 4), computed = tp_crc32c(0, bytes, len - 4);
    if (stored != computed)
        return tp_fail(err, TP_ERR_FORMAT, "%s: its CRC-32C is %08" PRIx32 ", computed %08" PRIx32, what, stored,
                       computed);
    return TP_OK;
}

enum tp_status tp_ocdbt_unwrap(struct tp_ocdbt_body *body, const uint8_t *bytes, size_t len, uint32_t magic,
                               const char *what, struct tp_error *err)
{
    *body = (struct tp_ocdbt_body){0};
    enum tp_status status = check_envelope(bytes, len, magic, what, err);
    if (status)
        return status;
    struct tp_wire w = {bytes + 12, bytes + len - 4, false};
    const uint64_t version = tp_wire_uint(&w), compression = tp_wire_uint(&w);
    if (w.bad)
        return tp_fail(err, TP_ERR_FORMAT, "%s: malformed header", what);
    if (version != 0)
        return tp_fail(err, TP_ERR_UNSUPPORTED, "%s: its format has version %" PRIu64 ", only 0 is known", what,
                       version);
    if (compression > COMPRESSION_ZSTD)
        return tp_fail(err, TP_ERR_UNSUPPORTED,
                       "%s: compression method %" PRIu64 ", only 0 (none) and 1 (zstd) are "
                       "known",
                       what, compression);
    body->bytes = w.at;
    body->len = tp_wire_left(&w);
    if (compression == COMPRESSION_ZSTD) {
        status = tp_unzstd_all(&body->owned, &body->len, w.at, tp_wire_left(&w), TP_OCDBT_NODE_MAX, what, err);
        body->bytes = body->owned;
    }
    return status;
}

/* ---- paths ---- */

bool tp_ocdbt_path_is_safe(const char *path, size_t len)
{
    static const char lock[] = ".__lock";
    const size_t lock_len = sizeof lock - 1;
    if (len == 0 || len > TP_OCDBT_KEY_MAX || memchr(path, '\0', len) || memchr(path, '\\', len))
        return false;
    if (len >= lock_len && memcmp(path + len - lock_len, lock, lock_len) == 0)
        return false;
    for (size_t first = 0; first <= len;) {
        const char *slash = first < len ? memchr(path + first, '/', len - first) : NULL;
        const size_t part = slash ? (size_t)(slash - path) - first : len - first;
        if (part == 0 || (part == 1 && path[first] == '.') ||
            (part == 2 && path[first] == '.' && path[first + 1] == '.'))
            return false;
        first += part + 1;
    }
    return true;
}

/* ---- table of files ---- */

struct columns { /* of a table, each read by itself */
    struct tp_wire prefix, suffix, base;
};

/* Bytes of all paths, terminated; or an error. Proves the rules of lengths on the way. */
static enum tp_status measure_paths(struct columns c, uint64_t count, size_t outer, size_t *text_bytes,
                                    uint64_t *suffix_bytes, const char *what, struct tp_error *err)
{
    uint64_t previous_len = 0, previous_base = 0;
    *text_bytes = 0;
    *suffix_bytes = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t prefix = i > 0 ? tp_wire_uint(&c.prefix) : 0;
        const uint64_t suffix = tp_wire_uint(&c.suffix), base = tp_wire_uint(&c.base);
        if (prefix > previous_len || suffix > TP_OCDBT_KEY_MAX || outer + prefix + suffix > TP_OCDBT_KEY_MAX)
            return tp_fail(err, TP_ERR_FORMAT, "%s: the path of file %" PRIu64 " has impossible lengths", what, i);
        const uint64_t len = prefix + suffix;
        if (base > len || (base != previous_base && prefix > (base < previous_base ? base : previous_base)))
            return tp_fail(err, TP_ERR_FORMAT, "%s: the base path of file %" PRIu64 " has an impossible length", what,
                           i);
        *text_bytes += outer + (size_t)len + 1;
        *suffix_bytes += suffix;
        if (*text_bytes > PATHS_MAX)
            return tp_fail(err, TP_ERR_LIMIT, "%s: the paths of its files take more than %zu bytes", what, PATHS_MAX);
        previous_len = len;
        previous_base = base;
    }
    return TP_OK;
}

static void build_paths(struct tp_ocdbt_files *files, struct columns c, const uint8_t *suffixes, const char *base,
                        size_t outer)
{
    char *at = files->text;
    const char *previous = at;
    for (size_t i = 0; i < files->count; i++) {
        const size_t prefix = i > 0 ? (size_t)tp_wire_uint(&c.prefix) : 0;
        const size_t suffix = (size_t)tp_wire_uint(&c.suffix), base_len = (size_t)tp_wire_uint(&c.base);
        char *path = at;
        if (outer > 0)
            memcpy(path, base, outer);
        if (prefix > 0)
            memmove(path + outer, previous + outer, prefix);
        if (suffix > 0)
            memcpy(path + outer + prefix, suffixes, suffix);
        suffixes += suffix;
        at = path + outer + prefix + suffix;
        *at++ = '\0';
        /* The whole path empty: how TensorStore refers to nothing, from versions without a root. */
        files->items[i] = prefix + suffix > 0 ? (struct tp_ocdbt_file){path, outer + prefix + suffix, outer + base_len}
                                              : (struct tp_ocdbt_file){"", 0, 0};
        previous = path;
    }
}

static enum tp_status check_paths(const struct tp_ocdbt_files *files, const char *what, struct tp_error *err)
{
    for (size_t i = 0; i < files->count; i++) {
        const struct tp_ocdbt_file *file = &files->items[i];
        char shown[256];
        if (file->len > 0 && !tp_ocdbt_path_is_safe(file->path, file->len))
            return tp_fail(err, TP_ERR_FORMAT,
                           "%s: it refers to the file '%s', which is not a plain path at or below "
                           "its folder",
                           what, tp_text_printable(shown, sizeof shown, file->path, file->len));
    }
    return TP_OK;
}

enum tp_status tp_ocdbt_files_read(struct tp_ocdbt_files *files, struct tp_wire *w, const char *base, size_t base_len,
                                   const char *what, struct tp_error *err)
{
    *files = (struct tp_ocdbt_files){0};
    const uint64_t count = tp_wire_uint(w);
    if (w->bad || count > tp_wire_left(w))
        return tp_fail(err, TP_ERR_FORMAT, "%s: malformed table of files", what);
    if (count > FILES_MAX)
        return tp_fail(err, TP_ERR_LIMIT, "%s: it refers to %" PRIu64 " files, more than %" PRIu64, what, count,
                       FILES_MAX);
    if (count == 0)
        return TP_OK;
    struct columns columns;
    columns.prefix = tp_wire_column(w, count - 1);
    columns.suffix = tp_wire_column(w, count);
    columns.base = tp_wire_column(w, count);
    if (w->bad)
        return tp_fail(err, TP_ERR_FORMAT, "%s: malformed table of files", what);
    size_t text_bytes;
    uint64_t suffix_bytes;
    enum tp_status status = measure_paths(columns, count, base_len, &text_bytes, &suffix_bytes, what, err);
    if (status)
        return status;
    const uint8_t *suffixes = tp_wire_take(w, suffix_bytes);
    if (!suffixes)
        return tp_fail(err, TP_ERR_FORMAT, "%s: its table of files is cut short", what);
    files->items = malloc((size_t)count * sizeof *files->items);
    files->text = malloc(text_bytes);
    files->count = (size_t)count;
    if (!files->items || !files->text) {
        tp_ocdbt_files_release(files);
        return tp_fail_nomem(err);
    }
    build_paths(files, columns, suffixes, base, base_len);
    status = check_paths(files, what, err);
    if (status)
        tp_ocdbt_files_release(files);
    return status;
}

void tp_ocdbt_files_release(struct tp_ocdbt_files *files)
{
    free(files->items);
    free(files->text);
    *files = (struct tp_ocdbt_files){0};
}
