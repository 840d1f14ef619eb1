/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map/parse.h"
#include "tensorport/dtype.h"

/* In memory of just its size, so that a read beyond it is seen. */
static enum tp_status parse_bytes(struct tp_map **map, const char *text, size_t len, struct tp_error *err)
{
    char *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    if (len > 0)
        memcpy(exact, text, len);
    enum tp_status status = tp_map_parse(map, exact, len, "my/map.json", err);
    free(exact);
    return status;
}

static struct tp_map *map_of(const char *text)
{
    struct tp_map *map;
    struct tp_error err = {.code = TP_OK};
    if (parse_bytes(&map, text, strlen(text), &err))
        fail_msg("%s", err.message);
    return map;
}

/* A map of one rule. */
static const char *with_rule(const char *rule)
{
    static char text[1 << 16];
    snprintf(text, sizeof text, "{\"tensorport_map\": 1, \"rules\": [\n%s\n]}", rule);
    return text;
}

static void must_fail(const char *text, enum tp_status status, const char *message)
{
    struct tp_map *map;
    struct tp_error err = {.code = TP_OK};
    enum tp_status found = parse_bytes(&map, text, strlen(text), &err);
    if (found != status)
        fail_msg("%s: %s, not %s: %s", text, tp_status_name(found), tp_status_name(status), err.message);
    assert_null(map);
    assert_string_equal(err.message, message);
    assert_string_equal(err.path, "my/map.json");
    assert_int_equal(parse_bytes(&map, text, strlen(text), NULL), status);
}

/* ---- maps of real targets ---- */

static const char maxtext_gpt_oss[] =
    "{ \"tensorport_map\": 1, \"name\": \"maxtext-gpt-oss\",\n"
    "  \"dims\": {\"h\": \"head_dim\", \"c\": 2},\n"
    "  \"decode\": \"mxfp4\",\n"
    "  \"sep\": \"/\", \"unmatched\": \"error\",\n"
    "  \"rules\": [\n"
    "    {\"from\": \"model.embed_tokens.weight\", \"to\": \"params/params/token_embedder/embedding\"},\n"
    "    {\"from\": \"model.layers.{c*l+b}.{s:input_layernorm|post_attention_layernorm}.weight\",\n"
    "       \"to\": \"params/layers_{b}/{s:pre_self_attention_layer_norm|post_self_attention_layer_norm}/scale\",\n"
    "     \"axes\": \"d -> d l\"},\n"
    "    {\"from\": \"model.layers.{c*l+b}.mlp.experts.gate_up_proj\",\n"
    "       \"to\": [\"params/layers_{b}/GptOssMlp/wi_0\", \"params/layers_{b}/GptOssMlp/wi_1\"],\n"
    "     \"axes\": \"e d (f 2) -> e l d f\", \"split\": \"2\"}\n"
    "  ] }\n";

static void a_map_of_maxtext_is_what_it_says(void **state)
{
    (void)state;
    struct tp_map *map = map_of(maxtext_gpt_oss);
    assert_string_equal(map->name, "maxtext-gpt-oss");
    assert_string_equal(map->text, maxtext_gpt_oss);
    assert_int_equal(map->text_len, strlen(maxtext_gpt_oss));
    assert_string_equal(map->sep, "/");
    assert_string_equal(tp_map_decode_of(map)->scheme, "mxfp4");
    assert_int_equal(map->dim_count, 2);
    assert_string_equal(map->dims[0].name, "h");
    assert_string_equal(tp_expr_text(map->dims[1].size), "2");
    assert_int_equal(map->rule_count, 3);
    const struct tp_rule *norm = &map->rules[1], *experts = &map->rules[2];
    assert_false(map->rules[0].has_axes);
    assert_int_equal(map->rules[0].line, 6);
    assert_int_equal(norm->line, 7);
    assert_int_equal(norm->capture_count, 3);
    assert_string_equal(norm->captures[0].name, "l");
    assert_true(norm->captures[0].in_from && !norm->captures[0].in_to && !norm->captures[0].is_word);
    assert_true(norm->captures[1].in_to); /* b */
    assert_true(norm->captures[2].is_word);
    assert_int_equal(norm->right.axes[1].capture, 0);
    assert_int_equal(norm->right.axes[0].capture, TP_MAP_NONE);
    assert_int_equal(norm->dtype, TP_DTYPE_NONE);
    assert_int_equal(experts->line, 10);
    assert_string_equal(experts->text,
                        "{\"from\": \"model.layers.{c*l+b}.mlp.experts.gate_up_proj\", \"to\": "
                        "[\"params/layers_{b}/GptOssMlp/wi_0\", \"params/layers_{b}/GptOssMlp/wi_1\"], \"axes\": \"e d "
                        "(f 2) -> e l d f\", \"split\": \"2\"}");
    assert_int_equal(experts->to_count, 2);
    assert_string_equal(experts->split, "2");
    assert_null(experts->split_sizes);
    assert_int_equal(experts->sources[0].left.group_count, 3);
    assert_int_equal(experts->sources[0].left.axes[3].size, 2);
    assert_string_equal(experts->to[1].text, "params/layers_{b}/GptOssMlp/wi_1");
    tp_map_release(map);
}

