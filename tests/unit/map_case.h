/* SPDX-License-Identifier: MIT */
/* Maps as text, sources as a table, and what comes of them, for tests of applying. */
#ifndef TP_TESTS_UNIT_MAP_CASE_H
#define TP_TESTS_UNIT_MAP_CASE_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
/* clang-format on */
#include "map/map.h"

#define MAP_CASE_SOURCES 512u
#define MAP_CASE_RANK 8u

struct map_case {
    struct tp_map *map, *inverse;
    struct tp_config_numbers *config;
    struct tp_map_source sources[MAP_CASE_SOURCES];
    uint64_t shapes[MAP_CASE_SOURCES][MAP_CASE_RANK];
    char names[MAP_CASE_SOURCES][96];
    struct tp_map_question question;
    struct tp_map_result result;
    struct tp_error err;
};

static inline void case_start(struct map_case *c, const char *map)
{
    memset(c, 0, sizeof *c);
    c->question.precision = TP_DTYPE_NONE;
    c->question.sources = c->sources;
    if (tp_map_parse(&c->map, map, strlen(map), NULL, &c->err))
        fail_msg("%s: %s", c->err.message, map);
    c->question.map = c->map;
}

static inline void case_config(struct map_case *c, const char *text)
{
    if (tp_config_numbers_read(&c->config, text, strlen(text), &c->err))
        fail_msg("%s", c->err.message);
    c->question.config = c->config;
}

/* "F32 2 3": a dtype and a shape. */
static inline void case_source(struct map_case *c, const char *name, const char *what)
{
    size_t at = c->question.source_count++;
    assert_true(at < MAP_CASE_SOURCES);
    struct tp_map_source *s = &c->sources[at];
    size_t dtype_len = strcspn(what, " ");
    size_t name_len = strlen(name);
    assert_true(name_len < sizeof c->names[at]);
    memcpy(c->names[at], name, name_len + 1);
    *s = (struct tp_map_source){.name = c->names[at], .file = "model.safetensors", .shape = c->shapes[at]};
    s->name_len = (uint16_t)name_len;
    s->dtype = (uint8_t)tp_dtype_from_name(what, dtype_len);
    assert_int_not_equal(s->dtype, TP_DTYPE_NONE);
    for (const char *p = what + dtype_len; *p == ' ';) {
        char *end;
        assert_true(s->rank < MAP_CASE_RANK);
        c->shapes[at][s->rank++] = strtoull(p + 1, &end, 10);
        p = end;
    }
}

static inline void case_apply(struct map_case *c)
{
    if (tp_map_apply(&c->result, &c->question, &c->err))
        fail_msg("%s", c->err.message);
}

/* No error is expected. */
static inline void case_fits(struct map_case *c)
{
    case_apply(c);
    if (c->result.error_count > 0)
        fail_msg("%s %s", c->result.errors[0].code, c->result.errors[0].text);
}

static inline void case_end(struct map_case *c)
{
    tp_map_result_release(&c->result);
    tp_config_numbers_free(c->config);
    tp_map_release(c->inverse);
    tp_map_release(c->map);
}

/* The keys joined by '/'. */
static inline const char *case_path(const struct tp_map_target *t, char *dst)
{
    for (size_t i = 0; i <= t->path_len; i++)
        dst[i] = t->path[i] == '\0' && i < t->path_len ? '/' : t->path[i];
    return dst;
}

static inline const struct tp_map_target *case_target(const struct map_case *c, const char *path)
{
    char joined[4097];
    for (size_t i = 0; i < c->result.target_count; i++)
        if (strcmp(case_path(&c->result.targets[i], joined), path) == 0)
            return &c->result.targets[i];
    fail_msg("there is no target %s", path);
    return NULL;
}

/* "2,3" */
static inline void case_has_shape(const struct map_case *c, const char *path, const char *shape)
{
    const struct tp_map_target *t = case_target(c, path);
    char text[256] = "";
    for (unsigned i = 0; i < t->rank; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%llu", i ? "," : "",
                 (unsigned long long)t->shape[i]);
    if (strcmp(text, shape) != 0)
        fail_msg("%s is [%s], expected [%s]", path, text, shape);
}

static inline void must_be_finding(const struct tp_map_finding *f, const char *code, const char *text)
{
    if (strcmp(f->code, code) != 0 || strcmp(f->text, text) != 0)
        fail_msg("found\n%s %s\nexpected\n%s %s", f->code, f->text, code, text);
}

/* The only error, word for word. */
static inline void case_has_error(struct map_case *c, const char *code, const char *text)
{
    case_apply(c);
    for (size_t i = 1; i < c->result.error_count; i++)
        print_message("also %s %s\n", c->result.errors[i].code, c->result.errors[i].text);
    assert_int_not_equal(c->result.error_count, 0);
    must_be_finding(&c->result.errors[0], code, text);
    assert_int_equal(c->result.error_count, 1);
}

static inline void case_has_warning(struct map_case *c, const char *code, const char *text)
{
    case_fits(c);
    for (size_t i = 1; i < c->result.warning_count; i++)
        print_message("also %s %s\n", c->result.warnings[i].code, c->result.warnings[i].text);
    assert_int_not_equal(c->result.warning_count, 0);
    must_be_finding(&c->result.warnings[0], code, text);
    assert_int_equal(c->result.warning_count, 1);
}

/* ---- which element of which source stands where ---- */

#define MAP_CASE_HOLE UINT64_MAX

struct origin {
    uint64_t source, elem;
};

static inline uint64_t elem_count_of(const struct tp_map_target *t)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < t->rank; i++)
        count *= t->shape[i];
    return count;
}

/* Carries a target's pieces out, element by element. Each place may be written once. */
static inline struct origin *case_origins(const struct tp_map_target *t)
{
    uint64_t count = elem_count_of(t);
    struct origin *all = malloc((count + 1) * sizeof *all);
    for (uint64_t i = 0; i < count; i++)
        all[i] = (struct origin){MAP_CASE_HOLE, 0};
    for (uint32_t n = 0; n < t->piece_count; n++) {
        const struct tp_map_piece *p = &t->pieces[n];
        uint64_t steps = 1;
        for (uint32_t a = 0; a < p->axis_count; a++)
            steps *= p->axes[a].count;
        if (n > 0)
            assert_true(p->dst_first > t->pieces[n - 1].dst_first);
        for (uint64_t i = 0; i < steps; i++) {
            uint64_t src = p->src_first, dst = p->dst_first, rest = i;
            for (uint32_t a = p->axis_count; a-- > 0; rest /= p->axes[a].count) {
                src += rest % p->axes[a].count * p->axes[a].src_stride;
                dst += rest % p->axes[a].count * p->axes[a].dst_stride;
            }
            assert_true(dst < count);
            assert_true(all[dst].source == MAP_CASE_HOLE);
            all[dst] = (struct origin){p->source, src};
        }
    }
    return all;
}

#endif
