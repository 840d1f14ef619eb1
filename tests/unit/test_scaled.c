/* SPDX-License-Identifier: MIT */
/* One byte a value, times a scale: against what the packages themselves decode (tests/data/quantised, see its README),
 * and the vectors. */
#include "scaled.h"

/* ---- what the packages decode ---- */

static uint32_t crc32_of(const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (unsigned k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint16_t *to_bf16(const struct fixture *f, const float *values, uint64_t count)
{
    struct tp_stats stats;
    uint16_t *out = malloc((size_t)count * sizeof *out);
    tp_stats_init(&stats);
    f->kernels.cast[TP_KIND_F32][TP_KIND_BF16](out, values, (size_t)count, false, &stats);
    for (uint64_t i = 0; i < count; i++)
        out[i] = (out[i] & 0x7fff) > 0x7f80 ? 0x7fc0 : out[i];
    return out;
}

/* tests/data/quantised/NAME/FILE, beside this source or where the environment says. */
static void golden_path(char path[512], const char *name, const char *file)
{
    const char *root = getenv("TP_TEST_DATA"), *slash = strrchr(__FILE__, '/');
    int len = root ? snprintf(path, 512, "%s/quantised/%s/%s", root, name, file)
                   : snprintf(path, 512, "%.*s/../data/quantised/%s/%s", slash ? (int)(slash - __FILE__) : 1,
                              slash ? __FILE__ : ".", name, file);
    assert_true(len > 0 && len < 512);
}

static void open_golden(struct fixture *f, const char *name)
{
    char path[512];
    f->folder.path[0] = '\0';
    golden_path(path, name, "model.safetensors");
    open_model(f, path);
}

static void results_are_those_of_the_packages(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum tp_dtype dtype;
    } rows[] = {
        {"bnb-int8-bf16", TP_F32},        {"ct-fp8-channel-bf16", TP_BF16}, {"ct-fp8-naive-group32-bf16", TP_BF16},
        {"ct-fp8-tensor-f16", TP_F16},    {"ct-int8-channel-asym", TP_F16}, {"fbgemm-fp8", TP_BF16},
        {"modelopt-fp8-channel", TP_BF16}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char path[512];
        struct fixture f;
        struct tp_checkpoint *expected = NULL;
        struct tp_stats stats;
        open_golden(&f, rows[i].name);
        prepare(&f);
        golden_path(path, rows[i].name, "expected.safetensors");
        assert_int_equal(tp_checkpoint_open(&expected, path, NULL, NULL), TP_OK);
        const struct tp_tensor *t = tp_checkpoint_find(expected, f.d.name);
        assert_non_null(t);
        assert_int_equal(t->dtype, rows[i].dtype);
        assert_int_equal(t->elem_count, f.d.elem_count);
        float *values = decode_in_every_way(&f);
        uint8_t *want = malloc((size_t)t->size_bytes), *got = malloc((size_t)t->size_bytes);
        assert_int_equal(tp_tensor_read(expected, t, 0, t->elem_count, want, NULL), TP_OK);
        tp_stats_init(&stats);
        if (rows[i].dtype == TP_F32)
            memcpy(got, values, (size_t)t->size_bytes);
        else
            f.kernels.cast[TP_KIND_F32][rows[i].dtype == TP_F16 ? TP_KIND_F16 : TP_KIND_BF16](
                got, values, (size_t)t->elem_count, false, &stats);
        if (memcmp(got, want, (size_t)t->size_bytes) != 0)
            fail_msg("%s differs", rows[i].name);
        free(values);
        free(want);
        free(got);
        tp_checkpoint_close(expected);
        finish(&f);
    }
}

/* Of these only the CRC-32 of the expected BF16 values is kept, NaN as 7fc0. */
static void larger_results_are_those_of_the_packages(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t group, crc;
    } rows[] = {
        {"ct-fp8-block128-oddcols-bf16", 0, 0xf1c54c00},       {"fp8block-edge-f32", 0, 0xd887d7ec},
        {"fp8block-e8m0scale-deepseekv4names", 0, 0x5e7c21ab}, {"tf457-finegrained-256x256", 0, 0x40e96811},
        {"modelopt-export-fp8-perchannel", 0, 0xadc4c45b},     {"modelopt-export-fp8-perchannel", 1, 0xe7247533}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct fixture f;
        open_golden(&f, rows[i].name);
        choose_group(&f, rows[i].group);
        prepare(&f);
        float *values = decode_in_every_way(&f);
        uint16_t *rounded = to_bf16(&f, values, f.d.elem_count);
        uint32_t crc = crc32_of(rounded, (size_t)f.d.elem_count * sizeof *rounded);
        if (crc != rows[i].crc)
            fail_msg("%s: CRC %08x, expected %08x", rows[i].name, crc, rows[i].crc);
        free(rounded);
        free(values);
        finish(&f);
    }
}

