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
#include <string.h>

#include "map/parse.h"

/* ---- patterns of axes ---- */

/* "(n h) d", anonymous axes as "2=2" */
static void print_side(char *text, size_t cap, const struct tp_axes_side *side)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t g = 0; g < side->group_count; g++) {
        const struct tp_axis_group *group = &side->groups[g];
        used += (size_t)snprintf(text + used, cap - used, "%s%s", g ? " " : "", group->count > 1 ? "(" : "");
        for (uint32_t i = 0; i < group->count; i++) {
            const struct tp_named_axis *axis = &side->axes[group->first + i];
            used += (size_t)snprintf(text + used, cap - used, "%s%s", i ? " " : "", axis->name);
            if (axis->size)
                used += (size_t)snprintf(text + used, cap - used, "=%" PRIu64, axis->size);
            assert_int_equal(axis->capture, TP_MAP_NONE);
        }
        used += (size_t)snprintf(text + used, cap - used, "%s", group->count > 1 ? ")" : "");
    }
}

static enum tp_status parse(struct tp_arena *arena, const char *text, bool only_right, struct tp_axes_side *left,
                            struct tp_axes_side *right, struct tp_error *err)
{
    return tp_axes_parse(left, right, only_right, arena, text, strlen(text), err);
}

static void sides_are_groups_of_axes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *left, *right;
    } rows[] = {
        {"o i -> i o", "o i", "i o"},
        {"(n 2 h2) d -> d l n (h2 2)", "(n 2=2 h2) d", "d l n (h2 2=2)"},
        {"d->d l", "d", "d l"},
        {" ( a b )(c d) -> a1 1 (c)", "(a b) (c d)", "a1 1=1 c"},
        {"-> l", "", "l"},
        {"1 ->", "1=1", ""},
        {"->", "", ""},
        {"9223372036854775807 -> _", "9223372036854775807=9223372036854775807", "_"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_arena arena = {0};
        struct tp_axes_side left, right;
        struct tp_error err = {.code = TP_OK};
        char text[256];
        if (parse(&arena, rows[i].text, false, &left, &right, &err))
            fail_msg("%s", err.message);
        print_side(text, sizeof text, &left);
        assert_string_equal(text, rows[i].left);
        print_side(text, sizeof text, &right);
        assert_string_equal(text, rows[i].right);
        tp_arena_release(&arena);
    }
}

static void one_side_stands_alone(void **state)
{
    (void)state;
    struct tp_arena arena = {0};
    struct tp_axes_side right;
    struct tp_error err;
    char text[64];
    assert_int_equal(parse(&arena, "d (g x)", true, NULL, &right, &err), TP_OK);
    print_side(text, sizeof text, &right);
    assert_string_equal(text, "d (g x)");
    assert_int_equal(parse(&arena, "d -> g", true, NULL, &right, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "the axes 'd -> g': one side alone is expected here, without '->' (character 3)");
    tp_arena_release(&arena);
}

static void what_are_no_axes_is_refused_with_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "the axes '': expected two sides with '->' between them (character 1)"},
        {"a b", "the axes 'a b': expected two sides with '->' between them (character 1)"},
        {"a -> b -> c", "the axes 'a -> b -> c': expected names or sizes of axes, '(', ')' and one '->' (character 8)"},
        {"a - b -> c", "the axes 'a - b -> c': expected names or sizes of axes, '(', ')' and one '->' (character 3)"},
        {"a -> a, b", "the axes 'a -> a, b': expected a blank between axes (character 7)"},
        {"a a -> a", "the axes 'a a -> a': an axis stands twice on one side (character 3)"},
        {"2 (a 2) -> a", "the axes '2 (a 2) -> a': an axis stands twice on one side (character 6)"},
        {"(a -> a", "the axes '(a -> a': '(' without ')' (character 4)"},
        {"a) -> a", "the axes 'a) -> a': ')' without '(' (character 2)"},
        {"((a)) -> a", "the axes '((a)) -> a': a group within a group (character 2)"},
        {"() -> a", "the axes '() -> a': a group without axes; an axis of one element is written 1 (character 2)"},
        {"0 -> a", "the axes '0 -> a': a size is at least 1 and has no leading zeros (character 1)"},
        {"02 -> a", "the axes '02 -> a': a size is at least 1 and has no leading zeros (character 1)"},
        {"2h -> a", "the axes '2h -> a': expected a blank between axes (character 2)"},
        {"9223372036854775808 -> a", "the axes '9223372036854775808 -> a': a size out of range (character 1)"},
        {"99999999999999999999 -> a", "the axes '99999999999999999999 -> a': a size out of range (character 1)"},
        {"a\xc3\xa9 -> a", "the axes 'a\xc3\xa9 -> a': expected a blank between axes (character 2)"},
        {"a\t-> a", "the axes 'a\\x09-> a': expected a blank between axes (character 2)"},
        {"...-> a", "the axes '...-> a': expected names or sizes of axes, '(', ')' and one '->' (character 1)"},
    };
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        struct tp_arena arena = {0};
        struct tp_axes_side left, right;
        struct tp_error err = {.code = TP_OK};
        assert_int_equal(parse(&arena, rows[i].text, false, &left, &right, &err), TP_ERR_FORMAT);
        assert_string_equal(err.message, rows[i].message);
        tp_arena_release(&arena);
    }
}

