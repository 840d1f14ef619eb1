/* SPDX-License-Identifier: MIT */
/* How arrays are cut into chunks: those that the source can be referred to for as it holds them, the others as it suits
 * their readers. */
#include <inttypes.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "format/chunking.h"
#include "format/store.h"
#include "plan/refer.h"

#define MIN_CHUNK_DEFAULT ((uint64_t)256 << 10)

struct chooser {
    struct tp_plan *plan;
    const struct tp_orbax_options *options;
    uint64_t min_chunk_bytes;
    unsigned version;
    bool in_bands;
    struct tp_name_list too_small; /* arrays that are copied for it */
    struct tp_error *err;
};

static void add_name(struct tp_name_list *names, const struct tp_array *a)
{
    char name[TP_NAME_MAX_BYTES + 1];
    tp_path_join_keys(name, a->path, a->path_len, '.');
    tp_name_list_add(names, name);
}

static uint64_t chunk_bytes(const struct tp_refer_grid *grid, const struct tp_array *a)
{
    return grid->chunk_elems * tp_array_item_bytes(a);
}

/* ---- zarr v2 or v3 ---- */

/* Must its references be small, many and slow to read, but where zarr v3 says the order of their axes? */
static bool wants_any_order(const struct chooser *c, const struct tp_array *a)
{
    struct tp_refer_grid plain, any;
    uint64_t small = c->min_chunk_bytes > MIN_CHUNK_DEFAULT ? c->min_chunk_bytes : MIN_CHUNK_DEFAULT;
    if (a->elem_count == 0 || !tp_refer_find(&plain, c->plan, a, false) || !plain.is_part ||
        chunk_bytes(&plain, a) >= small)
        return false;
    return tp_refer_find(&any, c->plan, a, true) && any.chunk_elems > plain.chunk_elems;
}

/* One version for all: readers have one flag for the whole checkpoint. */
static enum tp_status choose_version(struct chooser *c, unsigned wanted)
{
    struct tp_name_list names = {.count = 0};
    c->version = wanted ? wanted : c->options->zarr3 ? 3 : 2;
    if (!c->options->zero_copy || wanted || c->version == 3)
        return TP_OK;
    for (size_t i = 0; i < c->plan->array_count; i++)
        if (wants_any_order(c, &c->plan->arrays[i]))
            add_name(&names, &c->plan->arrays[i]);
    if (names.count == 0)
        return TP_OK;
    c->version = 3;
    bool ok = tp_list_add(&c->plan->notes, "zarr v3: only it can say the order of axes in which the source holds %s",
                          tp_name_list_text(&names));
    return ok ? TP_OK : tp_fail_nomem(c->err);
}

/* ---- one array ---- */

static enum tp_status set_grid(struct chooser *c, struct tp_array *a, const uint64_t *chunk, const uint8_t *order,
                               unsigned across)
{
    if (a->rank == 0 || (!order && memcmp(chunk, a->shape, a->rank * sizeof *chunk) == 0))
        return TP_OK; /* one row-major chunk: its elements are a flat range */
    for (unsigned d = 0; d < a->rank; d++)
        if (a->shape[d] % chunk[d] != 0)
            return tp_fail(c->err, TP_ERR_BUG, "chunks of %" PRIu64 " do not divide an axis of %" PRIu64, chunk[d],
                           a->shape[d]);
    struct tp_grid *grid = tp_arena_alloc(&c->plan->arena, sizeof *grid);
    uint64_t *shape = tp_arena_alloc(&c->plan->arena, a->rank * sizeof *shape);
    uint8_t *axes = order ? tp_arena_alloc(&c->plan->arena, a->rank) : NULL;
    if (!grid || !shape || (order && !axes))
        return tp_fail_nomem(c->err);
    memcpy(shape, chunk, a->rank * sizeof *shape);
    if (order)
        memcpy(axes, order, a->rank);
    *grid = (struct tp_grid){shape, axes, (uint8_t)across};
    a->grid = grid;
    return TP_OK;
}

/* The grid of an array that refers to the source; false: there is none, or its chunks would be too small. */
static bool find_references(struct chooser *c, const struct tp_array *a, struct tp_refer_grid *grid)
{
    if (!c->options->zero_copy || !tp_refer_find(grid, c->plan, a, c->version == 3))
        return false;
    uint64_t bytes = chunk_bytes(grid, a);
    if ((bytes < c->min_chunk_bytes && grid->is_part) || a->elem_count / grid->chunk_elems > TP_OCDBT_NODE_ENTRIES) {
        add_name(&c->too_small, a);
        return false;
    }
    tp_refer_split(grid, a->rank, tp_chunk_parts(bytes, c->options->chunk_bytes));
    return true;
}

static enum tp_status choose_grid(struct chooser *c, struct tp_array *a, bool *refers)
{
    struct tp_refer_grid grid;
    uint64_t chunk[TP_GRID_RANK_MAX];
    *refers = a->elem_count > 0 && find_references(c, a, &grid);
    if (a->elem_count == 0)
        return TP_OK;
    if (*refers)
        return set_grid(c, a, grid.chunk, grid.is_row_major ? NULL : grid.order, a->rank - 1u);
    unsigned across = tp_chunk_array(chunk, a, c->options->chunk_bytes, c->in_bands);
    return set_grid(c, a, chunk, NULL, across);
}

enum tp_status tp_store_choose_grids(struct tp_store *store, bool *refers, struct tp_plan *plan,
                                     const struct tp_convert_options *options, struct tp_error *err)
{
    struct chooser c = {.plan = plan, .options = &options->orbax, .err = err};
    c.in_bands = store->has_database; /* elsewhere a chunk is a file */
    c.min_chunk_bytes = options->orbax.min_chunk_bytes ? options->orbax.min_chunk_bytes : MIN_CHUNK_DEFAULT;
    enum tp_status st = choose_version(&c, store->version);
    for (size_t i = 0; i < plan->array_count && !st; i++)
        st = choose_grid(&c, &plan->arrays[i], &refers[i]);
    if (!st && c.too_small.count > 0 &&
        !tp_list_add(&plan->notes,
                     "%zu arrays are copied: the source holds them in pieces of less than %" PRIu64 " bytes "
                     "(--min-chunk): %s",
                     c.too_small.count, c.min_chunk_bytes, tp_name_list_text(&c.too_small)))
        st = tp_fail_nomem(err);
    store->version = c.version;
    return st;
}
