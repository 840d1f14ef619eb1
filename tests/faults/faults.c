/* SPDX-License-Identifier: MIT */
/* Faults to order: a library for LD_PRELOAD that makes one call of libc fail, or stops or kills the process before it.
 *
 *     TENSORPORT_FAULT=CALL:N:WHAT     the N-th call that CALL names does WHAT; "WHAT+": that one and all later ones
 *     TENSORPORT_FAULT_PATH=TEXT       calls count only on files whose path holds TEXT
 *     TENSORPORT_FAULT_REPORT=FILE     gets "fault WHERE" when it happens, and at the end "calls COUNT"
 *
 * CALL is a row of call_names, WHAT of what_names: an errno's name; "short", a transfer of half the bytes; "stop" and
 * "kill", signals to the process; "int", SIGINT, and the call is made. WHERE is a path, or the code that asked for
 * memory. Calls that libc makes of itself (fopen, stdio) are not seen. Linux with glibc. */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here: pread and pread64 */
#undef _FORTIFY_SOURCE
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum call {
    CALL_ALLOC = 1 << 0,
    CALL_READ = 1 << 1,
    CALL_WRITE = 1 << 2,
    CALL_ALLOCATE = 1 << 3,
    CALL_TRUNCATE = 1 << 4,
    CALL_SYNC = 1 << 5,
    CALL_RENAME = 1 << 6,
    CALL_MKDIR = 1 << 7,
    CALL_OPEN = 1 << 8,
    CALL_LINK = 1 << 9,
    CALL_REMOVE = 1 << 10,
    CALL_THREAD = 1 << 11,
    CALL_CLOSE = 1 << 12,
    CALL_STAT = 1 << 13,
    CALL_LIST = 1 << 14,
    CALL_LOCK = 1 << 15,
    CALL_MADE = 1 << 16, /* besides CALL_OPEN: may make a file */
};

static const struct {
    const char *name;
    unsigned calls;
} call_names[] = {
    {"alloc", CALL_ALLOC},
    {"read", CALL_READ},
    {"write", CALL_WRITE},
    {"allocate", CALL_ALLOCATE},
    {"sync", CALL_SYNC},
    {"truncate", CALL_TRUNCATE},
    {"rename", CALL_RENAME},
    {"mkdir", CALL_MKDIR},
    {"open", CALL_OPEN},
    {"link", CALL_LINK},
    {"remove", CALL_REMOVE},
    {"thread", CALL_THREAD},
    {"close", CALL_CLOSE},
    {"stat", CALL_STAT},
    {"list", CALL_LIST},
    {"lock", CALL_LOCK},
    {"change", CALL_WRITE | CALL_ALLOCATE | CALL_TRUNCATE | CALL_SYNC | CALL_RENAME | CALL_MKDIR | CALL_LINK |
                   CALL_REMOVE | CALL_MADE},
};

enum { WHAT_SHORT = -1, WHAT_STOP = -2, WHAT_KILL = -3, WHAT_INT = -4 };

static const struct {
    const char *name;
    int what;
} what_names[] = {
    {"EIO", EIO},        {"ENOSPC", ENOSPC},         {"EDQUOT", EDQUOT}, {"EINTR", EINTR},      {"ENOMEM", ENOMEM},
    {"EAGAIN", EAGAIN},  {"EOPNOTSUPP", EOPNOTSUPP}, {"EROFS", EROFS},   {"EACCES", EACCES},    {"EMFILE", EMFILE},
    {"EXDEV", EXDEV},    {"EPERM", EPERM},           {"ENOLCK", ENOLCK}, {"short", WHAT_SHORT}, {"stop", WHAT_STOP},
    {"kill", WHAT_KILL}, {"int", WHAT_INT},          {"EINVAL", EINVAL}, {"none", 0},
};

static struct {
    atomic_bool is_read;
    unsigned calls;
    unsigned long at;
    int what;
    bool and_later;
    const char *path, *report;
} order;

static atomic_ulong count;

/* ---- the order ---- */

/* The letters that `text` begins with, and what follows them. */
static const char *take_word(char word[16], const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    memset(word, 0, 16);
    memcpy(word, text, len < 15 ? len : 15);
    return text + len;
}

/* An order that makes no sense ends the process: a test must not pass because nothing failed. */
static void read_words(const char *text)
{
    char name[16], what[16], *end;
    bool known = false;
    text = take_word(name, text);
    order.at = strtoul(text + (*text == ':'), &end, 10);
    text = take_word(what, end + (*end == ':'));
    order.and_later = *text == '+';
    for (size_t i = 0; i < sizeof call_names / sizeof *call_names; i++)
        if (strcmp(call_names[i].name, name) == 0)
            order.calls = call_names[i].calls;
    for (size_t i = 0; i < sizeof what_names / sizeof *what_names; i++)
        if (strcmp(what_names[i].name, what) == 0) {
            order.what = what_names[i].what;
            known = true;
        }
    if (!known || !order.calls)
        abort();
}

