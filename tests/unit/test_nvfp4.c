/* SPDX-License-Identifier: MIT */
/* NVFP4: what modelopt and compressed-tensors decode (tests/data/quantised), the two formulas said plainly, and the
 * refusals. */
#include "decoding.h"

#define NVFP4 (&tp_scheme_nvfp4)

static const struct tp_decode_options plain = {0};

static void compressed_tensors_is_equal_signs_of_zero_included(void **state)
{
    (void)state;
    expect_golden("ct-nvfp4-bf16", NVFP4);
    expect_golden("ct-nvfp4-f32", NVFP4);
}

/* Its own tool gives +0.0 for code 8. */
static void modelopt_is_equal_but_for_signs_of_zero(void **state)
{
    static const char *const names[] = {"modelopt-nvfp4-3d-bf16", "modelopt-nvfp4-f16", "modelopt-nvfp4-zeroblock-bf16",
                                        "modelopt-export-nvfp4"};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        expect_golden_as(names[i], NULL, NVFP4, plain, (struct allowance){.any_zero_sign = true});
}

/* ---- the formulas ---- */

static float e4m3(uint8_t code)
{
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    if ((code & 0x7f) == 0x7f)
        return NAN;
    const double magnitude = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    return (float)(code & 0x80 ? -magnitude : magnitude);
}

static float formula(unsigned code, uint8_t scale, float global, bool divides)
{
    static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const volatile float both = divides ? e4m3(scale) / global : e4m3(scale) * global; /* rounded */
    const float value = e2m1[code & 7] * both;
    return code & 8 ? -value : value;
}

struct sample {
    size_t experts, rows, blocks;
    size_t globals; /* 1, or one for each expert */
    bool divides;
};

static void expect_formula(const struct sample *m, const float *globals, const char *globals_shape, uint8_t limit)
{
    const size_t blocks = m->experts * m->rows * m->blocks;
    uint8_t *codes = malloc(blocks * 8), *scales = malloc(blocks);
    char codes_shape[64], scales_shape[64];
    for (size_t i = 0; i < blocks * 8; i++)
        codes[i] = (uint8_t)next_random();
    for (size_t i = 0; i < blocks; i++)
        scales[i] = (uint8_t)(next_random() % limit);
    snprintf(codes_shape, sizeof codes_shape, "[%zu,%zu,%zu]", m->experts, m->rows, m->blocks * 8);
    snprintf(scales_shape, sizeof scales_shape, "[%zu,%zu,%zu]", m->experts, m->rows, m->blocks);
    const struct part parts[] = {
        {m->divides ? "w.weight_packed" : "w.weight", "U8", codes_shape, codes, blocks * 8},
        {"w.weight_scale", "F8_E4M3", scales_shape, scales, blocks},
        {m->divides ? "w.weight_global_scale" : "w.weight_scale_2", "F32", globals_shape, globals, m->globals * 4},
        {0}};
    static const size_t steps[] = {1 << 20, 1001, 15};
    struct scratch s;
    struct decoding x;
    scratch_make(&s);
    write_parts(&s, "x.safetensors", parts);
    if (decoding_open(&x, scratch_at(&s, "x.safetensors"), NVFP4, (struct tp_decode_options){.nan_scales = true}))
        fail_msg("%s", x.err.message);
    assert_string_equal(x.d.name, "w.weight");
    for (size_t k = blocks > 100000 ? 2 : 0; k < TP_COUNT_OF(steps); k++) {
        float *values = decode_all(&x, blocks > 100000 ? 1 << 20 : steps[k]);
        for (size_t i = 0; i < blocks * 16; i++) {
            const float global = globals[m->globals == 1 ? 0 : i / (m->rows * m->blocks * 16)];
            const unsigned code = codes[i / 2] >> (i % 2 * 4) & 15;
            const float want = formula(code, scales[i / 16], global, m->divides);
            if (isnan(want) ? bits_of(values[i]) != (code & 8 ? 0xffc00000 : 0x7fc00000)
                            : bits_of(values[i]) != bits_of(want))
                fail_msg("element %zu: 0x%08x, not 0x%08x", i, bits_of(values[i]), bits_of(want));
        }
        free(values);
    }
    decoding_close(&x);
    scratch_remove(&s);
    free(codes);
    free(scales);
}

