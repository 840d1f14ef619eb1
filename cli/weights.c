/* SPDX-License-Identifier: MIT */
/* From the groups of a checkpoint to the weights that they encode. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

/* ---- taking ---- */

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

/* Groups that cannot be decoded are listed like the others: looking must not fail. */
static bool take_one(struct weight *row, const struct weights *w, const struct tp_checkpoint *ck, uint32_t number)
{
    struct tp_decoded_tensor decoded;
    struct tp_error err;
    const struct tp_group *group = tp_checkpoint_group(ck, number);
    *row = (struct weight){.group = group, .count = 1, .parameters = group->parameter_count};
    const char *why = w->refused;
    enum tp_status status = why ? TP_OK : tp_group_decoded(ck, number, &decoded, &err);
    if (status == TP_ERR_NOMEM)
        return false; /* no property of the weight */
    if (status)
        why = err.message;
    row->name = copy_text(why ? group->name : decoded.name);
    if (why) {
        row->refused = copy_text(why);
        return row->name && row->refused;
    }
    row->parameters = decoded.elem_count;
    row->rank = decoded.rank;
    row->shape = malloc((decoded.rank + 1) * sizeof *row->shape);
    if (row->shape)
        memcpy(row->shape, decoded.shape, decoded.rank * sizeof *row->shape);
    return row->name && row->shape;
}

/* Each group's tensors, side by side. */
static bool take_members(struct weights *w, const struct tp_checkpoint *ck)
{
    uint32_t tensors = tp_checkpoint_tensor_count(ck);
    uint32_t *next = calloc(w->count + 1, sizeof *next);
    w->members = malloc(((size_t)tensors + 1) * sizeof *w->members);
    if (next && w->members) {
        uint32_t used = 0;
        for (size_t i = 0; i < w->count; i++) {
            w->rows[i].members = w->members + used;
            next[i] = used;
            used += w->rows[i].group->member_count;
        }
        for (uint32_t i = 0; i < tensors; i++) {
            uint32_t group = tp_checkpoint_tensor(ck, i)->group;
            if (group != TP_NO_GROUP)
                w->members[next[group]++] = i;
        }
    }
    free(next);
    return next && w->members;
}

bool weights_take(struct weights *w, const struct tp_checkpoint *ck)
{
    struct tp_error err;
    uint32_t count = tp_checkpoint_group_count(ck);
    *w = (struct weights){.rows = calloc((size_t)count + 1, sizeof *w->rows)};
    if (!w->rows)
        return false;
    enum tp_status status = tp_checkpoint_check_decodable(ck, &err);
    if (status == TP_ERR_NOMEM)
        return false;
    if (status) {
        w->refused = copy_text(err.message);
        if (!w->refused)
            return false;
    }
    for (; w->count < count; w->count++)
        if (!take_one(&w->rows[w->count], w, ck, (uint32_t)w->count)) {
            w->count++;
            return false;
        }
    return take_members(w, ck);
}

static void weight_release(struct weight *row)
{
    free(row->name);
    free(row->refused);
    free(row->shape);
}

void weights_release(struct weights *w)
{
    for (size_t i = 0; i < w->count; i++)
        weight_release(&w->rows[i]);
    free(w->rows);
    free(w->refused);
    free(w->members);
    *w = (struct weights){.count = 0};
}

const struct weight *weights_find(const struct weights *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->rows[i].name, name) == 0)
            return &w->rows[i];
    return NULL;
}

/* ---- folding ---- */

/* A part of a name, up to its dot; numbers are all alike. */
struct component {
    const char *at;
    size_t len;
    bool is_number;
};

static struct component component_at(const char *name)
{
    struct component c = {name, strcspn(name, "."), false};
    c.is_number = c.len > 0 && strspn(name, "0123456789") == c.len;
    return c;
}

static int compare_components(struct component a, struct component b)
{
    if (a.is_number || b.is_number)
        return (int)b.is_number - (int)a.is_number;
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int compare_names(const char *a, const char *b)
{
    for (;;) {
        struct component x = component_at(a), y = component_at(b);
        int order = compare_components(x, y);
        a += x.len;
        b += y.len;
        if (order || !*a || !*b)
            return order ? order : (*a != '\0') - (*b != '\0');
        a++;
        b++;
    }
}

/* "model.layers.12.mlp" as "model.layers.*.mlp", in place: a glob that --include takes. */
static void star_numbers(char *name)
{
    char *to = name;
    for (const char *from = name;;) {
        struct component c = component_at(from);
        memmove(to, c.is_number ? "*" : c.at, c.is_number ? 1 : c.len);
        to += c.is_number ? 1 : c.len;
        from += c.len;
        if (!*from)
            break;
        *to++ = *from++;
    }
    *to = '\0';
}

static int compare_shapes(const struct weight *a, const struct weight *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    for (unsigned i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return a->shape[i] < b->shape[i] ? -1 : 1;
    return 0;
}

/* Zero: one row for both. The reason of a refusal names tensors, so that it is not asked for. */
static int compare_kinds(const struct weight *a, const struct weight *b)
{
    int order = compare_names(a->name, b->name);
    if (!order)
        order = strcmp(a->group->scheme, b->group->scheme);
    if (!order)
        order = (a->refused != NULL) - (b->refused != NULL);
    return order ? order : compare_shapes(a, b);
}

static int by_kind(const void *a_, const void *b_)
{
    const struct weight *a = a_;
    const struct weight *b = b_;
    int order = compare_kinds(a, b);
    return order ? order : a->group < b->group ? -1 : a->group > b->group;
}

static int by_size(const void *a_, const void *b_)
{
    const struct weight *a = a_;
    const struct weight *b = b_;
    if (a->parameters != b->parameters)
        return a->parameters < b->parameters ? 1 : -1;
    return by_kind(a, b);
}

void weights_fold(struct weights *w)
{
    size_t kept = 0;
    qsort(w->rows, w->count, sizeof *w->rows, by_kind);
    for (size_t i = 0; i < w->count; i++) {
        struct weight *last = kept ? &w->rows[kept - 1] : NULL;
        if (last && compare_kinds(last, &w->rows[i]) == 0) {
            last->count++;
            last->parameters += w->rows[i].parameters;
            weight_release(&w->rows[i]);
        } else {
            w->rows[kept++] = w->rows[i];
        }
    }
    w->count = kept;
    for (size_t i = 0; i < w->count; i++)
        if (w->rows[i].count > 1)
            star_numbers(w->rows[i].name);
    qsort(w->rows, w->count, sizeof *w->rows, by_size);
}

/* ---- --json ---- */

void weight_json(struct json *j, const char *key, const struct tp_checkpoint *ck, const struct weight *weight)
{
    json_open(j, key, '{');
    json_text(j, "name", weight->refused ? NULL : weight->name);
    json_text(j, "scheme", weight->group->scheme);
    json_text(j, "stem", weight->group->name);
    if (weight->refused)
        json_null(j, "shape");
    else
        json_shape(j, "shape", weight->shape, weight->rank);
    json_count(j, "parameters", weight->parameters);
    json_count(j, "bytes", weight->group->size_bytes);
    json_open(j, "members", '[');
    for (uint32_t i = 0; i < weight->group->member_count; i++)
        json_text(j, NULL, tp_checkpoint_tensor(ck, weight->members[i])->name);
    json_close(j, ']');
    json_text(j, "refused", weight->refused);
    json_close(j, '}');
}
