/* SPDX-License-Identifier: MIT */
/* A conversion from the inside: what prepare.c plans, convert.c runs and finish.c completes. */
#ifndef TP_JOB_CONVERSION_H
#define TP_JOB_CONVERSION_H

#include "checkpoint/checkpoint.h"
#include "job/outdir.h"
#include "job/sidefiles.h"
#include "pipeline/move.h"
#include "tensorport/tensorport.h"

#define TP_SUMS_NAME "SHA256SUMS"
#define TP_ATTRIBUTES_NAME ".gitattributes"

struct tp_conversion {
    struct tp_convert_options options;
    struct tp_checkpoint *source;
    struct tp_checkpoint *original; /* of the way back of a map, or NULL */
    const struct tp_format *format;
    struct tp_kernels kernels;
    struct tp_plan plan;
    struct tp_outdir outdir;
    struct tp_side_list side; /* copied files first, then our own small ones */
    struct tp_plan_totals totals;
    struct tp_budget budget;
    char name[TP_NAME_MAX_BYTES + 1]; /* of tp_conversion_array */
    uint32_t symbolic_count;          /* files of the source that are only pointed at */
    char **link_names;                /* in the output, of the source's files there */
    size_t link_name_count;
    /* of resuming */
    struct tp_journal *journal;
    struct tp_claims claims;
    bool other_overflow; /* --on-overflow is not what it was */
    bool is_other;       /* what lies there is of another conversion: it is left alone */
    uint64_t kept_bytes;
    /* while running */
    struct tp_digest *digests, *framing;
    struct tp_result *results;
    struct tp_source_print *prints;
    char (*sha256)[TP_SHA256_HEX];
};

/* What a run needs and reading back does not. */
void tp_conversion_free_tables(struct tp_conversion *cv);

/* Everything but the data: links to the source, small files, side files, manifest.json last but for what the format
 * wants behind it. */
enum tp_status tp_conversion_finish(struct tp_conversion *cv, struct tp_error *err);

#endif
