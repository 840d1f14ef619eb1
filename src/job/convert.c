/* SPDX-License-Identifier: MIT */
/* Converting, from the outside in: prepare (open, plan, layout), run (write, finish, verify, commit). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "checkpoint/chunks.h"
#include "job/conversion.h"
#include "job/identity.h"
#include "job/links.h"
#include "job/original.h"
#include "job/print.h"
#include "job/report.h"
#include "job/sames.h"
#include "os/copy.h"
#include "os/host.h"
#include "os/tree.h"
#include "tensorport/tensorport.h"

/* ---- prepare ---- */

static uint64_t manifest_estimate(const struct tp_plan *plan)
{
    uint64_t bytes = 4096 + plan->block_count * 35 + plan->file_count * 200 + plan->extent_count * 60;
    for (size_t i = 0; i < plan->array_count; i++)
        bytes += 270 + 2 * (uint64_t)plan->arrays[i].path_len;
    return bytes;
}

/* Of the members of a quantised group that is kept, the codes stand for all. */
static bool is_codes(const struct tp_conversion *cv, const struct tp_array *a)
{
    const struct tp_tensor *t = cv->plan.logicals[a->pieces[0].logical].tensor;
    return tp_checkpoint_tensor(cv->source, tp_checkpoint_group(cv->source, a->group)->codes) == t;
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
    bool copies = cv->options.orbax.link == TP_LINK_COPY;
    for (size_t i = 0; i < plan->file_count; i++) {
        const struct tp_out_file *f = &plan->files[i];
        t->linked_file_count += f->is_linked;
        t->output_bytes += f->is_linked && !copies ? 0 : f->size_bytes;
        for (uint32_t k = 0; f->is_linked && k < f->extent_count; k++)
            t->referred_bytes += plan->extents[f->first_extent + k].size_bytes;
    }
    for (size_t i = 0; i < cv->side.count; i++)
        t->output_bytes += cv->side.items[i].size_bytes;
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        enum tp_dtype from = tp_array_source_dtype(a), to = (enum tp_dtype)a->dtype;
        bool casts = tp_array_op(a) == TP_OP_CAST;
        bool narrows = to == TP_F16 || tp_dtype_bits(to) < tp_dtype_bits(from) || (to == TP_BF16 && from == TP_F16);
        t->cast_count += casts;
        t->narrowed_count += casts && narrows;
        if (a->group != TP_NO_GROUP && is_codes(cv, a))
            t->group_count++;
    }
    t->decoded_count = plan->decoded_count;
    t->memory_bytes =
        cv->budget.workers * ((uint64_t)cv->budget.piece_bytes + cv->budget.buffer_bytes + cv->budget.scratch_bytes) +
        plan->array_count * 512;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum tp_status refuse_name(const char *name, const char *why, struct tp_error *err)
{
    char shown[256];
    return tp_fail(err, TP_ERR_UNSUPPORTED, "the output would hold '%s' twice: %s",
                   tp_text_printable(shown, sizeof shown, name, strlen(name)), why);
}

/* No two files of one name, and none that is also a folder of others. Sorts the names. */
static enum tp_status check_distinct(const char **names, size_t count, struct tp_error *err)
{
    char folder[TP_NAME_MAX_BYTES + 256];
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(names[i - 1], names[i]) == 0)
            return refuse_name(names[i], "two files would have this name", err);
        for (const char *slash = names[i]; (slash = strchr(slash, '/')) != NULL; slash++) {
            const char *key = folder;
            snprintf(folder, sizeof folder, "%.*s", (int)(slash - names[i]), names[i]);
            if (bsearch(&key, names, count, sizeof *names, by_name))
                return refuse_name(folder, "as a file, and as a folder", err);
        }
    }
    return TP_OK;
}

/* Every file that will be made, against those that are there. */
static enum tp_status check_names(struct tp_conversion *cv, struct tp_error *err)
{
    size_t count = 0;
    const char **names = malloc((cv->plan.file_count + cv->side.count + cv->plan.small_count + 3) * sizeof *names);
    if (!names)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < cv->plan.file_count; i++)
        if (!cv->outdir.in_place || !cv->plan.files[i].is_linked)
            names[count++] = cv->plan.files[i].name;
    for (size_t i = 0; i < cv->plan.small_count; i++)
        names[count++] = cv->plan.small_files[i].name;
    for (size_t i = 0; i < cv->side.count; i++)
        names[count++] = cv->side.items[i].name;
    if (cv->format->attributes && !cv->outdir.in_place)
        names[count++] = TP_ATTRIBUTES_NAME;
    if (cv->options.sha256)
        names[count++] = TP_SUMS_NAME;
    names[count++] = TP_MANIFEST_NAME;
    enum tp_status st = check_distinct(names, count, err);
    if (!st)
        st = tp_outdir_check_names(&cv->outdir, names, count, err);
    free(names);
    return st;
}

