/* SPDX-License-Identifier: MIT */
/* tensorport inspect: the quantised weights, as they would be decoded. */
#include <stdio.h>
#include <string.h>

#include "inspect.h"
#include "line.h"
#include "text.h"

enum { WEIGHTS_SHOWN = 40, SHAPE_WIDTH_MAX = 24 };

void inspect_say_refused(const char *label, const char *why)
{
    struct line l;
    line_init(&l);
    line_add(&l, "%s", label);
    for (; *why; why++)
        line_add(&l, "%c", *why == '\n' ? ' ' : *why);
    line_end_words(&l);
}

struct widths {
    size_t name, scheme, shape;
};

static size_t wider(size_t width, const char *text, size_t most)
{
    size_t columns = text_columns(text);
    return columns > width && columns <= most ? columns : width;
}

static struct widths measure(const struct weights *weights, size_t shown)
{
    struct widths w = {.name = 10, .scheme = 6, .shape = 5};
    for (size_t i = 0; i < shown; i++) {
        const struct weight *row = &weights->rows[i];
        w.name = wider(w.name, text_name(row->name).s, INSPECT_NAME_WIDTH_MAX);
        w.scheme = wider(w.scheme, row->group->scheme, INSPECT_NAME_WIDTH_MAX);
        if (!row->refused)
            w.shape = wider(w.shape, text_shape(row->shape, row->rank).s, SHAPE_WIDTH_MAX);
    }
    return w;
}

static void say_weight(struct line *l, const struct weight *row, const struct widths *w, bool all)
{
    line_add(l, "  ");
    line_cell(l, text_name(row->name).s, w->name);
    line_cell(l, row->group->scheme, w->scheme);
    line_cell(l, row->refused ? "-" : text_shape(row->shape, row->rank).s, w->shape);
    if (!all)
        line_add(l, "%7s  ", text_count(row->count).s);
    line_add(l, "%10s", text_about(row->parameters).s);
    line_end(l);
}

void inspect_say_weights(struct weights *weights, bool all)
{
    struct line l;
    if (!all)
        weights_fold(weights);
    size_t shown = all || weights->count < WEIGHTS_SHOWN ? weights->count : WEIGHTS_SHOWN;
    struct widths w = measure(weights, shown);
    line_init(&l);
    line_add(&l, "  ");
    line_cell(&l, "decodes to", w.name);
    line_cell(&l, "scheme", w.scheme);
    line_cell(&l, "shape", w.shape);
    line_add(&l, "%s%10s", all ? "" : "weights  ", "parameters");
    line_end(&l);
    for (size_t i = 0; i < shown; i++) {
        say_weight(&l, &weights->rows[i], &w, all);
        if (weights->rows[i].refused && !weights->refused)
            inspect_say_refused("    --dequantize refuses it: ", weights->rows[i].refused);
    }
    if (shown < weights->count) {
        line_add(&l, "  and %s more; --all lists every one", text_count(weights->count - shown).s);
        line_end_words(&l);
    }
}
