/* SPDX-License-Identifier: MIT */
#include "checkpoint/orbax_array.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/chunks.h"
#include "checkpoint/describe.h"

static enum tp_status about(const struct tp_orbax_array *a, enum tp_status status, struct tp_error *err)
{
    return tp_err_tensor(err, status, a->name, a->name_len);
}

/* ---- metadata ---- */

/* Axes of length 1 move no bytes, wherever they stand. */
static bool is_row_major(const struct tp_zarr *z)
{
    unsigned below = 0;
    for (unsigned i = 0; i < z->rank; i++) {
        unsigned axis = z->codecs.order[i];
        if (z->inner[axis] == 1)
            continue;
        if (axis < below)
            return false;
        below = axis;
    }
    return true;
}

static enum tp_status keep(struct tp_orbax_array *a, struct tp_checkpoint *ck, const struct tp_zarr *z,
                           struct tp_error *err)
{
    size_t axes_bytes = z->rank * sizeof(uint64_t);
    uint64_t *numbers = tp_arena_alloc(&ck->arena, (z->is_sharded ? 3 : 2) * axes_bytes);
    struct tp_chunks *chunks = tp_arena_alloc(&ck->arena, sizeof *chunks);
    uint8_t *order = is_row_major(z) ? NULL : tp_arena_alloc(&ck->arena, z->rank);
    if (!numbers || !chunks || (!order && !is_row_major(z)))
        return tp_fail_nomem(err);
    memcpy(numbers, z->shape, axes_bytes);
    memcpy(numbers + z->rank, z->inner, axes_bytes);
    if (z->is_sharded)
        memcpy(numbers + 2 * z->rank, z->chunk, axes_bytes);
    if (order)
        memcpy(order, z->codecs.order, z->rank);
    *chunks = (struct tp_chunks){.shape = numbers + z->rank,
                                 .order = order,
                                 .codec = z->codecs.compressor == TP_ZARR_ZSTD ? TP_CHUNK_ZSTD : TP_CHUNK_STORED,
                                 .has_crc = z->codecs.has_crc};
    memcpy(chunks->fill, z->fill, sizeof chunks->fill);
    a->shape = numbers;
    a->object = numbers + (z->is_sharded ? 2 : 1) * z->rank;
    a->chunks = chunks;
    return TP_OK;
}

enum tp_status tp_orbax_array_describe(struct tp_orbax_array *a, struct tp_checkpoint *ck, unsigned version,
                                       const char *text, size_t len, struct tp_error *err)
{
    struct tp_zarr z;
    enum tp_status status = version == 3 ? tp_zarr_read_v3(&z, text, len, err) : tp_zarr_read_v2(&z, text, len, err);
    if (!status)
        status = keep(a, ck, &z, err);
    if (status)
        return about(a, status, err);
    a->is_known = true;
    a->version = z.version;
    a->rank = z.rank;
    a->dtype = z.dtype;
    a->separator = (uint8_t)z.separator;
    a->has_c_prefix = z.has_c_prefix;
    a->is_sharded = z.is_sharded;
    a->index_at_start = z.index_at_start;
    a->index_has_crc = z.index_has_crc;
    return TP_OK;
}

void tp_orbax_array_zarr(const struct tp_orbax_array *a, struct tp_zarr *z)
{
    *z = (struct tp_zarr){.version = a->version,
                          .rank = a->rank,
                          .dtype = a->dtype,
                          .separator = (char)a->separator,
                          .has_c_prefix = a->has_c_prefix,
                          .is_sharded = a->is_sharded,
                          .index_at_start = a->index_at_start,
                          .index_has_crc = a->index_has_crc};
    memcpy(z->shape, a->shape, a->rank * sizeof *a->shape);
    memcpy(z->chunk, a->object, a->rank * sizeof *a->object);
    memcpy(z->inner, a->chunks->shape, a->rank * sizeof *a->shape);
}

/* ---- the table of chunks ---- */

static uint64_t steps(uint64_t length, uint64_t step)
{
    return length / step + (length % step != 0);
}

/* Boxes of this shape that cover the array. Never overflows: there are no more than elements, and no array without any
 * comes here. */
static uint64_t count_boxes(const struct tp_orbax_array *a, const uint64_t *box)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < a->rank; i++)
        count *= steps(a->shape[i], box[i]);
    return count;
}

static bool is_empty(const struct tp_orbax_array *a)
{
    for (unsigned i = 0; i < a->rank; i++)
        if (a->shape[i] == 0)
            return true;
    return false;
}

/* Elements of a chunk; proven to be fewer than 2^63 with their bytes when the metadata was read. */
static uint64_t volume_of(const struct tp_orbax_array *a)
{
    uint64_t volume = 1;
    for (unsigned i = 0; i < a->rank; i++)
        volume *= a->chunks->shape[i];
    return volume;
}

/* The flat number of a chunk's first element, which may lie outside only together with the chunk. */
static uint64_t first_element(const struct tp_orbax_array *a, uint64_t number)
{
    uint64_t first = 0, stride = 1;
    for (unsigned i = a->rank; i-- > 0;) {
        uint64_t count = steps(a->shape[i], a->chunks->shape[i]);
        first += number % count * a->chunks->shape[i] * stride;
        number /= count;
        stride *= a->shape[i];
    }
    return first;
}

