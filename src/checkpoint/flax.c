/* SPDX-License-Identifier: MIT */
#include "checkpoint/flax.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "codec/msgpack.h"
#include "tensorport/text.h"

#define WINDOW_BYTES ((size_t)64 << 10)
#define DEPTH_MAX 1024u /* what msgpack's own readers take */
#define NO_PART UINT32_MAX

static const char chunked_key[] = "__msgpack_chunked_array__";
static const char parts_key[] = "__tensorport_parts__";

/* One value at the end of a path in one file. */
struct leaf {
    const char *name; /* keys joined by '.' */
    const uint64_t *shape;
    const struct tp_extent *extents; /* elements counted from the leaf's own first */
    uint64_t elem_count;
    uint32_t extent_count;
    uint32_t part; /* NO_PART: a whole array */
    uint16_t name_len;
    uint8_t rank, dtype;
};

struct parser {
    struct tp_checkpoint *ck;
    struct tp_error *err;
    struct tp_hasher *hasher; /* of the framing */
    /* the window: bytes [at, at + have) of the file, of which `used` are consumed */
    uint8_t *window;
    size_t have, used;
    uint64_t at, size;
    uint32_t file;
    /* results */
    struct leaf *leaves;
    size_t leaf_count, leaf_capacity;
    uint64_t skipped_scalars;
    /* where we are */
    char name[TP_NAME_MAX_BYTES + 1];
    size_t name_len;
};

/* ---- bytes ---- */

static uint64_t position(const struct parser *p)
{
    return p->at + p->used;
}

static enum tp_status bad(struct parser *p, const char *what)
{
    char shown[256];
    tp_text_printable(shown, sizeof shown, p->name, p->name_len);
    tp_fail(p->err, TP_ERR_FORMAT, "%s at byte %" PRIu64, what, position(p));
    return p->name_len ? tp_err_tensor(p->err, TP_ERR_FORMAT, p->name, p->name_len) : TP_ERR_FORMAT;
}

/* Have `len` bytes (at most a window) in front of us, or fewer where the file ends. */
static enum tp_status fill(struct parser *p, size_t len)
{
    if (p->have - p->used >= len)
        return TP_OK;
    p->at += p->used;
    p->used = 0;
    uint64_t rest = p->size - p->at;
    p->have = rest < WINDOW_BYTES ? (size_t)rest : WINDOW_BYTES;
    return tp_checkpoint_read_at(p->ck, p->file, p->window, p->have, p->at, p->err);
}

static void consume(struct parser *p, size_t len)
{
    tp_hasher_update(p->hasher, p->window + p->used, len);
    p->used += len;
}

static enum tp_status take(struct parser *p, size_t len, const uint8_t **bytes)
{
    enum tp_status st = fill(p, len);
    if (st)
        return st;
    if (p->have - p->used < len)
        return bad(p, "the file is truncated: it ends inside a value");
    *bytes = p->window + p->used;
    consume(p, len);
    return TP_OK;
}

static enum tp_status next_item(struct parser *p, struct tp_mp_item *item)
{
    enum tp_status st = fill(p, TP_MP_HEADER_MAX);
    if (st)
        return st;
    if (!tp_mp_decode(item, p->window + p->used, p->have - p->used))
        return bad(p, "the file is truncated: it ends inside a header");
    if (item->type == TP_MP_INVALID)
        return bad(p, "not MessagePack");
    consume(p, item->header_len);
    return TP_OK;
}

/* Payload that is not framing: never read here. */
static enum tp_status skip_payload(struct parser *p, uint64_t len)
{
    if (len > p->size - position(p))
        return bad(p, "the file is truncated: it ends inside an array");
    uint64_t buffered = p->have - p->used;
    if (len <= buffered) {
        p->used += (size_t)len;
    } else {
        p->at = position(p) + len;
        p->used = p->have = 0;
    }
    return TP_OK;
}

static enum tp_status skip_framing(struct parser *p, uint64_t len)
{
    while (len > 0) {
        const uint8_t *bytes;
        size_t n = len < WINDOW_BYTES ? (size_t)len : WINDOW_BYTES;
        enum tp_status st = take(p, n, &bytes);
        if (st)
            return st;
        len -= n;
    }
    return TP_OK;
}

static enum tp_status expect_item(struct parser *p, enum tp_mp_type type, const char *what, struct tp_mp_item *item)
{
    enum tp_status st = next_item(p, item);
    return st ? st : item->type == type ? TP_OK : bad(p, what);
}

