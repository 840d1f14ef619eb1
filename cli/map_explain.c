/* SPDX-License-Identifier: MIT */
/* tensorport map explain: the way of one tensor, or how one array is made. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "line.h"
#include "map.h"
#include "nearest.h"
#include "print.h"
#include "text.h"

enum { WAYS_SHOWN = 1 };

struct explain_args {
    const char *name;
    const char *input, *map, *target;
    bool reverse, ignore_index, all, json, help;
};

#define AT(member) offsetof(struct explain_args, member)

static const struct option_row rows[] = {
    OPT_SECTION("Input"),
    OPT_TEXT('i', "input", "PATH", input, "the checkpoint"),
    OPT_TEXT(0, "map", "MAP", map, "a preset or a file"),
    OPT_TEXT(0, "target", "NAME", target, "the preset of this target for the architecture in config.json"),
    OPT_FLAG(0, "reverse", reverse, "the way back: the checkpoint is what the map made"),
    OPT_FLAG(0, "ignore-index", ignore_index,
             "read every .safetensors file of the folder, whatever model.safetensors.index.json says"),

    OPT_SECTION("Reporting"),
    OPT_FLAG('a', "all", all, "of an array every source, not the first one alone"),
    OPT_JSON,
    OPT_HELP,
    OPT_END,
};

/* One copy: source `index` of array `target`. */
struct way {
    uint32_t target, index;
    struct tp_mapping_target array;
    struct tp_mapping_source source;
    struct tp_mapping_way how;
};

static void way_take(struct way *w, const struct map_view *v, uint32_t target, uint32_t index)
{
    w->target = target;
    w->index = index;
    tp_mapping_target_at(v->mapping, target, &w->array);
    tp_mapping_source_at(v->mapping, target, index, &w->source);
    tp_mapping_way_at(v->mapping, target, index, &w->how);
}

/* ---- words ---- */

/* "  reads       l = 3": the second column begins where it begins for all. */
static void say_row(struct line *l, const char *label, const char *text)
{
    line_add(l, "  %-10s  %s", label, text);
    line_end_words(l);
}

static void say_steps(struct line *l, const struct tp_mapping_way *how)
{
    size_t width = 4;
    bool named = false;
    for (uint32_t i = 0; i < how->loop_count; i++) {
        width = strlen(how->loops[i].axis) > width ? strlen(how->loops[i].axis) : width;
        named = named || *how->loops[i].axis;
    }
    if (how->loop_count == 0) {
        say_row(l, "moves", "one element");
        return;
    }
    line_add(l, "  %-10s  %s%*s  %10s  %20s  %20s", "moves", named ? "axis" : "", named ? (int)width - 4 : 0, "",
             "steps", "apart in the source", "apart in the array");
    line_end(l);
    for (uint32_t i = 0; i < how->loop_count; i++) {
        const struct tp_mapping_loop *loop = &how->loops[i];
        line_add(l, "              %-*s  %10s  %20s  %20s", named ? (int)width : 0, loop->axis,
                 text_count(loop->count).s, text_count(loop->source_step).s, text_count(loop->target_step).s);
        line_end(l);
    }
}

static void say_values(struct line *l, const struct tp_mapping_way *how)
{
    char text[160];
    if (!how->multiplies && !how->adds)
        return;
    snprintf(text, sizeof text, "%s%s%s%s%s, rounded after each step", how->multiplies ? "times " : "",
             how->multiplies ? text_value(how->factor, 9).s : "", how->multiplies && how->adds ? ", then " : "",
             how->adds ? "plus " : "", how->adds ? text_value(how->addend, 9).s : "");
    say_row(l, "values", text);
}

static void say_rule(struct line *l, const struct map_view *v, uint32_t rule)
{
    uint32_t line;
    if (rule >= tp_map_rule_count(v->map)) {
        say_row(l, "rule", "none: it is kept under its own name");
        return;
    }
    say_row(l, "rule", map_rule_name(v, rule).s + strlen("rule "));
    say_row(l, "", text_name(tp_map_rule_text(v->map, rule, &line)).s);
}

