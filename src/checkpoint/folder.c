/* SPDX-License-Identifier: MIT */
/* Which files of a folder are the checkpoint. An index decides where there is one; without it the names do, and
 * whatever could be read in two ways is refused rather than guessed.
 *
 * From top to bottom: opening, with an index, without one, what a name says, the choice, one or many. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/describe.h"
#include "checkpoint/index.h"
#include "checkpoint/safetensors.h"

#define SUFFIX ".safetensors"
#define INDEX_SUFFIX ".safetensors.index.json"
#define USUAL_INDEX "model.safetensors.index.json"

/* ---- opening ---- */

static bool recognise(const struct tp_place *place)
{
    bool found = !place->is_folder;
    for (size_t i = 0; i < place->names.count && !found; i++)
        found = tp_name_ends(place->names.items[i], SUFFIX) || tp_name_ends(place->names.items[i], INDEX_SUFFIX);
    return found;
}

static enum tp_status read_files(struct tp_checkpoint *ck, const char *const *names, size_t count,
                                 struct tp_weight_map *map, struct tp_error *err)
{
    enum tp_status status = TP_OK;
    for (size_t i = 0; !status && i < count; i++) {
        uint32_t file;
        status = tp_checkpoint_add_file(ck, names[i], &file, err);
        if (!status)
            status = tp_safetensors_read_file(ck, file, map, (uint32_t)i, err);
    }
    return status;
}

static enum tp_status open_index(struct tp_checkpoint *ck, const struct tp_place *place, const char *index,
                                 struct tp_error *err);
static enum tp_status open_by_names(struct tp_checkpoint *ck, const struct tp_place *place, struct tp_error *err);
static enum tp_status open_file(struct tp_checkpoint *ck, const struct tp_place *place, struct tp_error *err);
static enum tp_status find_index(const struct tp_place *place, const char **index, struct tp_error *err);
static enum tp_status note_case_twins(struct tp_checkpoint *ck, const struct tp_place *place, struct tp_error *err);

static enum tp_status open_safetensors(struct tp_checkpoint *ck, const struct tp_place *place,
                                       const struct tp_open_options *options, struct tp_error *err)
{
    const char *index = NULL;
    if (!place->is_folder)
        return open_file(ck, place, err);
    enum tp_status status = options->ignore_index ? TP_OK : find_index(place, &index, err);
    if (!status)
        status = index ? open_index(ck, place, index, err) : open_by_names(ck, place, err);
    return status ? status : note_case_twins(ck, place, err);
}

const struct tp_reader tp_reader_safetensors = {
    .format = "safetensors", .recognise = recognise, .open = open_safetensors};

/* ---- with an index ---- */

static enum tp_status find_index(const struct tp_place *place, const char **index, struct tp_error *err)
{
    struct tp_name_list found = {0};
    if (tp_place_has(place, USUAL_INDEX)) {
        *index = USUAL_INDEX;
        return TP_OK;
    }
    for (size_t i = 0; i < place->names.count; i++)
        if (tp_name_ends(place->names.items[i], INDEX_SUFFIX)) {
            *index = place->names.items[i];
            tp_name_list_add(&found, *index);
        }
    if (found.count < 2)
        return TP_OK;
    tp_fail(err, TP_ERR_FORMAT, "several indexes, none of them " USUAL_INDEX ": %s", tp_name_list_text(&found));
    tp_err_hint(err, TP_ERR_FORMAT, "move away those that are not meant, or give one file");
    return tp_err_path(err, TP_ERR_FORMAT, place->path);
}

static bool has_kind(const struct tp_place *place, const char *suffix)
{
    for (size_t i = 0; i < place->names.count; i++)
        if (tp_name_ends(place->names.items[i], suffix))
            return true;
    return false;
}

