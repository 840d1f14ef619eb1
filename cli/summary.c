/* SPDX-License-Identifier: MIT */
/* The end of tensorport convert: what was done, what changed, where it lies. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "commands.h"
#include "json.h"
#include "print.h"
#include "survey.h"
#include "text.h"

enum { VALUE_ROWS_SHOWN = 10, LABEL_WIDTH = 9 };

/* Linux keeps in ru_maxrss what the process that started us had; VmHWM is ours alone. */
static uint64_t peak_rss_bytes(void)
{
    char line[128];
    uint64_t kib = 0;
    struct rusage usage;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && kib == 0 && fgets(line, sizeof line, status)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtoull(line + 6, NULL, 10);
    }
    if (status)
        fclose(status);
    if (kib == 0 && getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_maxrss > 0)
        kib = (uint64_t)usage.ru_maxrss;
    return kib * 1024;
}

static double elapsed(const struct tp_convert_report *r)
{
    return r->convert_s + r->hash_s;
}

static void say_label(const char *label)
{
    print_cell(label, LABEL_WIDTH);
}

static void say_converted(const struct tp_convert_report *r)
{
    say_label("converted");
    if (r->written_bytes == 0 && r->referred_bytes > 0) {
        printf("%s array%s, %s parameters, none of their bytes copied, in %s, %s peak\n", text_count(r->array_count).s,
               text_s(r->array_count), text_about(r->parameter_count).s, text_seconds(elapsed(r)).s,
               text_size(peak_rss_bytes()).s);
        return;
    }
    printf("%s array%s, %s parameters, %s read, %s written in %s (%s), %s peak\n", text_count(r->array_count).s,
           text_s(r->array_count), text_about(r->parameter_count).s, text_size(r->read_bytes).s,
           text_size(r->written_bytes).s, text_seconds(elapsed(r)).s, text_rate(r->written_bytes, elapsed(r)).s,
           text_size(peak_rss_bytes()).s);
}

/* --zero-copy: what was not moved. */
static void say_referred(const struct convert_args *args, const struct tp_convert_report *r)
{
    const char *how = args->link == TP_LINK_IN_PLACE             ? "where they are"
                      : args->link == TP_LINK_COPY               ? "copied"
                      : r->symbolic_count == 0                   ? "hard links"
                      : r->symbolic_count < r->linked_file_count ? "hard and symbolic links"
                                                                 : "symbolic links";
    if (r->linked_file_count == 0)
        return;
    say_label("referred");
    printf("%s in %s file%s of the source (%s)\n", text_size(r->referred_bytes).s, text_count(r->linked_file_count).s,
           text_s(r->linked_file_count), how);
}

static void say_verified(const struct tp_convert_report *r)
{
    say_label("verified");
    if (!r->verified)
        puts("no (--skip-verify)");
    else if (r->linked_file_count)
        printf("what was written, and the header and samples of each file of the source, %s\n",
               text_seconds(r->verify_s).s);
    else
        printf("%s array%s read back equal, %s file%s, %s\n", text_count(r->array_count).s, text_s(r->array_count),
               text_count(r->file_count).s, text_s(r->file_count), text_seconds(r->verify_s).s);
}

static void say_dtypes(const struct tp_convert_report *r)
{
    const char *between = "";
    say_label("dtypes");
    for (int d = 0; d < TP_DTYPE_COUNT; d++) {
        if (r->dtype_count[d] == 0)
            continue;
        printf("%s%s %s (%s)", between, tp_dtype_numpy_name((enum tp_dtype)d), text_count(r->dtype_count[d]).s,
               text_size(r->dtype_bytes[d]).s);
        between = ", ";
    }
    printf("%s\n", *between ? "" : "none");
}

/* Does every value of `from` have an equal one in `to`? */
static bool widens(enum tp_dtype from, enum tp_dtype to)
{
    return to == TP_F64 || (to == TP_F32 && (from == TP_F16 || from == TP_BF16));
}

