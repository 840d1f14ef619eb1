/* SPDX-License-Identifier: MIT */
/* Fill values of zarr metadata: what stands for the elements of a chunk that is not stored. */
#ifndef TP_CODEC_ZARR_FILL_H
#define TP_CODEC_ZARR_FILL_H

#include "codec/json.h"
#include "tensorport/dtype.h"

#define TP_ZARR_FILL_TEXT 80u

/* As written, until the dtype is known: nothing (null), a value, or the two parts of a complex one. */
struct tp_zarr_fill {
    unsigned count;
    struct {
        enum tp_json_type type; /* TP_JSON_UINT and NUMBER: `text` is the number; STRING; TRUE; FALSE */
        double number;
        char text[TP_ZARR_FILL_TEXT];
    } parts[2];
};

/* The value that comes next in the text. */
enum tp_status tp_zarr_fill_read(struct tp_zarr_fill *fill, struct tp_json *json, struct tp_error *err);
/* Its little-endian bytes; false: the dtype has no such value. */
bool tp_zarr_fill_bytes(uint8_t dst[16], const struct tp_zarr_fill *fill, enum tp_dtype dtype);

#endif
