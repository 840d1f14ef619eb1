/* SPDX-License-Identifier: MIT */
/* Everything that is told about the options, made from their tables. */
#ifndef CLI_DOCUMENT_H
#define CLI_DOCUMENT_H

#include <stddef.h>
#include <stdio.h>

#include "option.h"

/* The program as a whole: its own options, and its commands (ends with NULL). */
struct program {
    const struct command *top;
    const struct command *const *commands;
};

/* An option's help with its choices: "... Choices: auto (default), always". Written to `dst`, cut at `cap`. */
void document_option_help(char *dst, size_t cap, const struct option_row *row);

void help_print(FILE *out, const struct program *program, const struct command *cmd);
void man_print(FILE *out, const struct program *program);
void completion_print(FILE *out, const struct program *program);

#endif
