/* SPDX-License-Identifier: MIT */
#include "job/identity.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "checkpoint/file_cache.h"

#define OVERFLOW_LINE "\"on_overflow\":"

struct text {
    char *bytes;
    size_t used, capacity;
};

static enum tp_status add(void *user, const char *bytes, size_t len, struct tp_error *err)
{
    struct text *t = user;
    if (!tp_array_grow(&t->bytes, &t->capacity, t->used + len + 1, 1))
        return tp_fail_nomem(err);
    memcpy(t->bytes + t->used, bytes, len);
    t->used += len;
    t->bytes[t->used] = '\0';
    return TP_OK;
}

static enum tp_status add_line(struct text *t, struct tp_error *err, const char *fmt, ...) TP_PRINTF(3, 4);
static enum tp_status add_line(struct text *t, struct tp_error *err, const char *fmt, ...)
{
    char line[TP_NAME_MAX_BYTES + 512];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(line, sizeof line - 1, fmt, args);
    va_end(args);
    size_t used = len < 0 ? 0 : (size_t)len < sizeof line - 1 ? (size_t)len : sizeof line - 2;
    line[used] = '\n';
    return add(t, line, used + 1, err);
}

/* A line an option: the JSON that the manifest has, broken where a key begins. */
static enum tp_status add_options(struct text *t, const struct tp_conversion *cv, struct tp_error *err)
{
    struct text json = {.bytes = NULL};
    struct tp_json_writer w;
    tp_json_writer_init(&w, add, &json, err);
    tp_manifest_put_options(&w, &cv->options);
    enum tp_status st = tp_json_writer_finish(&w);
    for (size_t i = 0; !st && i + 1 < json.used; i++)
        if (json.bytes[i] == ',' && json.bytes[i + 1] == '"')
            json.bytes[i] = '\n';
    if (!st && json.used > 2) /* without the braces */
        st = add(t, json.bytes + 1, json.used - 2, err);
    free(json.bytes);
    return st ? st : add(t, "\n", 1, err);
}

static enum tp_status add_sources(struct text *t, const struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < tp_checkpoint_file_count(cv->source) && !st; i++) {
        const struct tp_file_id *id = tp_file_cache_id(cv->source->cache, i);
        char header[TP_DIGEST_HEX], sample[TP_DIGEST_HEX];
        tp_digest_print(header, &cv->prints[i].header);
        tp_digest_print(sample, &cv->prints[i].sample);
        st = add_line(t, err, "source %s: %" PRIu64 " bytes, changed %" PRId64 ".%09" PRId64 ", header %s, samples %s",
                      tp_checkpoint_file(cv->source, i)->name, id->size_bytes, id->mtime_s, id->mtime_ns, header,
                      sample);
    }
    return st;
}

/* A map takes numbers from there. */
static enum tp_status add_config(struct text *t, const struct tp_conversion *cv, struct tp_hasher *h,
                                 struct tp_error *err)
{
    char *config = NULL, hex[TP_DIGEST_HEX];
    size_t len = 0;
    if (!cv->options.map)
        return TP_OK;
    enum tp_status st = tp_checkpoint_config_text(cv->source, &config, &len, err);
    if (!st) {
        tp_hasher_reset(h);
        tp_hasher_update(h, config ? config : "", len);
        struct tp_digest digest = tp_hasher_digest(h);
        tp_digest_print(hex, &digest);
        st = add_line(t, err, "config.json %s", config ? hex : "absent");
    }
    free(config);
    return st;
}

/* What else is read: its values are compared, so size and time are enough. */
static enum tp_status add_original(struct text *t, const struct tp_conversion *cv, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; cv->original && i < tp_checkpoint_file_count(cv->original) && !st; i++) {
        const struct tp_file_id *id = tp_file_cache_id(cv->original->cache, i);
        st = add_line(t, err, "original %s: %" PRIu64 " bytes, changed %" PRId64 ".%09" PRId64,
                      tp_checkpoint_file(cv->original, i)->name, id->size_bytes, id->mtime_s, id->mtime_ns);
    }
    return st;
}

static void hash_u64(struct tp_hasher *h, uint64_t value)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    tp_hasher_update(h, bytes, sizeof bytes);
}

/* Where every block lies: the journal's numbers mean nothing elsewhere. */
static void hash_layout(struct tp_hasher *h, const struct tp_plan *plan)
{
    for (size_t i = 0; i < plan->file_count; i++) {
        tp_hasher_update(h, plan->files[i].name, strlen(plan->files[i].name) + 1);
        hash_u64(h, plan->files[i].size_bytes);
    }
    for (size_t i = 0; i < plan->extent_count; i++) {
        const struct tp_out_extent *e = &plan->extents[i];
        const struct tp_array *a = &plan->arrays[e->array];
        tp_hasher_update(h, a->path, a->path_len);
        hash_u64(h, a->dtype);
        hash_u64(h, e->file);
        hash_u64(h, e->first_elem);
        hash_u64(h, e->elem_count);
        hash_u64(h, e->offset_bytes);
        hash_u64(h, e->first_block);
    }
}

enum tp_status tp_identity_make(char **text, struct tp_digest *digest, const struct tp_conversion *cv,
                                struct tp_error *err)
{
    struct text t = {.bytes = NULL};
    char hex[TP_DIGEST_HEX];
    struct tp_hasher *h = tp_hasher_new(&cv->kernels);
    enum tp_status st =
        h ? add_line(&t, err, "tensorport %s, layout %s", TP_VERSION, cv->format->name) : tp_fail_nomem(err);
    if (!st)
        st = add_options(&t, cv, err);
    if (!st)
        st = add_sources(&t, cv, err);
    if (!st)
        st = add_original(&t, cv, err);
    if (!st)
        st = add_config(&t, cv, h, err);
    if (!st) {
        tp_hasher_reset(h);
        hash_layout(h, &cv->plan);
        *digest = tp_hasher_digest(h);
        tp_digest_print(hex, digest);
        st = add_line(&t, err, "layout of the output %s", hex);
    }
    if (!st) { /* of the layout only: what else must be the same is compared as text */
        *text = t.bytes;
        t.bytes = NULL;
    }
    tp_hasher_free(h);
    free(t.bytes);
    return st;
}

static size_t line_len(const char *line)
{
    return strcspn(line, "\n");
}

enum tp_status tp_identity_compare(const char *then, const char *now, bool *other_overflow, struct tp_error *err)
{
    *other_overflow = false;
    while (*then || *now) {
        size_t a = line_len(then), b = line_len(now);
        bool same = a == b && memcmp(then, now, a) == 0;
        bool overflow = strncmp(then, OVERFLOW_LINE, strlen(OVERFLOW_LINE)) == 0 &&
                        strncmp(now, OVERFLOW_LINE, strlen(OVERFLOW_LINE)) == 0;
        if (!same && !overflow) {
            char was[300], is[300];
            tp_text_printable(was, sizeof was, then, a);
            tp_text_printable(is, sizeof is, now, b);
            return tp_fail(err, TP_ERR_EXISTS, "this is not the conversion that was stopped; then: %s; now: %s",
                           a ? was : "nothing", b ? is : "nothing");
        }
        *other_overflow |= !same;
        then += a + (then[a] == '\n');
        now += b + (now[b] == '\n');
    }
    return TP_OK;
}
