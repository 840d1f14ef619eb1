/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "codec/crc32c.h"
#include "codec/zarr.h"
#include "orbax_data.h"

static enum tp_status read_text(struct tp_zarr *zarr, unsigned version, const char *text, struct tp_error *err)
{
    const size_t len = strlen(text);
    char *copy = malloc(len ? len : 1); /* of exactly this size, without a terminator */
    memcpy(copy, text, len);
    enum tp_status status = (version == 2 ? tp_zarr_read_v2 : tp_zarr_read_v3)(zarr, copy, len, err);
    free(copy);
    return status;
}

/* Call `act` with every metadata text of a database. */
static unsigned for_metadata_of(const char *name, void (*act)(unsigned version, const char *text, size_t len))
{
    size_t len;
    unsigned count = 0;
    char *entries = (char *)orbax_load(name, "entries.txt", &len);
    assert_non_null(entries);
    for (char *line = entries, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        const char *v2 = strstr(line, "/.zarray\t=\""), *v3 = strstr(line, "/zarr.json\t=\"");
        const char *text = v2 ? v2 + strlen("/.zarray\t=\"") : v3 ? v3 + strlen("/zarr.json\t=\"") : NULL;
        if (text) {
            act(v2 ? 2 : 3, text, strlen(text));
            count++;
        }
    }
    free(entries);
    return count;
}

/* ---- metadata ---- */

static void must_be_emitted_as_read(unsigned version, const char *text, size_t len)
{
    struct tp_zarr zarr;
    struct tp_error err;
    char out[TP_ZARR_TEXT_MAX];
    if (read_text(&zarr, version, text, &err))
        fail_msg("%s: %s", text, err.message);
    assert_int_equal(tp_zarr_emit(&zarr, out, sizeof out), len);
    assert_memory_equal(out, text, len);
    assert_int_equal(tp_zarr_emit(&zarr, out, 10), len); /* too small a buffer: only counted */
}

static void metadata_of_overlays_is_emitted_as_it_was_read(void **state)
{
    (void)state;
    assert_int_equal(for_metadata_of("g1", must_be_emitted_as_read), 1);
    assert_int_equal(for_metadata_of("g2", must_be_emitted_as_read), 17);
    assert_int_equal(for_metadata_of("g4", must_be_emitted_as_read), 18);
}

static void must_be_compressed(unsigned version, const char *text, size_t len)
{
    struct tp_zarr zarr;
    struct tp_error err;
    (void)len;
    if (read_text(&zarr, version, text, &err))
        fail_msg("%s: %s", text, err.message);
    assert_int_equal(zarr.codecs.compressor, TP_ZARR_ZSTD);
    assert_int_equal(zarr.is_sharded, version == 3);
    assert_int_equal(zarr.index_has_crc, version == 3);
    assert_false(tp_zarr_can_write(&zarr));
}

static void metadata_of_orbax_is_read(void **state)
{
    (void)state;
    assert_int_equal(for_metadata_of("saved", must_be_compressed), 5);
    assert_int_equal(for_metadata_of("saved3", must_be_compressed), 5);
}

static void any_byte_and_any_length_of_metadata_is_harmless(unsigned version, const char *text, size_t len)
{
    struct tp_zarr zarr;
    struct tp_error err = {.code = TP_OK};
    char copy[2048];
    assert_true(len < sizeof copy);
    for (size_t i = 0; i < len; i++) {
        snprintf(copy, sizeof copy, "%.*s", (int)i, text);
        assert_int_equal(read_text(&zarr, version, copy, &err), TP_ERR_FORMAT);
        for (unsigned k = 0; k < 8; k++) {
            snprintf(copy, sizeof copy, "%s", text);
            copy[i] ^= (char)(1u << k);
            if (copy[i] == '\0')
                continue;
            if (!read_text(&zarr, version, copy, &err)) {
                uint64_t grid[TP_ZARR_RANK_MAX];
                char key[TP_ZARR_KEY_MAX + 1];
                tp_zarr_grid(&zarr, grid); /* what was accepted can be used */
                tp_zarr_chunk_key(&zarr, zarr.shape, key);
                assert_true(tp_zarr_inner_bytes(&zarr) > 0 && tp_zarr_slot_count(&zarr) > 0);
            }
        }
    }
}

