/* SPDX-License-Identifier: MIT */
/* For tests of whole numbers packed into words: a model made of random numbers, its decoding compared with the formula,
 * and with what packages give. */
#ifndef TP_TESTS_UNIT_PACKING_H
#define TP_TESTS_UNIT_PACKING_H

#include "decoding.h"

#define BIG_SCRATCH ((size_t)12 << 20)

/* Field number `index` of a stream of words, word_fields in each, or (0) without gaps. */
static inline void put_field(uint32_t *words, size_t index, unsigned bits, unsigned word_fields, uint32_t value)
{
    for (unsigned b = 0; b < bits; b++) {
        size_t at = word_fields ? index / word_fields * 32 + index % word_fields * bits + b : index * bits + b;
        words[at / 32] |= (value >> b & 1) << (at % 32);
    }
}

static inline size_t words_for(size_t count, unsigned bits, unsigned word_fields)
{
    return word_fields ? (count + word_fields - 1) / word_fields : (count * bits + 31) / 32;
}

/* F16 scales that are neither subnormal nor large, and what they are worth. */
static inline uint16_t random_f16(float *value)
{
    const uint32_t exponent = 5 + next_random() % 12, mantissa = next_random() % 1024;
    *value = ldexpf((float)(1024 + mantissa), (int)exponent - 25);
    return (uint16_t)(exponent << 10 | mantissa);
}

/* -- a folder of one's own -- */

struct packing {
    struct scratch folder;
    struct decoding x;
};

static inline enum tp_status packing_open(struct packing *p, const char *config, const struct part *parts,
                                          const struct tp_scheme *scheme, struct tp_decode_options options)
{
    scratch_make(&p->folder);
    if (config)
        write_text(p->folder.path, "config.json", config);
    write_parts(&p->folder, "model.safetensors", parts);
    return decoding_open(&p->x, p->folder.path, scheme, options);
}

static inline void packing_close(struct packing *p)
{
    decoding_close(&p->x);
    scratch_remove(&p->folder);
}

static inline void expect_packing_refused(const char *config, const struct part *parts, const struct tp_scheme *scheme,
                                          enum tp_status status, const char *const texts[], size_t text_count)
{
    struct packing p;
    const enum tp_status got = packing_open(&p, config, parts, scheme, (struct tp_decode_options){0});
    if (got != status)
        fail_msg("status %s, not %s (%s): %s", tp_status_name(got), tp_status_name(status), texts[0], p.x.err.message);
    assert_string_equal(p.x.err.tensor, p.x.d.codes->name);
    for (size_t i = 0; i < text_count; i++)
        expect_text(p.x.err.message, texts[i]);
    packing_close(&p);
}
#define REFUSED(config, parts, scheme, status, ...)                                           \
    expect_packing_refused(config, parts, scheme, status, (const char *const[]){__VA_ARGS__}, \
                           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* -- values -- */

static inline void expect_same(const float *want, const float *got, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bits_of(want[first + i]) != bits_of(got[i]))
            fail_msg("element %zu: %g, not %g", first + i, (double)got[i], (double)want[first + i]);
}

/* Runs from anywhere, of any length. */
static inline void expect_runs(struct decoding *x, const float *want, unsigned runs)
{
    const size_t count = (size_t)x->d.elem_count;
    for (unsigned i = 0; i < runs; i++) {
        const size_t first = next_random() % count, most = count - first;
        const size_t n = next_random() % (i % 2 ? most : most < 100 ? most : 100) + 1;
        float *got = malloc(n * sizeof *got);
        if (decode_run(x, first, n, got))
            fail_msg("%s", x->err.message);
        expect_same(want, got, first, n);
        free(got);
    }
}

/* Whole and in pieces, with little scratch and with much. */
static inline void expect_values(struct decoding *x, const float *want)
{
    static const size_t steps[] = {1 << 20, 100003, 1000, 33, 7};
    const size_t count = (size_t)x->d.elem_count;
    for (size_t s = 0; s < TP_COUNT_OF(steps); s++) {
        if (count / steps[s] > 300000)
            continue;
        float *got = decode_all(x, steps[s]);
        expect_same(want, got, 0, count);
        free(got);
    }
    expect_runs(x, want, 6);
    free(x->scratch.bytes);
    x->scratch = (struct tp_scratch){.size_bytes = BIG_SCRATCH, .bytes = aligned_alloc(64, BIG_SCRATCH)};
    float *got = decode_all(x, 1 << 20);
    expect_same(want, got, 0, count);
    free(got);
    expect_runs(x, want, 6);
}

/* A golden folder. `transposed`: its values are [in, out], as GPTQ's and AWQ's packages have them; ours are [out, in].
 */
static inline void expect_golden_matrix(const char *name, const struct tp_scheme *scheme, bool transposed)
{
    struct decoding x;
    struct golden g;
    if (decoding_open(&x, data_path(name, "model.safetensors"), scheme, (struct tp_decode_options){0}))
        fail_msg("%s: %s", name, x.err.message);
    golden_open(&g, name, x.d.name);
    assert_int_equal(x.d.rank, 2);
    assert_int_equal(g.tensor->rank, 2);
    const size_t out = (size_t)g.tensor->shape[transposed], in = (size_t)g.tensor->shape[!transposed];
    assert_int_equal(x.d.shape[0], out);
    assert_int_equal(x.d.shape[1], in);
    assert_int_equal(x.d.elem_count, x.d.group->parameter_count);
    for (size_t step = 1 << 20; step > 0; step /= 31) {
        float *values = decode_all(&x, step);
        round_as(&x.kernels, g.tensor, values, in * out);
        for (size_t i = 0; i < in * out; i++) {
            const float want = g.values[transposed ? i % in * out + i / in : i];
            if (bits_of(values[i]) != bits_of(want))
                fail_msg("%s [%zu, %zu]: 0x%08x, not 0x%08x", name, i / in, i % in, bits_of(values[i]), bits_of(want));
        }
        free(values);
    }
    golden_close(&g);
    decoding_close(&x);
}

#endif
