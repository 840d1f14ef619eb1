/* SPDX-License-Identifier: MIT */
/* NVFP4: 16 neighbouring E2M1 values share an E4M3 scale, and these share a float32 one, by which modelopt multiplies
 * and compressed-tensors divides: value = code * float32(scale * global), code * float32(scale / global). Rows are
 * whole blocks, so codes and scales are one long row each. Code 8 is -0.0, as compressed-tensors decodes it (modelopt's
 * own tool gives +0.0, though what it encodes is a negative value that was rounded). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "quant/schemes.h"

#define BLOCK 16u /* values that share a scale */
#define BLOCK_BYTES 8u

enum part { SCALES, GLOBAL };

struct form {
    const char *codes, *global;
    bool divides;
};
static const struct form forms[] = {
    {".weight", ".weight_scale_2", false},
    {".weight_packed", ".weight_global_scale", true},
};

struct nvfp4 {
    bool divides;
    uint64_t blocks_per_global; /* of all blocks, or those of one expert */
};

/* ---- preparing ---- */

static enum tp_status check_shapes(const struct tp_decoded *d, struct tp_error *err)
{
    char codes_text[TP_SHAPE_TEXT], scales_text[TP_SHAPE_TEXT], needed_text[TP_SHAPE_TEXT];
    const struct tp_tensor *codes = d->codes, *scales = d->parts[SCALES];
    const unsigned rank = codes->rank;
    uint64_t needed[3];
    tp_describe_shape(codes_text, codes->shape, rank);
    tp_describe_shape(scales_text, scales->shape, scales->rank);
    if (rank != 2 && rank != 3)
        return tp_decoded_refuse(d, scales, err, "nvfp4 codes of shape %s are neither a matrix nor a stack of matrices",
                                 codes_text);
    memcpy(needed, codes->shape, rank * sizeof *needed);
    if (needed[rank - 1] % BLOCK_BYTES != 0)
        return tp_decoded_refuse(d, scales, err,
                                 "nvfp4 codes of shape %s: a row is not whole blocks of %u values, %u bytes",
                                 codes_text, BLOCK, BLOCK_BYTES);
    needed[rank - 1] /= BLOCK_BYTES;
    tp_describe_shape(needed_text, needed, rank);
    if (scales->rank != rank || memcmp(scales->shape, needed, rank * sizeof *needed) != 0)
        return tp_decoded_refuse(d, scales, err, "nvfp4 codes of shape %s need scales of shape %s, but these are %s",
                                 codes_text, needed_text, scales_text);
    return TP_OK;
}

/* One for all, or one for each matrix of a stack: [experts], [experts, 1], [experts, 1, 1]. */
static enum tp_status check_global(const struct tp_decoded *d, struct nvfp4 *nv, struct tp_error *err)
{
    char codes_text[TP_SHAPE_TEXT], text[TP_SHAPE_TEXT];
    const struct tp_tensor *global = d->parts[GLOBAL], *scales = d->parts[SCALES];
    nv->blocks_per_global = scales->elem_count;
    if (global->elem_count == 1)
        return TP_OK;
    if (scales->rank == 3 && global->rank >= 1 && global->rank <= 3 && global->shape[0] == scales->shape[0] &&
        global->elem_count == scales->shape[0]) {
        if (global->elem_count > 0)
            nv->blocks_per_global = scales->elem_count / global->elem_count;
        return TP_OK;
    }
    return tp_decoded_refuse(d, global, err,
                             "nvfp4 codes of shape %s go with one global scale, or one for each matrix "
                             "of a stack, but their shape is %s",
                             tp_describe_shape(codes_text, d->codes->shape, d->codes->rank),
                             tp_describe_shape(text, global->shape, global->rank));
}

/* A global scale scales whole matrices, so what no package writes is an error: it would be one everywhere. Zero is what
 * modelopt writes for a matrix of zeros. */
static enum tp_status read_global(const struct tp_decoded *d, uint64_t index, float *value, struct tp_error *err)
{
    const struct nvfp4 *nv = d->params;
    const struct tp_tensor *global = d->parts[GLOBAL];
    char text[TP_COUNT_TEXT];
    uint8_t bytes[4];
    double wide = 0;
    enum tp_status st = tp_tensor_read(d->ck, global, index, 1, bytes, err);
    if (st)
        return st;
    (void)tp_dtype_to_f64(&wide, bytes, 1, (enum tp_dtype)global->dtype);
    *value = (float)wide; /* F32, F16 or BF16: exact */
    if (isnan(wide) && d->options.nan_scales)
        return TP_OK;
    if (!isfinite(wide) || wide < 0 || (nv->divides && wide == 0))
        return tp_decoded_refuse(d, global, err, "global scale number %s is %g, not a positive finite number",
                                 tp_describe_count(text, index), wide);
    return TP_OK;
}

static enum tp_status set_shape(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    const struct tp_tensor *scales = d->parts[SCALES];
    uint64_t shape[3];
    memcpy(shape, scales->shape, scales->rank * sizeof *shape);
    if (TP_MUL_OVERFLOW(shape[scales->rank - 1], (uint64_t)BLOCK, &shape[scales->rank - 1]))
        return tp_decoded_refuse(d, scales, err, "the decoded tensor would have more elements than can be counted");
    return tp_decoded_set_shape(d, arena, shape, scales->rank, err);
}

static const struct form *form_of(struct tp_decoded *d)
{
    d->parts[SCALES] = tp_decoded_member(d, ".weight_scale");
    for (size_t i = 0; i < TP_COUNT_OF(forms); i++) {
        d->parts[GLOBAL] = tp_decoded_member(d, forms[i].global);
        if (d->parts[SCALES] && d->parts[GLOBAL] && tp_decoded_member(d, forms[i].codes) == d->codes)
            return &forms[i];
    }
    return NULL;
}

