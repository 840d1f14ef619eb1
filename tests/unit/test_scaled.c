/* SPDX-License-Identifier: MIT */
/* One byte a value, times a scale: against what the packages themselves decode (tests/data/quantised, see its README),
 * and against the formulas, said plainly, on random codes. Every decoding is done whole and in odd pieces. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <inttypes.h>
#include <math.h>

#include "fixture.h"
#include "quant/schemes.h"

/* ---- a group, opened and prepared ---- */

struct entry {
    const char *name;
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[5];
    const void *data; /* NULL: random */
};

struct fixture {
    struct scratch folder;
    struct tp_checkpoint *ck;
    struct tp_arena arena;
    struct tp_kernels kernels;
    struct tp_decoded d;
};

static uint32_t random_bits(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Scales are positive and of a size that real ones have; codes are anything; zero points are small. */
static void randomise(uint8_t *dst, uint64_t count, enum tp_dtype dtype)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t r = random_bits();
        uint64_t bits = dtype == TP_F32                         ? 0x38000000u + r % 0x08000000u
                        : dtype == TP_BF16                      ? 0x3800u + r % 0x800u
                        : dtype == TP_F16                       ? 0x0c00u + r % 0x2800u
                        : dtype == TP_I8                        ? r % 256
                        : dtype == TP_U8 || dtype == TP_F8_E8M0 ? 110 + r % 30
                                                                : r % 256;
        size_t bytes = tp_dtype_bits(dtype) / 8;
        for (size_t k = 0; k < bytes; k++)
            dst[i * bytes + k] = (uint8_t)(bits >> (8 * k));
    }
}

static uint64_t elements(const struct entry *e)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < e->rank; i++)
        count *= e->shape[i];
    return count;
}

static void write_model(const struct fixture *f, const char *file, const struct entry *entries, size_t count)
{
    char header[4096] = "{";
    size_t used = 1;
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct entry *e = &entries[i];
        uint64_t size = elements(e) * tp_dtype_bits(e->dtype) / 8;
        used += (size_t)snprintf(header + used, sizeof header - used, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                 i ? "," : "", e->name, tp_dtype_name(e->dtype));
        for (unsigned k = 0; k < e->rank; k++)
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%" PRIu64, k ? "," : "", e->shape[k]);
        used += (size_t)snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                                 end, end + size);
        end += size;
    }
    snprintf(header + used, sizeof header - used, "}");
    uint8_t *data = malloc(end ? (size_t)end : 1);
    assert_non_null(data);
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t n = elements(&entries[i]), size = n * tp_dtype_bits(entries[i].dtype) / 8;
        if (entries[i].data)
            memcpy(data + at, entries[i].data, (size_t)size);
        else
            randomise(data + at, n, entries[i].dtype);
        at += size;
    }
    scratch_safetensors(&f->folder, file, header, end, data, (size_t)end);
    free(data);
}

