/* SPDX-License-Identifier: MIT */
/* Where the arrays' bytes are: in an OCDBT database, or in a folder an array. */
#ifndef TP_CHECKPOINT_ORBAX_STORE_H
#define TP_CHECKPOINT_ORBAX_STORE_H

#include "checkpoint/orbax_array.h"

/* Fill in every array of the tree: metadata, and the places of its chunks. An array without metadata stays unknown. */
enum tp_status tp_orbax_read_ocdbt(struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err);
enum tp_status tp_orbax_read_folders(struct tp_orbax_tree *tree, struct tp_checkpoint *ck, struct tp_error *err);

#endif
