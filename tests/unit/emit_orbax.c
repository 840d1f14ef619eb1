/* SPDX-License-Identifier: MIT */
/* emit_orbax FOLDER OPTION...: a checkpoint of Orbax or JAX without the pipeline, of plans made by hand: everything
 * that needs no arithmetic (refer_rows.h), all dtypes, odd names, lists. Its bytes are put where the layout says, one
 * element after the other. Beside it FOLDER.expect lists path, dtype, shape and bytes of every array, for
 * tests/e2e/test_orbax_layout.py and test_jax_pytree.py.
 *
 * Options: jax (else Orbax) ordered (one dict in the plan's order) marked (lists as a map marks them) zero-copy zarr3
 * no-ocdbt lists step v1 v2-rows (rows that need no zarr3) chunk=BYTES item=NAME */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "format/orbax.h"
#include "plan/box.h"
#include "plan/piece.h"
#include "refer_rows.h"

#define BIG ROW_TENSORS /* one tensor more: 3 MiB in a file of its own */
#define BIG_ELEMS ((uint64_t)768 * 1024)
#define BIG_DATA 1003
#define ARRAYS 200

struct emitter {
    struct row_source source;
    struct tp_file_info files[2];
    struct tp_tensor big;
    struct tp_extent big_extent;
    struct tp_logical logicals[ROW_TENSORS + 1];
    struct tp_piece pieces[ARRAYS][4];
    uint8_t *content[2]; /* of the source files */
    struct tp_plan plan;
    struct tp_convert_options options;
    const struct tp_format *format;
    bool v2_rows, marks_lists;
    char folder[400];
};

static void check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "emit_orbax: %s\n", what);
        exit(1);
    }
}

static void check_status(enum tp_status st, const struct tp_error *err)
{
    if (st)
        fprintf(stderr, "%s: %s (%s)\n", tp_status_name(st), err->message, err->hint);
    check(st == TP_OK, "failed");
}

/* ---- the source ---- */

static void make_source(struct emitter *e)
{
    row_source_init(&e->source, "model-00001-of-00002.safetensors");
    e->files[0] = e->source.file;
    e->files[1] =
        (struct tp_file_info){.name = "model-00002-of-00002.safetensors", .size_bytes = BIG_DATA + 4 * BIG_ELEMS};
    e->source.ck.files = e->files;
    e->source.ck.file_count = 2;
    e->big_extent =
        (struct tp_extent){.elem_count = BIG_ELEMS, .offset_bytes = BIG_DATA, .size_bytes = 4 * BIG_ELEMS, .file = 1};
    e->big = e->source.tensors[0];
    e->big.extents = &e->big_extent;
    e->big.elem_count = BIG_ELEMS;
    e->big.size_bytes = 4 * BIG_ELEMS;
    memcpy(e->logicals, e->source.logicals, sizeof e->source.logicals);
    e->logicals[BIG] = (struct tp_logical){.tensor = &e->big, .dtype = TP_F32};
    for (unsigned f = 0; f < 2; f++)
        e->content[f] = calloc(1, e->files[f].size_bytes);
    for (unsigned t = 0; t <= BIG; t++) {
        const struct tp_tensor *tensor = e->logicals[t].tensor;
        for (uint64_t i = 0; i < tensor->elem_count; i++) {
            float value = (float)(1000 * t + i);
            memcpy(e->content[tensor->extents[0].file] + tensor->extents[0].offset_bytes + 4 * i, &value, 4);
        }
    }
    /* the last of the rows' is bytes that suit every dtype: bool, codes */
    memset(e->content[0] + e->source.extents[ROW_TENSORS - 1].offset_bytes, 1, 4 * row_elems[ROW_TENSORS - 1]);
}

/* ---- the arrays ---- */

