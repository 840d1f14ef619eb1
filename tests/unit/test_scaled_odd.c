/* SPDX-License-Identifier: MIT */
/* One byte a value: scales and zero points that no package writes, and tensors that do not go together. */
#include "scaled.h"

/* ---- odd values ---- */

static enum tp_status decode_odd(const char *codes_name, enum tp_dtype codes, const char *scales_name,
                                 const float *scales, bool nan_scales, float *values, struct tp_error *err)
{
    const struct entry entries[] = {{codes_name, codes, 2, {4, 3}, NULL}, {scales_name, TP_F32, 1, {4}, scales}};
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    struct fixture f;
    make(&f, NULL, entries, 2);
    f.d.options.nan_scales = nan_scales;
    prepare(&f);
    enum tp_status status = f.d.scheme->decode(&f.d, &s, &f.kernels, 0, 12, values, err);
    if (status) {
        assert_null(s.owner);
        assert_string_equal(err->tensor, codes_name);
    }
    free(s.bytes);
    finish(&f);
    return status;
}

static void scales_that_no_package_writes_are_refused_by_number(void **state)
{
    (void)state;
    static const struct {
        float value;
        bool nan_scales;
        const char *word; /* NULL: fine */
    } rows[] = {{NAN, false, "NaN"},           {-NAN, false, "NaN"},      {NAN, true, NULL},
                {-0.5F, false, "negative"},    {-0.5F, true, "negative"}, {INFINITY, true, "infinite"},
                {0.0F, false, NULL},           {-0.0F, false, NULL},      {1e-42F, false, NULL},
                {-INFINITY, false, "negative"}};
    static const struct {
        enum tp_dtype dtype;
        const char *scales;
    } schemes[] = {{TP_F8_E4M3, "m.weight_scale"}, {TP_I8, "m.weight_scale"}, {TP_I8, "m.SCB"}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        for (size_t k = 0; k < TP_COUNT_OF(schemes); k++) {
            struct tp_error err = {.code = TP_OK};
            const float scales[4] = {1, 0.25F, rows[i].value, 3};
            float values[12];
            enum tp_status status =
                decode_odd("m.weight", schemes[k].dtype, schemes[k].scales, scales, rows[i].nan_scales, values, &err);
            assert_int_equal(status, rows[i].word ? TP_ERR_FORMAT : TP_OK);
            if (rows[i].word)
                expect_text(&err, (const char *const[4]){"scale 2 is", rows[i].word, schemes[k].scales, NULL});
            else if (rows[i].nan_scales)
                assert_true(isnan(values[6]) && isnan(values[8]) && !isnan(scales[1]));
        }
}

static void the_number_of_an_odd_scale_counts_from_the_first_of_all(void **state)
{
    (void)state;
    static float scales[70000];
    const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {70000, 2}, NULL},
                                    {"a.weight_scale", TP_F32, 2, {70000, 1}, scales}};
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    struct tp_error err = {.code = TP_OK};
    struct fixture f;
    float before[10], after[10];
    for (size_t i = 0; i < 70000; i++)
        scales[i] = i == 69999 ? -1.0F : 1.0F + (float)i;
    make(&f, NULL, entries, 2);
    prepare(&f);
    decode_run(&f, &s, 100, 10, before);
    assert_int_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 139000, 2, after, &err), TP_ERR_FORMAT);
    expect_text(&err, (const char *const[4]){"scale 69999 is negative", NULL});
    decode_run(&f, &s, 100, 10, after); /* what the failure left in the scratch is not taken for these scales */
    expect_bits(after, before, 100, 10);
    free(s.bytes);
    finish(&f);
}

static void exponent_255_is_a_nan_scale(void **state)
{
    (void)state;
    static const uint8_t exponents[] = {127, 0xff};
    for (int as_u8 = 0; as_u8 < 2; as_u8++) {
        const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {130, 3}, NULL},
                                        {"a.weight_scale_inv", as_u8 ? TP_U8 : TP_F8_E8M0, 2, {2, 1}, exponents}};
        struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        float values[390];
        make(&f, NULL, entries, 2);
        prepare(&f);
        assert_int_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 0, 390, values, &err), TP_ERR_FORMAT);
        expect_text(&err, (const char *const[4]){"scale 1 is NaN", "a.weight_scale_inv", NULL});
        f.d.options.nan_scales = true;
        decode_run(&f, &s, 0, 390, values);
        assert_true(isnan(values[384]) && isnan(values[389]));
        free(s.bytes);
        finish(&f);
    }
}

