/* SPDX-License-Identifier: MIT */
#include "job/outdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/listed.h"
#include "tensorport/text.h"

#define PARTIAL_SUFFIX ".tensorport-partial"
#define MARKER_NAME "UNFINISHED.txt"
#define OLD_MANIFEST "manifest.old.json"

static const char marker_text[] =
    "TensorPort is working here, or was stopped while it did. Nothing in this folder is a finished\n"
    "checkpoint. `tensorport convert --overwrite` starts again; the folder may also be deleted.\n";

static bool is_there(const char *folder, const char *name)
{
    char *path = tp_path_join(folder, name);
    enum tp_path_kind kind = TP_PATH_ABSENT;
    bool there = path && !tp_path_kind_of(&kind, path, NULL) && kind != TP_PATH_ABSENT;
    free(path);
    return there;
}

/* Does the folder hold a manifest.json of ours? The first bytes tell: the writer always begins so. */
static bool has_our_manifest(const char *folder)
{
    static const char begin[] = "{\"format\":\"tensorport\"";
    char head[sizeof begin - 1];
    char *path = tp_path_join(folder, TP_MANIFEST_NAME);
    struct tp_file_id id;
    int fd = -1;
    bool ours = path && !tp_file_open_read(&fd, path, &id, NULL) && id.size_bytes >= sizeof head &&
                !tp_file_read_at(fd, head, sizeof head, 0, path, NULL) && memcmp(head, begin, sizeof head) == 0;
    tp_fd_close(fd);
    free(path);
    return ours;
}

/* One of our marks, or nothing at all: a kill just before the first file, or after the last. */
static bool is_our_partial(const char *work)
{
    struct tp_names names = {0};
    bool empty = !tp_folder_list(&names, work, NULL) && names.count == 0;
    tp_names_release(&names);
    return empty || is_there(work, MARKER_NAME) || has_our_manifest(work) || is_there(work, OLD_MANIFEST);
}

/* Killed (or stopped by an error) while files were renamed: what is left in the work folder is all there is of them. */
static bool is_exchanging(const struct tp_outdir *dir)
{
    return dir->inside &&
           (is_there(dir->work, OLD_MANIFEST) || (has_our_manifest(dir->work) && !is_there(dir->work, MARKER_NAME)));
}

static enum tp_status refuse_foreign(const struct tp_names *names, const char *output, struct tp_error *err)
{
    char shown[128];
    const char *first = names->items[0];
    tp_fail(err, TP_ERR_EXISTS, "the output folder already holds %zu other files (%s%s)", names->count,
            tp_text_printable(shown, sizeof shown, first, strlen(first)), names->count > 1 ? ", ..." : "");
    tp_err_path(err, TP_ERR_EXISTS, output);
    return tp_err_hint(err, TP_ERR_EXISTS, "choose a folder that does not exist yet, or an empty one");
}

static enum tp_status check_folder(struct tp_outdir *dir, bool overwrite, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_status st = tp_folder_list(&names, dir->final, err);
    if (st)
        return st;
    bool only_partial = names.count == 1 && strcmp(names.items[0], PARTIAL_SUFFIX) == 0;
    if (names.count > 0 && !only_partial) {
        if (!has_our_manifest(dir->final) && !is_exchanging(dir))
            st = refuse_foreign(&names, dir->final, err);
        else if (!overwrite) {
            tp_fail(err, TP_ERR_EXISTS, "the output folder already holds a checkpoint that TensorPort made");
            tp_err_path(err, TP_ERR_EXISTS, dir->final);
            st = tp_err_hint(err, TP_ERR_EXISTS, "--overwrite replaces it; its own files are exchanged, others stay");
        }
    }
    tp_names_release(&names);
    return st;
}

static char *concat(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    char *text = malloc(a_len + b_len + 1);
    if (text) {
        memcpy(text, a, a_len);
        memcpy(text + a_len, b, b_len + 1);
    }
    return text;
}

