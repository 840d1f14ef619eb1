/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <zstd.h>

#include "codec/crc32c.h"
#include "orbax_data.h"

/* ---- the databases of others ---- */

static void databases_hold_what_an_independent_reader_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(orbax_databases); i++) {
        struct orbax_database *db = orbax_open(orbax_databases[i]);
        struct tp_error err;
        size_t len;
        uint8_t *expected = orbax_load(db->name, "entries.txt", &len);
        assert_non_null(expected);
        if (orbax_walk(db, &err))
            fail_msg("%s: %s", db->name, err.message);
        assert_string_equal(db->text, (const char *)expected);
        free(expected);
        orbax_close(db);
    }
}

static void the_newest_of_several_versions_is_read(void **state)
{
    (void)state;
    struct orbax_database *db = orbax_open("versions");
    struct tp_ocdbt_manifest m;
    struct tp_error err;
    assert_int_equal(tp_ocdbt_manifest_read(&m, db->files[0].bytes, db->files[0].len, &err), TP_OK);
    assert_int_equal(m.uuid[1], 0x11);
    assert_true(m.generation > 4 && m.version_count <= 2); /* the older ones are in nodes of their own */
    assert_true(m.height > 0 && !m.is_empty);
    tp_ocdbt_manifest_release(&m);
    orbax_close(db);
}

static void a_database_whose_keys_were_deleted_is_empty(void **state)
{
    (void)state;
    struct orbax_database *db = orbax_open("deleted");
    struct tp_ocdbt_manifest m;
    struct tp_error err;
    assert_int_equal(tp_ocdbt_manifest_read(&m, db->files[0].bytes, db->files[0].len, &err), TP_OK);
    assert_true(m.is_empty);
    assert_int_equal(m.version_count, 3);
    tp_ocdbt_manifest_release(&m);
    assert_int_equal(orbax_walk(db, &err), TP_OK);
    assert_int_equal(db->entry_count, 0);
    orbax_close(db);
}

/* ---- writing ---- */

struct row {
    char key[64];
    uint8_t bytes[512]; /* inline */
    uint64_t size, offset;
    uint32_t file;
    bool is_inline;
};

struct rows {
    struct row items[64];
    uint64_t count;
    const char *files[4];
    uint32_t file_count;
    char paths[4][64];
};

static const char *row_key(void *user, uint64_t i, size_t *len)
{
    struct rows *rows = user;
    *len = strlen(rows->items[i].key);
    return rows->items[i].key;
}

static void row_value(void *user, uint64_t i, struct tp_ocdbt_value *value)
{
    const struct row *row = &((struct rows *)user)->items[i];
    *value = (struct tp_ocdbt_value){row->is_inline ? row->bytes : NULL, row->size, row->file, row->offset};
}

static struct tp_ocdbt_source rows_source(struct rows *rows, uint64_t leaf_entries)
{
    return (struct tp_ocdbt_source){rows, rows->count, row_key, row_value, rows->files, rows->file_count, leaf_entries};
}

/* A table of files keeps them sorted: "model-1" before "model-2". */
static enum tp_status row_number(void *user, const char *path, uint32_t *number, struct tp_error *err)
{
    struct rows *rows = ((void **)user)[1];
    (void)err;
    uint32_t i = 0;
    while (i < rows->file_count && strcmp(rows->paths[i], path) < 0)
        i++;
    if (i == rows->file_count || strcmp(rows->paths[i], path) != 0) {
        assert_true(i == rows->file_count); /* the test's own: each is met after those before it */
        snprintf(rows->paths[i], sizeof rows->paths[i], "%s", path);
        rows->files[i] = rows->paths[i];
        rows->file_count++;
    }
    *number = i;
    return TP_OK;
}

static enum tp_status row_entry(void *user, const struct tp_ocdbt_entry *entry, struct tp_error *err)
{
    struct rows *rows = ((void **)user)[1];
    struct row *row = &rows->items[rows->count++];
    (void)err;
    snprintf(row->key, sizeof row->key, "%s", entry->key);
    row->is_inline = entry->bytes != NULL;
    row->size = entry->size;
    row->offset = entry->offset;
    row->file = entry->file;
    if (entry->bytes)
        memcpy(row->bytes, entry->bytes, (size_t)entry->size);
    return TP_OK;
}

