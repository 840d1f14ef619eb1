/* SPDX-License-Identifier: MIT */
/* Doing it: what an earlier run has left, links, the data, all the rest, and the proof. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/conversion.h"
#include "job/identity.h"
#include "job/links.h"
#include "job/print.h"
#include "job/report.h"
#include "os/host.h"
#include "os/tree.h"
#include "tensorport/tensorport.h"

/* ---- what an earlier run has left ---- */

#define IDENTITY_NAME "conversion.txt"

static enum tp_status read_text(char **text, const char *path, struct tp_error *err)
{
    struct tp_file_id id;
    int fd = -1;
    enum tp_status st = tp_file_open_read(&fd, path, &id, err);
    if (!st && id.size_bytes > ((uint64_t)64 << 20))
        st = tp_err_path(err, tp_fail(err, TP_ERR_LIMIT, "%" PRIu64 " bytes are too many", id.size_bytes), path);
    char *bytes = st ? NULL : calloc(1, (size_t)id.size_bytes + 1);
    if (!st && !bytes)
        st = tp_fail_nomem(err);
    if (!st)
        st = tp_file_read_at(fd, bytes, (size_t)id.size_bytes, 0, path, err);
    tp_fd_close(fd);
    if (st)
        free(bytes);
    else
        *text = bytes;
    return st;
}

/* The same conversion, or none: then nothing of what lies there is touched. */
static enum tp_status check_identity(struct tp_conversion *cv, const char *path, const char *now, struct tp_error *err)
{
    char *then = NULL;
    enum tp_path_kind kind;
    enum tp_status st = tp_path_kind_of_itself(&kind, path, err);
    if (st || kind == TP_PATH_ABSENT) /* stopped before anything was finished */
        return st;
    st = read_text(&then, path, err);
    if (!st)
        st = tp_identity_compare(then, now, &cv->other_overflow, err);
    free(then);
    if (st == TP_ERR_EXISTS) {
        tp_err_path(err, st, cv->outdir.work);
        tp_err_hint(err, st, "give the same source and options, or start again with --overwrite");
    }
    return st;
}

/* All of it or nothing: a run that is killed meanwhile must be known by the next one. */
static enum tp_status write_identity(const char *path, const char *text, struct tp_error *err)
{
    int fd = -1;
    char *new = tp_path_join(path, "");
    if (!new)
        return tp_fail_nomem(err);
    new[strlen(new) - 1] = '~';
    enum tp_status st = tp_file_create(&fd, new, 0, err);
    if (!st)
        st = tp_file_write_at(fd, text, strlen(text), 0, new, err);
    tp_fd_close(fd);
    if (!st)
        st = tp_path_rename(new, path, err);
    free(new);
    return st;
}

/* Values that overflowed were made as the option was: their blocks are to be made again, also by whoever resumes after
 * this run. So they leave the journal before the option changes. */
static enum tp_status forget_overflowed(struct tp_conversion *cv, const char *folder, const struct tp_digest *layout,
                                        struct tp_error *err)
{
    tp_claims_drop_overflowed(&cv->claims);
    tp_journal_close(cv->journal);
    cv->journal = NULL;
    enum tp_status st = tp_journal_create(&cv->journal, folder, layout, err);
    return st ? st : tp_journal_append(cv->journal, cv->claims.records, cv->claims.count, err);
}

