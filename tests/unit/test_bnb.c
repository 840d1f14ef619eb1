/* SPDX-License-Identifier: MIT */
/* bitsandbytes' four bits: what the package itself decodes (tests/data/quantised), the formula said plainly, and the
 * JSON that nobody should trust. */
#include <math.h>

#include "fixture.h"

#include "quant/schemes.h"

#define STEM "l.0.weight"
#define NF4 "bitsandbytes__nf4"

/* ---- one decoded tensor ---- */

struct fixture {
    struct tp_checkpoint *ck;
    struct tp_arena arena;
    struct tp_decoded d;
    struct tp_scratch scratch;
    struct tp_kernels kernels;
    struct tp_error err;
};

static enum tp_status open_group(struct fixture *f, const char *path, bool nan_scales)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(tp_checkpoint_open(&f->ck, path, NULL, &f->err), TP_OK);
    assert_int_equal(f->ck->group_count, 1);
    const struct tp_group *group = &f->ck->groups[0];
    bool is_nf4 = strcmp(group->scheme, "bnb-nf4") == 0;
    assert_true(is_nf4 || strcmp(group->scheme, "bnb-fp4") == 0);
    f->d = (struct tp_decoded){.scheme = is_nf4 ? &tp_scheme_bnb_nf4 : &tp_scheme_bnb_fp4,
                               .ck = f->ck,
                               .group = group,
                               .codes = &f->ck->tensors[group->codes],
                               .options = {.nan_scales = nan_scales}};
    f->scratch.size_bytes = TP_SCRATCH_MIN_BYTES;
    f->scratch.bytes = aligned_alloc(64, f->scratch.size_bytes);
    f->scratch.owner = f; /* somebody else's */
    assert_non_null(f->scratch.bytes);
    assert_true(tp_kernels_init(&f->kernels, "scalar"));
    return f->d.scheme->prepare(&f->d, &f->arena, &f->err);
}

static void close_group(struct fixture *f)
{
    free(f->scratch.bytes);
    tp_arena_release(&f->arena);
    tp_checkpoint_close(f->ck);
}

static enum tp_status decode(struct fixture *f, uint64_t first, uint64_t count, float *dst)
{
    return f->d.scheme->decode(&f->d, &f->scratch, &f->kernels, first, count, dst, &f->err);
}

/* All of it, in pieces of `step` elements; exactly as large, so that a sanitizer sees a write beyond. */
static float *decode_all(struct fixture *f, uint64_t step)
{
    float *all = malloc((size_t)f->d.elem_count * sizeof *all + 1);
    assert_non_null(all);
    for (uint64_t at = 0; at < f->d.elem_count; at += step) {
        uint64_t n = f->d.elem_count - at < step ? f->d.elem_count - at : step;
        float *piece = malloc((size_t)n * sizeof *piece);
        assert_int_equal(decode(f, at, n, piece), TP_OK);
        memcpy(all + at, piece, (size_t)n * sizeof *piece);
        free(piece);
    }
    assert_true(f->scratch.owner != f || f->d.elem_count == 0);
    return all;
}

/* ---- against the package ---- */

static const char *data_path(const char *name, const char *file)
{
    static char path[1024];
    const char *root = getenv("TP_TEST_DATA"), *slash = strrchr(__FILE__, '/');
    if (root)
        snprintf(path, sizeof path, "%s/quantised/%s/%s", root, name, file);
    else
        snprintf(path, sizeof path, "%.*s/../data/quantised/%s/%s", slash ? (int)(slash - __FILE__) : 1,
                 slash ? __FILE__ : ".", name, file);
    return path;
}

static enum tp_float_kind kind_of(const struct tp_tensor *t)
{
    return t->dtype == TP_BF16 ? TP_KIND_BF16 : TP_KIND_F16;
}

