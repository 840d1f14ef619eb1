/* SPDX-License-Identifier: MIT */
/* Every error and warning of applying a map, word for word. */
#include "map_case.h"

#include "map/rule.h"

#define HEAD "{\"tensorport_map\": 1, \"name\": \"test\", "
/* JSON is not C: */
/* clang-format off */
#define RULES(...) HEAD "\"rules\": [" #__VA_ARGS__ "]}"

/* "a BF16 2 3; b F32 4" */
static void add_sources(struct map_case *c, const char *list)
{
    while (*list) {
        size_t len = strcspn(list, ";"), name_len = strcspn(list, " ");
        char name[96], what[96];
        snprintf(name, sizeof name, "%.*s", (int)name_len, list);
        snprintf(what, sizeof what, "%.*s", (int)(len - name_len - 1), list + name_len + 1);
        case_source(c, name, what);
        list += len;
        list += strspn(list, "; ");
    }
}

/* The only finding of a map and its sources. */
static void must_say(const char *map, const char *sources, const char *code, const char *text)
{
    static struct map_case c;
    case_start(&c, map);
    add_sources(&c, sources);
    if (code[0] == 'E')
        case_has_error(&c, code, text);
    else
        case_has_warning(&c, code, text);
    case_end(&c);
}

/* ---- which rules a source meets ---- */

static void e01_names_what_no_rule_matches_and_the_nearest_rule(void **state)
{
    (void)state;
    must_say(RULES({"from": "a", "to": "a"}, {"from": "m.{l}.q.weight", "to": "q{l}"}),
             "a F32 4; m.0.q.weight F32 4; m.0.q.bias F32 2 3", "E01",
             "no rule matches: m.0.q.bias F32[2,3]; the nearest is rule 2 (line 1), from m.{l}.q.weight\n"
             "Write a rule for them, one with \"drop\": true, or say what becomes of all such with \"unmatched\".");
}

static void twenty_are_named_and_the_rest_is_counted(void **state)
{
    (void)state;
    static struct map_case c;
    char expected[2048] = "no rule matches:";
    case_start(&c, HEAD "\"rules\": []}");
    for (unsigned i = 0; i < 23; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", i);
        case_source(&c, name, "F32");
        if (i < 20)
            snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "\n  t%u F32[]", i);
    }
    snprintf(expected + strlen(expected), sizeof expected - strlen(expected),
             "\n  and 3 more\nWrite a rule for them, one with \"drop\": true, or say what becomes of all such with "
             "\"unmatched\".");
    case_has_error(&c, "E01", expected);
    case_end(&c);
}

static void hostile_names_are_escaped_and_cut(void **state)
{
    (void)state;
    static struct map_case c;
    char name[4096];
    memset(name, 'x', sizeof name);
    case_start(&c, HEAD "\"rules\": []}");
    case_source(&c, "a\x1b[31m", "F32");
    c.sources[c.question.source_count++] = (struct tp_map_source){
        .name = name, .name_len = sizeof name, .file = "", .shape = c.shapes[1], .dtype = TP_F32};
    case_apply(&c);
    assert_non_null(strstr(c.result.errors[0].text, "  a\\x1b[31m F32[]\n"));
    assert_non_null(strstr(c.result.errors[0].text, "xxx... F32[]\n"));
    assert_true(strlen(c.result.errors[0].text) < 600);
    case_end(&c);
}

static void e02_names_both_rules(void **state)
{
    (void)state;
    must_say(RULES({"from": "m.{l}", "to": "a{l}"}, {"from": "m.{l}", "to": "b{l}", "also": true},
                   {"from": "m.0", "to": "c"}),
             "m.0 F32 4; m.1 F32 4", "E02",
             "rule 1 (line 1): {\"from\": \"m.{l}\", \"to\": \"a{l}\"} matches the same tensors as rule 3 (line 1), "
             "{\"from\": \"m.0\", \"to\": \"c\"}: m.0 F32[4]\n"
             "If one of them shall use what the other uses too, give it \"also\": true.");
}

