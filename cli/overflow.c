/* SPDX-License-Identifier: MIT */
/* The end of a conversion that met values too large for their new dtype: every tensor concerned, and what to do. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "print.h"
#include "survey.h"
#include "text.h"

static const struct {
    enum tp_dtype dtype;
    const char *largest;
} largest_finite[] = {{TP_F16, "65504"}, {TP_BF16, "3.38953e+38"}, {TP_F32, "3.40282e+38"}};

static double largest_magnitude(const struct tp_value_row *v)
{
    return -v->min > v->max ? v->min : v->max;
}

static bool plain_for_shell(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")] == '\0';
}

/* A glob for all the rows: their common ending from a '.' or '_' on; the name, if there is one; else "GLOB". */
static void glob_suggest(char *dst, size_t cap, const struct tp_value_row *rows, size_t count)
{
    const char *first = rows[0].name;
    size_t ending = strlen(first);
    for (size_t i = 1; i < count; i++) {
        size_t len = strlen(rows[i].name);
        size_t same = 0;
        while (same < ending && same < len && rows[i].name[len - 1 - same] == first[strlen(first) - 1 - same])
            same++;
        ending = same;
    }
    const char *tail = first + strlen(first) - ending;
    bool whole = tail == first;
    while (!whole && *tail && *tail != '.' && *tail != '_')
        tail++;
    if (strlen(tail) < 3 || !plain_for_shell(tail) || strlen(tail) + 4 > cap)
        snprintf(dst, cap, "GLOB");
    else
        snprintf(dst, cap, "'%s%s'", count > 1 || !whole ? "*" : "", tail + (!whole && *tail == '.'));
}

static void say_overflow_headline(const struct tp_value_row *rows, size_t count)
{
    bool same = true;
    for (size_t i = 1; i < count; i++)
        same = same && rows[i].to == rows[0].to;
    const char *largest = "?";
    for (size_t i = 0; i < sizeof largest_finite / sizeof largest_finite[0]; i++) {
        if (largest_finite[i].dtype == rows[0].to)
            largest = largest_finite[i].largest;
    }
    const char *verb = count == 1 ? "holds" : "hold";
    if (same)
        print_error_line("%s tensor%s %s values beyond %s (largest finite %s):", text_count(count).s, text_s(count),
                         verb, tp_dtype_numpy_name(rows[0].to), largest);
    else
        print_error_line("%s tensor%s %s values beyond what they would be cast to:", text_count(count).s, text_s(count),
                         verb);
}

void overflow_print(const struct tp_convert_report *report)
{
    size_t count = 0;
    size_t width = 0;
    size_t shape_width = 0;
    bool bfloat16_helps = true;
    char glob[256];
    for (; count < report->value_count && report->values[count].overflow_count > 0; count++) {
        const struct tp_value_row *v = &report->values[count];
        size_t columns = text_columns(v->name);
        width = columns > width ? columns : width;
        columns = strlen(text_shape(v->shape, v->rank).s);
        shape_width = columns > shape_width ? columns : shape_width;
        bfloat16_helps = bfloat16_helps && v->to == TP_F16 && fabs(largest_magnitude(v)) < 3.38e38;
    }
    if (count == 0) /* not what the interface promises, but then say at least something */
        count = report->value_count;
    say_overflow_headline(report->values, count);
    for (size_t i = 0; i < count; i++) {
        const struct tp_value_row *v = &report->values[i];
        fprintf(stderr, "  %s%*s  %s %-*s  %s value%s, %s%s\n", v->name, (int)(width - text_columns(v->name)), "",
                survey_dtype_name(v->from), (int)shape_width, text_shape(v->shape, v->rank).s,
                text_count(v->overflow_count).s, text_s(v->overflow_count), v->overflow_count == 1 ? "" : "up to ",
                text_value(largest_magnitude(v), 6).s);
    }
    glob_suggest(glob, sizeof glob, report->values, count);
    fprintf(stderr, "no output was made. Use --precision %s, --keep-dtype %s, or --on-overflow saturate\n",
            bfloat16_helps ? "bfloat16" : "keep", glob);
}
