/* SPDX-License-Identifier: MIT */
/* What a group would be decoded to, or why not: never an error of the checkpoint as a whole. */
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

static const struct entry entries[] = {
    {"a.down_proj_blocks", TP_U8, 4, {3, 64, 2, 16}},
    {"a.down_proj_scales", TP_U8, 3, {3, 64, 2}},
    {"b.weight", TP_F8_E4M3, 2, {2, 3}},
    {"b.weight_scale_inv", TP_F32, 2, {7, 7}},
    {"c.weight", TP_U32, 2, {2, 8}},
    {"c.scales", TP_F16, 2, {2, 1}},
    {"c.biases", TP_F16, 2, {2, 1}},
    {"d.weight", TP_F8_E4M3, 2, {2, 3}},
    {"d.weight_scale", TP_F32, 0, {0}},
};

static struct tp_checkpoint *make(const char *method)
{
    struct tp_checkpoint *ck = NULL;
    uint64_t offset = 0;
    assert_int_equal(tp_checkpoint_new(&ck, "x", "x", NULL), TP_OK);
    ck->quant.method = method;
    for (size_t i = 0; i < TP_COUNT_OF(entries); i++) {
        const struct entry *e = &entries[i];
        struct tp_extent extent = {.offset_bytes = offset};
        assert_true(tp_shape_measure(e->shape, e->rank, e->dtype, &extent.elem_count, &extent.size_bytes));
        offset += extent.size_bytes;
        struct tp_tensor_spec spec = {.name = e->name,
                                      .name_len = strlen(e->name),
                                      .dtype = e->dtype,
                                      .shape = e->shape,
                                      .rank = e->rank,
                                      .extents = &extent,
                                      .extent_count = 1};
        assert_int_equal(tp_checkpoint_add_tensor(ck, &spec, NULL), TP_OK);
    }
    assert_int_equal(tp_checkpoint_index_names(ck, NULL), TP_OK);
    assert_int_equal(tp_groups_find(ck, NULL), TP_OK);
    assert_int_equal(tp_checkpoint_group_count(ck), 4);
    return ck;
}

static uint32_t group_of(const struct tp_checkpoint *ck, const char *name)
{
    const struct tp_tensor *t = tp_checkpoint_find(ck, name);
    assert_non_null(t);
    return t->group;
}

static void a_group_has_the_name_and_the_shape_of_its_twin(void **state)
{
    struct tp_checkpoint *ck = make(NULL);
    struct tp_decoded_tensor d;
    (void)state;
    assert_int_equal(tp_group_decoded(ck, group_of(ck, "a.down_proj_scales"), &d, NULL), TP_OK);
    assert_string_equal(d.name, "a.down_proj");
    assert_int_equal(d.rank, 3);
    assert_int_equal(d.shape[0], 3);
    assert_int_equal(d.shape[1], 64);
    assert_int_equal(d.shape[2], 64);
    assert_int_equal(d.elem_count, 3 * 64 * 64);
    assert_int_equal(tp_group_decoded(ck, group_of(ck, "d.weight"), &d, NULL), TP_OK);
    assert_string_equal(d.name, "d.weight");
    assert_int_equal(d.rank, 2);
    assert_int_equal(d.elem_count, 6);
    tp_checkpoint_close(ck);
}

static void a_group_that_does_not_fit_names_its_tensors(void **state)
{
    struct tp_checkpoint *ck = make(NULL);
    struct tp_decoded_tensor d;
    struct tp_error err;
    (void)state;
    assert_int_equal(tp_group_decoded(ck, group_of(ck, "b.weight"), &d, &err), TP_ERR_FORMAT);
    assert_string_equal(err.tensor, "b.weight");
    assert_non_null(strstr(err.message, "b.weight_scale_inv"));
    assert_int_equal(tp_group_decoded(ck, group_of(ck, "c.biases"), &d, &err), TP_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "quantised as 'mlx', which cannot be decoded");
    assert_string_equal(err.tensor, "c.weight");
    tp_checkpoint_close(ck);
}

static void the_method_of_config_json_is_asked_apart(void **state)
{
    struct tp_error err;
    struct tp_checkpoint *ck = make(NULL);
    (void)state;
    assert_int_equal(tp_checkpoint_check_decodable(ck, &err), TP_OK);
    tp_checkpoint_close(ck);
    ck = make("exl2");
    assert_int_equal(tp_checkpoint_check_decodable(ck, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "exl2"));
    tp_checkpoint_close(ck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_has_the_name_and_the_shape_of_its_twin),
        cmocka_unit_test(a_group_that_does_not_fit_names_its_tensors),
        cmocka_unit_test(the_method_of_config_json_is_asked_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
