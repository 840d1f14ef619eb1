/* SPDX-License-Identifier: MIT */
/* Expressions: "head_dim | hidden_size / num_attention_heads". They are read once into a list of steps for a stack of
 * values (operators after their operands), and computed as often as somebody asks. Nothing recurses: a dim that needs
 * another one is put aside until that one is known. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "map/parse.h"
#include "tensorport/text.h"

#define STEPS_MAX 64u /* of one expression */
#define DEPTH_MAX 8u  /* values that wait at once */

enum step_kind { A_NUMBER, A_NAME, NEGATE, ROOT, MULTIPLY, DIVIDE, ADD, SUBTRACT, OR, PARENTHESIS };

/* How strongly an operator binds, and how many values it takes. */
static const struct {
    uint8_t strength, operands;
} operators[] = {
    [NEGATE] = {4, 1}, [ROOT] = {5, 1},     [MULTIPLY] = {3, 2}, [DIVIDE] = {3, 2},
    [ADD] = {2, 2},    [SUBTRACT] = {2, 2}, [OR] = {1, 2},       [PARENTHESIS] = {0, 0},
};

struct step {
    enum step_kind kind;
    const char *name;
    double number;
};

struct tp_expr {
    const char *text;
    const struct step *steps;
    uint32_t count;
};

/* ---- reading ---- */

struct reader {
    struct tp_arena *arena;
    const char *text;
    size_t len, at;
    struct step steps[STEPS_MAX];
    enum step_kind waiting[STEPS_MAX]; /* operators whose right side is not yet there */
    uint32_t count, waiting_count;
    struct tp_error *err;
};

static enum tp_status fail(const struct reader *r, const char *expected)
{
    char shown[160], found[16];
    tp_text_printable(shown, sizeof shown, r->text, r->len);
    if (r->at == r->len)
        return tp_fail(r->err, TP_ERR_FORMAT, "the expression '%s' ends where %s is expected", shown, expected);
    tp_text_printable(found, sizeof found, r->text + r->at, 1);
    return tp_fail(r->err, TP_ERR_FORMAT, "the expression '%s' has '%s' at character %zu, where %s is expected", shown,
                   found, r->at + 1, expected);
}

static enum tp_status fail_limit(const struct reader *r)
{
    char shown[160];
    return tp_fail(r->err, TP_ERR_LIMIT,
                   "the expression '%s' is too long: at most %u parts, of which at most %u wait for others",
                   tp_text_printable(shown, sizeof shown, r->text, r->len), STEPS_MAX, DEPTH_MAX);
}

static enum tp_status add_step(struct reader *r, struct step step)
{
    if (r->count == STEPS_MAX)
        return fail_limit(r);
    r->steps[r->count++] = step;
    return TP_OK;
}

static enum tp_status wait_for_right_side(struct reader *r, enum step_kind kind)
{
    if (r->waiting_count == STEPS_MAX)
        return fail_limit(r);
    r->waiting[r->waiting_count++] = kind;
    return TP_OK;
}

/* Operators that bind at least as strongly have both their sides now. */
static enum tp_status settle(struct reader *r, uint8_t strength)
{
    enum tp_status status = TP_OK;
    while (!status && r->waiting_count > 0 && operators[r->waiting[r->waiting_count - 1]].strength >= strength)
        status = add_step(r, (struct step){.kind = r->waiting[--r->waiting_count]});
    return status;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

size_t tp_identifier_length(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z') || text[n] == '_' ||
                       (n > 0 && is_digit(text[n]))))
        n++;
    return n;
}

static size_t digits_end(const struct reader *r, size_t at)
{
    while (at < r->len && is_digit(r->text[at]))
        at++;
    return at;
}

