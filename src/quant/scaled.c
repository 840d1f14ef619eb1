/* SPDX-License-Identifier: MIT */
/* One byte a value, times a scale: FP8 of every producer, INT8 of compressed-tensors and modelopt, and bitsandbytes'
 * INT8. Which scale belongs to which code is scale_grid.c's to say; here codes meet scales.
 *
 *     fp8       w = q * s                         one rounding
 *     int8      w = (q - z) * s                   q - z is exact; one rounding
 *     bnb-int8  w = (q * SCB) * (1/127)           three roundings, that of 1/127 among them, as bitsandbytes multiplies
 *
 * From top to bottom: the schemes, checks, decoding, the scales that lie in the scratch. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "quant/scale_grid.h"
#include "quant/schemes.h"

enum part { SCALES, ZEROS };

struct scaled;
/* n codes that share *scale and *zero, or, with `each`, have one of their own. */
typedef void (*apply_fn)(const struct scaled *p, const struct tp_kernels *kernels, float *dst, const uint8_t *codes,
                         size_t n, const float *scale, const float *zero, bool each);

struct scaled {
    struct tp_scale_grid grid;
    apply_fn apply;
    enum tp_f8_kind kind; /* fp8 */
};

/* ---- the schemes ---- */

static enum tp_status prepare_fp8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err);
static enum tp_status prepare_int8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err);
static enum tp_status prepare_bnb_int8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err);
static enum tp_status decode(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err);
static enum tp_status round_fp8(const struct tp_decoded *d, struct tp_scratch *scratch,
                                const struct tp_kernels *kernels, uint64_t first, uint64_t count, void *dst,
                                bool saturate, struct tp_stats *stats, struct tp_error *err);

const struct tp_scheme tp_scheme_fp8 = {
    .name = "fp8", .prepare = prepare_fp8, .decode = decode, .round_bf16 = round_fp8};
const struct tp_scheme tp_scheme_int8 = {.name = "int8", .prepare = prepare_int8, .decode = decode};
const struct tp_scheme tp_scheme_bnb_int8 = {.name = "bnb-int8", .prepare = prepare_bnb_int8, .decode = decode};

static void apply_fp8(const struct scaled *p, const struct tp_kernels *kernels, float *dst, const uint8_t *codes,
                      size_t n, const float *scale, const float *zero, bool each)
{
    (void)zero; /* none but zeros are let in */
    kernels->f8_to_f32(dst, codes, n, p->kind, each ? 1.0F : *scale);
    for (size_t i = 0; each && i < n; i++)
        dst[i] *= scale[i];
}

static float signed_value(uint8_t code)
{
    return (float)(code < 128 ? (int)code : (int)code - 256);
}

static void apply_int8(const struct scaled *p, const struct tp_kernels *kernels, float *dst, const uint8_t *codes,
                       size_t n, const float *scale, const float *zero, bool each)
{
    (void)p;
    (void)kernels;
    if (each) {
        for (size_t i = 0; i < n; i++)
            dst[i] = (signed_value(codes[i]) - zero[i]) * scale[i];
        return;
    }
    const float s = *scale, z = *zero;
    for (size_t i = 0; i < n; i++)
        dst[i] = (signed_value(codes[i]) - z) * s;
}

static void apply_bnb_int8(const struct scaled *p, const struct tp_kernels *kernels, float *dst, const uint8_t *codes,
                           size_t n, const float *scale, const float *zero, bool each)
{
    (void)p;
    (void)kernels;
    (void)zero;
    for (size_t i = 0; i < n; i++)
        dst[i] = signed_value(codes[i]) * scale[each ? i : 0] * 0x1.020408p-7F; /* 1/127 in float32 */
}

/* ---- checks ---- */

static bool has_dtype(const struct tp_tensor *t, const enum tp_dtype *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (t->dtype == list[i])
            return true;
    return false;
}

static enum tp_status check_dtype(const struct tp_decoded *d, const struct tp_tensor *t, const char *what,
                                  const enum tp_dtype *list, size_t count, struct tp_error *err)
{
    if (has_dtype(t, list, count))
        return TP_OK;
    return tp_decoded_refuse(d, t, err, "scheme %s has no %s of dtype %s", d->scheme->name, what,
                             tp_dtype_name((enum tp_dtype)t->dtype));
}

