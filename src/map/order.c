/* SPDX-License-Identifier: MIT */
/* "order": "rules": leaves stand where a program that builds the tree as the rules list it would put them. At each
 * level keys come in the order in which the rules first mention them, and numbers by their value. A key is what stands
 * between
 * ".", "/", "[", "]" of a name. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "map/work.h"
#include "tensorport/checkpoint.h"

#define MENTIONS_MAX 16384u
#define INDEX_MARK '\1' /* stands for a number in the text of a key */

/* A key of some level, under its parent, numbers left out. Its row is its rank: rows are made in order of mention. */
struct key {
    const char *text;
    size_t len;
    uint32_t first_child, next; /* rows, or 0 */
};

struct mention_list {
    struct tp_map_work *w;
    struct key *keys; /* row 0 is the root */
    size_t count, capacity;
    uint32_t mentions;
};

static bool is_cut(char c)
{
    return c == '.' || c == '/' || c == '[' || c == ']' || c == '\0';
}

/* The row of a key below `parent`; 0: no memory. */
static uint32_t intern(struct mention_list *m, uint32_t parent, const char *text, size_t len)
{
    uint32_t last = 0;
    for (uint32_t i = m->keys[parent].first_child; i; last = i, i = m->keys[i].next)
        if (m->keys[i].len == len && memcmp(m->keys[i].text, text, len) == 0)
            return i;
    char *copy = tp_arena_strndup(&m->w->scratch, text, len);
    if (!copy || !tp_array_grow(&m->keys, &m->capacity, m->count + 1, sizeof *m->keys))
        return 0;
    uint32_t row = (uint32_t)m->count++;
    m->keys[row] = (struct key){copy, len, 0, 0};
    *(last ? &m->keys[last].next : &m->keys[parent].first_child) = row;
    return row;
}

/* The name with marks for numbers, words chosen. Returns its length; SIZE_MAX: too long. */
static size_t write_form(const struct tp_name_pattern *p, const struct tp_captured *captured, char *dst, size_t cap)
{
    size_t used = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct tp_token *t = &p->tokens[i];
        const char *text = t->text, mark[] = {INDEX_MARK, '\0'};
        size_t len = t->text_len;
        if (t->kind == TP_TOKEN_WORD) {
            text = t->words.items[captured->value[t->capture]];
            len = strlen(text);
        } else if (t->kind != TP_TOKEN_LITERAL && t->kind != TP_TOKEN_OPTIONAL) {
            text = mark;
            len = 1;
        }
        if (len >= cap - used)
            return SIZE_MAX;
        for (size_t k = 0; k < len; k++) /* a literal has no marks */
            dst[used + k] = text[k] == INDEX_MARK && text != mark ? '\2' : text[k];
        used += len;
    }
    return used;
}

static enum tp_status fail_mentions(const struct tp_map_work *w)
{
    return tp_fail(w->err, TP_ERR_LIMIT, "\"order\": \"rules\" is for at most %u keys, too many words are in \"to\"",
                   MENTIONS_MAX);
}

/* All keys of a name for one choice of its words. */
static enum tp_status mention(struct mention_list *m, const struct tp_name_pattern *to,
                              const struct tp_captured *captured)
{
    char form[TP_NAME_MAX_BYTES + 1];
    size_t len = write_form(to, captured, form, sizeof form);
    if (len == SIZE_MAX || m->mentions++ >= MENTIONS_MAX)
        return fail_mentions(m->w);
    uint32_t parent = 0;
    for (size_t i = 0, start = 0; i <= len; i++) {
        if (i < len && !is_cut(form[i]))
            continue;
        if (i > start && !(parent = intern(m, parent, form + start, i - start)))
            return tp_fail_nomem(m->w->err);
        start = i + 1;
    }
    return TP_OK;
}

/* The next choice of words, the last token's fastest; false: that was the last one. */
static bool next_words(const struct tp_name_pattern *p, struct tp_captured *captured)
{
    for (uint32_t i = p->count; i-- > 0;) {
        const struct tp_token *t = &p->tokens[i];
        bool is_again = false; /* the same capture stood before: it is counted there */
        if (t->kind != TP_TOKEN_WORD)
            continue;
        for (uint32_t k = 0; k < i; k++)
            is_again |= p->tokens[k].kind == TP_TOKEN_WORD && p->tokens[k].capture == t->capture;
        if (is_again)
            continue;
        if (++captured->value[t->capture] < t->words.count)
            return true;
        captured->value[t->capture] = 0;
    }
    return false;
}

static enum tp_status mention_all(struct mention_list *m, const struct tp_name_pattern *to)
{
    struct tp_captured words = {{0}};
    enum tp_status st;
    do {
        st = mention(m, to, &words);
    } while (!st && next_words(to, &words));
    return st;
}

static enum tp_status list_mentions(struct mention_list *m)
{
    const struct tp_map *map = m->w->map;
    if (!tp_array_grow(&m->keys, &m->capacity, 1, sizeof *m->keys))
        return tp_fail_nomem(m->w->err);
    m->keys[m->count++] = (struct key){"", 0, 0, 0};
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < map->rule_count && !st; i++)
        for (uint32_t k = 0; k < map->rules[i].to_count && !st; k++)
            st = mention_all(m, &map->rules[i].to[k]);
    for (uint32_t i = 0; i < map->const_count && !st; i++)
        st = mention_all(m, &map->constants[i].to);
    return st;
}

