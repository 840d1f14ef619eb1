/* SPDX-License-Identifier: MIT */
/* Reading bytes and values of tensors. Any number of threads. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "checkpoint/chunks.h"

#define PIECE_ELEMS ((size_t)32 << 10)
#define CHUNK_MEMORY_BYTES ((size_t)16 << 20)

enum tp_status tp_checkpoint_read_at(const struct tp_checkpoint *ck, uint32_t file, void *dst, size_t len,
                                     uint64_t offset, struct tp_error *err)
{
    int fd = -1;
    if (len == 0)
        return TP_OK;
    enum tp_status status = tp_file_cache_get(ck->cache, file, &fd, err);
    if (status)
        return status;
    status = tp_file_read_at(fd, dst, len, offset, tp_file_cache_path(ck->cache, file), err);
    tp_file_cache_put(ck->cache, file);
    return status;
}

enum tp_status tp_checkpoint_check_unchanged(const struct tp_checkpoint *ck, struct tp_error *err)
{
    enum tp_status status = TP_OK;
    for (uint32_t i = 0; !status && i < ck->file_count; i++)
        status = tp_file_cache_check(ck->cache, i, err);
    return status;
}

/* ---- bytes ---- */

static enum tp_status check_range(const struct tp_tensor *t, uint64_t first, uint64_t count, struct tp_error *err)
{
    unsigned bits = tp_dtype_bits((enum tp_dtype)t->dtype);
    if (first > t->elem_count || count > t->elem_count - first)
        return tp_fail(err, TP_ERR_USAGE, "elements %" PRIu64 " to %" PRIu64 " of a tensor that has %" PRIu64, first,
                       first + count, t->elem_count);
    if (first % 8 * bits % 8 != 0 || (count % 8 * bits % 8 != 0 && first + count != t->elem_count))
        return tp_fail(err, TP_ERR_USAGE, "a range of %u-bit elements that does not begin and end at a byte", bits);
    return TP_OK;
}

/* Where the elements lie between the whole bytes of an extent; sizes were proved when the checkpoint was opened. */
static uint64_t bytes_of(const struct tp_tensor *t, uint64_t elem_count)
{
    unsigned bits = tp_dtype_bits((enum tp_dtype)t->dtype);
    return elem_count / 8 * bits + elem_count % 8 * bits / 8;
}

enum tp_status tp_tensor_read(const struct tp_checkpoint *ck, const struct tp_tensor *tensor, uint64_t first,
                              uint64_t count, void *dst, struct tp_error *err)
{
    unsigned char *to = dst;
    enum tp_status status = check_range(tensor, first, count, err);
    if (!status && tensor->chunks)
        return tp_chunks_read(NULL, ck, tensor, first, count, dst, err);
    for (uint32_t i = 0; !status && count > 0 && i < tensor->extent_count; i++) {
        const struct tp_extent *e = &tensor->extents[i];
        if (first < e->first_elem || first - e->first_elem >= e->elem_count)
            continue;
        uint64_t skip = first - e->first_elem;
        uint64_t here = e->elem_count - skip < count ? e->elem_count - skip : count;
        size_t len = (size_t)bytes_of(tensor, here);
        status = tp_checkpoint_read_at(ck, e->file, to, len, e->offset_bytes + bytes_of(tensor, skip), err);
        to += len;
        first += here;
        count -= here;
    }
    return status ? tp_err_tensor(err, status, tensor->name, tensor->name_len) : TP_OK;
}

/* ---- values ---- */

/* One element as float32, rounded once. */
static float one_f32(const uint8_t *p, double value, enum tp_dtype dtype)
{
    float same;
    uint32_t bits;
    switch (dtype) {
    case TP_F32:
        bits = (uint32_t)tp_load_le(p, 4);
        memcpy(&same, &bits, sizeof same); /* NaN bits too */
        return same;
    case TP_I64:
        return (float)(int64_t)tp_load_le(p, 8);
    case TP_U64:
        return (float)tp_load_le(p, 8);
    default:
        return (float)value;
    }
}

struct piece { /* room for some elements, as stored and as doubles */
    uint8_t *bytes;
    double *values;
    struct tp_chunk_reader *chunks; /* NULL: the tensor has none */
};

