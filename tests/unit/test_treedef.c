/* SPDX-License-Identifier: MIT */
/* Structures of trees: the bytes that JAX makes of them, and reading those of anyone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/base64.h"
#include "codec/treedef.h"
#include "tensorport/checkpoint.h"

/* ---- names of leaves, one a line ---- */

struct names {
    char text[8192];
    size_t len, count, most;
};

static enum tp_status see_leaf(void *user, const char *name, size_t len, struct tp_error *err)
{
    struct names *n = user;
    assert_int_equal(strlen(name), len);
    if (n->count++ == n->most)
        return tp_fail(err, TP_ERR_USAGE, "enough");
    if (len + 2 < sizeof n->text - n->len)
        n->len += (size_t)snprintf(n->text + n->len, sizeof n->text - n->len, "%s\n", name);
    return TP_OK;
}

static enum tp_status read_names(struct names *n, const uint8_t *bytes, size_t len, struct tp_error *err)
{
    const struct tp_treedef_visitor visitor = {n, see_leaf};
    *n = (struct names){.most = 1000};
    return tp_treedef_read(bytes, len, &visitor, err);
}

static size_t from_hex(uint8_t *bytes, const char *hex)
{
    size_t len = 0;
    for (; hex[0] && hex[1]; hex += 2) {
        char two[] = {hex[0], hex[1], '\0'};
        bytes[len++] = (uint8_t)strtoul(two, NULL, 16);
    }
    return len;
}

/* ---- what JAX writes ---- */

/* A tree as text: '.' a leaf, [ ] a list, { } a dict and < > an OrderedDict with key=value. */
struct parser {
    const char *at;
    struct tp_treedef_builder *out;
};

static uint32_t build(struct parser *p)
{
    static const struct {
        char open, close;
        enum tp_treedef_kind kind;
    } kinds[] = {{'[', ']', TP_TREEDEF_LIST}, {'{', '}', TP_TREEDEF_DICT}, {'<', '>', TP_TREEDEF_CUSTOM}};
    struct tp_treedef_child children[16];
    size_t count = 0, k = 0;
    if (*p->at == '.') {
        p->at++;
        return tp_treedef_add(p->out, TP_TREEDEF_LEAF, NULL, 0);
    }
    while (kinds[k].open != *p->at)
        k++;
    for (p->at++; *p->at != kinds[k].close; count++) {
        const char *key = p->at;
        if (k > 0)
            p->at += strcspn(p->at, "=") + 1;
        children[count] = (struct tp_treedef_child){.key = key, .key_len = k > 0 ? (uint32_t)(p->at - key - 1) : 0};
        children[count].node = build(p);
    }
    p->at++;
    return tp_treedef_add(p->out, kinds[k].kind, children, count);
}

static const struct {
    const char *tree, *hex, *leaves;
} vectors[] = {
    {".", "080000000400040004000000", "\n"},
    {"{}", "1000000000000a000c000b00000004000a000000080000000000000400000000", ""},
    {"{a=.}",
     "1000000000000a0010000f00080004000a0000000c00000018000000000000040100000004000000010000006100000001000000"
     "080000000400040004000000",
     "a\n"},
    {"[..]", "0c00000008000c000b000400080000000800000000000003020000001000000004000000fcffffff0400040004000000",
     "0\n1\n"},
    {"<weights.layers[0].attn.q=.a=.>",
     "1400000000000e00140013000c000000080004000e00000010000000340000004c00000000000005210000005b22776569676874"
     "732e6c61796572735b305d2e6174746e2e71222c202261225d00000017000000636f6c6c656374696f6e732e4f72646572656444"
     "69637400020000001000000004000000fcffffff0400040004000000",
     "weights.layers[0].attn.q\na\n"},
};

static void the_bytes_are_those_of_jax(void **state)
{
    (void)state;
    for (size_t i = 0; i < TP_COUNT_OF(vectors); i++) {
        struct tp_treedef_builder out = {.used = 0};
        struct parser p = {vectors[i].tree, &out};
        const uint8_t *bytes;
        uint8_t expected[256];
        size_t len, expected_len = from_hex(expected, vectors[i].hex);
        uint32_t root = build(&p);
        assert_int_equal(tp_treedef_finish(&out, root, &bytes, &len, NULL), TP_OK);
        if (len != expected_len || memcmp(bytes, expected, len) != 0)
            fail_msg("%s: other bytes than JAX's", vectors[i].tree);
        tp_treedef_release(&out);
    }
}

