/* SPDX-License-Identifier: MIT */
/* Edit distance: insert, delete and replace cost 1, and so does exchanging two neighbours. */
#include "nearest.h"

#include <string.h>

enum { WORD_MAX = 255 }; /* longer names are compared by their last characters, where tensor names differ */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Three rows of the usual table; gives up, with `limit`, once a whole row has reached it. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len, unsigned limit)
{
    unsigned rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *before = rows[(i + 2) % 3];
        const unsigned *before_that = rows[(i + 1) % 3];
        unsigned smallest = now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            now[j] = min3(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before_that[j - 2] + 1 < now[j])
                now[j] = before_that[j - 2] + 1;
            smallest = now[j] < smallest ? now[j] : smallest;
        }
        if (smallest >= limit)
            return limit;
    }
    return rows[a_len % 3][b_len];
}

static const char *last_part(const char *text, size_t *len)
{
    *len = strlen(text);
    const char *start = *len > WORD_MAX ? text + *len - WORD_MAX : text;
    *len = *len > WORD_MAX ? WORD_MAX : *len;
    return start;
}

/* Beyond a third of the word it is no longer a slip of the fingers. */
void nearest_init(struct nearest *n, const char *word)
{
    size_t len;
    memset(n, 0, sizeof *n);
    n->word = last_part(word, &len);
    for (size_t i = 0; i < NEAREST_MAX; i++)
        n->distance[i] = (unsigned)(len / 3 < 2 ? 2 : len / 3) + 1;
}

void nearest_consider(struct nearest *n, const char *candidate)
{
    size_t a_len;
    size_t b_len;
    const char *a = last_part(n->word, &a_len);
    const char *b = last_part(candidate, &b_len);
    unsigned worst = n->distance[NEAREST_MAX - 1];
    unsigned distance = worst;
    if (a_len > 1 && (strncmp(a, b, a_len) == 0 || (a_len > 3 && strstr(candidate, n->word))))
        distance = 1; /* a beginning, or a part, is what people type from memory */
    else if ((a_len > b_len ? a_len - b_len : b_len - a_len) < worst)
        distance = edit_distance(a, a_len, b, b_len, worst);
    if (distance >= worst)
        return;
    size_t place = NEAREST_MAX - 1;
    for (; place > 0 && n->distance[place - 1] > distance; place--) {
        n->distance[place] = n->distance[place - 1];
        n->best[place] = n->best[place - 1];
    }
    n->distance[place] = distance;
    n->best[place] = candidate;
}
