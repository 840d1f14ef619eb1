/* SPDX-License-Identifier: MIT */
/* Opening a checkpoint and reading its tensors. Whatever the format on disk, a checkpoint is a list of
 * tensors in file order, each a name, a dtype, a shape and the places of its bytes. */
#ifndef TENSORPORT_CHECKPOINT_H
#define TENSORPORT_CHECKPOINT_H

#include <stdbool.h>

#include "dtype.h"
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Limits on what is read; beyond them a file is refused with TP_ERR_LIMIT (or TP_ERR_FORMAT where the
 * reference refuses too). They are in the manual page. */
#define TP_HEADER_MAX_BYTES 100000000u /* one safetensors header; also the index */
#define TP_NAME_MAX_BYTES 4096u        /* one tensor name */
#define TP_RANK_MAX 64u
#define TP_FILES_MAX 100000u /* files of one checkpoint */

struct tp_checkpoint; /* opaque; after open it never changes, and any number of threads may read it */

/* A flat, row-major range of a tensor's elements and where its bytes lie. */
struct tp_extent {
    uint64_t first_elem;
    uint64_t elem_count;
    uint64_t offset_bytes; /* from the start of the file */
    uint64_t size_bytes;
    uint32_t file; /* index for tp_checkpoint_file; TP_FILE_ABSENT, TP_FILE_MEMORY: only of a chunk */
};
#define TP_FILE_ABSENT UINT32_MAX       /* a chunk that is not stored: all its elements are the fill value */
#define TP_FILE_MEMORY (UINT32_MAX - 1) /* a chunk whose bytes stood in the metadata itself */

struct tp_chunks; /* opaque: shape and encoding of the boxes */

struct tp_tensor {
    const char *name; /* UTF-8, no NUL inside, terminated; for a nested tree the keys joined by '.' */
    const uint64_t *shape;
    const struct tp_extent *extents; /* in element order, together exactly the tensor; one unless split or chunked */
    const struct tp_chunks *chunks;  /* NULL: extents are flat ranges; else (Orbax) extents[i] is the i-th of the boxes
                                        that tile it, row-major, of size_bytes as stored (compressed, perhaps) */
    uint64_t elem_count;
    uint64_t size_bytes;
    uint32_t extent_count;
    uint32_t group; /* index for tp_checkpoint_group, or TP_NO_GROUP */
    uint16_t name_len;
    uint8_t rank;
    uint8_t dtype; /* enum tp_dtype */
};
#define TP_NO_GROUP UINT32_MAX

struct tp_file_info {
    const char *name; /* within the checkpoint's folder */
    uint64_t size_bytes;
    uint64_t header_bytes; /* safetensors: 8 + N; others 0 */
    uint32_t tensor_count;
};

/* Tensors that together encode one (codes and scales). Without decoding they pass through untouched. */
struct tp_group {
    const char *scheme;       /* "mxfp4", "fp8", "gptq", ... */
    const char *name;         /* common stem of the members' names */
    uint64_t parameter_count; /* logical values that the codes stand for; scales are not counted */
    uint64_t size_bytes;
    uint32_t codes; /* index of the tensor that holds the codes */
    uint32_t member_count;
};

/* What config.json says, as far as it is known; NULL or 0 where it says nothing or is absent. */
struct tp_model_facts {
    const char *architecture; /* architectures[0] */
    const char *model_type;
    const char *torch_dtype;  /* torch_dtype, or dtype */
    const char *quant_method; /* quantization_config.quant_method, also under text_config */
    int tie_word_embeddings;  /* -1 not said, 0, 1 */
    uint64_t expert_count;    /* num_local_experts, num_experts, n_routed_experts */
    uint64_t experts_per_token;
};

struct tp_open_options {
    bool unfinished;   /* read it although its folder's name says that its writer is still at work */
    bool ignore_index; /* read every *.safetensors of the folder, whatever model.safetensors.index.json says */
};

/* Open a folder or a single file: safetensors (with or without an index), TensorPort's or Flax's *.msgpack.
 * Proves every header sound; of tensor data reads at most shapes that are kept as tensors. `options` may be NULL. On
 * success the caller owns *out. Fails with FORMAT, UNSUPPORTED, LIMIT, IO, NOMEM. */
TP_API TP_MUST_CHECK enum tp_status tp_checkpoint_open(struct tp_checkpoint **out, const char *path,
                                                       const struct tp_open_options *options, struct tp_error *err);