/* A key (or a dtype) as text; valid until the next read. */
static enum tp_status take_text(struct parser *p, size_t max, const char **text, size_t *len)
{
    struct tp_mp_item item;
    enum tp_status st = next_item(p, &item);
    if (st)
        return st;
    if (item.type != TP_MP_STR && item.type != TP_MP_BIN)
        return bad(p, "a key that is not a string");
    if (item.value > max)
        return bad(p, "a key that is too long");
    const uint8_t *bytes;
    st = take(p, (size_t)item.value, &bytes);
    *text = (const char *)bytes;
    *len = (size_t)item.value;
    return st;
}

static enum tp_status expect_key(struct parser *p, const char *key)
{
    const char *text;
    size_t len;
    enum tp_status st = take_text(p, TP_NAME_MAX_BYTES, &text, &len);
    if (st)
        return st;
    return len == strlen(key) && memcmp(text, key, len) == 0
               ? TP_OK
               : bad(p, "keys of a chunked array or of parts in an unknown order");
}

static enum tp_status take_number_key(struct parser *p, uint32_t *number)
{
    const char *text;
    size_t len;
    uint64_t value = 0;
    enum tp_status st = take_text(p, 10, &text, &len);
    if (st)
        return st;
    bool ok = len > 0 && (text[0] != '0' || len == 1);
    for (size_t i = 0; ok && i < len; i++) {
        ok = text[i] >= '0' && text[i] <= '9';
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *number = (uint32_t)value;
    return ok && value < NO_PART ? TP_OK : bad(p, "a part or chunk whose key is not its number");
}

/* ---- arrays ---- */

struct ndarray {
    uint64_t shape[TP_RANK_MAX];
    unsigned rank;
    uint8_t dtype;
    uint64_t elem_count, size_bytes;
    uint64_t offset_bytes;
};

static enum tp_status take_shape(struct parser *p, struct ndarray *a)
{
    struct tp_mp_item item;
    enum tp_status st = expect_item(p, TP_MP_ARRAY, "an array without a shape", &item);
    if (!st && item.value > TP_RANK_MAX)
        st = bad(p, "more than 64 dimensions");
    a->rank = st ? 0 : (unsigned)item.value;
    for (unsigned i = 0; i < a->rank && !st; i++) {
        st = expect_item(p, TP_MP_UINT, "a dimension that is not a number", &item);
        a->shape[i] = item.value;
    }
    return st;
}

static enum tp_status take_dtype(struct parser *p, struct ndarray *a)
{
    const char *text;
    size_t len;
    enum tp_status st = take_text(p, 64, &text, &len);
    if (st)
        return st;
    enum tp_dtype dtype = tp_dtype_from_numpy_name(text, len);
    if (dtype == TP_F4)
        dtype = TP_F4_UNPACKED; /* NumPy holds it one a byte */
    if (dtype == TP_DTYPE_NONE || tp_dtype_bits(dtype) % 8 != 0) {
        char name[128], what[192];
        snprintf(what, sizeof what, "dtype '%s' is not one that TensorPort knows,",
                 tp_text_printable(name, sizeof name, text, len));
        return bad(p, what);
    }
    a->dtype = (uint8_t)dtype;
    return TP_OK;
}

/* The payload of an extension: [shape, dtype, data], of which the data is stepped over. */
static enum tp_status take_ndarray(struct parser *p, const struct tp_mp_item *ext, struct ndarray *a)
{
    uint64_t begin = position(p);
    struct tp_mp_item item;
    *a = (struct ndarray){.rank = 0};
    if (ext->type != TP_MP_EXT || (ext->ext_code != TP_MP_EXT_NDARRAY && ext->ext_code != TP_MP_EXT_SCALAR))
        return bad(p, "an array was expected");
    enum tp_status st = expect_item(p, TP_MP_ARRAY, "an array that is not [shape, dtype, data]", &item);
    if (!st && item.value != 3)
        st = bad(p, "an array that is not [shape, dtype, data]");
    if (!st)
        st = take_shape(p, a);
    if (!st)
        st = take_dtype(p, a);
    if (!st)
        st = expect_item(p, TP_MP_BIN, "array data that is not binary", &item);
    if (st)
        return st;
    if (!tp_shape_measure(a->shape, a->rank, (enum tp_dtype)a->dtype, &a->elem_count, &a->size_bytes) ||
        a->size_bytes != item.value)
        return bad(p, "an array whose shape and length disagree");
    a->offset_bytes = position(p);
    st = skip_payload(p, a->size_bytes);
    if (!st && position(p) - begin != ext->value)
        st = bad(p, "an array whose extension has another length");
    return st;
}

static enum tp_status add_leaf(struct parser *p, const struct ndarray *a, uint32_t part,
                               const struct tp_extent *extents, uint32_t extent_count)
{
    struct tp_arena *arena = &p->ck->arena;
    if (!tp_array_grow(&p->leaves, &p->leaf_capacity, p->leaf_count + 1, sizeof *p->leaves))
        return tp_fail_nomem(p->err);
    struct leaf *leaf = &p->leaves[p->leaf_count];
    const char *name = tp_arena_strndup(arena, p->name, p->name_len);
    uint64_t *shape = tp_arena_alloc(arena, a->rank * sizeof *shape);
    struct tp_extent *kept = tp_arena_alloc(arena, extent_count * sizeof *kept);
    if (!name || !shape || !kept)
        return tp_fail_nomem(p->err);
    memcpy(shape, a->shape, a->rank * sizeof *shape);
    memcpy(kept, extents, extent_count * sizeof *kept);
    *leaf = (struct leaf){
        name, shape, kept, a->elem_count, extent_count, part, (uint16_t)p->name_len, (uint8_t)a->rank, a->dtype};
    p->leaf_count++;
    return TP_OK;
}

static enum tp_status take_plain(struct parser *p, const struct tp_mp_item *ext, uint32_t part)
{
    struct ndarray a;
    enum tp_status st = take_ndarray(p, ext, &a);
    struct tp_extent e = {0, a.elem_count, a.offset_bytes, a.size_bytes, p->file};
    return st ? st : add_leaf(p, &a, part, &e, 1);
}

/* *extents is malloc'd, and grows as chunks are seen: their number in front of them is only a claim. */
static enum tp_status take_chunks(struct parser *p, struct ndarray *whole, uint64_t count, struct tp_extent **extents)
{
    uint64_t next = 0;
    size_t capacity = 0;
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < count && !st; i++) {
        struct tp_mp_item item;
        struct ndarray chunk;
        uint32_t number;
        st = take_number_key(p, &number);
        if (!st && number != i)
            st = bad(p, "chunks out of order");
        if (!st)
            st = next_item(p, &item);
        if (!st)
            st = take_ndarray(p, &item, &chunk);
        if (!st && i > 0 && chunk.dtype != whole->dtype)
            st = bad(p, "chunks of different dtypes");
        if (!st && !tp_array_grow(extents, &capacity, (size_t)i + 1, sizeof **extents))
            st = tp_fail_nomem(p->err);
        if (st)
            break;
        whole->dtype = chunk.dtype;
        (*extents)[i] = (struct tp_extent){next, chunk.elem_count, chunk.offset_bytes, chunk.size_bytes, p->file};
        next += chunk.elem_count;
    }
    if (!st && (!tp_shape_measure(whole->shape, whole->rank, (enum tp_dtype)whole->dtype, &whole->elem_count,
                                  &whole->size_bytes) ||
                whole->elem_count != next))
        st = bad(p, "a chunked array whose shape and chunks disagree");
    return st;
}

