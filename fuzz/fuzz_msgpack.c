/* SPDX-License-Identifier: MIT */
/* Flax MessagePack files. Lengths are in front of what they count, so the files are built here from the input, with a
 * lie now and then; raw bytes come too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/msgpack.h"
#include "fuzz.h"

#define FILE_MAX ((size_t)16 << 10)
#define DEPTH_MAX 6u

static const char *const keys[] = {"a",    "b",   "c",    "0",      "1",
                                   "2",    "a.b", "",     "weight", "__msgpack_chunked_array__",
                                   "\xff", "..",  "\x1b", "shape",  "__tensorport_parts__"};
static const char *const dtypes[] = {"float32",   "bfloat16", "uint8",    "float16",       "int64",
                                     "bool",      "float64",  "uint16",   "float4_e2m1fn", "int4",
                                     "complex64", "object",   "float32 ", "float6_e2m3fn"};
static const uint64_t odd[] = {1, 3, 255, 65536, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 62, UINT64_MAX};

static void put_key(struct tp_mp *w, struct fuzz_bytes *in)
{
    size_t len, which = fuzz_choice(in, TP_COUNT_OF(keys) + 1);
    if (which < TP_COUNT_OF(keys)) {
        tp_mp_str(w, keys[which], strlen(keys[which]));
        return;
    }
    const uint8_t *piece = fuzz_piece(in, 20, &len);
    tp_mp_str(w, (const char *)piece, len);
}

static void put_number_key(struct tp_mp *w, struct fuzz_bytes *in, unsigned number)
{
    char text[16];
    int len = snprintf(text, sizeof text, "%u", fuzz_rarely(in, 16) ? (unsigned)fuzz_number(in, 1) : number);
    tp_mp_str(w, text, (size_t)len);
}

/* A length or a dimension; rarely another one. */
static uint64_t lie(struct fuzz_bytes *in, uint64_t truth)
{
    if (!fuzz_rarely(in, 24))
        return truth;
    size_t which = fuzz_choice(in, TP_COUNT_OF(odd) + 2);
    return which == 0 ? truth + 1 : which == 1 ? truth - 1 : odd[which - 2];
}

static void put_ndarray(struct tp_mp *w, struct fuzz_bytes *in, const char *dtype, uint64_t elems)
{
    static const uint8_t zeros[256];
    enum tp_dtype known = tp_dtype_from_numpy_name(dtype, strlen(dtype));
    uint64_t shape[3], item = known == TP_DTYPE_NONE ? 1 : known == TP_F4 ? 1 : tp_dtype_bits(known) / 8;
    unsigned rank = 1 + (unsigned)fuzz_choice(in, 3);
    for (unsigned i = 0; i < rank; i++)
        shape[i] = lie(in, i == 0 ? elems : 1);
    uint64_t bytes = elems * item;
    uint8_t head[128];
    struct tp_mp inner = {.dst = head, .capacity = sizeof head};
    tp_mp_array(&inner, (uint32_t)lie(in, 3));
    tp_mp_array(&inner, (uint32_t)lie(in, rank));
    for (unsigned i = 0; i < rank; i++)
        tp_mp_uint(&inner, shape[i]);
    tp_mp_str(&inner, dtype, strlen(dtype));
    tp_mp_bin_header(&inner, (uint32_t)lie(in, bytes));
    uint8_t code = fuzz_rarely(in, 16) ? (uint8_t)fuzz_number(in, 1) : TP_MP_EXT_NDARRAY;
    tp_mp_ext_header(w, code, (uint32_t)lie(in, inner.used + bytes));
    tp_mp_raw(w, head, inner.used < sizeof head ? inner.used : sizeof head);
    for (uint64_t done = 0, n; done < bytes; done += n) {
        n = bytes - done < sizeof zeros ? bytes - done : sizeof zeros;
        tp_mp_raw(w, zeros, (size_t)n);
    }
}

static void put_array(struct tp_mp *w, struct fuzz_bytes *in)
{
    const char *dtype = dtypes[fuzz_choice(in, TP_COUNT_OF(dtypes))];
    put_ndarray(w, in, dtype, fuzz_choice(in, 40));
}

static void put_chunked(struct tp_mp *w, struct fuzz_bytes *in)
{
    static const char *const names[] = {"__msgpack_chunked_array__", "shape", "chunks"};
    const char *dtype = dtypes[fuzz_choice(in, TP_COUNT_OF(dtypes))];
    unsigned chunks = 1 + (unsigned)fuzz_choice(in, 4);
    uint64_t each = fuzz_choice(in, 9);
    tp_mp_map(w, (uint32_t)lie(in, 3));
    tp_mp_str(w, names[0], strlen(names[0]));
    tp_mp_bool(w, true);
    tp_mp_str(w, names[1], strlen(names[1]));
    tp_mp_map(w, (uint32_t)lie(in, 1));
    put_number_key(w, in, 0);
    tp_mp_uint(w, lie(in, chunks * each));
    tp_mp_str(w, names[2], strlen(names[2]));
    tp_mp_map(w, (uint32_t)lie(in, chunks));
    for (unsigned i = 0; i < chunks; i++) {
        put_number_key(w, in, i);
        put_ndarray(w, in, dtype, each);
    }
}

