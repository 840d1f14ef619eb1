/* SPDX-License-Identifier: MIT */
/* Patterns of names as they are written: "model.layers.{l}.{p:q|k|v}_proj.weight", "[model.]layers.{c*l+b}". */
#include <string.h>

#include "map/parse.h"
#include "tensorport/text.h"

#define WORDS_MAX 256u         /* alternatives of one capture */
#define MAP_TOKENS_MAX 131072u /* of all names of a map */

struct reader {
    struct tp_arena *arena;
    struct tp_capture_table *captures;
    enum tp_name_place place;
    const char *text;
    size_t len, at;
    struct tp_token tokens[TP_MAP_TOKENS_MAX];
    uint32_t count, mentioned;
    struct tp_error *err;
};

static enum tp_status fail_as(const struct reader *r, enum tp_status code, const char *what)
{
    char shown[512];
    return tp_fail(r->err, code, "the name '%s': %s (character %zu)",
                   tp_text_printable(shown, sizeof shown, r->text, r->len), what, r->at + 1);
}

static enum tp_status fail(const struct reader *r, const char *what)
{
    return fail_as(r, TP_ERR_FORMAT, what);
}

static enum tp_status add_token(struct reader *r, struct tp_token token)
{
    if (r->count == TP_MAP_TOKENS_MAX)
        return fail_as(r, TP_ERR_LIMIT, "more than 64 captures and texts between them");
    if (r->captures->token_count++ == MAP_TOKENS_MAX)
        return fail_as(r, TP_ERR_LIMIT, "more than 131,072 captures and texts between them in this map");
    r->tokens[r->count++] = token;
    return TP_OK;
}

/* ---- captures ---- */

/* The row of a capture, a new one where it has none. `words`: its alternatives, 0 for a number. */
static enum tp_status name_capture(struct reader *r, uint32_t *row, const char *name, size_t len, uint32_t words)
{
    struct tp_capture_table *table = r->captures;
    uint32_t c = 0;
    while (c < table->count && (strlen(table->rows[c].name) != len || memcmp(table->rows[c].name, name, len) != 0))
        c++;
    if (c == table->count) {
        const char *copy = tp_arena_strndup(r->arena, name, len);
        if (!copy)
            return tp_fail_nomem(r->err);
        if (r->place == TP_NAME_BESIDE)
            return fail(r, "a capture that no name of 'from' has");
        if (c == TP_MAP_CAPTURES_MAX)
            return fail_as(r, TP_ERR_LIMIT, "more than 16 captures in one rule");
        table->rows[c] = (struct tp_capture){.name = copy, .is_word = words > 0};
        table->words[c] = words;
        table->count++;
    }
    if (table->rows[c].is_word != (words > 0))
        return fail(r, "a capture is a number in one place and one of some words in another");
    if (table->words[c] != words)
        return fail(r, "a capture has more alternatives in one place than in another");
    if (r->place == TP_NAME_BESIDE && !table->rows[c].in_from)
        return fail(r, "a capture that no name of 'from' has");
    r->mentioned |= UINT32_C(1) << c;
    *row = c;
    return TP_OK;
}

/* A capture's inside: the rest of it, as the parts are read off. */
struct inside {
    const char *text;
    size_t len;
};

static struct inside rest_of(struct inside in, size_t from)
{
    return (struct inside){in.text + from, in.len - from};
}

/* An integer, or the name of a dim: what can be undone when a map is reversed. */
static enum tp_status read_operand(struct reader *r, const struct tp_expr **expr, struct inside in)
{
    bool plain = in.len > 0;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.text[i];
        plain = plain && (tp_identifier_length(&c, 1) == 1 || (c >= '0' && c <= '9') || c == '.');
    }
    if (!plain)
        return fail(r, "expected an integer or a dim beside a capture");
    enum tp_status status = tp_expr_parse(expr, r->arena, in.text, in.len, r->err);
    double value;
    if (!status && tp_expr_constant(&value, *expr) && (value > TP_MAP_INDEX_MAX || value != (double)(uint64_t)value))
        return fail(r, "a number beside a capture is at most 1,048,576, and whole");
    return status;
}

