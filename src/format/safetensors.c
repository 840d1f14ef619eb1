/* SPDX-License-Identifier: MIT */
/* Sharded safetensors (docs/formats/safetensors-output.md): each file is what the reference writer gives for the same
 * tensors, but for its blanks.
 *
 *     file   := length of the header (8 bytes, little-endian) | header | payloads, without holes
 *     header := {"__metadata__":{...},"name":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},...} | blanks
 *
 * All framing of a file is in front of its first payload. It can have many megabytes, so frame() begins anywhere in it:
 * a leaf is an entry of the header, and knows where in the file that begins. */
#include "format/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "checkpoint/metadata.h"
#include "plan/shard.h"
#include "tensorport/text.h"

#define LENGTH_BYTES 8u
#define DATA_ALIGN 64u
#define METADATA_KEY "__metadata__"
#define INDEX_NAME "model.safetensors.index.json"

struct leaf {
    uint64_t at; /* where in the file its entry, with the comma before it, begins */
};

/* ---- a window on text ---- */

/* What is put in passes by; the window keeps up to `cap` bytes of it, after the first `skip`. */
struct window {
    uint8_t *dst; /* NULL: count only */
    size_t cap, used;
    size_t skip;
};

static struct window counter(void)
{
    return (struct window){.cap = SIZE_MAX};
}

static void put(struct window *w, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    size_t skipped = len < w->skip ? len : w->skip;
    w->skip -= skipped;
    len -= skipped;
    if (len > w->cap - w->used)
        len = w->cap - w->used;
    if (w->dst && len > 0)
        memcpy(w->dst + w->used, from + skipped, len);
    w->used += len;
}

static void put_text(struct window *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_uint(struct window *w, uint64_t number)
{
    char text[24];
    put(w, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, number));
}

static void put_quoted(struct window *w, const char *text, size_t len)
{
    char escaped[6 * 256 + 1];
    put_text(w, "\"");
    for (size_t done = 0; done < len;) {
        size_t piece = len - done < 256 ? len - done : 256;
        put(w, escaped, tp_text_json(escaped, sizeof escaped, text + done, piece));
        done += piece;
    }
    put_text(w, "\"");
}

/* ---- the header ---- */

static bool has_metadata(const struct tp_plan *plan)
{
    return plan->source->metadata.count > 0;
}

/* Everything before the first entry. */
static void put_start(struct window *w, const struct tp_plan *plan, uint64_t header_bytes)
{
    uint8_t length[LENGTH_BYTES];
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        length[i] = (uint8_t)(header_bytes >> (8 * i));
    put(w, length, LENGTH_BYTES);
    put_text(w, "{");
    if (!has_metadata(plan))
        return;
    put_text(w, "\"" METADATA_KEY "\":{");
    const struct tp_metadata *m = &plan->source->metadata;
    for (size_t i = 0; i < m->count; i++) {
        const struct tp_metadata_item *item = &m->items[i];
        put_text(w, i ? "," : "");
        put_quoted(w, item->key, item->key_len);
        put_text(w, ":");
        put_quoted(w, item->value, item->value_len);
    }
    put_text(w, "}");
}

static void put_entry(struct window *w, const struct tp_array *a, bool comma, uint64_t begin, uint64_t end)
{
    char name[TP_NAME_MAX_BYTES + 1];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    put_text(w, comma ? "," : "");
    put_quoted(w, name, a->path_len);
    put_text(w, ":{\"dtype\":\"");
    put_text(w, tp_dtype_name((enum tp_dtype)a->dtype));
    put_text(w, "\",\"shape\":[");
    for (unsigned i = 0; i < a->rank; i++) {
        put_text(w, i ? "," : "");
        put_uint(w, a->shape[i]);
    }
    put_text(w, "],\"data_offsets\":[");
    put_uint(w, begin);
    put_text(w, ",");
    put_uint(w, end);
    put_text(w, "]}");
}

/* The entry of a file's k-th extent; its offsets count from `data`, where the data begins. */
static void put_extent(struct window *w, const struct tp_plan *plan, const struct tp_out_file *out, uint32_t k,
                       uint64_t data)
{
    const struct tp_out_extent *e = &plan->extents[out->first_extent + k];
    uint64_t begin = e->offset_bytes - data;
    put_entry(w, &plan->arrays[e->array], k > 0 || has_metadata(plan), begin, begin + e->size_bytes);
}

