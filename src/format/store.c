/* SPDX-License-Identifier: MIT */
/* Where the chunks of a store lie:
 *
 *     arrays --grid--> chunks --data file, or range of a source file--> extents --> keys of the database
 *
 * Data files hold payloads alone, each at a multiple of 64 bytes, zeros between them; the database says where. */
#include "format/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/describe.h"
#include "plan/refer.h"

#define ALIGN 64u
#define DATA_FILE_BYTES ((uint64_t)512 << 20)
#define CHUNKS_MAX ((uint64_t)1 << 24) /* of all arrays: what a reader may be asked to keep in memory */

/* A chunk that lies in the source. */
struct linked {
    struct tp_reference at;
    uint32_t array, number;
};

struct layout {
    struct tp_plan *plan;
    struct tp_store *store;
    bool *refers;       /* by array: its chunks lie in the source where they can */
    uint32_t *first;    /* by array: where its chunks begin in by_chunk */
    uint32_t *by_chunk; /* the extent of each chunk of all arrays */
    uint64_t chunk_count;
    struct linked *linked;
    size_t linked_count, linked_capacity;
    size_t file_capacity;
    struct tp_error *err;
};

const char *tp_store_fault(const struct tp_array *a)
{
    if (a->rank > TP_ZARR_RANK_MAX)
        return "more than 32 axes";
    return tp_zarr_dtype_name(3, (enum tp_dtype)a->dtype) ? NULL : "TensorStore has no such dtype";
}

static uint64_t chunk_volume(const struct tp_array *a)
{
    uint64_t volume = 1;
    for (unsigned d = 0; d < a->rank; d++)
        volume *= a->grid ? a->grid->chunk[d] : a->shape[d];
    return volume;
}

/* Where each array's chunks begin in by_chunk. */
static enum tp_status count_chunks(struct layout *l)
{
    for (size_t i = 0; i < l->plan->array_count; i++) {
        l->first[i] = (uint32_t)l->chunk_count;
        l->chunk_count += tp_grid_chunk_count(&l->plan->arrays[i]);
        if (l->chunk_count > CHUNKS_MAX) {
            tp_fail(l->err, TP_ERR_LIMIT, "more than %" PRIu64 " chunks", CHUNKS_MAX);
            return tp_err_hint(l->err, TP_ERR_LIMIT, "give a larger --chunk-bytes, or --min-chunk");
        }
    }
    return TP_OK;
}

/* ---- data files ---- */

static struct tp_out_file *add_file(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    if (!tp_array_grow(&plan->files, &l->file_capacity, plan->file_count + 1, sizeof *plan->files))
        return NULL;
    struct tp_out_file *file = &plan->files[plan->file_count++];
    *file = (struct tp_out_file){.first_extent = (uint32_t)plan->extent_count};
    return file;
}

static uint64_t aligned(uint64_t offset)
{
    return (offset + ALIGN - 1) / ALIGN * ALIGN;
}

/* Of our files all but the last are done: chunks come in the order of arrays. */
static struct tp_out_file *file_for(struct layout *l, uint64_t size_bytes)
{
    struct tp_plan *plan = l->plan;
    struct tp_out_file *last = plan->file_count ? &plan->files[plan->file_count - 1] : NULL;
    if (!last || !l->store->has_database)
        return add_file(l);
    uint64_t at = aligned(last->size_bytes);
    return at < DATA_FILE_BYTES && size_bytes <= DATA_FILE_BYTES - at ? last : add_file(l);
}

static uint64_t first_elem_of(const struct tp_array *a, uint64_t number)
{
    uint64_t corner[TP_GRID_RANK_MAX], flat = 0;
    tp_grid_corner(a, number, corner);
    for (unsigned d = 0; d < a->rank; d++)
        flat = flat * a->shape[d] + corner[d];
    return flat;
}

static struct tp_out_extent *add_extent(struct layout *l, uint32_t array, uint32_t number, uint32_t file)
{
    struct tp_plan *plan = l->plan;
    const struct tp_array *a = &plan->arrays[array];
    uint32_t index = (uint32_t)plan->extent_count++;
    struct tp_out_extent *e = &plan->extents[index];
    uint64_t volume = chunk_volume(a);
    *e = (struct tp_out_extent){.array = array,
                                .file = file,
                                .next = TP_NONE,
                                .leaf = number,
                                .first_elem = first_elem_of(a, number),
                                .elem_count = volume,
                                .size_bytes = volume * tp_array_item_bytes(a)};
    plan->files[file].extent_count++;
    l->by_chunk[l->first[array] + number] = index;
    return e;
}

static enum tp_status name_chunk_file(struct layout *l, struct tp_out_file *file, const struct tp_out_extent *e);

