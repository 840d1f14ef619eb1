/* SPDX-License-Identifier: MIT */
/* The tables of a checkpoint: made empty, filled by a reader, finished once, then only read. */
#include "checkpoint/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "quant/groups.h"
#include "tensorport/text.h"

/* ---- making and releasing ---- */

enum tp_status tp_checkpoint_new(struct tp_checkpoint **out, const char *path, const char *folder, struct tp_error *err)
{
    struct tp_checkpoint *ck = calloc(1, sizeof *ck);
    if (!ck)
        return tp_fail_nomem(err);
    ck->path = strdup(path);
    ck->folder = strdup(folder);
    ck->cache = tp_file_cache_new();
    ck->facts.tie_word_embeddings = -1;
    if (!ck->path || !ck->folder || !ck->cache) {
        tp_checkpoint_close(ck);
        return tp_fail_nomem(err);
    }
    *out = ck;
    return TP_OK;
}

void tp_checkpoint_forget(struct tp_checkpoint *ck)
{
    tp_name_index_release(&ck->names);
    tp_metadata_release(&ck->metadata);
    free(ck->groups);
    free(ck->tensors);
    free(ck->files);
    free(ck->memory);
    ck->groups = NULL;
    ck->tensors = NULL;
    ck->files = NULL;
    ck->memory = NULL;
    ck->memory_bytes = 0;
    ck->group_count = ck->tensor_count = ck->file_count = 0;
    ck->group_capacity = ck->tensor_capacity = ck->file_capacity = 0;
    ck->facts = (struct tp_model_facts){.tie_word_embeddings = -1}; /* its texts lie in the arena */
    ck->quant = (struct tp_quant_facts){.bits = 0};
    tp_arena_release(&ck->arena);
}

void tp_checkpoint_close(struct tp_checkpoint *ck)
{
    if (!ck)
        return;
    tp_checkpoint_forget(ck);
    tp_file_cache_free(ck->cache);
    tp_list_release(&ck->notes);
    free(ck->side_folder);
    free(ck->folder);
    free(ck->path);
    free(ck);
}

/* ---- looking ---- */

const char *tp_checkpoint_path(const struct tp_checkpoint *ck)
{
    return ck->path;
}

const char *tp_checkpoint_format(const struct tp_checkpoint *ck)
{
    return ck->format;
}

uint32_t tp_checkpoint_file_count(const struct tp_checkpoint *ck)
{
    return (uint32_t)ck->file_count;
}

const struct tp_file_info *tp_checkpoint_file(const struct tp_checkpoint *ck, uint32_t index)
{
    return index < ck->file_count ? &ck->files[index] : NULL;
}

const char *tp_checkpoint_file_path(const struct tp_checkpoint *ck, uint32_t file)
{
    return tp_file_cache_path(ck->cache, file);
}

const char *tp_checkpoint_tensor_file(const struct tp_checkpoint *ck, const struct tp_tensor *tensor)
{
    uint32_t file = tensor->extent_count ? tensor->extents[0].file : TP_FILE_ABSENT;
    return file < ck->file_count ? ck->files[file].name : "-";
}

uint32_t tp_checkpoint_tensor_count(const struct tp_checkpoint *ck)
{
    return (uint32_t)ck->tensor_count;
}

const struct tp_tensor *tp_checkpoint_tensor(const struct tp_checkpoint *ck, uint32_t index)
{
    return index < ck->tensor_count ? &ck->tensors[index] : NULL;
}

uint32_t tp_checkpoint_group_count(const struct tp_checkpoint *ck)
{
    return (uint32_t)ck->group_count;
}

const struct tp_group *tp_checkpoint_group(const struct tp_checkpoint *ck, uint32_t index)
{
    return index < ck->group_count ? &ck->groups[index] : NULL;
}

const struct tp_model_facts *tp_checkpoint_facts(const struct tp_checkpoint *ck)
{
    return &ck->facts;
}

uint32_t tp_checkpoint_note_count(const struct tp_checkpoint *ck)
{
    return (uint32_t)ck->notes.count;
}

const char *tp_checkpoint_note(const struct tp_checkpoint *ck, uint32_t index)
{
    return index < ck->notes.count ? ck->notes.items[index] : NULL;
}

uint64_t tp_checkpoint_parameter_count(const struct tp_checkpoint *ck)
{
    return ck->parameter_count;
}

static struct tp_name tensor_name(const void *table, uint32_t id)
{
    const struct tp_checkpoint *ck = table;
    return (struct tp_name){ck->tensors[id].name, ck->tensors[id].name_len};
}

