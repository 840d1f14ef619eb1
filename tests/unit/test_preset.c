/* SPDX-License-Identifier: MIT */
/* The maps that come with the library, and how a map is found. */
#include "fixture.h"
#include "map/rule.h"
#include "tensorport/tensorport.h"

static void presets_are_sorted_and_all_of_them_parse(void **state)
{
    (void)state;
    assert_true(tp_preset_count() > 0);
    assert_null(tp_preset_get(tp_preset_count()));
    for (uint32_t i = 0; i < tp_preset_count(); i++) {
        const struct tp_preset *p = tp_preset_get(i), *before = i ? tp_preset_get(i - 1) : NULL;
        char name[160];
        struct tp_map *map = NULL;
        struct tp_error err;
        size_t len;
        int order = before ? strcmp(before->target, p->target) : -1;
        assert_true(order < 0 || (order == 0 && strcmp(before->family, p->family) < 0));
        assert_int_equal(strlen(p->text), p->text_len);
        snprintf(name, sizeof name, "%s/%s", p->target, p->family);
        if (tp_map_open(&map, name, &err) != TP_OK)
            fail_msg("%s: %s", name, err.message);
        assert_string_equal(tp_map_name(map), name);
        assert_string_equal(tp_map_text(map, &len), p->text);
        assert_int_equal(len, p->text_len);
        assert_true(tp_map_rule_count(map) > 0 && *tp_map_description(map) && tp_map_architecture(map, 0));
        struct tp_convert_options options = {.map = map};
        if (tp_convert_options_take_map(&options, 0, &err) != TP_OK)
            fail_msg("%s: %s", name, err.message);
        tp_map_free(map);
    }
}

/* Else --target would choose the one that happens to come first. */
static void no_two_families_of_a_target_are_for_one_architecture(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < tp_preset_count(); i++) {
        for (uint32_t k = i + 1; k < tp_preset_count(); k++) {
            const struct tp_preset *a = tp_preset_get(i), *b = tp_preset_get(k);
            char text[2][160];
            struct tp_map *one = NULL, *other = NULL;
            if (strcmp(a->target, b->target) != 0)
                continue;
            snprintf(text[0], sizeof text[0], "%s/%s", a->target, a->family);
            snprintf(text[1], sizeof text[1], "%s/%s", b->target, b->family);
            assert_int_equal(tp_map_open(&one, text[0], NULL), TP_OK);
            assert_int_equal(tp_map_open(&other, text[1], NULL), TP_OK);
            for (uint32_t x = 0; tp_map_architecture(one, x); x++)
                for (uint32_t y = 0; tp_map_architecture(other, y); y++)
                    if (strcmp(tp_map_architecture(one, x), tp_map_architecture(other, y)) == 0)
                        fail_msg("%s and %s are both for %s", text[0], text[1], tp_map_architecture(one, x));
            tp_map_free(one);
            tp_map_free(other);
        }
    }
}

static void a_name_that_is_none_is_answered_with_what_comes_near(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"maxtext/lama", "'maxtext/lama' is neither a preset nor a file", "did you mean maxtext/llama?"},
        {"maxtxt/llama", "is neither a preset nor a file", "did you mean maxtext/llama?"},
        {"maxtext", "is neither a preset nor a file", "maxtext is a target; of which family?"},
        {"llama", "is neither a preset nor a file", "llama is a family; for which target?"},
        {"something/else.json", "is neither a preset nor a file", "tensorport map list shows the presets"},
        {"", "'' is neither a preset nor a file", "tensorport map list shows the presets"},
        {"/", "'/' is a folder, not a map", "tensorport map list shows the presets"},
        {"bell\a/x", "'bell\\x07/x'", "tensorport map list shows the presets"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tp_map *map = NULL;
        struct tp_error err;
        assert_int_equal(tp_map_open(&map, rows[i][0], &err), TP_ERR_USAGE);
        assert_null(map);
        if (!strstr(err.message, rows[i][1]) || !strstr(err.hint, rows[i][2]))
            fail_msg("'%s': %s (%s)", rows[i][0], err.message, err.hint);
    }
}

