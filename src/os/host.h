/* SPDX-License-Identifier: MIT */
/* The machine: CPUs, clock, random seed, descriptor limit. */
#ifndef TP_OS_HOST_H
#define TP_OS_HOST_H

#include <stdbool.h>
#include <stdint.h>

unsigned tp_host_cpu_count(void); /* that this process may use, at least 1 */
double tp_host_clock_s(void);     /* monotonic */
int64_t tp_host_time_ns(void);    /* since 1970 */
uint64_t tp_host_random(void);
unsigned tp_host_open_file_limit(void);
void *tp_host_alloc_aligned(uint64_t size_bytes); /* page-aligned; NULL: no memory */
void tp_host_free_aligned(void *memory, uint64_t size_bytes);

struct tp_cpu_features {
    bool avx2;   /* AVX2, F16C, BMI2, FMA, and the OS saves the registers */
    bool avx512; /* F, BW, DQ, VL, CD besides */
    bool neon;
};
void tp_host_cpu_features(struct tp_cpu_features *out);

#endif
