/* SPDX-License-Identifier: MIT */
/* Whole conversions on small files: golden bytes, refusals, the output folder's life. */
#include "fixture.h"

#include "base/compiler.h"
#include "tensorport/tensorport.h"

struct scene {
    char folder[SCRATCH_PATH], in[SCRATCH_PATH + 8], out[SCRATCH_PATH + 8], partial[SCRATCH_PATH + 40];
};

static int set_up(void **state)
{
    struct scene *s = calloc(1, sizeof *s);
    struct scratch scratch;
    scratch_make(&scratch);
    snprintf(s->folder, sizeof s->folder, "%s", scratch.path);
    snprintf(s->in, sizeof s->in, "%s/in", s->folder);
    snprintf(s->out, sizeof s->out, "%s/out", s->folder);
    snprintf(s->partial, sizeof s->partial, "%s.tensorport-partial", s->out);
    assert_int_equal(tp_folder_make(s->in, NULL), TP_OK);
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

static enum tp_status convert(const struct tp_convert_options *options, struct tp_convert_report *report,
                              struct tp_error *err)
{
    struct tp_conversion *cv = NULL;
    enum tp_status st = tp_conversion_prepare(&cv, options, err);
    if (!st)
        st = tp_conversion_run(cv, report, err);
    tp_conversion_free(cv);
    return st;
}

static void assert_ok(enum tp_status st, const struct tp_error *err)
{
    if (st)
        fail_msg("%s: %s %s", tp_status_name(st), err->message, err->path);
}

static const float four[] = {1, 2, 3, 4};

static void write_four(const struct scene *s)
{
    write_safetensors(s->in, "model.safetensors", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}",
                      four, 16);
}

/* The vector of docs/formats/flax-msgpack.md, as flax.serialization.msgpack_serialize writes it. */
static void a_nested_tree_has_flax_bytes(void **state)
{
    struct scene *s = *state;
    static const uint8_t data[22] = {0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0,    0, 0x80, 0x3f, 0,
                                     0,    0,    0x40, 0,    0,    0x40, 0x40, 0, 0,    0x80, 0x40};
    write_safetensors(s->in, "model.safetensors",
                      "{\"params.b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                      "\"params.w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[6,22]}}",
                      data, sizeof data);
    struct tp_error err;
    struct tp_convert_options o = {
        .input = s->in, .output = s->out, .precision = TP_PRECISION_KEEP, .tree = TP_TREE_NESTED};
    assert_ok(convert(&o, NULL, &err), &err);
    uint8_t expected[128];
    size_t expected_len =
        from_hex(expected, "81a6706172616d7382a162c71401939103a862666c6f61743136c406803f00404040a177c71e0193920202a7"
                           "666c6f61743332c4100000803f000000400000404000008040");
    size_t len;
    char *bytes = read_file(s->out, "model.msgpack", &len);
    assert_int_equal(len, expected_len);
    assert_memory_equal(bytes, expected, len);
    free(bytes);
}

static void a_model_without_tensors_is_an_empty_map(void **state)
{
    struct scene *s = *state;
    write_safetensors(s->in, "model.safetensors", "{}", NULL, 0);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out};
    assert_ok(convert(&o, NULL, &err), &err);
    size_t len;
    char *bytes = read_file(s->out, "model.msgpack", &len);
    assert_int_equal(len, 1);
    assert_int_equal((uint8_t)bytes[0], 0x80);
    free(bytes);
}

