/* SPDX-License-Identifier: MIT */
/* Every cast and every kind of float, as lists for macros: a new one is a new row here. */
#ifndef TP_KERNELS_EACH_H
#define TP_KERNELS_EACH_H

/* X(from, to, FROM, TO, bits of a source value, bits of a target value, whether small values may become zero) */
#define TP_EACH_CAST(X)                    \
    X(f64, f32, F64, F32, 64, 32, true)    \
    X(f64, f16, F64, F16, 64, 16, true)    \
    X(f64, bf16, F64, BF16, 64, 16, true)  \
    X(f32, f16, F32, F16, 32, 16, true)    \
    X(f32, bf16, F32, BF16, 32, 16, true)  \
    X(f16, f32, F16, F32, 16, 32, false)   \
    X(f16, bf16, F16, BF16, 16, 16, false) \
    X(bf16, f32, BF16, F32, 16, 32, false) \
    X(bf16, f16, BF16, F16, 16, 16, true)

/* X(kind, KIND, bits) */
#define TP_EACH_KIND(X) \
    X(f64, F64, 64)     \
    X(f32, F32, 32)     \
    X(f16, F16, 16)     \
    X(bf16, BF16, 16)

/* The slots of `k` from functions cast_f64_f32, ..., measure_f64, ... */
#define TP_FILL_CAST(from, to, FROM, TO, from_bits, to_bits, flushes) \
    k->cast[TP_KIND_##FROM][TP_KIND_##TO] = cast_##from##_##to;
#define TP_FILL_MEASURE(kind, KIND, bits) k->measure[TP_KIND_##KIND] = measure_##kind;
/* ... and from multiply_f64, add_f64, ... */
#define TP_FILL_ARITHMETIC(kind, KIND, bits)       \
    k->multiply[TP_KIND_##KIND] = multiply_##kind; \
    k->add[TP_KIND_##KIND] = add_##kind;

#endif
