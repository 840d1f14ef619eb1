/* SPDX-License-Identifier: MIT */
/* manifest.json: what was written is read back the same; what was changed afterwards, or was never one, is refused or
 * is sound. */
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "fuzz.h"
#include "manifest/listed.h"
#include "manifest/manifest.h"
#include "model.h"
#include "os/tree.h"

static struct text {
    char *bytes;
    size_t len, capacity;
} text;

static enum tp_status append(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    (void)user;
    (void)err;
    FUZZ_CHECK(tp_array_grow(&text.bytes, &text.capacity, text.len + len + 1, 1));
    memcpy(text.bytes + text.len, bytes, len);
    text.len += len;
    return TP_OK;
}

/* ---- what a manifest promises ---- */

static bool has_folders(const struct tp_manifest *m)
{
    return m->layout && strcmp(m->layout, "orbax") == 0;
}

static void check_file_name(const struct tp_manifest *m, const char *name)
{
    FUZZ_CHECK(name && tp_tree_is_name(name) && !strchr(name, '\\'));
    FUZZ_CHECK(has_folders(m) || !strchr(name, '/'));
}

static void check_array(const struct tp_manifest *m, const struct tp_manifest_array *a)
{
    uint64_t next = 0;
    FUZZ_CHECK(a->path && a->path_len <= TP_NAME_MAX_BYTES && a->rank <= TP_RANK_MAX && a->dtype < TP_DTYPE_COUNT);
    FUZZ_CHECK(a->first_extent + a->extent_count <= m->extent_count && (a->extent_count > 0 || has_folders(m)));
    for (uint32_t i = 0; i < a->extent_count; i++) {
        const struct tp_manifest_extent *e = &m->extents[a->first_extent + i];
        FUZZ_CHECK(e->file < m->file_count);
        FUZZ_CHECK(a->chunk || (e->first_elem == next && e->end_elem >= next));
        const struct tp_manifest_file *file = &m->files[e->file];
        FUZZ_CHECK(e->offset_bytes <= file->size_bytes && e->length_bytes <= file->size_bytes - e->offset_bytes);
        FUZZ_CHECK(e->first_digest + e->digest_count <= m->digest_count);
        next = e->end_elem;
    }
    FUZZ_CHECK(a->chunk || next == a->elem_count);
}

static void check_manifest(const struct tp_manifest *m)
{
    struct tp_listed listed = {0};
    for (size_t i = 0; i < m->file_count; i++)
        check_file_name(m, m->files[i].name);
    for (size_t i = 0; i < m->side_count; i++)
        check_file_name(m, m->side_files[i].name);
    for (size_t i = 0; i < m->source_count; i++)
        FUZZ_CHECK(tp_tree_is_name(m->sources[i].name));
    for (size_t i = 0; i < m->array_count; i++)
        check_array(m, &m->arrays[i]);
    FUZZ_CHECK(tp_listed_add_all(&listed, m));
    tp_listed_sort(&listed);
    for (size_t i = 0; i < m->file_count; i++)
        FUZZ_CHECK(tp_listed_has(&listed, m->files[i].name));
    tp_listed_release(&listed);
}

static bool read_manifest(struct tp_manifest *m, const void *bytes, size_t len)
{
    struct tp_error err = {.code = TP_OK};
    fuzz_put(TP_MANIFEST_NAME, bytes, len, 0);
    enum tp_status status = tp_manifest_read(m, fuzz_path(TP_MANIFEST_NAME), &err);
    if (status)
        fuzz_check_error(status, &err);
    else
        check_manifest(m);
    return status == TP_OK;
}

/* ---- written, then read ---- */

static const struct tp_stats *stats_of(void *user, uint32_t result)
{
    (void)result;
    return user;
}

static struct tp_digest digest_of(uint64_t number)
{
    struct tp_digest digest;
    for (unsigned i = 0; i < TP_DIGEST_BYTES; i++)
        digest.bytes[i] = (uint8_t)fuzz_random(&number);
    return digest;
}