/* The journal of this run: new, or the old one with its claims. manifest.json, if it came so far, is made again. */
static enum tp_status begin_journal(struct tp_conversion *cv, struct tp_error *err)
{
    char *text = NULL, *folder = tp_path_join(cv->outdir.work, TP_RESUME_FOLDER);
    char *path = folder ? tp_path_join(folder, IDENTITY_NAME) : NULL;
    struct tp_digest layout;
    uint64_t records = 0;
    enum tp_status st = path ? TP_OK : tp_fail_nomem(err);
    if (!st)
        st = tp_source_prints(&cv->prints, cv->source, &cv->kernels, err);
    if (!st)
        st = tp_identity_make(&text, &layout, cv, err);
    if (!st && cv->outdir.resumed)
        st = check_identity(cv, path, text, err);
    cv->is_other = st == TP_ERR_EXISTS;
    if (!st && cv->outdir.resumed)
        st = tp_tree_remove(cv->outdir.work, TP_MANIFEST_NAME, err);
    if (!st)
        st = tp_folder_make(folder, err);
    if (!st)
        st = cv->outdir.resumed
                 ? tp_journal_resume(&cv->journal, folder, &layout, tp_claims_add, &cv->claims, &records, err)
                 : tp_journal_create(&cv->journal, folder, &layout, err);
    if (!st && cv->other_overflow)
        st = forget_overflowed(cv, folder, &layout, err);
    if (!st)
        st = write_identity(path, text, err);
    if (!st)
        tp_claims_sort(&cv->claims);
    free(path);
    free(folder);
    free(text);
    return st;
}

/* ---- links ---- */

static int count_copied(void *user, uint64_t bytes)
{
    (void)bytes;
    struct tp_conversion *cv = user;
    struct tp_progress p = {.phase = TP_PHASE_CONVERT, .file = ""};
    return cv->options.progress ? cv->options.progress(cv->options.progress_user, &p) : 0;
}

/* The source's files beside ours. In place they are there already: the work folder has links to them for as long as
 * it is read back. */
static enum tp_status link_files(struct tp_conversion *cv, struct tp_error *err)
{
    bool in_place = cv->outdir.in_place;
    struct tp_link_order order = {.way = in_place ? TP_LINK_SYMBOLIC : cv->options.orbax.link,
                                  .sync = cv->options.sync,
                                  .step = count_copied,
                                  .user = cv};
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st; i++) {
        const struct tp_out_file *f = &cv->plan.files[i];
        enum tp_linked how = TP_LINKED_HARD;
        if (!f->is_linked)
            continue;
        if (cv->outdir.resumed)
            st = tp_tree_remove(cv->outdir.work, f->name, err);
        if (!st)
            st = tp_link_put(&how, &order, tp_checkpoint_file_path(cv->source, f->source_file),
                             tp_file_cache_id(cv->source->cache, f->source_file), cv->outdir.work, f->name, err);
        cv->symbolic_count += how == TP_LINKED_SYMBOLIC;
    }
    return st;
}

static enum tp_status note_links(struct tp_conversion *cv, struct tp_error *err)
{
    bool ok = true;
    if (cv->outdir.in_place)
        ok = tp_list_add(&cv->plan.notes, "warning: the checkpoint lies beside the originals and consists of them: "
                                          "deleting it, as a CheckpointManager does, deletes them");
    else if (cv->symbolic_count)
        ok = tp_list_add(&cv->plan.notes,
                         "warning: %" PRIu32 " of the files %s to the source, which must stay where it is",
                         cv->symbolic_count, cv->symbolic_count == 1 ? "is a symbolic link" : "are symbolic links");
    return ok ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status unlink_files(struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->link_name_count && !st; i++)
        st = tp_tree_remove(cv->outdir.work, cv->link_names[i], err);
    return st;
}

/* ---- the data ---- */

/* What a stopped run has taken already need not be free. */
static uint64_t taken_bytes(const struct tp_conversion *cv)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < cv->plan.file_count && cv->outdir.resume; i++) {
        char *path = tp_path_join(cv->outdir.work, cv->plan.files[i].name);
        struct tp_file_id id;
        int fd = -1;
        if (path && !cv->plan.files[i].is_linked && !tp_file_open_read(&fd, path, &id, NULL))
            bytes += id.size_bytes;
        tp_fd_close(fd);
        free(path);
    }
    return bytes;
}

static enum tp_status check_space(struct tp_conversion *cv, struct tp_error *err)
{
    uint64_t free_bytes, needed = cv->totals.output_bytes, taken = taken_bytes(cv);
    needed = needed > taken ? needed - taken : 0;
    enum tp_status st = tp_path_free_bytes(&free_bytes, cv->outdir.final, err);
    if (st || free_bytes >= needed)
        return st;
    tp_fail(err, TP_ERR_SPACE, "the output needs %" PRIu64 " bytes, %" PRIu64 " are free there", needed, free_bytes);
    return tp_err_path(err, TP_ERR_SPACE, cv->outdir.final);
}

