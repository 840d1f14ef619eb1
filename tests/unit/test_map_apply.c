/* SPDX-License-Identifier: MIT */
/* Maps applied to sources: shapes and paths of the targets, and each element's place against the definition. */
#include "map_case.h"

#include "map_random.h"

/* JSON is not C: */
/* clang-format off */
#define RULES(...) HEAD "\"rules\": [" #__VA_ARGS__ "]}"

/* ---- random rules, against looking every element up by itself ---- */

/* ---- the definition: which element of which source is this one? ---- */

static uint64_t find_source(const struct map_case *c, const char *name)
{
    for (size_t i = 0; i < c->question.source_count; i++)
        if (strcmp(c->sources[i].name, name) == 0)
            return i;
    fail_msg("no source %s", name);
    return 0;
}

static struct origin look_up(const struct random_rule *r, const struct map_case *c, const char *path, uint64_t elem)
{
    unsigned index[AXES] = {0}, from = 0, l = 0, e = 0, to = (unsigned)(path[1] - '0');
    for (unsigned i = r->right_count; i-- > 0;) {
        const struct axis *a = &r->axes[r->right[i]];
        unsigned size = a->kind == SLICED ? r->part[to] : a->size, wide = a->padded ? a->padded : size;
        index[r->right[i]] = (unsigned)(elem % wide);
        elem /= wide;
        if (index[r->right[i]] >= size)
            return (struct origin){MAP_CASE_HOLE, 0};
    }
    for (unsigned i = 0; i < r->count; i++) {
        const struct axis *a = &r->axes[i];
        if (a->kind == STACKED)
            *(a->name[0] == 'l' ? &l : &e) = index[i];
        else if (a->kind == LISTED)
            from = index[i];
        else if (a->kind == TAKEN_APART)
            index[i] = to;
        else if (a->kind == UNSTACKED)
            index[i] = (unsigned)(path[5] - '0');
        for (unsigned k = 0; a->kind == SLICED && k < to; k++)
            index[i] += r->part[k];
        for (; a->kind == JOINED && index[i] >= r->part[from]; from++)
            index[i] -= r->part[from];
    }
    uint64_t src = 0;
    for (unsigned i = 0; i < r->left_count; i++)
        src = src * source_size(r, &r->axes[r->left[i]], from) + index[r->left[i]];
    char name[64];
    source_name(r, name, sizeof name, from, l, path[3] == '1', e);
    return (struct origin){find_source(c, name), src};
}

static void compare_target(const struct random_rule *r, const struct map_case *c, const struct tp_map_target *t,
                           const char *map)
{
    char path[64];
    case_path(t, path);
    struct origin *all = case_origins(t);
    bool has_holes = false;
    for (uint64_t i = 0; i < elem_count_of(t); i++) {
        struct origin expected = look_up(r, c, path, i);
        has_holes |= expected.source == MAP_CASE_HOLE;
        if (all[i].source != expected.source || all[i].elem != expected.elem)
            fail_msg("%s, element %llu: source %lld element %llu, expected %lld %llu; %s", path, (unsigned long long)i,
                     (long long)all[i].source, (unsigned long long)all[i].elem, (long long)expected.source,
                     (unsigned long long)expected.elem, map);
    }
    assert_int_equal(t->has_holes, has_holes);
    free(all);
}