static void zero_points_of_floats_must_be_zero(void **state)
{
    (void)state;
    static const uint8_t zeros[2][4] = {{0, 0x80, 0, 0}, {0, 0, 0, 0x38}};
    for (size_t i = 0; i < 2; i++) {
        const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {4, 3}, NULL},
                                        {"a.weight_scale", TP_BF16, 2, {4, 1}, NULL},
                                        {"a.weight_zero_point", TP_F8_E4M3, 2, {4, 1}, zeros[i]}};
        struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        float values[12];
        make(&f, NULL, entries, 3);
        prepare(&f);
        assert_int_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 0, 12, values, &err), i ? TP_ERR_FORMAT : TP_OK);
        if (i)
            expect_text(&err, (const char *const[4]){"zero point 3 is 1", "a.weight_zero_point", NULL});
        free(s.bytes);
        finish(&f);
    }
}

static void a_run_beyond_the_end_is_refused(void **state)
{
    (void)state;
    static const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {4, 3}, NULL},
                                           {"a.weight_scale", TP_F32, 0, {0}, NULL}};
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    struct fixture f;
    float values[12];
    make(&f, NULL, entries, 2);
    prepare(&f);
    assert_int_not_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 8, 5, values, NULL), TP_OK);
    assert_int_not_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, UINT64_MAX, 2, values, NULL), TP_OK);
    decode_run(&f, &s, 12, 0, values);
    free(s.bytes);
    finish(&f);
}

/* ---- what does not go together ---- */

struct refusal {
    struct entry entries[3];
    size_t count;
    struct tp_quant_facts facts;
    const char *method;
    const char *parts[4]; /* of the message */
};

