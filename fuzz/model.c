/* SPDX-License-Identifier: MIT */
/* From top to bottom: the schemes as they should be, dimensions, what tensors hold, what the input changes,
 * config.json, files, options. */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILLED_MAX ((size_t)24 << 10)   /* bytes of a tensor that are not zero */
#define FILE_MAX ((uint64_t)1 << 40)    /* of zeros, in a file that is not there */
#define CODES_MAX ((uint64_t)8 << 10)   /* elements of most tensors */
#define CODES_RARE ((uint64_t)96 << 10) /* of some */

/* ---- the schemes ---- */

/* What a tensor holds where the input does not say otherwise. */
enum fill { RANDOM, SCALES, ZEROS, ORDER, WEIGHT_SHAPE, STATE, MAP, WIDE };

/* Shapes: dimensions by comma, each a letter or a number and what it is multiplied with and divided by, rounded up.
 * E matrices, R rows, C columns, G groups in a row, b bits, g columns in a group, S bytes of JSON. */
struct member {
    const char *suffix;
    enum tp_dtype dtype;
    const char *shape;
    enum fill fill;
};

static const struct recipe {
    const char *config; /* within quantization_config; %b bits, %g columns in a group */
    struct member members[7];
} recipes[] = {
    {"\"quant_method\":\"mxfp4\"", {{"_blocks", TP_U8, "E,R,C/32,16", RANDOM}, {"_scales", TP_U8, "E,R,C/32", RANDOM}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"mxfp4-pack-quantized\"",
     {{".weight_packed", TP_U8, "R,C/2", RANDOM}, {".weight_scale", TP_U8, "R,C/32", RANDOM}}},
    {"\"quant_method\":\"fp8\"", {{".weight", TP_I8, "R,C/2", RANDOM}, {".scale", TP_F8_E8M0, "R,C/32", RANDOM}}},
    {"\"quant_method\":\"modelopt\",\"quant_algo\":\"MXFP4\"",
     {{".weight", TP_U8, "R,C/2", RANDOM}, {".weight_scale", TP_U8, "R,C/32", RANDOM}}},
    {"\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\"",
     {{".weight", TP_U8, "R,C/2", RANDOM},
      {".weight_scale", TP_F8_E4M3, "R,C/16", SCALES},
      {".weight_scale_2", TP_F32, "", SCALES},
      {".input_scale", TP_F32, "", SCALES}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"nvfp4-pack-quantized\"",
     {{".weight_packed", TP_U8, "R,C/2", RANDOM},
      {".weight_scale", TP_F8_E4M3, "R,C/16", SCALES},
      {".weight_global_scale", TP_F32, "1", SCALES}}},
    {"\"quant_method\":\"modelopt\",\"quant_algo\":\"MXFP8\"",
     {{".weight", TP_F8_E4M3, "R,C", RANDOM}, {".weight_scale", TP_U8, "R,C/32", RANDOM}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"mxfp6-pack-quantized\"",
     {{".weight_packed", TP_U8, "R,C*3/4", RANDOM}, {".weight_scale", TP_U8, "R,C/32", RANDOM}}},
    {"\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]",
     {{".weight", TP_F8_E4M3, "R,C", RANDOM}, {".weight_scale_inv", TP_F32, "R/128,C/128", SCALES}}},
    {"\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]",
     {{".weight", TP_F8_E4M3, "R,C", RANDOM}, {".scale", TP_F8_E8M0, "R/128,C/128", RANDOM}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"",
     {{".weight", TP_F8_E4M3, "R,C", RANDOM}, {".weight_scale", TP_BF16, "R,1", SCALES}}},
    {"\"quant_method\":\"modelopt\",\"quant_algo\":\"FP8\"",
     {{".weight", TP_F8_E4M3, "R,C", RANDOM},
      {".weight_scale", TP_F32, "", SCALES},
      {".input_scale", TP_F32, "", SCALES}}},
    {"\"quant_method\":\"fbgemm_fp8\"", {{"", TP_F8_E4M3, "E,R,C", RANDOM}, {"_scale", TP_F32, "E,1,C", SCALES}}},
    {"\"quant_method\":\"fp8\"", {{"", TP_F8_E5M2, "E,R,C", RANDOM}, {"_scale_inv", TP_F16, "E,R/128,C/128", SCALES}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"int-quantized\"",
     {{".weight", TP_I8, "R,C", RANDOM},
      {".weight_scale", TP_F16, "R,1", SCALES},
      {".weight_zero_point", TP_I8, "R,1", RANDOM}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":"
     "{\"group_0\":{\"weights\":{\"num_bits\":%b,\"group_size\":%g}}}",
     {{".weight_packed", TP_I32, "R,C*b/32", RANDOM},
      {".weight_scale", TP_BF16, "R,G", SCALES},
      {".weight_shape", TP_I64, "2", WEIGHT_SHAPE},
      {".weight_zero_point", TP_I32, "R*b/32,G", RANDOM},
      {".weight_g_idx", TP_I32, "C", ORDER}}},
    {"\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":"
     "{\"group_0\":{\"weights\":{\"num_bits\":%b,\"group_size\":%g}}}",
     {{".weight_packed", TP_I32, "E,R,C*b/32", RANDOM}, {".weight_scale", TP_F16, "E,R,G", SCALES}}},
    {"\"quant_method\":\"gptq\",\"bits\":%b,\"group_size\":%g,\"checkpoint_format\":\"gptq\"",
     {{".qweight", TP_I32, "C*b/32,R", RANDOM},
      {".scales", TP_F16, "G,R", SCALES},
      {".qzeros", TP_I32, "G,R*b/32", RANDOM},
      {".g_idx", TP_I32, "C", ORDER}}},
    {"\"quant_method\":\"gptq\",\"bits\":%b,\"group_size\":%g,\"checkpoint_format\":\"gptq_v2\",\"meta\":"
     "{\"quantizer\":[\"gptqmodel:7.7.0\"]}",
     {{".qweight", TP_I32, "C*b/32,R", RANDOM}, {".scales", TP_F16, "G,R", SCALES}}},
    {"\"quant_method\":\"awq\",\"bits\":4,\"group_size\":%g,\"version\":\"gemm\",\"zero_point\":true",
     {{".qweight", TP_I32, "C,R*4/32", RANDOM},
      {".scales", TP_F16, "G,R", SCALES},
      {".qzeros", TP_I32, "G,R*4/32", RANDOM}}},
    {"\"quant_method\":\"bitsandbytes\"",
     {{"", TP_U8, "R*C/2,1", RANDOM},
      {".quant_state.bitsandbytes__nf4", TP_U8, "S", STATE},
      {".absmax", TP_F32, "R*C/g", SCALES},
      {".quant_map", TP_F32, "16", MAP}}},
    {"\"quant_method\":\"bitsandbytes\"",
     {{"", TP_BF16, "R*C/4,1", RANDOM},
      {".quant_state.bitsandbytes__fp4", TP_U8, "S", STATE},
      {".absmax", TP_U8, "R*C/g", RANDOM},
      {".quant_map", TP_F32, "16", MAP},
      {".nested_absmax", TP_F32, "R*C/g/256", SCALES},
      {".nested_quant_map", TP_F32, "256", MAP}}},
    {"\"quant_method\":\"bitsandbytes\"",
     {{".weight", TP_I8, "R,C", RANDOM}, {".SCB", TP_F32, "R", SCALES}, {".weight_format", TP_U8, "", ZEROS}}},
    {"\"quant_method\":\"mlx\",\"bits\":%b,\"group_size\":%g",
     {{".weight", TP_U32, "R,C*b/32", RANDOM}, {".scales", TP_F16, "R,G", SCALES}, {".biases", TP_F16, "R,G", SCALES}}},
    {"\"quant_method\":\"modelopt\",\"quant_algo\":\"W4A16_AWQ\",\"group_size\":%g",
     {{".weight", TP_U8, "R/2,C", RANDOM},
      {".weight_scale", TP_F16, "R,G", SCALES},
      {".pre_quant_scale", TP_BF16, "C", SCALES}}},
    {"", {{".weight", TP_F32, "R,C", WIDE}}},
    {"", {{".weight", TP_BF16, "R,C", RANDOM}, {".bias", TP_F16, "R", WIDE}}},
    {"", {{".codes", TP_F4, "R,C*2", RANDOM}}},
    {"", {{".index", TP_I64, "C", RANDOM}, {".mask", TP_BOOL, "R", RANDOM}, {".half", TP_F64, "C", WIDE}}},
};

/* ---- dimensions ---- */

struct size {
    uint64_t e, r, c, b, g, state_len;
};

static const uint16_t some_rows[] = {3, 1, 2, 8, 16, 31, 32, 33, 64, 96, 128, 129, 160, 257};
static const uint16_t some_columns[] = {64, 8, 16, 32, 96, 128, 160, 192, 256, 512, 30, 33, 127, 2048};
static const uint8_t some_bits[] = {4, 8, 3, 2, 5, 6, 7, 1};
static const uint16_t some_groups[] = {32, 64, 128, 16, 8, 7, 256};
#define CHOOSE(in, table) ((table)[fuzz_choice((in), TP_COUNT_OF(table))])

/* The largest byte values mean a matrix of gigabytes: right in itself, and mostly zeros. */
static struct size choose_size(struct fuzz_bytes *in, bool huge)
{
    struct size s = {.e = 1 + fuzz_choice(in, 3)};
    uint64_t rows = fuzz_number(in, 1), columns = fuzz_number(in, 1);
    bool tall = huge && rows >= 250, wide = huge && columns >= 250;
    s.r = tall ? UINT64_C(1) << (rows - 235) : some_rows[rows % TP_COUNT_OF(some_rows)];
    s.c = wide ? UINT64_C(1) << (columns - 241) : some_columns[columns % TP_COUNT_OF(some_columns)];
    s.b = CHOOSE(in, some_bits);
    s.g = CHOOSE(in, some_groups);
    if (!tall && !wide && s.r * s.c > (fuzz_rarely(in, 24) ? CODES_RARE : CODES_MAX))
        s.r = 3;
    return s;
}

static uint64_t value_of(const char **p, const struct size *s)
{
    if (**p >= '0' && **p <= '9') {
        char *end;
        uint64_t value = strtoull(*p, &end, 10);
        *p = end;
        return value;
    }
    switch (*(*p)++) {
    case 'E':
        return s->e;
    case 'R':
        return s->r;
    case 'C':
        return s->c;
    case 'G':
        return (s->c + s->g - 1) / s->g;
    case 'b':
        return s->b;
    case 'g':
        return s->g;
    default:
        return s->state_len;
    }
}

static void set_shape(struct model_tensor *t, const char *text, const struct size *s)
{
    for (const char *p = text; *p; p += *p == ',') {
        uint64_t value = value_of(&p, s);
        while (*p && *p != ',') {
            bool times = *p++ == '*';
            uint64_t by = value_of(&p, s);
            value = times ? value * by : (value + by - 1) / by;
        }
        t->shape[t->rank++] = value;
    }
}

/* Saturates; what a shape needs may be more than there can be. */
static void measure(struct model_tensor *t)
{
    uint64_t elems = 1, bits = tp_dtype_bits(t->dtype);
    for (unsigned i = 0; i < t->rank; i++)
        if (TP_MUL_OVERFLOW(elems, t->shape[i], &elems))
            elems = UINT64_MAX;
    if (TP_MUL_OVERFLOW(elems, bits, &elems) || elems / 8 > FILE_MAX)
        elems = FILE_MAX * 8;
    t->size_bytes = elems / 8;
    t->len = t->size_bytes < FILLED_MAX ? (size_t)t->size_bytes : FILLED_MAX;
}

/* ---- what tensors hold ---- */

static void fill_random(struct model_tensor *t, uint64_t seed)
{
    for (size_t i = 0; i < t->len; i++)
        t->bytes[i] = (uint8_t)fuzz_random(&seed);
}

static void store(uint8_t *dst, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        dst[i] = (uint8_t)(value >> (8 * i));
}

/* Floats of moderate size, most of them positive. */
static void fill_scales(struct model_tensor *t, uint64_t seed)
{
    size_t item = tp_dtype_bits(t->dtype) / 8;
    for (size_t i = 0; item > 0 && i + item <= t->len; i += item) {
        uint32_t r = fuzz_random(&seed);
        uint64_t bits = t->dtype == TP_F32    ? 0x3c000000u + (r & 0x3ffffff)
                        : t->dtype == TP_F16  ? 0x2c00u + (r & 0xfff)
                        : t->dtype == TP_BF16 ? 0x3c00u + (r & 0x3ff)
                        : t->dtype == TP_F64  ? UINT64_C(0x3fd0000000000000) + r
                                              : 0x30 + (r & 0x1f);
        store(t->bytes + i, bits, item);
    }
}

/* What is hard to cast: extremes, NaN, subnormals; and much that is not. */
static void fill_wide(struct model_tensor *t, uint64_t seed)
{
    fill_scales(t, seed);
    size_t item = tp_dtype_bits(t->dtype) / 8;
    for (size_t i = 0; item > 0 && i + item <= t->len; i += item)
        if (fuzz_random(&seed) % 4 == 0)
            for (size_t k = 0; k < item; k++)
                t->bytes[i + k] = (uint8_t)fuzz_random(&seed);
}

static void fill_order(struct model_tensor *t, const struct size *s, uint64_t seed)
{
    size_t item = tp_dtype_bits(t->dtype) / 8;
    uint64_t groups = (s->c + s->g - 1) / s->g;
    for (size_t i = 0; item > 0 && (i + 1) * item <= t->len; i++) {
        uint64_t group = seed % 2 == 0 ? i / s->g : (i * (2 * (seed % 64) + 1)) % groups;
        store(t->bytes + i * item, group, item);
    }
}

static void fill_weight_shape(struct model_tensor *t, const struct size *s)
{
    size_t item = tp_dtype_bits(t->dtype) / 8;
    uint64_t dims[2] = {s->r, s->c};
    for (size_t i = 0; i < 2 && (i + 1) * item <= t->len; i++)
        store(t->bytes + i * item, dims[i], item);
}

/* The JSON of bitsandbytes, as it should be. */
static size_t state_text(char *text, size_t cap, const struct size *s, bool nested)
{
    int len = snprintf(text, cap, "{\"quant_type\":\"%s\",\"blocksize\":%u,%s\"dtype\":\"bfloat16\",\"shape\":[%u,%u]}",
                       nested ? "fp4" : "nf4", (unsigned)s->g,
                       nested ? "\"nested_blocksize\":256,\"nested_dtype\":\"float32\",\"nested_offset\":0.03125," : "",
                       (unsigned)s->r, (unsigned)s->c);
    return (size_t)len;
}

static void fill_text(struct model_tensor *t, const char *text)
{
    size_t len = strlen(text);
    memcpy(t->bytes, text, len < t->len ? len : t->len);
}

static void fill(struct model_tensor *t, enum fill how, const struct size *s, const char *state, uint64_t seed)
{
    switch (how) {
    case RANDOM:
        fill_random(t, seed);
        break;
    case SCALES:
    case MAP:
        fill_scales(t, seed);
        break;
    case WIDE:
        fill_wide(t, seed);
        break;
    case ORDER:
        fill_order(t, s, seed);
        break;
    case WEIGHT_SHAPE:
        fill_weight_shape(t, s);
        break;
    case STATE:
        fill_text(t, state);
        break;
    case ZEROS:
        break;
    }
}

/* ---- what the input changes ---- */

static const uint64_t absurd[] = {0,
                                  1,
                                  2,
                                  5,
                                  7,
                                  1000,
                                  UINT64_C(1) << 20,
                                  UINT64_C(1) << 31,
                                  (UINT64_C(1) << 32) + 1,
                                  UINT64_C(1) << 33,
                                  UINT64_C(1) << 38,
                                  UINT64_C(1) << 61,
                                  UINT64_C(1) << 62,
                                  INT64_MAX};
#define ABSURD_SMALL 6u

static void change_shape(struct model_tensor *t, struct fuzz_bytes *in, bool huge)
{
    size_t which = fuzz_choice(in, MODEL_RANK_MAX), how = fuzz_choice(in, 5);
    uint64_t other = absurd[fuzz_choice(in, huge ? TP_COUNT_OF(absurd) : ABSURD_SMALL)];
    if (how == 0 && t->rank < MODEL_RANK_MAX)
        t->shape[t->rank++] = 1;
    else if (how == 1 && t->rank > 0)
        t->rank--;
    else if (which < t->rank)
        t->shape[which] = how == 2 ? t->shape[which] + 1 : how == 3 ? t->shape[which] - 1 : other;
}

/* A few bytes of a tensor. */
static void change_bytes(struct model_tensor *t, struct fuzz_bytes *in)
{
    size_t len, at = (size_t)fuzz_number(in, 2);
    const uint8_t *piece = fuzz_piece(in, 255, &len);
    at = t->len > 0 ? at % t->len : 0;
    if (len > t->len - at)
        len = t->len - at;
    if (len > 0)
        memcpy(t->bytes + at, piece, len);
}

static void change_before(struct model_tensor *t, struct fuzz_bytes *in, bool huge)
{
    static const char *const suffixes[] = {".weight",       ".weight_scale", ".scales",  ".qzeros",
                                           ".weight_shape", ".absmax",       ".k_scale", "_scale_inv"};
    switch (fuzz_choice(in, 8)) {
    case 1:
        t->dtype = (enum tp_dtype)fuzz_choice(in, TP_F4_UNPACKED);
        break;
    case 2: {
        char *dot = strrchr(t->name, '.');
        snprintf(dot ? dot : t->name, 24, "%s", suffixes[fuzz_choice(in, TP_COUNT_OF(suffixes))]);
        break;
    }
    case 3:
        t->name[0] = '\0'; /* taken out */
        break;
    default:
        change_shape(t, in, huge);
        break;
    }
}

/* The tensors of one group, each with a byte that says whether something is wrong with it. */
static void add_group(struct model *m, const struct recipe *recipe, const struct size *size, struct fuzz_bytes *in,
                      bool huge)
{
    char state[256];
    struct size s = *size;
    unsigned number = (unsigned)m->count;
    const char *second = recipe->members[1].suffix;
    s.state_len = state_text(state, sizeof state, &s, second && strstr(second, "fp4"));
    for (const struct member *member = recipe->members; member->suffix && m->count < MODEL_TENSORS_MAX; member++) {
        struct model_tensor *t = &m->tensors[m->count];
        *t = (struct model_tensor){.dtype = member->dtype};
        snprintf(t->name, sizeof t->name, "m.%u%s", number, member->suffix);
        set_shape(t, member->shape, &s);
        size_t change = fuzz_choice(in, 16);
        if (change >= 12)
            change_before(t, in, huge);
        if (t->name[0] == '\0')
            continue;
        measure(t);
        t->bytes = calloc(t->len + 1, 1);
        FUZZ_CHECK(t->bytes != NULL);
        fill(t, change == 1 ? RANDOM : member->fill, &s, state, fuzz_number(in, 1));
        if (change >= 8 && change < 12)
            change_bytes(t, in);
        m->count++;
    }
}

/* ---- config.json ---- */

static void append(struct model *m, const char *text)
{
    int len = snprintf(m->config + m->config_len, sizeof m->config - m->config_len, "%s", text);
    m->config_len += (size_t)len;
    FUZZ_CHECK(m->config_len < sizeof m->config);
}

static const char *number_text(struct fuzz_bytes *in, uint64_t usual, char text[32])
{
    static const char *const odd[] = {"0", "-1", "null", "1e300", "9223372036854775807", "18446744073709551616", "3"};
    snprintf(text, 32, "%u", (unsigned)usual);
    return fuzz_rarely(in, 16) ? odd[fuzz_choice(in, TP_COUNT_OF(odd))] : text;
}

/* Further keys, most of which contradict something. */
static const char *const extras[] = {
    "\"desc_act\":true",
    "\"checkpoint_format\":\"gptq_v2\"",
    "\"checkpoint_format\":\"marlin\"",
    "\"is_marlin_format\":true",
    "\"version\":\"gemv\"",
    "\"zero_point\":false",
    "\"planar\":true",
    "\"weight_block_size\":[128,128]",
    "\"weight_block_size\":[0,9223372036854775807]",
    "\"weight_block_size\":[1,64]",
    "\"group_size\":-1",
    "\"bits\":9223372036854775807",
    "\"group_size\":9223372036854775807",
    "\"group_size\":0",
    "\"format\":\"pack-quantized\"",
    "\"quant_algo\":\"MIXED_PRECISION\"",
    "\"quant_method\":\"compressed-tensors\"",
    "\"dynamic\":{\"-:m.1\":{},\"+:m.[0-9]\":{\"bits\":8,\"group_size\":32},\"m.2\":{\"sym\":false}}",
    "\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":8}},\"b\":{\"format\":\"float-quantized\"}}",
    "\"sym\":true",
};

static void make_config(struct model *m, const struct recipe *recipe, const struct size *s, struct fuzz_bytes *in)
{
    char text[32];
    append(m, "{\"torch_dtype\":\"float16\",\"quantization_config\":{");
    append(m, recipe->config[0] ? "" : "\"x\":0");
    for (const char *p = recipe->config; *p; p++) {
        const char one[2] = {*p, '\0'};
        if (*p == '%')
            append(m, number_text(in, *++p == 'b' ? s->b : s->g, text));
        else
            append(m, one);
    }
    for (size_t count = fuzz_choice(in, 8); count >= 5; count--) {
        append(m, ",");
        append(m, extras[fuzz_choice(in, TP_COUNT_OF(extras))]);
    }
    append(m, "}}");
}

void model_make(struct model *m, struct fuzz_bytes *in, bool huge)
{
    *m = (struct model){.count = 0};
    const struct recipe *first = &recipes[fuzz_choice(in, TP_COUNT_OF(recipes))];
    struct size size = choose_size(in, huge);
    make_config(m, first, &size, in);
    add_group(m, first, &size, in, huge);
    for (size_t more = fuzz_choice(in, 4); more > 0; more--) {
        const struct recipe *recipe = fuzz_rarely(in, 2) ? &recipes[fuzz_choice(in, TP_COUNT_OF(recipes))] : first;
        size_t bits = (size_t)size.b, group = (size_t)size.g;
        size = choose_size(in, huge);
        if (recipe == first) { /* config.json speaks of all */
            size.b = bits;
            size.g = group;
        }
        add_group(m, recipe, &size, in, huge);
    }
}

void model_release(struct model *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->tensors[i].bytes);
    m->count = 0;
}

/* ---- files ---- */

static void write_file(const struct model *m, size_t first, size_t end, const char *path)
{
    char header[8192] = "";
    size_t used = 8;
    uint64_t offset = 0;
    used += (size_t)snprintf(header + used, sizeof header - used, "{");
    for (size_t i = first; i < end; i++) {
        const struct model_tensor *t = &m->tensors[i];
        used += (size_t)snprintf(header + used, sizeof header - used, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                 i > first ? "," : "", t->name, tp_dtype_name(t->dtype));
        for (unsigned k = 0; k < t->rank; k++)
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%llu", k > 0 ? "," : "",
                                     (unsigned long long)t->shape[k]);
        used += (size_t)snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%llu,%llu]}",
                                 (unsigned long long)offset, (unsigned long long)(offset + t->size_bytes));
        offset += t->size_bytes;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    FUZZ_CHECK(used < sizeof header);
    store((uint8_t *)header, used - 8, 8);
    fuzz_put(path, header, used, used + offset);
    offset = used;
    for (size_t i = first; i < end; i++) {
        fuzz_put_at(path, m->tensors[i].bytes, m->tensors[i].len, offset);
        offset += m->tensors[i].size_bytes;
    }
}

