/* SPDX-License-Identifier: MIT */
/* Reading chunks, against a reader that looks up every element by itself; where Orbax's folders are looked for; and
 * damaged checkpoints. What real Orbax wrote is read in tests/e2e/test_orbax_read.py. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <inttypes.h>
#include <zstd.h>

#include "checkpoint/chunk_copy.h"
#include "checkpoint/chunks.h"
#include "checkpoint/orbax.h"
#include "codec/crc32c.h"
#include "os/tree.h"
#include "scratch.h"

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % limit;
}

/* ---- boxes ---- */

/* A source without end whose byte i is a hash of i. */
static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

struct source {
    uint64_t last; /* where the last read began */
    uint64_t read_count;
};

static enum tp_status read_source(void *user, void *dst, size_t len, uint64_t offset, struct tp_error *err)
{
    struct source *s = user;
    (void)err;
    assert_true(offset >= s->last);
    s->last = offset;
    s->read_count++;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)dst)[i] = byte_at(offset + i);
    return TP_OK;
}

/* Up to four axes of a stored box, a part of each taken, laid out in dst in another order of axes. */
static size_t random_box(struct tp_box *box, uint64_t *first)
{
    static const unsigned items[] = {1, 2, 4, 8, 16};
    unsigned rank = (unsigned)random_below(4) + 1, place[4] = {0, 1, 2, 3};
    uint64_t count[4], src[4], dst[4] = {0}, stride;
    *box = (struct tp_box){.item_bytes = items[random_below(5)]};
    *first = random_below(100);
    stride = box->item_bytes;
    for (unsigned i = rank; i-- > 0;) {
        uint64_t length = random_below(3) ? 1 + random_below(7) : 1 + random_below(700 / rank / rank);
        count[i] = random_below(2) ? length : 1 + random_below(length);
        src[i] = stride;
        stride *= length + (random_below(8) ? 0 : random_below(5000));
    }
    for (unsigned i = rank; i > 1; i--) {
        unsigned k = (unsigned)random_below(i), swap = place[i - 1];
        place[i - 1] = place[k];
        place[k] = swap;
    }
    stride = box->item_bytes;
    for (unsigned i = rank; i-- > 0; stride *= count[place[i]])
        dst[place[i]] = stride;
    for (unsigned i = 0; i < rank; i++)
        tp_box_add(box, count[i], src[i], dst[i]);
    return (size_t)stride;
}

/* Every element by its own loop indices. */
static void expect_box(const struct tp_box *box, uint64_t first, const uint8_t *dst)
{
    uint64_t at[TP_RANK_MAX] = {0};
    for (;;) {
        uint64_t src = first, to = 0;
        for (unsigned i = 0; i < box->loop_count; i++) {
            src += at[i] * box->loops[i].src;
            to += at[i] * box->loops[i].dst;
        }
        for (unsigned k = 0; k < box->item_bytes; k++)
            if (dst[to + k] != byte_at(src + k))
                fail_msg("byte %" PRIu64 " is %u, the source's %" PRIu64 " is %u", to + k, dst[to + k], src + k,
                         byte_at(src + k));
        unsigned i = box->loop_count;
        while (i > 0 && ++at[i - 1] == box->loops[i - 1].count)
            at[--i] = 0;
        if (i == 0)
            return;
    }
}

static void a_box_is_the_same_whatever_the_bounce_buffer_holds(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 600; round++) {
        struct tp_box box;
        struct source source = {0};
        uint64_t first;
        size_t size = random_box(&box, &first), bounce_bytes = 16 + (size_t)random_below(round % 2 ? 100 : 70000);
        uint8_t *dst = malloc(size), *bounce = malloc(bounce_bytes);
        assert_non_null(dst);
        assert_non_null(bounce);
        assert_int_equal(tp_box_fetch(dst, &box, first, bounce, bounce_bytes, read_source, &source, NULL), TP_OK);
        expect_box(&box, first, dst);
        free(bounce);
        free(dst);
    }
}

