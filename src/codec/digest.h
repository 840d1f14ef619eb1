/* SPDX-License-Identifier: MIT */
/* XXH3-128 (the digest of blocks, canonical big-endian order as xxhsum prints it) and SHA-256 of whole files. */
#ifndef TP_CODEC_DIGEST_H
#define TP_CODEC_DIGEST_H

#include <stdbool.h>

#include "base/status.h"
#include "kernels/kernels.h"

#define TP_DIGEST_BYTES 16u
#define TP_DIGEST_HEX 33u /* with the terminator */
#define TP_SHA256_HEX 65u

struct tp_digest {
    uint8_t bytes[TP_DIGEST_BYTES];
};

/* What a source file was (docs/formats/manifest.md): proves later that it still is. */
struct tp_source_print {
    struct tp_digest header, sample;
};

struct tp_hasher;                                                  /* opaque; one a worker, reused */
struct tp_hasher *tp_hasher_new(const struct tp_kernels *kernels); /* NULL: no memory */
void tp_hasher_free(struct tp_hasher *h);
void tp_hasher_reset(struct tp_hasher *h);
void tp_hasher_update(struct tp_hasher *h, const void *data, size_t len);
struct tp_digest tp_hasher_digest(struct tp_hasher *h); /* may be called more than once */

void tp_digest_print(char hex[TP_DIGEST_HEX], const struct tp_digest *digest);
bool tp_digest_parse(struct tp_digest *out, const char *hex, size_t len); /* 32 lower-case digits */

/* A fast hash of a short key for tables; `seed` keeps hostile names from colliding on purpose. */
uint64_t tp_hash_bytes(const void *data, size_t len, uint64_t seed);

struct tp_sha256; /* opaque */
struct tp_sha256 *tp_sha256_new(void);
void tp_sha256_free(struct tp_sha256 *s);
bool tp_sha256_update(struct tp_sha256 *s, const void *data, size_t len);
bool tp_sha256_finish(struct tp_sha256 *s, char hex[TP_SHA256_HEX]); /* and ready for the next */

#endif
