/* SPDX-License-Identifier: MIT */
/* "Did you mean ...?": of the candidates shown to it, the few that are spelt most like a word. */
#ifndef CLI_NEAREST_H
#define CLI_NEAREST_H

#include <stddef.h>

enum { NEAREST_MAX = 3 };

struct nearest {
    const char *word;
    const char *best[NEAREST_MAX]; /* nearest first; NULL where there are fewer */
    unsigned distance[NEAREST_MAX];
};

void nearest_init(struct nearest *n, const char *word);
void nearest_consider(struct nearest *n, const char *candidate); /* borrowed */

#endif
