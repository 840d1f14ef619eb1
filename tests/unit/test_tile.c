/* SPDX-License-Identifier: MIT */
/* Arrays whose pieces are scattered, moved through the pipeline with little memory: their bytes, digests and statistics
 * against looking at every element by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "checkpoint/checkpoint.h"
#include "map/stride.h"
#include "pipeline/move.h"
#include "pipeline/spread.h"
#include "plan/piece.h"
#include "scratch.h"

#define PARTS 8 /* sub-axes of an array */
#define PIECES 12
#define EXTENTS 4096
#define SOURCE_ELEMS 20000u /* of each tensor */
#define SOURCES 3u

static unsigned pick(unsigned low, unsigned high)
{
    return low + (unsigned)rand() % (high - low + 1);
}

/* ---- a source ---- */

struct source {
    struct scratch scratch;
    struct tp_checkpoint *ck;
    uint8_t *bytes[SOURCES]; /* of each tensor */
    enum tp_dtype dtype;
    unsigned item;
};

static const enum tp_dtype dtypes[] = {TP_U8, TP_BF16, TP_F16, TP_F32, TP_F64, TP_C64, TP_BOOL, TP_I16};

static void open_folder(struct tp_checkpoint **ck, const char *path)
{
    struct tp_error err = {.code = TP_OK};
    if (tp_checkpoint_open(ck, path, NULL, &err))
        fail_msg("%s %s", err.message, err.path);
}

/* Values of floats: any bits, or such that a cast to half the width loses a few. */
static void fill_values(struct source *s, uint8_t *bytes, uint64_t elem_count)
{
    bool any = pick(0, 1);
    for (uint64_t i = 0; i < elem_count * s->item; i++)
        bytes[i] = (uint8_t)(s->dtype == TP_BOOL ? pick(0, 40) == 0 ? 7 : pick(0, 1) : pick(0, 255));
    for (uint64_t i = 0; i < elem_count && !any; i++) {
        float value = (float)((int)pick(0, 2000) - 1000) * (pick(0, 20) ? 0.001f : 1e4f);
        if (s->dtype == TP_F32)
            memcpy(bytes + i * 4, &value, sizeof value);
    }
}

static void make_source(struct source *s, enum tp_dtype dtype, unsigned count, uint64_t elem_count)
{
    char header[1024];
    size_t len = 0;
    *s = (struct source){.dtype = dtype, .item = tp_dtype_bits(dtype) / 8};
    uint64_t size = elem_count * s->item;
    scratch_make(&s->scratch);
    uint8_t *data = malloc((size_t)size * count);
    assert_non_null(data);
    for (unsigned t = 0; t < count; t++) {
        s->bytes[t] = data + t * size;
        fill_values(s, s->bytes[t], elem_count);
        len += (size_t)snprintf(header + len, sizeof header - len,
                                "%s\"t%u\":{\"dtype\":\"%s\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]}",
                                t ? "," : "{", t, tp_dtype_name(dtype), (unsigned long long)elem_count,
                                (unsigned long long)(t * size), (unsigned long long)((t + 1) * size));
    }
    snprintf(header + len, sizeof header - len, "}");
    scratch_safetensors(&s->scratch, "model.safetensors", header, size * count, data, (size_t)size * count);
    open_folder(&s->ck, s->scratch.path);
}

static void free_source(struct source *s)
{
    tp_checkpoint_close(s->ck);
    free(s->bytes[0]);
    scratch_remove(&s->scratch);
}

/* ---- an array: sub-axes in groups, pieces along one of them ---- */

struct scene {
    struct source source;
    struct tp_plan plan;
    struct tp_logical logicals[SOURCES];
    struct tp_array array;
    uint64_t shape[4];
    struct tp_grid grid;
    uint64_t chunk[4];
    uint8_t order[4];
    struct tp_piece pieces[PIECES];
    struct tp_axis axes[PIECES][PARTS];
    struct tp_axis plain[PIECES][PARTS]; /* as they were made: a loop for each sub-axis */
    unsigned part_count;
    uint64_t size[PARTS], dst_stride[PARTS];
    struct tp_map_arithmetic arithmetic;
    struct tp_out_extent extents[EXTENTS];
    struct tp_out_file file;
    struct tp_kernels kernels;
    uint8_t *expected; /* in row-major order */
    struct tp_result expected_result;
};

/* Rank 0 to 4, each axis of one to three sub-axes. */
static void choose_shape(struct scene *s, unsigned largest)
{
    s->array.rank = (uint8_t)pick(pick(0, 9) ? 1 : 0, 4);
    s->array.elem_count = 1;
    for (unsigned d = 0; d < s->array.rank; d++) {
        s->shape[d] = 1;
        for (unsigned i = pick(1, s->array.rank > 2 ? 2 : 3); i > 0 && s->part_count < PARTS; i--) {
            uint64_t size = pick(0, 4) ? pick(1, 6) : pick(1, largest);
            if (s->array.elem_count * size > SOURCE_ELEMS / 4)
                size = 1;
            s->size[s->part_count++] = size;
            s->shape[d] *= size;
            s->array.elem_count *= size;
        }
    }
    uint64_t stride = 1;
    for (unsigned i = s->part_count; i-- > 0; stride *= s->size[i])
        s->dst_stride[i] = stride;
}

