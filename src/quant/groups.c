/* SPDX-License-Identifier: MIT */
/* Which tensors together encode one: codes, scales and what else belongs to them. Recognised by the whole set of
 * sibling names and dtypes, whatever config.json says; a new scheme is a new row of the table. Nothing is decoded
 * here, and no tensor data is read: only names, dtypes and shapes, and shapes that are kept as tensors.
 *
 * From top to bottom: counting, telling two of one name apart, the table, gathering, the walk over all tensors. */
#include "quant/groups.h"

#include <string.h>

#include "base/endian.h"
#include "checkpoint/describe.h"

#define D(dtype) (1u << TP_##dtype)
#define FP8 (D(F8_E4M3) | D(F8_E5M2) | D(F8_E4M3FNUZ) | D(F8_E5M2FNUZ))
#define FLOAT (D(F32) | D(F16) | D(BF16))
#define POWER (D(U8) | D(F8_E8M0)) /* a power of two in one byte */
#define ANY_FLOAT (FLOAT | POWER | D(F64))
#define MEMBERS_MAX 8u

/* A set under suspicion. members[i] belongs to row->members[i]; NULL: not there. */
struct parts {
    const struct tp_checkpoint *ck;
    const struct tp_tensor *codes;
    const struct tp_tensor *members[MEMBERS_MAX];
};

/* ---- how many values the codes stand for ---- */

static uint64_t last_of(const struct tp_tensor *t)
{
    return t->rank > 0 ? t->shape[t->rank - 1] : 1;
}

static uint64_t codes_of(uint64_t size_bytes, uint64_t bits)
{
    return size_bytes / bits * 8 + size_bytes % bits * 8 / bits; /* in two steps, lest the product wraps */
}

static uint64_t count_each(const struct parts *p)
{
    return p->codes->elem_count;
}

static uint64_t count_nibbles(const struct parts *p)
{
    return p->codes->size_bytes * 2;
}

static uint64_t count_6bit(const struct parts *p)
{
    return codes_of(p->codes->size_bytes, 6);
}

static uint64_t declared_bits(const struct parts *p)
{
    return p->ck->quant.bits >= 1 && p->ck->quant.bits <= 8 ? p->ck->quant.bits : 4;
}

static uint64_t count_declared(const struct parts *p)
{
    return codes_of(p->codes->size_bytes, declared_bits(p));
}

/* Do so many codes fill so many words, without gaps or in whole fields? */
static bool fills(uint64_t count, uint64_t bits, uint64_t words)
{
    uint64_t bits_in_all;
    if (bits < 1 || bits > 8 || TP_MUL_OVERFLOW(count, bits, &bits_in_all))
        return false;
    return words == bits_in_all / 32 + (bits_in_all % 32 != 0) ||
           words == count / (32 / bits) + (count % (32 / bits) != 0);
}

/* compressed-tensors: how long a row is by its groups, each of which is full; 0: they leave it open. */
static uint64_t columns_by_groups(const struct parts *p)
{
    const struct tp_tensor *scales = p->members[0];
    const uint64_t groups = last_of(scales);
    uint64_t found = 0, columns;
    for (size_t i = 0; scales->rank == p->codes->rank && i <= p->ck->quant.other_count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(&p->ck->quant, i);
        const bool one_group_only = way.group_size == 0;
        if (one_group_only && groups > 1)
            continue;
        if (one_group_only)
            return 0;
        if (TP_MUL_OVERFLOW(groups, way.group_size, &columns) || !fills(columns, way.bits, last_of(p->codes)))
            continue;
        if (found > 0 && found != columns)
            return 0;
        found = columns;
    }
    return found;
}

