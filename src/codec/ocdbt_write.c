/* SPDX-License-Identifier: MIT */
/* The writer of OCDBT: leaves of at most source->leaf_entries entries, then, if there are several, a root over them. A
 * node's fields are columns, so its entries are gone over once to collect the numbers of all columns (24 bytes an
 * entry) and once more for the text of keys and of inline values. The bytes are those that TensorStore would write
 * without compression: most prefixes stripped, only files that the node uses. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/arena.h"
#include "codec/crc32c.h"
#include "codec/ocdbt_wire.h"
#include "tensorport/text.h"

#define IN_NODE UINT32_MAX           /* instead of a file's number */
#define MAX_INLINE_VALUE_BYTES 1024u /* what Orbax configures; they only guide whoever writes later */
#define MAX_DECODED_NODE_BYTES 100000000u
#define ARITY_LOG2 4u

/* ---- bytes ---- */

struct sink { /* counts; and writes, if it can */
    tp_json_write_fn write;
    void *user;
    struct tp_error *err;
    enum tp_status status;
    uint64_t total;
    uint32_t crc;
    size_t used;
    uint8_t buffer[1 << 14];
};

static void sink_init(struct sink *s, tp_json_write_fn write, void *user, struct tp_error *err)
{
    s->write = write;
    s->user = user;
    s->err = err;
    s->status = TP_OK;
    s->total = 0;
    s->crc = 0;
    s->used = 0;
}

static void flush(struct sink *s)
{
    if (!s->status && s->used > 0)
        s->status = s->write(s->user, (const char *)s->buffer, s->used, s->err);
    s->used = 0;
}

static void put(struct sink *s, const void *bytes, size_t len)
{
    s->total += len;
    if (!s->write)
        return;
    s->crc = tp_crc32c(s->crc, bytes, len);
    for (const uint8_t *p = bytes; len > 0;) {
        const size_t room = sizeof s->buffer - s->used, piece = len < room ? len : room;
        memcpy(s->buffer + s->used, p, piece);
        s->used += piece;
        p += piece;
        len -= piece;
        if (s->used == sizeof s->buffer)
            flush(s);
    }
}

static void put_le(struct sink *s, uint64_t value, unsigned bytes)
{
    uint8_t b[8];
    for (unsigned i = 0; i < bytes; i++, value >>= 8)
        b[i] = (uint8_t)value;
    put(s, b, bytes);
}

