/* SPDX-License-Identifier: MIT */
/* Orbax's folders: an item (_METADATA, arrays), a step or a checkpoint of its own around items (DIR/default), a root of
 * numbered steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/orbax.h"
#include "codec/ocdbt.h"

/* The item that is meant when there are several, the first that is there. */
static const char *const usual_items[] = {"default", "items", "state", "params", "pytree"};

enum tp_status tp_orbax_has_file(bool *has, const char *folder, const char *name, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *path = tp_path_join(folder, name);
    enum tp_status status = path ? tp_path_kind_of(&kind, path, err) : tp_fail_nomem(err);
    free(path);
    *has = kind == TP_PATH_FILE;
    return status;
}

/* ---- unfinished ones ---- */

static const char *const unfinished_names[] = {".orbax-checkpoint-tmp", ".tensorport-partial"};

static bool is_unfinished_name(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(unfinished_names); i++)
        if (strstr(name, unfinished_names[i]))
            return true;
    return false;
}

static enum tp_status check_name(const char *path, struct tp_error *err)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    char *name = strndup(path + begin, end - begin);
    enum tp_status status = name ? TP_OK : tp_fail_nomem(err);
    if (!status && is_unfinished_name(name)) {
        tp_fail(err, TP_ERR_FORMAT, "an unfinished checkpoint: its writer has not given it its name yet");
        tp_err_hint(err, TP_ERR_FORMAT, "wait for the writer; if it is gone, take another checkpoint");
        status = tp_err_path(err, TP_ERR_FORMAT, path);
    }
    free(name);
    return status;
}

/* What a CheckpointManager is usually told to put before a step's number; an item may well be called "encoder_1". */
static const char *const step_prefixes[] = {"", "step_", "checkpoint_", "ckpt_"};

/* The number of a step's folder: "1000", "00001000", "step_1000"; false: it is none. */
static bool step_number(const char *name, uint64_t *number)
{
    size_t len = strlen(name), digits = 0;
    while (digits < len && name[len - 1 - digits] >= '0' && name[len - 1 - digits] <= '9')
        digits++;
    bool known = false;
    for (size_t i = 0; i < TP_COUNT_OF(step_prefixes) && !known; i++)
        known = strlen(step_prefixes[i]) == len - digits && strncmp(name, step_prefixes[i], len - digits) == 0;
    if (digits == 0 || digits > 19 || !known)
        return false;
    *number = strtoull(name + len - digits, NULL, 10);
    return !is_unfinished_name(name);
}

/* ---- an item in a step ---- */

/* Subfolders with _METADATA that are no steps. */
struct items {
    const char *chosen; /* the usual one, or the only one; NULL: neither */
    size_t count;
    size_t rank; /* of the chosen one among the usual */
    struct tp_name_list list;
};

static size_t rank_of(const char *name)
{
    size_t rank = 0;
    while (rank < TP_COUNT_OF(usual_items) && strcmp(name, usual_items[rank]) != 0)
        rank++;
    return rank;
}

static enum tp_status find_items(struct items *items, const char *folder, const struct tp_names *names,
                                 struct tp_error *err)
{
    enum tp_status status = TP_OK;
    *items = (struct items){.rank = SIZE_MAX};
    for (size_t i = 0; !status && i < names->count; i++) {
        const char *name = names->items[i];
        char shown[TP_NAME_TEXT], *path = tp_path_join(folder, name);
        bool has = false;
        uint64_t number;
        status = path ? tp_orbax_has_file(&has, path, "_METADATA", err) : tp_fail_nomem(err);
        free(path);
        if (status || !has || is_unfinished_name(name) || step_number(name, &number))
            continue;
        items->count++;
        tp_name_list_add(&items->list, tp_describe_name(shown, name, strlen(name)));
        if (rank_of(name) < items->rank) {
            items->rank = rank_of(name);
            items->chosen = names->items[i];
        }
    }
    if (items->count > 1 && items->rank == TP_COUNT_OF(usual_items))
        items->chosen = NULL;
    return status;
}

static enum tp_status fill_place(struct tp_orbax_place *place, const char *unit, const char *item, struct tp_error *err)
{
    place->unit = strdup(unit);
    place->folder = item ? tp_path_join(unit, item) : strdup(unit);
    place->item = item ? strdup(item) : NULL;
    return place->unit && place->folder && (place->item || !item) ? TP_OK : tp_fail_nomem(err);
}

