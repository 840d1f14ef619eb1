/* SPDX-License-Identifier: MIT */
/* Outputs that lie: shards and manifests from hostile or failing hands. Each is a named difference, never a crash. */
#include "fixture.h"

#include "base/compiler.h"
#include "tensorport/tensorport.h"

struct scene {
    char folder[SCRATCH_PATH], in[SCRATCH_PATH + 8], out[SCRATCH_PATH + 8];
};

static int set_up(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    static const float data[6] = {1, 2, 3, 4, 5, 6};
    struct tp_error err;
    struct tp_conversion *cv = NULL;
    struct scratch scratch;
    scratch_make(&scratch);
    snprintf(s->folder, sizeof s->folder, "%s", scratch.path);
    snprintf(s->in, sizeof s->in, "%s/in", s->folder);
    snprintf(s->out, sizeof s->out, "%s/out", s->folder);
    assert_int_equal(tp_folder_make(s->in, NULL), TP_OK);
    write_text(s->in, "config.json", "{\"model_type\":\"toy\"}");
    write_safetensors(s->in, "model.safetensors",
                      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                      "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}",
                      data, sizeof data);
    struct tp_convert_options o = {.input = s->in, .output = s->out, .precision = TP_PRECISION_KEEP};
    assert_int_equal(tp_conversion_prepare(&cv, &o, &err), TP_OK);
    assert_int_equal(tp_conversion_run(cv, NULL, &err), TP_OK);
    tp_conversion_free(cv);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    remove_tree(s->folder);
    free(s);
    return 0;
}

static uint64_t differences(const struct scene *s, bool source, char *first, size_t cap)
{
    struct tp_verify_report r;
    struct tp_error err;
    struct tp_verify_options o = {.model = s->out, .source = source ? s->in : NULL};
    enum tp_status st = tp_verify(&o, &r, &err);
    if (st)
        fail_msg("%s: %s", tp_status_name(st), err.message);
    snprintf(first, cap, "%s", r.difference_shown ? r.differences[0] : "");
    uint64_t count = r.difference_count;
    tp_verify_report_release(&r);
    return count;
}

static void a_good_output_has_no_difference(void **state)
{
    char first[512];
    assert_int_equal(differences(*state, false, first, sizeof first), 0);
    assert_int_equal(differences(*state, true, first, sizeof first), 0);
}

/* Every single byte of the data file and of the side file matters, whatever it is changed to. */
static void no_flipped_byte_goes_unseen(void **state)
{
    struct scene *s = *state;
    static const char *const names[] = {"model.msgpack", "config.json", ".gitattributes"};
    for (size_t n = 0; n < TP_COUNT_OF(names); n++) {
        size_t len;
        char *bytes = read_file(s->out, names[n], &len), first[512];
        for (size_t i = 0; i < len; i++) {
            for (int flip = 1; flip < 256; flip += 37) {
                bytes[i] = (char)(bytes[i] ^ flip);
                write_file(s->out, names[n], bytes, len);
                if (differences(s, false, first, sizeof first) == 0)
                    fail_msg("%s: byte %zu changed unseen", names[n], i);
                bytes[i] = (char)(bytes[i] ^ flip);
            }
        }
        write_file(s->out, names[n], bytes, len);
        assert_int_equal(differences(s, false, first, sizeof first), 0);
        for (size_t cut = 0; cut < len; cut++) {
            write_file(s->out, names[n], bytes, cut);
            assert_int_not_equal(differences(s, true, first, sizeof first), 0);
            assert_non_null(strstr(first, names[n]));
        }
        write_file(s->out, names[n], bytes, len);
        free(bytes);
    }
}

static void every_prefix_of_a_manifest_is_a_difference(void **state)
{
    struct scene *s = *state;
    size_t len;
    char *bytes = read_file(s->out, "manifest.json", &len), first[512];
    for (size_t cut = 0; cut + 2 < len; cut++) {
        write_file(s->out, "manifest.json", bytes, cut);
        assert_int_not_equal(differences(s, false, first, sizeof first), 0);
        assert_non_null(strstr(first, "manifest.json"));
    }
    free(bytes);
}