/* Sub-axis `along` from `low` on; the other sizes as given. Its source has the sub-axes in any order, and gaps. */
static void make_piece(struct scene *s, unsigned along, uint64_t low, const uint64_t *size)
{
    unsigned number = s->array.piece_count++, order[PARTS];
    struct tp_axis *plain = s->plain[number];
    struct tp_piece *p = &s->pieces[number];
    uint64_t stride = 1, left = 1; /* elements of the sub-axes that are still to be placed */
    *p = (struct tp_piece){.logical = pick(0, SOURCES - 1), .axes = s->axes[number], .run_elems = 1};
    p->dst_first = s->part_count ? low * s->dst_stride[along] : 0;
    for (unsigned i = 0; i < s->part_count; i++) {
        order[i] = i;
        left *= size[i];
    }
    for (unsigned i = s->part_count; i > 1 && pick(0, 3); i--) {
        unsigned j = pick(0, i - 1), swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    for (unsigned i = s->part_count; i-- > 0;) {
        unsigned part = order[i];
        if (pick(0, 7) == 0 && 3 * stride * left < SOURCE_ELEMS) /* `::2`, or one of a few */
            stride *= pick(2, 3);
        bool repeats = pick(0, 40) == 0;
        plain[part] = (struct tp_axis){size[part], repeats ? 0 : stride, s->dst_stride[part]};
        stride *= repeats ? 1 : size[part];
        left /= size[part];
        stride += pick(0, 9) == 0 && (stride + 5) * left < SOURCE_ELEMS ? pick(1, 5) : 0;
    }
    uint64_t reach = 1;
    for (unsigned i = 0; i < s->part_count; i++)
        reach += (size[i] - 1) * plain[i].src_stride;
    assert_true(reach <= SOURCE_ELEMS);
    p->src_first = pick(0, (unsigned)(SOURCE_ELEMS - reach));
    memcpy(s->axes[number], plain, sizeof s->axes[number]);
    p->axis_count = tp_axes_normalise(s->axes[number], s->part_count);
    const struct tp_axis *last = p->axis_count ? &s->axes[number][p->axis_count - 1] : NULL;
    if (last && last->src_stride == 1 && last->dst_stride == 1) {
        p->run_elems = last->count;
        p->axis_count--;
    }
}

static void choose_pieces(struct scene *s)
{
    uint64_t size[PARTS];
    unsigned along = s->part_count ? pick(0, s->part_count - 1) : 0, padded = along;
    uint64_t whole = s->part_count ? s->size[along] : 1, low = 0;
    memcpy(size, s->size, sizeof size);
    if (s->part_count && pick(0, 3) == 0) {
        padded = pick(0, s->part_count - 1);
        s->array.has_holes = true;
        s->array.fill = pick(0, 1) ? 0 : 0x0102030405060708;
        size[padded] = pick(1, (unsigned)size[padded]);
        whole = padded == along ? size[padded] : whole;
    }
    unsigned kind = pick(0, 2); /* one piece, a stack, or a concatenation */
    while (low < whole && s->array.piece_count < PIECES) {
        uint64_t left = whole - low, length = kind == 0 ? left : kind == 1 ? 1 : pick(1, (unsigned)left);
        if (s->array.piece_count == PIECES - 1)
            length = left;
        if (s->part_count)
            size[along] = length;
        make_piece(s, along, low, size);
        low += length;
    }
}

static int by_place(const void *a, const void *b)
{
    const struct tp_piece *x = a, *y = b;
    return x->dst_first < y->dst_first ? -1 : x->dst_first > y->dst_first;
}

/* ---- what happens to values ---- */

static enum tp_dtype any_float(void)
{
    static const enum tp_dtype floats[] = {TP_F32, TP_F16, TP_BF16};
    return floats[pick(0, 2)];
}

static void choose_values(struct scene *s)
{
    enum tp_dtype from = s->source.dtype;
    bool is_float = from == TP_F32 || from == TP_F16 || from == TP_BF16 || from == TP_F64;
    enum tp_dtype to = is_float && pick(0, 1) ? any_float() : from;
    bool calculates = is_float && pick(0, 2) == 0;
    static const double factors[] = {0.08838834764831845, 3, -1.5, 1e-3, 40000};
    s->arithmetic = (struct tp_map_arithmetic){.multiplies = pick(0, 1), .factor = factors[pick(0, 4)], .addend = 1};
    s->arithmetic.adds = !s->arithmetic.multiplies || pick(0, 1);
    s->array.dtype = (uint8_t)to;
    s->array.result = is_float || from == TP_BOOL ? 0 : TP_NONE;
    for (uint32_t i = 0; i < s->array.piece_count; i++) {
        struct tp_piece *p = &s->pieces[i];
        p->source_dtype = (uint8_t)from;
        p->op = to == from ? TP_OP_COPY : TP_OP_CAST;
        p->arithmetic = calculates ? &s->arithmetic : NULL;
        p->math_dtype = (uint8_t)(pick(0, 1) ? from : pick(0, 2) || from == TP_F64 ? to : any_float());
    }
}

static unsigned kind_of(enum tp_dtype dtype)
{
    return dtype == TP_F64 ? TP_KIND_F64 : dtype == TP_F32 ? TP_KIND_F32 : dtype == TP_F16 ? TP_KIND_F16 : TP_KIND_BF16;
}

/* One value by the scalar kernels. */
static void cast_one(const struct scene *s, enum tp_dtype from, enum tp_dtype to, uint8_t *value,
                     struct tp_stats *stats)
{
    uint8_t result[16];
    if (from == to)
        return;
    s->kernels.cast[kind_of(from)][kind_of(to)](result, value, 1, false, stats);
    memcpy(value, result, tp_dtype_bits(to) / 8);
}

static void expect_one(struct scene *s, const struct tp_piece *p, const uint8_t *from, uint8_t *to)
{
    uint8_t value[16];
    struct tp_stats became;
    enum tp_dtype source = (enum tp_dtype)p->source_dtype, math = (enum tp_dtype)p->math_dtype;
    enum tp_dtype target = (enum tp_dtype)s->array.dtype;
    tp_stats_init(&became);
    memcpy(value, from, s->source.item);
    if (source == TP_BOOL)
        s->expected_result.odd_bool_count += value[0] > 1;
    else if (s->array.result != TP_NONE)
        s->kernels.measure[kind_of(source)](value, 1, &s->expected_result.stats);
    if (p->arithmetic) {
        cast_one(s, source, math, value, &became);
        if (p->arithmetic->multiplies)
            s->kernels.multiply[kind_of(math)](value, value, 1, p->arithmetic->factor, false, &became);
        if (p->arithmetic->adds)
            s->kernels.add[kind_of(math)](value, value, 1, p->arithmetic->addend, false, &became);
        source = math;
    }
    cast_one(s, source, target, value, &became);
    s->expected_result.stats.overflow_count += became.overflow_count;
    s->expected_result.stats.flushed_count += became.flushed_count;
    memcpy(to, value, tp_dtype_bits(target) / 8);
}

/* Every element of every piece, by the loops as they were made. */
static void expect_array(struct scene *s)
{
    unsigned item = tp_array_item_bytes(&s->array);
    s->expected = malloc((size_t)s->array.elem_count * item);
    assert_non_null(s->expected);
    tp_result_init(&s->expected_result);
    for (uint64_t i = 0; i < s->array.elem_count * item; i++)
        s->expected[i] = (uint8_t)(s->array.fill >> 8 * (i % item % 8));
    for (uint32_t k = 0; k < s->array.piece_count; k++) {
        const struct tp_piece *p = &s->pieces[k];
        const struct tp_axis *plain = s->plain[(p->axes - s->axes[0]) / PARTS];
        uint64_t volume = 1;
        for (unsigned i = 0; i < s->part_count; i++)
            volume *= plain[i].count;
        for (uint64_t n = 0; n < volume; n++) {
            uint64_t src = p->src_first, dst = p->dst_first, rest = n;
            for (unsigned i = 0; i < s->part_count; i++) {
                src += rest % plain[i].count * plain[i].src_stride;
                dst += rest % plain[i].count * plain[i].dst_stride;
                rest /= plain[i].count;
            }
            expect_one(s, p, s->source.bytes[p->logical] + src * s->source.item, s->expected + dst * item);
        }
    }
}

/* ---- where it is written: a safetensors file of one tensor of bytes ---- */

static size_t frame(const struct tp_plan *plan, uint32_t file, uint32_t k, size_t offset, uint8_t *dst, size_t cap)
{
    char text[128];
    unsigned long long size = plan->files[file].size_bytes - 128 - 8;
    snprintf(text, sizeof text, "{\"t\":{\"dtype\":\"U8\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}", size, size);
    size_t len = strlen(text);
    if (k > 0 || offset > 0)
        return 0;
    assert_true(cap >= sizeof text + 8);
    memset(dst, ' ', sizeof text + 8);
    memset(dst, 0, 8);
    dst[0] = sizeof text;
    memcpy(dst + 8, text, len);
    return sizeof text + 8;
}

static void add_extent(struct scene *s, uint64_t first_elem, uint64_t elem_count, uint32_t leaf)
{
    struct tp_plan *plan = &s->plan;
    unsigned item = tp_array_item_bytes(&s->array);
    assert_true(plan->extent_count < EXTENTS);
    struct tp_out_extent *e = &s->extents[plan->extent_count++];
    *e = (struct tp_out_extent){.next = TP_NONE,
                                .leaf = leaf,
                                .first_elem = first_elem,
                                .elem_count = elem_count,
                                .offset_bytes = s->file.size_bytes,
                                .size_bytes = elem_count * item,
                                .first_block = plan->block_count};
    s->file.size_bytes += e->size_bytes;
    s->file.extent_count++;
    plan->block_count += tp_extent_block_count(e);
    plan->payload_bytes += e->size_bytes;
}

/* A chunk of each axis that divides it, the axes in any order; no more of them than there is room for. */
static bool choose_grid(struct scene *s)
{
    uint64_t chunks = 1;
    for (unsigned d = 0; d < s->array.rank; d++) {
        do
            s->chunk[d] = pick(0, 1) ? s->shape[d] : pick(1, (unsigned)s->shape[d]);
        while (s->shape[d] % s->chunk[d] != 0);
        chunks *= s->shape[d] / s->chunk[d];
        s->order[d] = (uint8_t)d;
    }
    for (unsigned i = s->array.rank; i > 1; i--) {
        unsigned j = pick(0, i - 1);
        uint8_t swap = s->order[i - 1];
        s->order[i - 1] = s->order[j];
        s->order[j] = swap;
    }
    s->grid = (struct tp_grid){s->chunk, pick(0, 1) ? s->order : NULL, (uint8_t)pick(0, s->array.rank - 1u)};
    return chunks <= EXTENTS;
}

static void choose_extents(struct scene *s)
{
    s->file = (struct tp_out_file){.name = "out.safetensors", .size_bytes = 128 + 8};
    if (s->array.rank > 0 && pick(0, 1) && choose_grid(s)) {
        uint64_t volume = 1;
        s->array.grid = &s->grid;
        for (unsigned d = 0; d < s->array.rank; d++)
            volume *= s->chunk[d];
        for (uint64_t i = 0, count = tp_grid_chunk_count(&s->array); i < count; i++) {
            uint64_t n = tp_grid_placed(&s->array, i);
            add_extent(s, tp_chunk_elem(&s->array, n, 0), volume, (uint32_t)n);
        }
        return;
    }
    for (uint64_t at = 0; at < s->array.elem_count;) {
        uint64_t left = s->array.elem_count - at, count = pick(0, 2) ? left : pick(1, (unsigned)left);
        add_extent(s, at, count, 0);
        at += count;
    }
}

static uint64_t elem_of(const struct scene *s, const struct tp_out_extent *e, uint64_t at)
{
    return s->array.grid ? tp_chunk_elem(&s->array, e->leaf, at) : e->first_elem + at;
}

/* ---- moving ---- */

static void finish_plan(struct scene *s)
{
    s->array.shape = s->shape;
    s->array.pieces = s->pieces;
    s->array.group = TP_NO_GROUP;
    s->array.view = TP_DTYPE_NONE;
    s->array.path = "a";
    s->array.path_len = 1;
    s->plan.logicals = s->logicals;
    s->plan.logical_count = tp_checkpoint_tensor_count(s->source.ck);
    for (unsigned t = 0; t < s->plan.logical_count && t < SOURCES; t++)
        s->logicals[t] =
            (struct tp_logical){.tensor = tp_checkpoint_tensor(s->source.ck, t), .dtype = (uint8_t)s->source.dtype};
    s->plan.arrays = &s->array;
    s->plan.array_count = 1;
    s->plan.result_count = 1;
    s->plan.extents = s->extents;
    s->plan.files = &s->file;
    s->plan.file_count = 1;
    s->plan.source = s->source.ck;
}

static void make_scene(struct scene *s, enum tp_dtype dtype, unsigned largest)
{
    *s = (struct scene){.kernels = {.level = TP_LEVEL_SCALAR}};
    assert_true(tp_kernels_init(&s->kernels, "scalar"));
    make_source(&s->source, dtype, SOURCES, SOURCE_ELEMS);
    choose_shape(s, largest);
    choose_pieces(s);
    choose_values(s);
    qsort(s->pieces, s->array.piece_count, sizeof *s->pieces, by_place);
    s->array.fill &=
        tp_array_item_bytes(&s->array) >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * tp_array_item_bytes(&s->array)) - 1;
    finish_plan(s);
    choose_extents(s);
    expect_array(s);
}

