/* SPDX-License-Identifier: MIT */
#include "job/outdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/outdir_state.h"
#include "manifest/listed.h"
#include "os/lock.h"
#include "os/tree.h"
#include "tensorport/text.h"

static enum tp_status refuse_foreign(const struct tp_names *names, const char *output, struct tp_error *err)
{
    char shown[128];
    const char *first = names->items[0];
    tp_fail(err, TP_ERR_EXISTS, "the output folder already holds %zu other files (%s%s)", names->count,
            tp_text_printable(shown, sizeof shown, first, strlen(first)), names->count > 1 ? ", ..." : "");
    tp_err_path(err, TP_ERR_EXISTS, output);
    return tp_err_hint(err, TP_ERR_EXISTS, "choose a folder that does not exist yet, or an empty one");
}

/* Has this run only to finish what an earlier one had made, and was giving its name? A checkpoint that is there already
 * is replaced with --overwrite alone. */
static bool finishes(const struct tp_outdir *dir, const struct tp_outdir_state *s)
{
    if (s->is_exchanging)
        return dir->overwrite || dir->in_place || !(s->final_manifest && s->manifest);
    return dir->resume && !dir->overwrite && s->final_manifest && s->is_empty;
}

static enum tp_status check_folder(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    struct tp_outdir_state state = {.is_partial = false};
    enum tp_status st = tp_folder_list(&names, dir->final, err);
    if (!st)
        st = tp_outdir_look(&state, dir, err);
    bool only_partial = names.count == 1 && strcmp(names.items[0], TP_PARTIAL_SUFFIX) == 0;
    if (!st && names.count > 0 && !only_partial && !(dir->resume && finishes(dir, &state))) {
        if (!state.final_manifest && !state.is_exchanging)
            st = refuse_foreign(&names, dir->final, err);
        else if (!dir->overwrite) {
            tp_fail(err, TP_ERR_EXISTS, "the output folder already holds a checkpoint that TensorPort made");
            tp_err_path(err, TP_ERR_EXISTS, dir->final);
            st = tp_err_hint(err, TP_ERR_EXISTS, "--overwrite replaces it; its own files are exchanged, others stay");
        }
    }
    tp_names_release(&names);
    return st;
}

