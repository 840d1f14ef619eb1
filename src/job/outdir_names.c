/* SPDX-License-Identifier: MIT */
/* Which names the files of an output may take: never that of a file that is not ours, nor a place that one stands in
 * the way of. Asked before a byte is written, and again before the files are moved. */
#include <stdlib.h>
#include <string.h>

#include "job/outdir_state.h"
#include "manifest/listed.h"
#include "os/tree.h"
#include "tensorport/text.h"

/* What keeps `name` of the output from becoming a file of ours. */
static enum tp_status refuse_name(const struct tp_outdir *dir, const char *name, const char *what, struct tp_error *err)
{
    char shown[256];
    enum tp_status st = tp_fail(err, TP_ERR_EXISTS, "the output folder holds a file '%s' %s",
                                tp_text_printable(shown, sizeof shown, name, strlen(name)),
                                dir->in_place ? "already, and --link in-place replaces none" : what);
    return tp_err_path(err, st, dir->final);
}

/* A file where `name` needs a folder: only one that will be gone by then. */
static enum tp_status check_way(const struct tp_outdir *dir, const struct tp_listed *ours, const char *name,
                                struct tp_error *err)
{
    char *way = tp_path_join("", name);
    enum tp_path_kind kind = TP_PATH_FOLDER;
    enum tp_status st = way ? TP_OK : tp_fail_nomem(err);
    for (char *slash = way ? strchr(way, '/') : NULL; slash && !st && kind == TP_PATH_FOLDER;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        st = tp_tree_kind_of(&kind, dir->final, way, err);
        if (!st && (kind == TP_PATH_FILE || kind == TP_PATH_OTHER) && !tp_listed_has(ours, way))
            st = refuse_name(dir, way, "that TensorPort did not make, where it needs a folder", err);
        *slash = '/';
    }
    free(way);
    return st;
}

/* Will this be gone by then? An empty folder "name/" is, when a file of ours was in it: what a kill left behind. */
static bool goes(const struct tp_listed *ours, char *name)
{
    size_t len = strlen(name);
    if (name[len - 1] != '/')
        return tp_listed_has(ours, name);
    name[len - 1] = '\0';
    return tp_listed_has_below(ours, name);
}

/* A folder where `name` is to be a file: only one that holds nothing but what goes. */
static enum tp_status check_folder_goes(const struct tp_outdir *dir, const struct tp_listed *ours, const char *name,
                                        struct tp_error *err)
{
    struct tp_names names = {0};
    char *folder = tp_path_join(dir->final, name);
    enum tp_status st = folder ? tp_tree_list(&names, folder, err) : tp_fail_nomem(err);
    if (!st && names.count == 0 && !tp_listed_has_below(ours, name))
        st = refuse_name(dir, name, "(a folder) where it needs a file", err);
    for (size_t i = 0; i < names.count && !st; i++) {
        char *inside = tp_path_join(name, names.items[i]);
        if (!inside)
            st = tp_fail_nomem(err);
        else if (!goes(ours, inside))
            st = refuse_name(dir, inside, "that TensorPort did not make, in a folder where it needs a file", err);
        free(inside);
    }
    tp_names_release(&names);
    free(folder);
    return st;
}

static enum tp_status check_place(const struct tp_outdir *dir, const struct tp_listed *ours, const char *name,
                                  struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    enum tp_status st = check_way(dir, ours, name, err);
    if (!st)
        st = tp_tree_kind_of(&kind, dir->final, name, err);
    if (st || kind == TP_PATH_ABSENT)
        return st;
    if (kind == TP_PATH_FOLDER)
        return check_folder_goes(dir, ours, name, err);
    return tp_listed_has(ours, name) ? TP_OK
                                     : refuse_name(dir, name, "that TensorPort did not make and would replace", err);
}

