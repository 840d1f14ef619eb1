/* SPDX-License-Identifier: MIT */
/* The command line's words, by a table with a row of every kind. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "option.h"
#include "print.h"

#define WORDS_MAX 24

struct args {
    const char *input, *output, *scheme;
    struct text_list globs;
    uint64_t size, memory;
    int choice;
    unsigned number;
    bool flag, help;
};
#define AT(member) offsetof(struct args, member)

static const char *const choices[] = {"float16", "float32", "keep", NULL};
static const struct option_row rows[] = {
    OPT_SECTION("Files"),
    OPT_TEXT('i', "input", "PATH", input, "in"),
    OPT_TEXT('o', "output", "FOLDER", output, "out"),
    OPT_CHOICE("precision", "TYPE", choice, choices, "a type"),
    OPT_MAYBE("dequantize", "SCHEME", scheme, "decode"),
    OPT_LIST("include", "GLOB", globs, "names"),
    OPT_SIZE("shard-size", size, 1000, 1000000000, "a size"),
    OPT_SIZE("max-memory", memory, 1000000, 0, "a size"),
    OPT_NUMBER("workers", number, 1, 4096, "threads"),
    OPT_FLAG('f', "flag", flag, "a flag"),
    OPT_FLAG(0, "hidden", flag, NULL),
    OPT_HELP,
    OPT_END,
};

static const struct command commands[] = {
    {.name = "convert", .operand_letters = "io", .options = rows, .args_size = sizeof(struct args)},
    {.name = "inspect",
     .operand = "PATH",
     .operand_offset = AT(input),
     .options = rows,
     .args_size = sizeof(struct args)},
};

static unsigned complaints;

/* In the place of print.c's. */
int print_usage_error(const char *fmt, ...)
{
    static char text[1 << 16];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    FUZZ_CHECK(len > 0);
    fuzz_check_printable(text, false);
    complaints++;
    return EXIT_USAGE;
}

static void check_values(const struct args *args)
{
    FUZZ_CHECK(args->choice >= 0 && args->choice < 3);
    FUZZ_CHECK(args->number <= 4096);
    FUZZ_CHECK(args->size == 0 || args->size >= 1000);
    FUZZ_CHECK(args->memory == 0 || args->memory >= 1000000);
    for (size_t i = 0; i < args->globs.count; i++)
        FUZZ_CHECK(args->globs.items[i][0] != '\0');
}

/* Words by line ends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    const struct command *cmd = &commands[fuzz_choice(&in, 2)];
    bool leading_only = fuzz_choice(&in, 2) == 1;
    struct args args = {.choice = 0};
    char program[] = "tensorport", *argv[WORDS_MAX + 1] = {program};
    int argc = 1, words = -1;
    char *text = malloc(in.left + 1);
    FUZZ_CHECK(text != NULL);
    if (in.left > 0)
        memcpy(text, in.at, in.left);
    text[in.left] = '\0';
    for (char *p = text; p && argc < WORDS_MAX; argc++) {
        argv[argc] = p;
        p = strchr(p, '\n');
        if (p)
            *p++ = '\0';
    }
    complaints = 0;
    bool ok = option_parse(cmd, &args, argc, argv, leading_only, &words);
    FUZZ_CHECK(complaints == !ok); /* one line says what is wrong, or there is nothing wrong */
    FUZZ_CHECK(!ok || (words > 0 && words <= argc));
    check_values(&args);
    option_release(cmd, &args);
    free(text);
    return 0;
}
