/* SPDX-License-Identifier: MIT */
/* --help: fits 80 columns. */
#include <string.h>

#include "document.h"

enum { HELP_WIDTH = 79, TEXT_COLUMN = 27 };

void document_option_help(char *dst, size_t cap, const struct option_row *row)
{
    size_t used = (size_t)snprintf(dst, cap, "%s", row->help);
    for (size_t i = 0; row->choices && row->choices[i] && used < cap; i++)
        used += (size_t)snprintf(dst + used, cap - used, "%s%s%s", i ? ", " : ". Choices: ", row->choices[i],
                                 i ? "" : " (default)");
}

/* One paragraph, from `column` on in its first line, its others indented to `indent`. Returns the rest of the text. */
static const char *put_paragraph(FILE *out, const char *text, size_t indent, size_t column)
{
    while (*text && *text != '\n') {
        size_t len = strcspn(text, " \n");
        if (column > indent && column + 1 + len > HELP_WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        }
        if (column > indent)
            putc(' ', out);
        fwrite(text, 1, len, out);
        column += len + (column > indent);
        text += len;
        text += strspn(text, " ");
    }
    putc('\n', out);
    return *text ? text + 1 : text;
}

static void put_option(FILE *out, const struct option_row *row)
{
    char left[128];
    char help[1024];
    char letter[5] = "    ";
    if (row->letter)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    size_t used = (size_t)snprintf(left, sizeof left, "  %s--%s%s%s%s", letter, row->name,
                                   row->kind == OPTION_MAYBE ? "[="
                                   : row->argument           ? " "
                                                             : "",
                                   row->argument ? row->argument : "", row->kind == OPTION_MAYBE ? "]" : "");
    document_option_help(help, sizeof help, row);
    if (used + 2 > TEXT_COLUMN)
        fprintf(out, "%s\n%*s", left, TEXT_COLUMN, "");
    else
        fprintf(out, "%-*s", TEXT_COLUMN, left);
    put_paragraph(out, help, TEXT_COLUMN, TEXT_COLUMN);
}

static void put_options(FILE *out, const struct option_row *row)
{
    for (; row->kind != OPTION_END; row++) {
        if (row->kind == OPTION_SECTION)
            fprintf(out, "\n%s:\n", row->name);
        else if (row->help)
            put_option(out, row);
    }
}

const char *document_last_word(const char *name)
{
    const char *space = strrchr(name, ' ');
    return space ? space + 1 : name;
}

void help_print(FILE *out, const struct command *cmd)
{
    fprintf(out, "usage: tensorport %s\n\n", cmd->synopsis);
    for (const char *text = cmd->description; *text;) {
        text = put_paragraph(out, text, 0, 0);
        if (*text == '\n')
            putc(*text++, out);
    }
    if (cmd->commands) {
        fprintf(out, "\nCommands:\n");
        for (size_t i = 0; cmd->commands[i]; i++) {
            fprintf(out, "  %-*s", TEXT_COLUMN - 2, document_last_word(cmd->commands[i]->name));
            put_paragraph(out, cmd->commands[i]->summary, TEXT_COLUMN, TEXT_COLUMN);
        }
    }
    if (cmd->operand) {
        fprintf(out, "\n  %-*s", TEXT_COLUMN - 2, cmd->operand);
        put_paragraph(out, cmd->operand_help, TEXT_COLUMN, TEXT_COLUMN);
    }
    put_options(out, cmd->options);
    fprintf(out, "\nExamples:\n%s", cmd->examples);
}
