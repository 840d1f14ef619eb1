/* SPDX-License-Identifier: MIT */
/* Verifying: parse the files ourselves, compare with the manifest (names, dtypes, shapes, places, digests), and, with a
 * source, make every byte again. A difference is a line of the report; only what keeps us from looking is an error. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/chunks.h"
#include "checkpoint/describe.h"
#include "job/derive.h"
#include "job/print.h"
#include "job/verifying.h"
#include "os/file.h"
#include "os/host.h"
#include "os/tree.h"

/* ---- saying what differs ---- */

enum tp_status tp_verify_differ(struct tp_verifying *v, const char *fmt, ...)
{
    char text[2048], shown[3072]; /* names in it may come from a hostile manifest */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    v->report->difference_count++;
    if (v->differences.count >= v->limit)
        return TP_OK;
    tp_text_printable(shown, sizeof shown, text, strlen(text));
    return tp_list_add(&v->differences, "%s", shown) ? TP_OK : tp_fail_nomem(v->err);
}

enum tp_status tp_verify_note(struct tp_verifying *v, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return tp_list_add(&v->notes, "%s", text) ? TP_OK : tp_fail_nomem(v->err);
}

/* Did this status mean that a file is not as it should be, rather than that we could not look? */
static bool is_finding(enum tp_status st)
{
    return st == TP_ERR_FORMAT || st == TP_ERR_UNSUPPORTED || st == TP_ERR_LIMIT;
}

/* What was wrong with one file: a difference, or, when it could not be looked at, the error. */
enum tp_status tp_verify_problem(struct tp_verifying *v, const char *name, enum tp_status st,
                                 const struct tp_error *why)
{
    if (is_finding(st))
        return tp_verify_differ(v, "%s: %s%s%s%s", name, why->tensor[0] ? "array '" : "", why->tensor,
                                why->tensor[0] ? "': " : "", why->message);
    if (v->err)
        *v->err = *why;
    return st;
}

bool tp_verify_is_layout(const struct tp_verifying *v, const char *name)
{
    return v->has_manifest && strcmp(v->manifest.layout, name) == 0;
}

/* ---- structure ---- */

static enum tp_status check_framing(struct tp_verifying *v)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < v->name_count && !st; i++)
        if (v->file_of[i] != TP_VERIFY_NO_FILE && v->manifest.files[v->name_file[i]].source == TP_NONE &&
            memcmp(&v->framing[i], &v->manifest.files[v->name_file[i]].framing, sizeof v->framing[i]) != 0)
            st = tp_verify_differ(v, "%s: the bytes between the arrays differ from the manifest's digest", v->names[i]);
    return st;
}

static bool same_shape(const struct tp_tensor *t, const struct tp_manifest_array *a)
{
    if (t->rank == a->rank && (t->rank == 0 || memcmp(t->shape, a->shape, t->rank * sizeof *t->shape) == 0))
        return true;
    return t->rank == 1 && t->extent_count > 1 &&
           t->elem_count == a->elem_count; /* flat parts: only the manifest knows */
}

static const char *file_name(struct tp_verifying *v, const struct tp_tensor *t)
{
    uint32_t file = t->extent_count ? t->extents[0].file : UINT32_MAX;
    return file < tp_checkpoint_file_count(v->model) ? tp_verify_file_name(v, file) : "metadata";
}

/* The manifest's names begin with the item's folder. */
static bool is_file_named(const struct tp_verifying *v, uint32_t file, const char *name)
{
    size_t skip = strlen(v->item);
    return strncmp(name, v->item, skip) == 0 && strcmp(name + skip, tp_checkpoint_file(v->model, file)->name) == 0;
}

