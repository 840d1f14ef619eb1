/* SPDX-License-Identifier: MIT */
/* Verifying from the inside: what verify.c, verify_files.c and verify_orbax.c share. */
#ifndef TP_JOB_VERIFYING_H
#define TP_JOB_VERIFYING_H

#include "base/list.h"
#include "format/format.h"
#include "manifest/listed.h"
#include "pipeline/move.h"
#include "tensorport/tensorport.h"

#define TP_VERIFY_NO_FILE UINT32_MAX /* in file_of: it could not be parsed, which has been said */

struct tp_verifying {
    const struct tp_verify_options *options;
    struct tp_verify_report *report;
    struct tp_error *err;
    struct tp_kernels kernels;
    struct tp_budget budget;
    size_t limit;
    struct tp_list differences, notes;

    bool has_manifest;
    struct tp_manifest manifest;
    const char **names;  /* files to parse; of the manifest, or all *.msgpack */
    uint32_t *name_file; /* by index in names: the file of the manifest */
    size_t name_count;
    struct tp_listed listed; /* all names of the manifest */
    struct tp_names folder;  /* everything in it; where there is a store by paths */
    uint32_t *file_of;       /* by index in names */
    struct tp_digest *framing;
    uint32_t *manifest_array; /* by tensor of the model; TP_NONE: not in it, or not alike */

    struct tp_checkpoint *original; /* of the way back of a map, or NULL */
    struct tp_checkpoint *model, *source;
    struct tp_convert_options by_map; /* no manifest, but a map: what it says of the conversion */
    struct tp_plan plan;              /* the model's arrays where they lie, made from the source when there is one */
    uint32_t *array_tensor;           /* by array of the plan: the model's tensor */
    struct tp_digest *digests;

    bool is_store;    /* its arrays lie in chunks of a zarr store: orbax, jax-pytree */
    bool by_tensor;   /* not ours: compared with the source tensor by tensor */
    char *shown_name; /* of tp_verify_file_name */
    char *item;       /* of a store: "", or "default/" where its files lie in a folder of the unit */
};

/* A line of the report. TP_OK, or that there is no memory for it. */
enum tp_status tp_verify_differ(struct tp_verifying *v, const char *fmt, ...) TP_PRINTF(2, 3);
enum tp_status tp_verify_note(struct tp_verifying *v, const char *fmt, ...) TP_PRINTF(2, 3);
/* What was wrong with one file: a difference, or, when it could not be looked at, the error. */
enum tp_status tp_verify_problem(struct tp_verifying *v, const char *name, enum tp_status st,
                                 const struct tp_error *why);
/* Is this layout the manifest's? */
bool tp_verify_is_layout(const struct tp_verifying *v, const char *name);

/* verify_files.c: side files, sizes, names, and what the files hold, into v->model. */
enum tp_status tp_verify_files(struct tp_verifying *v);
bool tp_verify_in_folder(const struct tp_verifying *v, const char *name); /* of v->folder */

/* verify_orbax.c */

/* Is this the format of a layout, or of a reader, whose arrays lie in a store? */
bool tp_verify_has_store(const char *format);
/* Read the model as Orbax or JAX would. */
enum tp_status tp_verify_parse_orbax(struct tp_verifying *v);
/* The name that the manifest has for a file of v->model; valid until the next call. */
const char *tp_verify_file_name(struct tp_verifying *v, uint32_t file);
/* Without a manifest: is this folder a checkpoint of Orbax or JAX? Then v->model is open. */
enum tp_status tp_verify_try_orbax(struct tp_verifying *v);
/* After the plan: the bytes between the chunks, and the linked files. */
enum tp_status tp_verify_orbax_rest(struct tp_verifying *v);
/* Are these two the same cut? */
bool tp_verify_same_grid(const struct tp_tensor *t, const struct tp_manifest_array *a);

#endif
