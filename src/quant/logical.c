/* SPDX-License-Identifier: MIT */
#include "quant/logical.h"

enum tp_status tp_logical_read(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                               uint64_t count, void *dst, struct tp_error *err)
{
    const struct tp_decoded *d = logical->decoded;
    if (d)
        return d->scheme->decode(d, &state->scratch, state->kernels, first, count, dst, err);
    const struct tp_tensor *t = logical->tensor;
    unsigned stored_bits = tp_dtype_bits((enum tp_dtype)t->dtype);
    unsigned seen_bits = tp_dtype_bits((enum tp_dtype)logical->dtype);
    uint64_t scale = seen_bits / stored_bits; /* 2 for bytes of F4, else 1 */
    return tp_tensor_read(state->ck, t, first * scale, count * scale, dst, err);
}
