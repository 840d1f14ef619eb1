/* SPDX-License-Identifier: MIT */
/* What a source file was: a digest of its header and of sampled blocks (docs/formats/manifest.md). */
#ifndef TP_JOB_PRINT_H
#define TP_JOB_PRINT_H

#include "checkpoint/checkpoint.h"
#include "manifest/manifest.h"
#include "pipeline/pool.h"

/* Prints of all files of `ck`, in a malloc'd table that the caller frees. */
enum tp_status tp_source_prints(struct tp_source_print **out, const struct tp_checkpoint *ck,
                                const struct tp_kernels *kernels, struct tp_error *err);

/* Of one file, whose header has so many bytes (at most the file's size). */
enum tp_status tp_source_print_one(struct tp_source_print *out, const struct tp_checkpoint *ck, uint32_t file,
                                   uint64_t header_bytes, const struct tp_kernels *kernels, struct tp_error *err);

/* SHA-256 of a whole file. `pool`, or NULL: is told of bytes, and stops it. */
enum tp_status tp_file_sha256(const char *path, char hex[TP_SHA256_HEX], struct tp_pool *pool, struct tp_error *err);

#endif
