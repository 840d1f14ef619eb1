/* SPDX-License-Identifier: MIT */
/* Patterns of axes as they are written: "(n h) d -> d l n h". What the names mean is the rule's business. */
#include <string.h>

#include "map/parse.h"
#include "tensorport/text.h"

struct reader {
    struct tp_arena *arena;
    const char *text;
    size_t len, at, end; /* `end` of the side that is being read */
    struct tp_named_axis axes[TP_MAP_AXES_MAX];
    struct tp_axis_group groups[TP_MAP_AXES_MAX];
    uint32_t axis_count, group_count;
    bool in_group;
    struct tp_error *err;
};

static enum tp_status fail_as(const struct reader *r, enum tp_status code, const char *what)
{
    char shown[512];
    return tp_fail(r->err, code, "the axes '%s': %s (character %zu)",
                   tp_text_printable(shown, sizeof shown, r->text, r->len), what, r->at + 1);
}

static enum tp_status fail(const struct reader *r, const char *what)
{
    return fail_as(r, TP_ERR_FORMAT, what);
}

/* ---- one token ---- */

/* Digits: an axis of that size, in the one way of writing it. */
static enum tp_status read_size(struct reader *r, size_t *len, uint64_t *size)
{
    size_t n = 0;
    *size = 0;
    for (; r->at + n < r->end && r->text[r->at + n] >= '0' && r->text[r->at + n] <= '9'; n++)
        if (TP_MUL_OVERFLOW(*size, UINT64_C(10), size) ||
            TP_ADD_OVERFLOW(*size, (uint64_t)(r->text[r->at + n] - '0'), size) || *size > INT64_MAX)
            return fail(r, "a size out of range");
    *len = n;
    return n > 0 && r->text[r->at] == '0' ? fail(r, "a size is at least 1 and has no leading zeros") : TP_OK;
}

static bool is_there(const struct reader *r, const char *name)
{
    for (uint32_t i = 0; i < r->axis_count; i++)
        if (strcmp(r->axes[i].name, name) == 0)
            return true;
    return false;
}

static enum tp_status add_axis(struct reader *r, const char *name, uint64_t size)
{
    if (!name)
        return tp_fail_nomem(r->err);
    if (is_there(r, name))
        return fail(r, "an axis stands twice on one side");
    if (r->axis_count == TP_MAP_AXES_MAX)
        return fail_as(r, TP_ERR_LIMIT, "more than 32 axes on one side");
    if (!r->in_group)
        r->groups[r->group_count++] = (struct tp_axis_group){.first = r->axis_count};
    r->groups[r->group_count - 1].count++;
    r->axes[r->axis_count++] = (struct tp_named_axis){.name = name, .size = size, .capture = TP_MAP_NONE};
    return TP_OK;
}

static enum tp_status read_axis(struct reader *r)
{
    size_t len = tp_identifier_length(r->text + r->at, r->end - r->at);
    uint64_t size = 0;
    enum tp_status status = len > 0 ? TP_OK : read_size(r, &len, &size);
    if (status)
        return status;
    if (len == 0)
        return fail(r, "expected names or sizes of axes, '(', ')' and one '->'");
    status = add_axis(r, tp_arena_strndup(r->arena, r->text + r->at, len), size);
    r->at += len;
    if (!status && r->at < r->end && !strchr(" ()", r->text[r->at]))
        status = fail(r, "expected a blank between axes");
    return status;
}

static enum tp_status open_group(struct reader *r)
{
    if (r->in_group)
        return fail(r, "a group within a group");
    if (r->group_count == TP_MAP_AXES_MAX)
        return fail_as(r, TP_ERR_LIMIT, "more than 32 axes on one side");
    r->groups[r->group_count++] = (struct tp_axis_group){.first = r->axis_count};
    r->in_group = true;
    r->at++;
    return TP_OK;
}

static enum tp_status close_group(struct reader *r)
{
    if (!r->in_group)
        return fail(r, "')' without '('");
    if (r->groups[r->group_count - 1].count == 0)
        return fail(r, "a group without axes; an axis of one element is written 1");
    r->in_group = false;
    r->at++;
    return TP_OK;
}

/* ---- a side ---- */

static enum tp_status keep_side(struct tp_axes_side *side, struct reader *r)
{
    struct tp_named_axis *axes = tp_arena_alloc(r->arena, r->axis_count * sizeof *axes);
    struct tp_axis_group *groups = tp_arena_alloc(r->arena, r->group_count * sizeof *groups);
    if (!axes || !groups)
        return tp_fail_nomem(r->err);
    memcpy(axes, r->axes, r->axis_count * sizeof *axes);
    memcpy(groups, r->groups, r->group_count * sizeof *groups);
    *side = (struct tp_axes_side){axes, groups, r->axis_count, r->group_count};
    return TP_OK;
}

static enum tp_status read_side(struct tp_axes_side *side, struct reader *r, size_t end)
{
    enum tp_status status = TP_OK;
    r->end = end;
    r->axis_count = r->group_count = 0;
    while (!status && r->at < end) {
        char c = r->text[r->at];
        if (c == ' ')
            r->at++;
        else if (c == '(')
            status = open_group(r);
        else if (c == ')')
            status = close_group(r);
        else
            status = read_axis(r);
    }
    if (!status && r->in_group)
        status = fail(r, "'(' without ')'");
    return status ? status : keep_side(side, r);
}

/* Where "->" stands; `len`: nowhere. */
static size_t find_arrow(const char *text, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++)
        if (text[i] == '-' && text[i + 1] == '>')
            return i;
    return len;
}

enum tp_status tp_axes_parse(struct tp_axes_side *left, struct tp_axes_side *right, bool only_right,
                             struct tp_arena *arena, const char *text, size_t len, struct tp_error *err)
{
    struct reader r = {.arena = arena, .text = text, .len = len, .err = err};
    size_t arrow = find_arrow(text, len);
    if (only_right) {
        r.at = arrow < len ? arrow : 0;
        return arrow < len ? fail(&r, "one side alone is expected here, without '->'") : read_side(right, &r, len);
    }
    if (arrow == len)
        return fail(&r, "expected two sides with '->' between them");
    enum tp_status status = read_side(left, &r, arrow);
    r.at = arrow + 2;
    return status ? status : read_side(right, &r, len);
}
