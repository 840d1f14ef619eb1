/* SPDX-License-Identifier: MIT */
/* From argv to a command's arguments: getopt_long does the walking, the table says what each option means. */
#include "option.h"

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "nearest.h"
#include "print.h"
#include "text.h"

enum { OPTION_MAX = 64, LONG_VALUE = 256 /* getopt's value of row i is LONG_VALUE + i */ };

const char *const progress_choices[] = {"auto", "always", "never", "json", NULL};

/* ---- values ---- */

static const struct {
    const char *name;
    uint64_t bytes;
} units[] = {
    {"B", 1},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
};

static bool unit_find(const char *text, uint64_t bare_unit, uint64_t *bytes)
{
    *bytes = bare_unit;
    if (*text == '\0')
        return bare_unit > 0;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        *bytes = units[i].bytes;
        if (strcasecmp(text, units[i].name) == 0)
            return true;
    }
    return false;
}

/* Digits to a number below 10^18; returns how many there were, or 0 if none or too many. */
static size_t digits_parse(const char *text, uint64_t *value)
{
    size_t len = strspn(text, "0123456789");
    *value = 0;
    for (size_t i = 0; i < len && len <= 18; i++)
        *value = *value * 10 + (uint64_t)(text[i] - '0');
    return len <= 18 ? len : 0;
}

bool option_size_parse(const char *text, uint64_t bare_unit, uint64_t *bytes)
{
    static const uint64_t billion = 1000000000;
    uint64_t whole = 0;
    uint64_t fraction = 0; /* billionths */
    uint64_t unit;
    size_t len = digits_parse(text, &whole);
    if (len == 0)
        return false;
    text += len;
    if (*text == '.') {
        len = digits_parse(++text, &fraction);
        if (len == 0 || len > 9)
            return false;
        text += len;
        for (; len < 9; len++)
            fraction *= 10;
    }
    if (!unit_find(text + strspn(text, " "), bare_unit, &unit) || whole > (UINT64_MAX / 4) / unit)
        return false;
    /* fraction * unit / billion without leaving 64 bits */
    *bytes = whole * unit + fraction * (unit / billion) + fraction * (unit % billion) / billion;
    return true;
}

/* A setter writes to `member`, or says what is wrong and returns false. */
typedef bool (*option_setter)(const struct option_row *row, void *member, const char *text);

static bool set_flag(const struct option_row *row, void *member, const char *text)
{
    (void)row;
    (void)text;
    *(bool *)member = true;
    return true;
}

static bool set_text(const struct option_row *row, void *member, const char *text)
{
    if (*text == '\0') {
        print_usage_error("--%s is empty", row->name);
        return false;
    }
    *(const char **)member = text;
    return true;
}

static size_t choice_find(const char *const *choices, const char *text)
{
    size_t i = 0;
    while (choices[i] && strcmp(choices[i], text) != 0)
        i++;
    return i;
}

static void choices_join(char *dst, size_t cap, const char *const *choices)
{
    size_t used = 0;
    dst[0] = '\0';
    for (size_t i = 0; choices[i] && used < cap; i++) {
        const char *between = i == 0 ? "" : choices[i + 1] ? ", " : " or ";
        used += (size_t)snprintf(dst + used, cap - used, "%s%s", between, choices[i]);
    }
}

static bool set_choice(const struct option_row *row, void *member, const char *text)
{
    size_t found = choice_find(row->choices, text);
    if (row->choices[found]) {
        *(int *)member = (int)found;
        return true;
    }
    char there_is[160];
    struct nearest near;
    choices_join(there_is, sizeof there_is, row->choices);
    nearest_init(&near, text);
    for (size_t i = 0; row->choices[i]; i++)
        nearest_consider(&near, row->choices[i]);
    if (near.best[0])
        print_usage_error("--%s '%s' is not one of %s; did you mean '%s'?", row->name, text_name(text).s, there_is,
                          near.best[0]);
    else
        print_usage_error("--%s '%s' is not one of %s", row->name, text_name(text).s, there_is);
    return false;
}