static const struct tp_scheme *scheme_of(const char *name)
{
    static const struct tp_scheme *const all[] = {&tp_scheme_fp8, &tp_scheme_int8, &tp_scheme_bnb_int8};
    for (size_t i = 0; i < TP_COUNT_OF(all); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    fail_msg("group of scheme %s", name);
    return NULL;
}

static void choose_group(struct fixture *f, uint32_t index)
{
    assert_true(index < tp_checkpoint_group_count(f->ck));
    const struct tp_group *group = tp_checkpoint_group(f->ck, index);
    f->d = (struct tp_decoded){.scheme = scheme_of(group->scheme),
                               .ck = f->ck,
                               .group = group,
                               .codes = tp_checkpoint_tensor(f->ck, group->codes)};
}

static void open_model(struct fixture *f, const char *path)
{
    struct tp_error err = {.code = TP_OK};
    f->arena = (struct tp_arena){NULL};
    f->ck = NULL;
    if (tp_checkpoint_open(&f->ck, path, NULL, &err))
        fail_msg("%s", err.message);
    tp_kernels_init_scalar(&f->kernels);
    choose_group(f, 0);
}

static void make(struct fixture *f, const char *config, const struct entry *entries, size_t count)
{
    scratch_make(&f->folder);
    if (config)
        write_text(f->folder.path, "config.json", config);
    write_model(f, "model.safetensors", entries, count);
    open_model(f, f->folder.path);
}

static void finish(struct fixture *f)
{
    tp_checkpoint_close(f->ck);
    tp_arena_release(&f->arena);
    if (f->folder.path[0])
        scratch_remove(&f->folder);
}

static void prepare(struct fixture *f)
{
    struct tp_error err = {.code = TP_OK};
    if (f->d.scheme->prepare(&f->d, &f->arena, &err))
        fail_msg("%s: %s", err.tensor, err.message);
    assert_string_equal(f->d.name, f->d.codes->name);
    assert_int_equal(f->d.name_len, f->d.codes->name_len);
    assert_int_equal(f->d.rank, f->d.codes->rank);
    if (f->d.rank > 0)
        assert_memory_equal(f->d.shape, f->d.codes->shape, f->d.rank * sizeof *f->d.shape);
    assert_int_equal(f->d.elem_count, f->d.codes->elem_count);
}

/* ---- decoding ---- */

static struct tp_scratch scratch_new(size_t size_bytes)
{
    struct tp_scratch s = {.bytes = aligned_alloc(64, size_bytes), .size_bytes = size_bytes};
    assert_non_null(s.bytes);
    memset(s.bytes, 0xa5, size_bytes);
    return s;
}

static void decode_run(const struct fixture *f, struct tp_scratch *s, uint64_t first, uint64_t count, float *dst)
{
    struct tp_error err = {.code = TP_OK};
    if (f->d.scheme->decode(&f->d, s, &f->kernels, first, count, dst, &err))
        fail_msg("%s: %s", err.tensor, err.message);
}

/* Ends on the heap, so that a step beyond is seen. */
static float *decode_whole(const struct fixture *f, size_t scratch_bytes)
{
    struct tp_scratch s = scratch_new(scratch_bytes);
    float *values = malloc((size_t)f->d.elem_count * sizeof *values);
    assert_non_null(values);
    for (uint64_t first = 0; first < f->d.elem_count; first += (uint64_t)1 << 20) {
        uint64_t left = f->d.elem_count - first;
        decode_run(f, &s, first, left < (uint64_t)1 << 20 ? left : (uint64_t)1 << 20, values + first);
    }
    free(s.bytes);
    return values;
}

static void expect_bits(const float *got, const float *want, uint64_t first, uint64_t count)
{
    if (memcmp(got, want, (size_t)count * sizeof *got) == 0)
        return;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t a, b;
        memcpy(&a, &got[i], sizeof a);
        memcpy(&b, &want[i], sizeof b);
        if (a != b && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("element %" PRIu64 ": got %08x (%g), expected %08x (%g)", first + i, a, (double)got[i], b,
                     (double)want[i]);
    }
}

/* The whole, then pieces of every odd size at once: the scratch holds what the last piece left. */
static float *decode_in_every_way(const struct fixture *f)
{
    static const uint64_t steps[] = {1, 7, 37, 129, 1000, 4099, 65537};
    float *whole = decode_whole(f, TP_SCRATCH_MIN_BYTES), *wide = decode_whole(f, (size_t)12 << 20);
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    expect_bits(wide, whole, 0, f->d.elem_count);
    for (size_t i = 0; i < TP_COUNT_OF(steps); i++) {
        float *piece = malloc((size_t)steps[i] * sizeof *piece);
        uint64_t stride = f->d.elem_count / 60 > steps[i] ? f->d.elem_count / 60 : steps[i];
        for (uint64_t first = i; first < f->d.elem_count; first += stride) {
            uint64_t n = f->d.elem_count - first < steps[i] ? f->d.elem_count - first : steps[i];
            decode_run(f, &s, first, n, piece);
            expect_bits(piece, whole + first, first, n);
        }
        free(piece);
    }
    free(s.bytes);
    free(wide);
    return whole;
}

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

/* A tensor of random values; one of rank 0; what config.json says of blocks. */
#define T(name, dtype, ...)                                                                         \
    {                                                                                               \
        name, TP_##dtype, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), {__VA_ARGS__}, NULL \
    }
#define ONE(name, dtype)               \
    {                                  \
        name, TP_##dtype, 0, {0}, NULL \
    }
#define BLOCKS(rows, columns)                        \
    {                                                \
        .block_rows = rows, .block_columns = columns \
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

/* ---- odd values ---- */

static void expect_text(const struct tp_error *err, const char *const *parts)
{
    for (size_t i = 0; i < 4 && parts[i]; i++)
        if (!strstr(err->message, parts[i]))
            fail_msg("'%s' does not say '%s'", err->message, parts[i]);
}

/* One scale in `scales` is odd: what decoding says. */
static enum tp_status decode_odd(const char *codes_name, enum tp_dtype codes, const char *scales_name,
                                 const float *scales, bool nan_scales, float *values, struct tp_error *err)
{
    const struct entry entries[] = {{codes_name, codes, 2, {4, 3}, NULL}, {scales_name, TP_F32, 1, {4}, scales}};
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    struct fixture f;
    make(&f, NULL, entries, 2);
    f.d.options.nan_scales = nan_scales;
    prepare(&f);
    enum tp_status status = f.d.scheme->decode(&f.d, &s, &f.kernels, 0, 12, values, err);
    if (status) {
        assert_null(s.owner);
        assert_string_equal(err->tensor, codes_name);
    }
    free(s.bytes);
    finish(&f);
    return status;
}

static void scales_that_no_package_writes_are_refused_by_number(void **state)
{
    (void)state;
    static const struct {
        float value;
        bool nan_scales;
        const char *word; /* NULL: fine */
    } rows[] = {{NAN, false, "NaN"},           {-NAN, false, "NaN"},      {NAN, true, NULL},
                {-0.5F, false, "negative"},    {-0.5F, true, "negative"}, {INFINITY, true, "infinite"},
                {0.0F, false, NULL},           {-0.0F, false, NULL},      {1e-42F, false, NULL},
                {-INFINITY, false, "negative"}};
    static const struct {
        enum tp_dtype dtype;
        const char *scales;
    } schemes[] = {{TP_F8_E4M3, "m.weight_scale"}, {TP_I8, "m.weight_scale"}, {TP_I8, "m.SCB"}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        for (size_t k = 0; k < TP_COUNT_OF(schemes); k++) {
            struct tp_error err = {.code = TP_OK};
            const float scales[4] = {1, 0.25F, rows[i].value, 3};
            float values[12];
            enum tp_status status =
                decode_odd("m.weight", schemes[k].dtype, schemes[k].scales, scales, rows[i].nan_scales, values, &err);
            assert_int_equal(status, rows[i].word ? TP_ERR_FORMAT : TP_OK);
            if (rows[i].word)
                expect_text(&err, (const char *const[4]){"scale 2 is", rows[i].word, schemes[k].scales, NULL});
            else if (rows[i].nan_scales)
                assert_true(isnan(values[6]) && isnan(values[8]) && !isnan(scales[1]));
        }
}

static void the_number_of_an_odd_scale_counts_from_the_first_of_all(void **state)
{
    (void)state;
    static float scales[70000];
    const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {70000, 2}, NULL},
                                    {"a.weight_scale", TP_F32, 2, {70000, 1}, scales}};
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    struct tp_error err = {.code = TP_OK};
    struct fixture f;
    float before[10], after[10];
    for (size_t i = 0; i < 70000; i++)
        scales[i] = i == 69999 ? -1.0F : 1.0F + (float)i;
    make(&f, NULL, entries, 2);
    prepare(&f);
    decode_run(&f, &s, 100, 10, before);
    assert_int_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 139000, 2, after, &err), TP_ERR_FORMAT);
    expect_text(&err, (const char *const[4]){"scale 69999 is negative", NULL});
    decode_run(&f, &s, 100, 10, after); /* what the failure left in the scratch is not taken for these scales */
    expect_bits(after, before, 100, 10);
    free(s.bytes);
    finish(&f);
}

