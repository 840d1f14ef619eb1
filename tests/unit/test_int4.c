/* SPDX-License-Identifier: MIT */
/* modelopt's W4A16_AWQ: the formula said plainly on shapes of every kind, and what does not go together. */
#include "packing.h"

#define STEM "l.0.q_proj"
#define CONFIG(facts) "{\"quantization_config\":{\"quant_method\":\"modelopt\",\"quant_algo\":\"W4A16_AWQ\"" facts "}}"

struct shape {
    size_t out, in, group_size;
    bool has_inputs; /* pre_quant_scale */
    const char *facts;
};

struct model {
    uint8_t *codes;
    float *scales, *inputs, *want;
    struct part parts[4];
    char shapes[3][64];
};

static void model_make(struct model *m, const struct shape *s)
{
    const size_t groups = s->in / s->group_size;
    uint16_t ignored;
    *m = (struct model){.codes = malloc(s->out / 2 * s->in),
                        .scales = malloc(s->out * groups * sizeof(float)),
                        .inputs = malloc(s->in * sizeof(float)),
                        .want = malloc(s->out * s->in * sizeof(float))};
    for (size_t i = 0; i < s->out / 2 * s->in; i++)
        m->codes[i] = (uint8_t)next_random();
    for (size_t i = 0; i < s->out * groups; i++)
        m->scales[i] = ldexpf((float)(next_random() % 0xffffff + 1), -30); /* all 24 bits, so that each step rounds */
    for (size_t k = 0; k < s->in; k++) {
        ignored = random_f16(&m->inputs[k]);
        (void)ignored;
    }
    for (size_t n = 0; n < s->out; n++)
        for (size_t k = 0; k < s->in; k++) {
            const int nibble = m->codes[n / 2 * s->in + k] >> (n % 2 ? 4 : 0) & 15;
            const volatile float w =
                (float)(nibble < 8 ? nibble : nibble - 16) * m->scales[n * groups + k / s->group_size];
            m->want[n * s->in + k] = s->has_inputs ? w * m->inputs[k] : w;
        }
    snprintf(m->shapes[0], 64, "[%zu,%zu]", s->out / 2, s->in);
    snprintf(m->shapes[1], 64, "[%zu,%zu]", s->out, groups);
    snprintf(m->shapes[2], 64, "[%zu]", s->in);
    m->parts[0] = (struct part){STEM ".weight", "U8", m->shapes[0], m->codes, s->out / 2 * s->in};
    m->parts[1] = (struct part){STEM ".weight_scale", "F32", m->shapes[1], m->scales, s->out * groups * 4};
    if (s->has_inputs)
        m->parts[2] = (struct part){STEM ".pre_quant_scale", "F32", m->shapes[2], m->inputs, s->in * 4};
}

static void model_free(struct model *m)
{
    free(m->codes);
    free(m->scales);
    free(m->inputs);
    free(m->want);
}

static void every_shape_decodes_by_the_formula(void **state)
{
    static const struct shape shapes[] = {
        {2, 128, 128, false, ",\"group_size\":128"},
        {64, 256, 128, true, ",\"group_size\":128"},
        {10, 96, 32, true, ""},
        {6, 7, 7, true, ",\"group_size\":128"},
        {500, 5000, 100, true, ""},                    /* several bands */
        {2, 400000, 100, true, ",\"group_size\":100"}, /* a row that does not fit */
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++) {
        struct model m;
        struct packing p;
        char config[256];
        model_make(&m, &shapes[i]);
        snprintf(config, sizeof config, CONFIG("%s"), shapes[i].facts);
        if (packing_open(&p, config, m.parts, &tp_scheme_int4, (struct tp_decode_options){.f16_first = true}))
            fail_msg("%zu: %s", i, p.x.err.message);
        assert_string_equal(p.x.d.name, STEM ".weight");
        assert_int_equal(p.x.d.shape[0], shapes[i].out);
        assert_int_equal(p.x.d.shape[1], shapes[i].in);
        assert_int_equal(p.x.d.elem_count, p.x.d.group->parameter_count);
        assert_int_equal(p.x.d.group->member_count, shapes[i].has_inputs ? 3 : 2);
        expect_values(&p.x, m.want);
        packing_close(&p);
        model_free(&m);
    }
}

