/* SPDX-License-Identifier: MIT */
/* What config.json and hf_quant_config.json say about codes. Texts are what the producing packages write. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "checkpoint/checkpoint.h"
#include "scratch.h"

/* A checkpoint without tensors beside these files (NULL: not there). */
static struct tp_checkpoint *read_both(const char *config, const char *modelopt)
{
    struct scratch s;
    struct tp_checkpoint *ck = NULL;
    scratch_make(&s);
    if (config)
        scratch_put(&s, "config.json", config, strlen(config), 0);
    if (modelopt)
        scratch_put(&s, "hf_quant_config.json", modelopt, strlen(modelopt), 0);
    assert_int_equal(tp_checkpoint_new(&ck, s.path, s.path, NULL), TP_OK);
    assert_int_equal(tp_checkpoint_read_config(ck, NULL), TP_OK);
    scratch_remove(&s);
    return ck;
}

static void expect_text(const char *found, const char *expected)
{
    if (!expected)
        assert_null(found);
    else {
        assert_non_null(found);
        assert_string_equal(found, expected);
    }
}

static void expect_facts(const char *config, const char *modelopt, struct tp_quant_facts e)
{
    struct tp_checkpoint *ck = read_both(config, modelopt);
    const struct tp_quant_facts *q = &ck->quant;
    assert_int_equal(tp_checkpoint_note_count(ck), 0);
    assert_int_equal(q->bits, e.bits);
    assert_int_equal(q->group_size, e.group_size);
    assert_int_equal(q->block_rows, e.block_rows);
    assert_int_equal(q->block_columns, e.block_columns);
    expect_text(q->method, e.method);
    expect_text(tp_checkpoint_facts(ck)->quant_method, e.method);
    expect_text(q->algo, e.algo);
    expect_text(q->format, e.format);
    expect_text(q->checkpoint_format, e.checkpoint_format);
    expect_text(q->version, e.version);
    expect_text(q->quantizer, e.quantizer);
    assert_int_equal(q->zero_point, e.zero_point);
    assert_int_equal(q->planar, e.planar);
    assert_int_equal(q->is_marlin, e.is_marlin);
    tp_checkpoint_close(ck);
}

#define UNSAID .zero_point = -1, .planar = -1, .is_marlin = -1
#define EXPECT(config, modelopt, ...) expect_facts(config, modelopt, (struct tp_quant_facts){__VA_ARGS__})

static void a_silent_config_says_nothing(void **state)
{
    (void)state;
    EXPECT(NULL, NULL, UNSAID);
    EXPECT("{\"model_type\":\"llama\"}", NULL, UNSAID);
    EXPECT("{\"quantization_config\":null}", NULL, UNSAID);
    EXPECT("{\"quantization_config\":[1,{\"bits\":4}]}", NULL, UNSAID);
}

static void the_constants_of_pythons_json_stop_nobody(void **state)
{
    (void)state;
    EXPECT("{\"a\":NaN,\"b\":[-Infinity],\"quantization_config\":{\"x\":Infinity,\"quant_method\":\"gptq\","
           "\"bits\":NaN}}",
           NULL, .method = "gptq", UNSAID);
}

static void gptq_says_which_packing_and_by_whom(void **state)
{
    (void)state;
    EXPECT("{\"quantization_config\":{\"bits\":4,\"group_size\":-1,\"desc_act\":true,\"quant_method\":\"gptq\","
           "\"checkpoint_format\":\"gptq_v2\",\"meta\":{\"quantizer\":[\"gptqmodel:7.7.0\",\"other\"],\"planar\":true},"
           "\"is_marlin_format\":false}}",
           NULL, .bits = 4, .method = "gptq", .checkpoint_format = "gptq_v2", .quantizer = "gptqmodel:7.7.0",
           .zero_point = -1, .planar = 1, .is_marlin = 0);
    EXPECT("{\"quantization_config\":{\"bits\":3,\"group_size\":128,\"quant_method\":\"gptq\",\"format\":\"gptq\","
           "\"meta\":{\"quantizer\":\"optimum:1.2\"},\"planar\":false,\"is_marlin_format\":true}}",
           NULL, .bits = 3, .group_size = 128, .method = "gptq", .format = "gptq", .checkpoint_format = "gptq",
           .quantizer = "optimum:1.2", .zero_point = -1, .planar = 0, .is_marlin = 1);
}

