/* SPDX-License-Identifier: MIT */
/* The OCP microscaling formats: 32 neighbouring values share a power of two (E8M0), and every row is whole blocks. So
 * the codes are one long row of blocks whatever the shape, and the scales another; only gpt-oss's experts are to come
 * out transposed.
 *
 * All products are exact in float32, but for those that overflow. From top to bottom: the forms and their shapes,
 * blocks in stored order, blocks transposed, the schemes. */
#include <inttypes.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "quant/schemes.h"

#define BLOCK 32u /* values that share a scale */
#define NAN_EXPONENT 0xffu

/* ---- forms and shapes ---- */

enum part { SCALES };

struct mx {
    unsigned block_bytes;  /* of codes */
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

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, unsigned block_bytes, struct tp_error *err)
{
    const struct tp_tensor *scales;
    const struct form *form = d->codes->dtype == TP_U32 ? NULL : form_of(d, &scales);
    if (!form)
        return unsupported(d, err);
    enum tp_status st = check_shapes(d, scales, form, block_bytes, err);
    struct mx *mx = tp_arena_alloc(arena, sizeof *mx);
    if (st)
        return st;
    if (!mx)
        return tp_fail_nomem(err);
    mx->block_bytes = block_bytes;
    mx->rows = scales->shape[scales->rank - 2];
    mx->blocks = scales->shape[scales->rank - 1];
    mx->is_transposed = form->has_block_axis && scales->rank == 3 && d->options.mxfp4_layout == TP_MXFP4_IN_OUT;
    d->params = mx;
    d->parts[SCALES] = scales;
    st = set_shape(d, arena, mx, err);
    return st ? st : tp_decoded_set_name(d, arena, form->result, err);
}

static enum tp_status prepare_mxfp4(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, 16, err);
}

static enum tp_status prepare_mxfp6(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, 24, err);
}

static enum tp_status prepare_mxfp8(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, 32, err);
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

typedef void (*blocks_fn)(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                          const uint8_t *exponents, size_t n, float *dst);

static void blocks_of_mxfp4(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                            const uint8_t *exponents, size_t n, float *dst)
{
    kernels->mxfp4_to_f32(dst, codes, exponents, n, d->options.positive_zero);
}

static void blocks_of_mxfp8(const struct tp_decoded *d, const struct tp_kernels *kernels, const uint8_t *codes,
                            const uint8_t *exponents, size_t n, float *dst)
{
    static const enum tp_f8_kind kinds[TP_DTYPE_COUNT] = {
        [TP_F8_E4M3] = TP_F8_KIND_E4M3,
        [TP_F8_E5M2] = TP_F8_KIND_E5M2,
        [TP_F8_E4M3FNUZ] = TP_F8_KIND_E4M3FNUZ,
        [TP_F8_E5M2FNUZ] = TP_F8_KIND_E5M2FNUZ,
    };
    for (size_t i = 0; i < n; i++)
        kernels->f8_to_f32(dst + i * BLOCK, codes + i * BLOCK, BLOCK, kinds[d->codes->dtype],
                           exponent_value(exponents[i]));
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
                            const uint8_t *exponents, size_t n, float *dst)
{
    float values[64];
    (void)d;
    (void)kernels;
    make_e2m3(values);
    for (size_t i = 0; i < n * (BLOCK / 4); i++, codes += 3) {
        const uint32_t four = (uint32_t)codes[0] | (uint32_t)codes[1] << 8 | (uint32_t)codes[2] << 16;
        for (unsigned k = 0; k < 4; k++)
            dst[4 * i + k] = scaled(values[four >> (6 * k) & 63], exponents[i / (BLOCK / 4)]);
    }
}