static enum tp_status row_read(void *user, const char *path, uint64_t offset, void *dst, size_t len,
                               struct tp_error *err)
{
    return orbax_read(((void **)user)[0], path, offset, dst, len, err);
}

static void set_key(struct rows *rows, size_t i, const char *key)
{
    snprintf(rows->items[i].key, sizeof rows->items[i].key, "%s", key);
}

struct out {
    uint8_t bytes[1 << 16];
    size_t len;
};

static enum tp_status collect(void *user, const char *text, size_t len, struct tp_error *err)
{
    struct out *out = user;
    (void)err;
    assert_true(len <= sizeof out->bytes - out->len);
    memcpy(out->bytes + out->len, text, len);
    out->len += len;
    return TP_OK;
}

static void what_was_read_is_written_with_the_same_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t leaf_entries;
    } rows_of[] = {{"g1", 0}, {"g2", 0}, {"g3", 7}, {"g4", 0}};
    for (size_t i = 0; i < TP_COUNT_OF(rows_of); i++) {
        struct orbax_database *db = orbax_open(rows_of[i].name);
        struct rows *rows = calloc(1, sizeof *rows);
        struct out *out = calloc(1, sizeof *out);
        void *user[2] = {db, rows};
        const struct tp_ocdbt_visitor visitor = {user, row_read, row_number, row_entry};
        struct tp_ocdbt_manifest m;
        struct tp_ocdbt_tree tree;
        struct tp_error err = {.message = ""};
        const struct orbax_file *manifest = &db->files[0];
        assert_int_equal(tp_ocdbt_manifest_read(&m, manifest->bytes, manifest->len, &err), TP_OK);
        assert_int_equal(tp_ocdbt_walk(&m, 64, &visitor, &err), TP_OK);
        const struct tp_ocdbt_source source = rows_source(rows, rows_of[i].leaf_entries);
        assert_int_equal(tp_ocdbt_measure(&tree, &source, m.path, &err), TP_OK);
        assert_int_equal(tp_ocdbt_write_nodes(&source, m.path, collect, out, &err), TP_OK);
        const struct orbax_file *nodes = orbax_file(db, m.path);
        assert_int_equal(tree.file_bytes, nodes->len);
        assert_int_equal(out->len, nodes->len);
        assert_memory_equal(out->bytes, nodes->bytes, nodes->len);
        out->len = 0;
        assert_int_equal(tp_ocdbt_write_manifest(&tree, m.path, m.uuid, m.commit_time_ns, collect, out, &err), TP_OK);
        assert_int_equal(out->len, tp_ocdbt_manifest_bytes(&tree, m.path));
        assert_int_equal(out->len, manifest->len);
        assert_memory_equal(out->bytes, manifest->bytes, manifest->len);
        tp_ocdbt_manifest_release(&m);
        free(out);
        free(rows);
        orbax_close(db);
    }
}

/* Keys made from numbers; values in files and inline by turns. */
enum { NUMBERED_MAX = 48 };
struct numbered {
    char key[NUMBERED_MAX], value[NUMBERED_MAX];
    uint64_t seen;
};

static size_t print_key(char dst[NUMBERED_MAX], uint64_t i)
{
    return (size_t)snprintf(dst, NUMBERED_MAX, "layer.%03" PRIu64 "/%04" PRIu64, i / 10000, i % 10000);
}

static const char *numbered_key(void *user, uint64_t i, size_t *len)
{
    struct numbered *n = user;
    *len = print_key(n->key, i);
    return n->key;
}

static void numbered_value(void *user, uint64_t i, struct tp_ocdbt_value *value)
{
    struct numbered *n = user;
    *value = i % 3 ? (struct tp_ocdbt_value){NULL, i, (uint32_t)(i / 20000), i << 30}
                   : (struct tp_ocdbt_value){n->value, (uint64_t)snprintf(n->value, NUMBERED_MAX, "%" PRIu64, i), 0, 0};
}