static void e13_says_what_is_not_the_same(void **state)
{
    (void)state;
    must_say(RULES({"from": "e", "to": "e"}, {"from": "h", "same_as": "e"}), "e F32 4 2; h F32 2 4", "E13",
             "rule 2 (line 1): \"same_as\" does not hold: h F32[2,4] is not e F32[4,2]");
    must_say(RULES({"from": "h", "same_as": "e"}), "h F32 2 4", "E13",
             "rule 1 (line 1): \"same_as\" does not hold: h F32[2,4]: there is no e");
}

static void w01_names_rules_that_match_nothing(void **state)
{
    (void)state;
    must_say(RULES({"from": "a", "to": "a"}, {"from": "vision.{l}", "to": "v{l}"}, {"from": "b", "drop": true}),
             "a F32 4", "W01",
             "rules that match no tensor:\n"
             "  rule 2 (line 1), {\"from\": \"vision.{l}\", \"to\": \"v{l}\"}\n"
             "  rule 3 (line 1), {\"from\": \"b\", \"drop\": true}");
}

static void w03_names_what_is_left_out(void **state)
{
    (void)state;
    must_say(HEAD "\"unmatched\": \"warn\", \"rules\": [{\"from\": \"a\", \"to\": \"a\"}]}", "a F32 4; b F32 4", "W03",
             "no rule matches, left out: b F32[4]");
}

/* ---- places ---- */

static void e03_names_the_target_the_place_and_both_sources(void **state)
{
    (void)state;
    must_say(RULES({"from": "{m:x|y}.{l}", "to": "w", "axes": "d -> l d"}), "x.0 F32 4; x.1 F32 4; y.1 F32 4", "E03",
             "rule 1 (line 1): two sources for one place: w at l = 1: x.1 (model.safetensors) and y.1 "
             "(model.safetensors)");
    must_say(RULES({"from": "{m:x|y}", "to": "a/b"}), "x F32 4; y F32 4", "E03",
             "rule 1 (line 1): two sources for one place: a/b: x (model.safetensors) and y (model.safetensors)");
}

static void e03_names_rules_that_see_one_target_differently(void **state)
{
    (void)state;
    must_say(
        RULES({"from": "x.{l}", "to": "w", "axes": "d -> l d"}, {"from": "y.{l}", "to": "w", "axes": "d -> d l"}),
        "x.0 F32 4; y.1 F32 4", "E03",
        "two rules for one target, which may only be if they see it alike: the same right side, numbers and dtype: "
        "w: x.0 and y.1");
    must_say(
        HEAD "\"rules\": [{\"from\": \"a\", \"to\": \"s\"}], \"const\": [{\"to\": \"s\", \"value\": 0, "
             "\"dtype\": \"int32\"}]}",
        "a F32 4", "E03",
        "two rules for one target, which may only be if they see it alike: the same right side, numbers and dtype: "
        "s: a and a constant");
}

static void e04_names_missing_indices_and_the_sources_they_want(void **state)
{
    (void)state;
    must_say(RULES({"from": "m.{l}.w", "to": "w", "axes": "d -> l d"}),
             "m.0.w F32 4; m.2.w F32 4; m.3.w F32 4; m.6.w F32 4", "E04",
             "rule 1 (line 1): sources are missing: w lacks l = 1, 4..5 of 0..6; there is no m.1.w, m.4.w, m.5.w");
    must_say(HEAD "\"dims\": {\"l\": 2}, \"rules\": [{\"from\": \"m.{l}.w\", \"to\": \"w\", \"axes\": \"d -> l d\"}]}",
             "m.0.w F32 4", "E04", "rule 1 (line 1): sources are missing: w lacks l = 1 of 0..1; there is no m.1.w");
}

static void e04_knows_combinations_and_lists(void **state)
{
    (void)state;
    must_say(RULES({"from": "m.{l}.{e}.w", "to": "w", "axes": "d -> e l d"}),
             "m.0.0.w F32 4; m.1.1.w F32 4; m.1.0.w F32 4", "E04",
             "rule 1 (line 1): sources are missing: w lacks 1 of 4 places; there is no m.0.1.w");
    must_say(RULES({"from": [ "k.{l}", "v.{l}" ], "to": "kv{l}", "stack": "s", "axes": "d -> s d"}),
             "k.0 F32 4; v.0 F32 4; k.1 F32 4", "E04",
             "rule 1 (line 1): sources are missing: kv1 lacks the list \"from\" = 1 of 0..1; there is no v.1");
}

