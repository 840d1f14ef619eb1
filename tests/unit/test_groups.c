/* SPDX-License-Identifier: MIT */
/* Which tensors are taken for one, and which are not. Rows of the tables are names, dtypes and shapes as the producing
 * packages write them. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "quant/groups.h"
#include "scratch.h"

struct entry {
    const char *name;
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[4];
};

struct expected {
    const char *scheme, *name;
    uint64_t parameter_count;
    uint32_t member_count;
};

static uint64_t next_offset;

static void add(struct tp_checkpoint *ck, const struct entry *e)
{
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

/* A checkpoint without files. */
static struct tp_checkpoint *make(const struct entry *entries, size_t count, struct tp_quant_facts quant,
                                  const char *method)
{
    struct tp_checkpoint *ck = NULL;
    assert_int_equal(tp_checkpoint_new(&ck, "x", "x", NULL), TP_OK);
    ck->quant = quant;
    ck->facts.quant_method = method;
    for (size_t i = 0; i < count; i++)
        add(ck, &entries[i]);
    assert_int_equal(tp_checkpoint_index_names(ck, NULL), TP_OK);
    assert_int_equal(tp_groups_find(ck, NULL), TP_OK);
    return ck;
}

/* All entries but the last `outside` make one group. */
static void expect_one(const struct entry *entries, size_t count, size_t outside, struct tp_quant_facts quant,
                       const char *method, struct expected e)
{
    struct tp_checkpoint *ck = make(entries, count, quant, method);
    uint64_t size_bytes = 0;
    assert_int_equal(tp_checkpoint_group_count(ck), 1);
    const struct tp_group *g = tp_checkpoint_group(ck, 0);
    assert_string_equal(g->scheme, e.scheme);
    assert_string_equal(g->name, e.name);
    assert_int_equal(g->parameter_count, e.parameter_count);
    assert_int_equal(g->member_count, count - outside);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(ck->tensors[i].group, i < count - outside ? 0 : TP_NO_GROUP);
        if (i < count - outside)
            size_bytes += ck->tensors[i].size_bytes;
    }
    assert_int_equal(g->size_bytes, size_bytes);
    assert_int_equal(tp_checkpoint_note_count(ck), 0);
    tp_checkpoint_close(ck);
}

#define NO_QUANT ((struct tp_quant_facts){.bits = 0, .group_size = 0})
#define EXPECT(entries, outside, quant, method, ...) \
    expect_one(entries, TP_COUNT_OF(entries), outside, quant, method, (struct expected){__VA_ARGS__})

static void mxfp4_of_gpt_oss_is_two_values_a_byte(void **state)
{
    (void)state;
    static const struct entry hf[] = {{"l.0.mlp.experts.down_proj_blocks", TP_U8, 4, {2, 64, 3, 16}},
                                      {"l.0.mlp.experts.down_proj_scales", TP_U8, 3, {2, 64, 3}},
                                      {"l.0.mlp.experts.down_proj_bias", TP_BF16, 2, {2, 64}}};
    static const struct entry openai[] = {{"block.0.mlp.mlp1_weight.blocks", TP_U8, 4, {2, 64, 3, 16}},
                                          {"block.0.mlp.mlp1_weight.scales", TP_U8, 3, {2, 64, 3}},
                                          {"block.0.mlp.mlp1_bias", TP_BF16, 2, {2, 64}},
                                          {"block.0.mlp.norm.scale", TP_BF16, 1, {64}}};
    EXPECT(hf, 1, NO_QUANT, NULL, "mxfp4", "l.0.mlp.experts.down_proj", 2 * 64 * 96, 2);
    EXPECT(openai, 2, NO_QUANT, NULL, "mxfp4", "block.0.mlp.mlp1_weight", 2 * 64 * 96, 2);
}

