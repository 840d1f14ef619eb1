/* SPDX-License-Identifier: MIT */
/* Every kernel of every CPU level against the scalar definition, and the definition against tables from outside.
 *
 *   sh tests/kernels/build.sh t && ./t                    a few seconds; build.sh needs only gcc and xxhash.h
 *   ./t --exhaustive                                      all 2^32 f32 inputs as well
 *   qemu-x86_64 -cpu Conroe ./t                           a CPU without AVX; -cpu Haswell: with AVX2
 *   CC=aarch64-linux-gnu-gcc sh tests/kernels/build.sh t-arm -static && qemu-aarch64 t-arm
 *
 * Output is TAP. A level that this machine has not got is reported as SKIPPED. Every call writes into memory that
 * holds the complement of what is expected, between guard bytes; sources and targets also end, or begin, at a page
 * that must not be touched. */
#define _GNU_SOURCE
#include "harness.h"
#include "kernels/each.h"
#include "kernels/transpose.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fenv.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define GUARD_BYTES 64u
#define GUARD_BYTE 0xa5u
#define REGION_BYTES (8u << 20)
#define LENGTHS 258u /* 0 to 257 */

/* -- Results -- */

static unsigned test_count, failure_count;

void report(bool good, const char *level, const char *what)
{
    printf("%s %u - %s %s\n", good ? "ok" : "not ok", ++test_count, level, what);
    fflush(stdout);
    failure_count += !good;
}

void *must(void *p)
{
    if (!p || p == MAP_FAILED) {
        fputs("Bail out! no memory\n", stdout);
        exit(1);
    }
    return p;
}

/* -- Memory between pages that must not be touched -- */

static uint8_t *source_region, *target_region;

static uint8_t *region_new(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = must(mmap(NULL, REGION_BYTES + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mprotect(p, page, PROT_NONE) || mprotect(p + page + REGION_BYTES, page, PROT_NONE))
        must(NULL);
    return p + page;
}

/* Where a call's source and target lie: `offset` bytes from the beginning of a region, or against one of its ends. */
enum place { AT_OFFSET, AT_START, AT_END };

static uint8_t *placed(uint8_t *region, size_t bytes, enum place place, size_t offset)
{
    if (place == AT_END)
        return region + REGION_BYTES - bytes;
    return place == AT_START ? region : region + GUARD_BYTES + offset;
}

/* Guard bytes fit only where no page ends. */
static void guards_set(uint8_t *target, size_t bytes)
{
    if (target != target_region)
        memset(target - GUARD_BYTES, GUARD_BYTE, GUARD_BYTES);
    if (target + bytes != target_region + REGION_BYTES)
        memset(target + bytes, GUARD_BYTE, GUARD_BYTES);
}

static bool guards_hold(const uint8_t *target, size_t bytes)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if (target != target_region && target[-1 - (ptrdiff_t)i] != GUARD_BYTE)
            return false;
        if (target + bytes != target_region + REGION_BYTES && target[bytes + i] != GUARD_BYTE)
            return false;
    }
    return true;
}

/* -- One call against the definition -- */

static struct tp_kernels scalar;
static uint8_t *expected_bytes;

static bool same_double(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static bool same_stats(const struct tp_stats *got, const struct tp_stats *expected, const char *what)
{
    if (same_double(got->min, expected->min) && same_double(got->max, expected->max) &&
        got->nan_count == expected->nan_count && got->inf_count == expected->inf_count &&
        got->overflow_count == expected->overflow_count && got->flushed_count == expected->flushed_count)
        return true;
    const struct tp_stats *rows[] = {expected, got};
    for (int i = 0; i < 2; i++)
        printf("# %s: statistics %s: min %a max %a nan %" PRIu64 " inf %" PRIu64 " overflow %" PRIu64
               " flushed %" PRIu64 "\n",
               what, i ? "got     " : "expected", rows[i]->min, rows[i]->max, rows[i]->nan_count, rows[i]->inf_count,
               rows[i]->overflow_count, rows[i]->flushed_count);
    return false;
}

static bool same_values(const uint8_t *got, const uint8_t *expected, const uint8_t *source, size_t n, unsigned from,
                        unsigned to)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t want = value_at(expected, i, kinds[to].bytes), have = value_at(got, i, kinds[to].bytes);
        if (want != have) {
            char name[32];
            printf("# %s: value %zu of %zu: %" PRIx64 " became %" PRIx64 ", expected %" PRIx64 "\n",
                   pair_name(name, from, to), i, n, value_at(source, i, kinds[from].bytes), have, want);
            return false;
        }
    }
    return true;
}

/* Statistics are added to what is there: sometimes there is something. */
static struct tp_stats stats_before(bool fresh)
{
    struct tp_stats stats;
    tp_stats_init(&stats);
    if (!fresh)
        stats = (struct tp_stats){-0.125, 0.25, 3, 5, 7, 11};
    return stats;
}

