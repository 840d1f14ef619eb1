/* SPDX-License-Identifier: MIT */
/* What opening a sound checkpoint gives. What is refused, and with which words, is in tests/e2e/malformed.py; the rows
 * here are those that need to look inside. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "checkpoint/checkpoint.h"
#include "scratch.h"

static struct tp_checkpoint *open_ok(const char *path)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    if (tp_checkpoint_open(&ck, path, NULL, &err) != TP_OK)
        fail_msg("%s: %s", err.path, err.message);
    return ck;
}

static enum tp_status open_bad(const char *path, struct tp_error *err)
{
    struct tp_checkpoint *ck = NULL;
    enum tp_status status = tp_checkpoint_open(&ck, path, NULL, err);
    assert_null(ck);
    return status;
}

static const char *name_at(const struct tp_checkpoint *ck, uint32_t i)
{
    return tp_checkpoint_tensor(ck, i)->name;
}

static void tensors_come_in_the_order_of_their_data(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    scratch_safetensors(&s, "model.safetensors",
                        "{\"z\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                        "\"a\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[6,10]},"
                        "\"m\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},"
                        "\"e2\":{\"dtype\":\"I64\",\"shape\":[0,9],\"data_offsets\":[4,4]},"
                        "\"e1\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}",
                        10, NULL, 0);
    struct tp_checkpoint *ck = open_ok(s.path);
    static const char *const order[] = {"z", "e1", "e2", "m", "a"};
    assert_int_equal(tp_checkpoint_tensor_count(ck), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_string_equal(name_at(ck, i), order[i]);
    const struct tp_tensor *a = tp_checkpoint_find(ck, "a");
    const struct tp_file_info *file = tp_checkpoint_file(ck, 0);
    assert_ptr_equal(a, tp_checkpoint_tensor(ck, 4));
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->elem_count, 1);
    assert_int_equal(a->size_bytes, 4);
    assert_int_equal(a->dtype, TP_F32);
    assert_int_equal(a->extent_count, 1);
    assert_int_equal(a->extents[0].offset_bytes, file->header_bytes + 6);
    assert_int_equal(a->extents[0].elem_count, 1);
    assert_int_equal(file->tensor_count, 5);
    assert_int_equal(file->size_bytes, file->header_bytes + 10);
    assert_null(tp_checkpoint_find(ck, "absent"));
    assert_null(tp_checkpoint_tensor(ck, 5));
    assert_null(tp_checkpoint_file(ck, 1));
    assert_int_equal(tp_checkpoint_parameter_count(ck), 7);
    assert_string_equal(tp_checkpoint_format(ck), "safetensors");
    assert_string_equal(tp_checkpoint_path(ck), s.path);
    tp_checkpoint_close(ck);
    tp_checkpoint_close(NULL);
    scratch_remove(&s);
}

static void files_come_in_the_order_of_their_names(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    scratch_safetensors(&s, "b.safetensors", "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL,
                        0);
    scratch_safetensors(&s, "a.safetensors", "{\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL,
                        0);
    scratch_safetensors(&s, "B.safetensors", "{\"z\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, NULL,
                        0);
    static const char index[] = "{\"metadata\":{\"total_size\":3},\"weight_map\":"
                                "{\"x\":\"b.safetensors\",\"z\":\"B.safetensors\",\"y\":\"a.safetensors\"}}";
    scratch_put(&s, "model.safetensors.index.json", index, strlen(index), 0);
    struct tp_checkpoint *ck = open_ok(s.path);
    assert_string_equal(name_at(ck, 0), "z");
    assert_string_equal(name_at(ck, 1), "y");
    assert_string_equal(name_at(ck, 2), "x");
    assert_string_equal(tp_checkpoint_file(ck, 0)->name, "B.safetensors");
    assert_int_equal(tp_checkpoint_note_count(ck), 1); /* b and B */
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

