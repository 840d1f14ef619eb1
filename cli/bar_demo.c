/* SPDX-License-Identifier: MIT */
/* The bar without a conversion, for tests.
 *
 *     bar_demo run SECONDS     a conversion of 41.8 GB in 24 files, then its verification, in SECONDS each
 *     bar_demo frames WIDTH    one line for each of many states, as drawn at that width, each within "|" */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bar.h"
#include "signals.h"

static const uint64_t total_bytes = 41800000000;

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int run_phase(struct bar *bar, enum tp_phase phase, double seconds)
{
    double start = clock_s();
    int stop = 0;
    for (double share = 0; share < 1 && !stop;) {
        char file[64];
        double elapsed = clock_s() - start;
        share = elapsed < seconds ? elapsed / seconds : 1;
        snprintf(file, sizeof file, "model-%05d-of-00024.msgpack", share < 1 ? (int)(share * 24) + 1 : 24);
        struct tp_progress progress = {.phase = phase,
                                       .done_bytes = share < 1 ? (uint64_t)(share * (double)total_bytes) : total_bytes,
                                       .total_bytes = total_bytes,
                                       .elapsed_s = elapsed,
                                       .file = file};
        stop = bar_progress(bar, &progress);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return stop;
}

static int run(double seconds, enum bar_mode mode)
{
    struct bar bar;
    char where[256];
    signals_catch();
    bar_init(&bar, mode, false);
    int stop = run_phase(&bar, TP_PHASE_CONVERT, seconds);
    if (!stop)
        stop = run_phase(&bar, TP_PHASE_VERIFY, seconds);
    bar_clear(&bar);
    bar_describe(&bar, where, sizeof where);
    printf("%s\n", stop ? where : "finished");
    return stop ? 128 + stop : 0;
}

static void frames(size_t width)
{
    static const char *const labels[] = {"", "verifying", "counting overflow"};
    static const char *const files[] = {NULL, "model.msgpack", "model-00010-of-00024.msgpack",
                                        "\xe6\xa8\xa1\xe5\x9e\x8b-00001-of-00002.msgpack", "\x1b[31m"};
    static const uint64_t totals[] = {0, 512, 999999, 41800000000, UINT64_MAX};
    static const double rates[] = {0, 1, 3.1e9, 999.4e6, 1e18};
    char line[1024];
    for (size_t i = 0; i < 3 * 5 * 5 * 5 * 4; i++) {
        uint64_t total = totals[i / 15 % 5];
        struct bar_view view = {.label = labels[i % 3],
                                .file = files[i / 3 % 5],
                                .total = total,
                                .done = (uint64_t)((double)total * (double)(i / 375 % 4) / 3.01),
                                .rate = rates[i / 75 % 5],
                                .graphic = true};
        bar_format(line, sizeof line, width, &view);
        printf("|%s|\n", line);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "run") == 0)
        return run(strtod(argv[2], NULL), BAR_AUTO);
    if (argc == 3 && strcmp(argv[1], "always") == 0)
        return run(strtod(argv[2], NULL), BAR_ALWAYS);
    if (argc == 3 && strcmp(argv[1], "json") == 0)
        return run(strtod(argv[2], NULL), BAR_JSON);
    if (argc == 3 && strcmp(argv[1], "frames") == 0) {
        frames(strtoul(argv[2], NULL, 10));
        return 0;
    }
    fprintf(stderr, "usage: bar_demo run|always|json SECONDS | frames WIDTH\n");
    return 2;
}
