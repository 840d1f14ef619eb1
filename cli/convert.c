/* SPDX-License-Identifier: MIT */
/* tensorport convert: options to a struct, then prepare, look, run, tell. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "map.h"
#include "print.h"
#include "signals.h"
#include "survey.h"
#include "text.h"

/* In the order of the enums of convert.h; the first is the default. */
static const char *const format_choices[] = {"msgpack", "safetensors", "orbax", "jax", NULL};
static const char *const precision_choices[] = {"auto", "float16", "float32", "bfloat16", "keep", NULL};
static const char *const overflow_choices[] = {"error", "saturate", "inf", NULL};
static const char *const oversize_choices[] = {"split", "own-shard", "error", NULL};
static const char *const mxfp4_choices[] = {"in-out", "out-in", NULL};
static const char *const tree_choices[] = {"flat", "nested", "lists", NULL};
static const char *const link_choices[] = {"auto", "hardlink", "symlink", "copy", "in-place", NULL};
static const char *const orbax_choices[] = {"v0", "v1", NULL};

#define AT(member) offsetof(struct convert_args, member)

static const struct option_row rows[] = {
    OPT_SECTION("Input and output"),
    OPT_TEXT('i', "input", "PATH", input,
             "the checkpoint: a folder with or without an index, or one .safetensors file"),
    OPT_TEXT('o', "output", "DIR", output, "the folder to make; it must not be there yet, or be empty"),
    OPT_FLAG(0, "overwrite", overwrite,
             "replace an output that TensorPort made; files that are not its own stay. An unfinished one is started "
             "again, unless --resume is given too"),
    OPT_FLAG(0, "resume", resume,
             "go on from what a run that was stopped has left: each block it wrote is checked and kept; without one, "
             "begin as always"),
    OPT_CHOICE("format", "NAME", format, format_choices,
               "what to write; jax: the directory that the pytree_serialization of jax.experimental loads"),
    OPT_LIST("include", "GLOB", include,
             "take only the tensors whose names match; may be given several times. '*' crosses dots"),
    OPT_LIST("exclude", "GLOB", exclude, "leave out the tensors whose names match; may be given several times"),
    OPT_FLAG(0, "ignore-index", ignore_index,
             "read every .safetensors file of the folder, whatever model.safetensors.index.json says"),

    OPT_SECTION("Maps"),
    OPT_TEXT(0, "map", "MAP", map,
             "names, shapes and layouts as a map says: a preset (tensorport map list) or a file. What it says of its "
             "target's loader (format, precision, step, ...) holds unless an option says otherwise"),
    OPT_TEXT(0, "target", "NAME", target, "the preset of this target for the architecture in config.json"),
    OPT_FLAG(0, "reverse", reverse,
             "the way back: the input is what the map made; writes safetensors under the names of before"),
    OPT_TEXT(
        0, "original", "PATH", original,
        "with --reverse: the checkpoint that the input was made of. What the way back cannot give exactly is taken "
        "from there, where it is still the same"),

    OPT_SECTION("Values"),
    OPT_CHOICE("precision", "DTYPE", precision, precision_choices,
               "what floating-point tensors (F64, F32, F16, BF16) become; integers, booleans and quantised tensors "
               "keep their bytes. auto: float16 for msgpack without a map, else keep"),
    OPT_LIST("keep-dtype", "GLOB", keep_dtype, "leave the dtype of these tensors as it is; may be given several times"),
    OPT_CHOICE("on-overflow", "WHAT", on_overflow, overflow_choices,
               "what to do about values too large for the new dtype: stop and list them, write the largest finite "
               "value, or write infinity"),
    OPT_FLAG(0, "compat", compat, "store dtypes that older readers do not know (some float8, float4) as uint8"),

    OPT_SECTION("Quantised weights"),
    OPT_MAYBE("dequantize", "SCHEME", dequantize,
              "decode quantised weights to plain numbers, in the dtype of --precision (keep: config.json's); otherwise "
              "codes and scales are kept as they are. SCHEME overrules what config.json and the names say"),
    OPT_CHOICE("mxfp4-layout", "AXES", mxfp4_layout, mxfp4_choices,
               "stacked MXFP4 experts as transformers has them, [experts, in, out], or as stored"),
    OPT_FLAG(0, "mxfp4-positive-zero", mxfp4_positive_zero, "MXFP4 code 8 is +0.0; otherwise -0.0"),
    OPT_FLAG(0, "decode-f16-first", decode_f16_first,
             "GPTQ, AWQ: round to the scales' dtype before --precision, as their own packages do"),
    OPT_FLAG(0, "nan-scales", nan_scales, "let a NaN scale make NaN values; otherwise it is an error"),

    OPT_SECTION("Layout"),
    OPT_SIZE("shard-size", shard_size, 1000, 1000000000, "no file is larger: 1.8 (GB), 1800MB, 1.7GiB; default: 1.8"),
    OPT_CHOICE("oversize", "WHAT", oversize, oversize_choices,
               "what to do about an array larger than a shard: split it over several, give it a larger file of its "
               "own, or refuse"),
    OPT_CHOICE("tree", "SHAPE", tree, tree_choices,
               "keys: the tensors' names as they are, dicts nested at their dots, or those with lists where a level's "
               "keys are 0, 1, ..."),
    OPT_TEXT(0, "wrap", "KEYS", wrap, "put the tree under these keys, '/' between them: params/params"),

    OPT_SECTION("Orbax and JAX"),
    OPT_FLAG(0, "zero-copy", zero_copy,
             "arrays that stay as they are refer to the source's own files, which are linked into the output: nothing "
             "is copied"),
    OPT_CHOICE("link", "HOW", link, link_choices,
               "with --zero-copy: hard links, else symbolic ones; one of these; copies; or write beside the originals"),
    OPT_TEXT(0, "min-chunk", "SIZE", min_chunk,
             "with --zero-copy: an array in smaller chunks than this is copied after all; default: 256KiB, 0: none"),
    OPT_SIZE("chunk-bytes", chunk_bytes, 1024, 1, "no chunk is larger, where the shape allows it; default: 32MiB"),
    OPT_TEXT(0, "step", "N", step, "write OUTPUT/N/ITEM, as a CheckpointManager keeps checkpoints"),
    OPT_TEXT(0, "item", "NAME", item, "the item's name; with --step, default: default"),
    OPT_CHOICE("orbax-layout", "V", orbax_layout, orbax_choices,
               "the folder that Orbax's first API writes, or the one of its v1"),
    OPT_FLAG(0, "zarr3", zarr3, "zarr v3 metadata; otherwise v2, which every reader knows"),
    OPT_FLAG(0, "no-ocdbt", no_ocdbt, "plain zarr: a file for each chunk, no database"),
    OPT_FLAG(0, "timestamp", timestamp, "write the time into the metadata; otherwise always the same bytes"),

    OPT_SECTION("Running"),
    OPT_WORKERS,
    OPT_MAX_MEMORY,
    OPT_FLAG(0, "skip-verify", skip_verify, "do not read the result back"),
    OPT_FLAG(0, "sha256", sha256, "add SHA256SUMS, which sha256sum -c checks"),
    OPT_FLAG(0, "sync", sync, "wait until everything is on the disk, to survive a power cut"),
    OPT_CPU,

    OPT_SECTION("Reporting"),
    OPT_FLAG('n', "dry-run", dry_run,
             "print the plan (every array, dtype, shape, file and size, disk and memory needed); write nothing"),
    OPT_PROGRESS,
    OPT_QUIET,
    OPT_JSON,
    OPT_HELP,
    OPT_END,
};

