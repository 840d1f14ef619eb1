/* SPDX-License-Identifier: MIT */
/* tensorport: chooses the command. Everything a command does, it does through the library's public headers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "document.h"
#include "nearest.h"
#include "print.h"
#include "text.h"

struct top_args {
    bool help, version, verbose, man;
    const char *completion;
};

#define AT(member) offsetof(struct top_args, member)

static const struct option_row top_rows[] = {
    OPT_SECTION("Options"),
    OPT_FLAG('h', "help", help, "show this help and exit; tensorport COMMAND --help shows a command's"),
    OPT_FLAG('V', "version", version, "show the version and exit"),
    OPT_FLAG('v', "verbose", verbose, "with --version: the library, the CPU level and the compiler too"),
    OPT_FLAG(0, "man", man, NULL),
    OPT_TEXT(0, "completion", "SHELL", completion, NULL),
    OPT_END,
};

static const struct command *const commands[] = {&command_convert, &command_verify, &command_inspect, &command_map,
                                                 NULL};

static const struct command top = {
    .synopsis = "COMMAND [options]",
    .summary = "convert safetensors checkpoints to checkpoints that JAX loads",
    .description = "Converts Hugging Face safetensors checkpoints to sharded Flax MessagePack, which JAX programs "
                   "load, and proves that the result equals its source.",
    .examples = "  tensorport inspect models/llama\n"
                "  tensorport convert -i models/llama -o models/llama-jax\n"
                "  tensorport verify --model models/llama-jax --source models/llama\n",
    .options = top_rows,
    .args_size = sizeof(struct top_args),
    .commands = commands,
};

static void say_version(bool verbose)
{
    printf("tensorport %s\n", TP_VERSION);
    if (!verbose)
        return;
    printf("library   %s\n", tp_version());
    printf("cpu       %s\n", tp_cpu_level(NULL));
#if defined(__clang__)
    printf("compiler  clang %s\n", __clang_version__);
#elif defined(__GNUC__)
    printf("compiler  gcc %s\n", __VERSION__);
#endif
}

static const struct command *command_find(const struct command *group, const char *word)
{
    for (size_t i = 0; group->commands[i]; i++) {
        if (strcmp(document_last_word(group->commands[i]->name), word) == 0)
            return group->commands[i];
    }
    return NULL;
}

static int say_unknown_command(const struct command *group, const char *word)
{
    const char *name = group->name ? group->name : "", *space = *name ? " " : "";
    struct nearest near;
    nearest_init(&near, word);
    for (size_t i = 0; group->commands[i]; i++)
        nearest_consider(&near, document_last_word(group->commands[i]->name));
    if (near.best[0])
        return print_usage_error("unknown command '%s%s%s'; did you mean '%s%s%s'?", name, space, text_name(word).s,
                                 name, space, near.best[0]);
    return print_usage_error("unknown command '%s%s%s'; see: tensorport%s%s --help", name, space, text_name(word).s,
                             space, name);
}

/* "which command? convert, verify or inspect" */
static int say_no_command(const struct command *group)
{
    char known[200] = "";
    size_t used = 0;
    for (size_t i = 0; group->commands[i] && used < sizeof known; i++) {
        const char *between = i == 0 ? "" : group->commands[i + 1] ? ", " : " or ";
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", between, group->commands[i]->name);
    }
    return print_usage_error("which command? %s; see: tensorport%s%s --help", known, group->name ? " " : "",
                             group->name ? group->name : "");
}

/* Every command's table has a row for --help; where its value lies, the row knows. */
static bool wants_help(const struct command *cmd, const void *args)
{
    for (const struct option_row *row = cmd->options; row->kind != OPTION_END; row++) {
        if (row->letter == 'h')
            return *(const bool *)((const char *)args + row->offset);
    }
    return false;
}

static int command_main(const struct command *cmd, int argc, char **argv)
{
    int words;
    int code = EXIT_USAGE;
    void *args = calloc(1, cmd->args_size);
    if (!args)
        return print_out_of_memory();
    if (option_parse(cmd, args, argc, argv, false, &words)) {
        code = 0;
        if (wants_help(cmd, args))
            help_print(stdout, cmd);
        else if (cmd->commands)
            code = say_no_command(cmd);
        else
            code = cmd->run(args);
    }
    option_release(cmd, args);
    free(args);
    return code;
}

/* argv[0] is the word that names one of the group's commands; in a group within, options may come before the next. */
static int group_main(const struct command *group, int argc, char **argv)
{
    const struct command *cmd = command_find(group, argv[0]);
    if (cmd && cmd->commands && argc > 1 && argv[1][0] != '-')
        return group_main(cmd, argc - 1, argv + 1);
    return cmd ? command_main(cmd, argc, argv) : say_unknown_command(group, argv[0]);
}

/* Options without a command. */
static int top_main(const struct top_args *args)
{
    if (args->help)
        help_print(stdout, &top);
    else if (args->man)
        man_print(stdout, &top);
    else if (args->completion && strcmp(args->completion, "bash") == 0)
        completion_print(stdout, &top);
    else if (args->completion)
        return print_usage_error("--completion knows bash only");
    else if (args->version)
        say_version(args->verbose);
    else
        return say_no_command(&top);
    return 0;
}

static int program_main(int argc, char **argv)
{
    struct top_args args = {.help = false};
    int words;
    if (!option_parse(&top, &args, argc, argv, true, &words))
        return EXIT_USAGE;
    if (words >= argc || args.help || args.version)
        return top_main(&args);
    return group_main(&top, argc - words, argv + words);
}

int main(int argc, char **argv)
{
    print_guard_streams();
    setvbuf(stderr, NULL, _IOLBF, 4096); /* a line of words goes out in one piece */
    return print_finish(program_main(argc, argv));
}
