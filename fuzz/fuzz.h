/* SPDX-License-Identifier: MIT */
/* What the fuzz targets share. A target is one file fuzz_NAME.c with LLVMFuzzerTestOneInput: libFuzzer calls it with
 * inputs that it invents (make fuzz), replay.c with those of corpus/NAME.txt (make test). docs/testing.md says more. */
#ifndef TP_FUZZ_FUZZ_H
#define TP_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint/checkpoint.h"
#include "kernels/kernels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- promises ---- */

/* A promise that does not hold ends the program, so that libFuzzer keeps the input. */
#define FUZZ_CHECK(promise) ((promise) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #promise, NULL))
#define FUZZ_CHECK_SAYS(promise, words) ((promise) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #promise, (words)))
_Noreturn void fuzz_broken(const char *file, int line, const char *promise, const char *words);

/* An error is a clear one: its code is the status, its words are there and printable, and neither a broken promise of
 * the library nor a lack of memory is among them (no input here is large). `err` is zeroed before the call that failed.
 */
void fuzz_check_error(enum tp_status status, const struct tp_error *err);
/* Printable UTF-8: no control character, in messages but for the ends of lines. */
void fuzz_check_printable(const char *text, bool lines);
/* What every open checkpoint promises: extents inside the files and exactly the tensor, names that are found, data that
 * can be read. */
void fuzz_check_checkpoint(const struct tp_checkpoint *ck);

/* ---- an input as decisions ---- */

/* Bytes that steer how a target builds something. Beyond the end there are zeros, so that every input means something,
 * and a zero should be the plainest choice. */
struct fuzz_bytes {
    const uint8_t *at;
    size_t left;
};
uint64_t fuzz_number(struct fuzz_bytes *in, unsigned bytes); /* little-endian */
/* 0 to count - 1; count is at most 256. */
size_t fuzz_choice(struct fuzz_bytes *in, size_t count);
/* Rarely: one of `of` byte values is a yes. */
bool fuzz_rarely(struct fuzz_bytes *in, unsigned of);
/* Up to `max` bytes of the input itself, length first; valid as long as the input. */
const uint8_t *fuzz_piece(struct fuzz_bytes *in, size_t max, size_t *len);

/* Numbers that a seed from the input stands for: bulk that need not be fuzzed byte by byte. */
uint32_t fuzz_random(uint64_t *state);

/* The kernels of the best level and of the slowest. The CPU is asked once: in a virtual machine that takes long. */
const struct tp_kernels *fuzz_kernels(void);
const struct tp_kernels *fuzz_slow_kernels(void);

/* ---- files ---- */

/* A folder in memory (under TMPDIR or /dev/shm), made at the first use and removed at the end of the process. */
const char *fuzz_folder(void);
/* The path of a name in it; the last eight answers stay valid. */
const char *fuzz_path(const char *name);
/* A file there: `len` bytes, then a hole up to `size_bytes`. */
void fuzz_put(const char *name, const void *bytes, size_t len, uint64_t size_bytes);
/* Further bytes of a file that is there, before its end. */
void fuzz_put_at(const char *name, const void *bytes, size_t len, uint64_t offset);
/* Removes everything in it, folders too. */
void fuzz_clear(void);
/* The whole file, malloc'd and terminated; NULL: it is not there. */
char *fuzz_get(const char *name, size_t *len);

#endif
