/* SPDX-License-Identifier: MIT */
/* Sharded Flax MessagePack (docs/formats/flax-msgpack.md): each file is one valid Flax object, byte for byte what
 * flax.serialization.msgpack_serialize gives for the same tree.
 *
 *     file  := map of keys, sorted bytewise at every level
 *     leaf  := ndarray | chunks of an array above 2^30 bytes | {"__tensorport_parts__": {"0": ndarray or chunks}}
 *
 * A leaf here is one value at the end of a path in one file; an array has several when it is split over files. */
#include "format/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "codec/msgpack.h"
#include "plan/shard.h"
#include "tensorport/text.h"

#define CHUNK_BYTES ((uint64_t)1 << 30) /* Flax chunks what is larger */
#define ROOT_MAX 5u                     /* the root map's header */

struct leaf {
    uint32_t array;
    uint32_t part; /* number of the part, or TP_NONE: the whole array */
    uint64_t first_elem, elem_count;
    uint32_t first_extent, extent_count;
    bool flat; /* a part that is not whole rows: written as 1-D */
};

/* ---- bytes of a leaf ---- */

static uint64_t leaf_bytes(const struct tp_array *a, const struct leaf *leaf)
{
    return leaf->elem_count * tp_array_item_bytes(a);
}

static uint64_t chunk_elems(const struct tp_array *a)
{
    return CHUNK_BYTES / tp_array_item_bytes(a);
}

static uint32_t chunk_count(const struct tp_array *a, const struct leaf *leaf)
{
    if (leaf_bytes(a, leaf) <= CHUNK_BYTES)
        return 1;
    return (uint32_t)((leaf->elem_count + chunk_elems(a) - 1) / chunk_elems(a));
}

static void put_number_key(struct tp_mp *w, uint32_t number)
{
    char text[16];
    tp_mp_str(w, text, (size_t)snprintf(text, sizeof text, "%" PRIu32, number));
}

static void put_key(struct tp_mp *w, const char *key)
{
    tp_mp_str(w, key, strlen(key));
}

/* Everything of an ndarray before its data: extension header, shape, dtype, the data's length. */
static void put_ndarray_header(struct tp_mp *w, const char *dtype, const uint64_t *shape, unsigned rank,
                               uint64_t data_bytes)
{
    for (int pass = 0; pass < 2; pass++) { /* once to count the payload, once to write */
        struct tp_mp count = {.dst = NULL};
        struct tp_mp *out = pass ? w : &count;
        tp_mp_array(out, 3);
        tp_mp_array(out, rank);
        for (unsigned i = 0; i < rank; i++)
            tp_mp_uint(out, shape[i]);
        put_key(out, dtype);
        tp_mp_bin_header(out, (uint32_t)data_bytes);
        if (pass == 0)
            tp_mp_ext_header(w, TP_MP_EXT_NDARRAY, (uint32_t)(count.used + data_bytes));
    }
}

/* The shape a leaf is written with. */
static unsigned leaf_shape(const struct tp_array *a, const struct leaf *leaf, uint64_t shape[TP_RANK_MAX])
{
    if (leaf->flat) {
        shape[0] = leaf->elem_count;
        return 1;
    }
    memcpy(shape, a->shape, a->rank * sizeof *shape);
    if (leaf->part != TP_NONE)
        shape[0] = leaf->elem_count / (a->elem_count / a->shape[0]);
    return a->rank;
}

static void put_chunk_header(struct tp_mp *w, const struct tp_array *a, const struct leaf *leaf, uint32_t chunk)
{
    uint64_t first = chunk * chunk_elems(a);
    uint64_t count = leaf->elem_count - first < chunk_elems(a) ? leaf->elem_count - first : chunk_elems(a);
    put_number_key(w, chunk);
    put_ndarray_header(w, tp_dtype_numpy_name((enum tp_dtype)a->dtype), &count, 1, count * tp_array_item_bytes(a));
}

