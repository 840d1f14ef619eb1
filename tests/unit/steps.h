/* SPDX-License-Identifier: MIT */
/* Every system call that changes a folder, counted: a process can be killed before any one of them, and calls can fail
 * as they do on poorer file systems. This header's functions take the place of libc's in the test that includes it
 * (first of all, since it wants _GNU_SOURCE). */
#ifndef TP_TESTS_STEPS_H
#define TP_TESTS_STEPS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* renameat2 */
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS_KILLED 99
#define STEPS_SYNCS 256

static struct {
    unsigned kill_at;                  /* the how many-th call is not made, the process ends instead; 0: never */
    unsigned count;                    /* calls so far */
    int renameat2_fails, linkat_fails; /* an errno, or 0 */
    unsigned sync_count;
    char syncs[STEPS_SYNCS][512]; /* what was synced, in order */
} steps;

static void step(void)
{
    if (++steps.count == steps.kill_at)
        _exit(STEPS_KILLED);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    step();
    return (int)syscall(SYS_mkdirat, at, path, mode);
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    if (steps.renameat2_fails && flags) {
        errno = steps.renameat2_fails;
        return -1;
    }
    step();
    return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return renameat2(from_at, from, to_at, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    if (steps.linkat_fails) {
        errno = steps.linkat_fails;
        return -1;
    }
    step();
    return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
}

int unlinkat(int at, const char *path, int flags)
{
    step();
    return (int)syscall(SYS_unlinkat, at, path, flags);
}

int remove(const char *path)
{
    step();
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    return done != 0 && errno == EISDIR ? (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR) : done;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    step();
    return (ssize_t)syscall(SYS_pwrite64, fd, bytes, len, offset);
}

int fsync(int fd)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (steps.sync_count < STEPS_SYNCS) {
        ssize_t len = readlink(link, steps.syncs[steps.sync_count], sizeof steps.syncs[0] - 1);
        steps.syncs[steps.sync_count++][len < 0 ? 0 : len] = '\0';
    }
    return 0; /* and not synced: thousands would take minutes */
}

/* Runs `body` in a process of its own, killed before its `kill_at`-th change. What `body` returns, or STEPS_KILLED. */
static inline int steps_run(int (*body)(const void *arg), const void *arg, unsigned kill_at)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        steps.count = 0;
        steps.kill_at = kill_at;
        _exit(body(arg));
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