static void e04_is_not_said_where_sources_do_not_fit(void **state)
{
    (void)state;
    must_say(RULES({"from": "m.{l}.w", "to": "w", "axes": "d -> l d"}), "m.0.w F32 4; m.1.w F32 4 2; m.2.w F32 4",
             "E05", "rule 1 (line 1): \"d\" has 1 dimension, the source has not: m.1.w F32[4,2]");
}

static void a_stack_too_large_to_be_counted_is_a_hole(void **state)
{
    (void)state;
    must_say(
        RULES({"from": "{a}.{b}.{c}.{e}", "to": "w", "axes": "-> a b c e"}),
        "0.0.0.0 F32; 1048575.1048575.1048575.1048575 F32", "E04",
        "rule 1 (line 1): sources are missing: w lacks a = 1..1048574 of 0..1048575; b = 1..1048574 of 0..1048575; "
        "c = 1..1048574 of 0..1048575; e = 1..1048574 of 0..1048575");
}

static void e04_names_lists_with_missing_items(void **state)
{
    (void)state;
    must_say(RULES({"from": "{l}.w", "to": "layers/[{l}]/w"}), "0.w F32; 2.w F32", "E04",
             "lists with missing items: layers has 2 of the items 0..2");
}

/* ---- shapes ---- */

static void e05_names_source_shape_and_pattern(void **state)
{
    (void)state;
    must_say(RULES({"from": "{l}.w", "to": "w{l}", "axes": "(n 2) d -> d n 2"}),
             "0.w F32 4; 1.w F32 4 2 1; 2.w F32 4 2", "E05",
             "rule 1 (line 1): \"(n 2) d\" has 2 dimensions, the source has not:\n  0.w F32[4]\n  1.w F32[4,2,1]");
}

static void e06_says_where_a_size_comes_from(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, HEAD "\"dims\": {\"h\": \"head_dim\", \"d\": 3}, \"rules\": [{\"from\": \"q\", \"to\": \"q\", "
                        "\"axes\": \"(n h) d -> d n h\"}]}");
    case_config(&c, "{\"head_dim\": 4}");
    case_source(&c, "q", "F32 10 3");
    case_has_error(&c, "E06",
                   "rule 1 (line 1): \"(n h)\" does not fit the source: h = 4 (head_dim): q F32[10,3]: dimension 0 is "
                   "10, expected a multiple of 4");
    case_end(&c);
    must_say(HEAD
             "\"dims\": {\"d\": \"2 * 3\"}, \"rules\": [{\"from\": \"q\", \"to\": \"q\", \"axes\": \"n d -> d n\"}]}",
             "q F32 2 7", "E06",
             "rule 1 (line 1): \"d\" does not fit the source: d = 6 (2 * 3): q F32[2,7]: dimension 1 is 7, expected 6");
    must_say(
        RULES({"from": "q", "to": [ "a", "b" ], "axes": "(f t) -> f", "split": "t"}), "q F32 7", "E06",
        "rule 1 (line 1): \"(f t)\" does not fit the source: t = 2 (length of \"to\"): q F32[7]: dimension 0 is 7, "
        "expected a multiple of 2");
}

