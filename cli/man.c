/* SPDX-License-Identifier: MIT */
/* tensorport --man: the page tensorport(1), made when the program is built. No date: the same source gives the same
 * page. */
#include <string.h>

#include <tensorport/tensorport.h>

#include "document.h"
#include "text.h"

/* Text for roff: hyphens that stay hyphens, backslashes, and no line that begins like a request. An empty line
 * between paragraphs becomes .PP. */
static void put_text(FILE *out, const char *text)
{
    bool line_start = true;
    for (; *text; text++) {
        if (text[0] == '\n' && text[1] == '\n') {
            fputs("\n.PP\n", out);
            text++;
            line_start = true;
            continue;
        }
        if (line_start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\\')
            fputs("\\e", out);
        else
            putc(*text, out);
        line_start = *text == '\n';
    }
}

static void put_option(FILE *out, const struct option_row *row)
{
    char help[1024];
    fputs(".TP\n.B ", out);
    if (row->letter)
        fprintf(out, "\\-%c\\fR, \\fB", row->letter);
    fputs("\\-\\-", out);
    put_text(out, row->name);
    if (row->kind == OPTION_MAYBE)
        fprintf(out, "[=\\fI%s\\fR]", row->argument);
    else if (row->argument)
        fprintf(out, " \\fI%s\\fR", row->argument);
    putc('\n', out);
    document_option_help(help, sizeof help, row);
    put_text(out, help);
    fputs(".\n", out);
}

static void put_options(FILE *out, const struct option_row *rows)
{
    for (const struct option_row *row = option_next_visible(rows); row; row = option_next_visible(row + 1))
        put_option(out, row);
}

static void put_command(FILE *out, const struct command *cmd)
{
    fputs(".SS tensorport ", out);
    put_text(out, cmd->synopsis);
    putc('\n', out);
    put_text(out, cmd->description);
    putc('\n', out);
    if (cmd->operand) {
        fprintf(out, ".TP\n.I %s\n", cmd->operand);
        put_text(out, cmd->operand_help);
        fputs(".\n", out);
    }
    put_options(out, cmd->options);
    fputs(".PP\nExamples:\n.PP\n.nf\n", out);
    put_text(out, cmd->examples);
    fputs(".fi\n", out);
}

/* A group's commands stand for it: one level, no more. */
static void put_commands(FILE *out, const struct command *group)
{
    for (size_t i = 0; group->commands[i]; i++) {
        if (group->commands[i]->commands)
            put_commands(out, group->commands[i]);
        else
            put_command(out, group->commands[i]);
    }
}

static void put_synopses(FILE *out, const struct command *group)
{
    for (size_t i = 0; group->commands[i]; i++) {
        if (group->commands[i]->commands) {
            put_synopses(out, group->commands[i]);
            continue;
        }
        fputs(".B tensorport ", out);
        put_text(out, group->commands[i]->synopsis);
        putc('\n', out);
    }
}

static const struct {
    const char *code, *meaning;
} exit_codes[] = {
    {"0", "done; verify: equal"},
    {"1", "verify found a difference"},
    {"2", "a wrong option, or an output that is already there"},
    {"3", "bad input: a damaged, incomplete or unknown file, a tensor that is not there, values that do not fit"},
    {"4", "the operating system could not read or write"},
    {"5", "out of memory or disk"},
    {"70", "a bug; please report it"},
    {"129, 130, 143", "stopped by SIGHUP, SIGINT or SIGTERM; nothing was written under the output's name"},
};

static const struct {
    const char *name, *meaning;
} variables[] = {
    {"TENSORPORT_CPU", "as --cpu, where that option is not given"},
    {"NO_COLOR", "if not empty, no colour is used"},
    {"TERM", "if it is not set, or dumb, a terminal is taken for a plain file: no bar, no colour"},
    {"COLUMNS", "width of the bar where the terminal does not tell its own"},
};

/* What is read and written at most: beyond it a checkpoint is refused, before anything is written. */
static const struct {
    const char *what;
    uint64_t most;
    const char *unit;
} limits[] = {
    {"a safetensors header; an index", TP_HEADER_MAX_BYTES, "bytes"},
    {"files of a checkpoint, read or written", TP_FILES_MAX, "files, shards and files of chunks alike"},
    {"a tensor's name; a path in the tree", TP_NAME_MAX_BYTES, "bytes"},
    {"a tensor's axes", TP_RANK_MAX, "axes; an Orbax checkpoint takes 32"},
    {"a tensor's size", INT64_MAX, "bytes"},
    {"chunks of an Orbax checkpoint", 1 << 23, "chunks"},
};

static void put_limits(FILE *out)
{
    fputs(".SH LIMITS\nBeyond these a checkpoint is refused, before anything is written.\n", out);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        fputs(".TP\n.B ", out);
        put_text(out, limits[i].what);
        fprintf(out, "\n%s %s.\n", text_count(limits[i].most).s, limits[i].unit);
    }
    fputs(".PP\nThe number of tensors has no limit of its own: a header of the size above names more than a million.\n"
          ".PP\nMemory: the peak is at most what --max-memory says, 32 MiB a worker if it says nothing, and beside it "
          "tables of 512 bytes a tensor, and its name where that is long. The least for one worker is 13 MiB, "
          "with more for weights that are decoded or stored compressed; a smaller --max-memory is refused with the "
          "figure. No size of a tensor, a shard or a model is in this.\n",
          out);
}

static void put_sections(FILE *out)
{
    fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof exit_codes / sizeof exit_codes[0]; i++) {
        fprintf(out, ".TP\n.B %s\n", exit_codes[i].code);
        put_text(out, exit_codes[i].meaning);
        fputs(".\n", out);
    }
    fputs(".SH ENVIRONMENT\n", out);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        fprintf(out, ".TP\n.B %s\n", variables[i].name);
        put_text(out, variables[i].meaning);
        fputs(".\n", out);
    }
    put_limits(out);
    fputs(".SH SIGNALS\nThe first SIGINT, SIGTERM or SIGHUP stops the work in order; the second one ends the process "
          "at once. Nothing half done ever appears under the output's name.\n",
          out);
}

void man_print(FILE *out, const struct command *top)
{
    fprintf(out, ".TH TENSORPORT 1 \"\" \"tensorport %s\" \"User Commands\"\n", TP_VERSION);
    fprintf(out, ".SH NAME\ntensorport \\- %s\n.SH SYNOPSIS\n.nf\n", top->summary);
    put_synopses(out, top);
    fputs(".fi\n.SH DESCRIPTION\n", out);
    put_text(out, top->description);
    fputs("\n.SH OPTIONS\n", out);
    put_options(out, top->options);
    fputs(".SH COMMANDS\n", out);
    put_commands(out, top);
    put_sections(out);
}
