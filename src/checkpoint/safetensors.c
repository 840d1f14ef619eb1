/* SPDX-License-Identifier: MIT */
/* One safetensors file: eight bytes of length, a JSON header, data. Everything that docs/formats/safetensors.md refuses
 * in a file is refused here; after it no number of the header is checked again.
 *
 * From top to bottom: one file, framing, the header object, one entry, then what only all entries together show. */
#include "checkpoint/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "checkpoint/describe.h"
#include "checkpoint/json_file.h"
#include "checkpoint/key_set.h"
#include "checkpoint/sniff.h"

#define DAMAGED_HINT "the file is damaged or was written by a faulty program; download it again"

struct header {
    struct tp_checkpoint *ck;
    uint32_t file;
    const char *path;
    uint64_t file_size, data_start;
    size_t first; /* the file's first tensor in ck->tensors */
    struct tp_json *json;

    struct tp_weight_map *map;
    uint32_t map_file;
    uint64_t unlisted_count, elsewhere_count; /* tensors that the index does not list, or lists for another file */
    char first_ignored[TP_NAME_TEXT];

    struct tp_name_index names; /* of this file, by number in ck->tensors */
    struct tp_key_set keys;     /* of __metadata__, then of an entry's unknown fields */
    uint64_t unknown_count;     /* entries with unknown fields */
    char first_unknown[TP_NAME_TEXT];
    bool has_metadata, is_paddle;

    char name[TP_NAME_MAX_BYTES + 1]; /* of the entry that is being read */
    size_t name_len;
};

/* ---- one file ---- */

static enum tp_status read_framing(struct header *h, int fd, struct tp_error *err);
static enum tp_status read_object(struct header *h, struct tp_error *err);
static enum tp_status check_coverage(struct header *h, struct tp_error *err);
static void keep_listed(struct header *h);
static enum tp_status add_notes(struct header *h, struct tp_error *err);

static enum tp_status read_with(struct header *h, int fd, struct tp_error *err)
{
    struct tp_json_file json = {.fd = -1};
    enum tp_status status = read_framing(h, fd, err);
    if (status)
        return status;
    status = tp_json_file_part(&json, fd, h->path, 8, h->data_start - 8, "header", err);
    h->json = json.json;
    if (!status)
        status = read_object(h, err);
    tp_json_file_close(&json);
    if (!status) {
        tp_checkpoint_sort_tensors(h->ck, h->first);
        status = check_coverage(h, err);
    }
    if (status)
        return status;
    if (h->map)
        keep_listed(h);
    return add_notes(h, err);
}

enum tp_status tp_safetensors_read_file(struct tp_checkpoint *ck, uint32_t file, struct tp_weight_map *map,
                                        uint32_t map_file, struct tp_error *err)
{
    int fd = -1;
    struct header *h = calloc(1, sizeof *h);
    if (!h)
        return tp_fail_nomem(err);
    h->ck = ck;
    h->file = file;
    h->path = tp_checkpoint_file_path(ck, file);
    h->file_size = ck->files[file].size_bytes;
    h->first = ck->tensor_count;
    h->map = map;
    h->map_file = map_file;
    enum tp_status status = tp_file_cache_get(ck->cache, file, &fd, err);
    if (!status) {
        status = read_with(h, fd, err);
        tp_file_cache_put(ck->cache, file);
    }
    ck->files[file].header_bytes = h->data_start;
    if (status && err && !err->path[0])
        tp_err_path(err, status, h->path);
    tp_name_index_release(&h->names);
    tp_key_set_release(&h->keys);
    free(h);
    return status;
}

/* ---- framing ---- */

/* Say what the file is rather than what it is not, where its first bytes tell. */
static enum tp_status fail_framing(struct header *h, const struct tp_sniff *sniff, const char *fact,
                                   struct tp_error *err)
{
    char size[TP_COUNT_TEXT], name[TP_NAME_TEXT];
    const char *file_name = h->ck->files[h->file].name;
    tp_describe_count(size, h->file_size);
    if (sniff && tp_sniff_is_lfs(sniff) && strcmp(h->path, h->ck->path) != 0) {
        tp_fail(err, TP_ERR_FORMAT, "this folder holds Git LFS pointers, not the files (%s is %s bytes)",
                tp_describe_name(name, file_name, strlen(file_name)), size);
        tp_err_path(err, TP_ERR_FORMAT, h->ck->path);
    } else if (sniff) {
        tp_fail(err, TP_ERR_FORMAT, "not a safetensors file: %s (%s bytes)", sniff->is, size);
    } else {
        tp_fail(err, TP_ERR_FORMAT, "%s", fact);
    }
    return tp_err_hint(err, TP_ERR_FORMAT, "%s", sniff ? sniff->hint : DAMAGED_HINT);
}

