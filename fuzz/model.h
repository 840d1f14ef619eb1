/* SPDX-License-Identifier: MIT */
/* A checkpoint made from an input: well framed, of quantised weights that are right but for what the input changes.
 * Bytes that were changed blindly would never get past the names, dtypes and shapes that make a group. */
#ifndef TP_FUZZ_MODEL_H
#define TP_FUZZ_MODEL_H

#include "fuzz.h"
#include "tensorport/convert.h"

#define MODEL_TENSORS_MAX 24u
#define MODEL_NAME_MAX 96u
#define MODEL_RANK_MAX 5u

struct model_tensor {
    char name[MODEL_NAME_MAX];
    enum tp_dtype dtype;
    unsigned rank;
    uint64_t shape[MODEL_RANK_MAX];
    uint64_t size_bytes;
    uint8_t *bytes; /* malloc'd; the first `len` of them, zeros follow */
    size_t len;
};

struct model {
    struct model_tensor tensors[MODEL_TENSORS_MAX];
    size_t count;
    char config[2048];
    size_t config_len;
};

/* From an input. `huge`: dimensions may be absurd, files terabytes of zeros. */
void model_make(struct model *model, struct fuzz_bytes *in, bool huge);
/* Its files in the fuzz folder's folder `name` ("" for itself): config.json, one or two safetensors files. */
void model_write(const struct model *model, struct fuzz_bytes *in, const char *name);
void model_release(struct model *model);

/* Options from an input; `globs` must outlive them. */
struct model_globs {
    const char *items[3];
};
void model_options(struct tp_convert_options *options, struct model_globs *globs, struct fuzz_bytes *in);

#endif
