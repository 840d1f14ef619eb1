/* SPDX-License-Identifier: MIT */
/* Opening a checkpoint: print every tensor's dtype, shape and name. Only headers are read.
 *
 *     cc -o list_tensors list_tensors.c $(pkg-config --cflags --libs tensorport)
 *     ./list_tensors models/llama */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <tensorport/tensorport.h>

static void print_tensor(const struct tp_tensor *tensor)
{
    char name[1024];
    const char *dtype = tp_dtype_numpy_name((enum tp_dtype)tensor->dtype);
    printf("%-16s %12" PRIu64 " bytes  %s [", dtype, tensor->size_bytes,
           tp_text_printable(name, sizeof name, tensor->name, tensor->name_len)); /* names come from files */
    for (unsigned axis = 0; axis < tensor->rank; axis++)
        printf(axis ? ", %" PRIu64 : "%" PRIu64, tensor->shape[axis]);
    printf("]\n");
}

int main(int argc, char **argv)
{
    struct tp_checkpoint *checkpoint;
    struct tp_error err;
    if (argc != 2) {
        fprintf(stderr, "usage: list_tensors PATH\n");
        return 2;
    }
    if (tp_checkpoint_open(&checkpoint, argv[1], NULL, &err) != TP_OK) {
        fprintf(stderr, "%s: %s\n%s\n", err.path, err.message, err.hint);
        return tp_status_exit_code(err.code);
    }
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(checkpoint); i++)
        print_tensor(tp_checkpoint_tensor(checkpoint, i));
    printf("%" PRIu64 " parameters in %u files\n", tp_checkpoint_parameter_count(checkpoint),
           (unsigned)tp_checkpoint_file_count(checkpoint));
    tp_checkpoint_close(checkpoint);
    return 0;
}