static struct tp_glob_list globs(const struct text_list *list)
{
    return (struct tp_glob_list){.items = (const char *const *)list->items, .count = list->count};
}

/* The original tool's float16 for its format; a copy in the source's own format changes nothing unless asked to. */
static enum tp_precision precision_of(const struct convert_args *args)
{
    if (args->precision > 0)
        return (enum tp_precision)(args->precision - 1);
    return args->format == TP_OUTPUT_FLAX_MSGPACK ? TP_PRECISION_FLOAT16 : TP_PRECISION_KEEP;
}

/* What only Orbax has, or JAX too, and what they have not. False after saying what is wrong. */
static bool check_orbax(const struct convert_args *args)
{
    const struct {
        bool given;
        const char *name;
        bool has_jax; /* too */
    } only[] = {
        {args->zero_copy, "zero-copy", true}, {args->link != 0, "link", true},
        {args->min_chunk, "min-chunk", true}, {args->chunk_bytes, "chunk-bytes", true},
        {args->timestamp, "timestamp", true}, {args->step, "step", false},
        {args->item, "item", false},          {args->orbax_layout != 0, "orbax-layout", false},
        {args->zarr3, "zarr3", false},        {args->no_ocdbt, "no-ocdbt", false},
    };
    bool is_orbax = args->format == TP_OUTPUT_ORBAX, is_jax = args->format == TP_OUTPUT_JAX;
    for (size_t i = 0; i < sizeof only / sizeof *only; i++)
        if (only[i].given && !is_orbax && !(is_jax && only[i].has_jax))
            return print_usage_error("--%s goes with --format orbax%s", only[i].name, only[i].has_jax ? " or jax" : ""),
                   false;
    if ((is_orbax || is_jax) && (args->shard_size || args->oversize))
        return print_usage_error("--%s does not go with --format %s, whose files hold chunks (--chunk-bytes)",
                                 args->shard_size ? "shard-size" : "oversize", format_choices[args->format]),
               false;
    if (args->link != 0 && !args->zero_copy)
        return print_usage_error("--link goes with --zero-copy"), false;
    if (args->min_chunk && !args->zero_copy)
        return print_usage_error("--min-chunk goes with --zero-copy"), false;
    return true;
}