static void a_side_has_32_axes_at_most(void **state)
{
    (void)state;
    struct tp_arena arena = {0};
    struct tp_axes_side left, right;
    struct tp_error err;
    char text[512] = "";
    for (unsigned i = 0; i < 32; i++)
        snprintf(text + strlen(text), 8, "a%u ", i);
    size_t full = strlen(text);
    snprintf(text + full, 8, "-> a");
    assert_int_equal(parse(&arena, text, false, &left, &right, &err), TP_OK);
    assert_int_equal(left.group_count, 32);
    snprintf(text + full, 8, "b -> a");
    assert_int_equal(parse(&arena, text, false, &left, &right, &err), TP_ERR_LIMIT);
    snprintf(text + full, 16, "(b) -> a");
    assert_int_equal(parse(&arena, text, false, &left, &right, &err), TP_ERR_LIMIT);
    snprintf(text, sizeof text, "(");
    for (unsigned i = 0; i < 33; i++)
        snprintf(text + strlen(text), 8, "a%u ", i);
    snprintf(text + strlen(text), 8, ") -> a");
    assert_int_equal(parse(&arena, text, false, &left, &right, &err), TP_ERR_LIMIT);
    tp_arena_release(&arena);
}

/* ---- strides ---- */

#define PLACES 4096

/* For every place of the target, which element of the source comes there; UINT64_MAX: none. */
static void places_of(uint64_t *places, const struct tp_axis *axes, uint32_t count)
{
    uint64_t total = 1;
    for (uint32_t i = 0; i < PLACES; i++)
        places[i] = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++)
        total *= axes[i].count;
    for (uint64_t n = 0; n < total; n++) {
        uint64_t rest = n, src = 0, dst = 0;
        for (uint32_t i = count; i-- > 0; rest /= axes[i].count) {
            src += rest % axes[i].count * axes[i].src_stride;
            dst += rest % axes[i].count * axes[i].dst_stride;
        }
        assert_true(dst < PLACES && places[dst] == UINT64_MAX);
        places[dst] = src;
    }
}

static uint64_t seed = 7;
static unsigned dice(unsigned sides)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(seed >> 33) % sides;
}

