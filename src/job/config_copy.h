/* SPDX-License-Identifier: MIT */
/* config.json of a model whose weights have been decoded: what it says of quantisation is true no more. */
#ifndef TP_JOB_CONFIG_COPY_H
#define TP_JOB_CONFIG_COPY_H

#include "job/textfile.h"

/* Write `from_path` to `out` without quantization_config, compression_config, quantization (MLX) and expert_dtype
 * (DeepSeek-V4), at top level and under text_config. Whatever else it says keeps its order and its text (numbers and
 * strings as written, Python's NaN and Infinity too); it is laid out as Python's json.dump with indent=2 does it. A
 * file that says none of these, is not valid JSON or is larger than TP_HEADER_MAX_BYTES is copied byte for byte; then
 * *changed is false. Streamed: any size in 100 KiB. Fails with IO, SPACE, NOMEM, or FORMAT where there is no such
 * file. */
enum tp_status tp_config_copy(const char *from_path, struct tp_text_file *out, bool *changed, struct tp_error *err);

#endif
