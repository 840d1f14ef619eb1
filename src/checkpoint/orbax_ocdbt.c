/* SPDX-License-Identifier: MIT */
/* The arrays of an OCDBT database, of Orbax or of JAX. Its entries are visited twice: first for the metadata
 * ("a.b/.zarray"), then for the chunks ("a.b/0.1"), whose keys can be understood only when all metadata is known.
 * Nothing of an entry is kept but where its chunk lies. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/orbax_store.h"
#include "codec/ocdbt.h"

#define ENTRIES_MAX ((uint64_t)1 << 24)
#define INLINE_MAX_BYTES ((size_t)512 << 20) /* of all values that stand in nodes and are chunks */
#define NO_FILE UINT32_MAX

struct data_file {
    const char *path; /* in ck->arena */
    uint32_t file;    /* of ck, NO_FILE until a chunk needs it */
};

struct store {
    struct tp_orbax_tree *tree;
    struct tp_checkpoint *ck;
    struct data_file *files; /* that the nodes name */
    size_t file_count, file_capacity;
    struct tp_name_index file_names;
    size_t memory_capacity;
    uint64_t object_count;                /* entries that are no metadata */
    uint64_t stored_bytes;                /* ... and their values' */
    uint64_t stranger_count, other_count; /* metadata of arrays that the tree does not list; of the other version */
    struct tp_zarr zarr;                  /* of `zarr_of` */
    const struct tp_orbax_array *zarr_of;
};

/* ---- files ---- */

/* Nodes are read once or twice and are not data: they do not go through the checkpoint's files. */
static enum tp_status read_node(void *user, const char *path, uint64_t offset, void *dst, size_t len,
                                struct tp_error *err)
{
    struct store *s = user;
    char *full = tp_path_join(s->ck->folder, path);
    struct tp_file_id id;
    int fd = -1;
    enum tp_status status = full ? tp_file_open_read(&fd, full, &id, err) : tp_fail_nomem(err);
    if (!status && (offset > id.size_bytes || len > id.size_bytes - offset))
        status = tp_err_path(
            err, tp_fail(err, TP_ERR_FORMAT, "%zu bytes at %" PRIu64 " are not all in it", len, offset), full);
    if (!status)
        status = tp_file_read_at(fd, dst, len, offset, full, err);
    tp_fd_close(fd);
    free(full);
    return status;
}

static struct tp_name path_of(const void *table, uint32_t id)
{
    const struct data_file *f = (const struct data_file *)table + id;
    return (struct tp_name){f->path, strlen(f->path)};
}

static enum tp_status number_file(void *user, const char *path, uint32_t *number, struct tp_error *err)
{
    struct store *s = user;
    size_t len = strlen(path);
    *number = tp_name_index_find(&s->file_names, path_of, s->files, path, len);
    if (*number != TP_NAME_NONE)
        return TP_OK;
    if (s->file_count >= TP_FILES_MAX)
        return tp_fail(err, TP_ERR_LIMIT, "more than %u data files", TP_FILES_MAX);
    uint32_t found;
    const char *kept = tp_arena_strndup(&s->ck->arena, path, len);
    if (!kept || !tp_array_grow(&s->files, &s->file_capacity, s->file_count + 1, sizeof *s->files))
        return tp_fail_nomem(err);
    s->files[s->file_count] = (struct data_file){kept, NO_FILE};
    *number = (uint32_t)s->file_count++;
    return tp_name_index_add(&s->file_names, path_of, s->files, *number, &found) ? TP_OK : tp_fail_nomem(err);
}

/* ---- values ---- */

static enum tp_status keep_inline(struct store *s, const struct tp_ocdbt_entry *e, struct tp_orbax_value *value,
                                  struct tp_error *err)
{
    struct tp_checkpoint *ck = s->ck;
    if (e->size > INLINE_MAX_BYTES - ck->memory_bytes)
        return tp_fail(err, TP_ERR_LIMIT, "more than %zu MiB of arrays within the nodes", INLINE_MAX_BYTES >> 20);
    if (!tp_array_grow(&ck->memory, &s->memory_capacity, ck->memory_bytes + (size_t)e->size, 1))
        return tp_fail_nomem(err);
    if (e->size > 0)
        memcpy(ck->memory + ck->memory_bytes, e->bytes, (size_t)e->size);
    *value = (struct tp_orbax_value){ck->memory_bytes, e->size, TP_FILE_MEMORY};
    ck->memory_bytes += (size_t)e->size;
    return TP_OK;
}

