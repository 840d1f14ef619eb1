/* SPDX-License-Identifier: MIT */
/* What a map makes of a checkpoint, as it is shown: targets, slots, ways, findings. */
#include "fixture.h"
#include "tensorport/tensorport.h"

/* Tensors of F32 zeros, or pairs of MXFP4, one behind the other. */
struct model {
    struct scratch scratch;
    struct tp_checkpoint *ck;
    struct tp_map *map;
    struct tp_mapping *mapping;
    char header[4096];
    size_t used;
    unsigned bytes;
};

static void begin(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->used = (size_t)snprintf(m->header, sizeof m->header, "{");
}

static void add(struct model *m, const char *name, const char *dtype, const char *shape, unsigned bytes)
{
    m->used += (size_t)snprintf(m->header + m->used, sizeof m->header - m->used,
                                "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%u,%u]}",
                                m->used > 1 ? "," : "", name, dtype, shape, m->bytes, m->bytes + bytes);
    m->bytes += bytes;
}

static enum tp_status make(struct model *m, const char *map, struct tp_mapping_options options, struct tp_error *err)
{
    static const uint8_t zeros[8192];
    struct tp_error why;
    assert_true(m->bytes <= sizeof zeros && m->used + 2 < sizeof m->header);
    memcpy(m->header + m->used, "}", 2);
    scratch_make(&m->scratch);
    write_safetensors(m->scratch.path, "model.safetensors", m->header, zeros, m->bytes);
    write_text(m->scratch.path, "config.json", "{\"head_dim\": 3, \"torch_dtype\": \"bfloat16\"}");
    write_text(m->scratch.path, "map.json", map);
    assert_int_equal(tp_checkpoint_open(&m->ck, m->scratch.path, NULL, &why), TP_OK);
    if (tp_map_open(&m->map, scratch_at(&m->scratch, "map.json"), &why) != TP_OK)
        fail_msg("%s", why.message);
    return tp_mapping_make(&m->mapping, m->map, m->ck, &options, err);
}

static void end(struct model *m)
{
    tp_mapping_free(m->mapping);
    tp_map_free(m->map);
    tp_checkpoint_close(m->ck);
    scratch_remove(&m->scratch);
}

static void check_target(struct model *m, uint32_t index, const char *path, uint32_t rule, uint64_t bytes)
{
    struct tp_mapping_target t;
    tp_mapping_target_at(m->mapping, index, &t);
    assert_string_equal(t.path, path);
    assert_int_equal(t.rule, rule);
    assert_int_equal(t.size_bytes, bytes);
}

static void check_source(struct model *m, uint32_t target, uint32_t index, const char *name, const char *slot)
{
    struct tp_mapping_source s;
    tp_mapping_source_at(m->mapping, target, index, &s);
    assert_string_equal(s.name, name);
    assert_string_equal(s.slot, slot);
}

static void check_loop(const struct tp_mapping_way *way, uint32_t index, const char *axis, uint64_t count,
                       uint64_t source_step, uint64_t target_step)
{
    assert_true(index < way->loop_count);
    assert_string_equal(way->loops[index].axis, axis);
    assert_int_equal(way->loops[index].count, count);
    assert_int_equal(way->loops[index].source_step, source_step);
    assert_int_equal(way->loops[index].target_step, target_step);
}

static void layers(struct model *m)
{
    static const char *const names[] = {"q", "k"};
    for (unsigned l = 0; l < 2; l++) {
        char name[64];
        for (unsigned i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "h.%u.%s.weight", l, names[i]);
            add(m, name, "F32", "[6,5]", 120);
        }
        snprintf(name, sizeof name, "h.%u.freq", l);
        add(m, name, "F32", "[1]", 4);
    }
    add(m, "embed", "F32", "[7,5]", 140);
    add(m, "odd", "BF16", "[2]", 4);
}

static const char stacking[] =
    "{\"tensorport_map\": 1, \"dims\": {\"h\": \"head_dim\"}, \"unmatched\": \"keep\", \"rules\": [\n"
    "{\"from\": \"embed\", \"to\": \"a/embed\", \"mul\": 2, \"add\": 1},\n"
    "{\"from\": [\"h.{l}.q.weight\", \"h.{l}.k.weight\"], \"to\": \"a/qk\", \"stack\": \"s\","
    " \"axes\": \"(n h) d -> d l s n h\"},\n"
    "{\"from\": \"h.{l}.freq\", \"drop\": true}],\n"
    "\"const\": [{\"to\": \"step\", \"value\": 3, \"dtype\": \"int32\"}]}";