/* The source's own folder may hold anything but a checkpoint of ours. */
static enum tp_status check_in_place(const struct tp_outdir *dir, struct tp_error *err)
{
    if (!dir->inside)
        return tp_err_path(err, tp_fail(err, TP_ERR_USAGE, "the folder to write into does not exist"), dir->final);
    struct tp_outdir_state state;
    enum tp_status st = tp_outdir_look(&state, dir, err);
    if (st || state.is_exchanging || !state.final_manifest)
        return st;
    tp_fail(err, TP_ERR_EXISTS, "the folder already holds a checkpoint that TensorPort made");
    tp_err_path(err, TP_ERR_EXISTS, dir->final);
    return tp_err_hint(err, TP_ERR_EXISTS, "--link in-place replaces nothing: remove that checkpoint's files first");
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

/* Who wrote the marker: its second line. "" where there is none. */
static void read_owner(const struct tp_outdir *dir, char *text, size_t size)
{
    char bytes[512] = "";
    char *path = tp_path_join(dir->work, TP_MARKER_NAME);
    struct tp_file_id id;
    int fd = -1;
    *text = '\0';
    if (path && !tp_file_open_read(&fd, path, &id, NULL)) {
        size_t n = id.size_bytes < sizeof bytes - 1 ? (size_t)id.size_bytes : sizeof bytes - 1;
        if (!tp_file_read_at(fd, bytes, n, 0, path, NULL)) {
            const char *line = strchr(bytes, '\n');
            if (line && strncmp(line + 1, "process ", 8) == 0)
                tp_text_printable(text, size, line + 1, strcspn(line + 1, "\n"));
        }
    }
    tp_fd_close(fd);
    free(path);
}

static enum tp_status refuse_busy(const struct tp_outdir *dir, struct tp_error *err)
{
    char owner[200];
    read_owner(dir, owner, sizeof owner);
    tp_fail(err, TP_ERR_EXISTS, "another conversion is at work here%s%s", *owner ? ": " : "", owner);
    tp_err_path(err, TP_ERR_EXISTS, dir->work);
    return tp_err_hint(err, TP_ERR_EXISTS, "wait for it, or choose another output");
}

static enum tp_status check_partial(const struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_path_kind kind;
    struct tp_outdir_state state;
    int lock = -1;
    bool busy = false;
    enum tp_status st = tp_path_kind_of_itself(&kind, dir->work, err); /* a link there is none of ours */
    if (!st && kind != TP_PATH_ABSENT)
        st = tp_outdir_look(&state, dir, err);
    if (st || kind == TP_PATH_ABSENT)
        return st;
    bool ours = kind == TP_PATH_FOLDER && state.is_partial;
    if (ours && dir->lock < 0)
        st = tp_folder_lock(&lock, &busy, dir->work, err); /* only to know: it is given back at once */
    tp_fd_close(lock);
    if (st || busy)
        return st ? st : refuse_busy(dir, err);
    if (ours && (dir->overwrite || dir->resume))
        return TP_OK;
    tp_fail(err, TP_ERR_EXISTS, "an unfinished conversion lies here");
    tp_err_path(err, TP_ERR_EXISTS, dir->work);
    if (ours && state.is_exchanging)
        return tp_err_hint(err, TP_ERR_EXISTS, "its files are complete and partly in place: --resume finishes that");
    return tp_err_hint(err, TP_ERR_EXISTS,
                       ours ? "--resume goes on from it, --overwrite starts again (or delete that folder)"
                            : "it is none of ours: move it away");
}

enum tp_status tp_outdir_check(struct tp_outdir *dir, const char *output, struct tp_outdir_ways ways,
                               struct tp_error *err)
{
    *dir = (struct tp_outdir){.final = trimmed(output),
                              .overwrite = ways.overwrite,
                              .in_place = ways.in_place,
                              .resume = ways.resume,
                              .sync = ways.sync,
                              .lock = -1};
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
    dir->work = dir->inside ? tp_path_join(dir->final, TP_PARTIAL_SUFFIX) : concat(dir->final, TP_PARTIAL_SUFFIX);
    if (!dir->work)
        return tp_fail_nomem(err);
    if (dir->in_place)
        st = check_in_place(dir, err);
    else if (dir->inside)
        st = check_folder(dir, err);
    return st ? st : check_partial(dir, err);
}

/* ---- doing ---- */

/* The whole tree, the marker last, and the manifest before it (a commit has taken the marker already): one of our marks
 * is there until nothing else is. */
static enum tp_status empty_work(const struct tp_outdir *dir, struct tp_error *err)
{
    static const char *const marks[] = {TP_OLD_MANIFEST, TP_LAST_FOLDER "/", TP_MANIFEST_NAME, TP_MARKER_NAME};
    struct tp_names names = {0};
    enum tp_status st = tp_tree_list(&names, dir->work, err);
    for (size_t i = 0; i < names.count && !st; i++) {
        const char *name = names.items[i];
        bool is_mark = false;
        for (size_t k = 0; k < TP_COUNT_OF(marks); k++)
            is_mark = is_mark || strcmp(name, marks[k]) == 0;
        if (!is_mark)
            st = tp_tree_remove(dir->work, name, err);
    }
    tp_names_release(&names);
    for (size_t k = 0; k < TP_COUNT_OF(marks) && !st; k++)
        st = tp_tree_remove(dir->work, marks[k], err);
    return st;
}

static enum tp_status write_marker(const struct tp_outdir *dir, struct tp_error *err)
{
    char text[640], run[200];
    char *path = tp_path_join(dir->work, TP_MARKER_NAME);
    int fd = -1;
    tp_host_describe_run(run, sizeof run);
    int len = snprintf(text, sizeof text,
                       "TensorPort is working here, or was stopped while it did:\n%s\nNothing in this folder is a "
                       "finished checkpoint. The same `tensorport convert` with --resume goes on,\nwith --overwrite it "
                       "starts again; the folder may also be deleted.\n",
                       run);
    enum tp_status st = path ? tp_file_create(&fd, path, 0, err) : tp_fail_nomem(err);
    if (!st)
        st = tp_file_write_at(fd, text, (size_t)len, 0, path, err);
    tp_fd_close(fd);
    free(path);
    return st;
}

/* What a kill interrupted: the new files were complete. */
static enum tp_status finish_exchange(struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_status st = tp_outdir_commit(dir, err);
    if (st || (!dir->in_place && !dir->resume))
        return st;
    tp_fail(err, TP_ERR_EXISTS, "an interrupted conversion into this folder was finished; its checkpoint is complete");
    tp_err_path(err, TP_ERR_EXISTS, dir->final);
    return tp_err_hint(err, TP_ERR_EXISTS, "there was nothing more to do");
}

static enum tp_status lock_work(struct tp_outdir *dir, struct tp_error *err)
{
    bool busy;
    enum tp_status st = tp_folder_lock(&dir->lock, &busy, dir->work, err);
    return !st && busy ? refuse_busy(dir, err) : st;
}

/* What lies in a folder of the work folder that is ours alone, and the folder. */
static enum tp_status drop_folder(const struct tp_outdir *dir, const char *name, struct tp_error *err)
{
    struct tp_names names = {0};
    bool there = false;
    char *folder = tp_path_join(dir->work, name);
    enum tp_status st = folder ? tp_outdir_has(&there, dir->work, name, err) : tp_fail_nomem(err);
    if (there)
        st = tp_tree_list(&names, folder, err);
    for (size_t i = 0; i < names.count && !st; i++)
        st = tp_tree_remove(folder, names.items[i], err);
    if (there && !st)
        st = tp_path_remove(folder, err);
    tp_names_release(&names);
    free(folder);
    return st;
}

/* In a folder that another run has left. */
static enum tp_status take_over(struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_outdir_state state;
    enum tp_status st = lock_work(dir, err);
    if (!st)
        read_owner(dir, dir->taken, sizeof dir->taken);
    if (!st)
        st = tp_outdir_look(&state, dir, err);
    if (st)
        return st;
    if (finishes(dir, &state))
        return finish_exchange(dir, err);
    dir->resumed = dir->resume;
    return dir->resume ? drop_folder(dir, TP_LAST_FOLDER, err) : empty_work(dir, err); /* what is last is made again */
}

/* Folders on the way to the work folder that are not there yet. */
static enum tp_status count_parents(struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *path = concat(dir->work, ""), *slash;
    enum tp_status st = path ? TP_OK : tp_fail_nomem(err);
    dir->made_parents = 0;
    while (!st && (slash = strrchr(path, '/')) != NULL && slash > path) {
        *slash = '\0';
        if (slash[-1] == '/')
            continue;
        st = tp_path_kind_of(&kind, path, err);
        if (st || kind != TP_PATH_ABSENT)
            break;
        dir->made_parents++;
    }
    free(path);
    return st;
}

/* Those folders, as far as nothing else has come into them. */
static void remove_parents(const struct tp_outdir *dir)
{
    char *path = concat(dir->work, ""), *slash;
    for (unsigned left = dir->made_parents; path && left > 0 && (slash = strrchr(path, '/')) != NULL;) {
        *slash = '\0';
        if (slash > path && slash[-1] == '/')
            continue;
        left--;
        if (tp_path_remove(path, NULL))
            break;
    }
    free(path);
}

/* On failure nothing of it stays, unless somebody else has taken it meanwhile. */
static enum tp_status make_work(struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_status st = count_parents(dir, err);
    if (!st)
        st = tp_folder_make_new(dir->work, err);
    if (!st)
        st = lock_work(dir, err);
    if (!st)
        st = write_marker(dir, err);
    if (st && dir->lock >= 0)
        tp_outdir_discard(dir);
    else if (st && st != TP_ERR_EXISTS && !tp_path_remove(dir->work, NULL))
        remove_parents(dir);
    return st;
}

enum tp_status tp_outdir_begin(struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_path_kind kind;
    enum tp_status st = check_partial(dir, err); /* again: another run may have begun since */
    if (!st)
        st = tp_path_kind_of_itself(&kind, dir->work, err);
    if (!st && kind == TP_PATH_FOLDER)
        st = take_over(dir, err);
    if (!st)
        st = tp_path_kind_of_itself(&kind, dir->work, err);
    if (!st && kind == TP_PATH_ABSENT) { /* also where an exchange was finished */
        tp_fd_close(dir->lock);
        dir->lock = -1;
        return make_work(dir, err);
    }
    return st ? st : write_marker(dir, err);
}

/* Delete what the old manifest lists. A name that the new one lists too and that is not in the work folder any more has
 * been moved before a kill: that is the new file. */
static enum tp_status remove_old(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_manifest old = {.file_count = 0}, new = {.file_count = 0};
    enum tp_status st = tp_outdir_read_manifest(&old, dir->work, TP_OLD_MANIFEST, err);
    if (!st)
        st = tp_outdir_read_manifest(&new, dir->work, TP_MANIFEST_NAME, err);
    struct tp_listed kept = {.count = 0}, gone = {.count = 0};
    bool ok = tp_listed_add_all(&kept, &new) && tp_listed_add_all(&gone, &old);
    if (!st && !ok)
        st = tp_fail_nomem(err);
    tp_listed_sort(&kept);
    for (size_t i = 0; i < gone.count && !st; i++) {
        bool goes = !tp_listed_has(&kept, gone.names[i]);
        if (!goes)
            st = tp_outdir_has(&goes, dir->work, gone.names[i], err);
        if (goes && !st)
            st = tp_tree_remove(dir->final, gone.names[i], err);
    }
    tp_listed_release(&kept);
    tp_listed_release(&gone);
    tp_manifest_release(&old);
    tp_manifest_release(&new);
    return st;
}

static enum tp_status list_last(struct tp_names *names, char **folder, const struct tp_outdir *dir,
                                struct tp_error *err)
{
    bool there = false;
    *folder = tp_path_join(dir->work, TP_LAST_FOLDER);
    enum tp_status st = *folder ? tp_outdir_has(&there, dir->work, TP_LAST_FOLDER, err) : tp_fail_nomem(err);
    return there ? tp_tree_list(names, *folder, err) : st;
}

static bool is_folder_name(const char *name)
{
    return name[strlen(name) - 1] == '/';
}

/* For each name that goes last: away with the old file of that name, or here with the new one. */
static enum tp_status each_last(const struct tp_outdir *dir, bool moves, struct tp_error *err)
{
    struct tp_names names = {0};
    char *folder = NULL;
    enum tp_status st = list_last(&names, &folder, dir, err);
    for (size_t i = 0; i < names.count && !st; i++) {
        const char *name = names.items[i];
        if (!is_folder_name(name))
            st = moves ? tp_tree_move(folder, name, dir->final, name, err) : tp_tree_remove(dir->final, name, err);
    }
    if (!st && moves && dir->sync && names.count > 0)
        st = tp_tree_sync(dir->final, &names, err);
    tp_names_release(&names);
    free(folder);
    return st;
}

/* Is the manifest in `final` the old one? A kill between the two steps of a move leaves one file with two names. */
static enum tp_status has_old_manifest(bool *old, const struct tp_outdir *dir, const struct tp_outdir_state *state,
                                       struct tp_error *err)
{
    *old = dir->overwrite && !dir->in_place && state->final_manifest;
    if (!*old || !state->old_manifest)
        return TP_OK;
    char *there = tp_path_join(dir->final, TP_MANIFEST_NAME), *taken = tp_path_join(dir->work, TP_OLD_MANIFEST);
    enum tp_status st = there && taken ? TP_OK : tp_fail_nomem(err);
    *old = !st && tp_path_same(there, taken);
    free(there);
    free(taken);
    return st;
}

/* The old manifest goes first, then what says that all is there: what they speak of is still whole then. */
static enum tp_status take_old(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_outdir_state state;
    bool old = false;
    enum tp_status st = tp_outdir_look(&state, dir, err);
    if (!st)
        st = has_old_manifest(&old, dir, &state, err);
    if (!st && old)
        st = tp_tree_move(dir->final, TP_MANIFEST_NAME, dir->work, TP_OLD_MANIFEST, err);
    if (st || !(old || state.old_manifest))
        return st;
    if (dir->sync)
        st = tp_folder_sync(dir->work, err);
    if (!st && dir->sync)
        st = tp_folder_sync(dir->final, err);
    if (!st)
        st = each_last(dir, false, err);
    return st ? st : remove_old(dir, err);
}

/* One of the names that are ours alone, or the manifest. */
static bool stays_in_work(const char *name)
{
    return strcmp(name, TP_MARKER_NAME) == 0 || strcmp(name, TP_OLD_MANIFEST) == 0 ||
           strcmp(name, TP_MANIFEST_NAME) == 0 || strncmp(name, TP_LAST_FOLDER "/", sizeof TP_LAST_FOLDER) == 0 ||
           strncmp(name, TP_RESUME_FOLDER "/", sizeof TP_RESUME_FOLDER) == 0;
}

/* Everything else. The folders stay in the work folder, empty: so a run that goes on knows which to sync. */
static enum tp_status move_files(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_status st = tp_tree_list(&names, dir->work, err);
    for (size_t i = 0; i < names.count && !st; i++) {
        const char *name = names.items[i];
        if (!stays_in_work(name) && !is_folder_name(name))
            st = tp_tree_move(dir->work, name, dir->final, name, err);
    }
    if (!st && dir->sync)
        st = tp_tree_sync(dir->final, &names, err);
    tp_names_release(&names);
    return st;
}

/* Files may have come into `final` since its names were checked. */
static enum tp_status check_still_ours(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    size_t count = 0;
    enum tp_status st = tp_tree_list(&names, dir->work, err);
    const char **moved = st ? NULL : malloc((names.count + 1) * sizeof *moved);
    if (!st && !moved)
        st = tp_fail_nomem(err);
    for (size_t i = 0; i < names.count && !st; i++)
        if (strcmp(names.items[i], TP_MARKER_NAME) != 0 && !is_folder_name(names.items[i]) &&
            strncmp(names.items[i], TP_RESUME_FOLDER "/", sizeof TP_RESUME_FOLDER) != 0)
            moved[count++] = names.items[i];
    if (!st)
        st = tp_outdir_check_names(dir, moved, count, err);
    free(moved);
    tp_names_release(&names);
    return st;
}

static enum tp_status set_last_aside(const struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    char *folder = tp_path_join(dir->work, TP_LAST_FOLDER);
    if (!folder)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < dir->last.count && !st; i++) {
        const char *name = dir->last.items[i];
        st = tp_folder_make(folder, err);
        if (!st)
            st = tp_tree_move(dir->work, name, folder, name, err);
    }
    free(folder);
    return st;
}