static const enum tp_dtype scale_dtypes[] = {TP_F32, TP_BF16, TP_F16, TP_F8_E8M0, TP_U8};
static const enum tp_dtype fp8_zero_dtypes[] = {TP_F32,     TP_BF16,    TP_F16,         TP_I8,
                                                TP_F8_E4M3, TP_F8_E5M2, TP_F8_E4M3FNUZ, TP_F8_E5M2FNUZ};
static const enum tp_dtype int8_dtypes[] = {TP_I8};

static enum tp_status find_scales(struct tp_decoded *d, struct tp_error *err)
{
    static const char *const names[] = {".weight_scale_inv", ".weight_scale", ".scale", "_scale_inv", "_scale"};
    for (size_t i = 0; i < TP_COUNT_OF(names) && !d->parts[SCALES]; i++)
        d->parts[SCALES] = tp_decoded_member(d, names[i]);
    if (!d->parts[SCALES])
        return tp_decoded_refuse(d, NULL, err, "codes of scheme %s without scales", d->scheme->name);
    const struct tp_tensor *smoothing = tp_decoded_member(d, ".pre_quant_scale");
    if (smoothing)
        return tp_decoded_refuse(d, smoothing, err, "a scale of the columns beside that of scheme %s cannot be decoded",
                                 d->scheme->name);
    return check_dtype(d, d->parts[SCALES], "scales", scale_dtypes, TP_COUNT_OF(scale_dtypes), err);
}

/* The next dimension that is not 1, from *at on; 1 at the end. */
static uint64_t next_wide(const struct tp_tensor *t, unsigned *at)
{
    while (*at < t->rank && t->shape[*at] == 1)
        ++*at;
    return *at < t->rank ? t->shape[(*at)++] : 1;
}

/* [], [1] and [1, 1] are one grid, [out] and [out, 1] too. */
static bool same_grid(const struct tp_tensor *a, const struct tp_tensor *b)
{
    unsigned i = 0, k = 0;
    while (i < a->rank || k < b->rank)
        if (next_wide(a, &i) != next_wide(b, &k))
            return false;
    return true;
}

static enum tp_status find_zeros(struct tp_decoded *d, const enum tp_dtype *list, size_t count, struct tp_error *err)
{
    char zeros[TP_SHAPE_TEXT], scales[TP_SHAPE_TEXT];
    const struct tp_tensor *s = d->parts[SCALES], *z = tp_decoded_member(d, ".weight_zero_point");
    d->parts[ZEROS] = z;
    if (!z)
        return TP_OK;
    if (!same_grid(z, s))
        return tp_decoded_refuse(d, z, err, "zero points of shape %s do not fit scales of shape %s",
                                 tp_describe_shape(zeros, z->shape, z->rank),
                                 tp_describe_shape(scales, s->shape, s->rank));
    return check_dtype(d, z, "zero points", list, count, err);
}

/* Names and shapes stay as they are: one code a value. */
static enum tp_status finish(struct tp_decoded *d, struct tp_arena *arena, const struct scaled *params,
                             struct tp_error *err)
{
    struct scaled *kept = tp_arena_alloc(arena, sizeof *kept);
    if (!kept)
        return tp_fail_nomem(err);
    *kept = *params;
    d->params = kept;
    enum tp_status status = tp_decoded_set_name(d, arena, d->codes->name + strlen(d->group->name), err);
    return status ? status : tp_decoded_set_shape(d, arena, d->codes->shape, d->codes->rank, err);
}

