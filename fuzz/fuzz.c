/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/utf8.h"

/* ---- promises ---- */

_Noreturn void fuzz_broken(const char *file, int line, const char *promise, const char *words)
{
    fprintf(stderr, "%s:%d: this does not hold: %s%s%s\n", file, line, promise, words ? "\n  " : "",
            words ? words : "");
    abort();
}

void fuzz_check_printable(const char *text, bool lines)
{
    for (size_t len = strlen(text), i = 0; i < len;) {
        uint32_t c = 0;
        size_t step = tp_utf8_decode(text + i, len - i, &c);
        FUZZ_CHECK_SAYS(step > 0, text);
        FUZZ_CHECK_SAYS((c >= 0x20 && (c < 0x7f || c >= 0xa0)) || (lines && c == '\n'), text);
        i += step;
    }
}

void fuzz_check_error(enum tp_status status, const struct tp_error *err)
{
    FUZZ_CHECK(status > TP_OK && status < TP_STATUS_COUNT);
    FUZZ_CHECK_SAYS(status != TP_ERR_BUG && status != TP_ERR_NOMEM, err->message);
    FUZZ_CHECK_SAYS(err->code == status, err->message);
    FUZZ_CHECK(err->message[0] != '\0');
    fuzz_check_printable(err->message, true);
    fuzz_check_printable(err->hint, true);
    fuzz_check_printable(err->path, false);
    fuzz_check_printable(err->tensor, false);
}

/* Chunks may be compressed, larger than the tensor, in the metadata, or nowhere. */
static void check_chunks(const struct tp_checkpoint *ck, const struct tp_tensor *t)
{
    for (uint32_t i = 0; i < t->extent_count; i++) {
        const struct tp_extent *e = &t->extents[i];
        const struct tp_file_info *file = tp_checkpoint_file(ck, e->file);
        FUZZ_CHECK(file || e->file == TP_FILE_ABSENT || e->file == TP_FILE_MEMORY);
        uint64_t size = file ? file->size_bytes : e->file == TP_FILE_MEMORY ? ck->memory_bytes : e->size_bytes;
        FUZZ_CHECK(e->file == TP_FILE_ABSENT || (e->offset_bytes <= size && e->size_bytes <= size - e->offset_bytes));
    }
}

static void check_extents(const struct tp_checkpoint *ck, const struct tp_tensor *t)
{
    if (t->chunks) {
        check_chunks(ck, t);
        return;
    }
    uint64_t next = 0, size_bytes = 0;
    for (uint32_t i = 0; i < t->extent_count; i++) {
        const struct tp_extent *e = &t->extents[i];
        FUZZ_CHECK(e->file < tp_checkpoint_file_count(ck));
        const struct tp_file_info *file = tp_checkpoint_file(ck, e->file);
        FUZZ_CHECK(e->offset_bytes <= file->size_bytes && e->size_bytes <= file->size_bytes - e->offset_bytes);
        FUZZ_CHECK(e->first_elem == next);
        next += e->elem_count;
        size_bytes += e->size_bytes;
    }
    FUZZ_CHECK(next == t->elem_count && size_bytes == t->size_bytes);
}

/* A little from both ends, in memory of just that size. */
static void check_reading(const struct tp_checkpoint *ck, const struct tp_tensor *t)
{
    struct tp_error err = {.code = TP_OK};
    uint64_t count = t->elem_count < 64 ? t->elem_count : 64;
    uint64_t firsts[2] = {0, (t->elem_count - count) / 8 * 8};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t n = i == 0 ? count : t->elem_count - firsts[1];
        size_t bytes = (size_t)(n * tp_dtype_bits((enum tp_dtype)t->dtype) + 7) / 8;
        void *dst = malloc(bytes ? bytes : 1);
        float *values = malloc(n ? (size_t)n * sizeof *values : 1);
        FUZZ_CHECK(dst && values);
        enum tp_status status = tp_tensor_read(ck, t, firsts[i], n, dst, &err);
        bool may_fail = t->chunks && status == TP_ERR_FORMAT; /* what is compressed shows only when it is read */
        FUZZ_CHECK_SAYS(status == TP_OK || may_fail, err.message);
        if (may_fail)
            fuzz_check_error(status, &err);
        status = tp_tensor_read_f32(ck, t, firsts[i], n, values, &err);
        FUZZ_CHECK_SAYS(status == TP_OK || status == TP_ERR_UNSUPPORTED || (t->chunks && status == TP_ERR_FORMAT),
                        err.message);
        free(dst);
        free(values);
    }
}

