/* SPDX-License-Identifier: MIT */
/* Status codes and the error a caller owns.
 *
 * Every function that can fail returns an enum tp_status and takes a `struct tp_error *` as its last
 * argument. The struct belongs to the caller (one per thread is enough), NULL is allowed, and it is left
 * untouched on success. The library prints nothing and never exits. */
#ifndef TENSORPORT_ERROR_H
#define TENSORPORT_ERROR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TP_API __attribute__((visibility("default")))
#define TP_MUST_CHECK __attribute__((warn_unused_result))
#else
#define TP_API
#define TP_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum tp_status {
    TP_OK = 0,
    TP_ERR_USAGE,       /* options that contradict each other, or that select nothing */
    TP_ERR_EXISTS,      /* the output is already there, or somebody else's */
    TP_ERR_FORMAT,      /* an input that is malformed, incomplete or missing */
    TP_ERR_UNSUPPORTED, /* well formed, but not something that can be converted */
    TP_ERR_VALUE,       /* values that the target dtype cannot hold (--on-overflow error) */
    TP_ERR_IO,          /* the operating system refused; sys_errno says how. Also a file that changed while read */
    TP_ERR_SPACE,       /* not enough room on the output's file system */
    TP_ERR_NOMEM,       /* malloc failed, or the memory budget is too small for any work */
    TP_ERR_LIMIT,       /* an input beyond a documented limit: header size, rank, name length, file count */
    TP_ERR_CANCELLED,   /* the progress callback asked to stop */
    TP_ERR_BUG,         /* a broken promise inside the library; please report it */
    TP_STATUS_COUNT
};

/* What went wrong, in words that can be shown as they are. All strings are UTF-8 with control characters
 * escaped, so that a hostile tensor name cannot reach a terminal raw. */
struct tp_error {
    enum tp_status code;
    int sys_errno;      /* errno of the failing call, or 0 */
    char path[1024];    /* file or folder concerned, or "" */
    char tensor[256];   /* tensor concerned (shortened if very long), or "" */
    char message[3072]; /* facts: expected and found; may hold several lines */
    char hint[512];     /* what to do about it, or "" */
};

/* "format", "io", ... : the constant's name without prefix, in lower case. */
TP_API const char *tp_status_name(enum tp_status status);

/* The exit code that a command should end with: 0 ok, 2 usage, 3 input, 4 I/O, 5 resources, 130 cancelled, 70 bug. */
TP_API int tp_status_exit_code(enum tp_status status);

#ifdef __cplusplus
}
#endif
#endif
