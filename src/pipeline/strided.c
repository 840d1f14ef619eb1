/* SPDX-License-Identifier: MIT */
#include "pipeline/strided.h"

#include <string.h>

#include "kernels/transpose.h"

#define CHAIN_MAX 8u

/* What is left of the loops: those that a function does, and those around. */
struct copy {
    const struct tp_kernels *kernels;
    struct tp_stride inner, outer; /* of copying item by item: neighbours inside, where there are any */
    /* Of a transposition: inner has neighbours in the source; the rows, that is what follows each other in the target,
     * are the steps of a chain of loops, fastest first. */
    struct tp_stride chain[CHAIN_MAX];
    unsigned chain_count; /* 0: it is none */
    struct tp_stride *around;
    unsigned around_count;
    size_t item_bytes;
};

/* ---- two loops ---- */

#define DEFINE_COPY_ITEMS(name, bytes)                                                        \
    static void copy_items_##name(const struct copy *c, uint8_t *dst, const uint8_t *src)     \
    {                                                                                         \
        for (size_t i = 0; i < c->outer.count; i++, dst += c->outer.dst, src += c->outer.src) \
            for (size_t k = 0; k < c->inner.count; k++)                                       \
                memcpy(dst + k * c->inner.dst, src + k * c->inner.src, bytes);                \
    }
DEFINE_COPY_ITEMS(1, 1)
DEFINE_COPY_ITEMS(2, 2)
DEFINE_COPY_ITEMS(4, 4)
DEFINE_COPY_ITEMS(8, 8)
DEFINE_COPY_ITEMS(16, 16)
DEFINE_COPY_ITEMS(any, c->item_bytes)

static unsigned log_of(size_t item_bytes)
{
    unsigned log = 0;
    for (; item_bytes > 1; item_bytes /= 2)
        log++;
    return log;
}

/* As many rows at a time as the list has room for. */
static void transpose(const struct copy *c, uint8_t *dst, const uint8_t *src)
{
    const uint8_t *rows[TP_TRANSPOSE_ROWS];
    size_t at[CHAIN_MAX] = {0};
    for (unsigned i = 0; i < c->chain_count;) {
        size_t n = 0;
        do {
            rows[n++] = src;
            for (i = 0; i < c->chain_count && ++at[i] == c->chain[i].count; i++) { /* begin again, step further out */
                at[i] = 0;
                src -= (c->chain[i].count - 1) * c->chain[i].src;
            }
            src += i < c->chain_count ? c->chain[i].src : 0;
        } while (n < TP_TRANSPOSE_ROWS && i < c->chain_count);
        c->kernels->transpose[log_of(c->item_bytes)](dst, c->inner.dst, rows, n, c->inner.count);
        dst += n * c->item_bytes;
    }
}

static void copy_loops(const struct copy *c, uint8_t *dst, const uint8_t *src)
{
    if (c->chain_count > 0) {
        transpose(c, dst, src);
        return;
    }
    switch (c->item_bytes) {
    case 1:
        copy_items_1(c, dst, src);
        break;
    case 2:
        copy_items_2(c, dst, src);
        break;
    case 4:
        copy_items_4(c, dst, src);
        break;
    case 8:
        copy_items_8(c, dst, src);
        break;
    case 16:
        copy_items_16(c, dst, src);
        break;
    default:
        copy_items_any(c, dst, src);
        break;
    }
}

/* ---- which two ---- */

static struct tp_stride take(struct copy *c, unsigned which)
{
    struct tp_stride loop = c->around[which];
    c->around_count--;
    memmove(c->around + which, c->around + which + 1, (c->around_count - which) * sizeof *c->around);
    return loop;
}

/* The loop of neighbours on either side, or the number of loops. */
static unsigned neighbours(const struct copy *c, bool in_source, bool in_target)
{
    unsigned i = 0;
    for (; i < c->around_count; i++)
        if ((!in_source || c->around[i].src == c->item_bytes) && (!in_target || c->around[i].dst == c->item_bytes))
            break;
    return i;
}

/* What lies together on both sides is one larger item. */
static void join_items(struct copy *c)
{
    for (unsigned i = 0; i < c->around_count;)
        if (c->around[i].count == 1)
            (void)take(c, i);
        else
            i++;
    for (unsigned i; (i = neighbours(c, true, true)) < c->around_count;)
        c->item_bytes *= take(c, i).count;
}

/* The loop that steps `stride` bytes in the target, or the number of loops. */
static unsigned steps_by(const struct copy *c, size_t stride)
{
    unsigned i = 0;
    while (i < c->around_count && c->around[i].dst != stride)
        i++;
    return i;
}

static void choose_loops(struct copy *c)
{
    const struct tp_stride once = {1, 0, 0};
    unsigned reads = neighbours(c, true, false), writes = neighbours(c, false, true);
    bool has_kernel = c->item_bytes == 1 || c->item_bytes == 2 || c->item_bytes == 4 || c->item_bytes == 8;
    c->inner = c->outer = once;
    if (has_kernel && reads < c->around_count && writes < c->around_count) {
        size_t stride = c->item_bytes;
        c->inner = take(c, reads);
        for (unsigned i; c->chain_count < CHAIN_MAX && (i = steps_by(c, stride)) < c->around_count;) {
            stride *= c->around[i].count;
            c->chain[c->chain_count++] = take(c, i);
        }
        return;
    }
    if (c->around_count > 0)
        c->inner = take(c, writes < c->around_count ? writes : reads < c->around_count ? reads : c->around_count - 1);
    if (c->around_count > 0)
        c->outer = take(c, c->around_count - 1);
}

void tp_strided_copy(const struct tp_kernels *kernels, uint8_t *dst, const uint8_t *src, struct tp_stride *loops,
                     unsigned loop_count, size_t item_bytes)
{
    struct copy c = {.kernels = kernels, .around = loops, .around_count = loop_count, .item_bytes = item_bytes};
    size_t at[TP_STRIDED_LOOPS_MAX] = {0};
    join_items(&c);
    choose_loops(&c);
    for (;;) {
        unsigned i = 0;
        copy_loops(&c, dst, src);
        for (; i < c.around_count && ++at[i] == loops[i].count; i++) { /* begin again, and step further out */
            at[i] = 0;
            dst -= (loops[i].count - 1) * loops[i].dst;
            src -= (loops[i].count - 1) * loops[i].src;
        }
        if (i == c.around_count)
            return;
        dst += loops[i].dst;
        src += loops[i].src;
    }
}