/* Replace the first `from` of the manifest, and expect a difference that says `says`. */
static void lie(const struct scene *s, const char *manifest, const char *from, const char *to, const char *says)
{
    char first[512], *at = strstr(manifest, from);
    if (!at)
        fail_msg("the manifest has no %s", from);
    char *text = malloc(strlen(manifest) + strlen(to) + 1);
    size_t head = (size_t)(at - manifest);
    memcpy(text, manifest, head);
    memcpy(text + head, to, strlen(to));
    memcpy(text + head + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
    write_text(s->out, "manifest.json", text);
    if (differences(s, false, first, sizeof first) == 0)
        fail_msg("%s for %s went unseen", to, from);
    if (!strstr(first, says))
        fail_msg("%s for %s: expected '%s' in '%s'", to, from, says, first);
    free(text);
}

static void manifests_that_lie_are_found_out(void **state)
{
    struct scene *s = *state;
    char *m = read_file(s->out, "manifest.json", NULL);
    lie(s, m, "\"version\":1", "\"version\":2", "version 2");
    lie(s, m, "\"name\":\"model.msgpack\"", "\"name\":\"../in/model.safetensors\"", "not the name of a file");
    lie(s, m, "\"name\":\"model.msgpack\"", "\"name\":\"/etc/passwd\"", "not the name of a file");
    lie(s, m, "\"name\":\"model.msgpack\"", "\"name\":\"\"", "not the name of a file");
    lie(s, m, "\"name\":\"model.msgpack\"", "\"name\":\"a\\u0000b\"", "NUL");
    lie(s, m, "\"name\":\"model.msgpack\"", "\"name\":\"missing.msgpack\"", "not in the manifest");
    lie(s, m, "\"dtype\":\"float32\"", "\"dtype\":\"float99\"", "dtype");
    lie(s, m, "\"dtype\":\"float32\"", "\"dtype\":\"int32\"", "int32");
    lie(s, m, "\"shape\":[2,2]", "\"shape\":[4]", "shape");
    lie(s, m, "\"shape\":[2,2]", "\"shape\":[2,18446744073709551615]", "");
    lie(s, m, "\"shape\":[2,2]", "\"shape\":[3037000500,3037000500]", "");
    lie(s, m, "\"shape\":[2,2]", "\"shape\":[-2,2]", "");
    lie(s, m, "\"file\":0", "\"file\":1", "'file' is 1");
    lie(s, m, "\"file\":0", "\"file\":4294967296", "'file' is 4294967296");
    lie(s, m, "\"offset\":", "\"offset\":9", "outside its file");
    lie(s, m, "\"length\":16", "\"length\":15", "15 bytes");
    lie(s, m, "\"length\":16", "\"length\":9223372036854775807", "");
    lie(s, m, "\"length\":16", "\"elements\":[0,3],\"length\":12", "element 3 of 4");
    lie(s, m, "\"length\":16", "\"elements\":[1,4],\"length\":12", "element 0");
    lie(s, m, "\"path\":[\"a\"]", "\"path\":[]", "path");
    lie(s, m, "\"path\":[\"a\"]", "\"path\":[\"b\"]", "'b'");
    lie(s, m, "\"path\":[\"a\"]", "\"path\":[\"c\"]", "'c' is missing");
    lie(s, m, "\"path\":[\"a\"]", "\"path\":\"a\"", "path");
    lie(s, m, "\"xxh3\":[\"", "\"xxh3\":[\"0", "digest");
    lie(s, m, "\"arrays\":[", "\"arrays\":[5,", "objects");
    lie(s, m, "\"files\":[\n{\"name\":\"model.msgpack\"", "\"files\":[\n{\"x\":1,\"x\":1,\"name\":\"model.msgpack2\"",
        "");
    lie(s, m, "\"precision\":\"keep\"", "\"precision\":\"float8\"", "precision");
    lie(s, m, "\"tensorport\"", "\"gzip\"", "not written by TensorPort");
    free(m);
}

/* Shards that no Flax wrote. The manifest is gone, the source stands beside. */
static void hostile_shards_are_refused(void **state)
{
    struct scene *s = *state;
    static const struct {
        const char *hex, *says;
    } cases[] = {
        {"", "truncated"},
        {"c1", "not MessagePack"},
        {"90", "no map"},
        {"c0", "no map"},
        {"8000", "behind the last value"},
        {"81", "truncated"},
        {"8101c0", "not a string"},
        {"81a161", "truncated"},
        {"81dbffffffff61", "too long"},
        {"81a161c900ffffff01", "truncated"},
        {"81a161c9ffffffff01", "truncated"},
        {"81a161d40193", "truncated"},
        {"81a161d7019391c0a7666c6f6174333200", "not a number"},
        {"81a161c7ff0193dcffff", "64 dimensions"},
        {"81a161c71401939103a862666c6f61743136c407803f0040404000", "shape and length"}, /* 7 bytes for 3 bf16 */
        {"81a161c71401939103a862666c6f61743939c406803f00404040", "dtype 'bfloat99'"},
        {"81a161c71501939103a862666c6f61743136c406803f00404040", "another length"},
        {"81a161c71c0193 91cf4000000000000001 a862666c6f61743136c406803f00404040",
         "shape and length"}, /* 2 * (2^62 + 1) wraps */
        {"81a1618100", "not a string"},
        {"81a16182b45f5f74656e736f72706f72745f70617274735f5f80", "parts beside other keys"},
        {"81a16181b45f5f74656e736f72706f72745f70617274735f5f81a131d40190", "not [shape"},
        {"81a16183b95f5f6d73677061636b5f6368756e6b65645f61727261795f5fc3a5736861706581a130ceffffffffa66368756e6b73dffff"
         "fffff",
         "impossible number"},
        {"81a16193010203", "a list"},
        {"82a178 c0 b45f5f74656e736f72706f72745f70617274735f5f 80", "behind other keys"},
    };
    char *path = tp_path_join(s->out, "manifest.json");
    unlink(path);
    free(path);
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        uint8_t bytes[256];
        char first[512];
        size_t len = from_hex(bytes, cases[i].hex);
        write_file(s->out, "model.msgpack", bytes, len);
        if (differences(s, true, first, sizeof first) == 0)
            fail_msg("%s went unseen", cases[i].hex);
        if (!strstr(first, cases[i].says))
            fail_msg("%s: expected '%s' in '%s'", cases[i].hex, cases[i].says, first);
    }
}