static void put_uint(struct sink *s, uint64_t value)
{
    uint8_t b[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        b[n++] = (uint8_t)(value | 0x80);
    b[n++] = (uint8_t)value;
    put(s, b, n);
}

/* The envelope around a body of `body_bytes`, whose CRC starts here. */
static void put_head(struct sink *s, uint32_t magic, uint64_t body_bytes)
{
    uint8_t be[4];
    tp_store_be(be, magic, 4);
    s->crc = 0;
    put(s, be, 4);
    put_le(s, body_bytes + TP_OCDBT_ENVELOPE_BYTES, 8);
    put_uint(s, 0); /* version */
    put_uint(s, 0); /* compression */
}

static size_t common_prefix(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const size_t least = a_len < b_len ? a_len : b_len;
    size_t i = 0;
    while (i < least && a[i] == b[i])
        i++;
    return i;
}

/* ---- what the writer knows ---- */

struct fact { /* one entry of a leaf */
    uint64_t size, offset;
    uint32_t file;
    uint16_t prefix, suffix; /* of the key: shared with the one before (in a first one: stripped), and the rest */
};

struct leaf {        /* a finished one, as the root tells it */
    const char *key; /* its first */
    size_t key_len, stripped;
    uint64_t offset, length, key_count, indirect_bytes;
};

struct writer {
    const struct tp_ocdbt_source *source;
    const char *node_file;
    struct tp_error *err;
    struct sink *sink;
    struct fact *facts; /* of the current leaf */
    uint32_t *rank;     /* one a file: its row in the current leaf's table, or UINT32_MAX */
    char *previous;     /* key */
    size_t previous_len;
    struct tp_arena arena; /* keys of leaves */
    struct leaf *leaves;
    uint64_t leaf_entries, leaf_count;
};

static enum tp_status bad_key(const struct writer *w, enum tp_status code, const char *key, size_t len,
                              const char *fault)
{
    char shown[256];
    return tp_fail(w->err, code, "OCDBT key '%s': %s", tp_text_printable(shown, sizeof shown, key, len), fault);
}

static enum tp_status check_files(const struct tp_ocdbt_source *source, struct tp_error *err)
{
    for (uint32_t i = 0; i < source->file_count; i++) {
        const char *path = source->files[i];
        char shown[256];
        tp_text_printable(shown, sizeof shown, path, strlen(path));
        if (!tp_ocdbt_path_is_safe(path, strlen(path)))
            return tp_fail(err, TP_ERR_USAGE, "OCDBT cannot refer to the file '%s'", shown);
        if (i > 0 && strcmp(source->files[i - 1], path) >= 0)
            return tp_fail(err, TP_ERR_USAGE, "OCDBT: the file '%s' is out of order", shown);
    }
    return TP_OK;
}

/* ---- facts of a leaf ---- */

static enum tp_status take_key(struct writer *w, uint64_t i, bool is_first, struct fact *fact)
{
    size_t len;
    const char *key = w->source->key(w->source->user, i, &len);
    if (len > TP_OCDBT_KEY_MAX)
        return bad_key(w, TP_ERR_LIMIT, key, len, "it is longer than 65535 bytes");
    const size_t shared = common_prefix(w->previous, w->previous_len, key, len);
    if (i > 0 && (shared == len || (shared < w->previous_len && (uint8_t)w->previous[shared] > (uint8_t)key[shared])))
        return bad_key(w, TP_ERR_USAGE, key, len, "it is not greater than the one before");
    fact->prefix = (uint16_t)(is_first ? 0 : shared);
    fact->suffix = (uint16_t)(len - fact->prefix);
    memcpy(w->previous, key, len);
    w->previous_len = len;
    return TP_OK;
}

static enum tp_status take_value(struct writer *w, uint64_t i, struct fact *fact)
{
    struct tp_ocdbt_value value = {0};
    w->source->value(w->source->user, i, &value);
    *fact = (struct fact){value.size, value.offset, value.bytes ? IN_NODE : value.file, fact->prefix, fact->suffix};
    if (value.bytes)
        return value.size <= TP_OCDBT_INLINE_MAX
                   ? TP_OK
                   : bad_key(w, TP_ERR_LIMIT, w->previous, w->previous_len, "its inline value is larger than 1 MiB");
    if (value.file >= w->source->file_count || value.offset > TP_OCDBT_END_MAX ||
        value.size > TP_OCDBT_END_MAX - value.offset)
        return bad_key(w, TP_ERR_USAGE, w->previous, w->previous_len, "its value lies nowhere");
    w->rank[value.file] = 0;
    return TP_OK;
}

/* Fill w->facts and w->rank for `count` entries from `first` on; *leaf tells of them. `strip`: leave out what all keys
 * begin with. */
static enum tp_status collect(struct writer *w, uint64_t first, uint64_t count, bool strip, struct leaf *leaf)
{
    *leaf = (struct leaf){.key_count = count};
    memset(w->rank, 0xff, w->source->file_count * sizeof *w->rank);
    for (uint64_t i = 0; i < count; i++) {
        struct fact *fact = &w->facts[i];
        enum tp_status status = take_key(w, first + i, i == 0, fact);
        if (!status && i == 0 && strip) {
            leaf->key_len = w->previous_len;
            leaf->key = tp_arena_strndup(&w->arena, w->previous, w->previous_len);
            status = leaf->key ? TP_OK : tp_fail_nomem(w->err);
        }
        if (!status)
            status = take_value(w, first + i, fact);
        if (status)
            return status;
        leaf->indirect_bytes += fact->file == IN_NODE ? 0 : fact->size;
    }
    if (strip) {
        leaf->stripped = common_prefix(leaf->key, leaf->key_len, w->previous, w->previous_len);
        w->facts[0].prefix = (uint16_t)leaf->stripped;
        w->facts[0].suffix = (uint16_t)(leaf->key_len - leaf->stripped);
    }
    uint32_t next = 0;
    for (uint32_t i = 0; i < w->source->file_count; i++)
        if (w->rank[i] != UINT32_MAX)
            w->rank[i] = next++;
    return TP_OK;
}

/* ---- nodes ---- */

static const char *used_before(const struct writer *w, uint32_t file)
{
    while (file-- > 0)
        if (w->rank[file] != UINT32_MAX)
            return w->source->files[file];
    return "";
}

static size_t shared_with_before(const struct writer *w, uint32_t file)
{
    const char *before = used_before(w, file), *path = w->source->files[file];
    return common_prefix(before, strlen(before), path, strlen(path));
}

/* The table of the files that a leaf uses: paths relative to the manifest, no base paths. */
static void put_used_files(struct sink *s, const struct writer *w)
{
    const uint32_t n = w->source->file_count;
    uint32_t used = 0;
    for (uint32_t i = 0; i < n; i++)
        used += w->rank[i] != UINT32_MAX;
    put_uint(s, used);
    for (uint32_t i = 0; i < n; i++)
        if (w->rank[i] != UINT32_MAX && w->rank[i] > 0)
            put_uint(s, shared_with_before(w, i));
    for (uint32_t i = 0; i < n; i++)
        if (w->rank[i] != UINT32_MAX)
            put_uint(s, strlen(w->source->files[i]) - shared_with_before(w, i));
    for (uint32_t i = 0; i < used; i++)
        put_uint(s, 0);
    for (uint32_t i = 0; i < n; i++) {
        const size_t shared = w->rank[i] == UINT32_MAX ? 0 : shared_with_before(w, i);
        if (w->rank[i] != UINT32_MAX)
            put(s, w->source->files[i] + shared, strlen(w->source->files[i]) - shared);
    }
}

static void put_one_file(struct sink *s, const char *path)
{
    put_uint(s, 1);
    put_uint(s, strlen(path));
    put_uint(s, 0);
    put(s, path, strlen(path));
}

static void put_leaf_keys(struct sink *s, const struct writer *w, uint64_t first, uint64_t count)
{
    const struct fact *facts = w->facts;
    for (uint64_t i = 1; i < count; i++)
        put_uint(s, (uint64_t)facts[i].prefix - facts[0].prefix);
    for (uint64_t i = 0; i < count; i++)
        put_uint(s, facts[i].suffix);
    for (uint64_t i = 0; i < count; i++) {
        size_t len = (size_t)facts[i].prefix + facts[i].suffix;
        const char *key = s->write ? w->source->key(w->source->user, first + i, &len) : NULL;
        if (key)
            put(s, key + facts[i].prefix, facts[i].suffix);
        else
            s->total += facts[i].suffix;
    }
}

static void put_leaf_values(struct sink *s, const struct writer *w, uint64_t first, uint64_t count)
{
    const struct fact *facts = w->facts;
    for (uint64_t i = 0; i < count; i++)
        put_uint(s, facts[i].size);
    for (uint64_t i = 0; i < count; i++)
        put_le(s, facts[i].file != IN_NODE, 1);
    for (uint64_t i = 0; i < count; i++)
        if (facts[i].file != IN_NODE)
            put_uint(s, w->rank[facts[i].file]);
    for (uint64_t i = 0; i < count; i++)
        if (facts[i].file != IN_NODE)
            put_uint(s, facts[i].offset);
    for (uint64_t i = 0; i < count; i++) {
        if (facts[i].file != IN_NODE)
            continue;
        struct tp_ocdbt_value value = {0};
        if (s->write)
            w->source->value(w->source->user, first + i, &value);
        if (s->write)
            put(s, value.bytes, facts[i].size);
        else
            s->total += facts[i].size;
    }
}

static void put_leaf_body(struct sink *s, const struct writer *w, uint64_t first, uint64_t count)
{
    put_le(s, 0, 1); /* height */
    put_used_files(s, w);
    put_uint(s, count);
    put_leaf_keys(s, w, first, count);
    put_leaf_values(s, w, first, count);
}

static void put_root_keys(struct sink *s, const struct writer *w)
{
    const struct leaf *l = w->leaves;
    size_t shared = 0;
    for (uint64_t i = 1; i < w->leaf_count; i++)
        put_uint(s, common_prefix(l[i - 1].key, l[i - 1].key_len, l[i].key, l[i].key_len));
    for (uint64_t i = 0; i < w->leaf_count; i++) {
        shared = i > 0 ? common_prefix(l[i - 1].key, l[i - 1].key_len, l[i].key, l[i].key_len) : 0;
        put_uint(s, l[i].key_len - shared);
    }
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, l[i].stripped);
    for (uint64_t i = 0; i < w->leaf_count; i++) {
        shared = i > 0 ? common_prefix(l[i - 1].key, l[i - 1].key_len, l[i].key, l[i].key_len) : 0;
        put(s, l[i].key + shared, l[i].key_len - shared);
    }
}