static void free_scene(struct scene *s)
{
    free(s->expected);
    free_source(&s->source);
}

struct moved {
    struct scratch scratch;
    struct tp_digest *digests;
    struct tp_result result;
    struct tp_mismatch *mismatches;
    size_t mismatch_count;
};

static void run(struct moved *out, const struct scene *s, enum tp_move_mode mode, size_t tile_bytes)
{
    static const struct tp_format format = {.name = "test", .frame = frame};
    struct tp_error err = {.code = TP_OK};
    struct tp_kernels best;
    struct tp_checkpoint *ck = NULL;
    assert_true(tp_kernels_init(&best, NULL));
    struct tp_move move = {.mode = mode,
                           .plan = &s->plan,
                           .kernels = &best,
                           .source = s->source.ck,
                           .format = &format,
                           .folder = out->scratch.path,
                           .digests = out->digests,
                           .results = &out->result,
                           .budget = {.workers = pick(1, 2),
                                      .piece_bytes = (size_t)4096 << pick(0, 6),
                                      .buffer_bytes = (size_t)64 << 10,
                                      .tile_bytes = tile_bytes}};
    if (mode == TP_MOVE_COMPARE) {
        open_folder(&ck, out->scratch.path);
        move.output = ck;
    }
    enum tp_status st = tp_move_run(&move, &err);
    tp_checkpoint_close(ck);
    if (st)
        fail_msg("%s: %s", tp_status_name(st), err.message);
    out->mismatches = move.mismatches;
    out->mismatch_count = move.mismatch_count;
}

