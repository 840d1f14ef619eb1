/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map/parse.h"
#include "tensorport/checkpoint.h"

/* A rule's names while a test reads them; dims c = 2, d = 3. */
struct stage {
    struct tp_arena arena;
    struct tp_capture_table captures;
    struct tp_dim dims[2];
    struct tp_map map;
    struct tp_expr_scope scope;
};

static int set_up(void **state)
{
    static struct stage stage;
    memset(&stage, 0, sizeof stage);
    stage.dims[0].name = "c";
    stage.dims[1].name = "d";
    assert_int_equal(tp_expr_parse(&stage.dims[0].size, &stage.arena, "2", 1, NULL), TP_OK);
    assert_int_equal(tp_expr_parse(&stage.dims[1].size, &stage.arena, "3", 1, NULL), TP_OK);
    stage.map.dims = stage.dims;
    stage.map.dim_count = 2;
    stage.scope.map = &stage.map;
    *state = &stage;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *s = *state;
    tp_arena_release(&s->arena);
    return 0;
}

static enum tp_status parse_at(struct stage *s, struct tp_name_pattern *pattern, enum tp_name_place place,
                               const char *text, struct tp_error *err)
{
    uint32_t mentioned;
    const char *copy = tp_arena_strndup(&s->arena, text, strlen(text));
    return tp_pattern_parse(pattern, &mentioned, &s->captures, place, &s->arena, copy, strlen(copy), err);
}

static struct tp_name_pattern pattern_at(struct stage *s, enum tp_name_place place, const char *text)
{
    struct tp_name_pattern pattern = {0};
    struct tp_error err = {.code = TP_OK};
    if (parse_at(s, &pattern, place, text, &err))
        fail_msg("%s", err.message);
    return pattern;
}

/* The captures in their order, "3,0", or "no". */
static const char *matched(struct stage *s, const char *pattern_text, const char *name)
{
    static char text[256];
    s->captures.count = 0;
    struct tp_name_pattern pattern = pattern_at(s, TP_NAME_FROM, pattern_text);
    struct tp_captured captured = {0};
    if (!tp_pattern_match(&pattern, &s->scope, name, strlen(name), &captured))
        return "no";
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t c = 0; c < s->captures.count; c++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIu64, c ? "," : "", captured.value[c]);
    return text;
}

/* ---- matching ---- */

