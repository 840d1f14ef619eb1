/* SPDX-License-Identifier: MIT */
/* How scales lie over codes: every shape in which they are written, against the formulas, said plainly, on random
 * codes. */
#include "scaled.h"

/* ---- the formulas, on every shape that scales are written in ---- */

typedef uint64_t (*scale_of_fn)(const uint64_t *shape, unsigned rank, uint64_t i);

static uint64_t columns_of(const uint64_t *shape, unsigned rank)
{
    return shape[rank - 1];
}

static uint64_t the_only(const uint64_t *shape, unsigned rank, uint64_t i)
{
    (void)shape, (void)rank, (void)i;
    return 0;
}

static uint64_t of_row(const uint64_t *shape, unsigned rank, uint64_t i)
{
    return i / columns_of(shape, rank);
}

static uint64_t of_first_dimension(const uint64_t *shape, unsigned rank, uint64_t i)
{
    uint64_t each = 1;
    for (unsigned k = 1; k < rank; k++)
        each *= shape[k];
    return i / each;
}

static uint64_t of_32_columns(const uint64_t *shape, unsigned rank, uint64_t i)
{
    (void)shape, (void)rank; /* rows are whole groups */
    return i / 32;
}

static uint64_t of_code(const uint64_t *shape, unsigned rank, uint64_t i)
{
    (void)shape, (void)rank;
    return i;
}

static uint64_t of_block(const uint64_t *shape, unsigned rank, uint64_t i, uint64_t down, uint64_t across)
{
    uint64_t rows = shape[rank - 2], columns = shape[rank - 1];
    uint64_t matrix = i / (rows * columns), r = i / columns % rows, c = i % columns;
    uint64_t grid_rows = (rows + down - 1) / down, grid_columns = (columns + across - 1) / across;
    return (matrix * grid_rows + r / down) * grid_columns + c / across;
}

static uint64_t of_block_128(const uint64_t *shape, unsigned rank, uint64_t i)
{
    return of_block(shape, rank, i, 128, 128);
}

static uint64_t of_block_4_by_8(const uint64_t *shape, unsigned rank, uint64_t i)
{
    return of_block(shape, rank, i, 4, 8);
}

static uint64_t of_expert_and_column(const uint64_t *shape, unsigned rank, uint64_t i)
{
    (void)rank;
    return i / (shape[1] * shape[2]) * shape[2] + i % shape[2];
}

static double *values_of(const struct fixture *f, const struct tp_tensor *t)
{
    double *values = malloc(((size_t)t->elem_count + 1) * sizeof *values);
    uint8_t *bytes = malloc((size_t)t->size_bytes + 1);
    assert_int_equal(tp_tensor_read(f->ck, t, 0, t->elem_count, bytes, NULL), TP_OK);
    if (t->dtype == TP_U8)
        tp_dtype_to_f64(values, bytes, (size_t)t->elem_count, TP_F8_E8M0);
    else
        tp_dtype_to_f64(values, bytes, (size_t)t->elem_count, (enum tp_dtype)t->dtype);
    free(bytes);
    return values;
}

static float formula(enum tp_dtype dtype, double q, double scale, double zero, bool bnb)
{
    float s = (float)scale;
    if (bnb) {
        volatile float product = (float)q * s, part = 1.0F / 127.0F;
        return product * part;
    }
    if (dtype == TP_I8)
        return (float)((int)q - (int)zero) * s;
    return (float)q * s;
}

static void expect_formula(const struct fixture *f, const struct tp_tensor *scales, const struct tp_tensor *zeros,
                           scale_of_fn scale_of)
{
    const struct tp_tensor *t = f->d.codes;
    double *q = values_of(f, t), *s = values_of(f, scales), *z = zeros ? values_of(f, zeros) : NULL;
    float *got = decode_in_every_way(f), *want = malloc(((size_t)t->elem_count + 1) * sizeof *want);
    for (uint64_t i = 0; i < t->elem_count; i++) {
        uint64_t k = scale_of(t->shape, t->rank, i);
        assert_true(k < scales->elem_count);
        want[i] = formula((enum tp_dtype)t->dtype, q[i], s[k], z ? z[k] : 0, f->d.scheme == &tp_scheme_bnb_int8);
    }
    expect_bits(got, want, 0, t->elem_count);
    free(got);
    free(want);
    free(q);
    free(s);
    free(z);
}

