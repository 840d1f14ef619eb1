/* SPDX-License-Identifier: MIT */
/* What config.json says against what the tensors are. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "quant/groups.h"
#include "quant/refuse.h"
#include "scratch.h"

/* The smallest group of each scheme: codes, then members. */
struct entry {
    const char *name;
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[4];
};

static const struct {
    const char *scheme;
    struct entry members[4];
} groups[] = {
    {"mxfp4", {{"e.down_blocks", TP_U8, 4, {1, 2, 1, 16}}, {"e.down_scales", TP_U8, 3, {1, 2, 1}}}},
    {"mxfp6", {{"a.weight_packed", TP_U8, 2, {2, 24}}, {"a.weight_scale", TP_U8, 2, {2, 1}}}},
    {"mxfp8", {{"b.weight", TP_F8_E4M3, 2, {2, 32}}, {"b.weight_scale", TP_U8, 2, {2, 1}}}},
    {"nvfp4",
     {{"c.weight", TP_U8, 2, {2, 8}}, {"c.weight_scale", TP_F8_E4M3, 2, {2, 1}}, {"c.weight_scale_2", TP_F32, 0, {0}}}},
    {"fp8", {{"d.weight", TP_F8_E4M3, 2, {2, 3}}, {"d.weight_scale_inv", TP_F32, 2, {1, 1}}}},
    {"int8", {{"f.weight", TP_I8, 2, {2, 3}}, {"f.weight_scale", TP_F16, 2, {2, 1}}}},
    {"int4", {{"g.weight", TP_U8, 2, {2, 128}}, {"g.weight_scale", TP_F32, 2, {4, 1}}}},
    {"pack-quantized", {{"h.weight_packed", TP_I32, 2, {2, 4}}, {"h.weight_scale", TP_BF16, 2, {2, 1}}}},
    {"gptq", {{"i.qweight", TP_I32, 2, {4, 8}}, {"i.scales", TP_F16, 2, {1, 8}}, {"i.qzeros", TP_I32, 2, {1, 1}}}},
    {"awq", {{"j.qweight", TP_I32, 2, {32, 1}}, {"j.scales", TP_F16, 2, {1, 8}}, {"j.qzeros", TP_I32, 2, {1, 1}}}},
    {"bnb-nf4",
     {{"k.weight", TP_U8, 2, {32, 1}},
      {"k.weight.quant_state.bitsandbytes__nf4", TP_U8, 1, {80}},
      {"k.weight.absmax", TP_F32, 1, {1}},
      {"k.weight.quant_map", TP_F32, 1, {16}}}},
    {"bnb-fp4",
     {{"l.weight", TP_U8, 2, {32, 1}},
      {"l.weight.quant_state.bitsandbytes__fp4", TP_U8, 1, {80}},
      {"l.weight.absmax", TP_F32, 1, {1}},
      {"l.weight.quant_map", TP_F32, 1, {16}}}},
    {"bnb-int8", {{"m.weight", TP_I8, 2, {2, 3}}, {"m.SCB", TP_F32, 1, {2}}}},
    {"mlx", {{"n.weight", TP_U32, 2, {2, 8}}, {"n.scales", TP_F16, 2, {2, 1}}, {"n.biases", TP_F16, 2, {2, 1}}}},
};

static void add(struct tp_checkpoint *ck, const struct entry *e)
{
    static uint64_t next_offset;
    struct tp_extent extent = {.offset_bytes = next_offset};
    uint64_t size_bytes;
    assert_true(tp_shape_measure(e->shape, e->rank, e->dtype, &extent.elem_count, &size_bytes));
    next_offset += extent.size_bytes = size_bytes;
    struct tp_tensor_spec spec = {.name = e->name,
                                  .name_len = strlen(e->name),
                                  .dtype = e->dtype,
                                  .shape = e->shape,
                                  .rank = e->rank,
                                  .extents = &extent,
                                  .extent_count = 1};
    assert_int_equal(tp_checkpoint_add_tensor(ck, &spec, NULL), TP_OK);
}

