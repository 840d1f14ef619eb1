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
#include "map/map.h"
#include "quant/logical.h"
#include "tensorport/convert.h"

#define TP_BAND_BYTES ((uint64_t)2 << 20)   /* of chunks that are made together: they stay in the processor's cache */
#define TP_BLOCK_BYTES ((uint64_t)64 << 20) /* unit of digest and of parallel work; part of the manifest's format */
#define TP_SHARD_SIZE_DEFAULT UINT64_C(1800000000)
#define TP_TREE_DEPTH_MAX 256u
#define TP_NONE UINT32_MAX

enum tp_op {
    TP_OP_COPY,      /* the bytes as they are */
    TP_OP_CAST,      /* one of the four float dtypes to another */
    TP_OP_UNPACK_F4, /* two codes a byte to one a byte */
};

/* A box of a logical tensor that becomes a box of an array: runs of `run_elems` contiguous elements on both sides,
 * inside loops (outermost first, in the order of the array). A straight copy has no loops and is one run. */
struct tp_piece {
    uint32_t logical;
    uint32_t axis_count;
    const struct tp_axis *axes;
    uint64_t src_first, dst_first, run_elems;
    const struct tp_map_arithmetic *arithmetic; /* or NULL: none */
    uint8_t source_dtype;                       /* as stored in the source */
    uint8_t op;                                 /* enum tp_op */
    uint8_t math_dtype; /* of arithmetic: cast to this dtype, each step rounded to it, then cast to the array's */
};

/* How an array is cut into chunks, boxes of one shape whose numbers run row-major over the grid. Only of formats that
 * have chunks (zarr). Chunks that we write divide their array. */
struct tp_grid {
    const uint64_t *chunk; /* the shape of one: rank numbers, each at least 1 */
    const uint8_t *order;  /* rank axes, from the slowest to the fastest in a chunk's bytes; NULL: row-major */
    uint8_t across;        /* of chunks that we write: along this axis neighbours lie one behind the other in a file */
};

/* The way back of a map that calculates does not give the same numbers back. With what the model was once made of, an
 * element whose original would become what the model holds is that original; any other is calculated. The array is
 * row-major like its original, and its pieces move values as they are. */
struct tp_restore {
    struct tp_logical original;
    struct tp_map_arithmetic back; /* and what it undoes */
};

/* A leaf of the target tree. Its pieces tile it exactly once, in the order of dst_first; what they leave out of an
 * array that has holes is `fill`. */
struct tp_array {
    const char *path; /* keys from the root, '\0' between them; path_len bytes */
    const uint64_t *shape;
    const struct tp_piece *pieces;
    const struct tp_restore *restore; /* or NULL */
    const struct tp_grid *grid;       /* NULL: its extents are flat ranges; else each is a chunk */
    uint64_t elem_count;
    uint64_t fill;        /* the bytes of one element, little-endian; a constant is nothing but a hole */
    uint64_t list_levels; /* bit d: key d is the index of a list, where the format knows lists */
    uint32_t piece_count;
    uint32_t first_extent; /* its extents are chained by `next`, in element order (of chunks: by number) */
    uint32_t result;       /* row of tp_results, or TP_NONE: nothing is counted */
    uint32_t group;        /* of the source checkpoint, or TP_NO_GROUP */
    uint16_t path_len;
    uint8_t rank;
    uint8_t dtype; /* as written */
    uint8_t view;  /* --compat: the dtype that the uint8 bytes stand for, or TP_DTYPE_NONE */
    bool has_holes;
};

/* A flat, row-major range of an array's elements, or a chunk of it, in one file. In the order of files and offsets.
 * Those in a linked file come after all others, have no blocks of digests, and may overlap. */
struct tp_out_extent {
    uint32_t array, file;
    uint32_t next;       /* of the same array, or TP_NONE */
    uint32_t leaf;       /* the format's own; of a chunk its number in the grid */
    uint64_t first_elem; /* of a chunk: that of its first corner */
    uint64_t elem_count; /* of a chunk: its volume */
    uint64_t offset_bytes, size_bytes;
    uint64_t first_block; /* in the table of digests */
};

struct tp_out_file {
    const char *name; /* within the output, '/' between folders */
    uint64_t size_bytes;
    uint32_t first_extent, extent_count;
    bool is_linked;       /* the source's own file lies here as it is; else we write it. Linked ones come last */
    uint32_t source_file; /* of a linked one: which file of the source */
};

/* A file of the format's own beside the data: an index, a tree of keys. The plan's order is that of writing. */
struct tp_small_file {
    const char *name;
    uint32_t kind, item; /* the format's own */
    bool is_last;        /* comes after manifest.json: it says that all is there */
};