/* Does the tensor lie where the manifest says? Files are compared by name: their numbers may differ. */
static bool same_place(struct tp_verifying *v, const struct tp_tensor *t, const struct tp_manifest_array *a)
{
    if (v->is_store && a->elem_count == 0)
        return true; /* nothing lies anywhere */
    if (t->extent_count != a->extent_count || !tp_verify_same_grid(t, a))
        return false;
    for (uint32_t i = 0; i < t->extent_count; i++) {
        const struct tp_manifest_extent *e = &v->manifest.extents[a->first_extent + i];
        const struct tp_extent *x = &t->extents[i];
        if (x->offset_bytes != e->offset_bytes || x->size_bytes != e->length_bytes ||
            (!t->chunks && x->first_elem != e->first_elem) || x->file >= tp_checkpoint_file_count(v->model) ||
            !is_file_named(v, x->file, v->manifest.files[e->file].name))
            return false;
    }
    return true;
}

/* An array of the manifest and the tensor of its name, if there is one. */
static enum tp_status compare_array(struct tp_verifying *v, uint32_t index, bool *parsed)
{
    const struct tp_manifest_array *a = &v->manifest.arrays[index];
    char name[TP_NAME_MAX_BYTES + 1], shown[TP_NAME_TEXT], s1[TP_SHAPE_TEXT], s2[TP_SHAPE_TEXT];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    tp_describe_name(shown, name, a->path_len);
    for (uint32_t i = 0; i < a->extent_count; i++)
        if (!parsed[v->manifest.extents[a->first_extent + i].file])
            return TP_OK; /* its file has been reported */
    const char *file =
        a->extent_count ? v->manifest.files[v->manifest.extents[a->first_extent].file].name : TP_MANIFEST_NAME;
    const struct tp_tensor *t = tp_checkpoint_find(v->model, name);
    if (!t)
        return tp_verify_differ(v, "%s: array '%s' is missing", file, shown);
    if (t->dtype != a->dtype)
        return tp_verify_differ(v, "%s: array '%s' is %s, the manifest says %s", file, shown,
                                tp_dtype_numpy_name((enum tp_dtype)t->dtype),
                                tp_dtype_numpy_name((enum tp_dtype)a->dtype));
    if (!same_shape(t, a))
        return tp_verify_differ(v, "%s: array '%s' has shape %s, the manifest says %s", file, shown,
                                tp_describe_shape(s1, t->shape, t->rank), tp_describe_shape(s2, a->shape, a->rank));
    if (!same_place(v, t, a))
        return tp_verify_differ(v, "%s: array '%s' lies elsewhere than the manifest says", file, shown);
    uint32_t tensor = (uint32_t)(t - tp_checkpoint_tensor(v->model, 0));
    if (v->manifest_array[tensor] != TP_NONE)
        return tp_verify_differ(v, "manifest.json: array '%s' is listed twice", shown);
    v->manifest_array[tensor] = index;
    return TP_OK;
}

static enum tp_status compare_structure(struct tp_verifying *v)
{
    uint32_t count = tp_checkpoint_tensor_count(v->model);
    bool *parsed = calloc(v->manifest.file_count + 1, sizeof *parsed);
    enum tp_status st = parsed ? TP_OK : tp_fail_nomem(v->err);
    for (size_t i = 0; i < v->name_count && !st; i++)
        parsed[v->name_file[i]] = v->file_of[i] != TP_VERIFY_NO_FILE;
    for (uint32_t i = 0; i < v->manifest.array_count && !st; i++)
        st = compare_array(v, i, parsed);
    uint64_t before = v->report->difference_count;
    for (uint32_t i = 0; i < count && !st && before == 0; i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(v->model, i);
        char shown[TP_NAME_TEXT];
        if (v->manifest_array[i] == TP_NONE)
            st = tp_verify_differ(v, "%s: array '%s' is not in the manifest", file_name(v, t),
                                  tp_describe_name(shown, t->name, t->name_len));
    }
    free(parsed);
    return st || v->is_store ? st : check_framing(v);
}

/* ---- what to read back: the model as a plan ---- */

/* F4 and F6 as safetensors holds them: the plan counts their bytes. */
static bool is_packed(const struct tp_tensor *t)
{
    return tp_dtype_bits((enum tp_dtype)t->dtype) < 8;
}

