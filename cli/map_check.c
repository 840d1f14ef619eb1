/* SPDX-License-Identifier: MIT */
/* tensorport map check: what a map makes of a checkpoint, or all that is wrong. Headers only. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "line.h"
#include "map.h"
#include "print.h"
#include "text.h"

enum { NAME_WIDTH_MAX = 72, SHAPE_WIDTH_MAX = 24, SOURCES_SHOWN = 4, DROPPED_SHOWN = 20 };

struct check_args {
    const char *word; /* the map, as a plain word */
    const char *input, *map, *target, *against;
    bool reverse, ignore_index, all, json, help;
};

#define AT(member) offsetof(struct check_args, member)

static const struct option_row rows[] = {
    OPT_SECTION("Input"),
    OPT_TEXT('i', "input", "PATH", input, "the checkpoint; of its tensors only names, dtypes and shapes are read"),
    OPT_TEXT(0, "map", "MAP", map, "a preset or a file; may also be given as a plain word"),
    OPT_TEXT(0, "target", "NAME", target, "the preset of this target for the architecture in config.json"),
    OPT_FLAG(0, "reverse", reverse, "the way back: the checkpoint is what the map made"),
    OPT_TEXT(0, "against", "FILE", against,
             "compare with what the target's model wants: a tree.json, as tensorport.tree_json writes it"),
    OPT_FLAG(0, "ignore-index", ignore_index,
             "read every .safetensors file of the folder, whatever model.safetensors.index.json says"),

    OPT_SECTION("Reporting"),
    OPT_FLAG('a', "all", all, "every source of every array, and every tensor that is dropped"),
    OPT_JSON,
    OPT_HELP,
    OPT_END,
};

/* ---- words ---- */

struct widths {
    size_t path, dtype, shape, source;
};

static size_t wider(size_t width, const char *text, size_t most)
{
    size_t columns = text_columns(text);
    return columns > width && columns <= most ? columns : width;
}

static struct widths measure(const struct map_view *v)
{
    struct widths w = {.path = 5, .dtype = 8, .shape = 5, .source = 5};
    for (uint32_t i = 0; i < tp_mapping_target_count(v->mapping); i++) {
        struct tp_mapping_target t;
        tp_mapping_target_at(v->mapping, i, &t);
        w.path = wider(w.path, text_name(t.path).s, NAME_WIDTH_MAX);
        w.dtype = wider(w.dtype, tp_dtype_numpy_name(t.dtype), 20);
        w.shape = wider(w.shape, text_shape(t.shape, t.rank).s, SHAPE_WIDTH_MAX);
        for (uint32_t k = 0; k < t.source_count; k++) {
            struct tp_mapping_source s;
            tp_mapping_source_at(v->mapping, i, k, &s);
            w.source = wider(w.source, text_name(s.name).s, NAME_WIDTH_MAX);
        }
    }
    return w;
}

static void say_source(struct line *l, const struct map_view *v, uint32_t target, uint32_t index, size_t width)
{
    struct tp_mapping_source s;
    tp_mapping_source_at(v->mapping, target, index, &s);
    line_add(l, "    ");
    if (*s.slot)
        line_cell(l, text_name(s.name).s, width);
    line_add(l, "%s", text_name(*s.slot ? s.slot : s.name).s);
    line_end(l);
}

/* All of them, or the first two and the last: hundreds of layers are all alike. */
static void say_sources(struct line *l, const struct map_view *v, uint32_t target, uint32_t count, size_t width,
                        bool all)
{
    uint32_t first = all || count <= SOURCES_SHOWN ? count : 2;
    for (uint32_t i = 0; i < first; i++)
        say_source(l, v, target, i, width);
    if (first == count)
        return;
    line_add(l, "    ... %" PRIu32 " more", count - first - 1);
    line_end(l);
    say_source(l, v, target, count - 1, width);
}

static void say_targets(const struct map_view *v, bool all)
{
    struct widths w = measure(v);
    struct line l;
    line_init(&l);
    line_cell(&l, "array", w.path);
    line_cell(&l, "dtype", w.dtype);
    line_cell(&l, "shape", w.shape);
    line_add(&l, "   size  rule");
    line_end(&l);
    for (uint32_t i = 0; i < tp_mapping_target_count(v->mapping); i++) {
        struct tp_mapping_target t;
        tp_mapping_target_at(v->mapping, i, &t);
        line_cell(&l, text_name(t.path).s, w.path);
        line_cell(&l, tp_dtype_numpy_name(t.dtype), w.dtype);
        line_cell(&l, text_shape(t.shape, t.rank).s, w.shape);
        line_add(&l, "%7s  %s", text_size(t.size_bytes).s, t.source_count ? map_rule_name(v, t.rule).s : "a constant");
        line_end(&l);
        say_sources(&l, v, i, t.source_count, w.source, all);
    }
}

static void say_dropped(const struct map_view *v, bool all)
{
    uint32_t count = tp_mapping_dropped_count(v->mapping);
    uint32_t shown = all || count <= DROPPED_SHOWN ? count : DROPPED_SHOWN;
    struct line l;
    line_init(&l);
    if (count == 0)
        return;
    line_add(&l, "not in the output:");
    line_end(&l);
    for (uint32_t i = 0; i < shown; i++) {
        line_add(&l, "    %s", text_name(tp_mapping_dropped(v->mapping, i)).s);
        line_end(&l);
    }
    if (shown < count) {
        line_add(&l, "    and %s more", text_count(count - shown).s);
        line_end(&l);
    }
}