static void begin_output(struct moved *out, const struct scene *s)
{
    scratch_make(&out->scratch);
    scratch_put(&out->scratch, s->file.name, "", 0, s->file.size_bytes);
    out->digests = calloc((size_t)s->plan.block_count + 1, sizeof *out->digests);
    assert_non_null(out->digests);
    tp_result_init(&out->result);
    out->mismatches = NULL;
}

static void end_output(struct moved *out)
{
    free(out->digests);
    free(out->mismatches);
    scratch_remove(&out->scratch);
}

static void put_byte(const struct moved *out, const struct scene *s, uint64_t offset, uint8_t *byte)
{
    int fd = open(scratch_at(&out->scratch, s->file.name), O_RDWR);
    uint8_t old = 0;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &old, 1, (off_t)offset), 1);
    assert_int_equal(pwrite(fd, byte, 1, (off_t)offset), 1);
    *byte = old;
    close(fd);
}

static void check_results(const struct scene *s, const struct tp_result *got)
{
    const struct tp_result *want = &s->expected_result;
    if (s->array.result == TP_NONE)
        return;
    assert_int_equal(got->odd_bool_count, want->odd_bool_count);
    assert_int_equal(got->stats.nan_count, want->stats.nan_count);
    assert_int_equal(got->stats.inf_count, want->stats.inf_count);
    assert_int_equal(got->stats.overflow_count, want->stats.overflow_count);
    assert_int_equal(got->stats.flushed_count, want->stats.flushed_count);
    assert_memory_equal(&got->stats.min, &want->stats.min, sizeof want->stats.min);
    assert_memory_equal(&got->stats.max, &want->stats.max, sizeof want->stats.max);
}

