/* SPDX-License-Identifier: MIT */
/* The config decides and the tensors confirm: a method that nobody here knows, or one that the tensors contradict,
 * stops the run before its codes are taken for weights. Four tables of names say which schemes each may have; what
 * stands in none of them is refused, and what is known but cannot be decoded says why.
 *
 * From top to bottom: the tables, comparing names, refusing, checking. */
#include "quant/refuse.h"

#include <stdio.h>
#include <string.h>

#include "checkpoint/describe.h"

enum scheme { MXFP4, MXFP6, MXFP8, NVFP4, FP8, INT8, INT4, PACKED, GPTQ, AWQ, NF4, FP4, BNB_INT8, MLX, SCHEME_COUNT };

/* As in groups.c. */
static const char *const scheme_names[SCHEME_COUNT] = {
    [MXFP4] = "mxfp4",       [MXFP6] = "mxfp6", [MXFP8] = "mxfp8",
    [NVFP4] = "nvfp4",       [FP8] = "fp8",     [INT8] = "int8",
    [INT4] = "int4",         [GPTQ] = "gptq",   [PACKED] = "pack-quantized",
    [AWQ] = "awq",           [NF4] = "bnb-nf4", [FP4] = "bnb-fp4",
    [BNB_INT8] = "bnb-int8", [MLX] = "mlx",
};
#define S(scheme) (1u << (scheme))
#define ANY (S(SCHEME_COUNT) - 1)

/* A name of config.json. */
struct name {
    const char *name;
    uint32_t schemes; /* that it may have; 0: cannot be decoded, for this reason: */
    const char *why;
};

/* clang-format off */
static const struct name methods[] = {
    {"mxfp4", S(MXFP4), NULL},
    {"fp8", S(FP8) | S(MXFP8) | S(MXFP4), NULL}, /* DeepSeek-V4 has experts in MXFP4 */
    {"mxfp8", S(MXFP8) | S(FP8), NULL},
    {"fbgemm_fp8", S(FP8), NULL},
    {"blockwise_int8", S(INT8), NULL},
    {"compressed-tensors", S(PACKED) | S(INT8) | S(FP8) | S(NVFP4) | S(MXFP4) | S(MXFP6) | S(MXFP8), NULL},
    {"modelopt", S(FP8) | S(NVFP4) | S(MXFP4) | S(MXFP8) | S(INT8) | S(INT4), NULL},
    {"modelopt_fp4", S(NVFP4), NULL},
    {"gptq", S(GPTQ), NULL},
    {"awq", S(AWQ), NULL},
    {"bitsandbytes", S(NF4) | S(FP4) | S(BNB_INT8), NULL},
    {"aqlm", 0, "additive codebooks"},
    {"auto-round", 0, "AutoRound's own packing"},
    {"intel/auto-round", 0, "AutoRound's own packing"},
    {"bitblas", 0, "BitBLAS's order of codes"},
    {"bitnet", 0, "ternary weights"},
    {"deepspeedfp", 0, "DeepSpeed's floats"},
    {"eetq", 0, "codes in the order of a GPU"},
    {"exl2", 0, "ExLlamaV2's mixed bits"},
    {"exl3", 0, "ExLlamaV3's trellis"},
    {"fp_quant", 0, "rotated weights"},
    {"gguf", 0, "llama.cpp's blocks"},
    {"gptq_marlin", 0, "Marlin's order of codes"},
    {"awq_marlin", 0, "Marlin's order of codes"},
    {"higgs", 0, "rotated weights"},
    {"hqq", 0, "HQQ's packing"},
    {"marlin", 0, "Marlin's order of codes"},
    {"qqq", 0, "QQQ's packing"},
    {"quanto", 0, "Quanto's packing"},
    {"quark", 0, "Quark's packing"},
    {"quip", 0, "rotated weights and codebooks"},
    {"quip_sharp", 0, "rotated weights and codebooks"},
    {"sinq", 0, "SINQ's packing"},
    {"spqr", 0, "sparse outliers"},
    {"squeezellm", 0, "codebooks and sparse outliers"},
    {"torchao", 0, "tensor subclasses of torchao"},
    {"vptq", 0, "vector codebooks"},
};

