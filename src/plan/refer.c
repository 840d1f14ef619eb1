/* SPDX-License-Identifier: MIT */
#include "plan/refer.h"

/* The elements as they lie in one range of a source file, or NULL. */
static const struct tp_tensor *plain_source(const struct tp_plan *plan, const struct tp_piece *piece)
{
    const struct tp_logical *l = &plan->logicals[piece->logical];
    if (piece->op != TP_OP_COPY || piece->arithmetic || l->decoded || l->tensor->chunks ||
        l->tensor->extent_count != 1 || l->tensor->extents[0].file >= TP_FILE_MEMORY)
        return NULL;
    return l->tensor;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* ---- the grid ---- */

/* Axes are taken from the fastest of the source on, all pieces at once, as long as the chunk stays one run. */
struct finder {
    const struct tp_plan *plan;
    const struct tp_array *array;
    uint64_t
        inner[TP_GRID_RANK_MAX];     /* along each axis the longest chunk that no piece, nor its innermost loop, cuts */
    uint64_t step[TP_GRID_RANK_MAX]; /* of that loop in the source, the same for all plain pieces; 0: it differs */
    uint64_t largest_source_bytes;
    bool any; /* piece is plain */
};

static void see_axis(struct finder *f, const struct tp_box *box, unsigned d, bool is_plain, bool is_first)
{
    const struct tp_loop *loop = box->span[d] > 1 ? &box->loops[box->first[d]] : NULL;
    uint64_t step = loop ? loop->stride : 0;
    f->inner[d] = common_divisor(common_divisor(f->inner[d], loop ? loop->count : 1), box->origin[d]);
    if (is_plain)
        f->step[d] = is_first || f->step[d] == step ? step : 0;
}

static bool see_pieces(struct finder *f)
{
    for (uint32_t i = 0; i < f->array->piece_count; i++) {
        struct tp_box box;
        const struct tp_piece *piece = &f->array->pieces[i];
        const struct tp_tensor *source = plain_source(f->plan, piece);
        if (!tp_box_of_piece(&box, f->array, piece))
            return false;
        for (unsigned d = 0; d < f->array->rank; d++)
            see_axis(f, &box, d, source != NULL, !f->any);
        if (source && source->size_bytes > f->largest_source_bytes)
            f->largest_source_bytes = source->size_bytes;
        f->any = f->any || source;
    }
    return f->any;
}

/* The axis along which the source goes on where a run of `run` elements ends, or the rank. */
static unsigned next_axis(const struct finder *f, const struct tp_refer_grid *grid, uint64_t run)
{
    for (unsigned d = 0; d < f->array->rank; d++)
        if (grid->chunk[d] == 1 && f->inner[d] > 1 && f->step[d] == run)
            return d;
    return f->array->rank;
}

/* Row-major bytes have the axes' numbers fall from the fastest axis on, reversed ones have them rise. */
static bool keeps_direction(const unsigned *taken, unsigned count, unsigned axis)
{
    return count < 2 || (taken[1] > taken[0]) == (axis > taken[count - 1]);
}

/* Every axis that is not in `taken` (fastest first) has chunk 1 and may stand anywhere: put them where they spoil no
 * order that can be said. */
static void set_order(struct tp_refer_grid *grid, unsigned rank, const unsigned *taken, unsigned count)
{
    bool falls = true, rises = true;
    for (unsigned i = 1; i < count; i++) {
        falls = falls && taken[i] < taken[i - 1];
        rises = rises && taken[i] > taken[i - 1];
    }
    grid->is_row_major = falls;
    grid->is_reversed = rises && !falls;
    unsigned at = 0;
    for (unsigned d = 0; d < rank; d++) {
        if (falls || rises)
            grid->order[d] = (uint8_t)(falls ? d : rank - 1 - d);
        else if (grid->chunk[d] == 1)
            grid->order[at++] = (uint8_t)d;
    }
    if (!falls && !rises)
        for (unsigned i = count; i-- > 0;)
            grid->order[at++] = (uint8_t)taken[i];
}

bool tp_refer_find(struct tp_refer_grid *grid, const struct tp_plan *plan, const struct tp_array *array, bool any_order)
{
    struct finder f = {.plan = plan, .array = array};
    unsigned taken[TP_GRID_RANK_MAX], count = 0, rank = array->rank;
    uint64_t run = 1;
    if (rank > TP_GRID_RANK_MAX)
        return false;
    for (unsigned d = 0; d < rank; d++)
        f.inner[d] = array->shape[d]; /* which pieces tile, but for the holes of padding */
    if (!see_pieces(&f))
        return false;
    for (unsigned d = 0; d < rank; d++)
        grid->chunk[d] = 1;
    for (unsigned d; (d = next_axis(&f, grid, run)) < rank;) {
        if (!any_order && !keeps_direction(taken, count, d))
            break;
        taken[count++] = d;
        grid->chunk[d] = f.inner[d];
        run *= f.inner[d];
    }
    grid->chunk_elems = run;
    grid->is_part = run * tp_array_item_bytes(array) < f.largest_source_bytes;
    set_order(grid, rank, taken, count);
    return true;
}

void tp_refer_split(struct tp_refer_grid *grid, unsigned rank, uint64_t parts)
{
    for (unsigned i = 0; i < rank && parts > 1; i++) {
        unsigned d = grid->order[i];
        for (; parts > 1 && grid->chunk[d] % 2 == 0; parts /= 2) {
            grid->chunk[d] /= 2;
            grid->chunk_elems /= 2;
        }
        if (grid->chunk[d] > 1)
            return; /* a faster axis cut as well would leave gaps */
    }
}

/* ---- one chunk ---- */

bool tp_refer_chunk(struct tp_reference *reference, const struct tp_plan *plan, const struct tp_array *array,
                    uint64_t number)
{
    struct tp_gather g;
    if (!tp_box_gather(&g, array, number))
        return false;
    const struct tp_tensor *source = plain_source(plan, g.piece);
    bool is_run = g.loop_count == 0 || (g.loop_count == 1 && g.loops[0].stride == 1);
    if (!source || !is_run)
        return false;
    unsigned item = tp_array_item_bytes(array);
    *reference = (struct tp_reference){.file = source->extents[0].file,
                                       .offset_bytes = source->extents[0].offset_bytes + g.src_first * item,
                                       .size_bytes = (g.loop_count ? g.loops[0].count : 1) * item};
    return true;
}
