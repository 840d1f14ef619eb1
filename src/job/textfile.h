/* SPDX-License-Identifier: MIT */
/* A small file written front to back, hashed as it goes: index, manifest, copies of side files. */
#ifndef TP_JOB_TEXTFILE_H
#define TP_JOB_TEXTFILE_H

#include "codec/digest.h"

struct tp_text_file {
    int fd;
    char *path;
    uint64_t size_bytes;
    struct tp_hasher *hasher;
};

enum tp_status tp_text_file_open(struct tp_text_file *f, const char *folder, const char *name,
                                 const struct tp_kernels *kernels, struct tp_error *err);
enum tp_status tp_text_file_write(void *text_file, const char *text, size_t len, struct tp_error *err);
/* Close, after fsync when `sync`; `digest` may be NULL. `st`: what went before; passed on when it is an error. */
enum tp_status tp_text_file_close(struct tp_text_file *f, enum tp_status st, bool sync, struct tp_digest *digest,
                                  struct tp_error *err);

#endif
