/* SPDX-License-Identifier: MIT */
/* E14: what the target's own program says it wants, against what the map makes. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"
#include "tensorport/checkpoint.h"

struct wanted {
    const struct tp_map_expected *expected;
    bool is_made;
};

static int by_path(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return strcmp(x->expected->path, y->expected->path);
}

static size_t finding(struct tp_map_work *w, uint64_t topic, const char *head)
{
    return tp_findings_at(&w->findings, "E14", TP_MAP_NONE, topic, NULL, "%s", head);
}

/* As it will be written: what the rule says, else the precision of all floats, else the source's own. */
static uint8_t written_dtype(const struct tp_map_work *w, const struct tp_map_target *t)
{
    if (t->dtype != TP_DTYPE_NONE || t->piece_count == 0)
        return t->dtype;
    uint8_t dtype = w->question->sources[t->pieces[0].source].dtype;
    bool is_cast = w->question->precision != TP_DTYPE_NONE && dtype < TP_DTYPE_COUNT &&
                   tp_dtype_class((enum tp_dtype)dtype) == TP_CLASS_FLOAT;
    return is_cast ? w->question->precision : dtype;
}

static void compare(struct tp_map_work *w, const struct tp_map_target *t, const struct tp_map_expected *expected)
{
    char path[TP_SHOWN_TEXT], made[TP_SHOWN_TEXT], want[TP_SHOWN_TEXT];
    uint8_t dtype = written_dtype(w, t);
    uint8_t wanted_dtype = expected->dtype == TP_DTYPE_NONE ? dtype : expected->dtype;
    bool same_shape = t->rank == expected->rank &&
                      (t->rank == 0 || memcmp(t->shape, expected->shape, t->rank * sizeof *t->shape) == 0);
    if (same_shape && dtype == wanted_dtype)
        return;
    size_t at = same_shape ? finding(w, 3, "targets of another dtype") : finding(w, 2, "targets of another shape");
    tp_findings_add(&w->findings, at, "%s is %s, expected %s", tp_shown_path(path, w->map, t->path, t->path_len),
                    tp_shown_shape(made, dtype, t->shape, t->rank),
                    tp_shown_shape(want, wanted_dtype, expected->shape, expected->rank));
}

/* The path with '/' between its keys, as tree.json has it. */
static void join(char *dst, const struct tp_map_target *t)
{
    for (size_t i = 0; i <= t->path_len; i++)
        dst[i] = t->path[i] == '\0' && i < t->path_len ? '/' : t->path[i];
}

static void look_up(struct tp_map_work *w, const struct tp_map_target *t, struct wanted *rows)
{
    char path[TP_NAME_MAX_BYTES + 1], shown[TP_SHOWN_TEXT];
    join(path, t);
    struct tp_map_expected key = {.path = path};
    struct wanted row = {.expected = &key};
    struct wanted *found =
        w->question->expected_count ? bsearch(&row, rows, w->question->expected_count, sizeof *rows, by_path) : NULL;
    if (found) {
        found->is_made = true;
        compare(w, t, found->expected);
    } else {
        tp_findings_add(&w->findings, finding(w, 1, "targets that are not expected"), "%s",
                        tp_shown_name(shown, path, strlen(path)));
    }
}

enum tp_status tp_compare_expected(struct tp_map_work *w)
{
    size_t count = w->question->expected_count;
    char shown[TP_SHOWN_TEXT];
    struct wanted *rows = tp_arena_alloc(&w->scratch, count * sizeof *rows);
    if (!rows)
        return tp_fail_nomem(w->err);
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct wanted){&w->question->expected[i], false};
    if (count > 0)
        qsort(rows, count, sizeof *rows, by_path);
    for (size_t i = 0; i < w->result->target_count; i++)
        look_up(w, &w->result->targets[i], rows);
    for (size_t i = 0; i < count; i++)
        if (!rows[i].is_made)
            tp_findings_add(&w->findings, finding(w, 0, "targets that are missing"), "%s",
                            tp_shown_name(shown, rows[i].expected->path, strlen(rows[i].expected->path)));
    return TP_OK;
}