static void every_element_of_random_rules_is_where_the_language_says(void **state)
{
    (void)state;
    static struct map_case c;
    unsigned seen[7] = {0};
    srand(20261123);
    for (unsigned n = 0; n < 3000; n++) {
        struct random_rule r;
        char map[4096];
        make_rule(&r);
        write_map(&r, map, false);
        case_start(&c, map);
        add_sources(&r, &c);
        case_apply(&c);
        if (c.result.error_count > 0)
            fail_msg("%s %s; %s", c.result.errors[0].code, c.result.errors[0].text, map);
        const struct axis *u = find_kind(&r, UNSTACKED, NULL);
        unsigned doubled = find_kind(&r, STACKED, "l") && r.doubles ? 2 : 1;
        assert_int_equal(c.result.target_count, r.to_count * doubled * (u ? u->size : 1));
        for (size_t i = 0; i < c.result.target_count; i++)
            compare_target(&r, &c, &c.result.targets[i], map);
        for (unsigned i = 0; i < r.count; i++)
            seen[r.axes[i].kind]++;
        case_end(&c);
    }
    for (unsigned i = 0; i < TP_COUNT_OF(seen); i++)
        assert_true(seen[i] > 100);
}

/* ---- single forms ---- */

/* Elements of the only piece's source, in the order of the target. */
static void must_read(const struct map_case *c, const char *path, const char *elems)
{
    const struct tp_map_target *t = case_target(c, path);
    struct origin *all = case_origins(t);
    char text[512] = "";
    for (uint64_t i = 0; i < elem_count_of(t); i++)
        if (all[i].source == MAP_CASE_HOLE)
            put(text, i ? " -" : "-");
        else
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%llu", i ? " " : "",
                     (unsigned long long)(100 * all[i].source + all[i].elem));
    free(all);
    if (strcmp(text, elems) != 0)
        fail_msg("%s reads %s, expected %s", path, text, elems);
}

static void a_digit_first_splits_in_halves_and_last_takes_turns(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "h", "to": [ "h0", "h1" ], "axes": "(2 f) -> f", "split": "2"},
                         {"from": "i", "to": [ "i0", "i1" ], "axes": "(f 2) -> f", "split": "2"}));
    case_source(&c, "h", "F32 6");
    case_source(&c, "i", "F32 6");
    case_fits(&c);
    must_read(&c, "h0", "0 1 2");
    must_read(&c, "h1", "3 4 5");
    must_read(&c, "i0", "100 102 104");
    must_read(&c, "i1", "101 103 105");
    case_end(&c);
}

static void rope_halves_become_pairs(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, HEAD "\"dims\": {\"n\": 2}, \"rules\": [{\"from\": \"q\", \"to\": \"q\", "
                        "\"axes\": \"(n 2 h) -> n (h 2)\"}]}");
    case_source(&c, "q", "F32 8");
    case_fits(&c);
    case_has_shape(&c, "q", "2,4");
    must_read(&c, "q", "0 2 1 3 4 6 5 7");
    case_end(&c);
}

/* Qwen3.5: rows of one tensor and all of another, put together head by head. */
static void pieces_take_rows_and_are_joined_within_each_group(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c,
               HEAD "\"dims\": {\"g\": 2}, \"rules\": [{\"pieces\": [{\"from\": \"qkv\", \"take\": \":2\", \"axes\": "
                    "\"(g x) d\"}, {\"from\": \"qkv\", \"take\": \"2:6\", \"axes\": \"(g x) d\"}, "
                    "{\"from\": \"z\", \"axes\": \"(g x) d\"}], "
                        "\"to\": \"o\", \"cat\": \"x\", \"axes\": \"(g x) d\"}]}");
    case_source(&c, "qkv", "F32 6 2");
    case_source(&c, "z", "F32 2 2");
    case_fits(&c);
    must_read(&c, "o", "0 1 4 5 6 7 100 101 2 3 8 9 10 11 102 103");
    case_end(&c);
}

static void a_padded_axis_counts_within_its_group(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c,
               HEAD "\"dims\": {\"n\": 2}, \"rules\": [{\"from\": \"a\", \"to\": \"a\", \"axes\": \"(n h) -> (n h)\", "
                    "\"pad\": {\"h\": 3}}, {\"from\": \"b\", \"to\": \"b\", \"axes\": \"(n h) -> (n h)\", "
                    "\"pad\": {\"h\": 1}}]}");
    case_source(&c, "a", "F32 4");
    case_source(&c, "b", "F32 4");
    case_fits(&c);
    must_read(&c, "a", "0 1 - 2 3 -");
    must_read(&c, "b", "100 102");
    assert_true(case_target(&c, "a")->has_holes);
    assert_false(case_target(&c, "b")->has_holes);
    case_end(&c);
}

