/* SPDX-License-Identifier: MIT */
#include "job/sidefiles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/config_copy.h"
#include "job/textfile.h"

/* What a model folder holds besides weights. A written list: nothing else is ever taken along. */
static const char *const side_globs[] = {
    "config.json",
    "generation_config.json",
    "configuration.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "source.spm",
    "target.spm",
    "sentencepiece.bpe.model",
    "*.tiktoken",
    "tekken.json",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "hf_quant_config.json",
    "quantize_config.json",
    "quant_config.json",
    "README.md",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
    "COPYING*",
};

#define COPY_BYTES ((size_t)64 << 10)

enum tp_status tp_side_add(struct tp_side_list *list, const char *name, uint64_t size_bytes,
                           const struct tp_digest *digest, struct tp_error *err)
{
    char *kept = tp_arena_strndup(&list->arena, name, strlen(name));
    if (!kept || !tp_array_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items))
        return tp_fail_nomem(err);
    list->items[list->count++] = (struct tp_side_file){.name = kept, .size_bytes = size_bytes};
    if (digest)
        list->items[list->count - 1].digest = *digest;
    return TP_OK;
}

void tp_side_release(struct tp_side_list *list)
{
    free(list->items);
    tp_arena_release(&list->arena);
    *list = (struct tp_side_list){.count = 0};
}

static bool is_side_file(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(side_globs); i++)
        if (tp_glob_match(side_globs[i], name))
            return true;
    return false;
}

static const char *folder_of(const struct tp_checkpoint *ck)
{
    return ck->side_folder ? ck->side_folder : ck->folder;
}

/* A single file is a model of its own unless it is called as the one file of a model folder is. */
static bool owns_its_folder(const struct tp_checkpoint *ck)
{
    return ck->side_folder || strcmp(ck->path, ck->folder) == 0 ||
           (ck->file_count == 1 && strcmp(ck->files[0].name, "model.safetensors") == 0);
}

static enum tp_status add_if_regular(struct tp_side_list *list, const char *folder, const char *name,
                                     struct tp_error *err)
{
    char *path = tp_path_join(folder, name);
    int fd = -1;
    struct tp_file_id id;
    enum tp_status st = path ? tp_file_open_read(&fd, path, &id, err) : tp_fail_nomem(err);
    if (!st)
        st = tp_side_add(list, name, id.size_bytes, NULL, err);
    tp_fd_close(fd);
    free(path);
    return st == TP_ERR_FORMAT ? TP_OK : st; /* a folder or a FIFO of that name is none of ours */
}

/* Say how codes are to be read: of no use, and misleading, beside plain numbers. */
static const char *const quant_configs[] = {"hf_quant_config.json", "quantize_config.json", "quant_config.json"};

static bool is_quant_config(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(quant_configs); i++)
        if (strcmp(quant_configs[i], name) == 0)
            return true;
    return false;
}

/* "config.json" as "config.original.json" */
static enum tp_status keep_original(struct tp_side_list *list, struct tp_side_file *side, bool replace,
                                    struct tp_error *err)
{
    char name[300];
    size_t stem = strlen(side->name) - strlen(".json");
    const char *from = side->from;
    snprintf(name, sizeof name, "%.*s.original.json", (int)stem, side->name);
    if (!replace) {
        side->is_plain = true;
        enum tp_status st = tp_side_add(list, name, side->size_bytes, NULL, err);
        if (!st)
            list->items[list->count - 1].from = from;
        return st;
    }
    side->name = tp_arena_strndup(&list->arena, name, strlen(name));
    return side->name ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status keep_originals(struct tp_side_list *list, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0, count = list->count; i < count && !st; i++) {
        struct tp_side_file side = list->items[i];
        bool is_config = strcmp(side.name, "config.json") == 0;
        if (is_config || is_quant_config(side.name)) {
            st = keep_original(list, &side, !is_config, err);
            list->items[i] = side;
        }
    }
    return st;
}

enum tp_status tp_side_find(struct tp_side_list *list, const struct tp_checkpoint *ck, bool decoded,
                            struct tp_error *err)
{
    struct tp_names names = {0};
    if (!owns_its_folder(ck))
        return TP_OK;
    enum tp_status st = tp_folder_list(&names, folder_of(ck), err);
    for (size_t i = 0; i < names.count && !st; i++)
        if (is_side_file(names.items[i]))
            st = add_if_regular(list, folder_of(ck), names.items[i], err);
    tp_names_release(&names);
    for (size_t i = 0; i < list->count; i++)
        list->items[i].from = list->items[i].name;
    return !st && decoded ? keep_originals(list, err) : st;
}

static enum tp_status copy_bytes(int fd, const char *path, struct tp_text_file *out, uint64_t size,
                                 struct tp_error *err)
{
    char *buffer = malloc(COPY_BYTES);
    enum tp_status st = buffer ? TP_OK : tp_fail_nomem(err);
    for (uint64_t at = 0; at < size && !st;) {
        size_t n = size - at < COPY_BYTES ? (size_t)(size - at) : COPY_BYTES;
        st = tp_file_read_at(fd, buffer, n, at, path, err);
        if (!st)
            st = tp_text_file_write(out, buffer, n, err);
        at += n;
    }
    free(buffer);
    return st;
}

static enum tp_status copy_file(struct tp_side_file *side, const char *from, const char *to,
                                const struct tp_kernels *kernels, bool sync, struct tp_error *err)
{
    char *path = tp_path_join(from, side->from);
    bool changed;
    struct tp_text_file out = {.fd = -1};
    struct tp_file_id id;
    int fd = -1;
    enum tp_status st = path ? tp_file_open_read(&fd, path, &id, err) : tp_fail_nomem(err);
    if (!st)
        st = tp_text_file_open(&out, to, side->name, kernels, err);
    if (!st)
        st =
            side->is_plain ? tp_config_copy(path, &out, &changed, err) : copy_bytes(fd, path, &out, id.size_bytes, err);
    side->size_bytes = out.size_bytes;
    st = tp_text_file_close(&out, st, sync, &side->digest, err);
    tp_fd_close(fd);
    free(path);
    return st;
}

enum tp_status tp_side_copy(struct tp_side_list *list, const struct tp_checkpoint *ck, const char *folder,
                            const struct tp_kernels *kernels, bool sync, struct tp_error *err)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < list->count && !st; i++)
        st = copy_file(&list->items[i], folder_of(ck), folder, kernels, sync, err);
    return st;
}
