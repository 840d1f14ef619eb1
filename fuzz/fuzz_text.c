/* SPDX-License-Identifier: MIT */
/* Names on their way to a terminal and into JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "codec/json.h"
#include "fuzz.h"
#include "tensorport/text.h"

static bool is_utf8(const char *text, size_t len)
{
    uint32_t c;
    for (size_t i = 0, step; i < len; i += step)
        if ((step = tp_utf8_decode(text + i, len - i, &c)) == 0)
            return false;
    return true;
}

static void check_printable(const char *text, size_t len, size_t cap)
{
    char *dst = malloc(cap), *again = malloc(cap);
    FUZZ_CHECK(dst && again);
    FUZZ_CHECK(tp_text_printable(dst, cap, text, len) == dst);
    FUZZ_CHECK(strlen(dst) < cap);
    fuzz_check_printable(dst, false);
    FUZZ_CHECK(strcmp(tp_text_printable(again, cap, dst, strlen(dst)), dst) == 0); /* nothing is left to escape */
    free(dst);
    free(again);
}

/* Written as JSON and read again it is the same text. */
static void check_json(const char *text, size_t len, size_t cap)
{
    struct tp_error err = {.code = TP_OK};
    struct tp_json *json = NULL;
    struct tp_json_token token;
    size_t needed = tp_text_json(NULL, 0, text, len);
    char *small = malloc(cap), *quoted = malloc(needed + 3);
    FUZZ_CHECK(small && quoted && needed <= 6 * len);
    FUZZ_CHECK(tp_text_json(small, cap, text, len) == needed && memchr(small, '\0', cap));
    FUZZ_CHECK(tp_text_json(quoted + 1, needed + 1, text, len) == needed && quoted[1 + needed] == '\0');
    quoted[0] = quoted[1 + needed] = '"';
    FUZZ_CHECK(tp_json_open_text(&json, quoted, needed + 2, "text", len + 1, &err) == TP_OK);
    bool accepted = tp_json_next(json, &token, &err) == TP_OK;
    FUZZ_CHECK(accepted == is_utf8(text, len));
    FUZZ_CHECK(!accepted || (token.type == TP_JSON_STRING && token.len == len && memcmp(token.text, text, len) == 0));
    tp_json_close(json);
    free(small);
    free(quoted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    size_t cap = 4 + (size_t)fuzz_number(&in, 1);
    check_printable((const char *)in.at, in.left, cap);
    check_printable((const char *)in.at, in.left, 8 * in.left + 16);
    check_json((const char *)in.at, in.left, cap);
    return 0;
}
