/* SPDX-License-Identifier: MIT */
/* The maps that come with the library, as tools/embed_maps.py wrote them down. */
#ifndef TP_JOB_PRESET_H
#define TP_JOB_PRESET_H

#include "tensorport/map.h"

extern const struct tp_preset tp_presets[]; /* sorted by target, then family */
extern const uint32_t tp_presets_count;

/* "maxtext/llama", or NULL. */
const struct tp_preset *tp_preset_find(const char *name);
/* Fails with USAGE: `name` is no preset; the hint says what comes near. `what`: "is neither a preset nor a file". */
enum tp_status tp_preset_refuse(const char *name, const char *what, struct tp_error *err);
/* Fails with USAGE: there is no such target; names those that there are. */
enum tp_status tp_target_refuse(const char *target, struct tp_error *err);
/* "gemma2, gpt-oss, llama": the families of a target, at most cap - 1 bytes. Returns how many there are. */
unsigned tp_target_families(const char *target, char *dst, size_t cap);

#endif
