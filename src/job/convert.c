/* SPDX-License-Identifier: MIT */
/* Converting, from the outside in: prepare (open, plan, layout), run (write, finish, verify, commit). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "checkpoint/checkpoint.h"
#include "job/outdir.h"
#include "job/print.h"
#include "job/report.h"
#include "job/sidefiles.h"
#include "job/textfile.h"
#include "os/host.h"
#include "pipeline/move.h"
#include "tensorport/tensorport.h"

#define SUMS_NAME "SHA256SUMS"
#define ATTRIBUTES_NAME ".gitattributes"

struct tp_conversion {
    struct tp_convert_options options;
    struct tp_checkpoint *source;
    const struct tp_format *format;
    struct tp_kernels kernels;
    struct tp_plan plan;
    struct tp_outdir outdir;
    struct tp_side_list side; /* copied files first, then our own small ones */
    struct tp_plan_totals totals;
    struct tp_budget budget;
    char name[TP_NAME_MAX_BYTES + 1]; /* of tp_conversion_array */
    /* while running */
    struct tp_digest *digests, *framing;
    struct tp_result *results;
    struct tp_source_print *prints;
    char (*sha256)[TP_SHA256_HEX];
};

/* ---- prepare ---- */

static uint64_t manifest_estimate(const struct tp_plan *plan)
{
    uint64_t bytes = 4096 + plan->block_count * 35 + plan->file_count * 200;
    for (size_t i = 0; i < plan->array_count; i++)
        bytes += 330 + 2 * (uint64_t)plan->arrays[i].path_len;
    return bytes;
}

static void add_totals(struct tp_conversion *cv)
{
    struct tp_plan_totals *t = &cv->totals;
    const struct tp_plan *plan = &cv->plan;
    t->array_count = plan->array_count;
    t->parameter_count = plan->parameter_count;
    t->source_bytes = plan->read_bytes;
    t->file_count = (uint32_t)plan->file_count;
    t->workers = cv->budget.workers;
    t->output_bytes = manifest_estimate(plan);
    for (size_t i = 0; i < plan->file_count; i++)
        t->output_bytes += plan->files[i].size_bytes;
    for (size_t i = 0; i < cv->side.count; i++)
        t->output_bytes += cv->side.items[i].size_bytes;
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        bool narrows = a->dtype == TP_F16 ||
                       tp_dtype_bits((enum tp_dtype)a->dtype) < tp_dtype_bits((enum tp_dtype)a->source_dtype) ||
                       (a->dtype == TP_BF16 && a->source_dtype == TP_F16);
        t->cast_count += a->op == TP_OP_CAST;
        t->narrowed_count += a->op == TP_OP_CAST && narrows;
        if (a->group != TP_NO_GROUP && tp_checkpoint_group(cv->source, a->group)->codes ==
                                           (uint32_t)(plan->logicals[i].tensor - tp_checkpoint_tensor(cv->source, 0)))
            t->group_count++;
    }
    t->decoded_count = plan->decoded_count;
    t->memory_bytes =
        cv->budget.workers * ((uint64_t)cv->budget.piece_bytes + cv->budget.buffer_bytes + cv->budget.scratch_bytes) +
        plan->array_count * 512;
}

/* Every file that will be made, against those that are there. */
static enum tp_status check_names(struct tp_conversion *cv, struct tp_error *err)
{
    size_t count = 0;
    const char *index = cv->format->index_name(&cv->plan);
    const char **names = malloc((cv->plan.file_count + cv->side.count + 3) * sizeof *names);
    if (!names)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < cv->plan.file_count; i++)
        names[count++] = cv->plan.files[i].name;
    for (size_t i = 0; i < cv->side.count; i++)
        names[count++] = cv->side.items[i].name;
    names[count++] = ATTRIBUTES_NAME;
    if (index)
        names[count++] = index;
    if (cv->options.sha256)
        names[count++] = SUMS_NAME;
    enum tp_status st = tp_outdir_check_names(&cv->outdir, names, count, err);
    free(names);
    return st;
}

