/* SPDX-License-Identifier: MIT */
/* Globs on tensor names: bytewise, whatever the locale, and '*' crosses dots. Linear in time and without recursion:
 * only the last '*' ever needs to be tried again. */
#include "plan/plan.h"

/* Match one byte against the set that starts at `set` ("[...]"). Returns the end of the set, NULL if it is not closed.
 */
static const char *match_set(const char *set, unsigned char c, bool *hit)
{
    const char *p = set + 1;
    bool negate = *p == '!' || *p == '^';
    p += negate;
    *hit = false;
    for (bool first = true; *p && (first || *p != ']'); first = false) {
        unsigned char low = (unsigned char)*p++;
        unsigned char high = low;
        if (p[0] == '-' && p[1] && p[1] != ']') {
            high = (unsigned char)p[1];
            p += 2;
        }
        if (c >= low && c <= high)
            *hit = true;
    }
    if (*p != ']')
        return NULL;
    *hit ^= negate;
    return p + 1;
}

/* Match one byte of text against the glob's next element; NULL: no match, else where the glob goes on. */
static const char *match_one(const char *glob, unsigned char c)
{
    if (*glob == '?')
        return glob + 1;
    if (*glob == '[') {
        bool hit;
        const char *end = match_set(glob, c, &hit);
        if (end)
            return hit ? end : NULL;
    }
    if (*glob == '\\' && glob[1])
        glob++;
    return (unsigned char)*glob == c ? glob + 1 : NULL;
}

bool tp_glob_match(const char *glob, const char *text)
{
    const char *star = NULL; /* behind the last '*' */
    const char *retry = NULL;
    while (*text) {
        if (*glob == '*') {
            star = ++glob;
            retry = text;
            continue;
        }
        const char *next = *glob ? match_one(glob, (unsigned char)*text) : NULL;
        if (next) {
            glob = next;
            text++;
        } else if (star) {
            glob = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return *glob == '\0';
}