static void fp8_with_any_of_its_scales_is_one_value_a_code(void **state)
{
    (void)state;
    static const struct entry deepseek[] = {{"a.q_proj.weight", TP_F8_E4M3, 2, {576, 300}},
                                            {"a.q_proj.weight_scale_inv", TP_F32, 2, {5, 3}},
                                            {"a.q_proj.bias", TP_BF16, 1, {576}}};
    static const struct entry experts[] = {{"experts.gate_up_proj", TP_F8_E4M3, 3, {4, 8, 16}},
                                           {"experts.gate_up_proj_scale_inv", TP_BF16, 3, {4, 1, 1}}};
    static const struct entry tensors[] = {{"k_proj.weight", TP_F8_E4M3, 2, {13, 37}},
                                           {"k_proj.weight_scale", TP_BF16, 1, {1}},
                                           {"k_proj.input_scale", TP_F32, 0, {0}},
                                           {"k_proj.k_scale", TP_F32, 0, {0}},
                                           {"attn.k_scale", TP_F32, 0, {0}}};
    static const struct entry fbgemm[] = {{"experts.down_proj", TP_F8_E4M3, 3, {4, 16, 8}},
                                          {"experts.down_proj_scale", TP_F32, 3, {4, 8, 1}}};
    static const struct entry v4[] = {{"ffn.w1.weight", TP_F8_E4M3, 2, {256, 256}},
                                      {"ffn.w1.scale", TP_F8_E8M0, 2, {2, 2}}};
    static const struct entry mx[] = {{"m.weight", TP_F8_E4M3, 2, {4, 64}}, {"m.weight_scale", TP_U8, 2, {4, 2}}};
    EXPECT(deepseek, 1, NO_QUANT, "fp8", "fp8", "a.q_proj", 576 * 300, 2);
    EXPECT(experts, 0, NO_QUANT, NULL, "fp8", "experts.gate_up_proj", 512, 2);
    EXPECT(tensors, 1, NO_QUANT, NULL, "fp8", "k_proj", 13 * 37, 4);
    EXPECT(fbgemm, 0, NO_QUANT, "fbgemm_fp8", "fp8", "experts.down_proj", 512, 2);
    EXPECT(v4, 0, NO_QUANT, NULL, "fp8", "ffn.w1", 65536, 2);
    EXPECT(mx, 0, NO_QUANT, NULL, "mxfp8", "m", 256, 2);
}

static void int8_is_one_value_a_code(void **state)
{
    (void)state;
    static const struct entry ct[] = {{"m.weight", TP_I8, 2, {13, 37}},
                                      {"m.weight_scale", TP_F16, 2, {13, 1}},
                                      {"m.weight_zero_point", TP_I8, 2, {13, 1}}};
    static const struct entry bnb[] = {{"m.weight", TP_I8, 2, {13, 37}},
                                       {"m.SCB", TP_F32, 1, {13}},
                                       {"m.weight_format", TP_U8, 0, {0}},
                                       {"m.bias", TP_F16, 1, {13}}};
    static const struct entry block[] = {{"m.weight", TP_I8, 2, {128, 128}}, {"m.weight_scale_inv", TP_F32, 2, {1, 1}}};
    EXPECT(ct, 0, NO_QUANT, NULL, "int8", "m", 481, 3);
    EXPECT(bnb, 1, NO_QUANT, NULL, "bnb-int8", "m", 481, 3);
    EXPECT(block, 0, NO_QUANT, NULL, "int8", "m", 16384, 2);
}