static void say_tensor(struct line *l, const char *name, enum tp_dtype dtype, const uint64_t *shape, unsigned rank)
{
    line_add(l, "%s  %s  %s", text_name(name).s, tp_dtype_numpy_name(dtype), text_shape(shape, rank).s);
    line_end(l);
}

static void say_way(const struct map_view *v, const struct way *w)
{
    const struct tp_mapping_way *how = &w->how;
    struct line l;
    line_init(&l);
    say_tensor(&l, w->source.name, w->source.dtype, w->source.shape, w->source.rank);
    say_rule(&l, v, w->array.rule);
    if (*how->captures)
        say_row(&l, "reads", text_name(how->captures).s);
    line_add(&l, "  %-10s  ", "becomes");
    say_tensor(&l, w->array.path, w->array.dtype, w->array.shape, w->array.rank);
    if (*w->source.slot)
        say_row(&l, "at", text_name(w->source.slot).s);
    if (how->source_first || how->target_first) {
        char text[160];
        snprintf(text, sizeof text, "element %s of the source, %s of the array", text_count(how->source_first).s,
                 text_count(how->target_first).s);
        say_row(&l, "begins at", text);
    }
    say_steps(&l, how);
    say_values(&l, how);
}

/* ---- --json ---- */

static void json_way(struct json *j, const struct map_view *v, const struct way *w)
{
    uint32_t line = 0;
    bool has_rule = w->array.rule < tp_map_rule_count(v->map);
    json_open(j, NULL, '{');
    json_text(j, "source", w->source.name);
    json_shape(j, "source_shape", w->source.shape, w->source.rank);
    json_text(j, "array", w->array.path);
    json_shape(j, "shape", w->array.shape, w->array.rank);
    json_text(j, "dtype", tp_dtype_numpy_name(w->array.dtype));
    json_text(j, "rule", has_rule ? tp_map_rule_text(v->map, w->array.rule, &line) : NULL);
    json_text(j, "captures", w->how.captures);
    json_text(j, "slot", w->source.slot);
    json_count(j, "source_first", w->how.source_first);
    json_count(j, "array_first", w->how.target_first);
    json_open(j, "loops", '[');
    for (uint32_t i = 0; i < w->how.loop_count; i++) {
        json_open(j, NULL, '{');
        json_text(j, "axis", w->how.loops[i].axis);
        json_count(j, "count", w->how.loops[i].count);
        json_count(j, "source_step", w->how.loops[i].source_step);
        json_count(j, "array_step", w->how.loops[i].target_step);
        json_close(j, '}');
    }
    json_close(j, ']');
    if (w->how.multiplies)
        json_number(j, "mul", w->how.factor);
    if (w->how.adds)
        json_number(j, "add", w->how.addend);
    json_close(j, '}');
}

/* ---- finding it ---- */

static bool is_meant(const struct map_view *v, const char *name, uint32_t target, uint32_t index)
{
    struct tp_mapping_target array;
    struct tp_mapping_source source;
    tp_mapping_target_at(v->mapping, target, &array);
    if (strcmp(array.path, name) == 0)
        return true;
    tp_mapping_source_at(v->mapping, target, index, &source);
    return strcmp(source.name, name) == 0;
}

static void say_more(uint32_t count)
{
    struct line l;
    line_init(&l);
    line_add(&l, "and %" PRIu32 " more source%s; --all shows them", count, text_s(count));
    line_end_words(&l);
}

/* Every copy that the name takes part in; of an array with many sources the first ones. Returns how many there are. */
static uint32_t tell_ways(const struct explain_args *args, const struct map_view *v, struct json *j)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < tp_mapping_target_count(v->mapping); i++) {
        struct tp_mapping_target array;
        uint32_t here = 0;
        tp_mapping_target_at(v->mapping, i, &array);
        for (uint32_t k = 0; k < array.source_count; k++) {
            struct way w;
            if (!is_meant(v, args->name, i, k))
                continue;
            found++;
            if (++here > WAYS_SHOWN && !args->all && !args->json)
                continue;
            way_take(&w, v, i, k);
            if (args->json)
                json_way(j, v, &w);
            else
                say_way(v, &w);
        }
        if (here > WAYS_SHOWN && !args->all && !args->json)
            say_more(here - WAYS_SHOWN);
    }
    return found;
}