static const char jax_llm_examples[] =
    "{\"tensorport_map\": 1, \"name\": \"jax-llm-examples-gpt-oss\", \"dims\": {\"h\": \"head_dim\"},\n"
    "  \"decode\": {\"scheme\": \"mxfp4\", \"positive_zero\": true}, \"sep\": \"\", \"order\": \"rules\",\n"
    "  \"rules\": [\n"
    "    {\"from\": \"model.embed_tokens.weight\", \"to\": \"weights.embedding\"},\n"
    "    {\"from\": \"model.layers.{l}.self_attn.{p:q|k|v}_proj.weight\","
    " \"to\": \"weights.layers[{l}].attn.{p:q|k|v}\", \"axes\": \"(n h) d -> d n h\"},\n"
    "    {\"from\": \"model.layers.{l}.mlp.experts.{p:gate_up|down}_proj_bias\","
    " \"to\": \"weights.layers[{l}].ffw.we_{p:gate_up|down}_bias\"}\n"
    "  ]}";

static void brackets_of_a_target_are_text(void **state)
{
    (void)state;
    struct tp_map *map = map_of(jax_llm_examples);
    const struct tp_name_pattern *to = &map->rules[1].to[0];
    assert_int_equal(to->count, 4);
    assert_int_equal(to->tokens[0].text_len, strlen("weights.layers["));
    assert_int_equal(to->tokens[1].kind, TP_TOKEN_INDEX);
    assert_memory_equal(to->tokens[2].text, "].attn.", 7);
    assert_string_equal(map->sep, "");
    assert_true(tp_map_orders_by_rules(map));
    assert_true(tp_map_decode_of(map)->positive_zero);
    tp_map_release(map);
}

static void what_a_map_does_not_say_has_its_default(void **state)
{
    (void)state;
    struct tp_map *map = map_of("{\"tensorport_map\": 1, \"rules\": []}");
    assert_string_equal(map->name, "");
    assert_string_equal(map->description, "");
    assert_string_equal(map->sep, "/");
    assert_string_equal(map->decode.scheme, "any");
    assert_false(map->decode.positive_zero);
    assert_false(map->cast_first);
    assert_false(tp_map_orders_by_rules(map));
    assert_int_equal(map->unmatched, TP_UNMATCHED_ERROR);
    assert_int_equal(map->rule_count + map->const_count + map->dim_count + map->architecture_count, 0);
    const struct tp_map_output *output = tp_map_output_of(map);
    assert_null(output->format);
    assert_false(output->has_step);
    assert_false(map->is_inverse);
    tp_map_release(map);
    tp_map_release(NULL);
}

static void all_members_of_a_map_are_read(void **state)
{
    (void)state;
    struct tp_map *map = map_of(
        "{\"rules\": [], \"tensorport_map\": 1, \"name\": \"n\", \"description\": \"d\\u00e9\", \"architectures\": "
        "[\"A\", \"B\"], \"cast\": \"first\", \"unmatched\": \"keep\", \"order\": \"sorted\", \"decode\": {}, \"sep\": "
        "\"::\", \"output\": {\"format\": \"orbax\", \"precision\": \"keep\", \"step\": 7, \"item\": \"items\", "
        "\"wrap\": \"params/params\", \"oversize\": \"own-shard\", \"prefix\": \"flax_model\", \"tree\": \"nested\", "
        "\"orbax_layout\": \"o\", \"zarr3\": true}, \"const\": [{\"to\": \"step\", \"value\": 0, \"dtype\": \"int32\"},"
        " {\"to\": \"a/b[0]\", \"value\": \"sqrt(h)\", \"dtype\": \"bfloat16\", \"shape\": [2, \"h\"]}], \"dims\": "
        "{\"h\": 4}}");
    assert_string_equal(map->description, "d\xc3\xa9");
    assert_int_equal(map->architecture_count, 2);
    assert_string_equal(map->architectures[1], "B");
    assert_true(map->cast_first);
    assert_int_equal(map->unmatched, TP_UNMATCHED_KEEP);
    assert_string_equal(map->sep, "::");
    assert_string_equal(map->decode.scheme, "any");
    const struct tp_map_output *output = tp_map_output_of(map);
    assert_string_equal(output->format, "orbax");
    assert_string_equal(output->precision, "keep");
    assert_true(output->has_step && output->step == 7 && output->zarr3);
    assert_string_equal(output->item, "items");
    assert_string_equal(output->wrap, "params/params");
    assert_string_equal(output->oversize, "own-shard");
    assert_string_equal(output->prefix, "flax_model");
    assert_string_equal(output->tree, "nested");
    assert_string_equal(output->orbax_layout, "o");
    assert_int_equal(map->const_count, 2);
    assert_int_equal(map->constants[0].rank, 0);
    assert_int_equal(map->constants[0].dtype, TP_I32);
    assert_int_equal(map->constants[1].dtype, TP_BF16);
    assert_int_equal(map->constants[1].rank, 2);
    assert_string_equal(tp_expr_text(map->constants[1].shape[1]), "h");
    assert_string_equal(tp_expr_text(map->constants[1].value), "sqrt(h)");
    assert_string_equal(map->constants[1].to.text, "a/b[0]");
    tp_map_release(map);
}

