/* SPDX-License-Identifier: MIT */
/* Walking a tree that somebody else wrote. References in a flatbuffer only lead forwards, and each is followed from a
 * place behind its table's begin, so there are no cycles. But several may lead to one node, which would make a small
 * file an endless tree: there may be as many nodes as their references would fill the file with, as in every tree of
 * JAX. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/endian.h"
#include "base/utf8.h"
#include "codec/json.h"
#include "codec/treedef.h"
#include "tensorport/checkpoint.h"

enum { SLOT_KIND, SLOT_CHILDREN, SLOT_NAMES, SLOT_CUSTOM_NAME, SLOT_AUXDATA };

struct span {
    const uint8_t *bytes;
    size_t len;
};

struct key {
    const char *text;
    uint32_t len, child;
};

/* A node whose children are being visited. */
struct frame {
    size_t children; /* of the first reference */
    uint32_t count, next;
    uint32_t name_len; /* of the node itself */
    struct key *keys;  /* in the order of the visit; NULL: numbers */
    char *text;        /* that keys stand in, where they are not in the buffer */
};

struct walker {
    const uint8_t *bytes;
    size_t len;
    const struct tp_treedef_visitor *visitor;
    struct tp_error *err;
    uint64_t nodes_left, text_left; /* of keys: bytes that are looked at, again where they are shared */
    struct frame *frames;
    size_t depth, capacity;
    char name[TP_NAME_MAX_BYTES + 1];
    size_t name_len;
};

static enum tp_status bad(struct walker *w, const char *what, size_t at)
{
    return tp_fail(w->err, TP_ERR_FORMAT, "the tree's structure: %s at byte %zu", what, at);
}

/* ---- the flatbuffer ---- */

static bool has(const struct walker *w, size_t at, size_t len)
{
    return at <= w->len && len <= w->len - at;
}

/* What the reference at `at`, which is in the buffer, leads to. */
static enum tp_status follow(struct walker *w, size_t at, size_t *target)
{
    uint64_t to = at + tp_load_le(w->bytes + at, 4);
    *target = (size_t)to;
    return has(w, (size_t)to, 4) ? TP_OK : bad(w, "a reference leads out of it", at);
}

/* The elements of the vector at `at`. */
static enum tp_status read_vector(struct walker *w, size_t at, unsigned item_bytes, size_t *first, uint32_t *count)
{
    *count = (uint32_t)tp_load_le(w->bytes + at, 4);
    *first = at + 4;
    return (w->len - *first) / item_bytes >= *count ? TP_OK : bad(w, "a vector is longer than the rest", at);
}

/* Where a table's field is; 0: it has none. */
static enum tp_status find_field(struct walker *w, size_t table, unsigned slot, unsigned bytes, size_t *field)
{
    int64_t vtable = (int64_t)table - (int32_t)(uint32_t)tp_load_le(w->bytes + table, 4);
    *field = 0;
    if (vtable < 0 || !has(w, (size_t)vtable, 4))
        return bad(w, "a table's layout is not in it", table);
    const uint8_t *layout = w->bytes + vtable;
    size_t layout_bytes = (size_t)tp_load_le(layout, 2), table_bytes = (size_t)tp_load_le(layout + 2, 2);
    if (layout_bytes < 4 || layout_bytes % 2 != 0 || !has(w, (size_t)vtable, layout_bytes) ||
        !has(w, table, table_bytes))
        return bad(w, "a table's layout does not fit", table);
    size_t place = 4 + 2 * (size_t)slot;
    size_t offset = place < layout_bytes ? (size_t)tp_load_le(layout + place, 2) : 0;
    if (offset == 0)
        return TP_OK;
    if (offset < 4 || offset + bytes > table_bytes)
        return bad(w, "a field is not within its table", table);
    *field = table + offset;
    return TP_OK;
}

/* The vector that a field refers to; no field: *is_there is false. */
static enum tp_status read_field(struct walker *w, size_t table, unsigned slot, unsigned item_bytes, bool *is_there,
                                 size_t *first, uint32_t *count)
{
    size_t field = 0, vector = 0;
    enum tp_status st = find_field(w, table, slot, 4, &field);
    *is_there = !st && field != 0;
    *first = 0;
    *count = 0;
    if (st || field == 0)
        return st;
    st = follow(w, field, &vector);
    return st ? st : read_vector(w, vector, item_bytes, first, count);
}

static enum tp_status read_kind(struct walker *w, size_t table, unsigned *kind)
{
    size_t field = 0;
    enum tp_status st = find_field(w, table, SLOT_KIND, 1, &field);
    *kind = field ? w->bytes[field] : 0;
    return st || *kind <= TP_TREEDEF_CUSTOM ? st : bad(w, "an unknown kind of node", table);
}