static enum tp_status read_framing(struct header *h, int fd, struct tp_error *err)
{
    unsigned char head[TP_SNIFF_BYTES];
    char fact[160], size[TP_COUNT_TEXT], len[TP_COUNT_TEXT], max[TP_COUNT_TEXT];
    size_t head_len = h->file_size < sizeof head ? (size_t)h->file_size : sizeof head;
    enum tp_status status = tp_file_read_at(fd, head, head_len, 0, h->path, err);
    if (status)
        return status;
    tp_describe_count(size, h->file_size);
    if (h->file_size < 8) {
        snprintf(fact, sizeof fact, "%s bytes are too few for a safetensors file", size);
        return fail_framing(h, tp_sniff(head, head_len), fact, err);
    }
    uint64_t header_len = tp_load_le(head, 8);
    tp_describe_count(len, header_len);
    tp_describe_count(max, TP_HEADER_MAX_BYTES);
    if (header_len == 0)
        snprintf(fact, sizeof fact, "the header is empty (its length is 0)");
    else if (header_len > TP_HEADER_MAX_BYTES)
        snprintf(fact, sizeof fact, "not a safetensors file: a header of %s bytes is announced, at most %s are valid",
                 len, max);
    else if (header_len > h->file_size - 8)
        snprintf(fact, sizeof fact, "truncated: a header of %s bytes is announced, but the file ends after %s bytes",
                 len, size);
    else {
        h->data_start = 8 + header_len;
        return TP_OK;
    }
    return fail_framing(h, tp_sniff(head, head_len), fact, err);
}

/* ---- the header object ---- */

static enum tp_status read_entry(struct header *h, struct tp_error *err);

static bool token_is(const struct tp_json_token *token, const char *text)
{
    return token->len == strlen(text) && memcmp(token->text, text, token->len) == 0;
}

static enum tp_status fail_key(const struct tp_json_token *key, const char *what, struct tp_error *err)
{
    char shown[TP_NAME_TEXT];
    return tp_fail(err, TP_ERR_FORMAT, "%s '%s' occurs twice", what, tp_describe_name(shown, key->text, key->len));
}

/* Remember the key of an object; a second one is refused. */
static enum tp_status new_key(struct header *h, const struct tp_json_token *key, const char *what, struct tp_error *err)
{
    bool is_new;
    if (key->cut)
        return tp_fail(err, TP_ERR_LIMIT, "%s of %" PRIu64 " bytes; at most %u are read", what, key->full_len,
                       TP_NAME_MAX_BYTES);
    if (!tp_key_set_add(&h->keys, key->text, key->len, &is_new))
        return tp_fail_nomem(err);
    return is_new ? TP_OK : fail_key(key, what, err);
}

/* The value of `key`, which new_key has taken. Values may be longer than names: a whole recipe, as JSON in a string. */
static enum tp_status read_metadata_value(struct header *h, const struct tp_json_token *key, struct tp_error *err)
{
    struct tp_json_token value;
    bool is_format = token_is(key, "format");
    struct tp_metadata_item item = {.key = h->name, .key_len = key->len};
    memcpy(h->name, key->text, key->len); /* no tensor is being read, and the next token overwrites the key */
    tp_json_set_string_max(h->json, TP_METADATA_MAX_BYTES);
    enum tp_status status = tp_json_expect(h->json, TP_JSON_STRING, "a value of __metadata__", &value, err);
    tp_json_set_string_max(h->json, TP_NAME_MAX_BYTES);
    if (status)
        return status;
    if (value.has_nul)
        return tp_fail(err, TP_ERR_FORMAT, "a value of __metadata__ contains a NUL character");
    if (is_format)
        h->is_paddle = token_is(&value, "pd") || token_is(&value, "paddle");
    item.value = value.text;
    item.value_len = value.len;
    if (value.cut)
        h->ck->metadata.dropped_count++;
    else if (!tp_metadata_add(&h->ck->metadata, &h->ck->arena, &item, h->ck->files[h->file].name))
        return tp_fail_nomem(err);
    return TP_OK;
}

