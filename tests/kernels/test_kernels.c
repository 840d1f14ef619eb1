/* SPDX-License-Identifier: MIT */
/* Every kernel of every CPU level against the scalar definition, and the definition against tables from outside.
 *
 *   sh tests/kernels/build.sh /tmp/test_kernels && /tmp/test_kernels               a few seconds
 *   /tmp/test_kernels --exhaustive                                                 all 2^32 f32 inputs as well
 *   qemu-x86_64 -cpu Conroe /tmp/test_kernels                                      a CPU without AVX
 *   CC=aarch64-linux-gnu-gcc sh tests/kernels/build.sh /tmp/test_kernels_arm -static && qemu-aarch64 /tmp/test_kernels_arm
 *
 * Output is TAP. A level that this machine has not got is reported as SKIPPED. Every call writes into memory that
 * holds the complement of what is expected, between guard bytes; sources and targets also end, or begin, at a page
 * that must not be touched. */
#define _GNU_SOURCE
#include "kernels/each.h"
#include "kernels/kernels.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fenv.h>
#include <inttypes.h>
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
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* -- Results -- */

static unsigned test_count, failure_count;

static void report(bool good, const char *level, const char *what)
{
    printf("%s %u - %s %s\n", good ? "ok" : "not ok", ++test_count, level, what);
    fflush(stdout);
    failure_count += !good;
}

static void *must(void *p)
{
    if (!p || p == MAP_FAILED) {
        fputs("Bail out! no memory\n", stdout);
        exit(1);
    }
    return p;
}

/* -- Random numbers: the same on every machine and every run -- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_u64(void)
{
    random_state += 0x9e3779b97f4a7c15;
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t random_below(size_t limit)
{
    return (size_t)(random_u64() % limit);
}

/* -- The kinds of float -- */

static const struct kind {
    const char *name;
    unsigned bytes, mantissa_bits, exponent_bits;
} kinds[TP_KIND_COUNT] = {
    [TP_KIND_F64] = {"f64", 8, 52, 11},
    [TP_KIND_F32] = {"f32", 4, 23, 8},
    [TP_KIND_F16] = {"f16", 2, 10, 5},
    [TP_KIND_BF16] = {"bf16", 2, 7, 8},
};

static const char *pair_name(char name[32], unsigned from, unsigned to)
{
    (void)snprintf(name, 32, "%s -> %s", kinds[from].name, kinds[to].name);
    return name;
}

static uint64_t value_at(const uint8_t *p, size_t i, unsigned bytes)
{
    uint64_t bits = 0;
    memcpy(&bits, p + i * bytes, bytes);
    return bits;
}

/* -- Inputs -- */

/* All values of a 16-bit kind. Of a wider one: each sign and exponent with mantissas around every place where some
 * target rounds, ties with and without lower bits set included; then random bits. */
struct table {
    uint8_t *bytes;
    size_t count;
};
static struct table tables[TP_KIND_COUNT];

static void table_add(struct table *t, uint64_t bits, unsigned bytes)
{
    memcpy(t->bytes + t->count++ * bytes, &bits, bytes);
}

/* Mantissas with a tie, or its neighbours, `drop` bits from the right. */
static size_t mantissas_around(uint64_t *out, unsigned drop, uint64_t mask)
{
    const uint64_t half = UINT64_C(1) << (drop - 1), unit = UINT64_C(1) << drop;
    const uint64_t near[] = {0, 1, UINT64_MAX, half >> 1, UINT64_C(0) - (half >> 1), UINT64_C(1) << (drop / 2)};
    const uint64_t above[] = {0, unit, unit * 2, mask & ~(unit - 1), (mask & ~(unit - 1)) - unit};
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(near); i++)
        for (size_t j = 0; j < COUNT_OF(above); j++) {
            out[count++] = (above[j] + half + near[i]) & mask;
            out[count++] = (above[j] + near[i]) & mask;
        }
    return count;
}