/* What became of values that did not fit: "saturated" or "became infinite". */
static const char *overflow_verb(const struct convert_args *args)
{
    return args->on_overflow == TP_OVERFLOW_INF ? "became infinite" : "were saturated";
}

static void say_cast(const struct convert_args *args, const struct tp_cast_row *c)
{
    say_label(c->scheme ? "decoded" : "cast");
    printf("%s %s%s %s -> %s, %s value%s: ", text_count(c->array_count).s, c->scheme ? "weight" : "array",
           text_s(c->array_count), c->scheme ? c->scheme : tp_dtype_numpy_name(c->from), tp_dtype_numpy_name(c->to),
           text_about(c->value_count).s, text_s(c->value_count));
    if (c->from == c->to || widens(c->from, c->to)) {
        puts("exact");
        return;
    }
    if (c->flushed_count)
        printf("%s flushed to zero, ", text_count(c->flushed_count).s);
    else
        printf("none flushed to zero, ");
    if (c->overflow_count)
        printf("%s %s\n", text_count(c->overflow_count).s, overflow_verb(args));
    else
        puts("none overflowed");
}

static void say_values(const struct convert_args *args, const struct tp_convert_report *r)
{
    size_t shown = r->value_count < VALUE_ROWS_SHOWN ? r->value_count : VALUE_ROWS_SHOWN;
    size_t name_width = 0;
    for (size_t i = 0; i < shown; i++) {
        size_t columns = text_columns(r->values[i].name);
        name_width = columns > name_width ? columns : name_width;
    }
    for (size_t i = 0; i < shown; i++) {
        const struct tp_value_row *v = &r->values[i];
        say_label("");
        print_cell(v->name, name_width);
        if (v->overflow_count)
            printf("%s %s%s", text_count(v->overflow_count).s, overflow_verb(args), v->flushed_count ? ", " : "");
        if (v->flushed_count)
            printf("%s flushed to zero", text_count(v->flushed_count).s);
        putchar('\n');
    }
    if (shown < r->value_count) {
        say_label("");
        printf("and %s more arrays\n", text_count(r->value_count - shown).s);
    }
}

static void say_casts(const struct convert_args *args, const struct tp_convert_report *r)
{
    bool narrowed = false;
    for (size_t i = 0; i < r->cast_count; i++) {
        say_cast(args, &r->casts[i]);
        narrowed = narrowed || (!r->casts[i].scheme && !widens(r->casts[i].from, r->casts[i].to));
    }
    say_values(args, r);
    if (narrowed) {
        say_label("");
        puts("--precision keep would leave every value as it is");
    }
}

/* Warnings of the source were said when it was opened. */
static bool said_before(const struct tp_checkpoint *source, const char *note)
{
    for (uint32_t i = 0; i < tp_checkpoint_note_count(source); i++) {
        if (strcmp(tp_checkpoint_note(source, i), note) == 0)
            return true;
    }
    return false;
}

static void say_all(const struct convert_args *args, const struct tp_conversion *cv, const struct tp_convert_report *r)
{
    say_converted(r);
    if (r->kept_bytes) {
        say_label("resumed");
        printf("%s of them from the run before\n", text_size(r->kept_bytes).s);
    }
    say_referred(args, r);
    say_dtypes(r);
    say_casts(args, r);
    for (size_t i = 0; i < r->note_count; i++) {
        if (said_before(tp_conversion_source(cv), r->notes[i]))
            continue;
        say_label("note");
        puts(r->notes[i]);
    }
    say_verified(r);
    puts(text_name(r->manifest_path).s);
}

/* ---- --json ---- */