void float_mode_set(bool strange)
{
    (void)fesetround(strange ? FE_UPWARD : FE_TONEAREST);
#if defined(__x86_64__)
    _mm_setcsr(strange ? _mm_getcsr() | 0x8040u : _mm_getcsr() & ~0x8040u); /* FTZ, DAZ */
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fpcr = strange ? fpcr | UINT64_C(0x3000000) : fpcr & ~UINT64_C(0x3000000); /* DN, FZ */
    __asm__ volatile("msr fpcr, %0" ::"r"(fpcr));
#endif
}

bool float_mode_is_strange(void)
{
#if defined(__x86_64__)
    if ((_mm_getcsr() & 0x8040u) != 0x8040u)
        return false;
#endif
    return fegetround() == FE_UPWARD;
}

static bool check_cast(const struct tp_kernels *k, unsigned from, unsigned to, const uint8_t *source, size_t n,
                       uint8_t *target, bool saturate, bool strange_mode)
{
    const size_t bytes = n * kinds[to].bytes;
    struct tp_stats want = stats_before(n & 1), got = want;
    char name[32];
    scalar.cast[from][to](expected_bytes, source, n, saturate, &want);
    guards_set(target, bytes);
    for (size_t i = 0; i < bytes; i++)
        target[i] = (uint8_t)~expected_bytes[i];
    if (strange_mode)
        float_mode_set(true);
    k->cast[from][to](target, source, n, saturate, &got);
    bool good = !strange_mode || float_mode_is_strange(); /* it is the caller's */
    if (strange_mode)
        float_mode_set(false);
    good = memcmp(target, expected_bytes, bytes) == 0 && good;
    if (!good)
        (void)same_values(target, expected_bytes, source, n, from, to);
    if (!guards_hold(target, bytes)) {
        printf("# %s, n = %zu: bytes beside the target were changed\n", pair_name(name, from, to), n);
        good = false;
    }
    return same_stats(&got, &want, pair_name(name, from, to)) && good;
}

static bool check_measure(const struct tp_kernels *k, unsigned kind, const uint8_t *source, size_t n, bool strange_mode)
{
    struct tp_stats want = stats_before(n & 1), got = want;
    scalar.measure[kind](source, n, &want);
    if (strange_mode)
        float_mode_set(true);
    k->measure[kind](source, n, &got);
    if (strange_mode)
        float_mode_set(false);
    return same_stats(&got, &want, kinds[kind].name);
}

/* Cast and measure, `n` values of a pool or table at `values`, laid out as told. to == TP_KIND_COUNT: measure. */
static bool check_at(const struct tp_kernels *k, unsigned from, unsigned to, const uint8_t *values, size_t n,
                     enum place place, size_t offset)
{
    const size_t source_bytes = n * kinds[from].bytes;
    uint8_t *source = placed(source_region, source_bytes, place, offset);
    memcpy(source, values, source_bytes);
    if (to == TP_KIND_COUNT)
        return check_measure(k, from, source, n, false);
    uint8_t *target = placed(target_region, n * kinds[to].bytes, place, (offset * 29 + n) % 64);
    return check_cast(k, from, to, source, n, target, false, false) &&
           check_cast(k, from, to, source, n, target, true, false);
}

/* -- The tests of a pair (or of measuring a kind) -- */

static bool table_is_equal(const struct tp_kernels *k, unsigned from, unsigned to, bool strange_mode)
{
    const size_t step = REGION_BYTES / 16;
    bool good = true;
    for (size_t i = 0; i < tables[from].count && good; i += step) {
        const size_t n = tables[from].count - i < step ? tables[from].count - i : step;
        const uint8_t *source = tables[from].bytes + i * kinds[from].bytes;
        uint8_t *target = target_region + GUARD_BYTES;
        if (to == TP_KIND_COUNT)
            good = check_measure(k, from, source, n, strange_mode);
        else
            good = check_cast(k, from, to, source, n, target, false, strange_mode) &&
                   check_cast(k, from, to, source, n, target, true, strange_mode);
    }
    return good;
}

static bool lengths_and_offsets_are_equal(const struct tp_kernels *k, unsigned from, unsigned to)
{
    bool good = true;
    for (size_t n = 0; n < LENGTHS && good; n++)
        for (size_t offset = 0; offset < 66 && good; offset++) {
            const enum flavour flavour = (enum flavour)random_below(FLAVOUR_COUNT);
            const uint8_t *values = pools[from][flavour] + random_below(POOL_VALUES - n) * kinds[from].bytes;
            const enum place place = offset < 64 ? AT_OFFSET : offset == 64 ? AT_START : AT_END;
            good = check_at(k, from, to, values, n, place, offset);
        }
    return good;
}

