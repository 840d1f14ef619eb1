/* SPDX-License-Identifier: MIT */
/* Which reader a path is for: one row a format. A folder that no reader knows is explained, since what lies in it
 * usually tells what went wrong. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/describe.h"

static const struct tp_reader *const readers[] = {&tp_reader_jax_pytree, &tp_reader_orbax, &tp_reader_flax,
                                                  &tp_reader_safetensors};

bool tp_name_ends(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len >= suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static int by_name(const void *key, const void *item)
{
    return strcmp(key, *(char *const *)item);
}

bool tp_place_has(const struct tp_place *place, const char *name)
{
    return place->names.count > 0 &&
           bsearch(name, place->names.items, place->names.count, sizeof *place->names.items, by_name) != NULL;
}

/* ---- a folder without a checkpoint ---- */

#define UNFINISHED "an unfinished download", "download it again"
#define PICKLE        \
    "a PyTorch file", \
        "it can run code when it is loaded and is not read; convert it to safetensors with its own program"

static const struct {
    const char *suffix;
    const char *holds, *hint;
} strangers[] = {
    {".incomplete", UNFINISHED},
    {".part", UNFINISHED},
    {".crdownload", UNFINISHED},
    {".aria2", UNFINISHED},
    {".gguf", "a GGUF file", "take the model's safetensors files; GGUF is not read"},
    {".bin", PICKLE},
    {".pt", PICKLE},
    {".pth", PICKLE},
    {".ckpt", PICKLE},
    {".h5", "an HDF5 file", "take the model's safetensors files"},
    {".npz", "NumPy's files", "take the model's safetensors files"},
    {".onnx", "an ONNX file", "take the model's safetensors files"},
};

/* A folder within the folder that does hold safetensors files: a malloc'd path, or NULL. Looks into at most 100. */
static char *inner_folder(const struct tp_place *place)
{
    size_t left = 100;
    for (size_t i = 0; i < place->names.count && left > 0; i++) {
        struct tp_names inner = {0};
        enum tp_path_kind kind = TP_PATH_ABSENT;
        char *path = tp_path_join(place->path, place->names.items[i]);
        bool found = false;
        if (path && tp_path_kind_of(&kind, path, NULL) == TP_OK && kind == TP_PATH_FOLDER && left-- > 0 &&
            tp_folder_list(&inner, path, NULL) == TP_OK)
            for (size_t k = 0; k < inner.count && !found; k++)
                found = tp_name_ends(inner.items[k], ".safetensors");
        tp_names_release(&inner);
        if (found)
            return path;
        free(path);
    }
    return NULL;
}

static enum tp_status explain(const struct tp_place *place, struct tp_error *err)
{
    char shown[TP_NAME_TEXT];
    enum tp_status status = TP_ERR_FORMAT;
    for (size_t s = 0; s < TP_COUNT_OF(strangers); s++)
        for (size_t i = 0; i < place->names.count; i++) {
            const char *name = place->names.items[i];
            if (!tp_name_ends(name, strangers[s].suffix))
                continue;
            tp_describe_name(shown, name, strlen(name));
            tp_fail(err, status, "no safetensors files here, but %s (%s)", strangers[s].holds, shown);
            tp_err_hint(err, status, "%s", strangers[s].hint);
            return tp_err_path(err, status, place->path);
        }
    tp_fail(err, status,
            place->names.count > 0
                ? "no *.safetensors or *.msgpack files and no checkpoint of Orbax or JAX in this folder"
                : "an empty folder");
    char *inner = inner_folder(place);
    if (inner)
        tp_err_hint(err, status, "%s has some; subfolders are not searched",
                    tp_describe_name(shown, inner, strlen(inner)));
    free(inner);
    return tp_err_path(err, status, place->path);
}

/* ---- opening ---- */

/* The folder of a path: "a/b" -> "a", "b" -> "", so that joining gives back what was asked for. malloc'd. */
static char *folder_of(const struct tp_place *place)
{
    if (place->is_folder)
        return strdup(place->path);
    const char *slash = strrchr(place->path, '/');
    if (!slash)
        return strdup("");
    return strndup(place->path, slash == place->path ? 1 : (size_t)(slash - place->path));
}

static enum tp_status look(struct tp_place *place, const char *path, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    *place = (struct tp_place){.path = path};
    enum tp_status status = tp_path_kind_of(&kind, path, err);
    if (status)
        return status;
    if (kind == TP_PATH_ABSENT || kind == TP_PATH_OTHER) { /* opening it finds the words */
        int fd = -1;
        status = tp_file_open_read(&fd, path, NULL, err);
        tp_fd_close(fd);
        if (status)
            return status;
    }
    place->is_folder = kind == TP_PATH_FOLDER;
    return place->is_folder ? tp_folder_list(&place->names, path, err) : TP_OK;
}

static enum tp_status open_with(const struct tp_reader *reader, struct tp_checkpoint **out,
                                const struct tp_place *place, const struct tp_open_options *options,
                                struct tp_error *err)
{
    static const struct tp_open_options defaults = {0};
    struct tp_checkpoint *ck = NULL;
    char *folder = folder_of(place);
    enum tp_status status = folder ? tp_checkpoint_new(&ck, place->path, folder, err) : tp_fail_nomem(err);
    free(folder);
    if (!status) {
        ck->format = reader->format;
        status = reader->open(ck, place, options ? options : &defaults, err);
    }
    if (!status)
        status = tp_checkpoint_finish(ck, err);
    if (status) {
        tp_checkpoint_close(ck);
        return status;
    }
    *out = ck;
    return TP_OK;
}

enum tp_status tp_checkpoint_open(struct tp_checkpoint **out, const char *path, const struct tp_open_options *options,
                                  struct tp_error *err)
{
    struct tp_place place;
    const struct tp_reader *reader = NULL;
    enum tp_status status = look(&place, path, err);
    for (size_t i = 0; !status && !reader && i < TP_COUNT_OF(readers); i++)
        if (readers[i]->recognise(&place))
            reader = readers[i];
    if (!status)
        status = reader ? open_with(reader, out, &place, options, err) : explain(&place, err);
    tp_names_release(&place.names);
    return status;
}