static enum tp_status locate(struct store *s, const struct tp_ocdbt_entry *e, struct tp_orbax_value *value,
                             struct tp_error *err)
{
    enum tp_status status = TP_OK;
    if (e->bytes || e->size == 0)
        return keep_inline(s, e, value, err);
    struct data_file *f = &s->files[e->file];
    if (f->file == NO_FILE)
        status = tp_checkpoint_add_file(s->ck, f->path, &f->file, err);
    *value = (struct tp_orbax_value){e->offset, e->size, f->file};
    return status;
}

/* ---- the first visit ---- */

/* "a.b/.zarray" -> "a.b"; of a tree that is one bare array ".zarray" -> "". */
static bool is_metadata(const struct tp_ocdbt_entry *e, unsigned version, size_t *name_len)
{
    const char *suffix = tp_zarr_metadata_key(version);
    size_t len = strlen(suffix);
    if (e->key_len < len || memcmp(e->key + e->key_len - len, suffix, len) != 0)
        return false;
    *name_len = e->key_len == len ? 0 : e->key_len - len - 1;
    return e->key_len == len || e->key[*name_len] == '/';
}

static enum tp_status describe_stored(struct store *s, struct tp_orbax_array *a, unsigned version,
                                      const struct tp_ocdbt_entry *e, struct tp_error *err)
{
    if (e->bytes)
        return tp_orbax_array_describe(a, s->ck, version, (const char *)e->bytes, (size_t)e->size, err);
    char *text = malloc((size_t)e->size + 1);
    enum tp_status status = text ? read_node(s, e->path, e->offset, text, (size_t)e->size, err) : tp_fail_nomem(err);
    if (!status)
        status = tp_orbax_array_describe(a, s->ck, version, text, (size_t)e->size, err);
    free(text);
    return status;
}

static enum tp_status see_metadata(void *user, const struct tp_ocdbt_entry *e, struct tp_error *err)
{
    struct store *s = user;
    unsigned version = s->tree->use_zarr3 ? 3 : 2;
    size_t len;
    if (is_metadata(e, 5 - version, &len)) {
        s->other_count++;
        return TP_OK;
    }
    if (!is_metadata(e, version, &len)) {
        s->object_count++;
        s->stored_bytes += e->size;
        return TP_OK;
    }
    struct tp_orbax_array *a = tp_orbax_tree_find(s->tree, e->key, len);
    s->stranger_count += a == NULL;
    if (!a)
        return TP_OK;
    if (e->size > TP_ZARR_READ_MAX)
        return tp_err_tensor(err, tp_fail(err, TP_ERR_LIMIT, "its metadata has more than %zu bytes", TP_ZARR_READ_MAX),
                             a->name, a->name_len);
    return describe_stored(s, a, version, e, err);
}

/* ---- the second visit ---- */

static enum tp_status put(struct store *s, struct tp_orbax_array *a, const char *key, size_t len,
                          const struct tp_ocdbt_entry *e, struct tp_error *err)
{
    uint64_t index[TP_ZARR_RANK_MAX];
    struct tp_orbax_value value;
    if (s->zarr_of != a)
        tp_orbax_array_zarr(a, &s->zarr);
    s->zarr_of = a;
    if (!tp_zarr_chunk_index(&s->zarr, key, len, index))
        return TP_OK;
    enum tp_status status = locate(s, e, &value, err);
    if (status)
        return tp_err_tensor(err, status, a->name, a->name_len);
    return tp_orbax_array_put(a, &s->zarr, s->ck, index, &value, err);
}

/* Names may hold '/', so that a key can be cut at any; an array takes what is the key of one of its chunks, as a lookup
 * by TensorStore would. A chunk's key has at most one '/' an axis and one more. */
static enum tp_status see_chunk(void *user, const struct tp_ocdbt_entry *e, struct tp_error *err)
{
    struct store *s = user;
    enum tp_status status = TP_OK;
    size_t cut = e->key_len;
    for (unsigned slashes = 0; !status && slashes <= TP_ZARR_RANK_MAX + 1; slashes++) {
        while (cut > 0 && e->key[cut - 1] != '/')
            cut--;
        size_t name_len = cut > 0 ? cut - 1 : 0;
        struct tp_orbax_array *a = name_len <= TP_NAME_MAX_BYTES ? tp_orbax_tree_find(s->tree, e->key, name_len) : NULL;
        if (a && a->is_known && (cut > 0 || a->key_len == 0))
            status = put(s, a, e->key + cut, e->key_len - cut, e, err);
        if (cut == 0)
            break;
        cut--;
    }
    return status;
}

