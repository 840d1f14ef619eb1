# SPDX-License-Identifier: MIT
"""Small checkpoints for the tests of the command: header text and bytes, with nothing but the standard library."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

BITS = {"BOOL": 8, "U8": 8, "F8_E4M3": 8, "F16": 16, "BF16": 16, "F32": 32, "I32": 32, "U32": 32}
BITS |= {"F64": 64, "I64": 64, "C64": 64, "F6_E2M3": 6}
# Name, dtype, shape, bytes (None: zeros, not even written: a hole in the file).
Tensor = tuple[str, str, Sequence[int], "bytes | None"]


def write(path: Path, tensors: Sequence[Tensor]) -> None:
    """Write one safetensors file."""
    header = {}
    sizes = [prod(shape) * BITS[dtype] // 8 for _, dtype, shape, _ in tensors]
    end = 0
    for (name, dtype, shape, _), size in zip(tensors, sizes, strict=True):
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (name, _, _, data), size in zip(tensors, sizes, strict=True):
            if data is None:
                file.seek(size, os.SEEK_CUR)
            else:
                assert len(data) == size, name
                file.write(data)
        file.truncate(8 + len(text) + end)


def floats(*values: float) -> bytes:
    """F32 bytes."""
    return struct.pack(f"<{len(values)}f", *values)


def bfloats(*values: float) -> bytes:
    """BF16 bytes of values that BF16 holds exactly."""
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def tiny(folder: Path) -> None:
    """Three tensors: F32, I64, BF16; a scalar among them."""
    write(
        folder / "model.safetensors",
        [
            ("layer.weight", "F32", [2, 3], floats(0.5, -1.5, 2, 0, -0.25, 4)),
            ("position", "I64", [2], struct.pack("<2q", 7, -9007199254740993)),
            ("scale", "BF16", [], bfloats(1.5)),
        ],
    )


def flushed(folder: Path) -> None:
    """BF16 values of which two are too small for float16."""
    write(folder / "model.safetensors", [("norm", "BF16", [4], bfloats(2**-30, -(2**-40), 1, 0))])


def overflowing(folder: Path) -> None:
    """Three tensors with values beyond float16, and one without."""
    write(
        folder / "model.safetensors",
        [
            ("h.0.attn.masked_bias", "F32", [], floats(-1e9)),
            ("h.1.attn.masked_bias", "F32", [], floats(-1e9)),
            ("h.1.mlp.bias", "F32", [3], floats(1e6, 1, 70000)),
            ("norm", "F32", [2], floats(1, 2)),
        ],
    )


def experts(folder: Path) -> None:
    """Three layers of a mixture of four experts, quantised to MXFP4, and what config.json says of it."""
    tensors: list[Tensor] = [
        ("model.embed_tokens.weight", "BF16", [100, 32], None),
        ("lm_head.weight", "BF16", [100, 32], None),
    ]
    for layer in range(3):
        at = f"model.layers.{layer}."
        tensors += [
            (at + "self_attn.q_proj.weight", "BF16", [32, 32], None),
            (at + "self_attn.q_proj.bias", "BF16", [32], None),
            (at + "mlp.experts.down_proj_blocks", "U8", [4, 32, 1, 16], None),
            (at + "mlp.experts.down_proj_scales", "U8", [4, 32, 1], None),
            (at + "mlp.router.weight", "BF16", [4, 32], None),
        ]
    write(folder / "model.safetensors", tensors)
    facts = {
        "architectures": ["GptOssForCausalLM"],
        "tie_word_embeddings": False,
        "num_local_experts": 4,
        "experts_per_token": 1,
        "quantization_config": {"quant_method": "mxfp4"},
    }
    (folder / "config.json").write_text(json.dumps(facts))


DECODER_MAP = """\
{"tensorport_map": 1,
 "dims": {"h": "head_dim"},
 "output": {"format": "orbax"},
 "rules": [
   {"from": "model.embed_tokens.weight", "to": "embed/embedding"},
   {"from": "lm_head.weight", "to": "head/kernel", "axes": "v d -> d v"},
   {"from": "model.layers.{l}.self_attn.o_proj.weight", "to": "blocks/out/kernel", "axes": "d (n h) -> l n h d",
    "mul": "1/sqrt(h)"},
   {"from": ["model.layers.{l}.self_attn.q_proj.weight", "model.layers.{l}.self_attn.k_proj.weight"],
    "to": "blocks/qk/kernel", "stack": "s", "axes": "(n h) d -> l d s n h"},
   {"from": "model.layers.{l}.self_attn.rotary_emb.inv_freq", "drop": true}
 ],
 "const": [{"to": "step", "value": 0, "dtype": "int32"}]}
