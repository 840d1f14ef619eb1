/* SPDX-License-Identifier: MIT */
/* The OCP microscaling formats: 32 neighbouring values share a power of two (E8M0), and every row is whole blocks. So
 * the codes are one long row of blocks whatever the shape, and the scales another; only gpt-oss's experts are to come
 * out transposed.
 *
 * All products are exact in float32, but for those that overflow, and those of MXFP4, two bits and a power of two, in
 * bfloat16 as well. From top to bottom: the forms and their shapes, blocks in stored order, blocks transposed, the
 * schemes. */
#include <inttypes.h>
#include <string.h>

#include "base/least.h"
#include "base/status.h"
#include "checkpoint/describe.h"
#include "kernels/transpose.h"
#include "quant/schemes.h"

#define BLOCK 32u /* values that share a scale */
#define NAN_EXPONENT 0xffu

/* ---- forms and shapes ---- */

enum part { SCALES };

/* `blocks` blocks of codes, their exponents beside them, as numbers at dst, which need not be aligned. */
typedef void (*blocks_fn)(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                          const uint8_t *exponents, size_t blocks, uint8_t *dst);

struct kind {
    unsigned block_bytes; /* of codes */
    unsigned item_bytes;  /* of a decoded value */
    blocks_fn decode_blocks;
};

struct mx {
    const struct kind *kind;
    bool is_transposed;    /* the result is [experts, blocks * 32, rows] */
    uint64_t rows, blocks; /* of one expert; blocks of one row */
};

/* Which names the codes, the scales and the result have. */
struct form {
    const char *codes, *scales, *result;
    bool has_block_axis; /* codes [..., blocks, 16]; else [..., blocks * 16] */
};
static const struct form forms[] = {
    {"_blocks", "_scales", "", true}, /* gpt-oss, of transformers and of OpenAI */
    {".blocks", ".scales", "", true},
    {".weight_packed", ".weight_scale", ".weight", false}, /* compressed-tensors */
    {".weight", ".weight_scale", ".weight", false},        /* modelopt */
    {".weight", ".scale", ".weight", false},               /* DeepSeek-V4 */
};

static const struct form *form_of(const struct tp_decoded *d, const struct tp_tensor **scales)
{
    for (size_t i = 0; i < TP_COUNT_OF(forms); i++) {
        *scales = tp_decoded_member(d, forms[i].scales);
        if (*scales && tp_decoded_member(d, forms[i].codes) == d->codes)
            return &forms[i];
    }
    return NULL;
}

static enum tp_status unsupported(const struct tp_decoded *d, struct tp_error *err)
{
    enum tp_status st = tp_fail(err, TP_ERR_UNSUPPORTED, "%s codes in %s words, as MLX packs them, cannot be decoded",
                                d->group->scheme, tp_dtype_name((enum tp_dtype)d->codes->dtype));
    tp_err_path(err, st, tp_checkpoint_path(d->ck));
    return tp_err_tensor(err, st, d->codes->name, d->codes->name_len);
}

/* The scales' shape is the codes' with the bytes of each block counted as one. */
static enum tp_status check_shapes(const struct tp_decoded *d, const struct tp_tensor *scales, const struct form *form,
                                   unsigned block_bytes, struct tp_error *err)
{
    char codes_text[TP_SHAPE_TEXT], scales_text[TP_SHAPE_TEXT], needed_text[TP_SHAPE_TEXT];
    const struct tp_tensor *codes = d->codes;
    const unsigned rank = form->has_block_axis && codes->rank > 0 ? codes->rank - 1u : codes->rank;
    uint64_t needed[TP_RANK_MAX];
    tp_describe_shape(codes_text, codes->shape, codes->rank);
    tp_describe_shape(scales_text, scales->shape, scales->rank);
    if (rank != 2 && rank != 3)
        return tp_decoded_refuse(d, scales, err, "%s codes of shape %s are neither a matrix nor a stack of matrices",
                                 d->group->scheme, codes_text);
    const uint64_t last = codes->shape[codes->rank - 1];
    if (form->has_block_axis ? last != block_bytes : last % block_bytes != 0)
        return tp_decoded_refuse(d, scales, err,
                                 "%s codes of shape %s: a row is not whole blocks of %u values, %u bytes",
                                 d->group->scheme, codes_text, BLOCK, block_bytes);
    memcpy(needed, codes->shape, rank * sizeof *needed);
    if (!form->has_block_axis)
        needed[rank - 1] = last / block_bytes;
    tp_describe_shape(needed_text, needed, rank);
    if (scales->rank != rank || memcmp(scales->shape, needed, rank * sizeof *needed) != 0)
        return tp_decoded_refuse(d, scales, err, "%s codes of shape %s need scales of shape %s, but these are %s",
                                 d->group->scheme, codes_text, needed_text, scales_text);
    return TP_OK;
}

