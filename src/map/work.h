/* SPDX-License-Identifier: MIT */
/* Applying a map, from room to room (of src/map only):
 *
 *     rulings    what a rule's sides mean, and its numbers                                 ruling.c
 *     match      which rules a source meets                                                match.c
 *     place      the sizes of a source's axes, and the paths that it goes to               place.c
 *     collect    the placements of one path become a target: stacks, holes, pieces         collect.c, piece.c
 *     look at    the tree that targets make, its order, what was expected                  tree.c, order.c, against.c
 */
#ifndef TP_MAP_WORK_H
#define TP_MAP_WORK_H

#include "base/arena.h"
#include "map/findings.h"
#include "map/rule.h"

#define TP_MAP_ELEMS_MAX (UINT64_C(1) << 60) /* of one array: its bytes stay below 2^63 */
#define TP_MAP_PAD_MAX (UINT64_C(1) << 32)   /* no vocabulary is longer; zeros would fill the disk */
#define TP_MAP_CONSTANT (TP_MAP_NONE - 1)    /* "rule" of a placement that is a constant */
#define TP_MAP_UNSTACKED_MAX (1u << 20)      /* targets made by taking axes apart */
#define TP_MAP_PLACEMENTS_MAX (1u << 24)

/* What becomes of an axis of a source. */
enum tp_left_role {
    TP_LEFT_PLACED,  /* an axis of the right side, whole or (sized split) a range of it */
    TP_LEFT_SPLIT,   /* its index is which of `to` */
    TP_LEFT_UNSTACK, /* its index is a capture of `to` */
    TP_LEFT_DROPPED  /* a "1" */
};
struct tp_left_axis {
    uint64_t size;      /* if is_known */
    const char *origin; /* what says so, printable; NULL: the digits themselves */
    uint8_t role;       /* enum tp_left_role */
    uint8_t right;      /* PLACED: the axis of the right side */
    uint8_t capture;    /* UNSTACK */
    bool is_known;
};

/* Where an axis of a target comes from. */
enum tp_right_role {
    TP_RIGHT_PLACED,  /* an axis of each source */
    TP_RIGHT_CAT,     /* the axes of the sources, one behind the other */
    TP_RIGHT_CAPTURE, /* stacked: the index is a capture of `from` */
    TP_RIGHT_LIST,    /* stacked: the index is which of `from` */
    TP_RIGHT_INSERTED /* a "1" */
};
struct tp_right_axis {
    uint64_t size;      /* CAPTURE, LIST: if is_known */
    uint64_t pad;       /* if is_padded: its size in the target */
    const char *origin; /* of size */
    uint8_t role;       /* enum tp_right_role */
    uint8_t capture;    /* CAPTURE */
    bool is_known, is_padded;
};

struct tp_take { /* rows [low, high) of a source */
    uint64_t low, high;
    bool has_high;
};

/* Why a rule cannot be undone exactly, or the way back not done (W02). */
enum tp_inexact { TP_INEXACT_MUL, TP_INEXACT_ADD, TP_INEXACT_PAD, TP_INEXACT_DROP, TP_INEXACT_DTYPE, TP_INEXACT_COUNT };

enum tp_ruling_state { TP_RULING_NEW = 0, TP_RULING_READY, TP_RULING_BROKEN };

/* A rule with its numbers. Roles are set at once, numbers when the rule first meets a source: a config need not have
 * what only an absent tower asks for. */
struct tp_ruling {
    struct tp_left_axis **left; /* one list a source */
    struct tp_right_axis *right;
    struct tp_take *takes;       /* one a source */
    const uint64_t *split_sizes; /* one a `to`, or NULL */
    struct tp_map_arithmetic arithmetic;
    uint32_t inexact[TP_INEXACT_COUNT]; /* how many tensors */
    uint32_t last_refused;              /* 1 + the source, or 0 */
    uint8_t state;                      /* enum tp_ruling_state */
    bool is_off;                        /* "if" says that it takes no part */
    bool is_met;                        /* a source's name fits */
    bool has_failed;                    /* a source does not fit: then holes are no news */
};