/* 12, 0.5, 1e-6. The JSON reader makes the double of it, the same one in every locale. */
static enum tp_status read_number(struct reader *r)
{
    size_t end = digits_end(r, r->at);
    if (end + 1 < r->len && r->text[end] == '.' && is_digit(r->text[end + 1]))
        end = digits_end(r, end + 1);
    if (end < r->len && (r->text[end] == 'e' || r->text[end] == 'E')) {
        size_t sign = end + 1 < r->len && (r->text[end + 1] == '+' || r->text[end + 1] == '-');
        size_t exponent_end = digits_end(r, end + 1 + sign);
        end = exponent_end > end + 1 + sign ? exponent_end : end;
    }
    struct tp_json *json;
    struct tp_json_token token, after;
    enum tp_status status = tp_json_open_text(&json, r->text + r->at, end - r->at, "number", 1, r->err);
    if (status)
        return status;
    status = tp_json_next(json, &token, NULL);
    if (!status)
        status = tp_json_next(json, &after, NULL); /* "007" is a 0 with something behind it */
    tp_json_close(json);
    if (status == TP_ERR_NOMEM)
        return tp_fail_nomem(r->err);
    if (status)
        return fail(r, "a number within the range of doubles and without leading zeros");
    r->at = end;
    return add_step(r, (struct step){.kind = A_NUMBER, .number = token.number_value});
}

/* hidden_size, text_config.hidden_size, sqrt( */
static enum tp_status read_word(struct reader *r, bool *is_root)
{
    size_t begin = r->at, end = begin, len;
    while ((len = tp_identifier_length(r->text + end, r->len - end)) > 0) {
        end += len;
        if (end + 1 >= r->len || r->text[end] != '.' || tp_identifier_length(r->text + end + 1, 1) == 0)
            break;
        end++;
    }
    r->at = end;
    size_t next = end;
    while (next < r->len && r->text[next] == ' ')
        next++;
    *is_root = end - begin == 4 && memcmp(r->text + begin, "sqrt", 4) == 0 && next < r->len && r->text[next] == '(';
    if (*is_root)
        return wait_for_right_side(r, ROOT);
    const char *name = tp_arena_strndup(r->arena, r->text + begin, end - begin);
    return name ? add_step(r, (struct step){.kind = A_NAME, .name = name}) : tp_fail_nomem(r->err);
}

/* Something with a value, or what stands before it. */
static enum tp_status read_operand(struct reader *r, bool *complete)
{
    char c = r->at < r->len ? r->text[r->at] : '\0';
    *complete = false;
    if (c == '-' || c == '(') {
        r->at++;
        return wait_for_right_side(r, c == '-' ? NEGATE : PARENTHESIS);
    }
    if (is_digit(c)) {
        *complete = true;
        return read_number(r);
    }
    if (tp_identifier_length(&c, 1) == 0)
        return fail(r, "a number, a name, '-' or '('");
    bool is_root = false;
    enum tp_status status = read_word(r, &is_root);
    *complete = !is_root;
    return status;
}

static enum tp_status close_parenthesis(struct reader *r)
{
    enum tp_status status = settle(r, 1);
    if (status)
        return status;
    if (r->waiting_count == 0)
        return fail(r, "an operator");
    r->waiting_count--;
    r->at++;
    return settle(r, operators[ROOT].strength);
}

static enum tp_status read_operator(struct reader *r, bool *complete)
{
    static const char characters[] = "+-*/|";
    static const enum step_kind kinds[] = {ADD, SUBTRACT, MULTIPLY, DIVIDE, OR};
    char c = r->text[r->at];
    if (c == ')')
        return close_parenthesis(r);
    const char *found = c ? strchr(characters, c) : NULL;
    if (!found)
        return fail(r, "an operator");
    enum step_kind kind = kinds[found - characters];
    r->at++;
    *complete = false;
    enum tp_status status = settle(r, operators[kind].strength);
    return status ? status : wait_for_right_side(r, kind);
}

static void skip_blanks(struct reader *r)
{
    while (r->at < r->len && r->text[r->at] == ' ')
        r->at++;
}

static enum tp_status read_all(struct reader *r)
{
    bool complete = false; /* a value stands before the cursor */
    enum tp_status status = TP_OK;
    for (skip_blanks(r); !status && (r->at < r->len || !complete); skip_blanks(r))
        status = complete ? read_operator(r, &complete) : read_operand(r, &complete);
    if (!status)
        status = settle(r, 1);
    if (!status && r->waiting_count > 0)
        status = fail(r, "')'");
    return status;
}

