/* SPDX-License-Identifier: MIT */
/* A whole conversion of a small checkpoint: refused with a clear error, or verified against its source without a
 * difference. Afterwards a file of the output is damaged: verify finds it, whatever the manifest then says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "model.h"
#include "tensorport/verify.h"

static char first_difference[512];

static uint64_t differences(const char *source, bool quick)
{
    struct tp_verify_report report = {.difference_count = 0};
    struct tp_error err = {.code = TP_OK};
    struct tp_verify_options options = {
        .model = fuzz_path("out"), .source = source, .quick = quick, .rows = true, .workers = 1};
    enum tp_status status = tp_verify(&options, &report, &err);
    if (status) {
        fuzz_check_error(status, &err);
        return UINT64_MAX;
    }
    for (size_t i = 0; i < report.difference_shown; i++)
        fuzz_check_printable(report.differences[i], true);
    for (size_t i = 0; i < report.note_count; i++)
        fuzz_check_printable(report.notes[i], true);
    uint64_t count = report.difference_count;
    snprintf(first_difference, sizeof first_difference, "%s", count > 0 ? report.differences[0] : "");
    tp_verify_report_release(&report);
    return count;
}

static bool convert(struct tp_convert_options *options)
{
    struct tp_conversion *cv = NULL;
    struct tp_error err = {.code = TP_OK};
    struct tp_convert_report report = {.array_count = 0};
    enum tp_status status = tp_conversion_prepare(&cv, options, &err);
    if (status) {
        fuzz_check_error(status, &err);
        return false;
    }
    status = tp_conversion_run(cv, &report, &err);
    if (status)
        fuzz_check_error(status, &err);
    for (size_t i = 0; i < report.note_count; i++)
        fuzz_check_printable(report.notes[i], true);
    tp_convert_report_release(&report);
    tp_conversion_free(cv);
    return status == TP_OK;
}

/* Some bytes of one file become others, or its end is gone. True: it now is another file, and not the manifest. */
static bool damage(struct fuzz_bytes *in)
{
    struct tp_names names = {0};
    FUZZ_CHECK(tp_folder_list(&names, fuzz_path("out"), NULL) == TP_OK && names.count > 0);
    char name[512];
    size_t len, piece_len, at = (size_t)fuzz_number(in, 2), number = fuzz_choice(in, names.count);
    bool is_manifest = strcmp(names.items[number], "manifest.json") == 0;
    bool is_checked = !is_manifest && strcmp(names.items[number], ".gitattributes") != 0;
    snprintf(name, sizeof name, "out/%s", names.items[number]);
    tp_names_release(&names);
    char *before = fuzz_get(name, &len);
    FUZZ_CHECK(before != NULL);
    at = len > 0 ? at % len : 0;
    const uint8_t *piece = fuzz_piece(in, 60, &piece_len);
    bool shorter = piece_len == 0;
    piece_len = piece_len < len - at ? piece_len : len - at;
    bool changed = piece_len > 0 && memcmp(before + at, piece, piece_len) != 0;
    if (shorter)
        fuzz_put(name, before, at, 0);
    else if (piece_len > 0)
        fuzz_put_at(name, piece, piece_len, at);
    free(before);
    return is_checked && (changed || (shorter && len > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    struct fuzz_bytes in = {data, size};
    struct tp_convert_options options;
    struct model_globs globs;
    model_make(&model, &in, false);
    FUZZ_CHECK(tp_folder_make(fuzz_path("in"), NULL) == TP_OK);
    model_write(&model, &in, "in");
    model_options(&options, &globs, &in);
    options.input = fuzz_path("in");
    options.output = fuzz_path("out");
    unsigned flags = (unsigned)fuzz_number(&in, 1);
    options.workers = 1 + (flags & 1);
    options.sha256 = flags & 2;
    options.skip_verify = !(flags & 4);
    if (convert(&options)) {
        struct tp_checkpoint *ck = NULL;
        struct tp_error err = {.code = TP_OK};
        FUZZ_CHECK_SAYS(differences(fuzz_path("in"), false) == 0, first_difference);
        FUZZ_CHECK_SAYS(tp_checkpoint_open(&ck, fuzz_path("out"), NULL, &err) == TP_OK, err.message);
        fuzz_check_checkpoint(ck);
        tp_checkpoint_close(ck);
        bool damaged = damage(&in);
        FUZZ_CHECK(differences(flags & 8 ? fuzz_path("in") : NULL, flags & 16) > 0 || !damaged || (flags & 16));
    }
    model_release(&model);
    fuzz_clear();
    return 0;
}