static void expect_golden(const char *name, uint64_t step)
{
    struct fixture f;
    struct tp_checkpoint *golden;
    struct tp_stats stats;
    assert_int_equal(open_group(&f, data_path(name, "model.safetensors"), false), TP_OK);
    assert_int_equal(tp_checkpoint_open(&golden, data_path(name, "expected.safetensors"), NULL, NULL), TP_OK);
    const struct tp_tensor *expected = tp_checkpoint_find(golden, f.d.name);
    assert_non_null(expected);
    assert_int_equal(f.d.name_len, expected->name_len);
    assert_int_equal(f.d.rank, expected->rank);
    assert_memory_equal(f.d.shape, expected->shape, expected->rank * sizeof *expected->shape);
    assert_int_equal(f.d.elem_count, expected->elem_count);
    size_t n = (size_t)f.d.elem_count;
    uint16_t *ours = malloc(2 * n), *theirs = malloc(2 * n);
    float *values = decode_all(&f, step);
    tp_stats_init(&stats);
    f.kernels.cast[TP_KIND_F32][kind_of(expected)](ours, values, n, false, &stats);
    assert_int_equal(tp_tensor_read(golden, expected, 0, n, theirs, NULL), TP_OK);
    for (size_t i = 0; i < n; i++)
        if (ours[i] != theirs[i])
            fail_msg("%s: element %zu is %04x, expected %04x", name, i, ours[i], theirs[i]);
    free(ours);
    free(theirs);
    free(values);
    tp_checkpoint_close(golden);
    close_group(&f);
}

static void values_are_those_of_bitsandbytes(void **state)
{
    (void)state;
    static const char *const names[] = {"bnb-fp4-f16",          "bnb-nf4-bf16",           "bnb-nf4-bs4096-bf16",
                                        "bnb-nf4-nested-bf16",  "bnb-nf4-odd-nested-f16", "bnb-nf4-f16",
                                        "bnb-nf4-storage-bf16", "bnb-nf4-zeroblock-bf16"};
    static const uint64_t steps[] = {1 << 20, 1, 7, 63, 64, 129, 1000};
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        for (size_t k = 0; k < TP_COUNT_OF(steps); k++)
            expect_golden(names[i], steps[k]);
}

/* The documents' tables: nf4, and fp4 in twelfths, whose code 8 is +0. */
static void maps_of_the_packages_are_those_of_the_documents(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t bits[16];
    } rows[] = {
        {"bnb-nf4-bf16",
         {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000, 0x3da2faff,
          0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000}},
        {"bnb-fp4-f16",
         {0x00000000, 0x3baaaaab, 0x3f2aaaab, 0x3f800000, 0x3eaaaaab, 0x3f000000, 0x3e2aaaab, 0x3e800000, 0x00000000,
          0xbbaaaaab, 0xbf2aaaab, 0xbf800000, 0xbeaaaaab, 0xbf000000, 0xbe2aaaab, 0xbe800000}},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_checkpoint *ck = NULL;
        uint32_t bits[16];
        assert_int_equal(tp_checkpoint_open(&ck, data_path(rows[i].name, "model.safetensors"), NULL, NULL), TP_OK);
        for (uint32_t k = 0; k < tp_checkpoint_tensor_count(ck); k++) {
            const struct tp_tensor *t = tp_checkpoint_tensor(ck, k);
            if (!strstr(t->name, ".quant_map"))
                continue;
            assert_int_equal(tp_tensor_read(ck, t, 0, 16, bits, NULL), TP_OK);
            assert_memory_equal(bits, rows[i].bits, sizeof bits);
        }
        tp_checkpoint_close(ck);
    }
}

/* ---- against the formula ---- */

struct part {
    const char *suffix, *dtype, *shape;
    const void *bytes;
    size_t len;
};

static void write_parts(const char *folder, const struct part *parts, size_t count)
{
    char header[4096];
    size_t at = 0, used = 1, total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i].len;
    uint8_t *data = malloc(total + 1);
    header[0] = '{';
    for (size_t i = 0; i < count; i++) {
        int len = snprintf(header + used, sizeof header - used,
                           "%s\"" STEM "%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
                           i > 0 ? "," : "", parts[i].suffix, parts[i].dtype, parts[i].shape, at, at + parts[i].len);
        used += (size_t)len;
        memcpy(data + at, parts[i].bytes, parts[i].len);
        at += parts[i].len;
    }
    snprintf(header + used, sizeof header - used, "}");
    write_safetensors(folder, "model.safetensors", header, data, total);
    free(data);
}

static const uint32_t nf4_bits[16] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f,
                                      0xbdba7871, 0x00000000, 0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a,
                                      0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* What a set of tensors says; every test changes a little of it. */
struct set {
    const char *json;
    const char *codes_dtype, *codes_shape;
    const uint8_t *codes;
    size_t codes_len;
    const void *absmax;
    size_t absmax_count;
    const void *map; /* NULL: NF4 */
    size_t map_count;
    const float *nested; /* NULL: scales are plain */
    size_t nested_count;
    const float *nested_map; /* 256 */
    bool nan_scales;
};