static void names_are_matched_from_end_to_end(void **state)
{
    static const struct {
        const char *pattern, *name, *captures;
    } rows[] = {
        {"lm_head.weight", "lm_head.weight", ""},
        {"lm_head.weight", "lm_head.weight_scale", "no"},
        {"lm_head.weight", "model.lm_head.weight", "no"},
        {"lm_head.weight", "lm_head.weigh", "no"},
        {"model.layers.{l}.q_proj.weight", "model.layers.17.q_proj.weight", "17"},
        {"model.layers.{l}.q_proj.weight", "model.layers.0.q_proj.weight", "0"},
        {"model.layers.{l}.q_proj.weight", "model.layers.07.q_proj.weight", "no"},
        {"model.layers.{l}.q_proj.weight", "model.layers..q_proj.weight", "no"},
        {"model.layers.{l}.q_proj.weight", "model.layers.1x.q_proj.weight", "no"},
        {"model.layers.{l}.q_proj.weight", "model.layers.-1.q_proj.weight", "no"},
        {"h.{l}", "h.1048575", "1048575"},
        {"h.{l}", "h.1048576", "no"},
        {"h.{l}", "h.18446744073709551617", "no"},
        {"{l}", "5", "5"},
        {"{p:q|k|v}_proj", "k_proj", "1"},
        {"{p:q|k|v}_proj", "o_proj", "no"},
        {"{p:gate|gate_up}_proj", "gate_up_proj", "1"}, /* the first alternative fits at first */
        {"x{p:|_bias}", "x", "0"},
        {"x{p:|_bias}", "x_bias", "1"},
        {"[model.]norm", "model.norm", ""},
        {"[model.]norm", "norm", ""},
        {"[model.]norm", "mode.norm", "no"},
        {"[a][a]a", "aa", ""},
        {"[a][a]a", "aaaa", "no"},
        {"x.{l+3}", "x.3", "0"},
        {"x.{l+3}", "x.12", "9"},
        {"x.{l+3}", "x.2", "no"},
        {"x.{l+d}", "x.4", "1"},
        {"x.{l<3}", "x.2", "2"},
        {"x.{l<3}", "x.3", "no"},
        {"x.{l<d}", "x.3", "no"},
        {"x.{l<0}", "x.0", "no"},
        {"x.{c*l+b}", "x.7", "3,1"},
        {"x.{12*l+b}", "x.35", "2,11"},
        {"x.{2*l+1}", "x.7", "3"},
        {"x.{2*l+1}", "x.6", "no"},
        {"x.{c*l+0}", "x.6", "3"},
        {"x.{1048576*l+b}", "x.1099511627775", "1048575,1048575"},
        {"x.{1048576*l+b}", "x.1099511627776", "no"},
        {"{l}{m}", "123", "12,3"}, /* long numbers first */
        {"{l}{m}", "103", "10,3"},
        {"{l}{m}", "100", "10,0"},
        {"{l}{m}", "00", "0,0"},
        {"{l}1", "11", "1"},
        {"{l}1", "111", "11"},
        {"{l}.{l}", "3.3", "3"},
        {"{l}.{l}", "3.4", "no"},
        {"{l}.{l+3}", "3.6", "3"},
        {"{c*l+b}.{b}.{l}", "7.1.3", "3,1"},
        {"{c*l+b}.{b}.{l}", "7.1.2", "no"},
        {"{p:q|k}.{p:query|key}", "k.key", "1"},
        {"{p:q|k}.{p:query|key}", "k.query", "no"},
        {"{l}{l}", "1212", "12"}, /* neither the longest nor the shortest first number fits */
        {"{p:a|aa|aaa}{p:a|aa|aaa}", "aaaa", "1"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        if (strcmp(matched(*state, rows[i].pattern, rows[i].name), rows[i].captures) != 0)
            fail_msg("%s on %s: %s, not %s", rows[i].pattern, rows[i].name,
                     matched(*state, rows[i].pattern, rows[i].name), rows[i].captures);
}

static void captures_of_other_names_are_left_alone(void **state)
{
    struct stage *s = *state;
    struct tp_name_pattern one = pattern_at(s, TP_NAME_FROM, "{a}.x"), other = pattern_at(s, TP_NAME_FROM, "{b}.{a}");
    struct tp_captured captured = {.value = {11, 22}};
    assert_true(tp_pattern_match(&one, &s->scope, "5.x", 3, &captured));
    assert_int_equal(captured.value[0], 5);
    assert_int_equal(captured.value[1], 22);
    assert_false(tp_pattern_match(&other, &s->scope, "7.x", 3, &captured));
    assert_int_equal(captured.value[0], 5);
    assert_int_equal(captured.value[1], 22);
}

static void nothing_but_the_given_bytes_is_looked_at(void **state)
{
    struct stage *s = *state;
    struct tp_name_pattern pattern = pattern_at(s, TP_NAME_FROM, "a{l}[b]{p:cd|c}");
    struct tp_captured captured;
    static const char text[] = "a12bcd";
    for (size_t len = 0; len < sizeof text; len++) {
        char *exact = malloc(len ? len : 1); /* ASan watches its end */
        assert_non_null(exact);
        memcpy(exact, text, len);
        assert_int_equal(tp_pattern_match(&pattern, &s->scope, exact, len, &captured), len == 5 || len == 6);
        free(exact);
    }
}

/* ---- against the plainest matcher there is ---- */

struct naive {
    const struct tp_name_pattern *pattern;
    const char *name;
    size_t len;
    uint64_t value[TP_MAP_CAPTURES_MAX];
    uint32_t bound;
};

static bool naive_match(struct naive *n, uint32_t token, size_t at);

static bool naive_bind(struct naive *n, const uint32_t *captures, const uint64_t *values, unsigned count,
                       uint32_t token, size_t at)
{
    struct naive before = *n;
    for (unsigned i = 0; i < count; i++) {
        if ((n->bound >> captures[i] & 1u) && n->value[captures[i]] != values[i]) {
            *n = before;
            return false;
        }
        n->value[captures[i]] = values[i];
        n->bound |= UINT32_C(1) << captures[i];
    }
    if (naive_match(n, token + 1, at))
        return true;
    *n = before;
    return false;
}

static bool naive_number(struct naive *n, const struct tp_token *t, uint32_t token, size_t at, size_t digits)
{
    uint64_t number = 0;
    double factor = 1, offset = 0, limit = TP_MAP_INDEX_MAX;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (uint64_t)(n->name[at + i] - '0');
    if (t->factor)
        tp_expr_constant(&factor, t->factor);
    if (t->offset)
        tp_expr_constant(&offset, t->offset);
    if (t->limit)
        tp_expr_constant(&limit, t->limit);
    uint64_t first = t->factor ? number / (uint64_t)factor : number - (uint64_t)offset;
    uint32_t captures[2] = {t->capture, t->second};
    uint64_t values[2] = {first, number % (uint64_t)factor};
    if (number < (uint64_t)offset || first >= (uint64_t)limit || first >= TP_MAP_INDEX_MAX ||
        (t->factor && t->second == TP_MAP_NONE && values[1] != (uint64_t)offset))
        return false;
    return naive_bind(n, captures, values, t->factor && t->second != TP_MAP_NONE ? 2 : 1, token, at + digits);
}

static bool stands(const struct naive *n, size_t at, const char *text, size_t len)
{
    return len <= n->len - at && memcmp(n->name + at, text, len) == 0;
}

static bool naive_match(struct naive *n, uint32_t token, size_t at)
{
    if (token == n->pattern->count)
        return at == n->len;
    const struct tp_token *t = &n->pattern->tokens[token];
    if (t->kind == TP_TOKEN_LITERAL || t->kind == TP_TOKEN_OPTIONAL)
        return (stands(n, at, t->text, t->text_len) && naive_match(n, token + 1, at + t->text_len)) ||
               (t->kind == TP_TOKEN_OPTIONAL && naive_match(n, token + 1, at));
    if (t->kind == TP_TOKEN_WORD) {
        for (uint64_t w = 0; w < t->words.count; w++) {
            size_t len = strlen(t->words.items[w]);
            if (stands(n, at, t->words.items[w], len) && naive_bind(n, &t->capture, &w, 1, token, at + len))
                return true;
        }
        return false;
    }
    size_t digits = 0;
    while (digits < 13 && at + digits < n->len && n->name[at + digits] >= '0' && n->name[at + digits] <= '9')
        digits++;
    for (; digits > 0; digits--)
        if ((digits == 1 || n->name[at] != '0') && naive_number(n, t, token, at, digits))
            return true;
    return false;
}

static uint64_t seed = 20240607;
static unsigned dice(unsigned sides)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(seed >> 33) % sides;
}

static const char *const parts[] = {
    "a",   "b",     "1",     "0",       "12",      "[a]",     "[1]",     "[ab]",       "{l}",
    "{m}", "{l+1}", "{l<2}", "{2*l+b}", "{3*m+1}", "{p:a|b}", "{p:1|a}", "{q:a|aa|b}", "{r:|a|1|12}",
};

/* Everything the pattern may be, with few letters, so that much can be read in more than one way. */
static void random_pattern(char *text, size_t cap)
{
    size_t used = 0;
    for (unsigned i = 1 + dice(7); i > 0; i--)
        used += (size_t)snprintf(text + used, cap - used, "%s", parts[dice(TP_COUNT_OF(parts))]);
}

static void random_name(char *text)
{
    unsigned len = dice(12);
    for (unsigned i = 0; i < len; i++)
        text[i] = "aab1120"[dice(7)];
    text[len] = '\0';
}

/* A name that fits now and then: the pattern made with captures of chance. */
static void fitting_name(struct stage *s, const struct tp_name_pattern *pattern, char *text, size_t cap)
{
    struct tp_captured captured;
    for (unsigned c = 0; c < TP_MAP_CAPTURES_MAX; c++)
        captured.value[c] = dice(s->captures.words[c] ? s->captures.words[c] : 14);
    assert_true(tp_pattern_format(pattern, &s->scope, &captured, text, cap) != SIZE_MAX);
}

static bool has_optional(const struct tp_name_pattern *pattern)
{
    for (uint32_t i = 0; i < pattern->count; i++)
        if (pattern->tokens[i].kind == TP_TOKEN_OPTIONAL)
            return true;
    return false;
}

static bool agrees(struct stage *s, const struct tp_name_pattern *pattern, const char *name)
{
    struct tp_captured captured = {0};
    struct naive n = {.pattern = pattern, .name = name, .len = strlen(name)};
    bool expected = naive_match(&n, 0, 0), found = tp_pattern_match(pattern, &s->scope, name, strlen(name), &captured);
    if (expected != found || (found && memcmp(captured.value, n.value, sizeof n.value) != 0))
        fail_msg("%s on %s: %d, %d", pattern->text, name, found, expected);
    char again[128];
    if (found && !has_optional(pattern)) { /* what matched is what is made of the captures */
        assert_int_equal(tp_pattern_format(pattern, &s->scope, &captured, again, sizeof again), strlen(name));
        assert_string_equal(again, name);
    }
    return found;
}

static void all_readings_are_tried_in_their_order(void **state)
{
    struct stage *s = *state;
    unsigned found = 0;
    for (unsigned i = 0; i < 20000; i++) {
        char text[256], name[128];
        struct tp_name_pattern pattern;
        memset(&s->captures, 0, sizeof s->captures);
        random_pattern(text, sizeof text);
        if (parse_at(s, &pattern, TP_NAME_FROM, text, NULL))
            continue; /* a capture with two meanings */
        for (unsigned k = 0; k < 8; k++) {
            if (k % 2)
                random_name(name);
            else
                fitting_name(s, &pattern, name, sizeof name);
            found += agrees(s, &pattern, name);
        }
        tp_arena_release(&s->arena);
    }
    assert_true(found > 20000);
}

/* 10^15 ways to read it, none of which fits. */
static void many_readings_take_no_longer(void **state)
{
    struct stage *s = *state;
    char pattern_text[2048] = "", name[TP_NAME_MAX_BYTES];
    struct tp_name_pattern pattern;
    memset(name, 'a', sizeof name);
    for (unsigned i = 0; i < 16; i++)
        snprintf(pattern_text + strlen(pattern_text), 64, "{p%u:a|aa|aaa|aaaa}[aa][aaa][a]", i);
    pattern = pattern_at(s, TP_NAME_FROM, pattern_text);
    struct tp_captured captured;
    assert_false(tp_pattern_match(&pattern, &s->scope, name, 161, &captured));
    assert_true(tp_pattern_match(&pattern, &s->scope, name, 160, &captured));
    assert_true(tp_pattern_match(&pattern, &s->scope, name, 16, &captured));
    assert_false(tp_pattern_match(&pattern, &s->scope, name, 15, &captured));
    assert_false(tp_pattern_match(&pattern, &s->scope, name, sizeof name, &captured));
    memset(name, '1', sizeof name);
    s->captures.count = 0;
    pattern = pattern_at(s, TP_NAME_FROM, "{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n}{o}{q}[x]");
    assert_true(tp_pattern_match(&pattern, &s->scope, name, 96, &captured));
    assert_false(tp_pattern_match(&pattern, &s->scope, name, 1000, &captured));
    s->captures.count = 0; /* twice the same captures: bounded too */
    pattern = pattern_at(s, TP_NAME_FROM, "{a}{b}{c}{d}{e}{f}{g}{a}{b}{c}{d}{e}{f}{g}1[x]");
    assert_false(tp_pattern_match(&pattern, &s->scope, name, 100, &captured));
}

static void longer_names_than_there_are_do_not_match(void **state)
{
    struct stage *s = *state;
    static char name[TP_NAME_MAX_BYTES + 2];
    struct tp_captured captured;
    struct tp_name_pattern pattern = pattern_at(s, TP_NAME_FROM, "{p:x|y}[z]");
    memset(name, 'x', sizeof name);
    assert_false(tp_pattern_match(&pattern, &s->scope, name, sizeof name, &captured));
    assert_false(tp_pattern_match(&pattern, &s->scope, name, TP_NAME_MAX_BYTES, &captured));
}

/* ---- making ---- */

static void captures_become_names(void **state)
{
    static const struct {
        const char *from, *to, *name, *made;
    } rows[] = {
        {"model.layers.{l}.{p:q|k|v}_proj", "layers_{l}/{p:query|key|value}/kernel", "model.layers.3.k_proj",
         "layers_3/key/kernel"},
        {"x.{c*l+b}", "layers/layers_{b}/{l}", "x.7", "layers/layers_1/3"},
        {"x.{l}.{b}", "y.{c*l+b}", "x.3.1", "y.7"},
        {"x.{l}", "y.{2*l+1}", "x.3", "y.7"},
        {"x.{l+3}", "moe_{l}", "x.5", "moe_2"},
        {"x.{l}", "y.{l+3}", "x.2", "y.5"},
        {"x.{l}", "y.{l<3}", "x.2", "y.2"},
        {"h.{l}", "weights.layers[{l}].attn", "h.12", "weights.layers[12].attn"},
        {"[model.]{p:a|b}", "{p:|w}x", "model.a", "x"},
        {"{p:a|b}", "{p:b|a}", "a", "b"},
    };
    struct stage *s = *state;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char made[64];
        struct tp_captured captured = {0};
        memset(&s->captures, 0, sizeof s->captures);
        struct tp_name_pattern from = pattern_at(s, TP_NAME_FROM, rows[i].from);
        struct tp_name_pattern to = pattern_at(s, TP_NAME_TO, rows[i].to);
        assert_true(tp_pattern_match(&from, &s->scope, rows[i].name, strlen(rows[i].name), &captured));
        assert_int_equal(tp_pattern_format(&to, &s->scope, &captured, made, sizeof made), strlen(rows[i].made));
        assert_string_equal(made, rows[i].made);
    }
}

