/* SPDX-License-Identifier: MIT */
/* config.json and hf_quant_config.json: read, and copied without what they say of quantisation. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "job/config_copy.h"

static const char file[] =
    "\x8f\0\0\0\0\0\0\0{\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
    "\"model.embed_tokens.weight\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[4,4]}}\0\0\0\0";

static void check_fact(const char *text)
{
    FUZZ_CHECK(!text || strlen(text) <= TP_NAME_MAX_BYTES);
}

static void check_reading(void)
{
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    fuzz_put("model.safetensors", file, sizeof file - 1, 0);
    enum tp_status status = tp_checkpoint_open(&ck, fuzz_folder(), NULL, &err);
    FUZZ_CHECK_SAYS(status == TP_OK, err.message); /* a checkpoint is its tensors */
    fuzz_check_checkpoint(ck);
    const struct tp_model_facts *facts = tp_checkpoint_facts(ck);
    check_fact(facts->architecture);
    check_fact(facts->model_type);
    check_fact(facts->torch_dtype);
    check_fact(facts->quant_method);
    FUZZ_CHECK(facts->tie_word_embeddings >= -1 && facts->tie_word_embeddings <= 1);
    tp_checkpoint_close(ck);
}

static bool copy(const char *from, const char *to)
{
    struct tp_text_file out;
    struct tp_error err = {.code = TP_OK};
    bool changed = false;
    FUZZ_CHECK(tp_text_file_open(&out, fuzz_folder(), to, fuzz_kernels(), &err) == TP_OK);
    enum tp_status status = tp_config_copy(fuzz_path(from), &out, &changed, &err);
    status = tp_text_file_close(&out, status, false, NULL, &err);
    FUZZ_CHECK_SAYS(status == TP_OK, err.message);
    return changed;
}

static bool same(const char *a, const char *b)
{
    size_t a_len, b_len;
    char *a_bytes = fuzz_get(a, &a_len), *b_bytes = fuzz_get(b, &b_len);
    bool equal = a_bytes && b_bytes && a_len == b_len && memcmp(a_bytes, b_bytes, a_len) == 0;
    free(a_bytes);
    free(b_bytes);
    return equal;
}

/* What was left out is not there to be left out again. */
static void check_copy(void)
{
    bool changed = copy("config.json", "copy.json");
    FUZZ_CHECK(changed || same("config.json", "copy.json"));
    FUZZ_CHECK(!copy("copy.json", "again.json") && same("copy.json", "again.json"));
}

/* config.json, or after a 0xff (which is nowhere in UTF-8) hf_quant_config.json. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0xff, size) : NULL;
    size_t len = end ? (size_t)(end - data) : size;
    fuzz_put("config.json", data, len, 0);
    if (end)
        fuzz_put("hf_quant_config.json", end + 1, size - len - 1, 0);
    check_reading();
    check_copy();
    fuzz_clear();
    return 0;
}
