/* SPDX-License-Identifier: MIT */
/* GPTQ, as AutoGPTQ and GPTQModel write it: 2, 3, 4 or 8 bits, packed along the inputs.
 *
 *     qweight I32 [in * bits / 32, out]   qzeros I32 [groups, out * bits / 32]   scales [groups, out]   g_idx I32 [in]
 *
 * Fields lie without gaps, low bits first, in a column of qweight and in a row of qzeros. The result is [out, in].
 * Formats that share these names but not this order (Marlin, BitBLAS, planar) are refused. */
#include "quant/affine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "quant/schemes.h"
#include "tensorport/text.h"

/* What a stored zero point means. */
enum zero_rule {
    ZERO_AS_STORED,  /* v2 */
    ZERO_PLUS_ONE,   /* v1: each field was lowered by one, modulo its size */
    ZERO_PLUS_WORDS, /* v1 by GPTQModel: all fields at once, so that a zero point of 0 borrowed from the next */
};

struct gptq {
    struct tp_affine affine;
    enum zero_rule rule;
};

/* ---- loading ---- */

static enum tp_status load_words(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const struct tp_affine *a = d->params;
    return tp_affine_load_transposed(d, tile, tile->column / 32 * a->bits, tile->row, tile->rows, err);
}

static uint32_t one_in_each_field(unsigned bits)
{
    return bits == 2 ? 0x55555555u : bits == 4 ? 0x11111111u : 0x01010101u;
}

/* Of one group: `words` holds the fields of the tile's rows, the first at bit `skip`. */
static void unpack_zeros(const struct gptq *q, const struct tp_affine_tile *tile, uint64_t group, uint32_t *words,
                         uint64_t word_count, unsigned skip)
{
    const unsigned bits = q->affine.bits;
    const unsigned add = q->rule == ZERO_PLUS_ONE, mask = (1u << bits) - 1;
    for (uint64_t i = 0; q->rule == ZERO_PLUS_WORDS && i < word_count; i++)
        words[i] += one_in_each_field(bits);
    for (uint64_t r = 0; r < tile->rows; r++)
        tile->zeros[r * tile->groups + group] = (int16_t)((tp_affine_field(words, skip + r * bits, bits) + add) & mask);
}

static enum tp_status load_zeros(const struct tp_decoded *d, const struct tp_affine_tile *tile, struct tp_error *err)
{
    const struct gptq *q = d->params;
    const unsigned bits = q->affine.bits;
    const uint64_t first = tile->row / 32 * bits + tile->row % 32 * bits / 32;
    const uint64_t end = tp_affine_words(tile->row + tile->rows, bits, 0), count = end - first;
    uint32_t *words = tile->stage;
    const uint64_t at_once = tile->stage_words / count;
    for (uint64_t done = 0, n; done < tile->groups; done += n) {
        n = tile->groups - done < at_once ? tile->groups - done : at_once;
        enum tp_status status =
            tp_affine_read_words(d, q->affine.zeros, tile->group + done, n, first, count, words, err);
        if (status)
            return status;
        for (uint64_t g = 0; g < n; g++)
            unpack_zeros(q, tile, done + g, words + g * count, count, (unsigned)(tile->row % 32 * bits % 32));
    }
    return TP_OK;
}

static const struct tp_affine_layout layout = {
    .load_words = load_words,
    .load_scales = tp_affine_load_transposed_scales,
    .load_zeros = load_zeros,
    .row_share = 1,
};

/* ---- what config.json says ---- */

static enum tp_status unsupported(const struct tp_decoded *d, struct tp_error *err, const char *what, const char *value)
{
    char text[128];
    tp_text_printable(text, sizeof text, value, strlen(value));
    enum tp_status status = tp_fail(err, TP_ERR_UNSUPPORTED, "GPTQ weights %s%s cannot be decoded", what, text);
    return tp_err_tensor(err, status, d->codes->name, d->codes->name_len);
}

static enum tp_status check_format(const struct tp_decoded *d, bool *is_v2, struct tp_error *err)
{
    static const struct {
        const char *format;
        bool is_v2;
    } known[] = {{"gptq", false}, {"gptq_v2", true}};
    static const char *const other_orders[] = {"marlin", "bitblas", "gptq_marlin", "exllama", "qqq"};
    const struct tp_quant_facts *facts = &d->ck->quant;
    const char *format = facts->checkpoint_format ? facts->checkpoint_format : facts->format ? facts->format : "gptq";
    for (size_t i = 0; facts->method && i < TP_COUNT_OF(other_orders); i++)
        if (strcmp(facts->method, other_orders[i]) == 0)
            return unsupported(d, err, "of quant_method ", facts->method);
    if (facts->is_marlin == 1)
        return unsupported(d, err, "in Marlin's order (is_marlin_format)", "");
    if (facts->planar == 1)
        return unsupported(d, err, "in planar order", "");
    for (size_t i = 0; i < TP_COUNT_OF(known); i++)
        if (strcmp(format, known[i].format) == 0) {
            *is_v2 = known[i].is_v2;
            return TP_OK;
        }
    return unsupported(d, err, "of checkpoint_format ", format);
}

