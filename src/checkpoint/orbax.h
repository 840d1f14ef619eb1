/* SPDX-License-Identifier: MIT */
/* Reading Orbax checkpoints (docs/formats/orbax.md): ours, overlays on safetensors files, and what Orbax wrote, with
 * and without OCDBT, zarr v2 and v3. */
#ifndef TP_CHECKPOINT_ORBAX_H
#define TP_CHECKPOINT_ORBAX_H

#include "checkpoint/checkpoint.h"

/* Where in a folder the checkpoint lies. */
struct tp_orbax_place {
    char *folder; /* of the item: _METADATA is in it. malloc'd, as the others */
    char *unit;   /* what is written and removed as one: a step, or the folder itself; config.json is there */
    char *item;   /* "default", "state" ...; NULL: the unit is the item itself */
    char *step;   /* name of the step that was chosen among several; NULL: `path` is no root of steps */
    size_t step_count;
    char *items; /* names of all items beside the chosen one, and its own; NULL: there is but one */
    size_t item_count;
};
/* `unfinished`: its name may say that it is. Look for it in the folder itself, in an item below it (DIR/default), in
 * the highest step (DIR/1000/default). TP_ERR_FORMAT: there is none, or it is unfinished; TP_ERR_USAGE: several items
 * could be meant. */
enum tp_status tp_orbax_locate(struct tp_orbax_place *place, const char *path, bool unfinished, struct tp_error *err);
void tp_orbax_place_release(struct tp_orbax_place *place);
/* Whether a folder has a regular file, or a link to one, of that name. */
enum tp_status tp_orbax_has_file(bool *has, const char *folder, const char *name, struct tp_error *err);

/* Read the item that lies in ck->folder into an empty checkpoint; tp_checkpoint_finish is the caller's. */
enum tp_status tp_orbax_read(struct tp_checkpoint *ck, struct tp_error *err);

#endif
