/* SPDX-License-Identifier: MIT */
/* The plan: which arrays the output holds, which elements of the source make them, and (after a format's layout) at
 * which byte of which file they lie. Built from headers and options alone: no data is read, nothing is written, no
 * thread, no clock. Everything that can be refused without touching data is refused here, all faults at once.
 *
 *     logicals --pieces--> arrays --layout--> extents in files --64 MiB--> blocks
 */
#ifndef TP_PLAN_PLAN_H
#define TP_PLAN_PLAN_H

#include "base/arena.h"
#include "base/list.h"
#include "quant/logical.h"
#include "tensorport/convert.h"

#define TP_BLOCK_BYTES ((uint64_t)64 << 20) /* unit of digest and of parallel work; part of the manifest's format */
#define TP_SHARD_SIZE_DEFAULT UINT64_C(1800000000)
#define TP_TREE_DEPTH_MAX 256u
#define TP_NONE UINT32_MAX

enum tp_op {
    TP_OP_COPY,      /* the bytes as they are */
    TP_OP_CAST,      /* one of the four float dtypes to another */
    TP_OP_UNPACK_F4, /* two codes a byte to one a byte */
};

/* One loop of a piece: `count` steps, each `src_stride` elements on in the logical tensor and `dst_stride` in the
 * array. */
struct tp_axis {
    uint64_t count, src_stride, dst_stride;
};

/* A box of a logical tensor that becomes a box of an array: runs of `run_elems` contiguous elements on both sides,
 * inside loops (outermost first, in the order of the array). A straight copy has no loops and is one run. */
struct tp_piece {
    uint32_t logical;
    uint32_t axis_count;
    const struct tp_axis *axes;
    uint64_t src_first, dst_first, run_elems;
};

/* A leaf of the target tree. Its pieces tile it exactly once, in the order of dst_first. */
struct tp_array {
    const char *path; /* keys from the root, '\0' between them; path_len bytes */
    const uint64_t *shape;
    const struct tp_piece *pieces;
    uint64_t elem_count;
    uint32_t piece_count;
    uint32_t first_extent; /* its extents are chained by `next`, in element order */
    uint32_t result;       /* row of tp_results, or TP_NONE: nothing is counted */
    uint32_t group;        /* of the source checkpoint, or TP_NO_GROUP */
    uint16_t path_len;
    uint8_t rank;
    uint8_t dtype;        /* as written */
    uint8_t source_dtype; /* as stored in the source */
    uint8_t op;           /* enum tp_op */
    uint8_t view;         /* --compat: the dtype that the uint8 bytes stand for, or TP_DTYPE_NONE */
};

/* A flat, row-major range of an array's elements in one file. In the order of files and offsets. */
struct tp_out_extent {
    uint32_t array, file;
    uint32_t next; /* of the same array, or TP_NONE */
    uint32_t leaf; /* the format's own */
    uint64_t first_elem, elem_count;
    uint64_t offset_bytes, size_bytes;
    uint64_t first_block; /* in the table of digests */
};

struct tp_out_file {
    const char *name;
    uint64_t size_bytes;
    uint32_t first_extent, extent_count;
};

struct tp_plan {
    struct tp_arena arena; /* paths, shapes, pieces, names, decoded tensors */
    struct tp_logical *logicals;
    struct tp_array *arrays; /* in source order */
    struct tp_out_extent *extents;
    struct tp_out_file *files;
    void *leaves; /* the format's own table, malloc'd */
    size_t logical_count, array_count, extent_count, file_count, leaf_count;
    uint64_t block_count;
    uint32_t result_count;
    uint32_t decoded_count;
    uint64_t payload_bytes, read_bytes, parameter_count;
    struct tp_list notes;
    const struct tp_metadata *metadata; /* of the source, borrowed; or NULL */
};

/* What a format asks of the plan. */
struct tp_plan_traits {
    bool flat_names;          /* no tree: a path is one key, the tensor's whole name, and needs no check */
    bool packed_small_floats; /* F4 and F6 as they are: such an array counts bytes, see tp_array_item_bytes */
};

/* The arrays of the output; files and extents are the layout's. On failure `plan` is empty. */
enum tp_status tp_plan_build(struct tp_plan *plan, const struct tp_checkpoint *source,
                             const struct tp_convert_options *options, struct tp_plan_traits traits,
                             struct tp_error *err);
void tp_plan_release(struct tp_plan *plan);

/* Bytes of one element of an array as written. An array written as F4 or F6 counts the bytes that hold its codes, not
 * the codes: elem_count, pieces and extents are in bytes, only the shape is not. */
static inline unsigned tp_array_item_bytes(const struct tp_array *a)
{
    unsigned bits = tp_dtype_bits((enum tp_dtype)a->dtype);
    return bits < 8 ? 1 : bits / 8;
}

static inline uint64_t tp_extent_block_count(const struct tp_out_extent *e)
{
    return (e->size_bytes + TP_BLOCK_BYTES - 1) / TP_BLOCK_BYTES;
}

/* Order of paths: key by key, bytewise, as Flax sorts them at every level of the tree. */
int tp_path_compare(const char *a, size_t a_len, const char *b, size_t b_len);
/* The arrays in the order of their paths, in a malloc'd table; NULL: no memory. */
const struct tp_array **tp_plan_sorted(const struct tp_plan *plan);
/* The keys joined by `separator`, into dst (path_len + 1 bytes). */
void tp_path_join_keys(char *dst, const char *path, size_t path_len, char separator);

/* '*' any bytes, '?' one byte, '[a-z]' '[!a-z]' one of a set, '\' takes the next byte as it is. Bytewise. */
bool tp_glob_match(const char *glob, const char *text);

#endif