/* Every file at its final size, before the first byte: what will not fit is known now. */
static enum tp_status create_files(struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st; i++) {
        int fd = -1;
        if (cv->plan.files[i].is_linked)
            continue;
        const char *name = cv->plan.files[i].name;
        char *path = tp_path_join(cv->outdir.work, name);
        st = path ? TP_OK : tp_fail_nomem(err);
        if (!st && strchr(name, '/'))
            st = tp_tree_make(cv->outdir.work, name, err);
        if (!st)
            st = tp_file_create(&fd, path, cv->plan.files[i].size_bytes, err);
        if (!st)
            st = tp_file_close(fd, path, err);
        free(path);
    }
    return st;
}

static enum tp_status allocate_tables(struct tp_conversion *cv, struct tp_error *err)
{
    cv->digests = calloc(cv->plan.block_count + 1, sizeof *cv->digests);
    cv->framing = calloc(cv->plan.file_count + 1, sizeof *cv->framing);
    cv->results = calloc((size_t)cv->plan.result_count + 1, sizeof *cv->results);
    if (cv->options.sha256)
        cv->sha256 = calloc(cv->plan.file_count + 1, sizeof *cv->sha256);
    if (!cv->digests || !cv->framing || !cv->results || (cv->options.sha256 && !cv->sha256))
        return tp_fail_nomem(err);
    for (uint32_t i = 0; i < cv->plan.result_count; i++)
        tp_stats_init(&cv->results[i].stats);
    return TP_OK;
}

static enum tp_status move_data(struct tp_conversion *cv, struct tp_error *err)
{
    struct tp_move move = {.mode = TP_MOVE_WRITE,
                           .plan = &cv->plan,
                           .kernels = &cv->kernels,
                           .source = cv->source,
                           .format = cv->format,
                           .folder = cv->outdir.work,
                           .digests = cv->digests,
                           .results = cv->results,
                           .journal = cv->journal,
                           .claims = &cv->claims,
                           .saturate = cv->options.on_overflow == TP_OVERFLOW_SATURATE,
                           .stop_at_overflow = cv->options.on_overflow == TP_OVERFLOW_ERROR,
                           .budget = cv->budget,
                           .progress = cv->options.progress,
                           .progress_user = cv->options.progress_user};
    enum tp_status st = tp_move_run(&move, err);
    cv->kept_bytes = atomic_load(&move.kept_bytes);
    if (!st)
        st = tp_checkpoint_check_unchanged(cv->source, err);
    return st || !cv->original ? st : tp_checkpoint_check_unchanged(cv->original, err);
}

static enum tp_status refuse_overflow(const struct tp_conversion *cv, const struct tp_convert_report *report,
                                      struct tp_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < report->value_count; i++)
        count += report->values[i].overflow_count > 0;
    if (cv->options.on_overflow != TP_OVERFLOW_ERROR || count == 0)
        return TP_OK;
    tp_fail(err, TP_ERR_VALUE, "%zu %s finite values that %s cannot hold", count,
            count == 1 ? "array has" : "arrays have", tp_precision_name(cv->options.precision));
    tp_err_path(err, TP_ERR_VALUE, cv->options.input);
    return tp_err_hint(
        err, TP_ERR_VALUE,
        "no output was made. Use --precision bfloat16, --keep-dtype GLOB, or --on-overflow saturate (that "
        "one with --resume goes on)");
}

/* ---- the proof ---- */

