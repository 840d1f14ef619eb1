/* SPDX-License-Identifier: MIT */
/* The workers: threads that take tasks until none is left, one fails, or the caller cancels. The thread that calls
 * tp_pool_run does no work of its own: it waits, and calls the progress function ten times a second. */
#ifndef TP_PIPELINE_POOL_H
#define TP_PIPELINE_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "pipeline/task.h"
#include "tensorport/progress.h"

struct tp_pool;
/* Do one task with this worker's own state. Returning an error stops all; the first error is the one reported. */
typedef enum tp_status (*tp_task_fn)(struct tp_pool *pool, void *job, void *worker, const struct tp_task *task,
                                     struct tp_error *err);

struct tp_pool_config {
    unsigned workers;
    void *const *worker_states; /* one each */
    tp_task_fn run;
    void *job;
    tp_progress_fn progress; /* or NULL */
    void *progress_user;
    enum tp_phase phase;
    uint64_t total_bytes;
    const char *(*file_name)(void *job, uint32_t file);
};

struct tp_pool {
    const struct tp_pool_config *config;
    const struct tp_task_list *list;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a worker has ended */
    uint32_t *file_next; /* under lock: next task of each file */
    uint32_t fresh_file; /* under lock: no file before it is untouched */
    unsigned running;    /* under lock */
    bool is_alone;       /* no thread could be had: the caller's works */
    double begin_s;
    enum tp_status status;
    struct tp_error error;
    atomic_bool stop; /* no further task; a running one ends at its next look */
    atomic_bool scan; /* an overflow was found: count, do not write (set by the job) */
    atomic_uint_least64_t done_bytes;
    atomic_uint current_file;
};

enum tp_status tp_pool_run(const struct tp_pool_config *config, const struct tp_task_list *list, struct tp_error *err);

static inline void tp_pool_count(struct tp_pool *pool, uint64_t bytes)
{
    atomic_fetch_add_explicit(&pool->done_bytes, bytes, memory_order_relaxed);
}
static inline bool tp_pool_stopped(struct tp_pool *pool)
{
    return atomic_load_explicit(&pool->stop, memory_order_relaxed);
}

#endif