static void exponent_255_is_a_nan_scale(void **state)
{
    (void)state;
    static const uint8_t exponents[] = {127, 0xff};
    for (int as_u8 = 0; as_u8 < 2; as_u8++) {
        const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {130, 3}, NULL},
                                        {"a.weight_scale_inv", as_u8 ? TP_U8 : TP_F8_E8M0, 2, {2, 1}, exponents}};
        struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        float values[390];
        make(&f, NULL, entries, 2);
        prepare(&f);
        assert_int_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 0, 390, values, &err), TP_ERR_FORMAT);
        expect_text(&err, (const char *const[4]){"scale 1 is NaN", "a.weight_scale_inv", NULL});
        f.d.options.nan_scales = true;
        decode_run(&f, &s, 0, 390, values);
        assert_true(isnan(values[384]) && isnan(values[389]));
        free(s.bytes);
        finish(&f);
    }
}

static void zero_points_of_floats_must_be_zero(void **state)
{
    (void)state;
    static const uint8_t zeros[2][4] = {{0, 0x80, 0, 0}, {0, 0, 0, 0x38}};
    for (size_t i = 0; i < 2; i++) {
        const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {4, 3}, NULL},
                                        {"a.weight_scale", TP_BF16, 2, {4, 1}, NULL},
                                        {"a.weight_zero_point", TP_F8_E4M3, 2, {4, 1}, zeros[i]}};
        struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        float values[12];
        make(&f, NULL, entries, 3);
        prepare(&f);
        assert_int_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 0, 12, values, &err), i ? TP_ERR_FORMAT : TP_OK);
        if (i)
            expect_text(&err, (const char *const[4]){"zero point 3 is 1", "a.weight_zero_point", NULL});
        free(s.bytes);
        finish(&f);
    }
}

