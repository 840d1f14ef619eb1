/* SPDX-License-Identifier: MIT */
#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "os/host.h"

/* It may have been renamed or replaced while we waited for nothing: what we hold must be what lies there now. */
static int look_whether_there(int fd, const char *path, bool *is_there) /* 0 or an errno */
{
    struct stat held, there;
    *is_there = false;
    if (fstat(fd, &held) != 0)
        return errno;
    if (stat(path, &there) != 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : errno;
    *is_there = held.st_dev == there.st_dev && held.st_ino == there.st_ino;
    return 0;
}

enum tp_status tp_folder_lock(int *fd, bool *busy, const char *path, struct tp_error *err)
{
    *fd = -1;
    *busy = false;
    int f, failed;
    do
        f = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    while (f < 0 && errno == EINTR);
    if (f < 0)
        return tp_fail_errno(err, errno, path, "cannot be opened");
    do
        failed = flock(f, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    while (failed == EINTR);
    bool is_there = false;
    int unseen = failed == EWOULDBLOCK ? 0 : look_whether_there(f, path, &is_there);
    if (unseen || !is_there) {
        close(f);
        *busy = !unseen;
        return unseen ? tp_fail_errno(err, unseen, path, "cannot be looked at") : TP_OK;
    }
    *fd = f; /* ENOLCK, EINVAL, ENOTSUP ...: no locks here; the name of the folder is all there is */
    return TP_OK;
}

void tp_host_describe_run(char *text, size_t size)
{
    char host[65] = "?", when[32] = "";
    time_t now = (time_t)(tp_host_time_ns() / 1000000000);
    struct tm utc;
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '?';
    if (gmtime_r(&now, &utc))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &utc);
    snprintf(text, size, "process %ld on %s since %s", (long)getpid(), host, when);
}
