/* SPDX-License-Identifier: MIT */
/* What comes after the data: sums, small files, side files, and manifest.json. */
#include <stdlib.h>
#include <string.h>

#include "job/conversion.h"
#include "job/print.h"
#include "job/report.h"
#include "job/textfile.h"
#include "os/host.h"

static void hash_frame(const struct tp_conversion *cv, struct tp_hasher *h, uint32_t file, uint32_t k, uint8_t *bytes)
{
    size_t offset = 0, size;
    while ((size = cv->format->frame(&cv->plan, file, k, offset, bytes, TP_FRAME_MAX_BYTES)) > 0) {
        tp_hasher_update(h, bytes, size);
        offset += size;
    }
}

static enum tp_status hash_framing(struct tp_conversion *cv, struct tp_error *err)
{
    uint8_t *bytes = malloc(TP_FRAME_MAX_BYTES);
    struct tp_hasher *h = tp_hasher_new(&cv->kernels);
    enum tp_status st = bytes && h ? TP_OK : tp_fail_nomem(err);
    for (uint32_t f = 0; f < cv->plan.file_count && !st; f++) {
        if (cv->plan.files[f].is_linked)
            continue;
        tp_hasher_reset(h);
        for (uint32_t k = 0; k <= cv->plan.files[f].extent_count; k++)
            hash_frame(cv, h, f, k, bytes);
        cv->framing[f] = tp_hasher_digest(h);
    }
    tp_hasher_free(h);
    free(bytes);
    return st;
}

/* ---- small files ---- */

/* Writes the content of one. `arg`: the filler's own. */
typedef enum tp_status (*fill_fn)(struct tp_conversion *cv, const void *arg, tp_json_write_fn write, void *user,
                                  struct tp_error *err);

static enum tp_status write_file(struct tp_conversion *cv, const char *name, fill_fn fill, const void *arg, bool list,
                                 struct tp_error *err)
{
    struct tp_text_file file = {.fd = -1};
    struct tp_digest digest;
    enum tp_status st = tp_text_file_open(&file, cv->outdir.work, name, &cv->kernels, err);
    if (!st)
        st = fill(cv, arg, tp_text_file_write, &file, err);
    uint64_t size = file.size_bytes;
    st = tp_text_file_close(&file, st, cv->options.sync, &digest, err);
    return st || !list ? st : tp_side_add(&cv->side, name, size, &digest, err);
}

static enum tp_status fill_attributes(struct tp_conversion *cv, const void *arg, tp_json_write_fn write, void *user,
                                      struct tp_error *err)
{
    (void)arg;
    return write(user, cv->format->attributes, strlen(cv->format->attributes), err);
}

/* Always the same time, so that the same input gives the same bytes. */
#define FIXED_TIME_NS INT64_C(1700000000000000000)

struct small {
    const struct tp_small_file *file;
    const struct tp_format_facts *facts;
};

static enum tp_status fill_small(struct tp_conversion *cv, const void *arg, tp_json_write_fn write, void *user,
                                 struct tp_error *err)
{
    const struct small *small = arg;
    return cv->format->write_small(&cv->plan, small->file, small->facts, write, user, err);
}

struct tally {
    struct tp_hasher *hasher;
    uint64_t size_bytes;
};

static enum tp_status count_bytes(void *user, const char *text, size_t len, struct tp_error *err)
{
    (void)err;
    struct tally *tally = user;
    tp_hasher_update(tally->hasher, text, len);
    tally->size_bytes += len;
    return TP_OK;
}

/* A file that is written after the manifest, which lists it all the same. */
static enum tp_status foretell(struct tp_conversion *cv, const struct small *small, struct tp_error *err)
{
    struct tally tally = {.hasher = tp_hasher_new(&cv->kernels)};
    if (!tally.hasher)
        return tp_fail_nomem(err);
    tp_hasher_reset(tally.hasher);
    enum tp_status st = fill_small(cv, small, count_bytes, &tally, err);
    struct tp_digest digest = tp_hasher_digest(tally.hasher);
    tp_hasher_free(tally.hasher);
    return st ? st : tp_side_add(&cv->side, small->file->name, tally.size_bytes, &digest, err);
}

