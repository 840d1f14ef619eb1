/* SPDX-License-Identifier: MIT */
/* bitsandbytes, four bits: two codes a byte, the high nibble first, each the index of one of 16 values that the file
 * lists; blocks of the flat array, across rows, share a scale (absmax), which may be 8 bits of a second such code
 * ("nested"). What joins them is JSON in a tensor of bytes, and as little to be trusted as any other number of a file.
 *
 * From top to bottom: the JSON, preparing, scales, decoding. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "checkpoint/describe.h"
#include "codec/json.h"
#include "quant/schemes.h"

#define STATE_MAX_BYTES 4096u /* real ones have less than 200 */
#define BLOCK_MIN 32u         /* what bitsandbytes writes: powers of two */
#define BLOCK_MAX 4096u
#define CODES 16u
#define NESTED_CODES 256u

enum part { ABSMAX, NESTED_ABSMAX };

struct params {
    uint32_t block_elems, nested_block_elems; /* the latter 0: scales are stored plainly */
    float values[CODES];
    float nested_values[NESTED_CODES], nested_offset;
};

/* ---- the JSON ---- */

enum key { QUANT_TYPE, BLOCKSIZE, DTYPE, SHAPE, NESTED_BLOCKSIZE, NESTED_DTYPE, NESTED_OFFSET, KEY_COUNT };

static const struct {
    const char *name;
    enum tp_json_type type;
} keys[KEY_COUNT] = {
    [QUANT_TYPE] = {"quant_type", TP_JSON_STRING},
    [BLOCKSIZE] = {"blocksize", TP_JSON_UINT},
    [DTYPE] = {"dtype", TP_JSON_STRING},
    [SHAPE] = {"shape", TP_JSON_ARRAY_BEGIN},
    [NESTED_BLOCKSIZE] = {"nested_blocksize", TP_JSON_UINT},
    [NESTED_DTYPE] = {"nested_dtype", TP_JSON_STRING},
    [NESTED_OFFSET] = {"nested_offset", TP_JSON_NUMBER},
};
#define PLAIN_KEYS (1u << QUANT_TYPE | 1u << BLOCKSIZE | 1u << DTYPE | 1u << SHAPE)
#define NESTED_KEYS (1u << NESTED_BLOCKSIZE | 1u << NESTED_DTYPE | 1u << NESTED_OFFSET)

struct state {
    unsigned seen; /* 1 << enum key */
    char quant_type[16], dtype[16], nested_dtype[16];
    uint64_t block_elems, nested_block_elems;
    double nested_offset;
    uint64_t shape[TP_RANK_MAX];
    unsigned rank;
};

/* An error of the JSON, told with both tensors' names. */
static enum tp_status refuse_json(const struct tp_decoded *d, const struct tp_tensor *t, enum tp_status status,
                                  const struct tp_error *why, struct tp_error *err)
{
    return status == TP_ERR_NOMEM ? tp_fail_nomem(err) : tp_decoded_refuse(d, t, err, "%s", why->message);
}

static enum tp_status take_shape(struct state *s, struct tp_json *json, struct tp_error *why)
{
    struct tp_json_token token;
    for (;;) {
        enum tp_status status = tp_json_next(json, &token, why);
        if (status || token.type == TP_JSON_ARRAY_END)
            return status;
        if (token.type != TP_JSON_UINT)
            return tp_fail(why, TP_ERR_FORMAT, "the quant_state's shape has %s where a whole number is expected",
                           tp_json_type_name(token.type));
        if (s->rank == TP_RANK_MAX)
            return tp_fail(why, TP_ERR_FORMAT, "the quant_state's shape has more than %u dimensions", TP_RANK_MAX);
        s->shape[s->rank++] = token.uint_value;
    }
}

static void take_text(char dst[16], const struct tp_json_token *token)
{
    snprintf(dst, 16, "%s", token->has_nul ? "?" : token->text); /* a longer one is none that is known */
}

