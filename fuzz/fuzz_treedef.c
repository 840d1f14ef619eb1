/* SPDX-License-Identifier: MIT */
/* Directories of JAX: the flatbuffer of the tree (as it comes, or built here and changed), its base64 in
 * pytreedef.json, and whole directories with a database of leaves. What the builder makes is read back leaf by leaf. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codec/base64.h"
#include "codec/ocdbt.h"
#include "codec/treedef.h"
#include "fuzz.h"

#define LEAVES_MAX 200u
#define DEPTH_MAX 8u
#define STORED_MAX 6u /* leaves that have an array */

static enum tp_status count_leaf(void *user, const char *name, size_t len, struct tp_error *err)
{
    size_t *count = user;
    FUZZ_CHECK(strlen(name) == len && len <= TP_NAME_MAX_BYTES);
    return ++*count > 4 * LEAVES_MAX ? tp_fail(err, TP_ERR_LIMIT, "enough") : TP_OK;
}

static void read_structure(const uint8_t *bytes, size_t len, size_t *count)
{
    const struct tp_treedef_visitor visitor = {count, count_leaf};
    struct tp_error err = {.code = TP_OK};
    *count = 0;
    enum tp_status status = tp_treedef_read(bytes, len, &visitor, &err);
    if (status) {
        fuzz_check_error(status, &err);
        *count = SIZE_MAX;
    }
}

/* ---- trees ---- */

static const char *const keys[] = {
    "a", "b", "layers", "0", "1", "10", "\xc3\xa9", "", "x.y", "q\"\\", "weights.layers[0].q"};

/* A node and all below it. */
static uint32_t build(struct tp_treedef_builder *b, struct fuzz_bytes *in, unsigned depth, size_t *leaves)
{
    static const enum tp_treedef_kind kinds[] = {TP_TREEDEF_LEAF, TP_TREEDEF_DICT, TP_TREEDEF_LIST, TP_TREEDEF_CUSTOM};
    struct tp_treedef_child children[TP_COUNT_OF(keys)];
    size_t count = 0, k = fuzz_choice(in, TP_COUNT_OF(kinds));
    if (k == 0 || depth == DEPTH_MAX || *leaves >= LEAVES_MAX) {
        ++*leaves;
        return tp_treedef_add(b, TP_TREEDEF_LEAF, NULL, 0);
    }
    for (size_t i = fuzz_choice(in, TP_COUNT_OF(keys)); i < TP_COUNT_OF(keys) && count < 5;
         i += 1 + fuzz_choice(in, 3), count++) {
        children[count] = (struct tp_treedef_child){.key = keys[i], .key_len = (uint32_t)strlen(keys[i])};
        children[count].node = build(b, in, depth + 1, leaves);
    }
    return tp_treedef_add(b, kinds[k], children, count);
}

static void change(uint8_t *bytes, size_t len, struct fuzz_bytes *in)
{
    for (size_t n = fuzz_choice(in, 4); n > 0 && len > 0; n--)
        bytes[fuzz_number(in, 2) % len] ^= (uint8_t)fuzz_number(in, 1);
}

/* ---- directories ---- */

struct buffer {
    char bytes[16 << 10];
    size_t used;
};

static enum tp_status append(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    struct buffer *b = user;
    if (len > sizeof b->bytes - b->used)
        return tp_fail(err, TP_ERR_LIMIT, "full");
    memcpy(b->bytes + b->used, bytes, len);
    b->used += len;
    return TP_OK;
}

static void put_text(struct buffer *b, const char *text)
{
    (void)append(b, text, strlen(text), NULL);
}

/* pytreedef.json of a structure; what its leaves are said to be comes from the input. */
static void put_tree(const uint8_t *bytes, size_t len, size_t leaves, struct fuzz_bytes *in)
{
    static struct buffer out;
    static char base64[12 << 10];
    static const char *const texts[] = {"\"Array(float32[1])\"", "null", "\"\"", "\"Array(bfloat16[])\"", "7"};
    out.used = 0;
    if (len > sizeof base64 / 4 * 3 - 3)
        return;
    size_t base64_len = tp_base64_encode(base64, bytes, len);
    put_text(&out, "{\"__jax_pytreedef_repr\": \"");
    (void)append(&out, base64, base64_len, NULL);
    put_text(&out, "\", \"__jax_leaf_ids\": [");
    for (size_t i = 0; i < leaves; i++) {
        put_text(&out, i ? ", " : "");
        put_text(&out, texts[fuzz_rarely(in, 4) ? fuzz_choice(in, TP_COUNT_OF(texts)) : 0]);
    }
    put_text(&out, "]}");
    if (fuzz_rarely(in, 6))
        change((uint8_t *)out.bytes, out.used, in);
    fuzz_put("pytreedef.json", out.bytes, out.used, 0);
}

