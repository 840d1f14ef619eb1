/* SPDX-License-Identifier: MIT */
#include "job/preset.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "tensorport/text.h"

#define WORD_MAX 63u /* of a preset's name; longer words resemble none */

uint32_t tp_preset_count(void)
{
    return tp_presets_count;
}

const struct tp_preset *tp_preset_get(uint32_t index)
{
    return index < tp_presets_count ? &tp_presets[index] : NULL;
}

const struct tp_preset *tp_preset_find(const char *name)
{
    for (uint32_t i = 0; i < tp_presets_count; i++) {
        size_t len = strlen(tp_presets[i].target);
        if (strncmp(name, tp_presets[i].target, len) == 0 && name[len] == '/' &&
            strcmp(name + len + 1, tp_presets[i].family) == 0)
            return &tp_presets[i];
    }
    return NULL;
}

/* ---- what was probably meant ---- */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many characters have to be inserted, deleted or replaced. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[WORD_MAX + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned above = row[j];
            row[j] = least(least(above, row[j - 1]) + 1, corner + (a[i - 1] != b[j - 1]));
            corner = above;
        }
    }
    return row[b_len];
}

/* The one that is nearest, unless it is so far away that nobody mistyped it. */
struct guess {
    const char *word;
    char best[2 * WORD_MAX + 2];
    unsigned distance;
};

static void consider(struct guess *g, const char *candidate)
{
    unsigned d = distance(g->word, candidate);
    if (d >= g->distance)
        return;
    g->distance = d;
    snprintf(g->best, sizeof g->best, "%s", candidate);
}

static struct guess guess_at(const char *word)
{
    unsigned third = (unsigned)(strlen(word) / 3);
    return (struct guess){.word = word, .distance = third < 2 ? 3 : third + 1};
}

/* "gemma2, gpt-oss": words one after the other, as many as there is room for. */
struct words {
    char *dst;
    size_t cap, used;
    unsigned count;
};

static void add_word(struct words *w, const char *word)
{
    int len = snprintf(w->dst + w->used, w->cap - w->used, "%s%s", w->count ? ", " : "", word);
    w->used = len > 0 && (size_t)len < w->cap - w->used ? w->used + (size_t)len : w->cap - 1;
    w->count++;
}

unsigned tp_target_families(const char *target, char *dst, size_t cap)
{
    struct words w = {.dst = dst, .cap = cap};
    *dst = '\0';
    for (uint32_t i = 0; i < tp_presets_count; i++)
        if (strcmp(tp_presets[i].target, target) == 0)
            add_word(&w, tp_presets[i].family);
    return w.count;
}

static void list_targets(char *dst, size_t cap)
{
    struct words w = {.dst = dst, .cap = cap};
    *dst = '\0';
    for (uint32_t i = 0; i < tp_presets_count; i++)
        if (i == 0 || strcmp(tp_presets[i].target, tp_presets[i - 1].target) != 0)
            add_word(&w, tp_presets[i].target);
}

static unsigned list_of_family(const char *family, char *dst, size_t cap)
{
    struct words w = {.dst = dst, .cap = cap};
    char name[2 * WORD_MAX + 2];
    *dst = '\0';
    for (uint32_t i = 0; i < tp_presets_count; i++) {
        snprintf(name, sizeof name, "%s/%s", tp_presets[i].target, tp_presets[i].family);
        if (strcmp(tp_presets[i].family, family) == 0)
            add_word(&w, name);
    }
    return w.count;
}

enum tp_status tp_target_refuse(const char *target, struct tp_error *err)
{
    char shown[128], known[600];
    struct guess near = guess_at(target);
    for (uint32_t i = 0; i < tp_presets_count; i++)
        consider(&near, tp_presets[i].target);
    list_targets(known, sizeof known);
    tp_fail(err, TP_ERR_USAGE, "there is no target '%s'; there is: %s",
            tp_text_printable(shown, sizeof shown, target, strlen(target)), known);
    return *near.best ? tp_err_hint(err, TP_ERR_USAGE, "did you mean %s?", near.best) : TP_ERR_USAGE;
}

enum tp_status tp_preset_refuse(const char *name, const char *what, struct tp_error *err)
{
    char shown[256], known[400], full[2 * WORD_MAX + 2];
    struct guess near = guess_at(name);
    tp_fail(err, TP_ERR_USAGE, "'%s' %s", tp_text_printable(shown, sizeof shown, name, strlen(name)), what);
    if (tp_target_families(name, known, sizeof known) > 0)
        return tp_err_hint(err, TP_ERR_USAGE,
                           "%s is a target; of which family? %s (--target %s takes the one of config.json)", name,
                           known, name);
    if (list_of_family(name, known, sizeof known) > 0)
        return tp_err_hint(err, TP_ERR_USAGE, "%s is a family; for which target? %s", name, known);
    for (uint32_t i = 0; i < tp_presets_count; i++) {
        snprintf(full, sizeof full, "%s/%s", tp_presets[i].target, tp_presets[i].family);
        consider(&near, full);
        consider(&near, tp_presets[i].target);
    }
    if (*near.best)
        return tp_err_hint(err, TP_ERR_USAGE, "did you mean %s? tensorport map list shows all", near.best);
    return tp_err_hint(err, TP_ERR_USAGE, "tensorport map list shows the presets");
}
