/* SPDX-License-Identifier: MIT */
/* zarr metadata as text. Members come in any order, so a value is first taken down as it is written and judged when all
 * have been seen. What would change the meaning of chunks and is not known here is refused by name. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec/zarr.h"
#include "codec/zarr_fill.h"
#include "tensorport/text.h"

#define WHAT "zarr metadata"
#define NAME_MAX_LEN 64u

struct numbers {
    unsigned count;
    uint64_t values[TP_ZARR_RANK_MAX];
};

enum codec_kind { CODEC_UNKNOWN, CODEC_TRANSPOSE, CODEC_BYTES, CODEC_SHARDS, CODEC_ZSTD, CODEC_CRC };

/* A list of codecs, checked as it is read: transpose, then bytes or shards, then zstd, then crc32c. */
struct chain {
    enum codec_kind last; /* the one before */
    struct numbers order; /* of transpose, which has_order says was there */
    bool has_order, is_big, has_endian, is_sharded, has_zstd, has_crc;
};

struct parser {
    struct tp_zarr *zarr;
    struct tp_json *json;
    struct tp_error *err;
    uint32_t seen; /* members of the outermost object, by number in the table */
    struct numbers shape, chunk, inner;
    char dtype[NAME_MAX_LEN];
    struct tp_zarr_fill fill;
    bool is_fortran;
    struct chain outer, inside, index; /* codecs of a chunk; of shards: of an inner chunk, of their index */
    bool has_inside, has_index;
};

/* ---- values ---- */

static enum tp_status unsupported(struct parser *p, const char *what, const char *text, size_t len)
{
    char shown[128];
    return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": %s '%s' is not read", what,
                   tp_text_printable(shown, sizeof shown, text, len));
}

static bool is(const struct tp_json_token *t, const char *text)
{
    return t->len == strlen(text) && memcmp(t->text, text, t->len) == 0;
}

/* A string without NUL, of less than NAME_MAX_LEN bytes. */
static enum tp_status take_name(struct parser *p, const char *what, char name[NAME_MAX_LEN])
{
    struct tp_json_token t;
    enum tp_status status = tp_json_next(p->json, &t, p->err);
    if (status)
        return status;
    if (t.type == TP_JSON_OBJECT_BEGIN || t.type == TP_JSON_ARRAY_BEGIN)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": a %s that is %s is not read", what,
                       tp_json_type_name(t.type));
    if (t.type != TP_JSON_STRING)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": expected a string for '%s', found %s", what,
                       tp_json_type_name(t.type));
    if (t.len >= NAME_MAX_LEN || t.has_nul)
        return unsupported(p, what, t.text, t.len);
    memcpy(name, t.text, t.len);
    name[t.len] = '\0';
    return TP_OK;
}

static enum tp_status take_numbers(struct parser *p, const char *what, struct numbers *numbers)
{
    struct tp_json_token t;
    enum tp_status status = tp_json_expect(p->json, TP_JSON_ARRAY_BEGIN, what, &t, p->err);
    for (numbers->count = 0; !status; numbers->count++) {
        status = tp_json_next(p->json, &t, p->err);
        if (status || t.type == TP_JSON_ARRAY_END)
            break;
        if (t.type != TP_JSON_UINT)
            return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": expected whole numbers in '%s', found %s", what,
                           tp_json_type_name(t.type));
        if (numbers->count == TP_ZARR_RANK_MAX)
            return tp_fail(p->err, TP_ERR_LIMIT, WHAT ": '%s' has more than %u numbers", what, TP_ZARR_RANK_MAX);
        numbers->values[numbers->count] = t.uint_value;
    }
    return status;
}

static enum tp_status skip_value(struct parser *p)
{
    struct tp_json_token t;
    enum tp_status status = tp_json_next(p->json, &t, p->err);
    return status ? status : tp_json_skip(p->json, &t, p->err);
}

