/* SPDX-License-Identifier: MIT */
/* Reading JSON objects member by member, for the parts of manifest.json. */
#ifndef TP_MANIFEST_FIELDS_H
#define TP_MANIFEST_FIELDS_H

#include "manifest/manifest.h"

struct tp_manifest_reader {
    struct tp_manifest *m;
    struct tp_json *json;
    struct tp_error *err;
};

/* A handler reads the value of one key. `target` is what the enclosing object fills. */
typedef enum tp_status (*tp_field_fn)(struct tp_manifest_reader *r, void *target, const char *key);
struct tp_field {
    const char *key;
    tp_field_fn read;
    bool required;
};

enum tp_status tp_fields_expect(struct tp_manifest_reader *r, enum tp_json_type type, const char *what,
                                struct tp_json_token *t);
/* The members of an object whose '{' was read: known keys to their handlers, each at most once; others are skipped. */
enum tp_status tp_fields_read(struct tp_manifest_reader *r, const struct tp_field *fields, size_t count, void *target,
                              const char *what);
/* Call `item` for each object of an array of objects. */
enum tp_status tp_fields_objects(struct tp_manifest_reader *r, const char *what,
                                 enum tp_status (*item)(struct tp_manifest_reader *r));
enum tp_status tp_fields_uint(struct tp_manifest_reader *r, void *target, const char *key);
enum tp_status tp_fields_bool(struct tp_manifest_reader *r, void *target, const char *key);
enum tp_status tp_fields_digest(struct tp_manifest_reader *r, struct tp_digest *digest, const char *key);
enum tp_status tp_fields_text(struct tp_manifest_reader *r, const char **text, const char *key);
/* The name of a file in the folder; only where a layout has folders, below it. */
enum tp_status tp_fields_file_name(struct tp_manifest_reader *r, const char **name, const char *key, bool has_folders);

/* Layouts whose arrays lie in chunks, in files of folders. */
bool tp_manifest_has_folders(const struct tp_manifest_reader *r);

/* The values of "tree", "options" and "arrays". */
enum tp_status tp_manifest_read_tree(struct tp_manifest_reader *r, void *target, const char *key);
enum tp_status tp_manifest_read_options(struct tp_manifest_reader *r, void *target, const char *key);
enum tp_status tp_manifest_read_arrays(struct tp_manifest_reader *r, void *target, const char *key);

#endif
