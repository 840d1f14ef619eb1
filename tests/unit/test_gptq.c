/* SPDX-License-Identifier: MIT */
/* GPTQ: what GPTQModel itself decodes (tests/data/quantised), the formula said plainly on shapes of every kind, and
 * tensors that do not go together. */
#include "packing.h"

#define STEM "l.0.q_proj"
#define CONFIG(facts) "{\"quantization_config\":{\"quant_method\":\"gptq\"" facts "}}"

static void golden_folders_decode_as_gptqmodel_does(void **state)
{
    static const char *const names[] = {
        "gptq-2bit-g32-asym-v1",      "gptq-3bit-g32-asym-v1", "gptq-3bit-g32-sym-desc-v1",
        "gptq-3bit-zero0-v1",         "gptq-4bit-g32-asym-v2", "gptq-4bit-g32-asym-bf16scales-v2",
        "gptq-4bit-g32-asym-desc-v2", "gptq-4bit-g32-sym-v2",  "gptq-4bit-g64-edge-v2",
        "gptq-4bit-perchannel-v2",    "gptq-4bit-zero0-v1",    "gptq-4bit-zero0-v2",
        "gptq-8bit-g32-asym-desc-v2", "gptq-8bit-g32-sym-v2",  "gptq-8bit-zero0-v2",
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        expect_golden_matrix(names[i], &tp_scheme_gptq, true);
}

/* -- models of one's own -- */

struct shape {
    unsigned bits;
    size_t in, out, group_size;
    bool order, no_order; /* g_idx: any; plain; not there (no_order) */
    const char *facts;    /* of config.json */
    unsigned stored_less; /* what zero points are lowered by: 1 in v1 */
};

struct model {
    size_t groups, rows, zero_columns;
    uint32_t *qweight, *qzeros;
    uint16_t *scales;
    int32_t *order;
    float *want; /* [out, in] */
    struct part parts[5];
    char shapes[4][64];
};

static void put_zeros(struct model *m, const struct shape *s, size_t group, const unsigned *zeros)
{
    for (size_t n = 0; n < s->out; n++)
        put_field(m->qzeros + group * m->zero_columns, n, s->bits, 0,
                  (zeros[group * s->out + n] - s->stored_less) & ((1u << s->bits) - 1));
}

static void put_codes(struct model *m, const struct shape *s, const unsigned *zeros, const float *scales)
{
    uint32_t *column = malloc(m->rows * sizeof *column);
    for (size_t n = 0; n < s->out; n++) {
        memset(column, 0, m->rows * sizeof *column);
        for (size_t k = 0; k < s->in; k++) {
            const size_t at = (size_t)m->order[k] * s->out + n;
            const unsigned q = next_random() % (1u << s->bits);
            put_field(column, k, s->bits, 0, q);
            m->want[n * s->in + k] = ((float)q - (float)zeros[at]) * scales[at];
        }
        for (size_t r = 0; r < m->rows; r++)
            m->qweight[r * s->out + n] = column[r];
    }
    free(column);
}

static void model_make(struct model *m, const struct shape *s)
{
    *m = (struct model){.groups = (s->in + s->group_size - 1) / s->group_size,
                        .rows = words_for(s->in, s->bits, 0),
                        .zero_columns = words_for(s->out, s->bits, 0)};
    const size_t factors = m->groups * s->out;
    unsigned *zeros = malloc(factors * sizeof *zeros);
    float *scales = malloc(factors * sizeof *scales);
    m->qweight = calloc(m->rows * s->out, 4);
    m->qzeros = calloc(m->groups * m->zero_columns, 4);
    m->scales = malloc(factors * 2);
    m->order = malloc(s->in * 4);
    m->want = malloc(s->in * s->out * sizeof *m->want);
    for (size_t k = 0; k < s->in; k++)
        m->order[k] = (int32_t)(s->order ? next_random() % m->groups : k / s->group_size);
    for (size_t i = 0; i < factors; i++) {
        zeros[i] = next_random() % (1u << s->bits);
        m->scales[i] = random_f16(&scales[i]);
    }
    for (size_t g = 0; g < m->groups; g++)
        put_zeros(m, s, g, zeros);
    put_codes(m, s, zeros, scales);
    free(zeros);
    free(scales);
    snprintf(m->shapes[0], 64, "[%zu,%zu]", m->rows, s->out);
    snprintf(m->shapes[1], 64, "[%zu,%zu]", m->groups, m->zero_columns);
    snprintf(m->shapes[2], 64, "[%zu,%zu]", m->groups, s->out);
    snprintf(m->shapes[3], 64, "[%zu]", s->in);
    m->parts[0] = (struct part){STEM ".qweight", "I32", m->shapes[0], m->qweight, m->rows * s->out * 4};
    m->parts[1] = (struct part){STEM ".qzeros", "I32", m->shapes[1], m->qzeros, m->groups * m->zero_columns * 4};
    m->parts[2] = (struct part){STEM ".scales", "F16", m->shapes[2], m->scales, factors * 2};
    if (!s->no_order)
        m->parts[3] = (struct part){STEM ".g_idx", "I32", m->shapes[3], m->order, s->in * 4};
}

static void model_free(struct model *m)
{
    free(m->qweight);
    free(m->qzeros);
    free(m->scales);
    free(m->order);
    free(m->want);
}

static void expect_model(const struct shape *s)
{
    struct model m;
    struct packing p;
    char config[512];
    model_make(&m, s);
    snprintf(config, sizeof config, CONFIG(",%s"), s->facts);
    if (packing_open(&p, config, m.parts, &tp_scheme_gptq, (struct tp_decode_options){0}))
        fail_msg("%u bits, %zu x %zu: %s", s->bits, s->in, s->out, p.x.err.message);
    assert_string_equal(p.x.d.name, STEM ".weight");
    assert_int_equal(p.x.d.shape[0], s->out);
    assert_int_equal(p.x.d.shape[1], s->in);
    expect_values(&p.x, m.want);
    packing_close(&p);
    model_free(&m);
}

#define V1(bits, group) "\"bits\":" #bits ",\"group_size\":" #group
#define V2(bits, group) V1(bits, group) ",\"checkpoint_format\":\"gptq_v2\""

static void every_shape_decodes_by_the_formula(void **state)
{
    static const struct shape shapes[] = {
        {2, 96, 64, 32, false, false, V1(2, 32), 1},  {3, 96, 64, 32, true, false, V1(3, 32), 1},
        {4, 96, 40, 32, false, false, V1(4, 32), 1},  {8, 96, 64, 32, true, false, V1(8, 32), 1},
        {4, 100, 36, 32, false, false, V2(4, 32), 0}, /* words partly filled, both ways; a partial group */
        {8, 72, 34, 24, true, false, V2(8, 24), 0},   {2, 40, 5, 16, false, false, V2(2, 16), 0},
        {4, 64, 1, 1, false, false, V2(4, 1), 0},     {4, 64, 24, 64, false, true, V2(4, -1), 0},
        {4, 64, 24, 64, false, true, V2(4, 128), 0},  {4, 128, 24, 32, false, true, V2(4, 32), 0},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++)
        expect_model(&shapes[i]);
}

static void bits_and_groups_that_are_not_declared_are_seen(void **state)
{
    static const struct shape shapes[] = {
        {2, 96, 64, 32, false, false, "\"checkpoint_format\":\"gptq\"", 1},
        {3, 96, 64, 32, true, false, "\"format\":\"gptq\"", 1},
        {8, 96, 64, 96, false, true, "\"desc_act\":false", 1},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++)
        expect_model(&shapes[i]);
}

static void what_does_not_fit_the_scratch_decodes_in_bands(void **state)
{
    static const struct shape shapes[] = {
        {4, 1024, 2500, 128, false, false, V2(4, 128), 0}, /* rows: several bands */
        {3, 1024, 1056, 32, true, false, V2(3, 32), 0},    {8, 40000, 30, 100, true, false, V2(8, 100), 0},
        {8, 150000, 2, 1, false, true, V2(8, 1), 0}, /* a row that does not fit */
        {8, 200000, 2, 100, true, false, V2(8, 100), 0},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++)
        expect_model(&shapes[i]);
}

/* -- several ways -- */

#define DYNAMIC                                                                                                 \
    ",\"dynamic\":{\"+:.*gate.*\":{\"bits\":8,\"group_size\":64},\".*down.*\":{\"bits\":2},\"-:.*lm_head\":{}," \
    "\"+:.*v_proj\":{\"bits\":3,\"group_size\":-1}}"

/* Which module matches which expression is not asked: what its tensors are is. */
static void modules_may_have_bits_and_groups_of_their_own(void **state)
{
    static const struct shape shapes[] = {
        {4, 128, 64, 32, false, false, V2(4, 32) DYNAMIC, 0},  {8, 128, 64, 64, true, false, V2(4, 32) DYNAMIC, 0},
        {8, 128, 64, 64, false, true, V1(4, 32) DYNAMIC, 1},   {2, 128, 64, 32, false, true, V2(4, 32) DYNAMIC, 0},
        {3, 128, 64, 128, false, false, V2(4, 32) DYNAMIC, 0}, {4, 128, 64, 32, true, false, V1(4, 32) DYNAMIC, 1},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++)
        expect_model(&shapes[i]);
}

static void a_module_that_fits_no_way_or_two_is_refused(void **state)
{
    static const struct {
        struct shape shape;
        const char *texts[2];
    } cases[] = {
        {{4, 128, 64, 64, false, false, V2(4, 32) DYNAMIC, 0},
         {"none of the 4 ways", "(4 bits, groups of 32; 8 bits, "}},
        {{4, 96, 64, 64, false, true, V2(4, 64) ",\"dynamic\":{\"a\":{\"group_size\":48}}", 0},
         {"more than one of the 2 ways", "4 bits, groups of 48"}},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct model m;
        char config[512];
        model_make(&m, &cases[i].shape);
        snprintf(config, sizeof config, CONFIG(",%s"), cases[i].shape.facts);
        REFUSED(config, m.parts, &tp_scheme_gptq, TP_ERR_FORMAT, cases[i].texts[0], cases[i].texts[1], STEM ".scales");
        model_free(&m);
    }
    /* with g_idx the groups need no telling */
    expect_model(&(struct shape){4, 96, 64, 64, false, false, V2(4, 64) ",\"dynamic\":{\"a\":{\"group_size\":48}}", 0});
    expect_model(&(struct shape){4, 96, 64, 48, false, false, V2(4, 64) ",\"dynamic\":{\"a\":{\"group_size\":48}}", 0});
}

/* -- zero points that are not there, or not sure -- */

static void symmetric_weights_need_no_zero_points(void **state)
{
    static const uint32_t codes[] = {0xfe983210u, 0xfe983210u};
    static const uint16_t scales[] = {0x3c00, 0x4000};
    static const float want[] = {-8, -7, -6, -5, 0, 1, 6, 7, -16, -14, -12, -10, 0, 2, 12, 14};
    static const struct part parts[] = {
        {STEM ".qweight", "I32", "[1,2]", codes, 8}, {STEM ".scales", "F16", "[1,2]", scales, 4}, {0}};
    static const char *const configs[] = {
        CONFIG(",\"bits\":4,\"sym\":true"),
        CONFIG(",\"bits\":4,\"sym\":true,\"checkpoint_format\":\"gptq_v2\""),
        CONFIG(",\"bits\":8,\"sym\":false,\"dynamic\":{\"+:x\":{\"bits\":4,\"sym\":true}}"),
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(configs); i++) {
        struct packing p;
        if (packing_open(&p, configs[i], parts, &tp_scheme_gptq, (struct tp_decode_options){0}))
            fail_msg("%s", p.x.err.message);
        assert_int_equal(p.x.d.doubts, 0);
        expect_values(&p.x, want);
        packing_close(&p);
    }
    REFUSED(CONFIG(",\"bits\":4"), parts, &tp_scheme_gptq, TP_ERR_FORMAT, "qzeros", "sym", STEM ".scales");
    REFUSED(CONFIG(",\"bits\":4,\"sym\":false"), parts, &tp_scheme_gptq, TP_ERR_FORMAT, "qzeros", "sym");
}

static void what_is_assumed_of_zero_points_is_noticed(void **state)
{
#define BITS4 ",\"bits\":4"
#define BY(package) ",\"meta\":{\"quantizer\":[\"" package "\"]}"
#define SAYS(format) ",\"checkpoint_format\":\"" format "\""
    static const struct {
        const char *config;
        uint32_t zeros;
        unsigned doubts;
    } cases[] = {
        {CONFIG(BITS4), 0x77777777u, 0},
        {CONFIG(BITS4 SAYS("gptq")), 0x77777777u, 0},
        {CONFIG(BITS4 SAYS("gptq")), 0x12345678u, 0},
        {CONFIG(BITS4 SAYS("gptq_v2")), 0x88888888u, 0},
        {CONFIG(BITS4 SAYS("gptq_v2")), 0xf2345678u, 0},
        {CONFIG(BITS4), 0x12345678u, 1u << TP_DOUBT_ZEROS_UNSAID},
        {CONFIG(BITS4), 0x88888888u, 1u << TP_DOUBT_ZEROS_LIKE_V2},
        {CONFIG(BITS4 SAYS("gptq")), 0x88888888u, 1u << TP_DOUBT_ZEROS_LIKE_V2},
        {CONFIG(BITS4 SAYS("gptq_v2")), 0x77777777u, 1u << TP_DOUBT_ZEROS_LIKE_V1},
        {CONFIG(BITS4 SAYS("gptq")), 0x123f5678u, 1u << TP_DOUBT_ZEROS_BORROW},
        {CONFIG(BITS4 SAYS("gptq")), 0xf2345678u, 0}, /* nothing lies above it */
        {CONFIG(BITS4 SAYS("gptq") BY("auto_gptq:0.7")), 0x1234567fu, 1u << TP_DOUBT_ZEROS_BORROW},
        {CONFIG(BITS4 SAYS("gptq") BY("gptqmodel:7.7.0")), 0x1234567fu, 0},
        {CONFIG(",\"bits\":8" SAYS("gptq")), 0x7f7f7f7fu, 0},
        {CONFIG(",\"bits\":8" SAYS("gptq")), 0x80808080u, 1u << TP_DOUBT_ZEROS_LIKE_V2},
        {CONFIG(",\"bits\":8" SAYS("gptq")), 0x12ff3456u, 1u << TP_DOUBT_ZEROS_BORROW},
    };
    static const uint32_t codes[8];
    static const uint16_t scales[8];
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        const bool eight = strstr(cases[i].config, "\"bits\":8") != NULL;
        const struct part parts[] = {{STEM ".qweight", "I32", eight ? "[1,4]" : "[1,8]", codes, eight ? 16 : 32},
                                     {STEM ".qzeros", "I32", "[1,1]", &cases[i].zeros, 4},
                                     {STEM ".scales", "F16", eight ? "[1,4]" : "[1,8]", scales, eight ? 8 : 16},
                                     {0}};
        struct packing p;
        if (packing_open(&p, cases[i].config, parts, &tp_scheme_gptq, (struct tp_decode_options){0}))
            fail_msg("%s", p.x.err.message);
        if (p.x.d.doubts != cases[i].doubts)
            fail_msg("%zu: doubts %x, not %x", i, p.x.d.doubts, cases[i].doubts);
        packing_close(&p);
    }
}