/* ---- both ---- */

static enum tp_status read_manifest(struct tp_ocdbt_manifest *manifest, struct tp_checkpoint *ck, struct tp_error *err)
{
    char size[TP_COUNT_TEXT];
    struct tp_file_id id = {.size_bytes = 0};
    char *path = tp_path_join(ck->folder, TP_OCDBT_MANIFEST_NAME);
    uint8_t *bytes = NULL;
    int fd = -1;
    enum tp_status status = path ? tp_file_open_read(&fd, path, &id, err) : tp_fail_nomem(err);
    if (!status && id.size_bytes > TP_OCDBT_NODE_MAX)
        status = tp_fail(err, TP_ERR_LIMIT, "a manifest of %s bytes", tp_describe_count(size, id.size_bytes));
    if (!status && !(bytes = malloc((size_t)id.size_bytes + 1)))
        status = tp_fail_nomem(err);
    if (!status)
        status = tp_file_read_at(fd, bytes, (size_t)id.size_bytes, 0, path, err);
    if (!status)
        status = tp_ocdbt_manifest_read(manifest, bytes, (size_t)id.size_bytes, err);
    if (status && path)
        tp_err_path(err, status, path);
    tp_fd_close(fd);
    free(bytes);
    free(path);
    return status;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Tables for as many chunks as can be there: a shard's index has 16 bytes for each. */
static enum tp_status begin_arrays(struct store *s, struct tp_error *err)
{
    struct tp_orbax_budget budget = {
        .objects = s->object_count + TP_ORBAX_SPARE_CHUNKS,
        .chunks = least(TP_ORBAX_CHUNKS_MAX, s->object_count + s->stored_bytes / 16 + TP_ORBAX_SPARE_CHUNKS)};
    enum tp_status status = TP_OK;
    for (size_t i = 0; !status && i < s->tree->count; i++)
        if (s->tree->arrays[i].is_known)
            status = tp_orbax_array_begin(&s->tree->arrays[i], s->ck, &budget, err);
    return status;
}

static enum tp_status note_strangers(const struct store *s, size_t known_count, struct tp_error *err)
{
    if (s->other_count > 0 && known_count == 0)
        return tp_fail(err, TP_ERR_FORMAT, "%s says zarr version %d, but the arrays are of version %d",
                       s->tree->described_in, s->tree->use_zarr3 ? 3 : 2, s->tree->use_zarr3 ? 2 : 3);
    return s->stranger_count == 0
               ? TP_OK
               : tp_checkpoint_note_add(s->ck, err, "%" PRIu64 " arrays of the database are not in %s and are left out",
                                        s->stranger_count, s->tree->described_in);
}

static enum tp_status visit_twice(struct store *s, const struct tp_ocdbt_manifest *manifest, struct tp_error *err)
{
    struct tp_ocdbt_visitor visitor = {.user = s, .read = read_node, .file = number_file, .entry = see_metadata};
    enum tp_status status = tp_ocdbt_walk(manifest, ENTRIES_MAX, &visitor, err);
    size_t known_count = 0;
    for (size_t i = 0; i < s->tree->count; i++)
        known_count += s->tree->arrays[i].is_known;
    if (!status)
        status = note_strangers(s, known_count, err);
    if (!status)
        status = begin_arrays(s, err);
    visitor.entry = see_chunk;
    return status ? status : tp_ocdbt_walk(manifest, ENTRIES_MAX, &visitor, err);
}

enum tp_status tp_orbax_read_ocdbt(struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err)
{
    struct store s = {.tree = tree, .ck = ck};
    struct tp_ocdbt_manifest manifest = {.path = NULL};
    enum tp_status status = read_manifest(&manifest, ck, err);
    if (!status && !manifest.is_empty)
        status = visit_twice(&s, &manifest, err);
    tp_ocdbt_manifest_release(&manifest);
    tp_name_index_release(&s.file_names);
    free(s.files);
    return status;
}