static void awq_says_its_version_and_its_zero_points(void **state)
{
    (void)state;
    EXPECT("{\"quantization_config\":{\"bits\":4,\"group_size\":128,\"modules_to_not_convert\":null,"
           "\"quant_method\":\"awq\",\"version\":\"gemm\",\"zero_point\":true}}",
           NULL, .bits = 4, .group_size = 128, .method = "awq", .version = "gemm", .zero_point = 1, .planar = -1,
           .is_marlin = -1);
    EXPECT("{\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"GEMV\",\"zero_point\":false}}", NULL,
           .method = "awq", .version = "GEMV", .zero_point = 0, .planar = -1, .is_marlin = -1);
}

static void a_block_is_a_list_of_two_numbers(void **state)
{
    (void)state;
    EXPECT("{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,256]}}", NULL,
           .method = "fp8", .block_rows = 128, .block_columns = 256, UNSAID);
    EXPECT("{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"group_0\":"
           "{\"weights\":{\"num_bits\":8,\"group_size\":null,\"block_structure\":[4,8]}}}}}",
           NULL, .method = "compressed-tensors", .bits = 8, .block_rows = 4, .block_columns = 8, UNSAID);
    static const char *const others[] = {
        "[128]",    "[128,128,128]",           "[]", "[1.5,2]", "[128,[128]]", "[{},1,2]", "128", "null", "\"128x128\"",
        "[-1,128]", "[99999999999999999999,1]"};
    for (size_t i = 0; i < TP_COUNT_OF(others); i++) {
        char config[256];
        snprintf(config, sizeof config, "{\"quantization_config\":{\"weight_block_size\":%s,\"quant_method\":\"fp8\"}}",
                 others[i]);
        EXPECT(config, NULL, .method = "fp8", UNSAID);
    }
}

static void the_first_config_group_has_the_format(void **state)
{
    (void)state;
    EXPECT("{\"quantization_config\":{\"format\":\"mixed-precision\",\"config_groups\":{"
           "\"group_0\":{\"format\":\"pack-quantized\",\"weights\":{\"num_bits\":4,\"group_size\":32},"
           "\"input_activations\":{\"num_bits\":8,\"group_size\":7}},"
           "\"group_1\":{\"format\":\"float-quantized\",\"weights\":{\"num_bits\":8,\"group_size\":64}}},"
           "\"quant_method\":\"compressed-tensors\"}}",
           NULL, .method = "compressed-tensors", .format = "pack-quantized", .bits = 4, .group_size = 32, UNSAID);
    EXPECT("{\"text_config\":{\"quantization_config\":{\"config_groups\":{\"group_0\":{\"format\":null}},"
           "\"format\":\"int-quantized\",\"quant_method\":\"compressed-tensors\"}}}",
           NULL, .method = "compressed-tensors", .format = "int-quantized", UNSAID);
    EXPECT("{\"compression_config\":{\"format\":\"marlin-24\",\"quant_method\":\"compressed-tensors\"}}", NULL,
           .method = "compressed-tensors", .format = "marlin-24", UNSAID);
}

/* -- several ways -- */

static void expect_others(const char *config, const char *modelopt, const struct tp_quant_way *ways, size_t count)
{
    struct tp_checkpoint *ck = read_both(config, modelopt);
    assert_int_equal(ck->quant.other_count, count);
    assert_false(ck->quant.has_more);
    for (size_t i = 0; i < count; i++) {
        const struct tp_quant_way way = tp_quant_way_at(&ck->quant, i + 1);
        assert_int_equal(way.bits, ways[i].bits);
        assert_int_equal(way.group_size, ways[i].group_size);
        assert_int_equal(way.block_rows, ways[i].block_rows);
        assert_int_equal(way.block_columns, ways[i].block_columns);
        assert_int_equal(way.sym, ways[i].sym);
        expect_text(way.strategy, ways[i].strategy);
        expect_text(way.format, ways[i].format);
        expect_text(way.algo, ways[i].algo);
    }
    tp_checkpoint_close(ck);
}
#define EXPECT_OTHERS(config, modelopt, ...)                                    \
    expect_others(config, modelopt, (const struct tp_quant_way[]){__VA_ARGS__}, \
                  sizeof((const struct tp_quant_way[]){__VA_ARGS__}) / sizeof(struct tp_quant_way))

