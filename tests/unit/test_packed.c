/* SPDX-License-Identifier: MIT */
/* compressed-tensors' pack-quantized: what three versions of the package decode (tests/data/quantised), the formula
 * said plainly on every number of bits and both ways to pack, and tensors that do not go together. */
#include "packing.h"

#define STEM "l.0.up_proj"
#define CONFIG(weights)                                                                     \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{" \
    "\"group_0\":{\"format\":\"pack-quantized\",\"weights\":{" weights "}}}}}"

static void golden_folders_decode_as_compressed_tensors_does(void **state)
{
    static const char *const names[] = {
        "ct-pack-int2-g32-asym-bf16-dense", "ct-pack-int3-g32-asym-bf16-dense", "ct-pack-int4-g32-asym-f16",
        "ct-pack-int4-tensor-sym-f32",      "ct-pack-int6-g32-asym-bf16-dense", "ct-pack-int8-channel-sym-bf16",
        "ct0.17.1-pack-int3-g32-asym",      "ct0.17.1-pack-int4-g32-gidx-sym",  "ct0.17.1-pack-int6-g32-asym",
        "ct0.18.0-pack-int3-g32-asym",      "ct0.18.0-pack-int4-g32-gidx-sym",  "ct0.18.0-pack-int6-g32-asym",
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        expect_golden_matrix(names[i], &tp_scheme_pack_quantized, false);
}

/* -- models of one's own -- */

enum zeros { SYMMETRIC, PACKED, AS_I8, AS_F16 };

struct shape {
    unsigned bits;
    bool old; /* whole fields in a word */
    size_t stack, out, in, group_size;
    enum zeros zeros;
    enum { ONE_A_GROUP, ONE_IN_ALL, ONE_A_MATRIX } scale_kind;
    bool order;      /* groups scattered evenly */
    bool undeclared; /* config.json says nothing of bits and groups */
};

struct model {
    size_t groups, rows, words, zero_rows, scale_count;
    unsigned fields;
    uint32_t *packed, *zero_words;
    int8_t *zeros;
    float *scales, *want;
    int32_t *order;
    int64_t shape[3];
    struct part parts[6];
    char texts[5][64];
};

static void shape_text(char *text, const struct shape *s, size_t rows, size_t columns)
{
    if (s->stack)
        snprintf(text, 64, "[%zu,%zu,%zu]", s->stack, rows, columns);
    else
        snprintf(text, 64, "[%zu,%zu]", rows, columns);
}

static size_t factor_of(const struct model *m, const struct shape *s, size_t row, size_t column)
{
    if (s->scale_kind != ONE_A_GROUP)
        return s->scale_kind == ONE_IN_ALL ? 0 : row / s->out;
    return row * m->groups + (size_t)m->order[column];
}

static void scatter(struct model *m, const struct shape *s)
{
    for (size_t k = 0; k < s->in; k++)
        m->order[k] = (int32_t)(k / s->group_size);
    for (size_t k = s->in; s->order && k-- > 1;) {
        const size_t other = next_random() % (k + 1);
        const int32_t kept = m->order[k];
        m->order[k] = m->order[other];
        m->order[other] = kept;
    }
}

/* Signed values: codes and zero points have 2^(bits-1) added when they are packed. */
static void fill(struct model *m, const struct shape *s)
{
    const unsigned half = 1u << (s->bits - 1);
    for (size_t i = 0; i < m->scale_count; i++) {
        random_f16(&m->scales[i]);
        m->scales[i] *= 1.0f + 0x1p-23f * (float)(next_random() % 8192);
        m->zeros[i] = (int8_t)(s->zeros == SYMMETRIC ? 0 : (int)(next_random() % (2 * half)) - (int)half);
    }
    for (size_t row = 0; row < m->rows; row++)
        for (size_t k = 0; k < s->in; k++) {
            const int q = (int)(next_random() % (2 * half)) - (int)half;
            const size_t at = factor_of(m, s, row, k);
            put_field(m->packed + row * m->words, k, s->bits, m->fields, (uint32_t)(q + (int)half));
            m->want[row * s->in + k] = (float)(q - m->zeros[at]) * m->scales[at];
        }
    uint32_t *column = malloc(m->zero_rows * 4);
    for (size_t i = 0; i < (s->stack ? s->stack : 1) * m->groups && s->zeros == PACKED; i++) {
        const size_t matrix = i / m->groups, group = i % m->groups;
        memset(column, 0, m->zero_rows * 4);
        for (size_t n = 0; n < s->out; n++)
            put_field(column, n, s->bits, m->fields,
                      (uint32_t)(m->zeros[(matrix * s->out + n) * m->groups + group] + (int)half));
        for (size_t r = 0; r < m->zero_rows; r++)
            m->zero_words[(matrix * m->zero_rows + r) * m->groups + group] = column[r];
    }
    free(column);
}

static void name_parts(struct model *m, const struct shape *s)
{
    static uint16_t halves[4096];
    const size_t stack = s->stack ? s->stack : 1;
    struct part *p = m->parts;
    shape_text(m->texts[0], s, s->out, m->words);
    shape_text(m->texts[1], s, s->scale_kind == ONE_A_GROUP ? s->out : 1, s->scale_kind == ONE_A_GROUP ? m->groups : 1);
    if (s->scale_kind == ONE_IN_ALL)
        snprintf(m->texts[1], 64, "[1]");
    *p++ = (struct part){STEM ".weight_packed", "I32", m->texts[0], m->packed, m->rows * m->words * 4};
    *p++ = (struct part){STEM ".weight_scale", "F32", m->texts[1], m->scales, m->scale_count * 4};
    m->shape[0] = (int64_t)stack;
    m->shape[1] = (int64_t)s->out;
    m->shape[2] = (int64_t)s->in;
    *p++ =
        (struct part){STEM ".weight_shape", "I64", s->stack ? "[3]" : "[2]", m->shape + !s->stack, s->stack ? 24 : 16};
    if (s->order) {
        snprintf(m->texts[2], 64, "[%zu]", s->in);
        *p++ = (struct part){STEM ".weight_g_idx", "I32", m->texts[2], m->order, s->in * 4};
    }
    if (s->zeros == PACKED) {
        shape_text(m->texts[3], s, m->zero_rows, m->groups);
        *p++ = (struct part){STEM ".weight_zero_point", "I32", m->texts[3], m->zero_words,
                             stack * m->zero_rows * m->groups * 4};
    } else if (s->zeros == AS_I8) {
        *p++ = (struct part){STEM ".weight_zero_point", "I8", m->texts[1], m->zeros, m->scale_count};
    } else if (s->zeros == AS_F16) {
        struct tp_kernels k;
        struct tp_stats stats;
        assert_true(tp_kernels_init(&k, "scalar") && m->scale_count <= TP_COUNT_OF(halves));
        tp_stats_init(&stats);
        for (size_t i = 0; i < m->scale_count; i++)
            k.cast[TP_KIND_F32][TP_KIND_F16](&halves[i], &(float){m->zeros[i]}, 1, false, &stats);
        *p++ = (struct part){STEM ".weight_zero_point", "F16", m->texts[1], halves, m->scale_count * 2};
    }
}

static void model_make(struct model *m, const struct shape *s)
{
    const size_t stack = s->stack ? s->stack : 1;
    *m = (struct model){.groups = s->in / s->group_size, .rows = stack * s->out};
    m->fields = s->old || 32 % s->bits == 0 ? 32 / s->bits : 0;
    m->words = words_for(s->in, s->bits, m->fields);
    m->zero_rows = words_for(s->out, s->bits, m->fields);
    m->scale_count = s->scale_kind == ONE_A_GROUP ? m->rows * m->groups : s->scale_kind == ONE_IN_ALL ? 1 : stack;
    m->packed = calloc(m->rows * m->words, 4);
    m->zero_words = calloc(stack * m->zero_rows * m->groups, 4);
    m->zeros = malloc(m->scale_count);
    m->scales = malloc(m->scale_count * sizeof *m->scales);
    m->want = malloc(m->rows * s->in * sizeof *m->want);
    m->order = malloc(s->in * 4);
    scatter(m, s);
    fill(m, s);
    name_parts(m, s);
}

static void model_free(struct model *m)
{
    free(m->packed);
    free(m->zero_words);
    free(m->zeros);
    free(m->scales);
    free(m->want);
    free(m->order);
}

static void expect_model(const struct shape *s)
{
    struct model m;
    struct packing p;
    char config[512];
    model_make(&m, s);
    snprintf(config, sizeof config, CONFIG("\"num_bits\":%u,\"group_size\":%ld"), s->bits,
             s->group_size == s->in ? -1L : (long)s->group_size);
    if (packing_open(&p, s->undeclared ? NULL : config, m.parts, &tp_scheme_pack_quantized,
                     (struct tp_decode_options){0}))
        fail_msg("%u bits, %zu x %zu x %zu: %s", s->bits, s->stack, s->out, s->in, p.x.err.message);
    assert_string_equal(p.x.d.name, STEM ".weight");
    assert_int_equal(p.x.d.rank, s->stack ? 3 : 2);
    assert_int_equal(p.x.d.shape[p.x.d.rank - 2], s->out);
    assert_int_equal(p.x.d.shape[p.x.d.rank - 1], s->in);
    expect_values(&p.x, m.want);
    packing_close(&p);
    model_free(&m);
}

static void every_number_of_bits_decodes_by_the_formula(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= 8; bits++)
        for (unsigned old = 0; old < 2; old++)
            for (enum zeros zeros = SYMMETRIC; zeros <= AS_F16; zeros++) {
                expect_model(&(struct shape){bits, old, 0, 37, 96, 32, zeros, ONE_A_GROUP, false, false});
                expect_model(&(struct shape){bits, old, 3, 11, 64, 16, zeros, ONE_A_GROUP, false, false});
                expect_model(&(struct shape){bits, old, 0, 40, 192, 192, zeros, ONE_A_GROUP, false, false});
                expect_model(&(struct shape){bits, old, 0, 37, 96, 8, zeros, ONE_A_GROUP, true, false});
            }
}

