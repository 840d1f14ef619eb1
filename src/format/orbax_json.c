/* SPDX-License-Identifier: MIT */
/* The metadata that Orbax itself reads: the tree of keys, and the handlers. */
#include <string.h>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "format/key_tree.h"
#include "format/orbax.h"
#include "tensorport/tensorport.h"

#define KEY_LIST 1u /* Orbax's key_type */
#define KEY_DICT 2u

/* ---- names, as Python's repr of a tuple of strings has them ---- */

#define TUPLE_MAX (4 * (TP_NAME_MAX_BYTES + TP_TREE_DEPTH_MAX) + 8)

static size_t put_repr(char *dst, const char *key, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char quote = memchr(key, '\'', len) && !memchr(key, '"', len) ? '"' : '\'';
    size_t used = 0;
    dst[used++] = quote;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)key[i];
        const char *named = c == '\n' ? "n" : c == '\r' ? "r" : c == '\t' ? "t" : NULL;
        if (c == '\\' || c == (unsigned char)quote || named)
            dst[used++] = '\\';
        if (c >= ' ' && c != 0x7f) {
            dst[used++] = (char)c;
        } else if (named) {
            dst[used++] = *named;
        } else {
            const char escaped[] = {'\\', 'x', digits[c >> 4], digits[c & 15]};
            memcpy(dst + used, escaped, sizeof escaped);
            used += sizeof escaped;
        }
    }
    dst[used++] = quote;
    return used;
}

static size_t put_tuple(char dst[TUPLE_MAX], const struct tp_array *a)
{
    size_t used = 0, keys = 0;
    dst[used++] = '(';
    for (size_t at = 0; at <= a->path_len; at += tp_key_length(a, at) + 1, keys++) {
        if (keys > 0) {
            dst[used++] = ',';
            dst[used++] = ' ';
        }
        used += put_repr(dst + used, a->path + at, tp_key_length(a, at));
    }
    if (keys == 1)
        dst[used++] = ',';
    dst[used++] = ')';
    return used;
}

/* ---- _METADATA ---- */