static enum tp_status numbered_entry(void *user, const struct tp_ocdbt_entry *entry, struct tp_error *err)
{
    struct numbered *n = ((void **)user)[1];
    char text[NUMBERED_MAX];
    (void)err;
    assert_int_equal(entry->key_len, print_key(text, n->seen));
    assert_string_equal(entry->key, text);
    if (n->seen % 3) {
        assert_int_equal(entry->size, n->seen);
        assert_int_equal(entry->offset, n->seen << 30);
        assert_int_equal(entry->path[strlen(entry->path) - 1], (int)('0' + n->seen / 20000));
    } else {
        assert_int_equal(entry->size, snprintf(text, sizeof text, "%" PRIu64, n->seen));
        assert_memory_equal(entry->bytes, text, (size_t)entry->size);
    }
    n->seen++;
    return TP_OK;
}

static enum tp_status numbered_file(void *user, const char *path, uint32_t *number, struct tp_error *err)
{
    (void)user;
    (void)path;
    (void)err;
    *number = 0;
    return TP_OK;
}

struct heap { /* that a writer fills */
    uint8_t *bytes;
    size_t len, capacity;
};

static enum tp_status to_heap(void *user, const char *text, size_t len, struct tp_error *err)
{
    struct heap *heap = user;
    (void)err;
    if (heap->capacity - heap->len < len) {
        heap->capacity = 2 * (heap->capacity + len);
        heap->bytes = realloc(heap->bytes, heap->capacity);
        assert_non_null(heap->bytes);
    }
    memcpy(heap->bytes + heap->len, text, len);
    heap->len += len;
    return TP_OK;
}

static void many_entries_make_a_root_over_leaves_that_read_back(void **state)
{
    (void)state;
    static const uint64_t leaf_entries[] = {1, 2, 999, 30000, 100000};
    static const char *const files[] = {"d/data-0", "d/data-1", "d/data-2", "d/data-3", "unused"};
    for (size_t i = 0; i < TP_COUNT_OF(leaf_entries); i++) {
        struct numbered n = {.seen = 0};
        struct heap nodes = {0}, manifest = {0};
        const uint64_t count = leaf_entries[i] < 999 ? 1500 : 65001;
        const struct tp_ocdbt_source source = {&n, count, numbered_key, numbered_value, files, 5, leaf_entries[i]};
        static const uint8_t uuid[16] = {1};
        struct tp_ocdbt_tree tree;
        struct tp_error err;
        assert_int_equal(tp_ocdbt_measure(&tree, &source, "d/n", &err), TP_OK);
        assert_int_equal(tree.height, leaf_entries[i] < count);
        assert_int_equal(tree.key_count, count);
        assert_int_equal(tp_ocdbt_write_nodes(&source, "d/n", to_heap, &nodes, &err), TP_OK);
        assert_int_equal(nodes.len, tree.file_bytes);
        assert_int_equal(tree.node_bytes, tree.file_bytes);
        assert_int_equal(tp_ocdbt_write_manifest(&tree, "d/n", uuid, 0, to_heap, &manifest, &err), TP_OK);
        struct orbax_database *db = calloc(1, sizeof *db);
        db->files[0] = (struct orbax_file){"d/n", nodes.bytes, nodes.len};
        db->file_count = 1;
        void *user[2] = {db, &n};
        const struct tp_ocdbt_visitor visitor = {user, row_read, numbered_file, numbered_entry};
        struct tp_ocdbt_manifest m;
        assert_int_equal(tp_ocdbt_manifest_read(&m, manifest.bytes, manifest.len, &err), TP_OK);
        assert_int_equal(tp_ocdbt_walk(&m, count, &visitor, &err), TP_OK);
        assert_int_equal(n.seen, count);
        assert_int_equal(tp_ocdbt_walk(&m, count - 1, &visitor, &err), TP_ERR_LIMIT);
        tp_ocdbt_manifest_release(&m);
        free(manifest.bytes);
        orbax_close(db);
    }
}

