/* SPDX-License-Identifier: MIT */
/* The output folder appears whole or not at all.
 *
 *     OUTPUT absent            work in OUTPUT.tensorport-partial beside it, then rename
 *     OUTPUT an empty folder   (maybe a mount point) work in OUTPUT/.tensorport-partial, then rename the files in
 *     OUTPUT made by us        with --overwrite only: the same, after the old manifest has moved into the partial
 * folder and the files it lists are gone; what is not ours stays
 *
 * manifest.json comes last, so that a folder that has one is complete. A partial folder holds a file that says what it
 * is, until files begin to be renamed: from then on what it holds is complete, and the next run goes on from there. */
#ifndef TP_JOB_OUTDIR_H
#define TP_JOB_OUTDIR_H

#include "base/status.h"
#include "os/file.h"

struct tp_outdir {
    char *final, *work;
    bool inside; /* work is inside final */
    bool overwrite, sync;
};

/* Look, and refuse what must be refused; nothing is written. */
enum tp_status tp_outdir_check(struct tp_outdir *dir, const char *output, bool overwrite, bool sync,
                               struct tp_error *err);
/* Would one of `names` replace a file of `final` that is not ours? Then TP_ERR_EXISTS. */
enum tp_status tp_outdir_check_names(const struct tp_outdir *dir, const char *const *names, size_t count,
                                     struct tp_error *err);
/* Make the work folder; TP_ERR_EXISTS when somebody else was faster. */
enum tp_status tp_outdir_begin(struct tp_outdir *dir, struct tp_error *err);
/* Everything is written: give it its name. */
enum tp_status tp_outdir_commit(struct tp_outdir *dir, struct tp_error *err);
/* Remove what was written so far. */
void tp_outdir_discard(struct tp_outdir *dir);
void tp_outdir_release(struct tp_outdir *dir);

#endif