/* The last number of weight_shape, if the words have room for as many; 0: none. */
static uint64_t columns_by_shape(const struct parts *p)
{
    const struct tp_tensor *shape = p->members[1];
    uint8_t bytes[8];
    if (!shape || p->ck->file_count == 0 || (shape->elem_count != 2 && shape->elem_count != p->codes->rank) ||
        tp_tensor_read(p->ck, shape, shape->elem_count - 1, 1, bytes, NULL) != TP_OK)
        return 0;
    const uint64_t columns = tp_load_le(bytes, shape->dtype == TP_I64 ? 8 : 4);
    for (uint64_t bits = 1; bits <= 8; bits++)
        if (fills(columns, bits, last_of(p->codes)))
            return columns;
    return 0;
}

/* compressed-tensors: rows end in words partly filled. */
static uint64_t count_packed(const struct parts *p)
{
    const uint64_t words = last_of(p->codes);
    uint64_t columns = columns_by_groups(p), count;
    if (columns == 0)
        columns = columns_by_shape(p);
    if (columns == 0 || words == 0 || TP_MUL_OVERFLOW(p->codes->elem_count / words, columns, &count))
        return count_declared(p);
    return count;
}

/* GPTQ: the zero points, packed along `out`, and the inputs of g_idx must agree with the bits. */
static bool fits_gptq(const struct parts *p, uint64_t bits)
{
    const struct tp_tensor *zeros = p->members[1], *order = p->members[2];
    return (!zeros || fills(last_of(p->members[0]), bits, last_of(zeros))) &&
           (!order || p->codes->rank == 0 || fills(order->elem_count, bits, p->codes->shape[0]));
}

/* What config.json allows, else what is usual. */
static uint64_t bits_of_gptq(const struct parts *p)
{
    static const uint64_t usual[] = {4, 8, 3, 2, 5, 6, 7};
    for (size_t i = 0; i <= p->ck->quant.other_count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(&p->ck->quant, i);
        if (way.bits && fits_gptq(p, way.bits))
            return way.bits;
    }
    for (size_t i = 0; i < TP_COUNT_OF(usual); i++)
        if (fits_gptq(p, usual[i]))
            return usual[i];
    return declared_bits(p);
}

static uint64_t count_gptq(const struct parts *p)
{
    const struct tp_tensor *order = p->members[2];
    const uint64_t bits = bits_of_gptq(p);
    uint64_t count;
    if (order && p->codes->rank == 2 && fits_gptq(p, bits) &&
        !TP_MUL_OVERFLOW(order->elem_count, last_of(p->codes), &count))
        return count; /* the last word of a column may be partly filled */
    return codes_of(p->codes->size_bytes, bits);
}

/* AWQ packs along `out`, and has a scale for each column. */
static uint64_t count_awq(const struct parts *p)
{
    uint64_t words = last_of(p->codes), out = last_of(p->members[0]), count;
    if (words == 0 || out % words != 0 || TP_MUL_OVERFLOW(p->codes->elem_count, out / words, &count))
        return count_declared(p);
    return out / words >= 4 ? count : count_declared(p);
}

/* MLX: one scale for each group; the size of a group varies less than the number of bits. */
static uint64_t count_mlx(const struct parts *p)
{
    uint64_t group = p->ck->quant.group_size ? p->ck->quant.group_size : 64, count;
    uint64_t bits_in_all = 0;
    if (TP_MUL_OVERFLOW(p->members[0]->elem_count, group, &count) || count == 0 ||
        TP_MUL_OVERFLOW(p->codes->size_bytes, (uint64_t)8, &bits_in_all) || bits_in_all % count != 0)
        return count_declared(p);
    return count;
}

/* ---- what names and dtypes leave open ---- */

/* 32 values share a scale, two values a byte. */
static bool fits_two_a_byte(const struct parts *p)
{
    return p->codes->size_bytes / 16 == p->members[0]->elem_count && p->codes->size_bytes % 16 == 0;
}

/* 32 values share a scale, four values in three bytes. */
static bool fits_four_in_three(const struct parts *p)
{
    return p->codes->size_bytes / 24 == p->members[0]->elem_count && p->codes->size_bytes % 24 == 0;
}