struct grid_row {
    struct entry entries[3];
    size_t count;
    scale_of_fn scale_of;
    struct tp_quant_facts facts;
    const char *method;
};

static void run_grid_row(const struct grid_row *row)
{
    struct fixture f;
    make(&f, NULL, row->entries, row->count);
    f.ck->quant = row->facts;
    f.ck->facts.quant_method = row->method;
    prepare(&f);
    expect_formula(&f, tp_checkpoint_find(f.ck, row->entries[1].name),
                   row->count > 2 ? tp_checkpoint_find(f.ck, row->entries[2].name) : NULL, row->scale_of);
    finish(&f);
}

static const struct grid_row grid_rows[] = {
    /* one */
    {{T("a.weight", F8_E4M3, 13, 37), ONE("a.weight_scale", F32)}, 2, the_only, {0}, NULL},
    {{T("a.weight", F8_E4M3, 13, 37), T("a.weight_scale", F16, 1)}, 2, the_only, {.algo = "FP8"}, "modelopt"},
    {{T("a.weight", F8_E5M2, 37), T("a.weight_scale", BF16, 1, 1)}, 2, the_only, {0}, "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 300, 200), ONE("a.weight_scale_inv", BF16)}, 2, the_only, {0}, "fp8"},
    {{T("e.w", F8_E4M3, 4, 5, 6), T("e.w_scale_inv", F32, 4, 1, 1)}, 2, of_first_dimension, {0}, "fp8"},
    {{T("e.weight", F8_E4M3, 4, 5, 6), T("e.weight_scale", F32, 4)},
     2,
     of_first_dimension,
     {.algo = "FP8"},
     "modelopt"},
    /* rows */
    {{T("a.weight", F8_E4M3, 13, 37), T("a.weight_scale", F32, 13, 1)}, 2, of_row, {0}, "fbgemm_fp8"},
    {{T("a.weight", F8_E4M3, 13, 37), T("a.weight_scale", F32, 13)},
     2,
     of_row,
     {.algo = "fp8_per_channel_per_token"},
     "modelopt"},
    {{T("a.weight", F8_E4M3, 1, 37), T("a.weight_scale", F32, 1)},
     2,
     of_row,
     {.algo = "FP8_PER_CHANNEL_PER_TOKEN"},
     "modelopt"},
    {{T("a.weight", F8_E4M3FNUZ, 37, 1), T("a.weight_scale", F32, 37, 1)}, 2, of_row, {0}, NULL},
    {{T("e.weight", F8_E4M3, 4, 5, 6), T("e.weight_scale", BF16, 4, 5, 1)}, 2, of_row, {0}, NULL},
    {{T("conv.weight", F8_E4M3, 6, 5, 3, 3), T("conv.weight_scale", BF16, 6, 1, 1, 1)},
     2,
     of_first_dimension,
     {0},
     NULL},
    {{T("a.weight", F8_E4M3, 70000, 3), T("a.weight_scale", BF16, 70000, 1)}, 2, of_row, {0}, NULL},
    /* groups */
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 3)}, 2, of_32_columns, {.group_size = 32}, NULL},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 3)}, 2, of_32_columns, {0}, NULL},
    {{T("e.weight", F8_E4M3, 2, 3, 64), T("e.weight_scale", F32, 2, 3, 2)}, 2, of_32_columns, {0}, NULL},
    {{T("a.weight", F8_E4M3, 900, 100), T("a.weight_scale", BF16, 900, 100)}, 2, of_code, {.group_size = 1}, NULL},
    /* blocks */
    {{T("a.weight", F8_E4M3, 300, 500), T("a.weight_scale_inv", F32, 3, 4)}, 2, of_block_128, BLOCKS(128, 128), "fp8"},
    {{T("a.weight", F8_E4M3, 300, 500), T("a.weight_scale_inv", BF16, 3, 4)}, 2, of_block_128, {0}, NULL},
    {{T("a.weight", F8_E4M3, 300, 500), T("a.weight_scale_inv", F16, 3, 4)}, 2, of_block_128, {0}, NULL},
    {{T("a.weight", F8_E4M3, 300, 500), T("a.weight_scale_inv", U8, 3, 4)}, 2, of_block_128, {0}, NULL},
    {{T("a.weight", F8_E4M3, 300, 500), T("a.scale", F8_E8M0, 3, 4)}, 2, of_block_128, BLOCKS(128, 128), "fp8"},
    {{T("a.weight", F8_E4M3, 27, 41), T("a.weight_scale", BF16, 7, 6)},
     2,
     of_block_4_by_8,
     BLOCKS(4, 8),
     "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 13, 37), T("a.weight_scale", BF16, 13, 1)},
     2,
     of_row,
     BLOCKS(128, 128),
     "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 256, 300), T("a.weight_scale", F32, 2, 1, 3, 1)},
     2,
     of_block_128,
     {.algo = "fp8_pb_wo"},
     "modelopt"},
    {{T("a.weight", F8_E4M3, 64, 128), ONE("a.weight_scale", F32)}, 2, the_only, {.algo = "fp8_pb_wo"}, "modelopt"},
    {{T("a.weight", F8_E4M3, 128, 256), T("a.weight_scale_inv", F32, 2)}, 2, of_block_128, BLOCKS(128, 128), "fp8"},
    {{T("a.weight", F8_E4M3, 2, 256), T("a.weight_scale_inv", F32, 2)}, 2, of_block_128, {0}, NULL},
    {{T("e.up", F8_E4M3, 3, 130, 200), T("e.up_scale_inv", F32, 3, 2, 2)}, 2, of_block_128, BLOCKS(128, 128), "fp8"},
    {{T("a.weight", F8_E4M3, 300, 20), T("a.weight_scale_inv", F32, 1, 1)},
     2,
     the_only,
     BLOCKS(UINT64_MAX, UINT64_MAX),
     "fp8"},
    /* columns of Llama 4's experts, the second as if transposed, also where it is square */
    {{T("e.gate_up_proj", F8_E4M3, 3, 8, 12), T("e.gate_up_proj_scale", F32, 3, 1, 12)},
     2,
     of_expert_and_column,
     {0},
     "fbgemm_fp8"},
    {{T("e.down_proj", F8_E4M3, 3, 6, 8), T("e.down_proj_scale", F32, 3, 8, 1)},
     2,
     of_expert_and_column,
     {0},
     "fbgemm_fp8"},
    {{T("e.down_proj", F8_E4M3, 3, 8, 8), T("e.down_proj_scale", F32, 3, 8, 1)},
     2,
     of_expert_and_column,
     {0},
     "compressed-tensors"},
    {{T("e.down_proj", F8_E4M3, 2, 2, 100000), T("e.down_proj_scale", F32, 2, 100000, 1)},
     2,
     of_expert_and_column,
     {0},
     NULL},
    /* integers */
    {{T("a.weight", I8, 13, 37), T("a.weight_scale", F32, 1)}, 2, the_only, {0}, NULL},
    {{T("a.weight", I8, 13, 37), T("a.weight_scale", F32, 13)}, 2, of_row, {.algo = "W8A8_SQ_PER_CHANNEL"}, "modelopt"},
    {{T("a.weight", I8, 300, 200), T("a.weight_scale_inv", F32, 3, 2)},
     2,
     of_block_128,
     BLOCKS(128, 128),
     "blockwise_int8"},
    {{T("a.weight", I8, 13, 37), T("a.weight_scale", F16, 13, 1), T("a.weight_zero_point", I8, 13, 1)},
     3,
     of_row,
     {0},
     NULL},
    {{T("a.weight", I8, 13, 37), T("a.weight_scale", F32, 1), ONE("a.weight_zero_point", I8)}, 3, the_only, {0}, NULL},
    {{T("a.weight", I8, 5, 96), T("a.weight_scale", BF16, 5, 3), T("a.weight_zero_point", I8, 5, 3)},
     3,
     of_32_columns,
     {.group_size = 32},
     NULL},
    {{T("a.weight", I8, 70001, 2), T("a.weight_scale", BF16, 70001, 1), T("a.weight_zero_point", I8, 70001, 1)},
     3,
     of_row,
     {0},
     NULL},
    {{T("a.weight", I8, 7, 5), T("a.weight_scale", BF16, 7, 5), T("a.weight_zero_point", I8, 7, 5)},
     3,
     of_code,
     {0},
     NULL},
    /* bitsandbytes */
    {{T("a.weight", I8, 100, 37), T("a.SCB", F32, 100)}, 2, of_row, {0}, "bitsandbytes"},
    /* more than the least scratch holds at once */
    {{T("a.weight", F8_E4M3, 701, 1500), T("a.weight_scale_inv", F32, 6, 12)},
     2,
     of_block_128,
     BLOCKS(128, 128),
     "fp8"},
    /* nothing at all */
    {{T("a.weight", F8_E4M3, 0, 37), T("a.weight_scale", F32, 1)}, 2, the_only, {0}, NULL},
    {{T("a.weight", F8_E4M3, 13, 0), T("a.weight_scale", F32, 13, 1)}, 2, of_row, {0}, NULL},
    {{T("a.weight", F8_E4M3, 0, 0), T("a.weight_scale_inv", F32, 0, 0)}, 2, of_row, BLOCKS(128, 128), "fp8"},
};

