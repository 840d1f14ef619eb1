/* SPDX-License-Identifier: MIT */
/* The safetensors output, without the pipeline: layouts of plans made by hand and from files, their bytes put together
 * here and read again by the project's own reader. What the reference writer makes of the same tensors is in
 * golden_header. */
#include "fixture.h"

#include "base/compiler.h"
#include "base/endian.h"
#include "checkpoint/checkpoint.h"
#include "format/format.h"
#include "plan/piece.h"

static const struct tp_format *const format = &tp_format_safetensors;

static int set_up(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);
    scratch_make(s);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scratch *s = *state;
    remove_tree(s->path);
    free(s);
    return 0;
}

static void assert_ok(enum tp_status st, const struct tp_error *err)
{
    if (st)
        fail_msg("%s: %s %s", tp_status_name(st), err->message, err->tensor);
}

/* ---- plans made by hand ---- */

struct tensor {
    const char *path; /* keys apart by '/', which becomes NUL */
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[3];
};

static void add_array(struct tp_plan *plan, const struct tensor *t)
{
    struct tp_array *a = &plan->arrays[plan->array_count++];
    uint64_t bits = tp_dtype_bits(t->dtype);
    char *path = tp_arena_strndup(&plan->arena, t->path, strlen(t->path));
    *a = (struct tp_array){.path = path,
                           .path_len = (uint16_t)strlen(t->path),
                           .shape = t->shape,
                           .rank = (uint8_t)t->rank,
                           .dtype = (uint8_t)t->dtype,
                           .view = TP_DTYPE_NONE,
                           .first_extent = TP_NONE,
                           .elem_count = 1};
    for (unsigned i = 0; i < t->rank; i++)
        a->elem_count *= t->shape[i];
    if (bits < 8)
        a->elem_count = a->elem_count * bits / 8;
    for (char *slash = path; (slash = strchr(slash, '/'));)
        *slash = '\0';
    plan->payload_bytes += a->elem_count * tp_array_item_bytes(a);
}

static void plan_of(struct tp_plan *plan, const struct tensor *tensors, size_t count)
{
    static const struct tp_checkpoint none = {.path = NULL};
    *plan = (struct tp_plan){.arrays = calloc(count + 1, sizeof *plan->arrays), .source = &none};
    assert_non_null(plan->arrays);
    for (size_t i = 0; i < count; i++)
        add_array(plan, &tensors[i]);
}

static void lay_out(struct tp_plan *plan, const struct tp_convert_options *options)
{
    static const struct tp_convert_options defaults;
    struct tp_error err;
    assert_ok(format->layout(plan, options ? options : &defaults, &err), &err);
}

/* ---- bytes ---- */

/* All framing in front of a file's first payload, taken `piece` bytes at a time. */
static uint8_t *frame_bytes(const struct tp_plan *plan, uint32_t file, size_t piece, size_t *len)
{
    *len = format->frame(plan, file, 0, 0, NULL, 0);
    uint8_t *bytes = malloc(*len + piece);
    assert_non_null(bytes);
    size_t at = 0, n;
    while ((n = format->frame(plan, file, 0, at, bytes + at, piece)) > 0)
        at += n;
    assert_int_equal(at, *len);
    return bytes;
}

static uint8_t payload_byte(uint32_t array, uint64_t i)
{
    return (uint8_t)(array * 31 + i);
}

/* Bytes of an extent: from the source where there is one, else a pattern. */
static void make_payload(const struct tp_plan *plan, const struct tp_checkpoint *source, const struct tp_out_extent *e,
                         uint8_t *dst)
{
    struct tp_error err;
    if (source)
        assert_ok(tp_tensor_read(source, plan->logicals[e->array].tensor, 0, e->elem_count, dst, &err), &err);
    else
        for (uint64_t i = 0; i < e->size_bytes; i++)
            dst[i] = payload_byte(e->array, i);
}