static void every_overflowing_array_is_listed_and_nothing_is_left(void **state)
{
    struct scene *s = *state;
    static const float data[] = {1, 65519.0f, 65520.0f, -1e9f, 1e-9f, 5, 1e30f, 2};
    write_safetensors(s->in, "model.safetensors",
                      "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
                      "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]},"
                      "\"c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[24,32]}}",
                      data, sizeof data);
    struct tp_error err;
    struct tp_convert_report r;
    struct tp_convert_options o = {.input = s->in, .output = s->out};
    assert_int_equal(convert(&o, &r, &err), TP_ERR_VALUE);
    assert_int_equal(r.value_count, 3); /* b has only a flushed value */
    assert_string_equal(r.values[0].name, "a");
    assert_int_equal(r.values[0].overflow_count, 2);
    assert_string_equal(r.values[1].name, "c");
    assert_int_equal(r.values[1].overflow_count, 1);
    assert_int_equal(r.values[2].overflow_count, 0);
    assert_int_equal(r.values[2].flushed_count, 1);
    tp_convert_report_release(&r);
    assert_false(file_exists(s->folder, "out"));
    assert_false(file_exists(s->folder, "out.tensorport-partial"));

    o.on_overflow = TP_OVERFLOW_SATURATE;
    assert_ok(convert(&o, &r, &err), &err);
    assert_int_equal(r.casts[0].overflow_count, 3);
    tp_convert_report_release(&r);
    struct tp_checkpoint *ck;
    uint16_t a[4];
    assert_ok(tp_checkpoint_open(&ck, s->out, NULL, &err), &err);
    assert_ok(tp_tensor_read(ck, tp_checkpoint_find(ck, "a"), 0, 4, a, &err), &err);
    assert_int_equal(a[1], 0x7bff);
    assert_int_equal(a[2], 0x7bff);
    assert_int_equal(a[3], 0xfbff);
    tp_checkpoint_close(ck);
}

static void a_kept_dtype_is_not_cast(void **state)
{
    struct scene *s = *state;
    write_four(s);
    static const char *const globs[] = {"*w"};
    struct tp_error err;
    struct tp_convert_report r;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .keep_dtype = {globs, 1}};
    assert_ok(convert(&o, &r, &err), &err);
    assert_int_equal(r.dtype_count[TP_F32], 1);
    assert_int_equal(r.cast_count, 0);
    tp_convert_report_release(&r);
}

static void a_glob_that_matches_nothing_is_refused(void **state)
{
    struct scene *s = *state;
    write_four(s);
    static const char *const globs[] = {"nothing*"};
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .exclude = {globs, 1}};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_USAGE);
    assert_non_null(strstr(err.message, "nothing*"));
}

/* ---- the output folder ---- */

static void an_empty_folder_is_filled(void **state)
{
    struct scene *s = *state;
    write_four(s);
    assert_ok(tp_folder_make(s->out, NULL), NULL);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .sync = true};
    assert_ok(convert(&o, NULL, &err), &err);
    assert_true(file_exists(s->out, "manifest.json"));
    assert_false(file_exists(s->out, ".tensorport-partial"));
}

static void a_foreign_folder_is_never_touched(void **state)
{
    struct scene *s = *state;
    write_four(s);
    assert_ok(tp_folder_make(s->out, NULL), NULL);
    write_text(s->out, "thesis.tex", "years of work");
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .overwrite = true};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    char *text = read_file(s->out, "thesis.tex", NULL);
    assert_string_equal(text, "years of work");
    free(text);
    assert_false(file_exists(s->out, "manifest.json"));
}

static void overwriting_needs_the_option_and_keeps_foreign_files(void **state)
{
    struct scene *s = *state;
    write_four(s);
    write_text(s->in, "config.json", "{}");
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .shard_size_bytes = 100};
    assert_ok(convert(&o, NULL, &err), &err);
    write_text(s->out, "mine.txt", "keep me");
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    char *config = tp_path_join(s->in, "config.json");
    unlink(config); /* the old output's side file must go with it */
    free(config);
    o.overwrite = true;
    o.precision = TP_PRECISION_KEEP;
    assert_ok(convert(&o, NULL, &err), &err);
    assert_true(file_exists(s->out, "mine.txt"));
    assert_false(file_exists(s->out, "config.json"));
    struct tp_verify_report v;
    struct tp_verify_options vo = {.model = s->out, .source = s->in};
    assert_ok(tp_verify(&vo, &v, &err), &err);
    assert_int_equal(v.difference_count, 0);
    tp_verify_report_release(&v);
}