/* Calls before that are the loader's, or a sanitizer's that is not ready to be asked for memory, or to read text. */
__attribute__((constructor)) static void read_order(void)
{
    const char *text = getenv("TENSORPORT_FAULT");
    order.path = getenv("TENSORPORT_FAULT_PATH");
    order.report = getenv("TENSORPORT_FAULT_REPORT");
    if (text)
        read_words(text);
    atomic_store(&order.is_read, true);
}

static void report(const char *line)
{
    if (!order.report)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, order.report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    (void)!syscall(SYS_write, fd, line, strlen(line));
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void report_calls(void)
{
    char line[64];
    snprintf(line, sizeof line, "calls %lu\n", atomic_load(&count));
    report(line);
}

/* What a call works on: a descriptor and a name within it, one of them, or code that asks for memory. */
struct place {
    int fd; /* or AT_FDCWD */
    const char *name;
    const void *code;
};

static void describe(char *text, size_t size, const struct place *p)
{
    char link[40];
    ssize_t len = 0;
    if (p->fd != AT_FDCWD && !(p->name && *p->name == '/')) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", p->fd);
        len = syscall(SYS_readlinkat, AT_FDCWD, link, text, size - 1);
        len = len < 0 ? 0 : len;
    }
    snprintf(text + len, size - (size_t)len, "%s%s", len > 0 && p->name ? "/" : "", p->name ? p->name : "");
    Dl_info info;
    if (p->code && dladdr(p->code, &info) && info.dli_fname)
        snprintf(text, size, "%s+0x%zx", info.dli_fname, (size_t)((uintptr_t)p->code - (uintptr_t)info.dli_fbase));
}

/* An errno, WHAT_SHORT, or 0: nothing happens to this call. */
static int fault(unsigned call, struct place place)
{
    char where[2048] = "", line[2100];
    int saved = errno;
    if (!atomic_load(&order.is_read) || !(order.calls & call))
        return 0;
    if (order.path) {
        describe(where, sizeof where, &place);
        errno = saved;
        if (!strstr(where, order.path))
            return 0;
    }
    unsigned long n = atomic_fetch_add(&count, 1) + 1;
    if (order.what == 0 || n < order.at || (n > order.at && !order.and_later))
        return 0;
    if (n == order.at) {
        describe(where, sizeof where, &place);
        snprintf(line, sizeof line, "fault %s\n", where);
        report(line);
        errno = saved;
    }
    if (order.what == WHAT_STOP)
        return raise(SIGSTOP), 0;
    if (order.what == WHAT_KILL)
        return raise(SIGKILL), 0;
    if (order.what == WHAT_INT)
        return kill(getpid(), SIGINT), 0;
    return order.what;
}

static int on_path(unsigned call, const char *path)
{
    return fault(call, (struct place){AT_FDCWD, path, NULL});
}

static int on_fd(unsigned call, int fd)
{
    return fault(call, (struct place){fd, NULL, NULL});
}

static int on_entry(unsigned call, int at, const char *name)
{
    return fault(call, (struct place){at, name, NULL});
}

/* Is it an errno? Then the call fails with it. */
static bool fails(int what)
{
    if (what > 0)
        errno = what;
    return what > 0;
}

/* `real`: libc's own, or the next library's. */
#define FIND_REAL(name)            \
    static __typeof__(&name) real; \
    if (!real)                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

/* ---- memory ---- */

/* dlsym may want memory before there is somebody to ask. */
static _Alignas(64) char early[65536];
static atomic_size_t early_used;

static void *early_alloc(size_t size)
{
    size_t at = atomic_fetch_add(&early_used, (size + 63) & ~(size_t)63);
    return at + size <= sizeof early ? early + at : NULL;
}

static bool is_early(const void *memory)
{
    return (const char *)memory >= early && (const char *)memory < early + sizeof early;
}

/* Of a fixed place: __tls_get_addr is one of the calls that a sanitizer replaces. Volatile: glibc tells the compiler
 * that dlsym calls nothing of ours. */
static _Thread_local volatile bool finding __attribute__((tls_model("initial-exec")));

static void *find_allocator(const char *name)
{
    finding = true;
    void *found = dlsym(RTLD_NEXT, name);
    finding = false;
    return found;
}

