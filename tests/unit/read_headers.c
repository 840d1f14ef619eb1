/* SPDX-License-Identifier: MIT */
/* One JSON line for each path on stdin: what tp_checkpoint_open makes of it. For tests that have thousands of small
 * checkpoints (tests/e2e/test_safetensors_oracle.py). */
#include <stdio.h>
#include <string.h>

#include "codec/json.h"
#include "tensorport/checkpoint.h"

static enum tp_status to_stdout(void *user, const char *text, size_t len, struct tp_error *err)
{
    (void)user;
    (void)err;
    return fwrite(text, 1, len, stdout) == len ? TP_OK : TP_ERR_IO;
}

static void member(struct tp_json_writer *w, const char *key, const char *value)
{
    tp_json_key(w, key);
    tp_json_cstring(w, value);
}

static void write_tensor(struct tp_json_writer *w, const struct tp_checkpoint *ck, const struct tp_tensor *t)
{
    const struct tp_extent *e = &t->extents[0];
    uint64_t data_start = tp_checkpoint_file(ck, e->file)->header_bytes;
    tp_json_begin_array(w);
    tp_json_string(w, t->name, t->name_len);
    tp_json_cstring(w, tp_dtype_name((enum tp_dtype)t->dtype));
    tp_json_begin_array(w);
    for (unsigned i = 0; i < t->rank; i++)
        tp_json_uint(w, t->shape[i]);
    tp_json_end_array(w);
    tp_json_uint(w, e->offset_bytes - data_start);
    tp_json_uint(w, e->offset_bytes - data_start + e->size_bytes);
    tp_json_cstring(w, tp_checkpoint_file(ck, e->file)->name);
    tp_json_end_array(w);
}

static void write_group(struct tp_json_writer *w, const struct tp_group *g)
{
    tp_json_begin_array(w);
    tp_json_cstring(w, g->scheme);
    tp_json_cstring(w, g->name);
    tp_json_uint(w, g->parameter_count);
    tp_json_uint(w, g->member_count);
    tp_json_end_array(w);
}

static void write_checkpoint(struct tp_json_writer *w, const struct tp_checkpoint *ck)
{
    tp_json_key(w, "notes");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_note_count(ck); i++)
        tp_json_cstring(w, tp_checkpoint_note(ck, i));
    tp_json_end_array(w);
    tp_json_key(w, "parameters");
    tp_json_uint(w, tp_checkpoint_parameter_count(ck));
    tp_json_key(w, "groups");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_group_count(ck); i++)
        write_group(w, tp_checkpoint_group(ck, i));
    tp_json_end_array(w);
    tp_json_key(w, "tensors");
    tp_json_begin_array(w);
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(ck); i++)
        write_tensor(w, ck, tp_checkpoint_tensor(ck, i));
    tp_json_end_array(w);
}

static void write_error(struct tp_json_writer *w, const struct tp_error *err)
{
    member(w, "path", err->path);
    member(w, "tensor", err->tensor);
    member(w, "message", err->message);
    member(w, "hint", err->hint);
}

int main(void)
{
    static struct tp_json_writer w;
    static char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = '\0';
        struct tp_checkpoint *ck = NULL;
        struct tp_error err = {.code = TP_OK};
        enum tp_status status = tp_checkpoint_open(&ck, path, NULL, &err);
        tp_json_writer_init(&w, to_stdout, NULL, NULL);
        tp_json_begin_object(&w);
        member(&w, "status", tp_status_name(status));
        tp_json_key(&w, "exit");
        tp_json_uint(&w, (uint64_t)tp_status_exit_code(status));
        if (status)
            write_error(&w, &err);
        else
            write_checkpoint(&w, ck);
        tp_json_end_object(&w);
        tp_json_newline(&w);
        if (tp_json_writer_finish(&w))
            return 4;
        tp_checkpoint_close(ck);
    }
    return 0;
}
