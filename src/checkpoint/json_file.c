/* SPDX-License-Identifier: MIT */
#include "checkpoint/json_file.h"

#include "checkpoint/describe.h"
#include "os/file.h"
#include "tensorport/checkpoint.h"

static enum tp_status read_text(void *user, char *dst, size_t cap, size_t *got, struct tp_error *err)
{
    struct tp_json_file *file = user;
    uint64_t left = file->end - file->next;
    *got = left < cap ? (size_t)left : cap;
    enum tp_status status = tp_file_read_at(file->fd, dst, *got, file->next, file->path, err);
    file->next += *got;
    return status;
}

/* The reader points at *file, which therefore must not be moved. */
static enum tp_status start(struct tp_json_file *file, const char *what, struct tp_error *err)
{
    enum tp_status status = tp_json_open(&file->json, read_text, file, what, TP_NAME_MAX_BYTES, err);
    if (!status)
        tp_json_cut_strings(file->json);
    return status;
}

enum tp_status tp_json_file_open(struct tp_json_file *file, const char *path, const char *what, uint64_t size_max,
                                 struct tp_error *err)
{
    struct tp_file_id id;
    char size[TP_COUNT_TEXT], max[TP_COUNT_TEXT];
    *file = (struct tp_json_file){.path = path, .fd = -1, .owns_fd = true};
    enum tp_status status = tp_file_open_read(&file->fd, path, &id, err);
    if (status)
        return status;
    if (id.size_bytes > size_max)
        return tp_err_path(err,
                           tp_fail(err, TP_ERR_LIMIT, "the %s has %s bytes; at most %s are read", what,
                                   tp_describe_count(size, id.size_bytes), tp_describe_count(max, size_max)),
                           path);
    file->end = id.size_bytes;
    return start(file, what, err);
}

enum tp_status tp_json_file_part(struct tp_json_file *file, int fd, const char *path, uint64_t offset, uint64_t len,
                                 const char *what, struct tp_error *err)
{
    *file = (struct tp_json_file){.path = path, .fd = fd, .next = offset, .end = offset + len};
    return start(file, what, err);
}

void tp_json_file_close(struct tp_json_file *file)
{
    tp_json_close(file->json);
    if (file->owns_fd)
        tp_fd_close(file->fd);
    file->json = NULL;
    file->fd = -1;
}