static void one_scale_serves_a_matrix_or_all(void **state)
{
    (void)state;
    for (enum zeros zeros = SYMMETRIC; zeros <= AS_F16; zeros++) {
        if (zeros == PACKED)
            continue;
        expect_model(&(struct shape){4, false, 0, 5, 9, 9, zeros, ONE_IN_ALL, false, false});
        expect_model(&(struct shape){8, false, 3, 5, 90, 90, zeros, ONE_IN_ALL, false, false});
        expect_model(&(struct shape){8, false, 3, 5, 90, 90, zeros, ONE_A_MATRIX, false, false});
    }
}

static void bits_that_are_not_declared_are_seen(void **state)
{
    (void)state;
    expect_model(&(struct shape){4, false, 0, 20, 96, 32, PACKED, ONE_A_GROUP, false, true});
    expect_model(&(struct shape){2, false, 0, 20, 96, 32, SYMMETRIC, ONE_A_GROUP, true, true});
}

/* 22 codes of 3 bits are three words in both ways; the zero points of 40 outputs are 4 or 4; of 60, 6 or 6; of 64, 6
 * or 7. */
static void where_both_ways_fit_the_codes_the_zero_points_tell(void **state)
{
    (void)state;
    expect_model(&(struct shape){3, false, 0, 64, 22, 22, PACKED, ONE_A_GROUP, false, false});
    expect_model(&(struct shape){3, true, 0, 64, 22, 22, PACKED, ONE_A_GROUP, false, false});
    expect_model(&(struct shape){3, true, 0, 64, 10, 5, PACKED, ONE_A_GROUP, false, false});
    expect_model(&(struct shape){3, false, 0, 64, 10, 5, PACKED, ONE_A_GROUP, false, false});
    expect_model(&(struct shape){3, true, 0, 7, 96, 32, PACKED, ONE_A_GROUP, false, false});
}

