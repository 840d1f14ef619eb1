/* SPDX-License-Identifier: MIT */
/* MXFP4, MXFP6, MXFP8: what the packages decode (tests/data/quantised), the formula said plainly, shapes of every
 * kind, and the refusals. */
#include "decoding.h"

#define MXFP4 (&tp_scheme_mxfp4)
#define MXFP6 (&tp_scheme_mxfp6)
#define MXFP8 (&tp_scheme_mxfp8)

static const struct tp_decode_options plain = {0};
static const struct tp_decode_options as_stored = {.mxfp4_layout = TP_MXFP4_OUT_IN};

/* ---- the packages ---- */

static void transformers_decodes_gpt_oss_to_in_out(void **state)
{
    (void)state;
    expect_golden("mxfp4-gptoss", MXFP4);
}

static void compressed_tensors_mxfp6_is_equal(void **state)
{
    (void)state;
    expect_golden("ct-mxfp6", MXFP6);
}

static void modelopt_mxfp4_is_equal(void **state)
{
    (void)state;
    expect_golden("modelopt-export-mxfp4", MXFP4);
}

static void deepseek_v4_experts_are_equal(void **state)
{
    (void)state;
    expect_golden("deepseekv4-fp4expert", MXFP4);
}

/* Row r has scale r; the packages differ about 255. */
static bool row_has_scale_255(size_t i)
{
    return i / 32 == 255;
}

static bool column_has_scale_255(size_t i)
{
    return i % 256 == 255;
}

/* torch 2.8 rounds the scale to float16 first. */
static bool column_is_rounded_twice(size_t i)
{
    return i % 256 <= 102 || i % 256 >= 143;
}

static void every_scale_is_equal(void **state)
{
    (void)state;
    const struct tp_decode_options nan = {.nan_scales = true};
    const struct allowance rows = {.leaves_out = row_has_scale_255}, columns = {.leaves_out = column_has_scale_255};
    const struct allowance f16 = {.leaves_out = column_is_rounded_twice};
    const char *f32_name = "model.layers.0.mlp.experts.down_proj.f32";
    const char *f16_name = "model.layers.0.mlp.experts.down_proj.f16";
    expect_golden_as("ct-mxfp4-all-scales", NULL, MXFP4, nan, rows);
    expect_golden_as("ct-mxfp6-all-scales", NULL, MXFP6, nan, rows);
    expect_golden_as("ct-mxfp8-all-scales", NULL, MXFP8, nan, rows);
    expect_golden_as("mxfp4-gptoss-all-scales", NULL, MXFP4, nan, columns);
    expect_golden_as("mxfp4-gptoss-all-scales", f32_name, MXFP4, nan, columns);
    expect_golden_as("mxfp4-gptoss-all-scales", f16_name, MXFP4, nan, f16);
}

static void a_scale_of_255_is_an_error_that_names_it(void **state)
{
    static const struct {
        const char *name;
        const struct tp_scheme *scheme;
    } rows[] = {{"ct-mxfp4-all-scales", MXFP4},
                {"ct-mxfp6-all-scales", MXFP6},
                {"ct-mxfp8-all-scales", MXFP8},
                {"mxfp4-gptoss-all-scales", MXFP4}};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct decoding x;
        float values[64];
        assert_int_equal(decoding_open(&x, data_path(rows[i].name, "model.safetensors"), rows[i].scheme, plain), TP_OK);
        const uint64_t last = x.d.elem_count - 64;
        assert_int_equal(decode_run(&x, last, 64, values), TP_ERR_FORMAT);
        expect_text(x.err.message, "scale number 255 is 0xff");
        expect_text(x.err.message, x.d.parts[0]->name);
        assert_string_equal(x.err.tensor, x.d.codes->name);
        decoding_close(&x);
    }
}

/* ---- known vectors ---- */

