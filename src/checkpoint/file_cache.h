/* SPDX-License-Identifier: MIT */
/* Many files, few descriptors: files are opened when they are needed and closed when others are needed more.
 * Thread-safe but for tp_file_cache_add. */
#ifndef TP_CHECKPOINT_FILE_CACHE_H
#define TP_CHECKPOINT_FILE_CACHE_H

#include "base/status.h"
#include "os/file.h"

struct tp_file_cache; /* opaque */

/* At most min(128, a quarter of the process's limit) files are open at a time. NULL: no memory. */
struct tp_file_cache *tp_file_cache_new(void);
void tp_file_cache_free(struct tp_file_cache *cache); /* nothing may be held any more */

/* Open `path` for the first time and remember what it is. Files are numbered from 0. */
enum tp_status tp_file_cache_add(struct tp_file_cache *cache, const char *path, struct tp_error *err);
/* What the file was when it was added. */
const struct tp_file_id *tp_file_cache_id(const struct tp_file_cache *cache, uint32_t file);
const char *tp_file_cache_path(const struct tp_file_cache *cache, uint32_t file);

/* Borrow a descriptor, at most one a thread; may wait until another thread gives one back. A file that is no longer
 * the one that was added is TP_ERR_IO. */
enum tp_status tp_file_cache_get(struct tp_file_cache *cache, uint32_t file, int *fd, struct tp_error *err);
void tp_file_cache_put(struct tp_file_cache *cache, uint32_t file);

/* Look at the file behind the path again, open or not. */
enum tp_status tp_file_cache_check(const struct tp_file_cache *cache, uint32_t file, struct tp_error *err);

#endif