/* ---- keys ---- */

static enum tp_status spend(struct walker *w, size_t text_len)
{
    if (text_len > w->text_left)
        return tp_fail(w->err, TP_ERR_LIMIT, "the tree has more keys than fit into its %zu bytes", w->len);
    w->text_left -= text_len;
    return TP_OK;
}

static bool is_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c = 0;
        size_t used = tp_utf8_decode(text + i, len - i, &c);
        if (used == 0 || c == 0)
            return false;
        i += used;
    }
    return true;
}

static int by_text(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Keys may be recorded in any order; JAX visits them sorted. */
static enum tp_status read_dict_keys(struct walker *w, struct frame *f, size_t table)
{
    bool is_there;
    size_t names;
    uint32_t count;
    enum tp_status st = read_field(w, table, SLOT_NAMES, 4, &is_there, &names, &count);
    if (!st && count != f->count)
        st = bad(w, "a dict has another number of keys than of children", table);
    if (st || count == 0)
        return st;
    f->keys = malloc(count * sizeof *f->keys);
    if (!f->keys)
        return tp_fail_nomem(w->err);
    for (uint32_t i = 0; i < count && !st; i++) {
        size_t string = 0, text = 0;
        uint32_t len = 0;
        st = follow(w, names + 4 * (size_t)i, &string);
        if (!st)
            st = read_vector(w, string, 1, &text, &len);
        if (!st)
            st = spend(w, len);
        f->keys[i] = (struct key){(const char *)w->bytes + text, len, i};
        if (!st && !is_text(f->keys[i].text, len))
            st = bad(w, "a key that is no UTF-8 or has a NUL character", string);
    }
    if (st)
        return st;
    qsort(f->keys, count, sizeof *f->keys, by_text);
    for (uint32_t i = 1; i < count; i++)
        if (by_text(&f->keys[i - 1], &f->keys[i]) == 0)
            return bad(w, "a dict has a key twice", table);
    return TP_OK;
}

/* The strings of a JSON array to f->keys. TP_ERR_FORMAT: it is none, or there are not as many as children. */
static enum tp_status read_key_array(struct frame *f, struct tp_json *json, struct tp_error *err)
{
    struct tp_json_token token;
    size_t used = 0;
    uint32_t count = 0;
    enum tp_status st = tp_json_expect(json, TP_JSON_ARRAY_BEGIN, "keys", &token, err);
    while (!st && !(st = tp_json_next(json, &token, err)) && token.type != TP_JSON_ARRAY_END) {
        if (token.type != TP_JSON_STRING || token.has_nul || count == f->count)
            return tp_fail(err, TP_ERR_FORMAT, "not the keys of %" PRIu32 " children", f->count);
        memcpy(f->text + used, token.text, token.len);
        f->keys[count] = (struct key){f->text + used, (uint32_t)token.len, count};
        used += token.len;
        count++;
    }
    if (!st)
        st = tp_json_next(json, &token, err); /* the end */
    return st || count == f->count ? st : tp_fail(err, TP_ERR_FORMAT, "not the keys of %" PRIu32 " children", f->count);
}

static enum tp_status read_json_keys(struct walker *w, struct frame *f, struct span json_text)
{
    struct tp_json *json = NULL;
    f->keys = malloc(f->count * sizeof *f->keys + 1);
    f->text = malloc(json_text.len + 1);
    if (!f->keys || !f->text)
        return tp_fail_nomem(w->err);
    enum tp_status st = spend(w, json_text.len);
    if (!st)
        st = tp_json_open_text(&json, (const char *)json_text.bytes, json_text.len, "list of keys", TP_NAME_MAX_BYTES,
                               w->err);
    if (!st)
        st = read_key_array(f, json, w->err);
    tp_json_close(json);
    return st;
}

/* An OrderedDict's data are its keys, in order; of other types a list of as many texts is taken for one (named tuples),
 * else the children have numbers. */
static enum tp_status read_custom_keys(struct walker *w, struct frame *f, size_t table)
{
    bool has_name, has_data;
    size_t name, data;
    uint32_t name_len, data_len;
    enum tp_status st = read_field(w, table, SLOT_CUSTOM_NAME, 1, &has_name, &name, &name_len);
    if (!st)
        st = read_field(w, table, SLOT_AUXDATA, 1, &has_data, &data, &data_len);
    if (!st && (!has_name || !has_data))
        st = bad(w, "a custom node without a name or data", table);
    if (st)
        return st;
    bool is_ordered =
        name_len == strlen(TP_TREEDEF_ORDERED_DICT) && memcmp(w->bytes + name, TP_TREEDEF_ORDERED_DICT, name_len) == 0;
    if (!is_ordered && (data_len == 0 || w->bytes[data] != '['))
        return TP_OK;
    st = read_json_keys(w, f, (struct span){w->bytes + data, data_len});
    if (is_ordered || !st || st != TP_ERR_FORMAT)
        return st;
    free(f->keys);
    f->keys = NULL;
    return TP_OK;
}

/* ---- the walk ---- */

static enum tp_status too_long(struct walker *w)
{
    return tp_fail(w->err, TP_ERR_LIMIT, "a path in the tree is longer than %u bytes", TP_NAME_MAX_BYTES);
}

static enum tp_status add_key(struct walker *w, const char *key, size_t len)
{
    size_t dot = w->depth > 1; /* frames: the first one's children have no key before theirs */
    if (len + dot > TP_NAME_MAX_BYTES - w->name_len)
        return too_long(w);
    if (dot)
        w->name[w->name_len++] = '.';
    memcpy(w->name + w->name_len, key, len);
    w->name_len += len;
    return TP_OK;
}

/* The name of the frame's next child. */
static enum tp_status name_child(struct walker *w, const struct frame *f)
{
    char digits[12];
    size_t used = sizeof digits;
    w->name_len = f->name_len;
    if (f->keys)
        return add_key(w, f->keys[f->next].text, f->keys[f->next].len);
    uint32_t number = f->next;
    do
        digits[--used] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return add_key(w, digits + used, sizeof digits - used);
}

static enum tp_status push(struct walker *w, unsigned kind, size_t table)
{
    bool is_there;
    struct frame f = {.name_len = (uint32_t)w->name_len};
    if (w->depth == TP_TREEDEF_DEPTH_MAX)
        return tp_fail(w->err, TP_ERR_LIMIT, "the tree is deeper than %u nodes", TP_TREEDEF_DEPTH_MAX);
    enum tp_status st = read_field(w, table, SLOT_CHILDREN, 4, &is_there, &f.children, &f.count);
    if (!st && f.count > w->nodes_left)
        st = tp_fail(w->err, TP_ERR_LIMIT, "the tree has more nodes than fit into its %zu bytes", w->len);
    if (st)
        return st;
    w->nodes_left -= f.count;
    if (!tp_array_grow(&w->frames, &w->capacity, w->depth + 1, sizeof *w->frames))
        return tp_fail_nomem(w->err);
    w->frames[w->depth++] = f;
    struct frame *pushed = &w->frames[w->depth - 1];
    if (kind == TP_TREEDEF_DICT)
        return read_dict_keys(w, pushed, table);
    return kind == TP_TREEDEF_CUSTOM ? read_custom_keys(w, pushed, table) : TP_OK;
}

static void pop(struct walker *w)
{
    struct frame *f = &w->frames[--w->depth];
    free(f->keys);
    free(f->text);
}

static enum tp_status enter(struct walker *w, size_t table)
{
    unsigned kind = 0;
    enum tp_status st = read_kind(w, table, &kind);
    if (st || kind == TP_TREEDEF_NONE)
        return st;
    w->name[w->name_len] = '\0';
    return kind == TP_TREEDEF_LEAF ? w->visitor->leaf(w->visitor->user, w->name, w->name_len, w->err)
                                   : push(w, kind, table);
}

static enum tp_status step(struct walker *w)
{
    struct frame *f = &w->frames[w->depth - 1];
    size_t table = 0;
    if (f->next == f->count) {
        pop(w);
        return TP_OK;
    }
    enum tp_status st = follow(w, f->children + 4 * (size_t)(f->keys ? f->keys[f->next].child : f->next), &table);
    if (!st)
        st = name_child(w, f);
    f->next++;
    return st ? st : enter(w, table);
}

enum tp_status tp_treedef_read(const uint8_t *bytes, size_t len, const struct tp_treedef_visitor *visitor,
                               struct tp_error *err)
{
    struct walker *w = calloc(1, sizeof *w);
    size_t root = 0;
    if (!w)
        return tp_fail_nomem(err);
    *w = (struct walker){
        .bytes = bytes, .len = len, .visitor = visitor, .err = err, .nodes_left = len / 4, .text_left = len};
    enum tp_status st = has(w, 0, 4) ? follow(w, 0, &root) : bad(w, "nothing", 0);
    if (!st)
        st = enter(w, root);
    while (!st && w->depth > 0)
        st = step(w);
    while (w->depth > 0)
        pop(w);
    free(w->frames);
    free(w);
    return st;
}