static void a_name_that_does_not_fit_is_not_made(void **state)
{
    struct stage *s = *state;
    struct tp_name_pattern pattern = pattern_at(s, TP_NAME_TO, "ab{l}{p:c|dd}");
    struct tp_captured captured = {.value = {123, 1}};
    char made[16];
    memset(made, 'X', sizeof made);
    for (size_t cap = 0; cap <= 7; cap++)
        assert_int_equal(tp_pattern_format(&pattern, &s->scope, &captured, made, cap), SIZE_MAX);
    assert_int_equal(tp_pattern_format(&pattern, &s->scope, &captured, made, 8), 7);
    assert_string_equal(made, "ab123dd");
    assert_int_equal(made[8], 'X');
    captured.value[1] = 2; /* no such word */
    assert_int_equal(tp_pattern_format(&pattern, &s->scope, &captured, made, sizeof made), SIZE_MAX);
}

static void expressions_of_a_name_are_checked_beforehand(void **state)
{
    static const struct {
        const char *pattern, *missing;
    } rows[] = {
        {"x.{c*l+b}.{m+d}.{n<0}", NULL},
        {"x.{c*l+1}", NULL},
        {"x.{c*l+2}", "'2' is 2, not below 'c', which is 2"},
        {"x.{nothing*l+b}", "'nothing' is not a dim of the map, and there is no config.json"},
        {"x.{l+nothing}", "'nothing' is not a dim of the map, and there is no config.json"},
        {"x.{l<half}", "'half' is 0.5, not a whole number from 0 on"},
        {"x.{zero*l+b}", "'zero' is 0, not a whole number from 1 on"},
        {"x.{l+large}", "'large' is 1048577, more than 1048576"},
    };
    struct stage *s = *state;
    struct tp_dim dims[5] = {s->dims[0], s->dims[1], {"half", NULL}, {"zero", NULL}, {"large", NULL}};
    assert_int_equal(tp_expr_parse(&dims[2].size, &s->arena, "1/2", 3, NULL), TP_OK);
    assert_int_equal(tp_expr_parse(&dims[3].size, &s->arena, "0", 1, NULL), TP_OK);
    assert_int_equal(tp_expr_parse(&dims[4].size, &s->arena, "1048577", 7, NULL), TP_OK);
    s->map.dims = dims;
    s->map.dim_count = 5;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char missing[256] = "";
        struct tp_captured captured;
        s->captures.count = 0;
        struct tp_name_pattern pattern = pattern_at(s, TP_NAME_FROM, rows[i].pattern);
        assert_int_equal(tp_pattern_check(&pattern, &s->scope, missing), rows[i].missing == NULL);
        assert_int_equal(tp_pattern_check(&pattern, &s->scope, NULL), rows[i].missing == NULL);
        if (rows[i].missing) {
            assert_string_equal(missing, rows[i].missing);
            assert_false(tp_pattern_match(&pattern, &s->scope, "x.2", 3, &captured));
        }
    }
}