/* "0/c/0", "0/zarr.json", "1/c/0" ...: in the order of keys. */
static const char *key_of(void *user, uint64_t i, size_t *len)
{
    char *key = user;
    *len = (size_t)snprintf(key, 32, i % 2 ? "%u/zarr.json" : "%u/c/0", (unsigned)(i / 2));
    return key;
}

static void value_of(void *user, uint64_t i, struct tp_ocdbt_value *value)
{
    static const char zarr[] = "{\"chunk_grid\":{\"configuration\":{\"chunk_shape\":[1]},\"name\":\"regular\"},\"chunk_"
                               "key_encoding\":{\"name\":"
                               "\"default\"},\"codecs\":[{\"configuration\":{\"endian\":\"little\"},\"name\":\"bytes\"}"
                               "],\"data_type\":\"float32\","
                               "\"fill_value\":0.0,\"node_type\":\"array\",\"shape\":[1],\"zarr_format\":3}";
    (void)user;
    *value = i % 2 ? (struct tp_ocdbt_value){.bytes = zarr, .size = sizeof zarr - 1}
                   : (struct tp_ocdbt_value){.bytes = zarr, .size = 4};
}

static void put_store(struct fuzz_bytes *in)
{
    static struct buffer nodes, manifest;
    static const uint8_t uuid[16] = {0};
    char key[32];
    struct tp_ocdbt_tree tree;
    const struct tp_ocdbt_source source = {
        .user = key, .count = 2 * (1 + fuzz_choice(in, STORED_MAX)), .key = key_of, .value = value_of};
    nodes.used = manifest.used = 0;
    FUZZ_CHECK(tp_ocdbt_measure(&tree, &source, "node", NULL) == TP_OK);
    FUZZ_CHECK(tp_ocdbt_write_nodes(&source, "node", append, &nodes, NULL) == TP_OK);
    FUZZ_CHECK(tp_ocdbt_write_manifest(&tree, "node", uuid, 1, append, &manifest, NULL) == TP_OK);
    FUZZ_CHECK(mkdir(fuzz_path("array_store"), 0700) == 0);
    fuzz_put("array_store/node", nodes.bytes, nodes.used, 0);
    fuzz_put("array_store/" TP_OCDBT_MANIFEST_NAME, manifest.bytes, manifest.used, 0);
}

static void open_directory(void)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    enum tp_status status = tp_checkpoint_open(&ck, fuzz_folder(), NULL, &err);
    if (status)
        fuzz_check_error(status, &err);
    else
        fuzz_check_checkpoint(ck);
    tp_checkpoint_close(ck);
}

static void run_built(struct fuzz_bytes *in, bool as_directory)
{
    struct tp_treedef_builder b = {.used = 0};
    const uint8_t *bytes;
    size_t len, leaves = 0, found;
    uint32_t root = build(&b, in, 0, &leaves);
    FUZZ_CHECK(tp_treedef_finish(&b, root, &bytes, &len, NULL) == TP_OK);
    read_structure(bytes, len, &found);
    FUZZ_CHECK(found == leaves);
    uint8_t *copy = malloc(len);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, bytes, len);
    change(copy, len, in);
    if (as_directory) {
        put_tree(copy, len, leaves, in);
        put_store(in);
        open_directory();
        fuzz_clear();
    } else {
        read_structure(copy, len, &found);
    }
    free(copy);
    tp_treedef_release(&b);
}

/* Text: what base64 decodes, it encodes again, but for ends of lines. */
static void run_base64(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + 4);
    char *text = malloc(size * 2 + 8);
    size_t len = 0;
    FUZZ_CHECK(bytes && text);
    if (tp_base64_decode(bytes, &len, (const char *)data, size)) {
        FUZZ_CHECK(len <= size / 4 * 3 + 3);
        size_t text_len = tp_base64_encode(text, bytes, len), same = 0;
        for (size_t i = 0; i < size; i++)
            same += data[i] != '\n' && data[i] != '\r';
        FUZZ_CHECK(same == text_len);
        read_structure(bytes, len, &len);
    }
    free(bytes);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    size_t found;
    switch (fuzz_choice(&in, 4)) {
    case 0:
        run_built(&in, true);
        break;
    case 1:
        run_built(&in, false);
        break;
    case 2:
        read_structure(in.at, in.left, &found);
        break;
    default:
        run_base64(in.at, in.left);
        break;
    }
    return 0;
}
