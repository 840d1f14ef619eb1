/* SPDX-License-Identifier: MIT */
/* One safetensors file. A header that stands for itself is framed here, since blind changes would hardly ever keep the
 * length right; raw files come too. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define NAME "model.safetensors"

/* The first byte: raw or framed. Framed: two bytes that say how much data, then the header. */
static void put_file(struct fuzz_bytes *in)
{
    if (fuzz_rarely(in, 4)) {
        fuzz_put(NAME, in->at, in->left, 0);
        return;
    }
    uint64_t data_bytes = fuzz_number(in, 2);
    uint8_t length[8];
    for (unsigned i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)in->left >> (8 * i));
    fuzz_put(NAME, length, 8, 8 + in->left + data_bytes);
    fuzz_put_at(NAME, in->at, in->left, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    struct tp_checkpoint *ck = NULL;
    struct tp_error err = {.code = TP_OK};
    put_file(&in);
    enum tp_status status = tp_checkpoint_open(&ck, fuzz_path(NAME), NULL, &err);
    if (status)
        fuzz_check_error(status, &err);
    else
        fuzz_check_checkpoint(ck);
    tp_checkpoint_close(ck);
    return 0;
}