static void table_fill(struct table *t, unsigned kind)
{
    static const unsigned drops[] = {42, 29, 45, 13, 16, 3, 10, 24, 36}; /* differences between mantissas, and more */
    const struct kind *k = &kinds[kind];
    const uint64_t mask = (UINT64_C(1) << k->mantissa_bits) - 1;
    const size_t random_count = 1u << 16;
    uint64_t mantissas[COUNT_OF(drops) * 60];
    size_t mantissa_count = 0;
    for (size_t i = 0; i < COUNT_OF(drops); i++)
        if (drops[i] < k->mantissa_bits)
            mantissa_count += mantissas_around(mantissas + mantissa_count, drops[i], mask);

    t->bytes = must(malloc((random_count + (mantissa_count << (k->exponent_bits + 1))) * k->bytes));
    t->count = 0;
    if (k->bytes == 2) {
        for (uint64_t bits = 0; bits < 65536; bits++)
            table_add(t, bits, k->bytes);
        return;
    }
    for (uint64_t high = 0; high < UINT64_C(1) << (k->exponent_bits + 1); high++) /* sign and exponent */
        for (size_t i = 0; i < mantissa_count; i++)
            table_add(t, high << k->mantissa_bits | mantissas[i], k->bytes);
    for (size_t i = 0; i < random_count; i++)
        table_add(t, random_u64() >> (64 - 8 * k->bytes), k->bytes);
}

/* Mixtures for short calls: what a real tensor holds, with more and more that is strange. */
enum flavour { ORDINARY, POSITIVE, NEGATIVE, SPRINKLED, HARD, ZEROS, INFINITIES, NANS, FLAVOUR_COUNT };
#define POOL_VALUES 4096u
static uint8_t *pools[TP_KIND_COUNT][FLAVOUR_COUNT];

static uint64_t flavoured(unsigned kind, enum flavour flavour)
{
    const struct kind *k = &kinds[kind];
    const uint64_t sign = UINT64_C(1) << (k->mantissa_bits + k->exponent_bits);
    const uint64_t mantissa = random_u64() & ((UINT64_C(1) << k->mantissa_bits) - 1);
    const uint64_t bias = (UINT64_C(1) << (k->exponent_bits - 1)) - 1;
    const uint64_t infinity = (2 * bias + 1) << k->mantissa_bits;
    const uint64_t either_sign = random_u64() & sign;
    const uint64_t ordinary = (bias - 1 - random_below(10)) << k->mantissa_bits | mantissa;
    switch (flavour) {
    case ORDINARY:
        return either_sign | ordinary;
    case POSITIVE:
        return ordinary;
    case NEGATIVE:
        return sign | ordinary;
    case SPRINKLED:
        return random_below(16) ? either_sign | ordinary
                                : value_at(tables[kind].bytes, random_below(tables[kind].count), k->bytes);
    case HARD:
        return value_at(tables[kind].bytes, random_below(tables[kind].count), k->bytes);
    case ZEROS:
        return either_sign;
    case INFINITIES:
        return either_sign | infinity;
    default:
        return either_sign | infinity | mantissa | 1;
    }
}

static void inputs_init(void)
{
    for (unsigned kind = 0; kind < TP_KIND_COUNT; kind++) {
        table_fill(&tables[kind], kind);
        for (unsigned flavour = 0; flavour < FLAVOUR_COUNT; flavour++) {
            struct table pool = {must(malloc((size_t)POOL_VALUES * kinds[kind].bytes)), 0};
            while (pool.count < POOL_VALUES)
                table_add(&pool, flavoured(kind, (enum flavour)flavour), kinds[kind].bytes);
            pools[kind][flavour] = pool.bytes;
        }
    }
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
               " flushed %" PRIu64 "\n", what, i ? "got     " : "expected", rows[i]->min, rows[i]->max,
               rows[i]->nan_count, rows[i]->inf_count, rows[i]->overflow_count, rows[i]->flushed_count);
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


static void float_mode_set(bool strange)
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
    if (strange_mode)
        float_mode_set(false);
    bool good = memcmp(target, expected_bytes, bytes) == 0;
    if (!good)
        (void)same_values(target, expected_bytes, source, n, from, to);
    if (!guards_hold(target, bytes)) {
        printf("# %s, n = %zu: bytes beside the target were changed\n", pair_name(name, from, to), n);
        good = false;
    }
    return same_stats(&got, &want, pair_name(name, from, to)) && good;
}

static bool check_measure(const struct tp_kernels *k, unsigned kind, const uint8_t *source, size_t n,
                          bool strange_mode)
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
                target[2 * i] = (uint8_t)~(source[i] & 15);
                target[2 * i + 1] = (uint8_t)~(source[i] >> 4);
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