static void e06_knows_lists_rows_stacks_and_bounds(void **state)
{
    (void)state;
    must_say(RULES({"from": "q", "to": [ "a", "b", "c" ], "axes": "(f 2) -> f", "split": "2"}), "q F32 6", "E06",
             "rule 1 (line 1): a size is not that of the rule's lists: '2' is 2, the rule has 3");
    must_say(
        RULES({"from": "q", "to": [ "a", "b" ], "axes": "x -> x", "split": {"axis": "x", "sizes": [ 2, 3 ]}}),
        "q F32 6", "E06",
        "rule 1 (line 1): \"x\" does not fit the source: x = 5 (sizes of \"split\"): q F32[6]: dimension 0 is 6, "
        "expected 5");
    must_say(
        RULES({"pieces": [ {"from": "q", "take": "2:7", "axes": "x"} ], "to": "a", "cat": "x", "axes": "x"}),
        "q F32 6", "E06", "rule 1 (line 1): \"take\" goes beyond the source: q F32[6]: rows 2:7");
    must_say(
        HEAD "\"dims\": {\"l\": \"3 - 1\"}, \"rules\": [{\"from\": \"{l}\", \"to\": \"w\", \"axes\": \"d -> l d\"}]}",
        "0 F32 1; 1 F32 1; 2 F32 1", "E06", "rule 1 (line 1): the stack 'l' has 2 places (3 - 1): 2 F32[1] has 'l' 2");
    must_say(RULES({"from": "q", "to": "a"}), "q F32 4294967296 4294967296", "E06",
             "rule 1 (line 1): more than 2^60 elements: q F32[4294967296,4294967296]");
    must_say(RULES({"from": "q", "to": "a", "axes": "d x -> d x", "pad": {"d": 4294967296, "x": 4294967296}}),
             "q F32 2 2", "E06", "rule 1 (line 1): a target of more than 2^60 elements: a");
}

static void e07_says_which_number_is_not_known(void **state)
{
    (void)state;
    must_say(HEAD "\"dims\": {\"h\": \"head_dim\"}, \"rules\": [{\"from\": \"q\", \"to\": \"q\", \"axes\": "
                  "\"(n h) -> n h\"}]}",
             "q F32 4", "E07",
             "rule 1 (line 1): a size or number is not known: 'head_dim' is not a dim of the map, and there is no "
             "config.json\nA name is one of \"dims\" or a number of config.json, which lies beside "
             "the checkpoint.");
    must_say(RULES({"from": "q", "to": "q", "axes": "(n h) -> n h"}), "q F32 4", "E07",
             "rule 1 (line 1): a size or number is not known: \"(n h)\": a shape tells one size of a group, 2 are "
             "missing; give the others in \"dims\"\nA name is one of \"dims\" or a number of config.json, which lies "
             "beside the checkpoint.");
    must_say(RULES({"from": "q.{l<n}", "to": "q{l}"}), "q.0 F32 4; q.1 F32 4", "E07",
             "rule 1 (line 1): the numbers in q.{l<n} are not known: 'n' is not a dim of the map, and there is no "
             "config.json");
    must_say(HEAD
             "\"rules\": [], \"const\": [{\"to\": \"s\", \"value\": 1, \"dtype\": \"int32\", \"shape\": [\"1/2\"]}]}",
             "", "E07", "a constant is not what it says: s: '1/2' is 0.5, not a whole number from 1 on");
}

static void e07_is_not_said_of_rules_that_meet_nothing(void **state)
{
    (void)state;
    must_say(RULES({"from": "vision.{l<n}.q", "to": "v{l}", "mul": "nowhere"}), "", "W01",
             "rules that match no tensor: rule 1 (line 1), {\"from\": \"vision.{l<n}.q\", \"to\": \"v{l}\", \"mul\": "
             "\"nowhere\"}");
}

static void e08_names_both_sources(void **state)
{
    (void)state;
    must_say(RULES({"from": "m.{l}", "to": "w", "axes": "o i -> i l o"}), "m.0 F32 4 2; m.1 F32 4 3", "E08",
             "rule 1 (line 1): sizes differ within one target: w: 'i' is 2 in m.0 F32[4,2], but 3 in m.1 F32[4,3]");
    must_say(RULES({"from": [ "k.{l}", "v.{l}" ], "to": "kv", "cat": "x", "axes": "x -> l x"}),
             "k.0 F32 4; k.1 F32 4; v.0 F32 2; v.1 F32 3", "E08",
             "rule 1 (line 1): sizes differ within one target: kv: 'x' is 2 in v.0 F32[2], but 3 in v.1 F32[3]");
}