static void a_file_of_somebody_else_is_not_replaced(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .overwrite = true};
    assert_ok(convert(&o, NULL, &err), &err);
    write_text(s->out, "README.md", "my notes");
    write_text(s->in, "README.md", "model card");
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    char *text = read_file(s->out, "README.md", NULL);
    assert_string_equal(text, "my notes");
    free(text);
}

static void an_unfinished_folder_is_refused_and_replaced_on_request(void **state)
{
    struct scene *s = *state;
    write_four(s);
    assert_ok(tp_folder_make(s->partial, NULL), NULL);
    write_text(s->partial, "UNFINISHED.txt", "");
    write_text(s->partial, "model.msgpack", "half");
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    assert_string_equal(err.path, s->partial);
    o.overwrite = true;
    assert_ok(convert(&o, NULL, &err), &err);
    assert_false(file_exists(s->folder, "out.tensorport-partial"));
}

static void a_partial_folder_that_is_not_ours_is_not_removed(void **state)
{
    struct scene *s = *state;
    write_four(s);
    assert_ok(tp_folder_make(s->partial, NULL), NULL);
    write_text(s->partial, "precious", "x");
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .overwrite = true};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    assert_true(file_exists(s->partial, "precious"));
}

/* Killed while old and new files were exchanged: whatever was done, the next run finishes it first. */
static void an_interrupted_exchange_is_finished(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    char inside[SCRATCH_PATH + 40], other[SCRATCH_PATH + 8];
    snprintf(inside, sizeof inside, "%s/.tensorport-partial", s->out);
    snprintf(other, sizeof other, "%s/other", s->folder);
    struct tp_convert_options o = {.input = s->in, .output = s->out, .tree = TP_TREE_FLAT};
    assert_ok(convert(&o, NULL, &err), &err); /* the old one */
    struct tp_convert_options n = {.input = s->in, .output = other, .precision = TP_PRECISION_KEEP};
    assert_ok(convert(&n, NULL, &err), &err); /* the new one, then moved to where a killed run leaves it */
    assert_ok(tp_path_rename(other, inside, &err), &err);
    write_text(inside, "UNFINISHED.txt", "");
    char *from = tp_path_join(s->out, "manifest.json"), *to = tp_path_join(inside, "manifest.old.json");
    assert_ok(tp_path_rename(from, to, &err), &err);
    free(from);
    free(to);
    from = tp_path_join(inside, "model.msgpack");
    to = tp_path_join(s->out, "model.msgpack");
    assert_ok(tp_path_rename(from, to, &err), &err);
    free(from);
    free(to);

    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS); /* not without being asked */
    o.overwrite = true;
    assert_ok(convert(&o, NULL, &err), &err);
    assert_false(file_exists(s->out, ".tensorport-partial"));
    struct tp_verify_report v;
    struct tp_verify_options vo = {.model = s->out, .source = s->in};
    assert_ok(tp_verify(&vo, &v, &err), &err);
    assert_int_equal(v.difference_count, 0);
    tp_verify_report_release(&v);
}

static void move(const char *from_folder, const char *from, const char *to_folder, const char *to)
{
    struct tp_error err;
    char *source = tp_path_join(from_folder, from), *target = tp_path_join(to_folder, to);
    assert_ok(tp_path_rename(source, target, &err), &err);
    free(source);
    free(target);
}

static void assert_text(const char *folder, const char *name, const char *expected)
{
    char *text = read_file(folder, name, NULL);
    assert_string_equal(text, expected);
    free(text);
}