static void broken_metadata_is_refused(void **state)
{
    (void)state;
    for_metadata_of("g1", any_byte_and_any_length_of_metadata_is_harmless);
    for_metadata_of("saved3", any_byte_and_any_length_of_metadata_is_harmless);
}

/* Members that a row gives replace those of a plain array of two by three float32. */
static const char *with_member(unsigned version, const char *key, const char *member)
{
    static const char *const members[2][12] = {
        {"\"zarr_format\":2", "\"shape\":[4,6]", "\"chunks\":[2,3]", "\"dtype\":\"<f4\"", "\"compressor\":null",
         "\"fill_value\":null", "\"order\":\"C\"", "\"filters\":null", "\"dimension_separator\":\".\""},
        {"\"zarr_format\":3", "\"node_type\":\"array\"", "\"shape\":[4,6]", "\"data_type\":\"float32\"",
         "\"chunk_grid\":{\"name\":\"regular\",\"configuration\":{\"chunk_shape\":[2,3]}}",
         "\"chunk_key_encoding\":{\"name\":\"default\"}", "\"fill_value\":0",
         "\"codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}]"},
    };
    static char text[4096];
    char quoted[64];
    size_t used = 0;
    bool comma = false;
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    used += (size_t)snprintf(text, sizeof text, "{");
    for (unsigned i = 0; i < 12 && members[version - 2][i]; i++) {
        if (strncmp(members[version - 2][i], quoted, strlen(quoted)) == 0)
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", comma ? "," : "", members[version - 2][i]);
        comma = true;
    }
    snprintf(text + used, sizeof text - used, "%s%s}", *member ? "," : "", member);
    return text;
}

#define BYTES "{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\"}}"
#define SHARDS(settings) "\"codecs\":[{\"name\":\"sharding_indexed\",\"configuration\":{" settings "}}]"