/* What the manifest will say must be UTF-8, and what it lists no path. */
static enum tp_status check_text(const char *text, const char *what, bool is_name, enum tp_status code,
                                 struct tp_error *err)
{
    char shown[256];
    size_t len = strlen(text), at = 0, step = 1;
    uint32_t c;
    for (; at < len && step > 0; at += step)
        step = tp_utf8_decode(text + at, len - at, &c);
    if (step > 0 && len <= TP_NAME_MAX_BYTES && !(is_name && strchr(text, '\\')))
        return TP_OK;
    return tp_fail(err, code, "%s '%s' cannot be written to manifest.json (not UTF-8, too long, or with a backslash)",
                   what, tp_text_printable(shown, sizeof shown, text, len));
}

static enum tp_status check_texts(const struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_glob_list *globs[] = {&cv->options.keep_dtype, &cv->options.include, &cv->options.exclude};
    enum tp_status st = TP_OK;
    for (size_t g = 0; g < TP_COUNT_OF(globs); g++)
        for (size_t i = 0; i < globs[g]->count && !st; i++)
            st = check_text(globs[g]->items[i], "the glob", false, TP_ERR_USAGE, err);
    for (uint32_t i = 0; i < tp_checkpoint_file_count(cv->source) && !st; i++)
        st = check_text(tp_checkpoint_file(cv->source, i)->name, "the file name", true, TP_ERR_UNSUPPORTED, err);
    for (size_t i = 0; i < cv->side.count && !st; i++)
        st = check_text(cv->side.items[i].name, "the file name", true, TP_ERR_UNSUPPORTED, err);
    return st == TP_ERR_UNSUPPORTED ? tp_err_path(err, st, cv->source->folder) : st;
}

/* The source is only ever read; an exchange would replace it. */
static enum tp_status check_apart(const struct tp_conversion *cv, struct tp_error *err)
{
    const char *folder = cv->source->folder;
    if (!tp_path_same(folder, cv->outdir.final) && !tp_path_same(folder, cv->outdir.work))
        return TP_OK;
    return tp_err_path(err, tp_fail(err, TP_ERR_USAGE, "the output is the folder of the input"), cv->outdir.final);
}

static enum tp_status prepare(struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_convert_options *o = &cv->options;
    if (!o->input || !o->output)
        return tp_fail(err, TP_ERR_USAGE, "an input and an output are needed");
    if (!tp_kernels_init(&cv->kernels, o->cpu))
        return tp_fail(err, TP_ERR_USAGE, "this machine has no kernels called '%s'", o->cpu);
    enum tp_status st =
        tp_checkpoint_open(&cv->source, o->input, &(struct tp_open_options){.ignore_index = o->ignore_index}, err);
    if (!st)
        st = tp_outdir_check(&cv->outdir, o->output, o->overwrite, o->sync, err);
    if (!st)
        st = check_apart(cv, err);
    if (!st)
        st = tp_plan_build(&cv->plan, cv->source, o, cv->format->traits, err);
    if (!st)
        st = tp_budget_plan(&cv->budget, o->workers, o->max_memory_bytes, cv->plan.decoded_count > 0, err);
    if (!st)
        st = cv->format->layout(&cv->plan, o, err);
    if (!st)
        st = tp_side_find(&cv->side, cv->source, cv->plan.decoded_count > 0, err);
    if (!st)
        st = check_texts(cv, err);
    if (!st)
        st = check_names(cv, err);
    if (!st)
        st = tp_path_free_bytes(&cv->totals.free_bytes, cv->outdir.final, err);
    if (!st)
        add_totals(cv);
    return st;
}

enum tp_status tp_conversion_prepare(struct tp_conversion **out, const struct tp_convert_options *options,
                                     struct tp_error *err)
{
    struct tp_conversion *cv = calloc(1, sizeof *cv);
    if (!cv)
        return tp_fail_nomem(err);
    cv->options = *options;
    cv->format = options->format == TP_OUTPUT_SAFETENSORS ? &tp_format_safetensors : &tp_format_flax_msgpack;
    enum tp_status st = prepare(cv, err);
    if (st) {
        tp_conversion_free(cv);
        return st;
    }
    *out = cv;
    return TP_OK;
}

