/* SPDX-License-Identifier: MIT */
#include "pipeline/journal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/endian.h"
#include "base/status.h"
#include "os/file.h"

#define HEAD_BYTES ((size_t)24)
#define RECORD_BYTES ((size_t)88)
#define BATCH ((size_t)512) /* records encoded or read at a time */

static const char magic[8] = {'T', 'P', 'J', 'R', 'N', 'L', '1', '\n'};

struct tp_journal {
    int fd;
    char *path;
    pthread_mutex_t lock;
    uint64_t count;
};

/* ---- records ---- */

static void put_u64(uint8_t **at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        *(*at)++ = (uint8_t)(value >> (8 * i));
}

static void put_f64(uint8_t **at, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u64(at, bits);
}

static void encode(uint8_t *dst, const struct tp_block_record *r)
{
    uint8_t *at = dst;
    put_u64(&at, r->block);
    memcpy(at, r->digest.bytes, TP_DIGEST_BYTES);
    at += TP_DIGEST_BYTES;
    put_f64(&at, r->stats.min);
    put_f64(&at, r->stats.max);
    put_u64(&at, r->stats.nan_count);
    put_u64(&at, r->stats.inf_count);
    put_u64(&at, r->stats.overflow_count);
    put_u64(&at, r->stats.flushed_count);
    put_u64(&at, r->odd_bool_count);
    put_u64(&at, tp_hash_bytes(dst, RECORD_BYTES - 8, 0));
}

static uint64_t take_u64(const uint8_t **at)
{
    uint64_t value = tp_load_le(*at, 8);
    *at += 8;
    return value;
}

