/* SPDX-License-Identifier: MIT */
/* Hard links, symbolic links and copies of files. See copy.h for the promises. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* copy_file_range */
#endif

#include "os/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define STEP_BYTES ((size_t)8 << 20) /* told of that often, also on a slow disk */
#define BUFFER_BYTES ((size_t)256 << 10)

enum tp_status tp_path_real(char **real, const char *path, struct tp_error *err)
{
    *real = realpath(path, NULL);
    return *real ? TP_OK : tp_fail_errno(err, errno, path, "cannot be followed to where it leads");
}

static enum tp_status fail_new(struct tp_error *err, int sys_errno, const char *path, const char *what)
{
    if (sys_errno == EEXIST)
        return tp_err_path(err, tp_fail(err, TP_ERR_EXISTS, "is already there"), path);
    return tp_fail_errno(err, sys_errno, path, "%s", what);
}

enum tp_status tp_file_link_hard(const char *from, const char *to, bool *impossible, struct tp_error *err)
{
    *impossible = false;
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
        return TP_OK;
    int failed = errno; /* EPERM: none at all here, or none of what belongs to somebody else */
    *impossible = failed == EXDEV || failed == EPERM || failed == EMLINK || failed == EOPNOTSUPP || failed == ENOSYS;
    return fail_new(err, failed, to, "a hard link cannot be made");
}

enum tp_status tp_file_link_symbolic(const char *target, const char *path, struct tp_error *err)
{
    return symlink(target, path) == 0 ? TP_OK : fail_new(err, errno, path, "a symbolic link cannot be made");
}

/* ---- copying ---- */

struct copy {
    int from, to;
    const char *from_path, *to_path;
    uint64_t at, size_bytes;
    tp_copy_step_fn step;
    void *user;
    struct tp_error *err;
};

static enum tp_status tell(const struct copy *c, uint64_t bytes)
{
    return c->step && c->step(c->user, bytes) ? tp_fail(c->err, TP_ERR_CANCELLED, "cancelled") : TP_OK;
}

static size_t next_step(const struct copy *c, size_t most)
{
    return c->size_bytes - c->at < most ? (size_t)(c->size_bytes - c->at) : most;
}

/* As far as the kernel copies by itself. What stops it (other file systems, an early end, a full disk) the plain way
 * meets again, and can say it better. */
static enum tp_status copy_in_kernel(struct copy *c)
{
    enum tp_status st = TP_OK;
    while (c->at < c->size_bytes && !st) {
        off_t in = (off_t)c->at, out = (off_t)c->at;
        ssize_t n = copy_file_range(c->from, &in, c->to, &out, next_step(c, STEP_BYTES), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        c->at += (uint64_t)n;
        st = tell(c, (uint64_t)n);
    }
    return st;
}

static enum tp_status copy_by_buffer(struct copy *c)
{
    enum tp_status st = TP_OK;
    unsigned char *buffer = c->at < c->size_bytes ? malloc(BUFFER_BYTES) : NULL;
    if (c->at < c->size_bytes && !buffer)
        st = tp_fail_nomem(c->err);
    while (c->at < c->size_bytes && !st) {
        size_t n = next_step(c, BUFFER_BYTES);
        st = tp_file_read_at(c->from, buffer, n, c->at, c->from_path, c->err);
        if (!st)
            st = tp_file_write_at(c->to, buffer, n, c->at, c->to_path, c->err);
        c->at += n;
        if (!st)
            st = tell(c, n);
    }
    free(buffer);
    return st;
}

/* Both names share their blocks where the file system can do that: nothing is copied at all. */
static bool share_blocks(struct copy *c)
{
    if (ioctl(c->to, FICLONE, c->from) != 0)
        return false;
    c->at = c->size_bytes;
    return true;
}

static int create_new(const char *path)
{
    int fd;
    do
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    while (fd < 0 && errno == EINTR);
    return fd;
}

enum tp_status tp_file_copy(int from_fd, const char *from, const char *to, uint64_t size_bytes, tp_copy_step_fn step,
                            void *user, struct tp_error *err)
{
    struct copy c = {from_fd, create_new(to), from, to, 0, size_bytes, step, user, err};
    if (c.to < 0)
        return fail_new(err, errno, to, "cannot be created");
    enum tp_status st = TP_OK;
    if (share_blocks(&c)) {
        st = tell(&c, size_bytes);
    } else {
        int again = -1;
        st = tp_file_create(&again, to, size_bytes, err); /* room for all of it, or none */
        tp_fd_close(again);
        if (!st)
            st = copy_in_kernel(&c);
        if (!st)
            st = copy_by_buffer(&c);
    }
    enum tp_status closed = tp_file_close(c.to, to, st ? NULL : err);
    if (!st)
        st = closed;
    if (st)
        (void)!tp_path_remove(to, NULL);
    return st;
}