/* A checkpoint that we did not write is compared by its tensors, however they are stored: one extent, that lies
 * nowhere in particular. */
static enum tp_status add_whole(struct tp_verifying *v, const struct tp_array *a, uint32_t tensor, size_t *capacity)
{
    struct tp_plan *plan = &v->plan;
    const struct tp_tensor *t = tp_checkpoint_tensor(v->model, tensor);
    uint64_t size = t->elem_count * tp_array_item_bytes(a);
    uint32_t file = t->extents[0].file < plan->file_count ? t->extents[0].file : 0;
    if (!tp_array_grow(&plan->extents, capacity, plan->extent_count + 1, sizeof *plan->extents))
        return tp_fail_nomem(v->err);
    plan->extents[plan->extent_count++] = (struct tp_out_extent){.array = (uint32_t)plan->array_count,
                                                                 .file = file,
                                                                 .next = TP_NONE,
                                                                 .elem_count = t->elem_count,
                                                                 .offset_bytes = plan->payload_bytes,
                                                                 .size_bytes = size};
    v->array_tensor[plan->array_count++] = tensor;
    plan->payload_bytes += size;
    return TP_OK;
}

static enum tp_status add_array(struct tp_verifying *v, uint32_t tensor, size_t *extent_capacity)
{
    struct tp_plan *plan = &v->plan;
    const struct tp_tensor *t = tp_checkpoint_tensor(v->model, tensor);
    struct tp_array *a = &plan->arrays[plan->array_count];
    const struct tp_manifest_array *said = v->has_manifest ? &v->manifest.arrays[v->manifest_array[tensor]] : NULL;
    *a = (struct tp_array){.path = t->name,
                           .path_len = t->name_len,
                           .shape = said ? said->shape : t->shape,
                           .rank = said ? said->rank : t->rank,
                           .dtype = t->dtype,
                           .elem_count = is_packed(t) ? t->size_bytes : t->elem_count,
                           .first_extent = TP_NONE,
                           .result = TP_NONE,
                           .group = TP_NO_GROUP,
                           .view = said ? said->view : (uint8_t)TP_DTYPE_NONE};
    if (v->by_tensor && t->elem_count > 0)
        return add_whole(v, a, tensor, extent_capacity);
    if (t->chunks) {
        struct tp_grid *grid = tp_arena_alloc(&plan->arena, sizeof *grid);
        if (!grid)
            return tp_fail_nomem(v->err);
        *grid = (struct tp_grid){t->chunks->shape, t->chunks->order, 0};
        a->grid = grid;
    }
    if (!tp_array_grow(&plan->extents, extent_capacity, plan->extent_count + t->extent_count, sizeof *plan->extents))
        return tp_fail_nomem(v->err);
    for (uint32_t i = 0; i < t->extent_count; i++) {
        const struct tp_extent *x = &t->extents[i];
        if (x->file >= plan->file_count || (v->is_store && t->elem_count == 0)) /* an empty array lies nowhere */
            continue;
        plan->extents[plan->extent_count++] =
            (struct tp_out_extent){.array = (uint32_t)plan->array_count,
                                   .file = x->file,
                                   .next = TP_NONE,
                                   .leaf = i,
                                   .first_elem = x->first_elem,
                                   .elem_count = is_packed(t) ? x->size_bytes
                                                 : t->chunks  ? x->size_bytes / tp_array_item_bytes(a)
                                                              : x->elem_count,
                                   .offset_bytes = x->offset_bytes,
                                   .size_bytes = x->size_bytes};
    }
    v->array_tensor[plan->array_count++] = tensor;
    plan->payload_bytes += t->chunks ? 0 : t->size_bytes;
    for (uint32_t i = 0; t->chunks && i < t->extent_count; i++)
        plan->payload_bytes += t->extents[i].size_bytes;
    return TP_OK;
}