/* Lengths around those of blocks, and a few of no shape. One strange value in an ordinary surrounding, too. */
static bool long_calls_are_equal(const struct tp_kernels *k, unsigned from, unsigned to)
{
    static const size_t around[] = {1024, 2048, 4096, 8192};
    static uint8_t values[4 * POOL_VALUES * 8];
    bool good = true;
    for (unsigned round = 0; round < 160 && good; round++) {
        const size_t middle = around[round % 4];
        const size_t n = round < 80 ? middle - 34 + random_below(69) : random_below(3 * POOL_VALUES);
        const size_t bytes = POOL_VALUES * kinds[from].bytes;
        for (unsigned i = 0; i < 4; i++) {
            const enum flavour flavour = round % 2 ? ORDINARY : (enum flavour)random_below(FLAVOUR_COUNT);
            memcpy(values + i * bytes, pools[from][flavour], bytes);
        }
        const uint64_t odd_one = flavoured(from, HARD);
        if (n > 0)
            memcpy(values + random_below(n) * kinds[from].bytes, &odd_one, kinds[from].bytes);
        good = check_at(k, from, to, values, n, round % 3 ? AT_OFFSET : AT_END, round % 64);
    }
    return good;
}

static void test_pair(const struct tp_kernels *k, unsigned from, unsigned to)
{
    const char *level = tp_level_name(k->level);
    char name[32], what[128];
    if (to == TP_KIND_COUNT)
        (void)snprintf(name, sizeof name, "measuring %s", kinds[from].name);
    else
        (void)pair_name(name, from, to);
    (void)snprintf(what, sizeof what, "%s: %zu special and random values", name, tables[from].count);
    report(table_is_equal(k, from, to, false), level, what);
    (void)snprintf(what, sizeof what, "%s: the same with another rounding mode and subnormals switched off", name);
    report(table_is_equal(k, from, to, true), level, what);
    (void)snprintf(what, sizeof what, "%s: lengths 0 to 257 at every offset and at the ends of pages", name);
    report(lengths_and_offsets_are_equal(k, from, to), level, what);
    (void)snprintf(what, sizeof what, "%s: long calls", name);
    report(long_calls_are_equal(k, from, to), level, what);
}

/* -- The other slots -- */

static bool f4_is_unpacked(const struct tp_kernels *k)
{
    bool good = true;
    for (size_t n = 0; n < LENGTHS && good; n++)
        for (size_t offset = 0; offset < 66 && good; offset++) {
            const enum place place = offset < 64 ? AT_OFFSET : offset == 64 ? AT_START : AT_END;
            uint8_t *source = placed(source_region, n, place, offset);
            uint8_t *target = placed(target_region, 2 * n, place, (offset * 29 + n) % 64);
            for (size_t i = 0; i < n; i++) {
                source[i] = (uint8_t)random_u64();
                target[2 * i] = (uint8_t) ~(source[i] & 15);
                target[2 * i + 1] = (uint8_t) ~(source[i] >> 4);
            }
            guards_set(target, 2 * n);
            k->unpack_f4(target, source, n);
            good = guards_hold(target, 2 * n);
            for (size_t i = 0; i < n; i++)
                good = good && target[2 * i] == (source[i] & 15) && target[2 * i + 1] == source[i] >> 4;
        }
    return good;
}

static bool not_bools_are_counted(const struct tp_kernels *k)
{
    bool good = true;
    for (size_t n = 0; n < 4 * LENGTHS && good; n++)
        for (size_t offset = 0; offset < 66 && good; offset++) {
            const enum place place = offset < 64 ? AT_OFFSET : offset == 64 ? AT_START : AT_END;
            uint8_t *source = placed(source_region, n, place, offset);
            uint64_t expected = 0;
            for (size_t i = 0; i < n; i++) {
                const uint64_t bits = random_u64();
                source[i] = (uint8_t)(bits & 256 ? bits & 1 : bits);
                expected += source[i] != 0 && source[i] != 1;
            }
            good = k->count_not_bool(source, n) == expected;
        }
    memset(source_region, 255, REGION_BYTES);
    return good && k->count_not_bool(source_region, REGION_BYTES) == REGION_BYTES;
}

static bool same_hash(XXH128_hash_t a, XXH128_hash_t b)
{
    return a.low64 == b.low64 && a.high64 == b.high64;
}

/* Pieces of any length, each by either level in turn, on one state. */
static bool digests_are_interchangeable(const struct tp_kernels *k)
{
    XXH3_state_t *state = must(XXH3_createState());
    bool good = true;
    for (size_t i = 0; i < REGION_BYTES; i += 8) {
        const uint64_t bits = random_u64();
        memcpy(source_region + i, &bits, sizeof bits);
    }
    for (unsigned round = 0; round < 400 && good; round++) {
        const size_t total = random_below(round % 100 == 0 ? 1u << 20 : 5000);
        const uint8_t *source = source_region + REGION_BYTES - total;
        (void)XXH3_128bits_reset(state);
        for (size_t done = 0; done < total;) {
            const size_t most = total - done < 3000 ? total - done : 3000;
            const size_t piece = round % 2 ? total - done : random_below(most + 1);
            (random_u64() & 1 ? &scalar : k)->xxh3_update(state, source + done, piece);
            done += piece;
        }
        good = same_hash(XXH3_128bits_digest(state), XXH3_128bits(source, total));
    }
    XXH3_freeState(state);
    return good;
}

