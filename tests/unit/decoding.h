/* SPDX-License-Identifier: MIT */
/* One group of a checkpoint, prepared and decoded; and what real packages decode it to. */
#ifndef TP_TESTS_UNIT_DECODING_H
#define TP_TESTS_UNIT_DECODING_H

#include "fixture.h"

#include <math.h>

#include "quant/schemes.h"

struct decoding {
    struct tp_checkpoint *ck;
    struct tp_arena arena;
    struct tp_decoded d;
    struct tp_kernels kernels;
    struct tp_scratch scratch;
    struct tp_error err;
};

/* The scheme's first group in a file or folder. The status is prepare's. */
static inline enum tp_status decoding_open(struct decoding *x, const char *path, const struct tp_scheme *scheme,
                                           struct tp_decode_options options)
{
    *x = (struct decoding){.scratch = {.size_bytes = TP_SCRATCH_MIN_BYTES}};
    x->scratch.bytes = aligned_alloc(64, TP_SCRATCH_MIN_BYTES);
    assert_non_null(x->scratch.bytes);
    assert_true(tp_kernels_init(&x->kernels, NULL));
    if (tp_checkpoint_open(&x->ck, path, NULL, &x->err))
        fail_msg("%s: %s", path, x->err.message);
    for (size_t i = 0; i < x->ck->group_count; i++)
        if (strcmp(x->ck->groups[i].scheme, scheme->name) == 0) {
            const struct tp_group *group = &x->ck->groups[i];
            x->d = (struct tp_decoded){.scheme = scheme, .ck = x->ck, .group = group, .options = options};
            x->d.codes = &x->ck->tensors[group->codes];
            return scheme->prepare(&x->d, &x->arena, &x->err);
        }
    fail_msg("%s holds no group of scheme %s", path, scheme->name);
    return TP_ERR_BUG;
}

static inline void decoding_close(struct decoding *x)
{
    tp_checkpoint_close(x->ck);
    tp_arena_release(&x->arena);
    free(x->scratch.bytes);
}

static inline enum tp_status decode_run(struct decoding *x, uint64_t first, uint64_t count, float *dst)
{
    if (!x->d.scheme->decode_bf16)
        return x->d.scheme->decode(&x->d, &x->scratch, &x->kernels, first, count, dst, &x->err);
    const size_t size = (size_t)count * 2;
    uint8_t *memory = malloc(size + 1), *values = memory + 1; /* it need not be aligned */
    assert_non_null(memory);
    enum tp_status status = x->d.scheme->decode_bf16(&x->d, &x->scratch, &x->kernels, first, count, values, &x->err);
    for (size_t i = 0; !status && i < count; i++) {
        const uint32_t bits = (uint32_t)values[2 * i] << 16 | (uint32_t)values[2 * i + 1] << 24;
        memcpy(dst + i, &bits, sizeof bits);
    }
    free(memory);
    return status;
}

/* All elements, malloc'd, `step` at a time, each piece in memory of just its size. */
static inline float *decode_all(struct decoding *x, size_t step)
{
    const size_t count = (size_t)x->d.elem_count;
    float *all = malloc(count * sizeof *all + 1);
    assert_non_null(all);
    for (size_t at = 0; at < count; at += step) {
        const size_t n = count - at < step ? count - at : step;
        float *piece = malloc(n * sizeof *piece);
        assert_non_null(piece);
        if (decode_run(x, at, n, piece))
            fail_msg("%s", x->err.message);
        memcpy(all + at, piece, n * sizeof *piece);
        free(piece);
    }
    return all;
}

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* -- what real packages give -- */

static inline const char *data_path(const char *name, const char *file)
{
    static char path[2][1024];
    static unsigned next;
    const char *root = getenv("TP_TEST_DATA"), *slash = strrchr(__FILE__, '/');
    char *p = path[next++ % 2];
    if (root)
        snprintf(p, sizeof path[0], "%s/quantised/%s/%s", root, name, file);
    else
        snprintf(p, sizeof path[0], "%.*s/../data/quantised/%s/%s", slash ? (int)(slash - __FILE__) : 1,
                 slash ? __FILE__ : ".", name, file);
    return p;
}

/* The values of a tensor of expected.safetensors as float32, malloc'd. */
struct golden {
    struct tp_checkpoint *ck;
    const struct tp_tensor *tensor;
    float *values;
};

static inline void golden_open(struct golden *g, const char *name, const char *tensor)
{
    struct tp_error err;
    if (tp_checkpoint_open(&g->ck, data_path(name, "expected.safetensors"), NULL, &err))
        fail_msg("%s: %s", name, err.message);
    g->tensor = tp_checkpoint_find(g->ck, tensor);
    if (!g->tensor)
        fail_msg("%s: no tensor %s is expected", name, tensor);
    g->values = malloc((size_t)g->tensor->elem_count * sizeof *g->values);
    assert_int_equal(tp_tensor_read_f32(g->ck, g->tensor, 0, g->tensor->elem_count, g->values, &err), TP_OK);
}