static bool fits_awq(const struct parts *p)
{
    const char *method = p->ck->facts.quant_method;
    const struct tp_tensor *scales = p->members[0], *order = p->members[2];
    uint64_t words = last_of(p->codes);
    if (method && strcmp(method, "awq") == 0)
        return true;
    return !order && words > 0 && last_of(scales) % words == 0 && last_of(scales) / words >= 4; /* 8 bits or fewer */
}

/* ---- the table ---- */

struct member {
    const char *suffix; /* after the stem; NULL ends the list */
    uint32_t dtypes;
    bool optional;
};

struct row {
    const char *scheme;
    const char *codes; /* suffix of the tensor that holds the codes; stem + codes is its name */
    uint32_t code_dtypes;
    uint64_t (*count)(const struct parts *p);
    bool (*fits)(const struct parts *p); /* NULL: names and dtypes are enough */
    bool is_module;                      /* the stem is a module, whose activation scales belong to the group */
    struct member members[MEMBERS_MAX];
};

#define OPTIONAL true

/* The first row that fits wins. */
/* clang-format off */
static const struct row rows[] = {
    /* gpt-oss, in the names of transformers and of OpenAI */
    {"mxfp4", "_blocks", D(U8), count_nibbles, NULL, false, {{"_scales", POWER, 0}}},
    {"mxfp4", ".blocks", D(U8), count_nibbles, NULL, false, {{".scales", POWER, 0}}},
    /* DeepSeek-V3 and its like: blocks of 128 x 128 */
    {"fp8", ".weight", FP8, count_each, NULL, true, {{".weight_scale_inv", ANY_FLOAT, 0}}},
    {"int8", ".weight", D(I8), count_each, NULL, true, {{".weight_scale_inv", ANY_FLOAT, 0}}},
    /* modelopt: codes in `weight` itself */
    {"nvfp4", ".weight", D(U8), count_nibbles, NULL, true,
     {{".weight_scale", D(F8_E4M3), 0}, {".weight_scale_2", FLOAT, 0}}},
    {"mxfp4", ".weight", D(U8), count_nibbles, NULL, true, {{".weight_scale", POWER, 0}}},
    {"int4", ".weight", D(U8), count_nibbles, NULL, true,
     {{".weight_scale", FLOAT, 0}, {".weight_scale_2", FLOAT, OPTIONAL}}},
    /* modelopt, compressed-tensors, fbgemm: one code a value */
    {"mxfp8", ".weight", FP8, count_each, NULL, true, {{".weight_scale", POWER, 0}}},
    {"fp8", ".weight", FP8, count_each, NULL, true,
     {{".weight_scale", FLOAT, 0}, {".weight_zero_point", ANY_FLOAT | FP8 | D(I8), OPTIONAL}}},
    {"int8", ".weight", D(I8), count_each, NULL, true,
     {{".weight_scale", FLOAT, 0}, {".weight_zero_point", ANY_FLOAT | D(I8), OPTIONAL}}},
    /* compressed-tensors: packed codes */
    {"nvfp4", ".weight_packed", D(U8), count_nibbles, NULL, true,
     {{".weight_scale", D(F8_E4M3), 0}, {".weight_global_scale", FLOAT, 0}}},
    {"mxfp6", ".weight_packed", D(U8), count_6bit, fits_four_in_three, true, {{".weight_scale", POWER, 0}}},
    {"mxfp4", ".weight_packed", D(U8), count_nibbles, NULL, true, {{".weight_scale", POWER, 0}}},
    {"pack-quantized", ".weight_packed", D(I32), count_packed, NULL, true,
     {{".weight_scale", FLOAT, 0}, {".weight_shape", D(I64) | D(I32), OPTIONAL},
      {".weight_zero_point", D(I32) | D(I8) | FLOAT, OPTIONAL}, {".weight_g_idx", D(I32) | D(I64), OPTIONAL}}},
    /* DeepSeek-V4 */
    {"mxfp4", ".weight", D(I8), count_nibbles, fits_two_a_byte, true, {{".scale", D(F8_E8M0), 0}}},
    {"int8", ".weight", D(I8), count_each, NULL, true, {{".scale", D(F8_E8M0), 0}}},
    {"fp8", ".weight", FP8, count_each, NULL, true, {{".scale", ANY_FLOAT, 0}}},
    /* The two share their names; AWQ packs along the other axis. */
    {"awq", ".qweight", D(I32), count_awq, fits_awq, true,
     {{".scales", FLOAT, 0}, {".qzeros", D(I32), OPTIONAL}, {".g_idx", D(I32) | D(I64), OPTIONAL}}},
    {"gptq", ".qweight", D(I32), count_gptq, NULL, true,
     {{".scales", FLOAT, 0}, {".qzeros", D(I32), OPTIONAL}, {".g_idx", D(I32) | D(I64), OPTIONAL}}},
    /* bitsandbytes: any dtype may hold the bytes */
    {"bnb-nf4", "", D(U8) | D(I8) | FLOAT, count_nibbles, NULL, false,
     {{".quant_state.bitsandbytes__nf4", D(U8), 0}, {".absmax", D(F32) | D(U8), 0}, {".quant_map", D(F32), 0},
      {".nested_absmax", D(F32), OPTIONAL}, {".nested_quant_map", D(F32), OPTIONAL}}},
    {"bnb-fp4", "", D(U8) | D(I8) | FLOAT, count_nibbles, NULL, false,
     {{".quant_state.bitsandbytes__fp4", D(U8), 0}, {".absmax", D(F32) | D(U8), 0}, {".quant_map", D(F32), 0},
      {".nested_absmax", D(F32), OPTIONAL}, {".nested_quant_map", D(F32), OPTIONAL}}},
    {"bnb-int8", ".weight", D(I8), count_each, NULL, true, {{".SCB", D(F32), 0}, {".weight_format", D(U8), OPTIONAL}}},
    /* MLX */
    {"mlx", ".weight", D(U32), count_mlx, NULL, true, {{".scales", FLOAT, 0}, {".biases", FLOAT, 0}}},
    {"mxfp4", ".weight", D(U32), count_nibbles, NULL, true, {{".scales", D(U8), 0}}},
    /* stacked experts: parameters without `.weight` */
    {"fp8", "", FP8, count_each, NULL, false, {{"_scale_inv", ANY_FLOAT, 0}, {"_input_scale", FLOAT, OPTIONAL}}},
    {"fp8", "", FP8, count_each, NULL, false, {{"_scale", FLOAT, 0}, {"_input_scale", FLOAT, OPTIONAL}}},
};
/* clang-format on */