static void the_data_of_an_ordered_dict_are_pythons_json(void **state)
{
    (void)state;
    static const char expected[] = "[\"a\\\"b\\\\c\", \"\\u00e9\", \"\\ud83d\\ude00\", \"\\n\\u0001\\u007f\", \"/\"]";
    struct tp_treedef_builder out = {.used = 0};
    struct parser p = {"<a\"b\\c=.\xc3\xa9=.\xf0\x9f\x98\x80=.\n\x01\x7f=./=.>", &out};
    const uint8_t *bytes;
    size_t len;
    bool found = false;
    uint32_t root = build(&p);
    assert_int_equal(tp_treedef_finish(&out, root, &bytes, &len, NULL), TP_OK);
    for (size_t i = 0; i + sizeof expected - 1 <= len; i++)
        found = found || memcmp(bytes + i, expected, sizeof expected - 1) == 0;
    assert_true(found);
    tp_treedef_release(&out);
}

/* ---- reading ---- */

static void leaves_have_their_keys_for_names(void **state)
{
    (void)state;
    static const struct {
        const char *tree, *leaves;
    } rows[] = {
        {"{a={b=.c=[.{d=.}]}}", "a.b\na.c.0\na.c.1.d\n"},
        {"{b=.a=.a.=.B=.}", "B\na\na.\nb\n"}, /* recorded in any order, visited by bytes */
        {"<b=.a=.B=[[.].]>", "b\na\nB.0.0\nB.1\n"},
        {"{layers=[...........]}", "layers.0\nlayers.1\nlayers.2\nlayers.3\nlayers.4\nlayers.5\nlayers.6\nlayers.7\n"
                                   "layers.8\nlayers.9\nlayers.10\n"},
        {"{=.}", "\n"},
        {"[{}<>[]]", ""},
    };
    struct names n;
    for (size_t i = 0; i < TP_COUNT_OF(vectors) + TP_COUNT_OF(rows); i++) {
        const char *tree = i < TP_COUNT_OF(vectors) ? vectors[i].tree : rows[i - TP_COUNT_OF(vectors)].tree;
        const char *leaves = i < TP_COUNT_OF(vectors) ? vectors[i].leaves : rows[i - TP_COUNT_OF(vectors)].leaves;
        struct tp_treedef_builder out = {.used = 0};
        struct parser p = {tree, &out};
        const uint8_t *bytes;
        size_t len;
        uint32_t root = build(&p);
        assert_int_equal(tp_treedef_finish(&out, root, &bytes, &len, NULL), TP_OK);
        assert_int_equal(read_names(&n, bytes, len, NULL), TP_OK);
        assert_string_equal(n.text, leaves);
        tp_treedef_release(&out);
    }
}

static void expect_refused(const char *tree, const char *message)
{
    struct tp_treedef_builder out = {.used = 0};
    struct parser p = {tree, &out};
    struct tp_error err;
    struct names n;
    const uint8_t *bytes;
    size_t len;
    uint32_t root = build(&p);
    assert_int_equal(tp_treedef_finish(&out, root, &bytes, &len, NULL), TP_OK);
    assert_int_equal(read_names(&n, bytes, len, &err), TP_ERR_FORMAT);
    if (!strstr(err.message, message))
        fail_msg("%s: %s, expected %s", tree, err.message, message);
    tp_treedef_release(&out);
}

static void keys_that_cannot_be_are_refused(void **state)
{
    (void)state;
    expect_refused("{a=.a=.}", "a dict has a key twice");
    expect_refused("{\xff=.}", "no UTF-8");
}

/* The last vector has everything; and a longer tree. Whatever a byte becomes: an error, or a tree. */
static void any_byte_and_any_length_is_harmless(void **state)
{
    (void)state;
    struct tp_treedef_builder out = {.used = 0};
    struct parser p = {"{a=[..{x=<q=.r=[.]>}]b=.c={d=.}}", &out};
    const uint8_t *bytes;
    struct tp_error err;
    struct names n;
    size_t len;
    uint32_t root = build(&p);
    assert_int_equal(tp_treedef_finish(&out, root, &bytes, &len, NULL), TP_OK);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = malloc(cut + 1); /* so that a byte beyond is one too many */
        memcpy(copy, bytes, cut);
        (void)read_names(&n, copy, cut, &err);
        free(copy);
    }
    for (size_t i = 0; i < len; i++)
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *copy = malloc(len);
            memcpy(copy, bytes, len);
            copy[i] = (uint8_t)value;
            (void)read_names(&n, copy, len, &err);
            free(copy);
        }
    tp_treedef_release(&out);
}

/* ---- trees that grow without end ---- */

static void put32(uint8_t *bytes, size_t at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        bytes[at + i] = (uint8_t)(value >> (8 * i));
}