static void neighbours_are_read_together(void **state)
{
    (void)state;
    static uint8_t dst[1000 * 100], bounce[1 << 16];
    struct tp_box box = {.item_bytes = 1};
    struct source source = {0};
    tp_box_add(&box, 1000, 200, 100); /* 100 of every 200 bytes: half of what is read is used */
    tp_box_add(&box, 100, 1, 1);
    assert_int_equal(tp_box_fetch(dst, &box, 0, bounce, sizeof bounce, read_source, &source, NULL), TP_OK);
    expect_box(&box, 0, dst);
    assert_true(source.read_count <= 5);
}

/* ---- chunks ---- */

struct sample {
    struct scratch scratch;
    struct tp_checkpoint *ck;
    const struct tp_tensor *t;
    uint8_t *values; /* the whole tensor, row-major */
    uint64_t chunk[TP_RANK_MAX];
    uint8_t order[TP_RANK_MAX];
    struct tp_chunks chunks;
    uint8_t *file; /* of all chunks */
    size_t file_bytes;
};

/* The bytes of a chunk as they are before compression: padding is 0xee. */
static void fill_chunk(const struct sample *s, const uint64_t *shape, unsigned rank, unsigned item, uint64_t number,
                       uint8_t *bytes, uint64_t volume)
{
    uint64_t grid[8], at[8];
    for (unsigned i = rank; i-- > 0; number /= grid[i]) {
        grid[i] = (shape[i] + s->chunk[i] - 1) / s->chunk[i];
        at[i] = number % grid[i];
    }
    for (uint64_t k = 0; k < volume; k++) {
        uint64_t rest = k, inside[8], flat = 0;
        bool is_padding = false;
        for (unsigned i = rank; i-- > 0;) {
            unsigned axis = s->order[i];
            inside[axis] = rest % s->chunk[axis] + at[axis] * s->chunk[axis];
            rest /= s->chunk[axis];
        }
        for (unsigned i = 0; i < rank; i++) {
            is_padding = is_padding || inside[i] >= shape[i];
            flat = flat * shape[i] + inside[i];
        }
        for (unsigned b = 0; b < item; b++)
            bytes[k * item + b] = is_padding ? 0xee : s->values[flat * item + b];
    }
}

/* Append a chunk as it is stored; its extent. */
static struct tp_extent store_chunk(struct sample *s, const uint8_t *bytes, uint64_t size, uint32_t file)
{
    size_t bound = ZSTD_compressBound(size) + 4, len = size;
    s->file = realloc(s->file, s->file_bytes + bound);
    assert_non_null(s->file);
    uint8_t *to = s->file + s->file_bytes;
    if (s->chunks.codec == TP_CHUNK_ZSTD)
        len = ZSTD_compress(to, bound, bytes, size, 1);
    else
        memcpy(to, bytes, size);
    uint32_t crc = tp_crc32c(0, to, len);
    for (unsigned i = 0; s->chunks.has_crc && i < 4; i++)
        to[len++] = (uint8_t)(crc >> 8 * i);
    struct tp_extent e = {.offset_bytes = s->file_bytes, .size_bytes = len, .file = file};
    s->file_bytes += len;
    return e;
}

static void store_chunks(struct sample *s, const uint64_t *shape, unsigned rank, unsigned item,
                         struct tp_extent *extents, uint64_t count)
{
    uint64_t volume = 1;
    for (unsigned i = 0; i < rank; i++)
        volume *= s->chunk[i];
    uint8_t *bytes = malloc(volume * item);
    assert_non_null(bytes);
    bool in_memory = random_below(4) == 0;
    for (uint64_t n = 0; n < count; n++) {
        fill_chunk(s, shape, rank, item, n, bytes, volume);
        extents[n] = store_chunk(s, bytes, volume * item, in_memory ? TP_FILE_MEMORY : 0);
    }
    free(bytes);
}

