/* SPDX-License-Identifier: MIT */
/* Lines that fit a terminal. */
#include "line.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "text.h"

enum { COLUMNS_MIN = 20, MORE_INDENT = 4 };

void line_init(struct line *l)
{
    struct winsize size;
    l->columns = 0;
    l->used = 0;
    l->s[0] = '\0';
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        l->columns = size.ws_col < COLUMNS_MIN ? COLUMNS_MIN : size.ws_col;
}

void line_add(struct line *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(l->s + l->used, sizeof l->s - l->used, fmt, args);
    va_end(args);
    if (len > 0)
        l->used += strlen(l->s + l->used);
}

void line_cell(struct line *l, const char *text, size_t width)
{
    size_t columns = text_columns(text);
    line_add(l, "%s%*s", text, columns < width ? (int)(width - columns) + 2 : 2, "");
}

/* ---- folding ---- */

/* Where a line is parted: between pieces that `gap` blanks or more separate. */
struct fold {
    size_t columns, indent, gap;
    size_t at;  /* the column that comes next */
    bool fresh; /* nothing but blanks in this row yet */
};

static size_t piece_len(const char *text, size_t gap)
{
    size_t len = 0;
    while (text[len]) {
        size_t blanks = strspn(text + len, " ");
        if (blanks >= gap || (blanks > 0 && text[len + blanks] == '\0'))
            break;
        len += blanks ? blanks : 1;
    }
    return len;
}

static void fold_put(struct fold *f, const char *text);

/* One piece, `blanks` after what stands before it. */
static void fold_piece(struct fold *f, const char *text, size_t len, size_t blanks)
{
    char piece[24576];
    if (len >= sizeof piece)
        len = sizeof piece - 1;
    memcpy(piece, text, len);
    piece[len] = '\0';
    size_t width = text_columns(piece);
    if (!f->fresh && f->at + blanks + width > f->columns) {
        printf("\n%*s", (int)f->indent, "");
        f->at = f->indent;
        f->fresh = true;
        blanks = 0;
    }
    if (f->gap > 1 && f->at + blanks + width > f->columns && strchr(piece, ' ')) {
        struct fold words = *f;
        words.gap = 1;
        printf("%*s", (int)blanks, "");
        words.at += blanks;
        fold_put(&words, piece);
        f->at = words.at;
    } else {
        printf("%*s%s", (int)blanks, "", piece);
        f->at += blanks + width;
    }
    f->fresh = false;
}

static void fold_put(struct fold *f, const char *text)
{
    while (*text) {
        size_t blanks = strspn(text, " ");
        size_t len = piece_len(text + blanks, f->gap);
        if (len == 0) /* blanks at the end */
            return;
        fold_piece(f, text + blanks, len, blanks);
        text += blanks + len;
    }
}

static void finish(struct line *l, size_t gap)
{
    size_t indent = strspn(l->s, " ") + MORE_INDENT;
    struct fold f = {.columns = l->columns, .indent = indent, .gap = gap, .fresh = true};
    if (l->columns == 0 || text_columns(l->s) <= l->columns)
        fputs(l->s, stdout);
    else
        fold_put(&f, l->s);
    putchar('\n');
    l->used = 0;
    l->s[0] = '\0';
}

void line_end(struct line *l)
{
    finish(l, 2);
}

void line_end_words(struct line *l)
{
    finish(l, 1);
}