/* The output's path without trailing slashes and "/.", so that a sibling's name can be made of it. */
static char *trimmed(const char *path)
{
    char *text = concat(path, "");
    size_t len = text ? strlen(text) : 0;
    while (len > 1 && (text[len - 1] == '/' || (len > 2 && text[len - 1] == '.' && text[len - 2] == '/')))
        text[--len] = '\0';
    return text;
}

/* Nothing can be made under the names "" and "absent/..". */
static bool has_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return *path && strcmp(slash ? slash + 1 : path, "..") != 0;
}

static enum tp_status check_partial(const struct tp_outdir *dir, bool overwrite, struct tp_error *err)
{
    enum tp_path_kind kind;
    enum tp_status st = tp_path_kind_of(&kind, dir->work, err);
    if (st || kind == TP_PATH_ABSENT)
        return st;
    if (overwrite && kind == TP_PATH_FOLDER && is_our_partial(dir->work))
        return TP_OK;
    tp_fail(err, TP_ERR_EXISTS, "an unfinished conversion lies here");
    tp_err_path(err, TP_ERR_EXISTS, dir->work);
    return tp_err_hint(err, TP_ERR_EXISTS, "--overwrite starts again (or delete that folder)");
}

enum tp_status tp_outdir_check(struct tp_outdir *dir, const char *output, bool overwrite, bool sync,
                               struct tp_error *err)
{
    *dir = (struct tp_outdir){.final = trimmed(output), .overwrite = overwrite, .sync = sync};
    if (!dir->final)
        return tp_fail_nomem(err);
    enum tp_path_kind kind;
    enum tp_status st = tp_path_kind_of(&kind, dir->final, err);
    if (!st && kind != TP_PATH_ABSENT && kind != TP_PATH_FOLDER)
        st = tp_err_path(err, tp_fail(err, TP_ERR_EXISTS, "the output exists and is not a folder"), dir->final);
    if (st)
        return st;
    if (kind == TP_PATH_ABSENT && !has_name(dir->final))
        return tp_fail(err, TP_ERR_USAGE, "the output has no name");
    dir->inside = kind == TP_PATH_FOLDER;
    dir->work = dir->inside ? tp_path_join(dir->final, PARTIAL_SUFFIX) : concat(dir->final, PARTIAL_SUFFIX);
    if (!dir->work)
        return tp_fail_nomem(err);
    if (dir->inside)
        st = check_folder(dir, overwrite, err);
    return st ? st : check_partial(dir, overwrite, err);
}

static enum tp_status read_manifest_in(struct tp_manifest *m, const char *folder, const char *name,
                                       struct tp_error *err)
{
    char *path = tp_path_join(folder, name);
    enum tp_status st = path ? tp_manifest_read(m, path, err) : tp_fail_nomem(err);
    free(path);
    return st;
}

static enum tp_status check_listed(const struct tp_outdir *dir, const struct tp_manifest *manifests, size_t n,
                                   const char *const *names, size_t count, struct tp_error *err)
{
    struct tp_listed ours = {.count = 0};
    bool ok = !has_our_manifest(dir->final) || tp_listed_add(&ours, TP_MANIFEST_NAME);
    for (size_t i = 0; i < n && ok; i++)
        ok = tp_listed_add_all(&ours, &manifests[i]);
    tp_listed_sort(&ours);
    enum tp_status st = ok ? TP_OK : tp_fail_nomem(err);
    for (size_t i = 0; i < count && !st; i++) {
        char shown[256];
        if (!is_there(dir->final, names[i]) || tp_listed_has(&ours, names[i]))
            continue;
        st = tp_fail(err, TP_ERR_EXISTS,
                     "the output folder holds a file '%s' that TensorPort did not make and would replace",
                     tp_text_printable(shown, sizeof shown, names[i], strlen(names[i])));
        tp_err_path(err, st, dir->final);
    }
    tp_listed_release(&ours);
    return st;
}