void fuzz_check_checkpoint(const struct tp_checkpoint *ck)
{
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(ck); i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(ck, i);
        FUZZ_CHECK(strlen(t->name) == t->name_len && tp_checkpoint_find(ck, t->name) == t);
        FUZZ_CHECK(t->group == TP_NO_GROUP || t->group < tp_checkpoint_group_count(ck));
        check_extents(ck, t);
        check_reading(ck, t);
    }
    for (uint32_t i = 0; i < tp_checkpoint_group_count(ck); i++) {
        const struct tp_group *g = tp_checkpoint_group(ck, i);
        FUZZ_CHECK(g->codes < tp_checkpoint_tensor_count(ck) && tp_checkpoint_tensor(ck, g->codes)->group == i);
    }
    for (uint32_t i = 0; i < tp_checkpoint_note_count(ck); i++)
        fuzz_check_printable(tp_checkpoint_note(ck, i), false);
}

/* ---- an input as decisions ---- */

uint64_t fuzz_number(struct fuzz_bytes *in, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
        value |= (uint64_t)*in->at++ << (8 * i);
    return value;
}

size_t fuzz_choice(struct fuzz_bytes *in, size_t count)
{
    return (size_t)fuzz_number(in, 1) % count;
}

bool fuzz_rarely(struct fuzz_bytes *in, unsigned of)
{
    return fuzz_number(in, 1) % of == of - 1;
}

const uint8_t *fuzz_piece(struct fuzz_bytes *in, size_t max, size_t *len)
{
    size_t wanted = (size_t)fuzz_number(in, max < 256 ? 1 : 2) % (max + 1);
    const uint8_t *piece = in->at;
    *len = wanted < in->left ? wanted : in->left;
    in->at += *len;
    in->left -= *len;
    return piece;
}

uint32_t fuzz_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static const struct tp_kernels *kernels_of(struct tp_kernels *kernels, const char *level)
{
    FUZZ_CHECK(kernels->xxh3_update || tp_kernels_init(kernels, level));
    return kernels;
}

const struct tp_kernels *fuzz_kernels(void)
{
    static struct tp_kernels kernels;
    return kernels_of(&kernels, NULL);
}

const struct tp_kernels *fuzz_slow_kernels(void)
{
    static struct tp_kernels kernels;
    return kernels_of(&kernels, "scalar");
}

/* ---- files ---- */

static char folder[512];

static void remove_folder(void)
{
    fuzz_clear();
    rmdir(folder);
}

const char *fuzz_folder(void)
{
    const char *base = getenv("TMPDIR");
    if (folder[0])
        return folder;
    if (!base || !*base)
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof folder, "%s/tensorport-fuzz-XXXXXX", base);
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    return folder;
}

const char *fuzz_path(const char *name)
{
    static char paths[8][1024];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder(), name);
    return path;
}

void fuzz_put(const char *name, const void *bytes, size_t len, uint64_t size_bytes)
{
    int fd = open(fuzz_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EISDIR)
        return; /* the input made a folder of that name before */
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(len == 0 || write(fd, bytes, len) == (ssize_t)len);
    FUZZ_CHECK(size_bytes <= len || ftruncate(fd, (off_t)size_bytes) == 0 || errno == EFBIG);
    close(fd);
}

void fuzz_put_at(const char *name, const void *bytes, size_t len, uint64_t offset)
{
    int fd = open(fuzz_path(name), O_WRONLY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(pwrite(fd, bytes, len, (off_t)offset) == (ssize_t)len || errno == EFBIG);
    close(fd);
}

static void clear(const char *path)
{
    struct tp_names names = {0};
    if (tp_folder_list(&names, path, NULL))
        return;
    for (size_t i = 0; i < names.count; i++) {
        char *inner = tp_path_join(path, names.items[i]);
        FUZZ_CHECK(inner != NULL);
        if (unlink(inner) != 0) {
            clear(inner);
            rmdir(inner);
        }
        free(inner);
    }
    tp_names_release(&names);
}

void fuzz_clear(void)
{
    clear(fuzz_folder());
}

char *fuzz_get(const char *name, size_t *len)
{
    struct stat st;
    int fd = open(fuzz_path(name), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    FUZZ_CHECK(fstat(fd, &st) == 0);
    *len = (size_t)st.st_size;
    char *bytes = malloc(*len + 1);
    FUZZ_CHECK(bytes && read(fd, bytes, *len) == (ssize_t)*len);
    bytes[*len] = '\0';
    close(fd);
    return bytes;
}