static int compare_extents(const void *a, const void *b)
{
    const struct tp_out_extent *x = a, *y = b;
    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    return (x->offset_bytes > y->offset_bytes) - (x->offset_bytes < y->offset_bytes);
}

/* The expected digests, in the order of the plan's blocks. */
static enum tp_status gather_digests(struct tp_verifying *v)
{
    struct tp_plan *plan = &v->plan;
    if (!v->has_manifest)
        return TP_OK;
    v->digests = malloc((plan->block_count + 1) * sizeof *v->digests);
    if (!v->digests)
        return tp_fail_nomem(v->err);
    for (size_t i = 0; i < plan->extent_count; i++) {
        const struct tp_out_extent *e = &plan->extents[i];
        const struct tp_manifest_array *a = &v->manifest.arrays[v->manifest_array[v->array_tensor[e->array]]];
        const struct tp_manifest_extent *x = &v->manifest.extents[a->first_extent + e->leaf];
        if (x->digest_count)
            memcpy(&v->digests[e->first_block], &v->manifest.digests[x->first_digest],
                   x->digest_count * sizeof *v->digests);
    }
    return TP_OK;
}

static enum tp_status build_plan(struct tp_verifying *v)
{
    struct tp_plan *plan = &v->plan;
    uint32_t count = tp_checkpoint_tensor_count(v->model);
    size_t extent_capacity = 0;
    uint32_t file_count = tp_checkpoint_file_count(v->model);
    plan->file_count = file_count ? file_count : v->by_tensor; /* all values may stand in the metadata */
    plan->arrays = malloc((count + 1) * sizeof *plan->arrays);
    plan->files = calloc(plan->file_count + 1, sizeof *plan->files);
    v->array_tensor = malloc((count + 1) * sizeof *v->array_tensor);
    enum tp_status st = plan->arrays && plan->files && v->array_tensor ? TP_OK : tp_fail_nomem(v->err);
    for (uint32_t i = 0; i < count && !st; i++)
        if (!v->has_manifest || v->manifest_array[i] != TP_NONE)
            st = add_array(v, i, &extent_capacity);
    if (st)
        return st;
    if (plan->extent_count)
        qsort(plan->extents, plan->extent_count, sizeof *plan->extents, compare_extents);
    plan->files[0].name = "metadata";
    for (uint32_t f = 0; f < file_count; f++)
        plan->files[f] = (struct tp_out_file){.name = tp_checkpoint_file(v->model, f)->name,
                                              .size_bytes = tp_checkpoint_file(v->model, f)->size_bytes};
    for (size_t i = 0; i < v->name_count; i++)
        if (v->has_manifest && v->file_of[i] != TP_VERIFY_NO_FILE)
            plan->files[v->file_of[i]].is_linked = v->manifest.files[v->name_file[i]].source != TP_NONE;
    for (size_t i = 0; i < plan->extent_count; i++) {
        struct tp_out_extent *e = &plan->extents[i];
        struct tp_out_file *f = &plan->files[e->file];
        if (f->extent_count++ == 0)
            f->first_extent = (uint32_t)i;
        e->first_block = plan->block_count;
        plan->block_count += f->is_linked ? 0 : tp_extent_block_count(e);
    }
    return gather_digests(v);
}

/* ---- reading back ---- */

static int compare_mismatches(const void *a, const void *b)
{
    const struct tp_mismatch *x = a, *y = b;
    if (x->extent != y->extent)
        return x->extent < y->extent ? -1 : 1;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return (int)y->is_value - (int)x->is_value;
}