static void put_root_body(struct sink *s, const struct writer *w)
{
    put_le(s, 1, 1); /* height */
    put_one_file(s, w->node_file);
    put_uint(s, w->leaf_count);
    put_root_keys(s, w);
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, 0); /* file */
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, w->leaves[i].offset);
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, w->leaves[i].length);
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, w->leaves[i].key_count);
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, w->leaves[i].length);
    for (uint64_t i = 0; i < w->leaf_count; i++)
        put_uint(s, w->leaves[i].indirect_bytes);
}

/* A node of `body_bytes` through `s`, which counts or writes. */
static enum tp_status check_length(const struct writer *w, uint64_t body_bytes)
{
    if (body_bytes + TP_OCDBT_ENVELOPE_BYTES <= TP_OCDBT_NODE_MAX)
        return TP_OK;
    return tp_fail(w->err, TP_ERR_LIMIT, "an OCDBT node of %" PRIu64 " bytes is larger than %zu", body_bytes,
                   TP_OCDBT_NODE_MAX);
}

static enum tp_status write_leaf(struct writer *w, uint64_t number)
{
    struct sink *s = w->sink;
    struct sink counter;
    struct leaf *leaf = &w->leaves[number];
    const uint64_t first = number * w->leaf_entries, left = w->source->count - first;
    const uint64_t count = left < w->leaf_entries ? left : w->leaf_entries;
    enum tp_status status = collect(w, first, count, w->leaf_count > 1, leaf);
    if (status)
        return status;
    sink_init(&counter, NULL, NULL, NULL);
    put_leaf_body(&counter, w, first, count);
    leaf->offset = s->total;
    leaf->length = counter.total + TP_OCDBT_ENVELOPE_BYTES;
    status = check_length(w, counter.total);
    if (status)
        return status;
    put_head(s, TP_OCDBT_MAGIC_NODE, counter.total);
    if (s->write)
        put_leaf_body(s, w, first, count);
    else
        s->total += counter.total;
    put_le(s, s->crc, 4);
    return s->status;
}