static const struct refusal refusals[] = {
    {{T("a.weight", F8_E4M3, 576, 300), T("a.weight_scale_inv", F32, 4, 3)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[4, 3]", "[576, 300]", "[5, 3] for blocks of 128 x 128", "a.weight_scale_inv"}},
    {{T("a.weight", F8_E4M3, 576, 300), ONE("a.weight_scale_inv", F32)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[]", "[5, 3] for blocks", "so says config.json"}},
    {{T("a.weight", F8_E4M3, 576, 300), T("a.weight_scale_inv", F32, 576, 1)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[576, 1]", "[5, 3] for blocks"}},
    {{T("a.weight", F8_E4M3, 300, 300), T("a.weight_scale_inv", F32, 3, 3)},
     2,
     BLOCKS(64, 128),
     "fp8",
     {"[3, 3]", "[5, 3] for blocks of 64 x 128"}},
    {{T("a.weight", F8_E4M3, 300, 300), T("a.weight_scale_inv", F32, 2, 2)},
     2,
     {0},
     NULL,
     {"[2, 2]", "[] for all", "[300, 1] for rows", "[3, 3] for blocks"}},
    {{T("a.weight", F8_E4M3, 300, 300), T("a.weight_scale_inv", F32, 1, 1)},
     2,
     BLOCKS(1, UINT64_MAX),
     "fp8",
     {"[300, 1] for blocks of 1 x 18446744073709551615"}},
    {{T("qkv.weight", F8_E4M3, 30, 16), T("qkv.weight_scale", F32, 3)},
     2,
     {0},
     "compressed-tensors",
     {"3 scales", "[30, 16]", "fused", "qkv.weight_scale"}},
    {{T("e.weight", F8_E4M3, 4, 6, 8), T("e.weight_scale", F32, 4, 2)},
     2,
     {0},
     NULL,
     {"[4, 2]", "[4, 6, 8]", "[.., 6, 1] for rows"}},
    {{T("e.weight", F8_E4M3, 4, 6, 8), T("e.weight_scale", F32, 4, 8, 1)}, 2, {0}, NULL, {"[4, 8, 1]"}},
    {{T("e.w", F8_E4M3, 4, 6, 8), T("e.w_scale", F32, 3, 1, 8)}, 2, {0}, NULL, {"[3, 1, 8]", "[4, 6, 8]"}},
    {{T("e.up", F8_E4M3, 3, 130, 200), T("e.up_scale_inv", F32, 2, 2, 2)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[2, 2, 2]", "[.., 2, 2] for blocks"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 5)},
     2,
     {0},
     NULL,
     {"[13, 5]", "[13, 96]", "equal groups"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 3)},
     2,
     {.group_size = 16},
     NULL,
     {"[13, 3]", "[.., 6] for groups of 16"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 3)},
     2,
     {.group_size = UINT64_MAX},
     NULL,
     {"groups of 18446744073709551615"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 0)}, 2, {0}, NULL, {"[13, 0]"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 0)}, 2, {0}, NULL, {"[0]"}},
    {{T("a.weight", F8_E4M3, 96), T("a.weight_scale", BF16, 96)}, 2, {0}, NULL, {"[96]"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", F32, 13, 1)},
     2,
     {.algo = "FP8"},
     "modelopt",
     {"[13, 1]", "[] for all", "so says config.json"}},
    {{T("a.weight", F8_E4M3, 13, 96), ONE("a.weight_scale", F32)},
     2,
     {.algo = "FP8_PER_CHANNEL_PER_TOKEN"},
     "modelopt",
     {"[13, 1] for rows"}},
    {{T("a.weight", F8_E4M3, 130, 96), ONE("a.weight_scale", F32)},
     2,
     {.algo = "fp8_pb_wo"},
     "modelopt",
     {"[2, 1] for blocks"}},
    {{T("a.weight", F8_E4M3, 13, 96), ONE("a.weight_scale", F32), T("a.pre_quant_scale", BF16, 96)},
     3,
     {0},
     NULL,
     {"columns", "a.pre_quant_scale"}},
    {{T("a.weight", F8_E4M3, 13, 96), ONE("a.weight_scale_inv", F64)}, 2, {0}, NULL, {"no scales of dtype F64"}},
    {{T("a.weight", I8, 13, 96), T("a.weight_scale", F32, 13, 1), T("a.weight_zero_point", I8, 13, 3)},
     3,
     {0},
     NULL,
     {"zero points of shape [13, 3]", "scales of shape [13, 1]", "a.weight_zero_point"}},
    {{T("a.weight", I8, 13, 96), T("a.weight_scale", F32, 13, 1), T("a.weight_zero_point", F32, 13, 1)},
     3,
     {0},
     NULL,
     {"no zero points of dtype F32", "a.weight_zero_point"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 12)}, 2, {0}, NULL, {"[13, 96]", "[12]", "a.SCB"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 13, 1)}, 2, {0}, NULL, {"[13, 1]", "[out]"}},
    {{T("a.weight", I8, 13), T("a.SCB", F32, 13)}, 2, {0}, NULL, {"[13]", "[out, in]"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 13), {"a.weight_format", TP_U8, 0, {0}, "\2"}},
     3,
     {0},
     NULL,
     {"weight_format is 2", "a.weight_format"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 13), {"a.weight_format", TP_U8, 1, {3}, "\0\0"}},
     3,
     {0},
     NULL,
     {"3 values"}},
};

static void what_does_not_fit_is_refused_with_both_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(refusals); i++) {
        const struct refusal *r = &refusals[i];
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        make(&f, NULL, r->entries, r->count);
        f.ck->quant = r->facts;
        f.ck->facts.quant_method = r->method;
        enum tp_status status = f.d.scheme->prepare(&f.d, &f.arena, &err);
        if (status != TP_ERR_FORMAT)
            fail_msg("refusal %zu: status %d, '%s'", i, (int)status, err.message);
        expect_text(&err, r->parts);
        assert_string_equal(err.tensor, r->entries[0].name);
        finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_that_no_package_writes_are_refused_by_number),
        cmocka_unit_test(the_number_of_an_odd_scale_counts_from_the_first_of_all),
        cmocka_unit_test(exponent_255_is_a_nan_scale),
        cmocka_unit_test(zero_points_of_floats_must_be_zero),
        cmocka_unit_test(a_run_beyond_the_end_is_refused),
        cmocka_unit_test(what_does_not_fit_is_refused_with_both_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