/* Three words of 3 bits, as gptqmodel writes them for symmetric weights. */
static void three_bits_cross_words_in_zero_points_too(void **state)
{
    static const struct {
        uint32_t zeros[3];
        const char *format;
        unsigned doubts;
    } cases[] = {
        {{0x24924924u, 0x49249249u, 0x92492492u}, "gptq_v2", 0},
        {{0xdb6db6dbu, 0xb6db6db6u, 0x6db6db6du}, "gptq", 0},
        {{0x24924924u, 0x49249249u, 0x92492492u}, "gptq", 1u << TP_DOUBT_ZEROS_LIKE_V2},
        {{0xdb6db6dbu, 0xb6db6db6u, 0x6db6db6du}, "gptq_v2", 1u << TP_DOUBT_ZEROS_LIKE_V1},
    };
    static const uint32_t codes[96];
    uint16_t scales[32];
    float want[1024];
    (void)state;
    for (size_t i = 0; i < 32; i++)
        scales[i] = 0x3c00;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        const struct part parts[] = {{STEM ".qweight", "I32", "[3,32]", codes, 384},
                                     {STEM ".qzeros", "I32", "[1,3]", cases[i].zeros, 12},
                                     {STEM ".scales", "F16", "[1,32]", scales, 64},
                                     {0}};
        char config[256];
        struct packing p;
        const int zero = !cases[i].doubts ? 4 : cases[i].doubts == 1u << TP_DOUBT_ZEROS_LIKE_V2 ? 5 : 3;
        for (size_t k = 0; k < 1024; k++)
            want[k] = (float)-zero;
        snprintf(config, sizeof config, CONFIG(",\"bits\":3,\"checkpoint_format\":\"%s\""), cases[i].format);
        assert_int_equal(packing_open(&p, config, parts, &tp_scheme_gptq, (struct tp_decode_options){0}), TP_OK);
        assert_int_equal(p.x.d.doubts, cases[i].doubts);
        expect_values(&p.x, want);
        packing_close(&p);
    }
}