/* Killed while the files of a first conversion were moved into a folder that had been empty. */
static void an_interrupted_move_into_an_empty_folder_is_finished(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    char other[SCRATCH_PATH + 8], inside[SCRATCH_PATH + 40];
    snprintf(other, sizeof other, "%s/other", s->folder);
    snprintf(inside, sizeof inside, "%s/.tensorport-partial", s->out);
    struct tp_convert_options o = {.input = s->in, .output = other};
    assert_ok(convert(&o, NULL, &err), &err);
    assert_ok(tp_folder_make(s->out, &err), &err);
    move(s->folder, "other", s->out, ".tensorport-partial");
    move(inside, "model.msgpack", s->out, "model.msgpack");
    o.output = s->out;
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    o.overwrite = true;
    assert_ok(convert(&o, NULL, &err), &err);
    assert_true(file_exists(s->out, "manifest.json"));
    assert_false(file_exists(s->out, ".tensorport-partial"));
}

static void files_of_somebody_else_survive_an_interrupted_exchange(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    char inside[SCRATCH_PATH + 40];
    snprintf(inside, sizeof inside, "%s/.tensorport-partial", s->out);
    struct tp_convert_options o = {.input = s->in, .output = s->out, .overwrite = true};
    assert_ok(convert(&o, NULL, &err), &err);
    assert_ok(tp_folder_make(inside, &err), &err);
    move(s->out, "manifest.json", inside, "manifest.old.json");
    write_text(s->out, "README.md", "my notes");
    write_text(s->in, "README.md", "model card");
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    assert_text(s->out, "README.md", "my notes");
}

static void sums_of_somebody_else_are_not_replaced(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .overwrite = true};
    assert_ok(convert(&o, NULL, &err), &err);
    write_text(s->out, "SHA256SUMS", "mine");
    o.sha256 = true;
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    assert_text(s->out, "SHA256SUMS", "mine");
}

/* A file comes into the output folder between the check and the exchange. */
static int add_config(void *user, const struct tp_progress *progress)
{
    if (progress->phase == TP_PHASE_CONVERT)
        write_text(user, "config.json", "mine");
    return 0;
}

static void files_that_come_while_it_works_survive(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out};
    assert_ok(convert(&o, NULL, &err), &err);
    write_text(s->in, "config.json", "{}");
    o.overwrite = true;
    o.progress = add_config;
    o.progress_user = s->out;
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    assert_text(s->out, "config.json", "mine");
    assert_true(file_exists(s->out, "manifest.json"));
    assert_true(file_exists(s->out, ".tensorport-partial")); /* the work is not lost */
    write_text(s->out, "config.json", "mine");
    char *path = tp_path_join(s->out, "config.json");
    assert_ok(tp_path_remove(path, &err), &err);
    free(path);
    o.progress = NULL;
    o.resume = true;
    assert_ok(convert(&o, NULL, &err), &err);
    assert_text(s->out, "config.json", "{}");
    assert_false(file_exists(s->out, ".tensorport-partial"));
}

static void a_manifest_that_cannot_be_read_is_refused_before_the_work(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    assert_ok(tp_folder_make(s->out, &err), &err);
    write_text(s->out, "manifest.json", "{\"format\":\"tensorport\",\"version\":2}");
    struct tp_convert_options o = {.input = s->in, .output = s->out, .overwrite = true};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_UNSUPPORTED);
    assert_true(file_exists(s->out, "manifest.json"));
    assert_false(file_exists(s->out, ".tensorport-partial"));
}

static void a_run_that_began_since_is_left_alone(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    struct tp_conversion *cv = NULL;
    struct tp_convert_options o = {.input = s->in, .output = s->out};
    assert_ok(tp_conversion_prepare(&cv, &o, &err), &err);
    assert_ok(tp_folder_make(s->partial, &err), &err);
    write_text(s->partial, "UNFINISHED.txt", "");
    write_text(s->partial, "model.msgpack", "another's");
    assert_int_equal(tp_conversion_run(cv, NULL, &err), TP_ERR_EXISTS);
    tp_conversion_free(cv);
    assert_text(s->partial, "model.msgpack", "another's");
}