static double take_f64(const uint8_t **at)
{
    uint64_t bits = take_u64(at);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool decode(struct tp_block_record *r, const uint8_t *src)
{
    const uint8_t *at = src;
    tp_stats_init(&r->stats);
    r->block = take_u64(&at);
    memcpy(r->digest.bytes, at, TP_DIGEST_BYTES);
    at += TP_DIGEST_BYTES;
    r->stats.min = take_f64(&at);
    r->stats.max = take_f64(&at);
    r->stats.nan_count = take_u64(&at);
    r->stats.inf_count = take_u64(&at);
    r->stats.overflow_count = take_u64(&at);
    r->stats.flushed_count = take_u64(&at);
    r->odd_bool_count = take_u64(&at);
    return take_u64(&at) == tp_hash_bytes(src, RECORD_BYTES - 8, 0);
}

/* ---- the file ---- */

static enum tp_status journal_new(struct tp_journal **out, const char *folder, struct tp_error *err)
{
    struct tp_journal *j = calloc(1, sizeof *j);
    if (!j)
        return tp_fail_nomem(err);
    j->fd = -1;
    j->path = tp_path_join(folder, TP_JOURNAL_NAME);
    pthread_mutex_init(&j->lock, NULL);
    if (!j->path) {
        tp_journal_close(j);
        return tp_fail_nomem(err);
    }
    *out = j;
    return TP_OK;
}

static enum tp_status write_head(struct tp_journal *j, const struct tp_digest *conversion, struct tp_error *err)
{
    uint8_t head[HEAD_BYTES];
    memcpy(head, magic, sizeof magic);
    memcpy(head + sizeof magic, conversion->bytes, TP_DIGEST_BYTES);
    enum tp_status st = tp_file_resize(j->fd, 0, j->path, err);
    return st ? st : tp_file_write_at(j->fd, head, sizeof head, 0, j->path, err);
}

enum tp_status tp_journal_create(struct tp_journal **out, const char *folder, const struct tp_digest *conversion,
                                 struct tp_error *err)
{
    struct tp_journal *j;
    enum tp_status st = journal_new(&j, folder, err);
    if (st)
        return st;
    st = tp_file_create(&j->fd, j->path, 0, err);
    if (!st)
        st = write_head(j, conversion, err);
    if (st) {
        tp_journal_close(j);
        return st;
    }
    *out = j;
    return TP_OK;
}

static enum tp_status is_ours(struct tp_journal *j, uint64_t size, const struct tp_digest *conversion, bool *ours,
                              struct tp_error *err)
{
    uint8_t head[HEAD_BYTES];
    *ours = false;
    if (size < sizeof head)
        return TP_OK;
    enum tp_status st = tp_file_read_at(j->fd, head, sizeof head, 0, j->path, err);
    *ours = !st && memcmp(head, magic, sizeof magic) == 0 &&
            memcmp(head + sizeof magic, conversion->bytes, TP_DIGEST_BYTES) == 0;
    return st;
}

static enum tp_status take_records(struct tp_journal *j, uint64_t size,
                                   enum tp_status (*take)(void *, const struct tp_block_record *, struct tp_error *),
                                   void *user, struct tp_error *err)
{
    uint8_t *bytes = malloc(BATCH * RECORD_BYTES);
    uint64_t left = (size - HEAD_BYTES) / RECORD_BYTES;
    bool whole = true;
    enum tp_status st = bytes ? TP_OK : tp_fail_nomem(err);
    while (!st && whole && left > 0) {
        size_t n = left < BATCH ? (size_t)left : BATCH;
        st = tp_file_read_at(j->fd, bytes, n * RECORD_BYTES, HEAD_BYTES + j->count * RECORD_BYTES, j->path, err);
        for (size_t i = 0; i < n && !st && whole; i++) {
            struct tp_block_record record;
            whole = decode(&record, bytes + i * RECORD_BYTES);
            if (whole) {
                st = take(user, &record, err);
                j->count++;
            }
        }
        left -= n;
    }
    free(bytes);
    return st ? st : tp_file_resize(j->fd, HEAD_BYTES + j->count * RECORD_BYTES, j->path, err);
}

enum tp_status tp_journal_resume(struct tp_journal **out, const char *folder, const struct tp_digest *conversion,
                                 enum tp_status (*take)(void *user, const struct tp_block_record *record,
                                                        struct tp_error *err),
                                 void *user, uint64_t *records, struct tp_error *err)
{
    struct tp_journal *j;
    struct tp_file_id id;
    bool ours = false;
    enum tp_path_kind kind = TP_PATH_ABSENT;
    enum tp_status st = journal_new(&j, folder, err);
    if (st)
        return st;
    st = tp_path_kind_of_itself(&kind, j->path, err);
    if (!st)
        st = kind == TP_PATH_FILE ? tp_file_open_write(&j->fd, j->path, err) : tp_file_create(&j->fd, j->path, 0, err);
    if (!st)
        st = tp_file_id_of(j->fd, &id, j->path, err);
    if (!st)
        st = is_ours(j, id.size_bytes, conversion, &ours, err);
    if (!st)
        st = ours ? take_records(j, id.size_bytes, take, user, err) : write_head(j, conversion, err);
    if (st) {
        tp_journal_close(j);
        return st;
    }
    *records = j->count;
    *out = j;
    return TP_OK;
}

enum tp_status tp_journal_append(struct tp_journal *j, const struct tp_block_record *records, size_t count,
                                 struct tp_error *err)
{
    uint8_t bytes[64 * RECORD_BYTES];
    enum tp_status st = TP_OK;
    pthread_mutex_lock(&j->lock);
    while (count > 0 && !st) {
        size_t n = count < 64 ? count : 64;
        for (size_t i = 0; i < n; i++)
            encode(bytes + i * RECORD_BYTES, &records[i]);
        st = tp_file_write_at(j->fd, bytes, n * RECORD_BYTES, HEAD_BYTES + j->count * RECORD_BYTES, j->path, err);
        if (!st)
            j->count += n;
        records += n;
        count -= n;
    }
    pthread_mutex_unlock(&j->lock);
    return st;
}

uint64_t tp_journal_count(const struct tp_journal *j)
{
    return j->count;
}

void tp_journal_close(struct tp_journal *j)
{
    if (!j)
        return;
    tp_fd_close(j->fd);
    free(j->path);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* ---- claims ---- */

enum tp_status tp_claims_add(void *claims, const struct tp_block_record *record, struct tp_error *err)
{
    struct tp_claims *c = claims;
    if (!tp_array_grow(&c->records, &c->capacity, c->count + 1, sizeof *c->records))
        return tp_fail_nomem(err);
    c->records[c->count++] = *record;
    return TP_OK;
}

void tp_claims_drop_overflowed(struct tp_claims *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->records[i].stats.overflow_count == 0)
            c->records[kept++] = c->records[i];
    c->count = kept;
}

static int by_block(const void *a, const void *b)
{
    const struct tp_block_record *x = a, *y = b;
    return (x->block > y->block) - (x->block < y->block);
}

void tp_claims_sort(struct tp_claims *c)
{
    size_t kept = 0;
    if (c->count > 1)
        qsort(c->records, c->count, sizeof *c->records, by_block);
    for (size_t i = 0; i < c->count; i++) {
        if (kept == 0 || c->records[kept - 1].block != c->records[i].block)
            c->records[kept++] = c->records[i];
    }
    c->count = kept;
}

const struct tp_block_record *tp_claims_find(const struct tp_claims *c, uint64_t block)
{
    struct tp_block_record key = {.block = block};
    return c && c->count ? bsearch(&key, c->records, c->count, sizeof key, by_block) : NULL;
}

void tp_claims_release(struct tp_claims *c)
{
    free(c->records);
    *c = (struct tp_claims){.records = NULL};
}