/* The last of a file's entries that begin at or before `offset`; 0 when there is none. */
static uint32_t find_entry(const struct tp_plan *plan, const struct tp_out_file *out, uint64_t offset)
{
    const struct leaf *leaves = (const struct leaf *)plan->leaves + out->first_extent;
    uint32_t low = 0, high = out->extent_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (leaves[middle].at <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static size_t frame(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap)
{
    const struct tp_out_file *out = &plan->files[file];
    const struct leaf *leaves = (const struct leaf *)plan->leaves + out->first_extent;
    uint64_t data = out->extent_count ? plan->extents[out->first_extent].offset_bytes : out->size_bytes;
    if (k > 0 || offset >= data)
        return 0;
    size_t rest = (size_t)(data - offset);
    if (!dst)
        return rest;
    struct window w = {.dst = dst, .cap = rest < cap ? rest : cap, .skip = offset};
    uint32_t next = 0;
    if (out->extent_count == 0 || offset < leaves[0].at) {
        put_start(&w, plan, data - LENGTH_BYTES);
    } else {
        next = find_entry(plan, out, offset);
        w.skip = (size_t)(offset - leaves[next].at);
    }
    for (; next < out->extent_count && w.used < w.cap; next++)
        put_extent(&w, plan, out, next, data);
    put_text(&w, "}");
    memset(w.dst + w.used, ' ', w.cap - w.used);
    return w.cap;
}

/* ---- layout ---- */

struct layout {
    struct tp_plan *plan;
    const struct tp_convert_options *options;
    uint64_t limit, overhead; /* of a file; the latter is what it costs without arrays */
    struct tp_shard_item *items;
    const struct tp_array **order; /* by file, then as they lie in it */
    struct tp_error *err;
};

/* Name the array of an error. */
static enum tp_status refuse(const struct layout *l, const struct tp_array *a, enum tp_status st, const char *hint)
{
    char name[TP_NAME_MAX_BYTES + 1];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    tp_err_tensor(l->err, st, name, a->path_len);
    return tp_err_hint(l->err, st, "%s", hint);
}

static enum tp_status check_array(const struct layout *l, const struct tp_array *a)
{
    enum tp_status st = TP_ERR_UNSUPPORTED;
    if (!tp_dtype_name((enum tp_dtype)a->dtype)) {
        tp_fail(l->err, st, "%s with one code a byte cannot be written: safetensors has two in a byte",
                tp_dtype_numpy_name((enum tp_dtype)a->dtype));
        return refuse(l, a, st, "--compat writes its bytes as U8");
    }
    if (a->path_len == strlen(METADATA_KEY) && memcmp(a->path, METADATA_KEY, a->path_len) == 0) {
        tp_fail(l->err, st, "safetensors keeps this name for itself");
        return refuse(l, a, st, "--exclude " METADATA_KEY " leaves it out");
    }
    return TP_OK;
}

static uint64_t data_bytes(const struct tp_array *a)
{
    return a->elem_count * tp_array_item_bytes(a);
}

/* What an array takes in a file, at most: no offset in the file has more digits than its size. A tensor cannot be
 * split, so one that is too large has a file of its own. */
static enum tp_status add_item(struct layout *l, size_t i)
{
    const struct tp_array *a = &l->plan->arrays[i];
    struct window w = counter();
    enum tp_status st = check_array(l, a);
    if (st)
        return st;
    uint64_t size = data_bytes(a), most = size > l->limit ? size : l->limit;
    put_entry(&w, a, true, most, most);
    struct tp_shard_item *item = &l->items[i];
    *item = (struct tp_shard_item){.bytes = size + w.used};
    item->alone = l->overhead > l->limit || item->bytes > l->limit - l->overhead;
    if (!item->alone || l->options->oversize != TP_OVERSIZE_ERROR)
        return TP_OK;
    st = tp_fail(l->err, TP_ERR_USAGE, "needs %" PRIu64 " bytes in a file, --shard-size allows %" PRIu64,
                 item->bytes + l->overhead, l->limit);
    return refuse(l, a, st, "--oversize own-shard gives it a larger file");
}

static enum tp_status assign_files(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    struct window w = counter();
    enum tp_status st = TP_OK;
    put_start(&w, plan, 0);
    l->overhead = w.used + 1 + DATA_ALIGN - 1; /* with the closing brace and blanks */
    for (size_t i = 0; i < plan->array_count && !st; i++)
        st = add_item(l, i);
    if (st)
        return st;
    plan->file_count = tp_shard_assign(l->items, plan->array_count, l->limit, l->overhead);
    if (plan->file_count <= TP_FILES_MAX)
        return TP_OK;
    tp_fail(l->err, TP_ERR_LIMIT, "%zu output files are more than 100,000", plan->file_count);
    return tp_err_hint(l->err, TP_ERR_LIMIT, "give a larger --shard-size");
}

/* Names as they are written, bytewise. A path has NUL where the name has a dot. */
static int compare_names(const struct tp_array *a, const struct tp_array *b)
{
    size_t shorter = a->path_len < b->path_len ? a->path_len : b->path_len;
    for (size_t i = 0; i < shorter; i++) {
        unsigned char x = a->path[i] ? (unsigned char)a->path[i] : '.';
        unsigned char y = b->path[i] ? (unsigned char)b->path[i] : '.';
        if (x != y)
            return x < y ? -1 : 1;
    }
    return (a->path_len > b->path_len) - (a->path_len < b->path_len);
}

static int by_name(const void *a, const void *b)
{
    return compare_names(*(const struct tp_array *const *)a, *(const struct tp_array *const *)b);
}

/* The reference writer's order: the widest dtypes first, so that every payload is aligned to its own. */
static int by_place(const void *a, const void *b)
{
    const struct tp_array *x = *(const struct tp_array *const *)a, *y = *(const struct tp_array *const *)b;
    return x->dtype != y->dtype ? (int)y->dtype - (int)x->dtype : compare_names(x, y);
}

static void add_extent(struct layout *l, const struct tp_array *array, uint32_t file)
{
    struct tp_plan *plan = l->plan;
    uint32_t index = (uint32_t)plan->extent_count++;
    uint32_t number = (uint32_t)(array - plan->arrays);
    struct tp_out_extent *e = &plan->extents[index];
    *e = (struct tp_out_extent){.array = number,
                                .file = file,
                                .next = TP_NONE,
                                .leaf = index,
                                .elem_count = array->elem_count,
                                .size_bytes = data_bytes(array),
                                .first_block = plan->block_count};
    plan->arrays[number].first_extent = index;
    plan->block_count += tp_extent_block_count(e);
    plan->files[file].extent_count++;
}

/* The offsets in the entries give the header its length, which then gives the extents their places in the file. */
static enum tp_status place_file(struct layout *l, struct tp_out_file *out)
{
    struct tp_plan *plan = l->plan;
    struct tp_out_extent *extents = &plan->extents[out->first_extent];
    struct leaf *leaves = (struct leaf *)plan->leaves + out->first_extent;
    struct window w = counter();
    uint64_t end = 0;
    put_start(&w, plan, 0);
    for (uint32_t k = 0; k < out->extent_count; k++) {
        extents[k].offset_bytes = end;
        end += extents[k].size_bytes;
        leaves[k].at = w.used;
        put_extent(&w, plan, out, k, 0);
    }
    put_text(&w, "}");
    uint64_t data = (w.used + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
    for (uint32_t k = 0; k < out->extent_count; k++)
        extents[k].offset_bytes += data;
    out->size_bytes = data + end;
    if (data - LENGTH_BYTES <= TP_HEADER_MAX_BYTES)
        return TP_OK;
    tp_fail(l->err, TP_ERR_LIMIT, "%s would have a header of %" PRIu64 " bytes; safetensors allows %u", out->name,
            data - LENGTH_BYTES, TP_HEADER_MAX_BYTES);
    return tp_err_hint(l->err, TP_ERR_LIMIT, "give a smaller --shard-size: fewer tensors a file");
}

static enum tp_status name_file(struct layout *l, uint32_t file)
{
    char name[64] = "model.safetensors";
    struct tp_plan *plan = l->plan;
    if (plan->file_count > 1)
        snprintf(name, sizeof name, "model-%05" PRIu32 "-of-%05zu.safetensors", file + 1, plan->file_count);
    plan->files[file].name = tp_arena_strndup(&plan->arena, name, strlen(name));
    return plan->files[file].name ? TP_OK : tp_fail_nomem(l->err);
}

static enum tp_status place_arrays(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    enum tp_status st = TP_OK;
    size_t first = 0;
    for (uint32_t file = 0; file < plan->file_count && !st; file++) {
        size_t end = first;
        for (; end < plan->array_count && l->items[end].file == file; end++)
            l->order[end] = &plan->arrays[end];
        if (end > first)
            qsort(l->order + first, end - first, sizeof *l->order, by_place);
        plan->files[file].first_extent = (uint32_t)plan->extent_count;
        for (size_t i = first; i < end; i++)
            add_extent(l, l->order[i], file);
        st = name_file(l, file);
        if (!st)
            st = place_file(l, &plan->files[file]);
        first = end;
    }
    return st;
}

static enum tp_status note_metadata(struct layout *l)
{
    const struct tp_metadata *m = &l->plan->source->metadata;
    char key[TP_NAME_TEXT], file[TP_NAME_TEXT], number[TP_COUNT_TEXT], more[64] = "";
    bool ok = true;
    if (m->conflict_count > 0) {
        const struct tp_metadata_item *item = &m->items[m->conflict_item];
        if (m->conflict_count > 1)
            snprintf(more, sizeof more, " (and %s more)", tp_describe_count(number, m->conflict_count - 1));
        ok = tp_list_add(&l->plan->notes,
                         "the files' " METADATA_KEY " disagree: '%s' has another value in %s than before%s; "
                         "the first is kept",
                         tp_describe_name(key, item->key, item->key_len),
                         tp_describe_name(file, m->conflict_file, strlen(m->conflict_file)), more);
    }
    if (ok && m->dropped_count > 0)
        ok = tp_list_add(&l->plan->notes, "%s of the values in " METADATA_KEY " left out: more than 1 MiB is not kept",
                         tp_describe_count(number, m->dropped_count));
    return ok ? TP_OK : tp_fail_nomem(l->err);
}

static enum tp_status allocate_tables(struct layout *l)
{
    struct tp_plan *plan = l->plan;
    plan->extents = malloc((plan->array_count + 1) * sizeof *plan->extents);
    plan->leaves = malloc((plan->array_count + 1) * sizeof(struct leaf));
    plan->leaf_count = plan->array_count;
    plan->files = calloc(plan->file_count, sizeof *plan->files);
    l->order = malloc((plan->array_count + 1) * sizeof *l->order);
    return plan->extents && plan->leaves && plan->files && l->order ? TP_OK : tp_fail_nomem(l->err);
}

static enum tp_status layout(struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err)
{
    struct layout l = {.plan = plan, .options = options, .err = err};
    l.limit = options->shard_size_bytes ? options->shard_size_bytes : TP_SHARD_SIZE_DEFAULT;
    l.items = malloc((plan->array_count + 1) * sizeof *l.items);
    enum tp_status st = l.items ? assign_files(&l) : tp_fail_nomem(err);
    if (!st)
        st = allocate_tables(&l);
    if (!st)
        st = place_arrays(&l);
    if (!st)
        st = note_metadata(&l);
    if (!st && plan->file_count > 1 && !tp_plan_add_small(plan, INDEX_NAME, 0, 0, false))
        st = tp_fail_nomem(err);
    free(l.order);
    free(l.items);
    return st;
}

/* ---- model.safetensors.index.json ---- */

static void put_weight_map(const struct tp_plan *plan, const struct tp_array *const *sorted, struct tp_json_writer *w)
{
    tp_json_begin_object(w);
    for (size_t i = 0; i < plan->array_count; i++) {
        char name[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(name, sorted[i]->path, sorted[i]->path_len, '.');
        tp_json_space(w, "\n    ");
        tp_json_key_len(w, name, sorted[i]->path_len);
        tp_json_space(w, " ");
        tp_json_cstring(w, plan->files[plan->extents[sorted[i]->first_extent].file].name);
    }
    tp_json_space(w, "\n  ");
    tp_json_end_object(w);
}

/* The blanks are those of Python's json with indent=2, with which transformers writes it. */
static void put_index(const struct tp_plan *plan, const struct tp_array *const *sorted, struct tp_json_writer *w)
{
    tp_json_begin_object(w);
    tp_json_space(w, "\n  ");
    tp_json_key(w, "metadata");
    tp_json_space(w, " ");
    tp_json_begin_object(w);
    tp_json_space(w, "\n    ");
    tp_json_key(w, "total_size");
    tp_json_space(w, " ");
    tp_json_uint(w, plan->payload_bytes);
    tp_json_space(w, "\n  ");
    tp_json_end_object(w);
    tp_json_space(w, "\n  ");
    tp_json_key(w, "weight_map");
    tp_json_space(w, " ");
    put_weight_map(plan, sorted, w);
    tp_json_newline(w);
    tp_json_end_object(w);
    tp_json_newline(w);
}

static enum tp_status write_index(const struct tp_plan *plan, const struct tp_small_file *file,
                                  const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                  struct tp_error *err)
{
    (void)file, (void)facts;
    const struct tp_array **sorted = malloc((plan->array_count + 1) * sizeof *sorted);
    if (!sorted)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < plan->array_count; i++)
        sorted[i] = &plan->arrays[i];
    qsort(sorted, plan->array_count, sizeof *sorted, by_name);
    struct tp_json_writer w;
    tp_json_writer_init(&w, write, user, err);
    put_index(plan, sorted, &w);
    free(sorted);
    return tp_json_writer_finish(&w);
}

const struct tp_format tp_format_safetensors = {
    .name = "safetensors",
    .traits = {.flat_names = true, .packed_small_floats = true},
    .attributes = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    .layout = layout,
    .frame = frame,
    .write_small = write_index,
};