static void what_cannot_be_written_is_refused_by_name(void **state)
{
    (void)state;
    struct rows *rows = calloc(1, sizeof *rows);
    struct tp_ocdbt_tree tree;
    struct tp_error err;
    rows->count = 2;
    set_key(rows, 0, "b");
    set_key(rows, 1, "a");
    rows->items[0].is_inline = rows->items[1].is_inline = true;
    rows->files[0] = "x";
    rows->files[1] = "x";
    struct tp_ocdbt_source source = rows_source(rows, 0);
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_USAGE);
    assert_string_equal(err.message, "OCDBT key 'a': it is not greater than the one before");
    set_key(rows, 1, "b");
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_USAGE);
    set_key(rows, 1, "b\x80"); /* bytes, not characters with a sign */
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_OK);
    set_key(rows, 0, "b\x7f");
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_OK);
    rows->items[1].is_inline = false;
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_USAGE);
    assert_non_null(strstr(err.message, "its value lies nowhere"));
    source.file_count = 2;
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_USAGE);
    assert_string_equal(err.message, "OCDBT: the file 'x' is out of order");
    rows->files[0] = "../x";
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_USAGE);
    assert_string_equal(err.message, "OCDBT cannot refer to the file '../x'");
    rows->items[1].is_inline = true;
    rows->items[1].size = TP_OCDBT_INLINE_MAX + 1;
    source.file_count = 0;
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_LIMIT);
    source.count = 0;
    assert_int_equal(tp_ocdbt_measure(&tree, &source, "n", &err), TP_ERR_USAGE);
    free(rows);
}

static void only_plain_paths_at_or_below_the_folder_are_safe(void **state)
{
    (void)state;
    static const char *const safe[] = {"a", "a/b", "...", "d/x y%20\xc3\xa9?#", ".hidden", "a.__lock/b"};
    static const char *const unsafe[] = {"",     "/",      "/a",       "a/",        "a//b", ".",
                                         "..",   "../a",   "a/..",     "./a",       "a/.",  "a/./b",
                                         "a\\b", "a/../b", "x.__lock", "d/.__lock", "//",   "a/b/"};
    for (size_t i = 0; i < TP_COUNT_OF(safe); i++)
        assert_true(tp_ocdbt_path_is_safe(safe[i], strlen(safe[i])));
    for (size_t i = 0; i < TP_COUNT_OF(unsafe); i++)
        if (tp_ocdbt_path_is_safe(unsafe[i], strlen(unsafe[i])))
            fail_msg("'%s' passes", unsafe[i]);
    assert_false(tp_ocdbt_path_is_safe("a\0b", 3));
}

/* ---- bytes that lie ---- */

static void seal(uint8_t *bytes, size_t len)
{
    const uint32_t crc = tp_crc32c(0, bytes, len - 4);
    for (unsigned i = 0; i < 4; i++)
        bytes[len - 4 + i] = (uint8_t)(crc >> (8 * i));
}

static void set_length(uint8_t *bytes, size_t len)
{
    for (unsigned i = 0; i < 8; i++)
        bytes[4 + i] = (uint8_t)((uint64_t)len >> (8 * i));
}

/* Where the envelope that begins at `at` ends. */
static size_t envelope_end(const struct orbax_file *file, size_t at)
{
    size_t len = 0;
    for (unsigned i = 8; i-- > 0;)
        len = len << 8 | file->bytes[at + 4 + i];
    return at + len;
}

/* Is there an envelope at `at`? Data of values lies between nodes too. */
static bool is_envelope(const struct orbax_file *file, size_t at)
{
    return at + 18 <= file->len && memcmp(file->bytes + at, "\x0c\xdb", 2) == 0 && envelope_end(file, at) <= file->len;
}

/* Do this to every envelope of every file that a walk reads: of one database of each kind, for time's sake. */
static void for_every_envelope(void (*act)(struct orbax_database *db, struct orbax_file *file, size_t from, size_t to))
{
    static const char *const names[] = {"g1", "g3", "versions", "deleted", "nested", "saved3"};
    for (size_t i = 0; i < TP_COUNT_OF(names); i++) {
        struct orbax_database *db = orbax_open(names[i]);
        struct tp_error err;
        db->is_quiet = true;
        assert_int_equal(orbax_walk(db, &err), TP_OK);
        const size_t file_count = db->file_count;
        for (size_t k = 0; k < file_count; k++)
            for (size_t at = 0; at < db->files[k].len; at++)
                if (is_envelope(&db->files[k], at)) {
                    const size_t end = envelope_end(&db->files[k], at);
                    act(db, &db->files[k], at, end);
                    at = end - 1;
                }
        assert_int_equal(orbax_walk(db, &err), TP_OK); /* all is as it was */
        orbax_close(db);
    }
}

