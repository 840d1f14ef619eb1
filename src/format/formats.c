/* SPDX-License-Identifier: MIT */
/* The output formats: one row each. */
#include <string.h>

#include "format/format.h"

static const struct tp_format *const formats[] = {&tp_format_flax_msgpack, &tp_format_safetensors, &tp_format_orbax,
                                                  &tp_format_jax_pytree};

const struct tp_format *tp_format_find(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(formats); i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    return NULL;
}