/* A member that is not known: fine in version 3 only where it says so itself. */
static enum tp_status skip_stranger(struct parser *p, const char *key)
{
    struct tp_json_token t;
    bool may_skip = false;
    enum tp_status status = tp_json_next(p->json, &t, p->err);
    if (!status && t.type != TP_JSON_OBJECT_BEGIN)
        status = tp_json_skip(p->json, &t, p->err);
    else
        while (!status && !(status = tp_json_next(p->json, &t, p->err)) && t.type == TP_JSON_KEY) {
            const bool answers = is(&t, "must_understand");
            status = tp_json_next(p->json, &t, p->err);
            may_skip = may_skip || (!status && answers && t.type == TP_JSON_FALSE);
            if (!status)
                status = tp_json_skip(p->json, &t, p->err);
        }
    return status || may_skip ? status : unsupported(p, "the member", key, strlen(key));
}

/* ---- objects ---- */

struct member {
    const char *key;
    enum tp_status (*take)(struct parser *p, void *user);
    bool is_required;
};

/* The members of an object whose '{' has been read, each at most once, by a table. `stranger` for others. */
static enum tp_status take_members(struct parser *p, const struct member *table, size_t count, void *user,
                                   uint32_t *seen, enum tp_status (*stranger)(struct parser *p, const char *key))
{
    struct tp_json_token t;
    enum tp_status status;
    *seen = 0;
    while (!(status = tp_json_next(p->json, &t, p->err)) && t.type == TP_JSON_KEY) {
        size_t i = 0;
        while (i < count && !is(&t, table[i].key))
            i++;
        char key[NAME_MAX_LEN];
        tp_text_printable(key, sizeof key, t.text, t.len);
        if (i < count && *seen & (uint32_t)1 << i)
            return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": '%s' is there twice", key);
        if (i < count)
            *seen |= (uint32_t)1 << i;
        status = i < count ? table[i].take(p, user) : stranger(p, key);
        if (status)
            return status;
    }
    for (size_t i = 0; i < count && !status; i++)
        if (table[i].is_required && !(*seen & (uint32_t)1 << i))
            return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": '%s' is missing", table[i].key);
    return status;
}

static enum tp_status begin_object(struct parser *p, const char *what)
{
    struct tp_json_token t;
    return tp_json_expect(p->json, TP_JSON_OBJECT_BEGIN, what, &t, p->err);
}

/* ---- both versions ---- */

static enum tp_status take_format(struct parser *p, void *user)
{
    struct tp_json_token t;
    (void)user;
    enum tp_status status = tp_json_expect(p->json, TP_JSON_UINT, "zarr_format", &t, p->err);
    if (!status && t.uint_value != p->zarr->version)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": zarr_format is %" PRIu64 ", expected %u", t.uint_value,
                       p->zarr->version);
    return status;
}

static enum tp_status take_shape(struct parser *p, void *user)
{
    (void)user;
    return take_numbers(p, "shape", &p->shape);
}

static enum tp_status take_fill(struct parser *p, void *user)
{
    (void)user;
    return tp_zarr_fill_read(&p->fill, p->json, p->err);
}

static enum tp_status take_dtype(struct parser *p, void *user)
{
    (void)user;
    return take_name(p, p->zarr->version == 2 ? "dtype" : "data_type", p->dtype);
}

static enum tp_status set_separator(struct parser *p, const char *text)
{
    if (strcmp(text, ".") != 0 && strcmp(text, "/") != 0)
        return unsupported(p, "the separator", text, strlen(text));
    p->zarr->separator = text[0];
    return TP_OK;
}

/* *product times all numbers; false unless it stays below 2^63. Zeros count as 1, so that they hide nothing. */
static bool multiply(uint64_t *product, const struct numbers *n)
{
    for (unsigned i = 0; i < n->count; i++)
        if (TP_MUL_OVERFLOW(*product, n->values[i] ? n->values[i] : 1, product) || *product > INT64_MAX)
            return false;
    return true;
}

