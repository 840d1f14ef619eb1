/* SPDX-License-Identifier: MIT */
/* From a number to the bits of one element. */
#ifndef TP_DTYPE_CONSTANT_H
#define TP_DTYPE_CONSTANT_H

#include "tensorport/dtype.h"

/* The element nearest to `value`, ties to even. False: the dtype has none (a fraction for an integer, a finite number
 * beyond its range, a NaN), or is not one of a byte or more that stands for real numbers. */
bool tp_dtype_encode(uint64_t *bits, double value, enum tp_dtype dtype);

#endif
