/* SPDX-License-Identifier: MIT */
/* What an output format answers: where each array lies (layout), the bytes around the payloads (frame), and the small
 * files besides (finish). A new format is one file with one row of this table. The pipeline knows none of them. */
#ifndef TP_FORMAT_FORMAT_H
#define TP_FORMAT_FORMAT_H

#include "codec/json.h"
#include "plan/plan.h"

#define TP_FRAME_MAX_BYTES ((size_t)32 << 10) /* a call of frame() is given room for as much */

struct tp_format {
    const char *name; /* in the manifest: "flax-msgpack" */
    struct tp_plan_traits traits;
    const char *attributes; /* content of .gitattributes */
    /* Fill plan->files, extents, leaves, block_count. Pure: no I/O. */
    enum tp_status (*layout)(struct tp_plan *plan, const struct tp_convert_options *options, struct tp_error *err);
    /* The bytes of `file` before its k-th extent's payload; k == extent_count: those after the last. There may be
     * megabytes of them: writes up to `cap` (at least TP_FRAME_MAX_BYTES) from the offset-th on and returns how many; 0
     * at their end. When `dst` is NULL nothing is written, and all that are left are counted. Any thread, any order. */
    size_t (*frame)(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap);
    /* Index file beside the data files, or NULL: its name for this plan, and its content. */
    const char *(*index_name)(const struct tp_plan *plan);
    void (*write_index)(const struct tp_plan *plan, struct tp_json_writer *w);
};

extern const struct tp_format tp_format_flax_msgpack;
extern const struct tp_format tp_format_safetensors;

/* By the name that stands in a manifest; NULL: none. */
const struct tp_format *tp_format_find(const char *name);

#endif
