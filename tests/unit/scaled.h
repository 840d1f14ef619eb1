/* SPDX-License-Identifier: MIT */
/* For tests of codes of one byte: a model of any tensors, its group opened, prepared, and decoded whole and in odd
 * pieces. */
#ifndef TP_TESTS_UNIT_SCALED_H
#define TP_TESTS_UNIT_SCALED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>

#include "fixture.h"
#include "quant/schemes.h"

/* ---- a group, opened and prepared ---- */

struct entry {
    const char *name;
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[5];
    const void *data; /* NULL: random */
};

struct fixture {
    struct scratch folder;
    struct tp_checkpoint *ck;
    struct tp_arena arena;
    struct tp_kernels kernels;
    struct tp_decoded d;
};

static inline uint32_t random_bits(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Scales are positive and of a size that real ones have; codes are anything; zero points are small. */
static inline void randomise(uint8_t *dst, uint64_t count, enum tp_dtype dtype)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t r = random_bits();
        uint64_t bits = dtype == TP_F32                         ? 0x38000000u + r % 0x08000000u
                        : dtype == TP_BF16                      ? 0x3800u + r % 0x800u
                        : dtype == TP_F16                       ? 0x0c00u + r % 0x2800u
                        : dtype == TP_I8                        ? r % 256
                        : dtype == TP_U8 || dtype == TP_F8_E8M0 ? 110 + r % 30
                                                                : r % 256;
        size_t bytes = tp_dtype_bits(dtype) / 8;
        for (size_t k = 0; k < bytes; k++)
            dst[i * bytes + k] = (uint8_t)(bits >> (8 * k));
    }
}

static inline uint64_t elements(const struct entry *e)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < e->rank; i++)
        count *= e->shape[i];
    return count;
}

static inline void write_model(const struct fixture *f, const char *file, const struct entry *entries, size_t count)
{
    char header[4096] = "{";
    size_t used = 1;
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct entry *e = &entries[i];
        uint64_t size = elements(e) * tp_dtype_bits(e->dtype) / 8;
        used += (size_t)snprintf(header + used, sizeof header - used, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                 i ? "," : "", e->name, tp_dtype_name(e->dtype));
        for (unsigned k = 0; k < e->rank; k++)
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%" PRIu64, k ? "," : "", e->shape[k]);
        used += (size_t)snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                                 end, end + size);
        end += size;
    }
    snprintf(header + used, sizeof header - used, "}");
    uint8_t *data = malloc(end ? (size_t)end : 1);
    assert_non_null(data);
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t n = elements(&entries[i]), size = n * tp_dtype_bits(entries[i].dtype) / 8;
        if (entries[i].data)
            memcpy(data + at, entries[i].data, (size_t)size);
        else
            randomise(data + at, n, entries[i].dtype);
        at += size;
    }
    scratch_safetensors(&f->folder, file, header, end, data, (size_t)end);
    free(data);
}

