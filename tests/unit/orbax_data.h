/* SPDX-License-Identifier: MIT */
/* The databases under tests/data/orbax, in memory: g1 to g4 are overlays over safetensors files; versions, deleted and
 * nested were written by TensorStore 0.1.86, saved and saved3 by Orbax 0.12.8 (zarr 2 and 3), of which manifests and
 * nodes are kept. entries.txt is what an independent reader found: key, tab, then ="text" or =hexadecimal for inline
 * values, else path, offset and length. Include after <cmocka.h>. */
#ifndef TP_TESTS_UNIT_ORBAX_DATA_H
#define TP_TESTS_UNIT_ORBAX_DATA_H

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/ocdbt.h"

#define ORBAX_FILES_MAX 16u
#define ORBAX_TEXT_MAX ((size_t)1 << 20)

static const char *const orbax_databases[] = {"g1",      "g2",     "g3",    "g4",    "versions",
                                              "deleted", "nested", "saved", "saved3"};

struct orbax_file {
    char path[128];
    uint8_t *bytes;
    size_t len;
};

struct orbax_database {
    char name[16];
    struct orbax_file files[ORBAX_FILES_MAX]; /* the first is the manifest; nodes are added when they are read */
    size_t file_count;
    char text[ORBAX_TEXT_MAX]; /* what a walk found, in the form of entries.txt */
    size_t text_len;
    uint64_t entry_count;
    bool is_quiet; /* only entry_count is wanted */
};

/* A file of tests/data/orbax, or NULL; terminated. */
static inline uint8_t *orbax_load(const char *name, const char *path, size_t *len)
{
    const char *root = getenv("TENSORPORT_TEST_DATA");
    char full[512];
    snprintf(full, sizeof full, "%s/orbax/%s/%s", root ? root : "tests/data", name, path);
    FILE *file = fopen(full, "rb");
    if (!file)
        return NULL;
    uint8_t *bytes = malloc(1 << 16);
    assert_non_null(bytes);
    *len = fread(bytes, 1, (1 << 16) - 1, file);
    bytes[*len] = '\0';
    fclose(file);
    return bytes;
}

static inline struct orbax_file *orbax_file(struct orbax_database *db, const char *path)
{
    for (size_t i = 0; i < db->file_count; i++)
        if (strcmp(db->files[i].path, path) == 0)
            return &db->files[i];
    struct orbax_file *file = &db->files[db->file_count];
    if (db->file_count == ORBAX_FILES_MAX || strlen(path) >= sizeof file->path)
        return NULL;
    file->bytes = orbax_load(db->name, path, &file->len);
    if (!file->bytes)
        return NULL;
    memcpy(file->path, path, strlen(path) + 1);
    db->file_count++;
    return file;
}

static inline struct orbax_database *orbax_open(const char *name)
{
    struct orbax_database *db = calloc(1, sizeof *db);
    assert_non_null(db);
    snprintf(db->name, sizeof db->name, "%s", name);
    if (!orbax_file(db, TP_OCDBT_MANIFEST_NAME))
        fail_msg("tests/data/orbax/%s is not there (TENSORPORT_TEST_DATA)", name);
    return db;
}

static inline void orbax_close(struct orbax_database *db)
{
    for (size_t i = 0; i < db->file_count; i++)
        free(db->files[i].bytes);
    free(db);
}

/* ---- a visitor that writes down what it sees ---- */

static inline enum tp_status orbax_read(void *user, const char *path, uint64_t offset, void *dst, size_t len,
                                        struct tp_error *err)
{
    struct orbax_file *file = orbax_file(user, path);
    if (!file || offset > file->len || len > file->len - offset)
        return tp_fail(err, TP_ERR_IO, "no such bytes");
    memcpy(dst, file->bytes + offset, len);
    return TP_OK;
}

static inline enum tp_status orbax_number(void *user, const char *path, uint32_t *number, struct tp_error *err)
{
    (void)user;
    (void)err;
    *number = (uint32_t)strlen(path);
    return TP_OK;
}

static inline void orbax_print(struct orbax_database *db, const void *text, size_t len)
{
    const size_t room = sizeof db->text - 1 - db->text_len;
    len = len < room ? len : room;
    memcpy(db->text + db->text_len, text, len);
    db->text_len += len;
    db->text[db->text_len] = '\0';
}

static inline enum tp_status orbax_entry(void *user, const struct tp_ocdbt_entry *entry, struct tp_error *err)
{
    struct orbax_database *db = user;
    char line[512];
    (void)err;
    db->entry_count++;
    if (db->is_quiet)
        return TP_OK;
    assert_int_equal(entry->key[entry->key_len], '\0');
    orbax_print(db, entry->key, entry->key_len);
    if (!entry->bytes) {
        assert_int_equal(entry->file, strlen(entry->path));
        orbax_print(db, line,
                    (size_t)snprintf(line, sizeof line, "\t%s\t%" PRIu64 "\t%" PRIu64 "\n", entry->path, entry->offset,
                                     entry->size));
        return TP_OK;
    }
    bool plain = entry->size > 0;
    for (uint64_t i = 0; i < entry->size; i++)
        plain = plain && entry->bytes[i] >= 0x20 && entry->bytes[i] < 0x7f;
    orbax_print(db, plain ? "\t=\"" : "\t=", plain ? 3 : 2);
    if (plain)
        orbax_print(db, entry->bytes, (size_t)entry->size);
    else
        for (uint64_t i = 0; i < entry->size; i++)
            orbax_print(db, line, (size_t)snprintf(line, sizeof line, "%02x", entry->bytes[i]));
    orbax_print(db, "\n", 1);
    return TP_OK;
}

/* Manifest and walk; what was found is in db->text. */
static inline enum tp_status orbax_walk(struct orbax_database *db, struct tp_error *err)
{
    const struct tp_ocdbt_visitor visitor = {db, orbax_read, orbax_number, orbax_entry};
    struct tp_ocdbt_manifest m;
    db->text_len = 0;
    db->text[0] = '\0';
    db->entry_count = 0;
    enum tp_status status = tp_ocdbt_manifest_read(&m, db->files[0].bytes, db->files[0].len, err);
    if (!status)
        status = tp_ocdbt_walk(&m, 1 << 20, &visitor, err);
    tp_ocdbt_manifest_release(&m);
    return status;
}

#endif
