/* SPDX-License-Identifier: MIT */
/* Option values by name. */
#include "manifest/manifest.h"

const char *tp_precision_name(enum tp_precision value)
{
    static const char *const names[] = {"float16", "float32", "bfloat16", "keep"};
    return (size_t)value < TP_COUNT_OF(names) ? names[value] : NULL;
}

const char *tp_overflow_name(enum tp_overflow value)
{
    static const char *const names[] = {"error", "saturate", "inf"};
    return (size_t)value < TP_COUNT_OF(names) ? names[value] : NULL;
}

const char *tp_oversize_name(enum tp_oversize value)
{
    static const char *const names[] = {"split", "own-shard", "error"};
    return (size_t)value < TP_COUNT_OF(names) ? names[value] : NULL;
}

const char *tp_tree_name(enum tp_tree value)
{
    static const char *const names[] = {"flat", "nested", "lists"};
    return (size_t)value < TP_COUNT_OF(names) ? names[value] : NULL;
}
