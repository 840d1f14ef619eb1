/* SPDX-License-Identifier: MIT */
/* modelopt's W4A16_AWQ: whole numbers of 4 bits, two outputs a byte.
 *
 *     weight U8 [out / 2, in]    weight_scale [out, in / group]    pre_quant_scale [in], of some modules
 *
 * A byte holds output 2r in its low bits and 2r + 1 in its high ones, in two's complement. Where the inputs have scales
 * of their own, the weight that stands for both is the product: w = (q * weight_scale) * pre_quant_scale, each step
 * rounded to float32. Elsewhere modelopt has given them to the layer before. W4A8_AWQ has a second scale, and is
 * refused. */
#include "quant/affine.h"

#include <inttypes.h>
#include <math.h>

#include "base/status.h"
#include "quant/schemes.h"

#define BITS 4u
#define IN_BYTE 2u
#define CHUNK 2048u

enum part { INPUT_SCALES };

/* ---- loading ---- */

/* To add 8 to a number in two's complement is to turn its sign over: then 8 is the zero point of all. */
static enum tp_status load_words(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const uint64_t length = d->codes->shape[1], room = tile->stage_words * sizeof(uint32_t);
    const uint8_t *bytes = tile->stage;
    for (uint64_t r = 0; r < tile->rows / IN_BYTE; r++) {
        uint32_t *words = tile->words + r * tile->row_words;
        const uint64_t first = (tile->row / IN_BYTE + r) * length + tile->column;
        for (uint64_t done = 0, n; done < tile->columns; done += n) {
            n = tile->columns - done < room ? tile->columns - done : room;
            enum tp_status status = tp_tensor_read(d->ck, d->codes, first + done, n, tile->stage, err);
            if (status)
                return status;
            for (uint64_t i = 0; i < n; i++)
                words[done + i] = bytes[i] ^ 0x88u;
        }
    }
    return TP_OK;
}

static enum tp_status load_scales(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    return tp_affine_read_scales(d, tile->row, tile->rows, tile->group, tile->groups, tile->scales, err);
}

static const struct tp_affine_layout layout = {
    .load_words = load_words,
    .load_scales = load_scales,
    .row_share = IN_BYTE,
    .shifts = {0, BITS},
};

/* ---- decoding ---- */

static enum tp_status check_input_scales(const struct tp_decoded *d, const float *scales, uint64_t first, size_t n,
                                         struct tp_error *err)
{
    for (size_t i = 0; !d->options.nan_scales && i < n; i++)
        if (!isfinite(scales[i]))
            return tp_decoded_refuse(d, d->parts[INPUT_SCALES], err, "scale %" PRIu64 " is %s", first + i,
                                     isnan(scales[i]) ? "not a number" : "infinite");
    return TP_OK;
}

static enum tp_status scale_inputs(const struct tp_decoded *d, uint64_t first, uint64_t count, float *dst,
                                   struct tp_error *err)
{
    float scales[CHUNK];
    const uint64_t columns = d->shape[1];
    for (uint64_t done = 0; done < count;) {
        const uint64_t column = (first + done) % columns, left = columns - column;
        uint64_t n = left < count - done ? left : count - done;
        n = n < CHUNK ? n : CHUNK;
        enum tp_status status = tp_decoded_read_scales(d, d->parts[INPUT_SCALES], column, n, scales, err);
        if (!status)
            status = check_input_scales(d, scales, column, (size_t)n, err);
        if (status)
            return status;
        for (uint64_t i = 0; i < n; i++)
            dst[done + i] *= scales[i];
        done += n;
    }
    return TP_OK;
}

static enum tp_status decode(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err)
{
    enum tp_status status = tp_affine_decode(d, scratch, kernels, first, count, dst, err);
    return !status && d->parts[INPUT_SCALES] ? scale_inputs(d, first, count, dst, err) : status;
}

/* ---- what is proved before ---- */

static enum tp_status check_members(const struct tp_decoded *d, void *params, const struct tp_quant_way *way,
                                    struct tp_error *err)
{
    struct tp_affine *a = params;
    const struct tp_tensor *codes = d->codes, *inputs = d->parts[INPUT_SCALES];
    if (codes->rank != 2 || codes->elem_count == 0 || TP_MUL_OVERFLOW(codes->shape[0], (uint64_t)IN_BYTE, &a->rows))
        return tp_decoded_refuse(d, a->scales, err, "int4 codes are a matrix [out / 2, in], and not empty");
    a->columns = codes->shape[1];
    const uint64_t groups = a->scales->rank == 2 ? a->scales->shape[1] : 0;
    enum tp_status status = tp_affine_expect_shape(d, a->scales, "scales", (const uint64_t[]){a->rows, groups}, 2, err);
    if (!status && inputs)
        status = tp_affine_expect_shape(d, inputs, "scales of the inputs", &a->columns, 1, err);
    return status ? status : tp_affine_set_groups(d, a, way->group_size, groups, false, err);
}

static enum tp_status check_dtypes(const struct tp_decoded *d, const struct tp_affine *a, struct tp_error *err)
{
    const struct tp_tensor *second = tp_decoded_member(d, ".weight_scale_2");
    if (!a->scales)
        return tp_decoded_refuse(d, NULL, err, "int4 codes without scales");
    if (second)
        return tp_decoded_refuse(d, second, err, "a second scale (of W4A8_AWQ) beside that of int4 cannot be decoded");
    enum tp_status status = tp_affine_expect_dtype(d, d->codes, "codes", 1u << TP_U8, err);
    if (!status)
        status = tp_affine_expect_dtype(d, a->scales, "scales", TP_AFFINE_FLOATS, err);
    return status ? status
                  : tp_affine_expect_dtype(d, d->parts[INPUT_SCALES], "scales of the inputs", TP_AFFINE_FLOATS, err);
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    struct tp_affine *a = tp_arena_alloc(arena, sizeof *a);
    if (!a)
        return tp_fail_nomem(err);
    *a = (struct tp_affine){.layout = &layout,
                            .scales = tp_decoded_member(d, ".weight_scale"),
                            .bits = BITS,
                            .word_fields = 1, /* of one output; the other is its neighbour's */
                            .zero = 8};
    d->params = a;
    d->parts[INPUT_SCALES] = tp_decoded_member(d, ".pre_quant_scale");
    enum tp_status status = check_dtypes(d, a, err);
    if (!status)
        status = tp_affine_check_ways(d, a, sizeof *a, check_members, err);
    if (!status)
        status = tp_decoded_set_name(d, arena, ".weight", err);
    return status ? status : tp_decoded_set_shape(d, arena, (const uint64_t[]){a->rows, a->columns}, 2, err);
}

const struct tp_scheme tp_scheme_int4 = {.name = "int4", .prepare = prepare, .decode = decode};