/* An object of strings, or null. */
static enum tp_status read_metadata(struct header *h, struct tp_error *err)
{
    struct tp_json_token key, value;
    if (h->has_metadata)
        return tp_fail(err, TP_ERR_FORMAT, "__metadata__ occurs twice");
    h->has_metadata = true;
    enum tp_status status = tp_json_next(h->json, &value, err);
    if (status || value.type == TP_JSON_NULL)
        return status;
    if (value.type != TP_JSON_OBJECT_BEGIN)
        return tp_fail(err, TP_ERR_FORMAT, "expected an object for __metadata__, found %s",
                       tp_json_type_name(value.type));
    while (!status) {
        status = tp_json_next(h->json, &key, err);
        if (status || key.type == TP_JSON_OBJECT_END)
            break;
        if (key.has_nul)
            status = tp_fail(err, TP_ERR_FORMAT, "a key of __metadata__ contains a NUL character");
        if (!status)
            status = new_key(h, &key, "a key of __metadata__", err);
        if (!status)
            status = read_metadata_value(h, &key, err);
    }
    tp_key_set_clear(&h->keys);
    return status;
}

static enum tp_status take_name(struct header *h, const struct tp_json_token *key, struct tp_error *err)
{
    enum tp_status status = TP_OK;
    if (key->cut)
        status = tp_fail(err, TP_ERR_LIMIT, "the name is %" PRIu64 " bytes long; at most %u are read", key->full_len,
                         TP_NAME_MAX_BYTES);
    else if (key->has_nul)
        status = tp_fail(err, TP_ERR_FORMAT, "the name contains a NUL character");
    memcpy(h->name, key->text, key->len);
    h->name[key->len] = '\0';
    h->name_len = key->len;
    return status;
}

static enum tp_status read_object(struct header *h, struct tp_error *err)
{
    struct tp_json_token token;
    enum tp_status status = tp_json_expect(h->json, TP_JSON_OBJECT_BEGIN, "the header", &token, err);
    while (!status) {
        status = tp_json_next(h->json, &token, err);
        if (status || token.type == TP_JSON_OBJECT_END)
            break;
        if (token_is(&token, "__metadata__")) {
            status = read_metadata(h, err);
            continue;
        }
        status = take_name(h, &token, err);
        if (!status)
            status = read_entry(h, err);
        if (status)
            tp_err_tensor(err, status, h->name, h->name_len);
    }
    if (!status)
        status = tp_json_next(h->json, &token, err); /* the end, or a complaint about what follows */
    tp_name_index_release(&h->names);
    return status == TP_ERR_FORMAT && err && !err->hint[0] ? tp_err_hint(err, status, DAMAGED_HINT) : status;
}

/* ---- one entry ---- */

struct entry {
    bool has_dtype, has_shape, has_offsets, has_unknown;
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[TP_RANK_MAX];
    uint64_t begin, end;
};

static enum tp_status read_dtype(struct header *h, struct entry *e, struct tp_error *err)
{
    struct tp_json_token value;
    char shown[TP_NAME_TEXT];
    enum tp_status status = tp_json_expect(h->json, TP_JSON_STRING, "dtype", &value, err);
    if (status)
        return status;
    e->dtype = tp_dtype_from_name(value.text, value.len);
    if (e->dtype == TP_DTYPE_NONE)
        return tp_fail(err, TP_ERR_FORMAT, "unknown dtype '%s'", tp_describe_name(shown, value.text, value.len));
    return TP_OK;
}

