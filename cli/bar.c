/* SPDX-License-Identifier: MIT */
/* How far the work is. bar_format is the picture (a pure function), the rest is when to show it.
 *
 * The cursor rests at the start of the drawn line, not at its end: when the window shrinks and the terminal folds the
 * line into several, the first of them is still where the cursor is. */
#include "bar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "signals.h"
#include "text.h"

static const double draw_every_s = 0.1;
static const double draw_after_s = 0.3; /* a short run needs no bar */
static const double line_every_s = 10;
static const double json_every_s = 0.5;
static const double smoothing_s = 3;

static const struct {
    const char *name, *label;
} phases[] = {
    [TP_PHASE_CONVERT] = {"convert", ""},          [TP_PHASE_SCAN] = {"scan", "counting overflow"},
    [TP_PHASE_HASH] = {"hash", "hashing"},         [TP_PHASE_VERIFY] = {"verify", "verifying"},
    [TP_PHASE_COMPARE] = {"compare", "comparing"},
};
enum { PHASE_COUNT = sizeof phases / sizeof phases[0] };

/* ---- the picture ---- */

enum field { FIELD_LABEL, FIELD_BAR, FIELD_PERCENT, FIELD_AMOUNT, FIELD_RATE, FIELD_LEFT, FIELD_FILE, FIELD_COUNT };
enum { GAP = 2, BAR_MIN = 6, BAR_GOOD = 18, BAR_MAX = 42, FILE_MIN = 12, RATE_WIDTH = 9, LEFT_WIDTH = 15 };

/* Who gets a place first. */
static const enum field by_importance[] = {FIELD_PERCENT, FIELD_AMOUNT, FIELD_LABEL, FIELD_LEFT,
                                           FIELD_RATE,    FIELD_BAR,    FIELD_FILE};

struct field_text {
    char s[256];
    size_t columns; /* that it takes on the screen; 0: absent */
};

/* At most LEFT_WIDTH columns. */
static void left_format(char *dst, size_t cap, double seconds)
{
    unsigned s = seconds < 3e9 ? (unsigned)(seconds + 0.5) : 3000000000u;
    if (s < 60)
        snprintf(dst, cap, "%u s left", s);
    else if (s < 600)
        snprintf(dst, cap, "%u min %u s left", s / 60, s % 60);
    else if (s < 3600)
        snprintf(dst, cap, "%u min left", s / 60);
    else if (s < 36000)
        snprintf(dst, cap, "%u h %u min left", s / 3600, s / 60 % 60);
    else if (s < 259200)
        snprintf(dst, cap, "%u h left", s / 3600);
    else
        snprintf(dst, cap, "%u days left", s / 86400);
}

static unsigned percent_of(uint64_t done, uint64_t total)
{
    return done >= total ? 100u : (unsigned)((double)done * 100 / (double)total);
}

/* A file's name in printable characters, without the ending that all have. Characters beyond ASCII count as two
 * columns: some are, and a line that is too short does no harm. */
static size_t file_columns(const char *text)
{
    size_t columns = 0;
    for (; *text; text++)
        columns += (unsigned char)*text < 0x80 ? 1u : ((unsigned char)*text & 0xc0) != 0x80 ? 2u : 0u;
    return columns;
}

static void file_format(struct field_text *field, const char *file)
{
    static const char *const endings[] = {".msgpack", ".safetensors"};
    tp_text_printable(field->s, sizeof field->s, file, strlen(file));
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t len = strlen(field->s);
        size_t ending = strlen(endings[i]);
        if (len > ending && strcmp(field->s + len - ending, endings[i]) == 0)
            field->s[len - ending] = '\0';
    }
    field->columns = file_columns(field->s);
}

/* Keep the end of the name, which tells one shard from another: "..010-of-00024". */
static void file_shorten(struct field_text *field, size_t columns)
{
    const char *from = field->s;
    if (field->columns <= columns)
        return;
    while (file_columns(from) + 2 > columns || ((unsigned char)*from & 0xc0) == 0x80)
        from++;
    field->s[0] = field->s[1] = '.';
    memmove(field->s + 2, from, strlen(from) + 1);
    field->columns = file_columns(field->s);
}

static void graphic_format(struct field_text *field, uint64_t done, uint64_t total)
{
    size_t inside = field->columns - 2;
    double share = done < total ? (double)done / (double)total : 1;
    size_t full = (size_t)((double)inside * share);
    field->s[0] = '[';
    memset(field->s + 1, '=', full);
    memset(field->s + 1 + full, ' ', inside - full);
    if (full < inside)
        field->s[1 + full] = '>';
    field->s[inside + 1] = ']';
    field->s[inside + 2] = '\0';
}

