/* SPDX-License-Identifier: MIT */
/* Names and patterns of names: matching, making, likeness. Both sides come from files: matching goes back over its
 * choices without recursion and never takes one place of the name twice for the same token. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "map/rule.h"
#include "tensorport/checkpoint.h"

#define DIGITS_MAX 13u     /* of a number that {c*l+b} can take apart: below 2^40 */
#define STEPS_MAX 65536u   /* for a pattern with a capture that stands twice, see struct matcher */
#define NO_CHOICE SIZE_MAX /* no way, or none that is left */

/* ---- matching ---- */

/* Where a token begins, and which of its ways is being tried. */
struct step {
    size_t at, choice;
    uint32_t bound; /* captures that tokens before it have set, as bits */
};

/* What follows a (token, place) does not depend on how it was reached, unless a capture stands twice: then its second
 * place must agree with the first, places may be visited again, and steps are counted instead. */
struct matcher {
    const struct tp_name_pattern *pattern;
    const struct tp_expr_scope *scope;
    const char *name;
    size_t len;
    struct tp_captured found;
    struct step steps[TP_MAP_TOKENS_MAX + 1];
    bool went_back; /* a choice was wrong: the next two are in use from then on */
    bool repeats;
    uint64_t visited[(TP_MAP_TOKENS_MAX * ((size_t)TP_NAME_MAX_BYTES + 1) + 63) / 64];
};

static uint32_t captures_of(const struct tp_token *token)
{
    if (token->kind == TP_TOKEN_LITERAL || token->kind == TP_TOKEN_OPTIONAL)
        return 0;
    bool has_second = token->kind == TP_TOKEN_SPLIT && token->second != TP_MAP_NONE;
    return UINT32_C(1) << token->capture | (has_second ? UINT32_C(1) << token->second : 0u);
}

static bool has_repeats(const struct tp_name_pattern *pattern)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < pattern->count; i++) {
        uint32_t captures = captures_of(&pattern->tokens[i]);
        if (captures & seen)
            return true;
        seen |= captures;
    }
    return false;
}

/* A capture's value, or, where one was found before, whether it is the same. */
static bool bind(struct matcher *m, const struct step *step, uint32_t capture, uint64_t value)
{
    if (step->bound >> capture & 1u)
        return m->found.value[capture] == value;
    m->found.value[capture] = value;
    return true;
}

static bool bind_index(struct matcher *m, const struct step *step, const struct tp_token *token, uint64_t number)
{
    uint64_t offset = 0, limit = TP_MAP_INDEX_MAX;
    if ((token->offset && !tp_expr_evaluate_whole(&offset, token->offset, m->scope, 0, NULL)) ||
        (token->limit && !tp_expr_evaluate_whole(&limit, token->limit, m->scope, 0, NULL)))
        return false;
    return number >= offset && number - offset < TP_MAP_INDEX_MAX && number - offset < limit &&
           bind(m, step, token->capture, number - offset);
}

static bool bind_split(struct matcher *m, const struct step *step, const struct tp_token *token, uint64_t number)
{
    uint64_t factor, offset;
    if (!tp_expr_evaluate_whole(&factor, token->factor, m->scope, 1, NULL) || factor > TP_MAP_INDEX_MAX ||
        number / factor >= TP_MAP_INDEX_MAX || !bind(m, step, token->capture, number / factor))
        return false;
    if (token->second != TP_MAP_NONE)
        return bind(m, step, token->second, number % factor);
    return tp_expr_evaluate_whole(&offset, token->offset, m->scope, 0, NULL) && number % factor == offset;
}

/* Digits at a place that can be one number: a 0 stands alone. */
static size_t digit_count(const struct matcher *m, size_t at)
{
    size_t n = 0;
    while (at + n < m->len && n < DIGITS_MAX && m->name[at + n] >= '0' && m->name[at + n] <= '9')
        n++;
    return n > 1 && m->name[at] == '0' ? 1 : n;
}

