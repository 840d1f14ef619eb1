/* SPDX-License-Identifier: MIT */
/* GPTQ, as AutoGPTQ and GPTQModel write it: 2, 3, 4 or 8 bits, packed along the inputs.
 *
 *     qweight I32 [in * bits / 32, out]   qzeros I32 [groups, out * bits / 32]   scales [groups, out]   g_idx I32 [in]
 *
 * Fields lie without gaps, low bits first, in a column of qweight and in a row of qzeros. The result is [out, in].
 * Symmetric weights may come without qzeros: then the middle is meant. Bits and groups may differ from module to module
 * (`dynamic` of GPTQModel). Formats that share these names but not this order (Marlin, BitBLAS, planar) are refused. */
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
    bool is_v2, is_said; /* what config.json says of the zero points; else v1 */
};

#define LOOK_FIELDS 1024u /* zero points that are looked at to see what they are */

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
    .rounds_first = true,
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

static enum tp_status check_format(const struct tp_decoded *d, struct gptq *q, struct tp_error *err)
{
    static const struct {
        const char *format;
        bool is_v2;
    } known[] = {{"gptq", false}, {"gptq_v2", true}};
    static const char *const other_orders[] = {"marlin", "bitblas", "gptq_marlin", "exllama", "qqq"};
    const struct tp_quant_facts *facts = &d->ck->quant;
    const char *said = facts->checkpoint_format ? facts->checkpoint_format : facts->format;
    const char *format = said ? said : "gptq";
    for (size_t i = 0; facts->method && i < TP_COUNT_OF(other_orders); i++)
        if (strcmp(facts->method, other_orders[i]) == 0)
            return unsupported(d, err, "of quant_method ", facts->method);
    if (facts->is_marlin == 1)
        return unsupported(d, err, "in Marlin's order (is_marlin_format)", "");
    if (facts->planar == 1)
        return unsupported(d, err, "in planar order", "");
    for (size_t i = 0; i < TP_COUNT_OF(known); i++)
        if (strcmp(format, known[i].format) == 0) {
            q->is_v2 = known[i].is_v2;
            q->is_said = said != NULL;
            return TP_OK;
        }
    return unsupported(d, err, "of checkpoint_format ", format);
}

/* What the shapes say of this number of bits: the zero points' rows, or without them the inputs. */
static bool fits_shapes(const struct tp_decoded *d, const struct tp_affine *a, const struct tp_tensor *order,
                        unsigned bits)
{
    if (a->zeros)
        return a->zeros->rank == 2 && a->zeros->shape[1] == tp_affine_words(d->codes->shape[1], bits, 0);
    return order && d->codes->shape[0] == tp_affine_words(order->elem_count, bits, 0);
}

