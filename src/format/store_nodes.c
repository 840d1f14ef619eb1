/* SPDX-License-Identifier: MIT */
/* The database: which keys there are, in their order, and what they hold. Keys and metadata are made when the writer
 * asks for them, an entry costs 8 bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "format/store.h"
#include "plan/box.h"

#define NODE_PREFIX "d/"
/* With metadata of 350 bytes and names of 50 a leaf stays below the 100 MB that Orbax gives its cache of nodes. */
#define LEAF_ENTRIES ((uint64_t)1 << 18)

size_t tp_store_array_key(const struct tp_store *store, const struct tp_plan *plan, uint32_t array, char *dst)
{
    const struct tp_array *a = &plan->arrays[array];
    if (store->numbers)
        return (size_t)snprintf(dst, TP_NAME_MAX_BYTES + 1, "%" PRIu32, store->numbers[array]);
    tp_path_join_keys(dst, a->path, a->path_len, '.');
    return a->path_len;
}

void tp_store_zarr(const struct tp_store *store, struct tp_zarr *zarr, const struct tp_array *array)
{
    tp_zarr_init(zarr, store->version, (enum tp_dtype)array->dtype, array->rank, array->shape,
                 array->grid ? array->grid->chunk : NULL, array->grid ? array->grid->order : NULL);
    zarr->is_terse = store->numbers != NULL; /* byte for byte as jax's save() has it */
}

/* ---- the source of the writer ---- */

struct keys {
    const struct tp_plan *plan;
    const struct tp_store *store;
    char key[TP_NAME_MAX_BYTES + 1 + TP_ZARR_KEY_MAX + 1];
    char text[TP_ZARR_TEXT_MAX];
};

static void chunk_index(const struct tp_array *a, uint64_t number, uint64_t *index)
{
    tp_grid_corner(a, number, index);
    for (unsigned d = 0; d < a->rank; d++)
        index[d] /= a->grid ? a->grid->chunk[d] : a->shape[d];
}

static const char *entry_key(void *user, uint64_t i, size_t *len)
{
    struct keys *k = user;
    const struct tp_store_entry *entry = &k->store->entries[i];
    const struct tp_array *a = &k->plan->arrays[entry->array];
    size_t key_len = tp_store_array_key(k->store, k->plan, entry->array, k->key);
    char *below = k->key + key_len;
    *below++ = '/';
    if (entry->extent == TP_NONE) {
        const char *name = tp_zarr_metadata_key(k->store->version);
        *len = strlen(name);
        memcpy(below, name, *len + 1);
    } else {
        struct tp_zarr zarr;
        uint64_t index[TP_ZARR_RANK_MAX];
        tp_store_zarr(k->store, &zarr, a);
        chunk_index(a, k->plan->extents[entry->extent].leaf, index);
        *len = tp_zarr_chunk_key(&zarr, index, below);
    }
    *len += key_len + 1;
    return k->key;
}

static void entry_value(void *user, uint64_t i, struct tp_ocdbt_value *value)
{
    struct keys *k = user;
    const struct tp_store_entry *entry = &k->store->entries[i];
    if (entry->extent == TP_NONE) {
        struct tp_zarr zarr;
        tp_store_zarr(k->store, &zarr, &k->plan->arrays[entry->array]);
        *value = (struct tp_ocdbt_value){.bytes = k->text, .size = tp_zarr_emit(&zarr, k->text, sizeof k->text)};
        return;
    }
    const struct tp_out_extent *e = &k->plan->extents[entry->extent];
    *value =
        (struct tp_ocdbt_value){.size = e->size_bytes, .file = k->store->file_rank[e->file], .offset = e->offset_bytes};
}

static struct tp_ocdbt_source source_of(struct keys *k)
{
    return (struct tp_ocdbt_source){.user = k,
                                    .count = k->store->entry_count,
                                    .key = entry_key,
                                    .value = entry_value,
                                    .files = k->store->file_paths,
                                    .file_count = k->store->file_count,
                                    .leaf_entries = LEAF_ENTRIES};
}

enum tp_status tp_store_write_nodes(const struct tp_plan *plan, tp_json_write_fn write, void *user,
                                    struct tp_error *err)
{
    struct keys k = {.plan = plan, .store = plan->leaves};
    struct tp_ocdbt_source source = source_of(&k);
    return tp_ocdbt_write_nodes(&source, k.store->node_path, write, user, err);
}

