/* SPDX-License-Identifier: MIT */
#include "job/sames.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "os/host.h"

#define WINDOW_BYTES ((size_t)256 << 10)
#define SCRATCH_BYTES ((size_t)12 << 20)

/* What reads one side. */
struct side {
    const struct tp_logical *logical;
    struct tp_reader_state reader;
    uint8_t *bytes; /* WINDOW_BYTES */
};

static bool open_side(struct side *s, const struct tp_logical *logical, const struct tp_checkpoint *ck,
                      const struct tp_kernels *kernels)
{
    *s = (struct side){.logical = logical, .reader = {.ck = ck, .kernels = kernels}, .bytes = malloc(WINDOW_BYTES)};
    if (!s->logical->decoded)
        return s->bytes != NULL;
    s->reader.scratch.size_bytes = SCRATCH_BYTES;
    s->reader.scratch.bytes = tp_host_alloc_aligned(SCRATCH_BYTES);
    return s->bytes && s->reader.scratch.bytes;
}

static void close_side(struct side *s)
{
    if (s->reader.scratch.bytes)
        tp_host_free_aligned(s->reader.scratch.bytes, SCRATCH_BYTES);
    free(s->bytes);
}

static enum tp_status differ(const struct side *a, const struct side *b, const char *what, struct tp_error *err)
{
    char other[TP_NAME_TEXT];
    tp_describe_name(other, tp_logical_name(b->logical), tp_logical_name_len(b->logical));
    tp_fail(err, TP_ERR_FORMAT, "the map leaves it out because it is the same as '%s', but %s", other, what);
    tp_err_tensor(err, TP_ERR_FORMAT, tp_logical_name(a->logical), tp_logical_name_len(a->logical));
    return tp_err_hint(err, TP_ERR_FORMAT, "a rule that writes it, or `drop`, would be right for this model");
}

static bool same_shape(const struct tp_logical *a, const struct tp_logical *b)
{
    unsigned rank = tp_logical_rank(a);
    return a->dtype == b->dtype && rank == tp_logical_rank(b) &&
           memcmp(tp_logical_shape(a), tp_logical_shape(b), rank * sizeof(uint64_t)) == 0;
}

static enum tp_status compare_window(const struct side *a, const struct side *b, uint64_t first, size_t count,
                                     struct tp_error *err)
{
    size_t item = tp_dtype_bits((enum tp_dtype)a->logical->dtype) / 8;
    for (size_t i = 0; i < count; i++) {
        char what[96], shown[TP_COUNT_TEXT];
        if (memcmp(a->bytes + i * item, b->bytes + i * item, item) == 0)
            continue;
        snprintf(what, sizeof what, "element %s differs", tp_describe_count(shown, first + i));
        return differ(a, b, what, err);
    }
    return TP_OK;
}

static enum tp_status compare(struct side *a, struct side *b, struct tp_error *err)
{
    size_t bits = tp_dtype_bits((enum tp_dtype)a->logical->dtype);
    if (!same_shape(a->logical, b->logical))
        return differ(a, b, "its dtype or shape is another", err);
    if (bits < 8)
        return tp_fail(err, TP_ERR_UNSUPPORTED, "same_as: packed codes cannot be compared");
    uint64_t count = tp_logical_elem_count(a->logical), step = WINDOW_BYTES * 8 / bits;
    for (uint64_t first = 0; first < count; first += step) {
        size_t n = count - first < step ? (size_t)(count - first) : (size_t)step;
        enum tp_status st = tp_logical_read(&a->reader, a->logical, first, n, a->bytes, err);
        if (!st)
            st = tp_logical_read(&b->reader, b->logical, first, n, b->bytes, err);
        if (!st && memcmp(a->bytes, b->bytes, n * bits / 8) != 0)
            st = compare_window(a, b, first, n, err);
        if (st)
            return st;
    }
    return TP_OK;
}

enum tp_status tp_sames_check(const struct tp_logical *logicals, const struct tp_same *sames, size_t count,
                              const struct tp_checkpoint *ck, struct tp_error *err)
{
    struct tp_kernels kernels;
    enum tp_status st = TP_OK;
    tp_kernels_init(&kernels, NULL);
    for (size_t i = 0; i < count && !st; i++) {
        struct side a, b;
        bool ok = open_side(&a, &logicals[sames[i].logical], ck, &kernels);
        ok = open_side(&b, &logicals[sames[i].other], ck, &kernels) && ok;
        st = ok ? compare(&a, &b, err) : tp_fail_nomem(err);
        close_side(&a);
        close_side(&b);
    }
    return st;
}