/* compressed-tensors */
static const struct name formats[] = {
    {"dense", ANY, NULL},
    {"mixed-precision", ANY, NULL},
    {"pack-quantized", S(PACKED), NULL},
    {"int-quantized", S(INT8), NULL},
    {"float-quantized", S(FP8), NULL},
    {"naive-quantized", S(FP8) | S(INT8), NULL},
    {"nvfp4-pack-quantized", S(NVFP4), NULL},
    {"mxfp4-pack-quantized", S(MXFP4), NULL},
    {"mxfp6-pack-quantized", S(MXFP6), NULL},
    {"mxfp8-quantized", S(MXFP8), NULL},
    {"marlin-24", 0, "Marlin's order of sparse codes"},
    {"sparse-24", 0, "two of four values left out"},
    {"sparse-24-bitmask", 0, "two of four values left out"},
    {"sparse-bitmask", 0, "values left out by a bit mask"},
};

/* modelopt's quant_algo */
static const struct name algos[] = {
    {"FP8", S(FP8), NULL},
    {"FP8_PER_CHANNEL_PER_TOKEN", S(FP8), NULL},
    {"FP8_PB_WO", S(FP8), NULL},
    {"FP8_PB_REAL", S(FP8), NULL},
    {"NVFP4", S(NVFP4), NULL},
    {"W4A8_NVFP4_FP8", S(NVFP4), NULL},
    {"W4A16_NVFP4", S(NVFP4), NULL},
    {"MXFP4", S(MXFP4), NULL},
    {"W4A8_MXFP4_FP8", S(MXFP4), NULL},
    {"MXFP8", S(MXFP8), NULL},
    {"W8A8_SQ_PER_CHANNEL", S(INT8), NULL},
    {"MIXED_PRECISION", ANY, NULL},
    {"W4A16_AWQ", S(INT4), NULL},
    {"W4A8_AWQ", 0, "its scales have scales of their own (weight_scale_2)"},
    {"NVFP4_AWQ", 0, "its inputs have scales of their own (pre_quant_scale)"},
    {"NVFP4_SVD", 0, "its weights have a part of low rank beside the codes"},
    {"NVFP4_SVDQUANT", 0, "its weights have a part of low rank beside the codes"},
};

/* GPTQ's checkpoint_format */
static const struct name gptq_formats[] = {
    {"gptq", S(GPTQ), NULL},
    {"gptq_v2", S(GPTQ), NULL},
    {"gptq_p", 0, "planar order of codes"},
    {"marlin", 0, "Marlin's order of codes"},
    {"marlin_24", 0, "Marlin's order of sparse codes"},
    {"bitblas", 0, "BitBLAS's order of codes"},
    {"exllama", 0, "ExLlama's order of codes"},
    {"qqq", 0, "QQQ's packing"},
};

/* AWQ's version; GPTQModel says it as checkpoint_format */
static const struct name awq_versions[] = {
    {"gemm", S(AWQ), NULL},
    {"gemv", 0, "codes along the inputs"},
    {"gemv_fast", 0, "codes in the order of a GPU"},
    {"llm-awq", 0, "codes in the order of a GPU"},
    {"marlin", 0, "Marlin's order of codes"},
    {"exllama", 0, "ExLlama's order of codes"},
    {"ipex", 0, "codes in the order of another kernel"},
};
/* clang-format on */

/* Where a table applies. */
struct check {
    const char *method; /* NULL: always */
    const char *what;   /* as in config.json */
    const struct name *names;
    size_t count;
    const char *found; /* NULL: not said */
    bool has_more;     /* names of other ways are allowed too */
};

/* ---- comparing names ---- */