enum tp_status tp_store_write_manifest(const struct tp_plan *plan, int64_t time_ns, tp_json_write_fn write, void *user,
                                       struct tp_error *err)
{
    const struct tp_store *store = plan->leaves;
    return tp_ocdbt_write_manifest(&store->tree, store->node_path, store->digest.bytes, (uint64_t)time_ns, write, user,
                                   err);
}

/* ---- the order of keys ---- */

/* Names with the '/' that follows them in every key, bytewise. A path has NUL where the name has a dot. */
static int by_key(const void *x, const void *y)
{
    const struct tp_array *a = *(const struct tp_array *const *)x, *b = *(const struct tp_array *const *)y;
    for (size_t i = 0;; i++) {
        bool a_ends = i >= a->path_len, b_ends = i >= b->path_len;
        unsigned char p = a_ends ? '/' : a->path[i] ? (unsigned char)a->path[i] : '.';
        unsigned char q = b_ends ? '/' : b->path[i] ? (unsigned char)b->path[i] : '.';
        if (p != q)
            return p < q ? -1 : 1;
        if (a_ends || b_ends)
            return b_ends - a_ends;
    }
}

/* "a" and "a/0": the keys of one would stand among those of the other. All that are below an array follow it. And
 * {"a.b": x} beside {"a": {"b": y}} are one name. */
static enum tp_status check_apart(const struct tp_array *const *sorted, size_t count, struct tp_error *err)
{
    struct tp_name_list inside = {.count = 0};
    for (size_t i = 0, above = 0; i + 1 < count; i++) {
        char outer[TP_NAME_MAX_BYTES + 1], inner[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(outer, sorted[above]->path, sorted[above]->path_len, '.');
        tp_path_join_keys(inner, sorted[i + 1]->path, sorted[i + 1]->path_len, '.');
        size_t len = strlen(outer);
        if (strncmp(outer, inner, len) == 0 && (inner[len] == '/' || inner[len] == '\0'))
            tp_name_list_add(&inside, inner);
        else
            above = i + 1;
    }
    return inside.count == 0 ? TP_OK
                             : tp_fail(err, TP_ERR_UNSUPPORTED, "%zu arrays would lie inside or upon others: %s",
                                       inside.count, tp_name_list_text(&inside));
}

/* The number after x of 0, 1 ... n - 1 in the order of their decimal digits (0, 1, 10, 11, 2 ...); 0: none. */
static uint64_t next_by_digits(uint64_t x, uint64_t n)
{
    if (x == 0)
        return n > 1;
    if (x <= (n - 1) / 10)
        return x * 10;
    while (x > 0 && (x % 10 == 9 || x + 1 >= n))
        x /= 10;
    return x ? x + 1 : 0;
}

/* An array's chunks as their keys are sorted: '.' and '/' come before the digits, so it goes number by number. */
static void add_chunks(struct tp_store_entry *entries, uint32_t array, const struct tp_array *a,
                       const uint32_t *by_chunk)
{
    uint64_t index[TP_ZARR_RANK_MAX] = {0}, along[TP_ZARR_RANK_MAX];
    for (unsigned d = 0; d < a->rank; d++)
        along[d] = a->grid ? a->shape[d] / a->grid->chunk[d] : 1;
    for (uint64_t i = 0, count = tp_grid_chunk_count(a); i < count; i++) {
        uint64_t number = 0;
        for (unsigned d = 0; d < a->rank; d++)
            number = number * along[d] + index[d];
        entries[i] = (struct tp_store_entry){array, by_chunk[number]};
        for (unsigned d = a->rank; d-- > 0;) {
            index[d] = next_by_digits(index[d], along[d]);
            if (index[d] > 0)
                break;
        }
    }
}

/* ".zarray" stands before the chunks, "zarr.json" behind them. */
static void add_entries(struct tp_store *store, struct tp_store_entry *entries, const struct tp_plan *plan,
                        const struct tp_array *const *sorted, const uint32_t *first, const uint32_t *by_chunk)
{
    size_t at = 0;
    for (size_t i = 0; i < plan->array_count; i++) {
        uint32_t array = (uint32_t)(sorted[i] - plan->arrays);
        const struct tp_store_entry metadata = {array, TP_NONE};
        if (store->version == 2)
            entries[at++] = metadata;
        add_chunks(entries + at, array, sorted[i], by_chunk + first[array]);
        at += tp_grid_chunk_count(sorted[i]);
        if (store->version != 2)
            entries[at++] = metadata;
    }
    store->entries = entries;
    store->entry_count = at;
}

/* Names bytewise; numbers by their digits, which is the same. */
static enum tp_status sort_arrays(const struct tp_array **sorted, const struct tp_store *store,
                                  const struct tp_plan *plan, struct tp_error *err)
{
    uint64_t number = 0;
    for (size_t i = 0; i < plan->array_count; i++) {
        sorted[i] = &plan->arrays[store->by_number ? store->by_number[number] : i];
        number = next_by_digits(number, plan->array_count);
    }
    if (store->by_number)
        return TP_OK;
    qsort(sorted, plan->array_count, sizeof *sorted, by_key);
    return check_apart(sorted, plan->array_count, err);
}

static enum tp_status sort_entries(struct tp_store *store, struct tp_plan *plan, const uint32_t *first,
                                   const uint32_t *by_chunk, struct tp_error *err)
{
    struct tp_store_entry *entries =
        tp_arena_alloc(&plan->arena, (plan->array_count + plan->extent_count + 1) * sizeof *entries);
    const struct tp_array **sorted = malloc((plan->array_count + 1) * sizeof *sorted);
    enum tp_status st = entries && sorted ? TP_OK : tp_fail_nomem(err);
    if (!st)
        st = sort_arrays(sorted, store, plan, err);
    if (!st)
        add_entries(store, entries, plan, sorted, first, by_chunk);
    free(sorted);
    return st;
}

/* ---- the files that values lie in ---- */

struct path {
    const char *text;
    uint32_t file;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct path *)a)->text, ((const struct path *)b)->text);
}

