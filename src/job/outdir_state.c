/* SPDX-License-Identifier: MIT */
/* The marks by which a run knows what an earlier one has left (outdir.h tells the story). */
#include "job/outdir_state.h"

#include <stdlib.h>
#include <string.h>

#include "os/tree.h"

bool tp_outdir_has(const char *folder, const char *name)
{
    enum tp_path_kind kind;
    return !tp_tree_kind_of(&kind, folder, name, NULL) && kind != TP_PATH_ABSENT;
}

bool tp_outdir_has_manifest(const char *folder)
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

/* No file at all; empty folders may be left of names that have moved. */
static bool is_empty(const char *folder)
{
    struct tp_names names = {0};
    bool empty = !tp_tree_list(&names, folder, NULL);
    for (size_t i = 0; i < names.count && empty; i++)
        empty = names.items[i][strlen(names.items[i]) - 1] == '/';
    tp_names_release(&names);
    return empty;
}

bool tp_outdir_is_partial(const char *work)
{
    return tp_outdir_has(work, TP_MARKER_NAME) || tp_outdir_has_manifest(work) ||
           tp_outdir_has(work, TP_OLD_MANIFEST) || tp_outdir_has(work, TP_LAST_FOLDER) || is_empty(work);
}

bool tp_outdir_is_exchanging(const struct tp_outdir *dir)
{
    bool complete = tp_outdir_has_manifest(dir->work) || tp_outdir_has(dir->work, TP_LAST_FOLDER);
    return dir->inside &&
           (tp_outdir_has(dir->work, TP_OLD_MANIFEST) || (complete && !tp_outdir_has(dir->work, TP_MARKER_NAME)));
}

enum tp_status tp_outdir_read_manifest(struct tp_manifest *m, const char *folder, const char *name,
                                       struct tp_error *err)
{
    char *path = tp_path_join(folder, name);
    enum tp_status st = path ? tp_manifest_read(m, path, err) : tp_fail_nomem(err);
    free(path);
    return st;
}