/* All at once: who has fifteen of thirty files wants one list, not fifteen attempts. */
static enum tp_status check_present(const struct tp_place *place, const struct tp_weight_map *map, const char *index,
                                    struct tp_error *err)
{
    struct tp_name_list missing = {0};
    char shown[TP_NAME_TEXT];
    for (size_t i = 0; i < map->file_count; i++)
        if (!tp_place_has(place, map->files[i]))
            tp_name_list_add(&missing, map->files[i]);
    if (missing.count == 0)
        return TP_OK;
    enum tp_status status = TP_ERR_FORMAT;
    tp_fail(err, status, "%zu of the %zu files that %s names %s missing: %s", missing.count, map->file_count,
            tp_describe_name(shown, index, strlen(index)), missing.count == 1 ? "is" : "are",
            tp_name_list_text(&missing));
    if (has_kind(place, ".incomplete") || has_kind(place, ".part"))
        tp_err_hint(err, status, "a download is unfinished; go on with it");
    else if (missing.count < map->file_count || has_kind(place, SUFFIX))
        tp_err_hint(err, status, "download them, or read only what is there with --ignore-index");
    else if (has_kind(place, ".bin"))
        tp_err_hint(err, status, "there are only PyTorch files (.bin), which can run code and are not read");
    else
        tp_err_hint(err, status, "download them");
    return tp_err_path(err, status, place->path);
}

/* What the index lists must be where it says. */
static enum tp_status check_seen(const struct tp_checkpoint *ck, const struct tp_weight_map *map, struct tp_error *err)
{
    const struct tp_weight_entry *first = NULL;
    char count[TP_COUNT_TEXT], more[64] = "";
    uint64_t missing = 0;
    for (size_t i = 0; i < map->entry_count; i++)
        if (!map->entries[i].seen && missing++ == 0)
            first = &map->entries[i];
    if (!first)
        return TP_OK;
    if (missing > 1)
        snprintf(more, sizeof more, " (and %s more listed tensors are absent)", tp_describe_count(count, missing - 1));
    enum tp_status status =
        tp_fail(err, TP_ERR_FORMAT, "the index lists it for this file, which does not have it%s", more);
    tp_err_hint(err, status, "the index belongs to other files; download both again, or use --ignore-index");
    tp_err_tensor(err, status, first->name, first->name_len);
    return tp_err_path(err, status, tp_checkpoint_file_path(ck, first->file));
}

static enum tp_status note_total(struct tp_checkpoint *ck, const struct tp_weight_map *map, struct tp_error *err)
{
    char says[TP_COUNT_TEXT], is[TP_COUNT_TEXT];
    uint64_t sum = 0;
    for (size_t i = 0; i < ck->tensor_count; i++)
        sum += ck->tensors[i].size_bytes;
    if (map->total == TP_TOTAL_BAD)
        return tp_checkpoint_note_add(ck, err, "the index's total_size is not a whole number");
    if (map->total == TP_TOTAL_KNOWN && map->total_bytes != sum)
        return tp_checkpoint_note_add(ck, err, "the index's total_size is %s, its tensors have %s bytes",
                                      tp_describe_count(says, map->total_bytes), tp_describe_count(is, sum));
    return TP_OK;
}

