/* SPDX-License-Identifier: MIT */
/* A checkpoint that refers to its source is right as long as the source is what was read: so only the very file that
 * was read is linked, and none that a downloader may still be writing. */
#include "job/links.h"

#include <stdlib.h>
#include <string.h>

#include "os/tree.h"
#include "tensorport/text.h"

struct placing {
    const struct tp_link_order *order;
    const char *source, *path;
    const struct tp_file_id *id;
    struct tp_error *err;
};

static enum tp_status fail_changed(const struct placing *p)
{
    return tp_err_path(p->err, tp_fail(p->err, TP_ERR_IO, "changed after it was read, or was replaced"), p->source);
}

/* Through its new name it must be what the reader opened. */
static enum tp_status check_linked(const struct placing *p)
{
    struct tp_file_id now;
    int fd = -1;
    enum tp_status st = tp_file_open_read(&fd, p->path, &now, p->err);
    if (!st && !tp_file_id_equal(&now, p->id))
        st = fail_changed(p);
    if (!st && p->order->sync)
        st = tp_file_sync(fd, p->path, p->err);
    tp_fd_close(fd);
    return st;
}

static bool source_is_unchanged(const struct placing *p)
{
    struct tp_file_id now;
    int fd = -1;
    bool same = !tp_file_open_read(&fd, p->source, &now, NULL) && tp_file_id_equal(&now, p->id);
    tp_fd_close(fd);
    return same;
}

static enum tp_status place_hard(const struct placing *p, bool *impossible)
{
    enum tp_status st = tp_file_link_hard(p->source, p->path, impossible, p->err);
    if (st)
        return st;
    st = check_linked(p);
    if (st)
        (void)!tp_path_remove(p->path, NULL);
    if (st && source_is_unchanged(p)) { /* overlays can give a linked file another inode */
        *impossible = true;
        st = tp_err_path(p->err, tp_fail(p->err, TP_ERR_IO, "is another file through its hard link"), p->source);
    }
    return st;
}

static enum tp_status place_symbolic(const struct placing *p)
{
    char *target = NULL;
    enum tp_status st = tp_path_real(&target, p->source, p->err);
    if (!st)
        st = tp_file_link_symbolic(target, p->path, p->err);
    free(target);
    if (st)
        return st;
    st = check_linked(p);
    if (st)
        (void)!tp_path_remove(p->path, NULL);
    return st;
}

static enum tp_status sync_copy(const struct placing *p)
{
    int fd = -1;
    enum tp_status st = tp_file_open_read(&fd, p->path, NULL, p->err);
    if (!st)
        st = tp_file_sync(fd, p->path, p->err);
    tp_fd_close(fd);
    return st;
}

static enum tp_status place_copy(const struct placing *p)
{
    struct tp_file_id before, after;
    int fd = -1;
    enum tp_status st = tp_file_open_read(&fd, p->source, &before, p->err);
    if (!st && !tp_file_id_equal(&before, p->id))
        st = fail_changed(p);
    if (!st)
        st = tp_file_copy(fd, p->source, p->path, p->id->size_bytes, p->order->step, p->order->user, p->err);
    bool is_there = !st;
    if (!st)
        st = tp_file_id_of(fd, &after, p->source, p->err);
    if (!st && !tp_file_id_equal(&after, p->id))
        st = fail_changed(p);
    if (!st && p->order->sync)
        st = sync_copy(p);
    tp_fd_close(fd);
    if (st && is_there)
        (void)!tp_path_remove(p->path, NULL);
    return st;
}

static enum tp_status place(const struct placing *p, enum tp_linked *how)
{
    bool impossible = false;
    enum tp_status st = TP_OK;
    switch (p->order->way) {
    case TP_LINK_COPY:
        *how = TP_LINKED_COPY;
        return place_copy(p);
    case TP_LINK_AUTO:
    case TP_LINK_HARD:
        *how = TP_LINKED_HARD;
        st = place_hard(p, &impossible);
        if (!st || !impossible)
            return st;
        if (p->order->way == TP_LINK_HARD)
            return tp_err_hint(p->err, st, "--link symlink refers to the source where it lies, --link copy copies it");
        *how = TP_LINKED_SYMBOLIC;
        return place_symbolic(p);
    case TP_LINK_SYMBOLIC:
        *how = TP_LINKED_SYMBOLIC;
        return place_symbolic(p);
    case TP_LINK_IN_PLACE:
    default:
        return tp_fail(p->err, TP_ERR_BUG, "a file that stays where it is was to be linked");
    }
}

