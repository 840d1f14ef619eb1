/* SPDX-License-Identifier: MIT */
/* Plans made by hand for a format that keeps its arrays in a store, and what holds of every layout of them. The file
 * that includes this says before which `format` it tests: LAYOUT_FORMAT. */
#ifndef TP_TESTS_UNIT_LAYOUT_H
#define TP_TESTS_UNIT_LAYOUT_H

#include "fixture.h"

#include "format/store.h"
#include "plan/box.h"
#include "refer_rows.h"

#define MIB ((uint64_t)1 << 20)
#define KIB ((uint64_t)1 << 10)

static const struct tp_format *const format = &LAYOUT_FORMAT;

/* ---- plans made by hand: every array the straight copy of a tensor of its own ---- */

struct fixture {
    struct row_source rows;
    struct tp_file_info files[3];
    struct tp_tensor *tensors;
    struct tp_extent *extents;
    struct tp_logical *logicals;
    struct tp_piece *pieces;
    struct tp_plan plan;
    struct tp_convert_options options;
    struct tp_error err;
};

static inline struct fixture *new_fixture(size_t capacity)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->tensors = calloc(capacity, sizeof *f->tensors);
    f->extents = calloc(capacity, sizeof *f->extents);
    f->logicals = calloc(capacity, sizeof *f->logicals);
    f->pieces = calloc(capacity, sizeof *f->pieces);
    f->plan.arrays = calloc(capacity, sizeof *f->plan.arrays);
    assert_non_null(f->plan.arrays);
    f->plan.logicals = f->logicals;
    row_source_init(&f->rows, "model.safetensors");
    for (unsigned i = 0; i < 3; i++)
        f->files[i] = f->rows.file;
    f->files[1].name = "b.safetensors";
    f->files[2].name = "a.safetensors";
    f->rows.ck.files = f->files;
    f->rows.ck.file_count = 3;
    f->plan.source = &f->rows.ck;
    return f;
}

static inline void free_fixture(struct fixture *f)
{
    f->plan.logicals = NULL;
    tp_plan_release(&f->plan);
    free(f->tensors);
    free(f->extents);
    free(f->logicals);
    free(f->pieces);
    free(f);
}

/* `path`: '/' between keys becomes NUL unless `is_flat`. */
static inline struct tp_array *add_array(struct fixture *f, const char *path, bool is_flat, enum tp_dtype dtype,
                                         const uint64_t *shape, unsigned rank, uint32_t file, uint64_t offset)
{
    size_t i = f->plan.array_count++;
    uint64_t count = 1, bits = tp_dtype_bits(dtype);
    for (unsigned d = 0; d < rank; d++)
        count *= shape[d];
    f->extents[i] =
        (struct tp_extent){.elem_count = count, .offset_bytes = offset, .size_bytes = count * bits / 8, .file = file};
    f->tensors[i] = (struct tp_tensor){.name = path,
                                       .shape = shape,
                                       .rank = (uint8_t)rank,
                                       .dtype = (uint8_t)dtype,
                                       .extents = &f->extents[i],
                                       .extent_count = 1,
                                       .elem_count = count,
                                       .size_bytes = count * bits / 8};
    f->logicals[i] = (struct tp_logical){.tensor = &f->tensors[i], .dtype = (uint8_t)dtype};
    f->pieces[i] = (struct tp_piece){.logical = (uint32_t)i, .run_elems = count, .source_dtype = (uint8_t)dtype};
    char *keys = tp_arena_strndup(&f->plan.arena, path, strlen(path));
    for (char *slash = is_flat ? NULL : keys; slash && (slash = strchr(slash, '/')); slash++)
        *slash = '\0';
    f->plan.arrays[i] = (struct tp_array){.path = keys,
                                          .path_len = (uint16_t)strlen(path),
                                          .shape = shape,
                                          .rank = (uint8_t)rank,
                                          .dtype = (uint8_t)dtype,
                                          .pieces = &f->pieces[i],
                                          .piece_count = count ? 1 : 0,
                                          .elem_count = count,
                                          .first_extent = TP_NONE,
                                          .view = TP_DTYPE_NONE};
    return &f->plan.arrays[i];
}

static inline void lay_out(struct fixture *f)
{
    enum tp_status st = format->layout(&f->plan, &f->options, &f->err);
    if (st)
        fail_msg("%s: %s", tp_status_name(st), f->err.message);
}

static inline const char *refusal(struct fixture *f, enum tp_status code)
{
    assert_int_equal(format->layout(&f->plan, &f->options, &f->err), code);
    return f->err.message;
}

/* ---- what holds of every layout ---- */