/* Shapes, once all are known. */
static enum tp_status set_shapes(struct parser *p)
{
    struct tp_zarr *z = p->zarr;
    const unsigned item = tp_zarr_item_bytes(z);
    uint64_t array_bytes = item, chunk_bytes = item, inner_bytes = item;
    if (p->chunk.count != p->shape.count || p->inner.count != p->shape.count)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": shapes of %u and %u (inner: %u) numbers", p->shape.count,
                       p->chunk.count, p->inner.count);
    z->rank = (uint8_t)p->shape.count;
    for (unsigned i = 0; i < z->rank; i++) {
        z->shape[i] = p->shape.values[i];
        z->chunk[i] = p->chunk.values[i];
        z->inner[i] = p->inner.values[i];
        if (z->inner[i] == 0 || z->chunk[i] == 0 || z->chunk[i] % z->inner[i] != 0)
            return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": chunks of %" PRIu64 " in %" PRIu64 " along axis %u",
                           z->inner[i], z->chunk[i], i);
    }
    if (!multiply(&array_bytes, &p->shape) || !multiply(&inner_bytes, &p->inner) ||
        (z->is_sharded && (!multiply(&chunk_bytes, &p->chunk) || tp_zarr_slot_count(z) > INT64_MAX / 32)))
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": the shape or that of a chunk is beyond 2^63 bytes");
    return TP_OK;
}

static enum tp_status set_fill(struct parser *p)
{
    p->zarr->has_fill = p->fill.count > 0;
    if (tp_zarr_fill_bytes(p->zarr->fill, &p->fill, (enum tp_dtype)p->zarr->dtype))
        return TP_OK;
    return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": the fill_value is none of %s", p->dtype);
}

static enum tp_status set_dtype(struct parser *p)
{
    const enum tp_dtype dtype = tp_zarr_dtype_find(p->zarr->version, p->dtype, strlen(p->dtype));
    p->zarr->dtype = (uint8_t)dtype;
    return dtype == TP_DTYPE_NONE ? unsupported(p, "the dtype", p->dtype, strlen(p->dtype)) : TP_OK;
}

/* The whole text is one object with these members. */
static enum tp_status take_text(struct parser *p, const char *text, size_t len, const struct member *table,
                                size_t count, enum tp_status (*stranger)(struct parser *p, const char *key))
{
    if (len > TP_ZARR_READ_MAX)
        return tp_fail(p->err, TP_ERR_LIMIT, WHAT ": %zu bytes are more than %zu", len, TP_ZARR_READ_MAX);
    enum tp_status status = tp_json_open_text(&p->json, text, len, WHAT, 4096, p->err);
    if (status)
        return status;
    struct tp_json_token t;
    status = begin_object(p, "the metadata");
    if (!status)
        status = take_members(p, table, count, NULL, &p->seen, stranger);
    if (!status)
        status = tp_json_expect(p->json, TP_JSON_END, "the end of it", &t, p->err);
    tp_json_close(p->json);
    return status;
}

/* ---- version 2 ---- */

static enum tp_status take_chunks(struct parser *p, void *user)
{
    (void)user;
    return take_numbers(p, "chunks", &p->chunk);
}

static enum tp_status take_order(struct parser *p, void *user)
{
    char name[NAME_MAX_LEN];
    (void)user;
    enum tp_status status = take_name(p, "order", name);
    if (!status && strcmp(name, "C") != 0 && strcmp(name, "F") != 0)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": order must be \"C\" or \"F\"");
    p->is_fortran = !status && name[0] == 'F';
    return status;
}

static enum tp_status take_filters(struct parser *p, void *user)
{
    struct tp_json_token t;
    (void)user;
    enum tp_status status = tp_json_next(p->json, &t, p->err);
    if (!status && t.type == TP_JSON_ARRAY_BEGIN)
        status = tp_json_next(p->json, &t, p->err);
    else if (!status && t.type != TP_JSON_NULL)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": expected a list for 'filters', found %s",
                       tp_json_type_name(t.type));
    if (!status && t.type != TP_JSON_NULL && t.type != TP_JSON_ARRAY_END)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": filters are not read");
    return status;
}

static enum tp_status take_compressor_id(struct parser *p, void *user)
{
    return take_name(p, "compressor", user);
}

static enum tp_status skip_setting(struct parser *p, const char *key)
{
    (void)key;
    return skip_value(p);
}

static enum tp_status take_compressor(struct parser *p, void *user)
{
    static const struct member members[] = {{"id", take_compressor_id, true}};
    struct tp_json_token t;
    char id[NAME_MAX_LEN];
    uint32_t seen;
    (void)user;
    enum tp_status status = tp_json_next(p->json, &t, p->err);
    if (status || t.type == TP_JSON_NULL)
        return status;
    if (t.type != TP_JSON_OBJECT_BEGIN)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": expected an object for 'compressor', found %s",
                       tp_json_type_name(t.type));
    status = take_members(p, members, TP_COUNT_OF(members), id, &seen, skip_setting);
    if (!status && strcmp(id, "zstd") != 0)
        return unsupported(p, "the compressor", id, strlen(id));
    p->zarr->codecs.compressor = TP_ZARR_ZSTD;
    return status;
}