static enum tp_status open_set(struct fixture *f, const struct set *s)
{
    struct scratch folder;
    char shapes[5][32];
    size_t item = s->nested ? 1 : 4;
    snprintf(shapes[0], 32, "[%zu]", strlen(s->json));
    snprintf(shapes[1], 32, "[%zu]", s->absmax_count);
    snprintf(shapes[2], 32, "[%zu]", s->map ? s->map_count : 16);
    snprintf(shapes[3], 32, "[%zu]", s->nested_count);
    snprintf(shapes[4], 32, "[%zu,1]", s->codes_len);
    struct part parts[] = {
        {"", s->codes_dtype ? s->codes_dtype : "U8", s->codes_shape ? s->codes_shape : shapes[4], s->codes,
         s->codes_len},
        {".quant_state." NF4, "U8", shapes[0], s->json, strlen(s->json)},
        {".absmax", s->nested ? "U8" : "F32", shapes[1], s->absmax, s->absmax_count * item},
        {".quant_map", "F32", shapes[2], s->map ? s->map : nf4_bits, (s->map ? s->map_count : 16) * 4},
        {".nested_absmax", "F32", shapes[3], s->nested, s->nested_count * 4},
        {".nested_quant_map", "F32", "[256]", s->nested_map, 1024},
    };
    scratch_make(&folder);
    write_parts(folder.path, parts, !s->nested ? 4 : s->nested_map ? 6 : 5);
    enum tp_status status = open_group(f, scratch_at(&folder, "model.safetensors"), s->nan_scales);
    remove_tree(folder.path); /* the file stays open */
    return status;
}

static void the_documents_vector_is_decoded(void **state)
{
    (void)state;
    static const uint8_t codes[] = {0x0f, 0x78, 0x1e, 0xf0};
    static const uint32_t absmax = 0x3d17f62b;
    static const uint16_t expected[] = {0xbd18, 0x3d18, 0x0000, 0x3b41, 0xbcd4, 0x3cdc, 0x3d18, 0xbd18};
    struct set s = {.json = "{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"float32\",\"shape\":[8]}",
                    .codes = codes,
                    .codes_len = 4,
                    .absmax = &absmax,
                    .absmax_count = 1};
    struct fixture f;
    struct tp_stats stats;
    uint16_t ours[8];
    assert_int_equal(open_set(&f, &s), TP_OK);
    assert_string_equal(f.d.name, STEM);
    float *values = decode_all(&f, 8);
    tp_stats_init(&stats);
    f.kernels.cast[TP_KIND_F32][TP_KIND_BF16](ours, values, 8, false, &stats);
    assert_memory_equal(ours, expected, sizeof expected);
    free(values);
    close_group(&f);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* 3 x 700001 elements: odd, more than one scratch, blocks across rows; plain and nested scales. */
static void any_run_follows_the_formula(void **state)
{
    (void)state;
    enum { COUNT = 3 * 700001, BLOCKS = (COUNT + 31) / 32, NESTED = (BLOCKS + 63) / 64, BYTES = (COUNT + 1) / 2 };
    static uint8_t codes[BYTES], scale_codes[BLOCKS];
    static float absmax[BLOCKS], nested[NESTED], nested_map[256], map[16];
    uint32_t seed = 7;
    for (size_t i = 0; i < BYTES; i++)
        codes[i] = (uint8_t)next_random(&seed);
    for (size_t i = 0; i < BLOCKS; i++) {
        scale_codes[i] = (uint8_t)next_random(&seed);
        absmax[i] = (float)next_random(&seed) * 1e-9f;
    }
    for (size_t i = 0; i < NESTED; i++)
        nested[i] = (float)next_random(&seed) * 1e-9f;
    for (size_t i = 0; i < 256; i++)
        nested_map[i] = (float)next_random(&seed) * 1e-7f - 0.7f;
    for (size_t i = 0; i < 16; i++)
        map[i] = (float)next_random(&seed) * 1e-7f - 0.8f;
    static const struct {
        uint64_t first, count;
    } runs[] = {{0, 1 << 20},     {1, 1 << 20},   {COUNT - (1 << 20), 1 << 20},
                {700000, 3},      {COUNT - 1, 1}, {31, 2},
                {32, 32},         {63, 65},       {5, 0},
                {1400001, 700001}};
    float *values = malloc(sizeof *values << 20);
    for (int is_nested = 0; is_nested < 2; is_nested++) {
        struct fixture f;
        struct set s = {.json = is_nested
                                    ? "{\"quant_type\":\"nf4\",\"blocksize\":32,\"dtype\":\"bfloat16\",\"shape\":[3, "
                                      "700001],\"nested_blocksize\":64,\"nested_dtype\":\"float32\","
                                      "\"nested_offset\":0.13036371767520905}"
                                    : "{\"quant_type\":\"nf4\",\"blocksize\":32,\"dtype\":\"bfloat16\",\"shape\":[3, "
                                      "700001]}",
                        .codes = codes,
                        .codes_len = BYTES,
                        .absmax = is_nested ? (const void *)scale_codes : absmax,
                        .absmax_count = BLOCKS,
                        .map = map,
                        .map_count = 16,
                        .nested = is_nested ? nested : NULL,
                        .nested_count = NESTED,
                        .nested_map = nested_map};
        assert_int_equal(open_set(&f, &s), TP_OK);
        for (size_t r = 0; r < TP_COUNT_OF(runs); r++) {
            assert_int_equal(decode(&f, runs[r].first, runs[r].count, values), TP_OK);
            for (uint64_t i = runs[r].first; i < runs[r].first + runs[r].count; i++) {
                float scale = absmax[i / 32];
                if (is_nested) {
                    scale = nested_map[scale_codes[i / 32]] * nested[i / 32 / 64];
                    scale = scale + (float)0.13036371767520905;
                }
                float expected = map[i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15] * scale;
                if (bits_of(expected) != bits_of(values[i - runs[r].first]))
                    fail_msg("element %llu is %a, expected %a", (unsigned long long)i,
                             (double)values[i - runs[r].first], (double)expected);
            }
        }
        close_group(&f);
    }
    free(values);
}

/* BF16 and F32 tensors that are bytes really: runs begin inside an element. */
static void any_dtype_may_hold_the_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *dtype, *shape;
    } held[] = {{"U8", "[32,1]"}, {"I8", "[32,1]"}, {"F16", "[16,1]"}, {"BF16", "[16,1]"}, {"F32", "[8,1]"}};
    uint8_t codes[32];
    static const float absmax[1] = {2.0f};
    for (size_t i = 0; i < 32; i++)
        codes[i] = (uint8_t)(i * 37 + 11);
    for (size_t h = 0; h < TP_COUNT_OF(held); h++)
        for (uint64_t step = 1; step < 12; step++) {
            struct fixture f;
            struct set s = {.json = "{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[2,32]}",
                            .codes_dtype = held[h].dtype,
                            .codes_shape = held[h].shape,
                            .codes = codes,
                            .codes_len = 32,
                            .absmax = absmax,
                            .absmax_count = 1};
            assert_int_equal(open_set(&f, &s), TP_OK);
            float *values = decode_all(&f, step);
            for (size_t i = 0; i < 64; i++) {
                float map;
                memcpy(&map, &nf4_bits[i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15], sizeof map);
                assert_int_equal(bits_of(values[i]), bits_of(map * 2.0f));
            }
            free(values);
            close_group(&f);
        }
}