static bool set_number(const struct option_row *row, void *member, const char *text)
{
    uint64_t value;
    size_t len = digits_parse(text, &value);
    if (len == 0 || text[len] != '\0' || value < row->min || value > row->max) {
        print_usage_error("--%s '%s' is not a whole number from %" PRIu64 " to %" PRIu64, row->name, text_name(text).s,
                          row->min, row->max);
        return false;
    }
    *(unsigned *)member = (unsigned)value;
    return true;
}

static bool set_size(const struct option_row *row, void *member, const char *text)
{
    uint64_t bytes;
    if (!option_size_parse(text, row->bare_unit, &bytes)) {
        print_usage_error("--%s '%s' is not a size; write it like %s (units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)",
                          row->name, text_name(text).s, row->bare_unit ? "1.8 (GB), 1800MB or 1.7GiB" : "64MB or 1GiB");
        return false;
    }
    if (bytes < row->min) {
        print_usage_error("--%s '%s' is too small; the least is %s", row->name, text_name(text).s,
                          text_size(row->min).s);
        return false;
    }
    *(uint64_t *)member = bytes;
    return true;
}

static bool set_maybe(const struct option_row *row, void *member, const char *text)
{
    (void)row;
    *(const char **)member = text ? text : "";
    return true;
}

static bool set_list(const struct option_row *row, void *member, const char *text)
{
    struct text_list *list = member;
    const char *one = NULL;
    if (!set_text(row, &one, text))
        return false;
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items) {
        print_usage_error("out of memory");
        return false;
    }
    list->items = items;
    list->items[list->count++] = one;
    return true;
}

static const option_setter setters[] = {
    [OPTION_FLAG] = set_flag, [OPTION_TEXT] = set_text, [OPTION_CHOICE] = set_choice, [OPTION_NUMBER] = set_number,
    [OPTION_SIZE] = set_size, [OPTION_LIST] = set_list, [OPTION_MAYBE] = set_maybe,
};

/* ---- argv ---- */

struct getopt_tables {
    struct option longs[OPTION_MAX + 1];
    char shorts[2 * OPTION_MAX + 4];
};

/* Both begin with ':', so that getopt leaves the words to us; '+' makes it stop at the first word. */
static void tables_build(struct getopt_tables *t, const struct option_row *rows, bool leading_only)
{
    char *s = t->shorts;
    if (leading_only)
        *s++ = '+';
    *s++ = ':';
    size_t count = 0;
    for (size_t i = 0; rows[i].kind != OPTION_END; i++) {
        assert(i < OPTION_ROWS_MAX);
        if (rows[i].kind == OPTION_SECTION)
            continue;
        assert(count < OPTION_MAX);
        int takes = rows[i].kind == OPTION_MAYBE ? optional_argument
                    : rows[i].argument           ? required_argument
                                                 : no_argument;
        t->longs[count++] = (struct option){rows[i].name, takes, NULL, LONG_VALUE + (int)i};
        if (rows[i].letter)
            *s++ = rows[i].letter;
        if (rows[i].letter && rows[i].argument)
            *s++ = ':';
    }
    t->longs[count] = (struct option){NULL, 0, NULL, 0};
    *s = '\0';
}

static const struct option_row *row_of(const struct option_row *rows, int value)
{
    if (value >= LONG_VALUE)
        return &rows[value - LONG_VALUE];
    while (rows->kind != OPTION_END && (value == 0 || rows->letter != value))
        rows++;
    return rows->kind != OPTION_END ? rows : NULL;
}

static void say_unknown(const struct command *cmd, const char *word, int letter)
{
    const char *help = cmd->name ? cmd->name : "";
    const char *space = cmd->name ? " " : "";
    if (letter) {
        char text[2] = {(char)letter, '\0'};
        print_usage_error("unknown option '-%s'; see: tensorport%s%s --help", text_name(text).s, space, help);
        return;
    }
    char typed[128];
    struct nearest near;
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    nearest_init(&near, typed);
    for (const struct option_row *row = option_next_visible(cmd->options); row; row = option_next_visible(row + 1))
        nearest_consider(&near, row->name);
    if (near.best[0])
        print_usage_error("unknown option '--%s'; did you mean '--%s'?", text_name(typed).s, near.best[0]);
    else
        print_usage_error("unknown option '--%s'; see: tensorport%s%s --help", text_name(typed).s, space, help);
}

