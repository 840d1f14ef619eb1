/* SPDX-License-Identifier: MIT */
/* The way back of maps: every element where it came from, and what is lost is said. */
#include "map_random.h"

/* JSON is not C: */
/* clang-format off */
#define RULES(...) HEAD "\"rules\": [" #__VA_ARGS__ "]}"

/* ---- there and back ---- */

/* What the map has made, as our readers give it: keys joined by '.'. */
static void start_back(struct map_case *back, struct map_case *there)
{
    memset(back, 0, sizeof *back);
    back->question.precision = TP_DTYPE_NONE;
    back->question.sources = back->sources;
    if (tp_map_invert(&back->map, there->map, &back->err))
        fail_msg("%s", back->err.message);
    back->question.map = back->map;
    back->question.config = there->config;
    for (size_t i = 0; i < there->result.target_count; i++) {
        const struct tp_map_target *t = &there->result.targets[i];
        char name[4097], what[256];
        case_path(t, name);
        for (char *c = name; *c; c++)
            *c = *c == '/' ? '.' : *c;
        uint8_t dtype = t->dtype != TP_DTYPE_NONE ? t->dtype : there->sources[t->pieces[0].source].dtype;
        snprintf(what, sizeof what, "%s", tp_dtype_name((enum tp_dtype)dtype));
        for (unsigned d = 0; d < t->rank; d++)
            snprintf(what + strlen(what), sizeof what - strlen(what), " %llu", (unsigned long long)t->shape[d]);
        case_source(back, name, what);
    }
}

static size_t find_source(const struct map_case *c, const char *name)
{
    for (size_t i = 0; i < c->question.source_count; i++)
        if (strcmp(c->sources[i].name, name) == 0)
            return i;
    fail_msg("%s was not there before", name);
    return 0;
}

/* Each element of `t` comes from a place of the map's targets that came from the same element; how many are lost. */
static unsigned compare_back(const struct map_case *there, struct origin *const *made, const struct tp_map_target *t)
{
    size_t source = find_source(there, t->path);
    const struct tp_map_source *s = &there->sources[source];
    struct origin *all = case_origins(t);
    unsigned lost = 0;
    assert_int_equal(t->rank, s->rank);
    for (unsigned d = 0; d < t->rank; d++)
        assert_int_equal(t->shape[d], s->shape[d]);
    for (uint64_t i = 0; i < elem_count_of(t); i++) {
        if (all[i].source == MAP_CASE_HOLE) {
            lost++;
            continue;
        }
        struct origin before = made[all[i].source][all[i].elem];
        if (before.source != source || before.elem != i)
            fail_msg("%s: element %llu was element %lld of source %lld", t->path, (unsigned long long)i,
                     (long long)before.elem, (long long)before.source);
    }
    free(all);
    return lost;
}

/* Everything there and back; the elements that are lost. */
static unsigned go_there_and_back(struct map_case *there, struct map_case *back)
{
    static struct origin *made[MAP_CASE_SOURCES];
    unsigned lost = 0;
    case_fits(there);
    start_back(back, there);
    case_apply(back);
    if (back->result.error_count > 0)
        fail_msg("back: %s %s", back->result.errors[0].code, back->result.errors[0].text);
    for (size_t i = 0; i < there->result.target_count; i++)
        made[i] = case_origins(&there->result.targets[i]);
    assert_int_equal(back->result.target_count, there->question.source_count);
    for (size_t i = 0; i < back->result.target_count; i++)
        lost += compare_back(there, made, &back->result.targets[i]);
    for (size_t i = 0; i < there->result.target_count; i++)
        free(made[i]);
    return lost;
}

/* "cat" has a way back where "dims" says how long all its parts are, and what is stacked, split or joined where nothing
 * pads it. */
static void make_invertible(struct random_rule *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        if (r->axes[i].kind != PLAIN)
            r->axes[i].padded = 0;
        if (r->axes[i].kind != JOINED)
            continue;
        r->part[1] = r->part[2] = r->part[0];
        r->axes[i].size = r->from_count * r->part[0];
    }
}

static bool crops(const struct random_rule *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->axes[i].padded && r->axes[i].padded < r->axes[i].size)
            return true;
    return false;
}

static void random_rules_bring_back_every_element_that_was_not_cropped(void **state)
{
    (void)state;
    static struct map_case there, back;
    unsigned done = 0, cropped = 0;
    srand(42);
    for (unsigned n = 0; n < 3000; n++) {
        struct random_rule r;
        char map[4096];
        make_rule(&r);
        make_invertible(&r);
        write_map(&r, map, true);
        case_start(&there, map);
        add_sources(&r, &there);
        unsigned lost = go_there_and_back(&there, &back);
        assert_int_equal(lost > 0, crops(&r));
        cropped += lost > 0;
        done++;
        case_end(&back);
        case_end(&there);
    }
    assert_true(done > 1000 && cropped > 100);
}