static enum tp_status take_dimension_separator(struct parser *p, void *user)
{
    char name[NAME_MAX_LEN];
    (void)user;
    enum tp_status status = take_name(p, "dimension_separator", name);
    return status ? status : set_separator(p, name);
}

enum tp_status tp_zarr_read_v2(struct tp_zarr *zarr, const char *text, size_t len, struct tp_error *err)
{
    static const struct member members[] = {
        {"zarr_format", take_format, true},
        {"shape", take_shape, true},
        {"chunks", take_chunks, true},
        {"dtype", take_dtype, true},
        {"compressor", take_compressor, true},
        {"fill_value", take_fill, true},
        {"order", take_order, true},
        {"filters", take_filters, true},
        {"dimension_separator", take_dimension_separator, false},
    };
    *zarr = (struct tp_zarr){.version = 2, .separator = '.'};
    struct parser p = {.zarr = zarr, .err = err};
    enum tp_status status = take_text(&p, text, len, members, TP_COUNT_OF(members), skip_setting);
    if (!status)
        status = set_dtype(&p);
    if (!status) {
        p.inner = p.chunk;
        status = set_shapes(&p);
    }
    if (!status)
        status = set_fill(&p);
    for (unsigned i = 0; i < zarr->rank; i++)
        zarr->codecs.order[i] = (uint8_t)(p.is_fortran ? zarr->rank - 1u - i : i);
    return status;
}

/* ---- version 3: objects with a name and a configuration ---- */

struct named {
    char name[NAME_MAX_LEN];
    const struct member *table; /* of the configuration */
    size_t count;
    void *user;
    uint32_t seen;               /* members of the configuration */
    char stranger[NAME_MAX_LEN]; /* one that is not in the table, or "" */
};

static enum tp_status take_its_name(struct parser *p, void *user)
{
    struct named *named = user;
    return take_name(p, "name", named->name);
}

static enum tp_status take_configuration(struct parser *p, void *user)
{
    struct named *named = user;
    struct tp_json_token t;
    enum tp_status status = begin_object(p, "configuration");
    named->seen = 0;
    while (!status && !(status = tp_json_next(p->json, &t, p->err)) && t.type == TP_JSON_KEY) {
        size_t i = 0;
        while (i < named->count && !is(&t, named->table[i].key))
            i++;
        if (i == named->count) {
            tp_text_printable(named->stranger, sizeof named->stranger, t.text, t.len);
            status = skip_value(p);
        } else if (named->seen & (uint32_t)1 << i) {
            return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": '%s' is there twice", named->table[i].key);
        } else {
            named->seen |= (uint32_t)1 << i;
            status = named->table[i].take(p, named->user);
        }
    }
    return status;
}

/* {"name": ..., "configuration": {...}} after its '{'. What is in the configuration is judged by the caller. */
static enum tp_status take_named(struct parser *p, struct named *named)
{
    static const struct member members[] = {
        {"name", take_its_name, true},
        {"configuration", take_configuration, false},
    };
    uint32_t seen;
    return take_members(p, members, TP_COUNT_OF(members), named, &seen, skip_stranger);
}

static enum tp_status check_strangers(struct parser *p, const struct named *named)
{
    return named->stranger[0]
               ? tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": '%s' with '%s' is not read", named->name, named->stranger)
               : TP_OK;
}

/* ---- version 3: codecs ---- */

struct codec { /* as written */
    struct named named;
    struct chain *chain; /* that it is part of */
    struct numbers order, chunk_shape;
    char endian[NAME_MAX_LEN], location[NAME_MAX_LEN];
};

/* Members of all codecs' configurations; their numbers in the table. */
enum { SET_ENDIAN, SET_ORDER, SET_LEVEL, SET_CHECKSUM, SET_CHUNK_SHAPE, SET_CODECS, SET_INDEX_CODECS, SET_LOCATION };

static enum tp_status take_codecs(struct parser *p, const char *what, struct chain *chain);

