/* SPDX-License-Identifier: MIT */
/* The metadata of zarr arrays, version 2 (".zarray") and 3 ("zarr.json"), as far as Orbax writes them: read strictly,
 * written compactly with sorted keys. Chunk data is somebody else's: this says which chunk has which key, and how its
 * bytes are to be understood. docs/formats/orbax.md has the details. */
#ifndef TP_CODEC_ZARR_H
#define TP_CODEC_ZARR_H

#include "base/status.h"
#include "tensorport/dtype.h"

#define TP_ZARR_RANK_MAX 32u               /* TensorStore's */
#define TP_ZARR_TEXT_MAX 4096u             /* bytes of the metadata that tp_zarr_emit makes */
#define TP_ZARR_KEY_MAX 673u               /* bytes of a chunk's key: "c", then 32 times a separator and 20 digits */
#define TP_ZARR_READ_MAX ((size_t)1 << 20) /* bytes of metadata that are read */

enum tp_zarr_compressor { TP_ZARR_STORED, TP_ZARR_ZSTD };

/* How the elements of a chunk became bytes: axes in some order, little-endian elements; then perhaps a zstd stream;
 * then perhaps four bytes of CRC-32C (little-endian) over all that. */
struct tp_zarr_codecs {
    uint8_t order[TP_ZARR_RANK_MAX]; /* axes from the slowest to the fastest in the bytes; 0, 1, 2...: row-major */
    uint8_t compressor;              /* enum tp_zarr_compressor */
    bool has_crc;
};

struct tp_zarr {
    uint8_t version; /* 2 or 3 */
    uint8_t rank;
    uint8_t dtype;     /* enum tp_dtype; F4_UNPACKED for float4_e2m1fn, one byte an element */
    char separator;    /* between the numbers of a chunk's key: '.' or '/' */
    bool has_c_prefix; /* version 3's own keys: "c/0/1"; else "0.1" */
    bool has_fill;     /* version 2 may have none */
    bool is_terse;    /* version 3, to be written as TensorStore spells it: no separator that is the usual one, zeros of
                       * floats with a point */
    uint8_t fill[16]; /* little-endian bytes of one element that is not stored; zeros without has_fill */
    uint64_t shape[TP_ZARR_RANK_MAX];
    uint64_t chunk[TP_ZARR_RANK_MAX]; /* of one stored object: a chunk, or a shard; each at least 1 */
    struct tp_zarr_codecs codecs;     /* of a chunk; of an inner one where is_sharded */
    /* sharding_indexed: an object is a shard of inner chunks, found through an index at its start or its end. */
    bool is_sharded;
    bool index_at_start, index_has_crc;
    uint64_t inner[TP_ZARR_RANK_MAX]; /* shape of an inner chunk: divides `chunk`. Equal to it without is_sharded */
};

/* ---- metadata ---- */

/* What text says. TP_ERR_FORMAT: malformed or contradictory; TP_ERR_UNSUPPORTED: well formed, but with a dtype, codec,
 * compressor, filter or byte order that is not read here, by name; TP_ERR_LIMIT: rank. Both also prove that an inner
 * chunk's (without shards a chunk's) elements and bytes and the array's element count stay below 2^63. */
enum tp_status tp_zarr_read_v2(struct tp_zarr *zarr, const char *text, size_t len, struct tp_error *err);
enum tp_status tp_zarr_read_v3(struct tp_zarr *zarr, const char *text, size_t len, struct tp_error *err);

/* An array of one row-major chunk, version 2 or 3 with that version's usual keys: the start for one that is to be
 * written. Shape and chunk are copied; `chunk` NULL: the shape (1 where that is 0); `order` NULL: row-major. */
void tp_zarr_init(struct tp_zarr *zarr, unsigned version, enum tp_dtype dtype, unsigned rank, const uint64_t *shape,
                  const uint64_t *chunk, const uint8_t *order);
/* Metadata text, not terminated; its length (at most TP_ZARR_TEXT_MAX; nothing is written beyond `cap`). 0: this cannot
 * be written, see tp_zarr_can_write. Only what we write ourselves: no compressor, no CRC, no shards. */
size_t tp_zarr_emit(const struct tp_zarr *zarr, char *dst, size_t cap);
/* Has zarr a name for this dtype, and can this version hold this order of axes (version 2: row-major or its reverse;
 * axes along which a chunk has length 1 may stand anywhere)? */
bool tp_zarr_can_write(const struct tp_zarr *zarr);
/* "<f4" and "float32", or NULL: this dtype has no name in zarr. */
const char *tp_zarr_dtype_name(unsigned version, enum tp_dtype dtype);
enum tp_dtype tp_zarr_dtype_find(unsigned version, const char *name, size_t len); /* TP_DTYPE_NONE: not one of ours */
/* Bytes of one element. */
unsigned tp_zarr_item_bytes(const struct tp_zarr *zarr);

/* ".zarray" or "zarr.json": the key of the metadata itself, below the array's. */
const char *tp_zarr_metadata_key(unsigned version);

/* ---- chunks ---- */

/* How many objects (chunks, or shards) there are along each axis: rank numbers. An array without elements has none. */
void tp_zarr_grid(const struct tp_zarr *zarr, uint64_t *grid);
/* The key of the object at `index` (rank numbers) below the array's, terminated: "0.1", "c/0/1", "0" and "c" for rank
 * 0. Returns its length; dst has room for TP_ZARR_KEY_MAX + 1 bytes. */
size_t tp_zarr_chunk_key(const struct tp_zarr *zarr, const uint64_t *index, char *dst);
/* The other way round: false unless text is exactly the key of an object within the grid. */
bool tp_zarr_chunk_index(const struct tp_zarr *zarr, const char *text, size_t len, uint64_t *index);
/* The bytes of the elements of one inner chunk (without shards: of a chunk), before any compressor. */
uint64_t tp_zarr_inner_bytes(const struct tp_zarr *zarr);

/* ---- shards ---- */

struct tp_zarr_slot { /* where an inner chunk lies in its shard */
    uint64_t offset, size;
    bool is_absent; /* not stored: all fill value */
};
/* Inner chunks of a shard, and the bytes of its index. */
uint64_t tp_zarr_slot_count(const struct tp_zarr *zarr);
uint64_t tp_zarr_index_bytes(const struct tp_zarr *zarr);
/* The index of a shard of `shard_bytes`, from its tp_zarr_index_bytes bytes: slot_count slots, row-major over the inner
 * chunks of the shard. TP_ERR_FORMAT: a CRC that differs, a range beyond the shard. */
enum tp_status tp_zarr_read_index(struct tp_zarr_slot *slots, const struct tp_zarr *zarr, const uint8_t *bytes,
                                  uint64_t shard_bytes, struct tp_error *err);

#endif
