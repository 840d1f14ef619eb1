/* SPDX-License-Identifier: MIT */
/* A folder: which files it has under which names, and what an index says of them. The files are sound or are not
 * safetensors at all: what is wrong within them is fuzz_safetensors.c's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static const char *const names[] = {
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model-00003-of-00002.safetensors",
    "model-00000-of-00001.safetensors",
    "Model.safetensors",
    "model.fp16.safetensors",
    "model.fp16-00001-of-00001.safetensors",
    "model-00001-of-00001.fp16.safetensors",
    "consolidated.safetensors",
    "consolidated.00.safetensors",
    "adapter_model.safetensors",
    "optimizer.safetensors",
    "other.safetensors",
    "-of-1.safetensors",
    ".safetensors",
    "model-99999999999999999999-of-99999999999999999999.safetensors",
    "model.bin",
    "model.safetensors.incomplete",
};
static const char *const index_names[] = {"model.safetensors.index.json", "model.fp16.safetensors.index.json",
                                          "other.safetensors.index.json"};

/* Up to eight tensors of four bytes, as the bits of `mask` say: "a" to "h". */
static void put_safetensors(const char *name, unsigned mask)
{
    char header[1024];
    size_t used = 8, offset = 0;
    header[used++] = '{';
    for (unsigned i = 0; i < 8; i++)
        if (mask & 1u << i) {
            int len = snprintf(header + used, sizeof header - used,
                               "%s\"%c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
                               offset > 0 ? "," : "", 'a' + i, offset, offset + 4);
            used += (size_t)len;
            offset += 4;
        }
    header[used++] = '}';
    for (unsigned i = 0; i < 8; i++)
        header[i] = (char)((uint64_t)(used - 8) >> (8 * i));
    fuzz_put(name, header, used, used + offset);
}

/* A name of the table, or any that a file can have. */
static const char *choose_name(struct fuzz_bytes *in, char text[64])
{
    size_t len, which = fuzz_choice(in, TP_COUNT_OF(names) + 1);
    if (which < TP_COUNT_OF(names))
        return names[which];
    const uint8_t *piece = fuzz_piece(in, 40, &len);
    snprintf(text, 64, "x%.*s.safetensors", (int)len, (const char *)piece);
    for (char *p = text; *p; p++)
        if (*p == '/')
            *p = '_';
    return text;
}

static void put_file(struct fuzz_bytes *in)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n";
    char text[64];
    size_t len;
    const char *name = choose_name(in, text);
    switch (fuzz_choice(in, 8)) {
    default:
        put_safetensors(name, (unsigned)fuzz_number(in, 1));
        break;
    case 5:
        fuzz_put(name, pointer, sizeof pointer - 1, 0);
        break;
    case 6: {
        const uint8_t *piece = fuzz_piece(in, 40, &len);
        fuzz_put(name, piece, len, 0);
        break;
    }
    case 7:
        tp_path_remove(fuzz_path(name), NULL);
        FUZZ_CHECK(tp_folder_make(fuzz_path(name), NULL) == TP_OK);
        break;
    }
}

/* Number of files, files, then the index (or none). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    size_t count = fuzz_choice(&in, 6);
    for (size_t i = 0; i < count; i++)
        put_file(&in);
    struct tp_open_options options = {.ignore_index = fuzz_rarely(&in, 8)};
    size_t index = fuzz_choice(&in, TP_COUNT_OF(index_names) + 1);
    if (index < TP_COUNT_OF(index_names))
        fuzz_put(index_names[index], in.at, in.left, 0);
    enum tp_status status = tp_checkpoint_open(&ck, fuzz_folder(), &options, &err);
    if (status)
        fuzz_check_error(status, &err);
    else
        fuzz_check_checkpoint(ck);
    tp_checkpoint_close(ck);
    fuzz_clear();
    return 0;
}