static enum tp_status take_value(struct state *s, enum key key, struct tp_json *json, struct tp_json_token *value,
                                 struct tp_error *why)
{
    switch (key) {
    case QUANT_TYPE:
        take_text(s->quant_type, value);
        break;
    case DTYPE:
        take_text(s->dtype, value);
        break;
    case NESTED_DTYPE:
        take_text(s->nested_dtype, value);
        break;
    case BLOCKSIZE:
        s->block_elems = value->uint_value;
        break;
    case NESTED_BLOCKSIZE:
        s->nested_block_elems = value->uint_value;
        break;
    case NESTED_OFFSET:
        s->nested_offset = value->number_value;
        break;
    default:
        return take_shape(s, json, why);
    }
    return TP_OK;
}

/* KEY_COUNT: none that is known. A key not known here may mean that the bytes mean something else. */
static enum key find_key(const struct tp_json_token *token)
{
    unsigned k = 0;
    while (k < KEY_COUNT && (token->len != strlen(keys[k].name) || memcmp(token->text, keys[k].name, token->len) != 0))
        k++;
    return (enum key)k;
}

static enum tp_status read_member(struct state *s, struct tp_json *json, struct tp_json_token *token,
                                  struct tp_error *why)
{
    enum key key = find_key(token);
    char name[TP_NAME_TEXT];
    tp_describe_name(name, token->text, token->len);
    if (key == KEY_COUNT)
        return tp_fail(why, TP_ERR_FORMAT, "the quant_state has a key that is not known, '%.64s'", name);
    if (s->seen & 1u << key)
        return tp_fail(why, TP_ERR_FORMAT, "the quant_state has the key '%s' twice", name);
    s->seen |= 1u << key;
    enum tp_status status = tp_json_next(json, token, why);
    if (status)
        return status;
    bool fits = token->type == keys[key].type || (token->type == TP_JSON_UINT && keys[key].type == TP_JSON_NUMBER);
    return fits ? take_value(s, key, json, token, why)
                : tp_fail(why, TP_ERR_FORMAT, "the quant_state has %s for '%s', expected %s",
                          tp_json_type_name(token->type), name, tp_json_type_name(keys[key].type));
}

static enum tp_status parse_state(struct state *s, const char *text, size_t len, struct tp_error *why)
{
    struct tp_json *json = NULL;
    struct tp_json_token token;
    enum tp_status status = tp_json_open_text(&json, text, len, "quant_state", STATE_MAX_BYTES, why);
    if (status)
        return status;
    status = tp_json_expect(json, TP_JSON_OBJECT_BEGIN, "the quant_state", &token, why);
    while (!status) {
        status = tp_json_next(json, &token, why);
        if (status || token.type == TP_JSON_OBJECT_END)
            break;
        status = read_member(s, json, &token, why);
    }
    if (!status)
        status = tp_json_next(json, &token, why); /* nothing may follow */
    tp_json_close(json);
    return status;
}

static enum tp_status read_state(struct state *s, const struct tp_decoded *d, const struct tp_tensor *t,
                                 struct tp_error *err)
{
    char text[STATE_MAX_BYTES];
    struct tp_error why = {.code = TP_OK};
    if (t->elem_count == 0 || t->elem_count > STATE_MAX_BYTES)
        return tp_decoded_refuse(d, t, err, "the quant_state has %" PRIu64 " bytes, expected 1 to %u", t->elem_count,
                                 STATE_MAX_BYTES);
    enum tp_status status = tp_tensor_read(d->ck, t, 0, t->elem_count, text, err);
    if (status)
        return status;
    status = parse_state(s, text, (size_t)t->elem_count, &why);
    return status ? refuse_json(d, t, status, &why, err) : TP_OK;
}

/* ---- preparing ---- */