static const char v1_block[] = "10 32 54 76 98 ba dc fe 0f f0 21 43 65 87 a9 cb";
static const struct {
    uint8_t scale;
    const char *bf16; /* of its first values */
} v1[] = {
    {127, "0000 3f00 3f80 3fc0 4000 4040 4080 40c0 8000 bf00 bf80 bfc0 c000 c040 c080 c0c0 c0c0 0000 0000 c0c0 3f00 "
          "3f80 3fc0 4000 4040 4080 40c0 8000 bf00 bf80 bfc0 c000"},
    {120, "0000 3b80 3c00 3c40 3c80 3cc0 3d00 3d40 8000 bb80"},
    {0, "0000 0020 0040 0060 0080 00c0 0100 0140 8000 8020 8040 8060 8080 80c0 8100 8140"},
    {1, "0000 0040 0080 00c0 0100 0140 0180 01c0 8000 8040"},
    {254, "0000 7e80 7f00 7f40 7f80 7f80 7f80 7f80 8000 fe80 ff00 ff40 ff80 ff80 ff80 ff80"},
    {255, "7fc0 7fc0 7fc0 7fc0 7fc0 7fc0 7fc0 7fc0 ffc0 ffc0"},
};

static void blocks_of_known_scales_have_known_values(void **state)
{
    uint8_t block[16], expected[64];
    (void)state;
    from_hex(block, v1_block);
    for (size_t i = 0; i < TP_COUNT_OF(v1); i++) {
        const struct part parts[] = {
            {"w_blocks", "U8", "[1,1,1,16]", block, 16}, {"w_scales", "U8", "[1,1,1]", &v1[i].scale, 1}, {0}};
        const struct tp_decode_options nan = {.nan_scales = true};
        struct scratch s;
        struct decoding x;
        uint16_t bf16[32];
        struct tp_stats stats;
        scratch_make(&s);
        write_parts(&s, "x.safetensors", parts);
        assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), MXFP4, nan), TP_OK);
        float *values = decode_all(&x, 32);
        tp_stats_init(&stats);
        x.kernels.cast[TP_KIND_F32][TP_KIND_BF16](bf16, values, 32, false, &stats);
        const size_t known = from_hex(expected, v1[i].bf16) / 2;
        for (size_t k = 0; k < known; k++)
            assert_int_equal(bf16[k], expected[2 * k] << 8 | expected[2 * k + 1]);
        free(values);
        decoding_close(&x);
        scratch_remove(&s);
    }
}

/* zlib's */
static uint32_t crc32_of(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint32_t crc_of_cast(const struct decoding *x, const float *values, enum tp_float_kind kind)
{
    uint16_t cast[384];
    struct tp_stats stats;
    tp_stats_init(&stats);
    x->kernels.cast[TP_KIND_F32][kind](cast, values, 384, false, &stats);
    return crc32_of(cast, sizeof cast);
}

static void layouts_have_known_checksums(void **state)
{
    uint8_t blocks[192], scales[12];
    (void)state;
    for (unsigned i = 0; i < 192; i++)
        blocks[i] = (uint8_t)(7 * i + 3);
    for (unsigned i = 0; i < 12; i++)
        scales[i] = (uint8_t)(120 + i % 9);
    /* OpenAI's names, too */
    const struct part parts[] = {{"m.mlp1_weight.blocks", "U8", "[2,3,2,16]", blocks, sizeof blocks},
                                 {"m.mlp1_weight.scales", "U8", "[2,3,2]", scales, sizeof scales},
                                 {0}};
    struct scratch s;
    struct decoding x;
    scratch_make(&s);
    write_parts(&s, "x.safetensors", parts);
    assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), MXFP4, as_stored), TP_OK);
    assert_string_equal(x.d.name, "m.mlp1_weight");
    float *values = decode_all(&x, 1000);
    assert_int_equal(crc32_of(values, 384 * 4), 0x0c83fddd);
    assert_int_equal(crc_of_cast(&x, values, TP_KIND_BF16), 0xe9334ffd);
    assert_int_equal(crc_of_cast(&x, values, TP_KIND_F16), 0x4b7fb124);
    free(values);
    decoding_close(&x);
    assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), MXFP4, plain), TP_OK);
    const uint64_t turned[] = {2, 64, 3};
    assert_memory_equal(x.d.shape, turned, sizeof turned);
    values = decode_all(&x, 1000);
    assert_int_equal(crc_of_cast(&x, values, TP_KIND_BF16), 0x4aea6d70);
    free(values);
    decoding_close(&x);
    scratch_remove(&s);
}

