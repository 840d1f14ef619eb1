/* SPDX-License-Identifier: MIT */
/* Names below a folder: every step is one component, opened from the folder before it and never through a link. See
 * tree.h for the promises. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH, renameat2 */
#endif

#include "os/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "tensorport/text.h"

#define COMPONENT_MAX 255u

static bool is_dots(const char *name, size_t len)
{
    return (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.');
}

bool tp_tree_is_name(const char *name)
{
    for (unsigned folders = 0; folders <= TP_FOLDER_DEPTH_MAX; folders++) {
        size_t len = strcspn(name, "/");
        if (len == 0 || len > COMPONENT_MAX || is_dots(name, len))
            return false;
        if (name[len] == '\0')
            return true;
        name += len + 1;
    }
    return false;
}

static enum tp_status check_name(const char *root, const char *name, struct tp_error *err)
{
    char shown[256];
    if (tp_tree_is_name(name))
        return TP_OK;
    tp_fail(err, TP_ERR_UNSUPPORTED, "no file within a folder can be called '%s'",
            tp_text_printable(shown, sizeof shown, name, strlen(name)));
    return tp_err_path(err, TP_ERR_UNSUPPORTED, root);
}

static const char *last_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static enum tp_status fail_at(struct tp_error *err, int sys_errno, const char *root, const char *name, const char *what)
{
    char *path = tp_path_join(root, name);
    enum tp_status st = tp_fail_errno(err, sys_errno, path ? path : root, "%s", what);
    free(path);
    return st;
}

static enum tp_status fail_exists(struct tp_error *err, const char *root, const char *name, const char *what)
{
    char *path = tp_path_join(root, name);
    tp_err_path(err, tp_fail(err, TP_ERR_EXISTS, "%s", what), path ? path : root);
    free(path);
    return TP_ERR_EXISTS;
}

/* Nothing can lie below such a place. */
static bool is_absent(int sys_errno)
{
    return sys_errno == ENOENT || sys_errno == ENOTDIR || sys_errno == ELOOP;
}

static int open_at(int at, const char *name, int flags)
{
    int fd;
    do
        fd = openat(at, name, flags | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* The first `len` bytes of `name`, one component, as a folder of `at`; -1: errno says why. */
static int open_component(int at, const char *name, size_t len, bool make)
{
    char part[COMPONENT_MAX + 1];
    memcpy(part, name, len);
    part[len] = '\0';
    int fd = open_at(at, part, O_PATH | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && make && (mkdirat(at, part, 0777) == 0 || errno == EEXIST))
        fd = open_at(at, part, O_PATH | O_NOFOLLOW);
    return fd;
}

/* The folder that `name` (a sound one) lies in; -1: errno says why. */
static int open_parent(const char *root, const char *name, bool make)
{
    int at = open_at(AT_FDCWD, *root ? root : ".", O_PATH);
    for (const char *slash; at >= 0 && (slash = strchr(name, '/')) != NULL; name = slash + 1) {
        int next = open_component(at, name, (size_t)(slash - name), make);
        int failed = errno;
        close(at);
        errno = failed;
        at = next;
    }
    return at;
}

/* ---- looking ---- */

enum tp_status tp_tree_kind_of(enum tp_path_kind *kind, const char *root, const char *name, struct tp_error *err)
{
    struct stat st;
    enum tp_status status = check_name(root, name, err);
    if (status)
        return status;
    int at = open_parent(root, name, false);
    int failed = at < 0 || fstatat(at, last_of(name), &st, AT_SYMLINK_NOFOLLOW) != 0 ? errno : 0;
    tp_fd_close(at);
    if (failed && !is_absent(failed))
        return fail_at(err, failed, root, name, "cannot be looked at");
    *kind = failed                ? TP_PATH_ABSENT
            : S_ISREG(st.st_mode) ? TP_PATH_FILE
            : S_ISDIR(st.st_mode) ? TP_PATH_FOLDER
                                  : TP_PATH_OTHER;
    return TP_OK;
}

struct listing {
    struct tp_names names;
    size_t capacity;
    const char *root;
    struct tp_error *err;
};

/* Takes `name`, which is malloc'd or NULL. */
static enum tp_status keep_name(struct listing *l, char *name)
{
    if (name && tp_array_grow(&l->names.items, &l->capacity, l->names.count + 1, sizeof *l->names.items)) {
        l->names.items[l->names.count++] = name;
        return TP_OK;
    }
    free(name);
    return tp_fail_nomem(l->err);
}

static bool is_folder(int at, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(at, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static enum tp_status list_folder(struct listing *l, int fd, const char *prefix, unsigned depth);

/* A folder by what is in it, or else by its own name with a '/'. Takes `path`. */
static enum tp_status list_inside(struct listing *l, int at, const char *name, char *path, unsigned depth)
{
    size_t before = l->names.count;
    enum tp_status st = path ? TP_OK : tp_fail_nomem(l->err);
    if (!st && depth < TP_FOLDER_DEPTH_MAX) {
        int fd = open_at(at, name, O_RDONLY | O_NOFOLLOW);
        if (fd >= 0)
            st = list_folder(l, fd, path, depth + 1);
        else if (!is_absent(errno)) /* gone or replaced since: then its own name will do */
            st = fail_at(l->err, errno, l->root, path, "the folder cannot be listed");
    }
    if (!st && l->names.count == before)
        st = keep_name(l, tp_path_join(path, ""));
    free(path);
    return st;
}

/* Takes `fd`. */
static enum tp_status list_folder(struct listing *l, int fd, const char *prefix, unsigned depth)
{
    enum tp_status st = TP_OK;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        st = fail_at(l->err, errno, l->root, prefix, "the folder cannot be listed");
        close(fd);
        return st;
    }
    while (!st) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                st = fail_at(l->err, errno, l->root, prefix, "the folder cannot be listed");
            break;
        }
        if (is_dots(entry->d_name, strlen(entry->d_name)))
            continue;
        char *path = tp_path_join(prefix, entry->d_name);
        st = is_folder(fd, entry) ? list_inside(l, fd, entry->d_name, path, depth) : keep_name(l, path);
    }
    closedir(dir);
    return st;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum tp_status tp_tree_list(struct tp_names *out, const char *root, struct tp_error *err)
{
    struct listing l = {.root = root, .err = err};
    int fd = open_at(AT_FDCWD, *root ? root : ".", O_RDONLY);
    if (fd < 0)
        return tp_fail_errno(err, errno, root, "the folder cannot be listed");
    enum tp_status st = list_folder(&l, fd, "", 0);
    if (st) {
        tp_names_release(&l.names);
        return st;
    }
    if (l.names.count > 1)
        qsort(l.names.items, l.names.count, sizeof *l.names.items, by_bytes);
    *out = l.names;
    return TP_OK;
}

/* ---- changing ---- */

static enum tp_status fail_make(struct tp_error *err, int sys_errno, const char *root, const char *name)
{
    if (sys_errno == ENOTDIR || sys_errno == ELOOP)
        return fail_exists(err, root, name, "needs a folder where a file or a link lies");
    return fail_at(err, sys_errno, root, name, "its folder cannot be made");
}

enum tp_status tp_tree_make(const char *root, const char *name, struct tp_error *err)
{
    enum tp_status st = check_name(root, name, err);
    int at = st ? -1 : open_parent(root, name, true);
    if (!st && at < 0)
        st = fail_make(err, errno, root, name);
    tp_fd_close(at);
    return st;
}

struct step { /* from one folder's name to another's */
    int from_at, to_at;
    const char *from, *to;
};

static bool is_same_file(const struct step *s)
{
    struct stat a, b;
    return fstatat(s->from_at, s->from, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(s->to_at, s->to, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Where the file system has no renaming that replaces nothing: a second name, then the first goes; and where it has
 * no second names either, a look. */
static int move_in_two_steps(const struct step *s)
{
    struct stat st;
    if (linkat(s->from_at, s->from, s->to_at, s->to, 0) == 0)
        return unlinkat(s->from_at, s->from, 0) == 0 ? 0 : errno;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
        return errno;
    if (fstatat(s->to_at, s->to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    return renameat(s->from_at, s->from, s->to_at, s->to) == 0 ? 0 : errno;
}

/* 0, or an errno. */
static int move_file(const struct step *s)
{
    int failed = renameat2(s->from_at, s->from, s->to_at, s->to, RENAME_NOREPLACE) == 0 ? 0 : errno;
    if (failed == EINVAL || failed == ENOSYS)
        failed = move_in_two_steps(s);
    if (failed == EEXIST && is_same_file(s))
        failed = unlinkat(s->from_at, s->from, 0) == 0 ? 0 : errno;
    return failed;
}

enum tp_status tp_tree_move(const char *from_root, const char *from, const char *to_root, const char *to,
                            struct tp_error *err)
{
    enum tp_status st = check_name(from_root, from, err);
    if (!st)
        st = check_name(to_root, to, err);
    if (st)
        return st;
    struct step s = {.from_at = open_parent(from_root, from, false), .to_at = -1, .from = last_of(from)};
    if (s.from_at < 0)
        return fail_at(err, errno, from_root, from, "cannot be renamed");
    s.to_at = open_parent(to_root, to, true);
    s.to = last_of(to);
    int failed = s.to_at < 0 ? errno : move_file(&s);
    if (s.to_at < 0)
        st = fail_make(err, failed, to_root, to);
    else if (failed == EEXIST)
        st = fail_exists(err, to_root, to, "is already there");
    else if (failed)
        st = fail_at(err, failed, from_root, from, "cannot be renamed");
    tp_fd_close(s.to_at);
    tp_fd_close(s.from_at);
    return st;
}

/* The folders of `folder` upwards that are empty, or gone since a kill. */
static void remove_empty(const char *root, char *folder)
{
    for (char *end = folder + strlen(folder); end; end = strrchr(folder, '/')) {
        *end = '\0';
        int at = open_parent(root, folder, false);
        bool goes_on = at < 0 ? errno == ENOENT : unlinkat(at, last_of(folder), AT_REMOVEDIR) == 0 || errno == ENOENT;
        tp_fd_close(at);
        if (!goes_on)
            return;
    }
}

static int remove_file(const char *root, const char *name)
{
    struct stat st;
    int at = open_parent(root, name, false);
    int failed = at < 0 || fstatat(at, last_of(name), &st, AT_SYMLINK_NOFOLLOW) != 0 ? errno : 0;
    if (!failed && !S_ISDIR(st.st_mode) && unlinkat(at, last_of(name), 0) != 0)
        failed = errno;
    tp_fd_close(at);
    return is_absent(failed) ? 0 : failed;
}

enum tp_status tp_tree_remove(const char *root, const char *name, struct tp_error *err)
{
    size_t len = strlen(name);
    bool empty_folder = len > 0 && name[len - 1] == '/';
    char *copy = strdup(name);
    if (!copy)
        return tp_fail_nomem(err);
    if (empty_folder)
        copy[len - 1] = '\0';
    enum tp_status st = check_name(root, copy, err);
    int failed = st || empty_folder ? 0 : remove_file(root, copy);
    if (failed)
        st = fail_at(err, failed, root, copy, "cannot be removed");
    char *slash = strrchr(copy, '/');
    if (!st && !empty_folder && slash)
        *slash = '\0';
    if (!st && (empty_folder || slash))
        remove_empty(root, copy);
    free(copy);
    return st;
}

/* ---- syncing ---- */

struct folder {
    const char *name; /* its first `len` bytes */
    size_t len;
};

/* Longer ones first: a child is longer than its parent. */
static int by_length(const void *left, const void *right)
{
    const struct folder *a = left, *b = right;
    if (a->len != b->len)
        return a->len < b->len ? 1 : -1;
    return memcmp(a->name, b->name, a->len);
}

static bool add_folders(struct folder **folders, size_t *count, size_t *capacity, const char *name)
{
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        if (!tp_array_grow(folders, capacity, *count + 1, sizeof **folders))
            return false;
        (*folders)[(*count)++] = (struct folder){name, (size_t)(slash - name)};
    }
    return true;
}

static enum tp_status sync_folder(const char *root, const struct folder *f, struct tp_error *err)
{
    char *name = strndup(f->name, f->len);
    if (!name)
        return tp_fail_nomem(err);
    enum tp_status st = check_name(root, name, err);
    int at = st ? -1 : open_parent(root, name, false);
    int fd = at < 0 ? -1 : open_at(at, last_of(name), O_RDONLY | O_NOFOLLOW);
    if (!st && fd >= 0)
        st = tp_file_sync(fd, root, err);
    else if (!st && !is_absent(errno))
        st = fail_at(err, errno, root, name, "the folder cannot be opened");
    tp_fd_close(fd);
    tp_fd_close(at);
    free(name);
    return st;
}

enum tp_status tp_tree_sync(const char *root, const struct tp_names *names, struct tp_error *err)
{
    struct folder *folders = NULL;
    size_t count = 0, capacity = 0;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < names->count && !st; i++)
        if (!add_folders(&folders, &count, &capacity, names->items[i]))
            st = tp_fail_nomem(err);
    if (count > 1)
        qsort(folders, count, sizeof *folders, by_length);
    for (size_t i = 0; i < count && !st; i++)
        if (i == 0 || by_length(&folders[i - 1], &folders[i]) != 0)
            st = sync_folder(root, &folders[i], err);
    free(folders);
    return st ? st : tp_folder_sync(*root ? root : ".", err);
}
