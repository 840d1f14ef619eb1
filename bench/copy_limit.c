/* SPDX-License-Identifier: MIT */
/* The copy limit of a machine: N threads, one output file each, pread + pwrite of the same bytes into allocated files,
 * and no work between. No converter that writes files can be faster by more than luck, so bench.py measures against it.
 *
 *   copy_limit THREADS CHUNK_KIB OUT_FOLDER INPUT...      prints the seconds, and leaves OUT_FOLDER/copy-<thread>
 *
 * The bytes of all inputs are one long string here; each thread takes an equal part of it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct input {
    int fd;
    uint64_t size;
};

struct part {
    pthread_t thread;
    const struct input *inputs;
    uint64_t begin, end; /* of the long string */
    size_t chunk;
    const char *folder;
    unsigned index;
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(4);
}

static void copy_span(int out, uint64_t out_at, int in, uint64_t in_at, uint64_t len, size_t chunk, char *buffer)
{
    while (len > 0) {
        size_t want = len < chunk ? (size_t)len : chunk;
        ssize_t got = pread(in, buffer, want, (off_t)in_at);
        if (got <= 0 || pwrite(out, buffer, (size_t)got, (off_t)out_at) != got)
            fail("copy");
        in_at += (uint64_t)got;
        out_at += (uint64_t)got;
        len -= (uint64_t)got;
    }
}

static void *copy_part(void *argument)
{
    const struct part *p = argument;
    char path[4096];
    snprintf(path, sizeof path, "%s/copy-%u", p->folder, p->index);
    char *buffer = aligned_alloc(4096, p->chunk);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (!buffer || out < 0)
        fail(path);
    (void)!fallocate(out, 0, 0, (off_t)(p->end - p->begin)); /* what a file system cannot, it need not */
    uint64_t at = 0;                                         /* where the current input begins in the long string */
    for (const struct input *in = p->inputs; at < p->end; at += in->size, in++) {
        uint64_t from = p->begin > at ? p->begin : at;
        uint64_t to = p->end < at + in->size ? p->end : at + in->size;
        if (from < to)
            copy_span(out, from - p->begin, in->fd, from - at, to - from, p->chunk, buffer);
    }
    if (close(out) != 0)
        fail(path);
    free(buffer);
    return NULL;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 4 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    size_t chunk = argc > 4 ? 1024 * strtoul(argv[2], NULL, 10) : 0;
    if (threads == 0 || threads > 256 || chunk == 0 || chunk % 4096 != 0) {
        fprintf(stderr, "usage: copy_limit THREADS CHUNK_KIB OUT_FOLDER INPUT... (CHUNK_KIB a multiple of 4)\n");
        return 2;
    }
    struct input *inputs = calloc((size_t)argc, sizeof *inputs);
    struct part *parts = calloc(threads, sizeof *parts);
    if (!inputs || !parts)
        fail("memory");
    uint64_t total = 0;
    for (int i = 4; i < argc; i++) {
        struct stat st;
        inputs[i - 4].fd = open(argv[i], O_RDONLY);
        if (inputs[i - 4].fd < 0 || fstat(inputs[i - 4].fd, &st) != 0)
            fail(argv[i]);
        total += inputs[i - 4].size = (uint64_t)st.st_size;
    }
    double start = now_s();
    for (unsigned i = 0; i < threads; i++) {
        parts[i] = (struct part){
            .inputs = inputs, .begin = total / threads * i, .chunk = chunk, .folder = argv[3], .index = i};
        parts[i].end = i + 1 == threads ? total : total / threads * (i + 1);
        if (pthread_create(&parts[i].thread, NULL, copy_part, &parts[i]) != 0)
            fail("pthread_create");
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(parts[i].thread, NULL);
    printf("%.6f\n", now_s() - start);
    free(parts);
    free(inputs);
    return 0;
}