static struct tp_array *add(struct emitter *e, struct tp_array a, const char *path)
{
    struct tp_plan *plan = &e->plan;
    check(plan->array_count < ARRAYS, "too many arrays");
    a.path_len = (uint16_t)strlen(path);
    char *copy = tp_arena_strndup(&plan->arena, path, a.path_len);
    for (uint16_t i = 0; i < a.path_len; i++)
        copy[i] = copy[i] != '|' ? copy[i] : plan->ordered ? '/' : '\0';
    a.path = copy;
    a.pieces = memcpy(e->pieces[plan->array_count], a.pieces, a.piece_count * sizeof *a.pieces);
    plan->arrays[plan->array_count] = a;
    return &plan->arrays[plan->array_count++];
}

static struct tp_array straight(uint32_t tensor, uint64_t count, const uint64_t *shape, unsigned rank,
                                enum tp_dtype dtype, struct tp_piece *piece)
{
    *piece = (struct tp_piece){.logical = tensor, .run_elems = count, .source_dtype = (uint8_t)dtype};
    return (struct tp_array){.shape = shape,
                             .pieces = piece,
                             .piece_count = count ? 1 : 0,
                             .elem_count = count,
                             .rank = (uint8_t)rank,
                             .dtype = (uint8_t)dtype,
                             .first_extent = TP_NONE,
                             .view = TP_DTYPE_NONE};
}

static void add_rows(struct emitter *e)
{
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_piece pieces[4];
        char path[64];
        if (e->v2_rows && memcmp(rows[i].chunk, rows[i].chunk_any, sizeof rows[i].chunk) != 0)
            continue;
        snprintf(path, sizeof path, "params|rows|%s", rows[i].name);
        add(e, row_array(&rows[i], pieces), path);
    }
    struct tp_piece pieces[4];
    struct tp_array mixed = row_array(&rows[9], pieces); /* stack_0, of which one layer is ours */
    pieces[1].op = TP_OP_CAST;
    add(e, mixed, "params|mixed");
    mixed = row_array(&rows[12], pieces); /* scan_transposed, likewise */
    pieces[0].op = TP_OP_CAST;
    add(e, mixed, "params|mixed_transposed");
}

static void add_dtypes(struct emitter *e)
{
    static const uint64_t shape[] = {2, 4};
    static const enum tp_dtype left_out[] = {TP_F4, TP_F6_E2M3, TP_F6_E3M2};
    for (int dtype = 0; dtype < TP_DTYPE_COUNT; dtype++) {
        struct tp_piece piece;
        char path[64];
        bool skip = false;
        for (size_t i = 0; i < TP_COUNT_OF(left_out); i++)
            skip = skip || dtype == (int)left_out[i];
        snprintf(path, sizeof path, "dtypes|%s", skip ? "" : tp_dtype_numpy_name((enum tp_dtype)dtype));
        if (!skip)
            add(e, straight(ROW_TENSORS - 1, 8, shape, 2, (enum tp_dtype)dtype, &piece), path);
    }
}

static void add_shapes(struct emitter *e)
{
    static const uint64_t eight[] = {1, 2, 1, 3, 2, 1, 2, 1}, empty[] = {3, 0, 2}, none[] = {0};
    static const uint64_t all[] = {768, 1024}, head[] = {512, 1024};
    struct tp_piece piece;
    add(e, straight(0, 24, eight, 8, TP_F32, &piece), "shapes|eight");
    add(e, straight(0, 0, empty, 3, TP_F32, &piece), "shapes|empty");
    add(e, straight(0, 0, none, 1, TP_BF16, &piece), "shapes|none");
    add(e, straight(0, 1, NULL, 0, TP_F32, &piece), "shapes|number");
    if (e->options.orbax.chunk_bytes)
        return; /* small chunks of large arrays are too many to be tried quickly */
    add(e, straight(BIG, BIG_ELEMS, all, 2, TP_F32, &piece), "shapes|big");
    struct tp_array big = straight(BIG, 512 * 1024, head, 2, TP_F32, &piece);
    piece.op = TP_OP_CAST;
    add(e, big, "shapes|big_copied"); /* 2 MiB in 2 chunks */
}