static void ones_come_and_go_and_scalars_stack(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c,
               RULES({"from": "a", "to": "a", "axes": "1 d -> d"}, {"from": "b", "to": "b", "axes": "d -> 1 d"},
                     {"from": "s.{l}", "to": "s", "axes": "-> l"}, {"from": "r", "to": "r"}));
    case_source(&c, "a", "F32 1 3");
    case_source(&c, "b", "F32 3");
    case_source(&c, "s.1", "F32");
    case_source(&c, "s.0", "F32");
    case_source(&c, "r", "F32");
    case_fits(&c);
    case_has_shape(&c, "a", "3");
    case_has_shape(&c, "b", "1,3");
    must_read(&c, "s", "300 200");
    case_has_shape(&c, "r", "");
    must_read(&c, "r", "400");
    assert_int_equal(case_target(&c, "r")->pieces[0].axis_count, 0);
    assert_string_equal(case_target(&c, "s")->slot, "l");
    assert_null(case_target(&c, "r")->slot);
    case_end(&c);
}

static void an_empty_target_has_one_piece_of_no_steps(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "a.{l}", "to": "a", "axes": "i o -> o l i"}, {"from": "b", "to": "b"}));
    case_source(&c, "a.0", "BF16 0 1152921504606846976");
    case_source(&c, "a.1", "BF16 0 1152921504606846976");
    case_source(&c, "b", "F32 3 0");
    case_fits(&c);
    case_has_shape(&c, "a", "1152921504606846976,2,0");
    for (size_t i = 0; i < c.result.target_count; i++) {
        const struct tp_map_target *t = &c.result.targets[i];
        assert_int_equal(t->piece_count, 1);
        assert_int_equal(t->pieces[0].axis_count, 1);
        assert_int_equal(t->pieces[0].axes[0].count, 0);
        assert_int_equal(t->pieces[0].axes[0].dst_stride, 1);
        assert_false(t->has_holes);
    }
    case_end(&c);
}

static void loops_are_merged_where_both_sides_go_on(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "a", "to": "a", "axes": "x y z -> x (y z)"},
                         {"from": "b.{l}", "to": "b", "axes": "o i -> l o i"}));
    case_source(&c, "a", "F32 3 4 5");
    case_source(&c, "b.0", "F32 3 4");
    case_source(&c, "b.1", "F32 3 4");
    case_fits(&c);
    const struct tp_map_target *a = case_target(&c, "a"), *b = case_target(&c, "b");
    assert_int_equal(a->pieces[0].axis_count, 1);
    assert_int_equal(a->pieces[0].axes[0].count, 60);
    assert_int_equal(b->piece_count, 2);
    assert_int_equal(b->pieces[1].dst_first, 12);
    assert_ptr_equal(b->pieces[0].axes, b->pieces[1].axes); /* one copy of what is the same */
    case_end(&c);
}

/* Dense layers from one rule, the others from another: one stack. */
static void two_rules_may_fill_one_stack(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "m.{l<2}.w", "to": "w", "axes": "o i -> l i o"},
                         {"from": "n.{l}.w", "to": "w", "axes": "i o -> l i o"}));
    case_source(&c, "m.0.w", "F32 2 3");
    case_source(&c, "m.1.w", "F32 2 3");
    case_source(&c, "n.2.w", "F32 3 2");
    case_fits(&c);
    case_has_shape(&c, "w", "3,3,2");
    must_read(&c, "w", "0 3 1 4 2 5 100 103 101 104 102 105 200 201 202 203 204 205");
    case_end(&c);
}

/* ---- which sources a rule gets ---- */

