/* SPDX-License-Identifier: MIT */
/* What a checkpoint holds, counted once: by dtype, by quantisation scheme, in all. */
#ifndef CLI_SURVEY_H
#define CLI_SURVEY_H

#include <tensorport/tensorport.h>

enum { SURVEY_SCHEME_MAX = 24, SURVEY_ROW_MAX = TP_DTYPE_COUNT + SURVEY_SCHEME_MAX };

/* A dtype, or the groups of one scheme, whose members are then in no dtype's row. */
struct survey_row {
    const char *scheme; /* NULL: a dtype */
    enum tp_dtype dtype;
    uint64_t count; /* tensors, or groups */
    uint64_t bytes;
    uint64_t parameters;
    uint32_t members[TP_DTYPE_COUNT]; /* scheme: its tensors, by dtype */
};

struct survey {
    struct survey_row rows[SURVEY_ROW_MAX]; /* by bytes, most first */
    size_t row_count;
    uint64_t bytes, parameters;
    uint64_t active_parameters;      /* that one token uses, of a mixture of experts; 0: not known */
    const struct tp_tensor *largest; /* NULL: no tensor at all */
};

void survey_take(struct survey *survey, const struct tp_checkpoint *ck);

const char *survey_row_name(const struct survey_row *row);                   /* "BF16", "mxfp4" */
void survey_list_dtypes(const struct survey *survey, char *dst, size_t cap); /* "bf16 363, mxfp4 48" */

/* "BF16"; for a dtype that safetensors has not, NumPy's name. */
const char *survey_dtype_name(enum tp_dtype dtype);

/* Values that a tensor stands for: codes count as what they decode to, their scales as none. */
uint64_t survey_parameters(const struct tp_checkpoint *ck, uint32_t tensor);

#endif