static void an_empty_tensor_decodes_to_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct set s = {.json = "{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[0,5]}",
                    .codes = (const uint8_t *)"",
                    .absmax = ""};
    assert_int_equal(open_set(&f, &s), TP_OK);
    assert_int_equal(f.d.elem_count, 0);
    float none;
    assert_int_equal(decode(&f, 0, 0, &none), TP_OK);
    close_group(&f);
}

/* ---- refusals ---- */

static void expect_refusal(const struct set *s, const char *fragment, const char *other)
{
    struct fixture f;
    enum tp_status status = open_set(&f, s);
    float values[64];
    if (!status)
        status = decode(&f, 0, f.d.elem_count, values);
    if (status != TP_ERR_FORMAT || !strstr(f.err.message, fragment) || !strstr(f.err.message, other) ||
        strcmp(f.err.tensor, STEM) != 0)
        fail_msg("%s\nstatus %s, tensor '%s': %s\nexpected: %s ... %s", s->json, tp_status_name(status), f.err.tensor,
                 f.err.message, fragment, other);
    close_group(&f);
}

#define HEAD "{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"float16\","
#define SHAPE HEAD "\"shape\":[64]"
#define NESTED(blocksize, dtype, offset) \
    SHAPE ",\"nested_blocksize\":" blocksize ",\"nested_dtype\":" dtype ",\"nested_offset\":" offset "}"

