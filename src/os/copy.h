/* SPDX-License-Identifier: MIT */
/* The same file in another place: by a second name, by a symbolic link, by a copy. */
#ifndef TP_OS_COPY_H
#define TP_OS_COPY_H

#include "os/file.h"

/* Where a path leads when all links are followed: absolute, malloc'd. */
enum tp_status tp_path_real(char **real, const char *path, struct tp_error *err);

/* Give the file that `from` leads to (a link's target, not the link) the name `to` too. Nothing is replaced:
 * TP_ERR_EXISTS. *impossible: it failed because the file system has no hard link of this file in this place. */
enum tp_status tp_file_link_hard(const char *from, const char *to, bool *impossible, struct tp_error *err);
/* A symbolic link `path` that says `target`; TP_ERR_EXISTS where something is. */
enum tp_status tp_file_link_symbolic(const char *target, const char *path, struct tp_error *err);

/* Told of bytes as they are copied; a non-zero answer ends the copy with TP_ERR_CANCELLED. */
typedef int (*tp_copy_step_fn)(void *user, uint64_t bytes);
/* Copy the first `size_bytes` of `from` to a new file `to`, the file system's own way where it has one. TP_ERR_EXISTS
 * where something is; what was written is removed on failure. `step` may be NULL. */
enum tp_status tp_file_copy(int from_fd, const char *from, const char *to, uint64_t size_bytes, tp_copy_step_fn step,
                            void *user, struct tp_error *err);

#endif
