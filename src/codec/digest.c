/* SPDX-License-Identifier: MIT */
/* XXH3 from its header, so that each CPU level has its own inner loop (kernels->xxh3_update): starting and finishing
 * are done here by baseline code, the states are the same. SHA-256 is OpenSSL's. */
#include "codec/digest.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct tp_hasher {
    XXH3_state_t *state; /* wants an alignment of its own, so it is allocated by its own library */
    void (*update)(void *state, const void *src, size_t n);
};

struct tp_hasher *tp_hasher_new(const struct tp_kernels *kernels)
{
    struct tp_hasher *h = malloc(sizeof *h);
    if (!h)
        return NULL;
    h->update = kernels->xxh3_update;
    h->state = XXH3_createState();
    if (!h->state) {
        free(h);
        return NULL;
    }
    tp_hasher_reset(h);
    return h;
}

void tp_hasher_free(struct tp_hasher *h)
{
    if (h)
        XXH3_freeState(h->state);
    free(h);
}

void tp_hasher_reset(struct tp_hasher *h)
{
    XXH3_128bits_reset(h->state);
}

void tp_hasher_update(struct tp_hasher *h, const void *data, size_t len)
{
    if (len > 0)
        h->update(h->state, data, len);
}

struct tp_digest tp_hasher_digest(struct tp_hasher *h)
{
    struct tp_digest digest;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(h->state));
    memcpy(digest.bytes, canonical.digest, sizeof digest.bytes);
    return digest;
}

static void print_hex(char *hex, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    hex[2 * count] = '\0';
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void tp_digest_print(char hex[TP_DIGEST_HEX], const struct tp_digest *digest)
{
    print_hex(hex, digest->bytes, TP_DIGEST_BYTES);
}

bool tp_digest_parse(struct tp_digest *out, const char *hex, size_t len)
{
    if (len != 2 * TP_DIGEST_BYTES)
        return false;
    struct tp_digest digest;
    for (size_t i = 0; i < TP_DIGEST_BYTES; i++) {
        int high = hex_value(hex[2 * i]);
        int low = hex_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = digest;
    return true;
}

uint64_t tp_hash_bytes(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

struct tp_sha256 {
    EVP_MD_CTX *context;
};

struct tp_sha256 *tp_sha256_new(void)
{
    struct tp_sha256 *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    s->context = EVP_MD_CTX_new();
    if (!s->context || EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) != 1) {
        tp_sha256_free(s);
        return NULL;
    }
    return s;
}

void tp_sha256_free(struct tp_sha256 *s)
{
    if (s)
        EVP_MD_CTX_free(s->context);
    free(s);
}

bool tp_sha256_update(struct tp_sha256 *s, const void *data, size_t len)
{
    return len == 0 || EVP_DigestUpdate(s->context, data, len) == 1;
}

bool tp_sha256_finish(struct tp_sha256 *s, char hex[TP_SHA256_HEX])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (EVP_DigestFinal_ex(s->context, digest, &len) != 1 || len != (TP_SHA256_HEX - 1) / 2)
        return false;
    print_hex(hex, digest, len);
    return EVP_DigestInit_ex(s->context, EVP_sha256(), NULL) == 1;
}