#define FIND_ALLOCATOR(name)       \
    static __typeof__(&name) real; \
    if (!real && !finding)         \
    *(void **)&real = find_allocator(#name)

static bool no_memory(const void *code)
{
    return fails(fault(CALL_ALLOC, (struct place){AT_FDCWD, NULL, code}));
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    FIND_ALLOCATOR(malloc);
    if (!real)
        return early_alloc(size);
    return no_memory(CALLER) ? NULL : real(size);
}

void *calloc(size_t n, size_t size)
{
    FIND_ALLOCATOR(calloc);
    if (!real)
        return early_alloc(n * size); /* zeros: never given twice */
    return no_memory(CALLER) ? NULL : real(n, size);
}

void *realloc(void *old, size_t size)
{
    FIND_ALLOCATOR(realloc);
    if (is_early(old))
        abort(); /* dlsym does not */
    return !real || no_memory(CALLER) ? NULL : real(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    FIND_ALLOCATOR(aligned_alloc);
    return !real || no_memory(CALLER) ? NULL : real(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    FIND_ALLOCATOR(posix_memalign);
    return !real || no_memory(CALLER) ? ENOMEM : real(out, alignment, size);
}

void free(void *memory)
{
    FIND_ALLOCATOR(free);
    if (real && !is_early(memory))
        real(memory);
}

#define DEFINE_MMAP(mmap)                                                                         \
    void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)                   \
    {                                                                                             \
        FIND_REAL(mmap);                                                                          \
        return fd < 0 && no_memory(CALLER) ? MAP_FAILED : real(at, len, prot, flags, fd, offset); \
    }
DEFINE_MMAP(mmap)
DEFINE_MMAP(mmap64)

/* ---- transfers ---- */

#define HALF(what, len) ((what) == WHAT_SHORT ? ((len) + 1) / 2 : (len))

#define DEFINE_PREAD(pread)                                          \
    ssize_t pread(int fd, void *to, size_t len, off_t at)            \
    {                                                                \
        FIND_REAL(pread);                                            \
        int what = on_fd(CALL_READ, fd);                             \
        return fails(what) ? -1 : real(fd, to, HALF(what, len), at); \
    }
DEFINE_PREAD(pread)
DEFINE_PREAD(pread64)

ssize_t read(int fd, void *to, size_t len)
{
    FIND_REAL(read);
    int what = on_fd(CALL_READ, fd);
    return fails(what) ? -1 : real(fd, to, HALF(what, len));
}

#define DEFINE_PWRITE(pwrite)                                          \
    ssize_t pwrite(int fd, const void *from, size_t len, off_t at)     \
    {                                                                  \
        FIND_REAL(pwrite);                                             \
        int what = on_fd(CALL_WRITE, fd);                              \
        return fails(what) ? -1 : real(fd, from, HALF(what, len), at); \
    }
DEFINE_PWRITE(pwrite)
DEFINE_PWRITE(pwrite64)

ssize_t write(int fd, const void *from, size_t len)
{
    FIND_REAL(write);
    int what = on_fd(CALL_WRITE, fd);
    return fails(what) ? -1 : real(fd, from, HALF(what, len));
}

#define DEFINE_COPY(copy_file_range)                                                                 \
    ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t len, unsigned flags) \
    {                                                                                                \
        FIND_REAL(copy_file_range);                                                                  \
        int what = on_fd(CALL_WRITE, to);                                                            \
        return fails(what) ? -1 : real(from, in, to, out, HALF(what, len), flags);                   \
    }
DEFINE_COPY(copy_file_range)

/* ---- sizes, syncing, closing ---- */

#define DEFINE_FALLOCATE(fallocate)                                            \
    int fallocate(int fd, int mode, off_t at, off_t len)                       \
    {                                                                          \
        FIND_REAL(fallocate);                                                  \
        return fails(on_fd(CALL_ALLOCATE, fd)) ? -1 : real(fd, mode, at, len); \
    }
DEFINE_FALLOCATE(fallocate)
DEFINE_FALLOCATE(fallocate64)

#define DEFINE_FTRUNCATE(ftruncate)                                   \
    int ftruncate(int fd, off_t size)                                 \
    {                                                                 \
        FIND_REAL(ftruncate);                                         \
        return fails(on_fd(CALL_TRUNCATE, fd)) ? -1 : real(fd, size); \
    }
DEFINE_FTRUNCATE(ftruncate)
DEFINE_FTRUNCATE(ftruncate64)

int fsync(int fd)
{
    return fails(on_fd(CALL_SYNC, fd)) ? -1 : 0; /* and not synced: thousands would take minutes */
}

int fdatasync(int fd)
{
    return fails(on_fd(CALL_SYNC, fd)) ? -1 : 0;
}

int close(int fd) /* the descriptor is gone whatever close says, as on Linux */
{
    FIND_REAL(close);
    int what = on_fd(CALL_CLOSE, fd), done = real(fd);
    return fails(what) ? -1 : done;
}

int flock(int fd, int operation)
{
    FIND_REAL(flock);
    return fails(on_fd(CALL_LOCK, fd)) ? -1 : real(fd, operation);
}

/* ---- names ---- */

#define MODE_OF(flags)                     \
    mode_t mode = 0;                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list args;                      \
        va_start(args, flags);             \
        mode = va_arg(args, mode_t);       \
        va_end(args);                      \
    }
