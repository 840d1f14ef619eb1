/* SPDX-License-Identifier: MIT */
/* A map as parsed: what its JSON says, with names cut into tokens and axes into groups. The language is taught in
 * docs/mapping.md. Everything lives in the map's arena. */
#ifndef TP_MAP_RULE_H
#define TP_MAP_RULE_H

#include "base/arena.h"
#include "map/map.h"

#define TP_MAP_RULES_MAX 4096u
#define TP_MAP_CAPTURES_MAX 16u /* of one rule */
#define TP_MAP_AXES_MAX 32u     /* of one side of a pattern, those in groups counted one by one */
#define TP_MAP_SOURCES_MAX 64u  /* names in one rule's `from` or `to`, or pieces */
#define TP_MAP_DIMS_MAX 64u
#define TP_MAP_TOKENS_MAX 64u /* of one name */
#define TP_MAP_INDEX_MAX (1u << 20)

/* ---- expressions ---- */

struct tp_expr; /* opaque: parsed once, evaluated against a config */

/* `text` is borrowed for messages. Fails with FORMAT: what was expected at which character. */
enum tp_status tp_expr_parse(const struct tp_expr **out, struct tp_arena *arena, const char *text, size_t len,
                             struct tp_error *err);

/* What names stand for. */
struct tp_expr_scope {
    const struct tp_map *map;               /* dims */
    const struct tp_config_numbers *config; /* may be NULL: no config.json */
};
/* False: `missing` (256 bytes, printable) says which name is neither a dim nor in config.json, or what is wrong
 * (division by zero, a dim that needs itself). */
bool tp_expr_evaluate(double *value, const struct tp_expr *expr, const struct tp_expr_scope *scope, char *missing);
/* The same, where a whole number of at least `least` is needed. `missing` may be NULL for both. */
bool tp_expr_evaluate_whole(uint64_t *value, const struct tp_expr *expr, const struct tp_expr_scope *scope,
                            uint64_t least, char *missing);
const char *tp_expr_text(const struct tp_expr *expr); /* printable */

/* ---- names ---- */

enum tp_token_kind {
    TP_TOKEN_LITERAL,
    TP_TOKEN_OPTIONAL, /* [text] */
    TP_TOKEN_INDEX,    /* {l}, {l+offset}, {l<limit} */
    TP_TOKEN_SPLIT,    /* {factor*l+b}: capture is l, second is b; {factor*l+offset}: second is TP_MAP_NONE */
    TP_TOKEN_WORD      /* {p:q|k|v} */
};

struct tp_words {
    const char *const *items;
    uint32_t count;
};

struct tp_token {
    enum tp_token_kind kind;
    const char *text; /* of literals, optional ones too; text_len bytes */
    uint32_t text_len;
    uint32_t capture, second;     /* rows of the rule's captures */
    const struct tp_expr *offset; /* INDEX: {l+3}; NULL: none */
    const struct tp_expr *limit;  /* INDEX: {l<3}; NULL: none */
    const struct tp_expr *factor; /* SPLIT */
    struct tp_words words;        /* WORD */
};

struct tp_name_pattern {
    const struct tp_token *tokens;
    uint32_t count;
    const char *text; /* as written, printable */
};

/* A capture of a rule: a number, or which of its words. `in_from`, `in_to`: where names mention it. */
struct tp_capture {
    const char *name;
    bool is_word, in_from, in_to;
};

/* ---- axes ---- */

struct tp_named_axis {
    const char *name; /* "d"; of an anonymous one its digits */
    uint64_t size;    /* of an anonymous one; else 0 */
    uint32_t capture; /* row of the integer capture of this name, or TP_MAP_NONE */
};

struct tp_axis_group { /* axes [first, first + count) of the side; merged where count > 1 */
    uint32_t first, count;
};

struct tp_axes_side {
    const struct tp_named_axis *axes;
    const struct tp_axis_group *groups; /* one a dimension of the tensor */
    uint32_t axis_count, group_count;
};

/* ---- rules ---- */

struct tp_rule_source { /* one of `from`, or one of `pieces` */
    struct tp_name_pattern from;
    struct tp_axes_side left;                   /* of a piece its own; else the rule's */
    const struct tp_expr *take_low, *take_high; /* rows of the first axis; NULL: from the start, to the end */
};

struct tp_rule_pad {
    const char *axis; /* of the right side */
    const struct tp_expr *size;
};