static enum tp_status set_shape(struct tp_decoded *d, struct tp_arena *arena, const struct mx *mx, struct tp_error *err)
{
    const struct tp_tensor *scales = d->parts[SCALES];
    uint64_t shape[3] = {0}, columns;
    memcpy(shape, scales->shape, scales->rank * sizeof *shape);
    if (TP_MUL_OVERFLOW(mx->blocks, (uint64_t)BLOCK, &columns))
        return tp_decoded_refuse(d, scales, err, "the decoded tensor would have more elements than can be counted");
    shape[scales->rank - 1] = columns;
    if (mx->is_transposed) {
        shape[1] = columns;
        shape[2] = mx->rows;
    }
    return tp_decoded_set_shape(d, arena, shape, scales->rank, err);
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, const struct kind *kind,
                              struct tp_error *err)
{
    const struct tp_tensor *scales;
    const struct form *form = d->codes->dtype == TP_U32 ? NULL : form_of(d, &scales);
    if (!form)
        return unsupported(d, err);
    enum tp_status st = check_shapes(d, scales, form, kind->block_bytes, err);
    struct mx *mx = tp_arena_alloc(arena, sizeof *mx);
    if (st)
        return st;
    if (!mx)
        return tp_fail_nomem(err);
    mx->kind = kind;
    mx->rows = scales->shape[scales->rank - 2];
    mx->blocks = scales->shape[scales->rank - 1];
    mx->is_transposed = form->has_block_axis && scales->rank == 3 && d->options.mxfp4_layout == TP_MXFP4_IN_OUT;
    d->params = mx;
    d->parts[SCALES] = scales;
    st = set_shape(d, arena, mx, err);
    return st ? st : tp_decoded_set_name(d, arena, form->result, err);
}

/* ---- scales ---- */