static void overrides_of_gptqmodel_say_what_differs(void **state)
{
    (void)state;
    EXPECT_OTHERS("{\"quantization_config\":{\"dynamic\":{"
                  "\"+:.*gate.*\":{\"bits\":8,\"group_size\":64},"
                  "\"model\\\\.layers\\\\.1\\\\..*\":{\"group_size\":-1},"
                  "\"-:.*lm_head\":{\"bits\":3},"
                  "\".*again.*\":{\"group_size\":64,\"bits\":8,\"desc_act\":true},"
                  "\"+:.*same.*\":{\"bits\":4},\"+:.*none.*\":{},\"+:.*odd.*\":7,"
                  "\"+:.*asym.*\":{\"sym\":false}},"
                  "\"bits\":4,\"group_size\":128,\"sym\":true,\"quant_method\":\"gptq\"}}",
                  NULL, {.bits = 8, .group_size = 64, .sym = 1}, {.bits = 4, .group_size = 0, .sym = 1},
                  {.bits = 4, .group_size = 128, .sym = 0});
    struct tp_checkpoint *ck = read_both("{\"quantization_config\":{\"bits\":4,\"dynamic\":null}}", NULL);
    assert_int_equal(ck->quant.other_count, 0);
    tp_checkpoint_close(ck);
}

static void every_config_group_is_a_way(void **state)
{
    (void)state;
    EXPECT_OTHERS(
        "{\"quantization_config\":{\"format\":\"mixed-precision\",\"config_groups\":{"
        "\"group_0\":{\"format\":\"float-quantized\",\"weights\":{\"num_bits\":8,\"strategy\":"
        "\"channel\",\"group_size\":null}},"
        "\"group_1\":{\"weights\":{\"num_bits\":4,\"group_size\":16,\"strategy\":\"tensor_group\"},"
        "\"format\":\"nvfp4-pack-quantized\"},"
        "\"group_2\":{\"weights\":{\"num_bits\":8,\"strategy\":\"block\",\"block_structure\":[128,64]}}},"
        "\"quant_method\":\"compressed-tensors\"}}",
        NULL, {.bits = 4, .group_size = 16, .strategy = "tensor_group", .format = "nvfp4-pack-quantized", .sym = -1},
        {.bits = 8,
         .strategy = "block",
         .block_rows = 128,
         .block_columns = 64,
         .format = "mixed-precision",
         .sym = -1});
}

static void every_algo_of_a_layer_is_a_way(void **state)
{
    (void)state;
    static const char layers[] = "{\"quantization\":{\"quant_algo\":\"MIXED_PRECISION\",\"quantized_layers\":{"
                                 "\"model.layers.0.q\":{\"quant_algo\":\"FP8\"},"
                                 "\"model.layers.0.k\":{\"quant_algo\":\"FP8\"},"
                                 "\"model.layers.0.up\":{\"quant_algo\":\"NVFP4\",\"group_size\":16},"
                                 "\"model.layers.0.v\":{\"quant_algo\":null}}}}";
    EXPECT_OTHERS("{\"quantization_config\":{\"quant_method\":\"modelopt\",\"quant_algo\":\"MIXED_PRECISION\","
                  "\"config_groups\":{\"group_0\":{\"weights\":{\"num_bits\":8}},"
                  "\"group_1\":{\"weights\":{\"num_bits\":4,\"group_size\":16}}}}}",
                  layers, {.algo = "FP8", .sym = -1}, {.algo = "NVFP4", .group_size = 16, .sym = -1});
    EXPECT_OTHERS(NULL, layers, {.algo = "FP8", .sym = -1}, {.algo = "NVFP4", .group_size = 16, .sym = -1});
}

static void more_ways_than_are_kept_are_noticed(void **state)
{
    (void)state;
    char *text = malloc(1 << 20), *end = text;
    end += snprintf(end, 100, "{\"quantization_config\":{\"bits\":4,\"quant_method\":\"gptq\",\"dynamic\":{");
    for (unsigned i = 0; i < 5000; i++)
        end += snprintf(end, 100, "%s\"+:%u\":{\"group_size\":%u}", i ? "," : "", i, i % (TP_QUANT_WAYS_MAX + 1) + 1);
    memcpy(end, "}}}", 4);
    struct tp_checkpoint *ck = read_both(text, NULL);
    assert_int_equal(ck->quant.other_count, TP_QUANT_WAYS_MAX);
    assert_true(ck->quant.has_more);
    tp_checkpoint_close(ck);
    free(text);
}

