/* SPDX-License-Identifier: MIT */
/* A rule of its draft: names, then axes, then what is done along them. All that can be wrong without knowing a source
 * is said here, so that applying meets rules that mean something. */
#include <string.h>

#include "map/draft.h"
#include "map/parse.h"
#include "tensorport/dtype.h"
#include "tensorport/text.h"

struct work {
    struct tp_rule *rule;
    const struct tp_draft_rule *draft;
    struct tp_map_reader *reader;
    struct tp_arena *arena;
    struct tp_capture_table captures;
    struct tp_rule_source *sources;
};

static enum tp_status fail_at(struct work *w, uint64_t offset, const char *what)
{
    w->reader->offset = offset;
    return tp_fail(w->reader->err, TP_ERR_FORMAT, "%s", what);
}

/* "the axis 'x' of 'split' is not on the left" */
static enum tp_status fail_axis(struct work *w, uint64_t offset, const char *member, const char *axis, const char *what)
{
    char shown[128];
    w->reader->offset = offset;
    return tp_fail(w->reader->err, TP_ERR_FORMAT, "the axis '%s' of '%s' %s",
                   tp_text_printable(shown, sizeof shown, axis, strlen(axis)), member, what);
}

/* ---- texts ---- */

enum tp_status tp_draft_dtype(uint8_t *out, const struct tp_draft_text *text, struct tp_map_reader *reader)
{
    enum tp_dtype dtype = tp_dtype_from_numpy_name(text->text, text->len);
    char shown[64];
    reader->offset = text->offset;
    if (dtype == TP_DTYPE_NONE || tp_dtype_bits(dtype) == 6)
        return tp_fail(reader->err, TP_ERR_FORMAT,
                       "'dtype' is '%s', not one that NumPy or ml_dtypes name and that can be written",
                       tp_text_printable(shown, sizeof shown, text->text, text->len));
    *out = (uint8_t)dtype;
    return TP_OK;
}

enum tp_status tp_draft_expr(const struct tp_expr **out, const struct tp_draft_text *text, struct tp_map_reader *reader)
{
    reader->offset = text->offset;
    return tp_expr_parse(out, reader->arena, text->text, text->len, reader->err);
}

static enum tp_status read_name(struct work *w, struct tp_name_pattern *out, uint32_t *mentioned,
                                enum tp_name_place place, const struct tp_draft_text *text)
{
    w->reader->offset = text->offset;
    return tp_pattern_parse(out, mentioned, &w->captures, place, w->arena, text->text, text->len, w->reader->err);
}

/* An array in the arena, zeroed. */
static void *table(struct work *w, size_t count, size_t size)
{
    void *rows = tp_arena_alloc(w->arena, count * size);
    if (rows)
        memset(rows, 0, count * size);
    return rows;
}

/* ---- names ---- */

static const struct tp_draft_text *from_of(const struct tp_draft_rule *draft, uint32_t index)
{
    return draft->has_pieces ? &draft->pieces[index].from : &draft->from.items[index];
}

static enum tp_status read_from(struct work *w)
{
    const struct tp_draft_rule *draft = w->draft;
    if (draft->from.is_given && draft->has_pieces)
        return fail_at(w, draft->from.offset, "'from' and 'pieces' in one rule: the pieces say where they are from");
    if (!draft->from.is_given && !draft->has_pieces)
        return fail_at(w, draft->begin, "a rule without 'from'");
    uint32_t count = draft->has_pieces ? draft->piece_count : draft->from.count, all = 0;
    w->sources = table(w, count, sizeof *w->sources);
    if (!w->sources)
        return tp_fail_nomem(w->reader->err);
    w->rule->sources = w->sources;
    w->rule->source_count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t mentioned;
        const struct tp_draft_text *text = from_of(draft, i);
        enum tp_status status = read_name(w, &w->sources[i].from, &mentioned, TP_NAME_FROM, text);
        if (status)
            return status;
        if (i > 0 && mentioned != all)
            return fail_at(w, text->offset, "the names that a rule takes together need the same captures");
        all = mentioned;
    }
    return TP_OK;
}