/* -- Small floats: every level against the formats' definitions -- */

/* OCP 8-bit formats, E2M1, and the FNUZ kinds of ml_dtypes. */
static double small_value(unsigned code, int exponent_bits, int mantissa_bits, int bias)
{
    const unsigned magnitude = code & ((1u << (exponent_bits + mantissa_bits)) - 1);
    const int exponent = (int)(magnitude >> mantissa_bits), mantissa = (int)(magnitude & ((1u << mantissa_bits) - 1));
    const double value = exponent ? ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)
                                  : ldexp(mantissa, 1 - bias - mantissa_bits);
    return code != magnitude ? -value : value;
}

static double f8_value(unsigned code, enum tp_f8_kind kind)
{
    const unsigned magnitude = code & 0x7f;
    switch (kind) {
    case TP_F8_KIND_E4M3:
        return magnitude == 0x7f ? NAN : small_value(code, 4, 3, 7);
    case TP_F8_KIND_E5M2:
        if (magnitude >= 0x7c)
            return magnitude > 0x7c ? NAN : code == magnitude ? INFINITY : -INFINITY;
        return small_value(code, 5, 2, 15);
    case TP_F8_KIND_E4M3FNUZ:
        return code == 0x80 ? NAN : small_value(code, 4, 3, 8);
    default:
        return code == 0x80 ? NAN : small_value(code, 5, 2, 16);
    }
}

/* The product of two F32 is exact as double. A NaN has the sign of the code. */
static uint32_t product_bits(double value, double scale, bool negative)
{
    const float product = (float)(value * scale);
    uint32_t bits;
    memcpy(&bits, &product, sizeof bits);
    return isnan(product) ? (negative ? 0xffc00000 : 0x7fc00000) : bits;
}

static uint32_t f4_bits(unsigned code, double scale, bool positive_zero)
{
    const bool negative = code > 8 || (code == 8 && !positive_zero);
    const double magnitude = small_value(code & 7, 2, 1, 1);
    return product_bits(negative ? -magnitude : magnitude, scale, negative);
}

