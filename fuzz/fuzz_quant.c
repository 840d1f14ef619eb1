/* SPDX-License-Identifier: MIT */
/* --dequantize: a checkpoint of quantised weights with something wrong in it is refused with a clear error, or decoded;
 * what is decoded depends neither on how the elements are asked for nor on the CPU's level. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "fuzz.h"
#include "model.h"

#define RUN_MAX 1500u
#define WHOLE_MAX 8200u
#define VAST ((uint64_t)1 << 24) /* runs far apart take long: one is enough */

struct decoding {
    const struct tp_logical *logical;
    size_t item_bytes;
    struct tp_reader_state states[2]; /* the best level and the slowest, each with a scratch of its own */
    uint8_t *whole;                   /* all elements, where there are not too many; else NULL */
};

/* `count` elements in memory of just that size; the caller frees. NULL: refused, clearly. */
static uint8_t *decode(struct decoding *x, unsigned state, uint64_t first, uint64_t count)
{
    struct tp_error err = {.code = TP_OK};
    uint8_t *values = malloc(count ? (size_t)count * x->item_bytes : 1);
    FUZZ_CHECK(values != NULL);
    enum tp_status status = tp_logical_read(&x->states[state], x->logical, first, count, values, &err);
    if (!status)
        return values;
    fuzz_check_error(status, &err);
    free(values);
    return NULL;
}

/* A run by both levels; they agree with each other and with the whole. */
static void check_run(struct decoding *x, uint64_t first, uint64_t count)
{
    const size_t len = (size_t)count * x->item_bytes;
    uint8_t *fast = decode(x, 0, first, count), *slow = decode(x, 1, first, count);
    FUZZ_CHECK(!fast == !slow);
    FUZZ_CHECK(fast || !x->whole); /* what can be decoded whole can be decoded in parts */
    FUZZ_CHECK(!fast || memcmp(fast, slow, len) == 0);
    FUZZ_CHECK(!fast || !x->whole || memcmp(fast, x->whole + first * x->item_bytes, len) == 0);
    free(fast);
    free(slow);
}

static void check_decoded(struct decoding *x, struct fuzz_bytes *in)
{
    uint64_t elems = tp_logical_elem_count(x->logical), seed = fuzz_number(in, 1);
    const char *name = tp_logical_name(x->logical);
    FUZZ_CHECK(name && strlen(name) == tp_logical_name_len(x->logical));
    x->item_bytes = tp_dtype_bits((enum tp_dtype)x->logical->dtype) / 8;
    x->whole = elems <= WHOLE_MAX ? decode(x, 0, 0, elems) : NULL;
    if (elems <= WHOLE_MAX)
        check_run(x, 0, elems);
    for (unsigned i = elems < VAST ? 0 : 3; i < 4 && elems > 0; i++) {
        uint64_t wide = (uint64_t)fuzz_random(&seed) << 31 | fuzz_random(&seed);
        uint64_t last = fuzz_random(&seed) % (elems < 99 ? elems : 99);
        uint64_t first = i == 3 && seed % 2 == 0 ? elems - 1 - last : wide % elems;
        uint64_t count = 1 + fuzz_random(&seed) % RUN_MAX;
        check_run(x, first, count < elems - first ? count : elems - first);
    }
    free(x->whole);
}

static void check_plan(const struct tp_checkpoint *ck, struct fuzz_bytes *in)
{
    static uint8_t *scratch[2];
    struct tp_plan plan;
    struct tp_error err = {.code = TP_OK};
    struct tp_convert_options options;
    struct model_globs globs;
    model_options(&options, &globs, in);
    const struct tp_format *format =
        options.format == TP_OUTPUT_SAFETENSORS ? &tp_format_safetensors : &tp_format_flax_msgpack;
    enum tp_status status = tp_plan_build(&plan, ck, &options, format->traits, &err);
    if (status) {
        fuzz_check_error(status, &err);
        return;
    }
    const struct tp_kernels *const kernels[2] = {fuzz_kernels(), fuzz_slow_kernels()};
    struct decoding x = {.logical = NULL};
    for (unsigned i = 0; i < 2; i++) {
        if (!scratch[i])
            scratch[i] = aligned_alloc(64, TP_SCRATCH_MIN_BYTES);
        FUZZ_CHECK(scratch[i] != NULL);
        x.states[i] = (struct tp_reader_state){
            .ck = ck, .kernels = kernels[i], .scratch = {scratch[i], TP_SCRATCH_MIN_BYTES, NULL, 0}};
    }
    for (size_t i = 0; i < plan.logical_count; i++) {
        x.logical = &plan.logicals[i];
        if (x.logical->decoded)
            check_decoded(&x, in);
    }
    status = format->layout(&plan, &options, &err);
    if (status)
        fuzz_check_error(status, &err);
    tp_plan_release(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    struct fuzz_bytes in = {data, size};
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    model_make(&model, &in, true);
    model_write(&model, &in, "");
    enum tp_status status = tp_checkpoint_open(&ck, fuzz_folder(), NULL, &err);
    if (status) {
        fuzz_check_error(status, &err);
    } else {
        fuzz_check_checkpoint(ck);
        check_plan(ck, &in);
    }
    tp_checkpoint_close(ck);
    model_release(&model);
    fuzz_clear();
    return 0;
}
