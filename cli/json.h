/* SPDX-License-Identifier: MIT */
/* Writing JSON to a stream, for --json and --progress json. Pure ASCII (everything else as \uXXXX), so that neither
 * a terminal nor a locale can make anything of a hostile name. Commas are kept here; write errors stay in the
 * stream. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool comma; /* the next item follows another */
};

/* `key` is NULL for an element of an array, and at the top. */
void json_open(struct json *j, const char *key, char bracket);     /* '{' or '[' */
void json_close(struct json *j, char bracket);                     /* '}' or ']' */
void json_text(struct json *j, const char *key, const char *text); /* NULL: null; bytes that are not UTF-8: U+FFFD */
void json_count(struct json *j, const char *key, uint64_t count);
void json_integer(struct json *j, const char *key, int64_t value);
void json_number(struct json *j, const char *key, double value); /* null if not finite */
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);
void json_shape(struct json *j, const char *key, const uint64_t *shape, unsigned rank);

#endif
