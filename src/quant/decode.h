/* SPDX-License-Identifier: MIT */
/* Decoding: how the tensors of a quantised group become one tensor of plain numbers. A scheme is one file and one row
 * of the table in schemes.c; nothing above knows more of it than this.
 *
 * Every scheme decodes to float32 values that are exact, or rounded once where its formula says so, or to bfloat16
 * where that holds every value; the cast kernels then round once to the target. Memory: a worker's scratch, whatever
 * the size of the tensors. */
#ifndef TP_QUANT_DECODE_H
#define TP_QUANT_DECODE_H

#include "base/arena.h"
#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"

enum tp_mxfp4_layout {
    TP_MXFP4_IN_OUT = 0,
    TP_MXFP4_OUT_IN
}; /* of stacked experts: [E, in, out] as in HF, or as stored */

struct tp_decode_options {
    enum tp_mxfp4_layout mxfp4_layout;
    bool nan_scales;    /* a NaN scale gives NaN values; else it is an error */
    bool positive_zero; /* MXFP4 code 8 is +0.0; else -0.0 */
    bool f16_first;     /* GPTQ, AWQ: round to float16 (the scales' dtype) first, as their packages do */
};

/* A worker's memory for what a scheme has read: kept from call to call, since the next one is usually for the next
 * elements. */
struct tp_scratch {
    uint8_t *bytes; /* 64-byte aligned */
    size_t size_bytes;
    const void *owner; /* the tp_decoded that filled it, NULL: nobody */
    uint64_t key;      /* the owner's: which part of itself lies there */
};
#define TP_SCRATCH_MIN_BYTES ((size_t)1 << 20)

/* What the tensors of a group and config.json leave open, so that something was assumed: worth a word, which is
 * logicals.c's. */
enum tp_doubt {
    TP_DOUBT_ZEROS_UNSAID,  /* GPTQ: config.json has no checkpoint_format; v1 is assumed */
    TP_DOUBT_ZEROS_LIKE_V2, /* it says v1, and the zero points are the middle as v2 stores it */
    TP_DOUBT_ZEROS_LIKE_V1,
    TP_DOUBT_ZEROS_BORROW, /* v1 of a nameless package: what lies above a zero point of 0 has two readings */
    TP_DOUBT_COUNT
};

struct tp_scheme;
#define TP_DECODED_PARTS 8u

/* One decoded tensor. Made by the plan, then only read, by any number of threads. */
struct tp_decoded {
    const struct tp_scheme *scheme;
    const struct tp_checkpoint *ck;
    const struct tp_group *group;
    struct tp_decode_options options;
    const struct tp_tensor *codes;
    /* filled in by prepare: */
    const char *name; /* of the tensor that this is in the unquantised model; in the arena */
    const uint64_t *shape;
    uint64_t elem_count;
    uint16_t name_len;
    uint8_t rank;
    uint8_t doubts;                                  /* a bit for each enum tp_doubt */
    const struct tp_tensor *parts[TP_DECODED_PARTS]; /* scales, zero points ...: the scheme's own numbering */
    const void *params;                              /* the scheme's own, in the arena */
};

struct tp_scheme {
    const char *name; /* as tp_group.scheme */
    /* Check every member against the others (shapes, dtypes, config.json), and fill in the result's name and shape. All
     * that headers can show to be wrong is refused here, naming both tensors and both numbers. May read small tensors
     * (a JSON of bitsandbytes), never codes. */
    enum tp_status (*prepare)(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err);
    /* Elements [first, first + count) of the result, row-major, as float32. Any first, any count that fits the caller's
     * buffer (at most 2^20). Thread-safe with a scratch of one's own. */
    enum tp_status (*decode)(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err);
    /* The same as bfloat16, for a scheme whose values all are. It has this one and not the other; dst need not be
     * aligned. */
    enum tp_status (*decode_bf16)(const struct tp_decoded *d, struct tp_scratch *scratch,
                                  const struct tp_kernels *kernels, uint64_t first, uint64_t count, void *dst,
                                  struct tp_error *err);
    /* Or NULL: as `decode` and then the cast to bfloat16 (kernels.h says what `saturate` and the statistics are), in
     * one go. dst need not be aligned. */
    enum tp_status (*round_bf16)(const struct tp_decoded *d, struct tp_scratch *scratch,
                                 const struct tp_kernels *kernels, uint64_t first, uint64_t count, void *dst,
                                 bool saturate, struct tp_stats *stats, struct tp_error *err);
};

/* What its elements are decoded as. */
static inline enum tp_dtype tp_decoded_dtype(const struct tp_decoded *d)
{
    return d->scheme->decode_bf16 ? TP_BF16 : TP_F32;
}

/* The table (schemes.c); NULL: a scheme that is recognised but cannot be decoded. */
const struct tp_scheme *tp_scheme_find(const char *name);

/* ---- for schemes ---- */

/* The member of d's group whose name is the group's stem + suffix, or NULL. */
const struct tp_tensor *tp_decoded_member(const struct tp_decoded *d, const char *suffix);
/* Name the result stem + suffix. */
enum tp_status tp_decoded_set_name(struct tp_decoded *d, struct tp_arena *arena, const char *suffix,
                                   struct tp_error *err);
enum tp_status tp_decoded_set_shape(struct tp_decoded *d, struct tp_arena *arena, const uint64_t *shape, unsigned rank,
                                    struct tp_error *err);
/* An error about two tensors that do not go together: names d's codes in err->tensor and `other` in the text. */
enum tp_status tp_decoded_refuse(const struct tp_decoded *d, const struct tp_tensor *other, struct tp_error *err,
                                 const char *fmt, ...) TP_PRINTF(4, 5);
/* `count` elements of a scale tensor (F32, F16, BF16, E8M0, U8 as E8M0, F8_E4M3) as float32, from element `first`. */
enum tp_status tp_decoded_read_scales(const struct tp_decoded *d, const struct tp_tensor *t, uint64_t first,
                                      uint64_t count, float *dst, struct tp_error *err);

#endif