static void what_does_not_fit_the_scratch_decodes_in_bands(void **state)
{
    static const struct shape shapes[] = {
        {4, false, 0, 2000, 1536, 32, PACKED, ONE_A_GROUP, false, false},
        {8, false, 0, 2, 1500000, 1500000, PACKED, ONE_A_GROUP, false, false},
        {3, true, 0, 3, 960960, 64, PACKED, ONE_A_GROUP, false, false},
        {5, false, 2, 3, 960960, 64, AS_I8, ONE_A_GROUP, false, false},
        {4, false, 0, 3, 320000, 64, PACKED, ONE_A_GROUP, true, false},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++)
        expect_model(&shapes[i]);
}

/* -- vectors -- */

static void the_documents_vectors_decode(void **state)
{
    static const uint16_t scale = 0x3c23, want[] = {0xbda3, 0xbd8f, 0xbc23, 0x0000, 0x3c23, 0x3ca3, 0x3cf4, 0x3d8f};
    static const uint8_t word[] = {0x10, 0x87, 0xa9, 0xfb};
    static const uint32_t three[] = {0x88fac688u, 0xc688fac6u, 0xfac688fau};
    static const int64_t shape[] = {1, 8}, shape3[] = {1, 32};
    static const uint16_t one = 0x3f80;
    const struct part parts[] = {{STEM ".weight_packed", "I32", "[1,1]", word, 4},
                                 {STEM ".weight_scale", "BF16", "[1,1]", &scale, 2},
                                 {STEM ".weight_shape", "I64", "[2]", shape, 16},
                                 {0}};
    const struct part parts3[] = {{STEM ".weight_packed", "I32", "[1,3]", three, 12},
                                  {STEM ".weight_scale", "BF16", "[1,1]", &one, 2},
                                  {STEM ".weight_shape", "I64", "[2]", shape3, 16},
                                  {0}};
    uint16_t got[8];
    float values[32];
    struct tp_stats stats;
    struct packing p;
    (void)state;
    tp_stats_init(&stats);
    for (int f16_first = 0; f16_first < 2; f16_first++) {
        assert_int_equal(packing_open(&p, CONFIG("\"num_bits\":4"), parts, &tp_scheme_pack_quantized,
                                      (struct tp_decode_options){.f16_first = f16_first}),
                         TP_OK);
        assert_int_equal(decode_run(&p.x, 0, 8, values), TP_OK);
        assert_int_equal(bits_of(values[0]) & 0xffff, 0);
        p.x.kernels.cast[TP_KIND_F32][TP_KIND_BF16](got, values, 8, false, &stats);
        assert_memory_equal(got, want, sizeof want);
        packing_close(&p);
    }
    assert_int_equal(
        packing_open(&p, CONFIG("\"num_bits\":3"), parts3, &tp_scheme_pack_quantized, (struct tp_decode_options){0}),
        TP_OK);
    assert_int_equal(decode_run(&p.x, 0, 32, values), TP_OK);
    for (int i = 0; i < 32; i++)
        assert_int_equal((int)values[i], i % 8 - 4);
    packing_close(&p);
}