static struct tp_digest *make_digests(uint64_t count, uint64_t seed)
{
    struct tp_digest *digests = malloc((size_t)count * sizeof *digests + 1);
    FUZZ_CHECK(digests != NULL);
    for (uint64_t i = 0; i < count; i++)
        digests[i] = digest_of(seed + i);
    return digests;
}

static void write_manifest(const struct tp_plan *plan, const struct tp_checkpoint *ck,
                           const struct tp_convert_options *options, const char *layout)
{
    struct tp_stats stats;
    struct tp_source_print *prints = calloc(tp_checkpoint_file_count(ck) + 1, sizeof *prints);
    struct tp_digest *blocks = make_digests(plan->block_count, 1), *framing = make_digests(plan->file_count, 1000);
    struct tp_side_file side = {.name = "config.json", .size_bytes = 5, .digest = digest_of(7)};
    struct tp_cast_row cast = {.from = TP_F32, .to = TP_F16, .value_count = 3};
    struct tp_error err = {.code = TP_OK};
    tp_stats_init(&stats);
    stats.min = -0.1;
    stats.max = 65504;
    struct tp_manifest_facts facts = {.source = ck,
                                      .options = options,
                                      .layout = layout,
                                      .source_prints = prints,
                                      .block_digests = blocks,
                                      .framing_digests = framing,
                                      .stats_of = stats_of,
                                      .user = &stats,
                                      .side_files = &side,
                                      .side_count = 1,
                                      .casts = &cast,
                                      .cast_count = 1};
    FUZZ_CHECK(prints != NULL);
    text.len = 0;
    FUZZ_CHECK_SAYS(tp_manifest_write(plan, &facts, append, NULL, &err) == TP_OK, err.message);
    free(prints);
    free(blocks);
    free(framing);
}

static void check_same_globs(const struct tp_glob_list *a, const struct tp_glob_list *b)
{
    FUZZ_CHECK(a->count == b->count);
    for (size_t i = 0; i < a->count; i++)
        FUZZ_CHECK(strcmp(a->items[i], b->items[i]) == 0);
}

static void check_same_options(const struct tp_convert_options *a, const struct tp_convert_options *b)
{
    FUZZ_CHECK(a->precision == b->precision && a->on_overflow == b->on_overflow && a->oversize == b->oversize);
    FUZZ_CHECK(a->tree == b->tree && a->compat == b->compat && a->dequantize == b->dequantize);
    FUZZ_CHECK(!b->shard_size_bytes || a->shard_size_bytes == b->shard_size_bytes);
    check_same_globs(&a->keep_dtype, &b->keep_dtype);
    check_same_globs(&a->include, &b->include);
    check_same_globs(&a->exclude, &b->exclude);
    if (!b->dequantize)
        return;
    FUZZ_CHECK(a->mxfp4_out_in == b->mxfp4_out_in && a->mxfp4_positive_zero == b->mxfp4_positive_zero);
    FUZZ_CHECK(a->decode_f16_first == b->decode_f16_first && a->nan_scales == b->nan_scales);
    FUZZ_CHECK(!a->dequantize_scheme == !b->dequantize_scheme);
    FUZZ_CHECK(!a->dequantize_scheme || strcmp(a->dequantize_scheme, b->dequantize_scheme) == 0);
}

