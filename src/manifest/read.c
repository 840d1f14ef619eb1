/* SPDX-License-Identifier: MIT */
/* Reading manifest.json. It may come from anywhere: every number is checked, unknown keys are skipped, and nothing is
 * believed about the data files (job/verify.c compares with what they really hold). */
#include "manifest/fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "os/file.h"
#include "os/tree.h"
#include "tensorport/text.h"

/* ---- head ---- */

static enum tp_status read_format(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    if (!st && (t.len != 10 || memcmp(t.text, "tensorport", 10) != 0))
        st = tp_fail(r->err, TP_ERR_FORMAT, "this manifest.json was not written by TensorPort");
    return st;
}

static enum tp_status read_version(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    uint64_t version = 0;
    enum tp_status st = tp_fields_uint(r, &version, key);
    if (!st && version != TP_MANIFEST_VERSION)
        st = tp_fail(r->err, TP_ERR_UNSUPPORTED, "manifest version %" PRIu64 ", this program reads %u", version,
                     TP_MANIFEST_VERSION);
    return st;
}

static enum tp_status read_layout(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_text(r, &r->m->layout, key);
}

static enum tp_status read_tool(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_text(r, &r->m->tool, key);
}

/* ---- source ---- */

static enum tp_status read_source_name(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_file_name(r, &((struct tp_manifest_source *)target)->name, key, true);
}

static enum tp_status read_source_size(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_uint(r, &((struct tp_manifest_source *)target)->size_bytes, key);
}

static enum tp_status read_header_size(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_uint(r, &((struct tp_manifest_source *)target)->header_bytes, key);
}

static enum tp_status read_header_digest(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_digest(r, &((struct tp_manifest_source *)target)->print.header, key);
}

static enum tp_status read_sample_digest(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_digest(r, &((struct tp_manifest_source *)target)->print.sample, key);
}

static enum tp_status read_source_file(struct tp_manifest_reader *r)
{
    static const struct tp_field fields[] = {{"name", read_source_name, true},
                                             {"size", read_source_size, true},
                                             {"header_size", read_header_size, true},
                                             {"header_xxh3", read_header_digest, true},
                                             {"sample_xxh3", read_sample_digest, true}};
    struct tp_manifest_source file = {.name = NULL};
    struct tp_manifest *m = r->m;
    enum tp_status st = tp_fields_read(r, fields, TP_COUNT_OF(fields), &file, "source.files");
    if (st)
        return st;
    if (file.header_bytes > file.size_bytes)
        return tp_fail(r->err, TP_ERR_FORMAT, "'header_size' is %" PRIu64 ", the file has %" PRIu64 " bytes",
                       file.header_bytes, file.size_bytes);
    if (!tp_array_grow(&m->sources, &m->source_capacity, m->source_count + 1, sizeof *m->sources))
        return tp_fail_nomem(r->err);
    m->sources[m->source_count++] = file;
    return TP_OK;
}

static enum tp_status read_source_files(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_objects(r, key, read_source_file);
}

static enum tp_status read_source(struct tp_manifest_reader *r, void *target, const char *key)
{
    static const struct tp_field fields[] = {{"files", read_source_files, true}};
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : tp_fields_read(r, fields, TP_COUNT_OF(fields), target, key);
}

/* ---- files ---- */

static enum tp_status read_name(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_file_name(r, &((struct tp_manifest_file *)target)->name, key, tp_manifest_has_folders(r));
}

static enum tp_status read_size(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_uint(r, &((struct tp_manifest_file *)target)->size_bytes, key);
}

static enum tp_status read_framing(struct tp_manifest_reader *r, void *target, const char *key)
{
    ((struct tp_manifest_file *)target)->has_framing = true;
    return tp_fields_digest(r, &((struct tp_manifest_file *)target)->framing, key);
}

static enum tp_status read_link_source(struct tp_manifest_reader *r, void *target, const char *key)
{
    uint64_t source = 0;
    enum tp_status st = tp_fields_uint(r, &source, key);
    if (!st && source >= r->m->source_count)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'source' is %" PRIu64 ", there are %zu", source, r->m->source_count);
    ((struct tp_manifest_file *)target)->source = (uint32_t)source;
    return st;
}

static enum tp_status read_sha256(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_file *file = target;
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    if (!st && t.len != TP_SHA256_HEX - 1)
        return tp_fail(r->err, TP_ERR_FORMAT, "'sha256' is not 64 hexadecimal digits");
    if (!st)
        memcpy(file->sha256, t.text, TP_SHA256_HEX - 1);
    return st;
}