static void a_run_beyond_the_end_is_refused(void **state)
{
    (void)state;
    static const struct entry entries[] = {{"a.weight", TP_F8_E4M3, 2, {4, 3}, NULL},
                                           {"a.weight_scale", TP_F32, 0, {0}, NULL}};
    struct tp_scratch s = scratch_new(TP_SCRATCH_MIN_BYTES);
    struct fixture f;
    float values[12];
    make(&f, NULL, entries, 2);
    prepare(&f);
    assert_int_not_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, 8, 5, values, NULL), TP_OK);
    assert_int_not_equal(f.d.scheme->decode(&f.d, &s, &f.kernels, UINT64_MAX, 2, values, NULL), TP_OK);
    decode_run(&f, &s, 12, 0, values);
    free(s.bytes);
    finish(&f);
}

/* ---- what does not go together ---- */

struct refusal {
    struct entry entries[3];
    size_t count;
    struct tp_quant_facts facts;
    const char *method;
    const char *parts[4]; /* of the message */
};

static const struct refusal refusals[] = {
    {{T("a.weight", F8_E4M3, 576, 300), T("a.weight_scale_inv", F32, 4, 3)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[4, 3]", "[576, 300]", "[5, 3] for blocks of 128 x 128", "a.weight_scale_inv"}},
    {{T("a.weight", F8_E4M3, 576, 300), ONE("a.weight_scale_inv", F32)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[]", "[5, 3] for blocks", "so says config.json"}},
    {{T("a.weight", F8_E4M3, 576, 300), T("a.weight_scale_inv", F32, 576, 1)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[576, 1]", "[5, 3] for blocks"}},
    {{T("a.weight", F8_E4M3, 300, 300), T("a.weight_scale_inv", F32, 3, 3)},
     2,
     BLOCKS(64, 128),
     "fp8",
     {"[3, 3]", "[5, 3] for blocks of 64 x 128"}},
    {{T("a.weight", F8_E4M3, 300, 300), T("a.weight_scale_inv", F32, 2, 2)},
     2,
     {0},
     NULL,
     {"[2, 2]", "[] for all", "[300, 1] for rows", "[3, 3] for blocks"}},
    {{T("a.weight", F8_E4M3, 300, 300), T("a.weight_scale_inv", F32, 1, 1)},
     2,
     BLOCKS(1, UINT64_MAX),
     "fp8",
     {"[300, 1] for blocks of 1 x 18446744073709551615"}},
    {{T("qkv.weight", F8_E4M3, 30, 16), T("qkv.weight_scale", F32, 3)},
     2,
     {0},
     "compressed-tensors",
     {"3 scales", "[30, 16]", "fused", "qkv.weight_scale"}},
    {{T("e.weight", F8_E4M3, 4, 6, 8), T("e.weight_scale", F32, 4, 2)},
     2,
     {0},
     NULL,
     {"[4, 2]", "[4, 6, 8]", "[.., 6, 1] for rows"}},
    {{T("e.weight", F8_E4M3, 4, 6, 8), T("e.weight_scale", F32, 4, 8, 1)}, 2, {0}, NULL, {"[4, 8, 1]"}},
    {{T("e.w", F8_E4M3, 4, 6, 8), T("e.w_scale", F32, 3, 1, 8)}, 2, {0}, NULL, {"[3, 1, 8]", "[4, 6, 8]"}},
    {{T("e.up", F8_E4M3, 3, 130, 200), T("e.up_scale_inv", F32, 2, 2, 2)},
     2,
     BLOCKS(128, 128),
     "fp8",
     {"[2, 2, 2]", "[.., 2, 2] for blocks"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 5)},
     2,
     {0},
     NULL,
     {"[13, 5]", "[13, 96]", "equal groups"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 3)},
     2,
     {.group_size = 16},
     NULL,
     {"[13, 3]", "[.., 6] for groups of 16"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 3)},
     2,
     {.group_size = UINT64_MAX},
     NULL,
     {"groups of 18446744073709551615"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 13, 0)}, 2, {0}, NULL, {"[13, 0]"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", BF16, 0)}, 2, {0}, NULL, {"[0]"}},
    {{T("a.weight", F8_E4M3, 96), T("a.weight_scale", BF16, 96)}, 2, {0}, NULL, {"[96]"}},
    {{T("a.weight", F8_E4M3, 13, 96), T("a.weight_scale", F32, 13, 1)},
     2,
     {.algo = "FP8"},
     "modelopt",
     {"[13, 1]", "[] for all", "so says config.json"}},
    {{T("a.weight", F8_E4M3, 13, 96), ONE("a.weight_scale", F32)},
     2,
     {.algo = "FP8_PER_CHANNEL_PER_TOKEN"},
     "modelopt",
     {"[13, 1] for rows"}},
    {{T("a.weight", F8_E4M3, 130, 96), ONE("a.weight_scale", F32)},
     2,
     {.algo = "fp8_pb_wo"},
     "modelopt",
     {"[2, 1] for blocks"}},
    {{T("a.weight", F8_E4M3, 13, 96), ONE("a.weight_scale", F32), T("a.pre_quant_scale", BF16, 96)},
     3,
     {0},
     NULL,
     {"columns", "a.pre_quant_scale"}},
    {{T("a.weight", F8_E4M3, 13, 96), ONE("a.weight_scale_inv", F64)}, 2, {0}, NULL, {"no scales of dtype F64"}},
    {{T("a.weight", I8, 13, 96), T("a.weight_scale", F32, 13, 1), T("a.weight_zero_point", I8, 13, 3)},
     3,
     {0},
     NULL,
     {"zero points of shape [13, 3]", "scales of shape [13, 1]", "a.weight_zero_point"}},
    {{T("a.weight", I8, 13, 96), T("a.weight_scale", F32, 13, 1), T("a.weight_zero_point", F32, 13, 1)},
     3,
     {0},
     NULL,
     {"no zero points of dtype F32", "a.weight_zero_point"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 12)}, 2, {0}, NULL, {"[13, 96]", "[12]", "a.SCB"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 13, 1)}, 2, {0}, NULL, {"[13, 1]", "[out]"}},
    {{T("a.weight", I8, 13), T("a.SCB", F32, 13)}, 2, {0}, NULL, {"[13]", "[out, in]"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 13), {"a.weight_format", TP_U8, 0, {0}, "\2"}},
     3,
     {0},
     NULL,
     {"weight_format is 2", "a.weight_format"}},
    {{T("a.weight", I8, 13, 96), T("a.SCB", F32, 13), {"a.weight_format", TP_U8, 1, {3}, "\0\0"}},
     3,
     {0},
     NULL,
     {"3 values"}},
};

static void what_does_not_fit_is_refused_with_both_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(refusals); i++) {
        const struct refusal *r = &refusals[i];
        struct tp_error err = {.code = TP_OK};
        struct fixture f;
        make(&f, NULL, r->entries, r->count);
        f.ck->quant = r->facts;
        f.ck->facts.quant_method = r->method;
        enum tp_status status = f.d.scheme->prepare(&f.d, &f.arena, &err);
        if (status != TP_ERR_FORMAT)
            fail_msg("refusal %zu: status %d, '%s'", i, (int)status, err.message);
        expect_text(&err, r->parts);
        assert_string_equal(err.tensor, r->entries[0].name);
        finish(&f);
    }
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
        cmocka_unit_test(results_are_those_of_the_packages),
        cmocka_unit_test(larger_results_are_those_of_the_packages),
        cmocka_unit_test(codes_times_0002_are_these_bits),
        cmocka_unit_test(blocks_at_the_edges_are_partial),
        cmocka_unit_test(every_code_of_every_kind_is_its_value),
        cmocka_unit_test(scales_of_every_shape_follow_the_formula),
        cmocka_unit_test(scales_may_lie_in_another_shard),
        cmocka_unit_test(two_tensors_may_share_a_scratch),
        cmocka_unit_test(scales_that_no_package_writes_are_refused_by_number),
        cmocka_unit_test(the_number_of_an_odd_scale_counts_from_the_first_of_all),
        cmocka_unit_test(exponent_255_is_a_nan_scale),
        cmocka_unit_test(zero_points_of_floats_must_be_zero),
        cmocka_unit_test(a_run_beyond_the_end_is_refused),
        cmocka_unit_test(what_does_not_fit_is_refused_with_both_names),
        cmocka_unit_test(weight_format_0_is_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