static bool is_too_deep(const struct reader *r)
{
    uint32_t depth = 0, most = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        depth = depth + 1u - operators[r->steps[i].kind].operands;
        most = depth > most ? depth : most;
    }
    return most > DEPTH_MAX;
}

enum tp_status tp_expr_parse(const struct tp_expr **out, struct tp_arena *arena, const char *text, size_t len,
                             struct tp_error *err)
{
    struct reader r = {.arena = arena, .text = text, .len = len, .err = err};
    enum tp_status status = read_all(&r);
    if (!status && is_too_deep(&r))
        status = fail_limit(&r);
    if (status)
        return status;
    struct tp_expr *expr = tp_arena_alloc(arena, sizeof *expr);
    struct step *steps = tp_arena_alloc(arena, r.count * sizeof *steps);
    const char *copy = tp_arena_strndup(arena, text, len);
    if (!expr || !steps || !copy)
        return tp_fail_nomem(err);
    memcpy(steps, r.steps, r.count * sizeof *steps);
    *expr = (struct tp_expr){.text = copy, .steps = steps, .count = r.count};
    *out = expr;
    return TP_OK;
}

const char *tp_expr_text(const struct tp_expr *expr)
{
    return expr->text;
}

const char *tp_expr_name(const struct tp_expr *expr, uint32_t index)
{
    for (uint32_t i = 0; i < expr->count; i++)
        if (expr->steps[i].kind == A_NAME && index-- == 0)
            return expr->steps[i].name;
    return NULL;
}

bool tp_expr_constant(double *value, const struct tp_expr *expr)
{
    return !tp_expr_name(expr, 0) && tp_expr_evaluate(value, expr, NULL, NULL);
}

/* ---- computing ---- */

/* What is wrong travels with the value: "a | b" asks for b only where a is not there. */
enum problem { NONE, NOT_THERE, NEEDS_ITSELF, DIVIDED_BY_ZERO, ROOT_OF_NEGATIVE };

struct value {
    double number;
    const char *name; /* of NOT_THERE, NEEDS_ITSELF */
    enum problem problem;
};

struct frame { /* an expression that has been begun */
    const struct tp_expr *expr;
    uint32_t next, dim;
};

enum dim_state { UNKNOWN = 0, BEGUN, KNOWN };

struct machine {
    const struct tp_expr_scope *scope;
    struct frame frames[TP_MAP_DIMS_MAX + 1];
    struct value values[(TP_MAP_DIMS_MAX + 1) * DEPTH_MAX];
    struct value dims[TP_MAP_DIMS_MAX];
    uint8_t states[TP_MAP_DIMS_MAX]; /* enum dim_state */
    uint32_t frame_count, value_count;
};

static struct value combined(enum step_kind kind, struct value a, struct value b)
{
    if (kind == OR)
        return a.problem == NOT_THERE ? b : a;
    if (a.problem || b.problem)
        return a.problem ? a : b;
    if (kind == DIVIDE && b.number == 0)
        return (struct value){.problem = DIVIDED_BY_ZERO};
    a.number = kind == ADD        ? a.number + b.number
               : kind == SUBTRACT ? a.number - b.number
               : kind == MULTIPLY ? a.number * b.number
                                  : a.number / b.number;
    return a;
}

static struct value changed(enum step_kind kind, struct value a)
{
    if (a.problem)
        return a;
    if (kind == ROOT && a.number < 0)
        return (struct value){.problem = ROOT_OF_NEGATIVE};
    a.number = kind == ROOT ? sqrt(a.number) : -a.number;
    return a;
}

static uint32_t dim_of(const struct tp_map *map, const char *name)
{
    for (uint32_t i = 0; map && i < map->dim_count && i < TP_MAP_DIMS_MAX; i++)
        if (strcmp(map->dims[i].name, name) == 0)
            return i;
    return TP_MAP_NONE;
}

