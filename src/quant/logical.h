/* SPDX-License-Identifier: MIT */
/* A logical tensor: what the plan and the pipeline see. It answers one question, the elements of a run, whether they
 * lie plainly in a file or have to be decoded. */
#ifndef TP_QUANT_LOGICAL_H
#define TP_QUANT_LOGICAL_H

#include "base/list.h"
#include "checkpoint/chunks.h"
#include "quant/decode.h"
#include "tensorport/convert.h"

struct tp_logical {
    const struct tp_tensor *tensor;   /* plain; of a decoded one the codes, which name its place in the source */
    const struct tp_decoded *decoded; /* or NULL */
    const struct tp_checkpoint *ck;   /* where the tensor lies; NULL: in the reader's own checkpoint */
    uint8_t dtype; /* enum tp_dtype that the elements are read as: F32 or BF16 when decoded; U8 of an F4 or F6 tensor
                      counts the bytes of its codes */
};

static inline const char *tp_logical_name(const struct tp_logical *l)
{
    return l->decoded ? l->decoded->name : l->tensor->name;
}
static inline uint16_t tp_logical_name_len(const struct tp_logical *l)
{
    return l->decoded ? l->decoded->name_len : l->tensor->name_len;
}
static inline const uint64_t *tp_logical_shape(const struct tp_logical *l)
{
    return l->decoded ? l->decoded->shape : l->tensor->shape;
}
static inline uint8_t tp_logical_rank(const struct tp_logical *l)
{
    return l->decoded ? l->decoded->rank : l->tensor->rank;
}
static inline uint64_t tp_logical_elem_count(const struct tp_logical *l)
{
    return l->decoded ? l->decoded->elem_count : l->tensor->elem_count;
}
/* Of the source: what is read to make it. */
static inline uint64_t tp_logical_source_bytes(const struct tp_logical *l)
{
    return l->decoded ? l->decoded->group->size_bytes : l->tensor->size_bytes;
}
/* The group that it is a member of, undecoded; or TP_NO_GROUP. */
static inline uint32_t tp_logical_group(const struct tp_logical *l)
{
    return l->decoded ? TP_NO_GROUP : l->tensor->group;
}

/* All logical tensors of a checkpoint, in source order (a decoded one where its codes are), in a malloc'd table;
 * decoders and their names in `arena`. Without options->dequantize they are the tensors. With it, what cannot be
 * decoded is refused, every group at once; codes or scales that belong to no group are an error; activation scales are
 * dropped, and noted. */
enum tp_status tp_logicals_build(struct tp_logical **out, size_t *count, struct tp_arena *arena, struct tp_list *notes,
                                 const struct tp_checkpoint *ck, const struct tp_convert_options *options,
                                 struct tp_error *err);

#define TP_ROWS_WINDOW_BYTES ((size_t)128 << 10)

/* What a worker brings along. Everything but the first two may be absent where no logical tensor needs it. */
struct tp_reader_state {
    const struct tp_checkpoint *ck;
    const struct tp_kernels *kernels;
    struct tp_scratch scratch;      /* for decoded ones */
    struct tp_chunk_reader *chunks; /* for those stored in chunks; without it each read makes one */
    uint8_t *window;                /* TP_ROWS_WINDOW_BYTES, for short rows */
};

/* Elements [first, first + count), row-major, to dst. F4: first and count are even, or reach the end. Thread-safe with
 * a state of one's own. */
enum tp_status tp_logical_read(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                               uint64_t count, void *dst, struct tp_error *err);
/* `rows` runs of `count` elements, each `stride` elements behind the one before, one behind the other to dst. */
enum tp_status tp_logical_read_rows(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                                    uint64_t count, uint64_t stride, uint64_t rows, void *dst, struct tp_error *err);
/* The same, cast to `dtype` on the way, where there is a shorter way than to read and to cast: false, and nothing done,
 * if there is none. */
bool tp_logical_read_cast(struct tp_reader_state *state, const struct tp_logical *logical, uint64_t first,
                          uint64_t count, enum tp_dtype dtype, void *dst, bool saturate, struct tp_stats *stats,
                          enum tp_status *status, struct tp_error *err);

#endif