static enum tp_status sync_work(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_status st = dir->sync ? tp_tree_list(&names, dir->work, err) : TP_OK;
    if (!st && dir->sync)
        st = tp_tree_sync(dir->work, &names, err);
    tp_names_release(&names);
    return st;
}

/* Up to here the work folder is one that was stopped, and can be gone on from; without the marker it is one whose files
 * are on their way. */
static enum tp_status begin_exchange(const struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_status st = check_still_ours(dir, err);
    if (!st)
        st = set_last_aside(dir, err);
    if (!st)
        st = sync_work(dir, err);
    if (!st)
        st = tp_tree_remove(dir->work, TP_MARKER_NAME, err);
    return !st && dir->sync ? tp_folder_sync(dir->work, err) : st;
}

/* Each step leaves a state from which the whole can be done again: until the new manifest has moved, it lies in the
 * work folder, without the marker; afterwards only the last names and the work folder are left. */
static enum tp_status exchange(const struct tp_outdir *dir, bool has_begun, struct tp_error *err)
{
    enum tp_status st = has_begun ? TP_OK : begin_exchange(dir, err);
    if (!st)
        st = take_old(dir, err);
    if (!st)
        st = move_files(dir, err);
    if (!st)
        st = drop_folder(dir, TP_RESUME_FOLDER, err); /* while the manifest still says whose the folder is */
    if (!st)
        st = tp_tree_move(dir->work, TP_MANIFEST_NAME, dir->final, TP_MANIFEST_NAME, err);
    return !st && dir->sync ? tp_folder_sync(dir->final, err) : st;
}