static void all_members_of_a_rule_are_read(void **state)
{
    (void)state;
    struct tp_map *map = map_of(with_rule(
        "{\"axes\": \"(n x) c -> c n x v\", \"from\": [\"[m.]{l}.k\", \"[m.]{l}.v\"], \"to\": [\"{l}/a\", \"{l}/b\"],"
        " \"split\": {\"sizes\": [\"nope\", 128], \"axis\": \"x\"}, \"stack\": \"v\", \"mul\": {\"in\": \"bf16\","
        " \"by\": \"sqrt(d)\"}, \"add\": -1.5e0, \"pad\": {\"c\": \"c_padded\", \"v\": 4}, \"dtype\": \"float32\","
        " \"also\": true, \"drop\": false, \"if_missing\": \"{l}.o\", \"if\": \"tied | 1\"}"));
    const struct tp_rule *rule = &map->rules[0];
    assert_int_equal(rule->source_count, 2);
    assert_int_equal(rule->to_count, 2);
    assert_string_equal(rule->sources[1].from.text, "[m.]{l}.v");
    assert_int_equal(rule->sources[1].from.tokens[0].kind, TP_TOKEN_OPTIONAL);
    assert_int_equal(rule->sources[1].left.axis_count, 3);
    assert_string_equal(rule->split, "x");
    assert_string_equal(rule->stack, "v");
    assert_null(rule->cat);
    assert_string_equal(tp_expr_text(rule->split_sizes[0]), "nope");
    assert_string_equal(tp_expr_text(rule->split_sizes[1]), "128");
    assert_string_equal(tp_expr_text(rule->mul), "sqrt(d)");
    assert_int_equal(rule->mul_round, TP_ROUND_BF16);
    double value;
    assert_true(tp_expr_constant(&value, rule->add) && value == -1.5);
    assert_int_equal(rule->pad_count, 2);
    assert_string_equal(rule->pads[0].axis, "c");
    assert_string_equal(tp_expr_text(rule->pads[0].size), "c_padded");
    assert_int_equal(rule->dtype, TP_F32);
    assert_true(rule->also && !rule->drop);
    assert_string_equal(rule->if_missing->text, "{l}.o");
    assert_null(rule->same_as);
    assert_string_equal(tp_expr_text(rule->only_if), "tied | 1");
    tp_map_release(map);
}

static void pieces_have_sides_of_their_own(void **state)
{
    (void)state;
    struct tp_map *map = map_of(with_rule(
        "{\"pieces\": [{\"from\": \"{l}.qkv\", \"take\": \"0:q\", \"axes\": \"(g x) d\"},"
        " {\"from\": \"{l}.qkv\", \"take\": \" q : \", \"axes\": \"(g x) d\"},"
        " {\"from\": \"{l}.z\", \"axes\": \"g x d\"}], \"cat\": \"x\", \"axes\": \"d l (g x)\", \"to\": \"in\"}"));
    const struct tp_rule *rule = &map->rules[0];
    assert_int_equal(rule->source_count, 3);
    assert_string_equal(tp_expr_text(rule->sources[0].take_low), "0");
    assert_string_equal(tp_expr_text(rule->sources[0].take_high), "q");
    assert_string_equal(tp_expr_text(rule->sources[1].take_low), "q ");
    assert_null(rule->sources[1].take_high);
    assert_null(rule->sources[2].take_low);
    assert_int_equal(rule->sources[1].left.group_count, 2);
    assert_int_equal(rule->sources[2].left.group_count, 3);
    assert_int_equal(rule->right.axes[1].capture, 0);
    assert_string_equal(rule->cat, "x");
    tp_map_release(map);
}

static void axes_that_a_target_takes_apart_are_captures(void **state)
{
    (void)state;
    struct tp_map *map = map_of(with_rule("{\"from\": \"q\", \"to\": \"layers.{2*l+b}.q\", \"axes\": \"d l b -> d\"}"));
    const struct tp_rule *rule = &map->rules[0];
    assert_int_equal(rule->sources[0].left.axes[0].capture, TP_MAP_NONE);
    assert_int_equal(rule->sources[0].left.axes[1].capture, 0);
    assert_int_equal(rule->sources[0].left.axes[2].capture, 1);
    assert_true(rule->captures[0].in_to && !rule->captures[0].in_from);
    tp_map_release(map);
}

static void rules_without_targets_are_fine(void **state)
{
    (void)state;
    struct tp_map *map = map_of(with_rule("{\"from\": [\"a.{l}.inv_freq\", \"b.{l}.inv_freq\"], \"drop\": true},"
                                          "{\"from\": \"lm_head.weight\", \"same_as\": \"embed.weight\"}"));
    assert_true(map->rules[0].drop);
    assert_int_equal(map->rules[0].source_count, 2);
    assert_string_equal(map->rules[1].same_as->text, "embed.weight");
    tp_map_release(map);
}

static void a_long_rule_is_cut_for_messages(void **state)
{
    (void)state;
    char rule[1024];
    snprintf(rule, sizeof rule, "{\"from\": \"a\",\r\n\t \"to\": \"%0700d\"}", 0);
    struct tp_map *map = map_of(with_rule(rule));
    assert_int_equal(strlen(map->rules[0].text), 200);
    assert_memory_equal(map->rules[0].text, "{\"from\": \"a\", \"to\": \"000", 23);
    assert_string_equal(map->rules[0].text + 197, "...");
    tp_map_release(map);
    map = map_of(with_rule("{\"from\": \"a\xc2\x9b\", \"to\": \"a\xe2\x80\xae\"}")); /* what moves a cursor is shown */
    assert_string_equal(map->rules[0].text, "{\"from\": \"a\\u{009b}\", \"to\": \"a\\u{202e}\"}");
    assert_string_equal(map->rules[0].sources[0].from.text, "a\\u{009b}");
    assert_int_equal(map->rules[0].sources[0].from.tokens[0].text_len, 3);
    tp_map_release(map);
}

/* ---- what is wrong in the JSON ---- */