/* -- vectors -- */

/* Values 0 1 2 3 8 9 14 15, one scale, stored zero points of eight equal outputs. */
static void expect_column(const char *config, uint32_t zeros, struct tp_decode_options options, uint16_t scale,
                          enum tp_float_kind kind, const uint16_t *want)
{
    static uint32_t codes[8];
    uint16_t scales[8], got[8];
    float values[64];
    struct tp_stats stats;
    struct packing p;
    for (size_t i = 0; i < 8; i++) {
        codes[i] = 0xfe983210u;
        scales[i] = scale;
    }
    const struct part parts[] = {{STEM ".qweight", "I32", "[1,8]", codes, 32},
                                 {STEM ".qzeros", "I32", "[1,1]", &zeros, 4},
                                 {STEM ".scales", "F16", "[1,8]", scales, 16},
                                 {0}};
    if (packing_open(&p, config, parts, &tp_scheme_gptq, options))
        fail_msg("%s", p.x.err.message);
    assert_int_equal(decode_run(&p.x, 0, 64, values), TP_OK);
    tp_stats_init(&stats);
    for (size_t n = 0; n < 8; n++) {
        p.x.kernels.cast[TP_KIND_F32][kind](got, values + n * 8, 8, false, &stats);
        for (size_t k = 0; k < 8; k++)
            assert_int_equal(got[k], want[k]);
    }
    packing_close(&p);
}

