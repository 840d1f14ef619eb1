/* SPDX-License-Identifier: MIT */
/* Tiles: arrays whose pieces come in short runs, or leave holes, are made a range of an extent at a time, whole in
 * memory, from as few and long reads as that allows. */
#ifndef TP_PIPELINE_TILE_H
#define TP_PIPELINE_TILE_H

#include "pipeline/band.h"
#include "pipeline/gather.h"

#define TP_TILE_MEMORY_BEST ((uint64_t)66 << 20) /* a block's, and the stages */
#define TP_TILE_MEMORY_MIN ((uint64_t)512 << 10)

/* A worker's memory for tiles, and what lies there. */
struct tp_tile {
    uint8_t *memory; /* NULL: none */
    size_t memory_bytes;
    uint8_t *bytes; /* in it: the elements of an extent, or of a band, from position `first` on */
    size_t size_bytes;
    struct tp_stage stage;              /* in it, but for `raw` */
    const struct tp_out_extent *extent; /* NULL: nothing is in it */
    uint32_t extent_count;              /* more than 1: a band; */
    struct tp_result *seen;             /* then of each extent; TP_BAND_CHUNKS_MAX */
    uint64_t *bounds;                   /* of their positions; as many */
    uint64_t first, end;
    /* Extents of an array come in about the order of its pieces: none before `cursor` reaches element `seen_from`. */
    const struct tp_array *array;
    uint64_t seen_from;
    uint32_t cursor;
    bool is_flat;                  /* its axes are of no use: see tp_view_flat */
    const struct tp_array *judged; /* the last one asked about; */
    bool is_scattered;
};

/* Whether something of the extent may be in the tile; and the position (pipeline/cut.h) of its element there. */
static inline bool tp_tile_has(const struct tp_tile *tile, const struct tp_out_extent *extent)
{
    return tile->extent && extent >= tile->extent && extent < tile->extent + tile->extent_count;
}
static inline uint64_t tp_tile_position(const struct tp_tile *tile, const struct tp_array *array,
                                        const struct tp_out_extent *extent, uint64_t at)
{
    return array->grid ? (uint64_t)(extent - tile->extent) * extent->elem_count + at : extent->first_elem + at;
}

/* `memory_bytes`: at least 1 KiB. False: no memory. */
bool tp_tile_init(struct tp_tile *tile, size_t memory_bytes);
void tp_tile_release(struct tp_tile *tile);

/* Of a tile's memory what is left beside its stages. */
size_t tp_tile_room_bytes(size_t memory_bytes);

/* Memory for tiles that the plan has a use for; 0: none. With less, tiles are smaller and reads shorter. */
uint64_t tp_tile_memory_wanted(const struct tp_plan *plan);

/* Whether an array is anything but one run of one source: only such may need tiles. */
bool tp_array_is_pieced(const struct tp_array *array);

/* Whether all its pieces have loops along the axes of the view. */
bool tp_view_fits(const struct tp_view *view, const struct tp_array *array);
/* Whether its pieces are so short, or so apart, that a tile is worth it; never where codes are packed. */
bool tp_array_is_scattered(const struct tp_array *array);

/* Whether an extent is made better, or at all, through a tile. `gather`: of a chunk, where one piece holds it; of any
 * other extent NULL. */
bool tp_tile_pays(struct tp_tile *tile, const struct tp_array *array, const struct tp_gather *gather);

/* How a tile is made, beside the tile's own memory. */
struct tp_tile_job {
    const struct tp_plan *plan;
    const struct tp_kernels *kernels;
    struct tp_reader_state *reader;
    const struct tp_gather *gather; /* as above; of a band its first chunk's */
    uint32_t extent_count;          /* a band, if more than 1: `at` is then 0 and `limit` counts all of it */
    struct tp_result *seen;         /* as in tp_gathering; */
    const uint64_t *bounds;         /* of a box only */
    unsigned bound_count;
    bool saturate;
    uint8_t *raw;
    size_t raw_bytes;
    bool (*is_stopped)(void *user);
    void *user;
};

/* Make the extent's element `at`, and what follows as far as the tile's memory goes, but none from `limit` on.
 * Statistics are counted for all of it. Fails with CANCELLED where the job is stopped; nothing then lies in the tile.
 */
enum tp_status tp_tile_make(struct tp_tile *tile, const struct tp_tile_job *job, const struct tp_out_extent *extent,
                            uint64_t at, uint64_t limit, struct tp_error *err);
/* Make a box of an array without a grid, all of it: tile->bytes then has it. All pieces fit the view. */
enum tp_status tp_tile_make_box(struct tp_tile *tile, const struct tp_tile_job *job, const struct tp_array *array,
                                const struct tp_view *box, struct tp_error *err);

#endif