static float exponent_value(uint8_t exponent)
{
    const uint32_t bits = exponent == NAN_EXPONENT ? 0x7fc00000u : exponent ? (uint32_t)exponent << 23 : 0x00400000u;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* `n` scale bytes, the first of which is number `first`, whatever their dtype is called. */
static enum tp_status read_scales(const struct tp_decoded *d, uint64_t first, size_t n, uint8_t *dst,
                                  struct tp_error *err)
{
    const struct tp_tensor *scales = d->parts[SCALES];
    char index[TP_COUNT_TEXT];
    enum tp_status st = tp_tensor_read(d->ck, scales, first, n, dst, err);
    const uint8_t *nan = st || d->options.nan_scales || n == 0 ? NULL : memchr(dst, NAN_EXPONENT, n);
    if (nan)
        return tp_decoded_refuse(d, scales, err, "scale number %s is 0xff, which is not a number",
                                 tp_describe_count(index, first + (uint64_t)(nan - dst)));
    return st;
}

/* ---- blocks in stored order ---- */

static void blocks_of_mxfp4(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                            const uint8_t *exponents, size_t blocks, uint8_t *dst)
{
    kernels->mxfp4_to_bf16(dst, codes, exponents, blocks, d->options.positive_zero);
}

static void blocks_of_mxfp8(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                            const uint8_t *exponents, size_t blocks, uint8_t *dst)
{
    static const enum tp_f8_kind kinds[TP_DTYPE_COUNT] = {
        [TP_F8_E4M3] = TP_F8_KIND_E4M3,
        [TP_F8_E5M2] = TP_F8_KIND_E5M2,
        [TP_F8_E4M3FNUZ] = TP_F8_KIND_E4M3FNUZ,
        [TP_F8_E5M2FNUZ] = TP_F8_KIND_E5M2FNUZ,
    };
    float values[BLOCK];
    for (size_t i = 0; i < blocks; i++, dst += sizeof values) {
        kernels->f8_to_f32(values, codes + i * BLOCK, BLOCK, kinds[d->codes->dtype], exponent_value(exponents[i]));
        memcpy(dst, values, sizeof values);
    }
}

/* E2M3: no NaN, no infinity. Magnitudes are eighths below 2, quarters below 4, then halves. */
static void make_e2m3(float table[64])
{
    for (unsigned code = 0; code < 64; code++) {
        const unsigned exponent = code >> 3 & 3, mantissa = code & 7;
        const float magnitude =
            exponent ? (float)(8 + mantissa) / 8 * (float)(1u << (exponent - 1)) : (float)mantissa / 8;
        table[code] = code & 32 ? -magnitude : magnitude;
    }
}

/* A NaN has the sign of its code, as the kernels of the other two give it. */
static float scaled(float value, uint8_t exponent)
{
    uint32_t bits;
    if (exponent != NAN_EXPONENT)
        return value * exponent_value(exponent);
    memcpy(&bits, &value, sizeof bits);
    bits = (bits & 0x80000000u) | 0x7fc00000u;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Four codes in three bytes, the lowest bits first. */
static void blocks_of_mxfp6(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                            const uint8_t *exponents, size_t blocks, uint8_t *dst)
{
    float values[64];
    (void)d;
    (void)kernels;
    make_e2m3(values);
    for (size_t i = 0; i < blocks * (BLOCK / 4); i++, codes += 3) {
        const uint32_t four = (uint32_t)codes[0] | (uint32_t)codes[1] << 8 | (uint32_t)codes[2] << 16;
        for (unsigned k = 0; k < 4; k++, dst += sizeof *values) {
            const float value = scaled(values[four >> (6 * k) & 63], exponents[i / (BLOCK / 4)]);
            memcpy(dst, &value, sizeof value);
        }
    }
}

/* Values [skip, skip + count) of the blocks. */
static void decode_some(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                        const uint8_t *exponents, size_t skip, size_t count, uint8_t *dst)
{
    const struct kind *kind = ((const struct mx *)d->params)->kind;
    uint8_t block[BLOCK * sizeof(float)];
    while (count > 0) {
        size_t blocks = skip > 0 ? 0 : count / BLOCK;
        size_t n = blocks * BLOCK;
        if (blocks > 0) {
            kind->decode_blocks(d, kernels, codes, exponents, blocks, dst);
        } else { /* the end of one, or its beginning */
            blocks = 1;
            n = count < BLOCK - skip ? count : BLOCK - skip;
            kind->decode_blocks(d, kernels, codes, exponents, 1, block);
            memcpy(dst, block + skip * kind->item_bytes, n * kind->item_bytes);
            skip = 0;
        }
        codes += blocks * kind->block_bytes;
        exponents += blocks;
        dst += n * kind->item_bytes;
        count -= n;
    }
}

static enum tp_status decode_stored(const struct tp_decoded *d, struct tp_scratch *scratch,
                                    const struct tp_kernels *kernels, uint64_t first, uint64_t count, uint8_t *dst,
                                    struct tp_error *err)
{
    const struct kind *kind = ((const struct mx *)d->params)->kind;
    const unsigned block_bytes = kind->block_bytes;
    const uint64_t room = scratch->size_bytes / (block_bytes + 1u); /* in blocks */
    enum tp_status st = TP_OK;
    scratch->owner = NULL;
    while (!st && count > 0) {
        const uint64_t block = first / BLOCK, skip = first % BLOCK;
        uint64_t blocks = (skip + count - 1) / BLOCK + 1;
        blocks = blocks < room ? blocks : room;
        const uint64_t n = count < blocks * BLOCK - skip ? count : blocks * BLOCK - skip;
        uint8_t *exponents = scratch->bytes + blocks * block_bytes;
        st = tp_tensor_read(d->ck, d->codes, block * block_bytes, blocks * block_bytes, scratch->bytes, err);
        if (!st)
            st = read_scales(d, block, (size_t)blocks, exponents, err);
        if (!st)
            decode_some(d, kernels, scratch->bytes, exponents, (size_t)skip, (size_t)n, dst);
        first += n;
        dst += n * kind->item_bytes;
        count -= n;
    }
    return st;
}

/* ---- MXFP4 transposed ----
 *
 * What is stored as [rows, columns] is wanted as [columns, rows]. It is the bytes of codes that are transposed, when
 * they are read: the scratch holds each pair of columns as one run of bytes, a nibble for either, and each column of
 * scales likewise. A tile is as much as fits: blocks of all rows of an expert, from the one that was asked for on, else
 * one block of some rows. */

#define LINE 64u                        /* of the cache */
#define CODE_BYTES 16u                  /* of a block */
#define STAGE_BYTES ((size_t)256 << 10) /* stays in the L2 cache */
#define STAGE_ROWS 64u /* at least; to read more of a row than needed costs no more than another call */

struct tiling {
    const struct tp_decoded *d;
    const struct tp_kernels *kernels;
    const struct mx *mx;
    uint64_t rows, blocks;           /* of a tile, at most */
    uint64_t row_tiles;              /* in an expert */
    size_t stride;                   /* from column to column */
    uint8_t *stage, *scales, *codes; /* in the scratch: as read; [blocks][stride]; [blocks * 16][stride] */
    size_t stage_bytes;
};

struct tile {
    uint64_t expert, block, row; /* where it begins */
    uint64_t blocks, rows;
};

/* Whole cache lines, an odd number of them: neighbouring columns do not meet in one set of the cache. */
static uint64_t stride_of(uint64_t rows)
{
    return (((rows + LINE - 1) / LINE) | 1) * LINE;
}

static void tiling_init(struct tiling *t, const struct tp_decoded *d, const struct tp_kernels *kernels,
                        const struct tp_scratch *scratch)
{
    const struct mx *mx = d->params;
    t->d = d;
    t->kernels = kernels;
    t->mx = mx;
    t->stage_bytes = (size_t)tp_smaller(scratch->size_bytes / 8, STAGE_BYTES);
    const uint64_t room = (scratch->size_bytes - t->stage_bytes) / (CODE_BYTES + 1u); /* rows of one block */
    const bool has_all_rows = mx->rows < room && stride_of(mx->rows) <= room;
    t->rows = has_all_rows ? mx->rows : (room / LINE - 1) * LINE;
    t->stride = (size_t)stride_of(t->rows);
    t->blocks = has_all_rows ? tp_smaller(mx->blocks, room / t->stride) : 1;
    t->row_tiles = (mx->rows - 1) / t->rows + 1;
    t->stage = scratch->bytes;
    t->scales = t->stage + t->stage_bytes;
    t->codes = t->scales + t->blocks * t->stride;
}

/* What is loaded: all bytes of a tile's codes, or all of its scales. */
struct source {
    const struct tp_tensor *tensor;
    size_t block_bytes;
    uint8_t *turned; /* [blocks * block_bytes][stride] */
};

static enum tp_status read_bytes(const struct tiling *t, const struct tp_tensor *tensor, uint64_t first, size_t n,
                                 uint8_t *dst, struct tp_error *err)
{
    return tensor == t->d->codes ? tp_tensor_read(t->d->ck, tensor, first, n, dst, err)
                                 : read_scales(t->d, first, n, dst, err);
}

/* Bytes [begin, begin + width) of `rows` rows from number `row` on, to the stage: *pitch is from one to the next. Where
 * rows are short, all of them are read at once. */
static enum tp_status stage_rows(const struct tiling *t, const struct source *from, uint64_t row, size_t rows,
                                 uint64_t begin, size_t width, const uint8_t **bytes, size_t *pitch,
                                 struct tp_error *err)
{
    const uint64_t row_bytes = t->mx->blocks * from->block_bytes;
    const bool is_whole = row_bytes <= t->stage_bytes / STAGE_ROWS;
    enum tp_status st = TP_OK;
    *bytes = is_whole ? t->stage + begin : t->stage;
    *pitch = is_whole ? (size_t)row_bytes : width;
    if (is_whole)
        return read_bytes(t, from->tensor, row * row_bytes, rows * *pitch, t->stage, err);
    for (size_t i = 0; !st && i < rows; i++)
        st = read_bytes(t, from->tensor, (row + i) * row_bytes + begin, width, t->stage + i * width, err);
    return st;
}

/* As much at a time as fits the stage: as many bytes of a row as leave room for STAGE_ROWS, and as many rows as there
 * is room for, if possible such that they fill cache lines where they go. */
static enum tp_status load(const struct tiling *t, const struct tile *tile, const struct source *from,
                           struct tp_error *err)
{
    enum tp_status st = TP_OK;
    const uint64_t first_row = tile->expert * t->mx->rows + tile->row, row_bytes = t->mx->blocks * from->block_bytes;
    const uint64_t begin = tile->block * from->block_bytes, wanted = tile->blocks * from->block_bytes;
    const uint64_t width = tp_smaller(row_bytes, t->stage_bytes / STAGE_ROWS),
                   rows = t->stage_bytes / width / LINE * LINE;
    for (uint64_t byte = 0; byte < wanted; byte += width)
        for (uint64_t row = 0; !st && row < tile->rows; row += rows) {
            const size_t n = (size_t)tp_smaller(rows, tile->rows - row),
                         columns = (size_t)tp_smaller(width, wanted - byte);
            const uint8_t *bytes;
            size_t pitch;
            st = stage_rows(t, from, first_row + row, n, begin + byte, columns, &bytes, &pitch, err);
            if (!st)
                tp_transpose_matrix(t->kernels, 0, from->turned + byte * t->stride + row, t->stride, bytes, pitch, n,
                                    columns);
        }
    return st;
}

/* The tile that the scratch holds, as its key says. */
static struct tile tile_of_key(const struct tiling *t, uint64_t key)
{
    const uint64_t block = key / t->row_tiles % t->mx->blocks, row = key % t->row_tiles * t->rows;
    return (struct tile){.expert = key / t->row_tiles / t->mx->blocks,
                         .block = block,
                         .row = row,
                         .blocks = tp_smaller(t->blocks, t->mx->blocks - block),
                         .rows = tp_smaller(t->rows, t->mx->rows - row)};
}

/* A tile with row `row` of block `block`, in the scratch. */
static enum tp_status tile_get(const struct tiling *t, struct tp_scratch *scratch, struct tile *tile, uint64_t expert,
                               uint64_t block, uint64_t row, struct tp_error *err)
{
    const struct source scales = {t->d->parts[SCALES], 1, t->scales}, codes = {t->d->codes, CODE_BYTES, t->codes};
    const uint64_t row_tile = row / t->rows;
    if (scratch->owner == t->d) {
        *tile = tile_of_key(t, scratch->key);
        if (tile->expert == expert && tile->row == row_tile * t->rows && block - tile->block < tile->blocks)
            return TP_OK;
    }
    scratch->owner = NULL;
    scratch->key = (expert * t->mx->blocks + block) * t->row_tiles + row_tile;
    *tile = tile_of_key(t, scratch->key);
    enum tp_status st = load(t, tile, &scales, err);
    if (!st)
        st = load(t, tile, &codes, err);
    if (!st)
        scratch->owner = t->d;
    return st;
}

static enum tp_status decode_transposed(const struct tp_decoded *d, struct tp_scratch *scratch,
                                        const struct tp_kernels *kernels, uint64_t first, uint64_t count, uint8_t *dst,
                                        struct tp_error *err)
{
    const struct mx *mx = d->params;
    struct tiling t;
    struct tile tile;
    if (count == 0)
        return TP_OK;
    tiling_init(&t, d, kernels, scratch);
    while (count > 0) {
        const uint64_t line = first / mx->rows, row = first % mx->rows; /* a line is a row of the result */
        const uint64_t expert = line / (mx->blocks * BLOCK), column = line % (mx->blocks * BLOCK);
        enum tp_status st = tile_get(&t, scratch, &tile, expert, column / BLOCK, row, err);
        if (st)
            return st;
        const uint64_t n = tp_smaller(count, tile.row + tile.rows - row), within = column - tile.block * BLOCK;
        const uint8_t *codes = t.codes + within / 2 * t.stride + (row - tile.row);
        const uint8_t *scales = t.scales + within / BLOCK * t.stride + (row - tile.row);
        kernels->mxfp4_each_to_bf16(dst, codes, scales, (size_t)n, within % 2, d->options.positive_zero);
        first += n;
        dst += n * mx->kind->item_bytes;
        count -= n;
    }
    return TP_OK;
}

/* ---- the schemes ---- */

static const struct kind mxfp4 = {CODE_BYTES, 2, blocks_of_mxfp4};
static const struct kind mxfp6 = {24, sizeof(float), blocks_of_mxfp6};
static const struct kind mxfp8 = {32, sizeof(float), blocks_of_mxfp8};

static enum tp_status prepare_mxfp4(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, &mxfp4, err);
}

static enum tp_status prepare_mxfp6(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, &mxfp6, err);
}

static enum tp_status prepare_mxfp8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, &mxfp8, err);
}

static enum tp_status decode_mxfp4(const struct tp_decoded *d, struct tp_scratch *scratch,
                                   const struct tp_kernels *kernels, uint64_t first, uint64_t count, void *dst,
                                   struct tp_error *err)
{
    if (((const struct mx *)d->params)->is_transposed)
        return decode_transposed(d, scratch, kernels, first, count, dst, err);
    return decode_stored(d, scratch, kernels, first, count, dst, err);
}

static enum tp_status decode(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err)
{
    return decode_stored(d, scratch, kernels, first, count, (uint8_t *)dst, err);
}

const struct tp_scheme tp_scheme_mxfp4 = {.name = "mxfp4", .prepare = prepare_mxfp4, .decode_bf16 = decode_mxfp4};
const struct tp_scheme tp_scheme_mxfp6 = {.name = "mxfp6", .prepare = prepare_mxfp6, .decode = decode};
const struct tp_scheme tp_scheme_mxfp8 = {.name = "mxfp8", .prepare = prepare_mxfp8, .decode = decode};