static enum tp_status say_mismatch(struct tp_verifying *v, const struct tp_mismatch *m, bool digest_too)
{
    const struct tp_out_extent *e = &v->plan.extents[m->extent];
    const struct tp_tensor *t = tp_checkpoint_tensor(v->model, v->array_tensor[e->array]);
    const char *file = v->plan.files[e->file].name;
    char name[TP_NAME_TEXT], n1[TP_COUNT_TEXT], n2[TP_COUNT_TEXT], n3[TP_COUNT_TEXT];
    uint64_t rest = e->size_bytes - m->block * TP_BLOCK_BYTES;
    tp_describe_name(name, t->name, t->name_len);
    tp_describe_count(n1, rest < TP_BLOCK_BYTES ? rest : TP_BLOCK_BYTES);
    tp_describe_count(n2, e->offset_bytes + m->block * TP_BLOCK_BYTES);
    if (v->report->arrays)
        v->report->arrays[v->array_tensor[e->array]].difference_count++;
    if (!m->is_value)
        return tp_verify_differ(
            v, "%s: array '%s': block %" PRIu64 " of %" PRIu64 " (%s bytes from %s) differs from the manifest's digest",
            file, name, m->block + 1, tp_extent_block_count(e), n1, n2);
    return tp_verify_differ(v, "%s: array '%s': %s of its values differ from the source, the first at element %s%s",
                            file, name, tp_describe_count(n1, m->elem_count), tp_describe_count(n3, m->elem),
                            digest_too ? " (and from the manifest's digest: the file has changed since)" : "");
}

static enum tp_status read_back(struct tp_verifying *v)
{
    struct tp_move move = {.mode = v->source ? TP_MOVE_COMPARE : TP_MOVE_CHECK,
                           .plan = &v->plan,
                           .kernels = &v->kernels,
                           .source = v->source,
                           .output = v->model,
                           .output_tensor = v->by_tensor ? v->array_tensor : NULL,
                           .digests = v->digests,
                           .saturate = v->has_manifest && v->manifest.options.on_overflow == TP_OVERFLOW_SATURATE,
                           .budget = v->budget,
                           .progress = v->options->progress,
                           .progress_user = v->options->progress_user};
    enum tp_status st = tp_move_run(&move, v->err);
    if (move.mismatch_count)
        qsort(move.mismatches, move.mismatch_count, sizeof *move.mismatches, compare_mismatches);
    for (size_t i = 0; i < move.mismatch_count && !st; i++) {
        const struct tp_mismatch *m = &move.mismatches[i];
        bool twice = i + 1 < move.mismatch_count && m->is_value && m[1].extent == m->extent && m[1].block == m->block;
        st = say_mismatch(v, m, twice);
        i += twice;
    }
    free(move.mismatches);
    v->report->checked_bytes = v->plan.payload_bytes;
    for (size_t i = 0; i < v->plan.extent_count && !v->source; i++)
        if (v->plan.files[v->plan.extents[i].file].is_linked)
            v->report->checked_bytes -= v->plan.extents[i].size_bytes;
    return st;
}

/* ---- the source ---- */

/* Say when the source is no longer what was converted: it explains differences. */
static enum tp_status compare_prints(struct tp_verifying *v)
{
    struct tp_source_print *prints = NULL;
    uint32_t changed = 0;
    if (tp_path_same(v->source->folder, v->model->folder))
        return tp_verify_note(v, "the source is this folder itself: that its values are equal proves nothing");
    enum tp_status st = tp_source_prints(&prints, v->source, &v->kernels, v->err);
    for (uint32_t i = 0; i < tp_checkpoint_file_count(v->source) && !st; i++)
        for (size_t m = 0; m < v->manifest.source_count; m++)
            if (strcmp(v->manifest.sources[m].name, tp_checkpoint_file(v->source, i)->name) == 0)
                changed += memcmp(&v->manifest.sources[m].print, &prints[i], sizeof prints[i]) != 0;
    free(prints);
    return !st && changed
               ? tp_verify_note(v, "%" PRIu32 " files of the source are not what they were when this was converted",
                                changed)
               : st;
}

static enum tp_status say_derive(void *user, const char *text)
{
    return tp_verify_differ(user, "%s", text);
}

static struct tp_plan_traits traits_of(const struct tp_verifying *v)
{
    const struct tp_format *format = v->has_manifest ? tp_format_find(v->manifest.layout) : NULL;
    return format ? format->traits : tp_format_flax_msgpack.traits;
}

