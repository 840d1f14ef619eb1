/* SPDX-License-Identifier: MIT */
/* Maps: any text, and maps built of parts that mostly go together. What is accepted means what rule.h promises to those
 * who apply it, and names that are made of captures are found again. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "fuzz.h"
#include "map/rule.h"

static const char config_text[] =
    "{\"hidden_size\": 64, \"num_attention_heads\": 4, \"head_dim\": 16, \"zero\": 0, \"half\": 0.5, \"tied\": true}";

/* ---- what a parsed map promises ---- */

static bool has_axis(const struct tp_axes_side *side, const char *name)
{
    for (uint32_t i = 0; i < side->axis_count; i++)
        if (strcmp(side->axes[i].name, name) == 0)
            return true;
    return false;
}

/* Groups that take every axis once; rows of captures that are numbers of the same name. */
static void check_side(const struct tp_rule *rule, const struct tp_axes_side *side)
{
    uint32_t next = 0;
    FUZZ_CHECK(side->axis_count <= TP_MAP_AXES_MAX && side->group_count <= side->axis_count);
    for (uint32_t g = 0; g < side->group_count; g++) {
        FUZZ_CHECK(side->groups[g].first == next && side->groups[g].count > 0);
        next += side->groups[g].count;
    }
    FUZZ_CHECK(next == side->axis_count);
    for (uint32_t i = 0; i < side->axis_count; i++) {
        const struct tp_named_axis *axis = &side->axes[i];
        FUZZ_CHECK((axis->size > 0) == (axis->name[0] >= '0' && axis->name[0] <= '9'));
        if (axis->capture == TP_MAP_NONE)
            continue;
        FUZZ_CHECK(axis->capture < rule->capture_count && !rule->captures[axis->capture].is_word);
        FUZZ_CHECK(strcmp(rule->captures[axis->capture].name, axis->name) == 0);
    }
}

/* `from` and `pieces` do not know each other's axes; all that members name is there. */
static void check_axes(const struct tp_rule *rule)
{
    check_side(rule, &rule->right);
    FUZZ_CHECK(rule->has_axes || (!rule->split && !rule->stack && !rule->cat && rule->pad_count == 0));
    FUZZ_CHECK(!rule->stack || has_axis(&rule->right, rule->stack));
    FUZZ_CHECK(!rule->cat || has_axis(&rule->right, rule->cat));
    FUZZ_CHECK(!rule->split || has_axis(&rule->right, rule->split) == (rule->split_sizes != NULL));
    for (uint32_t i = 0; i < rule->pad_count; i++)
        FUZZ_CHECK(has_axis(&rule->right, rule->pads[i].axis));
    for (uint32_t i = 0; i < rule->source_count; i++) {
        const struct tp_axes_side *left = &rule->sources[i].left;
        check_side(rule, left);
        FUZZ_CHECK(!rule->stack || !has_axis(left, rule->stack));
        FUZZ_CHECK(!rule->cat || has_axis(left, rule->cat));
        FUZZ_CHECK(!rule->split || has_axis(left, rule->split));
        for (uint32_t a = 0; a < left->axis_count; a++)
            FUZZ_CHECK(left->axes[a].capture == TP_MAP_NONE || !rule->captures[left->axes[a].capture].in_from);
    }
}

static void check_rule(const struct tp_rule *rule)
{
    fuzz_check_printable(rule->text, false);
    FUZZ_CHECK(strlen(rule->text) <= 200 && rule->line > 0);
    FUZZ_CHECK(rule->source_count > 0 && rule->source_count <= TP_MAP_SOURCES_MAX);
    FUZZ_CHECK(rule->capture_count <= TP_MAP_CAPTURES_MAX);
    FUZZ_CHECK((rule->to_count == 0) == (rule->drop || rule->same_as != NULL));
    FUZZ_CHECK(!rule->drop || !rule->same_as);
    FUZZ_CHECK(rule->to_count < 2 || rule->split);
    FUZZ_CHECK(rule->source_count < 2 || rule->to_count == 0 || (rule->stack != NULL) != (rule->cat != NULL));
    for (uint32_t c = 0; c < rule->capture_count; c++) {
        const struct tp_capture *capture = &rule->captures[c];
        FUZZ_CHECK(capture->in_from || (capture->in_to && !capture->is_word && rule->has_axes));
        for (uint32_t i = 0; i < rule->source_count && !capture->in_from; i++)
            FUZZ_CHECK(has_axis(&rule->sources[i].left, capture->name));
    }
    check_axes(rule);
}

