/* SPDX-License-Identifier: MIT */
/* A FlatBuffers builder for the one table that trees are made of, in the order of JAX: the children's vector, keys and
 * their vector, a custom type's name and data, then the table, then its vtable unless an equal one is there already. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "codec/treedef.h"

/* Slots of the table. */
enum { SLOT_KIND, SLOT_CHILDREN, SLOT_NAMES, SLOT_CUSTOM_NAME, SLOT_AUXDATA, SLOT_COUNT };

/* ---- bytes, from the end ---- */

static bool has_failed(const struct tp_treedef_builder *b)
{
    return b->no_memory || b->too_large;
}

/* Room for `len` bytes in front; NULL after a failure, or where none are wanted. */
static uint8_t *take(struct tp_treedef_builder *b, size_t len)
{
    b->too_large = b->too_large || len > TP_TREEDEF_BYTES_MAX - b->used;
    if (has_failed(b) || len == 0)
        return NULL;
    if (len > b->capacity - b->used) {
        size_t capacity = b->capacity ? b->capacity : 1024;
        while (len > capacity - b->used)
            capacity *= 2;
        uint8_t *grown = malloc(capacity);
        if (!grown) {
            b->no_memory = true;
            return NULL;
        }
        if (b->used > 0)
            memcpy(grown + capacity - b->used, b->bytes + b->capacity - b->used, b->used);
        free(b->bytes);
        b->bytes = grown;
        b->capacity = capacity;
    }
    b->used += len;
    return b->bytes + b->capacity - b->used;
}

/* Zeros, so that the bytes from the end are a multiple of 4 once `len` more are written. */
static void align(struct tp_treedef_builder *b, size_t len)
{
    size_t padding = (4 - (b->used + len) % 4) % 4;
    uint8_t *p = take(b, padding);
    if (p)
        memset(p, 0, padding);
}

