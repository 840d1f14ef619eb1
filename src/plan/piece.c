/* SPDX-License-Identifier: MIT */
#include "plan/piece.h"

#include "plan/box.h"

/* The position of dst_elem inside a piece: the loops' indices by division, outermost first. What is left must fall into
 * the run, else the element lies in a gap between this piece's runs and belongs to another piece. */
static bool piece_run_at(const struct tp_piece *p, uint64_t dst_elem, struct tp_run *run)
{
    if (dst_elem < p->dst_first)
        return false;
    uint64_t rest = dst_elem - p->dst_first;
    uint64_t src = p->src_first;
    for (uint32_t i = 0; i < p->axis_count; i++) {
        const struct tp_axis *axis = &p->axes[i];
        uint64_t index = axis->dst_stride ? rest / axis->dst_stride : 0;
        if (index >= axis->count)
            return false;
        rest -= index * axis->dst_stride;
        src += index * axis->src_stride;
    }
    if (rest >= p->run_elems)
        return false;
    *run = (struct tp_run){p, src + rest, p->run_elems - rest};
    return true;
}

bool tp_array_run_at(const struct tp_array *array, uint64_t dst_elem, uint64_t limit, struct tp_run *run)
{
    for (uint32_t i = 0; i < array->piece_count; i++) {
        if (piece_run_at(&array->pieces[i], dst_elem, run)) {
            if (run->elem_count > limit)
                run->elem_count = limit;
            return true;
        }
    }
    return false;
}

uint64_t tp_chunk_elem(const struct tp_array *array, uint64_t number, uint64_t at)
{
    uint64_t where[TP_GRID_RANK_MAX] = {0};
    uint64_t elem = 0;
    const struct tp_grid *grid = array->grid;
    tp_grid_corner(array, number, where);
    for (unsigned i = array->rank; i-- > 0;) { /* from the fastest axis of the bytes on */
        unsigned axis = grid->order ? grid->order[i] : i;
        where[axis] += at % grid->chunk[axis];
        at /= grid->chunk[axis];
    }
    for (unsigned d = 0; d < array->rank; d++)
        elem = elem * array->shape[d] + where[d];
    return elem;
}