/* What the pipeline does. */
static void write_files(const struct scratch *s, const struct tp_plan *plan, const struct tp_checkpoint *source)
{
    for (uint32_t f = 0; f < plan->file_count; f++) {
        const struct tp_out_file *out = &plan->files[f];
        uint8_t *bytes = calloc(1, out->size_bytes + 1);
        size_t len;
        uint8_t *framing = frame_bytes(plan, f, TP_FRAME_MAX_BYTES, &len);
        assert_non_null(bytes);
        assert_true(len <= out->size_bytes);
        memcpy(bytes, framing, len);
        for (uint32_t k = 0; k < out->extent_count; k++) {
            const struct tp_out_extent *e = &plan->extents[out->first_extent + k];
            assert_int_equal(e->file, f);
            assert_int_equal(e->offset_bytes, len);
            make_payload(plan, source, e, bytes + e->offset_bytes);
            len += e->size_bytes;
            if (k > 0)
                assert_int_equal(format->frame(plan, f, k, 0, NULL, 0), 0);
        }
        assert_int_equal(len, out->size_bytes);
        if (out->extent_count)
            assert_int_equal(format->frame(plan, f, out->extent_count, 0, NULL, 0), 0);
        write_file(s->path, out->name, bytes, out->size_bytes);
        free(framing);
        free(bytes);
    }
}

struct text {
    char *bytes;
    size_t len;
};

static enum tp_status keep_text(void *user, const char *text, size_t len, struct tp_error *err)
{
    struct text *t = user;
    (void)err;
    t->bytes = realloc(t->bytes, t->len + len + 1);
    assert_non_null(t->bytes);
    memcpy(t->bytes + t->len, text, len);
    t->len += len;
    t->bytes[t->len] = '\0';
    return TP_OK;
}

static char *index_text(const struct tp_plan *plan)
{
    struct text t = {NULL, 0};
    struct tp_error err;
    assert_int_equal(plan->small_count, 1);
    assert_ok(format->write_small(plan, &plan->small_files[0], NULL, keep_text, &t, &err), &err);
    return t.bytes;
}

static struct tp_checkpoint *open_folder(const struct scratch *s)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err;
    assert_ok(tp_checkpoint_open(&ck, s->path, NULL, &err), &err);
    return ck;
}

static bool has_note(const struct tp_plan *plan, const char *text)
{
    for (size_t i = 0; i < plan->notes.count; i++)
        if (strcmp(plan->notes.items[i], text) == 0)
            return true;
    return false;
}

/* ---- the header ---- */

static const struct tensor golden_tensors[] = {
    {"u", TP_U8, 1, {1}},   {"b.w", TP_F32, 2, {2, 2}}, {"h", TP_BF16, 1, {3}},      {"a/b", TP_F16, 1, {1}},
    {"z", TP_BOOL, 1, {1}}, {"a-b", TP_F16, 1, {1}},    {"none", TP_I64, 2, {0, 5}}, {"a\"\xc3\xa9\\", TP_F32, 0, {0}},
};

/* By safetensors 0.8.0, safetensors.numpy.save(..., metadata={"format": "pt"}), without the blanks at the end. */
static const char golden_header[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[0,0]},"
    "\"a\\\"\xc3\xa9\\\\\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
    "\"b.w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]},"
    "\"h\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[20,26]},"
    "\"a-b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[26,28]},"
    "\"a.b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[28,30]},"
    "\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[30,31]},"
    "\"z\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[31,32]}}";

static struct tp_metadata_item pt_item = {"format", "pt", 6, 2};
static const struct tp_checkpoint pt = {.metadata = {.items = &pt_item, .count = 1}};

static void the_header_is_the_reference_writers_but_for_its_blanks(void **state)
{
    (void)state;
    struct tp_plan plan;
    plan_of(&plan, golden_tensors, TP_COUNT_OF(golden_tensors));
    plan.source = &pt;
    lay_out(&plan, NULL);
    assert_int_equal(plan.file_count, 1);
    assert_string_equal(plan.files[0].name, "model.safetensors");
    assert_int_equal(plan.small_count, 0);
    size_t len, golden_len = strlen(golden_header);
    uint8_t *bytes = frame_bytes(&plan, 0, TP_FRAME_MAX_BYTES, &len);
    assert_int_equal(len % 64, 0);
    assert_true(len - 8 - golden_len < 64);
    assert_int_equal(tp_load_le(bytes, 8), len - 8);
    assert_memory_equal(bytes + 8, golden_header, golden_len);
    for (size_t i = 8 + golden_len; i < len; i++)
        assert_int_equal(bytes[i], ' ');
    assert_int_equal(plan.files[0].size_bytes, len + 32);
    free(bytes);
    tp_plan_release(&plan);
}