static enum tp_status place_chunk(struct layout *l, uint32_t array, uint32_t number)
{
    struct tp_plan *plan = l->plan;
    const struct tp_array *a = &plan->arrays[array];
    struct tp_out_file *file = file_for(l, chunk_volume(a) * tp_array_item_bytes(a));
    if (!file)
        return tp_fail_nomem(l->err);
    struct tp_out_extent *e = add_extent(l, array, number, (uint32_t)(file - plan->files));
    e->offset_bytes = aligned(file->size_bytes);
    file->size_bytes = e->offset_bytes + e->size_bytes;
    e->first_block = plan->block_count;
    plan->block_count += tp_extent_block_count(e);
    return l->store->has_database ? TP_OK : name_chunk_file(l, file, e);
}

static enum tp_status place_array(struct layout *l, uint32_t array)
{
    const struct tp_array *a = &l->plan->arrays[array];
    enum tp_status st = TP_OK;
    for (uint64_t i = 0, count = tp_grid_chunk_count(a); i < count && !st; i++) {
        uint32_t n = (uint32_t)tp_grid_placed(a, i);
        struct linked chunk = {.array = array, .number = n};
        if (!l->refers[array] || !tp_refer_chunk(&chunk.at, l->plan, a, n))
            st = place_chunk(l, array, n);
        else if (tp_array_grow(&l->linked, &l->linked_capacity, l->linked_count + 1, sizeof *l->linked))
            l->linked[l->linked_count++] = chunk;
        else
            st = tp_fail_nomem(l->err);
    }
    return st;
}

/* ---- linked files ---- */

