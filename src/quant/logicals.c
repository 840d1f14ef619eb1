/* SPDX-License-Identifier: MIT */
/* From the tensors of a checkpoint to the logical ones: each its own, or, with --dequantize, a group one decoded. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "quant/logical.h"
#include "quant/refuse.h"

struct builder {
    struct tp_logical *logicals;
    size_t count;
    struct tp_arena *arena;
    struct tp_list *notes;
    const struct tp_checkpoint *ck;
    const struct tp_convert_options *options;
    struct tp_name_list dropped;
    struct tp_name_list doubted[TP_DOUBT_COUNT];
    struct tp_error *err;
};

/* After "N weights: "; before their names. */
static const char *const doubts[TP_DOUBT_COUNT] = {
    [TP_DOUBT_ZEROS_UNSAID] = "config.json has no checkpoint_format, so zero points are taken as 'gptq' stores them, "
                              "lowered by one; if they are not, have it say 'gptq_v2'",
    [TP_DOUBT_ZEROS_LIKE_V2] = "zero points are taken as 'gptq' stores them, lowered by one, but they look like those "
                               "of 'gptq_v2'; checkpoint_format in config.json decides",
    [TP_DOUBT_ZEROS_LIKE_V1] = "zero points are taken as 'gptq_v2' stores them, but they look like those of 'gptq', "
                               "lowered by one; checkpoint_format in config.json decides",
    [TP_DOUBT_ZEROS_BORROW] = "some zero points are stored as all ones, so that those above them in a word have two "
                              "readings; each is taken by itself, unless config.json's meta.quantizer is 'gptqmodel'",
};

/* What the last part of a name says about a tensor that belongs to no group. */
static const struct {
    const char *ending;
    bool is_activation; /* of no use without the quantised kernels: dropped. Else it must not be left over */
} endings[] = {
    {".input_scale", true},
    {".output_scale", true},
    {".input_global_scale", true},
    {".input_zero_point", true},
    {".input_scale_ub", true},
    {".q_scale", true},
    {".k_scale", true},
    {".v_scale", true},
    {".kv_scale", true},
    {".prob_scale", true},
    {"_input_scale", true},
    {"_blocks", false},
    {".blocks", false},
    {".qweight", false},
    {".qzeros", false},
    {".g_idx", false},
    {".weight_packed", false},
    {".weight_scale", false},
    {".weight_scale_inv", false},
    {".weight_scale_2", false},
    {".weight_zero_point", false},
    {".weight_global_scale", false},
    {".weight_g_idx", false},
    {".weight_shape", false},
    {".absmax", false},
    {".quant_map", false},
    {".SCB", false},
    {".nested_absmax", false},
    {".nested_quant_map", false},
    {".quant_state.bitsandbytes__nf4", false},
    {".quant_state.bitsandbytes__fp4", false},
    {".pre_quant_scale", false},
    {".scales", false},
    {"_scale_inv", false},
};

static bool ends_in(const struct tp_tensor *t, const char *ending)
{
    size_t len = strlen(ending);
    return t->name_len >= len && memcmp(t->name + t->name_len - len, ending, len) == 0;
}

/* Eight-bit floats without a scale are codes nobody can read; E8M0 is a scale by itself. */
static bool is_code_dtype(uint8_t dtype)
{
    return tp_dtype_class((enum tp_dtype)dtype) == TP_CLASS_SMALL_FLOAT;
}

static enum tp_status refuse_leftover(const struct builder *b, const struct tp_tensor *t)
{
    tp_fail(b->err, TP_ERR_FORMAT, "looks like a part of a quantised weight, but its other parts are not here");
    tp_err_path(b->err, TP_ERR_FORMAT, tp_checkpoint_path(b->ck));
    tp_err_tensor(b->err, TP_ERR_FORMAT, t->name, t->name_len);
    return tp_err_hint(b->err, TP_ERR_FORMAT,
                       "--exclude leaves it out; without --dequantize everything is kept as it is");
}

static void add(struct builder *b, const struct tp_tensor *t, const struct tp_decoded *d)
{
    b->logicals[b->count++] = (struct tp_logical){t, d, NULL, d ? (uint8_t)tp_decoded_dtype(d) : t->dtype};
}