/* False after saying what is wrong. */
static bool orbax_options_of(const struct convert_args *args, struct tp_orbax_options *o)
{
    *o = (struct tp_orbax_options){.chunk_bytes = args->chunk_bytes,
                                   .zarr3 = args->zarr3,
                                   .no_ocdbt = args->no_ocdbt,
                                   .timestamp = args->timestamp,
                                   .has_step = args->step != NULL,
                                   .item = args->item,
                                   .layout = (enum tp_orbax_layout)args->orbax_layout,
                                   .zero_copy = args->zero_copy,
                                   .link = (enum tp_link)args->link};
    if (args->min_chunk && !option_size_parse(args->min_chunk, 1, &o->min_chunk_bytes))
        return print_usage_error("--min-chunk needs a size, such as 256KiB"), false;
    if (args->min_chunk && o->min_chunk_bytes == 0)
        o->min_chunk_bytes = 1;
    if (args->step && (strspn(args->step, "0123456789") != strlen(args->step) || strlen(args->step) > 18))
        return print_usage_error("--step needs a number"), false;
    o->step = args->step ? strtoull(args->step, NULL, 10) : 0;
    return true;
}

static struct tp_convert_options options_of(const struct convert_args *args, const char *cpu, struct bar *bar)
{
    return (struct tp_convert_options){
        .input = args->input,
        .output = args->output,
        .format = (enum tp_output_format)args->format,
        .precision = precision_of(args),
        .on_overflow = (enum tp_overflow)args->on_overflow,
        .oversize = (enum tp_oversize)args->oversize,
        .tree = (enum tp_tree)args->tree,
        .wrap = args->wrap,
        .keep_dtype = globs(&args->keep_dtype),
        .include = globs(&args->include),
        .exclude = globs(&args->exclude),
        .shard_size_bytes = args->shard_size,
        .max_memory_bytes = args->max_memory,
        .workers = args->workers,
        .dequantize = args->dequantize != NULL,
        .dequantize_scheme = args->dequantize && *args->dequantize ? args->dequantize : NULL,
        .mxfp4_out_in = args->mxfp4_layout == 1,
        .mxfp4_positive_zero = args->mxfp4_positive_zero,
        .decode_f16_first = args->decode_f16_first,
        .nan_scales = args->nan_scales,
        .compat = args->compat,
        .ignore_index = args->ignore_index,
        .overwrite = args->overwrite,
        .resume = args->resume,
        .skip_verify = args->skip_verify,
        .sha256 = args->sha256,
        .sync = args->sync,
        .cpu = cpu,
        .progress = bar_progress,
        .progress_user = bar,
    };
}