/* A checkpoint with groups of these schemes, at most three; a NULL ends them. */
static struct tp_checkpoint *make(const char *const *schemes, struct tp_quant_facts quant)
{
    struct tp_checkpoint *ck = NULL;
    size_t count = 0;
    assert_int_equal(tp_checkpoint_new(&ck, "x", "x", NULL), TP_OK);
    ck->quant = quant;
    ck->facts.quant_method = quant.method;
    for (; count < 3 && schemes[count]; count++)
        for (size_t i = 0; i < TP_COUNT_OF(groups); i++)
            for (size_t m = 0; m < 4 && strcmp(groups[i].scheme, schemes[count]) == 0 && groups[i].members[m].name; m++)
                add(ck, &groups[i].members[m]);
    assert_int_equal(tp_checkpoint_index_names(ck, NULL), TP_OK);
    assert_int_equal(tp_groups_find(ck, NULL), TP_OK);
    assert_int_equal(tp_checkpoint_group_count(ck), count);
    return ck;
}

#define SCHEMES(...) ((const char *const[4]){__VA_ARGS__})
#define FACTS(...) ((struct tp_quant_facts){__VA_ARGS__}) /* -1 and 0 of the flags are one here */

static void expect_ok(const char *const *schemes, struct tp_quant_facts quant)
{
    struct tp_error err = {.code = TP_OK};
    struct tp_checkpoint *ck = make(schemes, quant);
    if (tp_quant_check_method(ck, &err) != TP_OK)
        fail_msg("%s", err.message);
    tp_checkpoint_close(ck);
}

static void expect_refused(const char *const *schemes, struct tp_quant_facts quant, enum tp_status status,
                           const char *message, const char *hint)
{
    struct tp_error err = {.code = TP_OK};
    struct tp_checkpoint *ck = make(schemes, quant);
    enum tp_status found = tp_quant_check_method(ck, &err);
    if (found != status || strcmp(err.message, message) != 0 || !strstr(err.hint, hint))
        fail_msg("status %s: %s\nhint: %s\nexpected: %s\nhint: %s", tp_status_name(found), err.message, err.hint,
                 message, hint);
    assert_string_equal(err.path, "x");
    tp_checkpoint_close(ck);
}

static void every_method_has_its_schemes(void **state)
{
    (void)state;
    expect_ok(SCHEMES("mxfp4"), FACTS(.method = "mxfp4"));
    expect_ok(SCHEMES("fp8", "mxfp4"), FACTS(.method = "fp8", .block_rows = 128, .block_columns = 128));
    expect_ok(SCHEMES("fp8"), FACTS(.method = "fbgemm_fp8"));
    expect_ok(SCHEMES("int8"), FACTS(.method = "blockwise_int8"));
    expect_ok(SCHEMES("pack-quantized"), FACTS(.method = "compressed-tensors", .format = "pack-quantized"));
    expect_ok(SCHEMES("fp8"), FACTS(.method = "compressed-tensors", .format = "naive-quantized"));
    expect_ok(SCHEMES("int8"), FACTS(.method = "compressed-tensors", .format = "int-quantized"));
    expect_ok(SCHEMES("mxfp6"), FACTS(.method = "compressed-tensors", .format = "mxfp6-pack-quantized"));
    expect_ok(SCHEMES("mxfp8"), FACTS(.method = "compressed-tensors", .format = "mxfp8-quantized"));
    expect_ok(SCHEMES("fp8", "pack-quantized"), FACTS(.method = "compressed-tensors", .format = "mixed-precision"));
    expect_ok(SCHEMES("nvfp4"), FACTS(.method = "modelopt", .algo = "NVFP4"));
    expect_ok(SCHEMES("fp8"), FACTS(.method = "modelopt", .algo = "fp8_pb_wo"));
    expect_ok(SCHEMES("int8"), FACTS(.method = "modelopt", .algo = "W8A8_SQ_PER_CHANNEL"));
    expect_ok(SCHEMES("fp8", "nvfp4"), FACTS(.method = "modelopt", .algo = "MIXED_PRECISION"));
    expect_ok(SCHEMES("gptq"), FACTS(.method = "gptq", .checkpoint_format = "gptq_v2"));
    expect_ok(SCHEMES("gptq"), FACTS(.method = "gptq", .planar = -1, .is_marlin = -1));
    expect_ok(SCHEMES("awq"), FACTS(.method = "awq", .version = "GEMM"));
    expect_ok(SCHEMES("bnb-nf4", "bnb-fp4", "bnb-int8"), FACTS(.method = "bitsandbytes"));
}