/* One source on its way into one target. */
struct tp_placement {
    const char *path;       /* as in struct tp_map_target */
    const uint32_t *values; /* of the rule's captures */
    uint64_t list_levels;
    uint32_t source; /* of a constant its number */
    uint32_t rule;   /* or TP_MAP_NONE: kept as it is; or TP_MAP_CONSTANT */
    uint16_t path_len;
    uint8_t from, to;
};

struct tp_map_work {
    const struct tp_map_question *question;
    const struct tp_map *map;
    struct tp_expr_scope scope;
    struct tp_map_result *result;
    struct tp_arena scratch;
    struct tp_findings findings;
    struct tp_ruling *rulings;
    struct tp_placement *placements;
    size_t placement_count, placement_capacity;
    struct tp_map_same *sames;
    size_t same_capacity;
    uint32_t *firsts; /* of each target: its first placement */
    uint64_t unstacked;
    struct tp_error *err;
};

static inline bool tp_placement_has_rule(const struct tp_placement *p)
{
    return p->rule < TP_MAP_CONSTANT;
}

/* ---- ruling.c: E06, E07, E09 ---- */

/* Rows for all rules, with their roles. */
enum tp_status tp_rulings_make(struct tp_map_work *w);
/* The rule's numbers, once. The state is then READY or BROKEN. */
enum tp_status tp_ruling_settle(struct tp_map_work *w, uint32_t rule);

/* ---- match.c: E01, E02, E07, E13, W01, W03 ---- */

enum tp_status tp_match_sources(struct tp_map_work *w);

/* ---- place.c: E05, E06, E10, E11 ---- */

bool tp_is_float(unsigned dtype); /* one of the four that are cast and computed with */

/* A source that meets a rule, as its source number `from`: placements, one for each target it goes to. */
enum tp_status tp_place_source(struct tp_map_work *w, uint32_t source, uint32_t rule, uint32_t from,
                               const struct tp_captured *captured);
enum tp_status tp_place_kept(struct tp_map_work *w, uint32_t source);
/* "if": where it cannot be told, what it belongs to does not take part. */
bool tp_takes_part(const struct tp_map_work *w, const struct tp_expr *only_if);
enum tp_status tp_place_constants(struct tp_map_work *w);
/* Sizes of the left axes. False: they do not fit, which is a finding. */
bool tp_place_sizes(struct tp_map_work *w, const struct tp_placement *p, uint64_t *sizes);

/* ---- collect.c: E03, E06, E08, E11 ---- */

/* Sorts the placements and makes targets of them, in the order of their paths. */
enum tp_status tp_collect_targets(struct tp_map_work *w);

/* A target on its way. */
struct tp_gather {
    struct tp_map_work *w;
    const struct tp_placement *placements;
    size_t count;
    const struct tp_rule *rule;
    struct tp_ruling *ruling;
    uint32_t rule_number;
    uint64_t natural[TP_MAP_AXES_MAX]; /* sizes of the right axes before padding */
    uint64_t size[TP_MAP_AXES_MAX];    /* and in the target */
    uint64_t cat_size[TP_MAP_SOURCES_MAX], cat_first[TP_MAP_SOURCES_MAX];
    uint64_t elem_count;
};

/* ---- complete.c: E04 ---- */

/* After the targets are collected. */
enum tp_status tp_check_complete(struct tp_map_work *w);

/* ---- stack.c: E03, E04, E06 ---- */

/* Sizes of the stacked axes, and every place taken once. False: not so. */
bool tp_gather_places(struct tp_gather *g);

/* ---- piece.c ---- */

/* The pieces of a target whose sizes are known. */
enum tp_status tp_gather_pieces(const struct tp_gather *g, struct tp_map_target *target);

/* ---- tree.c: E04, E10 ---- */

/* Leaves that are nodes, lists with holes. The targets are in the order of their paths. */
void tp_check_tree(struct tp_map_work *w);

/* ---- order.c ---- */

/* As the rules first mention them. Fails with LIMIT. */
enum tp_status tp_order_by_rules(struct tp_map_work *w);

/* ---- against.c: E14 ---- */

enum tp_status tp_compare_expected(struct tp_map_work *w);

#endif
