/* SPDX-License-Identifier: MIT */
/* Options as tables. A command is a row with a table of options; the parser, --help, the man page and the completion
 * all read the same rows, so an option exists everywhere or nowhere. */
#ifndef CLI_OPTION_H
#define CLI_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
    OPTION_END,     /* after the last row */
    OPTION_SECTION, /* no option: the heading `name` in the help */
    OPTION_FLAG,    /* bool */
    OPTION_TEXT,    /* const char *, not empty */
    OPTION_CHOICE,  /* int: the place in `choices`, so the first one is the default */
    OPTION_NUMBER,  /* unsigned, from `min` to `max` */
    OPTION_SIZE,    /* uint64_t bytes, at least `min` */
    OPTION_MAYBE,   /* const char *: "" when given without a value, which comes after '=' */
    OPTION_LIST,    /* struct text_list; each use adds one */
};

struct text_list {
    const char **items;
    size_t count;
};

enum { OPTION_ROWS_MAX = 96 };
/* Which rows of a table were used, for commands where that counts, and not the value alone. */
struct option_seen {
    bool row[OPTION_ROWS_MAX];
};

struct option_row {
    enum option_kind kind;
    char letter;                /* 0: none */
    const char *name;           /* long name */
    const char *argument;       /* what the help calls it; NULL for a flag */
    size_t offset;              /* of the member in the command's arguments */
    const char *help;           /* NULL: hidden */
    const char *const *choices; /* ends with NULL */
    uint64_t min, max;
    uint64_t bare_unit; /* SIZE: what a number without a unit counts; 0: the unit must be there */
};

struct command {
    const char *name;
    const char *synopsis;    /* after "tensorport", for usage lines */
    const char *summary;     /* one line */
    const char *description; /* paragraphs, separated by an empty line */
    const char *examples;    /* lines */
    const char *operand;     /* name of the one positional argument, or NULL */
    const char *operand_help;
    size_t operand_offset;            /* const char * */
    const char *operand_letters;      /* no operand: the letters of the options that were probably meant, in order */
    const struct option_row *options; /* ends with OPT_END */
    size_t args_size;
    size_t seen_offset;                    /* struct option_seen; 0: not wanted */
    int (*run)(const void *args);          /* returns the exit code; NULL: a group */
    const struct command *const *commands; /* of a group: ends with NULL. Their names begin with the group's */
};

/* How a table is written. AT(member), which each command's file defines, is the offset in its struct of arguments. */
#define OPT_SECTION(heading)                    \
    {                                           \
        .kind = OPTION_SECTION, .name = heading \
    }
#define OPT_FLAG(short_, long_, member, text)                             \
    {                                                                     \
        OPTION_FLAG, short_, long_, NULL, AT(member), text, NULL, 0, 0, 0 \
    }
#define OPT_TEXT(short_, long_, what, member, text)                       \
    {                                                                     \
        OPTION_TEXT, short_, long_, what, AT(member), text, NULL, 0, 0, 0 \
    }
#define OPT_MAYBE(long_, what, member, text)                          \
    {                                                                 \
        OPTION_MAYBE, 0, long_, what, AT(member), text, NULL, 0, 0, 0 \
    }
#define OPT_LIST(long_, what, member, text)                          \
    {                                                                \
        OPTION_LIST, 0, long_, what, AT(member), text, NULL, 0, 0, 0 \
    }
#define OPT_CHOICE(long_, what, member, choices, text)                    \
    {                                                                     \
        OPTION_CHOICE, 0, long_, what, AT(member), text, choices, 0, 0, 0 \
    }
#define OPT_NUMBER(long_, member, least, most, text)                         \
    {                                                                        \
        OPTION_NUMBER, 0, long_, "N", AT(member), text, NULL, least, most, 0 \
    }
#define OPT_SIZE(long_, member, least, bare, text)                            \
    {                                                                         \
        OPTION_SIZE, 0, long_, "SIZE", AT(member), text, NULL, least, 0, bare \
    }
#define OPT_END            \
    {                      \
        .kind = OPTION_END \
    }

/* Rows that several commands have, for members of the same name. */
#define OPT_WORKERS                         \
    OPT_NUMBER("workers", workers, 1, 4096, \
               "threads that do the work; default: one a CPU. The result does not depend on it")
#define OPT_MAX_MEMORY                                                                                               \
    OPT_SIZE("max-memory", max_memory, 1000000, 0,                                                                   \
             "memory to stay below, such as 64MB, beside half a KiB and the name of each tensor; default: 32 MiB a " \
             "worker")
#define OPT_CPU                                                                                                    \
    OPT_TEXT(                                                                                                      \
        0, "cpu", "LEVEL", cpu,                                                                                    \
        "use slower instructions than this CPU has (scalar, avx2, avx512, neon); the bytes are the same. Also by " \
        "the environment variable TENSORPORT_CPU")
#define OPT_PROGRESS                                                                                                  \
    OPT_CHOICE("progress", "WHEN", progress, progress_choices,                                                        \
               "what to show on standard error: a bar on a terminal and elsewhere a line every ten seconds; the bar " \
               "in any case; nothing; or JSON, one object a line")
#define OPT_QUIET OPT_FLAG('q', "quiet", quiet, "say nothing but warnings, errors and differences")
#define OPT_JSON OPT_FLAG(0, "json", json, "print the result as one JSON object on standard output")
#define OPT_HELP OPT_FLAG('h', "help", help, "show this help and exit")

extern const char *const progress_choices[]; /* auto, always, never, json: in the order of enum bar_mode */

/* Fill `args` (zeroed, of cmd->args_size bytes) from argv[1...]. False after saying on stderr, in one line, what is
 * wrong. With `leading_only` it stops at the first word that is no option. *words is the place of the first word that
 * was not consumed. */
bool option_parse(const struct command *cmd, void *args, int argc, char **argv, bool leading_only, int *words);
void option_release(const struct command *cmd, void *args);

/* Was --NAME given? */
bool option_was_seen(const struct command *cmd, const struct option_seen *seen, const char *name);

/* "1.8" with bare_unit 10^9, "1800MB", "1.7GiB": bytes, rounded down. False if it is no size, or too large. */
bool option_size_parse(const char *text, uint64_t bare_unit, uint64_t *bytes);

/* The first option that is not hidden, from `row` on; NULL at the end of the table. */
const struct option_row *option_next_visible(const struct option_row *row);

#endif
