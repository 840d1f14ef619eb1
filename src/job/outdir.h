/* SPDX-License-Identifier: MIT */
/* The output folder appears whole or not at all.
 *
 *     OUTPUT absent            work in OUTPUT.tensorport-partial beside it, then rename
 *     OUTPUT an empty folder   (maybe a mount point) work in OUTPUT/.tensorport-partial, then move the files in
 *     OUTPUT made by us        with --overwrite only: the same, after the old manifest has moved into the partial
 *                              folder and the files it lists are gone; what is not ours stays
 *     OUTPUT the source        with --link in-place only: the same, and no name of ours may be there before
 *
 * A partial folder that is found is refused, but for --overwrite, which empties it, and --resume, which goes on from
 * what it holds. Whoever works in one holds its lock.
 *
 * manifest.json comes after all other files, so that a folder that has one is complete; only the names of
 * tp_outdir_add_last come after it. A partial folder holds a file that says what it is, until files begin to be moved:
 * from then on what it holds is complete, and the next run goes on from there.
 *
 * Names are relative, with '/' between folders (os/tree.h). Folders come with the files that are in them and go when
 * our last file has gone and nothing else is there. Files are only ever moved to names that are free. */
#ifndef TP_JOB_OUTDIR_H
#define TP_JOB_OUTDIR_H

#include "base/list.h"
#include "base/status.h"
#include "os/file.h"

struct tp_outdir {
    char *final, *work;
    struct tp_list last; /* names that come after manifest.json */
    bool inside;         /* work is inside final */
    bool overwrite, in_place, sync;
    bool resume;           /* a partial folder is gone on from */
    bool resumed;          /* after tp_outdir_begin: there was one */
    unsigned made_parents; /* folders on the way to `work` that this run has made */
    int lock;              /* descriptor, -1: none */
    char taken[200];       /* after tp_outdir_begin: who worked here before, and does no more; "" */
};

/* Look, and refuse what must be refused; nothing is written. in_place: `output` holds the source, whatever else. */
struct tp_outdir_ways {
    bool overwrite, in_place, resume, sync;
};
enum tp_status tp_outdir_check(struct tp_outdir *dir, const char *output, struct tp_outdir_ways ways,
                               struct tp_error *err);
/* Would one of `names` replace a file of `final` that is not ours, or need a folder where one lies, or the reverse?
 * Then TP_ERR_EXISTS. Names that no file can have, or that we need ourselves, are TP_ERR_UNSUPPORTED. */
enum tp_status tp_outdir_check_names(const struct tp_outdir *dir, const char *const *names, size_t count,
                                     struct tp_error *err);
/* One more name that goes last. Before tp_outdir_commit; the file lies in the work folder by then. */
enum tp_status tp_outdir_add_last(struct tp_outdir *dir, const char *name, struct tp_error *err);
/* Make the work folder, or go on in it, and lock it; TP_ERR_EXISTS when somebody else was faster, or when there was an
 * interrupted conversion to finish in a folder where nothing may be replaced. */
enum tp_status tp_outdir_begin(struct tp_outdir *dir, struct tp_error *err);
/* Everything is written: give it its name. */
enum tp_status tp_outdir_commit(struct tp_outdir *dir, struct tp_error *err);
/* Remove what was written so far. */
void tp_outdir_discard(struct tp_outdir *dir);
/* The folder, within the work folder, of what only a resumed run wants: the caller's, removed by the commit. */
#define TP_RESUME_FOLDER ".resume"
void tp_outdir_release(struct tp_outdir *dir);

#endif