static void modelopts_own_file_counts_where_config_json_is_silent(void **state)
{
    (void)state;
    static const char own[] = "{\"producer\":{\"name\":\"modelopt\",\"version\":\"0.47.0\"},\"model_type\":\"no\","
                              "\"quantization\":{\"quant_algo\":\"NVFP4\",\"group_size\":16,\"bits\":4}}";
    EXPECT("{\"model_type\":\"llama\"}", own, .method = "modelopt", .algo = "NVFP4", .group_size = 16, .bits = 4,
           UNSAID);
    EXPECT(NULL, own, .method = "modelopt", .algo = "NVFP4", .group_size = 16, .bits = 4, UNSAID);
    EXPECT("{\"quantization_config\":{\"quant_method\":\"modelopt\",\"quant_algo\":\"mxfp4\"}}", own,
           .method = "modelopt", .algo = "mxfp4", .group_size = 16, .bits = 4, UNSAID);
    EXPECT("{\"quantization_config\":{\"quant_algo\":\"FP8\",\"bits\":8}}", own, .method = "modelopt", .algo = "FP8",
           .group_size = 16, .bits = 8, UNSAID);
    EXPECT("{\"quantization_config\":{\"quant_method\":\"fp8\"}}", own, .method = "fp8", UNSAID);
    EXPECT("{\"quantization\":{\"group_size\":64,\"bits\":4}}", own, .group_size = 64, .bits = 4, UNSAID); /* MLX */
    struct tp_checkpoint *ck = read_both(NULL, own);
    assert_null(tp_checkpoint_facts(ck)->model_type);
    tp_checkpoint_close(ck);
}

static void half_a_file_is_a_note_and_no_fact(void **state)
{
    (void)state;
    struct tp_checkpoint *ck = read_both("{\"quantization_config\":{\"bits\":4,\"quant_method\":\"gptq\"", NULL);
    assert_int_equal(tp_checkpoint_note_count(ck), 1);
    assert_int_equal(ck->quant.bits, 0);
    assert_null(ck->quant.method);
    tp_checkpoint_close(ck);
    ck = read_both("{\"quantization_config\":{\"bits\":4,\"quant_method\":\"modelopt\"}}", "{\"quantization\":{");
    assert_int_equal(tp_checkpoint_note_count(ck), 1);
    assert_int_equal(ck->quant.bits, 4);
    assert_string_equal(ck->quant.method, "modelopt");
    tp_checkpoint_close(ck);
}

static void odd_values_are_no_facts(void **state)
{
    (void)state;
    EXPECT("{\"quantization_config\":{\"bits\":\"4\",\"group_size\":-2,\"quant_method\":7,\"zero_point\":1,"
           "\"version\":\"a\\u0000b\",\"meta\":{\"quantizer\":[[\"gptqmodel\"],\"late\"]},\"checkpoint_format\":{}}}",
           NULL, UNSAID);
    EXPECT("{\"quantization_config\":{\"bits\":4.0,\"group_size\":1e3,\"meta\":\"x\",\"is_marlin_format\":\"true\"}}",
           NULL, UNSAID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_config_says_nothing),
        cmocka_unit_test(the_constants_of_pythons_json_stop_nobody),
        cmocka_unit_test(gptq_says_which_packing_and_by_whom),
        cmocka_unit_test(awq_says_its_version_and_its_zero_points),
        cmocka_unit_test(a_block_is_a_list_of_two_numbers),
        cmocka_unit_test(the_first_config_group_has_the_format),
        cmocka_unit_test(overrides_of_gptqmodel_say_what_differs),
        cmocka_unit_test(every_config_group_is_a_way),
        cmocka_unit_test(every_algo_of_a_layer_is_a_way),
        cmocka_unit_test(more_ways_than_are_kept_are_noticed),
        cmocka_unit_test(modelopts_own_file_counts_where_config_json_is_silent),
        cmocka_unit_test(half_a_file_is_a_note_and_no_fact),
        cmocka_unit_test(odd_values_are_no_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
