/* SPDX-License-Identifier: MIT */
/* The command's only mutable global: what a signal handler can reach. */
#include "signals.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

static volatile sig_atomic_t caught;

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { STOP_SIGNAL_COUNT = sizeof stop_signals / sizeof stop_signals[0] };

static void on_stop(int signal_number)
{
    caught = signal_number;
    for (size_t i = 0; i < STOP_SIGNAL_COUNT; i++)
        signal(stop_signals[i], SIG_DFL);
}

void signals_catch(void)
{
    struct sigaction stop;
    memset(&stop, 0, sizeof stop);
    stop.sa_handler = on_stop;
    stop.sa_flags = SA_RESTART;
    sigemptyset(&stop.sa_mask);
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