static void what_is_no_map_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "line 1: the map is not valid JSON: expected a value, found the end at byte 0"},
        {"\n\n{\"tensorport_map\": 1,\n \"rules\" []}",
         "line 4: the map is not valid JSON: expected ':', found '[' at byte 33"},
        {"[]", "line 1: 'the map' is a list, expected an object"},
        {"{\"tensorport_map\": 1, \"rules\": []} x",
         "line 1: the map is not valid JSON: expected nothing after the value, found 'x' at byte 35"},
        {"\n{}", "line 2: a map needs 'tensorport_map'"},
        {"{\"tensorport_map\": 1}", "line 1: a map needs 'rules'"},
        {"{\"tensorport_map\": 2, \"rules\": []}", "line 1: 'tensorport_map' is 2; this version reads 1"},
        {"{\"tensorport_map\": \"1\"}", "line 1: 'tensorport_map' is a string, expected a whole number"},
        {"{\"tensorport_map\": 1,\n\"rules\": [],\n\"rule\": []}", "line 3: a map has no member 'rule'"},
        {"{\"tensorport_map\": 1,\n\"rules\": [],\n\"rules\": []}", "line 3: a map has 'rules' twice"},
        {"{\"a\\u0000\": 1}", "line 1: a map has no member 'a\\x00'"},
        {"{\"\\u001b[2J\": 1}", "line 1: a map has no member '\\x1b[2J'"},
        {"{\"rules\": {}}", "line 1: 'rules' is an object, expected a list"},
        {"{\"rules\": [\n1]}", "line 2: 'rules' is a whole number, expected a list of objects"},
        {"{\"name\": null}", "line 1: 'name' is null, expected a string"},
        {"{\"name\": \"a\\u0000b\"}", "line 1: 'name' has a NUL character in it"},
        {"{\"cast\": \"middle\"}", "line 1: 'cast' is 'middle', not one of last, first"},
        {"{\"cast\": 1}", "line 1: 'cast' is a whole number, expected a string"},
        {"{\"unmatched\": \"ignore\"}", "line 1: 'unmatched' is 'ignore', not one of error, warn, keep, drop"},
        {"{\"order\": \"last\\u0000\"}", "line 1: 'order' is 'last\\x00', not one of sorted, rules"},
        {"{\"decode\": true}", "line 1: 'decode' is true, expected a string or an object"},
        {"{\"decode\": {\"schema\": 1}}", "line 1: 'decode' has no member 'schema'"},
        {"{\"decode\": {\"positive_zero\": 1}}", "line 1: 'positive_zero' is a whole number, expected true or false"},
        {"{\"output\": []}", "line 1: 'output' is a list, expected an object"},
        {"{\"output\": {\"steps\": 1}}", "line 1: 'output' has no member 'steps'"},
        {"{\"output\": {\"step\": -1}}", "line 1: 'step' is a number, expected a whole number"},
        {"{\"architectures\": \"A\"}", "line 1: 'architectures' is a string, expected a list"},
        {"{\"architectures\": [1]}", "line 1: 'architectures' is a whole number, expected a list of strings"},
        {"{\"dims\": []}", "line 1: 'dims' is a list, expected an object"},
        {"{\"dims\": {\"\": 1}}", "line 1: the dim '': a name has letters, digits and '_'"},
        {"{\"dims\": {\"2\": 1}}", "line 1: the dim '2': a name has letters, digits and '_'"},
        {"{\"dims\": {\"a.b\": 1}}", "line 1: the dim 'a.b': a name has letters, digits and '_'"},
        {"{\"dims\": {\"a\": 1, \"a\": 2}}", "line 1: the dim 'a' stands twice"},
        {"{\"dims\": {\"a\": []}}", "line 1: 'a' is a list, expected a number or an expression in a string"},
        {"{\"dims\": {\"a\": \"1+\"}}",
         "line 1: the expression '1+' ends where a number, a name, '-' or '(' is expected"},
        {"{\"dims\": {\"a\": \"a\"}}", "line 1: the dim 'a' needs itself, by way of 'a'"},
        {"{\n\"dims\": {\"x\": \"a\", \"a\": \"b|1\", \"b\": \"c\", \"c\": \"2*a\", \"d\": 1}}",
         "line 2: the dim 'x' needs itself, by way of 'a'"},
        {"{\"const\": [{\"value\": 1, \"dtype\": \"int32\"}]}", "line 1: a constant needs 'to'"},
        {"{\"const\": [{\"to\": \"a\", \"dtype\": \"int32\"}]}", "line 1: a constant needs 'value'"},
        {"{\"const\": [{\"to\": \"a\", \"value\": 1}]}", "line 1: a constant needs 'dtype'"},
        {"{\"const\": [{\"value\": null}]}", "line 1: a constant needs 'to'"},
        {"{\"const\": [{\"to\": \"a\", \"value\": null, \"shape\": [2]}]}",
         "line 1: a constant whose value is null has neither 'dtype' nor 'shape'"},
        {"{\"const\": [{\"to\": \"{l}\", \"value\": null}]}", "line 1: the name of a constant has no captures"},
        {"{\"const\": [{\"to\": \"{a}\", \"value\": 1, \"dtype\": \"int32\"}]}",
         "line 1: the name of a constant has no captures"},
        {"{\"const\": [{\"to\": \"a\", \"value\": 1, \"dtype\": \"float\"}]}",
         "line 1: 'dtype' is 'float', not one that NumPy or ml_dtypes name and that can be written"},
        {"{\"const\": [{\"to\": \"a\", \"value\": 1, \"dtype\": \"float6_e2m3fn\"}]}",
         "line 1: 'dtype' is 'float6_e2m3fn', not one that NumPy or ml_dtypes name and that can be written"},
        {"{\"const\": [{\"to\": \"a\", \"value\": 1, \"dtype\": \"int32\", \"shape\": 3}]}",
         "line 1: 'shape' is a whole number, expected a list"},
        {"{\"const\": [{\"to\": \"a\", \"value\": true}]}",
         "line 1: 'value' is true, expected a number or an expression in a string"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
        must_fail(rows[i].text, TP_ERR_FORMAT, rows[i].message);
}

