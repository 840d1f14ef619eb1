/* SPDX-License-Identifier: MIT */
/* manifest.json, version 1 (docs/formats/manifest.md): written last, read strictly. */
#ifndef TP_MANIFEST_MANIFEST_H
#define TP_MANIFEST_MANIFEST_H

#include "base/arena.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "plan/plan.h"

#define TP_MANIFEST_NAME "manifest.json"
#define TP_MANIFEST_VERSION 1u

struct tp_side_file {
    const char *name;
    const char *from; /* writing: the source's file that it is a copy of, or NULL */
    bool is_plain;    /* writing: a copy without quantization_config, of a model that was decoded */
    uint64_t size_bytes;
    struct tp_digest digest;
};

/* Everything the writer needs besides the plan. */
struct tp_manifest_facts {
    const struct tp_checkpoint *source;
    const struct tp_convert_options *options;
    const char *layout;
    const struct tp_source_print *source_prints; /* one a source file */
    const struct tp_digest *block_digests;
    const struct tp_digest *framing_digests; /* one an output file */
    const char (*sha256)[TP_SHA256_HEX];     /* one an output file, or NULL */
    const struct tp_stats *(*stats_of)(void *user, uint32_t result);
    void *user;
    const struct tp_side_file *side_files;
    size_t side_count;
    const struct tp_cast_row *casts;
    size_t cast_count;
};
enum tp_status tp_manifest_write(const struct tp_plan *plan, const struct tp_manifest_facts *facts,
                                 tp_json_write_fn write, void *user, struct tp_error *err);

/* Those options that shape the result, as one JSON object. */
void tp_manifest_put_options(struct tp_json_writer *w, const struct tp_convert_options *options);

/* ---- reading ---- */

struct tp_manifest_extent {
    uint32_t file;
    uint32_t digest_count;
    uint64_t offset_bytes, length_bytes;
    uint64_t first_elem, end_elem;
    uint64_t first_digest;
};
struct tp_manifest_array {
    const char *path; /* keys with '\0' between */
    const uint64_t *shape;
    const uint64_t *chunk; /* NULL: extents are flat ranges; else each is a chunk of this shape, row-major */
    const uint8_t *order;  /* axes from slowest to fastest in a chunk's bytes; NULL: row-major */
    uint64_t elem_count;
    double min, max; /* min > max: not said */
    uint32_t first_extent, extent_count;
    uint16_t path_len;
    uint8_t rank, dtype;
    uint8_t view; /* what uint8 bytes stand for, or TP_DTYPE_NONE; F4 for both ways of holding it */
};
struct tp_manifest_file {
    const char *name;
    uint64_t size_bytes;
    struct tp_digest framing;
    bool has_framing;
    uint32_t source;            /* of a linked file: which of the source's; else TP_NONE */
    char sha256[TP_SHA256_HEX]; /* "" when not said */
};
struct tp_manifest_source {
    const char *name;
    uint64_t size_bytes, header_bytes;
    struct tp_source_print print;
};
struct tp_manifest {
    struct tp_arena arena;
    struct tp_manifest_file *files;
    struct tp_side_file *side_files;
    struct tp_manifest_array *arrays;
    struct tp_manifest_extent *extents;
    struct tp_digest *digests;
    size_t file_count, side_count, array_count, extent_count, digest_count;
    size_t file_capacity, side_capacity, array_capacity, extent_capacity, digest_capacity;
    /* options that shaped the bytes, for deriving them again; globs live in the arena */
    struct tp_convert_options options;
    struct tp_map *map; /* options.map */
    const char *layout, *tool;
    struct tp_manifest_source *sources;
    size_t source_count, source_capacity;
};
/* Parses and checks everything that can be checked without the data files: types, ranges, names without paths, extents
 * that tile their array, lengths that fit dtype and shape. A manifest that is not sound is TP_ERR_FORMAT. */
enum tp_status tp_manifest_read(struct tp_manifest *m, const char *path, struct tp_error *err);
void tp_manifest_release(struct tp_manifest *m);

/* Names of option values, as in the manifest and on the command line. Tables for both directions. */
const char *tp_precision_name(enum tp_precision value);
const char *tp_overflow_name(enum tp_overflow value);
const char *tp_oversize_name(enum tp_oversize value);
const char *tp_tree_name(enum tp_tree value);

#endif