/* l, l+3, l<d */
static enum tp_status read_index(struct reader *r, struct inside in)
{
    struct tp_token token = {.kind = TP_TOKEN_INDEX};
    size_t len = tp_identifier_length(in.text, in.len);
    enum tp_status status = name_capture(r, &token.capture, in.text, len, 0);
    if (!status && len < in.len)
        status = read_operand(r, in.text[len] == '+' ? &token.offset : &token.limit, rest_of(in, len + 1));
    return status ? status : add_token(r, token);
}

/* The b of c*l+b: a capture, or a number below c. */
static enum tp_status read_remainder(struct reader *r, struct tp_token *token, struct inside in)
{
    double offset, factor;
    if (in.len > 0 && tp_identifier_length(in.text, in.len) == in.len) {
        enum tp_status status = name_capture(r, &token->second, in.text, in.len, 0);
        return status || token->second != token->capture ? status
                                                         : fail(r, "the two captures of {c*l+b} need two names");
    }
    if (in.len == 0 || in.text[0] < '0' || in.text[0] > '9')
        return fail(r, "expected {c*l+b} or {c*l+1}, l and b being captures");
    token->second = TP_MAP_NONE;
    enum tp_status status = read_operand(r, &token->offset, in);
    if (!status && tp_expr_constant(&offset, token->offset) && tp_expr_constant(&factor, token->factor) &&
        offset >= factor)
        return fail(r, "the number behind '+' is below the factor");
    return status;
}

/* c*l+b, the part before the star being `factor_len` bytes */
static enum tp_status read_split(struct reader *r, struct inside in, size_t factor_len)
{
    struct tp_token token = {.kind = TP_TOKEN_SPLIT};
    struct inside rest = rest_of(in, factor_len + 1);
    size_t len = tp_identifier_length(rest.text, rest.len);
    if (len == 0 || len == rest.len || rest.text[len] != '+')
        return fail(r, "expected {c*l+b} or {c*l+1}, l and b being captures");
    enum tp_status status = read_operand(r, &token.factor, (struct inside){in.text, factor_len});
    double value;
    if (!status && tp_expr_constant(&value, token.factor) && value < 1)
        status = fail(r, "a factor is at least 1");
    if (!status)
        status = name_capture(r, &token.capture, rest.text, len, 0);
    if (!status)
        status = read_remainder(r, &token, rest_of(rest, len + 1));
    return status ? status : add_token(r, token);
}

/* p:q|k|v, the part before the colon being `name_len` bytes */
static enum tp_status read_words(struct reader *r, struct inside in, size_t name_len)
{
    struct tp_token token = {.kind = TP_TOKEN_WORD};
    struct inside rest = rest_of(in, name_len + 1);
    uint32_t count = 1;
    for (size_t i = 0; i < rest.len; i++)
        count += rest.text[i] == '|';
    if (rest.len == 0)
        return fail(r, "no words behind ':'");
    if (count > WORDS_MAX)
        return fail_as(r, TP_ERR_LIMIT, "more than 256 alternatives");
    const char **items = tp_arena_alloc(r->arena, count * sizeof *items);
    if (!items)
        return tp_fail_nomem(r->err);
    for (uint32_t i = 0; i < count; i++) {
        const char *bar = memchr(rest.text, '|', rest.len);
        size_t len = bar ? (size_t)(bar - rest.text) : rest.len;
        items[i] = tp_arena_strndup(r->arena, rest.text, len);
        if (!items[i])
            return tp_fail_nomem(r->err);
        rest = rest_of(rest, bar ? len + 1 : len);
    }
    token.words = (struct tp_words){items, count};
    enum tp_status status = name_capture(r, &token.capture, in.text, name_len, count);
    return status ? status : add_token(r, token);
}

