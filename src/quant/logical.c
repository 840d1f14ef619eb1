/* SPDX-License-Identifier: MIT */
#include "quant/logical.h"

#include "checkpoint/checkpoint.h"

enum tp_status tp_logical_read(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                               uint64_t count, void *dst, struct tp_error *err)
{
    const struct tp_decoded *d = logical->decoded;
    if (d && d->scheme->decode_bf16)
        return d->scheme->decode_bf16(d, &state->scratch, state->kernels, first, count, dst, err);
    if (d)
        return d->scheme->decode(d, &state->scratch, state->kernels, first, count, dst, err);
    const struct tp_tensor *t = logical->tensor;
    bool is_bytes_of_codes = tp_dtype_bits((enum tp_dtype)t->dtype) < 8 && logical->dtype == TP_U8;
    if (is_bytes_of_codes) /* F4 and F6 are only ever met in safetensors, in one extent */
        return tp_checkpoint_read_at(state->ck, t->extents[0].file, dst, (size_t)count,
                                     t->extents[0].offset_bytes + first, err);
    return tp_tensor_read(state->ck, t, first, count, dst, err);
}

bool tp_logical_read_cast(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                          uint64_t count, enum tp_dtype dtype, void *dst, bool saturate, struct tp_stats *stats,
                          enum tp_status *status, struct tp_error *err)
{
    const struct tp_decoded *d = logical->decoded;
    if (!d || !d->scheme->round_bf16 || dtype != TP_BF16)
        return false;
    *status = d->scheme->round_bf16(d, &state->scratch, state->kernels, first, count, dst, saturate, stats, err);
    return true;
}