static void say_headline(const struct map_view *v)
{
    uint32_t tensors = tp_checkpoint_tensor_count(v->ck), arrays = tp_mapping_target_count(v->mapping);
    uint64_t bytes = 0;
    struct line l;
    for (uint32_t i = 0; i < arrays; i++) {
        struct tp_mapping_target t;
        tp_mapping_target_at(v->mapping, i, &t);
        bytes += t.size_bytes;
    }
    line_init(&l);
    line_add(&l, "%s: %s tensor%s of %s become %s array%s, %s", text_name(tp_map_name(v->map)).s, text_count(tensors).s,
             text_s(tensors), text_name(tp_checkpoint_path(v->ck)).s, text_count(arrays).s, text_s(arrays),
             text_size(bytes).s);
    if (v->warning_count)
        line_add(&l, "; %" PRIu32 " warning%s", v->warning_count, text_s(v->warning_count));
    line_end_words(&l);
}

/* ---- --json ---- */

static void json_findings(struct json *j, const char *key, const struct map_view *v, bool errors)
{
    json_open(j, key, '[');
    for (uint32_t i = 0; i < tp_mapping_finding_count(v->mapping); i++) {
        struct tp_mapping_finding finding;
        tp_mapping_finding_at(v->mapping, i, &finding);
        if (finding.is_error != errors)
            continue;
        json_open(j, NULL, '{');
        json_text(j, "code", finding.code);
        json_text(j, "text", finding.text);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_sources(struct json *j, const struct map_view *v, uint32_t target, uint32_t count)
{
    json_open(j, "sources", '[');
    for (uint32_t i = 0; i < count; i++) {
        struct tp_mapping_source s;
        tp_mapping_source_at(v->mapping, target, i, &s);
        json_open(j, NULL, '{');
        json_text(j, "name", s.name);
        json_text(j, "dtype", tp_dtype_numpy_name(s.dtype));
        json_shape(j, "shape", s.shape, s.rank);
        json_text(j, "slot", s.slot);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_rule(struct json *j, const struct map_view *v, uint32_t rule)
{
    uint32_t line;
    if (rule >= tp_map_rule_count(v->map)) {
        json_null(j, "rule");
        return;
    }
    tp_map_rule_text(v->map, rule, &line);
    json_count(j, "rule", rule + 1u);
    json_count(j, "line", line);
}

static void json_targets(struct json *j, const struct map_view *v)
{
    json_open(j, "arrays", '[');
    for (uint32_t i = 0; i < tp_mapping_target_count(v->mapping); i++) {
        struct tp_mapping_target t;
        tp_mapping_target_at(v->mapping, i, &t);
        json_open(j, NULL, '{');
        json_text(j, "path", t.path);
        json_text(j, "dtype", tp_dtype_numpy_name(t.dtype));
        json_shape(j, "shape", t.shape, t.rank);
        json_count(j, "bytes", t.size_bytes);
        json_rule(j, v, t.rule);
        json_sources(j, v, i, t.source_count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_all(const struct map_view *v)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '{');
    json_text(&j, "tensorport", tp_version());
    json_text(&j, "map", tp_map_name(v->map));
    json_text(&j, "input", tp_checkpoint_path(v->ck));
    json_findings(&j, "errors", v, true);
    json_findings(&j, "warnings", v, false);
    json_targets(&j, v);
    json_open(&j, "dropped", '[');
    for (uint32_t i = 0; i < tp_mapping_dropped_count(v->mapping); i++)
        json_text(&j, NULL, tp_mapping_dropped(v->mapping, i));
    json_close(&j, ']');
    json_close(&j, '}');
    putchar('\n');
}

/* ---- the run ---- */

static void say_all(const struct check_args *args, const struct map_view *v)
{
    if (args->json) {
        json_all(v);
    } else if (v->error_count) {
        map_say_errors(v);
    } else {
        say_headline(v);
        map_say_findings(v, false);
        say_targets(v, args->all);
        say_dropped(v, args->all);
    }
}

static int check_run(const void *args_)
{
    const struct check_args *args = args_;
    const char *map = args->map ? args->map : args->word;
    struct map_view view;
    if (args->word && args->map)
        return print_usage_error("two maps to check, '%s' and '%s'", text_name(args->word).s, text_name(args->map).s);
    if (map && args->target)
        return print_usage_error("a map and --target are two answers to one question; give one");
    if (!args->input || (!map && !args->target))
        return print_usage_error("map check needs %s; for example: tensorport map check %s -i MODEL",
                                 args->input ? "a map, or --target" : "--input", map ? text_name(map).s : "MAP");
    int code = map_view_open(&view, &(struct map_wish){.input = args->input,
                                                       .map = map,
                                                       .target = args->target,
                                                       .against = args->against,
                                                       .reverse = args->reverse,
                                                       .ignore_index = args->ignore_index});
    if (code == 0) {
        say_all(args, &view);
        code = view.error_count ? EXIT_INPUT : 0;
    }
    map_view_release(&view);
    return code;
}

const struct command command_map_check = {
    .name = "map check",
    .synopsis = "map check MAP --input PATH [options]",
    .summary = "what a map makes of a checkpoint, or all that is wrong with it",
    .description =
        "Applies a map to the headers of a checkpoint; no value is read, nothing is written. Prints every array that "
        "would be made, with its dtype, shape, size, rule and sources. What does not fit is listed at once, each "
        "finding with its code (docs/mapping.md explains E01 to E14, W01 and W02); exit code 3 where there are errors.",
    .examples = "  tensorport map check mine.json -i models/llama\n"
                "  tensorport map check mine.json -i models/llama --against tree.json\n"
                "  tensorport map check --target maxtext -i models/llama --all\n",
    .operand = "MAP",
    .operand_help = "a preset (tensorport map list) or a file",
    .operand_offset = offsetof(struct check_args, word),
    .options = rows,
    .args_size = sizeof(struct check_args),
    .run = check_run,
};