/* ---- sorting by it ---- */

struct sort_row {
    const uint32_t *ranks; /* of each key its rank, then its numbers */
    uint32_t rank_count, target;
};

/* The numbers that marks stand for; of a split index two. */
struct numbers {
    uint32_t value[2 * TP_MAP_TOKENS_MAX];
    uint8_t width[TP_MAP_TOKENS_MAX]; /* of each mark */
};

static void list_numbers(struct numbers *numbers, const struct tp_name_pattern *p, const uint32_t *values)
{
    uint32_t count = 0, marks = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct tp_token *t = &p->tokens[i];
        if (t->kind != TP_TOKEN_INDEX && t->kind != TP_TOKEN_SPLIT)
            continue;
        bool is_double = t->kind == TP_TOKEN_SPLIT && t->second != TP_MAP_NONE;
        numbers->value[count++] = values[t->capture];
        if (is_double)
            numbers->value[count++] = values[t->second];
        numbers->width[marks++] = is_double ? 2 : 1;
    }
}

/* Ranks and numbers of a name. Returns how many; SIZE_MAX: no memory. */
static size_t rank_form(struct mention_list *m, const char *form, size_t len, const struct numbers *numbers,
                        uint32_t *ranks)
{
    uint32_t parent = 0, mark = 0, number = 0;
    size_t count = 0;
    for (size_t start = 0; start <= len;) {
        size_t end = start;
        while (end < len && !is_cut(form[end]))
            end++;
        if (end > start) {
            parent = intern(m, parent, form + start, end - start);
            if (!parent)
                return SIZE_MAX;
            ranks[count++] = parent;
        }
        for (size_t i = start; i < end; i++)
            if (form[i] == INDEX_MARK)
                for (uint8_t k = numbers->width[mark++]; k > 0; k--)
                    ranks[count++] = numbers->value[number++];
        start = end + 1;
    }
    return count;
}

static enum tp_status rank_name(struct mention_list *m, const struct tp_name_pattern *to, const uint32_t *values,
                                uint32_t value_count, struct sort_row *row)
{
    struct tp_captured captured = {{0}};
    struct numbers numbers;
    char form[TP_NAME_MAX_BYTES + 1];
    uint32_t ranks[TP_NAME_MAX_BYTES + 2 * TP_MAP_TOKENS_MAX];
    for (uint32_t i = 0; i < value_count; i++)
        captured.value[i] = values[i];
    list_numbers(&numbers, to, values);
    size_t len = write_form(to, &captured, form, sizeof form);
    if (len == SIZE_MAX)
        return fail_mentions(m->w);
    size_t count = rank_form(m, form, len, &numbers, ranks);
    uint32_t *kept = count == SIZE_MAX ? NULL : tp_arena_alloc(&m->w->scratch, count * sizeof *kept);
    if (!kept)
        return tp_fail_nomem(m->w->err);
    memcpy(kept, ranks, count * sizeof *kept);
    row->ranks = kept;
    row->rank_count = (uint32_t)count;
    return TP_OK;
}

/* What no rule has named comes last, in the order of its names. */
static enum tp_status rank_target(struct mention_list *m, uint32_t target, struct sort_row *row)
{
    static const uint32_t last = UINT32_MAX;
    const struct tp_map *map = m->w->map;
    const struct tp_placement *p = &m->w->placements[m->w->firsts[target]];
    *row = (struct sort_row){&last, 1, target};
    if (p->rule == TP_MAP_CONSTANT)
        return rank_name(m, &map->constants[p->source].to, NULL, 0, row);
    return tp_placement_has_rule(p)
               ? rank_name(m, &map->rules[p->rule].to[p->to], p->values, map->rules[p->rule].capture_count, row)
               : TP_OK;
}

static int by_ranks(const void *a, const void *b)
{
    const struct sort_row *x = a, *y = b;
    for (uint32_t i = 0; i < x->rank_count && i < y->rank_count; i++)
        if (x->ranks[i] != y->ranks[i])
            return x->ranks[i] < y->ranks[i] ? -1 : 1;
    if (x->rank_count != y->rank_count)
        return x->rank_count < y->rank_count ? -1 : 1;
    return x->target < y->target ? -1 : x->target > y->target;
}

static enum tp_status sort_targets(struct mention_list *m, struct sort_row *rows, struct tp_map_target *sorted)
{
    struct tp_map_result *result = m->w->result;
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < result->target_count && !st; i++)
        st = rank_target(m, (uint32_t)i, &rows[i]);
    if (st)
        return st;
    qsort(rows, result->target_count, sizeof *rows, by_ranks);
    for (size_t i = 0; i < result->target_count; i++)
        sorted[i] = result->targets[rows[i].target];
    result->targets = sorted;
    return TP_OK;
}

enum tp_status tp_order_by_rules(struct tp_map_work *w)
{
    struct mention_list m = {.w = w};
    enum tp_status st = list_mentions(&m);
    struct sort_row *rows = tp_arena_alloc(&w->scratch, w->result->target_count * sizeof *rows);
    struct tp_map_target *sorted = tp_arena_alloc(&w->result->arena, w->result->target_count * sizeof *sorted);
    if (!st)
        st = rows && sorted ? sort_targets(&m, rows, sorted) : tp_fail_nomem(w->err);
    free(m.keys);
    return st;
}