/* Nodes that no walk reaches, of older versions, may be anything. */
static bool matters(struct orbax_database *db, struct orbax_file *file, size_t from)
{
    struct tp_error err;
    file->bytes[from] ^= 1;
    const bool is_read = orbax_walk(db, &err) != TP_OK;
    file->bytes[from] ^= 1;
    return is_read;
}

static void flip_unsealed(struct orbax_database *db, struct orbax_file *file, size_t from, size_t to)
{
    struct tp_error err;
    if (!matters(db, file, from))
        return;
    for (size_t i = from; i < to; i++) {
        file->bytes[i] ^= (uint8_t)(1u << (i % 8));
        if (orbax_walk(db, &err) == TP_OK)
            fail_msg("%s, %s: byte %zu is not covered", db->name, file->path, i);
        file->bytes[i] ^= (uint8_t)(1u << (i % 8));
    }
}

static void every_flipped_byte_is_noticed(void **state)
{
    (void)state;
    for_every_envelope(flip_unsealed);
}

/* With a CRC that is right again: the parser itself is on trial, under sanitizers too. What it accepts are as many keys
 * as before, for other texts of keys and values mean something else and are as good. */
static void flip_sealed(struct orbax_database *db, struct orbax_file *file, size_t from, size_t to)
{
    static const uint8_t flips[] = {0x01, 0xff};
    struct tp_error err = {.message = ""};
    if (!matters(db, file, from))
        return;
    orbax_walk(db, &err);
    const uint64_t expected = db->entry_count;
    uint8_t sum[4];
    memcpy(sum, file->bytes + to - 4, 4);
    for (size_t i = from; i + 4 < to; i++)
        for (size_t k = file->bytes[from + 13]; k < TP_COUNT_OF(flips); k++) { /* compressed: one is enough */
            file->bytes[i] ^= flips[k];
            seal(file->bytes + from, to - from);
            err.message[0] = '\0';
            if (orbax_walk(db, &err) == TP_OK)
                assert_true(db->entry_count == expected || from == 0);
            else
                assert_true(err.message[0] != '\0');
            file->bytes[i] ^= flips[k];
        }
    memcpy(file->bytes + to - 4, sum, 4);
}

static void every_flipped_byte_with_a_right_sum_is_harmless(void **state)
{
    (void)state;
    for_every_envelope(flip_sealed);
}

/* The manifest alone, and any length of it, with and without further bytes. */
static void a_manifest_of_any_other_length_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(orbax_databases); i++) {
        struct orbax_database *db = orbax_open(orbax_databases[i]);
        const struct orbax_file *file = &db->files[0];
        struct tp_ocdbt_manifest m;
        struct tp_error err;
        for (size_t len = 0; len <= file->len + 3; len++) {
            uint8_t *copy = malloc(len ? len : 1); /* of exactly this size: a sanitizer sees a byte too many */
            memcpy(copy, file->bytes, len < file->len ? len : file->len);
            if (len > file->len)
                memset(copy + file->len - 4, 0, len - file->len + 4);
            if (len >= 18) {
                set_length(copy, len);
                seal(copy, len);
            }
            if (len != file->len && tp_ocdbt_manifest_read(&m, copy, len, &err) == TP_OK)
                fail_msg("%s: %zu bytes pass", db->name, len);
            free(copy);
        }
        orbax_close(db);
    }
}

static void a_node_of_any_other_length_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"g1", "saved", "saved3"}; /* each a single leaf; plain, compressed */
    for (size_t i = 0; i < TP_COUNT_OF(names); i++) {
        struct orbax_database *db = orbax_open(names[i]);
        const struct tp_ocdbt_visitor visitor = {db, orbax_read, orbax_number, orbax_entry};
        struct tp_ocdbt_manifest m;
        struct tp_error err;
        assert_int_equal(tp_ocdbt_manifest_read(&m, db->files[0].bytes, db->files[0].len, &err), TP_OK);
        struct orbax_file *node = orbax_file(db, m.path), whole = *node;
        assert_int_equal(whole.len, m.length);
        for (size_t len = 0; len <= whole.len + 3; len++) {
            node->len = m.length = len;
            node->bytes = calloc(1, len ? len : 1);
            memcpy(node->bytes, whole.bytes, len < whole.len ? len : whole.len - 4);
            if (len >= 18) {
                set_length(node->bytes, len);
                seal(node->bytes, len);
            }
            enum tp_status status = tp_ocdbt_walk(&m, 100, &visitor, &err);
            free(node->bytes);
            if ((status == TP_OK) != (len == whole.len))
                fail_msg("%s: %zu bytes of %zu: %s", names[i], len, whole.len, status ? err.message : "accepted");
        }
        *node = whole;
        tp_ocdbt_manifest_release(&m);
        orbax_close(db);
    }
}

