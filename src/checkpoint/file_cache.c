/* SPDX-License-Identifier: MIT */
/* A few slots hold open descriptors. An open file is borrowed and given back without a lock, since many short reads by
 * many threads would wait for it; whoever needs another file open takes the mutex, and of the idle slots the one that
 * was not used for longest. */
#include "checkpoint/file_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "os/host.h"

#define SLOTS_MAX 128u
#define NO_FILE UINT32_MAX

#define OPEN (UINT32_C(1) << 31)

struct cached_file {
    char *path;
    struct tp_file_id id;
    atomic_uint state; /* OPEN, and how many borrow it; it is closed from OPEN alone, never while it is borrowed */
    atomic_uint_least64_t used_at;
    int fd; /* while it is OPEN */
};

struct tp_file_cache {
    pthread_mutex_t mutex;
    pthread_cond_t idle; /* a slot has lost its last user */
    struct cached_file *files;
    size_t file_count, file_capacity;
    uint32_t slots[SLOTS_MAX]; /* the file that is open in each, or NO_FILE */
    uint32_t slot_count;
    atomic_uint waiting;         /* threads that found no slot idle */
    atomic_uint_least64_t clock; /* how often a file was opened */
};

struct tp_file_cache *tp_file_cache_new(void)
{
    struct tp_file_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return NULL;
    unsigned quarter = tp_host_open_file_limit() / 4;
    cache->slot_count = quarter < 1 ? 1 : quarter < SLOTS_MAX ? quarter : SLOTS_MAX;
    for (uint32_t i = 0; i < cache->slot_count; i++)
        cache->slots[i] = NO_FILE;
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
        if (cache->slots[i] != NO_FILE)
            tp_fd_close(cache->files[cache->slots[i]].fd);
    for (size_t i = 0; i < cache->file_count; i++)
        free(cache->files[i].path);
    free(cache->files);
    pthread_cond_destroy(&cache->idle);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

/* Close a file unless it is borrowed. */
static bool close_idle(struct cached_file *file)
{
    unsigned idle = OPEN;
    if (!atomic_compare_exchange_strong(&file->state, &idle, 0))
        return false;
    tp_fd_close(file->fd);
    return true;
}

/* A free slot, or the idle one that was not used for longest, emptied; NULL if all are in use. */
static uint32_t *take_slot(struct tp_file_cache *cache)
{
    for (;;) {
        uint32_t *best = NULL;
        uint64_t least = UINT64_MAX;
        for (uint32_t i = 0; i < cache->slot_count; i++) {
            if (cache->slots[i] == NO_FILE)
                return &cache->slots[i];
            const struct cached_file *file = &cache->files[cache->slots[i]];
            uint64_t used_at = atomic_load_explicit(&file->used_at, memory_order_relaxed);
            if (atomic_load(&file->state) == OPEN && used_at < least) {
                least = used_at;
                best = &cache->slots[i];
            }
        }
        if (!best)
            return NULL;
        if (close_idle(&cache->files[*best])) { /* else it was borrowed in between */
            *best = NO_FILE;
            return best;
        }
    }
}

static void fill_slot(struct tp_file_cache *cache, uint32_t *slot, uint32_t number, int fd, unsigned users)
{
    struct cached_file *file = &cache->files[number];
    *slot = number;
    file->fd = fd;
    atomic_store_explicit(&file->used_at, atomic_fetch_add(&cache->clock, 1) + 1, memory_order_relaxed);
    atomic_store(&file->state, OPEN | users);
}

enum tp_status tp_file_cache_add(struct tp_file_cache *cache, const char *path, struct tp_error *err)
{
    if (!tp_array_grow(&cache->files, &cache->file_capacity, cache->file_count + 1, sizeof *cache->files))
        return tp_fail_nomem(err);
    struct cached_file file = {.path = strdup(path)};
    if (!file.path)
        return tp_fail_nomem(err);
    pthread_mutex_lock(&cache->mutex);
    uint32_t *s = take_slot(cache); /* before opening, so that there is never a descriptor too many */
    int fd = -1;
    enum tp_status status = tp_file_open_read(&fd, path, &file.id, err);
    if (status) {
        free(file.path);
    } else {
        cache->files[cache->file_count++] = file;
        if (s)
            fill_slot(cache, s, (uint32_t)(cache->file_count - 1), fd, 0);
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

static bool borrow(struct tp_file_cache *cache, struct cached_file *file)
{
    unsigned state = atomic_load(&file->state);
    while (state & OPEN)
        if (atomic_compare_exchange_weak(&file->state, &state, state + 1)) {
            uint64_t now = atomic_load_explicit(&cache->clock, memory_order_relaxed);
            atomic_store_explicit(&file->used_at, now, memory_order_relaxed);
            return true;
        }
    return false;
}

/* The file is not open: open it, or borrow it after all where another thread was faster. */
static enum tp_status open_and_borrow(struct tp_file_cache *cache, uint32_t number, struct tp_error *err)
{
    struct cached_file *file = &cache->files[number];
    enum tp_status status = TP_OK;
    pthread_mutex_lock(&cache->mutex);
    while (!status && !borrow(cache, file)) {
        int fd = -1;
        uint32_t *slot = take_slot(cache);
        if (!slot) { /* whoever gives one back sees that someone waits, or has given it back before this look */
            atomic_fetch_add(&cache->waiting, 1);
            if (!(slot = take_slot(cache)))
                pthread_cond_wait(&cache->idle, &cache->mutex);
            atomic_fetch_sub(&cache->waiting, 1);
            continue;
        }
        status = reopen(file, &fd, err);
        if (status) {
            pthread_cond_broadcast(&cache->idle); /* the slot is free for who waits */
            break;
        }
        fill_slot(cache, slot, number, fd, 1);
        break;
    }
    pthread_mutex_unlock(&cache->mutex);
    return status;
}

enum tp_status tp_file_cache_get(struct tp_file_cache *cache, uint32_t file, int *fd, struct tp_error *err)
{
    enum tp_status status = borrow(cache, &cache->files[file]) ? TP_OK : open_and_borrow(cache, file, err);
    if (!status)
        *fd = cache->files[file].fd;
    return status;
}

void tp_file_cache_put(struct tp_file_cache *cache, uint32_t file)
{
    unsigned before = atomic_fetch_sub(&cache->files[file].state, 1);
    if (before != (OPEN | 1) || atomic_load(&cache->waiting) == 0)
        return;
    pthread_mutex_lock(&cache->mutex);
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
