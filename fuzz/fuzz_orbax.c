/* SPDX-License-Identifier: MIT */
/* Orbax checkpoints: the tree's JSON, zarr metadata, and the database of keys. Checksums and lengths would stop blind
 * changes at once, so the database is built here from the input by our own writer, then bytes of it are changed and its
 * checksums made right again. Without a database the same arrays are files of plain zarr. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/crc32c.h"
#include "codec/ocdbt.h"
#include "fuzz.h"

#define ENTRIES_MAX 40u
#define FILE_MAX ((size_t)16 << 10)
#define NODE_NAME "node"

struct entry {
    char key[64];
    char text[512]; /* inline; else in the data file */
    size_t len;
    bool is_inline;
    uint64_t offset, size;
};

struct database {
    struct entry entries[ENTRIES_MAX];
    size_t count;
};

struct buffer {
    uint8_t bytes[FILE_MAX];
    size_t used;
};

static const char *const files[] = {"data"};

static enum tp_status append(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    struct buffer *b = user;
    if (len > sizeof b->bytes - b->used)
        return tp_fail(err, TP_ERR_LIMIT, "full");
    memcpy(b->bytes + b->used, bytes, len);
    b->used += len;
    return TP_OK;
}

static const char *key_of(void *user, uint64_t i, size_t *len)
{
    const struct database *d = user;
    *len = strlen(d->entries[i].key);
    return d->entries[i].key;
}

static void value_of(void *user, uint64_t i, struct tp_ocdbt_value *value)
{
    const struct entry *e = &((const struct database *)user)->entries[i];
    *value = e->is_inline ? (struct tp_ocdbt_value){.bytes = e->text, .size = e->len}
                          : (struct tp_ocdbt_value){.size = e->size, .offset = e->offset};
}

/* ---- what is stored ---- */

static uint64_t number(struct fuzz_bytes *in)
{
    static const uint64_t odd[] = {0, 1, 255, 65536, UINT64_C(1) << 32, UINT64_C(1) << 62, INT64_MAX};
    return fuzz_rarely(in, 16) ? odd[fuzz_choice(in, TP_COUNT_OF(odd))] : fuzz_choice(in, 9);
}

/* "[2,3]", from the input or from `like`, changed here and there. */
static void put_sizes(char *dst, size_t cap, struct fuzz_bytes *in, uint64_t *sizes, unsigned rank,
                      const uint64_t *like)
{
    size_t used = (size_t)snprintf(dst, cap, "[");
    for (unsigned i = 0; i < rank; i++) {
        sizes[i] = like && !fuzz_rarely(in, 8) ? like[i] : number(in);
        used += (size_t)snprintf(dst + used, cap - used, "%s%llu", i ? "," : "", (unsigned long long)sizes[i]);
    }
    snprintf(dst + used, cap - used, "]");
}

