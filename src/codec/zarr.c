/* SPDX-License-Identifier: MIT */
/* zarr arrays without their text: names of dtypes, grids, keys of chunks, indexes of shards, and the writer of metadata
 * (zarr_read.c reads it). */
#include "codec/zarr.h"

#include <inttypes.h>
#include <string.h>

#include "base/endian.h"
#include "codec/crc32c.h"
#include "codec/json.h"

/* ---- dtypes ---- */

/* Version 2 calls by name what NumPy has no letter for. */
static const struct {
    enum tp_dtype dtype;
    const char *v2, *v3;
} dtypes[] = {
    {TP_BOOL, "|b1", "bool"},
    {TP_U8, "|u1", "uint8"},
    {TP_I8, "|i1", "int8"},
    {TP_U16, "<u2", "uint16"},
    {TP_I16, "<i2", "int16"},
    {TP_U32, "<u4", "uint32"},
    {TP_I32, "<i4", "int32"},
    {TP_U64, "<u8", "uint64"},
    {TP_I64, "<i8", "int64"},
    {TP_F16, "<f2", "float16"},
    {TP_F32, "<f4", "float32"},
    {TP_F64, "<f8", "float64"},
    {TP_C64, "<c8", "complex64"},
    {TP_BF16, "bfloat16", "bfloat16"},
    {TP_F8_E4M3, "float8_e4m3fn", "float8_e4m3fn"},
    {TP_F8_E5M2, "float8_e5m2", "float8_e5m2"},
    {TP_F8_E8M0, "float8_e8m0fnu", "float8_e8m0fnu"},
    {TP_F8_E4M3FNUZ, "float8_e4m3fnuz", "float8_e4m3fnuz"},
    {TP_F8_E5M2FNUZ, "float8_e5m2fnuz", "float8_e5m2fnuz"},
    {TP_F4_UNPACKED, "float4_e2m1fn", "float4_e2m1fn"},
};

const char *tp_zarr_dtype_name(unsigned version, enum tp_dtype dtype)
{
    for (size_t i = 0; i < TP_COUNT_OF(dtypes); i++)
        if (dtypes[i].dtype == dtype)
            return version == 2 ? dtypes[i].v2 : dtypes[i].v3;
    return NULL;
}

enum tp_dtype tp_zarr_dtype_find(unsigned version, const char *name, size_t len)
{
    for (size_t i = 0; i < TP_COUNT_OF(dtypes); i++) {
        const char *known = version == 2 ? dtypes[i].v2 : dtypes[i].v3;
        if (strlen(known) == len && memcmp(known, name, len) == 0)
            return dtypes[i].dtype;
    }
    return TP_DTYPE_NONE;
}

unsigned tp_zarr_item_bytes(const struct tp_zarr *zarr)
{
    const unsigned bits = tp_dtype_bits((enum tp_dtype)zarr->dtype);
    return bits < 8 ? 1 : bits / 8;
}

/* ---- an array to be written ---- */

void tp_zarr_init(struct tp_zarr *zarr, unsigned version, enum tp_dtype dtype, unsigned rank, const uint64_t *shape,
                  const uint64_t *chunk, const uint8_t *order)
{
    *zarr = (struct tp_zarr){
        .version = (uint8_t)version,
        .rank = (uint8_t)rank,
        .dtype = (uint8_t)dtype,
        .separator = version == 2 ? '.' : '/',
        .has_c_prefix = version == 3,
        .has_fill = version == 3,
    };
    for (unsigned i = 0; i < rank && i < TP_ZARR_RANK_MAX; i++) {
        zarr->shape[i] = shape[i];
        zarr->chunk[i] = chunk ? chunk[i] : shape[i] > 0 ? shape[i] : 1;
        zarr->inner[i] = zarr->chunk[i];
        zarr->codecs.order[i] = order ? order[i] : (uint8_t)i;
    }
}

/* Do the axes that matter, those along which a chunk is longer than 1, come in this direction? */
static bool runs(const struct tp_zarr *zarr, bool down)
{
    int last = -1;
    for (unsigned i = 0; i < zarr->rank; i++) {
        const unsigned axis = zarr->codecs.order[down ? zarr->rank - 1 - i : i];
        if (zarr->chunk[axis] <= 1)
            continue;
        if ((int)axis < last)
            return false;
        last = (int)axis;
    }
    return true;
}

bool tp_zarr_can_write(const struct tp_zarr *zarr)
{
    return zarr->rank <= TP_ZARR_RANK_MAX && tp_zarr_dtype_name(zarr->version, (enum tp_dtype)zarr->dtype) &&
           !zarr->is_sharded && !zarr->codecs.has_crc && zarr->codecs.compressor == TP_ZARR_STORED &&
           (zarr->version == 3 || runs(zarr, false) || runs(zarr, true));
}

/* ---- metadata text ---- */

const char *tp_zarr_metadata_key(unsigned version)
{
    return version == 2 ? ".zarray" : "zarr.json";
}

struct buffer {
    char *dst;
    size_t cap, used;
};