/* -- The definition against the outside -- */

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* CRC-32 of the little-endian results, as JAX gives them on a CPU with F16C. 16-bit kinds: all inputs in order;
 * f32: i * 65537 for i from 0 to 65535. */
static const struct {
    unsigned from, to;
    uint32_t crc;
} jax_tables[] = {
    {TP_KIND_BF16, TP_KIND_F16, 0x6df63edd}, {TP_KIND_F16, TP_KIND_F32, 0x4e646bca},
    {TP_KIND_F16, TP_KIND_BF16, 0x3b01b24a}, {TP_KIND_BF16, TP_KIND_F32, 0x093b1249},
    {TP_KIND_F32, TP_KIND_F16, 0x7f394274},  {TP_KIND_F32, TP_KIND_BF16, 0xcac8e95c},
};

static void test_jax_tables(const struct tp_kernels *k)
{
    static uint32_t sources[65536];
    static uint8_t targets[sizeof sources];
    for (size_t t = 0; t < COUNT_OF(jax_tables); t++) {
        const unsigned from = jax_tables[t].from, to = jax_tables[t].to;
        struct tp_stats stats = stats_before(true);
        char name[32], what[64];
        for (uint32_t i = 0; i < 65536; i++) {
            const uint32_t bits = from == TP_KIND_F32 ? i * 65537u : i;
            memcpy((uint8_t *)sources + i * kinds[from].bytes, &bits, kinds[from].bytes);
        }
        k->cast[from][to](targets, sources, 65536, false, &stats);
        (void)snprintf(what, sizeof what, "%s: the table is JAX's", pair_name(name, from, to));
        report(crc32_of(targets, 65536u * kinds[to].bytes) == jax_tables[t].crc, tp_level_name(k->level), what);
    }
}