static enum tp_status add_decoded(struct builder *b, const struct tp_tensor *codes)
{
    const struct tp_group *group = tp_checkpoint_group(b->ck, codes->group);
    const char *name = b->options->dequantize_scheme ? b->options->dequantize_scheme : group->scheme;
    const struct tp_scheme *scheme = tp_scheme_find(name);
    struct tp_decoded *d = tp_arena_alloc(b->arena, sizeof *d);
    if (!d)
        return tp_fail_nomem(b->err);
    if (!scheme) {
        tp_fail(b->err, TP_ERR_UNSUPPORTED, "quantised as '%s', which cannot be decoded", name);
        tp_err_path(b->err, TP_ERR_UNSUPPORTED, tp_checkpoint_path(b->ck));
        return tp_err_tensor(b->err, TP_ERR_UNSUPPORTED, codes->name, codes->name_len);
    }
    *d = (struct tp_decoded){.scheme = scheme, .ck = b->ck, .group = group, .codes = codes};
    d->options = (struct tp_decode_options){
        .mxfp4_layout = b->options->mxfp4_out_in ? TP_MXFP4_OUT_IN : TP_MXFP4_IN_OUT,
        .nan_scales = b->options->nan_scales,
        .positive_zero = b->options->mxfp4_positive_zero,
        .f16_first = b->options->decode_f16_first,
    };
    enum tp_status st = scheme->prepare(d, b->arena, b->err);
    if (st)
        return st;
    char shown[TP_NAME_TEXT];
    add(b, codes, d);
    for (unsigned i = 0; i < TP_DOUBT_COUNT; i++)
        if (d->doubts >> i & 1)
            tp_name_list_add(&b->doubted[i], tp_describe_name(shown, d->name, d->name_len));
    return TP_OK;
}

static enum tp_status add_plain(struct builder *b, const struct tp_tensor *t)
{
    for (size_t i = 0; i < TP_COUNT_OF(endings); i++) {
        if (!ends_in(t, endings[i].ending))
            continue;
        if (!endings[i].is_activation)
            return refuse_leftover(b, t);
        char shown[TP_NAME_TEXT];
        tp_name_list_add(&b->dropped, tp_describe_name(shown, t->name, t->name_len));
        return TP_OK;
    }
    if (is_code_dtype(t->dtype) || (t->dtype == TP_U8 && ends_in(t, "_scales")))
        return refuse_leftover(b, t);
    add(b, t, NULL);
    return TP_OK;
}

/* A member of a group: the codes stand for all of it, activation scales are listed, the rest is used up. */
static enum tp_status add_member(struct builder *b, const struct tp_tensor *t)
{
    const struct tp_group *group = tp_checkpoint_group(b->ck, t->group);
    if (tp_checkpoint_tensor(b->ck, group->codes) == t)
        return add_decoded(b, t);
    for (size_t i = 0; i < TP_COUNT_OF(endings); i++) {
        if (endings[i].is_activation && ends_in(t, endings[i].ending)) {
            char shown[TP_NAME_TEXT];
            tp_name_list_add(&b->dropped, tp_describe_name(shown, t->name, t->name_len));
            break;
        }
    }
    return TP_OK;
}

static enum tp_status decode_all(struct builder *b)
{
    uint32_t count = tp_checkpoint_tensor_count(b->ck);
    enum tp_status st = b->options->dequantize_scheme ? TP_OK : tp_quant_check_method(b->ck, b->err);
    for (uint32_t i = 0; i < count && !st; i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(b->ck, i);
        st = t->group == TP_NO_GROUP ? add_plain(b, t) : add_member(b, t);
    }
    bool ok = true;
    if (!st && tp_checkpoint_group_count(b->ck) == 0)
        ok = tp_list_add(b->notes, "--dequantize: there is nothing quantised here");
    if (!st && b->dropped.count > 0)
        ok = ok && tp_list_add(b->notes, "%zu scales of activations are dropped: %s", b->dropped.count,
                               tp_name_list_text(&b->dropped));
    for (size_t i = 0; i < TP_DOUBT_COUNT && !st; i++)
        if (b->doubted[i].count > 0)
            ok = ok && tp_list_add(b->notes, "%zu weight%s: %s (%s)", b->doubted[i].count,
                                   b->doubted[i].count == 1 ? "" : "s", doubts[i], tp_name_list_text(&b->doubted[i]));
    return ok ? st : tp_fail_nomem(b->err);
}

enum tp_status tp_logicals_build(struct tp_logical **out, size_t *count, struct tp_arena *arena, struct tp_list *notes,
                                 const struct tp_checkpoint *ck, const struct tp_convert_options *options,
                                 struct tp_error *err)
{
    uint32_t tensors = tp_checkpoint_tensor_count(ck);
    struct builder b = {.arena = arena, .notes = notes, .ck = ck, .options = options, .err = err};
    b.logicals = malloc(((size_t)tensors + 1) * sizeof *b.logicals);
    if (!b.logicals)
        return tp_fail_nomem(err);
    enum tp_status st = TP_OK;
    if (options->dequantize)
        st = decode_all(&b);
    else
        for (uint32_t i = 0; i < tensors; i++)
            add(&b, tp_checkpoint_tensor(ck, i), NULL);
    if (st) {
        free(b.logicals);
        return st;
    }
    *out = b.logicals;
    *count = b.count;
    return TP_OK;
}
