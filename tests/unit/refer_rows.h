/* SPDX-License-Identifier: MIT */
/* Arrays made of tensors by everything that needs no arithmetic, at toy size: the rows of docs/formats/orbax.md, as
 * pieces made by hand. test_refer.c checks their grids, emit_orbax.c writes them for Orbax to read. */
#ifndef TP_TESTS_REFER_ROWS_H
#define TP_TESTS_REFER_ROWS_H

#include "base/compiler.h"
#include "checkpoint/checkpoint.h"
#include "plan/plan.h"

/* The tensors, one after the other in one file from ROW_DATA on: F32, element i of tensor t is 1000 t + i. */
#define ROW_TENSORS 7
#define ROW_DATA 61 /* an odd offset: nothing is aligned in somebody else's file */
static const uint64_t row_elems[ROW_TENSORS] = {24, 24, 24, 24, 120, 48, 16};

struct row_piece {
    uint32_t tensor;
    uint64_t src_first, dst_first, run;
    uint32_t axis_count;
    struct tp_axis axes[4];
};

struct row {
    const char *name;
    unsigned rank;
    uint64_t shape[4];
    /* expected: as zarr v2 says it, 'C' or 'F'; and with any order of the axes */
    uint64_t chunk[4];
    char order;
    uint64_t chunk_any[4];
    uint8_t order_any[4];
    uint32_t piece_count;
    struct row_piece pieces[4];
};

static const struct row rows[] = {
    {"rename", 2, {6, 4}, {6, 4}, 'C', {6, 4}, {0, 1}, 1, {{0, 0, 0, 24, 0, {{0}}}}},
    {"tied", 2, {6, 4}, {6, 4}, 'C', {6, 4}, {0, 1}, 1, {{0, 0, 0, 24, 0, {{0}}}}},
    {"number", 0, {0}, {0}, 'C', {0}, {0}, 1, {{1, 5, 0, 1, 0, {{0}}}}},
    {"reshape", 2, {3, 8}, {3, 8}, 'C', {3, 8}, {0, 1}, 1, {{0, 0, 0, 24, 0, {{0}}}}},
    {"ones", 4, {1, 6, 1, 4}, {1, 6, 1, 4}, 'C', {1, 6, 1, 4}, {0, 1, 2, 3}, 1, {{0, 0, 0, 24, 0, {{0}}}}},
    {"row_split", 2, {2, 4}, {2, 4}, 'C', {2, 4}, {0, 1}, 1, {{0, 8, 0, 8, 0, {{0}}}}},
    {"transpose", 2, {4, 6}, {4, 6}, 'F', {4, 6}, {1, 0}, 1, {{0, 0, 0, 1, 2, {{4, 1, 6}, {6, 4, 1}}}}},
    {"reverse",
     3,
     {4, 3, 2},
     {4, 3, 2},
     'F',
     {4, 3, 2},
     {2, 1, 0},
     1,
     {{0, 0, 0, 1, 3, {{4, 1, 6}, {3, 4, 2}, {2, 12, 1}}}}},
    {"permute",
     4,
     {4, 2, 5, 3},
     {4, 1, 5, 1},
     'C',
     {4, 2, 5, 3},
     {1, 3, 0, 2},
     1,
     {{4, 0, 0, 1, 4, {{4, 5, 30}, {2, 60, 15}, {5, 1, 3}, {3, 20, 1}}}}},
    {"stack_0",
     3,
     {3, 6, 4},
     {1, 6, 4},
     'C',
     {1, 6, 4},
     {0, 1, 2},
     3,
     {{0, 0, 0, 24, 0, {{0}}}, {1, 0, 24, 24, 0, {{0}}}, {2, 0, 48, 24, 0, {{0}}}}},
    {"stack_1",
     3,
     {6, 3, 4},
     {6, 1, 4},
     'C',
     {6, 1, 4},
     {0, 1, 2},
     3,
     {{0, 0, 0, 4, 1, {{6, 4, 12}}}, {1, 0, 4, 4, 1, {{6, 4, 12}}}, {2, 0, 8, 4, 1, {{6, 4, 12}}}}},
    {"stack_2",
     3,
     {6, 4, 3},
     {6, 4, 1},
     'C',
     {6, 4, 1},
     {0, 1, 2},
     3,
     {{0, 0, 0, 1, 1, {{24, 1, 3}}}, {1, 0, 1, 1, 1, {{24, 1, 3}}}, {2, 0, 2, 1, 1, {{24, 1, 3}}}}},
    {"scan_transposed",
     3,
     {4, 2, 6},
     {4, 1, 6},
     'F',
     {4, 1, 6},
     {2, 1, 0},
     2,
     {{0, 0, 0, 1, 2, {{4, 1, 12}, {6, 4, 1}}}, {1, 0, 6, 1, 2, {{4, 1, 12}, {6, 4, 1}}}}},
    {"experts",
     4,
     {2, 2, 6, 4},
     {1, 1, 6, 4},
     'C',
     {1, 1, 6, 4},
     {0, 1, 2, 3},
     4,
     {{0, 0, 0, 24, 0, {{0}}}, {2, 0, 24, 24, 0, {{0}}}, {1, 0, 48, 24, 0, {{0}}}, {3, 0, 72, 24, 0, {{0}}}}},
    {"concat", 2, {10, 4}, {2, 4}, 'C', {2, 4}, {0, 1}, 2, {{0, 0, 0, 24, 0, {{0}}}, {6, 0, 24, 16, 0, {{0}}}}},
    {"concat_transposed",
     2,
     {4, 10},
     {4, 2},
     'F',
     {4, 2},
     {1, 0},
     2,
     {{0, 0, 0, 1, 2, {{4, 1, 10}, {6, 4, 1}}}, {6, 0, 6, 1, 2, {{4, 1, 10}, {4, 4, 1}}}}},
    {"repeat_heads", 2, {12, 4}, {3, 4}, 'C', {3, 4}, {0, 1}, 1, {{0, 0, 0, 12, 2, {{2, 12, 24}, {2, 0, 12}}}}},
    {"interleaved_q", 2, {4, 4}, {2, 4}, 'C', {2, 4}, {0, 1}, 1, {{5, 0, 0, 8, 1, {{2, 24, 8}}}}},
    {"interleaved_v", 2, {4, 4}, {2, 4}, 'C', {2, 4}, {0, 1}, 1, {{5, 16, 0, 8, 1, {{2, 24, 8}}}}},
    {"q_proj", 3, {4, 2, 3}, {4, 1, 3}, 'F', {4, 2, 3}, {1, 2, 0}, 1, {{0, 0, 0, 1, 2, {{4, 1, 6}, {6, 4, 1}}}}},
    {"q_proj_scan",
     4,
     {4, 2, 2, 3},
     {4, 1, 1, 3},
     'F',
     {4, 1, 2, 3},
     {1, 2, 3, 0},
     2,
     {{0, 0, 0, 1, 2, {{4, 1, 12}, {6, 4, 1}}}, {1, 0, 6, 1, 2, {{4, 1, 12}, {6, 4, 1}}}}},
    {"o_proj_scan",
     4,
     {2, 2, 3, 4},
     {2, 1, 3, 1},
     'C',
     {2, 1, 3, 4},
     {1, 3, 0, 2},
     2,
     {{0, 0, 0, 1, 3, {{2, 3, 24}, {3, 1, 4}, {4, 6, 1}}}, {1, 0, 12, 1, 3, {{2, 3, 24}, {3, 1, 4}, {4, 6, 1}}}}},
    {"rope_rows", 2, {6, 4}, {1, 4}, 'C', {1, 4}, {0, 1}, 1, {{0, 0, 0, 4, 2, {{3, 4, 8}, {2, 12, 4}}}}},
    {"rope_columns", 2, {4, 6}, {4, 1}, 'C', {4, 1}, {0, 1}, 1, {{0, 0, 0, 1, 3, {{4, 1, 6}, {3, 4, 2}, {2, 12, 1}}}}},
    {"column_slice", 2, {6, 2}, {1, 2}, 'C', {1, 2}, {0, 1}, 1, {{0, 1, 0, 2, 1, {{6, 4, 2}}}}},
    {"strided_columns", 2, {6, 2}, {1, 1}, 'C', {1, 1}, {0, 1}, 1, {{0, 1, 0, 1, 2, {{6, 4, 2}, {2, 2, 1}}}}},
};