"""


def decoder(folder: Path) -> None:
    """Three layers with two heads of three, width eight; with it a map, a broken one, and what the target wants."""
    tensors: list[Tensor] = [
        ("model.embed_tokens.weight", "F32", [10, 8], None),
        ("lm_head.weight", "F32", [10, 8], None),
    ]
    for layer in range(3):
        at = f"model.layers.{layer}.self_attn."
        tensors += [(f"{at}{name}_proj.weight", "F32", [6, 8], None) for name in "qk"]
        tensors += [(at + "o_proj.weight", "F32", [8, 6], None), (at + "rotary_emb.inv_freq", "F32", [3], None)]
    write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"architectures": ["TinyForCausalLM"], "head_dim": 3}))
    (folder / "map.json").write_text(DECODER_MAP)
    (folder / "broken.json").write_text(DECODER_MAP.replace("(n h) d -> l d s", "(n h) d -> l s").replace("lm_h", "h"))
    shapes = {"embed/embedding": [10, 8], "head/kernel": [8, 12], "blocks/out/kernel": [3, 2, 3, 8], "norm/scale": [8]}
    shapes |= {"blocks/qk/kernel": [3, 8, 2, 2, 3]}
    (folder / "tree.json").write_text(json.dumps({path: {"shape": shape} for path, shape in shapes.items()}))


def fp8(folder: Path) -> None:
    """Two layers in FP8; in one of them the scales of the second weight are those of another shape."""
    tensors: list[Tensor] = []
    for layer in range(2):
        at = f"layers.{layer}.mlp."
        tensors += [
            (at + "down.weight", "F8_E4M3", [200, 300], None),
            (at + "down.weight_scale_inv", "F32", [2, 3], None),
            (at + "up.weight", "F8_E4M3", [300, 200], None),
            (at + "up.weight_scale_inv", "F32", [3, 2] if layer else [7, 2], None),
        ]
    write(folder / "model.safetensors", tensors)
    facts = {"torch_dtype": "bfloat16"}
    quantisation = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}
    (folder / "config.json").write_text(json.dumps(facts | {"quantization_config": quantisation}))


def marlin(folder: Path) -> None:
    """Four-bit codes in an order that only a GPU kernel knows."""
    write(
        folder / "model.safetensors",
        [
            ("m.qweight", "I32", [12, 64], None),
            ("m.qzeros", "I32", [1, 8], None),
            ("m.scales", "F16", [1, 64], None),
            ("norm.weight", "F16", [64], None),
        ],
    )
    quantisation = {"quant_method": "gptq", "bits": 4, "group_size": -1, "checkpoint_format": "marlin"}
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantisation}))


def mlx(folder: Path) -> None:
    """As mlx-lm writes it: codes in words of 32 bits, scales and biases; a constant of Python's in config.json."""
    write(
        folder / "model.safetensors",
        [
            ("m.weight", "U32", [32, 16], None),
            ("m.scales", "BF16", [32, 2], None),
            ("m.biases", "BF16", [32, 2], None),
            ("norm.weight", "BF16", [128], None),
        ],
    )
    facts = {"rope_theta": float("nan"), "quantization": {"group_size": 64, "bits": 4}}
    (folder / "config.json").write_text(json.dumps(facts))


def hostile(folder: Path) -> None:
    """Names that would move a cursor, ring a bell, or turn text around."""
    names = ["red\x1b[31m", "bell\x07", "c1\x9bcsi", "turn\u202earound", "模型"]
    write(folder / "model.safetensors", [(name, "F32", [1], floats(1)) for name in names])


def damaged(folder: Path) -> None:
    """The last byte is missing."""
    tiny(folder)
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)


def sparse(folder: Path) -> None:
    """1 GiB of zeros in F64 that take no room on the disk: work for a second or more."""
    write(folder / "model.safetensors", [(f"w{i}", "F64", [1 << 21], None) for i in range(64)])


MAKERS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker
    for maker in (tiny, flushed, overflowing, experts, decoder, fp8, marlin, mlx, hostile, damaged, sparse)
}