/* Every field with its smallest width. Widths do not depend on how far the work is, so that nothing jumps. */
static void fields_fill(struct field_text fields[FIELD_COUNT], const struct bar_view *view)
{
    snprintf(fields[FIELD_LABEL].s, sizeof fields[0].s, "%s", view->label);
    snprintf(fields[FIELD_PERCENT].s, sizeof fields[0].s, "%3u %%", percent_of(view->done, view->total));
    snprintf(fields[FIELD_AMOUNT].s, sizeof fields[0].s, "%s", text_progress(view->done, view->total).s);
    if (view->rate > 0) {
        double left = view->done < view->total ? (double)(view->total - view->done) / view->rate : 0;
        snprintf(fields[FIELD_RATE].s, sizeof fields[0].s, "%s", text_rate((uint64_t)(view->rate * 10), 10).s);
        left_format(fields[FIELD_LEFT].s, sizeof fields[0].s, left);
    }
    for (size_t i = 0; i < FIELD_COUNT; i++)
        fields[i].columns = strlen(fields[i].s);
    fields[FIELD_RATE].columns = RATE_WIDTH;
    fields[FIELD_LEFT].columns = LEFT_WIDTH;
    fields[FIELD_BAR].columns = view->graphic ? BAR_MIN : 0;
    if (view->file)
        file_format(&fields[FIELD_FILE], view->file);
}

static size_t grow(struct field_text *field, size_t wanted, size_t slack)
{
    size_t more = wanted > field->columns ? wanted - field->columns : 0;
    more = more < slack ? more : slack;
    field->columns += more;
    return slack - more;
}

/* Choose what fits and share out what remains: first a bar that can be read, then the name, then a longer bar. */
static void fields_fit(struct field_text fields[FIELD_COUNT], size_t room)
{
    size_t used = 0;
    size_t name_columns = fields[FIELD_FILE].columns;
    fields[FIELD_FILE].columns = name_columns < FILE_MIN ? name_columns : FILE_MIN;
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        struct field_text *field = &fields[by_importance[i]];
        size_t need = field->columns + (used ? GAP : 0);
        if (field->columns > 0 && used + need <= room)
            used += need;
        else
            field->columns = 0;
    }
    size_t slack = room - used;
    if (fields[FIELD_BAR].columns)
        slack = grow(&fields[FIELD_BAR], BAR_GOOD, slack);
    if (fields[FIELD_FILE].columns) {
        slack = grow(&fields[FIELD_FILE], name_columns, slack);
        size_t given = fields[FIELD_FILE].columns;
        fields[FIELD_FILE].columns = name_columns;
        file_shorten(&fields[FIELD_FILE], given);
    }
    if (fields[FIELD_BAR].columns)
        grow(&fields[FIELD_BAR], BAR_MAX, slack);
}

size_t bar_format(char *dst, size_t cap, size_t columns, const struct bar_view *view)
{
    struct field_text fields[FIELD_COUNT];
    size_t used = 0;
    memset(fields, 0, sizeof fields);
    fields_fill(fields, view);
    fields_fit(fields, columns > 0 ? columns - 1 : 0);
    if (fields[FIELD_BAR].columns)
        graphic_format(&fields[FIELD_BAR], view->done, view->total);
    dst[0] = '\0';
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        size_t shown = i == FIELD_FILE ? file_columns(fields[i].s) : strlen(fields[i].s);
        if (fields[i].columns == 0 || used + strlen(fields[i].s) + 32 > cap)
            continue;
        int pad = fields[i].columns > shown ? (int)(fields[i].columns - shown) : 0;
        used += (size_t)snprintf(dst + used, cap - used, "%s%s%*s", used ? "  " : "", fields[i].s, pad, "");
    }
    while (used > 0 && dst[used - 1] == ' ')
        dst[--used] = '\0';
    return used;
}

/* ---- when to show it ---- */

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Asked at every drawing: a window that was resized needs no signal handler. */
static size_t terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *columns = getenv("COLUMNS");
    long width = columns ? strtol(columns, NULL, 10) : 0;
    return width > 0 && width < 10000 ? (size_t)width : 80;
}

static bool in_foreground(void)
{
    pid_t group = tcgetpgrp(STDERR_FILENO);
    return group < 0 || group == getpgrp();
}