enum tp_status tp_link_put(enum tp_linked *how, const struct tp_link_order *order, const char *source,
                           const struct tp_file_id *id, const char *folder, const char *name, struct tp_error *err)
{
    enum tp_status st = tp_tree_make(folder, name, err);
    char *path = st ? NULL : tp_path_join(folder, name);
    if (!st && !path)
        st = tp_fail_nomem(err);
    if (!st)
        st = place(&(struct placing){order, source, path, id, err}, how);
    free(path);
    return st;
}

/* ---- is it all there? ---- */

#define HUB_FOLDER ".cache/huggingface/download" /* where huggingface_hub keeps what it has of a file so far */
#define HUB_SUFFIX ".incomplete"

static enum tp_status refuse(struct tp_error *err, const char *folder, const char *name, const char *trace)
{
    char shown[200], beside[200];
    tp_fail(err, TP_ERR_FORMAT, "'%s' looks unfinished: a downloader's '%s' lies beside it",
            tp_text_printable(shown, sizeof shown, name, strlen(name)),
            tp_text_printable(beside, sizeof beside, trace, strlen(trace)));
    tp_err_path(err, TP_ERR_FORMAT, folder);
    return tp_err_hint(err, TP_ERR_FORMAT, "finish the download first; if it is finished, delete what it left behind");
}

static enum tp_status check_siblings(const char *path, const char *folder, const char *name, struct tp_error *err)
{
    static const char *const suffixes[] = {".incomplete", ".part", ".aria2", ".crdownload"};
    size_t len = strlen(path);
    char *sibling = malloc(len + 16);
    if (!sibling)
        return tp_fail_nomem(err);
    memcpy(sibling, path, len);
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < TP_COUNT_OF(suffixes) && !st; i++) {
        enum tp_path_kind kind;
        memcpy(sibling + len, suffixes[i], strlen(suffixes[i]) + 1);
        st = tp_path_kind_of_itself(&kind, sibling, err);
        if (!st && kind != TP_PATH_ABSENT) {
            const char *slash = strrchr(sibling, '/');
            st = refuse(err, folder, name, slash ? slash + 1 : sibling);
        }
    }
    free(sibling);
    return st;
}

/* Beside the name, and beside the file itself: huggingface_hub's cache links names to files called by their digest. */
static enum tp_status check_file(const char *folder, const char *name, struct tp_error *err)
{
    char *path = tp_path_join(folder, name), *real = NULL;
    enum tp_status st = path ? check_siblings(path, folder, name, err) : tp_fail_nomem(err);
    if (!st)
        st = tp_path_real(&real, path, err);
    if (!st)
        st = check_siblings(real, folder, name, err);
    free(real);
    free(path);
    return st;
}

static size_t first_not_before(const struct tp_names *sorted, const char *text)
{
    size_t low = 0, high = sorted->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(sorted->items[middle], text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool ends_with(const char *text, const char *suffix)
{
    size_t len = strlen(text), suffix_len = strlen(suffix);
    return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

/* NAME.SOMETHING.incomplete. */
static enum tp_status check_hub(const struct tp_names *hub, const char *folder, const char *name, struct tp_error *err)
{
    size_t len = strlen(name);
    for (size_t i = first_not_before(hub, name); i < hub->count && strncmp(hub->items[i], name, len) == 0; i++)
        if (hub->items[i][len] == '.' && ends_with(hub->items[i], HUB_SUFFIX))
            return refuse(err, folder, name, hub->items[i]);
    return TP_OK;
}

enum tp_status tp_link_check_finished(const char *folder, const char *const *names, size_t count, struct tp_error *err)
{
    struct tp_names hub = {0};
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *hub_folder = tp_path_join(folder, HUB_FOLDER);
    enum tp_status st = hub_folder ? tp_path_kind_of(&kind, hub_folder, err) : tp_fail_nomem(err);
    if (!st && kind == TP_PATH_FOLDER)
        st = tp_tree_list(&hub, hub_folder, err);
    for (size_t i = 0; i < count && !st; i++) {
        st = check_file(folder, names[i], err);
        if (!st)
            st = check_hub(&hub, folder, names[i], err);
    }
    tp_names_release(&hub);
    free(hub_folder);
    return st;
}