static void every_scale_and_extreme_globals_follow_the_formula(void **state)
{
    static const float globals[] = {1, 0.001f, 3.3e-5f, 0x1p-149f, 0x1.8p-130f, 3e38f, 1234.567f, 0};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(globals); i++) {
        const struct sample multiply = {1, 13, 9, 1, false}, divide = {1, 13, 9, 1, true};
        expect_formula(&multiply, &globals[i], "[]", 128);
        if (globals[i] > 0)
            expect_formula(&divide, &globals[i], i % 2 ? "[]" : "[1]", 128);
    }
}

static void each_matrix_may_have_a_global_scale(void **state)
{
    static const float globals[] = {0.25f, 0.3f, 7};
    static const struct sample multiply = {3, 5, 7, 3, false}, divide = {3, 5, 7, 3, true};
    (void)state;
    expect_formula(&multiply, globals, "[3]", 127);
    expect_formula(&divide, globals, "[3,1,1]", 127);
}

static void large_matrices_are_decoded_within_the_scratch(void **state)
{
    static const float global = 0.001f;
    static const struct sample large = {1, 1003, 129, 1, false};
    (void)state;
    expect_formula(&large, &global, "[]", 127);
}

static void the_known_vector_has_known_values(void **state)
{
    static const float multiply = 0.001f, divide = 1000;
    uint8_t codes[8], expected[32];
    static const uint8_t scale = 0x74;
    (void)state;
    from_hex(codes, "10 32 54 76 98 ba dc fe");
    from_hex(expected, "0000 3dc5 3e45 3e93 3ec5 3f13 3f45 3f93 8000 bdc5 be45 be93 bec5 bf13 bf45 bf93");
    const struct part by[2][4] = {{{"w.weight", "U8", "[1,8]", codes, 8},
                                   {"w.weight_scale", "F8_E4M3", "[1,1]", &scale, 1},
                                   {"w.weight_scale_2", "F32", "[]", &multiply, 4},
                                   {0}},
                                  {{"w.weight_packed", "U8", "[1,8]", codes, 8},
                                   {"w.weight_scale", "F8_E4M3", "[1,1]", &scale, 1},
                                   {"w.weight_global_scale", "F32", "[1]", &divide, 4},
                                   {0}}};
    for (size_t i = 0; i < 2; i++) {
        struct scratch s;
        struct decoding x;
        struct tp_stats stats;
        uint16_t bf16[16];
        scratch_make(&s);
        write_parts(&s, "x.safetensors", by[i]);
        assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), NVFP4, plain), TP_OK);
        float *values = decode_all(&x, 16);
        assert_int_equal(bits_of(values[1]), 0x3dc49ba6);
        assert_int_equal(bits_of(values[3]), 0x3e9374bc);
        assert_int_equal(bits_of(values[7]), 0x3f9374bc);
        tp_stats_init(&stats);
        x.kernels.cast[TP_KIND_F32][TP_KIND_BF16](bf16, values, 16, false, &stats);
        for (size_t k = 0; k < 16; k++)
            assert_int_equal(bf16[k], expected[2 * k] << 8 | expected[2 * k + 1]);
        free(values);
        decoding_close(&x);
        scratch_remove(&s);
    }
}

/* ---- refusals ---- */

static const uint8_t zeros[256];
static const float one = 1;

