/* SPDX-License-Identifier: MIT */
#include "checkpoint/index.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/json_file.h"

static struct tp_name entry_name(const void *table, uint32_t id)
{
    const struct tp_weight_map *map = table;
    return (struct tp_name){map->entries[id].name, map->entries[id].name_len};
}

static struct tp_name file_name(const void *table, uint32_t id)
{
    const struct tp_weight_map *map = table;
    return (struct tp_name){map->files[id], strlen(map->files[id])};
}

void tp_weight_map_release(struct tp_weight_map *map)
{
    tp_name_index_release(&map->entry_names);
    tp_name_index_release(&map->file_names);
    free(map->entries);
    free(map->files);
    *map = (struct tp_weight_map){0};
}

struct tp_weight_entry *tp_weight_map_find(struct tp_weight_map *map, const char *name, size_t len)
{
    uint32_t id = tp_name_index_find(&map->entry_names, entry_name, map, name, len);
    return id == TP_NAME_NONE ? NULL : &map->entries[id];
}

/* ---- one line of the map ---- */

/* Why a value cannot be the name of a file beside the index, or NULL if it can. Nothing that could leave the folder,
 * on any system. */
static const char *file_name_fault(const struct tp_json_token *value)
{
    if (value->len == 0)
        return "is empty";
    if (value->cut || value->len > 255)
        return "is longer than 255 bytes";
    for (size_t i = 0; i < value->len; i++)
        if ((unsigned char)value->text[i] < 0x20 || strchr("/\\:\x7f", value->text[i]))
            return "is not a plain file name in the folder of the index";
    return tp_name_ends(value->text, ".safetensors") ? NULL : "does not end in .safetensors";
}

static enum tp_status file_number(struct tp_weight_map *map, struct tp_arena *arena, const struct tp_json_token *value,
                                  uint32_t *file, struct tp_error *err)
{
    uint32_t known = tp_name_index_find(&map->file_names, file_name, map, value->text, value->len);
    if (known != TP_NAME_NONE) {
        *file = known;
        return TP_OK;
    }
    if (map->file_count >= TP_FILES_MAX)
        return tp_fail(err, TP_ERR_LIMIT, "the index names more than %u files", TP_FILES_MAX);
    char *copy = tp_arena_strndup(arena, value->text, value->len);
    if (!copy || !tp_array_grow(&map->files, &map->file_capacity, map->file_count + 1, sizeof *map->files))
        return tp_fail_nomem(err);
    *file = (uint32_t)map->file_count;
    map->files[map->file_count++] = copy;
    return tp_name_index_add(&map->file_names, file_name, map, *file, &known) ? TP_OK : tp_fail_nomem(err);
}

static enum tp_status add_entry(struct tp_weight_map *map, struct tp_arena *arena, const struct tp_json_token *key,
                                struct tp_error *err)
{
    if (key->has_nul)
        return tp_fail(err, TP_ERR_FORMAT, "weight_map has a tensor name with a NUL character");
    if (key->cut)
        return tp_fail(err, TP_ERR_LIMIT, "weight_map has a tensor name of more than %u bytes", TP_NAME_MAX_BYTES);
    if (map->entry_count >= UINT32_MAX - 1)
        return tp_fail(err, TP_ERR_LIMIT, "weight_map lists more than 2^32 - 2 tensors");
    struct tp_weight_entry entry = {.name = tp_arena_strndup(arena, key->text, key->len),
                                    .name_len = (uint16_t)key->len};
    uint32_t found;
    if (!entry.name || !tp_array_grow(&map->entries, &map->entry_capacity, map->entry_count + 1, sizeof *map->entries))
        return tp_fail_nomem(err);
    map->entries[map->entry_count] = entry;
    if (!tp_name_index_add(&map->entry_names, entry_name, map, (uint32_t)map->entry_count, &found))
        return tp_fail_nomem(err);
    if (found != TP_NAME_NONE)
        return tp_err_tensor(err, tp_fail(err, TP_ERR_FORMAT, "weight_map lists it twice"), entry.name, entry.name_len);
    map->entry_count++;
    return TP_OK;
}

static enum tp_status read_entry(struct tp_weight_map *map, struct tp_arena *arena, struct tp_json *json,
                                 const struct tp_json_token *key, struct tp_error *err)
{
    struct tp_json_token value;
    enum tp_status status = add_entry(map, arena, key, err);
    if (status)
        return status;
    struct tp_weight_entry *entry = &map->entries[map->entry_count - 1];
    status = tp_json_expect(json, TP_JSON_STRING, "its file in weight_map", &value, err);
    const char *fault = status ? NULL : file_name_fault(&value);
    if (fault) {
        char shown[TP_NAME_TEXT];
        status = tp_fail(err, TP_ERR_FORMAT, "its file in weight_map, '%s', %s",
                         tp_describe_name(shown, value.text, value.len), fault);
    }
    if (!status)
        status = file_number(map, arena, &value, &entry->file, err);
    return status == TP_ERR_FORMAT ? tp_err_tensor(err, status, entry->name, entry->name_len) : status;
}