/* A unit: the folder itself, or an item in it. Not found: place->folder stays NULL. */
static enum tp_status find_in_unit(struct tp_orbax_place *place, const char *folder, const struct tp_names *names,
                                   struct tp_error *err)
{
    bool is_item = false;
    struct items items;
    enum tp_status status = tp_orbax_has_file(&is_item, folder, "_METADATA", err);
    if (status || is_item)
        return status ? status : fill_place(place, folder, NULL, err);
    status = find_items(&items, folder, names, err);
    if (status || items.count == 0)
        return status;
    if (items.chosen) {
        place->item_count = items.count;
        if (items.count > 1 && !(place->items = strdup(tp_name_list_text(&items.list))))
            return tp_fail_nomem(err);
        return fill_place(place, folder, items.chosen, err);
    }
    tp_fail(err, TP_ERR_USAGE, "several items, and none has a usual name: %s", tp_name_list_text(&items.list));
    tp_err_hint(err, TP_ERR_USAGE, "name the folder of the item that is meant");
    return tp_err_path(err, TP_ERR_USAGE, folder);
}

/* ---- a step in a root ---- */

struct step {
    const char *name;
    uint64_t number;
};

static int by_number(const void *a, const void *b) /* the highest first */
{
    const struct step *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* What a writer left, empty or half there, is no step: the next one may be. */
static enum tp_status try_step(struct tp_orbax_place *place, const char *root, const char *name, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *path = tp_path_join(root, name);
    enum tp_status status = path ? tp_path_kind_of(&kind, path, err) : tp_fail_nomem(err);
    if (!status && kind == TP_PATH_FOLDER)
        status = tp_folder_list(&names, path, err);
    if (!status && kind == TP_PATH_FOLDER)
        status = find_in_unit(place, path, &names, err);
    if (!status && place->folder && !(place->step = strdup(name)))
        status = tp_fail_nomem(err);
    tp_names_release(&names);
    free(path);
    return status;
}

static enum tp_status find_in_root(struct tp_orbax_place *place, const char *root, const struct tp_names *names,
                                   struct tp_error *err)
{
    struct step *steps = malloc(names->count * sizeof *steps + 1);
    enum tp_status status = steps ? TP_OK : tp_fail_nomem(err);
    size_t count = 0;
    for (size_t i = 0; !status && i < names->count; i++)
        if (step_number(names->items[i], &steps[count].number))
            steps[count++].name = names->items[i];
    if (count > 0)
        qsort(steps, count, sizeof *steps, by_number);
    place->step_count = count;
    for (size_t i = 0; !status && !place->folder && i < count; i++)
        status = try_step(place, root, steps[i].name, err);
    free(steps);
    return status;
}

/* ---- a folder ---- */

static bool is_among(const struct tp_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

static enum tp_status fail_absent(const char *path, const struct tp_names *names, struct tp_error *err)
{
    enum tp_status status = TP_ERR_FORMAT;
    if (is_among(names, TP_OCDBT_MANIFEST_NAME))
        tp_fail(err, status, "%s without _METADATA, which says what the arrays are", TP_OCDBT_MANIFEST_NAME);
    else
        tp_fail(err, status, "no Orbax checkpoint: neither this folder nor one below it has a file _METADATA");
    tp_err_hint(err, status, "the checkpoint is incomplete, or was written by an Orbax from before 2023");
    return tp_err_path(err, status, path);
}

enum tp_status tp_orbax_locate(struct tp_orbax_place *place, const char *path, bool unfinished, struct tp_error *err)
{
    struct tp_names names = {0};
    *place = (struct tp_orbax_place){.folder = NULL};
    enum tp_status status = unfinished ? TP_OK : check_name(path, err);
    if (!status)
        status = tp_folder_list(&names, path, err);
    if (!status)
        status = find_in_unit(place, path, &names, err);
    if (!status && !place->folder)
        status = find_in_root(place, path, &names, err);
    if (!status && !place->folder)
        status = fail_absent(path, &names, err);
    tp_names_release(&names);
    if (status)
        tp_orbax_place_release(place);
    return status;
}

void tp_orbax_place_release(struct tp_orbax_place *place)
{
    free(place->folder);
    free(place->unit);
    free(place->item);
    free(place->step);
    free(place->items);
    *place = (struct tp_orbax_place){.folder = NULL};
}