/* ---- the vectors ---- */

static const uint32_t scale_0002 = 0x3951b717;

static void codes_times_0002_are_these_bits(void **state)
{
    (void)state;
    static const uint8_t codes[] = {0x00, 0x01, 0x08, 0x38, 0x3c, 0x7e, 0xfe, 0x80, 0x45, 0xb9, 0x5d, 0x7f};
    static const uint32_t want[] = {0x00000000, 0x34d1b717, 0x3651b717, 0x3951b717, 0x399d4951, 0x3db78034,
                                    0xbdb78034, 0x80000000, 0x3a2a64c3, 0xb96bedfa, 0x3baa64c3};
    static const uint16_t want_bf16[] = {0x0000, 0x34d2, 0x3652, 0x3952, 0x399d, 0x3db8,
                                         0xbdb8, 0x8000, 0x3a2a, 0xb96c, 0x3baa, 0x7fc0};
    const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {3, 4}, codes},
                                    {"a.weight_scale_inv", TP_F32, 2, {1, 1}, &scale_0002}};
    struct fixture f;
    make(&f, NULL, entries, 2);
    prepare(&f);
    float *values = decode_in_every_way(&f);
    uint16_t *rounded = to_bf16(&f, values, 12);
    assert_memory_equal(values, want, sizeof want);
    assert_true(isnan(values[11]));
    assert_memory_equal(rounded, want_bf16, sizeof want_bf16);
    free(rounded);
    free(values);
    finish(&f);
}

static void blocks_at_the_edges_are_partial(void **state)
{
    (void)state;
    static const uint8_t codes[] = {0x01, 0x12, 0x23, 0x34, 0x45, 0x56, 0x67, 0x78,
                                    0x0a, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f, 0x70};
    static const uint32_t scales[] = {0x3c23d70a, 0x3ca3d70a, 0x3cf5c28f, 0x3d23d70a, 0x3d4ccccd, 0x3d75c28f};
    static const uint16_t want[] = {0x37a4, 0x39cd, 0x3b61, 0x3c76, 0x3dc8, 0x3e0f, 0x3f1a, 0x40a4,
                                    0x39cd, 0x3b29, 0x3c76, 0x3d85, 0x3eb3, 0x3fc0, 0x40f6};
    const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {3, 5}, codes},
                                    {"a.weight_scale_inv", TP_F32, 2, {2, 3}, scales}};
    struct fixture f;
    make(&f, "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2]}}", entries, 2);
    prepare(&f);
    float *values = decode_in_every_way(&f);
    uint16_t *rounded = to_bf16(&f, values, 15);
    assert_memory_equal(rounded, want, sizeof want);
    free(rounded);
    free(values);
    finish(&f);
}

static void every_code_of_every_kind_is_its_value(void **state)
{
    (void)state;
    static const struct {
        enum tp_dtype dtype;
        uint32_t crc;
    } rows[] = {
        {TP_F8_E4M3, 0x2fdee9ac}, {TP_F8_E5M2, 0x3d83fd11}, {TP_F8_E4M3FNUZ, 0xf2dfa052}, {TP_F8_E5M2FNUZ, 0x09c70b84}};
    static const float one = 1;
    uint8_t codes[256];
    for (unsigned i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        const struct entry entries[] = {{"a.weight", rows[i].dtype, 2, {16, 16}, codes},
                                        {"a.weight_scale", TP_F32, 0, {0}, &one}};
        static const uint32_t nan_bits = 0x7fc00000;
        struct fixture f;
        make(&f, NULL, entries, 2);
        prepare(&f);
        float *values = decode_in_every_way(&f);
        for (unsigned k = 0; k < 256; k++)
            if (isnan(values[k]))
                memcpy(&values[k], &nan_bits, 4);
        assert_int_equal(crc32_of(values, 1024), rows[i].crc);
        free(values);
        finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_of_the_packages),
        cmocka_unit_test(larger_results_are_those_of_the_packages),
        cmocka_unit_test(codes_times_0002_are_these_bits),
        cmocka_unit_test(blocks_at_the_edges_are_partial),
        cmocka_unit_test(every_code_of_every_kind_is_its_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