static enum tp_status read_capture(struct reader *r)
{
    const char *begin = r->text + r->at + 1;
    const char *end = memchr(begin, '}', r->len - r->at - 1);
    if (!end)
        return fail(r, "'{' without '}'");
    struct inside in = {begin, (size_t)(end - begin)};
    if (memchr(in.text, '{', in.len))
        return fail(r, "'{' within a capture");
    size_t name_len = tp_identifier_length(in.text, in.len);
    const char *star = memchr(in.text, '*', in.len);
    char after = name_len < in.len ? in.text[name_len] : '\0';
    enum tp_status status;
    if (name_len > 0 && after == ':')
        status = read_words(r, in, name_len);
    else if (star)
        status = read_split(r, in, (size_t)(star - in.text));
    else if (name_len > 0 && (name_len == in.len || after == '+' || after == '<'))
        status = read_index(r, in);
    else
        status = fail(r, "expected {l}, {l+3}, {l<3}, {c*l+b} or {p:q|k|v}");
    r->at = (size_t)(end + 1 - r->text);
    return status;
}

/* ---- texts ---- */

static enum tp_status read_optional(struct reader *r)
{
    const char *begin = r->text + r->at + 1;
    const char *end = memchr(begin, ']', r->len - r->at - 1);
    if (!end)
        return fail(r, "'[' without ']'");
    size_t len = (size_t)(end - begin);
    if (len == 0 || memchr(begin, '{', len) || memchr(begin, '}', len) || memchr(begin, '[', len))
        return fail(r, "expected plain text in brackets: in 'from' they make it optional");
    r->at += len + 2;
    return add_token(r, (struct tp_token){.kind = TP_TOKEN_OPTIONAL, .text = begin, .text_len = (uint32_t)len});
}

static enum tp_status read_literal(struct reader *r)
{
    const char *stops = r->place == TP_NAME_FROM ? "{}[]" : "{}";
    size_t begin = r->at;
    while (r->at < r->len && !strchr(stops, r->text[r->at]))
        r->at++;
    if (r->at == begin)
        return fail(r, r->text[r->at] == '}' ? "'}' without '{'" : "']' without '['");
    return add_token(
        r, (struct tp_token){.kind = TP_TOKEN_LITERAL, .text = r->text + begin, .text_len = (uint32_t)(r->at - begin)});
}

static enum tp_status read_all(struct reader *r)
{
    enum tp_status status = r->len > 0 ? TP_OK : tp_fail(r->err, TP_ERR_FORMAT, "a name is empty");
    while (!status && r->at < r->len) {
        char c = r->text[r->at];
        if (c == '{')
            status = read_capture(r);
        else if (c == '[' && r->place == TP_NAME_FROM)
            status = read_optional(r);
        else
            status = read_literal(r);
    }
    return status;
}

/* The text as messages show it. */
static const char *printable_copy(struct reader *r)
{
    size_t cap = 4 * r->len + 8; /* every byte escaped */
    char *copy = tp_arena_alloc(r->arena, cap);
    return copy ? tp_text_printable(copy, cap, r->text, r->len) : NULL;
}

enum tp_status tp_pattern_parse(struct tp_name_pattern *out, uint32_t *mentioned, struct tp_capture_table *captures,
                                enum tp_name_place place, struct tp_arena *arena, const char *text, size_t len,
                                struct tp_error *err)
{
    struct reader r = {.arena = arena, .captures = captures, .place = place, .text = text, .len = len, .err = err};
    enum tp_status status = read_all(&r);
    if (status)
        return status;
    struct tp_token *tokens = tp_arena_alloc(arena, r.count * sizeof *tokens);
    const char *shown = printable_copy(&r);
    if (!tokens || !shown)
        return tp_fail_nomem(err);
    memcpy(tokens, r.tokens, r.count * sizeof *tokens);
    *out = (struct tp_name_pattern){.tokens = tokens, .count = r.count, .text = shown};
    *mentioned = r.mentioned;
    for (uint32_t c = 0; c < captures->count; c++) {
        captures->rows[c].in_from |= place == TP_NAME_FROM && (r.mentioned >> c & 1u);
        captures->rows[c].in_to |= place == TP_NAME_TO && (r.mentioned >> c & 1u);
    }
    return TP_OK;
}