/* ---- the whole ---- */

static enum tp_status read_weight_map(struct tp_weight_map *map, struct tp_arena *arena, struct tp_json *json,
                                      struct tp_error *err)
{
    struct tp_json_token token;
    enum tp_status status = tp_json_expect(json, TP_JSON_OBJECT_BEGIN, "weight_map", &token, err);
    while (!status) {
        status = tp_json_next(json, &token, err);
        if (status || token.type == TP_JSON_OBJECT_END)
            return status;
        status = read_entry(map, arena, json, &token, err);
    }
    return status;
}

static bool key_is(const struct tp_json_token *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->text, text, key->len) == 0;
}

/* Nothing in it is needed, and what tools write there is often wrong. */
static enum tp_status read_metadata(struct tp_weight_map *map, struct tp_json *json, struct tp_error *err)
{
    struct tp_json_token key, value;
    enum tp_status status = tp_json_next(json, &value, err);
    if (!status && value.type != TP_JSON_OBJECT_BEGIN)
        return tp_json_skip(json, &value, err);
    while (!status) {
        status = tp_json_next(json, &key, err);
        if (status || key.type == TP_JSON_OBJECT_END)
            return status;
        bool is_total = key_is(&key, "total_size");
        status = tp_json_next(json, &value, err);
        if (!status && is_total) {
            map->total = value.type == TP_JSON_UINT ? TP_TOTAL_KNOWN : TP_TOTAL_BAD;
            map->total_bytes = value.uint_value;
        }
        if (!status)
            status = tp_json_skip(json, &value, err);
    }
    return status;
}

static enum tp_status read_top(struct tp_weight_map *map, struct tp_arena *arena, struct tp_json *json,
                               struct tp_error *err)
{
    struct tp_json_token token;
    bool seen = false;
    enum tp_status status = tp_json_expect(json, TP_JSON_OBJECT_BEGIN, "the index", &token, err);
    while (!status) {
        status = tp_json_next(json, &token, err);
        if (status || token.type == TP_JSON_OBJECT_END)
            break;
        if (key_is(&token, "weight_map")) {
            status =
                seen ? tp_fail(err, TP_ERR_FORMAT, "weight_map occurs twice") : read_weight_map(map, arena, json, err);
            seen = true;
        } else if (key_is(&token, "metadata")) {
            status = read_metadata(map, json, err);
        } else {
            status = tp_json_next(json, &token, err);
            if (!status)
                status = tp_json_skip(json, &token, err);
        }
    }
    if (!status)
        status = tp_json_next(json, &token, err); /* the end, or a complaint about what follows */
    if (!status && map->entry_count == 0)
        status = tp_fail(err, TP_ERR_FORMAT, seen ? "weight_map is empty" : "weight_map is missing");
    return status;
}

static int by_name(const void *a, const void *b)
{
    const char *const *left = a, *const *right = b;
    return strcmp(*left, *right);
}

/* Number the files in the order of their names. */
static enum tp_status sort_files(struct tp_weight_map *map, struct tp_error *err)
{
    const char **sorted = malloc(map->file_count * sizeof *sorted);
    uint32_t *new_number = malloc(map->file_count * sizeof *new_number);
    enum tp_status status = sorted && new_number ? TP_OK : tp_fail_nomem(err);
    if (!status) {
        memcpy(sorted, map->files, map->file_count * sizeof *sorted);
        qsort(sorted, map->file_count, sizeof *sorted, by_name);
        for (uint32_t i = 0; i < map->file_count; i++)
            new_number[tp_name_index_find(&map->file_names, file_name, map, sorted[i], strlen(sorted[i]))] = i;
        for (size_t i = 0; i < map->entry_count; i++)
            map->entries[i].file = new_number[map->entries[i].file];
        memcpy(map->files, sorted, map->file_count * sizeof *sorted);
        tp_name_index_release(&map->file_names); /* its numbers are the old ones, and nobody asks again */
    }
    free(sorted);
    free(new_number);
    return status;
}

enum tp_status tp_weight_map_read(struct tp_weight_map *map, struct tp_arena *arena, const char *path,
                                  struct tp_error *err)
{
    struct tp_json_file file;
    enum tp_status status = tp_json_file_open(&file, path, "index", TP_HEADER_MAX_BYTES, err);
    if (!status)
        status = read_top(map, arena, file.json, err);
    if (!status)
        status = sort_files(map, err);
    tp_json_file_close(&file);
    if (status == TP_ERR_FORMAT && err && !err->hint[0])
        tp_err_hint(err, status, "the index is damaged or was written by a faulty program; download it again");
    return status ? tp_err_path(err, status, path) : TP_OK;
}