static void add_lists(struct emitter *e)
{
    static const uint64_t shape[] = {2};
    for (uint64_t i = 0; i < 12; i++) {
        struct tp_piece piece;
        char path[64];
        struct tp_array a = straight(0, 2, shape, 1, TP_F32, &piece);
        piece.src_first = i;
        snprintf(path, sizeof path, "layers|%d|w", (int)((i * 7) % 12)); /* in no order */
        a.list_levels = e->marks_lists ? 2 : 0;
        add(e, a, path);
        a.list_levels = 0;
        snprintf(path, sizeof path, "gaps|%d", (int)i + 1);
        add(e, a, path);
    }
}

static void add_names(struct emitter *e)
{
    static const char *const names[] = {
        "a.b.c",       "with space", "slash/inside", "/first",      "a//b",   "..",
        "caf\xc3\xa9", "q\"uote'",   "back\\slash",  "line\nbreak", "%20?#*", "_METADATA",
    };
    static const uint64_t shape[] = {3};
    for (size_t i = 0; i < TP_COUNT_OF(names); i++) {
        struct tp_piece piece;
        char path[64];
        struct tp_array a = straight(0, 3, shape, 1, TP_F32, &piece);
        piece.src_first = i;
        if (e->options.orbax.no_ocdbt)
            snprintf(path, sizeof path, "name %zu", i);
        else
            snprintf(path, sizeof path, "%s", names[i]);
        add(e, a, path);
    }
}

/* ---- the bytes ---- */

static const uint8_t *element(const struct emitter *e, const struct tp_array *a, uint64_t elem)
{
    struct tp_run run;
    check(tp_array_run_at(a, elem, 1, &run), "an element without a piece");
    const struct tp_extent *x = &e->logicals[run.piece->logical].tensor->extents[0];
    return e->content[x->file] + x->offset_bytes + run.src_elem * tp_array_item_bytes(a);
}

/* A chunk's bytes, element by element in the order of its grid. */
static void fill(const struct emitter *e, const struct tp_out_extent *x, uint8_t *dst)
{
    const struct tp_array *a = &e->plan.arrays[x->array];
    unsigned item = tp_array_item_bytes(a);
    for (uint64_t k = 0; k < x->elem_count; k++) {
        uint64_t index[TP_GRID_RANK_MAX], rest = k, flat = 0;
        tp_grid_corner(a, x->leaf, index);
        for (unsigned i = a->rank; i-- > 0;) {
            unsigned d = a->grid && a->grid->order ? a->grid->order[i] : i;
            uint64_t length = a->grid ? a->grid->chunk[d] : a->shape[d];
            index[d] += rest % length;
            rest /= length;
        }
        for (unsigned d = 0; d < a->rank; d++)
            flat = flat * a->shape[d] + index[d];
        memcpy(dst + k * item, element(e, a, flat), item);
    }
}

