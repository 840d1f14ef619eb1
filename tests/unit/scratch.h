/* SPDX-License-Identifier: MIT */
/* A folder for one test, and the few things tests put into it. Include after <cmocka.h>. */
#ifndef TP_TESTS_SCRATCH_H
#define TP_TESTS_SCRATCH_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/file.h"

#define SCRATCH_PATH 512

struct scratch {
    char path[SCRATCH_PATH];
};

static inline const char *scratch_at(const struct scratch *s, const char *name)
{
    static char path[4][2 * SCRATCH_PATH]; /* the last four answers stay valid */
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", s->path, name);
    return p;
}

static inline void scratch_make(struct scratch *s)
{
    const char *base = getenv("TMPDIR");
    snprintf(s->path, sizeof s->path, "%s/tensorport-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(s->path));
}

static inline void scratch_remove(const struct scratch *s)
{
    struct tp_names names = {0};
    assert_int_equal(tp_folder_list(&names, s->path, NULL), TP_OK);
    for (size_t i = 0; i < names.count; i++)
        assert_int_equal(tp_path_remove(scratch_at(s, names.items[i]), NULL), TP_OK);
    tp_names_release(&names);
    assert_int_equal(tp_path_remove(s->path, NULL), TP_OK);
}

/* A file with these bytes, then zeros up to `size`. */
static inline void scratch_put(const struct scratch *s, const char *name, const void *bytes, size_t len, uint64_t size)
{
    int fd = open(scratch_at(s, name), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    if (size > len)
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

/* A safetensors file: its header as text, its data as zeros, `data` bytes of which are given. */
static inline void scratch_safetensors(const struct scratch *s, const char *name, const char *header,
                                       uint64_t data_size, const void *data, size_t data_len)
{
    size_t len = strlen(header);
    unsigned char *bytes = malloc(8 + len + data_len);
    assert_non_null(bytes);
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)len >> (8 * i));
    memcpy(bytes + 8, header, len);
    if (data_len > 0)
        memcpy(bytes + 8 + len, data, data_len);
    scratch_put(s, name, bytes, 8 + len + data_len, 8 + len + data_size);
    free(bytes);
}

#endif
