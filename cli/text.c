/* SPDX-License-Identifier: MIT */
/* Numbers and names as people read them. */
#include "text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <tensorport/tensorport.h>

static const char *const size_units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
static const char *const count_units[] = {"", "k", "M", "B", "T", "Qa", "Qi"};
enum { UNIT_COUNT = 7 };

/* The unit in which `value` has at most three figures before the point, rounding included: 999.6 MB is 1.00 GB. */
static unsigned unit_of(double value, double *scale)
{
    unsigned unit = 0;
    for (*scale = 1; value / *scale >= 999.5 && unit + 1 < UNIT_COUNT; unit++)
        *scale *= 1000;
    return unit;
}

static void three_figures(char *dst, size_t cap, double value, bool whole)
{
    int decimals = whole ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(dst, cap, "%.*f", decimals, value);
}

struct short_text text_size(uint64_t bytes)
{
    struct short_text t;
    char figures[16];
    double scale;
    unsigned unit = unit_of((double)bytes, &scale);
    three_figures(figures, sizeof figures, (double)bytes / scale, unit == 0);
    snprintf(t.s, sizeof t.s, "%s %s", figures, size_units[unit]);
    return t;
}

struct short_text text_count(uint64_t count)
{
    struct short_text t;
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t used = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            t.s[used++] = ',';
        t.s[used++] = digits[i];
    }
    t.s[used] = '\0';
    return t;
}

struct short_text text_about(uint64_t count)
{
    if (count < 1000000)
        return text_count(count);
    struct short_text t;
    char figures[16];
    double scale;
    unsigned unit = unit_of((double)count, &scale);
    three_figures(figures, sizeof figures, (double)count / scale, false);
    snprintf(t.s, sizeof t.s, "%s %s", figures, count_units[unit]);
    return t;
}

struct short_text text_seconds(double seconds)
{
    struct short_text t;
    if (!(seconds >= 0))
        seconds = 0;
    if (seconds > 1e9)
        seconds = 1e9;
    unsigned whole = (unsigned)(seconds + 0.5);
    if (seconds < 0.0995)
        snprintf(t.s, sizeof t.s, "%.0f ms", seconds * 1e3);
    else if (seconds < 59.95)
        snprintf(t.s, sizeof t.s, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(t.s, sizeof t.s, "%u min %u s", whole / 60, whole % 60);
    else
        snprintf(t.s, sizeof t.s, "%u h %02u min", whole / 3600, whole / 60 % 60);
    return t;
}

struct short_text text_rate(uint64_t bytes, double seconds)
{
    if (!(seconds > 0))
        return (struct short_text){"-"};
    double rate = (double)bytes / seconds;
    struct short_text t = text_size(rate < 1e18 ? (uint64_t)rate : (uint64_t)1e18);
    size_t len = strlen(t.s);
    snprintf(t.s + len, sizeof t.s - len, "/s");
    return t;
}

struct short_text text_value(double value, unsigned digits)
{
    struct short_text t;
    snprintf(t.s, sizeof t.s, "%.*g", (int)digits, value);
    return t;
}

struct shape_text text_shape(const uint64_t *shape, unsigned rank)
{
    struct shape_text t;
    size_t used = (size_t)snprintf(t.s, sizeof t.s, "[");
    for (unsigned i = 0; i < rank && used + 26 < sizeof t.s; i++)
        used += (size_t)snprintf(t.s + used, sizeof t.s - used, i ? ", %" PRIu64 : "%" PRIu64, shape[i]);
    snprintf(t.s + used, sizeof t.s - used, "]");
    return t;
}

struct short_text text_lower(const char *text)
{
    struct short_text t;
    size_t i = 0;
    for (; text[i] && i + 1 < sizeof t.s; i++)
        t.s[i] = (char)tolower((unsigned char)text[i]);
    t.s[i] = '\0';
    return t;
}

struct name_text text_name(const char *name)
{
    struct name_text t;
    tp_text_printable(t.s, sizeof t.s, name, strlen(name));
    return t;
}

struct short_text text_progress(uint64_t done, uint64_t total)
{
    struct short_text t;
    char done_figures[16];
    char total_figures[16];
    double scale;
    unsigned unit = unit_of((double)total, &scale);
    three_figures(done_figures, sizeof done_figures, (double)done / scale, unit == 0);
    three_figures(total_figures, sizeof total_figures, (double)total / scale, unit == 0);
    snprintf(t.s, sizeof t.s, "%4s of %s %s", done_figures, total_figures, size_units[unit]);
    return t;
}

const char *text_s(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* Blocks of characters that take two columns: East Asian scripts and emoji. (wcwidth would need a locale.) */
static bool is_wide(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } wide[] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3},   {0xf900, 0xfaff},  {0xfe30, 0xfe6f},
                {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd}};
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        if (c >= wide[i].first && c <= wide[i].last)
            return true;
    }
    return false;
}

size_t text_columns(const char *text)
{
    size_t columns = 0;
    while (*text) {
        uint32_t c = 0;
        size_t step = text_utf8_next(text, &c);
        columns += is_wide(c) ? 2 : 1;
        text += step ? step : 1;
    }
    return columns;
}

size_t text_utf8_next(const char *text, uint32_t *code_point)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t smallest;
    } forms[4] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    const unsigned char *p = (const unsigned char *)text;
    for (size_t extra = 0; extra < 4 && *p; extra++) {
        if ((p[0] & forms[extra].mask) != forms[extra].lead)
            continue;
        uint32_t c = p[0] & (unsigned char)~forms[extra].mask;
        for (size_t i = 1; i <= extra; i++) { /* stops at a terminator: it is no continuation byte */
            if ((p[i] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (p[i] & 0x3fu);
        }
        *code_point = c;
        return c < forms[extra].smallest || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : extra + 1;
    }
    return 0;
}