static void the_documents_vector_decodes(void **state)
{
    static const uint16_t eight[] = {0xae4c, 0xad82, 0xacb9, 0xabdf, 0x0000, 0x224c, 0x2cb9, 0x2d82};
    static const uint16_t seven[] = {0xad82, 0xacb9, 0xabdf, 0xaa4c, 0x224c, 0x264c, 0x2d82, 0x2e4c};
    const struct tp_decode_options none = {0};
    (void)state;
    expect_column(CONFIG(",\"bits\":4"), 0x77777777u, none, 0x224c, TP_KIND_F16, eight);
    expect_column(CONFIG(",\"bits\":4,\"checkpoint_format\":\"gptq_v2\""), 0x88888888u, none, 0x224c, TP_KIND_F16,
                  eight);
    expect_column(CONFIG(",\"bits\":4,\"checkpoint_format\":\"gptq_v2\""), 0x77777777u, none, 0x224c, TP_KIND_F16,
                  seven);
}

static void a_stored_zero_point_of_all_ones_is_zero(void **state)
{
    static const uint16_t zero[] = {0x0000, 0x3c00, 0x4000, 0x4200, 0x4800, 0x4880, 0x4b00, 0x4b80};
    (void)state;
    expect_column(CONFIG(",\"bits\":4"), 0xffffffffu, (struct tp_decode_options){0}, 0x3c00, TP_KIND_F16, zero);
}

