/* SPDX-License-Identifier: MIT */
/* What a stopped conversion has left, after somebody changed it: journal, data and the text of what it was. A resumed
 * run refuses with a clear error, or ends with the data of one that was never stopped; with all the same bytes, unless
 * a record lies under a right checksum about values that were only seen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "codec/digest.h"
#include "fuzz.h"
#include "job/identity.h"
#include "pipeline/journal.h"
#include "tensorport/convert.h"
#include "tensorport/verify.h"

#define HEAD_BYTES 24u
#define RECORD_BYTES 88u
#define STATS_AT 24u /* in a record, behind block and digest */
#define WORK "out.tensorport-partial"
#define JOURNAL WORK "/.resume/journal"
#define IDENTITY WORK "/.resume/conversion.txt"

/* ---- the journal alone ---- */

static enum tp_status resume(struct tp_journal **journal, struct tp_claims *claims, uint64_t *records)
{
    static const struct tp_digest conversion = {{1, 2, 3}};
    struct tp_error err = {.code = TP_OK};
    enum tp_status st = tp_journal_resume(journal, fuzz_folder(), &conversion, tp_claims_add, claims, records, &err);
    if (st)
        fuzz_check_error(st, &err);
    return st;
}

static void put_checksum(uint8_t *record)
{
    uint64_t sum = tp_hash_bytes(record, RECORD_BYTES - 8, 0);
    for (unsigned i = 0; i < 8; i++)
        record[RECORD_BYTES - 8 + i] = (uint8_t)(sum >> (8 * i));
}

/* Claims are in order, each once; and just the first records whose checksum is right were taken. */
static void check_claims(struct tp_claims *claims, const char *bytes, size_t len, uint64_t records)
{
    FUZZ_CHECK(claims->count == records &&
               HEAD_BYTES + records * RECORD_BYTES <= (len > HEAD_BYTES ? len : HEAD_BYTES));
    for (uint64_t i = 0; i < records; i++) {
        uint8_t record[RECORD_BYTES];
        memcpy(record, bytes + HEAD_BYTES + i * RECORD_BYTES, RECORD_BYTES);
        put_checksum(record);
        FUZZ_CHECK(memcmp(record, bytes + HEAD_BYTES + i * RECORD_BYTES, RECORD_BYTES) == 0);
        FUZZ_CHECK(claims->records[i].block == tp_load_le(record, 8));
    }
    tp_claims_sort(claims);
    for (size_t i = 0; i < claims->count; i++) {
        FUZZ_CHECK(i == 0 || claims->records[i - 1].block < claims->records[i].block);
        FUZZ_CHECK(tp_claims_find(claims, claims->records[i].block) == &claims->records[i]);
    }
}

/* Bytes as they are, or behind a right head; a run that goes on appends to what was whole. */
static void try_bytes(struct fuzz_bytes *in)
{
    static const uint8_t head[HEAD_BYTES] = "TPJRNL1\n\1\2\3";
    struct tp_journal *journal = NULL;
    struct tp_claims claims = {.count = 0}, again = {.count = 0};
    struct tp_block_record record = {.block = 77, .digest = {{9}}};
    uint64_t records = 0, more = 0;
    bool framed = fuzz_choice(in, 2) == 0, summed = fuzz_choice(in, 2) == 0;
    size_t len = in->left + (framed ? HEAD_BYTES : 0);
    uint8_t *bytes = malloc(len + 1);
    FUZZ_CHECK(bytes != NULL);
    memcpy(bytes, head, framed ? HEAD_BYTES : 0);
    memcpy(bytes + len - in->left, in->at, in->left);
    for (size_t at = HEAD_BYTES; summed && at + RECORD_BYTES <= len; at += RECORD_BYTES)
        put_checksum(bytes + at);
    fuzz_put(TP_JOURNAL_NAME, bytes, len, 0);
    FUZZ_CHECK(resume(&journal, &claims, &records) == TP_OK);
    check_claims(&claims, (const char *)bytes, len, records);
    FUZZ_CHECK(tp_journal_append(journal, &record, 1, NULL) == TP_OK);
    tp_journal_close(journal);
    FUZZ_CHECK(resume(&journal, &again, &more) == TP_OK && more == records + 1);
    FUZZ_CHECK(again.records[records].block == 77 && again.records[records].digest.bytes[0] == 9);
    tp_journal_close(journal);
    tp_claims_release(&claims);
    tp_claims_release(&again);
    free(bytes);
}