enum turn { BEFORE_MANIFEST, FORETELL_LAST, AFTER_MANIFEST };

static enum tp_status write_small_files(struct tp_conversion *cv, enum turn turn, const struct tp_format_facts *facts,
                                        struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.small_count && !st; i++) {
        struct small small = {&cv->plan.small_files[i], facts};
        if (small.file->is_last == (turn == BEFORE_MANIFEST))
            continue;
        st = turn == FORETELL_LAST ? foretell(cv, &small, err)
                                   : write_file(cv, small.file->name, fill_small, &small, turn == BEFORE_MANIFEST, err);
    }
    return st;
}

/* ---- SHA256SUMS ---- */

static enum tp_status sum_line(tp_json_write_fn write, void *user, const char *hex, const char *name,
                               struct tp_error *err)
{
    enum tp_status st = write(user, hex, strlen(hex), err);
    if (!st)
        st = write(user, "  ", 2, err);
    if (!st)
        st = write(user, name, strlen(name), err);
    return st ? st : write(user, "\n", 1, err);
}

/* SHA-256 of one file of the work folder. */
static enum tp_status sha256_file(const struct tp_conversion *cv, const char *name, char hex[TP_SHA256_HEX],
                                  struct tp_pool *pool, struct tp_error *err)
{
    char *path = tp_path_join(cv->outdir.work, name);
    enum tp_status st = path ? tp_file_sha256(path, hex, pool, err) : tp_fail_nomem(err);
    free(path);
    return st;
}

/* Of all files that are there now. */
static enum tp_status fill_sums(struct tp_conversion *cv, const void *arg, tp_json_write_fn write, void *user,
                                struct tp_error *err)
{
    (void)arg;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st; i++)
        st = sum_line(write, user, cv->sha256[i], cv->plan.files[i].name, err);
    for (size_t i = 0; i < cv->side.count && !st; i++) {
        char hex[TP_SHA256_HEX];
        st = sha256_file(cv, cv->side.items[i].name, hex, NULL, err);
        if (!st)
            st = sum_line(write, user, hex, cv->side.items[i].name, err);
    }
    return st;
}

static enum tp_status sha256_task(struct tp_pool *pool, void *job, void *worker, const struct tp_task *task,
                                  struct tp_error *err)
{
    (void)worker;
    struct tp_conversion *cv = job;
    const struct tp_out_file *file = &cv->plan.files[task->file];
    if (file->is_linked)
        return tp_file_sha256(tp_checkpoint_file_path(cv->source, file->source_file), cv->sha256[task->file], pool,
                              err);
    return sha256_file(cv, file->name, cv->sha256[task->file], pool, err);
}

static const char *sha256_file_name(void *job, uint32_t file)
{
    const struct tp_conversion *cv = job;
    return file < cv->plan.file_count ? cv->plan.files[file].name : "";
}

/* A task a file: SHA-256 knows no parallel form. */
static enum tp_status sha256_files(struct tp_conversion *cv, struct tp_error *err)
{
    size_t n = cv->plan.file_count;
    struct tp_task_list list = {.tasks = calloc(n + 1, sizeof *list.tasks),
                                .file_first = calloc(n + 1, sizeof *list.file_first),
                                .count = n,
                                .file_count = (uint32_t)n};
    unsigned workers = cv->budget.workers < n ? cv->budget.workers : (unsigned)n;
    void **states = calloc(workers + 1u, sizeof *states);
    struct tp_pool_config config = {.workers = workers,
                                    .worker_states = states,
                                    .run = sha256_task,
                                    .job = cv,
                                    .progress = cv->options.progress,
                                    .progress_user = cv->options.progress_user,
                                    .phase = TP_PHASE_HASH,
                                    .file_name = sha256_file_name};
    enum tp_status st = list.tasks && list.file_first && states ? TP_OK : tp_fail_nomem(err);
    for (uint32_t i = 0; i < n && !st; i++) {
        list.tasks[i].file = list.file_first[i] = i;
        list.file_first[i + 1] = i + 1;
        config.total_bytes += cv->plan.files[i].size_bytes;
    }
    if (!st)
        st = tp_pool_run(&config, &list, err);
    free(states);
    tp_tasks_release(&list);
    return st;
}

