/* SPDX-License-Identifier: MIT */
/* What a checkpoint holds. */
#include "survey.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

uint64_t survey_parameters(const struct tp_checkpoint *ck, uint32_t index)
{
    const struct tp_tensor *tensor = tp_checkpoint_tensor(ck, index);
    if (tensor->group == TP_NO_GROUP)
        return tensor->elem_count;
    const struct tp_group *group = tp_checkpoint_group(ck, tensor->group);
    return group->codes == index ? group->parameter_count : 0;
}

/* Schemes beyond the table's room share its last row; there are not that many. */
static struct survey_row *scheme_row(struct survey_row *schemes, const char *scheme)
{
    size_t i = 0;
    while (i + 1 < SURVEY_SCHEME_MAX && schemes[i].scheme && strcmp(schemes[i].scheme, scheme) != 0)
        i++;
    if (!schemes[i].scheme)
        schemes[i].scheme = scheme;
    return &schemes[i];
}

/* Parameters by what they are for, where names tell. */
struct roles {
    uint64_t experts;   /* ".experts." between dots */
    uint64_t embedding; /* the table that a token only looks up one row of */
    bool has_head;      /* a table of its own for the output; else the embedding is that too */
};

static bool ends_in(const char *name, const char *const *endings)
{
    size_t len = strlen(name);
    for (; *endings; endings++) {
        size_t n = strlen(*endings);
        if (len >= n && strcmp(name + len - n, *endings) == 0)
            return true;
    }
    return false;
}

static void add_role(struct roles *roles, const char *name, uint64_t parameters)
{
    static const char *const embeddings[] = {"embed_tokens.weight", "wte.weight", "tok_embeddings.weight", NULL};
    static const char *const heads[] = {"lm_head.weight", "unembedding.weight", "output.weight", NULL};
    if (strstr(name, ".experts."))
        roles->experts += parameters;
    else if (ends_in(name, embeddings) || strcmp(name, "embedding.weight") == 0)
        roles->embedding += parameters;
    else if (ends_in(name, heads))
        roles->has_head = true;
}

/* All but the experts that a token does not use, and but the input table where the output has its own. */
static uint64_t active_parameters(const struct tp_checkpoint *ck, uint64_t all, const struct roles *roles)
{
    const struct tp_model_facts *facts = tp_checkpoint_facts(ck);
    uint64_t experts = roles->experts;
    if (experts == 0 || facts->expert_count == 0 || facts->experts_per_token == 0 ||
        facts->experts_per_token > facts->expert_count)
        return 0;
    double unused = 1 - (double)facts->experts_per_token / (double)facts->expert_count;
    return all - (uint64_t)((double)experts * unused + 0.5) - (roles->has_head ? roles->embedding : 0);
}

static int by_bytes(const void *a_, const void *b_)
{
    const struct survey_row *a = a_;
    const struct survey_row *b = b_;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    return strcmp(survey_row_name(a), survey_row_name(b));
}

/* Drop the rows that counted nothing, and order the others. */
static void rows_finish(struct survey *survey)
{
    for (size_t i = 0; i < SURVEY_ROW_MAX; i++) {
        if (survey->rows[i].count > 0)
            survey->rows[survey->row_count++] = survey->rows[i];
    }
    qsort(survey->rows, survey->row_count, sizeof survey->rows[0], by_bytes);
}

void survey_take(struct survey *survey, const struct tp_checkpoint *ck)
{
    struct survey_row *schemes = survey->rows + TP_DTYPE_COUNT;
    struct roles roles = {0};
    memset(survey, 0, sizeof *survey);
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(ck); i++) {
        const struct tp_tensor *tensor = tp_checkpoint_tensor(ck, i);
        uint64_t parameters = survey_parameters(ck, i);
        bool grouped = tensor->group != TP_NO_GROUP;
        struct survey_row *row = grouped ? scheme_row(schemes, tp_checkpoint_group(ck, tensor->group)->scheme)
                                         : &survey->rows[tensor->dtype];
        row->dtype = (enum tp_dtype)tensor->dtype;
        row->count += !grouped || tp_checkpoint_group(ck, tensor->group)->codes == i;
        row->bytes += tensor->size_bytes;
        row->parameters += parameters;
        row->members[tensor->dtype]++;
        survey->bytes += tensor->size_bytes;
        add_role(&roles, tensor->name, parameters);
        if (!survey->largest || tensor->size_bytes > survey->largest->size_bytes)
            survey->largest = tensor;
    }
    survey->parameters = tp_checkpoint_parameter_count(ck);
    survey->active_parameters = active_parameters(ck, survey->parameters, &roles);
    rows_finish(survey);
}

const char *survey_dtype_name(enum tp_dtype dtype)
{
    const char *name = tp_dtype_name(dtype);
    return name ? name : tp_dtype_numpy_name(dtype);
}

const char *survey_row_name(const struct survey_row *row)
{
    return row->scheme ? row->scheme : survey_dtype_name(row->dtype);
}

void survey_list_dtypes(const struct survey *survey, char *dst, size_t cap)
{
    size_t used = (size_t)snprintf(dst, cap, "%s", survey->row_count ? "" : "empty");
    for (size_t i = 0; i < survey->row_count && used < cap; i++)
        used += (size_t)snprintf(dst + used, cap - used, "%s%s %s", i ? ", " : "",
                                 text_lower(survey_row_name(&survey->rows[i])).s, text_count(survey->rows[i].count).s);
}