static const char maxtext[] =
    HEAD "\"dims\": {\"h\": \"head_dim\", \"c\": 2, \"h2\": \"h / 2\", \"n\": \"heads\", \"v\": \"vocab_size\"}, "
         "\"rules\": ["
         "{\"from\": \"embed\", \"to\": \"p/embedding\", \"axes\": \"v d -> v d\", \"pad\": {\"v\": 8}},"
         "{\"from\": \"m.{c*l+b}.ln.w\", \"to\": \"p/layers_{b}/ln\", \"axes\": \"d -> d l\"},"
         "{\"from\": \"m.{c*l+b}.{p:q|k}_proj.w\", \"to\": \"p/layers_{b}/{p:query|key}/kernel\", "
         "\"axes\": \"(m 2 h2) d -> d l m (h2 2)\", \"mul\": \"1/4\"},"
         "{\"from\": \"m.{c*l+b}.gate_up\", \"to\": [\"p/layers_{b}/wi_0\", \"p/layers_{b}/wi_1\"], "
         "\"axes\": \"e d (f 2) -> e l d f\", \"split\": \"2\"},"
         "{\"from\": \"m.{c*l+b}.kv_a\", \"to\": [\"p/layers_{b}/kv_a\", \"p/layers_{b}/k_pe\"], \"axes\": "
         "\"(n x) z -> z l n x\", \"split\": {\"axis\": \"x\", \"sizes\": [1, 2]}},"
         "{\"from\": [\"m.{c*l+b}.k\", \"m.{c*l+b}.v\"], \"to\": \"p/layers_{b}/kv\", \"stack\": \"s\", "
         "\"axes\": \"k d -> s d l k\"},"
         "{\"from\": \"[model.]norm\", \"to\": \"p/list/[0]/norm\"}], "
         "\"const\": [{\"to\": \"step\", \"value\": 0, \"dtype\": \"int32\"}]}";

static void a_whole_model_comes_back(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there, maxtext);
    case_config(&there, "{\"head_dim\": 4, \"vocab_size\": 5, \"heads\": 2}");
    case_source(&there, "embed", "BF16 5 6");
    case_source(&there, "model.norm", "BF16 6");
    for (unsigned l = 0; l < 6; l++) {
        static const char *const tensors[][2] = {
            {"ln.w", "BF16 6"},         {"q_proj.w", "BF16 8 6"}, {"k_proj.w", "BF16 4 6"}, {"kv_a", "BF16 6 3"},
            {"gate_up", "BF16 2 6 10"}, {"k", "BF16 2 6"},        {"v", "BF16 2 6"}};
        for (size_t i = 0; i < TP_COUNT_OF(tensors); i++) {
            char name[64];
            snprintf(name, sizeof name, "m.%u.%s", l, tensors[i][0]);
            case_source(&there, name, tensors[i][1]);
        }
    }
    assert_int_equal(go_there_and_back(&there, &back), 0);
    assert_int_equal(back.result.dropped_count, 1); /* the step */
    case_end(&back);
    case_end(&there);
}

static void names_come_back_with_dots_bare_indices_and_optional_text(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there, RULES({"from": "[model.]m.{l}.w", "to": "layers/[{l}]/x/w"},
                             {"from": "e.{p:a|b}", "to": "top/[0]/{p:x/y|z}"}, {"from": "{2*l+1}.w", "to": "odd_{l}"},
                             {"from": "{2*l+0}.w", "to": "even_{l}"}));
    case_source(&there, "model.m.0.w", "F32 2");
    case_source(&there, "model.m.1.w", "F32 2");
    case_source(&there, "e.a", "F32 2");
    case_source(&there, "5.w", "F32 2");
    case_source(&there, "4.w", "F32 2");
    assert_int_equal(go_there_and_back(&there, &back), 0);
    assert_string_equal(back.sources[1].name, "layers.0.x.w"); /* the order of paths */
    assert_string_equal(back.sources[4].name, "top.0.x.y");
    assert_int_equal(back.result.warning_count, 0);
    case_end(&back);
    case_end(&there);
}

/* What a rule took only below 3 is not taken back from where another rule put it. */
static void limits_hold_on_the_way_back(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there, RULES({"from": "d.{l<2}", "to": "layers/{l}", "axes": "o i -> i o"},
                             {"from": "m.{l+2}", "to": "layers/{l+2}"}));
    for (unsigned l = 0; l < 4; l++) {
        char name[16];
        snprintf(name, sizeof name, "%c.%u", l < 2 ? 'd' : 'm', l);
        case_source(&there, name, "F32 2 3");
    }
    assert_int_equal(go_there_and_back(&there, &back), 0);
    case_end(&back);
    case_end(&there);
}

