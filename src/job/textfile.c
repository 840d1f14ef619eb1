/* SPDX-License-Identifier: MIT */
#include "job/textfile.h"

#include <stdlib.h>
#include <string.h>

#include "os/file.h"
#include "os/tree.h"

enum tp_status tp_text_file_open(struct tp_text_file *f, const char *folder, const char *name,
                                 const struct tp_kernels *kernels, struct tp_error *err)
{
    *f = (struct tp_text_file){.fd = -1, .path = tp_path_join(folder, name), .hasher = tp_hasher_new(kernels)};
    if (!f->path || !f->hasher)
        return tp_fail_nomem(err);
    tp_hasher_reset(f->hasher);
    enum tp_status st = strchr(name, '/') ? tp_tree_make(folder, name, err) : TP_OK;
    return st ? st : tp_file_create(&f->fd, f->path, 0, err);
}

enum tp_status tp_text_file_write(void *text_file, const char *text, size_t len, struct tp_error *err)
{
    struct tp_text_file *f = text_file;
    tp_hasher_update(f->hasher, text, len);
    enum tp_status st = tp_file_write_at(f->fd, text, len, f->size_bytes, f->path, err);
    f->size_bytes += len;
    return st;
}

enum tp_status tp_text_file_close(struct tp_text_file *f, enum tp_status st, bool sync, struct tp_digest *digest,
                                  struct tp_error *err)
{
    if (digest && f->hasher)
        *digest = tp_hasher_digest(f->hasher);
    if (!st && sync)
        st = tp_file_sync(f->fd, f->path, err);
    if (f->fd >= 0) {
        enum tp_status closed = tp_file_close(f->fd, f->path, st ? NULL : err);
        st = st ? st : closed;
    }
    tp_hasher_free(f->hasher);
    free(f->path);
    *f = (struct tp_text_file){.fd = -1};
    return st;
}