static void deep_nesting_is_refused_without_recursion(void **state)
{
    struct scene *s = *state;
    size_t depth = 100000, len = 0;
    uint8_t *bytes = malloc(depth * 3);
    char first[512];
    for (size_t i = 0; i < depth; i++) {
        bytes[len++] = 0x81;
        bytes[len++] = 0xa1;
        bytes[len++] = 'x';
    }
    write_file(s->out, "model.msgpack", bytes, len);
    assert_int_not_equal(differences(s, true, first, sizeof first), 0);
    char *path = tp_path_join(s->out, "manifest.json");
    unlink(path);
    free(path);
    assert_int_not_equal(differences(s, true, first, sizeof first), 0);
    assert_non_null(strstr(first, "nested deeper"));
    free(bytes);
}

static void a_folder_without_manifest_needs_a_source(void **state)
{
    struct scene *s = *state;
    struct tp_verify_report r;
    struct tp_error err;
    struct tp_verify_options o = {.model = s->out};
    char first[512], *path = tp_path_join(s->out, "manifest.json");
    unlink(path);
    free(path);
    assert_int_equal(tp_verify(&o, &r, &err), TP_ERR_USAGE);
    tp_verify_report_release(&r);
    assert_int_equal(differences(s, true, first, sizeof first), 0);
}

static void a_changed_source_shows_in_values(void **state)
{
    struct scene *s = *state;
    static const float data[6] = {1, 2, 3, 4.5f, 5, 6};
    char first[512];
    write_safetensors(s->in, "model.safetensors",
                      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                      "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}",
                      data, sizeof data);
    assert_int_equal(differences(s, true, first, sizeof first), 1);
    assert_non_null(strstr(first, "'a': 1 of its values differ from the source, the first at element 3"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_output_has_no_difference),
        TEST(no_flipped_byte_goes_unseen),
        TEST(every_prefix_of_a_manifest_is_a_difference),
        TEST(manifests_that_lie_are_found_out),
        TEST(hostile_shards_are_refused),
        TEST(deep_nesting_is_refused_without_recursion),
        TEST(a_folder_without_manifest_needs_a_source),
        TEST(a_changed_source_shows_in_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