static void flat_names_come_back(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there,
               HEAD "\"sep\": \"\", \"rules\": [{\"from\": \"m.{l}.{p:q|k}\", \"to\": \"w.layers[{l}].{p:q|k}\"}]}");
    case_source(&there, "m.0.q", "F32 2");
    case_source(&there, "m.12.k", "F32 2");
    assert_int_equal(go_there_and_back(&there, &back), 0);
    case_end(&back);
    case_end(&there);
}

/* ---- arithmetic ---- */

static void arithmetic_is_undone_in_the_opposite_order(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there,
               RULES({"from": "a", "to": "a", "mul": 4, "add": 1},
                     {"from": "b", "to": "b", "mul": {"by": "sqrt(2)", "in": "bf16"}, "dtype": "float32"}));
    case_source(&there, "a", "F32 2");
    case_source(&there, "b", "F32 2");
    assert_int_equal(go_there_and_back(&there, &back), 0);
    const struct tp_map_target *a = case_target(&back, "a"), *b = case_target(&back, "b");
    assert_true(a->arithmetic.factor == 0.25 && a->arithmetic.addend == -0.25);
    assert_true(a->arithmetic.cast_first);
    assert_true(b->arithmetic.factor == 1 / 1.4140625); /* of the rounded factor */
    assert_int_equal(b->dtype, TP_DTYPE_NONE);
    case_end(&back);
    case_end(&there);
}

static void a_product_with_zero_has_no_way_back(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there, RULES({"from": "a", "to": "a", "mul": 0}));
    case_source(&there, "a", "F32 2");
    case_fits(&there);
    start_back(&back, &there);
    case_has_error(&back, "E07",
                   "rule 1 (line 1): a size or number is not known: \"mul\" by 0 cannot be undone\n"
                   "A name is one of \"dims\" or a number of config.json, which lies beside the checkpoint.");
    case_end(&back);
    case_end(&there);
}

/* ---- what is lost ---- */

static void a_pad_without_a_size_in_dims_stays(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there, RULES({"from": "e", "to": "e", "axes": "v d -> v d", "pad": {"v": 8}}));
    case_source(&there, "e", "F32 5 2");
    case_fits(&there);
    start_back(&back, &there);
    case_fits(&back);
    case_has_shape(&back, "e", "8,2");
    case_end(&back);
    case_end(&there);
}

static void what_was_taken_away_on_purpose_is_named(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there, HEAD "\"rules\": [{\"from\": \"a\", \"to\": \"a\"}, {\"from\": \"inv_freq\", \"drop\": true}, "
                            "{\"from\": \"a\", \"to\": \"copy\", \"also\": true}], "
                            "\"const\": [{\"to\": \"step\", \"value\": 0, \"dtype\": \"int32\"}]}");
    case_source(&there, "a", "F32 2");
    case_source(&there, "inv_freq", "F32 2");
    case_fits(&there);
    start_back(&back, &there);
    case_fits(&back);
    assert_int_equal(back.result.target_count, 1);
    assert_string_equal(back.result.targets[0].path, "a");
    assert_int_equal(back.result.dropped_count, 2); /* the copy and the constant */
    assert_int_equal(back.result.warning_count, 2);
    must_be_finding(&back.result.warnings[0], "W02",
                    "rule 2 (line 1): has no way back, {\"from\": \"inv_freq\", \"drop\": true}");
    must_be_finding(&back.result.warnings[1], "W02",
                    "rule 3 (line 1): has no way back, {\"from\": \"a\", \"to\": \"copy\", \"also\": true}: "
                    "1 tensor left out");
    case_end(&back);
    case_end(&there);
}

static void must_be_lost(const char *map, const char *const *sources, const char *text)
{
    static struct map_case there, back;
    case_start(&there, map);
    for (; *sources; sources += 2)
        case_source(&there, sources[0], sources[1]);
    case_fits(&there);
    start_back(&back, &there);
    case_has_error(&back, "E07", text);
    case_end(&back);
    case_end(&there);
}