/* ---- likeness ---- */

static size_t likeness(struct stage *s, const char *pattern_text, const char *name)
{
    s->captures.count = 0;
    struct tp_name_pattern pattern = pattern_at(s, TP_NAME_FROM, pattern_text);
    return tp_pattern_likeness(&pattern, name, strlen(name));
}

static void what_shares_more_text_is_nearer(void **state)
{
    struct stage *s = *state;
    static const char rule[] = "model.layers.{l}.self_attn.{p:q|k|v}_proj.weight";
    assert_int_equal(likeness(s, rule, "model.layers.3.self_attn.q_proj.weight"), 13 + 11 + 12);
    assert_int_equal(likeness(s, rule, "model.layers.3.self_attn.o_proj.weight"), 13 + 11 + 12);
    assert_int_equal(likeness(s, rule, "model.layers.3.self_attn.q_proj.bias"), 13 + 11 + 6);
    assert_int_equal(likeness(s, rule, "layers.3.self_attn.q_proj.weight"), 7 + 11 + 12);
    assert_int_equal(likeness(s, rule, "model.norm.weight"), 6 + 7);
    assert_int_equal(likeness(s, rule, ""), 0);
    assert_int_equal(likeness(s, rule, "xyz"), 0);
    assert_int_equal(likeness(s, "[model.]norm", "model.norm"), 4);
    assert_int_equal(likeness(s, "[model.]norm", "norm"), 4);
    assert_int_equal(likeness(s, "aa", "a"), 1); /* not from both ends */
    assert_int_equal(likeness(s, "{l}", "x"), 0);
}