enum tp_status tp_orbax_array_begin(struct tp_orbax_array *a, struct tp_checkpoint *ck, struct tp_orbax_budget *budget,
                                    struct tp_error *err)
{
    char shown[TP_COUNT_TEXT];
    if (is_empty(a))
        return TP_OK;
    uint64_t count = count_boxes(a, a->chunks->shape), objects = count_boxes(a, a->object);
    if (objects > budget->objects)
        return about(a,
                     tp_fail(err, TP_ERR_FORMAT, "%s chunks are declared; by far not as many are stored",
                             tp_describe_count(shown, objects)),
                     err);
    if (count > budget->chunks)
        return about(a,
                     tp_fail(err, TP_ERR_LIMIT, "more than %s chunks in all arrays",
                             tp_describe_count(shown, TP_ORBAX_CHUNKS_MAX)),
                     err);
    budget->objects -= objects;
    budget->chunks -= count;
    a->extent_count = (uint32_t)count;
    a->extents = tp_arena_alloc(&ck->arena, (size_t)count * sizeof *a->extents);
    if (!a->extents)
        return tp_fail_nomem(err);
    uint64_t volume = volume_of(a);
    for (uint64_t i = 0; i < count; i++)
        a->extents[i] =
            (struct tp_extent){.first_elem = first_element(a, i), .elem_count = volume, .file = TP_FILE_ABSENT};
    return TP_OK;
}

/* ---- stored objects ---- */

static enum tp_status put_chunk(struct tp_orbax_array *a, const struct tp_zarr *z, const uint64_t *chunk,
                                const struct tp_orbax_value *value, struct tp_error *err)
{
    char found[TP_COUNT_TEXT], expected[TP_COUNT_TEXT];
    uint64_t number = 0, crc_bytes = a->chunks->has_crc ? 4 : 0, need = tp_zarr_inner_bytes(z) + crc_bytes;
    for (unsigned i = 0; i < a->rank; i++)
        number = number * steps(a->shape[i], a->chunks->shape[i]) + chunk[i];
    if (a->chunks->codec == TP_CHUNK_STORED ? value->size != need : value->size <= crc_bytes)
        return about(a,
                     tp_fail(err, TP_ERR_FORMAT, "chunk %" PRIu64 " of %" PRIu32 " has %s bytes; its shape needs %s",
                             number, a->extent_count, tp_describe_count(found, value->size),
                             tp_describe_count(expected, need)),
                     err);
    struct tp_extent *e = &a->extents[number];
    e->file = value->file;
    e->offset_bytes = value->offset;
    e->size_bytes = value->size;
    return TP_OK;
}

static enum tp_status read_value(const struct tp_checkpoint *ck, const struct tp_orbax_value *value, void *dst,
                                 size_t len, uint64_t offset, struct tp_error *err)
{
    if (value->file != TP_FILE_MEMORY)
        return tp_checkpoint_read_at(ck, value->file, dst, len, value->offset + offset, err);
    memcpy(dst, ck->memory + value->offset + offset, len);
    return TP_OK;
}

/* The chunks of a shard, those beyond the array's edge left out. `slots` are in row-major order. */
static enum tp_status put_slots(struct tp_orbax_array *a, const struct tp_zarr *z, const uint64_t *shard,
                                const struct tp_orbax_value *value, const struct tp_zarr_slot *slots, uint64_t count,
                                struct tp_error *err)
{
    enum tp_status status = TP_OK;
    for (uint64_t i = 0; !status && i < count; i++) {
        uint64_t chunk[TP_ZARR_RANK_MAX], rest = i;
        bool is_inside = !slots[i].is_absent;
        for (unsigned d = a->rank; d-- > 0;) {
            uint64_t per_shard = z->chunk[d] / z->inner[d];
            chunk[d] = shard[d] * per_shard + rest % per_shard;
            rest /= per_shard;
            is_inside = is_inside && chunk[d] < steps(a->shape[d], z->inner[d]);
        }
        struct tp_orbax_value inner = {value->offset + slots[i].offset, slots[i].size, value->file};
        if (is_inside)
            status = put_chunk(a, z, chunk, &inner, err);
    }
    return status;
}

static enum tp_status put_shard(struct tp_orbax_array *a, const struct tp_zarr *z, const struct tp_checkpoint *ck,
                                const uint64_t *shard, const struct tp_orbax_value *value, struct tp_error *err)
{
    uint64_t count = tp_zarr_slot_count(z), index_bytes = tp_zarr_index_bytes(z);
    if (count > TP_ORBAX_CHUNKS_MAX || index_bytes > value->size)
        return about(a, tp_fail(err, TP_ERR_FORMAT, "a shard is too short for the index of its chunks"), err);
    uint8_t *bytes = malloc((size_t)index_bytes);
    struct tp_zarr_slot *slots = malloc((size_t)count * sizeof *slots);
    enum tp_status status = bytes && slots ? TP_OK : tp_fail_nomem(err);
    if (!status)
        status =
            read_value(ck, value, bytes, (size_t)index_bytes, z->index_at_start ? 0 : value->size - index_bytes, err);
    if (!status && (status = tp_zarr_read_index(slots, z, bytes, value->size, err)))
        about(a, status, err);
    if (!status)
        status = put_slots(a, z, shard, value, slots, count, err);
    free(slots);
    free(bytes);
    return status;
}