/* Its package computes in the scales' dtype, but the option is of GPTQ and AWQ: here it would round twice. */
static void f16_first_is_not_of_this_scheme(void **state)
{
    static const uint32_t word = 0xfba98710u;
    static const uint16_t scale = 0x2201; /* eleven significant bits */
    static const int64_t shape[] = {1, 8};
    const struct part parts[] = {{STEM ".weight_packed", "I32", "[1,1]", &word, 4},
                                 {STEM ".weight_scale", "F16", "[1,1]", &scale, 2},
                                 {STEM ".weight_shape", "I64", "[2]", shape, 16},
                                 {0}};
    static const int codes[] = {-8, -7, -1, 0, 1, 2, 3, 7};
    float want[8];
    struct packing p;
    (void)state;
    for (size_t i = 0; i < 8; i++)
        want[i] = (float)codes[i] * ldexpf(1024 + 0x201, -17);
    assert_int_equal(packing_open(&p, CONFIG("\"num_bits\":4"), parts, &tp_scheme_pack_quantized,
                                  (struct tp_decode_options){.f16_first = true}),
                     TP_OK);
    expect_values(&p.x, want);
    packing_close(&p);
}

/* -- several config groups -- */

#define GROUP(name, format, weights) "\"" name "\":{\"format\":\"" format "\",\"weights\":{" weights "}}"
#define GROUPS(...)                                                                                     \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"mixed-precision\"," \
    "\"config_groups\":{" __VA_ARGS__ "}}}"
