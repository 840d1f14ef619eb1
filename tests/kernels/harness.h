/* SPDX-License-Identifier: MIT */
/* What the parts of the kernel test share: reporting, and values to test with. */
#ifndef TEST_KERNELS_HARNESS_H
#define TEST_KERNELS_HARNESS_H

#include "kernels/kernels.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* One line of TAP. */
void report(bool good, const char *level, const char *what);
/* `p`; without memory the test ends. */
void *must(void *p);

/* The same on every machine and in every run. */
uint64_t random_u64(void);
size_t random_below(size_t limit);

struct kind {
    const char *name;
    unsigned bytes, mantissa_bits, exponent_bits;
};
extern const struct kind kinds[TP_KIND_COUNT];
const char *pair_name(char name[32], unsigned from, unsigned to);
uint64_t value_at(const uint8_t *p, size_t i, unsigned bytes);

/* All values of a 16-bit kind. Of a wider one: each sign and exponent with mantissas around every place where some
 * target rounds, ties with and without lower bits set included; then random bits. */
struct table {
    uint8_t *bytes;
    size_t count;
};
extern struct table tables[TP_KIND_COUNT];

/* Mixtures for short calls: what a real tensor holds, with more and more that is strange. */
enum flavour { ORDINARY, POSITIVE, NEGATIVE, SPRINKLED, HARD, ZEROS, INFINITIES, NANS, FLAVOUR_COUNT };
#define POOL_VALUES 4096u
extern uint8_t *pools[TP_KIND_COUNT][FLAVOUR_COUNT];
uint64_t flavoured(unsigned kind, enum flavour flavour); /* one such value */

void inputs_init(void);

/* Another rounding mode, and subnormals switched off; or as it was. */
void float_mode_set(bool strange);
bool float_mode_is_strange(void);

/* Casts against what is known from elsewhere, for any level. */
void test_outside(const struct tp_kernels *k);
void test_arithmetic(const struct tp_kernels *k);

#endif