static void a_header_can_be_had_from_any_byte_on(void **state)
{
    (void)state;
    struct tp_plan plan;
    plan_of(&plan, golden_tensors, TP_COUNT_OF(golden_tensors));
    plan.source = &pt;
    lay_out(&plan, NULL);
    size_t len;
    uint8_t piece[1024], *whole = frame_bytes(&plan, 0, TP_FRAME_MAX_BYTES, &len);
    assert_true(len <= sizeof piece);
    for (size_t offset = 0; offset <= len; offset++)
        for (size_t cap = 1; cap <= sizeof piece; cap += cap < 70 ? 1 : 97) {
            size_t rest = len - offset, expected = rest < cap ? rest : cap;
            memset(piece, 0xee, sizeof piece);
            assert_int_equal(format->frame(&plan, 0, 0, offset, piece, cap), expected);
            assert_memory_equal(piece, whole + offset, expected);
            if (expected < sizeof piece)
                assert_int_equal(piece[expected], 0xee);
        }
    assert_int_equal(format->frame(&plan, 0, 0, 100, NULL, 0), len - 100);
    assert_int_equal(format->frame(&plan, 0, 0, len + 5, piece, sizeof piece), 0);
    free(whole);
    tp_plan_release(&plan);
}

static void names_are_escaped_and_read_back(void **state)
{
    struct scratch *s = *state;
    static const struct tensor odd[] = {{"\x01\x1f\x7f\"\\", TP_U8, 1, {1}},
                                        {"", TP_U8, 1, {2}},
                                        {"../x", TP_U8, 1, {3}},
                                        {"\xe2\x82\xac \xf0\x9f\x99\x82", TP_U8, 1, {4}}};
    struct tp_plan plan;
    plan_of(&plan, odd, TP_COUNT_OF(odd));
    lay_out(&plan, NULL);
    write_files(s, &plan, NULL);
    struct tp_checkpoint *ck = open_folder(s);
    assert_int_equal(tp_checkpoint_tensor_count(ck), 4);
    assert_non_null(tp_checkpoint_find(ck, "\x01\x1f\x7f\"\\"));
    assert_non_null(tp_checkpoint_find(ck, ""));
    assert_non_null(tp_checkpoint_find(ck, "...x")); /* its '/' was a NUL, between keys, in the plan */
    assert_non_null(tp_checkpoint_find(ck, "\xe2\x82\xac \xf0\x9f\x99\x82"));
    tp_checkpoint_close(ck);
    tp_plan_release(&plan);
}

static void a_checkpoint_without_tensors_is_an_empty_object(void **state)
{
    struct scratch *s = *state;
    struct tp_plan plan;
    plan_of(&plan, NULL, 0);
    lay_out(&plan, NULL);
    size_t len;
    uint8_t *bytes = frame_bytes(&plan, 0, 7, &len);
    assert_int_equal(len, 64);
    assert_memory_equal(bytes, "\x38\0\0\0\0\0\0\0{}      ", 16);
    assert_int_equal(plan.files[0].size_bytes, 64);
    write_files(s, &plan, NULL);
    struct tp_checkpoint *ck = open_folder(s);
    assert_int_equal(tp_checkpoint_tensor_count(ck), 0);
    tp_checkpoint_close(ck);
    free(bytes);
    tp_plan_release(&plan);
}

