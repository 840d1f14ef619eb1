/* SPDX-License-Identifier: MIT */
#include "manifest/manifest.h"

#include <math.h>
#include <string.h>

#include "tensorport/tensorport.h"

static void key_string(struct tp_json_writer *w, const char *key, const char *text)
{
    tp_json_key(w, key);
    tp_json_cstring(w, text);
}

static void key_uint(struct tp_json_writer *w, const char *key, uint64_t value)
{
    tp_json_key(w, key);
    tp_json_uint(w, value);
}

static void key_bool(struct tp_json_writer *w, const char *key, bool value)
{
    tp_json_key(w, key);
    tp_json_bool(w, value);
}

static void put_digest(struct tp_json_writer *w, const struct tp_digest *digest)
{
    char hex[TP_DIGEST_HEX];
    tp_digest_print(hex, digest);
    tp_json_string(w, hex, TP_DIGEST_HEX - 1);
}

static void key_digest(struct tp_json_writer *w, const char *key, const struct tp_digest *digest)
{
    tp_json_key(w, key);
    put_digest(w, digest);
}

static void key_globs(struct tp_json_writer *w, const char *key, const struct tp_glob_list *globs)
{
    tp_json_key(w, key);
    tp_json_begin_array(w);
    for (size_t i = 0; i < globs->count; i++)
        tp_json_cstring(w, globs->items[i]);
    tp_json_end_array(w);
}

/* The whole text: with it and the source everything can be derived again. */
static void put_map(struct tp_json_writer *w, const struct tp_convert_options *o)
{
    size_t len;
    const char *text = tp_map_text(o->map, &len);
    tp_json_key(w, "map");
    tp_json_string(w, text, len);
    key_bool(w, "reverse", o->reverse);
    if (o->original)
        key_bool(w, "original", true);
}

static void put_orbax(struct tp_json_writer *w, const struct tp_orbax_options *o)
{
    tp_json_key(w, "orbax");
    tp_json_begin_object(w);
    key_uint(w, "chunk_bytes", o->chunk_bytes);
    key_bool(w, "zarr3", o->zarr3);
    key_bool(w, "ocdbt", !o->no_ocdbt);
    key_bool(w, "zero_copy", o->zero_copy);
    if (o->zero_copy)
        key_uint(w, "min_chunk", o->min_chunk_bytes);
    if (o->zero_copy && o->link == TP_LINK_IN_PLACE) /* its files are not all ours to remove */
        key_bool(w, "in_place", true);
    tp_json_end_object(w);
}

static void put_jax(struct tp_json_writer *w, const struct tp_orbax_options *o)
{
    tp_json_key(w, "jax");
    tp_json_begin_object(w);
    key_uint(w, "chunk_bytes", o->chunk_bytes);
    key_bool(w, "zero_copy", o->zero_copy);
    if (o->zero_copy)
        key_uint(w, "min_chunk", o->min_chunk_bytes);
    tp_json_end_object(w);
}

void tp_manifest_put_options(struct tp_json_writer *w, const struct tp_convert_options *o)
{
    tp_json_begin_object(w);
    key_string(w, "precision", tp_precision_name(o->precision));
    key_string(w, "on_overflow", tp_overflow_name(o->on_overflow));
    key_string(w, "oversize", tp_oversize_name(o->oversize));
    key_uint(w, "shard_size", o->shard_size_bytes ? o->shard_size_bytes : TP_SHARD_SIZE_DEFAULT);
    key_bool(w, "compat", o->compat);
    if (o->dequantize) {
        tp_json_key(w, "dequantize");
        tp_json_begin_object(w);
        if (o->dequantize_scheme)
            key_string(w, "scheme", o->dequantize_scheme);
        key_bool(w, "mxfp4_out_in", o->mxfp4_out_in);
        key_bool(w, "mxfp4_positive_zero", o->mxfp4_positive_zero);
        key_bool(w, "decode_f16_first", o->decode_f16_first);
        key_bool(w, "nan_scales", o->nan_scales);
        tp_json_end_object(w);
    }
    if (o->wrap)
        key_string(w, "wrap", o->wrap);
    if (o->map)
        put_map(w, o);
    if (o->format == TP_OUTPUT_ORBAX)
        put_orbax(w, &o->orbax);
    if (o->format == TP_OUTPUT_JAX)
        put_jax(w, &o->orbax);
    key_bool(w, "ignore_index", o->ignore_index);
    key_globs(w, "keep_dtype", &o->keep_dtype);
    key_globs(w, "include", &o->include);
    key_globs(w, "exclude", &o->exclude);
    tp_json_end_object(w);
}