static const struct tp_scheme *scheme_of(const char *name)
{
    static const struct tp_scheme *const all[] = {&tp_scheme_fp8, &tp_scheme_int8, &tp_scheme_bnb_int8};
    for (size_t i = 0; i < TP_COUNT_OF(all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    fail_msg("group of scheme %s", name);
    return NULL;
}

static inline void choose_group(struct fixture *f, uint32_t index)
{
    assert_true(index < tp_checkpoint_group_count(f->ck));
    const struct tp_group *group = tp_checkpoint_group(f->ck, index);
    f->d = (struct tp_decoded){.scheme = scheme_of(group->scheme),
                               .ck = f->ck,
                               .group = group,
                               .codes = tp_checkpoint_tensor(f->ck, group->codes)};
}

static inline void open_model(struct fixture *f, const char *path)
{
    struct tp_error err = {.code = TP_OK};
    f->arena = (struct tp_arena){NULL};
    f->ck = NULL;
    if (tp_checkpoint_open(&f->ck, path, NULL, &err))
        fail_msg("%s", err.message);
    tp_kernels_init_scalar(&f->kernels);
    choose_group(f, 0);
}

static inline void make(struct fixture *f, const char *config, const struct entry *entries, size_t count)
{
    scratch_make(&f->folder);
    if (config)
        write_text(f->folder.path, "config.json", config);
    write_model(f, "model.safetensors", entries, count);
    open_model(f, f->folder.path);
}

static inline void finish(struct fixture *f)
{
    tp_checkpoint_close(f->ck);
    tp_arena_release(&f->arena);
    if (f->folder.path[0])
        scratch_remove(&f->folder);
}

static inline void prepare(struct fixture *f)
{
    struct tp_error err = {.code = TP_OK};
    if (f->d.scheme->prepare(&f->d, &f->arena, &err))
        fail_msg("%s: %s", err.tensor, err.message);
    assert_string_equal(f->d.name, f->d.codes->name);
    assert_int_equal(f->d.name_len, f->d.codes->name_len);
    assert_int_equal(f->d.rank, f->d.codes->rank);
    if (f->d.rank > 0)
        assert_memory_equal(f->d.shape, f->d.codes->shape, f->d.rank * sizeof *f->d.shape);
    assert_int_equal(f->d.elem_count, f->d.codes->elem_count);
}

/* ---- decoding ---- */

static inline struct tp_scratch scratch_new(size_t size_bytes)
{
    struct tp_scratch s = {.bytes = aligned_alloc(64, size_bytes), .size_bytes = size_bytes};
    assert_non_null(s.bytes);
    memset(s.bytes, 0xa5, size_bytes);
    return s;
}

/* What is rounded on the way is what is rounded afterwards, and so are the statistics. */
static inline void expect_rounded(const struct fixture *f, struct tp_scratch *s, uint64_t first, uint64_t count,
                                  const float *values)
{
    struct tp_error err = {.code = TP_OK};
    const size_t size = (size_t)count * 2;
    uint8_t *want = malloc(size + 1), *memory = malloc(size + 1), *got = memory + 1; /* it need not be aligned */
    struct tp_stats want_stats, got_stats;
    assert_true(want && memory);
    tp_stats_init(&want_stats);
    tp_stats_init(&got_stats);
    f->kernels.cast[TP_KIND_F32][TP_KIND_BF16](want, values, (size_t)count, first % 2, &want_stats);
    if (f->d.scheme->round_bf16(&f->d, s, &f->kernels, first, count, got, first % 2, &got_stats, &err))
        fail_msg("%s: %s", err.tensor, err.message);
    assert_memory_equal(got, want, size);
    assert_memory_equal(&got_stats, &want_stats, sizeof got_stats);
    free(want);
    free(memory);
}

static inline void decode_run(const struct fixture *f, struct tp_scratch *s, uint64_t first, uint64_t count, float *dst)
{
    struct tp_error err = {.code = TP_OK};
    if (f->d.scheme->decode(&f->d, s, &f->kernels, first, count, dst, &err))
        fail_msg("%s: %s", err.tensor, err.message);
    if (f->d.scheme->round_bf16)
        expect_rounded(f, s, first, count, dst);
}

/* Ends on the heap, so that a step beyond is seen. */
static inline float *decode_whole(const struct fixture *f, size_t scratch_bytes)
{
    struct tp_scratch s = scratch_new(scratch_bytes);
    float *values = malloc((size_t)f->d.elem_count * sizeof *values);
    assert_non_null(values);
    for (uint64_t first = 0; first < f->d.elem_count; first += (uint64_t)1 << 20) {
        uint64_t left = f->d.elem_count - first;
        decode_run(f, &s, first, left < (uint64_t)1 << 20 ? left : (uint64_t)1 << 20, values + first);
    }
    free(s.bytes);
    return values;
}

static inline void expect_bits(const float *got, const float *want, uint64_t first, uint64_t count)
{
    if (memcmp(got, want, (size_t)count * sizeof *got) == 0)
        return;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t a, b;
        memcpy(&a, &got[i], sizeof a);
        memcpy(&b, &want[i], sizeof b);
        if (a != b && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("element %" PRIu64 ": got %08x (%g), expected %08x (%g)", first + i, a, (double)got[i], b,
                     (double)want[i]);
    }
}

/* The whole, then pieces of every odd size at once: the scratch holds what the last piece left. */
static inline float *decode_in_every_way(const struct fixture *f)
{
    static const uint64_t steps[] = {1, 7, 37, 129, 1000, 4099, 65537};
    float *whole = decode_whole(f, TP_SCRATCH_MIN_BYTES), *wide = decode_whole(f, (size_t)12 << 20);
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    expect_bits(wide, whole, 0, f->d.elem_count);
    for (size_t i = 0; i < TP_COUNT_OF(steps); i++) {
        float *piece = malloc((size_t)steps[i] * sizeof *piece);
        uint64_t stride = f->d.elem_count / 60 > steps[i] ? f->d.elem_count / 60 : steps[i];
        for (uint64_t first = i; first < f->d.elem_count; first += stride) {
            uint64_t n = f->d.elem_count - first < steps[i] ? f->d.elem_count - first : steps[i];
            decode_run(f, &s, first, n, piece);
            expect_bits(piece, whole + first, first, n);
        }
        free(piece);
    }
    free(s.bytes);
    free(wide);
    return whole;
}

/* A tensor of random values; one of rank 0; what config.json says of blocks. */
#define T(name, dtype, ...)                                                                         \
    {                                                                                               \
        name, TP_##dtype, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), {__VA_ARGS__}, NULL \
    }
#define ONE(name, dtype)               \
    {                                  \
        name, TP_##dtype, 0, {0}, NULL \
    }
#define BLOCKS(rows, columns)                        \
    {                                                \
        .block_rows = rows, .block_columns = columns \
    }

/* ---- what refusals say ---- */

static inline void expect_text(const struct tp_error *err, const char *const *parts)
{
    for (size_t i = 0; i < 4 && parts[i]; i++)
        if (!strstr(err->message, parts[i]))
            fail_msg("'%s' does not say '%s'", err->message, parts[i]);
}

/* One scale in `scales` is odd: what decoding says. */

#endif
