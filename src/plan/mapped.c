/* SPDX-License-Identifier: MIT */
#include "plan/mapped.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "plan/plan.h"

/* ---- what the map wants decoded ---- */

static bool has_scheme(const struct tp_checkpoint *ck, const char *scheme)
{
    for (uint32_t i = 0; i < tp_checkpoint_group_count(ck); i++)
        if (strcmp(scheme, "any") == 0 || strcmp(tp_checkpoint_group(ck, i)->scheme, scheme) == 0)
            return true;
    return false;
}

struct tp_convert_options tp_mapped_options(const struct tp_convert_options *options, const struct tp_checkpoint *ck)
{
    struct tp_convert_options all = *options;
    if (!options->map || options->reverse)
        return all;
    const struct tp_map_decode *decode = tp_map_decode_of(options->map);
    if (!has_scheme(ck, decode->scheme))
        return all;
    all.dequantize = true;
    all.mxfp4_positive_zero |= decode->positive_zero;
    return all;
}

/* ---- what the map sees ---- */

static const char *file_of(const struct tp_checkpoint *ck, const struct tp_logical *l)
{
    const struct tp_tensor *t = l->tensor;
    bool lies_in_file = t->extent_count > 0 && t->extents[0].file < tp_checkpoint_file_count(ck);
    return lies_in_file ? tp_checkpoint_file(ck, t->extents[0].file)->name : "";
}

static enum tp_status make_sources(struct tp_mapped *mapped, const struct tp_checkpoint *ck,
                                   const struct tp_logical *logicals, size_t count, struct tp_error *err)
{
    mapped->sources = malloc((count + 1) * sizeof *mapped->sources);
    if (!mapped->sources)
        return tp_fail_nomem(err);
    for (size_t i = 0; i < count; i++) {
        const struct tp_logical *l = &logicals[i];
        mapped->sources[i] = (struct tp_map_source){
            .name = tp_logical_name(l),
            .name_len = tp_logical_name_len(l),
            .file = file_of(ck, l),
            .shape = tp_logical_shape(l),
            .rank = tp_logical_rank(l),
            .dtype = l->dtype,
            .is_packed = tp_dtype_bits((enum tp_dtype)l->dtype) < 8 || tp_logical_group(l) != TP_NO_GROUP,
        };
    }
    return TP_OK;
}

static enum tp_status read_config(struct tp_mapped *mapped, const struct tp_checkpoint *ck, struct tp_error *err)
{
    char *text = NULL;
    size_t len = 0;
    enum tp_status st = tp_checkpoint_config_text(ck, &text, &len, err);
    if (!st)
        st = tp_config_numbers_read(&mapped->config, text, len, err);
    free(text);
    return st;
}

/* ---- applying ---- */

enum tp_status tp_mapped_make(struct tp_mapped *mapped, const struct tp_checkpoint *ck,
                              const struct tp_logical *logicals, size_t count, const struct tp_convert_options *options,
                              const struct tp_map_expected *expected, size_t expected_count, struct tp_error *err)
{
    *mapped = (struct tp_mapped){.config = NULL};
    enum tp_status st = options->reverse ? tp_map_invert(&mapped->inverse, options->map, err) : TP_OK;
    if (!st)
        st = make_sources(mapped, ck, logicals, count, err);
    if (!st)
        st = read_config(mapped, ck, err);
    if (st)
        return st;
    struct tp_map_question question = {.map = options->reverse ? mapped->inverse : options->map,
                                       .config = mapped->config,
                                       .sources = mapped->sources,
                                       .source_count = count,
                                       .expected = expected,
                                       .expected_count = expected_count,
                                       .precision = (uint8_t)tp_precision_dtype(options->precision)};
    return tp_map_apply(&mapped->result, &question, err);
}

void tp_mapped_release(struct tp_mapped *mapped)
{
    tp_map_result_release(&mapped->result);
    free(mapped->sources);
    tp_config_numbers_free(mapped->config);
    tp_map_release(mapped->inverse);
    *mapped = (struct tp_mapped){.config = NULL};
}