/* ---- maps ---- */

/* What the user chose himself, and a map therefore does not. */
static unsigned given_by(const struct convert_args *args)
{
    static const struct {
        const char *option;
        unsigned bit;
    } bits[] = {
        {"format", TP_GIVEN_FORMAT}, {"oversize", TP_GIVEN_OVERSIZE},
        {"tree", TP_GIVEN_TREE},     {"wrap", TP_GIVEN_WRAP},
        {"step", TP_GIVEN_STEP},     {"item", TP_GIVEN_ITEM},
        {"zarr3", TP_GIVEN_ZARR3},   {"orbax-layout", TP_GIVEN_ORBAX_LAYOUT},
    };
    unsigned given = args->precision > 0 ? TP_GIVEN_PRECISION : 0; /* "auto" is no choice */
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        if (option_was_seen(&command_convert, &args->seen, bits[i].option))
            given |= bits[i].bit;
    return given;
}

/* --target looks at config.json. Returns 0, or the exit code after saying what is wrong. */
static int open_map(const struct convert_args *args, struct tp_map **map)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err;
    if (args->map && args->target)
        return print_usage_error("--map and --target are two answers to one question; give one");
    if (args->original && !args->reverse)
        return print_usage_error("--original goes with --reverse");
    if (!args->map && !args->target)
        return args->reverse ? print_usage_error("--reverse goes with --map or --target") : 0;
    if (args->target &&
        tp_checkpoint_open(&ck, args->input, &(struct tp_open_options){.ignore_index = args->ignore_index}, &err) !=
            TP_OK)
        return print_error(&err);
    int code = map_choose(map, args->map, args->target, ck);
    tp_checkpoint_close(ck);
    return code;
}

/* The map's part of the options; `args` then say what holds in the end. Returns 0, or the exit code. */
static int take_map(struct convert_args *args, struct tp_convert_options *options, const struct tp_map *map)
{
    struct tp_error err;
    options->map = map;
    options->reverse = args->reverse;
    options->original = args->original;
    if (!map)
        return 0;
    if (tp_convert_options_take_map(options, given_by(args), &err) != TP_OK)
        return print_error(&err);
    args->format = (int)options->format;
    args->precision = 1 + (int)options->precision;
    return 0;
}

/* The two lines that open a run: what is read, what will be written. */
static void say_opening(const struct convert_args *args, const struct tp_conversion *cv)
{
    const struct tp_checkpoint *source = tp_conversion_source(cv);
    const struct tp_model_facts *facts = tp_checkpoint_facts(source);
    uint64_t shard_size = args->shard_size ? args->shard_size : 1800000000;
    uint32_t files = tp_checkpoint_file_count(source);
    uint32_t tensors = tp_checkpoint_tensor_count(source);
    struct tp_plan_totals totals;
    struct survey survey;
    char dtypes[512];
    tp_conversion_totals(cv, &totals);
    survey_take(&survey, source);
    survey_list_dtypes(&survey, dtypes, sizeof dtypes);
    fprintf(stderr, "%s: %s tensor%s in %s file%s, %s (%s)%s%s\n", text_name(tp_checkpoint_path(source)).s,
            text_count(tensors).s, text_s(tensors), text_count(files).s, text_s(files), text_size(survey.bytes).s,
            dtypes, facts->architecture ? ", " : "", facts->architecture ? text_name(facts->architecture).s : "");
    fprintf(stderr, "to %s, %s, ", format_choices[args->format], precision_choices[1 + precision_of(args)]);
    uint32_t own = totals.file_count - totals.linked_file_count;
    if (args->format != TP_OUTPUT_ORBAX && args->format != TP_OUTPUT_JAX)
        fprintf(stderr, "%s shard%s of at most %s", text_count(own).s, text_s(own), text_size(shard_size).s);
    else if (own || !totals.linked_file_count)
        fprintf(stderr, "%s data file%s", text_count(own).s, text_s(own));
    if (totals.linked_file_count)
        fprintf(stderr, "%s%s file%s of the source", own ? " and " : "", text_count(totals.linked_file_count).s,
                text_s(totals.linked_file_count));
    fprintf(stderr, ", %s; %u worker%s, %s\n", text_size(totals.output_bytes).s, totals.workers, text_s(totals.workers),
            text_size(totals.memory_bytes).s);
}