static void a_hundred_thousand_tensors_have_one_header_of_megabytes(void **state)
{
    struct scratch *s = *state;
    enum { COUNT = 100000 };
    struct tensor *tensors = calloc(COUNT, sizeof *tensors);
    char(*names)[80] = calloc(COUNT, sizeof *names);
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "model.layers.%zu.mlp.experts.%zu.down_projection.weight", i % 97, i);
        tensors[i] = (struct tensor){names[i], i % 3 ? TP_BF16 : TP_U8, 2, {1, 1 + i % 2}};
    }
    struct tp_plan plan;
    plan_of(&plan, tensors, COUNT);
    lay_out(&plan, NULL);
    assert_int_equal(plan.file_count, 1);
    size_t len;
    uint8_t *framing = frame_bytes(&plan, 0, TP_FRAME_MAX_BYTES, &len);
    assert_true(len > 10000000);
    free(framing);
    write_files(s, &plan, NULL);
    struct tp_checkpoint *ck = open_folder(s);
    assert_int_equal(tp_checkpoint_tensor_count(ck), COUNT);
    assert_int_equal(tp_checkpoint_find(ck, names[99999])->shape[1], 2);
    tp_checkpoint_close(ck);
    tp_plan_release(&plan);
    free(names);
    free(tensors);
}

static void a_header_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    enum { COUNT = 4100 };
    static char name[TP_NAME_MAX_BYTES + 1];
    memset(name, 1, TP_NAME_MAX_BYTES); /* six bytes each */
    struct tensor *tensors = calloc(COUNT, sizeof *tensors);
    for (size_t i = 0; i < COUNT; i++)
        tensors[i] = (struct tensor){name, TP_U8, 0, {0}};
    struct tp_plan plan;
    struct tp_error err;
    struct tp_convert_options options = {.precision = TP_PRECISION_KEEP};
    plan_of(&plan, tensors, COUNT);
    assert_int_equal(format->layout(&plan, &options, &err), TP_ERR_LIMIT);
    assert_non_null(strstr(err.message, "model.safetensors would have a header of 10"));
    assert_non_null(strstr(err.hint, "smaller --shard-size"));
    tp_plan_release(&plan);
    free(tensors);
}

/* ---- small floats ---- */

static void packed_floats_keep_their_bytes_and_their_shape(void **state)
{
    struct scratch *s = *state;
    static const struct tensor tensors[] = {{"f4", TP_F4, 2, {3, 2}},
                                            {"f6", TP_F6_E2M3, 1, {8}},
                                            {"f6b", TP_F6_E3M2, 2, {2, 6}},
                                            {"x", TP_F8_E8M0, 1, {5}}};
    struct tp_plan plan;
    plan_of(&plan, tensors, TP_COUNT_OF(tensors));
    lay_out(&plan, NULL);
    assert_int_equal(plan.payload_bytes, 3 + 6 + 9 + 5);
    write_files(s, &plan, NULL);
    struct tp_checkpoint *ck = open_folder(s);
    for (uint32_t i = 0; i < TP_COUNT_OF(tensors); i++) {
        uint8_t bytes[16];
        struct tp_error err;
        const struct tp_tensor *t = tp_checkpoint_find(ck, tensors[i].path);
        assert_non_null(t);
        assert_int_equal(t->dtype, tensors[i].dtype);
        assert_int_equal(t->rank, tensors[i].rank);
        assert_memory_equal(t->shape, tensors[i].shape, t->rank * sizeof *t->shape);
        assert_ok(tp_tensor_read(ck, t, 0, t->elem_count, bytes, &err), &err);
        for (uint64_t b = 0; b < t->size_bytes; b++)
            assert_int_equal(bytes[b], payload_byte(i, b));
    }
    tp_checkpoint_close(ck);
    tp_plan_release(&plan);
}

/* ---- shards ---- */