static void shapes_that_do_not_fit_are_refused(void **state)
{
    static const uint8_t swizzled[512];
    const struct part codes = {"w.weight", "U8", "[4,16]", zeros, 64};
    const struct part scales = {"w.weight_scale", "F8_E4M3", "[4,2]", zeros, 8};
    const struct part global = {"w.weight_scale_2", "F32", "[]", &one, 4};
    const struct part as_for_tensor_cores[] = {
        codes, {"w.weight_scale", "F8_E4M3", "[512]", swizzled, 512}, global, {0}};
    const struct part turned[] = {codes, {"w.weight_scale", "F8_E4M3", "[2,4]", zeros, 8}, global, {0}};
    const struct part ragged[] = {{"w.weight", "U8", "[4,12]", zeros, 48}, scales, global, {0}};
    const struct part vector[] = {{"w.weight", "U8", "[64]", zeros, 64}, scales, global, {0}};
    const struct part a_global_a_row[] = {codes, scales, {"w.weight_scale_2", "F32", "[4]", zeros, 16}, {0}};
    (void)state;
    EXPECT_REFUSED(as_for_tensor_cores, NVFP4, TP_ERR_FORMAT, "[4, 16]", "[4, 2]", "[512]", "w.weight_scale");
    EXPECT_REFUSED(turned, NVFP4, TP_ERR_FORMAT, "[4, 16]", "[4, 2]", "[2, 4]", "w.weight_scale");
    EXPECT_REFUSED(ragged, NVFP4, TP_ERR_FORMAT, "[4, 12]", "8 bytes", "w.weight_scale");
    EXPECT_REFUSED(vector, NVFP4, TP_ERR_FORMAT, "[64]", "w.weight_scale");
    EXPECT_REFUSED(a_global_a_row, NVFP4, TP_ERR_FORMAT, "[4, 16]", "[4]", "w.weight_scale_2");
}

static void globals_that_no_package_writes_are_refused(void **state)
{
    static const float bad[] = {-1, INFINITY, -INFINITY, NAN, 0};
    static const char *const texts[] = {"-1", "inf", "-inf", "nan", "is 0"};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(bad); i++) {
        const struct part parts[] = {{"w.weight_packed", "U8", "[4,16]", zeros, 64},
                                     {"w.weight_scale", "F8_E4M3", "[4,2]", zeros, 8},
                                     {"w.weight_global_scale", "F32", "[1]", &bad[i], 4},
                                     {0}};
        EXPECT_REFUSED(parts, NVFP4, TP_ERR_FORMAT, "global scale number 0", texts[i], "w.weight_global_scale");
    }
}

static void scales_that_no_package_writes_are_errors_that_name_them(void **state)
{
    static const uint8_t bad[] = {0x7f, 0xff, 0x81, 0xfe};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(bad); i++) {
        const uint8_t scales[] = {1, 2, 3, 4, 0x80, bad[i], 0, 1};
        const struct part parts[] = {{"w.weight", "U8", "[4,16]", zeros, 64},
                                     {"w.weight_scale", "F8_E4M3", "[4,2]", scales, 8},
                                     {"w.weight_scale_2", "F32", "[]", &one, 4},
                                     {0}};
        struct scratch s;
        struct decoding x;
        float values[128];
        scratch_make(&s);
        write_parts(&s, "x.safetensors", parts);
        assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), NVFP4, plain), TP_OK);
        assert_int_equal(decode_run(&x, 0, 80, values), TP_OK);
        assert_int_equal(decode_run(&x, 0, 81, values), TP_ERR_FORMAT);
        expect_text(x.err.message, "scale number 5 is");
        expect_text(x.err.message, "w.weight_scale");
        assert_string_equal(x.err.tensor, "w.weight");
        decoding_close(&x);
        scratch_remove(&s);
    }
}

static void scales_of_inputs_are_unsupported(void **state)
{
    (void)state;
    const struct part parts[] = {{"w.weight", "U8", "[4,16]", zeros, 64},
                                 {"w.weight_scale", "F8_E4M3", "[4,2]", zeros, 8},
                                 {"w.weight_scale_2", "F32", "[]", &one, 4},
                                 {"w.pre_quant_scale", "BF16", "[32]", zeros, 64},
                                 {0}};
    EXPECT_REFUSED(parts, NVFP4, TP_ERR_UNSUPPORTED, "w.pre_quant_scale");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compressed_tensors_is_equal_signs_of_zero_included),
        cmocka_unit_test(modelopt_is_equal_but_for_signs_of_zero),
        cmocka_unit_test(every_scale_and_extreme_globals_follow_the_formula),
        cmocka_unit_test(each_matrix_may_have_a_global_scale),
        cmocka_unit_test(large_matrices_are_decoded_within_the_scratch),
        cmocka_unit_test(the_known_vector_has_known_values),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(globals_that_no_package_writes_are_refused),
        cmocka_unit_test(scales_that_no_package_writes_are_errors_that_name_them),
        cmocka_unit_test(scales_of_inputs_are_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