/* To BF16 by way of F16 is not always what it is to BF16 at once. */
static void f16_first_rounds_twice(void **state)
{
    uint16_t once[8], twice[8];
    static const int codes[] = {0, 1, 2, 3, 8, 9, 14, 15};
    struct tp_kernels k;
    struct tp_stats stats;
    unsigned differences = 0;
    (void)state;
    assert_true(tp_kernels_init(&k, "scalar"));
    tp_stats_init(&stats);
    for (uint16_t scale = 0x2200; scale < 0x2400; scale = (uint16_t)(scale + 3)) {
        for (size_t i = 0; i < 8; i++) {
            const float value = (float)(codes[i] - 3) * ldexpf((float)(1024 + (scale & 0x3ff)), (scale >> 10) - 25);
            uint16_t half;
            k.cast[TP_KIND_F32][TP_KIND_BF16](&once[i], &value, 1, false, &stats);
            k.cast[TP_KIND_F32][TP_KIND_F16](&half, &value, 1, false, &stats);
            k.cast[TP_KIND_F16][TP_KIND_BF16](&twice[i], &half, 1, false, &stats);
            differences += once[i] != twice[i];
        }
        expect_column(CONFIG(",\"bits\":4"), 0x22222222u, (struct tp_decode_options){0}, scale, TP_KIND_BF16, once);
        expect_column(CONFIG(",\"bits\":4"), 0x22222222u, (struct tp_decode_options){.f16_first = true}, scale,
                      TP_KIND_BF16, twice);
    }
    assert_true(differences > 0);
}

