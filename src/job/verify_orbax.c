/* SPDX-License-Identifier: MIT */
/* What is different about verifying a checkpoint of Orbax or JAX: it has folders, its arrays lie in chunks, zeros lie
 * between them, and some of its files may be the source's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/chunks.h"
#include "checkpoint/describe.h"
#include "job/print.h"
#include "job/verifying.h"
#include "os/tree.h"

bool tp_verify_has_store(const char *format)
{
    return strcmp(format, tp_format_orbax.name) == 0 || strcmp(format, tp_format_jax_pytree.name) == 0;
}

/* The reader looks for the item in the folder it is given: "", "default/" or "array_store/". */
static enum tp_status know_item(struct tp_verifying *v)
{
    size_t len = strlen(v->options->model);
    const char *below = v->model->folder;
    if (strncmp(below, v->options->model, len) != 0 || below[len] == '\0')
        return TP_OK;
    below += len;
    below += strspn(below, "/");
    char *item = *below ? tp_path_join(below, "") : NULL;
    if (*below && !item)
        return tp_fail_nomem(v->err);
    if (item) {
        free(v->item);
        v->item = item;
    }
    return TP_OK;
}

const char *tp_verify_file_name(struct tp_verifying *v, uint32_t file)
{
    const char *name = tp_checkpoint_file(v->model, file)->name;
    if (!*v->item)
        return name;
    size_t len = strlen(v->item) + strlen(name) + 1;
    char *shown = realloc(v->shown_name, len);
    if (!shown)
        return name;
    v->shown_name = shown;
    snprintf(shown, len, "%s%s", v->item, name);
    return shown;
}

enum tp_status tp_verify_try_orbax(struct tp_verifying *v)
{
    struct tp_error why;
    if (tp_checkpoint_open(&v->model, v->options->model, NULL, &why)) {
        if (why.code != TP_ERR_NOMEM && why.code != TP_ERR_IO)
            return TP_OK; /* the parser of msgpack says more */
        if (v->err)
            *v->err = why;
        return why.code;
    }
    if (tp_verify_has_store(tp_checkpoint_format(v->model))) {
        v->is_store = v->by_tensor = true;
        return know_item(v);
    }
    tp_checkpoint_close(v->model);
    v->model = NULL;
    return TP_OK;
}

/* The number that the reader gave a file of the manifest, or a new one: no array need lie in it. */
static enum tp_status find_file(struct tp_verifying *v, const char *name, uint32_t *file, struct tp_error *why)
{
    size_t skip = strlen(v->item);
    const char *below = strncmp(name, v->item, skip) == 0 ? name + skip : name;
    for (uint32_t i = 0; i < tp_checkpoint_file_count(v->model); i++) {
        if (strcmp(tp_checkpoint_file(v->model, i)->name, below) == 0) {
            *file = i;
            return TP_OK;
        }
    }
    return tp_checkpoint_add_file(v->model, below, file, why);
}

enum tp_status tp_verify_parse_orbax(struct tp_verifying *v)
{
    struct tp_error why;
    if (!v->has_manifest)
        return TP_OK; /* it was opened to see what it is */
    memset(v->file_of, 0xff, (v->name_count + 1) * sizeof *v->file_of);
    const struct tp_open_options open = {.unfinished = v->options->unfinished};
    enum tp_status st = tp_checkpoint_open(&v->model, v->options->model, &open, &why);
    if (!st && !tp_verify_is_layout(v, tp_checkpoint_format(v->model)))
        st = tp_fail(&why, TP_ERR_FORMAT, "this is no checkpoint of %s any more",
                     tp_verify_is_layout(v, tp_format_orbax.name) ? "Orbax" : "JAX");
    if (st) {
        char shown[TP_NAME_TEXT];
        const char *path = why.path[0] ? why.path : "the checkpoint";
        tp_checkpoint_close(v->model);
        v->model = NULL;
        st = tp_verify_problem(v, tp_describe_name(shown, path, strlen(path)), st, &why);
        return st ? st : tp_checkpoint_new(&v->model, v->options->model, v->options->model, v->err);
    }
    st = know_item(v);
    for (size_t i = 0; i < v->name_count && !st; i++) {
        st = find_file(v, v->names[i], &v->file_of[i], &why);
        if (st)
            st = tp_verify_problem(v, v->names[i], st, &why);
    }
    return st;
}

/* Axes of length 1 may stand anywhere in the order. */
static unsigned long_axes(uint8_t *axes, const uint64_t *shape, const uint8_t *order, unsigned rank)
{
    unsigned count = 0;
    for (unsigned i = 0; i < rank; i++) {
        uint8_t axis = order ? order[i] : (uint8_t)i;
        if (shape[axis] > 1)
            axes[count++] = axis;
    }
    return count;
}