/* ---- the identity alone ---- */

static void try_texts(struct fuzz_bytes *in)
{
    static char then[256], now[600];
    struct tp_error err = {.code = TP_OK};
    bool other = false;
    size_t len;
    const uint8_t *piece = fuzz_piece(in, sizeof then - 1, &len);
    snprintf(then, sizeof then, "%.*s", (int)len, len > 0 ? (const char *)piece : "");
    snprintf(now, sizeof now, "%.*s", (int)in->left, in->left > 0 ? (const char *)in->at : "");
    enum tp_status st = tp_identity_compare(then, now, &other, &err);
    if (st)
        fuzz_check_error(st, &err);
    FUZZ_CHECK(st != TP_OK || other || strcmp(then, now) == 0 || strlen(then) != strlen(now));
    FUZZ_CHECK(tp_identity_compare(then, then, &other, NULL) == TP_OK && !other);
}

/* ---- all of it ---- */

static int stop(void *user, const struct tp_progress *progress)
{
    (void)user;
    (void)progress;
    return 1;
}

/* Three tensors; one value of the last is too large for float16. */
static void put_source(void)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[40,30],\"data_offsets\":[0,4800]},"
                                 "\"b\":{\"dtype\":\"I8\",\"shape\":[7],\"data_offsets\":[4800,4807]},"
                                 "\"c\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[4807,4831]}}";
    static uint8_t file[8 + sizeof header - 1 + 4831];
    uint64_t state = 1;
    file[0] = (uint8_t)((sizeof header - 1) & 0xff);
    file[1] = (uint8_t)((sizeof header - 1) >> 8);
    memcpy(file + 8, header, sizeof header - 1);
    for (size_t i = 0; i < 4831; i++)
        file[8 + sizeof header - 1 + i] = i % 4 == 3 ? 0x3f : (uint8_t)fuzz_random(&state);
    file[sizeof file - 1] = 0x4f; /* 2^31 or so */
    FUZZ_CHECK(tp_folder_make(fuzz_path("in"), NULL) == TP_OK);
    fuzz_put("in/model.safetensors", file, sizeof file, 0);
}

static enum tp_status convert(const char *output, struct tp_convert_options options)
{
    struct tp_conversion *cv = NULL;
    struct tp_error err = {.code = TP_OK};
    options.input = fuzz_path("in");
    options.output = fuzz_path(output);
    enum tp_status st = tp_conversion_prepare(&cv, &options, &err);
    if (!st)
        st = tp_conversion_run(cv, NULL, &err);
    if (st)
        fuzz_check_error(st, &err);
    tp_conversion_free(cv);
    return st;
}

static size_t size_of(const char *name)
{
    size_t len = 0;
    free(fuzz_get(name, &len));
    return len;
}

/* A record there is, or one more: one of its numbers becomes another, under a right checksum. True: one of its
 * statistics may be another, which nothing can be compared with. */
static bool change_record(struct fuzz_bytes *in)
{
    uint8_t record[RECORD_BYTES];
    size_t len, count, number, field = fuzz_choice(in, 10) * 8;
    char *journal = fuzz_get(JOURNAL, &len);
    bool appends = fuzz_choice(in, 2) == 1;
    count = len > HEAD_BYTES ? (len - HEAD_BYTES) / RECORD_BYTES : 0;
    if (count == 0) {
        free(journal);
        return false;
    }
    number = fuzz_choice(in, count > 256 ? 256 : count);
    memcpy(record, journal + HEAD_BYTES + number * RECORD_BYTES, RECORD_BYTES);
    free(journal);
    bool was_torn = tp_hash_bytes(record, RECORD_BYTES - 8, 0) != tp_load_le(record + RECORD_BYTES - 8, 8);
    uint64_t value = fuzz_number(in, 8);
    for (unsigned i = 0; i < 8; i++)
        record[field + i] = (uint8_t)(value >> (8 * i));
    put_checksum(record);
    size_t at = HEAD_BYTES + (appends ? count : number) * RECORD_BYTES;
    fuzz_put_at(JOURNAL, record, RECORD_BYTES, at);
    return field >= STATS_AT || was_torn; /* by change_bytes: of whatever that hit */
}