static enum tp_status read_shape(struct header *h, struct entry *e, struct tp_error *err)
{
    struct tp_json_token value;
    enum tp_status status = tp_json_expect(h->json, TP_JSON_ARRAY_BEGIN, "shape", &value, err);
    while (!status) {
        status = tp_json_next(h->json, &value, err);
        if (status || value.type == TP_JSON_ARRAY_END)
            return status;
        if (value.type == TP_JSON_NUMBER)
            return tp_fail(err, TP_ERR_FORMAT, "a size in shape is %.64s; expected a whole number from 0 to 2^63-1",
                           value.text);
        if (value.type != TP_JSON_UINT)
            return tp_fail(err, TP_ERR_FORMAT, "expected a whole number in shape, found %s",
                           tp_json_type_name(value.type));
        if (e->rank == TP_RANK_MAX)
            return tp_fail(err, TP_ERR_LIMIT, "shape has more than %u dimensions", TP_RANK_MAX);
        e->shape[e->rank++] = value.uint_value;
    }
    return status;
}

static enum tp_status read_offsets(struct header *h, struct entry *e, struct tp_error *err)
{
    struct tp_json_token value;
    enum tp_status status = tp_json_expect(h->json, TP_JSON_ARRAY_BEGIN, "data_offsets", &value, err);
    if (!status)
        status = tp_json_expect(h->json, TP_JSON_UINT, "the first of data_offsets", &value, err);
    e->begin = value.uint_value;
    if (!status)
        status = tp_json_expect(h->json, TP_JSON_UINT, "the second of data_offsets", &value, err);
    e->end = value.uint_value;
    if (!status)
        status = tp_json_next(h->json, &value, err);
    if (!status && value.type != TP_JSON_ARRAY_END)
        status = tp_fail(err, TP_ERR_FORMAT, "data_offsets has more than two numbers");
    return status;
}

static enum tp_status read_unknown(struct header *h, const struct tp_json_token *key, struct entry *e,
                                   struct tp_error *err)
{
    struct tp_json_token value;
    if (!e->has_unknown && h->unknown_count++ == 0)
        tp_describe_name(h->first_unknown, key->text, key->len);
    e->has_unknown = true;
    enum tp_status status = new_key(h, key, "a field", err);
    if (!status)
        status = tp_json_next(h->json, &value, err);
    return status ? status : tp_json_skip(h->json, &value, err);
}

typedef enum tp_status (*read_field_fn)(struct header *h, struct entry *e, struct tp_error *err);

/* One member of the entry's object. */
static enum tp_status read_field(struct header *h, const struct tp_json_token *key, struct entry *e,
                                 struct tp_error *err)
{
    const struct {
        const char *name;
        bool *seen;
        read_field_fn read;
    } fields[] = {{"dtype", &e->has_dtype, read_dtype},
                  {"shape", &e->has_shape, read_shape},
                  {"data_offsets", &e->has_offsets, read_offsets}};
    for (size_t i = 0; i < TP_COUNT_OF(fields); i++) {
        if (!token_is(key, fields[i].name))
            continue;
        if (*fields[i].seen)
            return fail_key(key, "the field", err);
        *fields[i].seen = true;
        return fields[i].read(h, e, err);
    }
    return read_unknown(h, key, e, err);
}

static enum tp_status fail_size(const struct entry *e, uint64_t elem_count, uint64_t size_bytes, struct tp_error *err)
{
    char shape[TP_SHAPE_TEXT], need[TP_COUNT_TEXT], have[TP_COUNT_TEXT];
    const char *dtype = tp_dtype_name(e->dtype);
    tp_describe_shape(shape, e->shape, e->rank);
    if (size_bytes == UINT64_MAX && elem_count > 0)
        return tp_fail(err, TP_ERR_FORMAT, "shape %s of %s does not fill whole bytes", shape, dtype);
    if (size_bytes == UINT64_MAX)
        return tp_fail(err, TP_ERR_FORMAT, "shape %s of %s has more bytes than any file", shape, dtype);
    return tp_fail(err, TP_ERR_FORMAT, "shape %s of %s needs %s bytes, data_offsets give %s", shape, dtype,
                   tp_describe_count(need, size_bytes), tp_describe_count(have, e->end - e->begin));
}