/* The names of linked files, which are needed after the plan has gone; the names that go last; and whether the files
 * to be linked look finished, since nobody reads them now. */
static enum tp_status know_links(struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_plan *plan = &cv->plan;
    const char **sources = malloc((plan->file_count + 1) * sizeof *sources);
    cv->link_names = malloc((plan->file_count + 1) * sizeof *cv->link_names);
    enum tp_status st = sources && cv->link_names ? TP_OK : tp_fail_nomem(err);
    for (size_t i = 0; i < plan->file_count && !st; i++) {
        if (!plan->files[i].is_linked)
            continue;
        sources[cv->link_name_count] = tp_checkpoint_file(cv->source, plan->files[i].source_file)->name;
        cv->link_names[cv->link_name_count] = tp_path_join("", plan->files[i].name);
        if (!cv->link_names[cv->link_name_count++])
            st = tp_fail_nomem(err);
    }
    if (!st && cv->link_name_count > 0)
        st = tp_link_check_finished(*cv->source->folder ? cv->source->folder : ".", sources, cv->link_name_count, err);
    for (size_t i = 0; i < plan->small_count && !st; i++)
        if (plan->small_files[i].is_last)
            st = tp_outdir_add_last(&cv->outdir, plan->small_files[i].name, err);
    free(sources);
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
static bool is_within(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static enum tp_status check_apart(const struct tp_conversion *cv, struct tp_error *err)
{
    const char *folder = *cv->source->folder ? cv->source->folder : ".";
    if (cv->outdir.in_place || !cv->outdir.inside)
        return TP_OK;
    if (tp_path_same(folder, cv->outdir.final) || tp_path_same(folder, cv->outdir.work))
        return tp_err_path(err, tp_fail(err, TP_ERR_USAGE, "the output is the folder of the input"), cv->outdir.final);
    char *out = NULL;
    enum tp_status st = tp_path_real(&out, cv->outdir.final, err);
    for (uint32_t i = 0; i < tp_checkpoint_file_count(cv->source) && !st; i++) {
        char *file = NULL; /* where it really lies: a link may lead into the output */
        st = tp_path_real(&file, tp_checkpoint_file_path(cv->source, i), err);
        if (!st && is_within(file, out)) {
            char shown[256];
            st = tp_fail(err, TP_ERR_USAGE, "the input's file '%s' lies in the output",
                         tp_text_printable(shown, sizeof shown, file, strlen(file)));
            tp_err_path(err, st, cv->outdir.final);
        }
        free(file);
    }
    free(out);
    return st;
}

/* The folder that appears whole: the output, or with --step the step in it. */
static enum tp_status choose_output(struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_convert_options *o = &cv->options;
    const struct tp_orbax_options *orbax = &o->orbax;
    bool is_orbax = o->format == TP_OUTPUT_ORBAX;
    bool in_place = is_orbax && orbax->zero_copy && orbax->link == TP_LINK_IN_PLACE;
    char step[24];
    if (in_place && (orbax->has_step || orbax->item || orbax->layout == TP_ORBAX_V1))
        return tp_fail(err, TP_ERR_USAGE, "--link in-place leaves no room for a step, an item or the v1 layout");
    if (in_place && !tp_path_same(*cv->source->folder ? cv->source->folder : ".", o->output)) {
        tp_fail(err, TP_ERR_USAGE, "--link in-place writes beside the originals: the output must be their folder");
        return tp_err_path(err, TP_ERR_USAGE, o->output);
    }
    snprintf(step, sizeof step, "%" PRIu64, orbax->step);
    char *unit = is_orbax && orbax->has_step ? tp_path_join(o->output, step) : tp_path_join("", o->output);
    enum tp_status st = unit ? tp_outdir_check(&cv->outdir, unit,
                                               (struct tp_outdir_ways){.overwrite = o->overwrite,
                                                                       .in_place = in_place,
                                                                       .resume = o->resume,
                                                                       .sync = o->sync},
                                               err)
                             : tp_fail_nomem(err);
    free(unit);
    return st;
}

static enum tp_status check_sames(const struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_plan *plan = &cv->plan;
    enum tp_status st = tp_sames_check(plan->logicals, plan->sames, plan->same_count, cv->source, err);
    if (st == TP_ERR_FORMAT)
        tp_err_finding(err, "E13");
    return st;
}

static enum tp_status use_original(struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_convert_options *o = &cv->options;
    if (!o->map || !o->reverse || o->format != TP_OUTPUT_SAFETENSORS)
        return tp_fail(err, TP_ERR_USAGE, "an original is of use for the way back of a map, to safetensors");
    enum tp_status st =
        tp_checkpoint_open(&cv->original, o->original, &(struct tp_open_options){.ignore_index = false}, err);
    return st ? st : tp_original_use(&cv->plan, cv->original, o, err);
}

static enum tp_status prepare(struct tp_conversion *cv, struct tp_error *err)
{
    const struct tp_convert_options *o = &cv->options;
    if (!o->input || !o->output)
        return tp_fail(err, TP_ERR_USAGE, "an input and an output are needed");
    if (o->orbax.zero_copy && o->format != TP_OUTPUT_ORBAX && o->format != TP_OUTPUT_JAX)
        return tp_fail(err, TP_ERR_USAGE, "--zero-copy is for --format orbax and jax");
    if (!tp_kernels_init(&cv->kernels, o->cpu))
        return tp_fail(err, TP_ERR_USAGE, "this machine has no kernels called '%s'", o->cpu);
    enum tp_status st =
        tp_checkpoint_open(&cv->source, o->input, &(struct tp_open_options){.ignore_index = o->ignore_index}, err);
    if (!st)
        st = choose_output(cv, err);
    if (!st)
        st = check_apart(cv, err);
    if (!st)
        st = tp_plan_build(&cv->plan, cv->source, o, cv->format->traits, err);
    if (!st && o->original)
        st = use_original(cv, err);
    if (!st)
        st = check_sames(cv, err);
    if (!st)
        st = tp_budget_plan(&cv->budget, o->workers, o->max_memory_bytes,
                            (struct tp_scratch_wish){cv->plan.decoded_count > 0,
                                                     cv->plan.chunked_count ? tp_chunk_reader_wants(cv->source) : 0,
                                                     tp_tile_memory_wanted(&cv->plan)},
                            err);
    if (!st)
        st = cv->format->layout(&cv->plan, o, err);
    if (!st)
        st = cv->outdir.in_place ? TP_OK : tp_side_find(&cv->side, cv->source, cv->plan.decoded_count > 0, err);
    if (!st)
        st = check_texts(cv, err);
    if (!st)
        st = check_names(cv, err);
    if (!st)
        st = know_links(cv, err);
    if (!st)
        st = tp_path_free_bytes(&cv->totals.free_bytes, cv->outdir.final, err);
    if (!st)
        add_totals(cv);
    return st;
}

static const struct tp_format *const format_of[] = {[TP_OUTPUT_FLAX_MSGPACK] = &tp_format_flax_msgpack,
                                                    [TP_OUTPUT_SAFETENSORS] = &tp_format_safetensors,
                                                    [TP_OUTPUT_ORBAX] = &tp_format_orbax,
                                                    [TP_OUTPUT_JAX] = &tp_format_jax_pytree};

enum tp_status tp_conversion_prepare(struct tp_conversion **out, const struct tp_convert_options *options,
                                     struct tp_error *err)
{
    struct tp_conversion *cv = calloc(1, sizeof *cv);
    if (!cv)
        return tp_fail_nomem(err);
    cv->options = *options;
    cv->format = format_of[options->format];
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
    tp_claims_release(&cv->claims);
    for (size_t i = 0; i < cv->link_name_count; i++)
        free(cv->link_names[i]);
    free(cv->link_names);
    tp_outdir_release(&cv->outdir);
    tp_side_release(&cv->side);
    tp_checkpoint_close(cv->source);
    tp_checkpoint_close(cv->original);
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
                                  .source_dtype = tp_array_source_dtype(a),
                                  .dtype = (enum tp_dtype)a->dtype,
                                  .numpy_name = tp_dtype_numpy_name((enum tp_dtype)a->dtype),
                                  .shape = a->shape,
                                  .rank = a->rank,
                                  .size_bytes = a->elem_count * tp_array_item_bytes(a),
                                  .part_count = 1};
    const struct tp_decoded *decoded = tp_array_decoded(plan, a);
    out->scheme = decoded ? decoded->scheme->name : NULL;
    if (a->first_extent == TP_NONE) /* an empty array may lie nowhere */
        return;
    out->first_file = plan->extents[a->first_extent].file;
    uint32_t leaf = plan->extents[a->first_extent].leaf;
    for (uint32_t i = a->first_extent; i != TP_NONE; i = plan->extents[i].next) {
        out->last_file = plan->extents[i].file;
        out->is_referred |= plan->files[out->last_file].is_linked;
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

/* ---- run: what an earlier run has left ---- */

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
    if (!st)
        st = write_identity(path, text, err);
    if (!st)
        tp_claims_sort(&cv->claims);
    free(path);
    free(folder);
    free(text);
    return st;
}

/* ---- run: links ---- */

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

/* ---- run: the data ---- */

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
                           .redo_overflowed = cv->other_overflow,
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

/* ---- run: the proof ---- */

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
    free_tables(cv); /* the check must fit into the same memory */
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