/* Arrays stand in the manifest in the order of their first extents. */
static void check_same_arrays(const struct tp_manifest *m, const struct tp_plan *plan)
{
    size_t at = 0;
    FUZZ_CHECK(m->array_count == plan->array_count && m->extent_count == plan->extent_count);
    for (size_t i = 0; i < plan->extent_count; i++) {
        const struct tp_array *a = &plan->arrays[plan->extents[i].array];
        const struct tp_manifest_array *b = &m->arrays[at];
        if (a->first_extent != i)
            continue;
        FUZZ_CHECK(a->path_len == b->path_len && memcmp(a->path, b->path, a->path_len) == 0);
        FUZZ_CHECK(a->dtype == b->dtype && a->rank == b->rank);
        FUZZ_CHECK(a->rank == 0 || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
        uint32_t k = b->first_extent;
        for (uint32_t e = a->first_extent; e != TP_NONE; e = plan->extents[e].next, k++) {
            const struct tp_manifest_extent *read = &m->extents[k];
            FUZZ_CHECK(plan->extents[e].file == read->file && plan->extents[e].offset_bytes == read->offset_bytes);
            FUZZ_CHECK(plan->extents[e].size_bytes == read->length_bytes);
            for (uint32_t d = 0; d < read->digest_count; d++) {
                struct tp_digest digest = digest_of(1 + plan->extents[e].first_block + d);
                FUZZ_CHECK(memcmp(&m->digests[read->first_digest + d], &digest, sizeof digest) == 0);
            }
        }
        at++;
    }
}

static void check_round_trip(const struct tp_checkpoint *ck, struct fuzz_bytes *in)
{
    struct tp_plan plan;
    struct tp_manifest m;
    struct tp_convert_options options;
    struct model_globs globs;
    model_options(&options, &globs, in);
    const struct tp_format *format =
        options.format == TP_OUTPUT_SAFETENSORS ? &tp_format_safetensors : &tp_format_flax_msgpack;
    if (tp_plan_build(&plan, ck, &options, format->traits, NULL))
        return;
    if (format->layout(&plan, &options, NULL) == TP_OK && plan.block_count < 1000) {
        write_manifest(&plan, ck, &options, format->name);
        FUZZ_CHECK(read_manifest(&m, text.bytes, text.len));
        FUZZ_CHECK(m.file_count == plan.file_count && m.side_count == 1);
        FUZZ_CHECK(strcmp(m.layout, format->name) == 0);
        check_same_options(&m.options, &options);
        check_same_arrays(&m, &plan);
        tp_manifest_release(&m);
    }
    tp_plan_release(&plan);
}

/* ---- changed ---- */

/* Numbers are where lies matter: one of them, the n-th, becomes another. */
static void change_number(struct fuzz_bytes *in)
{
    static const char *const lies[] = {"0",   "1", "9223372036854775807", "18446744073709551615", "4294967296", "-1",
                                       "1.5", "7"};
    size_t which = (size_t)fuzz_number(in, 1) + 1, at = 0, len = 0;
    const char *lie = lies[fuzz_choice(in, TP_COUNT_OF(lies))];
    while (at < text.len && which > 0) {
        at += len;
        at += strcspn(text.bytes + at, "0123456789");
        len = strspn(text.bytes + at, "0123456789");
        which--;
        if (len == 0)
            return;
    }
    FUZZ_CHECK(tp_array_grow(&text.bytes, &text.capacity, text.len + 32, 1));
    memmove(text.bytes + at + strlen(lie), text.bytes + at + len, text.len - at - len + 1);
    memcpy(text.bytes + at, lie, strlen(lie));
    text.len = text.len - len + strlen(lie);
}

static void check_changed(struct fuzz_bytes *in)
{
    struct tp_manifest m;
    for (size_t count = 1 + fuzz_choice(in, 3); count > 0 && text.len > 0; count--) {
        size_t len, at = (size_t)fuzz_number(in, 2) % text.len;
        text.bytes[text.len] = '\0';
        if (fuzz_choice(in, 2) == 0) {
            change_number(in);
            continue;
        }
        const uint8_t *piece = fuzz_piece(in, 20, &len);
        len = len < text.len - at ? len : text.len - at;
        if (len > 0)
            memcpy(text.bytes + at, piece, len);
    }
    if (read_manifest(&m, text.bytes, text.len))
        tp_manifest_release(&m);
}

/* The first byte: a manifest as it is, or one of a plan. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    struct fuzz_bytes in = {data, size};
    struct tp_checkpoint *ck = NULL;
    struct tp_manifest m;
    if (fuzz_choice(&in, 2) == 1) {
        if (read_manifest(&m, in.at, in.left))
            tp_manifest_release(&m);
        return 0;
    }
    model_make(&model, &in, true);
    model_write(&model, &in, "");
    text.len = 0;
    if (tp_checkpoint_open(&ck, fuzz_folder(), NULL, NULL) == TP_OK)
        check_round_trip(ck, &in);
    if (text.len > 0)
        check_changed(&in);
    tp_checkpoint_close(ck);
    model_release(&model);
    fuzz_clear();
    return 0;
}