/* Values at which something happens. `kind` of happening: overflow, flush or neither. */
static const struct {
    unsigned from, to;
    uint64_t source, result;
    char happens; /* 'o'verflow, 'f'lush, 'n'an, 'i'nf, ' ' */
} landmarks[] = {
    {TP_KIND_F32, TP_KIND_F16, 0x477fefff, 0x7bff, ' '}, /* 65519.996 */
    {TP_KIND_F32, TP_KIND_F16, 0x477ff000, 0x7c00, 'o'}, /* 65520 */
    {TP_KIND_F32, TP_KIND_F16, 0xc77ff000, 0xfc00, 'o'},
    {TP_KIND_F32, TP_KIND_F16, 0x33000000, 0x0000, 'f'}, /* 2^-25, a tie */
    {TP_KIND_F32, TP_KIND_F16, 0x33000001, 0x0001, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x33c00000, 0x0002, ' '}, /* 1.5 steps, a tie */
    {TP_KIND_F32, TP_KIND_F16, 0x387ff000, 0x0400, ' '}, /* a subnormal rounded up to the smallest normal */
    {TP_KIND_F32, TP_KIND_F16, 0x3f801000, 0x3c00, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x3f801001, 0x3c01, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x3f803000, 0x3c02, ' '},
    {TP_KIND_F32, TP_KIND_F16, 0x7f800001, 0x7e00, 'n'},
    {TP_KIND_F32, TP_KIND_F16, 0xffc12345, 0xfe09, 'n'},
    {TP_KIND_F32, TP_KIND_BF16, 0x7f7f7fff, 0x7f7f, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x7f7f8000, 0x7f80, 'o'},
    {TP_KIND_F32, TP_KIND_BF16, 0x00008000, 0x0000, 'f'},
    {TP_KIND_F32, TP_KIND_BF16, 0x00008001, 0x0001, ' '}, /* a subnormal stays */
    {TP_KIND_F32, TP_KIND_BF16, 0x80000000, 0x8000, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x3f808000, 0x3f80, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x3f818000, 0x3f82, ' '},
    {TP_KIND_F32, TP_KIND_BF16, 0x7fffffff, 0x7fc0, 'n'},
    {TP_KIND_F32, TP_KIND_BF16, 0xff800001, 0xffc0, 'n'},
    {TP_KIND_BF16, TP_KIND_F16, 0x477f, 0x7bf8, ' '},
    {TP_KIND_BF16, TP_KIND_F16, 0x4780, 0x7c00, 'o'},
    {TP_KIND_BF16, TP_KIND_F16, 0x3300, 0x0000, 'f'},
    {TP_KIND_BF16, TP_KIND_F16, 0xff80, 0xfc00, 'i'},
    {TP_KIND_F16, TP_KIND_BF16, 0x7bff, 0x4780, ' '},
    {TP_KIND_F16, TP_KIND_F32, 0x0001, 0x33800000, ' '},
    {TP_KIND_F16, TP_KIND_F32, 0x7c01, 0x7fc02000, 'n'},
    {TP_KIND_BF16, TP_KIND_F32, 0x7f81, 0x7f810000, 'n'},
    {TP_KIND_F64, TP_KIND_F32, 0x47efffffefffffff, 0x7f7fffff, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x47effffff0000000, 0x7f800000, 'o'},
    {TP_KIND_F64, TP_KIND_F32, 0x3690000000000000, 0x00000000, 'f'}, /* 2^-150 */
    {TP_KIND_F64, TP_KIND_F32, 0x3690000000000001, 0x00000001, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x3ff0000010000000, 0x3f800000, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x3ff0000030000000, 0x3f800002, ' '},
    {TP_KIND_F64, TP_KIND_F32, 0x7ff0000000000001, 0x7fc00000, 'n'},
    {TP_KIND_F64, TP_KIND_F32, 0x0000000000000001, 0x00000000, 'f'},
    {TP_KIND_F64, TP_KIND_F16, 0x40effdffffffffff, 0x7bff, ' '},
    {TP_KIND_F64, TP_KIND_F16, 0x40effe0000000000, 0x7c00, 'o'},
    {TP_KIND_F64, TP_KIND_F16, 0x3ff0020000000001, 0x3c01, ' '}, /* just above a tie: through f32 it would be one */
    {TP_KIND_F64, TP_KIND_F16, 0x3e60000000000000, 0x0000, 'f'},
    {TP_KIND_F64, TP_KIND_F16, 0x3e60000000000001, 0x0001, ' '},
    {TP_KIND_F64, TP_KIND_BF16, 0x3ff0100000001000, 0x3f80, ' '}, /* through f32: the tie goes to even */
    {TP_KIND_F64, TP_KIND_BF16, 0x47efeffff0000000, 0x7f80, 'o'},
    {TP_KIND_F64, TP_KIND_BF16, 0x47efefffefffffff, 0x7f7f, ' '},
    {TP_KIND_F64, TP_KIND_BF16, 0x3790001000000000, 0x0000, 'f'},
    {TP_KIND_F64, TP_KIND_BF16, 0x3790001000000001, 0x0001, ' '},
};

static void test_landmarks(const struct tp_kernels *k)
{
    bool good = true;
    for (size_t i = 0; i < COUNT_OF(landmarks); i++) {
        const unsigned from = landmarks[i].from, to = landmarks[i].to;
        const char happens = landmarks[i].happens;
        struct tp_stats stats = stats_before(true);
        uint64_t result = 0, saturated = 0;
        k->cast[from][to](&result, &landmarks[i].source, 1, false, &stats);
        const bool counted = stats.overflow_count == (happens == 'o') && stats.flushed_count == (happens == 'f') &&
                             stats.nan_count == (happens == 'n') && stats.inf_count == (happens == 'i');
        k->cast[from][to](&saturated, &landmarks[i].source, 1, true, &stats);
        if (result != landmarks[i].result || saturated != landmarks[i].result - (happens == 'o') || !counted) {
            char name[32];
            printf("# %s: %" PRIx64 " became %" PRIx64 " (saturated %" PRIx64 "), expected %" PRIx64 "%s\n",
                   pair_name(name, from, to), landmarks[i].source, result, saturated, landmarks[i].result,
                   counted ? "" : "; miscounted");
            good = false;
        }
    }
    report(good, tp_level_name(k->level), "casts and counts at the values where something happens");
}

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
        all = all && k.measure[i] && !k.cast[i][i] && !k.cast[i][TP_KIND_F64];
    report(all && k.unpack_f4 && k.count_not_bool && k.xxh3_update, "choice", "fills every slot and no other");
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
    test_jax_tables(&k);
    test_landmarks(&k);
    report(f4_is_unpacked(&k), tp_level_name(level), "unpack_f4");
    report(not_bools_are_counted(&k), tp_level_name(level), "count_not_bool");
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
