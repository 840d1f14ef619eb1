/* SPDX-License-Identifier: MIT */
/* Numbers and names as people read them. Each function returns its text by value, in a struct that can be used
 * inside the printf call that wants it: printf("%s", text_size(n).s). Plain ASCII, whatever the locale; only names
 * may hold other (valid, printable) UTF-8. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct short_text {
    char s[40];
};
struct shape_text {
    char s[1536]; /* 64 axes of 20 digits */
};
struct name_text {
    char s[16384];
};

struct short_text text_size(uint64_t bytes);                        /* 134 B, 1.86 GB: decimal units, three figures */
struct short_text text_count(uint64_t count);                       /* 20,914,757,184 */
struct short_text text_about(uint64_t count);                       /* 999,999, 22.7 M, 20.9 B, 1.03 T */
struct short_text text_seconds(double seconds);                     /* 12 ms, 4.1 s, 3 min 20 s, 2 h 05 min */
struct short_text text_rate(uint64_t bytes, double seconds);        /* 3.10 GB/s; "-" when no time passed */
struct short_text text_value(double value, unsigned digits);        /* 65504, -1e+09, nan */
struct shape_text text_shape(const uint64_t *shape, unsigned rank); /* [201088, 2880] */
struct short_text text_lower(const char *text);
struct name_text text_name(const char *name); /* by tp_text_printable; a very long one is cut */

/* "17.2 of 41.8 GB": both in the unit of `total`, padded so that it keeps its width while `done` grows. */
struct short_text text_progress(uint64_t done, uint64_t total);

/* "1 tensor", "2 tensors": the ending of a count's noun. */
const char *text_s(uint64_t count);

/* Columns that printable UTF-8 text takes on a terminal (accents that are characters of their own are not known). */
size_t text_columns(const char *text);

/* Decode one character of UTF-8; returns the bytes it took, or 0 if there is none (the end, or not UTF-8). */
size_t text_utf8_next(const char *text, uint32_t *code_point);

#endif