static void each_of_several_ways_allows_its_schemes(void **state)
{
    static const struct tp_quant_way formats[] = {{.format = "nvfp4-pack-quantized"}, {.format = "pack-quantized"}};
    static const struct tp_quant_way odd[] = {{.format = "sparse-24-bitmask"}};
    static const struct tp_quant_way layers[] = {{.algo = "FP8"}, {.algo = "W4A16_AWQ"}};
    static const struct tp_quant_way w4a8[] = {{.algo = "FP8"}, {.algo = "W4A8_AWQ"}};
    (void)state;
    expect_ok(SCHEMES("fp8", "nvfp4", "pack-quantized"),
              FACTS(.method = "compressed-tensors", .format = "float-quantized", .others = formats, .other_count = 2));
    expect_refused(
        SCHEMES("fp8", "int8"),
        FACTS(.method = "compressed-tensors", .format = "float-quantized", .others = formats, .other_count = 2),
        TP_ERR_FORMAT, "config.json says format 'float-quantized' or another, but names and dtypes say 'int8'",
        "config.json");
    expect_refused(SCHEMES("fp8"),
                   FACTS(.method = "compressed-tensors", .format = "float-quantized", .others = odd, .other_count = 1),
                   TP_ERR_UNSUPPORTED, "format 'sparse-24-bitmask' cannot be decoded: two of four values left out",
                   "package");
    expect_ok(SCHEMES("fp8", "int4"),
              FACTS(.method = "modelopt", .algo = "MIXED_PRECISION", .others = layers, .other_count = 2));
    expect_refused(SCHEMES("fp8", "nvfp4"),
                   FACTS(.method = "modelopt", .algo = "MIXED_PRECISION", .others = layers, .other_count = 2),
                   TP_ERR_FORMAT, "config.json says quant_algo 'FP8' or another, but names and dtypes say 'nvfp4'",
                   "config");
    expect_refused(
        SCHEMES("fp8"), FACTS(.method = "modelopt", .algo = "MIXED_PRECISION", .others = w4a8, .other_count = 2),
        TP_ERR_UNSUPPORTED,
        "quant_algo 'W4A8_AWQ' cannot be decoded: its scales have scales of their own (weight_scale_2)", "package");
    expect_refused(
        SCHEMES("gptq"), FACTS(.method = "gptq", .has_more = true), TP_ERR_UNSUPPORTED,
        "quantisation with more ways in config.json than are kept cannot be decoded: there is no telling which "
        "may be meant",
        "package");
}

static void bytes_are_int4_only_where_modelopt_says_so(void **state)
{
    (void)state;
    expect_ok(SCHEMES("int4"), FACTS(.method = "modelopt", .algo = "W4A16_AWQ"));
    static const char *const algos[] = {NULL, "MIXED_PRECISION"};
    for (size_t i = 0; i < TP_COUNT_OF(algos); i++)
        expect_refused(SCHEMES("int4"), FACTS(.method = algos[i] ? "modelopt" : NULL, .algo = algos[i]), TP_ERR_FORMAT,
                       "bytes with scales may be int4, but config.json has no quant_algo W4A16_AWQ to say so",
                       "--dequantize=int4");
}