static void four_bit_floats_are_told_apart_by_their_scales(void **state)
{
    (void)state;
    static const struct entry modelopt[] = {{"m.weight", TP_U8, 2, {13, 24}},
                                            {"m.weight_scale", TP_F8_E4M3, 2, {13, 3}},
                                            {"m.weight_scale_2", TP_F32, 0, {0}},
                                            {"m.input_scale", TP_F32, 0, {0}}};
    static const struct entry ct[] = {{"m.weight_packed", TP_U8, 2, {13, 24}},
                                      {"m.weight_scale", TP_F8_E4M3, 2, {13, 3}},
                                      {"m.weight_global_scale", TP_F32, 1, {1}},
                                      {"m.input_global_scale", TP_F32, 1, {1}}};
    static const struct entry mx[] = {{"m.weight_packed", TP_U8, 2, {8, 32}}, {"m.weight_scale", TP_U8, 2, {8, 2}}};
    static const struct entry mx6[] = {{"m.weight_packed", TP_U8, 2, {8, 48}}, {"m.weight_scale", TP_U8, 2, {8, 2}}};
    static const struct entry modelopt_mx[] = {{"m.weight", TP_U8, 2, {8, 32}}, {"m.weight_scale", TP_U8, 2, {8, 2}}};
    static const struct entry awq[] = {{"m.weight", TP_U8, 2, {8, 128}},
                                       {"m.weight_scale", TP_F32, 2, {16, 1}},
                                       {"m.pre_quant_scale", TP_BF16, 1, {128}}};
    static const struct entry v4[] = {{"w1.weight", TP_I8, 2, {16, 64}}, {"w1.scale", TP_F8_E8M0, 2, {16, 4}}};
    static const struct entry v4_int8[] = {{"w1.weight", TP_I8, 2, {16, 64}}, {"w1.scale", TP_F8_E8M0, 2, {1, 1}}};
    static const struct entry mlx[] = {{"m.weight", TP_U32, 2, {8, 8}}, {"m.scales", TP_U8, 2, {8, 2}}};
    EXPECT(modelopt, 0, NO_QUANT, NULL, "nvfp4", "m", 624, 4);
    EXPECT(ct, 0, NO_QUANT, NULL, "nvfp4", "m", 624, 4);
    EXPECT(mx, 0, NO_QUANT, NULL, "mxfp4", "m", 512, 2);
    EXPECT(mx6, 0, NO_QUANT, NULL, "mxfp6", "m", 512, 2);
    EXPECT(modelopt_mx, 0, NO_QUANT, NULL, "mxfp4", "m", 512, 2);
    EXPECT(awq, 0, NO_QUANT, NULL, "int4", "m", 2048, 3);
    EXPECT(v4, 0, NO_QUANT, NULL, "mxfp4", "w1", 2048, 2);
    EXPECT(v4_int8, 0, NO_QUANT, NULL, "int8", "w1", 1024, 2);
    EXPECT(mlx, 0, NO_QUANT, NULL, "mxfp4", "m", 512, 2);
}

static void packed_integers_follow_the_declared_bits(void **state)
{
    (void)state;
    static const struct entry four[] = {{"m.weight_packed", TP_I32, 2, {27, 12}},
                                        {"m.weight_scale", TP_BF16, 2, {27, 3}},
                                        {"m.weight_shape", TP_I64, 1, {2}},
                                        {"m.weight_zero_point", TP_I32, 2, {4, 3}},
                                        {"m.weight_g_idx", TP_I32, 1, {96}}};
    static const struct entry three[] = {{"m.weight_packed", TP_I32, 2, {11, 10}}, /* the old packing, ten a word */
                                         {"m.weight_scale", TP_BF16, 2, {11, 3}},
                                         {"m.weight_shape", TP_I64, 1, {2}}};
    EXPECT(four, 0, NO_QUANT, NULL, "pack-quantized", "m", 27 * 96, 5);
    EXPECT(four, 0, ((struct tp_quant_facts){.bits = 8, .group_size = 0}), NULL, "pack-quantized", "m", 27 * 48, 5);
    EXPECT(three, 0, ((struct tp_quant_facts){.bits = 3, .group_size = 32}), NULL, "pack-quantized", "m", 11 * 96, 3);
    EXPECT(three, 0, ((struct tp_quant_facts){.bits = 3, .group_size = 4711}), NULL, "pack-quantized", "m", 1173, 3);
}

static void of_several_ways_the_one_that_fits_counts(void **state)
{
    (void)state;
    static const struct tp_quant_way others[] = {{.bits = 8, .group_size = 64}, {.bits = 4, .group_size = 32}};
    static const struct entry packed4[] = {{"m.weight_packed", TP_I32, 2, {27, 12}},
                                           {"m.weight_scale", TP_BF16, 2, {27, 3}}};
    static const struct entry packed8[] = {{"m.weight_packed", TP_I32, 2, {27, 48}},
                                           {"m.weight_scale", TP_BF16, 2, {27, 3}}};
    static const struct entry gptq8[] = {
        {"m.qweight", TP_I32, 2, {25, 64}}, {"m.scales", TP_F16, 2, {2, 64}}, {"m.g_idx", TP_I32, 1, {98}}};
    const struct tp_quant_facts facts = {.bits = 3, .group_size = 128, .others = others, .other_count = 2};
    EXPECT(packed4, 0, facts, NULL, "pack-quantized", "m", 27 * 96, 2);
    EXPECT(packed8, 0, facts, NULL, "pack-quantized", "m", 27 * 192, 2);
    EXPECT(gptq8, 0, facts, "gptq", "gptq", "m", 98 * 64, 3);
}

