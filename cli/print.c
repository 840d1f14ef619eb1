/* SPDX-License-Identifier: MIT */
/* The command's voice. */
#include "print.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

enum style { STYLE_ERROR, STYLE_WARNING, STYLE_GOOD, STYLE_BAD };
static const char *const style_codes[] = {
    [STYLE_ERROR] = "\033[1;31m",
    [STYLE_WARNING] = "\033[1;33m",
    [STYLE_GOOD] = "\033[32m",
    [STYLE_BAD] = "\033[31m",
};

static bool colour_welcome(FILE *stream)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return !(no_color && *no_color) && term && *term && strcmp(term, "dumb") != 0 && isatty(fileno(stream));
}

static void put_styled(FILE *stream, enum style style, const char *text)
{
    if (colour_welcome(stream))
        fprintf(stream, "%s%s\033[0m", style_codes[style], text);
    else
        fputs(text, stream);
}

void print_guard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDONLY) < 0)
            return; /* read-only on purpose: writing to a closed stream stays an error */
    }
}

static void put_line(enum style style, const char *headline, const char *fmt, va_list args) CLI_PRINTF(3, 0);
static void put_line(enum style style, const char *headline, const char *fmt, va_list args)
{
    put_styled(stderr, style, headline);
    putc(' ', stderr);
    vfprintf(stderr, fmt, args);
    putc('\n', stderr);
}

int print_usage_error(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_line(STYLE_ERROR, "tensorport:", fmt, args);
    va_end(args);
    return EXIT_USAGE;
}

int print_out_of_memory(void)
{
    print_error_line("out of memory");
    return tp_status_exit_code(TP_ERR_NOMEM);
}

void print_error_line(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_line(STYLE_ERROR, "tensorport:", fmt, args);
    va_end(args);
}

void print_warning(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_line(STYLE_WARNING, "tensorport: warning:", fmt, args);
    va_end(args);
}

void print_note(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("tensorport: note: ", stderr);
    vfprintf(stderr, fmt, args);
    putc('\n', stderr);
    va_end(args);
}

/* The lines of `text` from the second on begin with two blanks. */
static void put_indented(const char *text)
{
    for (; *text; text++) {
        putc(*text, stderr);
        if (text[0] == '\n' && text[1] != '\0' && text[1] != ' ')
            fputs("  ", stderr);
    }
}

int print_error(const struct tp_error *err)
{
    put_styled(stderr, STYLE_ERROR, "tensorport:");
    if (err->path[0])
        fprintf(stderr, " %s:", err->path);
    if (err->tensor[0])
        fprintf(stderr, " tensor '%s':", err->tensor);
    putc(' ', stderr);
    put_indented(err->message[0] ? err->message : tp_status_name(err->code));
    if (err->hint[0]) {
        fputs("\n  ", stderr);
        put_indented(err->hint);
    }
    putc('\n', stderr);
    return tp_status_exit_code(err->code);
}

void print_checkpoint_notes(const struct tp_checkpoint *ck)
{
    for (uint32_t i = 0; i < tp_checkpoint_note_count(ck); i++)
        print_warning("%s", tp_checkpoint_note(ck, i));
}

void print_cell(const char *text, size_t width)
{
    size_t columns = text_columns(text);
    fputs(text, stdout);
    if (width > 0)
        printf("%*s", columns < width ? (int)(width - columns) + 2 : 2, "");
}

void print_toned(enum print_tone tone, const char *text)
{
    put_styled(stdout, tone == TONE_GOOD ? STYLE_GOOD : STYLE_BAD, text);
}

int print_finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno == EPIPE)
        return code;
    print_error_line("standard output: %s", errno ? strerror(errno) : "write error");
    return code ? code : EXIT_IO;
}
