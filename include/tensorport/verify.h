/* SPDX-License-Identifier: MIT */
/* Proving that an output is what its manifest says, and that it equals its source. */
#ifndef TENSORPORT_VERIFY_H
#define TENSORPORT_VERIFY_H

#include <stdbool.h>

#include "checkpoint.h"
#include "map.h"
#include "progress.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tp_verify_options {
    const char *model;         /* folder of *.msgpack files, with or without manifest.json */
    const char *source;        /* checkpoint to re-derive every byte from, or NULL */
    const char *original;      /* source: what --original was, where the manifest says that there was one */
    const struct tp_map *map;  /* source: what makes it the model, where no manifest.json says so; or NULL */
    bool reverse;              /* map: the model is the way back, made from a source that the map made */
    bool quick;                /* structure, sizes and names only */
    bool unfinished;           /* the folder's name may say that its writer is still at work */
    bool rows;                 /* fill report->arrays */
    unsigned workers;          /* 0: one a CPU */
    uint64_t max_memory_bytes; /* 0: 32 MiB a worker */
    size_t difference_limit;   /* differences described in full; the rest is counted. 0: 100 */
    const char *cpu;
    tp_progress_fn progress;
    void *progress_user;
};

struct tp_verify_array {
    const char *name; /* printable; keys joined by '/' */
    enum tp_dtype dtype;
    const uint64_t *shape;
    unsigned rank;
    uint64_t size_bytes;
    uint32_t difference_count;
    double min, max;  /* from the manifest; min > max when unknown */
    const char *file; /* of the first extent; printable */
};

struct tp_verify_report {
    uint64_t difference_count; /* 0: equal */
    char **differences;        /* printable lines: what, where, expected, found */
    size_t difference_shown;
    char **notes; /* files that are not ours, what could not be checked and why */
    size_t note_count;
    uint32_t array_count, file_count;
    uint64_t checked_bytes;
    double elapsed_s;
    bool had_manifest, compared_source;
    struct tp_verify_array *arrays; /* array_count rows, in file order; NULL unless options->rows */
    void *memory;                   /* what the rows point into; internal */
};

/* A difference is a result, not an error: TP_OK with difference_count > 0. Errors are a source that cannot be read,
 * a model folder that is not there, no memory. An unreadable manifest is a difference. The caller releases `report`. */
TP_API TP_MUST_CHECK enum tp_status tp_verify(const struct tp_verify_options *options, struct tp_verify_report *report,
                                              struct tp_error *err);
TP_API void tp_verify_report_release(struct tp_verify_report *report);

#ifdef __cplusplus
}
#endif
#endif
