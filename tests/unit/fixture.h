/* SPDX-License-Identifier: MIT */
/* What the unit tests share: a scratch folder, small files, a safetensors file from a header and data. */
#ifndef TP_TESTS_UNIT_FIXTURE_H
#define TP_TESTS_UNIT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/file.h"

/* A new empty folder under $TMPDIR; the path lives in `path` (at least 256 bytes). */
static inline char *scratch_make(char path[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/tensorport-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
    return path;
}

/* Remove a folder and what is in it. */
static inline void scratch_remove(const char *path)
{
    struct tp_names names;
    if (tp_folder_list(&names, path, NULL) == TP_OK) {
        for (size_t i = 0; i < names.count; i++) {
            char *inner = tp_path_join(path, names.items[i]);
            struct stat st;
            if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
                scratch_remove(inner);
            else
                unlink(inner);
            free(inner);
        }
        tp_names_release(&names);
    }
    rmdir(path);
}

static inline void write_file(const char *folder, const char *name, const void *bytes, size_t len)
{
    char *path = tp_path_join(folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static inline void write_text(const char *folder, const char *name, const char *text)
{
    write_file(folder, name, text, strlen(text));
}

/* malloc'd content, terminated; *len may be NULL. Fails the test when the file is not there. */
static inline char *read_file(const char *folder, const char *name, size_t *len)
{
    char *path = tp_path_join(folder, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *bytes = malloc((size_t)size + 1);
    assert_int_equal(fread(bytes, 1, (size_t)size, f), size);
    bytes[size] = '\0';
    fclose(f);
    free(path);
    if (len)
        *len = (size_t)size;
    return bytes;
}

static inline int file_exists(const char *folder, const char *name)
{
    char *path = tp_path_join(folder, name);
    int there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static inline void write_safetensors(const char *folder, const char *name, const char *header, const void *data,
                                     size_t len)
{
    char *path = tp_path_join(folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint64_t n = strlen(header);
    for (int i = 0; i < 8; i++)
        fputc((int)(n >> (8 * i) & 0xff), f);
    fputs(header, f);
    if (len)
        assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
    free(path);
}

/* "93 01 ff" to bytes; returns their number. */
static inline size_t from_hex(uint8_t *dst, const char *hex)
{
    size_t n = 0;
    unsigned value;
    for (; *hex; hex += 2) {
        while (*hex == ' ')
            hex++;
        if (!*hex)
            break;
        assert_int_equal(sscanf(hex, "%2x", &value), 1);
        dst[n++] = (uint8_t)value;
    }
    return n;
}

#endif