/* Two logicals that must be equal, byte for byte: the first one is then not written. */
struct tp_same {
    uint32_t logical, other;
};

struct tp_plan {
    struct tp_arena arena; /* paths, shapes, pieces, names, decoded tensors */
    struct tp_logical *logicals;
    struct tp_array *arrays; /* in source order */
    struct tp_array *nones;  /* in the arena: entries of the tree without an array, of which only the path counts */
    struct tp_out_extent *extents;
    struct tp_out_file *files;
    struct tp_small_file *small_files;
    void *leaves; /* the format's own table, malloc'd */
    size_t logical_count, array_count, none_count, extent_count, file_count, small_count, small_capacity, leaf_count;
    uint64_t block_count;
    uint32_t result_count;
    bool ordered;           /* arrays are in the order of leaves, as a map's rules list them; else in source order */
    uint32_t decoded_count; /* logicals that are decoded */
    uint32_t chunked_count; /* logicals whose source is stored in chunks */
    uint64_t payload_bytes, read_bytes, parameter_count;
    struct tp_list notes;
    struct tp_same *sames; /* in the arena; to be looked at before anything is written */
    size_t same_count;
    const struct tp_checkpoint *source; /* borrowed */
};

/* What a format asks of the plan. */
struct tp_plan_traits {
    bool flat_names;          /* no tree: a path is one key, the tensor's whole name, and needs no check */
    bool reserved_keys;       /* keys that mean something to Flax or to us cannot be names */
    bool packed_small_floats; /* F4 and F6 as they are: such an array counts bytes, see tp_array_item_bytes */
};

/* The arrays of the output; files and extents are the layout's. On failure `plan` is empty. */
enum tp_status tp_plan_build(struct tp_plan *plan, const struct tp_checkpoint *source,
                             const struct tp_convert_options *options, struct tp_plan_traits traits,
                             struct tp_error *err);
void tp_plan_release(struct tp_plan *plan);

/* What floats become, or TP_DTYPE_NONE: what they are. */
enum tp_dtype tp_precision_dtype(enum tp_precision precision);
/* config.json's own dtype, where it names one that numbers can be decoded to; else bfloat16. */
enum tp_dtype tp_model_dtype(const struct tp_checkpoint *source);

/* Bytes of one element of an array as written. An array written as F4 or F6 counts the bytes that hold its codes, not
 * the codes: elem_count, pieces and extents are in bytes, only the shape is not. */
static inline unsigned tp_array_item_bytes(const struct tp_array *a)
{
    unsigned bits = tp_dtype_bits((enum tp_dtype)a->dtype);
    return bits < 8 ? 1 : bits / 8;
}

/* What is done to the source's values, and their dtype there; of an array of several pieces, the first one's. */
static inline enum tp_op tp_array_op(const struct tp_array *a)
{
    return a->piece_count ? (enum tp_op)a->pieces[0].op : TP_OP_COPY;
}
static inline enum tp_dtype tp_array_source_dtype(const struct tp_array *a)
{
    return (enum tp_dtype)(a->piece_count ? a->pieces[0].source_dtype : a->dtype);
}
/* Its first source that has codes to decode, or NULL. */
static inline const struct tp_decoded *tp_array_decoded(const struct tp_plan *plan, const struct tp_array *a)
{
    for (uint32_t i = 0; i < a->piece_count; i++)
        if (plan->logicals[a->pieces[i].logical].decoded)
            return plan->logicals[a->pieces[i].logical].decoded;
    return NULL;
}

static inline uint64_t tp_extent_block_count(const struct tp_out_extent *e)
{
    return (e->size_bytes + TP_BLOCK_BYTES - 1) / TP_BLOCK_BYTES;
}

/* One more small file; `name` is borrowed (a literal, or in plan->arena). False: no memory. */
bool tp_plan_add_small(struct tp_plan *plan, const char *name, uint32_t kind, uint32_t item, bool is_last);

/* Order of paths: key by key, bytewise, as Flax sorts them at every level of the tree. */
int tp_path_compare(const char *a, size_t a_len, const char *b, size_t b_len);
/* The arrays in the order of their paths, in a malloc'd table; NULL: no memory. */
const struct tp_array **tp_plan_sorted(const struct tp_plan *plan);
/* The keys joined by `separator`, into dst (path_len + 1 bytes). */
void tp_path_join_keys(char *dst, const char *path, size_t path_len, char separator);

/* '*' any bytes, '?' one byte, '[a-z]' '[!a-z]' one of a set, '\' takes the next byte as it is. Bytewise. */
bool tp_glob_match(const char *glob, const char *text);

#endif
