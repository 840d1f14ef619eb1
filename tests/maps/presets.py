# SPDX-License-Identifier: MIT
"""What a preset makes of a checkpoint: the one place that knows who does the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from oracle import Result, apply
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
MAPS = ROOT / "maps"

Array = np.ndarray[Any, Any]
Converted = dict[tuple[str, ...], Array]

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def decoded_mxfp4(blocks: Array, scales: Array, positive_zero: bool) -> Array:
    """The weights of experts, [experts, in, out]: low nibble first, scale 2^(s - 127), bfloat16."""
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(*blocks.shape[:-1], -1)
    table = np.where(FP4 == 0, 0, FP4) if positive_zero else FP4
    values = np.ldexp(table[codes], scales[..., None].astype(np.int32) - 127)
    values = values.reshape(*blocks.shape[:-2], -1).astype(ml_dtypes.bfloat16)
    return np.ascontiguousarray(values.swapaxes(-1, -2))


def read_checkpoint(folder: Path) -> dict[str, Array]:
    """All tensors of a folder, as they are stored."""
    tensors: dict[str, Array] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def decoded(tensors: dict[str, Array], positive_zero: bool = False) -> dict[str, Array]:
    """Each pair X_blocks, X_scales as X."""
    found = {}
    for name, array in tensors.items():
        base = name.removesuffix("_blocks")
        if base != name and base + "_scales" in tensors:
            found[base] = decoded_mxfp4(array, tensors[base + "_scales"], positive_zero)
        elif not name.endswith("_scales"):
            found[name] = array
    return found


def applied(source: Path, preset: str, precision: str | None = None) -> Result:
    """The oracle's answer, with lists and warnings."""
    body = json.loads((MAPS / f"{preset}.json").read_text())
    decode = body.get("decode", "any")
    positive_zero = isinstance(decode, dict) and bool(decode.get("positive_zero"))
    config = json.loads((source / "config.json").read_text())
    return apply(body, decoded(read_checkpoint(source), positive_zero), config, precision=precision)


def converted(source: Path, preset: str, precision: str | None = None) -> Converted:
    """Arrays by their keys, in the order of the leaves; `precision`: what floats become, None keeps them."""
    return applied(source, preset, precision).arrays


def joined(arrays: Converted) -> dict[str, Array]:
    """By paths with "/" between keys."""
    return {"/".join(path): array for path, array in arrays.items()}


def nested(arrays: Converted) -> dict[str, Any]:
    """As dicts in dicts."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = array
    return tree


def assert_same_arrays(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    """Same names, dtypes, shapes and bytes."""
    assert sorted(found) == sorted(wanted)
    for name, array in wanted.items():
        other = found[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), name
        assert np.ascontiguousarray(other).tobytes() == np.ascontiguousarray(array).tobytes(), name