static void check_bytes(const struct scene *s, const struct moved *out)
{
    unsigned item = tp_array_item_bytes(&s->array);
    uint8_t *bytes = malloc((size_t)s->file.size_bytes), *part = malloc(TP_BLOCK_BYTES);
    struct tp_hasher *hasher = tp_hasher_new(&s->kernels);
    assert_true(bytes && part && hasher);
    int fd = open(scratch_at(&out->scratch, s->file.name), O_RDONLY);
    assert_int_equal(read(fd, bytes, (size_t)s->file.size_bytes), (ssize_t)s->file.size_bytes);
    close(fd);
    for (size_t i = 0; i < s->plan.extent_count; i++) {
        const struct tp_out_extent *e = &s->extents[i];
        uint64_t step = TP_BLOCK_BYTES / item;
        for (uint64_t at = 0; at < e->elem_count; at += step) {
            uint64_t n = e->elem_count - at < step ? e->elem_count - at : step;
            for (uint64_t k = 0; k < n; k++)
                memcpy(part + k * item, s->expected + elem_of(s, e, at + k) * item, item);
            const uint8_t *got = bytes + e->offset_bytes + at * item;
            for (uint64_t k = 0; k < n * item; k++)
                if (got[k] != part[k])
                    fail_msg("extent %zu, byte %llu: %02x, expected %02x", i, (unsigned long long)(at * item + k),
                             got[k], part[k]);
            tp_hasher_reset(hasher);
            tp_hasher_update(hasher, part, (size_t)n * item);
            struct tp_digest digest = tp_hasher_digest(hasher);
            assert_memory_equal(&digest, &out->digests[e->first_block + at / step], sizeof digest);
        }
    }
    tp_hasher_free(hasher);
    free(bytes);
    free(part);
}

/* A byte of the output that is not what it was is found, and where it is. */
static void check_comparison(const struct scene *s, struct moved *out, size_t tile_bytes)
{
    unsigned item = tp_array_item_bytes(&s->array);
    run(out, s, TP_MOVE_COMPARE, tile_bytes);
    assert_int_equal(out->mismatch_count, 0);
    const struct tp_out_extent *e = &s->extents[pick(0, (unsigned)s->plan.extent_count - 1)];
    uint64_t at = pick(0, (unsigned)e->elem_count - 1), offset = e->offset_bytes + at * item;
    uint8_t byte = (uint8_t)~s->expected[elem_of(s, e, at) * item];
    put_byte(out, s, offset, &byte);
    run(out, s, TP_MOVE_COMPARE, tile_bytes);
    bool found = false;
    for (size_t i = 0; i < out->mismatch_count; i++)
        found = found || (out->mismatches[i].is_value && out->mismatches[i].elem == elem_of(s, e, at) &&
                          out->mismatches[i].elem_count == 1);
    assert_true(found);
}

static void check_scene(const struct scene *s, size_t tile_bytes, bool compares)
{
    struct moved out;
    begin_output(&out, s);
    run(&out, s, TP_MOVE_WRITE, tile_bytes);
    check_bytes(s, &out);
    check_results(s, &out.result);
    if (compares)
        check_comparison(s, &out, tile_bytes);
    end_output(&out);
}

/* ---- tests ---- */

static size_t any_tile(void)
{
    static const size_t sizes[] = {1024, 3000, 16384, 100000, 1 << 20};
    return sizes[pick(0, TP_COUNT_OF(sizes) - 1)];
}

static void random_arrays_are_what_single_elements_say(void **state)
{
    (void)state;
    static struct scene s;
    srand(11);
    for (unsigned round = 0; round < 700; round++) {
        make_scene(&s, dtypes[round % TP_COUNT_OF(dtypes)], round % 3 ? 40 : 3000);
        check_scene(&s, any_tile(), round % 4 == 0);
        free_scene(&s);
    }
}

/* ---- stacks of transposed matrices, which are spread ---- */