void bar_init(struct bar *bar, enum bar_mode mode, bool quiet)
{
    const char *term = getenv("TERM");
    memset(bar, 0, sizeof *bar);
    bar->mode = quiet && mode != BAR_JSON ? BAR_NEVER : mode;
    bar->terminal = isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

static void view_of(struct bar_view *view, const struct bar *bar, const struct tp_progress *p, bool graphic)
{
    *view = (struct bar_view){.label = phases[p->phase].label,
                              .done = p->done_bytes,
                              .total = p->total_bytes,
                              .rate = bar->rate,
                              .file = p->file,
                              .graphic = graphic};
}

/* Clear what is drawn: its line, and those that it was folded into since the window became smaller. Row by row, not
 * with "clear to the end of the screen", which some terminals take for a reason to keep the old text in their history.
 */
static void erase(const struct bar *bar, size_t columns)
{
    fputs("\r\0337\033[K", stderr); /* 7: remember the place; moving down and up again fails on the last row */
    for (size_t folded = columns; folded < bar->drawn_columns; folded += columns)
        fputs("\033[B\033[K", stderr);
    fputs("\0338", stderr);
}

static void draw(struct bar *bar, const struct tp_progress *p, double now)
{
    char line[1024];
    struct bar_view view;
    size_t columns = terminal_columns();
    if (now - bar->drawn_s < draw_every_s || now - bar->begun_s < draw_after_s)
        return;
    if (bar->terminal && !in_foreground())
        return;
    view_of(&view, bar, p, true);
    bar_format(line, sizeof line, columns, &view);
    erase(bar, columns);
    fprintf(stderr, "\033[?7l%s\033[?7h\r", line); /* no wrapping: the window may be smaller than we were told */
    fflush(stderr);
    bar->drawn_columns = file_columns(line);
    bar->drawn_s = now;
}

static void say_line(struct bar *bar, const struct tp_progress *p, double now)
{
    char line[1024];
    struct bar_view view;
    if (now - bar->drawn_s < line_every_s)
        return;
    view_of(&view, bar, p, false);
    bar_format(line, sizeof line, 200, &view);
    fprintf(stderr, "tensorport: %s\n", line);
    bar->drawn_s = now;
}

static void say_json(struct bar *bar, const struct tp_progress *p, double now, bool phase_edge)
{
    struct json j = {.out = stderr};
    if (now - bar->drawn_s < json_every_s && !phase_edge)
        return;
    json_open(&j, NULL, '{');
    json_text(&j, "phase", phases[p->phase].name);
    json_count(&j, "done_bytes", p->done_bytes);
    json_count(&j, "total_bytes", p->total_bytes);
    json_number(&j, "elapsed_s", p->elapsed_s);
    json_number(&j, "bytes_per_s", bar->rate);
    json_text(&j, "file", p->file);
    json_close(&j, '}');
    putc('\n', stderr);
    fflush(stderr);
    bar->drawn_s = now;
}

static void sample_rate(struct bar *bar, const struct tp_progress *p, double now)
{
    double passed = now - bar->sampled_s;
    if (passed < draw_every_s || p->done_bytes < bar->sampled_bytes)
        return;
    double rate = (double)(p->done_bytes - bar->sampled_bytes) / passed;
    bar->rate = bar->rate > 0 ? bar->rate + (rate - bar->rate) * passed / (passed + smoothing_s) : rate;
    bar->sampled_s = now;
    bar->sampled_bytes = p->done_bytes;
}

/* A new phase counts from its own beginning, with its own rate. */
static bool phase_changed(struct bar *bar, const struct tp_progress *p, double now)
{
    if (bar->begun && bar->phase == p->phase)
        return false;
    if (!bar->begun)
        bar->begun_s = bar->drawn_s = now;
    bar->begun = true;
    bar->phase = p->phase;
    bar->sampled_s = now - (p->elapsed_s > 0 ? p->elapsed_s : 0);
    bar->sampled_bytes = 0;
    bar->rate = 0;
    return true;
}

int bar_progress(void *user, const struct tp_progress *p)
{
    struct bar *bar = user;
    double now = clock_s();
    if ((unsigned)p->phase >= PHASE_COUNT)
        return signals_caught();
    bool phase_edge = phase_changed(bar, p, now) || p->done_bytes == p->total_bytes;
    sample_rate(bar, p, now);
    bar->done_bytes = p->done_bytes;
    bar->total_bytes = p->total_bytes;
    if (bar->mode == BAR_JSON)
        say_json(bar, p, now, phase_edge);
    else if (bar->mode == BAR_ALWAYS || (bar->mode == BAR_AUTO && bar->terminal))
        draw(bar, p, now);
    else if (bar->mode == BAR_AUTO)
        say_line(bar, p, now);
    return signals_caught();
}

void bar_clear(struct bar *bar)
{
    if (bar->drawn_columns > 0)
        erase(bar, terminal_columns());
    fflush(stderr);
    bar->drawn_columns = 0;
}

void bar_describe(const struct bar *bar, char *dst, size_t cap)
{
    if (!bar->begun) {
        snprintf(dst, cap, "stopped before any data was read");
        return;
    }
    struct short_text amount = text_progress(bar->done_bytes, bar->total_bytes);
    const char *label = phases[bar->phase].label;
    snprintf(dst, cap, "stopped %s%sat %u %% (%s)", label, *label ? " " : "",
             percent_of(bar->done_bytes, bar->total_bytes), amount.s + strspn(amount.s, " "));
}