/* {"__msgpack_chunked_array__": true, "shape": {"0": ..}, "chunks": {"0": ndarray, ..}}, its first key already read. */
static enum tp_status take_chunked(struct parser *p, uint64_t entries, uint32_t part)
{
    struct tp_mp_item item;
    struct ndarray whole = {.rank = 0};
    enum tp_status st = entries == 3 ? expect_item(p, TP_MP_BOOL, "a chunked array without its mark", &item)
                                     : bad(p, "a chunked array of unknown form");
    if (!st)
        st = expect_key(p, "shape");
    if (!st)
        st = expect_item(p, TP_MP_MAP, "a chunked array without a shape", &item);
    if (!st && item.value > TP_RANK_MAX)
        st = bad(p, "more than 64 dimensions");
    whole.rank = st ? 0 : (unsigned)item.value;
    for (unsigned i = 0; i < whole.rank && !st; i++) {
        uint32_t number;
        st = take_number_key(p, &number);
        if (!st && number != i)
            st = bad(p, "dimensions out of order");
        if (!st)
            st = expect_item(p, TP_MP_UINT, "a dimension that is not a number", &item);
        whole.shape[i] = item.value;
    }
    if (!st)
        st = expect_key(p, "chunks");
    if (!st)
        st = expect_item(p, TP_MP_MAP, "a chunked array without chunks", &item);
    if (!st && (item.value == 0 || item.value > (p->size - position(p)) / 8))
        st = bad(p, "an impossible number of chunks");
    if (st)
        return st;
    struct tp_extent *extents = NULL;
    st = take_chunks(p, &whole, item.value, &extents);
    if (!st)
        st = add_leaf(p, &whole, part, extents, (uint32_t)item.value);
    free(extents);
    return st;
}

