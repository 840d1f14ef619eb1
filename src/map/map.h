/* SPDX-License-Identifier: MIT */
/* Maps: from the names and layouts of a source to those of a target, as data.
 *
 *     text --parse--> map --apply to names, dtypes and shapes--> targets, each made of strided copies
 *
 * Applying is pure: no file is opened, no value read. It gives either the targets or all that is wrong, at once. */
#ifndef TP_MAP_MAP_H
#define TP_MAP_MAP_H

#include "base/arena.h"
#include "base/status.h"
#include "map/stride.h"
#include "tensorport/dtype.h"

#define TP_MAP_NONE UINT32_MAX
#define TP_MAP_TEXT_MAX ((size_t)4 << 20) /* bytes of a map */

struct tp_map; /* map/rule.h shows it to those who apply it */

enum tp_map_unmatched { TP_UNMATCHED_ERROR = 0, TP_UNMATCHED_WARN, TP_UNMATCHED_KEEP, TP_UNMATCHED_DROP };

/* Which encoded weights the map wants decoded. */
struct tp_map_decode {
    const char *scheme; /* "any", "none" or the name of one */
    bool positive_zero; /* MXFP4: code 8 is +0 */
};

/* What the target's loader wants unless options say otherwise; NULL, false: not said. */
struct tp_map_output {
    const char *format, *precision, *item, *wrap, *oversize, *tree, *prefix, *orbax_layout;
    bool has_step, zarr3;
    uint64_t step;
};

/* The whole text, which is copied. `path` (or NULL) is for messages. Fails with FORMAT, LIMIT, NOMEM: one message with
 * the line. The caller owns *out. */
enum tp_status tp_map_parse(struct tp_map **out, const char *text, size_t len, const char *path, struct tp_error *err);
/* The way back; `map` must outlive it. What has no way back is left out (tp_map_apply says so, W02). */
enum tp_status tp_map_invert(struct tp_map **out, const struct tp_map *map, struct tp_error *err);
void tp_map_release(struct tp_map *map); /* NULL is fine */

const struct tp_map_decode *tp_map_decode_of(const struct tp_map *map);
const struct tp_map_output *tp_map_output_of(const struct tp_map *map);
bool tp_map_orders_by_rules(const struct tp_map *map);

/* ---- config.json ---- */

/* All numbers of a config.json by their paths ("text_config.hidden_size"), at most 4,096, sorted. true and false are 1
 * and 0. */
struct tp_config_numbers;
/* `text`: config.json, or NULL: there is none. Text that is no JSON object fails with FORMAT. */
enum tp_status tp_config_numbers_read(struct tp_config_numbers **out, const char *text, size_t len,
                                      struct tp_error *err);
/* At the top, or under text_config. False: not there, or no number. */
bool tp_config_numbers_find(const struct tp_config_numbers *numbers, const char *path, double *value);
void tp_config_numbers_free(struct tp_config_numbers *numbers);

/* ---- applying ---- */

struct tp_map_source {
    const char *name; /* of a reversed map's source: keys joined by the map's separator */
    const char *file; /* for messages, or "" */
    const uint64_t *shape;
    uint16_t name_len;
    uint8_t rank, dtype;
    bool is_packed; /* codes of less than a byte, or part of a quantised group: can be moved whole, nothing else */
};

/* Arithmetic on values: each step rounds once. */
struct tp_map_arithmetic {
    bool multiplies, adds, cast_first;
    double factor, addend;
    double undone_factor, undone_addend; /* of a way back: what the map did; else 1 and 0 */
};

/* A box of a source that becomes a box of a target: loops in the order of the target, normalised. */
struct tp_map_piece {
    uint32_t source, rule;
    uint32_t axis_count;
    const struct tp_axis *axes;
    uint64_t src_first, dst_first;
};

/* An array of the output. Its pieces tile it once; what they leave out (pad) is zero. */
struct tp_map_target {
    const char *path; /* keys, '\0' between them; path_len bytes */
    const uint64_t *shape;
    const struct tp_map_piece *pieces; /* in the order of dst_first */
    struct tp_map_arithmetic arithmetic;
    const char *slot;     /* "l" or "l, e": names of its stack axes, or NULL */
    uint64_t list_levels; /* bit d: key d is an index of a list */
    double value;         /* of a constant, which has no pieces */
    uint32_t piece_count, rule;
    uint16_t path_len;
    uint8_t rank, dtype; /* what the rule says, or TP_DTYPE_NONE */
    bool is_constant, has_holes;
    bool is_none; /* a constant that is no array: only of `nones` */
};

struct tp_map_finding {
    const char *code; /* "E01", "W02" */
    const char *text; /* printable, may have lines */
};

struct tp_map_same { /* `source` is only dropped if its bytes are those of `other` (E13) */
    uint32_t source, other, rule;
};

struct tp_map_result {
    struct tp_arena arena;
    struct tp_map_target *targets, *nones; /* nones: entries of the tree that have no array */
    struct tp_map_finding *errors, *warnings;
    struct tp_map_same *sames;
    uint32_t *dropped; /* sources that rules drop, or that unmatched drops */
    size_t target_count, none_count, error_count, warning_count, same_count, dropped_count;
};

/* What `tree.json` says of a target (E14). */
struct tp_map_expected {
    const char *path; /* keys joined by '/' */
    const uint64_t *shape;
    uint8_t rank, dtype; /* TP_DTYPE_NONE: not said */
};

struct tp_map_question {
    const struct tp_map *map;
    const struct tp_config_numbers *config; /* or NULL */
    const struct tp_map_source *sources;
    size_t source_count;
    const struct tp_map_expected *expected; /* or NULL */
    size_t expected_count;
    uint8_t precision; /* the dtype that every float becomes; TP_DTYPE_NONE: its own */
};

/* Errors are findings, not a failure: ask result->error_count, targets are only whole when there is none. Fails with
 * NOMEM or LIMIT. The caller releases *result either way. */
enum tp_status tp_map_apply(struct tp_map_result *result, const struct tp_map_question *question, struct tp_error *err);
void tp_map_result_release(struct tp_map_result *result);

#endif