/* Tensors' names live as long as the checkpoint, arrays' paths only until the next one is asked for. */
static void say_unknown(const struct map_view *v, const char *name)
{
    uint32_t arrays = tp_mapping_target_count(v->mapping);
    char **paths = calloc((size_t)arrays + 1, sizeof *paths);
    struct nearest near;
    nearest_init(&near, name);
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(v->ck); i++)
        nearest_consider(&near, tp_checkpoint_tensor(v->ck, i)->name);
    for (uint32_t i = 0; paths && i < arrays; i++) {
        struct tp_mapping_target array;
        tp_mapping_target_at(v->mapping, i, &array);
        paths[i] = strdup(array.path);
        if (paths[i])
            nearest_consider(&near, paths[i]);
    }
    if (near.best[0])
        print_error_line("no tensor or array is called '%s'; did you mean '%s'?", text_name(name).s,
                         text_name(near.best[0]).s);
    else
        print_error_line("no tensor or array is called '%s'; tensorport map check lists them", text_name(name).s);
    for (uint32_t i = 0; paths && i < arrays; i++)
        free(paths[i]);
    free(paths);
}

/* Not in any array: a constant, dropped, or not there. */
static int tell_rest(const struct explain_args *args, const struct map_view *v)
{
    for (uint32_t i = 0; i < tp_mapping_target_count(v->mapping); i++) {
        struct tp_mapping_target array;
        tp_mapping_target_at(v->mapping, i, &array);
        if (strcmp(array.path, args->name) != 0)
            continue;
        printf("%s is a constant of the map\n", text_name(args->name).s);
        return 0;
    }
    for (uint32_t i = 0; i < tp_mapping_dropped_count(v->mapping); i++) {
        if (strcmp(tp_mapping_dropped(v->mapping, i), args->name) != 0)
            continue;
        printf("%s is not in the output: a rule drops it\n", text_name(args->name).s);
        return 0;
    }
    say_unknown(v, args->name);
    return EXIT_INPUT;
}

static int tell(const struct explain_args *args, const struct map_view *v)
{
    struct json j = {.out = stdout};
    if (args->json)
        json_open(&j, NULL, '[');
    uint32_t found = tell_ways(args, v, &j);
    if (args->json) {
        json_close(&j, ']');
        putchar('\n');
    }
    return found || args->json ? 0 : tell_rest(args, v);
}

static int explain_run(const void *args_)
{
    const struct explain_args *args = args_;
    struct map_view view;
    if (args->map && args->target)
        return print_usage_error("--map and --target are two answers to one question; give one");
    if (!args->name || !args->input || (!args->map && !args->target))
        return print_usage_error("map explain needs %s; for example: tensorport map explain %s --map MAP -i MODEL",
                                 !args->name    ? "the name of a tensor"
                                 : !args->input ? "--input"
                                                : "--map or --target",
                                 args->name ? text_name(args->name).s : "NAME");
    int code = map_view_open(&view, &(struct map_wish){.input = args->input,
                                                       .map = args->map,
                                                       .target = args->target,
                                                       .reverse = args->reverse,
                                                       .ignore_index = args->ignore_index});
    if (code == 0 && view.error_count) {
        map_say_errors(&view);
        code = EXIT_INPUT;
    } else if (code == 0) {
        code = tell(args, &view);
    }
    map_view_release(&view);
    return code;
}

const struct command command_map_explain = {
    .name = "map explain",
    .synopsis = "map explain NAME --map MAP --input PATH [options]",
    .summary = "one tensor's way through a map: rule, names, place, steps",
    .description = "Shows for one tensor of the checkpoint, or one array of the output, which rule takes it, what the "
                   "rule reads in its name, where it goes, and how its elements are laid out there: for each axis how "
                   "many steps, and how far apart neighbours lie on both sides, in elements.",
    .examples = "  tensorport map explain lm_head.weight --map mine.json -i models/llama\n"
                "  tensorport map explain params/head/kernel --target maxtext -i models/x\n",
    .operand = "NAME",
    .operand_help = "a tensor's name, or an array's path with '/' between its keys",
    .operand_offset = offsetof(struct explain_args, name),
    .options = rows,
    .args_size = sizeof(struct explain_args),
    .run = explain_run,
};
