/* SPDX-License-Identifier: MIT */
/* TensorPort: safetensors checkpoints to checkpoints that JAX programs load. Everything, in one include. */
#ifndef TENSORPORT_TENSORPORT_H
#define TENSORPORT_TENSORPORT_H

#include "checkpoint.h"
#include "convert.h"
#include "dtype.h"
#include "error.h"
#include "map.h"
#include "progress.h"
#include "text.h"
#include "verify.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_VERSION "0.1.0"

TP_API const char *tp_version(void); /* of the library that is linked */
/* The kernel level that conversions will use: "avx512", "avx2", "neon" or "scalar". `wanted` lowers it (as
 * tp_convert_options.cpu); NULL if `wanted` is unknown or this CPU has not got it. */
TP_API const char *tp_cpu_level(const char *wanted);

#ifdef __cplusplus
}
#endif
#endif
