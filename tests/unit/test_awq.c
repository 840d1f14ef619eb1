/* SPDX-License-Identifier: MIT */
/* AWQ: what AutoAWQ itself decodes (tests/data/quantised), the formula said plainly, and what is refused. */
#include "packing.h"

#define STEM "l.0.q_proj"
#define CONFIG(facts) "{\"quantization_config\":{\"quant_method\":\"awq\"" facts "}}"
#define PLAIN CONFIG(",\"bits\":4,\"group_size\":32,\"version\":\"gemm\",\"zero_point\":true")

/* The nibbles of a word, from the lowest, are these of eight neighbouring outputs. */
static const unsigned order[] = {0, 2, 4, 6, 1, 3, 5, 7};

static void golden_folders_decode_as_autoawq_does(void **state)
{
    (void)state;
    expect_golden_matrix("awq-g32", &tp_scheme_awq, true);
    expect_golden_matrix("awq-perchannel", &tp_scheme_awq, true);
}

static uint32_t word_of(const unsigned *values)
{
    uint32_t word = 0;
    for (unsigned i = 0; i < 8; i++)
        word |= values[order[i]] << (4 * i);
    return word;
}

static void expect_model(const char *config, size_t in, size_t out, size_t group_size, bool has_zeros)
{
    const size_t groups = in / group_size, factors = groups * out;
    unsigned *zeros = malloc(factors * sizeof *zeros), codes[8];
    float *scales = malloc(factors * sizeof *scales), *want = malloc(in * out * sizeof *want);
    uint16_t *halves = malloc(factors * 2);
    uint32_t *qweight = malloc(in * out / 2), *qzeros = malloc(factors / 2);
    char shapes[3][64];
    struct packing p;
    for (size_t i = 0; i < factors; i++) {
        zeros[i] = has_zeros ? next_random() % 16 : 8;
        halves[i] = random_f16(&scales[i]);
    }
    for (size_t w = 0; w < factors / 8; w++)
        qzeros[w] = word_of(zeros + 8 * w);
    for (size_t w = 0; w < in * out / 8; w++) {
        for (size_t i = 0; i < 8; i++) {
            const size_t k = w / (out / 8), n = w % (out / 8) * 8 + i, at = k / group_size * out + n;
            codes[i] = next_random() % 16;
            want[n * in + k] = ((float)codes[i] - (float)zeros[at]) * scales[at];
        }
        qweight[w] = word_of(codes);
    }
    snprintf(shapes[0], 64, "[%zu,%zu]", in, out / 8);
    snprintf(shapes[1], 64, "[%zu,%zu]", groups, out);
    snprintf(shapes[2], 64, "[%zu,%zu]", groups, out / 8);
    const struct part parts[] = {{STEM ".qweight", "I32", shapes[0], qweight, in * out / 2},
                                 {STEM ".scales", "F16", shapes[1], halves, factors * 2},
                                 {has_zeros ? STEM ".qzeros" : NULL, "I32", shapes[2], qzeros, factors / 2},
                                 {0}};
    if (packing_open(&p, config, parts, &tp_scheme_awq, (struct tp_decode_options){0}))
        fail_msg("%zu x %zu: %s", in, out, p.x.err.message);
    assert_string_equal(p.x.d.name, STEM ".weight");
    assert_int_equal(p.x.d.shape[0], out);
    assert_int_equal(p.x.d.shape[1], in);
    expect_values(&p.x, want);
    packing_close(&p);
    free(zeros);
    free(scales);
    free(want);
    free(halves);
    free(qweight);
    free(qzeros);
}

static void every_shape_decodes_by_the_formula(void **state)
{
    (void)state;
    expect_model(PLAIN, 96, 64, 32, true);
    expect_model(PLAIN, 32, 8, 32, true);
    expect_model(CONFIG(",\"group_size\":-1,\"version\":\"GEMM\""), 37, 40, 37, true);
    expect_model(CONFIG(",\"bits\":4,\"group_size\":1"), 5, 16, 1, true);
    expect_model(CONFIG(",\"bits\":4"), 64, 16, 16, true);
    expect_model(CONFIG(",\"bits\":4,\"group_size\":32,\"zero_point\":false"), 64, 24, 32, false);
}

static void what_does_not_fit_the_scratch_decodes_in_bands(void **state)
{
    (void)state;
    expect_model(PLAIN, 1024, 2504, 32, true);
    expect_model(CONFIG(",\"bits\":4,\"group_size\":100"), 150000, 16, 100, true); /* one word's rows do not fit */
}

static void the_documents_vector_decodes(void **state)
{
    static const uint16_t want[] = {0xae4c, 0xad82, 0xacb9, 0xabdf, 0xaa4c, 0xa8b9, 0xa64c, 0xa24c};
    static const uint32_t codes = 0x75316420u, zeros = 0x88888888u;
    static const uint16_t scales[] = {0x224c, 0x224c, 0x224c, 0x224c, 0x224c, 0x224c, 0x224c, 0x224c};
    const struct part parts[] = {{STEM ".qweight", "I32", "[1,1]", &codes, 4},
                                 {STEM ".qzeros", "I32", "[1,1]", &zeros, 4},
                                 {STEM ".scales", "F16", "[1,8]", scales, 16},
                                 {0}};
    uint16_t got[8];
    float values[8];
    struct tp_stats stats;
    struct packing p;
    (void)state;
    assert_int_equal(packing_open(&p, PLAIN, parts, &tp_scheme_awq, (struct tp_decode_options){.f16_first = true}),
                     TP_OK);
    assert_int_equal(decode_run(&p.x, 0, 8, values), TP_OK);
    tp_stats_init(&stats);
    p.x.kernels.cast[TP_KIND_F32][TP_KIND_F16](got, values, 8, false, &stats);
    assert_memory_equal(got, want, sizeof want);
    for (size_t i = 0; i < 8; i++) { /* f16_first: nothing is lost by the cast */
        float back;
        p.x.kernels.cast[TP_KIND_F16][TP_KIND_F32](&back, &got[i], 1, false, &stats);
        assert_int_equal(bits_of(back), bits_of(values[i]));
    }
    packing_close(&p);
}