/* The value of a name. False: a dim must be computed first; its frame has been begun. */
static bool look_up(struct machine *m, const char *name, struct value *value)
{
    const struct tp_map *map = m->scope ? m->scope->map : NULL;
    uint32_t dim = dim_of(map, name);
    *value = (struct value){.name = name};
    if (dim == TP_MAP_NONE) {
        if (!m->scope || !tp_config_numbers_find(m->scope->config, name, &value->number))
            value->problem = NOT_THERE;
        return true;
    }
    if (m->states[dim] == UNKNOWN) {
        m->states[dim] = BEGUN;
        m->frames[m->frame_count++] = (struct frame){.expr = map->dims[dim].size, .dim = dim};
        return false;
    }
    if (m->states[dim] == KNOWN)
        *value = m->dims[dim];
    else
        value->problem = NEEDS_ITSELF;
    return true;
}

/* One step of the expression that was begun last. */
static void step_on(struct machine *m, struct frame *frame)
{
    const struct step *step = &frame->expr->steps[frame->next];
    struct value value = {.number = step->number};
    if (step->kind == A_NAME && !look_up(m, step->name, &value))
        return;
    frame->next++;
    uint32_t operands = operators[step->kind].operands;
    struct value *top = m->values + m->value_count - operands;
    if (operands == 2)
        value = combined(step->kind, top[0], top[1]);
    else if (operands == 1)
        value = changed(step->kind, top[0]);
    *top = value;
    m->value_count += 1u - operands;
}

static struct value compute(const struct tp_expr *expr, const struct tp_expr_scope *scope)
{
    struct machine m;
    m.scope = scope;
    m.frames[0] = (struct frame){.expr = expr, .dim = TP_MAP_NONE};
    m.frame_count = 1;
    m.value_count = 0;
    memset(m.states, UNKNOWN, sizeof m.states);
    for (;;) {
        struct frame *frame = &m.frames[m.frame_count - 1];
        if (frame->next < frame->expr->count) {
            step_on(&m, frame);
            continue;
        }
        struct value value = m.values[--m.value_count];
        if (--m.frame_count == 0)
            return value;
        m.dims[frame->dim] = value;
        m.states[frame->dim] = KNOWN;
    }
}

#define MISSING_BYTES 256u

static void explain(char *missing, const struct value *value, const struct tp_expr *expr,
                    const struct tp_expr_scope *scope)
{
    static const char *const words[] = {
        [NONE] = "is out of range",
        [DIVIDED_BY_ZERO] = "divides by zero",
        [ROOT_OF_NEGATIVE] = "takes the square root of a negative number",
    };
    if (!missing)
        return;
    if (value->problem == NEEDS_ITSELF)
        snprintf(missing, MISSING_BYTES, "the dim '%.160s' needs itself", value->name);
    else if (value->problem != NOT_THERE)
        snprintf(missing, MISSING_BYTES, "'%.160s' %s", expr->text, words[value->problem]);
    else if (scope && scope->config)
        snprintf(missing, MISSING_BYTES, "'%.160s' is neither a dim of the map nor a number in config.json",
                 value->name);
    else
        snprintf(missing, MISSING_BYTES, "'%.160s' is not a dim of the map, and there is no config.json", value->name);
}

bool tp_expr_evaluate(double *value, const struct tp_expr *expr, const struct tp_expr_scope *scope, char *missing)
{
    if (expr->count == 1 && expr->steps[0].kind == A_NUMBER) {
        *value = expr->steps[0].number;
        return true;
    }
    struct value result = compute(expr, scope);
    if (result.problem != NONE || !isfinite(result.number)) {
        explain(missing, &result, expr, scope);
        return false;
    }
    *value = result.number;
    return true;
}

bool tp_expr_evaluate_whole(uint64_t *value, const struct tp_expr *expr, const struct tp_expr_scope *scope,
                            uint64_t least, char *missing)
{
    static const double most = 9007199254740992.0; /* 2^53: beyond it doubles are not one apart */
    double number;
    if (!tp_expr_evaluate(&number, expr, scope, missing))
        return false;
    if (!(number >= (double)least && number <= most && number == floor(number))) {
        if (missing)
            snprintf(missing, MISSING_BYTES, "'%.160s' is %.17g, not a whole number from %u on", expr->text, number,
                     (unsigned)least);
        return false;
    }
    *value = (uint64_t)number;
    return true;
}
