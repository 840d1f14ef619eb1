/* SPDX-License-Identifier: MIT */
/* The GNU extensions that the rest of the library may use, by name. */
#ifndef TP_BASE_COMPILER_H
#define TP_BASE_COMPILER_H

#if defined(__GNUC__)
#define TP_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#define TP_LIKELY(x) __builtin_expect(!!(x), 1)
#define TP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TP_ADD_OVERFLOW(a, b, out) __builtin_add_overflow((a), (b), (out))
#define TP_MUL_OVERFLOW(a, b, out) __builtin_mul_overflow((a), (b), (out))
#else
#error "TensorPort needs gcc or clang"
#endif

#define TP_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