/* Ours is what the manifest lists; during an exchange, what the old one or the new one lists. */
enum tp_status tp_outdir_check_names(const struct tp_outdir *dir, const char *const *names, size_t count,
                                     struct tp_error *err)
{
    if (!dir->inside)
        return TP_OK;
    struct tp_manifest manifests[3] = {{.file_count = 0}};
    bool exchanging = is_exchanging(dir);
    enum tp_status st = TP_OK;
    if (has_our_manifest(dir->final))
        st = read_manifest_in(&manifests[0], dir->final, TP_MANIFEST_NAME, err);
    if (!st && exchanging && is_there(dir->work, TP_MANIFEST_NAME))
        st = read_manifest_in(&manifests[1], dir->work, TP_MANIFEST_NAME, err);
    if (!st && exchanging && is_there(dir->work, OLD_MANIFEST))
        st = read_manifest_in(&manifests[2], dir->work, OLD_MANIFEST, err);
    if (!st)
        st = check_listed(dir, manifests, 3, names, count, err);
    for (size_t i = 0; i < 3; i++)
        tp_manifest_release(&manifests[i]);
    return st;
}

/* ---- doing ---- */

static enum tp_status remove_in(const char *folder, const char *name, struct tp_error *err)
{
    char *path = tp_path_join(folder, name);
    enum tp_status st = path ? tp_path_remove(path, err) : tp_fail_nomem(err);
    free(path);
    return st;
}

/* The marker goes last, and the manifest before it (a commit has taken the marker already): one of our marks is there
 * until nothing else is. */
static enum tp_status empty_work(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_status st = tp_folder_list(&names, dir->work, err);
    for (size_t i = 0; i < names.count && !st; i++)
        if (strcmp(names.items[i], MARKER_NAME) != 0 && strcmp(names.items[i], TP_MANIFEST_NAME) != 0)
            st = remove_in(dir->work, names.items[i], err);
    tp_names_release(&names);
    if (!st)
        st = remove_in(dir->work, TP_MANIFEST_NAME, err);
    return st ? st : remove_in(dir->work, MARKER_NAME, err);
}

static enum tp_status write_marker(const struct tp_outdir *dir, struct tp_error *err)
{
    char *path = tp_path_join(dir->work, MARKER_NAME);
    int fd = -1;
    enum tp_status st = path ? tp_file_create(&fd, path, 0, err) : tp_fail_nomem(err);
    if (!st)
        st = tp_file_write_at(fd, marker_text, sizeof marker_text - 1, 0, path, err);
    tp_fd_close(fd);
    free(path);
    return st;
}

enum tp_status tp_outdir_begin(struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_path_kind kind;
    enum tp_status st = check_partial(dir, dir->overwrite, err); /* again: another run may have begun since */
    if (!st && is_exchanging(dir))
        st = tp_outdir_commit(dir, err); /* finish what a kill interrupted: the new files were complete */
    if (!st)
        st = tp_path_kind_of(&kind, dir->work, err);
    if (!st && kind == TP_PATH_FOLDER) {
        st = empty_work(dir, err);
        if (!st)
            st = tp_path_remove(dir->work, err);
    }
    if (!st)
        st = tp_folder_make_new(dir->work, err);
    return st ? st : write_marker(dir, err);
}

/* Delete what the old manifest lists and the new one does not: the rest is replaced by the renames that follow. Done
 * again after a kill, it finds nothing more to do. */
static enum tp_status remove_old(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_manifest old = {.file_count = 0}, new = {.file_count = 0};
    enum tp_status st = read_manifest_in(&old, dir->work, OLD_MANIFEST, err);
    if (!st)
        st = read_manifest_in(&new, dir->work, TP_MANIFEST_NAME, err);
    struct tp_listed kept = {.count = 0}, gone = {.count = 0};
    bool ok =
        tp_listed_add(&kept, TP_MANIFEST_NAME) && tp_listed_add_all(&kept, &new) && tp_listed_add_all(&gone, &old);
    if (!st && !ok)
        st = tp_fail_nomem(err);
    tp_listed_sort(&kept);
    for (size_t i = 0; i < gone.count && !st; i++)
        if (!tp_listed_has(&kept, gone.names[i]))
            st = remove_in(dir->final, gone.names[i], err);
    tp_listed_release(&kept);
    tp_listed_release(&gone);
    tp_manifest_release(&old);
    tp_manifest_release(&new);
    return st;
}