static void a_tied_head_is_made_where_there_is_none(void **state)
{
    (void)state;
    static const char map[] =
        RULES({"from": "embed", "to": "e"}, {"from": "head", "to": "h", "axes": "v d -> d v"},
              {"from": "embed", "to": "h", "axes": "v d -> d v", "also": true, "if_missing": "head"});
    static struct map_case c;
    case_start(&c, map);
    case_source(&c, "embed", "F32 4 2");
    case_fits(&c);
    case_has_shape(&c, "h", "2,4");
    assert_int_equal(c.result.targets[1].pieces[0].rule, 2);
    case_end(&c);
    case_start(&c, map);
    case_source(&c, "embed", "F32 4 2");
    case_source(&c, "head", "F32 4 2");
    case_fits(&c);
    assert_int_equal(case_target(&c, "h")->pieces[0].source, 1);
    assert_int_equal(c.result.warning_count, 0); /* the third rule met its source, though it was not wanted */
    case_end(&c);
}

static void rules_take_part_where_the_config_says_so(void **state)
{
    (void)state;
    static const char map[] =
        RULES({"from": "head", "to": "h", "if": "1 - tied | 1"}, {"from": "head", "drop": true, "if": "tied"});
    static struct map_case c;
    for (unsigned tied = 0; tied < 3; tied++) { /* false, true, not said */
        case_start(&c, map);
        if (tied < 2)
            case_config(&c, tied ? "{\"tied\": true}" : "{\"tied\": false}");
        case_source(&c, "head", "F32 4 2");
        case_fits(&c);
        assert_int_equal(c.result.target_count, tied != 1);
        assert_int_equal(c.result.dropped_count, tied == 1);
        case_end(&c);
    }
}

static void tensors_that_shall_be_equal_are_listed(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "{m:x|y}.embed", "to": "{m:x|y}"},
                         {"from": "{m:x|y}.head", "same_as": "{m:x|y}.embed"}));
    case_source(&c, "y.head", "F32 4 2");
    case_source(&c, "x.embed", "F32 4 2");
    case_source(&c, "y.embed", "F32 4 2");
    case_fits(&c);
    assert_int_equal(c.result.same_count, 1);
    assert_int_equal(c.result.sames[0].source, 0);
    assert_int_equal(c.result.sames[0].other, 2);
    assert_int_equal(c.result.sames[0].rule, 1);
    assert_int_equal(c.result.dropped_count, 0);
    case_end(&c);
}

static void what_no_rule_matches_is_kept_or_dropped(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, HEAD "\"unmatched\": \"keep\", \"rules\": [{\"from\": \"a\", \"to\": \"z/a\"}]}");
    case_source(&c, "a", "F32 4");
    case_source(&c, "b.c", "I64 2 2");
    c.sources[1].is_packed = true;
    case_fits(&c);
    case_has_shape(&c, "b.c", "2,2");
    assert_true(case_target(&c, "b.c")->rule == TP_MAP_NONE);
    case_end(&c);
    case_start(&c, HEAD "\"unmatched\": \"drop\", \"rules\": [{\"from\": \"a\", \"to\": \"a\"}]}");
    case_source(&c, "b", "F32 4");
    case_source(&c, "a", "F32 4");
    case_fits(&c);
    assert_int_equal(c.result.target_count, 1);
    assert_int_equal(c.result.dropped_count, 1);
    assert_int_equal(c.result.dropped[0], 0);
    case_end(&c);
}

/* ---- paths ---- */

