/* SPDX-License-Identifier: MIT */
/* The command's voice. Results go to stdout, words to stderr; a line of words begins with the program's name. Colour
 * only on a terminal, never without NO_COLOR's consent, and never the only carrier of a meaning. */
#ifndef CLI_PRINT_H
#define CLI_PRINT_H

#include <stdbool.h>
#include <stdio.h>

#include <tensorport/tensorport.h>

#if defined(__GNUC__)
#define CLI_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#else
#define CLI_PRINTF(format_at, args_at)
#endif

enum { EXIT_DIFFERENT = 1, EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_IO = 4, EXIT_SIGNAL = 128 };

/* Make sure that descriptors 0, 1 and 2 are open (to nothing, if the caller closed them), so that no file of a
 * checkpoint is ever opened in their place and written to by a printf. */
void print_guard_streams(void);

/* "tensorport: FACT" on stderr; returns EXIT_USAGE. Text from argv must come through text_name. */
int print_usage_error(const char *fmt, ...) CLI_PRINTF(1, 2);

/* PATH: tensor 'NAME': message, its further lines and the hint indented. Returns the exit code that fits. */
int print_error(const struct tp_error *err);

int print_out_of_memory(void); /* returns the exit code */

/* The first line of an error whose details the caller prints itself. */
void print_error_line(const char *fmt, ...) CLI_PRINTF(1, 2);
void print_warning(const char *fmt, ...) CLI_PRINTF(1, 2);
void print_note(const char *fmt, ...) CLI_PRINTF(1, 2);

/* Warn of everything that the opening of a checkpoint found odd. */
void print_checkpoint_notes(const struct tp_checkpoint *ck);

/* Text, then blanks up to `width` columns; at least two blanks follow unless width is 0. */
void print_cell(const char *text, size_t width);

enum print_tone { TONE_GOOD, TONE_BAD };
/* A word of the result, coloured where colour is welcome. */
void print_toned(enum print_tone tone, const char *text);

/* Flush stdout. Returns `code`, or EXIT_IO after saying why if what was printed could not be written. A reader that
 * went away (a pipe into head) is no error. */
int print_finish(int code);

#endif