static bool is_block_size(uint64_t n)
{
    return n >= BLOCK_MIN && n <= BLOCK_MAX && (n & (n - 1)) == 0;
}

static uint64_t ceil_div(uint64_t n, uint64_t by)
{
    return n / by + (n % by != 0);
}

static enum tp_status check_nested_state(const struct state *s, const struct tp_decoded *d, const struct tp_tensor *t,
                                         struct tp_error *err)
{
    char found[TP_NAME_TEXT];
    if (!is_block_size(s->nested_block_elems))
        return tp_decoded_refuse(d, t, err, "nested_blocksize is %" PRIu64 ", expected a power of two from %u to %u",
                                 s->nested_block_elems, BLOCK_MIN, BLOCK_MAX);
    if (strcmp(s->nested_dtype, "float32") != 0)
        return tp_decoded_refuse(d, t, err, "nested_dtype is '%s', expected 'float32'",
                                 tp_describe_name(found, s->nested_dtype, strlen(s->nested_dtype)));
    if (!(fabs(s->nested_offset) <= 3.4028234663852886e38)) /* the largest float32 */
        return tp_decoded_refuse(d, t, err, "nested_offset is %g, which float32 cannot hold", s->nested_offset);
    return TP_OK;
}

/* What the JSON says, taken by itself. */
static enum tp_status check_state(const struct state *s, const struct tp_decoded *d, const struct tp_tensor *t,
                                  const char *type, struct tp_error *err)
{
    char found[TP_NAME_TEXT];
    unsigned wanted = PLAIN_KEYS | (s->seen & NESTED_KEYS ? NESTED_KEYS : 0);
    for (unsigned k = 0; k < KEY_COUNT; k++)
        if (wanted & ~s->seen & 1u << k)
            return tp_decoded_refuse(d, t, err, "the quant_state lacks the key '%s'", keys[k].name);
    if (strcmp(s->quant_type, type) != 0)
        return tp_decoded_refuse(d, t, err, "quant_type is '%s', but the tensor's name says '%s'",
                                 tp_describe_name(found, s->quant_type, strlen(s->quant_type)), type);
    if (strcmp(s->dtype, "float16") != 0 && strcmp(s->dtype, "bfloat16") != 0 && strcmp(s->dtype, "float32") != 0)
        return tp_decoded_refuse(d, t, err, "dtype is '%s', expected 'float16', 'bfloat16' or 'float32'",
                                 tp_describe_name(found, s->dtype, strlen(s->dtype)));
    if (!is_block_size(s->block_elems))
        return tp_decoded_refuse(d, t, err, "blocksize is %" PRIu64 ", expected a power of two from %u to %u",
                                 s->block_elems, BLOCK_MIN, BLOCK_MAX);
    return s->seen & NESTED_KEYS ? check_nested_state(s, d, t, err) : TP_OK;
}

/* One element for each code or block: `what` says which. */
static enum tp_status check_count(const struct tp_decoded *d, const struct tp_tensor *t, enum tp_dtype dtype,
                                  uint64_t expected, const char *what, struct tp_error *err)
{
    if (t->dtype != dtype)
        return tp_decoded_refuse(d, t, err, "%s is %s, expected %s", what, tp_dtype_name((enum tp_dtype)t->dtype),
                                 tp_dtype_name(dtype));
    if (t->elem_count != expected)
        return tp_decoded_refuse(d, t, err, "%s has %" PRIu64 " elements, expected %" PRIu64, what, t->elem_count,
                                 expected);
    return TP_OK;
}

static enum tp_status check_codes(const struct tp_decoded *d, const struct state *s, const struct tp_tensor *t,
                                  struct tp_error *err)
{
    char shape[TP_SHAPE_TEXT];
    uint64_t count, size_bytes;
    tp_describe_shape(shape, s->shape, s->rank);
    if (!tp_shape_measure(s->shape, s->rank, TP_F32, &count, &size_bytes))
        return tp_decoded_refuse(d, t, err, "shape %s has more elements than can be counted", shape);
    if (d->codes->size_bytes != ceil_div(count, 2))
        return tp_decoded_refuse(d, t, err, "shape %s needs %" PRIu64 " bytes of codes, there are %" PRIu64, shape,
                                 ceil_div(count, 2), d->codes->size_bytes);
    return TP_OK;
}