static enum tp_status check_entry(const struct entry *e, struct tp_error *err)
{
    char begin[TP_COUNT_TEXT], end[TP_COUNT_TEXT];
    uint64_t elem_count, size_bytes;
    const char *missing = !e->has_dtype ? "dtype" : !e->has_shape ? "shape" : !e->has_offsets ? "data_offsets" : NULL;
    if (missing)
        return tp_fail(err, TP_ERR_FORMAT, "has no %s", missing);
    if (e->end < e->begin)
        return tp_fail(err, TP_ERR_FORMAT, "data_offsets end at %s, before they begin at %s",
                       tp_describe_count(end, e->end), tp_describe_count(begin, e->begin));
    bool fits = tp_shape_measure(e->shape, e->rank, e->dtype, &elem_count, &size_bytes);
    return fits && size_bytes == e->end - e->begin ? TP_OK : fail_size(e, elem_count, size_bytes, err);
}

static struct tp_name tensor_name(const void *table, uint32_t id)
{
    const struct tp_checkpoint *ck = table;
    return (struct tp_name){ck->tensors[id].name, ck->tensors[id].name_len};
}

/* All of the file's tensors go into the table for now; those that the index does not want leave in keep_listed. Offsets
 * count from the file's start from here on. */
static enum tp_status add_entry(struct header *h, const struct entry *e, struct tp_error *err)
{
    struct tp_weight_entry *listed = h->map ? tp_weight_map_find(h->map, h->name, h->name_len) : NULL;
    struct tp_extent extent = {
        .file = h->file, .offset_bytes = h->data_start + e->begin, .size_bytes = e->end - e->begin};
    uint64_t size_bytes;
    tp_shape_measure(e->shape, e->rank, e->dtype, &extent.elem_count, &size_bytes);
    if (e->end > (uint64_t)INT64_MAX - h->data_start)
        return tp_fail(err, TP_ERR_FORMAT, "data_offsets end beyond any file");
    struct tp_tensor_spec spec = {.name = listed ? listed->name : h->name, /* kept once, not twice */
                                  .name_len = h->name_len,
                                  .name_is_kept = listed != NULL,
                                  .dtype = e->dtype,
                                  .shape = e->shape,
                                  .rank = e->rank,
                                  .extents = &extent,
                                  .extent_count = 1};
    enum tp_status status = tp_checkpoint_add_tensor(h->ck, &spec, err);
    if (status)
        return status;
    uint32_t found;
    if (!tp_name_index_add(&h->names, tensor_name, h->ck, (uint32_t)(h->ck->tensor_count - 1), &found))
        return tp_fail_nomem(err);
    if (found != TP_NAME_NONE)
        return tp_fail(err, TP_ERR_FORMAT, "the header lists it twice");
    if (listed && listed->file == h->map_file)
        listed->seen = true;
    return TP_OK;
}

static enum tp_status read_entry(struct header *h, struct tp_error *err)
{
    struct tp_json_token token;
    struct entry e = {.dtype = TP_DTYPE_NONE};
    enum tp_status status = tp_json_expect(h->json, TP_JSON_OBJECT_BEGIN, "the tensor's entry", &token, err);
    while (!status) {
        status = tp_json_next(h->json, &token, err);
        if (status || token.type == TP_JSON_OBJECT_END)
            break;
        status = read_field(h, &token, &e, err);
    }
    if (e.has_unknown)
        tp_key_set_clear(&h->keys);
    if (!status)
        status = check_entry(&e, err);
    return status ? status : add_entry(h, &e, err);
}

/* ---- all entries together ---- */

static enum tp_status fail_place(struct header *h, const struct tp_tensor *t, uint64_t expected, struct tp_error *err)
{
    char at[TP_COUNT_TEXT], want[TP_COUNT_TEXT], other[TP_NAME_TEXT];
    uint64_t offset = t->extents[0].offset_bytes;
    bool is_first = t == &h->ck->tensors[h->first];
    tp_describe_count(at, offset - h->data_start);
    tp_describe_count(want, expected - h->data_start);
    enum tp_status status = TP_ERR_FORMAT;
    if (is_first)
        tp_fail(err, status, "data_offsets begin at %s, but the data before belongs to no tensor", at);
    else {
        tp_describe_name(other, t[-1].name, t[-1].name_len);
        if (offset > expected)
            tp_fail(err, status, "data_offsets begin at %s, but '%s' before it ends at %s: a hole", at, other, want);
        else
            tp_fail(err, status, "data_offsets begin at %s, but '%s' before it ends at %s: they overlap", at, other,
                    want);
    }
    tp_err_tensor(err, status, t->name, t->name_len);
    if (is_first && offset - h->data_start == h->data_start)
        return tp_err_hint(err, status,
                           "the offsets seem to be counted from the start of the file, not from the end "
                           "of the header; the program that wrote it is faulty");
    return tp_err_hint(err, status, DAMAGED_HINT);
}