/* As declared; undeclared, the one number of bits that the shapes allow. */
static enum tp_status find_bits(const struct tp_decoded *d, struct tp_affine *a, const struct tp_tensor *order,
                                uint64_t declared, struct tp_error *err)
{
    static const unsigned possible[] = {2, 3, 4, 8};
    unsigned fits = 0;
    for (size_t i = 0; i < TP_COUNT_OF(possible); i++)
        if (declared == possible[i] || (declared == 0 && fits_shapes(d, a, order, possible[i]))) {
            a->bits = possible[i];
            fits++;
        }
    if (fits == 1)
        return TP_OK;
    if (declared == 0)
        return tp_decoded_refuse(d, a->zeros ? a->zeros : a->scales, err,
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

static enum tp_status check_factors(const struct tp_decoded *d, struct tp_affine *a, uint64_t group_size,
                                    struct tp_error *err)
{
    const uint64_t groups = a->scales->rank == 2 ? a->scales->shape[0] : 0;
    enum tp_status status = tp_affine_expect_shape(d, a->scales, "scales", (const uint64_t[]){groups, a->rows}, 2, err);
    if (!status && a->zeros)
        status = tp_affine_expect_shape(d, a->zeros, "zero points",
                                        (const uint64_t[]){groups, tp_affine_words(a->rows, a->bits, 0)}, 2, err);
    return status ? status : tp_affine_set_groups(d, a, group_size, groups, true, err);
}

static enum tp_status check_members(const struct tp_decoded *d, void *params, const struct tp_quant_way *way,
                                    struct tp_error *err)
{
    struct tp_affine *a = &((struct gptq *)params)->affine;
    const struct tp_tensor *order = tp_decoded_member(d, ".g_idx");
    if (!a->zeros && way->sym != 1)
        return tp_decoded_refuse(d, a->scales, err,
                                 "zero points (qzeros) are missing, and config.json does not say that "
                                 "they are the middle (sym)");
    enum tp_status status = tp_affine_expect_dtype(d, a->zeros, "zero points", 1u << TP_I32, err);
    if (status)
        return status;
    a->rows = d->codes->shape[1];
    status = find_bits(d, a, order, way->bits, err);
    if (!status)
        status = find_inputs(d, a, order, err);
    if (status)
        return status;
    a->word_fields = tp_affine_word_fields(a->bits);
    a->zero = (int16_t)(1 << (a->bits - 1));
    status = check_factors(d, a, way->group_size, err);
    return !status && order ? tp_affine_set_order(d, a, order, false, false, err) : status;
}

/* ---- what zero points mean ---- */

static enum zero_rule choose_rule(const struct tp_decoded *d, const struct gptq *q)
{
    const char *quantizer = d->ck->quant.quantizer;
    if (q->is_v2)
        return ZERO_AS_STORED;
    return q->affine.bits != 3 && quantizer && strncmp(quantizer, "gptqmodel", 9) == 0 ? ZERO_PLUS_WORDS
                                                                                       : ZERO_PLUS_ONE;
}

/* The one value that all zero points of the first group are stored as (of the first LOOK_FIELDS), or -1. */
static enum tp_status find_only_zero(const struct tp_decoded *d, const struct tp_affine *a, int *value,
                                     struct tp_error *err)
{
    uint32_t words[LOOK_FIELDS / 4]; /* of 8 bits */
    const uint64_t fields = a->rows < LOOK_FIELDS ? a->rows : LOOK_FIELDS;
    enum tp_status status = tp_affine_read_words(d, a->zeros, 0, 1, 0, tp_affine_words(fields, a->bits, 0), words, err);
    if (status)
        return status;
    *value = (int)tp_affine_field(words, 0, a->bits);
    for (uint64_t i = 1; i < fields; i++)
        if ((int)tp_affine_field(words, i * a->bits, a->bits) != *value)
            *value = -1;
    return TP_OK;
}

/* The bits of fields that are all ones and have another above them in their word. */
static bool may_have_borrowed(uint32_t word, unsigned bits)
{
    const uint32_t mask = (1u << bits) - 1;
    for (unsigned at = 0; at + bits < 32; at += bits)
        if ((word >> at & mask) == mask)
            return true;
    return false;
}

/* Symmetric weights have no zero point of 0, and 3 bits are lowered field by field everywhere. */
static enum tp_status look_for_borrows(struct tp_decoded *d, const struct gptq *q, struct tp_error *err)
{
    uint32_t words[LOOK_FIELDS];
    const struct tp_tensor *t = q->affine.zeros;
    for (uint64_t done = 0, n; done < t->elem_count; done += n) {
        n = t->elem_count - done < LOOK_FIELDS ? t->elem_count - done : LOOK_FIELDS;
        enum tp_status status = tp_tensor_read(d->ck, t, done, n, words, err);
        if (status)
            return status;
        for (uint64_t i = 0; i < n; i++)
            if (may_have_borrowed(words[i], q->affine.bits)) {
                d->doubts |= 1u << TP_DOUBT_ZEROS_BORROW;
                return TP_OK;
            }
    }
    return TP_OK;
}

/* What the zero points themselves say of the format that config.json names, or does not. */
static enum tp_status doubt_zeros(struct tp_decoded *d, const struct gptq *q, struct tp_error *err)
{
    const int middle = 1 << (q->affine.bits - 1);
    int only = -1;
    if (!q->affine.zeros)
        return TP_OK;
    enum tp_status status = find_only_zero(d, &q->affine, &only, err);
    if (status)
        return status;
    if (q->is_v2 && only == middle - 1)
        d->doubts |= 1u << TP_DOUBT_ZEROS_LIKE_V1;
    else if (!q->is_v2 && only == middle)
        d->doubts |= 1u << TP_DOUBT_ZEROS_LIKE_V2;
    else if (!q->is_said && only != middle - 1)
        d->doubts |= 1u << TP_DOUBT_ZEROS_UNSAID;
    const bool has_borrows = q->rule == ZERO_PLUS_ONE && q->affine.bits != 3 && only != middle - 1 && only != middle;
    return has_borrows ? look_for_borrows(d, q, err) : TP_OK;
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    struct gptq *q = tp_arena_alloc(arena, sizeof *q);
    if (!q)
        return tp_fail_nomem(err);
    *q = (struct gptq){.affine = {.layout = &layout,
                                  .scales = tp_decoded_member(d, ".scales"),
                                  .zeros = tp_decoded_member(d, ".qzeros")}};
    d->params = q;
    enum tp_status status = tp_affine_expect_codes(d, q->affine.scales, 2, err);
    if (!status)
        status = check_format(d, q, err);
    if (!status)
        status = tp_affine_check_ways(d, q, sizeof *q, check_members, err);
    if (status)
        return status;
    q->rule = choose_rule(d, q);
    status = doubt_zeros(d, q, err);
    if (!status)
        status = tp_decoded_set_name(d, arena, ".weight", err);
    return status ? status
                  : tp_decoded_set_shape(d, arena, (const uint64_t[]){q->affine.rows, q->affine.columns}, 2, err);
}

const struct tp_scheme tp_scheme_gptq = {.name = "gptq", .prepare = prepare, .decode = tp_affine_decode};