/* One layer: axis 0 of the array is the fastest of the source, or the fastest but one. */
static void add_layer(struct scene *s, unsigned layer)
{
    unsigned order[] = {2, 3, 0}, number = s->array.piece_count++; /* from the slowest */
    struct tp_axis *plain = s->plain[number];
    struct tp_piece *p = &s->pieces[number];
    unsigned kind = pick(0, 3);
    uint64_t stride = 1;
    if (kind == 0 || kind == 1) {
        order[kind] = order[kind + 1];
        order[kind + 1] = kind == 0 ? 2 : 3;
    }
    *p = (struct tp_piece){.logical = pick(0, SOURCES - 1), .axes = s->axes[number], .run_elems = 1};
    p->dst_first = layer * s->dst_stride[1];
    plain[1] = (struct tp_axis){1, 1, s->dst_stride[1]};
    for (unsigned i = 3; i-- > 0;) {
        unsigned part = order[i];
        plain[part] = (struct tp_axis){s->size[part], stride, s->dst_stride[part]};
        stride *= s->size[part];
        stride += pick(0, 5) == 0 ? pick(1, 3) : 0;
    }
    assert_true(stride + 4 < SOURCE_ELEMS);
    p->src_first = pick(0, (unsigned)(SOURCE_ELEMS - stride - 4));
    memcpy(s->axes[number], plain, sizeof s->axes[number]);
    p->axis_count = tp_axes_normalise(s->axes[number], 4);
}

static void make_stack(struct scene *s, enum tp_dtype dtype)
{
    *s = (struct scene){.kernels = {.level = TP_LEVEL_SCALAR}, .part_count = 4};
    assert_true(tp_kernels_init(&s->kernels, "scalar"));
    make_source(&s->source, dtype, SOURCES, SOURCE_ELEMS);
    uint64_t size[] = {pick(20, 150), pick(1, 6), pick(2, 8), pick(2, 6)}, stride = 1;
    s->array.rank = 4;
    for (unsigned i = 4; i-- > 0; stride *= size[i]) {
        s->shape[i] = s->size[i] = size[i];
        s->dst_stride[i] = stride;
    }
    s->array.elem_count = stride;
    for (unsigned layer = 0; layer < size[1]; layer++)
        if (layer == 0 || pick(0, 9))
            add_layer(s, layer);
        else
            s->array.has_holes = true;
    choose_values(s);
    finish_plan(s);
    s->file = (struct tp_out_file){.name = "out.safetensors", .size_bytes = 128 + 8};
    uint64_t cut = pick(0, 1) ? stride : pick(1, (unsigned)stride);
    add_extent(s, 0, cut, 0);
    if (cut < stride)
        add_extent(s, cut, stride - cut, 0);
    expect_array(s);
}

static bool is_spread(const struct scene *s, size_t tile_bytes)
{
    struct tp_spread spread;
    for (size_t i = 0; i < s->plan.extent_count; i++)
        if (tp_spread_plan(&spread, &s->plan, &s->extents[i], tile_bytes))
            return true;
    return false;
}

static void stacks_are_spread(void **state)
{
    (void)state;
    static struct scene s;
    unsigned spread_count = 0;
    srand(12);
    for (unsigned round = 0; round < 300; round++) {
        size_t tile_bytes = pick(0, 3) ? pick(2000, 9000) : pick(9000, 60000);
        make_stack(&s, dtypes[round % TP_COUNT_OF(dtypes)]);
        spread_count += is_spread(&s, tile_bytes);
        check_scene(&s, tile_bytes, round % 3 == 0);
        free_scene(&s);
    }
    assert_in_range(spread_count, 150, 290);
}

/* The only array: a matrix of the only logical tensor, transposed. */
static void set_transposed(struct scene *s, enum tp_dtype from, enum tp_dtype to, uint64_t rows, uint64_t columns)
{
    assert_true(tp_kernels_init(&s->kernels, "scalar"));
    s->array = (struct tp_array){.rank = 2, .elem_count = rows * columns, .piece_count = 1, .dtype = (uint8_t)to};
    s->shape[0] = columns;
    s->shape[1] = rows;
    s->part_count = 2;
    s->plain[0][0] = s->axes[0][0] = (struct tp_axis){columns, 1, rows};
    s->plain[0][1] = s->axes[0][1] = (struct tp_axis){rows, columns, 1};
    s->pieces[0] = (struct tp_piece){.axes = s->axes[0],
                                     .axis_count = 2,
                                     .run_elems = 1,
                                     .source_dtype = (uint8_t)from,
                                     .op = from == to ? TP_OP_COPY : TP_OP_CAST};
    finish_plan(s);
    s->file = (struct tp_out_file){.name = "out.safetensors", .size_bytes = 128 + 8};
}

static void make_transposed(struct scene *s, enum tp_dtype from, enum tp_dtype to, uint64_t rows, uint64_t columns)
{
    *s = (struct scene){.part_count = 0};
    make_source(&s->source, from, 1, rows * columns);
    set_transposed(s, from, to, rows, columns);
}

/* What the logical tensor reads as, in one go. */
static void read_whole(struct scene *s)
{
    const struct tp_logical *l = s->plan.logicals;
    struct tp_error err = {.code = TP_OK};
    struct tp_reader_state reader = {
        .ck = s->source.ck,
        .kernels = &s->kernels,
        .scratch = {.bytes = aligned_alloc(64, TP_SCRATCH_MIN_BYTES), .size_bytes = TP_SCRATCH_MIN_BYTES}};
    free(s->source.bytes[0]);
    s->source.item = tp_dtype_bits((enum tp_dtype)l->dtype) / 8;
    s->source.bytes[0] = malloc((size_t)tp_logical_elem_count(l) * s->source.item);
    assert_true(reader.scratch.bytes && s->source.bytes[0]);
    if (tp_logical_read(&reader, l, 0, tp_logical_elem_count(l), s->source.bytes[0], &err))
        fail_msg("%s", err.message);
    free(reader.scratch.bytes);
}

