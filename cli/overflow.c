/* SPDX-License-Identifier: MIT */
/* The end of a conversion that met values too large for their new dtype: every tensor concerned, and what to do. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "print.h"
#include "survey.h"
#include "text.h"

enum { GLOBS_MAX = 3 };

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

/* The name after its last number, ".attn.masked_bias" of "h.11.attn.masked_bias": what all layers have in common. */
static const char *tail_of(const char *name)
{
    const char *tail = name;
    for (const char *at = name; *at; at += *at == '.') {
        size_t len = strcspn(at, ".");
        if (len > 0 && strspn(at, "0123456789") == len && at[len] == '.')
            tail = at + len;
        at += len;
    }
    return tail;
}

/* Options that keep the dtype of all the rows: a glob for each different tail, if they are few; else a general hint. */
static void keep_suggest(char *dst, size_t cap, const struct tp_value_row *rows, size_t count)
{
    const char *tails[GLOBS_MAX];
    size_t tail_count = 0;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const char *tail = tail_of(rows[i].name);
        size_t same = 0;
        while (same < tail_count && strcmp(tails[same], tail) != 0)
            same++;
        if (same == GLOBS_MAX || !plain_for_shell(tail) || strlen(tail) > 100) {
            snprintf(dst, cap, "--keep-dtype GLOB");
            return;
        }
        tail_count += same == tail_count;
        tails[same] = tail;
    }
    for (size_t i = 0; i < tail_count; i++)
        used += (size_t)snprintf(dst + used, cap - used, "%s--keep-dtype '%s%s'", i ? " " : "",
                                 *tails[i] == '.' ? "*" : "", tails[i]);
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
    char keep[512];
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
    keep_suggest(keep, sizeof keep, report->values, count);
    fprintf(stderr, "no output was made. Use --precision %s, %s, or --on-overflow saturate\n",
            bfloat16_helps ? "bfloat16" : "keep", keep);
}