/* What made the model of the source: the manifest knows, or a map that the caller knows; NULL: nothing was changed. */
static enum tp_status conversion_of(struct tp_verifying *v, const struct tp_convert_options **options)
{
    *options = v->has_manifest ? &v->manifest.options : NULL;
    if (!v->options->map)
        return TP_OK;
    if (v->has_manifest)
        return tp_verify_note(v, "manifest.json holds the map that was used; the one that was given is not looked at");
    v->by_map = (struct tp_convert_options){
        .map = v->options->map, .reverse = v->options->reverse, .precision = TP_PRECISION_KEEP};
    *options = &v->by_map;
    return tp_convert_options_take_map(&v->by_map, 0, v->err);
}

/* What the way back of a map could not give was taken from there. */
static enum tp_status open_original(struct tp_verifying *v, const struct tp_convert_options *options)
{
    bool was_used = options && options->original;
    if (was_used && !v->options->original) {
        tp_fail(v->err, TP_ERR_USAGE, "it was made with --original, which comparing with the source needs too");
        return tp_err_path(v->err, TP_ERR_USAGE, v->options->model);
    }
    if (!was_used)
        return v->options->original ? tp_verify_note(v, "no original was used, so the one given is not looked at")
                                    : TP_OK;
    return tp_checkpoint_open(&v->original, v->options->original, &(struct tp_open_options){.ignore_index = false},
                              v->err);
}

static enum tp_status derive(struct tp_verifying *v)
{
    const struct tp_convert_options *options = NULL;
    struct tp_open_options open = {.ignore_index = v->has_manifest && v->manifest.options.ignore_index};
    enum tp_status st = tp_checkpoint_open(&v->source, v->options->source, &open, v->err);
    if (!st && v->has_manifest)
        st = compare_prints(v);
    if (!st)
        st = conversion_of(v, &options);
    if (!st)
        st = open_original(v, options);
    if (st)
        return st;
    struct tp_derive d = {.plan = &v->plan,
                          .model = v->model,
                          .source = v->source,
                          .original = v->original,
                          .options = options,
                          .traits = traits_of(v),
                          .array_tensor = v->array_tensor,
                          .differ = say_derive,
                          .user = v};
    v->report->compared_source = true;
    return tp_derive(&d, v->err);
}

/* ---- rows for --verbose ---- */

static enum tp_status fill_rows(struct tp_verifying *v)
{
    struct tp_verify_report *r = v->report;
    uint32_t count = tp_checkpoint_tensor_count(v->model);
    struct tp_arena *arena = calloc(1, sizeof *arena);
    r->memory = arena;
    r->arrays = calloc((size_t)count + 1, sizeof *r->arrays);
    if (!arena || !r->arrays)
        return tp_fail_nomem(v->err);
    for (uint32_t i = 0; i < count; i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(v->model, i);
        char shown[TP_NAME_TEXT], file[TP_NAME_TEXT];
        const char *name = file_name(v, t);
        tp_describe_name(shown, t->name, t->name_len);
        tp_describe_name(file, name, strlen(name));
        uint64_t *shape = tp_arena_alloc(arena, t->rank * sizeof *shape);
        struct tp_verify_array *row = &r->arrays[i];
        *row = (struct tp_verify_array){.name = tp_arena_strndup(arena, shown, strlen(shown)),
                                        .dtype = (enum tp_dtype)t->dtype,
                                        .shape = shape,
                                        .rank = t->rank,
                                        .size_bytes = t->size_bytes,
                                        .min = INFINITY,
                                        .max = -INFINITY,
                                        .file = tp_arena_strndup(arena, file, strlen(file))};
        if (!shape || !row->name || !row->file)
            return tp_fail_nomem(v->err);
        if (t->rank)
            memcpy(shape, t->shape, t->rank * sizeof *shape);
        if (v->has_manifest && v->manifest_array[i] != TP_NONE) {
            row->min = v->manifest.arrays[v->manifest_array[i]].min;
            row->max = v->manifest.arrays[v->manifest_array[i]].max;
        }
    }
    return TP_OK;
}

