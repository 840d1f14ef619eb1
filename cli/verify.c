/* SPDX-License-Identifier: MIT */
/* tensorport verify: is an output what its manifest says, and what its source gives? */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "json.h"
#include "map.h"
#include "print.h"
#include "signals.h"
#include "survey.h"
#include "text.h"

struct verify_args {
    const char *model, *folder; /* by option, or as a word */
    const char *source;
    const char *map, *target, *original;
    const char *cpu;
    uint64_t max_memory;
    int progress;
    unsigned workers;
    bool reverse, quick, verbose, quiet, json, help;
};

#define AT(member) offsetof(struct verify_args, member)

static const struct option_row rows[] = {
    OPT_SECTION("Input"),
    OPT_TEXT('m', "model", "DIR", model, "the folder to verify; may also be given as a plain word"),
    OPT_TEXT('s', "source", "PATH", source,
             "derive every byte again from this checkpoint and compare; needs no manifest"),
    OPT_TEXT(0, "map", "MAP", map,
             "with --source, where there is no manifest.json: the map that makes the one of the other, a preset or a "
             "file"),
    OPT_TEXT(0, "target", "NAME", target, "the preset of this target for the architecture in the source's config.json"),
    OPT_FLAG(0, "reverse", reverse, "with --map: the folder is the way back, made from what the map made"),
    OPT_TEXT(0, "original", "PATH", original, "with --source: what convert was given as --original"),
    OPT_FLAG(0, "quick", quick, "check structure, names and sizes only; do not read the values"),

    OPT_SECTION("Running"),
    OPT_WORKERS,
    OPT_MAX_MEMORY,
    OPT_CPU,

    OPT_SECTION("Reporting"),
    OPT_FLAG('v', "verbose", verbose, "print a table with a row for each array"),
    OPT_PROGRESS,
    OPT_QUIET,
    OPT_JSON,
    OPT_HELP,
    OPT_END,
};

static void say_table(const struct tp_verify_report *r)
{
    size_t width = 5;
    for (uint32_t i = 0; i < r->array_count; i++) {
        size_t columns = text_columns(r->arrays[i].name);
        width = columns > width && columns <= 60 ? columns : width;
    }
    print_cell("array", width);
    printf("%-14s  %-16s  %8s  %12s  %12s  %s\n", "dtype", "shape", "size", "min", "max", "file");
    for (uint32_t i = 0; i < r->array_count; i++) {
        const struct tp_verify_array *a = &r->arrays[i];
        bool known = a->min <= a->max;
        print_cell(a->name, width);
        printf("%-14s  %-16s  %8s  %12s  %12s  %s", tp_dtype_numpy_name(a->dtype), text_shape(a->shape, a->rank).s,
               text_size(a->size_bytes).s, known ? text_value(a->min, 6).s : "-", known ? text_value(a->max, 6).s : "-",
               a->file ? a->file : "-");
        if (a->difference_count)
            printf("  %s difference%s", text_count(a->difference_count).s, text_s(a->difference_count));
        putchar('\n');
    }
}

static void say_equal(const struct verify_args *args, const struct tp_verify_report *r)
{
    printf("%s file%s, %s array%s", text_count(r->file_count).s, text_s(r->file_count), text_count(r->array_count).s,
           text_s(r->array_count));
    if (!args->quick)
        printf(", %s", text_size(r->checked_bytes).s);
    printf(": ");
    if (args->quick) {
        print_toned(TONE_GOOD, r->had_manifest ? "structure, names and sizes as the manifest says" : "structure sound");
        printf("; the values were not read (--quick)");
    } else if (r->had_manifest) {
        print_toned(TONE_GOOD, "equal to the manifest");
    } else {
        printf("no manifest");
    }
    if (r->compared_source) {
        printf("; %s re-derived from %s: ", args->quick ? "names and shapes" : "every byte", text_name(args->source).s);
        print_toned(TONE_GOOD, "equal");
    }
    printf(" (%s)\n", text_seconds(r->elapsed_s).s);
}

static void say_different(const struct verify_args *args, const struct tp_verify_report *r)
{
    char headline[64];
    snprintf(headline, sizeof headline, "%s difference%s", text_count(r->difference_count).s,
             text_s(r->difference_count));
    printf("%s: ", text_name(args->model).s);
    print_toned(TONE_BAD, headline);
    putchar('\n');
    for (size_t i = 0; i < r->difference_shown; i++)
        printf("  %s\n", r->differences[i]);
    if (r->difference_shown < r->difference_count)
        printf("  and %s more\n", text_count(r->difference_count - r->difference_shown).s);
}

static void say_all(const struct verify_args *args, const struct tp_verify_report *r)
{
    for (size_t i = 0; i < r->note_count && !args->quiet; i++)
        print_note("%s", r->notes[i]);
    if (args->verbose)
        say_table(r);
    if (r->difference_count)
        say_different(args, r);
    else if (!args->quiet)
        say_equal(args, r);
}

/* ---- --json ---- */

static void json_lines(struct json *j, const char *key, char *const *lines, size_t count)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < count; i++)
        json_text(j, NULL, lines[i]);
    json_close(j, ']');
}

