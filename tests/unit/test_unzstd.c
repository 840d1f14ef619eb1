/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "codec/unzstd.h"

enum { PLAIN = 300000 };

struct frame {
    uint8_t plain[PLAIN];
    uint8_t packed[PLAIN + 4096];
    size_t packed_len;
};

static struct frame *frame_make(int window_log)
{
    struct frame *f = calloc(1, sizeof *f);
    assert_non_null(f);
    for (size_t i = 0; i < PLAIN; i++)
        f->plain[i] = (uint8_t)(i * i >> 7 ^ i);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    ZSTD_inBuffer in = {f->plain, PLAIN, 0};
    ZSTD_outBuffer out = {f->packed, sizeof f->packed, 0};
    ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue); /* so that the size is not known, and the window kept */
    assert_int_equal(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0);
    f->packed_len = out.pos;
    ZSTD_freeCCtx(context);
    return f;
}

static void a_stream_is_the_same_in_pieces_of_any_size(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 1000, 1 << 20};
    struct frame *f = frame_make(17);
    uint8_t *out = malloc(PLAIN);
    struct tp_unzstd *stream = tp_unzstd_new();
    struct tp_error err;
    for (size_t i = 0; i < TP_COUNT_OF(steps); i++)
        for (size_t k = 0; k < TP_COUNT_OF(steps); k++) {
            size_t in_at = 0, out_at = 0;
            bool at_end = false;
            tp_unzstd_restart(stream);
            while (!at_end) {
                size_t in_len = f->packed_len - in_at, out_len = PLAIN - out_at, got, used;
                in_len = in_len < steps[i] ? in_len : steps[i];
                out_len = out_len < steps[k] ? out_len : steps[k];
                assert_int_equal(tp_unzstd_next(stream, out + out_at, out_len, &got, f->packed + in_at, in_len, &used,
                                                &at_end, &err),
                                 TP_OK);
                assert_true(got + used > 0 || at_end);
                in_at += used;
                out_at += got;
            }
            assert_int_equal(in_at, f->packed_len);
            assert_int_equal(out_at, PLAIN);
            assert_memory_equal(out, f->plain, PLAIN);
        }
    tp_unzstd_free(stream);
    free(out);
    free(f);
}

static void a_whole_text_is_decoded_up_to_its_limit_and_no_further(void **state)
{
    (void)state;
    struct frame *f = frame_make(17);
    struct tp_error err;
    uint8_t *out;
    size_t len;
    assert_int_equal(tp_unzstd_all(&out, &len, f->packed, f->packed_len, PLAIN, "x", &err), TP_OK);
    assert_int_equal(len, PLAIN);
    assert_memory_equal(out, f->plain, PLAIN);
    free(out);
    assert_int_equal(tp_unzstd_all(&out, &len, f->packed, f->packed_len, PLAIN - 1, "x", &err), TP_ERR_LIMIT);
    assert_string_equal(err.message, "x: it decompresses to more than 299999 bytes");
    free(f);
}

static void what_is_cut_or_no_stream_or_has_too_large_a_window_is_refused(void **state)
{
    (void)state;
    struct frame *f = frame_make(17);
    struct tp_error err;
    uint8_t *out;
    size_t len;
    for (size_t cut = 0; cut < f->packed_len; cut += cut < 100 ? 1 : 997)
        assert_int_equal(tp_unzstd_all(&out, &len, f->packed, cut, 1 << 20, "x", &err), TP_ERR_FORMAT);
    f->packed[f->packed_len] = 'x'; /* no second frame */
    assert_int_equal(tp_unzstd_all(&out, &len, f->packed, f->packed_len + 1, 1 << 20, "x", &err), TP_ERR_FORMAT);
    f->packed[0] ^= 1;
    assert_int_equal(tp_unzstd_all(&out, &len, f->packed, f->packed_len, 1 << 20, "x", &err), TP_ERR_FORMAT);
    free(f);
    f = frame_make(28);
    assert_int_equal(tp_unzstd_all(&out, &len, f->packed, f->packed_len, 1 << 20, "x", &err), TP_ERR_LIMIT);
    assert_non_null(strstr(err.message, "128 MiB"));
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_the_same_in_pieces_of_any_size),
        cmocka_unit_test(a_whole_text_is_decoded_up_to_its_limit_and_no_further),
        cmocka_unit_test(what_is_cut_or_no_stream_or_has_too_large_a_window_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
