/* SPDX-License-Identifier: MIT */
/* The "arrays" of a manifest: paths, dtypes, shapes, and extents that tile each. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "manifest/fields.h"
#include "tensorport/text.h"

static enum tp_status read_path(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    char path[TP_NAME_MAX_BYTES];
    size_t used = 0, keys = 0;
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    for (; !st; keys++) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_STRING || t.has_nul || t.len + used + (keys > 0) > sizeof path)
            return tp_fail(r->err, TP_ERR_FORMAT, "'path' must be a list of keys, together at most %u bytes",
                           TP_NAME_MAX_BYTES);
        if (keys > 0)
            path[used++] = '\0';
        memcpy(path + used, t.text, t.len);
        used += t.len;
    }
    if (st)
        return st;
    if (keys == 0)
        return tp_fail(r->err, TP_ERR_FORMAT, "'path' is empty");
    a->path = tp_arena_strndup(&r->m->arena, path, used);
    a->path_len = (uint16_t)used;
    return a->path ? TP_OK : tp_fail_nomem(r->err);
}

static enum tp_status read_dtype(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    if (st)
        return st;
    enum tp_dtype dtype = tp_dtype_from_numpy_name(t.text, t.len);
    bool packs = r->m->layout && strcmp(r->m->layout, "safetensors") == 0;
    if (dtype == TP_F4 || dtype == TP_F4_UNPACKED) /* one name for both; in files of arrays it is always one a byte */
        dtype = packs ? TP_F4 : TP_F4_UNPACKED;
    if (dtype == TP_DTYPE_NONE || (tp_dtype_bits(dtype) % 8 != 0 && !packs))
        return tp_fail(r->err, TP_ERR_FORMAT, "unknown dtype");
    ((struct tp_manifest_array *)target)->dtype = (uint8_t)dtype;
    return TP_OK;
}

static enum tp_status read_view(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_STRING, key, &t);
    enum tp_dtype view = st ? TP_DTYPE_NONE : tp_dtype_from_numpy_name(t.text, t.len);
    if (!st && view == TP_DTYPE_NONE)
        st = tp_fail(r->err, TP_ERR_FORMAT, "unknown dtype in 'view'");
    ((struct tp_manifest_array *)target)->view = (uint8_t)view;
    return st;
}

/* A list of sizes, kept in the arena, and their product. */
static enum tp_status read_sizes(struct tp_manifest_reader *r, const uint64_t **sizes, unsigned *rank,
                                 uint64_t *product, const char *key)
{
    uint64_t found[TP_RANK_MAX];
    struct tp_json_token t;
    *product = 1;
    *rank = 0;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_UINT || *rank == TP_RANK_MAX || TP_MUL_OVERFLOW(*product, t.uint_value, product) ||
            *product > INT64_MAX / 8)
            return tp_fail(r->err, TP_ERR_FORMAT, "'%s' must be a list of at most %u sizes", key, TP_RANK_MAX);
        found[(*rank)++] = t.uint_value;
    }
    if (st)
        return st;
    uint64_t *kept = tp_arena_alloc(&r->m->arena, *rank * sizeof *kept);
    if (!kept)
        return tp_fail_nomem(r->err);
    memcpy(kept, found, *rank * sizeof *kept);
    *sizes = kept;
    return TP_OK;
}

static enum tp_status read_shape(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    unsigned rank;
    enum tp_status st = read_sizes(r, &a->shape, &rank, &a->elem_count, key);
    a->rank = (uint8_t)rank;
    return st;
}

static enum tp_status read_bound(struct tp_manifest_reader *r, double *bound, const char *key)
{
    struct tp_json_token t;
    enum tp_status st = tp_json_next(r->json, &t, r->err);
    if (st || t.type == TP_JSON_NULL)
        return st;
    if (t.type != TP_JSON_UINT && t.type != TP_JSON_NUMBER)
        return tp_fail(r->err, TP_ERR_FORMAT, "expected a number or null for '%s', found %s", key,
                       tp_json_type_name(t.type));
    *bound = t.type == TP_JSON_UINT ? (double)t.uint_value : t.number_value;
    return TP_OK;
}

static enum tp_status read_min(struct tp_manifest_reader *r, void *target, const char *key)
{
    return read_bound(r, &((struct tp_manifest_array *)target)->min, key);
}

static enum tp_status read_max(struct tp_manifest_reader *r, void *target, const char *key)
{
    return read_bound(r, &((struct tp_manifest_array *)target)->max, key);
}

static enum tp_status read_stats(struct tp_manifest_reader *r, void *target, const char *key)
{
    static const struct tp_field fields[] = {{"min", read_min, false}, {"max", read_max, false}};
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_OBJECT_BEGIN, key, &t);
    return st ? st : tp_fields_read(r, fields, TP_COUNT_OF(fields), target, key);
}