static void an_unknown_member_is_answered_with_the_known_ones(void **state)
{
    (void)state;
    struct tp_map *map;
    struct tp_error err;
    const char *text = with_rule("{\"from\": \"a\", \"too\": \"b\"}");
    assert_int_equal(parse_bytes(&map, text, strlen(text), &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "line 2: a rule has no member 'too'");
    assert_string_equal(err.hint,
                        "a rule has: from, to, axes, split, stack, cat, pieces, mul, add, pad, dtype, also, if,"
                        " if_missing, same_as, drop");
}

/* ---- what is wrong in a rule ---- */

static void what_makes_no_sense_in_a_rule_is_refused(void **state)
{
    (void)state;
#define DROPS "a rule with 'drop' writes nothing: it has no 'to', 'axes', 'pieces' or arithmetic"
#define SAME "a rule with 'same_as' writes nothing: it has no 'to', 'axes', 'pieces' or arithmetic"
    static const struct {
        const char *rule, *message;
    } rows[] = {
        {"{}", "a rule without 'to'; to leave tensors out, say \"drop\": true"},
        {"{\"to\": \"a\"}", "a rule without 'from'"},
        {"{\"from\": \"a\"}", "a rule without 'to'; to leave tensors out, say \"drop\": true"},
        {"{\"from\": \"a\", \"drop\": false}", "a rule without 'to'; to leave tensors out, say \"drop\": true"},
        {"{\"from\": []}", "'from' is an empty list"},
        {"{\"from\": 1}", "'from' is a whole number, expected a string or a list of strings"},
        {"{\"from\": [1]}", "'from' is a whole number, expected strings"},
        {"{\"from\": \"a\", \"from\": \"b\"}", "a rule has 'from' twice"},
        {"{\"from\": \"a\", \"also\": 1}", "'also' is a whole number, expected true or false"},
        {"{\"from\": \"\", \"to\": \"a\"}", "a name is empty"},
        {"{\"from\": \"a\", \"to\": \"a{\"}", "the name 'a{': '{' without '}' (character 2)"},
        /* captures */
        {"{\"from\": \"a\", \"to\": \"b{l}\"}",
         "the capture 'l' of 'to' is neither in 'from' nor an axis of the source"},
        {"{\"from\": \"a\", \"to\": \"b{p:q|k}\", \"axes\": \"p -> p\"}",
         "the capture 'p' of 'to' is neither in 'from' nor an axis of the source"},
        {"{\"from\": \"a\", \"to\": \"b{l}\", \"axes\": \"l d -> l d\"}",
         "the capture 'l' takes an axis apart that the target has too"},
        {"{\"from\": \"a{l}\", \"to\": \"b\", \"axes\": \"l d -> d l\"}",
         "the capture 'l' is in 'from' and an axis of the source: one needs another name"},
        {"{\"from\": \"a{p:q|k}\", \"to\": \"b{p:q|k|v}\"}",
         "the name 'b{p:q|k|v}': a capture has more alternatives in one place than in another (character 2)"},
        {"{\"from\": \"a{p:q|k}\", \"to\": \"b{p}\"}",
         "the name 'b{p}': a capture is a number in one place and one of some words in another (character 2)"},
        {"{\"from\": [\"a{l}\", \"b\"], \"to\": \"c\", \"stack\": \"s\", \"axes\": \"d -> s d\"}",
         "the names that a rule takes together need the same captures"},
        {"{\"from\": \"a{l}\", \"to\": [\"c{l}\", \"d\"], \"split\": \"s\", \"axes\": \"s d -> d\"}",
         "the names in 'to' need the same captures"},
        {"{\"from\": \"a\", \"to\": \"b\", \"if_missing\": \"x{l}\"}",
         "the name 'x{l}': a capture that no name of 'from' has (character 2)"},
        {"{\"from\": \"a\", \"same_as\": \"x{l}\"}",
         "the name 'x{l}': a capture that no name of 'from' has (character 2)"},
        /* rules without a target */
        {"{\"from\": \"a\", \"drop\": true, \"to\": \"b\"}", DROPS},
        {"{\"from\": \"a\", \"drop\": true, \"axes\": \"a -> a\"}", DROPS},
        {"{\"from\": \"a\", \"drop\": true, \"mul\": 2}", DROPS},
        {"{\"from\": \"a\", \"drop\": true, \"pad\": {\"a\": 1}}", DROPS},
        {"{\"pieces\": [{\"from\": \"a\", \"axes\": \"a\"}], \"drop\": true}", DROPS},
        {"{\"from\": \"a\", \"same_as\": \"c\", \"to\": \"b\"}", SAME},
        {"{\"from\": \"a\", \"same_as\": \"c\", \"dtype\": \"int8\"}", SAME},
        {"{\"from\": \"a\", \"same_as\": \"c\", \"drop\": true}",
         "'drop' and 'same_as' in one rule: 'same_as' drops what is the same"},
        /* lists */
        {"{\"from\": [\"a\", \"b\"], \"to\": \"c\"}",
         "more than one source needs 'stack' (along a new axis) or 'cat' (along one they have)"},
        {"{\"from\": [\"a\"], \"to\": \"c\", \"stack\": \"s\", \"axes\": \"d -> s d\"}",
         "'stack' and 'cat' need a list of more than one name in 'from'"},
        {"{\"from\": \"a\", \"to\": \"c\", \"cat\": \"d\", \"axes\": \"d -> d\"}",
         "'stack' and 'cat' need a list of more than one name in 'from'"},
        {"{\"from\": [\"a\", \"b\"], \"to\": \"c\", \"stack\": \"s\", \"cat\": \"d\", \"axes\": \"d -> s d\"}",
         "'stack' and 'cat' in one rule"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"]}",
         "more than one name in 'to' needs 'split': the axis that tells them apart"},
        {"{\"from\": \"a\", \"to\": [\"b\"], \"split\": \"s\", \"axes\": \"s d -> d\"}",
         "'split' needs a list of more than one name in 'to'"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": {\"axis\": \"s\", \"sizes\": [1]}, \"axes\": \"s -> "
         "s\"}",
         "'sizes' needs one size for each name in 'to'"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": {\"sizes\": [1, 2]}, \"axes\": \"s -> s\"}",
         "a 'split' needs 'axis'"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": 2}",
         "'split' is a whole number, expected a string or an object"},
        /* axes */
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": \"s\"}",
         "'split', 'stack' and 'cat' name an axis, so the rule needs 'axes'"},
        {"{\"from\": \"a\", \"to\": \"b\", \"pad\": {\"v\": 3}}", "'pad' names axes, so the rule needs 'axes'"},
        {"{\"from\": \"a\", \"to\": \"b\", \"axes\": \"a a -> a\"}",
         "the axes 'a a -> a': an axis stands twice on one side (character 3)"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": \"x\\u001b\", \"axes\": \"s d -> d\"}",
         "the axis 'x\\x1b' of 'split' is not on the left of 'axes'"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": \"s\", \"axes\": \"s d -> s d\"}",
         "the axis 's' of 'split' is still on the right; to cut it in slices, give 'sizes'"},
        {"{\"from\": \"a\", \"to\": [\"b\", \"c\"], \"split\": {\"axis\": \"s\", \"sizes\": [1, 2]}, \"axes\": \"s d "
         "-> "
         "d\"}",
         "the axis 's' of 'split' has 'sizes', so it must be on the right"},
        {"{\"from\": \"a\", \"to\": [\"b{s}\", \"c{s}\"], \"split\": \"s\", \"axes\": \"s d -> d\"}",
         "the axis 's' of 'split' is a capture too"},
        {"{\"from\": [\"a\", \"b\"], \"to\": \"c\", \"stack\": \"s\", \"axes\": \"d -> d\"}",
         "the axis 's' of 'stack' is not on the right of 'axes'"},
        {"{\"from\": [\"a\", \"b\"], \"to\": \"c\", \"stack\": \"s\", \"axes\": \"s d -> s d\"}",
         "the axis 's' of 'stack' is an axis of the source already; to join along it, say 'cat'"},
        {"{\"from\": [\"a{s}\", \"b{s}\"], \"to\": \"c\", \"stack\": \"s\", \"axes\": \"d -> s d\"}",
         "the axis 's' of 'stack' is a capture too"},
        {"{\"from\": [\"a\", \"b\"], \"to\": \"c\", \"cat\": \"s\", \"axes\": \"s d -> d\"}",
         "the axis 's' of 'cat' is not on the right of 'axes'"},
        {"{\"from\": [\"a\", \"b\"], \"to\": \"c\", \"cat\": \"s\", \"axes\": \"d -> s d\"}",
         "the axis 's' of 'cat' is not an axis of every source"},
        {"{\"from\": \"a\", \"to\": \"b\", \"axes\": \"v d -> d v\", \"pad\": {\"x\": 3}}",
         "the axis 'x' of 'pad' is not on the right of 'axes'"},
        {"{\"from\": \"a\", \"to\": \"b\", \"axes\": \"v -> v\", \"pad\": {\"v\": 3, \"v\": 4}}",
         "'pad' has an axis twice"},
        {"{\"from\": \"a\", \"to\": \"b\", \"axes\": \"v -> v\", \"pad\": {\"v\": \"3+\"}}",
         "the expression '3+' ends where a number, a name, '-' or '(' is expected"},
        {"{\"from\": \"a\", \"to\": \"b\", \"axes\": \"v -> v\", \"pad\": 3}",
         "'pad' is a whole number, expected an object"},
        /* pieces */
        {"{\"from\": \"a\", \"pieces\": [{\"from\": \"b\"}], \"to\": \"c\"}",
         "'from' and 'pieces' in one rule: the pieces say where they are from"},
        {"{\"pieces\": [], \"to\": \"c\"}", "'pieces' is an empty list"},
        {"{\"pieces\": [{}], \"to\": \"c\"}", "a piece needs 'from'"},
        {"{\"pieces\": [{\"from\": \"a\", \"to\": \"b\"}], \"to\": \"c\"}", "a piece has no member 'to'"},
        {"{\"pieces\": [{\"from\": \"a\"}], \"to\": \"c\"}", "a rule with 'pieces' needs 'axes': those of the target"},
        {"{\"pieces\": [{\"from\": \"a\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "a piece needs 'axes': those of its source"},
        {"{\"pieces\": [{\"from\": \"a\", \"axes\": \"d -> d\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "the axes 'd -> d': one side alone is expected here, without '->' (character 3)"},
        {"{\"pieces\": [{\"from\": \"a\", \"axes\": \"d\"}, {\"from\": \"b\", \"axes\": \"e\"}], \"to\": \"c\", "
         "\"cat\": "
         "\"d\", \"axes\": \"d\"}",
         "the axis 'd' of 'cat' is not an axis of every source"},
        {"{\"pieces\": [{\"from\": \"a\", \"take\": \"3\", \"axes\": \"d\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "'take' is \"first:end\", rows of the source, each of which may be left out"},
        {"{\"pieces\": [{\"from\": \"a\", \"take\": \"3:3\", \"axes\": \"d\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "'take' ends before it begins, or takes no row"},
        {"{\"pieces\": [{\"from\": \"a\", \"take\": \":0\", \"axes\": \"d\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "'take' ends before it begins, or takes no row"},
        {"{\"pieces\": [{\"from\": \"a\", \"take\": \"-1:\", \"axes\": \"d\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "'take' counts rows from 0"},
        {"{\"pieces\": [{\"from\": \"a\", \"take\": \"1:2:3\", \"axes\": \"d\"}], \"to\": \"c\", \"axes\": \"d\"}",
         "the expression '2:3' has ':' at character 2, where an operator is expected"},
        /* values */
        {"{\"from\": \"a\", \"to\": \"b\", \"mul\": {\"in\": \"bf16\"}}", "a 'mul' needs 'by'"},
        {"{\"from\": \"a\", \"to\": \"b\", \"mul\": {\"by\": 2, \"in\": \"bfloat16\"}}",
         "'in' of 'mul' is the dtype that the factor is rounded to: f32, bf16 or f16"},
        {"{\"from\": \"a\", \"to\": \"b\", \"mul\": [2]}",
         "'mul' is a list, expected a number or an expression in a string"},
        {"{\"from\": \"a\", \"to\": \"b\", \"mul\": \"none of it\"}",
         "the expression 'none of it' has 'o' at character 6, where an operator is expected"},
        {"{\"from\": \"a\", \"to\": \"b\", \"dtype\": \"BF16\"}",
         "'dtype' is 'BF16', not one that NumPy or ml_dtypes name and that can be written"},
        {"{\"from\": \"a\", \"to\": \"b\", \"if\": true}",
         "'if' is true, expected a number or an expression in a string"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char message[512];
        snprintf(message, sizeof message, "line 2: %s", rows[i].message);
        must_fail(with_rule(rows[i].rule), TP_ERR_FORMAT, message);
    }
}

static void an_error_within_a_rule_has_the_line_of_its_member(void **state)
{
    (void)state;
    must_fail(
        with_rule("{\"from\": \"a\",\n \"to\": \"b\",\n\n \"axes\": \"a ->\n(\"}"), TP_ERR_FORMAT,
        "line 5: the map is not valid JSON: expected no control character in a string, found byte 0x0a at byte 74");
    must_fail(with_rule("{\"axes\": \"d -> d\",\n \"to\": \"b\",\n\n \"from\": \"{\"}"), TP_ERR_FORMAT,
              "line 5: the name '{': '{' without '}' (character 1)");
    must_fail(with_rule("{\"from\": \"a\", \"to\": \"b\"},\n{\"from\": \"a\"\n}"), TP_ERR_FORMAT,
              "line 3: a rule without 'to'; to leave tensors out, say \"drop\": true");
}

/* ---- limits and damage ---- */

/* `item` so often, with commas, between two texts. */
static char *many(const char *before, const char *item, unsigned count, const char *after)
{
    size_t cap = strlen(before) + (strlen(item) + 12) * count + strlen(after) + 1, used;
    char *text = malloc(cap);
    assert_non_null(text);
    used = (size_t)snprintf(text, cap, "%s", before);
    for (unsigned i = 0; i < count; i++) {
        used += (size_t)snprintf(text + used, cap - used, "%s", i ? "," : "");
        for (const char *p = item; *p; p++) {
            if (*p == '#')
                used += (size_t)snprintf(text + used, cap - used, "%u", i);
            else
                text[used++] = *p;
        }
    }
    snprintf(text + used, cap - used, "%s", after);
    return text;
}

static void limits_are_kept(void **state)
{
    (void)state;
#define MAP_BEGIN "{\"tensorport_map\": 1, \"rules\": ["
    static const struct {
        const char *before, *item, *after, *message;
        unsigned most;
    } rows[] = {
        {MAP_BEGIN, "{\"from\": \"a\", \"to\": \"b\"}", "]}", "more than 4096 rules", TP_MAP_RULES_MAX},
        {MAP_BEGIN "{\"drop\": true, \"from\": [", "\"a\"", "]}]}", "'from' has more than 64 items", 64},
        {MAP_BEGIN "{\"to\": \"x\", \"cat\": \"d\", \"axes\": \"d\", \"pieces\": [",
         "{\"from\": \"a\", \"axes\": \"d\"}", "]}]}", "'pieces' has more than 64 items", 64},
        {MAP_BEGIN "], \"dims\": {", "\"d#\": 1", "}}", "more than 64 dims", TP_MAP_DIMS_MAX},
        {MAP_BEGIN "], \"architectures\": [", "\"A\"", "]}", "more than 64 architectures", 64},
        {MAP_BEGIN "], \"const\": [", "{\"to\": \"a#\", \"value\": 0, \"dtype\": \"int8\"}", "]}",
         "more than 4096 constants", 4096},
        {MAP_BEGIN "], \"const\": [{\"to\": \"a\", \"value\": 0, \"dtype\": \"int8\", \"shape\": [", "1", "]}]}",
         "'shape' has more than 64 items", 64},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char message[128];
        char *text = many(rows[i].before, rows[i].item, rows[i].most, rows[i].after);
        tp_map_release(map_of(text));
        free(text);
        text = many(rows[i].before, rows[i].item, rows[i].most + 1, rows[i].after);
        snprintf(message, sizeof message, "line 1: %s", rows[i].message);
        must_fail(text, TP_ERR_LIMIT, message);
        free(text);
    }
    char *text =
        many(MAP_BEGIN "{\"from\": \"a\", \"to\": \"b\", \"axes\": \"d -> d\", \"pad\": {", "\"a#\": 1", 33, "}}]}");
    must_fail(text, TP_ERR_LIMIT, "line 1: 'pad' has more than 32 axes");
    free(text);
}

static void long_texts_are_refused(void **state)
{
    (void)state;
    char *text = malloc(TP_MAP_TEXT_MAX + 2);
    assert_non_null(text);
    memset(text, ' ', TP_MAP_TEXT_MAX + 1);
    text[TP_MAP_TEXT_MAX + 1] = '\0';
    must_fail(text, TP_ERR_LIMIT, "a map of 4194305 bytes; at most 4194304");
    static const char rest[] = "{\"tensorport_map\": 1, \"rules\": []}";
    memcpy(text, rest, sizeof rest - 1);
    text[TP_MAP_TEXT_MAX] = '\0';
    tp_map_release(map_of(text));
    text = memset(text, 'x', 1 << 15);
    memcpy(text, "{\"name\": \"", 10);
    text[1 << 15] = '\0';
    must_fail(text, TP_ERR_LIMIT, "line 1: the map has a string longer than 16384 bytes at byte 9");
    free(text);
}

/* Every capture takes many times its text in memory. */
static void captures_of_a_whole_map_are_bounded(void **state)
{
    (void)state;
    char rule[1024] = "{\"drop\": true, \"from\": \"";
    for (unsigned i = 0; i < TP_MAP_TOKENS_MAX / 2; i++)
        snprintf(rule + strlen(rule), 16, "{a}.");
    snprintf(rule + strlen(rule), 16, "\"}");
    char *text = many(MAP_BEGIN, rule, 2048, "]}");
    tp_map_release(map_of(text));
    free(text);
    text = many(MAP_BEGIN, rule, 2049, "]}");
    struct tp_map *map;
    struct tp_error err;
    assert_int_equal(parse_bytes(&map, text, strlen(text), &err), TP_ERR_LIMIT);
    assert_non_null(strstr(err.message, "more than 131,072 captures and texts between them in this map"));
    free(text);
}

static const char all_of_it[] =
    "{\"tensorport_map\":1,\"dims\":{\"h\":\"a.b|2\"},\"decode\":{\"scheme\":\"any\"},\"output\":{\"step\":1},"
    "\"rules\":[{\"from\":[\"[m]{c*l+b}.k\",\"[m]{c*l+b}.v\"],\"to\":[\"{b}/a\",\"{b}/b\"],\"stack\":\"v\","
    "\"axes\":\"(n x) c->c n x v l\",\"split\":{\"axis\":\"x\",\"sizes\":[\"h\",1]},\"mul\":{\"by\":2,\"in\":\"f16\"},"
    "\"pad\":{\"c\":7},\"if\":1},{\"pieces\":[{\"from\":\"{p:q|k}\",\"take\":\"1:h\",\"axes\":\"d\"}],"
    "\"axes\":\"(d 2)\",\"to\":\"{p:q|}x\",\"dtype\":\"int8\",\"add\":1e0}],"
    "\"const\":[{\"to\":\"s\",\"value\":1,\"dtype\":\"int8\",\"shape\":[1]}]}";

static void any_byte_and_any_length_is_harmless(void **state)
{
    (void)state;
    size_t len = strlen(all_of_it), accepted = 0;
    char copy[sizeof all_of_it];
    struct tp_map *map = map_of(all_of_it);
    tp_map_release(map);
    for (size_t i = 0; i < len; i++) {
        struct tp_error err = {.code = TP_OK};
        assert_int_equal(parse_bytes(&map, all_of_it, i, &err), TP_ERR_FORMAT);
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(copy, all_of_it, sizeof copy);
            copy[i] ^= (char)(1u << bit);
            enum tp_status status = parse_bytes(&map, copy, len, &err);
            assert_true(status == TP_OK || status == TP_ERR_FORMAT || status == TP_ERR_LIMIT);
            accepted += status == TP_OK;
            tp_map_release(map);
        }
    }
    assert_true(accepted > 200); /* other letters in names */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_of_maxtext_is_what_it_says),
        cmocka_unit_test(brackets_of_a_target_are_text),
        cmocka_unit_test(what_a_map_does_not_say_has_its_default),
        cmocka_unit_test(all_members_of_a_map_are_read),
        cmocka_unit_test(all_members_of_a_rule_are_read),
        cmocka_unit_test(pieces_have_sides_of_their_own),
        cmocka_unit_test(axes_that_a_target_takes_apart_are_captures),
        cmocka_unit_test(rules_without_targets_are_fine),
        cmocka_unit_test(a_long_rule_is_cut_for_messages),
        cmocka_unit_test(what_is_no_map_is_refused_with_its_line),
        cmocka_unit_test(an_unknown_member_is_answered_with_the_known_ones),
        cmocka_unit_test(what_makes_no_sense_in_a_rule_is_refused),
        cmocka_unit_test(an_error_within_a_rule_has_the_line_of_its_member),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(long_texts_are_refused),
        cmocka_unit_test(captures_of_a_whole_map_are_bounded),
        cmocka_unit_test(any_byte_and_any_length_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