static void shards_hold_to_their_size_and_the_index_is_as_transformers_writes_it(void **state)
{
    struct scratch *s = *state;
    static const struct tensor tensors[] = {
        {"c", TP_F32, 1, {64}}, {"a.large", TP_F32, 1, {1000}}, {"b", TP_U8, 1, {100}}, {"a-x", TP_I16, 1, {10}}};
    struct tp_plan plan;
    struct tp_convert_options options = {.shard_size_bytes = 700, .oversize = TP_OVERSIZE_SPLIT};
    plan_of(&plan, tensors, TP_COUNT_OF(tensors));
    plan.source = &pt;
    lay_out(&plan, &options);
    assert_int_equal(plan.file_count, 3);
    for (uint32_t f = 0; f < 3; f++)
        assert_true(f == 1 ? plan.files[f].size_bytes > 4000 : plan.files[f].size_bytes <= 700);
    assert_string_equal(plan.small_files[0].name, "model.safetensors.index.json");
    char *index = index_text(&plan);
    assert_string_equal(index, "{\n"
                               "  \"metadata\": {\n"
                               "    \"total_size\": 4376\n"
                               "  },\n"
                               "  \"weight_map\": {\n"
                               "    \"a-x\": \"model-00003-of-00003.safetensors\",\n"
                               "    \"a.large\": \"model-00002-of-00003.safetensors\",\n"
                               "    \"b\": \"model-00003-of-00003.safetensors\",\n"
                               "    \"c\": \"model-00001-of-00003.safetensors\"\n"
                               "  }\n"
                               "}\n");
    write_files(s, &plan, NULL);
    write_text(s->path, plan.small_files[0].name, index);
    struct tp_checkpoint *ck = open_folder(s);
    assert_int_equal(tp_checkpoint_tensor_count(ck), 4);
    assert_int_equal(tp_checkpoint_note_count(ck), 0);
    assert_int_equal(ck->metadata.count, 1);
    tp_checkpoint_close(ck);
    free(index);
    tp_plan_release(&plan);
}

static void no_shard_is_larger_than_allowed_whatever_the_sizes(void **state)
{
    (void)state;
    srand(5);
    for (int round = 0; round < 200; round++) {
        struct tensor tensors[60];
        size_t count = (size_t)rand() % 60 + 1;
        struct tp_convert_options options = {.shard_size_bytes = (uint64_t)rand() % 6000};
        for (size_t i = 0; i < count; i++)
            tensors[i] = (struct tensor){
                "a.name", rand() % 2 ? TP_F32 : TP_U8, 2, {(uint64_t)rand() % 40, (uint64_t)rand() % 20}};
        struct tp_plan plan;
        plan_of(&plan, tensors, count);
        lay_out(&plan, &options);
        uint64_t limit = options.shard_size_bytes ? options.shard_size_bytes : TP_SHARD_SIZE_DEFAULT;
        uint64_t blocks = 0;
        size_t extents = 0;
        for (uint32_t f = 0; f < plan.file_count; f++) {
            const struct tp_out_file *out = &plan.files[f];
            assert_true(out->size_bytes <= limit || out->extent_count <= 1);
            assert_int_equal(out->first_extent, extents);
            extents += out->extent_count;
            uint64_t at = format->frame(&plan, f, 0, 0, NULL, 0);
            assert_int_equal(at % 64, 0);
            for (uint32_t k = 0; k < out->extent_count; k++) {
                const struct tp_out_extent *e = &plan.extents[out->first_extent + k];
                assert_int_equal(e->offset_bytes, at);
                assert_int_equal(e->first_block, blocks);
                assert_int_equal(plan.arrays[e->array].first_extent, out->first_extent + k);
                blocks += tp_extent_block_count(e);
                at += e->size_bytes;
            }
            assert_int_equal(at, out->size_bytes);
        }
        assert_int_equal(extents, count);
        assert_int_equal(plan.block_count, blocks);
        tp_plan_release(&plan);
    }
}

static void oversize_error_refuses_a_tensor_that_does_not_fit(void **state)
{
    (void)state;
    static const struct tensor tensors[] = {{"a", TP_U8, 1, {10}}, {"b/large", TP_F32, 1, {1000}}};
    struct tp_plan plan;
    struct tp_error err;
    struct tp_convert_options options = {.shard_size_bytes = 1000, .oversize = TP_OVERSIZE_ERROR};
    plan_of(&plan, tensors, TP_COUNT_OF(tensors));
    assert_int_equal(format->layout(&plan, &options, &err), TP_ERR_USAGE);
    assert_string_equal(err.tensor, "b.large");
    assert_non_null(strstr(err.message, "--shard-size allows 1000"));
    assert_non_null(strstr(err.hint, "own-shard"));
    tp_plan_release(&plan);
}

