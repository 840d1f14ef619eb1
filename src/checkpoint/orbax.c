/* SPDX-License-Identifier: MIT */
#include "checkpoint/orbax.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/orbax_store.h"
#include "codec/ocdbt.h"

/* ---- the item ---- */

/* Since 2025 _METADATA says whether there is a database; before, its manifest does. */
static enum tp_status has_database(bool *has, const struct tp_orbax_tree *tree, const struct tp_checkpoint *ck,
                                   struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *path = tp_path_join(ck->folder, TP_OCDBT_MANIFEST_NAME);
    enum tp_status status = path ? tp_path_kind_of(&kind, path, err) : tp_fail_nomem(err);
    free(path);
    *has = tree->use_ocdbt == -1 ? kind != TP_PATH_ABSENT : tree->use_ocdbt == 1;
    if (status || !*has || kind != TP_PATH_ABSENT)
        return status;
    tp_fail(err, TP_ERR_FORMAT, "_METADATA says that there is a database, but %s is missing", TP_OCDBT_MANIFEST_NAME);
    tp_err_hint(err, TP_ERR_FORMAT, "the checkpoint is unfinished or incomplete: write or copy it again");
    return tp_err_path(err, TP_ERR_FORMAT, ck->folder);
}

/* Values of a type that we do not know may be arrays or not: those without metadata are left out. */
static enum tp_status finish_array(struct tp_orbax_tree *tree, struct tp_orbax_array *a, struct tp_checkpoint *ck,
                                   struct tp_error *err)
{
    char shown[TP_NAME_TEXT];
    if (a->is_known)
        return tp_orbax_array_finish(a, ck, tree->stores_all, err);
    if (a->is_plain_type) {
        tp_fail(err, TP_ERR_FORMAT, "is in _METADATA, but there is no array of this name");
        tp_err_hint(err, TP_ERR_FORMAT, "the checkpoint is incomplete: write or copy it again");
        return tp_err_tensor(err, TP_ERR_FORMAT, a->name, a->name_len);
    }
    tree->skipped_count++;
    tp_describe_name(shown, a->name, a->name_len);
    return tp_list_add(&tree->skipped, "'%s' (%s)", shown, a->type) ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status note_skipped(const struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err)
{
    struct tp_name_list list = {.used = 0};
    if (tree->skipped_count == 0)
        return TP_OK;
    for (size_t i = 0; i < tree->skipped.count; i++)
        tp_name_list_add(&list, tree->skipped.items[i]);
    list.hidden_count += tree->skipped_count - tree->skipped.count;
    return tp_checkpoint_note_add(ck, err, "%zu values of the tree are no arrays and are left out: %s",
                                  tree->skipped_count, tp_name_list_text(&list));
}

enum tp_status tp_orbax_read(struct tp_checkpoint *ck, struct tp_error *err)
{
    struct tp_orbax_tree tree;
    bool is_database = false;
    enum tp_status status = tp_orbax_tree_read(&tree, ck, err);
    if (!status)
        status = has_database(&is_database, &tree, ck, err);
    if (!status && tree.count > 0)
        status = is_database ? tp_orbax_read_ocdbt(&tree, ck, err) : tp_orbax_read_folders(&tree, ck, err);
    for (size_t i = 0; !status && i < tree.count; i++)
        status = finish_array(&tree, &tree.arrays[i], ck, err);
    if (!status)
        status = note_skipped(&tree, ck, err);
    tp_orbax_tree_release(&tree);
    if (status && err && !err->path[0])
        tp_err_path(err, status, ck->folder);
    return status;
}

/* ---- as one of the readers ---- */

/* Files that nobody else has. */
static const char *const marks[] = {"_METADATA", TP_OCDBT_MANIFEST_NAME, "_CHECKPOINT_METADATA", "orbax.checkpoint"};

static bool recognise(const struct tp_place *place)
{
    struct tp_orbax_place found;
    if (!place->is_folder)
        return false;
    for (size_t i = 0; i < TP_COUNT_OF(marks); i++)
        if (tp_place_has(place, marks[i]))
            return true;
    for (size_t i = 0; i < place->names.count; i++)
        if (tp_name_ends(place->names.items[i], ".safetensors") || tp_name_ends(place->names.items[i], ".msgpack"))
            return false;
    if (strstr(place->path, ".orbax-checkpoint-tmp"))
        return true; /* to be refused with better words than that nothing is in it */
    enum tp_status status = tp_orbax_locate(&found, place->path, false, NULL);
    tp_orbax_place_release(&found);
    return !status || status == TP_ERR_USAGE;
}

static enum tp_status note_place(const struct tp_orbax_place *place, struct tp_checkpoint *ck, struct tp_error *err)
{
    char shown[TP_NAME_TEXT];
    enum tp_status status = TP_OK;
    if (place->items)
        status = tp_checkpoint_note_add(
            ck, err, "of %zu items (%s) only '%s' is read; the others are read by their folders", place->item_count,
            place->items, tp_describe_name(shown, place->item, strlen(place->item)));
    if (status || !place->step || place->step_count < 2)
        return status;
    return tp_checkpoint_note_add(ck, err, "of %zu steps the last is read: %s", place->step_count,
                                  tp_describe_name(shown, place->step, strlen(place->step)));
}

/* An item that is named itself: what TensorPort put beside it lies in the folder above. */
static enum tp_status find_side_folder(struct tp_checkpoint *ck, struct tp_error *err)
{
    bool has_own = false, is_step = false, has_manifest = false, has_config = false;
    char *above = tp_path_join(ck->folder, "..");
    enum tp_status status = above ? tp_orbax_has_file(&has_own, ck->folder, "config.json", err) : tp_fail_nomem(err);
    if (!status)
        status = tp_orbax_has_file(&is_step, above, "_CHECKPOINT_METADATA", err); /* no model of another format */
    if (!status)
        status = tp_orbax_has_file(&has_manifest, above, "manifest.json", err);
    if (!status)
        status = tp_orbax_has_file(&has_config, above, "config.json", err);
    if (!status && !has_own && is_step && has_manifest && has_config)
        ck->side_folder = above;
    else
        free(above);
    return status;
}

static enum tp_status open_place(struct tp_checkpoint *ck, const struct tp_place *place,
                                 const struct tp_open_options *options, struct tp_error *err)
{
    struct tp_orbax_place found;
    enum tp_status status = tp_orbax_locate(&found, place->path, options->unfinished, err);
    if (status)
        return status;
    free(ck->folder);
    ck->folder = found.folder;
    found.folder = NULL;
    if (found.item) {
        ck->side_folder = found.unit;
        found.unit = NULL;
    } else {
        status = find_side_folder(ck, err);
    }
    if (!status)
        status = note_place(&found, ck, err);
    if (!status)
        status = tp_orbax_read(ck, err);
    tp_orbax_place_release(&found);
    return status;
}

const struct tp_reader tp_reader_orbax = {.format = "orbax", .recognise = recognise, .open = open_place};
