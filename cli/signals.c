/* SPDX-License-Identifier: MIT */
/* The command's only mutable global: what a signal handler can reach. */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t caught;
static volatile long caught_ms; /* when; only the handler uses it, and it does not interrupt itself */

/* Tools such as timeout send a signal twice, to the process and to its group: what comes at once is one wish. */
#define ONE_WISH_MS 300

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { STOP_SIGNAL_COUNT = sizeof stop_signals / sizeof stop_signals[0] };

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The first asks to stop in order; one that comes later ends the process as if nobody listened. */
static void on_stop(int signal_number)
{
    int saved_errno = errno;
    if (!caught) {
        caught_ms = now_ms();
        caught = signal_number;
    } else if (now_ms() - caught_ms >= ONE_WISH_MS) {
        signal(signal_number, SIG_DFL);
        raise(signal_number); /* delivered when this handler returns */
    }
    errno = saved_errno;
}

void signals_catch(void)
{
    struct sigaction stop;
    memset(&stop, 0, sizeof stop);
    stop.sa_handler = on_stop;
    stop.sa_flags = SA_RESTART;
    sigemptyset(&stop.sa_mask);
    for (size_t i = 0; i < STOP_SIGNAL_COUNT; i++)
        sigaddset(&stop.sa_mask, stop_signals[i]);
    for (size_t i = 0; i < STOP_SIGNAL_COUNT; i++) {
        struct sigaction inherited;
        if (sigaction(stop_signals[i], NULL, &inherited) == 0 && inherited.sa_handler != SIG_IGN) /* nohup, & */
            sigaction(stop_signals[i], &stop, NULL);
    }
}

int signals_caught(void)
{
    return (int)caught;
}

void signals_ignore_pipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}