/* What stands between a leaf's key and its first data byte. */
static void put_leaf_intro(struct tp_mp *w, const struct tp_array *a, const struct leaf *leaf)
{
    uint64_t shape[TP_RANK_MAX];
    unsigned rank = leaf_shape(a, leaf, shape);
    if (leaf->part != TP_NONE) {
        tp_mp_map(w, 1);
        put_key(w, "__tensorport_parts__");
        tp_mp_map(w, 1);
        put_number_key(w, leaf->part);
    }
    if (leaf_bytes(a, leaf) <= CHUNK_BYTES) {
        put_ndarray_header(w, tp_dtype_numpy_name((enum tp_dtype)a->dtype), shape, rank, leaf_bytes(a, leaf));
        return;
    }
    tp_mp_map(w, 3);
    put_key(w, "__msgpack_chunked_array__");
    tp_mp_bool(w, true);
    put_key(w, "shape");
    tp_mp_map(w, rank);
    for (unsigned i = 0; i < rank; i++) {
        put_number_key(w, i);
        tp_mp_uint(w, shape[i]);
    }
    put_key(w, "chunks");
    tp_mp_map(w, chunk_count(a, leaf));
    put_chunk_header(w, a, leaf, 0);
}

/* ---- keys ---- */

static size_t key_length(const char *path, size_t path_len, size_t start)
{
    const char *end = memchr(path + start, '\0', path_len - start);
    return end ? (size_t)(end - path) - start : path_len - start;
}

/* Bytes at the front of b's path that are whole keys of a's path too, each with its separator. */
static size_t common_keys(const struct tp_array *a, const struct tp_array *b)
{
    size_t common = 0;
    for (;;) {
        size_t len = key_length(b->path, b->path_len, common);
        size_t next = common + len + 1;
        if (next > b->path_len || next > a->path_len || memcmp(a->path + common, b->path + common, len + 1) != 0)
            return common;
        common = next;
    }
}

struct file_leaves {
    const struct tp_plan *plan;
    const struct leaf *leaves;
    uint32_t first, end; /* of the file */
};

static const struct tp_array *leaf_array(const struct file_leaves *f, uint32_t i)
{
    return &f->plan->arrays[f->leaves[i].array];
}

/* Children of the node whose path is the first `prefix` bytes (separator included) of leaf i's: leaves are sorted, so
 * its descendants follow and equal keys stand together. */
static uint32_t count_children(const struct file_leaves *f, uint32_t i, size_t prefix)
{
    const struct tp_array *first = leaf_array(f, i);
    const struct tp_array *last = NULL;
    uint32_t children = 0;
    for (; i < f->end; i++) {
        const struct tp_array *a = leaf_array(f, i);
        if (a->path_len < prefix || memcmp(a->path, first->path, prefix) != 0)
            break;
        size_t len = key_length(a->path, a->path_len, prefix);
        if (!last || key_length(last->path, last->path_len, prefix) != len ||
            memcmp(last->path + prefix, a->path + prefix, len) != 0)
            children++;
        last = a;
    }
    return children;
}

/* The keys (and the headers of new maps) that lead from the leaf before to leaf i. */
static void put_path(struct tp_mp *w, const struct file_leaves *f, uint32_t i)
{
    const struct tp_array *a = leaf_array(f, i);
    size_t at = 0;
    if (i == f->first)
        tp_mp_map(w, count_children(f, i, 0));
    else
        at = common_keys(leaf_array(f, i - 1), a);
    for (;;) {
        size_t len = key_length(a->path, a->path_len, at);
        tp_mp_str(w, a->path + at, len);
        at += len + 1;
        if (at > a->path_len)
            return;
        tp_mp_map(w, count_children(f, i, at));
    }
}

