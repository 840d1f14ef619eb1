/* SPDX-License-Identifier: MIT */
/* What an output format answers: where each array lies (layout), the bytes around the payloads (frame), and the small
 * files besides (finish). A new format is one file with one row of this table. The pipeline knows none of them. */
#ifndef TP_FORMAT_FORMAT_H
#define TP_FORMAT_FORMAT_H

#include "codec/digest.h"
#include "codec/json.h"
#include "plan/plan.h"

#define TP_FRAME_MAX_BYTES ((size_t)32 << 10) /* a call of frame() is given room for as much */

/* What small files may tell besides the plan. */
struct tp_format_facts {
    const struct tp_convert_options *options;
    const struct tp_source_print *source_prints; /* one a file of plan->source */
    const char (*source_sha256)[TP_SHA256_HEX];  /* likewise, "" where it was not computed; or NULL */
    int64_t time_ns;                             /* since 1970; the same always unless --timestamp asks */
};

struct tp_format {
    const char *name; /* in the manifest: "flax-msgpack" */
    struct tp_plan_traits traits;
    const char *attributes; /* content of .gitattributes, or NULL: none */
    /* Fill plan->files, extents, small_files, leaves, block_count. Pure: no I/O. */
    enum tp_status (*layout)(struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err);
    /* The bytes of `file` before its k-th extent's payload; k == extent_count: those after the last. There may be
     * megabytes of them: writes up to `cap` (at least TP_FRAME_MAX_BYTES) from the offset-th on and returns how many; 0
     * at their end. When `dst` is NULL nothing is written, and all that are left are counted. Any thread, any order. */
    size_t (*frame)(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap);
    /* The content of one of plan->small_files. */
    enum tp_status (*write_small)(const struct tp_plan *plan, const struct tp_small_file *file,
                                  const struct tp_format_facts *facts, tp_json_write_fn write, void *user,
                                  struct tp_error *err);
};

extern const struct tp_format tp_format_flax_msgpack;
extern const struct tp_format tp_format_safetensors;
extern const struct tp_format tp_format_orbax;
extern const struct tp_format tp_format_jax_pytree;

/* By the name that stands in a manifest; NULL: none. */
const struct tp_format *tp_format_find(const char *name);

#endif
