/* SPDX-License-Identifier: MIT */
/* The checkpoint from the inside: what every reader fills in, and the helpers it fills it with.
 *
 * A reader adds files, then tensors, in any order; tp_checkpoint_finish sorts, indexes the names, reads config.json
 * and finds the quantised groups. A reader proves each tensor's extents to lie inside their files before it adds it. */
#ifndef TP_CHECKPOINT_CHECKPOINT_H
#define TP_CHECKPOINT_CHECKPOINT_H

#include "base/arena.h"
#include "base/list.h"
#include "base/status.h"
#include "checkpoint/file_cache.h"
#include "checkpoint/metadata.h"
#include "checkpoint/name_index.h"
#include "os/file.h"
#include "tensorport/checkpoint.h"

/* One way of quantising that config.json allows; 0, NULL or -1 where it says nothing. Strings as written. */
struct tp_quant_way {
    uint64_t bits;
    uint64_t group_size;                /* 0 also for -1: the whole row */
    uint64_t block_rows, block_columns; /* weight_block_size, block_structure */
    const char *strategy;               /* compressed-tensors: "tensor", "channel", "group", "block" ... */
    const char *format;                 /* compressed-tensors */
    const char *algo;                   /* modelopt's quant_algo, any case */
    int sym;                            /* GPTQ: -1 not said, 0, 1 */
};
#define TP_QUANT_WAYS_MAX 64u

/* What config.json (quantization_config, also under text_config, or hf_quant_config.json) says about codes; 0, NULL or
 * -1 where it says nothing. Strings as written.
 *
 * Modules may be quantised in different ways: by config groups (compressed-tensors), overrides (GPTQModel's `dynamic`)
 * or a list of layers (modelopt). Which module has which is said by names, globs and regular expressions of Python; we
 * ask the tensors of each module instead, and here is only what they may answer. */
struct tp_quant_facts {
    uint64_t bits; /* these are one way, the first or only one: as in tp_quant_way */
    uint64_t group_size;
    uint64_t block_rows, block_columns;
    const char *strategy;
    const char *format; /* of the first config group, else `format` */
    const char *algo;
    int sym;
    const struct tp_quant_way *others; /* in the arena; each differs from the first and from the rest */
    size_t other_count;
    bool has_more;                 /* than TP_QUANT_WAYS_MAX, which are not here */
    const char *method;            /* quant_method: "gptq", "fp8", "compressed-tensors", "modelopt" ... */
    const char *checkpoint_format; /* GPTQ: "gptq", "gptq_v2", "marlin" ... */
    const char *version;           /* AWQ: "gemm", "gemv" ... */
    const char *quantizer;         /* GPTQ: meta.quantizer[0], "gptqmodel:7.7.0" */
    int zero_point;                /* AWQ: -1 not said, 0, 1 */
    int planar;                    /* GPTQ by gptqmodel: -1 not said, 0, 1 */
    int is_marlin;                 /* GPTQ: is_marlin_format; -1 not said */
};

struct tp_checkpoint {
    char *path;         /* as it was given */
    char *folder;       /* where the files lie */
    char *side_folder;  /* where config.json lies; NULL: with the files */
    const char *format; /* the reader's */
    struct tp_file_cache *cache;
    struct tp_arena arena; /* names, shapes, extents, texts: everything that the tables point at */

    struct tp_file_info *files;
    size_t file_count, file_capacity;
    struct tp_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    struct tp_group *groups;
    size_t group_count, group_capacity;
    struct tp_name_index names; /* of tensors, after tp_checkpoint_finish */

    struct tp_model_facts facts;
    struct tp_quant_facts quant;
    struct tp_metadata metadata; /* of safetensors files */
    uint8_t *memory;             /* malloc'd: bytes of extents in TP_FILE_MEMORY, offset_bytes counts from here */
    size_t memory_bytes;
    struct tp_list notes;
    uint64_t parameter_count;
};

/* ---- how a reader is chosen: one row a format, in open.c ---- */

/* What tp_checkpoint_open was pointed at. */
struct tp_place {
    const char *path;
    bool is_folder;
    struct tp_names names; /* of a folder: what is in it, sorted bytewise */
};
bool tp_place_has(const struct tp_place *place, const char *name);
bool tp_name_ends(const char *name, const char *suffix);