static void free_tables(struct tp_conversion *cv)
{
    free(cv->digests);
    free(cv->framing);
    free(cv->results);
    free(cv->prints);
    free(cv->sha256);
    cv->digests = cv->framing = NULL;
    cv->results = NULL;
    cv->prints = NULL;
    cv->sha256 = NULL;
    tp_plan_release(&cv->plan);
}

void tp_conversion_free(struct tp_conversion *cv)
{
    if (!cv)
        return;
    free_tables(cv);
    tp_outdir_release(&cv->outdir);
    tp_side_release(&cv->side);
    tp_checkpoint_close(cv->source);
    free(cv);
}

/* ---- looking at the plan ---- */

const struct tp_checkpoint *tp_conversion_source(const struct tp_conversion *cv)
{
    return cv->source;
}

void tp_conversion_totals(const struct tp_conversion *cv, struct tp_plan_totals *out)
{
    *out = cv->totals;
}

void tp_conversion_array(struct tp_conversion *cv, uint32_t index, struct tp_plan_array *out)
{
    const struct tp_plan *plan = &cv->plan;
    const struct tp_array *a = &plan->arrays[index];
    tp_path_join_keys(cv->name, a->path, a->path_len, '/');
    *out = (struct tp_plan_array){.name = cv->name,
                                  .source_dtype = (enum tp_dtype)a->source_dtype,
                                  .dtype = (enum tp_dtype)a->dtype,
                                  .numpy_name = tp_dtype_numpy_name((enum tp_dtype)a->dtype),
                                  .shape = a->shape,
                                  .rank = a->rank,
                                  .size_bytes = a->elem_count * tp_array_item_bytes(a),
                                  .first_file = plan->extents[a->first_extent].file,
                                  .part_count = 1};
    const struct tp_decoded *decoded = plan->logicals[a->pieces[0].logical].decoded;
    out->scheme = decoded ? decoded->scheme->name : NULL;
    uint32_t leaf = plan->extents[a->first_extent].leaf;
    for (uint32_t i = a->first_extent; i != TP_NONE; i = plan->extents[i].next) {
        out->last_file = plan->extents[i].file;
        out->part_count += plan->extents[i].leaf != leaf;
        leaf = plan->extents[i].leaf;
    }
}

void tp_conversion_file(const struct tp_conversion *cv, uint32_t index, struct tp_plan_file *out)
{
    const struct tp_out_file *f = &cv->plan.files[index];
    *out = (struct tp_plan_file){f->name, f->size_bytes, 0};
    for (uint32_t k = 0; k < f->extent_count; k++) {
        const struct tp_out_extent *e = &cv->plan.extents[f->first_extent + k];
        out->array_count += k == 0 || e->leaf != (e - 1)->leaf;
    }
}

/* ---- run: the data ---- */

static enum tp_status check_space(struct tp_conversion *cv, struct tp_error *err)
{
    uint64_t free_bytes;
    enum tp_status st = tp_path_free_bytes(&free_bytes, cv->outdir.final, err);
    if (st || free_bytes >= cv->totals.output_bytes)
        return st;
    tp_fail(err, TP_ERR_SPACE, "the output needs %" PRIu64 " bytes, %" PRIu64 " are free there",
            cv->totals.output_bytes, free_bytes);
    return tp_err_path(err, TP_ERR_SPACE, cv->outdir.final);
}

/* Every file at its final size, before the first byte: what will not fit is known now. */
static enum tp_status create_files(struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st; i++) {
        int fd = -1;
        char *path = tp_path_join(cv->outdir.work, cv->plan.files[i].name);
        st = path ? tp_file_create(&fd, path, cv->plan.files[i].size_bytes, err) : tp_fail_nomem(err);
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
                           .saturate = cv->options.on_overflow == TP_OVERFLOW_SATURATE,
                           .stop_at_overflow = cv->options.on_overflow == TP_OVERFLOW_ERROR,
                           .budget = cv->budget,
                           .progress = cv->options.progress,
                           .progress_user = cv->options.progress_user};
    enum tp_status st = tp_move_run(&move, err);
    return st ? st : tp_checkpoint_check_unchanged(cv->source, err);
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
    return tp_err_hint(err, TP_ERR_VALUE,
                       "no output was made. Use --precision bfloat16, --keep-dtype GLOB, or --on-overflow saturate");
}