static enum tp_status prepare_fp8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    static const enum tp_dtype kinds[TP_F8_KIND_COUNT] = {
        [TP_F8_KIND_E4M3] = TP_F8_E4M3,
        [TP_F8_KIND_E5M2] = TP_F8_E5M2,
        [TP_F8_KIND_E4M3FNUZ] = TP_F8_E4M3FNUZ,
        [TP_F8_KIND_E5M2FNUZ] = TP_F8_E5M2FNUZ,
    };
    struct scaled params = {.apply = apply_fp8};
    enum tp_status status = check_dtype(d, d->codes, "codes", kinds, TP_COUNT_OF(kinds), err);
    while (!status && kinds[params.kind] != (enum tp_dtype)d->codes->dtype)
        params.kind++;
    if (!status)
        status = find_scales(d, err);
    if (!status)
        status = find_zeros(d, fp8_zero_dtypes, TP_COUNT_OF(fp8_zero_dtypes), err);
    if (!status)
        status = tp_scale_grid_find(&params.grid, d, d->parts[SCALES], err);
    return status ? status : finish(d, arena, &params, err);
}

static enum tp_status prepare_int8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    struct scaled params = {.apply = apply_int8};
    enum tp_status status = check_dtype(d, d->codes, "codes", int8_dtypes, TP_COUNT_OF(int8_dtypes), err);
    if (!status)
        status = find_scales(d, err);
    if (!status)
        status = find_zeros(d, int8_dtypes, TP_COUNT_OF(int8_dtypes), err);
    if (!status)
        status = tp_scale_grid_find(&params.grid, d, d->parts[SCALES], err);
    return status ? status : finish(d, arena, &params, err);
}

/* 0: rows, as in the shape. The others (col32, ...) are orders of GPUs that no file needs. */
static enum tp_status check_weight_format(const struct tp_decoded *d, struct tp_error *err)
{
    const struct tp_tensor *t = tp_decoded_member(d, ".weight_format");
    uint8_t format = 0;
    if (!t)
        return TP_OK;
    if (t->dtype != TP_U8 || t->elem_count != 1)
        return tp_decoded_refuse(d, t, err, "weight_format is %" PRIu64 " values of dtype %s, expected one U8",
                                 t->elem_count, tp_dtype_name((enum tp_dtype)t->dtype));
    enum tp_status status = tp_tensor_read(d->ck, t, 0, 1, &format, err);
    if (!status && format != 0)
        status = tp_decoded_refuse(d, t, err, "weight_format is %u, expected 0 (rows)", format);
    return status;
}

static enum tp_status prepare_bnb_int8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    static const enum tp_dtype f32[] = {TP_F32};
    char codes[TP_SHAPE_TEXT], scales[TP_SHAPE_TEXT];
    const struct tp_tensor *q = d->codes, *scb = tp_decoded_member(d, ".SCB");
    if (!scb)
        return tp_decoded_refuse(d, NULL, err, "codes of scheme bnb-int8 without SCB");
    d->parts[SCALES] = scb;
    if (q->rank != 2 || scb->rank != 1 || scb->shape[0] != q->shape[0])
        return tp_decoded_refuse(d, scb, err, "codes of shape %s with SCB of shape %s, expected [out, in] and [out]",
                                 tp_describe_shape(codes, q->shape, q->rank),
                                 tp_describe_shape(scales, scb->shape, scb->rank));
    enum tp_status status = check_dtype(d, q, "codes", int8_dtypes, TP_COUNT_OF(int8_dtypes), err);
    if (!status)
        status = check_dtype(d, scb, "SCB", f32, TP_COUNT_OF(f32), err);
    if (!status)
        status = check_weight_format(d, err);
    struct scaled params = {.grid = {q->shape[0], q->shape[1], 1, q->shape[1], q->shape[0], 1},
                            .apply = apply_bnb_int8};
    return status ? status : finish(d, arena, &params, err);
}

/* ---- decoding ---- */

/* The scratch: a window of scales, the zero points that go with them, and codes in what remains. The windows stay from
 * call to call: 2^16 scales are those of 2^30 codes in blocks, and of many rows otherwise. */
#define WINDOW ((uint64_t)1 << 16)
#define WINDOW_BYTES ((size_t)WINDOW * sizeof(float))

struct run {
    const struct tp_decoded *d;
    const struct scaled *params;
    const struct tp_kernels *kernels;
    struct tp_scratch *scratch;
    const float *scales, *zeros;       /* of the window */
    uint64_t first_scale, scale_count; /* that lie in it; none before the first window_hold */
    unsigned item_bytes;               /* of what is written: float32, or bfloat16 with what follows */
    bool saturate;
    struct tp_stats *stats;
};