static void gptq_and_awq_share_names_and_are_told_apart_by_shapes(void **state)
{
    (void)state;
    static const struct entry gptq[] = {{"m.qweight", TP_I32, 2, {12, 64}},
                                        {"m.qzeros", TP_I32, 2, {3, 8}},
                                        {"m.scales", TP_F16, 2, {3, 64}},
                                        {"m.g_idx", TP_I32, 1, {96}},
                                        {"m.bias", TP_F16, 1, {64}}};
    static const struct entry gptq8[] = {
        {"m.qweight", TP_I32, 2, {24, 64}}, {"m.qzeros", TP_I32, 2, {3, 16}}, {"m.scales", TP_F16, 2, {3, 64}}};
    static const struct entry gptq_tail[] = {
        {"m.qweight", TP_I32, 2, {13, 40}}, /* 100 inputs: the last word is half full */
        {"m.qzeros", TP_I32, 2, {1, 5}},
        {"m.scales", TP_F16, 2, {1, 40}},
        {"m.g_idx", TP_I32, 1, {100}}};
    static const struct entry awq[] = {
        {"m.qweight", TP_I32, 2, {96, 8}}, {"m.qzeros", TP_I32, 2, {3, 8}}, {"m.scales", TP_F16, 2, {3, 64}}};
    static const struct entry awq_symmetric[] = {{"m.qweight", TP_I32, 2, {96, 8}}, {"m.scales", TP_F16, 2, {3, 64}}};
    static const struct entry gemv[] = {{"m.qweight", TP_I32, 2, {32, 16}}, {"m.scales", TP_F16, 2, {32, 32}}};
    EXPECT(gptq, 1, NO_QUANT, NULL, "gptq", "m", 96 * 64, 4);
    EXPECT(gptq8, 0, NO_QUANT, NULL, "gptq", "m", 96 * 64, 3); /* the zero points say 8 bits */
    EXPECT(gptq8, 0, ((struct tp_quant_facts){.bits = 4, .group_size = 128}), "gptq", "gptq", "m", 96 * 64, 3);
    EXPECT(gptq_tail, 0, NO_QUANT, "gptq", "gptq", "m", 100 * 40, 4);
    EXPECT(awq, 0, NO_QUANT, NULL, "awq", "m", 96 * 64, 3);
    EXPECT(awq_symmetric, 0, NO_QUANT, NULL, "awq", "m", 96 * 64, 2);
    EXPECT(gemv, 0, NO_QUANT, "awq", "awq", "m", 32 * 128, 2);
}

static void bitsandbytes_is_known_by_its_quant_state(void **state)
{
    (void)state;
    static const struct entry nf4[] = {{"m.weight", TP_U8, 2, {2560, 1}},
                                       {"m.weight.absmax", TP_F32, 1, {80}},
                                       {"m.weight.quant_map", TP_F32, 1, {16}},
                                       {"m.weight.quant_state.bitsandbytes__nf4", TP_U8, 1, {75}}};
    static const struct entry nested[] = {{"m.weight", TP_BF16, 2, {1280, 1}}, /* bytes, whatever the dtype says */
                                          {"m.weight.absmax", TP_U8, 1, {80}},
                                          {"m.weight.nested_absmax", TP_F32, 1, {1}},
                                          {"m.weight.nested_quant_map", TP_F32, 1, {256}},
                                          {"m.weight.quant_map", TP_F32, 1, {16}},
                                          {"m.weight.quant_state.bitsandbytes__fp4", TP_U8, 1, {160}}};
    EXPECT(nf4, 0, NO_QUANT, NULL, "bnb-nf4", "m.weight", 5120, 4);
    EXPECT(nested, 0, NO_QUANT, NULL, "bnb-fp4", "m.weight", 5120, 6);
}

static void mlx_has_a_scale_and_a_bias_for_each_group(void **state)
{
    (void)state;
    static const struct entry four[] = {{"m.weight", TP_U32, 2, {32, 16}},
                                        {"m.scales", TP_BF16, 2, {32, 2}},
                                        {"m.biases", TP_BF16, 2, {32, 2}},
                                        {"m.bias", TP_BF16, 1, {32}}};
    EXPECT(four, 1, NO_QUANT, NULL, "mlx", "m", 32 * 128, 3);
    EXPECT(four, 1, ((struct tp_quant_facts){.bits = 4, .group_size = 64}), NULL, "mlx", "m", 32 * 128, 3);
    EXPECT(four, 1, ((struct tp_quant_facts){.bits = 8, .group_size = 32}), NULL, "mlx", "m", 32 * 64, 3);
}