/* ---- expressions ---- */

static void check_expr(const struct tp_expr *expr, const struct tp_expr_scope *scope)
{
    char missing[256] = "";
    double value;
    uint64_t whole;
    if (!expr)
        return;
    fuzz_check_printable(tp_expr_text(expr), false);
    bool known = tp_expr_evaluate(&value, expr, scope, missing);
    FUZZ_CHECK(known == (missing[0] == '\0'));
    fuzz_check_printable(missing, false);
    if (tp_expr_evaluate_whole(&whole, expr, scope, 1, NULL))
        FUZZ_CHECK(known && whole >= 1 && (double)whole == value);
}

static void check_expressions(const struct tp_map *map, const struct tp_expr_scope *scope)
{
    for (uint32_t i = 0; i < map->dim_count; i++)
        check_expr(map->dims[i].size, scope);
    for (uint32_t i = 0; i < map->const_count; i++) {
        check_expr(map->constants[i].value, scope);
        for (uint32_t d = 0; d < map->constants[i].rank; d++)
            check_expr(map->constants[i].shape[d], scope);
    }
    for (uint32_t i = 0; i < map->rule_count; i++) {
        const struct tp_rule *rule = &map->rules[i];
        check_expr(rule->mul, scope);
        check_expr(rule->add, scope);
        check_expr(rule->only_if, scope);
        for (uint32_t k = 0; k < rule->pad_count; k++)
            check_expr(rule->pads[k].size, scope);
        for (uint32_t k = 0; k < rule->to_count && rule->split_sizes; k++)
            check_expr(rule->split_sizes[k], scope);
    }
}

/* ---- names ---- */

/* A pattern in which a capture stands twice gives up after so many steps; one with a limit need not take a number. */
static bool always_matches(const struct tp_name_pattern *pattern)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < pattern->count; i++) {
        const struct tp_token *token = &pattern->tokens[i];
        if (token->kind == TP_TOKEN_LITERAL || token->kind == TP_TOKEN_OPTIONAL)
            continue;
        if (token->limit || (seen >> token->capture & 1u))
            return false;
        seen |= UINT32_C(1) << token->capture;
        if (token->kind == TP_TOKEN_SPLIT && token->second != TP_MAP_NONE) {
            if (seen >> token->second & 1u)
                return false;
            seen |= UINT32_C(1) << token->second;
        }
    }
    return true;
}

static bool has_optional(const struct tp_name_pattern *pattern)
{
    for (uint32_t i = 0; i < pattern->count; i++)
        if (pattern->tokens[i].kind == TP_TOKEN_OPTIONAL)
            return true;
    return false;
}

/* What is made of captures is found again, and what is made of what was found is the name, since nothing is optional.
 * Zeros fit wherever a number does. */
