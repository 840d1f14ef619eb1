/* SPDX-License-Identifier: MIT */
/* read_values MEMORY PIECE SEED < lines "CHECKPOINT\tOUT": every tensor's values into the file OUT, for tests that
 * compare them with what another reader says (tests/e2e/test_orbax_read.py, tools that flip bytes). A line of JSON for
 * each checkpoint on stdout: {"error": ...}, or format, files, notes and tensors [name, dtype, shape, chunks].
 *
 * Values are read forward in pieces of up to PIECE elements by a reader of MEMORY bytes (0: without a reader). SEED not
 * 0: the pieces come in a shuffled order. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/chunks.h"
#include "codec/json.h"

struct how {
    size_t memory;
    uint64_t piece, seed;
};

static enum tp_status to_stdout(void *user, const char *text, size_t len, struct tp_error *err)
{
    (void)user;
    (void)err;
    return fwrite(text, 1, len, stdout) == len ? TP_OK : TP_ERR_IO;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* The order in which the pieces are read. malloc'd; NULL: no memory. */
static uint64_t *order_of(uint64_t count, uint64_t seed)
{
    uint64_t *order = malloc((count + 1) * sizeof *order);
    for (uint64_t i = 0; order && i < count; i++)
        order[i] = i;
    for (uint64_t i = count; order && seed && i > 1; i--) {
        uint64_t k = next_random(&seed) % i, swap = order[i - 1];
        order[i - 1] = order[k];
        order[k] = swap;
    }
    return order;
}

static enum tp_status read_piece(struct tp_chunk_reader *reader, const struct tp_checkpoint *ck,
                                 const struct tp_tensor *t, uint64_t first, uint64_t count, void *dst,
                                 struct tp_error *err)
{
    return reader && t->chunks ? tp_chunks_read(reader, ck, t, first, count, dst, err)
                               : tp_tensor_read(ck, t, first, count, dst, err);
}

/* Every byte of dst is written, and none beside it: the room is exactly as large, which AddressSanitizer watches. */
static enum tp_status read_tensor(const struct how *how, const struct tp_checkpoint *ck, const struct tp_tensor *t,
                                  uint8_t *dst, struct tp_error *err)
{
    unsigned item = tp_dtype_bits((enum tp_dtype)t->dtype) / 8;
    uint64_t piece = how->piece ? how->piece : t->elem_count, count = piece ? (t->elem_count + piece - 1) / piece : 0;
    struct tp_chunk_reader *reader = how->memory ? tp_chunk_reader_new(how->memory) : NULL;
    uint64_t *order = order_of(count, how->seed);
    enum tp_status st = order && (reader || !how->memory) ? TP_OK : TP_ERR_NOMEM;
    for (uint64_t i = 0; !st && i < count; i++) {
        uint64_t first = order[i] * piece, left = t->elem_count - first, n = left < piece ? left : piece;
        uint8_t *room = malloc((size_t)n * item);
        st = room ? read_piece(reader, ck, t, first, n, room, err) : TP_ERR_NOMEM;
        if (!st)
            memcpy(dst + first * item, room, (size_t)n * item);
        free(room);
    }
    free(order);
    tp_chunk_reader_free(reader);
    return st;
}

static enum tp_status write_values(const struct how *how, const struct tp_checkpoint *ck, const char *path,
                                   struct tp_error *err)
{
    FILE *out = fopen(path, "wb");
    enum tp_status st = out ? TP_OK : TP_ERR_IO;
    for (uint32_t i = 0; !st && i < tp_checkpoint_tensor_count(ck); i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(ck, i);
        uint8_t *dst = malloc((size_t)t->size_bytes + 1);
        st = dst ? read_tensor(how, ck, t, dst, err) : TP_ERR_NOMEM;
        if (!st && fwrite(dst, 1, (size_t)t->size_bytes, out) != t->size_bytes)
            st = TP_ERR_IO;
        free(dst);
    }
    if (out)
        fclose(out);
    return st;
}

static void write_tensor(struct tp_json_writer *w, const struct tp_tensor *t)
{
    tp_json_begin_array(w);
    tp_json_string(w, t->name, t->name_len);
    tp_json_cstring(w, tp_dtype_numpy_name((enum tp_dtype)t->dtype));
    tp_json_begin_array(w);
    for (unsigned i = 0; i < t->rank; i++)
        tp_json_uint(w, t->shape[i]);
    tp_json_end_array(w);
    tp_json_uint(w, t->chunks ? t->extent_count : 0);
    tp_json_end_array(w);
}

static void write_contents(struct tp_json_writer *w, const struct tp_checkpoint *ck)
{
    tp_json_key(w, "format");
    tp_json_cstring(w, tp_checkpoint_format(ck));
    tp_json_key(w, "files");
    tp_json_uint(w, tp_checkpoint_file_count(ck));
    tp_json_key(w, "notes");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_note_count(ck); i++)
        tp_json_cstring(w, tp_checkpoint_note(ck, i));
    tp_json_end_array(w);
    tp_json_key(w, "tensors");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(ck); i++)
        write_tensor(w, tp_checkpoint_tensor(ck, i));
    tp_json_end_array(w);
}

static void report(const struct how *how, const char *path, const char *out)
{
    struct tp_json_writer w;
    struct tp_error err = {.code = TP_OK};
    struct tp_checkpoint *ck = NULL;
    enum tp_status st = tp_checkpoint_open(&ck, path, NULL, &err);
    if (!st)
        st = write_values(how, ck, out, &err);
    tp_json_writer_init(&w, to_stdout, NULL, &err);
    tp_json_begin_object(&w);
    if (st) {
        tp_json_key(&w, "status");
        tp_json_cstring(&w, tp_status_name(st));
        tp_json_key(&w, "error");
        tp_json_cstring(&w, err.message);
        tp_json_key(&w, "tensor");
        tp_json_cstring(&w, err.tensor);
        tp_json_key(&w, "path");
        tp_json_cstring(&w, err.path);
    } else {
        write_contents(&w, ck);
    }
    tp_json_end_object(&w);
    tp_json_newline(&w);
    if (tp_json_writer_finish(&w) != TP_OK)
        exit(1);
    tp_checkpoint_close(ck);
}

int main(int argc, char **argv)
{
    static char line[1 << 16];
    if (argc != 4)
        return 2;
    struct how how = {strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10)};
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *tab = strchr(line, '\t');
        if (!tab)
            return 2;
        *tab = '\0';
        report(&how, line, tab + 1);
    }
    return 0;
}