static enum tp_status piece_new(struct piece *piece, const struct tp_tensor *t, struct tp_error *err)
{
    double probe;
    if (!tp_dtype_to_f64(&probe, "", 0, (enum tp_dtype)t->dtype))
        return tp_err_tensor(
            err,
            tp_fail(err, TP_ERR_UNSUPPORTED, "%s has no documented bit order", tp_dtype_name((enum tp_dtype)t->dtype)),
            t->name, t->name_len);
    piece->bytes = malloc(PIECE_ELEMS * 8);
    piece->values = malloc(PIECE_ELEMS * sizeof *piece->values);
    piece->chunks = t->chunks ? tp_chunk_reader_new(CHUNK_MEMORY_BYTES) : NULL;
    return piece->bytes && piece->values && (piece->chunks || !t->chunks) ? TP_OK : tp_fail_nomem(err);
}

static void piece_free(struct piece *piece)
{
    free(piece->bytes);
    free(piece->values);
    tp_chunk_reader_free(piece->chunks);
}

static enum tp_status piece_read(struct piece *piece, const struct tp_checkpoint *ck, const struct tp_tensor *t,
                                 uint64_t first, size_t count, struct tp_error *err)
{
    enum tp_status status = check_range(t, first, count, err);
    if (!status)
        status = t->chunks ? tp_chunks_read(piece->chunks, ck, t, first, count, piece->bytes, err)
                           : tp_tensor_read(ck, t, first, count, piece->bytes, err);
    if (!status)
        tp_dtype_to_f64(piece->values, piece->bytes, count, (enum tp_dtype)t->dtype);
    return status;
}

static size_t next_count(uint64_t left)
{
    return left < PIECE_ELEMS ? (size_t)left : PIECE_ELEMS;
}

enum tp_status tp_tensor_read_f32(const struct tp_checkpoint *ck, const struct tp_tensor *tensor, uint64_t first,
                                  uint64_t count, float *dst, struct tp_error *err)
{
    enum tp_dtype dtype = (enum tp_dtype)tensor->dtype;
    struct piece piece = {NULL, NULL, NULL};
    enum tp_status status =
        tp_dtype_class(dtype) != TP_CLASS_COMPLEX
            ? piece_new(&piece, tensor, err)
            : tp_err_tensor(err, tp_fail(err, TP_ERR_UNSUPPORTED, "complex values cannot be read as float32"),
                            tensor->name, tensor->name_len);
    while (!status && count > 0) {
        size_t n = next_count(count);
        status = piece_read(&piece, ck, tensor, first, n, err);
        for (size_t i = 0; !status && i < n; i++)
            dst[i] = one_f32(piece.bytes + i * (tp_dtype_bits(dtype) / 8), piece.values[i], dtype);
        dst += n;
        first += n;
        count -= n;
    }
    piece_free(&piece);
    return status;
}

static void summarise_values(struct tp_tensor_summary *s, double *magnitude_sum, uint64_t *finite_count,
                             const double *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double v = values[i];
        s->nan_count += isnan(v) != 0;
        s->inf_count += isinf(v) != 0;
        s->zero_count += fpclassify(v) == FP_ZERO;
        if (!isfinite(v))
            continue;
        s->min = v < s->min ? v : s->min;
        s->max = v > s->max ? v : s->max;
        *magnitude_sum += fabs(v);
        ++*finite_count;
    }
}

enum tp_status tp_tensor_summarise(const struct tp_checkpoint *ck, const struct tp_tensor *tensor,
                                   struct tp_tensor_summary *out, struct tp_error *err)
{
    struct tp_tensor_summary s = {.min = INFINITY, .max = -INFINITY};
    struct piece piece = {NULL, NULL, NULL};
    double magnitude_sum = 0; /* of up to 2^63 values: the error of the mean is far below what is shown */
    uint64_t finite_count = 0;
    enum tp_status status = piece_new(&piece, tensor, err);
    for (uint64_t first = 0; !status && first < tensor->elem_count;) {
        size_t n = next_count(tensor->elem_count - first);
        status = piece_read(&piece, ck, tensor, first, n, err);
        if (!status)
            summarise_values(&s, &magnitude_sum, &finite_count, piece.values, n);
        first += n;
    }
    piece_free(&piece);
    if (!status) {
        s.min += 0.0; /* -0 becomes 0 */
        s.max += 0.0;
        s.mean_magnitude = finite_count > 0 ? magnitude_sum / (double)finite_count : 0;
        *out = s;
    }
    return status;
}