static bool take_number(struct matcher *m, const struct step *step, const struct tp_token *token, size_t digits)
{
    uint64_t number = 0;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (uint64_t)(m->name[step->at + i] - '0');
    return token->kind == TP_TOKEN_SPLIT ? bind_split(m, step, token, number) : bind_index(m, step, token, number);
}

/* Bytes that a text takes at a place; NO_CHOICE: it does not stand there. */
static size_t take_text(const struct matcher *m, size_t at, const char *text, size_t len)
{
    return len <= m->len - at && memcmp(m->name + at, text, len) == 0 ? len : NO_CHOICE;
}

/* Bytes that the step's choice takes; NO_CHOICE: this one does not fit. */
static size_t take(struct matcher *m, const struct step *step, const struct tp_token *token)
{
    if (token->kind == TP_TOKEN_LITERAL || (token->kind == TP_TOKEN_OPTIONAL && step->choice == 0))
        return take_text(m, step->at, token->text, token->text_len);
    if (token->kind == TP_TOKEN_OPTIONAL)
        return 0;
    if (token->kind == TP_TOKEN_WORD) {
        const char *word = token->words.items[step->choice];
        size_t taken = take_text(m, step->at, word, strlen(word));
        return taken != NO_CHOICE && bind(m, step, token->capture, step->choice) ? taken : NO_CHOICE;
    }
    size_t digits = digit_count(m, step->at) - step->choice; /* long ones first */
    return take_number(m, step, token, digits) ? digits : NO_CHOICE;
}

/* Text that goes on without a digit, or the end: a number before it has but one length. */
static bool ends_numbers(const struct tp_name_pattern *pattern, const struct tp_token *token)
{
    return token == pattern->tokens + pattern->count || (token->kind == TP_TOKEN_LITERAL && token->text_len > 0 &&
                                                         !(token->text[0] >= '0' && token->text[0] <= '9'));
}

static size_t choice_count(const struct matcher *m, const struct step *step, const struct tp_token *token)
{
    size_t digits;
    switch (token->kind) {
    case TP_TOKEN_LITERAL:
        return 1;
    case TP_TOKEN_OPTIONAL:
        return 2;
    case TP_TOKEN_WORD:
        return token->words.count;
    default:
        digits = digit_count(m, step->at);
        return digits > 1 && ends_numbers(m->pattern, token + 1) ? 1 : digits;
    }
}

/* Has it been here before, in vain? Notes that it is here now. */
static bool was_here(struct matcher *m, uint32_t token, size_t at)
{
    if (!m->went_back || m->repeats || token == m->pattern->count)
        return false;
    size_t bit = token * (m->len + 1) + at;
    bool before = m->visited[bit / 64] >> (bit % 64) & 1u;
    m->visited[bit / 64] |= UINT64_C(1) << (bit % 64);
    return before;
}

static void begin_to_remember(struct matcher *m)
{
    m->went_back = true;
    m->repeats = has_repeats(m->pattern);
    memset(m->visited, 0, (m->pattern->count * (m->len + 1) + 63) / 64 * sizeof *m->visited);
}

/* To the last token that has another way. False: there is none. */
static bool go_back(struct matcher *m, uint32_t *token)
{
    do {
        if ((*token)-- == 0)
            return false;
        m->steps[*token].choice++;
    } while (m->steps[*token].choice == choice_count(m, &m->steps[*token], &m->pattern->tokens[*token]));
    if (!m->went_back)
        begin_to_remember(m);
    return true;
}

/* From token to token, and back to the last one that has another way. */
static bool search(struct matcher *m)
{
    const struct tp_token *tokens = m->pattern->tokens;
    uint32_t i = 0;
    m->steps[0] = (struct step){0};
    for (uint32_t count = 0; i < m->pattern->count || m->steps[i].at < m->len; count++) {
        struct step *step = &m->steps[i];
        if (i == m->pattern->count || step->choice == choice_count(m, step, &tokens[i])) {
            if (!go_back(m, &i) || (m->repeats && count >= STEPS_MAX))
                return false;
            continue;
        }
        size_t taken = take(m, step, &tokens[i]);
        if (taken == NO_CHOICE || was_here(m, i + 1, step->at + taken)) {
            step->choice++;
            continue;
        }
        step[1] = (struct step){.at = step->at + taken, .bound = step->bound | captures_of(&tokens[i])};
        i++;
    }
    return true;
}

