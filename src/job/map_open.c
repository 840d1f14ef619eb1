/* SPDX-License-Identifier: MIT */
/* Maps, from presets and files; and what a parsed one says of itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "job/preset.h"
#include "map/rule.h"
#include "os/file.h"
#include "tensorport/text.h"

/* Parse, and call it by the name that it was asked for with. */
static enum tp_status parse(struct tp_map **out, const char *text, size_t len, const char *name, const char *path,
                            struct tp_error *err)
{
    struct tp_map *map = NULL;
    enum tp_status st = tp_map_parse(&map, text, len, path, err);
    if (st)
        return st;
    map->name = tp_arena_strndup(&map->arena, name, strlen(name));
    if (!map->name) {
        tp_map_release(map);
        return tp_fail_nomem(err);
    }
    *out = map;
    return TP_OK;
}

static enum tp_status open_preset(struct tp_map **out, const struct tp_preset *preset, struct tp_error *err)
{
    char name[160];
    snprintf(name, sizeof name, "%s/%s", preset->target, preset->family);
    return parse(out, preset->text, preset->text_len, name, name, err);
}

/* The whole file in malloc'd memory. */
static enum tp_status read_file(char **text, size_t *len, const char *path, struct tp_error *err)
{
    struct tp_file_id id;
    char size[TP_COUNT_TEXT], most[TP_COUNT_TEXT];
    int fd = -1;
    enum tp_status st = tp_file_open_read(&fd, path, &id, err);
    if (!st && id.size_bytes > TP_MAP_TEXT_MAX)
        st = tp_err_path(err,
                         tp_fail(err, TP_ERR_LIMIT, "this map has %s bytes; at most %s are read",
                                 tp_describe_count(size, id.size_bytes), tp_describe_count(most, TP_MAP_TEXT_MAX)),
                         path);
    char *bytes = st ? NULL : malloc((size_t)id.size_bytes + 1);
    if (!st && !bytes)
        st = tp_fail_nomem(err);
    if (!st)
        st = tp_file_read_at(fd, bytes, (size_t)id.size_bytes, 0, path, err);
    tp_fd_close(fd);
    if (st) {
        free(bytes);
        return st;
    }
    *text = bytes;
    *len = (size_t)id.size_bytes;
    return TP_OK;
}

enum tp_status tp_map_open(struct tp_map **out, const char *name, struct tp_error *err)
{
    const struct tp_preset *preset = tp_preset_find(name);
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *text = NULL;
    size_t len = 0;
    if (preset)
        return open_preset(out, preset, err);
    enum tp_status st = tp_path_kind_of(&kind, name, err);
    if (!st && kind == TP_PATH_ABSENT)
        return tp_preset_refuse(name, "is neither a preset nor a file", err);
    if (!st && kind == TP_PATH_FOLDER)
        return tp_preset_refuse(name, "is a folder, not a map", err);
    if (!st)
        st = read_file(&text, &len, name, err);
    if (!st)
        st = parse(out, text, len, name, name, err);
    free(text);
    return st;
}

/* ---- by config.json ---- */

static bool is_for(const struct tp_map *map, const char *architecture)
{
    for (uint32_t i = 0; i < map->architecture_count; i++)
        if (strcmp(map->architectures[i], architecture) == 0)
            return true;
    return false;
}

static enum tp_status refuse_family(const char *target, const struct tp_checkpoint *ck, struct tp_error *err)
{
    const char *architecture = tp_checkpoint_facts(ck)->architecture;
    char families[600], shown[200];
    if (tp_target_families(target, families, sizeof families) == 0)
        return tp_target_refuse(target, err);
    if (architecture)
        tp_fail(err, TP_ERR_UNSUPPORTED, "no map of %s is for %s; its families are: %s", target,
                tp_text_printable(shown, sizeof shown, architecture, strlen(architecture)), families);
    else
        tp_fail(err, TP_ERR_UNSUPPORTED,
                "there is no config.json that names an architecture, so the family is not known; %s has: %s", target,
                families);
    tp_err_path(err, TP_ERR_UNSUPPORTED, tp_checkpoint_path(ck));
    return tp_err_hint(err, TP_ERR_UNSUPPORTED, "--map %s/FAMILY takes one of them, --map FILE a map of your own",
                       target);
}

enum tp_status tp_map_open_for(struct tp_map **out, const char *target, const struct tp_checkpoint *ck,
                               struct tp_error *err)
{
    const char *architecture = tp_checkpoint_facts(ck)->architecture;
    enum tp_status st = TP_OK;
    for (uint32_t i = 0; i < tp_presets_count && architecture && !st; i++) {
        struct tp_map *map = NULL;
        if (strcmp(tp_presets[i].target, target) != 0)
            continue;
        st = open_preset(&map, &tp_presets[i], err);
        if (!st && is_for(map, architecture)) {
            *out = map;
            return TP_OK;
        }
        tp_map_release(map);
    }
    return st ? st : refuse_family(target, ck, err);
}

void tp_map_free(struct tp_map *map)
{
    tp_map_release(map);
}

/* ---- what it says ---- */

const char *tp_map_name(const struct tp_map *map)
{
    return map->name;
}

const char *tp_map_description(const struct tp_map *map)
{
    return map->description;
}

const char *tp_map_text(const struct tp_map *map, size_t *len)
{
    *len = map->text_len;
    return map->text;
}

uint32_t tp_map_rule_count(const struct tp_map *map)
{
    return map->rule_count;
}

const char *tp_map_rule_text(const struct tp_map *map, uint32_t rule, uint32_t *line)
{
    *line = map->rules[rule].line;
    return map->rules[rule].text;
}

const char *tp_map_architecture(const struct tp_map *map, uint32_t index)
{
    return index < map->architecture_count ? map->architectures[index] : NULL;
}
