/* SPDX-License-Identifier: MIT */
/* Converting a checkpoint: prepare (headers and plan, nothing written), look at the plan, run. */
#ifndef TENSORPORT_CONVERT_H
#define TENSORPORT_CONVERT_H

#include <stdbool.h>

#include "checkpoint.h"
#include "map.h"
#include "progress.h"

#ifdef __cplusplus
extern "C" {
#endif

enum tp_precision { TP_PRECISION_FLOAT16 = 0, TP_PRECISION_FLOAT32, TP_PRECISION_BFLOAT16, TP_PRECISION_KEEP };
enum tp_overflow { TP_OVERFLOW_ERROR = 0, TP_OVERFLOW_SATURATE, TP_OVERFLOW_INF };
enum tp_oversize { TP_OVERSIZE_SPLIT = 0, TP_OVERSIZE_OWN_SHARD, TP_OVERSIZE_ERROR };
enum tp_output_format { TP_OUTPUT_FLAX_MSGPACK = 0, TP_OUTPUT_SAFETENSORS, TP_OUTPUT_ORBAX, TP_OUTPUT_JAX };
enum tp_tree {
    TP_TREE_FLAT = 0, /* a name is one key */
    TP_TREE_NESTED,   /* names are split at their dots */
    TP_TREE_LISTS     /* ... and a level whose keys are 0, 1, ... n-1 is a list (Orbax, JAX; elsewhere as nested) */
};
/* How --zero-copy puts the source's files beside ours. */
enum tp_link {
    TP_LINK_AUTO = 0, /* a hard link where the file system allows one, else a symbolic link, with a warning */
    TP_LINK_HARD,
    TP_LINK_SYMBOLIC,
    TP_LINK_COPY,
    TP_LINK_IN_PLACE /* the output is the source's folder: our files come beside the originals */
};
enum tp_orbax_layout { TP_ORBAX_V0 = 0, TP_ORBAX_V1 };

/* What only --format orbax knows; --format jax of it chunk_bytes, timestamp, zero_copy, link and min_chunk_bytes. */
struct tp_orbax_options {
    uint64_t chunk_bytes; /* a chunk is not larger; 0: 32 MiB */
    bool zarr3;           /* zarr v3 metadata; else v2, but where an array can only be said in v3 */
    bool no_ocdbt;        /* plain zarr files, one a chunk */
    bool timestamp;       /* the time of writing in the metadata; else always the same */
    bool has_step;        /* OUTPUT/STEP/ITEM/, as CheckpointManager keeps checkpoints */
    uint64_t step;
    const char *item; /* NULL: "default" with a step, else the output itself */
    enum tp_orbax_layout layout;
    bool zero_copy;           /* arrays that need no arithmetic refer to the source's own files */
    enum tp_link link;        /* zero_copy: how those come into the output */
    uint64_t min_chunk_bytes; /* zero_copy: smaller chunks are copied; 0: 256 KiB; 1: none is too small */
};

struct tp_glob_list {
    const char *const *items; /* bytewise globs on tensor names; '*' crosses dots, '?' and [set] as in a shell */
    size_t count;
};

/* Zero (after setting input and output) is the default of every member. All pointers are borrowed until
 * tp_conversion_free. */
struct tp_convert_options {
    const char *input;  /* folder or file */
    const char *output; /* folder to make */
    enum tp_output_format format;
    enum tp_precision precision;
    enum tp_overflow on_overflow;
    enum tp_oversize oversize;
    enum tp_tree tree;
    const char *wrap; /* keys around the tree, '/' between them: "params/params"; NULL: none */
    struct tp_orbax_options orbax;
    struct tp_glob_list keep_dtype, include, exclude;
    uint64_t shard_size_bytes; /* 0: 1,800,000,000 */
    uint64_t max_memory_bytes; /* peak RSS aimed at, beside 0.5 KiB and the name of each tensor; 0: 32 MiB a worker */
    unsigned workers;          /* 0: one a CPU */
    const struct tp_map *map;  /* names, shapes and layouts of a target; NULL: those of the source */
    bool reverse;              /* the way back: the input is what the map made */
    const char *original; /* reverse: the checkpoint it was made of; what the way back changes is taken from there, if
                           * it is still the same. Or NULL */
    bool dequantize;      /* decode quantised groups to plain numbers */
    const char *dequantize_scheme; /* decode as this scheme, whatever config.json says; NULL: what is recognised */
    bool mxfp4_out_in;             /* stacked MXFP4 experts as stored, [E, out, in]; else [E, in, out] as in HF */
    bool mxfp4_positive_zero;      /* MXFP4 code 8 is +0.0; else -0.0 */
    bool decode_f16_first;         /* GPTQ, AWQ: round to the scales' dtype first, as their packages do */
    bool nan_scales;               /* a NaN scale gives NaN values; else it is an error */
    bool compat;                   /* dtypes that older readers do not know are stored as uint8 */
    bool ignore_index;
    bool overwrite;   /* replace an output that TensorPort made, start an unfinished one again */
    bool resume;      /* go on from what a run that was stopped has left; without one, as always */
    bool skip_verify; /* do not read the result back */
    bool sha256;      /* whole-file digests and SHA256SUMS */
    bool sync;        /* survive a power cut: fsync files, folders, manifest */
    const char *cpu;  /* lower the kernel level: "scalar", "avx2", "avx512", "neon"; NULL: the best there is */
    tp_progress_fn progress;
    void *progress_user;
};

/* What the user chose himself: a map's "output" leaves those alone. */
enum tp_given {
    TP_GIVEN_FORMAT = 1 << 0,
    TP_GIVEN_PRECISION = 1 << 1,
    TP_GIVEN_OVERSIZE = 1 << 2,
    TP_GIVEN_TREE = 1 << 3,
    TP_GIVEN_WRAP = 1 << 4,
    TP_GIVEN_STEP = 1 << 5,
    TP_GIVEN_ITEM = 1 << 6,
    TP_GIVEN_ORBAX_LAYOUT = 1 << 7,
    TP_GIVEN_ZARR3 = 1 << 8
};
/* Fill in what options->map says of its target's loader, but for the members in `given` (enum tp_given, or-ed), and as
 * far as the format that results knows them; the precision is keep where neither says one. With options->reverse the
 * format is safetensors and the precision keep. What is filled in points into the map. Without a map nothing changes.
 * Fails with FORMAT: the map names a format, precision ... that there is not. */
TP_API TP_MUST_CHECK enum tp_status tp_convert_options_take_map(struct tp_convert_options *options, unsigned given,
                                                                struct tp_error *err);

struct tp_conversion; /* opaque: checkpoint, plan and layout */

/* Read the headers and make the plan. Everything that can be refused without touching data is refused here, all
 * faults at once. Nothing is written, the output folder is only looked at. The caller owns *out. */
TP_API TP_MUST_CHECK enum tp_status tp_conversion_prepare(struct tp_conversion **out,
                                                          const struct tp_convert_options *options,
                                                          struct tp_error *err);
TP_API void tp_conversion_free(struct tp_conversion *cv); /* NULL is fine */

TP_API const struct tp_checkpoint *tp_conversion_source(const struct tp_conversion *cv);

struct tp_plan_array {
    const char *name; /* keys joined by '/' (--tree nested), or the tensor's own name; valid until the next call */
    enum tp_dtype source_dtype;
    enum tp_dtype dtype;    /* as written */
    const char *numpy_name; /* name in the file; "uint8" where --compat stores a view */
    const uint64_t *shape;  /* as written */
    unsigned rank;
    uint64_t size_bytes;
    uint32_t first_file, last_file; /* they differ for an array split over several shards */
    unsigned part_count;            /* 1 unless split; chunks, where the format has them */
    bool is_referred;               /* --zero-copy: its data, or some of it, stays in the source's file */
    const char *scheme; /* decoded from this scheme, or NULL; source_dtype is then F32, which it is decoded to first */
};
struct tp_plan_file {
    const char *name;
    uint64_t size_bytes;
    uint32_t array_count;
};
struct tp_plan_totals {
    uint64_t array_count, parameter_count;
    uint64_t source_bytes;   /* tensor data that will be read */
    uint64_t output_bytes;   /* all files, framing included, side files and manifest estimated */
    uint64_t free_bytes;     /* on the output's file system now */
    uint64_t memory_bytes;   /* what the buffers and tables will take */
    uint64_t referred_bytes; /* --zero-copy: array data that stays in the source's files */
    uint32_t file_count;
    uint32_t linked_file_count; /* --zero-copy: of them the source's own */
    unsigned workers;
    uint32_t cast_count;     /* arrays whose dtype changes */
    uint32_t narrowed_count; /* ... to one that cannot hold every value */
    uint32_t group_count;    /* quantised groups passed through */
    uint32_t decoded_count;  /* quantised groups decoded */
};
TP_API void tp_conversion_totals(const struct tp_conversion *cv, struct tp_plan_totals *out);
TP_API void tp_conversion_array(struct tp_conversion *cv, uint32_t index, struct tp_plan_array *out);
TP_API void tp_conversion_file(const struct tp_conversion *cv, uint32_t index, struct tp_plan_file *out);

/* One row for each pair of dtypes that was cast, and for each scheme that was decoded. */
struct tp_cast_row {
    const char *scheme; /* decoded from it (`from` is then F32, which comes between), or NULL */
    enum tp_dtype from, to;
    uint32_t array_count;
    uint64_t value_count;
    uint64_t overflow_count; /* finite values that became infinite, or were saturated */
    uint64_t flushed_count;  /* non-zero values that became zero */
};
/* An array with values that did not fit. */
struct tp_value_row {
    const char *name; /* printable */
    enum tp_dtype from, to;
    uint64_t overflow_count, flushed_count;
    double min, max; /* of the finite source values */
    const uint64_t *shape;
    unsigned rank;
};

struct tp_convert_report {
    uint32_t array_count, file_count;
    uint64_t parameter_count, read_bytes, written_bytes; /* bytes of tensor data read; bytes of all files written */
    uint64_t referred_bytes;                             /* --zero-copy, as in tp_plan_totals */
    uint32_t linked_file_count;
    uint32_t symbolic_count; /* of them symbolic links, which are nothing without the source */
    double convert_s, hash_s, verify_s;
    bool verified;
    unsigned workers;
    uint32_t dtype_count[TP_DTYPE_COUNT]; /* arrays of each dtype written */
    uint64_t dtype_bytes[TP_DTYPE_COUNT];
    struct tp_cast_row *casts;
    size_t cast_count;
    struct tp_value_row *values; /* arrays with overflow first, then with values flushed to zero, by count */
    size_t value_count;
    char **notes; /* printable lines: groups kept, BOOL bytes beyond 1, files renamed, views, ... */
    size_t note_count;
    char manifest_path[1024];
    uint64_t kept_bytes;     /* resume: array data that the earlier run had written */
    char partial_path[1024]; /* on failure: the folder that a run with `resume` goes on from; "": there is none */
};

/* Do it. `report` may be NULL; otherwise it is filled also when values overflow (TP_ERR_VALUE: report->values then
 * lists every offender), and the caller releases it. The source is never written to. On failure nothing appears
 * under the output's name; what is finished is kept in report->partial_path. Once only: the plan and the source's
 * tables are given back before the check, so that both fit into the same memory; totals and the source's notes stay,
 * tp_conversion_array and _file must not be called afterwards. */
TP_API TP_MUST_CHECK enum tp_status tp_conversion_run(struct tp_conversion *cv, struct tp_convert_report *report,
                                                      struct tp_error *err);
TP_API void tp_convert_report_release(struct tp_convert_report *report);

#ifdef __cplusplus
}
#endif
#endif
