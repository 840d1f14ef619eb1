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

#define FEW_PIECES 4u

/* Of an array of many pieces, the one that holds the element if they are stacked. */
static const struct tp_piece *guess_piece(const struct tp_array *a, uint64_t elem)
{
    uint64_t index[TP_GRID_RANK_MAX], rest = elem;
    if (a->piece_count <= FEW_PIECES || a->rank > TP_GRID_RANK_MAX || a->elem_count == 0)
        return NULL;
    for (unsigned d = a->rank; d-- > 0; rest /= a->shape[d])
        index[d] = rest % a->shape[d];
    return rest == 0 ? tp_piece_guess(a, index) : NULL;
}

bool tp_array_run_at(const struct tp_array *array, uint64_t dst_elem, uint64_t limit, struct tp_run *run)
{
    const struct tp_piece *guess = guess_piece(array, dst_elem);
    bool found = guess && piece_run_at(guess, dst_elem, run);
    for (uint32_t i = 0; i < array->piece_count && !found; i++)
        found = piece_run_at(&array->pieces[i], dst_elem, run);
    if (found && run->elem_count > limit)
        run->elem_count = limit;
    return found;
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