static void check_name(const struct tp_name_pattern *pattern, const struct tp_expr_scope *scope)
{
    static char name[TP_NAME_MAX_BYTES + 1], again[TP_NAME_MAX_BYTES + 1];
    struct tp_captured captured = {0}, found = {0};
    char missing[256] = "";
    FUZZ_CHECK(pattern->count > 0 && pattern->count <= TP_MAP_TOKENS_MAX);
    fuzz_check_printable(pattern->text, false);
    bool sound = tp_pattern_check(pattern, scope, missing);
    FUZZ_CHECK(sound == (missing[0] == '\0'));
    fuzz_check_printable(missing, false);
    size_t len = tp_pattern_format(pattern, scope, &captured, name, sizeof name);
    if (!sound || len == SIZE_MAX)
        return;
    FUZZ_CHECK(strlen(name) == len && tp_pattern_likeness(pattern, name, len) <= len);
    bool matches = tp_pattern_match(pattern, scope, name, len, &found);
    FUZZ_CHECK(matches || !always_matches(pattern));
    if (!matches || has_optional(pattern))
        return;
    FUZZ_CHECK(tp_pattern_format(pattern, scope, &found, again, sizeof again) == len);
    FUZZ_CHECK(memcmp(name, again, len) == 0);
}

static void check_names(const struct tp_rule *rule, const struct tp_expr_scope *scope)
{
    for (uint32_t i = 0; i < rule->source_count; i++)
        check_name(&rule->sources[i].from, scope);
    for (uint32_t i = 0; i < rule->to_count; i++)
        check_name(&rule->to[i], scope);
    if (rule->if_missing)
        check_name(rule->if_missing, scope);
    if (rule->same_as)
        check_name(rule->same_as, scope);
}

/* ---- a map ---- */

static void check_map(const char *text, size_t len, const struct tp_config_numbers *config)
{
    struct tp_map *map;
    struct tp_error err = {.code = TP_OK};
    enum tp_status status = tp_map_parse(&map, text, len, "map.json", &err);
    if (status) {
        FUZZ_CHECK(!map && (status == TP_ERR_FORMAT || status == TP_ERR_LIMIT));
        fuzz_check_error(status, &err);
        return;
    }
    struct tp_expr_scope scope = {map, config};
    FUZZ_CHECK(map->text_len == len && memcmp(map->text, text, len) == 0);
    for (uint32_t i = 0; i < map->rule_count; i++) {
        check_rule(&map->rules[i]);
        check_names(&map->rules[i], &scope);
    }
    check_expressions(map, &scope);
    fuzz_apply_map(map, config);
    tp_map_release(map);
}

/* A config.json that is none is no finding; the map is then looked at without. */
static void check_with_config(const char *map, size_t map_len, const char *config, size_t config_len)
{
    struct tp_config_numbers *numbers = NULL;
    struct tp_error err = {.code = TP_OK};
    enum tp_status status = tp_config_numbers_read(&numbers, config, config_len, &err);
    if (status)
        fuzz_check_error(status, &err);
    FUZZ_CHECK(!status || !numbers);
    check_map(map, map_len, numbers);
    tp_config_numbers_free(numbers);
}

/* ---- a map built of decisions ---- */

struct text {
    char bytes[1 << 16];
    size_t len;
};

static void say(struct text *t, const char *fmt, ...) TP_PRINTF(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(t->bytes + t->len, sizeof t->bytes - t->len, fmt, args);
    va_end(args);
    FUZZ_CHECK(len >= 0 && (size_t)len < sizeof t->bytes - t->len);
    t->len += (size_t)len;
}

#define PICK(in, list) ((list)[fuzz_choice((in), TP_COUNT_OF(list))])

/* Rules that are right; say_rule changes a part of them now and then. */
struct form {
    const char *from, *to; /* `from`: or pieces, with the member's name */
    const char *axes, *more;
};