/* `count` float32 of the file, at most NESTED_CODES. */
static enum tp_status read_map(const struct tp_decoded *d, const struct tp_tensor *t, size_t count, float *dst,
                               const char *what, struct tp_error *err)
{
    enum tp_status status = check_count(d, t, TP_F32, count, what, err);
    if (!status)
        status = tp_tensor_read_f32(d->ck, t, 0, count, dst, err);
    for (size_t i = 0; !status && i < count; i++)
        if (!isfinite(dst[i]))
            status = tp_decoded_refuse(d, t, err, "%s has no finite value at index %zu", what, i);
    return status;
}

static enum tp_status prepare_nested(struct tp_decoded *d, struct params *p, const struct state *s,
                                     struct tp_error *err)
{
    const struct tp_tensor *absmax = d->parts[ABSMAX], *nested = tp_decoded_member(d, ".nested_absmax");
    const struct tp_tensor *map = tp_decoded_member(d, ".nested_quant_map");
    if (!nested || !map)
        return tp_decoded_refuse(d, absmax, err, "the scales are nested, but there is no %s",
                                 nested ? ".nested_quant_map" : ".nested_absmax");
    uint64_t blocks = ceil_div(absmax->elem_count, s->nested_block_elems);
    enum tp_status status = check_count(d, nested, TP_F32, blocks, "nested_absmax", err);
    if (!status)
        status = read_map(d, map, NESTED_CODES, p->nested_values, "nested_quant_map", err);
    p->nested_block_elems = (uint32_t)s->nested_block_elems;
    p->nested_offset = (float)s->nested_offset;
    d->parts[NESTED_ABSMAX] = nested;
    return status;
}

/* The scales that the JSON describes must be there, and no others. */
static enum tp_status prepare_scales(struct tp_decoded *d, struct params *p, const struct state *s,
                                     const struct tp_tensor *state, struct tp_error *err)
{
    bool nested = (s->seen & NESTED_KEYS) != 0;
    const struct tp_tensor *absmax = tp_decoded_member(d, ".absmax"), *map = tp_decoded_member(d, ".quant_map");
    if (!absmax || !map)
        return tp_decoded_refuse(d, state, err, "there is no %s", absmax ? ".quant_map" : ".absmax");
    d->parts[ABSMAX] = absmax;
    const struct tp_tensor *stray = tp_decoded_member(d, ".nested_absmax");
    if (!nested && stray)
        return tp_decoded_refuse(d, stray, err, "the quant_state says nothing of nested scales, but they are there");
    uint64_t blocks = ceil_div(d->elem_count, s->block_elems);
    enum tp_status status = check_count(d, absmax, nested ? TP_U8 : TP_F32, blocks, "absmax", err);
    if (!status)
        status = read_map(d, map, CODES, p->values, "quant_map", err);
    if (!status && nested)
        status = prepare_nested(d, p, s, err);
    p->block_elems = (uint32_t)s->block_elems;
    return status;
}

static enum tp_status prepare(struct tp_decoded *d, struct tp_arena *arena, const char *type, struct tp_error *err)
{
    char suffix[48];
    struct state s = {.seen = 0};
    snprintf(suffix, sizeof suffix, ".quant_state.bitsandbytes__%s", type);
    const struct tp_tensor *state = tp_decoded_member(d, suffix);
    struct params *p = tp_arena_alloc(arena, sizeof *p);
    if (!p)
        return tp_fail_nomem(err);
    if (!state)
        return tp_decoded_refuse(d, NULL, err, "there is no %s", suffix);
    *p = (struct params){.block_elems = 0};
    d->params = p;
    enum tp_status status = read_state(&s, d, state, err);
    if (!status)
        status = check_state(&s, d, state, type, err);
    if (!status)
        status = check_codes(d, &s, state, err);
    if (!status)
        status = tp_decoded_set_name(d, arena, "", err);
    if (!status)
        status = tp_decoded_set_shape(d, arena, s.shape, s.rank, err);
    return status ? status : prepare_scales(d, p, &s, state, err);
}

