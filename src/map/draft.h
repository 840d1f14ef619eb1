/* SPDX-License-Identifier: MIT */
/* A rule as it is written (draft.c), of which a rule is made that means something (parse_rule.c). */
#ifndef TP_MAP_DRAFT_H
#define TP_MAP_DRAFT_H

#include "map/members.h"

struct tp_draft_piece {
    struct tp_draft_text from, take, axes;
};

struct tp_draft_pad {
    struct tp_draft_text axis, size;
};

struct tp_draft_rule {
    uint64_t begin; /* in the map */
    struct tp_draft_list from, to, split_sizes;
    struct tp_draft_piece pieces[TP_MAP_SOURCES_MAX];
    struct tp_draft_pad pads[TP_MAP_AXES_MAX];
    uint32_t piece_count, pad_count;
    struct tp_draft_text axes, split, stack, cat, mul, mul_in, add, dtype, if_missing, same_as, only_if;
    bool has_pieces, also, drop;
    uint64_t pieces_offset, pads_offset;
};

/* The rule's object, whose first token has been read; *draft is zeroed. */
enum tp_status tp_draft_read(struct tp_map_reader *r, struct tp_draft_rule *draft);
enum tp_status tp_rule_make(struct tp_rule *out, const struct tp_draft_rule *draft, struct tp_map_reader *r);

enum tp_status tp_draft_dtype(uint8_t *out, const struct tp_draft_text *text, struct tp_map_reader *r);
enum tp_status tp_draft_expr(const struct tp_expr **out, const struct tp_draft_text *text, struct tp_map_reader *r);

#endif
