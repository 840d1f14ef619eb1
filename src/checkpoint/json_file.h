/* SPDX-License-Identifier: MIT */
/* A part of a file as JSON text: a whole file, or the header of a safetensors file. */
#ifndef TP_CHECKPOINT_JSON_FILE_H
#define TP_CHECKPOINT_JSON_FILE_H

#include "codec/json.h"

struct tp_json_file {
    struct tp_json *json;
    const char *path; /* borrowed */
    int fd;
    bool owns_fd;
    uint64_t next, end; /* of the text in the file */
};

/* Strings beyond TP_NAME_MAX_BYTES are cut and marked. A file larger than `size_max` is TP_ERR_LIMIT. After a failure
 * too the caller calls tp_json_file_close. */
enum tp_status tp_json_file_open(struct tp_json_file *file, const char *path, const char *what, uint64_t size_max,
                                 struct tp_error *err);
/* `len` bytes from `offset` of a file that the caller keeps open. */
enum tp_status tp_json_file_part(struct tp_json_file *file, int fd, const char *path, uint64_t offset, uint64_t len,
                                 const char *what, struct tp_error *err);
void tp_json_file_close(struct tp_json_file *file);

#endif