static void the_folder_of_the_input_is_no_output(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    char file[SCRATCH_PATH + 40];
    struct tp_convert_options o = {.input = s->in, .output = s->out, .precision = TP_PRECISION_KEEP};
    assert_ok(convert(&o, NULL, &err), &err);
    snprintf(file, sizeof file, "%s/model.msgpack", s->out);
    const char *const inputs[] = {s->out, file};
    for (size_t i = 0; i < TP_COUNT_OF(inputs); i++) {
        struct tp_convert_options n = {.input = inputs[i], .output = s->out, .overwrite = true};
        assert_int_equal(convert(&n, NULL, &err), TP_ERR_USAGE);
    }
}

static void outputs_that_nothing_can_be_renamed_to_are_refused_at_once(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    char path[SCRATCH_PATH + 40];
    struct tp_convert_options o = {.input = s->in, .output = path};
    snprintf(path, sizeof path, "%s/absent/..", s->folder);
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_USAGE);
    snprintf(path, sizeof path, "%s/link", s->folder);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_EXISTS);
    assert_false(file_exists(s->folder, "link.tensorport-partial"));
    snprintf(path, sizeof path, "%s/absent/.//", s->folder);
    assert_ok(convert(&o, NULL, &err), &err);
}

/* ---- the plan ---- */

static void a_name_of_the_greatest_length_is_converted(void **state)
{
    struct scene *s = *state;
    char name[TP_NAME_MAX_BYTES + 1], header[TP_NAME_MAX_BYTES + 100];
    memset(name, 'n', TP_NAME_MAX_BYTES);
    name[TP_NAME_MAX_BYTES] = '\0';
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", name);
    write_safetensors(s->in, "model.safetensors", header, four, 16);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out};
    assert_ok(convert(&o, NULL, &err), &err);
}

/* What manifest.json cannot say is refused before anything is written. */
static void texts_that_are_not_utf8_are_refused(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    const char *const glob = "[w\xff]";
    struct tp_convert_options o = {.input = s->in, .output = s->out, .keep_dtype = {&glob, 1}};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_USAGE);
    o.keep_dtype.count = 0;
    write_text(s->in, "LICENSE-\xe9", "x");
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "LICENSE-\\xe9"));
    assert_false(file_exists(s->folder, "out.tensorport-partial"));
}

static void a_leaf_that_is_also_a_folder_is_refused(void **state)
{
    struct scene *s = *state;
    static const float two[2] = {1, 2};
    write_safetensors(s->in, "model.safetensors",
                      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                      "\"a.b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                      two, 8);
    struct tp_error err;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .tree = TP_TREE_NESTED};
    assert_int_equal(convert(&o, NULL, &err), TP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "a.b"));
    o.tree = TP_TREE_FLAT;
    assert_ok(convert(&o, NULL, &err), &err);
}

static void names_that_cannot_be_keys_are_refused(void **state)
{
    struct scene *s = *state;
    static const char *const bad[] = {"a..b", ".a", "a.", "x.__tensorport_parts__", "__msgpack_chunked_array__"};
    for (size_t i = 0; i < TP_COUNT_OF(bad); i++) {
        char header[200];
        snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", bad[i]);
        write_safetensors(s->in, "model.safetensors", header, four, 4);
        struct tp_error err;
        struct tp_conversion *cv = NULL;
        struct tp_convert_options o = {.input = s->in, .output = s->out, .tree = TP_TREE_NESTED};
        assert_int_equal(tp_conversion_prepare(&cv, &o, &err), TP_ERR_UNSUPPORTED);
    }
}

static void too_little_memory_is_refused_with_the_figure(void **state)
{
    struct scene *s = *state;
    write_four(s);
    struct tp_error err;
    struct tp_conversion *cv = NULL;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .max_memory_bytes = 1 << 20};
    assert_int_equal(tp_conversion_prepare(&cv, &o, &err), TP_ERR_NOMEM);
    assert_non_null(strstr(err.message, "--max-memory"));
}