#define W4 GROUP("group_1", "pack-quantized", "\"num_bits\":4,\"group_size\":32,\"strategy\":\"group\"")
#define W8 GROUP("group_2", "pack-quantized", "\"num_bits\":8,\"strategy\":\"channel\"")
#define FP8 GROUP("group_0", "float-quantized", "\"num_bits\":8,\"strategy\":\"channel\"")

static void the_tensors_tell_which_config_group_they_are_of(void **state)
{
    static const struct shape shapes[] = {
        {4, false, 0, 20, 96, 32, PACKED, ONE_A_GROUP, false, false},
        {8, false, 0, 20, 96, 96, SYMMETRIC, ONE_A_GROUP, false, false},
        {8, false, 3, 20, 90, 90, AS_I8, ONE_A_GROUP, false, false},
    };
    static const char *const configs[] = {GROUPS(FP8 "," W4 "," W8), GROUPS(W8 "," W4)};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes) * TP_COUNT_OF(configs); i++) {
        const struct shape *s = &shapes[i / TP_COUNT_OF(configs)];
        struct model m;
        struct packing p;
        model_make(&m, s);
        if (packing_open(&p, configs[i % TP_COUNT_OF(configs)], m.parts, &tp_scheme_pack_quantized,
                         (struct tp_decode_options){0}))
            fail_msg("%zu: %s", i, p.x.err.message);
        assert_int_equal(p.x.d.elem_count, p.x.d.group->parameter_count);
        expect_values(&p.x, m.want);
        packing_close(&p);
        model_free(&m);
    }
}

static void what_is_of_no_config_group_is_refused(void **state)
{
    static const struct shape shapes[] = {
        {8, false, 0, 20, 96, 32, PACKED, ONE_A_GROUP, false, false},
        {4, false, 0, 20, 96, 96, SYMMETRIC, ONE_A_GROUP, false, false},
        {2, false, 0, 20, 96, 32, SYMMETRIC, ONE_A_GROUP, false, false},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++) {
        struct model m;
        model_make(&m, &shapes[i]);
        REFUSED(GROUPS(FP8 "," W4 "," W8), m.parts, &tp_scheme_pack_quantized, TP_ERR_FORMAT, "none of the 3 ways",
                "4 bits, groups of 32", STEM ".weight_scale");
        model_free(&m);
    }
    /* one scale a row, and config.json says so, but there are three */
    struct model m;
    model_make(&m, &shapes[0]);
    REFUSED(GROUPS(W8), m.parts, &tp_scheme_pack_quantized, TP_ERR_FORMAT, "need 1 scales in a row, not 3");
    model_free(&m);
}

/* -- counting -- */

/* By headers alone where groups tell, by weight_shape where they do not. */
static void parameters_are_counted_without_padding(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= 8; bits++)
        for (size_t in = 1; in <= 70; in += 3) {
            const struct shape shapes[] = {{bits, false, 0, 64, in, in, SYMMETRIC, ONE_A_GROUP, false, false},
                                           {bits, true, 2, 64, in, in, AS_I8, ONE_A_MATRIX, false, false},
                                           {bits, false, 0, 64, in * 4, in, PACKED, ONE_A_GROUP, false, true}};
            for (size_t i = 0; i < TP_COUNT_OF(shapes); i++) {
                struct model m;
                struct packing p;
                char config[256];
                model_make(&m, &shapes[i]);
                snprintf(config, sizeof config, CONFIG("\"num_bits\":%u"), bits);
                const enum tp_status status = packing_open(&p, shapes[i].undeclared ? NULL : config, m.parts,
                                                           &tp_scheme_pack_quantized, (struct tp_decode_options){0});
                assert_int_equal(p.x.d.group->parameter_count, m.rows * shapes[i].in);
                assert_true(status || p.x.d.elem_count == m.rows * shapes[i].in);
                packing_close(&p);
                model_free(&m);
            }
        }
}