static void targets_have_their_rules_and_sources_their_places(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    begin(&m);
    layers(&m);
    assert_int_equal(make(&m, stacking, (struct tp_mapping_options){.reverse = false}, &err), TP_OK);
    assert_int_equal(tp_mapping_target_count(m.mapping), 4);
    check_target(&m, 0, "a/embed", 0, 140);
    check_target(&m, 1, "a/qk", 1, 480);
    check_target(&m, 2, "odd", UINT32_MAX, 4);
    check_target(&m, 3, "step", UINT32_MAX, 4);
    struct tp_mapping_target t;
    tp_mapping_target_at(m.mapping, 1, &t);
    assert_int_equal(t.source_count, 4);
    assert_int_equal(t.rank, 5);
    assert_int_equal(t.dtype, TP_F32);
    check_source(&m, 1, 0, "h.0.q.weight", "l = 0, s = 0");
    check_source(&m, 1, 1, "h.0.k.weight", "l = 0, s = 1");
    check_source(&m, 1, 3, "h.1.k.weight", "l = 1, s = 1");
    check_source(&m, 2, 0, "odd", "");
    tp_mapping_target_at(m.mapping, 3, &t);
    assert_int_equal(t.source_count, 0);
    assert_int_equal(tp_mapping_dropped_count(m.mapping), 2);
    assert_string_equal(tp_mapping_dropped(m.mapping, 1), "h.1.freq");
    end(&m);
}

static void a_way_has_the_names_of_the_rules_axes(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_way way;
    begin(&m);
    layers(&m);
    assert_int_equal(make(&m, stacking, (struct tp_mapping_options){.reverse = false}, &err), TP_OK);
    tp_mapping_way_at(m.mapping, 1, 3, &way);
    assert_string_equal(way.captures, "l = 1");
    assert_int_equal(way.target_first, 18); /* l, s, n, h: (1 * 2 + 1) * 6 */
    assert_int_equal(way.loop_count, 3);
    check_loop(&way, 0, "d", 5, 1, 24);
    check_loop(&way, 1, "n", 2, 15, 3);
    check_loop(&way, 2, "h", 3, 5, 1);
    assert_false(way.multiplies || way.adds);
    tp_mapping_way_at(m.mapping, 0, 0, &way); /* moved whole: nothing has a name */
    assert_int_equal(way.loop_count, 1);
    check_loop(&way, 0, "", 35, 1, 1);
    assert_true(way.multiplies && way.adds);
    assert_true(way.factor == 2 && way.addend == 1);
    end(&m);
}

static void splits_pads_and_pieces_are_told_as_they_are_done(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_way way;
    begin(&m);
    add(&m, "gate_up", "F32", "[4,10]", 160);
    add(&m, "qkv", "F32", "[7,2]", 56);
    add(&m, "vocab", "F32", "[3,2]", 24);
    assert_int_equal(
        make(&m,
             "{\"tensorport_map\": 1, \"rules\": ["
             "{\"from\": \"gate_up\", \"to\": [\"gate\", \"up\"], \"axes\": \"d (f 2) -> f d\", \"split\": \"2\"},"
             "{\"pieces\": [{\"from\": \"qkv\", \"take\": \"2:7\", \"axes\": \"x d\"}],"
             " \"to\": \"kv\", \"axes\": \"d x\"},"
             "{\"from\": \"vocab\", \"to\": \"vocab\", \"axes\": \"v d -> d v\", \"pad\": {\"v\": 5}}]}",
             (struct tp_mapping_options){.reverse = false}, &err),
        TP_OK);
    check_target(&m, 0, "gate", 0, 80);
    check_target(&m, 1, "kv", 1, 40);
    check_target(&m, 2, "up", 0, 80);
    check_target(&m, 3, "vocab", 2, 40);
    tp_mapping_way_at(m.mapping, 2, 0, &way);
    assert_int_equal(way.source_first, 1);
    check_loop(&way, 0, "f", 5, 2, 4);
    check_loop(&way, 1, "d", 4, 10, 1);
    tp_mapping_way_at(m.mapping, 3, 0, &way);
    check_loop(&way, 0, "d", 2, 1, 5);
    check_loop(&way, 1, "v", 3, 2, 1);
    tp_mapping_way_at(m.mapping, 1, 0, &way);
    assert_int_equal(way.source_first, 4);
    assert_int_equal(way.loop_count, 2); /* rows of a piece: their size is not the tensor's */
    assert_int_equal(way.loops[0].count * way.loops[1].count, 10);
    end(&m);
}

static void the_way_back_names_the_rules_of_the_map(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_way way;
    begin(&m);
    add(&m, "b.norm", "F32", "[2,4]", 32);
    assert_int_equal(make(&m,
                          "{\"tensorport_map\": 1, \"rules\": [\n{\"from\": \"x\", \"drop\": true},\n"
                          "{\"from\": \"h.{l}.norm\", \"to\": \"b/norm\", \"axes\": \"d -> l d\"}]}",
                          (struct tp_mapping_options){.reverse = true}, &err),
                     TP_OK);
    assert_int_equal(tp_mapping_target_count(m.mapping), 2);
    check_target(&m, 0, "h.0.norm", 1, 16);
    check_target(&m, 1, "h.1.norm", 1, 16);
    check_source(&m, 1, 0, "b.norm", "");
    tp_mapping_way_at(m.mapping, 1, 0, &way);
    assert_int_equal(way.source_first, 4);
    check_loop(&way, 0, "d", 4, 1, 1);
    end(&m);
}