static bool in_list(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static enum tp_status note_unread(struct tp_checkpoint *ck, const struct tp_place *place, const char *const *read,
                                  size_t count, struct tp_error *err)
{
    struct tp_name_list ignored = {0};
    for (size_t i = 0, k = 0; i < place->names.count; i++) {
        const char *name = place->names.items[i];
        while (k < count && strcmp(read[k], name) < 0) /* both lists are sorted */
            k++;
        if (tp_name_ends(name, SUFFIX) && !(k < count && strcmp(read[k], name) == 0))
            tp_name_list_add(&ignored, name);
    }
    if (ignored.count == 0)
        return TP_OK;
    return tp_checkpoint_note_add(ck, err, "not read: %s", tp_name_list_text(&ignored));
}

static enum tp_status check_single(struct tp_checkpoint *ck, const struct tp_place *place, const char *single,
                                   struct tp_error *err);

static enum tp_status open_index(struct tp_checkpoint *ck, const struct tp_place *place, const char *index,
                                 struct tp_error *err)
{
    struct tp_weight_map map = {0};
    char *path = tp_path_join(place->path, index);
    enum tp_status status = path ? tp_weight_map_read(&map, &ck->arena, path, err) : tp_fail_nomem(err);
    if (!status)
        status = check_present(place, &map, index, err);
    if (!status)
        status = read_files(ck, map.files, map.file_count, &map, err);
    if (!status)
        status = check_seen(ck, &map, err);
    if (!status)
        status = note_total(ck, &map, err);
    if (!status)
        status = note_unread(ck, place, map.files, map.file_count, err);
    if (!status && strcmp(index, USUAL_INDEX) == 0 && tp_place_has(place, "model" SUFFIX) &&
        !in_list(map.files, map.file_count, "model" SUFFIX))
        status = check_single(ck, place, "model" SUFFIX, err);
    tp_weight_map_release(&map);
    free(path);
    return status;
}

/* ---- without one: what a name says ---- */

enum role { MODEL, OTHER, CONSOLIDATED, VARIANT, ADAPTER, TRAINING, ROLE_COUNT };

struct shard {
    const char *name;
    enum role role;
    size_t stem_len; /* "model" of "model-00001-of-00004.safetensors" */
    bool numbered;
    uint64_t number, total;
    size_t digits;       /* of the number, to name a missing one in the same way */
    const char *variant; /* "fp16", within the name */
    size_t variant_len;
};

/* First words of names. Each ends where no letter follows. */
static const struct {
    const char *word;
    enum role role;
} words[] = {
    {"adapter", ADAPTER},   {"pytorch_lora", ADAPTER},      {"lora", ADAPTER},       {"optimizer", TRAINING},
    {"training", TRAINING}, {"trainer", TRAINING},          {"scheduler", TRAINING}, {"rng", TRAINING},
    {"random", TRAINING},   {"consolidated", CONSOLIDATED},
};

static const char *const variants[] = {"fp16", "fp32", "bf16", "fp8", "int8", "int4", "8bit", "4bit", "ema", "non_ema"};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static size_t digits_before(const char *name, size_t end)
{
    size_t n = 0;
    while (n < end && n < 18 && name[end - 1 - n] >= '0' && name[end - 1 - n] <= '9')
        n++;
    return n;
}

/* "-00001-of-00004" at the end of the stem. */
static void take_number(struct shard *s)
{
    size_t end = s->stem_len;
    size_t total_digits = digits_before(s->name, end);
    if (total_digits == 0 || end < total_digits + 4 || memcmp(s->name + end - total_digits - 4, "-of-", 4) != 0)
        return;
    end -= total_digits + 4;
    size_t digits = digits_before(s->name, end);
    if (digits == 0 || end < digits + 1 || s->name[end - digits - 1] != '-')
        return;
    s->numbered = true;
    s->digits = digits;
    s->number = strtoull(s->name + end - digits, NULL, 10);
    s->total = strtoull(s->name + s->stem_len - total_digits, NULL, 10);
    s->stem_len = end - digits - 1;
}

/* ".fp16" at the end of the stem; `any_word`: after "model" any word will do. */
static void take_variant(struct shard *s, bool any_word)
{
    size_t dot = s->stem_len;
    while (dot > 0 && s->name[dot - 1] != '.')
        dot--;
    if (dot < 2)
        return;
    const char *word = s->name + dot;
    size_t len = s->stem_len - dot;
    bool known = any_word && dot - 1 == 5 && memcmp(s->name, "model", 5) == 0;
    for (size_t i = 0; i < TP_COUNT_OF(variants) && !known; i++)
        known = strlen(variants[i]) == len && memcmp(variants[i], word, len) == 0;
    if (!known)
        return;
    s->variant = word;
    s->variant_len = len;
    s->stem_len = dot - 1;
}

static struct shard shard_of(const char *name)
{
    struct shard s = {.name = name, .role = OTHER, .stem_len = strlen(name) - strlen(SUFFIX)};
    take_variant(&s, false); /* "-00001-of-00002.fp16" and ".fp16-00001-of-00002" are both in use */
    take_number(&s);
    if (!s.variant)
        take_variant(&s, true);
    if (strncmp(name, "model", 5) == 0)
        s.role = MODEL;
    for (size_t i = 0; i < TP_COUNT_OF(words); i++) {
        size_t len = strlen(words[i].word);
        if (strncmp(name, words[i].word, len) == 0 && !is_letter(name[len]))
            s.role = words[i].role;
    }
    if (s.variant && (s.role == MODEL || s.role == OTHER))
        s.role = VARIANT;
    return s;
}

static bool same_stem(const struct shard *a, const struct shard *b)
{
    return a->stem_len == b->stem_len && memcmp(a->name, b->name, a->stem_len) == 0;
}

/* Sets together, by number, then what has the same stem and no number. */
static int by_set(const void *left, const void *right)
{
    const struct shard *a = left, *b = right;
    size_t shorter = a->stem_len < b->stem_len ? a->stem_len : b->stem_len;
    int c = memcmp(a->name, b->name, shorter);
    if (c == 0)
        c = (a->stem_len > b->stem_len) - (a->stem_len < b->stem_len);
    if (c == 0)
        c = b->numbered - a->numbered;
    if (c == 0)
        c = (a->number > b->number) - (a->number < b->number);
    return c != 0 ? c : strcmp(a->name, b->name);
}

/* ---- without one: the choice ---- */

struct choice {
    struct shard *shards; /* of one role, in the order of by_set */
    size_t count;
    const char *single; /* an unnumbered file beside a numbered set of the same name, not in `shards` */
};

static enum tp_status refuse(const struct tp_place *place, struct tp_error *err, const char *hint, const char *fact)
{
    tp_fail(err, TP_ERR_FORMAT, "%s", fact);
    tp_err_hint(err, TP_ERR_FORMAT, "%s", hint);
    return tp_err_path(err, TP_ERR_FORMAT, place->path);
}

/* Keep the files of the best role there is. */
static enum tp_status choose_role(struct choice *choice, const struct tp_place *place, struct tp_error *err)
{
    size_t of_role[ROLE_COUNT] = {0};
    size_t kept = 0;
    char shown[TP_NAME_TEXT], fact[TP_NAME_TEXT + 64];
    for (size_t i = 0; i < place->names.count; i++)
        if (tp_name_ends(place->names.items[i], SUFFIX)) {
            choice->shards[choice->count] = shard_of(place->names.items[i]);
            of_role[choice->shards[choice->count++].role]++;
        }
    enum role best = MODEL;
    while (best + 1 < ROLE_COUNT && of_role[best] == 0)
        best = (enum role)(best + 1);
    if (choice->count == 0)
        return refuse(place, err, "download the files that the index names", "no *.safetensors files in this folder");
    tp_describe_name(shown, choice->shards[0].name, strlen(choice->shards[0].name));
    if (best == ADAPTER) {
        snprintf(fact, sizeof fact, "a LoRA adapter (%s), not a model", shown);
        return refuse(place, err, "merge it into its base model first, or give the file itself", fact);
    }
    if (best == TRAINING) {
        snprintf(fact, sizeof fact, "the state of a training run (%s), not a model", shown);
        return refuse(place, err, "give the folder of the model's weights", fact);
    }
    for (size_t i = 0; i < choice->count; i++)
        if (choice->shards[i].role == best)
            choice->shards[kept++] = choice->shards[i];
    choice->count = kept;
    qsort(choice->shards, choice->count, sizeof *choice->shards, by_set);
    return TP_OK;
}

/* Several variants are several models; one alone is taken, and said. */
static enum tp_status check_variants(struct tp_checkpoint *ck, const struct choice *choice,
                                     const struct tp_place *place, struct tp_error *err)
{
    const struct shard *first = &choice->shards[0];
    char shown[TP_NAME_TEXT];
    if (first->role != VARIANT)
        return TP_OK;
    for (size_t i = 1; i < choice->count; i++) {
        const struct shard *s = &choice->shards[i];
        if (s->variant_len != first->variant_len || memcmp(s->variant, first->variant, s->variant_len) != 0) {
            char fact[2 * TP_NAME_TEXT + 64], other[TP_NAME_TEXT];
            snprintf(fact, sizeof fact, "several variants of the model (%s, %s)",
                     tp_describe_name(shown, first->name, strlen(first->name)),
                     tp_describe_name(other, s->name, strlen(s->name)));
            return refuse(place, err, "move away those that are not meant, or give one file", fact);
        }
    }
    tp_describe_name(shown, first->variant, first->variant_len);
    return tp_checkpoint_note_add(ck, err, "only a variant of the model is here (%s); it is taken", shown);
}

/* Two totals of one stem are two models. */
static enum tp_status check_sets(struct choice *choice, const struct tp_place *place, struct tp_error *err)
{
    for (size_t i = 1; i < choice->count; i++) {
        const struct shard *a = &choice->shards[i - 1], *b = &choice->shards[i];
        char fact[2 * TP_NAME_TEXT + 64], one[TP_NAME_TEXT], two[TP_NAME_TEXT];
        if (!a->numbered || !b->numbered || !same_stem(a, b) || a->total == b->total)
            continue;
        snprintf(fact, sizeof fact, "two numbered sets of one name side by side (%s, %s), and no index",
                 tp_describe_name(one, a->name, strlen(a->name)), tp_describe_name(two, b->name, strlen(b->name)));
        return refuse(place, err, "move one of them away", fact);
    }
    return TP_OK;
}

/* The unnumbered file beside a numbered set of its name leaves the list; check_single compares it later. It follows
 * the set directly. */
static void take_single(struct choice *choice)
{
    size_t kept = 0;
    for (size_t i = 0; i < choice->count; i++) {
        const struct shard *s = &choice->shards[i];
        bool beside_set =
            !s->numbered && kept > 0 && choice->shards[kept - 1].numbered && same_stem(s, &choice->shards[kept - 1]);
        if (beside_set && !choice->single)
            choice->single = s->name;
        else
            choice->shards[kept++] = *s;
    }
    choice->count = kept;
}

/* Numbers run from 1 to the total; some tools count from 0, and to the total or to one less. The shards of one set
 * follow each other from `first` to `end`. */
static void list_missing(const struct choice *choice, size_t first, size_t end, struct tp_name_list *missing)
{
    const struct shard *s = &choice->shards[first];
    uint64_t number = s->number == 0 ? 0 : 1;
    uint64_t last = s->number == 0 && choice->shards[end - 1].number < s->total ? s->total - 1 : s->total;
    for (size_t i = first; number <= last && missing->hidden_count < TP_FILES_MAX; number++) {
        size_t before = i;
        while (i < end && choice->shards[i].number == number)
            i++;
        if (i > before)
            continue;
        char name[TP_NAME_TEXT];
        const char *rest = s->name + s->stem_len + 1 + s->digits; /* "-of-00004.safetensors" */
        snprintf(name, sizeof name, "%.*s-%0*" PRIu64 "%s", (int)s->stem_len, s->name, (int)s->digits, number, rest);
        tp_name_list_add(missing, name);
    }
}

static enum tp_status check_complete(const struct choice *choice, const struct tp_place *place, struct tp_error *err)
{
    struct tp_name_list missing = {0};
    for (size_t first = 0, end; first < choice->count; first = end) {
        end = first + 1;
        while (end < choice->count && choice->shards[first].numbered && choice->shards[end].numbered &&
               same_stem(&choice->shards[first], &choice->shards[end]))
            end++;
        if (choice->shards[first].numbered)
            list_missing(choice, first, end, &missing);
    }
    if (missing.count == 0)
        return TP_OK;
    tp_fail(err, TP_ERR_FORMAT, "%zu %s missing from a numbered set: %s", missing.count,
            missing.count == 1 ? "file is" : "files are", tp_name_list_text(&missing));
    tp_err_hint(err, TP_ERR_FORMAT, "download what is missing");
    return tp_err_path(err, TP_ERR_FORMAT, place->path);
}

static int by_name(const void *left, const void *right)
{
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

static enum tp_status read_choice(struct tp_checkpoint *ck, const struct choice *choice, const struct tp_place *place,
                                  struct tp_error *err)
{
    const char **names = malloc(choice->count * sizeof *names);
    if (!names)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < choice->count; i++)
        names[i] = choice->shards[i].name;
    qsort(names, choice->count, sizeof *names, by_name);
    enum tp_status status = read_files(ck, names, choice->count, NULL, err);
    if (!status)
        status = note_unread(ck, place, names, choice->count, err);
    free(names);
    return status;
}

static enum tp_status open_by_names(struct tp_checkpoint *ck, const struct tp_place *place, struct tp_error *err)
{
    struct choice choice = {.shards = malloc((place->names.count + 1) * sizeof *choice.shards)};
    enum tp_status status = choice.shards ? choose_role(&choice, place, err) : tp_fail_nomem(err);
    if (!status)
        status = check_variants(ck, &choice, place, err);
    if (!status)
        status = check_sets(&choice, place, err);
    if (!status) {
        take_single(&choice);
        status = check_complete(&choice, place, err);
    }
    if (!status)
        status = read_choice(ck, &choice, place, err);
    if (!status && choice.single)
        status = check_single(ck, place, choice.single, err);
    free(choice.shards);
    return status;
}

/* ---- one or many ---- */

static bool same_tensors(const struct tp_checkpoint *a, const struct tp_checkpoint *b)
{
    if (a->tensor_count != b->tensor_count)
        return false;
    for (size_t i = 0; i < a->tensor_count; i++) {
        const struct tp_tensor *t = &a->tensors[i], *u = tp_checkpoint_find(b, t->name);
        if (!u || t->dtype != u->dtype || t->rank != u->rank ||
            (t->rank > 0 && memcmp(t->shape, u->shape, t->rank * sizeof *t->shape) != 0))
            return false;
    }
    return true;
}

/* A whole model in one file beside the same model in shards is common; another model in it is a trap. */
static enum tp_status check_single(struct tp_checkpoint *ck, const struct tp_place *place, const char *single,
                                   struct tp_error *err)
{
    struct tp_checkpoint *other = NULL;
    enum tp_status status = tp_checkpoint_new(&other, place->path, place->path, err);
    if (!status)
        status = read_files(other, &single, 1, NULL, err);
    if (!status)
        status = tp_checkpoint_index_names(other, err);
    if (!status && !same_tensors(ck, other)) {
        char fact[TP_NAME_TEXT + 64], shown[TP_NAME_TEXT];
        snprintf(fact, sizeof fact, "%s and the sharded files beside it hold different tensors",
                 tp_describe_name(shown, single, strlen(single)));
        status = refuse(place, err, "move away what is not meant, or give the one file itself", fact);
    }
    tp_checkpoint_close(other);
    return status;
}

static enum tp_status open_file(struct tp_checkpoint *ck, const struct tp_place *place, struct tp_error *err)
{
    const char *slash = strrchr(place->path, '/');
    const char *name = slash ? slash + 1 : place->path;
    if (tp_name_ends(name, INDEX_SUFFIX))
        return refuse(place, err, "give its folder", "an index, not a safetensors file");
    enum tp_status status = read_files(ck, &name, 1, NULL, err);
    if (!status && tp_name_ends(name, SUFFIX) && shard_of(name).role == ADAPTER)
        status = tp_checkpoint_note_add(ck, err, "by its name this is a LoRA adapter, not a model");
    return status;
}

/* ---- names that differ in case ---- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int by_folded_name(const void *left, const void *right)
{
    const char *a = *(const char *const *)left, *b = *(const char *const *)right;
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) - lower(*b);
}

static enum tp_status note_case_twins(struct tp_checkpoint *ck, const struct tp_place *place, struct tp_error *err)
{
    char one[TP_NAME_TEXT], two[TP_NAME_TEXT];
    const char **names = malloc((place->names.count + 1) * sizeof *names);
    size_t count = 0;
    enum tp_status status = names ? TP_OK : tp_fail_nomem(err);
    for (size_t i = 0; names && i < place->names.count; i++)
        if (tp_name_ends(place->names.items[i], SUFFIX))
            names[count++] = place->names.items[i];
    if (count > 1)
        qsort(names, count, sizeof *names, by_folded_name);
    for (size_t i = 1; !status && i < count; i++)
        if (by_folded_name(&names[i - 1], &names[i]) == 0)
            status =
                tp_checkpoint_note_add(ck, err, "%s and %s differ only in case; other systems take them for one file",
                                       tp_describe_name(one, names[i - 1], strlen(names[i - 1])),
                                       tp_describe_name(two, names[i], strlen(names[i])));
    free(names);
    return status;
}