static enum tp_status take_endian(struct parser *p, void *user)
{
    struct codec *codec = user;
    return take_name(p, "endian", codec->endian);
}

static enum tp_status take_transpose_order(struct parser *p, void *user)
{
    struct codec *codec = user;
    return take_numbers(p, "order", &codec->order);
}

static enum tp_status take_any(struct parser *p, void *user)
{
    (void)user;
    return skip_value(p);
}

static enum tp_status take_inner_shape(struct parser *p, void *user)
{
    struct codec *codec = user;
    return take_numbers(p, "chunk_shape", &codec->chunk_shape);
}

static enum tp_status take_nested(struct parser *p, struct codec *codec, const char *what, struct chain *chain,
                                  bool *has)
{
    if (codec->chain != &p->outer || *has)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": shards within shards are not read");
    *has = true;
    return take_codecs(p, what, chain);
}

static enum tp_status take_inner_codecs(struct parser *p, void *user)
{
    return take_nested(p, user, "codecs", &p->inside, &p->has_inside);
}

static enum tp_status take_index_codecs(struct parser *p, void *user)
{
    return take_nested(p, user, "index_codecs", &p->index, &p->has_index);
}

static enum tp_status take_location(struct parser *p, void *user)
{
    struct codec *codec = user;
    return take_name(p, "index_location", codec->location);
}

static enum tp_status apply_shards(struct parser *p, const struct codec *codec, struct chain *chain)
{
    const uint32_t needed =
        (uint32_t)1 << SET_CHUNK_SHAPE | (uint32_t)1 << SET_CODECS | (uint32_t)1 << SET_INDEX_CODECS;
    if (chain->has_order)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": 'transpose' before 'sharding_indexed' is not read");
    if ((codec->named.seen & needed) != needed)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": 'sharding_indexed' needs chunk_shape, codecs and index_codecs");
    if (codec->location[0] && strcmp(codec->location, "start") != 0 && strcmp(codec->location, "end") != 0)
        return unsupported(p, "the index_location", codec->location, strlen(codec->location));
    p->zarr->index_at_start = strcmp(codec->location, "start") == 0;
    p->inner = codec->chunk_shape;
    chain->is_sharded = true;
    return TP_OK;
}

/* A codec's settings into its chain. */
static enum tp_status apply(struct parser *p, const struct codec *codec, struct chain *chain, enum codec_kind kind)
{
    switch (kind) {
    case CODEC_TRANSPOSE:
        chain->has_order = true;
        chain->order = codec->order;
        return codec->named.seen & (uint32_t)1 << SET_ORDER
                   ? TP_OK
                   : tp_fail(p->err, TP_ERR_FORMAT, WHAT ": 'transpose' without an order");
    case CODEC_BYTES:
        chain->has_endian = codec->endian[0] != '\0';
        chain->is_big = strcmp(codec->endian, "big") == 0;
        return chain->has_endian && !chain->is_big && strcmp(codec->endian, "little") != 0
                   ? unsupported(p, "the endian", codec->endian, strlen(codec->endian))
                   : TP_OK;
    case CODEC_SHARDS:
        return apply_shards(p, codec, chain);
    case CODEC_ZSTD:
        chain->has_zstd = true;
        return TP_OK;
    default:
        chain->has_crc = true;
        return TP_OK;
    }
}

/* What comes next in a chain after what came last: any order but this is refused. */
static enum tp_status append(struct parser *p, const struct codec *codec, struct chain *chain)
{
    static const struct {
        const char *name;
        enum codec_kind kind, first, last; /* the codec before must be one of first..last */
        uint32_t settings;                 /* that it may have */
    } rows[] = {
        {"transpose", CODEC_TRANSPOSE, CODEC_UNKNOWN, CODEC_UNKNOWN, 1u << SET_ORDER},
        {"bytes", CODEC_BYTES, CODEC_UNKNOWN, CODEC_TRANSPOSE, 1u << SET_ENDIAN},
        {"sharding_indexed", CODEC_SHARDS, CODEC_UNKNOWN, CODEC_TRANSPOSE,
         1u << SET_CHUNK_SHAPE | 1u << SET_CODECS | 1u << SET_INDEX_CODECS | 1u << SET_LOCATION},
        {"zstd", CODEC_ZSTD, CODEC_BYTES, CODEC_BYTES, 1u << SET_LEVEL | 1u << SET_CHECKSUM},
        {"crc32c", CODEC_CRC, CODEC_BYTES, CODEC_ZSTD, 0},
    };
    const char *name = codec->named.name;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if (chain->last < rows[i].first || chain->last > rows[i].last || chain->last == CODEC_SHARDS)
            return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": the codec '%s' at this place is not read", name);
        if (codec->named.seen & ~rows[i].settings)
            return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": a setting of the codec '%s' is not read", name);
        enum tp_status status = check_strangers(p, &codec->named);
        chain->last = rows[i].kind;
        return status ? status : apply(p, codec, chain, rows[i].kind);
    }
    return unsupported(p, "the codec", name, strlen(name));
}