TP_API void tp_checkpoint_close(struct tp_checkpoint *ck); /* NULL is fine */

TP_API const char *tp_checkpoint_path(const struct tp_checkpoint *ck);
TP_API const char *tp_checkpoint_format(const struct tp_checkpoint *ck); /* "safetensors", "flax-msgpack" */
TP_API uint32_t tp_checkpoint_file_count(const struct tp_checkpoint *ck);
TP_API const struct tp_file_info *tp_checkpoint_file(const struct tp_checkpoint *ck, uint32_t index);
/* The name of the file that a tensor begins in; "-" where its bytes lie in the metadata, or nowhere. */
TP_API const char *tp_checkpoint_tensor_file(const struct tp_checkpoint *ck, const struct tp_tensor *tensor);
TP_API uint32_t tp_checkpoint_tensor_count(const struct tp_checkpoint *ck);
/* By index, in the order of files and of offsets within them. The pointer lives as long as the checkpoint. */
TP_API const struct tp_tensor *tp_checkpoint_tensor(const struct tp_checkpoint *ck, uint32_t index);
TP_API const struct tp_tensor *tp_checkpoint_find(const struct tp_checkpoint *ck, const char *name); /* or NULL */
TP_API uint32_t tp_checkpoint_group_count(const struct tp_checkpoint *ck);
TP_API const struct tp_group *tp_checkpoint_group(const struct tp_checkpoint *ck, uint32_t index);

/* What decoding makes of a group: its twin in the same model unquantised. */
struct tp_decoded_tensor {
    uint64_t shape[TP_RANK_MAX];
    uint64_t elem_count;
    unsigned rank;
    char name[TP_NAME_MAX_BYTES + 1];
};
/* Whether config.json lets the groups be decoded: UNSUPPORTED for methods that cannot be or are not known, FORMAT where
 * it contradicts the groups. */
TP_API TP_MUST_CHECK enum tp_status tp_checkpoint_check_decodable(const struct tp_checkpoint *ck, struct tp_error *err);
/* What tp_convert_options.dequantize gives for one group, the other options being 0, or why it is refused; config.json
 * is not asked. Looks at headers, for bitsandbytes also at a JSON among the tensors. Fails with FORMAT, UNSUPPORTED,
 * LIMIT, IO, NOMEM. */
TP_API TP_MUST_CHECK enum tp_status tp_group_decoded(const struct tp_checkpoint *ck, uint32_t group,
                                                     struct tp_decoded_tensor *out, struct tp_error *err);

TP_API const struct tp_model_facts *tp_checkpoint_facts(const struct tp_checkpoint *ck); /* never NULL */
/* Things worth a warning that did not stop the opening (tensors the index does not list, ...): printable text. */
TP_API uint32_t tp_checkpoint_note_count(const struct tp_checkpoint *ck);
TP_API const char *tp_checkpoint_note(const struct tp_checkpoint *ck, uint32_t index);
/* Values that the tensors stand for: every element, but the members of a group counted as the group's parameters. */
TP_API uint64_t tp_checkpoint_parameter_count(const struct tp_checkpoint *ck);

/* Elements [first, first + count) of `tensor`, row-major, exactly as stored, to `dst` (count * bits / 8 bytes; for
 * F4 both must be even, or reach the end). Thread-safe. Never a short read: a file that ends early, or that is no
 * longer the file that was opened, is TP_ERR_IO. */
TP_API TP_MUST_CHECK enum tp_status tp_tensor_read(const struct tp_checkpoint *ck, const struct tp_tensor *tensor,
                                                   uint64_t first, uint64_t count, void *dst, struct tp_error *err);
/* The same, as float32 values (integers and F64 rounded; complex not supported). */
TP_API TP_MUST_CHECK enum tp_status tp_tensor_read_f32(const struct tp_checkpoint *ck, const struct tp_tensor *tensor,
                                                       uint64_t first, uint64_t count, float *dst,
                                                       struct tp_error *err);

struct tp_tensor_summary {
    double min, max;       /* of the finite values; min > max when there is none */
    double mean_magnitude; /* of the finite values */
    uint64_t nan_count, inf_count, zero_count;
};
/* Reads the whole tensor once, in bounded memory. */
TP_API TP_MUST_CHECK enum tp_status tp_tensor_summarise(const struct tp_checkpoint *ck, const struct tp_tensor *tensor,
                                                        struct tp_tensor_summary *out, struct tp_error *err);

#ifdef __cplusplus
}
#endif
#endif
