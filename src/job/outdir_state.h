/* SPDX-License-Identifier: MIT */
/* What outdir.c's two halves know of a folder on disk: which state an earlier run has left it in. */
#ifndef TP_JOB_OUTDIR_STATE_H
#define TP_JOB_OUTDIR_STATE_H

#include "job/outdir.h"
#include "manifest/manifest.h"

#define TP_PARTIAL_SUFFIX ".tensorport-partial"
#define TP_MARKER_NAME "UNFINISHED.txt"
#define TP_OLD_MANIFEST "manifest.old.json"
#define TP_LAST_FOLDER ".last" /* in the work folder, from the commit on: what comes after the manifest */

bool tp_outdir_has(const char *folder, const char *name); /* a file, a folder, or a link wherever it leads */
/* A manifest.json of ours? The first bytes tell: the writer always begins so. */
bool tp_outdir_has_manifest(const char *folder);
/* One of our marks, or no file at all: a kill just before the first file, or after the last. */
bool tp_outdir_is_partial(const char *work);
/* Killed (or stopped by an error) while files were moved: what is left in the work folder is all there is of them. */
bool tp_outdir_is_exchanging(const struct tp_outdir *dir);
enum tp_status tp_outdir_read_manifest(struct tp_manifest *m, const char *folder, const char *name,
                                       struct tp_error *err);

#endif