static enum tp_status append(void *user, const char *text, size_t len, struct tp_error *err)
{
    struct buffer *b = user;
    (void)err;
    if (b->used < b->cap)
        memcpy(b->dst + b->used, text, len < b->cap - b->used ? len : b->cap - b->used);
    b->used += len;
    return TP_OK;
}

static void put_numbers(struct tp_json_writer *w, const char *key, const uint64_t *numbers, unsigned count)
{
    tp_json_key(w, key);
    tp_json_begin_array(w);
    for (unsigned i = 0; i < count; i++)
        tp_json_uint(w, numbers[i]);
    tp_json_end_array(w);
}

static void put_string(struct tp_json_writer *w, const char *key, const char *text)
{
    tp_json_key(w, key);
    tp_json_cstring(w, text);
}

static void put_null(struct tp_json_writer *w, const char *key)
{
    tp_json_key(w, key);
    tp_json_null(w);
}

static void put_v2(struct tp_json_writer *w, const struct tp_zarr *zarr, const char *dtype)
{
    const char separator[2] = {zarr->separator, '\0'};
    tp_json_begin_object(w);
    put_numbers(w, "chunks", zarr->chunk, zarr->rank);
    put_null(w, "compressor");
    put_string(w, "dimension_separator", separator);
    put_string(w, "dtype", dtype);
    put_null(w, "fill_value");
    put_null(w, "filters");
    put_string(w, "order", runs(zarr, false) ? "C" : "F");
    put_numbers(w, "shape", zarr->shape, zarr->rank);
    tp_json_key(w, "zarr_format");
    tp_json_uint(w, 2);
    tp_json_end_object(w);
}

/* {"configuration": { -> the caller's members -> }, "name": name} */
static void begin_named(struct tp_json_writer *w)
{
    tp_json_begin_object(w);
    tp_json_key(w, "configuration");
    tp_json_begin_object(w);
}

static void end_named(struct tp_json_writer *w, const char *name)
{
    tp_json_end_object(w);
    put_string(w, "name", name);
    tp_json_end_object(w);
}

static void put_codecs(struct tp_json_writer *w, const struct tp_zarr *zarr)
{
    uint64_t order[TP_ZARR_RANK_MAX];
    for (unsigned i = 0; i < zarr->rank; i++)
        order[i] = zarr->codecs.order[i];
    tp_json_begin_array(w);
    if (!runs(zarr, false)) {
        begin_named(w);
        put_numbers(w, "order", order, zarr->rank);
        end_named(w, "transpose");
    }
    if (tp_zarr_item_bytes(zarr) > 1) {
        begin_named(w);
        put_string(w, "endian", "little");
        end_named(w, "bytes");
    } else {
        tp_json_begin_object(w);
        put_string(w, "name", "bytes");
        tp_json_end_object(w);
    }
    tp_json_end_array(w);
}

/* Chunks that are missing: we write none such, but version 3 wants a value. */
static void put_fill(struct tp_json_writer *w, enum tp_dtype dtype, bool is_terse)
{
    const char *zero = is_terse ? "0.0" : "0";
    tp_json_key(w, "fill_value");
    switch (tp_dtype_class(dtype)) {
    case TP_CLASS_BOOL:
        tp_json_bool(w, false);
        break;
    case TP_CLASS_COMPLEX:
        tp_json_begin_array(w);
        tp_json_raw(w, zero);
        tp_json_raw(w, zero);
        tp_json_end_array(w);
        break;
    case TP_CLASS_INT:
        tp_json_uint(w, 0);
        break;
    default:
        tp_json_raw(w, zero);
    }
}

static void put_key_encoding(struct tp_json_writer *w, const struct tp_zarr *zarr)
{
    const char separator[2] = {zarr->separator, '\0'};
    if (zarr->is_terse && zarr->has_c_prefix && zarr->separator == '/') {
        tp_json_begin_object(w);
        put_string(w, "name", "default");
        tp_json_end_object(w);
        return;
    }
    begin_named(w);
    put_string(w, "separator", separator);
    end_named(w, zarr->has_c_prefix ? "default" : "v2");
}

static void put_v3(struct tp_json_writer *w, const struct tp_zarr *zarr, const char *dtype)
{
    tp_json_begin_object(w);
    tp_json_key(w, "chunk_grid");
    begin_named(w);
    put_numbers(w, "chunk_shape", zarr->chunk, zarr->rank);
    end_named(w, "regular");
    tp_json_key(w, "chunk_key_encoding");
    put_key_encoding(w, zarr);
    tp_json_key(w, "codecs");
    put_codecs(w, zarr);
    put_string(w, "data_type", dtype);
    put_fill(w, (enum tp_dtype)zarr->dtype, zarr->is_terse);
    put_string(w, "node_type", "array");
    put_numbers(w, "shape", zarr->shape, zarr->rank);
    tp_json_key(w, "zarr_format");
    tp_json_uint(w, 3);
    tp_json_end_object(w);
}