static void e09_says_which_axis_stands_alone(void **state)
{
    (void)state;
    must_say(RULES({"from": "m.{l}.{p:q|k}", "to": "w{l}/{p:q|k}", "axes": "a b -> l a c p"}), "m.0.q F32 4 2",
             "E09",
             "rule 1 (line 1): the sides of \"axes\" do not fit in {\"from\": \"m.{l}.{p:q|k}\", \"to\": "
             "\"w{l}/{p:q|k}\", \"axes\": \"a b -> l a c p\"}:\n"
             "  'b' stands on the left only\n"
             "  'l' is stacked, but \"to\" has it too: there is one target for each of its values\n"
             "  'c' stands on the right only, or is missing on the left of some source\n"
             "  'p' stands on the right only, or is missing on the left of some source\n"
             "Each axis of the left stands on the right or is taken apart by \"split\" or a capture of \"to\"; each of "
             "the right comes from the left, a capture of \"from\", \"stack\" or \"cat\". Only a 1 may stand alone.");
}

/* ---- trees ---- */

static void e10_names_leaves_that_are_nodes_and_bad_paths(void **state)
{
    (void)state;
    must_say(RULES({"from": "a", "to": "x/b"}, {"from": "b", "to": "x/b/c"}, {"from": "c", "to": "x/b.d"}),
             "a F32; b F32; c F32", "E10", "a target is both a leaf and a node: x/b and x/b/c");
    must_say(RULES({"from": "a", "to": "l/[0]"}, {"from": "b", "to": "l/w"}), "a F32; b F32", "E10",
             "a node is both a list and a dict: l/0 and l/w");
    must_say(RULES({"from": "{p:a|b}", "to": "x/{p:|y}"}), "a F32", "E10",
             "rule 1 (line 1): this is no path of a tree: 'x/' has an empty key");
}

/* ---- dtypes ---- */

static void e11_names_what_cannot_be_cast_or_computed(void **state)
{
    (void)state;
    must_say(RULES({"from": "{l}", "to": "w", "axes": "d -> l d"}), "0 BF16 4; 1 F32 4", "E11",
             "rule 1 (line 1): the sources of one target differ in dtype: w: 0 BF16[4] and 1 F32[4]\n"
             "Give the rule a \"dtype\", or choose a --precision.");
    must_say(RULES({"from": "a", "to": "w", "mul": 2}), "a I32 4", "E11",
             "rule 1 (line 1): \"mul\" and \"add\" are for float64, float32, float16 and bfloat16: a I32[4]");
    must_say(RULES({"from": "a", "to": "w", "dtype": "int64"}), "a I32 4", "E11",
             "rule 1 (line 1): \"dtype\" casts float64, float32, float16 and bfloat16 to one another only: a I32[4]");
    must_say(RULES({"from": "a", "to": ["w", "v"], "axes": "(2 d) -> d", "split": "2", "mul": 2}), "a I32 4", "E11",
             "rule 1 (line 1): \"mul\" and \"add\" are for float64, float32, float16 and bfloat16: a I32[4]");
    must_say(HEAD "\"rules\": [], \"const\": [{\"to\": \"s\", \"value\": 300, \"dtype\": \"uint8\"}]}", "", "E11",
             "a constant is not what it says: s: the dtype has no such value");
}

static void e11_names_packed_codes_that_would_be_taken_apart(void **state)
{
    (void)state;
    static struct map_case c;
    static const char *const maps[] = {RULES({"from": "a", "to": "w", "axes": "o i -> i o"}),
                                       RULES({"from": "a", "to": "w", "axes": "o i -> 1 o i"}),
                                       RULES({"from": "a", "to": "w", "axes": "o i -> o i", "pad": {"o": 5}})};
    for (size_t i = 0; i < TP_COUNT_OF(maps); i++) {
        case_start(&c, maps[i]);
        case_source(&c, "a", "F4 4 4");
        c.sources[0].is_packed = true;
        case_has_error(&c, "E11",
                       "rule 1 (line 1): packed codes and quantised groups can only be moved whole: a F4[4,4]\n"
                       "Decode them with \"decode\".");
        case_end(&c);
    }
}

/* ---- what the model expects ---- */