/* What modelopt's NVFP4_AWQ leaves to the layer before, which is not there to take it. */
static enum tp_status refuse_input_scales(const struct tp_decoded *d, struct tp_error *err)
{
    const struct tp_tensor *input_scales = tp_decoded_member(d, ".pre_quant_scale");
    char name[TP_NAME_TEXT];
    if (!input_scales)
        return TP_OK;
    enum tp_status st = tp_fail(err, TP_ERR_UNSUPPORTED,
                                "NVFP4_AWQ: the inputs have scales of their own ('%s'), which cannot be decoded yet",
                                tp_describe_name(name, input_scales->name, input_scales->name_len));
    tp_err_path(err, st, tp_checkpoint_path(d->ck));
    return tp_err_tensor(err, st, d->codes->name, d->codes->name_len);
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    float global;
    const struct form *form = form_of(d);
    struct nvfp4 *nv = tp_arena_alloc(arena, sizeof *nv);
    if (!nv)
        return tp_fail_nomem(err);
    d->params = nv;
    if (!form)
        return tp_decoded_refuse(d, NULL, err, "nvfp4 codes without scales");
    nv->divides = form->divides;
    enum tp_status st = refuse_input_scales(d, err);
    if (!st)
        st = check_shapes(d, err);
    if (!st)
        st = check_global(d, nv, err);
    if (!st && d->parts[GLOBAL]->elem_count > 0)
        st = read_global(d, 0, &global, err);
    if (!st)
        st = set_shape(d, arena, err);
    return st ? st : tp_decoded_set_name(d, arena, ".weight", err);
}

/* ---- decoding ---- */

/* What each code of a block's scale stands for. */
struct scale_table {
    float value[256];
    uint64_t global; /* whose it is */
};

static enum tp_status table_make(struct scale_table *table, const struct tp_decoded *d,
                                 const struct tp_kernels *kernels, uint64_t number, struct tp_error *err)
{
    uint8_t codes[256];
    float global;
    enum tp_status st = read_global(d, number, &global, err);
    const bool divides = ((const struct nvfp4 *)d->params)->divides;
    if (st)
        return st;
    for (unsigned i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    kernels->f8_to_f32(table->value, codes, 256, TP_F8_KIND_E4M3, divides ? 1 : global);
    for (unsigned i = 0; i < 256 && divides; i++)
        table->value[i] /= global;
    table->global = number;
    return TP_OK;
}

/* No package writes negative ones (-0.0 is harmless). */
static enum tp_status check_scales(const struct tp_decoded *d, const uint8_t *scales, size_t n, uint64_t first,
                                   struct tp_error *err)
{
    char text[TP_COUNT_TEXT];
    for (size_t i = 0; i < n; i++) {
        const bool is_nan = (scales[i] & 0x7f) == 0x7f;
        if (is_nan ? !d->options.nan_scales : scales[i] > 0x80)
            return tp_decoded_refuse(d, d->parts[SCALES], err, "scale number %s is 0x%02x, which is %s",
                                     tp_describe_count(text, first + i), scales[i],
                                     is_nan ? "not a number" : "negative");
    }
    return TP_OK;
}

/* Values [skip, skip + count) of the blocks from number `block` on. */
static enum tp_status decode_blocks(const struct tp_decoded *d, const struct tp_kernels *kernels,
                                    struct scale_table *table, const uint8_t *codes, const uint8_t *scales,
                                    uint64_t block, size_t skip, size_t count, float *dst, struct tp_error *err)
{
    const struct nvfp4 *nv = d->params;
    float values[BLOCK];
    for (; count > 0; block++, codes += BLOCK_BYTES, scales++) {
        const size_t n = count < BLOCK - skip ? count : BLOCK - skip;
        enum tp_status st = TP_OK;
        if (table->global != block / nv->blocks_per_global)
            st = table_make(table, d, kernels, block / nv->blocks_per_global, err);
        if (st)
            return st;
        kernels->f4_to_f32(n == BLOCK ? dst : values, codes, BLOCK, table->value[*scales], false);
        if (n < BLOCK)
            memcpy(dst, values + skip, n * sizeof *dst);
        skip = 0;
        dst += n;
        count -= n;
    }
    return TP_OK;
}

static enum tp_status decode(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err)
{
    const uint64_t room = scratch->size_bytes / (BLOCK_BYTES + 1); /* in blocks */
    struct scale_table table = {.global = UINT64_MAX};
    enum tp_status st = TP_OK;
    scratch->owner = NULL;
    while (!st && count > 0) {
        const uint64_t block = first / BLOCK, skip = first % BLOCK;
        uint64_t blocks = (skip + count - 1) / BLOCK + 1;
        blocks = blocks < room ? blocks : room;
        const uint64_t n = count < blocks * BLOCK - skip ? count : blocks * BLOCK - skip;
        uint8_t *scales = scratch->bytes + blocks * BLOCK_BYTES;
        st = tp_tensor_read(d->ck, d->codes, block * BLOCK_BYTES, blocks * BLOCK_BYTES, scratch->bytes, err);
        if (!st)
            st = tp_tensor_read(d->ck, d->parts[SCALES], block, blocks, scales, err);
        if (!st)
            st = check_scales(d, scales, (size_t)blocks, block, err);
        if (!st)
            st = decode_blocks(d, kernels, &table, scratch->bytes, scales, block, (size_t)skip, (size_t)n, dst, err);
        first += n;
        dst += n;
        count -= n;
    }
    return st;
}

const struct tp_scheme tp_scheme_nvfp4 = {.name = "nvfp4", .prepare = prepare, .decode = decode};