static int by_place(const void *a, const void *b)
{
    const struct linked *x = a, *y = b;
    if (x->at.file != y->at.file)
        return x->at.file < y->at.file ? -1 : 1;
    if (x->at.offset_bytes != y->at.offset_bytes)
        return x->at.offset_bytes < y->at.offset_bytes ? -1 : 1;
    if (x->array != y->array)
        return x->array < y->array ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

static enum tp_status place_linked(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    if (l->linked_count > 0)
        qsort(l->linked, l->linked_count, sizeof *l->linked, by_place);
    for (size_t i = 0; i < l->linked_count; i++) {
        const struct linked *chunk = &l->linked[i];
        if (i == 0 || chunk->at.file != l->linked[i - 1].at.file) {
            struct tp_out_file *file = add_file(l);
            if (!file)
                return tp_fail_nomem(l->err);
            file->is_linked = true;
            file->source_file = chunk->at.file;
            file->size_bytes = tp_checkpoint_file(plan->source, chunk->at.file)->size_bytes;
        }
        add_extent(l, chunk->array, chunk->number, (uint32_t)(plan->file_count - 1))->offset_bytes =
            chunk->at.offset_bytes;
    }
    return TP_OK;
}

/* An array's extents one after the other, by number. */
static void chain_extents(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    for (size_t i = 0; i < plan->array_count; i++) {
        struct tp_array *a = &plan->arrays[i];
        uint64_t count = tp_grid_chunk_count(a);
        const uint32_t *numbered = l->by_chunk + l->first[i];
        a->first_extent = count ? numbered[0] : TP_NONE;
        for (uint64_t n = 1; n < count; n++)
            plan->extents[numbered[n - 1]].next = numbered[n];
    }
}

/* ---- names ---- */

const char *tp_store_path(const struct tp_store *store, struct tp_plan *plan, const char *name)
{
    size_t len = strlen(name);
    char *path = tp_arena_alloc(&plan->arena, store->folder_len + len + 1);
    if (path) {
        memcpy(path, store->folder, store->folder_len);
        memcpy(path + store->folder_len, name, len + 1);
    }
    return path;
}

static enum tp_status name_chunk_file(struct layout *l, struct tp_out_file *file, const struct tp_out_extent *e)
{
    const struct tp_array *a = &l->plan->arrays[e->array];
    struct tp_zarr zarr;
    uint64_t index[TP_ZARR_RANK_MAX];
    char name[TP_NAME_MAX_BYTES + 1 + TP_ZARR_KEY_MAX + 1];
    size_t key_len = tp_store_array_key(l->store, l->plan, e->array, name);
    name[key_len] = '/';
    tp_store_zarr(l->store, &zarr, a);
    tp_grid_corner(a, e->leaf, index);
    for (unsigned d = 0; d < a->rank; d++)
        index[d] /= zarr.chunk[d];
    tp_zarr_chunk_key(&zarr, index, name + key_len + 1);
    file->name = tp_store_path(l->store, l->plan, name);
    return file->name ? TP_OK : tp_fail_nomem(l->err);
}

static enum tp_status name_linked(struct layout *l, struct tp_out_file *file)
{
    const char *name = tp_checkpoint_file(l->plan->source, file->source_file)->name;
    char shown[TP_NAME_TEXT];
    if (!l->store->can_link(name))
        return tp_fail(l->err, TP_ERR_UNSUPPORTED, "--zero-copy cannot refer to a file named '%s'",
                       tp_describe_name(shown, name, strlen(name)));
    file->name = tp_store_path(l->store, l->plan, name);
    return file->name ? TP_OK : tp_fail_nomem(l->err);
}

static enum tp_status name_files(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    uint32_t own = 0;
    enum tp_status st = TP_OK;
    while (own < plan->file_count && !plan->files[own].is_linked)
        own++;
    for (uint32_t i = 0; i < plan->file_count && !st; i++) {
        char name[64];
        if (plan->files[i].is_linked) {
            st = name_linked(l, &plan->files[i]);
        } else if (l->store->has_database) {
            snprintf(name, sizeof name, "d/data-%05" PRIu32 "-of-%05" PRIu32, i + 1, own);
            plan->files[i].name = tp_store_path(l->store, l->plan, name);
            st = plan->files[i].name ? TP_OK : tp_fail_nomem(l->err);
        }
    }
    return st;
}

/* ---- notes ---- */

/* One such array fails a whole restore where TensorStore is older. */
static enum tp_status note_dtypes(struct layout *l)
{
    static const struct {
        enum tp_dtype dtype;
        const char *since;
    } recent[] = {{TP_F8_E8M0, "0.1.86"}, {TP_F4_UNPACKED, "0.1.80"}};
    for (size_t r = 0; r < TP_COUNT_OF(recent); r++) {
        size_t count = 0;
        for (size_t i = 0; i < l->plan->array_count; i++)
            count += l->plan->arrays[i].dtype == recent[r].dtype;
        if (count > 0 && !tp_list_add(&l->plan->notes,
                                      "%s (of %zu): without TensorStore %s or later nothing of the checkpoint can be "
                                      "restored; --compat writes the bytes as uint8",
                                      tp_dtype_numpy_name(recent[r].dtype), count, recent[r].since))
            return tp_fail_nomem(l->err);
    }
    return TP_OK;
}

/* ---- layout ---- */

static enum tp_status place_all(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    plan->extents = malloc((l->chunk_count + 1) * sizeof *plan->extents);
    l->by_chunk = malloc((l->chunk_count + 1) * sizeof *l->by_chunk);
    enum tp_status st = plan->extents && l->by_chunk ? TP_OK : tp_fail_nomem(l->err);
    for (uint32_t i = 0; i < plan->array_count && !st; i++)
        st = place_array(l, i);
    if (!st)
        st = place_linked(l);
    if (!st && plan->file_count > TP_FILES_MAX) {
        tp_fail(l->err, TP_ERR_LIMIT, "%zu output files are more than 100,000", plan->file_count);
        st = tp_err_hint(l->err, TP_ERR_LIMIT, "without --no-ocdbt chunks share files");
    }
    if (!st)
        st = name_files(l);
    if (!st)
        chain_extents(l);
    return st;
}

enum tp_status tp_store_lay_out(struct tp_store *store, struct tp_plan *plan, const struct tp_convert_options *options,
                                struct tp_error *err)
{
    struct layout l = {.plan = plan, .store = store, .err = err};
    l.refers = calloc(plan->array_count + 1, sizeof *l.refers);
    l.first = malloc((plan->array_count + 1) * sizeof *l.first);
    enum tp_status st = l.refers && l.first ? TP_OK : tp_fail_nomem(err);
    if (!st)
        st = tp_store_choose_grids(store, l.refers, plan, options, err);
    if (!st)
        st = count_chunks(&l);
    if (!st)
        st = place_all(&l);
    if (!st && store->has_database)
        st = tp_store_plan_nodes(store, plan, options, l.first, l.by_chunk, err);
    if (!st)
        st = note_dtypes(&l);
    free(l.refers);
    free(l.first);
    free(l.by_chunk);
    free(l.linked);
    return st;
}

/* ---- bytes ---- */

/* Zeros up to the next payload. */
size_t tp_store_frame(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap)
{
    const struct tp_out_file *out = &plan->files[file];
    const struct tp_out_extent *extents = &plan->extents[out->first_extent];
    uint64_t begin = k ? extents[k - 1].offset_bytes + extents[k - 1].size_bytes : 0;
    uint64_t end = k < out->extent_count ? extents[k].offset_bytes : out->size_bytes;
    if (offset >= end - begin)
        return 0;
    size_t rest = (size_t)(end - begin - offset);
    if (!dst)
        return rest;
    size_t len = rest < cap ? rest : cap;
    memset(dst, 0, len);
    return len;
}
