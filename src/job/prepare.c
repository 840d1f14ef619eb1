/* SPDX-License-Identifier: MIT */
/* What a conversion will do: everything is opened, planned, laid out and checked, and nothing is written. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "checkpoint/chunks.h"
#include "job/conversion.h"
#include "job/links.h"
#include "job/original.h"
#include "job/print.h"
#include "job/sames.h"
#include "tensorport/tensorport.h"

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

void tp_conversion_free_tables(struct tp_conversion *cv)
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
    tp_conversion_free_tables(cv);
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