/* No hole, no overlap, no byte too many or too few. The table is sorted by offset. */
static enum tp_status check_coverage(struct header *h, struct tp_error *err)
{
    char size[TP_COUNT_TEXT], want[TP_COUNT_TEXT], difference[TP_COUNT_TEXT];
    uint64_t expected = h->data_start;
    for (size_t i = h->first; i < h->ck->tensor_count; i++) {
        const struct tp_tensor *t = &h->ck->tensors[i];
        if (t->extents[0].offset_bytes != expected)
            return fail_place(h, t, expected, err);
        expected += t->size_bytes;
    }
    if (expected == h->file_size)
        return TP_OK;
    tp_describe_count(size, h->file_size);
    tp_describe_count(want, expected);
    enum tp_status status = TP_ERR_FORMAT;
    if (expected > h->file_size) {
        tp_fail(err, status, "truncated: the file has %s bytes, its header describes %s (%s are missing)", size, want,
                tp_describe_count(difference, expected - h->file_size));
        return tp_err_hint(err, status, "the download or copy is incomplete; do it again");
    }
    tp_fail(err, status, "the file has %s bytes, its header describes %s (%s at the end belong to no tensor)", size,
            want, tp_describe_count(difference, h->file_size - expected));
    return tp_err_hint(err, status, DAMAGED_HINT);
}

/* The index is an allowlist: what it does not list for this file leaves the table. */
static void keep_listed(struct header *h)
{
    struct tp_checkpoint *ck = h->ck;
    size_t kept = h->first;
    for (size_t i = h->first; i < ck->tensor_count; i++) {
        const struct tp_tensor *t = &ck->tensors[i];
        const struct tp_weight_entry *listed = tp_weight_map_find(h->map, t->name, t->name_len);
        if (listed && listed->file == h->map_file) {
            ck->tensors[kept++] = *t;
            continue;
        }
        if (h->unlisted_count + h->elsewhere_count == 0)
            tp_describe_name(h->first_ignored, t->name, t->name_len);
        *(listed ? &h->elsewhere_count : &h->unlisted_count) += 1;
    }
    ck->tensor_count = kept;
}

static enum tp_status note_ignored(struct header *h, const char *name, uint64_t count, const char *why,
                                   struct tp_error *err)
{
    char number[TP_COUNT_TEXT];
    if (count == 0)
        return TP_OK;
    return tp_checkpoint_note_add(h->ck, err, "%s: %s %s %s and %s ignored (%s)", name,
                                  tp_describe_count(number, count), count == 1 ? "tensor is" : "tensors are", why,
                                  count == 1 ? "is" : "are", h->first_ignored);
}

static bool has_u16(const struct header *h)
{
    for (size_t i = h->first; i < h->ck->tensor_count; i++)
        if (h->ck->tensors[i].dtype == TP_U16)
            return true;
    return false;
}

static enum tp_status add_notes(struct header *h, struct tp_error *err)
{
    char name[TP_NAME_TEXT], number[TP_COUNT_TEXT];
    const char *file_name = h->ck->files[h->file].name;
    tp_describe_name(name, file_name, strlen(file_name));
    enum tp_status status = note_ignored(h, name, h->unlisted_count, "not listed in the index", err);
    if (!status)
        status = note_ignored(h, name, h->elsewhere_count, "listed in the index for another file", err);
    if (!status && h->unknown_count > 0)
        status = tp_checkpoint_note_add(h->ck, err,
                                        "%s: %s %s fields that safetensors does not define; they are ignored (%s)",
                                        name, tp_describe_count(number, h->unknown_count),
                                        h->unknown_count == 1 ? "tensor has" : "tensors have", h->first_unknown);
    if (!status && h->is_paddle && has_u16(h))
        status = tp_checkpoint_note_add(h->ck, err,
                                        "%s: written by PaddlePaddle, which stores bfloat16 as U16; its U16 "
                                        "tensors are taken as integers",
                                        name);
    return status;
}
