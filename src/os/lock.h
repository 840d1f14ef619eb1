/* SPDX-License-Identifier: MIT */
/* One run at a time in a folder. The lock is the kernel's: it ends with the process that holds it, however that ends,
 * and follows the folder when it is renamed. */
#ifndef TP_OS_LOCK_H
#define TP_OS_LOCK_H

#include "os/file.h"

/* Lock a folder: *fd is held until it is closed. *busy: somebody else holds it (then *fd is -1, and the status TP_OK).
 * A file system without locks gives *fd and no lock. */
enum tp_status tp_folder_lock(int *fd, bool *busy, const char *path, struct tp_error *err);
/* "process 123 on HOST since 2026-11-23 10:24:04 UTC", of this process and now. */
void tp_host_describe_run(char *text, size_t size);

#endif