static uint64_t random_shape(struct sample *s, uint64_t *shape, unsigned rank, uint64_t elems_max)
{
    uint64_t count = 1, elems = 1;
    for (unsigned i = 0; i < rank; i++) {
        uint64_t most = elems_max / elems;
        shape[i] = 1 + random_below(most < 2 ? 1 : i + 1 == rank || random_below(3) == 0 ? most : most > 9 ? 9 : most);
        elems *= shape[i];
        s->chunk[i] = random_below(3) ? 1 + random_below(shape[i]) : shape[i] + random_below(2);
        while ((shape[i] + s->chunk[i] - 1) / s->chunk[i] * count > 200)
            s->chunk[i] = shape[i];
        count *= (shape[i] + s->chunk[i] - 1) / s->chunk[i];
        s->order[i] = (uint8_t)i;
    }
    for (unsigned i = rank; i > 1 && random_below(2); i--) {
        unsigned k = (unsigned)random_below(i);
        uint8_t swap = s->order[i - 1];
        s->order[i - 1] = s->order[k];
        s->order[k] = swap;
    }
    return count;
}

/* A tensor of random shape, cut into random chunks of random encoding. */
static void sample_make(struct sample *s, uint64_t elems_max)
{
    static const enum tp_dtype dtypes[] = {TP_U8, TP_BF16, TP_F32, TP_C64};
    enum tp_dtype dtype = dtypes[random_below(4)];
    unsigned rank = (unsigned)random_below(6), item = tp_dtype_bits(dtype) / 8;
    uint64_t shape[8], elems = 1;
    struct tp_error err;
    *s = (struct sample){.chunks = {.codec = (uint8_t)random_below(2), .has_crc = random_below(3) == 0}};
    uint64_t count = random_shape(s, shape, rank, elems_max);
    for (unsigned i = 0; i < rank; i++)
        elems *= shape[i];
    s->values = malloc(elems * item);
    struct tp_extent *extents = calloc(count, sizeof *extents);
    assert_non_null(s->values);
    assert_non_null(extents);
    for (uint64_t i = 0; i < elems * item; i++)
        s->values[i] = (uint8_t)(random_below(9) ? 7 : random_below(256)); /* something to compress */
    s->chunks.shape = s->chunk;
    s->chunks.order = s->order;
    store_chunks(s, shape, rank, item, extents, count);
    scratch_make(&s->scratch);
    scratch_put(&s->scratch, "data", s->file, s->file_bytes, 0);
    assert_int_equal(tp_checkpoint_new(&s->ck, s->scratch.path, s->scratch.path, &err), TP_OK);
    uint32_t file;
    assert_int_equal(tp_checkpoint_add_file(s->ck, "data", &file, &err), TP_OK);
    s->ck->memory = s->file; /* the checkpoint frees it */
    struct tp_tensor_spec spec = {.name = "w",
                                  .name_len = 1,
                                  .dtype = dtype,
                                  .shape = shape,
                                  .rank = rank,
                                  .extents = extents,
                                  .extent_count = (uint32_t)count,
                                  .chunks = &s->chunks};
    assert_int_equal(tp_checkpoint_add_tensor(s->ck, &spec, &err), TP_OK);
    s->t = &s->ck->tensors[0];
    free(extents);
}

static void sample_release(struct sample *s)
{
    tp_checkpoint_close(s->ck);
    scratch_remove(&s->scratch);
    free(s->values);
}

static void expect_range(const struct sample *s, struct tp_chunk_reader *reader, uint64_t first, uint64_t count)
{
    unsigned item = tp_dtype_bits((enum tp_dtype)s->t->dtype) / 8;
    uint8_t *room = malloc(count * item + 1);
    struct tp_error err = {.code = TP_OK};
    assert_non_null(room);
    room[count * item] = 0x5a;
    if (tp_chunks_read(reader, s->ck, s->t, first, count, room, &err))
        fail_msg("elements %" PRIu64 " + %" PRIu64 ": %s", first, count, err.message);
    assert_int_equal(room[count * item], 0x5a);
    assert_memory_equal(room, s->values + first * item, count * item);
    free(room);
}