struct tp_reader {
    const char *format; /* "safetensors" */
    /* Is this mine? Looks at names, at most at a few bytes of one file; a doubt is a no. */
    bool (*recognise)(const struct tp_place *place);
    /* Fill in an empty checkpoint, all but tp_checkpoint_finish. */
    enum tp_status (*open)(struct tp_checkpoint *ck, const struct tp_place *place,
                           const struct tp_open_options *options, struct tp_error *err);
};
extern const struct tp_reader tp_reader_jax_pytree;  /* jax_pytree.c */
extern const struct tp_reader tp_reader_orbax;       /* orbax.c */
extern const struct tp_reader tp_reader_flax;        /* flax.c */
extern const struct tp_reader tp_reader_safetensors; /* folder.c */

/* The full path of a file, for errors. */
const char *tp_checkpoint_file_path(const struct tp_checkpoint *ck, uint32_t file);

/* ---- filling in (one thread, before the checkpoint is given away) ---- */

/* Open `name` within ck->folder for the first time: remembers size, device, inode and time. header_bytes and
 * tensor_count are 0 until the reader sets the former and finish the latter. */
enum tp_status tp_checkpoint_add_file(struct tp_checkpoint *ck, const char *name, uint32_t *file, struct tp_error *err);

/* Checked number of elements and bytes of a shape. Zero dimensions do not hide an overflow of the others. False: too
 * many for any file, or elements that do not fill whole bytes (then *size_bytes is UINT64_MAX). */
bool tp_shape_measure(const uint64_t *shape, unsigned rank, enum tp_dtype dtype, uint64_t *elem_count,
                      uint64_t *size_bytes);

struct tp_tensor_spec {
    const char *name;
    size_t name_len;
    bool name_is_kept; /* the name lies in ck->arena already; else it is copied */
    bool all_is_kept;  /* shape and extents too */
    enum tp_dtype dtype;
    const uint64_t *shape;
    unsigned rank;
    const struct tp_extent *extents; /* in element order, together the whole tensor; with `chunks` one a chunk */
    uint32_t extent_count;
    const struct tp_chunks *chunks; /* in ck->arena (checkpoint/chunks.h), or NULL */
};
/* Counts elements and bytes itself. Refuses long names, NUL inside them, ranks and sizes beyond the limits. */
enum tp_status tp_checkpoint_add_tensor(struct tp_checkpoint *ck, const struct tp_tensor_spec *spec,
                                        struct tp_error *err);

/* A line for the user; text from files must be printable already. Fails only for want of memory. */
enum tp_status tp_checkpoint_note_add(struct tp_checkpoint *ck, struct tp_error *err, const char *fmt, ...)
    TP_PRINTF(3, 4);

/* An empty checkpoint whose files lie in `folder`, to be released with tp_checkpoint_close. */
enum tp_status tp_checkpoint_new(struct tp_checkpoint **out, const char *path, const char *folder,
                                 struct tp_error *err);

/* Give back the tables, all but path and notes: for one that nobody reads any more but somebody may still ask for
 * those. */
void tp_checkpoint_forget(struct tp_checkpoint *ck);

/* Sort by file and offset (empty tensors by name where they share one), index the names (two tensors of one name are
 * an error that names both files), read config.json, find the groups, count. */
enum tp_status tp_checkpoint_finish(struct tp_checkpoint *ck, struct tp_error *err);
/* Its first two steps. */
enum tp_status tp_checkpoint_index_names(struct tp_checkpoint *ck, struct tp_error *err);
void tp_checkpoint_sort_tensors(struct tp_checkpoint *ck, size_t first); /* from number `first` on */

/* config.json and hf_quant_config.json of ck->folder into ck->facts and ck->quant; what cannot be read is a note. */
enum tp_status tp_checkpoint_read_config(struct tp_checkpoint *ck, struct tp_error *err);

/* The whole text of config.json, malloc'd; NULL: there is none. Fails with IO, LIMIT (above 4 MiB), NOMEM. */
enum tp_status tp_checkpoint_config_text(const struct tp_checkpoint *ck, char **text, size_t *len,
                                         struct tp_error *err);

/* Way number `index`, below 1 + other_count. */
struct tp_quant_way tp_quant_way_at(const struct tp_quant_facts *facts, size_t index);

/* ---- reading (any number of threads) ---- */

/* Exactly `len` bytes of a file. A file that ends early or is not the one that was opened is TP_ERR_IO. */
enum tp_status tp_checkpoint_read_at(const struct tp_checkpoint *ck, uint32_t file, void *dst, size_t len,
                                     uint64_t offset, struct tp_error *err);
/* Look at all files again, by name: TP_ERR_IO if one is not what it was when it was opened. */
enum tp_status tp_checkpoint_check_unchanged(const struct tp_checkpoint *ck, struct tp_error *err);

#endif