static void what_only_looks_like_a_group_is_left_alone(void **state)
{
    (void)state;
    static const struct entry entries[] = {
        {"norm.scale", TP_BF16, 1, {64}},    {"norm.weight", TP_BF16, 1, {64}},
        {"layer", TP_F32, 1, {64}},          {"layer_scale", TP_F32, 1, {64}},
        {"x.scales", TP_F16, 1, {4}},        {"y_scales", TP_U8, 1, {4}},
        {"a.weight", TP_BF16, 2, {8, 8}},    {"a.weight_scale", TP_F32, 1, {8}},
        {"b.weight", TP_I8, 2, {8, 8}},      {"b.scale", TP_F32, 1, {8}},
        {"c.weight", TP_U32, 2, {8, 8}},     {"c.scales", TP_F16, 2, {8, 1}},
        {"d.weight", TP_F8_E4M3, 2, {8, 8}}, {"e.weight_scale_inv", TP_F32, 1, {1}},
        {"f.k_scale", TP_F32, 0, {0}},       {"g.weight", TP_U8, 2, {8, 8}},
        {"g.weight.absmax", TP_F32, 1, {1}}, {"h.weight", TP_I8, 2, {8, 8}},
        {"h.SCB", TP_F16, 1, {8}},           {"", TP_U8, 1, {1}},
        {"_scale", TP_F32, 1, {1}},          {"position_ids", TP_I64, 2, {1, 512}},
        {".weight", TP_F32, 1, {1}},         {".weight_scale", TP_F32, 1, {1}},
    };
    struct tp_checkpoint *ck = make(entries, TP_COUNT_OF(entries), NO_QUANT, NULL);
    assert_int_equal(tp_checkpoint_group_count(ck), 0);
    for (size_t i = 0; i < TP_COUNT_OF(entries); i++)
        assert_int_equal(ck->tensors[i].group, TP_NO_GROUP);
    assert_int_equal(tp_checkpoint_note_count(ck), 0);
    tp_checkpoint_close(ck);
}

static void codes_without_scales_are_noted(void **state)
{
    (void)state;
    static const struct entry entries[] = {{"a_blocks", TP_U8, 1, {16}},
                                           {"b.qweight", TP_I32, 1, {16}},
                                           {"c.weight_packed", TP_I32, 1, {16}},
                                           {"d_blocks", TP_F32, 1, {16}}};
    struct tp_checkpoint *ck = make(entries, TP_COUNT_OF(entries), NO_QUANT, NULL);
    assert_int_equal(tp_checkpoint_group_count(ck), 0);
    assert_int_equal(tp_checkpoint_note_count(ck), 1);
    assert_string_equal(tp_checkpoint_note(ck, 0), "3 tensors look like quantised codes without scales (a_blocks)");
    tp_checkpoint_close(ck);
}

static void names_of_any_length_have_siblings(void **state)
{
    (void)state;
    static char codes[TP_NAME_MAX_BYTES + 1], scales[TP_NAME_MAX_BYTES + 1];
    memset(codes, 'n', TP_NAME_MAX_BYTES);
    memcpy(scales, codes, sizeof codes);
    memcpy(codes + TP_NAME_MAX_BYTES - 7, "_blocks", 8);
    memcpy(scales + TP_NAME_MAX_BYTES - 7, "_scales", 8);
    const struct entry entries[] = {{codes, TP_U8, 1, {16}}, {scales, TP_U8, 1, {1}}};
    struct tp_checkpoint *ck = make(entries, 2, NO_QUANT, NULL);
    assert_int_equal(tp_checkpoint_group_count(ck), 1);
    tp_checkpoint_close(ck);
}

/* ---- the headers of gpt-oss-20b ---- */