static void any_range_of_any_grid_has_its_values(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 150; round++) {
        struct sample s;
        sample_make(&s, round % 10 ? 3000 : 300000);
        struct tp_chunk_reader *reader = tp_chunk_reader_new(round % 3 ? 0 : (size_t)4 << 20);
        assert_non_null(reader);
        uint64_t n = s.t->elem_count, piece = 1 + random_below(n < 5000 ? n : 5000);
        for (uint64_t i = 0; i < n; i += piece) /* forward, as a worker reads */
            expect_range(&s, reader, i, n - i < piece ? n - i : piece);
        for (unsigned i = 0; i < 12; i++) { /* anywhere */
            uint64_t first = random_below(n);
            expect_range(&s, i % 2 ? reader : NULL, first, 1 + random_below(n - first < 9999 ? n - first : 9999));
        }
        expect_range(&s, reader, 0, n);
        tp_chunk_reader_free(reader);
        sample_release(&s);
    }
}

static void what_is_not_stored_is_the_fill_value(void **state)
{
    (void)state;
    struct sample s;
    struct tp_error err;
    static const uint8_t fill[16] = {1, 2, 3, 4, 5, 6, 7, 8};
    do {
        sample_make(&s, 3000);
        if (s.t->extent_count < 4)
            sample_release(&s);
        else
            break;
    } while (true);
    unsigned item = tp_dtype_bits((enum tp_dtype)s.t->dtype) / 8;
    struct tp_extent *extents = malloc(s.t->extent_count * sizeof *extents);
    assert_non_null(extents);
    memcpy(extents, s.t->extents, s.t->extent_count * sizeof *extents);
    for (uint32_t i = 0; i < s.t->extent_count; i++)
        extents[i].file = TP_FILE_ABSENT;
    memcpy(s.chunks.fill, fill, sizeof fill);
    struct tp_tensor none = *s.t;
    none.extents = extents;
    uint8_t *room = malloc(none.size_bytes);
    assert_non_null(room);
    assert_int_equal(tp_chunks_read(NULL, s.ck, &none, 0, none.elem_count, room, &err), TP_OK);
    for (uint64_t i = 0; i < none.size_bytes; i++)
        assert_int_equal(room[i], fill[i % item]);
    free(room);
    free(extents);
    sample_release(&s);
}

/* Four compressed chunks side by side: a reader with room for four streams decodes each once, whatever the pieces. */
static void a_reader_says_what_memory_makes_it_fast(void **state)
{
    (void)state;
    struct tp_checkpoint ck = {.tensor_count = 0};
    uint64_t shape[2] = {64, 4096}, chunk[2] = {64, 64};
    struct tp_chunks chunks = {.shape = chunk, .codec = TP_CHUNK_ZSTD};
    struct tp_tensor t = {.shape = shape, .rank = 2, .dtype = TP_F32, .elem_count = 64 * 4096, .extent_count = 64};
    ck.tensors = &t;
    ck.tensor_count = 1;
    assert_int_equal(tp_chunk_reader_wants(&ck), 0);
    t.chunks = &chunks;
    size_t many = tp_chunk_reader_wants(&ck);
    chunk[1] = 4096;
    size_t one = tp_chunk_reader_wants(&ck);
    assert_true(many >= (size_t)64 << 20);
    assert_true(one > 0 && one < (size_t)4 << 20);
}

/* ---- folders ---- */

static void make_item(const struct scratch *s, const char *name)
{
    char path[128];
    assert_int_equal(tp_folder_make(scratch_at(s, name), NULL), TP_OK);
    snprintf(path, sizeof path, "%s/_METADATA", name);
    scratch_put(s, path, "{}", 2, 0);
}