static enum tp_status read_extent_file(struct tp_manifest_reader *r, void *target, const char *key)
{
    uint64_t file = 0;
    enum tp_status st = tp_fields_uint(r, &file, key);
    if (!st && file >= r->m->file_count)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'file' is %" PRIu64 ", there are %zu (listed before the arrays)", file,
                     r->m->file_count);
    ((struct tp_manifest_extent *)target)->file = (uint32_t)file;
    return st;
}

static enum tp_status read_extent_offset(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_uint(r, &((struct tp_manifest_extent *)target)->offset_bytes, key);
}

static enum tp_status read_extent_length(struct tp_manifest_reader *r, void *target, const char *key)
{
    return tp_fields_uint(r, &((struct tp_manifest_extent *)target)->length_bytes, key);
}

static enum tp_status read_extent_elements(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_extent *e = target;
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    if (!st)
        st = tp_fields_uint(r, &e->first_elem, key);
    if (!st)
        st = tp_fields_uint(r, &e->end_elem, key);
    return st ? st : tp_fields_expect(r, TP_JSON_ARRAY_END, key, &t);
}

static enum tp_status read_extent_digests(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest *m = r->m;
    struct tp_manifest_extent *e = target;
    struct tp_json_token t;
    e->first_digest = m->digest_count;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (!tp_array_grow(&m->digests, &m->digest_capacity, m->digest_count + 1, sizeof *m->digests))
            return tp_fail_nomem(r->err);
        if (t.type != TP_JSON_STRING || !tp_digest_parse(&m->digests[m->digest_count], t.text, t.len))
            return tp_fail(r->err, TP_ERR_FORMAT, "'%s' must be a list of digests of 32 hexadecimal digits", key);
        m->digest_count++;
        e->digest_count++;
    }
    return st;
}

static enum tp_status read_extent(struct tp_manifest_reader *r)
{
    static const struct tp_field fields[] = {{"file", read_extent_file, true},
                                             {"offset", read_extent_offset, true},
                                             {"length", read_extent_length, true},
                                             {"elements", read_extent_elements, false},
                                             {"xxh3", read_extent_digests, false}};
    struct tp_manifest *m = r->m;
    if (!tp_array_grow(&m->extents, &m->extent_capacity, m->extent_count + 1, sizeof *m->extents))
        return tp_fail_nomem(r->err);
    m->extents[m->extent_count] = (struct tp_manifest_extent){.first_elem = UINT64_MAX};
    return tp_fields_read(r, fields, TP_COUNT_OF(fields), &m->extents[m->extent_count++], "extents");
}

static enum tp_status read_extents(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    a->first_extent = (uint32_t)r->m->extent_count;
    enum tp_status st = tp_fields_objects(r, key, read_extent);
    a->extent_count = (uint32_t)(r->m->extent_count - a->first_extent);
    return st;
}

static enum tp_status read_chunk(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    uint64_t elem_count;
    unsigned rank;
    enum tp_status st = read_sizes(r, &a->chunk, &rank, &elem_count, key);
    if (!st && rank != a->rank)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'chunk' has %u axes, 'shape' before it %u", rank, (unsigned)a->rank);
    for (unsigned i = 0; !st && i < rank; i++)
        if (a->chunk[i] == 0)
            st = tp_fail(r->err, TP_ERR_FORMAT, "'chunk' has a size of 0");
    return st;
}

static enum tp_status read_order(struct tp_manifest_reader *r, void *target, const char *key)
{
    struct tp_manifest_array *a = target;
    uint8_t order[TP_RANK_MAX];
    unsigned rank = 0;
    uint64_t seen = 0;
    struct tp_json_token t;
    enum tp_status st = tp_fields_expect(r, TP_JSON_ARRAY_BEGIN, key, &t);
    while (!st) {
        st = tp_json_next(r->json, &t, r->err);
        if (st || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_UINT || rank == a->rank || t.uint_value >= a->rank || (seen >> t.uint_value & 1))
            return tp_fail(r->err, TP_ERR_FORMAT, "'order' must list each axis of 'shape' once");
        seen |= UINT64_C(1) << t.uint_value;
        order[rank++] = (uint8_t)t.uint_value;
    }
    if (!st && rank != a->rank)
        st = tp_fail(r->err, TP_ERR_FORMAT, "'order' must list each axis of 'shape' once");
    if (st || rank == 0)
        return st;
    uint8_t *kept = tp_arena_alloc(&r->m->arena, rank);
    if (!kept)
        return tp_fail_nomem(r->err);
    memcpy(kept, order, rank);
    a->order = kept;
    return TP_OK;
}

