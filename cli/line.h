/* SPDX-License-Identifier: MIT */
/* A line of a result on stdout, gathered piece by piece. On a terminal that is too narrow for it, it goes on below,
 * indented, and is parted between its cells; anywhere else it stays one line, whatever its length. */
#ifndef CLI_LINE_H
#define CLI_LINE_H

#include <stddef.h>

#include "print.h"

struct line {
    size_t columns; /* of the terminal; 0: there is none */
    size_t used;
    char s[24576]; /* a name, a shape, a file's name, all escaped; what is beyond is cut */
};

void line_init(struct line *l);
void line_add(struct line *l, const char *fmt, ...) CLI_PRINTF(2, 3);
void line_cell(struct line *l, const char *text, size_t width); /* filled up with blanks; at least two follow */
void line_end(struct line *l);                                  /* prints it; the next one begins */
/* As line_end, for words rather than cells: they are parted at any blank. */
void line_end_words(struct line *l);

#endif
