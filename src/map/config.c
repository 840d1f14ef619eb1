/* SPDX-License-Identifier: MIT */
/* The numbers of a config.json by their paths, for the expressions of maps. Lists hold no sizes and are passed over,
 * and so is what lies behind a key that an expression cannot name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"
#include "map/parse.h"

#define NUMBERS_MAX 4096u
#define OBJECT_MAX 256u /* numbers of one object that count: longer ones are tables (label2id), not settings */
#define LEVELS_MAX 16u
#define PATH_BYTES 512u

struct number {
    const char *path;
    double value;
    uint32_t order; /* in the text: of two the last one counts, as in Python */
};

struct tp_config_numbers {
    struct tp_arena arena; /* paths */
    struct number *items;
    size_t count, capacity;
};

struct walk {
    struct tp_config_numbers *numbers;
    struct tp_json *json;
    char path[PATH_BYTES];
    size_t lengths[LEVELS_MAX]; /* of the path of each open object, its dot included */
    uint32_t counts[LEVELS_MAX];
    unsigned level;
    struct tp_error *err;
};

/* ---- reading ---- */

static enum tp_status keep_number(struct walk *w, size_t path_len, double value)
{
    struct tp_config_numbers *numbers = w->numbers;
    if (w->counts[w->level]++ >= OBJECT_MAX)
        return TP_OK;
    if (numbers->count == NUMBERS_MAX)
        return tp_fail(w->err, TP_ERR_LIMIT, "config.json has more than %u numbers", NUMBERS_MAX);
    const char *path = tp_arena_strndup(&numbers->arena, w->path, path_len);
    if (!path || !tp_array_grow(&numbers->items, &numbers->capacity, numbers->count + 1, sizeof *numbers->items))
        return tp_fail_nomem(w->err);
    numbers->items[numbers->count] = (struct number){path, value, (uint32_t)numbers->count};
    numbers->count++;
    return TP_OK;
}

/* The path of a key in the open object; 0: no expression can name it. */
static size_t path_of(struct walk *w, const struct tp_json_token *key)
{
    size_t begin = w->lengths[w->level];
    if (key->cut || key->len == 0 || tp_identifier_length(key->text, key->len) != key->len ||
        key->len + 1 >= PATH_BYTES - begin)
        return 0;
    memcpy(w->path + begin, key->text, key->len);
    return begin + key->len;
}

static enum tp_status enter(struct walk *w, const struct tp_json_token *first, size_t path_len)
{
    if (path_len == 0 || w->level + 1 == LEVELS_MAX)
        return tp_json_skip(w->json, first, w->err);
    w->path[path_len] = '.';
    w->lengths[++w->level] = path_len + 1;
    w->counts[w->level] = 0;
    return TP_OK;
}

static enum tp_status read_value(struct walk *w, size_t path_len)
{
    struct tp_json_token token;
    enum tp_status status = tp_json_next(w->json, &token, w->err);
    if (status)
        return status;
    switch (token.type) {
    case TP_JSON_OBJECT_BEGIN:
        return enter(w, &token, path_len);
    case TP_JSON_TRUE:
    case TP_JSON_FALSE:
        return path_len > 0 ? keep_number(w, path_len, token.type == TP_JSON_TRUE) : TP_OK;
    case TP_JSON_UINT:
    case TP_JSON_NUMBER:
        return path_len > 0 ? keep_number(w, path_len, token.number_value) : TP_OK;
    default:
        return tp_json_skip(w->json, &token, w->err);
    }
}

static enum tp_status read_object(struct walk *w)
{
    struct tp_json_token token;
    enum tp_status status = tp_json_expect(w->json, TP_JSON_OBJECT_BEGIN, "config.json", &token, w->err);
    for (bool open = true; !status && open;) {
        status = tp_json_next(w->json, &token, w->err);
        if (status)
            break;
        if (token.type == TP_JSON_KEY)
            status = read_value(w, path_of(w, &token));
        else if (w->level == 0)
            open = false;
        else
            w->level--;
    }
    return status ? status : tp_json_next(w->json, &token, w->err); /* nothing behind it */
}

static int by_path(const void *a, const void *b)
{
    const struct number *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : x->order > y->order ? -1 : 1;
}

enum tp_status tp_config_numbers_read(struct tp_config_numbers **out, const char *text, size_t len,
                                      struct tp_error *err)
{
    *out = NULL;
    if (!text)
        return TP_OK;
    struct walk w = {.numbers = calloc(1, sizeof *w.numbers), .err = err};
    if (!w.numbers)
        return tp_fail_nomem(err);
    enum tp_status status = tp_json_open_text(&w.json, text, len, "config.json", PATH_BYTES, err);
    if (!status) {
        tp_json_cut_strings(w.json);
        tp_json_allow_constants(w.json);
        status = read_object(&w);
    }
    tp_json_close(w.json);
    if (status) {
        tp_config_numbers_free(w.numbers);
        return status;
    }
    if (w.numbers->count > 0)
        qsort(w.numbers->items, w.numbers->count, sizeof *w.numbers->items, by_path);
    *out = w.numbers;
    return TP_OK;
}

void tp_config_numbers_free(struct tp_config_numbers *numbers)
{
    if (numbers) {
        free(numbers->items);
        tp_arena_release(&numbers->arena);
    }
    free(numbers);
}

/* ---- finding ---- */

/* The first row of the path: the one that came last in the text. */
static bool find(const struct tp_config_numbers *numbers, const char *path, double *value)
{
    size_t low = 0, high = numbers->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(numbers->items[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == numbers->count || strcmp(numbers->items[low].path, path) != 0)
        return false;
    *value = numbers->items[low].value;
    return true;
}

bool tp_config_numbers_find(const struct tp_config_numbers *numbers, const char *path, double *value)
{
    char inner[PATH_BYTES];
    if (!numbers)
        return false;
    if (find(numbers, path, value))
        return true;
    int len = snprintf(inner, sizeof inner, "text_config.%s", path);
    return len > 0 && (size_t)len < sizeof inner && find(numbers, inner, value);
}
