/* SPDX-License-Identifier: MIT */
/* Runs a target once on each input of its corpus, so that every build and sanitizer can (libFuzzer needs clang).
 *
 *     replay FILE.txt      a corpus: an input a line, the bytes as in a C string (\\ and \xNN); '#' begins a comment
 *     replay FILE...       inputs as they are */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static char *read_all(const char *path, size_t *len)
{
    size_t capacity = 1 << 16;
    char *bytes = malloc(capacity);
    FILE *f = fopen(path, "rb");
    FUZZ_CHECK_SAYS(f && bytes, path);
    for (*len = 0;;) {
        size_t got = fread(bytes + *len, 1, capacity - *len, f);
        *len += got;
        if (got == 0)
            break;
        if (*len == capacity)
            bytes = realloc(bytes, capacity *= 2);
        FUZZ_CHECK(bytes != NULL);
    }
    fclose(f);
    return bytes;
}

/* In memory of just its size, so that a read beyond it is seen. */
static void run(const char *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    FUZZ_CHECK(copy != NULL);
    if (len > 0)
        memcpy(copy, bytes, len);
    (void)LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static unsigned digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(digits, c) : NULL;
    FUZZ_CHECK_SAYS(found, "a digit that is not one of 0 to f, after \\x");
    return (unsigned)(found - digits);
}

/* In place; returns the number of bytes. */
static size_t unescape(char *line, size_t len)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        if (line[i] != '\\') {
            line[used++] = line[i];
        } else if (i + 1 < len && line[i + 1] == '\\') {
            line[used++] = line[++i];
        } else {
            FUZZ_CHECK_SAYS(i + 3 < len && line[i + 1] == 'x', "a backslash without \\ or xNN behind it");
            line[used++] = (char)(digit(line[i + 2]) << 4 | digit(line[i + 3]));
            i += 3;
        }
    }
    return used;
}

static unsigned run_corpus(char *text, size_t len)
{
    unsigned count = 0;
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t line_len = end ? (size_t)(end - text) - at : len - at;
        if (text[at] != '#') {
            run(text + at, unescape(text + at, line_len));
            count++;
        }
        at += line_len + 1;
    }
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        size_t len, name_len = strlen(argv[i]);
        char *bytes = read_all(argv[i], &len);
        if (name_len > 4 && strcmp(argv[i] + name_len - 4, ".txt") == 0) {
            count += run_corpus(bytes, len);
        } else {
            run(bytes, len);
            count++;
        }
        free(bytes);
    }
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1;
}