/* ---- the whole ---- */

static bool has_manifest_at(const struct tp_verifying *v, const char *name)
{
    char *folder = tp_path_join(v->options->model, name),
         *path = folder ? tp_path_join(folder, TP_MANIFEST_NAME) : NULL;
    enum tp_path_kind kind = TP_PATH_ABSENT;
    bool there = path && !tp_path_kind_of(&kind, path, NULL) && kind == TP_PATH_FILE;
    free(folder);
    free(path);
    return there;
}

/* It lies at the root of what was written: with --step in the step's folder, not in the item below, nor above. */
static enum tp_status say_no_manifest(const struct tp_verifying *v)
{
    enum tp_status st = TP_ERR_USAGE;
    tp_fail(v->err, st, "no manifest.json here: this folder was not written by TensorPort, or not finished");
    tp_err_path(v->err, st, v->options->model);
    if (has_manifest_at(v, ".."))
        return tp_err_hint(v->err, st, "the folder above this one has it: verify that");
    for (size_t i = 0; i < v->folder.count; i++)
        if (strspn(v->folder.items[i], "0123456789") == strlen(v->folder.items[i]) &&
            has_manifest_at(v, v->folder.items[i]))
            return tp_err_hint(v->err, st, "the step %s in this folder has one: verify that", v->folder.items[i]);
    return tp_err_hint(v->err, st, "--source DIR compares it with the checkpoint it was made from");
}

static enum tp_status read_manifest(struct tp_verifying *v)
{
    char *path = tp_path_join(v->options->model, TP_MANIFEST_NAME);
    struct tp_error why;
    if (!path)
        return tp_fail_nomem(v->err);
    enum tp_status st = TP_OK;
    if (tp_verify_in_folder(v, TP_MANIFEST_NAME)) {
        st = tp_manifest_read(&v->manifest, path, &why);
        v->has_manifest = !st;
        if (!st && !tp_format_find(v->manifest.layout)) {
            v->has_manifest = false;
            st = tp_fail(&why, TP_ERR_UNSUPPORTED, "a layout that this program does not know");
        }
        if (is_finding(st))
            st = tp_verify_differ(v, "manifest.json: %s%s%s", why.message, why.tensor[0] ? ", array " : "", why.tensor);
        else if (st && v->err)
            *v->err = why;
    } else if (!v->options->source) {
        st = say_no_manifest(v);
    }
    free(path);
    return st;
}

/* Which reader the model is for; names below folders are looked at only where the layout has folders. */
static enum tp_status know_layout(struct tp_verifying *v)
{
    v->is_store = v->has_manifest && tp_verify_has_store(v->manifest.layout);
    if (!v->has_manifest && v->report->difference_count == 0)
        return tp_verify_try_orbax(v);
    if (!v->is_store)
        return TP_OK;
    tp_names_release(&v->folder);
    return tp_tree_list(&v->folder, v->options->model, v->err);
}

static enum tp_status list_model(struct tp_verifying *v)
{
    enum tp_path_kind kind;
    v->item = tp_path_join("", "");
    if (!v->item)
        return tp_fail_nomem(v->err);
    enum tp_status st = tp_path_kind_of(&kind, v->options->model, v->err);
    if (!st && kind != TP_PATH_FOLDER) {
        tp_fail(v->err, TP_ERR_FORMAT, kind == TP_PATH_ABSENT ? "no such folder" : "not a folder");
        return tp_err_path(v->err, TP_ERR_FORMAT, v->options->model);
    }
    return st ? st : tp_folder_list(&v->folder, v->options->model, v->err);
}

