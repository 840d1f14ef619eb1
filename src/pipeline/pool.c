/* SPDX-License-Identifier: MIT */
#include "pipeline/pool.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/status.h"
#include "os/float_mode.h"
#include "os/host.h"

#define TICK_NS 100000000L
#define STACK_BYTES ((size_t)256 << 10)

static bool has_task(const struct tp_pool *pool, uint32_t file)
{
    return file != TP_NONE && pool->file_next[file] < pool->list->file_first[file + 1];
}

/* The file with the most tasks left, or TP_NONE. */
static uint32_t fullest_file(const struct tp_pool *pool)
{
    uint32_t best = TP_NONE, most = 0;
    for (uint32_t f = 0; f < pool->list->file_count; f++) {
        uint32_t left = pool->list->file_first[f + 1] - pool->file_next[f];
        if (left > most) {
            best = f;
            most = left;
        }
    }
    return best;
}

/* Two threads that write one file wait for each other in the kernel, so a worker stays with its file, then takes one
 * that nobody has begun, and only then helps where the most is left. */
static const struct tp_task *next_task(struct tp_pool *pool, uint32_t *file)
{
    if (!has_task(pool, *file)) {
        while (pool->fresh_file < pool->list->file_count && !has_task(pool, pool->fresh_file))
            pool->fresh_file++;
        *file = pool->fresh_file < pool->list->file_count ? pool->fresh_file++ : fullest_file(pool);
    }
    return *file == TP_NONE ? NULL : &pool->list->tasks[pool->file_next[*file]++];
}

static void fail_pool(struct tp_pool *pool, enum tp_status st, const struct tp_error *err)
{
    pthread_mutex_lock(&pool->lock);
    if (!pool->status) {
        pool->status = st;
        pool->error = *err;
    }
    atomic_store(&pool->stop, true);
    pthread_mutex_unlock(&pool->lock);
}

struct thread_start {
    struct tp_pool *pool;
    void *state;
    pthread_t thread;
};

static void report(struct tp_pool *pool);

static void *work(void *arg)
{
    const struct thread_start *start = arg;
    struct tp_pool *pool = start->pool;
    uint32_t file = TP_NONE;
    (void)tp_float_mode_plain(); /* a thread inherits its maker's mode, and decoders calculate */
    while (!tp_pool_stopped(pool)) {
        pthread_mutex_lock(&pool->lock);
        const struct tp_task *task = next_task(pool, &file);
        pthread_mutex_unlock(&pool->lock);
        if (!task)
            break;
        atomic_store_explicit(&pool->current_file, task->file, memory_order_relaxed);
        struct tp_error err = {.code = TP_OK};
        enum tp_status st = pool->config->run(pool, pool->config->job, start->state, task, &err);
        if (st)
            fail_pool(pool, st, &err);
        if (pool->is_alone)
            report(pool);
    }
    pthread_mutex_lock(&pool->lock);
    pool->running--;
    pthread_cond_signal(&pool->idle);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void report(struct tp_pool *pool)
{
    const struct tp_pool_config *c = pool->config;
    if (!c->progress)
        return;
    struct tp_progress p = {.phase = atomic_load(&pool->scan) ? TP_PHASE_SCAN : c->phase,
                            .done_bytes = atomic_load(&pool->done_bytes),
                            .total_bytes = c->total_bytes,
                            .elapsed_s = tp_host_clock_s() - pool->begin_s,
                            .file = c->file_name(c->job, atomic_load(&pool->current_file))};
    if (c->progress(c->progress_user, &p) != 0 && !tp_pool_stopped(pool)) {
        struct tp_error err;
        tp_fail(&err, TP_ERR_CANCELLED, "cancelled");
        fail_pool(pool, TP_ERR_CANCELLED, &err);
    }
}

/* Wait for the workers; tell how far they are ten times a second. */
static void supervise(struct tp_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_NS;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        int rc = 0;
        while (pool->running > 0 && rc == 0)
            rc = pthread_cond_timedwait(&pool->idle, &pool->lock, &until);
        if (pool->running == 0)
            break;
        pthread_mutex_unlock(&pool->lock);
        report(pool);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    report(pool); /* the end is always told, however soon it came */
}

/* As many threads as can be had. */
static unsigned start_threads(struct tp_pool *pool, struct thread_start *starts)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    unsigned started = 0;
    pthread_mutex_lock(&pool->lock);
    for (; started < pool->config->workers; started++) {
        starts[started] = (struct thread_start){.pool = pool, .state = pool->config->worker_states[started]};
        if (pthread_create(&starts[started].thread, &attr, work, &starts[started]) != 0)
            break;
        pool->running++;
    }
    pthread_mutex_unlock(&pool->lock);
    pthread_attr_destroy(&attr);
    return started;
}

enum tp_status tp_pool_run(const struct tp_pool_config *config, const struct tp_task_list *list, struct tp_error *err)
{
    struct tp_pool pool = {.config = config, .list = list};
    struct thread_start *starts = calloc(config->workers + 1u, sizeof *starts);
    pool.file_next = malloc((size_t)(list->file_count + 1) * sizeof *pool.file_next);
    if (!starts || !pool.file_next) {
        free(starts);
        free(pool.file_next);
        return tp_fail_nomem(err);
    }
    memcpy(pool.file_next, list->file_first, (size_t)(list->file_count + 1) * sizeof *pool.file_next);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool.idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&pool.lock, NULL);

    pool.begin_s = tp_host_clock_s();
    unsigned started = start_threads(&pool, starts);
    if (started == 0 &&
        config->workers > 0) { /* a machine that has none to give: this one does the work, and tells after each task */
        pool.is_alone = true;
        pool.running = 1;
        const uint64_t mode = tp_float_mode_plain();
        work(&starts[0]);
        tp_float_mode_restore(mode);
    }
    supervise(&pool);
    for (unsigned i = 0; i < started; i++)
        pthread_join(starts[i].thread, NULL);

    if (pool.status && err)
        *err = pool.error;
    pthread_cond_destroy(&pool.idle);
    pthread_mutex_destroy(&pool.lock);
    free(pool.file_next);
    free(starts);
    return pool.status;
}
