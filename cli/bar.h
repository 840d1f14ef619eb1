/* SPDX-License-Identifier: MIT */
/* How far the work is, on stderr: a bar on a terminal, else a line every ten seconds, or JSON. It is handed to the
 * library as a tp_progress_fn, and is also where a caught signal becomes "stop". */
#ifndef CLI_BAR_H
#define CLI_BAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tensorport/tensorport.h>

enum bar_mode { BAR_AUTO, BAR_ALWAYS, BAR_NEVER, BAR_JSON }; /* in the order of progress_choices */

struct bar {
    enum bar_mode mode;
    bool terminal;        /* stderr is one that understands escape sequences */
    size_t drawn_columns; /* of what is drawn and must be cleared; 0: nothing */
    bool begun;           /* a report has come */
    enum tp_phase phase;
    double begun_s;   /* clock at the first report */
    double drawn_s;   /* clock at the last drawing, line or object */
    double sampled_s; /* ... and at the last sample of the rate */
    uint64_t sampled_bytes;
    double rate;                      /* bytes a second, smoothed over some three seconds; 0: not known yet */
    uint64_t done_bytes, total_bytes; /* of the last report */
};

void bar_init(struct bar *bar, enum bar_mode mode, bool quiet);
int bar_progress(void *bar, const struct tp_progress *progress); /* the tp_progress_fn */
void bar_clear(struct bar *bar);                                 /* before anything else is printed */

/* "verifying, at 41 % (17.2 of 41.8 GB)", for the line that says where a run was stopped. */
void bar_describe(const struct bar *bar, char *dst, size_t cap);

/* What one drawing shows. */
struct bar_view {
    const char *label; /* of the phase, or "" */
    uint64_t done, total;
    double rate;
    const char *file; /* or NULL */
    bool graphic;     /* with the bar itself */
};

/* One line without its end, at most `columns` - 1 columns wide (a terminal may wrap after the last one). What matters
 * least is left out first: the file, the bar, the rate. Returns its length in bytes. */
size_t bar_format(char *dst, size_t cap, size_t columns, const struct bar_view *view);

#endif