static int run_conversion(const struct convert_args *args, struct tp_conversion *cv, struct bar *bar)
{
    struct tp_convert_report report;
    struct tp_error err;
    int code = 0;
    memset(&report, 0, sizeof report);
    if (!args->quiet)
        say_opening(args, cv);
    enum tp_status status = tp_conversion_run(cv, &report, &err);
    bar_clear(bar);
    if (status == TP_OK) {
        summary_print(args, cv, &report);
    } else if (status == TP_ERR_VALUE && report.value_count > 0) {
        overflow_print(&report);
        code = tp_status_exit_code(status);
    } else {
        code = command_failed(bar, &err, "nothing was written under the name", args->output);
    }
    if (*report.partial_path)
        print_error_line("what is finished is kept in %s; the same command with --resume goes on",
                         text_name(report.partial_path).s);
    tp_convert_report_release(&report);
    return code;
}

static int prepare_and_run(struct convert_args *args, const struct tp_map *map, const char *cpu)
{
    struct tp_conversion *cv = NULL;
    struct tp_error err;
    struct bar bar;
    bar_init(&bar, (enum bar_mode)args->progress, args->quiet);
    struct tp_convert_options options = options_of(args, cpu, &bar);
    if (!orbax_options_of(args, &options.orbax))
        return EXIT_USAGE;
    int code = take_map(args, &options, map);
    if (code)
        return code;
    if (!check_orbax(args))
        return EXIT_USAGE;
    if (tp_conversion_prepare(&cv, &options, &err) != TP_OK)
        return command_failed(&bar, &err, "nothing was written", NULL);
    print_checkpoint_notes(tp_conversion_source(cv));
    code = args->dry_run ? plan_print(args, cv) : run_conversion(args, cv, &bar);
    tp_conversion_free(cv);
    return code;
}

static int convert_run(const void *args_)
{
    struct convert_args all = *(const struct convert_args *)args_, *args = &all;
    struct tp_map *map = NULL;
    const char *cpu;
    if (!args->input || !args->output)
        return print_usage_error("convert needs %s; for example: tensorport convert -i %s -o %s",
                                 args->input    ? "--output"
                                 : args->output ? "--input"
                                                : "--input and --output",
                                 args->input ? text_name(args->input).s : "MODEL",
                                 args->output ? text_name(args->output).s : "MODEL-jax");
    if (!cpu_level_choose(args->cpu, &cpu))
        return EXIT_USAGE;
    signals_catch();
    signals_ignore_pipe();
    int code = open_map(args, &map);
    if (code == 0)
        code = prepare_and_run(args, map, cpu);
    tp_map_free(map);
    return code;
}

const struct command command_convert = {
    .name = "convert",
    .synopsis = "convert --input PATH --output DIR [options]",
    .summary = "write a checkpoint that JAX loads, and read it back to prove it",
    .description = "Converts a safetensors, Orbax or JAX checkpoint to sharded Flax MessagePack, to Orbax, to JAX's "
                   "own directories "
                   "or to safetensors, and reads the result back to prove it. Every name stays as it is. Nothing "
                   "appears under the output's name until all of "
                   "it is there; the source is only "
                   "ever read.",
    .examples = "  tensorport convert -i models/llama -o models/llama-jax\n"
                "  tensorport convert -i models/llama -o out --precision keep --shard-size 5GB\n"
                "  tensorport convert -i model.safetensors -o out --shard-size 1.8 --workers 8\n"
                "  tensorport convert -i models/gpt2 -o out --keep-dtype '*masked_bias'\n"
                "  tensorport convert -i models/llama -o out --dry-run\n"
                "  tensorport convert -i models/llama -o out --target maxtext\n"
                "  tensorport convert -i out -o back --map maxtext/llama --reverse\n",
    .operand_letters = "io",
    .options = rows,
    .args_size = sizeof(struct convert_args),
    .seen_offset = offsetof(struct convert_args, seen),
    .run = convert_run,
};