/* What the rows are pieces of: a checkpoint of one file, its tensors, and the plan's view of them. */
struct row_source {
    struct tp_checkpoint ck;
    struct tp_file_info file;
    struct tp_tensor tensors[ROW_TENSORS];
    struct tp_extent extents[ROW_TENSORS];
    struct tp_logical logicals[ROW_TENSORS];
};

static inline void row_source_init(struct row_source *s, const char *file)
{
    uint64_t at = ROW_DATA;
    *s = (struct row_source){.file = {.name = file}};
    for (unsigned t = 0; t < ROW_TENSORS; t++) {
        uint64_t size = row_elems[t] * 4;
        s->extents[t] = (struct tp_extent){.elem_count = row_elems[t], .offset_bytes = at, .size_bytes = size};
        s->tensors[t] = (struct tp_tensor){.name = "tensor",
                                           .name_len = 6,
                                           .shape = &row_elems[t],
                                           .rank = 1,
                                           .dtype = TP_F32,
                                           .extents = &s->extents[t],
                                           .extent_count = 1,
                                           .elem_count = row_elems[t],
                                           .size_bytes = size,
                                           .group = TP_NO_GROUP};
        s->logicals[t] = (struct tp_logical){.tensor = &s->tensors[t], .dtype = TP_F32};
        at += size;
    }
    s->file.size_bytes = at;
    s->file.tensor_count = ROW_TENSORS;
    s->ck.files = &s->file;
    s->ck.file_count = 1;
    s->ck.tensors = s->tensors;
    s->ck.tensor_count = ROW_TENSORS;
}

/* An array as the plan has it; `pieces` takes the row's four. */
static inline struct tp_array row_array(const struct row *r, struct tp_piece *pieces)
{
    struct tp_array a = {.shape = r->shape,
                         .pieces = pieces,
                         .elem_count = 1,
                         .piece_count = r->piece_count,
                         .first_extent = TP_NONE,
                         .result = TP_NONE,
                         .group = TP_NO_GROUP,
                         .rank = (uint8_t)r->rank,
                         .dtype = TP_F32,
                         .view = TP_DTYPE_NONE};
    for (unsigned d = 0; d < r->rank; d++)
        a.elem_count *= r->shape[d];
    for (uint32_t p = 0; p < r->piece_count; p++)
        pieces[p] = (struct tp_piece){.logical = r->pieces[p].tensor,
                                      .axis_count = r->pieces[p].axis_count,
                                      .axes = r->pieces[p].axes,
                                      .src_first = r->pieces[p].src_first,
                                      .dst_first = r->pieces[p].dst_first,
                                      .run_elems = r->pieces[p].run,
                                      .source_dtype = TP_F32,
                                      .op = TP_OP_COPY};
    return a;
}

#endif