/* Zero points 0 and 5 in neighbouring fields: GPTQModel lowers the word, others each field. */
static void gptqmodel_lowers_whole_words(void **state)
{
    static const struct {
        const char *config;
        uint32_t stored;
    } cases[] = {
        {CONFIG(",\"bits\":4"), 0x4f4f4f4fu},
        {CONFIG(",\"bits\":4,\"meta\":{\"quantizer\":[\"auto_gptq:0.7.1\"]}"), 0x4f4f4f4fu},
        {CONFIG(",\"bits\":4,\"meta\":{\"quantizer\":[\"gptqmodel:7.7.0\"]}"), 0x50505050u - 0x11111111u},
    };
    static const uint32_t codes[8];
    static const uint16_t scales[] = {0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00, 0x3c00};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        const struct part parts[] = {{STEM ".qweight", "I32", "[1,8]", codes, 32},
                                     {STEM ".qzeros", "I32", "[1,1]", &cases[i].stored, 4},
                                     {STEM ".scales", "F16", "[1,8]", scales, 16},
                                     {0}};
        struct packing p;
        float values[64];
        assert_int_equal(packing_open(&p, cases[i].config, parts, &tp_scheme_gptq, (struct tp_decode_options){0}),
                         TP_OK);
        assert_int_equal(decode_run(&p.x, 0, 64, values), TP_OK);
        for (size_t n = 0; n < 64; n++)
            assert_true(values[n] >= (n / 8 % 2 ? -5.0f : 0.0f) && values[n] <= (n / 8 % 2 ? -5.0f : 0.0f));
        packing_close(&p);
    }
}