/* ---- the formula, on shapes of every kind ---- */

static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

static float formula(const uint8_t *codes, const uint8_t *scales, size_t i, bool positive_zero)
{
    const unsigned code = codes[i / 2] >> (i % 2 * 4) & 15;
    float value = e2m1[code & 7] * (float)ldexp(1, scales[i / 32] - 127);
    if (scales[i / 32] == 255)
        value = NAN;
    return code & 8 && !(code == 8 && positive_zero) ? -value : value;
}

struct shape {
    size_t experts, rows, blocks;
};

/* All elements in pieces of odd sizes, forth and (now and then) anywhere, against the formula. */
static void expect_formula(struct decoding *x, const struct shape *shape, const uint8_t *codes, const uint8_t *scales,
                           size_t step)
{
    const bool turned = x->d.options.mxfp4_layout == TP_MXFP4_IN_OUT;
    const size_t columns = shape->blocks * 32, total = shape->experts * shape->rows * columns;
    float *piece = malloc(step * sizeof *piece);
    for (size_t at = 0, round = 0; at < total; round++) {
        const bool jump = round % 5 == 4;
        const size_t first = jump ? next_random() % total : at;
        const size_t n = total - first < step ? total - first : step;
        if (decode_run(x, first, n, piece))
            fail_msg("%s", x->err.message);
        for (size_t k = 0; k < n; k++) {
            const size_t i = first + k, expert = i / (shape->rows * columns), rest = i % (shape->rows * columns);
            const size_t row = turned ? rest % shape->rows : rest / columns;
            const size_t column = turned ? rest / shape->rows : rest % columns;
            const float want =
                formula(codes, scales, (expert * shape->rows + row) * columns + column, x->d.options.positive_zero);
            if (isnan(want) ? !isnan(piece[k]) || !signbit(want) != !signbit(piece[k])
                            : bits_of(want) != bits_of(piece[k]))
                fail_msg("[%zu, %zu, %zu]: 0x%08x, not 0x%08x", expert, row, column, bits_of(piece[k]), bits_of(want));
        }
        at = jump ? at : at + n;
    }
    free(piece);
}

static void expect_shape(const struct shape *shape, struct tp_decode_options options, size_t step, size_t scratch_bytes)
{
    const size_t blocks = shape->experts * shape->rows * shape->blocks;
    uint8_t *codes = malloc(blocks * 16 + 1), *scales = malloc(blocks + 1);
    char codes_shape[64], scales_shape[64];
    for (size_t i = 0; i < blocks * 16; i++)
        codes[i] = (uint8_t)next_random();
    for (size_t i = 0; i < blocks; i++)
        scales[i] = (uint8_t)(options.nan_scales ? next_random() : next_random() % 255);
    snprintf(codes_shape, sizeof codes_shape, "[%zu,%zu,%zu,16]", shape->experts, shape->rows, shape->blocks);
    snprintf(scales_shape, sizeof scales_shape, "[%zu,%zu,%zu]", shape->experts, shape->rows, shape->blocks);
    const struct part parts[] = {{"e_blocks", "U8", codes_shape, codes, blocks * 16},
                                 {"e_scales", "F8_E8M0", scales_shape, scales, blocks},
                                 {0}};
    struct scratch s;
    struct decoding x;
    scratch_make(&s);
    write_parts(&s, "x.safetensors", parts);
    assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), MXFP4, options), TP_OK);
    free(x.scratch.bytes);
    x.scratch.bytes = aligned_alloc(64, scratch_bytes);
    x.scratch.size_bytes = scratch_bytes;
    expect_formula(&x, shape, codes, scales, step);
    decoding_close(&x);
    scratch_remove(&s);
    free(codes);
    free(scales);
}