static void remove_folder(const struct scratch *s)
{
    struct tp_names names = {0};
    assert_int_equal(tp_tree_list(&names, s->path, NULL), TP_OK);
    for (size_t i = 0; i < names.count; i++)
        assert_int_equal(tp_tree_remove(s->path, names.items[i], NULL), TP_OK);
    tp_names_release(&names);
    assert_int_equal(tp_path_remove(s->path, NULL), TP_OK);
}

static void expect_place(const struct scratch *s, const char *path, const char *folder, const char *unit)
{
    struct tp_orbax_place place;
    struct tp_error err = {.code = TP_OK};
    if (tp_orbax_locate(&place, scratch_at(s, path), false, &err))
        fail_msg("%s: %s", path, err.message);
    assert_string_equal(place.folder, scratch_at(s, folder));
    assert_string_equal(place.unit, scratch_at(s, unit));
    tp_orbax_place_release(&place);
}

static void the_highest_step_and_the_usual_item_are_taken(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    make_item(&s, "root/9/default");
    make_item(&s, "root/10/state");
    make_item(&s, "root/10/zeta");
    make_item(&s, "root/11.orbax-checkpoint-tmp-3/default");
    assert_int_equal(tp_folder_make(scratch_at(&s, "root/12/metrics"), NULL), TP_OK);
    expect_place(&s, "root", "root/10/state", "root/10");
    expect_place(&s, "root/9", "root/9/default", "root/9");
    expect_place(&s, "root/9/default", "root/9/default", "root/9/default");
    make_item(&s, "padded/step_000007");
    make_item(&s, "padded/step_000010");
    expect_place(&s, "padded", "padded/step_000010", "padded/step_000010");
    make_item(&s, "single/odd name");
    expect_place(&s, "single", "single/odd name", "single");
    remove_folder(&s);
}

static void what_is_no_checkpoint_is_refused_with_words(void **state)
{
    (void)state;
    static const struct {
        const char *path, *words;
        enum tp_status status;
    } rows[] = {
        {"two", "several items, and none has a usual name: a, b", TP_ERR_USAGE},
        {"w.orbax-checkpoint-tmp-77", "an unfinished checkpoint", TP_ERR_FORMAT},
        {"w.orbax-checkpoint-tmp-77/", "an unfinished checkpoint", TP_ERR_FORMAT},
        {"w.tensorport-partial", "an unfinished checkpoint", TP_ERR_FORMAT},
        {"empty", "no Orbax checkpoint", TP_ERR_FORMAT},
        {"db", "manifest.ocdbt without _METADATA", TP_ERR_FORMAT},
    };
    struct scratch s;
    scratch_make(&s);
    make_item(&s, "two/a");
    make_item(&s, "two/b");
    make_item(&s, "w.orbax-checkpoint-tmp-77");
    make_item(&s, "w.tensorport-partial");
    assert_int_equal(tp_folder_make(scratch_at(&s, "empty"), NULL), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&s, "db"), NULL), TP_OK);
    scratch_put(&s, "db/manifest.ocdbt", "", 0, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tp_orbax_place place;
        struct tp_error err;
        assert_int_equal(tp_orbax_locate(&place, scratch_at(&s, rows[i].path), false, &err), rows[i].status);
        if (!strstr(err.message, rows[i].words))
            fail_msg("%s: %s", rows[i].path, err.message);
        assert_null(place.folder);
    }
    remove_folder(&s);
}

/* ---- damage ---- */

static uint8_t *load(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *bytes = malloc(1 << 16);
    assert_non_null(bytes);
    *len = fread(bytes, 1, 1 << 16, file);
    fclose(file);
    return bytes;
}