static void separators_cut_keys_and_brackets_make_lists(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "m.{l}.{p:q|k}", "to": "layers/[{l}]/{p:query|key}"},
                         {"from": "n.{l}", "to": "a[{l}]"},
                         {"from": "z", "to": "z/[007]"}));
    case_source(&c, "m.0.q", "F32 4");
    case_source(&c, "m.1.k", "F32 4");
    case_source(&c, "n.3", "F32 4");
    case_source(&c, "z", "F32 4");
    case_fits(&c);
    assert_int_equal(case_target(&c, "layers/0/query")->list_levels, 2);
    assert_int_equal(case_target(&c, "layers/1/key")->list_levels, 2);
    assert_int_equal(case_target(&c, "a[3]")->list_levels, 0);
    assert_int_equal(case_target(&c, "z/[007]")->list_levels, 0); /* no index is written so */
    case_end(&c);
    case_start(&c, HEAD "\"sep\": \"\", \"rules\": [{\"from\": \"m.{l}\", \"to\": \"w/layers[{l}]\"}]}");
    case_source(&c, "m.12", "F32 4");
    case_fits(&c);
    assert_int_equal(c.result.targets[0].path_len, strlen("w/layers[12]"));
    assert_memory_equal(c.result.targets[0].path, "w/layers[12]", 13); /* one key, terminated */
    case_end(&c);
}

static void must_be_ordered(const struct map_case *c, const char *const *paths, size_t count)
{
    char path[4097];
    assert_int_equal(c->result.target_count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(case_path(&c->result.targets[i], path), paths[i]);
}

static void leaves_are_sorted_key_by_key(void **state)
{
    (void)state;
    static const char *const sorted[] = {"a/b", "a-b", "a.b", "layers/10", "layers/2"};
    static struct map_case c;
    case_start(&c,
               RULES({"from": "1", "to": "layers/2"}, {"from": "2", "to": "a.b"},
                     {"from": "3", "to": "layers/10"}, {"from": "4", "to": "a/b"}, {"from": "5", "to": "a-b"}));
    for (unsigned i = 1; i < 6; i++) {
        char name[12];
        snprintf(name, sizeof name, "%u", i);
        case_source(&c, name, "F32 1");
    }
    case_fits(&c);
    must_be_ordered(&c, sorted, TP_COUNT_OF(sorted));
    case_end(&c);
}

/* jax-llm-examples: fields of a dataclass, layers by number, as the rules first mention each key of a level. */
static void order_of_rules_is_that_of_first_mention(void **state)
{
    (void)state;
    static const char *const ordered[] = {"w.layers[0].ffw.up",
                                          "w.layers[0].attn.q",
                                          "w.layers[0].attn.k",
                                          "w.layers[2].ffw.up",
                                          "w.layers[2].attn.q",
                                          "w.layers[10].attn.q",
                                          "w.embed",
                                          "w.step",
                                          "spare"};
    static struct map_case c;
    case_start(&c, HEAD "\"sep\": \"\", \"order\": \"rules\", \"unmatched\": \"keep\", \"rules\": ["
                        "{\"from\": \"never\", \"to\": \"w.layers[{l}].ffw\", \"axes\": \"l d -> d\"},"
                        "{\"from\": \"{l}.{p:q|k}\", \"to\": \"w.layers[{l}].attn.{p:q|k}\"},"
                        "{\"from\": \"{l}.up\", \"to\": \"w.layers[{l}].ffw.up\"},"
                        "{\"from\": \"embed\", \"to\": \"w.embed\"}], "
                        "\"const\": [{\"to\": \"w.step\", \"value\": 7, \"dtype\": \"int32\"}]}");
    static const char *const names[] = {"spare", "embed", "10.q", "2.q", "0.k", "0.q", "2.up", "0.up"};
    for (size_t i = 0; i < TP_COUNT_OF(names); i++)
        case_source(&c, names[i], "F32 1");
    case_fits(&c);
    must_be_ordered(&c, ordered, TP_COUNT_OF(ordered));
    case_end(&c);
}

/* ---- values ---- */

static void constants_become_targets_without_pieces(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, HEAD "\"dims\": {\"n\": 3}, \"rules\": [], \"const\": [{\"to\": \"s/step\", \"value\": \"n / 2\", "
                        "\"dtype\": \"bfloat16\", \"shape\": [\"n\", 2]}]}");
    case_fits(&c);
    const struct tp_map_target *t = case_target(&c, "s/step");
    case_has_shape(&c, "s/step", "3,2");
    assert_true(t->is_constant);
    assert_int_equal(t->piece_count, 0);
    assert_int_equal(t->dtype, TP_BF16);
    assert_true(t->value == 1.5);
    case_end(&c);
}