/* ---- what is no name ---- */

static void what_is_no_name_is_refused_with_the_place(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "a name is empty"},
        {"a{l", "the name 'a{l': '{' without '}' (character 2)"},
        {"a}b", "the name 'a}b': '}' without '{' (character 2)"},
        {"[a", "the name '[a': '[' without ']' (character 1)"},
        {"a]", "the name 'a]': ']' without '[' (character 2)"},
        {"[]a", "the name '[]a': expected plain text in brackets: in 'from' they make it optional (character 1)"},
        {"l[{l}]", "the name 'l[{l}]': expected plain text in brackets: in 'from' they make it optional (character 2)"},
        {"{}", "the name '{}': expected {l}, {l+3}, {l<3}, {c*l+b} or {p:q|k|v} (character 1)"},
        {"{ l}", "the name '{ l}': expected {l}, {l+3}, {l<3}, {c*l+b} or {p:q|k|v} (character 1)"},
        {"{l-1}", "the name '{l-1}': expected {l}, {l+3}, {l<3}, {c*l+b} or {p:q|k|v} (character 1)"},
        {"{1}", "the name '{1}': expected {l}, {l+3}, {l<3}, {c*l+b} or {p:q|k|v} (character 1)"},
        {"{l+}", "the name '{l+}': expected an integer or a dim beside a capture (character 1)"},
        {"{l+a|b}", "the name '{l+a|b}': expected an integer or a dim beside a capture (character 1)"},
        {"{l+1.5}", "the name '{l+1.5}': a number beside a capture is at most 1,048,576, and whole (character 1)"},
        {"{l+1048577}",
         "the name '{l+1048577}': a number beside a capture is at most 1,048,576, and whole (character 1)"},
        {"{2*l}", "the name '{2*l}': expected {c*l+b} or {c*l+1}, l and b being captures (character 1)"},
        {"{2*l+b+1}", "the name '{2*l+b+1}': expected {c*l+b} or {c*l+1}, l and b being captures (character 1)"},
        {"{*l+b}", "the name '{*l+b}': expected an integer or a dim beside a capture (character 1)"},
        {"{0*l+b}", "the name '{0*l+b}': a factor is at least 1 (character 1)"},
        {"{2*l+2}", "the name '{2*l+2}': the number behind '+' is below the factor (character 1)"},
        {"{2*l+l}", "the name '{2*l+l}': the two captures of {c*l+b} need two names (character 1)"},
        {"{p:}", "the name '{p:}': no words behind ':' (character 1)"},
        {"{p:{l}}", "the name '{p:{l}}': '{' within a capture (character 1)"},
        {"{l}{l:a|b}", "the name '{l}{l:a|b}': a capture is a number in one place and one of some words in another "
                       "(character 4)"},
        {"{p:a|b}{p:a}",
         "the name '{p:a|b}{p:a}': a capture has more alternatives in one place than in another (character 8)"},
        {"\x1b[2J", "the name '\\x1b[2J': '[' without ']' (character 2)"},
    };
    struct stage *s = *state;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_name_pattern pattern;
        struct tp_error err = {.code = TP_OK};
        s->captures.count = 0;
        assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, rows[i].text, &err), TP_ERR_FORMAT);
        assert_string_equal(err.message, rows[i].message);
    }
}