enum tp_float_round { TP_ROUND_F32 = 0, TP_ROUND_BF16, TP_ROUND_F16 };

struct tp_rule {
    const struct tp_rule_source *sources;
    const struct tp_name_pattern *to;
    uint32_t source_count, to_count;
    struct tp_capture captures[TP_MAP_CAPTURES_MAX];
    uint32_t capture_count;
    bool has_axes; /* else tensors are moved unchanged, sides are empty */
    struct tp_axes_side right;
    const char *split, *stack, *cat;          /* names of axes, or NULL */
    const struct tp_expr *const *split_sizes; /* to_count of them, or NULL: one index each */
    const struct tp_expr *mul, *add;
    enum tp_float_round mul_round; /* of the factor, before it is used */
    const struct tp_rule_pad *pads;
    uint32_t pad_count;
    uint8_t dtype; /* enum tp_dtype of the target; TP_DTYPE_NONE: not said */
    bool also, drop;
    const struct tp_name_pattern *if_missing, *same_as; /* or NULL; captures are the rule's */
    const char *text; /* the rule's JSON on one line, cut at 200 bytes, for messages */
    uint32_t line;    /* in the map's text, from 1 */
    /* Of an inverse: arithmetic and pads are undone; sizes of `cat` along its axis, one a source, or NULL. What has no
     * way back, or is a copy, is a `drop` of its targets, and gives way to other rules; `no_way_back` says why that
     * would lose something, or is NULL. */
    bool inverts;
    const struct tp_expr *const *cat_sizes;
    const char *no_way_back;
    const struct tp_expr *only_if; /* `if`: the rule takes part where this is known and not 0; NULL: always */
};

struct tp_rule_const {
    struct tp_name_pattern to;     /* literals only */
    const struct tp_expr *only_if; /* as a rule's */
    const struct tp_expr *value;   /* NULL: there is no array, only its name */
    uint8_t dtype;
    const struct tp_expr *const *shape;
    uint32_t rank;
};

struct tp_dim {
    const char *name;
    const struct tp_expr *size;
};

struct tp_map {
    struct tp_arena arena;
    const char *name, *description; /* "" when absent */
    const char *text;               /* the whole JSON, as it was read */
    size_t text_len;
    const char *const *architectures;
    uint32_t architecture_count;
    const struct tp_dim *dims;
    uint32_t dim_count;
    const char *sep;
    struct tp_map_decode decode;
    bool cast_first, order_by_rules;
    enum tp_map_unmatched unmatched;
    struct tp_map_output output;
    const struct tp_rule *rules;
    uint32_t rule_count;
    const struct tp_rule_const *constants;
    uint32_t const_count;
    bool is_inverse; /* made by tp_map_invert */
};

/* ---- matching and making names (pattern.c) ---- */

/* Values of a rule's captures. A word capture's value is the number of its alternative. */
struct tp_captured {
    uint64_t value[TP_MAP_CAPTURES_MAX];
};

/* Does `name` fit, anchored at both ends? Where text can be read in more than one way all of them are tried, in bounded
 * time: optional text before none, words in their order, long numbers before short ones. False as well when an
 * expression cannot be evaluated; that is found by tp_pattern_check before. Captures that the pattern does not mention
 * are left alone, all of them where it does not fit. */
bool tp_pattern_match(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope, const char *name,
                      size_t len, struct tp_captured *captured);
/* Can all expressions of the name be evaluated, to whole numbers below TP_MAP_INDEX_MAX? Else `missing` (256 bytes, or
 * NULL) says what is wrong. */
bool tp_pattern_check(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope, char *missing);
/* The name for these captures, into dst; returns its length, or SIZE_MAX: more than cap - 1 bytes. Words are looked up
 * in the pattern's own list (translation by position). Optional text is written. */
size_t tp_pattern_format(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope,
                         const struct tp_captured *captured, char *dst, size_t cap);
/* Bytes of the pattern's literals that `name` shares with it at its two ends, for "nearest rule": more is nearer. */
size_t tp_pattern_likeness(const struct tp_name_pattern *pattern, const char *name, size_t len);

/* "L -> R", or one side alone when `only_right`. Fails with FORMAT. */
enum tp_status tp_axes_parse(struct tp_axes_side *left, struct tp_axes_side *right, bool only_right,
                             struct tp_arena *arena, const char *text, size_t len, struct tp_error *err);

#endif
