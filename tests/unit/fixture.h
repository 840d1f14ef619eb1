/* SPDX-License-Identifier: MIT */
/* What tests of whole conversions share besides scratch.h: folders in folders, files read back, bytes from hex. */
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

#include "scratch.h"

/* Remove a folder and what is in it, folders too. */
static inline void remove_tree(const char *path)
{
    struct tp_names names;
    if (tp_folder_list(&names, path, NULL) == TP_OK) {
        for (size_t i = 0; i < names.count; i++) {
            char *inner = tp_path_join(path, names.items[i]);
            struct stat st;
            if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
                remove_tree(inner);
            else
                unlink(inner);
            free(inner);
        }
        tp_names_release(&names);
    }
    rmdir(path);
}

static inline struct scratch in_folder(const char *folder)
{
    struct scratch s;
    size_t len = strlen(folder);
    assert_true(len < sizeof s.path);
    memcpy(s.path, folder, len + 1);
    return s;
}

static inline void write_file(const char *folder, const char *name, const void *bytes, size_t len)
{
    struct scratch s = in_folder(folder);
    scratch_put(&s, name, bytes, len, len);
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
    struct scratch s = in_folder(folder);
    scratch_safetensors(&s, name, header, len, data, len);
}

/* "93 01 ff" to bytes; returns their number. */
static inline size_t from_hex(uint8_t *dst, const char *hex)
{
    static const char digits[] = "0123456789abcdef";
    size_t nibbles = 0;
    for (; *hex; hex++) {
        const char *digit = strchr(digits, *hex);
        if (*hex == ' ')
            continue;
        assert_non_null(digit);
        dst[nibbles / 2] = (uint8_t)((nibbles % 2 ? dst[nibbles / 2] << 4 : 0) | (digit - digits));
        nibbles++;
    }
    assert_int_equal(nibbles % 2, 0);
    return nibbles / 2;
}

#endif