/* Most names fail at the text that the pattern begins or ends with. */
static bool ends_differ(const struct tp_name_pattern *pattern, const char *name, size_t len)
{
    const struct tp_token *first = pattern->tokens, *last = first + pattern->count - 1;
    return (first->kind == TP_TOKEN_LITERAL &&
            (first->text_len > len || memcmp(name, first->text, first->text_len) != 0)) ||
           (last->kind == TP_TOKEN_LITERAL &&
            (last->text_len > len || memcmp(name + len - last->text_len, last->text, last->text_len) != 0));
}

bool tp_pattern_match(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope, const char *name,
                      size_t len, struct tp_captured *captured)
{
    struct matcher m;
    if (pattern->count == 0 || len > TP_NAME_MAX_BYTES || ends_differ(pattern, name, len))
        return false;
    m.pattern = pattern;
    m.scope = scope;
    m.name = name;
    m.len = len;
    m.went_back = m.repeats = false;
    if (!search(&m))
        return false;
    uint32_t found = m.steps[pattern->count].bound;
    for (uint32_t c = 0; c < TP_MAP_CAPTURES_MAX; c++)
        if (found >> c & 1u)
            captured->value[c] = m.found.value[c];
    return true;
}

/* ---- making ---- */

static bool below_index_max(const struct tp_expr *expr, const struct tp_expr_scope *scope, uint64_t least,
                            char *missing)
{
    uint64_t value;
    if (!expr)
        return true;
    if (!tp_expr_evaluate_whole(&value, expr, scope, least, missing))
        return false;
    if (value > TP_MAP_INDEX_MAX && missing)
        snprintf(missing, 256, "'%.160s' is %" PRIu64 ", more than %u", tp_expr_text(expr), value, TP_MAP_INDEX_MAX);
    return value <= TP_MAP_INDEX_MAX;
}

/* {c*l+2} where c is 2 would never match. */
static bool below_factor(const struct tp_token *token, const struct tp_expr_scope *scope, char *missing)
{
    uint64_t factor, offset;
    if (token->kind != TP_TOKEN_SPLIT || !token->offset)
        return true;
    if (!tp_expr_evaluate_whole(&factor, token->factor, scope, 1, missing) ||
        !tp_expr_evaluate_whole(&offset, token->offset, scope, 0, missing))
        return false;
    if (offset >= factor && missing)
        snprintf(missing, 256, "'%.100s' is %" PRIu64 ", not below '%.100s', which is %" PRIu64,
                 tp_expr_text(token->offset), offset, tp_expr_text(token->factor), factor);
    return offset < factor;
}

bool tp_pattern_check(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope, char *missing)
{
    for (uint32_t i = 0; i < pattern->count; i++) {
        const struct tp_token *token = &pattern->tokens[i];
        if (!below_index_max(token->offset, scope, 0, missing) || !below_index_max(token->limit, scope, 0, missing) ||
            !below_index_max(token->factor, scope, 1, missing) || !below_factor(token, scope, missing))
            return false;
    }
    return true;
}

/* The number that an index is written as. */
static bool number_of(uint64_t *number, const struct tp_token *token, const struct tp_expr_scope *scope,
                      const struct tp_captured *captured)
{
    uint64_t factor = 1, rest = 0;
    *number = captured->value[token->capture];
    if (token->factor && !tp_expr_evaluate_whole(&factor, token->factor, scope, 1, NULL))
        return false;
    if (token->offset && !tp_expr_evaluate_whole(&rest, token->offset, scope, 0, NULL))
        return false;
    if (token->kind == TP_TOKEN_SPLIT && token->second != TP_MAP_NONE)
        rest = captured->value[token->second];
    return !TP_MUL_OVERFLOW(*number, factor, number) && !TP_ADD_OVERFLOW(*number, rest, number);
}