static void an_order_with_a_minus_one_is_no_order(void **state)
{
    struct model m;
    struct packing p;
    const struct shape s = {4, false, 0, 8, 64, 32, SYMMETRIC, ONE_A_GROUP, false, false};
    int32_t order[64] = {1, 1, 1, [60] = -1};
    (void)state;
    model_make(&m, &s);
    m.parts[3] = (struct part){STEM ".weight_g_idx", "I32", "[64]", order, sizeof order};
    assert_int_equal(packing_open(&p, CONFIG("\"num_bits\":4,\"group_size\":32"), m.parts, &tp_scheme_pack_quantized,
                                  (struct tp_decode_options){0}),
                     TP_OK);
    expect_values(&p.x, m.want);
    packing_close(&p);
    model_free(&m);
}

/* -- refusals -- */

static void a_nan_scale_or_a_zero_point_that_is_no_number_is_refused(void **state)
{
    static const struct {
        float scale, zero;
        const char *texts[2];
    } cases[] = {
        {NAN, 0, {"scale 1 is not a number", STEM ".weight_scale"}},
        {-INFINITY, 0, {"scale 1 is infinite", STEM ".weight_scale"}},
        {1, 0.5f, {"zero point 1 is 0.5", STEM ".weight_zero_point"}},
        {1, NAN, {"zero point 1 is nan", STEM ".weight_zero_point"}},
        {1, 1e30f, {"zero point 1 is 1e+30", STEM ".weight_zero_point"}},
        {0, 7, {NULL, NULL}},
        {-1, -8, {NULL, NULL}},
    };
    static const uint32_t words[2];
    static const int32_t shape[] = {2, 8};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        const float scales[] = {1, cases[i].scale}, zeros[] = {0, cases[i].zero};
        const struct part parts[] = {{STEM ".weight_packed", "I32", "[2,1]", words, 8},
                                     {STEM ".weight_scale", "F32", "[2,1]", scales, 8},
                                     {STEM ".weight_shape", "I32", "[2]", shape, 8},
                                     {STEM ".weight_zero_point", "F32", "[2,1]", zeros, 8},
                                     {0}};
        struct packing p;
        float values[16];
        assert_int_equal(
            packing_open(&p, CONFIG("\"num_bits\":4"), parts, &tp_scheme_pack_quantized, (struct tp_decode_options){0}),
            TP_OK);
        assert_int_equal(decode_run(&p.x, 0, 16, values), cases[i].texts[0] ? TP_ERR_FORMAT : TP_OK);
        for (size_t t = 0; t < 2 && cases[i].texts[t]; t++)
            expect_text(p.x.err.message, cases[i].texts[t]);
        packing_close(&p);
    }
}

static uint8_t nothing[4096];
#define PART(name, dtype, shape, len)         \
    {                                         \
        STEM name, dtype, shape, nothing, len \
    }
#define SHAPE(...)                                                             \
    {                                                                          \
        STEM ".weight_shape", "I64", "[2]", (const int64_t[]){__VA_ARGS__}, 16 \
    }

