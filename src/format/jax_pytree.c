/* SPDX-License-Identifier: MIT */
/* The directories of jax.experimental.array_serialization.pytree_serialization (docs/formats/jax.md): pytreedef.json
 * has the tree, array_store/ a store of its leaves by number. */
#include "format/jax_pytree.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "checkpoint/describe.h"

enum small_kind { SMALL_NODES, SMALL_MANIFEST, SMALL_TREE };

/* ---- what it cannot hold ---- */

static bool is_text(const char *text, size_t len)
{
    uint32_t c;
    size_t used;
    for (size_t i = 0; i < len; i += used)
        if ((used = tp_utf8_decode(text + i, len - i, &c)) == 0)
            return false;
    return true;
}

static const char *array_fault(const struct tp_plan *plan, const struct tp_array *a)
{
    if (!is_text(a->path, a->path_len))
        return "not UTF-8";
    if (plan->ordered && memchr(a->path, '\0', a->path_len))
        return "several keys, where leaves have an order of their own and one key each";
    return tp_store_fault(a);
}

static enum tp_status check_arrays(const struct tp_plan *plan, struct tp_error *err)
{
    struct tp_name_list faults = {.count = 0};
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        char name[TP_NAME_MAX_BYTES + 1], shown[TP_NAME_TEXT], line[TP_NAME_TEXT + 80];
        const char *fault = array_fault(plan, a);
        if (!fault)
            continue;
        tp_path_join_keys(name, a->path, a->path_len, '.');
        snprintf(line, sizeof line, "'%s' (%s)", tp_describe_name(shown, name, a->path_len), fault);
        tp_name_list_add(&faults, line);
    }
    return faults.count == 0 ? TP_OK
                             : tp_fail(err, TP_ERR_UNSUPPORTED, "%zu arrays cannot be held by a directory of JAX: %s",
                                       faults.count, tp_name_list_text(&faults));
}

/* Keys joined by dots. */
static int by_name(const void *x, const void *y)
{
    const struct tp_array *a = *(const struct tp_array *const *)x, *b = *(const struct tp_array *const *)y;
    size_t len = a->path_len < b->path_len ? a->path_len : b->path_len;
    for (size_t i = 0; i < len; i++) {
        unsigned char p = a->path[i] ? (unsigned char)a->path[i] : '.',
                      q = b->path[i] ? (unsigned char)b->path[i] : '.';
        if (p != q)
            return p < q ? -1 : 1;
    }
    return (a->path_len > b->path_len) - (a->path_len < b->path_len);
}

/* JAX would hold {"a.b": x} beside {"a": {"b": y}}; whoever names arrays by joined keys could not tell them apart. */
static enum tp_status check_names(const struct tp_plan *plan, struct tp_error *err)
{
    struct tp_name_list twice = {.count = 0};
    const struct tp_array **sorted = malloc((plan->array_count + 1) * sizeof *sorted);
    if (!sorted)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < plan->array_count; i++)
        sorted[i] = &plan->arrays[i];
    qsort(sorted, plan->array_count, sizeof *sorted, by_name);
    for (size_t i = 1; i < plan->array_count; i++) {
        char name[TP_NAME_MAX_BYTES + 1];
        if (by_name(&sorted[i - 1], &sorted[i]) != 0)
            continue;
        tp_path_join_keys(name, sorted[i]->path, sorted[i]->path_len, '.');
        tp_name_list_add(&twice, name);
    }
    free(sorted);
    return twice.count == 0 ? TP_OK
                            : tp_fail(err, TP_ERR_UNSUPPORTED, "%zu arrays have the name of another: %s", twice.count,
                                      tp_name_list_text(&twice));
}

static enum tp_status check(const struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err)
{
    if (options->orbax.zero_copy && options->orbax.link == TP_LINK_IN_PLACE)
        return tp_fail(err, TP_ERR_USAGE,
                       "--link in-place is for --format orbax: JAX looks for arrays in a folder "
                       "of its own");
    if (plan->array_count == 0)
        return tp_fail(err, TP_ERR_UNSUPPORTED, "there are no tensors");
    enum tp_status st = check_arrays(plan, err);
    return st ? st : check_names(plan, err);
}

static bool can_link(const char *name)
{
    return tp_ocdbt_path_is_safe(name, strlen(name)) && strcmp(name, TP_OCDBT_MANIFEST_NAME) != 0 &&
           strcmp(name, "d") != 0 && strncmp(name, "d/", 2) != 0;
}

/* ---- leaves ---- */