/* `count` lists, each of which has the next one as its child `fan` times. */
static size_t put_chain(uint8_t *bytes, size_t count, unsigned fan)
{
    static const uint8_t layout[] = {8, 0, 12, 0, 11, 0, 4, 0}; /* children at 4, kind at 11 */
    size_t list_bytes = 12 + 4 + 4 * (size_t)fan;
    put32(bytes, 0, 16);
    memcpy(bytes + 8, layout, sizeof layout);
    for (size_t i = 0; i < count; i++) {
        size_t at = 16 + i * list_bytes;
        put32(bytes, at, (uint32_t)(at - 8));
        put32(bytes, at + 4, 8); /* the vector follows */
        bytes[at + 11] = TP_TREEDEF_LIST;
        put32(bytes, at + 12, i + 1 < count ? fan : 0);
        for (unsigned k = 0; k < fan; k++)
            put32(bytes, at + 16 + 4 * (size_t)k, (uint32_t)(list_bytes - 16 - 4 * (size_t)k));
    }
    return 16 + count * list_bytes;
}

static void depth_and_shared_nodes_are_bounded(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        unsigned fan;
        enum tp_status status;
    } rows[] = {
        {TP_TREEDEF_DEPTH_MAX, 1, TP_OK},
        {TP_TREEDEF_DEPTH_MAX + 1, 1, TP_ERR_LIMIT},
        {100000, 1, TP_ERR_LIMIT},
        {8, 2, TP_ERR_LIMIT}, /* 255 nodes, of 56 that fit */
        {200, 2, TP_ERR_LIMIT} /* 2^200 nodes */,
        {60, 50, TP_ERR_LIMIT},
    };
    struct names n;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        uint8_t *bytes = calloc(rows[i].count, 16 + 4 * (size_t)rows[i].fan + 16);
        size_t len = put_chain(bytes, rows[i].count, rows[i].fan);
        assert_int_equal(read_names(&n, bytes, len, NULL), rows[i].status);
        assert_int_equal(n.count, 0);
        free(bytes);
    }
}

static void a_name_is_not_longer_than_a_tensors_may_be(void **state)
{
    (void)state;
    static char key[TP_NAME_MAX_BYTES + 1];
    struct names n;
    memset(key, 'k', sizeof key);
    for (uint32_t extra = 0; extra < 2; extra++) {
        struct tp_treedef_builder out = {.used = 0};
        struct tp_treedef_child child = {key, TP_NAME_MAX_BYTES + extra, 0};
        const uint8_t *bytes;
        size_t len;
        child.node = tp_treedef_add(&out, TP_TREEDEF_LEAF, NULL, 0);
        uint32_t root = tp_treedef_add(&out, TP_TREEDEF_DICT, &child, 1);
        assert_int_equal(tp_treedef_finish(&out, root, &bytes, &len, NULL), TP_OK);
        assert_int_equal(read_names(&n, bytes, len, NULL), extra ? TP_ERR_LIMIT : TP_OK);
        tp_treedef_release(&out);
    }
}

static void an_error_of_the_visitor_ends_the_walk(void **state)
{
    (void)state;
    uint8_t bytes[64];
    size_t len = from_hex(bytes, vectors[3].hex);
    struct names n = {.most = 1};
    const struct tp_treedef_visitor visitor = {&n, see_leaf};
    assert_int_equal(tp_treedef_read(bytes, len, &visitor, NULL), TP_ERR_USAGE);
    assert_int_equal(n.count, 2);
}

/* ---- base64 ---- */

static void base64_goes_there_and_back(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } rows[] = {{"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
                {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xff\xfe\xfd", "//79"}};
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        char text[16];
        uint8_t back[16];
        size_t len = strlen(rows[i].bytes), text_len = tp_base64_encode(text, (const uint8_t *)rows[i].bytes, len);
        text[text_len] = '\0';
        assert_string_equal(text, rows[i].text);
        assert_true(tp_base64_decode(back, &len, text, text_len));
        assert_int_equal(len, strlen(rows[i].bytes));
        assert_memory_equal(back, rows[i].bytes, len);
    }
}

static void what_is_no_base64_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zm8", "Zg===", "Zg==Zg==", "=", "Zm9-", "Zm9_", "Zm 9v", "Z=9v"};
    uint8_t back[16];
    size_t len;
    for (size_t i = 0; i < TP_COUNT_OF(bad); i++)
        if (tp_base64_decode(back, &len, bad[i], strlen(bad[i])))
            fail_msg("'%s' was taken for base64", bad[i]);
    assert_true(tp_base64_decode(back, &len, "Zm9\nvYg\r\n==\n", 12)); /* as Python takes it */
    assert_int_equal(len, 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_jax),
        cmocka_unit_test(the_data_of_an_ordered_dict_are_pythons_json),
        cmocka_unit_test(leaves_have_their_keys_for_names),
        cmocka_unit_test(keys_that_cannot_be_are_refused),
        cmocka_unit_test(any_byte_and_any_length_is_harmless),
        cmocka_unit_test(depth_and_shared_nodes_are_bounded),
        cmocka_unit_test(a_name_is_not_longer_than_a_tensors_may_be),
        cmocka_unit_test(an_error_of_the_visitor_ends_the_walk),
        cmocka_unit_test(base64_goes_there_and_back),
        cmocka_unit_test(what_is_no_base64_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