static void change_bytes(const char *name, struct fuzz_bytes *in)
{
    size_t len, size = size_of(name), at = (size_t)fuzz_number(in, 2);
    const uint8_t *piece = fuzz_piece(in, 100, &len);
    at = size > 0 ? at % size : 0;
    len = len < size - at ? len : size - at;
    if (len > 0)
        fuzz_put_at(name, piece, len, at);
}

static void cut(const char *name, struct fuzz_bytes *in)
{
    size_t size;
    char *bytes = fuzz_get(name, &size);
    fuzz_put(name, bytes, size > 0 ? (size_t)fuzz_number(in, 2) % size : 0, 0);
    free(bytes);
}

static bool damage(struct fuzz_bytes *in, const char *data)
{
    bool lies = false;
    for (size_t count = fuzz_choice(in, 5); count > 0; count--)
        switch (fuzz_choice(in, 6)) {
        case 0:
            lies = change_record(in) || lies;
            break;
        case 1:
            change_bytes(JOURNAL, in);
            break;
        case 2:
            change_bytes(data, in);
            break;
        case 3:
            change_bytes(IDENTITY, in);
            break;
        case 4:
            cut(JOURNAL, in);
            break;
        default:
            cut(data, in);
        }
    return lies;
}

static void check_same(const char *name)
{
    char a[64], b[64];
    size_t a_len, b_len;
    snprintf(a, sizeof a, "out/%s", name);
    snprintf(b, sizeof b, "whole/%s", name);
    char *found = fuzz_get(a, &a_len), *wanted = fuzz_get(b, &b_len);
    FUZZ_CHECK_SAYS(found && wanted && a_len == b_len && memcmp(found, wanted, a_len) == 0, name);
    free(found);
    free(wanted);
}

static void try_conversion(struct fuzz_bytes *in)
{
    bool is_safetensors = fuzz_choice(in, 2) == 1;
    const char *name = is_safetensors ? "model.safetensors" : "model.msgpack";
    const char *data = is_safetensors ? WORK "/model.safetensors" : WORK "/model.msgpack";
    struct tp_convert_options options = {.format = is_safetensors ? TP_OUTPUT_SAFETENSORS : TP_OUTPUT_FLAX_MSGPACK,
                                         .precision = TP_PRECISION_FLOAT16,
                                         .on_overflow = fuzz_choice(in, 2) ? TP_OVERFLOW_INF : TP_OVERFLOW_SATURATE,
                                         .workers = 1,
                                         .resume = true};
    put_source();
    FUZZ_CHECK(convert("whole", options) == TP_OK);
    struct tp_convert_options stopped = options;
    stopped.progress = stop;
    if (fuzz_choice(in, 2))
        stopped.on_overflow = TP_OVERFLOW_ERROR; /* another way of treating what does not fit: its blocks are redone */
    if (convert("out", stopped) == TP_OK || size_of(JOURNAL) <= HEAD_BYTES)
        return; /* the machine was so slow that it was stopped before anything was finished */
    bool lies = damage(in, data);
    enum tp_status st = convert("out", options);
    FUZZ_CHECK(st == TP_OK || st == TP_ERR_EXISTS); /* done, or another conversion, as far as its text tells */
    if (st)
        return;
    check_same(name);
    if (!lies)
        check_same("manifest.json");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    switch (fuzz_choice(&in, 3)) {
    case 0:
        try_conversion(&in);
        break;
    case 1:
        try_bytes(&in);
        break;
    default:
        try_texts(&in);
    }
    fuzz_clear();
    return 0;
}