static inline void check_own_file(const struct tp_plan *plan, uint32_t file)
{
    const struct tp_out_file *out = &plan->files[file];
    uint64_t end = 0;
    for (uint32_t k = 0; k < out->extent_count; k++) {
        const struct tp_out_extent *e = &plan->extents[out->first_extent + k];
        uint8_t zeros[64] = {1};
        size_t framing = format->frame(plan, file, k, 0, NULL, 0);
        assert_int_equal(e->file, file);
        assert_int_equal(e->offset_bytes % 64, 0);
        assert_int_equal(e->offset_bytes, end + framing);
        assert_true(framing < 64);
        assert_int_equal(format->frame(plan, file, k, 0, zeros, sizeof zeros), framing);
        for (size_t i = 0; i < framing; i++)
            assert_int_equal(zeros[i], 0);
        assert_int_equal(format->frame(plan, file, k, framing, zeros, sizeof zeros), 0);
        end = e->offset_bytes + e->size_bytes;
    }
    assert_int_equal(format->frame(plan, file, out->extent_count, 0, NULL, 0), 0);
    assert_int_equal(out->size_bytes, end);
    assert_true(end <= 512 * MIB || out->extent_count == 1);
}

static inline void check_linked_file(const struct tp_plan *plan, uint32_t file)
{
    const struct tp_out_file *out = &plan->files[file];
    for (uint32_t k = 0; k < out->extent_count; k++) {
        const struct tp_out_extent *e = &plan->extents[out->first_extent + k];
        assert_int_equal(e->file, file);
        assert_true(k == 0 || e[-1].offset_bytes <= e->offset_bytes);
    }
}

static inline void check_array(const struct tp_plan *plan, uint32_t array)
{
    const struct tp_array *a = &plan->arrays[array];
    uint64_t number = 0;
    for (uint32_t i = a->first_extent; i != TP_NONE; i = plan->extents[i].next, number++) {
        const struct tp_out_extent *e = &plan->extents[i];
        uint64_t corner[TP_GRID_RANK_MAX], flat = 0, volume = 1;
        assert_int_equal(e->array, array);
        assert_int_equal(e->leaf, number);
        tp_grid_corner(a, number, corner);
        for (unsigned d = 0; d < a->rank; d++) {
            flat = flat * a->shape[d] + corner[d];
            volume *= a->grid ? a->grid->chunk[d] : a->shape[d];
        }
        assert_int_equal(e->first_elem, flat);
        assert_int_equal(e->elem_count, volume);
        assert_int_equal(e->size_bytes, volume * tp_array_item_bytes(a));
    }
    assert_int_equal(number, tp_grid_chunk_count(a));
}

static inline void check_plan(const struct tp_plan *plan)
{
    uint64_t blocks = 0;
    size_t extent = 0;
    for (uint32_t i = 0; i < plan->file_count; i++) {
        assert_true(i == 0 || plan->files[i].is_linked >= plan->files[i - 1].is_linked);
        assert_int_equal(plan->files[i].first_extent, extent);
        extent += plan->files[i].extent_count;
        if (plan->files[i].is_linked)
            check_linked_file(plan, i);
        else
            check_own_file(plan, i);
    }
    assert_int_equal(extent, plan->extent_count);
    for (size_t i = 0; i < plan->extent_count; i++) {
        if (plan->files[plan->extents[i].file].is_linked)
            continue;
        assert_int_equal(plan->extents[i].first_block, blocks);
        blocks += tp_extent_block_count(&plan->extents[i]);
    }
    assert_int_equal(blocks, plan->block_count);
    for (uint32_t i = 0; i < plan->array_count; i++)
        check_array(plan, i);
}

/* ---- small files as memory ---- */

struct text {
    char *bytes;
    size_t len, capacity;
};

static inline enum tp_status to_text(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    struct text *t = user;
    (void)err;
    assert_true(tp_array_grow(&t->bytes, &t->capacity, t->len + len + 1, 1));
    memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
    t->bytes[t->len] = '\0';
    return TP_OK;
}

/* The content of the small file whose name ends so; malloc'd. */
static inline char *small_file(struct fixture *f, const char *end, size_t *len)
{
    struct tp_format_facts facts = {.options = &f->options, .time_ns = INT64_C(1700000000000000000)};
    struct text t = {.len = 0};
    for (size_t i = 0; i < f->plan.small_count; i++) {
        const char *name = f->plan.small_files[i].name;
        if (strlen(name) < strlen(end) || strcmp(name + strlen(name) - strlen(end), end) != 0)
            continue;
        assert_int_equal(format->write_small(&f->plan, &f->plan.small_files[i], &facts, to_text, &t, &f->err), TP_OK);
        if (len)
            *len = t.len;
        return t.bytes;
    }
    fail_msg("no small file %s", end);
    return NULL;
}

static inline void expect_small_files(const struct fixture *f, const char *const *names, size_t count)
{
    assert_int_equal(f->plan.small_count, count);
    for (size_t i = 0; i < count; i++) {
        const char *name = f->plan.small_files[i].name, *star = strchr(names[i], '*');
        if (star ? strncmp(name, names[i], (size_t)(star - names[i])) != 0 : strcmp(name, names[i]) != 0)
            fail_msg("small file %zu is %s, expected %s", i, name, names[i]);
        assert_int_equal(f->plan.small_files[i].is_last, strcmp(names[i], "commit_success.txt") == 0);
    }
}

#endif