static enum tp_status prepare_nf4(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, "nf4", err);
}

static enum tp_status prepare_fp4(struct tp_decoded *d, struct tp_arena *arena, struct tp_error *err)
{
    return prepare(d, arena, "fp4", err);
}

/* ---- scales ---- */

/* The places in a worker's scratch. */
struct room {
    float *scales, *nested_scales;
    uint8_t *scale_codes, *codes;
    uint64_t elems_max; /* of one run */
};

/* Half a byte a code, and for each block of 32 a float and a byte, and a float for each 32 of those: 0.67 bytes an
 * element at most. A run of as many elements as the scratch has bytes leaves a third for the ends that are not whole.
 */
static struct room room_in(struct tp_scratch *scratch)
{
    struct room room = {.elems_max = scratch->size_bytes};
    size_t blocks = scratch->size_bytes / BLOCK_MIN + 2, nested = blocks / BLOCK_MIN + 2;
    room.scales = (float *)(void *)scratch->bytes;
    room.nested_scales = room.scales + blocks;
    room.scale_codes = (uint8_t *)(room.nested_scales + nested);
    room.codes = room.scale_codes + blocks;
    scratch->owner = NULL; /* whoever had it last must load it again */
    return room;
}

/* A scale that is not finite poisons its whole block. Negative ones are none: a scale is the largest magnitude. */
static enum tp_status check_scales(const struct tp_decoded *d, const struct tp_tensor *t, float *scales, uint64_t first,
                                   size_t count, bool may_be_negative, struct tp_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (isnan(scales[i]) && d->options.nan_scales)
            scales[i] = NAN; /* one NaN for all */
        else if (!isfinite(scales[i]) || (scales[i] < 0 && !may_be_negative))
            return tp_decoded_refuse(d, t, err, "the scale at index %" PRIu64 " is %s", first + i,
                                     isnan(scales[i])   ? "NaN"
                                     : isinf(scales[i]) ? "infinite"
                                                        : "negative");
    }
    return TP_OK;
}

static enum tp_status read_plain_scales(const struct tp_decoded *d, const struct tp_tensor *t, float *dst,
                                        uint64_t first, size_t count, struct tp_error *err)
{
    enum tp_status status = tp_tensor_read(d->ck, t, first, count, dst, err);
    for (size_t i = 0; !status && i < count; i++) { /* in place: the file is little-endian, the machine may not be */
        uint8_t stored[4];
        memcpy(stored, &dst[i], 4);
        uint32_t bits = (uint32_t)tp_load_le(stored, 4);
        memcpy(&dst[i], &bits, 4);
    }
    return status ? status : check_scales(d, t, dst, first, count, false, err);
}

/* A scale is its code's value times its own block's scale, plus what was taken off all of them: each step rounded. */
static enum tp_status read_nested_scales(const struct tp_decoded *d, const struct room *room, uint64_t first,
                                         size_t count, struct tp_error *err)
{
    const struct params *p = d->params;
    uint64_t first_block = first / p->nested_block_elems;
    size_t blocks = (size_t)((first + count - 1) / p->nested_block_elems - first_block + 1);
    enum tp_status status =
        read_plain_scales(d, d->parts[NESTED_ABSMAX], room->nested_scales, first_block, blocks, err);
    if (!status)
        status = tp_tensor_read(d->ck, d->parts[ABSMAX], first, count, room->scale_codes, err);
    for (size_t i = 0; !status && i < count; i++) {
        float scale = room->nested_scales[(first + i) / p->nested_block_elems - first_block];
        float scaled = p->nested_values[room->scale_codes[i]] * scale; /* a statement each: nothing may fuse them */
        room->scales[i] = scaled + p->nested_offset;
    }
    return status ? status : check_scales(d, d->parts[ABSMAX], room->scales, first, count, true, err);
}

