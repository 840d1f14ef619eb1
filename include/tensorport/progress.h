/* SPDX-License-Identifier: MIT */
/* The library counts, the caller draws. */
#ifndef TENSORPORT_PROGRESS_H
#define TENSORPORT_PROGRESS_H

#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum tp_phase { TP_PHASE_CONVERT, TP_PHASE_SCAN, TP_PHASE_HASH, TP_PHASE_VERIFY, TP_PHASE_COMPARE };

struct tp_progress {
    enum tp_phase phase; /* SCAN: an overflow was found; nothing more is written, the rest is only counted */
    uint64_t done_bytes; /* of output, or of what is verified */
    uint64_t total_bytes;
    double elapsed_s; /* since this phase began */
    const char *file; /* a file that is being worked on */
};

/* Called about ten times a second from the thread that called the library, and once at the end of each phase.
 * A non-zero return value cancels: the call then ends with TP_ERR_CANCELLED within about a second. */
typedef int (*tp_progress_fn)(void *user, const struct tp_progress *progress);

#ifdef __cplusplus
}
#endif
#endif