static void a_config_without_quantisation_contradicts_nobody(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(groups); i++)
        if (strcmp(groups[i].scheme, "int4") != 0)
            expect_ok(SCHEMES(groups[i].scheme), FACTS(.method = NULL));
    expect_ok(SCHEMES(NULL), FACTS(.method = NULL));
    expect_ok(SCHEMES(NULL), FACTS(.method = "fp8")); /* all modules may have been left out */
    expect_ok(SCHEMES("mlx"), FACTS(.bits = 4, .group_size = 64));
}

static void what_cannot_be_decoded_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const unsupported[] = {"exl2",    "aqlm",    "hqq",        "quip",   "eetq",
                                              "vptq",    "torchao", "bitblas",    "gguf",   "spqr",
                                              "TorchAO", "marlin",  "auto-round", "quanto", "higgs"};
    char start[64];
    for (size_t i = 0; i < TP_COUNT_OF(unsupported); i++) {
        struct tp_error err = {.code = TP_OK};
        struct tp_checkpoint *ck = make(SCHEMES(NULL), FACTS(.method = unsupported[i]));
        snprintf(start, sizeof start, "quant_method '%s' cannot be decoded: ", unsupported[i]);
        assert_int_equal(tp_quant_check_method(ck, &err), TP_ERR_UNSUPPORTED);
        assert_ptr_equal(strstr(err.message, start), err.message);
        assert_non_null(strstr(err.hint, "package that made it"));
        tp_checkpoint_close(ck);
    }
    expect_refused(SCHEMES("nvfp4"), FACTS(.method = "modelopt", .algo = "NVFP4_AWQ"), TP_ERR_UNSUPPORTED,
                   "quant_algo 'NVFP4_AWQ' cannot be decoded: its inputs have scales of their own (pre_quant_scale)",
                   "package that made it");
    expect_refused(SCHEMES("gptq"), FACTS(.method = "gptq", .checkpoint_format = "marlin"), TP_ERR_UNSUPPORTED,
                   "checkpoint_format 'marlin' cannot be decoded: Marlin's order of codes", "package that made it");
    expect_refused(SCHEMES("gptq"), FACTS(.method = "gptq", .checkpoint_format = "bitblas"), TP_ERR_UNSUPPORTED,
                   "checkpoint_format 'bitblas' cannot be decoded: BitBLAS's order of codes", "package that made it");
    expect_refused(SCHEMES("gptq"), FACTS(.method = "gptq", .is_marlin = 1), TP_ERR_UNSUPPORTED,
                   "quantisation with is_marlin_format cannot be decoded: Marlin's order of codes", "package");
    expect_refused(SCHEMES("gptq"), FACTS(.method = "gptq", .planar = 1), TP_ERR_UNSUPPORTED,
                   "quantisation with planar cannot be decoded: the bits of a code lie apart", "package");
    expect_refused(SCHEMES("awq"), FACTS(.method = "awq", .version = "gemv"), TP_ERR_UNSUPPORTED,
                   "version 'gemv' cannot be decoded: codes along the inputs", "package");
    expect_refused(SCHEMES("awq"), FACTS(.method = "awq", .version = "GEMV_FAST"), TP_ERR_UNSUPPORTED,
                   "version 'GEMV_FAST' cannot be decoded: codes in the order of a GPU", "package");
    expect_refused(SCHEMES("awq"), FACTS(.method = "awq", .checkpoint_format = "llm-awq"), TP_ERR_UNSUPPORTED,
                   "checkpoint_format 'llm-awq' cannot be decoded: codes in the order of a GPU", "package");
    expect_refused(SCHEMES("pack-quantized"), FACTS(.method = "compressed-tensors", .format = "sparse-24-bitmask"),
                   TP_ERR_UNSUPPORTED, "format 'sparse-24-bitmask' cannot be decoded: two of four values left out",
                   "package");
    expect_refused(SCHEMES("pack-quantized"), FACTS(.method = "compressed-tensors", .format = "marlin-24"),
                   TP_ERR_UNSUPPORTED, "format 'marlin-24' cannot be decoded: Marlin's order of sparse codes",
                   "package");
}