static void constants_may_be_no_arrays_and_may_take_no_part(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, HEAD "\"dims\": {\"n\": 3}, \"rules\": [], \"const\": ["
                        "{\"to\": \"a\", \"value\": 1, \"dtype\": \"int8\", \"if\": \"n\"},"
                        "{\"to\": \"b\", \"value\": 1, \"dtype\": \"int8\", \"if\": \"n - 3\"},"
                        "{\"to\": \"c\", \"value\": null},"
                        "{\"to\": \"d/e\", \"value\": null, \"if\": \"n\"},"
                        "{\"to\": \"f\", \"value\": null, \"if\": \"unknown\"}]}");
    case_fits(&c);
    assert_int_equal(c.result.target_count, 1);
    assert_string_equal(c.result.targets[0].path, "a");
    assert_int_equal(c.result.none_count, 2);
    assert_string_equal(c.result.nones[0].path, "c");
    assert_int_equal(c.result.nones[1].path_len, 3);
    case_end(&c);
    case_start(&c, HEAD "\"rules\": [], \"const\": [{\"to\": \"a\", \"value\": null},"
                        "{\"to\": \"a\", \"value\": 1, \"dtype\": \"int8\"}]}");
    case_has_error(&c, "E03",
                   "two rules for one target, which may only be if they see it alike: the same right side, numbers "
                   "and dtype: a: a constant and a constant");
    case_end(&c);
    case_start(&c, HEAD "\"rules\": [], \"const\": [{\"to\": \"a\", \"value\": null},"
                        "{\"to\": \"a/b\", \"value\": 1, \"dtype\": \"int8\"}]}");
    case_has_error(&c, "E10", "a target is both a leaf and a node: a and a/b");
    case_end(&c);
}

static void factors_are_rounded_where_the_map_says(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, HEAD "\"cast\": \"first\", \"rules\": ["
                        "{\"from\": \"a\", \"to\": \"a\", \"mul\": {\"by\": \"sqrt(2304)\", \"in\": \"bf16\"}},"
                        "{\"from\": \"b\", \"to\": \"b\", \"mul\": {\"by\": 1.00390625095, \"in\": \"bf16\"}},"
                        "{\"from\": \"c\", \"to\": \"c\", \"mul\": {\"by\": \"1 / 3\", \"in\": \"f16\"}, \"add\": 1},"
                        "{\"from\": \"d\", \"to\": \"d\", \"mul\": 1, \"add\": 0}]}");
    case_source(&c, "a", "BF16 4");
    case_source(&c, "b", "BF16 4");
    case_source(&c, "c", "F32 4");
    case_source(&c, "d", "I32 4"); /* by 1, and 0: no arithmetic, so any dtype */
    case_fits(&c);
    assert_true(case_target(&c, "a")->arithmetic.factor == 48);
    assert_true(case_target(&c, "a")->arithmetic.multiplies && !case_target(&c, "a")->arithmetic.adds);
    /* above the tie, but not in float32, through which JAX goes: to even, which is 1 */
    assert_false(case_target(&c, "b")->arithmetic.multiplies);
    assert_true(case_target(&c, "c")->arithmetic.factor == 1365.0 / 4096);
    assert_true(case_target(&c, "c")->arithmetic.adds && case_target(&c, "c")->arithmetic.addend == 1);
    assert_true(case_target(&c, "c")->arithmetic.cast_first);
    assert_false(case_target(&c, "d")->arithmetic.multiplies || case_target(&c, "d")->arithmetic.adds);
    case_end(&c);
}