#define OPEN_CALL(flags) ((flags)&O_CREAT ? CALL_OPEN | CALL_MADE : CALL_OPEN)

#define DEFINE_OPEN(open)                                                             \
    int open(const char *path, int flags, ...)                                        \
    {                                                                                 \
        FIND_REAL(open);                                                              \
        MODE_OF(flags)                                                                \
        return fails(on_path(OPEN_CALL(flags), path)) ? -1 : real(path, flags, mode); \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(openat)                                                                  \
    int openat(int at, const char *path, int flags, ...)                                       \
    {                                                                                          \
        FIND_REAL(openat);                                                                     \
        MODE_OF(flags)                                                                         \
        return fails(on_entry(OPEN_CALL(flags), at, path)) ? -1 : real(at, path, flags, mode); \
    }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

int mkdir(const char *path, mode_t mode)
{
    FIND_REAL(mkdir);
    return fails(on_path(CALL_MKDIR, path)) ? -1 : real(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    FIND_REAL(mkdirat);
    return fails(on_entry(CALL_MKDIR, at, path)) ? -1 : real(at, path, mode);
}

int rename(const char *from, const char *to)
{
    FIND_REAL(rename);
    return fails(on_path(CALL_RENAME, from)) ? -1 : real(from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    FIND_REAL(renameat);
    return fails(on_entry(CALL_RENAME, from_at, from)) ? -1 : real(from_at, from, to_at, to);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    FIND_REAL(renameat2);
    return fails(on_entry(CALL_RENAME, from_at, from)) ? -1 : real(from_at, from, to_at, to, flags);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    FIND_REAL(linkat);
    return fails(on_entry(CALL_LINK, to_at, to)) ? -1 : real(from_at, from, to_at, to, flags);
}

int symlink(const char *target, const char *path)
{
    FIND_REAL(symlink);
    return fails(on_path(CALL_LINK, path)) ? -1 : real(target, path);
}

int unlinkat(int at, const char *path, int flags)
{
    FIND_REAL(unlinkat);
    return fails(on_entry(CALL_REMOVE, at, path)) ? -1 : real(at, path, flags);
}

int remove(const char *path)
{
    FIND_REAL(remove);
    return fails(on_path(CALL_REMOVE, path)) ? -1 : real(path);
}

/* ---- looking ---- */

#define DEFINE_STAT(stat_, type)                                       \
    int stat_(const char *path, struct type *out)                      \
    {                                                                  \
        FIND_REAL(stat_);                                              \
        return fails(on_path(CALL_STAT, path)) ? -1 : real(path, out); \
    }
DEFINE_STAT(stat, stat)
DEFINE_STAT(stat64, stat64)
DEFINE_STAT(lstat, stat)
DEFINE_STAT(lstat64, stat64)

#define DEFINE_FSTAT(fstat_, type)                               \
    int fstat_(int fd, struct type *out)                         \
    {                                                            \
        FIND_REAL(fstat_);                                       \
        return fails(on_fd(CALL_STAT, fd)) ? -1 : real(fd, out); \
    }
DEFINE_FSTAT(fstat, stat)
DEFINE_FSTAT(fstat64, stat64)

#define DEFINE_FSTATAT(fstatat_, type)                                                 \
    int fstatat_(int at, const char *path, struct type *out, int flags)                \
    {                                                                                  \
        FIND_REAL(fstatat_);                                                           \
        return fails(on_entry(CALL_STAT, at, path)) ? -1 : real(at, path, out, flags); \
    }
DEFINE_FSTATAT(fstatat, stat)
DEFINE_FSTATAT(fstatat64, stat64)

DIR *opendir(const char *path)
{
    FIND_REAL(opendir);
    return fails(on_path(CALL_LIST, path)) ? NULL : real(path);
}

DIR *fdopendir(int fd)
{
    FIND_REAL(fdopendir);
    return fails(on_fd(CALL_LIST, fd)) ? NULL : real(fd);
}

#define DEFINE_READDIR(readdir, type)                                  \
    struct type *readdir(DIR *dir)                                     \
    {                                                                  \
        FIND_REAL(readdir);                                            \
        return fails(on_fd(CALL_LIST, dirfd(dir))) ? NULL : real(dir); \
    }
DEFINE_READDIR(readdir, dirent)
DEFINE_READDIR(readdir64, dirent64)

/* ---- threads ---- */

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *arg)
{
    FIND_REAL(pthread_create);
    int what = fault(CALL_THREAD, (struct place){AT_FDCWD, NULL, CALLER});
    return what > 0 ? what : real(thread, attr, body, arg);
}