static enum tp_status read_to(struct work *w)
{
    const struct tp_draft_list *list = &w->draft->to;
    struct tp_name_pattern *names = table(w, list->count, sizeof *names);
    uint32_t all = 0;
    if (!names)
        return tp_fail_nomem(w->reader->err);
    w->rule->to = names;
    w->rule->to_count = list->count;
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t mentioned;
        enum tp_status status = read_name(w, &names[i], &mentioned, TP_NAME_TO, &list->items[i]);
        if (status)
            return status;
        if (i > 0 && mentioned != all)
            return fail_at(w, list->items[i].offset, "the names in 'to' need the same captures");
        all = mentioned;
    }
    return TP_OK;
}

static enum tp_status read_beside(struct work *w, const struct tp_name_pattern **out, const struct tp_draft_text *text)
{
    uint32_t mentioned;
    if (!text->text)
        return TP_OK;
    struct tp_name_pattern *name = table(w, 1, sizeof *name);
    *out = name;
    return name ? read_name(w, name, &mentioned, TP_NAME_BESIDE, text) : tp_fail_nomem(w->reader->err);
}

static enum tp_status read_names(struct work *w)
{
    enum tp_status status = read_from(w);
    if (!status)
        status = read_to(w);
    if (!status)
        status = read_beside(w, &w->rule->if_missing, &w->draft->if_missing);
    if (!status)
        status = read_beside(w, &w->rule->same_as, &w->draft->same_as);
    if (status)
        return status;
    memcpy(w->rule->captures, w->captures.rows, sizeof w->rule->captures);
    w->rule->capture_count = w->captures.count;
    return TP_OK;
}

/* ---- what goes together ---- */

/* A rule without targets says only which tensors it means. */
static enum tp_status check_without_target(struct work *w)
{
    const struct tp_draft_rule *d = w->draft;
    const char *why = d->drop ? "a rule with 'drop' writes nothing: it has no 'to', 'axes', 'pieces' or arithmetic"
                              : "a rule with 'same_as' writes nothing: it has no 'to', 'axes', 'pieces' or arithmetic";
    const struct tp_draft_text *texts[] = {&d->axes, &d->split, &d->stack, &d->cat, &d->mul, &d->add, &d->dtype};
    if (d->drop && d->same_as.text)
        return fail_at(w, d->same_as.offset, "'drop' and 'same_as' in one rule: 'same_as' drops what is the same");
    if (d->to.is_given)
        return fail_at(w, d->to.offset, why);
    if (d->has_pieces)
        return fail_at(w, d->pieces_offset, why);
    if (d->pad_count > 0)
        return fail_at(w, d->pads_offset, why);
    for (size_t i = 0; i < TP_COUNT_OF(texts); i++)
        if (texts[i]->text)
            return fail_at(w, texts[i]->offset, why);
    return TP_OK;
}

static enum tp_status check_lists(struct work *w)
{
    const struct tp_draft_rule *d = w->draft;
    uint32_t from_count = d->has_pieces ? d->piece_count : d->from.count;
    if (!d->to.is_given)
        return fail_at(w, d->begin, "a rule without 'to'; to leave tensors out, say \"drop\": true");
    if (d->stack.text && d->cat.text)
        return fail_at(w, d->cat.offset, "'stack' and 'cat' in one rule");
    if (from_count > 1 && !d->stack.text && !d->cat.text)
        return fail_at(w, d->has_pieces ? d->pieces_offset : d->from.offset,
                       "more than one source needs 'stack' (along a new axis) or 'cat' (along one they have)");
    if (from_count == 1 && (d->stack.text || (d->cat.text && !d->has_pieces)))
        return fail_at(w, d->stack.text ? d->stack.offset : d->cat.offset,
                       "'stack' and 'cat' need a list of more than one name in 'from'");
    if (d->to.count > 1 && !d->split.text)
        return fail_at(w, d->to.offset, "more than one name in 'to' needs 'split': the axis that tells them apart");
    if (d->to.count == 1 && d->split.text)
        return fail_at(w, d->split.offset, "'split' needs a list of more than one name in 'to'");
    if (d->split_sizes.is_given && d->split_sizes.count != d->to.count)
        return fail_at(w, d->split_sizes.offset, "'sizes' needs one size for each name in 'to'");
    return TP_OK;
}