static void scales_of_every_shape_follow_the_formula(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(grid_rows); i++)
        run_grid_row(&grid_rows[i]);
}

/* -- several ways -- */

static const struct tp_quant_way groups_of_ct[] = {
    {.format = "nvfp4-pack-quantized", .strategy = "tensor_group", .bits = 4, .group_size = 16},
    {.format = "float-quantized", .strategy = "block", .bits = 8, .block_rows = 128, .block_columns = 128},
    {.format = "naive-quantized", .strategy = "group", .bits = 8, .group_size = 32},
    {.format = "float-quantized", .strategy = "tensor", .bits = 8},
};
#define CT                                                                                           \
    {                                                                                                \
        .format = "float-quantized", .strategy = "channel", .others = groups_of_ct, .other_count = 4 \
    }
static const struct tp_quant_way layers_of_modelopt[] = {
    {.algo = "NVFP4", .group_size = 16}, {.algo = "FP8"}, {.algo = "FP8_PB_WO"}};
#define MIXED                                                                     \
    {                                                                             \
        .algo = "MIXED_PRECISION", .others = layers_of_modelopt, .other_count = 3 \
    }

static const struct grid_row several_ways[] = {
    {{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", BF16, 300, 1)}, 2, of_row, CT, "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", BF16, 3, 1)}, 2, of_block_128, CT, "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", BF16, 300, 3)}, 2, of_32_columns, CT, "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", BF16, 1)}, 2, the_only, CT, "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 100, 96), T("a.weight_scale", BF16, 1, 1)}, 2, the_only, CT, "compressed-tensors"},
    {{T("a.weight", F8_E4M3, 300, 96), ONE("a.weight_scale", F32)}, 2, the_only, MIXED, "modelopt"},
    {{T("a.weight", F8_E4M3, 300, 256), T("a.weight_scale", F32, 3, 1, 2, 1)}, 2, of_block_128, MIXED, "modelopt"},
    {{T("a.weight", F8_E4M3, 13, 37), T("a.weight_scale", F32, 13, 1)},
     2,
     of_row,
     {.algo = "MIXED_PRECISION"},
     "modelopt"},
};

