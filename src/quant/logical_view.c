/* SPDX-License-Identifier: MIT */
/* What a group would be decoded to, for those who only look: a scheme prepares it, and its name and shape are copied
 * out. */
#include <string.h>

#include "base/status.h"
#include "quant/decode.h"
#include "quant/refuse.h"

enum tp_status tp_checkpoint_check_decodable(const struct tp_checkpoint *ck, struct tp_error *err)
{
    return tp_quant_check_method(ck, err);
}

static void copy_out(struct tp_decoded_tensor *out, const struct tp_decoded *d)
{
    out->elem_count = d->elem_count;
    out->rank = d->rank;
    if (d->rank > 0)
        memcpy(out->shape, d->shape, d->rank * sizeof *out->shape);
    memcpy(out->name, d->name, d->name_len);
    out->name[d->name_len] = '\0';
}

enum tp_status tp_group_decoded(const struct tp_checkpoint *ck, uint32_t group_index, struct tp_decoded_tensor *out,
                                struct tp_error *err)
{
    const struct tp_group *group = tp_checkpoint_group(ck, group_index);
    const struct tp_tensor *codes = tp_checkpoint_tensor(ck, group->codes);
    struct tp_decoded d = {.scheme = tp_scheme_find(group->scheme), .ck = ck, .group = group, .codes = codes};
    struct tp_arena arena = {0};
    if (!d.scheme) {
        tp_fail(err, TP_ERR_UNSUPPORTED, "quantised as '%s', which cannot be decoded", group->scheme);
        tp_err_path(err, TP_ERR_UNSUPPORTED, tp_checkpoint_path(ck));
        return tp_err_tensor(err, TP_ERR_UNSUPPORTED, codes->name, codes->name_len);
    }
    enum tp_status status = d.scheme->prepare(&d, &arena, err);
    if (!status)
        copy_out(out, &d);
    tp_arena_release(&arena);
    return status;
}