static void put_source(struct tp_json_writer *w, const struct tp_manifest_facts *f)
{
    tp_json_key(w, "source");
    tp_json_begin_object(w);
    key_string(w, "format", tp_checkpoint_format(f->source));
    tp_json_key(w, "files");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_file_count(f->source); i++) {
        const struct tp_file_info *file = tp_checkpoint_file(f->source, i);
        tp_json_newline(w);
        tp_json_begin_object(w);
        key_string(w, "name", file->name);
        key_uint(w, "size", file->size_bytes);
        key_uint(w, "header_size", file->header_bytes);
        key_digest(w, "header_xxh3", &f->source_prints[i].header);
        key_digest(w, "sample_xxh3", &f->source_prints[i].sample);
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
    tp_json_end_object(w);
}

static void put_totals(struct tp_json_writer *w, const struct tp_plan *plan)
{
    uint64_t file_bytes = 0;
    for (size_t i = 0; i < plan->file_count; i++)
        file_bytes += plan->files[i].size_bytes;
    tp_json_key(w, "totals");
    tp_json_begin_object(w);
    key_uint(w, "arrays", plan->array_count);
    key_uint(w, "parameters", plan->parameter_count);
    key_uint(w, "read_bytes", plan->read_bytes);
    key_uint(w, "payload_bytes", plan->payload_bytes);
    key_uint(w, "file_bytes", file_bytes);
    tp_json_end_object(w);
}