static void names_beside_have_captures_of_from_alone(void **state)
{
    struct stage *s = *state;
    struct tp_name_pattern pattern;
    struct tp_error err;
    pattern_at(s, TP_NAME_FROM, "{l}");
    pattern_at(s, TP_NAME_TO, "{m}");
    assert_int_equal(parse_at(s, &pattern, TP_NAME_BESIDE, "x[{l}]", &err), TP_OK);
    assert_int_equal(parse_at(s, &pattern, TP_NAME_BESIDE, "{m}", &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "the name '{m}': a capture that no name of 'from' has (character 1)");
    assert_int_equal(parse_at(s, &pattern, TP_NAME_BESIDE, "{n}", &err), TP_ERR_FORMAT);
    assert_true(s->captures.rows[0].in_from && !s->captures.rows[0].in_to);
    assert_true(!s->captures.rows[1].in_from && s->captures.rows[1].in_to);
}

static void limits_of_names_are_kept(void **state)
{
    struct stage *s = *state;
    struct tp_name_pattern pattern;
    struct tp_error err;
    char text[4096] = "";
    for (unsigned i = 0; i < TP_MAP_CAPTURES_MAX; i++)
        snprintf(text + strlen(text), 16, "{a%u}", i);
    assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, text, &err), TP_OK);
    assert_int_equal(parse_at(s, &pattern, TP_NAME_TO, "{another}", &err), TP_ERR_LIMIT);
    assert_string_equal(err.message, "the name '{another}': more than 16 captures in one rule (character 1)");
    text[0] = '\0';
    for (unsigned i = 0; i < TP_MAP_TOKENS_MAX / 2; i++)
        snprintf(text + strlen(text), 16, "{a0}.");
    assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, text, &err), TP_OK);
    snprintf(text + strlen(text), 16, "{a0}");
    assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, text, &err), TP_ERR_LIMIT);
    s->captures.count = 0;
    snprintf(text, sizeof text, "{p:");
    for (unsigned i = 0; i < 255; i++)
        snprintf(text + strlen(text), 16, "a|");
    snprintf(text + strlen(text), 16, "a}");
    assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, text, &err), TP_OK);
    snprintf(text + strlen(text) - 1, 16, "|a}");
    assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, text, &err), TP_ERR_LIMIT);
    s->captures.token_count = 131072;
    assert_int_equal(parse_at(s, &pattern, TP_NAME_FROM, "x", &err), TP_ERR_LIMIT);
}

int main(void)
{
#define STAGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        STAGED(names_are_matched_from_end_to_end),
        STAGED(captures_of_other_names_are_left_alone),
        STAGED(nothing_but_the_given_bytes_is_looked_at),
        STAGED(all_readings_are_tried_in_their_order),
        STAGED(many_readings_take_no_longer),
        STAGED(longer_names_than_there_are_do_not_match),
        STAGED(captures_become_names),
        STAGED(a_name_that_does_not_fit_is_not_made),
        STAGED(expressions_of_a_name_are_checked_beforehand),
        STAGED(what_shares_more_text_is_nearer),
        STAGED(what_is_no_name_is_refused_with_the_place),
        STAGED(names_beside_have_captures_of_from_alone),
        STAGED(limits_of_names_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