/* ---- trees made by hand ---- */

struct tree { /* files "m" and "a", "b"...: what a test puts together */
    struct orbax_database db;
    struct out body;
};

static void byte(struct out *o, unsigned value)
{
    o->bytes[o->len++] = (uint8_t)value;
}

static void number(struct out *o, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        byte(o, (unsigned)(value & 0x7f) | 0x80u);
    byte(o, (unsigned)value);
}

static void text(struct out *o, const char *s)
{
    memcpy(o->bytes + o->len, s, strlen(s));
    o->len += strlen(s);
}

/* The body in an envelope, as the next file of the database. */
static void add_file(struct tree *t, const char *path, unsigned last_of_magic, unsigned compression)
{
    struct orbax_file *file = &t->db.files[t->db.file_count++];
    snprintf(file->path, sizeof file->path, "%s", path);
    file->len = t->body.len + 18;
    file->bytes = calloc(1, file->len);
    memcpy(file->bytes, last_of_magic == 0x2a ? "\x0c\xdb\x3a\x2a" : "\x0c\xdb\x20\xde", 4);
    file->bytes[13] = (uint8_t)compression;
    memcpy(file->bytes + 14, t->body.bytes, t->body.len);
    set_length(file->bytes, file->len);
    seal(file->bytes, file->len);
    t->body.len = 0;
}

static void one_path(struct out *o, const char *path, size_t base_len)
{
    number(o, 1);
    number(o, strlen(path));
    number(o, base_len);
    text(o, path);
}

/* A manifest whose root is all of `path` (of `len` bytes). */
static void add_manifest(struct tree *t, const char *path, size_t base_len, unsigned height, size_t len, uint64_t keys)
{
    struct out *o = &t->body;
    for (unsigned i = 0; i < 18; i++)
        byte(o, 0); /* uuid, kind, size */
    byte(o, 0);
    byte(o, 4);
    byte(o, 0);
    one_path(o, path, base_len);
    byte(o, 1);
    byte(o, 1);
    byte(o, height);
    byte(o, 0);
    byte(o, 0);
    number(o, len);
    number(o, keys);
    for (unsigned i = 0; i < 2 + 8 + 1; i++)
        byte(o, 0);
    add_file(t, TP_OCDBT_MANIFEST_NAME, 0x2a, 0);
}

/* An inner node with one or two children in files, each the file's whole. */
static void add_inner(struct tree *t, const char *path, unsigned height, const char *child, size_t base_len,
                      size_t child_len, const char *key, unsigned common, uint64_t keys)
{
    struct out *o = &t->body;
    byte(o, height);
    one_path(o, child, base_len);
    number(o, 1);
    number(o, strlen(key));
    number(o, common);
    text(o, key);
    byte(o, 0);
    byte(o, 0);
    number(o, child_len);
    number(o, keys);
    byte(o, 0);
    byte(o, 0);
    add_file(t, path, 0xde, 0);
}

/* A leaf of one key whose value is ten bytes of a file, or, without one, of the text "inline". */
static void add_leaf(struct tree *t, const char *path, const char *key, const char *file)
{
    struct out *o = &t->body;
    byte(o, 0);
    if (file)
        one_path(o, file, 0);
    else
        byte(o, 0);
    number(o, 1);
    number(o, strlen(key));
    text(o, key);
    number(o, file ? 10 : 6);
    byte(o, file != NULL);
    if (file) {
        byte(o, 0);
        number(o, 77);
    } else {
        text(o, "inline");
    }
    add_file(t, path, 0xde, 0);
}