static size_t put_zarr(char *dst, size_t cap, struct fuzz_bytes *in, bool v3, uint64_t *shape, uint64_t *chunk,
                       unsigned rank)
{
    static const char *const types2[] = {"<f4", "bfloat16", "|u1", "<i8", "float8_e4m3fn", "|b1", "<c8", ">f4", "x"};
    static const char *const types3[] = {"float32", "bfloat16", "uint8", "int64", "float8_e4m3fn", "bool", "r8"};
    static const char *const zstd2[] = {"null", "{\"id\":\"zstd\",\"level\":1}", "{\"id\":\"blosc\"}"};
    static const char *const codecs3[] = {
        "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}",
        "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}},{\"name\":\"zstd\",\"configuration\":{"
        "\"level\":1,"
        "\"checksum\":false}}",
        "{\"name\":\"transpose\",\"configuration\":{\"order\":[1,0]}},{\"name\":\"bytes\",\"configuration\":{"
        "\"endian\":"
        "\"little\"}}",
        "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}},{\"name\":\"crc32c\"}"};
    char s[160], c[160];
    put_sizes(s, sizeof s, in, shape, rank, NULL);
    put_sizes(c, sizeof c, in, chunk, rank, shape);
    int len;
    if (!v3)
        len = snprintf(
            dst, cap,
            "{\"chunks\":%s,\"compressor\":%s,\"dimension_separator\":\".\",\"dtype\":\"%s\",\"fill_value\":null,"
            "\"filters\":null,\"order\":\"%s\",\"shape\":%s,\"zarr_format\":2}",
            c, zstd2[fuzz_choice(in, TP_COUNT_OF(zstd2))], types2[fuzz_choice(in, TP_COUNT_OF(types2))],
            fuzz_choice(in, 2) ? "F" : "C", s);
    else
        len = snprintf(
            dst, cap,
            "{\"zarr_format\":3,\"node_type\":\"array\",\"shape\":%s,\"data_type\":\"%s\",\"fill_value\":0,"
            "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":%s}},\"chunk_key_encoding\":"
            "{\"name\":\"default\",\"configuration\":{\"separator\":\"/\"}},\"codecs\":[%s]}",
            s, types3[fuzz_choice(in, TP_COUNT_OF(types3))], c, codecs3[fuzz_choice(in, TP_COUNT_OF(codecs3))]);
    return len < 0 ? 0 : (size_t)len < cap ? (size_t)len : cap - 1;
}

static struct entry *add_entry(struct database *d, const char *key)
{
    if (d->count == ENTRIES_MAX)
        return NULL;
    struct entry *e = &d->entries[d->count++];
    *e = (struct entry){.is_inline = true};
    snprintf(e->key, sizeof e->key, "%s", key);
    return e;
}

static void add_chunk(struct database *d, struct fuzz_bytes *in, const char *key, uint64_t bytes)
{
    struct entry *e = add_entry(d, key);
    if (!e)
        return;
    e->is_inline = fuzz_choice(in, 3) == 2 && bytes <= sizeof e->text;
    e->len = fuzz_rarely(in, 8) ? fuzz_choice(in, 200) : (size_t)bytes;
    e->offset = fuzz_choice(in, 200) * (fuzz_rarely(in, 16) ? UINT64_C(1) << 50 : 1);
    e->size = fuzz_rarely(in, 8) ? number(in) : bytes;
    if (e->size >= UINT64_C(1) << 62)
        e->size = 1;
}