static void errors_come_first_and_then_there_are_no_targets(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_finding f;
    begin(&m);
    add(&m, "a", "F32", "[2]", 8);
    add(&m, "b", "F32", "[2]", 8);
    assert_int_equal(
        make(&m,
             "{\"tensorport_map\": 1, \"rules\": [{\"from\": \"a\", \"to\": \"a\", \"axes\": \"x y -> y x\"},"
             "{\"from\": \"nothing\", \"to\": \"c\"}]}",
             (struct tp_mapping_options){.reverse = false}, &err),
        TP_OK);
    assert_int_equal(tp_mapping_finding_count(m.mapping), 3);
    static const char *const codes[] = {"E01", "E05", "W01"};
    for (uint32_t i = 0; i < 3; i++) {
        tp_mapping_finding_at(m.mapping, i, &f);
        assert_string_equal(f.code, codes[i]);
        assert_int_equal(f.is_error, codes[i][0] == 'E');
        assert_true(strlen(f.text) > 0);
    }
    assert_int_equal(tp_mapping_target_count(m.mapping), 0);
    end(&m);
}

static void what_the_target_wants_is_compared(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_finding f;
    struct scratch s;
    scratch_make(&s);
    write_text(s.path, "tree.json", "{\"a\": {\"shape\": [3]}}");
    char path[SCRATCH_PATH + 16];
    snprintf(path, sizeof path, "%s/tree.json", s.path);
    begin(&m);
    add(&m, "a", "F32", "[2]", 8);
    const char *map = "{\"tensorport_map\": 1, \"rules\": [{\"from\": \"a\", \"to\": \"a\"}]}";
    assert_int_equal(make(&m, map, (struct tp_mapping_options){.against = path}, &err), TP_OK);
    assert_int_equal(tp_mapping_finding_count(m.mapping), 1);
    tp_mapping_finding_at(m.mapping, 0, &f);
    assert_string_equal(f.code, "E14");
    end(&m);
    begin(&m);
    add(&m, "a", "F32", "[2]", 8);
    assert_int_equal(make(&m, map, (struct tp_mapping_options){.against = "/nowhere.json"}, &err), TP_ERR_FORMAT);
    assert_string_equal(err.path, "/nowhere.json");
    assert_null(m.mapping);
    end(&m);
    scratch_remove(&s);
}

static const char experts[] =
    "{\"tensorport_map\": 1, \"rules\": [{\"from\": \"e.{p:up|down}_proj\", \"to\": \"{p:up|down}\","
    " \"axes\": \"e i o -> e o i\"}]}";

static void encoded_weights_are_seen_decoded(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_target t;
    struct tp_mapping_way way;
    begin(&m);
    add(&m, "e.up_proj_blocks", "U8", "[2,4,1,16]", 128);
    add(&m, "e.up_proj_scales", "U8", "[2,4,1]", 8);
    assert_int_equal(make(&m, experts, (struct tp_mapping_options){.reverse = false}, &err), TP_OK);
    assert_int_equal(tp_mapping_target_count(m.mapping), 1);
    tp_mapping_target_at(m.mapping, 0, &t);
    assert_string_equal(t.path, "up");
    assert_int_equal(t.dtype, TP_BF16); /* config.json's */
    assert_int_equal(t.shape[1] * 100 + t.shape[2], 432);
    assert_int_equal(t.size_bytes, 512);
    check_source(&m, 0, 0, "e.up_proj", "");
    tp_mapping_way_at(m.mapping, 0, 0, &way);
    assert_string_equal(way.captures, "p = up");
    end(&m);
}

static void codes_without_their_scales_are_a_finding(void **state)
{
    (void)state;
    struct model m;
    struct tp_error err;
    struct tp_mapping_finding f;
    begin(&m);
    add(&m, "e.up_proj_blocks", "U8", "[2,4,1,16]", 128);
    add(&m, "e.up_proj_scales", "U8", "[2,4,1]", 8);
    add(&m, "e.down_proj_blocks", "U8", "[2,4,1,16]", 128);
    assert_int_equal(make(&m, experts, (struct tp_mapping_options){.reverse = false}, &err), TP_OK);
    assert_int_equal(tp_mapping_finding_count(m.mapping), 1);
    tp_mapping_finding_at(m.mapping, 0, &f);
    assert_string_equal(f.code, "E12");
    assert_true(f.is_error);
    assert_non_null(strstr(f.text, "e.down_proj_blocks: looks like a part of a quantised weight"));
    assert_int_equal(tp_mapping_target_count(m.mapping), 0);
    assert_int_equal(tp_mapping_dropped_count(m.mapping), 0);
    end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_have_their_rules_and_sources_their_places),
        cmocka_unit_test(a_way_has_the_names_of_the_rules_axes),
        cmocka_unit_test(splits_pads_and_pieces_are_told_as_they_are_done),
        cmocka_unit_test(the_way_back_names_the_rules_of_the_map),
        cmocka_unit_test(errors_come_first_and_then_there_are_no_targets),
        cmocka_unit_test(what_the_target_wants_is_compared),
        cmocka_unit_test(encoded_weights_are_seen_decoded),
        cmocka_unit_test(codes_without_their_scales_are_a_finding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