static void small_matrices_of_any_shape_follow_the_formula(void **state)
{
    static const struct shape shapes[] = {{1, 1, 1},  {3, 1, 2},  {2, 2, 1},   {1, 7, 3},
                                          {4, 33, 2}, {2, 64, 5}, {1, 2049, 1}};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++)
        for (unsigned k = 0; k < 8; k++) {
            const struct tp_decode_options o = {
                .mxfp4_layout = k & 1 ? TP_MXFP4_OUT_IN : TP_MXFP4_IN_OUT,
                .nan_scales = (k & 2) != 0,
                .positive_zero = (k & 4) != 0,
            };
            expect_shape(&shapes[i], o, 1u << 16, TP_SCRATCH_MIN_BYTES);
            expect_shape(&shapes[i], o, 61, TP_SCRATCH_MIN_BYTES);
        }
}

static void experts_larger_than_the_scratch_are_tiled(void **state)
{
    static const struct shape wide = {2, 301, 250}, few_rows = {2, 3, 30001}, many_rows = {1, 60001, 2};
    (void)state;
    expect_shape(&wide, plain, 100003, TP_SCRATCH_MIN_BYTES);
    expect_shape(&wide, plain, 1u << 20, 5 * TP_SCRATCH_MIN_BYTES);
    expect_shape(&few_rows, plain, 500009, TP_SCRATCH_MIN_BYTES);
    expect_shape(&many_rows, plain, 1u << 20, TP_SCRATCH_MIN_BYTES);
}

static void stored_order_needs_little_scratch(void **state)
{
    static const struct shape shape = {1, 300, 250};
    (void)state;
    expect_shape(&shape, as_stored, 1u << 20, TP_SCRATCH_MIN_BYTES);
}

static void matrices_are_never_transposed(void **state)
{
    uint8_t codes[2 * 3 * 16] = {0}, scales[6] = {0};
    const struct part parts[] = {
        {"e_blocks", "U8", "[2,3,16]", codes, sizeof codes}, {"e_scales", "U8", "[2,3]", scales, sizeof scales}, {0}};
    const uint64_t expected[] = {2, 96};
    struct scratch s;
    struct decoding x;
    (void)state;
    scratch_make(&s);
    write_parts(&s, "x.safetensors", parts);
    assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), MXFP4, plain), TP_OK);
    assert_int_equal(x.d.rank, 2);
    assert_memory_equal(x.d.shape, expected, sizeof expected);
    assert_string_equal(x.d.name, "e");
    decoding_close(&x);
    scratch_remove(&s);
}

static void empty_experts_are_fine(void **state)
{
    const struct part parts[] = {
        {"e_blocks", "U8", "[0,3,5,16]", NULL, 0}, {"e_scales", "U8", "[0,3,5]", NULL, 0}, {0}};
    struct scratch s;
    struct decoding x;
    float none[1];
    (void)state;
    scratch_make(&s);
    write_parts(&s, "x.safetensors", parts);
    assert_int_equal(decoding_open(&x, scratch_at(&s, "x.safetensors"), MXFP4, plain), TP_OK);
    assert_int_equal(x.d.elem_count, 0);
    assert_int_equal(decode_run(&x, 0, 0, none), TP_OK);
    decoding_close(&x);
    scratch_remove(&s);
}

/* ---- hostile files ---- */

static void scales_that_do_not_fit_are_refused_with_both_shapes(void **state)
{
    uint8_t codes[2 * 3 * 2 * 16] = {0}, scales[24] = {0};
    static const char *const shapes[] = {"[2,3,3]", "[3,2,2]", "[2,6]", "[12]", "[2,3,2,1]", "[]"};
    static const size_t sizes[] = {18, 12, 12, 12, 12, 1};
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(shapes); i++) {
        const struct part parts[] = {{"e_blocks", "U8", "[2,3,2,16]", codes, sizeof codes},
                                     {"e_scales", "U8", shapes[i], scales, sizes[i]},
                                     {0}};
        EXPECT_REFUSED(parts, MXFP4, TP_ERR_FORMAT, "[2, 3, 2, 16]", "[2, 3, 2]", "e_scales");
    }
}

