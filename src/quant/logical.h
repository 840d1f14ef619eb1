/* SPDX-License-Identifier: MIT */
/* A logical tensor: what the plan and the pipeline see. It answers one question, the elements of a run, whether they
 * lie plainly in a file or have to be made. Today all are plain: a source tensor, or its bytes under another
 * dtype (a view). A decoder will be one more field here and one more branch in tp_logical_read. */
#ifndef TP_QUANT_LOGICAL_H
#define TP_QUANT_LOGICAL_H

#include "tensorport/checkpoint.h"

struct tp_logical {
    const struct tp_tensor *tensor;
    uint8_t dtype; /* enum tp_dtype that the elements are read as; U8 for a view of F4 counts bytes, two codes each */
};

/* Elements [first, first + count), row-major, to dst. F4: first and count are even, or reach the end. Thread-safe. */
enum tp_status tp_logical_read(const struct tp_checkpoint *ck, const struct tp_logical *logical, uint64_t first,
                               uint64_t count, void *dst, struct tp_error *err);

#endif