/* One extent, whatever it holds: its length, its place, its digests. `bytes`: what it must have. */
static enum tp_status check_extent(struct tp_manifest_reader *r, const struct tp_manifest_extent *e, uint64_t bytes)
{
    const struct tp_manifest_file *file = &r->m->files[e->file];
    uint64_t blocks = file->source != TP_NONE ? 0 : (e->length_bytes + TP_BLOCK_BYTES - 1) / TP_BLOCK_BYTES;
    if (e->length_bytes != bytes)
        return tp_fail(r->err, TP_ERR_FORMAT, "an extent of %" PRIu64 " bytes holds elements of %" PRIu64,
                       e->length_bytes, bytes);
    if (e->offset_bytes > file->size_bytes || e->length_bytes > file->size_bytes - e->offset_bytes)
        return tp_fail(r->err, TP_ERR_FORMAT,
                       "an extent of %" PRIu64 " bytes at %" PRIu64 " is outside its file of %" PRIu64, e->length_bytes,
                       e->offset_bytes, file->size_bytes);
    if (e->digest_count != blocks)
        return tp_fail(r->err, TP_ERR_FORMAT, "%u digests for %" PRIu64 " blocks", e->digest_count, blocks);
    return TP_OK;
}

/* Chunks: one extent each, row-major over the grid. */
static enum tp_status check_chunks(struct tp_manifest_reader *r, const struct tp_manifest_array *a)
{
    uint64_t chunks = 1, elems = 1, bytes;
    bool fits = true;
    for (unsigned i = 0; i < a->rank; i++) {
        uint64_t along = a->shape[i] / a->chunk[i] + (a->shape[i] % a->chunk[i] != 0);
        fits = fits && !TP_MUL_OVERFLOW(chunks, along, &chunks) && !TP_MUL_OVERFLOW(elems, a->chunk[i], &elems);
    }
    fits = fits && !TP_MUL_OVERFLOW(elems, (uint64_t)tp_dtype_bits((enum tp_dtype)a->dtype) / 8, &bytes);
    if (!fits || chunks != a->extent_count)
        return tp_fail(r->err, TP_ERR_FORMAT, "%" PRIu32 " extents are not the chunks of its shape", a->extent_count);
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < a->extent_count && !st; i++)
        st = check_extent(r, &r->m->extents[a->first_extent + i], bytes);
    return st;
}

/* The extents tile the array in element order, lie in their files, and have the digests their length needs. */
static enum tp_status check_extents(struct tp_manifest_reader *r, const struct tp_manifest_array *a)
{
    struct tp_manifest *m = r->m;
    uint64_t next = 0, bits = tp_dtype_bits((enum tp_dtype)a->dtype);
    if (a->chunk)
        return check_chunks(r, a);
    for (uint32_t i = 0; i < a->extent_count; i++) {
        struct tp_manifest_extent *e = &m->extents[a->first_extent + i];
        if (e->first_elem == UINT64_MAX) {
            e->first_elem = 0;
            e->end_elem = a->elem_count;
        }
        if (e->first_elem != next || e->end_elem < next || e->end_elem > a->elem_count)
            return tp_fail(r->err, TP_ERR_FORMAT, "extents do not follow each other at element %" PRIu64, next);
        uint64_t elems = e->end_elem - e->first_elem;
        enum tp_status st = check_extent(r, e, bits < 8 ? (elems * bits + 7) / 8 : elems * (bits / 8));
        if (st)
            return st;
        next = e->end_elem;
    }
    if (next != a->elem_count || (a->extent_count == 0 && !tp_manifest_has_folders(r)))
        return tp_fail(r->err, TP_ERR_FORMAT, "extents end at element %" PRIu64 " of %" PRIu64, next, a->elem_count);
    return TP_OK;
}

static enum tp_status read_array(struct tp_manifest_reader *r)
{
    static const struct tp_field fields[] = {{"path", read_path, true},    {"dtype", read_dtype, true},
                                             {"shape", read_shape, true},  {"view", read_view, false},
                                             {"chunk", read_chunk, false}, {"order", read_order, false},
                                             {"stats", read_stats, false}, {"extents", read_extents, true}};
    struct tp_manifest *m = r->m;
    struct tp_manifest_array a = {.min = INFINITY, .max = -INFINITY, .view = TP_DTYPE_NONE};
    enum tp_status st = tp_fields_read(r, fields, TP_COUNT_OF(fields), &a, "arrays");
    if (!st)
        st = check_extents(r, &a);
    if (!st && !tp_array_grow(&m->arrays, &m->array_capacity, m->array_count + 1, sizeof *m->arrays))
        st = tp_fail_nomem(r->err);
    if (!st)
        m->arrays[m->array_count++] = a;
    else if (st == TP_ERR_FORMAT && a.path) {
        char name[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(name, a.path, a.path_len, '/');
        tp_err_tensor(r->err, st, name, a.path_len);
    }
    return st;
}

enum tp_status tp_manifest_read_arrays(struct tp_manifest_reader *r, void *target, const char *key)
{
    (void)target;
    return tp_fields_objects(r, key, read_array);
}