static const struct form forms[] = {
    {"\"from\": \"x.{l}\"", "\"y.{l}\"", NULL, ""},
    {"\"from\": \"lm_head\"", "\"head/kernel\"", "o i -> i o", ""},
    {"\"from\": \"{l}.{p:q|k|v}\"", "\"{l}/{p:query|key|value}\"", "(n h) d -> d n h", ""},
    {"\"from\": \"[m.]{c*l+b}.{s:a|aa|}w\"", "\"layers_{b}/{s:x|y|z}\"", "d -> d l", ""},
    {"\"from\": \"x.{2*l+1}\"", "\"global[{l}]\"", NULL, ""},
    {"\"from\": \"x.{l+3}.{e}\"", "\"moe\"", "o i -> e l i o", ""},
    {"\"from\": \"x.{l<h}\"", "\"dense/[{l}]/w\"", "1 d -> d", ""},
    {"\"from\": \"stacked\"", "\"x.{l}.{b}\"", "d l (b 2) -> d 2", ""},
    {"\"from\": \"{l}.rope\"", "\"rope\"", "(n 2 h) d -> d l n (h 2)", ", \"mul\": \"1/sqrt(h)\""},
    {"\"from\": [\"{l}.k\", \"{l}.v\"]", "\"kv\"", "(n h) d -> l s n d h", ", \"stack\": \"s\""},
    {"\"from\": [\"{l}.q\", \"{l}.k\", \"{l}.v\"]", "\"qkv{l}\"", "x d -> d x", ", \"cat\": \"x\""},
    {"\"from\": \"gate_up.{l}\"", "[\"wi_0\", \"wi_1\"]", "e d (f 2) -> e l d f", ", \"split\": \"2\""},
    {"\"from\": \"gate_up.{l}\"", "[\"{l}.g\", \"{l}.u\"]", "(s f) d -> d f", ", \"split\": \"s\""},
    {"\"from\": \"kv_b\"", "[\"k\", \"v\"]", "(n x) d -> d n x",
     ", \"split\": {\"axis\": \"x\", \"sizes\": [\"h\", 3]}"},
    {"\"pieces\": [{\"from\": \"{l}.qkv\", \"take\": \"0:h\", \"axes\": \"(g x) d\"},"
     " {\"from\": \"{l}.qkv\", \"take\": \"h:\", \"axes\": \"(g x) d\"}, {\"from\": \"{l}.z\", \"axes\": \"g x d\"}]",
     "\"in\"", "d l (g x)", ", \"cat\": \"x\""},
    {"\"from\": \"embed\"", "\"embed\"", "v d -> v d",
     ", \"pad\": {\"v\": \"h * 8\", \"d\": 3}, \"mul\": {\"by\": \"sqrt(d)\", \"in\": \"bf16\"}"},
    {"\"from\": \"norm{l}\"", "\"norm_{l+3}\"", NULL, ", \"add\": 1, \"dtype\": \"float32\""},
    {"\"from\": [\"{l}.inv_freq\", \"{l}.bias\"]", NULL, NULL, ", \"drop\": true"},
    {"\"from\": \"lm_head{l}\"", NULL, NULL, ", \"same_as\": \"embed{l}\""},
    {"\"from\": \"{l}.{l+2}.{b}\"", "\"{b}.{c*l+b}\"", NULL, ""},
};
static const char *const exprs[] = {
    "2",           "h",
    "hidden_size", "head_dim | hidden_size / n",
    "1/sqrt(h)",   "n*h",
    "0",           "half",
    "zero",        "1/zero",
    "nothing",     "tied",
    "unknown | 4", "sqrt(0-1)",
    "((1))",       "2-2",
    "h+",          "-(1+2)*3.5e-1",
};
static const char *const sizes[] = {"4",    "hidden_size / 4", "unknown | 3", "2", "half * 6",
                                    "zero", "nothing",         "h",           "n"};
static const char *const name_parts[] = {
    "model.",    "layers.",  "x",     "0",     "1",        "{l}", "{e}",       "{c*l+b}",
    "{2*l+1}",   "{l+3}",    "{l<3}", "{l<h}", "{b}",      "{m}", "{p:q|k|v}", "{p:query|key|value}",
    "{s:a|aa|}", "{s:|1|0}", "[0]",   "[{l}]", "[model.]", "/",   ".w",        "{n*l+b}",
};
static const char *const axes[] = {
    "n", "h", "d", "l", "e", "f", "2", "1", "(n h)", "(f 2)", "(h 2)", "(2 f)", "s", "x", "b", "(g x)", "m", "(x 3)",
};