/* getopt stopped at an option that it could not take: `got` is '?' or ':'. */
static void say_refused(const struct command *cmd, int got, const char *word)
{
    const struct option_row *row = optopt ? row_of(cmd->options, optopt) : NULL;
    if (!row)
        say_unknown(cmd, word, optopt);
    else if (got == ':')
        print_usage_error("--%s needs a value: --%s %s", row->name, row->name, row->argument);
    else
        print_usage_error("--%s takes no value", row->name);
}

/* Words where only options belong: show what was probably meant. */
static void say_word(const struct command *cmd, char **words, int count)
{
    char meant[1024] = "";
    size_t letters = cmd->operand_letters ? strlen(cmd->operand_letters) : 0;
    size_t used = 0;
    for (size_t i = 0; i < letters; i++) {
        const char *word = (int)i < count ? words[i] : "...";
        int len = snprintf(meant + used, sizeof meant - used, " -%c %s", cmd->operand_letters[i], text_name(word).s);
        used += (size_t)len;
        if (used >= sizeof meant)
            letters = 0;
    }
    if (letters > 0 && count <= (int)letters)
        print_usage_error("unexpected word '%s'; did you mean: tensorport %s%s", text_name(words[0]).s, cmd->name,
                          meant);
    else
        print_usage_error("unexpected word '%s'; see: tensorport %s --help", text_name(words[0]).s, cmd->name);
}

static bool take_operand(const struct command *cmd, void *args, char **words, int count)
{
    const char **operand = cmd->operand ? (const char **)((char *)args + cmd->operand_offset) : NULL;
    if (count == 0)
        return true;
    if (!operand || *operand || count > 1) {
        bool operand_fits = operand && !*operand;
        say_word(cmd, operand_fits ? words + 1 : words, operand_fits ? count - 1 : count);
        return false;
    }
    if (words[0][0] == '\0') {
        print_usage_error("%s is empty", cmd->operand);
        return false;
    }
    *operand = words[0];
    return true;
}

bool option_parse(const struct command *cmd, void *args, int argc, char **argv, bool leading_only, int *words)
{
    struct getopt_tables tables;
    tables_build(&tables, cmd->options, leading_only);
    optind = 0; /* glibc: begin afresh, also with the ordering of '+' */
    opterr = 0;
    for (;;) {
        optopt = 0;
        int got = getopt_long(argc, argv, tables.shorts, tables.longs, NULL);
        if (got == -1)
            break;
        if (got == '?' || got == ':') {
            say_refused(cmd, got, argv[optind - 1]);
            return false;
        }
        const struct option_row *row = row_of(cmd->options, got);
        if (!setters[row->kind](row, (char *)args + row->offset, optarg))
            return false;
        if (cmd->seen_offset)
            ((struct option_seen *)(void *)((char *)args + cmd->seen_offset))->row[row - cmd->options] = true;
    }
    *words = optind;
    return leading_only || take_operand(cmd, args, argv + optind, argc - optind);
}

void option_release(const struct command *cmd, void *args)
{
    for (const struct option_row *row = cmd->options; row->kind != OPTION_END; row++) {
        if (row->kind == OPTION_LIST)
            free(((struct text_list *)(void *)((char *)args + row->offset))->items);
    }
}

bool option_was_seen(const struct command *cmd, const struct option_seen *seen, const char *name)
{
    for (size_t i = 0; cmd->options[i].kind != OPTION_END; i++)
        if (seen->row[i] && strcmp(cmd->options[i].name, name) == 0)
            return true;
    return false;
}

const struct option_row *option_next_visible(const struct option_row *row)
{
    while (row->kind != OPTION_END && !row->help)
        row++;
    return row->kind != OPTION_END ? row : NULL;
}