static enum tp_status number_leaves(struct tp_store *store, struct tp_plan *plan, bool wants_lists,
                                    struct tp_error *err)
{
    uint32_t *numbers = tp_arena_alloc(&plan->arena, plan->array_count * sizeof *numbers);
    uint32_t *by_number = tp_arena_alloc(&plan->arena, plan->array_count * sizeof *by_number);
    struct tp_key_tree tree = {.count = 0};
    enum tp_status st = numbers && by_number ? TP_OK : tp_fail_nomem(err);
    if (!st && !plan->ordered)
        st = tp_key_tree_build(&tree, plan, wants_lists, false, err);
    if (!st) {
        tp_key_tree_sort_dicts(&tree);
        for (uint32_t i = 0; i < plan->array_count; i++) {
            by_number[i] = plan->ordered ? i : (uint32_t)(tree.leaves[i].array - plan->arrays);
            numbers[by_number[i]] = i;
        }
        store->numbers = numbers;
        store->by_number = by_number;
    }
    tp_key_tree_release(&tree);
    return st;
}

/* ---- notes ---- */

static enum tp_status note_wide(struct tp_plan *plan, struct tp_error *err)
{
    static const enum tp_dtype wide[] = {TP_I64, TP_U64, TP_F64};
    struct tp_name_list names = {.count = 0};
    for (size_t i = 0; i < plan->array_count; i++)
        for (size_t k = 0; k < TP_COUNT_OF(wide); k++)
            if (plan->arrays[i].dtype == wide[k]) {
                char name[TP_NAME_MAX_BYTES + 1];
                tp_path_join_keys(name, plan->arrays[i].path, plan->arrays[i].path_len, '.');
                tp_name_list_add(&names, name);
            }
    if (names.count == 0)
        return TP_OK;
    return tp_list_add(&plan->notes,
                       "%zu arrays have 64-bit numbers, which JAX cuts to 32 bits without a word unless "
                       "jax_enable_x64 is set: %s",
                       names.count, tp_name_list_text(&names))
               ? TP_OK
               : tp_fail_nomem(err);
}

/* ---- layout ---- */

static enum tp_status add_small_files(struct tp_store *store, struct tp_plan *plan, struct tp_error *err)
{
    const char *node = tp_store_path(store, plan, store->node_path);
    const char *manifest = tp_store_path(store, plan, TP_OCDBT_MANIFEST_NAME);
    bool ok = node && manifest && tp_plan_add_small(plan, node, SMALL_NODES, 0, false) &&
              tp_plan_add_small(plan, manifest, SMALL_MANIFEST, 0, false) &&
              tp_plan_add_small(plan, TP_JAX_TREE_NAME, SMALL_TREE, 0, false);
    return ok ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status layout(struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err)
{
    enum tp_status st = check(plan, options, err);
    if (st)
        return st;
    struct tp_store *store = plan->leaves = calloc(1, sizeof *store);
    if (!store)
        return tp_fail_nomem(err);
    store->folder = TP_JAX_STORE_NAME "/";
    store->folder_len = strlen(store->folder);
    store->version = 3;
    store->has_database = true;
    store->can_link = can_link;
    st = number_leaves(store, plan, options->tree == TP_TREE_LISTS, err);
    if (!st)
        st = tp_store_lay_out(store, plan, options, err);
    if (!st)
        st = add_small_files(store, plan, err);
    return st ? st : note_wide(plan, err);
}

static enum tp_status write_small(const struct tp_plan *plan, const struct tp_small_file *file,
                                  const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                  struct tp_error *err)
{
    switch ((enum small_kind)file->kind) {
    case SMALL_NODES:
        return tp_store_write_nodes(plan, write, user, err);
    case SMALL_MANIFEST:
        return tp_store_write_manifest(plan, facts->time_ns, write, user, err);
    case SMALL_TREE:
        return tp_jax_write_tree(plan, facts->options->tree == TP_TREE_LISTS, write, user, err);
    }
    return tp_fail(err, TP_ERR_BUG, "no small file of kind %" PRIu32, file->kind);
}

const struct tp_format tp_format_jax_pytree = {
    .name = "jax-pytree",
    .attributes = TP_JAX_STORE_NAME "/d/* filter=lfs diff=lfs merge=lfs -text\n" TP_JAX_STORE_NAME
                                    "/*.safetensors filter=lfs diff=lfs merge=lfs -text\n" TP_JAX_STORE_NAME
                                    "/*.msgpack filter=lfs diff=lfs merge=lfs -text\n"
                                    "manifest.ocdbt -text\n",
    .layout = layout,
    .frame = tp_store_frame,
    .write_small = write_small,
};