static void what_is_not_known_is_refused_by_name(void **state)
{
    (void)state;
    expect_refused(SCHEMES("fp8"), FACTS(.method = "fp8x"), TP_ERR_UNSUPPORTED, "quant_method 'fp8x' is not known",
                   "--dequantize=SCHEME");
    expect_refused(SCHEMES("fp8"), FACTS(.method = ""), TP_ERR_UNSUPPORTED, "quant_method '' is not known", "SCHEME");
    expect_refused(SCHEMES("fp8"), FACTS(.method = "\x1b[2J"), TP_ERR_UNSUPPORTED,
                   "quant_method '\\x1b[2J' is not known", "SCHEME");
    expect_refused(SCHEMES("fp8"), FACTS(.method = "modelopt", .algo = "FP3"), TP_ERR_UNSUPPORTED,
                   "quant_algo 'FP3' is not known", "SCHEME");
    expect_refused(SCHEMES("int8"), FACTS(.method = "compressed-tensors", .format = "new-quantized"),
                   TP_ERR_UNSUPPORTED, "format 'new-quantized' is not known", "SCHEME");
    expect_refused(SCHEMES("gptq"), FACTS(.method = "gptq", .checkpoint_format = "gptq_v3"), TP_ERR_UNSUPPORTED,
                   "checkpoint_format 'gptq_v3' is not known", "SCHEME");
    expect_ok(SCHEMES("fp8"), FACTS(.method = "fp8", .format = "new", .algo = "x", .version = "y",
                                    .checkpoint_format = "z")); /* words of other methods mean nothing here */
}

static void a_config_that_the_tensors_contradict_is_refused(void **state)
{
    (void)state;
    expect_refused(SCHEMES("fp8"), FACTS(.method = "gptq"), TP_ERR_FORMAT,
                   "config.json says quant_method 'gptq', but names and dtypes say 'fp8'", "--dequantize=fp8 ");
    expect_refused(SCHEMES("fp8", "bnb-nf4"), FACTS(.method = "fp8"), TP_ERR_FORMAT,
                   "config.json says quant_method 'fp8', but names and dtypes say 'bnb-nf4'", "--dequantize=bnb-nf4 ");
    expect_refused(SCHEMES("gptq"), FACTS(.method = "bitsandbytes"), TP_ERR_FORMAT,
                   "config.json says quant_method 'bitsandbytes', but names and dtypes say 'gptq'", "config.json");
    expect_refused(SCHEMES("mxfp4"), FACTS(.method = "modelopt", .algo = "NVFP4"), TP_ERR_FORMAT,
                   "config.json says quant_algo 'NVFP4', but names and dtypes say 'mxfp4'", "config.json");
    expect_refused(SCHEMES("fp8"), FACTS(.method = "compressed-tensors", .format = "pack-quantized"), TP_ERR_FORMAT,
                   "config.json says format 'pack-quantized', but names and dtypes say 'fp8'", "config.json");
    struct tp_error err = {.code = TP_OK};
    struct tp_checkpoint *ck = make(SCHEMES("fp8", "mlx"), FACTS(.method = "fp8"));
    assert_int_equal(tp_quant_check_method(ck, &err), TP_ERR_FORMAT);
    assert_string_equal(err.tensor, "n.weight");
    tp_checkpoint_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_has_its_schemes),
        cmocka_unit_test(each_of_several_ways_allows_its_schemes),
        cmocka_unit_test(bytes_are_int4_only_where_modelopt_says_so),
        cmocka_unit_test(a_config_without_quantisation_contradicts_nobody),
        cmocka_unit_test(what_cannot_be_decoded_is_refused_by_name),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(a_config_that_the_tensors_contradict_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