static void e14_lists_what_is_missing_extra_or_other(void **state)
{
    (void)state;
    static struct map_case c;
    static const uint64_t shape[] = {2, 3};
    static const struct tp_map_expected expected[] = {{"b/w", shape, 2, TP_F32},
                                                      {"a/w", shape, 2, TP_DTYPE_NONE},
                                                      {"c/w", shape, 1, TP_F32},
                                                      {"d/w", shape, 2, TP_F32}};
    case_start(&c, RULES({"from": "{p:a|b|c|e}", "to": "{p:a|b|c|e}/w"}));
    add_sources(&c, "a I8 2 3; b F32 2 3; c BF16 3; e F32 2 3");
    c.question.expected = expected;
    c.question.expected_count = TP_COUNT_OF(expected);
    c.question.precision = TP_BF16;
    case_apply(&c);
    assert_int_equal(c.result.error_count, 4);
    for (size_t i = 0; i < 4; i++) {
        const char *text = c.result.errors[i].text;
        must_be_finding(&c.result.errors[i], "E14",
                        strstr(text, "missing")     ? "targets that are missing: d/w"
                        : strstr(text, "expected:") ? "targets that are not expected: e/w"
                        : strstr(text, "shape")     ? "targets of another shape: c/w is BF16[3], expected F32[2]"
                                                    : "targets of another dtype: b/w is BF16[2,3], expected F32[2,3]");
    }
    case_end(&c);
}

/* ---- what cannot be undone ---- */

static void w02_counts_what_cannot_be_undone(void **state)
{
    (void)state;
    must_say(
        RULES({"from": "{l}", "to": "w{l}", "mul": 3, "add": 1}), "0 BF16 4; 1 F32 4; 2 F16 4", "W02",
        "rule 1 (line 1): cannot be undone exactly, {\"from\": \"{l}\", \"to\": \"w{l}\", \"mul\": 3, \"add\": 1}:\n"
        "  \"mul\" by no power of two (3 tensors)\n  \"add\" in 16 bits (2 tensors)");
    must_say(RULES({"from": "a", "drop": true}), "a F32 4", "W02",
             "rule 1 (line 1): cannot be undone exactly, {\"from\": \"a\", \"drop\": true}: \"drop\" (1 tensor)");
    must_say(RULES({"from": "a", "to": "a", "dtype": "float16"}), "a BF16 4", "W02",
             "rule 1 (line 1): cannot be undone exactly, {\"from\": \"a\", \"to\": \"a\", \"dtype\": \"float16\"}: "
             "\"dtype\" that holds less (1 tensor)");
}

static void w04_counts_what_goes_nowhere(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "a", "to": "a", "axes": "v d -> v d", "pad": {"v": 3}}));
    add_sources(&c, "a F32 4 2");
    case_fits(&c);
    assert_int_equal(c.result.warning_count, 2);
    must_be_finding(&c.result.warnings[0], "W02",
                    "rule 1 (line 1): cannot be undone exactly, {\"from\": \"a\", \"to\": \"a\", \"axes\": \"v d -> v "
                    "d\", \"pad\": {\"v\": 3}}: \"pad\" that cuts off (1 tensor)");
    must_be_finding(&c.result.warnings[1], "W04", "a part goes nowhere: 2 elements of a F32[4,2]");
    case_end(&c);
    must_say(RULES({"pieces": [ {"from": "q", "take": "1:2", "axes": "x"} ], "to": "a", "cat": "x", "axes": "x"}),
             "q F32 6", "W04", "a part goes nowhere: 5 elements of q F32[6]");
}

static void e13_wants_the_other_tensor_written(void **state)
{
    (void)state;
    must_say(RULES({"from": "a", "same_as": "b"}, {"from": "b", "drop": true}), "a F32 4; b F32 4", "E13",
             "rule 1 (line 1): \"same_as\" a tensor that is not written itself: a F32[4] and b F32[4]");
    must_say(RULES({"from": "a", "same_as": "a"}), "a F32 4", "E13",
             "rule 1 (line 1): \"same_as\" a tensor that is not written itself: a F32[4] and a F32[4]");
}