/* As declared; undeclared, the one number of bits that the zero points' rows allow. */
static enum tp_status find_bits(const struct tp_decoded *d, struct tp_affine *a, struct tp_error *err)
{
    static const unsigned possible[] = {2, 3, 4, 8};
    const uint64_t declared = d->ck->quant.bits, out = d->codes->shape[1];
    unsigned fits = 0;
    for (size_t i = 0; i < TP_COUNT_OF(possible); i++)
        if (declared == possible[i] ||
            (declared == 0 && a->zeros->rank == 2 && a->zeros->shape[1] == tp_affine_words(out, possible[i], 0))) {
            a->bits = possible[i];
            fits++;
        }
    if (fits == 1)
        return TP_OK;
    if (declared == 0)
        return tp_decoded_refuse(d, a->zeros, err,
                                 "config.json does not say how many bits a code has, and the shapes do not either");
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, declared);
    return unsupported(d, err, "whose number of bits is ", text);
}

/* ---- what the shapes say ---- */

/* Without g_idx nothing tells a last word that is filled from one that is not: filled, as in every known model. */
static enum tp_status find_inputs(const struct tp_decoded *d, struct tp_affine *a, const struct tp_tensor *order,
                                  struct tp_error *err)
{
    const uint64_t words = d->codes->shape[0];
    uint64_t bits_in_all;
    if (TP_MUL_OVERFLOW(words, (uint64_t)32, &bits_in_all))
        return tp_decoded_refuse(d, NULL, err, "%" PRIu64 " rows of words are too many", words);
    a->columns = order ? order->elem_count : bits_in_all / a->bits;
    if (tp_affine_words(a->columns, a->bits, 0) != words)
        return tp_decoded_refuse(d, order, err,
                                 "%" PRIu64 " inputs of %u bits need %" PRIu64 " rows of words, not %" PRIu64,
                                 a->columns, a->bits, tp_affine_words(a->columns, a->bits, 0), words);
    if (a->bits == 3 && (a->columns % 32 != 0 || a->rows % 32 != 0))
        return tp_decoded_refuse(d, a->scales, err,
                                 "3-bit codes need multiples of 32, not %" PRIu64 " outputs and %" PRIu64 " inputs",
                                 a->rows, a->columns);
    return TP_OK;
}

static enum tp_status check_members(const struct tp_decoded *d, struct gptq *q, struct tp_error *err)
{
    struct tp_affine *a = &q->affine;
    const struct tp_tensor *codes = d->codes, *order = tp_decoded_member(d, ".g_idx");
    if (!a->zeros)
        return tp_decoded_refuse(d, a->scales, err, "zero points (qzeros) are missing");
    enum tp_status status = tp_affine_expect_dtype(d, a->zeros, "zero points", 1u << TP_I32, err);
    if (status)
        return status;
    a->rows = codes->shape[1];
    status = find_bits(d, a, err);
    if (!status)
        status = find_inputs(d, a, order, err);
    if (status)
        return status;
    a->word_fields = tp_affine_word_fields(a->bits);
    const uint64_t groups = a->scales->rank == 2 ? a->scales->shape[0] : 0;
    status = tp_affine_expect_shape(d, a->scales, "scales", (const uint64_t[]){groups, a->rows}, 2, err);
    if (!status)
        status = tp_affine_expect_shape(d, a->zeros, "zero points",
                                        (const uint64_t[]){groups, tp_affine_words(a->rows, a->bits, 0)}, 2, err);
    if (!status)
        status = tp_affine_set_groups(d, a, groups, true, err);
    return !status && order ? tp_affine_set_order(d, a, order, false, false, err) : status;
}

static enum zero_rule choose_rule(const struct tp_decoded *d, bool is_v2, unsigned bits)
{
    const char *quantizer = d->ck->quant.quantizer;
    if (is_v2)
        return ZERO_AS_STORED;
    return bits != 3 && quantizer && strncmp(quantizer, "gptqmodel", 9) == 0 ? ZERO_PLUS_WORDS : ZERO_PLUS_ONE;
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    struct gptq *q = tp_arena_alloc(arena, sizeof *q);
    bool is_v2 = false;
    if (!q)
        return tp_fail_nomem(err);
    *q = (struct gptq){.affine = {.layout = &layout,
                                  .scales = tp_decoded_member(d, ".scales"),
                                  .zeros = tp_decoded_member(d, ".qzeros")}};
    d->params = q;
    enum tp_status status = tp_affine_expect_codes(d, q->affine.scales, 2, err);
    if (!status)
        status = check_format(d, &is_v2, err);
    if (!status)
        status = check_members(d, q, err);
    if (status)
        return status;
    q->rule = choose_rule(d, is_v2, q->affine.bits);
    status = tp_decoded_set_name(d, arena, ".weight", err);
    return status ? status
                  : tp_decoded_set_shape(d, arena, (const uint64_t[]){q->affine.rows, q->affine.columns}, 2, err);
}

const struct tp_scheme tp_scheme_gptq = {.name = "gptq", .prepare = prepare, .decode = tp_affine_decode};
