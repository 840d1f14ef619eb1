/* SPDX-License-Identifier: MIT */
/* What the files that read a map share: JSON becomes drafts (parse.c), a draft becomes a rule (parse_rule.c), texts in
 * it become expressions, names and axes. */
#ifndef TP_MAP_PARSE_H
#define TP_MAP_PARSE_H

#include "map/rule.h"

/* ---- expressions ---- */

/* The index-th name that it mentions; NULL: it has no more. */
const char *tp_expr_name(const struct tp_expr *expr, uint32_t index);
/* True: it is the same whatever the config says. */
bool tp_expr_constant(double *value, const struct tp_expr *expr);
/* Length of the identifier that `text` begins with: letters, digits and _, not beginning with a digit. */
size_t tp_identifier_length(const char *text, size_t len);

/* ---- names ---- */

/* Where a name stands. Optional text is known in FROM alone; in TO and BESIDE (if_missing, same_as) brackets are
 * text. BESIDE brings no captures of its own. */
enum tp_name_place { TP_NAME_FROM, TP_NAME_TO, TP_NAME_BESIDE };

/* The captures of a rule while its names are read. */
struct tp_capture_table {
    struct tp_capture rows[TP_MAP_CAPTURES_MAX];
    uint32_t words[TP_MAP_CAPTURES_MAX]; /* of a word capture: how many alternatives */
    uint32_t count;
    uint32_t token_count; /* of all names so far */
};

/* `text` is terminated and lives as long as the arena. `mentioned`: bit c is set for capture c. */
enum tp_status tp_pattern_parse(struct tp_name_pattern *out, uint32_t *mentioned, struct tp_capture_table *captures,
                                enum tp_name_place place, struct tp_arena *arena, const char *text, size_t len,
                                struct tp_error *err);

/* ---- drafts ---- */

struct tp_draft_text { /* a string or a number of the JSON */
    const char *text;  /* NULL: not said */
    size_t len;
    uint64_t offset; /* in the map */
};

struct tp_draft_list {
    struct tp_draft_text items[TP_MAP_SOURCES_MAX];
    uint32_t count;
    uint64_t offset;
    bool is_given, is_list; /* a single text is a list of one that is not written as a list */
};

struct tp_draft_piece {
    struct tp_draft_text from, take, axes;
};

struct tp_draft_pad {
    struct tp_draft_text axis, size;
};

struct tp_draft_rule {
    uint64_t begin, end; /* in the map */
    struct tp_draft_list from, to, split_sizes;
    struct tp_draft_piece pieces[TP_MAP_SOURCES_MAX];
    struct tp_draft_pad pads[TP_MAP_AXES_MAX];
    uint32_t piece_count, pad_count;
    struct tp_draft_text axes, split, stack, cat, mul, mul_in, add, dtype, if_missing, same_as, only_if;
    bool has_pieces, also, drop;
    uint64_t pieces_offset, pads_offset;
};

/* Where a rule is made, and what it costs all rules together. */
struct tp_rule_maker {
    struct tp_arena *arena;
    struct tp_error *err;
    uint64_t offset; /* of what is wrong, when it fails */
    uint32_t token_count;
};

enum tp_status tp_rule_make(struct tp_rule *out, const struct tp_draft_rule *draft, struct tp_rule_maker *maker);
enum tp_status tp_draft_dtype(uint8_t *out, const struct tp_draft_text *text, struct tp_rule_maker *maker);
enum tp_status tp_draft_expr(const struct tp_expr **out, const struct tp_draft_text *text, struct tp_rule_maker *maker);

#endif