static void a_source_in_chunks_is_gathered(void **state)
{
    (void)state;
    static struct scene s;
    static const uint64_t shape[2] = {120, 90}, chunk[2] = {40, 30};
    static const uint8_t order[2] = {1, 0};
    static const struct tp_chunks chunks = {.shape = chunk, .order = order, .codec = TP_CHUNK_STORED};
    struct tp_extent extents[9];
    srand(15);
    make_transposed(&s, TP_F32, TP_BF16, shape[0], shape[1]);
    struct tp_tensor t = *s.logicals[0].tensor;
    for (unsigned i = 0; i < 9; i++)
        extents[i] = (struct tp_extent){
            .elem_count = 1200, .offset_bytes = t.extents[0].offset_bytes + i * UINT64_C(4800), .size_bytes = 4800};
    t.shape = shape;
    t.rank = 2;
    t.chunks = &chunks;
    t.extents = extents;
    t.extent_count = 9;
    s.logicals[0].tensor = &t;
    s.plan.chunked_count = 1;
    read_whole(&s);
    add_extent(&s, 0, s.array.elem_count, 0);
    expect_array(&s);
    for (unsigned i = 0; i < 5; i++)
        check_scene(&s, any_tile(), true);
    free_scene(&s);
}

/* Decoded to float32 and to bfloat16, transposed, and cast or not. */
static void a_decoded_source_is_gathered(void **state)
{
    (void)state;
    static const char *const names[] = {"ct-fp8-channel-bf16", "mxfp4-gptoss"};
    static const struct tp_convert_options options = {.dequantize = true};
    const char *root = getenv("TENSORPORT_TEST_DATA");
    srand(16);
    for (unsigned i = 0; i < 4; i++) {
        static struct scene s;
        struct tp_arena arena = {0};
        struct tp_list notes = {0};
        struct tp_error err = {.code = TP_OK};
        char path[SCRATCH_PATH];
        size_t count = 0;
        s = (struct scene){.part_count = 0};
        snprintf(path, sizeof path, "%s/quantised/%s", root ? root : "tests/data", names[i % 2]);
        open_folder(&s.source.ck, path);
        scratch_make(&s.source.scratch);
        struct tp_logical *all = NULL;
        if (tp_logicals_build(&all, &count, &arena, &notes, s.source.ck, &options, &err))
            fail_msg("%s", err.message);
        const struct tp_logical *l = all;
        while (!l->decoded)
            l++;
        enum tp_dtype from = (enum tp_dtype)l->dtype;
        uint64_t columns = l->decoded->shape[l->decoded->rank - 1];
        set_transposed(&s, from, i < 2 ? from : TP_F16, l->decoded->elem_count / columns, columns);
        s.logicals[0] = *l;
        s.plan.logical_count = s.plan.decoded_count = 1;
        read_whole(&s);
        add_extent(&s, 0, s.array.elem_count, 0);
        expect_array(&s);
        check_scene(&s, any_tile(), true);
        free(all);
        tp_list_release(&notes);
        tp_arena_release(&arena);
        free_scene(&s);
    }
}

/* Blocks end within rows: their statistics are nevertheless those of their own elements. */
static void blocks_end_where_they_will(void **state)
{
    (void)state;
    static struct scene s;
    srand(12);
    make_transposed(&s, TP_F16, TP_F32, 3001, 5701);
    add_extent(&s, 0, s.array.elem_count, 0);
    assert_int_equal(s.plan.block_count, 2);
    expect_array(&s);
    check_scene(&s, (size_t)6 << 20, false);
    free_scene(&s);
}

static bool never(void *user)
{
    (void)user;
    return false;
}

/* Every other element, read over the gaps into memory of just the size that is said. */
static void what_is_read_stays_in_its_memory(void **state)
{
    (void)state;
    static struct scene s;
    srand(17);
    make_transposed(&s, TP_F32, TP_BF16, 30, 50);
    for (size_t raw = 4; raw < 400; raw += 12) {
        size_t size = 16 + raw, alloc = tp_stage_alloc_bytes(size);
        struct tp_reader_state reader = {.ck = s.source.ck, .kernels = &s.kernels};
        struct tp_result seen;
        struct tp_stage stage = {malloc(alloc), malloc(alloc), size, malloc(raw), raw};
        struct tp_gathering g = {
            .reader = &reader, .logical = s.logicals, .stage = stage, .seen = &seen, .is_stopped = never};
        struct tp_cut cut = {.src_first = 7, .elem_count = 240, .loop_count = 2};
        uint8_t *got = malloc(480), want[2];
        struct tp_error err = {.code = TP_OK};
        cut.loops[0] = (struct tp_axis){3, 311, 80};
        cut.loops[1] = (struct tp_axis){80, 2, 1};
        tp_result_init(&seen);
        assert_int_equal(tp_values_of(&g.values, &s.array, s.pieces, &s.kernels, false, &err), TP_OK);
        assert_int_equal(tp_gather(&g, &cut, got, &err), TP_OK);
        for (unsigned i = 0; i < 240; i++) {
            size_t from = 7 + i / 80 * 311 + i % 80 * 2;
            tp_result_init(&s.expected_result);
            expect_one(&s, s.pieces, s.source.bytes[0] + 4 * from, want);
            assert_memory_equal(got + 2 * (size_t)i, want, 2);
        }
        free(stage.source);
        free(stage.result);
        free(stage.raw);
        free(got);
    }
    free_scene(&s);
}

