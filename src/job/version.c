/* SPDX-License-Identifier: MIT */
#include "kernels/kernels.h"
#include "tensorport/tensorport.h"

const char *tp_version(void)
{
    return TP_VERSION;
}

const char *tp_cpu_level(const char *wanted)
{
    struct tp_kernels k;
    return tp_kernels_init(&k, wanted) ? tp_level_name(k.level) : NULL;
}
