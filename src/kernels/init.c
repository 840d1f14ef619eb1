/* SPDX-License-Identifier: MIT */
/* Choosing a level: the scalar table first, then each level that this CPU has overwrites what it improves. */
#include "kernels/kernels.h"
#include "os/host.h"

#include <string.h>

static const char *const level_names[TP_LEVEL_COUNT] = {
    [TP_LEVEL_SCALAR] = "scalar",
    [TP_LEVEL_NEON] = "neon",
    [TP_LEVEL_AVX2] = "avx2",
    [TP_LEVEL_AVX512] = "avx512",
};

const char *tp_level_name(enum tp_level level)
{
    return (unsigned)level < TP_LEVEL_COUNT ? level_names[level] : "unknown";
}

/* Whether this build holds the level and this CPU runs it. */
static bool level_available(enum tp_level level, const struct tp_cpu_features *cpu)
{
    switch (level) {
    case TP_LEVEL_SCALAR:
        return true;
#if defined(TP_HAVE_NEON)
    case TP_LEVEL_NEON:
        return cpu->neon;
#endif
#if defined(TP_HAVE_X86)
    case TP_LEVEL_AVX2:
        return cpu->avx2;
    case TP_LEVEL_AVX512:
        return cpu->avx512;
#endif
    default:
        (void)cpu;
        return false;
    }
}

static void level_init(enum tp_level level, struct tp_kernels *k)
{
    switch (level) {
#if defined(TP_HAVE_NEON)
    case TP_LEVEL_NEON:
        tp_kernels_init_neon(k);
        break;
#endif
#if defined(TP_HAVE_X86)
    case TP_LEVEL_AVX2:
        tp_kernels_init_avx2(k);
        break;
    case TP_LEVEL_AVX512:
        tp_kernels_init_avx512(k);
        break;
#endif
    default:
        tp_kernels_init_scalar(k);
        break;
    }
}

static enum tp_level level_named(const char *name)
{
    for (unsigned level = 0; level < TP_LEVEL_COUNT; level++)
        if (strcmp(name, level_names[level]) == 0)
            return (enum tp_level)level;
    return TP_LEVEL_COUNT;
}

bool tp_kernels_init(struct tp_kernels *k, const char *wanted)
{
    struct tp_cpu_features cpu;
    tp_host_cpu_features(&cpu);
    enum tp_level highest = TP_LEVEL_COUNT - 1;
    if (wanted) {
        highest = level_named(wanted);
        if (!level_available(highest, &cpu))
            return false;
    }
    for (unsigned level = 0; level <= (unsigned)highest; level++)
        if (level_available((enum tp_level)level, &cpu))
            level_init((enum tp_level)level, k);
    return true;
}
