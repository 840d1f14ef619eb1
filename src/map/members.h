/* SPDX-License-Identifier: MIT */
/* Reading the JSON of a map: objects whose members are the rows of a table. */
#ifndef TP_MAP_MEMBERS_H
#define TP_MAP_MEMBERS_H

#include "codec/json.h"
#include "map/rule.h"

struct tp_map_reader {
    struct tp_json *json;
    struct tp_arena *arena; /* of the map */
    struct tp_error *err;
    uint64_t offset;      /* in the text: of the last token; after a failure, of what is wrong */
    uint32_t token_count; /* of all names so far */
};

struct tp_draft_text { /* a string or a number of the JSON, not looked at yet */
    const char *text;  /* terminated; NULL: not said */
    size_t len;
    uint64_t offset;
};

struct tp_draft_list {
    struct tp_draft_text items[TP_MAP_SOURCES_MAX];
    uint32_t count;
    uint64_t offset;
    bool is_given;
};

/* ---- values ---- */

enum tp_status tp_read_next(struct tp_map_reader *r, struct tp_json_token *token);
/* The next token, which must be of this type; `key` for the message. */
enum tp_status tp_read_expect(struct tp_map_reader *r, enum tp_json_type type, const char *key,
                              struct tp_json_token *token);
/* "'key' is a list, expected ..." */
enum tp_status tp_read_wrong_type(struct tp_map_reader *r, const struct tp_json_token *token, const char *expected,
                                  const char *key);
/* "a rule needs 'key'"; `begin` is where the rule begins. */
enum tp_status tp_read_missing(struct tp_map_reader *r, uint64_t begin, const char *what, const char *key);
/* A string of the arena, without NUL characters in it. */
enum tp_status tp_read_copy(struct tp_map_reader *r, const char **out, const struct tp_json_token *token,
                            const char *key);
enum tp_status tp_read_keep(struct tp_map_reader *r, struct tp_draft_text *out, const struct tp_json_token *token,
                            const char *key);
/* A string, or a number as it is written. */
enum tp_status tp_read_keep_expr(struct tp_map_reader *r, struct tp_draft_text *out, const struct tp_json_token *token,
                                 const char *key);

/* ---- objects ---- */

struct tp_member {
    const char *key;
    enum tp_status (*read)(struct tp_map_reader *r, const struct tp_member *member, void *into);
    size_t offset;            /* of what it fills in */
    const char *const *words; /* of tp_member_choice; NULL ends them */
};

/* The members of an object whose first token has been read. `what` with an article: "a rule". `seen`, if not NULL: bit
 * i for member i. */
enum tp_status tp_read_members(struct tp_map_reader *r, const char *what, const struct tp_member *members, size_t count,
                               void *into, uint32_t *seen);
/* A list of objects, which `each` reads; `begin` is where one begins. */
enum tp_status tp_read_objects(struct tp_map_reader *r, const char *key,
                               enum tp_status (*each)(struct tp_map_reader *r, uint64_t begin, void *into), void *into);

/* Kinds of members, and what they fill in. */
enum tp_status tp_member_cstring(struct tp_map_reader *r, const struct tp_member *member,
                                 void *into);                                                        /* const char * */
enum tp_status tp_member_text(struct tp_map_reader *r, const struct tp_member *member, void *into);  /* tp_draft_text */
enum tp_status tp_member_expr(struct tp_map_reader *r, const struct tp_member *member, void *into);  /* tp_draft_text */
enum tp_status tp_member_uint(struct tp_map_reader *r, const struct tp_member *member, void *into);  /* uint64_t */
enum tp_status tp_member_truth(struct tp_map_reader *r, const struct tp_member *member, void *into); /* bool */
/* int: the number of one of the words */
enum tp_status tp_member_choice(struct tp_map_reader *r, const struct tp_member *member, void *into);
/* tp_draft_list: a name, or a list of names */
enum tp_status tp_member_names(struct tp_map_reader *r, const struct tp_member *member, void *into);
/* tp_draft_list: a list of expressions */
enum tp_status tp_member_exprs(struct tp_map_reader *r, const struct tp_member *member, void *into);

#endif