static enum tp_status take_codec(struct parser *p, struct chain *chain, const struct tp_json_token *first)
{
    static const struct member settings[] = {
        [SET_ENDIAN] = {"endian", take_endian, false},
        [SET_ORDER] = {"order", take_transpose_order, false},
        [SET_LEVEL] = {"level", take_any, false},
        [SET_CHECKSUM] = {"checksum", take_any, false},
        [SET_CHUNK_SHAPE] = {"chunk_shape", take_inner_shape, false},
        [SET_CODECS] = {"codecs", take_inner_codecs, false},
        [SET_INDEX_CODECS] = {"index_codecs", take_index_codecs, false},
        [SET_LOCATION] = {"index_location", take_location, false},
    };
    struct codec codec = {.named = {.table = settings, .count = TP_COUNT_OF(settings)}, .chain = chain};
    codec.named.user = &codec;
    if (first->type == TP_JSON_STRING && first->len < NAME_MAX_LEN) { /* a name alone */
        memcpy(codec.named.name, first->text, first->len);
        return append(p, &codec, chain);
    }
    if (first->type != TP_JSON_OBJECT_BEGIN)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": expected an object for a codec, found %s",
                       tp_json_type_name(first->type));
    enum tp_status status = take_named(p, &codec.named);
    return status ? status : append(p, &codec, chain);
}

static enum tp_status take_codecs(struct parser *p, const char *what, struct chain *chain)
{
    struct tp_json_token t;
    enum tp_status status = tp_json_expect(p->json, TP_JSON_ARRAY_BEGIN, what, &t, p->err);
    while (!status && !(status = tp_json_next(p->json, &t, p->err)) && t.type != TP_JSON_ARRAY_END)
        status = take_codec(p, chain, &t);
    if (!status && chain->last < CODEC_BYTES)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": '%s' without the codec 'bytes'", what);
    return status;
}

static enum tp_status take_outer_codecs(struct parser *p, void *user)
{
    (void)user;
    return take_codecs(p, "codecs", &p->outer);
}

/* ---- version 3: the rest ---- */

static enum tp_status take_grid_shape(struct parser *p, void *user)
{
    (void)user;
    return take_numbers(p, "chunk_shape", &p->chunk);
}

static enum tp_status take_grid(struct parser *p, void *user)
{
    static const struct member settings[] = {{"chunk_shape", take_grid_shape, true}};
    struct named named = {.table = settings, .count = TP_COUNT_OF(settings)};
    (void)user;
    enum tp_status status = begin_object(p, "chunk_grid");
    if (!status)
        status = take_named(p, &named);
    if (!status && strcmp(named.name, "regular") != 0)
        return unsupported(p, "the chunk_grid", named.name, strlen(named.name));
    if (!status && named.seen != 1)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": chunk_grid without a chunk_shape");
    return status ? status : check_strangers(p, &named);
}

static enum tp_status take_key_separator(struct parser *p, void *user)
{
    return take_name(p, "separator", user);
}

static enum tp_status take_encoding(struct parser *p, void *user)
{
    static const struct member settings[] = {{"separator", take_key_separator, false}};
    char separator[NAME_MAX_LEN] = "";
    struct named named = {.table = settings, .count = TP_COUNT_OF(settings), .user = separator};
    (void)user;
    enum tp_status status = begin_object(p, "chunk_key_encoding");
    if (!status)
        status = take_named(p, &named);
    if (!status)
        status = check_strangers(p, &named);
    if (status)
        return status;
    p->zarr->has_c_prefix = strcmp(named.name, "default") == 0;
    if (!p->zarr->has_c_prefix && strcmp(named.name, "v2") != 0)
        return unsupported(p, "the chunk_key_encoding", named.name, strlen(named.name));
    return set_separator(p, named.seen ? separator : p->zarr->has_c_prefix ? "/" : ".");
}