static void floats_of_one_target_may_differ_where_a_dtype_is_chosen(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "a.{l}", "to": "a", "axes": "d -> l d"},
                         {"from": "b.{l}", "to": "b", "axes": "d -> l d", "dtype": "float32"}));
    case_source(&c, "b.0", "BF16 4");
    case_source(&c, "b.1", "F64 4");
    case_source(&c, "a.0", "BF16 4");
    case_source(&c, "a.1", "F32 4");
    c.question.precision = TP_BF16;
    case_fits(&c);
    assert_int_equal(case_target(&c, "a")->dtype, TP_DTYPE_NONE);
    assert_int_equal(case_target(&c, "b")->dtype, TP_F32);
    case_end(&c);
}

static void packed_codes_are_moved_whole(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, RULES({"from": "a", "to": "x/a"}, {"from": "b", "to": "x/b", "axes": "i o -> i o"}));
    case_source(&c, "a", "F4 4 8");
    case_source(&c, "b", "U8 4 8");
    c.sources[0].is_packed = c.sources[1].is_packed = true;
    case_fits(&c);
    case_has_shape(&c, "x/b", "4,8");
    case_end(&c);
}

/* ---- whole models ---- */

static const char maxtext_gpt_oss[] =
    HEAD "\"dims\": {\"h\": \"head_dim\", \"c\": 2}, \"rules\": ["
         "{\"from\": \"m.{c*l+b}.ln.w\", \"to\": \"p/layers_{b}/ln\", \"axes\": \"d -> d l\"},"
         "{\"from\": \"m.{c*l+b}.{p:q|k}_proj.w\", \"to\": \"p/layers_{b}/{p:query|key}/kernel\", "
         "\"axes\": \"(n h) d -> d l n h\"},"
         "{\"from\": \"m.{c*l+b}.o_proj.w\", \"to\": \"p/layers_{b}/out/kernel\", \"axes\": \"d (n h) -> n l h d\"},"
         "{\"from\": \"m.{c*l+b}.gate_up\", \"to\": [\"p/layers_{b}/wi_0\", \"p/layers_{b}/wi_1\"], "
         "\"axes\": \"e d (f 2) -> e l d f\", \"split\": \"2\"},"
         "{\"from\": \"m.{c*l+b}.gate_up_bias\", \"to\": [\"p/layers_{b}/wi_0_bias\", \"p/layers_{b}/wi_1_bias\"], "
         "\"axes\": \"e (f 2) -> e l f\", \"split\": \"2\"}]}";

static void maxtext_gpt_oss_20b_has_its_shapes(void **state)
{
    (void)state;
    static struct map_case c;
    case_start(&c, maxtext_gpt_oss);
    case_config(&c, "{\"head_dim\": 64}");
    for (unsigned l = 0; l < 24; l++) {
        static const char *const tensors[][2] = {
            {"ln.w", "BF16 2880"},          {"q_proj.w", "BF16 4096 2880"},   {"k_proj.w", "BF16 512 2880"},
            {"o_proj.w", "BF16 2880 4096"}, {"gate_up", "BF16 32 2880 5760"}, {"gate_up_bias", "BF16 32 5760"}};
        for (size_t i = 0; i < TP_COUNT_OF(tensors); i++) {
            char name[64];
            snprintf(name, sizeof name, "m.%u.%s", l, tensors[i][0]);
            case_source(&c, name, tensors[i][1]);
        }
    }
    case_fits(&c);
    assert_int_equal(c.result.target_count, 16);
    case_has_shape(&c, "p/layers_0/ln", "2880,12");
    case_has_shape(&c, "p/layers_1/query/kernel", "2880,12,64,64");
    case_has_shape(&c, "p/layers_0/key/kernel", "2880,12,8,64");
    case_has_shape(&c, "p/layers_1/out/kernel", "64,12,64,2880");
    case_has_shape(&c, "p/layers_0/wi_0", "32,12,2880,2880");
    case_has_shape(&c, "p/layers_0/wi_1_bias", "32,12,2880");
    const struct tp_map_target *t = case_target(&c, "p/layers_1/wi_1");
    assert_int_equal(t->piece_count, 12);
    assert_int_equal(t->pieces[3].dst_first, UINT64_C(3) * 2880 * 2880);
    assert_int_equal(t->pieces[3].src_first, 1);
    assert_int_equal(t->pieces[3].source, 7 * 6 + 4); /* layer 2 * 3 + 1 */
    assert_int_equal(t->pieces[3].axis_count, 2);     /* experts, and rows of pairs */
    assert_int_equal(t->pieces[3].axes[1].src_stride, 2);
    case_end(&c);
}