static enum tp_status check_listed(const struct tp_outdir *dir, const struct tp_manifest *manifests, size_t n,
                                   const char *const *names, size_t count, struct tp_error *err)
{
    struct tp_listed ours = {.count = 0};
    bool has_manifest = false;
    enum tp_status st = dir->in_place ? TP_OK : tp_outdir_has_manifest(&has_manifest, dir->final, err);
    if (st)
        return st;
    bool ok = !has_manifest || tp_listed_add(&ours, TP_MANIFEST_NAME);
    for (size_t i = 0; i < n && ok; i++)
        ok = tp_listed_add_all(&ours, &manifests[i]);
    tp_listed_sort(&ours);
    st = ok ? TP_OK : tp_fail_nomem(err);
    for (size_t i = 0; i < count && !st; i++)
        st = check_place(dir, &ours, names[i], err);
    tp_listed_release(&ours);
    return st;
}

/* Our own names within the work folder, and what the system cannot take. */
static enum tp_status check_sound(const struct tp_outdir *dir, const char *name, struct tp_error *err)
{
    static const char *const taken[] = {TP_MARKER_NAME, TP_OLD_MANIFEST, TP_LAST_FOLDER, TP_PARTIAL_SUFFIX};
    char shown[256];
    bool sound = tp_tree_is_name(name);
    for (size_t i = 0; i < TP_COUNT_OF(taken) && sound; i++) {
        size_t len = strlen(taken[i]);
        sound = strncmp(name, taken[i], len) != 0 || (name[len] != '\0' && name[len] != '/');
    }
    if (sound)
        return TP_OK;
    tp_fail(err, TP_ERR_UNSUPPORTED, "no file of the output can be called '%s'",
            tp_text_printable(shown, sizeof shown, name, strlen(name)));
    return tp_err_path(err, TP_ERR_UNSUPPORTED, dir->final);
}

/* Its files are not all ours to remove, whatever its manifest lists. */
static enum tp_status refuse_originals(const struct tp_outdir *dir, struct tp_error *err)
{
    tp_fail(err, TP_ERR_EXISTS, "the output folder holds the originals that its checkpoint refers to");
    tp_err_path(err, TP_ERR_EXISTS, dir->final);
    return tp_err_hint(err, TP_ERR_EXISTS, "it was made by --link in-place; choose another output");
}

/* Ours is what the manifest lists; during an exchange, what the old one or the new one lists. */
static enum tp_status check_against_manifests(const struct tp_outdir *dir, const char *const *names, size_t count,
                                              struct tp_error *err)
{
    struct tp_manifest manifests[3] = {{.file_count = 0}};
    struct tp_outdir_state state;
    enum tp_status st = tp_outdir_look(&state, dir, err);
    if (!st && state.final_manifest)
        st = tp_outdir_read_manifest(&manifests[0], dir->final, TP_MANIFEST_NAME, err);
    if (!st && state.is_exchanging && state.manifest)
        st = tp_outdir_read_manifest(&manifests[1], dir->work, TP_MANIFEST_NAME, err);
    if (!st && state.is_exchanging && state.old_manifest)
        st = tp_outdir_read_manifest(&manifests[2], dir->work, TP_OLD_MANIFEST, err);
    for (size_t i = 0; i < TP_COUNT_OF(manifests) && !st; i++)
        if (manifests[i].options.orbax.link == TP_LINK_IN_PLACE)
            st = refuse_originals(dir, err);
    if (!st)
        st = check_listed(dir, manifests, TP_COUNT_OF(manifests), names, count, err);
    for (size_t i = 0; i < TP_COUNT_OF(manifests); i++)
        tp_manifest_release(&manifests[i]);
    return st;
}

enum tp_status tp_outdir_check_names(const struct tp_outdir *dir, const char *const *names, size_t count,
                                     struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < count && !st; i++)
        st = check_sound(dir, names[i], err);
    if (st || !dir->inside)
        return st;
    if (!dir->in_place)
        return check_against_manifests(dir, names, count, err);
    struct tp_outdir_state state;
    st = tp_outdir_look(&state, dir, err);
    if (st || state.is_exchanging) /* all that this run will do is to finish that */
        return st;
    const char *manifest[] = {TP_MANIFEST_NAME};
    st = check_listed(dir, NULL, 0, manifest, 1, err);
    return st ? st : check_listed(dir, NULL, 0, names, count, err);
}

enum tp_status tp_outdir_add_last(struct tp_outdir *dir, const char *name, struct tp_error *err)
{
    enum tp_status st = check_sound(dir, name, err);
    return st || tp_list_add(&dir->last, "%s", name) ? st : tp_fail_nomem(err);
}