static void e04_counts_captures_that_dims_name(void **state)
{
    (void)state;
    must_say(HEAD "\"dims\": {\"l\": 3}, \"rules\": [{\"from\": \"{l}.{p:q|k}\", \"to\": \"{p:q|k}/{l}\"}]}",
             "0.q F32 1; 0.k F32 1; 1.q F32 1; 1.k F32 1; 2.q F32 1", "E04",
             "rule 1 (line 1): \"dims\" says that {l} is 0 to 2, but there are 2: l = 2 is missing beside 0.k F32[1]");
    must_say(HEAD "\"dims\": {\"l\": 2}, \"rules\": [{\"from\": \"{l}\", \"to\": \"w{l}\"}]}",
             "0 F32 1; 1 F32 1; 2 F32 1", "E04",
             "rule 1 (line 1): \"dims\" says that {l} is 0 to 1, but there are 3: "
             "there is more than 0 to 1 of 0 F32[1]");
}

static void what_can_be_undone_is_no_finding(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "a", "to": "a", "mul": 0.125, "axes": "v d -> v d", "pad": {"v": 5}},
                         {"from": "b", "to": "b", "add": 1, "dtype": "float64"}));
    add_sources(&c, "a BF16 4 2; b F32 4");
    case_fits(&c);
    assert_int_equal(c.result.warning_count, 0);
    case_end(&c);
}

/* ---- all of it ---- */

static void all_faults_are_found_at_once_in_the_order_of_codes(void **state)
{
    (void)state;
    static struct map_case c;
    static const char *const codes[] = {"E01", "E04", "E05", "E07", "E11"};
    case_start(&c, RULES({"from": "i", "to": "i", "mul": 2}, {"from": "q", "to": "q", "axes": "a b -> b a"},
                         {"from": "r", "to": "r", "mul": "n"}, {"from": "s.{l}", "to": "s", "axes": "d -> l d"}));
    add_sources(&c, "q F32 4; i I8 4; r F32 4; s.1 F32 4; t F32");
    case_apply(&c);
    assert_int_equal(c.result.error_count, TP_COUNT_OF(codes));
    for (size_t i = 0; i < TP_COUNT_OF(codes); i++)
        assert_string_equal(c.result.errors[i].code, codes[i]);
    case_end(&c);
}

/* clang-format on */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e01_names_what_no_rule_matches_and_the_nearest_rule),
        cmocka_unit_test(twenty_are_named_and_the_rest_is_counted),
        cmocka_unit_test(hostile_names_are_escaped_and_cut),
        cmocka_unit_test(e02_names_both_rules),
        cmocka_unit_test(e13_says_what_is_not_the_same),
        cmocka_unit_test(w01_names_rules_that_match_nothing),
        cmocka_unit_test(w03_names_what_is_left_out),
        cmocka_unit_test(e03_names_the_target_the_place_and_both_sources),
        cmocka_unit_test(e03_names_rules_that_see_one_target_differently),
        cmocka_unit_test(e04_names_missing_indices_and_the_sources_they_want),
        cmocka_unit_test(e04_knows_combinations_and_lists),
        cmocka_unit_test(e04_is_not_said_where_sources_do_not_fit),
        cmocka_unit_test(a_stack_too_large_to_be_counted_is_a_hole),
        cmocka_unit_test(e04_names_lists_with_missing_items),
        cmocka_unit_test(e05_names_source_shape_and_pattern),
        cmocka_unit_test(e06_says_where_a_size_comes_from),
        cmocka_unit_test(e06_knows_lists_rows_stacks_and_bounds),
        cmocka_unit_test(e07_says_which_number_is_not_known),
        cmocka_unit_test(e07_is_not_said_of_rules_that_meet_nothing),
        cmocka_unit_test(e08_names_both_sources),
        cmocka_unit_test(e09_says_which_axis_stands_alone),
        cmocka_unit_test(e10_names_leaves_that_are_nodes_and_bad_paths),
        cmocka_unit_test(e11_names_what_cannot_be_cast_or_computed),
        cmocka_unit_test(e11_names_packed_codes_that_would_be_taken_apart),
        cmocka_unit_test(e14_lists_what_is_missing_extra_or_other),
        cmocka_unit_test(e04_counts_captures_that_dims_name),
        cmocka_unit_test(e13_wants_the_other_tensor_written),
        cmocka_unit_test(w02_counts_what_cannot_be_undone),
        cmocka_unit_test(w04_counts_what_goes_nowhere),
        cmocka_unit_test(what_can_be_undone_is_no_finding),
        cmocka_unit_test(all_faults_are_found_at_once_in_the_order_of_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