static void the_index_decides_and_can_be_ignored(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_checkpoint *ck = NULL;
    scratch_make(&s);
    scratch_safetensors(&s, "model-00001-of-00002.safetensors",
                        "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "\1", 1);
    scratch_safetensors(&s, "model-00002-of-00002.safetensors",
                        "{\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "\2", 1);
    static const char index[] =
        "{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\",\"q\":\"model-3.safetensors\"}}";
    scratch_put(&s, "model.safetensors.index.json", index, strlen(index), 0);
    assert_int_equal(open_bad(s.path, &err), TP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "model-3.safetensors"));
    assert_int_equal(tp_checkpoint_open(&ck, s.path, &(struct tp_open_options){.ignore_index = true}, &err), TP_OK);
    assert_int_equal(tp_checkpoint_tensor_count(ck), 2);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

/* Some values of one tensor, in one file. */
static struct tp_checkpoint *one_tensor(struct scratch *s, const char *dtype, const char *shape, const void *data,
                                        size_t len)
{
    char header[256];
    scratch_make(s);
    snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[0,%zu]}}", dtype, shape,
             len);
    scratch_safetensors(s, "x.safetensors", header, len, data, len);
    return open_ok(scratch_at(s, "x.safetensors"));
}

static void any_range_of_elements_can_be_read(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    uint8_t out[10] = {0};
    struct tp_checkpoint *ck = one_tensor(&s, "U16", "[5]", data, sizeof data);
    const struct tp_tensor *t = tp_checkpoint_tensor(ck, 0);
    assert_int_equal(tp_tensor_read(ck, t, 1, 3, out, &err), TP_OK);
    assert_memory_equal(out, data + 2, 6);
    assert_int_equal(tp_tensor_read(ck, t, 5, 0, out, &err), TP_OK);
    assert_int_equal(tp_tensor_read(ck, t, 5, 1, out, &err), TP_ERR_USAGE);
    assert_int_equal(tp_tensor_read(ck, t, 1, UINT64_MAX, out, &err), TP_ERR_USAGE);
    assert_string_equal(err.tensor, "t");
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

static void packed_f4_is_read_in_whole_bytes(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    static const uint8_t data[] = {0x10, 0x32, 0xfe};
    uint8_t out[3] = {0};
    float values[6];
    struct tp_checkpoint *ck = one_tensor(&s, "F4", "[3,2]", data, sizeof data);
    const struct tp_tensor *t = tp_checkpoint_tensor(ck, 0);
    assert_int_equal(t->elem_count, 6);
    assert_int_equal(tp_tensor_read(ck, t, 2, 2, out, &err), TP_OK);
    assert_int_equal(out[0], 0x32);
    assert_int_equal(tp_tensor_read(ck, t, 1, 2, out, &err), TP_ERR_USAGE);
    assert_int_equal(tp_tensor_read(ck, t, 0, 1, out, &err), TP_ERR_USAGE);
    assert_int_equal(tp_tensor_read_f32(ck, t, 0, 6, values, &err), TP_OK);
    static const float expected[] = {0, 0.5f, 1, 1.5f, -4, -6};
    for (size_t i = 0; i < 6; i++)
        assert_true(values[i] == expected[i]);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

static void values_are_rounded_once_to_float32(void **state)
{
    (void)state;
    if (getenv("TENSORPORT_VALGRIND"))
        return; /* valgrind itself takes 64-bit integers to float by way of double */
    struct scratch s;
    struct tp_error err;
    float value;
    int64_t between = ((int64_t)1 << 53) + ((int64_t)1 << 29) + 1; /* through a double this would tie, and round down */
    struct tp_checkpoint *ck = one_tensor(&s, "I64", "[1]", &between, sizeof between);
    assert_int_equal(tp_tensor_read_f32(ck, tp_checkpoint_tensor(ck, 0), 0, 1, &value, &err), TP_OK);
    assert_true(value == (float)between);
    assert_true(value != (float)(double)between);
    tp_checkpoint_close(ck);
    scratch_remove(&s);

    uint32_t nan = 0xffa00001, back;
    ck = one_tensor(&s, "F32", "[]", &nan, sizeof nan);
    assert_int_equal(tp_tensor_read_f32(ck, tp_checkpoint_tensor(ck, 0), 0, 1, &value, &err), TP_OK);
    memcpy(&back, &value, sizeof back);
    assert_int_equal(back, nan);
    tp_checkpoint_close(ck);
    scratch_remove(&s);

    float two[2] = {1, 2};
    ck = one_tensor(&s, "C64", "[1]", two, sizeof two);
    assert_int_equal(tp_tensor_read_f32(ck, tp_checkpoint_tensor(ck, 0), 0, 1, &value, &err), TP_ERR_UNSUPPORTED);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
    ck = one_tensor(&s, "F6_E2M3", "[4]", "abc", 3);
    assert_int_equal(tp_tensor_read_f32(ck, tp_checkpoint_tensor(ck, 0), 0, 4, two, &err), TP_ERR_UNSUPPORTED);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

static void a_summary_counts_what_is_not_finite(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_tensor_summary sum;
    size_t count = 100000; /* several pieces */
    float *values = calloc(count, sizeof *values);
    values[0] = -3;
    values[count / 2] = 5;
    values[count - 1] = (float)NAN;
    values[count - 2] = -(float)INFINITY;
    values[count - 3] = -0.0f;
    struct tp_checkpoint *ck = one_tensor(&s, "F32", "[100000]", values, count * sizeof *values);
    assert_int_equal(tp_tensor_summarise(ck, tp_checkpoint_tensor(ck, 0), &sum, &err), TP_OK);
    assert_true(sum.min == -3 && sum.max == 5);
    assert_int_equal(sum.nan_count, 1);
    assert_int_equal(sum.inf_count, 1);
    assert_int_equal(sum.zero_count, count - 4);
    assert_true(fabs(sum.mean_magnitude - 8.0 / (double)(count - 2)) < 1e-12);
    tp_checkpoint_close(ck);
    scratch_remove(&s);

    ck = one_tensor(&s, "BF16", "[0]", NULL, 0);
    assert_int_equal(tp_tensor_summarise(ck, tp_checkpoint_tensor(ck, 0), &sum, &err), TP_OK);
    assert_true(sum.min > sum.max);
    tp_checkpoint_close(ck);
    scratch_remove(&s);

    static const float zeros[] = {-0.0f, -0.0f};
    ck = one_tensor(&s, "F32", "[2]", zeros, sizeof zeros);
    assert_int_equal(tp_tensor_summarise(ck, tp_checkpoint_tensor(ck, 0), &sum, &err), TP_OK);
    assert_false(signbit(sum.min) || signbit(sum.max));
    tp_checkpoint_close(ck);
    scratch_remove(&s);
    free(values);
}

static void a_file_that_shrinks_is_an_error_and_not_a_signal(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    uint8_t data[64] = {0};
    struct tp_checkpoint *ck = one_tensor(&s, "U8", "[64]", data, sizeof data);
    assert_int_equal(tp_checkpoint_check_unchanged(ck, &err), TP_OK);
    assert_int_equal(truncate(scratch_at(&s, "x.safetensors"), 100), 0);
    assert_int_equal(tp_tensor_read(ck, tp_checkpoint_tensor(ck, 0), 0, 64, data, &err), TP_ERR_IO);
    assert_string_equal(err.path, scratch_at(&s, "x.safetensors"));
    assert_int_equal(tp_checkpoint_check_unchanged(ck, &err), TP_ERR_IO);
    assert_int_equal(tp_status_exit_code(err.code), 4);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

static void a_thousand_files_open_with_few_descriptors(void **state)
{
    (void)state;
    struct scratch s;
    struct rlimit old;
    char name[64], header[128];
    scratch_make(&s);
    for (int i = 1; i <= 1000; i++) {
        uint8_t byte = (uint8_t)i;
        snprintf(name, sizeof name, "model-%05d-of-01000.safetensors", i);
        snprintf(header, sizeof header, "{\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", i);
        scratch_safetensors(&s, name, header, 1, &byte, 1);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit small = {.rlim_cur = 64, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    struct tp_checkpoint *ck = open_ok(s.path);
    assert_int_equal(tp_checkpoint_file_count(ck), 1000);
    for (int i = 1; i <= 1000; i++) {
        uint8_t byte = 0;
        snprintf(name, sizeof name, "t%d", i * 7 % 1000 + 1);
        assert_int_equal(tp_tensor_read(ck, tp_checkpoint_find(ck, name), 0, 1, &byte, NULL), TP_OK);
        assert_int_equal(byte, (uint8_t)(i * 7 % 1000 + 1));
    }
    assert_int_equal(tp_checkpoint_check_unchanged(ck, NULL), TP_OK);
    tp_checkpoint_close(ck);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    scratch_remove(&s);
}

static void config_json_gives_its_facts(void **state)
{
    (void)state;
    static const char tiny[] = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    static const char config[] =
        "{\"text_config\":{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"group_"
        "0\":"
        "{\"weights\":{\"num_bits\":4,\"group_size\":32}}}},\"tie_word_embeddings\":true,\"n_routed_experts\":384,"
        "\"num_experts_per_tok\":8,\"dtype\":\"float32\"},\"architectures\":[\"First\",{\"x\":1}],\"model_type\":"
        "\"kimi\","
        "\"torch_dtype\":\"bfloat16\",\"tie_word_embeddings\":false,\"other\":[1,{\"architectures\":[\"no\"]}]}";
    struct scratch s;
    scratch_make(&s);
    scratch_safetensors(&s, "model.safetensors", tiny, 1, NULL, 0);
    struct tp_checkpoint *ck = open_ok(s.path);
    const struct tp_model_facts *f = tp_checkpoint_facts(ck);
    assert_true(!f->architecture && !f->model_type && !f->quant_method && f->tie_word_embeddings == -1);
    tp_checkpoint_close(ck);

    scratch_put(&s, "config.json", config, strlen(config), 0);
    ck = open_ok(scratch_at(&s, "model.safetensors")); /* beside a single file too */
    f = tp_checkpoint_facts(ck);
    assert_string_equal(f->architecture, "First");
    assert_string_equal(f->model_type, "kimi");
    assert_string_equal(f->torch_dtype, "bfloat16");
    assert_string_equal(f->quant_method, "compressed-tensors");
    assert_int_equal(f->tie_word_embeddings, 0); /* the outer one counts, whichever comes first */
    assert_int_equal(f->expert_count, 384);
    assert_int_equal(f->experts_per_token, 8);
    assert_int_equal(ck->quant.bits, 4);
    assert_int_equal(ck->quant.group_size, 32);
    assert_int_equal(tp_checkpoint_note_count(ck), 0);
    tp_checkpoint_close(ck);

    scratch_put(&s, "config.json", "{\"model_type\":\"x\"", 17, 0);
    ck = open_ok(s.path);
    assert_null(tp_checkpoint_facts(ck)->model_type); /* half a file is no fact */
    assert_int_equal(tp_checkpoint_note_count(ck), 1);
    tp_checkpoint_close(ck);

    scratch_put(&s, "config.json", "{\"model_type\":\"x\"}", 18, 0);
    static const char modelopt[] = "{\"quantization\":{\"quant_algo\":\"NVFP4\",\"group_size\":16}}";
    scratch_put(&s, "hf_quant_config.json", modelopt, strlen(modelopt), 0);
    ck = open_ok(s.path);
    assert_string_equal(tp_checkpoint_facts(ck)->quant_method, "modelopt");
    assert_string_equal(tp_checkpoint_facts(ck)->model_type, "x");
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

static void an_absent_or_foreign_path_is_told(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    scratch_make(&s);
    assert_int_equal(open_bad(scratch_at(&s, "absent"), &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "no such file");
    assert_int_equal(open_bad("/dev/null", &err), TP_ERR_FORMAT);
    assert_int_equal(open_bad(s.path, NULL), TP_ERR_FORMAT); /* an error nobody wants to hear */
    scratch_put(&s, "model.safetensors.index.json", "{}", 2, 0);
    assert_int_equal(open_bad(scratch_at(&s, "model.safetensors.index.json"), &err), TP_ERR_FORMAT);
    assert_string_equal(err.hint, "give its folder");
    scratch_remove(&s);
}

static void every_prefix_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                 "\"__metadata__\":{\"k\":\"\\u00e9\\ud83d\\ude00\"}} ";
    struct scratch s;
    struct tp_error err;
    scratch_make(&s);
    for (size_t n = 0; n < sizeof header + 8; n++) {
        scratch_safetensors(&s, "x.safetensors", header, 1, NULL, 0);
        assert_int_equal(truncate(scratch_at(&s, "x.safetensors"), (off_t)n), 0);
        assert_int_equal(open_bad(scratch_at(&s, "x.safetensors"), &err), TP_ERR_FORMAT);
        char shorter[sizeof header]; /* and with the length made to fit */
        if (n < sizeof header - 2) { /* all but the trailing blank, without which it is sound */
            memcpy(shorter, header, n);
            shorter[n] = '\0';
            scratch_safetensors(&s, "x.safetensors", shorter, 1, NULL, 0);
            assert_int_equal(open_bad(scratch_at(&s, "x.safetensors"), &err), TP_ERR_FORMAT);
        }
    }
    scratch_remove(&s);
}

static void shapes_are_measured_without_wrapping(void **state)
{
    (void)state;
    static const struct {
        uint64_t shape[3];
        unsigned rank;
        enum tp_dtype dtype;
        bool fits;
        uint64_t elems, bytes;
    } rows[] = {{{0}, 0, TP_F32, true, 1, 4},
                {{3, 5}, 2, TP_BF16, true, 15, 30},
                {{3, 0, 5}, 3, TP_F64, true, 0, 0},
                {{3}, 1, TP_F4, false, 3, UINT64_MAX},
                {{4, 3}, 2, TP_F6_E2M3, true, 12, 9},
                {{3, 0}, 2, TP_F4, true, 0, 0},
                {{(uint64_t)1 << 60}, 1, TP_U8, true, (uint64_t)1 << 60, (uint64_t)1 << 60},
                {{(uint64_t)1 << 61}, 1, TP_U8, false, 0, UINT64_MAX},
                {{(uint64_t)1 << 32, (uint64_t)1 << 32}, 2, TP_U8, false, 0, UINT64_MAX},
                {{0, (uint64_t)1 << 32, (uint64_t)1 << 32}, 3, TP_U8, false, 0, UINT64_MAX},
                {{UINT64_MAX, 0}, 2, TP_U8, false, 0, UINT64_MAX}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        uint64_t elems, bytes;
        assert_int_equal(tp_shape_measure(rows[i].shape, rows[i].rank, rows[i].dtype, &elems, &bytes), rows[i].fits);
        assert_int_equal(elems, rows[i].elems);
        assert_int_equal(bytes, rows[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_come_in_the_order_of_their_data),
        cmocka_unit_test(files_come_in_the_order_of_their_names),
        cmocka_unit_test(the_index_decides_and_can_be_ignored),
        cmocka_unit_test(any_range_of_elements_can_be_read),
        cmocka_unit_test(packed_f4_is_read_in_whole_bytes),
        cmocka_unit_test(values_are_rounded_once_to_float32),
        cmocka_unit_test(a_summary_counts_what_is_not_finite),
        cmocka_unit_test(a_file_that_shrinks_is_an_error_and_not_a_signal),
        cmocka_unit_test(a_thousand_files_open_with_few_descriptors),
        cmocka_unit_test(config_json_gives_its_facts),
        cmocka_unit_test(an_absent_or_foreign_path_is_told),
        cmocka_unit_test(every_prefix_of_a_file_is_refused),
        cmocka_unit_test(shapes_are_measured_without_wrapping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