static FILE *create(const struct emitter *e, const char *name)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s", e->folder, name);
    for (char *slash = path + strlen(e->folder); (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *f = fopen(path, "wb");
    check(f != NULL, path);
    return f;
}

static void write_files(struct emitter *e)
{
    for (uint32_t i = 0; i < e->plan.file_count; i++) {
        const struct tp_out_file *file = &e->plan.files[i];
        FILE *f = create(e, file->name);
        if (file->is_linked) {
            fwrite(e->content[file->source_file], 1, file->size_bytes, f);
            fclose(f);
            continue;
        }
        uint8_t *bytes = malloc(file->size_bytes + 1), *at = bytes;
        for (uint32_t k = 0; k <= file->extent_count; k++) {
            at += e->format->frame(&e->plan, i, k, 0, at, TP_FRAME_MAX_BYTES);
            const struct tp_out_extent *x = &e->plan.extents[file->first_extent + k];
            if (k < file->extent_count) {
                check(bytes + x->offset_bytes == at, "a payload elsewhere than its frames say");
                fill(e, x, at);
                at += x->size_bytes;
            }
        }
        check(at == bytes + file->size_bytes, "a file of another size");
        fwrite(bytes, 1, file->size_bytes, f);
        fclose(f);
        free(bytes);
    }
}

static enum tp_status to_file(void *user, const char *text, size_t len, struct tp_error *err)
{
    (void)err;
    check(fwrite(text, 1, len, user) == len, "fwrite");
    return TP_OK;
}

static void write_small_files(struct emitter *e)
{
    struct tp_source_print prints[2] = {{{{1}}, {{2}}}, {{{3}}, {{4}}}};
    struct tp_format_facts facts = {
        .options = &e->options, .source_prints = prints, .time_ns = INT64_C(1700000000000000000)};
    struct tp_error err;
    for (size_t i = 0; i < e->plan.small_count; i++) {
        FILE *f = create(e, e->plan.small_files[i].name);
        check_status(e->format->write_small(&e->plan, &e->plan.small_files[i], &facts, to_file, f, &err), &err);
        fclose(f);
    }
}

/* ---- what is expected ---- */

static void put_hex(FILE *f, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fprintf(f, "%02x", ((const uint8_t *)bytes)[i]);
}

static void write_expected(const struct emitter *e)
{
    char path[500];
    snprintf(path, sizeof path, "%s.expect", e->folder);
    FILE *f = fopen(path, "w");
    check(f != NULL, path);
    for (size_t i = 0; i < e->plan.array_count; i++) {
        const struct tp_array *a = &e->plan.arrays[i];
        put_hex(f, a->path, a->path_len);
        fprintf(f, " %s [", tp_dtype_numpy_name((enum tp_dtype)a->dtype));
        for (unsigned d = 0; d < a->rank; d++)
            fprintf(f, "%s%llu", d ? "," : "", (unsigned long long)a->shape[d]);
        fputs("] x", f);
        for (uint64_t k = 0; k < a->elem_count; k++)
            put_hex(f, element(e, a, k), tp_array_item_bytes(a));
        fputc('\n', f);
    }
    fclose(f);
}

static void set_option(struct emitter *e, const char *arg)
{
    struct tp_orbax_options *o = &e->options.orbax;
    o->min_chunk_bytes = 1;
    o->zero_copy |= strcmp(arg, "zero-copy") == 0;
    o->zarr3 |= strcmp(arg, "zarr3") == 0;
    o->no_ocdbt |= strcmp(arg, "no-ocdbt") == 0;
    o->has_step |= strcmp(arg, "step") == 0;
    if (strcmp(arg, "v1") == 0)
        o->layout = TP_ORBAX_V1;
    if (strcmp(arg, "lists") == 0)
        e->options.tree = TP_TREE_LISTS;
    if (strncmp(arg, "chunk=", 6) == 0)
        o->chunk_bytes = strtoull(arg + 6, NULL, 10);
    if (strncmp(arg, "item=", 5) == 0)
        o->item = arg + 5;
    e->v2_rows |= strcmp(arg, "v2-rows") == 0;
    e->marks_lists |= strcmp(arg, "marked") == 0;
    e->plan.ordered |= strcmp(arg, "ordered") == 0;
    if (strcmp(arg, "jax") == 0)
        e->format = &tp_format_jax_pytree;
}

int main(int argc, char **argv)
{
    struct emitter *e = calloc(1, sizeof *e);
    struct tp_error err;
    check(e && argc >= 2, "emit_orbax FOLDER OPTION...");
    snprintf(e->folder, sizeof e->folder, "%s", argv[1]);
    mkdir(e->folder, 0777);
    make_source(e);
    e->plan.arrays = calloc(ARRAYS, sizeof *e->plan.arrays);
    e->plan.logicals = e->logicals;
    e->plan.source = &e->source.ck;
    e->format = &tp_format_orbax;
    for (int i = 2; i < argc; i++)
        set_option(e, argv[i]);
    add_rows(e);
    add_dtypes(e);
    add_shapes(e);
    add_lists(e);
    add_names(e);
    check_status(e->format->layout(&e->plan, &e->options, &err), &err);
    for (size_t i = 0; i < e->plan.notes.count; i++)
        printf("%s\n", e->plan.notes.items[i]);
    write_files(e);
    write_small_files(e);
    write_expected(e);
    e->plan.logicals = NULL; /* ours */
    tp_plan_release(&e->plan);
    free(e->content[0]);
    free(e->content[1]);
    free(e);
    return 0;
}