/* {"0": ndarray or chunked array, ...} */
static enum tp_status take_parts(struct parser *p, uint64_t entries)
{
    struct tp_mp_item item;
    enum tp_status st =
        entries == 1 ? expect_item(p, TP_MP_MAP, "parts that are not a map", &item) : bad(p, "parts beside other keys");
    for (uint64_t i = 0, count = st ? 0 : item.value; i < count && !st; i++) {
        uint32_t part;
        st = take_number_key(p, &part);
        if (!st)
            st = next_item(p, &item);
        if (st)
            break;
        if (item.type == TP_MP_MAP) {
            st = expect_key(p, chunked_key);
            if (!st)
                st = take_chunked(p, item.value, part);
        } else {
            st = take_plain(p, &item, part);
        }
    }
    return st;
}

/* ---- the tree ---- */

/* A value that is no array (a step counter, a string): nothing to convert. */
static enum tp_status skip_scalar(struct parser *p, const struct tp_mp_item *item)
{
    p->skipped_scalars++;
    if (item->type == TP_MP_ARRAY)
        return bad(p, "a list, which Flax's state dicts never hold,");
    bool has_payload = item->type == TP_MP_STR || item->type == TP_MP_BIN || item->type == TP_MP_EXT;
    return has_payload ? skip_framing(p, item->value) : TP_OK;
}

static enum tp_status push_key(struct parser *p, bool root, const char *key, size_t len)
{
    size_t dot = root ? 0 : 1;
    if (p->name_len + dot + len > TP_NAME_MAX_BYTES)
        return bad(p, "a path of more than 4096 bytes");
    if (memchr(key, '\0', len))
        return bad(p, "a NUL in a key");
    if (dot)
        p->name[p->name_len++] = '.';
    memcpy(p->name + p->name_len, key, len);
    p->name_len += len;
    return TP_OK;
}

struct level {
    uint64_t count;  /* entries of this map */
    uint64_t left;   /* ... still to come */
    size_t name_len; /* of the path above them */
};

/* One value: an array is taken, a map opens a level. The first key tells what kind of map it is. */
static enum tp_status take_value(struct parser *p, struct level *levels, size_t *depth)
{
    struct tp_mp_item item;
    enum tp_status st = next_item(p, &item);
    if (st)
        return st;
    if (item.type == TP_MP_EXT && (item.ext_code == TP_MP_EXT_NDARRAY || item.ext_code == TP_MP_EXT_SCALAR))
        return take_plain(p, &item, NO_PART);
    if (item.type != TP_MP_MAP)
        return *depth == 0 ? bad(p, "no map of arrays: this is not a Flax checkpoint") : skip_scalar(p, &item);
    if (*depth == DEPTH_MAX)
        return bad(p, "nested deeper than 1024 levels");
    levels[(*depth)++] = (struct level){item.value, item.value, p->name_len};
    return TP_OK;
}

/* The next key of the innermost map: a mark of ours or Flax's makes the map an array. */
static enum tp_status take_entry(struct parser *p, struct level *levels, size_t *depth)
{
    struct level *level = &levels[*depth - 1];
    const char *key;
    size_t len;
    p->name_len = level->name_len;
    enum tp_status st = take_text(p, TP_NAME_MAX_BYTES, &key, &len);
    if (st)
        return st;
    bool chunked = len == sizeof chunked_key - 1 && memcmp(key, chunked_key, len) == 0;
    bool parts = len == sizeof parts_key - 1 && memcmp(key, parts_key, len) == 0;
    if (chunked || parts) {
        uint64_t entries = level->count;
        if (level->left != entries)
            return bad(p, "a mark of chunks or parts behind other keys");
        (*depth)--;
        return chunked ? take_chunked(p, entries, NO_PART) : take_parts(p, entries);
    }
    level->left--;
    st = push_key(p, *depth == 1, key, len);
    return st ? st : take_value(p, levels, depth);
}