/* Values [skip, skip + count) of the blocks. */
static void decode_some(const struct tp_decoded *d, const struct tp_kernels *kernels, blocks_fn decode_blocks,
                        const uint8_t *codes, const uint8_t *exponents, size_t skip, size_t count, float *dst)
{
    const unsigned block_bytes = ((const struct mx *)d->params)->block_bytes;
    float block[BLOCK];
    while (count > 0) {
        size_t blocks = skip > 0 ? 0 : count / BLOCK;
        size_t n = blocks * BLOCK;
        if (blocks > 0) {
            decode_blocks(d, kernels, codes, exponents, blocks, dst);
        } else { /* the end of one, or its beginning */
            blocks = 1;
            n = count < BLOCK - skip ? count : BLOCK - skip;
            decode_blocks(d, kernels, codes, exponents, 1, block);
            memcpy(dst, block + skip, n * sizeof *dst);
            skip = 0;
        }
        codes += blocks * block_bytes;
        exponents += blocks;
        dst += n;
        count -= n;
    }
}

static enum tp_status decode_stored(const struct tp_decoded *d, struct tp_scratch *scratch,
                                    const struct tp_kernels *kernels, blocks_fn decode_blocks, uint64_t first,
                                    uint64_t count, float *dst, struct tp_error *err)
{
    const struct mx *mx = d->params;
    const uint64_t room = scratch->size_bytes / (mx->block_bytes + 1u); /* in blocks */
    enum tp_status st = TP_OK;
    scratch->owner = NULL;
    while (!st && count > 0) {
        const uint64_t block = first / BLOCK, skip = first % BLOCK;
        uint64_t blocks = (skip + count - 1) / BLOCK + 1;
        blocks = blocks < room ? blocks : room;
        const uint64_t n = count < blocks * BLOCK - skip ? count : blocks * BLOCK - skip;
        uint8_t *exponents = scratch->bytes + blocks * mx->block_bytes;
        st = tp_tensor_read(d->ck, d->codes, block * mx->block_bytes, blocks * mx->block_bytes, scratch->bytes, err);
        if (!st)
            st = read_scales(d, block, (size_t)blocks, exponents, err);
        if (!st)
            decode_some(d, kernels, decode_blocks, scratch->bytes, exponents, (size_t)skip, (size_t)n, dst);
        first += n;
        dst += n;
        count -= n;
    }
    return st;
}

/* ---- blocks transposed ----
 *
 * What is stored as [rows, columns] is wanted as [columns, rows]. It is the codes that are turned, when they are read:
 * the scratch holds them as two columns of a pair of rows a byte, hence each row of the result in one run of nibbles,
 * beside scales turned likewise. A tile is as much as fits: all blocks of all rows of an expert, else some blocks of
 * all rows, else one block of some rows. */

#define STAGE_BYTES ((size_t)256 << 10) /* stays in the L2 cache */
#define WHOLE_ROW_BYTES 8192u           /* to read so much more costs no more than another call */
#define CHUNK 1024u                     /* values of one row of the result */
#define STEP 32u

struct tiling {
    const struct tp_decoded *d;
    const struct mx *mx;
    uint64_t rows, blocks;           /* of a tile, at most */
    uint64_t stride;                 /* `rows`, rounded up to even */
    uint64_t row_tiles, block_tiles; /* in an expert */
    uint8_t *stage, *scales, *codes; /* in the scratch: as read; [blocks][stride]; [blocks * 32][stride / 2] */
    size_t stage_bytes;
};

