/* SPDX-License-Identifier: MIT */
/* The files of a model that is verified: which must be there and are, which are there and must not be, and what those
 * that hold arrays say of themselves. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/describe.h"
#include "checkpoint/flax.h"
#include "checkpoint/safetensors.h"
#include "job/verifying.h"

/* ---- the folder ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool tp_verify_in_folder(const struct tp_verifying *v, const char *name)
{
    return v->folder.count && bsearch(&name, v->folder.items, v->folder.count, sizeof name, compare_names);
}

/* Size of a file in the model's folder; UINT64_MAX when it is not there (or no regular file), which is a difference. */
static enum tp_status file_size(struct tp_verifying *v, const char *name, uint64_t *size)
{
    *size = UINT64_MAX;
    char shown[TP_NAME_TEXT], *path = tp_path_join(v->options->model, name);
    struct tp_file_id id;
    struct tp_error why;
    int fd = -1;
    if (!path)
        return tp_fail_nomem(v->err);
    enum tp_status st = tp_file_open_read(&fd, path, &id, &why);
    tp_fd_close(fd);
    free(path);
    tp_describe_name(shown, name, strlen(name));
    if (!st)
        *size = id.size_bytes;
    else if (st != TP_ERR_FORMAT) { /* nobody knows how it is */
        if (v->err)
            *v->err = why;
    } else if (!tp_verify_in_folder(v, name))
        st = tp_verify_differ(v, "%s: missing", shown);
    else
        st = tp_verify_differ(v, "%s: %s", shown, why.message);
    return st;
}

static enum tp_status compare_size(struct tp_verifying *v, const char *name, uint64_t found, uint64_t expected,
                                   bool *equal)
{
    char shown[TP_NAME_TEXT], a[TP_COUNT_TEXT], b[TP_COUNT_TEXT];
    *equal = found == expected;
    if (*equal || found == UINT64_MAX)
        return TP_OK;
    return tp_verify_differ(v, "%s: %s bytes, the manifest says %s (%s)", tp_describe_name(shown, name, strlen(name)),
                            tp_describe_count(a, found), tp_describe_count(b, expected),
                            found < expected ? "truncated" : "enlarged");
}

static enum tp_status hash_file(struct tp_verifying *v, const char *name, uint64_t size, struct tp_digest *digest)
{
    size_t window = (size_t)64 << 10;
    char *path = tp_path_join(v->options->model, name);
    struct tp_hasher *h = tp_hasher_new(&v->kernels);
    uint8_t *bytes = malloc(window);
    int fd = -1;
    enum tp_status st = path && h && bytes ? tp_file_open_read(&fd, path, NULL, v->err) : tp_fail_nomem(v->err);
    if (!st)
        tp_hasher_reset(h);
    for (uint64_t at = 0; at < size && !st; at += window) {
        size_t n = size - at < window ? (size_t)(size - at) : window;
        st = tp_file_read_at(fd, bytes, n, at, path, v->err);
        if (!st)
            tp_hasher_update(h, bytes, n);
    }
    if (!st)
        *digest = tp_hasher_digest(h);
    tp_fd_close(fd);
    tp_hasher_free(h);
    free(bytes);
    free(path);
    return st;
}

static enum tp_status check_side_files(struct tp_verifying *v)
{
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < v->manifest.side_count && !st; i++) {
        const struct tp_side_file *side = &v->manifest.side_files[i];
        struct tp_digest digest;
        char shown[TP_NAME_TEXT];
        uint64_t size;
        bool equal = false;
        st = file_size(v, side->name, &size);
        if (!st && size != UINT64_MAX)
            st = compare_size(v, side->name, size, side->size_bytes, &equal);
        if (st || !equal || v->options->quick)
            continue;
        st = hash_file(v, side->name, size, &digest);
        if (!st && memcmp(&digest, &side->digest, sizeof digest) != 0)
            st = tp_verify_differ(v, "%s: its content differs from the manifest's digest",
                                  tp_describe_name(shown, side->name, strlen(side->name)));
    }
    return st;
}

static enum tp_status know_names(struct tp_verifying *v)
{
    bool ok = tp_listed_add_all(&v->listed, &v->manifest) && tp_listed_add(&v->listed, TP_MANIFEST_NAME);
    tp_listed_sort(&v->listed);
    return ok ? TP_OK : tp_fail_nomem(v->err);
}

/* A name that we would give, or that a loader looks for: model.msgpack, flax_model.msgpack,
 * model-00001-of-00002.msgpack, their index. */
static bool looks_ours(const struct tp_verifying *v, const char *name)
{
    static const char *const globs[3][3] = {
        {"*model.msgpack", "*model.msgpack.index.json",
         "*model-[0-9][0-9][0-9][0-9][0-9]*-of-[0-9][0-9][0-9][0-9][0-9]*.msgpack"},
        {"model.safetensors", "model.safetensors.index.json",
         "model-[0-9][0-9][0-9][0-9][0-9]*-of-[0-9][0-9][0-9][0-9][0-9]*.safetensors"},
        {"checkpoint", "_sharding", "array_metadatas/*"}, /* Orbax reads them where they are */
    };
    if (tp_verify_is_layout(v, tp_format_jax_pytree.name)) /* JAX reads what the tree and the database name */
        return false;
    const char *const *of_layout = globs[v->is_store ? 2 : tp_verify_is_layout(v, tp_format_safetensors.name) ? 1 : 0];
    if (v->is_store && strncmp(name, v->item, strlen(v->item)) == 0)
        name += strlen(v->item);
    for (size_t i = 0; i < TP_COUNT_OF(globs[0]); i++)
        if (tp_glob_match(of_layout[i], name))
            return true;
    return false;
}