static enum tp_status window_hold(struct run *run, uint64_t scale, struct tp_error *err);

/* n codes that have a scale each, to bfloat16. */
static void round_each(const struct run *run, uint8_t *dst, const uint8_t *codes, size_t n, const float *scales,
                       const float *zeros)
{
    float values[512];
    for (size_t i = 0, count = 0; i < n; i += count) {
        count = n - i < TP_COUNT_OF(values) ? n - i : TP_COUNT_OF(values);
        run->params->apply(run->params, run->kernels, values, codes + i, count, scales + i, zeros + i, true);
        run->kernels->cast[TP_KIND_F32][TP_KIND_BF16](dst + i * run->item_bytes, values, count, run->saturate,
                                                      run->stats);
    }
}

/* n codes, of which every `block` share a scale, the first of them number `at` of the window. To float32: no more than
 * one block, or blocks of 1. */
static void apply(const struct run *run, uint8_t *dst, const uint8_t *codes, size_t n, uint64_t at, uint64_t block)
{
    const struct scaled *p = run->params;
    const float *scales = run->scales + at, *zeros = run->zeros + at;
    if (run->item_bytes == sizeof(float))
        p->apply(p, run->kernels, (float *)(void *)dst, codes, n, scales, zeros, block == 1);
    else if (block == 1)
        round_each(run, dst, codes, n, scales, zeros);
    else
        run->kernels->f8_to_bf16(dst, codes, n, p->kind, scales, (size_t)block, run->saturate, run->stats);
}

/* Of how many scales the next codes can be applied at once, if `left` of the first one's are left. */
static uint64_t scales_at_once(const struct run *run, uint64_t left, size_t n, uint64_t room)
{
    const uint64_t block = run->params->grid.block_columns, whole = n / block < room ? n / block : room;
    const bool can_be_many = block == 1 || (run->item_bytes != sizeof(float) && left == block);
    return can_be_many && whole > 1 ? whole : 1;
}

/* Codes of one row, the first of which is in `column`. */
static enum tp_status decode_in_row(struct run *run, uint64_t row, uint64_t column, const uint8_t *codes, size_t n,
                                    uint8_t *dst, struct tp_error *err)
{
    const struct tp_scale_grid *grid = &run->params->grid;
    uint64_t scale = tp_scale_grid_row(grid, row) + column / grid->block_columns;
    uint64_t left = grid->block_columns - column % grid->block_columns; /* of the block */
    while (n > 0) {
        uint64_t at = scale - run->first_scale;
        if (at >= run->scale_count) {
            enum tp_status status = window_hold(run, scale, err);
            if (status)
                return status;
            at = scale - run->first_scale;
        }
        const uint64_t count = scales_at_once(run, left, n, run->scale_count - at);
        const uint64_t reach = left + (count - 1) * grid->block_columns;
        const size_t here = reach < n ? (size_t)reach : n;
        apply(run, dst, codes, here, at, grid->block_columns);
        scale += count;
        left = grid->block_columns;
        dst += here * run->item_bytes;
        codes += here;
        n -= here;
    }
    return TP_OK;
}

static enum tp_status decode_codes(struct run *run, uint64_t first, const uint8_t *codes, size_t n, uint8_t *dst,
                                   struct tp_error *err)
{
    const uint64_t columns = run->params->grid.columns;
    uint64_t row = first / columns, column = first % columns;
    enum tp_status status = TP_OK;
    while (!status && n > 0) {
        size_t here = columns - column < n ? (size_t)(columns - column) : n;
        status = decode_in_row(run, row, column, codes, here, dst, err);
        row++;
        column = 0;
        dst += here * run->item_bytes;
        codes += here;
        n -= here;
    }
    return status;
}

static enum tp_status decode_run(struct run *run, uint64_t first, uint64_t count, uint8_t *dst, struct tp_error *err)
{
    struct tp_scratch *scratch = run->scratch;
    uint8_t *codes = scratch->bytes + 2 * WINDOW_BYTES;
    const size_t room = scratch->size_bytes - 2 * WINDOW_BYTES;
    enum tp_status status = TP_OK;
    while (!status && count > 0) {
        size_t n = count < room ? (size_t)count : room;
        status = tp_tensor_read(run->d->ck, run->d->codes, first, n, codes, err);
        if (!status)
            status = decode_codes(run, first, codes, n, dst, err);
        first += n;
        count -= n;
        dst += n * run->item_bytes;
    }
    return status;
}