static enum tp_status compare_model(struct tp_verifying *v)
{
    enum tp_status st = tp_verify_files(v);
    if (st)
        return st;
    uint32_t count = tp_checkpoint_tensor_count(v->model);
    v->manifest_array = malloc((count + 1) * sizeof *v->manifest_array);
    if (!v->manifest_array)
        return tp_fail_nomem(v->err);
    memset(v->manifest_array, 0xff, (count + 1) * sizeof *v->manifest_array);
    return v->has_manifest ? compare_structure(v) : TP_OK;
}

/* For reading chunks of the source, and of a model that is read by tensors. */
static uint64_t chunk_bytes_wanted(const struct tp_verifying *v)
{
    uint64_t bytes = v->source && v->plan.chunked_count ? tp_chunk_reader_wants(v->source) : 0;
    return bytes + (v->by_tensor ? tp_chunk_reader_wants(v->model) + 1 : 0);
}

/* What is only read back is not made: nothing is gathered. */
static enum tp_status plan_budget(struct tp_verifying *v)
{
    struct tp_scratch_wish wish = {v->plan.decoded_count > 0, chunk_bytes_wanted(v),
                                   v->options->source ? tp_tile_memory_wanted(&v->plan) : 0};
    return tp_budget_plan(&v->budget, v->options->workers, v->options->max_memory_bytes, wish, v->err);
}

static enum tp_status verify(struct tp_verifying *v)
{
    if (!v->options->model)
        return tp_fail(v->err, TP_ERR_USAGE, "a model folder is needed");
    if (!tp_kernels_init(&v->kernels, v->options->cpu))
        return tp_fail(v->err, TP_ERR_USAGE, "this machine has no kernels called '%s'", v->options->cpu);
    enum tp_status st = list_model(v);
    if (!st)
        st = read_manifest(v);
    if (!st)
        st = know_layout(v);
    v->report->had_manifest = v->has_manifest;
    if (st || v->report->difference_count)
        return st;
    st = compare_model(v);
    if (!st)
        v->report->array_count = tp_checkpoint_tensor_count(v->model);
    if (!st && v->options->rows)
        st = fill_rows(v);
    if (!st)
        st = build_plan(v);
    if (!st && v->is_store && v->has_manifest)
        st = tp_verify_orbax_rest(v);
    if (!st && v->options->source)
        st = derive(v);
    if (!st && !v->options->quick)
        st = plan_budget(v);
    if (!st && !v->options->quick)
        st = read_back(v);
    return st;
}

static void release(struct tp_verifying *v)
{
    tp_plan_release(&v->plan);
    tp_checkpoint_close(v->source);
    tp_checkpoint_close(v->original);
    tp_checkpoint_close(v->model);
    tp_manifest_release(&v->manifest);
    tp_names_release(&v->folder);
    free(v->names);
    free(v->name_file);
    tp_listed_release(&v->listed);
    free(v->file_of);
    free(v->framing);
    free(v->manifest_array);
    free(v->array_tensor);
    free(v->digests);
    free(v->item);
    free(v->shown_name);
}

enum tp_status tp_verify(const struct tp_verify_options *options, struct tp_verify_report *report, struct tp_error *err)
{
    double begin = tp_host_clock_s();
    struct tp_verifying v = {.options = options, .report = report, .err = err};
    v.limit = options->difference_limit ? options->difference_limit : 100;
    *report = (struct tp_verify_report){.difference_count = 0};
    enum tp_status st = verify(&v);
    report->differences = v.differences.items;
    report->difference_shown = v.differences.count;
    report->notes = v.notes.items;
    report->note_count = v.notes.count;
    report->elapsed_s = tp_host_clock_s() - begin;
    release(&v);
    return st;
}

void tp_verify_report_release(struct tp_verify_report *report)
{
    struct tp_list differences = {.items = report->differences, .count = report->difference_shown};
    struct tp_list notes = {.items = report->notes, .count = report->note_count};
    tp_list_release(&differences);
    tp_list_release(&notes);
    if (report->memory)
        tp_arena_release(report->memory);
    free(report->memory);
    free(report->arrays);
    *report = (struct tp_verify_report){.difference_count = 0};
}