static void add_array(struct database *d, struct fuzz_bytes *in, char name, bool v3)
{
    char key[64];
    uint64_t shape[4], chunk[4], volume = 4;
    unsigned rank = (unsigned)fuzz_choice(in, 4);
    snprintf(key, sizeof key, "%c/%s", name, v3 ? "zarr.json" : ".zarray");
    struct entry *e = add_entry(d, key);
    if (!e)
        return;
    e->len = put_zarr(e->text, sizeof e->text, in, v3, shape, chunk, rank);
    for (unsigned i = 0; i < rank; i++)
        volume *= chunk[i] < 64 ? chunk[i] : 1;
    for (size_t n = fuzz_choice(in, 6); n > 0; n--) {
        int used = snprintf(key, sizeof key, "%c/%s", name, v3 ? "c" : rank ? "" : "0");
        for (unsigned i = 0; i < rank; i++)
            used += snprintf(key + used, sizeof key - (size_t)used, "%s%zu",
                             v3  ? "/"
                             : i ? "."
                                 : "",
                             fuzz_choice(in, 3));
        add_chunk(d, in, key, volume >> fuzz_choice(in, 3));
    }
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static void sort_entries(struct database *d)
{
    size_t kept = 0;
    qsort(d->entries, d->count, sizeof *d->entries, by_key);
    for (size_t i = 0; i < d->count; i++)
        if (kept == 0 || strcmp(d->entries[kept - 1].key, d->entries[i].key) != 0)
            d->entries[kept++] = d->entries[i];
    d->count = kept;
}

/* ---- files ---- */

/* Change some bytes behind the envelope and make the checksum right again. */
static void change(struct buffer *b, struct fuzz_bytes *in)
{
    for (size_t n = fuzz_rarely(in, 3) ? fuzz_choice(in, 4) : 0; n > 0 && b->used > 20; n--)
        b->bytes[12 + fuzz_number(in, 2) % (b->used - 16)] ^= (uint8_t)fuzz_number(in, 1);
    if (b->used < 4)
        return;
    uint32_t crc = tp_crc32c(0, b->bytes, b->used - 4);
    for (unsigned i = 0; i < 4; i++)
        b->bytes[b->used - 4 + i] = (uint8_t)(crc >> (8 * i));
}

static bool put_database(const struct database *d, struct fuzz_bytes *in)
{
    static struct buffer nodes, manifest;
    static const uint8_t uuid[16] = {0};
    struct tp_ocdbt_tree tree;
    struct tp_error err = {.code = TP_OK};
    struct tp_ocdbt_source source = {.user = (void *)(uintptr_t)d,
                                     .count = d->count,
                                     .key = key_of,
                                     .value = value_of,
                                     .files = files,
                                     .file_count = 1,
                                     .leaf_entries = fuzz_choice(in, 3) ? 0 : 2};
    nodes.used = manifest.used = 0;
    if (tp_ocdbt_measure(&tree, &source, NODE_NAME, &err) ||
        tp_ocdbt_write_nodes(&source, NODE_NAME, append, &nodes, &err) ||
        tp_ocdbt_write_manifest(&tree, NODE_NAME, uuid, 1, append, &manifest, &err))
        return false;
    if (source.leaf_entries == 0) /* several nodes have several checksums */
        change(&nodes, in);
    change(&manifest, in);
    fuzz_put(NODE_NAME, nodes.bytes, nodes.used, 0);
    fuzz_put(TP_OCDBT_MANIFEST_NAME, manifest.bytes, manifest.used, 0);
    return true;
}

static void put_tree(struct fuzz_bytes *in, size_t arrays, bool v3)
{
    static const char *const types[] = {"np.ndarray", "jax.Array", "scalar", "None", "Dict", "string", "x"};
    char text[2048];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"tree_metadata\":{");
    for (size_t i = 0; i < arrays; i++) {
        const char *type = types[fuzz_rarely(in, 4) ? fuzz_choice(in, TP_COUNT_OF(types)) : 0];
        used +=
            (size_t)snprintf(text + used, sizeof text - used,
                             "%s\"('%c',)\":{\"key_metadata\":[{\"key\":\"%c\",\"key_type\":%zu}],\"value_metadata\":{"
                             "\"value_type\":\"%s\",\"skip_deserialize\":false}}",
                             i ? "," : "", (char)('a' + i), (char)('a' + i), 2 - (size_t)fuzz_rarely(in, 16), type);
    }
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "},\"use_ocdbt\":true,\"use_zarr3\":%s,\"store_array_data_equal_to_fill_value\":%s}",
                             v3 ? "true" : "false", fuzz_choice(in, 2) ? "true" : "false");
    if (fuzz_rarely(in, 6))
        text[fuzz_number(in, 2) % used] = (char)fuzz_number(in, 1);
    fuzz_put("_METADATA", text, used, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct database d;
    static uint8_t payload[600];
    struct fuzz_bytes in = {data, size};
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    bool v3 = fuzz_choice(&in, 2) == 1;
    size_t arrays = 1 + fuzz_choice(&in, 3);
    d.count = 0;
    for (size_t i = 0; i < arrays; i++)
        add_array(&d, &in, (char)('a' + i), v3);
    sort_entries(&d);
    put_tree(&in, arrays, v3);
    fuzz_put("data", payload, sizeof payload, 0);
    if (put_database(&d, &in)) {
        enum tp_status status = tp_checkpoint_open(&ck, fuzz_folder(), NULL, &err);
        if (status)
            fuzz_check_error(status, &err);
        else
            fuzz_check_checkpoint(ck);
        tp_checkpoint_close(ck);
    }
    fuzz_clear();
    return 0;
}