const struct tp_tensor *tp_checkpoint_find(const struct tp_checkpoint *ck, const char *name)
{
    uint32_t id = tp_name_index_find(&ck->names, tensor_name, ck, name, strlen(name));
    return id == TP_NAME_NONE ? NULL : &ck->tensors[id];
}

/* ---- adding ---- */

enum tp_status tp_checkpoint_note_add(struct tp_checkpoint *ck, struct tp_error *err, const char *fmt, ...)
{
    char text[3072];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return tp_list_add(&ck->notes, "%s", text) ? TP_OK : tp_fail_nomem(err);
}

enum tp_status tp_checkpoint_add_file(struct tp_checkpoint *ck, const char *name, uint32_t *file, struct tp_error *err)
{
    if (ck->file_count >= TP_FILES_MAX)
        return tp_err_path(err, tp_fail(err, TP_ERR_LIMIT, "more than %u files", TP_FILES_MAX), ck->path);
    char *path = tp_path_join(ck->folder, name);
    const char *kept = tp_arena_strndup(&ck->arena, name, strlen(name));
    if (!path || !kept || !tp_array_grow(&ck->files, &ck->file_capacity, ck->file_count + 1, sizeof *ck->files)) {
        free(path);
        return tp_fail_nomem(err);
    }
    enum tp_status status = tp_file_cache_add(ck->cache, path, err);
    free(path);
    if (status)
        return status;
    *file = (uint32_t)ck->file_count;
    ck->files[ck->file_count++] =
        (struct tp_file_info){.name = kept, .size_bytes = tp_file_cache_id(ck->cache, *file)->size_bytes};
    return TP_OK;
}

bool tp_shape_measure(const uint64_t *shape, unsigned rank, enum tp_dtype dtype, uint64_t *elem_count,
                      uint64_t *size_bytes)
{
    uint64_t product = 1, bits = 0;
    bool empty = false;
    *elem_count = 0;
    *size_bytes = UINT64_MAX;
    for (unsigned i = 0; i < rank; i++) {
        if (shape[i] > INT64_MAX || (shape[i] > 0 && TP_MUL_OVERFLOW(product, shape[i], &product)))
            return false;
        empty |= shape[i] == 0;
    }
    if (TP_MUL_OVERFLOW(product, (uint64_t)tp_dtype_bits(dtype), &bits))
        return false;
    *elem_count = empty ? 0 : product;
    if (!empty && bits % 8 != 0)
        return false;
    *size_bytes = empty ? 0 : bits / 8;
    return true;
}

static enum tp_status check_spec(const struct tp_tensor_spec *spec, struct tp_error *err)
{
    if (spec->name_len > TP_NAME_MAX_BYTES)
        return tp_fail(err, TP_ERR_LIMIT, "the name is %zu bytes long; at most %u are read", spec->name_len,
                       TP_NAME_MAX_BYTES);
    if (memchr(spec->name, '\0', spec->name_len))
        return tp_fail(err, TP_ERR_FORMAT, "the name contains a NUL character");
    if (spec->rank > TP_RANK_MAX)
        return tp_fail(err, TP_ERR_LIMIT, "%u dimensions; at most %u are read", spec->rank, TP_RANK_MAX);
    return TP_OK;
}