static void what_is_not_read_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        unsigned version;
        const char *key, *member;
        enum tp_status status;
        const char *message;
    } rows[] = {
        {2, "x", "\"attributes\":{\"a\":[1,{}]}", TP_OK, NULL},
        {2, "dimension_separator", "", TP_OK, NULL},
        {2, "filters", "\"filters\":[]", TP_OK, NULL},
        {2, "compressor", "", TP_ERR_FORMAT, "'compressor' is missing"},
        {2, "fill_value", "", TP_ERR_FORMAT, "'fill_value' is missing"},
        {2, "order", "", TP_ERR_FORMAT, "'order' is missing"},
        {2, "filters", "", TP_ERR_FORMAT, "'filters' is missing"},
        {2, "order", "\"order\":\"A\"", TP_ERR_FORMAT, "order must be"},
        {2, "x", "\"order\":\"C\"", TP_ERR_FORMAT, "'order' is there twice"},
        {2, "compressor", "\"compressor\":{\"id\":\"blosc\",\"clevel\":5}", TP_ERR_UNSUPPORTED, "compressor 'blosc'"},
        {2, "compressor", "\"compressor\":{\"level\":5}", TP_ERR_FORMAT, "'id' is missing"},
        {2, "filters", "\"filters\":[{\"id\":\"delta\"}]", TP_ERR_UNSUPPORTED, "filters are not read"},
        {2, "dtype", "\"dtype\":\">f4\"", TP_ERR_UNSUPPORTED, "dtype '>f4'"},
        {2, "dtype", "\"dtype\":\"<c16\"", TP_ERR_UNSUPPORTED, "dtype '<c16'"},
        {2, "dtype", "\"dtype\":\"int4\"", TP_ERR_UNSUPPORTED, "dtype 'int4'"},
        {2, "dtype", "\"dtype\":[[\"x\",\"<f4\"]]", TP_ERR_UNSUPPORTED, "a dtype that is a list"},
        {2, "dimension_separator", "\"dimension_separator\":\"_\"", TP_ERR_UNSUPPORTED, "separator '_'"},
        {2, "chunks", "\"chunks\":[2]", TP_ERR_FORMAT, "shapes of 2 and 1"},
        {2, "chunks", "\"chunks\":[2,0]", TP_ERR_FORMAT, "along axis 1"},
        {2, "chunks", "\"chunks\":[4611686018427387904,1]", TP_ERR_FORMAT, "beyond 2^63 bytes"},
        {2, "chunks", "\"chunks\":[2,-3]", TP_ERR_FORMAT, "expected whole numbers in 'chunks'"},
        {2, "shape", "\"shape\":[0,9223372036854775807]", TP_ERR_FORMAT, "beyond 2^63 bytes"},
        {2, "shape", "\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", TP_ERR_LIMIT,
         "more than 32 numbers"},
        {2, "zarr_format", "\"zarr_format\":3", TP_ERR_FORMAT, "zarr_format is 3, expected 2"},
        {3, "x", "\"attributes\":{},\"dimension_names\":[null,\"x\"],\"storage_transformers\":[]", TP_OK, NULL},
        {3, "x", "\"new\":{\"must_understand\":false,\"x\":[]}", TP_OK, NULL},
        {3, "x", "\"new\":{\"x\":[]}", TP_ERR_UNSUPPORTED, "the member 'new'"},
        {3, "x", "\"storage_transformers\":[{}]", TP_ERR_UNSUPPORTED, "storage_transformers"},
        {3, "node_type", "\"node_type\":\"group\"", TP_ERR_FORMAT, "node_type"},
        {3, "chunk_grid", "\"chunk_grid\":{\"name\":\"odd\"}", TP_ERR_UNSUPPORTED, "chunk_grid 'odd'"},
        {3, "chunk_grid", "\"chunk_grid\":{\"name\":\"regular\"}", TP_ERR_FORMAT, "without a chunk_shape"},
        {3, "chunk_key_encoding", "\"chunk_key_encoding\":{\"name\":\"x\"}", TP_ERR_UNSUPPORTED,
         "chunk_key_encoding 'x'"},
        {3, "codecs", "\"codecs\":[]", TP_ERR_FORMAT, "without the codec 'bytes'"},
        {3, "codecs", "\"codecs\":[\"bytes\"]", TP_ERR_FORMAT, "does not say which endian"},
        {3, "codecs", "\"codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"big\"}}]", TP_ERR_UNSUPPORTED,
         "big-endian"},
        {3, "codecs", "\"codecs\":[" BYTES ",{\"name\":\"gzip\",\"configuration\":{\"level\":1}}]", TP_ERR_UNSUPPORTED,
         "codec 'gzip'"},
        {3, "codecs", "\"codecs\":[" BYTES ",\"zstd\",\"crc32c\"]", TP_OK, NULL},
        {3, "codecs", "\"codecs\":[" BYTES ",\"crc32c\",\"zstd\"]", TP_ERR_UNSUPPORTED, "'zstd' at this place"},
        {3, "codecs", "\"codecs\":[\"crc32c\"]", TP_ERR_UNSUPPORTED, "'crc32c' at this place"},
        {3, "codecs", "\"codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\",\"x\":1}}]",
         TP_ERR_UNSUPPORTED, "'bytes' with 'x'"},
        {3, "codecs", "\"codecs\":[{\"name\":\"bytes\",\"configuration\":{\"endian\":\"little\",\"level\":1}}]",
         TP_ERR_UNSUPPORTED, "a setting of the codec 'bytes'"},
        {3, "codecs", "\"codecs\":[{\"name\":\"transpose\",\"configuration\":{\"order\":[0,0]}}," BYTES "]",
         TP_ERR_FORMAT, "no order of the axes"},
        {3, "codecs", "\"codecs\":[{\"name\":\"transpose\",\"configuration\":{\"order\":[0]}}," BYTES "]",
         TP_ERR_FORMAT, "has 1 numbers"},
        {3, "codecs", "\"codecs\":[\"transpose\"," BYTES "]", TP_ERR_FORMAT, "'transpose' without an order"},
        {3, "codecs", SHARDS("\"chunk_shape\":[2,3]"), TP_ERR_FORMAT, "'sharding_indexed' needs"},
        {3, "codecs", SHARDS("\"chunk_shape\":[2,2],\"codecs\":[" BYTES "],\"index_codecs\":[" BYTES "]"),
         TP_ERR_FORMAT, "chunks of 2 in 3 along axis 1"},
        {3, "codecs", SHARDS("\"chunk_shape\":[1,3],\"codecs\":[" BYTES "],\"index_codecs\":[" BYTES ",\"zstd\"]"),
         TP_ERR_UNSUPPORTED, "index"},
        {3, "codecs",
         SHARDS("\"chunk_shape\":[1,3],\"codecs\":[{\"name\":\"sharding_indexed\",\"configuration\":{\"codecs\":[]}}],"
                "\"index_codecs\":[" BYTES "]"),
         TP_ERR_UNSUPPORTED, "shards within shards"},
        {3, "codecs",
         SHARDS("\"chunk_shape\":[1,3],\"codecs\":[" BYTES "],\"index_codecs\":[" BYTES "],\"index_location\":\"x\""),
         TP_ERR_UNSUPPORTED, "index_location 'x'"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_zarr zarr;
        struct tp_error err = {.message = ""};
        const char *text = with_member(rows[i].version, rows[i].key, rows[i].member);
        enum tp_status status = read_text(&zarr, rows[i].version, text, &err);
        if (status != rows[i].status || (rows[i].message && !strstr(err.message, rows[i].message)))
            fail_msg("row %zu, %s: status %d, %s", i, text, (int)status, err.message);
    }
}