static enum tp_status write_root(struct writer *w, struct tp_ocdbt_tree *tree)
{
    struct sink *s = w->sink;
    struct sink counter;
    sink_init(&counter, NULL, NULL, NULL);
    put_root_body(&counter, w);
    enum tp_status status = check_length(w, counter.total);
    if (status)
        return status;
    tree->height = 1;
    tree->offset = s->total;
    tree->length = counter.total + TP_OCDBT_ENVELOPE_BYTES;
    put_head(s, TP_OCDBT_MAGIC_NODE, counter.total);
    put_root_body(s, w);
    put_le(s, s->crc, 4);
    return s->status;
}

static enum tp_status prepare(struct writer *w)
{
    const struct tp_ocdbt_source *source = w->source;
    if (source->count == 0)
        return tp_fail(w->err, TP_ERR_USAGE, "OCDBT: no entries");
    w->leaf_entries = source->leaf_entries ? source->leaf_entries : TP_OCDBT_NODE_ENTRIES;
    w->leaf_count = (source->count - 1) / w->leaf_entries + 1;
    if (w->leaf_entries > TP_OCDBT_NODE_ENTRIES || w->leaf_count > TP_OCDBT_NODE_ENTRIES)
        return tp_fail(w->err, TP_ERR_LIMIT, "OCDBT: %" PRIu64 " entries are too many", source->count);
    const uint64_t largest = source->count < w->leaf_entries ? source->count : w->leaf_entries;
    w->facts = malloc((size_t)largest * sizeof *w->facts);
    w->rank = malloc((source->file_count + 1) * sizeof *w->rank);
    w->previous = malloc(TP_OCDBT_KEY_MAX);
    w->leaves = calloc((size_t)w->leaf_count, sizeof *w->leaves);
    return w->facts && w->rank && w->previous && w->leaves ? TP_OK : tp_fail_nomem(w->err);
}