/* 64 elements, one block; the JSON alone is at fault. */
static void a_quant_state_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *fragment;
    } cases[] = {
        {"x", "not valid JSON: expected a value, found 'x' at byte 0"},
        {"[]", "expected an object"},
        {"{}", "lacks the key 'quant_type'"},
        {HEAD "\"shape\":[64]", "expected ',' or '}', found the end"},
        {SHAPE "} ]", "nothing after the value"},
        {SHAPE ",\"blocksize\":64}", "the key 'blocksize' twice"},
        {SHAPE ",\"order\":\"low\"}", "a key that is not known, 'order'"},
        {SHAPE ",\"\\u001b[2J\":1}", "a key that is not known, '\\x1b[2J'"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":64,\"shape\":[64]}", "lacks the key 'dtype'"},
        {"{\"quant_type\":\"fp4\",\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[64]}",
         "quant_type is 'fp4', but the tensor's name says 'nf4'"},
        {"{\"quant_type\":\"nf4\\u0000\",\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[64]}", "quant_type is '?'"},
        {"{\"quant_type\":4,\"blocksize\":64,\"dtype\":\"float16\",\"shape\":[64]}",
         "a whole number for 'quant_type', expected a string"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"float16float16float16float16\",\"shape\":[64]}",
         "dtype is"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":0,\"dtype\":\"float16\",\"shape\":[64]}", "blocksize is 0"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":16,\"dtype\":\"float16\",\"shape\":[64]}", "blocksize is 16"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":8192,\"dtype\":\"float16\",\"shape\":[64]}", "blocksize is 8192"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":96,\"dtype\":\"float16\",\"shape\":[64]}", "blocksize is 96"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":-64,\"dtype\":\"float16\",\"shape\":[64]}", "a number for 'blocksize'"},
        {"{\"quant_type\":\"nf4\",\"blocksize\":64.0,\"dtype\":\"float16\",\"shape\":[64]}",
         "a number for 'blocksize'"},
        {HEAD "\"shape\":64}", "a whole number for 'shape', expected a list"},
        {HEAD "\"shape\":[64,null]}", "shape has null"},
        {HEAD "\"shape\":[8,[8]]}", "shape has a list"},
        {HEAD
         "\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
         "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,64]}",
         "more than 64 dimensions"},
        {HEAD "\"shape\":[4294967296,4294967296,4294967296]}", "more elements than can be counted"},
        {HEAD "\"shape\":[9223372036854775807]}", "more elements than can be counted"},
        {HEAD "\"shape\":[0,9223372036854775807,9]}", "more elements than can be counted"},
        {HEAD "\"shape\":[7,9]}", "shape [7, 9] needs 32 bytes of codes"},
        {HEAD "\"shape\":[65]}", "shape [65] needs 33 bytes of codes, there are 32"},
        {HEAD "\"shape\":[]}", "shape [] needs 1 bytes of codes, there are 32"},
        {SHAPE ",\"nested_blocksize\":256}", "lacks the key 'nested_dtype'"},
        {NESTED("100", "\"float32\"", "0.5"), "nested_blocksize is 100"},
        {NESTED("256", "\"float64\"", "0.5"), "nested_dtype is 'float64'"},
        {NESTED("256", "\"float32\"", "1e39"), "nested_offset is 1e+39"},
        {NESTED("256", "\"float32\"", "NaN"), "expected a value, found 'N'"},
        {NESTED("256", "\"float32\"", "0.5"), "absmax is F32, expected U8"},
    };
    static const uint8_t codes[32];
    static const float absmax[1] = {1};
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct set s = {.json = cases[i].json, .codes = codes, .codes_len = 32, .absmax = absmax, .absmax_count = 1};
        if (strstr(cases[i].fragment, "[7, 9]"))
            s.codes_len = 31;
        expect_refusal(&s, cases[i].fragment, i == TP_COUNT_OF(cases) - 1 ? ".absmax" : NF4);
    }
    char *large = malloc(5001); /* valid, but no such thing is that large */
    memset(large, ' ', 5000);
    memcpy(large, SHAPE "}", strlen(SHAPE "}"));
    large[5000] = '\0';
    struct set s = {.json = large, .codes = codes, .codes_len = 32, .absmax = absmax, .absmax_count = 1};
    expect_refusal(&s, "the quant_state has 5000 bytes, expected 1 to 4096", NF4);
    free(large);
}