static enum tp_status parse_file(struct parser *p)
{
    struct level *levels = malloc(DEPTH_MAX * sizeof *levels);
    size_t depth = 0;
    p->name_len = 0;
    enum tp_status st = levels ? take_value(p, levels, &depth) : tp_fail_nomem(p->err);
    while (!st && depth > 0) {
        if (levels[depth - 1].left == 0)
            depth--;
        else
            st = take_entry(p, levels, &depth);
    }
    p->name_len = 0;
    if (!st && position(p) != p->size)
        st = bad(p, "bytes behind the last value");
    free(levels);
    return st;
}

/* ---- from leaves to tensors ---- */

static int compare_leaves(const void *a, const void *b)
{
    const struct leaf *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->part > y->part) - (x->part < y->part);
}

static enum tp_status problem(const struct tp_flax_input *in, const char *file, struct tp_error *err)
{
    struct tp_flax_problems *list = in->problems;
    bool is_finding = err->code == TP_ERR_FORMAT || err->code == TP_ERR_UNSUPPORTED || err->code == TP_ERR_LIMIT;
    if (!list || !is_finding)
        return err->code;
    size_t len = strlen(err->message) + strlen(err->tensor) + 16;
    char *copy = strdup(file), *message = malloc(len);
    if (!copy || !message || !tp_array_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items)) {
        free(copy);
        free(message);
        return tp_fail_nomem(err);
    }
    if (err->tensor[0])
        snprintf(message, len, "array '%s': %s", err->tensor, err->message);
    else
        snprintf(message, len, "%s", err->message);
    list->items[list->count++] = (struct tp_flax_problem){copy, message};
    return TP_OK;
}

void tp_flax_problems_release(struct tp_flax_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].file);
        free(problems->items[i].message);
    }
    free(problems->items);
    *problems = (struct tp_flax_problems){.count = 0};
}

/* Parts 0 to n - 1, of one dtype and row shape: the array they make. Flat parts stay flat, their shape is the
 * manifest's. */
static const char *join_parts(const struct leaf *parts, size_t n, uint64_t shape[TP_RANK_MAX],
                              struct tp_extent *extents)
{
    uint64_t first = 0, rows = 0;
    size_t e = 0;
    for (size_t i = 0; i < n; i++) {
        const struct leaf *part = &parts[i];
        if (part->part != i)
            return part->part == NO_PART || (i > 0 && part->part == parts[i - 1].part) ? "occurs twice"
                                                                                       : "has a part missing";
        bool same = part->dtype == parts[0].dtype && part->rank == parts[0].rank && part->rank > 0;
        for (unsigned d = 1; same && d < part->rank; d++)
            same = part->shape[d] == parts[0].shape[d];
        if (!same)
            return "has parts that do not fit together";
        for (uint32_t k = 0; k < part->extent_count; k++, e++) {
            extents[e] = part->extents[k];
            extents[e].first_elem += first;
        }
        if (TP_ADD_OVERFLOW(first, part->elem_count, &first) || TP_ADD_OVERFLOW(rows, part->shape[0], &rows))
            return "is too large";
    }
    memcpy(shape, parts[0].shape, parts[0].rank * sizeof *shape);
    shape[0] = rows;
    return NULL;
}

static enum tp_status add_joined(struct tp_checkpoint *ck, const struct leaf *leaves, size_t n, struct tp_error *err)
{
    size_t extent_count = 0;
    uint64_t shape[TP_RANK_MAX];
    for (size_t i = 0; i < n; i++)
        extent_count += leaves[i].extent_count;
    struct tp_extent *extents = malloc(extent_count * sizeof *extents + 1);
    if (!extents)
        return tp_fail_nomem(err);
    const char *wrong = n == 1 && leaves[0].part == NO_PART ? NULL : join_parts(leaves, n, shape, extents);
    struct tp_tensor_spec spec = {.name = leaves[0].name,
                                  .name_len = leaves[0].name_len,
                                  .name_is_kept = true,
                                  .dtype = (enum tp_dtype)leaves[0].dtype,
                                  .shape = shape,
                                  .rank = leaves[0].rank,
                                  .extents = extents,
                                  .extent_count = (uint32_t)extent_count};
    if (n == 1 && leaves[0].part == NO_PART) {
        spec.shape = leaves[0].shape;
        spec.extents = leaves[0].extents;
        spec.all_is_kept = true;
    }
    enum tp_status st = TP_OK;
    if (wrong)
        st = tp_err_tensor(err, tp_fail(err, TP_ERR_FORMAT, "%s", wrong), leaves[0].name, leaves[0].name_len);
    else
        st = tp_checkpoint_add_tensor(ck, &spec, err);
    free(extents);
    return st;
}