static void what_disagrees_is_refused_with_both(void **state)
{
#define FOUR CONFIG("\"num_bits\":4,\"group_size\":32")
    const struct {
        const char *config;
        struct part parts[5];
        const char *texts[3];
    } cases[] = {
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, 65)},
         {"65 inputs", "32", STEM ".weight_scale"}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,3]", 24), SHAPE(4, 96)},
         {"96 inputs of 4 bits need 12 words", "not 8", STEM ".weight_shape"}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(5, 64)},
         {"dimension 0 of the weight is 5, of its codes 4", STEM ".weight_shape", ""}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, -64)},
         {"zero or negative", STEM ".weight_shape", ""}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, INT64_MAX)},
         {"9223372036854775807", "32", ""}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[3,2]", 12), SHAPE(4, 64)},
         {"[4, 2]", "[3, 2]", STEM ".weight_scale"}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,1]", 8), SHAPE(4, 64)},
         {"groups of 32 (config.json) need 2", "not 1", STEM ".weight_scale"}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, 64),
          PART(".weight_zero_point", "I32", "[2,2]", 16)},
         {"[4, 2]", "[2, 2]", STEM ".weight_zero_point"}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, 64),
          PART(".weight_g_idx", "I32", "[63]", 252)},
         {"[64]", "[63]", STEM ".weight_g_idx"}},
        {FOUR,
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, 64),
          PART(".weight_g_idx", "I32", "[64]", 256)},
         {"group 0 has 64 columns, not 32", STEM ".weight_g_idx", ""}},
        {CONFIG("\"num_bits\":4"),
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16)},
         {"weight_shape is missing", STEM ".weight_scale", ""}},
        {CONFIG("\"num_bits\":3"), /* 22 codes are three words in both ways, and nothing else tells */
         {PART(".weight_packed", "I32", "[4,3]", 48), PART(".weight_scale", "BF16", "[4,1]", 8), SHAPE(4, 22)},
         {"3 words for 22 inputs of 3 bits", "version", ""}},
        {CONFIG("\"num_bits\":3,\"group_size\":32"), /* dense codes, old zero points */
         {PART(".weight_packed", "I32", "[64,9]", 2304), PART(".weight_scale", "BF16", "[64,3]", 384), SHAPE(64, 96),
          PART(".weight_zero_point", "I32", "[7,3]", 84)},
         {"different ways", "9 words for 96", STEM ".weight_zero_point"}},
        {CONFIG("\"group_size\":32"), /* 24 words: old 7 bits, or 8 */
         {PART(".weight_packed", "I32", "[4,24]", 384), PART(".weight_scale", "BF16", "[4,3]", 24), SHAPE(4, 96)},
         {"how many bits", "24", STEM ".weight_scale"}},
        {"{\"quantization_config\":{\"format\":\"int-quantized\"}}",
         {PART(".weight_packed", "I32", "[4,8]", 128), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, 64)},
         {"int-quantized", "", ""}},
        {FOUR,
         {PART(".weight_packed", "I32", "[2,2,4,8]", 512), PART(".weight_scale", "BF16", "[4,2]", 16), SHAPE(4, 64)},
         {"[2, 2, 4, 8]", "pack-quantized", ""}},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        REFUSED(cases[i].config, cases[i].parts, &tp_scheme_pack_quantized, TP_ERR_FORMAT, cases[i].texts[0],
                cases[i].texts[1], cases[i].texts[2]);
    REFUSED(CONFIG("\"num_bits\":9"), cases[0].parts, &tp_scheme_pack_quantized, TP_ERR_UNSUPPORTED, "9 bits");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_folders_decode_as_compressed_tensors_does),
        cmocka_unit_test(every_number_of_bits_decodes_by_the_formula),
        cmocka_unit_test(one_scale_serves_a_matrix_or_all),
        cmocka_unit_test(bits_that_are_not_declared_are_seen),
        cmocka_unit_test(where_both_ways_fit_the_codes_the_zero_points_tell),
        cmocka_unit_test(what_does_not_fit_the_scratch_decodes_in_bands),
        cmocka_unit_test(the_documents_vectors_decode),
        cmocka_unit_test(f16_first_is_not_of_this_scheme),
        cmocka_unit_test(the_tensors_tell_which_config_group_they_are_of),
        cmocka_unit_test(what_is_of_no_config_group_is_refused),
        cmocka_unit_test(parameters_are_counted_without_padding),
        cmocka_unit_test(an_order_with_a_minus_one_is_no_order),
        cmocka_unit_test(a_nan_scale_or_a_zero_point_that_is_no_number_is_refused),
        cmocka_unit_test(what_disagrees_is_refused_with_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
