/* SPDX-License-Identifier: MIT */
/* The glob matcher against the plainest one there is: a table of which part of the glob matches which part of the
 * text, filled in from the end. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "plan/plan.h"

#define LEN_MAX 96

/* The member of a set at `p`: a range or one byte. Returns where the next one is. */
static const char *member(const char *p, unsigned char *low, unsigned char *high)
{
    bool range = p[1] == '-' && p[2] && p[2] != ']';
    *low = (unsigned char)p[0];
    *high = (unsigned char)p[range ? 2 : 0];
    return p + (range ? 3 : 1);
}

/* Where the set at `glob` ends, or NULL: not closed, so that '[' stands for itself. A ']' in front is a member. */
static const char *set_end(const char *glob, unsigned char c, bool *hit)
{
    unsigned char low, high;
    bool negate = glob[1] == '!' || glob[1] == '^', found = false;
    const char *first = glob + 1 + negate, *p = first;
    while (*p && (p == first || *p != ']')) {
        p = member(p, &low, &high);
        found = found || (low <= c && c <= high);
    }
    *hit = found != negate;
    return *p ? p + 1 : NULL;
}

/* The glob's first element, which is no '*': does it match c, and where does the rest begin? */
static bool element(const char *glob, unsigned char c, const char **rest)
{
    bool hit = false;
    const char *end = *glob == '[' ? set_end(glob, c, &hit) : NULL;
    if (end) {
        *rest = end;
        return hit;
    }
    bool any = *glob == '?', quoted = *glob == '\\' && glob[1];
    *rest = glob + 1 + quoted;
    return any || (unsigned char)glob[quoted] == c;
}

static bool matches(const char *glob, const char *text)
{
    static bool yes[LEN_MAX + 2][LEN_MAX + 2];
    size_t glob_len = strlen(glob), text_len = strlen(text);
    for (size_t g = glob_len + 1; g-- > 0;)
        for (size_t t = text_len + 1; t-- > 0;) {
            const char *rest;
            if (g == glob_len)
                yes[g][t] = t == text_len;
            else if (glob[g] == '*')
                yes[g][t] = yes[g + 1][t] || (t < text_len && yes[g][t + 1]);
            else
                yes[g][t] = t < text_len && element(glob + g, (unsigned char)text[t], &rest) && yes[rest - glob][t + 1];
        }
    return yes[0][0];
}

/* GLOB, a line end, TEXT. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char glob[LEN_MAX + 1] = "", text[LEN_MAX + 1] = "";
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    size_t glob_len = line ? (size_t)(line - data) : size, text_len = line ? size - glob_len - 1 : 0;
    if (glob_len > LEN_MAX || text_len > LEN_MAX)
        return 0;
    if (glob_len > 0)
        memcpy(glob, data, glob_len);
    if (text_len > 0)
        memcpy(text, line + 1, text_len);
    FUZZ_CHECK(tp_glob_match(glob, text) == matches(glob, text));
    return 0;
}
