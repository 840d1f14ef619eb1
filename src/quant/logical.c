/* SPDX-License-Identifier: MIT */
#include "quant/logical.h"

#include <string.h>

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
    const struct tp_checkpoint *ck = logical->ck ? logical->ck : state->ck;
    bool is_bytes_of_codes = tp_dtype_bits((enum tp_dtype)t->dtype) < 8 && logical->dtype == TP_U8;
    if (is_bytes_of_codes) /* F4 and F6 are only ever met in safetensors, in one extent */
        return tp_checkpoint_read_at(ck, t->extents[0].file, dst, (size_t)count, t->extents[0].offset_bytes + first,
                                     err);
    if (t->chunks)
        return tp_chunks_read(state->chunks, ck, t, first, count, dst, err);
    return tp_tensor_read(ck, t, first, count, dst, err);
}

#define ROW_LONG ((uint64_t)4096) /* a system call costs about as much as copying this */
#define ROW_SPARSE 32u            /* a span that holds less than one byte of so many is not worth reading */

/* Short rows not far apart: what lies between them is read too, and left out. */
static enum tp_status read_span(struct tp_reader_state *state, const struct tp_logical *l, uint64_t first,
                                size_t row_bytes, uint64_t stride, uint64_t rows, uint8_t *dst, struct tp_error *err)
{
    size_t item = tp_dtype_bits((enum tp_dtype)l->dtype) / 8, stride_bytes = (size_t)stride * item;
    while (rows > 0) {
        uint64_t fit = (TP_ROWS_WINDOW_BYTES - row_bytes) / stride_bytes + 1;
        uint64_t n = rows < fit ? rows : fit;
        uint64_t span = (n - 1) * stride + row_bytes / item;
        enum tp_status st = tp_logical_read(state, l, first, span, state->window, err);
        if (st)
            return st;
        for (uint64_t i = 0; i < n; i++)
            memcpy(dst + i * row_bytes, state->window + i * stride_bytes, row_bytes);
        dst += n * row_bytes;
        first += n * stride;
        rows -= n;
    }
    return TP_OK;
}

enum tp_status tp_logical_read_rows(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                                    uint64_t count, uint64_t stride, uint64_t rows, void *dst, struct tp_error *err)
{
    unsigned bits = tp_dtype_bits((enum tp_dtype)logical->dtype);
    uint64_t row_bytes = count / 8 * bits + count % 8 * bits / 8;
    uint8_t *to = dst;
    if (stride == count)
        return tp_logical_read(state, logical, first, count * rows, dst, err);
    if (state->window && bits >= 8 && row_bytes < ROW_LONG && stride / ROW_SPARSE < count)
        return read_span(state, logical, first, (size_t)row_bytes, stride, rows, to, err);
    enum tp_status st = TP_OK;
    for (uint64_t i = 0; i < rows && !st; i++, first += stride, to += row_bytes)
        st = tp_logical_read(state, logical, first, count, to, err);
    return st;
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
