/* SPDX-License-Identifier: MIT */
/* Maps: rules, as data, from the names and layouts of a checkpoint to those that a JAX project loads. docs/mapping.md
 * teaches the language. */
#ifndef TENSORPORT_MAP_H
#define TENSORPORT_MAP_H

#include "checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tp_map; /* opaque: a parsed map */

/* A map that comes with the library: maps/TARGET/FAMILY.json. */
struct tp_preset {
    const char *target, *family; /* "maxtext", "llama" */
    const char *text;            /* the JSON, text_len bytes */
    size_t text_len;
};
TP_API uint32_t tp_preset_count(void);
TP_API const struct tp_preset *tp_preset_get(uint32_t index); /* sorted by target, then family; NULL beyond the end */

/* A preset ("maxtext/llama") or a file. A name that is neither fails with USAGE and names what comes near; a file that
 * is no map with FORMAT and its line. The caller owns *out. */
TP_API TP_MUST_CHECK enum tp_status tp_map_open(struct tp_map **out, const char *name, struct tp_error *err);
/* The preset of `target` for the architecture that the checkpoint's config.json names. Fails with USAGE (no such
 * target), UNSUPPORTED (no such family: the message lists the known ones). */
TP_API TP_MUST_CHECK enum tp_status tp_map_open_for(struct tp_map **out, const char *target,
                                                    const struct tp_checkpoint *ck, struct tp_error *err);
TP_API void tp_map_free(struct tp_map *map); /* NULL is fine */

TP_API const char *tp_map_name(const struct tp_map *map);        /* "maxtext/llama", or the path of a file */
TP_API const char *tp_map_description(const struct tp_map *map); /* "" where it says none */
TP_API const char *tp_map_text(const struct tp_map *map, size_t *len);
TP_API uint32_t tp_map_rule_count(const struct tp_map *map);
/* A rule's JSON on one line, cut at 200 bytes, and its line in the text, from 1. */
TP_API const char *tp_map_rule_text(const struct tp_map *map, uint32_t rule, uint32_t *line);
/* Architectures of config.json it is for; NULL beyond the last. */
TP_API const char *tp_map_architecture(const struct tp_map *map, uint32_t index);

/* ---- a map and a checkpoint together ---- */

struct tp_mapping; /* opaque: what a map makes of a checkpoint's headers, or all that is wrong */

struct tp_mapping_options {
    bool reverse;        /* the way back: the checkpoint is what the map made */
    const char *against; /* a tree.json that says what the target's model wants (E14), or NULL */
};
struct tp_mapping_target {
    const char *path; /* keys joined by '/'; valid until the next call */
    const uint64_t *shape;
    enum tp_dtype dtype; /* before --precision */
    unsigned rank;
    uint32_t rule;         /* of a tensor that no rule matched, which is kept: UINT32_MAX */
    uint32_t source_count; /* copies it is made of; 0: a constant */
    uint64_t size_bytes;
};
struct tp_mapping_source {
    const char *name; /* of an encoded weight that is decoded: the name that decoding gives it */
    const uint64_t *shape;
    enum tp_dtype dtype;
    unsigned rank;
    const char *slot; /* which place of the target's stack: "l = 3", or "" */
};
struct tp_mapping_finding {
    const char *code; /* "E01" to "E14": nothing can be converted; "W01", "W02": worth knowing */
    const char *text;
    bool is_error;
};

/* Reads headers and config.json only. What does not fit is a finding, not a failure. `map` and `ck` must outlive
 * *out, which the caller owns. */
TP_API TP_MUST_CHECK enum tp_status tp_mapping_make(struct tp_mapping **out, const struct tp_map *map,
                                                    const struct tp_checkpoint *ck,
                                                    const struct tp_mapping_options *options, struct tp_error *err);
TP_API void tp_mapping_free(struct tp_mapping *mapping);
TP_API uint32_t tp_mapping_finding_count(const struct tp_mapping *mapping);
TP_API void tp_mapping_finding_at(const struct tp_mapping *mapping, uint32_t index, struct tp_mapping_finding *out);
TP_API uint32_t tp_mapping_target_count(const struct tp_mapping *mapping); /* in the order of the output */
TP_API void tp_mapping_target_at(struct tp_mapping *mapping, uint32_t index, struct tp_mapping_target *out);
/* Of a target: its index-th source, below source_count. */
TP_API void tp_mapping_source_at(struct tp_mapping *mapping, uint32_t target, uint32_t index,
                                 struct tp_mapping_source *out);
/* How a source comes into a target: loops over elements, and arithmetic on the way. */
struct tp_mapping_loop {
    const char *axis;                         /* its name in the rule; "" where several run on as one */
    uint64_t count, source_step, target_step; /* in elements */
};
struct tp_mapping_way {
    const char *captures;                /* what the rule read in the name: "l = 3, p = q", or "" */
    const struct tp_mapping_loop *loops; /* from the slowest to the fastest in the target */
    uint32_t loop_count;                 /* 0: one element */
    uint64_t source_first, target_first; /* where the first element lies, in elements */
    bool multiplies, adds;
    double factor, addend;
};
/* Of a target: the way of its index-th source. What it points to is valid until the next call. */
TP_API void tp_mapping_way_at(struct tp_mapping *mapping, uint32_t target, uint32_t index, struct tp_mapping_way *out);
/* Tensors of the checkpoint that rules drop. */
TP_API uint32_t tp_mapping_dropped_count(const struct tp_mapping *mapping);
TP_API const char *tp_mapping_dropped(const struct tp_mapping *mapping, uint32_t index);

#ifdef __cplusplus
}
#endif
#endif