/* Loops of a target whose axes come from the source in any order, both row-major, the source with gaps now and then. */
static uint32_t random_axes(struct tp_axis *axes)
{
    uint32_t count = dice(6), order[6];
    uint64_t stride = 1;
    for (uint32_t i = 0; i < count; i++) {
        axes[i].count = 1 + dice(4);
        order[i] = i;
    }
    for (uint32_t i = count; i-- > 0; stride *= axes[i].count)
        axes[i].dst_stride = stride;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t k = dice(3) ? i - 1 : dice(i), other = order[k];
        order[k] = order[i - 1];
        order[i - 1] = other;
    }
    stride = 1 + dice(2);
    for (uint32_t i = count; i-- > 0; stride *= axes[order[i]].count)
        axes[order[i]].src_stride = stride;
    for (uint32_t i = count; i > 1; i--) { /* they may be given in any order */
        uint32_t k = dice(i);
        struct tp_axis other = axes[k];
        axes[k] = axes[i - 1];
        axes[i - 1] = other;
    }
    return count;
}

static void normal_loops_copy_the_same(void **state)
{
    (void)state;
    static uint64_t before[PLACES], after[PLACES];
    unsigned merged = 0;
    for (unsigned round = 0; round < 3000; round++) {
        struct tp_axis axes[6];
        uint32_t count = random_axes(axes);
        places_of(before, axes, count);
        uint32_t left = tp_axes_normalise(axes, count);
        places_of(after, axes, left);
        assert_memory_equal(before, after, sizeof before);
        assert_true(left <= count);
        merged += count - left;
        for (uint32_t i = 0; i < left; i++) {
            assert_true(axes[i].count > 1);
            if (i > 0) {
                assert_true(axes[i - 1].dst_stride > axes[i].dst_stride);
                assert_false(axes[i - 1].dst_stride == axes[i].count * axes[i].dst_stride &&
                             axes[i - 1].src_stride == axes[i].count * axes[i].src_stride);
            }
        }
        assert_int_equal(tp_axes_normalise(axes, left), left);
    }
    assert_true(merged > 1000);
}

static void a_plain_copy_is_one_loop(void **state)
{
    (void)state;
    struct tp_axis axes[] = {{4, 6, 6}, {1, 99, 99}, {2, 3, 3}, {3, 1, 1}};
    assert_int_equal(tp_axes_normalise(axes, 4), 1);
    assert_int_equal(axes[0].count, 24);
    assert_int_equal(axes[0].src_stride, 1);
    assert_int_equal(axes[0].dst_stride, 1);
    struct tp_axis ones[] = {{1, 5, 5}, {1, 7, 7}};
    assert_int_equal(tp_axes_normalise(ones, 2), 0);
    assert_int_equal(tp_axes_normalise(NULL, 0), 0);
}

static void products_beyond_64_bits_are_not_merged(void **state)
{
    (void)state;
    const uint64_t half = UINT64_C(1) << 63;
    struct tp_axis wraps[] = {{4, 0, 0}, {2, half, half}}; /* 2 x 2^63 is 0 in 64 bits */
    assert_int_equal(tp_axes_normalise(wraps, 2), 2);
    struct tp_axis counts[] = {{half, 2, 2}, {2, 1, 1}};
    assert_int_equal(tp_axes_normalise(counts, 2), 2);
    assert_int_equal(counts[0].count, half);
}

static void empty_loops_stay(void **state)
{
    (void)state;
    struct tp_axis axes[] = {{3, 0, 0}, {0, 1, 1}, {1, 0, 0}};
    uint32_t left = tp_axes_normalise(axes, 3);
    uint64_t total = 1;
    for (uint32_t i = 0; i < left; i++)
        total *= axes[i].count;
    assert_true(left > 0);
    assert_int_equal(total, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sides_are_groups_of_axes),
        cmocka_unit_test(one_side_stands_alone),
        cmocka_unit_test(what_are_no_axes_is_refused_with_the_place),
        cmocka_unit_test(a_side_has_32_axes_at_most),
        cmocka_unit_test(normal_loops_copy_the_same),
        cmocka_unit_test(a_plain_copy_is_one_loop),
        cmocka_unit_test(products_beyond_64_bits_are_not_merged),
        cmocka_unit_test(empty_loops_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