/* ---- limits ---- */

static void too_many_targets_are_a_limit(void **state)
{
    (void)state;
    static struct map_case c;
    struct tp_error err;
    case_start(&c, RULES({"from": "a", "to": "a/{l}/{e}", "axes": "l e d -> d"}));
    case_source(&c, "a", "F32 1048576 1048576 0");
    assert_int_equal(tp_map_apply(&c.result, &c.question, &err), TP_ERR_LIMIT);
    assert_string_equal(err.message, "a F32[1048576,1048576,0] is taken apart into too many tensors; all together may "
                                     "be 1048576");
    case_end(&c);
}

static void a_path_that_becomes_too_long_is_a_limit(void **state)
{
    (void)state;
    static struct map_case c;
    static char map[9000];
    struct tp_error err;
    snprintf(map, sizeof map, HEAD "\"rules\": [{\"from\": \"a\", \"to\": \"%04091d/ab/cd\"}]}", 1);
    case_start(&c, map);
    case_source(&c, "a", "F32 1");
    assert_int_equal(tp_map_apply(&c.result, &c.question, &err), TP_ERR_LIMIT);
    assert_non_null(strstr(err.message, "becomes longer than 4096 bytes"));
    case_end(&c);
}

/* clang-format on */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_of_random_rules_is_where_the_language_says),
        cmocka_unit_test(a_digit_first_splits_in_halves_and_last_takes_turns),
        cmocka_unit_test(rope_halves_become_pairs),
        cmocka_unit_test(pieces_take_rows_and_are_joined_within_each_group),
        cmocka_unit_test(a_padded_axis_counts_within_its_group),
        cmocka_unit_test(ones_come_and_go_and_scalars_stack),
        cmocka_unit_test(an_empty_target_has_one_piece_of_no_steps),
        cmocka_unit_test(loops_are_merged_where_both_sides_go_on),
        cmocka_unit_test(two_rules_may_fill_one_stack),
        cmocka_unit_test(a_tied_head_is_made_where_there_is_none),
        cmocka_unit_test(rules_take_part_where_the_config_says_so),
        cmocka_unit_test(tensors_that_shall_be_equal_are_listed),
        cmocka_unit_test(what_no_rule_matches_is_kept_or_dropped),
        cmocka_unit_test(separators_cut_keys_and_brackets_make_lists),
        cmocka_unit_test(leaves_are_sorted_key_by_key),
        cmocka_unit_test(order_of_rules_is_that_of_first_mention),
        cmocka_unit_test(constants_become_targets_without_pieces),
        cmocka_unit_test(constants_may_be_no_arrays_and_may_take_no_part),
        cmocka_unit_test(factors_are_rounded_where_the_map_says),
        cmocka_unit_test(floats_of_one_target_may_differ_where_a_dtype_is_chosen),
        cmocka_unit_test(packed_codes_are_moved_whole),
        cmocka_unit_test(maxtext_gpt_oss_20b_has_its_shapes),
        cmocka_unit_test(too_many_targets_are_a_limit),
        cmocka_unit_test(a_path_that_becomes_too_long_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
