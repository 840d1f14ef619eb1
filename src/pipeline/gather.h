/* SPDX-License-Identifier: MIT */
/* Gathering: one strided copy from a logical tensor into memory, read in the order of the source. What is read lies in
 * a stage, small enough for a core's cache; there values are cast and counted, once for each that lands in the output,
 * and from there they are put where they belong. */
#ifndef TP_PIPELINE_GATHER_H
#define TP_PIPELINE_GATHER_H

#include "pipeline/cut.h"
#include "pipeline/values.h"
#include "quant/logical.h"

#define TP_STAGE_BEST ((size_t)512 << 10) /* long reads, and long runs of what is written: both suffer below */

struct tp_stage {
    uint8_t *source, *result; /* values as read, and as written: each tp_stage_alloc_bytes(size_bytes) */
    size_t size_bytes;
    uint8_t *raw; /* source with gaps */
    size_t raw_bytes;
};

/* Rows in a stage are set apart by a little more than their length where that is a power of two. */
static inline size_t tp_stage_alloc_bytes(size_t size_bytes)
{
    return size_bytes + size_bytes / 8 + 64;
}

struct tp_gathering {
    struct tp_reader_state *reader;
    const struct tp_logical *logical;
    struct tp_values values;
    struct tp_stage stage;
    struct tp_result *seen;         /* what is counted; */
    const uint64_t *bounds;         /* apart: seen[0] of the positions before bounds[0], seen[1] of those before */
    unsigned bound_count;           /* bounds[1] and so on, one more than there are bounds. Ascending */
    bool (*is_stopped)(void *user); /* asked now and then; then it fails with CANCELLED */
    void *user;
};

/* Put the elements of a cut to where its positions say; `dst` is that of position 0. Changes the cut's loops. */
enum tp_status tp_gather(const struct tp_gathering *gathering, struct tp_cut *cut, uint8_t *dst, struct tp_error *err);

#endif