static void json_casts(struct json *j, const struct tp_convert_report *r)
{
    json_open(j, "casts", '[');
    for (size_t i = 0; i < r->cast_count; i++) {
        const struct tp_cast_row *c = &r->casts[i];
        json_open(j, NULL, '{');
        json_text(j, "from", c->scheme ? c->scheme : tp_dtype_numpy_name(c->from));
        json_text(j, "to", tp_dtype_numpy_name(c->to));
        json_count(j, "arrays", c->array_count);
        json_count(j, "values", c->value_count);
        json_count(j, "overflowed", c->overflow_count);
        json_count(j, "flushed", c->flushed_count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_values(struct json *j, const struct tp_convert_report *r)
{
    json_open(j, "values", '[');
    for (size_t i = 0; i < r->value_count; i++) {
        const struct tp_value_row *v = &r->values[i];
        json_open(j, NULL, '{');
        json_text(j, "name", v->name);
        json_text(j, "from", tp_dtype_numpy_name(v->from));
        json_text(j, "to", tp_dtype_numpy_name(v->to));
        json_shape(j, "shape", v->shape, v->rank);
        json_number(j, "min", v->min <= v->max ? v->min : NAN);
        json_number(j, "max", v->min <= v->max ? v->max : NAN);
        json_count(j, "overflowed", v->overflow_count);
        json_count(j, "flushed", v->flushed_count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_dtypes(struct json *j, const struct tp_convert_report *r)
{
    json_open(j, "dtypes", '[');
    for (int d = 0; d < TP_DTYPE_COUNT; d++) {
        if (r->dtype_count[d] == 0)
            continue;
        json_open(j, NULL, '{');
        json_text(j, "dtype", tp_dtype_numpy_name((enum tp_dtype)d));
        json_count(j, "arrays", r->dtype_count[d]);
        json_count(j, "bytes", r->dtype_bytes[d]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_notes(struct json *j, const struct tp_conversion *cv, const struct tp_convert_report *r)
{
    const struct tp_checkpoint *source = tp_conversion_source(cv);
    json_open(j, "warnings", '[');
    for (uint32_t i = 0; i < tp_checkpoint_note_count(source); i++)
        json_text(j, NULL, tp_checkpoint_note(source, i));
    json_close(j, ']');
    json_open(j, "notes", '[');
    for (size_t i = 0; i < r->note_count; i++)
        json_text(j, NULL, r->notes[i]);
    json_close(j, ']');
}

static void json_all(const struct convert_args *args, const struct tp_conversion *cv, const struct tp_convert_report *r)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_text(&j, "tensorport", tp_version());
    json_text(&j, "input", args->input);
    json_text(&j, "output", args->output);
    json_text(&j, "manifest", r->manifest_path);
    json_count(&j, "arrays", r->array_count);
    json_count(&j, "files", r->file_count);
    json_count(&j, "parameters", r->parameter_count);
    json_count(&j, "read_bytes", r->read_bytes);
    json_count(&j, "written_bytes", r->written_bytes);
    if (r->linked_file_count) {
        json_count(&j, "referred_bytes", r->referred_bytes);
        json_count(&j, "linked_files", r->linked_file_count);
        json_count(&j, "symbolic_links", r->symbolic_count);
    }
    if (r->kept_bytes)
        json_count(&j, "kept_bytes", r->kept_bytes);
    json_number(&j, "convert_s", r->convert_s);
    json_number(&j, "hash_s", r->hash_s);
    json_number(&j, "verify_s", r->verify_s);
    json_bool(&j, "verified", r->verified);
    json_count(&j, "workers", r->workers);
    json_count(&j, "peak_rss_bytes", peak_rss_bytes());
    json_dtypes(&j, r);
    json_casts(&j, r);
    json_values(&j, r);
    json_notes(&j, cv, r);
    json_close(&j, '}');
    putchar('\n');
}

void summary_print(const struct convert_args *args, const struct tp_conversion *cv,
                   const struct tp_convert_report *report)
{
    if (args->json)
        json_all(args, cv, report);
    else if (!args->quiet)
        say_all(args, cv, report);
}