static enum tp_status sort_files(struct tp_store *store, struct tp_plan *plan, struct tp_error *err)
{
    size_t count = plan->file_count;
    struct path *paths = malloc((count + 1) * sizeof *paths);
    const char **texts = tp_arena_alloc(&plan->arena, (count + 1) * sizeof *texts);
    uint32_t *rank = tp_arena_alloc(&plan->arena, (count + 1) * sizeof *rank);
    if (paths && texts && rank) {
        for (uint32_t i = 0; i < count; i++)
            paths[i] = (struct path){plan->files[i].name + store->folder_len, i};
        qsort(paths, count, sizeof *paths, by_text);
        for (uint32_t i = 0; i < count; i++) {
            texts[i] = paths[i].text;
            rank[paths[i].file] = i;
        }
        store->file_paths = texts;
        store->file_rank = rank;
        store->file_count = (uint32_t)count;
    }
    free(paths);
    return store->file_rank ? TP_OK : tp_fail_nomem(err);
}

/* ---- the nodes' name ---- */

static enum tp_status hash_bytes(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    (void)err;
    tp_hasher_update(user, bytes, len);
    return TP_OK;
}

static enum tp_status name_nodes(struct tp_store *store, struct tp_plan *plan, const struct tp_ocdbt_source *source,
                                 const char *cpu, struct tp_error *err)
{
    char path[sizeof NODE_PREFIX + TP_DIGEST_HEX] = NODE_PREFIX "00000000000000000000000000000000";
    struct tp_kernels kernels;
    if (!tp_kernels_init(&kernels, cpu))
        return tp_fail(err, TP_ERR_USAGE, "this CPU has no such level");
    enum tp_status st = tp_ocdbt_measure(&store->tree, source, path, err);
    struct tp_hasher *hasher = st ? NULL : tp_hasher_new(&kernels);
    if (!st)
        st = hasher ? tp_ocdbt_write_nodes(source, path, hash_bytes, hasher, err) : tp_fail_nomem(err);
    if (!st) {
        store->digest = tp_hasher_digest(hasher);
        tp_digest_print(path + strlen(NODE_PREFIX), &store->digest);
        store->node_path = tp_arena_strndup(&plan->arena, path, strlen(path));
        st = store->node_path ? TP_OK : tp_fail_nomem(err);
    }
    tp_hasher_free(hasher);
    return st;
}

enum tp_status tp_store_plan_nodes(struct tp_store *store, struct tp_plan *plan,
                                   const struct tp_convert_options *options, const uint32_t *first,
                                   const uint32_t *by_chunk, struct tp_error *err)
{
    enum tp_status st = sort_entries(store, plan, first, by_chunk, err);
    if (!st)
        st = sort_files(store, plan, err);
    if (st)
        return st;
    struct keys k = {.plan = plan, .store = store};
    struct tp_ocdbt_source source = source_of(&k);
    return name_nodes(store, plan, &source, options->cpu, err);
}