static char *add_text(char *end, const char *name, const char *dtype, const char *shape, uint64_t size,
                      uint64_t *offset)
{
    end +=
        snprintf(end, 256, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", *offset ? "," : "{",
                 name, dtype, shape, (unsigned long long)*offset, (unsigned long long)(*offset + size));
    *offset += size;
    return end;
}

static void gpt_oss_20b_has_20914757184_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *name, *dtype, *shape;
        uint64_t size;
    } layer[] = {
        {"input_layernorm.weight", "BF16", "[2880]", 5760},
        {"mlp.experts.down_proj_bias", "BF16", "[32,2880]", 184320},
        {"mlp.experts.down_proj_blocks", "U8", "[32,2880,90,16]", 132710400},
        {"mlp.experts.down_proj_scales", "U8", "[32,2880,90]", 8294400},
        {"mlp.experts.gate_up_proj_bias", "BF16", "[32,5760]", 368640},
        {"mlp.experts.gate_up_proj_blocks", "U8", "[32,5760,90,16]", 265420800},
        {"mlp.experts.gate_up_proj_scales", "U8", "[32,5760,90]", 16588800},
        {"mlp.router.bias", "BF16", "[32]", 64},
        {"mlp.router.weight", "BF16", "[32,2880]", 184320},
        {"post_attention_layernorm.weight", "BF16", "[2880]", 5760},
        {"self_attn.k_proj.bias", "BF16", "[512]", 1024},
        {"self_attn.k_proj.weight", "BF16", "[512,2880]", 2949120},
        {"self_attn.o_proj.bias", "BF16", "[2880]", 5760},
        {"self_attn.o_proj.weight", "BF16", "[2880,4096]", 23592960},
        {"self_attn.q_proj.bias", "BF16", "[4096]", 8192},
        {"self_attn.q_proj.weight", "BF16", "[4096,2880]", 23592960},
        {"self_attn.sinks", "BF16", "[64]", 128},
        {"self_attn.v_proj.bias", "BF16", "[512]", 1024},
        {"self_attn.v_proj.weight", "BF16", "[512,2880]", 2949120},
    };
    struct scratch s;
    char *text = malloc(1 << 18), *end = text, name[128];
    uint64_t offset = 0;
    for (int l = 0; l < 24; l++)
        for (size_t i = 0; i < TP_COUNT_OF(layer); i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer[i].name);
            end = add_text(end, name, layer[i].dtype, layer[i].shape, layer[i].size, &offset);
        }
    end = add_text(end, "model.embed_tokens.weight", "BF16", "[201088,2880]", 1158266880, &offset);
    end = add_text(end, "lm_head.weight", "BF16", "[201088,2880]", 1158266880, &offset);
    end = add_text(end, "model.norm.weight", "BF16", "[2880]", 5760, &offset);
    memcpy(end, "}", 2);
    assert_int_equal(offset, 13761264768u); /* the index's total_size */
    scratch_make(&s);
    scratch_safetensors(&s, "model.safetensors", text, offset, NULL, 0); /* a hole of 13.8 GB */
    struct tp_checkpoint *ck = NULL;
    assert_int_equal(tp_checkpoint_open(&ck, s.path, NULL, NULL), TP_OK);
    assert_int_equal(tp_checkpoint_tensor_count(ck), 459);
    assert_int_equal(tp_checkpoint_group_count(ck), 48);
    assert_int_equal(tp_checkpoint_parameter_count(ck), 20914757184u);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mxfp4_of_gpt_oss_is_two_values_a_byte),
        cmocka_unit_test(fp8_with_any_of_its_scales_is_one_value_a_code),
        cmocka_unit_test(int8_is_one_value_a_code),
        cmocka_unit_test(four_bit_floats_are_told_apart_by_their_scales),
        cmocka_unit_test(packed_integers_follow_the_declared_bits),
        cmocka_unit_test(of_several_ways_the_one_that_fits_counts),
        cmocka_unit_test(gptq_and_awq_share_names_and_are_told_apart_by_shapes),
        cmocka_unit_test(bitsandbytes_is_known_by_its_quant_state),
        cmocka_unit_test(mlx_has_a_scale_and_a_bias_for_each_group),
        cmocka_unit_test(what_only_looks_like_a_group_is_left_alone),
        cmocka_unit_test(codes_without_scales_are_noted),
        cmocka_unit_test(names_of_any_length_have_siblings),
        cmocka_unit_test(gpt_oss_20b_has_20914757184_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