/* Never more than TP_FRAME_MAX_BYTES, so always given whole. */
static size_t frame(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap)
{
    struct tp_mp w = {dst, cap, 0};
    if (offset > 0)
        return 0;
    const struct tp_out_file *out = &plan->files[file];
    const struct leaf *leaves = plan->leaves;
    if (out->extent_count == 0) {
        tp_mp_map(&w, 0);
        return w.used;
    }
    if (k == out->extent_count)
        return 0; /* MessagePack says its counts in front: nothing follows the last payload */
    const struct tp_out_extent *first = &plan->extents[out->first_extent];
    const struct tp_out_extent *e = first + k;
    const struct leaf *leaf = &leaves[e->leaf];
    const struct tp_array *a = &plan->arrays[leaf->array];
    if (out->first_extent + k != leaf->first_extent) {
        put_chunk_header(&w, a, leaf, out->first_extent + k - leaf->first_extent);
        return w.used;
    }
    struct file_leaves f = {plan, leaves, first->leaf,
                            plan->extents[out->first_extent + out->extent_count - 1].leaf + 1};
    put_path(&w, &f, e->leaf);
    put_leaf_intro(&w, a, leaf);
    return w.used;
}

/* ---- layout ---- */

struct layout {
    struct tp_plan *plan;
    const struct tp_convert_options *options;
    uint64_t limit;
    struct leaf *leaves; /* in source order first, then sorted within each file */
    struct tp_shard_item *items;
    size_t count, capacity, item_capacity;
    struct tp_error *err;
};

/* An upper bound of a path's bytes: every key of a nested path with a map of its own. */
static uint64_t path_bytes(const struct tp_array *a)
{
    struct tp_mp w = {.dst = NULL};
    for (size_t at = 0; at <= a->path_len;) {
        size_t len = key_length(a->path, a->path_len, at);
        tp_mp_str(&w, a->path + at, len);
        at += len + 1;
        if (at <= a->path_len)
            w.used += ROOT_MAX;
    }
    return w.used;
}

static uint64_t leaf_total(const struct tp_array *a, const struct leaf *leaf)
{
    struct tp_mp w = {.dst = NULL};
    put_leaf_intro(&w, a, leaf);
    for (uint32_t c = 1; c < chunk_count(a, leaf); c++)
        put_chunk_header(&w, a, leaf, c);
    return path_bytes(a) + w.used + leaf_bytes(a, leaf);
}

static enum tp_status add_leaf(struct layout *l, struct leaf leaf, bool alone)
{
    size_t needed = l->count + 1;
    if (!tp_array_grow(&l->leaves, &l->capacity, needed, sizeof *l->leaves) ||
        !tp_array_grow(&l->items, &l->item_capacity, needed, sizeof *l->items))
        return tp_fail_nomem(l->err);
    const struct tp_array *a = &l->plan->arrays[leaf.array];
    bool apart = leaf.part != TP_NONE && leaf.part > 0;
    l->items[l->count] = (struct tp_shard_item){.bytes = leaf_total(a, &leaf), .alone = alone, .apart = apart};
    l->leaves[l->count++] = leaf;
    return TP_OK;
}

static enum tp_status refuse_oversize(struct layout *l, const struct tp_array *a, uint64_t bytes, const char *hint)
{
    char name[TP_NAME_MAX_BYTES + 1];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    tp_fail(l->err, TP_ERR_USAGE, "needs %" PRIu64 " bytes in a file, --shard-size allows %" PRIu64, bytes, l->limit);
    tp_err_tensor(l->err, TP_ERR_USAGE, name, a->path_len);
    return tp_err_hint(l->err, TP_ERR_USAGE, "%s", hint);
}

/* Split an array that no file can hold: whole rows of its first axis where one fits, else a flat range of elements.
 * The parts are as equal as the rows allow. */
static enum tp_status split_array(struct layout *l, uint32_t array)
{
    const struct tp_array *a = &l->plan->arrays[array];
    /* An empty part costs the most a part's framing can: the largest numbers in shape and lengths, and chunk headers.
     */
    uint64_t framing = ROOT_MAX + path_bytes(a) + 128 + 9 * (uint64_t)(a->rank + 1);
    framing += l->limit / CHUNK_BYTES * 64 + (l->limit > CHUNK_BYTES ? 128 + 16 * (uint64_t)a->rank : 0);
    uint64_t room = l->limit > framing ? (l->limit - framing) / tp_array_item_bytes(a) : 0;
    if (room == 0)
        return refuse_oversize(l, a, framing + tp_array_item_bytes(a), "give a larger --shard-size");
    uint64_t row = a->rank ? a->elem_count / a->shape[0] : a->elem_count;
    bool flat = row > room;
    uint64_t unit = flat ? 1 : row;
    uint64_t units = a->elem_count / unit, units_a_part = room / unit;
    uint64_t parts = (units + units_a_part - 1) / units_a_part;
    if (parts > TP_FILES_MAX)
        return refuse_oversize(l, a, a->elem_count * tp_array_item_bytes(a), "that would be more than 100,000 files");
    enum tp_status st = TP_OK;
    uint64_t each = units / parts, larger = units % parts, first = 0;
    for (uint32_t p = 0; p < parts && !st; p++) {
        uint64_t count = (each + (p < larger)) * unit;
        st = add_leaf(
            l, (struct leaf){.array = array, .part = p, .first_elem = first, .elem_count = count, .flat = flat}, false);
        first += count;
    }
    return st;
}