/* ---- decoding ---- */

/* The bytes of `count` codes from element `first` on; *codes is the one that holds the first. Other dtypes than U8 hold
 * bytes all the same, but are read in whole elements. */
static enum tp_status read_codes(const struct tp_decoded *d, const struct room *room, uint64_t first, uint64_t count,
                                 const uint8_t **codes, struct tp_error *err)
{
    uint64_t item = tp_dtype_bits((enum tp_dtype)d->codes->dtype) / 8;
    uint64_t first_byte = first / 2, end_byte = ceil_div(first + count, 2);
    uint64_t first_item = first_byte / item, end_item = ceil_div(end_byte, item);
    *codes = room->codes + (first_byte - first_item * item);
    return tp_tensor_read(d->ck, d->codes, first_item, end_item - first_item, room->codes, err);
}

/* Elements [first, first + n) of one block; `codes` is the byte that holds the first of them. */
static void decode_block(float *dst, const uint8_t *codes, uint64_t first, size_t n, const float *values, float scale)
{
    float scaled[CODES];
    size_t i = 0;
    for (size_t c = 0; c < CODES; c++)
        scaled[c] = values[c] * scale;
    if (first % 2 != 0 && n > 0)
        dst[i++] = scaled[*codes++ & 15];
    for (; n - i >= 2; i += 2, codes++) {
        dst[i] = scaled[*codes >> 4];
        dst[i + 1] = scaled[*codes & 15];
    }
    if (i < n)
        dst[i] = scaled[*codes >> 4];
}

static enum tp_status decode_run(const struct tp_decoded *d, const struct room *room, uint64_t first, uint64_t count,
                                 float *dst, struct tp_error *err)
{
    const struct params *p = d->params;
    const uint8_t *codes;
    uint64_t first_block = first / p->block_elems, end = first + count;
    size_t blocks = (size_t)((end - 1) / p->block_elems - first_block + 1);
    enum tp_status status = p->nested_block_elems > 0
                                ? read_nested_scales(d, room, first_block, blocks, err)
                                : read_plain_scales(d, d->parts[ABSMAX], room->scales, first_block, blocks, err);
    if (!status)
        status = read_codes(d, room, first, count, &codes, err);
    for (uint64_t at = first; !status && at < end;) {
        uint64_t block = at / p->block_elems, stop = (block + 1) * p->block_elems;
        stop = stop < end ? stop : end;
        decode_block(dst + (at - first), codes + (at / 2 - first / 2), at, (size_t)(stop - at), p->values,
                     room->scales[block - first_block]);
        at = stop;
    }
    return status;
}

static enum tp_status decode(const struct tp_decoded *d, struct tp_scratch *scratch, const struct tp_kernels *kernels,
                             uint64_t first, uint64_t count, float *dst, struct tp_error *err)
{
    struct room room = room_in(scratch);
    enum tp_status status = TP_OK;
    (void)kernels;
    while (!status && count > 0) {
        uint64_t n = count < room.elems_max ? count : room.elems_max;
        status = decode_run(d, &room, first, n, dst, err);
        dst += n;
        first += n;
        count -= n;
    }
    return status;
}

const struct tp_scheme tp_scheme_bnb_nf4 = {.name = "bnb-nf4", .prepare = prepare_nf4, .decode = decode};
const struct tp_scheme tp_scheme_bnb_fp4 = {.name = "bnb-fp4", .prepare = prepare_fp4, .decode = decode};
