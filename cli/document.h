/* SPDX-License-Identifier: MIT */
/* Everything that is told about the options, made from their tables. */
#ifndef CLI_DOCUMENT_H
#define CLI_DOCUMENT_H

#include <stddef.h>
#include <stdio.h>

#include "option.h"

/* The last word of a command's name: "check" of "map check". */
const char *document_last_word(const char *name);

/* An option's help with its choices: "... Choices: auto (default), always". Written to `dst`, cut at `cap`. */
void document_option_help(char *dst, size_t cap, const struct option_row *row);

/* `top` is the group of all commands: the program. */
void help_print(FILE *out, const struct command *cmd);
void man_print(FILE *out, const struct command *top);
void completion_print(FILE *out, const struct command *top);

#endif