struct tile {
    uint64_t expert, block, row; /* where it begins */
    uint64_t blocks, rows;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void tiling_init(struct tiling *t, const struct tp_decoded *d, const struct tp_scratch *scratch)
{
    const struct mx *mx = d->params;
    t->d = d;
    t->mx = mx;
    t->stage_bytes = (size_t)smaller(scratch->size_bytes / 8, STAGE_BYTES);
    const uint64_t room = (scratch->size_bytes - t->stage_bytes) / (mx->block_bytes + 1u); /* rows of one block */
    const bool has_all_rows = mx->rows < room;
    t->rows = has_all_rows ? mx->rows : room & ~UINT64_C(1);
    t->stride = (t->rows + 1) & ~UINT64_C(1);
    t->blocks = has_all_rows ? smaller(mx->blocks, room / t->stride) : 1;
    t->row_tiles = (mx->rows - 1) / t->rows + 1;
    t->block_tiles = (mx->blocks - 1) / t->blocks + 1;
    t->stage = scratch->bytes;
    t->scales = t->stage + t->stage_bytes;
    t->codes = t->scales + t->blocks * t->stride;
}

/* What of a tensor lies in the stage: bytes of some rows, `pitch` from one row to the next. */
struct piece {
    const uint8_t *bytes;
    size_t pitch, width;
    uint64_t block, row; /* where it belongs in the tile */
    size_t rows;
};

static enum tp_status read_bytes(const struct tiling *t, const struct tp_tensor *tensor, uint64_t first, size_t n,
                                 uint8_t *dst, struct tp_error *err)
{
    return tensor == t->d->codes ? tp_tensor_read(t->d->ck, tensor, first, n, dst, err)
                                 : read_scales(t->d, first, n, dst, err);
}

/* Bytes [begin, begin + piece->width) of rows from number `row` on. Where rows are short, all of them are read at once.
 */
static enum tp_status stage_rows(const struct tiling *t, struct piece *piece, const struct tp_tensor *tensor,
                                 uint64_t row_bytes, uint64_t row, uint64_t begin, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    const bool is_whole = piece->pitch == row_bytes;
    piece->bytes = is_whole ? t->stage + begin : t->stage;
    if (is_whole)
        return read_bytes(t, tensor, row * row_bytes, piece->rows * piece->pitch, t->stage, err);
    for (size_t i = 0; !st && i < piece->rows; i++)
        st = read_bytes(t, tensor, (row + i) * row_bytes + begin, piece->width, t->stage + i * piece->pitch, err);
    return st;
}

/* Little-endian whatever the CPU; compilers know these for one instruction each. */
static inline uint64_t load_8(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static inline void store_8(uint8_t *p, uint64_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
    p[4] = (uint8_t)(v >> 32);
    p[5] = (uint8_t)(v >> 40);
    p[6] = (uint8_t)(v >> 48);
    p[7] = (uint8_t)(v >> 56);
}

/* Swap the bits of b under the mask with those `shift` higher of a. */
static inline void exchange(uint64_t *a, uint64_t *b, unsigned shift, uint64_t mask)
{
    const uint64_t differ = (*a >> shift ^ *b) & mask;
    *b ^= differ;
    *a ^= differ << shift;
}

/* Byte k of number i becomes byte i of number k: first quarters of four bytes, then of two, then of one. */
static inline void transpose_8(uint64_t v[8])
{
    for (unsigned i = 0; i < 4; i++)
        exchange(&v[i], &v[i + 4], 32, 0x00000000ffffffff);
    for (unsigned i = 0; i < 4; i++)
        exchange(&v[i + (i & 2)], &v[i + (i & 2) + 2], 16, 0x0000ffff0000ffff);
    for (unsigned i = 0; i < 8; i += 2)
        exchange(&v[i], &v[i + 1], 8, 0x00ff00ff00ff00ff);
}

#define LOW_NIBBLES UINT64_C(0x0f0f0f0f0f0f0f0f)

/* Eight bytes of 16 rows: eight bytes of 16 columns. */
static inline void turn_block(const uint8_t *src, size_t pitch, uint8_t *dst, size_t half)
{
    uint64_t even[8], odd[8]; /* columns */
    for (size_t i = 0; i < 8; i++) {
        const uint64_t x = load_8(src + 2 * i * pitch), y = load_8(src + (2 * i + 1) * pitch);
        even[i] = (x & LOW_NIBBLES) | (y & LOW_NIBBLES) << 4;
        odd[i] = (x >> 4 & LOW_NIBBLES) | (y & ~LOW_NIBBLES);
    }
    transpose_8(even);
    transpose_8(odd);
    for (size_t i = 0; i < 8; i++) {
        store_8(dst + 2 * i * half, even[i]);
        store_8(dst + (2 * i + 1) * half, odd[i]);
    }
}

/* Byte b of rows 2i and 2i + 1 holds columns 2b and 2b + 1 of each: one nibble of either row makes a byte. The last row
 * of an expert may have no neighbour. */
static void turn_rest(const struct piece *p, size_t first, uint8_t *dst, size_t half)
{
    for (size_t b = 0; b < p->width; b++)
        for (size_t i = first; i < p->rows; i += 2) {
            const uint8_t *src = p->bytes + i * p->pitch + b;
            const unsigned x = src[0], y = i + 1 < p->rows ? src[p->pitch] : 0;
            dst[2 * b * half + i / 2] = (uint8_t)((x & 15) | y << 4);
            dst[(2 * b + 1) * half + i / 2] = (uint8_t)(x >> 4 | (y & 0xf0));
        }
}

static void turn_codes(const struct tiling *t, const struct piece *p)
{
    const size_t half = (size_t)t->stride / 2, blocked = p->rows - p->rows % 16;
    uint8_t *dst = t->codes + p->block * BLOCK * half + p->row / 2;
    for (size_t b = 0; b < p->width; b += 8)
        for (size_t i = 0; i < blocked; i += 16)
            turn_block(p->bytes + i * p->pitch + b, p->pitch, dst + 2 * b * half + i / 2, half);
    turn_rest(p, blocked, dst, half);
}

static void turn_scales(const struct tiling *t, const struct piece *p)
{
    for (size_t b = 0; b < p->width; b++)
        for (size_t i = 0; i < p->rows; i++)
            t->scales[(p->block + b) * t->stride + p->row + i] = p->bytes[i * p->pitch + b];
}

typedef void (*turn_fn)(const struct tiling *t, const struct piece *p);

/* As many rows as fit the stage; where there are many, so many that a piece fills whole cache lines of what is turned.
 */
static uint64_t rows_at_once(uint64_t room)
{
    return room >= 128 ? room - room % 128 : room >= 16 ? room - room % 16 : room - room % 2;
}

/* A tile's part of the codes or of the scales, piece by piece. */
static enum tp_status load(const struct tiling *t, const struct tile *tile, const struct tp_tensor *tensor,
                           unsigned unit /* bytes of a block */, turn_fn turn, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    const uint64_t first_row = tile->expert * t->mx->rows + tile->row, row_bytes = t->mx->blocks * unit;
    const bool is_whole = row_bytes <= WHOLE_ROW_BYTES;
    const uint64_t blocks_step = is_whole ? tile->blocks : smaller(tile->blocks, t->stage_bytes / 2 / unit);
    const uint64_t rows_step = rows_at_once(t->stage_bytes / (is_whole ? row_bytes : blocks_step * unit));
    for (uint64_t block = 0; block < tile->blocks; block += blocks_step)
        for (uint64_t row = 0; !st && row < tile->rows; row += rows_step) {
            struct piece p = {.block = block, .row = row};
            p.width = (size_t)smaller(blocks_step, tile->blocks - block) * unit;
            p.pitch = is_whole ? (size_t)row_bytes : p.width;
            p.rows = (size_t)smaller(rows_step, tile->rows - row);
            st = stage_rows(t, &p, tensor, row_bytes, first_row + row, (tile->block + block) * unit, err);
            if (!st)
                turn(t, &p);
        }
    return st;
}

/* The tile with row `row` of block `block`, in the scratch. */
static enum tp_status tile_get(const struct tiling *t, struct tp_scratch *scratch, struct tile *tile, uint64_t expert,
                               uint64_t block, uint64_t row, struct tp_error *err)
{
    const uint64_t row_tile = row / t->rows, block_tile = block / t->blocks;
    const uint64_t key = (expert * t->block_tiles + block_tile) * t->row_tiles + row_tile;
    *tile = (struct tile){.expert = expert, .block = block_tile * t->blocks, .row = row_tile * t->rows};
    tile->blocks = smaller(t->blocks, t->mx->blocks - tile->block);
    tile->rows = smaller(t->rows, t->mx->rows - tile->row);
    if (scratch->owner == t->d && scratch->key == key)
        return TP_OK;
    scratch->owner = NULL;
    enum tp_status st = load(t, tile, t->d->parts[SCALES], 1, turn_scales, err);
    if (!st)
        st = load(t, tile, t->d->codes, t->mx->block_bytes, turn_codes, err);
    if (!st) {
        scratch->owner = t->d;
        scratch->key = key;
    }
    return st;
}

/* values[i] times the scale whose exponent is exponents[i]. */
static inline void scale_some(float *restrict values, const uint8_t *restrict exponents, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = exponents[i] ? (uint32_t)exponents[i] << 23 : 0x00400000u;
        float scale;
        memcpy(&scale, &bits, sizeof scale);
        values[i] *= scale;
    }
}

static void scale_each(float *values, const uint8_t *exponents, size_t n, bool may_be_nan)
{
    for (size_t i = 0; i < n && may_be_nan; i++)
        values[i] = scaled(values[i], exponents[i]);
    if (may_be_nan)
        return;
    for (; n >= STEP; n -= STEP, values += STEP, exponents += STEP)
        scale_some(values, exponents, STEP); /* a constant: vector code needs no rest */
    scale_some(values, exponents, n);
}

/* `count` values of one row of the result, within a tile: its row `column`, from its element `row` on. */
static void decode_column(const struct tiling *t, const struct tp_kernels *kernels, uint64_t column, uint64_t row,
                          size_t count, float *dst)
{
    const uint8_t *codes = t->codes + column * (t->stride / 2), *scales = t->scales + column / BLOCK * t->stride;
    float values[CHUNK];
    while (count > 0) {
        const size_t odd = row % 2, n = (size_t)smaller(CHUNK - odd, count), even = (odd + n + 1) & ~(size_t)1;
        kernels->f4_to_f32(values, codes + row / 2, even, 1, t->d->options.positive_zero);
        scale_each(values + odd, scales + row, n, t->d->options.nan_scales);
        memcpy(dst, values + odd, n * sizeof *dst);
        row += n;
        dst += n;
        count -= n;
    }
}

static enum tp_status decode_transposed(const struct tp_decoded *d, struct tp_scratch *scratch,
                                        const struct tp_kernels *kernels, uint64_t first, uint64_t count, float *dst,
                                        struct tp_error *err)
{
    const struct mx *mx = d->params;
    struct tiling t;
    struct tile tile;
    if (count == 0)
        return TP_OK;
    tiling_init(&t, d, scratch);
    while (count > 0) {
        const uint64_t line = first / mx->rows, row = first % mx->rows; /* a line is a row of the result */
        const uint64_t expert = line / (mx->blocks * BLOCK), column = line % (mx->blocks * BLOCK);
        enum tp_status st = tile_get(&t, scratch, &tile, expert, column / BLOCK, row, err);
        if (st)
            return st;
        const uint64_t n = smaller(count, tile.row + tile.rows - row);
        decode_column(&t, kernels, column - tile.block * BLOCK, row - tile.row, (size_t)n, dst);
        first += n;
        dst += n;
        count -= n;
    }
    return TP_OK;
}

/* ---- the schemes ---- */

static enum tp_status decode_mxfp4(const struct tp_decoded *d, struct tp_scratch *scratch,
                                   const struct tp_kernels *kernels, uint64_t first, uint64_t count, float *dst,
                                   struct tp_error *err)
{
    if (((const struct mx *)d->params)->is_transposed)
        return decode_transposed(d, scratch, kernels, first, count, dst, err);
    return decode_stored(d, scratch, kernels, blocks_of_mxfp4, first, count, dst, err);
}

static enum tp_status decode_mxfp6(const struct tp_decoded *d, struct tp_scratch *scratch,
                                   const struct tp_kernels *kernels, uint64_t first, uint64_t count, float *dst,
                                   struct tp_error *err)
{
    return decode_stored(d, scratch, kernels, blocks_of_mxfp6, first, count, dst, err);
}

static enum tp_status decode_mxfp8(const struct tp_decoded *d, struct tp_scratch *scratch,
                                   const struct tp_kernels *kernels, uint64_t first, uint64_t count, float *dst,
                                   struct tp_error *err)
{
    return decode_stored(d, scratch, kernels, blocks_of_mxfp8, first, count, dst, err);
}

const struct tp_scheme tp_scheme_mxfp4 = {"mxfp4", prepare_mxfp4, decode_mxfp4};
const struct tp_scheme tp_scheme_mxfp6 = {"mxfp6", prepare_mxfp6, decode_mxfp6};
const struct tp_scheme tp_scheme_mxfp8 = {"mxfp8", prepare_mxfp8, decode_mxfp8};