static void odd_scales(void **state)
{
    static const struct {
        uint16_t scale;
        const char *text; /* NULL: fine */
    } cases[] = {{0x7e00, "scale 3 is not a number"}, {0x7c00, "scale 3 is infinite"}, {0x0000, NULL}, {0xbc00, NULL}};
    static const uint32_t codes[8], zeros;
    (void)state;
    for (size_t i = 0; i < 2 * TP_COUNT_OF(cases); i++) {
        const uint16_t scales[] = {1, 2, 3, cases[i / 2].scale, 5, 6, 7, 8};
        const struct part parts[] = {{STEM ".qweight", "I32", "[1,8]", codes, 32},
                                     {STEM ".qzeros", "I32", "[1,1]", &zeros, 4},
                                     {STEM ".scales", "F16", "[1,8]", scales, 16},
                                     {0}};
        const bool allowed = i % 2;
        struct packing p;
        float values[64];
        assert_int_equal(packing_open(&p, CONFIG(",\"bits\":4"), parts, &tp_scheme_gptq,
                                      (struct tp_decode_options){.nan_scales = allowed}),
                         TP_OK);
        const enum tp_status want = cases[i / 2].text && !allowed ? TP_ERR_FORMAT : TP_OK;
        assert_int_equal(decode_run(&p.x, 0, 64, values), want);
        if (want) {
            expect_text(p.x.err.message, cases[i / 2].text);
            expect_text(p.x.err.message, STEM ".scales");
            assert_string_equal(p.x.err.tensor, STEM ".qweight");
            assert_int_equal(decode_run(&p.x, 0, 1, values), want); /* nothing half loaded is used */
        }
        packing_close(&p);
    }
}

/* -- refusals -- */

static uint8_t zeros_of_any_size[1 << 16];
#define PART(name, dtype, shape, len)                   \
    {                                                   \
        STEM name, dtype, shape, zeros_of_any_size, len \
    }

static void other_orders_are_refused_by_name(void **state)
{
    static const struct part parts[] = {PART(".qweight", "I32", "[4,32]", 512),
                                        PART(".qzeros", "I32", "[1,4]", 16),
                                        PART(".scales", "F16", "[1,32]", 64),
                                        {0}};
    static const struct {
        const char *config, *text;
    } cases[] = {
        {CONFIG(",\"bits\":4,\"checkpoint_format\":\"marlin\""), "marlin"},
        {CONFIG(",\"bits\":4,\"checkpoint_format\":\"bitblas\""), "bitblas"},
        {CONFIG(",\"bits\":4,\"checkpoint_format\":\"gptq_p\""), "gptq_p"},
        {CONFIG(",\"bits\":4,\"checkpoint_format\":\"odd\\u001b\""), "odd\\x1b"},
        {CONFIG(",\"bits\":4,\"is_marlin_format\":true"), "Marlin"},
        {CONFIG(",\"bits\":4,\"planar\":true"), "planar"},
        {CONFIG(",\"bits\":5"), "5"},
        {CONFIG(",\"bits\":1000000"), "1000000"},
        {"{\"quantization_config\":{\"quant_method\":\"bitblas\",\"bits\":4}}", "bitblas"},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        REFUSED(cases[i].config, parts, &tp_scheme_gptq, TP_ERR_UNSUPPORTED, cases[i].text);
}

static void shapes_that_disagree_are_refused_with_both(void **state)
{
#define FOUR CONFIG(",\"bits\":4,\"group_size\":32")
    static const struct {
        const char *config;
        struct part parts[5];
        const char *texts[3];
    } cases[] = {
        {FOUR,
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,33]", 66)},
         {"[1, 32]", "[1, 33]", STEM ".scales"}},
        {FOUR,
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[1,5]", 20),
          PART(".scales", "F16", "[1,32]", 64)},
         {"[1, 4]", "[1, 5]", STEM ".qzeros"}},
        {FOUR,
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[2,4]", 32),
          PART(".scales", "F16", "[2,32]", 128)},
         {"32 inputs in groups of 32", "not 2", STEM ".scales"}},
        {FOUR,
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,32]", 64), PART(".g_idx", "I32", "[40]", 160)},
         {"40 inputs of 4 bits need 5", "not 4", STEM ".g_idx"}},
        {FOUR,
         {PART(".qweight", "I32", "[4,32]", 512), PART(".scales", "F16", "[1,32]", 64)},
         {"qzeros", "missing", STEM ".scales"}},
        {FOUR,
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[0,4]", 0),
          PART(".scales", "F16", "[0,32]", 0)},
         {"[0, 32]", "scales", STEM ".scales"}},
        {FOUR,
         {PART(".qweight", "I32", "[0,32]", 0), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,32]", 64)},
         {"[0, 32]", "gptq", "codes"}},
        {FOUR,
         {PART(".qweight", "I32", "[2,2,32]", 512), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,32]", 64)},
         {"[2, 2, 32]", "gptq", "codes"}},
        {CONFIG(",\"bits\":3"),
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[1,3]", 12),
          PART(".scales", "F16", "[1,32]", 64)},
         {"3-bit", "42", STEM ".scales"}},
        {CONFIG(""),
         {PART(".qweight", "I32", "[4,4]", 64), PART(".qzeros", "I32", "[1,1]", 4), PART(".scales", "F16", "[1,4]", 8)},
         {"how many bits", "", STEM ".qzeros"}},
        {CONFIG(",\"bits\":4"),
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[3,4]", 48),
          PART(".scales", "F16", "[3,32]", 192)},
         {"3 groups of 32 inputs", "group_size", STEM ".scales"}},
        {CONFIG(",\"bits\":4,\"group_size\":9223372036854775807"),
         {PART(".qweight", "I32", "[4,32]", 512), PART(".qzeros", "I32", "[2,4]", 32),
          PART(".scales", "F16", "[2,32]", 128)},
         {"9223372036854775807", "not 2", STEM ".scales"}},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        REFUSED(cases[i].config, cases[i].parts, &tp_scheme_gptq, TP_ERR_FORMAT, cases[i].texts[0], cases[i].texts[1],
                cases[i].texts[2]);
}