/* The low bits are the even output, and 8 to 15 are -8 to -1. */
static void a_byte_is_two_outputs(void **state)
{
    static const uint8_t codes[] = {0x80, 0xf7, 0x19, 0x08};
    static const float scales[] = {1, 0.5f}, want[] = {0, 7, -7, -8, -4, -0.5f, 0.5f, 0};
    static const struct part parts[] = {
        {STEM ".weight", "U8", "[1,4]", codes, 4}, {STEM ".weight_scale", "F32", "[2,1]", scales, 8}, {0}};
    struct packing p;
    (void)state;
    assert_int_equal(packing_open(&p, CONFIG(""), parts, &tp_scheme_int4, (struct tp_decode_options){0}), TP_OK);
    expect_values(&p.x, want);
    packing_close(&p);
}

static void an_odd_scale_is_refused_by_name(void **state)
{
    static const uint8_t codes[4];
    (void)state;
    for (int of_inputs = 0; of_inputs < 2; of_inputs++)
        for (int allowed = 0; allowed < 2; allowed++) {
            const float scales[] = {1, of_inputs ? 1 : NAN}, inputs[] = {1, 1, of_inputs ? INFINITY : 1, 1};
            const struct part parts[] = {{STEM ".weight", "U8", "[1,4]", codes, 4},
                                         {STEM ".weight_scale", "F32", "[2,1]", scales, 8},
                                         {STEM ".pre_quant_scale", "F32", "[4]", inputs, 16},
                                         {0}};
            struct packing p;
            float values[8];
            assert_int_equal(
                packing_open(&p, CONFIG(""), parts, &tp_scheme_int4, (struct tp_decode_options){.nan_scales = allowed}),
                TP_OK);
            assert_int_equal(decode_run(&p.x, 0, 8, values), allowed ? TP_OK : TP_ERR_FORMAT);
            if (!allowed) {
                expect_text(p.x.err.message, of_inputs ? "scale 2 is infinite" : "scale 1 is not a number");
                expect_text(p.x.err.message, of_inputs ? STEM ".pre_quant_scale" : STEM ".weight_scale");
            }
            packing_close(&p);
        }
}

static uint8_t nothing[4096];
#define PART(name, dtype, shape, len)         \
    {                                         \
        STEM name, dtype, shape, nothing, len \
    }

static void what_disagrees_is_refused_with_both(void **state)
{
    const struct {
        const char *facts;
        struct part parts[5];
        const char *texts[2];
    } cases[] = {
        {",\"group_size\":128",
         {PART(".weight", "U8", "[4,256]", 1024), PART(".weight_scale", "F32", "[8,4]", 128)},
         {"256 inputs in groups of 128", STEM ".weight_scale"}},
        {"", {PART(".weight", "U8", "[4,256]", 1024), PART(".weight_scale", "F32", "[4,2]", 32)}, {"[8, 2]", "[4, 2]"}},
        {"",
         {PART(".weight", "U8", "[4,256]", 1024), PART(".weight_scale", "F32", "[8,2]", 64),
          PART(".pre_quant_scale", "BF16", "[128]", 256)},
         {"[256]", STEM ".pre_quant_scale"}},
        {"",
         {PART(".weight", "U8", "[4,256]", 1024), PART(".weight_scale", "F32", "[8,2]", 64),
          PART(".weight_scale_2", "F32", "[]", 4)},
         {"W4A8_AWQ", STEM ".weight_scale_2"}},
        {"", {PART(".weight", "U8", "[0,256]", 0), PART(".weight_scale", "F32", "[0,2]", 0)}, {"not empty", ""}},
        {"", {PART(".weight", "U8", "[256]", 256), PART(".weight_scale", "F32", "[2]", 8)}, {"matrix", ""}},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        char config[256];
        snprintf(config, sizeof config, CONFIG("%s"), cases[i].facts);
        REFUSED(config, cases[i].parts, &tp_scheme_int4, TP_ERR_FORMAT, cases[i].texts[0], cases[i].texts[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_decodes_by_the_formula),
        cmocka_unit_test(a_byte_is_two_outputs),
        cmocka_unit_test(an_odd_scale_is_refused_by_name),
        cmocka_unit_test(what_disagrees_is_refused_with_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
