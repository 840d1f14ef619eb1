/* SPDX-License-Identifier: MIT */
/* What outdir.c's two halves know of a folder on disk: which state an earlier run has left it in. Whatever cannot be
 * looked at is an error: "it is not there" would be believed, and acted upon. */
#ifndef TP_JOB_OUTDIR_STATE_H
#define TP_JOB_OUTDIR_STATE_H

#include "job/outdir.h"
#include "manifest/manifest.h"

#define TP_PARTIAL_SUFFIX ".tensorport-partial"
#define TP_MARKER_NAME "UNFINISHED.txt"
#define TP_OLD_MANIFEST "manifest.old.json"
#define TP_LAST_FOLDER ".last" /* in the work folder, from the commit on: what comes after the manifest */

struct tp_outdir_state {
    bool final_manifest; /* `final` holds a manifest.json of ours */
    /* of the work folder; all false where there is none */
    bool marker, manifest, old_manifest, last;
    bool is_empty;   /* there, without a file */
    bool is_partial; /* has one of our marks, or no file at all: a kill just before the first file, or after the last */
    bool is_exchanging; /* killed (or stopped by an error) while files were moved: what is left in the work folder is
                         * all there is of them */
};
enum tp_status tp_outdir_look(struct tp_outdir_state *state, const struct tp_outdir *dir, struct tp_error *err);

/* A file, a folder, or a link wherever it leads? */
enum tp_status tp_outdir_has(bool *has, const char *folder, const char *name, struct tp_error *err);
/* A manifest.json of ours? The first bytes tell: the writer always begins so. */
enum tp_status tp_outdir_has_manifest(bool *has, const char *folder, struct tp_error *err);
enum tp_status tp_outdir_read_manifest(struct tp_manifest *m, const char *folder, const char *name,
                                       struct tp_error *err);

#endif