static enum tp_status check_extra_files(struct tp_verifying *v)
{
    size_t foreign = 0;
    char first[TP_NAME_TEXT] = "", shown[TP_NAME_TEXT];
    enum tp_status st = know_names(v);
    for (size_t i = 0; i < v->folder.count && !st; i++) {
        const char *name = v->folder.items[i];
        if (tp_listed_has(&v->listed, name))
            continue;
        tp_describe_name(shown, name, strlen(name));
        if (looks_ours(v, name))
            st = tp_verify_differ(
                v, "%s: not in the manifest, but a loader would take it for a part of this checkpoint", shown);
        else if (foreign++ == 0)
            memcpy(first, shown, sizeof first);
    }
    if (!st && foreign)
        st = tp_verify_note(v, "%zu other %s in the folder, not looked at (%s%s)", foreign,
                            foreign == 1 ? "file" : "files", first, foreign > 1 ? ", ..." : "");
    return st;
}

/* Which files to parse: those of the manifest that have the right size, or all there are. */
static enum tp_status choose_files(struct tp_verifying *v)
{
    size_t most = v->has_manifest ? v->manifest.file_count : v->is_store ? 0 : v->folder.count;
    v->names = malloc((most + 1) * sizeof *v->names);
    v->name_file = malloc((most + 1) * sizeof *v->name_file);
    v->file_of = malloc((most + 1) * sizeof *v->file_of);
    v->framing = calloc(most + 1, sizeof *v->framing);
    if (!v->names || !v->name_file || !v->file_of || !v->framing)
        return tp_fail_nomem(v->err);
    enum tp_status st = TP_OK;
    for (size_t i = 0; i < most && !st; i++) {
        const char *name = v->has_manifest ? v->manifest.files[i].name : v->folder.items[i];
        uint64_t size;
        bool good = true;
        if (v->has_manifest) {
            st = file_size(v, name, &size);
            if (!st)
                st = compare_size(v, name, size, v->manifest.files[i].size_bytes, &good);
        } else {
            good = tp_name_ends(name, ".msgpack");
        }
        if (good) {
            v->name_file[v->name_count] = (uint32_t)i;
            v->names[v->name_count++] = name;
        }
    }
    if (!st && v->name_count == 0 && !v->has_manifest && !v->is_store)
        st =
            tp_err_path(v->err, tp_fail(v->err, TP_ERR_FORMAT, "no *.msgpack files in this folder"), v->options->model);
    v->report->file_count = (uint32_t)most;
    if (!v->has_manifest)
        v->report->file_count = v->is_store ? tp_checkpoint_file_count(v->model) : (uint32_t)v->name_count;
    return st;
}

/* ---- what they hold ---- */

static enum tp_status parse_flax(struct tp_verifying *v)
{
    struct tp_flax_problems problems = {.count = 0};
    struct tp_flax_input in = {v->names, v->name_count, &problems, v->framing, v->file_of};
    v->model->format = tp_reader_flax.format;
    enum tp_status st = tp_flax_read(v->model, &in, v->err);
    for (size_t i = 0; i < problems.count && !st; i++)
        st = tp_verify_differ(v, "%s: %s", problems.items[i].file, problems.items[i].message);
    tp_flax_problems_release(&problems);
    return st;
}

static enum tp_status parse_safetensors(struct tp_verifying *v)
{
    enum tp_status st = TP_OK;
    v->model->format = tp_reader_safetensors.format;
    for (size_t i = 0; i < v->name_count && !st; i++) {
        struct tp_error why;
        uint32_t file;
        v->file_of[i] = TP_VERIFY_NO_FILE;
        st = tp_checkpoint_add_file(v->model, v->names[i], &file, &why);
        if (!st)
            st = tp_safetensors_read_file(v->model, file, NULL, 0, &why);
        if (st) {
            st = tp_verify_problem(v, v->names[i], st, &why);
            continue;
        }
        v->file_of[i] = file;
        st = hash_file(v, v->names[i], tp_checkpoint_file(v->model, file)->header_bytes, &v->framing[i]);
    }
    return st;
}

static enum tp_status parse_files(struct tp_verifying *v)
{
    struct tp_error why;
    if (v->is_store)
        return tp_verify_parse_orbax(v);
    enum tp_status st = tp_checkpoint_new(&v->model, v->options->model, v->options->model, v->err);
    if (!st)
        st = tp_verify_is_layout(v, tp_format_safetensors.name) ? parse_safetensors(v) : parse_flax(v);
    if (st)
        return st;
    st = tp_checkpoint_finish(v->model, &why);
    return st ? tp_verify_problem(v, "all files", st, &why) : TP_OK;
}

enum tp_status tp_verify_files(struct tp_verifying *v)
{
    enum tp_status st = v->has_manifest ? check_side_files(v) : TP_OK;
    if (!st && v->has_manifest)
        st = check_extra_files(v);
    if (!st)
        st = choose_files(v);
    return st ? st : parse_files(v);
}