static enum tp_status decode(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err)
{
    struct run run = {.d = d, .params = d->params, .kernels = kernels, .scratch = scratch, .item_bytes = sizeof(float)};
    return decode_run(&run, first, count, (uint8_t *)dst, err);
}

static enum tp_status round_fp8(const struct tp_decoded *d, struct tp_scratch *scratch,
                                const struct tp_kernels *kernels, uint64_t first, uint64_t count, void *dst,
                                bool saturate, struct tp_stats *stats, struct tp_error *err)
{
    struct run run = {.d = d, .params = d->params, .kernels = kernels, .scratch = scratch, .item_bytes = 2};
    run.saturate = saturate;
    run.stats = stats;
    return decode_run(&run, first, count, dst, err);
}

/* ---- scales and zero points ---- */

/* Zero is what rows and blocks of zeros have. No package writes the others. */
static enum tp_status check_scales(const struct tp_decoded *d, float *scales, size_t n, uint64_t first,
                                   struct tp_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (scales[i] >= 0 && scales[i] <= FLT_MAX)
            continue;
        if (!isnan(scales[i]) || !d->options.nan_scales)
            return tp_decoded_refuse(d, d->parts[SCALES], err, "scale %" PRIu64 " is %s", first + i,
                                     isnan(scales[i])   ? "NaN"
                                     : scales[i] < 0.0F ? "negative"
                                                        : "infinite");
        scales[i] = NAN; /* one NaN for all, lest its bits depend on the order of a product */
    }
    return TP_OK;
}

/* Floats have none; compressed-tensors writes them all the same. */
static enum tp_status check_zeros(const struct tp_decoded *d, const float *zeros, size_t n, uint64_t first,
                                  struct tp_error *err)
{
    for (size_t i = 0; d->scheme == &tp_scheme_fp8 && i < n; i++)
        if (!(zeros[i] >= 0 && zeros[i] <= 0))
            return tp_decoded_refuse(d, d->parts[ZEROS], err,
                                     "zero point %" PRIu64 " is %g, but codes of scheme fp8 have none", first + i,
                                     (double)zeros[i]);
    return TP_OK;
}

static enum tp_status window_fill(const struct run *run, float *scales, float *zeros, struct tp_error *err)
{
    const struct tp_decoded *d = run->d;
    const size_t n = (size_t)run->scale_count;
    enum tp_status status = tp_decoded_read_scales(d, d->parts[SCALES], run->first_scale, n, scales, err);
    if (!status)
        status = check_scales(d, scales, n, run->first_scale, err);
    if (status)
        return status;
    if (!d->parts[ZEROS]) {
        memset(zeros, 0, n * sizeof *zeros);
        return TP_OK;
    }
    status = tp_tensor_read_f32(d->ck, d->parts[ZEROS], run->first_scale, n, zeros, err);
    return status ? status : check_zeros(d, zeros, n, run->first_scale, err);
}

/* Have the window that `scale` lies in. */
static enum tp_status window_hold(struct run *run, uint64_t scale, struct tp_error *err)
{
    struct tp_scratch *scratch = run->scratch;
    float *scales = (float *)(void *)scratch->bytes, *zeros = (float *)(void *)(scratch->bytes + WINDOW_BYTES);
    const uint64_t total = run->d->parts[SCALES]->elem_count;
    run->first_scale = scale - scale % WINDOW;
    run->scale_count = total - run->first_scale < WINDOW ? total - run->first_scale : WINDOW;
    run->scales = scales;
    run->zeros = zeros;
    if (scratch->owner == run->d && scratch->key == run->first_scale)
        return TP_OK;
    scratch->owner = NULL;
    enum tp_status status = window_fill(run, scales, zeros, err);
    if (status)
        return status;
    scratch->owner = run->d;
    scratch->key = run->first_scale;
    return TP_OK;
}