static const struct tp_stats *stats_of(void *user, uint32_t result)
{
    const struct tp_conversion *cv = user;
    return &cv->results[result].stats;
}

/* ---- manifest.json ---- */

static enum tp_status fill_manifest(struct tp_conversion *cv, const void *arg, tp_json_write_fn write, void *user,
                                    struct tp_error *err)
{
    (void)arg;
    struct tp_cast_row *casts;
    size_t cast_count;
    enum tp_status st = tp_report_casts(&casts, &cast_count, &cv->plan, cv->results, err);
    if (st)
        return st;
    struct tp_manifest_facts facts = {.source = cv->source,
                                      .options = &cv->options,
                                      .layout = cv->format->name,
                                      .source_prints = cv->prints,
                                      .block_digests = cv->digests,
                                      .framing_digests = cv->framing,
                                      .sha256 = (const char(*)[TP_SHA256_HEX])cv->sha256,
                                      .stats_of = stats_of,
                                      .user = cv,
                                      .side_files = cv->side.items,
                                      .side_count = cv->side.count,
                                      .casts = casts,
                                      .cast_count = cast_count};
    st = tp_manifest_write(&cv->plan, &facts, write, user, err);
    free(casts);
    return st;
}

/* ---- all of it ---- */

static enum tp_status sync_files(struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st && cv->options.sync; i++) {
        int fd = -1;
        if (cv->plan.files[i].is_linked)
            continue;
        char *path = tp_path_join(cv->outdir.work, cv->plan.files[i].name);
        st = path ? tp_file_open_write(&fd, path, err) : tp_fail_nomem(err);
        if (!st)
            st = tp_file_sync(fd, path, err);
        tp_fd_close(fd);
        free(path);
    }
    return st;
}

/* The sums of linked files, by file of the source; NULL without --sha256 (or without memory: then *st says so). */
static char (*source_sums(const struct tp_conversion *cv, enum tp_status *st, struct tp_error *err))[TP_SHA256_HEX]
{
    if (!cv->sha256)
        return NULL;
    char(*sums)[TP_SHA256_HEX] = calloc((size_t)tp_checkpoint_file_count(cv->source) + 1, sizeof *sums);
    if (!sums)
        *st = tp_fail_nomem(err);
    for (size_t i = 0; sums && i < cv->plan.file_count; i++)
        if (cv->plan.files[i].is_linked)
            memcpy(sums[cv->plan.files[i].source_file], cv->sha256[i], sizeof *sums);
    return sums;
}

static enum tp_status write_all(struct tp_conversion *cv, const struct tp_format_facts *facts, struct tp_error *err)
{
    enum tp_status st = write_small_files(cv, BEFORE_MANIFEST, facts, err);
    if (!st && cv->format->attributes && !cv->outdir.in_place)
        st = write_file(cv, TP_ATTRIBUTES_NAME, fill_attributes, NULL, true, err);
    if (!st)
        st = hash_framing(cv, err);
    if (!st && cv->options.sha256)
        st = write_file(cv, TP_SUMS_NAME, fill_sums, NULL, true, err);
    if (!st)
        st = write_small_files(cv, FORETELL_LAST, facts, err);
    if (!st)
        st = write_file(cv, TP_MANIFEST_NAME, fill_manifest, NULL, false, err);
    return st ? st : write_small_files(cv, AFTER_MANIFEST, facts, err);
}

enum tp_status tp_conversion_finish(struct tp_conversion *cv, struct tp_error *err)
{
    struct tp_format_facts facts = {.options = &cv->options, .time_ns = FIXED_TIME_NS};
    if (cv->options.orbax.timestamp)
        facts.time_ns = tp_host_time_ns();
    enum tp_status st = sync_files(cv, err);
    if (!st)
        st = tp_side_copy(&cv->side, cv->source, cv->outdir.work, &cv->kernels, cv->options.sync, err);
    if (!st && cv->options.sha256)
        st = sha256_files(cv, err);
    char(*sums)[TP_SHA256_HEX] = st ? NULL : source_sums(cv, &st, err);
    facts.source_prints = cv->prints;
    facts.source_sha256 = (const char(*)[TP_SHA256_HEX])sums;
    if (!st)
        st = write_all(cv, &facts, err);
    free(sums);
    return st;
}