static void put_casts(struct tp_json_writer *w, const struct tp_manifest_facts *f)
{
    tp_json_key(w, "casts");
    tp_json_begin_array(w);
    for (size_t i = 0; i < f->cast_count; i++) {
        tp_json_begin_object(w);
        key_string(w, "from", f->casts[i].scheme ? f->casts[i].scheme : tp_dtype_name(f->casts[i].from));
        key_string(w, "to", tp_dtype_numpy_name(f->casts[i].to));
        key_uint(w, "arrays", f->casts[i].array_count);
        key_uint(w, "values", f->casts[i].value_count);
        key_uint(w, "overflowed", f->casts[i].overflow_count);
        key_uint(w, "flushed", f->casts[i].flushed_count);
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
}

static void put_files(struct tp_json_writer *w, const struct tp_plan *plan, const struct tp_manifest_facts *f)
{
    tp_json_key(w, "files");
    tp_json_begin_array(w);
    for (size_t i = 0; i < plan->file_count; i++) {
        tp_json_newline(w);
        tp_json_begin_object(w);
        key_string(w, "name", plan->files[i].name);
        key_uint(w, "size", plan->files[i].size_bytes);
        if (plan->files[i].is_linked)
            key_uint(w, "source", plan->files[i].source_file);
        else
            key_digest(w, "framing_xxh3", &f->framing_digests[i]);
        if (f->sha256)
            key_string(w, "sha256", f->sha256[i]);
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
    tp_json_key(w, "side_files");
    tp_json_begin_array(w);
    for (size_t i = 0; i < f->side_count; i++) {
        tp_json_newline(w);
        tp_json_begin_object(w);
        key_string(w, "name", f->side_files[i].name);
        key_uint(w, "size", f->side_files[i].size_bytes);
        key_digest(w, "xxh3", &f->side_files[i].digest);
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
}

static void put_stats(struct tp_json_writer *w, const struct tp_stats *s)
{
    bool any = s->min <= s->max;
    tp_json_key(w, "stats");
    tp_json_begin_object(w);
    tp_json_key(w, "min");
    tp_json_double(w, any ? s->min : NAN);
    tp_json_key(w, "max");
    tp_json_double(w, any ? s->max : NAN);
    key_uint(w, "nan", s->nan_count);
    key_uint(w, "inf", s->inf_count);
    key_uint(w, "overflowed", s->overflow_count);
    key_uint(w, "flushed", s->flushed_count);
    tp_json_end_object(w);
}

static void put_path(struct tp_json_writer *w, const struct tp_array *a)
{
    tp_json_key(w, "path");
    tp_json_begin_array(w);
    for (size_t at = 0; at <= a->path_len;) {
        const char *end = memchr(a->path + at, '\0', a->path_len - at);
        size_t len = end ? (size_t)(end - a->path) - at : a->path_len - at;
        tp_json_string(w, a->path + at, len);
        at += len + 1;
    }
    tp_json_end_array(w);
    if (a->list_levels == 0)
        return;
    tp_json_key(w, "lists");
    tp_json_begin_array(w);
    for (unsigned d = 0; d < 64; d++)
        if (a->list_levels >> d & 1)
            tp_json_uint(w, d);
    tp_json_end_array(w);
}

/* Of a linked file no digests: what it holds is the source's. */
static void put_extent(struct tp_json_writer *w, const struct tp_plan *plan, const struct tp_array *a,
                       const struct tp_out_extent *e, const struct tp_digest *digests)
{
    tp_json_begin_object(w);
    key_uint(w, "file", e->file);
    key_uint(w, "offset", e->offset_bytes);
    key_uint(w, "length", e->size_bytes);
    if (!a->grid && e->elem_count != a->elem_count) {
        tp_json_key(w, "elements");
        tp_json_begin_array(w);
        tp_json_uint(w, e->first_elem);
        tp_json_uint(w, e->first_elem + e->elem_count);
        tp_json_end_array(w);
    }
    if (!plan->files[e->file].is_linked) {
        tp_json_key(w, "xxh3");
        tp_json_begin_array(w);
        for (uint64_t b = 0; b < tp_extent_block_count(e); b++)
            put_digest(w, &digests[e->first_block + b]);
        tp_json_end_array(w);
    }
    tp_json_end_object(w);
}

static void put_grid(struct tp_json_writer *w, const struct tp_array *a)
{
    tp_json_key(w, "chunk");
    tp_json_begin_array(w);
    for (unsigned i = 0; i < a->rank; i++)
        tp_json_uint(w, a->grid->chunk[i]);
    tp_json_end_array(w);
    if (!a->grid->order)
        return;
    tp_json_key(w, "order");
    tp_json_begin_array(w);
    for (unsigned i = 0; i < a->rank; i++)
        tp_json_uint(w, a->grid->order[i]);
    tp_json_end_array(w);
}

/* Statistics are of values that passed through workers: of an array that refers to the source there are none. */
static bool has_stats(const struct tp_plan *plan, const struct tp_array *a)
{
    if (a->result == TP_NONE || tp_dtype_class(tp_array_source_dtype(a)) != TP_CLASS_FLOAT)
        return false;
    for (uint32_t i = a->first_extent; i != TP_NONE; i = plan->extents[i].next)
        if (plan->files[plan->extents[i].file].is_linked)
            return false;
    return true;
}

/* The tensors that a logical one is made of: itself, or the codes and what decodes them. */
static void put_sources(struct tp_json_writer *w, const struct tp_logical *l)
{
    tp_json_string(w, l->tensor->name, l->tensor->name_len);
    if (!l->decoded)
        return;
    for (unsigned i = 0; i < TP_DECODED_PARTS; i++)
        if (l->decoded->parts[i] && l->decoded->parts[i] != l->tensor)
            tp_json_string(w, l->decoded->parts[i]->name, l->decoded->parts[i]->name_len);
}

static void put_array(struct tp_json_writer *w, const struct tp_plan *plan, const struct tp_array *a,
                      const struct tp_manifest_facts *f)
{
    tp_json_begin_object(w);
    put_path(w, a);
    if (plan->ordered && f->options->format == TP_OUTPUT_JAX) /* one ordered dict: which of its leaves */
        key_uint(w, "leaf", (uint64_t)(a - plan->arrays));
    key_string(w, "dtype", tp_dtype_numpy_name((enum tp_dtype)a->dtype));
    tp_json_key(w, "shape");
    tp_json_begin_array(w);
    for (unsigned i = 0; i < a->rank; i++)
        tp_json_uint(w, a->shape[i]);
    tp_json_end_array(w);
    tp_json_key(w, "source");
    tp_json_begin_array(w);
    const struct tp_decoded *decoded = tp_array_decoded(plan, a);
    for (uint32_t i = 0; i < a->piece_count; i++)
        put_sources(w, &plan->logicals[a->pieces[i].logical]);
    tp_json_end_array(w);
    const char *source_dtype = tp_dtype_name(tp_array_source_dtype(a));
    if (decoded)
        key_string(w, "scheme", decoded->scheme->name);
    else if (source_dtype)
        key_string(w, "source_dtype", source_dtype);
    if (a->view != TP_DTYPE_NONE)
        key_string(w, "view", tp_dtype_numpy_name((enum tp_dtype)a->view));
    if (a->group != TP_NO_GROUP)
        key_string(w, "group", tp_checkpoint_group(f->source, a->group)->scheme);
    if (has_stats(plan, a))
        put_stats(w, f->stats_of(f->user, a->result));
    if (a->grid)
        put_grid(w, a);
    tp_json_key(w, "extents");
    tp_json_begin_array(w);
    for (uint32_t i = a->first_extent; i != TP_NONE; i = plan->extents[i].next)
        put_extent(w, plan, a, &plan->extents[i], f->block_digests);
    tp_json_end_array(w);
    tp_json_end_object(w);
}

enum tp_status tp_manifest_write(const struct tp_plan *plan, const struct tp_manifest_facts *f, tp_json_write_fn write,
                                 void *user, struct tp_error *err)
{
    struct tp_json_writer w;
    tp_json_writer_init(&w, write, user, err);
    tp_json_begin_object(&w);
    key_string(&w, "format", "tensorport");
    key_uint(&w, "version", TP_MANIFEST_VERSION);
    key_string(&w, "tool", TP_VERSION);
    key_string(&w, "layout", f->layout);
    key_string(&w, "tree", tp_tree_name(f->options->tree));
    tp_json_newline(&w);
    tp_json_key(&w, "options");
    tp_manifest_put_options(&w, f->options);
    tp_json_newline(&w);
    put_source(&w, f);
    tp_json_newline(&w);
    put_totals(&w, plan);
    tp_json_newline(&w);
    put_casts(&w, f);
    tp_json_newline(&w);
    put_files(&w, plan, f);
    tp_json_newline(&w);
    tp_json_key(&w, "arrays");
    tp_json_begin_array(&w);
    for (size_t i = 0; i < plan->extent_count; i++) { /* an array comes where its first extent is */
        const struct tp_array *a = &plan->arrays[plan->extents[i].array];
        if (a->first_extent != i)
            continue;
        tp_json_newline(&w);
        put_array(&w, plan, a, f);
    }
    for (size_t i = 0; i < plan->array_count; i++) { /* an empty one may lie nowhere */
        if (plan->arrays[i].first_extent != TP_NONE)
            continue;
        tp_json_newline(&w);
        put_array(&w, plan, &plan->arrays[i], f);
    }
    tp_json_end_array(&w);
    tp_json_end_object(&w);
    tp_json_newline(&w);
    return tp_json_writer_finish(&w);
}