size_t tp_zarr_emit(const struct tp_zarr *zarr, char *dst, size_t cap)
{
    if (!tp_zarr_can_write(zarr))
        return 0;
    struct buffer buffer = {dst, cap, 0};
    struct tp_json_writer w;
    tp_json_writer_init(&w, append, &buffer, NULL);
    const char *dtype = tp_zarr_dtype_name(zarr->version, (enum tp_dtype)zarr->dtype);
    if (zarr->version == 2)
        put_v2(&w, zarr, dtype);
    else
        put_v3(&w, zarr, dtype);
    tp_json_writer_finish(&w);
    return buffer.used;
}

/* ---- chunks ---- */

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

void tp_zarr_grid(const struct tp_zarr *zarr, uint64_t *grid)
{
    bool is_empty = false;
    for (unsigned i = 0; i < zarr->rank; i++)
        is_empty = is_empty || zarr->shape[i] == 0;
    for (unsigned i = 0; i < zarr->rank; i++)
        grid[i] = is_empty ? 0 : ceil_div(zarr->shape[i], zarr->chunk[i]);
}

static size_t put_decimal(char *dst, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    for (size_t i = 0; i < n; i++)
        dst[i] = digits[n - 1 - i];
    return n;
}

size_t tp_zarr_chunk_key(const struct tp_zarr *zarr, const uint64_t *index, char *dst)
{
    size_t len = 0;
    if (zarr->has_c_prefix)
        dst[len++] = 'c';
    else if (zarr->rank == 0)
        dst[len++] = '0';
    for (unsigned i = 0; i < zarr->rank; i++) {
        if (len > 0)
            dst[len++] = zarr->separator;
        len += put_decimal(dst + len, index[i]);
    }
    dst[len] = '\0';
    return len;
}

/* A number below `end` at text[*at]; plain decimal without leading zeros. */
static bool take_decimal(const char *text, size_t len, size_t *at, uint64_t end, uint64_t *value)
{
    const size_t first = *at;
    uint64_t v = 0;
    for (; *at < len && text[*at] >= '0' && text[*at] <= '9'; ++*at) {
        if (v >= end || (*at > first && text[first] == '0')) /* no larger number can be below `end` */
            return false;
        if (TP_MUL_OVERFLOW(v, 10, &v) || TP_ADD_OVERFLOW(v, (uint64_t)(text[*at] - '0'), &v))
            return false;
    }
    *value = v;
    return *at > first && v < end;
}

bool tp_zarr_chunk_index(const struct tp_zarr *zarr, const char *text, size_t len, uint64_t *index)
{
    uint64_t grid[TP_ZARR_RANK_MAX];
    size_t at = 0;
    tp_zarr_grid(zarr, grid);
    if (zarr->has_c_prefix && (len == 0 || text[at++] != 'c'))
        return false;
    if (!zarr->has_c_prefix && zarr->rank == 0)
        return len == 1 && text[0] == '0';
    for (unsigned i = 0; i < zarr->rank; i++) {
        if (at > 0 && (at == len || text[at++] != zarr->separator))
            return false;
        if (!take_decimal(text, len, &at, grid[i], &index[i]))
            return false;
    }
    return at == len;
}

uint64_t tp_zarr_inner_bytes(const struct tp_zarr *zarr)
{
    uint64_t bytes = tp_zarr_item_bytes(zarr);
    for (unsigned i = 0; i < zarr->rank; i++)
        bytes *= zarr->inner[i]; /* the reader has proven it to fit */
    return bytes;
}

/* ---- shards ---- */

uint64_t tp_zarr_slot_count(const struct tp_zarr *zarr)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < zarr->rank; i++)
        count *= zarr->chunk[i] / zarr->inner[i]; /* likewise */
    return count;
}

uint64_t tp_zarr_index_bytes(const struct tp_zarr *zarr)
{
    return 16 * tp_zarr_slot_count(zarr) + (zarr->index_has_crc ? 4 : 0);
}

enum tp_status tp_zarr_read_index(struct tp_zarr_slot *slots, const struct tp_zarr *zarr, const uint8_t *bytes,
                                  uint64_t shard_bytes, struct tp_error *err)
{
    const uint64_t count = tp_zarr_slot_count(zarr);
    if (zarr->index_has_crc) {
        const uint32_t stored = (uint32_t)tp_load_le(bytes + 16 * count, 4);
        const uint32_t computed = tp_crc32c(0, bytes, (size_t)(16 * count));
        if (stored != computed)
            return tp_fail(err, TP_ERR_FORMAT, "the CRC-32C of a shard's index is %08" PRIx32 ", computed %08" PRIx32,
                           stored, computed);
    }
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t offset = tp_load_le(bytes + 16 * i, 8), size = tp_load_le(bytes + 16 * i + 8, 8);
        const bool is_absent = offset == UINT64_MAX && size == UINT64_MAX;
        if (!is_absent && (offset > shard_bytes || size > shard_bytes - offset))
            return tp_fail(err, TP_ERR_FORMAT,
                           "chunk %" PRIu64 " of a shard lies at %" PRIu64 " + %" PRIu64 ", beyond the shard's %" PRIu64
                           " bytes",
                           i, offset, size, shard_bytes);
        slots[i] = is_absent ? (struct tp_zarr_slot){.is_absent = true} : (struct tp_zarr_slot){offset, size, false};
    }
    return TP_OK;
}