static enum tp_status read_file(struct tp_manifest_reader *r)
{
    static const struct tp_field fields[] = {{"name", read_name, true},
                                             {"size", read_size, true},
                                             {"framing_xxh3", read_framing, false},
                                             {"source", read_link_source, false},
                                             {"sha256", read_sha256, false}};
    struct tp_manifest *m = r->m;
    if (m->file_count >= TP_FILES_MAX)
        return tp_fail(r->err, TP_ERR_LIMIT, "more than %u files", TP_FILES_MAX);
    if (!tp_array_grow(&m->files, &m->file_capacity, m->file_count + 1, sizeof *m->files))
        return tp_fail_nomem(r->err);
    struct tp_manifest_file *file = &m->files[m->file_count++];
    *file = (struct tp_manifest_file){.source = TP_NONE};
    enum tp_status st = tp_fields_read(r, fields, TP_COUNT_OF(fields), file, "files");
    if (st)
        return st;
    if (file->source == TP_NONE && !file->has_framing)
        return tp_fail(r->err, TP_ERR_FORMAT, "'framing_xxh3' is missing in files");
    if (file->source != TP_NONE && file->size_bytes != m->sources[file->source].size_bytes)
        return tp_fail(r->err, TP_ERR_FORMAT, "a linked file of %" PRIu64 " bytes, its source has %" PRIu64,
                       file->size_bytes, m->sources[file->source].size_bytes);
    return TP_OK;
}

static enum tp_status read_files(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_objects(r, key, read_file);
}

static enum tp_status read_side_name(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_file_name(r, &((struct tp_side_file *)target)->name, key, tp_manifest_has_folders(r));
}

static enum tp_status read_side_size(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_uint(r, &((struct tp_side_file *)target)->size_bytes, key);
}

static enum tp_status read_side_digest(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_digest(r, &((struct tp_side_file *)target)->digest, key);
}

static enum tp_status read_side_file(struct tp_manifest_reader *r)
{
    static const struct tp_field fields[] = {
        {"name", read_side_name, true}, {"size", read_side_size, true}, {"xxh3", read_side_digest, true}};
    struct tp_manifest *m = r->m;
    if (!tp_array_grow(&m->side_files, &m->side_capacity, m->side_count + 1, sizeof *m->side_files))
        return tp_fail_nomem(r->err);
    m->side_files[m->side_count] = (struct tp_side_file){.name = NULL};
    return tp_fields_read(r, fields, TP_COUNT_OF(fields), &m->side_files[m->side_count++], "side_files");
}

static enum tp_status read_side_files(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_objects(r, key, read_side_file);
}

/* ---- the whole ---- */

static const struct tp_field manifest_fields[] = {
    {"format", read_format, true},
    {"version", read_version, true},
    {"tool", read_tool, false},
    {"layout", read_layout, true},
    {"tree", tp_manifest_read_tree, true},
    {"options", tp_manifest_read_options, true},
    {"source", read_source, true},
    {"files", read_files, true},
    {"side_files", read_side_files, true},
    {"arrays", tp_manifest_read_arrays, true},
};

struct file_text {
    int fd;
    const char *path;
    uint64_t at, size;
};

static enum tp_status read_more(void *user, char *dst, size_t cap, size_t *got, struct tp_error *err)
{
    struct file_text *f = user;
    uint64_t rest = f->size - f->at;
    *got = rest < cap ? (size_t)rest : cap;
    enum tp_status st = tp_file_read_at(f->fd, dst, *got, f->at, f->path, err);
    f->at += *got;
    return st;
}

static enum tp_status read_manifest(struct tp_manifest_reader *r)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_OBJECT_BEGIN, "manifest", &t);
    if (!st)
        st = tp_fields_read(r, manifest_fields, TP_COUNT_OF(manifest_fields), r->m, "the manifest");
    return st ? st : tp_fields_expect(r, TP_JSON_END, "end of the manifest", &t);
}

enum tp_status tp_manifest_read(struct tp_manifest *m, const char *path, struct tp_error *err)
{
    *m = (struct tp_manifest){.file_count = 0};
    struct file_text text = {.fd = -1, .path = path};
    struct tp_file_id id;
    struct tp_manifest_reader r = {.m = m, .err = err};
    enum tp_status st = tp_file_open_read(&text.fd, path, &id, err);
    if (!st) {
        text.size = id.size_bytes;
        st = tp_json_open(&r.json, read_more, &text, "manifest", TP_NAME_MAX_BYTES, err);
    }
    if (!st)
        st = read_manifest(&r);
    if (st)
        tp_err_path(err, st, path);
    tp_json_close(r.json);
    tp_fd_close(text.fd);
    if (st)
        tp_manifest_release(m);
    return st;
}

void tp_manifest_release(struct tp_manifest *m)
{
    free(m->files);
    free(m->side_files);
    free(m->arrays);
    free(m->extents);
    free(m->digests);
    free(m->sources);
    tp_map_release(m->map);
    tp_arena_release(&m->arena);
    *m = (struct tp_manifest){.file_count = 0};
}