static const void *keep(struct tp_checkpoint *ck, const void *bytes, size_t size)
{
    void *copy = tp_arena_alloc(&ck->arena, size);
    if (copy && size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

enum tp_status tp_checkpoint_add_tensor(struct tp_checkpoint *ck, const struct tp_tensor_spec *spec,
                                        struct tp_error *err)
{
    struct tp_tensor t = {.name = spec->name,
                          .name_len = (uint16_t)spec->name_len,
                          .rank = (uint8_t)spec->rank,
                          .dtype = (uint8_t)spec->dtype,
                          .extent_count = spec->extent_count,
                          .group = TP_NO_GROUP};
    enum tp_status status = check_spec(spec, err);
    if (!status && !tp_shape_measure(spec->shape, spec->rank, spec->dtype, &t.elem_count, &t.size_bytes))
        status = tp_fail(err, TP_ERR_FORMAT, "the shape has more elements than a file can hold, or half a byte");
    if (status)
        return tp_err_tensor(err, status, spec->name, spec->name_len);
    if (ck->tensor_count >= UINT32_MAX - 1)
        return tp_fail(err, TP_ERR_LIMIT, "more than 2^32 - 2 tensors");

    t.shape = spec->shape;
    t.extents = spec->extents;
    t.chunks = spec->chunks;
    if (!spec->all_is_kept) {
        t.shape = keep(ck, spec->shape, spec->rank * sizeof *t.shape);
        t.extents = keep(ck, spec->extents, spec->extent_count * sizeof *t.extents);
    }
    if (!spec->name_is_kept)
        t.name = tp_arena_strndup(&ck->arena, spec->name, spec->name_len);
    if (!t.shape || !t.extents || !t.name ||
        !tp_array_grow(&ck->tensors, &ck->tensor_capacity, ck->tensor_count + 1, sizeof *ck->tensors))
        return tp_fail_nomem(err);
    ck->tensors[ck->tensor_count++] = t;
    return TP_OK;
}

/* ---- finishing ---- */

static int order(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int by_place(const void *left, const void *right)
{
    const struct tp_tensor *a = left, *b = right;
    int c = order(a->extents[0].file, b->extents[0].file);
    if (c == 0)
        c = order(a->extents[0].offset_bytes, b->extents[0].offset_bytes);
    if (c == 0)
        c = order(a->size_bytes > 0, b->size_bytes > 0);
    return c != 0 ? c : strcmp(a->name, b->name);
}

void tp_checkpoint_sort_tensors(struct tp_checkpoint *ck, size_t first)
{
    size_t count = ck->tensor_count - first;
    for (size_t i = first + 1; i < ck->tensor_count; i++)
        if (by_place(&ck->tensors[i - 1], &ck->tensors[i]) > 0) { /* writers nearly always sort; qsort copies it all */
            qsort(ck->tensors + first, count, sizeof *ck->tensors, by_place);
            return;
        }
}

static enum tp_status fail_duplicate(const struct tp_checkpoint *ck, const struct tp_tensor *a,
                                     const struct tp_tensor *b, size_t count, struct tp_error *err)
{
    char one[TP_NAME_TEXT], two[TP_NAME_TEXT], more[64] = "";
    uint32_t file_a = a->extents[0].file, file_b = b->extents[0].file;
    const struct tp_file_id *id_a = tp_file_cache_id(ck->cache, file_a), *id_b = tp_file_cache_id(ck->cache, file_b);
    tp_describe_name(one, ck->files[file_a].name, strlen(ck->files[file_a].name));
    tp_describe_name(two, ck->files[file_b].name, strlen(ck->files[file_b].name));
    if (count > 1)
        snprintf(more, sizeof more, " (and %zu more tensors)", count - 1);
    enum tp_status status = TP_ERR_FORMAT;
    if (file_a == file_b)
        tp_fail(err, status, "occurs twice in %s%s", one, more);
    else if (id_a->device == id_b->device && id_a->inode == id_b->inode)
        tp_fail(err, status, "occurs in %s and in %s%s, two names of one file", one, two, more);
    else
        tp_fail(err, status, "occurs in %s and in %s%s", one, two, more);
    tp_err_hint(err, status,
                "keep one of the files, or an index (model.safetensors.index.json) that says which is meant");
    tp_err_path(err, status, ck->path);
    return tp_err_tensor(err, status, a->name, a->name_len);
}

enum tp_status tp_checkpoint_index_names(struct tp_checkpoint *ck, struct tp_error *err)
{
    size_t duplicate_count = 0;
    const struct tp_tensor *first = NULL, *second = NULL;
    for (uint32_t i = 0; i < ck->tensor_count; i++) {
        uint32_t found;
        if (!tp_name_index_add(&ck->names, tensor_name, ck, i, &found))
            return tp_fail_nomem(err);
        if (found != TP_NAME_NONE && duplicate_count++ == 0) {
            first = &ck->tensors[found];
            second = &ck->tensors[i];
        }
    }
    return first ? fail_duplicate(ck, first, second, duplicate_count, err) : TP_OK;
}

static void count_parameters(struct tp_checkpoint *ck)
{
    for (size_t i = 0; i < ck->file_count; i++)
        ck->files[i].tensor_count = 0;
    for (size_t i = 0; i < ck->tensor_count; i++) {
        const struct tp_tensor *t = &ck->tensors[i];
        if (t->extents[0].file < ck->file_count) /* else it is in ck->memory, or nowhere */
            ck->files[t->extents[0].file].tensor_count++;
        if (t->group == TP_NO_GROUP)
            ck->parameter_count += t->elem_count;
    }
    for (size_t i = 0; i < ck->group_count; i++)
        ck->parameter_count += ck->groups[i].parameter_count;
}

enum tp_status tp_checkpoint_finish(struct tp_checkpoint *ck, struct tp_error *err)
{
    tp_checkpoint_sort_tensors(ck, 0);
    enum tp_status status = tp_checkpoint_index_names(ck, err);
    if (!status)
        status = tp_checkpoint_read_config(ck, err);
    if (!status)
        status = tp_groups_find(ck, err);
    if (!status)
        count_parameters(ck);
    return status;
}