/* Of a module that has a group. Without one they are tensors like others. */
static const char *const module_scales[] = {".input_scale",    ".input_zero_point", ".input_global_scale",
                                            ".input_scale_ub", ".output_scale",     ".pre_quant_scale",
                                            ".q_scale",        ".k_scale",          ".v_scale",
                                            ".kv_scale"};

/* Codes that no scales go with are worth a word. */
static const struct {
    const char *suffix;
    uint32_t dtypes;
} telling[] = {{"_blocks", D(U8)}, {".blocks", D(U8)}, {".qweight", D(I32)}, {".weight_packed", D(U8) | D(I32)}};

/* ---- gathering ---- */

static bool has_dtype(const struct tp_tensor *t, uint32_t dtypes)
{
    return (1u << t->dtype & dtypes) != 0;
}

static bool ends_with(const struct tp_tensor *t, const char *suffix)
{
    size_t len = strlen(suffix);
    return t->name_len >= len && memcmp(t->name + t->name_len - len, suffix, len) == 0;
}

/* The tensor named stem + suffix, if it has one of the dtypes and belongs to nobody yet. */
static struct tp_tensor *sibling(struct tp_checkpoint *ck, const struct tp_tensor *codes, size_t stem_len,
                                 const char *suffix, uint32_t dtypes)
{
    char name[TP_NAME_MAX_BYTES + 64];
    size_t suffix_len = strlen(suffix);
    memcpy(name, codes->name, stem_len);
    memcpy(name + stem_len, suffix, suffix_len + 1);
    const struct tp_tensor *t = tp_checkpoint_find(ck, name);
    if (!t || t == codes || t->group != TP_NO_GROUP || !has_dtype(t, dtypes))
        return NULL;
    return &ck->tensors[t - ck->tensors];
}