enum tp_status tp_orbax_array_put(struct tp_orbax_array *a, const struct tp_zarr *z, struct tp_checkpoint *ck,
                                  const uint64_t *index, const struct tp_orbax_value *value, struct tp_error *err)
{
    char size[TP_COUNT_TEXT], key[TP_ZARR_KEY_MAX + 1];
    uint64_t end;
    if (is_empty(a))
        return TP_OK;
    if (value->file != TP_FILE_MEMORY &&
        (TP_ADD_OVERFLOW(value->offset, value->size, &end) || end > ck->files[value->file].size_bytes)) {
        tp_zarr_chunk_key(z, index, key);
        tp_fail(err, TP_ERR_FORMAT, "chunk '%s' is said to lie at bytes %" PRIu64 " + %" PRIu64 " of a file of %s", key,
                value->offset, value->size, tp_describe_count(size, ck->files[value->file].size_bytes));
        tp_err_hint(err, TP_ERR_FORMAT, "the file is cut short, or is not the one that was there");
        tp_err_path(err, TP_ERR_FORMAT, tp_checkpoint_file_path(ck, value->file));
        return about(a, TP_ERR_FORMAT, err);
    }
    return a->is_sharded ? put_shard(a, z, ck, index, value, err) : put_chunk(a, z, index, value, err);
}

/* ---- the tensor ---- */

static enum tp_status fail_missing(const struct tp_orbax_array *a, uint32_t number, struct tp_error *err)
{
    struct tp_zarr z;
    uint64_t index[TP_ZARR_RANK_MAX], rest = number;
    char key[TP_ZARR_KEY_MAX + 1];
    tp_orbax_array_zarr(a, &z);
    for (unsigned i = a->rank; i-- > 0;) {
        uint64_t count = steps(a->shape[i], a->chunks->shape[i]);
        index[i] = rest % count * z.inner[i] / z.chunk[i]; /* of the object that should hold it */
        rest /= count;
    }
    tp_zarr_chunk_key(&z, index, key);
    tp_fail(err, TP_ERR_FORMAT, a->is_sharded ? "a chunk of shard '%s' is missing" : "chunk '%s' is missing", key);
    tp_err_hint(err, TP_ERR_FORMAT, "the checkpoint is incomplete: write or copy it again");
    return about(a, TP_ERR_FORMAT, err);
}

static uint32_t find_absent(const struct tp_orbax_array *a)
{
    uint32_t i = 0;
    while (i < a->extent_count && a->extents[i].file != TP_FILE_ABSENT)
        i++;
    return i;
}

/* One chunk, in a file, that is the array just as it is: no need to call it a chunk. */
static bool is_plain(const struct tp_orbax_array *a)
{
    if (a->extent_count != 1 || a->extents[0].file >= TP_FILE_MEMORY || a->chunks->order ||
        a->chunks->codec != TP_CHUNK_STORED || a->chunks->has_crc)
        return false;
    for (unsigned i = 0; i < a->rank; i++)
        if (a->chunks->shape[i] != a->shape[i])
            return false;
    return true;
}

/* Every tensor has a file, for messages and order: for those without elements any will do. */
static enum tp_status add_empty(struct tp_orbax_array *a, struct tp_checkpoint *ck, struct tp_error *err)
{
    uint32_t file = 0;
    enum tp_status status = ck->file_count == 0 ? tp_checkpoint_add_file(ck, "_METADATA", &file, err) : TP_OK;
    a->extent_count = 1;
    a->extents = tp_arena_alloc(&ck->arena, sizeof *a->extents);
    if (!a->extents)
        return tp_fail_nomem(err);
    a->extents[0] = (struct tp_extent){.file = file};
    return status;
}

enum tp_status tp_orbax_array_finish(struct tp_orbax_array *a, struct tp_checkpoint *ck, bool stores_all,
                                     struct tp_error *err)
{
    uint32_t absent = stores_all ? find_absent(a) : a->extent_count;
    if (absent < a->extent_count)
        return fail_missing(a, absent, err);
    enum tp_status status = is_empty(a) ? add_empty(a, ck, err) : TP_OK;
    struct tp_tensor_spec spec = {.name = a->name,
                                  .name_len = a->name_len,
                                  .name_is_kept = true,
                                  .all_is_kept = true,
                                  .dtype = (enum tp_dtype)a->dtype,
                                  .shape = a->shape,
                                  .rank = a->rank,
                                  .extents = a->extents,
                                  .extent_count = a->extent_count,
                                  .chunks = is_empty(a) || is_plain(a) ? NULL : a->chunks};
    return status ? status : tp_checkpoint_add_tensor(ck, &spec, err);
}