static void shards_and_transposes_are_understood(void **state)
{
    (void)state;
    struct tp_zarr z;
    struct tp_error err;
    const char *text = with_member(
        3, "codecs",
        SHARDS("\"index_location\":\"start\",\"chunk_shape\":[1,3],\"codecs\":[{\"name\":\"transpose\","
               "\"configuration\":{\"order\":[1,0]}}," BYTES ",\"zstd\"],\"index_codecs\":[" BYTES ",\"crc32c\"]"));
    if (read_text(&z, 3, text, &err))
        fail_msg("%s", err.message);
    assert_true(z.is_sharded && z.index_at_start && z.index_has_crc && !z.codecs.has_crc);
    assert_int_equal(z.inner[0], 1);
    assert_int_equal(z.inner[1], 3);
    assert_int_equal(z.chunk[0], 2);
    assert_int_equal(z.codecs.order[0], 1);
    assert_int_equal(z.codecs.order[1], 0);
    assert_int_equal(tp_zarr_slot_count(&z), 2);
    assert_int_equal(tp_zarr_index_bytes(&z), 36);
    assert_int_equal(tp_zarr_inner_bytes(&z), 12);
    assert_int_equal(read_text(&z, 2, with_member(2, "order", "\"order\":\"F\""), &err), TP_OK);
    assert_int_equal(z.codecs.order[0], 1);
    assert_int_equal(z.codecs.order[1], 0);
}