void model_write(const struct model *m, struct fuzz_bytes *in, const char *name)
{
    char path[3][128];
    const char *slash = *name ? "/" : "";
    bool split = fuzz_rarely(in, 4) && m->count > 1;
    snprintf(path[0], sizeof path[0], "%s%sconfig.json", name, slash);
    snprintf(path[1], sizeof path[1], "%s%smodel%s.safetensors", name, slash, split ? "-00001-of-00002" : "");
    snprintf(path[2], sizeof path[2], "%s%smodel-00002-of-00002.safetensors", name, slash);
    fuzz_put(path[0], m->config, m->config_len, 0);
    write_file(m, 0, split ? 1 : m->count, path[1]);
    if (split)
        write_file(m, 1, m->count, path[2]);
}

/* ---- options ---- */

void model_options(struct tp_convert_options *o, struct model_globs *globs, struct fuzz_bytes *in)
{
    static const char *const schemes[] = {"mxfp4", "mxfp6", "mxfp8",   "nvfp4",   "fp8",      "int8", "pack-quantized",
                                          "gptq",  "awq",   "bnb-nf4", "bnb-fp4", "bnb-int8", "mlx",  "none"};
    static const char *const patterns[] = {"*", "*weight*", "m.0*", "*[_.]scale*", "x", "m.?.*"};
    *o = (struct tp_convert_options){.precision = TP_PRECISION_KEEP};
    unsigned flags = (unsigned)fuzz_number(in, 1);
    o->dequantize = !(flags & 128) || fuzz_rarely(in, 2);
    o->mxfp4_out_in = flags & 1;
    o->mxfp4_positive_zero = flags & 2;
    o->decode_f16_first = flags & 4;
    o->nan_scales = flags & 8;
    o->compat = flags & 16;
    o->format = flags & 32 ? TP_OUTPUT_SAFETENSORS : TP_OUTPUT_FLAX_MSGPACK;
    o->tree = flags & 64 ? TP_TREE_NESTED : TP_TREE_FLAT;
    if (fuzz_rarely(in, 8))
        o->dequantize_scheme = schemes[fuzz_choice(in, TP_COUNT_OF(schemes))];
    o->precision = (enum tp_precision)((fuzz_choice(in, 4) + TP_PRECISION_KEEP) % 4);
    o->on_overflow = (enum tp_overflow)fuzz_choice(in, 3);
    o->oversize = (enum tp_oversize)fuzz_choice(in, 3);
    if (fuzz_rarely(in, 2))
        o->shard_size_bytes = 1 + fuzz_number(in, 2) * 16;
    struct tp_glob_list *const lists[] = {&o->keep_dtype, &o->include, &o->exclude};
    for (size_t i = 0; i < TP_COUNT_OF(lists); i++)
        if (fuzz_rarely(in, 8)) {
            globs->items[i] = patterns[fuzz_choice(in, TP_COUNT_OF(patterns))];
            *lists[i] = (struct tp_glob_list){&globs->items[i], 1};
        }
}