/* ---- run: the small files ---- */

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
        tp_hasher_reset(h);
        for (uint32_t k = 0; k <= cv->plan.files[f].extent_count; k++)
            hash_frame(cv, h, f, k, bytes);
        cv->framing[f] = tp_hasher_digest(h);
    }
    tp_hasher_free(h);
    free(bytes);
    return st;
}

/* Writes the content of one small file. */
typedef enum tp_status (*fill_fn)(struct tp_conversion *cv, struct tp_text_file *file, struct tp_error *err);

static enum tp_status write_small(struct tp_conversion *cv, const char *name, fill_fn fill, bool list,
                                  struct tp_error *err)
{
    struct tp_text_file file = {.fd = -1};
    struct tp_digest digest;
    enum tp_status st = tp_text_file_open(&file, cv->outdir.work, name, &cv->kernels, err);
    if (!st)
        st = fill(cv, &file, err);
    uint64_t size = file.size_bytes;
    st = tp_text_file_close(&file, st, cv->options.sync, &digest, err);
    return st || !list ? st : tp_side_add(&cv->side, name, size, &digest, err);
}

static enum tp_status fill_index(struct tp_conversion *cv, struct tp_text_file *file, struct tp_error *err)
{
    struct tp_json_writer w;
    tp_json_writer_init(&w, tp_text_file_write, file, err);
    cv->format->write_index(&cv->plan, &w);
    return tp_json_writer_finish(&w);
}

static enum tp_status fill_attributes(struct tp_conversion *cv, struct tp_text_file *file, struct tp_error *err)
{
    return tp_text_file_write(file, cv->format->attributes, strlen(cv->format->attributes), err);
}

static enum tp_status sum_line(struct tp_text_file *file, const char *hex, const char *name, struct tp_error *err)
{
    enum tp_status st = tp_text_file_write(file, hex, strlen(hex), err);
    if (!st)
        st = tp_text_file_write(file, "  ", 2, err);
    if (!st)
        st = tp_text_file_write(file, name, strlen(name), err);
    return st ? st : tp_text_file_write(file, "\n", 1, err);
}

/* SHA-256 of one file of the work folder. */
static enum tp_status sha256_file(const struct tp_conversion *cv, const char *name, char hex[TP_SHA256_HEX],
                                  struct tp_pool *pool, struct tp_error *err)
{
    size_t chunk = (size_t)256 << 10;
    char *path = tp_path_join(cv->outdir.work, name);
    uint8_t *bytes = malloc(chunk);
    struct tp_sha256 *sha = tp_sha256_new();
    struct tp_file_id id = {.size_bytes = 0};
    int fd = -1;
    enum tp_status st = path && bytes && sha ? tp_file_open_read(&fd, path, &id, err) : tp_fail_nomem(err);
    for (uint64_t at = 0; at < id.size_bytes && !st && !(pool && tp_pool_stopped(pool)); at += chunk) {
        size_t n = id.size_bytes - at < chunk ? (size_t)(id.size_bytes - at) : chunk;
        st = tp_file_read_at(fd, bytes, n, at, path, err);
        if (!st && !tp_sha256_update(sha, bytes, n))
            st = tp_fail(err, TP_ERR_BUG, "SHA-256 failed");
        if (pool)
            tp_pool_count(pool, n);
    }
    if (!st && !tp_sha256_finish(sha, hex))
        st = tp_fail(err, TP_ERR_BUG, "SHA-256 failed");
    tp_fd_close(fd);
    tp_sha256_free(sha);
    free(bytes);
    free(path);
    return st;
}

static enum tp_status fill_sums(struct tp_conversion *cv, struct tp_text_file *file, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st; i++)
        st = sum_line(file, cv->sha256[i], cv->plan.files[i].name, err);
    for (size_t i = 0; i < cv->side.count && !st; i++) {
        char hex[TP_SHA256_HEX];
        st = sha256_file(cv, cv->side.items[i].name, hex, NULL, err);
        if (!st)
            st = sum_line(file, hex, cv->side.items[i].name, err);
    }
    return st;
}

