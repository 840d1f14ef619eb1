/* SPDX-License-Identifier: MIT */
/* tensorport map: the group, what its commands share, and the two that need no checkpoint. */
#include "map.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "json.h"
#include "line.h"
#include "print.h"
#include "text.h"

/* ---- shared ---- */

int map_choose(struct tp_map **map, const char *name, const char *target, const struct tp_checkpoint *ck)
{
    struct tp_error err;
    enum tp_status status = name ? tp_map_open(map, name, &err) : tp_map_open_for(map, target, ck, &err);
    return status == TP_OK ? 0 : print_error(&err);
}

int map_view_open(struct map_view *view, const struct map_wish *wish)
{
    struct tp_open_options options = {.ignore_index = wish->ignore_index};
    struct tp_mapping_options how = {.reverse = wish->reverse, .against = wish->against};
    struct tp_error err;
    memset(view, 0, sizeof *view);
    if (tp_checkpoint_open(&view->ck, wish->input, &options, &err) != TP_OK)
        return print_error(&err);
    print_checkpoint_notes(view->ck);
    int code = map_choose(&view->map, wish->map, wish->target, view->ck);
    if (code)
        return code;
    if (tp_mapping_make(&view->mapping, view->map, view->ck, &how, &err) != TP_OK)
        return print_error(&err);
    for (uint32_t i = 0; i < tp_mapping_finding_count(view->mapping); i++) {
        struct tp_mapping_finding finding;
        tp_mapping_finding_at(view->mapping, i, &finding);
        view->error_count += finding.is_error;
        view->warning_count += !finding.is_error;
    }
    return 0;
}

void map_view_release(struct map_view *view)
{
    tp_mapping_free(view->mapping);
    tp_map_free(view->map);
    tp_checkpoint_close(view->ck);
}

/* "  E01  3 tensors match no rule:", its further lines below the text. */
static void say_finding(struct line *l, const struct tp_mapping_finding *finding)
{
    const char *text = finding->text;
    for (bool first = true; *text; first = false) {
        size_t len = strcspn(text, "\n");
        line_add(l, "  %-3s  %.*s", first ? finding->code : "", (int)len, text);
        line_end_words(l);
        text += len + (text[len] == '\n');
    }
}

void map_say_findings(const struct map_view *view, bool errors)
{
    struct line l;
    line_init(&l);
    for (uint32_t i = 0; i < tp_mapping_finding_count(view->mapping); i++) {
        struct tp_mapping_finding finding;
        tp_mapping_finding_at(view->mapping, i, &finding);
        if (finding.is_error == errors)
            say_finding(&l, &finding);
    }
}

void map_say_errors(const struct map_view *view)
{
    struct line l;
    line_init(&l);
    line_add(&l, "%s: %" PRIu32 " error%s", text_name(tp_map_name(view->map)).s, view->error_count,
             text_s(view->error_count));
    if (view->warning_count)
        line_add(&l, ", %" PRIu32 " warning%s", view->warning_count, text_s(view->warning_count));
    line_add(&l, "; nothing can be converted with it");
    line_end_words(&l);
    map_say_findings(view, true);
    map_say_findings(view, false);
}

struct map_rule_text map_rule_name(const struct map_view *view, uint32_t rule)
{
    struct map_rule_text text = {"-"};
    uint32_t line;
    if (rule >= tp_map_rule_count(view->map))
        return text;
    tp_map_rule_text(view->map, rule, &line);
    snprintf(text.s, sizeof text.s, "rule %" PRIu32 " (line %" PRIu32 ")", rule + 1, line);
    return text;
}

/* ---- list ---- */

struct list_args {
    const char *target;
    bool json, help;
};

#define AT(member) offsetof(struct list_args, member)
static const struct option_row list_rows[] = {OPT_SECTION("Reporting"), OPT_JSON, OPT_HELP, OPT_END};
#undef AT

static void preset_name(char *dst, size_t cap, const struct tp_preset *preset)
{
    snprintf(dst, cap, "%s/%s", preset->target, preset->family);
}

static bool is_wanted(const struct list_args *args, const struct tp_preset *preset)
{
    return !args->target || strcmp(args->target, preset->target) == 0;
}

static void say_preset(struct line *l, const char *name, size_t width, const struct tp_map *map)
{
    line_cell(l, name, width);
    for (uint32_t i = 0; tp_map_architecture(map, i); i++)
        line_add(l, "%s%s", i ? ", " : "", text_name(tp_map_architecture(map, i)).s);
    line_end(l);
    if (*tp_map_description(map)) {
        line_add(l, "    %s", text_name(tp_map_description(map)).s);
        line_end_words(l);
    }
}

static void json_preset(struct json *j, const struct tp_preset *preset, const char *name, const struct tp_map *map)
{
    json_open(j, NULL, '{');
    json_text(j, "preset", name);
    json_text(j, "target", preset->target);
    json_text(j, "family", preset->family);
    json_text(j, "description", tp_map_description(map));
    json_open(j, "architectures", '[');
    for (uint32_t i = 0; tp_map_architecture(map, i); i++)
        json_text(j, NULL, tp_map_architecture(map, i));
    json_close(j, ']');
    json_count(j, "rules", tp_map_rule_count(map));
    json_close(j, '}');
}

