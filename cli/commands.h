/* SPDX-License-Identifier: MIT */
/* The commands: one file, one table of options and one run function each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include <stdbool.h>

#include <tensorport/tensorport.h>

#include "bar.h"
#include "option.h"

extern const struct command command_convert;
extern const struct command command_verify;
extern const struct command command_inspect;
extern const struct command command_map; /* a group */

struct convert_args {
    const char *input, *output;
    const char *cpu;
    const char *dequantize; /* NULL: no; "": what is recognised; else a scheme */
    const char *wrap, *step, *item, *min_chunk;
    const char *map, *target, *original;
    struct text_list keep_dtype, include, exclude;
    uint64_t shard_size, max_memory, chunk_bytes;
    int format, precision, on_overflow, oversize, tree, progress, mxfp4_layout, link, orbax_layout;
    unsigned workers;
    bool mxfp4_positive_zero, decode_f16_first, nan_scales;
    bool compat, ignore_index, overwrite, resume, skip_verify, sha256, sync;
    bool zero_copy, zarr3, no_ocdbt, timestamp;
    bool reverse;
    bool dry_run, quiet, json, help;
    struct option_seen seen;
};

/* Print what a conversion would write: every array, every file, totals. Returns the exit code. */
int plan_print(const struct convert_args *args, struct tp_conversion *cv);

/* What a finished conversion did, as words or as one JSON object. */
void summary_print(const struct convert_args *args, const struct tp_conversion *cv,
                   const struct tp_convert_report *report);
/* Every array whose values do not fit, and what to do instead; on stderr. */
void overflow_print(const struct tp_convert_report *report);

/* The kernel level of --cpu or TENSORPORT_CPU, or NULL for the best. False after an error message. */
bool cpu_level_choose(const char *option, const char **cpu);

/* How a call of the library that failed ends: says why (or where it was stopped) and returns the exit code.
 * `consequence`, and `path` unless it is NULL, complete "stopped at 41 % (...); ". */
int command_failed(struct bar *bar, const struct tp_error *err, const char *consequence, const char *path);

#endif
