/* SPDX-License-Identifier: MIT */
/* AWQ in its `gemm` order: 4 bits, packed along the outputs.
 *
 *     qweight I32 [in, out / 8]   qzeros I32 [groups, out / 8]   scales [groups, out]
 *
 * A word holds eight neighbouring outputs, in nibbles that do not follow each other. The result is [out, in]. The
 * orders gemv and gemv_fast are others, and refused. */
#include "quant/affine.h"

#include <inttypes.h>
#include <string.h>

#include "base/status.h"
#include "quant/schemes.h"
#include "tensorport/text.h"

#define BITS 4u
#define IN_WORD 8u

/* ---- loading ---- */

static enum tp_status load_words(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    return tp_affine_load_transposed(d, tile, tile->column, tile->row / IN_WORD, tile->rows / IN_WORD, err);
}

static enum tp_status load_zeros(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const struct tp_affine *a = d->params;
    const uint64_t count = tile->rows / IN_WORD, at_once = tile->stage_words / count;
    uint32_t *words = tile->stage;
    for (uint64_t done = 0, n; done < tile->groups; done += n) {
        n = tile->groups - done < at_once ? tile->groups - done : at_once;
        enum tp_status status =
            tp_affine_read_words(d, a->zeros, tile->group + done, n, tile->row / IN_WORD, count, words, err);
        if (status)
            return status;
        for (uint64_t g = 0; g < n; g++)
            for (uint64_t r = 0; r < tile->rows; r++)
                tile->zeros[r * tile->groups + done + g] =
                    (int16_t)(words[g * count + r / IN_WORD] >> a->layout->shifts[r % IN_WORD] & 15);
    }
    return TP_OK;
}

static const struct tp_affine_layout layout = {
    .load_words = load_words,
    .load_scales = tp_affine_load_transposed_scales,
    .load_zeros = load_zeros,
    .rounds_first = true,
    .row_share = IN_WORD,
    .shifts = {0, 16, 4, 20, 8, 24, 12, 28}, /* nibble i holds output 0 2 4 6 1 3 5 7 */
};

/* ---- what is proved before ---- */

static enum tp_status check_facts(const struct tp_decoded *d, const struct tp_quant_way *way, struct tp_error *err)
{
    const struct tp_quant_facts *facts = &d->ck->quant;
    char version[128];
    enum tp_status status = TP_OK;
    if (facts->version && strcmp(facts->version, "gemm") != 0 && strcmp(facts->version, "GEMM") != 0) {
        tp_text_printable(version, sizeof version, facts->version, strlen(facts->version));
        status = tp_fail(err, TP_ERR_UNSUPPORTED, "AWQ weights of version %s cannot be decoded, only of gemm", version);
    } else if (way->bits != 0 && way->bits != BITS) {
        status =
            tp_fail(err, TP_ERR_UNSUPPORTED, "AWQ weights of %" PRIu64 " bits cannot be decoded, only of 4", way->bits);
    }
    return status ? tp_err_tensor(err, status, d->codes->name, d->codes->name_len) : TP_OK;
}

/* There are zero points exactly where config.json says so; the middle is meant where there are none. */
static enum tp_status check_zeros(const struct tp_decoded *d, const struct tp_affine *a, struct tp_error *err)
{
    const int declared = d->ck->quant.zero_point;
    if (a->zeros && declared == 0)
        return tp_decoded_refuse(d, a->zeros, err,
                                 "config.json says that there are no zero points (zero_point), "
                                 "but there are");
    if (!a->zeros && declared != 0)
        return tp_decoded_refuse(d, a->scales, err,
                                 "zero points (qzeros) are missing, and config.json does not say "
                                 "that there are none (zero_point)");
    return TP_OK;
}

static enum tp_status check_members(const struct tp_decoded *d, void *params, const struct tp_quant_way *way,
                                    struct tp_error *err)
{
    struct tp_affine *a = params;
    const struct tp_tensor *codes = d->codes, *order = tp_decoded_member(d, ".g_idx");
    enum tp_status status = check_facts(d, way, err);
    if (status)
        return status;
    if (order)
        return tp_decoded_refuse(d, order, err, "AWQ has no order of groups (g_idx)");
    if (TP_MUL_OVERFLOW(codes->shape[1], (uint64_t)IN_WORD, &a->rows))
        return tp_decoded_refuse(d, NULL, err, "more outputs than can be counted");
    a->columns = codes->shape[0];
    const uint64_t groups = a->scales->rank == 2 ? a->scales->shape[0] : 0;
    status = tp_affine_expect_shape(d, a->scales, "scales", (const uint64_t[]){groups, a->rows}, 2, err);
    if (!status)
        status = check_zeros(d, a, err);
    if (!status && a->zeros)
        status =
            tp_affine_expect_shape(d, a->zeros, "zero points", (const uint64_t[]){groups, codes->shape[1]}, 2, err);
    return status ? status : tp_affine_set_groups(d, a, way->group_size, groups, false, err);
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    struct tp_affine *a = tp_arena_alloc(arena, sizeof *a);
    if (!a)
        return tp_fail_nomem(err);
    *a = (struct tp_affine){.layout = &layout,
                            .scales = tp_decoded_member(d, ".scales"),
                            .zeros = tp_decoded_member(d, ".qzeros"),
                            .bits = BITS,
                            .word_fields = 1, /* of one output; the others are its neighbours' */
                            .zero = 8};
    d->params = a;
    enum tp_status status = tp_affine_expect_codes(d, a->scales, 2, err);
    if (!status)
        status = tp_affine_expect_dtype(d, a->zeros, "zero points", 1u << TP_I32, err);
    if (!status)
        status = tp_affine_check_ways(d, a, sizeof *a, check_members, err);
    if (!status)
        status = tp_decoded_set_name(d, arena, ".weight", err);
    return status ? status : tp_decoded_set_shape(d, arena, (const uint64_t[]){a->rows, a->columns}, 2, err);
}

const struct tp_scheme tp_scheme_awq = {.name = "awq", .prepare = prepare, .decode = tp_affine_decode};