static void counts_that_disagree_are_refused(void **state)
{
    (void)state;
    static const uint8_t codes[48];
    static const float floats[256] = {1};
    static const char nested[] = NESTED("256", "\"float32\"", "0");
    struct set s = {.json = SHAPE "}", .codes = codes, .codes_len = 32, .absmax = floats, .absmax_count = 2};
    expect_refusal(&s, "absmax has 2 elements, expected 1", ".absmax");
    s.absmax_count = 0;
    expect_refusal(&s, "absmax has 0 elements, expected 1", ".absmax");
    s.absmax_count = 1;
    s.map = floats;
    s.map_count = 15;
    expect_refusal(&s, "quant_map has 15 elements, expected 16", ".quant_map");
    s.map = NULL;
    s.nested = floats;
    s.nested_count = 1;
    s.nested_map = floats;
    expect_refusal(&s, "says nothing of nested scales", ".nested_absmax");
    s.json = nested;
    s.nested_count = 2;
    expect_refusal(&s, "nested_absmax has 2 elements, expected 1", ".nested_absmax");
    s.nested_count = 1;
    s.nested_map = NULL;
    expect_refusal(&s, "there is no .nested_quant_map", ".absmax");
}

static void scales_that_are_none_are_refused_with_their_index(void **state)
{
    (void)state;
    static const uint8_t codes[32] = {0x70, 0xf7};
    static const float nan_map[16] = {0, 1, 2, NAN}, ones[256] = {0.5f, 0.5f};
    static const struct {
        float scales[2];
        const char *fragment;
    } cases[] = {{{1, NAN}, "the scale at index 1 is NaN"},
                 {{INFINITY, 1}, "the scale at index 0 is infinite"},
                 {{1, -1}, "the scale at index 1 is negative"}};
    static const char small[] = "{\"quant_type\":\"nf4\",\"blocksize\":32,\"dtype\":\"float16\",\"shape\":[64]}";
    static const char nested[] = "{\"quant_type\":\"nf4\",\"blocksize\":32,\"dtype\":\"float16\",\"shape\":[64],"
                                 "\"nested_blocksize\":256,\"nested_dtype\":\"float32\",\"nested_offset\":-1}";
    struct set s = {.json = small, .codes = codes, .codes_len = 32, .absmax_count = 2};
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        s.absmax = cases[i].scales;
        expect_refusal(&s, cases[i].fragment, ".absmax");
    }
    s.absmax = ones;
    s.map = nan_map;
    s.map_count = 16;
    expect_refusal(&s, "quant_map has no finite value at index 3", ".quant_map");
    s.map = NULL;
    s.json = nested;
    s.absmax = "\0\1";
    s.nested_count = 1;
    s.nested_map = ones;
    s.nested = (const float[]){-1};
    expect_refusal(&s, "the scale at index 0 is negative", ".nested_absmax");
    s.nested = (const float[]){1}; /* 0.5 * 1 - 1: what the offset makes negative is none of the writer's faults */
    struct fixture f;
    float values[64];
    assert_int_equal(open_set(&f, &s), TP_OK);
    assert_int_equal(decode(&f, 0, 64, values), TP_OK);
    assert_int_equal(bits_of(values[1]), 0x3f000000); /* -1 * -0.5 */
    close_group(&f);
}

static void nan_scales_give_nan_when_asked_for(void **state)
{
    (void)state;
    static const uint8_t codes[32] = {0x70, 0xf7};
    static const float scales[2] = {-NAN, 1};
    static const char small[] = "{\"quant_type\":\"nf4\",\"blocksize\":32,\"dtype\":\"float16\",\"shape\":[64]}";
    struct set s = {
        .json = small, .codes = codes, .codes_len = 32, .absmax = scales, .absmax_count = 2, .nan_scales = true};
    struct fixture f;
    float values[64];
    assert_int_equal(open_set(&f, &s), TP_OK);
    assert_int_equal(decode(&f, 0, 64, values), TP_OK);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(bits_of(values[i]), i < 32 ? 0x7fc00000 : 0xbf800000);
    close_group(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_bitsandbytes),
        cmocka_unit_test(maps_of_the_packages_are_those_of_the_documents),
        cmocka_unit_test(the_documents_vector_is_decoded),
        cmocka_unit_test(any_run_follows_the_formula),
        cmocka_unit_test(any_dtype_may_hold_the_bytes),
        cmocka_unit_test(an_empty_tensor_decodes_to_nothing),
        cmocka_unit_test(a_quant_state_that_lies_is_refused),
        cmocka_unit_test(counts_that_disagree_are_refused),
        cmocka_unit_test(scales_that_are_none_are_refused_with_their_index),
        cmocka_unit_test(nan_scales_give_nan_when_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