static float small_scale(unsigned round)
{
    static const uint32_t special[] = {0x3f800000, 0,          0x80000000, 1,          0x80000001, 0x007fffff,
                                       0x00800000, 0x3951b717, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
                                       0xffc12345, 0x7b7fffff, 0x7b800000, 0x7a800000, 0xbf800000, 0x3e449ba6};
    uint32_t bits = (uint32_t)random_u64();
    if (round % 3 == 0) /* what checkpoints hold */
        bits = 0x38000000 + bits % 0x08000000;
    if (round < COUNT_OF(special))
        bits = special[round];
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

enum small_what { F8, F4, MXFP4, MXFP4_EACH }; /* the first two as F32, the others as BF16 */

struct small_call {
    const struct tp_kernels *k;
    enum small_what what;
    enum tp_f8_kind kind;
    float scale;
    bool positive_zero, high_nibbles;
};

static unsigned small_code(const struct small_call *c, const uint8_t *source, size_t i)
{
    if (c->what == F8)
        return source[i];
    return c->what == MXFP4_EACH ? (unsigned)source[i] >> (c->high_nibbles ? 4 : 0) & 15u
                                 : (unsigned)source[i / 2] >> (i % 2 * 4) & 15u;
}

static void small_run(const struct small_call *c, const uint8_t *source, const uint8_t *exponents, size_t n, void *dst)
{
    switch (c->what) {
    case F8:
        c->k->f8_to_f32(dst, source, n, c->kind, c->scale);
        break;
    case F4:
        c->k->f4_to_f32(dst, source, n, c->scale, c->positive_zero);
        break;
    case MXFP4:
        c->k->mxfp4_to_bf16(dst, source, exponents, n, c->positive_zero);
        break;
    case MXFP4_EACH:
        c->k->mxfp4_each_to_bf16(dst, source, exponents, n, c->high_nibbles, c->positive_zero);
        break;
    }
}

/* `n` values (of MXFP4: blocks) from `source`, and `exponents` */
static bool check_small(const struct small_call *c, const uint8_t *source, const uint8_t *exponents, size_t n,
                        uint8_t *target, bool strange_mode)
{
    const size_t values = c->what == MXFP4 ? 32 * n : n, item = c->what >= MXFP4 ? 2 : 4;
    for (size_t i = 0; i < values; i++) {
        const unsigned code = small_code(c, source, i);
        const uint8_t exponent = c->what == MXFP4 ? exponents[i / 32] : c->what == MXFP4_EACH ? exponents[i] : 0;
        const double scale = c->what < MXFP4 ? (double)c->scale : exponent == 255 ? NAN : ldexp(1, exponent - 127);
        const uint32_t bits = c->what == F8 ? product_bits(f8_value(code, c->kind), scale, code > 127)
                                            : f4_bits(code, scale, c->positive_zero);
        const uint16_t upper = (uint16_t)(bits >> 16); /* as BF16, which is exact */
        memcpy(expected_bytes + i * item, item == 2 ? (const void *)&upper : (const void *)&bits, item);
    }
    guards_set(target, item * values);
    for (size_t i = 0; i < item * values; i++)
        target[i] = (uint8_t)~expected_bytes[i];
    if (strange_mode)
        float_mode_set(true);
    small_run(c, source, exponents, n, target);
    bool good = !strange_mode || float_mode_is_strange();
    if (strange_mode)
        float_mode_set(false);
    good = guards_hold(target, item * values) && good;
    for (size_t i = 0; i < values && good; i++) {
        const uint64_t got = value_at(target, i, (unsigned)item), want = value_at(expected_bytes, i, (unsigned)item);
        good = got == want;
        if (!good)
            printf("# %d, kind %d, value %zu of %zu, scale %a: got %08" PRIx64 ", expected %08" PRIx64 "\n",
                   (int)c->what, (int)c->kind, i, values, (double)c->scale, got, want);
    }
    return good;
}

/* One call at a place, with codes of any kind, or only such as no level finds hard. */
static bool small_call_at(struct small_call *c, size_t n, enum place place, size_t offset, unsigned round)
{
    static uint8_t exponent_bytes[4096 + 64];
    uint8_t *exponents = exponent_bytes + offset % 64;
    const size_t bytes = c->what == F4 ? n / 2 : c->what == MXFP4 ? 16 * n : n;
    const size_t values = c->what == MXFP4 ? 32 * n : n, step = c->what >= MXFP4 ? 1 : 4;
    uint8_t *source = placed(source_region, bytes, place, offset);
    uint8_t *target =
        placed(target_region, (c->what >= MXFP4 ? 2 : 4) * values, place, step * ((offset * 29 + n) % (64 / step)));
    for (size_t i = 0; i < bytes; i++)
        source[i] = (uint8_t)(random_u64() & (c->what == F8 && round % 2 ? 0xbb : 0xff));
    for (size_t i = 0; c->what >= MXFP4 && i < n; i++)
        exponents[i] = (uint8_t)(round % 2 ? 100 + random_below(60) : random_u64());
    c->scale = small_scale(round);
    c->positive_zero = random_below(2);
    c->high_nibbles = random_below(2);
    return check_small(c, source, exponents, n, target, round % 7 == 0);
}

static bool small_floats_are_decoded(struct small_call c)
{
    bool good = true;
    unsigned round = 0;
    for (size_t n = 0; n < (c.what == MXFP4 ? 20 : LENGTHS) && good; n += c.what == F4 ? 2 : 1)
        for (size_t offset = 0; offset < 66 && good; offset++)
            good = small_call_at(&c, n, offset < 64 ? AT_OFFSET : offset == 64 ? AT_START : AT_END, offset, round++);
    for (unsigned i = 0; i < 400 && good; i++)
        good = small_call_at(&c, random_below(c.what == MXFP4 ? 500 : 2000) * 2, i % 2 ? AT_OFFSET : AT_END, i % 64, i);
    return good;
}

/* Each code with each exponent; each code with extreme scales. */
static bool every_small_float_is_decoded(const struct tp_kernels *k)
{
    bool good = true;
    uint8_t codes[256], exponents[256];
    for (unsigned i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    for (unsigned i = 0; i < 1024 && good; i++) {
        struct small_call c = {.k = k, .what = F8, .kind = (enum tp_f8_kind)(i % 4), .scale = small_scale(i / 4)};
        uint8_t *target = target_region + GUARD_BYTES;
        good = check_small(&c, codes, NULL, 256, target, i / 4 % 2);
        for (unsigned from = 0; from < 256 && good; from += 32) /* no hard code beside */
            good = check_small(&c, codes + from, NULL, 32, target, false);
        c.what = F4;
        c.positive_zero = i % 2;
        good = good && check_small(&c, codes, NULL, 512, target, i % 4 > 1);
        c.what = MXFP4;
        memset(exponents, (int)(i / 4), sizeof exponents);
        for (unsigned from = 0; from < 256 && good; from += 16)
            good = check_small(&c, codes + from, exponents, 1, target, i % 4 > 1);
        c.what = MXFP4_EACH;
        c.high_nibbles = i / 2 % 2;
        good = good && check_small(&c, codes, exponents, 256, target, i % 4 > 1);
    }
    return good;
}

/* The scale that each group of codes has: like those of checkpoints, or of any kind. */
static void fill_scales(float *scales, size_t count, unsigned round)
{
    for (size_t i = 0; i < count; i++)
        scales[i] = small_scale(round % 2 ? 18 + 3 * (unsigned)i : (unsigned)random_below(60));
}

/* Two calls of the definition, for each group. */
static void round_by_definition(uint8_t *dst, const uint8_t *source, size_t n, enum tp_f8_kind kind,
                                const float *scales, size_t group, bool saturate, struct tp_stats *stats)
{
    static float values[4096];
    for (size_t i = 0; i < n; i += group) {
        const size_t count = n - i < group ? n - i : group;
        scalar.f8_to_f32(values + i, source + i, count, kind, scales[i / group]);
    }
    scalar.cast[TP_KIND_F32][TP_KIND_BF16](dst, values, n, saturate, stats);
}

static bool f8_is_rounded(const struct tp_kernels *k, size_t n, enum place place, size_t offset, unsigned round)
{
    static const size_t groups[] = {1, 16, 31, 32, 100, 128, 129, 4096};
    static float scales[4096];
    const size_t group = groups[random_below(COUNT_OF(groups))];
    const enum tp_f8_kind kind = (enum tp_f8_kind)random_below(TP_F8_KIND_COUNT);
    const bool saturate = random_below(2), strange = round % 7 == 0;
    struct tp_stats want = stats_before(round % 5 == 0), got = want;
    uint8_t *source = placed(source_region, n, place, offset);
    uint8_t *target = placed(target_region, 2 * n, place, (offset * 29 + n) % 64);
    for (size_t i = 0; i < n; i++) /* any, no special ones, or all of one sign */
        source[i] = (uint8_t)(random_u64() & (round % 3 == 0 ? 0xff : round % 3 == 1 ? 0xbb : 0x3b));
    fill_scales(scales, n / group + 1, round);
    round_by_definition(expected_bytes, source, n, kind, scales, group, saturate, &want);
    for (size_t i = 0; i < 2 * n; i++)
        target[i] = (uint8_t)~expected_bytes[i];
    guards_set(target, 2 * n);
    if (strange)
        float_mode_set(true);
    k->f8_to_bf16(target, source, n, kind, scales, group, saturate, &got);
    const bool mode_is_kept = !strange || float_mode_is_strange();
    if (strange)
        float_mode_set(false);
    return mode_is_kept && guards_hold(target, 2 * n) && memcmp(target, expected_bytes, 2 * n) == 0 &&
           same_stats(&got, &want, "f8 -> bf16");
}

static bool f8_is_rounded_everywhere(const struct tp_kernels *k)
{
    bool good = true;
    unsigned round = 0;
    for (size_t n = 0; n < LENGTHS && good; n++)
        for (size_t offset = 0; offset < 66 && good; offset++)
            good = f8_is_rounded(k, n, offset < 64 ? AT_OFFSET : offset == 64 ? AT_START : AT_END, offset, round++);
    for (unsigned i = 0; i < 1000 && good; i++)
        good = f8_is_rounded(k, random_below(4097), i % 2 ? AT_OFFSET : AT_END, i % 64, i);
    return good;
}

static void test_small_floats(const struct tp_kernels *k)
{
    static const char *const names[] = {"e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz"};
    const char *level = tp_level_name(k->level);
    char what[64];
    report(every_small_float_is_decoded(k), level, "f8, f4 -> f32, mxfp4 -> bf16: every code, extreme scales");
    for (unsigned kind = 0; kind < TP_F8_KIND_COUNT; kind++) {
        (void)snprintf(what, sizeof what, "%s -> f32: lengths and offsets", names[kind]);
        report(small_floats_are_decoded((struct small_call){.k = k, .what = F8, .kind = (enum tp_f8_kind)kind}), level,
               what);
    }
    report(f8_is_rounded_everywhere(k), level, "f8 -> bf16: as by way of f32, and so are the statistics");
    report(small_floats_are_decoded((struct small_call){.k = k, .what = F4}), level, "f4 -> f32: lengths and offsets");
    report(small_floats_are_decoded((struct small_call){.k = k, .what = MXFP4}), level,
           "mxfp4 -> bf16: lengths and offsets");
    report(small_floats_are_decoded((struct small_call){.k = k, .what = MXFP4_EACH}), level,
           "mxfp4, an exponent each -> bf16: lengths and offsets");
}

/* -- Transposition -- */

/* Items of 1 << log_item bytes; gaps are in bytes. Rows in another order than they lie in come backwards. */
struct transposition {
    const struct tp_kernels *k;
    unsigned log_item;
    size_t rows, columns, src_gap, dst_gap;
    bool is_backwards;
};

static void transpose(const struct transposition *t, uint8_t *dst, size_t dst_pitch, const uint8_t *src,
                      size_t src_pitch)
{
    const uint8_t *list[TP_TRANSPOSE_ROWS];
    if (!t->is_backwards) {
        tp_transpose_matrix(t->k, t->log_item, dst, dst_pitch, src, src_pitch, t->rows, t->columns);
        return;
    }
    for (size_t i = 0; i < t->rows; i++)
        list[i] = src + (t->rows - 1 - i) * src_pitch;
    t->k->transpose[t->log_item](dst, dst_pitch, list, t->rows, t->columns);
}

static bool transposed_at(const struct transposition *t, enum place place, size_t offset)
{
    const size_t item = (size_t)1 << t->log_item, rows = t->rows, columns = t->columns;
    const size_t src_pitch = columns * item + t->src_gap, dst_pitch = rows * item + t->dst_gap;
    const size_t src_bytes = rows && columns ? (rows - 1) * src_pitch + columns * item : 0;
    const size_t dst_bytes = rows && columns ? (columns - 1) * dst_pitch + rows * item : 0;
    uint8_t *source = placed(source_region, src_bytes, place, offset);
    uint8_t *target = placed(target_region, dst_bytes, place, (offset * 29 + rows) % 64);
    for (size_t i = 0; i < src_bytes; i++)
        source[i] = (uint8_t)random_u64();
    memset(expected_bytes, GUARD_BYTE, dst_bytes); /* what lies between the columns stays as it is */
    memset(target, GUARD_BYTE, dst_bytes);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            for (size_t b = 0; b < item; b++) {
                const size_t row = t->is_backwards ? rows - 1 - i : i;
                const uint8_t byte = source[row * src_pitch + j * item + b];
                expected_bytes[j * dst_pitch + i * item + b] = byte;
                target[j * dst_pitch + i * item + b] = (uint8_t)~byte;
            }
    guards_set(target, dst_bytes);
    transpose(t, target, dst_pitch, source, src_pitch);
    return guards_hold(target, dst_bytes) && memcmp(target, expected_bytes, dst_bytes) == 0;
}

static bool items_are_transposed(const struct tp_kernels *k, unsigned log_item)
{
    bool good = true;
    for (size_t rows = 0; rows < 70 && good; rows++)
        for (size_t columns = 0; columns < 40 && good; columns++) {
            const enum place place = (rows + columns) % 3 == 0   ? AT_OFFSET
                                     : (rows + columns) % 3 == 1 ? AT_START
                                                                 : AT_END;
            const struct transposition t = {k, log_item, rows, columns, random_below(20), random_below(80), rows % 2};
            good = transposed_at(&t, place, random_below(64));
        }
    return good && transposed_at(&(struct transposition){k, log_item, 333, 257, 3, 5, false}, AT_OFFSET, 7) &&
           transposed_at(&(struct transposition){k, log_item, 128, 1440, 0, 64, true}, AT_END, 0);
}

/* -- Statistics and the choice of a level -- */

static void test_stats(void)
{
    static const uint32_t zeros[] = {0x80000000, 0x80000000}, mixed[] = {0x3f800000, 0x80000000, 0x7fc00000};
    struct tp_stats a = stats_before(true), b = stats_before(true), empty = stats_before(true);
    report(empty.min > empty.max, "statistics", "of nothing have min above max");
    scalar.measure[TP_KIND_F32](zeros, 2, &a);
    report(same_double(a.min, 0) && same_double(a.max, 0), "statistics", "count -0 as 0");
    scalar.measure[TP_KIND_F32](mixed, 3, &b);
    tp_stats_merge(&a, &b);
    tp_stats_merge(&a, &empty);
    report(same_double(a.min, 0) && same_double(a.max, 1) && a.nan_count == 1, "statistics", "merge");
}

static void test_choice(void)
{
    struct tp_kernels k;
    report(!tp_kernels_init(&k, "sse9") && !tp_kernels_init(&k, ""), "choice", "refuses a level that is unknown");
    report(tp_kernels_init(&k, "scalar") && k.level == TP_LEVEL_SCALAR, "choice", "lowers to scalar");
    report(tp_kernels_init(&k, NULL), "choice", "finds the best level");
    bool all = true;
#define IS_SET(from, to, FROM, TO, from_bits, to_bits, flushes) all = all && k.cast[TP_KIND_##FROM][TP_KIND_##TO];
    TP_EACH_CAST(IS_SET)
    for (unsigned i = 0; i < TP_KIND_COUNT; i++)
        all = all && k.measure[i] && !k.cast[i][i] && !k.cast[i][TP_KIND_F64] && k.multiply[i] && k.add[i] &&
              k.transpose[i % TP_TRANSPOSE_COUNT];
    report(all && k.unpack_f4 && k.f8_to_f32 && k.f8_to_bf16 && k.f4_to_f32 && k.mxfp4_to_bf16 &&
               k.mxfp4_each_to_bf16 && k.count_not_bool && k.xxh3_update,
           "choice", "fills every slot and no other");
    printf("# best level here: %s\n", tp_level_name(k.level));
}

/* -- All f32 -- */

struct sweep {
    const struct tp_kernels *kernels;
    unsigned to;
    bool saturate, good;
    uint64_t first, end; /* of the inputs */
};

static void *sweep_run(void *argument)
{
    enum { CHUNK = 1 << 16 };
    struct sweep *s = argument;
    uint32_t *source = must(malloc(CHUNK * sizeof *source));
    uint8_t *want = must(malloc(CHUNK * 2)), *got = must(malloc(CHUNK * 2));
    s->good = true;
    for (uint64_t first = s->first; first < s->end && s->good; first += CHUNK) {
        struct tp_stats want_stats = stats_before(true), got_stats = want_stats;
        for (uint32_t i = 0; i < CHUNK; i++)
            source[i] = (uint32_t)first + i;
        scalar.cast[TP_KIND_F32][s->to](want, source, CHUNK, s->saturate, &want_stats);
        memset(got, 0, CHUNK * 2);
        s->kernels->cast[TP_KIND_F32][s->to](got, source, CHUNK, s->saturate, &got_stats);
        s->good = memcmp(want, got, CHUNK * 2) == 0 && same_stats(&got_stats, &want_stats, "f32");
        if (!s->good)
            (void)same_values(got, want, (const uint8_t *)source, CHUNK, TP_KIND_F32, s->to);
    }
    free(source);
    free(want);
    free(got);
    return NULL;
}

static bool sweep_all(const struct tp_kernels *k, unsigned to, bool saturate)
{
    enum { MOST = 64 };
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = 1;
    while (threads * 2 <= (unsigned long)online && threads < MOST)
        threads *= 2;
    const uint64_t share = (UINT64_C(1) << 32) / threads;
    struct sweep sweeps[MOST];
    pthread_t ids[MOST];
    bool good = true;
    for (unsigned i = 0; i < threads; i++) {
        sweeps[i] = (struct sweep){.kernels = k, .to = to, .saturate = saturate, .first = i * share};
        sweeps[i].end = sweeps[i].first + share;
        if (pthread_create(&ids[i], NULL, sweep_run, &sweeps[i]))
            must(NULL);
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(ids[i], NULL);
        good = good && sweeps[i].good;
    }
    return good;
}

static void test_all_f32(const struct tp_kernels *k)
{
    for (unsigned to = TP_KIND_F16; to <= TP_KIND_BF16; to++)
        for (int saturate = 0; saturate < 2; saturate++) {
            char name[32], what[64];
            (void)snprintf(what, sizeof what, "%s: all 2^32 values%s", pair_name(name, TP_KIND_F32, to),
                           saturate ? ", saturating" : "");
            report(sweep_all(k, to, saturate), tp_level_name(k->level), what);
        }
}

/* -- Everything -- */

static void test_level(enum tp_level level, bool exhaustive)
{
    struct tp_kernels k;
    if (!tp_kernels_init(&k, tp_level_name(level))) {
        printf("# %s: SKIPPED, this machine has not got it\n", tp_level_name(level));
        return;
    }
    printf("# %s: tested\n", tp_level_name(level));
    test_outside(&k);
    report(f4_is_unpacked(&k), tp_level_name(level), "unpack_f4");
    report(not_bools_are_counted(&k), tp_level_name(level), "count_not_bool");
    test_small_floats(&k);
    for (unsigned log_item = 0; log_item < TP_TRANSPOSE_COUNT; log_item++) {
        char what[32];
        (void)snprintf(what, sizeof what, "transpose items of %u", 1u << log_item);
        report(items_are_transposed(&k, log_item), tp_level_name(level), what);
    }
    test_arithmetic(&k);
    report(digests_are_interchangeable(&k), tp_level_name(level), "xxh3_update goes on from any level");
    if (level == TP_LEVEL_SCALAR)
        return;
#define TEST_PAIR(from, to, FROM, TO, from_bits, to_bits, flushes) test_pair(&k, TP_KIND_##FROM, TP_KIND_##TO);
    TP_EACH_CAST(TEST_PAIR)
#define TEST_MEASURE(kind, KIND, bits) test_pair(&k, TP_KIND_##KIND, TP_KIND_COUNT);
    TP_EACH_KIND(TEST_MEASURE)
    if (exhaustive)
        test_all_f32(&k);
}

int main(int argc, char **argv)
{
    const bool exhaustive = argc == 2 && strcmp(argv[1], "--exhaustive") == 0;
    if (argc > 1 && !exhaustive) {
        fprintf(stderr, "usage: %s [--exhaustive]\n", argv[0]);
        return 2;
    }
    tp_kernels_init_scalar(&scalar);
    inputs_init();
    source_region = region_new();
    target_region = region_new();
    expected_bytes = must(malloc(REGION_BYTES));
    test_stats();
    test_choice();
    for (unsigned level = 0; level < TP_LEVEL_COUNT; level++)
        test_level((enum tp_level)level, exhaustive);
    printf("1..%u\n# %u failed\n", test_count, failure_count);
    return failure_count > 0;
}