static enum tp_status add_array(struct layout *l, uint32_t array)
{
    const struct tp_array *a = &l->plan->arrays[array];
    struct leaf whole = {.array = array, .part = TP_NONE, .elem_count = a->elem_count};
    uint64_t bytes = ROOT_MAX + leaf_total(a, &whole);
    if (bytes <= l->limit)
        return add_leaf(l, whole, false);
    if (l->options->oversize == TP_OVERSIZE_OWN_SHARD)
        return add_leaf(l, whole, true);
    if (l->options->oversize == TP_OVERSIZE_ERROR)
        return refuse_oversize(l, a, bytes,
                               "--oversize split cuts it into parts, --oversize own-shard gives it a larger file");
    return a->elem_count > 1 ? split_array(l, array) : refuse_oversize(l, a, bytes, "give a larger --shard-size");
}

struct sort_key {
    const struct tp_array *array;
    struct leaf leaf;
};

static int compare_keys(const void *a, const void *b)
{
    const struct sort_key *x = a, *y = b;
    return tp_path_compare(x->array->path, x->array->path_len, y->array->path, y->array->path_len);
}

/* Order the leaves [first, end) of one file as their keys are ordered. */
static enum tp_status sort_leaves(struct layout *l, size_t first, size_t end)
{
    struct sort_key *keys = malloc((end - first) * sizeof *keys + 1);
    if (!keys)
        return tp_fail_nomem(l->err);
    for (size_t i = first; i < end; i++)
        keys[i - first] = (struct sort_key){&l->plan->arrays[l->leaves[i].array], l->leaves[i]};
    qsort(keys, end - first, sizeof *keys, compare_keys);
    for (size_t i = first; i < end; i++)
        l->leaves[i] = keys[i - first].leaf;
    free(keys);
    return TP_OK;
}

static void add_extents(struct layout *l, uint32_t leaf_index, uint32_t file, uint32_t *last_of_array)
{
    struct tp_plan *plan = l->plan;
    struct leaf *leaf = &l->leaves[leaf_index];
    struct tp_array *a = &plan->arrays[leaf->array];
    leaf->first_extent = (uint32_t)plan->extent_count;
    leaf->extent_count = chunk_count(a, leaf);
    uint64_t step = leaf->extent_count == 1 ? leaf->elem_count : chunk_elems(a);
    for (uint32_t c = 0; c < leaf->extent_count; c++) {
        uint64_t first = c * step;
        uint64_t count = leaf->elem_count - first < step ? leaf->elem_count - first : step;
        uint32_t index = (uint32_t)plan->extent_count++;
        plan->extents[index] = (struct tp_out_extent){.array = leaf->array,
                                                      .file = file,
                                                      .next = TP_NONE,
                                                      .leaf = leaf_index,
                                                      .first_elem = leaf->first_elem + first,
                                                      .elem_count = count,
                                                      .size_bytes = count * tp_array_item_bytes(a),
                                                      .first_block = plan->block_count};
        plan->block_count += tp_extent_block_count(&plan->extents[index]);
        if (last_of_array[leaf->array] == TP_NONE)
            a->first_extent = index;
        else
            plan->extents[last_of_array[leaf->array]].next = index;
        last_of_array[leaf->array] = index;
    }
}

