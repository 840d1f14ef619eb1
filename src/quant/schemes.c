/* SPDX-License-Identifier: MIT */
/* Which schemes can be decoded: one row each. And what all of them share. */
#include "quant/schemes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"

static const struct tp_scheme *const schemes[] = {
    &tp_scheme_mxfp4,   &tp_scheme_mxfp6,          &tp_scheme_mxfp8, &tp_scheme_nvfp4, &tp_scheme_fp8,
    &tp_scheme_int8,    &tp_scheme_pack_quantized, &tp_scheme_gptq,  &tp_scheme_awq,   &tp_scheme_bnb_nf4,
    &tp_scheme_bnb_fp4, &tp_scheme_bnb_int8,       &tp_scheme_int4,
};

const struct tp_scheme *tp_scheme_find(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(schemes); i++)
        if (strcmp(schemes[i]->name, name) == 0)
            return schemes[i];
    return NULL;
}

const struct tp_tensor *tp_decoded_member(const struct tp_decoded *d, const char *suffix)
{
    char name[TP_NAME_MAX_BYTES + 128];
    int len = snprintf(name, sizeof name, "%s%s", d->group->name, suffix);
    const struct tp_tensor *t = len > 0 && (size_t)len < sizeof name ? tp_checkpoint_find(d->ck, name) : NULL;
    return t && t->group == d->codes->group ? t : NULL;
}

enum tp_status tp_decoded_set_name(struct tp_decoded *d, struct tp_arena *arena, const char *suffix,
                                   struct tp_error *err)
{
    char name[TP_NAME_MAX_BYTES + 128];
    int len = snprintf(name, sizeof name, "%s%s", d->group->name, suffix);
    if (len < 0 || (size_t)len > TP_NAME_MAX_BYTES)
        return tp_fail(err, TP_ERR_LIMIT, "the decoded tensor's name would be longer than %u bytes", TP_NAME_MAX_BYTES);
    d->name = tp_arena_strndup(arena, name, (size_t)len);
    d->name_len = (uint16_t)len;
    return d->name ? TP_OK : tp_fail_nomem(err);
}

enum tp_status tp_decoded_set_shape(struct tp_decoded *d, struct tp_arena *arena, const uint64_t *shape, unsigned rank,
                                    struct tp_error *err)
{
    uint64_t size_bytes;
    uint64_t *kept = tp_arena_alloc(arena, rank * sizeof *kept);
    if (!kept)
        return tp_fail_nomem(err);
    if (rank > 0)
        memcpy(kept, shape, rank * sizeof *kept);
    d->shape = kept;
    d->rank = (uint8_t)rank;
    if (rank > TP_RANK_MAX || !tp_shape_measure(shape, rank, TP_F32, &d->elem_count, &size_bytes))
        return tp_decoded_refuse(d, NULL, err, "the decoded tensor would have more elements than can be counted");
    return TP_OK;
}

enum tp_status tp_decoded_refuse(const struct tp_decoded *d, const struct tp_tensor *other, struct tp_error *err,
                                 const char *fmt, ...)
{
    char text[1024], name[TP_NAME_TEXT] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (other)
        tp_describe_name(name, other->name, other->name_len);
    tp_fail(err, TP_ERR_FORMAT, "%s%s%s%s", text, other ? " ('" : "", name, other ? "')" : "");
    tp_err_path(err, TP_ERR_FORMAT, tp_checkpoint_path(d->ck));
    return tp_err_tensor(err, TP_ERR_FORMAT, d->codes->name, d->codes->name_len);
}

/* E8M0 is also met as plain U8: then its bytes are exponents too. */
static void exponents_to_f32(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = src[i] == 0xff ? 0x7fc00000u : src[i] == 0 ? 0x00400000u : (uint32_t)src[i] << 23;
        memcpy(&dst[i], &bits, sizeof bits);
    }
}

enum tp_status tp_decoded_read_scales(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t first,
                                      uint64_t count, float *dst, struct tp_error *err)
{
    if (t->dtype != TP_U8)
        return tp_tensor_read_f32(d->ck, t, first, count, dst, err);
    uint8_t bytes[1024];
    while (count > 0) {
        size_t n = count < sizeof bytes ? (size_t)count : sizeof bytes;
        enum tp_status st = tp_tensor_read(d->ck, t, first, n, bytes, err);
        if (st)
            return st;
        exponents_to_f32(dst, bytes, n);
        dst += n;
        first += n;
        count -= n;
    }
    return TP_OK;
}