static void fill_values_become_bytes_of_the_dtype(void **state)
{
    (void)state;
    static const struct {
        const char *dtype, *value;
        uint64_t bits;
        bool is_refused;
    } rows[] = {
        {"bool", "true", 1, false},
        {"bool", "0", 0, true},
        {"int8", "-128", 0x80, false},
        {"int8", "128", 0, true},
        {"int8", "-129", 0, true},
        {"uint8", "255", 0xff, false},
        {"uint8", "-1", 0, true},
        {"uint8", "1.5", 0, true},
        {"int64", "-9223372036854775808", UINT64_C(0x8000000000000000), false},
        {"uint64", "18446744073709551615", UINT64_MAX, false},
        {"uint64", "18446744073709551616", 0, true},
        {"float32", "1.5", 0x3fc00000, false},
        {"float32", "-0.0", 0x80000000, false},
        {"float32", "\"NaN\"", 0x7fc00000, false},
        {"float32", "\"-Infinity\"", 0xff800000, false},
        {"float32", "\"0x7fc00001\"", 0x7fc00001, false},
        {"float32", "\"0x7fc0000\"", 0, true},
        {"float32", "\"nan\"", 0, true},
        {"float32", "true", 0, true},
        {"float32", "[1,2]", 0, true},
        {"float32", "[]", 0, true},
        {"float32", "{}", 0, true},
        {"float64", "-2", UINT64_C(0xc000000000000000), false},
        {"bfloat16", "1", 0x3f80, false},
        {"bfloat16", "0.1", 0x3dcd, false},
        {"bfloat16", "\"NaN\"", 0x7fc0, false},
        {"float16", "\"Infinity\"", 0x7c00, false},
        {"float16", "-2", 0xc000, false},
        {"float8_e4m3fn", "-1", 0xb8, false},
        {"float8_e5m2", "\"NaN\"", 0x7e, false},
        {"float8_e8m0fnu", "2", 0x80, false},
        {"float8_e8m0fnu", "0", 0, false},
        {"float4_e2m1fn", "6", 7, false},
        {"complex64", "[1,-2]", UINT64_C(0xc00000003f800000), false},
        {"complex64", "1", 0, true},
        {"float32", "null", 0, false},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char member[128], text[1024];
        struct tp_zarr z;
        struct tp_error err = {.message = ""};
        snprintf(member, sizeof member, "\"fill_value\":%s", rows[i].value);
        snprintf(text, sizeof text, "%s", with_member(3, "fill_value", member));
        char *dtype = strstr(text, "float32"); /* one name for the other */
        memmove(dtype + strlen(rows[i].dtype), dtype + 7, strlen(dtype + 7) + 1);
        memcpy(dtype, rows[i].dtype, strlen(rows[i].dtype));
        enum tp_status status = read_text(&z, 3, text, &err);
        uint64_t bits = 0;
        for (unsigned k = 8; k-- > 0;)
            bits = bits << 8 | z.fill[k];
        if ((status != TP_OK) != rows[i].is_refused || (!status && bits != rows[i].bits))
            fail_msg("%s of %s: %016" PRIx64 " %s", rows[i].value, rows[i].dtype, bits, err.message);
    }
}

static void arrays_to_be_written_have_the_metadata_of_their_version(void **state)
{
    (void)state;
    static const uint64_t shape[3] = {2, 1, 0}, chunk[3] = {2, 1, 1};
    static const uint8_t reversed[3] = {2, 1, 0}, turned[3] = {1, 0, 2}, mixed[3] = {1, 2, 0};
    char out[TP_ZARR_TEXT_MAX + 1];
    struct tp_zarr z;
    tp_zarr_init(&z, 2, TP_BOOL, 3, shape, NULL, reversed);
    out[tp_zarr_emit(&z, out, TP_ZARR_TEXT_MAX)] = '\0';
    assert_string_equal(out,
                        "{\"chunks\":[2,1,1],\"compressor\":null,\"dimension_separator\":\".\",\"dtype\":\"|b1\","
                        "\"fill_value\":null,\"filters\":null,\"order\":\"C\",\"shape\":[2,1,0],\"zarr_format\":2}");
    static const uint64_t wide[3] = {2, 3, 4};
    tp_zarr_init(&z, 2, TP_BF16, 3, wide, wide, reversed);
    out[tp_zarr_emit(&z, out, TP_ZARR_TEXT_MAX)] = '\0';
    assert_non_null(strstr(out, "\"order\":\"F\""));
    tp_zarr_init(&z, 2, TP_BF16, 3, wide, wide, turned);
    assert_int_equal(tp_zarr_emit(&z, out, TP_ZARR_TEXT_MAX), 0);
    tp_zarr_init(&z, 2, TP_BF16, 3, wide, chunk, turned); /* the axis of length 1 may stand anywhere */
    assert_true(tp_zarr_can_write(&z));
    tp_zarr_init(&z, 3, TP_C64, 3, wide, NULL, mixed);
    out[tp_zarr_emit(&z, out, TP_ZARR_TEXT_MAX)] = '\0';
    assert_string_equal(
        out,
        "{\"chunk_grid\":{\"configuration\":{\"chunk_shape\":[2,3,4]},\"name\":\"regular\"},\"chunk_key_encoding\":{"
        "\"configuration\":{\"separator\":\"/\"},\"name\":\"default\"},\"codecs\":[{\"configuration\":{\"order\":[1,2,"
        "0]},\"name\":\"transpose\"},{\"configuration\":{\"endian\":\"little\"},\"name\":\"bytes\"}],\"data_type\":"
        "\"complex64\",\"fill_value\":[0,0],\"node_type\":\"array\",\"shape\":[2,3,4],\"zarr_format\":3}");
    z.is_terse = true; /* as JAX stores it */
    out[tp_zarr_emit(&z, out, TP_ZARR_TEXT_MAX)] = '\0';
    assert_non_null(strstr(out, "\"chunk_key_encoding\":{\"name\":\"default\"},"));
    assert_non_null(strstr(out, "\"fill_value\":[0.0,0.0],"));
    tp_zarr_init(&z, 3, TP_F6_E2M3, 3, wide, NULL, NULL);
    assert_false(tp_zarr_can_write(&z));
}