static char folded(char c)
{
    return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Producers do not agree on case, nor on hyphens. */
static bool same(const char *a, const char *b)
{
    while (*a && folded(*a) == folded(*b)) {
        a++;
        b++;
    }
    return folded(*a) == folded(*b);
}

static const struct name *find_name(const struct name *names, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (same(names[i].name, text))
            return &names[i];
    return NULL;
}

static uint32_t bit_of(const struct tp_group *group)
{
    for (unsigned i = 0; i < SCHEME_COUNT; i++)
        if (strcmp(group->scheme, scheme_names[i]) == 0)
            return S(i);
    return 0;
}

/* ---- refusing ---- */

static enum tp_status refuse_name(const struct tp_checkpoint *ck, const struct check *c, const struct name *name,
                                  struct tp_error *err)
{
    char found[TP_NAME_TEXT];
    tp_describe_name(found, c->found, strlen(c->found));
    if (name)
        tp_fail(err, TP_ERR_UNSUPPORTED, "%s '%s' cannot be decoded: %s", c->what, found, name->why);
    else
        tp_fail(err, TP_ERR_UNSUPPORTED, "%s '%s' is not known", c->what, found);
    tp_err_path(err, TP_ERR_UNSUPPORTED, tp_checkpoint_path(ck));
    return tp_err_hint(
        err, TP_ERR_UNSUPPORTED,
        name ? "dequantise it with the package that made it; without --dequantize the codes are kept as they are"
             : "--dequantize=SCHEME says what the codes are; without --dequantize they are kept as they are");
}

static enum tp_status refuse_flag(const struct tp_checkpoint *ck, const char *what, const char *why,
                                  struct tp_error *err)
{
    tp_fail(err, TP_ERR_UNSUPPORTED, "quantisation with %s cannot be decoded: %s", what, why);
    tp_err_path(err, TP_ERR_UNSUPPORTED, tp_checkpoint_path(ck));
    return tp_err_hint(
        err, TP_ERR_UNSUPPORTED,
        "dequantise it with the package that made it; without --dequantize the codes are kept as they are");
}

static enum tp_status refuse_scheme(const struct tp_checkpoint *ck, const struct check *c, const struct tp_group *group,
                                    struct tp_error *err)
{
    char found[TP_NAME_TEXT];
    const struct tp_tensor *codes = &ck->tensors[group->codes];
    tp_describe_name(found, c->found, strlen(c->found));
    tp_fail(err, TP_ERR_FORMAT, "config.json says %s '%s'%s, but names and dtypes say '%s'", c->what, found,
            c->has_more ? " or another" : "", group->scheme);
    tp_err_path(err, TP_ERR_FORMAT, tp_checkpoint_path(ck));
    tp_err_tensor(err, TP_ERR_FORMAT, codes->name, codes->name_len);
    return tp_err_hint(err, TP_ERR_FORMAT, "if config.json is wrong, --dequantize=%s decodes what is there",
                       group->scheme);
}

/* ---- checking ---- */

static enum tp_status check_flags(const struct tp_checkpoint *ck, struct tp_error *err)
{
    const struct tp_quant_facts *q = &ck->quant;
    if (q->is_marlin == 1)
        return refuse_flag(ck, "is_marlin_format", "Marlin's order of codes", err);
    if (q->planar == 1)
        return refuse_flag(ck, "planar", "the bits of a code lie apart", err);
    if (q->has_more)
        return refuse_flag(ck, "more ways in config.json than are kept", "there is no telling which may be meant", err);
    return TP_OK;
}

static bool applies(const struct tp_checkpoint *ck, const struct check *c)
{
    const char *method = ck->quant.method;
    return !c->method || (method && same(method, c->method));
}

/* Every group must be of these schemes; or (a single quant_algo, since files keep modules that were quantised before)
 * one of them. */
static enum tp_status check_groups(const struct tp_checkpoint *ck, const struct check *c, uint32_t schemes,
                                   bool one_is_enough, struct tp_error *err)
{
    const struct tp_group *odd = NULL;
    size_t fitting = 0;
    for (size_t i = 0; i < ck->group_count; i++) {
        if (bit_of(&ck->groups[i]) & schemes)
            fitting++;
        else if (!odd)
            odd = &ck->groups[i];
    }
    return odd && (!one_is_enough || fitting == 0) ? refuse_scheme(ck, c, odd, err) : TP_OK;
}

/* Bytes with scales are four things by their names alone: only modelopt's word makes them int4. */
static enum tp_status check_int4(const struct tp_checkpoint *ck, struct tp_error *err)
{
    const struct tp_group *int4 = NULL;
    for (size_t i = 0; i < ck->group_count && !int4; i++)
        if (bit_of(&ck->groups[i]) == S(INT4))
            int4 = &ck->groups[i];
    for (size_t i = 0; int4 && i <= ck->quant.other_count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(&ck->quant, i);
        if (way.algo && same(way.algo, "W4A16_AWQ"))
            int4 = NULL;
    }
    if (!int4)
        return TP_OK;
    const struct tp_tensor *codes = &ck->tensors[int4->codes];
    tp_fail(err, TP_ERR_FORMAT, "bytes with scales may be int4, but config.json has no quant_algo W4A16_AWQ to say so");
    tp_err_path(err, TP_ERR_FORMAT, tp_checkpoint_path(ck));
    tp_err_tensor(err, TP_ERR_FORMAT, codes->name, codes->name_len);
    return tp_err_hint(err, TP_ERR_FORMAT, "if that is what they are, --dequantize=int4 decodes them");
}

static enum tp_status check_name(const struct tp_checkpoint *ck, const struct check *c, struct tp_error *err)
{
    if (!c->found || !applies(ck, c))
        return TP_OK;
    const struct name *name = find_name(c->names, c->count, c->found);
    if (!name || name->schemes == 0)
        return refuse_name(ck, c, name, err);
    return check_groups(ck, c, name->schemes, false, err);
}

static const char *format_of(const struct tp_quant_way *way)
{
    return way->format;
}

static const char *algo_of(const struct tp_quant_way *way)
{
    return way->algo;
}

/* The same of a name that each way of quantising has: what any of them allows is allowed. An algo that only says that
 * there are several gives way to those. */
static enum tp_status check_ways(const struct tp_checkpoint *ck, struct check *c,
                                 const char *(*name_of)(const struct tp_quant_way *way), struct tp_error *err)
{
    const size_t others = ck->quant.other_count;
    uint32_t schemes = 0;
    const char *first = NULL;
    for (size_t i = 0; applies(ck, c) && i <= others; i++) {
        const struct tp_quant_way way = tp_quant_way_at(&ck->quant, i);
        c->found = name_of(&way);
        if (!c->found || (i == 0 && others > 0 && same(c->found, "MIXED_PRECISION")))
            continue;
        const struct name *name = find_name(c->names, c->count, c->found);
        if (!name || name->schemes == 0)
            return refuse_name(ck, c, name, err);
        first = first ? first : c->found;
        schemes |= name->schemes;
    }
    c->found = first;
    c->has_more = others > 0;
    return first ? check_groups(ck, c, schemes, name_of == algo_of && others == 0, err) : TP_OK;
}

enum tp_status tp_quant_check_method(const struct tp_checkpoint *ck, struct tp_error *err)
{
    const struct tp_quant_facts *q = &ck->quant;
    struct check format = {"compressed-tensors", "format", formats, TP_COUNT_OF(formats), NULL, false};
    struct check algo = {"modelopt", "quant_algo", algos, TP_COUNT_OF(algos), NULL, false};
    const struct check checks[] = {
        {NULL, "quant_method", methods, TP_COUNT_OF(methods), q->method, false},
        {"gptq", "checkpoint_format", gptq_formats, TP_COUNT_OF(gptq_formats), q->checkpoint_format, false},
        {"awq", "version", awq_versions, TP_COUNT_OF(awq_versions), q->version, false},
        {"awq", "checkpoint_format", awq_versions, TP_COUNT_OF(awq_versions), q->checkpoint_format, false},
    };
    enum tp_status status = TP_OK;
    for (size_t i = 0; i < TP_COUNT_OF(checks) && !status; i++)
        status = check_name(ck, &checks[i], err);
    if (!status)
        status = check_ways(ck, &format, format_of, err);
    if (!status)
        status = check_ways(ck, &algo, algo_of, err);
    if (!status)
        status = check_int4(ck, err);
    return status ? status : check_flags(ck, err);
}
