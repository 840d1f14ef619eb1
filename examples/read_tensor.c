/* SPDX-License-Identifier: MIT */
/* Reading values: the mean and the largest magnitude of one tensor, whatever its dtype, in a buffer of fixed size.
 *
 *     cc -o read_tensor read_tensor.c $(pkg-config --cflags --libs tensorport) -lm
 *     ./read_tensor models/llama model.norm.weight */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include <tensorport/tensorport.h>

enum { BUFFER_ELEMS = 65536 };

static enum tp_status print_mean(const struct tp_checkpoint *checkpoint, const struct tp_tensor *tensor,
                                 struct tp_error *err)
{
    static float values[BUFFER_ELEMS];
    double sum = 0;
    double largest = 0;
    for (uint64_t first = 0; first < tensor->elem_count; first += BUFFER_ELEMS) {
        uint64_t rest = tensor->elem_count - first;
        size_t count = rest < BUFFER_ELEMS ? (size_t)rest : BUFFER_ELEMS;
        enum tp_status status = tp_tensor_read_f32(checkpoint, tensor, first, count, values, err);
        if (status != TP_OK)
            return status;
        for (size_t i = 0; i < count; i++) {
            sum += (double)values[i];
            largest = fmax(largest, fabs((double)values[i]));
        }
    }
    printf("%" PRIu64 " values, mean %.9g, largest magnitude %.9g\n", tensor->elem_count,
           tensor->elem_count ? sum / (double)tensor->elem_count : 0, largest);
    return TP_OK;
}

int main(int argc, char **argv)
{
    struct tp_checkpoint *checkpoint;
    struct tp_error err;
    if (argc != 3) {
        fprintf(stderr, "usage: read_tensor PATH NAME\n");
        return 2;
    }
    enum tp_status status = tp_checkpoint_open(&checkpoint, argv[1], NULL, &err);
    if (status == TP_OK) {
        const struct tp_tensor *tensor = tp_checkpoint_find(checkpoint, argv[2]);
        if (tensor)
            status = print_mean(checkpoint, tensor, &err);
        else
            printf("no such tensor\n");
        tp_checkpoint_close(checkpoint);
    }
    if (status != TP_OK)
        fprintf(stderr, "%s: %s\n%s\n", err.path, err.message, err.hint);
    return tp_status_exit_code(status);
}