static void a_file_is_called_by_its_path(void **state)
{
    (void)state;
    static const char text[] =
        "{\"tensorport_map\": 1, \"name\": \"other\", \"description\": \"words\",\n"
        " \"rules\": [{\"from\": \"a\",\n  \"to\": \"b\"},\n {\"from\": \"c\", \"drop\": true}]}";
    struct scratch s;
    struct tp_map *map = NULL;
    struct tp_error err;
    uint32_t line;
    size_t len;
    scratch_make(&s);
    scratch_put(&s, "m.json", text, sizeof text - 1, 0);
    assert_int_equal(tp_map_open(&map, scratch_at(&s, "m.json"), &err), TP_OK);
    assert_string_equal(tp_map_name(map), scratch_at(&s, "m.json"));
    assert_string_equal(tp_map_description(map), "words");
    assert_string_equal(tp_map_text(map, &len), text);
    assert_int_equal(len, sizeof text - 1);
    assert_int_equal(tp_map_rule_count(map), 2);
    assert_string_equal(tp_map_rule_text(map, 0, &line), "{\"from\": \"a\", \"to\": \"b\"}");
    assert_int_equal(line, 2);
    assert_string_equal(tp_map_rule_text(map, 1, &line), "{\"from\": \"c\", \"drop\": true}");
    assert_int_equal(line, 4);
    assert_null(tp_map_architecture(map, 0));
    tp_map_free(map);
    scratch_put(&s, "m.json", "{", 1, 0);
    assert_int_equal(tp_map_open(&map, scratch_at(&s, "m.json"), &err), TP_ERR_FORMAT);
    assert_string_equal(err.path, scratch_at(&s, "m.json"));
    scratch_put(&s, "m.json", "{", 1, TP_MAP_TEXT_MAX + 1);
    assert_int_equal(tp_map_open(&map, scratch_at(&s, "m.json"), &err), TP_ERR_LIMIT);
    assert_non_null(strstr(err.message, "this map has 4,194,305 bytes; at most 4,194,304 are read"));
    scratch_remove(&s);
}

/* A checkpoint of one tensor, whose config.json may be missing. */
static struct tp_checkpoint *open_model(const struct scratch *s, const char *config)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err;
    write_safetensors(s->path, "model.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                      "\0\0\0\0", 4);
    if (config)
        write_text(s->path, "config.json", config);
    assert_int_equal(tp_checkpoint_open(&ck, s->path, NULL, &err), TP_OK);
    return ck;
}

static void a_target_chooses_by_the_architecture(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_map *map = NULL;
    struct tp_error err;
    scratch_make(&s);
    struct tp_checkpoint *ck = open_model(&s, "{\"architectures\": [\"LlamaForCausalLM\"]}");
    assert_int_equal(tp_map_open_for(&map, "hf-flax", ck, &err), TP_OK);
    assert_string_equal(tp_map_name(map), "hf-flax/llama");
    tp_map_free(map);
    map = NULL;
    assert_int_equal(tp_map_open_for(&map, "hf-flux", ck, &err), TP_ERR_USAGE);
    assert_non_null(strstr(err.message, "there is no target 'hf-flux'; there is: "));
    assert_string_equal(err.hint, "did you mean hf-flax?");
    assert_int_equal(tp_map_open_for(&map, "hf-flax/llama", ck, &err), TP_ERR_USAGE);
    tp_checkpoint_close(ck);
    ck = open_model(&s, "{\"architectures\": [\"Odd\\u001bForCausalLM\"]}");
    assert_int_equal(tp_map_open_for(&map, "hf-flax", ck, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no map of hf-flax is for Odd\\x1bForCausalLM; its families are: "));
    assert_non_null(strstr(err.message, "llama"));
    tp_checkpoint_close(ck);
    assert_int_equal(tp_path_remove(scratch_at(&s, "config.json"), NULL), TP_OK);
    ck = open_model(&s, NULL);
    assert_int_equal(tp_map_open_for(&map, "hf-flax", ck, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "there is no config.json that names an architecture"));
    assert_null(map);
    tp_checkpoint_close(ck);
    scratch_remove(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_sorted_and_all_of_them_parse),
        cmocka_unit_test(no_two_families_of_a_target_are_for_one_architecture),
        cmocka_unit_test(a_name_that_is_none_is_answered_with_what_comes_near),
        cmocka_unit_test(a_file_is_called_by_its_path),
        cmocka_unit_test(a_target_chooses_by_the_architecture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