static enum tp_status take_node_type(struct parser *p, void *user)
{
    char name[NAME_MAX_LEN];
    (void)user;
    enum tp_status status = take_name(p, "node_type", name);
    if (!status && strcmp(name, "array") != 0)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": the node_type must be \"array\"");
    return status;
}

static enum tp_status take_transformers(struct parser *p, void *user)
{
    struct tp_json_token t;
    (void)user;
    enum tp_status status = tp_json_expect(p->json, TP_JSON_ARRAY_BEGIN, "storage_transformers", &t, p->err);
    if (!status)
        status = tp_json_next(p->json, &t, p->err);
    if (!status && t.type != TP_JSON_ARRAY_END)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": storage_transformers are not read");
    return status;
}

/* The codecs of an (inner) chunk, now that rank and dtype are known. */
static enum tp_status set_codecs(struct parser *p, const struct chain *chain)
{
    struct tp_zarr *z = p->zarr;
    uint32_t seen = 0;
    if (tp_zarr_item_bytes(z) > 1 && chain->is_big)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED, WHAT ": big-endian elements are not read");
    if (tp_zarr_item_bytes(z) > 1 && !chain->has_endian)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": the codec 'bytes' does not say which endian");
    if (chain->has_order && chain->order.count != z->rank)
        return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": the order of 'transpose' has %u numbers, the shape %u",
                       chain->order.count, z->rank);
    for (unsigned i = 0; i < z->rank; i++) {
        const uint64_t axis = chain->has_order ? chain->order.values[i] : i;
        if (axis >= z->rank || seen & (uint32_t)1 << axis)
            return tp_fail(p->err, TP_ERR_FORMAT, WHAT ": the order of 'transpose' is no order of the axes");
        seen |= (uint32_t)1 << axis;
        z->codecs.order[i] = (uint8_t)axis;
    }
    z->codecs.compressor = chain->has_zstd ? TP_ZARR_ZSTD : TP_ZARR_STORED;
    z->codecs.has_crc = chain->has_crc;
    return TP_OK;
}

static enum tp_status set_index(struct parser *p)
{
    const struct chain *index = &p->index;
    if (index->has_zstd || index->has_order || index->is_big || !index->has_endian)
        return tp_fail(p->err, TP_ERR_UNSUPPORTED,
                       WHAT ": a shard's index that is not little-endian bytes, perhaps "
                            "with a crc32c, is not read");
    p->zarr->index_has_crc = index->has_crc;
    return TP_OK;
}

enum tp_status tp_zarr_read_v3(struct tp_zarr *zarr, const char *text, size_t len, struct tp_error *err)
{
    static const struct member members[] = {
        {"zarr_format", take_format, true},
        {"node_type", take_node_type, true},
        {"shape", take_shape, true},
        {"data_type", take_dtype, true},
        {"chunk_grid", take_grid, true},
        {"chunk_key_encoding", take_encoding, true},
        {"fill_value", take_fill, true},
        {"codecs", take_outer_codecs, true},
        {"attributes", take_any, false},
        {"dimension_names", take_any, false},
        {"storage_transformers", take_transformers, false},
    };
    *zarr = (struct tp_zarr){.version = 3};
    struct parser p = {.zarr = zarr, .err = err};
    enum tp_status status = take_text(&p, text, len, members, TP_COUNT_OF(members), skip_stranger);
    if (!status)
        status = set_dtype(&p);
    if (!status) {
        zarr->is_sharded = p.outer.is_sharded;
        if (!zarr->is_sharded)
            p.inner = p.chunk;
        status = set_shapes(&p);
    }
    if (!status)
        status = set_fill(&p);
    if (!status && zarr->is_sharded)
        status = set_index(&p);
    return status ? status : set_codecs(&p, zarr->is_sharded ? &p.inside : &p.outer);
}