static void what_safetensors_cannot_name_or_hold_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct tensor tensor;
        const char *message;
    } cases[] = {{{"__metadata__", TP_U8, 1, {10}}, "safetensors keeps this name for itself"},
                 {{"x", TP_F4_UNPACKED, 1, {4}}, "float4_e2m1fn with one code a byte"}};
    for (size_t i = 0; i < TP_COUNT_OF(cases); i++) {
        struct tp_plan plan;
        struct tp_error err;
        struct tp_convert_options options = {.precision = TP_PRECISION_KEEP};
        plan_of(&plan, &cases[i].tensor, 1);
        assert_int_equal(format->layout(&plan, &options, &err), TP_ERR_UNSUPPORTED);
        assert_string_equal(err.tensor, cases[i].tensor.path);
        assert_non_null(strstr(err.message, cases[i].message));
        tp_plan_release(&plan);
    }
}

/* ---- from files ---- */

#define U8_ENTRY "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}"

static void metadata_is_united_the_first_value_wins(void **state)
{
    struct scratch *s = *state;
    write_safetensors(s->path, "model-00001-of-00002.safetensors",
                      "{\"__metadata__\":{\"z\":\"1\",\"format\":\"pt\"},\"a" U8_ENTRY "}", "x", 1);
    write_safetensors(s->path, "model-00002-of-00002.safetensors",
                      "{\"b" U8_ENTRY ",\"__metadata__\":{\"format\":\"np\",\"z\":\"1\",\"new\\n\":\"\\u00e9\\\"\"}}",
                      "y", 1);
    struct tp_checkpoint *ck = open_folder(s);
    struct tp_plan plan;
    static const struct tensor tensors[] = {{"a", TP_U8, 1, {1}}};
    plan_of(&plan, tensors, 1);
    plan.source = ck;
    lay_out(&plan, NULL);
    static const char expected[] = "{\"__metadata__\":{\"z\":\"1\",\"format\":\"pt\",\"new\\u000a\":\"\xc3\xa9\\\"\"},";
    size_t len;
    uint8_t *bytes = frame_bytes(&plan, 0, 1, &len);
    assert_memory_equal(bytes + 8, expected, strlen(expected));
    assert_true(has_note(&plan, "the files' __metadata__ disagree: 'format' has another value in "
                                "model-00002-of-00002.safetensors than before; the first is kept"));
    assert_int_equal(plan.notes.count, 1);
    free(bytes);
    tp_plan_release(&plan);
    tp_checkpoint_close(ck);
}

static void long_metadata_is_kept_up_to_a_limit_and_then_counted(void **state)
{
    struct scratch *s = *state;
    static const size_t lengths[] = {5000, 900000, 200000, 2000000}; /* the third no longer fits, the last never */
    size_t cap = 4000000, len = 0;
    char *header = malloc(cap);
    assert_non_null(header);
    for (size_t i = 0; i < TP_COUNT_OF(lengths); i++) {
        len += (size_t)snprintf(header + len, cap - len, "%s\"k%zu\":\"", i ? "\"," : "{\"__metadata__\":{", i);
        memset(header + len, 'v', lengths[i]);
        len += lengths[i];
    }
    snprintf(header + len, cap - len, "\",\"last\":\"\"},\"a" U8_ENTRY "}");
    write_safetensors(s->path, "model.safetensors", header, "x", 1);
    struct tp_checkpoint *ck = open_folder(s);
    assert_int_equal(ck->metadata.count, 3);
    assert_int_equal(ck->metadata.items[0].value_len, 5000);
    assert_int_equal(ck->metadata.items[1].value_len, 900000);
    assert_string_equal(ck->metadata.items[2].key, "last");
    assert_int_equal(ck->metadata.dropped_count, 2);
    struct tp_plan plan;
    static const struct tensor tensors[] = {{"a", TP_U8, 1, {1}}, {"b", TP_U8, 1, {1}}};
    plan_of(&plan, tensors, TP_COUNT_OF(tensors));
    plan.source = ck;
    lay_out(&plan, &(struct tp_convert_options){.shard_size_bytes = 1000}); /* less than the metadata: a file each */
    assert_int_equal(plan.file_count, 2);
    assert_true(has_note(&plan, "2 of the values in __metadata__ left out: more than 1 MiB is not kept"));
    tp_plan_release(&plan);
    tp_checkpoint_close(ck);
    free(header);
}