static struct tree *tree_new(void)
{
    struct tree *t = calloc(1, sizeof *t);
    assert_non_null(t);
    return t;
}

static void tree_free(struct tree *t)
{
    for (size_t i = 0; i < t->db.file_count; i++)
        free(t->db.files[i].bytes);
    free(t);
}

/* The manifest must be the first file: it is made last, since it knows the root's length. */
static enum tp_status tree_walk(struct tree *t, struct tp_error *err)
{
    struct orbax_file manifest = t->db.files[t->db.file_count - 1];
    memmove(t->db.files + 1, t->db.files, (t->db.file_count - 1) * sizeof manifest);
    t->db.files[0] = manifest;
    memcpy(t->db.name, "none", 5); /* and no other files */
    return orbax_walk(&t->db, err);
}

static size_t last_len(const struct tree *t)
{
    return t->db.files[t->db.file_count - 1].len;
}

static void nodes_inherit_the_base_path_of_the_file_they_lie_in(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    struct tp_error err;
    add_leaf(t, "one/two/n", "c/0", "x"); /* inherits one/, then two/ */
    add_inner(t, "one/r", 1, "two/n", 4, last_len(t), "abc", 2, 1);
    add_manifest(t, "one/r", 4, 1, last_len(t), 1);
    if (tree_walk(t, &err))
        fail_msg("%s", err.message);
    assert_string_equal(t->db.text, "abc/0\tone/two/x\t77\t10\n");
    tree_free(t);
}

static void trees_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned root_height, node_height; /* the manifest's word, the node's */
        const char *key, *child_key, *message;
        unsigned common;
        uint64_t manifest_keys, node_keys;
    } rows[] = {
        {1, 1, "ab", "b", NULL, 1, 1, 1}, /* this one is fine */
        {1, 1, "ab", "a", "its key 'aa' does not belong there", 1, 1, 1},
        {2, 1, "ab", "b", "it has height 1, expected 2", 1, 1, 1},
        {1, 2, "ab", "b", "it has height 2, expected 1", 1, 1, 1},
        {0, 1, "ab", "b", "it has height 1, expected 0", 1, 1, 1},
        {2, 2, "ab", "b", "it has height 0, expected 1", 1, 1, 1},
        {1, 1, "ab", "b", "the value of 'ab' is a node whose keys lack more than the whole key", 3, 1, 1},
        {1, 1, "ab", "b", "1 keys in it and below, expected 2", 1, 1, 2},
        {1, 1, "ab", "b", "1 keys in it and below, expected 2", 1, 2, 1},
        {17, 17, "ab", "b", "height 17", 1, 1, 1},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tree *t = tree_new();
        struct tp_error err;
        add_leaf(t, "n", rows[i].child_key, NULL);
        add_inner(t, "r", rows[i].node_height, "n", 0, last_len(t), rows[i].key, rows[i].common, rows[i].node_keys);
        add_manifest(t, "r", 0, rows[i].root_height, last_len(t), rows[i].manifest_keys);
        enum tp_status status = tree_walk(t, &err);
        if (rows[i].message ? !status || !strstr(err.message, rows[i].message) : status)
            fail_msg("row %zu: %s", i, status ? err.message : "accepted");
        tree_free(t);
    }
}

static void a_node_that_is_its_own_child_is_refused(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    struct tp_error err;
    add_inner(t, "r", 1, "r", 0, 33, "a", 0, 1);
    assert_int_equal(last_len(t), 33); /* so that the reference is right */
    add_manifest(t, "r", 0, 1, 33, 1);
    assert_int_equal(tree_walk(t, &err), TP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "it has height 1, expected 0"));
    tree_free(t);
}