static enum tp_status check_needs_axes(struct work *w)
{
    const struct tp_draft_rule *d = w->draft;
    const struct tp_draft_text *texts[] = {&d->split, &d->stack, &d->cat};
    for (size_t i = 0; i < TP_COUNT_OF(texts); i++)
        if (texts[i]->text)
            return fail_at(w, texts[i]->offset, "'split', 'stack' and 'cat' name an axis, so the rule needs 'axes'");
    if (d->pad_count > 0)
        return fail_at(w, d->pads_offset, "'pad' names axes, so the rule needs 'axes'");
    return d->has_pieces ? fail_at(w, d->pieces_offset, "a rule with 'pieces' needs 'axes': those of the target")
                         : TP_OK;
}

/* ---- axes ---- */

static bool has_axis(const struct tp_axes_side *side, const char *name)
{
    for (uint32_t i = 0; i < side->axis_count; i++)
        if (strcmp(side->axes[i].name, name) == 0)
            return true;
    return false;
}

static bool on_every_left(const struct work *w, const char *name)
{
    for (uint32_t i = 0; i < w->rule->source_count; i++)
        if (!has_axis(&w->sources[i].left, name))
            return false;
    return true;
}

static bool on_some_left(const struct work *w, const char *name)
{
    for (uint32_t i = 0; i < w->rule->source_count; i++)
        if (has_axis(&w->sources[i].left, name))
            return true;
    return false;
}

static enum tp_status read_piece_axes(struct work *w, uint32_t index)
{
    const struct tp_draft_piece *piece = &w->draft->pieces[index];
    if (!piece->axes.text)
        return fail_at(w, piece->from.offset, "a piece needs 'axes': those of its source");
    w->reader->offset = piece->axes.offset;
    return tp_axes_parse(NULL, &w->sources[index].left, true, w->arena, piece->axes.text, piece->axes.len,
                         w->reader->err);
}

static enum tp_status read_sides(struct work *w)
{
    const struct tp_draft_text *text = &w->draft->axes;
    struct tp_axes_side left = {0};
    w->reader->offset = text->offset;
    enum tp_status status =
        tp_axes_parse(&left, &w->rule->right, w->draft->has_pieces, w->arena, text->text, text->len, w->reader->err);
    for (uint32_t i = 0; !status && i < w->rule->source_count; i++) {
        w->sources[i].left = left;
        if (w->draft->has_pieces)
            status = read_piece_axes(w, i);
    }
    return status;
}

/* Rows of number captures beside the axes that have their names. */
static enum tp_status bind_side(struct work *w, struct tp_axes_side *side)
{
    struct tp_named_axis *axes = table(w, side->axis_count, sizeof *axes);
    if (!axes)
        return tp_fail_nomem(w->reader->err);
    for (uint32_t i = 0; i < side->axis_count; i++) {
        axes[i] = side->axes[i];
        for (uint32_t c = 0; c < w->captures.count; c++)
            if (!w->captures.rows[c].is_word && strcmp(w->captures.rows[c].name, axes[i].name) == 0)
                axes[i].capture = c;
    }
    side->axes = axes;
    return TP_OK;
}

static enum tp_status bind_axes(struct work *w)
{
    enum tp_status status = bind_side(w, &w->rule->right);
    for (uint32_t i = 0; !status && i < w->rule->source_count; i++)
        status = bind_side(w, &w->sources[i].left);
    return status;
}

static enum tp_status fail_capture(struct work *w, uint64_t offset, const char *name, const char *what)
{
    w->reader->offset = offset;
    return tp_fail(w->reader->err, TP_ERR_FORMAT, "the capture '%.64s' %s", name, what);
}

/* Where a capture of `to` comes from: `from`, or an axis that is taken apart. */
static enum tp_status check_captures(struct work *w)
{
    uint64_t to = w->draft->to.offset, axes = w->draft->axes.offset;
    for (uint32_t c = 0; c < w->captures.count; c++) {
        const struct tp_capture *capture = &w->captures.rows[c];
        if (capture->in_from && !capture->is_word && on_some_left(w, capture->name))
            return fail_capture(w, axes, capture->name,
                                "is in 'from' and an axis of the source: one needs another name");
        if (capture->in_from || !capture->in_to)
            continue;
        if (capture->is_word || !on_every_left(w, capture->name))
            return fail_capture(w, to, capture->name, "of 'to' is neither in 'from' nor an axis of the source");
        if (has_axis(&w->rule->right, capture->name))
            return fail_capture(w, to, capture->name, "takes an axis apart that the target has too");
    }
    return TP_OK;
}