static enum tp_status add_tensors(struct parser *p, const struct tp_flax_input *in)
{
    enum tp_status st = TP_OK;
    if (p->leaf_count)
        qsort(p->leaves, p->leaf_count, sizeof *p->leaves, compare_leaves);
    for (size_t i = 0, end; i < p->leaf_count && !st; i = end) {
        for (end = i + 1; end < p->leaf_count && strcmp(p->leaves[end].name, p->leaves[i].name) == 0;)
            end++;
        st = add_joined(p->ck, &p->leaves[i], end - i, p->err);
        if (st)
            st = problem(in, p->ck->files[p->leaves[i].extents[0].file].name, p->err);
    }
    return st;
}

static enum tp_status read_file(struct parser *p, const struct tp_flax_input *in, size_t i)
{
    size_t leaves_before = p->leaf_count;
    if (in->file_of)
        in->file_of[i] = TP_FLAX_NO_FILE;
    enum tp_status st = tp_checkpoint_add_file(p->ck, in->names[i], &p->file, p->err);
    if (!st) {
        p->at = p->have = p->used = 0;
        p->size = p->ck->files[p->file].size_bytes;
        tp_hasher_reset(p->hasher);
        st = parse_file(p);
        if (st)
            p->leaf_count = leaves_before;
        else if (in->file_of)
            in->file_of[i] = p->file;
        if (in->framing)
            in->framing[i] = tp_hasher_digest(p->hasher);
        if (st)
            tp_err_path(p->err, st, tp_checkpoint_file_path(p->ck, p->file));
    }
    return st ? problem(in, in->names[i], p->err) : TP_OK;
}

enum tp_status tp_flax_read(struct tp_checkpoint *ck, const struct tp_flax_input *in, struct tp_error *err)
{
    struct tp_kernels kernels;
    struct tp_error own = {.code = TP_OK}; /* problems are read from it, so it must be there */
    struct parser *p = calloc(1, sizeof *p);
    if (!p)
        return tp_fail_nomem(err);
    tp_kernels_init(&kernels, NULL);
    p->ck = ck;
    p->err = &own;
    p->hasher = tp_hasher_new(&kernels);
    p->window = malloc(WINDOW_BYTES);
    enum tp_status st = p->hasher && p->window ? TP_OK : tp_fail_nomem(&own);
    for (size_t i = 0; i < in->name_count && !st; i++)
        st = read_file(p, in, i);
    if (!st)
        st = add_tensors(p, in);
    if (!st && p->skipped_scalars)
        st = tp_checkpoint_note_add(ck, &own, "%" PRIu64 " values that are no arrays are left out", p->skipped_scalars);
    if (st && err)
        *err = own;
    tp_hasher_free(p->hasher);
    free(p->window);
    free(p->leaves);
    free(p);
    return st;
}

/* ---- as one of the readers ---- */

static bool recognise(const struct tp_place *place)
{
    if (!place->is_folder)
        return tp_name_ends(place->path, ".msgpack");
    bool msgpack = false, safetensors = false;
    for (size_t i = 0; i < place->names.count; i++) {
        msgpack |= tp_name_ends(place->names.items[i], ".msgpack");
        safetensors |= tp_name_ends(place->names.items[i], ".safetensors");
    }
    return msgpack && !safetensors;
}

static enum tp_status open_place(struct tp_checkpoint *ck, const struct tp_place *place,
                                 const struct tp_open_options *options, struct tp_error *err)
{
    (void)options;
    const char *base = strrchr(place->path, '/');
    const char *single = base ? base + 1 : place->path;
    const char **names = malloc((place->names.count + 1) * sizeof *names);
    if (!names)
        return tp_fail_nomem(err);
    struct tp_flax_input in = {.names = names};
    if (!place->is_folder)
        names[in.name_count++] = single;
    for (size_t i = 0; i < place->names.count; i++)
        if (tp_name_ends(place->names.items[i], ".msgpack"))
            names[in.name_count++] = place->names.items[i];
    enum tp_status st = tp_flax_read(ck, &in, err);
    free(names);
    return st;
}

const struct tp_reader tp_reader_flax = {.format = "flax-msgpack", .recognise = recognise, .open = open_place};
