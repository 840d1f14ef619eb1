/* SPDX-License-Identifier: MIT */
/* The machine, as this process may use it. CPU features are in cpu.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity, getrandom */
#endif

#include "os/host.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* A container's share of CPUs, rounded up; 0 where there is no such limit. "200000 100000" means two. */
static unsigned quota_cpu_count(void)
{
    char text[64] = "";
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f)
        return 0;
    bool got = fgets(text, sizeof text, f) != NULL;
    fclose(f);
    char *end = text;
    unsigned long quota = strtoul(text, &end, 10); /* "max" is not a number, and leaves 0 */
    unsigned long period = strtoul(end, NULL, 10);
    return got && quota > 0 && quota < 1ul << 31 && period > 0 ? (unsigned)((quota + period - 1) / period) : 0;
}

unsigned tp_host_cpu_count(void)
{
    cpu_set_t set;
    long count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    unsigned quota = quota_cpu_count();
    if (quota > 0 && count > (long)quota)
        count = (long)quota;
    return count > 0 ? (unsigned)count : 1;
}

int64_t tp_host_time_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double tp_host_clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

uint64_t tp_host_random(void)
{
    uint64_t value;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) == (ssize_t)sizeof value)
        return value;
    struct timespec now; /* an early boot, or a kernel without it: still different from run to run */
    clock_gettime(CLOCK_REALTIME, &now);
    return ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid()) * 0x9e3779b97f4a7c15u;
}

unsigned tp_host_open_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 256;
    return limit.rlim_cur > 1u << 20 ? 1u << 20 : (unsigned)limit.rlim_cur;
}

#define LARGE_BYTES ((uint64_t)4 << 20)

/* Large memory is walked in large steps, each in another page. Huge pages, where the kernel has some to give, spare the
 * processor most of its look-ups. */
void *tp_host_alloc_aligned(uint64_t size_bytes)
{
    if (size_bytes == 0)
        size_bytes = 1;
    if (size_bytes > SIZE_MAX / 2)
        return NULL;
    void *memory = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (size_bytes >= LARGE_BYTES)
        (void)madvise(memory, (size_t)size_bytes, MADV_HUGEPAGE); /* a wish */
    return memory;
}

void tp_host_free_aligned(void *memory, uint64_t size_bytes)
{
    if (memory)
        munmap(memory, size_bytes ? (size_t)size_bytes : 1);
}