static void a_group_out_of_range_is_refused_with_its_column(void **state)
{
    static const int32_t bad[] = {2, -1, INT32_MIN, INT32_MAX};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(bad); i++) {
        int32_t order[64] = {0};
        char text[64];
        order[37] = bad[i];
        snprintf(text, sizeof text, "column 37 is said to be of group %ld, there are 2", (long)bad[i]);
        const struct part parts[] = {PART(".qweight", "I32", "[8,8]", 256),
                                     PART(".qzeros", "I32", "[2,1]", 8),
                                     PART(".scales", "F16", "[2,8]", 32),
                                     {STEM ".g_idx", "I32", "[64]", order, sizeof order},
                                     {0}};
        REFUSED(FOUR, parts, &tp_scheme_gptq, TP_ERR_FORMAT, text, STEM ".g_idx");
    }
    int64_t wide[64] = {[1] = INT64_C(1) << 32};
    const struct part parts[] = {PART(".qweight", "I32", "[8,8]", 256),
                                 PART(".qzeros", "I32", "[2,1]", 8),
                                 PART(".scales", "F16", "[2,8]", 32),
                                 {STEM ".g_idx", "I64", "[64]", wide, sizeof wide},
                                 {0}};
    REFUSED(FOUR, parts, &tp_scheme_gptq, TP_ERR_FORMAT, "column 1 is said to be of group 4294967296");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_folders_decode_as_gptqmodel_does),
        cmocka_unit_test(every_shape_decodes_by_the_formula),
        cmocka_unit_test(bits_and_groups_that_are_not_declared_are_seen),
        cmocka_unit_test(what_does_not_fit_the_scratch_decodes_in_bands),
        cmocka_unit_test(modules_may_have_bits_and_groups_of_their_own),
        cmocka_unit_test(a_module_that_fits_no_way_or_two_is_refused),
        cmocka_unit_test(symmetric_weights_need_no_zero_points),
        cmocka_unit_test(what_is_assumed_of_zero_points_is_noticed),
        cmocka_unit_test(three_bits_cross_words_in_zero_points_too),
        cmocka_unit_test(the_documents_vector_decodes),
        cmocka_unit_test(a_stored_zero_point_of_all_ones_is_zero),
        cmocka_unit_test(f16_first_rounds_twice),
        cmocka_unit_test(gptqmodel_lowers_whole_words),
        cmocka_unit_test(odd_scales),
        cmocka_unit_test(other_orders_are_refused_by_name),
        cmocka_unit_test(shapes_that_disagree_are_refused_with_both),
        cmocka_unit_test(a_group_out_of_range_is_refused_with_its_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