static int stop_at_once(void *user, const struct tp_progress *p)
{
    (void)p;
    ++*(int *)user;
    return 1;
}

static void a_cancelled_conversion_is_resumed(void **state)
{
    struct scene *s = *state;
    write_four(s);
    int calls = 0;
    struct tp_error err;
    struct tp_convert_report report;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .progress = stop_at_once, .progress_user = &calls};
    assert_int_equal(convert(&o, &report, &err), TP_ERR_CANCELLED);
    assert_int_equal(calls, 1);
    assert_false(file_exists(s->folder, "out"));
    assert_int_equal(file_exists(s->folder, "out.tensorport-partial"), report.partial_path[0] != '\0');
    tp_convert_report_release(&report);
    o = (struct tp_convert_options){.input = s->in, .output = s->out, .resume = true};
    assert_int_equal(convert(&o, NULL, &err), TP_OK);
    assert_true(file_exists(s->out, "manifest.json"));
    assert_false(file_exists(s->out, ".resume"));
    assert_false(file_exists(s->folder, "out.tensorport-partial"));
}

static void another_conversion_is_not_resumed(void **state)
{
    struct scene *s = *state;
    write_four(s);
    int calls = 0;
    struct tp_error err;
    struct tp_convert_report report;
    struct tp_convert_options o = {.input = s->in, .output = s->out, .progress = stop_at_once, .progress_user = &calls};
    assert_int_equal(convert(&o, &report, &err), TP_ERR_CANCELLED);
    bool kept = report.partial_path[0] != '\0';
    tp_convert_report_release(&report);
    o = (struct tp_convert_options){
        .input = s->in, .output = s->out, .resume = true, .precision = TP_PRECISION_FLOAT32};
    assert_int_equal(convert(&o, NULL, &err), kept ? TP_ERR_EXISTS : TP_OK);
    if (kept) {
        assert_non_null(strstr(err.message, "float32"));
        assert_true(file_exists(s->folder, "out.tensorport-partial"));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_nested_tree_has_flax_bytes),
        TEST(a_model_without_tensors_is_an_empty_map),
        TEST(every_overflowing_array_is_listed_and_nothing_is_left),
        TEST(a_kept_dtype_is_not_cast),
        TEST(a_glob_that_matches_nothing_is_refused),
        TEST(an_empty_folder_is_filled),
        TEST(a_foreign_folder_is_never_touched),
        TEST(overwriting_needs_the_option_and_keeps_foreign_files),
        TEST(a_file_of_somebody_else_is_not_replaced),
        TEST(an_unfinished_folder_is_refused_and_replaced_on_request),
        TEST(a_partial_folder_that_is_not_ours_is_not_removed),
        TEST(an_interrupted_exchange_is_finished),
        TEST(an_interrupted_move_into_an_empty_folder_is_finished),
        TEST(files_of_somebody_else_survive_an_interrupted_exchange),
        TEST(sums_of_somebody_else_are_not_replaced),
        TEST(files_that_come_while_it_works_survive),
        TEST(a_manifest_that_cannot_be_read_is_refused_before_the_work),
        TEST(a_run_that_began_since_is_left_alone),
        TEST(the_folder_of_the_input_is_no_output),
        TEST(outputs_that_nothing_can_be_renamed_to_are_refused_at_once),
        TEST(a_name_of_the_greatest_length_is_converted),
        TEST(texts_that_are_not_utf8_are_refused),
        TEST(a_leaf_that_is_also_a_folder_is_refused),
        TEST(names_that_cannot_be_keys_are_refused),
        TEST(too_little_memory_is_refused_with_the_figure),
        TEST(a_cancelled_conversion_is_resumed),
        TEST(another_conversion_is_not_resumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
