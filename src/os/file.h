/* SPDX-License-Identifier: MIT */
/* Files: exact reads and writes, allocation, folders. The only place that makes system calls on them.
 * Every function retries EINTR and goes on after short transfers. Paths are shown escaped in errors. */
#ifndef TP_OS_FILE_H
#define TP_OS_FILE_H

#include <stdbool.h>

#include "base/status.h"

/* What a file was when it was opened; a different answer later means that it changed under us. */
struct tp_file_id {
    uint64_t device, inode, size_bytes;
    int64_t mtime_s, mtime_ns;
};

/* Open a regular file for reading (links are followed, a FIFO never blocks, anything but a regular file is refused
 * with TP_ERR_FORMAT). A missing file is TP_ERR_FORMAT too, other failures TP_ERR_IO. */
enum tp_status tp_file_open_read(int *fd, const char *path, struct tp_file_id *id, struct tp_error *err);
/* Exactly `len` bytes; a file that ends early is TP_ERR_IO ("ends at byte N"). */
enum tp_status tp_file_read_at(int fd, void *dst, size_t len, uint64_t offset, const char *path, struct tp_error *err);
enum tp_status tp_file_id_of(int fd, struct tp_file_id *id, const char *path, struct tp_error *err);
bool tp_file_id_equal(const struct tp_file_id *a, const struct tp_file_id *b);

/* Make (or open, when it exists) a file for writing and give it its final size, allocated where the file system can. */
enum tp_status tp_file_create(int *fd, const char *path, uint64_t size_bytes, struct tp_error *err);
enum tp_status tp_file_open_write(int *fd, const char *path, struct tp_error *err); /* one made before */
enum tp_status tp_file_write_at(int fd, const void *src, size_t len, uint64_t offset, const char *path,
                                struct tp_error *err);
enum tp_status tp_file_sync(int fd, const char *path, struct tp_error *err);
enum tp_status tp_file_close(int fd, const char *path, struct tp_error *err); /* after writing: reports what it says */
void tp_fd_close(int fd);                                                     /* after reading; -1 is fine */

enum tp_path_kind { TP_PATH_ABSENT, TP_PATH_FILE, TP_PATH_FOLDER, TP_PATH_OTHER };
enum tp_status tp_path_kind_of(enum tp_path_kind *kind, const char *path,
                               struct tp_error *err); /* links are followed */
enum tp_status tp_path_kind_of_itself(enum tp_path_kind *kind, const char *path,
                                      struct tp_error *err); /* a link is TP_PATH_OTHER */
bool tp_path_same(const char *a, const char *b);             /* both are there and are one file or folder; "" is "." */
/* dir + '/' + name in malloc'd memory, NULL: no memory. */
char *tp_path_join(const char *dir, const char *name);

/* Names in a folder, sorted bytewise, without "." and ".."; malloc'd strings in a malloc'd array. */
struct tp_names {
    char **items;
    size_t count;
};
enum tp_status tp_folder_list(struct tp_names *out, const char *path, struct tp_error *err);
void tp_names_release(struct tp_names *names);
enum tp_status tp_folder_make(const char *path, struct tp_error *err);     /* parents too; an existing folder is fine */
enum tp_status tp_folder_make_new(const char *path, struct tp_error *err); /* parents too; TP_ERR_EXISTS: is there */
enum tp_status tp_folder_sync(const char *path, struct tp_error *err);
enum tp_status tp_path_rename(const char *from, const char *to,
                              struct tp_error *err); /* never over an existing folder */
enum tp_status tp_path_remove(const char *path,
                              struct tp_error *err); /* one file or one empty folder; absent is fine */
enum tp_status tp_path_free_bytes(uint64_t *free_bytes, const char *path,
                                  struct tp_error *err); /* nearest existing parent */

#endif