static bool gather(struct parts *p, struct tp_checkpoint *ck, const struct tp_tensor *codes, const struct row *row)
{
    if (!has_dtype(codes, row->code_dtypes) || !ends_with(codes, row->codes))
        return false;
    *p = (struct parts){.ck = ck, .codes = codes};
    size_t stem_len = codes->name_len - strlen(row->codes);
    for (size_t i = 0; i < MEMBERS_MAX && row->members[i].suffix; i++) {
        p->members[i] = sibling(ck, codes, stem_len, row->members[i].suffix, row->members[i].dtypes);
        if (!p->members[i] && !row->members[i].optional)
            return false;
    }
    return !row->fits || row->fits(p);
}

static void take(struct tp_group *group, struct tp_tensor *t, uint32_t number)
{
    if (!t)
        return;
    t->group = number;
    group->size_bytes += t->size_bytes;
    group->member_count++;
}

static enum tp_status add_group(struct tp_checkpoint *ck, struct tp_tensor *codes, const struct row *row,
                                const struct parts *p, struct tp_error *err)
{
    size_t stem_len = codes->name_len - strlen(row->codes);
    uint32_t number = (uint32_t)ck->group_count;
    struct tp_group group = {.scheme = row->scheme,
                             .name = tp_arena_strndup(&ck->arena, codes->name, stem_len),
                             .parameter_count = row->count(p),
                             .codes = (uint32_t)(codes - ck->tensors)};
    if (!group.name || !tp_array_grow(&ck->groups, &ck->group_capacity, ck->group_count + 1, sizeof *ck->groups))
        return tp_fail_nomem(err);
    take(&group, codes, number);
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        if (p->members[i])
            take(&group, &ck->tensors[p->members[i] - ck->tensors], number);
    for (size_t i = 0; row->is_module && i < TP_COUNT_OF(module_scales); i++)
        take(&group, sibling(ck, codes, stem_len, module_scales[i], ANY_FLOAT | D(I8)), number);
    ck->groups[ck->group_count++] = group;
    return TP_OK;
}

/* ---- the walk ---- */

static enum tp_status note_lonely_codes(struct tp_checkpoint *ck, struct tp_error *err)
{
    char name[TP_NAME_TEXT], number[TP_COUNT_TEXT];
    const struct tp_tensor *first = NULL;
    uint64_t count = 0;
    for (size_t i = 0; i < ck->tensor_count; i++)
        for (size_t k = 0; k < TP_COUNT_OF(telling); k++) {
            const struct tp_tensor *t = &ck->tensors[i];
            if (t->group == TP_NO_GROUP && has_dtype(t, telling[k].dtypes) && ends_with(t, telling[k].suffix) &&
                count++ == 0)
                first = t;
        }
    if (!first)
        return TP_OK;
    tp_describe_name(name, first->name, first->name_len);
    if (count == 1)
        return tp_checkpoint_note_add(ck, err, "1 tensor looks like quantised codes without scales (%s)", name);
    return tp_checkpoint_note_add(ck, err, "%s tensors look like quantised codes without scales (%s)",
                                  tp_describe_count(number, count), name);
}

enum tp_status tp_groups_find(struct tp_checkpoint *ck, struct tp_error *err)
{
    struct parts p;
    for (size_t i = 0; i < ck->tensor_count; i++)
        for (size_t r = 0; r < TP_COUNT_OF(rows) && ck->tensors[i].group == TP_NO_GROUP; r++)
            if (gather(&p, ck, &ck->tensors[i], &rows[r])) {
                enum tp_status status = add_group(ck, &ck->tensors[i], &rows[r], &p, err);
                if (status)
                    return status;
            }
    return note_lonely_codes(ck, err);
}