static void codes_of_odd_shapes_are_refused(void **state)
{
    uint8_t bytes[256] = {0};
    (void)state;
    const struct part not_16[] = {
        {"e_blocks", "U8", "[2,3,2,8]", bytes, 96}, {"e_scales", "U8", "[2,3,2]", bytes, 12}, {0}};
    const struct part scalar[] = {{"e_blocks", "U8", "[]", bytes, 1}, {"e_scales", "U8", "[]", bytes, 1}, {0}};
    const struct part vector[] = {{"e_blocks", "U8", "[2,16]", bytes, 32}, {"e_scales", "U8", "[2]", bytes, 2}, {0}};
    const struct part deep[] = {
        {"e_blocks", "U8", "[1,1,1,1,16]", bytes, 16}, {"e_scales", "U8", "[1,1,1,1]", bytes, 1}, {0}};
    const struct part ragged[] = {
        {"e.weight", "F8_E4M3", "[2,40]", bytes, 80}, {"e.weight_scale", "U8", "[2,2]", bytes, 4}, {0}};
    const struct part grid[] = {
        {"e.weight", "F8_E4M3", "[2,64]", bytes, 128}, {"e.weight_scale", "U8", "[1,1]", bytes, 1}, {0}};
    EXPECT_REFUSED(not_16, MXFP4, TP_ERR_FORMAT, "[2, 3, 2, 8]", "16 bytes", "e_scales");
    EXPECT_REFUSED(scalar, MXFP4, TP_ERR_FORMAT, "[]", "e_scales");
    EXPECT_REFUSED(vector, MXFP4, TP_ERR_FORMAT, "[2, 16]", "e_scales");
    EXPECT_REFUSED(deep, MXFP4, TP_ERR_FORMAT, "[1, 1, 1, 1, 16]", "e_scales");
    EXPECT_REFUSED(ragged, MXFP8, TP_ERR_FORMAT, "[2, 40]", "32 bytes", "e.weight_scale");
    EXPECT_REFUSED(grid, MXFP8, TP_ERR_FORMAT, "[2, 64]", "[2, 2]", "[1, 1]", "e.weight_scale");
}

static void shapes_that_cannot_be_counted_are_refused(void **state)
{
    (void)state;
    const struct part parts[] = {{"e_blocks", "U8", "[0,1,72057594037927936,16]", NULL, 0},
                                 {"e_scales", "U8", "[0,1,72057594037927936]", NULL, 0},
                                 {0}};
    EXPECT_REFUSED(parts, MXFP4, TP_ERR_FORMAT, "more elements than can be counted");
}

static void mlx_words_are_unsupported(void **state)
{
    uint8_t bytes[64] = {0};
    (void)state;
    const struct part parts[] = {{"e.weight", "U32", "[2,8]", bytes, 64}, {"e.scales", "U8", "[2,2]", bytes, 4}, {0}};
    EXPECT_REFUSED(parts, MXFP4, TP_ERR_UNSUPPORTED, "MLX");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transformers_decodes_gpt_oss_to_in_out),
        cmocka_unit_test(compressed_tensors_mxfp6_is_equal),
        cmocka_unit_test(modelopt_mxfp4_is_equal),
        cmocka_unit_test(deepseek_v4_experts_are_equal),
        cmocka_unit_test(every_scale_is_equal),
        cmocka_unit_test(a_scale_of_255_is_an_error_that_names_it),
        cmocka_unit_test(blocks_of_known_scales_have_known_values),
        cmocka_unit_test(layouts_have_known_checksums),
        cmocka_unit_test(small_matrices_of_any_shape_follow_the_formula),
        cmocka_unit_test(experts_larger_than_the_scratch_are_tiled),
        cmocka_unit_test(stored_order_needs_little_scratch),
        cmocka_unit_test(matrices_are_never_transposed),
        cmocka_unit_test(empty_experts_are_fine),
        cmocka_unit_test(scales_that_do_not_fit_are_refused_with_both_shapes),
        cmocka_unit_test(codes_of_odd_shapes_are_refused),
        cmocka_unit_test(shapes_that_cannot_be_counted_are_refused),
        cmocka_unit_test(mlx_words_are_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