static bool is_capture(const struct work *w, const char *axis)
{
    for (uint32_t c = 0; c < w->captures.count; c++)
        if (strcmp(w->captures.rows[c].name, axis) == 0)
            return true;
    return false;
}

static enum tp_status check_split(struct work *w, const struct tp_draft_text *text, bool has_sizes)
{
    const char *axis = w->rule->split;
    bool stays = has_axis(&w->rule->right, axis);
    if (!on_every_left(w, axis))
        return fail_axis(w, text->offset, "split", axis, "is not on the left of 'axes'");
    if (is_capture(w, axis))
        return fail_axis(w, text->offset, "split", axis, "is a capture too");
    if (stays && !has_sizes)
        return fail_axis(w, text->offset, "split", axis, "is still on the right; to cut it in slices, give 'sizes'");
    if (!stays && has_sizes)
        return fail_axis(w, text->offset, "split", axis, "has 'sizes', so it must be on the right");
    return TP_OK;
}

static enum tp_status check_stack(struct work *w, const struct tp_draft_text *text)
{
    const char *axis = w->rule->stack;
    if (!has_axis(&w->rule->right, axis))
        return fail_axis(w, text->offset, "stack", axis, "is not on the right of 'axes'");
    if (on_some_left(w, axis))
        return fail_axis(w, text->offset, "stack", axis,
                         "is an axis of the source already; to join along it, say 'cat'");
    return is_capture(w, axis) ? fail_axis(w, text->offset, "stack", axis, "is a capture too") : TP_OK;
}

static enum tp_status check_cat(struct work *w, const struct tp_draft_text *text)
{
    const char *axis = w->rule->cat;
    if (!has_axis(&w->rule->right, axis))
        return fail_axis(w, text->offset, "cat", axis, "is not on the right of 'axes'");
    if (!on_every_left(w, axis))
        return fail_axis(w, text->offset, "cat", axis, "is not an axis of every source");
    return TP_OK;
}

/* Axes that members name. Texts of the JSON are terminated. */
static enum tp_status read_axis_members(struct work *w)
{
    const struct tp_draft_rule *d = w->draft;
    struct tp_rule *rule = w->rule;
    enum tp_status status = TP_OK;
    rule->split = d->split.text;
    rule->stack = d->stack.text;
    rule->cat = d->cat.text;
    if (rule->split)
        status = check_split(w, &d->split, d->split_sizes.is_given);
    if (!status && rule->stack)
        status = check_stack(w, &d->stack);
    if (!status && rule->cat)
        status = check_cat(w, &d->cat);
    if (status || !d->split_sizes.is_given)
        return status;
    const struct tp_expr **sizes = table(w, d->split_sizes.count, sizeof *sizes);
    if (!sizes)
        return tp_fail_nomem(w->reader->err);
    for (uint32_t i = 0; !status && i < d->split_sizes.count; i++)
        status = tp_draft_expr(&sizes[i], &d->split_sizes.items[i], w->reader);
    rule->split_sizes = sizes;
    return status;
}

static enum tp_status read_pads(struct work *w)
{
    const struct tp_draft_rule *d = w->draft;
    struct tp_rule_pad *pads = table(w, d->pad_count, sizeof *pads);
    enum tp_status status = pads ? TP_OK : tp_fail_nomem(w->reader->err);
    for (uint32_t i = 0; !status && i < d->pad_count; i++) {
        const struct tp_draft_text *axis = &d->pads[i].axis;
        pads[i].axis = axis->text;
        if (!has_axis(&w->rule->right, axis->text))
            return fail_axis(w, axis->offset, "pad", axis->text, "is not on the right of 'axes'");
        status = tp_draft_expr(&pads[i].size, &d->pads[i].size, w->reader);
    }
    w->rule->pads = pads;
    w->rule->pad_count = d->pad_count;
    return status;
}

static enum tp_status read_axes(struct work *w)
{
    w->rule->has_axes = w->draft->axes.text != NULL;
    if (!w->rule->has_axes)
        return check_needs_axes(w);
    enum tp_status status = read_sides(w);
    if (!status)
        status = bind_axes(w);
    if (!status)
        status = read_axis_members(w);
    return status ? status : read_pads(w);
}