static enum tp_status move_as(const char *from_dir, const char *from, const char *to_dir, const char *to,
                              struct tp_error *err)
{
    char *source = tp_path_join(from_dir, from), *target = tp_path_join(to_dir, to);
    enum tp_status st = source && target ? tp_path_rename(source, target, err) : tp_fail_nomem(err);
    free(source);
    free(target);
    return st;
}

/* Everything but the manifests and the marker. */
static enum tp_status move_files(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_status st = tp_folder_list(&names, dir->work, err);
    for (size_t i = 0; i < names.count && !st; i++) {
        const char *name = names.items[i];
        if (strcmp(name, MARKER_NAME) != 0 && strcmp(name, OLD_MANIFEST) != 0 && strcmp(name, TP_MANIFEST_NAME) != 0)
            st = move_as(dir->work, name, dir->final, name, err);
    }
    tp_names_release(&names);
    return st;
}

/* Files may have come into `final` since its names were checked. */
static enum tp_status check_still_ours(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    size_t count = 0;
    enum tp_status st = tp_folder_list(&names, dir->work, err);
    const char **moved = st ? NULL : malloc((names.count + 1) * sizeof *moved);
    if (!st && !moved)
        st = tp_fail_nomem(err);
    for (size_t i = 0; i < names.count && !st; i++)
        if (strcmp(names.items[i], MARKER_NAME) != 0)
            moved[count++] = names.items[i];
    if (!st)
        st = tp_outdir_check_names(dir, moved, count, err);
    free(moved);
    tp_names_release(&names);
    return st;
}

/* Each step leaves a state from which the whole can be done again: until the new manifest has moved, it lies in the
 * work folder, without the marker; afterwards only the work folder is left to remove. */
static enum tp_status exchange(const struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_status st = is_exchanging(dir) ? TP_OK : check_still_ours(dir, err);
    if (!st)
        st = remove_in(dir->work, MARKER_NAME, err);
    if (!st && has_our_manifest(dir->final))
        st = move_as(dir->final, TP_MANIFEST_NAME, dir->work, OLD_MANIFEST, err);
    if (!st && is_there(dir->work, OLD_MANIFEST))
        st = remove_old(dir, err);
    if (!st)
        st = move_files(dir, err);
    if (!st && dir->sync)
        st = tp_folder_sync(dir->final, err);
    return st ? st : move_as(dir->work, TP_MANIFEST_NAME, dir->final, TP_MANIFEST_NAME, err);
}

static enum tp_status commit_inside(const struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_status st = is_there(dir->work, TP_MANIFEST_NAME) ? exchange(dir, err) : TP_OK;
    if (!st)
        st = empty_work(dir, err);
    if (!st)
        st = tp_path_remove(dir->work, err);
    return !st && dir->sync ? tp_folder_sync(dir->final, err) : st;
}

static enum tp_status sync_parent(const char *path, struct tp_error *err)
{
    char *parent = concat(path, "");
    if (!parent)
        return tp_fail_nomem(err);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = '\0';
    enum tp_status st = tp_folder_sync(slash ? parent : ".", err);
    free(parent);
    return st;
}

enum tp_status tp_outdir_commit(struct tp_outdir *dir, struct tp_error *err)
{
    if (dir->inside)
        return commit_inside(dir, err);
    enum tp_status st = remove_in(dir->work, MARKER_NAME, err);
    if (!st && dir->sync)
        st = tp_folder_sync(dir->work, err);
    if (!st)
        st = tp_path_rename(dir->work, dir->final, err);
    return !st && dir->sync ? sync_parent(dir->final, err) : st;
}

void tp_outdir_discard(struct tp_outdir *dir)
{
    if (dir->work && !is_exchanging(dir) && is_our_partial(dir->work) && !empty_work(dir, NULL))
        (void)!tp_path_remove(dir->work, NULL);
}

void tp_outdir_release(struct tp_outdir *dir)
{
    free(dir->final);
    free(dir->work);
    *dir = (struct tp_outdir){.final = NULL};
}
