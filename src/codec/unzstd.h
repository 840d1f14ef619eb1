/* SPDX-License-Identifier: MIT */
/* Zstandard frames from files that may lie: bounded windows, bounded output. Every caller of libzstd goes through
 * here. Any number of threads, each with its own stream. */
#ifndef TP_CODEC_UNZSTD_H
#define TP_CODEC_UNZSTD_H

#include <stdbool.h>

#include "base/status.h"

#define TP_UNZSTD_WINDOW_LOG_MAX 27u /* 128 MiB: what libzstd itself accepts unless told otherwise */

/* All of `src` (whole frames, nothing after them) to *out, malloc'd, *out_len bytes; more than `limit` of them are
 * TP_ERR_LIMIT, whatever the frame's header says. `what` is the word used in messages: "node". */
enum tp_status tp_unzstd_all(uint8_t **out, size_t *out_len, const uint8_t *src, size_t len, size_t limit,
                             const char *what, struct tp_error *err);

struct tp_unzstd;                                       /* opaque: a stream; about 200 KB and the frame's window */
struct tp_unzstd *tp_unzstd_new(void);                  /* NULL: no memory */
void tp_unzstd_free(struct tp_unzstd *stream);          /* NULL is fine */
size_t tp_unzstd_bytes(const struct tp_unzstd *stream); /* memory that it holds now; NULL: 0 */
void tp_unzstd_restart(struct tp_unzstd *stream);       /* at the first byte of another stream */

/* Decode from src to dst as much as either holds; *src_used and *dst_used say how much that was. `*at_end`: a frame is
 * complete (and there may be another). TP_ERR_FORMAT: bytes that are no zstd stream; TP_ERR_LIMIT: its window is larger
 * than TP_UNZSTD_WINDOW_LOG_MAX says. */
enum tp_status tp_unzstd_next(struct tp_unzstd *stream, void *dst, size_t dst_len, size_t *dst_used, const void *src,
                              size_t src_len, size_t *src_used, bool *at_end, struct tp_error *err);

#endif