/* Offsets follow from the frames; the file ends where its last payload does. */
static enum tp_status place_file(struct layout *l, uint32_t file)
{
    struct tp_plan *plan = l->plan;
    struct tp_out_file *out = &plan->files[file];
    uint64_t at = 0;
    for (uint32_t k = 0; k < out->extent_count; k++) {
        struct tp_out_extent *e = &plan->extents[out->first_extent + k];
        size_t framing = frame(plan, file, k, 0, NULL, 0);
        if (framing > TP_FRAME_MAX_BYTES)
            return tp_fail(l->err, TP_ERR_BUG, "framing of %zu bytes", framing);
        e->offset_bytes = at + framing;
        at = e->offset_bytes + e->size_bytes;
    }
    out->size_bytes = at + frame(plan, file, out->extent_count, 0, NULL, 0);
    return TP_OK;
}

#define PREFIX_MAX 64u

/* How the files' names begin: as the map's target wants it. */
static const char *prefix_of(const struct tp_convert_options *options)
{
    const char *prefix = options->map && !options->reverse ? tp_map_output_of(options->map)->prefix : NULL;
    return prefix ? prefix : "model";
}

static enum tp_status check_prefix(const char *prefix, struct tp_error *err)
{
    size_t len = strlen(prefix);
    bool is_plain = len > 0 && len <= PREFIX_MAX && prefix[0] != '.';
    for (size_t i = 0; i < len && is_plain; i++)
        is_plain = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.", prefix[i]) != NULL;
    char shown[128];
    return is_plain ? TP_OK
                    : tp_fail(err, TP_ERR_FORMAT,
                              "the map's prefix '%s' cannot begin a file's name (letters, digits, '_', '-', '.')",
                              tp_text_printable(shown, sizeof shown, prefix, len));
}

static enum tp_status name_file(struct layout *l, uint32_t file)
{
    char name[PREFIX_MAX + 40];
    const char *prefix = prefix_of(l->options);
    int len = l->plan->file_count == 1 ? snprintf(name, sizeof name, "%s.msgpack", prefix)
                                       : snprintf(name, sizeof name, "%s-%05" PRIu32 "-of-%05zu.msgpack", prefix,
                                                  file + 1, l->plan->file_count);
    l->plan->files[file].name = tp_arena_strndup(&l->plan->arena, name, (size_t)len);
    return l->plan->files[file].name ? TP_OK : tp_fail_nomem(l->err);
}

static enum tp_status add_index(struct layout *l)
{
    char name[PREFIX_MAX + 40];
    if (l->plan->file_count == 1)
        return TP_OK;
    int len = snprintf(name, sizeof name, "%s.msgpack.index.json", prefix_of(l->options));
    const char *kept = tp_arena_strndup(&l->plan->arena, name, (size_t)len);
    return kept && tp_plan_add_small(l->plan, kept, 0, 0, false) ? TP_OK : tp_fail_nomem(l->err);
}

/* Leaves have their files: sort each file's, give them extents, and the extents offsets. */
static enum tp_status place_leaves(struct layout *l, uint32_t *last_of_array)
{
    enum tp_status st = TP_OK;
    size_t first = 0;
    for (uint32_t file = 0; file < l->plan->file_count && !st; file++) {
        size_t end = first;
        while (end < l->count && l->items[end].file == file)
            end++;
        st = sort_leaves(l, first, end);
        struct tp_out_file *out = &l->plan->files[file];
        out->first_extent = (uint32_t)l->plan->extent_count;
        for (size_t i = first; i < end && !st; i++)
            add_extents(l, (uint32_t)i, file, last_of_array);
        out->extent_count = (uint32_t)l->plan->extent_count - out->first_extent;
        if (!st)
            st = name_file(l, file);
        if (!st)
            st = place_file(l, file);
        first = end;
    }
    return st;
}

