/* SPDX-License-Identifier: MIT */
/* How each array of a finished checkpoint comes from a source: by name, with the cast that its dtype shows. With a
 * manifest's options also whether it is what the conversion would make today. */
#ifndef TP_JOB_DERIVE_H
#define TP_JOB_DERIVE_H

#include "plan/plan.h"

struct tp_derive {
    struct tp_plan *plan; /* arrays with their extents; derive adds logicals, pieces and operations. Arrays that the
                           * source cannot give lose their extents (they have been reported) */
    const struct tp_checkpoint *model, *source;
    const struct tp_checkpoint *original;     /* of the way back of a map, or NULL */
    const struct tp_convert_options *options; /* of the manifest, or NULL */
    struct tp_plan_traits traits;             /* of the model's format */
    const uint32_t *array_tensor;             /* by array: the model's tensor */
    enum tp_status (*differ)(void *user, const char *text);
    void *user;
};
enum tp_status tp_derive(struct tp_derive *d, struct tp_error *err);

#endif
