/* SPDX-License-Identifier: MIT */
/* Orbax checkpoints (docs/formats/orbax.md): a store of arrays by name, and around it the files that tell Orbax what
 * they are. */
#include "format/orbax.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

enum small_kind {
    SMALL_NODES,
    SMALL_MANIFEST,
    SMALL_ZARRAY,
    SMALL_TREE,
    SMALL_HANDLERS,
    SMALL_INDICATOR,
    SMALL_COMMIT
};

struct layout {
    struct tp_plan *plan;
    const struct tp_convert_options *options;
    struct tp_store *store;
    struct tp_error *err;
};

/* ---- small files ---- */

static enum tp_status add_small(struct layout *l, const char *name, enum small_kind kind, size_t item)
{
    return name && tp_plan_add_small(l->plan, name, (uint32_t)kind, (uint32_t)item, kind == SMALL_COMMIT)
               ? TP_OK
               : tp_fail_nomem(l->err);
}

static const char *in_folder(struct layout *l, const char *name)
{
    return tp_store_path(l->store, l->plan, name);
}

static enum tp_status add_zarr_files(struct layout *l)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < l->plan->array_count && !st; i++) {
        char name[TP_NAME_MAX_BYTES + 1 + sizeof "/zarr.json"];
        size_t key_len = tp_store_array_key(l->store, l->plan, (uint32_t)i, name);
        snprintf(name + key_len, sizeof name - key_len, "/%s", tp_zarr_metadata_key(l->store->version));
        st = add_small(l, in_folder(l, name), SMALL_ZARRAY, i);
    }
    return st;
}

static enum tp_status add_small_files(struct layout *l)
{
    enum tp_status st = TP_OK;
    if (!l->store->has_database)
        st = add_zarr_files(l);
    else
        st = add_small(l, in_folder(l, l->store->node_path), SMALL_NODES, 0);
    if (!st && l->store->has_database)
        st = add_small(l, in_folder(l, TP_OCDBT_MANIFEST_NAME), SMALL_MANIFEST, 0);
    if (!st)
        st = add_small(l, in_folder(l, "_METADATA"), SMALL_TREE, 0);
    if (!st)
        st = add_small(l, "_CHECKPOINT_METADATA", SMALL_HANDLERS, 0);
    if (!st && l->options->orbax.layout == TP_ORBAX_V1)
        st = add_small(l, "orbax.checkpoint", SMALL_INDICATOR, 0);
    return st ? st : add_small(l, "commit_success.txt", SMALL_COMMIT, 0);
}

/* ---- layout ---- */

static enum tp_status set_folder(struct layout *l)
{
    const char *item = tp_orbax_item(&l->options->orbax);
    size_t len = item ? strlen(item) : 0;
    char *folder = tp_arena_alloc(&l->plan->arena, len + 2);
    if (!folder)
        return tp_fail_nomem(l->err);
    snprintf(folder, len + 2, "%s%s", item ? item : "", item ? "/" : "");
    l->store->folder = folder;
    l->store->folder_len = strlen(folder);
    return TP_OK;
}

static enum tp_status layout(struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err)
{
    struct layout l = {.plan = plan, .options = options, .err = err};
    enum tp_status st = tp_orbax_check(plan, options, err);
    if (st)
        return st;
    plan->leaves = l.store = calloc(1, sizeof *l.store);
    if (!l.store)
        return tp_fail_nomem(err);
    l.store->has_database = !options->orbax.no_ocdbt;
    l.store->can_link = tp_orbax_can_link;
    st = set_folder(&l);
    if (!st)
        st = tp_store_lay_out(l.store, plan, options, err);
    return st ? st : add_small_files(&l);
}

/* ---- bytes ---- */

static enum tp_status write_zarray(const struct tp_plan *plan, uint32_t array, tp_json_write_fn write, void *user,
                                   struct tp_error *err)
{
    const struct tp_store *store = plan->leaves;
    struct tp_zarr zarr;
    char text[TP_ZARR_TEXT_MAX];
    tp_store_zarr(store, &zarr, &plan->arrays[array]);
    return write(user, text, tp_zarr_emit(&zarr, text, sizeof text), err);
}

static enum tp_status write_small(const struct tp_plan *plan, const struct tp_small_file *file,
                                  const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                  struct tp_error *err)
{
    static const char done[] = "Checkpoint commit was successful\n";
    switch ((enum small_kind)file->kind) {
    case SMALL_NODES:
        return tp_store_write_nodes(plan, write, user, err);
    case SMALL_MANIFEST:
        return tp_store_write_manifest(plan, facts->time_ns, write, user, err);
    case SMALL_ZARRAY:
        return write_zarray(plan, file->item, write, user, err);
    case SMALL_TREE:
        return tp_orbax_write_tree(plan, facts, write, user, err);
    case SMALL_HANDLERS:
        return tp_orbax_write_handlers(facts, write, user, err);
    case SMALL_INDICATOR: /* that it is there is all it says */
        return TP_OK;
    case SMALL_COMMIT:
        return write(user, done, sizeof done - 1, err);
    }
    return tp_fail(err, TP_ERR_BUG, "no small file of kind %" PRIu32, file->kind);
}

const struct tp_format tp_format_orbax = {
    .name = "orbax",
    /* data files and nodes; files of plain zarr chunks, whose names begin with their number; linked originals */
    .attributes = "**/d/* filter=lfs diff=lfs merge=lfs -text\n"
                  "[0-9]* filter=lfs diff=lfs merge=lfs -text\n"
                  "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
                  "*.msgpack filter=lfs diff=lfs merge=lfs -text\n"
                  "manifest.ocdbt -text\n",
    .layout = layout,
    .frame = tp_store_frame,
    .write_small = write_small,
};