static void a_checkpoint_round_trips_tensor_for_tensor(void **state)
{
    struct scratch *s = *state;
    uint8_t data[64];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    write_safetensors(s->path, "model.safetensors",
                      "{\"__metadata__\":{\"format\":\"pt\"},"
                      "\"x.u\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
                      "\"x\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[5,21]},"
                      "\"h\":{\"dtype\":\"BF16\",\"shape\":[2,3,1],\"data_offsets\":[21,33]},"
                      "\"q\":{\"dtype\":\"F8_E4M3\",\"shape\":[31],\"data_offsets\":[33,64]}}",
                      data, sizeof data);
    struct tp_checkpoint *source = open_folder(s);
    struct tp_convert_options options = {.precision = TP_PRECISION_KEEP, .shard_size_bytes = 300};
    struct tp_plan plan;
    struct tp_error err;
    assert_ok(tp_plan_build(&plan, source, &options, format->traits, &err), &err);
    lay_out(&plan, &options);
    assert_true(plan.file_count > 1);
    struct scratch out;
    scratch_make(&out);
    write_files(&out, &plan, source);
    char *index = index_text(&plan);
    write_text(out.path, plan.small_files[0].name, index);
    free(index);
    struct tp_checkpoint *copy = open_folder(&out);
    assert_int_equal(tp_checkpoint_tensor_count(copy), tp_checkpoint_tensor_count(source));
    assert_int_equal(copy->metadata.count, 1);
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(source); i++) {
        const struct tp_tensor *a = tp_checkpoint_tensor(source, i), *b = tp_checkpoint_find(copy, a->name);
        uint8_t x[64], y[64];
        assert_non_null(b);
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(a->rank, b->rank);
        assert_memory_equal(a->shape, b->shape, a->rank * sizeof *a->shape);
        assert_ok(tp_tensor_read(source, a, 0, a->elem_count, x, &err), &err);
        assert_ok(tp_tensor_read(copy, b, 0, b->elem_count, y, &err), &err);
        assert_memory_equal(x, y, a->size_bytes);
    }
    tp_checkpoint_close(copy);
    remove_tree(out.path);
    tp_plan_release(&plan);
    tp_checkpoint_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_header_is_the_reference_writers_but_for_its_blanks),
        cmocka_unit_test(a_header_can_be_had_from_any_byte_on),
        cmocka_unit_test_setup_teardown(names_are_escaped_and_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_without_tensors_is_an_empty_object, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_hundred_thousand_tensors_have_one_header_of_megabytes, set_up, tear_down),
        cmocka_unit_test(a_header_beyond_the_limit_is_refused),
        cmocka_unit_test_setup_teardown(packed_floats_keep_their_bytes_and_their_shape, set_up, tear_down),
        cmocka_unit_test_setup_teardown(shards_hold_to_their_size_and_the_index_is_as_transformers_writes_it, set_up,
                                        tear_down),
        cmocka_unit_test(no_shard_is_larger_than_allowed_whatever_the_sizes),
        cmocka_unit_test(oversize_error_refuses_a_tensor_that_does_not_fit),
        cmocka_unit_test(what_safetensors_cannot_name_or_hold_is_refused),
        cmocka_unit_test_setup_teardown(metadata_is_united_the_first_value_wins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_metadata_is_kept_up_to_a_limit_and_then_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_checkpoint_round_trips_tensor_for_tensor, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
