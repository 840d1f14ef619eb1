/* SPDX-License-Identifier: MIT */
/* What reading a map needs of expressions and names, beside what rule.h has for those who apply it. */
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

#endif