/* Some parts of an array: of which file, the input says. */
static void put_parts(struct tp_mp *w, struct fuzz_bytes *in)
{
    const char *key = "__tensorport_parts__", *dtype = dtypes[fuzz_choice(in, 3)];
    unsigned first = (unsigned)fuzz_choice(in, 4), count = 1 + (unsigned)fuzz_choice(in, 3);
    tp_mp_map(w, (uint32_t)lie(in, 1));
    tp_mp_str(w, key, strlen(key));
    tp_mp_map(w, (uint32_t)lie(in, count));
    for (unsigned i = 0; i < count; i++) {
        put_number_key(w, in, first + i);
        if (fuzz_rarely(in, 8))
            put_chunked(w, in);
        else
            put_ndarray(w, in, dtype, fuzz_choice(in, 9));
    }
}

static void put_scalar(struct tp_mp *w, struct fuzz_bytes *in)
{
    size_t len;
    const uint8_t *piece = fuzz_piece(in, 40, &len);
    switch (fuzz_choice(in, 5)) {
    case 0:
        tp_mp_uint(w, fuzz_number(in, 8));
        break;
    case 1:
        tp_mp_str(w, (const char *)piece, len);
        break;
    case 2:
        tp_mp_array(w, (uint32_t)len);
        break;
    case 3:
        tp_mp_raw(w, piece, len);
        break;
    default:
        tp_mp_bin_header(w, (uint32_t)lie(in, len));
        tp_mp_raw(w, piece, len);
        break;
    }
}

/* Maps in maps, deeper than anybody needs. */
static void put_nest(struct tp_mp *w, struct fuzz_bytes *in)
{
    for (uint64_t depth = fuzz_number(in, 2) % 1200; depth > 0; depth--) {
        tp_mp_map(w, 1);
        tp_mp_str(w, "n", depth % 2);
    }
    put_array(w, in);
}

static void put_map(struct tp_mp *w, struct fuzz_bytes *in, unsigned depth)
{
    uint32_t count = (uint32_t)fuzz_choice(in, 6);
    tp_mp_map(w, (uint32_t)lie(in, count));
    for (uint32_t i = 0; i < count; i++) {
        put_key(w, in);
        size_t kind = fuzz_choice(in, 10);
        if (kind == 4 && depth < DEPTH_MAX)
            put_map(w, in, depth + 1);
        else if (kind == 5)
            put_chunked(w, in);
        else if (kind == 6)
            put_parts(w, in);
        else if (kind == 7)
            put_scalar(w, in);
        else if (kind == 8)
            put_nest(w, in);
        else
            put_array(w, in);
    }
}

static void put_file(struct fuzz_bytes *in, const char *name)
{
    static uint8_t bytes[FILE_MAX];
    struct tp_mp w = {.dst = bytes, .capacity = sizeof bytes};
    put_map(&w, in, 0);
    fuzz_put(name, bytes, w.used < sizeof bytes ? w.used : sizeof bytes, 0);
}

/* Headers alone: what is decoded is what was encoded, in its smallest form. */
static void check_headers(struct fuzz_bytes in)
{
    struct tp_mp_item item, again;
    while (in.left > 0 && tp_mp_decode(&item, in.at, in.left) && item.type != TP_MP_INVALID) {
        uint8_t header[16];
        struct tp_mp w = {.dst = header, .capacity = sizeof header};
        FUZZ_CHECK(item.header_len > 0 && item.header_len <= in.left && item.header_len <= TP_MP_HEADER_MAX);
        in.at += item.header_len;
        in.left -= item.header_len;
        if (item.type == TP_MP_UINT)
            tp_mp_uint(&w, item.value);
        else if (item.type == TP_MP_ARRAY)
            tp_mp_array(&w, (uint32_t)item.value);
        else if (item.type == TP_MP_MAP)
            tp_mp_map(&w, (uint32_t)item.value);
        else if (item.type == TP_MP_BIN)
            tp_mp_bin_header(&w, (uint32_t)item.value);
        else if (item.type == TP_MP_EXT)
            tp_mp_ext_header(&w, item.ext_code, (uint32_t)item.value);
        else
            continue;
        FUZZ_CHECK(w.used <= item.header_len && tp_mp_decode(&again, header, w.used));
        FUZZ_CHECK(again.type == item.type && again.value == item.value && again.header_len == w.used);
        FUZZ_CHECK(item.type != TP_MP_EXT || again.ext_code == item.ext_code);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    size_t mode = fuzz_choice(&in, 4);
    if (mode == 3) {
        check_headers(in);
        fuzz_put("model.msgpack", in.at, in.left, 0);
    } else {
        for (size_t i = 0; i <= mode; i++)
            put_file(&in, i == 0 ? "a.msgpack" : i == 1 ? "b.msgpack" : "c.msgpack");
    }
    enum tp_status status = tp_checkpoint_open(&ck, fuzz_folder(), NULL, &err);
    if (status)
        fuzz_check_error(status, &err);
    else
        fuzz_check_checkpoint(ck);
    tp_checkpoint_close(ck);
    fuzz_clear();
    return 0;
}
