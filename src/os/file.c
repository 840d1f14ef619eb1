/* SPDX-License-Identifier: MIT */
/* System calls on files and folders, and nothing else: every EINTR is retried, every short transfer goes on, every
 * failure names its path. See file.h for the promises. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate, renameat2 */
#endif

#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/arena.h"

/* ---- reading ---- */

static const char *kind_name(mode_t mode)
{
    return S_ISDIR(mode)    ? "a folder"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISCHR(mode)  ? "a character device"
           : S_ISBLK(mode)  ? "a block device"
           : S_ISSOCK(mode) ? "a socket"
                            : "not a regular file";
}

static enum tp_status fail_not_regular(struct tp_error *err, const char *path, mode_t mode)
{
    return tp_err_path(err, tp_fail(err, TP_ERR_FORMAT, "expected a file, found %s", kind_name(mode)), path);
}

/* What is missing is the input's fault; what is refused is the system's. */
static enum tp_status fail_open(struct tp_error *err, const char *path, int sys_errno)
{
    struct stat st;
    if (sys_errno == ENOENT && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        return tp_err_path(err, tp_fail(err, TP_ERR_FORMAT, "a symbolic link to a file that does not exist"), path);
    if (sys_errno == ENOENT || sys_errno == ENOTDIR)
        return tp_err_path(err, tp_fail(err, TP_ERR_FORMAT, "no such file"), path);
    if (sys_errno == ELOOP)
        return tp_err_path(err, tp_fail(err, TP_ERR_FORMAT, "symbolic links that point at each other"), path);
    return tp_fail_errno(err, sys_errno, path, "cannot be opened");
}

static void id_from_stat(struct tp_file_id *id, const struct stat *st)
{
    *id = (struct tp_file_id){
        .device = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .size_bytes = (uint64_t)st->st_size,
        .mtime_s = (int64_t)st->st_mtim.tv_sec,
        .mtime_ns = (int64_t)st->st_mtim.tv_nsec,
    };
}

static int open_retry(const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Whoever may, reads without a trace: the time of the last access stays, and many small reads are a tenth faster. */
static int open_to_read(const char *path)
{
    const int flags = O_RDONLY | O_NONBLOCK;
    int fd = open_retry(path, flags | O_NOATIME, 0);
    return fd < 0 && errno == EPERM ? open_retry(path, flags, 0) : fd;
}

enum tp_status tp_file_open_read(int *fd, const char *path, struct tp_file_id *id, struct tp_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return fail_open(err, path, errno);
    if (!S_ISREG(st.st_mode)) /* looked at before opening: opening a device can have effects */
        return fail_not_regular(err, path, st.st_mode);
    int f = open_to_read(path);
    if (f < 0)
        return fail_open(err, path, errno);
    if (fstat(f, &st) != 0 || !S_ISREG(st.st_mode)) { /* and again: the name may have been given to something else */
        int e = errno;
        close(f);
        return S_ISREG(st.st_mode) ? tp_fail_errno(err, e, path, "cannot be looked at")
                                   : fail_not_regular(err, path, st.st_mode);
    }
    if (id)
        id_from_stat(id, &st);
    *fd = f;
    return TP_OK;
}

enum tp_status tp_file_id_of(int fd, struct tp_file_id *id, const char *path, struct tp_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return tp_fail_errno(err, errno, path, "cannot be looked at");
    id_from_stat(id, &st);
    return TP_OK;
}

bool tp_file_id_equal(const struct tp_file_id *a, const struct tp_file_id *b)
{
    return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes &&
           a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns;
}

enum tp_status tp_file_read_at(int fd, void *dst, size_t len, uint64_t offset, const char *path, struct tp_error *err)
{
    if (offset > INT64_MAX || len > (uint64_t)INT64_MAX - offset)
        return tp_err_path(err, tp_fail(err, TP_ERR_IO, "no file has a byte %" PRIu64, offset), path);
    unsigned char *to = dst;
    while (len > 0) {
        ssize_t got = pread(fd, to, len, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tp_fail_errno(err, errno, path, "reading %zu bytes from byte %" PRIu64, len, offset);
        if (got == 0)
            return tp_err_path(
                err, tp_fail(err, TP_ERR_IO, "ends at byte %" PRIu64 ", %zu more were expected", offset, len), path);
        to += got;
        len -= (size_t)got;
        offset += (uint64_t)got;
    }
    return TP_OK;
}

void tp_fd_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* ---- writing ---- */

/* Blocks for the whole file now, so that a full disk shows before the work; not every file system can. */
static int allocate(int fd, uint64_t size_bytes)
{
    int failed;
    do
        failed = fallocate(fd, 0, 0, (off_t)size_bytes) != 0 ? errno : 0;
    while (failed == EINTR);
    return failed == EOPNOTSUPP || failed == ENOSYS ? 0 : failed;
}

enum tp_status tp_file_create(int *fd, const char *path, uint64_t size_bytes, struct tp_error *err)
{
    if (size_bytes > INT64_MAX)
        return tp_err_path(err, tp_fail(err, TP_ERR_LIMIT, "%" PRIu64 " bytes are too many for a file", size_bytes),
                           path);
    int f = open_retry(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0666);
    if (f < 0)
        return tp_fail_errno(err, errno, path, "cannot be created");
    int failed = size_bytes > 0 ? allocate(f, size_bytes) : 0;
    while (!failed && ftruncate(f, (off_t)size_bytes) != 0)
        if (errno != EINTR)
            failed = errno;
    if (failed) {
        close(f);
        return tp_fail_errno(err, failed, path, "cannot get room for %" PRIu64 " bytes", size_bytes);
    }
    *fd = f;
    return TP_OK;
}

enum tp_status tp_file_open_write(int *fd, const char *path, struct tp_error *err)
{
    int f = open_retry(path, O_RDWR | O_NOFOLLOW, 0);
    if (f < 0)
        return tp_fail_errno(err, errno, path, "cannot be opened for writing");
    *fd = f;
    return TP_OK;
}

enum tp_status tp_file_resize(int fd, uint64_t size_bytes, const char *path, struct tp_error *err)
{
    while (ftruncate(fd, (off_t)size_bytes) != 0)
        if (errno != EINTR)
            return tp_fail_errno(err, errno, path, "cannot be made %" PRIu64 " bytes long", size_bytes);
    return TP_OK;
}

enum tp_status tp_file_write_at(int fd, const void *src, size_t len, uint64_t offset, const char *path,
                                struct tp_error *err)
{
    const unsigned char *from = src;
    while (len > 0) {
        ssize_t put = pwrite(fd, from, len, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return tp_fail_errno(err, put < 0 ? errno : ENOSPC, path, "writing %zu bytes at byte %" PRIu64, len,
                                 offset);
        from += put;
        len -= (size_t)put;
        offset += (uint64_t)put;
    }
    return TP_OK;
}

/* Some file systems have no fsync for what they hold; they say EINVAL, and there is nothing to wait for. */
static enum tp_status sync_fd(int fd, const char *path, struct tp_error *err)
{
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return errno == EINVAL || errno == ENOTSUP ? TP_OK : tp_fail_errno(err, errno, path, "cannot be synced");
    return TP_OK;
}

enum tp_status tp_file_sync(int fd, const char *path, struct tp_error *err)
{
    return sync_fd(fd, path, err);
}

enum tp_status tp_file_close(int fd, const char *path, struct tp_error *err)
{
    if (close(fd) != 0 && errno != EINTR) /* after EINTR Linux has closed it, and a second close may hit another's */
        return tp_fail_errno(err, errno, path, "closing after writing");
    return TP_OK;
}

/* ---- names and folders ---- */

static enum tp_path_kind kind_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? TP_PATH_FILE : S_ISDIR(mode) ? TP_PATH_FOLDER : TP_PATH_OTHER;
}

enum tp_status tp_path_kind_of(enum tp_path_kind *kind, const char *path, struct tp_error *err)
{
    struct stat st;
    int failed = stat(path, &st) != 0 ? errno : 0;
    if (failed == ENOENT || failed == ENOTDIR)
        return tp_path_kind_of_itself(kind, path, err); /* a link that leads nowhere is there */
    if (failed)
        return tp_fail_errno(err, failed, path, "cannot be looked at");
    *kind = kind_of_mode(st.st_mode);
    return TP_OK;
}

enum tp_status tp_path_kind_of_itself(enum tp_path_kind *kind, const char *path, struct tp_error *err)
{
    struct stat st;
    int failed = lstat(path, &st) != 0 ? errno : 0;
    if (failed && failed != ENOENT && failed != ENOTDIR)
        return tp_fail_errno(err, failed, path, "cannot be looked at");
    *kind = failed ? TP_PATH_ABSENT : kind_of_mode(st.st_mode);
    return TP_OK;
}

bool tp_path_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(*a ? a : ".", &x) == 0 && stat(*b ? b : ".", &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

char *tp_path_join(const char *dir, const char *name)
{
    size_t dir_len = strlen(dir);
    const char *between = dir_len > 0 && dir[dir_len - 1] != '/' ? "/" : "";
    size_t size = dir_len + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s%s%s", dir, between, name);
    return path;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

enum tp_status tp_folder_list(struct tp_names *out, const char *path, struct tp_error *err)
{
    struct tp_names names = {0};
    size_t capacity = 0;
    DIR *dir = opendir(*path ? path : ".");
    if (!dir)
        return tp_fail_errno(err, errno, path, "the folder cannot be listed");
    enum tp_status status = TP_OK;
    while (!status) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                status = tp_fail_errno(err, errno, path, "the folder cannot be listed");
            break;
        }
        if (is_dot(entry->d_name))
            continue;
        char *name = strdup(entry->d_name);
        if (name && tp_array_grow(&names.items, &capacity, names.count + 1, sizeof *names.items)) {
            names.items[names.count++] = name;
        } else {
            free(name);
            status = tp_fail_nomem(err);
        }
    }
    closedir(dir);
    if (status) {
        tp_names_release(&names);
        return status;
    }
    if (names.count > 1)
        qsort(names.items, names.count, sizeof *names.items, by_bytes);
    *out = names;
    return TP_OK;
}

void tp_names_release(struct tp_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
    *names = (struct tp_names){0};
}

static enum tp_status make_one(const char *path, struct tp_error *err)
{
    enum tp_path_kind kind;
    if (mkdir(path, 0777) == 0)
        return TP_OK;
    int e = errno;
    enum tp_status status = tp_path_kind_of(&kind, path, err);
    if (!status && kind != TP_PATH_FOLDER)
        status = tp_fail_errno(err, e, path, "the folder cannot be made");
    return status;
}

static enum tp_status make_parents(const char *path, struct tp_error *err)
{
    char *copy = strdup(path);
    if (!copy)
        return tp_fail_nomem(err);
    enum tp_status status = TP_OK;
    for (char *p = copy + 1; !status && *copy && *p; p++) {
        if (*p != '/' || p[-1] == '/')
            continue;
        *p = '\0';
        status = make_one(copy, err);
        *p = '/';
    }
    free(copy);
    return status;
}

enum tp_status tp_folder_make(const char *path, struct tp_error *err)
{
    enum tp_status status = make_parents(path, err);
    return status ? status : make_one(path, err);
}

enum tp_status tp_folder_make_new(const char *path, struct tp_error *err)
{
    enum tp_status status = make_parents(path, err);
    if (status || mkdir(path, 0777) == 0)
        return status;
    return errno == EEXIST ? tp_err_path(err, tp_fail(err, TP_ERR_EXISTS, "is already there"), path)
                           : tp_fail_errno(err, errno, path, "the folder cannot be made");
}

enum tp_status tp_folder_sync(const char *path, struct tp_error *err)
{
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return tp_fail_errno(err, errno, path, "the folder cannot be opened");
    enum tp_status status = sync_fd(fd, path, err);
    close(fd);
    return status;
}

static enum tp_status fail_rename(struct tp_error *err, int sys_errno, const char *from, const char *to)
{
    if (sys_errno == EEXIST || sys_errno == ENOTEMPTY || sys_errno == EISDIR)
        return tp_err_path(err, tp_fail(err, TP_ERR_EXISTS, "is already there"), to);
    return tp_fail_errno(err, sys_errno, from, "cannot be renamed");
}

/* rename(2) alone would quietly replace an empty folder by a folder. */
static enum tp_status rename_folder(const char *from, const char *to, struct tp_error *err)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return TP_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return fail_rename(err, errno, from, to);
    struct stat st; /* a file system without the flag */
    if (lstat(to, &st) == 0)
        return fail_rename(err, EEXIST, from, to);
    return rename(from, to) == 0 ? TP_OK : fail_rename(err, errno, from, to);
}

enum tp_status tp_path_rename(const char *from, const char *to, struct tp_error *err)
{
    struct stat st;
    if (lstat(from, &st) == 0 && S_ISDIR(st.st_mode))
        return rename_folder(from, to, err);
    return rename(from, to) == 0 ? TP_OK : fail_rename(err, errno, from, to);
}

enum tp_status tp_path_remove(const char *path, struct tp_error *err)
{
    return remove(path) == 0 || errno == ENOENT ? TP_OK : tp_fail_errno(err, errno, path, "cannot be removed");
}

/* Cut the last component off: "a/b" -> "a", "a" -> ".", "/a" -> "/". False at the end of the way. */
static bool to_parent(char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0) {
        bool here = strcmp(path, ".") == 0;
        memcpy(path, ".", 2);
        return !here;
    }
    bool root = path[1] == '\0';
    path[len] = '\0';
    return !root;
}

enum tp_status tp_path_free_bytes(uint64_t *free_bytes, const char *path, struct tp_error *err)
{
    size_t size = strlen(path) + 2; /* room for "." */
    char *place = malloc(size);
    if (!place)
        return tp_fail_nomem(err);
    snprintf(place, size, "%s", *path ? path : ".");
    struct statvfs fs;
    int failed;
    do
        failed = statvfs(place, &fs) != 0 ? errno : 0;
    while (failed == EINTR || (failed == ENOENT && to_parent(place)));
    free(place);
    if (failed)
        return tp_fail_errno(err, failed, path, "cannot ask for the free space");
    *free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize;
    return TP_OK;
}