bool tp_verify_same_grid(const struct tp_tensor *t, const struct tp_manifest_array *a)
{
    uint8_t x[TP_RANK_MAX], y[TP_RANK_MAX];
    if (!t->chunks || !a->chunk)
        return !t->chunks && !a->chunk;
    if (t->chunks->codec != TP_CHUNK_STORED || t->chunks->has_crc ||
        memcmp(t->chunks->shape, a->chunk, t->rank * sizeof *a->chunk) != 0)
        return false;
    unsigned n = long_axes(x, a->chunk, t->chunks->order, t->rank);
    return n == long_axes(y, a->chunk, a->order, t->rank) && memcmp(x, y, n) == 0;
}

/* ---- what no array covers ---- */

static enum tp_status hash_range(struct tp_verifying *v, struct tp_hasher *h, uint32_t file, uint64_t from, uint64_t to)
{
    uint8_t bytes[4096];
    enum tp_status st = TP_OK;
    while (from < to && !st) {
        size_t n = to - from < sizeof bytes ? (size_t)(to - from) : sizeof bytes;
        st = tp_checkpoint_read_at(v->model, file, bytes, n, from, v->err);
        if (!st)
            tp_hasher_update(h, bytes, n);
        from += n;
    }
    return st;
}

/* Bytes of a data file outside the chunks. */
static enum tp_status check_framing(struct tp_verifying *v, struct tp_hasher *h, size_t name)
{
    uint32_t file = v->file_of[name];
    const struct tp_out_file *out = &v->plan.files[file];
    uint64_t at = 0;
    enum tp_status st = TP_OK;
    tp_hasher_reset(h);
    for (uint32_t k = 0; k < out->extent_count && !st; k++) {
        const struct tp_out_extent *e = &v->plan.extents[out->first_extent + k];
        st = hash_range(v, h, file, at, e->offset_bytes);
        at = e->offset_bytes + e->size_bytes;
    }
    if (!st)
        st = hash_range(v, h, file, at, out->size_bytes);
    struct tp_digest found = tp_hasher_digest(h);
    if (st || memcmp(&found, &v->manifest.files[v->name_file[name]].framing, sizeof found) == 0)
        return st;
    return tp_verify_differ(v, "%s: the bytes between the arrays differ from the manifest's digest", v->names[name]);
}

static enum tp_status check_sum(struct tp_verifying *v, uint32_t file, const char *name, const char *expected)
{
    char hex[TP_SHA256_HEX] = "";
    enum tp_status st = tp_file_sha256(tp_checkpoint_file_path(v->model, file), hex, NULL, v->err);
    return st || strcmp(hex, expected) == 0
               ? st
               : tp_verify_differ(v, "%s: its SHA-256 is not the manifest's: the source has been rewritten", name);
}

/* A file of the source that lies here as it is. */
static enum tp_status check_linked(struct tp_verifying *v, size_t name, uint32_t *summed)
{
    const struct tp_manifest_file *said = &v->manifest.files[v->name_file[name]];
    const struct tp_manifest_source *source = &v->manifest.sources[said->source];
    uint32_t file = v->file_of[name];
    struct tp_source_print found;
    enum tp_status st = tp_source_print_one(&found, v->model, file, source->header_bytes, &v->kernels, v->err);
    if (st)
        return st;
    if (memcmp(&found.header, &source->print.header, sizeof found.header) != 0)
        return tp_verify_differ(v, "%s: its header is not the one that was converted: the source has been rewritten",
                                v->names[name]);
    if (memcmp(&found.sample, &source->print.sample, sizeof found.sample) != 0)
        return tp_verify_differ(v, "%s: samples of its data are not what was converted: the source has been rewritten",
                                v->names[name]);
    if (!said->sha256[0] || v->options->quick)
        return TP_OK;
    ++*summed;
    return check_sum(v, file, v->names[name], said->sha256);
}

enum tp_status tp_verify_orbax_rest(struct tp_verifying *v)
{
    uint32_t linked = 0, summed = 0;
    struct tp_hasher *h = tp_hasher_new(&v->kernels);
    enum tp_status st = h ? TP_OK : tp_fail_nomem(v->err);
    for (size_t i = 0; i < v->name_count && !st; i++) {
        if (v->file_of[i] == TP_VERIFY_NO_FILE)
            continue;
        bool is_linked = v->manifest.files[v->name_file[i]].source != TP_NONE;
        linked += is_linked;
        st = is_linked ? check_linked(v, i, &summed) : check_framing(v, h, i);
    }
    tp_hasher_free(h);
    if (st || linked == 0 || v->options->source)
        return st;
    const char *how = summed == linked ? "by size, header, samples and SHA-256"
                                       : "by size, header and 64 samples each; --source DIR compares every byte";
    return tp_verify_note(v, "%u of the files %s the source's own, checked %s", (unsigned)linked,
                          linked == 1 ? "is" : "are", how);
}