static void a_nan_scale_is_refused_with_its_index(void **state)
{
    static const uint32_t codes[4];
    static const uint16_t scales[32] = {[17] = 0x7e01};
    const struct part parts[] = {{STEM ".qweight", "I32", "[2,2]", codes, 16},
                                 {STEM ".qzeros", "I32", "[2,2]", codes, 16},
                                 {STEM ".scales", "F16", "[2,16]", scales, 64},
                                 {0}};
    float values[32];
    struct packing p;
    (void)state;
    for (int allowed = 0; allowed < 2; allowed++) {
        assert_int_equal(packing_open(&p, CONFIG(",\"group_size\":1"), parts, &tp_scheme_awq,
                                      (struct tp_decode_options){.nan_scales = allowed}),
                         TP_OK);
        assert_int_equal(decode_run(&p.x, 0, 32, values), allowed ? TP_OK : TP_ERR_FORMAT);
        if (allowed)
            assert_true(isnan(values[3]) && !isnan(values[2]));
        else
            expect_text(p.x.err.message, "scale 17 is not a number ('" STEM ".scales')");
        packing_close(&p);
    }
}

static uint8_t zeros_of_any_size[4096];
#define PART(name, dtype, shape, len)                   \
    {                                                   \
        STEM name, dtype, shape, zeros_of_any_size, len \
    }

static void other_orders_are_refused_by_name(void **state)
{
    static const struct part parts[] = {PART(".qweight", "I32", "[32,4]", 512),
                                        PART(".qzeros", "I32", "[1,4]", 16),
                                        PART(".scales", "F16", "[1,32]", 64),
                                        {0}};
    (void)state;
    REFUSED(CONFIG(",\"version\":\"gemv\""), parts, &tp_scheme_awq, TP_ERR_UNSUPPORTED, "gemv");
    REFUSED(CONFIG(",\"version\":\"gemv_fast\\u0007\""), parts, &tp_scheme_awq, TP_ERR_UNSUPPORTED, "gemv_fast\\x07");
    REFUSED(CONFIG(",\"bits\":8"), parts, &tp_scheme_awq, TP_ERR_UNSUPPORTED, "8 bits");
}

static void what_disagrees_is_refused_with_both(void **state)
{
    static const struct {
        const char *config;
        struct part parts[5];
        const char *texts[3];
    } cases[] = {
        {PLAIN,
         {PART(".qweight", "I32", "[32,4]", 512), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,40]", 80)},
         {"[1, 32]", "[1, 40]", STEM ".scales"}},
        {PLAIN,
         {PART(".qweight", "I32", "[32,4]", 512), PART(".qzeros", "I32", "[2,4]", 32),
          PART(".scales", "F16", "[1,32]", 64)},
         {"[1, 4]", "[2, 4]", STEM ".qzeros"}},
        {PLAIN,
         {PART(".qweight", "I32", "[40,4]", 640), PART(".qzeros", "I32", "[2,4]", 32),
          PART(".scales", "F16", "[2,32]", 128)},
         {"40 inputs", "32", STEM ".scales"}},
        {PLAIN,
         {PART(".qweight", "I32", "[32,4]", 512), PART(".qzeros", "I32", "[4,4]", 64),
          PART(".scales", "F16", "[4,32]", 256)},
         {"groups of 32", "not 4", STEM ".scales"}},
        {PLAIN,
         {PART(".qweight", "I32", "[32,4]", 512), PART(".scales", "F16", "[1,32]", 64)},
         {"qzeros", "zero_point", STEM ".scales"}},
        {CONFIG(",\"zero_point\":false"),
         {PART(".qweight", "I32", "[32,4]", 512), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,32]", 64)},
         {"no zero points", "zero_point", STEM ".qzeros"}},
        {PLAIN,
         {PART(".qweight", "I32", "[32,4]", 512), PART(".qzeros", "I32", "[1,4]", 16),
          PART(".scales", "F16", "[1,32]", 64), PART(".g_idx", "I32", "[32]", 128)},
         {"g_idx", "AWQ", STEM ".g_idx"}},
        {PLAIN,
         {PART(".qweight", "I32", "[32,0]", 0), PART(".qzeros", "I32", "[1,0]", 0), PART(".scales", "F16", "[1,0]", 0)},
         {"[32, 0]", "awq", "codes"}},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++)
        REFUSED(cases[i].config, cases[i].parts, &tp_scheme_awq, TP_ERR_FORMAT, cases[i].texts[0], cases[i].texts[1],
                cases[i].texts[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_folders_decode_as_autoawq_does),
        cmocka_unit_test(every_shape_decodes_by_the_formula),
        cmocka_unit_test(what_does_not_fit_the_scratch_decodes_in_bands),
        cmocka_unit_test(the_documents_vector_decodes),
        cmocka_unit_test(a_nan_scale_is_refused_with_its_index),
        cmocka_unit_test(other_orders_are_refused_by_name),
        cmocka_unit_test(what_disagrees_is_refused_with_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