/* Read back what was written, before it gets its name. */
static enum tp_status read_back(struct tp_conversion *cv, struct tp_convert_report *report, struct tp_error *err)
{
    struct tp_verify_options options = {.model = cv->outdir.work,
                                        .unfinished = true,
                                        .workers = cv->budget.workers,
                                        .max_memory_bytes = cv->options.max_memory_bytes,
                                        .difference_limit = 10,
                                        .cpu = cv->options.cpu,
                                        .progress = cv->options.progress,
                                        .progress_user = cv->options.progress_user};
    struct tp_verify_report found = {.difference_count = 0};
    enum tp_status st = tp_verify(&options, &found, err);
    if (!st && found.difference_count > 0) {
        tp_fail(err, TP_ERR_IO, "%" PRIu64 " differences when the result was read back; the first: %s",
                found.difference_count, found.difference_shown ? found.differences[0] : "");
        st = tp_err_hint(err, TP_ERR_IO, "the disk or the memory of this machine is not to be trusted");
    }
    report->verified = !st;
    report->verify_s = found.elapsed_s;
    tp_verify_report_release(&found);
    return st;
}

static enum tp_status convert(struct tp_conversion *cv, struct tp_convert_report *report, struct tp_error *err)
{
    double begin = tp_host_clock_s();
    enum tp_status st = begin_journal(cv, err);
    if (!st && cv->outdir.taken[0] &&
        !tp_list_add(&cv->plan.notes, "%s: %s",
                     cv->outdir.resumed ? "gone on from" : "in place of the unfinished output of", cv->outdir.taken))
        st = tp_fail_nomem(err);
    if (!st)
        st = allocate_tables(cv, err);
    if (!st)
        st = create_files(cv, err);
    if (!st)
        st = link_files(cv, err);
    if (!st)
        st = note_links(cv, err);
    if (!st)
        st = move_data(cv, err);
    report->convert_s = tp_host_clock_s() - begin;
    if (!st)
        st = tp_report_fill(report, &cv->plan, cv->source, cv->results, err);
    report->symbolic_count = cv->outdir.in_place ? 0 : cv->symbolic_count;
    if (!st)
        st = refuse_overflow(cv, report, err);
    begin = tp_host_clock_s();
    if (!st)
        st = tp_conversion_finish(cv, err);
    report->hash_s = tp_host_clock_s() - begin;
    report->workers = cv->budget.workers;
    tp_conversion_free_tables(cv); /* the check must fit into the same memory */
    tp_checkpoint_forget(cv->source);
    if (!st && !cv->options.skip_verify)
        st = read_back(cv, report, err);
    if (!st && cv->outdir.in_place)
        st = unlink_files(cv, err);
    return st ? st : tp_outdir_commit(&cv->outdir, err);
}

enum tp_status tp_conversion_run(struct tp_conversion *cv, struct tp_convert_report *report, struct tp_error *err)
{
    struct tp_convert_report own = {.array_count = 0};
    struct tp_convert_report *r = report ? report : &own;
    *r = (struct tp_convert_report){.array_count = 0};
    if (!cv->plan.source)
        return tp_fail(err, TP_ERR_USAGE, "this conversion has run already");
    enum tp_status st = check_space(cv, err);
    if (!st)
        st = tp_outdir_begin(&cv->outdir, err);
    if (st)
        return st;
    for (size_t i = 0; i < cv->plan.file_count; i++)
        r->written_bytes += cv->plan.files[i].is_linked ? 0 : cv->plan.files[i].size_bytes;
    r->referred_bytes = cv->totals.referred_bytes;
    r->linked_file_count = cv->totals.linked_file_count;
    st = convert(cv, r, err);
    bool keeps = cv->is_other || (cv->journal ? tp_journal_count(cv->journal) > 0 : cv->outdir.resumed);
    tp_journal_close(cv->journal);
    cv->journal = NULL;
    r->kept_bytes = cv->kept_bytes;
    if (st && keeps && !cv->is_other)
        snprintf(r->partial_path, sizeof r->partial_path, "%s", cv->outdir.work);
    else if (st && !keeps)
        tp_outdir_discard(&cv->outdir);
    else if (!st)
        snprintf(r->manifest_path, sizeof r->manifest_path, "%s/%s", cv->outdir.final, TP_MANIFEST_NAME);
    if (!report)
        tp_convert_report_release(&own);
    return st;
}
