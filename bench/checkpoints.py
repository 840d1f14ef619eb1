# SPDX-License-Identifier: MIT
"""Checkpoints to measure with: random bytes, real names and shapes.

One MiB of random bytes is all the chance there is: turned a little further for each MiB, it gives files in which no two
blocks are alike, faster than a disk takes them.
"""

import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
Tensors = dict[str, tuple[str, list[int]]]  # name: dtype, shape

ITEM_BYTES = {"BF16": 2, "F32": 4, "U8": 1, "F8_E4M3": 1}
BF16_HIGH = bytes((b & 0x80) | 0x38 | (b & 0x07) for b in range(256))  # magnitudes from 2^-15 to 2: all fit float16
F32_HIGH = bytes(0x38 | (b & 0x03) for b in range(256))  # positive, 2^-15 to 2^-7, like scales
F8_CODES = bytes(b if b & 0x7F != 0x7F else 0 for b in range(256))  # no NaN
E8M0 = bytes(112 + b % 12 for b in range(256))


def size_bytes(dtype: str, shape: list[int]) -> int:
    return ITEM_BYTES[dtype] * math.prod(shape)


def blocks() -> dict[str, bytes]:
    """A MiB of each dtype's values; "E8M0" for scales of a byte."""
    chance = os.urandom(MIB)
    high, small = bytearray(chance), bytearray(chance)
    high[1::2] = high[1::2].translate(BF16_HIGH)
    small[3::4] = small[3::4].translate(F32_HIGH)
    return {
        "BF16": bytes(high),
        "F32": bytes(small),
        "U8": chance,
        "F8_E4M3": chance.translate(F8_CODES),
        "E8M0": chance.translate(E8M0),
    }


def turned(block: bytes, count_bytes: int) -> Iterator[bytes]:
    for done in range(0, count_bytes, MIB):
        turn = done // MIB * 4 % MIB
        yield (block[turn:] + block[:turn])[: count_bytes - done]


def write_safetensors(path: Path, tensors: Tensors) -> None:
    """As the reference writes it: wide dtypes first, names in order, no metadata."""
    names = sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name][0]], name))
    header: dict[str, object] = {}
    at = 0
    for name in names:
        dtype, shape = tensors[name]
        end = at + size_bytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    values = blocks()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            dtype, shape = tensors[name]
            kind = "E8M0" if name.endswith("_scales") else dtype
            file.writelines(turned(values[kind], size_bytes(dtype, shape)))


