/* SPDX-License-Identifier: MIT */
/* The marks by which a run knows what an earlier one has left (outdir.h tells the story). */
#include "job/outdir_state.h"

#include <stdlib.h>
#include <string.h>

#include "os/tree.h"

enum tp_status tp_outdir_has(bool *has, const char *folder, const char *name, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    enum tp_status st = tp_tree_kind_of(&kind, folder, name, err);
    *has = !st && kind != TP_PATH_ABSENT;
    return st;
}

enum tp_status tp_outdir_has_manifest(bool *has, const char *folder, struct tp_error *err)
{
    static const char begin[] = "{\"format\":\"tensorport\"";
    char head[sizeof begin - 1];
    struct tp_file_id id;
    int fd = -1;
    *has = false;
    char *path = tp_path_join(folder, TP_MANIFEST_NAME);
    enum tp_status st = path ? tp_file_open_read(&fd, path, &id, err) : tp_fail_nomem(err);
    if (!st && id.size_bytes >= sizeof head) {
        st = tp_file_read_at(fd, head, sizeof head, 0, path, err);
        *has = !st && memcmp(head, begin, sizeof head) == 0;
    }
    tp_fd_close(fd);
    free(path);
    return st == TP_ERR_FORMAT ? TP_OK : st; /* no such file, or no file */
}

/* No file at all; empty folders may be left of names that have moved. */
static enum tp_status look_whether_empty(bool *empty, const char *folder, struct tp_error *err)
{
    struct tp_names names = {0};
    enum tp_status st = tp_tree_list(&names, folder, err);
    *empty = !st;
    for (size_t i = 0; i < names.count && *empty; i++)
        *empty = names.items[i][strlen(names.items[i]) - 1] == '/';
    tp_names_release(&names);
    return st;
}

static enum tp_status look_into_work(struct tp_outdir_state *s, const char *work, struct tp_error *err)
{
    enum tp_status st = tp_outdir_has(&s->marker, work, TP_MARKER_NAME, err);
    if (!st)
        st = tp_outdir_has_manifest(&s->manifest, work, err);
    if (!st)
        st = tp_outdir_has(&s->old_manifest, work, TP_OLD_MANIFEST, err);
    if (!st)
        st = tp_outdir_has(&s->last, work, TP_LAST_FOLDER, err);
    return st ? st : look_whether_empty(&s->is_empty, work, err);
}

enum tp_status tp_outdir_look(struct tp_outdir_state *s, const struct tp_outdir *dir, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    *s = (struct tp_outdir_state){.marker = false};
    enum tp_status st = tp_outdir_has_manifest(&s->final_manifest, dir->final, err);
    if (!st)
        st = tp_path_kind_of_itself(&kind, dir->work, err);
    if (!st && kind == TP_PATH_FOLDER)
        st = look_into_work(s, dir->work, err);
    s->is_partial = s->marker || s->manifest || s->old_manifest || s->last || s->is_empty;
    s->is_exchanging = dir->inside && (s->old_manifest || ((s->manifest || s->last) && !s->marker));
    return st;
}

enum tp_status tp_outdir_read_manifest(struct tp_manifest *m, const char *folder, const char *name,
                                       struct tp_error *err)
{
    char *path = tp_path_join(folder, name);
    enum tp_status st = path ? tp_manifest_read(m, path, err) : tp_fail_nomem(err);
    free(path);
    return st;
}
