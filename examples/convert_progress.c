/* SPDX-License-Identifier: MIT */
/* Converting: look at the plan, run it with a progress callback, read the report.
 *
 *     cc -o convert_progress convert_progress.c $(pkg-config --cflags --libs tensorport)
 *     ./convert_progress models/llama models/llama-jax */
#include <inttypes.h>
#include <stdio.h>

#include <tensorport/tensorport.h>

/* Called about ten times a second, in the thread that called tp_conversion_run. Returning non-zero would stop it. */
static int on_progress(void *user, const struct tp_progress *progress)
{
    FILE *out = user;
    double share = progress->total_bytes ? (double)progress->done_bytes / (double)progress->total_bytes : 1;
    fprintf(out, "%s %3.0f %%\n", progress->phase == TP_PHASE_VERIFY ? "verify " : "convert", 100 * share);
    return 0;
}

/* Values that do not fit stop a conversion (on_overflow could say otherwise); the report then names every tensor. */
static void print_overflow(const struct tp_convert_report *report)
{
    for (size_t i = 0; i < report->value_count; i++)
        fprintf(stderr, "  %s: %" PRIu64 " values too large, from %g to %g\n", report->values[i].name,
                report->values[i].overflow_count, report->values[i].min, report->values[i].max);
}

static enum tp_status convert(struct tp_conversion *conversion, struct tp_error *err)
{
    struct tp_convert_report report = {.array_count = 0};
    struct tp_plan_totals totals;
    tp_conversion_totals(conversion, &totals);
    printf("%" PRIu64 " arrays to %u files, %" PRIu64 " bytes\n", totals.array_count, (unsigned)totals.file_count,
           totals.output_bytes);
    enum tp_status status = tp_conversion_run(conversion, &report, err);
    if (status == TP_OK)
        printf("%s, %s\n", report.manifest_path, report.verified ? "verified" : "not verified");
    else if (status == TP_ERR_VALUE)
        print_overflow(&report);
    tp_convert_report_release(&report);
    return status;
}

int main(int argc, char **argv)
{
    struct tp_conversion *conversion = NULL;
    struct tp_error err;
    if (argc != 3) {
        fprintf(stderr, "usage: convert_progress CHECKPOINT OUTPUT\n");
        return 2;
    }
    struct tp_convert_options options = {
        /* what is not named is zero, and zero is the default of everything */
        .input = argv[1],        .output = argv[2],       .precision = TP_PRECISION_FLOAT16,
        .progress = on_progress, .progress_user = stdout,
    };
    enum tp_status status = tp_conversion_prepare(&conversion, &options, &err);
    if (status == TP_OK)
        status = convert(conversion, &err);
    if (status != TP_OK)
        fprintf(stderr, "%s: %s\n%s\n", err.path, err.message, err.hint);
    tp_conversion_free(conversion);
    return tp_status_exit_code(status);
}