static inline void golden_close(struct golden *g)
{
    tp_checkpoint_close(g->ck);
    free(g->values);
}

/* `values` rounded to the dtype of the expected tensor, and back to float32. */
static inline void round_as(const struct tp_kernels *k, const struct tp_tensor *t, float *values, size_t n)
{
    const enum tp_float_kind kind = t->dtype == TP_F16 ? TP_KIND_F16 : TP_KIND_BF16;
    struct tp_stats stats;
    uint16_t *rounded = malloc(n * sizeof *rounded + 1);
    tp_stats_init(&stats);
    if (t->dtype != TP_F32) {
        k->cast[TP_KIND_F32][kind](rounded, values, n, false, &stats);
        k->cast[kind][TP_KIND_F32](values, rounded, n, false, &stats);
    }
    free(rounded);
}

/* What may differ from a package: whole values (0: none may), and the sign of zeros. */
struct allowance {
    bool any_zero_sign;
    bool (*leaves_out)(size_t index); /* elements not to be looked at; NULL: look at all */
};

static inline void expect_golden_as(const char *name, const char *tensor, const struct tp_scheme *scheme,
                                    struct tp_decode_options options, struct allowance allowed)
{
    static const size_t steps[] = {1 << 20, 1000, 33, 7};
    struct decoding x;
    struct golden g;
    if (decoding_open(&x, data_path(name, "model.safetensors"), scheme, options))
        fail_msg("%s: %s", name, x.err.message);
    golden_open(&g, name, tensor ? tensor : x.d.name);
    assert_int_equal(strlen(x.d.name), x.d.name_len);
    assert_int_equal(x.d.rank, g.tensor->rank);
    assert_memory_equal(x.d.shape, g.tensor->shape, x.d.rank * sizeof *x.d.shape);
    assert_int_equal(x.d.elem_count, g.tensor->elem_count);
    assert_int_equal(x.d.elem_count, x.d.group->parameter_count);
    for (size_t s = 0; s < TP_COUNT_OF(steps); s++) {
        float *values = decode_all(&x, steps[s]);
        round_as(&x.kernels, g.tensor, values, (size_t)x.d.elem_count);
        for (size_t i = 0; i < x.d.elem_count; i++) {
            const float want = g.values[i], got = values[i];
            if (bits_of(want) == bits_of(got) || (isnan(want) && isnan(got)) ||
                (allowed.any_zero_sign && fabsf(want) + fabsf(got) <= 0) ||
                (allowed.leaves_out && allowed.leaves_out(i)))
                continue;
            fail_msg("%s, element %zu: 0x%08x, not 0x%08x", name, i, bits_of(got), bits_of(want));
        }
        free(values);
    }
    golden_close(&g);
    decoding_close(&x);
}

static inline void expect_golden(const char *name, const struct tp_scheme *scheme)
{
    expect_golden_as(name, NULL, scheme, (struct tp_decode_options){0}, (struct allowance){0});
}

/* -- files of one's own -- */

/* The same in every run. */
static inline uint32_t next_random(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

struct part {
    const char *name, *dtype, *shape; /* "[2,3]" */
    const void *bytes;
    size_t len;
};

/* A file of these tensors, up to the first without a name. */
static inline void write_parts(const struct scratch *s, const char *name, const struct part *parts)
{
    char header[4096] = "{";
    size_t used = 1, offset = 0;
    uint8_t *data = NULL;
    for (const struct part *p = parts; p->name; p++) {
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                                 p == parts ? "" : ",", p->name, p->dtype, p->shape, offset, offset + p->len);
        assert_true(used < sizeof header - 2);
        data = realloc(data, offset + p->len + 1);
        assert_non_null(data);
        if (p->len > 0)
            memcpy(data + offset, p->bytes, p->len);
        offset += p->len;
    }
    memcpy(header + used, "}", 2);
    scratch_safetensors(s, name, header, offset, data, offset);
    free(data);
}

static inline void expect_text(const char *message, const char *text)
{
    if (!strstr(message, text))
        fail_msg("\"%s\" is not in: %s", text, message);
}

/* That preparing fails, and what the message says. */
static inline void expect_refused(const struct part *parts, const struct tp_scheme *scheme, enum tp_status status,
                                  const char *const texts[], size_t text_count)
{
    struct scratch s;
    struct decoding x;
    scratch_make(&s);
    write_parts(&s, "x.safetensors", parts);
    const enum tp_status got =
        decoding_open(&x, scratch_at(&s, "x.safetensors"), scheme, (struct tp_decode_options){0});
    if (got != status)
        fail_msg("status %s, not %s: %s", tp_status_name(got), tp_status_name(status), x.err.message);
    assert_string_equal(x.err.tensor, x.d.codes->name);
    for (size_t i = 0; i < text_count; i++)
        expect_text(x.err.message, texts[i]);
    decoding_close(&x);
    scratch_remove(&s);
}
#define EXPECT_REFUSED(parts, scheme, status, ...)                            \
    expect_refused(parts, scheme, status, (const char *const[]){__VA_ARGS__}, \
                   sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

#endif