static void store(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

/* Open, and read every value: a status, and words where it is not good; nothing else. */
static enum tp_status open_and_read(const char *path)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    enum tp_status status = tp_checkpoint_open(&ck, path, NULL, &err);
    for (uint32_t i = 0; !status && i < tp_checkpoint_tensor_count(ck); i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(ck, i);
        uint64_t count = t->elem_count < 5000 ? t->elem_count : 5000;
        unsigned item = tp_dtype_bits((enum tp_dtype)t->dtype) / 8;
        uint8_t *room = malloc((size_t)count * item + 1);
        assert_non_null(room);
        status = tp_tensor_read(ck, t, 0, count, room, &err);
        free(room);
    }
    tp_checkpoint_close(ck);
    assert_true(status == TP_OK || err.message[0]);
    assert_true(status != TP_ERR_BUG && status != TP_ERR_NOMEM);
    return status;
}

/* A node or a manifest that was changed, with a checksum that fits again. */
static void seal(uint8_t *bytes, size_t len)
{
    uint32_t crc = tp_crc32c(0, bytes, len - 4);
    for (unsigned i = 0; i < 4; i++)
        bytes[len - 4 + i] = (uint8_t)(crc >> 8 * i);
}

/* Every step-th byte. */
static void flip(const struct scratch *s, const char *name, bool sealed, size_t step)
{
    size_t len, refused = 0;
    const char *path = scratch_at(s, name);
    uint8_t *bytes = load(path, &len), *sound = malloc(len + 1);
    assert_non_null(sound);
    memcpy(sound, bytes, len);
    for (size_t i = 0; i < len - (sealed ? 4 : 0); i += step) {
        bytes[i] = (uint8_t)(bytes[i] ^ (1u << i % 8));
        if (sealed)
            seal(bytes, len);
        store(path, bytes, len);
        refused += open_and_read(s->path) != TP_OK;
        memcpy(bytes, sound, len);
    }
    assert_true(refused > 0);
    store(path, sound, len);
    assert_int_equal(open_and_read(s->path), TP_OK);
    free(sound);
    free(bytes);
}

/* One of the golden overlays of tests/data/orbax. */
static void copy_golden(const struct scratch *s, const char *name)
{
    char root[SCRATCH_PATH], from[2 * SCRATCH_PATH];
    struct tp_names names = {0};
    const char *data = getenv("TENSORPORT_TEST_DATA");
    snprintf(root, sizeof root, "%s/orbax/%s", data ? data : "tests/data", name);
    assert_int_equal(tp_tree_list(&names, root, NULL), TP_OK);
    for (size_t i = 0; i < names.count; i++) {
        size_t len;
        snprintf(from, sizeof from, "%s/%s", root, names.items[i]);
        uint8_t *bytes = load(from, &len);
        assert_int_equal(tp_tree_make(s->path, names.items[i], NULL), TP_OK);
        store(scratch_at(s, names.items[i]), bytes, len);
        free(bytes);
    }
    tp_names_release(&names);
}

static void flipped_bytes_never_crash(void **state)
{
    (void)state;
    static const char node[] = "d/00000000000000000000000000000001";
    static const struct {
        const char *name;
        size_t step, few; /* `few`: where nearly every flip is found at once */
    } rows[] = {{"g1", 1, 1}, {"g4", 7, 70}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scratch s;
        scratch_make(&s);
        copy_golden(&s, rows[i].name);
        flip(&s, "manifest.ocdbt", false, rows[i].few);
        flip(&s, "manifest.ocdbt", true, rows[i].step);
        flip(&s, node, true, rows[i].step);
        flip(&s, node, false, rows[i].few);
        flip(&s, "_METADATA", false, rows[i].few);
        remove_folder(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_box_is_the_same_whatever_the_bounce_buffer_holds),
        cmocka_unit_test(neighbours_are_read_together),
        cmocka_unit_test(any_range_of_any_grid_has_its_values),
        cmocka_unit_test(what_is_not_stored_is_the_fill_value),
        cmocka_unit_test(a_reader_says_what_memory_makes_it_fast),
        cmocka_unit_test(the_highest_step_and_the_usual_item_are_taken),
        cmocka_unit_test(what_is_no_checkpoint_is_refused_with_words),
        cmocka_unit_test(flipped_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