static void shapes_tell_which_of_several_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(several_ways); i++)
        run_grid_row(&several_ways[i]);
}

static void a_strategy_is_taken_at_its_word(void **state)
{
    static const struct {
        struct grid_row row;
        const char *texts[4];
    } cases[] = {
        {{{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", F32, 300, 1)}, 2, NULL, {.strategy = "tensor"}, NULL},
         {"[300, 1]", "need [] for all (so says config.json)"}},
        {{{T("a.weight", F8_E4M3, 300, 96), ONE("a.weight_scale", F32)}, 2, NULL, {.strategy = "channel"}, NULL},
         {"[300, 1] for rows"}},
        {{{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", F32, 300, 1)}, 2, NULL, {.strategy = "block"}, NULL},
         {"[3, 1] for blocks"}},
        {{{T("a.weight", F8_E4M3, 300, 96), T("a.weight_scale", F32, 300, 1)}, 2, NULL, MIXED, "modelopt"},
         {"[] for all", "[3, 1] for blocks"}},
        /* groups of a single row, or blocks of it */
        {{{T("a.weight", F8_E4M3, 1, 256), T("a.weight_scale", F32, 1, 2)},
          2,
          NULL,
          {.strategy = "group", .others = &groups_of_ct[1], .other_count = 1},
          NULL},
         {"[1, 2]", "[1, 256]", "more than one of the 2 ways"}},
    };
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        make(&f, NULL, cases[i].row.entries, cases[i].row.count);
        f.ck->quant = cases[i].row.facts;
        f.ck->facts.quant_method = cases[i].row.method;
        assert_int_equal(f.d.scheme->prepare(&f.d, &f.arena, &err), TP_ERR_FORMAT);
        expect_text(&err, cases[i].texts);
        finish(&f);
    }
}

static void scales_may_lie_in_another_shard(void **state)
{
    (void)state;
    static const struct entry codes[] = {{"a.weight", TP_F8_E4M3, 2, {300, 200}, NULL}};
    static const struct entry scales[] = {{"a.weight_scale_inv", TP_F32, 2, {3, 2}, NULL}};
    struct fixture f;
    scratch_make(&f.folder);
    write_model(&f, "model-00001-of-00002.safetensors", codes, 1);
    write_model(&f, "model-00002-of-00002.safetensors", scales, 1);
    write_text(f.folder.path, "model.safetensors.index.json",
               "{\"weight_map\":{\"a.weight\":\"model-00001-of-00002.safetensors\","
               "\"a.weight_scale_inv\":\"model-00002-of-00002.safetensors\"}}");
    open_model(&f, f.folder.path);
    prepare(&f);
    expect_formula(&f, tp_checkpoint_find(f.ck, "a.weight_scale_inv"), NULL, of_block_128);
    finish(&f);
}

static void two_tensors_may_share_a_scratch(void **state)
{
    (void)state;
    static const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {50, 7}, NULL},
                                           {"a.weight_scale", TP_F32, 2, {50, 1}, NULL},
                                           {"b.weight", TP_F8_E4M3, 2, {50, 7}, NULL},
                                           {"b.weight_scale", TP_F32, 2, {50, 1}, NULL}};
    struct fixture f, g;
    make(&f, NULL, entries, 4);
    prepare(&f);
    g = f;
    choose_group(&g, 1);
    prepare(&g);
    float *a = decode_whole(&f, TP_SCRATCH_MIN_BYTES), *b = decode_whole(&g, TP_SCRATCH_MIN_BYTES), part[10];
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    for (uint64_t first = 0; first < 350; first += 10) {
        decode_run(&f, &s, first, 10, part);
        expect_bits(part, a + first, first, 10);
        decode_run(&g, &s, first, 10, part);
        expect_bits(part, b + first, first, 10);
    }
    free(s.bytes);
    free(a);
    free(b);
    f.arena = g.arena; /* it holds what both were given */
    finish(&f);
}

static void weight_format_0_is_rows(void **state)
{
    (void)state;
    static const struct entry entries[] = {{"a.weight", TP_I8, 2, {13, 9}, NULL},
                                           {"a.SCB", TP_F32, 1, {13}, NULL},
                                           {"a.weight_format", TP_U8, 0, {0}, ""}};
    struct fixture f;
    make(&f, NULL, entries, 3);
    prepare(&f);
    expect_formula(&f, tp_checkpoint_find(f.ck, "a.SCB"), NULL, of_row);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_of_every_shape_follow_the_formula), cmocka_unit_test(shapes_tell_which_of_several_ways),
        cmocka_unit_test(a_strategy_is_taken_at_its_word),          cmocka_unit_test(scales_may_lie_in_another_shard),
        cmocka_unit_test(two_tensors_may_share_a_scratch),          cmocka_unit_test(weight_format_0_is_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
