/* SPDX-License-Identifier: MIT */
/* Arrays in plain zarr folders: a.b/.zarray beside a.b/0.0, a file a chunk. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/orbax_store.h"
#include "codec/ocdbt.h"

/* NAME/KEY within the checkpoint's folder, malloc'd. A bare array lies in the folder itself. */
static enum tp_status join(char **path, const struct tp_orbax_array *a, const char *key, struct tp_error *err)
{
    *path = a->key_len > 0 ? tp_path_join(a->key, key) : strdup(key);
    if (!*path)
        return tp_fail_nomem(err);
    if (tp_ocdbt_path_is_safe(*path, strlen(*path)))
        return TP_OK;
    free(*path);
    *path = NULL;
    return tp_err_tensor(err, tp_fail(err, TP_ERR_FORMAT, "its name leads out of the checkpoint's folder"), a->name,
                         a->name_len);
}

static enum tp_status read_text(char **text, size_t *len, const char *path, struct tp_error *err)
{
    struct tp_file_id id = {.size_bytes = 0};
    char size[TP_COUNT_TEXT];
    int fd = -1;
    enum tp_status status = tp_file_open_read(&fd, path, &id, err);
    if (status)
        return status;
    *len = (size_t)id.size_bytes;
    if (id.size_bytes > TP_ZARR_READ_MAX)
        status = tp_fail(err, TP_ERR_LIMIT, "an array's metadata of %s bytes", tp_describe_count(size, id.size_bytes));
    else if (!(*text = malloc(*len + 1)))
        status = tp_fail_nomem(err);
    if (!status)
        status = tp_file_read_at(fd, *text, *len, 0, path, err);
    tp_fd_close(fd);
    return status ? tp_err_path(err, status, path) : TP_OK;
}

static enum tp_status path_kind(enum tp_path_kind *kind, const struct tp_checkpoint *ck, const char *path,
                                struct tp_error *err)
{
    char *full = tp_path_join(ck->folder, path);
    enum tp_status status = full ? tp_path_kind_of(kind, full, err) : tp_fail_nomem(err);
    free(full);
    return status;
}

/* An array without a metadata file stays unknown. */
static enum tp_status describe(struct tp_orbax_array *a, struct tp_checkpoint *ck, unsigned version,
                               struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    char *path = NULL, *full = NULL, *text = NULL;
    size_t len = 0;
    enum tp_status status = join(&path, a, tp_zarr_metadata_key(version), err);
    if (!status)
        status = path_kind(&kind, ck, path, err);
    if (!status && kind != TP_PATH_ABSENT) {
        full = tp_path_join(ck->folder, path);
        status = full ? read_text(&text, &len, full, err) : tp_fail_nomem(err);
        if (!status)
            status = tp_orbax_array_describe(a, ck, version, text, len, err);
    }
    free(text);
    free(full);
    free(path);
    return status;
}

static enum tp_status put_file(struct tp_orbax_array *a, const struct tp_zarr *z, struct tp_checkpoint *ck,
                               const uint64_t *index, struct tp_error *err)
{
    char key[TP_ZARR_KEY_MAX + 1], *path = NULL;
    enum tp_path_kind kind = TP_PATH_ABSENT;
    struct tp_orbax_value value = {0};
    tp_zarr_chunk_key(z, index, key);
    enum tp_status status = join(&path, a, key, err);
    if (!status)
        status = path_kind(&kind, ck, path, err);
    if (!status && kind != TP_PATH_ABSENT) {
        status = tp_checkpoint_add_file(ck, path, &value.file, err);
        if (status)
            tp_err_tensor(err, status, a->name, a->name_len);
        else
            value.size = ck->files[value.file].size_bytes;
        if (!status)
            status = tp_orbax_array_put(a, z, ck, index, &value, err);
    }
    free(path);
    return status;
}

static enum tp_status put_files(struct tp_orbax_array *a, struct tp_checkpoint *ck, struct tp_error *err)
{
    struct tp_zarr z;
    uint64_t grid[TP_ZARR_RANK_MAX], index[TP_ZARR_RANK_MAX] = {0};
    tp_orbax_array_zarr(a, &z);
    tp_zarr_grid(&z, grid);
    for (;;) {
        enum tp_status status = put_file(a, &z, ck, index, err);
        if (status)
            return status;
        unsigned i = a->rank;
        while (i > 0 && index[i - 1] + 1 == grid[i - 1])
            index[--i] = 0;
        if (i == 0)
            return TP_OK;
        index[i - 1]++;
    }
}

enum tp_status tp_orbax_read_folders(struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err)
{
    struct tp_orbax_budget budget = {.chunks = TP_ORBAX_CHUNKS_MAX, .objects = TP_FILES_MAX};
    enum tp_status status = TP_OK;
    for (size_t i = 0; !status && i < tree->count; i++) {
        struct tp_orbax_array *a = &tree->arrays[i];
        status = describe(a, ck, tree->use_zarr3 ? 3 : 2, err);
        if (!status && a->is_known)
            status = tp_orbax_array_begin(a, ck, &budget, err);
        if (!status && a->extent_count > 0)
            status = put_files(a, ck, err);
    }
    return status;
}