static enum tp_status commit_inside(const struct tp_outdir *dir, struct tp_error *err)
{
    struct tp_outdir_state state;
    enum tp_status st = tp_outdir_look(&state, dir, err);
    if (!st && state.manifest)
        st = exchange(dir, state.is_exchanging, err);
    if (!st)
        st = each_last(dir, true, err);
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
    enum tp_status st = sync_work(dir, err);
    if (!st)
        st = tp_tree_remove(dir->work, TP_MARKER_NAME, err);
    if (!st) /* late: what is stopped before that can be gone on from */
        st = drop_folder(dir, TP_RESUME_FOLDER, err);
    if (!st && dir->sync)
        st = tp_folder_sync(dir->work, err);
    if (!st)
        st = tp_path_rename(dir->work, dir->final, err);
    return !st && dir->sync ? sync_parent(dir->final, err) : st;
}

void tp_outdir_discard(struct tp_outdir *dir)
{
    struct tp_outdir_state state;
    if (!dir->work || tp_outdir_look(&state, dir, NULL) || state.is_exchanging || !state.is_partial)
        return;
    if (!empty_work(dir, NULL) && !tp_path_remove(dir->work, NULL))
        remove_parents(dir);
}

void tp_outdir_release(struct tp_outdir *dir)
{
    if (dir->final)
        tp_fd_close(dir->lock);
    free(dir->final);
    free(dir->work);
    tp_list_release(&dir->last);
    *dir = (struct tp_outdir){.final = NULL};
}