static void json_arrays(struct json *j, const struct tp_verify_report *r)
{
    json_open(j, "arrays", '[');
    for (uint32_t i = 0; i < r->array_count; i++) {
        const struct tp_verify_array *a = &r->arrays[i];
        bool known = a->min <= a->max;
        json_open(j, NULL, '{');
        json_text(j, "name", a->name);
        json_text(j, "dtype", tp_dtype_numpy_name(a->dtype));
        json_shape(j, "shape", a->shape, a->rank);
        json_count(j, "bytes", a->size_bytes);
        json_number(j, "min", known ? a->min : NAN);
        json_number(j, "max", known ? a->max : NAN);
        json_text(j, "file", a->file);
        json_count(j, "differences", a->difference_count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_all(const struct verify_args *args, const struct tp_verify_report *r)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_text(&j, "tensorport", tp_version());
    json_text(&j, "model", args->model);
    json_text(&j, "source", args->source);
    json_bool(&j, "equal", r->difference_count == 0);
    json_bool(&j, "quick", args->quick);
    json_bool(&j, "had_manifest", r->had_manifest);
    json_bool(&j, "compared_source", r->compared_source);
    json_count(&j, "file_count", r->file_count);
    json_count(&j, "array_count", r->array_count);
    json_count(&j, "checked_bytes", r->checked_bytes);
    json_number(&j, "elapsed_s", r->elapsed_s);
    json_count(&j, "difference_count", r->difference_count);
    json_lines(&j, "differences", r->differences, r->difference_shown);
    json_lines(&j, "notes", r->notes, r->note_count);
    if (args->verbose)
        json_arrays(&j, r);
    json_close(&j, '}');
    putchar('\n');
}

/* ---- the run ---- */

/* --target looks at the source's config.json. Returns 0, or the exit code after saying what is wrong. */
static int open_map(const struct verify_args *args, struct tp_map **map)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err;
    if (args->map && args->target)
        return print_usage_error("--map and --target are two answers to one question; give one");
    if (!args->map && !args->target)
        return args->reverse ? print_usage_error("--reverse goes with --map or --target") : 0;
    if (!args->source)
        return print_usage_error("--%s goes with --source", args->map ? "map" : "target");
    if (args->target && tp_checkpoint_open(&ck, args->source, NULL, &err) != TP_OK)
        return print_error(&err);
    int code = map_choose(map, args->map, args->target, ck);
    tp_checkpoint_close(ck);
    return code;
}

static int run_verification(const struct verify_args *args, const struct tp_map *map, const char *cpu, struct bar *bar)
{
    struct tp_verify_report report;
    struct tp_error err;
    struct tp_verify_options options = {
        .model = args->model,
        .source = args->source,
        .original = args->original,
        .map = map,
        .reverse = args->reverse,
        .quick = args->quick,
        .rows = args->verbose,
        .workers = args->workers,
        .max_memory_bytes = args->max_memory,
        .cpu = cpu,
        .progress = bar_progress,
        .progress_user = bar,
    };
    int code = 0;
    memset(&report, 0, sizeof report);
    if (tp_verify(&options, &report, &err) != TP_OK) {
        code = command_failed(bar, &err, "nothing is known about the rest", NULL);
    } else {
        bar_clear(bar);
        code = report.difference_count ? EXIT_DIFFERENT : 0;
        if (args->json)
            json_all(args, &report);
        else
            say_all(args, &report);
    }
    tp_verify_report_release(&report);
    return code;
}

static int verify_run(const void *args_)
{
    struct verify_args args = *(const struct verify_args *)args_;
    struct tp_map *map = NULL;
    struct bar bar;
    const char *cpu;
    if (args.model && args.folder)
        return print_usage_error("two folders to verify, '%s' and '%s'; the checkpoint to compare with is --source",
                                 text_name(args.model).s, text_name(args.folder).s);
    args.model = args.model ? args.model : args.folder;
    if (!args.model)
        return print_usage_error("verify needs a folder; for example: tensorport verify --model MODEL-jax");
    if (!cpu_level_choose(args.cpu, &cpu))
        return EXIT_USAGE;
    signals_catch();
    bar_init(&bar, (enum bar_mode)args.progress, args.quiet);
    int code = open_map(&args, &map);
    if (code == 0)
        code = run_verification(&args, map, cpu, &bar);
    tp_map_free(map);
    return code;
}

const struct command command_verify = {
    .name = "verify",
    .synopsis = "verify --model DIR [--source PATH] [options]",
    .summary = "compare an output with its manifest, and with its source",
    .description =
        "Reads every file of DIR (MessagePack, Orbax or safetensors) and compares names, dtypes, shapes, places, sizes "
        "and digests with "
        "manifest.json. With --source every byte is derived again from the source checkpoint; that also works for "
        "*.msgpack files and Orbax checkpoints that another program wrote. Exit code 0: equal; 1: different, and the "
        "differences are listed.",
    .examples = "  tensorport verify --model models/llama-jax\n"
                "  tensorport verify --model models/llama-jax --source models/llama\n"
                "  tensorport verify --model models/llama-jax --quick --json\n",
    .operand = "DIR",
    .operand_help = "the folder to verify, in place of --model",
    .operand_offset = offsetof(struct verify_args, folder),
    .options = rows,
    .args_size = sizeof(struct verify_args),
    .run = verify_run,
};