def write_sharded(folder: Path, shards: list[Tensors]) -> None:
    folder.mkdir(parents=True)
    weight_map = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / name, tensors)
        weight_map.update(dict.fromkeys(tensors, name))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def make_large(folder: Path, size: int) -> None:
    """Layers of two 4096 x 4096 matrices and a norm, over two files."""
    rows, columns = 4096, 4096
    layers = max(1, size // (2 * 2 * rows * columns))
    shards: list[Tensors] = [{}, {"model.norm.weight": ("BF16", [columns])}]
    for layer in range(layers):
        shard = shards[2 * layer // layers]
        shard[f"model.layers.{layer}.up.weight"] = ("BF16", [rows, columns])
        shard[f"model.layers.{layer}.down.weight"] = ("BF16", [columns, rows])
        shard[f"model.layers.{layer}.norm.weight"] = ("BF16", [columns])
    write_sharded(folder, shards)


def make_llama(folder: Path, layers: int) -> None:
    """Llama-3.1-8B with its real shapes, but few layers and a small vocabulary; two files."""
    hidden, heads, kv_heads, size, inner, words = 4096, 32, 8, 128, 14336, 4096
    shards: list[Tensors] = [
        {"model.embed_tokens.weight": ("BF16", [words, hidden])},
        {"model.norm.weight": ("BF16", [hidden]), "lm_head.weight": ("BF16", [words, hidden])},
    ]
    for layer in range(layers):
        names: Tensors = {
            "self_attn.q_proj": ("BF16", [heads * size, hidden]),
            "self_attn.k_proj": ("BF16", [kv_heads * size, hidden]),
            "self_attn.v_proj": ("BF16", [kv_heads * size, hidden]),
            "self_attn.o_proj": ("BF16", [hidden, heads * size]),
            "mlp.gate_proj": ("BF16", [inner, hidden]),
            "mlp.up_proj": ("BF16", [inner, hidden]),
            "mlp.down_proj": ("BF16", [hidden, inner]),
            "input_layernorm": ("BF16", [hidden]),
            "post_attention_layernorm": ("BF16", [hidden]),
        }
        shards[2 * layer // layers] |= {f"model.layers.{layer}.{name}.weight": value for name, value in names.items()}
    write_sharded(folder, shards)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "head_dim": size,
        "vocab_size": words,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))


def make_many(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    tensors: Tensors = {f"model.layers.{i // 100}.experts.{i % 100}.weight": ("BF16", [8, 8]) for i in range(count)}
    write_safetensors(folder / "model.safetensors", tensors)


def make_fp8(folder: Path, size: int) -> None:
    """Matrices of FP8 with a scale for each 128 x 128 block, as DeepSeek's, that come out as `size` bytes of BF16."""
    rows, columns = 4096, 4096
    layers = max(2, size // (2 * rows * columns))
    shards: list[Tensors] = [{}, {}]
    for layer in range(layers):
        shard = shards[2 * layer // layers]
        shard[f"model.layers.{layer}.up.weight"] = ("F8_E4M3", [rows, columns])
        shard[f"model.layers.{layer}.up.weight_scale_inv"] = ("F32", [rows // 128, columns // 128])
    write_sharded(folder, shards)
    quantization = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))


# ---- gpt-oss -------------------------------------------------------------------------------------------------------

HIDDEN, EXPERTS, VOCABULARY = 2880, 32, 201_088
SHARD_LIMIT = 4_800_000_000
GPT_OSS_LAYERS = 24
GPT_OSS_20B_FILES = (4_792_272_488, 4_798_702_184, 4_170_342_232)  # as published


def gpt_oss_experts(layer: int) -> Tensors:
    mlp, groups = f"model.layers.{layer}.mlp.experts", HIDDEN // 32
    return {
        f"{mlp}.gate_up_proj_bias": ("BF16", [EXPERTS, 2 * HIDDEN]),
        f"{mlp}.gate_up_proj_blocks": ("U8", [EXPERTS, 2 * HIDDEN, groups, 16]),
        f"{mlp}.gate_up_proj_scales": ("U8", [EXPERTS, 2 * HIDDEN, groups]),
        f"{mlp}.down_proj_bias": ("BF16", [EXPERTS, HIDDEN]),
        f"{mlp}.down_proj_blocks": ("U8", [EXPERTS, HIDDEN, groups, 16]),
        f"{mlp}.down_proj_scales": ("U8", [EXPERTS, HIDDEN, groups]),
    }


def gpt_oss_layer(layer: int) -> Tensors:
    at, attention = f"model.layers.{layer}", f"model.layers.{layer}.self_attn"
    outs = {"q": 4096, "k": 512, "v": 512}
    return {
        f"{at}.input_layernorm.weight": ("BF16", [HIDDEN]),
        f"{attention}.o_proj.bias": ("BF16", [HIDDEN]),
        f"{attention}.o_proj.weight": ("BF16", [HIDDEN, 4096]),
        **{f"{attention}.{x}_proj.bias": ("BF16", [out]) for x, out in outs.items()},
        **{f"{attention}.{x}_proj.weight": ("BF16", [out, HIDDEN]) for x, out in outs.items()},
        f"{attention}.sinks": ("BF16", [64]),
        f"{at}.mlp.router.bias": ("BF16", [EXPERTS]),
        f"{at}.mlp.router.weight": ("BF16", [EXPERTS, HIDDEN]),
        **gpt_oss_experts(layer),
        f"{at}.post_attention_layernorm.weight": ("BF16", [HIDDEN]),
    }


def gpt_oss_shards(layers: int) -> list[Tensors]:
    """Layers in the order of their numbers as words, a new file where the next tensor would not fit."""
    tensors: Tensors = {}
    for layer in sorted(range(layers), key=str):
        tensors |= gpt_oss_layer(layer)
    tensors["model.embed_tokens.weight"] = ("BF16", [VOCABULARY, HIDDEN])
    tensors["model.norm.weight"] = ("BF16", [HIDDEN])
    tensors["lm_head.weight"] = ("BF16", [VOCABULARY, HIDDEN])
    shards: list[Tensors] = [{}]
    used = 0
    for name, (dtype, shape) in tensors.items():
        size = size_bytes(dtype, shape)
        if used + size > SHARD_LIMIT:
            shards.append({})
            used = 0
        shards[-1][name] = (dtype, shape)
        used += size
    return shards


def gpt_oss_parameters(shards: list[Tensors]) -> int:
    """Logical ones: scales are not counted, and a byte of codes is two."""
    return sum(
        math.prod(shape) * (1 if dtype == "BF16" else 2)
        for tensors in shards
        for name, (dtype, shape) in tensors.items()
        if not name.endswith("_scales")
    )


def make_gpt_oss(folder: Path, shards: list[Tensors]) -> None:
    write_sharded(folder, shards)
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config = {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": kept},
    }
    (folder / "config.json").write_text(json.dumps(config))