static enum tp_status write_tree(struct writer *w, struct tp_ocdbt_tree *tree)
{
    for (uint64_t i = 0; i < w->leaf_count; i++) {
        enum tp_status status = write_leaf(w, i);
        if (status)
            return status;
        tree->key_count += w->leaves[i].key_count;
        tree->indirect_bytes += w->leaves[i].indirect_bytes;
    }
    tree->offset = w->leaves[0].offset;
    tree->length = w->leaves[0].length;
    return w->leaf_count > 1 ? write_root(w, tree) : TP_OK;
}

/* Count, or write if the sink can. */
static enum tp_status run(struct tp_ocdbt_tree *tree, const struct tp_ocdbt_source *source, const char *node_file,
                          struct sink *sink, struct tp_error *err)
{
    struct writer w = {.source = source, .node_file = node_file, .err = err, .sink = sink};
    *tree = (struct tp_ocdbt_tree){0};
    enum tp_status status = check_files(source, err);
    if (!status)
        status = prepare(&w);
    if (!status)
        status = write_tree(&w, tree);
    tree->file_bytes = tree->node_bytes = sink->total;
    if (sink->write)
        flush(sink);
    free(w.facts);
    free(w.rank);
    free(w.previous);
    free(w.leaves);
    tp_arena_release(&w.arena);
    return status ? status : sink->status;
}

enum tp_status tp_ocdbt_measure(struct tp_ocdbt_tree *tree, const struct tp_ocdbt_source *source, const char *node_file,
                                struct tp_error *err)
{
    struct sink sink;
    sink_init(&sink, NULL, NULL, err);
    return run(tree, source, node_file, &sink, err);
}

enum tp_status tp_ocdbt_write_nodes(const struct tp_ocdbt_source *source, const char *node_file, tp_json_write_fn write,
                                    void *user, struct tp_error *err)
{
    struct tp_ocdbt_tree tree;
    struct sink sink;
    sink_init(&sink, write, user, err);
    return run(&tree, source, node_file, &sink, err);
}

/* ---- the manifest ---- */

static void put_manifest_body(struct sink *s, const struct tp_ocdbt_tree *tree, const char *node_file,
                              const uint8_t uuid[16], uint64_t commit_time_ns)
{
    put(s, uuid, 16);
    put_uint(s, 0); /* kind: single */
    put_uint(s, MAX_INLINE_VALUE_BYTES);
    put_uint(s, MAX_DECODED_NODE_BYTES);
    put_le(s, ARITY_LOG2, 1);
    put_uint(s, 0); /* compression */
    put_one_file(s, node_file);
    put_uint(s, 1); /* versions */
    put_uint(s, 1); /* generation */
    put_le(s, tree->height, 1);
    put_uint(s, 0); /* file */
    put_uint(s, tree->offset);
    put_uint(s, tree->length);
    put_uint(s, tree->key_count);
    put_uint(s, tree->node_bytes);
    put_uint(s, tree->indirect_bytes);
    put_le(s, commit_time_ns, 8);
    put_uint(s, 0); /* older versions */
}

uint64_t tp_ocdbt_manifest_bytes(const struct tp_ocdbt_tree *tree, const char *node_file)
{
    static const uint8_t any[16] = {0};
    struct sink counter;
    sink_init(&counter, NULL, NULL, NULL);
    put_manifest_body(&counter, tree, node_file, any, 0);
    return counter.total + TP_OCDBT_ENVELOPE_BYTES;
}

enum tp_status tp_ocdbt_write_manifest(const struct tp_ocdbt_tree *tree, const char *node_file, const uint8_t uuid[16],
                                       uint64_t commit_time_ns, tp_json_write_fn write, void *user,
                                       struct tp_error *err)
{
    struct sink sink;
    sink_init(&sink, write, user, err);
    put_head(&sink, TP_OCDBT_MAGIC_MANIFEST, tp_ocdbt_manifest_bytes(tree, node_file) - TP_OCDBT_ENVELOPE_BYTES);
    put_manifest_body(&sink, tree, node_file, uuid, commit_time_ns);
    put_le(&sink, sink.crc, 4);
    flush(&sink);
    return sink.status;
}