static void put_leaf(struct tp_json_writer *w, const struct tp_leaf *leaf)
{
    const struct tp_array *a = leaf->array;
    char tuple[TUPLE_MAX];
    unsigned depth = 0;
    tp_json_newline(w);
    tp_json_key_len(w, tuple, put_tuple(tuple, a));
    tp_json_begin_object(w);
    tp_json_key(w, "key_metadata");
    tp_json_begin_array(w);
    for (size_t at = 0; at <= a->path_len; at += tp_key_length(a, at) + 1, depth++) {
        tp_json_begin_object(w);
        tp_json_key(w, "key");
        tp_json_string(w, a->path + at, tp_key_length(a, at));
        tp_json_key(w, "key_type");
        tp_json_uint(w, tp_leaf_is_list(leaf, depth) ? KEY_LIST : KEY_DICT);
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
    tp_json_key(w, "value_metadata");
    tp_json_begin_object(w);
    tp_json_key(w, "value_type");
    /* jax.Array would want a sharding where no target is given */
    tp_json_cstring(w, leaf->is_none ? "None" : "np.ndarray");
    tp_json_key(w, "skip_deserialize");
    tp_json_bool(w, leaf->is_none);
    tp_json_end_object(w);
    tp_json_end_object(w);
}

static void put_digest(struct tp_json_writer *w, const char *key, const struct tp_digest *digest)
{
    char hex[TP_DIGEST_HEX];
    tp_digest_print(hex, digest);
    tp_json_key(w, key);
    tp_json_cstring(w, hex);
}

/* What the checkpoint was made of. A reader can tell from it that a file it refers to is no longer what it was. */
static void put_source(struct tp_json_writer *w, const struct tp_plan *plan, const struct tp_format_facts *facts)
{
    tp_json_begin_object(w);
    tp_json_key(w, "tensorport");
    tp_json_begin_object(w);
    tp_json_key(w, "version");
    tp_json_cstring(w, TP_VERSION);
    tp_json_key(w, "source");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_file_count(plan->source); i++) {
        const struct tp_file_info *file = tp_checkpoint_file(plan->source, i);
        tp_json_begin_object(w);
        tp_json_key(w, "name");
        tp_json_cstring(w, file->name);
        tp_json_key(w, "size");
        tp_json_uint(w, file->size_bytes);
        if (facts->source_prints) {
            put_digest(w, "header_xxh3", &facts->source_prints[i].header);
            put_digest(w, "sample_xxh3", &facts->source_prints[i].sample);
        }
        if (facts->source_sha256 && facts->source_sha256[i][0]) {
            tp_json_key(w, "sha256");
            tp_json_cstring(w, facts->source_sha256[i]);
        }
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
    tp_json_end_object(w);
    tp_json_end_object(w);
}

static void put_tree(struct tp_json_writer *w, const struct tp_key_tree *tree)
{
    tp_json_begin_object(w);
    for (size_t i = 0; i < tree->count; i++)
        put_leaf(w, &tree->leaves[i]);
    tp_json_end_object(w);
}

enum tp_status tp_orbax_write_tree(const struct tp_plan *plan, const struct tp_format_facts *facts,
                                   tp_json_write_fn write, void *user, struct tp_error *err)
{
    const struct tp_store *store = plan->leaves;
    struct tp_json_writer w;
    struct tp_key_tree tree;
    enum tp_status st = tp_key_tree_build(&tree, plan, facts->options->tree == TP_TREE_LISTS, true, err);
    if (st) {
        tp_key_tree_release(&tree);
        return st;
    }
    tp_json_writer_init(&w, write, user, err);
    tp_json_begin_object(&w);
    tp_json_key(&w, "tree_metadata");
    put_tree(&w, &tree);
    tp_json_key(&w, "use_ocdbt");
    tp_json_bool(&w, store->has_database);
    tp_json_key(&w, "use_zarr3");
    tp_json_bool(&w, store->version == 3);
    tp_json_key(&w, "store_array_data_equal_to_fill_value"); /* so a chunk that is missing is an error, not zeros */
    tp_json_bool(&w, true);
    tp_json_key(&w, "custom_metadata");
    put_source(&w, plan, facts);
    tp_json_end_object(&w);
    tp_key_tree_release(&tree);
    return tp_json_writer_finish(&w);
}

/* ---- _CHECKPOINT_METADATA ---- */

#define HANDLERS "orbax.checkpoint._src.handlers."
#define STANDARD HANDLERS "standard_checkpoint_handler.StandardCheckpointHandler"
#define PYTREE HANDLERS "pytree_checkpoint_handler.PyTreeCheckpointHandler"
#define PYTREE_V1 "orbax.checkpoint.experimental.v1._src.handlers.pytree_handler.PyTreeHandler"

static void put_handlers(struct tp_json_writer *w, const struct tp_orbax_options *options)
{
    const char *item = tp_orbax_item(options);
    if (!item) {
        tp_json_cstring(w, STANDARD);
        return;
    }
    tp_json_begin_object(w);
    tp_json_key(w, item);
    if (options->layout == TP_ORBAX_V1)
        tp_json_cstring(w, PYTREE_V1);
    else
        tp_json_cstring(w, strcmp(item, "default") == 0 ? STANDARD : PYTREE);
    tp_json_end_object(w);
}

static void put_empty(struct tp_json_writer *w, const char *key)
{
    tp_json_key(w, key);
    tp_json_begin_object(w);
    tp_json_end_object(w);
}

enum tp_status tp_orbax_write_handlers(const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                       struct tp_error *err)
{
    struct tp_json_writer w;
    tp_json_writer_init(&w, write, user, err);
    tp_json_begin_object(&w);
    tp_json_key(&w, "item_handlers");
    put_handlers(&w, &facts->options->orbax);
    put_empty(&w, "metrics");
    put_empty(&w, "performance_metrics");
    tp_json_key(&w, "init_timestamp_nsecs");
    tp_json_uint(&w, (uint64_t)facts->time_ns);
    tp_json_key(&w, "commit_timestamp_nsecs");
    tp_json_uint(&w, (uint64_t)facts->time_ns);
    put_empty(&w, "custom_metadata");
    tp_json_end_object(&w);
    return tp_json_writer_finish(&w);
}