static void hostile_paths_are_refused_and_shown_harmlessly(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"../x", "'../x'"},   {"/etc/passwd", "'/etc/passwd'"}, {"a/\x1b[2J", NULL},
        {"a/./b", "'a/./b'"}, {"x.__lock", "'x.__lock'"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tree *t = tree_new();
        struct tp_error err = {.message = ""};
        add_leaf(t, "n", "k", rows[i][0]);
        add_manifest(t, "n", 0, 0, last_len(t), 1);
        enum tp_status status = tree_walk(t, &err);
        assert_int_equal(status, rows[i][1] ? TP_ERR_FORMAT : TP_OK); /* an odd name is a name */
        if (rows[i][1])
            assert_non_null(strstr(err.message, rows[i][1]));
        tree_free(t);
    }
    struct tree *t = tree_new();
    struct tp_error err;
    add_leaf(t, "n", "k", "..\x1b[2J/../x");
    add_manifest(t, "n", 0, 0, last_len(t), 1);
    assert_int_equal(tree_walk(t, &err), TP_ERR_FORMAT);
    assert_null(strchr(err.message, '\x1b'));
    tree_free(t);
}

static void numbered_manifests_and_unknown_compression_are_refused_by_name(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    struct tp_error err;
    add_leaf(t, "n", "k", NULL);
    add_manifest(t, "n", 0, 0, last_len(t), 1);
    struct orbax_file *manifest = &t->db.files[1];
    manifest->bytes[14 + 16] = 1;
    seal(manifest->bytes, manifest->len);
    assert_int_equal(tree_walk(t, &err), TP_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "manifest.ocdbt: manifest kind 1 (numbered files), only 0 (single) is read");
    manifest = &t->db.files[0];
    manifest->bytes[14 + 16] = 0;
    manifest->bytes[13] = 2;
    seal(manifest->bytes, manifest->len);
    assert_int_equal(orbax_walk(&t->db, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "compression method 2"));
    manifest->bytes[13] = 0;
    manifest->bytes[12] = 1;
    seal(manifest->bytes, manifest->len);
    assert_int_equal(orbax_walk(&t->db, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "version 1"));
    tree_free(t);
}

/* More zeros than a node may have, in a few kilobytes. */
static void a_zstd_bomb_is_refused(void **state)
{
    (void)state;
    struct tree *t = tree_new();
    struct tp_error err;
    ZSTD_CCtx *context = ZSTD_createCCtx();
    uint8_t *zeros = calloc(1, 1 << 20);
    ZSTD_outBuffer out = {t->body.bytes, sizeof t->body.bytes - 64, 0};
    for (size_t done = 0; done <= TP_OCDBT_NODE_MAX; done += 1 << 20) {
        ZSTD_inBuffer in = {zeros, 1 << 20, 0};
        ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue);
        assert_int_equal(in.pos, in.size);
    }
    ZSTD_inBuffer none = {zeros, 0, 0};
    assert_int_equal(ZSTD_compressStream2(context, &out, &none, ZSTD_e_end), 0);
    ZSTD_freeCCtx(context);
    free(zeros);
    t->body.len = out.pos;
    add_file(t, "n", 0xde, 1);
    add_manifest(t, "n", 0, 0, last_len(t), 1);
    assert_int_equal(tree_walk(t, &err), TP_ERR_LIMIT);
    assert_string_equal(err.message, "OCDBT node at byte 0: it decompresses to more than 268435456 bytes");
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(databases_hold_what_an_independent_reader_found),
        cmocka_unit_test(the_newest_of_several_versions_is_read),
        cmocka_unit_test(a_database_whose_keys_were_deleted_is_empty),
        cmocka_unit_test(what_was_read_is_written_with_the_same_bytes),
        cmocka_unit_test(many_entries_make_a_root_over_leaves_that_read_back),
        cmocka_unit_test(what_cannot_be_written_is_refused_by_name),
        cmocka_unit_test(only_plain_paths_at_or_below_the_folder_are_safe),
        cmocka_unit_test(every_flipped_byte_is_noticed),
        cmocka_unit_test(every_flipped_byte_with_a_right_sum_is_harmless),
        cmocka_unit_test(a_manifest_of_any_other_length_is_refused),
        cmocka_unit_test(a_node_of_any_other_length_is_refused),
        cmocka_unit_test(nodes_inherit_the_base_path_of_the_file_they_lie_in),
        cmocka_unit_test(trees_that_contradict_themselves_are_refused),
        cmocka_unit_test(a_node_that_is_its_own_child_is_refused),
        cmocka_unit_test(hostile_paths_are_refused_and_shown_harmlessly),
        cmocka_unit_test(numbered_manifests_and_unknown_compression_are_refused_by_name),
        cmocka_unit_test(a_zstd_bomb_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