static enum tp_status sha256_task(struct tp_pool *pool, void *job, void *worker, const struct tp_task *task,
                                  struct tp_error *err)
{
    (void)worker;
    struct tp_conversion *cv = job;
    return sha256_file(cv, cv->plan.files[task->file].name, cv->sha256[task->file], pool, err);
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

static enum tp_status fill_manifest(struct tp_conversion *cv, struct tp_text_file *file, struct tp_error *err)
{
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
    st = tp_manifest_write(&cv->plan, &facts, tp_text_file_write, file, err);
    free(casts);
    return st;
}

static enum tp_status sync_files(struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < cv->plan.file_count && !st && cv->options.sync; i++) {
        int fd = -1;
        char *path = tp_path_join(cv->outdir.work, cv->plan.files[i].name);
        st = path ? tp_file_open_write(&fd, path, err) : tp_fail_nomem(err);
        if (!st)
            st = tp_file_sync(fd, path, err);
        tp_fd_close(fd);
        free(path);
    }
    return st;
}

/* Everything but the data, the manifest last. */
static enum tp_status finish(struct tp_conversion *cv, struct tp_error *err)
{
    const char *index = cv->format->index_name(&cv->plan);
    enum tp_status st = sync_files(cv, err);
    if (!st)
        st = tp_source_prints(&cv->prints, cv->source, &cv->kernels, err);
    if (!st)
        st = tp_side_copy(&cv->side, cv->source, cv->outdir.work, &cv->kernels, cv->options.sync, err);
    if (!st && index)
        st = write_small(cv, index, fill_index, true, err);
    if (!st)
        st = write_small(cv, ATTRIBUTES_NAME, fill_attributes, true, err);
    if (!st)
        st = hash_framing(cv, err);
    if (!st && cv->options.sha256)
        st = sha256_files(cv, err);
    if (!st && cv->options.sha256)
        st = write_small(cv, SUMS_NAME, fill_sums, true, err);
    return st ? st : write_small(cv, TP_MANIFEST_NAME, fill_manifest, false, err);
}

/* ---- run: the proof ---- */

/* Read back what was written, before it gets its name. */
static enum tp_status read_back(struct tp_conversion *cv, struct tp_convert_report *report, struct tp_error *err)
{
    struct tp_verify_options options = {.model = cv->outdir.work,
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
    enum tp_status st = allocate_tables(cv, err);
    if (!st)
        st = create_files(cv, err);
    if (!st)
        st = move_data(cv, err);
    report->convert_s = tp_host_clock_s() - begin;
    if (!st)
        st = tp_report_fill(report, &cv->plan, cv->source, cv->results, err);
    if (!st)
        st = refuse_overflow(cv, report, err);
    begin = tp_host_clock_s();
    if (!st)
        st = finish(cv, err);
    report->hash_s = tp_host_clock_s() - begin;
    report->workers = cv->budget.workers;
    free_tables(cv); /* the check must fit into the same memory */
    tp_checkpoint_forget(cv->source);
    if (!st && !cv->options.skip_verify)
        st = read_back(cv, report, err);
    return st ? st : tp_outdir_commit(&cv->outdir, err);
}

enum tp_status tp_conversion_run(struct tp_conversion *cv, struct tp_convert_report *report, struct tp_error *err)
{
    struct tp_convert_report own = {.array_count = 0};
    struct tp_convert_report *r = report ? report : &own;
    *r = (struct tp_convert_report){.array_count = 0};
    if (cv->plan.file_count == 0)
        return tp_fail(err, TP_ERR_USAGE, "this conversion has run already");
    enum tp_status st = check_space(cv, err);
    if (!st)
        st = tp_outdir_begin(&cv->outdir, err);
    if (st)
        return st;
    for (size_t i = 0; i < cv->plan.file_count; i++)
        r->written_bytes += cv->plan.files[i].size_bytes;
    st = convert(cv, r, err);
    if (st)
        tp_outdir_discard(&cv->outdir);
    else
        snprintf(r->manifest_path, sizeof r->manifest_path, "%s/%s", cv->outdir.final, TP_MANIFEST_NAME);
    if (!report)
        tp_convert_report_release(&own);
    return st;
}