static enum tp_status allocate_tables(struct layout *l, uint32_t **last_of_array)
{
    struct tp_plan *plan = l->plan;
    size_t extents = 0;
    for (size_t i = 0; i < l->count; i++)
        extents += chunk_count(&plan->arrays[l->leaves[i].array], &l->leaves[i]);
    plan->extents = malloc((extents + 1) * sizeof *plan->extents);
    plan->files = calloc(plan->file_count, sizeof *plan->files);
    *last_of_array = malloc((plan->array_count + 1) * sizeof **last_of_array);
    if (!plan->extents || !plan->files || !*last_of_array)
        return tp_fail_nomem(l->err);
    memset(*last_of_array, 0xff, (plan->array_count + 1) * sizeof **last_of_array);
    return TP_OK;
}

static enum tp_status layout(struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err)
{
    uint32_t *last_of_array = NULL;
    struct layout l = {.plan = plan, .options = options, .err = err};
    l.limit = options->shard_size_bytes ? options->shard_size_bytes : TP_SHARD_SIZE_DEFAULT;
    enum tp_status st = check_prefix(prefix_of(options), err);
    for (size_t i = 0; i < plan->array_count && !st; i++)
        st = add_array(&l, (uint32_t)i);
    if (!st) {
        plan->file_count = tp_shard_assign(l.items, l.count, l.limit, ROOT_MAX);
        if (plan->file_count > TP_FILES_MAX)
            st =
                tp_err_hint(err, tp_fail(err, TP_ERR_LIMIT, "%zu output files are more than 100,000", plan->file_count),
                            "give a larger --shard-size");
    }
    if (!st)
        st = allocate_tables(&l, &last_of_array);
    plan->leaves = l.leaves; /* frame() reads them from here */
    plan->leaf_count = l.count;
    if (!st)
        st = place_leaves(&l, last_of_array);
    if (!st)
        st = add_index(&l);
    free(last_of_array);
    free(l.items);
    return st;
}

/* ---- model.msgpack.index.json ---- */

static void write_files_of(const struct tp_plan *plan, const struct tp_array *a, struct tp_json_writer *w)
{
    const struct tp_out_extent *e = &plan->extents[a->first_extent];
    uint32_t file = e->file;
    bool split = false;
    for (const struct tp_out_extent *x = e; !split && x->next != TP_NONE; x = &plan->extents[x->next])
        split = plan->extents[x->next].file != file;
    if (!split) {
        tp_json_cstring(w, plan->files[file].name);
        return;
    }
    tp_json_begin_array(w);
    for (uint32_t i = a->first_extent, last = TP_NONE; i != TP_NONE; i = plan->extents[i].next) {
        if (plan->extents[i].file != last)
            tp_json_cstring(w, plan->files[plan->extents[i].file].name);
        last = plan->extents[i].file;
    }
    tp_json_end_array(w);
}

static void put_index(const struct tp_plan *plan, const struct tp_array *const *sorted, struct tp_json_writer *w)
{
    tp_json_begin_object(w);
    tp_json_key(w, "metadata");
    tp_json_begin_object(w);
    tp_json_key(w, "total_size");
    tp_json_uint(w, plan->payload_bytes);
    tp_json_end_object(w);
    tp_json_key(w, "weight_map");
    tp_json_begin_object(w);
    for (size_t i = 0; i < plan->array_count; i++) {
        char name[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(name, sorted[i]->path, sorted[i]->path_len, '/');
        tp_json_newline(w);
        tp_json_key_len(w, name, sorted[i]->path_len);
        write_files_of(plan, sorted[i], w);
    }
    tp_json_end_object(w);
    tp_json_end_object(w);
    tp_json_newline(w);
}

static enum tp_status write_index(const struct tp_plan *plan, const struct tp_small_file *file,
                                  const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                  struct tp_error *err)
{
    (void)file, (void)facts;
    const struct tp_array **sorted = tp_plan_sorted(plan);
    if (!sorted)
        return tp_fail_nomem(err);
    struct tp_json_writer w;
    tp_json_writer_init(&w, write, user, err);
    put_index(plan, sorted, &w);
    free(sorted);
    return tp_json_writer_finish(&w);
}

const struct tp_format tp_format_flax_msgpack = {
    .name = "flax-msgpack",
    .traits = {.reserved_keys = true},
    .attributes = "*.msgpack filter=lfs diff=lfs merge=lfs -text\n",
    .layout = layout,
    .frame = frame,
    .write_small = write_index,
};