static void say_list_head(struct line *l, size_t width)
{
    line_cell(l, "preset", width);
    line_add(l, "for");
    line_end(l);
}

static int list_all(const struct list_args *args)
{
    struct json j = {.out = stdout};
    struct line l;
    char name[160];
    size_t width = 0;
    for (uint32_t i = 0; i < tp_preset_count(); i++) {
        preset_name(name, sizeof name, tp_preset_get(i));
        width = strlen(name) > width ? strlen(name) : width;
    }
    line_init(&l);
    if (args->json)
        json_open(&j, NULL, '[');
    else
        say_list_head(&l, width);
    for (uint32_t i = 0; i < tp_preset_count(); i++) {
        const struct tp_preset *preset = tp_preset_get(i);
        struct tp_map *map = NULL;
        preset_name(name, sizeof name, preset);
        if (!is_wanted(args, preset))
            continue;
        int code = map_choose(&map, name, NULL, NULL);
        if (code)
            return code;
        if (args->json)
            json_preset(&j, preset, name, map);
        else
            say_preset(&l, name, width, map);
        tp_map_free(map);
    }
    if (args->json) {
        json_close(&j, ']');
        putchar('\n');
    }
    return 0;
}

static int list_run(const void *args_)
{
    const struct list_args *args = args_;
    bool any = !args->target;
    for (uint32_t i = 0; i < tp_preset_count() && !any; i++)
        any = is_wanted(args, tp_preset_get(i));
    if (any)
        return list_all(args);
    struct tp_map *map = NULL;
    struct tp_error err;
    if (tp_map_open(&map, args->target, &err) != TP_OK) /* knows what comes near */
        return print_error(&err);
    tp_map_free(map);
    return print_usage_error("'%s' is one map, not a target", text_name(args->target).s);
}

const struct command command_map_list = {
    .name = "map list",
    .synopsis = "map list [TARGET] [options]",
    .summary = "the maps that come with TensorPort: targets, and families of models",
    .description = "Lists the presets: maps from Hugging Face checkpoints to the trees that JAX projects load, one for "
                   "each target and family of models, with the architectures of config.json they are for. --map takes "
                   "a preset's name; --target its first word, and chooses by config.json.",
    .examples = "  tensorport map list\n"
                "  tensorport map list maxtext\n",
    .operand = "TARGET",
    .operand_help = "only the presets of this target",
    .operand_offset = offsetof(struct list_args, target),
    .options = list_rows,
    .args_size = sizeof(struct list_args),
    .run = list_run,
};

/* ---- show ---- */

struct show_args {
    const char *preset;
    bool help;
};

#define AT(member) offsetof(struct show_args, member)
static const struct option_row show_rows[] = {OPT_SECTION("Options"), OPT_HELP, OPT_END};
#undef AT

static int show_run(const void *args_)
{
    const struct show_args *args = args_;
    struct tp_map *map = NULL;
    char name[160];
    if (!args->preset)
        return print_usage_error("map show needs a preset; tensorport map list has their names");
    for (uint32_t i = 0; i < tp_preset_count(); i++) {
        const struct tp_preset *preset = tp_preset_get(i);
        preset_name(name, sizeof name, preset);
        if (strcmp(name, args->preset) != 0)
            continue;
        fwrite(preset->text, 1, preset->text_len, stdout);
        return 0;
    }
    int code = map_choose(&map, args->preset, NULL, NULL); /* knows what comes near */
    tp_map_free(map);
    return code ? code : print_usage_error("'%s' is a file, not a preset", text_name(args->preset).s);
}

const struct command command_map_show = {
    .name = "map show",
    .synopsis = "map show PRESET",
    .summary = "print a preset's JSON, to be changed or learnt from",
    .description = "Prints a map that comes with TensorPort. Saved to a file and changed it is a map of your own, for "
                   "--map FILE.",
    .examples = "  tensorport map show maxtext/llama\n"
                "  tensorport map show maxtext/llama >mine.json\n",
    .operand = "PRESET",
    .operand_help = "its name, as tensorport map list shows it",
    .operand_offset = offsetof(struct show_args, preset),
    .options = show_rows,
    .args_size = sizeof(struct show_args),
    .run = show_run,
};

/* ---- the group ---- */

struct map_args {
    bool help;
};

#define AT(member) offsetof(struct map_args, member)
static const struct option_row map_rows[] = {OPT_SECTION("Options"), OPT_HELP, OPT_END};

static const struct command *const map_commands[] = {&command_map_list, &command_map_show, &command_map_check,
                                                     &command_map_explain, NULL};

const struct command command_map = {
    .name = "map",
    .synopsis = "map COMMAND [options]",
    .summary = "maps to the trees of JAX projects: list, show, check, explain",
    .description = "A map says, in JSON, how the names and layouts of a checkpoint become those that a JAX project "
                   "loads: convert takes it with --map or --target. docs/mapping.md teaches the language.",
    .examples = "  tensorport map list\n"
                "  tensorport map check mine.json -i models/llama\n"
                "  tensorport convert -i models/llama -o out --map mine.json\n",
    .options = map_rows,
    .args_size = sizeof(struct map_args),
    .commands = map_commands,
};