/* ---- rows, arithmetic, dtype ---- */

static enum tp_status read_bound(struct work *w, const struct tp_expr **out, const struct tp_draft_text *take,
                                 size_t begin, size_t end)
{
    struct tp_draft_text bound = {take->text + begin, end - begin, take->offset};
    double value;
    while (bound.len > 0 && *bound.text == ' ')
        bound.text++, bound.len--;
    if (bound.len == 0)
        return TP_OK;
    enum tp_status status = tp_draft_expr(out, &bound, w->reader);
    if (!status && tp_expr_constant(&value, *out) && !(value >= 0 && value <= (double)INT64_MAX))
        return fail_at(w, take->offset, "'take' counts rows from 0");
    return status;
}

/* "lo:hi", each may be left out. */
static enum tp_status read_take(struct work *w, struct tp_rule_source *source, const struct tp_draft_text *take)
{
    const char *colon = memchr(take->text, ':', take->len);
    double low = 0, high;
    if (!colon)
        return fail_at(w, take->offset, "'take' is \"first:end\", rows of the source, each of which may be left out");
    enum tp_status status = read_bound(w, &source->take_low, take, 0, (size_t)(colon - take->text));
    if (!status)
        status = read_bound(w, &source->take_high, take, (size_t)(colon + 1 - take->text), take->len);
    if (status || !source->take_high || (source->take_low && !tp_expr_constant(&low, source->take_low)))
        return status;
    return tp_expr_constant(&high, source->take_high) && high <= low
               ? fail_at(w, take->offset, "'take' ends before it begins, or takes no row")
               : TP_OK;
}

static enum tp_status read_takes(struct work *w)
{
    enum tp_status status = TP_OK;
    for (uint32_t i = 0; !status && i < w->draft->piece_count; i++)
        if (w->draft->pieces[i].take.text)
            status = read_take(w, &w->sources[i], &w->draft->pieces[i].take);
    return status;
}

static enum tp_status read_round(struct work *w)
{
    static const struct {
        const char *name;
        enum tp_float_round round;
    } rows[] = {{"f32", TP_ROUND_F32}, {"bf16", TP_ROUND_BF16}, {"f16", TP_ROUND_F16}};
    const struct tp_draft_text *in = &w->draft->mul_in;
    if (!in->text)
        return TP_OK;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        if (strcmp(rows[i].name, in->text) == 0) {
            w->rule->mul_round = rows[i].round;
            return TP_OK;
        }
    return fail_at(w, in->offset, "'in' of 'mul' is the dtype that the factor is rounded to: f32, bf16 or f16");
}

static enum tp_status read_values(struct work *w)
{
    const struct tp_draft_rule *d = w->draft;
    enum tp_status status = read_takes(w);
    if (!status && d->mul.text)
        status = tp_draft_expr(&w->rule->mul, &d->mul, w->reader);
    if (!status)
        status = read_round(w);
    if (!status && d->add.text)
        status = tp_draft_expr(&w->rule->add, &d->add, w->reader);
    if (!status && d->only_if.text)
        status = tp_draft_expr(&w->rule->only_if, &d->only_if, w->reader);
    w->rule->dtype = TP_DTYPE_NONE;
    if (!status && d->dtype.text)
        status = tp_draft_dtype(&w->rule->dtype, &d->dtype, w->reader);
    return status;
}

enum tp_status tp_rule_make(struct tp_rule *out, const struct tp_draft_rule *draft, struct tp_map_reader *reader)
{
    *out = (struct tp_rule){.also = draft->also, .drop = draft->drop};
    struct work w = {.rule = out, .draft = draft, .reader = reader, .arena = reader->arena};
    w.captures.token_count = reader->token_count;
    enum tp_status status = draft->drop || draft->same_as.text ? check_without_target(&w) : check_lists(&w);
    if (!status)
        status = read_names(&w);
    if (!status)
        status = read_values(&w);
    if (!status && draft->to.is_given)
        status = read_axes(&w);
    if (!status)
        status = check_captures(&w);
    reader->token_count = w.captures.token_count;
    return status;
}