static void put_le(struct tp_treedef_builder *b, uint32_t value, unsigned bytes)
{
    uint8_t *p = take(b, bytes);
    for (unsigned i = 0; p && i < bytes; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t here(const struct tp_treedef_builder *b)
{
    return (uint32_t)b->used;
}

/* How far it is to what lies at `target` from the end. */
static void put_offset(struct tp_treedef_builder *b, uint32_t target)
{
    align(b, 4);
    put_le(b, here(b) + 4 - target, 4);
}

/* ---- vectors ---- */

static uint32_t put_string(struct tp_treedef_builder *b, const char *text, size_t len)
{
    align(b, len + 1);
    uint8_t *p = take(b, len + 1);
    if (p) {
        memcpy(p, text, len);
        p[len] = '\0';
    }
    put_le(b, (uint32_t)len, 4);
    return here(b);
}

static uint32_t put_nodes(struct tp_treedef_builder *b, const struct tp_treedef_child *children, size_t count)
{
    align(b, 0);
    for (size_t i = count; i-- > 0;)
        put_offset(b, children[i].node);
    put_le(b, (uint32_t)count, 4);
    return here(b);
}

/* The nodes are written already, so their places can be taken by the keys'. */
static uint32_t put_keys(struct tp_treedef_builder *b, struct tp_treedef_child *children, size_t count)
{
    for (size_t i = 0; i < count; i++)
        children[i].node = put_string(b, children[i].key, children[i].key_len);
    return put_nodes(b, children, count);
}

/* ---- the data of an OrderedDict: its keys as Python's json.dumps writes them ---- */

/* Counts if dst is NULL. */
struct text {
    char *dst;
    size_t len;
};

static void put_text(struct text *t, const char *bytes, size_t len)
{
    if (t->dst)
        memcpy(t->dst + t->len, bytes, len);
    t->len += len;
}

static void put_escape(struct text *t, uint32_t unit)
{
    static const char digits[] = "0123456789abcdef";
    const char escape[] = {
        '\\', 'u', digits[unit >> 12 & 15], digits[unit >> 8 & 15], digits[unit >> 4 & 15], digits[unit & 15]};
    put_text(t, escape, sizeof escape);
}

static void put_code_point(struct text *t, uint32_t c)
{
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *name = c > 0 && c < 0x80 ? strchr(named, (int)c) : NULL;
    const char plain[] = {'\\', name ? letters[name - named] : (char)c};
    if (name)
        put_text(t, plain, 2);
    else if (c >= ' ' && c < 0x7f)
        put_text(t, plain + 1, 1);
    else if (c < 0x10000)
        put_escape(t, c);
    else {
        put_escape(t, 0xd800 + ((c - 0x10000) >> 10));
        put_escape(t, 0xdc00 + ((c - 0x10000) & 0x3ff));
    }
}

static void put_json_string(struct text *t, const char *key, size_t len)
{
    put_text(t, "\"", 1);
    for (size_t i = 0; i < len;) {
        uint32_t c = 0xfffd;
        size_t used = tp_utf8_decode(key + i, len - i, &c);
        put_code_point(t, c);
        i += used > 0 ? used : 1;
    }
    put_text(t, "\"", 1);
}

static size_t put_json_keys(char *dst, const struct tp_treedef_child *children, size_t count)
{
    struct text t = {.dst = dst};
    put_text(&t, "[", 1);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            put_text(&t, ", ", 2);
        put_json_string(&t, children[i].key, children[i].key_len);
    }
    put_text(&t, "]", 1);
    return t.len;
}

static uint32_t put_order(struct tp_treedef_builder *b, const struct tp_treedef_child *children, size_t count)
{
    size_t len = put_json_keys(NULL, children, count);
    align(b, len);
    uint8_t *p = take(b, len);
    if (p)
        put_json_keys((char *)p, children, count);
    put_le(b, (uint32_t)len, 4);
    return here(b);
}

/* ---- tables ---- */

/* The place of an equal vtable, or of the new one. */
static uint32_t put_vtable(struct tp_treedef_builder *b, const struct tp_treedef_vtable *wanted)
{
    for (size_t i = 0; i < b->vtable_count; i++)
        if (b->vtables[i].count == wanted->count &&
            memcmp(b->vtables[i].words, wanted->words, wanted->count * sizeof *wanted->words) == 0)
            return b->vtables[i].at;
    for (unsigned i = wanted->count; i-- > 0;)
        put_le(b, wanted->words[i], 2);
    if (b->vtable_count < TP_COUNT_OF(b->vtables)) {
        b->vtables[b->vtable_count] = *wanted;
        b->vtables[b->vtable_count++].at = here(b);
    }
    return here(b);
}

/* `at[slot]`: what the field refers to, 0: it has none. */
static uint32_t put_table(struct tp_treedef_builder *b, enum tp_treedef_kind kind, const uint32_t at[SLOT_COUNT])
{
    uint32_t begin = here(b), field[SLOT_COUNT] = {0};
    struct tp_treedef_vtable vtable = {.count = 2};
    if (kind != TP_TREEDEF_LEAF) {
        put_le(b, (uint32_t)kind, 1);
        field[SLOT_KIND] = here(b);
    }
    for (unsigned slot = SLOT_CHILDREN; slot < SLOT_COUNT; slot++) {
        if (at[slot] == 0)
            continue;
        put_offset(b, at[slot]);
        field[slot] = here(b);
    }
    align(b, 4);
    put_le(b, 0, 4);
    uint32_t table = here(b);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        vtable.words[2 + slot] = (uint16_t)(field[slot] ? table - field[slot] : 0);
        if (field[slot])
            vtable.count = (uint16_t)(3 + slot);
    }
    vtable.words[0] = (uint16_t)(2 * vtable.count);
    vtable.words[1] = (uint16_t)(table - begin);
    uint32_t to_vtable = put_vtable(b, &vtable) - table;
    for (unsigned i = 0; !has_failed(b) && i < 4; i++)
        b->bytes[b->capacity - table + i] = (uint8_t)(to_vtable >> (8 * i));
    return table;
}

uint32_t tp_treedef_add(struct tp_treedef_builder *b, enum tp_treedef_kind kind, struct tp_treedef_child *children,
                        size_t count)
{
    uint32_t at[SLOT_COUNT] = {0};
    if (has_failed(b))
        return 0;
    if (count > 0)
        at[SLOT_CHILDREN] = put_nodes(b, children, count);
    if (kind == TP_TREEDEF_DICT)
        at[SLOT_NAMES] = put_keys(b, children, count);
    if (kind == TP_TREEDEF_CUSTOM) {
        at[SLOT_CUSTOM_NAME] = put_string(b, TP_TREEDEF_ORDERED_DICT, strlen(TP_TREEDEF_ORDERED_DICT));
        at[SLOT_AUXDATA] = put_order(b, children, count);
    }
    return put_table(b, kind, at);
}

enum tp_status tp_treedef_finish(struct tp_treedef_builder *b, uint32_t root, const uint8_t **bytes, size_t *len,
                                 struct tp_error *err)
{
    put_offset(b, root);
    if (b->no_memory)
        return tp_fail_nomem(err);
    if (b->too_large)
        return tp_fail(err, TP_ERR_LIMIT, "the tree's structure takes more than %zu MiB", TP_TREEDEF_BYTES_MAX >> 20);
    *bytes = b->bytes + b->capacity - b->used;
    *len = b->used;
    return TP_OK;
}

void tp_treedef_release(struct tp_treedef_builder *b)
{
    free(b->bytes);
    *b = (struct tp_treedef_builder){.used = 0};
}