static void what_the_way_back_would_lose_is_an_error(void **state)
{
    (void)state;
    static const char *const qk[] = {"q", "F32 2", "k", "F32 3", NULL}, *const one[] = {"q", "F32 3", NULL},
                      *const layers[] = {"0", "F32 2", "1", "F32 2", NULL};
    must_be_lost(RULES({"from": ["q", "k"], "to": "w", "cat": "x", "axes": "x -> x"}), qk,
                 "rule 1 (line 1): what it takes to go back is not known, "
                 "{\"from\": [\"q\", \"k\"], \"to\": \"w\", \"cat\": \"x\", \"axes\": \"x -> x\"}: "
                 "the sizes of the parts of the \"cat\" axis are not known; where they are the same, "
                 "name it in \"dims\"");
    must_be_lost(RULES({"pieces": [{"from": "q", "take": ":2", "axes": "x"}], "to": "w", "cat": "x", "axes": "x"}), one,
                 "rule 1 (line 1): what it takes to go back is not known, "
                 "{\"pieces\": [{\"from\": \"q\", \"take\": \":2\", \"axes\": \"x\"}], "
                 "\"to\": \"w\", \"cat\": \"x\", \"axes\": \"x\"}: \"take\" uses some rows of a source only");
    must_be_lost(RULES({"from": "{p:q|k}", "to": "w"}), one,
                 "rule 1 (line 1): what it takes to go back is not known, "
                 "{\"from\": \"{p:q|k}\", \"to\": \"w\"}: "
                 "\"to\" and the stacked axes do not tell all captures of \"from\"");
    must_be_lost(RULES({"from": "{l}", "to": "w", "axes": "d -> l d", "pad": {"l": 3}}), layers,
                 "rule 1 (line 1): what it takes to go back is not known, "
                 "{\"from\": \"{l}\", \"to\": \"w\", \"axes\": \"d -> l d\", \"pad\": {\"l\": 3}}: "
                 "an axis is padded that is stacked, split or joined");
    must_be_lost(RULES({"from": "q", "to": ["v", "w"], "axes": "x -> x", "pad": {"x": 2},
                        "split": {"axis": "x", "sizes": [1, 2]}}), one,
                 "rule 1 (line 1): what it takes to go back is not known, "
                 "{\"from\": \"q\", \"to\": [\"v\", \"w\"], \"axes\": \"x -> x\", "
                 "\"pad\": {\"x\": 2}, \"split\": {\"axis\": \"x\", \"sizes\": [1, 2]}}: "
                 "an axis is padded that is stacked, split or joined");
}

/* A head that may be the embedding's copy comes back from the rule that writes a head of its own. */
static void a_copy_gives_way_to_the_rule_that_brings_back(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there,
               RULES({"from": "head", "to": "h", "axes": "v d -> d v"}, {"from": "embed", "to": "e"},
                     {"from": "embed", "to": "h", "axes": "v d -> d v", "also": true, "if_missing": "head"}));
    case_source(&there, "embed", "F32 4 2");
    case_source(&there, "head", "F32 4 2");
    assert_int_equal(go_there_and_back(&there, &back), 0);
    assert_int_equal(back.result.warning_count, 0);
    case_end(&back);
    case_end(&there);
}

static void what_comes_back_changed_is_said(void **state)
{
    (void)state;
    static struct map_case there, back;
    case_start(&there,
               HEAD "\"dims\": {\"v\": 4}, \"rules\": [{\"from\": \"e\", \"to\": \"e\", \"axes\": \"v d -> v d\", "
                    "\"pad\": {\"v\": 3}, \"mul\": 3}]}");
    case_source(&there, "e", "F32 4 2");
    assert_int_equal(go_there_and_back(&there, &back), 2);
    assert_int_equal(back.result.warning_count, 1);
    must_be_finding(
        &back.result.warnings[0], "W02",
        "rule 1 (line 1): cannot be undone exactly, {\"from\": \"e\", \"to\": \"e\", \"axes\": \"v d -> v d\", "
        "\"pad\": {\"v\": 3}, \"mul\": 3}:\n  \"mul\" by no power of two (1 tensor)\n  \"pad\" that cuts off (1 "
        "tensor)");
    case_end(&back);
    case_end(&there);
}

/* clang-format on */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_rules_bring_back_every_element_that_was_not_cropped),
        cmocka_unit_test(a_whole_model_comes_back),
        cmocka_unit_test(names_come_back_with_dots_bare_indices_and_optional_text),
        cmocka_unit_test(limits_hold_on_the_way_back),
        cmocka_unit_test(flat_names_come_back),
        cmocka_unit_test(arithmetic_is_undone_in_the_opposite_order),
        cmocka_unit_test(a_product_with_zero_has_no_way_back),
        cmocka_unit_test(a_pad_without_a_size_in_dims_stays),
        cmocka_unit_test(what_was_taken_away_on_purpose_is_named),
        cmocka_unit_test(what_the_way_back_would_lose_is_an_error),
        cmocka_unit_test(a_copy_gives_way_to_the_rule_that_brings_back),
        cmocka_unit_test(what_comes_back_changed_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
