/* SPDX-License-Identifier: MIT */
/* A few slots hold open descriptors; a file knows its slot. The least recently used idle slot gives way. */
#include "checkpoint/file_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "os/host.h"

#define SLOTS_MAX 128u
#define NO_SLOT UINT32_MAX
#define NO_FILE UINT32_MAX

struct cached_file {
    char *path;
    struct tp_file_id id;
    uint32_t slot; /* NO_SLOT: not open */
};

struct slot {
    int fd;
    uint32_t file; /* NO_FILE: free */
    uint32_t users;
    uint64_t used_at;
};

struct tp_file_cache {
    pthread_mutex_t mutex;
    pthread_cond_t idle; /* a slot has lost its last user */
    struct cached_file *files;
    size_t file_count, file_capacity;
    struct slot slots[SLOTS_MAX];
    uint32_t slot_count;
    uint64_t clock;
};

struct tp_file_cache *tp_file_cache_new(void)
{
    struct tp_file_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return NULL;
    unsigned quarter = tp_host_open_file_limit() / 4;
    cache->slot_count = quarter < 1 ? 1 : quarter < SLOTS_MAX ? quarter : SLOTS_MAX;
    for (uint32_t i = 0; i < cache->slot_count; i++)
        cache->slots[i] = (struct slot){.fd = -1, .file = NO_FILE};
    if (pthread_mutex_init(&cache->mutex, NULL) != 0 || pthread_cond_init(&cache->idle, NULL) != 0) {
        free(cache);
        return NULL;
    }
    return cache;
}

void tp_file_cache_free(struct tp_file_cache *cache)
{
    if (!cache)
        return;
    for (uint32_t i = 0; i < cache->slot_count; i++)
        tp_fd_close(cache->slots[i].fd);
    for (size_t i = 0; i < cache->file_count; i++)
        free(cache->files[i].path);
    free(cache->files);
    pthread_cond_destroy(&cache->idle);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

/* A free slot, or the idle one that was not used for longest, emptied; NULL if all are in use. */
static struct slot *take_slot(struct tp_file_cache *cache)
{
    struct slot *best = NULL;
    for (uint32_t i = 0; i < cache->slot_count; i++) {
        struct slot *s = &cache->slots[i];
        if (s->file == NO_FILE)
            return s;
        if (s->users == 0 && (!best || s->used_at < best->used_at))
            best = s;
    }
    if (best) {
        tp_fd_close(best->fd);
        cache->files[best->file].slot = NO_SLOT;
        *best = (struct slot){.fd = -1, .file = NO_FILE};
    }
    return best;
}

static void fill_slot(struct tp_file_cache *cache, struct slot *s, uint32_t file, int fd)
{
    *s = (struct slot){.fd = fd, .file = file, .used_at = ++cache->clock};
    cache->files[file].slot = (uint32_t)(s - cache->slots);
}

enum tp_status tp_file_cache_add(struct tp_file_cache *cache, const char *path, struct tp_error *err)
{
    if (!tp_array_grow(&cache->files, &cache->file_capacity, cache->file_count + 1, sizeof *cache->files))
        return tp_fail_nomem(err);
    struct cached_file file = {.path = strdup(path), .slot = NO_SLOT};
    if (!file.path)
        return tp_fail_nomem(err);
    pthread_mutex_lock(&cache->mutex);
    struct slot *s = take_slot(cache); /* before opening, so that there is never a descriptor too many */
    int fd = -1;
    enum tp_status status = tp_file_open_read(&fd, path, &file.id, err);
    if (status) {
        free(file.path);
    } else {
        cache->files[cache->file_count++] = file;
        if (s)
            fill_slot(cache, s, (uint32_t)(cache->file_count - 1), fd);
        else
            tp_fd_close(fd);
    }
    pthread_mutex_unlock(&cache->mutex);
    return status;
}

const struct tp_file_id *tp_file_cache_id(const struct tp_file_cache *cache, uint32_t file)
{
    return &cache->files[file].id;
}

const char *tp_file_cache_path(const struct tp_file_cache *cache, uint32_t file)
{
    return cache->files[file].path;
}

/* Open the file behind the path and make sure that it is still the one that was added. */
static enum tp_status reopen(const struct cached_file *file, int *fd, struct tp_error *err)
{
    struct tp_file_id now;
    enum tp_status status = tp_file_open_read(fd, file->path, &now, err);
    if (status == TP_ERR_FORMAT) /* it was a file when it was added */
        status = tp_err_path(err, tp_fail(err, TP_ERR_IO, "was removed or replaced while it was read"), file->path);
    if (!status && !tp_file_id_equal(&now, &file->id)) {
        tp_fd_close(*fd);
        status = tp_err_path(err, tp_fail(err, TP_ERR_IO, "changed while it was read"), file->path);
    }
    return status;
}

enum tp_status tp_file_cache_get(struct tp_file_cache *cache, uint32_t file, int *fd, struct tp_error *err)
{
    enum tp_status status = TP_OK;
    struct slot *s = NULL;
    pthread_mutex_lock(&cache->mutex);
    while (cache->files[file].slot == NO_SLOT && !(s = take_slot(cache)))
        pthread_cond_wait(&cache->idle, &cache->mutex);
    if (s) {
        int opened = -1;
        status = reopen(&cache->files[file], &opened, err);
        if (!status)
            fill_slot(cache, s, file, opened);
        else
            pthread_cond_broadcast(&cache->idle); /* the slot is free for who waits */
    }
    if (!status) {
        s = &cache->slots[cache->files[file].slot];
        s->users++;
        s->used_at = ++cache->clock;
        *fd = s->fd;
    }
    pthread_mutex_unlock(&cache->mutex);
    return status;
}

void tp_file_cache_put(struct tp_file_cache *cache, uint32_t file)
{
    pthread_mutex_lock(&cache->mutex);
    if (--cache->slots[cache->files[file].slot].users == 0)
        pthread_cond_broadcast(&cache->idle);
    pthread_mutex_unlock(&cache->mutex);
}

enum tp_status tp_file_cache_check(const struct tp_file_cache *cache, uint32_t file, struct tp_error *err)
{
    int fd = -1;
    enum tp_status status = reopen(&cache->files[file], &fd, err);
    if (!status)
        tp_fd_close(fd);
    return status;
}