size_t tp_pattern_format(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope,
                         const struct tp_captured *captured, char *dst, size_t cap)
{
    size_t used = 0;
    for (uint32_t i = 0; i < pattern->count; i++) {
        const struct tp_token *token = &pattern->tokens[i];
        const char *text = token->text;
        size_t len = token->text_len;
        char digits[24];
        uint64_t number;
        if (token->kind == TP_TOKEN_WORD) {
            if (captured->value[token->capture] >= token->words.count)
                return SIZE_MAX;
            text = token->words.items[captured->value[token->capture]];
            len = strlen(text);
        } else if (token->kind == TP_TOKEN_INDEX || token->kind == TP_TOKEN_SPLIT) {
            if (!number_of(&number, token, scope, captured))
                return SIZE_MAX;
            len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, number);
            text = digits;
        }
        if (used + len >= cap)
            return SIZE_MAX;
        memcpy(dst + used, text, len);
        used += len;
    }
    if (used >= cap)
        return SIZE_MAX;
    dst[used] = '\0';
    return used;
}

/* ---- likeness ---- */

/* A name between two cursors, and one token walked along it from one end. */
struct span {
    const char *name;
    size_t begin, end;
    bool backwards;
};

static char char_at(const struct span *s, size_t i)
{
    return s->backwards ? s->name[s->end - 1 - i] : s->name[s->begin + i];
}

static void shorten(struct span *s, size_t by)
{
    if (s->backwards)
        s->end -= by;
    else
        s->begin += by;
}

/* Bytes that the end of the span has in common with a text. */
static size_t common(const struct span *s, const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && n < s->end - s->begin && char_at(s, n) == (s->backwards ? text[len - 1 - n] : text[n]))
        n++;
    return n;
}

/* The longest alternative that stands here whole; SIZE_MAX: none does. */
static size_t longest_word(const struct span *s, const struct tp_words *words)
{
    size_t longest = SIZE_MAX;
    for (uint32_t i = 0; i < words->count; i++) {
        size_t len = strlen(words->items[i]);
        if (common(s, words->items[i], len) == len && (longest == SIZE_MAX || len > longest))
            longest = len;
    }
    return longest;
}

static size_t digit_run(const struct span *s)
{
    size_t n = 0;
    while (n < s->end - s->begin && char_at(s, n) >= '0' && char_at(s, n) <= '9')
        n++;
    return n;
}

/* Walk the span past a token. False: it does not stand there. What literals share is added either way. */
static bool walk(struct span *s, const struct tp_token *token, size_t *shared)
{
    size_t n = 0;
    switch (token->kind) {
    case TP_TOKEN_LITERAL:
        n = common(s, token->text, token->text_len);
        *shared += n;
        shorten(s, n);
        return n == token->text_len;
    case TP_TOKEN_OPTIONAL:
        n = common(s, token->text, token->text_len);
        shorten(s, n == token->text_len ? n : 0);
        return true;
    case TP_TOKEN_WORD:
        n = longest_word(s, &token->words);
        shorten(s, n == SIZE_MAX ? 0 : n);
        return n != SIZE_MAX;
    default:
        n = digit_run(s);
        shorten(s, n);
        return n > 0;
    }
}

size_t tp_pattern_likeness(const struct tp_name_pattern *pattern, const char *name, size_t len)
{
    struct span span = {.name = name, .end = len};
    size_t shared = 0;
    uint32_t first = 0, end = pattern->count;
    while (first < end && walk(&span, &pattern->tokens[first], &shared))
        first++;
    span.backwards = true;
    while (end > first && walk(&span, &pattern->tokens[end - 1], &shared))
        end--;
    return shared;
}
