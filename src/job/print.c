/* SPDX-License-Identifier: MIT */
#include "job/print.h"

#include <stdlib.h>

#define SAMPLE_BYTES 4096u
#define SAMPLE_COUNT 64u
#define WINDOW_BYTES (SAMPLE_BYTES * 16u)

struct printer {
    const struct tp_checkpoint *ck;
    struct tp_hasher *hasher;
    uint8_t *window;
    struct tp_error *err;
};

static enum tp_status hash_range(struct printer *p, uint32_t file, uint64_t offset, uint64_t len)
{
    while (len > 0) {
        size_t n = len < WINDOW_BYTES ? (size_t)len : WINDOW_BYTES;
        enum tp_status st = tp_checkpoint_read_at(p->ck, file, p->window, n, offset, p->err);
        if (st)
            return st;
        tp_hasher_update(p->hasher, p->window, n);
        offset += n;
        len -= n;
    }
    return TP_OK;
}

static enum tp_status print_file(struct printer *p, uint32_t file, uint64_t header_bytes, struct tp_source_print *print)
{
    uint64_t data = tp_checkpoint_file(p->ck, file)->size_bytes - header_bytes;
    tp_hasher_reset(p->hasher);
    enum tp_status st = hash_range(p, file, 0, header_bytes);
    print->header = tp_hasher_digest(p->hasher);
    tp_hasher_reset(p->hasher);
    if (!st && data <= SAMPLE_COUNT * SAMPLE_BYTES) {
        st = hash_range(p, file, header_bytes, data);
    } else {
        uint64_t last = data - SAMPLE_BYTES; /* start of block 63; spread without overflow: quotient and rest apart */
        for (uint64_t i = 0; i < SAMPLE_COUNT && !st; i++) {
            uint64_t start = last / (SAMPLE_COUNT - 1) * i + last % (SAMPLE_COUNT - 1) * i / (SAMPLE_COUNT - 1);
            st = hash_range(p, file, header_bytes + start, SAMPLE_BYTES);
        }
    }
    print->sample = tp_hasher_digest(p->hasher);
    return st;
}

enum tp_status tp_source_prints(struct tp_source_print **out, const struct tp_checkpoint *ck,
                                const struct tp_kernels *kernels, struct tp_error *err)
{
    uint32_t count = tp_checkpoint_file_count(ck);
    struct printer p = {.ck = ck, .hasher = tp_hasher_new(kernels), .window = malloc(WINDOW_BYTES), .err = err};
    struct tp_source_print *prints = calloc((size_t)count + 1, sizeof *prints);
    enum tp_status st = p.hasher && p.window && prints ? TP_OK : tp_fail_nomem(err);
    for (uint32_t i = 0; i < count && !st; i++)
        st = print_file(&p, i, tp_checkpoint_file(ck, i)->header_bytes, &prints[i]);
    free(p.window);
    tp_hasher_free(p.hasher);
    if (st)
        free(prints);
    else
        *out = prints;
    return st;
}

enum tp_status tp_source_print_one(struct tp_source_print *out, const struct tp_checkpoint *ck, uint32_t file,
                                   uint64_t header_bytes, const struct tp_kernels *kernels, struct tp_error *err)
{
    struct printer p = {.ck = ck, .hasher = tp_hasher_new(kernels), .window = malloc(WINDOW_BYTES), .err = err};
    enum tp_status st = p.hasher && p.window ? print_file(&p, file, header_bytes, out) : tp_fail_nomem(err);
    free(p.window);
    tp_hasher_free(p.hasher);
    return st;
}

enum tp_status tp_file_sha256(const char *path, char hex[TP_SHA256_HEX], struct tp_pool *pool, struct tp_error *err)
{
    size_t chunk = (size_t)256 << 10;
    uint8_t *bytes = malloc(chunk);
    struct tp_sha256 *sha = tp_sha256_new();
    struct tp_file_id id = {.size_bytes = 0};
    int fd = -1;
    enum tp_status st = bytes && sha ? tp_file_open_read(&fd, path, &id, err) : tp_fail_nomem(err);
    for (uint64_t at = 0; at < id.size_bytes && !st && !(pool && tp_pool_stopped(pool)); at += chunk) {
        size_t n = id.size_bytes - at < chunk ? (size_t)(id.size_bytes - at) : chunk;
        st = tp_file_read_at(fd, bytes, n, at, path, err);
        if (!st && !tp_sha256_update(sha, bytes, n))
            st = tp_fail(err, TP_ERR_BUG, "SHA-256 failed");
        if (pool)
            tp_pool_count(pool, n);
    }
    if (!st && !tp_sha256_finish(sha, hex))
        st = tp_fail(err, TP_ERR_BUG, "SHA-256 failed");
    tp_fd_close(fd);
    tp_sha256_free(sha);
    free(bytes);
    return st;
}