static void every_dtype_has_a_name_in_both_versions_or_none(void **state)
{
    (void)state;
    unsigned count = 0;
    for (unsigned d = 0; d < TP_DTYPE_COUNT; d++)
        for (unsigned version = 2; version <= 3; version++) {
            const char *name = tp_zarr_dtype_name(version, (enum tp_dtype)d);
            if (name)
                assert_int_equal(tp_zarr_dtype_find(version, name, strlen(name)), d);
            assert_int_equal(!name, d == TP_F4 || d == TP_F6_E2M3 || d == TP_F6_E3M2);
            count += name != NULL;
        }
    assert_int_equal(count, 2 * (TP_DTYPE_COUNT - 3));
}

/* ---- chunks ---- */

static void keys_of_chunks_are_read_as_they_are_written(void **state)
{
    (void)state;
    static const uint64_t shape[3] = {25, 7, 1000000}, chunk[3] = {10, 7, 3}, index[3] = {2, 0, 333333};
    static const struct {
        unsigned version, rank;
        char separator;
        bool has_c_prefix;
        const char *key;
    } rows[] = {
        {2, 3, '.', false, "2.0.333333"}, {2, 3, '/', false, "2/0/333333"},  {2, 1, '.', false, "2"},
        {2, 0, '.', false, "0"},          {3, 3, '/', true, "c/2/0/333333"}, {3, 3, '.', true, "c.2.0.333333"},
        {3, 0, '/', true, "c"},           {3, 0, '.', false, "0"},           {3, 2, '.', false, "2.0"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_zarr z;
        char key[TP_ZARR_KEY_MAX + 1], longer[TP_ZARR_KEY_MAX + 32];
        uint64_t back[3] = {0};
        tp_zarr_init(&z, rows[i].version, TP_F32, rows[i].rank, shape, chunk, NULL);
        z.separator = rows[i].separator;
        z.has_c_prefix = rows[i].has_c_prefix;
        const size_t len = tp_zarr_chunk_key(&z, index, key);
        assert_string_equal(key, rows[i].key);
        assert_int_equal(len, strlen(key));
        assert_true(tp_zarr_chunk_index(&z, key, len, back));
        assert_memory_equal(back, index, rows[i].rank * sizeof *index);
        for (size_t cut = 0; cut < len; cut++) /* shorter ones are another key or none */
            if (tp_zarr_chunk_index(&z, key, cut, back))
                assert_true(rows[i].rank > 0 && key[len - 1] == '3');
        snprintf(longer, sizeof longer, "%s/", key);
        assert_false(tp_zarr_chunk_index(&z, longer, len + 1, back));
        snprintf(longer, sizeof longer, "%s0000000000000000000000", key);
        assert_false(tp_zarr_chunk_index(&z, longer, strlen(longer), back));
    }
}

static void other_texts_are_no_keys(void **state)
{
    (void)state;
    static const uint64_t shape[2] = {30, 7}, chunk[2] = {10, 7}, none[2] = {0, 3};
    static const char *const rows[] = {"",     "c/3/0",  "c/0/1",  "c/00/0", "c/0/00", "c//0",    "c/0/",  "0/0",
                                       "c0/0", "c/-1/0", "c/ 1/0", "c/0.0",  "c/0",    "c/0/0/0", "C/0/0", ".zarray"};
    struct tp_zarr z;
    uint64_t index[2];
    tp_zarr_init(&z, 3, TP_F32, 2, shape, chunk, NULL);
    assert_true(tp_zarr_chunk_index(&z, "c/2/0", 5, index));
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        if (tp_zarr_chunk_index(&z, rows[i], strlen(rows[i]), index))
            fail_msg("'%s' passes", rows[i]);
    tp_zarr_init(&z, 3, TP_F32, 2, none, NULL, NULL); /* an empty array has no chunks */
    tp_zarr_grid(&z, index);
    assert_int_equal(index[1], 0);
    assert_false(tp_zarr_chunk_index(&z, "c/0/0", 5, index));
}

static void the_longest_key_fits(void **state)
{
    (void)state;
    uint64_t shape[TP_ZARR_RANK_MAX], chunk[TP_ZARR_RANK_MAX], index[TP_ZARR_RANK_MAX];
    for (unsigned i = 0; i < TP_ZARR_RANK_MAX; i++) {
        shape[i] = UINT64_MAX;
        chunk[i] = 1;
        index[i] = UINT64_MAX - 1;
    }
    struct tp_zarr z;
    char key[TP_ZARR_KEY_MAX + 1], text[TP_ZARR_TEXT_MAX];
    tp_zarr_init(&z, 3, TP_F32, TP_ZARR_RANK_MAX, shape, chunk, NULL);
    assert_true(tp_zarr_chunk_key(&z, index, key) <= TP_ZARR_KEY_MAX);
    assert_true(tp_zarr_chunk_index(&z, key, strlen(key), index));
    assert_true(tp_zarr_emit(&z, text, sizeof text) <= TP_ZARR_TEXT_MAX);
}

/* ---- shards ---- */

static void an_index_is_checked_against_its_sum_and_its_shard(void **state)
{
    (void)state;
    static const uint64_t shape[1] = {6}, inner[1] = {2};
    uint8_t bytes[52];
    struct tp_zarr_slot slots[3];
    struct tp_error err;
    struct tp_zarr z;
    tp_zarr_init(&z, 3, TP_U8, 1, shape, NULL, NULL);
    z.inner[0] = inner[0];
    z.is_sharded = z.index_has_crc = true;
    memset(bytes, 0, sizeof bytes);
    bytes[0] = 90; /* 90 + 10 */
    bytes[8] = 10;
    memset(bytes + 16, 0xff, 16); /* absent */
    bytes[40] = 100;              /* 0 + 100 */
    const uint32_t crc = tp_crc32c(0, bytes, 48);
    for (unsigned i = 0; i < 4; i++)
        bytes[48 + i] = (uint8_t)(crc >> (8 * i));
    assert_int_equal(tp_zarr_index_bytes(&z), sizeof bytes);
    assert_int_equal(tp_zarr_read_index(slots, &z, bytes, 100, &err), TP_OK);
    assert_true(slots[0].offset == 90 && slots[0].size == 10 && !slots[0].is_absent);
    assert_true(slots[1].is_absent && slots[1].size == 0);
    assert_int_equal(slots[2].size, 100);
    assert_int_equal(tp_zarr_read_index(slots, &z, bytes, 99, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "chunk 0 of a shard lies at 90 + 10, beyond the shard's 99 bytes");
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 4;
        assert_int_equal(tp_zarr_read_index(slots, &z, bytes, 100, &err), TP_ERR_FORMAT);
        bytes[i] ^= 4;
    }
    z.index_has_crc = false;
    bytes[7] = 0xff; /* an offset that would overflow */
    assert_int_equal(tp_zarr_read_index(slots, &z, bytes, 100, &err), TP_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_of_overlays_is_emitted_as_it_was_read),
        cmocka_unit_test(metadata_of_orbax_is_read),
        cmocka_unit_test(broken_metadata_is_refused),
        cmocka_unit_test(what_is_not_read_is_refused_by_name),
        cmocka_unit_test(shards_and_transposes_are_understood),
        cmocka_unit_test(fill_values_become_bytes_of_the_dtype),
        cmocka_unit_test(arrays_to_be_written_have_the_metadata_of_their_version),
        cmocka_unit_test(every_dtype_has_a_name_in_both_versions_or_none),
        cmocka_unit_test(keys_of_chunks_are_read_as_they_are_written),
        cmocka_unit_test(other_texts_are_no_keys),
        cmocka_unit_test(the_longest_key_fits),
        cmocka_unit_test(an_index_is_checked_against_its_sum_and_its_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