static void say_name(struct text *t, struct fuzz_bytes *in)
{
    say(t, "\"");
    for (size_t i = 0, count = 1 + fuzz_choice(in, 6); i < count; i++)
        say(t, "%s", PICK(in, name_parts));
    say(t, "\"");
}

/* The form's text, rarely one of chance. */
static void say_names(struct text *t, struct fuzz_bytes *in, const char *key, const char *names)
{
    say(t, "\"%s\": ", key);
    if (fuzz_rarely(in, 16))
        say_name(t, in);
    else
        say(t, "%s", names);
}

static void say_axes(struct text *t, struct fuzz_bytes *in, const char *sides)
{
    bool one_side = strchr(sides, '>') == NULL;
    if (!fuzz_rarely(in, 16)) {
        say(t, ", \"axes\": \"%s\"", sides);
        return;
    }
    say(t, ", \"axes\": \"");
    for (unsigned side = one_side; side < 2; side++) {
        for (size_t i = 0, count = fuzz_choice(in, 5); i < count; i++)
            say(t, "%s ", PICK(in, axes));
        say(t, "%s", side == 0 ? "-> " : "\"");
    }
}

static void say_rule(struct text *t, struct fuzz_bytes *in)
{
    const struct form *form = &PICK(in, forms);
    const struct form *other = fuzz_rarely(in, 16) ? &PICK(in, forms) : form;
    if (fuzz_rarely(in, 16)) {
        say(t, "{");
        say_names(t, in, "from", "\"a{l}\"");
    } else {
        say(t, "{%s", form->from);
    }
    if (form->to) {
        say(t, ", ");
        say_names(t, in, "to", form->to);
    }
    if (form->axes)
        say_axes(t, in, form->axes);
    say(t, "%s", other->more);
    if (fuzz_rarely(in, 8))
        say(t, ", \"also\": true");
    if (fuzz_rarely(in, 8))
        say(t, ", \"if\": \"%s\"", PICK(in, exprs));
    if (fuzz_rarely(in, 16)) {
        say(t, ", \"if_missing\": ");
        say_name(t, in);
    }
    if (fuzz_rarely(in, 16))
        say(t, ", \"add\": \"%s\"", PICK(in, exprs));
    say(t, "}");
}

static void build(struct text *t, struct fuzz_bytes *in)
{
    static const char *const dims[] = {"h", "n", "c", "d", "v"};
    say(t, "{\"tensorport_map\": 1, \"dims\": {\"c\": 2");
    for (size_t i = 0; i < TP_COUNT_OF(dims); i++)
        if (fuzz_rarely(in, 3) && strcmp(dims[i], "c") != 0)
            say(t, ", \"%s\": \"%s\"", dims[i], PICK(in, sizes));
    say(t, "}, \"sep\": \"%s\", \"rules\": [", fuzz_rarely(in, 3) ? "" : "/");
    for (size_t i = 0, count = 1 + fuzz_choice(in, 4); i < count; i++) {
        say(t, "%s\n", i ? "," : "");
        say_rule(t, in);
    }
    say(t, "]}");
}

/* A map, after a 0xff (which is nowhere in UTF-8) a config.json; with a 0xff in front, decisions. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 0xff) {
        static struct text text;
        struct fuzz_bytes in = {data + 1, size - 1};
        text.len = 0;
        build(&text, &in);
        check_with_config(text.bytes, text.len, config_text, sizeof config_text - 1);
        return 0;
    }
    const uint8_t *end = size ? memchr(data, 0xff, size) : NULL;
    size_t len = end ? (size_t)(end - data) : size;
    const char *text = size ? (const char *)data : "";
    if (end)
        check_with_config(text, len, text + len + 1, size - len - 1);
    else
        check_with_config(text, len, config_text, sizeof config_text - 1);
    return 0;
}