/* Nothing is written any more once an overflow is found, but all of them are counted. */
static void overflow_is_counted_to_the_end(void **state)
{
    (void)state;
    static const struct tp_format format = {.name = "test", .frame = frame};
    static struct scene s;
    struct moved out;
    struct tp_error err = {.code = TP_OK};
    srand(13);
    make_transposed(&s, TP_F32, TP_F16, 300, 501);
    for (uint64_t at = 0; at < s.array.elem_count; at += 15000)
        add_extent(&s, at, s.array.elem_count - at < 15000 ? s.array.elem_count - at : 15000, 0);
    expect_array(&s);
    assert_true(s.expected_result.stats.overflow_count > 100);
    begin_output(&out, &s);
    struct tp_move move = {.mode = TP_MOVE_WRITE,
                           .plan = &s.plan,
                           .kernels = &s.kernels,
                           .source = s.source.ck,
                           .format = &format,
                           .folder = out.scratch.path,
                           .digests = out.digests,
                           .results = &out.result,
                           .stop_at_overflow = true,
                           .budget = {.workers = 2, .piece_bytes = 4096, .buffer_bytes = 65536, .tile_bytes = 8192}};
    assert_int_equal(tp_move_run(&move, &err), TP_OK);
    check_results(&s, &out.result);
    end_output(&out);
    free_scene(&s);
}

/* A constant has no source at all. */
static void a_constant_is_all_fill(void **state)
{
    (void)state;
    static struct scene s;
    srand(14);
    make_transposed(&s, TP_F32, TP_F32, 30, 50);
    s.array.piece_count = 0;
    s.array.has_holes = true;
    s.array.fill = 0x3f800000;
    s.array.result = TP_NONE;
    add_extent(&s, 0, 700, 0);
    add_extent(&s, 700, 800, 0);
    expect_array(&s);
    check_scene(&s, 1024, true);
    free_scene(&s);
}

/* ---- budgets ---- */

static void a_budget_is_never_exceeded(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 8; workers++)
        for (unsigned mib = 14; mib <= 400; mib += 3)
            for (unsigned wish = 0; wish < 8; wish++) {
                struct tp_scratch_wish w = {wish & 1, wish & 2 ? (uint64_t)5 << 20 : 0,
                                            wish & 4 ? (uint64_t)64 << 20 : 0};
                struct tp_budget b;
                struct tp_error err;
                if (tp_budget_plan(&b, workers, (uint64_t)mib << 20, w, &err)) {
                    assert_true(mib < 18);
                    continue;
                }
                uint64_t each = b.piece_bytes + b.buffer_bytes + b.scratch_bytes + b.tile_bytes + (512u << 10);
                assert_true(b.workers >= 1 && b.workers <= workers);
                assert_true(((uint64_t)12 << 20) + b.workers * each <= (uint64_t)mib << 20);
                assert_true(b.buffer_bytes % (64u << 10) == 0 && b.buffer_bytes > 0);
                assert_true((b.tile_bytes >= TP_TILE_MEMORY_MIN) == ((wish & 4) != 0));
                assert_true((wish & 3) == 0 || b.scratch_bytes >= TP_SCRATCH_MIN_BYTES);
            }
}

static void two_workers_stay_within_64_mib_by_default(void **state)
{
    (void)state;
    struct tp_budget b;
    struct tp_error err;
    assert_int_equal(tp_budget_plan(&b, 2, 0, (struct tp_scratch_wish){true, 0, UINT64_MAX}, &err), TP_OK);
    assert_true(b.scratch_bytes >= (size_t)11 << 20 && b.tile_bytes >= (size_t)11 << 20);
    assert_int_equal(tp_budget_plan(&b, 2, 0, (struct tp_scratch_wish){false, 0, UINT64_MAX}, &err), TP_OK);
    assert_true(b.tile_bytes >= (size_t)24 << 20);
    assert_int_equal(tp_budget_plan(&b, 2, 0, (struct tp_scratch_wish){true, 0, 0}, &err), TP_OK);
    assert_int_equal(b.tile_bytes, 0);
    assert_int_equal(b.scratch_bytes, (size_t)12 << 20);
    assert_int_equal(tp_budget_plan(&b, 2, (uint64_t)1 << 30, (struct tp_scratch_wish){false, 0, UINT64_MAX}, &err),
                     TP_OK);
    assert_int_equal(b.tile_bytes, TP_TILE_MEMORY_BEST); /* what is allowed is used: reads are longer */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_arrays_are_what_single_elements_say),
        cmocka_unit_test(stacks_are_spread),
        cmocka_unit_test(a_source_in_chunks_is_gathered),
        cmocka_unit_test(a_decoded_source_is_gathered),
        cmocka_unit_test(blocks_end_where_they_will),
        cmocka_unit_test(what_is_read_stays_in_its_memory),
        cmocka_unit_test(overflow_is_counted_to_the_end),
        cmocka_unit_test(a_constant_is_all_fill),
        cmocka_unit_test(a_budget_is_never_exceeded),
        cmocka_unit_test(two_workers_stay_within_64_mib_by_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
